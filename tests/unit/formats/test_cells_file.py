"""Cells stream out of every layout that AnnData has, and go back into a file that keeps all it had."""

import itertools
import shutil
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from conftest import TEST_DATA
from dnalm.formats import cells_file
from dnalm.formats.cells_file import CellsReader, CellsWriter
from scipy.sparse import csc_matrix, csr_matrix

CELLS = TEST_DATA / "cells.h5ad"


def counts() -> np.ndarray:
    return anndata.read_h5ad(CELLS).X.toarray()


def read(path: Path, layer: str | None = None) -> tuple[list[str], np.ndarray]:
    with CellsReader(path, layer, path.parent) as cells:
        batches = list(cells)
    names = [name for batch in batches for name in batch.names]
    return names, np.concatenate([batch.values.toarray() for batch in batches])


def unsorted_rows(matrix: np.ndarray) -> csr_matrix:
    """Return a sparse matrix whose genes stand in no order within a cell, with zeros that are stored."""
    stored = csr_matrix(matrix)
    rows = [slice(*ends) for ends in itertools.pairwise(stored.indptr)]
    order = np.concatenate([np.arange(row.start, row.stop)[::-1] for row in rows])
    stored.indices, stored.data = stored.indices[order], stored.data[order]
    stored.data[:7] = 0
    stored.has_sorted_indices = False
    return stored


LAYOUTS: dict[str, Any] = {
    "csr": csr_matrix,
    "csc": csc_matrix,
    "dense": lambda matrix: matrix,
    "dense, by column": np.asfortranarray,
    "unsigned": lambda matrix: csr_matrix(matrix.astype(np.uint16)),
    "unsigned, dense": lambda matrix: matrix.astype(np.uint8),
    "long integers": lambda matrix: csr_matrix(matrix.astype(np.int64)),
    "float64": lambda matrix: matrix.astype(np.float64),
    "unsorted": unsorted_rows,
}


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("values", [1, 500, 10**6])
def test_every_layout_gives_the_same_cells_in_batches_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, values: int
) -> None:
    data = anndata.read_h5ad(CELLS)
    matrix = LAYOUTS[layout](counts())
    data.X = matrix
    data.write_h5ad(tmp_path / "in.h5ad")
    monkeypatch.setattr(cells_file, "MOST_VALUES", values)
    names, found = read(tmp_path / "in.h5ad")
    assert names == data.obs_names.tolist()
    wanted = matrix if isinstance(matrix, np.ndarray) else matrix.toarray()
    np.testing.assert_array_equal(found, wanted)
    with CellsReader(tmp_path / "in.h5ad", None, tmp_path) as cells:
        sizes = [len(batch.names) for batch in cells]
        assert [len(batch.names) for batch in cells] == sizes  # once more
    assert max(sizes) == (1 if values == 1 else min(60, max(sizes)))
    assert (len(sizes) == 1) == (values == 10**6)


def test_values_of_a_gene_that_is_stored_twice_in_a_cell_are_added(tmp_path: Path) -> None:
    data = anndata.read_h5ad(CELLS)
    data.X = csr_matrix((np.ones(4, dtype=np.float32), [3, 3, 1, 0], [0, 3, *[4] * 59]), shape=data.shape)
    data.write_h5ad(tmp_path / "in.h5ad")
    _, found = read(tmp_path / "in.h5ad")
    assert found[0, [1, 3]].tolist() == [1, 2]
    assert found.sum() == 4


@pytest.mark.slow
def test_layers_and_raw_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    data = anndata.read_h5ad(CELLS)
    data.raw = data[:, :20].copy()
    data.layers["ten times"] = csr_matrix(10 * counts())
    del data.layers["scaled"]
    data.write_h5ad(tmp_path / "in.h5ad")
    np.testing.assert_array_equal(read(tmp_path / "in.h5ad", "ten times")[1], 10 * counts())
    with CellsReader(tmp_path / "in.h5ad", "raw", tmp_path) as cells:
        assert (cells.matrix_name, len(cells.genes)) == ("raw/X", 20)
    np.testing.assert_array_equal(read(tmp_path / "in.h5ad", "raw")[1], counts()[:, :20])


