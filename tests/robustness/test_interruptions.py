"""A job that is ended, or whose disk is full, leaves no output that looks whole."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, TEST_DATA

SCRIPT = REPOSITORY / "scripts" / "dnalm_embed.py"


@pytest.fixture
def many_sequences(tmp_path: Path) -> Path:
    """Enough sequences for many buffers: minutes of work, of which the tests wait for the first seconds."""
    path = tmp_path / "many.fasta"
    letters = np.random.default_rng(0).choice(list("ACGT"), (60_000, 150))
    path.write_text("".join(f">{number}\n{''.join(bases)}\n" for number, bases in enumerate(letters)))
    return path


def command(sequences: Path, results: Path, output_format: str) -> list[str]:
    return [
        *(
            sys.executable,
            str(SCRIPT),
            "--sequences",
            str(sequences),
            "--model",
            str(TEST_DATA / "segmenter.safetensors"),  # its backbone: it starts in a third of the time of others
        ),
        *("--output", str(results / "x"), "--output-format", output_format, "--summary", str(results / "x.tsv")),
        *("--threads", "1"),
    ]


def started(sequences: Path, results: Path, output_format: str) -> "subprocess.Popen[str]":
    """Start a job and return when it has written its first results."""
    results.mkdir()
    job = subprocess.Popen(command(sequences, results, output_format), text=True, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not any(path.stat().st_size for path in results.glob(".x.tsv.*.partial")):
        assert job.poll() is None, "the job ended before it was in the middle"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return job


@pytest.mark.parametrize(
    ("sent", "output_format"), [(signal.SIGTERM, "h5ad"), (signal.SIGTERM, "npz"), (signal.SIGINT, "h5ad")]
)
def test_an_ended_job_leaves_nothing(
    many_sequences: Path, tmp_path: Path, sent: signal.Signals, output_format: str
) -> None:
    results = tmp_path / "results"
    job = started(many_sequences, results, output_format)
    job.send_signal(sent)
    job.communicate(timeout=60)
    assert job.returncode != 0
    assert list(results.iterdir()) == []


def test_a_killed_job_leaves_nothing_that_looks_whole(many_sequences: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    job = started(many_sequences, results, "h5ad")
    job.kill()
    job.communicate(timeout=60)
    assert all(path.name.startswith(".") and path.suffix == ".partial" for path in results.iterdir())


def test_a_reader_of_stdout_that_leaves_ends_the_job_without_a_traceback(tmp_path: Path) -> None:
    """As in `dnalm_embed.py … | head -1`: what nobody was told of is not left behind either."""
    results = tmp_path / "results"
    results.mkdir()
    job = subprocess.Popen(
        command(TEST_DATA / "two_genomes.fasta", results, "h5ad"),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert job.stdout is not None
    assert job.stderr is not None
    assert job.stdout.readline().startswith("Device: ")
    job.stdout.close()
    assert job.stderr.read() == ""
    assert job.wait(timeout=60) == 1
    assert list(results.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB, where this user may make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip("only root can make a small file system; the limited file size stands for it")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def check_full(done: "subprocess.CompletedProcess[str]", results: Path) -> None:
    assert done.returncode == 1
    assert "The disk is full" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(results.iterdir()) == []


@pytest.mark.parametrize("output_format", ["h5ad", "npz"])
def test_a_full_disk_is_said_and_leaves_nothing(many_sequences: Path, small_disk: Path, output_format: str) -> None:
    few = many_sequences.with_name("few.fasta")
    few.write_text(many_sequences.read_text()[:630_000])
    done = subprocess.run(command(few, small_disk, output_format), capture_output=True, text=True)
    check_full(done, small_disk)


@pytest.mark.slow
def test_a_full_temporary_folder_is_said_and_leaves_nothing(small_disk: Path, tmp_path: Path) -> None:
    """A training keeps its best weights there."""
    results = tmp_path / "results"
    results.mkdir()
    options = ["--sequences", TEST_DATA / "human_mitochondrion.fasta", "--max-steps", "2", "--window", "64"]
    outputs = ["--output", results / "m", "--log", results / "log", "--threads", "1"]
    done = subprocess.run(
        [sys.executable, SCRIPT.with_name("dnalm_pretrain.py"), *map(str, [*options, *outputs])],
        env=os.environ | {"TMPDIR": str(small_disk)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"dnalm_pretrain: The temporary folder '{small_disk}' is full; free some space there, or set TMPDIR to another "
        "folder.\n"
    )
    assert list(results.iterdir()) == list(small_disk.iterdir()) == []


@pytest.mark.parametrize("output_format", ["h5ad", "npz"])
@pytest.mark.parametrize("size", [5_000, 100_000])
def test_a_file_that_may_not_grow_is_said_and_leaves_nothing(
    many_sequences: Path, tmp_path: Path, output_format: str, size: int
) -> None:
    results = tmp_path / "results"
    results.mkdir()
    few = many_sequences.with_name("few.fasta")
    few.write_text(many_sequences.read_text()[:600_000])

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    done = subprocess.run(
        command(few, results, output_format),
        capture_output=True,
        text=True,
        preexec_fn=limit,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    check_full(done, results)


def test_the_tools_folder_may_be_read_only(tmp_path: Path) -> None:
    """Nothing is written beside the scripts or the model, nor into the home folder."""
    before = {path: path.stat().st_mtime_ns for path in (REPOSITORY / "tools").rglob("*") if path.is_file()}
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        command(TEST_DATA / "two_genomes.fasta", tmp_path, "h5ad"),
        env=os.environ | {"HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert list(home.iterdir()) == []
    after = {path: path.stat().st_mtime_ns for path in (REPOSITORY / "tools").rglob("*") if path.is_file()}
    assert after == before
