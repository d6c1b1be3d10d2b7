"""Architectures that transformers has natively: BERT, ESM (Nucleotide Transformer v1), Mixtral (Mistral-DNA).

`transformers_names` lists which. No remote code: `auto_map` is ignored, and so is every config key that would make
transformers fetch or patch code.
"""

import inspect
import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, PreTrainedConfig, PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import convert_and_load_state_dict_in_model
from transformers.modeling_utils import LoadStateDictConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    MODEL_MAPPING,
)

from dnalm.errors import UserError
from dnalm.models.configs import fitting_pad, refuse_absurd_sizes, refuse_unfit_numbers
from dnalm.models.language_model import LanguageModel, NoLanguageModelHead
from dnalm.models.model_file import BUFFERS, StoredModel
from dnalm.models.tokenizers import Tokenizer, tokenizer_from_files

# These keys of a config choose code, files or kinds of output rather than shapes; a model's file has no say in them.
IGNORED_CONFIG_KEYS = re.compile(
    r"_.*|auto_map|.*attn_implementation.*|.*experts_implementation.*|.*attention_implementation.*|return_dict|output_.*|"
    r"use_return_dict|torchscript|(torch_)?dtype|transformers_.*|fusion_config|name_or_path|chunk_size_feed_forward|"
    r"is_encoder_decoder|add_cross_attention|is_decoder|sub_configs|model_type|reference_compile|compile.*|"
    r"gradient_checkpointing"
)
# Rotary frequencies of these change with the longest sequence of a batch.
UNSTEADY_ROPES = ("dynamic", "longrope")
HEADS = ("ForMaskedLM", "ForCausalLM", "ForPreTraining", "LMHeadModel", "Classification", "Model")
# Stored by some versions, recomputed or unused by all.
UNUSED_BUFFERS = re.compile(rf"{BUFFERS.pattern}|contact_head\.")  # by a classifier, which may need its pooler
UNUSED_TENSORS = re.compile(rf"{UNUSED_BUFFERS.pattern}|pooler\.|seq_relationship\.|mask_predictions\.")

transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity(logging.CRITICAL)


def load(stored: StoredModel, *, head: bool = False) -> LanguageModel:
    """Return the model, with its language-model head if asked for, in float32 on the CPU.

    Raises:
        UserError: the architecture is not supported, config, tensors and tokenizer do not fit, or there is no such head.
    """
    tokenizer = tokenizer_from_files(stored.tokenizer)
    config = read_config(stored)
    check_tensors(stored, config)
    causal = type(config) not in MODEL_FOR_MASKED_LM_MAPPING
    model_class = MODEL_MAPPING[type(config)]
    if head:
        model_class = (MODEL_FOR_CAUSAL_LM_MAPPING if causal else MODEL_FOR_MASKED_LM_MAPPING)[type(config)]
        if _problem(stored, config, model_class):
            raise NoLanguageModelHead(stored.name)
    model = _read(stored, config, model_class, UNUSED_TENSORS)
    return _language_model(stored, config, model, tokenizer, causal=causal, head=head)


def load_sequence_classifier(stored: StoredModel) -> tuple[LanguageModel, PreTrainedModel] | None:
    """Return the language model within a published sequence classifier, and the whole.

    None if the weights are of another kind of model.

    Raises:
        UserError: the architecture is not supported, or config, tensors and tokenizer do not fit.
    """
    tokenizer = tokenizer_from_files(stored.tokenizer)
    config = read_config(stored)
    check_tensors(stored, config)
    model_class = _sequence_classifier_class(stored, config)
    if model_class is None:
        return None
    causal = type(config) not in MODEL_FOR_MASKED_LM_MAPPING
    whole = _read(stored, config, model_class, UNUSED_BUFFERS)
    return _language_model(stored, config, whole, tokenizer, causal=causal, head=False), whole


def is_sequence_classifier(stored: StoredModel) -> bool:
    """Say whether the weights are those of a published sequence classifier."""
    return _sequence_classifier_class(stored, read_config(stored)) is not None


def _sequence_classifier_class(stored: StoredModel, config: PreTrainedConfig) -> type[PreTrainedModel] | None:
    model_class: type[PreTrainedModel] = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)]
    fits = model_class in _candidate_classes(stored, config)
    return model_class if fits and _problem(stored, config, model_class, UNUSED_BUFFERS) is None else None


