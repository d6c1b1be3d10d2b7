"""Run a language model over many encodings: batched, without autograd, order restored."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnalm.engine.batching import length_buckets
from dnalm.engine.devices import Machine
from dnalm.errors import UserError
from dnalm.models.language_model import LanguageModel
from dnalm.models.tokenizers import Encoding

Pool = Callable[[Tensor, Tensor], Tensor]


def embed_encodings(
    model: LanguageModel,
    encodings: Sequence[Encoding],
    pool: Pool,
    layer: int,
    machine: Machine,
    on_batch: Callable[[list[int]], None] = lambda indices: None,
) -> NDArray[np.float32]:
    """Return one vector an encoding, in the order given.

    Args:
        model: where the hidden states come from.
        encodings: tokens, none longer than the model's context.
        pool: from hidden states (batch, tokens, hidden size) and a mask of the tokens that cover bases (batch, tokens) to
            vectors (batch, hidden size).
        layer: numbered as `LanguageModel.hidden_states`.
        machine: device and budget.
        on_batch: told the indices of each batch when it is done.

    Returns:
        Shape (encodings, hidden size), float32.

    Raises:
        UserError: one encoding alone is too large for the GPU's memory, or the model makes NaN or infinity of it.
    """
    vectors = np.empty((len(encodings), model.hidden_size), dtype=np.float32)
    for batch in length_buckets([len(encoding) for encoding in encodings], machine.batch_tokens):
        for indices, rows in _forward(model, encodings, batch, pool, layer, machine.device):
            if not np.isfinite(rows).all():
                raise UserError(f"The model '{model.stored.name}' makes NaN or infinite numbers; use another model or float32.")
            vectors[indices] = rows
            on_batch(indices)
    return vectors


def _forward(
    model: LanguageModel, encodings: Sequence[Encoding], batch: list[int], pool: Pool, layer: int, device: torch.device
) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
    """Run one batch, or its halves where the GPU's memory does not suffice."""
    try:
        yield batch, _vectors(model, [encodings[index] for index in batch], pool, layer, device)
        return
    except torch.OutOfMemoryError:
        if len(batch) == 1:
            raise UserError(
                f"One sequence of {len(encodings[batch[0]]):,} tokens does not fit into the GPU; "
                "use shorter sequences, bfloat16 or a larger GPU."
            ) from None
    torch.cuda.empty_cache()
    middle = len(batch) // 2
    for half in (batch[:middle], batch[middle:]):
        yield from _forward(model, encodings, half, pool, layer, device)


def _vectors(
    model: LanguageModel, encodings: Sequence[Encoding], pool: Pool, layer: int, device: torch.device
) -> NDArray[np.float32]:
    input_ids, attention_mask, covers_bases = pad(encodings, model.pad_id)
    full = bool(attention_mask.all())
    with torch.inference_mode():
        hidden_states = model.hidden_states(
            # Without padding no mask is needed, and attention is quicker without.
            input_ids.to(device),
            None if full else attention_mask.to(device),
            layer,
        )
        vectors: NDArray[np.float32] = pool(hidden_states, covers_bases.to(device)).float().cpu().numpy()
    return vectors


def pad(encodings: Sequence[Encoding], pad_id: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return input ids, attention mask, and the mask of tokens that cover bases, padded on the right.

    Each has the shape (encodings, longest); int64, int64, bool.
    """
    shape = (len(encodings), max(map(len, encodings)))
    input_ids = np.full(shape, pad_id, dtype=np.int64)
    attention_mask = np.zeros(shape, dtype=np.int64)
    covers_bases = np.zeros(shape, dtype=np.bool_)
    for row, encoding in enumerate(encodings):
        input_ids[row, : len(encoding)] = encoding.ids
        attention_mask[row, : len(encoding)] = 1
        covers_bases[row, : len(encoding)] = ~encoding.special
    return torch.from_numpy(input_ids), torch.from_numpy(attention_mask), torch.from_numpy(covers_bases)
