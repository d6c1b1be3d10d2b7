"""Statistics of weighted rows against those of the rows repeated as often as their weights say."""

import math
from typing import Any

import numpy as np
import pytest
from dnalm.methods import statistics, weighted_statistics
from labelled_rows import STATISTICS_OF_GROUPS, STATISTICS_OF_ROWS, labelled_rows

CLASS_METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "mcc")
LABEL_METRICS = ("macro_auroc", "macro_auprc", "label_f1")


def of_repeated(name: str, arrays: tuple[np.ndarray, ...], weights: np.ndarray) -> float:
    """Compute the statistic of the rows, each as often as its weight says."""
    repeated = [np.repeat(values, weights.astype(int), axis=0) for values in arrays]
    if name in STATISTICS_OF_GROUPS:
        values, in_first = repeated
        repeated = [values[in_first], values[~in_first]]
    return getattr(statistics, name)(*repeated)


@pytest.mark.slow
@pytest.mark.parametrize("name", STATISTICS_OF_ROWS)
def test_a_resample_has_the_statistic_of_its_repeated_rows(name: str) -> None:
    generator = np.random.default_rng(0)
    arrays = labelled_rows(generator).arrays(name)
    weights = generator.multinomial(60, np.full(60, 1 / 60), size=20).astype(float)
    found = getattr(weighted_statistics, name)(*arrays, weights)
    assert found == pytest.approx([of_repeated(name, arrays, row) for row in weights], abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*STATISTICS_OF_ROWS, *STATISTICS_OF_GROUPS])
def test_small_and_degenerate_resamples_agree_too(name: str) -> None:
    """Few rows and few values: many resamples are constant, of one class, or without one of the groups."""
    generator = np.random.default_rng(5)
    for rows in range(1, 7):
        weights = generator.multinomial(rows, np.full(rows, 1 / rows), size=60).astype(float)
        first, second = np.round(generator.random((2, rows)), 1) + 0.1
        labels, others = generator.random((2, rows)) < 0.5
        arrays: tuple[np.ndarray, ...] = (first, second)
        if name in STATISTICS_OF_GROUPS:
            arrays = (first, labels)
        elif name in ("mean", "median"):
            arrays = (first,)
        elif name in CLASS_METRICS:
            arrays = (labels, others)
        elif name in ("auroc", "auprc"):
            arrays = (labels, first)
        elif name in LABEL_METRICS:
            scores = np.stack([first, second], axis=1)
            arrays = (np.stack([labels, others], axis=1), scores > 0.6 if name == "label_f1" else scores)
        found = getattr(weighted_statistics, name)(*arrays, weights)
        for row, times in enumerate(weights):
            expected = of_repeated(name, arrays, times)
            assert found[row] == pytest.approx(expected, abs=1e-9, nan_ok=True), (rows, row)


@pytest.mark.parametrize(
    ("name", "arrays", "weights", "expected"),
    [
        ("mean", ([1, 2, 6],), [1, 1, 2], 15 / 4),
        ("median", ([6, 1, 2],), [2, 1, 1], 4),  # of 1, 2, 6, 6
        ("median", ([6, 1, 2],), [3, 0, 1], 6),
        ("accuracy", ([0, 1, 1], [0, 1, 0]), [1, 1, 2], 1 / 2),
        ("balanced_accuracy", ([0, 1, 1], [0, 1, 0]), [1, 1, 2], 2 / 3),  # recall 1 and 1/3
        ("auroc", ([1, 0, 0], [0.5, 0.5, 0.9]), [1, 3, 1], 3 / 8),  # a tie with three of four negatives
        ("auprc", ([1, 0, 1], [0.9, 0.5, 0.1]), [1, 2, 1], 3 / 4),  # precision 1 and 2/4
        ("pearson", ([0, 1, 5], [0, 2, -9]), [2, 3, 0], 1),
        ("spearman", ([0, 1, 5], [0, 2, 100]), [2, 3, 1], 1),
        ("cliffs_delta", ([1, 2, 3], np.array([True, False, True])), [1, 1, 3], 1 / 2),  # three above, one below
    ],
)
def test_weighted_statistics_worked_out_by_hand(
    name: str, arrays: tuple[Any, ...], weights: list[int], expected: float
) -> None:
    found = getattr(weighted_statistics, name)(*arrays, np.array([weights], dtype=float))
    assert found == pytest.approx([expected])


def test_a_resample_without_rows_has_no_statistic() -> None:
    weights = np.array([[0.0, 0.0], [1.0, 1.0]])
    for name, arrays in (("mean", ([1, 3],)), ("median", ([1, 3],)), ("auroc", ([0, 1], [1, 3]))):
        nothing, defined = getattr(weighted_statistics, name)(*arrays, weights)
        assert math.isnan(nothing), name
        assert not math.isnan(defined), name


def test_the_small_sample_correction_is_that_of_hedges() -> None:
    """J(m) = Γ(m/2) / (√(m/2) Γ((m − 1)/2)), which for two degrees of freedom is 1/√π."""
    expected = [math.gamma(m / 2) / (math.sqrt(m / 2) * math.gamma((m - 1) / 2)) for m in (2, 4, 30)]
    assert weighted_statistics.small_sample_correction([2, 4, 30]) == pytest.approx(expected)
    assert expected[0] == pytest.approx(1 / math.sqrt(math.pi))
    assert expected[2] == pytest.approx(1 - 3 / (4 * 30 - 1), abs=1e-4)  # the usual approximation
