"""SegmentNTs that are trained: a language model with a fresh head, and the file that it becomes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from dnalm.errors import UserError
from dnalm.models import nucleotide_transformer_v2, segment_nt
from dnalm.models.configs import SEGMENT_WINDOW
from dnalm.models.language_model import LanguageModel
from dnalm.models.model_file import StoredModel, write_model_file
from dnalm.models.registry import check_runs, load_language_model, made_trainable, published_config, published_tensors
from dnalm.models.segmenter import Segmenter
from dnalm.models.unet_head import STEPS_A_WINDOW, SegmentationHead, initialise_head


def window_limits(model: LanguageModel) -> tuple[int, int | None]:
    """Return what the bases of a window are a multiple of, and how many they may be; None without a limit.

    Raises:
        UserError: the model's tokens are not all of one length.
    """
    tokenizer = segment_nt.kmers_of(model)
    multiple = STEPS_A_WINDOW * tokenizer.k
    if model.context_length is None or model.architecture == nucleotide_transformer_v2.NAME:
        return multiple, None  # rotary positions, slowed for longer windows
    special = int(tokenizer.cls_id is not None) + int(tokenizer.eos_id is not None)
    return multiple, (model.context_length - special) * tokenizer.k // multiple * multiple


def check_window(model: LanguageModel, window: int) -> None:
    """Raise UserError if a model cannot read windows of so many bases."""
    multiple, most = window_limits(model)
    if window % multiple or (most is not None and window > most):
        limit = "" if most is None else f", at most {most:,}"
        raise UserError(
            f"The model '{model.stored.name}' cannot read windows of {window:,} bases; use a multiple of {multiple}{limit}."
        )


def new_segmenter(
    stored: StoredModel, features: Sequence[str], window: int, frequencies: Sequence[float]
) -> tuple[Segmenter, LanguageModel]:
    """Return a segmenter with a fresh head, which torch's seed decides over, and its backbone.

    Args:
        stored: the language model, or a SegmentNT whose backbone is taken.
        features: what is predicted.
        window: bases in training.
        frequencies: the share of all bases that lies in each feature: what the head says before it has learnt.

    Raises:
        UserError: the model cannot be loaded, or cannot read such windows.
    """
    model = load_language_model(stored)
    check_window(model, window)
    config = published_config(model) | {"features": list(features), SEGMENT_WINDOW: window}
    if model.architecture == nucleotide_transformer_v2.NAME:
        config["rescaling_factor"] = _rescaling(model, window)
        model = load_language_model(replace(segment_nt.backbone_of(stored), config=config))
    check_runs(model)
    model.stored = replace(stored, config=config)
    head = SegmentationHead(model.hidden_size, model.hidden_size, segment_nt.kmers_of(model).k, len(features))
    initialise_head(head, frequencies)
    return segment_nt.assembled(model.stored, model, head, tuple(features)), model


def _rescaling(model: LanguageModel, window: int) -> float | None:
    """Return how much slower rotations are to be for windows of more tokens than pretraining read."""
    tokens = window // segment_nt.kmers_of(model).k + 1
    pretrained = int(model.stored.config["max_position_embeddings"]) - nucleotide_transformer_v2.UNUSED_POSITIONS
    known = model.stored.config.get("rescaling_factor")
    return max(float(known or 1.0), tokens / pretrained) if tokens > pretrained else known


def load_trained_segmenter(stored: StoredModel) -> tuple[Segmenter, LanguageModel]:
    """Return a SegmentNT, of a checkpoint for example, and its backbone; raise UserError if it is none."""
    if not segment_nt.recognises(stored):
        raise UserError(f"The model '{stored.name}' has no segmentation head; choose a SegmentNT or its checkpoint.")
    model = load_language_model(stored)
    check_runs(model)
    return segment_nt.load(stored, model), model


def trainable_segmenter(segmenter: Segmenter, *, frozen: bool) -> nn.Module:
    """Return a segmenter's network ready to be trained; with `frozen`, its head alone."""
    network = made_trainable(segmenter.network)
    assert isinstance(network, segment_nt.SegmentNT)
    if frozen:
        network.backbone.requires_grad_(False)
    return network


def write_segmenter(
    path: Path,
    segmenter: Segmenter,
    model: LanguageModel,
    folder: Path,
    *,
    name: str,
    provenance: Mapping[str, Any],
    training: Mapping[str, Any] | None = None,
    training_tensors: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a SegmentNT as a model file, its backbone under its own published names.

    Args:
        path: the file.
        segmenter: what to write.
        model: its backbone.
        folder: an empty folder of this job's own.
        name: what people call the model.
        provenance: what was done, and to which model.
        training: of a checkpoint what its tensors do not hold.
        training_tensors: of a checkpoint.
    """
    network = segmenter.network
    assert isinstance(network, segment_nt.SegmentNT)
    stored = segmenter.stored
    write_model_file(
        path,
        {**published_tensors(model, folder), **network.head.state_dict()},
        stored.config,
        stored.tokenizer,
        name=name,
        licence=stored.licence,
        labels=list(segmenter.features),
        provenance=provenance,
        training=training,
        training_tensors=training_tensors,
    )
