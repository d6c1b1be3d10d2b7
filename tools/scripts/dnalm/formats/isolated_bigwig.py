"""Users' bigWig files, read by a child process (`bigwig_process`): contigs, and values of bases as arrays."""

from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dnalm.errors import UserError
from dnalm.formats.inputs import open_input
from dnalm.formats.isolated_reader import ReaderProcess, Subject


class IsolatedBigWigs:
    """A child process that has bigWig files open; use it in a `with`."""

    def __init__(self) -> None:
        self._process = ReaderProcess("dnalm.formats.bigwig_process")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child."""
        self._process.close()

    def open(self, path: Path, subject: Subject) -> "IsolatedBigWig":
        """Open a file.

        Raises:
            UserError: it is not a regular file, is not a bigWig, or is damaged.
        """
        open_input(path).close()
        found = self._process.ask(subject, "open", str(path.absolute())).value
        if found is None:
            raise UserError(subject.sentence(subject.damaged))
        number, contigs = found
        return IsolatedBigWig(self._process, subject, number, dict(contigs))


class IsolatedBigWig:
    """An open bigWig file.

    Attributes:
        lengths: bases of each contig, in the order of the file.
    """

    def __init__(self, process: ReaderProcess, subject: Subject, number: int, lengths: dict[str, int]) -> None:
        self._process, self._subject, self._number = process, subject, number
        self.lengths = lengths
        if not all(isinstance(name, str) and type(length) is int and length >= 0 for name, length in lengths.items()):
            raise UserError(subject.sentence(subject.damaged))

    def values(self, contig: str, start: int, end: int, subject: Subject | None = None) -> NDArray[np.float32] | None:
        """Return the values of bases [start, end), 0-based, NaN where there is none; None if there is none at all.

        Raises:
            UserError: the file is damaged; `subject` says how the sentence names it then.
        """
        named = subject or self._subject
        arrays = self._process.ask(named, "values", self._number, contig, start, end).arrays
        if not arrays:
            return None
        if len(arrays) != 1 or arrays[0].shape != (end - start,) or arrays[0].dtype != np.float32:
            raise UserError(named.sentence(named.damaged))
        return arrays[0]
