"""Regions of a genome, BED or GFF3, plain or gzip-compressed, recognised by content; their sequences; and BED written."""

import gzip
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

from dnalm.errors import UserError
from dnalm.formats.fasta import LONGEST_ID, SequenceRecord
from dnalm.formats.reference import Reference
from dnalm.methods.strands import reverse_complement

NOT_REGIONS = ("#", "track", "browser")
GFF_COLUMNS = 9


@dataclass(frozen=True, slots=True)
class Region:
    """Bases [start, end), 0-based, of a contig; strand is '+', '-' or '.'; `line` is where it stands in its file."""

    contig: str
    start: int
    end: int
    name: str
    strand: str
    line: int


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
            record = self._reference.fetch(contig, region.start, region.end, region.name, self._keep_case)
            bases, soft_masked = record.bases, record.soft_masked
            if region.strand == "-":
                bases = reverse_complement(bases)
                soft_masked = None if soft_masked is None else soft_masked[::-1]
            yield RegionRecord(
                region.name, bases, record.lower_case, record.ambiguous, record.uracil, soft_masked, region
            )


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
    if region.end > length:
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
    if path.exists() and not path.is_file():
        raise UserError(f"'{path}' is no plain file; give a BED or GFF3 file.")
    number = found = 0
    try:
        with path.open("rb") as file:
            compressed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rt", encoding="utf-8") if compressed else path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.startswith("##FASTA"):
                    break
                if not line.strip() or line.startswith(NOT_REGIONS):
                    continue
                found += 1
                yield _region(line.rstrip("\r\n").split("\t"), number, path.name)
    except (EOFError, OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"The regions '{path.name}' cannot be read as text after line {number}; use BED or GFF3."
        ) from error
    if not found:
        raise UserError(f"The file '{path.name}' has no region; use BED or GFF3 with at least one.")


def _region(columns: list[str], number: int, file: str) -> Region:
    where = f"Line {number} of '{file}'"
    try:
        if len(columns) == GFF_COLUMNS and not columns[1].isdigit():
            contig, start, end = columns[0], int(columns[3]) - 1, int(columns[4])
            strand, name = columns[6], _gff_name(columns[8])
        else:
            contig, start, end = columns[0], int(columns[1]), int(columns[2])
            name = columns[3].strip() if len(columns) > 3 else ""
            strand = columns[5] if len(columns) > 5 else "."
    except (IndexError, ValueError) as error:
        raise UserError(
            f"{where} is no region; BED has contig, start and end separated by tabs, GFF3 9 columns."
        ) from error
    if start < 0:
        raise UserError(f"{where} starts before the contig '{contig}'; correct the region.")
    if end <= start:
        raise UserError(f"{where} is a region of length {end - start}; its end must lie behind its start.")
    if strand not in "+-.?" or len(strand) != 1:
        raise UserError(f"{where} has the strand '{strand}'; use +, - or a dot.")
    named = "_".join(name.split()) if name not in ("", ".") else f"{contig}:{start}-{end}({strand})"
    if not named.isprintable():
        raise UserError(f"{where} has a control character in its name; remove it.")
    if len(named) > LONGEST_ID:
        raise UserError(f"{where} has a name of {len(named):,} letters; use at most {LONGEST_ID:,}.")
    return Region(contig, start, end, named, strand, number)


def _gff_name(attributes: str) -> str:
    pairs = dict(pair.strip().split("=", 1) for pair in attributes.split(";") if "=" in pair)
    return pairs.get("ID") or pairs.get("Name") or ""
