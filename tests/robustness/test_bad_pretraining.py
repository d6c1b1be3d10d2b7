"""Data, models and checkpoints that cannot be trained with, and jobs that are ended: one sentence, nothing half."""

import json
import os
import re
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
from dnalm.models.model_file import StoredModel, write_model_file
from dnalm.models.registry import load_language_model
from dnalm.models.sources import open_model
from safetensors.torch import load_file

SCRIPT = REPOSITORY / "scripts" / "dnalm_pretrain.py"
MITOCHONDRION = TEST_DATA / "human_mitochondrion.fasta"
DEMO = TEST_DATA / "demo_model.safetensors"
SMALL = ("--window", 64, "--batch-size", 4, "--threads", 1, "--evaluate-every", 10)
LONG = ("--window", 64, "--batch-size", 4, "--threads", 1, "--evaluate-every", 3, "--max-steps", 100_000)


@pytest.fixture
def refused(run_tool: Run, tmp_path: Path) -> Callable[..., str]:
    """Run a job that must be refused, and return its sentence."""

    def call(*arguments: object) -> str:
        results = tmp_path / "results"
        results.mkdir()
        outputs = [part for name in ("output", "checkpoint", "log", "figure", "card") for part in outputs_of(name)]
        code, _, error = run_tool("pretrain", *arguments, "--threads", 1, *outputs)
        check_one_sentence(code, error)
        assert list(results.iterdir()) == []
        return error

    def outputs_of(name: str) -> tuple[object, ...]:
        return f"--{name}", tmp_path / "results" / name

    return call


def check_one_sentence(code: int, error: str) -> None:
    assert code == 1
    assert error.startswith("dnalm_pretrain: ")
    assert error.endswith(".\n")
    assert error.count("\n") == 1


def fasta(folder: Path, *sequences: str) -> Path:
    path = folder / "sequences.fasta"
    path.write_text("".join(f">r{number}\n{bases}\n" for number, bases in enumerate(sequences)))
    return path


def random_bases(length: int, seed: int = 0) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), length))


def table(path: Path) -> list[dict[str, str]]:
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


# Data


def test_nothing_left_after_filtering(refused: Callable[..., str], tmp_path: Path) -> None:
    error = refused("--sequences", fasta(tmp_path, "N" * 100, "ACGTACGT"), "--window", 50)
    assert "No window is left of 2 records (2 had too many N, 1 records under 20 bases)" in error


def test_windows_without_a_token_to_predict(refused: Callable[..., str], tmp_path: Path) -> None:
    sequences = fasta(tmp_path, "N" * 100, "N" * 90)
    error = refused("--sequences", sequences, "--window", 100, "--max-n", 1, "--split", "record")
    assert "No token is left to predict" in error


def test_a_record_split_of_one_record(refused: Callable[..., str], tmp_path: Path) -> None:
    error = refused("--sequences", fasta(tmp_path, random_bases(400)), "--window", 50, "--split", "record")
    assert "The split 'record' leaves no window for validation" in error


def test_a_block_that_leaves_nothing_beside_its_gap(refused: Callable[..., str], tmp_path: Path) -> None:
    error = refused("--sequences", fasta(tmp_path, random_bases(100)), "--window", 50)
    assert "The split 'block' leaves no window for training" in error


@pytest.mark.parametrize("sequences", [(random_bases(50),), (random_bases(50), random_bases(50))])
def test_one_window_cannot_be_trained_on_and_validated_with(
    refused: Callable[..., str], tmp_path: Path, sequences: tuple[str, ...]
) -> None:
    assert "Only one window is left" in refused("--sequences", fasta(tmp_path, *sequences))


def test_sequences_shorter_than_a_window_are_one_window_each(run_tool: Run, tmp_path: Path) -> None:
    sequences = fasta(tmp_path, random_bases(30, 1), random_bases(40, 2), random_bases(19, 3), random_bases(218, 4))
    options = ("--sequences", sequences, "--window", 200, "--split", "record", "--max-steps", 1, "--threads", 1)
    code, out, _ = run_tool("pretrain", *options, "--output", tmp_path / "model")
    assert code == 0
    assert "Read 4 records of 307 bases: 3 windows" in out
    assert "records left out that have under 20 bases: 1\n" in out
    assert "ends of records left out that have under 20 bases: 1\n" in out


