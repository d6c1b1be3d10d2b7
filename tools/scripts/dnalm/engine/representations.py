"""From sequences to vectors: what a model, or no model, makes of them."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnalm.engine.devices import DTYPES, Machine
from dnalm.engine.inference import Piece, run_pieces
from dnalm.errors import UserError
from dnalm.methods import baselines
from dnalm.methods.pooling import Pooling, combine, reduce_states, token_weights
from dnalm.methods.strands import reverse_complement
from dnalm.methods.windows import token_windows
from dnalm.models.language_model import LanguageModel
from dnalm.models.tokenizers import Encoding

# Sequences on which the deviation of a lower precision is measured.
COMPARED = 16


@dataclass(frozen=True, slots=True)
class Embedded:
    """What became of one sequence.

    Attributes:
        vectors: shape (dimensions,), or (tokens, dimensions) with pooling `none`.
        n_tokens: tokens read, special tokens included once.
        n_windows: how many windows were read.
        truncated: bases at the end that were not read.
        starts, ends: with pooling `none`, the 0-based half-open bases of each row.
        status: 'ok', or why the vectors say little.
    """

    vectors: NDArray[np.float32]
    n_tokens: int
    n_windows: int = 1
    truncated: int = 0
    starts: NDArray[np.int64] | None = None
    ends: NDArray[np.int64] | None = None
    status: str = "ok"


class Representation(Protocol):
    """What the task needs of a model or a baseline."""

    @property
    def description(self) -> str:
        """One line for stdout."""
        ...

    @property
    def dimensions(self) -> list[str] | None:
        """Names of the dimensions, where they have any."""
        ...

    def embed(
        self, names: Sequence[str], sequences: Sequence[str], on_done: Callable[[int], None] = lambda count: None
    ) -> list[Embedded]:
        """Return one result a sequence, in order; `on_done` is told how many are finished."""
        ...

    def facts(self) -> dict[str, Any]:
        """What identifies it in a result's provenance."""
        ...


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
        model.to(machine.device, torch.float32)
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
            taken = f"layer {layers}" if len(self._layers) == 1 else f"{self._choices.combine_layers} of layers {layers}"
        return (
            f"{model.stored.name}, {model.architecture}, {len(model.layers)} layers, "
            f"hidden size {model.hidden_size}, context {f'{context:,}' if context else 'unlimited'} tokens; {taken}"
        )

    def facts(self) -> dict[str, Any]:
        """Return what identifies the model, and how far a lower precision was from float32."""
        stored = self._model.stored
        facts = {"name": stored.name, "sha256": stored.sha256(), "licence": stored.licence, "layers": list(self._layers)}
        if "revision" in stored.provenance:
            facts["revision"] = stored.provenance["revision"]
        return facts if self._deviation is None else facts | {"lowest_cosine_with_float32": self._deviation}

    def change_precision(self, dtype: str, names: Sequence[str], sequences: Sequence[str]) -> float:
        """Change to a lower precision; return the lowest cosine with float32 over the first sequences."""
        names, sequences = names[:COMPARED], sequences[:COMPARED]
        exact = [np.atleast_2d(found.vectors) for found in self.embed(names, sequences)]
        self._model.to(self._machine.device, DTYPES[dtype])
        lower = [np.atleast_2d(found.vectors) for found in self.embed(names, sequences)]
        cosines = [
            (one * other).sum(axis=1) / (np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1))
            for one, other in zip(exact, lower, strict=True)
        ]
        self._deviation = round(float(np.concatenate(cosines).min()), 6)
        return self._deviation

    def embed(
        self, names: Sequence[str], sequences: Sequence[str], on_done: Callable[[int], None] = lambda count: None
    ) -> list[Embedded]:
        """Return one result a sequence, in order; equal sequences are computed once."""
        copies = Counter(sequences)
        first_names = dict(zip(reversed(sequences), reversed(names), strict=True))
        strands = list(copies)
        if self._choices.both_strands:
            strands = list(dict.fromkeys(strands + [reverse_complement(bases) for bases in copies]))
        encodings = self._model.encode(strands)
        plans = [
            self._plan(encoding, bases, first_names.get(bases, ""))
            for encoding, bases in zip(encodings, strands, strict=True)
        ]
        owners = [number for number, plan in enumerate(plans) for _ in plan.pieces]
        left = Counter(owners)

        def count_done(indices: list[int]) -> None:
            for index in indices:
                left[owners[index]] -= 1
            done = {owners[index] for index in indices if left[owners[index]] == 0}
            on_done(sum(copies[strands[owner]] for owner in done))

        parts = iter(
            run_pieces(
            [piece for plan in plans for piece in plan.pieces],
            self._states,
            lambda states, weights: reduce_states(self._choices.pooling, states, weights),
            self._model.pad_id,
            self._machine,
            count_done,
        ))
        of_strand: dict[str, Embedded] = {}
        for bases, plan in zip(strands, plans, strict=True):
            of_strand[bases] = plan.result(self._choices.pooling, [next(parts) for _ in plan.pieces])
        return [self._both(of_strand, bases) for bases in sequences]

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

    def _states(self, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Return what the representation takes of the model; shape (batch, tokens, dimensions)."""
        if self._choices.representation == "logits":
            return self._model.logits(input_ids, attention_mask)
        if self._choices.representation == "lm-head-norm":
            return self._model.head_norm(input_ids, attention_mask)
        states = self._model.hidden_states(input_ids, attention_mask, self._layers)
        if len(states) == 1:
            return states[0]
        if self._choices.combine_layers == "concatenate":
            return torch.cat(states, dim=-1)
        return torch.stack([layer.float() for layer in states]).mean(dim=0)

    def _plan(self, encoding: Encoding, bases: str, name: str) -> "_Plan":
        """Cut a sequence's tokens into pieces within the context, and say how much each token counts."""
        choices, context = self._choices, self._model.context_length
        covering = np.flatnonzero(~encoding.special)
        first, last = (int(covering[0]), int(covering[-1]) + 1) if len(covering) else (len(encoding), len(encoding))
        capacity = max(1, context - first - (len(encoding) - last)) if context else max(1, last - first)
        length = len(bases)
        if last - first > capacity and choices.long_sequences == "fail":
            raise UserError(
                f"Sequence '{name}' has {len(encoding):,} tokens, the model '{self._model.stored.name}' reads {context:,}; "
                "cut it, or choose windows or truncate for long sequences."
            )
        end = min(last, first + capacity) if choices.long_sequences == "truncate" else last
        truncated = length - int(encoding.ends[end - 1]) if end < last else 0
        weights, front = token_weights(choices.pooling, encoding.starts[first:end], encoding.ends[first:end], choices.by_bases)
        special = 1.0 if choices.keep_special and choices.pooling != "cls" else 0.0
        head, tail = np.arange(first), np.arange(last, len(encoding))
        head_weights = np.full(first, special, dtype=np.float32)
        head_weights[:1] = max(front, special)
        tail_weights = np.full(len(tail), special, dtype=np.float32)
        plan = _Plan(len(encoding) - (last - end), truncated, "ok" if set(bases) != {"N"} else "all_n")
        for window in token_windows(end - first, capacity, choices.window_overlap):
            kept = weights[window.start : window.end].copy()
            kept[: window.kept_start - window.start] = 0
            kept[window.kept_end - window.start :] = 0
            tokens = np.r_[head, np.arange(first + window.start, first + window.end), tail]
            plan.add(
                Piece(encoding.ids[tokens], np.r_[head_weights, kept, tail_weights]),
                encoding.starts[tokens],
                encoding.ends[tokens],
            )
        return plan


class _Plan:
    """The pieces of one sequence and what is needed to join their results."""

    def __init__(self, n_tokens: int, truncated: int, status: str) -> None:
        self.pieces: list[Piece] = []
        self._n_tokens, self._truncated, self._status = n_tokens, truncated, status
        self._n_windows = 0
        self._weight = 0.0
        self._spans: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []

    def add(self, piece: Piece, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
        """Add a window, unless nothing in it counts."""
        self._n_windows += 1
        counts = piece.weights > 0
        if counts.any():
            self.pieces.append(piece)
            self._weight += float(piece.weights.sum(dtype=np.float64))
            self._spans.append((starts[counts], ends[counts]))

    def result(self, pooling: Pooling, parts: list[NDArray[np.float32]]) -> Embedded:
        """Join the results of the pieces."""
        starts, ends = (np.concatenate(side) for side in zip(*self._spans, strict=True))
        apart = pooling == "none"
        return Embedded(
            combine(pooling, parts, self._weight),
            self._n_tokens,
            self._n_windows,
            self._truncated,
            starts if apart else None,
            ends if apart else None,
            self._status,
        )


class KmerRepresentation:
    """Frequencies of k-mers, the baseline that asks what a model knows beyond composition."""

    def __init__(self, k: int, both_strands: bool) -> None:
        self._k, self._both_strands = k, both_strands

    @property
    def description(self) -> str:
        """Kind and k."""
        return f"no model: frequencies of the {4**self._k:,} {self._k}-mers"

    @property
    def dimensions(self) -> list[str]:
        """The k-mers."""
        return baselines.kmer_names(self._k)

    def facts(self) -> dict[str, Any]:
        """Kind and k."""
        return {"name": "kmer", "k": self._k}

    def embed(
        self, names: Sequence[str], sequences: Sequence[str], on_done: Callable[[int], None] = lambda count: None
    ) -> list[Embedded]:
        """Return the frequencies of each sequence."""
        found = []
        for bases in sequences:
            vector = baselines.kmer_frequencies(bases, self._k, self._both_strands)
            status = "ok" if vector.any() else ("all_n" if set(bases) == {"N"} else "no_kmer")
            found.append(Embedded(vector, n_tokens=max(len(bases) - self._k + 1, 0), status=status))
            on_done(1)
        return found


class OneHotRepresentation:
    """The letters themselves: one vector a base, or one of all bases for sequences of one length."""

    def __init__(self, per_base: bool, both_strands: bool) -> None:
        self._per_base, self._both_strands = per_base, both_strands
        self._length: int | None = None

    @property
    def description(self) -> str:
        """Kind and shape."""
        return f"no model: one-hot letters, {'one vector a base' if self._per_base else 'all bases in one vector'}"

    @property
    def dimensions(self) -> list[str]:
        """The letters, numbered by position where all are in one vector."""
        if self._per_base or self._length is None:
            return list(baselines.LETTERS)
        return [f"{position}{letter}" for position in range(1, self._length + 1) for letter in baselines.LETTERS]

    def facts(self) -> dict[str, Any]:
        """Kind."""
        return {"name": "onehot", "letters": baselines.LETTERS}

    def embed(
        self, names: Sequence[str], sequences: Sequence[str], on_done: Callable[[int], None] = lambda count: None
    ) -> list[Embedded]:
        """Return the letters of each sequence; raise UserError if one in a vector of all has another length."""
        found = []
        for name, bases in zip(names, sequences, strict=True):
            self._length = self._length or len(bases)
            if not self._per_base and len(bases) != self._length:
                raise UserError(
                    f"Sequence '{name}' has {len(bases):,} bases, the first {self._length:,}; one vector of all letters "
                    "needs equal lengths: cut them, or choose pooling none for one vector a base."
                )
            rows = baselines.one_hot(bases)
            if self._both_strands:
                rows = (0.5 * (rows + baselines.one_hot(reverse_complement(bases)))).astype(np.float32)
            status = "ok" if rows.any() else "all_n"
            if self._per_base:
                starts = np.arange(len(bases))
                found.append(Embedded(rows, len(bases), starts=starts, ends=starts + 1, status=status))
            else:
                found.append(Embedded(rows.reshape(-1), len(bases), status=status))
            on_done(1)
        return found
