"""What a fine-tuning writes beside its model, and what it says."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dnalm.engine.training_run import Run, cell
from dnalm.errors import shown
from dnalm.formats.tables import TableWriter
from dnalm.methods.splits import SIDES
from dnalm.tasks.finetuning_data import Collection
from dnalm.tasks.finetuning_options import FinetuningOptions
from dnalm.tasks.finetuning_picture import draw
from dnalm.tasks.finetuning_results import (
    DECIDING,
    Judgement,
    Metric,
    gain,
    measured,
    metrics_table,
    predictions_table,
    sentence,
)
from dnalm.tasks.finetuning_split import Dataset

MEANINGS = {
    "lower_case": "lower-case letters read as upper case",
    "ambiguous": "IUPAC letters read as N",
    "uracil": "letters U read as T",
    "duplicate_ids": "sequences with an id seen before, kept",
    "repeated_lines": "lines of the labels that repeat another",
    "labels_with_white_space": "labels with several blanks in a row, which became one",
    "label_missing": "sequences left out that have no label",
    "same_in_test": "sequences left out that test has too, or their reverse complement",
    "overlaps_test": "sequences left out that share bases of the genome with test",
    "same_in_validation": "training sequences left out that validation has too, or their reverse complement",
    "overlaps_validation": "training sequences left out that share bases of the genome with validation",
    "near_duplicates_in_test": "test sequences much like one of training or validation, kept",
}


def account(collection: Collection, dataset: Dataset) -> None:
    """Say what became of the sequences and their labels."""
    counts = collection.counts
    sides = ", ".join(f"{counts[f'{side}_sequences']:,} {side}" for side in SIDES)
    print(f"Read {counts['sequences']:,} sequences; used: {sides}")
    for name, meaning in MEANINGS.items():
        if counts[name]:
            print(f"{meaning}: {counts[name]:,}")
    if dataset.task == "regress":
        print(f"Value: {shown(dataset.labels[0])}")
        return
    labels = ", ".join(shown(label, 30) for label in dataset.labels[:10])
    more = f" and {len(dataset.labels) - 10:,} more" if len(dataset.labels) > 10 else ""
    print(f"{'Classes' if dataset.task == 'classify' else 'Labels'}: {labels}{more}")


def write_tables(
    options: FinetuningOptions,
    partial: dict[Path, Path],
    collection: Collection,
    dataset: Dataset,
    judgements: Sequence[Judgement],
    run: Run | None,
) -> list[Metric]:
    """Write metrics, predictions, records, log and picture, those that were asked for; return the metrics.

    Of a model that never was measured there are the log and the records alone.
    """
    found = bool(judgements) and judgements[-1].method == options.method
    metrics = compared(options, dataset, judgements) if found else []
    tables: list[tuple[Path | None, dict[str, list[Any]]]] = [
        (options.log, log_table(options, run)),
        (options.records, records_table(collection, dataset)),
    ]
    if found:
        tables += [
            (options.metrics, metrics_table(metrics)),
            (options.predictions, predictions_table(judgements[-1], dataset)),
        ]
    for path, columns in tables:
        if path:
            with TableWriter(partial[path]) as table:
                table.append(columns)
    if options.figure and found:
        draw(partial[options.figure], dataset, judgements[-1], metrics, run)
    return metrics


def compared(options: FinetuningOptions, dataset: Dataset, judgements: Sequence[Judgement]) -> list[Metric]:
    """Return the metrics of all methods, and by how much the last is better than each other."""
    metrics = [metric for judgement in judgements for metric in measured(judgement, dataset, options.seed)]
    chosen = judgements[-1]
    return metrics + [gain(chosen, other, dataset, options.seed) for other in judgements[:-1]]


def log_table(options: FinetuningOptions, run: Run | None) -> dict[str, list[Any]]:
    """Return the columns of the log; a probe has no step, and no row."""
    measure = "r2" if options.task == "regress" else "accuracy"
    columns = ("step", "epoch", "split", "loss", measure, "learning_rate")
    rows = run.log + run.end() if run else []
    return {name: [cell(row.get(name)) for row in rows] for name in columns}


def records_table(collection: Collection, dataset: Dataset) -> dict[str, list[Any]]:
    """Return the columns of the table of all records: what was known of each, and what became of it."""
    sides = {id(example): SIDES[side] for example, side in zip(dataset.examples, dataset.sides, strict=True)}
    examples = collection.examples
    return {
        "id": [example.id for example in examples],
        "label": [";".join(" ".join(text.split()) for text in example.labels or ()) for example in examples],
        "group": [example.group or "" for example in examples],
        "split": [sides.get(id(example), "") for example in examples],
        "status": [example.status for example in examples],
    }


def tell(dataset: Dataset, metrics: Sequence[Metric], run: Run | None, facts: dict[str, Any]) -> None:
    """Say how the training ended, how good each method is, and what was run."""
    for said in run.reason() if run else []:
        print(said)
    deciding = DECIDING[dataset.task]
    for metric in metrics:
        if metric.name == deciding:
            print(f"{metric.method}: {sentence(metric)}")
    print(f"Model SHA-256: {facts['model']['sha256']}; licence: {facts['model']['licence'] or 'unknown'}")
    print("Versions: " + ", ".join(f"{name} {version}" for name, version in facts["versions"].items()))
