"""Leakage: what a test measures must not have been seen in training, nor its other strand, nor a piece of its genome."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dnalm.methods.strands import reverse_complement
from dnalm.methods.training_windows import Intervals, K, canonical_words, near_validation

Flags = NDArray[np.bool_]
# As samtools and bedtools name the sequence of a region, behind a name of its own or without one.
PLACE = re.compile(r"(?:.*::)?(?P<contig>[^\s:]+):(?P<start>[\d,]+)-(?P<end>[\d,]+)(?:\([-+.]\))?")
LARGEST_POSITION = 2**40
FEWEST_WORDS = 13  # of those that an overlap has, to tell by them
OF_ONE_GENOME = 0.25  # of them, from which two sequences are of one: variants and gaps take some


class Place(NamedTuple):
    """Where a sequence lies on a genome: bases [start, end) of a contig."""

    contig: str
    start: int
    end: int

    def first_of(self, length: int) -> int | None:
        """Return the 0-based first base of a sequence of so many bases: bedtools' start, samtools' less one, or None."""
        return {self.end - self.start: self.start, self.end - self.start + 1: self.start - 1}.get(length)


def place_of(name: str) -> Place | None:
    """Return the place that a name such as `chr1:100-200` or `peak_7::chr1:100-200(-)` tells, or None.

    The end is taken as behind the last base, as bedtools tells it; neighbours share no base in samtools' count either.
    """
    found = PLACE.fullmatch(name)
    if found is None:
        return None
    start, end = (int(found[side].replace(",", "")) for side in ("start", "end"))
    return Place(found["contig"], start, end) if start < end <= LARGEST_POSITION else None


def same_sequences(sequences: Sequence[str], tested: Flags) -> Flags:
    """Return which sequences that are not tested are, as they stand or as reverse complement, one that is.

    Args:
        sequences: of A, C, G, T and N.
        tested: which are tested; shape (sequences,).
    """
    known = {canonical(bases) for bases, chosen in zip(sequences, tested, strict=True) if chosen}
    return np.array(
        [not chosen and canonical(bases) in known for bases, chosen in zip(sequences, tested, strict=True)],
        dtype=np.bool_,
    )


def canonical(bases: str) -> str:
    """Return a sequence or its reverse complement, whichever comes first in the alphabet."""
    return min(bases, reverse_complement(bases))


def overlapping(places: Sequence[Place | None], sequences: Sequence[str], tested: Flags) -> Flags:
    """Return which sequences that are not tested share a base of the genome with one that is.

    Contigs of several genomes may have one name: sequences that ought to overlap and have hardly a word in common are of
    different ones.

    Args:
        places: of each sequence, None where it is unknown.
        sequences: of A, C, G, T and N.
        tested: which are tested; shape (sequences,).
    """
    leaks = np.zeros(len(places), dtype=np.bool_)
    known = np.array([number for number, place in enumerate(places) if place], dtype=np.int64)
    if not len(known):
        return leaks
    placed = [place for place in places if place]
    contigs = {name: number for number, name in enumerate(dict.fromkeys(place.contig for place in placed))}
    intervals = Intervals(
        np.array([contigs[place.contig] for place in placed], dtype=np.int64),
        np.array([place.start for place in placed], dtype=np.int64),
        np.array([place.end for place in placed], dtype=np.int64),
        known,
    )
    near = near_validation(intervals, tested[known], 0)
    for contig in np.unique(intervals.contigs[near]):
        here = intervals.contigs == contig
        tests = intervals[here & tested[known]]
        for start, end, number in zip(*_columns(intervals[here & near]), strict=True):
            shared = np.minimum(tests.ends, end) - np.maximum(tests.starts, start)
            leaks[number] = any(
                of_one_genome(sequences[number], sequences[tests.records[other]], int(shared[other]))
                for other in np.flatnonzero(shared > 0)
            )
    return leaks


def _columns(intervals: Intervals) -> tuple[list[int], list[int], list[int]]:
    return intervals.starts.tolist(), intervals.ends.tolist(), intervals.records.tolist()


def of_one_genome(first: str, second: str, shared: int) -> bool:
    """Say whether two sequences, on whichever strand, may have so many bases in common; few bases cannot tell."""
    one, other = (canonical_words(bases.encode()) for bases in (first, second))
    words = min(shared - K + 1, len(one), len(other))
    return words < FEWEST_WORDS or int(np.isin(one, other).sum()) >= OF_ONE_GENOME * words
