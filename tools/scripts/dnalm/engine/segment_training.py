"""What the training of a segmenter reads and makes small: windows with their features, and what is lost on them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from dnalm.engine.objectives import Losses
from dnalm.engine.training_data import Batch
from dnalm.methods import weighted_statistics as weighted
from dnalm.methods.strands import reverse_complement

LossKind = Literal["focal", "weighted", "plain"]
GAMMA = 2.0  # of the focal loss
MOST_WEIGHT = 100.0  # of a base in a rare feature
BINS = 201  # of probabilities, for AUPRC while training


@dataclass(frozen=True)
class Sources:
    """Where windows come from.

    Attributes:
        bases: from a contig's number, first and past-the-end base to its letters, without N.
        labels: from the same to which features each base lies in, shape (bases, features).
        encode: from sequences of equal length to what the network reads.
    """

    bases: Callable[[int, int, int], str]
    labels: Callable[[int, int, int], NDArray[np.bool_]]
    encode: Callable[[Sequence[str]], Tensor]


class SegmentBatches(Dataset[Batch]):
    """Batches of windows of one length; the same for one seed and epoch.

    Args:
        places: contig and first base of each window, and how far its start may move in both directions; shape
            (windows, 4). In each epoch it moves by chance.
        window: bases.
        sources: of bases and labels.
        batch_size: windows.
        seed: of order, places and strands.
        both_strands: whether a window is turned to its reverse complement with a chance of one half.
        training: otherwise neither order, nor places, nor strands change.
    """

    def __init__(
        self,
        places: NDArray[np.int64],
        window: int,
        sources: Sources,
        batch_size: int,
        seed: int,
        *,
        both_strands: bool,
        training: bool,
    ) -> None:
        self._places, self._window, self._sources = places, window, sources
        self._batch_size, self._seed = batch_size, seed
        self._both_strands, self._training = both_strands, training
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Choose order, places and strands of an epoch."""
        count = len(self._places)
        self._order = np.arange(count)
        self._starts = self._places[:, 1]
        self._turned = np.zeros(count, dtype=np.bool_)
        if self._training:
            generator = np.random.default_rng((self._seed, epoch))
            self._order = generator.permutation(count)
            self._starts = self._starts + generator.integers(-self._places[:, 2], self._places[:, 3] + 1)
            self._turned = generator.random(count) < (0.5 if self._both_strands else 0)

    @property
    def tokens(self) -> int:
        """Bases of an epoch, to which the tokens are in proportion."""
        return len(self._places) * self._window

    def __len__(self) -> int:
        return math.ceil(len(self._places) / self._batch_size)

    def __getitem__(self, number: int) -> Batch:
        """Return `input_ids`, `labels` of shape (windows, bases, features), and the number of tokens."""
        sequences, labels = [], []
        for index in self._order[number * self._batch_size : (number + 1) * self._batch_size].tolist():
            contig, start = int(self._places[index, 0]), int(self._starts[index])
            bases = self._sources.bases(contig, start, start + self._window)
            inside = self._sources.labels(contig, start, start + self._window)
            turned = bool(self._turned[index])
            sequences.append(reverse_complement(bases) if turned else bases)
            labels.append(inside[::-1] if turned else inside)
        input_ids = self._sources.encode(sequences)
        return {
            "input_ids": input_ids,
            "labels": torch.from_numpy(np.stack(labels)),
            "tokens": torch.tensor(input_ids.numel()),
        }


class Segmentation:
    """Tell of each base and feature whether it lies inside.

    The losses are −log p of the truth; `focal`: times (1 − p)², so that what is known well counts little (Lin et al.
    2017, arXiv:1708.02002); `weighted`: those of bases inside of a feature times how many more lie outside of it, at most
    100.

    Args:
        kind: of the losses.
        frequencies: the share of all bases that lies in each feature.
    """

    headline = ("auprc", "mean AUPRC")

    def __init__(self, kind: LossKind, frequencies: Sequence[float]) -> None:
        self._kind = kind
        shares = torch.tensor(frequencies).clamp(min=1e-9)
        self._weights = ((1 - shares) / shares).clamp(min=1.0, max=MOST_WEIGHT)
        self._features = len(frequencies)
        self.quantities = 2 + self._features * 2 * BINS

    def losses(self, model: nn.Module, batch: Batch) -> Losses:
        """Return the sum of the losses; its sums are losses, how many, and bases by feature, probability and truth."""
        logits = model(batch["input_ids"]).float()
        inside = batch["labels"]
        evidence = logits[..., 1] - logits[..., 0]
        losses = functional.binary_cross_entropy_with_logits(evidence, inside.float(), reduction="none")
        if self._kind == "focal":
            losses = losses * (1 - torch.exp(-losses)) ** GAMMA
        elif self._kind == "weighted":
            losses = losses * torch.where(inside, self._weights.to(losses.device), 1.0)
        with torch.no_grad():
            bins = (evidence.sigmoid() * (BINS - 1)).round().long()
            columns = (torch.arange(self._features, device=bins.device) * BINS + bins) * 2 + inside.long()
            counts = torch.bincount(columns.flatten(), minlength=self._features * 2 * BINS)
            total = losses.double().sum()
            sums = torch.cat([torch.stack([total, torch.full_like(total, losses.numel())]), counts.double()])
        return Losses(losses.sum(), sums)

    def weight(self, batch: Batch) -> Tensor:
        """Return how many bases and features there are."""
        return torch.tensor(float(batch["labels"].numel()))

    def measures(self, sums: Sequence[float]) -> dict[str, float]:
        """Return the mean loss, and AUPRC and MCC as means over the features that some bases lie in and others not."""
        loss, count = sums[:2]
        counts = np.array(sums[2:]).reshape(self._features, BINS, 2)
        called = np.arange(BINS) >= (BINS - 1) / 2
        cells = np.stack([counts[:, side, truth].sum(axis=1) for truth in (0, 1) for side in (~called, called)], axis=1)
        scores, labels = np.repeat(np.arange(BINS) / (BINS - 1), 2), np.tile([0, 1], BINS)
        auprc = weighted.auprc(labels, scores, counts.reshape(self._features, -1))
        mcc = weighted.mcc(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), cells)
        return {"loss": loss / count if count else math.nan, "auprc": _mean(auprc), "mcc": _mean(mcc)}


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan
