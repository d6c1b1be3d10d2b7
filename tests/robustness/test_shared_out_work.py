"""Embedding, scoring and segmenting by two processes: the results of one, and one end for both."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from conftest import REPOSITORY, TEST_DATA, Run
from numpy.typing import NDArray

LENGTHS = (30, 400)


def write_sequences(path: Path, count: int, seed: int = 0) -> Path:
    generator = np.random.default_rng(seed)
    lengths = generator.integers(*LENGTHS, count)
    records = (
        f">{number}\n{''.join(generator.choice(list('ACGTN'), length))}\n" for number, length in enumerate(lengths)
    )
    path.write_text("".join(records))
    return path


def rows(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text().splitlines()]


@pytest.mark.parametrize("options", [(), ("--pooling", "none"), ("--dtype", "bfloat16", "--both-strands")])
def test_two_processes_write_what_one_does(
    run_tool: Run, random_model: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    sequences = write_sequences(tmp_path / "x.fasta", 200)
    said = []
    for processes in (1, 2):
        outputs = ("--output", tmp_path / f"{processes}.h5ad", "--summary", tmp_path / f"{processes}.tsv")
        given = ("--sequences", sequences, "--model", random_model, "--threads", 1, "--batch-tokens", 64, *outputs)
        code, out, err = run_tool("embed", *given, *options, "--processes", processes)
        assert (code, err) == (0, "")
        said.append([line for line in out.splitlines() if " a second" not in line])
    assert "1 thread in each of 2 processes" in said[1][0]
    assert said[0][1:] == said[1][1:]
    one, two = (anndata.read_h5ad(tmp_path / f"{processes}.h5ad") for processes in (1, 2))
    assert one.obs.equals(two.obs)
    assert one.uns == two.uns
    tolerance = 1e-5 if "bfloat16" not in options else 1e-2
    np.testing.assert_allclose(two.X, one.X, rtol=0, atol=tolerance * np.abs(one.X).max())
    first, second = (rows(tmp_path / f"{processes}.tsv") for processes in (1, 2))
    assert [row[:-1] for row in first] == [row[:-1] for row in second]


def said_by(script: str, *options: object) -> list[str]:
    """Run a script and return what it said, progress apart."""
    command = [sys.executable, REPOSITORY / "scripts" / f"{script}.py", *options, "--threads", 1, "--batch-tokens", 64]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return [line for line in done.stdout.splitlines() if " a second" not in line]


def check_close(one: NDArray[np.floating[Any]], two: NDArray[np.floating[Any]], dtype: str) -> None:
    tolerance = 1e-5 if dtype == "float32" else 1e-2
    np.testing.assert_allclose(two, one, rtol=0, atol=tolerance * np.nanmax(np.abs(one)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_two_processes_score_as_one_does(tmp_path: Path, dtype: str) -> None:
    genome, model = TEST_DATA / "human_mitochondrion.fasta", TEST_DATA / "planted_model.safetensors"
    given = ("--saturation", TEST_DATA / "transfer_rna.bed", "--reference", genome, "--model", model, "--dtype", dtype)
    paths = [tmp_path / f"{processes}.tsv" for processes in (1, 2)]
    one, two = (
        said_by("dnalm_score_variants", *given, "--output-table", path, "--processes", processes)
        for processes, path in enumerate(paths, start=1)
    )
    assert "1 thread in each of 2 processes" in two[0]
    assert one[1:] == two[1:]
    tables = [pd.read_csv(path, sep="\t") for path in paths]
    numbers = [table.select_dtypes(float) for table in tables]
    assert numbers[0].shape[0] == 3 * 75
    assert tables[0].drop(columns=numbers[0].columns).equals(tables[1].drop(columns=numbers[0].columns))
    check_close(numbers[0].to_numpy(), numbers[1].to_numpy(), dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_two_processes_segment_as_one_does(tmp_path: Path, dtype: str) -> None:
    given = ("--sequences", TEST_DATA / "human_mitochondrion.fasta", "--model", TEST_DATA / "segmenter.safetensors")
    paths = [tmp_path / f"{processes}.npz" for processes in (1, 2)]
    one, two = (
        said_by("dnalm_segment", *given, "--dtype", dtype, "--probabilities", path, "--processes", processes)
        for processes, path in enumerate(paths, start=1)
    )
    assert "1 thread in each of 2 processes" in two[0]
    if dtype == "float32":
        assert one[1:] == two[1:]
    with np.load(paths[0]) as first, np.load(paths[1]) as second:
        assert first.files == second.files
        check_close(first["human_mitochondrion"], second["human_mitochondrion"], dtype)


def test_a_record_that_cannot_be_read_is_said_once_and_leaves_nothing(
    run_tool: Run, random_model: Path, tmp_path: Path
) -> None:
    """The first parts are being embedded when it is met."""
    sequences = write_sequences(tmp_path / "x.fasta", 2_000)
    sequences.write_text(sequences.read_text() + ">protein\nMEEPQSDPSV\n")
    (tmp_path / "results").mkdir()
    given = ("--sequences", sequences, "--model", random_model, "--output", tmp_path / "results" / "x.h5ad")
    code, _, err = run_tool("embed", *given, "--processes", 2, "--threads", 1, "--batch-tokens", 64)
    assert code == 1
    assert "protein" in err
    assert err.count("\n") == 1
    assert list((tmp_path / "results").iterdir()) == []


def test_what_a_process_refuses_is_said_as_one_process_says_it(
    run_tool: Run, random_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "x.fasta").write_text(f">short\nACGT\n>long\n{'ACGT' * 5_000}\n")
    given = ("--sequences", tmp_path / "x.fasta", "--model", random_model, "--output", tmp_path / "x.h5ad")
    one, two = (run_tool("embed", *given, "--long-sequences", "fail", "--processes", processes) for processes in (1, 2))
    assert "Sequence 'long'" in one[2]
    assert (one[0], one[2]) == (two[0], two[2])


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def works(pid: int) -> bool:
    """Whether a process is one of the job's two: multiprocessing has a third that tidies up."""
    try:
        return "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


