"""A loaded segmenter: bases in, one probability a base and feature out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dnalm.models.failures import running
from dnalm.models.model_file import StoredModel

Encode = Callable[[Sequence[str]], Tensor]


@dataclass(frozen=True)
class Window:
    """What a segmenter reads at once, in bases.

    Attributes:
        default: how many it was trained with.
        least, most: how many it can read.
        multiple: every number that it reads is a multiple of this.
        granularity: bases that one of its steps stands for; windows begin at multiples of it.
        central: bases in the middle of a window that it gives probabilities of; None for all.
    """

    default: int
    least: int
    most: int
    multiple: int
    granularity: int
    central: int | None = None

    def output(self, bases: int) -> tuple[int, int]:
        """Return the first and the past-the-end base, within a window of so many, of its probabilities."""
        if self.central is None:
            return 0, bases
        start = (bases - self.central) // 2
        return start, start + self.central


@dataclass
class Segmenter:
    """A model that says of every base how probably it lies in a segment of each feature.

    Attributes:
        stored: the model file or folder it was read from.
        architecture: its kind.
        network: from encoded sequences to logits, shape (batch, output bases, features, 2).
        features: names of what it predicts, in the order of the probabilities' last axis.
        window: how many bases it reads at once, and of which it gives probabilities.
        takes_n: whether a window may hold N; what lies beyond the ends of a contig is then read as N.
        encode: from sequences of equal length to what the network reads, on the CPU: token ids of shape (batch, tokens), or
            A, C, G and T of shape (batch, 4, bases), all 0 for N.
    """

    stored: StoredModel
    architecture: str
    network: nn.Module
    features: tuple[str, ...]
    window: Window
    takes_n: bool
    encode: Encode

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device

    def probabilities(self, sequences: Sequence[str]) -> Tensor:
        """Return the probabilities of sequences of equal length.

        Each sequence's are its own: they do not depend on the others.

        Args:
            sequences: of A, C, G and T, and N where the model takes it; upper case; of `window.least` to `window.most`
                bases, a multiple of `window.multiple`.

        Returns:
            Float32 on the model's device, shape (sequences, output bases, features); row i is base `window.output()[0]` + i.
        """
        encoded = self.encode(sequences).to(self.device)
        with running(self.stored.name):
            logits: Tensor = self.network(encoded)
        return logits.float().softmax(dim=-1)[..., 1]

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move the weights; buffers (rotary frequencies, what batch norms have gathered) keep their float32."""
        for parameter in self.network.parameters():
            parameter.data = parameter.data.to(device, dtype)
        self.network.to(device)
