import numpy as np
import pytest
from dnalm.methods.segments import END, MOST, START, Calling, SegmentCaller, Segments, means
from numpy.typing import NDArray


def called(
    probabilities: list[float] | NDArray[np.float32], calling: Calling, cuts: list[int] | None = None
) -> Segments:
    caller, values = SegmentCaller(calling), np.asarray(probabilities, dtype=np.float32)
    found = [
        caller.add(start, values[start:end])
        for start, end in zip([0, *(cuts or [])], [*(cuts or []), len(values)], strict=True)
    ]
    return np.concatenate([*found, caller.finish()])


def places(segments: Segments) -> list[tuple[int, int]]:
    return [(int(row[START]), int(row[END])) for row in segments]


def test_segments_reach_the_low_threshold_everywhere_and_the_high_one_once() -> None:
    assert places(called([0.1, 0.4, 0.6, 0.4, 0.1, 0.4, 0.4, 0.1], Calling(0.5, 0.3))) == [(1, 4)]
    assert places(called([0.5, 0.5, 0.4], Calling())) == [(0, 2)]
    for threshold in (0.1, 0.3, 0.6, 0.7, 0.9):  # of which float32 has those just below or above
        assert places(called([0.0, threshold, 0.0], Calling(threshold, threshold))) == [(1, 2)]


def test_short_gaps_are_closed_before_short_segments_are_left_out() -> None:
    probabilities = [0.9, 0.1, 0.9, 0.1, 0.1, 0.1, 0.9]
    assert places(called(probabilities, Calling(merge_gap=1, min_length=3))) == [(0, 3)]
    assert places(called(probabilities, Calling(min_length=2))) == []


def test_the_mean_is_over_all_bases_of_the_segment() -> None:
    (row,) = segments = called([0.9, 0.1, 0.8], Calling(merge_gap=1))
    assert means(segments) == pytest.approx([0.6])
    assert row[MOST] == np.float32(0.9)


def test_nothing_goes_on_over_a_gap() -> None:
    caller, values = SegmentCaller(Calling(merge_gap=100)), np.full(5, 0.9, dtype=np.float32)
    found = [caller.add(0, values), caller.add(5, values), caller.add(11, values), caller.finish()]
    assert [places(segments) for segments in found] == [[], [], [(0, 10)], [(11, 16)]]
    np.testing.assert_allclose(means(np.concatenate(found)), 0.9, rtol=1e-6)


def slowly(values: NDArray[np.float32], calling: Calling) -> list[tuple[int, int, float, float]]:
    found: list[list[int]] = []
    low = values >= np.float32(calling.low_threshold)
    at = 0
    while at < len(values):
        end = at + 1
        if low[at]:
            while end < len(values) and low[end]:
                end += 1
            if values[at:end].max() >= calling.threshold:
                if found and at - found[-1][1] <= calling.merge_gap:
                    found[-1][1] = end
                else:
                    found.append([at, end])
        at = end
    long = [(start, end) for start, end in found if end - start >= calling.min_length]
    return [(start, end, values[start:end].mean(dtype=np.float64), values[start:end].max()) for start, end in long]


@pytest.mark.slow
def test_any_chunks_give_what_a_slow_loop_gives() -> None:
    generator = np.random.default_rng(0)
    for _ in range(1_000):
        values = generator.random(int(generator.integers(1, 80)), dtype=np.float32)
        low, high = sorted(generator.choice([0.1, 0.3, 0.5, 0.8], 2))
        calling = Calling(float(high), float(low), int(generator.integers(1, 6)), int(generator.integers(0, 8)))
        cuts = np.unique(generator.integers(0, len(values), int(generator.integers(0, 6)))).tolist()
        segments = called(values, calling, cuts)
        expected = slowly(values, calling)
        assert places(segments) == [row[:2] for row in expected]
        np.testing.assert_allclose(means(segments), [row[2] for row in expected], atol=1e-9)
        assert segments[:, MOST].tolist() == [row[3] for row in expected]
