"""SegmentEnformer: Enformer's trunk up to its transformer, and the segmentation head.

Enformer: Avsec et al. 2021, doi:10.1038/s41592-021-01252-x; the head: de Almeida et al. 2025,
doi:10.1038/s41592-025-02881-2. Weights are read under the parameter paths of the authors' Haiku and under the names of
enformer-pytorch.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dnalm.errors import UserError
from dnalm.models import haiku_weights
from dnalm.models.configs import feature_names, refuse_absurd_sizes, segment_window, size, steps_bases
from dnalm.models.convolution_blocks import BASES, ConvolutionBlock, divisor_of, one_hot, stepwise_widths
from dnalm.models.model_file import StoredModel
from dnalm.models.relative_attention import (
    TransformerLayer,
    TransformerSizes,
    central_mask_features,
    exponential_features,
    gamma_features,
    with_signs,
)
from dnalm.models.segmenter import Segmenter, Window
from dnalm.models.unet_head import PREFIXES, STEPS_A_WINDOW, SegmentationHead
from dnalm.models.weights import fill, in_order

NAME = "segment_enformer"
PUBLISHED_WINDOW = 196_608  # bases
EPSILON = 1e-5  # of every norm
STEM_KERNEL, TOWER_KERNEL = 15, 5
MOST_HALVINGS = 16
KINDS_OF_POSITION_FEATURES = 3
UNUSED = re.compile(
    rf"{haiku_weights.UNUSED}|^params/Enformer/~_(heads|final_pointwise)/|^state/Enformer/~_final_pointwise/"
    r"|num_batches_tracked$|^_heads\.|^_trunk\.6\.|^final_pointwise\."
)
HAIKU: haiku_weights.Rules = (
    (r"^(params|state)/Enformer/", "trunk."),
    (r"~_stem/", "stem/"),
    (r"~_conv_tower/layer_(\d+)/conv_block/", r"tower.\1.block/"),
    (r"~_conv_tower/layer_(\d+)/", r"tower.\1/"),
    (r"/residual_conv_block/conv_block/", "/residual/"),
    (r"/attention_pool/~/conv2_d/", "/pool/logits/"),
    (r"/conv1_d/", "/convolution/"),
    (r"/batch_norm/", "/norm/"),
)
# The library names its parts twice.
ALIASES = {"stem": "_trunk.1", "conv_tower": "_trunk.2", "transformer": "_trunk.4", "final_pointwise": "_trunk.6"}
ENFORMER_PYTORCH: haiku_weights.Rules = (
    *((rf"^{alias}\.", f"{part}.") for alias, part in ALIASES.items()),
    (r"^_trunk\.1\.0\.", "trunk.stem.convolution."),
    (r"^_trunk\.1\.1\.fn\.", "trunk.stem.residual."),
    (r"^_trunk\.1\.2\.", "trunk.stem.pool."),
    (r"^_trunk\.2\.(\d+)\.0\.", r"trunk.tower.\1.block."),
    (r"^_trunk\.2\.(\d+)\.1\.fn\.", r"trunk.tower.\1.residual."),
    (r"^_trunk\.2\.(\d+)\.2\.", r"trunk.tower.\1.pool."),
    (r"\.(block|residual)\.0\.", r".\1.norm."),
    (r"\.(block|residual)\.2\.", r".\1.convolution."),
    (r"\.pool\.to_attn_logits\.", ".pool.logits."),
    (r"^_trunk\.4\.(\d+)\.0\.fn\.0\.", r"trunk.transformer.\1.attention.norm."),
    (r"^_trunk\.4\.(\d+)\.0\.fn\.1\.", r"trunk.transformer.\1.attention."),
    (r"^_trunk\.4\.(\d+)\.1\.fn\.0\.", r"trunk.transformer.\1.feed_forward.norm."),
    (r"^_trunk\.4\.(\d+)\.1\.fn\.1\.", r"trunk.transformer.\1.feed_forward.expand."),
    (r"^_trunk\.4\.(\d+)\.1\.fn\.4\.", r"trunk.transformer.\1.feed_forward.contract."),
    (r"\.rel_content_bias$", ".content_bias"),
    (r"\.rel_pos_bias$", ".position_bias"),
    (r"\.to_rel_k\.", ".relative_key."),
    (r"\.to_q\.", ".query."),
    (r"\.to_k\.", ".key."),
    (r"\.to_v\.", ".value."),
    (r"\.to_out\.", ".output."),
)


@dataclass(frozen=True)
class Sizes:
    """The shapes of a model."""

    hidden: int
    halvings: int
    divisor: int
    layers: int
    heads: int
    key: int
    head_width: int
    bases: int
    features: int

    @property
    def transformer(self) -> TransformerSizes:
        """Those of its transformer; each attention head has as many features of positions as it has values."""
        return TransformerSizes(self.hidden, self.heads, self.key, self.hidden // self.heads, EPSILON)


def recognises(config: Mapping[str, Any]) -> bool:
    """Say whether a config is of this architecture, by the name that it was given here."""
    return config.get("architecture") == NAME


def read_sizes(stored: StoredModel) -> Sizes:
    """Return the sizes that a model's config gives; raise UserError if one is missing or absurd."""
    refuse_absurd_sizes(stored)
    hidden, heads = size(stored, "embed_dim"), size(stored, "num_attention_heads", divides="embed_dim")
    if hidden // heads % (2 * KINDS_OF_POSITION_FEATURES):
        raise UserError(
            f"The config of the segmenter '{stored.name}' has {hidden // heads} features of positions, which are no "
            "multiple of 6; use intact files."
        )
    halvings = size(stored, "num_downsamples", most=MOST_HALVINGS)
    return Sizes(
        hidden=hidden,
        halvings=halvings,
        divisor=size(stored, "dim_divisible_by"),
        layers=size(stored, "num_transformer_layers"),
        heads=heads,
        key=size(stored, "attention_dim_key"),
        head_width=size(stored, "unet_embed_dimension"),
        bases=steps_bases(stored, halvings),
        features=len(feature_names(stored)),
    )


