"""The windows in which a segmenter reads a contig: a grid that depends on the contig alone.

Whoever wants a part of the contig reads those windows of the whole grid that reach into the part, and gets the numbers that
whoever reads the whole contig gets.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Intervals = NDArray[np.int64]  # first and past-the-end base of each, 0-based, in order, apart; shape (intervals, 2)


@dataclass(frozen=True, slots=True)
class SegmentWindow:
    """What is read at once of a contig; 0-based half-open, in bases of the contig.

    Attributes:
        start, end: what the model sees; may lie beyond the contig where the model takes N.
        first, last: of what of the contig it gives probabilities.
        kept_start, kept_end: its trusted centre; the centres of a grid do not overlap.
    """

    start: int
    end: int
    first: int
    last: int
    kept_start: int
    kept_end: int


@dataclass(frozen=True, slots=True)
class Grid:
    """The rules by which windows are laid.

    Attributes:
        window: bases that the model reads at once.
        step: from one window to the next.
        output: first and past-the-end base, within a window, of what it gives probabilities of.
        multiple: bases of every window are a multiple of this.
        least: bases that the model reads at least.
        granularity: bases of one step of the model.
        takes_n: whether windows may hold N, and stand beyond the ends of a contig.
    """

    window: int
    step: int
    output: tuple[int, int]
    multiple: int
    least: int
    granularity: int
    takes_n: bool

    @property
    def shortest_gap(self) -> int:
        """Bases N in a row that make a gap: one, or a whole step of a model that takes N."""
        return self.granularity if self.takes_n else 1

    def windows(self, length: int, n_runs: Intervals) -> Iterator[SegmentWindow]:
        """Yield the windows of a contig from left to right, the trusted centres of all being apart.

        Between two windows the border of what is trusted is the middle of their overlap; windows at the edge of the contig
        or of a gap are trusted to that edge.
        """
        if self.takes_n:
            yield from self._over(length)
            return
        for start, end in between(length, n_runs):
            yield from self._within(start, end)

    def stretches(self, length: int, n_runs: Intervals) -> Intervals:
        """Return the stretches between a contig's gaps: there the model has something to say."""
        gaps = n_runs[n_runs[:, 1] - n_runs[:, 0] >= self.shortest_gap]
        found = np.array(list(between(length, gaps)), dtype=np.int64).reshape(-1, 2)
        return found if self.takes_n else found[found[:, 1] - found[:, 0] >= self.least]

    def _within(self, start: int, end: int) -> Iterator[SegmentWindow]:
        """Yield windows that see a stretch without N and nothing else."""
        if end - start >= self.window:
            starts = [*range(start, end - self.window, self.step), end - self.window]
            yield from _centred([(first, first + self.window) for first in starts], start, end)
            return
        fitting = (end - start) // self.multiple * self.multiple
        if fitting < self.least:
            return
        yield SegmentWindow(start, start + fitting, start, start + fitting, start, start + fitting)
        if start + fitting < end:
            yield SegmentWindow(end - fitting, end, end - fitting, end, start + fitting, end)

    def _over(self, length: int) -> Iterator[SegmentWindow]:
        """Yield windows of one length whose outputs cover the contig, with N around it."""
        before, past = self.output
        given = past - before
        last = max(0, -(-(length - given) // self.granularity) * self.granularity)
        outputs = [(first, first + given) for first in (*range(0, last, self.step), last)]
        for window in _centred(outputs, 0, length):
            start = window.first - before
            past_end = min(window.last, length)
            yield SegmentWindow(start, start + self.window, window.first, past_end, window.kept_start, window.kept_end)


def _centred(outputs: list[tuple[int, int]], start: int, end: int) -> Iterator[SegmentWindow]:
    """Yield windows that give what they see, each trusted to the middle of its overlaps."""
    borders = [(after[0] + before[1] + 1) // 2 for before, after in pairwise(outputs)]
    for (first, last), kept_start, kept_end in zip(outputs, [start, *borders], [*borders, end], strict=True):
        yield SegmentWindow(first, last, first, last, kept_start, kept_end)


def step_of(given: int, overlap: float, granularity: int) -> int:
    """Return how far windows stand apart that have a share of what they give in common: whole steps of the model."""
    return max(granularity, round(given * (1 - overlap)) // granularity * granularity)


def between(length: int, gaps: Intervals) -> Iterator[tuple[int, int]]:
    """Yield what lies between gaps, from the beginning of a contig to its end."""
    start = 0
    for gap_start, gap_end in gaps.tolist():
        if gap_start > start:
            yield start, gap_start
        start = gap_end
    if start < length:
        yield start, length


def merged(intervals: Iterable[tuple[int, int]]) -> Intervals:
    """Return intervals in order, those that overlap or touch as one."""
    found: list[list[int]] = []
    for start, end in sorted(intervals):
        if found and start <= found[-1][1]:
            found[-1][1] = max(found[-1][1], end)
        else:
            found.append([start, end])
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def common(left: Intervals, right: Intervals) -> Intervals:
    """Return where both are."""
    first = np.searchsorted(right[:, 1], left[:, 0], side="right")
    past = np.searchsorted(right[:, 0], left[:, 1], side="left")
    counts = np.maximum(past - first, 0)
    of_left = np.repeat(np.arange(len(left)), counts)
    of_right = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
    starts = np.maximum(left[of_left, 0], right[of_right, 0])
    ends = np.minimum(left[of_left, 1], right[of_right, 1])
    return np.stack([starts, ends], axis=1)


def inside(start: int, end: int, intervals: Intervals) -> Iterator[tuple[int, int]]:
    """Yield the parts of [start, end) that lie in intervals."""
    for number in range(int(np.searchsorted(intervals[:, 1], start, side="right")), len(intervals)):
        first, last = intervals[number].tolist()
        if first >= end:
            return
        yield max(first, start), min(last, end)
