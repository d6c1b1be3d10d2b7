from dataclasses import dataclass

import numpy as np
import pytest
from dnalm.methods.linear_models import PENALTIES, constant_model, fit
from dnalm.methods.predictions import probabilities
from scipy.sparse import csr_array
from sklearn.linear_model import LogisticRegression, Ridge


@dataclass(frozen=True)
class Rows:
    """Features of shape (300, 12), the signal that is linear in them, shape (300, 3), and noisy classes of it."""

    features: np.ndarray
    signal: np.ndarray
    classes: np.ndarray

    def scaled(self) -> np.ndarray:
        return (self.features - self.features.mean(axis=0)) / self.features.std(axis=0)


@pytest.fixture
def rows() -> Rows:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(300, 12)) * np.arange(1, 13) + 5
    signal = features @ generator.normal(size=(12, 3)) / 10
    return Rows(features, signal, (signal + generator.normal(size=signal.shape)).argmax(axis=1))


@pytest.mark.parametrize("labels", [2, 3])
def test_probabilities_are_scikit_learns_of_the_chosen_penalty(rows: Rows, labels: int) -> None:
    classes = np.minimum(rows.classes, labels - 1)
    found = fit(rows.features, classes, "classify", labels, seed=0)
    assert found.penalty in PENALTIES
    model = LogisticRegression(C=1 / (found.penalty * len(classes)), tol=1e-6, max_iter=2_000).fit(
        rows.scaled(), classes
    )
    expected = model.predict_proba(rows.scaled())
    assert probabilities(found.logits(rows.features), exclusive=True) == pytest.approx(expected, abs=2e-3)


def test_several_labels_are_regressed_one_by_one(rows: Rows) -> None:
    flags = (np.median(rows.signal, axis=0) < rows.signal).astype(np.int64)
    found = fit(rows.features, flags, "multilabel", 3, seed=0)
    for label in range(3):
        model = LogisticRegression(C=1 / (found.penalty * 300), tol=1e-6, max_iter=5_000).fit(
            rows.scaled(), flags[:, label]
        )
        said = probabilities(found.logits(rows.features), exclusive=False)[:, label]
        assert said == pytest.approx(model.predict_proba(rows.scaled())[:, 1], abs=0.02)


def test_quantities_are_those_of_ridge_regression(rows: Rows) -> None:
    values = rows.signal[:, :1] + np.random.default_rng(1).normal(size=(300, 1))
    found = fit(rows.features, values, "regress", 1, seed=0)
    expected = Ridge(alpha=found.penalty * 300).fit(rows.scaled(), values[:, 0]).predict(rows.scaled())
    assert found.logits(rows.features)[:, 0] == pytest.approx(expected, abs=1e-4)


def test_sparse_features_give_what_dense_ones_do_without_their_own_scales(rows: Rows) -> None:
    present = np.random.default_rng(1).random((300, 20)) < 0.2
    words = np.where(present, 0.01, 0.0) * (1 + rows.classes[:, None] * (np.arange(20) < 5))
    found = fit(csr_array(words), rows.classes, "classify", 3, seed=0)
    scale = np.sqrt(words.var(axis=0).mean())
    model = LogisticRegression(C=1 / (found.penalty * 300), tol=1e-6, max_iter=5_000).fit(words / scale, rows.classes)
    expected = model.predict_proba(words / scale)
    assert probabilities(found.logits(csr_array(words)), exclusive=True) == pytest.approx(expected, abs=2e-3)


def test_noise_is_given_a_strong_penalty_and_signal_a_weak_one(rows: Rows) -> None:
    clean = rows.signal.argmax(axis=1)
    assert fit(rows.features, clean, "classify", 3, seed=0).penalty < 1e-2
    assert fit(rows.features, np.random.default_rng(1).permutation(clean), "classify", 3, seed=0).penalty >= 0.1


def test_whole_groups_are_held_out() -> None:
    """Features that only tell the group look good within it and are worth nothing beyond."""
    groups = np.arange(300) // 10
    classes = (groups % 2).astype(np.int64)
    own = np.eye(30)[groups]
    assert fit(own, classes, "classify", 2, 0).held_out_loss < 0.1
    assert fit(own, classes, "classify", 2, 0, clusters=groups).held_out_loss > 0.6


def test_too_few_for_folds_take_the_middle_penalty() -> None:
    found = fit(np.arange(4.0)[:, None], np.array([0, 1, 1, 1]), "classify", 2, seed=0)
    assert found.penalty == PENALTIES[len(PENALTIES) // 2]
    assert np.isinf(found.held_out_loss)


def test_rare_classes_count_as_much_when_balanced(rows: Rows) -> None:
    classes = (rows.signal[:, 0] > np.quantile(rows.signal[:, 0], 0.95)).astype(np.int64)
    plain, balanced = (fit(rows.features, classes, "classify", 2, 0, balanced=yes) for yes in (False, True))
    assert (balanced.logits(rows.features).argmax(axis=1) == 1).sum() > (
        plain.logits(rows.features).argmax(axis=1) == 1
    ).sum()


def test_features_without_variance_are_left_alone(rows: Rows) -> None:
    features = np.column_stack([rows.features[:, 0], np.full(300, 3.0)])
    found = fit(features, rows.classes, "classify", 3, seed=0)
    assert np.isfinite(found.weights).all()
    assert np.isfinite(found.biases).all()


def test_a_constant_model_says_the_shares() -> None:
    features = np.zeros((10, 1))
    classes = np.array([0] * 7 + [1] * 2 + [2])
    said = probabilities(constant_model(classes, "classify", 3, 1).logits(features), exclusive=True)
    assert said[0] == pytest.approx([0.7, 0.2, 0.1])
    flags = np.array([[1, 0]] * 3 + [[0, 1]] * 7)
    said = probabilities(constant_model(flags, "multilabel", 2, 1).logits(features), exclusive=False)
    assert said[0] == pytest.approx([0.3, 0.7])
    assert constant_model(np.array([[1.0], [3.0]]), "regress", 1, 1).logits(features)[0] == pytest.approx([2.0])
