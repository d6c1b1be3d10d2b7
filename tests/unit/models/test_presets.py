"""Recipes of pretraining: parameters of their models, and parts that go together."""

import json

import pytest
import torch
from conftest import REPOSITORY
from dnalm.models.presets import PRESETS
from dnalm.models.registry import new_language_model
from dnalm.models.vocabularies import all_kmers

# With the words that their recipes have.
PARAMETERS = {
    "demo": 107_456,
    "mistral-dna-1m": 985_664,
    "mistral-dna-17m": 16_797_952,
    "tutorial-105m": 104_993_024,
    "llama": 7_377_152,
    "modernbert": 5_579_264,
    "nt-v2-50m": 54_854_154,
    "dnabert2": 117_074_176,
}


def test_every_preset_with_a_model_is_checked() -> None:
    assert PRESETS.keys() == {*PARAMETERS, "custom"}
    assert PRESETS["custom"].config == {}


def test_the_tutorials_model_has_its_parameters_in_float32() -> None:
    preset = PRESETS["tutorial-105m"]
    description = json.loads((REPOSITORY / "tests" / "parity" / "data" / "dnabert2" / "tokenizer.json").read_text())
    config = preset.config | {"torch_dtype": "bfloat16"}
    with torch.device("meta"):
        model = new_language_model(config, {"tokenizer.json": description}, "tutorial", causal=True)
    assert model.with_head is not None
    assert sum(parameter.numel() for parameter in model.with_head.parameters()) == 104_993_024
    assert {parameter.dtype for parameter in model.with_head.parameters()} == {torch.float32}


@pytest.mark.slow
@pytest.mark.parametrize("preset", PARAMETERS)
def test_every_presets_model_can_be_made_and_has_float32_weights(preset: str) -> None:
    """With a vocabulary of its own size; weights without memory."""
    words = {"letters": 1, "6-mers": 6, "bpe": 6}[PRESETS[preset].tokenizer]
    tokenizer = json.loads(all_kmers(words).to_str())
    if PRESETS[preset].tokenizer == "bpe":
        vocabulary = list(tokenizer["model"]["vocab"])[:4_096]
        tokenizer["model"]["vocab"] = {word: number for number, word in enumerate(vocabulary)}
    with torch.device("meta"):
        model = new_language_model(
            PRESETS[preset].config | {"torch_dtype": "bfloat16"},
            {"tokenizer.json": tokenizer},
            preset,
            causal=PRESETS[preset].objective == "causal",
        )
    assert model.with_head is not None
    assert sum(parameter.numel() for parameter in model.with_head.parameters()) == PARAMETERS[preset]
    assert {parameter.dtype for parameter in model.with_head.parameters()} == {torch.float32}


@pytest.mark.parametrize("preset", [name for name in PARAMETERS if name != "dnabert2"])  # which has no such limit
def test_a_window_fits_the_positions_even_where_every_base_is_a_token(preset: str) -> None:
    recipe = PRESETS[preset]
    bases = 6 if recipe.tokenizer == "6-mers" else 1
    special = 2
    assert recipe.window // bases + recipe.window % bases + special <= recipe.config["max_position_embeddings"]