@pytest.mark.parametrize("content", ["id,bases\na,ACGT\n", "id\tbases\na\tACGT\n"])
def test_a_table_without_a_column_of_sequences(refused: Callable[..., str], tmp_path: Path, content: str) -> None:
    (tmp_path / "t").write_text(content)
    error = refused("--sequences", tmp_path / "t")
    assert "first line names no column sequence, text, seq or dna" in error


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("text,label\nACGT,1\n,0\n", "Line 3 of 't' has no sequence in the column 'text'"),
        ("text,label\nACGT,1\n\nACXT,0\n", "Line 4 of 't' has 'X' at position 3"),
        ('text,label\nACGT,1\n"ACGT,0\n', "Line 3 of 't' has a cell whose quotes do not match"),
    ],
)
def test_a_damaged_table(refused: Callable[..., str], tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "t").write_text(content)
    assert said in refused("--sequences", tmp_path / "t")


def test_neither_or_both_kinds_of_data(refused: Callable[..., str]) -> None:
    assert "Give either sequences, or a genome together with regions" in refused("--genome", MITOCHONDRION)


# Models


def test_a_recipe_without_a_model_and_no_model(refused: Callable[..., str]) -> None:
    error = refused("--sequences", MITOCHONDRION, "--preset", "custom")
    assert "The recipe 'custom' has no model of its own; give a config.json, a model to continue" in error


def test_a_vocabulary_larger_than_the_data_support(refused: Callable[..., str], tmp_path: Path) -> None:
    error = refused("--sequences", fasta(tmp_path, random_bases(5_000)), "--preset", "mistral-dna-1m")
    assert "The sequences support a vocabulary of" in error
    assert "4,096 are asked for; give more sequences, a smaller tokenizer, or a preset that reads letters" in error


def config(path: Path, **changes: object) -> Path:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    path.write_text(json.dumps({"model_type": "llama", "intermediate_size": 16} | sizes | changes))
    return path


def test_a_config_of_another_tokenizer(refused: Callable[..., str], tmp_path: Path) -> None:
    error = refused("--sequences", MITOCHONDRION, "--model-config", config(tmp_path / "c.json", vocab_size=4_096))
    assert "has vocab_size 4,096, the tokenizer" in error


@pytest.mark.parametrize(
    ("changes", "objective", "said"),
    [
        ({"model_type": "hyena"}, "causal", "The architecture 'hyena'"),
        ({"num_attention_heads": 3}, "causal", "No model can be made of this config"),
        ({}, "masked", "The architecture llama cannot be trained with the objective masked"),
        ({"model_type": "bert"}, "causal", "The architecture bert cannot be trained with the objective causal"),
    ],
)
def test_a_config_that_cannot_be(
    refused: Callable[..., str], tmp_path: Path, changes: dict[str, object], objective: str, said: str
) -> None:
    path = config(tmp_path / "c.json", **changes)
    assert said in refused("--sequences", MITOCHONDRION, "--model-config", path, "--objective", objective)


def test_windows_larger_than_the_models_context(refused: Callable[..., str], tmp_path: Path) -> None:
    path = config(tmp_path / "c.json", max_position_embeddings=64)
    error = refused("--sequences", MITOCHONDRION, "--model-config", path, "--window", 100)
    assert "A window of 100 bases has 101 tokens, the model reads 64; use smaller windows" in error


def test_a_masked_preset_continued_from_a_causal_model(refused: Callable[..., str], checkpoint: Path) -> None:
    options = ("--continue-from", checkpoint.with_name("model"), "--preset", "modernbert", "--window", 100)
    error = refused("--sequences", MITOCHONDRION, *options)
    assert "is causal, the objective masked" in error


def test_a_continued_model_brings_its_tokenizer(refused: Callable[..., str], tmp_path: Path) -> None:
    error = refused("--sequences", MITOCHONDRION, "--continue-from", DEMO, "--model-config", config(tmp_path / "c"))
    assert "A model that is continued brings its config and tokenizer" in error


