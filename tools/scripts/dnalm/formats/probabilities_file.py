"""Probabilities as NumPy arrays: `features`, and under each contig's name one row a base and one column a feature."""

import json
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from dnalm.formats.npz import npy_entry

FEATURES, PROVENANCE = "features", "provenance"
OWN_NAMES = (FEATURES, PROVENANCE)
EMPTY_ROWS = 4_096  # written at once


class ProbabilitiesWriter:
    """Append stretches between `begin` and `end` of each array; bases without a probability are NaN. Use it in a `with`."""

    def __init__(self, path: Path, features: Sequence[str]) -> None:
        self._width = len(features)
        self._archive = zipfile.ZipFile(path, "w", zipfile.ZIP_STORED)
        self._entry = ExitStack()
        self._array: IO[bytes] | None = None
        self._at, self._end = 0, 0
        self._write(FEATURES, np.array(list(features)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._entry.close()
            self._archive.close()
        except (OSError, ValueError, RuntimeError):
            if error is None:
                raise

    def begin(self, name: str, start: int, end: int) -> None:
        """Begin the array of bases [start, end)."""
        shape = (end - start, self._width)
        self._array = self._entry.enter_context(npy_entry(self._archive, name, np.dtype("<f4"), shape))
        self._at, self._end = start, end

    def append(self, start: int, probabilities: NDArray[np.float32]) -> None:
        """Add the probabilities of bases from `start` on; shape (bases, features)."""
        assert self._array is not None
        self._fill(start)
        self._array.write(np.ascontiguousarray(probabilities, dtype="<f4").tobytes())
        self._at += len(probabilities)

    def end(self) -> None:
        """Complete the array."""
        self._fill(self._end)
        self._entry.close()

    def finish(self, provenance: Mapping[str, Any]) -> None:
        """Add what was run."""
        self._write(PROVENANCE, np.array(json.dumps(provenance, sort_keys=True, allow_nan=False)))

    def _fill(self, start: int) -> None:
        assert self._array is not None
        while self._at < start:
            rows = min(EMPTY_ROWS, start - self._at)
            self._array.write(np.full((rows, self._width), np.nan, dtype="<f4").tobytes())
            self._at += rows

    def _write(self, name: str, values: NDArray[Any]) -> None:
        with npy_entry(self._archive, name, values.dtype, values.shape) as entry:
            entry.write(values.tobytes())
