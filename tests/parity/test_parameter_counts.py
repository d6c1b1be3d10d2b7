"""Parameters of the published models' sizes, without their weights.

The numbers are those of the uploads' config.json; their other settings are in the tiny models of `data`, which are in the
uploads' layout. Counts of the Nucleotide Transformer v2 include the position table that its files carry and nothing uses.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from dnalm.models import dnabert2, nucleotide_transformer_v2
from dnalm.models.model_file import StoredModel
from torch import nn

DATA = Path(__file__).parent / "data"


def published(tiny: str, **numbers: float | str | None) -> dict[str, Any]:
    """Return the config of an upload: that of the tiny model in its layout, with the upload's own numbers."""
    return json.loads((DATA / tiny / "config.json").read_text()) | numbers


V2 = {"layer_norm_eps": 1e-12, "num_attention_heads": 16, "max_position_embeddings": 2050, "vocab_size": 4107}
MIXTRAL = {
    "model_type": "mixtral",
    "hidden_act": "silu",
    "hidden_size": 256,
    "intermediate_size": 256,
    "max_position_embeddings": 512,
    "num_attention_heads": 8,
    "num_experts_per_tok": 1,
    "num_hidden_layers": 8,
    "num_key_value_heads": 8,
    "num_local_experts": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e6,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "vocab_size": 4096,
}
# Config, parameters that the model uses, and the number its authors give in millions.
PUBLISHED: dict[str, tuple[dict[str, Any], int, float]] = {
    "nt_2.5b": (
        published(
            "nt_v1",
            hidden_size=2560,
            num_hidden_layers=32,
            num_attention_heads=20,
            intermediate_size=10240,
            max_position_embeddings=1002,
            layer_norm_eps=1e-12,
            vocab_size=4105,
        ),
        2_547_801_226,
        2547.8,
    ),
    "nt_agro": (
        published(
            "nt_agro",
            hidden_size=1500,
            num_hidden_layers=40,
            num_attention_heads=20,
            intermediate_size=5120,
            max_position_embeddings=1026,
            layer_norm_eps=1e-12,
            vocab_size=4105,
        ),
        991_261_206,
        991.3,
    ),
    "nt_v2_50m": (
        published("nt_v2", **V2, hidden_size=512, num_hidden_layers=12, intermediate_size=2048),
        54_855_179,
        55.9,
    ),
    "nt_v2_100m": (
        published("nt_v2", **V2, hidden_size=512, num_hidden_layers=22, intermediate_size=2048),
        96_839_179,
        97.9,
    ),
    "nt_v2_250m": (
        published("nt_v2", **V2, hidden_size=768, num_hidden_layers=24, intermediate_size=3072),
        233_545_995,
        235.1,
    ),
    "nt_v2_500m": (
        published("nt_v2", **V2, hidden_size=1024, num_hidden_layers=29, intermediate_size=4096),
        496_245_771,
        498.3,
    ),
    "dnabert2": (
        published(
            "dnabert2",
            alibi_starting_size=512,
            hidden_size=768,
            num_hidden_layers=12,
            num_attention_heads=12,
            intermediate_size=3072,
            layer_norm_eps=1e-12,
            vocab_size=4096,
        ),
        117_074_176,
        117.1,
    ),
    "mixtral": (MIXTRAL, 104_993_024, 105.0),
}


def shapes_only(config: dict[str, Any]) -> nn.Module:
    """Build a model with its language-model head of shapes without memory."""
    layers = {str(number): None for number in range(config["num_hidden_layers"])}
    stored = StoredModel("sizes", (), layers, config, {})  # type: ignore[arg-type]
    with torch.device("meta"):
        for ours in (nucleotide_transformer_v2, dnabert2):
            if ours.recognises(config):
                return ours.MaskedLanguageModel(ours.read_sizes(stored))
        if config["model_type"] == "mixtral":
            return transformers.MixtralForCausalLM(transformers.MixtralConfig(**config))
        return transformers.EsmForMaskedLM(transformers.EsmConfig(**config))


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_give_the_published_parameters(name: str) -> None:
    config, parameters, millions = PUBLISHED[name]
    assert count(shapes_only(config)) == parameters
    table = config["max_position_embeddings"] * config["hidden_size"] if name.startswith("nt_v2") else 0
    assert round((parameters + table) / 1e6, 1) == millions
