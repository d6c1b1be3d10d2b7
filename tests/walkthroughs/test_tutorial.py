"""Every step of the tutorial, in a real Galaxy and in a shell: what comes out is what its page says."""

import shutil
import subprocess
import sys
from pathlib import Path

import client
import make_tutorial
import numpy as np
import pytest
from conftest import REPOSITORY
from numpy.typing import NDArray
from PIL import Image
from server import GalaxyServer
from tutorial import PAGE, Tutorial, differences, read_tables

MOST_DEVIATION = 0.02  # of the range of a picture's brightness, on average


@pytest.fixture(scope="module")
def made(galaxy: GalaxyServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the tables and the images of a run of today."""
    folder = tmp_path_factory.mktemp("tutorial")
    make_tutorial.run(client.connect(galaxy), Tutorial(), folder / "tables", folder / "images")
    return folder


def test_the_numbers_are_those_of_the_page(made: Path) -> None:
    assert not list(differences(PAGE.read_text(), Tutorial().render(read_tables(made / "tables"))))


def test_the_pictures_are_those_of_the_page(made: Path) -> None:
    shown = sorted((PAGE.parent / "images").iterdir())
    assert [path.name for path in shown] == sorted(path.name for path in (made / "images").iterdir())
    for path in shown:
        expected, found = brightness(path), brightness(made / "images" / path.name)
        assert expected.shape == found.shape
        assert np.abs(expected - found).mean() < MOST_DEVIATION


def brightness(path: Path) -> NDArray[np.float64]:
    return np.asarray(Image.open(path).convert("L"), dtype=np.float64) / 255


def test_its_commands_in_a_shell_give_the_numbers_of_the_page(tmp_path: Path) -> None:
    tutorial = Tutorial()
    for name in ("scripts", "test-data"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    for command in tutorial.commands().values():
        done = subprocess.run(
            command.replace("python", sys.executable, 1),
            shell=True,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), command
    (tmp_path / "tables").mkdir()
    for name in tutorial.tables():
        made = tmp_path / tutorial.file(name)
        shutil.copy(made, tmp_path / "tables" / f"{name}{made.suffix}")
    assert not list(differences(PAGE.read_text(), tutorial.render(read_tables(tmp_path / "tables"))))
