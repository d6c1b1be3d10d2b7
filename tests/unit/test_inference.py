from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from dnalm.engine.devices import prepare_machine
from dnalm.engine.inference import embed_encodings
from dnalm.errors import UserError
from dnalm.methods.pooling import POOLINGS
from dnalm.models.language_model import LanguageModel
from dnalm.models.registry import load_language_model
from dnalm.models.sources import open_model

GENERATOR = np.random.default_rng(3)
SEQUENCES = ["".join(GENERATOR.choice(list("ACGTN"), length)) for length in GENERATOR.integers(1, 150, 40)]


@pytest.fixture(params=["esm-rotary", "esm-absolute", "mixtral", "modernbert"])
def model(request: pytest.FixtureRequest, model_folder: Callable[[str], Path]) -> LanguageModel:
    return load_language_model(open_model(model_folder(request.param)))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_vector_does_not_depend_on_batch_or_order(model: LanguageModel, pooling: str) -> None:
    encodings = model.encode(SEQUENCES)
    machine = prepare_machine("cpu", 1, None)
    alone = embed_encodings(model, encodings, POOLINGS[pooling], 3, replace(machine, batch_tokens=1))
    for budget in (100, 1_024, 100_000):
        together = embed_encodings(model, encodings, POOLINGS[pooling], 3, replace(machine, batch_tokens=budget))
        np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5 * np.abs(alone).max())
    order = GENERATOR.permutation(len(encodings))
    shuffled = embed_encodings(model, [encodings[index] for index in order], POOLINGS[pooling], 3, machine)
    np.testing.assert_allclose(shuffled, alone[order], rtol=0, atol=1e-5 * np.abs(alone).max())


def test_every_encoding_is_reported_once(model: LanguageModel) -> None:
    done: list[int] = []
    machine = prepare_machine("cpu", 1, 300)
    embed_encodings(model, model.encode(SEQUENCES), POOLINGS["mean"], 1, machine, done.extend)
    assert sorted(done) == list(range(len(SEQUENCES)))


def memory_for(tokens: int, model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the model run out of GPU memory beyond a number of padded tokens."""
    whole = model.hidden_states

    def limited(input_ids: torch.Tensor, attention_mask: torch.Tensor | None, layer: int) -> torch.Tensor:
        if input_ids.numel() > tokens:
            raise torch.OutOfMemoryError
        return whole(input_ids, attention_mask, layer)

    monkeypatch.setattr(model, "hidden_states", limited)


def test_a_batch_too_large_for_the_gpu_is_halved(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    encodings = model.encode(SEQUENCES)
    machine = prepare_machine("cpu", 1, 100_000)
    expected = embed_encodings(model, encodings, POOLINGS["mean"], 3, machine)
    memory_for(400, model, monkeypatch)
    found = embed_encodings(model, encodings, POOLINGS["mean"], 3, machine)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_one_sequence_too_large_for_the_gpu_is_said_plainly(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory_for(5, model, monkeypatch)
    with pytest.raises(UserError, match=r"tokens does not fit into the GPU"):
        embed_encodings(model, model.encode(SEQUENCES), POOLINGS["mean"], 3, prepare_machine("cpu", 1, None))
