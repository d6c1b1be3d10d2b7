"""Embeddings and metadata that users bring by mistake: one sentence, exit 1, nothing left behind."""

import os
from collections.abc import Callable
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import TEST_DATA, Run
from robustness.hostile_files import FILES
from scipy.sparse import csr_matrix

EMBEDDINGS = TEST_DATA / "two_genomes_embeddings.h5ad"
METADATA = TEST_DATA / "two_genomes_metadata.tsv"
TABLE = "id\tdimension_0\tdimension_1\na\t1\t2\nb\t3\t5\nc\t2\t2\nd\t0\t1\n"


@pytest.fixture
def refused(run_tool: Run, tmp_path: Path) -> Callable[..., str]:
    """Run a job that must be refused, and return its sentence."""

    def call(*arguments: object) -> str:
        results = tmp_path / "results"
        results.mkdir()
        outputs = ("--output", results / "map", "--table", results / "table", "--statistics", results / "statistics")
        code, _, error = run_tool("project", *arguments, *outputs)
        assert code == 1
        assert error.startswith("dnalm_project: ")
        assert error.endswith(".\n")
        assert error.count("\n") == 1
        assert list(results.iterdir()) == []
        return error

    return call


def text(content: str) -> Callable[[Path], object]:
    return raw(content.encode())