def written(source: Path, target: Path, note: str = "{}") -> None:
    with CellsReader(source, None, target.parent) as cells:
        count = cells.cells
    vectors = np.arange(3 * count, dtype=np.float32).reshape(count, 3)
    with CellsWriter(source, target, "X_scGPT", {"kind of": ["a", "b"]}) as writer:
        for rows in (slice(0, 7), slice(7, count)):
            numbers = np.arange(count)[rows]
            writer.append(vectors[rows], {"kind of": numbers % 2, "number": numbers})
        writer.finish("dnalm_cells", note)


def contents(path: Path) -> dict[str, Any]:
    """Return every dataset and attribute of an HDF5 file."""
    found: dict[str, Any] = {}

    def keep(name: str, item: Any) -> None:
        found[name] = item[()] if isinstance(item, h5py.Dataset) else None
        found.update({f"{name}@{key}": value for key, value in item.attrs.items()})

    with h5py.File(path) as file:
        file.visititems(keep)
    return found


def test_a_file_keeps_all_it_had(tmp_path: Path) -> None:
    data = anndata.read_h5ad(CELLS)
    data.obsm["X_pca"] = np.ones((60, 2))
    data.uns["colours"] = {"kind": np.array(["red", "blue"])}
    data.obsp["distances"] = csr_matrix(np.eye(60))
    data.write_h5ad(tmp_path / "in.h5ad")
    written(tmp_path / "in.h5ad", tmp_path / "out.h5ad")
    before, after = contents(tmp_path / "in.h5ad"), contents(tmp_path / "out.h5ad")
    for name, value in before.items():
        if name != "obs@column-order":
            np.testing.assert_array_equal(after[name], value)
    assert {name.split("@")[0] for name in after.keys() - before.keys()} == {
        "obsm/X_scGPT",
        "obs/kind of",
        "obs/kind of/categories",
        "obs/kind of/codes",
        "obs/number",
        "uns/dnalm_cells",
    }
    found = anndata.read_h5ad(tmp_path / "out.h5ad")
    assert found.obs.columns.tolist() == ["kind", "kind of", "number"]
    assert found.obs["kind of"].tolist() == ["a", "b"] * 30
    assert isinstance(found.obs["kind of"].dtype, pd.CategoricalDtype)
    assert found.obs["number"].tolist() == list(range(60))
    np.testing.assert_array_equal(found.obsm["X_scGPT"], np.arange(180, dtype=np.float32).reshape(60, 3))


@pytest.mark.slow
def test_what_an_earlier_run_added_is_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(CELLS, tmp_path / "once.h5ad")
    assert "is replaced" not in capsys.readouterr().out
    written(tmp_path / "once.h5ad", tmp_path / "twice.h5ad", "again")
    assert "obsm had 'X_scGPT' already: it is replaced" in capsys.readouterr().out
    found = anndata.read_h5ad(tmp_path / "twice.h5ad")
    assert found.obs.columns.tolist() == ["kind", "kind of", "number"]
    assert found.uns["dnalm_cells"] == "again"


def test_a_matrix_by_gene_leaves_no_file_behind(tmp_path: Path) -> None:
    data = anndata.read_h5ad(CELLS)
    data.X = csc_matrix(counts())
    (tmp_path / "in").mkdir()
    data.write_h5ad(tmp_path / "in" / "in.h5ad")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with CellsReader(tmp_path / "in" / "in.h5ad", None, scratch) as cells:
        for _ in cells:
            assert not list(scratch.iterdir())


def test_a_read_only_file_is_read_and_its_copy_written(tmp_path: Path) -> None:
    source = tmp_path / "in.h5ad"
    shutil.copy(CELLS, source)
    source.chmod(0o444)
    written(source, tmp_path / "out.h5ad")
    assert source.read_bytes() == CELLS.read_bytes()
