"""What becomes of probabilities: tracks, called segments, a summary, a figure, an archive of numbers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dnalm.formats.contigs import Contig
from dnalm.formats.probabilities_file import ProbabilitiesWriter
from dnalm.formats.segment_files import SegmentWriter
from dnalm.formats.tables import TableWriter
from dnalm.formats.tracks import TracksWriter
from dnalm.methods.segments import END, START, Calling, SegmentCaller, Segments
from dnalm.report.segment_plot import RegionPicture

SUMMARY_ROWS = 1_000  # written at once


@dataclass(frozen=True, slots=True)
class Target:
    """Bases [start, end), 0-based, of a contig, of which probabilities are wanted; and what they are called."""

    name: str
    contig: Contig
    start: int
    end: int

    @property
    def is_whole(self) -> bool:
        """Whether it is the contig from end to end."""
        return (self.start, self.end) == (0, self.contig.length)

    @property
    def n(self) -> int:
        """How many of its bases are N."""
        runs = np.clip(self.contig.n_runs.astype(np.int64), self.start, self.end)
        return int((runs[:, 1] - runs[:, 0]).sum())


class Results:
    """Take the probabilities of target after target; use it in a `with`. What is None is not written.

    Attributes:
        counts: of targets, bases, segments and so on.
        segments, segment_bases: of each feature.
    """

    def __init__(
        self,
        callings: Mapping[str, Calling],
        tracks: TracksWriter | None,
        calls: SegmentWriter | None,
        summary: TableWriter | None,
        picture: RegionPicture | None,
        probabilities: ProbabilitiesWriter | None,
    ) -> None:
        self._callers = [SegmentCaller(calling) for calling in callings.values()]
        self._features = list(callings)
        self._tracks, self._calls, self._summary = tracks, calls, summary
        self._picture, self._probabilities = picture, probabilities
        self._rows: dict[str, list[Any]] = {}
        self._stack = ExitStack()
        self.counts: Counter[str] = Counter()
        self.segments = np.zeros(len(callings), dtype=np.int64)
        self.segment_bases = np.zeros(len(callings), dtype=np.int64)

    def __enter__(self) -> Self:
        for writer in (self._tracks, self._calls, self._summary, self._probabilities):
            if writer is not None:
                self._stack.enter_context(writer)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def begin(self, target: Target) -> None:
        """Begin a target."""
        self._target, self._bases = target, 0
        self._own_segments = np.zeros(len(self._features), dtype=np.int64)
        self._own_bases = np.zeros(len(self._features), dtype=np.int64)
        if self._probabilities:
            self._probabilities.begin(target.name, target.start, target.end)

    def add(self, start: int, probabilities: NDArray[np.float32]) -> None:
        """Add the probabilities of a target's bases from `start` on; shape (bases, features)."""
        self._bases += len(probabilities)
        if self._tracks:
            self._tracks.append(self._target.contig.name, start, probabilities)
        if self._probabilities:
            self._probabilities.append(start, probabilities)
        picture = self._picture_here()
        if picture:
            picture.add(start, probabilities)
        columns = np.ascontiguousarray(probabilities.T)
        for feature, caller in enumerate(self._callers):
            self._found(feature, caller.add(start, columns[feature]))

    def end(self, n_windows: int) -> None:
        """End a target that so many windows were read for."""
        for feature, caller in enumerate(self._callers):
            self._found(feature, caller.finish())
        target = self._target
        if self._calls:
            self._calls.end(target.contig.name)
        if self._probabilities:
            self._probabilities.end()
        self.segments += self._own_segments
        self.segment_bases += self._own_bases
        status = self._status()
        self.counts.update(
            {"targets": 1, "bases": target.end - target.start, "bases_with_data": self._bases, "windows": n_windows}
        )
        self.counts[f"{status}_targets"] += 1
        if self._summary:
            self._add_row(status, n_windows)

    def finish(self, provenance: Mapping[str, Any]) -> None:
        """Complete all but the figure."""
        if self._tracks:
            self._tracks.finish()
        if self._probabilities:
            self._probabilities.finish(provenance)
        self._write_rows()

    def _found(self, feature: int, segments: Segments) -> None:
        if not len(segments):
            return
        self._own_segments[feature] += len(segments)
        self._own_bases[feature] += int((segments[:, END] - segments[:, START]).sum())
        if self._calls:
            self._calls.append(feature, segments)
        picture = self._picture_here()
        if picture:
            picture.add_segments(feature, segments)

    def _picture_here(self) -> RegionPicture | None:
        return self._picture if self._picture and self._picture.contig == self._target.contig.name else None

    def _status(self) -> str:
        target = self._target
        if self._bases == target.end - target.start:
            return "ok"
        if self._bases:
            return "gaps"
        return "all_n" if target.n == target.end - target.start else "too_short"

    def _add_row(self, status: str, n_windows: int) -> None:
        target = self._target
        row: dict[str, Any] = {
            "id": target.name,
            "contig": target.contig.name,
            "start": target.start,
            "end": target.end,
            "status": status,
            "length": target.end - target.start,
            "n": target.n,
            "with_data": self._bases,
            "n_windows": n_windows,
            "segments": int(self._own_segments.sum()),
        }
        row |= {
            f"bases_in_{'_'.join(feature.split())}": int(bases)
            for feature, bases in zip(self._features, self._own_bases, strict=True)
        }
        for name, value in row.items():
            self._rows.setdefault(name, []).append(value)
        if len(self._rows["id"]) == SUMMARY_ROWS:
            self._write_rows()

    def _write_rows(self) -> None:
        if self._summary and self._rows:
            self._summary.append(self._rows)
            self._rows = {}


def lengths_of(contigs: Sequence[Contig]) -> dict[str, int]:
    """Return the length of each contig by its name."""
    return {contig.name: contig.length for contig in contigs}
