"""Cells of an AnnData h5ad, streamed in batches; and a copy of the file with an embedding a cell beside what it holds.

AnnData's on-disk format: https://anndata.readthedocs.io, "on-disk format". The matrix may be dense or sparse, stored by
cell (csr) or by gene (csc).
"""

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from dnalm.errors import DISK_IS_FULL, UserError, shown
from dnalm.formats.hdf5 import FileForHDF5, encode, refuse_other_files
from dnalm.signals import kept_waiting

if TYPE_CHECKING:
    import pandas as pd

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
        with _told(self.path):
            try:
                disk = self._open.enter_context(path.open("rb"))  # without HDF5's locks: nothing is written
                self._file = self._open.enter_context(h5py.File(disk, "r"))
                refuse_other_files(self._file, path)
                self.matrix_name = self._find(layer)
                self._matrix = self._file[self.matrix_name]
                self.genes = self._read_genes()
                self._names = self._names_of_cells()
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
        file = self._file
        if not isinstance(file.get("obs"), h5py.Group) or not isinstance(file.get("var"), h5py.Group):
            raise UserError(
                f"The file '{self.path.name}' is HDF5, but no AnnData of today with obs and var; {ANSWER}, written by a "
                "present anndata."
            )
        layers = list(file["layers"]) if isinstance(file.get("layers"), h5py.Group) else []
        if layer in layers:
            return f"layers/{layer}"
        if layer == "raw" and "raw/X" in file:
            return "raw/X"
        if layer is not None:
            there = [*layers, *(["raw"] if "raw/X" in file else [])]
            raise UserError(f"The file '{self.path.name}' has no layer '{shown(layer)}'; it has {listed(there)}.")
        if "X" not in file:
            raise UserError(
                f"The file '{self.path.name}' has no matrix X; choose a layer ({listed(layers)}), or {ANSWER}."
            )
        return "X"

    def _read_genes(self) -> "pd.DataFrame":
        import pandas as pd
        from anndata.io import read_elem

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of older versions of the format
            genes = read_elem(self._file["raw/var" if self.matrix_name == "raw/X" else "var"])
        if not isinstance(genes, pd.DataFrame):
            raise ValueError("var is no table")
        return genes

    def _names_of_cells(self) -> Any:
        """Return the dataset of the cells' names, which are read when they are needed."""
        names = self._file["obs"][self._file["obs"].attrs["_index"]]
        return names["values"] if isinstance(names, h5py.Group) else names

    def _check_shape(self) -> None:
        matrix, path = self._matrix, self.path
        sparse = isinstance(matrix, h5py.Group)
        shape = tuple(int(size) for size in (matrix.attrs["shape"] if sparse else matrix.shape))
        kind = (matrix["data"] if sparse else matrix).dtype.kind
        if kind not in "iuf":
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
            with _told(self.path):
                first = self.read
                values = self._rows(first)
                last = first + values.shape[0]
                names = [name.decode() if isinstance(name, bytes) else str(name) for name in self._names[first:last]]
            yield CellBatch(names, values)
            self.read = last

    def _rows(self, first: int) -> csr_matrix:
        """Return as many cells from one on as make a batch; float64, genes of a cell sorted, each once."""
        genes = len(self.genes)
        if isinstance(self._matrix, h5py.Dataset):
            last = first + min(MOST_CELLS, max(1, MOST_VALUES // genes))
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
        stored = _Sparse(matrix["indptr"], matrix["indices"], matrix["data"])
        kind = matrix.attrs.get("encoding-type", "")
        if kind not in ("csr_matrix", "csc_matrix"):
            raise ValueError(f"it is of the unknown kind {shown(kind)}")
        lines = self.cells if kind == "csr_matrix" else len(self.genes)
        if len(stored.indptr) != lines + 1 or int(stored.indptr[-1]) > len(stored.data):
            raise ValueError("its parts disagree")
        if kind == "csr_matrix":
            return stored
        print("The matrix is stored by gene; it is first turned, which takes a while", flush=True)
        return _turned(stored, self.cells, self._scratch)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn whatever a damaged file brings HDF5, anndata or NumPy to into a sentence."""
    damaged: Exception
    try:
        with kept_waiting():
            yield
        return
    except (KeyError, ValueError, TypeError, AttributeError, IndexError, RuntimeError) as error:
        damaged = error
    except OSError as error:
        if error.errno in DISK_IS_FULL:
            raise
        if error.errno is not None:
            raise UserError(f"The file '{path}' cannot be read ({error.strerror}); check its name.") from error
        damaged = error
    raise UserError(f"The file '{path.name}' is damaged or no h5ad; make or upload it again.") from damaged


@dataclass(frozen=True)
class _Sparse:
    """A sparse matrix stored by cell: datasets, or arrays that lie in files."""

    indptr: Any
    indices: Any
    data: Any


def _turned(stored: _Sparse, cells: int, folder: Path) -> _Sparse:
    """Return a matrix stored by gene as one stored by cell, in files without a name: memory holds a block at once."""
    total, ends = int(stored.indptr[-1]), np.asarray(stored.indptr[:], dtype=np.int64)
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
        shutil.copyfile(source, target)
        with kept_waiting():
            self._disk = FileForHDF5(target, "r+")
            self._file = h5py.File(self._disk, "r+")
        self._key, self._categories = key, categories
        self._written = 0

    def __enter__(self) -> Self:
        return self

    @kept_waiting()
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError, RuntimeError):  # of a full disk, which the file itself tells better
            self._file.close()
        self._disk.close()
        if error is None or isinstance(error, OSError):
            self._disk.check()

    @kept_waiting()
    def append(self, embeddings: NDArray[np.float32], columns: Mapping[str, NDArray[np.int64]]) -> None:
        """Add the next cells: embeddings (cells, dimensions), and of each column a number or the place of a category."""
        if not self._written:
            self._create(embeddings.shape[1], list(columns))
        rows = slice(self._written, self._written + len(embeddings))
        self._file["obsm"][self._key][rows] = embeddings
        for name, values in columns.items():
            column = self._file["obs"][name]
            (column["codes"] if name in self._categories else column)[rows] = values
        self._written = rows.stop
        self._disk.check()

    def _create(self, dimensions: int, columns: list[str]) -> None:
        obs = self._file["obs"]
        index = obs[obs.attrs["_index"]]
        cells = len(index["values"] if isinstance(index, h5py.Group) else index)
        if "obsm" not in self._file:
            encode(self._file.create_group("obsm"), "dict", "0.1.0")
        self._make_room("obsm", self._key)
        chunk = (max(1, min(cells, (1 << 20) // (4 * dimensions))), dimensions)
        embeddings = self._file["obsm"].create_dataset(self._key, (cells, dimensions), "f4", chunks=chunk)
        encode(embeddings, "array", "0.2.0")
        for name in columns:
            self._make_room("obs", name)
            if name not in self._categories:
                encode(obs.create_dataset(name, (cells,), "i8"), "array", "0.2.0")
                continue
            group = obs.create_group(name)
            encode(group, "categorical", "0.2.0")
            group.attrs["ordered"] = False
            texts = group.create_dataset("categories", data=self._categories[name], dtype=h5py.string_dtype())
            encode(texts, "string-array", "0.2.0")
            encode(group.create_dataset("codes", (cells,), "i1"), "array", "0.2.0")
        others = [name for name in obs.attrs["column-order"] if name not in columns]
        obs.attrs.create("column-order", [*others, *columns], dtype=h5py.string_dtype())

    def _make_room(self, group: str, name: str) -> None:
        if name in self._file[group]:
            print(f"{group} had '{name}' already: it is replaced", flush=True)
            del self._file[group][name]

    @kept_waiting()
    def finish(self, name: str, note: str) -> None:
        """Add a text to uns and complete the file."""
        if "uns" not in self._file:
            encode(self._file.create_group("uns"), "dict", "0.1.0")
        self._make_room("uns", name)
        encode(self._file["uns"].create_dataset(name, data=note, dtype=h5py.string_dtype()), "string", "0.2.0")
        self._file.flush()
        self._disk.check()
