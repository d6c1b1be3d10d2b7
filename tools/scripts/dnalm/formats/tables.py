"""Tables of text: read by one set of rules, whatever they are read for, and written.

A table has a line of names and below it one record per line. Tabs separate its cells, or in a table without a tab in its
first line commas or semicolons (CSV). The rules:

- Cells are taken literally, without blanks around them. A table whose first line is in quotes, as R and spreadsheets write
  it, has its cells unquoted, and so has CSV; a cell never goes on in the next line.
- Lines before the names that begin with `##`, and blank lines, are passed over. A `#` before the first name is dropped.
- A first line with one name fewer than the records have cells is what R writes with row names: these are called `id`, or
  `row_names` beside a column of that name. If the cell too many is empty, it is a separator at the end of each line.
- A line that ends early has empty cells at its end, but in a table with row names is an error, as is one cell too many.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from dnalm.errors import UserError, shown
from dnalm.formats.text_lines import read_lines

if TYPE_CHECKING:
    import pandas as pd

SEPARATORS = ("\t", ",", ";")
QUOTE = '"'
LISTED_COLUMNS = 20  # in a sentence
COMMENT = b"##"  # begins lines before the names
# Texts that stand for no value, in every tool: those of pandas (`read_csv`, na_values), `na`, and VCF's dot.
MISSING = frozenset(
    {
        *(
            "",
            ".",
            "na",
            "NA",
            "N/A",
            "n/a",
            "#N/A",
            "#NA",
            "#N/A N/A",
            "<NA>",
            "NaN",
            "nan",
            "-NaN",
            "-nan",
            "NULL",
            "null",
        ),
        *("None", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
    }
)
MOST_LETTERS = 1 << 30  # of a cell; the csv module's own limit is 131,072
MOST_DIGITS = 10  # of a column's number
BETWEEN = "\x1f"  # separates cells that may hold any separator; the ASCII unit separator


class TableWriter:
    """Append columns chunk by chunk; use it in a `with`. Bytes that are no UTF-8 are written as they were read."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", errors="surrogateescape", newline="")
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


