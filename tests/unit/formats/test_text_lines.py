"""Lines of plain and compressed text, byte by byte."""

import gzip
from pathlib import Path

import pytest
from dnalm.errors import UserError
from dnalm.formats import text_lines
from dnalm.formats.text_lines import header_lines, read_lines

CONTENT = b"first \tline \r\n\n\xff\xfe not UTF-8\nlast, without an end"
LINES = [b"first \tline ", b"", b"\xff\xfe not UTF-8", b"last, without an end"]


def written(folder: Path, content: bytes) -> Path:
    (folder / "lines.txt").write_bytes(content)
    return folder / "lines.txt"


def test_lines_are_as_they_stand_without_their_ends(tmp_path: Path) -> None:
    assert list(read_lines(written(tmp_path, CONTENT))) == LINES
    assert list(read_lines(written(tmp_path, b""))) == []


def test_compressed_lines_are_the_same_whatever_the_name(tmp_path: Path) -> None:
    blocks = gzip.compress(CONTENT[:20]) + gzip.compress(CONTENT[20:])
    assert list(read_lines(written(tmp_path, gzip.compress(CONTENT)))) == LINES
    assert list(read_lines(written(tmp_path, blocks))) == LINES


@pytest.mark.parametrize("compressed", [False, True])
def test_binary_files_are_refused(tmp_path: Path, compressed: bool) -> None:
    content = b"text\nand a \0 byte\n"
    path = written(tmp_path, gzip.compress(content) if compressed else content)
    with pytest.raises(UserError, match=r"Line 2 of 'lines.txt' has a NUL byte"):
        list(read_lines(path))


def test_a_compressed_file_that_is_cut_is_refused_behind_its_last_line(tmp_path: Path) -> None:
    whole = gzip.compress(b"".join(b"line %d\n" % number for number in range(10)))
    lines = read_lines(written(tmp_path, whole[:-8]))
    assert next(lines) == b"line 0"
    with pytest.raises(UserError, match=r"'lines.txt' is damaged or cut short after line 10. Upload it again"):
        list(lines)


@pytest.mark.parametrize(
    "content", [b"\x1f\x8b and no more of gzip\n", gzip.compress(b"a\n" * 99, mtime=0)[:10] + b"\xff" * 30]
)
def test_a_damaged_compressed_file_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UserError, match=r"'lines.txt' is damaged or cut short after line 0"):
        list(read_lines(written(tmp_path, content)))


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    assert list(read_lines(written(tmp_path, b"\xef\xbb\xbfa\nb\n"))) == [b"a", b"b"]
    assert list(read_lines(written(tmp_path, gzip.compress(b"\xef\xbb\xbfa\nb\n")))) == [b"a", b"b"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("a\tb\n".encode("utf-16"), "is UTF-16 text"),
        (b"a\tb\rc\td\r", "Line 1 of 'lines.txt' has a carriage return within it"),
        (b"a\nb" + b"c" * 100, "Line 2 of 'lines.txt' is longer than 64 bytes"),
    ],
)
def test_text_of_other_machines_and_endless_lines_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, sentence: str
) -> None:
    monkeypatch.setattr(text_lines, "LONGEST_LINE", 64)
    with pytest.raises(UserError, match=sentence):
        list(read_lines(written(tmp_path, content)))


def test_an_endless_header_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, b"#a\n#b\nc\n#d\n")
    assert header_lines(path, "VCF file") == [b"#a", b"#b"]
    monkeypatch.setattr(text_lines, "LARGEST_HEADER", 64)
    with pytest.raises(UserError, match=r"The header of 'lines.txt'"):
        header_lines(path, "VCF file")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent' does not exist"):
        list(read_lines(tmp_path / "absent"))
    with pytest.raises(UserError, match=r"is not a regular file"):
        list(read_lines(tmp_path))
