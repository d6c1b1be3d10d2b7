"""How sure a statistic is: bootstrap intervals of rows, of whole clusters, of two groups, of blocks."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnalm.methods import statistics
from dnalm.methods import weighted_statistics as weighted
from dnalm.methods.statistics import Statistic

Floats = NDArray[np.float64]

DRAWN_AT_ONCE = 1 << 20  # rows; the memory of a bootstrap is some 50 bytes a row drawn at once
ENOUGH = 0.5  # of the resamples must have a value


class Interval(NamedTuple):
    """The two ends of a confidence interval."""

    low: float
    high: float


def bootstrap_interval(
    statistic: Statistic,
    arrays: Sequence[ArrayLike],
    clusters: ArrayLike | None = None,
    repeats: int = 1_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return the percentile bootstrap interval of a statistic (Efron 1979, Ann. Stat. 7).

    Args:
        statistic: a function of the arrays; those of `dnalm.methods.statistics` are quick, others are called every resample.
        arrays: one value a row each; rows are drawn with replacement, the same of all arrays.
        clusters: a label a row; whole clusters are drawn instead of rows, which may then depend on one another within
            a cluster (Davison and Hinkley 1997, section 3.8).
        repeats: resamples.
        confidence: of the interval, between 0 and 1.
        seed: equal seeds give equal intervals.

    NaN where there are fewer than two rows or clusters, or where half of the resamples have no value.
    """
    given = [np.asarray(values) for values in arrays]
    drawn = _drawn(len(given[0]), clusters, None, repeats, seed)
    return _interval((_values(statistic, given, weights) for weights in drawn), confidence)


def interval_of_blocks(
    statistic: Callable[[Floats], Floats], counts: Floats, repeats: int = 1_000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Return the percentile bootstrap interval of a statistic of counts, of which whole blocks are drawn.

    Args:
        statistic: from counts of shape (resamples, columns) to one value a resample.
        counts: shape (blocks, columns); those of a resample are the sums over its blocks.
        repeats: resamples.
        confidence: of the interval, between 0 and 1.
        seed: equal seeds give equal intervals.

    NaN where there are fewer than two blocks, or where half of the resamples have no value.
    """
    drawn = _drawn(len(counts), None, None, repeats, seed)
    at_once = max(1, DRAWN_AT_ONCE // max(1, counts.shape[1]))
    batches = (
        statistic(weights[start : start + at_once] @ counts)
        for weights in drawn
        for start in range(0, len(weights), at_once)
    )
    return _interval(batches, confidence)


def bootstrap_two_groups(
    statistic: Statistic,
    first: ArrayLike,
    second: ArrayLike,
    clusters: tuple[ArrayLike, ArrayLike] | None = None,
    repeats: int = 1_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return the percentile bootstrap interval of a statistic of two independent groups, as `bootstrap_interval`.

    Each group is drawn anew by itself; with clusters, a label a member of each group, whole clusters are drawn, which
    may have members in both.
    """
    values = np.concatenate([np.asarray(first), np.asarray(second)])
    in_first = np.arange(len(values)) < np.size(first)
    labels = None if clusters is None else np.concatenate([np.asarray(labels) for labels in clusters])

    def of_groups(drawn: NDArray[Any], inside: NDArray[np.bool_]) -> float:
        return statistic(drawn[inside], drawn[~inside])

    quick = QUICK.get(statistic)
    pooled = _drawn(len(values), labels, in_first, repeats, seed)
    return _interval((_values(of_groups, [values, in_first], weights, quick) for weights in pooled), confidence)


def bootstrap_difference(
    statistic: Statistic,
    truth: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    clusters: ArrayLike | None = None,
    repeats: int = 1_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return the percentile bootstrap interval of statistic(truth, first) − statistic(truth, second).

    The same rows are drawn for both, so that what is hard for both does not widen it. Arguments as `bootstrap_interval`.
    """
    true, one, other = (np.asarray(values) for values in (truth, first, second))
    drawn = _drawn(len(true), clusters, None, repeats, seed)
    differences = (
        _values(statistic, [true, one], weights) - _values(statistic, [true, other], weights) for weights in drawn
    )
    return _interval(differences, confidence)


def _drawn(
    rows: int, clusters: ArrayLike | None, strata: NDArray[np.bool_] | None, repeats: int, seed: int
) -> Iterator[Floats]:
    """Yield how often each row is drawn, shape (resamples, rows), some resamples at once; nothing if there is no choice.

    Without clusters, rows that are in the stratum and those that are not are drawn by themselves.
    """
    generator = np.random.default_rng(seed)
    codes = np.arange(rows) if clusters is None else np.unique(np.asarray(clusters), return_inverse=True)[1]
    units = len(np.unique(codes))
    parts = [np.arange(units)]
    if strata is not None and clusters is None:
        parts = [part for part in (np.flatnonzero(strata), np.flatnonzero(~strata)) if len(part)]
    if units < 2:
        return
    at_once = max(1, DRAWN_AT_ONCE // rows)
    for start in range(0, repeats, at_once):
        number = min(at_once, repeats - start)
        drawn = np.zeros((number, units))
        for part in parts:
            chosen = generator.integers(0, len(part), (number, len(part)))
            chosen += len(part) * np.arange(number)[:, None]
            drawn[:, part] = np.bincount(chosen.ravel(), minlength=number * len(part)).reshape(number, -1)
        yield drawn if clusters is None else drawn[:, codes]


def _values(
    statistic: Statistic, arrays: list[NDArray[Any]], weights: Floats, quick: weighted.WeightedStatistic | None = None
) -> Floats:
    """Return the statistic of every resample, at once where it can be."""
    quick = quick or QUICK.get(statistic)
    if quick:
        return quick(*arrays, weights)
    repeated = weights.astype(np.int64)
    return np.array([statistic(*(np.repeat(values, times, axis=0) for values in arrays)) for times in repeated])


def _interval(batches: Iterator[Floats], confidence: float) -> Interval:
    values = np.concatenate([np.empty(0), *batches])
    defined = values[~np.isnan(values)]
    if not len(defined) or len(defined) < ENOUGH * len(values):
        return Interval(math.nan, math.nan)
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


# What many resamples have at once.
QUICK: dict[Statistic, weighted.WeightedStatistic] = {
    getattr(statistics, name): getattr(weighted, name)
    for name in (
        *("mean", "median", "accuracy", "balanced_accuracy", "macro_f1", "mcc", "auroc", "auprc", "r2", "pearson"),
        *("spearman", "macro_auroc", "macro_auprc", "label_f1"),
        *("difference_of_means", "difference_of_medians", "cliffs_delta", "hedges_g"),
    )
}
