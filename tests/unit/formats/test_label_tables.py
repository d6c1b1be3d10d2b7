from pathlib import Path

import pytest
from dnalm.errors import UserError
from dnalm.formats.label_tables import ColumnNames, LabelTable


def table(folder: Path, text: str) -> Path:
    path = folder / "t.tsv"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("header", "labels"),
    [
        ("id\tlabel\textra", "label"),
        ("name\tgc\tClass", "Class"),
        ("gene\tactivity", "activity"),
        ("y\tid", "y"),
    ],
)
def test_the_column_of_labels_is_found_by_its_usual_name_or_as_the_only_other(
    tmp_path: Path, header: str, labels: str
) -> None:
    columns = header.split("\t")
    row = "\t".join(f"of {column}" for column in columns)
    (annotation,) = LabelTable(table(tmp_path, f"{header}\n{row}\n"), ColumnNames(), with_sequences=False)
    assert annotation.labels == (f"of {labels}",)
    assert annotation.id in {"of id", "of name", "of gene"}
    assert annotation.line == 2


def test_commas_and_tabs_and_gaps_are_read(tmp_path: Path) -> None:
    path = table(tmp_path, 'id,label\na,"x, y"\n\nb,\n')
    found = list(LabelTable(path, ColumnNames(), with_sequences=False))
    assert [(one.id, one.labels, one.line) for one in found] == [("a", ("x, y",), 2), ("b", ("",), 4)]


def test_groups_sides_and_places_are_told(tmp_path: Path) -> None:
    path = table(tmp_path, "id\tlabel\tchrom\tstart\tend\tsplit\nx\t1\tchr2\t10\t20\ttest\ny\t0\t\t\t\ttrain\n")
    first, second = LabelTable(path, ColumnNames(None, "chrom", "split"), with_sequences=False)
    assert (first.group, first.side, first.place) == ("chr2", "test", ("chr2", 10, 20))
    assert (second.group, second.place) == ("", None)


def test_a_table_may_have_the_sequences(tmp_path: Path) -> None:
    path = table(tmp_path, "sequence,label\nacgtu,1\nNNA,0\n")
    found = list(LabelTable(path, ColumnNames(), with_sequences=True).records())
    assert [(record.id, record.bases, annotation.labels) for record, annotation in found] == [
        ("line_2", "ACGTT", ("1",)),
        ("line_3", "NNA", ("0",)),
    ]


@pytest.mark.parametrize(
    ("text", "names", "said"),
    [
        ("id\ta\tb\nx\t1\t2\n", ColumnNames(), "has no column called label, labels, class, target, value or y"),
        ("id\ta\tb\nx\t1\t2\n", ColumnNames(("c",)), "no column called 'c'; it has 'id', 'a', 'b'"),
        ("id\tlabel\nx\t1\n", ColumnNames(None, "family"), "no column called 'family'"),
        ("id\tlabel\tstart\tend\tchrom\nx\t1\ta\tb\tc\n", ColumnNames(), "has the place 'c:a-b'"),
        ("label\n1\n", ColumnNames(("label",)), "has no column of names beside its labels"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, text: str, names: ColumnNames, said: str) -> None:
    with pytest.raises(UserError, match=said.replace("(", r"\(")):
        list(LabelTable(table(tmp_path, text), names, with_sequences=False))
