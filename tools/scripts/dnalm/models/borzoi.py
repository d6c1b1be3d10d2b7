"""SegmentBorzoi: Borzoi's trunk up to its last convolution, and the segmentation head.

Borzoi: Linder et al. 2025, doi:10.1038/s41588-024-02053-6; the head: de Almeida et al. 2025,
doi:10.1038/s41592-025-02881-2. Weights are read under the parameter paths of the authors' Haiku.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dnalm.errors import UserError
from dnalm.models import haiku_weights
from dnalm.models.configs import feature_names, refuse_absurd_sizes, segment_window, size, steps_bases
from dnalm.models.convolution_blocks import BASES, BatchNorm, ConvolutionBlock, divisor_of, one_hot, stepwise_widths
from dnalm.models.model_file import StoredModel
from dnalm.models.relative_attention import TransformerLayer, TransformerSizes, central_mask_features, with_signs
from dnalm.models.segmenter import Segmenter, Window
from dnalm.models.unet_head import PREFIXES, STEPS_A_WINDOW, SegmentationHead
from dnalm.models.weights import fill, in_order

NAME = "segment_borzoi"
PUBLISHED_WINDOW, PUBLISHED_STEPS = 524_288, 6_144  # bases that it reads, and steps in their middle that it gives
EPSILON = 1e-3  # of every norm
STEM_KERNEL, TOWER_KERNEL, UP_KERNEL = 15, 5, 3
MOST_HALVINGS = 16
DOUBLINGS = 2
UP_WIDTH = 1_536  # of the up-blocks' ends, whatever the config
UNUSED = re.compile(rf"{haiku_weights.UNUSED}|^params/Borzoi/~_heads/")
HAIKU: haiku_weights.Rules = (
    (r"^(params|state)/Borzoi/", "trunk."),
    (r"~_stem/conv1_d/", "stem/"),
    (r"~_conv_tower/layer_(\d+)/conv_block/", r"tower.\1/"),
    (r"~_unet_conv/u_net_conv_block_(\d+)/", r"up.\1/"),
    (r"/batch_norm_unet_repr/", "/skip_norm/"),
    (r"/linear_unet/", "/skip_linear/"),
    (r"/separable_depthwise_conv1_d/~/depthwise_conv1_d/", "/depthwise/"),
    (r"/separable_depthwise_conv1_d/~/conv1_d/", "/pointwise/"),
    (r"~_final_conv_block/conv_block/", "final/"),
    (r"/conv1_d/", "/convolution/"),
    (r"/batch_norm/", "/norm/"),
)


@dataclass(frozen=True)
class Sizes:
    """The shapes of a model."""

    stem: int
    first: int
    hidden: int
    halvings: int
    divisor: int
    layers: int
    heads: int
    key: int
    position_features: int
    final: int
    steps_out: int
    head_width: int
    bases: int
    features: int

    @property
    def transformer(self) -> TransformerSizes:
        """Those of its transformer."""
        return TransformerSizes(self.hidden, self.heads, self.key, self.position_features, EPSILON)


def recognises(config: Mapping[str, Any]) -> bool:
    """Say whether a config is of this architecture, by the name that it was given here."""
    return config.get("architecture") == NAME


def read_sizes(stored: StoredModel) -> Sizes:
    """Return the sizes that a model's config gives; raise UserError if one is missing or absurd."""
    refuse_absurd_sizes(stored)
    halvings = size(stored, "num_downsamples", most=MOST_HALVINGS)
    steps_out = size(stored, "target_length")
    if steps_out % STEPS_A_WINDOW:
        raise UserError(
            f"The config of the segmenter '{stored.name}' has target_length = {steps_out:,}, which is no multiple of "
            f"{STEPS_A_WINDOW}; use intact files."
        )
    return Sizes(
        stem=size(stored, "int_embed_dim"),
        first=size(stored, "res_tower_embed_dim_init"),
        hidden=size(stored, "embed_dim"),
        halvings=halvings,
        divisor=size(stored, "dim_divisible_by"),
        layers=size(stored, "num_transformer_layers"),
        heads=size(stored, "num_attention_heads", divides="embed_dim"),
        key=size(stored, "attention_dim_key"),
        position_features=size(stored, "num_rel_pos_features"),
        final=size(stored, "final_conv_block_embed_dim"),
        steps_out=steps_out,
        head_width=size(stored, "unet_embed_dimension"),
        bases=steps_bases(stored, halvings - DOUBLINGS),
        features=len(feature_names(stored)),
    )


