"""Norms and convolutions over bases, and the widths of the towers that are built of them."""

import pytest
import torch
from dnalm.models.convolution_blocks import BatchNorm, ConvolutionBlock, divisor_of, one_hot, stepwise_widths
from torch.nn import functional

ENFORMER = [768, 896, 1_024, 1_152, 1_280, 1_536]
BORZOI = [608, 736, 896, 1_056, 1_280, 1_536]


def batch_norm(channels: int, epsilon: float) -> BatchNorm:
    """Return a norm with random statistics and weights."""
    generator = torch.Generator().manual_seed(0)
    norm = BatchNorm(channels, epsilon)
    with torch.no_grad():
        for tensor in (norm.weight, norm.bias, norm.running_mean):
            tensor.copy_(torch.randn(channels, generator=generator))
        norm.running_var.copy_(torch.rand(channels, generator=generator) + 0.1)
    return norm


def test_bases_become_channels_in_the_order_acgt_and_n_none() -> None:
    assert one_hot(["ACGTN", "TTNAC"]).tolist() == [
        [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0]],
        [[0, 0, 0, 1, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0], [1, 1, 0, 0, 0]],
    ]


def test_batch_norm_equals_that_of_torch_in_evaluation() -> None:
    norm = batch_norm(5, 0.02)
    states = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(1))
    expected = functional.batch_norm(
        states, norm.running_mean, norm.running_var, norm.weight, norm.bias, training=False, eps=0.02
    )
    torch.testing.assert_close(norm(states), expected, rtol=1e-5, atol=1e-6)


def test_batch_norm_uses_float32_statistics_for_bfloat16_states() -> None:
    """Of a large mean in bfloat16 (8 bits), 1001 − 1000 would be 0 or 4."""
    norm = BatchNorm(1, 0.0)
    norm.running_mean.fill_(1_001.0)
    norm.bias.data.fill_(1_000.0)
    found = norm(torch.tensor([[[8.0]]], dtype=torch.bfloat16))
    assert found.dtype == torch.bfloat16
    assert found.item() == 7.0


def test_a_block_is_norm_then_activation_then_convolution() -> None:
    block = ConvolutionBlock(1, 1, 3, 0.0, functional.relu)
    block.norm.running_mean.fill_(1.0)
    with torch.no_grad():
        block.convolution.weight.copy_(torch.tensor([[[1.0, 10.0, 100.0]]]))
        block.convolution.bias.fill_(0.5)  # type: ignore[union-attr]
    # Minus the mean: −2, 1, 2; activated: 0, 1, 2.
    assert block(torch.tensor([[[-1.0, 2.0, 3.0]]])).tolist() == [[[100.5, 210.5, 21.5]]]


def test_the_papers_trunks_have_the_papers_sizes() -> None:
    assert stepwise_widths(768, 1_536, 6, 128) == ENFORMER
    assert stepwise_widths(608, 1_536, 6, 32) == BORZOI


def test_a_tower_of_two_steps_has_its_ends_and_one_of_one_step_its_beginning() -> None:
    assert stepwise_widths(8, 16, 2, 4) == [8, 16]
    assert stepwise_widths(8, 16, 1, 4) == [8]


@pytest.mark.parametrize(("widths", "divisor"), [(ENFORMER, 128), (BORZOI, 32), ([12, 24], 12)])
def test_the_largest_divisor_of_a_tower_follows_from_its_widths(widths: list[int], divisor: int) -> None:
    assert divisor_of(widths[0], widths) == divisor


def test_widths_that_no_divisor_gives_are_refused() -> None:
    with pytest.raises(KeyError, match="widths of the tower"):
        divisor_of(768, [768, 1_000, 1_001, 1_536])
