"""Users' HDF5 files, read by a child process (`hdf5_process`): groups, attributes, and rows of datasets as plain arrays."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from dnalm.errors import UserError
from dnalm.formats.inputs import open_input
from dnalm.formats.isolated_reader import DTYPES, Answer, ReaderProcess, Subject, texts_of_arrays

PIECE = 32 << 20  # bytes, read at once
LARGEST_PIECE = 512 << 20  # bytes, where chunks are as large
LONGEST = 1 << 40  # of an axis, for NumPy has its limits even if nothing is in it
TEXT_SIZE = 512  # bytes; few texts are longer
FREE_TEXT = 64 << 20  # bytes of texts that a file may have whatever its size
MOST_TEXT = 100  # times a file's size: rows may share a text


class IsolatedHdf5:
    """A child process that reads HDF5 files; use it in a `with`, for one file after the other or several at a time."""

    def __init__(self) -> None:
        self._process = ReaderProcess("dnalm.formats.hdf5_process")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child."""
        self._process.close()

    def open(self, path: Path, subject: Subject) -> "Hdf5File":
        """Open a file.

        Raises:
            UserError: it is not a regular file, is not HDF5, is damaged, or points to other files.
        """
        with open_input(path) as file:
            file.seek(0, 2)
            size = file.tell()
        return Hdf5File(self._process, path, subject, size)


class Hdf5File:
    """An open file; its members are those of `root`. Wrong and damaged content raises UserError everywhere."""

    def __init__(self, process: ReaderProcess, path: Path, subject: Subject, size: int) -> None:
        self.subject = subject
        self._process = process
        self._text_left = max(FREE_TEXT, MOST_TEXT * size)
        self.number, self.objects = self.ask("open", str(path.absolute())).value
        if type(self.number) is not int or not isinstance(self.objects, list) or not self.objects:
            raise self.damaged()
        root = self.item(0)
        if not isinstance(root, Hdf5Group):
            raise self.damaged()
        self.root = root

    def ask(self, operation: str, *arguments: Any) -> Answer:
        """Have the child do something with the file."""
        return self._process.ask(self.subject, operation, *arguments)

    def stream(self, requests: Sequence[Sequence[Any]]) -> Iterator[Answer]:
        """Have the child do several things with the file, one ahead."""
        return self._process.stream(self.subject, requests)

    def close(self) -> None:
        """Close the file, so that others can be opened."""
        self.ask("close", self.number)

    def damaged(self) -> UserError:
        """Return the error that says that the file is damaged."""
        return UserError(self.subject.sentence(self.subject.damaged))

    def item(self, number: int) -> "Hdf5Group | Hdf5Dataset":
        """Return an object by its number."""
        if type(number) is not int or not 0 <= number < len(self.objects):
            raise self.damaged()
        members = self.objects[number]
        return Hdf5Dataset(self, number) if members is None else Hdf5Group(self, number, members)

    def texts(self, count: int, *arguments: Any) -> list[str]:
        """Read so many texts."""
        try:
            texts = texts_of_arrays(self.ask("read", *arguments).arrays, count)
        except ValueError as error:
            raise self.damaged() from error
        self._text_left -= sum(map(len, texts))
        if self._text_left < 0:
            raise UserError(self.subject.sentence("has more text than it can hold"))
        return texts


class _Item:
    """An object of a file."""

    def __init__(self, file: Hdf5File, number: int) -> None:
        self.file, self.number = file, number

    def attribute(self, name: str) -> Any:
        """Return an attribute (text, number, list of such, or the object it refers to), or None if it is absent."""
        value = self.file.ask("attribute", self.file.number, self.number, name).value
        return self.file.item(value["object"]) if isinstance(value, dict) else value

    def text_attribute(self, name: str) -> str:
        """Return an attribute that must be a text; R writes a list of one."""
        value = self.attribute(name)
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if not isinstance(value, str):
            raise self.file.damaged()
        return value

    def list_attribute(self, name: str) -> list[Any]:
        """Return an attribute that must be a list."""
        value = self.attribute(name)
        if not isinstance(value, list):
            raise self.file.damaged()
        return value


