"""How well features are found: base by base, and segment by segment.

Bases are counted in blocks, neighbours with neighbours, by truth, call and score: the counts of a whole genome are small,
every metric follows from them, and whole blocks are drawn for its interval, since neighbouring bases are no independent
observations (Davison and Hinkley 1997, section 3.8).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dnalm.methods import weighted_statistics as weighted
from dnalm.methods.bootstrap import Interval, interval_of_blocks
from dnalm.methods.segment_masks import Spans

Floats = NDArray[np.float64]
BINS = 1_001  # of scores from 0 to 1: they are rounded to three decimals
MATCHED = 0.5  # intersection over union that a match exceeds

TRUTH, CALL = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])  # of the four cells of a table of confusion
SCORES = np.repeat(np.linspace(0, 1, BINS), 2)
LABELS = np.tile([0, 1], BINS)


class Measured(NamedTuple):
    """A metric and its interval."""

    value: float
    interval: Interval


class BlockCounts:
    """Bases counted in blocks.

    Attributes:
        cells: by truth and call, as TRUTH and CALL say; shape (blocks, 4).
        scored: by score and truth, as SCORES and LABELS say; shape (blocks, 2 · BINS); None without scores.
    """

    def __init__(self, blocks: int, scored: bool) -> None:
        self.cells = np.zeros((blocks, 4), dtype=np.int64)
        self.scored = np.zeros((blocks, 2 * BINS), dtype=np.int64) if scored else None

    def add(
        self,
        blocks: NDArray[np.int64],
        truth: NDArray[np.bool_],
        calls: NDArray[np.bool_],
        scores: NDArray[np.float32] | None = None,
    ) -> None:
        """Count bases: the block of each, whether it lies in a feature, whether it is called, and its score from 0 to 1."""
        _count(self.cells, blocks, 2 * truth + calls)
        if self.scored is not None and scores is not None:
            bins = np.clip(np.rint(scores * np.float32(BINS - 1)), 0, BINS - 1).astype(np.int64)
            _count(self.scored, blocks, 2 * bins + truth)

    def measured(self, metric: str, repeats: int, seed: int) -> Measured:
        """Return a metric with its 95 % interval over the blocks that hold any base; NaN where it is undefined."""
        statistic, of_scores = METRICS[metric]
        counts = self.scored if of_scores else self.cells
        if counts is None:
            return Measured(np.nan, Interval(np.nan, np.nan))
        used = counts[self.cells.any(axis=1)].astype(np.float64)
        value = float(statistic(used.sum(axis=0, keepdims=True))[0]) if len(used) else np.nan
        return Measured(value, interval_of_blocks(statistic, used, repeats=repeats, seed=seed))

    def curve(self) -> tuple[Floats, Floats]:
        """Return recall and precision at every score, from the highest down."""
        assert self.scored is not None
        outside, inside = self.scored.sum(axis=0).reshape(BINS, 2)[::-1].cumsum(axis=0).T.astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            return inside / inside[-1], inside / (inside + outside)


def _count(counts: NDArray[np.int64], blocks: NDArray[np.int64], columns: NDArray[np.int64]) -> None:
    if len(blocks):
        first, last = int(blocks[0]), int(blocks[-1]) + 1  # in order
        width = counts.shape[1]
        found = np.bincount((blocks - first) * width + columns, minlength=(last - first) * width)
        counts[first:last] += found.reshape(last - first, width)


def _mcc(cells: Floats) -> Floats:
    return weighted.mcc(TRUTH, CALL, cells)


def _f1(cells: Floats) -> Floats:
    """Return F1 of what is annotated: 2 TP / (2 TP + FP + FN)."""
    return _ratio(2 * cells[:, 3], 2 * cells[:, 3] + cells[:, 1] + cells[:, 2])


def _precision(cells: Floats) -> Floats:
    return _ratio(cells[:, 3], cells[:, 3] + cells[:, 1])


def _recall(cells: Floats) -> Floats:
    return _ratio(cells[:, 3], cells[:, 3] + cells[:, 2])


def _jaccard(cells: Floats) -> Floats:
    """Return TP / (TP + FP + FN)."""
    return _ratio(cells[:, 3], cells[:, 3] + cells[:, 1] + cells[:, 2])


def _auprc(scored: Floats) -> Floats:
    return weighted.auprc(LABELS, SCORES, scored)


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)


# Name → from counts of shape (resamples, columns) to one value a resample; and whether it is of scores.
METRICS: dict[str, tuple[Callable[[Floats], Floats], bool]] = {
    "mcc": (_mcc, False),
    "f1": (_f1, False),
    "auprc": (_auprc, True),
    "precision": (_precision, False),
    "recall": (_recall, False),
    "jaccard": (_jaccard, False),
}


@dataclass
class SegmentCounts:
    """Segments compared with those annotated.

    A called and an annotated segment match if they share more than half of the bases that either has; none can match two
    (Kirillov et al. 2019, arXiv:1801.00868, section 4.1). The segment overlap SOV is of Zemla et al. 1999
    (doi:10.1002/(SICI)1097-0134(19990201)34:2<220::AID-PROT7>3.0.CO;2-K), of the annotated class alone, from 0 to 1.
    """

    annotated: int = 0
    called: int = 0
    matched: int = 0
    shared: float = 0.0  # intersection over union of the matches, added up
    overlap: float = 0.0  # the sum of SOV, in bases
    weights: int = 0  # the bases that it is divided by

    def add(self, truth: Spans, calls: Spans) -> None:
        """Count the segments of a contig, each kind in order and without overlaps."""
        self.annotated += len(truth)
        self.called += len(calls)
        first = np.searchsorted(calls[:, 1], truth[:, 0], "right")
        last = np.searchsorted(calls[:, 0], truth[:, 1], "left")
        partners = np.maximum(last - first, 0)
        lengths = truth[:, 1] - truth[:, 0]
        self.weights += int((lengths * np.maximum(partners, 1)).sum())
        rows = np.repeat(np.arange(len(truth)), partners)
        columns = np.arange(len(rows)) - np.repeat(np.cumsum(partners) - partners, partners) + first[rows]
        one, other = truth[rows], calls[columns]
        least = np.minimum(one[:, 1], other[:, 1]) - np.maximum(one[:, 0], other[:, 0])
        most = np.maximum(one[:, 1], other[:, 1]) - np.minimum(one[:, 0], other[:, 0])
        own, theirs = lengths[rows], other[:, 1] - other[:, 0]
        allowed = np.minimum.reduce([most - least, least, own // 2, theirs // 2])
        self.overlap += float(((least + allowed) / most * own).sum())
        share = least / most  # the union of two segments that overlap is what lies between their ends
        self.matched += int((share > MATCHED).sum())
        self.shared += float(share[share > MATCHED].sum())

    def scores(self) -> dict[str, float]:
        """Return precision and recall of segments, the mean intersection over union of matches, and SOV."""
        return {
            "segment_precision": self.matched / self.called if self.called else np.nan,
            "segment_recall": self.matched / self.annotated if self.annotated else np.nan,
            "mean_iou": self.shared / self.matched if self.matched else np.nan,
            "sov": self.overlap / self.weights if self.weights else np.nan,
        }
