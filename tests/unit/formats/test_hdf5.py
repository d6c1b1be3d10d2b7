"""A file below HDF5 that cannot grow keeps its error, and gives back what could not be written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY
from dnalm.formats.hdf5 import FileForHDF5

# Within a limit of so many bytes a file, many times over in one process: what is not set in memory differs each time.
LIMITED = """
import resource, sys
from pathlib import Path
import h5py, numpy as np
from dnalm.formats.hdf5 import FileForHDF5

for room in range(3_000, 60_000, 700):
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    disk = FileForHDF5(Path(sys.argv[1]), "w+")
    with h5py.File(disk, "w") as file:
        for number in range(40):
            group = file.create_group(f"group {number}")
            group.attrs["said"] = "x" * 500
            group["numbers"] = np.arange(300.0)
            assert (group["numbers"][:] == np.arange(300.0)).all()
    assert disk.error is not None
    disk.close()
"""


def test_what_could_not_be_written_is_read_again(tmp_path: Path) -> None:
    with FileForHDF5(tmp_path / "file", "w+") as file:
        assert file.write(b"0123456789") == 10
        file.error = OSError(28, "No space left on device")
        file.seek(8)
        assert file.write(b"abcdef") == 6
        assert file.tell() == 14
        file.seek(4)
        assert file.write(b"XY") == 2
        file.seek(2)
        read = bytearray(14)
        assert file.readinto(read) == 14
        assert bytes(read) == b"23XY67abcdef\0\0"
        with pytest.raises(OSError, match="No space left"):
            file.check()
    assert (tmp_path / "file").read_bytes() == b"0123456789"


@pytest.mark.slow
def test_hdf5_goes_on_whatever_does_not_fit(tmp_path: Path) -> None:
    path = os.environ | {"PYTHONPATH": str(REPOSITORY / "scripts")}
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "file")], env=path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
