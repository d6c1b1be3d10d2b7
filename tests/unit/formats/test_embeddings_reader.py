"""The same vectors from every format, told apart by content."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse
from conftest import TEST_DATA
from dnalm.errors import UserError
from dnalm.formats import embeddings_reader
from dnalm.formats.embeddings_file import WRITERS
from dnalm.formats.embeddings_reader import read_embeddings

VECTORS = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
IDS = ["a", "b", "b", "gène", "NA", "01"]
GROUPS = ["x", "x", "y", "", "NA", "x"]
DIMENSIONS = [f"dimension_{number}" for number in range(3)]


def frame() -> pd.DataFrame:
    return pd.concat([pd.DataFrame({"id": IDS, "group": GROUPS}), pd.DataFrame(VECTORS, columns=DIMENSIONS)], axis=1)


def h5ad(path: Path) -> None:
    data = anndata.AnnData(VECTORS, obs=pd.DataFrame({"group": GROUPS}, index=IDS))
    data.write_h5ad(path)


def sparse_h5ad(path: Path) -> None:
    obs = pd.DataFrame({"group": pd.Categorical(GROUPS)}, index=IDS)
    anndata.AnnData(scipy.sparse.csr_matrix(VECTORS), obs=obs).write_h5ad(path)


def parquet(path: Path) -> None:
    frame().to_parquet(path, index=False)


def parquet_of_lists(path: Path) -> None:
    table = pa.table({"id": IDS, "embedding": pa.array(VECTORS.tolist(), pa.list_(pa.float32())), "group": GROUPS})
    pq.write_table(table, path)


def parquet_of_fixed_lists(path: Path) -> None:
    lists = pa.FixedSizeListArray.from_arrays(pa.array(VECTORS.ravel()), 3)
    pq.write_table(pa.table({"name": IDS, "embedding": lists, "group": GROUPS}), path)


def tabular(path: Path) -> None:
    frame().to_csv(path, sep="\t", index=False)


def tabular_with_other_names(path: Path) -> None:
    """No dimension_ columns, and no column called id."""
    frame().rename(columns={"id": "name"} | {name: f"V{name[-1]}" for name in DIMENSIONS}).to_csv(
        path, sep="\t", index=False
    )


def id_last(path: Path) -> None:
    frame()[["group", *DIMENSIONS, "id"]].to_csv(path, sep="\t", index=False)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Observation names are not unique")
@pytest.mark.parametrize(
    "write",
    [
        h5ad,
        sparse_h5ad,
        parquet,
        parquet_of_lists,
        parquet_of_fixed_lists,
        tabular,
        tabular_with_other_names,
        id_last,
    ],
)
def test_every_format_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], None]
) -> None:
    monkeypatch.setattr(embeddings_reader, "ROWS", 4)
    write(tmp_path / "input.dat")
    data = read_embeddings(tmp_path / "input.dat")
    assert data.ids == IDS
    assert data.vectors.dtype == np.float32
    np.testing.assert_array_equal(data.vectors, VECTORS)
    assert list(data.columns) == ["group"]
    assert data.columns["group"].astype(str).tolist() == GROUPS


@pytest.mark.parametrize("kind", sorted({"h5ad", "npz"} & WRITERS.keys()))
@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_what_the_embeddings_tool_writes_is_read(tmp_path: Path, kind: str) -> None:
    with WRITERS[kind](tmp_path / "input.dat") as writer:
        writer.append({"id": IDS, "length": list(range(6))}, VECTORS)
        writer.finish({"tool": "test"})
    data = read_embeddings(tmp_path / "input.dat")
    assert data.ids == IDS
    np.testing.assert_array_equal(data.vectors, VECTORS)
    assert data.columns.to_dict("list") == ({"length": list(range(6))} if kind == "h5ad" else {})


@pytest.mark.slow
def test_test_data_is_the_same_in_every_format() -> None:
    found = {suffix: read_embeddings(TEST_DATA / f"two_genomes_embeddings.{suffix}") for suffix in ("h5ad", "npz")}
    found |= {suffix: read_embeddings(TEST_DATA / f"two_genomes_embeddings.{suffix}") for suffix in ("parquet", "tsv")}
    for data in found.values():
        assert data.ids == found["h5ad"].ids
        np.testing.assert_allclose(data.vectors, found["h5ad"].vectors, rtol=1e-5)


def test_dimensions_of_a_table_win_over_other_numbers(tmp_path: Path) -> None:
    frame().assign(length=range(6)).to_csv(tmp_path / "x", sep="\t", index=False)
    data = read_embeddings(tmp_path / "x")
    assert data.vectors.shape == (6, 3)
    assert data.origin == "tabular, columns 'dimension_0' to 'dimension_2'"
    assert data.columns["length"].tolist() == ["0", "1", "2", "3", "4", "5"]


def test_integers_and_float64_become_float32(tmp_path: Path) -> None:
    counts = np.arange(12).reshape(4, 3)
    anndata.AnnData(counts, obs=pd.DataFrame(index=list("abcd"))).write_h5ad(tmp_path / "x")
    np.testing.assert_array_equal(read_embeddings(tmp_path / "x").vectors, counts.astype(np.float32))
    assert read_embeddings(tmp_path / "x").vectors.dtype == np.float32


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 2, 1 << 20])
@pytest.mark.parametrize("kind", ["csr", "csc"])
def test_sparse_matrices_are_read_block_by_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, rows: int
) -> None:
    monkeypatch.setattr(embeddings_reader, "SPARSE_VALUES", rows * 5)
    matrix = scipy.sparse.random(9, 5, density=0.4, format=kind, random_state=1)
    anndata.AnnData(matrix, obs=pd.DataFrame(index=list("abcdefghi"))).write_h5ad(tmp_path / "x")
    np.testing.assert_array_equal(read_embeddings(tmp_path / "x").vectors, matrix.toarray().astype(np.float32))


def test_values_of_a_sparse_matrix_that_are_stored_twice_are_added(tmp_path: Path) -> None:
    matrix = scipy.sparse.csr_matrix((np.ones(4), [1, 1, 0, 2], [0, 3, 4]), shape=(2, 3))
    anndata.AnnData(matrix, obs=pd.DataFrame(index=["a", "b"])).write_h5ad(tmp_path / "x")
    assert read_embeddings(tmp_path / "x").vectors.tolist() == [[1, 2, 0], [0, 0, 1]]


def test_embeddings_of_obsm_may_be_a_table(tmp_path: Path) -> None:
    data = anndata.AnnData(np.zeros((6, 1)), obs=pd.DataFrame(index=list("abcdef")))
    data.obsm["X_own"] = pd.DataFrame(VECTORS.astype(np.float64), index=list("abcdef"), columns=["x", "y", "z"])
    data.write_h5ad(tmp_path / "x")
    np.testing.assert_array_equal(read_embeddings(tmp_path / "x", "X_own").vectors, VECTORS)


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_npz_of_other_types_and_orders(tmp_path: Path, order: Any) -> None:
    with (tmp_path / "x").open("wb") as file:
        np.savez(file, ids=np.arange(6), embeddings=np.array(VECTORS, dtype=">f8", order=order))
    data = read_embeddings(tmp_path / "x")
    assert data.ids == ["0", "1", "2", "3", "4", "5"]
    np.testing.assert_array_equal(data.vectors, VECTORS)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [2, 1 << 16])
def test_columns_of_parquet_are_those_of_pandas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(embeddings_reader, "MOST_PARQUET_ROWS", rows)
    columns = {
        "whole": pa.array(range(6), pa.int16()),
        "whole with gaps": pa.array([1, 2, 3, 4, None, 6]),
        "fractions": pa.array([0.5, None, 1, 2, 3, 4]),
        "truth": pa.array([True, False] * 3),
        "truth with gaps": pa.array([True, None] * 3),
        "texts": pa.array(["x", None, "", "NA", "gène", "x"]),
        "large texts": pa.array(["x", None, "", "NA", "gène", "x"], pa.large_string()),
        "categories": pa.array(["x", None, "y", "x", "y", "z"]).dictionary_encode(),
        "days": pa.array([0, 1, None, 3, 4, 5], pa.date32()),
        "decimals": pa.array([1, 2, None, 4, 5, 6], pa.decimal128(9, 2)),
        "nothing": pa.nulls(6),
    }
    vectors = {name: VECTORS[:, number] for number, name in enumerate(DIMENSIONS)}
    table = pa.table({"id": IDS} | vectors | columns)
    pq.write_table(table, tmp_path / "x")
    found, expected = read_embeddings(tmp_path / "x").columns, table.select(list(columns)).to_pandas()
    assert list(found) == list(expected)
    for name in expected:
        missing = expected[name].isna()
        assert found[name].isna().tolist() == missing.tolist()
        assert found[name][~missing].astype(str).tolist() == expected[name][~missing].astype(str).tolist()
        assert isinstance(found[name].dtype, pd.CategoricalDtype) == (name == "categories")
        assert pd.api.types.is_numeric_dtype(found[name]) == pd.api.types.is_numeric_dtype(expected[name])


@pytest.mark.slow
def test_what_pandas_says_in_a_parquet_file_changes_nothing(tmp_path: Path) -> None:
    frame().set_index("group").to_parquet(tmp_path / "x")
    assert read_embeddings(tmp_path / "x").columns["group"].tolist() == GROUPS


def test_a_pickled_npz_is_never_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", ids=np.array(["a", object()], dtype=object), embeddings=VECTORS[:2])
    with pytest.raises(UserError, match="is damaged, or not an npz file"):
        read_embeddings(tmp_path / "x.npz")
