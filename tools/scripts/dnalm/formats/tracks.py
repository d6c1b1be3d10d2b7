"""Tracks of probabilities: a folder with one bigWig a feature."""

import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dnalm.formats.bigwig import BigWigWriter, Chromosomes

SUFFIX = ".bw"
STRANGE = re.compile(r"[^A-Za-z0-9_.-]+")


class TracksWriter:
    """Append the probabilities of all features; use it in a `with`, `finish` it.

    Args:
        folder: where the files go, named for their features.
        features: names.
        lengths: contig → bases, in the order in which they come.
        decimals: that are kept of each probability.
        threads: that compress files at once.
    """

    def __init__(
        self, folder: Path, features: Sequence[str], lengths: Mapping[str, int], decimals: int, threads: int
    ) -> None:
        self._decimals, self._stack = decimals, ExitStack()
        chromosomes = Chromosomes(lengths)
        with ExitStack() as stack:
            files = [folder / name for name in file_names(features)]
            self._pool = stack.enter_context(ThreadPoolExecutor(min(threads, len(files))))
            self._writers = [stack.enter_context(BigWigWriter(file, chromosomes)) for file in files]
            self._stack = stack.pop_all()
        self._contig = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def append(self, contig: str, start: int, probabilities: NDArray[np.float32]) -> None:
        """Add the probabilities of a contig's bases from `start` on; shape (bases, features)."""
        columns = np.ascontiguousarray(np.round(probabilities, self._decimals).T)

        def write(number: int) -> None:
            self._writers[number].append(contig, start, columns[number])

        self._all(write)

    def finish(self) -> None:
        """Complete the files."""
        self._all(lambda number: self._writers[number].finish())

    def _all(self, task: Callable[[int], None]) -> None:
        numbers = range(len(self._writers))
        for _ in self._pool.map(task, numbers) if self._pool._max_workers > 1 else map(task, numbers):
            pass


def file_names(features: Sequence[str]) -> list[str]:
    """Return a file's name for each feature: its letters, digits and signs that every file system takes, no two alike."""
    names: list[str] = []
    taken: set[str] = set()
    for feature in features:
        plain = STRANGE.sub("_", feature).lstrip(".-")[:100] or "feature"
        name, number = plain, 1
        while name.lower() in taken:
            number += 1
            name = f"{plain}_{number}"
        taken.add(name.lower())
        names.append(name + SUFFIX)
    return names
