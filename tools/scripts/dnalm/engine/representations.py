"""From sequences to vectors: what a language model makes of them."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnalm.engine.devices import DTYPES, Machine
from dnalm.engine.embedded import Embedded
from dnalm.engine.inference import DeviceMemoryError, Piece, move, run_apart, run_pieces
from dnalm.errors import UserError
from dnalm.methods.pooling import Pooling, Weights, combine, reduce_states, token_weights
from dnalm.methods.strands import reverse_complement
from dnalm.methods.windows import TokenWindow, token_windows
from dnalm.models.language_model import LanguageModel
from dnalm.models.quantized import QuantizedEncoder
from dnalm.models.tokenizers import Encoding, Ids

# Sequences, and first bases of each, on which the deviation of a lower precision is measured.
COMPARED, COMPARED_BASES = 16, 10_000


Taken = Literal["hidden", "logits", "lm-head-norm"]
Combination = Literal["average", "concatenate"]
LongSequences = Literal["windows", "truncate", "fail"]


@dataclass(frozen=True)
class ModelChoices:
    """How a model's tokens become vectors; the names are those of `dnalm_embed.py --help`."""

    representation: Taken = "hidden"
    layers: tuple[int, ...] = (-1,)
    combine_layers: Combination = "average"
    pooling: Pooling = "mean"
    by_bases: bool = False
    keep_special: bool = False
    long_sequences: LongSequences = "windows"
    window_overlap: float = 0.25
    both_strands: bool = False


