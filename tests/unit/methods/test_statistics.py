"""Statistics against scikit-learn, scipy and slow, obvious re-computations."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from dnalm.methods import statistics
from dnalm.methods.bootstrap import bootstrap_interval
from dnalm.methods.statistics import (
    cliffs_delta,
    false_discovery,
    hedges_g,
    mann_whitney,
    mean_over_classes,
    paired_t,
    welch,
    wilcoxon,
)
from labelled_rows import LabelledRows, labelled_rows
from scipy import stats
from sklearn import metrics


@pytest.fixture
def rows() -> LabelledRows:
    return labelled_rows(np.random.default_rng(0))


def test_metrics_are_those_of_scikit_learn_and_scipy(rows: LabelledRows) -> None:
    flags, flag_scores = rows.flags, rows.flag_scores
    expected = {
        "accuracy": metrics.accuracy_score(rows.classes, rows.predicted),
        "balanced_accuracy": metrics.recall_score(rows.classes, rows.predicted, average="macro", labels=[0, 1, 2]),
        "macro_f1": metrics.f1_score(rows.classes, rows.predicted, average="macro"),
        "mcc": metrics.matthews_corrcoef(rows.classes, rows.predicted),
        "auroc": metrics.roc_auc_score(rows.labels, rows.scores),
        "auprc": metrics.average_precision_score(rows.labels, rows.scores),
        "r2": metrics.r2_score(rows.scores, rows.others),
        "pearson": np.corrcoef(rows.scores, rows.others)[0, 1],
        "spearman": np.corrcoef(stats.rankdata(rows.scores), stats.rankdata(rows.others))[0, 1],
        "macro_auroc": metrics.roc_auc_score(flags[:, :3], flag_scores[:, :3], average="macro"),
        "macro_auprc": metrics.average_precision_score(flags[:, :3], flag_scores[:, :3], average="macro"),
        "label_f1": metrics.f1_score(flags, flag_scores > 0.5, average="macro"),
    }
    for name, value in expected.items():
        assert getattr(statistics, name)(*rows.arrays(name)) == pytest.approx(value, abs=1e-12), name


def test_classes_may_have_names(rows: LabelledRows) -> None:
    names = np.array(["promoter", "enhancer", "silencer", "none"])
    named = (names[rows.classes], names[rows.predicted])
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "mcc"):
        metric = getattr(statistics, name)
        assert metric(*named) == pytest.approx(metric(*rows.arrays(name)))
        assert bootstrap_interval(metric, named) == pytest.approx(bootstrap_interval(metric, rows.arrays(name)))


@pytest.mark.parametrize(
    ("name", "arrays"),
    [
        ("mean", ([],)),
        ("median", ([],)),
        ("accuracy", ([], [])),
        ("macro_f1", ([], [])),
        ("balanced_accuracy", ([1, 1], [1, 0])),
        ("mcc", ([1, 1], [1, 0])),
        ("mcc", ([1, 0], [1, 1])),
        ("auroc", ([1, 1], [0.1, 0.2])),
        ("auprc", ([0, 0], [0.1, 0.2])),
        ("auprc", ([1, 1], [0.1, 0.2])),
        ("r2", ([0.1, 0.1, 0.1], [0.1, 0.2, 0.3])),
        ("pearson", ([0.1, 0.1, 0.1], [0.1, 0.2, 0.3])),
        ("spearman", ([0.1, 0.2, 0.3], [0.1, 0.1, 0.1])),
        ("cliffs_delta", ([], [1.0])),
        ("hedges_g", ([1.0], [2.0, 3.0])),
        ("hedges_g", ([1.0, 1.0], [2.0, 2.0])),
    ],
)
def test_what_is_undefined_is_nan(name: str, arrays: tuple[list[float], ...]) -> None:
    assert math.isnan(getattr(statistics, name)(*arrays))


def test_effect_sizes_are_their_definitions(rows: LabelledRows) -> None:
    first, second = rows.scores[rows.labels], rows.scores[~rows.labels]
    freedom = len(rows.scores) - 2
    pairs = np.sign(first[:, None] - second[None, :])
    assert cliffs_delta(first, second) == pytest.approx(pairs.mean())
    assert cliffs_delta(second, first) == pytest.approx(-pairs.mean())
    spread = np.sqrt(((len(first) - 1) * first.var(ddof=1) + (len(second) - 1) * second.var(ddof=1)) / freedom)
    correction = 1 - 3 / (4 * freedom - 1)  # the usual approximation
    assert hedges_g(first, second) == pytest.approx(correction * (first.mean() - second.mean()) / spread, rel=1e-4)


def test_tests_are_those_of_scipy(rows: LabelledRows) -> None:
    first, second = rows.scores[:30], rows.scores[30:]
    expected: dict[Callable[..., statistics.Tested], object] = {
        welch: stats.ttest_ind(first, second, equal_var=False),
        mann_whitney: stats.mannwhitneyu(first, second, alternative="two-sided"),
        paired_t: stats.ttest_rel(first, second),
        wilcoxon: stats.wilcoxon(first, second),
    }
    for test, found in expected.items():
        assert test(first, second) == (found.statistic, found.pvalue)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("test", "first", "second"),
    [
        (welch, [1.0], [2.0, 3.0]),
        (welch, [1.0, 1.0], [2.0, 2.0]),
        (mann_whitney, [], [2.0]),
        (mann_whitney, [2.0, 2.0], [2.0]),
        (paired_t, [1.0], [2.0]),
        (paired_t, [1.0, 2.0], [2.0, 3.0]),
        (wilcoxon, [1.0, 2.0], [1.0, 2.0]),
    ],
)
def test_a_test_without_variance_or_members_is_nan(
    test: Callable[..., statistics.Tested], first: list[float], second: list[float]
) -> None:
    assert all(map(math.isnan, test(first, second)))


def test_false_discoveries_are_controlled_over_what_is_defined() -> None:
    p = np.array([0.01, np.nan, 0.02, 0.5])
    found = false_discovery(p)
    assert found[[0, 2, 3]] == pytest.approx([0.03, 0.03, 0.5])
    assert math.isnan(found[1])
    assert p[0] == 0.01
    assert np.isnan(false_discovery([np.nan])).all()
    assert (false_discovery(p, "by")[[0, 2, 3]] >= found[[0, 2, 3]]).all()


def test_a_binary_metric_is_averaged_over_the_classes_that_are_there(rows: LabelledRows) -> None:
    classes = rows.classes
    probabilities = np.random.default_rng(4).dirichlet(np.ones(5), len(classes))
    expected = np.mean([metrics.roc_auc_score(code == classes, probabilities[:, code]) for code in range(3)])
    assert mean_over_classes(statistics.auroc, classes, probabilities) == pytest.approx(expected)
