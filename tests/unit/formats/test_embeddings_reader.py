"""The same vectors from every format, told apart by content."""

from collections.abc import Callable
from pathlib import Path

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


def test_a_pickled_npz_is_never_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", ids=np.array(["a", object()], dtype=object), embeddings=VECTORS[:2])
    with pytest.raises(UserError, match="is damaged, or not an npz file"):
        read_embeddings(tmp_path / "x.npz")
