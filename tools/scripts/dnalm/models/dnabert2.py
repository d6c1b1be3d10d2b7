"""DNABERT-2: BERT with linear position biases (ALiBi) and gated feed-forward layers.

Zhou et al. 2023, arXiv:2306.15006; ALiBi: Press et al. 2021, arXiv:2108.12409; gated layers: Shazeer 2020,
arXiv:2002.05202. The module tree is the published files' own names.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dnalm.errors import UserError
from dnalm.models.configs import epsilon, refuse_absurd_sizes, refuse_other_settings, size
from dnalm.models.language_model import HiddenStates, LanguageModel, Logits
from dnalm.models.model_file import BUFFERS, StoredModel
from dnalm.models.tokenizers import Tokenizer, tokenizer_from_files
from dnalm.models.weights import fill, initialise

NAME = "dnabert-2"
HEADS = ("cls.",)
TIED = "cls.predictions.decoder.weight"
# The published file has no pooler (its code makes one at random); DNABERT-S has one that embeddings do not use.
UNUSED_TENSORS = re.compile(rf"{BUFFERS.pattern}|pooler\.|^cls\.predictions\.decoder\.weight$")
KNOWN_SETTINGS = {"hidden_act": "gelu", "is_decoder": False, "tie_word_embeddings": True}
HEAD_EPSILON = 1e-12  # of the head's norm, whatever the config says of the others
# Position biases have no limit, but their memory grows with the square of the tokens (here 0.8 GB): about 28,000 bases.
MOST_TOKENS = 4_096


@dataclass(frozen=True)
class Sizes:
    """The shapes of a model: widths, counts, and what its norms add to a variance."""

    vocabulary: int
    token_types: int
    hidden: int
    layers: int
    heads: int
    feed_forward: int
    layer_norm_epsilon: float


def recognises(config: Mapping[str, Any]) -> bool:
    """Say whether a config.json is of this architecture; published ones name no `model_type`."""
    return config.get("model_type") in (None, "bert") and "alibi_starting_size" in config


def read_sizes(stored: StoredModel) -> Sizes:
    """Return the sizes that a model's config gives.

    Raises:
        UserError: one is missing or absurd, or the config asks for a variant that is not known.
    """
    refuse_absurd_sizes(stored)
    refuse_other_settings(stored, KNOWN_SETTINGS)
    return Sizes(
        vocabulary=size(stored, "vocab_size"),
        token_types=size(stored, "type_vocab_size"),
        hidden=size(stored, "hidden_size"),
        layers=size(stored, "num_hidden_layers"),
        heads=size(stored, "num_attention_heads", divides="hidden_size"),
        feed_forward=size(stored, "intermediate_size"),
        layer_norm_epsilon=epsilon(stored, "layer_norm_eps"),
    )


def load(stored: StoredModel, *, head: bool = False) -> LanguageModel:
    """Return the model, with its language-model head if asked for, in float32 on the CPU.

    Raises:
        UserError: config, tensors and tokenizer do not fit together, or there is no such head.
    """
    tokenizer = tokenizer_from_files(stored.tokenizer)
    sizes = read_sizes(stored)
    # DNABERT-S was saved without the language model around it.
    bare = not any(name.startswith("bert.") for name in stored.tensors)
    model = fill(
        lambda: MaskedLanguageModel(sizes),
        stored,
        heads=HEADS,
        head=head,
        unused=UNUSED_TENSORS,
        renamed=lambda name: f"bert.{name}" if bare else name,
    )
    assert isinstance(model, MaskedLanguageModel)
    if head and TIED in stored.tensors:
        _check_tied(stored, model.bert.embeddings.word_embeddings.weight)
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
    return dict(model.state_dict(prefix="bert." if isinstance(model, Backbone) else ""))


def _language_model(
    stored: StoredModel, sizes: Sizes, model: "MaskedLanguageModel", tokenizer: Tokenizer, *, head: bool
) -> LanguageModel:
    limits = [MOST_TOKENS, tokenizer.largest_input]
    return LanguageModel(
        stored=stored,
        architecture=NAME,
        backbone=model.bert,
        layers=model.bert.encoder.layer,
        tokenizer=tokenizer,
        hidden_size=sizes.hidden,
        vocabulary_size=sizes.vocabulary,
        context_length=min(limit for limit in limits if limit is not None),
        causal=False,
        with_head=model if head else None,
    )


def _check_tied(stored: StoredModel, embeddings: Tensor) -> None:
    decoder = stored.read_tensors([TIED])[TIED].float()
    if not torch.equal(decoder, embeddings):
        raise UserError(
            f"The tensor '{TIED}' of the model '{stored.name}' differs from its word embeddings, to which DNABERT-2 ties "
            "it; use intact files."
        )


class MaskedLanguageModel(nn.Module):
    """The encoder with its head, whose decoder is the table of word embeddings."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.bert = Backbone(sizes)
        self.cls = nn.ModuleDict({"predictions": LanguageModelHead(sizes)})

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Logits:
        """Return logits of shape (batch, tokens, vocabulary); ids and mask have the shape (batch, tokens)."""
        states = self.bert(input_ids, attention_mask).last_hidden_state
        return Logits(self.cls["predictions"](states, self.bert.embeddings.word_embeddings.weight))


