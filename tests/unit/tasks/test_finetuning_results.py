"""What is told of each method: calibrated probabilities, calls, metrics with intervals, and gains."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from dnalm.methods.splits import TEST, TRAIN, VALIDATE
from dnalm.models.head_config import HeadFacts, Task
from dnalm.tasks import finetuning_results
from dnalm.tasks.finetuning_data import Example
from dnalm.tasks.finetuning_results import (
    Judgement,
    Metric,
    gain,
    judge,
    measured,
    metrics_table,
    predictions_table,
    sentence,
)
from dnalm.tasks.finetuning_split import Dataset
from numpy.typing import NDArray
from sklearn import metrics

Numbers = NDArray[Any]


def dataset(task: Task, labels: tuple[str, ...], targets: Numbers, sides: list[int], clusters: Any = None) -> Dataset:
    examples = [Example(f"s{number}", "ACGT", None) for number in range(len(targets))]
    return Dataset(task, labels, examples, targets, np.array(sides), clusters)


def noisy(targets: Numbers, labels: int, seed: int) -> Numbers:
    """Return overconfident logits that are right more often than not."""
    generator = np.random.default_rng(seed)
    return 4 * ((targets[:, None] == np.arange(labels)) + generator.normal(size=(len(targets), labels)))


@pytest.fixture
def two_classes() -> Dataset:
    """Forty sequences that validate, thirty that test, of classes that take turns."""
    return dataset("classify", ("a", "b"), np.arange(80) % 2, [TRAIN] * 10 + [VALIDATE] * 40 + [TEST] * 30)


@pytest.fixture
def judged(two_classes: Dataset) -> Judgement:
    sides = (two_classes.targets[two_classes.of(side)] for side in (VALIDATE, TEST))
    logits = [noisy(targets, 2, seed) for seed, targets in enumerate(sides)]
    return judge("probe", two_classes, HeadFacts("classify", ("a", "b")), *logits)


def softmax(logits: Numbers) -> Numbers:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_the_temperature_makes_validation_most_likely(two_classes: Dataset, judged: Judgement) -> None:
    """Of a fine grid of temperatures, none is better; truth counts as Platt has it, 41/42 and 1/42."""
    logits = noisy(two_classes.targets[10:50], 2, 0)
    truth = np.where(two_classes.targets[10:50, None] == np.arange(2), 41 / 42, 1 / 42)

    def loss(temperature: float) -> float:
        return -(truth * np.log(softmax(logits / temperature))).sum()

    grid = np.exp(np.linspace(np.log(0.1), np.log(10), 2_001))
    assert judged.facts.temperature == pytest.approx(grid[np.argmin([loss(value) for value in grid])], rel=0.005)
    assert judged.facts.temperature > 1.5  # the logits are too sure


def test_two_classes_part_where_the_correlation_is_greatest(two_classes: Dataset, judged: Judgement) -> None:
    assert judged.facts.thresholds is not None
    lower, limit = judged.facts.thresholds
    assert lower == pytest.approx(1 - limit)
    validated = softmax(noisy(two_classes.targets[10:50], 2, 0) / judged.facts.temperature)[:, 1]
    truth = two_classes.targets[10:50]
    chosen = metrics.matthews_corrcoef(truth, validated > limit)
    assert all(chosen >= metrics.matthews_corrcoef(truth, validated > other) - 1e-9 for other in validated)
    expected = softmax(noisy(two_classes.targets[50:], 2, 1) / judged.facts.temperature)
    np.testing.assert_allclose(judged.outcomes, expected, rtol=1e-9)
    assert judged.calls.tolist() == [[row[1] <= limit, row[1] > limit] for row in expected.tolist()]


def test_what_is_chosen_does_not_depend_on_the_test(two_classes: Dataset, judged: Judgement) -> None:
    targets = two_classes.targets.copy()
    targets[50:] = 1 - targets[50:]
    other = replace(two_classes, targets=targets)
    logits = noisy(two_classes.targets[10:50], 2, 0), noisy(targets[50:], 2, 7)
    assert judge("probe", other, HeadFacts("classify", ("a", "b")), *logits).facts == judged.facts


def test_of_more_classes_the_most_probable_is_called() -> None:
    targets = np.arange(60) % 3
    data = dataset("classify", ("a", "b", "c"), targets, [VALIDATE] * 30 + [TEST] * 30)
    logits = noisy(targets, 3, 0)
    found = judge("full", data, HeadFacts("classify", ("a", "b", "c")), logits[:30], logits[30:])
    assert found.facts.thresholds is None
    np.testing.assert_allclose(found.outcomes, softmax(logits[30:] / found.facts.temperature), rtol=1e-9)
    assert found.calls.argmax(axis=1).tolist() == logits[30:].argmax(axis=1).tolist()
    assert found.calls.sum(axis=1).tolist() == [1] * 30


def test_each_of_several_labels_has_a_threshold_of_its_own() -> None:
    """The second label has too few true sequences to choose one, and keeps one half."""
    generator = np.random.default_rng(0)
    targets = np.stack([np.arange(80) % 2, np.arange(80) % 20 == 0], axis=1).astype(np.int64)
    logits = 2 * targets - 3 + generator.normal(size=(80, 2))
    data = dataset("multilabel", ("a", "b"), targets, [VALIDATE] * 40 + [TEST] * 40)
    found = judge("full", data, HeadFacts("multilabel", ("a", "b")), logits[:40], logits[40:])
    assert found.facts.thresholds is not None
    assert found.facts.thresholds[0] != 0.5
    assert found.facts.thresholds[1] == 0.5
    np.testing.assert_allclose(found.outcomes, 1 / (1 + np.exp(-logits[40:] / found.facts.temperature)), rtol=1e-9)
    assert found.calls.tolist() == (found.outcomes >= found.facts.thresholds).tolist()


def test_quantities_are_told_in_their_own_unit() -> None:
    data = dataset("regress", ("gc",), np.arange(6.0)[:, None], [VALIDATE] * 3 + [TEST] * 3)
    facts = HeadFacts("regress", ("gc",), target_mean=(10.0,), target_scale=(2.0,))
    found = judge("probe", data, facts, np.zeros((3, 1)), np.array([[0.0], [-1.0], [0.5]]))
    assert found.outcomes.tolist() == [[10.0], [8.0], [11.0]]
    assert not found.calls.any()
    assert found.facts == facts


def test_metrics_of_two_classes_are_scikit_learns(two_classes: Dataset, judged: Judgement) -> None:
    truth, called = two_classes.targets[50:], judged.calls.argmax(axis=1)
    expected = {
        "accuracy": metrics.accuracy_score(truth, called),
        "balanced_accuracy": metrics.balanced_accuracy_score(truth, called),
        "mcc": metrics.matthews_corrcoef(truth, called),
        "macro_f1": metrics.f1_score(truth, called, average="macro"),
        "auroc": metrics.roc_auc_score(truth, judged.outcomes[:, 1]),
        "auprc": metrics.average_precision_score(truth, judged.outcomes[:, 1]),
    }
    found = list(measured(judged, two_classes, seed=0))
    assert [metric.name for metric in found] == list(expected)
    for metric in found:
        assert (metric.method, metric.sequences) == ("probe", 30)
        assert metric.value == pytest.approx(expected[metric.name])
        assert metric.low < metric.value < metric.high


def test_metrics_of_more_classes_are_means_over_classes() -> None:
    targets = np.arange(30) % 3
    data = dataset("classify", ("a", "b", "c"), targets, [TEST] * 30)
    outcomes = softmax(noisy(targets, 3, 0))
    calls = outcomes == outcomes.max(axis=1, keepdims=True)
    judgement = Judgement("full", HeadFacts("classify", data.labels), outcomes, calls)
    found = {metric.name: metric.value for metric in measured(judgement, data, seed=0)}
    assert found["accuracy"] == pytest.approx((outcomes.argmax(axis=1) == targets).mean())
    each = [metrics.roc_auc_score(targets == number, outcomes[:, number]) for number in range(3)]
    assert found["auroc"] == pytest.approx(np.mean(each))
    each = [metrics.average_precision_score(targets == number, outcomes[:, number]) for number in range(3)]
    assert found["auprc"] == pytest.approx(np.mean(each))


def test_metrics_of_several_labels_are_means_over_labels() -> None:
    targets = np.array([[1, 0], [1, 1], [0, 0], [0, 1]])
    outcomes = np.array([[0.9, 0.2], [0.4, 0.7], [0.6, 0.1], [0.1, 0.3]])
    data = dataset("multilabel", ("a", "b"), targets, [TEST] * 4)
    judgement = Judgement("full", HeadFacts("multilabel", ("a", "b")), outcomes, outcomes >= 0.5)
    found = {metric.name: metric.value for metric in measured(judgement, data, seed=0)}
    # By hand: a is called of sequences 0 and 2, b of 1; five of eight flags are right.
    assert found["accuracy"] == pytest.approx(5 / 8)
    assert found["macro_f1"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert found["auroc"] == pytest.approx((3 / 4 + 1) / 2)
    assert list(found) == ["accuracy", "macro_f1", "auroc", "auprc"]


def test_metrics_of_quantities() -> None:
    data = dataset("regress", ("gc",), np.array([[1.0], [2.0], [3.0], [6.0]]), [TEST] * 4)
    outcomes = np.array([[1.0], [3.0], [2.0], [6.0]])
    judgement = Judgement("probe", HeadFacts("regress", ("gc",)), outcomes, np.zeros((4, 1), dtype=bool))
    found = {metric.name: metric.value for metric in measured(judgement, data, seed=0)}
    # The squared errors add up to 2, the squared distances from the mean 3 to 14; two ranks are swapped.
    assert found == pytest.approx({"r2": 1 - 2 / 14, "spearman": 0.8, "pearson": 13 / 14})


def test_intervals_are_wider_where_whole_groups_are_drawn() -> None:
    """Ten groups of three, of which every second is called wrongly as a whole."""
    targets, groups = np.arange(30) % 2, np.arange(30) // 3
    calls = (targets ^ groups % 2)[:, None] == np.arange(2)
    judgement = Judgement("probe", HeadFacts("classify", ("a", "b")), calls.astype(float), calls)
    found = [
        next(metric for metric in measured(judgement, data, seed=0) if metric.name == "accuracy")
        for data in (dataset("classify", ("a", "b"), targets, [TEST] * 30, clusters) for clusters in (None, groups))
    ]
    assert [metric.value for metric in found] == [0.5, 0.5]
    rows, whole = (metric.high - metric.low for metric in found)
    assert whole > 1.4 * rows
    gains = [
        gain(judgement, replace(judgement, method="other", outcomes=1 - judgement.outcomes), data, seed=0)
        for data in (dataset("classify", ("a", "b"), targets, [TEST] * 30, clusters) for clusters in (None, groups))
    ]
    assert gains[1].high - gains[1].low > 1.4 * (gains[0].high - gains[0].low)


def test_many_labels_have_fewer_resamples(two_classes: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    repeats: list[int] = []

    def interval(statistic: Any, arrays: Any, clusters: Any, count: int, *, seed: int) -> tuple[float, float]:
        repeats.append(count)
        return (0.0, 1.0)

    monkeypatch.setattr(finetuning_results, "bootstrap_interval", interval)
    monkeypatch.setattr(finetuning_results, "MANY", 2)
    for labels in (("a", "b"), ("a", "b", "c")):
        outcomes = np.full((30, len(labels)), 1 / len(labels))
        judgement = Judgement("x", HeadFacts("classify", labels), outcomes, outcomes > 1)
        next(iter(measured(judgement, replace(two_classes, labels=labels), seed=0)))
    assert repeats == [1_000, 200]


def test_a_gain_is_the_difference_on_the_same_sequences(two_classes: Dataset, judged: Judgement) -> None:
    other = replace(judged, method="gc", outcomes=judged.outcomes[:, ::-1])
    found = gain(judged, other, two_classes, seed=0)
    truth = two_classes.targets[50:]
    values = [metrics.roc_auc_score(truth, one.outcomes[:, 1]) for one in (judged, other)]
    assert (found.method, found.name, found.sequences) == ("probe - gc", "auroc", 30)
    assert found.value == pytest.approx(values[0] - values[1])
    assert found.low < found.value < found.high
    same = gain(judged, replace(judged, method="again"), two_classes, seed=0)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_metrics_are_told_with_six_digits() -> None:
    rows = [Metric("probe", "auroc", 0.12345678, 0.1, math.nan, 7), Metric("gc", "mcc", -1.0, -1.0, 1.0, 9)]
    assert metrics_table(rows) == {
        "method": ["probe", "gc"],
        "metric": ["auroc", "mcc"],
        "value": ["0.123457", "-1"],
        "ci_low": ["0.1", "-1"],
        "ci_high": ["nan", "1"],
        "sequences": [7, 9],
    }
    assert sentence(rows[0]) == "auroc 0.123 [0.100, nan]"


def test_predictions_of_classes_name_truth_and_call() -> None:
    data = dataset("classify", ("a", "b"), np.array([0, 1, 0]), [TEST, TRAIN, TEST])
    outcomes = np.array([[0.25, 0.75], [0.5, 0.5]])
    judgement = Judgement(
        "probe", HeadFacts("classify", ("a", "b")), outcomes, np.array([[False, True], [True, False]])
    )
    assert predictions_table(judgement, data) == {
        "id": ["s0", "s2"],
        "true": ["a", "a"],
        "label": ["b", "a"],
        "probability_a": ["0.25", "0.5"],
        "probability_b": ["0.75", "0.5"],
    }


def test_predictions_of_several_labels_name_all_that_are_called() -> None:
    data = dataset("multilabel", ("a", "b"), np.array([[1, 1], [0, 0]]), [TEST, TEST])
    outcomes = np.array([[0.25, 0.75], [0.5, 0.6]])
    judgement = Judgement(
        "probe", HeadFacts("multilabel", ("a", "b")), outcomes, np.array([[False, False], [True, True]])
    )
    found = predictions_table(judgement, data)
    assert (found["true"], found["label"]) == (["a,b", ""], ["", "a,b"])


def test_predictions_of_quantities_are_values() -> None:
    data = dataset("regress", ("gc",), np.array([[1.5], [2.0]]), [TRAIN, TEST])
    judgement = Judgement("probe", HeadFacts("regress", ("gc",)), np.array([[1 / 3]]), np.zeros((1, 1), dtype=bool))
    assert predictions_table(judgement, data) == {"id": ["s1"], "true": ["2"], "value": ["0.333333"]}
