"""Answers of a served model as they came: a line each, so that a job that was killed goes on without asking twice.

The first line says what the file is; each other one is a JSON object with `key` (SHA-256 of what was asked, and of whom),
`tokens` and `vector` (little-endian float32, base64). A line without its end is one that a kill cut, and is asked again.

One run at a time has a journal: it is locked. Where a file system has no locks two runs may append to one file; each line
then still is whole, and none is read as the answer to another key.
"""

import base64
import binascii
import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from dnalm.errors import DISK_IS_FULL, UserError
from dnalm.formats.inputs import open_input
from dnalm.formats.isolated_hdf5 import Hdf5Dataset, IsolatedHdf5
from dnalm.formats.isolated_reader import Subject

FIRST_LINE = b'{"dnalm_journal":1}\n'
HDF5 = b"\x89HDF"
KEY = "key"  # column of obs
ROWS = 4_096  # of an h5ad, copied at once
MOST_LINE = 1 << 24  # bytes: a vector of three million dimensions
READ_AT_ONCE = 1 << 15  # bytes


def content_key(parts: Sequence[str]) -> str:
    """Return what an answer is known by: the SHA-256 of all that decides over it, in hexadecimal."""
    return hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()


class AnswerJournal:
    """A journal that is appended to and read from; use it in a `with`.

    What an earlier job left in the file is kept; a journal without an answer is removed.

    Attributes:
        earlier: how many answers of earlier jobs it holds.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = _locked(path)
        self._places: dict[bytes, int] = {}
        self._wanted = True
        try:
            self._read()
        except BaseException:
            os.close(self._file)
            raise
        self.earlier = len(self._places)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            empty = os.fstat(self._file).st_size <= len(FIRST_LINE)
            # Before the lock ends: afterwards it may be another run's.
            if (empty or not self._wanted) and _is_at(self._file, self._path):
                self._path.unlink(missing_ok=True)
        finally:
            os.close(self._file)

    def discard(self) -> None:
        """Have the file removed at the end: nobody needs the answers once more."""
        self._wanted = False

    def _read(self) -> None:
        """Find the answers in the file, and take away a line that was not completed."""
        place = 0
        with os.fdopen(os.dup(self._file), "rb") as file:
            for number, line in enumerate(_lines(file, self._path.name)):
                if number == 0 and not FIRST_LINE.startswith(line):
                    raise UserError(
                        f"The file '{self._path.name}' is no journal of answers; give what an earlier job left."
                    )
                if not line.endswith(b"\n"):
                    break
                if number:
                    self._places[bytes.fromhex(self._parsed(line)[0])] = place
                place += len(line)
        os.ftruncate(self._file, place)
        if not place:
            self._append(FIRST_LINE)

    def _append(self, line: bytes) -> int:
        """Write a line at the end of the file, wherever that is by now; return where it begins."""
        left = memoryview(line)
        while left:
            left = left[os.write(self._file, left) :]
        return os.lseek(self._file, 0, os.SEEK_CUR) - len(line)

    def _parsed(self, line: bytes, name: str | None = None) -> tuple[str, int, NDArray[np.float32]]:
        try:
            said = json.loads(line)
            vector = np.frombuffer(base64.b64decode(said["vector"], validate=True), dtype="<f4")
            key, tokens = said["key"], said["tokens"]
            if (
                bytes.fromhex(key).hex() != key  # fromhex leaves blanks out
                or len(key) != 64
                or type(tokens) is not int
                or not len(vector)
                or not np.isfinite(vector).all()
            ):
                raise ValueError
        except (ValueError, TypeError, KeyError, binascii.Error, RecursionError) as error:
            raise _damaged(name or self._path.name) from error
        return key, tokens, vector

    def __contains__(self, key: str) -> bool:
        return bytes.fromhex(key) in self._places

    def add(self, key: str, vector: NDArray[np.float32], tokens: int) -> None:
        """Keep an answer: it is in the file when this returns."""
        said = {"key": key, "tokens": tokens, "vector": base64.b64encode(vector.astype("<f4").tobytes()).decode()}
        self._places[bytes.fromhex(key)] = self._append(json.dumps(said, separators=(",", ":")).encode() + b"\n")

    def read(self, key: str) -> tuple[NDArray[np.float32], int]:
        """Return the vector that was answered, and of how many tokens it was pooled here.

        Raises:
            UserError: another run changed the file.
        """
        line, place = b"", self._places[bytes.fromhex(key)]
        while not line.endswith(b"\n") and len(line) < MOST_LINE:
            more = os.pread(self._file, READ_AT_ONCE, place + len(line))
            if not more:
                break
            line += more.partition(b"\n")[0] + (b"\n" if b"\n" in more else b"")
        found, tokens, vector = self._parsed(line)
        if found != key:
            raise UserError(
                f"Another run changed the journal '{self._path.name}' while this one used it; start this one again when the "
                "other has ended, or give it another output or journal."
            )
        return vector, tokens

    def take_over(self, path: Path) -> None:
        """Add the answers of an earlier job: of its journal, or of its embeddings (h5ad).

        Raises:
            UserError: the file is neither, or damaged.
        """
        with open_input(path, "file of embeddings, or a journal of this tool") as file:
            start = file.read(len(HDF5))
        if not start:
            raise UserError(f"The file '{path.name}' is empty; give embeddings or a journal of this tool.")
        if start == HDF5:
            self._take_embeddings(path)
            return
        with open_input(path) as file:
            for number, line in enumerate(_lines(file, path.name)):
                if number == 0 and line != FIRST_LINE:
                    raise UserError(
                        f"The file '{path.name}' is neither embeddings (h5ad) nor a journal of this tool; give one of both."
                    )
                if number and line.endswith(b"\n"):
                    key, tokens, vector = self._parsed(line, path.name)
                    self._add_new(key, vector, tokens)
        self.earlier = len(self._places)

    def _take_embeddings(self, path: Path) -> None:
        with IsolatedHdf5() as reader:
            root = reader.open(path, Subject(f"The file '{path.name}'", "is a damaged HDF5 file")).root
            keys, tokens, vectors = (root.get(name) for name in (f"obs/{KEY}", "obs/n_tokens", "X"))
            try:
                if not all(isinstance(one, Hdf5Dataset) for one in (keys, tokens, vectors)):
                    raise ValueError("one of them is missing")
                assert isinstance(keys, Hdf5Dataset)
                assert isinstance(tokens, Hdf5Dataset)
                assert isinstance(vectors, Hdf5Dataset)
                shapes = (len(keys),) == keys.shape == tokens.shape == vectors.shape[:1] and len(vectors.shape) == 2
                if not shapes or keys.kind != "text" or tokens.dtype.kind not in "iu" or vectors.dtype.kind != "f":
                    raise ValueError("one of them is not what this tool writes")
                for first in range(0, len(keys), ROWS):
                    last = min(first + ROWS, len(keys))
                    rows = (keys.texts(first, last), tokens[first:last], vectors.numbers(first, last, np.float32))
                    for key, count, vector in zip(*rows, strict=True):
                        self._add_new(key, vector, int(count))
            except ValueError as error:
                raise UserError(
                    f"The file '{path.name}' holds no embeddings that this tool made; give such, or its journal."
                ) from error
        self.earlier = len(self._places)

    def _add_new(self, key: str, vector: NDArray[np.float32], tokens: int) -> None:
        if len(key) != 64 or not np.isfinite(vector).all():
            raise ValueError("no answer of this tool")
        if key not in self:
            self.add(key, vector, tokens)


def _locked(path: Path) -> int:
    """Open a file to append to, made where there is none, and lock it; return its descriptor.

    Raises:
        UserError: it is not a regular file, cannot be opened, or another run has it.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO is not waited for
    while True:
        try:
            descriptor = os.open(path, flags, 0o666)
        except OSError as error:
            if error.errno in DISK_IS_FULL:
                raise
            raise UserError(
                f"The journal '{path}' cannot be opened ({error.strerror}); give another output or journal."
            ) from error
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UserError(f"The journal '{path}' is not a regular file; give another output or journal.")
            _lock(descriptor, path)
            if _is_at(descriptor, path):  # else the run that had it has removed it
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(
            f"Another run uses the journal '{path}'; wait until it has ended, or give this one another output or journal."
        ) from None
    except OSError:
        pass  # the file system has no locks


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _lines(file: BinaryIO, name: str) -> Iterator[bytes]:
    """Yield lines with their ends, from the beginning; raise UserError at one that is longer than any answer."""
    file.seek(0)
    while line := file.readline(MOST_LINE):
        if len(line) == MOST_LINE:
            raise _damaged(name)
        yield line


def _damaged(name: str) -> UserError:
    return UserError(f"The journal '{name}' is damaged; leave it out, and all is asked again.")