def config_of_shapes(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Return the config of a model whose tensors, by their names here, have these shapes; KeyError if one is missing."""
    first = shapes["trunk.stem.convolution.weight"][0]
    widths = [shape[0] for shape in in_order(shapes, r"trunk\.tower\.(\d+)\.block\.convolution\.weight")]
    _, heads, _, key = shapes["trunk.transformer.0.attention.content_bias"]
    halvings = len(widths) + 1
    return {
        "architecture": NAME,
        "embed_dim": 2 * first,
        "num_downsamples": halvings,
        "dim_divisible_by": divisor_of(first, widths),
        "num_transformer_layers": len(in_order(shapes, r"trunk\.transformer\.(\d+)\.attention\.norm\.weight")),
        "num_attention_heads": heads,
        "attention_dim_key": key,
        "unet_embed_dimension": shapes["fc.weight"][1],
        "nucl_per_token": 2**halvings,
    }


def load(stored: StoredModel) -> Segmenter:
    """Return the segmenter, in float32 on the CPU.

    Raises:
        UserError: config and tensors do not fit together.
    """
    sizes = read_sizes(stored)
    network = fill(
        lambda: SegmentEnformer(sizes),
        stored,
        heads=PREFIXES,
        head=True,
        unused=unused_names(stored),
        renamed=module_name,
        arranged=haiku_weights.arranged,
    )
    multiple = sizes.bases * STEPS_A_WINDOW
    window = segment_window(stored, PUBLISHED_WINDOW, multiple)
    return Segmenter(
        stored=stored,
        architecture=NAME,
        network=network,
        features=feature_names(stored),
        window=Window(window, multiple, window, multiple, sizes.bases),
        takes_n=True,
        encode=one_hot,
    )


def module_name(name: str) -> str:
    """Return the name here of a published tensor's; a name that is neither Haiku's nor the library's stays."""
    if haiku_weights.PATH.match(name):
        return haiku_weights.renamed(name, HAIKU)
    for pattern, replacement in ENFORMER_PYTORCH if name.startswith(("_trunk.", *ALIASES)) else ():
        name = re.sub(pattern, replacement, name)
    return name


def unused_names(stored: StoredModel) -> re.Pattern[str]:
    """Return which tensors no computation needs: heads of Enformer, what training counts, second names of others."""
    if not any(name.startswith("_trunk.1.") for name in stored.tensors):
        return UNUSED
    return re.compile(rf"{UNUSED.pattern}|^({'|'.join(ALIASES)})\.")


class SegmentEnformer(SegmentationHead):
    """The head with its trunk."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes.hidden, sizes.head_width, sizes.bases, sizes.features)
        self.trunk = Trunk(sizes)

    def forward(self, bases: Tensor) -> Tensor:
        """From one-hot bases of shape (batch, 4, bases) to logits of shape (batch, bases, features, 2)."""
        return super().forward(self.trunk(bases))


class Trunk(nn.Module):
    """Convolutions that halve the positions step by step, then transformer layers."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        first = sizes.hidden // 2
        widths = stepwise_widths(first, sizes.hidden, sizes.halvings - 1, sizes.divisor)
        self.sizes = sizes.transformer
        self.stem = Stem(first)
        steps = zip([first, *widths[:-1]], widths, strict=True)
        self.tower = nn.ModuleList(TowerStep(inputs, outputs) for inputs, outputs in steps)
        self.transformer = nn.ModuleList(TransformerLayer(self.sizes) for _ in range(sizes.layers))

    def forward(self, bases: Tensor) -> Tensor:
        """From one-hot bases of shape (batch, 4, bases) to hidden states of shape (batch, steps, hidden)."""
        states = self.stem(bases.to(self.stem.convolution.weight.dtype))
        for step in self.tower:
            states = step(states)
        states = states.transpose(1, 2)
        positions = position_features(states.shape[1], self.sizes.position_features, states.device)
        for layer in self.transformer:
            states = layer(states, positions)
        return states


class Stem(nn.Module):
    """A wide convolution over bases, one over single positions beside it, and a pooling."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(len(BASES), width, STEM_KERNEL, padding=STEM_KERNEL // 2)
        self.residual = _block(width, width, 1)
        self.pool = AttentionPool(width)

    def forward(self, bases: Tensor) -> Tensor:
        """From (batch, 4, bases) to (batch, width, bases / 2)."""
        states = self.convolution(bases)
        pooled: Tensor = self.pool(states + self.residual(states))
        return pooled


class TowerStep(nn.Module):
    """A convolution over neighbours, one over single positions beside it, and a pooling."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.block = _block(inputs, outputs, TOWER_KERNEL)
        self.residual = _block(outputs, outputs, 1)
        self.pool = AttentionPool(outputs)

    def forward(self, states: Tensor) -> Tensor:
        """From (batch, inputs, positions) to (batch, outputs, positions / 2)."""
        states = self.block(states)
        pooled: Tensor = self.pool(states + self.residual(states))
        return pooled


class AttentionPool(nn.Module):
    """Joins two neighbours; each channel weighs them by a softmax of what all channels say."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.logits = nn.Conv2d(width, width, 1, bias=False)

    def forward(self, states: Tensor) -> Tensor:
        """From (batch, width, positions) to (batch, width, positions / 2)."""
        pairs = states.unflatten(-1, (-1, 2))
        return (pairs * self.logits(pairs).softmax(dim=-1)).sum(dim=-1)


def _block(inputs: int, outputs: int, kernel: int) -> ConvolutionBlock:
    return ConvolutionBlock(inputs, outputs, kernel, EPSILON, quick_gelu)


def quick_gelu(states: Tensor) -> Tensor:
    """Return x · sigmoid(1.702 x), Hendrycks and Gimpel 2016 (arXiv:1606.08415)."""
    return states * torch.sigmoid(1.702 * states)


def position_features(count: int, width: int, device: torch.device) -> Tensor:
    """Return features of the distances −(count − 1) … count − 1, shape (2 · count − 1, width).

    A third of the features is of each kind, and half of each tells the two directions apart.
    """
    each = width // KINDS_OF_POSITION_FEATURES // 2
    kinds = (exponential_features, central_mask_features, gamma_features)
    return with_signs(torch.cat([kind(count, each, device) for kind in kinds], dim=-1), count)
