"""Users' Parquet files, read by a child process (`parquet_process`): columns as plain arrays, some rows at once."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dnalm.errors import UserError, shown
from dnalm.formats.inputs import open_input
from dnalm.formats.isolated_reader import Answer, ReaderProcess, Subject, texts_of_arrays

FREE_SIZE = 64 << 20  # bytes that a file may claim whatever its size
MOST_COMPRESSION = 2_000  # times, of numbers
MOST_TEXT = 100  # times a file's size: rows may share a text


@dataclass(frozen=True)
class ParquetColumn:
    """A column: its kind is number, boolean, text, category, list (of numbers), nested, or value (anything else)."""

    name: str
    kind: str
    type_name: str
    nullable: bool


@dataclass(frozen=True)
class Values:
    """Values of a column in some rows: an array, or a list of texts; and where nothing is, or None."""

    values: NDArray[Any] | list[str]
    missing: NDArray[np.bool_] | None

    @property
    def objects(self) -> list[Any]:
        """The values as Python objects, None where nothing is."""
        values = self.values if isinstance(self.values, list) else self.values.tolist()
        if self.missing is None:
            return values
        return [None if no else value for value, no in zip(values, self.missing.tolist(), strict=True)]


class IsolatedParquet:
    """A child process that reads Parquet files; use it in a `with`, for one file after the other."""

    def __init__(self) -> None:
        self._process = ReaderProcess("dnalm.formats.parquet_process")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.close()

    def open(self, path: Path, subject: Subject) -> "ParquetFile":
        """Open a file.

        Raises:
            UserError: it is not a regular file, is damaged, or has two columns of one name.
        """
        with open_input(path) as file:
            file.seek(0, 2)
            size = file.tell()
        return ParquetFile(self._process, path, subject, size)


class ParquetFile:
    """An open file. Damaged content raises UserError everywhere.

    Attributes:
        rows: how many there are.
        columns: its columns.
        note: what DNA-LM says in it of its run, or None.
    """

    def __init__(self, process: ReaderProcess, path: Path, subject: Subject, size: int) -> None:
        self._process, self.subject = process, subject
        self._size, self._text_left = size, max(FREE_SIZE, MOST_TEXT * size)
        self._number, self.rows, columns, self.note = self.ask("open", str(path.absolute())).value
        self.columns = [ParquetColumn(*column) for column in columns]
        if type(self.rows) is not int or self.rows < 0:
            raise self.damaged()
        names = [column.name for column in self.columns]
        if repeated := next((name for number, name in enumerate(names) if name in names[:number]), None):
            raise UserError(f"{subject.where} has two columns called '{shown(repeated)}'. Rename one of them.")

    def ask(self, operation: str, *arguments: Any) -> Answer:
        """Have the child do something with the file."""
        return self._process.ask(self.subject, operation, *arguments)

    def close(self) -> None:
        """Close the file, so that others can be opened."""
        self.ask("close", self._number)

    def damaged(self) -> UserError:
        """Return the error that says that the file is damaged."""
        return UserError(self.subject.sentence(self.subject.damaged))

    def refuse_size(self, values: int) -> None:
        """Raise UserError if no file of this size can have so many numbers."""
        if 4 * values > FREE_SIZE and 4 * values > MOST_COMPRESSION * self._size:
            raise UserError(self.subject.sentence(f"claims {values:,} numbers in {self._size:,} bytes"))

    def batches(
        self, rows: int, dimensions: Sequence[str], texts: Sequence[str], others: Sequence[str]
    ) -> Iterator[tuple[NDArray[np.float32], list[Values]]]:
        """Yield rows: the dimensions as float32 (rows, dimensions); `texts`, columns of any type as texts; the others."""
        self.ask("begin", self._number, [*dimensions, *texts, *others], rows)
        for answer in self._until_end("following", self._number, dimensions, texts, others):
            count, lengths = answer.value
            arrays = list(answer.arrays)
            block = arrays.pop(0) if dimensions else np.empty((count, 0), dtype=np.float32)
            if block.shape != (count, len(dimensions)) or block.dtype != np.float32:
                raise self.damaged()
            if len(lengths) != len(texts) + len(others) or sum(lengths) != len(arrays):
                raise self.damaged()
            found = []
            for length in lengths:
                found.append(self._values(arrays[:length], count))
                del arrays[:length]
            yield block, found

    def _until_end(self, *request: Any) -> Iterator[Answer]:
        """Yield answers to one request, again and again, until one says nothing."""
        for answer in self._process.stream(self.subject, itertools.repeat(request)):
            if answer.value is None:
                return
            yield answer

    def _values(self, arrays: list[NDArray[Any]], count: int) -> Values:
        is_mask = [array.dtype == np.bool_ for array in arrays]
        missing = arrays.pop() if len(arrays) > 1 and is_mask[-1] else None
        if any(len(array) != count for array in ([] if missing is None else [missing]) + arrays[:1]):
            raise self.damaged()
        if len(arrays) == 1:
            return Values(arrays[0], missing)
        try:
            texts = texts_of_arrays(arrays, count)
        except ValueError as error:
            raise self.damaged() from error
        self._text_left -= arrays[1].size
        if self._text_left < 0:
            raise UserError(self.subject.sentence("has more text than it can hold"))
        return Values(texts, missing)

    def lists(self, rows: int, name: str) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Yield of a column of lists the lengths (-1: no list) and all values."""
        self.ask("begin", self._number, [name], rows)
        for answer in self._until_end("lists", self._number, name):
            lengths, values = answer.arrays
            if len(lengths) != answer.value or np.maximum(lengths, 0).sum() != values.size or values.ndim != 1:
                raise self.damaged()
            yield lengths, values
