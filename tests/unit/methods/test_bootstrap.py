"""Bootstrap intervals against scipy and slow, obvious re-computations."""

import math

import numpy as np
import pytest
from dnalm.methods import bootstrap, statistics, weighted_statistics
from dnalm.methods.bootstrap import QUICK, bootstrap_difference, bootstrap_interval, bootstrap_two_groups
from labelled_rows import STATISTICS_OF_GROUPS, STATISTICS_OF_ROWS, LabelledRows, labelled_rows
from scipy import stats


@pytest.fixture
def rows() -> LabelledRows:
    return labelled_rows(np.random.default_rng(0))


@pytest.mark.slow
@pytest.mark.parametrize("name", STATISTICS_OF_ROWS)
@pytest.mark.parametrize("clustered", [False, True], ids=["rows", "clusters"])
def test_a_quick_bootstrap_equals_one_resample_after_the_other(rows: LabelledRows, name: str, clustered: bool) -> None:
    statistic, arrays = getattr(statistics, name), rows.arrays(name)
    clusters = rows.clusters if clustered else None
    assert QUICK[statistic] is getattr(weighted_statistics, name)

    def slow(*arrays: np.ndarray) -> float:
        return statistic(*arrays)

    found = bootstrap_interval(statistic, arrays, clusters, repeats=120, seed=3)
    assert found == pytest.approx(bootstrap_interval(slow, arrays, clusters, repeats=120, seed=3), abs=1e-12)
    assert found.low < statistic(*arrays) < found.high


@pytest.mark.parametrize("name", STATISTICS_OF_GROUPS)
@pytest.mark.parametrize("clustered", [False, True])
def test_a_quick_bootstrap_of_two_groups_equals_a_slow_one(rows: LabelledRows, name: str, clustered: bool) -> None:
    statistic = getattr(statistics, name)
    assert QUICK[statistic] is getattr(weighted_statistics, name)

    def slow(first: np.ndarray, second: np.ndarray) -> float:
        return statistic(first, second)

    groups = (rows.scores[rows.labels], rows.scores[~rows.labels])
    clusters = (rows.clusters[rows.labels], rows.clusters[~rows.labels]) if clustered else None
    found, expected = (
        bootstrap_two_groups(measure, *groups, clusters, repeats=120, seed=3) for measure in (statistic, slow)
    )
    assert found == pytest.approx(expected, abs=1e-12)
    assert found.low < statistic(*groups) < found.high


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


def test_groups_keep_their_size_in_every_resample_unless_clusters_are_drawn(rows: LabelledRows) -> None:
    sizes, scores, clusters = set(), rows.scores, rows.clusters

    def difference(first: np.ndarray, second: np.ndarray) -> float:
        sizes.add((len(first), len(second)))
        return float(first.mean() - second.mean())

    bootstrap_two_groups(difference, scores[:20], scores[20:], repeats=20)
    assert sizes == {(20, 40)}
    bootstrap_two_groups(difference, scores[:20], scores[20:], (clusters[:20], clusters[20:]), repeats=20)
    assert len(sizes) > 10


def test_equal_seeds_give_equal_intervals_whatever_is_drawn_at_once(
    rows: LabelledRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = rows.scores
    first = bootstrap_interval(statistics.median, (scores,), seed=7)
    assert bootstrap_interval(statistics.median, (scores,), seed=7) == first
    assert bootstrap_interval(statistics.mean, (scores,), seed=8) != bootstrap_interval(statistics.mean, (scores,))
    monkeypatch.setattr(bootstrap, "DRAWN_AT_ONCE", 100)
    assert bootstrap_interval(statistics.median, (scores,), seed=7) == first


@pytest.mark.parametrize("clusters", [None, ["a"]])
def test_one_row_or_one_cluster_has_no_interval(clusters: list[str] | None) -> None:
    assert all(map(math.isnan, bootstrap_interval(statistics.mean, ([1.0],), clusters)))
    assert all(map(math.isnan, bootstrap_interval(statistics.mean, ([1.0, 2.0],), ["a", "a"])))
    assert all(map(math.isnan, bootstrap_interval(statistics.auroc, ([True, True], [0.1, 0.2]))))
    assert all(map(math.isnan, bootstrap_interval(statistics.mean, ([],))))


def test_the_interval_of_a_difference_is_of_the_same_rows_for_both(rows: LabelledRows) -> None:
    """Two scores that err alike differ surely, though neither is sure by itself."""
    labels, scores = rows.labels, rows.scores
    better = scores + 0.05 * labels
    found = bootstrap_difference(statistics.auroc, labels, better, scores)
    alone = bootstrap_interval(statistics.auroc, (labels, scores))
    assert 0 <= found.low <= statistics.auroc(labels, better) - statistics.auroc(labels, scores) <= found.high
    assert found.high - found.low < 0.2 * (alone.high - alone.low)
    assert bootstrap_difference(statistics.auroc, labels, scores, scores) == (0, 0)
