import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import REPOSITORY
from dnalm.formats import embeddings_file
from dnalm.formats.embeddings_file import WRITERS

VECTORS = np.random.default_rng(0).normal(size=(10, 6)).astype(np.float32)
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


def write_tokens(path: Path, kind: str) -> Path:
    """Three records of 3, 1 and 6 tokens in two chunks."""
    columns: dict[str, list[Any]] = {
        "id": [*"aaabcccccc"],
        "token": [0, 1, 2, 0, 0, 1, 2, 3, 4, 5],
        "start": [0, 3, 6, 0, 0, 3, 6, 9, 12, 15],
        "end": [3, 6, 7, 2, 3, 6, 9, 12, 15, 16],
    }
    with WRITERS[kind](path) as writer:
        for part in (slice(0, 4), slice(4, 10)):
            writer.append({name: values[part] for name, values in columns.items()}, VECTORS[part])
        writer.finish({"tool": "test"})
    return path


def test_npz_of_tokens_says_where_each_record_begins(tmp_path: Path) -> None:
    with np.load(write_tokens(tmp_path / "x.npz", "npz"), allow_pickle=False) as arrays:
        assert arrays["ids"].tolist() == ["a", "b", "c"]
        assert arrays["offsets"].tolist() == [0, 3, 4, 10]
        assert arrays["starts"].tolist() == [0, 3, 6, 0, 0, 3, 6, 9, 12, 15]
        assert arrays["ends"].tolist() == [3, 6, 7, 2, 3, 6, 9, 12, 15, 16]
        np.testing.assert_array_equal(arrays["embeddings"], VECTORS)


@pytest.mark.parametrize("dimensions", [None, ["AA", "AC", "AG", "AT", "CA", "CC"]])
@pytest.mark.parametrize("kind", ["h5ad", "parquet", "tabular"])
@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_dimensions_have_names(tmp_path: Path, kind: str, dimensions: list[str] | None) -> None:
    with WRITERS[kind](tmp_path / "x") as writer:
        writer.dimensions = dimensions
        writer.append(COLUMNS, VECTORS)
        writer.finish({"tool": "test"})
    expected = dimensions or [f"dimension_{number}" for number in range(6)]
    if kind == "h5ad":
        assert anndata.read_h5ad(tmp_path / "x").var_names.tolist() == expected
        return
    table = pd.read_parquet(tmp_path / "x") if kind == "parquet" else pd.read_csv(tmp_path / "x", sep="\t")
    assert table.columns.tolist() == [*COLUMNS, *expected]
    assert table["id"].tolist() == COLUMNS["id"]
    np.testing.assert_allclose(table[expected].to_numpy(), VECTORS, rtol=0 if kind == "parquet" else 1e-5)


def test_a_table_is_the_same_however_much_is_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for numbers in (1, 20, 1_000_000):
        monkeypatch.setattr(embeddings_file, "WRITTEN_AT_ONCE", numbers)
        write(tmp_path / "x", "tabular", [])
        found.append((tmp_path / "x").read_bytes())
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("cuts", [[1], [3, 7]])
def test_parquet_is_one_table_whatever_the_chunks(tmp_path: Path, cuts: list[int]) -> None:
    path = write(tmp_path / "x", "parquet", cuts)
    assert pd.read_parquet(path)["length"].tolist() == COLUMNS["length"]
    assert json.loads(pq.read_metadata(path).metadata[b"dnalm"]) == {"tool": "test"}


@pytest.mark.parametrize("kind", WRITERS)
def test_equal_content_gives_equal_bytes(tmp_path: Path, kind: str) -> None:
    first, second = (write(tmp_path / name, kind, [4]).read_bytes() for name in "xy")
    assert first == second
    assert {path.name for path in tmp_path.iterdir()} == {"x", "y"}


def test_a_signal_waits_until_hdf5_has_returned(tmp_path: Path) -> None:
    """HDF5 calls our file from its C code, which an exception may not leave."""
    program = f"""
import signal, sys
import numpy as np
from dnalm.formats import embeddings_file
usual = embeddings_file.FileForHDF5.write

def interrupted(file, data):
    signal.raise_signal(signal.SIGINT)
    return usual(file, data)

embeddings_file.FileForHDF5.write = interrupted
try:
    with embeddings_file.H5adWriter({str(tmp_path / "x")!r}) as writer:
        for _ in range(50):
            writer.append({{"id": ["a"] * 1000}}, np.ones((1000, 64), dtype=np.float32))
except KeyboardInterrupt:
    print("interrupted")
"""
    scripts = str(REPOSITORY / "scripts")
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env={"PYTHONPATH": scripts}
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\n", "")
