"""Embeddings of shards as one file, AnnData h5ad or Parquet, some rows at once."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from dnalm.errors import UserError, shown
from dnalm.formats.embeddings_file import MOST_ROWS, H5adWriter
from dnalm.formats.isolated_hdf5 import Hdf5Dataset, Hdf5Group, IsolatedHdf5
from dnalm.formats.isolated_parquet import IsolatedParquet, ParquetFile, Values
from dnalm.formats.isolated_reader import Subject
from dnalm.formats.shards import LOWEST, Merged, RepeatedIds, joined_provenance, named

PARTS = {"X", "obs", "var", "uns"}  # of AnnData; others must be empty
AS_WRITTEN = "merge embeddings as DNA-LM embed wrote them, before other steps"
MERGED_KINDS = ("number", "boolean", "text")  # of a Parquet file's columns
REPEATED = "duplicate_ids"  # the count that no sum of shards gives


class _H5adShard:
    """A shard: names of its columns, the index first, and of its dimensions, its rows, and what was run."""

    def __init__(self, reader: IsolatedHdf5, path: Path, number: int) -> None:
        self.where = named(number, path)
        self._file = reader.open(path, Subject(self.where, "is a damaged HDF5 file"))
        self._root = self._file.root
        parts = [self._root.get(name) for name in ("obs", "X", "var", "uns")]
        obs, x, var, uns = parts
        if (
            not isinstance(obs, Hdf5Group)
            or not isinstance(var, Hdf5Group)
            or not isinstance(uns, Hdf5Group)
            or x is None
        ):
            self._raise_other()
        index, others = obs.attribute("_index"), obs.attribute("column-order")
        of_dimensions = var.get(str(var.attribute("_index")))
        if not isinstance(index, str) or not isinstance(others, list) or not isinstance(of_dimensions, Hdf5Dataset):
            self._raise_other()
        names = [index, *map(str, others)]
        columns = {name: obs.get(name) for name in names}
        self._refuse_other_content(columns, x)
        if len(columns) < len(names) or None in columns.values() or of_dimensions.kind != "text":
            self._raise_other()
        self._columns = {name: column for name, column in columns.items() if isinstance(column, Hdf5Dataset)}
        assert isinstance(x, Hdf5Dataset)
        self._x, self.rows = x, len(x)
        self.dimensions = of_dimensions.texts()
        if any(column.shape != (self.rows,) for column in self._columns.values()) or x.shape[1:] != (
            len(self.dimensions),
        ):
            raise self._file.damaged()
        self.kinds = {name: "text" if one.kind == "text" else str(one.dtype) for name, one in self._columns.items()}
        note = uns.get("dnalm")
        self.provenance = _provenance(note.text(), self.where) if isinstance(note, Hdf5Dataset) else {}

    def _refuse_other_content(self, columns: Mapping[str, Any], x: Any) -> None:
        """Raise UserError if there is more than embeddings, or they are not float32."""
        items = {name: self._root.get(name) for name in self._root.members if name not in PARTS}
        what = [f"'{shown(name)}'" for name, one in items.items() if not isinstance(one, Hdf5Group) or one.members]
        for name, one in columns.items():
            if isinstance(one, Hdf5Group):
                what.append(f"the categories of '{shown(name)}'")
            elif one is not None and one.kind == "other":
                what.append(f"the column '{shown(name)}' of {shown(one.type_name)}")
        if (
            not isinstance(x, Hdf5Dataset)
            or x.kind != "number"
            or len(x.shape) != 2
            or np.dtype(x.type_name) != np.float32
        ):
            what.append("a matrix X that is no float32")
        if what:
            raise UserError(f"{self.where} has {what[0]}; {AS_WRITTEN}.")

    def _raise_other(self) -> NoReturn:
        raise UserError(f"{self.where} is HDF5, but no AnnData as DNA-LM embed writes it.")

    def close(self) -> None:
        self._file.close()

    def read(self, start: int, end: int) -> tuple[dict[str, list[Any]], NDArray[np.float32]]:
        """Return columns and vectors of rows."""
        end = min(end, self.rows)
        columns = {
            name: column.texts(start, end) if column.kind == "text" else column[start:end].tolist()
            for name, column in self._columns.items()
        }
        return columns, self._x.numbers(start, end)


def _provenance(text: str, where: str) -> dict[str, Any]:
    """Return what a shard says of its run.

    Raises:
        UserError: it is not what DNA-LM writes.
    """
    try:
        said = json.loads(text, parse_constant=_refuse_constant)
        model, counts = said.get("model"), said.get("counts", {})
        lowest = model.get(LOWEST, 0.0) if model is not None else 0.0
        known = isinstance(lowest, float | int) and all(type(count) is int for count in counts.values())
        known = known and isinstance(counts, dict) and isinstance(model, dict | None)
        json.dumps(said)  # of a deep one, as it is written
    except (ValueError, AttributeError, TypeError, RecursionError):
        known = False
    if not known:
        raise UserError(f"{where} says of its run what DNA-LM does not write. Make the shard again.")
    return said


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def merge_h5ad(paths: Sequence[Path], output: Path) -> Merged:
    """Write one AnnData of all rows; `uns['dnalm']` says what was run, with counts of everything.

    Raises:
        UserError: a shard is no embeddings file, or shards differ in columns, dimensions, model or options.
    """
    with IsolatedHdf5() as reader:
        return _merged_h5ad(reader, paths, output)


def _merged_h5ad(reader: IsolatedHdf5, paths: Sequence[Path], output: Path) -> Merged:
    heads = [_head(reader, path, number) for number, path in enumerate(paths, start=1)]
    for number, head in enumerate(heads, start=1):
        for name in ("columns", "dimensions"):
            if head[name] != heads[0][name]:
                raise UserError(_differing(name, number, paths, heads[0][name], head[name]))
    provenance, notes = _joined([head["provenance"] for head in heads], paths)
    repeated = RepeatedIds()
    with H5adWriter(output) as writer:
        writer.dimensions = heads[0]["dimensions"]
        for columns, vectors in _regrouped(_rows(reader, paths)):
            _count_repeated(repeated, columns)
            writer.append(columns, vectors)
        if REPEATED in provenance.get("counts", {}):
            provenance["counts"][REPEATED] = repeated.count
        if any(head["rows"] for head in heads):
            writer.finish(provenance)
    return Merged([head["rows"] for head in heads], "rows", notes)


def _head(reader: IsolatedHdf5, path: Path, number: int) -> dict[str, Any]:
    """Return what a shard is; it is closed again, so that there may be thousands."""
    shard = _H5adShard(reader, path, number)
    shard.close()
    return {
        "columns": list(shard.kinds.items()),
        "dimensions": shard.dimensions,
        "rows": shard.rows,
        "provenance": shard.provenance,
    }


def _rows(reader: IsolatedHdf5, paths: Sequence[Path]) -> Iterator[tuple[dict[str, list[Any]], NDArray[np.float32]]]:
    for number, path in enumerate(paths, start=1):
        shard = _H5adShard(reader, path, number)
        for start in range(0, shard.rows, MOST_ROWS):
            yield shard.read(start, start + MOST_ROWS)
        shard.close()


def _regrouped(
    parts: Iterator[tuple[dict[str, list[Any]], NDArray[np.float32]]],
) -> Iterator[tuple[dict[str, list[Any]], NDArray[np.float32]]]:
    """Yield as many rows at once wherever shards meet: a file's bytes do not tell how it was split."""
    held: dict[str, list[Any]] = {}
    vectors: NDArray[np.float32] | None = None
    for columns, more in parts:
        held = {name: held.get(name, []) + values for name, values in columns.items()}
        vectors = more if vectors is None else np.concatenate([vectors, more])
        while len(vectors) >= MOST_ROWS:
            yield {name: values[:MOST_ROWS] for name, values in held.items()}, vectors[:MOST_ROWS]
            held, vectors = {name: values[MOST_ROWS:] for name, values in held.items()}, vectors[MOST_ROWS:]
    if vectors is not None and len(vectors):
        yield held, vectors


