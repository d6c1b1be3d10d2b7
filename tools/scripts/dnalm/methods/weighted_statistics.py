"""Statistics of many resamples at once: every row has a weight in each, how often it was drawn.

Rows are sorted once, and each resample costs sums along them. Each function takes its arrays, one value a row, and
weights, shape (resamples, rows), whole numbers; it returns one value a resample, NaN where it is undefined there, and
equals the function of the same name in `dnalm.methods.statistics` on the rows repeated by their weights.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def mean(values: ArrayLike, weights: Floats) -> Floats:
    """Return the mean of each resample."""
    with np.errstate(invalid="ignore"):
        return weights @ _floats(values) / weights.sum(axis=1)


def median(values: ArrayLike, weights: Floats) -> Floats:
    """Return the median of each resample: the mean of the two in the middle where their number is even."""
    order = np.argsort(values)
    ordered = _floats(values)[order]
    drawn = np.cumsum(weights[:, order], axis=1)
    number = drawn[:, -1]
    last = len(ordered) - 1
    middle = [
        ordered[np.minimum((drawn <= place[:, None]).sum(axis=1), last)]
        for place in (np.floor((number - 1) / 2), np.floor(number / 2))
    ]
    return np.where(number > 0, (middle[0] + middle[1]) / 2, np.nan)


def accuracy(truth: ArrayLike, predicted: ArrayLike, weights: Floats) -> Floats:
    """Return the share of rows whose prediction is the truth."""
    return mean(np.asarray(truth) == np.asarray(predicted), weights)


def balanced_accuracy(truth: ArrayLike, predicted: ArrayLike, weights: Floats) -> Floats:
    """Return the mean over the classes of the truth of the share that is found."""
    right, true, _ = _counts(truth, predicted, weights)
    present = true > 0
    found = np.divide(right, true, out=np.zeros_like(right), where=present).sum(axis=1)
    classes = present.sum(axis=1)
    return np.where(classes > 1, found / np.maximum(classes, 1), np.nan)


def macro_f1(truth: ArrayLike, predicted: ArrayLike, weights: Floats) -> Floats:
    """Return the mean of F1 over the classes that are true or predicted."""
    right, true, claimed = _counts(truth, predicted, weights)
    present = true + claimed > 0
    scores = np.divide(2 * right, true + claimed, out=np.zeros_like(right), where=present).sum(axis=1)
    classes = present.sum(axis=1)
    return np.where(classes > 0, scores / np.maximum(classes, 1), np.nan)


def mcc(truth: ArrayLike, predicted: ArrayLike, weights: Floats) -> Floats:
    """Return the correlation coefficient of Matthews, in Gorodkin's (2004) form for any number of classes."""
    right, true, claimed = _counts(truth, predicted, weights)
    rows = true.sum(axis=1)
    covariance = right.sum(axis=1) * rows - (true * claimed).sum(axis=1)
    variances = (rows**2 - (true**2).sum(axis=1)) * (rows**2 - (claimed**2).sum(axis=1))
    return _ratio(covariance, np.sqrt(variances))


def auroc(labels: ArrayLike, scores: ArrayLike, weights: Floats) -> Floats:
    """Return the probability that a positive row scores above a negative one; ties count half."""
    positive = np.asarray(labels).astype(bool)
    order, starts = _ties(scores)
    above = _grouped(weights[:, order] * positive[order], starts)
    below = _grouped(weights[:, order] * ~positive[order], starts)
    lower = np.cumsum(below, axis=1) - below / 2
    return _ratio((above * lower).sum(axis=1), above.sum(axis=1) * below.sum(axis=1))


