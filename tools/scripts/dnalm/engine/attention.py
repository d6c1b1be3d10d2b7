"""Attention maps of single sequences: which heads, and what they look at."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dnalm.engine.devices import Machine
from dnalm.engine.inference import DeviceMemoryError
from dnalm.errors import UserError, shown
from dnalm.models.language_model import LanguageModel
from dnalm.models.tokenizers import Encoding

# A map has the square of the tokens: here 64 MiB a head, and the layer's others are computed with it.
MOST_TOKENS = 4_096
HEAD = re.compile(r"(last|[0-9]{1,5})\.(\*|[0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Head:
    """A head of a layer, both counted from 1."""

    layer: int
    head: int

    def __str__(self) -> str:
        return f"{self.layer}.{self.head}"


def chosen_heads(text: str, model: LanguageModel) -> list[Head]:
    """Return the heads that a text names, in its order, each once.

    Args:
        text: `layer.head`, both counted from 1 as the Nucleotide Transformer's repository counts layers, several
            separated by commas; `last` for the last layer, `*` for every head of a layer.
        model: whose heads they are.

    Raises:
        UserError: the text is no such list, or names what the model lacks.
    """
    layers, heads = len(model.layers), model.heads
    chosen: dict[Head, None] = {}
    for part in text.split(","):
        named = HEAD.fullmatch(part.strip())
        if named is None:
            raise UserError(
                f"The heads '{shown(text)}' are no list of layer.head such as 1.4,7.10; '{shown(part.strip())}' is none."
            )
        layer = layers if named[1] == "last" else int(named[1])
        numbers = range(1, heads + 1) if named[2] == "*" else [int(named[2])]
        if not 1 <= layer <= layers or not all(1 <= number <= heads for number in numbers):
            raise UserError(
                f"The model '{model.stored.name}' has {layers} layers of {heads} heads, and no {part.strip()}; "
                f"choose from 1.1 to {layers}.{heads}."
            )
        chosen |= {Head(layer, number): None for number in numbers}
    return list(chosen)


def read_tokens(model: LanguageModel, name: str, bases: str) -> Encoding:
    """Return a sequence's tokens; raise UserError if a map of them cannot be."""
    most = min(MOST_TOKENS, model.context_length or MOST_TOKENS)
    (encoding,) = model.encode([bases])
    if len(encoding) > most:
        limit = "the model reads" if most == model.context_length else "a map may have"
        raise UserError(
            f"Sequence '{name}' has {len(encoding):,} tokens, {limit} {most:,}; cut it: a map is of tokens that the model "
            "sees at once."
        )
    return encoding


def attention_maps(
    model: LanguageModel, encoding: Encoding, heads: Sequence[Head], machine: Machine
) -> Iterator[NDArray[np.float32]]:
    """Yield one map a head, in their order: row by row how much each token attends to each; shape (tokens, tokens).

    Raises:
        DeviceMemoryError: the maps of a layer are too large for the GPU's memory.
        UserError: the model makes NaN or infinity of the sequence.
    """
    kept = {number: [head.head - 1 for head in heads if head.layer - 1 == number] for number in _layers(heads)}
    input_ids = torch.from_numpy(encoding.ids)[None].to(machine.device)
    try:
        with torch.inference_mode():
            found = dict(zip(kept, model.attention_maps(input_ids, None, list(kept), kept), strict=True))
    except torch.OutOfMemoryError:
        raise DeviceMemoryError(
            f"The attention of {len(encoding):,} tokens does not fit into the GPU; use shorter sequences or a larger GPU."
        ) from None
    for head in heads:
        layer = head.layer - 1
        of_head: NDArray[np.float32] = found[layer][0, kept[layer].index(head.head - 1)].float().cpu().numpy()
        if not np.isfinite(of_head).all():
            raise UserError("The model makes NaN or infinite numbers of a sequence; use another model.")
        yield of_head


def _layers(heads: Sequence[Head]) -> list[int]:
    """Return the numbers, from 0, of the layers that heads are of."""
    return sorted({head.layer - 1 for head in heads})
