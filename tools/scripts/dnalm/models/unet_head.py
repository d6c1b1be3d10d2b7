"""The segmentation head: a one-dimensional U-Net over hidden states and two classes a base and feature.

de Almeida et al. 2025, doi:10.1038/s41592-025-02881-2; U-Net: Ronneberger et al. 2015, arXiv:1505.04597. The module tree is
SegmentNT's own names; SegmentEnformer and SegmentBorzoi have the same head on other trunks.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

RAREST = 1e-4  # probability that a base starts out with
CLASSES = 2  # outside and inside a segment
LEVELS = 2
STEPS_A_WINDOW = 2**LEVELS  # a number of hidden states that is no multiple of it cannot be halved so often
PREFIXES = ("unet.", "fc.")
# Of the paper's models of the human genome, in their order; every SegmentNT lists its own.
PUBLISHED_FEATURES = (
    "protein_coding_gene",
    "lncRNA",
    "exon",
    "intron",
    "splice_donor",
    "splice_acceptor",
    "5UTR",
    "3UTR",
    "CTCF-bound",
    "polyA_signal",
    "enhancer_Tissue_specific",
    "enhancer_Tissue_invariant",
    "promoter_Tissue_specific",
    "promoter_Tissue_invariant",
)


class SegmentationHead(nn.Module):
    """From one hidden state a step of some bases to two logits a base and feature.

    Args:
        inputs: width of the hidden states.
        width: channels of the U-Net's first level.
        bases: bases a step.
        features: how many features are predicted.
    """

    def __init__(self, inputs: int, width: int, bases: int, features: int) -> None:
        super().__init__()
        self.bases, self.features = bases, features
        self.unet = UNet(inputs, width)
        self.fc = nn.Linear(width, bases * features * CLASSES)

    def forward(self, states: Tensor) -> Tensor:
        """From (batch, steps, inputs) to logits of shape (batch, steps · bases, features, 2)."""
        seen = functional.silu(self.unet(states.transpose(1, 2)))
        logits: Tensor = self.fc(seen.transpose(1, 2))
        return logits.reshape(len(states), -1, self.features, CLASSES)


class UNet(nn.Module):
    """Two halvings and two doublings; each doubling is added to what went into the halving of its level."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(LEVELS)]
        down = zip([inputs, *widths[:-1]], widths, strict=True)
        up = zip([widths[-1], *reversed(widths[1:])], reversed(widths), strict=True)
        self._downsample_blocks = nn.ModuleList(Convolutions(nn.Conv1d, *shape) for shape in down)
        self._upsample_blocks = nn.ModuleList(Convolutions(nn.ConvTranspose1d, *shape) for shape in up)
        self.final_block = Convolutions(nn.Conv1d, width, width, active_end=False)

    def forward(self, states: Tensor) -> Tensor:
        """From (batch, inputs, steps) to (batch, width, steps)."""
        skipped = []
        for block in self._downsample_blocks:
            states = block(states)
            skipped.append(states)
            states = functional.avg_pool1d(states, kernel_size=2)
        for block in self._upsample_blocks:
            doubled = functional.interpolate(block(states), scale_factor=2.0, mode="nearest")
            states = doubled + skipped.pop()
        final: Tensor = self.final_block(states)
        return final


class Convolutions(nn.Module):
    """Two convolutions over three steps, each followed by SiLU, the last where `active_end`."""

    def __init__(self, kind: Callable[..., nn.Module], inputs: int, outputs: int, *, active_end: bool = True) -> None:
        super().__init__()
        self.active_end = active_end
        self.conv_layers = nn.ModuleList(
            kind(channels, outputs, kernel_size=3, padding=1) for channels in (inputs, outputs)
        )

    def forward(self, states: Tensor) -> Tensor:
        """From (batch, inputs, steps) to (batch, outputs, steps)."""
        first, second = self.conv_layers
        states = second(functional.silu(first(states)))
        return functional.silu(states) if self.active_end else states


def initialise_head(head: SegmentationHead, frequencies: Sequence[float]) -> None:
    """Draw new weights as He et al. 2015 (arXiv:1502.01852) do; a base starts out with the frequency of each feature.

    That is the bias of the last layer (Lin et al. 2017, arXiv:1708.02002, 4.1): otherwise the many bases outside of rare
    segments rule the first steps.

    Args:
        head: of any weights.
        frequencies: the share of all bases that lies in each feature.
    """
    for module in head.modules():
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    with torch.no_grad():
        nn.init.normal_(head.fc.weight, std=0.01)
        bias = head.fc.bias.view(head.bases, head.features, CLASSES)
        bias[..., 1] = torch.logit(torch.tensor(frequencies, dtype=torch.float32), eps=RAREST)
