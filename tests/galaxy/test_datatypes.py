"""Galaxy's own classes recognise what the tools write."""

import json
import subprocess
from pathlib import Path

import pytest
import torch
from conftest import ENVIRONMENTS, TEST_DATA
from dnalm.models.model_file import write_model_file

GALAXY_PYTHON = ENVIRONMENTS / "galaxy" / "bin" / "python"
SNIFF = """
import json, sys
from galaxy.datatypes.binary import Safetensors
print(json.dumps([Safetensors().sniff(path) for path in sys.argv[1:]]))
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Model files with headers of every length modulo 16."""
    folder = tmp_path_factory.mktemp("models")
    paths = []
    for length in range(1, 18):
        path = folder / f"dataset_{length}.dat"
        write_model_file(path, {"w": torch.ones(2, 3)}, {"model_type": "esm"}, {}, name="x" * length)
        paths.append(path)
    return [*paths, TEST_DATA / "random_model.safetensors"]


def test_galaxy_recognises_every_model_file(models: list[Path]) -> None:
    done = subprocess.run([GALAXY_PYTHON, "-c", SNIFF, *models], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [True] * len(models)
