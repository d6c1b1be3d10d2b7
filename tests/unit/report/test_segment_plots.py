"""How well features are found: metrics with intervals, and precision over recall."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dnalm.report.plots import OTHER, PALETTE
from dnalm.report.segment_plots import MOST_CURVES, Evaluated, draw_evaluation
from PIL import Image

NONE = (np.nan, np.nan, np.nan)
METRICS = {"auprc": (0.7, 0.6, 0.8), "mcc": (0.5, 0.4, 0.6), "f1": (0.3, np.nan, np.nan)}


def curve(precision: float) -> tuple[np.ndarray, np.ndarray]:
    return np.array([0.0, 0.5, 1.0]), np.array([1.0, precision, 0.1])


def frames(figures: list[Any], *features: Evaluated) -> list[Any]:
    draw_evaluation(features, {}, Path("x"))
    return figures[-1].axes


def legend(axes: Any) -> list[str]:
    return sorted(axes.get_legend_handles_labels()[1])


def values(axes: Any) -> list[tuple[float, float]]:
    """Return score and row of each dot."""
    return [(float(x), float(y)) for line in axes.lines if line.get_marker() == "o" for x, y in line.get_xydata()]


def intervals(axes: Any, color: str) -> list[list[float]]:
    """Return the ends of the lines of a colour without dots."""
    return [line.get_xdata().tolist() for line in axes.lines if line.get_marker() != "o" and line.get_color() == color]


def test_each_metric_is_named_once_and_chance_where_there_is_an_auprc(figures: list[Any]) -> None:
    def names(*auprc: float) -> list[str]:
        rest = {"mcc": (0.5, 0.4, 0.6), "f1": (0.5, 0.4, 0.6)}
        (axes,) = frames(figures, *(Evaluated(f"f{x}", 0.1, rest | {"auprc": (x, x, x)}, None) for x in auprc))
        return legend(axes)

    assert names(np.nan, np.nan) == ["F1", "MCC"]
    assert names(np.nan, 0.7) == names(0.6, 0.7) == ["AUPRC", "F1", "MCC", "base rate: AUPRC of chance"]


def test_features_without_any_metric_are_drawn_without_a_legend(
    figures: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (axes,) = frames(figures, Evaluated("x", 0.1, dict.fromkeys(METRICS, (np.nan,) * 3), None))
    assert axes.get_legend() is None
    assert capsys.readouterr().err == ""


def test_metrics_are_dots_with_their_intervals(figures: list[Any]) -> None:
    (axes,) = frames(
        figures,
        Evaluated("CDS", 0.2, METRICS, None),
        Evaluated("tRNA", 0.05, METRICS | {"auprc": NONE, "mcc": (0.9, 0.8, 1.0)}, None),
    )
    assert values(axes) == [(0.7, 0), (0.5, 1), (0.3, 2), (0.9, pytest.approx(4.6)), (0.3, pytest.approx(5.6))]
    auprc, mcc, f1 = PALETTE[:3]
    assert [intervals(axes, color) for color in (auprc, mcc, f1)] == [[[0.6, 0.8]], [[0.4, 0.6], [0.8, 1.0]], []]
    assert intervals(axes, OTHER) == [[0.2, 0.2]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["CDS", "tRNA"]
    assert axes.get_yticks().tolist() == pytest.approx([1, 4.6])
    assert axes.yaxis_inverted()


def test_scores_below_zero_are_within_the_frame(figures: list[Any]) -> None:
    (usual,) = frames(figures, Evaluated("CDS", 0.2, METRICS, None))
    (low,) = frames(figures, Evaluated("CDS", 0.2, METRICS | {"mcc": (-0.1, -0.3, 0.1)}, None))
    without_intervals = {name: (value, np.nan, np.nan) for name, (value, _, _) in METRICS.items()}
    (bare,) = frames(figures, Evaluated("CDS", 0.2, without_intervals, None))
    assert usual.get_xlim() == bare.get_xlim() == (-0.02, 1.02)
    assert low.get_xlim() == pytest.approx((-0.32, 1.02))


def test_curves_stand_beside_the_metrics_with_their_base_rates(figures: list[Any]) -> None:
    _, axes = frames(
        figures,
        Evaluated("CDS", 0.2, METRICS, curve(0.8)),
        Evaluated("no scores", 0.3, METRICS, None),
        Evaluated("a feature with a very long name of its own", 0.05, METRICS, curve(0.4)),
    )
    drawn, dotted = axes.lines[::2], axes.lines[1::2]
    assert [line.get_label() for line in drawn] == ["CDS", "a feature with…ame of its own"]
    np.testing.assert_allclose(drawn[1].get_xydata(), np.column_stack(curve(0.4)))
    assert [float(line.get_ydata()[0]) for line in dotted] == [0.2, 0.05]
    assert [line.get_color() for line in drawn] == [line.get_color() for line in dotted] == list(PALETTE[:2])


def test_no_more_curves_are_drawn_than_there_are_colours(figures: list[Any]) -> None:
    features = [Evaluated(f"f{number}", 0.1, METRICS, curve(0.5)) for number in range(MOST_CURVES + 2)]
    metrics, curves = frames(figures, *features)
    assert len(curves.lines) == 2 * MOST_CURVES
    assert len(metrics.get_yticks()) == MOST_CURVES + 2


def test_a_picture_grows_with_its_features_up_to_a_bound(figures: list[Any]) -> None:
    heights, nothing = [], dict.fromkeys(METRICS, NONE)
    for count in (1, 5, 60):
        frames(figures, Evaluated("x", 0.1, METRICS, None), *[Evaluated("y", 0.1, nothing, None)] * (count - 1))
        heights.append(figures[-1].get_size_inches()[1])
    assert heights == pytest.approx([3.2, 1.4 + 0.3 * 3.6 * 5, 60])


def test_the_file_says_what_was_run(tmp_path: Path) -> None:
    for name in ("one", "two"):
        draw_evaluation([Evaluated("CDS", 0.2, METRICS, curve(0.8))], {"seed": 0}, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with Image.open(tmp_path / "one") as image:
        assert json.loads(image.info["Description"]) == {"seed": 0}
        assert image.size == (11 * 150, 480)