class ModelRepresentation:
    """A language model with the choices that turn a sequence into vectors."""

    dimensions = None

    def __init__(self, model: LanguageModel, choices: ModelChoices, machine: Machine) -> None:
        self._model, self._choices, self._machine = model, choices, machine
        self._layers = tuple(model.layer_number(layer) for layer in choices.layers)
        self._deviation: float | None = None
        self._dtype: torch.dtype | None = None
        self._quantized: QuantizedEncoder | None = None
        if choices.pooling == "cls":
            self._check_cls()

    def _check_cls(self) -> None:
        if self._model.tokenizer.cls_id is None:
            raise UserError(f"The model '{self._model.stored.name}' puts no CLS token first; choose another pooling.")
        if self._model.causal:
            print("Warning: this model reads left to right, so that its first token is the same for every sequence.")

    @property
    def description(self) -> str:
        """Architecture, sizes, and what is taken of it."""
        model, context = self._model, self._model.context_length
        taken: str = self._choices.representation
        if taken == "hidden":
            layers = ", ".join(map(str, self._layers))
            taken = (
                f"layer {layers}" if len(self._layers) == 1 else f"{self._choices.combine_layers} of layers {layers}"
            )
        return (
            f"{model.stored.name}, {model.architecture}, {len(model.layers)} layers, "
            f"hidden size {model.hidden_size}, context {f'{context:,}' if context else 'unlimited'} tokens; {taken}"
        )

    def facts(self) -> dict[str, Any]:
        """Return what identifies the model, and how far a lower precision was from float32."""
        stored = self._model.stored
        facts = {
            "name": stored.name,
            "sha256": stored.sha256(),
            "licence": stored.licence,
            "layers": list(self._layers),
        }
        if "revision" in stored.provenance:
            facts["revision"] = stored.provenance["revision"]
        return facts if self._deviation is None else facts | {"lowest_cosine_with_float32": self._deviation}

    def change_precision(self, dtype: str, names: Sequence[str], sequences: Sequence[str]) -> float:
        """Change to a lower precision; return the lowest cosine with float32 over the starts of the first sequences.

        Where float32 does not fit into the GPU, it is computed on the CPU. int8 is for hidden states on the CPU.
        """
        names, sequences = names[:COMPARED], [bases[:COMPARED_BASES] for bases in sequences[:COMPARED]]
        machine = self._machine
        try:
            exact = self.embed(names, sequences)
        except DeviceMemoryError:
            print("float32 does not fit into the GPU; the precision is measured against the CPU", flush=True)
            self._dtype, self._machine = None, replace(machine, device=torch.device("cpu"))
            exact = self.embed(names, sequences)
        self._dtype, self._machine = None, machine
        if dtype == "int8":
            self._quantized = QuantizedEncoder(self._model, self._layers)
        else:
            self._move(DTYPES[dtype])
        cosines = []
        for one, other in zip(exact, self.embed(names, sequences), strict=True):
            first, second = np.atleast_2d(one.vectors), np.atleast_2d(other.vectors)
            norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
            alike = np.all(first == second, axis=1)  # vectors of zeros among them, which have no cosine
            cosines.append(np.where(alike, 1.0, (first * second).sum(axis=1) / np.where(norms > 0, norms, 1.0)))
        self._deviation = round(float(np.concatenate(cosines).min()), 6)
        return self._deviation

    def _move(self, dtype: torch.dtype) -> None:
        """Bring the model to the device, unless it is there."""
        if self._dtype is None:
            move(self._model, self._machine, dtype)
            self._dtype = dtype

    def embed(
        self, names: Sequence[str], sequences: Sequence[str], on_done: Callable[[int], None] = lambda count: None
    ) -> list[Embedded]:
        """Return one result a sequence, in order; equal sequences are computed once."""
        self._move(torch.float32)
        copies = Counter(sequences)
        first_names = dict(zip(reversed(sequences), reversed(names), strict=True))
        strands = list(copies)
        if self._choices.both_strands:
            strands = list(dict.fromkeys(strands + [reverse_complement(bases) for bases in copies]))
        encodings = self._model.encode([bases[: self._most_bases()] for bases in strands])
        plans = [
            self._plan(encoding, bases, first_names.get(bases, ""))
            for encoding, bases in zip(encodings, strands, strict=True)
        ]
        pieces = [(number, window) for number, plan in enumerate(plans) for window in plan.windows]
        left = Counter(owner for owner, _ in pieces)

        def count_done(indices: list[int]) -> None:
            owners = [pieces[index][0] for index in indices]
            left.subtract(owners)
            on_done(sum(copies[strands[owner]] for owner in set(owners) if left[owner] == 0))

        lengths = [plans[owner].length(window) for owner, window in pieces]

        def piece(index: int) -> Piece:
            owner, window = pieces[index]
            return plans[owner].piece(window)

        def reduce(states: Tensor, weights: Tensor) -> list[Tensor]:
            return reduce_states(self._choices.pooling, states, weights)

        if self._quantized is None:
            parts = iter(
                run_pieces(lengths, piece, self._states, reduce, self._model.pad_id, self._machine, count_done)
            )
        else:
            parts = iter(run_apart(lengths, piece, self._states, reduce, self._machine.threads, count_done))
        of_strand: dict[str, Embedded] = {}
        for bases, plan in zip(strands, plans, strict=True):
            of_strand[bases] = plan.result(self._choices.pooling, [next(parts) for _ in plan.windows])
        return [self._both(of_strand, bases) for bases in sequences]

    def pieces(self, names: Sequence[str], sequences: Sequence[str]) -> list[list[Piece]]:
        """Return the windows of each sequence that `embed` would read, for whoever runs the model otherwise."""
        encodings = self._model.encode([bases[: self._most_bases()] for bases in sequences])
        plans = map(self._plan, encodings, sequences, names)
        return [[plan.piece(window) for window in plan.windows] for plan in plans]

    def _most_bases(self) -> int | None:
        """Return how many first bases of a sequence may be read; None for all."""
        context = self._model.context_length
        if self._choices.long_sequences != "truncate" or context is None:
            return None
        return self._model.tokenizer.bases_deciding(context)

    def _both(self, of_strand: dict[str, Embedded], bases: str) -> Embedded:
        found = of_strand[bases]
        if not self._choices.both_strands:
            return found
        other = of_strand[reverse_complement(bases)]
        return Embedded(
            0.5 * (found.vectors + other.vectors),
            found.n_tokens,
            found.n_windows,
            max(found.truncated, other.truncated),
            status=found.status,
        )

    def _states(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Return what the representation takes of the model; shape (batch, tokens, dimensions)."""
        if self._choices.representation == "logits":
            return self._model.logits(input_ids, attention_mask)
        if self._choices.representation == "lm-head-norm":
            return self._model.head_norm(input_ids, attention_mask)
        if self._quantized is None:
            states = self._model.hidden_states(input_ids, attention_mask, self._layers)
        else:
            states = self._quantized.hidden_states(input_ids)
        if len(states) == 1:
            return states[0]
        if self._choices.combine_layers == "concatenate":
            return torch.cat(states, dim=-1)
        return torch.stack([layer.float() for layer in states]).mean(dim=0)

    def _plan(self, encoding: Encoding, bases: str, name: str) -> "_Plan":
        """Cut a sequence's tokens into pieces within the context, and say how much each token counts."""
        choices, context = self._choices, self._model.context_length
        covering = ~encoding.special
        first = int(covering.argmax()) if covering.any() else len(encoding)
        last = len(encoding) - int(covering[::-1].argmax())
        capacity = max(1, context - first - (len(encoding) - last)) if context else max(1, last - first)
        if last - first > capacity and choices.long_sequences == "fail":
            raise UserError(
                f"Sequence '{name}' has {len(encoding):,} tokens, the model '{self._model.stored.name}' reads {context:,}; "
                "cut it, or choose windows or truncate for long sequences."
            )
        end = min(last, first + capacity) if choices.long_sequences == "truncate" else last
        truncated = len(bases) - int(encoding.ends[end - 1]) if end < last else 0
        weights, front = token_weights(
            choices.pooling, encoding.starts[first:end], encoding.ends[first:end], choices.by_bases
        )
        special = float(choices.keep_special and choices.pooling not in ("cls", "last", "center"))
        head_weights = np.full(first, special, dtype=np.float32)
        head_weights[:1] = max(front, special)
        tail_weights = np.full(len(encoding) - last, special, dtype=np.float32)
        end_is_special = choices.keep_special and choices.pooling == "last" and len(tail_weights) > 0
        if end_is_special:
            weights[:] = 0
            tail_weights[-1] = 1
        return _Plan(
            encoding,
            slice(first, last),
            (head_weights, weights, tail_weights),
            token_windows(end - first, capacity, choices.window_overlap),
            truncated,
            "all_n" if bases.count("N") == len(bases) else "ok",
            tail_once=end_is_special,
        )


class _Plan:
    """The windows of one sequence that are read, and what is needed to join their results.

    Args:
        encoding: all tokens of the sequence.
        covering: those that cover bases; the others are in each window.
        weights: how much the special tokens in front, those that cover bases, and the special tokens behind count.
        windows: counted from the first token that covers bases.
        truncated, status: see `Embedded`.
        tail_once: whether the special tokens behind count in the last window alone, of which they are the end.
    """

    def __init__(
        self,
        encoding: Encoding,
        covering: slice,
        weights: tuple[Weights, Weights, Weights],
        windows: list[TokenWindow],
        truncated: int,
        status: str,
        *,
        tail_once: bool = False,
    ) -> None:
        self._encoding, self._covering, self._weights = encoding, covering, weights
        self._truncated, self._status, self._tail_once = truncated, status, tail_once
        head, _, tail = weights
        self._n_windows = len(windows)
        self._special = len(head) + len(tail)
        self.windows: list[TokenWindow] = []
        self._weight = 0.0
        for window in windows:
            weight = float(self._weights_in(window).sum(dtype=np.float64))
            if weight > 0:  # a window in which nothing counts is not read
                self.windows.append(window)
                self._weight += weight

    def length(self, window: TokenWindow) -> int:
        """Return how many tokens a window has, special tokens included."""
        return window.end - window.start + self._special

    def piece(self, window: TokenWindow) -> Piece:
        """Return the tokens of a window and how much each counts."""
        return Piece(self._tokens(self._encoding.ids, window), self._weights_in(window))

    def _weights_in(self, window: TokenWindow) -> Weights:
        head, inner, tail = self._weights
        weights = inner[window.start : window.end].copy()
        weights[: window.kept_start - window.start] = 0
        weights[window.kept_end - window.start :] = 0
        if self._tail_once and window.kept_end < len(inner):
            tail = np.zeros_like(tail)
        return np.concatenate([head, weights, tail])

    def _tokens(self, values: Ids, window: TokenWindow) -> Ids:
        """Return the values of a window's tokens and of the special tokens around them."""
        first, last = self._covering.start, self._covering.stop
        return np.concatenate([values[:first], values[first + window.start : first + window.end], values[last:]])

    def result(self, pooling: Pooling, parts: list[NDArray[np.float32]]) -> Embedded:
        """Join the results of the windows read."""
        starts = ends = None
        if pooling == "none":
            counted = [self._weights_in(window) > 0 for window in self.windows]
            starts, ends = (
                np.concatenate(
                    [self._tokens(side, window)[of] for window, of in zip(self.windows, counted, strict=True)]
                )
                for side in (self._encoding.starts, self._encoding.ends)
            )
        return Embedded(
            combine(pooling, parts, self._weight),
            len(self._weights[1]) + self._special,
            self._n_windows,
            self._truncated,
            starts,
            ends,
            self._status,
        )
