"""Regions of a genome, BED or GFF3, plain or gzip-compressed, recognised by content; their sequences; and BED written."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from dnalm.errors import UserError, shown
from dnalm.formats.fasta import LONGEST_ID, SequenceRecord
from dnalm.formats.interval_lines import Circular, IntervalLine, attribute, parts, read_intervals
from dnalm.formats.reference import Reference
from dnalm.methods.strands import reverse_complement

FORMATS = "BED or GFF3"


@dataclass(frozen=True, slots=True)
class Region:
    """Bases [start, end), 0-based, of a contig.

    Attributes:
        strand: '+', '-', '.' or '?'.
        line: its number in the file.
        circular: length of the contig if it is circular and the region passes its origin, so that `end` lies behind the
            last base; else 0.
    """

    contig: str
    start: int
    end: int
    name: str
    strand: str
    line: int
    circular: int = 0

    @property
    def parts(self) -> list[tuple[int, int]]:
        """The one or two intervals of the contig that it has, in reading order."""
        return parts(self.start, self.end, self.circular)


@dataclass(frozen=True, slots=True)
class RegionRecord(SequenceRecord):
    """The sequence of a region, of the strand that the region names."""

    region: Region | None = None


class RegionReader:
    """Iterate over the sequences of a genome's regions in their order; close it, or use it in a `with`.

    Every region is checked against the genome's contigs at once, before the first sequence is read; a contig may have
    another of its usual names (chr1 and 1).

    Args:
        genome: FASTA with the contigs.
        regions: BED or GFF3.
        keep_case: whether records are to tell which of their letters were lower case.

    Raises:
        UserError: a line is no region, a region lies on no contig of the genome or leaves it.
    """

    def __init__(self, genome: Path, regions: Path, keep_case: bool = False) -> None:
        self._regions, self._keep_case = regions, keep_case
        self._reference = Reference(genome)
        try:
            self._count = sum(1 for region in read_regions(regions) if contig_of(region, self._reference, regions))
        except UserError:
            self._reference.close()
            raise
        self._read = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the genome."""
        self._reference.close()

    def contig(self, region: Region) -> str:
        """Return the genome's own name of a region's contig, which the region may call otherwise."""
        return contig_of(region, self._reference, self._regions)

    @property
    def fraction_read(self) -> float:
        """The share of the regions that has been read: 0 to 1."""
        return self._read / self._count

    def __iter__(self) -> Iterator[RegionRecord]:
        for region in read_regions(self._regions):
            self._read += 1
            contig = contig_of(region, self._reference, self._regions)
            yield self._record(contig, region)

    def _record(self, contig: str, region: Region) -> RegionRecord:
        records = [
            self._reference.fetch(contig, start, end, region.name, self._keep_case) for start, end in region.parts
        ]
        bases = "".join(record.bases for record in records)
        masks = [record.soft_masked for record in records if record.soft_masked is not None]
        soft_masked = np.concatenate(masks) if masks else None
        if region.strand == "-":
            bases = reverse_complement(bases)
            soft_masked = None if soft_masked is None else soft_masked[::-1]
        lower_case, ambiguous, uracil = (
            sum(getattr(record, kind) for record in records) for kind in ("lower_case", "ambiguous", "uracil")
        )
        return RegionRecord(region.name, bases, lower_case, ambiguous, uracil, soft_masked, region)


def contig_of(region: Region, genome: Reference, regions: Path) -> str:
    """Return the genome's name of a contig of a region, which is of the file `regions`.

    Raises:
        UserError: the genome lacks it, or the region leaves it.
    """
    contig = genome.contig(region.contig) or region.contig
    check_region(region, genome.lengths.get(contig), regions, genome.name, genome.lengths)
    return contig


def check_region(region: Region, length: int | None, regions: Path, genome: str, known: Iterable[str]) -> None:
    """Refuse a region that its genome lacks.

    Args:
        region: of the file `regions`.
        length: of its contig; None if the genome has none of that name.
        regions: the file.
        genome: what people call it.
        known: names of its contigs.

    Raises:
        UserError: the contig is unknown, or the region leaves it.
    """
    where = f"Line {region.line} of '{regions.name}'"
    if length is None:
        few = ", ".join(islice(known, 3))
        raise UserError(
            f"{where} is on the contig '{region.contig}', which the genome '{genome}' lacks "
            f"(it has {few} …); use the genome the regions belong to."
        )
    if (region.circular or region.end) > length or (region.circular and region.circular != length):
        raise UserError(
            f"{where} ends at {region.end:,}, the contig '{region.contig}' of '{genome}' at {length:,}; "
            "use the genome the regions belong to, or cut the region."
        )


class BedWriter:
    """Append intervals in the order given; use it in a `with`."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", newline="\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def append(self, regions: Sequence[Region], names: Sequence[str], scores: Sequence[int]) -> None:
        """Write regions with names without blanks and scores from 0 to 1,000, as lines of six columns."""
        for region, name, score in zip(regions, names, scores, strict=True):
            strand = region.strand if region.strand in "+-" else "."
            self._file.write(f"{region.contig}\t{region.start}\t{region.end}\t{name}\t{score}\t{strand}\n")


def read_regions(path: Path) -> Iterator[Region]:
    """Yield the regions in the order of the file.

    BED: contig, 0-based start, end, and where given name and strand (columns 4 and 6). GFF3: 1-based inclusive, name from
    the attribute ID or Name. A region without a name is called `contig:start-end(strand)` as bedtools does.

    Raises:
        UserError: a line is neither, a region is empty, or there is none.
    """
    circular = Circular()
    for line in read_intervals(path, FORMATS, "region"):
        circular.learn(line)
        yield _region(line, path.name, circular)


def _region(line: IntervalLine, file: str, circular: Circular) -> Region:
    where = f"Line {line.number} of '{file}'"
    columns = line.columns
    if line.is_gff:
        strand, name = columns[6], attribute(line, "ID") or attribute(line, "Name")
    else:
        name = columns[3].strip() if len(columns) > 3 else ""
        strand = columns[5].strip() if len(columns) > 5 else "."
    if strand not in ("+", "-", ".", "?"):
        raise UserError(f"{where} has the strand '{shown(strand)}'. Use +, - or a dot.")
    contig, start, end = line.contig, line.start, line.end
    named = "_".join(name.split()) if name not in ("", ".") else f"{contig}:{start}-{end}({strand})"
    if not named.isprintable():
        raise UserError(f"{where} has a name with a control character, or that is not UTF-8 text. Remove it.")
    if len(named) > LONGEST_ID:
        raise UserError(f"{where} has a name of {len(named):,} letters. Use at most {LONGEST_ID:,}.")
    return Region(contig, start, end, named, strand, line.number, circular.passes_origin(contig, start, end))
