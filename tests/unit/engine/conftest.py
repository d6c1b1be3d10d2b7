"""Fixtures for the tests of the engine."""

from collections.abc import Callable

import pytest
from dnalm.models.language_model import LanguageModel
from tiny_variants import make_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], LanguageModel]:
    """Return a function that makes a tiny random model, by how it reads and by its kind of tokenizer."""
    made: dict[tuple[str, str], LanguageModel] = {}

    def make(reads: str, kind: str) -> LanguageModel:
        if (reads, kind) not in made:
            made[reads, kind] = make_model(tmp_path_factory.mktemp("model"), reads, kind)
        return made[reads, kind]

    return make
