"""Pictures of groups of numbers: violins, boxes, cumulative shares; and the curves of a score that tells labels apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnalm.report.plots import (
    OTHER,
    PALETTE,
    RESOLUTION,
    STYLE,
    MapText,
    picture_metadata,
    shortened,
    write_around,
)

Floats = NDArray[np.float64]

MOST_SHOWN = 40  # groups in one picture
MOST_LINES = 16  # groups with a line of their own: two rounds of colours
WIDTH, ROW, LEAST = 5.6, 0.52, 1.6  # of the picture and of a group, in inches
MOST_POINTS = 150  # of a group, drawn one by one
MOST_QUANTILES = 2_000  # stand for a larger group in its violin
FEWEST_IN_A_VIOLIN = 10  # numbers
BODY = 0.8  # of a row's height
DOTS = {"s": 7, "linewidths": 0, "alpha": 0.7}
LINES = ("-", "--")
TALLEST_FOR_POINTS = 12  # groups


@dataclass(frozen=True)
class LabelCurve:
    """A score's curves: name with its areas, false and true positive rates, recalls and precisions."""

    name: str
    false_positive: Floats
    true_positive: Floats
    recall: Floats
    precision: Floats
    areas: tuple[str, str]


def draw_groups(
    path: Path,
    groups: Mapping[str, Floats],
    kind: str,
    text: MapText,
    figure_format: str,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Draw how groups are distributed, one below the other, or as cumulative shares in one frame.

    Args:
        path: the file.
        groups: name → numbers, at least one; in this order from top to bottom.
        kind: `violin` (with a box in it), `box` or `ecdf`.
        text: what stands around; its axes are the numbers and, of cumulative shares, the shares.
        figure_format: png, pdf or svg.
        facts: what was run, kept in the file.
    """
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(["default", STYLE]):
        height = 3.6 if kind == "ecdf" else max(LEAST, ROW * len(groups))
        figure = Figure(figsize=(WIDTH, height))
        axes = figure.add_axes((0, 0, 1, 1))
        if kind == "ecdf":
            _draw_cumulative(axes, groups)
        else:
            _draw_rows(axes, groups, violins=kind == "violin")
        write_around(axes, text)
        figure.savefig(
            path,
            format=figure_format,
            dpi=RESOLUTION[figure_format],
            bbox_inches="tight",
            pad_inches=0.15,
            metadata=picture_metadata(figure_format, facts),
        )


def _draw_rows(axes: Any, groups: Mapping[str, Floats], *, violins: bool) -> None:
    places = np.arange(len(groups), 0, -1, dtype=np.float64)
    colors = [
        PALETTE[number % len(PALETTE)] if len(groups) <= len(PALETTE) else PALETTE[0] for number in range(len(groups))
    ]
    points = len(groups) <= TALLEST_FOR_POINTS
    for values, place, color in zip(groups.values(), places, colors, strict=True):
        if violins and _has_body(values):
            _draw_violin(axes, values, place, color)
        _draw_box(axes, values, place, color, slim=violins)
        if points and len(values) <= MOST_POINTS:
            _draw_points(axes, values, place - (0.24 if violins else 0), color)
    labels = [f"{shortened(name)}\nn = {len(values):,}" for name, values in groups.items()]
    axes.set_yticks(places, labels)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(0.4, len(groups) + 0.6)
    axes.grid(axis="x", color="#E6E6E6", linewidth=0.6)
    axes.set_axisbelow(True)


def _has_body(values: Floats) -> bool:
    """Return whether a density of these numbers says more than its estimate makes up."""
    return len(values) >= FEWEST_IN_A_VIOLIN and len(np.unique(values)) > 2


def _draw_violin(axes: Any, values: Floats, place: float, color: str) -> None:
    body = axes.violinplot(
        [_thinned(values)],
        positions=[place],
        orientation="horizontal",
        widths=BODY,
        showextrema=False,
        points=300,
        bw_method=lambda density: _bandwidth(values) / np.std(density.dataset, ddof=1),
    )["bodies"][0]
    body.set(facecolor=color, edgecolor=color, alpha=0.35, linewidth=0.8)


def _thinned(values: Floats) -> Floats:
    """Return the numbers, of a large group evenly spread quantiles that hold its ends."""
    if len(values) <= MOST_QUANTILES:
        return values
    return np.quantile(values, np.linspace(0, 1, MOST_QUANTILES))


def _bandwidth(values: Floats) -> float:
    """Return Silverman's rule of thumb (1986, equation 3.31), which a few far values do not widen."""
    quartiles = np.quantile(values, [0.25, 0.75])
    spread = float(quartiles[1] - quartiles[0]) / 1.34
    deviation = float(np.std(values, ddof=1))
    return 0.9 * (min(spread, deviation) if spread > 0 else deviation) * len(values) ** -0.2


def _draw_points(axes: Any, values: Floats, place: float, color: str) -> None:
    """Draw every value, spread evenly so that equal ones are seen; not at random, which would look like structure."""
    spread = (np.arange(len(values)) * 0.618034) % 1 - 0.5
    axes.scatter(values, place + 0.14 * spread, c=color, zorder=5, **DOTS)


def _draw_box(axes: Any, values: Floats, place: float, color: str, *, slim: bool) -> None:
    """Draw quartiles, median, and whiskers to the last values within 1.5 interquartile ranges (Tukey)."""
    dark = {"color": "#262626", "linewidth": 0.8}
    axes.boxplot(
        [values],
        positions=[place],
        orientation="horizontal",
        widths=0.12 if slim else 0.5,
        patch_artist=True,
        showcaps=not slim,
        manage_ticks=False,
        showfliers=not slim and len(values) > MOST_POINTS,
        boxprops={
            "facecolor": "white" if slim else color,
            "edgecolor": "#262626",
            "linewidth": 0.8,
            "alpha": 1 if slim else 0.45,
        },
        whiskerprops=dark,
        capprops=dark,
        medianprops={"color": color if slim else "#262626", "linewidth": 2 if slim else 1.4},
        flierprops={
            "marker": ".",
            "markersize": 2,
            "markeredgewidth": 0,
            "markerfacecolor": "#595959",
            "rasterized": True,
        },
        zorder=4,
    )


def _draw_cumulative(axes: Any, groups: Mapping[str, Floats]) -> None:
    styles = [(color, line) for line in LINES for color in PALETTE]
    for number, (name, values) in enumerate(groups.items()):
        named = number < MOST_LINES
        color, line = styles[number] if named else (OTHER, "-")
        label = f"{shortened(name)} ({len(values):,})" if named else None
        if number == MOST_LINES:
            label = f"{len(groups) - MOST_LINES} others"
        ordered = np.sort(values)
        shares = np.arange(1, len(ordered) + 1) / len(ordered)
        if len(ordered) > MOST_QUANTILES:
            kept = np.unique(np.linspace(0, len(ordered) - 1, MOST_QUANTILES).astype(int))
            ordered, shares = ordered[kept], shares[kept]
        axes.step(
            np.concatenate([ordered[:1], ordered]),
            np.concatenate([[0], shares]),
            where="post",
            color=color,
            linestyle=line,
            linewidth=1.5 if named else 0.6,
            label=label,
            zorder=3 if named else 2,
        )
    axes.set_ylim(0, 1.01)
    axes.grid(color="#E6E6E6", linewidth=0.6)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.015), alignment="left")


