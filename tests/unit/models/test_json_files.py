"""Text and JSON of others: what is read, and what is refused before it costs memory."""

import os
from pathlib import Path

import pytest
from dnalm.models.json_files import is_finite, parse_json, read_text


def test_a_text_is_read_without_its_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes("\ufeff{}\n".encode())
    assert read_text(tmp_path / "x") == "{}\n"


def test_at_most_so_many_bytes_are_read(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    assert read_text(tmp_path / "x", 5) == "12345"
    with pytest.raises(ValueError, match="it has over 4e-06 MB"):
        read_text(tmp_path / "x", 4)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff\xfe")
    with pytest.raises(UnicodeDecodeError):
        read_text(tmp_path / "x")


@pytest.mark.parametrize("kind", ["device", "pipe", "folder"])
def test_a_file_without_an_end_is_not_opened(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(OSError, match="Not a regular file"):
        read_text(path)


def test_a_missing_file_and_a_link_to_none_are_missing(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("absent")
    for name in ("absent", "link"):
        with pytest.raises(FileNotFoundError):
            read_text(tmp_path / name)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e999"])
def test_a_number_that_json_lacks_is_read_only_where_it_is_asked_for(number: str) -> None:
    text = f'{{"a": [{number}]}}'
    with pytest.raises(ValueError, match=f"it has the number {number}"):
        parse_json(text)
    assert not is_finite(parse_json(text, infinite=True))


def test_other_numbers_are_finite() -> None:
    assert is_finite(parse_json('{"a": [1, 2.5, -1e300, true, null, "NaN"], "b": {}}'))


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_json_is_nested_at_most_a_hundred_deep(opening: str, closing: str) -> None:
    assert parse_json(opening * 101 + "1" + closing * 101)
    for depth in (102, 900, 100_000):
        with pytest.raises(ValueError, match="nested too deep"):
            parse_json(opening * depth + "1" + closing * depth)


def test_pairs_make_objects() -> None:
    assert parse_json('{"a": {"b": 1}}', pairs=lambda pairs: {"count": len(pairs)}) == {"count": 1}


@pytest.mark.parametrize("text", ["", "{", "nonsense", "9" * 5_000])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_json(text)
