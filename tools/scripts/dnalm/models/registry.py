"""From a stored model to a language model that runs: which code reads which architecture."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from dnalm.errors import UserError, shown
from dnalm.models import dnabert2, nucleotide_transformer_v2, scgpt, transformers_native
from dnalm.models.language_model import LanguageModel
from dnalm.models.model_file import StoredModel
from dnalm.models.tokenizers import tokenizer_from_files

# The first that recognises a config reads the model; ours go before transformers', which would misread some.
ARCHITECTURES = (nucleotide_transformer_v2, dnabert2, transformers_native)
NAMES = (nucleotide_transformer_v2.NAME, dnabert2.NAME, *transformers_native.ARCHITECTURES)


def load_language_model(stored: StoredModel, *, head: bool = False) -> LanguageModel:
    """Return the model, with its language-model head if asked for, in float32 on the CPU, ready for inference.

    Raises:
        UserError: the architecture is unknown; config, tensors and tokenizer do not fit together; or there is no head.
    """
    architecture = _architecture(stored)
    try:
        return architecture.load(stored, head=head)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # whatever a strange config brings transformers or torch to
        raise UserError(
            f"The model '{stored.name}' cannot be loaded ({shown(error, 200)}); use intact files."
        ) from error


def new_language_model(
    config: Mapping[str, Any], tokenizer: Mapping[str, Any], name: str, *, causal: bool
) -> LanguageModel:
    """Return an untrained model with its language-model head, in float32; torch's seed decides over its weights.

    Args:
        config: config.json; what depends on the tokenizer (vocabulary, special tokens) is filled in.
        tokenizer: tokenizer file name → content.
        name: what people call the model.
        causal: whether each token is to be predicted from those left of it, rather than masked ones from all.

    Raises:
        UserError: the architecture is unknown, the config asks for what cannot be, or it cannot be trained so.
    """
    words = tokenizer_from_files(tokenizer)
    filled = {
        **config,
        "vocab_size": words.vocabulary_size,
        "pad_token_id": words.pad_id,
        "bos_token_id": words.cls_id,
        "eos_token_id": words.eos_id,
    }
    said = {**config}
    if type(said.get("vocab_size")) is int and said["vocab_size"] != words.vocabulary_size:
        raise UserError(
            f"The config of the model '{name}' has vocab_size {said['vocab_size']:,}, the tokenizer "
            f"{words.vocabulary_size:,} words; leave vocab_size out of the config, or use its own tokenizer."
        )
    # As many tensors as the config may ask for layers: there are none yet.
    stored = StoredModel(name, (), dict.fromkeys(map(str, range(MOST_LAYERS))), filled, dict(tokenizer))  # type: ignore[arg-type]
    architecture = _architecture(stored)
    try:
        model = architecture.create(stored, causal=causal)
    except (UserError, MemoryError):
        raise
    except Exception as error:
        raise UserError(f"No model can be made of this config ({shown(error, 200)}); mend the config.") from error
    return model


MOST_LAYERS = 4_096
# What of a config the tokenizer, or the objective, decides.
FILLED = ("vocab_size", "pad_token_id", "bos_token_id", "eos_token_id", "architectures")


def trainable(model: LanguageModel) -> nn.Module:
    """Return a model's module with its head, ready to be trained: weights of its own that no file is mapped to."""
    whole = model.with_head
    assert whole is not None
    for parameter in whole.parameters():
        parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
        parameter.requires_grad_(True)
    return whole.train()


def published_tensors(model: LanguageModel, folder: Path) -> dict[str, Tensor]:
    """Return a model's weights under the names that its architecture publishes.

    Args:
        model: with its head.
        folder: an empty folder of this job's own; the weights are mapped from files in it.
    """
    assert model.with_head is not None
    try:
        return _architecture(model.stored).published_tensors(model.with_head, folder)
    except SafetensorError as error:
        # The library tells of a full disk in words alone.
        if number := re.search(r"\(os error (\d+)\)", str(error)):
            raise OSError(int(number[1]), str(error), str(folder)) from error
        raise


def refuse_unknown_architecture(config: Mapping[str, Any], name: str) -> None:
    """Raise UserError if no code here reads models with such a config."""
    if not any(architecture.recognises(config) for architecture in (*ARCHITECTURES, scgpt)):
        raise UserError(
            f"The architecture '{shown(config.get('model_type'))}' of the model '{name}' is unknown here; "
            f"use one of {', '.join((*NAMES, scgpt.NAME))}."
        )


def _architecture(stored: StoredModel) -> Any:
    if scgpt.recognises(stored.config):
        raise UserError(f"The model '{stored.name}' reads cells, and no DNA; choose a DNA language model.")
    refuse_unknown_architecture(stored.config, stored.name)
    return next(architecture for architecture in ARCHITECTURES if architecture.recognises(stored.config))
