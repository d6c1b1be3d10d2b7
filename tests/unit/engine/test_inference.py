"""Pieces of tokens through a model: batched, each result with its piece, halved where memory ends."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ARCHITECTURES
from dnalm.engine.devices import prepare_machine
from dnalm.engine.inference import Piece, pad, run_apart, run_pieces
from dnalm.errors import UserError
from dnalm.methods.pooling import reduce_states
from dnalm.models.language_model import LanguageModel
from dnalm.models.registry import load_language_model
from dnalm.models.sources import open_model
from dnalm.models.tokenizers import JsonTokenizer
from tokenizers import Tokenizer, models, pre_tokenizers

LENGTHS = np.random.default_rng(3).integers(1, 150, 40).tolist()
SEQUENCES = ["".join(np.random.default_rng(length).choice(list("ACGTN"), length)) for length in LENGTHS]
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
        [len(piece) for piece in pieces],
        pieces.__getitem__,
        lambda ids, mask: model.hidden_states(ids, mask, [3])[0],
        lambda states, weights: reduce_states("mean", states, weights),
        model.pad_id,
        replace(MACHINE, batch_tokens=budget),
        on_batch,
    )
    return np.stack(results)


@pytest.mark.slow
def test_a_result_does_not_depend_on_batch_or_order(model: LanguageModel) -> None:
    pieces = pieces_of(model)
    alone = run(model, pieces, 1)
    scale = np.abs(alone).max()
    for budget in (100, 1_024, 100_000):
        np.testing.assert_allclose(run(model, pieces, budget), alone, rtol=0, atol=1e-5 * scale)
    order = np.random.default_rng(0).permutation(len(pieces))
    shuffled = run(model, [pieces[index] for index in order], 1_024)
    np.testing.assert_allclose(shuffled, alone[order], rtol=0, atol=1e-5 * scale)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_batches_are_padded_on_the_right_whatever_the_tokenizer_says(
    model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, architecture: str
) -> None:
    """Some models count positions from the left edge (test_language_model.py), so that all are padded on the right."""
    stored = open_model(model_folder(architecture))
    settings = stored.tokenizer["tokenizer_config.json"] | {"padding_side": "left"}
    leftist = load_language_model(replace(stored, tokenizer=stored.tokenizer | {"tokenizer_config.json": settings}))
    whole = leftist.hidden_states
    masks: list[torch.Tensor | None] = []

    def watched(input_ids: torch.Tensor, mask: torch.Tensor | None, layers: Sequence[int]) -> list[torch.Tensor]:
        masks.append(mask)
        return whole(input_ids, mask, layers)

    pieces = pieces_of(leftist)
    alone = run(leftist, pieces, 1)
    monkeypatch.setattr(leftist, "hidden_states", watched)
    together = run(leftist, pieces, 100_000)
    (mask,) = masks
    assert mask is not None
    assert (mask.diff(dim=1) <= 0).all()
    assert mask[:, 0].all()
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5 * np.abs(alone).max())


def test_a_tokenizer_json_that_pads_on_the_left_makes_no_pads() -> None:
    tokenizer = Tokenizer(models.WordLevel({"[PAD]": 0, "A": 1, "[UNK]": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.enable_padding(direction="left", length=50)
    encodings = JsonTokenizer(json.loads(tokenizer.to_str()), {"padding_side": "left"}).encode(["AA", "AAAA"])
    ids, mask, _ = pad([Piece(found.ids, np.ones(len(found), dtype=np.float32)) for found in encodings], 0)
    assert ids.tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert mask.tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.parametrize("threads", [1, 3])
def test_pieces_run_apart_keep_their_order_and_are_reported(threads: int) -> None:
    lengths = [3, 90, 1, 20, 90]
    done: list[int] = []

    def numbered(index: int) -> Piece:
        return Piece(np.full(lengths[index], index), np.ones(lengths[index], dtype=np.float32))

    def run(offset: float) -> list[np.ndarray]:
        return run_apart(lengths, numbered, lambda ids: ids[..., None] + offset, by_mean, threads, done.extend)

    def by_mean(states: torch.Tensor, weights: torch.Tensor) -> list[torch.Tensor]:
        return list((states * weights[..., None]).sum(1) / weights.sum(1))

    assert [float(result[0]) for result in run(0.0)] == [0, 1, 2, 3, 4]
    assert done == [1, 4, 3, 0, 2]
    with pytest.raises(UserError, match="NaN or infinite"):
        run(float("nan"))
