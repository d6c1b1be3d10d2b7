"""What a fine-tuning tells of each method: probabilities, calls, metrics with intervals, and whether it was worth it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnalm.methods import calibration, statistics
from dnalm.methods.bootstrap import bootstrap_difference, bootstrap_interval
from dnalm.methods.predictions import called, probabilities, quantities
from dnalm.methods.splits import TEST, VALIDATE
from dnalm.methods.statistics import Statistic
from dnalm.models.head_config import HeadFacts
from dnalm.tasks.finetuning_split import Dataset

Floats = NDArray[np.floating[Any]]

REPEATS, FEWER, MANY = 1_000, 200, 50  # resamples; with many labels fewer
DECIDING = {"classify": "auroc", "multilabel": "auroc", "regress": "r2"}  # by which methods are compared


@dataclass(frozen=True)
class Judgement:
    """What a method says of the sequences that test, once its temperature and thresholds were chosen on validation.

    Attributes:
        method: its name.
        facts: of a head that says so.
        outcomes: probabilities, or values; shape (sequences, labels).
        calls: which labels are called, same shape; all false of values.
    """

    method: str
    facts: HeadFacts
    outcomes: Floats
    calls: NDArray[np.bool_]


@dataclass(frozen=True)
class Metric:
    """One number with its interval of 95 %, of so many sequences."""

    method: str
    name: str
    value: float
    low: float
    high: float
    sequences: int


def judge(method: str, dataset: Dataset, facts: HeadFacts, validation: Any, test: Any) -> Judgement:
    """Choose temperature and thresholds with what a method says of validation, and apply them to what it says of the test.

    Args:
        method: its name.
        dataset: with the targets.
        facts: of its head so far.
        validation: its logits of the sequences that validate, shape (sequences, labels).
        test: those of the sequences that test.
    """
    if facts.task == "regress":
        mean, scale = (np.array(values) for values in (facts.target_mean or (0.0,), facts.target_scale or (1.0,)))
        outcomes = quantities(test, mean, scale)
        return Judgement(method, facts, outcomes, np.zeros(outcomes.shape, dtype=np.bool_))
    exclusive = facts.task == "classify"
    targets = dataset.targets[dataset.of(VALIDATE)].astype(np.int64)
    temperature = calibration.temperature(np.asarray(validation, dtype=np.float64), targets, exclusive=exclusive)
    of_validation = probabilities(validation, exclusive=exclusive, temperature=temperature)
    thresholds = None
    if not exclusive:
        columns = zip(of_validation.T, targets.T, strict=True)
        thresholds = tuple(calibration.threshold(said, true) for said, true in columns)
    elif len(facts.labels) == 2:
        limit = calibration.threshold(of_validation[:, 1], targets)
        thresholds = (round(1 - limit, 6), limit)
    facts = replace(facts, temperature=temperature, thresholds=thresholds)
    outcomes = probabilities(test, exclusive=exclusive, temperature=temperature)
    limits = None if thresholds is None else np.array(thresholds)
    return Judgement(method, facts, outcomes, called(outcomes, exclusive=exclusive, thresholds=limits))


def measured(judgement: Judgement, dataset: Dataset, seed: int) -> Iterator[Metric]:
    """Yield every metric of a method on the sequences that test."""
    repeats = FEWER if len(dataset.labels) > MANY else REPEATS
    rows = dataset.of(TEST)
    clusters = None if dataset.clusters is None else dataset.clusters[rows]
    for name, statistic, arrays in _statistics(judgement, dataset.targets[rows]):
        value = statistic(*arrays)
        low, high = bootstrap_interval(statistic, arrays, clusters, repeats, seed=seed)
        yield Metric(judgement.method, name, value, low, high, len(rows))


def gain(judgement: Judgement, other: Judgement, dataset: Dataset, seed: int) -> Metric:
    """Return by how much a method is better than another, the same sequences drawn for both."""
    repeats = FEWER if len(dataset.labels) > MANY else REPEATS
    rows = dataset.of(TEST)
    name = DECIDING[dataset.task]
    (statistic, (truth, said)), (_, (_, said_by_other)) = (
        next((function, arrays) for found, function, arrays in _statistics(one, dataset.targets[rows]) if found == name)
        for one in (judgement, other)
    )

    clusters = None if dataset.clusters is None else dataset.clusters[rows]
    value = statistic(truth, said) - statistic(truth, said_by_other)
    low, high = bootstrap_difference(statistic, truth, said, said_by_other, clusters, repeats, seed=seed)
    return Metric(f"{judgement.method} - {other.method}", name, value, low, high, len(rows))


def _statistics(
    judgement: Judgement, targets: NDArray[np.int64] | Floats
) -> Iterator[tuple[str, Statistic, tuple[Any, ...]]]:
    """Yield name, function and arrays of each metric."""
    outcomes, calls = judgement.outcomes, judgement.calls
    if judgement.facts.task == "regress":
        both = (targets[:, 0], outcomes[:, 0])
        yield "r2", statistics.r2, both
        yield "spearman", statistics.spearman, both
        yield "pearson", statistics.pearson, both
        return
    if judgement.facts.task == "classify":
        said = calls.argmax(axis=1)
        for name in ("accuracy", "balanced_accuracy", "mcc", "macro_f1"):
            yield name, getattr(statistics, name), (targets, said)
        if outcomes.shape[1] == 2:
            yield "auroc", statistics.auroc, (targets, outcomes[:, 1])
            yield "auprc", statistics.auprc, (targets, outcomes[:, 1])
            return
        flags = np.asarray(targets)[:, None] == np.arange(outcomes.shape[1])
    else:
        flags = targets > 0
        yield "accuracy", statistics.mean, ((flags == calls).mean(axis=1),)
        yield "macro_f1", statistics.label_f1, (flags, calls)
    yield "auroc", statistics.macro_auroc, (flags, outcomes)
    yield "auprc", statistics.macro_auprc, (flags, outcomes)


def metrics_table(metrics: Sequence[Metric]) -> dict[str, list[Any]]:
    """Return the columns of the table of metrics."""
    numbers = {"value": "value", "ci_low": "low", "ci_high": "high"}
    return {
        "method": [metric.method for metric in metrics],
        "metric": [metric.name for metric in metrics],
        **{column: [_cell(getattr(metric, name)) for metric in metrics] for column, name in numbers.items()},
        "sequences": [metric.sequences for metric in metrics],
    }


def predictions_table(judgement: Judgement, dataset: Dataset) -> dict[str, list[Any]]:
    """Return the columns of the table of what tests: what is true, what is called, and how sure that is."""
    rows = dataset.of(TEST)
    labels = np.array(dataset.labels, dtype=object)
    columns: dict[str, list[Any]] = {"id": [dataset.examples[row].id for row in rows.tolist()]}
    if dataset.task == "regress":
        values = (dataset.targets[rows, 0], judgement.outcomes[:, 0])
        return columns | {name: list(map(_cell, of)) for name, of in zip(("true", "value"), values, strict=True)}
    if dataset.task == "classify":
        columns["true"] = list(labels[dataset.targets[rows].astype(np.int64)])
        columns["label"] = list(labels[judgement.calls.argmax(axis=1)])
    else:
        columns["true"] = [",".join(labels[row > 0]) for row in dataset.targets[rows]]
        columns["label"] = [",".join(labels[row]) for row in judgement.calls]
    return columns | {
        f"probability_{label}": list(map(_cell, of))
        for label, of in zip(dataset.labels, judgement.outcomes.T, strict=True)
    }


def sentence(metric: Metric) -> str:
    """Return a metric as it is told."""
    return f"{metric.name} {metric.value:.3f} [{metric.low:.3f}, {metric.high:.3f}]"


def _cell(value: float) -> str:
    return f"{value:.6g}"
