"""Sequences, labels, models and checkpoints that cannot be learnt from, and jobs that are ended."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import REPOSITORY, TEST_DATA, Run
from dnalm.engine import training
from dnalm.methods.strands import reverse_complement
from dnalm.models.heads import load_classifier
from dnalm.models.sources import open_model

SCRIPT = REPOSITORY / "scripts" / "dnalm_finetune.py"
GENOMES = ("--sequences", TEST_DATA / "two_genomes.fasta", "--labels", TEST_DATA / "two_genomes_labels.tsv")
TINY = ("--model", TEST_DATA / "checkpoint.safetensors")
OUTPUTS = ("output", "checkpoint", "metrics", "predictions", "records", "log", "figure")
QUICK = ("--baselines", "none", "--threads", 1)


def bases(seed: int, length: int = 40) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), length))


def table(folder: Path, labels: list[str], names: list[str] | None = None, header: str = "id\tlabel") -> Path:
    names = names or [f"s{number}" for number in range(len(labels))]
    path = folder / "labels.tsv"
    path.write_text(header + "\n" + "".join(f"{name}\t{label}\n" for name, label in zip(names, labels, strict=True)))
    return path


def fasta(folder: Path, sequences: list[str], names: list[str] | None = None) -> Path:
    names = names or [f"s{number}" for number in range(len(sequences))]
    path = folder / "sequences.fasta"
    path.write_text("".join(f">{name}\n{letters}\n" for name, letters in zip(names, sequences, strict=True)))
    return path


def labelled(folder: Path, labels: list[str], **more: Any) -> tuple[object, ...]:
    sequences = fasta(folder, [bases(seed) for seed in range(len(labels))])
    return "--sequences", sequences, "--labels", table(folder, labels, **more), *TINY, *QUICK


def check_one_sentence(code: int, error: str) -> None:
    assert code == 1
    assert error.startswith("dnalm_finetune: ")
    assert error.endswith(".\n")
    assert error.count("\n") == 1


@pytest.fixture
def refused(run_tool: Run, tmp_path: Path) -> Callable[..., str]:
    """Run a job that must be refused, and return its sentence."""

    def call(*arguments: object) -> str:
        results = tmp_path / "results"
        results.mkdir()
        written = [part for name in OUTPUTS for part in (f"--{name}", results / name)]
        code, _, error = run_tool("finetune", *arguments, *written)
        check_one_sentence(code, error)
        assert list(results.iterdir()) == []
        return error

    return call


@pytest.fixture
def taken(run_tool: Run, tmp_path: Path) -> Callable[..., tuple[str, list[dict[str, str]]]]:
    """Run a job that must succeed; return what it says and its table of records."""

    def call(*arguments: object) -> tuple[str, list[dict[str, str]]]:
        code, out, error = run_tool(
            "finetune", *arguments, "--output", tmp_path / "m", "--records", tmp_path / "records"
        )
        assert code == 0, error
        lines = [line.split("\t") for line in (tmp_path / "records").read_text().splitlines()]
        return out, [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]

    return call


# Labels


def test_one_class_only(refused: Callable[..., str], tmp_path: Path) -> None:
    error = refused(*labelled(tmp_path, ["a"] * 20))
    assert "The column 'label' of the table 'labels.tsv' has only the class 'a'; give two classes or more" in error


def test_no_label_at_all(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "has no label; give two classes or more" in refused(*labelled(tmp_path, ["NA", "", "nan", "."] * 5))


def test_a_class_of_fewer_members_than_sides(refused: Callable[..., str], tmp_path: Path) -> None:
    error = refused(*labelled(tmp_path, ["a", "b"] * 10 + ["c", "c"]))
    assert "The class 'c' has 2 of the 3 sequences that it needs to be trained, validated and tested with" in error


def test_three_members_of_a_class_are_enough(taken: Callable[..., Any], tmp_path: Path) -> None:
    """Fewer members than folds of a cross-validation: there are fewer folds."""
    _, records = taken(*labelled(tmp_path, ["a", "b"] * 10 + ["c"] * 3))
    assert {row["split"] for row in records if row["label"] == "c"} == {"train", "validation", "test"}


def test_ten_thousand_classes(refused: Callable[..., str], tmp_path: Path) -> None:
    names = [f"s{number}" for number in range(10_000)]
    sequences = fasta(tmp_path, [bases(0)] * 10_000, names)
    labels = table(tmp_path, [f"{number / 7:.4f}" for number in range(10_000)], names)
    error = refused("--sequences", sequences, "--labels", labels, *TINY, *QUICK)
    assert "has 10,000 classes, more than 1,000 (they are numbers: for quantities choose the task regress)" in error


def test_labels_that_differ_by_white_space_are_one(taken: Callable[..., Any], tmp_path: Path) -> None:
    out, records = taken(*labelled(tmp_path, ["yes", " yes", "yes  ", "no", "no ", "not  sure", "not sure"] * 4))
    assert "Classes: no, not sure, yes\n" in out
    assert "labels with several blanks in a row, which became one: 4\n" in out
    assert {row["label"] for row in records} == {"no", "not sure", "yes"}


def test_labels_that_differ_by_capital_letters_are_told(taken: Callable[..., Any], tmp_path: Path) -> None:
    out, _ = taken(*labelled(tmp_path, ["Yes", "yes"] * 10))
    assert "Warning: classes that differ in small and capital letters alone: Yes, yes" in out


@pytest.mark.parametrize("task", ["classify", "regress"])
def test_sequences_without_a_label_are_left_out_and_counted(
    taken: Callable[..., Any], tmp_path: Path, task: str
) -> None:
    labels = ["1", "2", "NaN", "1", "2", "", "3", "3"] * 5
    out, records = taken(*labelled(tmp_path, labels), "--task", task)
    assert "sequences left out that have no label: 10\n" in out
    assert [row["status"] for row in records[:6]] == ["ok", "ok", "label_missing", "ok", "ok", "label_missing"]


@pytest.mark.parametrize("label", ["inf", "-Infinity", "many"])
def test_quantities_that_are_no_finite_numbers(refused: Callable[..., str], tmp_path: Path, label: str) -> None:
    error = refused(*labelled(tmp_path, ["1", "2.5", label] * 6), "--task", "regress")
    assert f"Line 4 of the table 'labels.tsv' has the label '{label}', which is no finite number" in error


def test_quantities_that_are_all_the_same(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "is 2 of every sequence" in refused(*labelled(tmp_path, ["2", "2.0"] * 8), "--task", "regress")


def test_a_flag_that_is_none(refused: Callable[..., str], tmp_path: Path) -> None:
    labels = ["1\t0", "0\t1", "maybe\t1"] * 6
    options = labelled(tmp_path, labels, header="id\tone\ttwo")
    error = refused(*options, "--task", "multilabel", "--label-column", "one,two")
    assert "Line 4 of the table 'labels.tsv' has 'maybe' in the column 'one'" in error


def test_a_label_that_is_never_or_always_true(refused: Callable[..., str], tmp_path: Path) -> None:
    error = refused(*labelled(tmp_path, ["a;b", "a", "a;b"] * 6 + ["b"]), "--task", "multilabel")
    assert "The label 'a' is true of 18 of 19 sequences; it needs 3 of which it is true and 3 of which" in error


def test_one_id_with_two_labels(refused: Callable[..., str], tmp_path: Path) -> None:
    names = [f"s{number}" for number in range(20)] + ["s3"]
    sequences = fasta(tmp_path, [bases(seed) for seed in range(20)])
    labels = table(tmp_path, ["a", "b"] * 10 + ["a"], names)
    error = refused("--sequences", sequences, "--labels", labels, *TINY)
    assert "Lines 5 and 22 of 'labels.tsv' say different things of 's3'; keep one" in error


# Sequences and labels that do not match


def unmatched(folder: Path) -> tuple[object, ...]:
    sequences = fasta(folder, [bases(seed) for seed in range(22)])
    labels = table(folder, ["a", "b"] * 11, [f"s{number}" for number in (*range(20), 98, 99)])
    return "--sequences", sequences, "--labels", labels, *TINY, *QUICK


def test_what_does_not_match_is_left_out_counted_and_listed(taken: Callable[..., Any], tmp_path: Path) -> None:
    out, records = taken(*unmatched(tmp_path))
    assert "sequences without a line in the labels, left out: 2 (s20, s21)\n" in out
    assert "lines of the labels without a sequence, left out: 2 (s98, s99)\n" in out
    assert [(row["id"], row["status"]) for row in records[20:]] == [
        ("s20", "not_in_labels"),
        ("s21", "not_in_labels"),
        ("s98", "no_sequence"),
        ("s99", "no_sequence"),
    ]


def test_what_does_not_match_may_be_an_error(refused: Callable[..., str], tmp_path: Path) -> None:
    error = refused(*unmatched(tmp_path), "--unmatched", "fail")
    assert "There are 2 sequences without a line in the labels (s20, s21); add what is missing" in error


def test_nothing_matches(refused: Callable[..., str], tmp_path: Path) -> None:
    sequences = fasta(tmp_path, [bases(0), bases(1)])
    labels = table(tmp_path, ["a", "b"], ["seq_0", "seq_1"])
    error = refused("--sequences", sequences, "--labels", labels, *TINY)
    assert "the sequences are called like 's0', the lines like 'seq_0'; use the same names in both" in error


def test_labels_without_a_line(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "The table 'labels.tsv' has no line below its header" in refused(
        *GENOMES[:2], "--labels", table(tmp_path, []), *TINY
    )


def test_labels_without_anything(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "labels.tsv").write_text("")
    error = refused(*GENOMES[:2], "--labels", tmp_path / "labels.tsv", *TINY)
    assert "The table 'labels.tsv' is empty" in error


def test_labels_without_names_of_columns(refused: Callable[..., str], tmp_path: Path) -> None:
    """Otherwise the first sequence would lose its label."""
    sequences = fasta(tmp_path, [bases(seed) for seed in range(20)])
    labels = table(tmp_path, ["a", "b"] * 9 + ["a"], [f"s{number}" for number in range(1, 20)], header="s0\tb")
    error = refused("--sequences", sequences, "--labels", labels, *TINY)
    assert "The first line of 'labels.tsv' is about the sequence 's0' and names no columns" in error


def test_labels_beside_a_table_of_sequences(refused: Callable[..., str]) -> None:
    error = refused("--sequences", TEST_DATA / "planted_order.tsv", *GENOMES[2:], *TINY)
    assert "The sequences are in the table 'planted_order.tsv', and there is a table of labels too" in error


def test_one_fasta_without_labels(refused: Callable[..., str]) -> None:
    assert "Nothing says what the sequences of 'two_genomes.fasta' are" in refused(*GENOMES[:2], *TINY)


def test_classes_of_one_name(refused: Callable[..., str]) -> None:
    files = [part for name in ("ecoli", "human") for part in ("--sequences", TEST_DATA / f"{name}_windows.fasta")]
    assert "are not all different" in refused(*files, *TINY, "--class-names", "x.fasta,x.fa")


def test_fewer_names_than_files(refused: Callable[..., str]) -> None:
    files = [part for name in ("ecoli", "human") for part in ("--sequences", TEST_DATA / f"{name}_windows.fasta")]
    assert "There are 1 names of classes and 2 files" in refused(*files, *TINY, "--class-names", "x")


def test_a_table_among_fasta_files(refused: Callable[..., str]) -> None:
    files = ("--sequences", TEST_DATA / "planted_order.tsv", "--sequences", TEST_DATA / "two_genomes.fasta")
    assert "The table 'planted_order.tsv' is one of several files" in refused(*files, *TINY)


# Leaks


def test_the_same_sequence_or_its_reverse_complement_is_never_on_two_sides(
    taken: Callable[..., Any], tmp_path: Path
) -> None:
    sequences = [bases(seed) for seed in range(40)]
    sequences += sequences[:15] + [reverse_complement(letters) for letters in sequences[15:30]]
    labels = table(tmp_path, ["a", "b"] * 20 + ["a"] * 30)
    out, records = taken("--sequences", fasta(tmp_path, sequences), "--labels", labels, *TINY, *QUICK)
    left_out = [row for row in records if row["status"].startswith("same_in_")]
    assert left_out
    for side, words in (("test", "sequences left out that test has too"), ("validation", "validation has too")):
        count = sum(row["status"] == f"same_in_{side}" for row in left_out)
        assert not count or f"{words}, or their reverse complement: {count}\n" in out
    sides: dict[str, set[str]] = {}
    for row, letters in zip(records, sequences, strict=True):
        if row["split"]:
            sides.setdefault(min(letters, reverse_complement(letters)), set()).add(row["split"])
    assert all(len(of_one) == 1 for of_one in sides.values())


def test_windows_of_one_genome_that_overlap_are_never_on_two_sides(taken: Callable[..., Any], tmp_path: Path) -> None:
    genome = bases(7, 1_200)
    starts = [*range(0, 400, 10), *range(600, 1_100, 40)]
    names = [f"chr1:{start}-{start + 40}" for start in starts]
    sequences = fasta(tmp_path, [genome[start : start + 40] for start in starts], names)
    labels = table(tmp_path, [("a", "b")[number % 2] for number in range(len(starts))], names)
    out, records = taken("--sequences", sequences, "--labels", labels, *TINY, *QUICK, "--test-fraction", 0.1)
    assert "sequences left out that share bases of the genome with test: " in out
    used = [(row["split"], start) for row, start in zip(records, starts, strict=True) if row["split"]]
    for side, start in used:
        assert all(abs(start - other) >= 40 for other_side, other in used if other_side != side)
    assert {side for side, _ in used} == {"train", "validation", "test"}


def test_nothing_is_left_when_all_overlap(refused: Callable[..., str], tmp_path: Path) -> None:
    genome = bases(7, 400)
    names = [f"chr1:{start}-{start + 200}" for start in range(40)]
    sequences = fasta(tmp_path, [genome[start : start + 200] for start in range(40)], names)
    labels = table(tmp_path, ["a", "b"] * 20, names)
    error = refused("--sequences", sequences, "--labels", labels, *TINY, *QUICK)
    assert "were left out that test or validation has); give more sequences, another split, or sequences that" in error


# Splits


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--split", "group"), "The split 'group' needs the column of the groups"),
        (("--split", "group", "--group-column", "nothing"), "no column called 'nothing'"),
        (
            ("--split", "group", "--group-column", "side"),
            "needs 3 groups, to train, validate and test with, and there",
        ),
        (("--group-column", "block"), "A column of groups is for the splits group and given; leave it out of 'random'"),
        (("--split", "given"), "no column called 'split'"),
        (("--split", "given", "--split-column", "gc"), "in the column 'gc'; use train, validation and test"),
        (("--validation-fraction", 0.6, "--test-fraction", 0.5), "Validation and test together take 1.1"),
    ],
)
def test_a_split_that_cannot_be(refused: Callable[..., str], options: tuple[object, ...], said: str) -> None:
    assert said in refused(*GENOMES, *TINY, *QUICK, *options)


def test_a_class_in_one_group_alone(refused: Callable[..., str], tmp_path: Path) -> None:
    labels = ["a\tx"] * 12 + ["b\tw"] * 6 + ["a\ty"] * 5
    options = labelled(tmp_path, labels, header="id\tlabel\tgroup")
    error = refused(*options, "--split", "group", "--group-column", "group")
    assert "The split 'group' leaves 'b' no sequence to train on" in error


def test_one_class_alone_to_test_with(refused: Callable[..., str], tmp_path: Path) -> None:
    labels = ["a\ttrain", "b\ttrain", "a\ttest"] * 6
    options = labelled(tmp_path, labels, header="id\tlabel\tsplit")
    error = refused(*options, "--split", "given")
    assert "The split 'given' leaves the class 'a' alone to test with" in error


def test_classes_that_nothing_tests_are_told(taken: Callable[..., Any], tmp_path: Path) -> None:
    labels = ["a\ttrain", "b\ttrain", "c\ttrain", "a\ttest", "b\ttest"] * 4
    out, _ = taken(*labelled(tmp_path, labels, header="id\tlabel\tsplit"), "--split", "given")
    assert "Warning: classes that no test sequence has: c\n" in out


# Models and options


def test_a_model_that_is_none(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "There is no model at" in refused(*GENOMES, "--model", tmp_path / "nothing", *QUICK)


def test_weights_of_classes_without_classes(refused: Callable[..., str]) -> None:
    options = ("--task", "regress", "--label-column", "gc", "--class-weights", "balanced")
    assert "Weights of classes are for the task classify" in refused(*GENOMES, *TINY, *options)


def test_a_probe_has_no_checkpoint(refused: Callable[..., str]) -> None:
    checkpoint = TEST_DATA / "finetuning_checkpoint.safetensors"
    assert "A probe has no checkpoint to go on from" in refused(*GENOMES, *TINY, "--resume-from", checkpoint)


def test_protein_is_refused(refused: Callable[..., str]) -> None:
    error = refused("--sequences", TEST_DATA / "protein.fasta", *GENOMES[2:], *TINY)
    assert "it looks like protein" in error


# Checkpoints

RESUMED = (*GENOMES, *TINY, *QUICK, "--method", "lora", "--max-steps", 8, "--evaluate-every", 4)
CHECKPOINT = ("--resume-from", TEST_DATA / "finetuning_checkpoint.safetensors")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--seed", 3), "was trained with --seed 0, now it is 3"),
        (("--rank", 2), "was trained with --rank 8, now it is 2"),
        (("--method", "full"), "was trained with --method lora, now it is full"),
        (("--learning-rate", 0), "was trained with --learning-rate 0.001, now it is 0.0"),
        (("--model", TEST_DATA / "demo_model.safetensors"), "is of another model; give the same"),
        (("--label-column", "gc", "--task", "regress"), "was trained with --task classify, now it is regress"),
        (("--label-column", "side"), "is of another sequences, labels and split"),
    ],
)
def test_a_checkpoint_of_another_training(refused: Callable[..., str], options: tuple[object, ...], said: str) -> None:
    assert said in refused(*RESUMED, *options, *CHECKPOINT)


def test_a_model_that_is_no_checkpoint_of_a_fine_tuning(refused: Callable[..., str]) -> None:
    error = refused(*RESUMED, "--resume-from", TEST_DATA / "checkpoint.safetensors")
    assert "is no checkpoint of a fine-tuning; give the checkpoint of one" in error


@pytest.mark.parametrize("share", [0.001, 0.5, 0.99])
def test_a_checkpoint_that_is_cut_off(refused: Callable[..., str], tmp_path: Path, share: float) -> None:
    content = CHECKPOINT[1].read_bytes()
    (tmp_path / "cut").write_bytes(content[: int(share * len(content))])
    assert "cut" in refused(*RESUMED, "--resume-from", tmp_path / "cut")


# Ends


def test_a_divergence_keeps_the_last_good_model(run_tool: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual, calls = training.ModelTrainer.training_step, []

    def poisoned(self: Any, model: torch.nn.Module, *arguments: Any, **options: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 7:
            with torch.no_grad():
                next(model.parameters()).fill_(torch.nan)
        return usual(self, model, *arguments, **options)

    monkeypatch.setattr(training.ModelTrainer, "training_step", poisoned)
    written = [part for name in OUTPUTS for part in (f"--{name}", tmp_path / name)]
    options = ("--method", "full", "--max-steps", 20, "--evaluate-every", 5, *QUICK)
    code, _, error = run_tool("finetune", *GENOMES, *TINY, *options, *written)
    check_one_sentence(code, error)
    assert "The training diverged after step 7: its loss is no number any more; the best model so far (step 5)" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(OUTPUTS)
    assert load_classifier(open_model(tmp_path / "output")).labels == ("ecoli", "human")
    assert (tmp_path / "log").read_text().splitlines()[-1].split("\t")[2] == "stopped: diverged"


def command(folder: Path, *options: object) -> list[str]:
    names = ("output", "checkpoint", "log", "metrics")
    outputs = [part for name in names for part in (f"--{name}", folder / name)]
    long = ("--method", "lora", "--max-steps", 100_000, "--evaluate-every", 3, "--patience", 0)
    return [sys.executable, str(SCRIPT), *map(str, (*GENOMES, *TINY, *QUICK, *long, *options, *outputs))]


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_job_that_is_told_to_end_keeps_what_it_has(tmp_path: Path, sent: signal.Signals) -> None:
    job = subprocess.Popen(command(tmp_path), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 180
    while not (tmp_path / "checkpoint").exists():
        assert job.poll() is None, job.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    job.send_signal(sent)
    out, error = job.communicate(timeout=120)
    assert job.returncode == 0, error
    assert "the job was asked to end" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "log", "metrics", "output"]
    assert (tmp_path / "log").read_text().splitlines()[-1].split("\t")[2] == "stopped: signal"
    load_classifier(open_model(tmp_path / "output"))
    assert open_model(tmp_path / "checkpoint").training


def test_a_job_ends_in_time(tmp_path: Path) -> None:
    job = command(tmp_path, "--time-limit", 10 / 3600)
    done = subprocess.run(job, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    assert "time limit" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "log", "metrics", "output"]


@pytest.mark.parametrize("size", [20_000, 60_000])
def test_a_file_that_may_not_grow_is_said_and_leaves_nothing(tmp_path: Path, size: int) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    job = command(tmp_path, "--max-steps", 6)
    done = subprocess.run(job, capture_output=True, text=True, preexec_fn=limit, env=environment)
    assert done.returncode == 1
    assert "The disk is full" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
