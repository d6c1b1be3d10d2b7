"""Inputs that cannot be split and shards that do not belong together: one sentence, exit code 1, nothing written."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import anndata
import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import TEST_DATA, Run
from dnalm.formats.bigwig import BigWigWriter, Chromosomes

SHARDS = TEST_DATA / "shards"
VCF = (SHARDS / "variants.vcf").read_text()
Refused = Callable[..., str]


def sentence_of(code: int, error: str, folder: Path, tool: str) -> str:
    assert code == 1
    assert error.startswith(f"{tool}: ")
    assert error.endswith(".\n")
    assert error.count("\n") == 1
    assert list(folder.iterdir()) == []
    return error


@pytest.fixture
def not_split(run_tool: Run, tmp_path: Path) -> Refused:
    """Run a split that must be refused, and return its sentence."""

    def call(*arguments: object) -> str:
        results = tmp_path / "results"
        results.mkdir()
        places = ("--output-directory", results / "shards", "--table", results / "table")
        code, _, error = run_tool("split", *arguments, *places)
        return sentence_of(code, error, results, "dnalm_split")

    return call


@pytest.fixture
def not_merged(run_tool: Run, tmp_path: Path) -> Refused:
    """Run a merge that must be refused, and return its sentence."""

    def call(*shards: Path) -> str:
        results = tmp_path / "results"
        results.mkdir()
        given = [part for shard in shards for part in ("--shards", shard)]
        code, _, error = run_tool("merge", *given, "--output", results / "merged", "--table", results / "table")
        return sentence_of(code, error, results, "dnalm_merge")

    return call


BAD_INPUTS: dict[str, tuple[str, bytes, tuple[object, ...], str]] = {
    "empty FASTA": ("--sequences", b"", (), "is empty"),
    "protein": ("--sequences", (TEST_DATA / "protein.fasta").read_bytes(), (), "it looks like protein"),
    "table as FASTA": ("--sequences", b"id\tx\n", (), "has text before the first '>'"),
    "damaged gzip": ("--sequences", gzip.compress(b">a\nACGT\n" * 5_000)[:100], (), "damaged or cut short"),
    "sequence without letters": ("--sequences", b">a\nACGT\n>b\n>c\nAC\n", (), "has no sequence"),
    "empty VCF": ("--variants", b"", (), "has no VCF header"),
    "VCF without header": ("--variants", b"chr1\t1\t.\tA\tC\t.\t.\t.\n", (), "has no VCF header"),
    "FASTA as VCF": ("--variants", b">a\nACGT\n", (), "has no VCF header"),
    "VCF without variants": ("--variants", VCF.split("human_mitochondrion\t")[0].encode(), (), "has no variant"),
    "VCF with a short line": ("--variants", VCF.encode() + b"chr1\t5\n", (), "Line 14 of 'input' is no variant"),
    "damaged bgzip": ("--variants", gzip.compress(VCF.encode() * 50)[:120], (), "damaged or cut short"),
    "binary VCF": ("--variants", b"BCF\2\2\0\0", (), "is binary"),
    "empty genome": ("--genome", b"", (), "cannot be indexed"),
    "genome of text": ("--genome", b"hello\n", (), "cannot be indexed"),
    "index with a word": (
        "--genome",
        b"chr1\t9\t5\t60\t61\nchr2\tlong\t5\t60\t61\n",
        (),
        "Line 2 of 'input' is not of",
    ),
    "index with a repeat": ("--genome", b"chr1\t9\t5\t60\t61\nchr1\t9\t5\t60\t61\n", (), "repeats the contig 'chr1'"),
    "index with an empty contig": ("--genome", b"chr1\t0\t5\t60\t61\n", (), "Line 1 of 'input' is not of"),
    "step without length": ("--genome", b">a\nACGT\n", ("--region-step", 5), "goes with their length"),
    "whole contigs of a length": (
        "--genome",
        b">a\nACGT\n",
        ("--region-length", 5, "--whole-contigs"),
        "choose one of both",
    ),
    "regions of sequences": ("--sequences", b">a\nACGT\n", ("--region-length", 5), "are for a genome"),
}


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_bad_inputs_are_not_split(not_split: Refused, tmp_path: Path, case: str) -> None:
    option, content, others, sentence = BAD_INPUTS[case]
    (tmp_path / "input").write_bytes(content)
    assert sentence in not_split(option, tmp_path / "input", *others)


def test_a_missing_file_is_not_split(not_split: Refused, tmp_path: Path) -> None:
    assert "does not exist" in not_split("--variants", tmp_path / "absent.vcf")


def test_a_folder_with_files_is_left_alone(run_tool: Run, tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "shard_9.fasta").write_text("of an earlier job")
    code, _, error = run_tool(
        "split", "--sequences", TEST_DATA / "two_genomes.fasta", "--output-directory", tmp_path / "shards"
    )
    assert code == 1
    assert "has files in it already" in error
    assert [path.name for path in (tmp_path / "shards").iterdir()] == ["shard_9.fasta"]


def rewritten(change: Callable[[anndata.AnnData], object]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        data = anndata.read_h5ad(SHARDS / "embeddings_2.h5ad")
        change(data)
        data.write_h5ad(path)

    return write


def without_provenance(path: Path) -> None:
    path.write_bytes((SHARDS / "embeddings_2.h5ad").read_bytes())
    with h5py.File(path, "r+") as file:
        del file["uns/dnalm"]


def other_run(what: str, name: str, value: object) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes((SHARDS / "embeddings_2.h5ad").read_bytes())
        with h5py.File(path, "r+") as file:
            said = json.loads(file["uns/dnalm"].asstr()[()])
            said[what][name] = value
            file["uns/dnalm"][()] = json.dumps(said)

    return write


def text(content: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(content)


def raw(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def other_dimensions(path: Path) -> None:
    path.write_bytes((SHARDS / "embeddings_2.h5ad").read_bytes())
    with h5py.File(path, "r+") as file:
        names = [f"pc_{number}" for number in range(64)]
        del file["var/_index"]
        file["var/_index"] = np.array(names, dtype=h5py.string_dtype())


def other_columns(path: Path) -> None:
    path.write_bytes((SHARDS / "embeddings_2.h5ad").read_bytes())
    with h5py.File(path, "r+") as file:
        obs = file["obs"]
        obs.attrs["column-order"] = [name for name in obs.attrs["column-order"] if name != "length"]


def narrower_parquet(path: Path) -> None:
    pq.write_table(pq.read_table(SHARDS / "embeddings_2.parquet").drop_columns(["dimension_63"]), path)


def track(lengths: dict[str, int], start: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with BigWigWriter(path, Chromosomes(lengths)) as writer:
            writer.append("human_mitochondrion", start, np.ones(50, dtype=np.float32))
            writer.finish()

    return write


def empty_track(path: Path) -> None:
    with BigWigWriter(path, Chromosomes({"human_mitochondrion": 16_569})) as writer:
        writer.finish()


def scored(old: str, new: str) -> Callable[[Path], object]:
    content = gzip.decompress((SHARDS / "variants_2.vcf.gz").read_bytes()).decode()
    assert old in content
    return text(content.replace(old, new))


SUMMARY = (SHARDS / "summary_2.tsv").read_text()
H5AD, TRACK = (SHARDS / "embeddings_2.h5ad").read_bytes(), (SHARDS / "track_2.bw").read_bytes()
PARQUET = (SHARDS / "embeddings_2.parquet").read_bytes()
BAD_SHARDS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "empty h5ad": ("embeddings_1.h5ad", text(""), "Shard 2 ('other') is empty; run the step"),
    "table among h5ad": (
        "embeddings_1.h5ad",
        text(SUMMARY),
        "Shard 2 ('other') is table, Shard 1 ('embeddings_1.h5ad') is",
    ),
    "Parquet among h5ad": ("embeddings_1.h5ad", raw(PARQUET), "merge shards of one kind"),
    "another model": (
        "embeddings_1.h5ad",
        other_run("model", "sha256", "0123"),
        "Shard 2 ('other') was made with model sha256 0123, Shard 1 ('embeddings_1.h5ad') with ",
    ),
    "other options": (
        "embeddings_1.h5ad",
        other_run("options", "pooling", "max"),
        "was made with options pooling max, Shard 1 ('embeddings_1.h5ad') with mean; merge shards of one run",
    ),
    "other dimensions": ("embeddings_1.h5ad", other_dimensions, "has other dimensions than Shard 1"),
    "other columns": ("embeddings_1.h5ad", other_columns, "has other columns than Shard 1"),
    "no provenance": ("embeddings_1.h5ad", without_provenance, "Shard 2 ('other') does not say what was run"),
    "rewritten by anndata": (
        "embeddings_1.h5ad",
        rewritten(lambda data: None),
        "has the categories of 'status'; merge embeddings as DNA-LM embed wrote them",
    ),
    "results of other steps": (
        "embeddings_1.h5ad",
        rewritten(lambda data: data.obsm.__setitem__("X_pca", data.X[:, :2])),
        "has 'obsm'",
    ),
    "damaged h5ad": ("embeddings_1.h5ad", raw(H5AD[:20_000]), "is a damaged HDF5 file"),
    "other HDF5": (
        "embeddings_1.h5ad",
        lambda path: h5py.File(path, "w").create_dataset("x", data=[1]).file.close(),
        "is HDF5, but no AnnData",
    ),
    "damaged Parquet": ("embeddings_1.parquet", raw(PARQUET[:9_000]), "is a damaged Parquet file"),
    "narrower Parquet": ("embeddings_1.parquet", narrower_parquet, "it lacks ('dimension_63', 'float')"),
    "npz": (
        "embeddings_1.h5ad",
        raw((TEST_DATA / "two_genomes_embeddings.npz").read_bytes()),
        "is npz, which is not merged",
    ),
    "table without header": (
        "summary_1.tsv",
        text(SUMMARY.split("\n", 1)[1]),
        "Shard 2 ('other') starts with 'human_600001\\tok\\t600",
    ),
    "table with another header": ("summary_1.tsv", text(SUMMARY.replace("n_tokens", "tokens")), "with the same header"),
    "table with a short line": (
        "summary_1.tsv",
        text(SUMMARY + "x\t1\n"),
        "Line 42 of Shard 2 ('other') has 2 columns, the lines before it ",
    ),
    "binary among tables": ("summary_1.tsv", raw(b"a\0b\n"), "is binary"),
    "VCF without header": ("variants_1.vcf.gz", scored("#CHROM", "##CHROM"), "has no VCF header"),
    "VCF of other samples": (
        "variants_1.vcf.gz",
        scored("ALT\tQUAL\tFILTER\tINFO", "ALT\tQUAL\tFILTER\tINFO\tFORMAT\tme"),
        "merge files of the same samples",
    ),
    "VCF with another field": (
        "variants_1.vcf.gz",
        scored("Number=A", "Number=1"),
        "describes INFO 'LLR' in another way",
    ),
    "VCF of another contig length": (
        "variants_1.vcf.gz",
        scored("16569", "16571"),
        "describes contig 'human_mitochondrion'",
    ),
    "VCF of other options": (
        "variants_1.vcf.gz",
        scored('"score": "llr"', '"score": "pll"'),
        "made with options score pll",
    ),
    "VCF with a short line": ("variants_1.vcf.gz", scored("\t.\t.\tLLR", "\tLLR"), "columns, the lines before it 8"),
    "BED with a line of words": (
        "calls_1.bed",
        text("chr1\t5\t9\nchr1\tfive\tnine\n"),
        "Line 2 of Shard 2 ('other') is no region",
    ),
    "BED with more columns": ("calls_1.bed", text("chr1\t5\t9\tname\n"), "has 4 columns, the lines before it 3"),
    "damaged bigWig": ("track_1.bw", raw(TRACK[:30]), "is a damaged bigWig file"),
    "bigWig of another genome": ("track_1.bw", track({"human_mitochondrion": 16_571}, 9_000), "with 16,571 bases"),
    "overlapping bigWig": (
        "track_1.bw",
        track({"human_mitochondrion": 16_569}, 7_990),
        "has a value at human_mitochondrion:7,991",
    ),
}


@pytest.mark.parametrize("case", BAD_SHARDS)
def test_shards_that_do_not_belong_together_are_not_merged(not_merged: Refused, tmp_path: Path, case: str) -> None:
    first, write, sentence = BAD_SHARDS[case]
    write(tmp_path / "other")
    assert sentence in not_merged(SHARDS / first, tmp_path / "other")


@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        (text(""), "All shards are empty files"),
        (text(SUMMARY.split("\n", 1)[0] + "\n"), "No shard has a row"),
        (text("# nothing\n"), "No shard has a row"),
        (empty_track, "No shard has a value"),
        (text(VCF.split("human_mitochondrion\t")[0]), "No shard has a record"),
    ],
)
def test_shards_without_any_record_are_not_merged(
    not_merged: Refused, tmp_path: Path, write: Callable[[Path], object], sentence: str
) -> None:
    for name in ("one", "other"):
        write(tmp_path / name)
    assert sentence in not_merged(tmp_path / "one", tmp_path / "other")


def test_a_missing_shard_is_told(not_merged: Refused, tmp_path: Path) -> None:
    assert "absent' does not exist" in not_merged(SHARDS / "calls_1.bed", tmp_path / "absent")


def test_a_shard_is_not_overwritten(run_tool: Run, tmp_path: Path) -> None:
    path = tmp_path / "calls.bed"
    path.write_bytes((SHARDS / "calls_1.bed").read_bytes())
    assert run_tool("merge", "--shards", path, "--output", path)[0] == 1
    assert path.read_bytes() == (SHARDS / "calls_1.bed").read_bytes()