def auprc(labels: ArrayLike, scores: ArrayLike, weights: Floats) -> Floats:
    """Return the average precision: precision at each score, weighted by the recall gained there."""
    positive = np.asarray(labels).astype(bool)
    order, starts = _ties(-_floats(scores))
    gained = _grouped(weights[:, order] * positive[order], starts)
    called = np.cumsum(_grouped(weights[:, order], starts), axis=1)
    precision = np.divide(np.cumsum(gained, axis=1), called, out=np.zeros_like(called), where=called > 0)
    positives = gained.sum(axis=1)
    both = (positives > 0) & (positives < called[:, -1])
    return np.where(both, (gained * precision).sum(axis=1) / np.maximum(positives, 1), np.nan)


def macro_auroc(flags: ArrayLike, scores: ArrayLike, weights: Floats) -> Floats:
    """Return the mean over labels of `auroc`, where it is defined."""
    return _mean_of_labels(auroc, flags, scores, weights)


def macro_auprc(flags: ArrayLike, scores: ArrayLike, weights: Floats) -> Floats:
    """Return the mean over labels of `auprc`, where it is defined."""
    return _mean_of_labels(auprc, flags, scores, weights)


def label_f1(flags: ArrayLike, called: ArrayLike, weights: Floats) -> Floats:
    """Return the mean over labels of F1, of those that are true or called."""
    true, said = _floats(flags), _floats(called)
    either = weights @ (true + said)
    scores = np.divide(2 * (weights @ (true * said)), either, out=np.zeros_like(either), where=either > 0)
    return _ratio(scores.sum(axis=1), (either > 0).sum(axis=1).astype(np.float64))


def _mean_of_labels(metric: Callable[..., Floats], flags: ArrayLike, scores: ArrayLike, weights: Floats) -> Floats:
    total, defined = np.zeros(len(weights)), np.zeros(len(weights))
    for true, said in zip(np.asarray(flags).T, np.asarray(scores).T, strict=True):
        found = metric(true, said, weights)
        total += np.nan_to_num(found)
        defined += ~np.isnan(found)
    return _ratio(total, defined)


def r2(truth: ArrayLike, predicted: ArrayLike, weights: Floats) -> Floats:
    """Return the share of the truth's variance that the prediction explains."""
    true = _floats(truth)
    true, left = true - true.mean(), (true - _floats(predicted)) ** 2
    total = weights @ true**2 - (weights @ true) ** 2 / np.maximum(weights.sum(axis=1), 1)
    total[_constant(true, weights)] = 0
    return 1 - _ratio(weights @ left, total)


def pearson(first: ArrayLike, second: ArrayLike, weights: Floats) -> Floats:
    """Return the linear correlation."""
    x, y = (_floats(values) - _floats(values).mean() for values in (first, second))
    found = _correlation(np.broadcast_to(x, weights.shape), np.broadcast_to(y, weights.shape), weights)
    found[_constant(x, weights) | _constant(y, weights)] = np.nan
    return found


def spearman(first: ArrayLike, second: ArrayLike, weights: Floats) -> Floats:
    """Return the correlation of the ranks that rows have in their resample; equal ones share their mean rank."""
    return _correlation(_ranks(first, weights), _ranks(second, weights), weights)


def difference_of_means(values: ArrayLike, in_first: ArrayLike, weights: Floats) -> Floats:
    """Return mean of the first group − mean of the second."""
    first = np.asarray(in_first)
    return mean(values, weights * first) - mean(values, weights * ~first)


def difference_of_medians(values: ArrayLike, in_first: ArrayLike, weights: Floats) -> Floats:
    """Return median of the first group − median of the second."""
    first = np.asarray(in_first)
    return median(values, weights * first) - median(values, weights * ~first)


def cliffs_delta(values: ArrayLike, in_first: ArrayLike, weights: Floats) -> Floats:
    """Return P(first > second) − P(first < second)."""
    return 2 * auroc(in_first, values, weights) - 1


