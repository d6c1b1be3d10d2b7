"""Sequences as pieces without N, and a bounded sample of them that is the same each time."""

import re
from collections.abc import Iterable, Iterator


def pieces(bases: str, longest: int) -> Iterator[str]:
    """Yield the stretches of A, C, G and T in order, cut from the left into pieces of `longest` bases at most."""
    for stretch in re.finditer("[ACGT]+", bases):
        for start in range(stretch.start(), stretch.end(), longest):
            yield bases[start : min(start + longest, stretch.end())]


def evenly_thinned(pieces: Iterable[str], most_bases: int) -> list[str]:
    """Return every first, second, fourth … piece of a stream, so that they have `most_bases` at most.

    Where there is more, what is returned has about half of that or more. No more than `most_bases` and a piece are ever
    held; nothing is drawn at random.
    """
    kept: list[str] = []
    bases, stride = 0, 1
    for number, piece in enumerate(pieces):
        if number % stride == 0:
            kept.append(piece)
            bases += len(piece)
        while bases > most_bases and len(kept) > 1:
            kept = kept[::2]
            stride *= 2
            bases = sum(map(len, kept))
    return kept
