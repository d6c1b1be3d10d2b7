"""Batches of cells, compared with one cell per forward pass."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import TEST_DATA
from dnalm.engine.cells import CellEmbedder
from dnalm.engine.devices import prepare_machine
from dnalm.engine.inference import DeviceMemoryError
from dnalm.errors import UserError
from dnalm.methods.expression_bins import CellTokens
from dnalm.models import scgpt
from dnalm.models.scgpt import CellModel
from dnalm.models.sources import open_model

MACHINE = prepare_machine("cpu", 1, None)
LENGTHS = [5, 21, 2, 21, 9, 1, 14]


@pytest.fixture
def model() -> CellModel:
    return scgpt.load(open_model(TEST_DATA / "scgpt.safetensors"))


@pytest.fixture
def cells_of() -> Callable[[CellModel, list[int]], list[CellTokens]]:
    """Return a function that makes cells of so many tokens, with random genes and bins."""

    def make(model: CellModel, lengths: list[int]) -> list[CellTokens]:
        generator = np.random.default_rng(0)
        known = [number for number in model.vocabulary.values() if number not in (model.pad_id, model.cls_id)]
        cells = []
        for length in lengths:
            genes = np.r_[model.cls_id, generator.choice(known, length - 1, replace=False)]
            values = np.r_[model.no_value, generator.integers(1, 51, length - 1)].astype(np.float32)
            cells.append(CellTokens(genes, values, length - 1))
        return cells

    return make


Cells = Callable[[CellModel, list[int]], list[CellTokens]]


@pytest.mark.parametrize("budget", [1, 60, 10_000])
def test_a_cells_vector_is_that_of_a_forward_pass_alone(model: CellModel, cells_of: Cells, budget: int) -> None:
    cells = cells_of(model, LENGTHS)
    found = CellEmbedder(model, replace(MACHINE, batch_tokens=budget)).embed(cells)
    assert (found.shape, found.dtype) == ((len(LENGTHS), model.hidden_size), np.float32)
    for cell, vector in zip(cells, found, strict=True):
        with torch.inference_mode():
            states = model.module.hidden_states(torch.from_numpy(cell.genes)[None], torch.from_numpy(cell.values)[None])
        alone = states[-1][0, 0].numpy()
        np.testing.assert_allclose(vector, alone / np.linalg.norm(alone), rtol=0, atol=1e-5)


def test_every_cell_is_reported_once(model: CellModel, cells_of: Cells) -> None:
    done: list[int] = []
    CellEmbedder(model, replace(MACHINE, batch_tokens=45)).embed(cells_of(model, LENGTHS), done.append)
    assert sum(done) == len(LENGTHS)
    assert len(done) > 1


def test_no_mask_is_made_where_nothing_is_padded(
    model: CellModel, cells_of: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks: list[torch.Tensor | None] = []
    usual = model.module.forward

    def watched(genes: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        masks.append(mask)
        return usual(genes, values, mask)

    monkeypatch.setattr(model.module, "forward", watched)
    embedder = CellEmbedder(model, MACHINE)
    embedder.embed(cells_of(model, [7, 7]))
    embedder.embed(cells_of(model, [7, 4]))
    assert masks[0] is None
    assert masks[1] is not None
    assert masks[1].sum(dim=1).tolist() == [7, 4]


def test_the_deviation_of_bfloat16_is_the_lowest_cosine(model: CellModel, cells_of: Cells) -> None:
    cells = cells_of(model, LENGTHS)
    embedder = CellEmbedder(model, MACHINE)
    exact = embedder.embed(cells)
    cosine = embedder.change_precision("bfloat16", cells)
    lower = embedder.embed(cells)
    assert 0.9 < cosine < 1
    assert cosine == pytest.approx((exact * lower).sum(axis=1).min(), abs=1e-6)


def test_nan_is_refused_in_the_words_of_cells(model: CellModel, cells_of: Cells) -> None:
    weight = model.module.encoder.embedding.weight
    weight.data = torch.full_like(weight, torch.nan)
    with pytest.raises(UserError, match="makes NaN or infinite numbers of a cell"):
        CellEmbedder(model, MACHINE).embed(cells_of(model, [3]))


def test_a_model_too_large_for_the_gpu_is_refused(model: CellModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(device: torch.device, dtype: torch.dtype) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(model, "to", full)
    with pytest.raises(DeviceMemoryError, match="does not fit into the GPU; use a larger GPU, or the CPU"):
        CellEmbedder(model, MACHINE)
