"""Run a model over many pieces of tokens: batched, without autograd, each result with its piece."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnalm.engine.batching import length_buckets
from dnalm.engine.devices import Machine
from dnalm.errors import UserError
from dnalm.models.language_model import LanguageModel

States = Callable[[Tensor, Tensor | None], Tensor]
Reduce = Callable[[Tensor, Tensor], list[Tensor]]
Results = list[NDArray[np.float32]]


class DeviceMemoryError(UserError):
    """The GPU's memory does not suffice."""


def move(model: LanguageModel, machine: Machine, dtype: torch.dtype) -> None:
    """Bring a model to the device.

    Raises:
        DeviceMemoryError: it does not fit.
    """
    try:
        model.to(machine.device, dtype)
    except torch.OutOfMemoryError:
        raise DeviceMemoryError(
            f"The model '{model.stored.name}' does not fit into the GPU; use bfloat16, a smaller model or a larger GPU."
        ) from None


@dataclass(frozen=True, slots=True)
class Piece:
    """What a model sees at once: token ids and how much each token counts; shape (tokens,) both."""

    ids: NDArray[np.signedinteger[Any]]
    weights: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.ids)


def run_pieces(
    lengths: Sequence[int],
    piece: Callable[[int], Piece],
    states: States,
    reduce: Reduce,
    pad_id: int,
    machine: Machine,
    on_batch: Callable[[list[int]], None] = lambda indices: None,
) -> Results:
    """Return one result a piece, in the order given.

    Args:
        lengths: tokens of each piece, none more than the model's context.
        piece: returns the piece of an index; asked when its batch is next, since all at once may be large.
        states: from input ids and attention mask (None where nothing is padded), shape (batch, tokens), to one vector a
            token, shape (batch, tokens, dimensions).
        reduce: from these and the weights, shape (batch, tokens), to one tensor a piece.
        pad_id: fills batches; its tokens are masked and weigh nothing.
        machine: device and budget of tokens.
        on_batch: told the indices of each batch when it is done.

    Raises:
        DeviceMemoryError: one piece alone is too large for the GPU's memory.
        UserError: the model makes NaN or infinity of a piece.
    """

    def compute(indices: list[int]) -> list[Tensor]:
        return _reduced([piece(index) for index in indices], states, reduce, pad_id, machine.device)

    return run_batches(lengths, compute, machine, on_batch)


def run_batches(
    lengths: Sequence[int],
    compute: Callable[[list[int]], list[Tensor]],
    machine: Machine,
    on_batch: Callable[[list[int]], None] = lambda indices: None,
    what: str = "sequence",
) -> Results:
    """Return one result an index of `lengths`, in order.

    Args:
        lengths: tokens of what each index stands for.
        compute: returns one tensor each of some indices, batched on the device; called without autograd. Tensors of one
            dimension are all equally long.
        machine: device and budget of tokens.
        on_batch: told the indices of each batch when it is done.
        what: an index stands for, in the words of a user.

    Raises:
        DeviceMemoryError, UserError: see `run_pieces`.
    """

    def batches() -> Iterator[tuple[list[int], Results]]:
        for batch in length_buckets(lengths, machine.batch_tokens):
            yield from _forward(batch, lengths, compute, what)

    return _in_order(batches(), len(lengths), on_batch, what)


def run_apart(
    lengths: Sequence[int],
    piece: Callable[[int], Piece],
    states: Callable[[Tensor], Tensor],
    reduce: Reduce,
    threads: int,
    on_piece: Callable[[list[int]], None] = lambda indices: None,
) -> Results:
    """Return one result a piece, in the order given; each is run by itself on one of the CPU's threads, longest first.

    No result depends on another piece or on the number of threads, to the last bit.

    Args:
        lengths: tokens of each piece.
        piece: see `run_pieces`; called from several threads, as are the next two.
        states: from input ids, shape (1, tokens), to one vector a token, shape (1, tokens, dimensions).
        reduce: see `run_pieces`.
        threads: how many pieces are run at once.
        on_piece: told the index of each piece when it is done, in a list.

    Raises:
        UserError: the model makes NaN or infinity of a piece.
    """

    def run(index: int) -> tuple[list[int], Results]:
        cpu = torch.device("cpu")
        return [index], _arrays(lambda: _reduced([piece(index)], lambda ids, mask: states(ids), reduce, 0, cpu))

    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        return _in_order(pool.map(run, order), len(lengths), on_piece)
    finally:
        pool.shutdown(cancel_futures=True)


