"""Run a segmenter over the windows of many contigs: batched by length, each result with its window, in order."""

from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnalm.engine.devices import Machine
from dnalm.engine.inference import DeviceMemoryError
from dnalm.errors import UserError
from dnalm.methods.strands import reverse_complement
from dnalm.models.segmenter import Segmenter

BASES_A_TOKEN = 6  # of published segmenters: what a batch may hold is told in tokens
BUFFERED_BASES = 1 << 18  # of windows that are sorted by length together
BATCHES_A_BUFFER = 4
Place = TypeVar("Place")
Probabilities = NDArray[np.float32]  # shape (output bases, features)


@dataclass(frozen=True, slots=True)
class Read(Generic[Place]):
    """The bases of a window, and whatever tells where it belongs."""

    place: Place
    bases: str


class WindowRunner:
    """Probabilities of windows.

    Args:
        segmenter: on the machine's device.
        features: numbers of the features wanted.
        both_strands: whether to average with the reverse complement.
        machine: its device, and how much a batch may hold.
    """

    def __init__(self, segmenter: Segmenter, features: Sequence[int], both_strands: bool, machine: Machine) -> None:
        self._segmenter, self._both_strands = segmenter, both_strands
        self._features = torch.tensor(list(features), device=segmenter.device)
        self._all = list(features) == list(range(len(segmenter.features)))
        self._batch_bases = machine.batch_tokens * BASES_A_TOKEN
        self._ahead = machine.device.type == "cuda"

    def run(self, reads: Iterable[Read[Place]]) -> Iterator[tuple[Place, Probabilities]]:
        """Yield the probabilities of each window, in the order given.

        Raises:
            DeviceMemoryError: one window alone is too large for the GPU's memory.
            UserError: the model makes NaN or infinity of a window.
        """
        buffers = self._buffers(reads)
        results = (self._run(buffer) for buffer in buffers)
        for buffer, found in one_ahead(results) if self._ahead else results:
            for read, probabilities in zip(buffer, found, strict=True):
                yield read.place, probabilities

    def _buffers(self, reads: Iterable[Read[Place]]) -> Iterator[list[Read[Place]]]:
        most = max(BUFFERED_BASES, BATCHES_A_BUFFER * self._batch_bases)
        buffer: list[Read[Place]] = []
        bases = 0
        for read in reads:
            if buffer and bases + len(read.bases) > most:
                yield buffer
                buffer, bases = [], 0
            buffer.append(read)
            bases += len(read.bases)
        if buffer:
            yield buffer

    def _run(self, buffer: list[Read[Place]]) -> tuple[list[Read[Place]], list[Probabilities]]:
        """Return a buffer with its results; only windows of equal length share a batch, nothing is padded."""
        of_length: dict[int, list[int]] = defaultdict(list)
        for number, read in enumerate(buffer):
            of_length[len(read.bases)].append(number)
        found: dict[int, Probabilities] = {}
        for length in sorted(of_length, reverse=True):
            numbers, size = of_length[length], max(1, self._batch_bases // length)
            for first in range(0, len(numbers), size):
                batch = numbers[first : first + size]
                results = self._forward([buffer[number].bases for number in batch])
                if not np.isfinite(results).all():
                    raise UserError(
                        "The model makes NaN or infinite numbers of a window; use another model, or float32."
                    )
                found.update(zip(batch, results, strict=True))
        return buffer, [found[number] for number in range(len(buffer))]

    def _forward(self, bases: list[str]) -> Probabilities:
        """Return the probabilities of a batch, or of its halves where the GPU's memory does not suffice."""
        try:
            with torch.inference_mode():
                probabilities = self._probabilities(bases)
                if self._both_strands:
                    other = self._probabilities([reverse_complement(window) for window in bases])
                    probabilities = (probabilities + other.flip(1)) / 2
                return probabilities.cpu().numpy()
        except torch.OutOfMemoryError:
            if len(bases) == 1:
                raise DeviceMemoryError(
                    f"One window of {len(bases[0]):,} bases does not fit into the GPU; use shorter windows, bfloat16 or a "
                    "larger GPU."
                ) from None
        torch.cuda.empty_cache()
        middle = len(bases) // 2
        return np.concatenate([self._forward(bases[:middle]), self._forward(bases[middle:])])

    def _probabilities(self, bases: list[str]) -> Tensor:
        probabilities = self._segmenter.probabilities(bases)
        return probabilities if self._all else probabilities[..., self._features]


Item = TypeVar("Item")


def one_ahead(items: Iterator[Item]) -> Generator[Item, None, None]:
    """Yield items while a thread makes the next: what is written does not keep the GPU waiting."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item
