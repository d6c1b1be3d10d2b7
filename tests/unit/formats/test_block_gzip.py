"""Block-gzip files hold what was written, and a full disk has its number and the file's name."""

import errno
import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pysam
import pytest
from conftest import REPOSITORY
from dnalm.formats.block_gzip import BlockGzipFile

CONTENT = np.random.default_rng(0).bytes(200_000)


def test_what_is_written_is_block_gzip(tmp_path: Path) -> None:
    with BlockGzipFile(tmp_path / "x.gz") as file:
        assert file.write(CONTENT) == len(CONTENT)
        file.write(b"end")
    assert gzip.decompress((tmp_path / "x.gz").read_bytes()) == CONTENT + b"end"
    assert (tmp_path / "x.gz").read_bytes()[:4] == b"\x1f\x8b\x08\x04"


@pytest.mark.parametrize("size", [1_000, len(CONTENT)], ids=["at the end", "in the midst"])
def test_a_full_disk_has_its_number_and_htslib_is_silent(tmp_path: Path, size: int) -> None:
    verbosity = pysam.get_verbosity()
    code = f"""
import os, resource, signal
from pathlib import Path
from dnalm.formats.block_gzip import BlockGzipFile
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
try:
    with BlockGzipFile(Path("x.gz")) as file:
        file.write(os.urandom({size}))
except OSError as error:
    print(error.errno, error.filename)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(REPOSITORY / "scripts")},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == (f"{errno.ENOSPC} x.gz\n", "")
    assert pysam.get_verbosity() == verbosity
