"""From probabilities to segments: thresholding with hysteresis, joined over short gaps, short ones left out.

A segment is a stretch in which every base reaches the low threshold and at least one the threshold (Canny 1986,
doi:10.1109/TPAMI.1986.4767851, of edges in pictures). Segments that at most `merge_gap` bases part become one, and what is
then shorter than `min_length` is no segment. Nothing goes on over bases without a probability.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

START, END, SUM_BEFORE, SUM_AFTER, MOST = range(
    5
)  # columns of segments; sums are of all probabilities since the stretch began
Segments = NDArray[np.float64]  # shape (segments, 5)
NONE: Segments = np.zeros((0, 5))


@dataclass(frozen=True, slots=True)
class Calling:
    """How the segments of a feature are called; lengths in bases."""

    threshold: float = 0.5
    low_threshold: float = 0.5
    min_length: int = 1
    merge_gap: int = 0


class SegmentCaller:
    """Call the segments of one feature along a contig, in chunks of any size."""

    def __init__(self, calling: Calling) -> None:
        self._calling = calling
        self._open, self._end, self._sum = NONE, 0, 0.0

    def add(self, start: int, probabilities: NDArray[np.float32]) -> Segments:
        """Return the segments that are complete when the probabilities of bases from `start` on have been seen.

        Args:
            start: 0-based; where the chunk before ended, or behind a gap.
            probabilities: shape (bases,).

        Returns:
            Rows of start, end (0-based half-open), the sums before and after, and the highest probability.
        """
        complete = self.finish() if start != self._end else NONE
        self._end = start + len(probabilities)
        reached = probabilities >= np.float32(self._calling.low_threshold)
        if not len(self._open) and not reached.any():
            return complete
        sums = np.empty(len(probabilities) + 1)
        sums[0] = self._sum
        np.cumsum(probabilities, dtype=np.float64, out=sums[1:])
        sums[1:] += self._sum
        self._sum = float(sums[-1])
        runs = _joined(np.concatenate([self._open, _runs(start, probabilities, sums, reached)]), 0)
        ongoing = runs[len(runs) - 1 :] if len(runs) and runs[-1, END] == self._end else NONE
        seeded = runs[: len(runs) - len(ongoing)]
        seeded = _joined(seeded[seeded[:, MOST] >= np.float32(self._calling.threshold)], self._calling.merge_gap)
        # What may still grow: the last segment if the next may be near enough, and the stretch that goes on.
        nearest = ongoing[0, START] if len(ongoing) else self._end
        near = seeded[-1:] if len(seeded) and nearest - seeded[-1, END] <= self._calling.merge_gap else NONE
        self._open = np.concatenate([near, ongoing])
        return np.concatenate([complete, self._long_enough(seeded[: len(seeded) - len(near)])])

    def finish(self) -> Segments:
        """Return the segments that end where the probabilities did, and forget what came before."""
        self._sum = 0.0
        if not len(self._open):
            return NONE
        seeded = self._open[self._open[:, MOST] >= np.float32(self._calling.threshold)]
        self._open = NONE
        return self._long_enough(_joined(seeded, self._calling.merge_gap))

    def _long_enough(self, segments: Segments) -> Segments:
        return segments[segments[:, END] - segments[:, START] >= self._calling.min_length]


def _runs(
    start: int, probabilities: NDArray[np.float32], sums: NDArray[np.float64], reached: NDArray[np.bool_]
) -> Segments:
    """Return the stretches that reach the low threshold."""
    changes = np.flatnonzero(reached[1:] != reached[:-1]) + 1
    before, after = [0] if reached[0] else [], [len(reached)] if reached[-1] else []
    edges = np.concatenate([before, changes, after]).astype(np.int64)
    if not len(edges):
        return NONE
    firsts, ends = edges[::2], edges[1::2]
    # What lies between two stretches cannot be the highest.
    most = np.maximum.reduceat(probabilities, firsts)
    return np.stack([start + firsts, start + ends, sums[firsts], sums[ends], most.astype(np.float64)], axis=1)


def _joined(segments: Segments, gap: int) -> Segments:
    """Return segments that at most so many bases part as one."""
    if len(segments) < 2:
        return segments
    firsts = np.flatnonzero(np.append(True, segments[1:, START] - segments[:-1, END] > gap))
    if len(firsts) == len(segments):
        return segments
    lasts = np.append(firsts[1:], len(segments)) - 1
    joined = segments[firsts].copy()
    joined[:, [END, SUM_AFTER]] = segments[lasts][:, [END, SUM_AFTER]]
    joined[:, MOST] = np.maximum.reduceat(segments[:, MOST], firsts)
    return joined


def means(segments: Segments) -> NDArray[np.float64]:
    """Return the mean probability over each segment."""
    return (segments[:, SUM_AFTER] - segments[:, SUM_BEFORE]) / (segments[:, END] - segments[:, START])
