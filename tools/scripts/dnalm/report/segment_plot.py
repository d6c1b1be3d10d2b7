"""Tracks over the axis of bases: what a segmenter says of a region, one row a feature, with the segments called.

As figure 3 of de Almeida et al. 2025, doi:10.1038/s41592-025-02881-2.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnalm.errors import printable
from dnalm.report.plots import PALETTE, RESOLUTION, STYLE, picture_metadata

COLORS = tuple(color for color in PALETTE if color not in ("#000000", "#F0E442"))  # black and pale yellow make no areas
MOST_BINS = 1_200  # about the dots that a track is wide
WIDTH, ROW, ABOVE, BELOW = 9.0, 0.46, 0.86, 0.55  # inches
LABELS = 0.225  # of the width
LOW, TOP = -0.34, 1.06  # of a row's own axis; segments lie below 0
BAR = (-0.27, 0.15)  # where a segment's bar begins, and its height
NO_DATA = "#E9E9E9"
GREY = "#6B6B6B"
LONGEST_FEATURE, LONGEST_CONTIG, LONGEST_MODEL = 27, 60, 90  # letters
ROUND_TICKS = ((1_000_000, "Mb"), (1_000, "kb"), (1, "bases"))


def feature_colors(count: int) -> list[str]:
    """Return a colour for each feature."""
    return list(islice(cycle(COLORS), count))


@dataclass
class RegionPicture:
    """What is shown of a region, gathered as it comes: mean and highest probability of each bin of bases.

    Attributes:
        contig, start, end: the region, 0-based half-open.
        features: names.
        thresholds: of the calls, one a feature.
        segments: start and end of the segments called, one list a feature.
    """

    contig: str
    start: int
    end: int
    features: Sequence[str]
    thresholds: Sequence[float]
    segments: list[list[tuple[int, int]]] = field(init=False)

    def __post_init__(self) -> None:
        bins = min(self.end - self.start, MOST_BINS)
        self._edges = np.linspace(self.start, self.end, bins + 1).round().astype(np.int64)
        self._counts = np.zeros(bins, dtype=np.int64)
        self._sums = np.zeros((bins, len(self.features)))
        self._most = np.full((bins, len(self.features)), -np.inf, dtype=np.float32)
        self.segments = [[] for _ in self.features]

    def add(self, start: int, probabilities: NDArray[np.float32]) -> None:
        """Add what lies in the region of the probabilities of bases from `start` on; shape (bases, features)."""
        first, last = max(start, self.start), min(start + len(probabilities), self.end)
        if first >= last:
            return
        values = probabilities[first - start : last - start]
        bins = np.searchsorted(self._edges, np.arange(first, last), side="right") - 1
        firsts = np.flatnonzero(np.diff(bins, prepend=-1))
        met = bins[firsts]
        self._counts[met] += np.diff(firsts, append=len(bins))
        self._sums[met] += np.add.reduceat(values, firsts, axis=0, dtype=np.float64)
        self._most[met] = np.maximum(self._most[met], np.maximum.reduceat(values, firsts, axis=0))

    def add_segments(self, feature: int, segments: NDArray[np.float64]) -> None:
        """Add the segments of a feature that meet the region; columns start and end come first."""
        meeting = segments[(segments[:, 0] < self.end) & (segments[:, 1] > self.start), :2]
        self.segments[feature] += [(int(start), int(end)) for start, end in meeting]

    def draw(self, path: Path, model: str, figure_format: str, facts: Mapping[str, Any]) -> None:
        """Write the picture."""
        from matplotlib import style
        from matplotlib.figure import Figure

        rows = len(self.features)
        height = ABOVE + rows * ROW + BELOW
        with style.context(["default", STYLE]):
            figure = Figure(figsize=(WIDTH, height))
            grid = figure.add_gridspec(
                *(rows, 1), left=LABELS, right=0.965, top=1 - ABOVE / height, bottom=BELOW / height, hspace=0.0
            )
            for row, color in enumerate(feature_colors(rows)):
                self._draw_row(figure.add_subplot(grid[row]), row, color)
            self._draw_positions(figure.axes[-1])
            self._write_above(figure, height, model)
            figure.savefig(
                path,
                format=figure_format,
                dpi=RESOLUTION[figure_format],
                metadata=picture_metadata(figure_format, facts),
            )

    def _draw_row(self, axes: Any, row: int, color: str) -> None:
        means = np.divide(
            self._sums[:, row], self._counts, where=self._counts > 0, out=np.full(len(self._counts), np.nan)
        )
        most = np.where(self._counts > 0, self._most[:, row], np.nan)
        axes.set_xlim(self.start, self.end)
        axes.set_ylim(LOW, TOP)
        for start, end in self._empty():
            axes.axvspan(start, end, color=NO_DATA, linewidth=0, zorder=0)
        axes.axhline(self.thresholds[row], color="#B5B5B5", linewidth=0.6, linestyle=(0, (2, 2)), zorder=1)
        if self._binned:
            axes.stairs(np.nan_to_num(most), self._edges, fill=True, color=color, alpha=0.32, linewidth=0, zorder=2)
        axes.stairs(np.nan_to_num(means), self._edges, fill=True, color=color, alpha=0.95, linewidth=0, zorder=3)
        axes.axhline(0, color="#9A9A9A", linewidth=0.6, zorder=4)
        # A segment of two bases shall be seen in a picture of 50,000.
        narrowest = (self.end - self.start) / MOST_BINS
        bars = [(start, max(end - start, narrowest)) for start, end in self.segments[row]]
        axes.broken_barh(bars, BAR, color=color, linewidth=0, zorder=4)
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
        axes.set_xticks([])
        axes.set_yticks([0, 1], labels=["0", "1"], fontsize=6, color=GREY)
        axes.tick_params(axis="y", length=2, width=0.5, color=GREY, pad=1.5)
        name = self.features[row].replace("_", " ")
        shown = name if len(name) <= LONGEST_FEATURE else f"{name[: LONGEST_FEATURE - 1]}…"
        axes.annotate(
            printable(shown),
            xy=(0, 0.5),
            xycoords="axes fraction",
            xytext=(-16, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=8.5,
        )

    @property
    def _binned(self) -> bool:
        return self.end - self.start > len(self._counts)

    def _empty(self) -> list[tuple[int, int]]:
        """Return where there is no probability."""
        empty = np.flatnonzero(np.diff(self._counts == 0, prepend=False, append=False))
        return [(int(self._edges[first]), int(self._edges[last])) for first, last in empty.reshape(-1, 2)]

    def _draw_positions(self, axes: Any) -> None:
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        length = self.end - self.start
        unit, name = next((found for found in ROUND_TICKS if length >= 2 * found[0]), ROUND_TICKS[-1])
        locator = MaxNLocator(6, steps=[1, 2, 5, 10], integer=True)
        axes.xaxis.set_major_locator(locator)
        # Position 1 of the text is the base that stands first: 0 of the axis.
        axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{at / unit:,.10g}"))
        axes.spines["bottom"].set_visible(True)
        axes.tick_params(axis="x", width=0.7, labelsize=8.5)
        axes.set_xlabel(f"Position ({name})")

    def _write_above(self, figure: Any, height: float, model: str) -> None:
        said = ["bars: segments called"]
        if self._binned:
            said.insert(0, "dark: mean, light: highest of the bases in a dot's width")
        if (self._counts == 0).any():
            said.append("grey: no data")
        contig = self.contig if len(self.contig) <= LONGEST_CONTIG else f"{self.contig[: LONGEST_CONTIG - 1]}…"
        lines = [
            (f"{contig}: {self.start + 1:,} to {self.end:,}", {"fontsize": 12, "fontweight": "bold"}),
            (f"Probabilities by {model[:LONGEST_MODEL]}", {"fontsize": 8.5, "color": "#404040"}),
            ("  ·  ".join(said), {"fontsize": 8, "color": GREY}),
        ]
        for (text, look), below in zip(lines, (0.26, 0.48, 0.66), strict=True):
            figure.text(LABELS, 1 - below / height, printable(text), va="center", **look)
