import numpy as np
import pytest
from dnalm.methods.segment_windows import Grid, common, inside, merged, step_of
from dnalm.methods.stitching import STITCHES, SegmentWindow, Stitch, reach
from numpy.typing import NDArray

SEGMENT_NT = Grid(window=240, step=192, output=(0, 240), multiple=24, least=24, granularity=24, takes_n=False)
ENFORMER = Grid(window=256, step=224, output=(0, 256), multiple=256, least=256, granularity=32, takes_n=True)
BORZOI = Grid(window=512, step=160, output=(160, 352), multiple=512, least=512, granularity=32, takes_n=True)


def runs(*intervals: tuple[int, int]) -> NDArray[np.int64]:
    return np.array(intervals, dtype=np.int64).reshape(-1, 2)


def random_runs(generator: np.random.Generator, length: int) -> NDArray[np.int64]:
    places = np.sort(generator.choice(np.arange(1, length), 2 * generator.integers(0, 5), replace=False))
    return places.reshape(-1, 2)


def kept(windows: list[SegmentWindow]) -> list[tuple[int, int]]:
    return [(window.kept_start, window.kept_end) for window in windows]


def test_a_stretch_of_whole_steps_that_fits_is_one_window() -> None:
    for length in range(24, 241, 24):
        assert list(SEGMENT_NT.windows(length, runs())) == [SegmentWindow(0, length, 0, length, 0, length)]


def test_the_rest_of_a_short_stretch_is_taken_from_its_end() -> None:
    """As in [0, 24⌊L/24⌋), and for the rest the last 24⌊L/24⌋ bases."""
    first, second = SEGMENT_NT.windows(130, runs())
    assert first == SegmentWindow(0, 120, 0, 120, 0, 120)
    assert second == SegmentWindow(10, 130, 10, 130, 120, 130)


def test_too_few_bases_have_no_window() -> None:
    assert list(SEGMENT_NT.windows(23, runs())) == []
    assert list(SEGMENT_NT.windows(1000, runs(*((at, at + 1) for at in range(0, 1000, 20))))) == []


def test_a_long_stretch_is_covered_by_full_windows_the_last_of_which_ends_with_it() -> None:
    windows = list(SEGMENT_NT.windows(601, runs()))
    assert [window.start for window in windows] == [0, 192, 361]
    assert all(window.end - window.start == 240 for window in windows)
    # The middles of the overlaps, and the edges.
    assert kept(windows) == [(0, 216), (216, 397), (397, 601)]


@pytest.mark.parametrize("grid", [SEGMENT_NT, ENFORMER, BORZOI])
def test_trusted_centres_cover_what_can_be_known_once(grid: Grid) -> None:
    generator = np.random.default_rng(0)
    for _ in range(200):
        length = int(generator.integers(1, 3000))
        n_runs = random_runs(generator, length) if length > 20 else runs()
        covered = np.zeros(length, dtype=int)
        for window in grid.windows(length, n_runs):
            assert window.start <= window.first <= window.kept_start < window.kept_end <= window.last <= window.end
            assert (window.end - window.start) % grid.multiple == 0
            assert grid.least <= window.end - window.start <= grid.window
            covered[window.kept_start : window.kept_end] += 1
            if not grid.takes_n:
                assert not any(start < window.end and end > window.start for start, end in n_runs)
        expected = np.ones(length, dtype=int)
        if not grid.takes_n:
            borders = [0, *n_runs.ravel(), length]
            for start, end in n_runs:
                expected[start:end] = 0
            for start, end in zip(borders[::2], borders[1::2], strict=True):
                if end - start < grid.least:
                    expected[start:end] = 0
        assert covered.tolist() == expected.tolist()


@pytest.mark.parametrize("grid", [ENFORMER, BORZOI])
def test_windows_that_take_n_begin_at_whole_steps_and_give_their_middle(grid: Grid) -> None:
    for window in grid.windows(1999, runs()):
        assert window.first % grid.granularity == 0
        assert window.first - window.start == grid.output[0]
        assert window.last == min(window.first + grid.output[1] - grid.output[0], 1999)
        assert window.end - window.start == grid.window


def test_runs_of_n_are_gaps_where_the_model_says_nothing() -> None:
    n_runs = runs((100, 101), (200, 240))
    assert SEGMENT_NT.stretches(500, n_runs).tolist() == [[0, 100], [101, 200], [240, 500]]
    short = runs((SEGMENT_NT.least - 1, 50), (50 + SEGMENT_NT.least, 90))
    assert SEGMENT_NT.stretches(91, short).tolist() == [[50, 50 + SEGMENT_NT.least]]
    assert ENFORMER.stretches(500, n_runs).tolist() == [[0, 200], [240, 500]]
    assert ENFORMER.stretches(40, runs((0, 40))).tolist() == []


def test_steps_are_whole_steps_of_the_model() -> None:
    assert step_of(30_000, 0.1, 24) == 27_000
    assert step_of(196_608, 0.1, 128) % 128 == 0
    assert step_of(24, 0.9, 24) == 24


def test_little_is_computed_and_left_out_at_the_default_overlap() -> None:
    grid = Grid(30_000, step_of(30_000, 0.1, 24), (0, 30_000), 24, 24, 24, False)
    for length in (400_000, 1_000_000, 50_000_003):
        given = sum(window.last - window.first for window in grid.windows(length, runs()))
        assert 1 - length / given <= 0.15


@pytest.mark.parametrize("stitch", ["center", "blend"])
@pytest.mark.parametrize("grid", [SEGMENT_NT, ENFORMER, BORZOI])
def test_regions_get_the_numbers_of_the_whole(grid: Grid, stitch: Stitch) -> None:
    """Each window's numbers are random, so that a wrong window shows."""
    generator = np.random.default_rng(1)
    for _ in range(40):
        length = int(generator.integers(30, 3000))
        n_runs = random_runs(generator, length)
        stretches = grid.stretches(length, n_runs)

        def numbers(
            wanted: NDArray[np.int64], length: int = length, n_runs: NDArray[np.int64] = n_runs
        ) -> NDArray[np.float32]:
            windows = (
                (
                    window,
                    np.random.default_rng(window.start + 512).random((window.last - window.first, 2), dtype=np.float32),
                )
                for window in grid.windows(length, n_runs)
                if next(inside(*reach(window, stitch), wanted), None)
            )
            found = np.full((length, 2), np.nan, dtype=np.float32)
            for start, values in STITCHES[stitch](windows):
                for first, last in inside(start, start + len(values), wanted):
                    found[first:last] = values[first - start : last - start]
            return found

        whole = numbers(stretches)
        regions = merged([tuple(sorted(generator.integers(0, length + 1, 2))) for _ in range(3)])
        regions = regions[regions[:, 1] > regions[:, 0]]
        part = numbers(common(stretches, regions))
        expected = np.full_like(whole, np.nan)
        for start, end in regions:
            expected[start:end] = whole[start:end]
        assert np.array_equal(part, expected, equal_nan=True)


def test_intervals() -> None:
    assert merged([(5, 9), (0, 3), (3, 4), (8, 10)]).tolist() == [[0, 4], [5, 10]]
    assert merged([]).shape == (0, 2)
    generator = np.random.default_rng(4)
    for _ in range(50):
        left, right = random_runs(generator, 60), random_runs(generator, 60)
        found = [at for start, end in common(left, right) for at in range(start, end)]
        assert found == [
            at for at in range(60) if any(a <= at < b for a, b in left) and any(a <= at < b for a, b in right)
        ]
