"""What becomes of a sequence that is embedded, whatever embeds it; without torch, which baselines do not need."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.signedinteger[Any]]


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
    starts: Ids | None = None
    ends: Ids | None = None
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
