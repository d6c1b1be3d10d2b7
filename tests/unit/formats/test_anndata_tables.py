"""Tables are read as anndata reads them."""

from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from anndata.io import read_elem, write_elem
from dnalm.errors import UserError
from dnalm.formats.anndata_tables import index_dataset, is_table, read_table
from dnalm.formats.isolated_hdf5 import IsolatedHdf5
from dnalm.formats.isolated_reader import Subject

SUBJECT = Subject("The file 'x'", "is damaged")
INDEX = ["a", "b", "b", "gène"]
COLUMNS: dict[str, Any] = {
    "whole": np.arange(4, dtype=np.int16),
    "unsigned": np.arange(4, dtype=np.uint64),
    "fractions": [0.5, np.nan, np.inf, 1],
    "single": np.arange(4, dtype=np.float32),
    "truth": [True, False, True, True],
    "texts": ["x", "", "NA", "gène"],
    "categories": pd.Categorical(["x", "y", None, "x"], ["y", "x", "z"]),
    "ordered": pd.Categorical(["x", "y", "y", "x"], ["y", "x"], ordered=True),
    "numbered categories": pd.Categorical([3, 1, 3, 1]),
    "whole with gaps": pd.array([1, None, 3, 4], dtype="Int64"),
    "small with gaps": pd.array([1, None, 3, 4], dtype="UInt8"),
    "truth with gaps": pd.array([True, None, False, True], dtype="boolean"),
    "texts with gaps": pd.array(["a", None, "c", "d"], dtype="string"),
}


def read(path: Path) -> pd.DataFrame:
    with IsolatedHdf5() as reader:
        table = reader.open(path, SUBJECT).root.group("obs")
        assert is_table(table)
        return read_table(table)


@pytest.mark.slow
@pytest.mark.parametrize("names", [list(COLUMNS), *[[name] for name in COLUMNS], []])
def test_every_kind_of_column(tmp_path: Path, names: list[str]) -> None:
    table = pd.DataFrame({name: COLUMNS[name] for name in names}, index=INDEX)
    with h5py.File(tmp_path / "x", "w") as file, anndata.settings.override(allow_write_nullable_strings=True):
        write_elem(file, "obs", table)
        expected = read_elem(file["obs"])
    found = read(tmp_path / "x")
    pd.testing.assert_frame_equal(found, expected, check_index_type=False, check_column_type=False)
    assert found.index.tolist() == INDEX


def test_categories_of_version_0_1_0(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x", "w") as file:
        obs = file.create_group("obs")
        obs.attrs.update({"encoding-type": "dataframe", "encoding-version": "0.1.0", "_index": "names"})
        obs.attrs["column-order"] = np.array(["kind"], dtype=h5py.string_dtype())
        obs["names"] = INDEX
        obs["kind"] = np.array([1, 0, -1, 1], dtype="i1")
        obs["__categories/kind"] = ["x", "y"]
        obs["__categories/kind"].attrs["ordered"] = True
        obs["kind"].attrs["categories"] = obs["__categories/kind"].ref
        expected = read_elem(obs)
    pd.testing.assert_frame_equal(read(tmp_path / "x"), expected, check_names=False, check_index_type=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "values"),
    [("compound", np.zeros(4, [("a", "i4")])), ("complex", np.zeros(4, "c8")), ("plane", np.zeros((4, 2)))],
)
def test_a_column_of_another_kind_is_named(tmp_path: Path, name: str, values: np.ndarray) -> None:
    with h5py.File(tmp_path / "x", "w") as file:
        write_elem(file, "obs", pd.DataFrame({name: range(4)}, index=INDEX))
        del file["obs"][name]
        file["obs"][name] = values
    with pytest.raises(UserError, match=f"The file 'x' has the column '{name}' of the type .* which is not known here"):
        read(tmp_path / "x")


def test_other_groups_are_no_tables(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x", "w") as file:
        write_elem(file, "uns", {"a": 1})
        file["y"] = 1
    with IsolatedHdf5() as reader:
        root = reader.open(tmp_path / "x", SUBJECT).root
        assert not any(is_table(item) for item in (root, root.get("uns"), root.get("y"), None))


def test_the_index_may_have_gaps(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x", "w") as file:
        write_elem(file, "obs", pd.DataFrame(index=INDEX))
        name = file["obs"].attrs["_index"]
        del file["obs"][name]
        file["obs"][name + "/values"] = INDEX
    with IsolatedHdf5() as reader:
        assert index_dataset(reader.open(tmp_path / "x", SUBJECT).root.group("obs")).texts() == INDEX
