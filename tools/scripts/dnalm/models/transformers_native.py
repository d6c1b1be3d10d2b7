"""Every architecture that transformers has natively: BERT, ESM (Nucleotide Transformer v1), Mixtral (Mistral-DNA) …

No remote code: `auto_map` is ignored, and so is every config key that would make transformers fetch or patch code.
"""

import inspect
import re
from typing import Any

import torch
import transformers
from torch import nn
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
from dnalm.models.language_model import LanguageModel
from dnalm.models.model_file import StoredModel
from dnalm.models.tokenizers import tokenizer_from_files

# These keys of a config choose code or files rather than shapes; a model's file has no say in them.
IGNORED_CONFIG_KEYS = ("auto_map", "transformers_weights", "fusion_config", "name_or_path", "dtype", "torch_dtype")
# Positions that one table or buffer is made for before any weight is compared.
MOST_POSITIONS = 10_000_000
# Stored by some versions, recomputed or unused by all.
UNUSED_TENSORS = re.compile(r"position_ids$|inv_freq$|contact_head\.|pooler\.|seq_relationship\.")

transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()


def load(stored: StoredModel, *, head: bool = False) -> LanguageModel:
    """Return the model, with its language-model head if asked for, in float32 on the CPU.

    Raises:
        UserError: transformers has no such architecture, config and tensors do not fit, or there is no such head.
    """
    config = read_config(stored)
    check_tensors(stored, config)
    tokenizer = tokenizer_from_files(stored.tokenizer)
    causal = type(config) not in MODEL_FOR_MASKED_LM_MAPPING
    model_class = MODEL_MAPPING[type(config)]
    if head:
        model_class = (MODEL_FOR_CAUSAL_LM_MAPPING if causal else MODEL_FOR_MASKED_LM_MAPPING)[type(config)]
        if _problem(stored, config, model_class):
            raise UserError(
                f"The model '{stored.name}' has no language-model head, so that it gives no logits; "
                "choose representation hidden, or a model with its head."
            )
    model, report = model_class.from_pretrained(
        None,
        config=config,
        state_dict=stored.read_tensors(),
        dtype=torch.float32,
        attn_implementation="sdpa" if model_class._supports_sdpa else "eager",
        output_loading_info=True,
        trust_remote_code=False,
        **_without_pooler(model_class),
    )
    invented = sorted(name for name in report["missing_keys"] if not UNUSED_TENSORS.search(name))
    if invented or report["mismatched_keys"]:
        raise UserError(f"The model '{stored.name}' lacks the tensor '{invented[0] if invented else '?'}'.")
    model = model.eval().requires_grad_(False)
    backbone = model.base_model
    limits = [limit for limit in (tokenizer.largest_input, _positions(config)) if limit]
    return LanguageModel(
        stored=stored,
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
        UserError: the architecture is unknown, quantised, no language model, or asks for absurd sizes.
    """
    kind = stored.config.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        raise UserError(
            f"The architecture '{kind}' of the model '{stored.name}' is unknown here; "
            "use one that transformers has natively, such as bert, esm, llama, mistral, mixtral, modernbert or olmo."
        )
    config_class = CONFIG_MAPPING[kind]
    if config_class not in MODEL_FOR_MASKED_LM_MAPPING and config_class not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise UserError(f"The architecture '{kind}' of the model '{stored.name}' is no language model; use one that is.")
    if "quantization_config" in stored.config:
        raise UserError(f"The model '{stored.name}' is quantised; use its original weights.")
    _refuse_absurd_sizes(stored)
    settings = {
        key: value
        for key, value in stored.config.items()
        if key not in IGNORED_CONFIG_KEYS and not key.startswith("_") and key != "model_type"
    }
    pad, vocabulary_size = settings.get("pad_token_id"), settings.get("vocab_size")
    if isinstance(pad, int) and isinstance(vocabulary_size, int) and pad >= vocabulary_size:
        settings["pad_token_id"] = None  # a published Mixtral checkpoint has it; its pads are masked anyway
    try:
        config = config_class(**settings)
    except Exception as error:  # each config class checks its values in its own way
        raise UserError(f"The config of the model '{stored.name}' is refused by transformers: {_line(error)}") from error
    if not all(isinstance(getattr(config, key, None), int) for key in ("num_hidden_layers", "hidden_size", "vocab_size")):
        raise UserError(f"The architecture '{kind}' of the model '{stored.name}' is no plain language model; use one.")
    return config


def check_tensors(stored: StoredModel, config: PreTrainedConfig) -> None:
    """Compare every tensor's name, shape and kind of number with what the config asks for, without memory for either.

    Raises:
        UserError: naming the first tensor that is missing, unknown, or of the wrong shape or kind.
    """
    problems = [_problem(stored, config, model_class) for model_class in _candidate_classes(stored, config)]
    if None not in problems:
        raise UserError(f"The weights of the model '{stored.name}' do not fit its config: {problems[0]}; use intact files.")


def _candidate_classes(stored: StoredModel, config: PreTrainedConfig) -> list[type[PreTrainedModel]]:
    """Return the classes the weights may be of: the one the config names, or any with a common head, or none."""
    for name in stored.config.get("architectures") or []:
        named = getattr(transformers, str(name), None)
        if inspect.isclass(named) and issubclass(named, PreTrainedModel) and getattr(named, "config_class", None) is type(config):
            return [named]
    mappings = (
        MODEL_FOR_MASKED_LM_MAPPING,
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
        MODEL_MAPPING,
    )
    return [mapping[type(config)] for mapping in mappings if type(config) in mapping]


def _problem(stored: StoredModel, config: PreTrainedConfig, model_class: type[PreTrainedModel]) -> str | None:
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
    missing = sorted(name for name in report.missing_keys if not UNUSED_TENSORS.search(name))
    unknown = sorted(name for name in report.unexpected_keys if not UNUSED_TENSORS.search(name))
    if unfit:
        return f"the parts of tensor '{unfit[0]}' are missing or differ in shape"
    if missing:
        return f"tensor '{missing[0]}' is missing" + (f" ({len(missing)} in all)" if len(missing) > 1 else "")
    if unknown:
        return f"tensor '{unknown[0]}' is unknown" + (f" ({len(unknown)} in all)" if len(unknown) > 1 else "")
    whole_numbers = sorted(name for name, info in stored.tensors.items() if not info.dtype.is_floating_point)
    whole_numbers = [name for name in whole_numbers if not UNUSED_TENSORS.search(name)]
    return f"tensor '{whole_numbers[0]}' holds whole numbers" if whole_numbers else None


def _refuse_absurd_sizes(stored: StoredModel) -> None:
    """Refuse a config whose loops alone would take forever: more layers or experts than there are tensors."""
    for key, value in stored.config.items():
        if not isinstance(value, int):
            continue
        repeated = "layers" in key or "experts" in key
        if (repeated and value > len(stored.tensors)) or ("position" in key and value > MOST_POSITIONS):
            raise UserError(
                f"The config of the model '{stored.name}' asks for {key} = {value:,}, which its weights cannot fill; "
                "use intact files."
            )


def _layers(backbone: nn.Module, count: int) -> nn.ModuleList:
    """Return the backbone's own list of layers: the first list as long as the config says."""
    for module in backbone.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise UserError(f"The architecture {type(backbone).__name__} has no plain list of layers; use another model.")


def _positions(config: PreTrainedConfig) -> int | None:
    """Return how many tokens the model has positions for.

    Tables of the RoBERTa family (ESM among them) start counting behind the pad id, so that many rows are never used;
    ESM's rotary configs keep the same sum.
    """
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int):
        return None
    counts_from_pad = config.model_type in ("esm", "roberta", "xlm-roberta", "camembert")
    return positions - (config.pad_token_id or 0) - 1 if counts_from_pad else positions


def _without_pooler(backbone_class: type[PreTrainedModel]) -> dict[str, Any]:
    """Ask for no pooler where the class makes one: language models are published without, and it would be random."""
    takes_it = "add_pooling_layer" in inspect.signature(backbone_class.__init__).parameters
    return {"add_pooling_layer": False} if takes_it else {}


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
