"""From a stored model to a language model that runs: which code reads which architecture."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from dnalm.errors import UserError, shown
from dnalm.models import (
    borzoi,
    dnabert2,
    enformer,
    haiku_weights,
    nucleotide_transformer_v2,
    scgpt,
    segment_nt,
    transformers_names,
)
from dnalm.models.failures import is_out_of_memory, loading
from dnalm.models.head_config import has_other_backbone, without_head
from dnalm.models.language_model import LanguageModel, NoLanguageModelHead
from dnalm.models.model_file import StoredModel
from dnalm.models.segmenter import Segmenter
from dnalm.models.tokenizers import tokenizer_from_files
from dnalm.models.unet_head import CLASSES, PUBLISHED_FEATURES

# The first that recognises a config reads the model; ours go before transformers', which would misread some.
ARCHITECTURES = (nucleotide_transformer_v2, dnabert2, transformers_names)
# Segmenters that stand on no language model.
SEGMENTERS = (enformer, borzoi)
NAMES = (
    nucleotide_transformer_v2.NAME,
    dnabert2.NAME,
    *(segmenter.NAME for segmenter in SEGMENTERS),
    *transformers_names.ARCHITECTURES,
)


def load_language_model(stored: StoredModel, *, head: bool = False) -> LanguageModel:
    """Return the model, with its language-model head if asked for, in float32 on the CPU, ready for inference.

    Of a SegmentNT it is the backbone, which has no such head. A head that classifies or regresses is left alone (`heads`).

    Raises:
        UserError: the architecture is unknown; config, tensors and tokenizer do not fit together; or there is no head.
    """
    if head and has_other_backbone(stored.config):
        raise NoLanguageModelHead(stored.name)
    bare = without_head(stored)
    with loading(stored.name):
        if segment_nt.recognises(bare):
            backbone = segment_nt.backbone_of(bare)
            return segment_nt.as_language_model(stored, _architecture(backbone).load(backbone, head=head))
        model: LanguageModel = _architecture(bare).load(bare, head=head)
    model.stored = stored
    return model


def load_segmenter(stored: StoredModel) -> Segmenter:
    """Return the segmenter, in float32 on the CPU, ready for inference.

    Raises:
        UserError: it is none; or config, tensors and tokenizer do not fit together.
    """
    with loading(stored.name):
        for architecture in SEGMENTERS:
            if architecture.recognises(stored.config):
                return architecture.load(stored)
        if not segment_nt.recognises(stored):
            raise UserError(
                f"The model '{stored.name}' is no segmenter: it has no segmentation head; choose a SegmentNT, or a model "
                "that dnalm_finetune_segments made."
            )
        return segment_nt.load(stored, load_language_model(stored))


def is_segmenter(stored: StoredModel) -> bool:
    """Say whether a model predicts features base by base."""
    return segment_nt.recognises(stored) or any(one.recognises(stored.config) for one in SEGMENTERS)


def with_config_of_tensors(stored: StoredModel) -> StoredModel:
    """Return a SegmentEnformer or SegmentBorzoi with the config that follows from its tensors, where its own tells no sizes.

    Their authors publish none. Names of features are taken from the config; without, the paper's where there are as many.
    Every other model is returned as it is.

    Raises:
        UserError: the features have no names.
    """
    if is_known(stored.config):
        return stored
    for architecture in SEGMENTERS:
        shapes = {
            architecture.module_name(name): tuple(
                haiku_weights.arranged(name, torch.empty(info.shape, device="meta")).shape
            )
            for name, info in stored.tensors.items()
        }
        try:
            config = architecture.config_of_shapes(shapes)
            count = shapes["fc.weight"][0] // (config["nucl_per_token"] * CLASSES)
        except (KeyError, IndexError, ValueError, ZeroDivisionError):
            continue
        named = {key: value for key, value in stored.config.items() if key == "features"}
        if not named and count != len(PUBLISHED_FEATURES):
            raise UserError(
                f"The segmenter '{stored.name}' predicts {count:,} features and names none; list their names as "
                '"features" in its config.json.'
            )
        return replace(stored, config={"features": list(PUBLISHED_FEATURES), **config, **named})
    return stored


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
        model: LanguageModel = architecture.create(stored, causal=causal)
    except UserError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise UserError(f"No model can be made of this config ({shown(error, 200)}); fix the config.") from error
    check_runs(model)
    return model


def check_runs(model: LanguageModel) -> None:
    """Run a model that is to be trained on a few bases, with its head where it has one.

    Raises:
        UserError: its config makes it fail, so that its training would.
    """
    module = model.with_head if model.with_head is not None else model.backbone
    if next(module.parameters()).is_meta:  # it has no weights, and nothing that it could compute
        return
    (encoding,) = model.encode([PROBE.removesuffix("N")])
    ids = torch.from_numpy(encoding.truncated(model.context_length or len(encoding)).ids)[None].long()
    training = module.training
    module.eval()  # dropout would draw numbers that the training is to have
    with torch.no_grad():
        if model.with_head is not None:
            model.logits(ids, None)
        else:
            model.hidden_states(ids, None, [len(model.layers)])
    module.train(training)


PROBE = "ACGTTGCAAGGCTTACCGATATCGGCTAAGCTTACGGATCCAGTCAN"


MOST_LAYERS = 4_096
# What of a config the tokenizer, or the objective, decides.
FILLED = ("vocab_size", "pad_token_id", "bos_token_id", "eos_token_id", "architectures")


def trainable(model: LanguageModel, device: str = "cpu") -> nn.Module:
    """Return a model's module with its head, ready to be trained: weights of its own that no file is mapped to."""
    assert model.with_head is not None
    check_runs(model)
    if transformers_names.is_pretrained_model(model.with_head):
        from dnalm.models import transformers_native

        transformers_native.choose_experts(model.with_head, device)
    return made_trainable(model.with_head)


