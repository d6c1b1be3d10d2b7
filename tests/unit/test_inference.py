from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from dnalm.engine.devices import prepare_machine
from dnalm.engine.inference import Piece, run_pieces
from dnalm.errors import UserError
from dnalm.methods.pooling import reduce_states
from dnalm.models.language_model import LanguageModel
from dnalm.models.registry import load_language_model
from dnalm.models.sources import open_model

GENERATOR = np.random.default_rng(3)
SEQUENCES = ["".join(GENERATOR.choice(list("ACGTN"), length)) for length in GENERATOR.integers(1, 150, 40)]
MACHINE = prepare_machine("cpu", 1, None)


@pytest.fixture(params=["esm-rotary", "esm-absolute", "mixtral", "modernbert"])
def model(request: pytest.FixtureRequest, model_folder: Callable[[str], Path]) -> LanguageModel:
    return load_language_model(open_model(model_folder(request.param)))


def pieces_of(model: LanguageModel) -> list[Piece]:
    return [Piece(found.ids, (~found.special).astype(np.float32)) for found in model.encode(SEQUENCES)]


def run(
    model: LanguageModel, pieces: list[Piece], budget: int, on_batch: Callable[[list[int]], None] = lambda indices: None
) -> np.ndarray:
    results = run_pieces(
        pieces,
        lambda ids, mask: model.hidden_states(ids, mask, [3])[0],
        lambda states, weights: reduce_states("mean", states, weights),
        model.pad_id,
        replace(MACHINE, batch_tokens=budget),
        on_batch,
    )
    return np.stack(results)


def test_a_result_does_not_depend_on_batch_or_order(model: LanguageModel) -> None:
    pieces = pieces_of(model)
    alone = run(model, pieces, 1)
    scale = np.abs(alone).max()
    for budget in (100, 1_024, 100_000):
        np.testing.assert_allclose(run(model, pieces, budget), alone, rtol=0, atol=1e-5 * scale)
    order = GENERATOR.permutation(len(pieces))
    shuffled = run(model, [pieces[index] for index in order], 1_024)
    np.testing.assert_allclose(shuffled, alone[order], rtol=0, atol=1e-5 * scale)


def test_every_piece_is_reported_once(model: LanguageModel) -> None:
    done: list[int] = []
    run(model, pieces_of(model), 300, done.extend)
    assert sorted(done) == list(range(len(SEQUENCES)))


def memory_for(tokens: int, model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the model run out of GPU memory beyond a number of padded tokens."""
    whole = model.hidden_states

    def limited(input_ids: torch.Tensor, attention_mask: torch.Tensor | None, layers: list[int]) -> list[torch.Tensor]:
        if input_ids.numel() > tokens:
            raise torch.OutOfMemoryError
        return whole(input_ids, attention_mask, layers)

    monkeypatch.setattr(model, "hidden_states", limited)


def test_a_batch_too_large_for_the_gpu_is_halved(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = pieces_of(model)
    expected = run(model, pieces, 100_000)
    memory_for(400, model, monkeypatch)
    np.testing.assert_allclose(run(model, pieces, 100_000), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_one_sequence_too_large_for_the_gpu_is_said_plainly(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory_for(5, model, monkeypatch)
    with pytest.raises(UserError, match=r"tokens does not fit into the GPU"):
        run(model, pieces_of(model), 1_024)


def test_numbers_that_are_none_are_never_written(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = model.hidden_states
    monkeypatch.setattr(model, "hidden_states", lambda *given: [states * float("nan") for states in whole(*given)])
    with pytest.raises(UserError, match="NaN or infinite"):
        run(model, pieces_of(model), 1_024)
