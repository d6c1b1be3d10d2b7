"""What the trunks of Enformer and Borzoi are built of before their transformers: norms and convolutions over bases."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

BASES = "ACGT"  # the order of the channels; every other letter is 0 in all of them
Activation = Callable[[Tensor], Tensor]


def one_hot(sequences: Sequence[str]) -> Tensor:
    """Return sequences of equal length as float32 of shape (sequences, 4, bases)."""
    letters = np.frombuffer("".join(sequences).encode("ascii"), dtype=np.uint8).reshape(len(sequences), -1)
    encoded: NDArray[np.float32] = (letters[:, None, :] == CHANNELS[:, None]).astype(np.float32)
    return torch.from_numpy(encoded)


CHANNELS = np.frombuffer(BASES.encode("ascii"), dtype=np.uint8)


class BatchNorm(nn.Module):
    """Normalises channels by what training gathered of them (Ioffe and Szegedy 2015, arXiv:1502.03167)."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, states: Tensor) -> Tensor:
        """States go in and come out in shape (batch, channels, positions)."""
        scale = self.weight.float() * torch.rsqrt(self.running_var + self.epsilon)
        shift = self.bias.float() - self.running_mean * scale
        return states * scale[:, None].to(states.dtype) + shift[:, None].to(states.dtype)


class ConvolutionBlock(nn.Module):
    """Batch norm, an activation, and a convolution that keeps the number of positions."""

    def __init__(self, inputs: int, outputs: int, kernel: int, epsilon: float, activation: Activation) -> None:
        super().__init__()
        self.activation = activation
        self.norm = BatchNorm(inputs, epsilon)
        self.convolution = nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2)

    def forward(self, states: Tensor) -> Tensor:
        """From (batch, inputs, positions) to (batch, outputs, positions)."""
        convolved: Tensor = self.convolution(self.activation(self.norm(states)))
        return convolved


def stepwise_widths(first: int, last: int, steps: int, divisor: int) -> list[int]:
    """Return numbers of channels from first to last in equal ratios, each the nearest multiple of a divisor."""
    ratio = (last / first) ** (1 / (steps - 1)) if steps > 1 else 1.0
    return [round(first * ratio**step / divisor) * divisor for step in range(steps)]


def divisor_of(first: int, widths: list[int]) -> int:
    """Return the largest divisor with which `stepwise_widths` gives these; raise KeyError if there is none."""
    for divisor in range(first, 0, -1):
        if stepwise_widths(first, widths[-1], len(widths), divisor) == widths:
            return divisor
    raise KeyError("widths of the tower")