def draw_curves(
    path: Path,
    curves: Sequence[LabelCurve],
    prevalence: float,
    text: MapText,
    figure_format: str,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Draw receiver operating characteristics and, beside them, precision-recall curves.

    Args:
        path: the file.
        curves: at most one a group; the first sixteen have colours and names.
        prevalence: share of positive rows, the precision of a score that knows nothing.
        text: what stands around.
        figure_format: png, pdf or svg.
        facts: what was run, kept in the file.
    """
    from matplotlib import style
    from matplotlib.figure import Figure

    styles = [(color, line) for line in LINES for color in PALETTE]
    with style.context(["default", STYLE]):
        figure = Figure(figsize=(WIDTH + 1.4, 3.2))
        left, right = figure.add_axes((0, 0, 0.455, 1)), figure.add_axes((0.565, 0, 0.455, 1))
        left.plot([0, 1], [0, 1], color=OTHER, linewidth=0.8, linestyle=":")
        right.plot([0, 1], [prevalence] * 2, color=OTHER, linewidth=0.8, linestyle=":")
        for curve, (color, line) in zip(curves, styles, strict=False):
            look: dict[str, Any] = {"color": color, "linestyle": line, "linewidth": 1.5}
            named = [f"{shortened(curve.name)}: {area}" for area in curve.areas]
            left.plot(*_thin(curve.false_positive, curve.true_positive), label=named[0], **look)
            right.plot(*_thin(curve.recall, curve.precision), label=named[1], drawstyle="steps-post", **look)
        write_around(left, text)
        right.set(xlabel="Recall", ylabel="Precision")
        for axes in (left, right):
            axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.03))
            axes.grid(color="#E6E6E6", linewidth=0.6)
            axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.14), alignment="left")
        figure.savefig(
            path,
            format=figure_format,
            dpi=RESOLUTION[figure_format],
            bbox_inches="tight",
            pad_inches=0.15,
            metadata=picture_metadata(figure_format, facts),
        )


def _thin(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    kept = np.unique(np.linspace(0, len(x) - 1, min(len(x), MOST_QUANTILES)).astype(int))
    return x[kept], y[kept]
