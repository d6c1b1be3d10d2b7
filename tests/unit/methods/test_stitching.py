"""From windows to bases, worked out by hand and base by base."""

from collections.abc import Iterator

import numpy as np
import pytest
from dnalm.methods.segment_windows import Grid, step_of
from dnalm.methods.stitching import STITCHES, SegmentWindow, Stitch, edge_weights, reach
from numpy.typing import NDArray

FIRST = SegmentWindow(start=0, end=4, first=0, last=4, kept_start=0, kept_end=3)
SECOND = SegmentWindow(start=2, end=6, first=2, last=6, kept_start=3, kept_end=6)
BEHIND_A_GAP = SegmentWindow(start=10, end=12, first=10, last=12, kept_start=10, kept_end=12)


def column(*values: float) -> NDArray[np.float32]:
    return np.array(values, dtype=np.float32)[:, None]


@pytest.fixture
def windows() -> list[tuple[SegmentWindow, NDArray[np.float32]]]:
    return [
        (FIRST, column(0.1, 0.2, 0.3, 0.4)),
        (SECOND, column(0.5, 0.6, 0.7, 0.8)),
        (BEHIND_A_GAP, column(0.9, 1.0)),
    ]


def stitched(
    stitch: Stitch, windows: list[tuple[SegmentWindow, NDArray[np.float32]]]
) -> Iterator[tuple[int, list[float]]]:
    for start, values in STITCHES[stitch](iter(windows)):
        assert values.dtype == np.float32
        yield start, values[:, 0].tolist()


def test_centers_are_taken_as_they_are(windows: list[tuple[SegmentWindow, NDArray[np.float32]]]) -> None:
    found = list(stitched("center", windows))
    assert [start for start, _ in found] == [0, 3, 10]
    assert [values for _, values in found] == [
        pytest.approx([0.1, 0.2, 0.3]),
        pytest.approx([0.6, 0.7, 0.8]),
        pytest.approx([0.9, 1.0]),
    ]


def test_a_blend_weighs_by_the_distance_from_inner_edges(
    windows: list[tuple[SegmentWindow, NDArray[np.float32]]],
) -> None:
    """Bases 2 and 3 lie 1.5 and 0.5 from the end of the first window, 0.5 and 1.5 from the start of the second."""
    found = list(stitched("blend", windows))
    assert [start for start, _ in found] == [0, 2, 10]
    assert [values for _, values in found] == [
        pytest.approx([0.1, 0.2]),
        pytest.approx([(1.5 * 0.3 + 0.5 * 0.5) / 2, (0.5 * 0.4 + 1.5 * 0.6) / 2, 0.7, 0.8]),
        pytest.approx([0.9, 1.0]),
    ]


@pytest.mark.parametrize("stitch", STITCHES)
def test_no_windows_give_nothing(stitch: Stitch) -> None:
    assert list(stitched(stitch, [])) == []


def test_an_edge_of_the_contig_takes_no_weight() -> None:
    assert edge_weights(FIRST).tolist() == [2, 2, 1.5, 0.5]
    assert edge_weights(SECOND).tolist() == [0.5, 1.5, 2, 2]
    assert edge_weights(BEHIND_A_GAP).tolist() == [1, 1]
    assert edge_weights(SegmentWindow(0, 5, 0, 5, 1, 4)).tolist() == [0.5, 1.5, 2.5, 1.5, 0.5]


def test_a_window_reaches_what_it_adds_to() -> None:
    assert reach(SECOND, "center") == (3, 6)
    assert reach(SECOND, "blend") == (2, 6)


def slow_blend(windows: list[tuple[SegmentWindow, NDArray[np.float32]]], length: int) -> NDArray[np.float64]:
    sums, weights = np.zeros(length), np.zeros(length)
    for window, values in windows:
        for at in range(window.first, window.last):
            distances = [(window.last - window.first) / 2]
            if window.kept_start > window.first:
                distances.append(at - window.first + 0.5)
            if window.kept_end < window.last:
                distances.append(window.last - at - 0.5)
            sums[at] += min(distances) * values[at - window.first, 0]
            weights[at] += min(distances)
    return np.divide(sums, weights, where=weights > 0, out=np.full(length, np.nan))


@pytest.mark.parametrize("overlap", [0.1, 0.5, 0.8])
def test_blending_is_the_mean_weighted_by_the_distance_from_inner_edges(overlap: float) -> None:
    generator = np.random.default_rng(2)
    for length in (240, 250, 601, 1999):
        grid = Grid(240, step_of(240, overlap, 24), (0, 240), 24, 24, 24, False)
        n_runs = np.array([(300, 310)] if length > 310 else [], dtype=np.int64).reshape(-1, 2)
        windows = [
            (window, generator.random((window.last - window.first, 1), dtype=np.float32))
            for window in grid.windows(length, n_runs)
        ]
        found = np.full(length, np.nan)
        for start, values in STITCHES["blend"](iter(windows)):
            assert np.isnan(found[start : start + len(values)]).all()
            found[start : start + len(values)] = values[:, 0]
        np.testing.assert_allclose(found, slow_blend(windows, length), atol=1e-6)
