"""What the picture of a fine-tuning shows: bars, curves, confusion, calibration, residuals."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dnalm.engine.training_run import Run
from dnalm.methods.splits import TEST, TRAIN
from dnalm.models.head_config import HeadFacts, Task
from dnalm.report.evaluation_plots import Bar, Evaluation, LabelCurves, Residuals
from dnalm.report.plots import Curve
from dnalm.tasks import finetuning_picture
from dnalm.tasks.finetuning_data import Example
from dnalm.tasks.finetuning_picture import draw, reliability
from dnalm.tasks.finetuning_results import Judgement, Metric
from dnalm.tasks.finetuning_split import Dataset
from numpy.typing import NDArray
from sklearn.metrics import auc, average_precision_score, roc_auc_score

Drawn = tuple[Evaluation, LabelCurves | Residuals]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Drawn]:
    """What is given to be drawn, instead of drawing it."""
    found: list[Drawn] = []
    monkeypatch.setattr(finetuning_picture, "draw_evaluation", lambda path, *given: found.append(given))
    return found


def dataset(task: Task, labels: tuple[str, ...], targets: NDArray[Any]) -> Dataset:
    """Return sequences that test, behind one that trains and is no part of the picture."""
    targets = np.concatenate([targets[:1], targets])
    sides = np.array([TRAIN] + [TEST] * (len(targets) - 1))
    return Dataset(task, labels, [Example("x", "A", None)] * len(targets), targets, sides, None)


def draw_judged(
    task: Task,
    labels: tuple[str, ...],
    targets: NDArray[Any],
    outcomes: NDArray[Any],
    calls: NDArray[np.bool_],
    metrics: tuple[Metric, ...] = (),
    run: Run | None = None,
) -> None:
    judgement = Judgement("probe", HeadFacts(task, labels), outcomes, calls)
    draw(Path("picture"), dataset(task, labels, targets), judgement, metrics, run)


def label_curves(drawn: list[Drawn]) -> LabelCurves:
    ((_, found),) = drawn
    assert isinstance(found, LabelCurves)
    return found


def test_bars_are_of_methods_and_curves_of_the_training(drawn: list[Drawn]) -> None:
    metrics = (
        Metric("gc", "auroc", 0.6, 0.5, 0.7, 4),
        Metric("gc", "mcc", 0.1, 0.0, 0.2, 4),
        Metric("gc", "auprc", 0.3, 0.2, 0.4, 4),
        Metric("lora", "auroc", 0.9, 0.8, 1.0, 4),
        Metric("lora", "mcc", 0.7, 0.6, 0.8, 4),
        Metric("lora - gc", "auroc", 0.3, 0.2, 0.4, 4),
    )
    log: list[dict[str, Any]] = [
        {"step": 5, "split": "training", "loss": 0.7},
        {"step": 5, "split": "validation", "loss": 0.8},
        {"step": 9, "split": "training", "loss": 0.4},
    ]
    outcomes = np.array([[0.9, 0.1], [0.2, 0.8]])
    draw_judged("classify", ("a", "b"), np.array([0, 1]), outcomes, outcomes > 0.5, metrics, Run(log, best_step=5))
    ((evaluation, _),) = drawn
    assert evaluation == Evaluation(
        title="probe: 2 held-out sequences",
        methods={
            "AUROC": [Bar("gc", 0.6, 0.5, 0.7), Bar("lora", 0.9, 0.8, 1.0)],
            "MCC": [Bar("gc", 0.1, 0.0, 0.2), Bar("lora", 0.7, 0.6, 0.8)],
        },
        training={"training": Curve([5, 9], [0.7, 0.4]), "validation": Curve([5], [0.8])},
        best_step=5,
    )


def test_without_a_training_there_is_no_curve(drawn: list[Drawn]) -> None:
    outcomes = np.array([[0.9], [0.2]])
    draw_judged("multilabel", ("a",), np.array([[1], [0]]), outcomes, outcomes > 0.5)
    ((evaluation, _),) = drawn
    assert (evaluation.training, evaluation.best_step) == ({}, 0)
    assert list(evaluation.methods) == ["AUROC", "Macro F1"]


def test_of_two_classes_the_second_has_curves(drawn: list[Drawn]) -> None:
    truth = np.array([0, 0, 0, 1, 1, 1, 1, 0, 0, 0])
    said = np.array([0.1, 0.6, 0.3, 0.8, 0.4, 0.7, 0.9, 0.2, 0.5, 0.05])
    outcomes = np.stack([1 - said, said], axis=1)
    draw_judged("classify", ("a", "b"), truth, outcomes, np.stack([said <= 0.55, said > 0.55], axis=1))
    found = label_curves(drawn)
    assert (found.labels, found.exclusive) == (["a", "b"], True)
    assert found.confusion.tolist() == [[5, 1], [1, 3]]
    assert list(found.curves) == ["b"]
    false_rate, true_rate, recall, precision = found.curves["b"]
    assert auc(false_rate, true_rate) == pytest.approx(roc_auc_score(truth, said))
    assert -(np.diff(recall) * precision[:-1]).sum() == pytest.approx(average_precision_score(truth, said))
    assert found.base_rate == pytest.approx(0.4)
    # Two bins of five predictions of the second class each.
    means, shares, counts = found.reliability
    assert means.tolist() == pytest.approx([(0.05 + 0.1 + 0.2 + 0.3 + 0.4) / 5, (0.5 + 0.6 + 0.7 + 0.8 + 0.9) / 5])
    assert shares.tolist() == pytest.approx([1 / 5, 3 / 5])
    assert counts.tolist() == [5, 5]


def test_of_many_classes_the_commonest_have_curves(drawn: list[Drawn]) -> None:
    """Of eleven classes with 1 to 9 and 0 sequences, and one of three, eight have curves."""
    labels = tuple(f"c{number}" for number in range(11))
    truth = np.repeat(np.arange(11), [3, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0])
    outcomes = np.random.default_rng(0).random((len(truth), 11))
    calls = outcomes == outcomes.max(axis=1, keepdims=True)
    draw_judged("classify", labels, truth, outcomes, calls)
    found = label_curves(drawn)
    assert list(found.curves) == ["c9", "c8", "c7", "c6", "c5", "c4", "c0", "c3"]
    assert found.base_rate == pytest.approx((9 + 8 + 7 + 6 + 5 + 4 + 3 + 3) / 8 / 48)
    false_rate, true_rate, *_ = found.curves["c9"]
    assert auc(false_rate, true_rate) == pytest.approx(roc_auc_score(truth == 9, outcomes[:, 9]))
    assert found.confusion.sum(axis=1).tolist() == [3, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    assert found.confusion.sum(axis=0).tolist() == calls.sum(axis=0).tolist()
    # All labels count in the calibration.
    assert found.reliability[2].sum() == 48 * 11


def test_of_several_labels_found_missed_and_wrong_ones_are_counted(drawn: list[Drawn]) -> None:
    targets = np.array([[1, 0, 1], [1, 0, 0], [0, 0, 1], [1, 0, 0]])
    outcomes = np.array([[0.9, 0.6, 0.2], [0.3, 0.1, 0.7], [0.6, 0.2, 0.8], [0.7, 0.2, 0.1]])
    draw_judged("multilabel", ("a", "b", "c"), targets, outcomes, outcomes > 0.5)
    found = label_curves(drawn)
    assert not found.exclusive
    assert found.confusion.tolist() == [[2, 1, 1], [0, 0, 1], [1, 1, 1]]
    assert list(found.curves) == ["a", "c"]  # b is true of none
    assert found.base_rate == pytest.approx(5 / 12)


def test_quantities_have_residuals(drawn: list[Drawn]) -> None:
    outcomes = np.array([[1.5], [2.0], [3.0]])
    draw_judged("regress", ("gc",), np.array([[1.0], [2.0], [4.0]]), outcomes, outcomes > 9)
    ((evaluation, found),) = drawn
    assert isinstance(found, Residuals)
    assert (found.name, found.true.tolist(), found.predicted.tolist()) == ("gc", [1, 2, 4], [1.5, 2, 3])
    assert list(evaluation.methods) == ["R²", "Spearman"]


def test_reliability_is_of_bins_of_as_many() -> None:
    said, uniform = np.random.default_rng(0).random((2, 1_000))
    right = uniform < said
    means, shares, counts = reliability(said, right)
    assert counts.tolist() == [100] * 10
    assert means == pytest.approx(shares, abs=0.15)
    assert means == pytest.approx(np.sort(said).reshape(10, 100).mean(axis=1))
    assert len(reliability(said[:16], right[:16])[2]) == 3
    assert len(reliability(said[:2], right[:2])[2]) == 1
