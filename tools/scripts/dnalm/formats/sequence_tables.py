"""DNA sequences in a column of a table, CSV or tab-separated, plain or gzip-compressed."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from dnalm.errors import UserError, shown
from dnalm.formats.fasta import SequenceRecord, normalised

USUAL_COLUMNS = ("sequence", "text", "seq", "dna")
CHUNK = 10_000  # lines read at once


def is_table(path: Path) -> bool:
    """Say whether a file is text that does not start as FASTA; of a file that cannot be read the FASTA reader tells."""
    try:
        with path.open("rb") as raw:
            compressed = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if compressed else path.open("rb") as file:
            start = file.read(4_096)
    except (OSError, EOFError):
        return False
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    first_line = text.splitlines()[0] if text else b""
    is_text = bool(text) and b"\0" not in start and first_line[:1] not in (b">", b"@")
    return is_text and any(
        name.encode() in first_line.lower().replace(b'"', b"").replace(b"\t", b",").split(b",")
        for name in USUAL_COLUMNS
    )


def read_sequence_table(path: Path) -> Iterator[SequenceRecord]:
    """Yield the sequences of a table's column `sequence`, `text`, `seq` or `dna`, named by their line.

    Raises:
        UserError: the table is damaged, or a value is no DNA.
    """
    number = 1
    try:
        # The separator is a tab or a comma: the first line tells.
        for chunk in pd.read_csv(
            path, sep=None, engine="python", dtype=str, chunksize=CHUNK, compression=_compression(path)
        ):
            column = next(name for name in chunk.columns if str(name).lower() in USUAL_COLUMNS)
            for value in chunk[column]:
                number += 1
                where = f"Line {number} of '{path.name}'"
                if not isinstance(value, str) or not value.strip():
                    raise UserError(f"{where} has no sequence in the column '{column}'; add one or remove the line.")
                yield normalised(f"line_{number}", value.strip(), where)
    except (pd.errors.ParserError, UnicodeDecodeError, EOFError, OSError, StopIteration) as error:
        raise UserError(f"The table '{path.name}' is damaged after line {number} ({shown(error)}); mend it.") from error


def _compression(path: Path) -> str | None:
    with path.open("rb") as file:
        return "gzip" if file.read(2) == b"\x1f\x8b" else None
