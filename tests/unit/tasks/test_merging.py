"""Merged shards are what one job would have made; every kind, every number of shards, in one step or several."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pyBigWig
import pysam
import pytest
from conftest import TEST_DATA, Run
from dnalm.formats import merged_embeddings, merged_tracks
from dnalm.formats.bigwig import BigWigWriter, Chromosomes

SHARDS = TEST_DATA / "shards"
KINDS = [
    *("embeddings_{}.h5ad", "embeddings_{}.parquet", "summary_{}.tsv"),
    *("variants_{}.vcf.gz", "calls_{}.bed", "track_{}.bw"),
]
SEQUENCES, MODEL = TEST_DATA / "two_genomes.fasta", TEST_DATA / "random_model.safetensors"
Merge = Callable[..., str]


@pytest.fixture
def merge(run_tool: Run) -> Merge:
    """Merge files into another and return what was said."""

    def call(output: Path, *shards: Path) -> str:
        given = [part for shard in shards for part in ("--shards", shard)]
        code, said, error = run_tool("merge", *given, "--output", output, "--table", output.with_suffix(".table"))
        assert (code, error) == (0, "")
        return said

    return call


def pair(kind: str) -> list[Path]:
    return [SHARDS / kind.format(number) for number in (1, 2)]


def told(path: Path) -> dict[str, Any]:
    return json.loads(anndata.read_h5ad(path).uns["dnalm"])


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 3, 7])
@pytest.mark.parametrize("suffix", ["h5ad", "parquet"])
def test_split_embed_and_merge_equal_one_job(
    run_tool: Run, merge: Merge, tmp_path: Path, shards: int, suffix: str
) -> None:
    def embedded(sequences: Path, name: str) -> tuple[Path, Path]:
        places = tmp_path / f"{name}.{suffix}", tmp_path / f"{name}.tsv"
        options = ("--sequences", sequences, "--model", MODEL, "--output-format", suffix, "--threads", 1)
        assert run_tool("embed", *options, "--output", places[0], "--summary", places[1])[0] == 0
        return places

    # Some ids twice, and letters that are mended and counted.
    several = tmp_path / "several.fasta"
    several.write_text(SEQUENCES.read_text() + ">ecoli_100001 again\nACGTRYacgtu\n" + SEQUENCES.read_text()[:2_000])
    whole, summary = embedded(several, "whole")
    assert (
        run_tool("split", "--sequences", several, "--shards", shards, "--output-directory", tmp_path / "shards")[0] == 0
    )
    files = sorted((tmp_path / "shards").iterdir())
    assert len(files) == shards
    parts = [embedded(file, file.stem) for file in files]
    merge(tmp_path / f"merged.{suffix}", *(part[0] for part in parts))
    merge(tmp_path / "merged.tsv", *(part[1] for part in parts))
    if suffix == "h5ad":
        one, other = anndata.read_h5ad(whole), anndata.read_h5ad(tmp_path / "merged.h5ad")
        assert told(whole) == told(tmp_path / "merged.h5ad")  # counts of repeated ids too
        assert told(whole)["counts"]["duplicate_ids"] == 5
        pd.testing.assert_frame_equal(one.obs, other.obs)
        vectors = (one.X, other.X)
        assert one.var_names.equals(other.var_names)
    else:
        tables = [pq.read_table(path) for path in (whole, tmp_path / "merged.parquet")]
        assert tables[0].schema.equals(tables[1].schema)
        assert tables[0].schema.metadata == tables[1].schema.metadata
        frames = [table.to_pandas() for table in tables]
        columns = [name for name in frames[0] if name.startswith("dimension_")]
        pd.testing.assert_frame_equal(frames[0].drop(columns=columns), frames[1].drop(columns=columns))
        vectors = tuple(frame[columns].to_numpy() for frame in frames)
    np.testing.assert_allclose(vectors[0], vectors[1], rtol=0, atol=1e-5 * np.abs(vectors[0]).max())
    one_table, merged_table = (pd.read_csv(path, sep="\t") for path in (summary, tmp_path / "merged.tsv"))
    norms = [table.pop("embedding_norm") for table in (one_table, merged_table)]
    pd.testing.assert_frame_equal(one_table, merged_table)
    np.testing.assert_allclose(norms[0], norms[1], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("shards", [3, 7])
def test_regions_of_a_genome_in_shards_equal_one_job(run_tool: Run, merge: Merge, tmp_path: Path, shards: int) -> None:
    genome = TEST_DATA / "human_mitochondrion.fasta"

    def embedded(regions: Path) -> Path:
        output = tmp_path / f"{regions.stem}_of_{regions.parent.name}.h5ad"
        options = ("--genome", genome, "--regions", regions, "--representation", "kmer", "--output", output)
        assert run_tool("embed", *options)[0] == 0
        return output

    for number in (1, shards):
        options = ("--genome", genome, "--region-length", 500, "--shards", number)
        assert run_tool("split", *options, "--output-directory", tmp_path / f"in_{number}")[0] == 0
    parts = [embedded(file) for file in sorted((tmp_path / f"in_{shards}").iterdir())]
    merge(tmp_path / "merged.h5ad", *parts)
    whole, merged = (
        anndata.read_h5ad(embedded(tmp_path / "in_1" / "shard_1.bed")),
        anndata.read_h5ad(tmp_path / "merged.h5ad"),
    )
    pd.testing.assert_frame_equal(whole.obs, merged.obs)
    np.testing.assert_allclose(whole.X, merged.X, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 3, 7])
def test_split_score_and_merge_equal_one_job(run_tool: Run, merge: Merge, tmp_path: Path, shards: int) -> None:
    variants, genome = TEST_DATA / "mitochondrial_variants.vcf", TEST_DATA / "human_mitochondrion.fasta"

    def scored(variants: Path, name: str) -> tuple[Path, Path]:
        places = tmp_path / f"{name}.vcf.gz", tmp_path / f"{name}.tsv"
        options = ("--variants", variants, "--reference", genome, "--model", MODEL, "--threads", 1)
        assert run_tool("score_variants", *options, "--output-vcf", places[0], "--output-table", places[1])[0] == 0
        return places

    assert (
        run_tool("split", "--variants", variants, "--shards", shards, "--output-directory", tmp_path / "shards")[0] == 0
    )
    parts = [scored(file, file.name.split(".")[0]) for file in sorted((tmp_path / "shards").iterdir())]
    assert len(parts) == shards
    merge(tmp_path / "merged.vcf.gz", *(part[0] for part in parts))
    merge(tmp_path / "merged.tsv", *(part[1] for part in parts))
    whole = scored(variants, "whole")
    one, merged = (gzip.decompress(path.read_bytes()).decode() for path in (whole[0], tmp_path / "merged.vcf.gz"))
    assert one.count("\n") == merged.count("\n")
    assert [line for line in one.splitlines() if line[0] == "#"] == [
        line for line in merged.splitlines() if line[0] == "#"
    ]
    tables = [pd.read_csv(path, sep="\t") for path in (whole[1], tmp_path / "merged.tsv")]
    numbers = [table.pop("llr_masked").to_numpy() for table in tables]
    pd.testing.assert_frame_equal(*tables)
    np.testing.assert_allclose(numbers[0], numbers[1], rtol=0, atol=1e-5 * np.nanmax(np.abs(numbers[0])))


@pytest.mark.slow
def test_tracks_of_a_genome_in_shards_are_those_of_one_job(run_tool: Run, merge: Merge, tmp_path: Path) -> None:
    genome = TEST_DATA / "human_mitochondrion.fasta"
    for number in (1, 3):
        options = ("--genome", genome, "--shards", number, "--output-directory", tmp_path / f"in_{number}")
        assert run_tool("split", *options)[0] == 0
    tracks: dict[str, list[Path]] = {}
    for file in (tmp_path / "in_1" / "shard_1.bed", *sorted((tmp_path / "in_3").iterdir())):
        folder = tmp_path / f"tracks of {file.parent.name} {file.stem}"
        model = TEST_DATA / "segmenter.safetensors"
        code, _, _ = run_tool(
            "segment", *("--genome", genome, "--regions", file, "--model", model, "--tracks", folder, "--threads", 1)
        )
        assert code == 0
        tracks.setdefault(file.parent.name, []).append(folder)
    (whole,), shards = tracks["in_1"], tracks["in_3"]
    assert len(shards) == 2  # cuts are at multiples of 10,000 bases
    for track_of_one_job in sorted(whole.iterdir()):
        merge(tmp_path / "merged", *(shard / track_of_one_job.name for shard in shards))
        assert (tmp_path / "merged").read_bytes() == track_of_one_job.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_merged_file_is_a_shard_again(merge: Merge, tmp_path: Path, kind: str) -> None:
    merge(tmp_path / "once", *pair(kind))
    merge(tmp_path / "twice", tmp_path / "once")
    assert (tmp_path / "once").read_bytes() == (tmp_path / "twice").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_shards_in_steps_give_the_same_bytes(merge: Merge, tmp_path: Path, kind: str) -> None:
    shards = pair(kind)
    if "track" in kind:
        shards.append(
            track(tmp_path / "third", {"human_mitochondrion": 16_569}, [("human_mitochondrion", 16_100, [1, 2])])
        )
    else:
        shards.append(shards[0])
    merge(tmp_path / "at once", *shards)
    merge(tmp_path / "first two", *shards[:2])
    merge(tmp_path / "in steps", tmp_path / "first two", shards[2])
    assert (tmp_path / "at once").read_bytes() == (tmp_path / "in steps").read_bytes()


@pytest.mark.slow
def test_what_was_run_stays_and_counts_are_added(merge: Merge, tmp_path: Path) -> None:
    shards = pair("embeddings_{}.h5ad")
    merge(tmp_path / "m", *shards)
    merged = told(tmp_path / "m")
    for name in ("tool", "options", "model", "versions", "device"):
        assert merged[name] == told(shards[0])[name]
    assert merged["counts"]["sequences"] == 80
    metadata = pq.ParquetFile(pair("embeddings_{}.parquet")[0]).metadata.metadata
    merge(tmp_path / "p", *pair("embeddings_{}.parquet"))
    said = json.loads(pq.ParquetFile(tmp_path / "p").metadata.metadata[b"dnalm"])
    assert said["counts"]["bases"] == 48_000
    assert said["model"] == json.loads(metadata[b"dnalm"])["model"]


def changed(path: Path, source: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Copy a shard and change what it says was run."""
    path.write_bytes(source.read_bytes())
    with h5py.File(path, "r+") as file:
        said = json.loads(file["uns/dnalm"].asstr()[()])
        change(said)
        file["uns/dnalm"][()] = json.dumps(said)
    return path


