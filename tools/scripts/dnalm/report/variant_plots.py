"""Pictures of scored variants: named dots of a few, histograms of many, heat maps of every change of a region."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dnalm.errors import printable
from dnalm.methods.scores import SCORES
from dnalm.report.plots import (
    NOT_GIVEN,
    OTHER,
    PALETTE,
    RESOLUTION,
    STYLE,
    picture_metadata,
    shortened,
)

FEW = 40  # variants that are told by name
MOST_DRAWN = 65_536  # scores of a histogram: an even share of more
BINS = 60
TAIL = 0.1  # per cent of the scores that may lie beyond each end of a histogram
LETTERS = "ACGT"
LONGEST_MODEL = 80  # letters of its name
ROW, MOST_ROWS = 100, 24  # bases of a row of a heat map, and rows
WIDTH, ROW_HEIGHT, DOT_HEIGHT = 10.0, 0.72, 0.19  # inches
NO_CHANGE = "#E8E8E8"
SIGNED_COLORS, UNSIGNED_COLORS = "RdBu", "viridis"


@dataclass(frozen=True, slots=True)
class Point:
    """A scored variant as a picture needs it: `position` from 1, NaN where it has no score."""

    contig: str
    position: int
    id: str
    reference: str
    alternative: str
    values: Mapping[str, float]
    strands: Mapping[str, float]

    @property
    def name(self) -> str:
        """Its id, or its place."""
        return self.id if self.id not in ("", ".") else f"{self.contig}:{self.position}"

    @property
    def change(self) -> str:
        """REF>ALT."""
        return f"{self.reference}>{self.alternative}"


class EvenSample:
    """Every first, second, fourth … of a stream of rows, so that no more than `most` are held."""

    def __init__(self, most: int) -> None:
        self._most, self._stride, self._count = most, 1, 0
        self.rows: list[tuple[float, ...]] = []

    def add(self, row: tuple[float, ...]) -> None:
        """Offer a row."""
        if self._count % self._stride == 0:
            self.rows.append(row)
        self._count += 1
        if len(self.rows) > self._most:
            self.rows = self.rows[::2]
            self._stride *= 2

    @property
    def thinned(self) -> bool:
        """Whether some were left out."""
        return self._stride > 1


class VariantFigure:
    """Gathers what a picture shows while variants stream by.

    Args:
        scores: names, the first of them that of a heat map.
        saturation: whether every change of some bases comes, base after base.
    """

    def __init__(self, scores: Sequence[str], saturation: bool) -> None:
        self._scores, self._saturation = tuple(scores), saturation
        self._few: list[Point] = []
        self._sample = EvenSample(MOST_DRAWN)
        self._count = 0
        self._map = _HeatMap(self._scores[0])

    def add(self, point: Point) -> None:
        """Take a variant into account; one without a score is counted nowhere."""
        if self._saturation:
            self._map.add(point)
        values = tuple(point.values[score] for score in self._scores)
        if all(map(math.isnan, values)):
            return
        self._count += 1
        self._sample.add(values)
        if len(self._few) <= FEW:
            self._few.append(point)

    def draw(self, path: Path, model: str, facts: Mapping[str, Any]) -> None:
        """Write the picture, PNG; `model` stands in its title and `facts` are kept in the file."""
        from matplotlib import style
        from matplotlib.figure import Figure

        with style.context(["default", STYLE]):
            figure = Figure(layout="constrained")
            if self._saturation:
                self._map.draw(figure, model)
            elif self._count <= FEW:
                self._draw_names(figure, model)
            else:
                self._draw_histograms(figure, model)
            figure.savefig(path, format="png", dpi=RESOLUTION["png"], metadata=picture_metadata("png", facts))

    def _draw_names(self, figure: Any, model: str) -> None:
        """Draw one dot a variant, in the order of the input; a bar reaches to the scores of both strands."""
        figure.set_size_inches(3.0 + 3.4 * len(self._scores), 1.5 + DOT_HEIGHT * len(self._few))
        panels = figure.subplots(1, len(self._scores), sharey=True, squeeze=False)[0]
        rows = np.arange(len(self._few))
        for axes, score in zip(panels, self._scores, strict=True):
            values = np.array([point.values[score] for point in self._few])
            bars = np.array([0.5 * point.strands.get(score, 0.0) for point in self._few])
            if SCORES[score].signed:
                axes.axvline(0, color=OTHER, linewidth=0.8)
            axes.hlines(rows, values - bars, values + bars, color=PALETTE[4], linewidth=2)
            axes.plot(values, rows, linestyle="", marker="o", color=PALETTE[0], markersize=5)
            axes.set_xlabel(_label(score))
            axes.grid(axis="y", color=NOT_GIVEN, linewidth=0.4)
            if SCORES[score].least is not None:
                axes.set_xlim(left=SCORES[score].least)
        panels[0].set_yticks(rows, [shortened(name) for name in _names(self._few)])
        panels[0].set_ylim(len(self._few) - 0.5, -0.5)
        told = ", bars from one strand's score to the other's" if self._few[0].strands else ""
        _title(figure, f"{self._count:,} variants{told}", model)

    def _draw_histograms(self, figure: Any, model: str) -> None:
        """Draw the distribution of each score with its median; the farthest tails are told, not drawn."""
        figure.set_size_inches(6.4, 0.9 + 2.5 * len(self._scores))
        panels = figure.subplots(len(self._scores), 1, squeeze=False)[:, 0]
        values = np.array(self._sample.rows, dtype=np.float64)
        for axes, score, column in zip(panels, self._scores, values.T, strict=True):
            given = column[~np.isnan(column)]
            axes.set_xlabel(_label(score))
            axes.set_ylabel("variants" if not self._sample.thinned else "variants (an even share)")
            if not len(given):
                axes.set_title("no score", loc="left", fontsize=8.5)
                continue
            low, high = np.percentile(given, [TAIL, 100 - TAIL])
            inside = given[(given >= low) & (given <= high)]
            axes.hist(inside, bins=BINS, color=PALETTE[0])
            median = float(np.median(given))
            axes.axvline(median, color=PALETTE[5], linewidth=1.2)
            beyond = f", {len(given) - len(inside):,} beyond the ends" if len(inside) < len(given) else ""
            axes.set_title(f"median {median:.4g} (line){beyond}", loc="left", fontsize=8.5, color="#595959")
        _title(figure, f"{self._count:,} variants", model)


class _HeatMap:
    """Position × base of the first bases of saturated regions."""

    def __init__(self, score: str) -> None:
        self._score = score
        self._bases = 0
        self._full = False
        self._rows: list[_Row] = []
        self._last: tuple[str, str, int] | None = None

    def add(self, point: Point) -> None:
        """Take an alternative; those of a base come one after the other."""
        place = (point.id, point.contig, point.position)
        if place != self._last:
            self._bases += 1
            follows = self._last == (point.id, point.contig, point.position - 1)
            self._last = place
            if not self._rows or not follows or len(self._rows[-1].references) == ROW:
                self._full = len(self._rows) == MOST_ROWS
                if not self._full:
                    self._rows.append(_Row(point.id, point.contig, point.position))
            if not self._full:
                self._rows[-1].references.append(point.reference)
                self._rows[-1].columns.append([math.nan] * len(LETTERS))
        if not self._full and point.alternative in LETTERS:
            self._rows[-1].columns[-1][LETTERS.index(point.alternative)] = point.values[self._score]

    def draw(self, figure: Any, model: str) -> None:
        """Draw the rows, all with the same colours."""
        from matplotlib import colormaps

        longest = max(len(row.references) for row in self._rows)
        figure.set_size_inches(WIDTH * max(longest, ROW // 2) / ROW + 1.6, 1.3 + ROW_HEIGHT * len(self._rows))
        panels = figure.subplots(len(self._rows), 1, squeeze=False)[:, 0]
        signed = SCORES[self._score].signed
        values = np.concatenate([np.array(row.columns).ravel() for row in self._rows])
        given = values[~np.isnan(values)]
        # A few extremes shall not make all others pale.
        limit = float(np.percentile(np.abs(given), 99)) if len(given) else 1.0
        low = -limit if signed or not len(given) else float(given.min())
        colors = colormaps[SIGNED_COLORS if signed else UNSIGNED_COLORS].with_extremes(bad=NO_CHANGE)
        for axes, row in zip(panels, self._rows, strict=True):
            drawn = row.draw(axes, longest, {"cmap": colors, "vmin": low, "vmax": limit})
        bar = figure.colorbar(drawn, ax=list(panels), aspect=12, shrink=min(1, 3 / len(panels)))
        bar.outline.set_visible(False)
        shown = sum(len(row.references) for row in self._rows)
        left = "" if shown == self._bases else f", the first {shown:,} shown"
        what = f"Every change of {self._bases:,} bases{left}; dots mark the reference"
        _title(figure, f"{what}\n{_label(self._score)}", model)


class _Row:
    """Neighbouring bases of a region."""

    def __init__(self, region: str, contig: str, first: int) -> None:
        self.region, self.contig, self.first = region, contig, first
        self.references: list[str] = []
        self.columns: list[list[float]] = []

    def draw(self, axes: Any, longest: int, look: dict[str, Any]) -> Any:
        """Draw the row in axes as long as the longest."""
        count = len(self.references)
        extent = (self.first - 0.5, self.first + count - 0.5, len(LETTERS) - 0.5, -0.5)
        drawn = axes.imshow(np.array(self.columns).T, aspect="auto", interpolation="none", extent=extent, **look)
        known = [(self.first + n, LETTERS.index(x)) for n, x in enumerate(self.references) if x in LETTERS]
        if known:
            axes.plot(*np.array(known).T, linestyle="", marker=".", color="black", markersize=2.5)
        axes.set_xlim(self.first - 0.5, self.first + longest - 0.5)
        axes.set_yticks(range(len(LETTERS)), list(LETTERS), fontsize=7)
        ticks = [position for position in range(self.first, self.first + count) if position % 10 == 0]
        axes.set_xticks(ticks or [self.first], [f"{tick:,}" for tick in ticks or [self.first]], fontsize=6.5)
        axes.tick_params(length=2)
        axes.set_title(shortened(f"{self.contig} · {self.region}"), loc="left", fontsize=7, pad=2, color="#595959")
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
        return drawn


def _names(points: Sequence[Point]) -> list[str]:
    """Return a name for each point; those that share one have their change behind it."""
    counts = Counter(point.name for point in points)
    alone = [point.id not in ("", ".") and counts[point.name] == 1 for point in points]
    return [point.name if one else f"{point.name} {point.change}" for point, one in zip(points, alone, strict=True)]


def _label(score: str) -> str:
    return f"{score} (ALT less likely < 0 < more likely)" if SCORES[score].signed else score


def _title(figure: Any, what: str, model: str) -> None:
    figure.suptitle(f"{what}\n{printable(model[:LONGEST_MODEL])}", x=0.01, ha="left", fontsize=10)
