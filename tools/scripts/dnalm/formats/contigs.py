"""Contigs of any length, read in one direction: the letters between two places and no more are held."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dnalm.errors import UserError
from dnalm.formats.fasta import FastaReader, SequenceRecord

LONGEST = 2**32 - 1  # bases: positions of genome formats are unsigned 32-bit numbers
Runs = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Contig:
    """What is known of a contig without its letters.

    Attributes:
        name: the header up to the first blank.
        length: in bases.
        n_runs: where its N lie: first and past-the-end base of each run, 0-based, in order; shape (runs, 2).
        lower_case, ambiguous, uracil: see `SequenceRecord`.
    """

    name: str
    length: int
    n_runs: Runs
    lower_case: int
    ambiguous: int
    uracil: int


class Letters:
    """The letters of a contig, asked for from left to right.

    Args:
        length: of the contig.
        pieces: its letters in pieces, in order.
    """

    def __init__(self, length: int, pieces: Iterator[SequenceRecord]) -> None:
        self._length, self._pieces = length, pieces
        self._held, self._start = "", 0

    def fetch(self, start: int, end: int) -> str:
        """Return bases [start, end), 0-based; what lies beyond the contig is N. No start is less than the one before."""
        first, last = max(start, 0), min(end, self._length)
        while self._start + len(self._held) < last:
            passed = min(first - self._start, len(self._held))
            self._start += passed
            self._held = self._held[passed:] + next(self._pieces).bases
        inside = self._held[first - self._start : last - self._start]
        return "N" * (first - start) + inside + "N" * (end - last)


class Contigs(Mapping[str, Contig]):
    """The contigs of a FASTA file, plain or gzip-compressed, in its order.

    The file is read once for what is known of all, and again for the letters.

    Raises:
        UserError: the file is no FASTA of DNA, or two contigs have one name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._contigs = {contig.name: contig for contig in _contigs(path)}

    def __getitem__(self, name: str) -> Contig:
        return self._contigs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._contigs)

    def __len__(self) -> int:
        return len(self._contigs)

    def letters(self) -> Iterator[tuple[Contig, Letters]]:
        """Yield each contig with its letters, which are gone when the next is asked for."""
        with FastaReader(self.path) as reader:
            for contig, pieces in _grouped(reader):
                yield self[contig], Letters(self[contig].length, pieces)


def _grouped(reader: FastaReader) -> Iterator[tuple[str, Iterator[SequenceRecord]]]:
    """Yield the name of each record and its pieces; those not taken are passed over."""
    pieces = reader.pieces()
    ahead = next(pieces, None)

    def of(number: int) -> Iterator[SequenceRecord]:
        nonlocal ahead
        while ahead is not None and ahead[0] == number:
            piece, ahead = ahead[1], None
            yield piece
            del piece
            ahead = next(pieces, None)

    while ahead is not None:
        number = ahead[0]
        own = of(number)
        yield ahead[1].id, own
        for _ in own:
            pass


def _contigs(path: Path) -> Iterator[Contig]:
    """Yield what is known of each contig; raise UserError at a name that was there before."""
    names: set[str] = set()
    with FastaReader(path) as reader:
        for name, pieces in _grouped(reader):
            if name in names:
                raise UserError(
                    f"The file '{path.name}' has two contigs called '{name}' (a name ends at the first blank); their tracks "
                    "could not be told apart: give each its own name."
                )
            names.add(name)
            yield _contig(name, pieces, path.name)


def _contig(name: str, pieces: Iterator[SequenceRecord], file: str) -> Contig:
    length = lower_case = ambiguous = uracil = 0
    runs: list[Runs] = []
    for piece in pieces:
        found = _runs_of_n(piece.bases, length)
        if len(found) and runs and found[0, 0] == runs[-1][-1, 1]:
            runs[-1][-1, 1] = found[0, 1]
            found = found[1:]
        if len(found):
            runs.append(found)
        length += len(piece.bases)
        lower_case += piece.lower_case
        ambiguous += piece.ambiguous
        uracil += piece.uracil
        if length > LONGEST:
            raise UserError(
                f"The contig '{name}' of '{file}' is longer than {LONGEST:,} bases, the most that tracks can tell; cut it."
            )
    together = np.concatenate(runs) if runs else np.empty((0, 2), dtype=np.uint32)
    return Contig(name, length, together, lower_case, ambiguous, uracil)


def _runs_of_n(bases: str, before: int) -> Runs:
    """Return the first and past-the-end positions of the runs of N, counted from so many bases before."""
    if "N" not in bases:
        return np.empty((0, 2), dtype=np.uint32)
    n = np.frombuffer(bases.encode("ascii"), dtype=np.uint8) == ord("N")
    edges = np.flatnonzero(np.diff(n, prepend=False, append=False)) + before
    return edges.reshape(-1, 2).astype(np.uint32)
