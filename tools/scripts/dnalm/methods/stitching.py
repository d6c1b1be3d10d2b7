"""From the windows of a contig to one row of probabilities a base."""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dnalm.methods.segment_windows import SegmentWindow

Probabilities = NDArray[np.float32]  # shape (bases, features)
Stretch = tuple[int, Probabilities]  # where it begins in the contig, and its probabilities
Stitch = Literal["center", "blend"]


def reach(window: SegmentWindow, stitch: Stitch) -> tuple[int, int]:
    """Return the bases to whose probabilities a window adds."""
    return (window.kept_start, window.kept_end) if stitch == "center" else (window.first, window.last)


def centred(windows: Iterable[tuple[SegmentWindow, Probabilities]]) -> Iterator[Stretch]:
    """Yield the trusted centre of each window: a base has the probabilities of the window where it lies most central."""
    for window, probabilities in windows:
        yield (
            window.kept_start,
            probabilities[window.kept_start - window.first : window.kept_end - window.first],
        )


def blended(windows: Iterable[tuple[SegmentWindow, Probabilities]]) -> Iterator[Stretch]:
    """Yield means over the windows that cover a base, each weighted by how far the base lies from the window's edges.

    An edge of the contig or of a gap is none: there the window is trusted as in its middle. Windows come from left to right;
    a base is yielded when no window to come covers it.
    """
    start, sums, weights = 0, np.zeros((0, 0)), np.zeros((0, 1))
    for window, probabilities in windows:
        done = min(window.first - start, len(sums))
        if done > 0:
            yield start, (sums[:done] / weights[:done]).astype(np.float32)
        if done == len(sums):
            start, sums, weights = window.first, np.zeros((0, probabilities.shape[1])), np.zeros((0, 1))
        else:
            start, sums, weights = start + done, sums[done:], weights[done:]
        more = window.last - start - len(sums)
        if more > 0:
            sums = np.concatenate([sums, np.zeros((more, sums.shape[1]))])
            weights = np.concatenate([weights, np.zeros((more, 1))])
        weight = edge_weights(window)[:, None]
        here = slice(window.first - start, window.last - start)
        sums[here] += weight * probabilities
        weights[here] += weight
    if len(sums):
        yield start, (sums / weights).astype(np.float32)


def edge_weights(window: SegmentWindow) -> NDArray[np.float64]:
    """Return the distance of each base from the nearest edge within a stretch, at most half a window; shape (bases,)."""
    bases = window.last - window.first
    half = max(bases / 2, 0.5)
    weights = np.full(bases, half)
    distance = np.arange(bases) + 0.5
    if window.kept_start > window.first:
        weights = np.minimum(weights, distance)
    if window.kept_end < window.last:
        weights = np.minimum(weights, distance[::-1])
    return weights


STITCHES: dict[Stitch, Callable[[Iterable[tuple[SegmentWindow, Probabilities]]], Iterator[Stretch]]] = {
    "center": centred,
    "blend": blended,
}
