"""What users bring a segmenter by mistake: one sentence, exit 1, nothing left behind; and what only looks like one."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyBigWig
import pytest
from conftest import REPOSITORY, TEST_DATA, Run

SCRIPT = REPOSITORY / "scripts" / "dnalm_segment.py"
OUTPUTS = ("tracks", "calls", "summary", "figure", "probabilities")
BASES = "".join(np.random.default_rng(0).choice(list("ACGT"), 2_000))
Refused = Callable[..., str]


def written(results: Path) -> tuple[object, ...]:
    return tuple(part for name in OUTPUTS for part in (f"--{name}", results / name))


@pytest.fixture
def refused(run_tool: Run, tmp_path: Path, segmenter_file: Path) -> Refused:
    """Run a job that must be refused, and return its sentence."""

    def call(*arguments: object) -> str:
        results = tmp_path / "results"
        results.mkdir()
        model = () if "--model" in arguments else ("--model", segmenter_file)
        code, _, error = run_tool("segment", *arguments, *model, *written(results))
        assert code == 1
        assert error.startswith("dnalm_segment: ")
        assert error.endswith(".\n")
        assert error.count("\n") == 1
        assert list(results.iterdir()) == []
        return error

    return call


@pytest.fixture
def sequences(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        (tmp_path / "input.fa").write_text(text)
        return tmp_path / "input.fa"

    return write


@pytest.mark.parametrize(
    "text",
    [">short\nACGTACGTACG\n", f">n\n{'N' * 5_000}\n", f">sparse\n{'ACGTACGTACGN' * 300}\n"],
    ids=["shorter than a step", "all N", "N every twelve bases"],
)
def test_sequences_without_a_single_probability_are_refused(
    refused: Refused, sequences: Callable[[str], Path], text: str
) -> None:
    error = refused("--sequences", sequences(text))
    assert "No base gets a probability: the model reads at least 12 bases without N" in error


def test_a_model_that_takes_n_says_nothing_of_n_alone(refused: Refused, sequences: Callable[[str], Path]) -> None:
    model = REPOSITORY / "tests" / "parity" / "data" / "segment_enformer"
    error = refused("--sequences", sequences(f">n\n{'N' * 3_000}\n"), "--model", model, "--window", 1_536)
    assert "No base gets a probability: the sequences are N alone" in error


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f">a x\n{BASES}\n>a y\n{BASES}\n", "has two contigs called 'a'"),
        (
            f">features\n{BASES}\n",
            "A contig is called 'features', which is what an array of the probabilities is called",
        ),
        (">a\nMKVLAA\n", "looks like protein"),
        ("", "is empty"),
        (f">a\n{BASES}\n>b\n", "Record 2 ('b') of 'input.fa' has no sequence"),
    ],
)
def test_bad_sequences_are_refused(
    refused: Refused, sequences: Callable[[str], Path], text: str, sentence: str
) -> None:
    assert sentence in refused("--sequences", sequences(text))


@pytest.mark.parametrize(
    ("bed", "sentence"),
    [
        ("a\t0\t2001\n", "Line 1 of 'x.bed' ends at 2,001, the contig 'a' of 'input.fa' at 2,000"),
        (
            "a\t0\t10\nb\t0\t20\n",
            "Line 2 of 'x.bed' is on the contig 'b', which the genome 'input.fa' lacks (it has a …)",
        ),
        ("a\t9\t9\n", "is a region of length 0"),
        ("a\t-1\t9\n", "lies outside of the contig"),
        ("# nothing\n", "has no region"),
        ("a b c\n", "is not a region"),
    ],
)
def test_bad_regions_are_refused(
    refused: Refused, sequences: Callable[[str], Path], tmp_path: Path, bed: str, sentence: str
) -> None:
    (tmp_path / "x.bed").write_text(bed)
    genome = sequences(f">a\n{BASES}\n")
    assert sentence in refused("--genome", genome, "--regions", tmp_path / "x.bed")


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        (("--features", "exon"), "predicts no feature 'exon'; it has CDS, rRNA, tRNA"),
        (("--features", " , "), "No feature is named"),
        (("--model", TEST_DATA / "random_model.safetensors"), "'dnalm-random' is no segmenter"),
        (("--window", 11), "reads 12 to 1,992 bases at once, not 11"),
        (("--window", 30_000), "reads 12 to 1,992 bases at once, not 30,000"),
        (("--threshold", 0.4, "--low-threshold", 0.5), "the low threshold is 0.5, the threshold 0.4"),
        (("--threshold", 0), "the threshold 0"),
        (
            ("--figure-region", "b:1-10"),
            "The region 'b:1-10' of the figure lies on no contig of the input that is read",
        ),
        (("--figure-region", "a:0-10"), "The region 'a:0-10' of the figure has no base of the contig"),
        (("--figure-region", "a:3000-4000"), "has no base of the contig"),
        (("--genome", "x"), "Give either sequences, or a genome together with regions"),
    ],
)
def test_choices_that_cannot_be_are_refused(
    refused: Refused, sequences: Callable[[str], Path], choices: tuple[object, ...], sentence: str
) -> None:
    assert sentence in refused("--sequences", sequences(f">a\n{BASES}\n"), *choices)


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("feature\tthreshold\nexon\t0.5\n", "Line 2 of 'x.tsv' names the feature 'exon', which the model lacks"),
        ("feature\tthreshold\nCDS\t0.5\nCDS\t0.6\n", "Line 3 of 'x.tsv' names the feature 'CDS' again"),
        ("feature\tthreshold\nCDS\thigh\n", "Line 2 of 'x.tsv' has 'high' as threshold, which is no number"),
        ("feature\tmin_length\nCDS\t2.5\n", "has '2.5' as min_length, which is no whole number"),
        ("feature\tmin_length\nCDS\t0\n", "Line 2 of 'x.tsv': the shortest length is 0"),
        ("feature\tthreshold\nCDS\t1.5\n", "the threshold 1.5"),
        ("feature\tthreshold\nCDS\tNaN%\n", "has 'NaN%' as threshold, which is no number"),
        ("feature\tlength\nCDS\t1\n", "has the column 'length'"),
        ("name\tthreshold\nCDS\t1\n", "lacks the column 'feature'"),
        ("", "The table 'x.tsv' is empty"),
    ],
)
def test_bad_settings_of_features_are_refused(
    refused: Refused, sequences: Callable[[str], Path], tmp_path: Path, table: str, sentence: str
) -> None:
    (tmp_path / "x.tsv").write_text(table)
    assert sentence in refused("--sequences", sequences(f">a\n{BASES}\n"), "--call-settings", tmp_path / "x.tsv")


def test_without_an_output_nothing_is_done(
    run_tool: Run, sequences: Callable[[str], Path], segmenter_file: Path
) -> None:
    code, _, error = run_tool("segment", "--sequences", sequences(f">a\n{BASES}\n"), "--model", segmenter_file)
    assert (code, error.count("\n")) == (1, 1)
    assert "No output is asked for" in error


def test_a_folder_of_tracks_that_has_files_is_refused_and_kept(
    run_tool: Run, sequences: Callable[[str], Path], tmp_path: Path, segmenter_file: Path
) -> None:
    (tmp_path / "tracks").mkdir()
    (tmp_path / "tracks" / "mine").write_text("precious")
    code, _, error = run_tool(
        "segment",
        "--sequences",
        sequences(f">a\n{BASES}\n"),
        "--model",
        segmenter_file,
        "--tracks",
        tmp_path / "tracks",
    )
    assert code == 1
    assert "has files in it already" in error
    assert (tmp_path / "tracks" / "mine").read_text() == "precious"


def test_names_with_blanks_and_bars_are_kept_up_to_the_blank(
    run_tool: Run, sequences: Callable[[str], Path], tmp_path: Path, segmenter_file: Path
) -> None:
    path = sequences(f">gi|1|ref|NC_1.1| a chromosome\n{BASES}\n>2 a\n{BASES}\n")
    code, _, error = run_tool(
        "segment", "--sequences", path, "--model", segmenter_file, "--tracks", tmp_path / "t", "--calls", tmp_path / "c"
    )
    assert (code, error) == (0, "")
    with pyBigWig.open(str(tmp_path / "t" / "CDS.bw")) as track:
        assert track.chroms() == {"gi|1|ref|NC_1.1|": 2_000, "2": 2_000}
    assert {line.split("\t")[0] for line in (tmp_path / "c").read_text().splitlines()} == {"gi|1|ref|NC_1.1|", "2"}


def test_n_every_few_bases_and_short_contigs_leave_what_can_be_read(
    run_tool: Run, sequences: Callable[[str], Path], tmp_path: Path, segmenter_file: Path
) -> None:
    """Stretches of 19 bases are read as two windows of 12; contigs that are too short have a line of their own."""
    path = sequences(f">a\n{'ACGTACCGTAGGATCATGCN' * 50}\n" + "".join(f">{x}\n{'ACGTT' * 2}\n" for x in range(30)))
    code, said, _ = run_tool(
        "segment",
        "--sequences",
        path,
        "--model",
        segmenter_file,
        "--summary",
        tmp_path / "s",
        "--tracks",
        tmp_path / "t",
    )
    assert code == 0
    assert "too short for the model, without data: 30" in said
    lines = (tmp_path / "s").read_text().splitlines()
    assert len(lines) == 32
    assert lines[1].split("\t")[4:9] == ["gaps", "1000", "50", "950", "100"]
    assert lines[2].split("\t")[4:9] == ["too_short", "10", "0", "0", "0"]


def test_many_short_contigs_need_little_memory(tmp_path: Path, segmenter_file: Path) -> None:
    """The number of contigs grows twentyfold, the memory by less than what they would take as Python's strings."""
    peaks = []
    for count in (200, 4_000):
        path = tmp_path / "many.fa"
        path.write_text("".join(f">contig_{number}\n{BASES[number % 1_000 :][:300]}\n" for number in range(count)))
        results = tmp_path / str(count)
        results.mkdir()
        outputs = [
            str(part) for part in ("--tracks", results / "t", "--calls", results / "c", "--summary", results / "s")
        ]
        command = [
            sys.executable,
            str(SCRIPT),
            "--sequences",
            str(path),
            "--model",
            str(segmenter_file),
            "--threads",
            "1",
            *outputs,
        ]
        measured = (
            "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
        )
        measured += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        done = subprocess.run([sys.executable, "-c", measured, *command], capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout))
        assert len((results / "s").read_text().splitlines()) == count + 1
    assert peaks[1] - peaks[0] < 30_000  # kB


