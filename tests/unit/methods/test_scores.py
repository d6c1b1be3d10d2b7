import math

import dnalm_score_variants
import numpy as np
import pytest
import torch
from dnalm.methods import scores
from dnalm.methods.scores import DISTANCES, SCORES

ROW = np.log(np.array([0.5, 0.25, 0.125, 0.0625, 0.0625]))


def ids(*numbers: int) -> np.ndarray:
    return np.array(numbers, dtype=np.int64)


def test_ratios_are_of_alt_over_ref() -> None:
    assert scores.llr_masked(ROW, 0, 2) == pytest.approx(math.log(0.125 / 0.5))
    assert scores.llr_wildtype(ROW, 2, 0) == pytest.approx(math.log(0.5 / 0.125))
    assert scores.llr_masked_base(ROW, ids(0), ids(1, 2, 3)) == pytest.approx(math.log(0.4375 / 0.5))


def test_likelihoods_of_windows_are_sums() -> None:
    reference, alternative = np.array([-1.0, -2.0, -0.5]), np.array([-1.5, -2.5])
    assert scores.pll(reference, alternative) == -0.5
    assert scores.llr_causal(reference, alternative) == -0.5
    assert scores.llr_causal_per_base(reference, alternative, 10) == -0.05


def test_entropy_is_between_one_certain_base_and_four_alike() -> None:
    assert scores.entropy(np.zeros(4), [ids(0), ids(1), ids(2), ids(3)]) == pytest.approx(2)
    assert scores.entropy(np.array([0.0, -np.inf, -np.inf, -np.inf]), [ids(n) for n in range(4)]) == 0
    # Two words of A, one of C, none of G, one of T: 3/4, 1/8, 1/8 of what falls to words.
    found = scores.entropy(np.log([0.25, 0.125, 0.0625, 0.0625, 0.5]), [ids(0, 1), ids(2), ids(), ids(3)])
    assert found == pytest.approx(0.75 * math.log2(4 / 3) + 2 * 0.125 * 3)


def test_divergence_is_none_of_equals_and_one_bit_of_strangers() -> None:
    one = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    other = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 0.0, 0.0]])
    tiny = 1e-12
    found = scores.jensen_shannon((one + tiny).log(), (other + tiny).log())
    expected = 0.5 * math.log2(1 / 0.75) + 0.5 * (0.5 * math.log2(0.5 / 0.75) + 0.5 * math.log2(0.5 / 0.25))
    np.testing.assert_allclose(found, [0, 1, expected], atol=1e-6)


def test_distances() -> None:
    one, other = np.array([[3.0, 4.0], [0.0, 0.0], [0.0, 0.0]]), np.array([[4.0, 3.0], [0.0, 0.0], [1.0, 0.0]])
    assert scores.l2(one, other).tolist() == pytest.approx([math.sqrt(2), 0, 1])
    assert scores.l1(one, other).tolist() == [2, 0, 1]
    assert scores.dot(one, other).tolist() == [24, 0, 0]
    assert scores.cosine(one, other).tolist() == pytest.approx([1 - 24 / 25, 0, 1])


def test_near_vectors_keep_the_digits_of_their_cosine() -> None:
    one = np.random.default_rng(0).normal(size=(1, 500)).astype(np.float32)
    other = one.copy()
    other[0, 0] += 1e-3
    a, b = (x.astype(np.longdouble)[0] for x in (one, other))
    expected = float(1 - (a @ b) / np.sqrt(a @ a) / np.sqrt(b @ b))
    assert scores.cosine(one, other)[0] == pytest.approx(expected, rel=1e-6)


def test_the_scripts_choices_are_the_scores() -> None:
    (choices,) = (x.choices for x in dnalm_score_variants.parser()._actions if "--scores" in x.option_strings)
    assert choices == list(SCORES)
    assert list(DISTANCES) == [name for name, score in SCORES.items() if score.needs == "vectors"]
