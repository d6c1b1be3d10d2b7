"""Pictures of an evaluation of any number of labels, and of quantities."""

from pathlib import Path

import numpy as np
import pytest
from dnalm.report.evaluation_plots import Bar, Evaluation, LabelCurves, Residuals, draw_evaluation
from dnalm.report.plots import Curve


def evaluation(trained: bool) -> Evaluation:
    bars = [Bar("majority", 0.5, np.nan, np.nan), Bar("probe", 0.8, 0.7, 0.9)]
    curve = {"training": Curve([1, 2, 3], [3.0, 2.0, 1.0]), "validation": Curve([2], [2.5])} if trained else {}
    return Evaluation(
        "probe: 9 sequences", {"AUROC": bars, "MCC": [*bars[:1], Bar("x", np.nan, np.nan, np.nan)]}, curve, 2
    )


def curves(labels: int, exclusive: bool) -> LabelCurves:
    names = [f"a $class$ with a name that is far too long {number}" for number in range(labels)]
    confusion = np.random.default_rng(0).integers(0, 30, (labels, labels if exclusive else 3))
    line = np.linspace(0, 1, 5)
    of_labels = dict.fromkeys(names[:8], (line, line**0.5, line, 1 - line / 2))
    return LabelCurves(names, confusion, exclusive, of_labels, 0.3, (line, line**2, np.array([5, 6, 7, 8, 9])))


def size(path: Path) -> tuple[int, int]:
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG")
    return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")


@pytest.mark.slow
@pytest.mark.parametrize(("labels", "exclusive"), [(2, True), (6, True), (40, True), (3, False), (60, False)])
@pytest.mark.parametrize("trained", [False, True])
def test_labels_of_any_number_are_drawn_in_one_size(
    tmp_path: Path, labels: int, exclusive: bool, trained: bool
) -> None:
    draw_evaluation(tmp_path / "f", evaluation(trained), curves(labels, exclusive))
    assert size(tmp_path / "f") == (1620, 990)


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, 60, 20_000])
def test_quantities_are_drawn(tmp_path: Path, count: int) -> None:
    true, noise = np.random.default_rng(0).normal(size=(2, count))
    draw_evaluation(tmp_path / "f", evaluation(True), Residuals("activity", true, true + noise))
    assert size(tmp_path / "f") == (1620, 990)


@pytest.mark.slow
def test_the_same_picture_is_the_same_bytes(tmp_path: Path) -> None:
    found = curves(3, True)
    for name in ("one", "two"):
        draw_evaluation(tmp_path / name, evaluation(True), found)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
