"""Which bases a model sees around a variant, and why some variants are not seen.

Each allele has a chromosome of its own: the reference's, and the one in which the alternative stands instead. On each a
window of as many bases is laid around the variant, shifted where the chromosome ends and never padded, so that an
insertion or deletion is not scored by its length.
"""

from collections.abc import Callable, Container
from dataclasses import dataclass, replace
from enum import StrEnum

from dnalm.methods.strands import reverse_complement

CONTEXT = 200  # bases of a window, where nobody chose
LETTERS = frozenset("ACGT")
FIRST_BASE = str.maketrans("URYSWKMBDHV", "TACCAGACAAA")  # of each IUPAC code (NC-IUB 1984)
CHROMOSOME_PREFIXES = ("chr", "", "Chr", "CHR")
MITOCHONDRIA = ("M", "MT", "Mt")  # as UCSC, Ensembl and plant genomes call them
Fetch = Callable[[int, int], str]


class Status(StrEnum):
    """What became of an alternative allele."""

    OK = "OK"
    LENGTHS_DIFFER = "LENGTHS_DIFFER"
    TOKENIZATION_DIFFERS = "TOKENIZATION_DIFFERS"
    NO_ALIGNED_TOKENS = "NO_ALIGNED_TOKENS"
    TOO_MANY_TOKENS = "TOO_MANY_TOKENS"
    ALLELE_TOO_LONG = "ALLELE_TOO_LONG"
    WINDOW_ALL_N = "WINDOW_ALL_N"
    REF_MISMATCH = "REF_MISMATCH"
    REF_NOT_ACGT = "REF_NOT_ACGT"
    NO_ALT = "NO_ALT"
    ALT_EQUALS_REF = "ALT_EQUALS_REF"
    ALT_NOT_ACGT = "ALT_NOT_ACGT"
    SPANNING_DELETION = "SPANNING_DELETION"
    SYMBOLIC_ALT = "SYMBOLIC_ALT"
    BREAKEND_ALT = "BREAKEND_ALT"
    UNKNOWN_CONTIG = "UNKNOWN_CONTIG"
    CONTIG_LENGTH_DIFFERS = "CONTIG_LENGTH_DIFFERS"
    BEYOND_CONTIG = "BEYOND_CONTIG"
    OUTSIDE_REGIONS = "OUTSIDE_REGIONS"


MEANINGS = {
    Status.OK: "scored",
    Status.LENGTHS_DIFFER: "scored, the longer sequence of the pair cut to the length of the shorter",
    Status.TOKENIZATION_DIFFERS: "without llr scores, since REF and ALT differ in more than one token; use pll",
    Status.NO_ALIGNED_TOKENS: "without jsd, since REF and ALT have no token in common where it is taken",
    Status.TOO_MANY_TOKENS: "not scored: the window has more tokens than the model reads; use a smaller context",
    Status.ALLELE_TOO_LONG: "not scored: an allele is longer than half the window; use a larger context",
    Status.WINDOW_ALL_N: "not scored: nothing but N around the variant",
    Status.REF_MISMATCH: "not scored: REF is not what the genome has there",
    Status.REF_NOT_ACGT: "not scored: REF has other letters than A, C, G and T",
    Status.NO_ALT: "not scored: no alternative allele",
    Status.ALT_EQUALS_REF: "not scored: ALT is REF",
    Status.ALT_NOT_ACGT: "not scored: ALT has other letters than A, C, G and T",
    Status.SPANNING_DELETION: "not scored: ALT is *, a deletion that another record describes",
    Status.SYMBOLIC_ALT: "not scored: ALT is symbolic and has no sequence",
    Status.BREAKEND_ALT: "not scored: ALT is a breakend and has no sequence",
    Status.UNKNOWN_CONTIG: "not scored: the genome lacks the contig",
    Status.CONTIG_LENGTH_DIFFERS: "not scored: the VCF's header gives the contig another length than the genome has; use "
    "the genome that the variants were called on",
    Status.BEYOND_CONTIG: "not scored: the position lies outside the contig",
    Status.OUTSIDE_REGIONS: "not scored: outside the regions",
}


def reduced(letters: str) -> str:
    """Return the REF that a VCF has where a genome has IUPAC codes: the base of each that is first in the alphabet.

    VCF 4.3, section 1.6.1: "ambiguity codes must be reduced to a concrete base by using the one that is first
    alphabetically". N stays.
    """
    return letters.upper().translate(FIRST_BASE)


def allele_status(reference: str, alternative: str) -> Status:
    """Say whether two alleles, as a VCF writes them, are sequences that differ (VCF 4.4, sections 1.6.1 and 5.4)."""
    if alternative in ("", "."):
        return Status.NO_ALT
    if alternative == "*":
        return Status.SPANNING_DELETION
    if alternative.startswith("<"):
        return Status.SYMBOLIC_ALT
    if "[" in alternative or "]" in alternative or "." in alternative:
        return Status.BREAKEND_ALT
    if not is_dna(reference):
        return Status.REF_NOT_ACGT
    if not is_dna(alternative):
        return Status.ALT_NOT_ACGT
    return Status.ALT_EQUALS_REF if reference.upper() == alternative.upper() else Status.OK


def is_dna(allele: str) -> bool:
    """Say whether an allele is of A, C, G and T alone, in either case."""
    return bool(allele) and LETTERS.issuperset(allele.upper())


