"""One picture of how good a model is: confusion, ROC, precision and recall, calibration, comparison, training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnalm.report.plots import OTHER, PALETTE, RESOLUTION, STYLE, Curve, draw_curves, shortened

Floats = NDArray[np.floating[Any]]

SIZE = (10.8, 6.6)  # of the whole, in inches
GRID = "#E6E6E6"
MOST_CELLS = 12  # classes whose confusion is written in numbers
MOST_SHORT = 3  # classes that are named beneath it too
MOST_NAMES = 30  # classes that are named beside the matrix
CONFUSION_COLORS = "Blues"
SHORT = 18  # letters of a class's name
MOST_POINTS = 5_000


@dataclass(frozen=True)
class Bar:
    """A method's measure with its interval."""

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Evaluation:
    """What any model has.

    Attributes:
        title: of the whole.
        methods: two measures, each with its value of every method; the last method is the one that the picture is of.
        training: split → its loss, step by step; where there is none, the second measure is drawn instead.
        best_step: of the training.
    """

    title: str
    methods: Mapping[str, Sequence[Bar]]
    training: Mapping[str, Curve]
    best_step: int


@dataclass(frozen=True)
class LabelCurves:
    """What a model that gives labels has.

    Attributes:
        labels: their names.
        confusion: how often each true class, in rows, is called each class; shape (labels, labels). Of labels that do not
            exclude each other: true and called, true and not called, called and not true; shape (labels, 3).
        exclusive: which of both it is.
        curves: label → false positive rates, true positive rates, recalls, precisions.
        base_rate: share that is true of the labels with curves: the precision of chance.
        reliability: mean probability, share that is true, and number of each bin.
    """

    labels: Sequence[str]
    confusion: NDArray[np.int64]
    exclusive: bool
    curves: Mapping[str, tuple[Floats, Floats, Floats, Floats]]
    base_rate: float
    reliability: tuple[Floats, Floats, NDArray[np.int64]]


@dataclass(frozen=True)
class Residuals:
    """What a model of quantities has: name, true and predicted values."""

    name: str
    true: Floats
    predicted: Floats


def draw_evaluation(path: Path, evaluation: Evaluation, found: LabelCurves | Residuals) -> None:
    """Write the picture, PNG."""
    from matplotlib import style
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with style.context(["default", STYLE]):
        figure = Figure(figsize=SIZE, layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08, wspace=0.04, hspace=0.04))
        panels = figure.subplots(2, 3)
        figure.suptitle(shortened(evaluation.title), x=0.01, ha="left", fontsize=12, fontweight="bold")
        if isinstance(found, LabelCurves):
            _draw_confusion(panels[0, 0], found)
            _draw_roc(panels[0, 1], found)
            _draw_precision(panels[0, 2], found)
            _draw_reliability(panels[1, 0], found)
        else:
            _draw_scatter(panels[0, 0], found)
            _draw_residuals(panels[0, 1], found)
            _draw_histogram(panels[0, 2], found)
            _draw_quantiles(panels[1, 0], found)
        first, second = evaluation.methods
        _draw_methods(panels[1, 1], first, evaluation.methods[first])
        if any(curve.x for curve in evaluation.training.values()):
            _title(panels[1, 2], "Training")
            draw_curves(panels[1, 2], evaluation.training, "loss", evaluation.best_step)
        else:
            _draw_methods(panels[1, 2], second, evaluation.methods[second])
        figure.savefig(path, format="png", dpi=RESOLUTION["png"], metadata={"Software": None})


def _title(axes: Any, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=9.5, fontweight="bold")


def _draw_confusion(axes: Any, found: LabelCurves) -> None:
    counts = found.confusion
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap=CONFUSION_COLORS, vmin=0, vmax=1, aspect="auto")
    _title(axes, "Confusion" if found.exclusive else "Labels")
    columns = found.labels if found.exclusive else ("found", "missed", "wrongly called")
    if len(found.labels) <= MOST_NAMES:
        # Many names would take more room than the matrix: then rows have numbers, and columns these alone.
        numbered = found.exclusive and len(columns) > MOST_SHORT
        names = [shortened(name, SHORT) for name in columns]
        across = [str(number) for number in range(1, len(columns) + 1)] if numbered else names
        rows = [shortened(name, SHORT) for name in found.labels]
        down = [f"{name}  {number}" if numbered else name for number, name in enumerate(rows, 1)]
        axes.set_xticks(range(len(columns)), across)
        axes.set_yticks(range(len(found.labels)), down)
    else:
        axes.set_xticks([])
        axes.set_yticks([])
    axes.tick_params(length=0)
    axes.set_xlabel("called" if found.exclusive else "")
    axes.set_ylabel("true" if found.exclusive else "")
    for side in axes.spines.values():
        side.set_visible(False)
    if len(found.labels) <= MOST_CELLS:
        for row, column in np.ndindex(counts.shape):
            dark = shares[row, column] > 0.55
            axes.text(
                *(column, row, f"{counts[row, column]:,}"),
                ha="center",
                va="center",
                fontsize=8,
                color="white" if dark else "#262626",
            )


