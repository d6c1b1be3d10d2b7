"""Run a segmenter over the windows of many contigs: batched by length, each result with its window, in order."""

from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
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
        self._machine = machine

    def run(self, reads: Iterable[Read[Place]]) -> Iterator[tuple[Place, Probabilities]]:
        """Yield the probabilities of each window, in the order given.

        Raises:
            DeviceMemoryError: one window alone is too large for the GPU's memory.
            UserError: the model makes NaN or infinity of a window.
        """
        return run_buffers(reads, self._machine, lambda parts: ((kept, self.read(windows)) for kept, windows in parts))

    def read(self, windows: Sequence[str]) -> list[Probabilities]:
        """Return the probabilities of windows, in their order; only those of equal length share a batch, none is padded."""
        of_length: dict[int, list[int]] = defaultdict(list)
        for number, window in enumerate(windows):
            of_length[len(window)].append(number)
        found: dict[int, Probabilities] = {}
        for length in sorted(of_length, reverse=True):
            numbers, size = of_length[length], max(1, batch_bases(self._machine) // length)
            for first in range(0, len(numbers), size):
                batch = numbers[first : first + size]
                results = self._forward([windows[number] for number in batch])
                if not np.isfinite(results).all():
                    raise UserError(
                        "The model makes NaN or infinite numbers of a window; use another model, or float32."
                    )
                found.update(zip(batch, results, strict=True))
        return [found[number] for number in range(len(windows))]

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


def batch_bases(machine: Machine) -> int:
    """Return how many bases a batch may hold."""
    return machine.batch_tokens * BASES_A_TOKEN


def run_buffers(
    reads: Iterable[Read[Place]],
    machine: Machine,
    run: Callable[
        [Iterator[tuple[list[Read[Place]], list[str]]]], Iterator[tuple[list[Read[Place]], list[Probabilities]]]
    ],
) -> Iterator[tuple[Place, Probabilities]]:
    """Yield the probabilities of each window, in the order given.

    Args:
        reads: the windows.
        machine: says how many are run together, and whether there is a GPU that must not wait for what is written.
        run: from buffers of windows and their bases to the buffers and their probabilities, in the same order.
    """
    results = run((buffer, [read.bases for read in buffer]) for buffer in _buffers(reads, machine))
    ahead = machine.device.type == "cuda" and machine.processes == 1
    for buffer, found in one_ahead(results) if ahead else results:
        for read, probabilities in zip(buffer, found, strict=True):
            yield read.place, probabilities


def _buffers(reads: Iterable[Read[Place]], machine: Machine) -> Iterator[list[Read[Place]]]:
    most = max(BUFFERED_BASES, BATCHES_A_BUFFER * batch_bases(machine))
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


Item = TypeVar("Item")


def one_ahead(items: Iterator[Item]) -> Generator[Item, None, None]:
    """Yield items while a thread makes the next: what is written does not keep the GPU waiting."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item
