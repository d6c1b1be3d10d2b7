"""Cells of an AnnData h5ad, streamed in batches; and a copy of the file with an embedding a cell beside what it holds.

AnnData's on-disk format: https://anndata.readthedocs.io, "on-disk format". The matrix may be dense or sparse, stored by
cell (csr) or by gene (csc).
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from dnalm.errors import UserError, shown
from dnalm.formats.anndata_tables import index_dataset, read_table
from dnalm.formats.inputs import open_input
from dnalm.formats.isolated_hdf5 import Hdf5Dataset, Hdf5Group, IsolatedHdf5
from dnalm.formats.isolated_reader import ReaderProcess, Subject

MOST_CELLS = 2_048  # of a batch
MOST_VALUES = 1 << 23  # of a batch, if one cell has not more
LISTED = 20  # names in a sentence
INDEX = "index"  # what people call the column of row names
ANSWER = "give an h5ad file with a matrix of cells and genes"


@dataclass(frozen=True)
class CellBatch:
    """Some cells, in the order of the file: their names, and their values, shape (cells, genes), zeros left out."""

    names: list[str]
    values: csr_matrix


class CellsReader:
    """The cells of an h5ad; use it in a `with`, and iterate over it as often as is needed.

    Args:
        path: the file.
        layer: which matrix: None for X, the name of a layer, or `raw` for raw.X.
        scratch: a folder for files without a name, where the matrix is stored by gene.

    Attributes:
        path: the file.
        matrix_name: which matrix it is.
        cells: how many there are.
        genes: what the file says of the matrix's genes, row names as index.
        read: how many cells have been read since an iteration began.
    """

    def __init__(self, path: Path, layer: str | None, scratch: Path) -> None:
        self.path, self._scratch = path, scratch
        self._open = ExitStack()
        self.read = 0
        try:
            reader = self._open.enter_context(IsolatedHdf5())
            self._root = reader.open(path, _subject(path)).root
            self.matrix_name = self._find(layer)
            self._matrix = self._root.get(self.matrix_name)
            self.genes = read_table(self._root.group("raw/var" if self.matrix_name == "raw/X" else "var"))
            self._names = index_dataset(self._root.group("obs"))
            self.cells = len(self._names)
            self._check_shape()
        except BaseException:
            self._open.close()
            raise
        self._by_cell: _Sparse | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._open.close()

    def _find(self, layer: str | None) -> str:
        """Return where in the file the matrix is."""
        root = self._root
        if not isinstance(root.get("obs"), Hdf5Group) or not isinstance(root.get("var"), Hdf5Group):
            raise UserError(
                f"The file '{self.path.name}' is HDF5, but no AnnData of today with obs and var; {ANSWER}, written by a "
                "present anndata."
            )
        stored = root.get("layers")
        layers = list(stored.members) if isinstance(stored, Hdf5Group) else []
        has_raw = root.get("raw/X") is not None
        if layer in layers:
            return f"layers/{layer}"
        if layer == "raw" and has_raw:
            return "raw/X"
        if layer is not None:
            there = [*layers, *(["raw"] if has_raw else [])]
            raise UserError(f"The file '{self.path.name}' has no layer '{shown(layer)}'; it has {listed(there)}.")
        if "X" not in root.members:
            raise UserError(
                f"The file '{self.path.name}' has no matrix X; choose a layer ({listed(layers)}), or {ANSWER}."
            )
        return "X"

    def _check_shape(self) -> None:
        matrix, path = self._matrix, self.path
        if isinstance(matrix, Hdf5Group):
            shape, values = tuple(matrix.list_attribute("shape")), matrix.dataset("data")
        else:
            assert matrix is not None
            shape, values = matrix.shape, matrix
        if values.kind != "number" or values.dtype.kind not in "iuf":
            raise UserError(f"The matrix {self.matrix_name} of '{path.name}' does not hold numbers; {ANSWER}.")
        if shape != (self.cells, len(self.genes)):
            raise UserError(
                f"The matrix {self.matrix_name} of '{path.name}' has the shape {shape}, but there are {self.cells:,} cells "
                f"and {len(self.genes):,} genes; {ANSWER}."
            )
        if 0 in shape:
            raise UserError(f"The file '{path.name}' has {shape[0]:,} cells and {shape[1]:,} genes; {ANSWER}.")

    def __iter__(self) -> Iterator[CellBatch]:
        """Yield batches of cells; a batch has at least one.

        Raises:
            UserError: the file is damaged.
        """
        self.read = 0
        while self.read < self.cells:
            with _damaged(self.path):
                first = self.read
                values = self._rows(first)
                last = first + values.shape[0]
                names = self._names_of(first, last)
            yield CellBatch(names, values)
            self.read = last

    def _names_of(self, first: int, last: int) -> list[str]:
        if self._names.kind == "text":
            return self._names.texts(first, last)
        return [str(name) for name in self._names[first:last].tolist()]

    def _rows(self, first: int) -> csr_matrix:
        """Return as many cells from one on as make a batch; float64, genes of a cell sorted, each once."""
        genes = len(self.genes)
        if isinstance(self._matrix, Hdf5Dataset):
            last = min(self.cells, first + min(MOST_CELLS, max(1, MOST_VALUES // genes)))
            return csr_matrix(np.asarray(self._matrix[first:last], dtype=np.float64))
        if self._by_cell is None:
            self._by_cell = self._sparse()
        stored = self._by_cell
        ends = stored.indptr[first : first + MOST_CELLS + 1].astype(np.int64)
        if (np.diff(ends) < 0).any() or ends[0] < 0:
            raise ValueError("its rows overlap")
        count = max(1, int(np.searchsorted(ends, ends[0] + MOST_VALUES, side="right")) - 1)
        span = slice(int(ends[0]), int(ends[count]))
        columns = np.asarray(stored.indices[span], dtype=np.int64)
        data = np.asarray(stored.data[span], dtype=np.float64)
        if len(columns) != span.stop - span.start or len(data) != len(columns):
            raise ValueError("it is cut short")
        if len(columns) and not 0 <= columns.min() <= columns.max() < genes:
            raise ValueError("it names genes that are not there")
        rows = csr_matrix((data, columns, ends[: count + 1] - ends[0]), shape=(count, genes))
        rows.sum_duplicates()
        rows.eliminate_zeros()
        return rows

    def _sparse(self) -> "_Sparse":
        matrix = self._matrix
        assert isinstance(matrix, Hdf5Group)
        stored = _Sparse(matrix.dataset("indptr"), matrix.dataset("indices"), matrix.dataset("data"))
        kind = matrix.attribute("encoding-type")
        if kind not in ("csr_matrix", "csc_matrix"):
            raise ValueError(f"it is of the unknown kind {shown(kind)}")
        lines = self.cells if kind == "csr_matrix" else len(self.genes)
        if {stored.indptr.dtype.kind, stored.indices.dtype.kind} - set("iu"):
            raise ValueError("its indices are no whole numbers")
        if len(stored.indptr) != lines + 1 or int(stored.indptr[lines:][0]) > len(stored.data):
            raise ValueError("its parts disagree")
        if kind == "csr_matrix":
            return stored
        print("The matrix is stored by gene; it is first turned, which takes a while", flush=True)
        return _turned(stored, self.cells, self._scratch)


def _subject(path: Path) -> Subject:
    return Subject(f"The file '{path.name}'", "is damaged, or not an h5ad file")


@contextmanager
def _damaged(path: Path) -> Iterator[None]:
    """Turn what is found wrong with a matrix into a sentence."""
    try:
        yield
    except ValueError as error:
        raise UserError(_subject(path).sentence(_subject(path).damaged)) from error


@dataclass(frozen=True)
class _Sparse:
    """A sparse matrix stored by cell: datasets, or arrays that lie in files."""

    indptr: Any
    indices: Any
    data: Any


def _turned(stored: _Sparse, cells: int, folder: Path) -> _Sparse:
    """Return a matrix stored by gene as one stored by cell, in files without a name: memory holds a block at once."""
    ends = np.asarray(stored.indptr[:], dtype=np.int64)
    total = int(ends[-1])
    if ends[0] != 0 or (np.diff(ends) < 0).any():
        raise ValueError("its columns overlap")
    counts = np.zeros(cells + 1, dtype=np.int64)
    for first in range(0, total, MOST_VALUES):
        counts[1:] += np.bincount(_cells_of(stored, first, min(first + MOST_VALUES, total), cells), minlength=cells)
    indptr = np.cumsum(counts)
    following = indptr[:-1].copy()
    genes, data = (_array_in_file(folder, dtype, total) for dtype in (np.dtype(np.int32), stored.data.dtype))
    for first in range(0, total, MOST_VALUES):
        last = min(first + MOST_VALUES, total)
        owners = _cells_of(stored, first, last, cells)
        order = np.argsort(owners, kind="stable")
        sorted_owners = owners[order]
        # The place of a value is that of its cell's first one in the block, and how many of the cell stand before it.
        starts = np.flatnonzero(np.diff(sorted_owners, prepend=-1))
        before = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
        places = following[sorted_owners] + before
        genes[places] = (np.searchsorted(ends, np.arange(first, last), side="right") - 1)[order]
        data[places] = stored.data[first:last][order]
        following += np.bincount(owners, minlength=cells)
    return _Sparse(indptr, genes, data)


def _array_in_file(folder: Path, dtype: np.dtype[Any], length: int) -> "np.memmap[Any, Any]":
    """Return an array in a file without a name, whose room on the disk is taken at once: later a lack would be fatal."""
    size = max(length, 1)
    with tempfile.TemporaryFile(dir=folder) as file:
        os.posix_fallocate(file.fileno(), 0, size * dtype.itemsize)
        return np.memmap(file, dtype=dtype, shape=(size,), mode="r+")


def _cells_of(stored: _Sparse, first: int, last: int, cells: int) -> NDArray[np.int64]:
    owners = np.asarray(stored.indices[first:last], dtype=np.int64)
    if len(owners) != last - first:
        raise ValueError("it is cut short")
    if not 0 <= owners.min() <= owners.max() < cells:
        raise ValueError("it names cells that are not there")
    return owners


def listed(names: list[str]) -> str:
    """Return names as they stand in a sentence; not all of many."""
    more = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    return (", ".join(f"'{shown(name)}'" for name in names[:LISTED]) or "none") + more


class CellsWriter:
    """A copy of an h5ad with an embedding a cell, columns of obs and a note beside all that is in it; use it in a `with`.

    Args:
        source: the file; nothing in it is changed.
        target: the copy.
        key: of the embeddings in obsm. What the file has under this and the names of the columns is replaced.
        categories: name of a column of obs → its values; columns that are not named hold whole numbers.
    """

    def __init__(self, source: Path, target: Path, key: str, categories: Mapping[str, list[str]]) -> None:
        open_input(source).close()
        shutil.copyfile(source, target)
        self._subject = _subject(source)
        self._process = ReaderProcess("dnalm.formats.cells_writer_process", writes=True)
        self._ask("open", str(target.absolute()), key, dict(categories))

    def _ask(self, operation: str, *arguments: Any, arrays: Sequence[NDArray[Any]] = ()) -> Any:
        """Have the child do something with the copy; an OSError is one of the disk."""
        try:
            return self._process.ask(self._subject, operation, *arguments, arrays=arrays).value
        except BaseException:
            self._process.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._ask("close")
        finally:
            self._process.close()

    def append(self, embeddings: NDArray[np.float32], columns: Mapping[str, NDArray[np.int64]]) -> None:
        """Add the next cells: embeddings (cells, dimensions), and of each column a number or the place of a category."""
        self._say(self._ask("append", list(columns), arrays=[embeddings, *columns.values()]))

    def finish(self, name: str, note: str) -> None:
        """Add a text to uns and complete the file."""
        self._say(self._ask("finish", name, note))

    def _say(self, replaced: list[str]) -> None:
        for sentence in replaced:
            print(sentence, flush=True)
