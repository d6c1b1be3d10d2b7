"""Embeddings of any tool: AnnData h5ad, Parquet, a tab-separated table or NumPy npz, told apart by their content."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dnalm.errors import UserError, shown
from dnalm.formats.anndata_tables import is_table
from dnalm.formats.anndata_tables import read_table as read_anndata_table
from dnalm.formats.inputs import open_input
from dnalm.formats.isolated_hdf5 import LONGEST, Hdf5Dataset, Hdf5Group, IsolatedHdf5
from dnalm.formats.isolated_parquet import IsolatedParquet, ParquetColumn, ParquetFile, Values
from dnalm.formats.isolated_reader import ReaderProcess, Subject, memory_limit, texts_of_arrays
from dnalm.formats.tables import Table

DIMENSION = re.compile(r"dimension_\d+")
NUMBER = re.compile(r"-?\d+\.\d*(e[+-]\d+)?", re.IGNORECASE)  # pandas names columns by whole numbers, nobody by others
LIST_COLUMN = "embedding"  # of a Parquet file: the whole vector in one column
FEW_ROWS = 100  # of a table, from which its numeric columns are known
ROWS = 10_000  # of a table, read at once
SPARSE_VALUES = 1 << 22  # of a sparse matrix, at once, and zeros between them
PARQUET_VALUES, MOST_PARQUET_ROWS = 1 << 23, 1 << 16  # read at once
MOST_LISTS = 4_096  # rows of lists, read at once
PARQUET_KINDS = ("number", "boolean", "text", "category", "list", "nested", "value")
NESTED = ("list", "nested")
OF_CELLS = "X_scGPT"  # in obsm: what dnalm_embed_cells adds to a file of counts
ANSWER = "give an embeddings file (h5ad, parquet, tabular or npz)"


@dataclass(frozen=True)
class Embeddings:
    """One vector a record, with what else the file says of it.

    Attributes:
        origin: the file's format and where in it the vectors stood, for people.
        ids: names of the records, in the order of the file; they may repeat.
        vectors: shape (records, dimensions), all finite.
        columns: every other column of one value a record.
        left_out: records without an embedding, all of it NaN, as of cells that a model could not read.
    """

    origin: str
    ids: list[str]
    vectors: NDArray[np.float32]
    columns: pd.DataFrame
    left_out: int = 0


def read_embeddings(path: Path, matrix: str = "auto") -> Embeddings:
    """Read a whole file of embeddings; its name and suffix do not matter.

    Args:
        path: the file.
        matrix: of AnnData, `X` or a key of obsm; `auto` is what `dnalm_embed_cells` added, or else X.

    Raises:
        UserError: the file holds no embeddings, or a value in them is not a finite number.
    """
    with open_input(path) as file:
        start = file.read(8)
    if not start:
        raise UserError(f"The file '{path.name}' is empty; {ANSWER}.")
    for magic, read in READERS.items():  # noqa: B007 (it is used behind the loop)
        if start.startswith(magic):
            break
    if read is not _read_h5ad and matrix != "auto":
        raise UserError(
            f"The file '{path.name}' is no AnnData, so that it has no matrix '{matrix}' to choose; leave it out."
        )
    embeddings = _read_h5ad(path, matrix) if read is _read_h5ad else read(path)
    if not len(embeddings.ids):
        raise UserError(f"The file '{path.name}' has no record.")
    if not embeddings.vectors.shape[1]:
        raise UserError(f"The file '{path.name}' has no numeric column; {ANSWER}.")
    _refuse_not_finite(embeddings, path)
    return embeddings


def _refuse_not_finite(embeddings: Embeddings, path: Path) -> None:
    for first in range(0, len(embeddings.ids), ROWS):
        finite = np.isfinite(embeddings.vectors[first : first + ROWS])
        if not finite.all():
            row, dimension = np.argwhere(~finite)[0]
            value = embeddings.vectors[first + row, dimension]
            said = "NaN" if np.isnan(value) else value
            raise UserError(
                f"{_record(first + row, embeddings.ids[first + row], path)} has the value {said} in "
                f"dimension {dimension}; leave the record out, or embed it again."
            )


def _record(row: int, name: str, path: Path) -> str:
    return f"Record {row + 1:,} ('{name}') of '{path.name}'"


def _read_h5ad(path: Path, matrix: str = "auto") -> Embeddings:
    """Read obs and one matrix alone: an AnnData file may hold much else."""
    with IsolatedHdf5() as reader:
        root = reader.open(path, Subject(f"The file '{path.name}'", "is a damaged or unknown h5ad file")).root
        place = _place(root, matrix, path)
        item, table = root.get(place), root.get("obs")
        if not isinstance(table, Hdf5Group) or not is_table(table):
            raise UserError(f"The file '{path.name}' is AnnData without a table obs; {ANSWER}.")
        obs = read_anndata_table(table)
        shape = _shape(item)
        if len(shape) != 2 or shape[0] != len(obs):
            raise UserError(f"The file '{path.name}' is AnnData without a matrix {place} that fits obs; {ANSWER}.")
        dense = _dense(item, shape, f"The matrix {place} of '{path.name}'")
    there = np.ones(len(dense), dtype=np.bool_) if place == "X" else ~np.isnan(dense).all(axis=1)
    if len(dense) and not there.any():
        raise UserError(f"Every row of the matrix {place} of '{path.name}' is NaN; {ANSWER}.")
    obs, dense = (obs, dense) if there.all() else (obs[there], dense[there])
    ids = obs.index.tolist()
    return Embeddings(f"h5ad, matrix {place}", ids, dense, obs.reset_index(drop=True), int((~there).sum()))


def _place(root: Hdf5Group, matrix: str, path: Path) -> str:
    """Return where in an AnnData file the embeddings are."""
    obsm = root.get("obsm")
    keys = list(obsm.members) if isinstance(obsm, Hdf5Group) else []
    if matrix in keys or (matrix == "auto" and OF_CELLS in keys):
        return f"obsm/{OF_CELLS if matrix == 'auto' else matrix}"
    if matrix not in ("auto", "X"):
        there = ", ".join(f"'{shown(key)}'" for key in keys) or "none"
        raise UserError(f"The file '{path.name}' has no '{matrix}' in obsm; there are: {there}.")
    if not {"X", "obs"} <= root.members.keys():
        raise UserError(f"The file '{path.name}' is HDF5, but no AnnData with X and obs; {ANSWER}.")
    return "X"


def _shape(item: Hdf5Dataset | Hdf5Group | None) -> tuple[int, ...]:
    """Return the shape of a matrix: dense, sparse, or a table."""
    if isinstance(item, Hdf5Dataset):
        return item.shape
    if is_table(item):
        assert isinstance(item, Hdf5Group)
        columns = item.list_attribute("column-order")
        return (len(item.dataset(str(columns[0]))) if columns else 0, len(columns))
    if isinstance(item, Hdf5Group):
        shape = item.attribute("shape")
        if isinstance(shape, list) and all(type(length) is int and 0 <= length <= LONGEST for length in shape):
            return tuple(shape)
    return ()


def _dense(item: Any, shape: tuple[int, ...], where: str) -> NDArray[np.float32]:
    """Read a matrix, `where` in a sentence."""
    if isinstance(item, Hdf5Dataset):
        _refuse_no_numbers(item, where)
        return item.numbers(0, shape[0], np.float32)
    if is_table(item):
        table = read_anndata_table(item)
        if not all(isinstance(kind, np.dtype) and kind.kind in "iuf" for kind in table.dtypes) or table.shape != shape:
            raise UserError(f"{where} does not hold numbers in every column; {ANSWER}.")
        return _float32(table.to_numpy())
    return _of_sparse(item, shape, where)


def _refuse_no_numbers(dataset: Hdf5Dataset, where: str) -> None:
    if dataset.kind != "number" or dataset.dtype.kind not in "iuf":
        what = "text" if dataset.kind == "text" else shown(dataset.type_name)
        raise UserError(f"{where} does not hold numbers but {what}; {ANSWER}.")


def _of_sparse(group: Hdf5Group, shape: tuple[int, ...], where: str) -> NDArray[np.float32]:
    """Read a sparse matrix by blocks of its lines; every index is checked before it is used as one."""
    from scipy.sparse import csr_array

    by_row = group.attribute("encoding-type") == "csr_matrix"
    if not by_row and group.attribute("encoding-type") != "csc_matrix":
        raise group.file.damaged()
    lines, width = shape if by_row else shape[::-1]
    data, indices, indptr = (group.dataset(name) for name in ("data", "indices", "indptr"))
    _refuse_no_numbers(data, where)
    sizes = [part.shape for part in (data, indices, indptr)]
    if sizes != [(len(data),), (len(data),), (lines + 1,)] or {indices.dtype.kind, indptr.dtype.kind} - set("iu"):
        raise group.file.damaged()
    if 4 * lines * width > memory_limit():
        raise UserError(
            f"{where} is sparse, and as embeddings of {shape[0]:,} records of {shape[1]:,} dimensions it does not fit into "
            f"the memory; {ANSWER}."
        )
    ends = indptr[:].astype(np.int64)
    if ends[0] != 0 or (np.diff(ends) < 0).any() or ends[-1] > len(data):
        raise group.file.damaged()
    dense = np.zeros(shape, dtype=np.float32)
    first = 0
    while first < lines:
        last = max(first + 1, int(np.searchsorted(ends, ends[first] + SPARSE_VALUES, side="right")) - 1)
        last = min(last, lines, first + max(1, SPARSE_VALUES // max(1, width)))
        inside = indices[ends[first] : ends[last]].astype(np.int64)
        if len(inside) and not 0 <= inside.min() <= inside.max() < width:
            raise group.file.damaged()
        values = data[ends[first] : ends[last]]
        block = csr_array((values, inside, ends[first : last + 1] - ends[first]), shape=(last - first, width))
        (dense if by_row else dense.T)[first:last] = _float32(block.toarray())
        first = last
    return dense


def _float32(values: Any) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what is too large becomes infinite and is refused by name
        return np.ascontiguousarray(values, dtype=np.float32)


def _read_parquet(path: Path) -> Embeddings:
    with IsolatedParquet() as reader:
        file = reader.open(path, Subject(f"The file '{path.name}'", "is a damaged Parquet file"))
        columns = {column.name: column for column in file.columns}
        if not columns:
            raise UserError(f"The file '{path.name}' has no column; {ANSWER}.")
        identifier = _identifier(list(columns), path)
        _refuse_kind(columns.pop(identifier), ("nested", "list"), "ids", path)
        in_lists = columns.get(LIST_COLUMN)
        if in_lists is not None and in_lists.kind in ("list", "nested"):
            _refuse_kind(in_lists, ("nested",), "numbers", path)
            dimensions = [LIST_COLUMN]
        else:
            dimensions = _dimensions(list(columns), lambda name: columns[name].kind == "number")
            for name in dimensions:
                _refuse_kind(columns[name], [kind for kind in PARQUET_KINDS if kind != "number"], "numbers", path)
        others = [name for name, column in columns.items() if name not in dimensions and column.kind not in NESTED]
        numbers = [] if dimensions == [LIST_COLUMN] and in_lists is not None and in_lists.kind == "list" else dimensions
        ids, vectors, parts = _rows_of_parquet(file, identifier, numbers, others)
        if dimensions != numbers:
            vectors = _from_lists(file, ids, path)
    table = pd.DataFrame({name: _series(columns[name], parts[number]) for number, name in enumerate(others)})
    return Embeddings(f"Parquet, {_span(dimensions)}", ids, vectors, table)


def _refuse_kind(column: ParquetColumn, kinds: Sequence[str], wanted: str, path: Path) -> None:
    if column.kind in kinds:
        raise UserError(
            f"The column '{shown(column.name)}' of '{path.name}' holds {shown(column.type_name)}, not {wanted}; {ANSWER}."
        )


def _rows_of_parquet(
    file: ParquetFile, identifier: str, dimensions: list[str], others: list[str]
) -> tuple[list[str], NDArray[np.float32], list[list[Values]]]:
    """Return ids, vectors, and of each other column its values, part by part."""
    file.refuse_size(file.rows * (1 + len(dimensions) + len(others)))
    ids: list[str] = []
    vectors = np.empty((file.rows, len(dimensions)), dtype=np.float32)
    parts: list[list[Values]] = [[] for _ in others]
    for block, (names, *values) in file.batches(_rows_at_once(len(dimensions)), dimensions, [identifier], others):
        if len(ids) + len(block) > file.rows:
            raise file.damaged()
        vectors[len(ids) : len(ids) + len(block)] = block
        ids += map(str, names.objects)
        for part, more in zip(parts, values, strict=True):
            part.append(more)
    if len(ids) != file.rows:
        raise file.damaged()
    return ids, vectors, parts


def _rows_at_once(dimensions: int) -> int:
    return max(1, min(MOST_PARQUET_ROWS, PARQUET_VALUES // max(1, dimensions)))


def _series(column: ParquetColumn, parts: list[Values]) -> "pd.Series[Any]":
    """Return a column as pandas reads it: whole numbers with gaps as float64, categories as such."""
    arrays = [part.values for part in parts if isinstance(part.values, np.ndarray)]
    if arrays and not any(part.missing is not None for part in parts):
        return pd.Series(np.concatenate(arrays))
    if arrays and column.kind == "number":
        numbers = np.concatenate([array.astype(np.float64) for array in arrays])
        masks = [np.zeros(len(part.values), np.bool_) if part.missing is None else part.missing for part in parts]
        numbers[np.concatenate(masks)] = np.nan
        return pd.Series(numbers)
    values = pd.Series([value for part in parts for value in part.objects], dtype=object)
    return values.astype("category") if column.kind == "category" else values


def _from_lists(file: ParquetFile, ids: list[str], path: Path) -> NDArray[np.float32]:
    """Return the vectors of a column of lists, shape (records, dimensions)."""
    dimensions, row, vectors = 0, 0, np.empty((0, 0), dtype=np.float32)
    for lengths, values in file.lists(MOST_LISTS, LIST_COLUMN):
        if not row and len(lengths):
            dimensions = max(0, int(lengths[0]))
            file.refuse_size(file.rows * dimensions)
            vectors = np.empty((file.rows, dimensions), dtype=np.float32)
        if row + len(lengths) > len(ids):
            raise file.damaged()
        for length in lengths.tolist():
            if length != dimensions or not length:
                expected = f"{dimensions:,} dimensions, as the first record" if dimensions else "an embedding"
                raise UserError(f"{_record(row, ids[row], path)} does not have {expected}.")
            row += 1
        vectors[row - len(lengths) : row] = values.reshape(len(lengths), -1)
    if row != len(ids):
        raise file.damaged()
    return vectors


def _read_npz(path: Path) -> Embeddings:
    subject = Subject(f"The file '{path.name}'", "is damaged, or not an npz file")
    with ReaderProcess("dnalm.formats.npz_process") as reader:
        arrays = reader.ask(subject, "open", str(path.absolute()), ["ids", "embeddings", "offsets"]).value
        if "offsets" in arrays:
            raise UserError(
                f"The file '{path.name}' has one vector per token. Embed with a pooling, for one vector per sequence."
            )
        (id_shape, id_type, id_kind, _, at_once), (shape, dtype, kind, by_column, lines) = (
            arrays.get(name, ([], "", "", False, 1)) for name in ("ids", "embeddings")
        )
        if len(arrays) < 2 or len(shape) != 2 or id_shape != shape[:1]:
            raise UserError(f"The file '{path.name}' is no npz with the arrays 'ids' and 'embeddings'; {ANSWER}.")
        for name, held, known, wanted in (("embeddings", kind, "iuf", "numbers"), ("ids", id_kind, "USiuf", "ids")):
            if held not in known:
                what = shown(dtype if name == "embeddings" else id_type)
                raise UserError(f"The array '{name}' of '{path.name}' holds {what}, not {wanted}; {ANSWER}.")
        vectors = np.empty(shape, dtype=np.float32)
        by_line = vectors.T if by_column else vectors
        for first in range(0, len(by_line), lines):
            part = by_line[first : first + lines]
            found = reader.ask(subject, "numbers", "embeddings", len(part)).arrays
            if len(found) != 1 or found[0].shape != part.shape:
                raise UserError(subject.sentence(subject.damaged))
            part[:] = found[0]
        ids: list[str] = []
        try:
            for first in range(0, shape[0], at_once):
                count = min(at_once, shape[0] - first)
                ids += texts_of_arrays(reader.ask(subject, "texts", "ids", count).arrays, count)
        except ValueError as error:
            raise UserError(subject.sentence(subject.damaged)) from error
    return Embeddings("npz, array 'embeddings'", ids, vectors, pd.DataFrame())


def _read_tabular(path: Path) -> Embeddings:
    table = Table(path)
    names = table.columns
    identifier = _identifier(names, path)
    if any(NUMBER.fullmatch(name) for name in names):
        raise UserError(f"The first line of '{path.name}' has numbers; give a table that starts with names of columns.")
    first = next(table.frames(FEW_ROWS), pd.DataFrame(columns=names))
    dimensions = _dimensions([name for name in names if name != identifier], lambda name: _mostly_numbers(first[name]))
    others = [name for name in names if name not in {identifier, *dimensions}]
    ids: list[str] = []
    vectors, columns = [np.empty((0, len(dimensions)), dtype=np.float32)], [pd.DataFrame(columns=others)]
    for chunk in table.frames(ROWS, text=[identifier, *others]):
        ids += chunk[identifier].tolist()
        vectors.append(_matrix(chunk, dimensions, ids[-len(chunk) :], len(ids) - len(chunk), path))
        columns.append(chunk[others])
    return Embeddings(
        f"tabular, {_span(dimensions)}", ids, np.concatenate(vectors), pd.concat(columns, ignore_index=True)
    )


def _matrix(chunk: pd.DataFrame, dimensions: list[str], ids: list[str], before: int, path: Path) -> NDArray[np.float32]:
    """Return the numbers of a part of a table, shape (records, dimensions); `before` records stand above it."""
    matrix = np.empty((len(chunk), len(dimensions)), dtype=np.float32)
    for number, name in enumerate(dimensions):
        values = _numbers(chunk[name])
        if values is None:
            row = next(row for row in range(len(chunk)) if _numbers(chunk[name].iloc[row : row + 1]) is None)
            raise UserError(
                f"{_record(before + row, ids[row], path)} has '{chunk[name].iloc[row]}' in the column '{name}', where "
                "a number should be."
            )
        matrix[:, number] = _float32(values)
    return matrix


def _numbers(column: "pd.Series[Any]") -> NDArray[np.float64] | None:
    """Return a column's numbers, or None if it has anything else."""
    try:
        return column.to_numpy(dtype=np.float64)
    except ValueError:
        return None