class Hdf5Group(_Item):
    """A group: names of members → numbers of objects."""

    def __init__(self, file: Hdf5File, number: int, members: dict[str, int]) -> None:
        super().__init__(file, number)
        self.members = members

    def get(self, path: str) -> "Hdf5Group | Hdf5Dataset | None":
        """Return what is found under a name, or a path of names; None if there is nothing."""
        item: Hdf5Group | Hdf5Dataset = self
        for name in path.split("/"):
            if not isinstance(item, Hdf5Group) or name not in item.members:
                return None
            item = self.file.item(item.members[name])
        return item

    def group(self, path: str) -> "Hdf5Group":
        """Return a group that must be there."""
        if not isinstance(item := self.get(path), Hdf5Group):
            raise self.file.damaged()
        return item

    def dataset(self, path: str) -> "Hdf5Dataset":
        """Return a dataset that must be there."""
        if not isinstance(item := self.get(path), Hdf5Dataset):
            raise self.file.damaged()
        return item


class Hdf5Dataset(_Item):
    """A dataset.

    Attributes:
        shape: its lengths; of texts at most one.
        kind: `number` (booleans too), `text` or `other`.
        type_name: the name of NumPy's dtype, or in words what else it is.
    """

    def __init__(self, file: Hdf5File, number: int) -> None:
        super().__init__(file, number)
        shape, self.kind, self.type_name, size, rows = file.ask("describe", file.number, number).value
        self.shape: tuple[int, ...] = tuple(shape)
        lengths = [*shape, size, rows]
        known = self.kind != "number" or np.dtype(self.type_name).newbyteorder("<").str in DTYPES
        if not known or any(type(length) is not int or not 0 <= length <= LONGEST for length in lengths):
            raise file.damaged()
        self._row_bytes = max(1, math.prod(shape[1:]) * (max(size, TEXT_SIZE) if self.kind == "text" else size))
        self._chunk_rows = max(1, rows)

    def __len__(self) -> int:
        if not self.shape:
            raise self.file.damaged()
        return self.shape[0]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of numbers, in the machine's order of bytes."""
        if self.kind != "number":
            raise self.file.damaged()
        return np.dtype(self.type_name).newbyteorder("=")

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        """Return rows of numbers."""
        start, stop, _ = rows.indices(len(self))
        return self.numbers(start, max(start, stop))

    def numbers(self, start: int, stop: int, dtype: DTypeLike | None = None) -> NDArray[Any]:
        """Return rows of numbers, as a dtype or as they are; piece by piece."""
        wanted = np.dtype(dtype or self.dtype)
        if len(self.shape) > 2:
            raise self.file.damaged()
        sent = wanted.newbyteorder("<")
        pieces = list(self.pieces(start, stop))
        requests = [("read", self.file.number, self.number, first, last, sent.str) for first, last in pieces]
        found = np.empty((stop - start, *self.shape[1:]), dtype=wanted) if len(pieces) != 1 else None
        for (first, last), answer in zip(pieces, self.file.stream(requests), strict=True):
            arrays = answer.arrays
            if len(arrays) != 1 or arrays[0].shape != (last - first, *self.shape[1:]) or arrays[0].dtype != sent:
                raise self.file.damaged()
            if found is None:
                return arrays[0]
            found[first - start : last - start] = arrays[0]
        assert found is not None
        return found

    def pieces(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, int]]:
        """Yield the bounds of rows that are read at once: whole chunks, so that each is unpacked once."""
        stop = len(self) if stop is None else stop
        chunk = self._chunk_rows if self._chunk_rows * self._row_bytes <= LARGEST_PIECE else 1
        step = max(1, PIECE // self._row_bytes // chunk) * chunk
        while start < stop:
            end = min(stop, start - start % chunk + step)
            yield start, end
            start = end

    def texts(self, start: int = 0, stop: int | None = None) -> list[str]:
        """Return rows of texts."""
        if self.kind != "text" or len(self.shape) != 1:
            raise self.file.damaged()
        found: list[str] = []
        for first, last in self.pieces(start, min(len(self), len(self) if stop is None else stop)):
            found += self.file.texts(last - first, self.file.number, self.number, first, last, None)
        return found

    def text(self) -> str:
        """Return the one text of a dataset without rows."""
        if self.kind != "text" or self.shape:
            raise self.file.damaged()
        return self.file.texts(1, self.file.number, self.number, None, None, None)[0]
