"""DNA sequences in a column of a table, CSV or tab-separated, plain or gzip-compressed."""

import contextlib
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
    table = DelimitedTable(path)
    column = table.column_of_sequences()
    for number, values in table:
        yield record_of(table, number, values[column], f"line_{number}", keep_case)


def record_of(table: "DelimitedTable", number: int, bases: str, name: str, keep_case: bool = False) -> SequenceRecord:
    """Return the record of a line; raise UserError if it has no sequence or one that is no DNA."""
    where = f"Line {number} of '{table.path.name}'"
    if not bases.strip():
        column = table.columns[table.column_of_sequences()]
        raise UserError(f"{where} has no sequence in the column '{column}'; add one or remove the line.")
    return normalised(name, bases.strip(), where, keep_case)


class DelimitedTable:
    """Iterate over the lines of a table that are not blank, each with its number in the file, as text.

    Args:
        path: the table; its first line names the columns, and has a tab if tabs separate them.

    Raises:
        UserError: the table is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._told(1):
            self._first_line = _first_line(path)
            self._compressed = _is_compressed(path)
        if not self._first_line.strip():
            raise UserError(
                f"The table '{path.name}' has nothing in its first line, where its columns are named; mend it."
            )
        with self._told(1):
            self.columns = [str(name).strip() for name in self._open(nrows=0).columns]

    def column_of_sequences(self) -> int:
        """Return the number of the first column with a usual name for sequences; raise UserError if there is none."""
        column = _column(self._first_line)
        if column is None:
            raise UserError(
                f"The file '{self.path.name}' is no FASTA, and as a table its first line names no column "
                f"{', '.join(USUAL_COLUMNS[:-1])} or {USUAL_COLUMNS[-1]}; name the column of the sequences so."
            )
        return column

    def __iter__(self) -> Iterator[tuple[int, tuple[str, ...]]]:
        number = 1
        chunks = self._open(chunksize=CHUNK)
        while True:
            with self._told(number):
                chunk = next(chunks, None)
            if chunk is None:
                return
            for values in chunk.itertuples(index=False, name=None):
                number += 1
                # Lines that are too short lack their last values.
                texts = tuple(value if isinstance(value, str) else "" for value in values)
                if any(text.strip() for text in texts):
                    yield number, texts

    def _open(self, **how: Any) -> Any:
        import pandas as pd

        return pd.read_csv(
            self.path,
            sep="\t" if b"\t" in self._first_line else ",",
            dtype=str,
            # A sequence NA is two bases, and a line without letters counts as a line.
            na_filter=False,
            skip_blank_lines=False,
            index_col=False,
            compression="gzip" if self._compressed else None,
            encoding="utf-8-sig",
            **how,
        )

    @contextlib.contextmanager
    def _told(self, number: int) -> Iterator[None]:
        """Say of an error behind which line it was."""
        import pandas as pd

        try:
            yield
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeError, EOFError, OSError, zlib.error) as error:
            raise UserError(
                f"The table '{self.path.name}' is damaged after line {number} ({shown(error)}); mend it."
            ) from error


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
