"""Fine-tuning from the entry script: what is learnt, measured, written, and gone on with."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TEST_DATA, Run
from dnalm.engine import training_callbacks
from dnalm.methods import statistics
from dnalm.models.heads import load_classifier
from dnalm.models.sources import open_model
from dnalm.tasks.finetuning_training import FinetuningJob
from mistral_dna import write_mistral_dna
from planted_order import MOTIFS, planted_order
from safetensors.torch import load_file

GENOMES = ("--sequences", TEST_DATA / "two_genomes.fasta", "--labels", TEST_DATA / "two_genomes_labels.tsv")
PLANTED = ("--sequences", TEST_DATA / "planted_order.tsv", "--model", TEST_DATA / "planted_model.safetensors")
DEMO = ("--model", TEST_DATA / "demo_model.safetensors")
TINY = ("--model", TEST_DATA / "checkpoint.safetensors")
ONE = ("--threads", 1)


def rows(path: Path) -> list[dict[str, str]]:
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


def outputs(folder: Path, *names: str) -> tuple[object, ...]:
    return tuple(part for name in ("output", *names) for part in (f"--{name}", folder / name))


def metrics(path: Path) -> dict[tuple[str, str], float]:
    return {(row["method"], row["metric"]): float(row["value"]) for row in rows(path)}


@pytest.mark.slow
@pytest.mark.parametrize(("method", "rate"), [("lora", 0.003), ("full", 0.001)])
def test_the_order_of_two_motifs_is_learnt_which_k_mers_do_not_tell(
    run_tool: Run, tmp_path: Path, method: str, rate: float
) -> None:
    written = outputs(tmp_path, "metrics", "predictions")
    code, _, error = run_tool("finetune", *PLANTED, "--method", method, "--learning-rate", rate, *ONE, *written)
    assert code == 0, error
    found = metrics(tmp_path / "metrics")
    assert found[method, "auroc"] >= 0.95
    assert found["kmer", "auroc"] <= 0.65
    assert found["gc", "auroc"] <= 0.65
    assert found["probe", "auroc"] <= 0.75
    # New sequences, by the model that was written.
    fresh = list(planted_order(200, seed=2))
    (tmp_path / "fresh.fasta").write_text("".join(f">{name}\n{bases}\n" for name, bases, _ in fresh))
    predict = ("--sequences", tmp_path / "fresh.fasta", "--model", tmp_path / "output")
    assert run_tool("predict", *predict, *ONE, "--output", tmp_path / "fresh.tsv")[0] == 0
    said = [float(row["probability_second"]) for row in rows(tmp_path / "fresh.tsv")]
    assert statistics.auroc([label == "second" for _, _, label in fresh], said) >= 0.95


def test_the_planted_task_is_what_it_says() -> None:
    for _, bases, label in planted_order(100, seed=5):
        first, second = (bases.index(motif) for motif in MOTIFS)
        assert all(bases.count(motif) == 1 for motif in MOTIFS)
        assert label == ("first" if first < second else "second")


@pytest.mark.slow
def test_a_simple_motif_is_reported_with_all_baselines(run_tool: Run, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    lines = []
    for number in range(200):
        bases = "".join(generator.choice(list("ACGT"), 60))
        lines.append(f"s{number}\t{bases[:20] + 'TTGACATA' + bases[28:] if number % 2 else bases}\t{number % 2}")
    (tmp_path / "t").write_text("id\tsequence\tlabel\n" + "\n".join(lines) + "\n")
    written = outputs(tmp_path, "metrics")
    code, _, error = run_tool("finetune", "--sequences", tmp_path / "t", *PLANTED[2:], *ONE, *written)
    assert code == 0, error
    found = metrics(tmp_path / "metrics")
    names = {"accuracy", "balanced_accuracy", "mcc", "macro_f1", "auroc", "auprc"}
    for method in ("majority", "gc", "kmer", "probe"):
        assert {name for one, name in found if one == method} == names
    assert found["majority", "auroc"] == 0.5
    assert found["kmer", "auroc"] > 0.9
    assert found["probe", "auroc"] > 0.9
    for row in rows(tmp_path / "metrics"):
        if row["value"] != "nan" and row["ci_low"] != "nan":
            assert float(row["ci_low"]) <= float(row["value"]) <= float(row["ci_high"])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["probe", "lora", "full"])
def test_two_runs_with_one_seed_are_the_same_bytes(run_tool: Run, tmp_path: Path, method: str) -> None:
    names = ("metrics", "predictions", "records", "figure", "log", *(() if method == "probe" else ("checkpoint",)))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        options = (*GENOMES, *TINY, "--method", method, "--max-steps", 12, "--seed", 4, *ONE)
        assert run_tool("finetune", *options, *outputs(tmp_path / name, *names))[0] == 0
    for name in ("output", *names):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "column", "method"),
    [
        ("classify", "label", "probe"),
        ("classify", "label", "lora"),
        ("multilabel", "features", "probe"),
        ("multilabel", "features", "full"),
        ("regress", "gc", "probe"),
        ("regress", "gc", "full"),
    ],
)
def test_predict_says_of_the_test_what_was_written_of_it(
    run_tool: Run, tmp_path: Path, task: str, column: str, method: str
) -> None:
    options = (*GENOMES, "--task", task, "--label-column", column, "--method", method, "--max-steps", 10)
    written = outputs(tmp_path, "predictions", "metrics")
    code, _, error = run_tool("finetune", *options, "--baselines", "none", *DEMO, *ONE, *written)
    assert code == 0, error
    predict = (*GENOMES[:2], "--model", tmp_path / "output", *ONE, "--output", tmp_path / "all")
    assert run_tool("predict", *predict)[0] == 0
    expected = {row["id"]: row for row in rows(tmp_path / "all")}
    held_out = rows(tmp_path / "predictions")
    assert 15 <= len(held_out) <= 20
    for row in held_out:
        for name, value in row.items():
            if name.startswith(("probability_", "value")):
                assert float(value) == pytest.approx(float(expected[row["id"]][name]), abs=2e-5)
            elif name == "label":
                assert value == expected[row["id"]]["label"]


@pytest.mark.slow
def test_metrics_are_those_of_the_predictions(run_tool: Run, tmp_path: Path) -> None:
    written = outputs(tmp_path, "predictions", "metrics", "records")
    assert run_tool("finetune", *GENOMES, *DEMO, *ONE, *written)[0] == 0
    held_out, found = rows(tmp_path / "predictions"), metrics(tmp_path / "metrics")
    true = [row["true"] for row in held_out]
    assert found["probe", "mcc"] == pytest.approx(statistics.mcc(true, [row["label"] for row in held_out]), abs=1e-5)
    said = [float(row["probability_human"]) for row in held_out]
    assert found["probe", "auroc"] == pytest.approx(
        statistics.auroc([name == "human" for name in true], said), abs=1e-5
    )
    tested = [row["id"] for row in rows(tmp_path / "records") if row["split"] == "test"]
    assert tested == [row["id"] for row in held_out]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "task"), [("probe", "classify"), ("full", "classify"), ("probe", "regress")])
def test_nothing_that_tests_reaches_the_model(run_tool: Run, tmp_path: Path, method: str, task: str) -> None:
    """Other sequences and other labels to test with: the same weights, step, temperature and thresholds, to the bit."""
    generator = np.random.default_rng(0)
    sides = ["train", "validation", "test"]
    shares = [[0.35, 0.15, 0.15, 0.35], [0.15, 0.35, 0.35, 0.15]]  # of A, C, G, T in each class: it is learnt
    sequences = ["".join(generator.choice(list("ACGT"), 60, p=shares[number % 2])) for number in range(120)]
    for name in ("one", "two"):
        lines = []
        for number, bases in enumerate(sequences):
            side = sides[number // 2 % 3]
            other = name == "two" and side == "test"
            lines.append(f"s{number}\t{bases[::-1] if other else bases}\t{(number + other) % 2}\t{side}")
        (tmp_path / f"{name}.tsv").write_text("id\tsequence\tlabel\tsplit\n" + "\n".join(lines) + "\n")
        (tmp_path / name).mkdir()
        chosen = ("--split", "given", "--method", method, "--task", task)
        options = (*chosen, "--max-steps", 9, "--evaluate-every", 3, "--learning-rate", 0.01)
        written = outputs(tmp_path / name, "metrics", "predictions")
        code, _, error = run_tool("finetune", "--sequences", tmp_path / f"{name}.tsv", *TINY, *options, *ONE, *written)
        assert code == 0, error
    assert (tmp_path / "one" / "output").read_bytes() == (tmp_path / "two" / "output").read_bytes()
    assert (tmp_path / "one" / "predictions").read_bytes() != (tmp_path / "two" / "predictions").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("baselines", ["all", "none"])
def test_the_time_that_judging_takes_is_kept_free(
    run_tool: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, baselines: str
) -> None:
    reserved: list[float] = []
    usual = FinetuningJob.train

    def watched(self: Any, started: float, seconds: float, interrupted: Any) -> Any:
        reserved.append(seconds)
        return usual(self, started, seconds, interrupted)

    monkeypatch.setattr(FinetuningJob, "train", watched)
    options = (*GENOMES, *TINY, "--method", "lora", "--max-steps", 2, "--baselines", baselines, "--time-limit", 1, *ONE)
    assert run_tool("finetune", *options, *outputs(tmp_path))[0] == 0
    assert reserved[0] > 0


def stop_after(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Let the clock end the training after so many steps, as a destination's time limit would."""
    steps: list[int] = []
    usual = training_callbacks.Limits.on_step_end

    def counting(self: Any, *arguments: Any, **kwargs: Any) -> None:
        steps.append(1)
        if len(steps) == count:
            self._start = -1e9
        usual(self, *arguments, **kwargs)

    monkeypatch.setattr(training_callbacks.Limits, "on_step_end", counting)


