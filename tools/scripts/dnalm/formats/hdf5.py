"""HDF5 as this suite writes it: a full disk ends no process."""

import io
from pathlib import Path

import h5py
from typing_extensions import Buffer


class FileForHDF5(io.FileIO):
    """A file that keeps its first error for us: HDF5 crashes the process when a write fails under it.

    HDF5 goes on after that for a while, and reads again what it wrote: that is then kept in memory, since what it does
    not find would be memory that nobody has set.
    """

    error: OSError | None = None

    def __init__(self, path: Path, mode: str) -> None:
        super().__init__(path, mode)
        self._unwritten: list[tuple[int, bytes]] = []  # where, what

    def write(self, data: Buffer, /) -> int:
        """Write all of the data, or remember why not and keep it."""
        rest = memoryview(data).cast("B")
        size, place = len(rest), self.tell()
        if self.error is None:
            try:
                while rest:
                    rest = rest[super().write(rest) :]
                return size
            except OSError as error:
                error.filename = None  # the name of a partial file says nothing to a user
                self.error = error
        self._unwritten.append((place, memoryview(data).tobytes()))
        self.seek(place + size)
        return size

    def readinto(self, buffer: Buffer, /) -> int:
        """Read what is in the file, or should be; beyond it are zeros. All of the buffer is filled."""
        view, place = memoryview(buffer).cast("B"), self.tell()
        found = super().readinto(view)
        view[found:] = bytes(len(view) - found)
        for start, data in self._unwritten:
            first, last = max(start, place), min(start + len(data), place + len(view))
            if first < last:
                view[first - place : last - place] = data[first - start : last - start]
        return len(view)

    def truncate(self, size: int | None = None, /) -> int:
        """Set the size, or remember why not."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0

    def check(self) -> None:
        """Raise the first error."""
        if self.error is not None:
            raise self.error


def encode(item: h5py.HLObject, kind: str, version: str) -> None:
    """Mark a group or dataset with what AnnData's on-disk format calls it."""
    item.attrs["encoding-type"] = kind
    item.attrs["encoding-version"] = version