def test_other_machines_and_versions_are_named(merge: Merge, tmp_path: Path) -> None:
    shards = pair("embeddings_{}.h5ad")

    def elsewhere(said: dict[str, Any]) -> None:
        said["device"] = "cuda"
        said["versions"]["torch"] = "1.0"

    said = merge(tmp_path / "m", shards[0], changed(tmp_path / "other.h5ad", shards[1], elsewhere))
    assert "Shards differ in device: cpu, cuda" in said
    assert "Shards differ in versions: " in said
    assert told(tmp_path / "m")["device"] == "cpu, cuda"
    assert told(tmp_path / "m")["versions"]["torch"].startswith("1.0, ")


def test_the_lowest_cosine_of_a_lower_precision_is_kept(merge: Merge, tmp_path: Path) -> None:
    one, other = pair("embeddings_{}.h5ad")
    changed(tmp_path / "1", one, lambda said: said["model"].update(lowest_cosine_with_float32=0.99))
    changed(tmp_path / "2", other, lambda said: said["model"].update(lowest_cosine_with_float32=0.97))
    merge(tmp_path / "m", tmp_path / "1", tmp_path / "2")
    assert told(tmp_path / "m")["model"]["lowest_cosine_with_float32"] == 0.97


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["embeddings_{}.h5ad", "embeddings_{}.parquet"])
def test_rows_are_grouped_alike_wherever_shards_meet(
    merge: Merge, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merged_embeddings, "MOST_ROWS", 7)
    shards = pair(kind)
    merge(tmp_path / "m", *shards, *shards)
    if kind.endswith("h5ad"):
        ids = anndata.read_h5ad(tmp_path / "m").obs_names.tolist()
        expected = [name for shard in shards for name in anndata.read_h5ad(shard).obs_names]
    else:
        ids = pq.read_table(tmp_path / "m")["id"].to_pylist()
        expected = [name for shard in shards for name in pq.read_table(shard)["id"].to_pylist()]
        groups = pq.ParquetFile(tmp_path / "m").metadata
        assert [groups.row_group(n).num_rows for n in range(groups.num_row_groups)] == [7] * 22 + [6]
    assert ids == expected * 2