class Backbone(nn.Module):
    """Embeddings and layers."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.embeddings = Embeddings(sizes)
        self.encoder = Encoder(sizes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> HiddenStates:
        """Return hidden states of shape (batch, tokens, hidden); ids and mask have the shape (batch, tokens)."""
        states = self.embeddings(input_ids)
        bias = alibi(input_ids.shape[1], self.heads, states)
        if attention_mask is not None:
            bias = bias.masked_fill(~attention_mask.bool()[:, None, None, :], -torch.inf)
        for layer in self.encoder.layer:
            states = layer(states, bias)
        return HiddenStates(states)


class Embeddings(nn.Module):
    """One vector a token, of the first token type, normed."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(sizes.vocabulary, sizes.hidden)
        self.token_type_embeddings = nn.Embedding(sizes.token_types, sizes.hidden)
        self.LayerNorm = nn.LayerNorm(sizes.hidden, eps=sizes.layer_norm_epsilon)

    def forward(self, input_ids: Tensor) -> Tensor:
        """From ids of shape (batch, tokens) to vectors of shape (batch, tokens, hidden)."""
        vectors: Tensor = self.LayerNorm(self.word_embeddings(input_ids) + self.token_type_embeddings.weight[0])
        return vectors


class Encoder(nn.Module):
    """The layers."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(sizes) for _ in range(sizes.layers))


class Layer(nn.Module):
    """Attention and a gated feed-forward layer, each added to what came in and then normed."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.attention = nn.ModuleDict({"self": SelfAttention(sizes), "output": AttentionOutput(sizes)})
        self.mlp = GatedFeedForward(sizes)

    def forward(self, states: Tensor, bias: Tensor) -> Tensor:
        """States go in and come out in shape (batch, tokens, hidden)."""
        attended = self.attention["output"](self.attention["self"](states, bias), states)
        normed: Tensor = self.mlp(attended)
        return normed


class SelfAttention(nn.Module):
    """Scaled dot-product attention that fades linearly with the distance of two tokens."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.Wqkv = nn.Linear(sizes.hidden, 3 * sizes.hidden)

    def forward(self, states: Tensor, bias: Tensor) -> Tensor:
        """States go in and come out in shape (batch, tokens, hidden)."""
        query, key, value = self._split(states)
        gathered = functional.scaled_dot_product_attention(query, key, value, bias)
        return gathered.transpose(1, 2).flatten(2)

    def attention_weights(self, states: Tensor, bias: Tensor) -> Tensor:
        """Return how much each token attends to each; shape (batch, heads, queries, keys)."""
        query, key, _ = self._split(states)
        return (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5 + bias).softmax(dim=-1)

    def _split(self, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, shape (batch, heads, tokens, head) each."""
        query, key, value = self.Wqkv(states).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return query, key, value


class AttentionOutput(nn.Module):
    """The projection of what attention gathers, added to what came in and normed."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.dense = nn.Linear(sizes.hidden, sizes.hidden)
        self.LayerNorm = nn.LayerNorm(sizes.hidden, eps=sizes.layer_norm_epsilon)

    def forward(self, gathered: Tensor, states: Tensor) -> Tensor:
        """States go in and come out in shape (batch, tokens, hidden)."""
        normed: Tensor = self.LayerNorm(self.dense(gathered) + states)
        return normed


class GatedFeedForward(nn.Module):
    """A gated feed-forward layer, added to what came in and normed."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.gated_layers = nn.Linear(sizes.hidden, 2 * sizes.feed_forward, bias=False)
        self.wo = nn.Linear(sizes.feed_forward, sizes.hidden)
        self.layernorm = nn.LayerNorm(sizes.hidden, eps=sizes.layer_norm_epsilon)

    def forward(self, states: Tensor) -> Tensor:
        """States go in and come out in shape (batch, tokens, hidden)."""
        gate, value = self.gated_layers(states).chunk(2, dim=-1)
        normed: Tensor = self.layernorm(self.wo(functional.gelu(gate) * value) + states)
        return normed


class LanguageModelHead(nn.Module):
    """From hidden states to logits."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.transform = Transform(sizes)
        self.decoder = nn.ParameterDict({"bias": nn.Parameter(torch.zeros(sizes.vocabulary))})

    def forward(self, states: Tensor, embeddings: Tensor) -> Tensor:
        """From (batch, tokens, hidden) to (batch, tokens, vocabulary), with embeddings of (vocabulary, hidden)."""
        return functional.linear(self.transform(states), embeddings, self.decoder["bias"])


class Transform(nn.Module):
    """The dense layer and norm before the decoder."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.dense = nn.Linear(sizes.hidden, sizes.hidden)
        self.LayerNorm = nn.LayerNorm(sizes.hidden, eps=HEAD_EPSILON)

    def forward(self, states: Tensor) -> Tensor:
        """States go in and come out in shape (batch, tokens, hidden)."""
        normed: Tensor = self.LayerNorm(functional.gelu(self.dense(states)))
        return normed


def alibi(tokens: int, heads: int, like: Tensor) -> Tensor:
    """Return the bias of each pair of tokens, −slope · distance; shape (1, heads, tokens, tokens), dtype of `like`."""
    positions = torch.arange(tokens, device=like.device, dtype=torch.float32)
    distances = (positions[None, :] - positions[:, None]).abs()
    slopes = torch.tensor(alibi_slopes(heads), device=like.device, dtype=torch.float32)
    return (-slopes[:, None, None] * distances).to(like.dtype)[None]


def alibi_slopes(heads: int) -> list[float]:
    """Return one slope a head: 2^(−8i/n) for n heads, n a power of two.

    Otherwise those of the largest power of two below, and then every other one of twice as many heads (Press et al.).
    """
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * number / power) for number in range(1, power + 1)]
    between = [2 ** (-8 * number / (2 * power)) for number in range(1, 2 * power + 1, 2)]
    return slopes + between[: heads - power]
