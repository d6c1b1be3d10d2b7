"""bedGraph: one number a base, sorted, none told twice, as genome browsers and bigWig converters want it."""

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dnalm.methods.intervals import Intervals


class BasewiseTrack:
    """Numbers of bases in any order, repeats included; four bytes a base are held.

    Args:
        intervals: the bases that may have a number.
    """

    def __init__(self, intervals: Intervals) -> None:
        self._of_contig = {
            contig: [(start, np.full(end - start, np.nan, dtype=np.float32)) for start, end in stretches]
            for contig, stretches in intervals.of_contig.items()
        }

    def set(self, contig: str, position: int, value: float) -> None:
        """Give a base, 0-based, its number."""
        stretches = self._of_contig[contig]
        start, values = stretches[bisect_right(stretches, position, key=lambda stretch: stretch[0]) - 1]
        values[position - start] = value

    def write(self, path: Path, contigs: Sequence[str]) -> None:
        """Write the bases that have a number, contigs in the order given."""
        with path.open("w", encoding="utf-8", newline="\n") as file:
            for contig in contigs:
                for start, values in self._of_contig.get(contig, []):
                    for offset in np.flatnonzero(~np.isnan(values)).tolist():
                        position = start + offset
                        file.write(f"{contig}\t{position}\t{position + 1}\t{values[offset]:.6g}\n")
