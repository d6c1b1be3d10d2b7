"""Pretraining by two processes, as torchrun starts them: one voice, the loss of one process, one end for both."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY, TEST_DATA
from dnalm.models.sources import open_model

STEPS = 60


def command(folder: Path, processes: int, *options: object) -> list[str]:
    """Four windows a step, whoever reads them."""
    folder.mkdir()
    names = ("output", "checkpoint", "log", "figure", "card")
    outputs = [part for name in names for part in (f"--{name}", folder / name)]
    data = ("--sequences", TEST_DATA / "human_mitochondrion.fasta", "--window", 64, "--batching", "padded")
    training = ("--batch-size", 4 // processes, "--evaluate-every", 10, "--patience", 0, "--threads", 1)
    started = [sys.executable]
    if processes > 1:
        started += ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--standalone", "--"]
    given = (*data, *training, *outputs, *options)
    return [*started, str(REPOSITORY / "scripts" / "dnalm_pretrain.py"), *map(str, given)]


ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def ended(folder: Path, processes: int, *options: object) -> str:
    done = subprocess.run(command(folder, processes, *options), capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def by_two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """What two processes wrote, and what they said."""
    folder = tmp_path_factory.mktemp("by-two") / "results"
    return folder, ended(folder, 2, "--max-steps", STEPS)


def refused(folder: Path, *options: object) -> str:
    """Return the one sentence of a job of two processes that must fail."""
    done = subprocess.run(command(folder, 2, *options), capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 1
    (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("dnalm_pretrain: ")]
    return sentence


def losses(folder: Path, split: str) -> list[tuple[str, float]]:
    rows = [line.split("\t") for line in (folder / "log").read_text().splitlines()[1:]]
    return [(row[0], float(row[3])) for row in rows if row[2] == split]


def test_two_processes_have_one_voice(by_two: tuple[Path, str]) -> None:
    folder, said = by_two
    assert said.count("Device: ") == said.count("Read 1 records") == said.count(f"Step {STEPS}: ") == 1
    names = {"output", "checkpoint", "log", "figure", "card"}
    assert {path.name for path in folder.iterdir()} == names


def test_two_processes_lose_what_one_does_with_the_same_windows_a_step(
    by_two: tuple[Path, str], tmp_path: Path
) -> None:
    ended(tmp_path / "one", 1, "--max-steps", STEPS)
    for split in ("training", "validation"):
        of_one, of_two = losses(tmp_path / "one", split), losses(by_two[0], split)
        assert [step for step, _ in of_two] == [step for step, _ in of_one]
        for (_, two), (_, one) in zip(of_two, of_one, strict=True):
            assert two == pytest.approx(one, abs=1e-4)


def test_a_signal_to_one_process_ends_both_and_their_checkpoint_goes_on_as_if_it_had_not(
    by_two: tuple[Path, str], tmp_path: Path
) -> None:
    half = tmp_path / "half"
    job = subprocess.Popen(command(half, 2, "--max-steps", STEPS), text=True, env=ENVIRONMENT)
    deadline = time.monotonic() + 120
    while not (half / "checkpoint").exists():
        assert job.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGTERM)
    assert job.wait(timeout=60) == 0
    assert "stopped: signal" in (half / "log").read_text().splitlines()[-1]
    facts = open_model(half / "checkpoint").training
    assert facts is not None
    assert facts["state"]["trainer"]["global_step"] < STEPS
    ended(tmp_path / "resumed", 2, "--max-steps", STEPS, "--resume-from", half / "checkpoint")
    whole, resumed = (open_model(folder / "output").read_tensors() for folder in (by_two[0], tmp_path / "resumed"))
    assert all(torch.equal(whole[name], tensor) for name, tensor in resumed.items())


def test_bad_input_is_said_once(tmp_path: Path) -> None:
    sentence = refused(tmp_path / "results", "--max-steps", STEPS, "--validation-fraction", 0.9, "--window", 16_000)
    assert "leaves no window for training" in sentence
    assert list((tmp_path / "results").iterdir()) == []


def test_a_divergence_is_said_once_and_keeps_the_log(tmp_path: Path) -> None:
    """Positions that turn by angles without end."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"model_type": "llama", "rope_theta": 1e-90} | sizes))
    sentence = refused(tmp_path / "results", "--model-config", config, "--max-steps", STEPS)
    assert "The training diverged" in sentence
    assert "stopped: diverged" in (tmp_path / "results" / "log").read_text().splitlines()[-1]
