"""Pictures of how well a segmenter's features are found."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnalm.report.plots import OTHER, PALETTE, RESOLUTION, STYLE, shortened

# AUPRC is the first: chance is marked beside it.
CHANCE = "base rate: AUPRC of chance"
NAMES = {"auprc": "AUPRC", "mcc": "MCC", "f1": "F1"}
MOST_CURVES = len(PALETTE)
ROW = 0.3  # inches a metric of a feature
LONGEST_LABEL = 30


@dataclass(frozen=True)
class Evaluated:
    """A feature: its share of the bases, metrics with the ends of their intervals, and its recall and precision."""

    feature: str
    base_rate: float
    metrics: Mapping[str, tuple[float, float, float]]
    curve: tuple[NDArray[np.float64], NDArray[np.float64]] | None


def draw_evaluation(features: Sequence[Evaluated], facts: Mapping[str, Any], path: Path) -> None:
    """Draw metrics with intervals, and where there are scores precision over recall; PNG."""
    from matplotlib import style
    from matplotlib.figure import Figure

    curves = [one for one in features if one.curve is not None][:MOST_CURVES]
    with style.context(["default", STYLE]):
        height = max(3.2, 1.4 + ROW * (len(NAMES) + 0.6) * len(features))
        figure = Figure(figsize=(11 if curves else 6, min(height, 60)), layout="constrained")
        axes = figure.subplots(1, 2 if curves else 1, squeeze=False)[0]
        _draw_metrics(axes[0], features)
        if curves:
            _draw_curves(axes[1], curves)
        said = json.dumps(facts, sort_keys=True)
        figure.savefig(path, format="png", dpi=RESOLUTION["png"], metadata={"Software": None, "Description": said})


def _draw_metrics(axes: Any, features: Sequence[Evaluated]) -> None:
    centres, named = [], set()

    def label_of(name: str) -> str | None:
        """Return what the legend says, once."""
        said = None if name in named else name
        named.add(name)
        return said

    for number, one in enumerate(features):
        rows = number * (len(NAMES) + 0.6) + np.arange(len(NAMES))
        centres.append(float(rows.mean()))
        for row, metric, color in zip(rows, NAMES, PALETTE, strict=False):
            value, low, high = one.metrics[metric]
            if np.isnan(value):
                continue
            if not np.isnan(low):
                axes.plot([low, high], [row, row], color=color, linewidth=1.6, solid_capstyle="butt")
            axes.plot(value, row, "o", color=color, markersize=4.5, label=label_of(NAMES[metric]))
        if not np.isnan(one.metrics["auprc"][0]):
            ends = rows[0] + np.array([-0.4, 0.4])  # beside AUPRC alone
            axes.plot([one.base_rate] * 2, ends, color=OTHER, linewidth=2, label=label_of(CHANCE))
    axes.set_yticks(centres, [shortened(one.feature, LONGEST_LABEL) for one in features])
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("Score with its 95 % interval over blocks")
    lowest = min((low for one in features for _, low, _ in one.metrics.values() if not np.isnan(low)), default=0)
    axes.set_xlim(min(-0.02, lowest - 0.02), 1.02)
    if axes.get_legend_handles_labels()[1]:  # without a metric of any feature there is nothing to name
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.13), ncols=4)


def _draw_curves(axes: Any, features: Sequence[Evaluated]) -> None:
    for color, one in zip(PALETTE, features, strict=False):
        assert one.curve is not None
        recall, precision = one.curve
        axes.plot(recall, precision, color=color, linewidth=1.4, label=shortened(one.feature, LONGEST_LABEL))
        axes.axhline(one.base_rate, color=color, linewidth=0.8, linestyle=":")
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("Recall of bases")
    axes.set_ylabel("Precision of bases (dotted: base rate)")
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.13), ncols=3)
