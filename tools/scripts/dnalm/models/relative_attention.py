"""The transformer layers of Enformer and Borzoi: attention that knows how far apart two positions are.

Avsec et al. 2021, doi:10.1038/s41592-021-01252-x, methods; relative positions: Dai et al. 2019, arXiv:1901.02860.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class TransformerSizes:
    """The shapes of the layers: widths, counts, and what layer norms add to a variance."""

    hidden: int
    heads: int
    key: int
    position_features: int
    epsilon: float


class TransformerLayer(nn.Module):
    """Attention and feed-forward, each behind its norm and added to what came in."""

    def __init__(self, sizes: TransformerSizes) -> None:
        super().__init__()
        self.attention = RelativeAttention(sizes)
        self.feed_forward = FeedForward(sizes)

    def forward(self, states: Tensor, positions: Tensor) -> Tensor:
        """States go in and come out in shape (batch, positions, hidden); features of the distances are given."""
        states = states + self.attention(states, positions)
        behind: Tensor = states + self.feed_forward(states)
        return behind


class RelativeAttention(nn.Module):
    """A norm, and attention by content and by distance: softmax((q + u)·k + (q + v)·r), q divided by √d before."""

    def __init__(self, sizes: TransformerSizes) -> None:
        super().__init__()
        self.heads, self.key_width = sizes.heads, sizes.key
        keys = sizes.heads * sizes.key
        self.norm = nn.LayerNorm(sizes.hidden, eps=sizes.epsilon)
        self.query = nn.Linear(sizes.hidden, keys, bias=False)
        self.key = nn.Linear(sizes.hidden, keys, bias=False)
        self.value = nn.Linear(sizes.hidden, sizes.hidden, bias=False)
        self.relative_key = nn.Linear(sizes.position_features, keys, bias=False)
        self.content_bias = nn.Parameter(torch.zeros(1, sizes.heads, 1, sizes.key))
        self.position_bias = nn.Parameter(torch.zeros(1, sizes.heads, 1, sizes.key))
        self.output = nn.Linear(sizes.hidden, sizes.hidden)

    def forward(self, states: Tensor, positions: Tensor) -> Tensor:
        """From (batch, positions, hidden) and features of distances, shape (2 · positions − 1, features), to the first."""
        states = self.norm(states)
        query = self._split(self.query(states)) * self.key_width**-0.5
        distances = self._split(self.relative_key(positions.to(states.dtype))[None])
        by_distance = (query + self.position_bias) @ distances.transpose(-1, -2)
        gathered = functional.scaled_dot_product_attention(
            query + self.content_bias,
            self._split(self.key(states)),
            self._split(self.value(states)),
            attn_mask=of_pairs(by_distance),
            scale=1.0,
        )
        projected: Tensor = self.output(gathered.transpose(1, 2).flatten(2))
        return projected

    def _split(self, states: Tensor) -> Tensor:
        """From (batch, positions, heads · width) to (batch, heads, positions, width)."""
        return states.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class FeedForward(nn.Module):
    """A norm, twice the width, and back."""

    def __init__(self, sizes: TransformerSizes) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(sizes.hidden, eps=sizes.epsilon)
        self.expand = nn.Linear(sizes.hidden, 2 * sizes.hidden)
        self.contract = nn.Linear(2 * sizes.hidden, sizes.hidden)

    def forward(self, states: Tensor) -> Tensor:
        """States go in and come out in shape (batch, positions, hidden)."""
        contracted: Tensor = self.contract(functional.relu(self.expand(self.norm(states))))
        return contracted


def of_pairs(by_distance: Tensor) -> Tensor:
    """Return what each query gives to each key, from what it gives to each distance.

    Args:
        by_distance: shape (…, n, 2n − 1), the distance key − query from −(n − 1) to n − 1.

    Returns:
        Shape (…, n, n): entry (i, j) is that of i and the distance j − i. Rows of the same memory, each moved by one.
    """
    count = by_distance.shape[-2]
    flat = by_distance.contiguous()
    strides = list(flat.stride())
    strides[-2] -= 1
    return flat.as_strided((*flat.shape[:-1], count), strides, flat.storage_offset() + count - 1)


def distances(count: int, device: torch.device) -> Tensor:
    """Return −(count − 1) … count − 1 as float32."""
    return torch.arange(1 - count, count, device=device, dtype=torch.float32)


def with_signs(features: Tensor, count: int) -> Tensor:
    """Return features of distances' sizes, shape (2 · count − 1, f), and behind them the same times the distance's sign."""
    return torch.cat([features, distances(count, features.device).sign()[:, None] * features], dim=-1)


def exponential_features(count: int, width: int, device: torch.device) -> Tensor:
    """Return exp(−ln 2 · |distance| / half-life), half-lives from 2³ to `count` positions evenly in their logarithms."""
    half_lives = 2 ** torch.linspace(3.0, math.log2(count), width, device=device)
    return torch.exp(-math.log(2.0) / half_lives * distances(count, device).abs()[:, None])


def central_mask_features(count: int, width: int, device: torch.device, rate: float = 2.0) -> Tensor:
    """Return whether |distance| is below rate¹ − 1, rate² − 1 and so on."""
    widths = torch.tensor(rate, device=device) ** torch.arange(1, width + 1, device=device, dtype=torch.float32) - 1
    return (widths > distances(count, device).abs()[:, None]).float()


def gamma_features(count: int, width: int, device: torch.device) -> Tensor:
    """Return gamma densities at |distance|, means from count / width to count, each row over its largest value."""
    deviation = count / (2 * width)
    means = torch.linspace(count / width, count, width, device=device)
    shape, rate = (means / deviation) ** 2, means / deviation**2
    size = distances(count, device).abs()[:, None]
    density = torch.exp(torch.xlogy(shape - 1, size) - rate * size - torch.lgamma(shape) + shape * torch.log(rate))
    density = density + 1e-8
    return density / density.amax(dim=-1, keepdim=True)