def _read(
    stored: StoredModel, config: PreTrainedConfig, model_class: type[PreTrainedModel], unused: re.Pattern[str]
) -> PreTrainedModel:
    """Return a model of a class with the stored weights, in float32, ready for inference."""
    model, report = model_class.from_pretrained(
        None,
        config=config,
        state_dict=stored.read_tensors(name for name in stored.tensors if not BUFFERS.search(name)),
        dtype=torch.float32,
        attn_implementation="sdpa" if model_class._supports_sdpa else "eager",
        output_loading_info=True,
        trust_remote_code=False,
        **_without_pooler(model_class),
    )
    invented = sorted(name for name in report["missing_keys"] if not unused.search(name))
    if invented or report["mismatched_keys"]:
        raise UserError(f"The model '{stored.name}' lacks the tensor '{invented[0] if invented else '?'}'.")
    ready: PreTrainedModel = model.eval().requires_grad_(False)
    return ready


def create(stored: StoredModel, *, causal: bool) -> LanguageModel:
    """Return an untrained model with its head; raise UserError if its architecture does not predict so."""
    config = read_config(stored)
    mapping = MODEL_FOR_CAUSAL_LM_MAPPING if causal else MODEL_FOR_MASKED_LM_MAPPING
    objective = "causal" if causal else "masked"
    if type(config) not in mapping or (causal and type(config) in MODEL_FOR_MASKED_LM_MAPPING):
        raise UserError(
            f"The architecture {config.model_type} cannot be trained with the objective {objective}; change one."
        )
    model_class = mapping[type(config)]
    attention = "sdpa" if model_class._supports_sdpa else "eager"
    model = model_class._from_config(config, dtype=torch.float32, attn_implementation=attention)
    tokenizer = tokenizer_from_files(stored.tokenizer)
    said = {**stored.config, "architectures": [model_class.__name__]}
    return _language_model(replace(stored, config=said), config, model, tokenizer, causal=causal, head=True)


def choose_experts(model: PreTrainedModel, device: str) -> None:
    """Let a mixture of experts multiply as suits the device: one expert after the other on a CPU, grouped on a GPU.

    Of the step of one expert after the other on a CPU, grouped ones were measured to need as long in float32 and 1.4 times
    as long in bfloat16; those that copy each token's weights (batched) 30 times.
    """
    if model._can_set_experts_implementation():
        model.set_experts_implementation("grouped_mm" if device == "cuda" else "eager")


def published_tensors(model: nn.Module, folder: Path) -> dict[str, Tensor]:
    """Return the weights under their published names, mapped from a file that transformers itself writes."""
    assert isinstance(model, PreTrainedModel)
    model.save_pretrained(folder, max_shard_size="1000GB")
    return load_file(folder / "model.safetensors")


def _language_model(
    stored: StoredModel,
    config: PreTrainedConfig,
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    *,
    causal: bool,
    head: bool,
) -> LanguageModel:
    backbone = model.base_model
    limits = [limit for limit in (tokenizer.largest_input, _positions(backbone, config)) if limit is not None]
    return LanguageModel(
        stored=stored,
        architecture=config.model_type,
        backbone=backbone,
        layers=_layers(backbone, config.num_hidden_layers),
        tokenizer=tokenizer,
        hidden_size=config.hidden_size,
        vocabulary_size=config.vocab_size,
        context_length=min(limits, default=None),
        causal=causal,
        with_head=model if head else None,
    )


def read_config(stored: StoredModel) -> PreTrainedConfig:
    """Return the config as transformers' own class.

    Raises:
        UserError: the architecture is not supported, quantised, a decoder or encoder out of place, or of absurd size.
    """
    config_class = CONFIG_MAPPING[stored.config["model_type"]]
    if "quantization_config" in stored.config:
        raise UserError(f"The model '{stored.name}' is quantised; use its original weights.")
    if any(stored.config.get(key) for key in ("is_decoder", "add_cross_attention", "is_encoder_decoder")):
        raise UserError(
            f"The model '{stored.name}' is half of an encoder and decoder pair; use a plain language model."
        )
    refuse_absurd_sizes(stored)
    settings = {key: value for key, value in stored.config.items() if not IGNORED_CONFIG_KEYS.fullmatch(key)}
    if (pad := fitting_pad(stored)) is not None or "pad_token_id" in settings:
        settings["pad_token_id"] = pad
    config = config_class(**settings)
    refuse_unfit_numbers(stored.name, config.to_dict(), config_class().to_dict())
    rope = getattr(config, "rope_parameters", None) or {}
    # One for all layers, or one for each kind of layer.
    ropes = [rope, *(inner for inner in rope.values() if isinstance(inner, dict))]
    if any(one.get(key) in UNSTEADY_ROPES for one in ropes for key in ("rope_type", "type")):
        raise UserError(
            f"The rotary positions of the model '{stored.name}' change with the longest sequence of a batch, so that "
            "results would depend on their company; use another model."
        )
    return config