def _draw_roc(axes: Any, found: LabelCurves) -> None:
    _title(axes, "ROC")
    axes.plot([0, 1], [0, 1], color=OTHER, linewidth=0.8, linestyle=":")
    for color, (name, (false_rate, true_rate, _, _)) in zip(PALETTE, found.curves.items(), strict=False):
        axes.plot(false_rate, true_rate, color=color, linewidth=1.4, label=shortened(name, SHORT))
    _unit_square(axes, "false positive rate", "true positive rate")
    if len(found.curves) > 1:
        axes.legend(loc="lower right", fontsize=7)


def _draw_precision(axes: Any, found: LabelCurves) -> None:
    only = f" of '{shortened(next(iter(found.curves)), SHORT)}'" if len(found.curves) == 1 else ""
    _title(axes, f"Precision and recall{only}")
    axes.axhline(found.base_rate, color=OTHER, linewidth=0.8, linestyle=":")
    for color, (_, _, recall, precision) in zip(PALETTE, found.curves.values(), strict=False):
        axes.plot(recall, precision, color=color, linewidth=1.4, drawstyle="steps-post")
    _unit_square(axes, "recall", "precision")


def _draw_reliability(axes: Any, found: LabelCurves) -> None:
    _title(axes, "Calibration")
    axes.plot([0, 1], [0, 1], color=OTHER, linewidth=0.8, linestyle=":")
    said, true, counts = found.reliability
    axes.plot(said, true, color=PALETTE[0], linewidth=1.0)
    axes.scatter(said, true, s=8 + 90 * np.sqrt(counts / max(counts.max(initial=1), 1)), color=PALETTE[0], zorder=3)
    _unit_square(axes, "mean probability", "share that is true")


def _unit_square(axes: Any, x: str, y: str) -> None:
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.04)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def _draw_scatter(axes: Any, found: Residuals) -> None:
    _title(axes, f"{shortened(found.name, SHORT)}: true and predicted")
    ends = [min(found.true.min(), found.predicted.min()), max(found.true.max(), found.predicted.max())]
    axes.plot(ends, ends, color=OTHER, linewidth=0.8, linestyle=":")
    _points(axes, found.true, found.predicted)
    axes.set_xlabel("true")
    axes.set_ylabel("predicted")


def _draw_residuals(axes: Any, found: Residuals) -> None:
    _title(axes, "Residuals: predicted less true")
    axes.axhline(0, color=OTHER, linewidth=0.8, linestyle=":")
    _points(axes, found.predicted, found.predicted - found.true)
    axes.set_xlabel("predicted")
    axes.set_ylabel("residual")


def _draw_histogram(axes: Any, found: Residuals) -> None:
    _title(axes, "How residuals are spread")
    axes.hist(found.predicted - found.true, bins="auto" if len(found.true) < MOST_POINTS else 60, color=PALETTE[0])
    axes.set_xlabel("residual")
    axes.set_ylabel("sequences")


def _draw_quantiles(axes: Any, found: Residuals) -> None:
    """Draw the mean truth of each tenth of the predictions: calibration for quantities."""
    _title(axes, "Calibration: tenths of the predictions")
    parts = np.array_split(np.argsort(found.predicted, kind="stable"), min(10, len(found.predicted)))
    said, true = (np.array([values[part].mean() for part in parts]) for values in (found.predicted, found.true))
    ends = [min(said.min(), true.min()), max(said.max(), true.max())]
    axes.plot(ends, ends, color=OTHER, linewidth=0.8, linestyle=":")
    axes.plot(said, true, color=PALETTE[0], marker="o", markersize=4, linewidth=1.0)
    axes.set_xlabel("mean prediction")
    axes.set_ylabel("mean truth")
    axes.grid(color=GRID, linewidth=0.6)


def _points(axes: Any, x: Floats, y: Floats) -> None:
    step = -(-len(x) // MOST_POINTS)
    axes.scatter(x[::step], y[::step], s=9, color=PALETTE[0], alpha=0.6, linewidths=0)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def _draw_methods(axes: Any, measure: str, bars: Sequence[Bar]) -> None:
    _title(axes, f"{measure} by method, 95 % intervals")
    chance = 0.5 if measure == "AUROC" else 0.0
    for place, bar in enumerate(reversed(bars)):
        color = PALETTE[0] if place == 0 else OTHER
        if not np.isnan(bar.low):
            axes.plot([bar.low, bar.high], [place, place], color=color, linewidth=1.6)
        axes.scatter([bar.value], [place], s=34, color=color, zorder=3)
        known = not np.isnan(bar.value)
        where, said = (bar.value, f"{bar.value:.3f}") if known else (chance, "undefined")
        axes.annotate(said, (where, place), (0, 5), textcoords="offset points", ha="center", fontsize=8)
    axes.set_yticks(range(len(bars)), [shortened(bar.name, SHORT) for bar in reversed(bars)])
    axes.set_ylim(-0.5, len(bars) - 0.4)
    axes.margins(x=0.12)
    axes.axvline(chance, color=OTHER, linewidth=0.8, linestyle=":")
    axes.grid(axis="x", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(measure)