@pytest.mark.slow
@pytest.mark.parametrize("extra", [("lora",), ("full",), ("full", "--gradient-accumulation", 2)])
def test_resuming_gives_the_weights_of_the_uninterrupted_run(
    run_tool: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: tuple[object, ...]
) -> None:
    options = (*GENOMES, *TINY, "--method", *extra, "--max-steps", 30, "--evaluate-every", 5, "--baselines", "none")
    options = (*options, "--learning-rate", 0.01, "--patience", 0, *ONE)
    for name in ("whole", "half", "resumed"):
        (tmp_path / name).mkdir()
    names = ("checkpoint", "log", "predictions")
    assert run_tool("finetune", *options, *outputs(tmp_path / "whole", *names))[0] == 0
    stop_after(monkeypatch, 13)
    code, out, _ = run_tool("finetune", *options, "--time-limit", 1, *outputs(tmp_path / "half", *names))
    monkeypatch.undo()
    assert code == 0
    assert "Stopped after step 13: time limit" in out
    assert rows(tmp_path / "half" / "log")[-1]["split"] == "stopped: time limit"
    assert load_classifier(open_model(tmp_path / "half" / "checkpoint")).labels == ("ecoli", "human")
    resume = ("--resume-from", tmp_path / "half" / "checkpoint")
    assert run_tool("finetune", *options, *resume, *outputs(tmp_path / "resumed", *names))[0] == 0
    assert (tmp_path / "whole" / "output").read_bytes() == (tmp_path / "resumed" / "output").read_bytes()
    whole, resumed = (load_file(tmp_path / name / "checkpoint") for name in ("whole", "resumed"))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], tensor) for name, tensor in resumed.items())
    assert (tmp_path / "whole" / "predictions").read_bytes() == (tmp_path / "resumed" / "predictions").read_bytes()


