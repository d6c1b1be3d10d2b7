"""Parquet files of users as plain arrays, some rows at once."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dnalm.errors import UserError
from dnalm.formats import isolated_parquet
from dnalm.formats.isolated_parquet import IsolatedParquet
from dnalm.formats.isolated_reader import Subject

SUBJECT = Subject("The file 'x'", "is damaged")
TABLE = pa.table({"id": ["a", "gène", None], "n": [1, 2, 3], "v": [0.5, 1.5, 2.5], "t": ["x", None, "z"]})


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 2, 100])
def test_batches_are_the_rows_of_the_file(tmp_path: Path, rows: int) -> None:
    pq.write_table(TABLE, tmp_path / "x")
    with IsolatedParquet() as reader:
        file = reader.open(tmp_path / "x", SUBJECT)
        assert file.rows == 3
        assert [(one.name, one.kind, one.type_name) for one in file.columns[:2]] == [
            ("id", "text", "string"),
            ("n", "number", "int64"),
        ]
        batches = list(file.batches(rows, ["v", "n"], ["id"], ["t", "n"]))
        file.close()
    np.testing.assert_array_equal(np.concatenate([block for block, _ in batches]), [[0.5, 1], [1.5, 2], [2.5, 3]])
    found = [[value for _, columns in batches for value in columns[number].objects] for number in range(3)]
    assert found == [["a", "gène", None], ["x", None, "z"], [1, 2, 3]]


@pytest.mark.slow
def test_lists(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [[1.0, 2.0], [3.0], None]}), tmp_path / "x")
    with IsolatedParquet() as reader:
        parts = list(reader.open(tmp_path / "x", SUBJECT).lists(2, "x"))
    assert [lengths.tolist() for lengths, _ in parts] == [[2, 1], [-1]]
    assert np.concatenate([values for _, values in parts]).tolist() == [1, 2, 3]


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_arrays([pa.array([1])] * 2, names=["a", "a"]), tmp_path / "x")
    with (
        IsolatedParquet() as reader,
        pytest.raises(UserError, match=r"has two columns called 'a'\. Rename one of them"),
    ):
        reader.open(tmp_path / "x", SUBJECT)


def test_sizes_that_a_file_cannot_have_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(TABLE, tmp_path / "x")
    size = (tmp_path / "x").stat().st_size
    with IsolatedParquet() as reader:
        file = reader.open(tmp_path / "x", SUBJECT)
        file.refuse_size(16 << 20)
        with pytest.raises(UserError, match=f"claims 50,000,000 numbers in {size:,} bytes. Make or upload it again"):
            file.refuse_size(50_000_000)


@pytest.mark.slow
def test_texts_that_a_file_cannot_hold_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolated_parquet, "FREE_SIZE", 50)
    monkeypatch.setattr(isolated_parquet, "MOST_TEXT", 0)
    pq.write_table(pa.table({"x": ["y" * 30] * 2}), tmp_path / "x")
    with IsolatedParquet() as reader:
        batches = reader.open(tmp_path / "x", SUBJECT).batches(1, [], ["x"], [])
        next(batches)
        with pytest.raises(UserError, match="has more text than it can hold"):
            next(batches)
