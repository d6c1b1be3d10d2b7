"""The whole of dnalm_segment, with real tiny models."""

import gzip
import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyBigWig
import pytest
import torch
from conftest import REPOSITORY, TEST_DATA, Run
from dnalm.engine import segmentation as engine
from dnalm.methods.segments import Calling, SegmentCaller, means
from dnalm.methods.strands import reverse_complement
from dnalm.models.model_file import StoredModel
from dnalm.models.registry import load_segmenter
from dnalm.models.segmenter import Segmenter, Window
from dnalm.models.sources import open_model
from dnalm.tasks import segmentation
from numpy.typing import NDArray
from safetensors.numpy import load_file
from torch import Tensor, nn

PARITY = REPOSITORY / "tests" / "parity" / "data"
MITOCHONDRION = TEST_DATA / "human_mitochondrion.fasta"
SMALL = ("--window", 240, "--window-overlap", 0.2)
Arrays = dict[str, NDArray[Any]]
Rows = list[tuple[str, int, int]]
Segment = Callable[..., Arrays]


def fasta(path: Path, records: dict[str, str]) -> Path:
    path.write_text("".join(f">{name} described\n{bases}\n" for name, bases in records.items()))
    return path


def random_contigs() -> dict[str, str]:
    """Long, short, too short, full of gaps; names as they come."""
    generator = np.random.default_rng(0)

    def bases(count: int) -> str:
        return "".join(generator.choice(list("ACGT"), count))

    return {
        "chr1": bases(900) + "N" * 40 + bases(301) + "N" + bases(11) + "NN" + bases(250),
        "gi|12|ref.1": bases(240),
        "a/b": bases(11),
        "odd": bases(131),
        "n": "N" * 50,
        "last": bases(777).lower(),
    }


@pytest.fixture
def segment(run_tool: Run, tmp_path: Path, segmenter_file: Path) -> Segment:
    """Run the tool and return its probabilities."""

    def call(*arguments: object) -> Arrays:
        path = tmp_path / "probabilities.npz"
        model = () if "--model" in arguments else ("--model", segmenter_file)
        code, _, error = run_tool("segment", *arguments, *model, "--probabilities", path, "--threads", 1)
        assert (code, error) == (0, "")
        with np.load(path) as archive:
            return {name: archive[name] for name in archive.files}

    return call


def alone(model: Segmenter, bases: str) -> NDArray[np.float32]:
    with torch.inference_mode():
        return model.probabilities([bases])[0].numpy()


def test_sequences_that_fit_are_the_reference_exactly(segment: Segment, tmp_path: Path) -> None:
    for case in ("segment_nt", "segment_nt_rescaled", "segment_nt_multi_species"):
        inputs = json.loads((PARITY / case / "inputs.json").read_text())
        path = fasta(tmp_path / "x.fa", {item["id"]: item["sequence"] for item in inputs})
        found = segment("--sequences", path, "--model", PARITY / case)
        wanted = load_file(PARITY / case / "expected.safetensors")
        for item in inputs:
            np.testing.assert_allclose(found[item["id"]], wanted[f"{item['id']}.probabilities"], rtol=0, atol=1e-5)


def test_a_rest_comes_from_the_end(segment: Segment, tmp_path: Path, segmenter_file: Path) -> None:
    bases = random_contigs()["odd"]
    found = segment("--sequences", fasta(tmp_path / "x.fa", {"odd": bases}))["odd"]
    model = load_segmenter(open_model(segmenter_file))
    np.testing.assert_allclose(found[:120], alone(model, bases[:120]), rtol=0, atol=1e-6)
    np.testing.assert_allclose(found[120:], alone(model, bases[-120:])[-11:], rtol=0, atol=1e-6)


