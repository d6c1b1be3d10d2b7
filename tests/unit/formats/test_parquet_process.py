"""Columns of Parquet as plain arrays."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dnalm.formats.isolated_reader import Refused, texts_of_arrays
from dnalm.formats.parquet_process import begin, close_file, following, lists, open_file

KINDS = {
    "number": (pa.int8(), pa.uint64(), pa.float16(), pa.float64()),
    "boolean": (pa.bool_(),),
    "text": (pa.string(), pa.large_string()),
    "value": (pa.decimal128(5, 2), pa.timestamp("s"), pa.date32(), pa.duration("s"), pa.binary(), pa.null()),
    "list": (pa.list_(pa.float32()), pa.large_list(pa.int8()), pa.list_(pa.float64(), 2)),
    "nested": (pa.list_(pa.string()), pa.list_(pa.list_(pa.int8())), pa.struct({"a": pa.int8()})),
}


@pytest.mark.parametrize(("kind", "dtype"), [(kind, dtype) for kind, dtypes in KINDS.items() for dtype in dtypes])
def test_kinds_of_columns(tmp_path: Path, kind: str, dtype: Any) -> None:
    pq.write_table(pa.table({"x": pa.array([], dtype)}), tmp_path / "x")
    number, rows, columns, note = open_file(str(tmp_path / "x")).value
    assert (rows, columns[0][0], columns[0][1], note) == (0, "x", kind, None)
    close_file(number)


def test_rows_come_part_by_part(tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": [7, 8, None],
            "a": [0.5, 1e300, None],
            "b": pa.array([1, 2, 3], pa.int64()),
            "texts": pa.array(["x", None, "gène"]).dictionary_encode(),
            "truth": [True, None, False],
        }
    )
    pq.write_table(table, tmp_path / "x")
    number, *_ = open_file(str(tmp_path / "x")).value
    begin(number, table.column_names, 2)
    first = following(number, ["a", "b"], ["id"], ["texts", "truth", "b"])
    assert first.value == [2, [2, 3, 2, 1]]
    block, *others = first.arrays
    np.testing.assert_array_equal(block, np.array([[0.5, 1], [np.inf, 2]], np.float32))
    assert texts_of_arrays(others[:2], 2) == ["7", "8"]
    assert texts_of_arrays(others[2:4], 2) == ["x", "None"]
    assert others[4].tolist() == others[6].tolist() == [False, True]
    assert others[7].tolist() == [1, 2]
    last = following(number, ["a"], ["id"], [])
    assert last.value == [1, [3]]
    assert np.isnan(last.arrays[0]).all()
    assert following(number, ["a"], ["id"], []).value is None
    close_file(number)


def test_lists_are_lengths_and_values(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [[1.0, None], None, [], [3.0]]}), tmp_path / "x")
    number, *_ = open_file(str(tmp_path / "x")).value
    begin(number, ["x"], 10)
    lengths, values = lists(number, "x").arrays
    assert lengths.tolist() == [2, -1, 0, 1]
    np.testing.assert_array_equal(values, np.array([1, np.nan, 3], np.float32))
    assert lists(number, "x").value is None
    close_file(number)


def test_texts_that_are_none_are_an_exception(tmp_path: Path) -> None:
    offsets = pa.py_buffer(np.array([0, 2], np.int32).tobytes())
    pq.write_table(pa.table({"x": pa.StringArray.from_buffers(1, offsets, pa.py_buffer(b"\xff\xfe"))}), tmp_path / "x")
    number, *_ = open_file(str(tmp_path / "x")).value
    begin(number, ["x"], 10)
    with pytest.raises(pa.ArrowInvalid, match="UTF8"):
        following(number, [], ["x"], [])
    close_file(number)


@pytest.mark.slow
def test_a_note_is_no_longer_than_ours(tmp_path: Path) -> None:
    for length, refused in ((100, False), (17 << 20, True)):
        pq.write_table(pa.table({"x": [1]}).replace_schema_metadata({"dnalm": "x" * length}), tmp_path / "x")
        if refused:
            with pytest.raises(Refused, match="says more of its run than DNA-LM does"):
                open_file(str(tmp_path / "x"))
        else:
            assert open_file(str(tmp_path / "x")).value[3] == "x" * length
