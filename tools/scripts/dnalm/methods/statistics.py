"""Metrics, effect sizes, tests and false discoveries.

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
