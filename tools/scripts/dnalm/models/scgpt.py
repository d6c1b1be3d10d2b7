"""scGPT: a transformer over the genes that a cell expresses, whose first token becomes the cell's embedding.

Cui et al. 2024, doi:10.1038/s41592-024-02201-0; the encoder is that of Vaswani et al. 2017, arXiv:1706.03762, with ReLU
and norms behind each sum. Genes have no positions. The module tree is the published files' own names.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dnalm.errors import UserError, shown
from dnalm.models.configs import refuse_other_settings, size
from dnalm.models.failures import loading
from dnalm.models.model_file import StoredModel
from dnalm.models.weights import fill

NAME = "scgpt"
CONFIG, VOCABULARY = "args.json", "vocab.json"  # as its authors call them
CLS = "<cls>"
CONTEXT_LENGTH = 1_200  # tokens, as all published models were trained
LARGEST_VALUE = 512  # of a bin; what is above is read as this
KNOWN_SETTINGS = {"input_style": "binned", "input_emb_style": "continuous", "n_bins": 51}
# Of pretraining, which cell embeddings do not need; adding the flags would change them.
UNUSED_TENSORS = re.compile(r"^(module\.)?(decoder|mvc_decoder|flag_encoder|cls_decoder|grad_reverse_discriminator)\.")
# Of models fine-tuned with labels of batches: without these labels they embed nothing sensible.
OF_BATCHES = re.compile(r"^(module\.)?(bn|dsbn|batch_encoder)\.")
# As the authors' attention with and without its fast library writes them; rows of queries, keys, values in all.
SPELLINGS = ((re.compile(r"^module\."), ""), (re.compile(r"\._impl\."), "."), (re.compile(r"\.Wqkv\."), ".in_proj_"))


@dataclass(frozen=True)
class Sizes:
    """The shapes of a model."""

    vocabulary: int
    hidden: int
    layers: int
    heads: int
    feed_forward: int
    pad_id: int


@dataclass
class CellModel:
    """A model of cells with its vocabulary.

    Attributes:
        stored: the model file or folder it was read from.
        module: from genes and values to cells.
        vocabulary: name of a gene → its id; special tokens among them.
        pad_id, cls_id: ids of what fills batches, and of the token in front of a cell's genes.
        no_value: what stands in the place of a value beside both.
    """

    stored: StoredModel
    module: "CellEncoder"
    vocabulary: Mapping[str, int]
    pad_id: int
    cls_id: int
    no_value: float

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer's layers, in order."""
        return self.module.transformer_encoder.layers

    @property
    def hidden_size(self) -> int:
        """Dimensions of a cell's embedding."""
        return self.module.encoder.embedding.embedding_dim

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move the weights."""
        self.module.to(device, dtype)


def recognises(config: Mapping[str, Any]) -> bool:
    """Say whether a config is the args.json of this architecture."""
    return {"embsize", "nlayers", "d_hid"} <= config.keys() and "model_type" not in config


def load(stored: StoredModel) -> CellModel:
    """Return the model in float32 on the CPU, ready for inference.

    Raises:
        UserError: it is no scGPT; or args.json, vocabulary and weights do not fit together.
    """
    if not recognises(stored.config):
        raise UserError(
            f"The model '{stored.name}' is no model of cells: its config is no args.json of scGPT; choose a scGPT."
        )
    vocabulary = _vocabulary(stored)
    sizes = _sizes(stored, vocabulary)
    if of_batches := next((name for name in stored.tensors if OF_BATCHES.search(name)), None):
        raise UserError(
            f"The model '{stored.name}' was fine-tuned with labels of batches (tensor '{shown(of_batches)}'), without which "
            "it embeds no cell; use a pretrained scGPT."
        )
    with loading(stored.name):
        module = fill(
            lambda: CellEncoder(sizes), stored, heads=(), head=False, unused=UNUSED_TENSORS, renamed=module_name
        )
    assert isinstance(module, CellEncoder)
    return CellModel(stored, module, vocabulary, sizes.pad_id, vocabulary[CLS], float(stored.config["pad_value"]))


def module_name(stored_name: str) -> str:
    """Return the module's name of a stored tensor, however the authors' attention was installed that wrote it."""
    name = stored_name
    for spelling, ours in SPELLINGS:
        name = spelling.sub(ours, name)
    return name


def _vocabulary(stored: StoredModel) -> dict[str, int]:
    """Return the names of the genes with their ids, each id once and none left out."""
    vocabulary = stored.tokenizer.get(VOCABULARY)
    if not isinstance(vocabulary, dict) or not all(type(number) is int for number in vocabulary.values()):
        raise UserError(f"The model '{stored.name}' has no {VOCABULARY} of genes and their numbers; use intact files.")
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise UserError(
            f"The {VOCABULARY} of the model '{stored.name}' does not number its {len(vocabulary):,} names from 0 on, each "
            "once; use intact files."
        )
    for token in (CLS, stored.config.get("pad_token")):
        if not isinstance(token, str) or token not in vocabulary:
            raise UserError(
                f"The {VOCABULARY} of the model '{stored.name}' lacks the token '{shown(token)}'; use intact files."
            )
    return vocabulary


def _sizes(stored: StoredModel, vocabulary: Mapping[str, int]) -> Sizes:
    refuse_other_settings(stored, KNOWN_SETTINGS)
    no_value: Any = stored.config.get("pad_value")
    if type(no_value) not in (int, float) or not -LARGEST_VALUE < no_value < LARGEST_VALUE:
        raise UserError(
            f"The {CONFIG} of the model '{stored.name}' has pad_value = {shown(no_value)}, where a number is needed; use "
            "intact files."
        )
    layers = size(stored, "nlayers")
    if layers > len(stored.tensors):
        raise UserError(
            f"The {CONFIG} of the model '{stored.name}' asks for {layers:,} layers, which its weights cannot fill; use "
            "intact files."
        )
    rows = next((i.shape[0] for n, i in stored.tensors.items() if module_name(n) == "encoder.embedding.weight"), None)
    if rows is not None and rows != len(vocabulary):
        raise UserError(
            f"The {VOCABULARY} of the model '{stored.name}' has {len(vocabulary):,} names, its weights are of {rows:,}; use "
            "the vocabulary that was published with the weights."
        )
    return Sizes(
        vocabulary=len(vocabulary),
        hidden=size(stored, "embsize"),
        layers=layers,
        heads=size(stored, "nheads", divides="embsize"),
        feed_forward=size(stored, "d_hid"),
        pad_id=vocabulary[stored.config["pad_token"]],
    )


class CellEncoder(nn.Module):
    """From genes and the bins of their values to one vector of length 1 a cell."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.encoder = GeneEncoder(sizes)
        self.value_encoder = ValueEncoder(sizes)
        self.transformer_encoder = Transformer(sizes)

    def forward(self, genes: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return cells, shape (batch, hidden), float32.

        Args:
            genes: vocabulary ids, the special token first; shape (batch, tokens).
            values: their bins, same shape.
            mask: 1 for a token, 0 for padding, same shape; None where nothing is padded.
        """
        keys = None if mask is None else mask.bool()[:, None, None, :]
        states = self.embed(genes, values)
        *lower, last = self.transformer_encoder.layers
        for layer in lower:
            states = layer(states, states, keys)
        # Of the last layer nothing but the first token's output is read.
        cells = last(states[:, :1], states, keys)[:, 0].float()
        return cells / cells.norm(dim=1, keepdim=True)

    def hidden_states(self, genes: Tensor, values: Tensor, mask: Tensor | None = None) -> list[Tensor]:
        """Return the embeddings and what leaves each layer, shape (batch, tokens, hidden) each."""
        keys = None if mask is None else mask.bool()[:, None, None, :]
        states = [self.embed(genes, values)]
        for layer in self.transformer_encoder.layers:
            states.append(layer(states[-1], states[-1], keys))
        return states

    def embed(self, genes: Tensor, values: Tensor) -> Tensor:
        """Return the sum of a gene's and its value's vectors, shape (batch, tokens, hidden)."""
        vectors: Tensor = self.encoder(genes) + self.value_encoder(values)
        return vectors


class GeneEncoder(nn.Module):
    """One vector a gene, normed."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.embedding = nn.Embedding(sizes.vocabulary, sizes.hidden, padding_idx=sizes.pad_id)
        self.enc_norm = nn.LayerNorm(sizes.hidden)

    def forward(self, genes: Tensor) -> Tensor:
        """From ids of shape (batch, tokens) to vectors of shape (batch, tokens, hidden)."""
        vectors: Tensor = self.enc_norm(self.embedding(genes))
        return vectors


class ValueEncoder(nn.Module):
    """From a number to a vector: two linear layers, normed."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.linear1 = nn.Linear(1, sizes.hidden)
        self.linear2 = nn.Linear(sizes.hidden, sizes.hidden)
        self.norm = nn.LayerNorm(sizes.hidden)

    def forward(self, values: Tensor) -> Tensor:
        """From values of shape (batch, tokens) to vectors of shape (batch, tokens, hidden)."""
        numbers = values.clamp(max=LARGEST_VALUE).unsqueeze(-1).to(self.linear1.weight.dtype)
        vectors: Tensor = self.norm(self.linear2(functional.relu(self.linear1(numbers))))
        return vectors


class Transformer(nn.Module):
    """The layers."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(sizes) for _ in range(sizes.layers))


class Layer(nn.Module):
    """Attention and a feed-forward layer, each added to what came in and then normed."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.self_attn = SelfAttention(sizes)
        self.linear1 = nn.Linear(sizes.hidden, sizes.feed_forward)
        self.linear2 = nn.Linear(sizes.feed_forward, sizes.hidden)
        self.norm1 = nn.LayerNorm(sizes.hidden)
        self.norm2 = nn.LayerNorm(sizes.hidden)

    def forward(self, states: Tensor, context: Tensor, keys: Tensor | None) -> Tensor:
        """Return new states of some tokens, shape (batch, tokens, hidden), that attend to all, `context`.

        `keys` says which of the context are tokens, shape (batch, 1, 1, context); None if all.
        """
        attended = self.norm1(states + self.self_attn(states, context, keys))
        normed: Tensor = self.norm2(attended + self.linear2(functional.relu(self.linear1(attended))))
        return normed


class SelfAttention(nn.Module):
    """Scaled dot-product attention of several heads."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.heads, self.hidden = sizes.heads, sizes.hidden
        self.in_proj_weight = nn.Parameter(torch.empty(3 * sizes.hidden, sizes.hidden))  # rows of queries, keys, values
        self.in_proj_bias = nn.Parameter(torch.empty(3 * sizes.hidden))
        self.out_proj = nn.Linear(sizes.hidden, sizes.hidden)

    def forward(self, states: Tensor, context: Tensor, keys: Tensor | None) -> Tensor:
        """See `Layer`."""
        of_queries, width = slice(self.hidden), self.hidden
        query = functional.linear(states, self.in_proj_weight[of_queries], self.in_proj_bias[of_queries])
        both = functional.linear(context, self.in_proj_weight[width:], self.in_proj_bias[width:])
        key, value = both.chunk(2, dim=-1)
        attended = functional.scaled_dot_product_attention(
            self._split(query), self._split(key), self._split(value), attn_mask=keys
        )
        joined: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return joined

    def _split(self, vectors: Tensor) -> Tensor:
        """From shape (batch, tokens, hidden) to (batch, heads, tokens, head width)."""
        return vectors.unflatten(-1, (self.heads, -1)).transpose(1, 2)
