import json
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
from dnalm.formats.embeddings_file import WRITERS

GENERATOR = np.random.default_rng(0)
VECTORS = GENERATOR.normal(size=(10, 6)).astype(np.float32)
COLUMNS: dict[str, list[Any]] = {
    "id": ["a", "b", "b", "gène", *"cdefgh"],
    "status": ["ok"] * 10,
    "length": list(range(10)),
}


def write(path: Path, kind: str, cuts: list[int]) -> Path:
    with WRITERS[kind](path) as writer:
        for start, end in zip([0, *cuts], [*cuts, 10], strict=True):
            writer.append({name: values[start:end] for name, values in COLUMNS.items()}, VECTORS[start:end])
        writer.finish({"tool": "test"})
    return path


@pytest.mark.parametrize("cuts", [[], [1], [3, 7]])
@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_h5ad_opens_in_anndata_whatever_the_chunks(tmp_path: Path, cuts: list[int]) -> None:
    data = anndata.read_h5ad(write(tmp_path / "x.h5ad", "h5ad", cuts))
    np.testing.assert_array_equal(data.X, VECTORS)
    assert data.X.dtype == np.float32
    assert data.obs_names.tolist() == COLUMNS["id"]
    assert data.obs_names.name == "id"
    assert data.obs["status"].tolist() == COLUMNS["status"]
    assert data.obs["length"].tolist() == COLUMNS["length"]
    assert data.var_names[0] == "dimension_0"
    assert json.loads(data.uns["dnalm"]) == {"tool": "test"}


def test_h5ad_can_be_written_again_by_anndata(tmp_path: Path) -> None:
    data = anndata.read_h5ad(write(tmp_path / "x.h5ad", "h5ad", []))
    data.obs_names_make_unique()
    data.write_h5ad(tmp_path / "y.h5ad")
    np.testing.assert_array_equal(anndata.read_h5ad(tmp_path / "y.h5ad").X, VECTORS)


@pytest.mark.parametrize("cuts", [[], [1], [3, 7]])
def test_npz_holds_ids_and_embeddings_without_pickle(tmp_path: Path, cuts: list[int]) -> None:
    with np.load(write(tmp_path / "x.npz", "npz", cuts), allow_pickle=False) as arrays:
        assert set(arrays) == {"ids", "embeddings", "provenance"}
        assert arrays["ids"].tolist() == COLUMNS["id"]
        np.testing.assert_array_equal(arrays["embeddings"], VECTORS)
        assert json.loads(str(arrays["provenance"])) == {"tool": "test"}


@pytest.mark.parametrize("kind", WRITERS)
def test_equal_content_gives_equal_bytes(tmp_path: Path, kind: str) -> None:
    first, second = (write(tmp_path / name, kind, [4]).read_bytes() for name in "xy")
    assert first == second
    assert {path.name for path in tmp_path.iterdir()} == {"x", "y"}
