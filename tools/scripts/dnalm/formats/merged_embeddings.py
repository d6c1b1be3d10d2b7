"""Embeddings of shards as one file, AnnData h5ad or Parquet, some rows at once."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from dnalm.errors import UserError, shown
from dnalm.formats.embeddings_file import MOST_ROWS, H5adWriter
from dnalm.formats.shards import Merged, RepeatedIds, joined_provenance, named

PARTS = {"X", "obs", "var", "uns"}  # of AnnData; others must be empty
REPEATED = "duplicate_ids"  # the count that no sum of shards gives


class _H5adShard:
    """A shard: names of its columns, the index first, and of its dimensions, its rows, and what was run."""

    def __init__(self, path: Path, number: int) -> None:
        self.where = named(number, path)
        try:
            self._file = h5py.File(path, "r")
        except OSError as error:
            raise UserError(f"{self.where} is a damaged HDF5 file; make or upload it again.") from error
        try:
            self._read_head()
        except (KeyError, AttributeError, ValueError, TypeError) as error:
            self._file.close()
            raise UserError(f"{self.where} is HDF5, but no AnnData as DNA-LM embed writes it.") from error
        except UserError:
            self._file.close()
            raise

    def _read_head(self) -> None:
        obs, x = self._file["obs"], self._file["X"]
        self.columns = [str(obs.attrs["_index"]), *(str(name) for name in obs.attrs["column-order"])]
        var = self._file["var"]
        self.dimensions = var[var.attrs["_index"]].asstr()[:].tolist()
        full = [name for name in self._file if name not in PARTS and len(self._file[name])]
        odd = [name for name in self.columns if not isinstance(obs[name], h5py.Dataset)]
        if full or odd or not isinstance(x, h5py.Dataset) or x.dtype != np.float32 or x.ndim != 2:
            what = (
                f"'{full[0]}'" if full else f"the categories of '{odd[0]}'" if odd else "a matrix X that is no float32"
            )
            raise UserError(
                f"{self.where} has {what}; merge embeddings as DNA-LM embed wrote them, before other steps."
            )
        self.kinds = {name: _kind(obs[name]) for name in self.columns}
        self.rows = len(x)
        uns = self._file["uns"]
        self.provenance: dict[str, Any] = json.loads(uns["dnalm"].asstr()[()]) if "dnalm" in uns else {}

    def close(self) -> None:
        self._file.close()

    def read(self, start: int, end: int) -> tuple[dict[str, list[Any]], NDArray[np.float32]]:
        """Return columns and vectors of rows."""
        obs = self._file["obs"]
        try:
            columns = {
                name: (obs[name].asstr() if self.kinds[name] == "text" else obs[name])[start:end].tolist()
                for name in self.columns
            }
            return columns, self._file["X"][start:end]
        except OSError as error:
            raise UserError(f"{self.where} is damaged after row {start:,}; make or upload it again.") from error


def _kind(dataset: Any) -> str:
    return "text" if h5py.check_string_dtype(dataset.dtype) else str(dataset.dtype)


def merge_h5ad(paths: Sequence[Path], output: Path) -> Merged:
    """Write one AnnData of all rows; `uns['dnalm']` says what was run, with counts of everything.

    Raises:
        UserError: a shard is no embeddings file, or shards differ in columns, dimensions, model or options.
    """
    heads = [_head(path, number) for number, path in enumerate(paths, start=1)]
    for number, head in enumerate(heads, start=1):
        for name in ("columns", "dimensions"):
            if head[name] != heads[0][name]:
                raise UserError(_differing(name, number, paths, heads[0][name], head[name]))
    provenance, notes = _joined([head["provenance"] for head in heads], paths)
    repeated = RepeatedIds()
    with H5adWriter(output) as writer:
        writer.dimensions = heads[0]["dimensions"]
        for columns, vectors in _regrouped(_rows(paths)):
            _count_repeated(repeated, columns)
            writer.append(columns, vectors)
        if REPEATED in provenance.get("counts", {}):
            provenance["counts"][REPEATED] = repeated.count
        if any(head["rows"] for head in heads):
            writer.finish(provenance)
    return Merged([head["rows"] for head in heads], "rows", notes)


def _head(path: Path, number: int) -> dict[str, Any]:
    """Return what a shard is; it is closed again, so that there may be thousands."""
    shard = _H5adShard(path, number)
    shard.close()
    return {
        "columns": list(shard.kinds.items()),
        "dimensions": shard.dimensions,
        "rows": shard.rows,
        "provenance": shard.provenance,
    }


def _rows(paths: Sequence[Path]) -> Iterator[tuple[dict[str, list[Any]], NDArray[np.float32]]]:
    for number, path in enumerate(paths, start=1):
        with ExitStack() as stack:
            shard = _H5adShard(path, number)
            stack.callback(shard.close)
            for start in range(0, shard.rows, MOST_ROWS):
                yield shard.read(start, start + MOST_ROWS)


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

    schemas, provenances, records = [], [], []
    for number, path in enumerate(paths, start=1):
        try:
            with pq.ParquetFile(path) as shard:
                schemas.append(shard.schema_arrow.remove_metadata())
                said = (shard.metadata.metadata or {}).get(b"dnalm")
                provenances.append(json.loads(said) if said else {})
                records.append(shard.metadata.num_rows)
        except (OSError, pa.ArrowException, ValueError) as error:
            raise UserError(f"{named(number, path)} is a damaged Parquet file; make or upload it again.") from error
        if not schemas[-1].equals(schemas[0]):
            first, this = ([(field.name, str(field.type)) for field in schema] for schema in (schemas[0], schemas[-1]))
            raise UserError(_differing("columns", number, paths, first, this))
    provenance, notes = _joined(provenances, paths)
    repeated = RepeatedIds()
    numbers = {field.name for field in schemas[0] if pa.types.is_floating(field.type)}
    dictionary = [name for name in schemas[0].names if name not in numbers]
    with (
        output.open("wb") as disk,
        pq.ParquetWriter(disk, schemas[0], use_dictionary=dictionary, compression="zstd") as writer,
    ):
        for table in _row_groups(paths, schemas[0]):
            _count_repeated(
                repeated, {x: table.column(x).to_pylist() for x in ("id", "token") if x in table.column_names}
            )
            writer.write_table(table)
        if REPEATED in provenance.get("counts", {}):
            provenance["counts"][REPEATED] = repeated.count
        if provenance:
            writer.add_key_value_metadata({"dnalm": json.dumps(provenance, sort_keys=True, allow_nan=False)})
    return Merged(records, "rows", notes)


def _row_groups(paths: Sequence[Path], schema: Any) -> Iterator[Any]:
    """Yield tables of as many rows wherever shards meet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    held = schema.empty_table()
    for number, path in enumerate(paths, start=1):
        try:
            with pq.ParquetFile(path) as shard:
                for batch in shard.iter_batches(batch_size=MOST_ROWS, use_threads=False):
                    held = pa.concat_tables([held, pa.Table.from_batches([batch]).replace_schema_metadata()])
                    while held.num_rows >= MOST_ROWS:
                        yield held.slice(0, MOST_ROWS).combine_chunks()
                        held = held.slice(MOST_ROWS)
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"{named(number, path)} is a damaged Parquet file; make or upload it again.") from error
    if held.num_rows:
        yield held.combine_chunks()


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
    return joined_provenance(provenances, [named(number, path) for number, path in enumerate(paths, start=1)])


def _differing(what: str, number: int, paths: Sequence[Path], first: list[Any], this: list[Any]) -> str:
    """Say which column or dimension a shard has and the first has not, or the other way round."""
    only_here = next((name for name in this if name not in first), None)
    only_there = next((name for name in first if name not in this), None)
    here = f"has {shown(only_here)}" if only_here is not None else f"lacks {shown(only_there)}"
    if only_here is only_there is None:
        here = "has them in another order"
    one, other = named(number, paths[number - 1]), named(1, paths[0])
    return f"{one} has other {what} than {other}: it {here}; merge shards of one run."