def _identifier(names: list[str], path: Path) -> str:
    """Return the column of the ids: the one called 'id', or the first."""
    if "id" in names:
        return "id"
    if DIMENSION.fullmatch(names[0]):
        raise UserError(f"The file '{path.name}' has no column 'id'; put the names of the records first.")
    return names[0]


def _dimensions(names: list[str], numeric: Callable[[str], bool]) -> list[str]:
    """Return the columns named dimension_0, dimension_1 …, or else all that are numeric."""
    return [name for name in names if DIMENSION.fullmatch(name)] or [name for name in names if numeric(name)]


def _mostly_numbers(column: "pd.Series[str]") -> bool:
    """Return whether a column is meant to be numeric; a value that is no number is then refused by name."""
    return bool(pd.to_numeric(column, errors="coerce").notna().mean() >= 0.5)


def _span(dimensions: list[str]) -> str:
    return f"columns '{dimensions[0]}' to '{dimensions[-1]}'" if dimensions else "no numeric column"


# By the first bytes of a file; whatever else it is, it is read as a table.
READERS: dict[bytes, Callable[..., Embeddings]] = {
    b"\x89HDF\r\n\x1a\n": _read_h5ad,
    b"PAR1": _read_parquet,
    b"PK\x03\x04": _read_npz,
    b"": _read_tabular,
}
