"""Narrow tables: tab-separated, a header line, one line a record."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self


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
