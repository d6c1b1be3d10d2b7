"""Facts about one thing, on stdout and as a table."""

from pathlib import Path

import pytest
from dnalm.report.facts import one_line, tell


def test_facts_are_printed_and_written_as_properties_and_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tell({"context_length": "1,024 tokens", "labels": "a\tb\n c"}, tmp_path / "x.tsv")
    assert capsys.readouterr().out.splitlines() == ["context length: 1,024 tokens", "labels: a b c"]
    assert (tmp_path / "x.tsv").read_text() == "property\tvalue\ncontext_length\t1,024 tokens\nlabels\ta b c\n"


def test_a_table_is_written_only_if_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tell({"name": "x"}, None)
    assert capsys.readouterr().out == "name: x\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("  a  b\r\n\tc ", "a b c"),
        ("a\x1b[31mred", "a\\x1b[31mred"),
        ("grün 東", "grün 東"),
        ("\u202eabc", "\\u202eabc"),
    ],
)
def test_a_fact_is_one_printable_line(value: str, line: str) -> None:
    assert one_line(value) == line
