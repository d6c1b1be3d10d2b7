"""How sure a model may be, and from which probability on a label is called: chosen on validation, never on what tests."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

LOWEST, HIGHEST = 0.05, 20.0  # temperatures
FEWEST = 10  # of each side, from which a threshold is chosen; the half below
NEAREST_FIRST = 1e-9
LEAST, DIGITS = 1e-6, 6  # a threshold is neither 0 nor 1, so that what is beyond it can be either


def temperature(logits: Floats, targets: NDArray[np.int64], *, exclusive: bool) -> float:
    """Return what logits are to be divided by so that their probabilities are most likely (Guo et al. 2017).

    The truth counts a little less than all and the rest a little more than nothing, as Platt (1999) has it: a few
    sequences that are all told rightly do not make a model certain.

    Args:
        logits: shape (sequences, labels).
        targets: classes, shape (sequences,); or with labels that do not exclude each other 0 and 1, shape (sequences,
            labels).
        exclusive: whether exactly one label is true.
    """
    from scipy.optimize import minimize_scalar

    share = (len(logits) + 1) / (len(logits) + 2)
    if exclusive:
        count = logits.shape[1]
        truth = np.full(logits.shape, (1 - share) / (count - 1))
        truth[np.arange(len(logits)), targets] = share
    else:
        truth = np.where(targets > 0, share, 1 - share)

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        if not exclusive:
            return float(np.mean(np.logaddexp(0, scaled) - truth * scaled))
        highest = scaled.max(axis=1, keepdims=True)
        log_sums = highest + np.log(np.exp(scaled - highest).sum(axis=1, keepdims=True))
        return float(np.mean((truth * (log_sums - scaled)).sum(axis=1)))

    if np.ptp(logits) == 0:
        return 1.0
    found = minimize_scalar(loss, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded", options={"xatol": 1e-4})
    return round(float(np.exp(found.x)), 6)


def threshold(probabilities: Floats, targets: NDArray[np.int64]) -> float:
    """Return the probability from which a label is called so that the Matthews correlation is greatest.

    It lies in the middle of two neighbours; of equally good ones the one nearest to one half is taken. With fewer than ten
    sequences of which the label is true, or of which it is not, it is one half.

    Args:
        probabilities: of the label; shape (sequences,).
        targets: 1 where it is true, else 0; shape (sequences,).
    """
    true = int(targets.sum())
    false = len(targets) - true
    if min(true, false) < FEWEST:
        return 0.5
    order = np.argsort(-probabilities, kind="stable")
    ordered = probabilities[order]
    found = np.cumsum(targets[order])  # true ones among the first
    called = np.arange(1, len(ordered) + 1)
    borders = np.flatnonzero(np.diff(ordered) < 0)
    if not len(borders):
        return 0.5
    tp, fp = found[borders], called[borders] - found[borders]
    covariance = tp * (false - fp) - fp * (true - tp)
    mcc = covariance / np.sqrt(called[borders] * (len(ordered) - called[borders]) * float(true) * false)
    middles = (ordered[borders] + ordered[borders + 1]) / 2
    best = np.flatnonzero(mcc >= mcc.max() - NEAREST_FIRST)
    chosen = middles[best][np.argmin(np.abs(middles[best] - 0.5))]
    return round(float(np.clip(chosen, LEAST, 1 - LEAST)), DIGITS)