def started(tmp_path: Path, results: Path, segmenter_file: Path) -> "subprocess.Popen[str]":
    """Start a job of minutes and return when it has written its first results."""
    path = tmp_path / "long.fa"
    path.write_text(">long\n" + f"{BASES}\n" * 5_000)
    results.mkdir()
    command = [sys.executable, str(SCRIPT), "--sequences", str(path), "--model", str(segmenter_file), "--threads", "1"]
    job = subprocess.Popen(
        [*command, *map(str, written(results))], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 180
    while not any(path.stat().st_size > 20_000 for path in results.glob(".tracks.*/*.bw")):
        assert job.poll() is None, "the job ended before it was in the middle"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return job


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_an_ended_job_leaves_nothing(tmp_path: Path, segmenter_file: Path, sent: signal.Signals) -> None:
    job = started(tmp_path, tmp_path / "results", segmenter_file)
    job.send_signal(sent)
    job.communicate(timeout=60)
    assert job.returncode != 0
    assert list((tmp_path / "results").iterdir()) == []


@pytest.mark.parametrize("size", [3_000, 20_000, 200_000])
def test_a_full_disk_in_the_middle_is_said_and_leaves_nothing(tmp_path: Path, size: int, segmenter_file: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    (tmp_path / "x.fa").write_text(f">a\n{BASES * 40}\n")
    command = [
        sys.executable,
        str(SCRIPT),
        "--sequences",
        str(tmp_path / "x.fa"),
        "--model",
        str(segmenter_file),
        "--threads",
        "1",
    ]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    done = subprocess.run(
        [*command, *map(str, written(results))],
        capture_output=True,
        text=True,
        preexec_fn=limit,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "The disk is full" in done.stderr
    assert list(results.iterdir()) == []
