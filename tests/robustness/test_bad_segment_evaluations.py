"""What dnalm_evaluate_segments refuses: one sentence, exit code 1, and no output."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyBigWig
import pytest
from conftest import TEST_DATA, Run

FEATURES, CALLS = TEST_DATA / "mitochondrial_features.bed", TEST_DATA / "mitochondrial_calls.bed"
TRACK = TEST_DATA / "tracks" / "CDS.bw"
CONTIG = "human_mitochondrion"
Refuses = Callable[..., None]


def track(path: Path, contig: str = CONTIG, length: int = 16_569, value: float = 0.5) -> Path:
    with pyBigWig.open(str(path), "w") as file:
        file.addHeader([(contig, length)])
        file.addEntries(contig, 0, values=np.full(100, value), span=1, step=1)
    return path


@pytest.fixture
def refuses(run_tool: Run, tmp_path: Path) -> Refuses:
    def run(sentence: str, *options: object) -> None:
        given = ["--annotation", FEATURES] if "--annotation" not in options else []
        code, _, problem = run_tool(
            "evaluate_segments", *options, *given, "--output", tmp_path / "t", "--figure", tmp_path / "f"
        )
        assert code == 1
        assert sentence in problem
        assert problem.count("\n") == 1
        assert not (tmp_path / "t").exists()
        assert not (tmp_path / "f").exists()

    return run


def test_nothing_to_evaluate(refuses: Refuses) -> None:
    refuses("There is nothing to evaluate")


def test_files_that_are_no_tracks(refuses: Refuses, tmp_path: Path) -> None:
    refuses("or not a bigWig", "--tracks", FEATURES)
    refuses("missing.bw' does not exist", "--tracks", tmp_path / "missing.bw")
    (tmp_path / "cut.bw").write_bytes(TRACK.read_bytes()[:5_000])
    refuses("'cut.bw'", "--tracks", tmp_path / "cut.bw")
    (tmp_path / "empty.bw").write_bytes(b"")
    refuses("or not a bigWig", "--tracks", tmp_path / "empty.bw")


def test_tracks_that_hold_no_probabilities(refuses: Refuses, tmp_path: Path) -> None:
    refuses(
        "has the value 1.5 at human_mitochondrion:1, which is no probability",
        "--tracks",
        track(tmp_path / "CDS.bw", value=1.5),
    )


def test_tracks_of_two_genomes(refuses: Refuses, tmp_path: Path) -> None:
    refuses("has other contigs", "--tracks", TRACK, "--tracks", track(tmp_path / "x.bw", "chr1"))


def test_tracks_of_one_name(refuses: Refuses, tmp_path: Path) -> None:
    refuses("Two tracks are called 'CDS'", "--tracks", TRACK, "--tracks", track(tmp_path / "CDS.bw"))
    refuses("There are 1 tracks and 2 names", "--tracks", TRACK, "--track-names", "a", "--track-names", "b")


def test_an_annotation_without_the_features(refuses: Refuses, tmp_path: Path) -> None:
    refuses("has no 'x' (it has 'tRNA', 'CDS', 'rRNA')", "--tracks", TRACK, "--track-names", "x")


def test_an_annotation_of_another_genome(refuses: Refuses, tmp_path: Path) -> None:
    (tmp_path / "a.bed").write_text("chrM\t1\t50\tCDS\n")
    refuses("shares no contig", "--tracks", TRACK, "--annotation", tmp_path / "a.bed")
    (tmp_path / "a.bed").write_text(f"{CONTIG}\t1\t50000\tCDS\n")
    refuses("ends at 50,000", "--tracks", TRACK, "--annotation", tmp_path / "a.bed")


def test_calls_of_another_genome_or_beyond_a_contig(refuses: Refuses, tmp_path: Path) -> None:
    (tmp_path / "c.bed").write_text("chr9\t1\t50\tCDS\n")
    refuses("ends at 50 of 'chr9'", "--tracks", TRACK, "--calls", tmp_path / "c.bed")
    (tmp_path / "c.bed").write_text(f"{CONTIG}\t1\t16570\tCDS\n")
    refuses("ends at 16,570", "--tracks", TRACK, "--calls", tmp_path / "c.bed")


def test_calls_without_names(refuses: Refuses, tmp_path: Path) -> None:
    (tmp_path / "c.bed").write_text(f"{CONTIG}\t1\t50\n")
    refuses("Line 1 of 'c.bed' has no name", "--calls", tmp_path / "c.bed")


def test_regions_outside_of_the_genome(refuses: Refuses, tmp_path: Path) -> None:
    (tmp_path / "r.bed").write_text(f"{CONTIG}\t1\t50000\n")
    refuses("Line 1 of 'r.bed' is no part of", "--tracks", TRACK, "--regions", tmp_path / "r.bed")
    (tmp_path / "r.bed").write_text("chr5\t1\t50\n")
    refuses("shares no contig", "--calls", CALLS, "--regions", tmp_path / "r.bed")


def test_a_genome_that_was_not_segmented(refuses: Refuses) -> None:
    refuses("the genome has not", "--tracks", TRACK, "--genome", TEST_DATA / "ecoli.fasta.gz")


def test_unknown_features(refuses: Refuses) -> None:
    refuses("choose among CDS", "--tracks", TRACK, "--features", "exon")
    refuses("choose among CDS", "--tracks", TRACK, "--features", " , ")


def test_an_output_that_is_an_input(run_tool: Run, tmp_path: Path) -> None:
    (tmp_path / "a.bed").write_text(FEATURES.read_text())
    options = ["--tracks", TRACK, "--annotation", tmp_path / "a.bed", "--output", tmp_path / "a.bed"]
    assert run_tool("evaluate_segments", *options)[0] == 1
    assert (tmp_path / "a.bed").read_text() == FEATURES.read_text()