@pytest.mark.slow
def test_a_long_contig_is_stitched_of_the_windows_where_each_base_lies_most_central(
    segment: Segment, tmp_path: Path, segmenter_file: Path
) -> None:
    bases = random_contigs()["last"].upper()
    found = segment("--sequences", fasta(tmp_path / "x.fa", {"x": bases}), *SMALL)["x"]
    model = load_segmenter(open_model(segmenter_file))
    starts = [0, 192, 384, 537]
    for at in range(len(bases)):
        covering = [start for start in starts if start <= at < start + 240]
        distances = [
            min(10**6 if start == 0 else at - start, 10**6 if start == 537 else start + 239 - at) for start in covering
        ]
        start = covering[int(np.argmax(distances))]
        if len(set(distances)) == len(distances):
            expected = alone(model, bases[start : start + 240])[at - start]
            np.testing.assert_allclose(found[at], expected, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("choices", [(), ("--stitch", "blend"), ("--both-strands",)])
def test_the_whole_is_any_set_of_regions_is_shards(
    segment: Segment, tmp_path: Path, choices: tuple[object, ...]
) -> None:
    contigs = random_contigs()
    genome = fasta(tmp_path / "genome.fa", contigs)
    whole = segment("--sequences", genome, *SMALL, *choices)
    for name, bases in contigs.items():
        if name not in ("n", "a/b"):
            shard = segment("--sequences", fasta(tmp_path / "shard.fa", {name: bases}), *SMALL, *choices)
            np.testing.assert_allclose(shard[name], whole[name], rtol=0, atol=1e-5)
    # Unsorted, overlapping, touching, over gaps, twice, of one base.
    regions = [
        ("last", 700, 777),
        ("chr1", 800, 1_300),
        ("chr1", 10, 11),
        ("chr1", 1_200, 1_400),
        ("chr1", 0, 5),
        ("last", 690, 700),
        ("odd", 100, 131),
        ("chr1", 10, 11),
    ]
    (tmp_path / "x.bed").write_text("".join(f"{contig}\t{start}\t{end}\n" for contig, start, end in regions))
    parts = segment("--genome", genome, "--regions", tmp_path / "x.bed", *SMALL, *choices)
    assert list(parts)[1:-1] == ["chr1:0-5", "chr1:10-11", "chr1:800-1400", "odd:100-131", "last:690-777"]
    for name, found in list(parts.items())[1:-1]:
        contig, _, place = name.partition(":")
        start, end = map(int, place.split("-"))
        np.testing.assert_allclose(found, whole[contig][start:end], rtol=0, atol=1e-5)


@pytest.fixture
def tracks_and_calls(run_tool: Run, tmp_path: Path, segmenter_file: Path) -> Callable[..., tuple[Arrays, Rows]]:
    """Run the tool and return tracks, by feature, and the segments called."""

    def call(name: str, *arguments: object) -> tuple[Arrays, Rows]:
        folder, calls = tmp_path / name, tmp_path / f"{name}.bed"
        outputs = ("--tracks", folder, "--calls", calls, "--threads", 1)
        code, _, error = run_tool("segment", *arguments, *SMALL, "--model", segmenter_file, *outputs)
        assert (code, error) == (0, "")
        values: Arrays = {}
        for path in sorted(folder.iterdir()):
            with pyBigWig.open(str(path)) as track:
                (length,) = track.chroms().values()
                values[path.stem] = track.values("human_mitochondrion", 0, length, numpy=True)
        rows = [line.split("\t") for line in calls.read_text().splitlines()]
        return values, sorted((row[3], int(row[1]), int(row[2])) for row in rows)

    return call


@pytest.mark.slow
def test_tracks_of_regions_are_the_wholes_and_calls_are_its_segments_cut_where_regions_end(
    tracks_and_calls: Callable[..., tuple[Arrays, Rows]], tmp_path: Path
) -> None:
    """In one job, and shared out to three; tracks by at most one last digit at one base of 10,000."""
    name = "human_mitochondrion"
    whole, calls = tracks_and_calls("whole", "--sequences", MITOCHONDRION)
    borders = [0, 3_001, 3_120, 9_999, len(whole["CDS"])]
    regions = [f"{name}\t{start}\t{end}\n" for start, end in itertools.pairwise(borders)]
    shards = []
    for number, lines in enumerate((regions[0] + regions[2], regions[1], regions[3])):
        (tmp_path / "x.bed").write_text(lines)
        shards.append(tracks_and_calls(str(number), "--genome", MITOCHONDRION, "--regions", tmp_path / "x.bed"))
    for feature, values in whole.items():
        together = np.stack([found[feature] for found, _ in shards])
        known = ~np.isnan(together)
        assert (known.sum(axis=0) == ~np.isnan(values)).all()  # no data in the gap, and everything else once
        difference = np.abs(np.nansum(together, axis=0) - np.nan_to_num(values))
        assert difference.max() <= 0.0101
        assert np.count_nonzero(difference > 1e-6) <= 1e-4 * len(values)
    cut = [
        (feature, max(start, first), min(end, last))
        for feature, start, end in calls
        for first, last in itertools.pairwise(borders)
        if start < last and end > first
    ]
    assert len(cut) > len(calls) > 20
    assert sorted(row for _, rows in shards for row in rows) == sorted(cut)


def test_iupac_letters_are_read_as_n_and_u_as_t(run_tool: Run, tmp_path: Path, segmenter_file: Path) -> None:
    bases = random_contigs()["last"].upper()
    found = []
    for letters in (bases[:300] + "R" + bases[301:].replace("T", "u"), bases[:300] + "N" + bases[301:]):
        path = fasta(tmp_path / "x.fa", {"x": letters})
        code, said, error = run_tool(
            "segment", "--sequences", path, "--model", segmenter_file, "--probabilities", tmp_path / "p", "--threads", 1
        )
        assert (code, error) == (0, "")
        with np.load(tmp_path / "p") as archive:
            found.append((archive["x"], said))
    assert np.array_equal(found[0][0], found[1][0], equal_nan=True)
    assert np.isnan(found[0][0][300]).all()
    assert "IUPAC letters read as N: 1" in found[0][1]
    assert f"letters U read as T: {bases[301:].count('T')}" in found[0][1]


def test_contigs_may_have_other_usual_names(segment: Segment, tmp_path: Path) -> None:
    genome = fasta(tmp_path / "x.fa", {"chr1": random_contigs()["chr1"]})
    found = []
    for name in ("chr1", "1"):
        (tmp_path / "x.bed").write_text(f"{name}\t10\t500\n")
        figure = ("--figure", tmp_path / "figure", "--figure-region", f"{name}:11-20")
        found.append(segment("--genome", genome, "--regions", tmp_path / "x.bed", *figure))
    assert list(found[0]) == list(found[1]) == ["features", "chr1:10-500", "provenance"]
    assert np.array_equal(found[0]["chr1:10-500"], found[1]["chr1:10-500"])


def test_results_do_not_depend_on_the_batch(segment: Segment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fasta(tmp_path / "x.fa", random_contigs())
    usual = segment("--sequences", path, *SMALL)
    for tokens, buffered in ((1, 1), (100, 2_000), (100_000, 1)):
        monkeypatch.setattr(engine, "BUFFERED_BASES", buffered)
        monkeypatch.setattr(engine, "BATCHES_A_BUFFER", 1)
        found = segment("--sequences", path, *SMALL, "--batch-tokens", tokens)
        assert list(found) == list(usual)
        for name in random_contigs():
            np.testing.assert_allclose(found[name], usual[name], rtol=0, atol=1e-5)


def test_both_strands_are_the_mean_of_both(segment: Segment, tmp_path: Path) -> None:
    bases = random_contigs()["gi|12|ref.1"]
    path = fasta(tmp_path / "x.fa", {"+": bases, "-": reverse_complement(bases)})
    one, both = segment("--sequences", path), segment("--sequences", path, "--both-strands")
    np.testing.assert_allclose(both["+"], (one["+"] + one["-"][::-1]) / 2, rtol=0, atol=1e-6)
    np.testing.assert_allclose(both["+"], both["-"][::-1], rtol=0, atol=1e-6)


def test_some_features_are_those_of_all(segment: Segment, tmp_path: Path) -> None:
    path = fasta(tmp_path / "x.fa", random_contigs())
    every, some = segment("--sequences", path), segment("--sequences", path, "--features", " tRNA,CDS,")
    assert every["features"].tolist() == ["CDS", "rRNA", "tRNA"]
    assert some["features"].tolist() == ["CDS", "tRNA"]
    assert np.array_equal(some["chr1"], every["chr1"][:, [0, 2]], equal_nan=True)


@pytest.fixture
def everything(run_tool: Run, tmp_path: Path, segmenter_file: Path) -> tuple[dict[str, Path], str]:
    """All outputs of the random contigs, and what was said."""
    path = fasta(tmp_path / "x.fa", random_contigs())
    outputs = {name: tmp_path / name for name in ("tracks", "calls", "summary", "figure", "probabilities")}
    written = [part for name, file in outputs.items() for part in (f"--{name}", file)]
    choices = ("--threshold", 0.6, "--low-threshold", 0.55, "--min-length", 2, "--merge-gap", 1)
    code, said, error = run_tool("segment", "--sequences", path, "--model", segmenter_file, *SMALL, *choices, *written)
    assert (code, error) == (0, "")
    return outputs, said


@pytest.mark.slow
def test_tracks_are_the_rounded_probabilities(everything: tuple[dict[str, Path], str]) -> None:
    outputs, _ = everything
    contigs = random_contigs()
    with np.load(outputs["probabilities"]) as archive:
        for column, feature in enumerate(archive["features"]):
            with pyBigWig.open(str(outputs["tracks"] / f"{feature}.bw")) as track:
                assert track.chroms() == {name: len(bases) for name, bases in contigs.items()}
                for name, bases in contigs.items():
                    found = track.values(name, 0, len(bases), numpy=True)
                    np.testing.assert_allclose(found, np.round(archive[name][:, column], 2), rtol=0, atol=1e-7)
                    assert np.isnan(found[[base == "N" for base in bases]]).all()
                    if name in ("n", "a/b"):
                        assert track.intervals(name) is None


@pytest.mark.slow
def test_calls_are_the_segments_of_the_probabilities(everything: tuple[dict[str, Path], str]) -> None:
    outputs, _ = everything
    expected = []
    with np.load(outputs["probabilities"]) as archive:
        for name in random_contigs():
            rows = []
            for column, feature in enumerate(archive["features"].tolist()):
                caller, values = SegmentCaller(Calling(0.6, 0.55, 2, 1)), archive[name][:, column]
                edges = np.flatnonzero(np.diff(~np.isnan(values), prepend=False, append=False)).reshape(-1, 2)
                for start, end in edges.tolist():
                    segments = np.concatenate([caller.add(start, values[start:end]), caller.finish()])
                    for row, mean in zip(segments, means(segments), strict=True):
                        rows.append((int(row[0]), int(row[1]), column, feature, round(mean * 1000)))
            expected += [(name, start, end, feature, score) for start, end, _, feature, score in sorted(rows)]
    lines = [line.split("\t") for line in outputs["calls"].read_text().splitlines()]
    assert [(line[0], int(line[1]), int(line[2]), line[3], int(line[4])) for line in lines] == expected
    assert len(expected) > 20
    assert {len(line) for line in lines} == {9}
    assert all(line[1:3] == line[6:8] and line[5] == "." for line in lines)


@pytest.mark.slow
def test_the_summary_has_a_line_and_a_status_a_contig(everything: tuple[dict[str, Path], str]) -> None:
    outputs, said = everything
    header, *lines = [line.split("\t") for line in outputs["summary"].read_text().splitlines()]
    rows = {line[0]: dict(zip(header, line, strict=True)) for line in lines}
    assert list(rows) == list(random_contigs())
    assert [row["status"] for row in rows.values()] == ["gaps", "ok", "too_short", "ok", "all_n", "ok"]
    assert [int(row["with_data"]) for row in rows.values()] == [900 + 301 + 250, 240, 0, 131, 0, 777]
    assert [int(row["n"]) for row in rows.values()] == [43, 0, 0, 0, 50, 0]
    assert [int(row["n_windows"]) for row in rows.values()] == [5 + 2 + 2, 1, 0, 2, 0, 4]
    calls = [line.split("\t") for line in outputs["calls"].read_text().splitlines()]
    for name, row in rows.items():
        assert int(row["segments"]) == sum(line[0] == name for line in calls)
        of_trna = sum(int(line[2]) - int(line[1]) for line in calls if line[0] == name and line[3] == "tRNA")
        assert int(row["bases_in_tRNA"]) == of_trna
    assert "Segmented 6 sequences of 2,714 bases in all, 2,599 of them with probabilities, in 16 windows" in said
    for sentence in ("N alone, without data: 1", "too short for the model, without data: 1", "read as upper case: 777"):
        assert sentence in said


@pytest.mark.slow
def test_the_same_command_gives_the_same_bytes(run_tool: Run, tmp_path: Path, segmenter_file: Path) -> None:
    found = []
    for run in ("a", "b"):
        (tmp_path / run).mkdir()
        outputs = {name: tmp_path / run / name for name in ("tracks", "calls", "summary", "figure", "probabilities")}
        written = [part for name, file in outputs.items() for part in (f"--{name}", file)]
        assert run_tool("segment", "--sequences", MITOCHONDRION, "--model", segmenter_file, *written)[0] == 0
        found.append({path.name: path.read_bytes() for path in (tmp_path / run).rglob("*") if path.is_file()})
    assert len(found[0]) == 7
    assert found[0] == found[1]


def test_gff3_counts_from_one_and_names_terms(run_tool: Run, tmp_path: Path, segmenter_file: Path) -> None:
    path = fasta(
        tmp_path / "x.fa", {"a b;c": "x", "we;rd,name": random_contigs()["last"]} | {"a": random_contigs()["odd"]}
    )
    path.write_text(path.read_text().replace(">a b;c described\nx\n", ""))
    bed, gff = (tmp_path / kind for kind in ("bed", "gff3"))
    for output in (bed, gff):
        code, _, error = run_tool(
            "segment", "--sequences", path, "--model", segmenter_file, "--calls", output, "--calls-format", output.name
        )
        assert (code, error) == (0, "")
    first, *lines = gff.read_text().splitlines()
    assert first == "##gff-version 3"
    calls = [line.split("\t") for line in bed.read_text().splitlines()]
    for number, (line, call) in enumerate(zip(lines, calls, strict=True), start=1):
        contig, source, term, start, end, score, strand, phase, attributes = line.split("\t")
        assert (contig, source, term, strand, phase) == (
            call[0].replace(";", "%3B").replace(",", "%2C"),
            "DNA-LM",
            call[3],
            ".",
            ".",
        )
        assert (int(start) - 1, end) == (int(call[1]), call[2])
        assert round(float(score) * 1000) == pytest.approx(int(call[4]), abs=1)
        assert attributes.startswith(f"ID=segment_{number};Name={call[3]};highest=0.")


@pytest.mark.slow
def test_a_table_overrules_the_calling_of_single_features(run_tool: Run, tmp_path: Path, segmenter_file: Path) -> None:
    def calls(*arguments: object) -> dict[str, list[list[str]]]:
        code, _, error = run_tool(
            "segment", "--sequences", MITOCHONDRION, "--model", segmenter_file, "--calls", tmp_path / "x", *arguments
        )
        assert (code, error) == (0, "")
        found: dict[str, list[list[str]]] = {"CDS": [], "rRNA": [], "tRNA": []}
        for line in (tmp_path / "x").read_text().splitlines():
            found[line.split("\t")[3]].append(line.split("\t")[:5])
        return found

    table = tmp_path / "settings"
    table.write_text("feature\tmin_length\tthreshold\nrRNA\t\t0.7\nCDS\t4\t\n")
    mixed = calls("--call-settings", table)
    assert mixed["tRNA"] == calls()["tRNA"]
    assert mixed["rRNA"] == calls("--threshold", 0.7, "--low-threshold", 0.5)["rRNA"]
    assert mixed["CDS"] == calls("--min-length", 4)["CDS"]
    assert all(mixed.values())


def test_a_genome_may_be_compressed_and_its_lines_of_any_length(segment: Segment, tmp_path: Path) -> None:
    contigs = random_contigs()
    usual = segment("--sequences", fasta(tmp_path / "x.fa", contigs))
    ragged = "".join(f">{name}\r\n{bases[:7]}\r\n\r\n{bases[7:]}\r\n" for name, bases in contigs.items())
    (tmp_path / "x.gz").write_bytes(gzip.compress(ragged.encode()))
    found = segment("--sequences", tmp_path / "x.gz")
    assert all(np.array_equal(found[name], usual[name], equal_nan=True) for name in contigs)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_the_figure_shows_a_region(run_tool: Run, tmp_path: Path, kind: str, segmenter_file: Path) -> None:
    places = ("--figure", tmp_path / "x", "--figure-format", kind, "--figure-region", "human_mitochondrion:3,001-3,400")
    code, _, error = run_tool("segment", "--sequences", MITOCHONDRION, "--model", segmenter_file, *places)
    assert (code, error) == (0, "")
    assert (tmp_path / "x").read_bytes().startswith({"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[kind])
    if kind == "svg":
        text = (tmp_path / "x").read_text()
        assert all(
            said in text for said in ("3,001 to 3,400", "tRNA", open_model(segmenter_file).name, "grey: no data")
        )


@pytest.mark.parametrize("place", [100, 3_107], ids=["with data", "N"])
def test_the_figure_may_be_of_a_single_base(run_tool: Run, tmp_path: Path, segmenter_file: Path, place: int) -> None:
    places = ("--figure", tmp_path / "x", "--figure-format", "svg")
    region = f"human_mitochondrion:{place:,}-{place:,}"
    given = ("--sequences", MITOCHONDRION, "--model", segmenter_file, "--figure-region", region)
    assert run_tool("segment", *given, *places)[0] == 0
    assert f"{place:,} to {place:,}" in (tmp_path / "x").read_text()


def test_the_usual_figure_is_of_the_first_bases_that_have_data(
    run_tool: Run, tmp_path: Path, segmenter_file: Path
) -> None:
    contigs = random_contigs()
    path = fasta(tmp_path / "x.fa", {"tiny": contigs["a/b"], "gap": contigs["a/b"] + "NN" + contigs["last"]})
    places = ("--figure", tmp_path / "x", "--figure-format", "svg")
    assert run_tool("segment", "--sequences", path, "--model", segmenter_file, *places)[0] == 0
    text = (tmp_path / "x").read_text()
    assert "gap: 14 to 790" in text
    assert "grey: no data" not in text


@pytest.mark.slow
def test_bfloat16_is_near_and_says_how_near(
    run_tool: Run, segment: Segment, tmp_path: Path, segmenter_file: Path
) -> None:
    usual, lower = (segment("--sequences", MITOCHONDRION, "--dtype", kind) for kind in ("float32", "bfloat16"))
    name = "human_mitochondrion"
    assert 0 < np.nanmax(np.abs(usual[name] - lower[name])) < 0.05
    _, said, _ = run_tool(
        "segment",
        "--sequences",
        MITOCHONDRION,
        "--model",
        segmenter_file,
        "--dtype",
        "bfloat16",
        "--summary",
        tmp_path / "s",
    )
    assert "Precision: probabilities differ from float32's by at most 0.0" in said


class Neighbours(nn.Module):
    """Logits of the letters around a base: what is easily computed for a whole contig at once."""

    def __init__(self, central: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv1d(4, 4, 31, padding=15)
        self.central = central

    def forward(self, letters: Tensor) -> Tensor:
        start = (letters.shape[-1] - self.central) // 2
        logits = self.convolution(letters)[..., start : start + self.central]
        return logits.transpose(1, 2).reshape(len(letters), self.central, 2, 2)


def one_hot(sequences: Any) -> Tensor:
    return torch.tensor([[[float(base == letter) for base in bases] for letter in "ACGT"] for bases in sequences])


@pytest.mark.parametrize("stitch", ["center", "blend"])
@pytest.mark.parametrize("central", [256, 192])
def test_models_that_take_n_read_beyond_the_ends_and_over_short_runs(
    segment: Segment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, central: int, stitch: str
) -> None:
    """As SegmentEnformer and, of whose windows only the middle has probabilities, SegmentBorzoi."""
    network, contigs = Neighbours(central).eval(), random_contigs()
    window = Window(256, 256, 256, 256, 32, None if central == 256 else central)

    def load(stored: StoredModel) -> Segmenter:
        return Segmenter(stored, "neighbours", network, ("one", "two"), window, True, one_hot)

    monkeypatch.setattr(segmentation, "load_segmenter", load)
    found = segment("--sequences", fasta(tmp_path / "x.fa", contigs), "--stitch", stitch, "--window-overlap", 0.3)
    for name, bases in contigs.items():
        whole = replace_central(network, len(bases))
        with torch.inference_mode():
            expected = whole(one_hot([bases.upper()])).softmax(-1)[0, ..., 1].numpy().copy()
        is_gap = np.zeros(len(bases), dtype=bool)
        if name in ("chr1", "n"):
            is_gap[slice(900, 940) if name == "chr1" else slice(None)] = True
        assert np.isnan(found[name]).any(axis=1).tolist() == is_gap.tolist()
        # Windows without margin see zeros where their neighbours see letters.
        trusted = np.ones(len(bases), dtype=bool) if central < 256 else np.abs(np.arange(len(bases)) - 128) < 90
        if central == 256 and stitch == "blend":
            continue
        kept = trusted & ~is_gap
        np.testing.assert_allclose(found[name][kept], expected[kept], rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "window"), [("segment_enformer", 1_536), ("segment_borzoi", 2_048)])
def test_a_contig_that_fits_a_published_trunk_is_one_window_with_nothing_around_it(
    segment: Segment, tmp_path: Path, case: str, window: int
) -> None:
    model = load_segmenter(open_model(PARITY / case))
    first, _ = model.window.output(window)
    contigs = random_contigs()
    found = segment("--sequences", fasta(tmp_path / "x.fa", contigs), "--model", PARITY / case, "--window", window)
    for name in ("gi|12|ref.1", "a/b", "odd", "last"):
        bases = contigs[name].upper()
        padded = ("N" * first + bases).ljust(window, "N")
        np.testing.assert_allclose(found[name], alone(model, padded)[: len(bases)], rtol=0, atol=1e-5)
    if case == "segment_enformer":  # whose reference was given N within
        inputs = json.loads((PARITY / case / "inputs.json").read_text())
        path = fasta(tmp_path / "x.fa", {item["id"]: item["sequence"] for item in inputs})
        found = segment("--sequences", path, "--model", PARITY / case, "--window", window)
        wanted = load_file(PARITY / case / "expected.safetensors")["probabilities"]
        for item, expected in zip(inputs, wanted, strict=True):
            known = ~np.isnan(found[item["id"]]).any(axis=1)
            assert known.sum() > 1_000
            np.testing.assert_allclose(found[item["id"]][known], expected[known], rtol=0, atol=1e-5)


def replace_central(network: Neighbours, bases: int) -> Neighbours:
    whole = Neighbours(bases)
    whole.load_state_dict(network.state_dict())
    return whole


def test_its_settings_are_what_the_script_says() -> None:
    import dnalm_segment
    from dnalm.tasks.segmentation_options import SegmentationOptions

    arguments = dnalm_segment.parser().parse_args(["--model", "m"])
    assert replace(SegmentationOptions(**vars(arguments)), model=Path("x")) == SegmentationOptions(Path("x"))
