"""From the hidden states of a sequence's tokens to one vector.

A pooling is told in two parts, so that a sequence may lie in several windows and a batch may be padded: how much each
token counts (`token_weights`; padding and what another window keeps count nothing), and how hidden states are reduced
(`reduce_states` on a batch, `combine` over a sequence's windows).
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Pooling = Literal["mean", "max", "min", "cls", "last", "center", "none"]
POOLINGS: tuple[Pooling, ...] = ("mean", "max", "min", "cls", "last", "center", "none")
Weights = NDArray[np.float32]
Positions = NDArray[np.signedinteger[Any]]


def token_weights(
    pooling: Pooling, starts: Positions, ends: Positions, by_bases: bool = False
) -> tuple[Weights, float]:
    """Return how much each token of a sequence counts, and how much each special token.

    Args:
        pooling: `mean`, `max` and `min` take every token; `last` the last; `center` the one that covers the middle base
            (number length // 2, 0-based); `cls` none but the special token in front; `none` keeps every token apart.
        starts: first base of each token, 0-based, special tokens apart; shape (tokens,).
        ends: past-the-end base of each; shape (tokens,).
        by_bases: for `mean`, a token counts as many times as it has bases.

    Returns:
        Weights, shape (tokens,), and 1.0 if the special token in front counts instead, else 0.0.
    """
    if pooling not in ("cls", "last", "center"):
        weighted = by_bases and pooling == "mean"
        return (ends - starts).astype(np.float32) if weighted else np.ones(len(starts), dtype=np.float32), 0.0
    weights = np.zeros(len(starts), dtype=np.float32)
    if pooling == "last":
        weights[-1:] = 1
    elif pooling == "center":
        middle = int(ends[-1]) // 2
        weights[max(int(np.searchsorted(starts, middle, side="right")) - 1, 0)] = 1
    return weights, float(pooling == "cls")


def reduce_states(pooling: Pooling, hidden_states: Tensor, weights: Tensor) -> list[Tensor]:
    """Reduce a padded batch.

    Args:
        pooling: see `token_weights`.
        hidden_states: shape (batch, tokens, dimensions).
        weights: shape (batch, tokens); 0 for what does not count.

    Returns:
        One float32 tensor a sequence: for `max` and `min` the extremes, shape (dimensions,); for `none` the tokens that
        count, shape (tokens that count, dimensions); else the weighted sum, shape (dimensions,).
    """
    counts = weights > 0
    if pooling == "none":
        return [states[chosen].float() for states, chosen in zip(hidden_states, counts, strict=True)]
    outside = ~counts.unsqueeze(-1)
    if pooling in ("max", "min"):
        worst = -torch.inf if pooling == "max" else torch.inf
        kept = hidden_states.float().masked_fill(outside, worst)
        return list(kept.amax(dim=1) if pooling == "max" else kept.amin(dim=1))
    # Masked before it is multiplied: 0 times an infinite padding value would be NaN.
    kept = hidden_states.float().masked_fill(outside, 0.0)
    return list((kept * weights.unsqueeze(-1)).sum(dim=1))


def combine(pooling: Pooling, parts: Sequence[NDArray[np.float32]], weight: float) -> NDArray[np.float32]:
    """Join what `reduce_states` gave for a sequence's windows.

    Args:
        pooling: see `token_weights`.
        parts: one array a window, in order.
        weight: the sum of all weights of the sequence.

    Returns:
        Shape (dimensions,), or (tokens, dimensions) for `none`.
    """
    if pooling == "none":
        return np.concatenate(parts)
    if pooling == "max":
        return np.stack(parts).max(axis=0)
    if pooling == "min":
        return np.stack(parts).min(axis=0)
    return np.divide(np.stack(parts).sum(axis=0, dtype=np.float64), weight).astype(np.float32)
