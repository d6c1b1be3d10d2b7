"""Groups of scores: numbers worked out by hand, tests of scipy, and which rows count."""

import math

import numpy as np
import pytest
from dnalm.errors import UserError
from dnalm.methods import statistics
from dnalm.methods.bootstrap import bootstrap_interval, bootstrap_two_groups
from dnalm.methods.group_comparison import (
    Bootstrap,
    Group,
    classified,
    compared,
    described,
    joined,
    positives,
    refuse_uneven,
)
from scipy import stats

NO_INTERVALS = Bootstrap(resamples=0, confidence=0.95, seed=0)


def group(*values: float, **columns: list[int]) -> Group:
    arrays = {name: np.array(column) for name, column in columns.items()}
    return Group("a", np.array(values, dtype=np.float64), rows=len(values), **arrays)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "status"), [((), "no_scores"), ((2,), "one_member"), ((2, 2), "constant"), ((2, 2, 3), "ok")]
)
def test_a_status_says_why_a_group_says_little(values: tuple[float, ...], status: str) -> None:
    assert group(*values).status == status


def test_a_group_is_described() -> None:
    scores = Group("intron", np.array([1.0, 2, 3, 4, 10]), rows=9, empty=3, not_numbers=1)
    line = described(scores, Bootstrap(resamples=100, confidence=0.9, seed=4))
    expected = {"group": "intron", "status": "ok", "rows": 9, "n": 5, "empty": 3, "not_numbers": 1}
    assert {name: line[name] for name in expected} == expected
    numbers = {"median": 3, "mean": 4, "sd": math.sqrt(12.5), "min": 1, "q1": 2, "q3": 4, "max": 10}
    assert {name: line[name] for name in numbers} == pytest.approx(numbers)
    for name, statistic in (("mean", statistics.mean), ("median", statistics.median)):
        interval = bootstrap_interval(statistic, (scores.values,), repeats=100, confidence=0.9, seed=4)
        assert (line[f"{name}_low"], line[f"{name}_high"]) == interval


def test_a_group_without_scores_has_no_numbers() -> None:
    line = described(group(), NO_INTERVALS)
    assert (line["status"], line["n"]) == ("no_scores", 0)
    assert all(math.isnan(float(line[name])) for name in ("median", "mean", "mean_low", "sd", "min", "q1", "q3", "max"))
    assert math.isnan(float(described(group(2), NO_INTERVALS)["sd"]))


def test_intervals_are_of_whole_clusters_where_there_are_some() -> None:
    values, clusters = np.random.default_rng(0).normal(size=20), np.repeat(np.arange(5), 4)
    bootstrap = Bootstrap(resamples=100, confidence=0.95, seed=0)
    first, second = Group("a", values[:12], clusters[:12]), Group("b", values[12:], clusters[12:])
    statistic = statistics.cliffs_delta
    clustered = bootstrap_two_groups(statistic, values[:12], values[12:], (clusters[:12], clusters[12:]), 100)
    assert bootstrap.of_groups(statistic, first, second) == clustered
    plain = bootstrap_two_groups(statistic, values[:12], values[12:], None, 100)
    assert bootstrap.of_groups(statistic, first, Group("b", values[12:])) == plain != clustered


def test_groups_are_compared_as_scipy_does() -> None:
    line = compared(group(1, 2, 3), group(0, 1), NO_INTERVALS, matched=False)
    assert (line["n_first"], line["n_second"]) == (3, 2)
    assert line["difference_of_medians"] == 1.5
    assert line["cliffs_delta"] == pytest.approx(5 / 6)  # of six pairs five above, one tie
    assert (line["mann_whitney_u"], line["mann_whitney_p"]) == stats.mannwhitneyu([1, 2, 3], [0, 1])
    welch = stats.ttest_ind([1, 2, 3], [0, 1], equal_var=False)
    assert (line["welch_t"], line["welch_p"]) == (welch.statistic, welch.pvalue)
    assert math.isnan(float(line["cliffs_delta_low"]))
    assert "pairs" not in line


