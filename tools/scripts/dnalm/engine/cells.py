"""From cells to vectors: batches of cells of like length through a model of cells."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnalm.engine.devices import DTYPES, Machine
from dnalm.engine.inference import DeviceMemoryError, run_batches
from dnalm.methods.expression_bins import CellTokens
from dnalm.models.scgpt import CellModel

COMPARED = 16  # cells on which the deviation of a lower precision is measured


class CellEmbedder:
    """A model of cells on its device."""

    def __init__(self, model: CellModel, machine: Machine) -> None:
        self._model, self._machine = model, machine
        self._move(torch.float32)

    def _move(self, dtype: torch.dtype) -> None:
        try:
            self._model.to(self._machine.device, dtype)
        except torch.OutOfMemoryError:
            raise DeviceMemoryError(
                f"The model '{self._model.stored.name}' does not fit into the GPU; use a larger GPU, or the CPU."
            ) from None

    def embed(
        self, cells: Sequence[CellTokens], on_done: Callable[[int], None] = lambda count: None
    ) -> NDArray[np.float32]:
        """Return one vector of length 1 a cell, shape (cells, dimensions), in order.

        Args:
            cells: what the model reads of each.
            on_done: is told how many are finished.

        Raises:
            UserError: a cell does not fit into the GPU, or the model makes NaN of it.
        """

        def compute(batch: list[int]) -> list[Tensor]:
            return list(self._vectors([cells[index] for index in batch]))

        lengths = [len(cell) for cell in cells]
        found = run_batches(lengths, compute, self._machine, lambda indices: on_done(len(indices)), "cell")
        return np.stack(found)

    def _vectors(self, cells: Sequence[CellTokens]) -> Tensor:
        longest = max(map(len, cells))
        genes = np.full((len(cells), longest), self._model.pad_id, dtype=np.int64)
        values = np.full((len(cells), longest), self._model.no_value, dtype=np.float32)
        mask = np.zeros((len(cells), longest), dtype=np.bool_)
        for row, cell in enumerate(cells):
            genes[row, : len(cell)], values[row, : len(cell)], mask[row, : len(cell)] = cell.genes, cell.values, True
        device = self._machine.device
        vectors: Tensor = self._model.module(
            torch.from_numpy(genes).to(device),
            torch.from_numpy(values).to(device),
            # Without padding no mask is needed, and attention is quicker without.
            None if mask.all() else torch.from_numpy(mask).to(device),
        )
        return vectors

    def change_precision(self, dtype: str, cells: Sequence[CellTokens]) -> float:
        """Change to a lower precision; return the lowest cosine with float32 over the first cells."""
        exact = self.embed(cells[:COMPARED])
        self._move(DTYPES[dtype])
        return round(float((exact * self.embed(cells[:COMPARED])).sum(axis=1).min()), 6)