@pytest.mark.parametrize("changes", [{"model_type": "modernbert"}, {"model_type": "mistral", "sliding_window": 8}])
def test_packing_for_a_model_that_cannot_read_windows_apart(
    refused: Callable[..., str], tmp_path: Path, changes: dict[str, object]
) -> None:
    objective = "masked" if changes["model_type"] == "modernbert" else "causal"
    options = ("--model-config", config(tmp_path / "c.json", **changes), "--objective", objective)
    error = refused("--sequences", MITOCHONDRION, *options, "--batching", "packed", "--window", 64)
    assert "cannot read packed windows apart" in error


# Divergence


def poison(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Make a weight no number after so many steps, as an overflow would."""
    from dnalm.engine import training

    usual = training.ModelTrainer.training_step
    calls: list[int] = []

    def poisoned(self: Any, model: torch.nn.Module, *arguments: Any, **options: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == step:
            with torch.no_grad():
                next(model.parameters()).fill_(torch.nan)
        return usual(self, model, *arguments, **options)

    monkeypatch.setattr(training.ModelTrainer, "training_step", poisoned)


def test_a_divergence_keeps_the_last_good_model_and_its_checkpoint(
    run_tool: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("output", "checkpoint", "log", "figure", "card")
    outputs = [part for name in names for part in (f"--{name}", tmp_path / name)]
    poison(monkeypatch, 15)
    code, _, error = run_tool("pretrain", "--sequences", MITOCHONDRION, *SMALL, "--max-steps", 40, *outputs)
    check_one_sentence(code, error)
    assert "The training diverged after step 15: its loss is no number any more" in error
    assert "the best model so far (step 10) is kept" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    load_language_model(open_model(tmp_path / "output"), head=True)
    load_language_model(open_model(tmp_path / "checkpoint"), head=True)
    assert table(tmp_path / "log")[-1]["split"] == "stopped: diverged"
    assert table(tmp_path / "log")[-1]["step"] == "15"


def test_a_divergence_before_the_first_measurement_keeps_the_log_alone(
    run_tool: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("output", "checkpoint", "log", "figure", "card")
    outputs = [part for name in names for part in (f"--{name}", tmp_path / name)]
    poison(monkeypatch, 2)
    code, _, error = run_tool("pretrain", "--sequences", MITOCHONDRION, *SMALL, "--max-steps", 40, *outputs)
    check_one_sentence(code, error)
    assert "no model is kept" in error
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_a_checkpoint_between_measurements_never_holds_what_is_no_number(
    run_tool: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A last gradient without bounds spoils the weights although every loss so far was a number."""
    from dnalm.engine import training_callbacks

    monkeypatch.setattr(training_callbacks, "CHECKPOINT_SECONDS", 0.0)
    steps: list[int] = []

    def step_end(
        self: object, args: object, state: object, control: object, model: torch.nn.Module, **kwargs: object
    ) -> None:
        steps.append(1)
        if len(steps) == 5:
            with torch.no_grad():
                next(model.parameters()).fill_(torch.nan)

    monkeypatch.setattr(training_callbacks.Progress, "on_step_end", step_end)
    options = ("--sequences", MITOCHONDRION, *SMALL, "--max-steps", 20)
    code, _, error = run_tool("pretrain", *options, "--output", tmp_path / "m", "--checkpoint", tmp_path / "checkpoint")
    check_one_sentence(code, error)
    assert "diverged after step 5" in error
    facts = open_model(tmp_path / "checkpoint").training
    assert facts is not None
    assert facts["state"]["trainer"]["global_step"] == 4
    load_language_model(open_model(tmp_path / "checkpoint"), head=True)


# Memory and time


def test_a_batch_too_large_for_the_gpu(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    from dnalm.engine import training

    def exhausted(*arguments: object, **options: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(training.ModelTrainer, "training_step", exhausted)
    error = refused("--sequences", MITOCHONDRION, *SMALL, "--max-steps", 5)
    assert "A batch of the training does not fit into the GPU's memory (step 1); use a smaller batch size" in error


def test_the_first_evaluation_is_counted_in_the_time_limit(
    run_tool: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of 10 s, 58 of an epoch, over nine times as many windows as are measured at the end: some 30 s."""
    from dnalm.engine import training_callbacks

    usual = training_callbacks.Limits._what_to_do
    steps: list[int] = []

    def by_another_clock(self: Any, now: float) -> str:
        steps.append(1)
        self._start = self._trained_since = 0.0
        return usual(self, 10.0 * len(steps))

    monkeypatch.setattr(training_callbacks.Limits, "_what_to_do", by_another_clock)
    options = ("--sequences", MITOCHONDRION, "--window", 64, "--batch-size", 4, "--threads", 1)
    code, out, _ = run_tool("pretrain", *options, "--time-limit", 200 / 3600, "--output", tmp_path / "m")
    assert code == 0
    assert "Stopped after step 17: time limit" in out


# Checkpoints


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a run, after its last step; its model lies beside it."""
    from dnalm.entry_point import run

    folder = tmp_path_factory.mktemp("checkpoint")
    import dnalm_pretrain

    handler = signal.getsignal(signal.SIGTERM)
    outputs = ("--output", folder / "model", "--checkpoint", folder / "checkpoint")
    assert run(dnalm_pretrain.parser(), dnalm_pretrain.main, [str(part) for part in (*RESUMED, *outputs)]) == 0
    signal.signal(signal.SIGTERM, handler)
    return folder / "checkpoint"


RESUMED = ("--sequences", MITOCHONDRION, *SMALL, "--max-steps", 20)


def test_a_model_that_is_no_checkpoint(refused: Callable[..., str], checkpoint: Path) -> None:
    error = refused(*RESUMED, "--resume-from", checkpoint.with_name("model"))
    assert "is no checkpoint of a pretraining; give the checkpoint of one" in error


def test_a_checkpoint_of_another_kind_of_training(refused: Callable[..., str]) -> None:
    error = refused(*RESUMED, "--resume-from", TEST_DATA / "finetuning_checkpoint.safetensors")
    assert "is no checkpoint of a pretraining; give the checkpoint of one" in error


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--learning-rate", 0.5), "was trained with --learning-rate 0.003, now it is 0.5"),
        (("--learning-rate", 0), "was trained with --learning-rate 0.003, now it is 0.0"),
        (("--seed", 1), "was trained with --seed 0, now it is 1"),
        (("--validation-fraction", 0.2), "was trained with --validation-fraction 0.1, now it is 0.2"),
        (("--preset", "llama"), "was trained with --preset demo, now it is llama"),
        (("--objective", "masked"), "was trained with --objective causal, now it is masked"),
        (("--soft-masked-weight", 0.1), "was trained with --soft-masked-weight 1.0, now it is 0.1"),
    ],
)
def test_a_checkpoint_of_other_options(
    refused: Callable[..., str], checkpoint: Path, options: tuple[object, ...], said: str
) -> None:
    assert said in refused(*RESUMED, *options, "--resume-from", checkpoint)


def test_a_checkpoint_of_other_data(refused: Callable[..., str], checkpoint: Path, tmp_path: Path) -> None:
    options = ("--sequences", fasta(tmp_path, random_bases(16_000)), *SMALL, "--max-steps", 20)
    assert "was trained on other windows" in refused(*options, "--resume-from", checkpoint)


def test_a_checkpoint_of_another_config(refused: Callable[..., str], checkpoint: Path, tmp_path: Path) -> None:
    error = refused(*RESUMED, "--model-config", config(tmp_path / "c.json"), "--resume-from", checkpoint)
    assert "is of another model: it differs in intermediate_size in its config" in error


def test_a_checkpoint_of_another_tokenizer(refused: Callable[..., str], checkpoint: Path) -> None:
    tokenizer = REPOSITORY / "tests" / "parity" / "data" / "dnabert2" / "tokenizer.json"
    error = refused(*RESUMED, "--tokenizer", tokenizer, "--resume-from", checkpoint)
    assert "is of another model: it differs in its tokenizer" in error


def test_a_checkpoint_of_more_processes(refused: Callable[..., str], checkpoint: Path, tmp_path: Path) -> None:
    changed = changed_checkpoint(checkpoint, tmp_path, lambda facts: facts.update(processes=4))
    assert "was trained by 4 processes, now there are 1; use as many" in refused(*RESUMED, "--resume-from", changed)


@pytest.mark.parametrize("share", [0.001, 0.3, 0.99])
def test_a_checkpoint_that_is_cut_off(
    refused: Callable[..., str], checkpoint: Path, tmp_path: Path, share: float
) -> None:
    content = checkpoint.read_bytes()
    (tmp_path / "cut").write_bytes(content[: int(share * len(content))])
    assert "cut" in refused(*RESUMED, "--resume-from", tmp_path / "cut")


def changed_checkpoint(
    checkpoint: Path,
    folder: Path,
    change: Callable[[dict[str, Any]], object],
    change_tensors: Callable[[dict[str, torch.Tensor]], object] = lambda tensors: None,
) -> Path:
    stored: StoredModel = open_model(checkpoint)
    facts = json.loads(json.dumps(stored.training))
    change(facts)
    tensors = dict(stored.read_training_tensors())
    change_tensors(tensors)
    path = folder / "changed"
    write_model_file(
        path,
        stored.read_tensors(),
        stored.config,
        stored.tokenizer,
        name="changed",
        training=facts,
        training_tensors=tensors,
    )
    return path


def early(facts: dict[str, Any]) -> None:
    facts["state"]["trainer"]["global_step"] = 10


def with_one_sum(facts: dict[str, Any]) -> None:
    early(facts)
    facts["state"]["sums"] = [1.0]


def without(name: str) -> Callable[[dict[str, Any]], None]:
    def change(facts: dict[str, Any]) -> None:
        early(facts)
        del facts["state"][name]

    return change


def first_moment(change: Callable[[torch.Tensor], torch.Tensor | None]) -> Callable[[dict[str, torch.Tensor]], None]:
    def apply(tensors: dict[str, torch.Tensor]) -> None:
        name = min(name for name in tensors if name.startswith("optimizer."))
        tensor = change(tensors.pop(name))
        if tensor is not None:
            tensors[name] = tensor

    return apply


@pytest.mark.parametrize(
    ("change", "change_tensors"),
    [
        (lambda facts: facts["run"].update(best="x"), None),
        (lambda facts: facts.update(state=3), None),
        (lambda facts: facts["state"]["trainer"].update(global_step="x"), None),
        (lambda facts: facts["state"]["trainer"].pop("global_step"), None),
        (with_one_sum, None),
        (without("groups"), None),
        (without("schedule"), None),
        (without("numpy_random"), None),
        (early, first_moment(lambda moment: moment[:1, :1].contiguous())),
        (early, lambda tensors: tensors.pop("random.cpu.0")),
    ],
)
def test_a_damaged_state_of_training(
    refused: Callable[..., str],
    checkpoint: Path,
    tmp_path: Path,
    change: Callable[[dict[str, Any]], object],
    change_tensors: Callable[[dict[str, torch.Tensor]], object] | None,
) -> None:
    changed = changed_checkpoint(checkpoint, tmp_path, change, change_tensors or (lambda tensors: None))
    assert "state of training is damaged" in refused(*RESUMED, "--resume-from", changed)


def test_a_checkpoint_of_a_run_that_is_over_gives_its_model_again(
    run_tool: Run, checkpoint: Path, tmp_path: Path
) -> None:
    again = ("--resume-from", checkpoint, "--output", tmp_path / "again", "--log", tmp_path / "log")
    code, out, _ = run_tool("pretrain", *RESUMED, *again)
    assert code == 0
    assert "(step 20)" in out
    assert (tmp_path / "again").read_bytes() == checkpoint.with_name("model").read_bytes()
    assert max(int(row["step"]) for row in table(tmp_path / "log")) == 20


# Ends


def command(folder: Path, *options: object) -> list[str]:
    outputs = ("--output", folder / "model", "--checkpoint", folder / "checkpoint", "--log", folder / "log")
    return [sys.executable, str(SCRIPT), "--sequences", str(MITOCHONDRION), *map(str, (*options, *outputs))]


def started(folder: Path, *options: object) -> "subprocess.Popen[str]":
    """Start a job and return when its first checkpoint is there."""
    folder.mkdir()
    job = subprocess.Popen(command(folder, *LONG, *options), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not (folder / "checkpoint").exists():
        assert job.poll() is None, job.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return job


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_job_that_is_told_to_end_keeps_what_it_has(tmp_path: Path, sent: signal.Signals) -> None:
    job = started(tmp_path / "results", "--patience", 0)
    job.send_signal(sent)
    out, error = job.communicate(timeout=60)
    assert job.returncode == 0, error
    assert "the job was asked to end" in out
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == ["checkpoint", "log", "model"]
    assert table(tmp_path / "results" / "log")[-1]["split"] == "stopped: signal"
    load_language_model(open_model(tmp_path / "results" / "model"), head=True)
    assert open_model(tmp_path / "results" / "checkpoint").training


def test_a_job_ends_in_time(tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    hours = 15 / 3600
    begun = time.monotonic()
    job = command(results, *LONG, "--patience", 0, "--time-limit", hours)
    done = subprocess.run(job, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "time limit" in done.stdout
    assert time.monotonic() - begun < 100
    assert table(results / "log")[-1]["split"] == "stopped: time limit"
    assert sorted(path.name for path in results.iterdir()) == ["checkpoint", "log", "model"]


def test_a_job_that_is_told_to_end_before_it_trains_leaves_nothing(
    run_tool: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dnalm.tasks import pretraining

    monkeypatch.setattr(pretraining, "read_windows", lambda options: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as end:
        run_tool(
            "pretrain", "--sequences", MITOCHONDRION, *SMALL, "--output", tmp_path / "model", "--log", tmp_path / "log"
        )
    assert end.value.code == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("moment", range(3))
def test_a_killed_job_leaves_a_whole_checkpoint(run_tool: Run, tmp_path: Path, moment: int) -> None:
    """At whatever moment: every third step writes a checkpoint, so that most of the time one is being written."""
    results = tmp_path / "results"
    job = started(results, "--patience", 0)
    time.sleep(float(np.random.default_rng((moment, time.time_ns())).uniform(0, 1)))
    job.kill()
    job.communicate(timeout=60)
    kept = open_model(results / "checkpoint")
    load_language_model(kept, head=True)
    assert load_file(results / "checkpoint")
    half = [path.name for path in results.iterdir() if path.name != "checkpoint"]
    assert all(name.startswith(".") and name.endswith(".partial") for name in half)
    resumed = ("--resume-from", results / "checkpoint", "--time-limit", 0.0001, "--output", tmp_path / "m")
    code, out, error = run_tool("pretrain", "--sequences", MITOCHONDRION, *LONG, "--patience", 0, *resumed)
    assert code == 0, error
    assert kept.training is not None
    stopped = int(out.partition("Stopped after step ")[2].partition(":")[0])
    assert stopped > kept.training["state"]["trainer"]["global_step"]


@pytest.mark.parametrize("size", [20_000, 400_000, 1_500_000])
def test_a_file_that_may_not_grow_is_said_and_leaves_nothing(tmp_path: Path, size: int) -> None:
    results = tmp_path / "results"
    results.mkdir()

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    job = command(results, *SMALL, "--max-steps", 20)
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(job, capture_output=True, text=True, preexec_fn=limit, env=environment)
    check_full(done, results, r"The (disk|temporary folder '.*') is full")


@pytest.mark.parametrize("where", ["results", "temporary"])
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, where: str) -> None:
    for name in ("results", "temporary"):
        (tmp_path / name).mkdir()
    disk = tmp_path / where
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)], capture_output=True)
    if made.returncode:
        pytest.skip("only root can make a small file system; the limited file size stands for it")
    try:
        job = command(tmp_path / "results", *SMALL, "--max-steps", 20)
        environment = os.environ | {"TMPDIR": str(tmp_path / "temporary")}
        done = subprocess.run(job, capture_output=True, text=True, env=environment)
        full = "The disk is full" if where == "results" else f"The temporary folder '{disk}' is full"
        check_full(done, tmp_path / "results", full)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def check_full(done: "subprocess.CompletedProcess[str]", results: Path, sentence: str) -> None:
    assert done.returncode == 1
    assert re.search(sentence, done.stderr)
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(results.iterdir()) == []
