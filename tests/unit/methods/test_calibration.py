import numpy as np
import pytest
from dnalm.methods.calibration import HIGHEST, LOWEST, temperature, threshold
from dnalm.methods.predictions import probabilities
from dnalm.methods.statistics import mcc


def drawn(logits: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Draw a class per row with the probabilities that its logits stand for."""
    said = probabilities(logits, exclusive=True)
    return (generator.random((len(said), 1)) > np.cumsum(said, axis=1)).sum(axis=1).clip(max=said.shape[1] - 1)


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_the_temperature_that_labels_were_drawn_with_is_found(true: float) -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(20_000, 4)) * 2
    assert temperature(logits * true, drawn(logits, generator), exclusive=True) == pytest.approx(true, rel=0.05)


def test_labels_that_do_not_exclude_each_other_too() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(20_000, 3))
    flags = (generator.random(logits.shape) < probabilities(logits, exclusive=False)).astype(np.int64)
    assert temperature(logits * 2, flags, exclusive=False) == pytest.approx(2, rel=0.05)


def test_a_few_right_answers_do_not_make_certain() -> None:
    logits = np.array([[2.0, -2.0], [-1.0, 1.0]] * 4)
    found = temperature(logits, np.array([0, 1] * 4), exclusive=True)
    assert LOWEST < found < HIGHEST
    assert probabilities(logits, exclusive=True, temperature=found).max() < 0.99
    assert temperature(np.zeros((8, 2)), np.array([0, 1] * 4), exclusive=True) == 1


def test_the_threshold_is_the_best_of_all() -> None:
    generator = np.random.default_rng(0)
    targets = (generator.random(200) < 0.2).astype(np.int64)
    said = np.clip(0.3 * targets + generator.random(200) * 0.6, 0, 1).round(2)
    found = threshold(said, targets)
    best = max(
        mcc(targets, said >= limit) for limit in np.linspace(0.005, 0.995, 100) if 0 < (said >= limit).sum() < 200
    )
    assert mcc(targets, said >= found) == pytest.approx(best)


def test_few_of_one_side_leave_one_half() -> None:
    assert threshold(np.linspace(0, 1, 40), (np.arange(40) > 31).astype(np.int64)) == 0.5
    assert threshold(np.full(40, 0.3), (np.arange(40) > 20).astype(np.int64)) == 0.5


@pytest.mark.parametrize("said", [np.linspace(1e-12, 1e-9, 40), 1 - np.linspace(1e-9, 1e-12, 40)])
def test_a_threshold_is_neither_0_nor_1(said: np.ndarray) -> None:
    """A model file refuses one of 0, and with one of 1 the other class would have one of 0."""
    assert 0 < threshold(said, (np.arange(40) > 20).astype(np.int64)) < 1