def config_of_shapes(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Return the config of a model whose tensors, by their names here, have these shapes; KeyError if one is missing.

    How much of its window it gives is in no tensor: that of published ones.
    """
    widths = [shape[0] for shape in in_order(shapes, r"trunk\.tower\.(\d+)\.convolution\.weight")]
    _, heads, _, key = shapes["trunk.transformer.0.attention.content_bias"]
    halvings = len(widths) + 1
    return {
        "architecture": NAME,
        "int_embed_dim": shapes["trunk.stem.weight"][0],
        "res_tower_embed_dim_init": widths[0],
        "embed_dim": widths[-1],
        "num_downsamples": halvings,
        "dim_divisible_by": divisor_of(widths[0], widths),
        "num_transformer_layers": len(in_order(shapes, r"trunk\.transformer\.(\d+)\.attention\.norm\.weight")),
        "num_attention_heads": heads,
        "attention_dim_key": key,
        "num_rel_pos_features": shapes["trunk.transformer.0.attention.relative_key.weight"][1],
        "final_conv_block_embed_dim": shapes["trunk.final.convolution.weight"][0],
        "target_length": PUBLISHED_STEPS,
        "unet_embed_dimension": shapes["fc.weight"][1],
        "nucl_per_token": 2 ** (halvings - DOUBLINGS),
    }


def load(stored: StoredModel) -> Segmenter:
    """Return the segmenter, in float32 on the CPU.

    Raises:
        UserError: config and tensors do not fit together.
    """
    sizes = read_sizes(stored)
    network = fill(
        lambda: SegmentBorzoi(sizes),
        stored,
        heads=PREFIXES,
        head=True,
        unused=UNUSED,
        renamed=module_name,
        arranged=haiku_weights.arranged,
    )
    multiple = sizes.bases * 2**DOUBLINGS
    central = sizes.steps_out * sizes.bases
    window = segment_window(stored, PUBLISHED_WINDOW, multiple)
    least = -(-central // multiple) * multiple
    if least > window:
        raise UserError(
            f"The segmenter '{stored.name}' gives {central:,} bases of windows of {window:,}, which cannot be; use intact "
            "files."
        )
    return Segmenter(
        stored=stored,
        architecture=NAME,
        network=network,
        features=feature_names(stored),
        window=Window(window, least, window, multiple, sizes.bases, central),
        takes_n=True,
        encode=one_hot,
    )


def module_name(name: str) -> str:
    """Return the name here of a published tensor's; a name that is not Haiku's stays."""
    return haiku_weights.renamed(name, HAIKU)


class SegmentBorzoi(SegmentationHead):
    """The head with its trunk."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes.final, sizes.head_width, sizes.bases, sizes.features)
        self.trunk = Trunk(sizes)

    def forward(self, bases: Tensor) -> Tensor:
        """From one-hot bases of shape (batch, 4, bases) to logits of shape (batch, central bases, features, 2)."""
        return super().forward(self.trunk(bases))


class Trunk(nn.Module):
    """Convolutions that halve the positions step by step, transformer layers, and two doublings of their own."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        widths = stepwise_widths(sizes.first, sizes.hidden, sizes.halvings - 1, sizes.divisor)
        self.stem = nn.Conv1d(len(BASES), sizes.stem, STEM_KERNEL, padding=STEM_KERNEL // 2)
        steps = zip([sizes.stem, *widths[:-1]], widths, strict=True)
        self.tower = nn.ModuleList(_block(inputs, outputs, TOWER_KERNEL) for inputs, outputs in steps)
        self.transformer = nn.ModuleList(TransformerLayer(sizes.transformer) for _ in range(sizes.layers))
        ups = zip([sizes.hidden, UP_WIDTH], reversed(widths[-DOUBLINGS:]), strict=True)
        self.up = nn.ModuleList(UpBlock(inputs, skipped, sizes.hidden) for inputs, skipped in ups)
        self.final = _block(UP_WIDTH, sizes.final, 1)

    def forward(self, bases: Tensor) -> Tensor:
        """From one-hot bases of shape (batch, 4, bases) to states of the central steps, shape (batch, steps, final)."""
        states = functional.max_pool1d(self.stem(bases.to(self.stem.weight.dtype)), 2)
        skipped = []
        for block in self.tower:
            states = block(states)
            skipped.append(states)
            states = functional.max_pool1d(states, 2)
        states = states.transpose(1, 2)
        positions = position_features(states.shape[1], self.sizes.position_features, states.device)
        for layer in self.transformer:
            states = layer(states, positions)
        states = states.transpose(1, 2)
        for block in self.up:
            states = block(states, skipped.pop())
        beside = (states.shape[-1] - self.sizes.steps_out) // 2
        states = states[..., beside : beside + self.sizes.steps_out]
        return gelu(self.final(states)).transpose(1, 2)


class UpBlock(nn.Module):
    """Doubles the positions and adds what the tower had there."""

    def __init__(self, inputs: int, skipped: int, width: int) -> None:
        super().__init__()
        self.norm = BatchNorm(inputs, EPSILON)
        self.linear = nn.Linear(inputs, width)
        self.skip_norm = BatchNorm(skipped, EPSILON)
        self.skip_linear = nn.Linear(skipped, width)
        self.depthwise = nn.Conv1d(width, width, UP_KERNEL, padding=UP_KERNEL // 2, groups=width, bias=False)
        self.pointwise = nn.Conv1d(width, UP_WIDTH, 1, bias=False)

    def forward(self, states: Tensor, skipped: Tensor) -> Tensor:
        """From (batch, inputs, positions) and (batch, skipped, 2 · positions) to (batch, 1536, 2 · positions)."""
        states = _over_channels(self.linear, gelu(self.norm(states)))
        skipped = _over_channels(self.skip_linear, gelu(self.skip_norm(skipped)))
        doubled = functional.interpolate(states, scale_factor=2.0, mode="nearest")
        wide: Tensor = self.pointwise(self.depthwise(doubled + skipped))
        return wide


def _over_channels(linear: nn.Linear, states: Tensor) -> Tensor:
    projected: Tensor = linear(states.transpose(1, 2)).transpose(1, 2)
    return projected


def _block(inputs: int, outputs: int, kernel: int) -> ConvolutionBlock:
    return ConvolutionBlock(inputs, outputs, kernel, EPSILON, gelu)


def gelu(states: Tensor) -> Tensor:
    """Return GELU by its approximation with tanh, Hendrycks and Gimpel 2016 (arXiv:1606.08415)."""
    return functional.gelu(states, approximate="tanh")


def position_features(count: int, width: int, device: torch.device) -> Tensor:
    """Return features of the distances −(count − 1) … count − 1, shape (2 · count − 1, width).

    Whether a distance is below widths that grow to `count` evenly in their logarithms, and the same with its sign.
    """
    each = width // 2
    return with_signs(central_mask_features(count, each, device, math.exp(math.log(count + 1) / each)), count)
