"""What a fine-tuning writes beside its model, and what it says."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dnalm.engine.training_run import Run
from dnalm.methods.splits import TEST, TRAIN, VALIDATE
from dnalm.models.head_config import HeadFacts
from dnalm.tasks.finetuning_data import Collection, Example
from dnalm.tasks.finetuning_options import FinetuningOptions
from dnalm.tasks.finetuning_outputs import account, compared, log_table, records_table, tell, write_tables
from dnalm.tasks.finetuning_results import Judgement, Metric
from dnalm.tasks.finetuning_split import Dataset
from sklearn.metrics import roc_auc_score

COUNTS = {"sequences": 1_234, "train_sequences": 1_000, "validation_sequences": 100, "test_sequences": 134}


def options(**choices: Any) -> FinetuningOptions:
    return FinetuningOptions(Path("out"), [Path("in")], Path("model"), **choices)


def judgement(method: str, said: list[float]) -> Judgement:
    """Return what a method says of the class b of each sequence that tests."""
    outcomes = np.array([[1 - share, share] for share in said])
    return Judgement(method, HeadFacts("classify", ("a", "b")), outcomes, outcomes > 0.5)


@pytest.fixture
def collection() -> Collection:
    """Six sequences of two classes, of which the third was left out, and a line without a sequence."""
    examples = [Example(f"s{number}", "ACGT", ("ab"[number % 2],)) for number in range(6)]
    examples[2].status = "same_in_test"
    examples[3].group = "g"
    missing = Example("q", "", (" x\n y ", "z"), status="no_sequence")
    return Collection([*examples, Example("n", "ACGT", None, status="not_in_labels"), missing], ("label",), "the table")


@pytest.fixture
def dataset(collection: Collection) -> Dataset:
    examples = [example for example in collection.examples if example.status == "ok"]
    sides = np.array([TRAIN, VALIDATE, TEST, TEST, TEST])
    return Dataset("classify", ("a", "b"), examples, np.array([0, 1, 1, 0, 1]), sides, None)


def labelled(task: Any, *labels: str) -> Dataset:
    return Dataset(task, labels, [], np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), None)


def test_the_account_names_what_was_left_out_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    found = Collection([], ("label",), "the table")
    found.counts.update(COUNTS | {"lower_case": 0, "uracil": 12, "same_in_test": 3_000})
    account(found, labelled("classify", "a", "a\tb"))
    assert capsys.readouterr().out == (
        "Read 1,234 sequences; used: 1,000 train, 100 validation, 134 test\n"
        "letters U read as T: 12\n"
        "sequences left out that test has too, or their reverse complement: 3,000\n"
        "Classes: a, a\\tb\n"
    )


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (labelled("classify", *map(str, range(1_011))), "Classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 1,001 more\n"),
        (labelled("multilabel", *map(str, range(10))), "Labels: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9\n"),
        (labelled("regress", "activity"), "Value: activity\n"),
    ],
)
def test_the_account_names_the_first_labels(capsys: pytest.CaptureFixture[str], data: Dataset, line: str) -> None:
    found = Collection([], ("label",), "the table")
    found.counts.update(COUNTS)
    account(found, data)
    assert capsys.readouterr().out.splitlines(keepends=True)[1:] == [line]


def test_records_are_all_that_was_read(collection: Collection, dataset: Dataset) -> None:
    assert records_table(collection, dataset) == {
        "id": ["s0", "s1", "s2", "s3", "s4", "s5", "n", "q"],
        "label": ["a", "b", "a", "b", "a", "b", "", "x y;z"],
        "group": ["", "", "", "g", "", "", "", ""],
        "split": ["train", "validation", "", "test", "test", "test", "", ""],
        "status": ["ok", "ok", "same_in_test", "ok", "ok", "ok", "not_in_labels", "no_sequence"],
    }


def test_the_log_has_a_row_for_each_measurement_and_one_for_an_early_end() -> None:
    log: list[dict[str, Any]] = [
        {"step": 5, "epoch": 0.5, "split": "training", "loss": 1 / 3, "accuracy": 0.75},
        {"step": 5, "epoch": 0.5, "split": "validation", "loss": math.nan, "accuracy": None},
    ]
    found = log_table(options(method="lora"), Run(log, steps=5, stopped="time limit"))
    assert found == {
        "step": ["5", "5", "5"],
        "epoch": ["0.5", "0.5", "0.5"],
        "split": ["training", "validation", "stopped: time limit"],
        "loss": ["0.333333", "nan", ""],
        "accuracy": ["0.75", "", ""],
        "learning_rate": ["", "", ""],
    }
    assert "r2" in log_table(options(task="regress"), Run(log))


def test_a_probe_has_a_log_without_rows() -> None:
    assert set(map(tuple, log_table(options(), None).values())) == {()}


def test_the_chosen_method_is_compared_with_each_other(dataset: Dataset) -> None:
    methods = [judgement("gc", [0.3, 0.6, 0.4]), judgement("kmer", [0.2, 0.1, 0.9]), judgement("lora", [0.7, 0.2, 0.8])]
    found = compared(options(method="lora"), dataset, methods)
    assert {metric.method for metric in found[:-2]} == {"gc", "kmer", "lora"}
    assert [(metric.method, metric.name) for metric in found[-2:]] == [("lora - gc", "auroc"), ("lora - kmer", "auroc")]
    truth = [1, 0, 1]
    values = [roc_auc_score(truth, method.outcomes[:, 1]) for method in methods]
    assert [metric.value for metric in found[-2:]] == pytest.approx([values[2] - values[0], values[2] - values[1]])


def read(path: Path) -> list[dict[str, str]]:
    header, *lines = [line.split("\t") for line in path.read_text().splitlines()]
    return [dict(zip(header, line, strict=True)) for line in lines]


def test_tables_that_were_asked_for_are_written(collection: Collection, dataset: Dataset, tmp_path: Path) -> None:
    names = ("metrics", "predictions", "records")
    chosen: dict[str, Any] = {name: Path(name) for name in names}
    partial = {Path(name): tmp_path / name for name in names}
    methods = [judgement("gc", [0.3, 0.6, 0.4]), judgement("probe", [0.7, 0.2, 0.8])]
    metrics = write_tables(options(**chosen), partial, collection, dataset, methods, None)
    assert {path.name for path in tmp_path.iterdir()} == set(names)
    assert [row["method"] for row in read(tmp_path / "metrics")] == [metric.method for metric in metrics]
    assert [(row["id"], row["true"], row["label"]) for row in read(tmp_path / "predictions")] == [
        ("s3", "b", "b"),
        ("s4", "a", "a"),
        ("s5", "b", "b"),
    ]
    assert len(read(tmp_path / "records")) == 8


def test_a_model_that_was_never_measured_has_log_and_records_alone(
    collection: Collection, dataset: Dataset, tmp_path: Path
) -> None:
    names = ("metrics", "predictions", "records", "log", "figure")
    chosen: dict[str, Any] = {name: Path(name) for name in names}
    partial = {Path(name): tmp_path / name for name in names}
    run = Run(steps=3, stopped="diverged")
    baseline = [judgement("gc", [0.3, 0.6, 0.4])]
    assert write_tables(options(method="full", **chosen), partial, collection, dataset, baseline, run) == []
    assert {path.name for path in tmp_path.iterdir()} == {"records", "log"}
    assert [row["split"] for row in read(tmp_path / "log")] == ["stopped: diverged"]


def test_what_is_told_at_the_end(dataset: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = [
        Metric("gc", "auroc", 0.6, 0.5, 0.7, 3),
        Metric("gc", "mcc", 0.1, 0.0, 0.2, 3),
        Metric("lora - gc", "auroc", 0.25, -0.1, 0.5, 3),
    ]
    facts = {"model": {"sha256": "abc", "licence": None}, "versions": {"dnalm": "1.0", "torch": "2.0"}}
    tell(dataset, metrics, Run(steps=1_200, stopped="no gain"), facts)
    assert capsys.readouterr().out == (
        "Stopped after step 1,200: validation did not become better any more\n"
        "gc: auroc 0.600 [0.500, 0.700]\n"
        "lora - gc: auroc 0.250 [-0.100, 0.500]\n"
        "Model SHA-256: abc; licence: unknown\n"
        "Versions: dnalm 1.0, torch 2.0\n"
    )
