"""Windows of tokens into batches: padded, grouped by length, or packed; the same for one seed and epoch."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from dnalm.methods.masking import hide

Batching = Literal["padded", "grouped", "packed"]
Batch = dict[str, Tensor]
# What the model sees, what it is to predict, with which weight, and worth how many bases; shape (tokens,) each.
Window = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]
GROUPED_BATCHES = 50  # so many batches are sorted by length together; more would order an epoch by length
UNMASKED_EPOCH = 2**31  # the number of the epoch that validation is masked with


@dataclass(frozen=True)
class TokenizedWindows:
    """Tokens of windows, one behind the other.

    Attributes:
        ids: token ids; shape (all tokens,).
        bases: bases that predicting a token is worth, 0 for special tokens and those with N; shape (all tokens,).
        weights: how much each counts in the loss; shape (all tokens,).
        offsets: first token of each window, and the end; shape (windows + 1,).
    """

    ids: NDArray[np.int32]
    bases: NDArray[np.uint16]
    weights: NDArray[np.float32]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each window; shape (windows,)."""
        return np.diff(self.offsets)


@dataclass(frozen=True)
class Masking:
    """What masked language modelling needs to know of the words: the mask, and those that stand for bases."""

    mask_id: int
    replacements: NDArray[np.int64]


@dataclass(frozen=True)
class BatchPlan:
    """How windows are put together: kind, windows a batch, tokens a packed row, and the seed of every order."""

    batching: Batching
    batch_size: int
    row_tokens: int
    seed: int


class TrainingBatches(Dataset[Batch]):
    """The batches of an epoch; another order, and other masks, in every epoch.

    Each batch has `input_ids` and `attention_mask`, and aligned with the logits `targets`, `weights` (0 where nothing is
    predicted) and `bases`; all of shape (rows, tokens). Packed rows have `position_ids`, and a mask of shape
    (rows, 1, tokens, tokens) that lets no window see another.

    Args:
        windows: what is trained on.
        plan: how it is put together.
        pad_id: fills rows.
        masking: None for causal models, which predict each next token.
        other_strands: the reverse complements of the windows, each taken instead with a chance of one half; or None.
        validation: one fixed order, one fixed mask, no other strands.
    """

    def __init__(
        self,
        windows: TokenizedWindows,
        plan: BatchPlan,
        pad_id: int,
        masking: Masking | None,
        other_strands: TokenizedWindows | None = None,
        validation: bool = False,
    ) -> None:
        self._windows, self._plan, self._pad_id, self._masking = windows, plan, pad_id, masking
        self._other_strands, self._validation = other_strands, validation
        self._lengths = windows.lengths
        if other_strands is not None:
            self._lengths = np.maximum(self._lengths, other_strands.lengths)
        self._rows = self._packed_rows() if plan.batching == "packed" else [[row] for row in range(len(windows))]
        self._rows_a_batch = plan.batch_size
        if plan.batching == "packed":
            self._rows_a_batch = max(1, round(plan.batch_size * self._lengths.mean() / plan.row_tokens))
        self._epoch = 0
        self._batches: list[list[int]] = []
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Put the batches of an epoch together; their number is the same in every one."""
        self._epoch = UNMASKED_EPOCH if self._validation else epoch
        generator = np.random.default_rng((self._plan.seed, self._epoch))
        size = self._rows_a_batch
        order = np.arange(len(self._rows)) if self._validation else generator.permutation(len(self._rows))
        if self._validation or self._plan.batching == "grouped":
            stretch = len(order) if self._validation else GROUPED_BATCHES * size
            parts = [order[first : first + stretch] for first in range(0, len(order), stretch)]
            row_lengths = np.array([self._lengths[row].sum() for row in self._rows])
            order = np.concatenate([part[np.argsort(row_lengths[part], kind="stable")] for part in parts])
        batches = [order[first : first + size].tolist() for first in range(0, len(order), size)]
        if not self._validation and self._plan.batching == "grouped":
            batches = [batches[number] for number in generator.permutation(len(batches))]
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    @property
    def masked(self) -> bool:
        """Whether hidden tokens are predicted rather than next ones."""
        return self._masking is not None

    @property
    def tokens(self) -> int:
        """Tokens of an epoch, padding apart."""
        return int(self._lengths.sum())

    def __getitem__(self, number: int) -> Batch:
        rows = [[self._window(index) for index in self._rows[row]] for row in self._batches[number]]
        return self._together(rows)

    def _window(self, index: int) -> Window:
        """Return what the model sees of a window, what it is to predict, with which weight, and worth how many bases."""
        generator = np.random.default_rng((self._plan.seed, self._epoch, index))
        source = self._windows
        if self._other_strands is not None and not self._validation and generator.random() < 0.5:
            source = self._other_strands
        part = slice(source.offsets[index], source.offsets[index + 1])
        ids, bases = source.ids[part].astype(np.int64), source.bases[part].astype(np.int64)
        weights = np.where(bases > 0, source.weights[part], np.float32(0))
        if self._masking is None:
            return ids, np.append(ids[1:], 0), np.append(weights[1:], np.float32(0)), np.append(bases[1:], 0)
        seen, chosen = hide(ids, bases > 0, self._masking.mask_id, self._masking.replacements, generator)
        return seen, ids, np.where(chosen, weights, np.float32(0)), np.where(chosen, bases, 0)

    def _together(self, rows: list[list[Window]]) -> Batch:
        lengths = [sum(len(window[0]) for window in row) for row in rows]
        shape = (len(rows), max(lengths))
        kinds = (np.int64, np.int64, np.float32, np.int64)
        filled = [np.zeros(shape, dtype=kind) for kind in kinds]
        filled[0] += self._pad_id
        mask = np.arange(shape[1]) < np.array(lengths)[:, None]
        segments, positions = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        for row, windows in enumerate(rows):
            start = 0
            for segment, window in enumerate(windows, start=1):
                end = start + len(window[0])
                for array, values in zip(filled, window, strict=True):
                    array[row, start:end] = values
                segments[row, start:end] = segment
                positions[row, start:end] = np.arange(end - start)
                start = end
        names = ("input_ids", "targets", "weights", "bases")
        batch = {name: torch.from_numpy(array) for name, array in zip(names, filled, strict=True)}
        batch["tokens"] = torch.tensor(sum(lengths))
        if self._plan.batching == "packed":
            same = segments[:, None, :, None] == segments[:, None, None, :]
            batch["attention_mask"] = torch.from_numpy(same & np.tri(shape[1], dtype=np.bool_))
            batch["position_ids"] = torch.from_numpy(positions)
        else:
            batch["attention_mask"] = torch.from_numpy(mask.astype(np.int64))
        return batch

    def _packed_rows(self) -> list[list[int]]:
        """Put windows into rows by first fit, longest first; the same rows in every epoch, so that their number is."""
        rows: list[list[int]] = []
        # Rows by the room they have left; a window goes where it leaves least.
        room: dict[int, list[int]] = {}
        for index in np.argsort(-self._lengths, kind="stable").tolist():
            length = int(self._lengths[index])
            fit = next((left for left in range(length, self._plan.row_tokens + 1) if room.get(left)), None)
            if fit is None:
                rows.append([index])
                left = self._plan.row_tokens - length
                row = len(rows) - 1
            else:
                row = room[fit].pop()
                rows[row].append(index)
                left = fit - length
            room.setdefault(left, []).append(row)
        return rows
