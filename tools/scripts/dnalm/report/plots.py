"""Pictures: the same bytes on every day, colours that everyone can tell apart, readable with 80 points and with 100,000."""

import json
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnalm.errors import printable

# Okabe and Ito (2008), "Color Universal Design", for all kinds of colour vision; yellow, pale on white, comes late.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#F0E442")
MARKERS = ("o", "^")  # a second round of colours has another shape, where points are large enough to show it
MOST_SHAPES = 5_000  # points
OTHER, NOT_GIVEN = "#8C8C8C", "#D4D4D4"
NUMBERS_COLORS = "viridis"

SIZE = (5.6, 5.0)  # of the map, in inches
LARGEST, SMALLEST, INK = 28.0, 1.4, 60_000.0  # areas of a point, and of all points together, in square points
LONGEST_LABEL, LONGEST_TITLE, LONGEST_SUBTITLE = 34, 48, 80  # letters
RASTERIZED = 5_000  # more points make a drawing that no program opens: in PDF and SVG they are a picture within
RESOLUTION = {"png": 150, "pdf": 300, "svg": 300}  # dots an inch
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "legend.frameon": False,
    "text.parse_math": False,  # a '$' in a name is a letter
    "svg.fonttype": "none",  # letters stay letters in SVG and PDF
    "svg.hashsalt": "dnalm",
    "pdf.fonttype": 42,
}


@dataclass(frozen=True)
class Categories:
    """A column of names: `labels` from the most frequent to the rarest, and one number of a label a record, or -1."""

    column: str
    labels: list[str]
    codes: NDArray[np.int64]


@dataclass(frozen=True)
class Numbers:
    """A column of numbers, NaN where none is given."""

    column: str
    values: NDArray[np.float64]


@dataclass(frozen=True)
class MapText:
    """What stands around a map; the subtitle has several lines.

    Axes without a scale have no ticks, and one unit is as long on both.
    """

    title: str
    subtitle: list[str]
    axes: tuple[str, str]
    scaled: bool


