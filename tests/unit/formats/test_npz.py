"""Arrays in an archive, written as raw bytes and read by NumPy."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from dnalm.formats.npz import npy_entry


def write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, values in arrays.items():
            with npy_entry(archive, name, values.dtype, values.shape) as entry:
                for part in (values.tobytes()[:5], values.tobytes()[5:]):
                    entry.write(part)


@pytest.mark.parametrize(
    "values",
    [
        np.arange(12, dtype="<f4").reshape(3, 2, 2),
        np.array(["a", "gène"]),
        np.array([[True], [False]]),
        np.array('{"tool": "x"}'),
        np.empty((0, 5), dtype="<i8"),
    ],
)
def test_numpy_reads_what_was_written_in_parts(tmp_path: Path, values: np.ndarray) -> None:
    write(tmp_path / "x.npz", {"values": values, "other": np.arange(3)})
    with np.load(tmp_path / "x.npz", allow_pickle=False) as arrays:
        assert set(arrays) == {"values", "other"}
        assert arrays["values"].dtype == values.dtype
        np.testing.assert_array_equal(arrays["values"], values)
        assert arrays["other"].tolist() == [0, 1, 2]


def test_the_date_is_not_in_the_file(tmp_path: Path) -> None:
    write(tmp_path / "x.npz", {"a": np.arange(3)})
    with zipfile.ZipFile(tmp_path / "x.npz") as archive:
        assert [entry.date_time for entry in archive.infolist()] == [(1980, 1, 1, 0, 0, 0)]
