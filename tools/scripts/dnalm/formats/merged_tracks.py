"""bigWig tracks of shards as one file, a stretch of a contig at once."""

import resource
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dnalm.errors import UserError, shown
from dnalm.formats.bigwig import BigWigWriter, Chromosomes
from dnalm.formats.isolated_bigwig import IsolatedBigWig, IsolatedBigWigs
from dnalm.formats.isolated_reader import Subject
from dnalm.formats.shards import Merged, named

STRETCH = 1 << 20  # bases read at once
SPARE_FILES = 64  # open files that are not shards


def merge_bigwigs(paths: Sequence[Path], output: Path) -> Merged:
    """Write one track of all values: of every contig that a shard has, in the order in which they come.

    Raises:
        UserError: a file is no bigWig, two shards know a contig of different lengths, or have a value of the same base.
    """
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_FILES
    if len(paths) > most:
        raise UserError(f"At most {most:,} tracks are merged at once here; merge the {len(paths):,} in steps.")
    with IsolatedBigWigs() as reader:
        tracks = [
            reader.open(path, Subject(named(number, path), "is a damaged bigWig file"))
            for number, path in enumerate(paths, start=1)
        ]
        lengths = _lengths(tracks, paths)
        values = [0] * len(paths)
        with BigWigWriter(output, Chromosomes(lengths)) as writer:
            for contig, length in lengths.items():
                own = [(number, track) for number, track in enumerate(tracks) if contig in track.lengths]
                for start in range(0, length, STRETCH):
                    _merge_stretch(own, paths, contig, start, min(start + STRETCH, length), writer, values)
            writer.finish()
    return Merged(values, "values")


def _lengths(tracks: Sequence[IsolatedBigWig], paths: Sequence[Path]) -> dict[str, int]:
    lengths: dict[str, int] = {}
    for number, (track, path) in enumerate(zip(tracks, paths, strict=True), start=1):
        for contig, length in track.lengths.items():
            if lengths.setdefault(contig, length) != length:
                raise UserError(
                    f"{named(number, path)} has the contig '{shown(contig)}' with {length:,} bases, the shards before it "
                    f"with {lengths[contig]:,}; merge tracks of one genome."
                )
    return lengths


def _merge_stretch(
    tracks: Sequence[tuple[int, IsolatedBigWig]],
    paths: Sequence[Path],
    contig: str,
    start: int,
    end: int,
    writer: BigWigWriter,
    counts: list[int],
) -> None:
    """Write the values of a stretch's bases, wherever there are any, and count those of each shard."""
    merged = np.full(end - start, np.nan, dtype=np.float32)
    for number, track in tracks:
        found = track.values(contig, start, end)
        if found is None:
            continue
        known = ~np.isnan(found)
        if (twice := known & ~np.isnan(merged)).any():
            place = f"{shown(contig)}:{start + int(twice.argmax()) + 1:,}"
            raise UserError(
                f"{named(number + 1, paths[number])} has a value at {place}, where a shard before it has one too; merge "
                "shards that do not overlap."
            )
        merged[known] = found[known]
        counts[number] += int(known.sum())
    edges = np.flatnonzero(np.diff(~np.isnan(merged), prepend=False, append=False))
    for first, last in edges.reshape(-1, 2):
        writer.append(contig, start + int(first), merged[first:last])
