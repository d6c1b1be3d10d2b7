import csv
import gzip
from pathlib import Path

import pandas as pd
import pytest
from dnalm.errors import UserError
from dnalm.formats.tables import MISSING, Table, TableWriter, by_number


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


def test_bytes_that_are_no_utf_8_are_written_as_they_came(tmp_path: Path) -> None:
    with TableWriter(tmp_path / "t") as table:
        table.append({"id": [b"gen\xe9".decode("utf-8", "surrogateescape")]})
    assert (tmp_path / "t").read_bytes() == b"id\ngen\xe9\n"


def test_a_table_is_read_in_parts_as_it_stands(tmp_path: Path) -> None:
    table = Table(written(tmp_path, 'id\tgroup\tvalue\n01\tNA\t1\n"b\t\t2.5\n\nc\tx y\t-3e2'))
    parts = list(table.frames(2, text=["id", "group"]))
    assert [len(part) for part in parts] == [2, 1]
    whole = pd.concat(parts)
    assert whole["id"].tolist() == ["01", '"b', "c"]
    assert whole["group"].tolist() == ["NA", "", "x y"]
    assert whole["value"].tolist() == [1, 2.5, -300]
    assert list(table) == [(2, ["01", "NA", "1"]), (3, ['"b', "", "2.5"]), (5, ["c", "x y", "-3e2"])]


@pytest.mark.parametrize(
    ("text", "names", "records"),
    [
        ("id\ta\n", ["id", "a"], []),
        ("#id\ta\r\nx\t1\r\n", ["id", "a"], [["x", "1"]]),
        ("\ufeffid\ta\nx\t1\n", ["id", "a"], [["x", "1"]]),
        ("## made by a tool\n\n#id\ta\nx\t1\n", ["id", "a"], [["x", "1"]]),
        ("id\t\tb\n", ["id", "column 2", "b"], []),
        # R: write.table(quote=FALSE), and with an id of its own, and with quotes
        ("a\tb\nx\t1\t2\ny\t3\t4\n", ["id", "a", "b"], [["x", "1", "2"], ["y", "3", "4"]]),
        ("id\tlabel\n1\ts1\t0.5\n", ["row_names", "id", "label"], [["1", "s1", "0.5"]]),
        ('"id"\t"label"\n"s1"\t0.5\n', ["id", "label"], [["s1", "0.5"]]),
        ('"label"\n"s1"\t"high"\n', ["id", "label"], [["s1", "high"]]),
        # separators at the ends of lines, blanks around cells, short lines
        ("id\ta\nx\t1\t\ny\t2\t\n", ["id", "a"], [["x", "1"], ["y", "2"]]),
        ("id\ta\t\nx\t1\t\ny\t2\n", ["id", "a"], [["x", "1"], ["y", "2"]]),
        ("id\ta\t\nx\t1\n", ["id", "a"], [["x", "1"]]),
        ("id \ta\n x \t 1\n", ["id", "a"], [["x", "1"]]),
        ("id\ta\tb\nx\n", ["id", "a", "b"], [["x", "", ""]]),
        # quotes in a table that is not quoted
        ('id\tnote\tlabel\na\t"x\tlow\nb\ty\thigh\nc\tx"\tlow\n', ["id", "note", "label"],
         [["a", '"x', "low"], ["b", "y", "high"], ["c", 'x"', "low"]]),
        # CSV
        ("id,a\nx,1\n", ["id", "a"], [["x", "1"]]),
        ('id;a\nx;"1;2"\n', ["id", "a"], [["x", "1;2"]]),
        ('"id","a"\n"x, y","say ""no"""\n', ["id", "a"], [["x, y", 'say "no"']]),
        ('id,a\nx, "1\t2"\n', ["id", "a"], [["x", "1\t2"]]),
    ],
)  # fmt: skip
def test_every_table_is_read_by_the_same_rules(
    tmp_path: Path, text: str, names: list[str], records: list[list[str]]
) -> None:
    table = Table(written(tmp_path, text))
    assert table.columns == names
    assert [cells for _, cells in table] == records
    frames = list(table.frames(1))
    assert [row for frame in frames for row in frame.to_numpy().tolist()] == records
    (tmp_path / "table.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
    assert [cells for _, cells in Table(tmp_path / "table.gz")] == records


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        ("\n## x\n", "is empty"),
        ("id\n1\n", "has one column only"),
        ("id\ta\ta\n", "has two columns called 'a'"),
        ("id\ta\nx\t1\t2\t3\n", "Line 2 of 'table.dat' has 4 cells, but the table 2 columns"),
        ("id\ta\nx\t1\ny\t2\t3\n", "Line 3 of 'table.dat' has 3 cells, but the table 2 columns"),
        ("a\tb\nx\t1\t2\ny\t3\n", "Line 3 of 'table.dat' has 2 cells, but the table 3 columns"),
        ("id\ta\0\n", "Line 1 of 'table.dat' has a NUL byte"),
        ("id\ta\nx\t-9\0 15.5\n", "Line 2 of 'table.dat' has a NUL byte"),
        ("id\ta\nx\t1\x1f\n", "Line 2 of 'table.dat' has a control character"),
        ('id,a\nx,"1\n2",3\n', "Line 2 of 'table.dat' has a cell whose quotes do not match"),
        ('id,a\nx,"1"2\n', "Line 2 of 'table.dat' has a cell whose quotes do not match"),
        ("id\ta\rx\t1\r", "has a carriage return"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        list(Table(written(tmp_path, text)))
    with pytest.raises(UserError, match=sentence):
        list(Table(written(tmp_path, text)).frames(10))


def test_text_that_is_not_utf_8_is_refused_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(b"id\ta\nx\tgen\xe9\n")
    with pytest.raises(UserError, match="Line 2 of 't' is not UTF-8 text"):
        list(Table(tmp_path / "t"))


def test_cells_of_a_csv_may_be_as_long_as_a_contig(tmp_path: Path) -> None:
    assert [len(cells[1]) for _, cells in Table(written(tmp_path, "id,a\nx," + "A" * 200_000 + "\n"))] == [200_000]


def test_columns_have_names_and_numbers() -> None:
    assert [by_number(text, ["a", "b"]) for text in ("1", "2", "0", "3", "-1", "b", "9" * 5_000)] == [
        "a", "b", None, None, None, None, None
    ]  # fmt: skip


def test_texts_that_stand_for_no_value_are_those_of_pandas_and_of_vcf(tmp_path: Path) -> None:
    texts = sorted(MISSING - {""})
    (tmp_path / "t").write_text("a\tb\n" + "".join(f"{text}\tx\n" for text in [*texts, "no", "-", "n.a."]))
    read = pd.read_csv(tmp_path / "t", sep="\t", dtype=str, na_values=[".", "na"])
    assert read["a"].isna().tolist() == [True] * len(texts) + [False] * 3