def draw_map(
    path: Path,
    points: NDArray[np.float32],
    colors: Categories | Numbers | None,
    text: MapText,
    figure_format: str,
    point_size: float | None = None,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Write a scatter plot of points, shape (records, 2), coloured by a column.

    `point_size` is a diameter in points (1/72 inch); by default it follows from the number of points. `facts` are kept
    in the file.
    """
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(["default", STYLE]):
        figure = Figure(figsize=SIZE)
        axes = figure.add_axes((0, 0, 1, 1))
        look = _look(len(points), point_size)
        if colors is None:
            axes.scatter(points[:, 0], points[:, 1], c=PALETTE[0], **look)
        elif isinstance(colors, Numbers):
            _draw_numbers(axes, points, colors, look)
        else:
            _draw_categories(axes, points, colors, look)
        write_around(axes, text)
        # The map keeps its size; the file grows with what stands around it.
        figure.savefig(
            path,
            format=figure_format,
            dpi=RESOLUTION[figure_format],
            bbox_inches="tight",
            pad_inches=0.15,
            metadata=picture_metadata(figure_format, facts),
        )


def named_categories(points: int) -> int:
    """Return how many categories a map of so many points can show by colour and shape; the others are grey."""
    return len(PALETTE) * (len(MARKERS) if points <= MOST_SHAPES else 1)


def _look(points: int, point_size: float | None) -> dict[str, Any]:
    """Return size, opacity and edge: many points are small and let others shine through."""
    area = point_size**2 if point_size else float(np.clip(INK / points, SMALLEST, LARGEST))
    return {
        "s": area,
        "alpha": float(np.clip(1.25 - 0.18 * np.log10(points), 0.4, 0.9)),
        "edgecolors": "white" if area > LARGEST / 2 else "none",
        "linewidths": 0.4 if area > LARGEST / 2 else 0,
        "rasterized": points > RASTERIZED,
    }


def _draw_numbers(axes: Any, points: NDArray[np.float32], colors: Numbers, look: dict[str, Any]) -> None:
    missing = np.isnan(colors.values)
    if missing.any():
        axes.scatter(*points[missing].T, c=NOT_GIVEN, **look)
        _legend(
            axes, [(f"not given ({missing.sum():,})", NOT_GIVEN, "o")], loc="upper right", bbox_to_anchor=(1.02, -0.07)
        )
    given = _shuffled(np.flatnonzero(~missing))
    drawn = axes.scatter(*points[given].T, c=colors.values[given], cmap=NUMBERS_COLORS, **look)
    bar = axes.figure.colorbar(drawn, cax=axes.inset_axes((1.03, 0, 0.035, 1)), label=shortened(colors.column))
    bar.solids.set_alpha(1)
    bar.outline.set_visible(False)


def _draw_categories(axes: Any, points: NDArray[np.float32], colors: Categories, look: dict[str, Any]) -> None:
    counts = np.bincount(colors.codes[colors.codes >= 0], minlength=len(colors.labels))
    named = named_categories(len(points))
    styles = [(color, marker) for marker in MARKERS for color in PALETTE][:named]
    entries = [
        (f"{shortened(label)} ({count:,})", *drawn)
        for label, count, drawn in zip(colors.labels, counts, styles, strict=False)
    ]
    others, missing = colors.codes >= named, colors.codes < 0
    if others.any():
        entries.append((f"{len(colors.labels) - named:,} others ({others.sum():,})", OTHER, "o"))
    if missing.any():
        entries.append((f"not given ({missing.sum():,})", NOT_GIVEN, "o"))
    for beneath, color in ((missing, NOT_GIVEN), (others, OTHER)):
        axes.scatter(*points[beneath].T, c=color, **look)
    # In mixed order, so that no category hides another.
    for shape, marker in enumerate(MARKERS):
        inside = (colors.codes >= shape * len(PALETTE)) & (colors.codes < min(named, (shape + 1) * len(PALETTE)))
        rows = _shuffled(np.flatnonzero(inside))
        palette = np.array(PALETTE)[colors.codes[rows] % len(PALETTE)]
        axes.scatter(*points[rows].T, c=palette, marker=marker, **look)
    _legend(axes, entries, loc="upper left", bbox_to_anchor=(1.01, 1.015), title=shortened(colors.column))


def _legend(axes: Any, entries: list[tuple[str, str, str]], **place: Any) -> None:
    """Add a legend of (label, colour, marker), its points large enough to see whatever those of the map are."""
    from matplotlib.lines import Line2D

    points = [
        Line2D([], [], linestyle="", marker=marker, color=color, markersize=6, markeredgewidth=0)
        for _, color, marker in entries
    ]
    labels = [label for label, _, _ in entries]
    legend = axes.legend(points, labels, alignment="left", handletextpad=0.2, **place)
    legend.get_title().set_fontweight("bold")


def write_around(axes: Any, text: MapText) -> None:
    """Write title, subtitle and names of the axes."""
    axes.set_xlabel(text.axes[0])
    axes.set_ylabel(text.axes[1])
    axes.margins(0.04)
    if not text.scaled:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_aspect("equal", adjustable="datalim")
    subtitle = [line for part in text.subtitle for line in textwrap.wrap(part, LONGEST_SUBTITLE)]
    axes.set_title("\n".join(subtitle), loc="left", fontsize=8.5, color="#595959", pad=8)
    axes.annotate(
        textwrap.fill(text.title, LONGEST_TITLE),
        xy=(0, 1),
        xycoords="axes fraction",
        xytext=(0, 14 + 11.5 * len(subtitle)),
        textcoords="offset points",
        fontsize=12,
        fontweight="bold",
    )


def _shuffled(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.random.default_rng(0).permutation(rows)


def shortened(label: str, longest: int = LONGEST_LABEL) -> str:
    """Return a label that fonts can draw, without the middle if it is long: names of sequences differ at their ends."""
    half = (longest - 1) // 2
    return printable(label if len(label) <= longest else f"{label[:half]}…{label[-half:]}")


def picture_metadata(figure_format: str, facts: Mapping[str, Any] | None) -> dict[str, str | None]:
    """Return the picture's own metadata: what was run, and neither date nor program."""
    said = json.dumps(facts, sort_keys=True) if facts else None
    return {
        "png": {"Software": None, "Description": said},
        "pdf": {"Creator": None, "Producer": None, "CreationDate": None, "Subject": said},
        "svg": {"Creator": None, "Date": None, "Description": said},
    }[figure_format]


@dataclass(frozen=True)
class Curve:
    """A line of a picture: x and y of its points."""

    x: list[float]
    y: list[float]


def draw_training(curves: Mapping[str, Curve], measure: str, best: float, path: Path) -> None:
    """Draw how a measure changed with the steps of a training, and mark the best step; PNG.

    Args:
        curves: name of a split → its curve; shown in this order.
        measure: what y is.
        best: the step at which validation was best.
        path: the file.
    """
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(["default", STYLE]):
        figure = Figure(figsize=SIZE, layout="constrained")
        draw_curves(figure.add_subplot(), curves, measure, best)
        figure.savefig(path, format="png", dpi=RESOLUTION["png"], metadata={"Software": None})


def draw_curves(axes: Any, curves: Mapping[str, Curve], measure: str, best: float) -> None:
    """Draw the curves of a training into a frame; arguments as `draw_training`."""
    for color, (name, curve) in zip(PALETTE, curves.items(), strict=False):
        marker = "o" if len(curve.x) < FEW else None
        axes.plot(curve.x, curve.y, color=color, label=name, linewidth=1.4, marker=marker, markersize=3)
    if any(curve.x for curve in curves.values()):
        axes.axvline(best, color=OTHER, linewidth=0.8, linestyle=":", label=f"best on validation (step {best:,.0f})")
        axes.legend(frameon=True, facecolor="white", framealpha=0.85, edgecolor="none")  # curves go on behind it
    # The first steps fall from far above: they shall not press all others flat.
    if heights := [height for curve in curves.values() for height in curve.y[len(curve.y) // EARLY :]]:
        room = MARGIN * (max(heights) - min(heights)) or MARGIN
        axes.set_ylim(min(heights) - room, max(heights) + room)
    axes.set_xlabel("Step")
    axes.set_ylabel(measure)


EARLY = 20  # the first twentieth of a curve may leave the picture
MARGIN = 0.08  # of the heights that are shown
FEW = 30  # points of a curve that are drawn as points too
