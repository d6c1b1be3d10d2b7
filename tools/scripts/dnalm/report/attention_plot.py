"""Heat maps of attention over base positions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnalm.report.plots import RESOLUTION, STYLE, picture_metadata, shortened

MOST_PIXELS = 600  # a side of a map
COLUMNS, MOST_COLUMNS = 4, 6  # maps side by side; at most, where every sequence has a row of its own
PANEL = (2.6, 2.25)  # inches, a map with what stands around it
ALONE = 1.7  # times as large is a map by itself
GAMMA = 0.5  # attention has few large values and many small ones: colours follow its square root
COLORS = "viridis"
Positions = NDArray[np.signedinteger[Any]]


@dataclass(frozen=True)
class AttentionPanel:
    """A map in pixels, shape (pixels, pixels), each of so many bases; what is attended to runs to the right."""

    title: str
    pixels: NDArray[np.float32]
    bases_a_pixel: int
    bases: int


def attention_panel(title: str, attention: NDArray[np.float32], starts: Positions, ends: Positions) -> AttentionPanel:
    """Return a map over the bases of its tokens; special tokens, which have none, are left out.

    A pixel that several tokens share has the largest of their values.

    Args:
        title: what stands above it.
        attention: shape (tokens, tokens), the attending token first.
        starts: 0-based first base of each token.
        ends: past-the-end base of each.
    """
    covering = ends > starts
    bases = int(ends.max(initial=0))
    inner = attention[np.ix_(covering, covering)]
    bases_a_pixel = -(-bases // MOST_PIXELS)
    edges = np.arange(0, bases, bases_a_pixel)
    first = np.searchsorted(ends[covering], edges, side="right")
    pixels = np.maximum.reduceat(np.maximum.reduceat(inner, first, axis=0), first, axis=1)
    return AttentionPanel(title, pixels, bases_a_pixel, bases)


def draw_attention(
    panels: Sequence[AttentionPanel], heads: int, note: str, facts: Mapping[str, Any], path: Path
) -> None:
    """Draw maps in the order given, so many of each sequence, each with its own scale of colours; PNG."""
    from matplotlib import style
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    columns = min(heads if 1 < heads <= MOST_COLUMNS else COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    with style.context(["default", STYLE | {"font.size": 7.5}]):
        scale = ALONE if len(panels) == 1 else 1.0
        size = (scale * PANEL[0] * columns + 0.3, scale * PANEL[1] * rows + 0.7)
        figure = Figure(figsize=size, layout="constrained")
        drawn = figure.subplots(rows, columns, squeeze=False)
        for number, axes in enumerate(drawn.flat):
            if number >= len(panels):
                axes.set_axis_off()
                continue
            panel = panels[number]
            end = len(panel.pixels) * panel.bases_a_pixel + 0.5
            image = axes.imshow(
                panel.pixels,
                cmap=COLORS,
                norm=PowerNorm(GAMMA, vmin=0, vmax=float(panel.pixels.max()) or 1.0),
                extent=(0.5, end, end, 0.5),
                interpolation="nearest",
            )
            axes.set(xlim=(0.5, panel.bases + 0.5), ylim=(panel.bases + 0.5, 0.5))
            axes.set_title(panel.title, fontsize=8, fontweight="bold", loc="left")
            axes.tick_params(length=2)
            bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
            bar.outline.set_visible(False)
            bar.ax.tick_params(length=2, labelsize=6.5)
        figure.supxlabel("Attended base", fontsize=8.5)
        figure.supylabel("Attending base", fontsize=8.5)
        figure.suptitle(note, fontsize=8.5, color="#595959", x=0.02, ha="left")
        figure.savefig(path, format="png", dpi=RESOLUTION["png"], metadata=picture_metadata("png", facts))


def panel_title(name: str, head: str) -> str:
    """Return what stands above a map."""
    return f"{shortened(name)}\nlayer {head.replace('.', ', head ')}"
