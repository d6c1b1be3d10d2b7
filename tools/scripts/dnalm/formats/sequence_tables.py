"""DNA sequences in a column of a table, CSV or tab-separated, plain or gzip-compressed."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from dnalm.errors import UserError
from dnalm.formats.fasta import SequenceRecord, normalised
from dnalm.formats.inputs import READ_ERRORS, decompressed, open_input
from dnalm.formats.tables import QUOTE, Table

USUAL_COLUMNS = ("sequence", "text", "seq", "dna")
FIRST_LINE = 1 << 16  # bytes of it that are looked at


def is_table(path: Path) -> bool:
    """Say whether a file is text with columns, and no FASTA; of a file that cannot be read the FASTA reader tells."""
    try:
        with open_input(path) as file, decompressed(file, path.name) as content:
            first_line = content.readline(FIRST_LINE).removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")
    except (*READ_ERRORS, UserError):
        return False
    if not first_line or b"\0" in first_line or first_line[:1] in (b">", b"@"):
        return False
    words = first_line.decode("latin-1").split(QUOTE)
    return b"\t" in first_line or b"," in first_line or column_of_sequences("".join(words).split(";")) is not None


def column_of_sequences(columns: Sequence[str]) -> int | None:
    """Return the number of the first column with a usual name for sequences; None if there is none."""
    return next((number for number, name in enumerate(columns) if name.strip().lower() in USUAL_COLUMNS), None)


def read_sequence_table(path: Path, keep_case: bool = False) -> Iterator[SequenceRecord]:
    """Yield the sequences of a table's column `sequence`, `text`, `seq` or `dna`, named by their line.

    Args:
        path: the table; its first line names the columns, and has a tab if tabs separate them.
        keep_case: whether records are to tell which of their letters were lower case.

    Raises:
        UserError: no column has such a name, the table is damaged, or a value is no DNA.
    """
    table = Table(path, least_columns=1)
    column = required_column(table)
    for number, values in table:
        yield record_of(table, column, number, values, f"line_{number}", keep_case)


def required_column(table: Table) -> int:
    """Return the number of the column of sequences; raise UserError if there is none."""
    column = column_of_sequences(table.columns)
    if column is None:
        raise UserError(
            f"The file '{table.path.name}' is no FASTA, and as a table its first line names no column "
            f"{', '.join(USUAL_COLUMNS[:-1])} or {USUAL_COLUMNS[-1]}; name the column of the sequences so."
        )
    return column


def record_of(
    table: Table, column: int, number: int, values: Sequence[str], name: str, keep_case: bool = False
) -> SequenceRecord:
    """Return the record of a line; raise UserError if it has no sequence or one that is no DNA."""
    where = f"Line {number} of '{table.path.name}'"
    if not values[column]:
        raise UserError(f"{where} has no sequence in the column '{table.columns[column]}'; add one or remove the line.")
    return normalised(name, values[column], where, keep_case)
