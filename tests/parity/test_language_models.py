"""Language models against their reference implementations (each data/<case>/README.md says which, and how)."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from dnalm.models.language_model import LanguageModel
from dnalm.models.registry import load_language_model
from dnalm.models.sources import open_model
from safetensors.torch import load_file
from torch import Tensor

DATA = Path(__file__).parent / "data"
CASES = ["nt_v1", "nt_agro", "nt_v2", "dnabert2"]
BATCHES = [(case, prefix) for case in CASES for prefix in ("", "long.") if (case, prefix) != ("dnabert2", "long.")]
TOLERANCE = 2e-5  # of the largest value; a wrong epsilon of the norms differs by more
BFLOAT16_TOLERANCE = 4e-2  # bfloat16 has 8 bits: 0.4 % a number, gathered over three layers
PROBABILITY_TOLERANCE = 1e-5

every_batch = pytest.mark.parametrize(("case", "prefix"), BATCHES)


@pytest.fixture(scope="module")
def expected() -> Callable[[str], dict[str, Tensor]]:
    """What the reference computed."""
    return lambda case: load_file(DATA / case / "expected.safetensors")


def load(case: str) -> LanguageModel:
    return load_language_model(open_model(DATA / case), head=True)


def scaled_difference(found: Tensor, wanted: Tensor, mask: Tensor) -> float:
    """Return the largest difference outside padding, as a share of the largest value."""
    difference = (found.float() - wanted)[mask.bool()].abs().max()
    return float(difference / wanted[mask.bool()].abs().max())


def moved_left(values: Tensor, mask: Tensor, fill: float) -> Tensor:
    """Move each row's tokens to its end."""
    moved = torch.full_like(values, fill)
    for row, length in enumerate(mask.sum(1).tolist()):
        moved[row, values.shape[1] - length :] = values[row, :length]
    return moved


@every_batch
def test_hidden_states_of_every_layer_equal_the_reference(
    expected: Callable[[str], dict[str, Tensor]], case: str, prefix: str
) -> None:
    model, wanted = load(case), expected(case)
    ids, mask = wanted[prefix + "input_ids"], wanted[prefix + "attention_mask"]
    layers = range(len(model.layers) + 1)
    with torch.inference_mode():
        for layer, found in enumerate(model.hidden_states(ids, mask, layers)):
            assert scaled_difference(found, wanted[f"{prefix}hidden_states.{layer}"], mask) <= TOLERANCE, layer


@every_batch
def test_a_sequence_alone_equals_the_reference(
    expected: Callable[[str], dict[str, Tensor]], case: str, prefix: str
) -> None:
    model, wanted = load(case), expected(case)
    layers = range(len(model.layers) + 1)
    for row, mask in enumerate(wanted[prefix + "attention_mask"]):
        ids = wanted[prefix + "input_ids"][row][None, mask.bool()]
        with torch.inference_mode():
            for layer, found in enumerate(model.hidden_states(ids, None, layers)):
                reference = wanted[f"{prefix}hidden_states.{layer}"][row][None, mask.bool()]
                assert scaled_difference(found, reference, torch.ones_like(ids)) <= TOLERANCE


@every_batch
def test_left_padding_equals_the_reference(
    expected: Callable[[str], dict[str, Tensor]], case: str, prefix: str
) -> None:
    model, wanted = load(case), expected(case)
    mask = wanted[prefix + "attention_mask"]
    ids = moved_left(wanted[prefix + "input_ids"], mask, model.pad_id)
    left_mask = moved_left(mask, mask, 0)
    with torch.inference_mode():
        for layer, found in enumerate(model.hidden_states(ids, left_mask, range(len(model.layers) + 1))):
            reference = moved_left(wanted[f"{prefix}hidden_states.{layer}"], mask, 0)
            assert scaled_difference(found, reference, left_mask) <= TOLERANCE


@pytest.mark.parametrize("case", CASES)
def test_logits_equal_the_reference(expected: Callable[[str], dict[str, Tensor]], case: str) -> None:
    model, wanted = load(case), expected(case)
    with torch.inference_mode():
        found = model.logits(wanted["input_ids"], wanted["attention_mask"])
    assert scaled_difference(found, wanted["logits"], wanted["attention_mask"]) <= TOLERANCE


@pytest.mark.parametrize("case", CASES)
def test_attention_maps_equal_the_reference(expected: Callable[[str], dict[str, Tensor]], case: str) -> None:
    model, wanted = load(case), expected(case)
    layers = [int(name.removeprefix("attentions.")) for name in wanted if name.startswith("attentions.")]
    mask = wanted["attention_mask"].bool()
    between_tokens = (mask[:, None, :, None] & mask[:, None, None, :]).expand(wanted[f"attentions.{layers[0]}"].shape)
    with torch.inference_mode():
        for layer, found in zip(layers, model.attention_maps(wanted["input_ids"], mask, layers), strict=True):
            difference = (found - wanted[f"attentions.{layer}"])[between_tokens].abs().max()
            assert difference <= PROBABILITY_TOLERANCE


@pytest.mark.parametrize("case", CASES)
def test_bfloat16_stays_near_the_reference(expected: Callable[[str], dict[str, Tensor]], case: str) -> None:
    model, wanted = load(case), expected(case)
    model.to(torch.device("cpu"), torch.bfloat16)
    with torch.inference_mode():
        found = model.logits(wanted["input_ids"], wanted["attention_mask"])
    assert scaled_difference(found, wanted["logits"], wanted["attention_mask"]) <= BFLOAT16_TOLERANCE


@pytest.mark.parametrize("case", CASES)
def test_ids_equal_the_reference(expected: Callable[[str], dict[str, Tensor]], case: str) -> None:
    model, wanted = load(case), expected(case)
    rows = {"main": 0, "long": 0}
    for item in json.loads((DATA / case / "inputs.json").read_text()):
        group = item.get("group", "main")
        prefix = "long." if group == "long" else ""
        row, rows[group] = rows[group], rows[group] + 1
        reference = wanted[prefix + "input_ids"][row][wanted[prefix + "attention_mask"][row].bool()].tolist()
        ids = model.encode([item["sequence"]])[0].ids.tolist()
        masked = set(item.get("mask_positions", []))
        assert [token for place, token in enumerate(ids) if place not in masked] == [
            token for place, token in enumerate(reference) if place not in masked
        ]
        assert len(ids) == len(reference)