def test_a_group_of_one_has_no_interval() -> None:
    bootstrap = Bootstrap(resamples=50, confidence=0.95, seed=0)
    line = compared(group(1), group(0, 1, 2), bootstrap, matched=False)
    assert math.isnan(float(line["difference_of_medians_low"]))
    line = compared(group(1, 5), group(0, 1, 2), bootstrap, matched=False)
    assert -1 <= float(line["difference_of_medians_low"]) < float(line["difference_of_medians_high"]) <= 5


def test_rows_are_matched_by_their_keys() -> None:
    """Keys 3, 4 and 6 are in both; a row without a key has no partner, not even another without one."""
    first = group(1, 2, 4, 7, 8, keys=[3, 4, -1, 6, 5])
    second = group(0, 1, 2, 3, 9, keys=[-1, 6, 4, 3, 7])
    line = compared(first, second, Bootstrap(resamples=100, confidence=0.9, seed=4), matched=True)
    one, other = np.array([1.0, 2, 7]), np.array([3.0, 2, 1])
    assert line["pairs"] == 3
    assert line["mean_of_differences"] == pytest.approx((-2 + 0 + 6) / 3)
    interval = bootstrap_interval(statistics.mean, (one - other,), repeats=100, confidence=0.9, seed=4)
    found = (line["mean_of_differences_low"], line["mean_of_differences_high"])
    assert found == pytest.approx(interval)
    paired = stats.ttest_rel(one, other)
    assert (line["paired_t"], line["paired_p"]) == (paired.statistic, paired.pvalue)
    assert (line["n_first"], line["n_second"]) == (5, 5)


def test_groups_of_different_size_are_not_matched_by_order() -> None:
    short, long = Group("short\tone", np.zeros(2), rows=1_234), Group("long", np.zeros(2), rows=1_235)
    refuse_uneven(long, long)
    with pytest.raises(
        UserError, match=r"'short\\tone' and 'long' have 1,234 and 1,235 rows; .* match them by a column"
    ):
        refuse_uneven(short, long)


def test_scores_tell_labels_apart_in_the_direction_that_is_asked_for() -> None:
    """Lower scores are positive in 3 of 4 pairs; the row without a known label does not count."""
    scores = group(1, 2, 3, 4, 5, labels=[1, 0, 1, -1, 0])
    line = classified(scores, -1, NO_INTERVALS)
    expected = {"status": "ok", "positives": 2, "negatives": 2, "auroc": 3 / 4, "prevalence": 1 / 2}
    assert {name: line[name] for name in expected} == expected
    assert line["auprc"] == pytest.approx((1 + 2 / 3) / 2)
    assert classified(scores, 1, NO_INTERVALS)["auroc"] == 1 / 4
    labels, values = positives(scores, -1)
    assert (labels.tolist(), values.tolist()) == ([1, 0, 1, 0], [-1, -2, -3, -5])


def test_clusters_of_rows_without_a_label_are_left_out() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(-1, 2, 40)
    values, clusters = np.sort(generator.normal(size=40)), generator.integers(0, 8, 40)
    line = classified(Group("a", values, clusters, labels), 1, Bootstrap(resamples=100, confidence=0.95, seed=0))
    known = labels >= 0
    interval = bootstrap_interval(statistics.auroc, (labels[known], values[known]), clusters[known], repeats=100)
    assert (line["auroc_low"], line["auroc_high"]) == pytest.approx(interval)


@pytest.mark.parametrize(("labels", "status"), [([1, 1, -1], "one_label"), ([-1, -1, -1], "no_label")])
def test_one_label_cannot_be_told_apart(labels: list[int], status: str) -> None:
    line = classified(group(1, 2, 3, labels=labels), 1, NO_INTERVALS)
    assert line["status"] == status
    assert math.isnan(float(line["auroc"]))
    assert math.isnan(float(line["auroc_low"]))


def test_groups_are_joined_in_the_order_of_their_scores() -> None:
    whole = joined("all", [group(1, 5, labels=[1, 0], keys=[0, 1]), group(2, 3, labels=[0, 1], keys=[0, 1])])
    assert whole.name == "all"
    assert whole.values.tolist() == [1, 2, 3, 5]
    assert whole.labels is not None
    assert whole.labels.tolist() == [1, 0, 1, 0]
    assert whole.clusters is None
