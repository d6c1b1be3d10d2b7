import gzip
from pathlib import Path

import pytest
from dnalm.errors import UserError
from dnalm.formats.sequence_tables import is_table, read_sequence_table


def bases(path: Path) -> list[str]:
    return [record.bases for record in read_sequence_table(path)]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    "content",
    [
        "text\nACGT\nTTGA\n",  # one column, which has no separator to guess
        "sequence\nACGT\nTTGA",
        "text,label\nACGT,1\nTTGA,0\n",
        'label,"Text"\n1,"ACGT"\n0,"TTGA"\n',
        "id\tSEQ\na,b\tACGT\nc\tTTGA\n",
        "\ufeffdna,id\r\nACGT,a\r\nTTGA,b\r\n",
        "id,dna,text\na,ACGT,said\nb,TTGA,said\n",
        "text,label\n\nACGT,1\n,\nTTGA,0\n\n",
    ],
)
def test_the_column_of_sequences_is_read_of_any_table(tmp_path: Path, content: str, compressed: bool) -> None:
    path = tmp_path / "table"
    raw = content.encode()
    path.write_bytes(gzip.compress(raw) if compressed else raw)
    assert is_table(path)
    assert bases(path) == ["ACGT", "TTGA"]


def test_records_are_named_by_their_line(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("text,label\nACGT,1\n\nTTGA,0\n")
    assert [record.id for record in read_sequence_table(tmp_path / "t")] == ["line_2", "line_4"]


def test_two_letters_that_other_tables_call_missing_are_bases(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("text,label\nNA,1\nnan,0\n")
    assert bases(tmp_path / "t") == ["NA", "NAN"]


def test_lower_case_is_told_if_asked_for(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("text\nACgt\n")
    (plain,) = read_sequence_table(tmp_path / "t")
    (cased,) = read_sequence_table(tmp_path / "t", keep_case=True)
    assert plain.soft_masked is None
    assert cased.soft_masked is not None
    assert cased.soft_masked.tolist() == [False, False, True, True]


@pytest.mark.slow
def test_long_tables_are_read_in_parts_to_their_end(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("text\n" + "ACGT\n" * 25_000)
    records = list(read_sequence_table(tmp_path / "t"))
    assert len(records) == 25_000
    assert records[-1].id == "line_25001"


@pytest.mark.parametrize("content", [b">a\nACGT\n", b"@a\nACGT\n", b"", b"\n\n", b"ACGT\n", b"\x00\x01,\n"])
def test_what_is_no_table(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f").write_bytes(content)
    assert not is_table(tmp_path / "f")


def test_what_cannot_be_read_is_no_table(tmp_path: Path) -> None:
    assert not is_table(tmp_path / "nothing")
    assert not is_table(tmp_path)
    (tmp_path / "cut").write_bytes(gzip.compress(b"text,label\nACGT,1\n")[:12])
    assert not is_table(tmp_path / "cut")


@pytest.mark.slow
def test_a_table_cut_short(tmp_path: Path) -> None:
    content = "text,label\n" + "".join(f"{'ACGT' * (number % 50 + 1)},{number}\n" for number in range(60_000))
    (tmp_path / "t").write_bytes(gzip.compress(content.encode())[:-3_000])
    with pytest.raises(UserError, match="The compressed file 't' is damaged or cut short after line"):
        bases(tmp_path / "t")
