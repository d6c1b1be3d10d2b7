"""Names and layouts of weights that Haiku wrote: each layer gives the numbers that its definition in Haiku gives."""

import re

import pytest
import torch
from dnalm.models.haiku_weights import UNUSED, Rules, arranged, renamed
from torch.nn import functional

TRUNK: Rules = ((r"^(params|state)/Trunk/", "trunk."),)
UNET = "params/u_net_head/~/unet1_d_segmentation_head/~"
ATTENTION = "params/Trunk/~_transformer_attention/layer_10"
FEED_FORWARD = "params/Trunk/~_transformer_ffn_block/layer_10"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("params/u_net_head/~/fc/w", "fc.weight"),
        (f"{UNET}/downsample_block_1/~/conv0/b", "unet._downsample_blocks.1.conv_layers.0.bias"),
        (f"{UNET}/upsample_block_0/~/conv_transpose1/w", "unet._upsample_blocks.0.conv_layers.1.weight"),
        (f"{UNET}/final_conv1_d/~/conv1/w", "unet.final_block.conv_layers.1.weight"),
        (f"{ATTENTION}/attn_layer_norm/scale", "trunk.transformer.10.attention.norm.weight"),
        (f"{ATTENTION}/attention/~/attn_q/w", "trunk.transformer.10.attention.query.weight"),
        (f"{ATTENTION}/attention/~/attn_k/w", "trunk.transformer.10.attention.key.weight"),
        (f"{ATTENTION}/attention/~/attn_v/w", "trunk.transformer.10.attention.value.weight"),
        (f"{ATTENTION}/attention/~/attn_o/b", "trunk.transformer.10.attention.output.bias"),
        (f"{ATTENTION}/attention/~/attn_to_rel_k/w", "trunk.transformer.10.attention.relative_key.weight"),
        (f"{ATTENTION}/attention/rel_content_bias", "trunk.transformer.10.attention.content_bias"),
        (f"{ATTENTION}/attention/rel_pos_bias", "trunk.transformer.10.attention.position_bias"),
        (f"{FEED_FORWARD}/ffn_layer_norm/offset", "trunk.transformer.10.feed_forward.norm.bias"),
        (f"{FEED_FORWARD}/ffn_1/w", "trunk.transformer.10.feed_forward.expand.weight"),
        (f"{FEED_FORWARD}/ffn_2/b", "trunk.transformer.10.feed_forward.contract.bias"),
        ("state/Trunk/norm/~/mean_ema/average", "trunk.norm.running_mean"),
        ("state/Trunk/norm/~/var_ema/average", "trunk.norm.running_var"),
    ],
)
def test_paths_become_names_of_modules(path: str, name: str) -> None:
    assert renamed(path, TRUNK) == name


def test_an_unknown_path_keeps_a_part_of_it() -> None:
    assert renamed("params/Trunk/~_crop/w", TRUNK) == "trunk.~_crop.weight"


def test_names_that_are_not_haikus_stay() -> None:
    assert renamed("esm.layer_norm/offset", TRUNK) == "esm.layer_norm/offset"
    tensor = torch.arange(6.0).reshape(2, 3)
    assert arranged("esm.dense/w", tensor) is tensor


def test_only_averages_of_a_norms_state_are_used() -> None:
    state = "state/Trunk/norm/~/mean_ema"
    assert [bool(re.search(UNUSED, f"{state}/{name}")) for name in ("hidden", "counter", "average")] == [
        True,
        True,
        False,
    ]


def test_a_linear_layer_multiplies_from_the_left() -> None:
    weight, states = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)), torch.eye(3)
    found = functional.linear(states, arranged("params/Trunk/linear/w", weight))
    torch.testing.assert_close(found, states @ weight)


def by_steps(states: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Convolve (steps, inputs) with taps of shape (width, inputs, outputs) as Haiku does, with zeros beside."""
    width, steps = len(weight), len(states)
    found = torch.zeros(steps, weight.shape[2])
    for step in range(steps):
        for tap in range(width):
            if 0 <= (read := step + tap - width // 2) < steps:
                found[step] += states[read] @ weight[tap]
    return found


@pytest.mark.parametrize("kind", ["conv1_d", "conv_transpose0"])
def test_convolutions_equal_those_of_haiku(kind: str) -> None:
    """Haiku's transposed convolution of stride 1 does not mirror its weights, and lists outputs before inputs."""
    generator = torch.Generator().manual_seed(0)
    weight, states = torch.randn(3, 2, 4, generator=generator), torch.randn(7, 2, generator=generator)
    transposed = kind == "conv_transpose0"
    stored = weight.transpose(1, 2) if transposed else weight
    convolve = functional.conv_transpose1d if transposed else functional.conv1d
    found = convolve(states.T[None], arranged(f"params/Trunk/~/{kind}/w", stored), padding=1)[0].T
    torch.testing.assert_close(found, by_steps(states, weight))


def test_a_depthwise_convolution_keeps_its_channels_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, states = torch.randn(3, 1, 4, generator=generator), torch.randn(7, 4, generator=generator)
    kernel = arranged("params/Trunk/depthwise_conv1_d/w", weight)
    found = functional.conv1d(states.T[None], kernel, padding=1, groups=4)[0].T
    expected = torch.cat([by_steps(states[:, [c]], weight[:, :, [c]]) for c in range(4)], dim=1)
    torch.testing.assert_close(found, expected)


def test_vectors_lose_axes_of_one_and_biases_of_attention_keep_them() -> None:
    scale, bias = torch.arange(3.0).reshape(1, 3, 1), torch.arange(6.0).reshape(1, 2, 1, 3)
    assert arranged("params/Trunk/batch_norm/scale", scale).tolist() == [0, 1, 2]
    assert arranged("params/Trunk/attention/rel_pos_bias", bias).shape == (1, 2, 1, 3)