def test_rows_of_tokens_are_merged(run_tool: Run, merge: Merge, tmp_path: Path) -> None:
    (tmp_path / "s.fasta").write_text(">a\nACGTAC\n>b\nACG\n")
    options = ("--sequences", tmp_path / "s.fasta", "--model", MODEL, "--pooling", "none", "--threads", 1)
    assert run_tool("embed", *options, "--output", tmp_path / "t.h5ad")[0] == 0
    merge(tmp_path / "m", tmp_path / "t.h5ad", tmp_path / "t.h5ad")
    data = anndata.read_h5ad(tmp_path / "m")
    assert data.obs_names.tolist() == ["a", "a", "b"] * 2
    assert told(tmp_path / "m")["counts"]["duplicate_ids"] == 2  # of records, not of tokens


def test_a_merged_vcf_can_be_indexed_and_says_what_was_run(merge: Merge, tmp_path: Path) -> None:
    said = merge(tmp_path / "m.vcf.gz", *pair("variants_{}.vcf.gz"))
    assert "Merged 2 shards (VCF) of 10 records" in said
    pysam.tabix_index(str(tmp_path / "m.vcf.gz"), preset="vcf")
    with pysam.VariantFile(str(tmp_path / "m.vcf.gz")) as file:
        records = list(file)
        assert [record.pos for record in records] == list(range(200, 2_200, 200))
        assert records[3].alts == ("T", "A")
    lines = gzip.decompress((tmp_path / "m.vcf.gz").read_bytes()).decode().splitlines()
    (note,) = (line for line in lines if line.startswith("##dnalm="))
    assert json.loads(note.removeprefix("##dnalm="))["counts"] == {"records": 10}
    originals = [gzip.decompress(path.read_bytes()).decode().splitlines() for path in pair("variants_{}.vcf.gz")]
    assert [line for line in lines if line[0] != "#"] == [line for part in originals for line in part if line[0] != "#"]


