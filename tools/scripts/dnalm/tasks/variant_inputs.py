"""Where variants come from: a VCF and its genome, pairs of sequences, or every change of a genome's regions."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from dnalm.engine.variant_tokens import Site
from dnalm.errors import UserError, shown
from dnalm.formats.fasta import FastaReader, SequenceRecord
from dnalm.formats.reference import Reference
from dnalm.formats.regions import contig_of, read_regions
from dnalm.formats.vcf import VcfReader, VcfRecord
from dnalm.methods.intervals import Intervals
from dnalm.methods.variant_windows import (
    Fetch,
    Status,
    allele_status,
    is_dna,
    reduced,
    shared_windows,
    trimmed,
    variant_windows,
)

LETTERS = "ACGT"


@dataclass(frozen=True, slots=True)
class Variant:
    """One alternative allele: what the table says of it, and the windows to score where there are any.

    `position` is of the first base of `reference`, 0-based.
    """

    contig: str
    position: int
    id: str
    reference: str
    alternative: str
    status: Status
    site: Site | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """The alternative alleles that belong together: of a record, of a pair, of a base; at least one."""

    variants: list[Variant]
    record: VcfRecord | None = None

    @property
    def size(self) -> int:
        """Letters that are held for it."""
        return len(self.record) if self.record else 0


@dataclass(frozen=True, slots=True)
class Windowing:
    """How windows are laid: bases of one (None: pairs whole), and whether those of the grid are wanted too."""

    context: int | None
    shared: bool

    def site(self, fetch: Fetch, contig_length: int, position: int, reference: str, alternative: str) -> Site:
        """Return the windows of a variant, alleles as they stand in a file."""
        offset, reference, alternative = trimmed(reference.upper(), alternative.upper())
        where = (fetch, contig_length, position + offset, reference, alternative, self.context)
        return Site(variant_windows(*where), shared_windows(*where) if self.shared else None)


class VariantInput(Protocol):
    """What the task needs of an input. Opening it checks what can be checked at once."""

    @property
    def fraction_read(self) -> float:
        """The share of the input that has been read: 0 to 1."""
        ...

    def entries(self, windowing: Windowing) -> Iterator[Entry]:
        """Yield what there is to score, in the order of the input."""
        ...

    def close(self) -> None:
        """Close the files."""
        ...


class _Open:
    """Closes itself at the end of a `with`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class _Place:
    """The genome's name of a contig, and whether the genome has IUPAC codes there, of which REF is one meaning."""

    contig: str
    by_code: bool


class VcfVariants(_Open):
    """The alternative alleles of a VCF on a genome.

    Args:
        variants: VCF.
        genome: FASTA with the contigs, under the same or another usual name.
        regions: BED or GFF3; variants outside are not scored.
        fail_on_mismatch: whether a REF that is not the genome's ends the job.
    """

    def __init__(self, variants: Path, genome: Path, regions: Path | None, fail_on_mismatch: bool) -> None:
        self.reader = VcfReader(variants)
        try:
            self._genome = Reference(genome)
        except UserError:
            self.reader.close()
            raise
        self._fail = fail_on_mismatch
        self._inside: Intervals | None = None
        try:
            if regions:
                self._inside = Intervals(_spans(self._genome, regions))
        except UserError:
            self.close()
            raise

    @property
    def fraction_read(self) -> float:
        """The share of the VCF that has been read: 0 to 1."""
        return self.reader.fraction_read

    def close(self) -> None:
        """Close the VCF and the genome."""
        self.reader.close()
        self._genome.close()

    def entries(self, windowing: Windowing) -> Iterator[Entry]:
        """Yield the alleles of each record."""
        for record in self.reader:
            place = self._place(record)
            yield Entry([self._variant(record, allele, place, windowing) for allele in record.alternatives], record)

    def _place(self, record: VcfRecord) -> "_Place | Status":
        """Return where a record lies, or why it cannot be scored."""
        contig = self._genome.contig(record.contig)
        if contig is None:
            return Status.UNKNOWN_CONTIG
        end = record.position + len(record.reference)
        if record.position < 0 or end > self._genome.lengths[contig]:
            return Status.BEYOND_CONTIG
        told = self.reader.contig_lengths.get(record.contig)
        if told is not None and told != self._genome.lengths[contig]:
            return Status.CONTIG_LENGTH_DIFFERS
        there = self._genome.letters(contig, record.position, end).upper()
        if reduced(there) == record.reference.upper():
            return _Place(contig, there != record.reference.upper())
        if not is_dna(record.reference):
            return Status.REF_NOT_ACGT
        if self._fail:
            raise UserError(
                f"Line {record.line} of '{self.reader.path.name}' has the REF '{shown(record.reference, 20)}' at "
                f"{record.contig}:{record.position + 1:,}, where the genome '{self._genome.name}' has "
                f"'{shown(there, 20)}'; use the genome that the variants were called on, or skip mismatches."
            )
        return Status.REF_MISMATCH

    def _variant(self, record: VcfRecord, allele: str, place: "_Place | Status", windowing: Windowing) -> Variant:
        told = (record.contig, record.position, record.id, record.reference, allele)
        status = allele_status(record.reference, allele)
        if isinstance(place, Status):
            return Variant(*told, place if status in (Status.OK, Status.REF_NOT_ACGT) else status)
        if status != Status.OK:
            return Variant(*told, status)
        if self._inside and not self._inside.overlap(
            place.contig, record.position, record.position + len(record.reference)
        ):
            return Variant(*told, Status.OUTSIDE_REGIONS)
        fetch = _fetch(self._genome, place.contig)
        if place.by_code:
            fetch = _with_reference(fetch, record)
        site = windowing.site(fetch, self._genome.lengths[place.contig], record.position, record.reference, allele)
        return Variant(*told, site.windows.status, site)


