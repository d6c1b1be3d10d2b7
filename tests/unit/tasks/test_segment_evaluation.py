"""Evaluating segments: the table against plain numpy, and what is evaluated where."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyBigWig
import pytest
from conftest import TEST_DATA, Run
from dnalm.methods import statistics
from dnalm.tasks import segment_evaluation
from make_test_data import MITOCHONDRIAL_FEATURES
from PIL import Image

FEATURES, CALLS = TEST_DATA / "mitochondrial_features.bed", TEST_DATA / "mitochondrial_calls.bed"
TRACKS = [TEST_DATA / "tracks" / f"{name}.bw" for name in ("CDS", "tRNA")]
CONTIG, LENGTH = "human_mitochondrion", 16_569


def truth_of(feature: str) -> np.ndarray:
    inside = np.zeros(LENGTH, dtype=bool)
    for name, first, last, _ in MITOCHONDRIAL_FEATURES:
        inside[first - 1 : last] |= name == feature
    return inside


def calls_of(feature: str) -> np.ndarray:
    inside = np.zeros(LENGTH, dtype=bool)
    for line in CALLS.read_text().splitlines():
        _, start, end, name = line.split("\t")
        inside[int(start) : int(end)] |= name == feature
    return inside


def with_tracks(*paths: Path) -> list[object]:
    return [part for path in paths for part in ("--tracks", path)]


def table(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", index_col="feature")


def write_track(path: Path, contigs: dict[str, int], values: dict[str, np.ndarray]) -> Path:
    with pyBigWig.open(str(path), "w") as track:
        track.addHeader(list(contigs.items()))
        for contig, numbers in values.items():
            track.addEntries(contig, 0, values=numbers.astype(float), span=1, step=1)
    return path


@pytest.mark.slow
def test_metrics_equal_plain_computations(run_tool: Run, tmp_path: Path) -> None:
    options = ["--calls", CALLS, *with_tracks(*TRACKS), "--annotation", FEATURES, "--output", tmp_path / "t"]
    code, said, problem = run_tool("evaluate_segments", *options, "--figure", tmp_path / "f.png")
    assert (code, problem) == (0, "")
    rows = table(tmp_path / "t")
    assert list(rows.index) == ["CDS", "tRNA", "rRNA"]
    for feature, row in rows.iterrows():
        truth, calls = truth_of(str(feature)), calls_of(str(feature))
        assert row["status"] == "ok"
        assert (row["bases"], row["annotated_bases"], row["called_bases"]) == (LENGTH, truth.sum(), calls.sum())
        assert row["base_rate"] == pytest.approx(truth.mean(), rel=1e-5)
        assert row["mcc"] == pytest.approx(statistics.mcc(truth, calls), rel=1e-5)
        assert row["jaccard"] == pytest.approx((truth & calls).sum() / (truth | calls).sum(), rel=1e-5)
        assert row["mcc_low"] < row["mcc"] < row["mcc_high"]
        if feature == "rRNA":
            assert np.isnan(row["auprc"])
            continue
        with pyBigWig.open(str(TEST_DATA / "tracks" / f"{feature}.bw")) as track:
            scores = track.values(CONTIG, 0, LENGTH, numpy=True)
        assert row["auprc"] == pytest.approx(statistics.auprc(truth, scores), rel=1e-4)
        assert row["auprc_low"] < row["auprc"] < row["auprc_high"]
    assert rows.loc["rRNA", "annotated_segments"] == 2
    assert "intervals are of 17 blocks of 1,000 bases" in said
    with Image.open(tmp_path / "f.png") as picture:
        assert min(picture.size) > 300


def test_tracks_are_called_where_no_calls_are_given(run_tool: Run, tmp_path: Path) -> None:
    options = [*with_tracks(*TRACKS), "--annotation", FEATURES, "--output", tmp_path / "t", "--threshold", "0.6"]
    assert run_tool("evaluate_segments", *options)[0] == 0
    rows = table(tmp_path / "t")
    with pyBigWig.open(str(TRACKS[0])) as track:
        called = np.float32(track.values(CONTIG, 0, LENGTH, numpy=True)) >= np.float32(0.6)
    assert rows.loc["CDS", "called_bases"] == called.sum()
    assert rows.loc["CDS", "called_segments"] == np.count_nonzero(np.diff(called, prepend=False) & called)


@pytest.mark.slow
def test_results_do_not_depend_on_how_much_is_read_at_once(
    run_tool: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for calls in ([], ["--calls", CALLS]):
        tables = []
        for chunk in (1 << 20, 997):
            monkeypatch.setattr(segment_evaluation, "CHUNK", chunk)
            options = [*calls, *with_tracks(*TRACKS), "--annotation", FEATURES, "--output", tmp_path / "t"]
            assert run_tool("evaluate_segments", *options)[0] == 0
            tables.append((tmp_path / "t").read_bytes())
        assert tables[0] == tables[1]


@pytest.mark.slow
def test_equal_runs_give_equal_bytes(run_tool: Run, tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        options = [*with_tracks(*TRACKS), "--annotation", FEATURES, "--output", tmp_path / name]
        assert run_tool("evaluate_segments", *options, "--figure", tmp_path / f"{name}.png")[0] == 0
        found.append((tmp_path / name).read_bytes() + (tmp_path / f"{name}.png").read_bytes())
    assert found[0] == found[1]


def test_regions_bound_what_is_evaluated(run_tool: Run, tmp_path: Path) -> None:
    (tmp_path / "r.bed").write_text(f"{CONTIG}\t3000\t5000\n{CONTIG}\t4000\t6000\n{CONTIG}\t9000\t9100\n")
    options = ["--calls", CALLS, "--annotation", FEATURES, "--regions", tmp_path / "r.bed", "--output", tmp_path / "t"]
    assert run_tool("evaluate_segments", *options)[0] == 0
    inside = np.zeros(LENGTH, dtype=bool)
    inside[3000:6000] = inside[9000:9100] = True
    rows = table(tmp_path / "t")
    for feature, row in rows.iterrows():
        truth, calls = truth_of(str(feature))[inside], calls_of(str(feature))[inside]
        assert (row["bases"], row["annotated_bases"], row["called_bases"]) == (3_100, truth.sum(), calls.sum())
        assert row["mcc"] == pytest.approx(statistics.mcc(truth, calls), rel=1e-5, nan_ok=True)


def test_contigs_may_have_other_usual_names(run_tool: Run, tmp_path: Path) -> None:
    track = write_track(tmp_path / "exon.bw", {"chr2": 2_000}, {"chr2": np.linspace(0, 1, 2_000)})
    (tmp_path / "a.bed").write_text("2\t1500\t2000\texon\n")
    (tmp_path / "r.bed").write_text("2\t1000\t2000\n")
    options = [*with_tracks(track), "--annotation", tmp_path / "a.bed", "--output", tmp_path / "t"]
    assert run_tool("evaluate_segments", *options, "--regions", tmp_path / "r.bed")[0] == 0
    row = table(tmp_path / "t").loc["exon"]
    assert (row["bases"], row["annotated_bases"], row["called_bases"]) == (1_000, 500, 1_000)
    assert row["auprc"] == pytest.approx(1, abs=1e-3)


def test_calls_alone_need_a_genome(run_tool: Run, tmp_path: Path) -> None:
    options = ["--calls", CALLS, "--annotation", FEATURES, "--output", tmp_path / "t"]
    code, _, problem = run_tool("evaluate_segments", *options)
    assert code == 1
    assert "do not tell how long the contigs are" in problem
    assert run_tool("evaluate_segments", *options, "--genome", TEST_DATA / "human_mitochondrion.fasta")[0] == 0
    assert table(tmp_path / "t").loc["CDS", "bases"] == LENGTH


@pytest.mark.slow
def test_bases_without_data_are_not_evaluated(run_tool: Run, tmp_path: Path) -> None:
    with pyBigWig.open(str(TRACKS[0])) as track:
        scores = track.values(CONTIG, 0, LENGTH, numpy=True)
    with pyBigWig.open(str(tmp_path / "CDS.bw"), "w") as track:
        track.addHeader([(CONTIG, LENGTH)])
        track.addEntries(CONTIG, 5_000, values=scores[5_000:].astype(float), span=1, step=1)
    for calls in ([], ["--calls", CALLS]):
        options = [*calls, *with_tracks(tmp_path / "CDS.bw"), "--annotation", FEATURES, "--output", tmp_path / "t"]
        assert run_tool("evaluate_segments", *options, "--features", "CDS")[0] == 0
        row = table(tmp_path / "t").loc["CDS"]
        assert (row["bases"], row["annotated_bases"]) == (LENGTH - 5_000, truth_of("CDS")[5_000:].sum())


def test_contigs_that_the_annotation_does_not_know_are_left_out_and_counted(run_tool: Run, tmp_path: Path) -> None:
    contigs = {"chr1": 3_000, "chr2": 2_000}
    values = {contig: np.linspace(0, 1, length) for contig, length in contigs.items()}
    track = write_track(tmp_path / "exon.bw", contigs, values)
    (tmp_path / "a.bed").write_text("chr2\t1500\t2000\texon\nchr3\t1500\t2000\texon\n")
    options = [*with_tracks(track), "--annotation", tmp_path / "a.bed", "--output", tmp_path / "t"]
    code, said, _ = run_tool("evaluate_segments", *options)
    assert code == 0
    assert "Contigs of the annotation on which nothing is evaluated: 1" in said
    assert "Contigs left out because the annotation has no line on them: 1" in said
    assert table(tmp_path / "t").loc["exon", "bases"] == 2_000


def test_a_table_says_what_the_annotation_calls_a_feature(run_tool: Run, tmp_path: Path) -> None:
    (tmp_path / "names.tsv").write_text("feature\tannotation\ncoding\tCDS\nother\tx\n")
    options = [*with_tracks(TRACKS[0]), "--track-names", "coding", "--annotation", FEATURES]
    options += ["--names", tmp_path / "names.tsv", "--output", tmp_path / "t"]
    assert run_tool("evaluate_segments", *options)[0] == 0
    assert table(tmp_path / "t").loc["coding", "annotated_bases"] == truth_of("CDS").sum()


def test_features_that_cannot_be_measured_say_why(run_tool: Run, tmp_path: Path) -> None:
    (tmp_path / "a.bed").write_text(f"{CONTIG}\t0\t100\tCDS\n{CONTIG}\t200\t300\trRNA\n{CONTIG}\t200\t300\tother\n")
    (tmp_path / "c.bed").write_text(f"{CONTIG}\t0\t100\tCDS\n{CONTIG}\t0\t100\ttRNA\n")
    options = ["--calls", tmp_path / "c.bed", *with_tracks(TRACKS[0]), "--annotation", tmp_path / "a.bed"]
    code, said, _ = run_tool("evaluate_segments", *options, "--output", tmp_path / "t")
    assert code == 0
    assert dict(table(tmp_path / "t")["status"]) == {"CDS": "ok", "tRNA": "not annotated"}
    assert "no such feature: rRNA (1), other (1)" in said
    assert "tRNA: not annotated" in said


def test_calls_and_contigs_that_are_not_evaluated_are_counted(run_tool: Run, tmp_path: Path) -> None:
    """The annotation has no line on b: its two calls and the contig itself are left out."""
    (tmp_path / "genome.fa").write_text(f">a\n{'ACGT' * 50}\n>b\n{'ACGT' * 50}\n")
    (tmp_path / "calls.bed").write_text("a\t1\t9\tCDS\nb\t1\t9\tCDS\nb\t20\t29\tCDS\n")
    (tmp_path / "annotation.bed").write_text("a\t1\t9\tCDS\nc\t1\t9\tCDS\n")
    options = ["--calls", tmp_path / "calls.bed", "--annotation", tmp_path / "annotation.bed"]
    genome = ("--genome", tmp_path / "genome.fa")
    code, said, problem = run_tool("evaluate_segments", *options, *genome, "--output", tmp_path / "t")
    assert (code, problem) == (0, "")
    assert "Called segments on contigs where nothing is evaluated, left out: 2\n" in said
    assert "Contigs left out because the annotation has no line on them: 1\n" in said
    assert "Contigs of the annotation on which nothing is evaluated: 1\n" in said
