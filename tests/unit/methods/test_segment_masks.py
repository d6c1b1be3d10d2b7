"""Spans of bases and masks of them, against sets of bases."""

import numpy as np
import pytest
from dnalm.methods.segment_masks import clipped, covered, mask, merged, spans_of


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([], []),
        ([(5, 9), (0, 3), (3, 4), (8, 10)], [[0, 4], [5, 10]]),
        ([(0, 100), (10, 20), (30, 40), (99, 110), (111, 112)], [[0, 110], [111, 112]]),  # short ones within a long one
        ([(2, 5), (2, 5)], [[2, 5]]),
    ],
)
def test_spans_that_overlap_or_touch_become_one(spans: list[tuple[int, int]], expected: list[list[int]]) -> None:
    found = merged(spans)
    assert found.tolist() == expected
    assert found.shape == (len(expected), 2)


def test_spans_are_clipped_to_others() -> None:
    spans = merged([(0, 10), (20, 30), (40, 50)])
    assert clipped(spans, merged([(5, 25), (30, 40), (45, 99)])).tolist() == [[5, 10], [20, 25], [45, 50]]
    assert clipped(spans, merged([])).tolist() == []
    assert clipped(merged([]), spans).tolist() == []


def test_a_mask_is_true_within_spans() -> None:
    spans = merged([(0, 3), (5, 6), (9, 20)])
    assert mask(spans, 2, 10).astype(int).tolist() == [1, 0, 0, 1, 0, 0, 0, 1]
    assert mask(spans, 6, 9).tolist() == [False] * 3
    assert mask(spans, 4, 4).tolist() == []


def test_spans_of_a_mask_start_at_its_first_base() -> None:
    inside = np.array([True, True, False, True, False, True])
    assert spans_of(inside).tolist() == [[0, 2], [3, 4], [5, 6]]
    assert spans_of(inside, 100).tolist() == [[100, 102], [103, 104], [105, 106]]
    assert spans_of(np.zeros(4, dtype=bool)).shape == (0, 2)


def test_spans_equal_the_bases_that_they_cover() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        starts = generator.integers(0, 80, generator.integers(0, 12))
        given = [(int(start), int(start + generator.integers(1, 20))) for start in starts]
        bases = {base for start, end in given for base in range(start, end)}
        found = merged(given)
        assert {base for start, end in found.tolist() for base in range(start, end)} == bases
        assert (found[1:, 0] > found[:-1, 1]).all()
        inside = mask(found, 10, 60)
        assert set((10 + np.flatnonzero(inside)).tolist()) == {base for base in bases if 10 <= base < 60}
        assert spans_of(inside, 10).tolist() == clipped(found, np.array([[10, 60]])).tolist()
        within = merged([(0, 7), (30, 50)])
        kept = {base for base in bases if base < 7 or 30 <= base < 50}
        assert {base for start, end in clipped(found, within).tolist() for base in range(start, end)} == kept


def test_covered_bases_are_counted() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        spans = merged([(start, start + 7) for start in generator.integers(0, 90, generator.integers(0, 9)).tolist()])
        inside = np.zeros(200, dtype=bool)
        for start, end in spans.tolist():
            inside[start:end] = True
        starts = generator.integers(0, 100, 20)
        ends = starts + generator.integers(1, 60, 20)
        found = covered(spans, starts, ends)
        assert found.tolist() == [inside[start:end].sum() for start, end in zip(starts, ends, strict=True)]


def test_without_spans_nothing_is_covered() -> None:
    assert covered(merged([]), np.array([0, 5]), np.array([3, 9])).tolist() == [0, 0]
