"""VCF: plain, gzip- or block-gzip-compressed, as a stream of records, and written again with more in INFO.

htslib reads the header and checks it. Records pass as the text they are: htslib would round their numbers and add to
their header, and nothing but INFO is ours to change.
"""

import gzip
import io
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import pysam

from dnalm.errors import UserError, shown
from dnalm.formats.block_gzip import BlockGzipFile
from dnalm.formats.inputs import READ_ERRORS, UTF_16, damage_told, decompressed, open_input, read_error
from dnalm.formats.text_lines import LONGEST_LINE, refuse_endless_header
from dnalm.temporary_files import filling, temporary_folder

FIXED = ("#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO")
LEAST_COLUMNS = 5  # up to ALT; what lacks behind is filled with dots
INFO = FIXED.index("INFO")
VERSION = "##fileformat=VCFv4.2"
MOST_DIGITS = 18  # of a position
CONTIG = re.compile(r"##contig=<(?:.*?,)?ID=([^,>]+)")
LENGTH = re.compile(r"[<,]length=(\d{1,18})[,>]")


@dataclass(frozen=True, slots=True)
class VcfRecord:
    """A record: its columns as they stand up to INFO, what follows, and the number of its line."""

    columns: list[str]
    samples: str
    line: int

    @property
    def contig(self) -> str:
        """CHROM."""
        return self.columns[0]

    @property
    def position(self) -> int:
        """POS, counted from 0: -1 for a telomere."""
        return int(self.columns[1]) - 1

    @property
    def id(self) -> str:
        """ID."""
        return self.columns[2]

    @property
    def reference(self) -> str:
        """REF as it stands."""
        return self.columns[3]

    @property
    def alternatives(self) -> list[str]:
        """ALT as they stand; a dot where there is none."""
        return self.columns[4].split(",")

    def __len__(self) -> int:
        return sum(map(len, self.columns)) + len(self.samples)


