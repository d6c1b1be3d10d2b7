"""The sequences of a job, of a FASTA file or of a genome's regions, in buffers that bound the memory."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dnalm.errors import UserError
from dnalm.formats.fasta import FastaReader, SequenceRecord
from dnalm.formats.regions import RegionReader, RegionRecord


def open_records(sequences: Path | None, genome: Path | None, regions: Path | None) -> FastaReader | RegionReader:
    """Return a reader of sequences, or of a genome's regions; close it.

    Raises:
        UserError: there are both, or neither, or one of them cannot be read.
    """
    if (sequences is None) == (genome is None) or (genome is None) != (regions is None):
        raise UserError("Give either sequences, or a genome together with regions.")
    if sequences is not None:
        return FastaReader(sequences)
    assert genome is not None
    assert regions is not None
    return RegionReader(genome, regions)


def buffers(records: Iterator[SequenceRecord], most_records: int, most_bases: int) -> Iterator[list[SequenceRecord]]:
    """Yield the records in order, so many at once, or fewer when they have so many bases."""
    buffer: list[SequenceRecord] = []
    bases = 0
    for record in records:
        buffer.append(record)
        bases += len(record.bases)
        if len(buffer) >= most_records or bases >= most_bases:
            yield buffer
            buffer, bases = [], 0
    if buffer:
        yield buffer


def columns_of_records(records: Sequence[SequenceRecord]) -> dict[str, list[Any]]:
    """Return what was mended in each record, and where it lies if it is a region: name of a column → values."""
    columns: dict[str, list[Any]] = {
        name: [getattr(record, name) for record in records] for name in ("lower_case", "ambiguous", "uracil")
    }
    regions = [record.region for record in records if isinstance(record, RegionRecord) and record.region]
    if regions:
        columns |= {
            name: [getattr(region, name) for region in regions] for name in ("contig", "start", "end", "strand")
        }
    return columns
