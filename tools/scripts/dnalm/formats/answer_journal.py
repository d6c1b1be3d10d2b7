"""Answers of a served model as they came: a line each, so that a job that was killed goes on without asking twice.

The first line says what the file is; each other one is a JSON object with `key` (SHA-256 of what was asked, and of whom),
`tokens` and `vector` (little-endian float32, base64). A line without its end is one that a kill cut, and is asked again.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import h5py
import numpy as np
from numpy.typing import NDArray

from dnalm.errors import UserError
from dnalm.formats.hdf5 import refuse_other_files

FIRST_LINE = b'{"dnalm_journal":1}\n'
HDF5 = b"\x89HDF"
KEY = "key"  # column of obs
ROWS = 4_096  # of an h5ad, copied at once


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
        self._file = path.open("a+b")
        self._places: dict[bytes, int] = {}
        try:
            self._read()
        except BaseException:
            self._file.close()
            raise
        self.earlier = len(self._places)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if not self._places:
            self._path.unlink(missing_ok=True)

    def _read(self) -> None:
        """Find the answers in the file, and take away a line that was not completed."""
        self._file.seek(0)
        place = 0
        for number, line in enumerate(self._file):
            if not line.endswith(b"\n"):
                break
            if number == 0 and line != FIRST_LINE:
                raise UserError(
                    f"The file '{self._path.name}' is no journal of answers; give what an earlier job left."
                )
            if number:
                self._places[bytes.fromhex(self._parsed(line)[0])] = place
            place += len(line)
        self._file.truncate(place)
        self._file.seek(0, 2)
        if not place:
            self._file.write(FIRST_LINE)
            self._file.flush()

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
            raise UserError(
                f"The journal '{name or self._path.name}' is damaged; leave it out, and all is asked again."
            ) from error
        return key, tokens, vector

    def __contains__(self, key: str) -> bool:
        return bytes.fromhex(key) in self._places

    def add(self, key: str, vector: NDArray[np.float32], tokens: int) -> None:
        """Keep an answer: it is in the file when this returns."""
        said = {"key": key, "tokens": tokens, "vector": base64.b64encode(vector.astype("<f4").tobytes()).decode()}
        self._file.seek(0, 2)
        self._places[bytes.fromhex(key)] = self._file.tell()
        self._file.write(json.dumps(said, separators=(",", ":")).encode() + b"\n")
        self._file.flush()

    def read(self, key: str) -> tuple[NDArray[np.float32], int]:
        """Return the vector that was answered, and of how many tokens it was pooled here."""
        self._file.seek(self._places[bytes.fromhex(key)])
        _, tokens, vector = self._parsed(self._file.readline())
        return vector, tokens

    def take_over(self, path: Path) -> None:
        """Add the answers of an earlier job: of its journal, or of its embeddings (h5ad).

        Raises:
            UserError: the file is neither, or damaged.
        """
        with path.open("rb") as file:
            start = file.read(len(HDF5))
        if start == HDF5:
            self._take_embeddings(path)
            return
        with path.open("rb") as file:
            for number, line in enumerate(file):
                if number == 0 and line != FIRST_LINE:
                    raise UserError(
                        f"The file '{path.name}' is neither embeddings (h5ad) nor a journal of this tool; give one of both."
                    )
                if number and line.endswith(b"\n"):
                    key, tokens, vector = self._parsed(line, path.name)
                    self._add_new(key, vector, tokens)
        if not start:
            raise UserError(f"The file '{path.name}' is empty; give embeddings or a journal of this tool.")
        self.earlier = len(self._places)

    def _take_embeddings(self, path: Path) -> None:
        try:
            with path.open("rb") as disk, h5py.File(disk, "r") as file:
                refuse_other_files(file, path)
                keys, tokens, vectors = file[f"obs/{KEY}"], file["obs/n_tokens"], file["X"]
                for first in range(0, len(keys), ROWS):
                    rows = slice(first, first + ROWS)
                    for key, count, vector in zip(keys.asstr()[rows], tokens[rows], vectors[rows], strict=True):
                        self._add_new(key, np.asarray(vector, dtype=np.float32), int(count))
        except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise UserError(
                f"The file '{path.name}' holds no embeddings that this tool made; give such, or its journal."
            ) from error
        self.earlier = len(self._places)

    def _add_new(self, key: str, vector: NDArray[np.float32], tokens: int) -> None:
        if len(key) != 64 or not np.isfinite(vector).all():
            raise ValueError("no answer of this tool")
        if key not in self:
            self.add(key, vector, tokens)