def test_plain_vcf_stays_plain_and_new_header_lines_are_told(merge: Merge, tmp_path: Path) -> None:
    first = (SHARDS / "variants.vcf").read_text()
    (tmp_path / "a.vcf").write_text(first)
    (tmp_path / "b.vcf").write_text(first.replace("#CHROM", '##FILTER=<ID=low,Description="x">\n#CHROM', 1))
    said = merge(tmp_path / "m.vcf", tmp_path / "a.vcf", tmp_path / "b.vcf")
    lines = (tmp_path / "m.vcf").read_text().splitlines()
    assert lines[2:4] == ['##FILTER=<ID=low,Description="x">', first.splitlines()[2]]
    assert "Shard 2 ('b.vcf') adds to the header: ##FILTER=<ID=low" in said
    assert len(lines) == 4 + 20


def test_shards_without_records_are_counted(merge: Merge, tmp_path: Path) -> None:
    (tmp_path / "none.bed").write_text("")
    said = merge(tmp_path / "m.bed", *pair("calls_{}.bed"), tmp_path / "none.bed")
    assert "Shards without regions: 1" in said
    header = (SHARDS / "summary_1.tsv").read_text().splitlines(keepends=True)[0]
    (tmp_path / "none.tsv").write_text(header)
    said = merge(tmp_path / "m.tsv", tmp_path / "none.tsv", *pair("summary_{}.tsv"))
    assert "Shards without rows: 1" in said
    assert pd.read_csv(tmp_path / "m.table", sep="\t")["rows"].tolist() == [0, 40, 40]


