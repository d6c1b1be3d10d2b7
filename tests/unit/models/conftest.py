"""Fixtures of the tests of models: segmenters of the parity data with another config or other tensors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY
from dnalm.models.model_file import StoredModel, write_model_file
from dnalm.models.sources import open_model
from torch import Tensor

PARITY = REPOSITORY / "tests" / "parity" / "data"


@pytest.fixture
def changed_segmenter(tmp_path: Path) -> Callable[..., StoredModel]:
    """Return a function that gives a segmenter whose config, or tensors, are other ones."""

    def change(
        tensors: Callable[[dict[str, Tensor]], object] = lambda tensors: None,
        case: str = "segment_nt",
        **config: Any,
    ) -> StoredModel:
        stored = open_model(PARITY / case)
        weights = stored.read_tensors()
        tensors(weights)
        write_model_file(tmp_path / "m.safetensors", weights, stored.config | config, stored.tokenizer, name="m")
        return open_model(tmp_path / "m.safetensors")

    return change
