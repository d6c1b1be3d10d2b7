"""Pictures of groups and of curves: their texts, axes and points."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dnalm.report.comparison_plots import (
    LEAST,
    MOST_LINES,
    MOST_POINTS,
    MOST_QUANTILES,
    ROW,
    LabelCurve,
    draw_curves,
    draw_groups,
)
from dnalm.report.plots import OTHER, PALETTE, MapText
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.colors import to_hex
from PIL import Image

TEXT = MapText("A title", ["a subtitle"], ("Score", "Share"), scaled=True)
Groups = dict[str, np.ndarray]
Draw = Callable[[Groups, str], Any]  # a frame of matplotlib, whose types say little


@pytest.fixture
def draw(figures: list[Any], tmp_path: Path) -> Draw:
    """Return a function that draws groups and gives the frame."""

    def call(groups: Groups, kind: str) -> Any:
        draw_groups(tmp_path / "x", groups, kind, TEXT, "png")
        return figures[-1].axes[0]

    return call


def normal(*sizes: int) -> Groups:
    generator = np.random.default_rng(0)
    return {f"g{number}": generator.normal(number, 1, size) for number, size in enumerate(sizes)}


def violins(axes: Any) -> list[Any]:
    return [found for found in axes.collections if isinstance(found, PolyCollection)]


def points(axes: Any) -> list[Any]:
    return [found for found in axes.collections if isinstance(found, PathCollection)]


def upright_lines(axes: Any) -> set[float]:
    """Return where vertical lines stand: medians, and the ends of whiskers."""
    found = [np.asarray(line.get_xdata()) for line in axes.lines]
    return {float(x[0]) for x in found if len(x) == 2 and x[0] == x[1]}


@pytest.mark.parametrize("kind", ["violin", "box"])
def test_each_group_has_a_row_with_its_name_and_size(draw: Draw, kind: str) -> None:
    axes = draw(normal(1_200, 30) | {"a group with a name that is far too long to be shown": np.ones(3)}, kind)
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["g0\nn = 1,200", "g1\nn = 30", "a group with a n…long to be shown\nn = 3"]
    assert axes.get_yticks().tolist() == [3, 2, 1]  # the first on top
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Score", "Share")
    assert axes.get_title(loc="left") == "a subtitle"


def test_a_box_has_median_and_quartiles(draw: Draw) -> None:
    groups = {"a": np.array([1.0, 2.0, 4.0, 8.0, 16.0]), "b": np.array([-3.0, -1.0])}
    axes = draw(groups, "box")
    assert upright_lines(axes) == {4.0, 1.0, 16.0, -2.0, -3.0, -1.0}
    boxes = [patch.get_path().vertices[:, 0] for patch in axes.patches]
    assert [(box.min(), box.max()) for box in boxes] == [(2.0, 8.0), (-2.5, -1.5)]


def test_whiskers_end_within_one_and_a_half_quartile_ranges(draw: Draw) -> None:
    axes = draw({"a": np.array([0.0, 1.0, 2.0, 3.0, 4.0, 7.0, 100.0])}, "box")
    # Quartiles 1.5 and 5.5: up to 11.5, so that 7 is the last value within.
    assert upright_lines(axes) == {0.0, 3.0, 7.0}


@pytest.mark.parametrize(
    ("values", "bodies"),
    [(np.arange(10.0), 1), (np.arange(9.0), 0), (np.repeat([0.0, 1.0], 20), 0), (np.repeat([0.0, 1.0, 2.0], 20), 1)],
)
def test_few_or_two_valued_numbers_have_no_violin(draw: Draw, values: np.ndarray, bodies: int) -> None:
    assert len(violins(draw({"a": values}, "violin"))) == bodies
    assert violins(draw({"a": values}, "box")) == []


def test_a_violin_spans_its_numbers_whatever_their_count(draw: Draw) -> None:
    values = np.random.default_rng(0).normal(size=20 * MOST_QUANTILES)
    (body,) = violins(draw({"a": values}, "violin"))
    ends = body.get_paths()[0].vertices[:, 0]
    assert (ends.min(), ends.max()) == pytest.approx((values.min(), values.max()))


def test_a_far_value_does_not_widen_a_violin(draw: Draw) -> None:
    def widest(values: np.ndarray) -> float:
        """Return where the density is highest, as its half height."""
        (body,) = violins(draw({"a": values}, "violin"))
        x, y = body.get_paths()[0].vertices.T
        return float(np.ptp(x[np.abs(y - 1) > 0.5 * np.abs(y - 1).max()]))

    values = np.random.default_rng(0).normal(size=500)
    assert widest(np.append(values, 100.0)) == pytest.approx(widest(values), rel=0.25)


@pytest.mark.parametrize(("sizes", "drawn"), [((MOST_POINTS, 5), 2), ((MOST_POINTS + 1, 5), 1), ((5,) * 13, 0)])
def test_single_points_are_drawn_in_small_groups_of_few(draw: Draw, sizes: tuple[int, ...], drawn: int) -> None:
    found = points(draw(normal(*sizes), "violin"))
    assert len(found) == drawn
    if drawn == 2:
        assert [len(one.get_offsets()) for one in found] == list(sizes)


def test_equal_values_are_seen_beside_each_other(draw: Draw) -> None:
    (found,) = points(draw({"a": np.zeros(20)}, "box"))
    offsets = np.asarray(found.get_offsets())
    assert set(offsets[:, 0]) == {0.0}
    assert len(set(offsets[:, 1])) == 20
    assert np.abs(offsets[:, 1] - 1).max() <= 0.07 + 1e-9


@pytest.mark.parametrize(("groups", "height"), [(1, LEAST), (3, LEAST), (10, 10 * ROW)])
def test_a_picture_is_as_high_as_its_groups(draw: Draw, figures: list[Any], groups: int, height: float) -> None:
    draw(normal(*[5] * groups), "box")
    assert figures[0].get_size_inches()[1] == pytest.approx(height)
    draw(normal(*[5] * groups), "ecdf")
    assert figures[1].get_size_inches()[1] == pytest.approx(3.6)


def test_more_groups_than_colours_have_one_colour(draw: Draw) -> None:
    few, many = (draw(normal(*[12] * count), "box") for count in (len(PALETTE), len(PALETTE) + 1))
    assert [to_hex(patch.get_facecolor()).upper() for patch in few.patches] == list(PALETTE)
    assert {to_hex(patch.get_facecolor()).upper() for patch in many.patches} == {PALETTE[0]}


def test_cumulative_shares_rise_by_one_step_per_value(draw: Draw) -> None:
    axes = draw({"a": np.array([3.0, 1.0, 2.0, 2.0]), "b": np.array([5.0])}, "ecdf")
    assert [line.get_label() for line in axes.lines] == ["a (4)", "b (1)"]
    x, y = (np.asarray(values).tolist() for values in axes.lines[0].get_data())
    assert (x, y) == ([1, 1, 2, 2, 3], [0, 0.25, 0.5, 0.75, 1])
    assert axes.lines[0].get_drawstyle() == "steps-post"


def test_a_large_groups_shares_are_thinned_and_keep_their_ends(draw: Draw) -> None:
    values = np.random.default_rng(0).normal(size=50_000)
    line = draw({"a": values}, "ecdf").lines[0]
    x, y = (np.asarray(found, dtype=float) for found in line.get_data())
    assert MOST_QUANTILES // 2 < len(x) <= MOST_QUANTILES + 1
    assert (x[0], x[-1], y[0], y[-1]) == (values.min(), values.max(), 0, 1)
    ordered = np.sort(values)
    np.testing.assert_allclose(y[1:], np.searchsorted(ordered, x[1:], side="right") / len(values))


def test_groups_beyond_sixteen_are_grey_together(draw: Draw) -> None:
    axes = draw(normal(*[5] * (MOST_LINES + 3)), "ecdf")
    legend = axes.get_legend()
    assert legend is not None
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == [*(f"g{number} (5)" for number in range(MOST_LINES)), "3 others"]
    assert [line.get_color() for line in axes.lines[MOST_LINES:]] == [OTHER] * 3
    looks = {(line.get_color(), line.get_linestyle()) for line in axes.lines[:MOST_LINES]}
    assert len(looks) == MOST_LINES


def curve(name: str, count: int = 5) -> LabelCurve:
    line = np.linspace(0, 1, count)
    return LabelCurve(name, line, np.sqrt(line), line, 1 - line / 2, ("AUROC 0.67", "AUPRC 0.75"))


def test_curves_stand_beside_each_other_with_chance(figures: list[Any], tmp_path: Path) -> None:
    draw_curves(tmp_path / "x", [curve("all"), curve("missense")], 0.3, TEXT, "png")
    left, right = figures[0].axes
    chance, *drawn = left.lines
    assert [np.asarray(values).tolist() for values in chance.get_data()] == [[0, 1], [0, 1]]
    assert [line.get_label() for line in drawn] == ["all: AUROC 0.67", "missense: AUROC 0.67"]
    np.testing.assert_allclose(
        drawn[0].get_xydata(), np.column_stack([curve("").false_positive, curve("").true_positive])
    )
    chance, *drawn = right.lines
    assert np.asarray(chance.get_ydata()).tolist() == [0.3, 0.3]
    assert [line.get_label() for line in drawn] == ["all: AUPRC 0.75", "missense: AUPRC 0.75"]
    np.testing.assert_allclose(drawn[1].get_xydata(), np.column_stack([curve("").recall, curve("").precision]))
    assert (right.get_xlabel(), right.get_ylabel()) == ("Recall", "Precision")
    assert left.get_xlim() == right.get_xlim() == (-0.01, 1.01)


def test_sixteen_curves_are_shown_and_long_ones_thinned(figures: list[Any], tmp_path: Path) -> None:
    draw_curves(tmp_path / "x", [curve(str(number), 10_000) for number in range(20)], 0.3, TEXT, "png")
    for axes in figures[0].axes:
        assert len(axes.lines) == 1 + MOST_LINES
        x = np.asarray(axes.lines[1].get_xdata(), dtype=float)
        assert len(x) == MOST_QUANTILES
        assert (x[0], x[-1]) == (0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["violin", "box", "ecdf"])
def test_equal_groups_are_equal_bytes_that_say_what_was_run(tmp_path: Path, kind: str) -> None:
    for name in ("one", "two"):
        draw_groups(tmp_path / name, normal(20, 12), kind, TEXT, "png", {"seed": 0})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with Image.open(tmp_path / "one") as image:
        assert json.loads(image.info["Description"]) == {"seed": 0}
        assert min(image.size) > 150 * LEAST
