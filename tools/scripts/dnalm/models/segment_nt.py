"""SegmentNT: a language model whose tokens have one length, and a U-Net over its last hidden states.

de Almeida et al. 2025, doi:10.1038/s41592-025-02881-2. Published ones stand on the Nucleotide Transformer v2 with 6-mers:
`esm.*`, `unet.*`, `fc.*`. Here any language model of k-mers may be the backbone, under its own published names.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from dnalm.errors import UserError
from dnalm.models import nucleotide_transformer_v2
from dnalm.models.configs import feature_names, segment_window
from dnalm.models.language_model import LanguageModel
from dnalm.models.model_file import StoredModel
from dnalm.models.nucleotide_transformer_v2 import ROTARY_BASE
from dnalm.models.segmenter import Segmenter, Window
from dnalm.models.tokenizers import KmerTokenizer
from dnalm.models.unet_head import PREFIXES, STEPS_A_WINDOW, SegmentationHead
from dnalm.models.weights import fill

NAME = "segment-nt"
PUBLISHED_WINDOW = 30_000  # bases, in training
LONGEST_WINDOW = 5 / 3  # of that of training: the paper goes from 30 to 50 kb
NOTHING = re.compile(r"(?!)")


def recognises(stored: StoredModel) -> bool:
    """Say whether a model has the head of a SegmentNT; no language model has tensors of these names."""
    return any(name.startswith("unet.") for name in stored.tensors) and "fc.weight" in stored.tensors


def backbone_of(stored: StoredModel) -> StoredModel:
    """Return the language model within a SegmentNT, which has no language-model head."""
    tensors = {name: info for name, info in stored.tensors.items() if not name.startswith(PREFIXES)}
    config = stored.config
    if config.get("rescaling_factor") is None and (factor := _factor_of_frequencies(stored)) is not None:
        config = {**config, "rescaling_factor": factor}
    return replace(stored, tensors=tensors, config=config)


def as_language_model(stored: StoredModel, backbone: LanguageModel) -> LanguageModel:
    """Return a SegmentNT's backbone as a model of its own, which reads as many bases as the segmenter was trained with."""
    tokenizer = kmers_of(backbone)
    special = int(tokenizer.cls_id is not None) + int(tokenizer.eos_id is not None)
    tokens = window_of(stored, backbone).default // tokenizer.k + special
    return replace(backbone, stored=stored, context_length=tokens)


def _factor_of_frequencies(stored: StoredModel) -> float | None:
    """Return the rescaling factor that a file's rotary frequencies were made with, where a config names none.

    The second frequency is base^(−2 / head), and the base 10,000 · s^(head / (head − 2)). Within a hundredth of 1 the file
    says nothing: its numbers may be of half precision.
    """
    name = next((name for name in sorted(stored.tensors) if name.endswith("rotary_embeddings.inv_freq")), None)
    if name is None or len(stored.tensors[name].shape) != 1 or stored.tensors[name].shape[0] < 2:
        return None
    frequencies = stored.read_tensors([name])[name].double()
    head = 2 * len(frequencies)
    base = float(frequencies[1]) ** (-head / 2) if frequencies[1] > 0 else ROTARY_BASE
    factor = (base / ROTARY_BASE) ** ((head - 2) / head)
    return round(factor, 4) if factor > 1.01 else None


def load(stored: StoredModel, backbone: LanguageModel) -> Segmenter:
    """Return the segmenter, in float32 on the CPU.

    Args:
        stored: the model at rest.
        backbone: the language model within it.

    Raises:
        UserError: tensors, features and tokenizer do not fit together.
    """
    features = feature_names(stored)
    tokenizer = kmers_of(backbone)
    tensors = {name: info for name, info in stored.tensors.items() if name.startswith(PREFIXES)}
    shape = tensors["fc.weight"].shape
    width = shape[1] if len(shape) == 2 else backbone.hidden_size
    head = fill(
        lambda: SegmentationHead(backbone.hidden_size, width, tokenizer.k, len(features)),
        replace(stored, tensors=tensors),
        heads=PREFIXES,
        head=True,
        unused=NOTHING,
    )
    assert isinstance(head, SegmentationHead)
    return assembled(stored, backbone, head, features)


def assembled(
    stored: StoredModel, backbone: LanguageModel, head: SegmentationHead, features: tuple[str, ...]
) -> Segmenter:
    """Return the segmenter that a backbone and a head make; raise UserError if the config's window cannot be."""
    tokenizer = kmers_of(backbone)

    def encode(sequences: Sequence[str]) -> Tensor:
        return torch.from_numpy(np.stack([found.ids for found in backbone.encode(sequences)]).astype(np.int64))

    return Segmenter(
        stored=stored,
        architecture=NAME,
        network=SegmentNT(backbone.backbone, head, tokenizer.cls_id is not None, tokenizer.eos_id is not None),
        features=features,
        window=window_of(stored, backbone),
        takes_n=False,
        encode=encode,
    )


def kmers_of(backbone: LanguageModel) -> KmerTokenizer:
    """Return a backbone's tokenizer, or raise UserError if its tokens are not all of one length."""
    if not isinstance(backbone.tokenizer, KmerTokenizer):
        raise UserError(
            f"The tokens of the model '{backbone.stored.name}' cover different numbers of bases, so that no base can be "
            "told from a token; choose a model of k-mers or of single letters."
        )
    return backbone.tokenizer


def window_of(stored: StoredModel, backbone: LanguageModel) -> Window:
    """Return how many bases a SegmentNT reads, as its config says; without, as published ones do.

    Raises:
        UserError: the config asks for what cannot be, or its backbone reads next to nothing.
    """
    tokenizer = kmers_of(backbone)
    multiple = STEPS_A_WINDOW * tokenizer.k
    default = segment_window(stored, PUBLISHED_WINDOW, multiple)
    most = int(default * LONGEST_WINDOW) // multiple * multiple
    # Rotary positions of the Nucleotide Transformer v2 have no end; its config counts those of pretraining.
    if backbone.context_length is not None and backbone.architecture != nucleotide_transformer_v2.NAME:
        special = int(tokenizer.cls_id is not None) + int(tokenizer.eos_id is not None)
        most = min(most, (backbone.context_length - special) * tokenizer.k // multiple * multiple)
    if most < multiple:
        raise UserError(f"The model '{stored.name}' reads too few tokens for a segmenter; use another one.")
    return Window(min(default, most), multiple, most, multiple, multiple)


class SegmentNT(nn.Module):
    """The backbone, and the head over its tokens but the special ones around them."""

    def __init__(self, backbone: nn.Module, head: SegmentationHead, begins: bool, ends: bool) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self.first, self.last = int(begins), int(ends)

    def forward(self, input_ids: Tensor) -> Tensor:
        """From ids of shape (batch, tokens), nothing padded, to logits of shape (batch, bases, features, 2)."""
        states: Tensor = self.backbone(input_ids=input_ids, attention_mask=None).last_hidden_state
        logits: Tensor = self.head(states[:, self.first : states.shape[1] - self.last])
        return logits
