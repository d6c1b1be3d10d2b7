"""Narrow tables: tab-separated, a header line, one line a record."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from dnalm.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

LONGEST_LINE = 1 << 25  # characters of a header; a file without line ends is no table
LISTED_COLUMNS = 20  # in a sentence
NOT_GIVEN = {"", "NA", "N/A", "NaN", "nan", "None", "null"}  # texts that stand for no value


class TableWriter:
    """Append columns chunk by chunk; use it in a `with`."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")
        # Galaxy and most readers know no quotes in a table; a value never holds a tab.
        self._table = csv.writer(
            self._file, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None
        )
        self._columns: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def append(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Add records: column name → one value a record; the first call writes the header."""
        if not self._columns:
            self._columns = list(columns)
            self._table.writerow(self._columns)
        self._table.writerows(zip(*(columns[name] for name in self._columns), strict=True))


def read_header(path: Path) -> list[str]:
    """Return the column names of a tab-separated table.

    A leading '#' is dropped, and a header with one name fewer than the first row (as R writes it) is given 'id' first.

    Raises:
        UserError: the file is no text, or no table with a header line of distinct names.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            header, row = (file.readline(LONGEST_LINE).rstrip("\n").split("\t") for _ in range(2))
    except UnicodeDecodeError as error:
        raise UserError(f"The file '{path.name}' is binary, and no table; give a tab-separated text.") from error
    if header == [""]:
        raise UserError(
            f"The file '{path.name}' does not start with a header line; give a tab-separated table with one."
        )
    if "\0" in "".join(header):
        raise UserError(f"The file '{path.name}' is binary, and no table; give a tab-separated text.")
    header[0] = header[0].removeprefix("#")
    names = ["id", *header] if len(row) == len(header) + 1 else header
    if len(row) > len(names):
        raise UserError(
            f"The first row of the table '{path.name}' has more values than the header has names; mend one."
        )
    if len(names) == 1:
        raise UserError(f"The table '{path.name}' has one column only; give a table with tabs between its columns.")
    names = [name.strip() or f"column {number}" for number, name in enumerate(names, start=1)]
    if repeated := next((name for number, name in enumerate(names) if name in names[:number]), None):
        raise UserError(f"The table '{path.name}' has two columns called '{repeated}'; give each its own name.")
    return names


def by_number(text: str, names: Sequence[str]) -> str | None:
    """Return the name of the column with this number, counted from 1 as Galaxy's forms do; None if there is none."""
    number = int(text) if text.isascii() and text.isdigit() else 0
    return names[number - 1] if 1 <= number <= len(names) else None


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence lists them, the first twenty."""
    more = f" and {len(names) - LISTED_COLUMNS:,} more" if len(names) > LISTED_COLUMNS else ""
    return (", ".join(f"'{name}'" for name in names[:LISTED_COLUMNS]) or "none") + more


def read_table(path: Path, names: Sequence[str], text: Sequence[str], rows: int) -> "Iterator[pd.DataFrame]":
    """Yield the rows below the header, `rows` at once; columns of `text` as they stand, others as numbers if they are.

    Raises:
        UserError: a row has more values than there are names, or the file is no text.
    """
    import pandas as pd

    try:
        with pd.read_csv(
            path,
            sep="\t",
            names=list(names),
            header=None,
            skiprows=1,
            index_col=False,
            dtype=dict.fromkeys(text, str),
            na_filter=False,
            quoting=csv.QUOTE_NONE,
            chunksize=rows,
            low_memory=False,
            encoding="utf-8",
        ) as chunks:
            yield from chunks
    except pd.errors.EmptyDataError:
        return
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        reason = str(error).strip().removeprefix("Error tokenizing data. C error: ")
        raise UserError(f"The table '{path.name}' cannot be read: {reason}.") from error
