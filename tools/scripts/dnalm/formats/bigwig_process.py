"""Child process that reads users' bigWig files (see `isolated_bigwig` for the parent's side)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyBigWig

from dnalm.formats.isolated_reader import Answer, Refused, name_for_library, serve

MAGIC = (b"\x26\xfc\x8f\x88", b"\x88\x8f\xfc\x26")  # either order of bytes
MOST_BASES = 1 << 38  # of all contigs; the largest genome that is known has a little more than half
MOST_CONTIGS = 5_000_000

_tracks: list[Any] = []


def open_file(path: str) -> Answer:
    """Return the number of the track, and its contigs as pairs of name and length; None if it is not a bigWig."""
    with Path(path).open("rb") as file:
        start = file.read(4)
    track = pyBigWig.open(name_for_library(path)) if start in MAGIC else None
    if track is None or not track.isBigWig():
        return Answer()
    contigs = track.chroms()
    if len(contigs) > MOST_CONTIGS or sum(contigs.values()) > MOST_BASES:
        raise Refused(f"claims contigs of {sum(contigs.values()):,} bases. Make or upload it again.")
    _tracks.append(track)
    return Answer([len(_tracks) - 1, [[name, int(length)] for name, length in contigs.items()]])


def values(number: int, contig: str, start: int, end: int) -> Answer:
    """Return the values of bases [start, end), NaN where there is none; nothing if there is none at all."""
    found = np.asarray(_tracks[number].values(contig, start, end, numpy=True), dtype=np.float32)
    return Answer(None, [] if np.isnan(found).all() else [found])


OPERATIONS: Mapping[str, Any] = {"open": open_file, "values": values}

if __name__ == "__main__":
    serve(OPERATIONS)
