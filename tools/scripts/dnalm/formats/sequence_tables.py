"""DNA sequences in a column of a table, CSV or tab-separated, plain or gzip-compressed."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from dnalm.errors import UserError, shown
from dnalm.formats.fasta import SequenceRecord, normalised

USUAL_COLUMNS = ("sequence", "text", "seq", "dna")
CHUNK = 10_000  # lines read at once
MAGIC = b"\x1f\x8b"  # of gzip


def is_table(path: Path) -> bool:
    """Say whether a file is text with columns, and no FASTA; of a file that cannot be read the FASTA reader tells."""
    try:
        first_line = _first_line(path)
    except (OSError, EOFError, zlib.error):
        return False
    if not first_line or b"\0" in first_line or first_line[:1] in (b">", b"@"):
        return False
    return b"\t" in first_line or b"," in first_line or _column(first_line) is not None


def read_sequence_table(path: Path, keep_case: bool = False) -> Iterator[SequenceRecord]:
    """Yield the sequences of a table's column `sequence`, `text`, `seq` or `dna`, named by their line.

    Args:
        path: the table; its first line names the columns, and has a tab if tabs separate them.
        keep_case: whether records are to tell which of their letters were lower case.

    Raises:
        UserError: no column has such a name, the table is damaged, or a value is no DNA.
    """
    number = 1
    try:
        first_line = _first_line(path)
        column = _column(first_line)
        if column is None:
            raise UserError(
                f"The file '{path.name}' is no FASTA, and as a table its first line names no column "
                f"{', '.join(USUAL_COLUMNS[:-1])} or {USUAL_COLUMNS[-1]}; name the column of the sequences so."
            )
        with pd.read_csv(
            path,
            sep="\t" if b"\t" in first_line else ",",
            dtype=str,
            # A sequence NA is two bases, and a line without letters counts as a line.
            na_filter=False,
            skip_blank_lines=False,
            index_col=False,
            chunksize=CHUNK,
            compression="gzip" if _is_compressed(path) else None,
            encoding="utf-8-sig",
        ) as chunks:
            for chunk in chunks:
                for values in chunk.itertuples(index=False, name=None):
                    number += 1
                    if not any(isinstance(value, str) and value.strip() for value in values):
                        continue
                    where = f"Line {number} of '{path.name}'"
                    value = values[column]
                    if not isinstance(value, str) or not value.strip():
                        name = chunk.columns[column]
                        raise UserError(f"{where} has no sequence in the column '{name}'; add one or remove the line.")
                    yield normalised(f"line_{number}", value.strip(), where, keep_case)
    except (
        pd.errors.ParserError,
        pd.errors.EmptyDataError,
        UnicodeDecodeError,
        EOFError,
        OSError,
        zlib.error,
    ) as error:
        raise UserError(f"The table '{path.name}' is damaged after line {number} ({shown(error)}); mend it.") from error


def _first_line(path: Path) -> bytes:
    """Return the first line, or what of it lies in the first 64 kB, without what marks UTF-8."""
    with gzip.open(path, "rb") if _is_compressed(path) else path.open("rb") as file:
        return file.readline(1 << 16).removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")


def _column(first_line: bytes) -> int | None:
    """Return the number of the first column that has a usual name."""
    names = first_line.lower().split(b"\t" if b"\t" in first_line else b",")
    found = (number for number, name in enumerate(names) if name.strip(b' "').decode("latin-1") in USUAL_COLUMNS)
    return next(found, None)


def _is_compressed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == MAGIC
