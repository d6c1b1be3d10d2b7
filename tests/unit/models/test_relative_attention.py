"""Attention by content and distance against loops, and the features of distances against their definitions."""

import numpy as np
import pytest
import torch
from dnalm.models.relative_attention import (
    FeedForward,
    RelativeAttention,
    TransformerLayer,
    TransformerSizes,
    central_mask_features,
    distances,
    exponential_features,
    gamma_features,
    of_pairs,
    with_signs,
)
from scipy.stats import gamma
from torch import Tensor, nn
from torch.nn import functional

CPU = torch.device("cpu")
SIZES = TransformerSizes(hidden=6, heads=2, key=4, position_features=3, epsilon=1e-3)


def randomised(module: nn.Module) -> nn.Module:
    """Return a module with every weight random, zeros and ones of fresh biases and norms too."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return module.requires_grad_(False)


def random_states(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("layout", ["whole", "transposed", "part"])
def test_pairs_have_the_value_of_their_distance(layout: str) -> None:
    count = 4
    by_distance = random_states(2, 3, count, 2 * count - 1)
    if layout == "transposed":
        by_distance = random_states(2, 3, 2 * count - 1, count).transpose(-1, -2)
    elif layout == "part":
        by_distance = random_states(3, 3, count, 2 * count - 1)[1:]
    found = of_pairs(by_distance)
    assert found.shape == (*by_distance.shape[:2], count, count)
    for query in range(count):
        for key in range(count):
            assert torch.equal(found[..., query, key], by_distance[..., query, key - query + count - 1])


def test_distances_run_from_one_end_to_the_other() -> None:
    assert distances(3, CPU).tolist() == [-2, -1, 0, 1, 2]


def test_signed_features_distinguish_the_directions() -> None:
    sizes = torch.tensor([[7.0], [5.0], [3.0], [5.0], [7.0]])
    assert with_signs(sizes, 3).tolist() == [[7, -7], [5, -5], [3, 0], [5, 5], [7, 7]]


def test_exponential_features_halve_at_their_half_lives() -> None:
    found = exponential_features(32, 3, CPU)  # half-lives 8, 16 and 32
    assert found.shape == (63, 3)
    middle = 31
    torch.testing.assert_close(found[middle], torch.ones(3))
    torch.testing.assert_close(found[middle + 8], torch.tensor([0.5, 0.5**0.5, 0.5**0.25]))
    torch.testing.assert_close(found[middle - 16], torch.tensor([0.25, 0.5, 0.5**0.5]))


def test_central_masks_cover_distances_below_powers_less_one() -> None:
    found = central_mask_features(5, 3, CPU)  # below 1, 3 and 7
    assert found[4:].tolist() == [[1, 1, 1], [0, 1, 1], [0, 1, 1], [0, 0, 1], [0, 0, 1]]
    assert torch.equal(found, found.flip(0))
    assert central_mask_features(5, 2, CPU, rate=1.5)[4:].tolist() == [[1, 1], [0, 1], [0, 0], [0, 0], [0, 0]]


def test_gamma_features_are_densities_over_the_largest_of_their_distance() -> None:
    count, width = 20, 4
    sizes = np.abs(np.arange(1 - count, count))[:, None]
    means, deviation = np.array([5.0, 10.0, 15.0, 20.0]), 2.5
    expected = gamma.pdf(sizes, (means / deviation) ** 2, scale=deviation**2 / means) + 1e-8
    expected /= expected.max(axis=1, keepdims=True)
    np.testing.assert_allclose(gamma_features(count, width, CPU).numpy(), expected, rtol=1e-3, atol=1e-6)


def slow_attention(layer: RelativeAttention, states: Tensor, positions: Tensor) -> Tensor:
    """Return attention over (positions, hidden), head by head and pair by pair."""
    normed = functional.layer_norm(states, (6,), layer.norm.weight, layer.norm.bias, SIZES.epsilon)
    gathered = torch.zeros(len(states), 6)
    for head in range(SIZES.heads):
        keys, values = slice(4 * head, 4 * head + 4), slice(3 * head, 3 * head + 3)
        content, position = layer.content_bias[0, head, 0], layer.position_bias[0, head, 0]
        for query in range(len(states)):
            q = (layer.query.weight[keys] @ normed[query]) / 2  # √4
            scores = []
            for key in range(len(states)):
                r = layer.relative_key.weight[keys] @ positions[key - query + len(states) - 1]
                scores.append((q + content) @ (layer.key.weight[keys] @ normed[key]) + (q + position) @ r)
            weights = torch.stack(scores).softmax(dim=0)
            gathered[query, values] = weights @ (normed @ layer.value.weight[values].T)
    return gathered @ layer.output.weight.T + layer.output.bias


def test_attention_equals_its_definition_pair_by_pair() -> None:
    layer = randomised(RelativeAttention(SIZES))
    assert isinstance(layer, RelativeAttention)
    states, positions = random_states(2, 5, 6), random_states(9, 3)
    found = layer(states, positions)
    for row in range(2):
        expected = slow_attention(layer, states[row], positions)
        torch.testing.assert_close(found[row], expected, rtol=1e-4, atol=1e-4)


def test_feed_forward_is_norm_expansion_relu_and_contraction() -> None:
    layer = randomised(FeedForward(SIZES))
    assert isinstance(layer, FeedForward)
    assert layer.expand.weight.shape == (12, 6)
    states = random_states(1, 5, 6)
    normed = (states - states.mean(-1, keepdim=True)) / (states.var(-1, keepdim=True, correction=0) + 1e-3).sqrt()
    normed = normed * layer.norm.weight + layer.norm.bias
    wide = (normed @ layer.expand.weight.T + layer.expand.bias).clamp(min=0)
    expected = wide @ layer.contract.weight.T + layer.contract.bias
    torch.testing.assert_close(layer(states), expected, rtol=1e-4, atol=1e-4)


def test_a_layer_adds_attention_and_then_feed_forward() -> None:
    layer = randomised(TransformerLayer(SIZES))
    assert isinstance(layer, TransformerLayer)
    states, positions = random_states(1, 5, 6), random_states(9, 3)
    between = states + layer.attention(states, positions)
    torch.testing.assert_close(layer(states, positions), between + layer.feed_forward(between))