class Table:
    """A table of text, plain or gzip-compressed; iterate over its records as often as is needed.

    Args:
        path: the file.
        least_columns: how many it must have.

    Attributes:
        path: the file.
        columns: names, each of its own.

    Raises:
        UserError: the file cannot be read, is no text, or has no line of distinct names.
    """

    def __init__(self, path: Path, least_columns: int = 2) -> None:
        self.path = path
        lines = self._lines()
        first = next(lines, None)
        if first is None:
            raise UserError(f"The table '{path.name}' is empty. Give a table whose first line names its columns.")
        number, line = first
        self._header = number
        self._separator = next((separator for separator in SEPARATORS if separator in line), "\t")
        self._quoted = self._separator != "\t" or _is_quoted(line.split("\t"))
        names = self._cells(line.removeprefix("#"), number)
        record = next(((number, line) for number, line in lines if line.strip()), None)
        cells = self._cells(record[1], record[0]) if record else names
        self._ends_in_separator = len(cells) == len(names) + 1 and not cells[-1]
        self._row_names = len(cells) == len(names) + 1 and bool(cells[-1])
        if self._row_names:
            names = ["row_names" if "id" in names else "id", *names]
        elif len(names) > 1 and not names[-1] and len(cells) < len(names):
            names = names[:-1]  # a separator ends the first line alone
        elif len(names) > 1 and not names[-1] and not cells[-1]:
            names, self._ends_in_separator = names[:-1], True
        if len(names) < least_columns:
            raise UserError(f"The table '{path.name}' has one column only. Give a table with tabs between its columns.")
        self.columns = [name or f"column {number}" for number, name in enumerate(names, start=1)]
        self._refuse_repeated()

    def _refuse_repeated(self) -> None:
        seen: set[str] = set()
        for name in self.columns:
            if name in seen:
                raise UserError(
                    f"The table '{self.path.name}' has two columns called '{shown(name)}'. Give each a name of its own."
                )
            seen.add(name)

    def _lines(self) -> Iterator[tuple[int, str]]:
        """Yield lines with their numbers, from the one with the names on."""
        before = True
        for number, line in enumerate(read_lines(self.path, "table (tab-separated text or CSV)"), start=1):
            if before and (line.startswith(COMMENT) or not line.strip()):
                continue
            before = False
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                raise UserError(
                    f"Line {number} of '{self.path.name}' is not UTF-8 text. Save the table as UTF-8."
                ) from error
            if BETWEEN in text:
                raise UserError(f"Line {number} of '{self.path.name}' has a control character. Remove it.")
            yield number, text

    def _cells(self, line: str, number: int) -> list[str]:
        """Return the cells of a line."""
        if not self._quoted:
            return [cell.strip() for cell in line.split("\t")]
        csv.field_size_limit(MOST_LETTERS)
        try:
            cells = next(csv.reader([line], delimiter=self._separator, skipinitialspace=True, strict=True), [""])
        except csv.Error as error:
            raise UserError(
                f"Line {number} of '{self.path.name}' has a cell whose quotes do not match, or that goes on in the next "
                "line. Correct it, or save the table tab-separated without quotes."
            ) from error
        return [cell.strip() for cell in cells]

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the number of each line that is not blank, and its cells, one per column.

        Raises:
            UserError: a line has more cells than there are columns, or is no text.
        """
        for number, line in self._lines():
            if number == self._header or not line.strip():
                continue
            cells = self._cells(line, number)
            if any(cells):
                yield number, self._fitted(cells, number)

    def _fitted(self, cells: list[str], number: int) -> list[str]:
        """Return as many cells as there are columns."""
        width = len(self.columns)
        if len(cells) < width and not self._row_names:
            return cells + [""] * (width - len(cells))
        if len(cells) != width:
            if len(cells) != width + 1 or cells[-1] or not self._ends_in_separator:
                raise UserError(
                    f"Line {number} of '{self.path.name}' has {len(cells):,} cells, but the table {width:,} columns. "
                    "Correct the line."
                )
            return cells[:-1]
        return cells

    def frames(self, rows: int, text: Sequence[str] | None = None) -> "Iterator[pd.DataFrame]":
        """Yield the records, at most `rows` at once.

        Args:
            rows: of a frame.
            text: columns that stay text; others become numbers where all of a frame are. None for all.

        Raises:
            UserError: as when iterating.
        """
        import pandas as pd

        kinds = dict.fromkeys(self.columns if text is None else text, str)
        records = self._joined()
        while block := list(islice(records, rows)):
            yield pd.read_csv(
                io.StringIO("\n".join([*block, ""])),
                sep=BETWEEN if self._quoted else "\t",
                names=self.columns,
                header=None,
                index_col=False,
                dtype=kinds,
                na_filter=False,
                quoting=csv.QUOTE_NONE,
                low_memory=False,
                skip_blank_lines=False,
            )

    def _joined(self) -> Iterator[str]:
        """Yield the records as lines, whose cells are as many as there are columns."""
        if self._quoted:
            yield from (BETWEEN.join(cells) for _, cells in self)
            return
        tabs = len(self.columns) - 1
        for number, line in self._lines():
            if number == self._header or not line.strip():
                continue
            # Most lines are as they should be, and splitting thousands of numbers takes its time.
            if line.count("\t") == tabs and " " not in line and not line.startswith("\t"):
                yield line
            elif any(cells := self._cells(line, number)):
                yield "\t".join(self._fitted(cells, number))


def by_number(text: str, names: Sequence[str]) -> str | None:
    """Return the name of the column with this number, counted from 1 as Galaxy's forms do; None if there is none."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) < MOST_DIGITS else 0
    return names[number - 1] if 1 <= number <= len(names) else None


def _is_quoted(cells: Sequence[str]) -> bool:
    """Say whether every name is in quotes."""
    stripped = [cell.strip() for cell in cells]
    return all(len(cell) >= 2 and cell.startswith(QUOTE) and cell.endswith(QUOTE) for cell in stripped if cell)


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence lists them, the first twenty."""
    more = f" and {len(names) - LISTED_COLUMNS:,} more" if len(names) > LISTED_COLUMNS else ""
    return (", ".join(f"'{name}'" for name in names[:LISTED_COLUMNS]) or "none") + more