def merge_parquet(paths: Sequence[Path], output: Path) -> Merged:
    """Write one Parquet file of all rows, in groups of equal size; as `merge_h5ad`, its metadata say what was run."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with IsolatedParquet() as reader:
        columns, provenances, records = [], [], []
        for number, path in enumerate(paths, start=1):
            shard = _open_parquet(reader, path, number)
            columns.append(shard.columns)
            provenances.append(_provenance(shard.note, named(number, path)) if shard.note is not None else {})
            records.append(shard.rows)
            shard.close()
            if columns[-1] != columns[0]:
                first, this = ([(one.name, one.type_name) for one in those] for those in (columns[0], columns[-1]))
                raise UserError(_differing("columns", number, paths, first, this))
        provenance, notes = _joined(provenances, paths)
        repeated = RepeatedIds()
        schema = pa.schema([(one.name, pa.type_for_alias(one.type_name), one.nullable) for one in columns[0]])
        dictionary = [field.name for field in schema if not pa.types.is_floating(field.type)]
        with (
            output.open("wb") as disk,
            pq.ParquetWriter(disk, schema, use_dictionary=dictionary, compression="zstd") as writer,
        ):
            for table in _row_groups(reader, paths, records, schema):
                _count_repeated(
                    repeated, {x: table.column(x).to_pylist() for x in ("id", "token") if x in table.column_names}
                )
                writer.write_table(table)
            if REPEATED in provenance.get("counts", {}):
                provenance["counts"][REPEATED] = repeated.count
            if provenance:
                writer.add_key_value_metadata({"dnalm": json.dumps(provenance, sort_keys=True, allow_nan=False)})
    return Merged(records, "rows", notes)


def _open_parquet(reader: IsolatedParquet, path: Path, number: int) -> ParquetFile:
    """Open a shard whose columns are such as DNA-LM embed writes."""
    where = named(number, path)
    shard = reader.open(path, Subject(where, "is a damaged Parquet file"))
    for column in shard.columns:
        if column.kind not in MERGED_KINDS:
            raise UserError(
                f"{where} has the column '{shown(column.name)}' of {shown(column.type_name)}; {AS_WRITTEN}."
            )
    return shard


def _row_groups(reader: IsolatedParquet, paths: Sequence[Path], records: Sequence[int], schema: Any) -> Iterator[Any]:
    """Yield tables of as many rows wherever shards meet."""
    import pyarrow as pa

    held = schema.empty_table()
    for number, path in enumerate(paths, start=1):
        shard, rows = _open_parquet(reader, path, number), 0
        shard.refuse_size(shard.rows * len(shard.columns))
        for _, values in shard.batches(MOST_ROWS, [], [], schema.names):
            try:
                arrays = [_arrow(value, field.type) for value, field in zip(values, schema, strict=True)]
                more = pa.Table.from_arrays(arrays, schema=schema)
            except (pa.ArrowException, TypeError) as error:
                raise shard.damaged() from error
            rows += more.num_rows
            held = pa.concat_tables([held, more])
            while held.num_rows >= MOST_ROWS:
                yield held.slice(0, MOST_ROWS).combine_chunks()
                held = held.slice(MOST_ROWS)
        if rows != records[number - 1]:
            raise shard.damaged()
        shard.close()
    if held.num_rows:
        yield held.combine_chunks()


def _arrow(column: Values, kind: Any) -> Any:
    """Return values as an array of Arrow."""
    import pyarrow as pa

    if isinstance(column.values, list):
        return pa.array(column.objects, type=kind)
    return pa.array(column.values, type=kind, mask=column.missing)


def _count_repeated(repeated: RepeatedIds, columns: Mapping[str, list[Any]]) -> None:
    """Count a block's records: its rows, or where rows are tokens the first of each."""
    ids = columns.get("id", [])
    tokens = columns.get("token")
    repeated.add(ids if tokens is None else [name for name, token in zip(ids, tokens, strict=True) if token == 0])


