"""One real Galaxy for all tests, serving the suite as the Tool Shed ships it."""

import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import REPOSITORY
from server import GalaxyServer

ENVIRONMENTS = REPOSITORY / ".environments"
NOT_SHIPPED = shutil.ignore_patterns(".git", ".environments", ".galaxy", ".*_cache", "demo-results", "__pycache__")


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the Tool Shed's archive of the suite and unpack it into an empty folder."""
    folder = tmp_path_factory.mktemp("tool-shed")
    # A copy, because planemo writes the archive beside the folder it is made of.
    shutil.copytree(REPOSITORY, folder / "suite", symlinks=True, ignore=NOT_SHIPPED)
    planemo = ENVIRONMENTS / "planemo" / "bin" / "planemo"
    subprocess.run([planemo, "shed_build", folder / "suite"], check=True, cwd=folder, stdin=subprocess.DEVNULL)
    unpacked = folder / "unpacked"
    with tarfile.open(folder / "suite.tar.gz") as archive:
        archive.extractall(unpacked, filter="data")
    shutil.rmtree(folder / "suite")
    return unpacked


@pytest.fixture(scope="session")
def galaxy(shipped: Path) -> Iterator[GalaxyServer]:
    """A running Galaxy with the shipped suite, and nothing of the checkout."""
    with GalaxyServer(REPOSITORY / ".galaxy" / "test", shipped, ENVIRONMENTS) as server:
        yield server
