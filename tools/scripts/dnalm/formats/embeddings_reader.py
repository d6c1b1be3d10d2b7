"""Embeddings of any tool: AnnData h5ad, Parquet, a tab-separated table or NumPy npz, told apart by their content."""

import re
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dnalm.errors import UserError
from dnalm.formats.hdf5 import refuse_other_files
from dnalm.formats.tables import Table

DIMENSION = re.compile(r"dimension_\d+")
NUMBER = re.compile(r"-?\d+\.\d*(e[+-]\d+)?", re.IGNORECASE)  # pandas names columns by whole numbers, nobody by others
LIST_COLUMN = "embedding"  # of a Parquet file: the whole vector in one column
FEW_ROWS = 100  # of a table, from which its numeric columns are known
ROWS = 10_000  # of a table, read at once
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
    with path.open("rb") as file:
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
    from anndata.io import read_elem

    try:
        with h5py.File(path, "r") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of older versions of the format
            refuse_other_files(file, path)
            place = _place(file, matrix, path)
            obs, x = read_elem(file["obs"]), read_elem(file[place])
    except (OSError, KeyError, ValueError) as error:
        raise UserError(
            f"The file '{path.name}' is a damaged or unknown h5ad file; make or upload it again."
        ) from error
    if not isinstance(obs, pd.DataFrame) or getattr(x, "ndim", 0) != 2 or x.shape[0] != len(obs):
        raise UserError(f"The file '{path.name}' is AnnData without a matrix {place} that fits obs; {ANSWER}.")
    x = x.to_numpy() if isinstance(x, pd.DataFrame) else x
    if not np.issubdtype(x.dtype, np.number) or np.iscomplexobj(x):
        raise UserError(f"The matrix {place} of '{path.name}' does not hold numbers; {ANSWER}.")
    dense = _float32(x if isinstance(x, np.ndarray) else x.toarray())
    there = np.ones(len(dense), dtype=np.bool_) if place == "X" else ~np.isnan(dense).all(axis=1)
    if len(dense) and not there.any():
        raise UserError(f"Every row of the matrix {place} of '{path.name}' is NaN; {ANSWER}.")
    obs, dense = (obs, dense) if there.all() else (obs[there], dense[there])
    ids = obs.index.astype(str).tolist()
    return Embeddings(f"h5ad, matrix {place}", ids, dense, obs.reset_index(drop=True), int((~there).sum()))


def _place(file: h5py.File, matrix: str, path: Path) -> str:
    """Return where in an AnnData file the embeddings are."""
    keys = list(file["obsm"]) if isinstance(file.get("obsm"), h5py.Group) else []
    if matrix in keys or (matrix == "auto" and OF_CELLS in keys):
        return f"obsm/{OF_CELLS if matrix == 'auto' else matrix}"
    if matrix not in ("auto", "X"):
        there = ", ".join(f"'{key}'" for key in keys) or "none"
        raise UserError(f"The file '{path.name}' has no '{matrix}' in obsm; there are: {there}.")
    if not {"X", "obs"} <= file.keys():
        raise UserError(f"The file '{path.name}' is HDF5, but no AnnData with X and obs; {ANSWER}.")
    return "X"


def _float32(values: Any) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what is too large becomes infinite and is refused by name
        return np.ascontiguousarray(values, dtype=np.float32)


def _read_parquet(path: Path) -> Embeddings:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"The file '{path.name}' is a damaged Parquet file; make or upload it again.") from error
    names = table.column_names
    if not names:
        raise UserError(f"The file '{path.name}' has no column; {ANSWER}.")
    identifier = _identifier(names, path)
    ids = [str(value) for value in table.column(identifier).to_pylist()]
    types = {name: table.schema.field(name).type for name in names if name != identifier}
    if _is_list(types.get(LIST_COLUMN)):
        dimensions = [LIST_COLUMN]
        vectors = _from_lists(table.column(LIST_COLUMN), ids, path)
    else:
        numeric = {name for name, kind in types.items() if pa.types.is_integer(kind) or pa.types.is_floating(kind)}
        dimensions = [name for name in _dimensions(list(types), numeric.__contains__) if name in numeric]
        vectors = np.empty((len(ids), len(dimensions)), dtype=np.float32)
        for number, name in enumerate(dimensions):
            vectors[:, number] = _float32(table.column(name).to_numpy())
    others = [name for name in types if name not in dimensions and not pa.types.is_nested(types[name])]
    return Embeddings(f"Parquet, {_span(dimensions)}", ids, vectors, table.select(others).to_pandas())


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    return kind is not None and (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _from_lists(column: Any, ids: list[str], path: Path) -> NDArray[np.float32]:
    import pyarrow.compute as pc

    lengths = pc.list_value_length(column).to_pylist()
    for row, length in enumerate(lengths):
        if length != lengths[0] or not length:
            expected = "an embedding" if not lengths[0] else f"{lengths[0]:,} dimensions, as the first record"
            raise UserError(f"{_record(row, ids[row], path)} does not have {expected}.")
    return _float32(pc.list_flatten(column).to_numpy()).reshape(len(ids), -1)


def _read_npz(path: Path) -> Embeddings:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in ("ids", "embeddings") if name in arrays}
            tokens = "offsets" in arrays
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"The file '{path.name}' is a damaged npz file, or none; {ANSWER}.") from error
    if tokens:
        raise UserError(f"The file '{path.name}' has one vector a token; embed with a pooling, one vector a sequence.")
    if len(found) < 2 or found["embeddings"].ndim != 2 or found["ids"].shape != found["embeddings"].shape[:1]:
        raise UserError(f"The file '{path.name}' is no npz with the arrays 'ids' and 'embeddings'; {ANSWER}.")
    return Embeddings(
        "npz, array 'embeddings'", found["ids"].astype(str).tolist(), _float32(found["embeddings"]), pd.DataFrame()
    )


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
