"""Statistics against scikit-learn, scipy and slow, obvious re-computations."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from dnalm.methods import statistics
from dnalm.methods.statistics import (
    QUICK,
    bootstrap_difference,
    bootstrap_interval,
    bootstrap_two_groups,
    cliffs_delta,
    false_discovery,
    hedges_g,
    mann_whitney,
    mean_over_classes,
    paired_t,
    welch,
    wilcoxon,
)
from scipy import stats
from sklearn import metrics

GENERATOR = np.random.default_rng(0)
ROWS = 60
CLASSES = GENERATOR.integers(0, 3, ROWS)
PREDICTED = np.where(GENERATOR.random(ROWS) < 0.6, CLASSES, GENERATOR.integers(0, 4, ROWS))
LABELS = GENERATOR.random(ROWS) < 0.3
SCORES = np.round(GENERATOR.normal(size=ROWS) + LABELS, 1)  # with ties
OTHERS = np.round(SCORES + GENERATOR.normal(size=ROWS), 1)
CLUSTERS = np.array([f"gene {number}" for number in GENERATOR.integers(0, 12, ROWS)])

FLAGS = np.stack([CLASSES == 0, CLASSES == 1, CLASSES == 2, np.zeros(ROWS, dtype=bool)], axis=1)  # one is never true
OF_FLAGS = np.round(FLAGS + GENERATOR.normal(size=FLAGS.shape), 1)

OF_ROWS: dict[str, tuple[np.ndarray, ...]] = {
    "mean": (SCORES,),
    "median": (SCORES,),
    "accuracy": (CLASSES, PREDICTED),
    "balanced_accuracy": (CLASSES, PREDICTED),
    "macro_f1": (CLASSES, PREDICTED),
    "mcc": (CLASSES, PREDICTED),
    "auroc": (LABELS, SCORES),
    "auprc": (LABELS, SCORES),
    "r2": (SCORES, OTHERS),
    "pearson": (SCORES, OTHERS),
    "spearman": (SCORES, OTHERS),
    "macro_auroc": (FLAGS, OF_FLAGS),
    "macro_auprc": (FLAGS, OF_FLAGS),
    "label_f1": (FLAGS, OF_FLAGS > 0.5),
}
OF_GROUPS = ["difference_of_means", "difference_of_medians", "cliffs_delta", "hedges_g"]


def test_metrics_are_those_of_scikit_learn_and_scipy() -> None:
    expected = {
        "accuracy": metrics.accuracy_score(CLASSES, PREDICTED),
        "balanced_accuracy": metrics.recall_score(CLASSES, PREDICTED, average="macro", labels=[0, 1, 2]),
        "macro_f1": metrics.f1_score(CLASSES, PREDICTED, average="macro"),
        "mcc": metrics.matthews_corrcoef(CLASSES, PREDICTED),
        "auroc": metrics.roc_auc_score(LABELS, SCORES),
        "auprc": metrics.average_precision_score(LABELS, SCORES),
        "r2": metrics.r2_score(SCORES, OTHERS),
        "pearson": np.corrcoef(SCORES, OTHERS)[0, 1],
        "spearman": np.corrcoef(stats.rankdata(SCORES), stats.rankdata(OTHERS))[0, 1],
        "macro_auroc": metrics.roc_auc_score(FLAGS[:, :3], OF_FLAGS[:, :3], average="macro"),
        "macro_auprc": metrics.average_precision_score(FLAGS[:, :3], OF_FLAGS[:, :3], average="macro"),
        "label_f1": metrics.f1_score(FLAGS, OF_FLAGS > 0.5, average="macro"),
    }
    for name, value in expected.items():
        assert getattr(statistics, name)(*OF_ROWS[name]) == pytest.approx(value, abs=1e-12), name


def test_classes_may_have_names() -> None:
    names = np.array(["promoter", "enhancer", "silencer", "none"])
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "mcc"):
        metric = getattr(statistics, name)
        assert metric(names[CLASSES], names[PREDICTED]) == pytest.approx(metric(CLASSES, PREDICTED))
        assert bootstrap_interval(metric, (names[CLASSES], names[PREDICTED])) == pytest.approx(
            bootstrap_interval(metric, (CLASSES, PREDICTED))
        )


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


@pytest.mark.parametrize("name", OF_ROWS)
@pytest.mark.parametrize("clusters", [None, CLUSTERS], ids=["rows", "clusters"])
def test_a_quick_bootstrap_equals_one_resample_after_the_other(name: str, clusters: np.ndarray | None) -> None:
    statistic = getattr(statistics, name)

    def slow(*arrays: np.ndarray) -> float:
        return statistic(*arrays)

    found = bootstrap_interval(statistic, OF_ROWS[name], clusters, repeats=120, seed=3)
    assert found == pytest.approx(bootstrap_interval(slow, OF_ROWS[name], clusters, repeats=120, seed=3), abs=1e-12)
    assert found.low < statistic(*OF_ROWS[name]) < found.high


@pytest.mark.parametrize("name", OF_GROUPS)
@pytest.mark.parametrize("clustered", [False, True])
def test_a_quick_bootstrap_of_two_groups_equals_a_slow_one(name: str, clustered: bool) -> None:
    statistic = getattr(statistics, name)

    def slow(first: np.ndarray, second: np.ndarray) -> float:
        return statistic(first, second)

    groups = (SCORES[LABELS], SCORES[~LABELS])
    clusters = (CLUSTERS[LABELS], CLUSTERS[~LABELS]) if clustered else None
    found, expected = (
        bootstrap_two_groups(measure, *groups, clusters, repeats=120, seed=3) for measure in (statistic, slow)
    )
    assert found == pytest.approx(expected, abs=1e-12)
    assert found.low < statistic(*groups) < found.high


@pytest.mark.parametrize("name", [*OF_ROWS, *OF_GROUPS])
def test_small_and_degenerate_resamples_agree_too(name: str) -> None:
    """Few rows and few values: many resamples are constant, of one class, or without one of the groups."""
    statistic, quick = getattr(statistics, name), QUICK[getattr(statistics, name)]
    generator = np.random.default_rng(5)
    for rows in range(1, 7):
        weights = generator.multinomial(rows, np.full(rows, 1 / rows), size=60).astype(float)
        first, second = np.round(generator.random((2, rows)), 1) + 0.1
        labels, others = generator.random((2, rows)) < 0.5
        grouped = name in OF_GROUPS
        arrays = (first, labels) if grouped else (first, second)
        if name in ("accuracy", "balanced_accuracy", "macro_f1", "mcc"):
            arrays = (labels, others)
        elif name in ("auroc", "auprc"):
            arrays = (labels, first)
        elif name in ("macro_auroc", "macro_auprc", "label_f1"):
            arrays = (np.stack([labels, others], axis=1), np.stack([first, second], axis=1))
            arrays = (arrays[0], arrays[1] > 0.6) if name == "label_f1" else arrays
        found = quick(*arrays[: len(OF_ROWS.get(name, (0, 0)))], weights)
        for row, times in enumerate(weights.astype(int)):
            one, other = (np.repeat(values, times, axis=0) for values in arrays)
            expected = statistic(one[other], one[~other]) if grouped else None
            if expected is None:
                expected = statistic(one) if name in ("mean", "median") else statistic(one, other)
            assert found[row] == pytest.approx(expected, abs=1e-9, nan_ok=True), (rows, row)


def test_an_interval_is_near_that_of_scipy() -> None:
    values = np.random.default_rng(1).exponential(size=400)
    expected = stats.bootstrap((values,), np.mean, n_resamples=4_000, method="percentile", rng=1).confidence_interval
    found = bootstrap_interval(statistics.mean, (values,), repeats=4_000)
    assert found == pytest.approx(tuple(expected), abs=0.02)


def test_an_interval_holds_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(2)
    samples = generator.normal(size=(300, 80))
    intervals = [bootstrap_interval(statistics.mean, (sample,), confidence=0.8, repeats=300) for sample in samples]
    assert 0.72 < np.mean([low < 0 < high for low, high in intervals]) < 0.86


def test_clusters_widen_an_interval_where_rows_repeat_one_another() -> None:
    """100 rows that are 10 rows, each ten times: the interval must be that of the 10."""
    values = np.random.default_rng(3).normal(size=10)
    repeated, clusters = np.repeat(values, 10), np.repeat(np.arange(10), 10)
    plain = bootstrap_interval(statistics.mean, (repeated,))
    clustered = bootstrap_interval(statistics.mean, (repeated,), clusters)
    assert clustered == pytest.approx(bootstrap_interval(statistics.mean, (values,)), abs=1e-12)
    assert clustered.high - clustered.low > 2.5 * (plain.high - plain.low)


def test_groups_keep_their_size_in_every_resample_unless_clusters_are_drawn() -> None:
    sizes = set()

    def difference(first: np.ndarray, second: np.ndarray) -> float:
        sizes.add((len(first), len(second)))
        return float(first.mean() - second.mean())

    bootstrap_two_groups(difference, SCORES[:20], SCORES[20:], repeats=20)
    assert sizes == {(20, 40)}
    bootstrap_two_groups(difference, SCORES[:20], SCORES[20:], (CLUSTERS[:20], CLUSTERS[20:]), repeats=20)
    assert len(sizes) > 10


def test_equal_seeds_give_equal_intervals_whatever_is_drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = bootstrap_interval(statistics.median, (SCORES,), seed=7)
    assert bootstrap_interval(statistics.median, (SCORES,), seed=7) == first
    assert bootstrap_interval(statistics.mean, (SCORES,), seed=8) != bootstrap_interval(statistics.mean, (SCORES,))
    monkeypatch.setattr(statistics, "DRAWN_AT_ONCE", 100)
    assert bootstrap_interval(statistics.median, (SCORES,), seed=7) == first


@pytest.mark.parametrize("clusters", [None, ["a"]])
def test_one_row_or_one_cluster_has_no_interval(clusters: list[str] | None) -> None:
    assert all(map(math.isnan, bootstrap_interval(statistics.mean, ([1.0],), clusters)))
    assert all(map(math.isnan, bootstrap_interval(statistics.mean, ([1.0, 2.0],), ["a", "a"])))
    assert all(map(math.isnan, bootstrap_interval(statistics.auroc, ([True, True], [0.1, 0.2]))))
    assert all(map(math.isnan, bootstrap_interval(statistics.mean, ([],))))


def test_effect_sizes_are_their_definitions() -> None:
    first, second = SCORES[LABELS], SCORES[~LABELS]
    pairs = np.sign(first[:, None] - second[None, :])
    assert cliffs_delta(first, second) == pytest.approx(pairs.mean())
    assert cliffs_delta(second, first) == pytest.approx(-pairs.mean())
    spread = np.sqrt(
        ((len(first) - 1) * first.var(ddof=1) + (len(second) - 1) * second.var(ddof=1)) / (len(SCORES) - 2)
    )
    correction = 1 - 3 / (4 * (len(SCORES) - 2) - 1)  # the usual approximation
    assert hedges_g(first, second) == pytest.approx(correction * (first.mean() - second.mean()) / spread, rel=1e-4)


def test_tests_are_those_of_scipy() -> None:
    first, second = SCORES[:30], SCORES[30:]
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


def test_a_binary_metric_is_averaged_over_the_classes_that_are_there() -> None:
    probabilities = np.random.default_rng(4).dirichlet(np.ones(5), ROWS)
    expected = np.mean([metrics.roc_auc_score(code == CLASSES, probabilities[:, code]) for code in range(3)])
    assert mean_over_classes(statistics.auroc, CLASSES, probabilities) == pytest.approx(expected)


def test_the_interval_of_a_difference_is_of_the_same_rows_for_both() -> None:
    """Two scores that err alike differ surely, though neither is sure by itself."""
    better = SCORES + 0.05 * LABELS
    found = bootstrap_difference(statistics.auroc, LABELS, better, SCORES)
    alone = bootstrap_interval(statistics.auroc, (LABELS, SCORES))
    assert 0 <= found.low <= statistics.auroc(LABELS, better) - statistics.auroc(LABELS, SCORES) <= found.high
    assert found.high - found.low < 0.2 * (alone.high - alone.low)
    assert bootstrap_difference(statistics.auroc, LABELS, SCORES, SCORES) == (0, 0)
