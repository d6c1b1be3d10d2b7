"""The picture of a fine-tuning: what is mistaken for what, curves, calibration, and how methods compare."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnalm.engine.training_run import Run
from dnalm.methods.splits import TEST
from dnalm.report.evaluation_plots import Bar, Evaluation, LabelCurves, Residuals, draw_evaluation
from dnalm.report.plots import Curve
from dnalm.tasks.finetuning_results import DECIDING, Judgement, Metric
from dnalm.tasks.finetuning_split import Dataset

BINS = 10  # of calibration
FEWEST_IN_A_BIN = 5
MOST_CURVES = 8  # labels with curves of their own
NAMES = {"auroc": "AUROC", "mcc": "MCC", "macro_f1": "Macro F1", "r2": "R²", "spearman": "Spearman"}
SECOND = {"classify": "mcc", "multilabel": "macro_f1", "regress": "spearman"}  # shown where there is no training


def draw(path: Path, dataset: Dataset, judgement: Judgement, metrics: Sequence[Metric], run: Run | None) -> None:
    """Draw what a method says of the sequences that test, with the metrics of all methods and the training's curve."""
    targets = dataset.targets[dataset.of(TEST)]
    measures = (DECIDING[dataset.task], SECOND[dataset.task])
    bars = {
        NAMES[measure]: [
            Bar(metric.method, metric.value, metric.low, metric.high)
            for metric in metrics
            if metric.name == measure and " - " not in metric.method
        ]
        for measure in measures
    }
    evaluation = Evaluation(
        title=f"{judgement.method}: {len(targets):,} held-out sequences",
        methods=bars,
        training=_curves(run),
        best_step=run.best_step if run else 0,
    )
    if dataset.task == "regress":
        residuals = Residuals(dataset.labels[0], targets[:, 0].astype(np.float64), judgement.outcomes[:, 0])
        draw_evaluation(path, evaluation, residuals)
        return
    flags = targets > 0 if dataset.task == "multilabel" else targets[:, None] == np.arange(len(dataset.labels))
    draw_evaluation(path, evaluation, _label_curves(dataset, judgement, flags))


def _curves(run: Run | None) -> dict[str, Curve]:
    rows = run.log if run else []
    return {
        split: Curve(*([row[name] for row in rows if row["split"] == split] for name in ("step", "loss")))
        for split in ("training", "validation")
        if rows
    }


def _label_curves(dataset: Dataset, judgement: Judgement, flags: NDArray[np.bool_]) -> LabelCurves:
    """Return the confusion of labels, the curves of the commonest, and how often what is said is true."""
    from sklearn.metrics import precision_recall_curve, roc_curve

    said = judgement.outcomes
    if dataset.task == "classify":
        truth, called = flags.argmax(axis=1), judgement.calls.argmax(axis=1)
        confusion = np.zeros((len(dataset.labels),) * 2, dtype=np.int64)
        np.add.at(confusion, (truth, called), 1)
        shown = [1] if len(dataset.labels) == 2 else np.argsort(-flags.sum(axis=0), kind="stable")[:MOST_CURVES]
        predicted, right = (said[:, 1], flags[:, 1]) if len(dataset.labels) == 2 else (said.ravel(), flags.ravel())
    else:
        # Of labels that do not exclude each other: how many that are true are called, and of others.
        both = [(flags & judgement.calls), (flags & ~judgement.calls), (~flags & judgement.calls)]
        confusion = np.stack([part.sum(axis=0) for part in both], axis=1)
        shown = np.argsort(-flags.sum(axis=0), kind="stable")[:MOST_CURVES]
        predicted, right = said.ravel(), flags.ravel()
    curves = {}
    for number in np.asarray(shown).tolist():
        if 0 < flags[:, number].sum() < len(flags):
            false_rate, true_rate, _ = roc_curve(flags[:, number], said[:, number], drop_intermediate=False)
            precision, recall, _ = precision_recall_curve(flags[:, number], said[:, number])
            curves[dataset.labels[number]] = (false_rate, true_rate, recall, precision)
    return LabelCurves(
        list(dataset.labels),
        confusion,
        dataset.task == "classify",
        curves,
        float(flags[:, list(np.asarray(shown))].mean()),
        reliability(predicted, right),
    )


def reliability(
    predicted: NDArray[np.floating[Any]], right: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return mean probability, share that is true, and number of each of up to ten bins of as many predictions."""
    bins = max(1, min(BINS, len(predicted) // FEWEST_IN_A_BIN))
    parts = np.array_split(np.argsort(predicted, kind="stable"), bins)
    means, shares = (np.array([values[part].mean() for part in parts]) for values in (predicted, right))
    return means, shares, np.array(list(map(len, parts)))
