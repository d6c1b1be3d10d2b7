"""From the numbers of a head to probabilities, and from these to the labels that are called."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.floating[Any]]


def probabilities(logits: Numbers, *, exclusive: bool, temperature: float = 1.0) -> Numbers:
    """Return probabilities of labels, float64, of the shape of the logits (sequences, labels).

    Args:
        logits: what a head gives.
        exclusive: whether exactly one label is true of a sequence (softmax over labels), or any number of them are (the
            logistic function of each).
        temperature: logits are divided by it (Guo et al. 2017, arXiv:1706.04599); above 0.
    """
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    if not exclusive:
        # Of the negative magnitude alone: exp does not overflow.
        small = np.exp(-np.abs(scaled))
        return np.where(scaled >= 0, 1 / (1 + small), small / (1 + small))
    powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def quantities(logits: Numbers, mean: Numbers | float = 0.0, scale: Numbers | float = 1.0) -> Numbers:
    """Return what a head that was trained on standardised targets says of the targets themselves, float64."""
    return np.asarray(logits, dtype=np.float64) * scale + mean


def called(probability: Numbers, *, exclusive: bool, thresholds: Numbers | None = None) -> NDArray[np.bool_]:
    """Return which labels are called; shape (sequences, labels).

    Args:
        probability: shape (sequences, labels).
        exclusive: exactly one is called: the one with the largest probability by threshold, so that two with the
            thresholds 1 − t and t part at t; the first of equals. Otherwise every one that reaches its threshold.
        thresholds: shape (labels,), above 0; 0.5 for all where there are none.
    """
    limits = np.full(probability.shape[-1], 0.5) if thresholds is None else thresholds
    if not exclusive:
        return np.asarray(probability >= limits)
    chosen = (probability / limits).argmax(axis=-1)
    return np.asarray(np.arange(probability.shape[-1]) == chosen[..., None])
