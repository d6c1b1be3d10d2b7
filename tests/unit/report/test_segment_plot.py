"""The picture of a region: bins of probabilities, calls, and what stands around them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dnalm.report.plots import PALETTE
from dnalm.report.segment_plot import BAR, COLORS, MOST_BINS, NO_DATA, RegionPicture, feature_colors
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex
from matplotlib.patches import StepPatch
from PIL import Image


def picture(start: int, end: int, features: Sequence[str] = ("CDS", "tRNA"), contig: str = "chr1") -> RegionPicture:
    return RegionPicture(contig, start, end, features, [0.5] * len(features))


def rows(figures: list[Any], drawn: RegionPicture, model: str = "a model") -> list[Any]:
    """Draw, and return the frames of the features."""
    drawn.draw(Path("x"), model, "png", {})
    return figures[-1].axes


def tracks(axes: Any) -> list[np.ndarray]:
    """Return the heights of the areas, from back to front."""
    patches: list[Any] = [patch for patch in axes.patches if isinstance(patch, StepPatch)]
    return [patch.get_data().values for patch in patches]


def bars(axes: Any) -> list[tuple[float, float]]:
    """Return start and end of each bar of a call."""
    (found,) = [found for found in axes.collections if isinstance(found, PolyCollection)]
    boxes = [path.get_extents() for path in found.get_paths()]
    assert all((box.y0, box.y1) == pytest.approx((BAR[0], sum(BAR))) for box in boxes)
    return [(box.x0, box.x1) for box in boxes]


def texts(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.texts]


def test_colours_are_those_that_make_areas_and_start_again() -> None:
    assert len(COLORS) == len(PALETTE) - 2
    assert feature_colors(2) == list(PALETTE[:2])
    assert feature_colors(len(COLORS) + 1)[-1] == PALETTE[0]


def test_each_base_of_a_short_region_has_its_probability(figures: list[Any]) -> None:
    drawn = picture(100, 106)
    values = np.arange(20, dtype=np.float32).reshape(10, 2) / np.float32(20)
    drawn.add(98, values[:5])  # two bases before the region
    drawn.add(103, values[5:])  # and two behind it
    drawn.add(300, values)  # nothing of it lies within
    found = rows(figures, drawn)
    assert len(found) == 2
    for column, axes in enumerate(found):
        (means,) = tracks(axes)
        np.testing.assert_allclose(means, values[2:8, column])
        assert axes.get_xlim() == (100, 106)


def test_a_long_region_has_mean_and_highest_of_each_bin(figures: list[Any]) -> None:
    length = 3 * MOST_BINS
    values = np.random.default_rng(0).random((length, 2)).astype(np.float32)
    drawn = picture(1_000, 1_000 + length)
    for first in range(0, length, 701):
        drawn.add(1_000 + first, values[first : first + 701])
    for column, axes in enumerate(rows(figures, drawn)):
        highest, means = tracks(axes)
        by_bin = values[:, column].reshape(MOST_BINS, 3)
        np.testing.assert_allclose(highest, by_bin.max(axis=1))
        np.testing.assert_allclose(means, by_bin.mean(axis=1), atol=1e-6)
    assert texts(figures[0])[2].startswith("dark: mean, light: highest of the bases in a dot's width")


def test_bases_without_data_are_grey_and_said(figures: list[Any]) -> None:
    drawn = picture(10, 30, ["CDS"])
    drawn.add(13, np.ones((5, 1), dtype=np.float32))
    drawn.add(25, np.ones((5, 1), dtype=np.float32))
    (axes,) = rows(figures, drawn)
    grey = [patch for patch in axes.patches if to_hex(patch.get_facecolor()).upper() == NO_DATA]
    spans = [patch.get_path().get_extents(patch.get_patch_transform()) for patch in grey]
    assert [(span.x0, span.x1) for span in spans] == [(10, 13), (18, 25)]
    assert texts(figures[0])[2] == "bars: segments called  ·  grey: no data"
    full = picture(10, 12, ["CDS"])
    full.add(10, np.ones((2, 1), dtype=np.float32))
    rows(figures, full)
    assert texts(figures[1])[2] == "bars: segments called"


def test_segments_that_meet_the_region_are_bars(figures: list[Any]) -> None:
    drawn = picture(100, 1_300)
    drawn.add_segments(0, np.array([[0.0, 100, 0.9], [50, 101, 0.9], [200, 300, 0.9], [1_299, 2_000, 0.9]]))
    drawn.add_segments(0, np.array([[1_300.0, 1_400, 0.9]]))
    first, second = rows(figures, drawn)
    assert drawn.segments == [[(50, 101), (200, 300), (1_299, 2_000)], []]
    assert bars(first) == [(50, 101), (200, 300), (1_299, 2_000)]
    assert bars(second) == []


def test_a_short_segment_is_as_wide_as_a_dot(figures: list[Any]) -> None:
    drawn = picture(0, 50 * MOST_BINS, ["CDS"])
    drawn.add_segments(0, np.array([[1_000.0, 1_002, 0.9]]))
    (axes,) = rows(figures, drawn)
    assert bars(axes) == [(1_000, 1_050)]


def test_thresholds_are_lines_across_their_rows(figures: list[Any]) -> None:
    drawn = RegionPicture("chr1", 0, 10, ["a", "b"], [0.25, 0.75])
    heights = [[float(line.get_ydata()[0]) for line in axes.lines] for axes in rows(figures, drawn)]
    assert heights == [[0.25, 0], [0.75, 0]]


def test_everything_is_named_and_long_names_are_cut(figures: list[Any]) -> None:
    features = ["polyA_signal", "enhancer_that_is_specific_of_a_tissue"]
    drawn = picture(2_999, 3_400, features, "c" * 70)
    found = rows(figures, drawn, "m" * 100)
    assert [axes.texts[0].get_text() for axes in found] == ["polyA signal", "enhancer that is specific …"]
    assert texts(figures[0])[:2] == [f"{'c' * 59}…: 3,000 to 3,400", f"Probabilities by {'m' * 90}"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("length", "label", "tick"),
    [(1_999, "Position (bases)", "1,500"), (2_000, "Position (kb)", "1.5"), (3_000_000, "Position (Mb)", "0.0015")],
)
def test_positions_have_a_unit_that_fits(figures: list[Any], length: int, label: str, tick: str) -> None:
    axes = rows(figures, picture(0, length))[-1]
    assert axes.get_xlabel() == label
    assert axes.xaxis.get_major_formatter()(1_500) == tick


def test_the_file_has_a_row_per_feature_and_says_what_was_run(tmp_path: Path) -> None:
    heights = []
    for features in (["a"], ["a", "b", "c"]):
        picture(0, 50, features).draw(tmp_path / "x", "a model", "png", {"tool": "a test"})
        with Image.open(tmp_path / "x") as image:
            heights.append(image.size[1])
            assert image.size[0] == 9 * 150
            assert json.loads(image.info["Description"]) == {"tool": "a test"}
    assert heights[1] - heights[0] == pytest.approx(2 * 0.46 * 150, abs=1)
