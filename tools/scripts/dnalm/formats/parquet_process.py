"""Child process that reads users' Parquet files (see `isolated_parquet` for the parent's side)."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dnalm.formats.isolated_reader import Answer, Refused, name_for_library, serve, texts_as_arrays

LARGEST_NOTE = 16 << 20  # bytes of what DNA-LM says in the file of its run

_files: dict[int, pq.ParquetFile] = {}
_batches: dict[int, Iterator[Any]] = {}


def open_file(path: str) -> Answer:
    """Return a number for the file, its rows, its columns (name, kind, type, may be null), and DNA-LM's note."""
    file = pq.ParquetFile(name_for_library(path), memory_map=False)
    number = max(_files, default=0) + 1
    columns = [[field.name, _kind(field.type), str(field.type)[:200], field.nullable] for field in file.schema_arrow]
    note = (file.metadata.metadata or {}).get(b"dnalm")
    if note is not None and len(note) > LARGEST_NOTE:
        raise Refused("says more of its run than DNA-LM does. Make or upload it again.")
    _files[number] = file
    return Answer([number, file.metadata.num_rows, columns, None if note is None else note.decode()])


def _kind(kind: Any) -> str:
    types = pa.types
    if types.is_integer(kind) or types.is_floating(kind):
        return "number"
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        of = kind.value_type
        return "list" if types.is_integer(of) or types.is_floating(of) else "nested"
    if types.is_nested(kind):
        return "nested"
    kinds = {"boolean": types.is_boolean, "text": _is_text, "category": types.is_dictionary}
    return next((name for name, matches in kinds.items() if matches(kind)), "value")


def _is_text(kind: Any) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def close_file(number: int) -> Answer:
    """Close a file."""
    _batches.pop(number, None)
    _files.pop(number).close()
    return Answer()


def begin(number: int, columns: list[str], rows: int) -> Answer:
    """Begin to read columns, so many rows at once."""
    _batches[number] = _files[number].iter_batches(batch_size=rows, columns=columns, use_threads=False)
    return Answer()


def following(number: int, dimensions: list[str], texts: list[str], others: list[str]) -> Answer:
    """Return the next rows, or None: how many, which of the columns have how many arrays, and these.

    First come the dimensions as one array of float32 (rows, dimensions), then `texts`, columns of any type as texts, then
    the others: numbers, booleans and texts as they are, the rest as texts. A column has an array of numbers or two of
    texts, and one more, true where nothing is, if that is so anywhere.
    """
    batch = next(_batches[number], None)
    if batch is None:
        return Answer()
    arrays: list[NDArray[Any]] = []
    if dimensions:
        block = np.empty((batch.num_rows, len(dimensions)), dtype=np.float32)
        with np.errstate(over="ignore"):  # what is too large becomes infinite and is refused by name
            for place, name in enumerate(dimensions):
                block[:, place] = batch.column(name).to_numpy(zero_copy_only=False)
        arrays.append(block)
    counts = []
    for columns, as_text in ((texts, True), (others, False)):
        for name in columns:
            of_column = _encoded(batch.column(name), as_text)
            counts.append(len(of_column))
            arrays += of_column
    return Answer([batch.num_rows, counts], arrays)


def _encoded(column: Any, as_text: bool) -> list[NDArray[Any]]:
    missing = [column.is_null().to_numpy(zero_copy_only=False)] if column.null_count else []
    if _is_text(column.type):
        return [*_texts(column), *missing]
    if not as_text and _kind(column.type) in ("number", "boolean"):
        values = column.fill_null(False if pa.types.is_boolean(column.type) else 0) if missing else column
        return [values.to_numpy(zero_copy_only=False), *missing]
    return [*texts_as_arrays([str(value) for value in column.to_pylist()]), *missing]


def _texts(column: Any) -> list[NDArray[Any]]:
    """Return the lengths and bytes of texts, as `texts_as_arrays` does, without making each."""
    column = column.fill_null("").cast(pa.large_string()) if len(column) else pa.array([], pa.large_string())
    column.validate(full=True)
    _, offsets, data = column.buffers()
    ends = np.frombuffer(offsets, dtype=np.int64)[column.offset : column.offset + len(column) + 1]
    whole = np.frombuffer(data or b"", dtype=np.uint8)
    return [np.diff(ends), whole[ends[0] : ends[-1]] if len(column) else whole[:0]]


def lists(number: int, name: str) -> Answer:
    """Return the next rows of a column of lists, or None: how many, the lengths (-1: no list), and all values, float32."""
    batch = next(_batches[number], None)
    if batch is None:
        return Answer()
    column = batch.column(name)
    lengths = pc.list_value_length(column).fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    with np.errstate(over="ignore"):
        values = pc.list_flatten(column).to_numpy(zero_copy_only=False).astype(np.float32)
    return Answer(batch.num_rows, [lengths, values])


OPERATIONS: Mapping[str, Any] = {
    "open": open_file,
    "close": close_file,
    "begin": begin,
    "following": following,
    "lists": lists,
}

if __name__ == "__main__":
    serve(OPERATIONS)