@pytest.mark.slow
def test_an_embedding_without_rows_changes_nothing(merge: Merge, tmp_path: Path) -> None:
    shards = pair("embeddings_{}.h5ad")
    empty = anndata.read_h5ad(shards[0])[:0].copy()
    empty.write_h5ad(tmp_path / "none.h5ad")
    with h5py.File(tmp_path / "none.h5ad", "r+") as file:
        # anndata writes texts without a row as categories or texts, whichever it likes.
        for name in ("status", "id"):
            if isinstance(file[f"obs/{name}"], h5py.Group):
                del file[f"obs/{name}"]
                file[f"obs/{name}"] = np.empty(0, dtype=h5py.string_dtype())
    said = merge(tmp_path / "m", shards[0], tmp_path / "none.h5ad", shards[1])
    merge(tmp_path / "without", *shards)
    assert "Shards without rows: 1" in said
    assert len(anndata.read_h5ad(tmp_path / "m")) == 80


def test_track_lines_come_from_the_first_file_that_has_some(merge: Merge, tmp_path: Path) -> None:
    for number, name in enumerate(("a", "a", "b"), start=1):
        (tmp_path / f"{number}.bed").write_text(f"track name={name}\n# note\nchr1\t{number}0\t{number}5\tx\n")
    said = merge(tmp_path / "m.bed", *(tmp_path / f"{number}.bed" for number in (1, 2, 3)))
    expected = "track name=a\n# note\n" + "".join(f"chr1\t{number}0\t{number}5\tx\n" for number in (1, 2, 3))
    assert (tmp_path / "m.bed").read_text() == expected
    assert "Shard 3 ('3.bed') has track lines or comments of its own, left out: 2" in said


def track(path: Path, lengths: dict[str, int], parts: list[tuple[str, int, list[float]]]) -> Path:
    with BigWigWriter(path, Chromosomes(lengths)) as writer:
        for contig, start, values in parts:
            writer.append(contig, start, np.array(values, dtype=np.float32))
        writer.finish()
    return path


@pytest.mark.slow
@pytest.mark.parametrize("stretch", [3, 50, 1 << 20])
def test_tracks_are_merged_into_that_of_one_job(
    merge: Merge, tmp_path: Path, stretch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merged_tracks, "STRETCH", stretch)
    lengths = {"chr2": 90, "chr1": 70}
    values = {
        contig: np.random.default_rng(length).random(length).round(3).tolist() for contig, length in lengths.items()
    }
    one = track(
        tmp_path / "one",
        lengths,
        [("chr2", 0, values["chr2"]), ("chr1", 0, values["chr1"][:30]), ("chr1", 40, values["chr1"][40:])],
    )
    shards = [
        track(tmp_path / "a", lengths, [("chr2", 0, values["chr2"][:55])]),
        track(tmp_path / "b", lengths, [("chr2", 55, values["chr2"][55:]), ("chr1", 0, values["chr1"][:30])]),
        track(tmp_path / "c", lengths, [("chr1", 40, values["chr1"][40:])]),
    ]
    merge(tmp_path / "m", *shards)
    assert (tmp_path / "m").read_bytes() == one.read_bytes()


def test_tracks_of_other_tools_are_merged(merge: Merge, tmp_path: Path) -> None:
    for number, (start, end, value) in enumerate(((0, 400, 0.5), (400, 1_000, 2.0))):
        with pyBigWig.open(str(tmp_path / str(number)), "w") as file:
            file.addHeader([("chr1", 1_000)])
            file.addEntries(["chr1"], [start], ends=[end], values=[value])
    merge(tmp_path / "m", tmp_path / "0", tmp_path / "1")
    with pyBigWig.open(str(tmp_path / "m")) as file:
        found = file.values("chr1", 0, 1_000, numpy=True)
    np.testing.assert_array_equal(found, [0.5] * 400 + [2.0] * 600)