def _in_order(
    batches: Iterable[tuple[list[int], Results]],
    count: int,
    on_batch: Callable[[list[int]], None],
    what: str = "sequence",
) -> Results:
    """Put each result where its index says; refuse what is not finite."""
    results: Results = []
    for indices, found in batches:
        if not all(np.isfinite(result).all() for result in found):
            raise UserError(f"The model makes NaN or infinite numbers of a {what}; use another model, or float32.")
        # One block for all: small ones between the batches' large ones would keep freed memory from being used again.
        results = results or list(np.empty((count, found[0].shape[-1]), dtype=np.float32))
        for index, result in zip(indices, found, strict=True):
            if result.ndim == 1:
                results[index][:] = result
            else:
                results[index] = result
        on_batch(indices)
    return results


def _forward(
    batch: list[int], lengths: Sequence[int], compute: Callable[[list[int]], list[Tensor]], what: str
) -> Iterator[tuple[list[int], Results]]:
    """Run one batch, or its halves where the GPU's memory does not suffice."""
    try:
        yield batch, _arrays(lambda: compute(batch))
        return
    except torch.OutOfMemoryError:
        if len(batch) == 1:
            raise DeviceMemoryError(
                f"One {what} of {lengths[batch[0]]:,} tokens does not fit into the GPU; "
                f"use shorter {what}s, bfloat16 or a larger GPU."
            ) from None
    torch.cuda.empty_cache()
    middle = len(batch) // 2
    for half in (batch[:middle], batch[middle:]):
        yield from _forward(half, lengths, compute, what)


def _arrays(compute: Callable[[], list[Tensor]]) -> Results:
    """Compute without autograd and bring the tensors to the CPU."""
    with torch.inference_mode():
        found = compute()
        sizes = [len(result) for result in found]
        # One transfer a batch: a GPU waits for each.
        together = torch.cat(found).cpu()
    return [part.numpy() for part in together.split(sizes)]


def _reduced(
    pieces: Sequence[Piece], states: States, reduce: Reduce, pad_id: int, device: torch.device
) -> list[Tensor]:
    input_ids, attention_mask, weights = pad(pieces, pad_id)
    # Without padding no mask is needed, and attention is quicker without.
    mask = None if bool(attention_mask.all()) else attention_mask.to(device)
    return reduce(states(input_ids.to(device), mask), weights.to(device))


def pad(pieces: Sequence[Piece], pad_id: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return input ids, attention mask and weights, padded on the right.

    Each has the shape (pieces, longest); int64, int64, float32.
    """
    input_ids, attention_mask = pad_ids([piece.ids for piece in pieces], pad_id)
    weights = np.zeros(input_ids.shape, dtype=np.float32)
    for row, piece in enumerate(pieces):
        weights[row, : len(piece)] = piece.weights
    return input_ids, attention_mask, torch.from_numpy(weights)


def pad_ids(rows: Sequence[NDArray[np.signedinteger[Any]]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Return input ids and attention mask, padded on the right; shape (rows, longest), int64 both."""
    shape = (len(rows), max(map(len, rows)))
    input_ids = np.full(shape, pad_id, dtype=np.int64)
    attention_mask = np.zeros(shape, dtype=np.int64)
    for number, ids in enumerate(rows):
        input_ids[number, : len(ids)] = ids
        attention_mask[number, : len(ids)] = 1
    return torch.from_numpy(input_ids), torch.from_numpy(attention_mask)