def hedges_g(values: ArrayLike, in_first: ArrayLike, weights: Floats) -> Floats:
    """Return the difference of means in pooled standard deviations, without the bias of small groups."""
    first, x = np.asarray(in_first), _floats(values)
    x = x - x.mean()
    numbers, means, squares = [], [], np.zeros(len(weights))
    for inside in (first, ~first):
        drawn = weights[:, inside]
        number = drawn.sum(axis=1)
        sums = drawn @ x[inside]
        squares += np.where(_constant(x[inside], drawn), 0, drawn @ x[inside] ** 2 - sums**2 / np.maximum(number, 1))
        numbers.append(number)
        means.append(_ratio(sums, number))
    freedom = numbers[0] + numbers[1] - 2
    defined = (numbers[0] > 1) & (numbers[1] > 1)
    spread = np.sqrt(_ratio(squares, np.where(defined, freedom, 0)))
    return small_sample_correction(freedom) * _ratio(means[0] - means[1], spread)


def small_sample_correction(freedom: ArrayLike) -> Floats:
    """Return Hedges' factor J of so many degrees of freedom (Hedges 1981, J. Educ. Stat. 6, equation 6e)."""
    from scipy.special import gammaln

    half = np.maximum(_floats(freedom), 2) / 2
    return np.exp(gammaln(half) - gammaln(half - 0.5)) / np.sqrt(half)


def _floats(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64)


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)


def _counts(truth: ArrayLike, predicted: ArrayLike, weights: Floats) -> tuple[Floats, Floats, Floats]:
    """Return what is right, what is true and what is predicted of each class, each of shape (resamples, classes)."""
    names, codes = np.unique(np.concatenate([np.asarray(truth), np.asarray(predicted)]), return_inverse=True)
    true, claimed = codes[: len(weights[0])], codes[len(weights[0]) :]
    right = true == claimed
    return (
        _sums(true[right], weights[:, right], len(names)),
        _sums(true, weights, len(names)),
        _sums(claimed, weights, len(names)),
    )


def _sums(codes: NDArray[np.int64], weights: Floats, classes: int) -> Floats:
    sums = np.zeros((len(weights), classes))
    if len(codes):
        order, starts = _ties(codes)
        sums[:, codes[order][starts]] = _grouped(weights[:, order], starts)
    return sums


def _ties(values: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the order of the values, and where in it each new value starts."""
    order = np.argsort(values, kind="stable")
    ordered = np.asarray(values)[order]
    return order, np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(order)])


def _grouped(ordered: Floats, starts: NDArray[np.int64]) -> Floats:
    return ordered if len(starts) == ordered.shape[1] else np.add.reduceat(ordered, starts, axis=1)


def _ranks(values: ArrayLike, weights: Floats) -> Floats:
    """Return each row's mid-rank in its resample, less their mean, shape (resamples, rows)."""
    order, starts = _ties(values)
    groups = np.zeros(len(order), dtype=np.int64)
    groups[starts[1:]] = 1
    place = np.empty_like(order)
    place[order] = np.cumsum(groups)
    drawn = _grouped(weights[:, order], starts)
    ranks = np.cumsum(drawn, axis=1) - (drawn - 1) / 2
    return (ranks - (weights.sum(axis=1, keepdims=True) + 1) / 2)[:, place]


def _correlation(x: Floats, y: Floats, weights: Floats) -> Floats:
    number = np.maximum(weights.sum(axis=1), 1)
    sums = [np.einsum("ij,ij->i", weights, values) for values in (x, y)]
    products = [np.einsum("ij,ij,ij->i", weights, one, other) for one, other in ((x, y), (x, x), (y, y))]
    covariance = products[0] - sums[0] * sums[1] / number
    variances = [np.maximum(products[n + 1] - sums[n] ** 2 / number, 0) for n in (0, 1)]
    return np.clip(_ratio(covariance, np.sqrt(variances[0] * variances[1])), -1, 1)


def _constant(values: Floats, weights: Floats) -> NDArray[np.bool_]:
    """Return for each resample whether all its rows have one value, exactly: no rounding looks like variance."""
    order, starts = _ties(values)
    return (_grouped(weights[:, order], starts) > 0).sum(axis=1) < 2


WeightedStatistic = Callable[..., Floats]
