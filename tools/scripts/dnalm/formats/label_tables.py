"""What a table says of sequences: their labels, group, side of a split, and place on a genome, each in a column."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dnalm.errors import UserError, shown
from dnalm.formats.fasta import SequenceRecord
from dnalm.formats.sequence_tables import record_of, required_column
from dnalm.formats.tables import Table

ID_COLUMNS = ("id", "name", "sequence_id", "seqid", "record")
LABEL_COLUMNS = ("label", "labels", "class", "target", "value", "y")
MOST_DIGITS = 12  # of a position
PLACE_COLUMNS = (("contig", "chrom", "chr", "#chrom"), ("start", "chromstart"), ("end", "chromend"))


@dataclass(frozen=True)
class ColumnNames:
    """Which columns are asked for: those of labels (None: found by their usual names), of groups and of sides."""

    labels: tuple[str, ...] | None = None
    group: str | None = None
    side: str | None = None


@dataclass(frozen=True, slots=True)
class Annotation:
    """What one line says.

    Attributes:
        id: name of the sequence it is about; empty where the table has the sequences themselves and no names.
        line: its number in the file.
        labels: as they stand, one a column asked for.
        group, side: as they stand; None where they were not asked for.
        place: contig, first and past-the-end base, where the table has such columns.
    """

    id: str
    line: int
    labels: tuple[str, ...]
    group: str | None
    side: str | None
    place: tuple[str, int, int] | None


class LabelTable:
    """Iterate over the annotations of a table.

    Attributes:
        path: the file.
        label_columns: names of the columns of labels.
        id_column: name of the column of names; None where there is none.

    Args:
        path: the file.
        names: which columns are asked for.
        with_sequences: whether the table has a column of sequences, and may lack names.

    Raises:
        UserError: a column is missing or told twice, or the table is damaged.
    """

    def __init__(self, path: Path, names: ColumnNames, *, with_sequences: bool) -> None:
        self.path, self._names, self._table = path, names, Table(path, least_columns=1)
        columns = self._table.columns
        self._sequences = required_column(self._table) if with_sequences else None
        self._lower = [column.lower() for column in columns]
        self._id = _first(self._lower, ID_COLUMNS)
        taken = {self._id, self._sequences, *(self._numbers([names.group, names.side]))}
        if names.labels:
            self._labels = [number for number in self._numbers(names.labels) if number is not None]
        else:
            self._labels = [self._usual_label_column(taken)]
        if self._id is None and not with_sequences:
            self._id = next((number for number in range(len(columns)) if number not in {*taken, *self._labels}), None)
            if self._id is None:
                raise UserError(f"The table '{path.name}' has no column of names beside its labels; add a column id.")
        self._group, self._side = self._numbers([names.group, names.side])
        places = [_first(self._lower, usual) for usual in PLACE_COLUMNS]
        self._places = [number for number in places if number is not None] if None not in places else []
        self.label_columns = tuple(columns[number] for number in self._labels)
        self.id_column = None if self._id is None else columns[self._id]

    def __iter__(self) -> Iterator[Annotation]:
        for number, values in self._table:
            yield self._annotation(number, values)

    def records(self) -> Iterator[tuple[SequenceRecord, Annotation]]:
        """Yield the sequences of a table that has them with their annotations; unnamed ones get their line."""
        assert self._sequences is not None
        for number, values in self._table:
            annotation = self._annotation(number, values)
            name = annotation.id or f"line_{number}"
            yield record_of(self._table, self._sequences, number, values, name), annotation

    def _annotation(self, number: int, values: Sequence[str]) -> Annotation:
        def of(column: int | None) -> str | None:
            return None if column is None else " ".join(values[column].split())

        return Annotation(
            of(self._id) or "",
            number,
            tuple(values[column] for column in self._labels),
            of(self._group),
            of(self._side),
            self._place(number, values),
        )

    def _place(self, number: int, values: Sequence[str]) -> tuple[str, int, int] | None:
        if not self._places:
            return None
        contig, start, end = (values[column].strip() for column in self._places)
        if not (contig or start or end):
            return None
        if all(text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS for text in (start, end)):
            return contig, int(start), int(end)
        raise UserError(
            f"Line {number} of '{self.path.name}' has the place '{shown(contig)}:{shown(start)}-{shown(end)}', which is no "
            "contig with two whole numbers; correct it."
        )

    def _numbers(self, names: Sequence[str | None]) -> list[int | None]:
        """Return the numbers of columns; raise UserError if there is none of a name, None standing for no column."""
        found: list[int | None] = []
        for name in names:
            if name is None:
                found.append(None)
                continue
            matching = [number for number, column in enumerate(self._table.columns) if column == name.strip()]
            if len(matching) != 1:
                what = "two columns" if matching else "no column"
                raise UserError(f"The table '{self.path.name}' has {what} called '{shown(name)}'; {self._has()}.")
            found += matching
        return found

    def _usual_label_column(self, taken: set[int | None]) -> int:
        usual = _first(self._lower, LABEL_COLUMNS)
        if usual is not None and usual not in taken:
            return usual
        # Of two columns, one of names or sequences, the other is meant.
        others = [number for number in range(len(self._lower)) if number not in taken]
        if self._id is None and self._sequences is None:
            others = others[1:]
        if len(others) == 1:
            return others[0]
        raise UserError(
            f"The table '{self.path.name}' has no column called {', '.join(LABEL_COLUMNS[:-1])} or {LABEL_COLUMNS[-1]}; "
            f"name the column of the labels: {self._has()}."
        )

    def _has(self) -> str:
        columns = self._table.columns
        said = ", ".join(f"'{shown(column, 30)}'" for column in columns[:8])
        return f"it has {said}" + (f" and {len(columns) - 8} more" if len(columns) > 8 else "")


def _first(columns: Sequence[str], usual: Sequence[str]) -> int | None:
    return next((columns.index(name) for name in usual if name in columns), None)
