"""Metrics, effect sizes, tests, and how sure they are: bootstrap intervals and false discoveries.

The numbers come from scikit-learn and scipy; what is undefined (one class alone, no variance, an empty group) is NaN.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnalm.methods import weighted_statistics as weighted

Floats = NDArray[np.float64]
Statistic = Callable[..., float]

DRAWN_AT_ONCE = 1 << 20  # rows; the memory of a bootstrap is some 50 bytes a row drawn at once
ENOUGH = 0.5  # of the resamples must have a value


class Interval(NamedTuple):
    """The two ends of a confidence interval."""

    low: float
    high: float


class Tested(NamedTuple):
    """A test's statistic and its two-sided p."""

    statistic: float
    p: float


UNDEFINED = Tested(math.nan, math.nan)


def mean(values: ArrayLike) -> float:
    """Return the arithmetic mean."""
    return float(np.mean(np.asarray(values, dtype=np.float64))) if np.size(values) else math.nan


def median(values: ArrayLike) -> float:
    """Return the median."""
    return float(np.median(np.asarray(values, dtype=np.float64))) if np.size(values) else math.nan


def accuracy(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Return the share of rows whose prediction is the truth."""
    return mean(np.asarray(truth) == np.asarray(predicted))


def balanced_accuracy(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Return the mean over the true classes of the share that is found (recall); NaN of fewer than two classes."""
    from sklearn.metrics import balanced_accuracy_score

    with _quiet():
        return float(balanced_accuracy_score(truth, predicted)) if _varied(truth) else math.nan


def macro_f1(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Return the mean of F1 over the classes that are true or predicted; a class never predicted rightly counts 0."""
    from sklearn.metrics import f1_score

    return float(f1_score(truth, predicted, average="macro", zero_division=0)) if np.size(truth) else math.nan


def mcc(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Return the Matthews correlation coefficient, of two or more classes (Gorodkin 2004); NaN if one side is constant."""
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(truth, predicted)) if _varied(truth) and _varied(predicted) else math.nan


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the area under the receiver operating characteristic.

    Args:
        labels: true (or 1) where a row is positive.
        scores: the higher, the more likely positive.
    """
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(np.asarray(labels).astype(bool), scores)) if _varied(labels) else math.nan


def auprc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the average precision, the area under the precision-recall curve without interpolation; as `auroc`."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(np.asarray(labels).astype(bool), scores)) if _varied(labels) else math.nan


def r2(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Return the coefficient of determination; negative if worse than the mean, NaN if the truth is constant."""
    from sklearn.metrics import r2_score

    return float(r2_score(truth, predicted)) if _varied(truth) else math.nan


def pearson(first: ArrayLike, second: ArrayLike) -> float:
    """Return Pearson's correlation; NaN if one side is constant."""
    from scipy.stats import pearsonr

    return float(pearsonr(first, second).statistic) if _varied(first) and _varied(second) else math.nan


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Return Spearman's rank correlation; NaN if one side is constant."""
    from scipy.stats import spearmanr

    return float(spearmanr(first, second).statistic) if _varied(first) and _varied(second) else math.nan


def mean_over_classes(metric: Statistic, truth: ArrayLike, scores: Floats) -> float:
    """Return the mean of a binary metric such as `auroc` over the classes, each against all others.

    Args:
        metric: of labels and scores.
        truth: the number of each row's class.
        scores: shape (rows, classes).

    Classes that no row has are left out.
    """
    codes = np.asarray(truth)
    return mean([metric(codes == code, scores[:, code]) for code in np.unique(codes)])


def macro_auroc(flags: ArrayLike, scores: ArrayLike) -> float:
    """Return the mean over labels of `auroc`; labels that are true of every row or of none are left out.

    Args:
        flags: which labels are true; shape (rows, labels).
        scores: same shape.
    """
    return _mean_of_labels(auroc, flags, scores)


def macro_auprc(flags: ArrayLike, scores: ArrayLike) -> float:
    """Return the mean over labels of `auprc`; as `macro_auroc`."""
    return _mean_of_labels(auprc, flags, scores)


def label_f1(flags: ArrayLike, called: ArrayLike) -> float:
    """Return the mean over labels of F1; one that is neither true nor called of any row is left out.

    Args:
        flags: which labels are true; shape (rows, labels).
        called: which are said to be; same shape.
    """
    true, said = np.asarray(flags).astype(bool), np.asarray(called).astype(bool)
    both, either = (true & said).sum(axis=0), true.sum(axis=0) + said.sum(axis=0)
    return mean(2 * both[either > 0] / either[either > 0])


def _mean_of_labels(metric: Statistic, flags: ArrayLike, scores: ArrayLike) -> float:
    found = [metric(true, said) for true, said in zip(np.asarray(flags).T, np.asarray(scores).T, strict=True)]
    return mean([value for value in found if not math.isnan(value)])


def difference_of_means(first: ArrayLike, second: ArrayLike) -> float:
    """Return mean of the first group − mean of the second."""
    return mean(first) - mean(second)


def difference_of_medians(first: ArrayLike, second: ArrayLike) -> float:
    """Return median of the first group − median of the second."""
    return median(first) - median(second)


def cliffs_delta(first: ArrayLike, second: ArrayLike) -> float:
    """Return P(first > second) − P(first < second), from −1 to 1 (Cliff 1993, Psychol. Bull. 114), from U."""
    from scipy.stats import mannwhitneyu

    pairs = np.size(first) * np.size(second)
    if not pairs:
        return math.nan
    return float(2 * mannwhitneyu(first, second, method="asymptotic").statistic / pairs - 1)


def hedges_g(first: ArrayLike, second: ArrayLike) -> float:
    """Return the difference of means in pooled standard deviations, times Hedges' factor for small groups.

    NaN if a group has fewer than two members, or neither varies (Hedges 1981, J. Educ. Stat. 6).
    """
    one, other = (np.asarray(values, dtype=np.float64) for values in (first, second))
    if min(len(one), len(other)) < 2 or not (_varied(one) or _varied(other)):
        return math.nan
    freedom = len(one) + len(other) - 2
    pooled = math.sqrt(sum(((group - group.mean()) ** 2).sum() for group in (one, other)) / freedom)
    return float(weighted.small_sample_correction(freedom)) * difference_of_means(one, other) / pooled


def welch(first: ArrayLike, second: ArrayLike) -> Tested:
    """Return Welch's t-test of independent groups, which may differ in variance."""
    from scipy.stats import ttest_ind

    if min(np.size(first), np.size(second)) < 2 or not (_varied(first) or _varied(second)):
        return UNDEFINED
    with _quiet():
        return _test(ttest_ind(first, second, equal_var=False))


def mann_whitney(first: ArrayLike, second: ArrayLike) -> Tested:
    """Return the Mann-Whitney U test of independent groups; exact where one has at most 8 members and none are tied."""
    from scipy.stats import mannwhitneyu

    if not np.size(first) or not np.size(second) or not _varied(np.concatenate([first, second])):
        return UNDEFINED
    return _test(mannwhitneyu(first, second))


def kruskal_wallis(groups: Sequence[ArrayLike]) -> Tested:
    """Return the Kruskal-Wallis H test: do any of several independent groups differ in their ranks?"""
    from scipy.stats import kruskal

    given = [np.asarray(group) for group in groups if np.size(group)]
    return _test(kruskal(*given)) if len(given) > 1 and _varied(np.concatenate(given)) else UNDEFINED


def paired_t(first: ArrayLike, second: ArrayLike) -> Tested:
    """Return the t-test of matched rows: is the mean of their differences zero?"""
    from scipy.stats import ttest_rel

    if not _varied(np.asarray(first) - np.asarray(second)):
        return UNDEFINED
    with _quiet():
        return _test(ttest_rel(first, second))


def wilcoxon(first: ArrayLike, second: ArrayLike) -> Tested:
    """Return Wilcoxon's signed-rank test of matched rows; rows without difference are left out."""
    from scipy.stats import wilcoxon as signed_rank

    if not np.any(np.asarray(first) != np.asarray(second)):
        return UNDEFINED
    with _quiet():
        return _test(signed_rank(first, second))


def false_discovery(p: ArrayLike, method: str = "bh") -> Floats:
    """Return p adjusted to control the false discovery rate over all of them; NaN stays and does not count.

    `bh` is of Benjamini and Hochberg (1995), `by` of Benjamini and Yekutieli (2001), which holds for any dependence.
    """
    from scipy.stats import false_discovery_control

    adjusted = np.array(p, dtype=np.float64)
    defined = ~np.isnan(adjusted)
    if defined.any():
        adjusted[defined] = false_discovery_control(adjusted[defined], method=method)
    return adjusted


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
        statistic: a function of the arrays; those of this module are quick, any other is called for every resample.
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


def _varied(values: ArrayLike) -> bool:
    given = np.asarray(values)
    return bool(given.size) and bool((given != given.flat[0]).any())


def _test(found: Any) -> Tested:
    return Tested(float(found.statistic), float(found.pvalue))


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what libraries say of nearly equal values and of classes that were never predicted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# What many resamples have at once.
QUICK: dict[Statistic, weighted.WeightedStatistic] = {
    statistic: getattr(weighted, statistic.__name__)
    for statistic in (
        *(mean, median, accuracy, balanced_accuracy, macro_f1, mcc, auroc, auprc, r2, pearson, spearman),
        *(macro_auroc, macro_auprc, label_f1),
        *(difference_of_means, difference_of_medians, cliffs_delta, hedges_g),
    )
}
