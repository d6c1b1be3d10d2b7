"""Which architectures of transformers are read, known without importing transformers, which takes seconds.

Of all that transformers has, those are read whose hidden states were tested to be transformers' own at every layer and
not to depend on padding.
"""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Each has a row in tests/conftest.py; others may depend on padding, keep state or have no plain list of layers.
ARCHITECTURES = (
    "bert",
    "deberta-v2",
    "distilbert",
    "electra",
    "esm",
    "gemma",
    "gemma2",
    "gpt2",
    "gpt_neox",
    "llama",
    "mistral",
    "mixtral",
    "modernbert",
    "modernbert-decoder",
    "olmo",
    "olmo2",
    "phi",
    "qwen2",
    "qwen3",
    "roberta",
    "roformer",
    "starcoder2",
)


def recognises(config: Mapping[str, Any]) -> bool:
    """Return whether a config.json is of one of these architectures."""
    return config.get("model_type") in ARCHITECTURES


def is_pretrained_model(module: object) -> "TypeGuard[PreTrainedModel]":
    """Return whether a module is a transformers model, without importing transformers for the question."""
    # No instance exists before the module that defines the class was imported.
    modeling = sys.modules.get("transformers.modeling_utils")
    return modeling is not None and isinstance(module, modeling.PreTrainedModel)
