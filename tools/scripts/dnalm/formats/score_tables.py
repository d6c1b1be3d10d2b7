"""Scores in tables: one column of numbers, and columns that say which group, label, cluster and pair a row belongs to."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dnalm.errors import UserError, shown
from dnalm.formats.tables import MISSING, Table, by_number, listed

if TYPE_CHECKING:
    import pandas as pd

ROWS = 100_000  # read at once
MOSTLY = 10  # numbers for each text among them: still a column of numbers
# Numbers that say where a record is and how it was read, not how it scored.
NO_SCORES = {
    *("chrom", "chr", "contig", "pos", "position", "start", "end", "id", "ref", "alt", "strand", "name", "status"),
    *("length", "label", "group", "cluster", "gene", "index", "row"),
}
COUNTS = "n_"  # begins the names of columns that count


@dataclass(frozen=True)
class ScoreColumns:
    """Columns by name or, counted from 1, by number; without a score the first one that looks like scores is taken."""

    score: str | None = None
    group: str | None = None
    label: str | None = None
    cluster: str | None = None
    pair: str | None = None


@dataclass(frozen=True)
class Scores:
    """Rows of all tables, in their order.

    Attributes:
        score: name of the column.
        values: one number a row, NaN where there is none.
        groups: names in the order of their first rows, or of the tables.
        group: number of each row's group, -1 where none is given.
        texts: `label`, `cluster` and `pair`, as far as they are asked for: the distinct texts, and each row's number
            among them or -1.
        empty, not_numbers: rows of each group without a score, and with one that is no finite number.
        example: such a score.
    """

    score: str
    values: NDArray[np.float64]
    groups: list[str]
    group: NDArray[np.int64]
    texts: dict[str, tuple[list[str], NDArray[np.int64]]]
    empty: Counter[int]
    not_numbers: Counter[int]
    example: str


def read_scores(paths: Sequence[Path], names: Sequence[str], wanted: ScoreColumns) -> Scores:
    """Read the scores of one table with a column of groups, or of several, each of which is a group.

    Raises:
        UserError: a table cannot be read, lacks a column or a header line, or no column looks like scores.
    """
    tables = [Table(path) for path in paths]
    columns = _resolved(tables[0], wanted)
    assert columns["score"] is not None
    parts: dict[str, list[NDArray[Any]]] = {"values": [], "group": []}
    codes = {role: _Codes() for role in ("label", "cluster", "pair") if columns[role]}
    groups = _Codes() if columns["group"] else _Codes(names)
    empty: Counter[int] = Counter()
    not_numbers: Counter[int] = Counter()
    example = ""
    for number, table in enumerate(tables):
        _check_columns(table, columns)
        for chunk in table.frames(ROWS):
            texts = chunk[columns["score"]]
            values, missing, wrong = _numbers(texts)
            group = groups.of(chunk[columns["group"]]) if columns["group"] else np.full(len(chunk), number)
            empty.update(group[missing].tolist())
            not_numbers.update(group[wrong].tolist())
            if wrong.any() and not example:
                example = shown(texts[wrong].iloc[0])
            parts["values"].append(values)
            parts["group"].append(group)
            for role, seen in codes.items():
                parts.setdefault(role, []).append(seen.of(chunk[columns[role]]))
    joined = {role: np.concatenate([np.empty(0, dtype=np.int64), *arrays]) for role, arrays in parts.items()}
    return Scores(
        columns["score"],
        joined["values"].astype(np.float64),
        groups.names,
        joined["group"],
        {role: (seen.names, joined.get(role, np.empty(0, dtype=np.int64))) for role, seen in codes.items()},
        empty,
        not_numbers,
        example,
    )


class _Codes:
    """Distinct texts in the order of their first occurrence, and the number of each."""

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.names = list(names)
        self._numbers = {name: number for number, name in enumerate(self.names)}

    def of(self, column: "pd.Series[str]") -> NDArray[np.int64]:
        """Return the number of each text, -1 where it stands for no value."""
        import pandas as pd

        places, distinct = pd.factorize(column)
        for name in distinct:
            if name not in self._numbers and name not in MISSING:
                self._numbers[name] = len(self.names)
                self.names.append(name)
        return np.array([self._numbers.get(name, -1) for name in distinct], dtype=np.int64)[places]


def _numbers(texts: "pd.Series[str]") -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return numbers, which texts stand for none, and which are no finite number."""
    import pandas as pd

    missing = texts.isin(MISSING).to_numpy()
    values = pd.to_numeric(texts.where(~missing), errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    values = np.where(np.isfinite(values), values, np.nan)
    return values, missing, np.isnan(values) & ~missing


def _resolved(table: Table, wanted: ScoreColumns) -> dict[str, str | None]:
    """Return the names of the columns in the first table."""
    header = table.columns
    columns: dict[str, str | None] = {}
    for role in ("score", "group", "label", "cluster", "pair"):
        given = getattr(wanted, role)
        columns[role] = None if given is None else by_number(given, header) or given
    if columns["score"] is None:
        columns["score"] = _looks_like_scores(table, {name for name in columns.values() if name})
    return columns


def _check_columns(table: Table, columns: dict[str, str | None]) -> None:
    """Raise UserError unless a table has every column."""
    header, path = table.columns, table.path
    for role, name in columns.items():
        if name is not None and name not in header:
            raise UserError(
                f"There is no column '{shown(name)}' ({role}) in the table '{path.name}'; it has {listed(header)}."
            )
    if _is_number(columns["score"] or ""):
        raise UserError(
            f"The first line of '{path.name}' has the number '{columns['score']}' where the scores' name should be; "
            "give the table a header line."
        )


def _looks_like_scores(table: Table, used: set[str]) -> str:
    header, path = table.columns, table.path
    candidates = [
        name
        for name in header
        if name not in used and name.lower() not in NO_SCORES and not name.lower().startswith(COUNTS)
    ]
    found: list[str] = []
    for chunk in table.frames(ROWS):
        for name in candidates:
            values, _, wrong = _numbers(chunk[name])
            if np.isfinite(values).sum() > MOSTLY * wrong.sum():
                found.append(name)
        break
    if not found:
        raise UserError(f"No column of the table '{path.name}' looks like scores; name it: it has {listed(header)}.")
    others = f"; not compared: {listed(found[1:])}" if len(found) > 1 else ""
    print(f"Scores: the column '{found[0]}'{others}")
    return found[0]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.lower() not in ("nan", "inf", "infinity")
