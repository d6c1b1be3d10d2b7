"""Vectors without a model: k-mer frequencies and one-hot letters, the baselines of every embedding."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dnalm.engine.embedded import Embedded
from dnalm.errors import UserError
from dnalm.methods import baselines
from dnalm.methods.strands import reverse_complement


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
    """The letters themselves: one vector per base, or one of all bases for sequences of one length."""

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
