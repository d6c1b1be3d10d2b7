"""Files of users: what is opened, and how far it is decompressed."""

import gzip
import io
import os
import socket
from pathlib import Path

import pysam
import pytest
from dnalm.errors import UserError
from dnalm.formats import inputs
from dnalm.formats.inputs import damage_told, decompressed, first_bytes, is_block_compressed, open_input


def test_regular_files_and_links_to_them_are_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("file")
    assert first_bytes(tmp_path / "link", 2) == b"ab"
    with open_input(tmp_path / "file") as file:
        assert file.read() == b"abc"


def test_names_of_any_kind_are_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "x").symlink_to(tmp_path / "x")
    for path in (tmp_path / "x", Path("x" * 5_000), tmp_path / "a\udce9\n"):
        with pytest.raises(UserError, match=r"cannot be read|does not exist"):
            open_input(path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    with pytest.raises(UserError, match="cannot be read"):
        open_input(tmp_path / "socket")


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "link to nothing", "missing", "name with NUL"])
def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path, kind: str) -> None:
    path = Path("/dev/zero") if kind == "device" else tmp_path / ("a\0b" if kind == "name with NUL" else "x")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link to nothing":
        path.symlink_to("nothing")
    sentence = (
        "cannot be read"
        if kind == "name with NUL"
        else "does not exist"
        if kind in ("missing", "link to nothing")
        else "is not a regular file. Give a BED file"
    )
    with pytest.raises(UserError, match=sentence):
        open_input(path, "BED file")


def opened(content: bytes, folder: Path, *, bounded: bool = True) -> bytes:
    (folder / "x").write_bytes(content)
    with open_input(folder / "x") as file, damage_told("x", lambda: "byte 0"):
        return decompressed(file, "x", bounded=bounded).read()


def test_compressed_files_are_known_by_their_content(tmp_path: Path) -> None:
    assert opened(b"ACGT", tmp_path) == b"ACGT"
    assert opened(gzip.compress(b"AC") + gzip.compress(b"GT"), tmp_path) == b"ACGT"
    for magic, name in (
        (b"BZh91", "bzip2"),
        (b"\xfd7zXZ", "xz"),
        (b"PK\x03\x04", "zip"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
    ):
        with pytest.raises(UserError, match=f"is compressed with {name}"):
            opened(magic, tmp_path)


def test_a_file_that_expands_beyond_reason_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "FREE_EXPANSION", 1 << 20)
    assert len(opened(gzip.compress(b"A" * (1 << 19)), tmp_path)) == 1 << 19
    bomb = gzip.compress(b"A" * (1 << 23))
    with pytest.raises(UserError, match="expands more than 250-fold"):
        opened(bomb, tmp_path)
    assert len(opened(bomb, tmp_path, bounded=False)) == 1 << 23


def test_damage_is_told_with_its_place() -> None:
    for error in (EOFError(), gzip.BadGzipFile("x")):
        with (
            pytest.raises(UserError, match="'x' is damaged or cut short after line 7"),
            damage_told("x", lambda: "line 7"),
        ):
            raise error
    with pytest.raises(UserError, match=r"'x' cannot be read after line 7 \(I/O\)"), damage_told("x", lambda: "line 7"):
        raise OSError(5, "I/O")
    with pytest.raises(OSError, match="full"), damage_told("x", lambda: "line 7"):
        raise OSError(28, "full")


def test_blocks_are_told_from_gzip_and_must_end(tmp_path: Path) -> None:
    with pysam.BGZFile(str(tmp_path / "blocks"), "wb", None) as file:
        file.write(os.urandom(200_000))
    whole = (tmp_path / "blocks").read_bytes()
    for content, found in (
        (whole, True),
        (whole[:-29], False),
        (gzip.compress(b"A"), False),
        (b"", False),
        (b"A", False),
    ):
        assert is_block_compressed(io.FileIO(_written(tmp_path, content)), "x") is found
    with pytest.raises(UserError, match="its last block is missing"):
        is_block_compressed(io.FileIO(_written(tmp_path, whole[:-28])), "x")


def _written(folder: Path, content: bytes) -> Path:
    (folder / "content").write_bytes(content)
    return folder / "content"
