"""Embeddings as AnnData h5ad or NumPy npz, appended in chunks so that memory does not grow with the records."""

import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import h5py
import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

CHUNK_BYTES = 1 << 20  # of one HDF5 chunk at most: the unit that readers fetch
FEWEST_ROWS, MOST_ROWS = 64, 8192  # of a chunk: a small file stays small, a large one has few chunks
ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the same bytes on every day


class EmbeddingsWriter(Protocol):
    """What a task needs of an embeddings file; use it in a `with`."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def append(self, columns: Mapping[str, Sequence[Any]], embeddings: NDArray[np.float32]) -> None:
        """Add records: `columns` with `id` first, one value a record, and embeddings (records, dimensions)."""
        ...

    def finish(self, provenance: Mapping[str, Any]) -> None:
        """Add what was run and complete the file."""
        ...


class _FileForHDF5(io.FileIO):
    """A file that keeps its first error for us: HDF5 crashes the process when a write fails under it."""

    error: OSError | None = None

    def write(self, data: Buffer, /) -> int:
        """Write all of the data, or remember why not and swallow it."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while rest and self.error is None:
                rest = rest[super().write(rest) :]
        except OSError as error:
            error.filename = None  # the name of a partial file says nothing to a user
            self.error = error
        return size

    def truncate(self, size: int | None = None, /) -> int:
        """Set the size, or remember why not."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0

    def check(self) -> None:
        """Raise the first error."""
        if self.error is not None:
            raise self.error


class H5adWriter:
    """AnnData on disk (https://anndata.readthedocs.io, "on-disk format", version 0.1.0), X and obs grown chunk by chunk."""

    def __init__(self, path: Path) -> None:
        self._disk = _FileForHDF5(path, "w+")
        self._file = h5py.File(self._disk, "w")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
        self._disk.close()
        if error is None:
            self._disk.check()

    def append(self, columns: Mapping[str, Sequence[Any]], embeddings: NDArray[np.float32]) -> None:
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

    def _create(self, columns: Mapping[str, Sequence[Any]], dimensions: int) -> None:
        _encode(self._file, "anndata", "0.1.0")
        first = len(next(iter(columns.values())))
        rows = min(max(first, FEWEST_ROWS), MOST_ROWS)
        x = self._file.create_dataset(
            "X",
            shape=(0, dimensions),
            maxshape=(None, dimensions),
            dtype="f4",
            chunks=(min(rows, max(1, CHUNK_BYTES // (4 * dimensions))), dimensions),
        )
        _encode(x, "array", "0.2.0")
        obs = self._file.create_group("obs")
        _encode(obs, "dataframe", "0.2.0")
        index, *others = columns
        obs.attrs["_index"] = index
        obs.attrs.create("column-order", others, dtype=h5py.string_dtype())
        for name, values in columns.items():
            text = isinstance(values[0], str)
            dtype: Any = h5py.string_dtype() if text else np.int64
            dataset = obs.create_dataset(name, shape=(0,), maxshape=(None,), dtype=dtype, chunks=(rows,))
            _encode(dataset, "string-array" if text else "array", "0.2.0")

    def finish(self, provenance: Mapping[str, Any]) -> None:
        """Add var (one row a dimension), the empty parts and `uns['dnalm']`, then complete the file."""
        import pandas as pd
        from anndata.io import write_elem

        names = [f"dimension_{number}" for number in range(self._file["X"].shape[1])]
        write_elem(self._file, "var", pd.DataFrame(index=pd.Index(names, dtype=object)))
        for part in ("obsm", "varm", "obsp", "varp", "layers"):
            write_elem(self._file, part, {})
        write_elem(self._file, "uns", {"dnalm": json.dumps(provenance, sort_keys=True, allow_nan=False)})
        self._file.flush()
        self._disk.check()


def _encode(item: h5py.HLObject, kind: str, version: str) -> None:
    item.attrs["encoding-type"] = kind
    item.attrs["encoding-version"] = version


class NpzWriter:
    """NumPy npz with `ids` (records,), `embeddings` (records, dimensions) and `provenance`; read it without pickle."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # The number of records stands before the data in an npz, so that these wait in files without a name.
        self._vectors = tempfile.TemporaryFile(dir=path.parent)
        self._ids = tempfile.TemporaryFile(dir=path.parent)
        self._records = self._dimensions = 0
        self._longest_id = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._vectors.close()
        self._ids.close()

    def append(self, columns: Mapping[str, Sequence[Any]], embeddings: NDArray[np.float32]) -> None:
        """Add records: `columns` with `id` first, one value a record, and embeddings (records, dimensions)."""
        ids = columns["id"]
        self._vectors.write(np.ascontiguousarray(embeddings, dtype="<f4").tobytes())
        self._ids.write("".join(f"{name}\n" for name in ids).encode())
        self._records += len(ids)
        self._dimensions = embeddings.shape[1]
        self._longest_id = max(self._longest_id, *map(len, ids))

    def finish(self, provenance: Mapping[str, Any]) -> None:
        """Write the archive."""
        text = np.dtype(f"<U{self._longest_id}")
        with zipfile.ZipFile(self._path, "w", zipfile.ZIP_STORED) as archive:
            with _npy(archive, "ids", text, (self._records,)) as entry:
                self._ids.seek(0)
                for line in self._ids:
                    entry.write(np.array(line.decode().removesuffix("\n"), dtype=text).tobytes())
            with _npy(archive, "embeddings", np.dtype("<f4"), (self._records, self._dimensions)) as entry:
                self._vectors.seek(0)
                shutil.copyfileobj(self._vectors, entry, CHUNK_BYTES)
            said = np.array(json.dumps(provenance, sort_keys=True, allow_nan=False))
            with _npy(archive, "provenance", said.dtype, ()) as entry:
                entry.write(said.tobytes())


@contextmanager
def _npy(archive: zipfile.ZipFile, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Iterator[Any]:
    """Open an array of an npz for its raw bytes, its header written."""
    with archive.open(zipfile.ZipInfo(f"{name}.npy", ZIP_DATE), "w", force_zip64=True) as entry:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_2_0(entry, header)
        yield entry


WRITERS: dict[str, Callable[[Path], EmbeddingsWriter]] = {"h5ad": H5adWriter, "npz": NpzWriter}
