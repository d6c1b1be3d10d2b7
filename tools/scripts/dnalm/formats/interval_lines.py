"""Lines of BED, GFF3 and GTF, told apart line by line: directives and comments passed over, columns split, numbers read."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dnalm.errors import UserError, shown
from dnalm.formats.text_lines import read_lines

GFF_COLUMNS = 9
BED_COLUMNS = 3  # at least: contig, start, end
DIRECTIVES = ("track", "browser")  # words that begin a line of a genome browser
LARGEST_POSITION = 2**40
MOST_DIGITS = 18  # of a position, leading zeros included
CIRCULAR = ("is_circular", "true")


@dataclass(frozen=True, slots=True)
class IntervalLine:
    """One interval: bases [start, end), 0-based, of a contig, and the columns as they stand; its number in the file."""

    contig: str
    start: int
    end: int
    columns: list[str]
    number: int

    @property
    def is_gff(self) -> bool:
        """Whether its columns are those of GFF3 or GTF, and not of BED."""
        return _is_gff(self.columns)


def read_intervals(path: Path, formats: str, noun: str = "interval") -> Iterator[IntervalLine]:
    """Yield the intervals of a file in its order, plain or gzip-compressed.

    Left out are comments (`#`), lines of a genome browser (`track`, `browser`), blank lines, and of GFF3 the sequences
    behind `##FASTA` or a line that begins with `>` (GFF3 specification 1.26).

    Args:
        path: the file.
        formats: which formats a sentence asks for.
        noun: what it calls an interval.

    Raises:
        UserError: a line has no interval or an empty one, or the file has none.
    """
    found = False
    gff = False
    for number, raw in enumerate(read_lines(path, f"{formats} file"), start=1):
        line = raw.decode("utf-8", "surrogateescape")
        gff = gff or line.startswith("##gff-version")
        if line.rstrip() == "##FASTA" or (gff and line.startswith(">")):
            break
        if is_directive(raw):
            continue
        columns = line.split("\t")
        interval = _interval(columns, number, path.name, noun)
        gff, found = gff or interval.is_gff, True
        yield interval
    if not found:
        raise UserError(f"The file '{path.name}' has no {noun}. Give a {formats} file with at least one.")


def is_directive(line: bytes) -> bool:
    """Say whether a line of BED or GFF has no interval: a comment, a blank line, or a line of a genome browser."""
    if line.startswith(b"#") or not line.strip():
        return True
    word, _, rest = line.partition(b"\t" if b"\t" in line else b" ")
    if word.split(b" ", 1)[0].decode("latin-1") not in DIRECTIVES:
        return False
    # A contig may have such a name: its line has positions.
    positions = rest.split(b"\t")[:2]
    return not (b" " not in word and len(positions) == 2 and all(text.isdigit() for text in positions))


def _is_gff(columns: list[str]) -> bool:
    return len(columns) == GFF_COLUMNS and not columns[1].isdigit()


def _interval(columns: list[str], number: int, file: str, noun: str) -> IntervalLine:
    where = f"Line {number} of '{file}'"
    gff = _is_gff(columns)
    first, last = (3, 4) if gff else (1, 2)
    if len(columns) < BED_COLUMNS:
        raise UserError(
            f"{where} is not a {noun}: {shown(columns[0])}. BED has contig, start and end separated by tabs, GFF3 and "
            "GTF have 9 columns."
        )
    start, end = (_position(columns[column], where) for column in (first, last))
    start -= gff
    contig = columns[0]
    if not contig.strip():
        raise UserError(f"{where} has no contig. Fix the line.")
    if start < 0 or max(start, end) > LARGEST_POSITION:
        raise UserError(f"{where} lies outside of the contig '{shown(contig)}'. Correct its positions.")
    if end <= start:
        raise UserError(f"{where} is a {noun} of length {end - start}. Its end must lie behind its start.")
    return IntervalLine(contig, start, end, columns, number)


def _position(text: str, where: str) -> int:
    digits = text.strip()
    if digits.removeprefix("-").isascii() and digits.removeprefix("-").isdigit() and len(digits) <= MOST_DIGITS:
        return int(digits)
    raise UserError(
        f"{where} has '{shown(text, 40)}' where a position should be. BED has contig, start and end separated by tabs, GFF3 "
        "and GTF have 9 columns."
    )


def attribute(line: IntervalLine, *names: str) -> str:
    """Return the first of these attributes (column 9 of GFF3) that an interval has; empty if none."""
    if not line.is_gff:
        return ""
    pairs = (pair.strip().split("=", 1) for pair in line.columns[8].split(";") if "=" in pair)
    values = {name.lower(): value for name, value in pairs}
    return next((values[name.lower()] for name in names if values.get(name.lower())), "")


class Circular:
    """Circular contigs, as GFF3 says (`Is_circular=true` on the line of the whole contig), and their lengths."""

    def __init__(self) -> None:
        self.lengths: dict[str, int] = {}

    def learn(self, line: IntervalLine) -> None:
        """Note a contig if this line says that it is circular."""
        if line.start == 0 and attribute(line, CIRCULAR[0]).lower() == CIRCULAR[1]:
            self.lengths[line.contig] = max(line.end, self.lengths.get(line.contig, 0))

    def passes_origin(self, contig: str, start: int, end: int) -> int:
        """Return the length of the circular contig behind whose last base an interval goes on at its first; else 0."""
        length = self.lengths.get(contig, 0)
        return length if start < length < end <= start + length else 0


def parts(start: int, end: int, circular: int) -> list[tuple[int, int]]:
    """Return an interval as it lies on a contig: one part, or two if it passes the origin of one of this length."""
    return [(start, circular), (0, end - circular)] if circular else [(start, end)]
