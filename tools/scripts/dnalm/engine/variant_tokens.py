"""Which tokens a variant changes, and which both of its alleles share."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dnalm.engine.likelihoods import Window, counted_tokens
from dnalm.methods.variant_windows import CONTEXT, Allele, VariantWindows
from dnalm.models.language_model import LanguageModel
from dnalm.models.tokenizers import LETTERS, Encoding, KmerTokenizer

# All pairs and triplets of letters: whether a changed letter changes one token or several shows here.
PROBE = "AACAGATCCGCTGGTTACGTTGCATGACTCAGTA"


@dataclass(frozen=True, slots=True)
class Site:
    """A variant to score: its windows, and those on the grid that `llr_wildtype` reads, where that is asked for."""

    windows: VariantWindows
    shared: VariantWindows | None = None

    def reverse_complement(self) -> "Site":
        """Return the same on the other strand."""
        return Site(self.windows.reverse_complement(), self.shared.reverse_complement() if self.shared else None)

    @property
    def alleles(self) -> list[Allele]:
        """All windows."""
        pairs = [self.windows, *([self.shared] if self.shared else [])]
        return [allele for pair in pairs for allele in (pair.reference, pair.alternative)]


def changes_one_token(model: LanguageModel) -> bool:
    """Say whether another letter never changes more than one token: k-mers and single letters, but no byte pairs."""
    changed = [
        PROBE[:index] + letter + PROBE[index + 1 :]
        for index in range(len(PROBE))
        for letter in LETTERS
        if letter != PROBE[index]
    ]
    first, *others = model.encode([PROBE, *changed])
    return all(_differing_token(first, other) is not None for other in others)


def substituted_token(windows: VariantWindows, reference: Encoding, alternative: Encoding) -> int | None:
    """Return the number of the one token in which a substitution changes a window; None if there is no such."""
    if windows.reference.length != windows.alternative.length:
        return None
    return _differing_token(reference, alternative)


def _differing_token(reference: Encoding, alternative: Encoding) -> int | None:
    if len(reference) != len(alternative) or not np.array_equal(reference.ends, alternative.ends):
        return None
    differ = np.flatnonzero(reference.ids != alternative.ids)
    return int(differ[0]) if len(differ) == 1 else None


def most_context(model: LanguageModel) -> int | None:
    """Return the bases without N of the longest window that the model surely reads; None without a limit."""
    if model.context_length is None:
        return None
    (encoding,) = model.encode(["A"])
    room = model.context_length - int(encoding.special.sum())
    if not isinstance(model.tokenizer, KmerTokenizer):
        return room
    k = model.tokenizer.k
    return max(bases for bases in range(room * k + 1) if bases // k + bases % k <= room)


def usual_context(model: LanguageModel) -> int:
    """Return the bases of a window where nobody chose: 200, or as many as the model takes."""
    most = most_context(model)
    return CONTEXT if most is None else min(CONTEXT, most)


def token_over(encoding: Encoding, allele: Allele) -> int:
    """Return the number of the token that covers the first base of a variant, or the last base of the window."""
    covering = np.flatnonzero(~encoding.special)
    return int(
        covering[np.searchsorted(encoding.ends[covering], min(allele.site, len(allele.bases) - 1), side="right")]
    )


def aligned_tokens(
    windows: VariantWindows, reference: Encoding, alternative: Encoding, *, left: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers of the tokens of both alleles that cover the same bases of the genome behind the variant.

    Tokens left of it count too if asked for; tokens with N do not.
    """
    sides = []
    for allele, encoding in ((windows.reference, reference), (windows.alternative, alternative)):
        counted = counted_tokens(allele.bases, encoding)
        end = allele.site + allele.length
        places = {}
        for number in np.flatnonzero(counted):
            first, last = int(encoding.starts[number]), int(encoding.ends[number])
            if first >= end:
                places["right", first - end, last - end] = int(number)
            elif left and last <= allele.site:
                places["left", first - allele.site, last - allele.site] = int(number)
        sides.append(places)
    alike = [place for place in sides[0] if place in sides[1]]
    found = [np.array([side[place] for place in alike], dtype=np.int64) for side in sides]
    same = reference.ids[found[0]] == alternative.ids[found[1]]
    return found[0][same], found[1][same]


class TokenizedSites:
    """Variants that are scored together, on one or both strands, and the tokens of their windows."""

    def __init__(self, model: LanguageModel, sites: Sequence[Site]) -> None:
        self.sites = sites
        bases = list(dict.fromkeys(allele.bases for site in sites for allele in site.alleles))
        self.encodings = dict(zip(bases, model.encode(bases), strict=True))
        most = model.context_length
        self.readable = [
            most is None or max(len(self.encoding(allele)) for allele in site.alleles) <= most for site in sites
        ]

    def encoding(self, allele: Allele) -> Encoding:
        """Return the tokens of a window."""
        return self.encodings[allele.bases]

    def scorable(self) -> list[int]:
        """Return the numbers of the variants whose windows the model reads."""
        return [number for number, readable in enumerate(self.readable) if readable]

    def windows(self) -> dict[str, Window]:
        """Return every window once, with what counts in likelihoods."""
        found = [self.sites[number].windows for number in self.scorable()]
        alleles = dict.fromkeys(allele.bases for pair in found for allele in (pair.reference, pair.alternative))
        return {bases: Window(self.encodings[bases], counted_tokens(bases, self.encodings[bases])) for bases in alleles}

    def groups(self, numbers: Iterable[int]) -> dict[str, dict[VariantWindows, list[int]]]:
        """Return windows of REF, each with what stands at them and the numbers of the variants that this is."""
        groups: dict[str, dict[VariantWindows, list[int]]] = {}
        for number in numbers:
            both = self.sites[number].windows
            groups.setdefault(both.reference.bases, {}).setdefault(both, []).append(number)
        return groups
