"""Child process that adds embeddings to a copy of a user's h5ad (see `cells_file.CellsWriter` for the parent's side).

HDF5 reads the file's own structures to add to them, so that a damaged file can crash it here too.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from dnalm.errors import shown
from dnalm.formats.hdf5 import FileForHDF5, encode
from dnalm.formats.hdf5_process import open_checked
from dnalm.formats.isolated_reader import Answer, serve

CHUNK_BYTES = 1 << 20


class CellsCopy:
    """An h5ad that is open for writing."""

    def __init__(self, path: str, key: str, categories: Mapping[str, list[str]]) -> None:
        self._disk = FileForHDF5(Path(path), "r+")
        self._file = open_checked(self._disk, "r+").file
        self._key, self._categories = key, categories
        self._written = 0
        self._replaced: list[str] = []

    def close(self) -> Answer:
        """Close the file."""
        with suppress(OSError, RuntimeError):  # of a full disk, which the file itself tells better
            self._file.close()
        self._disk.close()
        self._disk.check()
        return Answer()

    def append(self, embeddings: NDArray[np.float32], columns: Mapping[str, NDArray[np.int64]]) -> Answer:
        """Add the next cells, and return sentences about what they replace."""
        self._replaced = []
        if not self._written:
            self._create(embeddings.shape[1], list(columns))
        rows = slice(self._written, self._written + len(embeddings))
        self._file["obsm"][self._key][rows] = embeddings
        for name, values in columns.items():
            column = self._file["obs"][name]
            (column["codes"] if name in self._categories else column)[rows] = values
        self._written = rows.stop
        self._disk.check()
        return Answer(self._replaced)

    def _create(self, dimensions: int, columns: list[str]) -> None:
        obs = self._file["obs"]
        index = obs[obs.attrs["_index"]]
        cells = len(index["values"] if isinstance(index, h5py.Group) else index)
        if "obsm" not in self._file:
            encode(self._file.create_group("obsm"), "dict", "0.1.0")
        self._make_room("obsm", self._key)
        chunk = (max(1, min(cells, CHUNK_BYTES // (4 * dimensions))), dimensions)
        embeddings = self._file["obsm"].create_dataset(self._key, (cells, dimensions), "f4", chunks=chunk)
        encode(embeddings, "array", "0.2.0")
        for name in columns:
            self._make_room("obs", name)
            if name not in self._categories:
                encode(obs.create_dataset(name, (cells,), "i8"), "array", "0.2.0")
                continue
            group = obs.create_group(name)
            encode(group, "categorical", "0.2.0")
            group.attrs["ordered"] = False
            texts = group.create_dataset("categories", data=self._categories[name], dtype=h5py.string_dtype())
            encode(texts, "string-array", "0.2.0")
            encode(group.create_dataset("codes", (cells,), "i1"), "array", "0.2.0")
        others = [name for name in obs.attrs["column-order"] if name not in columns]
        obs.attrs.create("column-order", [*others, *columns], dtype=h5py.string_dtype())

    def _make_room(self, group: str, name: str) -> None:
        if name in self._file[group]:
            self._replaced.append(f"{group} had '{shown(name)}' already: it is replaced")
            del self._file[group][name]

    def finish(self, name: str, note: str) -> Answer:
        """Add a text to uns, complete the file, and return sentences about what it replaces."""
        self._replaced = []
        if "uns" not in self._file:
            encode(self._file.create_group("uns"), "dict", "0.1.0")
        self._make_room("uns", name)
        encode(self._file["uns"].create_dataset(name, data=note, dtype=h5py.string_dtype()), "string", "0.2.0")
        self._file.flush()
        self._disk.check()
        return Answer(self._replaced)


_copies: list[CellsCopy] = []


def open_copy(path: str, key: str, categories: dict[str, list[str]]) -> Answer:
    """Open the copy."""
    _copies.append(CellsCopy(path, key, categories))
    return Answer()


def append(names: list[str], embeddings: NDArray[np.float32], *columns: NDArray[np.int64]) -> Answer:
    """Add cells: the columns' names, embeddings (cells, dimensions), and an array a column."""
    return _copies[0].append(embeddings, dict(zip(names, columns, strict=True)))


def finish(name: str, note: str) -> Answer:
    """Complete the copy."""
    return _copies[0].finish(name, note)


def close() -> Answer:
    """Close the copy."""
    return _copies[0].close()


OPERATIONS: Mapping[str, Any] = {"open": open_copy, "append": append, "finish": finish, "close": close}

if __name__ == "__main__":
    serve(OPERATIONS)