def test_the_order_of_labels_survives(run_tool: Run, tmp_path: Path) -> None:
    """Numbers in their order and words behind them, whatever comes first in the table."""
    generator = np.random.default_rng(0)
    labels = ["10", "9", "b", "A", "2"]
    lines = [f"s{number}\t{''.join(generator.choice(list('ACGT'), 40))}\t{labels[number % 5]}" for number in range(60)]
    (tmp_path / "t").write_text("id\tsequence\tlabel\n" + "\n".join(lines) + "\n")
    written = outputs(tmp_path, "predictions")
    assert run_tool("finetune", "--sequences", tmp_path / "t", *TINY, *ONE, "--baselines", "none", *written)[0] == 0
    expected = ["2", "9", "10", "A", "b"]
    assert list(load_classifier(open_model(tmp_path / "output")).labels) == expected
    header = (tmp_path / "predictions").read_text().splitlines()[0].split("\t")
    assert header[3:] == [f"probability_{label}" for label in expected]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["probe", "lora", "full"])
def test_a_published_classifier_is_taught_other_classes_by_a_table_as_it_is(
    run_tool: Run, tmp_path: Path, method: str
) -> None:
    """A table as DNABERT-2's sample, sequences and labels between commas; the model's head of before is left behind."""
    generator = np.random.default_rng(0)
    sequences = ["".join(generator.choice(list("ACGT"), 101)) for _ in range(15)]
    lines = [f"{bases},{label}\n" for bases, label in zip(sequences, "100000100101001", strict=True)]
    (tmp_path / "train.csv").write_text("sequence,label\n" + "".join(lines))
    model = write_mistral_dna(tmp_path / "model", labels=3)
    written = outputs(tmp_path, "metrics", "predictions", "records")
    options = ("--model", model, "--method", method, "--epochs", 1, *ONE, *written)
    code, _, error = run_tool("finetune", "--sequences", tmp_path / "train.csv", *options)
    assert code == 0, error
    assert load_classifier(open_model(tmp_path / "output")).labels == ("0", "1")
    assert len(rows(tmp_path / "records")) == 15
    assert {"majority", "gc", "kmer", "probe", method} <= {name for name, _ in metrics(tmp_path / "metrics")}
    (tmp_path / "all.fasta").write_text("".join(f">line_{n}\n{bases}\n" for n, bases in enumerate(sequences, start=2)))
    predict = ("--sequences", tmp_path / "all.fasta", "--model", tmp_path / "output", *ONE)
    assert run_tool("predict", *predict, "--output", tmp_path / "all.tsv")[0] == 0
    said = {row["id"]: row for row in rows(tmp_path / "all.tsv")}
    held_out = rows(tmp_path / "predictions")
    assert held_out
    for row in held_out:
        assert row["label"] == said[row["id"]]["label"]
        assert float(row["probability_1"]) == pytest.approx(float(said[row["id"]]["probability_1"]), abs=2e-5)


