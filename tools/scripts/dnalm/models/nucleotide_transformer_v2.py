"""Nucleotide Transformer v2: a pre-norm encoder with rotary positions and gated feed-forward layers without biases.

Dalla-Torre et al. 2025, doi:10.1038/s41592-024-02523-z; rotary positions: Su et al. 2021, arXiv:2104.09864; gated
layers (SwiGLU): Shazeer 2020, arXiv:2002.05202. The module tree is the published files' own names.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dnalm.errors import UserError, shown
from dnalm.models.configs import epsilon, refuse_absurd_sizes, refuse_other_settings, size
from dnalm.models.language_model import HiddenStates, LanguageModel, Logits
from dnalm.models.model_file import BUFFERS, StoredModel
from dnalm.models.tokenizers import Tokenizer, tokenizer_from_files
from dnalm.models.weights import fill, initialise

NAME = "nucleotide-transformer-v2"
HEADS = ("lm_head.",)
# Published files carry a position table that rotary positions do not use, and the protein models' contact head.
UNUSED_TENSORS = re.compile(rf"{BUFFERS.pattern}|position_embeddings\.weight$|contact_head\.")
KNOWN_SETTINGS = {
    "position_embedding_type": "rotary",
    "emb_layer_norm_before": False,
    "token_dropout": False,
    "tie_word_embeddings": False,
    "is_folding_model": False,
    "is_decoder": False,
}
ROTARY_BASE = 10_000.0
MOST_RESCALING = 1_000
# Tokens that pretraining read at once, and those that SegmentNT was trained with; beyond these rotations are slowed more.
TOKENS_OF_PRETRAINING, TOKENS_OF_SEGMENTATION = 2_048, 5_001
# The config keeps ESM's habit of counting positions from behind the padding id.
UNUSED_POSITIONS = 2


@dataclass(frozen=True)
class Sizes:
    """The shapes of a model: widths, counts, what its norms add to a variance, and how its rotations are slowed."""

    vocabulary: int
    hidden: int
    layers: int
    heads: int
    feed_forward: int
    layer_norm_epsilon: float
    rescaling: float = 1.0
    rescaled_beyond: int | None = None

    @property
    def head(self) -> int:
        """Width of one attention head."""
        return self.hidden // self.heads


def recognises(config: Mapping[str, Any]) -> bool:
    """Say whether a config.json is of this architecture; published ones name no `model_type` and lack biases."""
    return config.get("model_type") in (None, "esm") and config.get("add_bias_fnn") is False


def read_sizes(stored: StoredModel) -> Sizes:
    """Return the sizes that a model's config gives.

    Raises:
        UserError: one is missing or absurd, or the config asks for a variant that is not known.
    """
    refuse_absurd_sizes(stored)
    refuse_other_settings(stored, KNOWN_SETTINGS)
    return Sizes(
        vocabulary=size(stored, "vocab_size"),
        hidden=size(stored, "hidden_size"),
        layers=size(stored, "num_hidden_layers"),
        heads=size(stored, "num_attention_heads", divides="hidden_size"),
        feed_forward=size(stored, "intermediate_size"),
        layer_norm_epsilon=epsilon(stored, "layer_norm_eps"),
        rescaling=_rescaling(stored),
        # Only SegmentNT, which names features, was tried on more.
        rescaled_beyond=TOKENS_OF_SEGMENTATION if "features" in stored.config else None,
    )


def _rescaling(stored: StoredModel) -> float:
    """Return the `rescaling_factor` of the config, 1 without one: models that were trained on longer sequences have it."""
    value = stored.config.get("rescaling_factor")
    if value is None:
        return 1.0
    if not isinstance(value, int | float) or isinstance(value, bool) or not 1 <= value <= MOST_RESCALING:
        raise UserError(
            f"The config of the model '{stored.name}' has rescaling_factor = {shown(value)}, where a number from 1 to "
            f"{MOST_RESCALING:,} is needed; use intact files."
        )
    return float(value)


def load(stored: StoredModel, *, head: bool = False) -> LanguageModel:
    """Return the model, with its language-model head if asked for, in float32 on the CPU.

    Raises:
        UserError: config, tensors and tokenizer do not fit together, or there is no such head.
    """
    tokenizer = tokenizer_from_files(stored.tokenizer)
    sizes = read_sizes(stored)
    model = fill(lambda: MaskedLanguageModel(sizes), stored, heads=HEADS, head=head, unused=UNUSED_TENSORS)
    assert isinstance(model, MaskedLanguageModel)
    return _language_model(stored, sizes, model, tokenizer, head=head)


def create(stored: StoredModel, *, causal: bool) -> LanguageModel:
    """Return an untrained model with its head; raise UserError for a causal one, which the architecture is not."""
    if causal:
        raise UserError(f"The architecture {NAME} sees both sides of a token; train it with the objective masked.")
    sizes = read_sizes(stored)
    model = MaskedLanguageModel(sizes)
    initialise(model)
    return _language_model(stored, sizes, model, tokenizer_from_files(stored.tokenizer), head=True)


def published_tensors(model: nn.Module, folder: Path) -> dict[str, Tensor]:
    """Return the weights, of the backbone alone or with its head, under their published names; no file is needed."""
    return dict(model.state_dict(prefix="esm." if isinstance(model, Backbone) else ""))


def _language_model(
    stored: StoredModel, sizes: Sizes, model: "MaskedLanguageModel", tokenizer: Tokenizer, *, head: bool
) -> LanguageModel:
    limits = [size(stored, "max_position_embeddings") - UNUSED_POSITIONS, tokenizer.largest_input]
    return LanguageModel(
        stored=stored,
        architecture=NAME,
        backbone=model.esm,
        layers=model.esm.encoder.layer,
        tokenizer=tokenizer,
        hidden_size=sizes.hidden,
        vocabulary_size=sizes.vocabulary,
        context_length=min(limit for limit in limits if limit is not None),
        causal=False,
        with_head=model if head else None,
    )


class MaskedLanguageModel(nn.Module):
    """The encoder with its head."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.esm = Backbone(sizes)
        self.lm_head = LanguageModelHead(sizes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Logits:
        """Return logits of shape (batch, tokens, vocabulary); ids and mask have the shape (batch, tokens)."""
        return Logits(self.lm_head(self.esm(input_ids, attention_mask).last_hidden_state))


class Backbone(nn.Module):
    """Embeddings and layers."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.embeddings = Embeddings(sizes)
        self.encoder = Encoder(sizes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> HiddenStates:
        """Return hidden states of shape (batch, tokens, hidden); ids and mask have the shape (batch, tokens)."""
        states = self.embeddings(input_ids)
        tokens = input_ids.shape[1]
        rotation = rotary(tokens, self.sizes.head, states, rotary_base(tokens, self.sizes))
        # Shape (batch, heads, queries, keys): every token sees all that is no padding.
        mask = None if attention_mask is None else attention_mask.bool()[:, None, None, :]
        for layer in self.encoder.layer:
            states = layer(states, rotation, mask)
        return HiddenStates(self.encoder.emb_layer_norm_after(states))


class Embeddings(nn.Module):
    """One vector a token."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(sizes.vocabulary, sizes.hidden)

    def forward(self, input_ids: Tensor) -> Tensor:
        """From ids of shape (batch, tokens) to vectors of shape (batch, tokens, hidden)."""
        vectors: Tensor = self.word_embeddings(input_ids)
        return vectors


class Encoder(nn.Module):
    """The layers and the norm behind the last."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(sizes) for _ in range(sizes.layers))
        self.emb_layer_norm_after = nn.LayerNorm(sizes.hidden, eps=sizes.layer_norm_epsilon)


class Layer(nn.Module):
    """Attention and feed-forward, each behind its norm and added to what came in."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.attention = Attention(sizes)
        self.LayerNorm = nn.LayerNorm(sizes.hidden, eps=sizes.layer_norm_epsilon)
        self.intermediate = Dense(sizes.hidden, 2 * sizes.feed_forward, bias=False)
        self.output = Dense(sizes.feed_forward, sizes.hidden, bias=False)

    def forward(self, states: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        """States go in and come out in shape (batch, tokens, hidden)."""
        states = states + self.attention(states, rotation, mask)
        gate, value = self.intermediate(self.LayerNorm(states)).chunk(2, dim=-1)
        return states + self.output(functional.silu(gate) * value)


class Attention(nn.Module):
    """A norm, attention, and the projection of what it gathers."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.self = SelfAttention(sizes)
        self.output = Dense(sizes.hidden, sizes.hidden, bias=True)
        self.LayerNorm = nn.LayerNorm(sizes.hidden, eps=sizes.layer_norm_epsilon)

    def forward(self, states: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        """States go in and come out in shape (batch, tokens, hidden)."""
        gathered: Tensor = self.output(self.self(self.LayerNorm(states), rotation, mask))
        return gathered


class SelfAttention(nn.Module):
    """Scaled dot-product attention between rotated queries and keys."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.query = nn.Linear(sizes.hidden, sizes.hidden)
        self.key = nn.Linear(sizes.hidden, sizes.hidden)
        self.value = nn.Linear(sizes.hidden, sizes.hidden)

    def forward(self, states: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        """States go in and come out in shape (batch, tokens, hidden)."""
        query, key = self._rotated(states, rotation)
        gathered = functional.scaled_dot_product_attention(query, key, self._split(self.value(states)), mask)
        return gathered.transpose(1, 2).flatten(2)

    def attention_weights(self, states: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        """Return how much each token attends to each; shape (batch, heads, queries, keys)."""
        query, key = self._rotated(states, rotation)
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        return (scores if mask is None else scores.masked_fill(~mask, -torch.inf)).softmax(dim=-1)

    def _rotated(self, states: Tensor, rotation: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return rotated(self._split(self.query(states)), rotation), rotated(self._split(self.key(states)), rotation)

    def _split(self, states: Tensor) -> Tensor:
        """From (batch, tokens, hidden) to (batch, heads, tokens, head)."""
        return states.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Dense(nn.Module):
    """A linear layer under the name that the published files give it."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, outputs, bias=bias)

    def forward(self, states: Tensor) -> Tensor:
        """From (…, inputs) to (…, outputs)."""
        projected: Tensor = self.dense(states)
        return projected


class LanguageModelHead(nn.Module):
    """From hidden states to logits; the decoder is not tied to the embeddings."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.dense = nn.Linear(sizes.hidden, sizes.hidden)
        self.layer_norm = nn.LayerNorm(sizes.hidden, eps=sizes.layer_norm_epsilon)
        self.decoder = nn.Linear(sizes.hidden, sizes.vocabulary, bias=False)
        self.bias = nn.Parameter(torch.zeros(sizes.vocabulary))

    def forward(self, states: Tensor) -> Tensor:
        """From (batch, tokens, hidden) to (batch, tokens, vocabulary)."""
        return functional.linear(self.layer_norm(functional.gelu(self.dense(states))), self.decoder.weight, self.bias)


def rotary_base(tokens: int, sizes: Sizes) -> float:
    """Return the base of the rotations' frequencies, 10,000 · s^(head / (head − 2)).

    The slowest rotation is s times as slow, the quickest is unchanged ("NTK-aware" scaling, Peng et al. 2023,
    arXiv:2309.00071, 3.1, which SegmentNT calls by that paper's name, YaRN).

    Args:
        tokens: of a sequence, special tokens included.
        sizes: s is `rescaling`; beyond `rescaled_beyond` tokens it is their number over that of pretraining.
    """
    many = sizes.rescaled_beyond is not None and tokens > sizes.rescaled_beyond
    scale = tokens / TOKENS_OF_PRETRAINING if many else sizes.rescaling
    # A head of two has one frequency, which is 1 whatever the base.
    return ROTARY_BASE * scale ** (sizes.head / (sizes.head - 2)) if sizes.head > 2 else ROTARY_BASE


def rotary(tokens: int, head: int, like: Tensor, base: float = ROTARY_BASE) -> tuple[Tensor, Tensor]:
    """Return cosines and sines of the positions' angles; shape (tokens, head) each, device and dtype of `like`.

    Position p turns the pair (i, i + head / 2) by p · base^(−2i / head); the first token has position 0.
    """
    frequencies = base ** (-torch.arange(0, head, 2, device=like.device, dtype=torch.float32) / head)
    angles = torch.outer(torch.arange(tokens, device=like.device, dtype=torch.float32), frequencies).repeat(1, 2)
    return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


def rotated(states: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turn queries or keys of shape (batch, heads, tokens, head) by their positions."""
    cosines, sines = rotation
    first, second = states.chunk(2, dim=-1)
    return states * cosines + torch.cat((-second, first), dim=-1) * sines
