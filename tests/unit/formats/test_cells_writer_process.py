"""Embeddings are added to a copy; what it has is checked first."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import TEST_DATA
from dnalm.formats.cells_writer_process import CellsCopy
from dnalm.formats.isolated_reader import Refused


def copied(path: Path) -> Path:
    path.write_bytes((TEST_DATA / "cells.h5ad").read_bytes())
    return path


def test_cells_are_added_part_by_part_and_replacements_are_told(tmp_path: Path) -> None:
    path = copied(tmp_path / "x")
    for said in ([], ["obsm had 'key' already: it is replaced", "obs had 'kind of' already: it is replaced"]):
        copy = CellsCopy(str(path), "key", {"kind of": ["a", "b"]})
        vectors = np.arange(120, dtype=np.float32).reshape(60, 2)
        assert copy.append(vectors[:50], {"kind of": np.zeros(50, np.int64)}).value == said
        assert copy.append(vectors[50:], {"kind of": np.ones(10, np.int64)}).value == []
        assert copy.finish("note", "text").value == (["uns had 'note' already: it is replaced"] if said else [])
        copy.close()
        with h5py.File(path) as file:
            np.testing.assert_array_equal(file["obsm/key"][:], vectors)
            assert file["obs/kind of/codes"][:].tolist() == [0] * 50 + [1] * 10


def test_a_copy_that_points_to_another_file_is_refused(tmp_path: Path) -> None:
    with h5py.File(copied(tmp_path / "x"), "r+") as file:
        file["obsm/elsewhere"] = h5py.ExternalLink("/etc/passwd", "/X")
    with pytest.raises(Refused, match="has 'obsm/elsewhere' in another file, which is never read"):
        CellsCopy(str(tmp_path / "x"), "key", {})
