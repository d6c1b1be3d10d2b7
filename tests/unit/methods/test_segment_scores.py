"""Metrics of bases and segments, against plain computations."""

import math

import numpy as np
import pytest
from dnalm.methods import bootstrap, statistics
from dnalm.methods.segment_masks import merged, spans_of
from dnalm.methods.segment_scores import BlockCounts, SegmentCounts

BASES, BLOCK = 4_000, 200


@pytest.fixture
def counted() -> tuple[BlockCounts, np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    truth = np.repeat(generator.random(BASES // 40) < 0.3, 40)
    scores = np.round(np.clip(0.3 * truth + generator.random(BASES) * 0.7, 0, 1), 3).astype(np.float32)
    calls = scores >= 0.5
    counts = BlockCounts(BASES // BLOCK, scored=True)
    for start in range(0, BASES, 700):  # not the size of a block
        part = slice(start, min(start + 700, BASES))
        counts.add(np.arange(part.start, part.stop) // BLOCK, truth[part], calls[part], scores[part])
    return counts, truth, calls, scores


def test_metrics_equal_those_of_all_bases(counted: tuple[BlockCounts, np.ndarray, np.ndarray, np.ndarray]) -> None:
    from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

    counts, truth, calls, scores = counted
    wanted = {
        "mcc": statistics.mcc(truth, calls),
        "f1": f1_score(truth, calls),
        "auprc": statistics.auprc(truth, scores),
        "precision": precision_score(truth, calls),
        "recall": recall_score(truth, calls),
        "jaccard": jaccard_score(truth, calls),
    }
    for metric, value in wanted.items():
        assert counts.measured(metric, 0, 0).value == pytest.approx(value, abs=1e-9), metric


def test_intervals_equal_those_of_bases_drawn_by_blocks(
    counted: tuple[BlockCounts, np.ndarray, np.ndarray, np.ndarray],
) -> None:
    counts, truth, calls, scores = counted
    blocks = np.arange(BASES) // BLOCK
    for metric, arrays in (("mcc", (truth, calls)), ("auprc", (truth, scores))):
        wanted = bootstrap.bootstrap_interval(getattr(statistics, metric), arrays, clusters=blocks, repeats=200)
        found = counts.measured(metric, 200, 0)
        assert found.interval == pytest.approx(wanted, abs=1e-9)
        assert found.interval.low < found.value < found.interval.high


def test_the_curve_goes_through_every_score(counted: tuple[BlockCounts, np.ndarray, np.ndarray, np.ndarray]) -> None:
    counts, truth, _, scores = counted
    recall, precision = counts.curve()
    called = scores >= np.float32(0.6)
    place = int(np.rint((1 - 0.6) * 1_000))
    assert recall[place] == pytest.approx(truth[called].sum() / truth.sum())
    assert precision[place] == pytest.approx(truth[called].mean())
    assert recall[-1] == 1
    assert precision[-1] == pytest.approx(truth.mean())


def test_what_is_undefined_is_no_number() -> None:
    counts = BlockCounts(2, scored=True)
    nothing = np.zeros(10, dtype=np.bool_)
    counts.add(np.zeros(10, dtype=np.int64), nothing, nothing, np.full(10, 0.2, dtype=np.float32))
    for metric in ("mcc", "f1", "auprc"):
        measured = counts.measured(metric, 100, 0)
        assert math.isnan(measured.value)
        assert math.isnan(measured.interval.low)


def slow_overlap(truth: list[tuple[int, int]], calls: list[tuple[int, int]]) -> tuple[int, float, float]:
    """Return matches, the sum of their intersection over union, and SOV of the annotated class, pair by pair."""
    matched, shared, overlap, weight = 0, 0.0, 0.0, 0
    for start, end in truth:
        partners = [(left, right) for left, right in calls if left < end and start < right]
        weight += (end - start) * max(1, len(partners))
        for left, right in partners:
            least = min(end, right) - max(start, left)
            most = max(end, right) - min(start, left)
            allowed = min(most - least, least, (end - start) // 2, (right - left) // 2)
            overlap += (least + allowed) / most * (end - start)
            union = len(set(range(start, end)) | set(range(left, right)))
            if least / union > 0.5:
                matched += 1
                shared += least / union
    return matched, shared, overlap / weight


def test_segments_equal_a_comparison_pair_by_pair() -> None:
    generator = np.random.default_rng(1)
    for _ in range(30):
        kinds = [np.repeat(generator.random(30) < 0.5, generator.integers(1, 9, 30)) for _ in range(2)]
        length = min(map(len, kinds))
        truth, calls = (spans_of(kind[:length]) for kind in kinds)
        counts = SegmentCounts()
        counts.add(truth, calls)
        counts.add(merged([(1_000, 1_010)]), merged([(2_000, 2_010)]))  # another contig
        matched, shared, overlap = slow_overlap(
            [*map(tuple, truth.tolist()), (1_000, 1_010)], [*map(tuple, calls.tolist()), (2_000, 2_010)]
        )
        assert (counts.matched, counts.shared) == (matched, pytest.approx(shared))
        scores = counts.scores()
        assert scores["sov"] == pytest.approx(overlap)
        assert scores["segment_precision"] == pytest.approx(matched / (len(calls) + 1))
        assert scores["segment_recall"] == pytest.approx(matched / (len(truth) + 1))


def test_equal_segments_have_the_best_scores() -> None:
    spans = merged([(0, 10), (20, 25)])
    counts = SegmentCounts()
    counts.add(spans, spans)
    assert counts.scores() == {"segment_precision": 1, "segment_recall": 1, "mean_iou": 1, "sov": 1}


def test_no_segments_have_no_scores() -> None:
    counts = SegmentCounts()
    counts.add(merged([]), merged([]))
    assert all(math.isnan(value) for value in counts.scores().values())
