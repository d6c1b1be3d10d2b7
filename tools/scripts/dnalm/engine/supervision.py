"""Learning from labels: batches of whole sequences, however many windows each has, and what is lost on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from dnalm.engine.inference import Piece, pad
from dnalm.engine.objectives import Losses
from dnalm.engine.training_data import GROUPED_BATCHES, Batch
from dnalm.models.head_config import Task
from dnalm.models.heads import PooledClassifier
from dnalm.models.language_model import Logits


@dataclass(frozen=True)
class Labelled:
    """Sequences as a model reads them, with what is true of them.

    Attributes:
        pieces: the windows of each sequence.
        targets: a class each, shape (sequences,), int64; or one row each, shape (sequences, labels), float32.
        weights: how much each counts in the loss; shape (sequences,).
    """

    pieces: list[list[Piece]]
    targets: NDArray[Any]
    weights: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.pieces)


class LabelledBatches:
    """Batches of sequences of like lengths, in an order that the seed and the epoch decide.

    Args:
        sequences: with their targets.
        size: sequences a batch.
        pad_id: fills batches; its tokens are masked.
        seed: of every order; None keeps the sequences in the order of their lengths, as validation does.
    """

    def __init__(self, sequences: Labelled, size: int, pad_id: int, seed: int | None) -> None:
        self._sequences, self._size, self._pad_id, self._seed = sequences, size, pad_id, seed
        self._lengths = np.array([sum(map(len, pieces)) for pieces in sequences.pieces], dtype=np.int64)
        self._batches: list[list[int]] = []
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Put the batches of an epoch together; their number is the same in every one."""
        if self._seed is None:
            order = np.argsort(self._lengths, kind="stable")
        else:
            generator = np.random.default_rng((self._seed, 3, epoch))
            order = generator.permutation(len(self._lengths))
            stretch = GROUPED_BATCHES * self._size
            parts = [order[first : first + stretch] for first in range(0, len(order), stretch)]
            order = np.concatenate([part[np.argsort(self._lengths[part], kind="stable")] for part in parts])
        batches = [order[first : first + self._size].tolist() for first in range(0, len(order), self._size)]
        if self._seed is not None:
            batches = [batches[number] for number in generator.permutation(len(batches))]
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    @property
    def tokens(self) -> int:
        """Tokens of an epoch, padding apart."""
        return int(self._lengths.sum())

    def __getitem__(self, number: int) -> Batch:
        chosen = self._batches[number]
        rows = [piece for index in chosen for piece in self._sequences.pieces[index]]
        counts = [len(self._sequences.pieces[index]) for index in chosen]
        input_ids, attention_mask, weights = pad(rows, self._pad_id)
        batch = {
            "input_ids": input_ids,
            "weights": weights,
            "owners": torch.repeat_interleave(torch.arange(len(chosen)), torch.tensor(counts)),
            "targets": torch.from_numpy(self._sequences.targets[chosen]),
            "counts": torch.from_numpy(self._sequences.weights[chosen]),
            "tokens": torch.tensor(sum(map(len, rows))),
        }
        # Without padding no mask is needed, and attention is quicker without.
        return batch if bool(attention_mask.all()) else batch | {"attention_mask": attention_mask}


class WindowedClassifier(nn.Module):
    """A pooled classifier that reads sequences of several windows: the mean is over the tokens of all of them."""

    def __init__(self, classifier: PooledClassifier) -> None:
        super().__init__()
        self.pooled = classifier

    def forward(
        self, input_ids: Tensor, weights: Tensor, owners: Tensor, attention_mask: Tensor | None = None
    ) -> Logits:
        """Return logits of shape (sequences, labels).

        Args:
            input_ids: shape (windows, tokens).
            weights: how much each token counts, same shape.
            owners: number of the sequence that each window is of, from 0 on; shape (windows,).
            attention_mask: 1 for a token, 0 for padding, same shape as input_ids; None where nothing is padded.
        """
        states = self.pooled.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state.float()
        sums = (states.masked_fill(weights.unsqueeze(-1) == 0, 0.0) * weights.unsqueeze(-1)).sum(dim=1)
        totals = weights.sum(dim=1, keepdim=True)
        count = int(owners[-1]) + 1
        if count < len(owners):
            sums, totals = (
                values.new_zeros(count, values.shape[1]).index_add(0, owners, values) for values in (sums, totals)
            )
        return Logits(self.pooled.classifier(sums / totals))


class Supervision:
    """Give each sequence its label: cross-entropy, of several labels or of one, or squared error of standardised values.

    The sums are the weighted losses, the weights, and what the measure needs: of labels those called rightly and all; of
    quantities the squared errors, the values, their squares, and their number.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self.headline = ("r2", "R²") if task == "regress" else ("accuracy", "of labels right")
        self.quantities = 6 if task == "regress" else 4

    def losses(self, model: nn.Module, batch: Batch) -> Losses:
        """Return the weighted loss of each sequence added up."""
        given = {name: batch[name] for name in ("input_ids", "weights", "owners", "attention_mask") if name in batch}
        logits = model(**given).logits.float()
        targets, counts = batch["targets"], batch["counts"]
        if self._task == "classify":
            each = functional.cross_entropy(logits, targets, reduction="none")
        elif self._task == "multilabel":
            each = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(dim=1)
        else:
            each = (logits - targets).square().mean(dim=1)
        total = (each * counts).sum()
        with torch.no_grad():
            sums = [total.double(), counts.double().sum(), *self._of_measure(logits, targets)]
        return Losses(total, torch.stack([value.double() for value in sums]))

    def _of_measure(self, logits: Tensor, targets: Tensor) -> list[Tensor]:
        if self._task == "regress":
            values = targets.double()
            number = torch.tensor(float(values.numel()), device=values.device)
            return [(logits - targets).double().square().sum(), values.sum(), values.square().sum(), number]
        right = logits.argmax(dim=1) == targets if self._task == "classify" else (logits > 0) == (targets > 0)
        return [right.sum(), torch.tensor(float(right.numel()), device=right.device)]

    def weight(self, batch: Batch) -> Tensor:
        """Return the weights of the sequences added up."""
        return batch["counts"].sum()

    def measures(self, sums: Sequence[float]) -> dict[str, float]:
        """Return the mean loss, and the share of labels called rightly or the variance that is explained."""
        losses, weights, *rest = sums
        loss = losses / weights if weights else float("nan")
        if self._task != "regress":
            right, number = rest
            return {"loss": loss, "accuracy": right / number if number else float("nan")}
        errors, values, squares, number = rest
        spread = squares - values**2 / number if number else 0.0
        return {"loss": loss, "r2": 1 - errors / spread if spread > 0 else float("nan")}
