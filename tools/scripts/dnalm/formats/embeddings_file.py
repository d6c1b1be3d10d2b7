"""Embeddings as AnnData h5ad, parquet, table or NumPy npz, appended in chunks: memory does not grow with the records."""

import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from dnalm.formats.hdf5 import FileForHDF5, encode
from dnalm.formats.npz import npy_entry
from dnalm.formats.tables import TableWriter
from dnalm.signals import kept_waiting

CHUNK_BYTES = 1 << 20  # of one HDF5 chunk at most: the unit that readers fetch
FEWEST_ROWS, MOST_ROWS = 64, 8192  # of a chunk: a small file stays small, a large one has few chunks
WRITTEN_AT_ONCE = 1_000_000  # numbers of a table: as text each takes fifteen times its memory
Columns = Mapping[str, Sequence[Any]]


class EmbeddingsWriter(Protocol):
    """What a task needs of an embeddings file; use it in a `with`.

    Attributes:
        dimensions: names of the columns of numbers; set before the first `append`, else `dimension_0` ….
    """

    dimensions: Sequence[str] | None

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def append(self, columns: Columns, embeddings: NDArray[np.float32]) -> None:
        """Add rows: `columns` with `id` first, one value a row, and embeddings (rows, dimensions)."""
        ...

    def finish(self, provenance: Mapping[str, Any]) -> None:
        """Add what was run and complete the file."""
        ...


def dimension_names(writer: EmbeddingsWriter, count: int) -> list[str]:
    """Return the names of a writer's columns of numbers."""
    return list(writer.dimensions) if writer.dimensions else [f"dimension_{number}" for number in range(count)]


class H5adWriter:
    """AnnData on disk (https://anndata.readthedocs.io, "on-disk format", version 0.1.0), X and obs grown chunk by chunk."""

    dimensions: Sequence[str] | None = None

    @kept_waiting()
    def __init__(self, path: Path) -> None:
        self._disk = FileForHDF5(path, "w+")
        self._file = h5py.File(self._disk, "w")

    def __enter__(self) -> Self:
        return self

    @kept_waiting()
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._disk.close()
        if error is None:
            self._disk.check()

    @kept_waiting()
    def append(self, columns: Columns, embeddings: NDArray[np.float32]) -> None:
        """Add records: `columns` with `id` first, one value a record, and embeddings (records, dimensions)."""
        if "X" not in self._file:
            self._create(columns, embeddings.shape[1])
        self._extend("X", embeddings)
        for name, values in columns.items():
            self._extend(f"obs/{name}", values)
        self._disk.check()

    def _extend(self, name: str, values: Sequence[Any] | NDArray[np.float32]) -> None:
        dataset = self._file[name]
        first = dataset.shape[0]
        dataset.resize(first + len(values), axis=0)
        dataset[first:] = values

    def _create(self, columns: Columns, dimensions: int) -> None:
        encode(self._file, "anndata", "0.1.0")
        first = len(next(iter(columns.values())))
        rows = min(max(first, FEWEST_ROWS), MOST_ROWS)
        x = self._file.create_dataset(
            "X",
            shape=(0, dimensions),
            maxshape=(None, dimensions),
            dtype="f4",
            chunks=(min(rows, max(1, CHUNK_BYTES // (4 * dimensions))), dimensions),
        )
        encode(x, "array", "0.2.0")
        obs = self._file.create_group("obs")
        encode(obs, "dataframe", "0.2.0")
        index, *others = columns
        obs.attrs["_index"] = index
        obs.attrs.create("column-order", others, dtype=h5py.string_dtype())
        for name, values in columns.items():
            text = isinstance(values[0], str)
            dtype: Any = h5py.string_dtype() if text else np.asarray(values[:1]).dtype
            dataset = obs.create_dataset(name, shape=(0,), maxshape=(None,), dtype=dtype, chunks=(rows,))
            encode(dataset, "string-array" if text else "array", "0.2.0")

    @kept_waiting()
    def finish(self, provenance: Mapping[str, Any]) -> None:
        """Add var (one row a dimension), the empty parts and `uns['dnalm']`, then complete the file."""
        text = h5py.string_dtype()
        # Written by hand: importing anndata, with pandas, would take a third of a short job's time.
        var = self._file.create_group("var")
        encode(var, "dataframe", "0.2.0")
        var.attrs["_index"] = "_index"
        var.attrs.create("column-order", [], dtype=np.float64)
        names = dimension_names(self, self._file["X"].shape[1])
        encode(var.create_dataset("_index", data=names, dtype=text), "string-array", "0.2.0")
        for part in ("obsm", "varm", "obsp", "varp", "layers", "uns"):
            encode(self._file.create_group(part), "dict", "0.1.0")
        said = json.dumps(provenance, sort_keys=True, allow_nan=False)
        encode(self._file["uns"].create_dataset("dnalm", data=said, dtype=text), "string", "0.2.0")
        self._file.flush()
        self._disk.check()


class NpzWriter:
    """NumPy npz with `ids`, `embeddings` and `provenance`; read it without pickle.

    `embeddings` has one row a record. With a vector a token, told by columns `start` and `end`, it has one row a token;
    then `offsets` (records + 1) says where each record's rows begin, `starts` and `ends` (tokens) which bases they cover.
    """

    dimensions: Sequence[str] | None = None

    def __init__(self, path: Path) -> None:
        self._path = path
        # The number of rows stands before the data in an npz, so that these wait in files without a name.
        self._parts = {
            name: tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115 (closed with the writer)
            for name in ("ids", "embeddings", "starts", "ends")
        }
        self._offsets = [0]
        self._rows = self._width = 0
        self._longest_id = 1
        self._tokens = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for part in self._parts.values():
            part.close()

    def append(self, columns: Columns, embeddings: NDArray[np.float32]) -> None:
        """Add rows: `columns` with `id` first, one value a row, and embeddings (rows, dimensions)."""
        self._tokens = "token" in columns
        ids, firsts = columns["id"], list(range(len(columns["id"])))
        if self._tokens:
            firsts = [row for row, token in enumerate(columns["token"]) if token == 0]
            self._offsets += [self._rows + row for row in firsts if self._rows + row]
            for name in ("start", "end"):
                self._parts[f"{name}s"].write(np.array(columns[name], dtype="<i8").tobytes())
        self._parts["ids"].write("".join(f"{ids[row]}\n" for row in firsts).encode())
        self._parts["embeddings"].write(np.ascontiguousarray(embeddings, dtype="<f4").tobytes())
        self._rows += len(ids)
        self._width = embeddings.shape[1]
        self._longest_id = max(self._longest_id, *map(len, ids))

    def finish(self, provenance: Mapping[str, Any]) -> None:
        """Write the archive."""
        text = np.dtype(f"<U{self._longest_id}")
        records = len(self._offsets) if self._tokens else self._rows
        with zipfile.ZipFile(self._path, "w", zipfile.ZIP_STORED) as archive:
            with npy_entry(archive, "ids", text, (records,)) as entry:
                self._parts["ids"].seek(0)
                for line in self._parts["ids"]:
                    entry.write(np.array(line.decode().removesuffix("\n"), dtype=text).tobytes())
            self._copy(archive, "embeddings", "<f4", (self._rows, self._width))
            if self._tokens:
                for name in ("starts", "ends"):
                    self._copy(archive, name, "<i8", (self._rows,))
                with npy_entry(archive, "offsets", np.dtype("<i8"), (records + 1,)) as entry:
                    entry.write(np.array([*self._offsets, self._rows], dtype="<i8").tobytes())
            said = np.array(json.dumps(provenance, sort_keys=True, allow_nan=False))
            with npy_entry(archive, "provenance", said.dtype, ()) as entry:
                entry.write(said.tobytes())

    def _copy(self, archive: zipfile.ZipFile, name: str, dtype: str, shape: tuple[int, ...]) -> None:
        with npy_entry(archive, name, np.dtype(dtype), shape) as entry:
            self._parts[name].seek(0)
            shutil.copyfileobj(self._parts[name], entry, CHUNK_BYTES)


class ParquetWriter:
    """Parquet with the columns and one float32 column a dimension; a row group a chunk."""

    dimensions: Sequence[str] | None = None

    def __init__(self, path: Path) -> None:
        self._path = path
        self._disk = path.open("wb")
        self._writer: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._disk.close()

    def append(self, columns: Columns, embeddings: NDArray[np.float32]) -> None:
        """Add rows: `columns` with `id` first, one value a row, and embeddings (rows, dimensions)."""
        import pyarrow
        import pyarrow.parquet

        names = dimension_names(self, embeddings.shape[1])
        arrays = [pyarrow.array(list(values)) for values in columns.values()]
        arrays += [pyarrow.array(np.ascontiguousarray(column)) for column in embeddings.T]
        table = pyarrow.Table.from_arrays(arrays, names=[*columns, *names])
        if self._writer is None:
            # Random digits: neither dictionary nor compression gains on them.
            self._writer = pyarrow.parquet.ParquetWriter(
                self._disk, table.schema, use_dictionary=list(columns), compression="zstd"
            )
        self._writer.write_table(table)

    def finish(self, provenance: Mapping[str, Any]) -> None:
        """Add what was run to the file's metadata (key `dnalm`) and complete it."""
        self._writer.add_key_value_metadata({"dnalm": json.dumps(provenance, sort_keys=True, allow_nan=False)})
        self._writer.close()
        self._disk.flush()


class TabularWriter:
    """A wide table: the columns, then one column a dimension, six significant digits."""

    dimensions: Sequence[str] | None = None

    def __init__(self, path: Path) -> None:
        self._table = TableWriter(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._table.__exit__(*exception)

    def append(self, columns: Columns, embeddings: NDArray[np.float32]) -> None:
        """Add rows: `columns` with `id` first, one value a row, and embeddings (rows, dimensions)."""
        names = dimension_names(self, embeddings.shape[1])
        rows = max(1, WRITTEN_AT_ONCE // len(names))
        for first in range(0, len(embeddings), rows):
            part = slice(first, first + rows)
            digits = {
                name: [f"{x:.6g}" for x in column] for name, column in zip(names, embeddings[part].T, strict=True)
            }
            self._table.append({**{name: values[part] for name, values in columns.items()}, **digits})

    def finish(self, provenance: Mapping[str, Any]) -> None:
        """Complete the table; what was run is on stdout only, since most readers know no comments."""


WRITERS: dict[str, Callable[[Path], EmbeddingsWriter]] = {
    "h5ad": H5adWriter,
    "npz": NpzWriter,
    "parquet": ParquetWriter,
    "tabular": TabularWriter,
}