@pytest.mark.slow
def test_licence_and_origin_are_carried_on(run_tool: Run, tmp_path: Path) -> None:
    model = TEST_DATA / "random_model.safetensors"
    assert run_tool("finetune", *GENOMES, "--model", model, *ONE, "--name", "ours", *outputs(tmp_path))[0] == 0
    stored = open_model(tmp_path / "output")
    assert (stored.name, stored.licence) == ("ours", "MIT")
    assert stored.provenance["model"]["sha256"] == open_model(model).sha256()
    assert stored.provenance["options"]["method"] == "probe"


@pytest.mark.slow
def test_groups_stay_together_and_a_given_split_is_kept(run_tool: Run, tmp_path: Path) -> None:
    group = ("--split", "group", "--group-column", "block", *outputs(tmp_path, "records"))
    assert run_tool("finetune", *GENOMES, *DEMO, *ONE, "--baselines", "none", *group)[0] == 0
    sides: dict[str, set[str]] = {}
    for row in rows(tmp_path / "records"):
        sides.setdefault(row["group"], set()).add(row["split"])
    assert all(len(of_group) == 1 for of_group in sides.values())
    assert set.union(*sides.values()) == {"train", "validation", "test"}
    given = ("--split", "given", "--split-column", "side", *outputs(tmp_path, "records"))
    code, out, _ = run_tool("finetune", *GENOMES, *DEMO, *ONE, "--baselines", "none", *given)
    assert code == 0
    assert "The table gives nothing to validate with" in out
    known = {row["id"]: row["side"] for row in rows(TEST_DATA / "two_genomes_labels.tsv")}
    for row in rows(tmp_path / "records"):
        assert (row["split"] == "test") == (known[row["id"]] == "test")


@pytest.mark.slow
def test_a_fine_tuned_model_is_fine_tuned_further(run_tool: Run, tmp_path: Path) -> None:
    """Its head is left behind, and its backbone is what is trained."""
    first = ("--method", "full", "--max-steps", 4, "--baselines", "none", *ONE)
    assert run_tool("finetune", *GENOMES, *TINY, *first, "--output", tmp_path / "first")[0] == 0
    task = ("--task", "regress", "--label-column", "gc", "--method", "lora")
    options = (*task, "--max-steps", 4, "--baselines", "none", *ONE, "--model", tmp_path / "first")
    code, _, error = run_tool("finetune", *GENOMES, *options, "--output", tmp_path / "second")
    assert code == 0, error
    assert load_classifier(open_model(tmp_path / "second")).task == "regress"
