"""HDF5 as this suite needs it: files whose full disk ends no process, and files of users that point to no other."""

import io
from pathlib import Path
from typing import Any

import h5py
from typing_extensions import Buffer

from dnalm.errors import UserError, shown


class FileForHDF5(io.FileIO):
    """A file that keeps its first error for us: HDF5 crashes the process when a write fails under it."""

    error: OSError | None = None

    def write(self, data: Buffer, /) -> int:
        """Write all of the data, or remember why not and swallow it."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while rest and self.error is None:
                rest = rest[super().write(rest) :]
        except OSError as error:
            error.filename = None  # the name of a partial file says nothing to a user
            self.error = error
        return size

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


def refuse_other_files(file: h5py.File, path: Path) -> None:
    """Raise UserError if a user's file would have us read another one: an external link, dataset or virtual dataset."""

    def pointing(name: str, item: Any) -> str | None:
        if isinstance(item, h5py.ExternalLink):
            return name
        if isinstance(item, h5py.Dataset) and (item.is_virtual or item.external):
            return name
        return None

    if found := file.visititems_links(pointing) or file.visititems(pointing):
        raise UserError(
            f"'{shown(found)}' of the file '{path.name}' points to another file, which is never read; write the file anew "
            "with all that it needs."
        )