def _joined(provenances: Sequence[dict[str, Any]], paths: Sequence[Path]) -> tuple[dict[str, Any], list[str]]:
    if not any(provenances):
        return {}, ["No shard says what was run."]
    for number, (provenance, path) in enumerate(zip(provenances, paths, strict=True), start=1):
        if not provenance:
            raise UserError(f"{named(number, path)} does not say what was run, as others do; merge shards of one run.")
    names = [named(number, path) for number, path in enumerate(paths, start=1)]
    try:
        return joined_provenance(provenances, names)
    except (AttributeError, KeyError, TypeError) as error:  # of a part that is a text here and a mapping there
        raise UserError("The shards say of their runs what DNA-LM does not write. Make them again.") from error


def _differing(what: str, number: int, paths: Sequence[Path], first: list[Any], this: list[Any]) -> str:
    """Say which column or dimension a shard has and the first has not, or the other way round."""
    only_here = next((name for name in this if name not in first), None)
    only_there = next((name for name in first if name not in this), None)
    here = f"has {shown(only_here)}" if only_here is not None else f"lacks {shown(only_there)}"
    if only_here is only_there is None:
        here = "has them in another order"
    one, other = named(number, paths[number - 1]), named(1, paths[0])
    return f"{one} has other {what} than {other}: it {here}; merge shards of one run."
