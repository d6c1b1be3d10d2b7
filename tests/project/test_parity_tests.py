"""Tests against reference programs can pass or fail, and nothing else."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

SKIPPED = {
    "one test": "import pytest\n@pytest.mark.skip\ndef test_x(): pass\n",
    "a test that looks for its data": "import pytest\ndef test_x(): pytest.skip('no data')\n",
    "an expected failure": "import pytest\n@pytest.mark.xfail\ndef test_x(): assert False\n",
    "a whole file": "import pytest\npytest.importorskip('no_such_module')\ndef test_x(): pass\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("how", SKIPPED)
def test_a_parity_test_that_is_skipped_has_failed(tmp_path: Path, how: str) -> None:
    shutil.copy(REPOSITORY / "tests" / "parity" / "conftest.py", tmp_path)
    (tmp_path / "test_one.py").write_text(SKIPPED[how])
    (tmp_path / "test_other.py").write_text("def test_y(): pass\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode in (1, 2), done.stdout
    assert "was skipped; the parity data are in the project" in done.stdout
