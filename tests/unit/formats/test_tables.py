import csv
from pathlib import Path

import pandas as pd
import pytest
from dnalm.errors import UserError
from dnalm.formats.tables import TableWriter, read_header, read_table


def test_chunks_make_one_table_with_one_header(tmp_path: Path) -> None:
    with TableWriter(tmp_path / "t") as table:
        table.append({"id": ["a", 'with "quotes"'], "length": [1, 2]})
        table.append({"id": ["c\\d"], "length": [3]})
    assert (tmp_path / "t").read_text() == 'id\tlength\na\t1\nwith "quotes"\t2\nc\\d\t3\n'
    rows = list(csv.reader((tmp_path / "t").open(), delimiter="\t", quoting=csv.QUOTE_NONE))
    assert rows[2] == ['with "quotes"', "2"]


def written(folder: Path, text: str) -> Path:
    path = folder / "table.dat"
    path.write_bytes(text.encode())
    return path


def test_a_table_is_read_in_parts_as_it_stands(tmp_path: Path) -> None:
    path = written(tmp_path, 'id\tgroup\tvalue\n01\tNA\t1\n"b\t\t2.5\nc\tx\t-3e2')
    names = read_header(path)
    parts = list(read_table(path, names, text=["id", "group"], rows=2))
    assert [len(part) for part in parts] == [2, 1]
    table = pd.concat(parts)
    assert table["id"].tolist() == ["01", '"b', "c"]
    assert table["group"].tolist() == ["NA", "", "x"]
    assert table["value"].tolist() == [1, 2.5, -300]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("id\ta\n", ["id", "a"]),
        ("#id\ta\r\nx\t1\r\n", ["id", "a"]),
        ("\ufeffid\ta\nx\t1\n", ["id", "a"]),
        ("a\tb\nx\t1\t2\n", ["id", "a", "b"]),
        ("id\t\tb\n", ["id", "column 2", "b"]),
    ],
)
def test_names_of_columns(tmp_path: Path, text: str, names: list[str]) -> None:
    assert read_header(written(tmp_path, text)) == names


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "does not start with a header line"),
        ("\nid\ta\n", "does not start with a header line"),
        ("id,a\nx,1\n", "has one column only"),
        ("id\ta\ta\n", "has two columns called 'a'"),
        ("id\ta\nx\t1\t2\t3\n", "more values than the header has names"),
        ("id\ta\0\n", "is binary"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        read_header(written(tmp_path, text))


def test_a_row_with_too_many_values_is_refused_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, "id\ta\nx\t1\ny\t2\t3\n")
    with pytest.raises(UserError, match="Expected 2 fields in line 3, saw 3"):
        list(read_table(path, read_header(path), text=["id"], rows=10))
