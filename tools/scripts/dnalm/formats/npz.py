"""npz: arrays of NumPy in one archive, written from the first byte to the last, the same on every day."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np

ZIP_DATE = (1980, 1, 1, 0, 0, 0)


@contextmanager
def npy_entry(archive: zipfile.ZipFile, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Iterator[IO[bytes]]:
    """Open an array of an npz for its raw bytes, its header written."""
    with archive.open(zipfile.ZipInfo(f"{name}.npy", ZIP_DATE), "w", force_zip64=True) as entry:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_2_0(entry, header)
        yield entry
