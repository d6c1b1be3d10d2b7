"""Bootstrap intervals against scipy and slow, obvious re-computations."""

import math

import numpy as np
import pytest
from dnalm.methods import bootstrap, statistics
from dnalm.methods.bootstrap import (
    QUICK,
    bootstrap_difference,
    bootstrap_interval,
    bootstrap_two_groups,
)
from labelled_rows import CLUSTERS, LABELS, OF_GROUPS, OF_ROWS, SCORES
from scipy import stats


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
    monkeypatch.setattr(bootstrap, "DRAWN_AT_ONCE", 100)
    assert bootstrap_interval(statistics.median, (SCORES,), seed=7) == first


@pytest.mark.parametrize("clusters", [None, ["a"]])
def test_one_row_or_one_cluster_has_no_interval(clusters: list[str] | None) -> None:
    assert all(map(math.isnan, bootstrap_interval(statistics.mean, ([1.0],), clusters)))
    assert all(map(math.isnan, bootstrap_interval(statistics.mean, ([1.0, 2.0],), ["a", "a"])))
    assert all(map(math.isnan, bootstrap_interval(statistics.auroc, ([True, True], [0.1, 0.2]))))
    assert all(map(math.isnan, bootstrap_interval(statistics.mean, ([],))))


def test_the_interval_of_a_difference_is_of_the_same_rows_for_both() -> None:
    """Two scores that err alike differ surely, though neither is sure by itself."""
    better = SCORES + 0.05 * LABELS
    found = bootstrap_difference(statistics.auroc, LABELS, better, SCORES)
    alone = bootstrap_interval(statistics.auroc, (LABELS, SCORES))
    assert 0 <= found.low <= statistics.auroc(LABELS, better) - statistics.auroc(LABELS, SCORES) <= found.high
    assert found.high - found.low < 0.2 * (alone.high - alone.low)
    assert bootstrap_difference(statistics.auroc, LABELS, SCORES, SCORES) == (0, 0)
