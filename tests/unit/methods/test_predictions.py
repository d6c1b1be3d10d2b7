import math

import numpy as np
import pytest
from dnalm.methods.predictions import called, probabilities, quantities


def test_probabilities_of_exclusive_labels_are_the_softmax() -> None:
    logits = np.array([[1.0, 2.0, -1.0], [0.0, 0.0, 0.0]])
    found = probabilities(logits, exclusive=True, temperature=2.0)
    for row, given in zip(found, logits, strict=True):
        powers = [math.exp(value / 2.0) for value in given]
        np.testing.assert_allclose(row, np.array(powers) / sum(powers), rtol=1e-12)


def test_probabilities_of_independent_labels_are_logistic() -> None:
    logits = np.array([[1.5, -2.0, 0.0]])
    expected = [1 / (1 + math.exp(-value / 0.5)) for value in logits[0]]
    np.testing.assert_allclose(probabilities(logits, exclusive=False, temperature=0.5)[0], expected, rtol=1e-12)


@pytest.mark.parametrize("exclusive", [True, False])
def test_large_numbers_do_not_overflow(exclusive: bool) -> None:
    with np.errstate(all="raise", under="ignore"):
        found = probabilities(np.array([[1e30, -1e30]], dtype=np.float32), exclusive=exclusive)
    np.testing.assert_array_equal(found, [[1, 0]])


def test_quantities_are_brought_back_to_the_units_of_the_target() -> None:
    found = quantities(np.array([[1.0, -1.0], [0.0, 2.0]]), mean=np.array([10.0, 0.0]), scale=np.array([2.0, 3.0]))
    np.testing.assert_array_equal(found, [[12, -3], [10, 6]])
    np.testing.assert_array_equal(quantities(np.array([[0.5]])), [[0.5]])


def test_the_likeliest_of_exclusive_labels_is_called_and_of_equals_the_first() -> None:
    found = called(np.array([[0.2, 0.5, 0.3], [0.4, 0.2, 0.4]]), exclusive=True)
    np.testing.assert_array_equal(found, [[False, True, False], [True, False, False]])


@pytest.mark.parametrize(("probability", "second"), [(0.71, True), (0.69, False)])
def test_two_exclusive_labels_part_at_a_threshold(probability: float, second: bool) -> None:
    found = called(np.array([[1 - probability, probability]]), exclusive=True, thresholds=np.array([0.3, 0.7]))
    np.testing.assert_array_equal(found, [[not second, second]])


def test_every_independent_label_that_reaches_its_threshold_is_called() -> None:
    rows = np.array([[0.5, 0.49, 0.9], [0.1, 0.2, 0.3]])
    np.testing.assert_array_equal(called(rows, exclusive=False), [[True, False, True], [False] * 3])
    found = called(rows, exclusive=False, thresholds=np.array([0.6, 0.2, 0.9]))
    np.testing.assert_array_equal(found, [[False, True, True], [False, True, False]])
