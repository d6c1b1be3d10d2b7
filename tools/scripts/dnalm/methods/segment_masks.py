"""Segments as spans of bases and as masks."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Spans = NDArray[np.int64]  # shape (spans, 2): first and past-the-end base, 0-based
Mask = NDArray[np.bool_]


def merged(spans: Sequence[tuple[int, int]] | Spans) -> Spans:
    """Return spans in order, those that overlap or touch as one."""
    given = np.asarray(spans, dtype=np.int64).reshape(-1, 2)
    if not len(given):
        return given
    given = given[np.argsort(given[:, 0], kind="stable")]
    # The furthest end so far: a long span may reach beyond later short ones.
    ends = np.maximum.accumulate(given[:, 1])
    firsts = np.flatnonzero(np.append(True, given[1:, 0] > ends[:-1]))
    return np.column_stack([given[firsts, 0], ends[np.append(firsts[1:], len(given)) - 1]])


def clipped(spans: Spans, within: Spans) -> Spans:
    """Return the parts of spans that lie in others; both in order and without overlaps."""
    parts = []
    for start, end in within.tolist():
        first, last = np.searchsorted(spans[:, 1], start, "right"), np.searchsorted(spans[:, 0], end, "left")
        parts.append(np.clip(spans[first:last], start, end))
    return np.concatenate(parts) if parts else spans[:0]


def mask(spans: Spans, start: int, end: int) -> Mask:
    """Return which of the bases from `start` to `end` lie in spans, which are in order and do not overlap."""
    inside = np.zeros(end - start, dtype=np.bool_)
    first, last = np.searchsorted(spans[:, 1], start, "right"), np.searchsorted(spans[:, 0], end, "left")
    for left, right in np.clip(spans[first:last], start, end) - start:
        inside[left:right] = True
    return inside


def spans_of(inside: Mask, start: int = 0) -> Spans:
    """Return the spans of the bases that are true; the first base is `start`."""
    edges = np.flatnonzero(np.diff(inside, prepend=False, append=False))
    return start + edges.reshape(-1, 2).astype(np.int64)


def covered(spans: Spans, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many bases of each stretch from a start to its end lie in spans, which are in order and do not overlap."""
    before = np.concatenate([[0], np.cumsum(spans[:, 1] - spans[:, 0])])

    def up_to(places: NDArray[np.int64]) -> NDArray[np.int64]:
        number = np.searchsorted(spans[:, 0], places, "left")  # spans that begin before
        last = np.maximum(number - 1, 0)
        beyond = np.maximum(spans[last, 1] - places, 0) if len(spans) else np.zeros_like(places)
        return before[number] - np.where(number > 0, beyond, 0)

    return up_to(ends) - up_to(starts)
