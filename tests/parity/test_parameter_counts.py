"""Parameters of the published models' sizes, without their weights.

The sizes are those of the uploads' config.json; counts of the Nucleotide Transformer v2 include the position table that
its files carry and nothing uses.
"""

import json
from typing import Any

import pytest
import torch
import transformers
from conftest import SHARED_DATA
from dnalm.models import dnabert2, nucleotide_transformer_v2
from dnalm.models.model_file import StoredModel
from torch import nn

ESM = {
    "model_type": "esm",
    "position_embedding_type": "absolute",
    "pad_token_id": 1,
    "mask_token_id": 2,
    "vocab_size": 4105,
    "tie_word_embeddings": False,
}
V2 = {
    "add_bias_fnn": False,
    "position_embedding_type": "rotary",
    "layer_norm_eps": 1e-12,
    "num_attention_heads": 16,
    "max_position_embeddings": 2050,
    "vocab_size": 4107,
}
# Config, parameters that the model uses, and the number its authors give in millions.
PUBLISHED: dict[str, tuple[dict[str, Any], int, float]] = {
    "nt_2.5b": (
        ESM
        | {
            "hidden_size": 2560,
            "num_hidden_layers": 32,
            "num_attention_heads": 20,
            "intermediate_size": 10240,
            "max_position_embeddings": 1002,
        },
        2_547_801_226,
        2547.8,
    ),
    "nt_agro": (
        ESM
        | {
            "hidden_size": 1500,
            "num_hidden_layers": 40,
            "num_attention_heads": 20,
            "intermediate_size": 5120,
            "max_position_embeddings": 1026,
        },
        991_261_206,
        991.3,
    ),
    "nt_v2_50m": (V2 | {"hidden_size": 512, "num_hidden_layers": 12, "intermediate_size": 2048}, 54_855_179, 55.9),
    "nt_v2_100m": (V2 | {"hidden_size": 512, "num_hidden_layers": 22, "intermediate_size": 2048}, 96_839_179, 97.9),
    "nt_v2_250m": (V2 | {"hidden_size": 768, "num_hidden_layers": 24, "intermediate_size": 3072}, 233_545_995, 235.1),
    "nt_v2_500m": (V2 | {"hidden_size": 1024, "num_hidden_layers": 29, "intermediate_size": 4096}, 496_245_771, 498.3),
    "dnabert2": (
        {
            "alibi_starting_size": 512,
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "intermediate_size": 3072,
            "vocab_size": 4096,
            "type_vocab_size": 2,
            "layer_norm_eps": 1e-12,
            "max_position_embeddings": 512,
        },
        117_074_176,
        117.1,
    ),
    "mixtral": (
        {
            "model_type": "mixtral",
            "hidden_size": 256,
            "num_hidden_layers": 8,
            "num_attention_heads": 8,
            "num_key_value_heads": 8,
            "intermediate_size": 256,
            "num_local_experts": 64,
            "num_experts_per_tok": 1,
            "vocab_size": 4096,
        },
        104_993_024,
        105.0,
    ),
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


def test_the_sizes_are_those_of_the_real_configs() -> None:
    found = {path.stem.removesuffix("_config"): path for path in SHARED_DATA.glob("configs/*.json")}
    found["mixtral"] = SHARED_DATA / "mixtral_dna_105m" / "config.json"
    for name, path in found.items():
        if not path.is_file():  # a clone has none of them; the sizes above stand for them
            continue
        config = json.loads(path.read_text())
        assert count(shapes_only(config)) == PUBLISHED[name][1], name