def made_trainable(module: nn.Module) -> nn.Module:
    """Return a module ready to be trained: weights of its own that no file is mapped to."""
    for parameter in module.parameters():
        parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
        parameter.requires_grad_(True)
    return module.train()


def published_tensors(model: LanguageModel, folder: Path) -> dict[str, Tensor]:
    """Return a model's weights under the names that its architecture publishes.

    Args:
        model: with its language-model head, or the backbone alone.
        folder: an empty folder of this job's own; the weights are mapped from files in it.
    """
    try:
        return _architecture(model.stored).published_tensors(model.with_head or model.backbone, folder)
    except SafetensorError as error:
        # The library tells of a full disk in words alone.
        if number := re.search(r"\(os error (\d+)\)", str(error)):
            raise OSError(int(number[1]), str(error), str(folder)) from error
        raise


def published_config(model: LanguageModel) -> dict[str, Any]:
    """Return the config that belongs to `published_tensors`, which names the class of a backbone alone."""
    stored = without_head(model.stored)
    config = segment_nt.backbone_of(stored).config if segment_nt.recognises(stored) else stored.config
    if model.with_head is None and transformers_names.is_pretrained_model(model.backbone):
        return config | {"architectures": [type(model.backbone).__name__]}
    return config


def is_known(config: Mapping[str, Any]) -> bool:
    """Say whether code here reads models with such a config."""
    return any(architecture.recognises(config) for architecture in (*ARCHITECTURES, *SEGMENTERS, scgpt))


def refuse_unknown_architecture(config: Mapping[str, Any], name: str) -> None:
    """Raise UserError if no code here reads models with such a config."""
    if not is_known(config):
        raise UserError(
            f"The architecture '{shown(config.get('model_type'))}' of the model '{name}' is unknown here; "
            f"use one of {', '.join((*NAMES, scgpt.NAME))}."
        )


def _architecture(stored: StoredModel) -> Any:
    if scgpt.recognises(stored.config):
        raise UserError(f"The model '{stored.name}' reads cells, and no DNA; choose a DNA language model.")
    refuse_unknown_architecture(stored.config, stored.name)
    if any(architecture.recognises(stored.config) for architecture in SEGMENTERS):
        raise UserError(
            f"The model '{stored.name}' is a segmenter that stands on no language model; choose a language model, or "
            "segment with it."
        )
    architecture = next(architecture for architecture in ARCHITECTURES if architecture.recognises(stored.config))
    if architecture is transformers_names:
        from dnalm.models import transformers_native

        return transformers_native
    return architecture
