"""Arrays of an npz are read line by line, without pickle, and only if the archive can hold them."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dnalm.formats.isolated_reader import Refused, texts_of_arrays
from dnalm.formats.npz_process import numbers, open_file, texts

MATRIX = np.random.default_rng(0).normal(size=(7, 3))


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", ">f4", "i4", "u1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_numbers_come_line_by_line(tmp_path: Path, compressed: bool, dtype: str, order: Any) -> None:
    matrix = np.asarray(100 * MATRIX, order=order).astype(dtype, order=order)
    (np.savez_compressed if compressed else np.savez)(tmp_path / "x.npz", m=matrix)
    shape, _, _, by_column, _ = open_file(str(tmp_path / "x.npz"), ["m", "absent"]).value["m"]
    assert (shape, by_column) == ([7, 3], order == "F")
    lines = 3 if by_column else 7
    found = np.concatenate([numbers("m", count).arrays[0] for count in (2, lines - 2)])
    np.testing.assert_array_equal(found.T if by_column else found, matrix.astype(np.float32))


def test_texts_come_part_by_part(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", ids=np.array(["a", "gène", ""]), bytes=np.array([b"a", b"bc"]), numbers=np.arange(2))
    open_file(str(tmp_path / "x.npz"), ["ids", "bytes", "numbers"])
    found = [texts_of_arrays(texts("ids", count).arrays, count) for count in (1, 2)]
    assert found == [["a"], ["gène", ""]]
    assert texts_of_arrays(texts("bytes", 2).arrays, 2) == ["a", "bc"]
    assert texts_of_arrays(texts("numbers", 2).arrays, 2) == ["0", "1"]


def test_what_is_not_asked_for_is_not_looked_at(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", m=MATRIX, other=np.array([object()], dtype=object))
    assert list(open_file(str(tmp_path / "x.npz"), ["m"]).value) == ["m"]
    with pytest.raises(ValueError, match="Python objects"):
        open_file(str(tmp_path / "x.npz"), ["other"])


def stored(path: Path, content: bytes, method: int = zipfile.ZIP_STORED) -> str:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("m.npy", content)
    return str(path)


def test_an_array_that_is_longer_than_its_entry_is_refused(tmp_path: Path) -> None:
    file = io.BytesIO()
    np.save(file, MATRIX)
    with pytest.raises(ValueError, match="longer than what is stored"):
        open_file(stored(tmp_path / "x", file.getvalue().replace(b"(7, 3)", b"(9, 9)")), ["m"])


def test_sizes_that_no_compression_reaches_are_refused(tmp_path: Path) -> None:
    path = stored(tmp_path / "x", b"\0" * 1000, zipfile.ZIP_DEFLATED)
    content = bytearray((tmp_path / "x").read_bytes())
    place = content.find(b"PK\1\2")
    content[place + 24 : place + 28] = (100 << 20).to_bytes(4, "little")
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(Refused, match="claims 104,857,600 bytes for 'm' but stores"):
        open_file(path, ["m"])


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(tmp_path: Path, method: int) -> None:
    with pytest.raises(Refused, match=r"Write it with numpy\.savez"):
        open_file(stored(tmp_path / "x", b"\0" * 100, method), ["m"])