def check_tensors(stored: StoredModel, config: PreTrainedConfig) -> None:
    """Compare every tensor's name, shape and kind of number with what the config asks for, without memory for either.

    Raises:
        UserError: naming the first tensor that is missing, unknown, or of the wrong shape or kind.
    """
    problems = [_problem(stored, config, model_class) for model_class in _candidate_classes(stored, config)]
    if None not in problems:
        raise UserError(
            f"The weights of the model '{stored.name}' do not fit its config: {problems[0]}; use intact files."
        )


def _candidate_classes(stored: StoredModel, config: PreTrainedConfig) -> list[type[PreTrainedModel]]:
    """Return the classes the weights may be of: the one the config names, or any with a common head, or none."""
    said = stored.config.get("architectures")
    for name in said if isinstance(said, list) else []:
        named = getattr(transformers, str(name), None)
        if not inspect.isclass(named) or not issubclass(named, PreTrainedModel):
            continue
        if str(name).endswith(HEADS) and getattr(named, "config_class", None) is type(config):
            return [named]
    mappings = (
        MODEL_FOR_MASKED_LM_MAPPING,
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
        MODEL_MAPPING,
    )
    return [mapping[type(config)] for mapping in mappings if type(config) in mapping]


def _problem(
    stored: StoredModel,
    config: PreTrainedConfig,
    model_class: type[PreTrainedModel],
    unused: re.Pattern[str] = UNUSED_TENSORS,
) -> str | None:
    """Load the tensors' shapes into a model of shapes only and return what does not fit, or None."""
    with torch.device("meta"):
        model = model_class(config)
        shapes = {name: torch.empty(info.shape, dtype=info.dtype) for name, info in stored.tensors.items()}
    settings = LoadStateDictConfig(
        device_map={"": "meta"},
        dtype=torch.float32,
        weight_mapping=get_model_conversion_mapping(model),
        ignore_mismatched_sizes=True,
    )
    report, _ = convert_and_load_state_dict_in_model(model=model, state_dict=shapes, load_config=settings)
    model.tie_weights(missing_keys=report.missing_keys, recompute_mapping=False)
    model._adjust_missing_and_unexpected_keys(report)
    if wrong := sorted(report.mismatched_keys):
        name, found, asked = wrong[0]
        return f"tensor '{name}' has the shape {tuple(found)}, the config asks for {tuple(asked)}"
    unfit = sorted(report.conversion_errors)
    missing = sorted(name for name in report.missing_keys if not unused.search(name))
    unknown = sorted(name for name in report.unexpected_keys if not unused.search(name))
    if unfit:
        return f"the parts of tensor '{unfit[0]}' are missing or differ in shape"
    if missing:
        return f"tensor '{missing[0]}' is missing" + (f" ({len(missing)} in all)" if len(missing) > 1 else "")
    if unknown:
        return f"tensor '{unknown[0]}' is unknown" + (f" ({len(unknown)} in all)" if len(unknown) > 1 else "")
    whole_numbers = sorted(name for name, info in stored.tensors.items() if not info.dtype.is_floating_point)
    whole_numbers = [name for name in whole_numbers if not unused.search(name)]
    return f"tensor '{whole_numbers[0]}' holds whole numbers" if whole_numbers else None


def _layers(backbone: nn.Module, count: int) -> nn.ModuleList:
    """Return the backbone's own list of layers: the first list as long as the config says."""
    for module in backbone.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise UserError(f"The architecture {type(backbone).__name__} has no plain list of layers; use another model.")


def _positions(backbone: nn.Module, config: PreTrainedConfig) -> int | None:
    """Return how many tokens the model has positions for.

    A table with a padding row (RoBERTa, ESM) starts counting behind it, so that the rows up to it are never used; ESM's
    rotary configs keep the same sum.
    """
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int):
        return None
    for name, table in backbone.named_modules():
        if isinstance(table, nn.Embedding) and name.endswith("position_embeddings"):
            first = 0 if table.padding_idx is None else table.padding_idx + 1
            return min(positions, table.num_embeddings) - first
    return positions - (config.pad_token_id or 0) - 1 if config.model_type == "esm" else positions


def _without_pooler(backbone_class: type[PreTrainedModel]) -> dict[str, Any]:
    """Ask for no pooler where the class makes one: language models are published without, and it would be random."""
    takes_it = "add_pooling_layer" in inspect.signature(backbone_class.__init__).parameters
    return {"add_pooling_layer": False} if takes_it else {}