def raw(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def changed(change: Callable[[anndata.AnnData], object]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        data = anndata.read_h5ad(EMBEDDINGS)
        change(data)
        data.write_h5ad(path)

    return write


def first(records: int) -> Callable[[Path], object]:
    return lambda path: anndata.read_h5ad(EMBEDDINGS)[:records].copy().write_h5ad(path)


def value(number: float) -> Callable[[anndata.AnnData], None]:
    def change(data: anndata.AnnData) -> None:
        data.X[2, 7] = number

    return change


def other_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["layers"] = np.zeros(3)


def matrix_that_does_not_fit(path: Path) -> None:
    path.write_bytes(EMBEDDINGS.read_bytes())
    with h5py.File(path, "r+") as file:
        rows = file["X"][:10]
        del file["X"]
        file["X"] = rows


def matrix_of_text(path: Path) -> None:
    path.write_bytes(EMBEDDINGS.read_bytes())
    with h5py.File(path, "r+") as file:
        del file["X"]
        file.create_dataset("X", data=np.full((80, 3), b"text", dtype="S4"))


def uneven_lists(path: Path) -> None:
    pq.write_table(pa.table({"id": ["a", "b", "c"], "embedding": [[1.0, 2.0], [1.0], [2.0, 3.0]]}), path)


def nulls(path: Path) -> None:
    pd.DataFrame({"id": list("abc"), "dimension_0": [1.0, 2, 3], "dimension_1": [1.0, None, 3]}).to_parquet(path)


def vectors_of_tokens(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, ids=np.array(["a", "b"]), embeddings=np.ones((9, 3)), offsets=np.array([0, 4, 9]))


def other_npz(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, x=np.ones((9, 3)))


def npz_of(dtype: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, ids=np.arange(4), embeddings=np.zeros((4, 3), dtype))

    return write


def h5ad_of(dtype: object) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(EMBEDDINGS.read_bytes())
        with h5py.File(path, "r+") as file:
            del file["X"]
            file.create_dataset("X", (80, 3), dtype)

    return write


def parquet_with(column: Callable[[], pa.Array], name: str = "dimension_1") -> Callable[[Path], None]:
    return lambda path: pq.write_table(
        pa.table({"id": list("abc"), "dimension_0": [1.0, 2.0, 3.0]} | {name: column()}), path
    )


def two_columns(path: Path) -> None:
    pq.write_table(pa.Table.from_arrays([pa.array(["a", "b", "c"])] * 2, names=["id", "id"]), path)


def sparse(part: str, place: int, number: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        anndata.AnnData(csr_matrix(np.ones((5, 3))), obs=pd.DataFrame(index=list("abcde"))).write_h5ad(path)
        with h5py.File(path, "r+") as file:
            file[f"X/{part}"][place] = number

    return write


def sparse_without_end(path: Path) -> None:
    anndata.AnnData(csr_matrix(np.ones((5, 3))), obs=pd.DataFrame(index=list("abcde"))).write_h5ad(path)
    with h5py.File(path, "r+") as file:
        file["X"].attrs["shape"] = [5, 10**11]


def in_another_file(path: Path) -> None:
    path.write_bytes(EMBEDDINGS.read_bytes())
    with h5py.File(path, "r+") as file:
        del file["obs/length"]
        file["obs/length"] = h5py.ExternalLink("/etc/other.h5", "x")


def by_reference(path: Path) -> None:
    """Make a categorical of an old version, whose categories lie in another file, and no name leads to them."""
    secret = path.with_name("secret")
    secret.write_bytes(b"a secret " * 10)
    FILES["embeddings: text in another file, by reference"][1](path, secret)


def claims(path: Path) -> None:
    path.write_bytes(EMBEDDINGS.read_bytes())
    with h5py.File(path, "r+") as file:
        del file["X"]
        file.create_dataset("X", (80, 10**9), "f4", chunks=(80, 100))


FEW = "A map needs at least 3 records"
NAN = "Record 3 ('ecoli_106001') of 'input.dat' has the value NaN in dimension 7; leave the record out"
BAD_EMBEDDINGS: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty file": (raw(b""), "The file 'input.dat' is empty"),
    "FASTA": (raw((TEST_DATA / "two_genomes.fasta").read_bytes()), "has one column only"),
    "model": (raw((TEST_DATA / "random_model.safetensors").read_bytes()), "has a NUL byte"),
    "binary": (raw(bytes(range(1, 255)) * 10), "Line 2 of 'input.dat' has a carriage return"),
    "UTF-16": (raw(TABLE.encode("utf-16")), "is UTF-16 text"),
    "header alone": (text(TABLE.splitlines()[0] + "\n"), "has no record"),
    "no header": (
        text(TABLE.split("\n", 1)[1].replace("a\t1", "a\t-1.5e-02")),
        "The first line of 'input.dat' has numbers",
    ),
    "no numeric column": (text("id\tgroup\na\tx\nb\ty\nc\tz\n"), "has no numeric column"),
    "one dimension": (text("id\tlength\na\t1\nb\t2\nc\t3\n"), "A map needs at least 2 dimensions; 'input.dat' has 1"),
    "text among numbers": (
        text(TABLE.replace("3\t5", "3\thigh")),
        "Record 2 ('b') of 'input.dat' has 'high' in the column 'dimension_1'",
    ),
    "NaN in a table": (
        text(TABLE.replace("2\t2", "2\tnan")),
        "Record 3 ('c') of 'input.dat' has the value NaN in dimension 1",
    ),
    "missing number in a table": (text(TABLE.replace("2\t2", "2\t")), "Record 3 ('c') of 'input.dat' has ''"),
    "too many values in a row": (
        text(TABLE.replace("2\t2", "2\t2\t2")),
        "Line 4 of 'input.dat' has 4 cells, but the table 3 columns",
    ),
    "no ids": (text(TABLE.replace("id\t", "dimension_2\t")), "has no column 'id'"),
    "repeated column": (text(TABLE.replace("dimension_1", "dimension_0")), "has two columns called 'dimension_0'"),
    "NaN in AnnData": (changed(value(np.nan)), NAN),
    "infinity in AnnData": (changed(value(-np.inf)), NAN.replace("NaN", "-inf")),
    "other HDF5": (other_hdf5, "is HDF5, but no AnnData with X and obs"),
    "damaged HDF5": (raw(EMBEDDINGS.read_bytes()[:9_000]), "is a damaged or unknown h5ad file"),
    "matrix that does not fit": (matrix_that_does_not_fit, "is AnnData without a matrix X that fits obs"),
    "matrix of text": (matrix_of_text, "does not hold numbers"),
    "damaged Parquet": (
        raw((TEST_DATA / "two_genomes_embeddings.parquet").read_bytes()[:9_000]),
        "is a damaged Parquet file",
    ),
    "null in Parquet": (nulls, "Record 2 ('b') of 'input.dat' has the value NaN in dimension 1"),
    "uneven lists in Parquet": (uneven_lists, "Record 2 ('b') of 'input.dat' does not have 2 dimensions"),
    "damaged npz": (
        raw((TEST_DATA / "two_genomes_embeddings.npz").read_bytes()[:9_000]),
        "is damaged, or not an npz file",
    ),
    "other npz": (other_npz, "is no npz with the arrays 'ids' and 'embeddings'"),
    "one vector a token": (vectors_of_tokens, "has one vector per token. Embed with a pooling"),
    "complex numbers in npz": (npz_of("c16"), "The array 'embeddings' of 'input.dat' holds complex128, not numbers"),
    "dates in npz": (npz_of("M8[s]"), "The array 'embeddings' of 'input.dat' holds datetime64[s], not numbers"),
    "durations in npz": (npz_of("m8[s]"), "The array 'embeddings' of 'input.dat' holds timedelta64[s], not numbers"),
    "truth in npz": (npz_of("?"), "The array 'embeddings' of 'input.dat' holds bool, not numbers"),
    "structures in npz": (
        npz_of("i4,f4"),
        "The array 'embeddings' of 'input.dat' holds [('f0', '<i4'), ('f1', '<f4')]",
    ),
    "complex numbers in AnnData": (h5ad_of("c8"), "does not hold numbers but complex64"),
    "structures in AnnData": (h5ad_of([("a", "f4")]), "does not hold numbers but [('a', '<f4')]"),
    "dates in AnnData": (h5ad_of(h5py.opaque_dtype("M8[s]")), "does not hold numbers but datetime64[s]"),
    "truth in AnnData": (h5ad_of("?"), "does not hold numbers but |b1"),
    "decimals in Parquet": (
        parquet_with(lambda: pa.array([1, 2, 3], pa.decimal128(5, 2))),
        "The column 'dimension_1' of 'input.dat' holds decimal128(5, 2), not numbers",
    ),
    "times in Parquet": (
        parquet_with(lambda: pa.array([1, 2, 3], pa.timestamp("ms"))),
        "The column 'dimension_1' of 'input.dat' holds timestamp[ms], not numbers",
    ),
    "text in Parquet": (
        parquet_with(lambda: pa.array(list("xyz"))),
        "The column 'dimension_1' of 'input.dat' holds string, not numbers",
    ),
    "lists of text in Parquet": (
        parquet_with(lambda: pa.array([["a"]] * 3), "embedding"),
        "The column 'embedding' of 'input.dat' holds list<element: string>, not numbers",
    ),
    "ids of lists in Parquet": (
        parquet_with(lambda: pa.array([[1]] * 3), "id"),
        "The column 'id' of 'input.dat' holds list<element: int64>, not ids",
    ),
    "two columns of one name in Parquet": (two_columns, "has two columns called 'id'. Rename one of them"),
    "sparse, an index too large": (sparse("indices", 4, 3), "is a damaged or unknown h5ad file"),
    "sparse, an index negative": (sparse("indices", 4, -1), "is a damaged or unknown h5ad file"),
    "sparse, rows that overlap": (sparse("indptr", 2, 1), "is a damaged or unknown h5ad file"),
    "sparse, rows beyond the end": (sparse("indptr", 5, 16), "is a damaged or unknown h5ad file"),
    "sparse without end": (
        sparse_without_end,
        "5 records of 100,000,000,000 dimensions it does not fit into the memory",
    ),
    "column in another file": (in_another_file, "has 'obs/length' in another file, which is never read"),
    "categories without a name": (by_reference, "has a reference 'categories' to what no name leads to"),
    "claims a matrix": (claims, "claims 320,000,000,000 bytes for 'X' but stores 0"),
    "folder": (lambda path: path.mkdir(), "input.dat' is not a regular file. Give the path of a file"),
    "pipe": (os.mkfifo, "input.dat' is not a regular file. Give the path of a file"),
    "absent": (lambda path: None, "input.dat' does not exist. Check its name"),
    "no records": (first(0), "has no record"),
    "one record": (first(1), f"{FEW}; 'input.dat' has 1."),
    "two records": (first(2), f"{FEW}; 'input.dat' has 2."),
    "equal vectors": (
        changed(lambda data: data.X.__setitem__(slice(None), data.X[:1])),
        "All 80 embeddings of 'input.dat' are the same",
    ),
}


@pytest.mark.parametrize("case", BAD_EMBEDDINGS)
def test_bad_embeddings_are_refused(refused: Callable[..., str], tmp_path: Path, case: str) -> None:
    write, sentence = BAD_EMBEDDINGS[case]
    write(tmp_path / "input.dat")
    assert sentence in refused("--embeddings", tmp_path / "input.dat", "--method", "umap")


KNOWN = METADATA.read_text()
BAD_METADATA: dict[str, tuple[str, list[str], str]] = {
    "repeated ids": (
        KNOWN + "".join(line + "\n" for line in KNOWN.splitlines()[3:5]),
        ["2"],
        "The column 'id' of 'metadata.dat' repeats 2 ids, the first is 'ecoli_106001'; leave one line an id",
    ),
    "no id in common": (
        KNOWN.replace("ecoli_", "e").replace("human_", "h"),
        ["2"],
        "the first of which is 'ecoli_100001', is in the column 'id' of 'metadata.dat', where the first is 'e100001'",
    ),
    "header alone": ("id\tgenome\n", ["2"], "None of the 80 records"),
    "empty": ("", ["2"], "is empty"),
    "unknown colour": (
        KNOWN,
        ["species"],
        "no column 'species' in 'metadata.dat' or 'input.dat' to colour by; there are: 'genome', 'gc', 'status'",
    ),
    "unknown number": (KNOWN, ["4"], "There is no column '4' in"),
    "unknown column of ids": (
        KNOWN,
        ["2", "--metadata-id", "name"],
        "no column 'name' in the metadata 'metadata.dat'; it has 'id', 'genome', 'gc'",
    ),
    "empty column": (
        KNOWN.replace("\tecoli", "\t").replace("\thuman", "\tNA"),
        ["2"],
        "The column 'genome' has no value",
    ),
    "text as numbers": (KNOWN, ["2", "--color-as", "numbers"], "The column 'genome' has 'ecoli', which is no number"),
}


@pytest.mark.parametrize("case", BAD_METADATA)
def test_bad_metadata_is_refused(refused: Callable[..., str], tmp_path: Path, case: str) -> None:
    content, color, sentence = BAD_METADATA[case]
    (tmp_path / "metadata.dat").write_text(content)
    (tmp_path / "input.dat").write_bytes(EMBEDDINGS.read_bytes())
    options = ("--metadata", tmp_path / "metadata.dat", "--color-by", *color)
    assert sentence in refused("--embeddings", tmp_path / "input.dat", *options)


def test_an_unknown_colour_without_metadata_lists_the_columns(refused: Callable[..., str]) -> None:
    error = refused("--embeddings", EMBEDDINGS, "--color-by", "genome")
    assert "there are: 'status', 'length', " in error
    assert "; other columns can be given as metadata." in error


def test_an_earlier_map_stays_when_a_job_is_refused(run_tool: Run, tmp_path: Path) -> None:
    (tmp_path / "map").write_text("an earlier result")
    code, _, _ = run_tool("project", "--embeddings", METADATA, "--output", tmp_path / "map")
    assert code == 1
    assert (tmp_path / "map").read_text() == "an earlier result"
    assert [path.name for path in tmp_path.iterdir()] == ["map"]