def started(sequences: Path, results: Path) -> "tuple[subprocess.Popen[str], list[int]]":
    """Start a job and return with its processes when it has written its first results."""
    results.mkdir()
    model = TEST_DATA / "planted_model.safetensors"
    given = ("--sequences", sequences, "--model", model, "--output", results / "x", "--summary", results / "x.tsv")
    command = [sys.executable, REPOSITORY / "scripts" / "dnalm_embed.py", *given, "--threads", "1", "--processes", "2"]
    job = subprocess.Popen(
        [*map(str, command), "--batch-tokens", "64"],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not any(path.stat().st_size for path in results.glob(".x.tsv.*.partial")):
        assert job.poll() is None, "the job ended before it was in the middle"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    workers = [pid for pid in children(job.pid) if works(pid)]
    assert len(workers) == 2
    return job, workers


def wait_for_none(workers: list[int]) -> None:
    deadline = time.monotonic() + 30
    while any(map(works, workers)):
        assert time.monotonic() < deadline, "a process outlived its job"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def many_sequences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Minutes of work."""
    return write_sequences(tmp_path_factory.mktemp("many") / "many.fasta", 40_000)


@pytest.mark.parametrize(
    ("send", "sent"),
    [
        pytest.param(os.kill, signal.SIGTERM, id="to the job"),
        pytest.param(os.killpg, signal.SIGINT, id="to all its processes"),
    ],
)
def test_an_ended_job_leaves_no_output_and_no_process(
    many_sequences: Path, tmp_path: Path, send: Callable[[int, int], None], sent: signal.Signals
) -> None:
    job, workers = started(many_sequences, tmp_path / "results")
    send(job.pid, sent)
    _, err = job.communicate(timeout=60)
    assert job.returncode != 0
    assert "spawn_main" not in err  # of the processes, whose traceback nobody needs
    wait_for_none(workers)
    assert list((tmp_path / "results").iterdir()) == []


def test_the_processes_of_a_killed_job_end(many_sequences: Path, tmp_path: Path) -> None:
    job, workers = started(many_sequences, tmp_path / "results")
    job.kill()
    job.communicate(timeout=60)
    wait_for_none(workers)


def test_a_killed_process_counts_as_exhausted_memory(many_sequences: Path, tmp_path: Path) -> None:
    job, workers = started(many_sequences, tmp_path / "results")
    os.kill(workers[1], signal.SIGKILL)
    _, err = job.communicate(timeout=60)
    assert job.returncode == 137
    assert err == "dnalm_embed: The job's memory is exhausted; run it with more memory.\n"
    wait_for_none(workers)
    assert list((tmp_path / "results").iterdir()) == []