class PairVariants(_Open):
    """Pairs of sequences, matched by their order; the reference's name is the contig, the alternative's the id.

    `mended` counts the letters of both that were read as others.
    """

    def __init__(self, references: Path, alternatives: Path) -> None:
        self._files = references, alternatives
        self.mended: Counter[str] = Counter()
        self._references = FastaReader(references)
        try:
            self._alternatives = FastaReader(alternatives)
        except UserError:
            self._references.close()
            raise
        self._pairs = self._read()
        try:
            self._first = next(self._pairs)  # a file that is no FASTA is refused before a model is loaded
        except UserError:
            self.close()
            raise

    @property
    def fraction_read(self) -> float:
        """The share of the references that has been read: 0 to 1."""
        return self._references.fraction_read

    def close(self) -> None:
        """Close both files."""
        self._references.close()
        self._alternatives.close()

    def _read(self) -> Iterator[tuple[SequenceRecord, SequenceRecord]]:
        both = itertools.zip_longest(self._references, self._alternatives)
        for number, (reference, alternative) in enumerate(both):
            if reference is None or alternative is None:
                short, long = self._files if reference is None else self._files[::-1]
                raise UserError(
                    f"'{short.name}' has {number:,} sequences and '{long.name}' more; pairs are matched by their order, so "
                    "that both files need as many."
                )
            for record in (reference, alternative):
                self.mended.update({kind: getattr(record, kind) for kind in ("lower_case", "ambiguous", "uracil")})
            yield reference, alternative

    def entries(self, windowing: Windowing) -> Iterator[Entry]:
        """Yield each pair as what its alternative changes of its reference."""
        for reference, alternative in itertools.chain([self._first], self._pairs):
            yield Entry([_pair(reference, alternative, windowing)])


def _pair(reference: SequenceRecord, alternative: SequenceRecord, windowing: Windowing) -> Variant:
    """Return the change between two sequences, told as a VCF tells it: with a base before where an allele is empty."""
    position, changed, other = trimmed(reference.bases, alternative.bases)
    first = position - (position > 0) if not changed or not other else position
    told_reference = reference.bases[first : position + len(changed)] or "."
    told_alternative = alternative.bases[first : position + len(other)] or "."
    told = (reference.id, first, alternative.id, told_reference, told_alternative)
    if reference.bases == alternative.bases:
        return Variant(reference.id, 0, alternative.id, reference.bases[0], alternative.bases[0], Status.ALT_EQUALS_REF)
    for letters, status in ((changed, Status.REF_NOT_ACGT), (other, Status.ALT_NOT_ACGT)):
        if "N" in letters:
            return Variant(*told, status)
    site = windowing.site(_slice(reference.bases), len(reference.bases), position, changed, other)
    return Variant(*told, site.windows.status, site)


class SaturationVariants(_Open):
    """Every other letter at every base of a genome's regions, on the forward strand; the region's name is the id."""

    def __init__(self, regions: Path, genome: Path) -> None:
        self._genome = Reference(genome)
        try:
            self._regions = [(region, contig_of(region, self._genome, regions)) for region in read_regions(regions)]
        except UserError:
            self._genome.close()
            raise
        self.intervals = Intervals(
            (contig, start, end) for region, contig in self._regions for start, end in region.parts
        )
        self._count = sum(region.end - region.start for region, _ in self._regions)
        self._read = 0

    @property
    def contigs(self) -> list[str]:
        """The genome's contigs, in its order."""
        return list(self._genome.lengths)

    @property
    def fraction_read(self) -> float:
        """The share of the bases that has been read: 0 to 1."""
        return self._read / self._count

    def close(self) -> None:
        """Close the genome."""
        self._genome.close()

    def entries(self, windowing: Windowing) -> Iterator[Entry]:
        """Yield three alternatives a base, or one without a letter where the genome has N."""
        for region, contig in self._regions:
            fetch, length = _fetch(self._genome, contig), self._genome.lengths[contig]
            for position in (position for start, end in region.parts for position in range(start, end)):
                self._read += 1
                letter = fetch(position, position + 1)
                told = (contig, position, region.name, letter)
                if letter == "N":
                    yield Entry([Variant(*told, ".", Status.REF_NOT_ACGT)])
                    continue
                sites = {
                    other: windowing.site(fetch, length, position, letter, other)
                    for other in LETTERS
                    if other != letter
                }
                yield Entry([Variant(*told, other, site.windows.status, site) for other, site in sites.items()])


def _spans(genome: Reference, regions: Path) -> Iterator[tuple[str, int, int]]:
    """Yield regions under the genome's own names of contigs."""
    for region in read_regions(regions):
        contig = contig_of(region, genome, regions)
        for start, end in region.parts:
            yield contig, start, end


def _fetch(genome: Reference, contig: str) -> Fetch:
    return lambda start, end: genome.fetch(contig, start, end, contig).bases


def _with_reference(fetch: Fetch, record: VcfRecord) -> Fetch:
    """Return what fetches the same bases, with a record's REF where it stands: the genome has a code there."""
    first, reference = record.position, record.reference.upper()
    last = first + len(reference)

    def fetch_with_reference(start: int, end: int) -> str:
        bases = fetch(start, end)
        low, high = max(start, first), min(end, last)
        return (
            bases[: low - start] + reference[low - first : high - first] + bases[high - start :]
            if low < high
            else bases
        )

    return fetch_with_reference


def _slice(bases: str) -> Callable[[int, int], str]:
    return lambda start, end: bases[start:end]