class VcfReader:
    """Iterate over the records of a VCF in their order; close it, or use it in a `with`.

    A header that lacks, or lacks its last line, is made up; lines that end after ALT are filled with dots.

    Attributes:
        header: its lines without line ends; the last names the columns.
        header_made: whether its last line is ours.
        info_fields: names of the INFO fields that the header describes.
        contig_lengths: lengths of contigs, as far as the header gives them.
        filled: records so far that had fewer than 8 columns.
        in_order: whether the records so far are sorted as an index needs them: each contig in one stretch, by position.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._number = 0
        self.filled = 0
        self.in_order = True
        self._seen: set[str] = set()
        self._last = ("", -1)
        self._file: BinaryIO = open_input(path, "VCF file")
        try:
            self._size = max(os.fstat(self._file.fileno()).st_size, 1)
            self._lines = self._open_lines()
            self._next = self._read_header()
        except UserError:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def fraction_read(self) -> float:
        """The share of the file, as stored, that has been read: 0 to 1."""
        return 1.0 if self._file.closed else min(self._file.tell() / self._size, 1.0)

    def __iter__(self) -> Iterator[VcfRecord]:
        line: str | None = self._next
        while line is not None:
            if line:
                yield self._record(line)
            line = self._next_line()

    def _open_lines(self) -> io.TextIOWrapper:
        """Return the decompressed text after looking at its start."""
        name = self.path.name
        # Genotypes of many samples expand a thousandfold: here the lengths of lines and header are bounded.
        buffered = decompressed(self._file, name, bounded=False)
        with damage_told(name, lambda: "its start"):
            start = buffered.peek(64)[:64]
        if not start.strip():
            raise UserError(f"The file '{name}' is empty; choose a VCF file with at least one variant.")
        if start.startswith(b"BCF"):
            raise UserError(f"The file '{name}' is BCF; convert it to VCF first (bcftools view).")
        if start.startswith(UTF_16) or b"\0" in start:
            raise UserError(f"The file '{name}' is binary or UTF-16, and no VCF; save it as plain text.")
        # Bytes that are no UTF-8 pass as they are.
        return io.TextIOWrapper(buffered, encoding="utf-8-sig", errors="surrogateescape", newline="\n")

    def _next_line(self) -> str | None:
        """Return the next line without its end, None behind the last."""
        try:
            line = self._lines.readline(LONGEST_LINE)
        except READ_ERRORS as error:
            raise read_error(error, self.path.name, f"line {self._number}") from error
        self._number += 1
        if "\0" in line or (len(line) == LONGEST_LINE and not line.endswith("\n")):
            what = "has a NUL byte" if "\0" in line else f"is longer than {LONGEST_LINE:,} characters"
            raise UserError(f"Line {self._number} of '{self.path.name}' {what}. The file is damaged, or no VCF.")
        return line.rstrip("\r\n") if line else None

    def _read_header(self) -> str:
        """Read the lines that start with '#', and return the first that does not."""
        name = self.path.name
        lines: list[str] = []
        size = 0
        line = self._next_line()
        while line is not None and (line.startswith("#") or not line):
            size += sys.getsizeof(line)
            refuse_endless_header(size, name, "VCF file")
            lines += [line] if line else []
            line = self._next_line()
        if line is None:
            raise UserError(f"The file '{name}' has no variant; choose a VCF file with at least one.")
        columns = line.split("\t")
        self._check_columns(columns)
        self.header_made = not lines or not lines[-1].startswith("#CHROM")
        if self.header_made:
            samples = [f"sample_{number}" for number in range(1, len(columns) - INFO - 1)]
            lines.append("\t".join([*FIXED, *(["FORMAT"] if len(columns) > INFO + 1 else []), *samples]))
        if not lines[0].startswith("##fileformat="):
            lines.insert(0, VERSION)
        self.header = lines
        self.info_fields = self._checked_header()
        self.contig_lengths = _contig_lengths(lines)
        return line

    def _checked_header(self) -> set[str]:
        """Let htslib read the header, and return the names of its INFO fields."""
        verbosity = pysam.set_verbosity(0)
        try:
            with temporary_folder() as folder, filling(folder):
                # Samples are not needed, and may not be what htslib takes: two of one name, say.
                columns = "\t".join(self.header[-1].split("\t")[: len(FIXED)])
                text = "\n".join([*self.header[:-1], columns]) + "\n"
                path = folder / "header.vcf"
                path.write_bytes(text.encode("utf-8", "surrogateescape"))
                with pysam.VariantFile(str(path)) as found:
                    return set(found.header.info)
        except (OSError, ValueError) as error:
            reason = re.sub(r"b?'[^']*header\.vcf'", f"'{self.path.name}'", str(error))
            raise UserError(
                f"The header of '{self.path.name}' is no VCF header ({shown(reason)}); mend it, or remove it."
            ) from error
        finally:
            pysam.set_verbosity(verbosity)

    def _record(self, line: str) -> VcfRecord:
        columns = line.split("\t", INFO + 1)
        self._check_columns(columns)
        samples = columns[INFO + 1] if len(columns) > INFO + 1 else ""
        if len(columns) <= INFO:
            self.filled += 1
            columns += ["."] * (INFO + 1 - len(columns))
        record = VcfRecord(columns[: INFO + 1], samples, self._number)
        found = 1 + line.count("\t") if samples else len(FIXED)
        if found != 1 + self.header[-1].count("\t"):
            raise UserError(
                f"Line {self._number} of '{self.path.name}' has {found:,} columns, its header "
                f"{1 + self.header[-1].count(chr(9)):,}; mend the line."
            )
        self._watch_order(record)
        return record

    def _check_columns(self, columns: list[str]) -> None:
        where = f"Line {self._number} of '{self.path.name}'"
        if len(columns) < LEAST_COLUMNS:
            raise UserError(f"{where} is no variant; a VCF has CHROM, POS, ID, REF, ALT … separated by tabs.")
        if not (columns[1].isascii() and columns[1].isdigit() and len(columns[1]) <= MOST_DIGITS):
            raise UserError(f"{where} has the position '{shown(columns[1])}', which is no whole number; mend the line.")
        for number, column in ((0, "contig"), (3, "REF"), (4, "ALT")):
            if not columns[number] or columns[number] != columns[number].strip():
                raise UserError(f"{where} has an empty {column}, or one with blanks; mend the line.")

    def _watch_order(self, record: VcfRecord) -> None:
        contig, position = self._last
        if record.contig != contig:
            self.in_order &= record.contig not in self._seen
            self._seen.add(record.contig)
        else:
            self.in_order &= record.position >= position
        self._last = (record.contig, record.position)


def _contig_lengths(header: Sequence[str]) -> dict[str, int]:
    """Return the lengths that lines `##contig=<ID=…,length=…>` give."""
    lengths: dict[str, int] = {}
    for line in header:
        contig, length = CONTIG.match(line), LENGTH.search(line)
        if contig and length:
            lengths[contig[1]] = int(length[1])
    return lengths


@dataclass(frozen=True, slots=True)
class InfoField:
    """A field that is added to INFO; `number` and `kind` as VCF 4.2 has them."""

    id: str
    number: str
    kind: str
    description: str

    @property
    def line(self) -> str:
        """Its line of the header."""
        told = self.description.replace("\\", "/").replace('"', "'")
        return f'##INFO=<ID={self.id},Number={self.number},Type={self.kind},Description="{told}">'


class VcfWriter:
    """Write records with more in INFO, block-gzip-compressed so that tabix can index them; close it.

    Args:
        path: the file.
        header: lines of the reader's header; what is added goes before the last.
        fields: what records get.
        notes: further lines of the header, key → text.
    """

    def __init__(
        self, path: Path, header: Sequence[str], fields: Sequence[InfoField], notes: Mapping[str, str]
    ) -> None:
        self._file = BlockGzipFile(path)
        added = [*(field.line for field in fields), *(f"##{key}={text}" for key, text in notes.items())]
        self._write("\n".join([*header[:-1], *added, header[-1]]))

    def close(self) -> None:
        """Write what is left and close the file."""
        self._file.close()

    def append(self, record: VcfRecord, values: Mapping[str, Sequence[str]]) -> None:
        """Write a record: name of a field → its values; a field without values is left out."""
        said = ";".join(f"{name}={','.join(found)}" for name, found in values.items() if found)
        present = record.columns[INFO]
        info = said if present == "." else ";".join(filter(None, (present, said)))
        columns = [*record.columns[:INFO], info or ".", *([record.samples] if record.samples else [])]
        self._write("\t".join(columns))

    def _write(self, text: str) -> None:
        self._file.write(f"{text}\n".encode("utf-8", "surrogateescape"))


def can_be_indexed(path: Path) -> bool:
    """Say whether tabix can index a block-gzip-compressed VCF: neither one that is not sorted, nor positions above 2^29."""
    verbosity = pysam.set_verbosity(0)
    try:
        with temporary_folder() as folder:
            index = str(folder / "index.tbi")
            pysam.tabix_index(str(path), preset="vcf", index=index, keep_original=True, force=True)
    except OSError:
        return False
    finally:
        pysam.set_verbosity(verbosity)
    return True


def decompress(path: Path) -> None:
    """Write a gzip-compressed file anew, under its name, as plain text."""
    plain = path.with_name(f"{path.name}.plain")
    try:
        with gzip.open(path, "rb") as source, plain.open("wb") as target:
            shutil.copyfileobj(source, target, length=1 << 20)
        plain.replace(path)
    finally:
        plain.unlink(missing_ok=True)