def trimmed(reference: str, alternative: str) -> tuple[int, str, str]:
    """Return two alleles without what they begin and then end with in common, and how many first bases these are."""
    shorter = min(len(reference), len(alternative))
    front = 0
    while front < shorter and reference[front] == alternative[front]:
        front += 1
    back = 0
    while back < shorter - front and reference[-1 - back] == alternative[-1 - back]:
        back += 1
    return front, reference[front : len(reference) - back], alternative[front : len(alternative) - back]


def contig_aliases(name: str) -> list[str]:
    """Return how else a contig may be called: chr1, Chr1, CHR1 and 1; chrM, MT, Mt and so on. Each is an alias of all."""
    plain = name[3:] if name[:3].lower() == "chr" else name
    plains = MITOCHONDRIA if plain in MITOCHONDRIA else (plain,)
    aliases = (f"{prefix}{other}" for prefix in CHROMOSOME_PREFIXES for other in plains)
    return [other for other in aliases if other not in (name, "")]


def known_name(name: str, known: Container[str]) -> str | None:
    """Return by which of its usual names a contig is known; None if by none."""
    if name in known:
        return name
    return next((other for other in contig_aliases(name) if other in known), None)


@dataclass(frozen=True, slots=True)
class Allele:
    """What a model sees of one allele.

    Attributes:
        bases: the window.
        site: index of the variant's first base, or of the base behind where it has none.
        length: bases of the variant, without what both alleles have in common.
    """

    bases: str
    site: int
    length: int

    def reverse_complement(self) -> "Allele":
        """Return the same on the other strand."""
        return Allele(reverse_complement(self.bases), len(self.bases) - self.site - self.length, self.length)


@dataclass(frozen=True, slots=True)
class VariantWindows:
    """The windows of both alleles, of one length; `status` says why there are none to score."""

    reference: Allele
    alternative: Allele
    status: Status = Status.OK

    def reverse_complement(self) -> "VariantWindows":
        """Return the same on the other strand."""
        both = self.reference.reverse_complement(), self.alternative.reverse_complement()
        return VariantWindows(*both, self.status)

    @property
    def ambiguous(self) -> int:
        """Letters N of the reference's window."""
        return self.reference.bases.count("N")


def variant_windows(
    fetch: Fetch, contig_length: int, position: int, reference: str, alternative: str, context: int | None
) -> VariantWindows:
    """Return windows with the variant at index `context // 2`, shifted where the contig ends.

    Args:
        fetch: returns the contig's bases [start, end), 0-based.
        contig_length: bases of the contig.
        position: of the variant's first base, 0-based.
        reference: trimmed allele; may be empty where the other is not.
        alternative: the same.
        context: bases of a window; shorter contigs are seen whole. None for both alleles whole, the longer cut to the
            length of the shorter with the variant as near the middle as can be.
    """
    size = _size(contig_length, reference, alternative, context)
    start = position - size // 2
    windows = _windows(fetch, contig_length, position, reference, alternative, size, start)
    if size == 0 or (context is not None and max(len(reference), len(alternative)) > size - size // 2):
        return replace(windows, status=Status.ALLELE_TOO_LONG)
    if context is None and len(reference) != len(alternative):
        return replace(windows, status=_flanked(windows, Status.LENGTHS_DIFFER))
    return replace(windows, status=_flanked(windows, Status.OK))


def shared_windows(
    fetch: Fetch, contig_length: int, position: int, reference: str, alternative: str, context: int | None
) -> VariantWindows:
    """Return windows of a grid, so that neighbouring variants have the reference's window in common.

    Windows begin at every half of a window; a variant belongs to the one in whose middle half it begins. Which this is
    depends on the position alone. Arguments are those of `variant_windows`.
    """
    size = _size(contig_length, reference, alternative, context)
    step = max(size // 2, 1)
    start = 0 if context is None else max(0, (position - size // 4) // step * step)
    return _windows(fetch, contig_length, position, reference, alternative, size, start)


def _size(contig_length: int, reference: str, alternative: str, context: int | None) -> int:
    shorter = contig_length + min(0, len(alternative) - len(reference))
    return shorter if context is None else min(context, shorter)


def _windows(
    fetch: Fetch, contig_length: int, position: int, reference: str, alternative: str, size: int, start: int
) -> VariantWindows:
    """Return windows of a size that start at a position, or as near to it as the ends of each chromosome allow."""
    longer = len(alternative) - len(reference)
    of_reference = max(0, min(start, contig_length - size))
    of_alternative = max(0, min(start, contig_length + longer - size))
    first = min(of_reference, of_alternative)
    behind = position + len(reference)
    last = max(of_reference + size, min(behind, contig_length), of_alternative + size - longer)
    bases = fetch(first, min(last, contig_length))
    changed = bases[: position - first] + alternative + bases[behind - first :]
    return VariantWindows(
        Allele(bases[of_reference - first :][:size], position - of_reference, len(reference)),
        Allele(changed[of_alternative - first :][:size], position - of_alternative, len(alternative)),
    )


def _flanked(windows: VariantWindows, status: Status) -> Status:
    """Return a status, or that nothing around the variant is known."""
    allele = windows.reference
    around = allele.bases[: allele.site] + allele.bases[allele.site + allele.length :]
    return Status.WINDOW_ALL_N if around and set(around) == {"N"} else status
