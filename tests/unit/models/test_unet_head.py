"""The segmentation head: its U-Net against loops, the order of its logits, and where it starts out."""

import math

import numpy as np
import pytest
import torch
from dnalm.models.unet_head import SegmentationHead, UNet, initialise_head
from torch import nn

Array = np.ndarray


def convolved(layer: nn.Module, states: Array) -> Array:
    """Return a convolution over three steps of (inputs, steps), step by step; a transposed one scatters."""
    assert isinstance(layer, nn.Conv1d | nn.ConvTranspose1d)
    assert layer.bias is not None
    weight, steps = layer.weight.detach().numpy(), states.shape[1]
    found = np.repeat(layer.bias.detach().numpy()[:, None], steps, axis=1)
    for step in range(steps):
        for tap in (-1, 0, 1):
            if isinstance(layer, nn.Conv1d) and 0 <= step + tap < steps:
                found[:, step] += weight[:, :, tap + 1] @ states[:, step + tap]
            if isinstance(layer, nn.ConvTranspose1d) and 0 <= step + tap < steps:
                found[:, step + tap] += weight[:, :, tap + 1].T @ states[:, step]
    return found


def silu(states: Array) -> Array:
    return states / (1 + np.exp(-states))


def slow_unet(unet: UNet, states: Array) -> Array:
    """Return what a U-Net of two levels gives of (inputs, steps)."""

    def block(convolutions: nn.Module, states: Array) -> Array:
        first, second = convolutions.get_submodule("conv_layers").children()
        return convolved(second, silu(convolved(first, states)))

    down, up = list(unet._downsample_blocks), list(unet._upsample_blocks)
    high = silu(block(down[0], states))
    low = silu(block(down[1], (high[:, ::2] + high[:, 1::2]) / 2))
    lowest = (low[:, ::2] + low[:, 1::2]) / 2
    low = low + np.repeat(silu(block(up[0], lowest)), 2, axis=1)
    high = high + np.repeat(silu(block(up[1], low)), 2, axis=1)
    return block(unet.final_block, high)


def test_the_unet_equals_its_definition_step_by_step() -> None:
    torch.manual_seed(0)
    unet = UNet(2, 3)
    states = torch.randn(2, 2, 8)
    with torch.inference_mode():
        found = unet(states).numpy()
    assert found.shape == (2, 3, 8)
    for one, expected in zip(found, states.numpy(), strict=True):
        np.testing.assert_allclose(one, slow_unet(unet, expected), rtol=1e-5, atol=1e-6)


def test_logits_are_ordered_by_step_base_feature_and_class() -> None:
    head = SegmentationHead(inputs=2, width=3, bases=2, features=3)
    with torch.no_grad():
        head.fc.weight.zero_()
        head.fc.bias.copy_(torch.arange(12))
        logits = head(torch.zeros(1, 4, 2))
    assert logits.shape == (1, 8, 3, 2)
    assert logits[0, 0].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert logits[0, 7].tolist() == [[6, 7], [8, 9], [10, 11]]


def test_a_fresh_head_starts_out_with_the_frequencies() -> None:
    torch.manual_seed(0)
    head = SegmentationHead(inputs=8, width=8, bases=3, features=3)
    initialise_head(head, [0.2, 0.0, 1.0])
    with torch.inference_mode():
        probabilities = head(torch.zeros(1, 4, 8)).softmax(dim=-1)[..., 1]
    # Biases elsewhere are 0, so that zeros give the last bias alone; no probability begins at 0 or 1.
    expected = torch.tensor([0.2, 1e-4, 1 - 1e-4]).expand(1, 12, 3)
    torch.testing.assert_close(probabilities, expected, rtol=1e-4, atol=0)


def test_fresh_convolutions_have_the_deviation_of_he_et_al() -> None:
    torch.manual_seed(0)
    head = SegmentationHead(inputs=64, width=64, bases=6, features=5)
    initialise_head(head, [0.5] * 5)
    first = head.unet._downsample_blocks[0].get_submodule("conv_layers.0")
    assert isinstance(first, nn.Conv1d)
    assert first.weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 3)), rel=0.05)
    assert head.fc.weight.std().item() == pytest.approx(0.01, rel=0.05)
