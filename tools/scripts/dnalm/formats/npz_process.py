"""Child process that reads users' npz files, without pickle (see `embeddings_reader` for the parent's side)."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from dnalm.errors import shown
from dnalm.formats.isolated_reader import Answer, Refused, serve, texts_as_arrays

COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # NumPy writes no other
FREE_SIZE = 64 << 20  # bytes that an array may claim whatever it stores
MOST_COMPRESSION = 2_000  # times; deflate reaches 1,032
LONGEST_HEADER = 10_000  # bytes, as NumPy itself allows
LONGEST = 1 << 40  # of an axis
PIECE = 32 << 20  # bytes, read at once


class StoredArray:
    """An array of an archive, read from its beginning to its end: by rows, or by columns if they are stored so."""

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        found = [entry for entry in archive.infolist() if entry.filename == f"{name}.npy"]
        if len(found) > 1:
            raise Refused(f"has two arrays '{shown(name)}'. Make or upload it again.")
        entry = found[0]
        if entry.flag_bits & 1 or entry.compress_type not in COMPRESSIONS:
            raise Refused("is encrypted, or compressed in a way that NumPy does not know. Write it with numpy.savez.")
        if entry.file_size > FREE_SIZE and entry.file_size > MOST_COMPRESSION * entry.compress_size:
            raise Refused(
                f"claims {entry.file_size:,} bytes for '{shown(name)}' but stores {entry.compress_size:,}. "
                "Make or upload it again."
            )
        self.name = name
        self._entry: IO[bytes] = archive.open(entry)
        version = np.lib.format.read_magic(self._entry)
        header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if header is None:
            raise Refused(f"has the array '{shown(name)}' in version {version} of npy. Write it with numpy.savez.")
        self.shape, self.fortran, self.dtype = header(self._entry, max_header_size=LONGEST_HEADER)
        if self.dtype.hasobject:
            raise ValueError("an array of Python objects")
        if not all(0 <= length <= LONGEST for length in self.shape):
            raise ValueError("a negative length, or one without end")
        if self.dtype.itemsize * int(np.prod(self.shape, dtype=object)) > entry.file_size:
            raise ValueError("an array that is longer than what is stored")

    def lines(self, count: int) -> NDArray[Any]:
        """Return the next rows, or columns if the array is stored by column; shape (lines, values of a line)."""
        width = int(np.prod(self.shape[:-1] if self.fortran else self.shape[1:], dtype=object))
        data = self._entry.read(count * width * self.dtype.itemsize)
        return np.frombuffer(data, dtype=self.dtype).reshape(count, width)


_arrays: dict[str, StoredArray] = {}


def open_file(path: str, names: list[str]) -> Answer:
    """Return the shape, dtype and order of the arrays that are there: (shape, dtype, kind, by column, lines at once)."""
    archive = zipfile.ZipFile(Path(path))
    there = {entry.filename for entry in archive.infolist()}
    described = {}
    for name in names:
        if f"{name}.npy" in there:
            array = _arrays[name] = StoredArray(archive, name)
            shape = list(map(int, array.shape))
            width = int(np.prod(shape[:-1] if array.fortran else shape[1:], dtype=object)) * array.dtype.itemsize
            at_once = max(1, PIECE // max(1, width))
            described[name] = [
                shape,
                str(array.dtype),
                array.dtype.kind,
                bool(array.fortran and len(shape) > 1),
                at_once,
            ]
    return Answer(described)


def numbers(name: str, count: int) -> Answer:
    """Return the next lines of an array as float32."""
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused by name
        return Answer(None, [_arrays[name].lines(count).astype(np.float32)])


def texts(name: str, count: int) -> Answer:
    """Return the next values of an array as texts."""
    return Answer(None, texts_as_arrays(_arrays[name].lines(count).ravel().astype(str).tolist()))


OPERATIONS: Mapping[str, Any] = {"open": open_file, "numbers": numbers, "texts": texts}

if __name__ == "__main__":
    serve(OPERATIONS)
