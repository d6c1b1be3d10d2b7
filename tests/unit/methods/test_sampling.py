import numpy as np
import pytest
from dnalm.methods.sampling import draw, keep_top_k, keep_top_p, log_softmax, temper


def logits(seed: int = 0, sequences: int = 5, tokens: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, (sequences, tokens))


def probabilities(scores: np.ndarray) -> np.ndarray:
    return np.exp(log_softmax(scores))


def test_log_softmax_is_the_logarithm_of_probabilities_and_bears_large_logits() -> None:
    scores = logits()
    expected = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.exp(log_softmax(scores)), expected, rtol=1e-12)
    np.testing.assert_allclose(log_softmax(scores + 5_000), log_softmax(scores), rtol=0, atol=1e-10)


@pytest.mark.parametrize("temperature", [0.25, 1.0, 3.0])
def test_temperature_raises_probabilities_to_its_inverse(temperature: float) -> None:
    powers = probabilities(logits()) ** (1 / temperature)
    found = probabilities(temper(logits(), temperature))
    np.testing.assert_allclose(found, powers / powers.sum(axis=1, keepdims=True), rtol=1e-10)


@pytest.mark.parametrize("temperature", [0.0, 1e-310])
def test_temperature_near_zero_leaves_the_likeliest_token_alone(temperature: float) -> None:
    with np.errstate(over="ignore"):
        found = probabilities(temper(logits(), temperature))
    np.testing.assert_array_equal(found, np.eye(40)[logits().argmax(axis=1)])


@pytest.mark.parametrize("k", [1, 2, 7, 39])
def test_top_k_keeps_the_k_likeliest_as_they_were(k: int) -> None:
    scores = logits()
    found = keep_top_k(scores, k)
    for before, after in zip(scores, found, strict=True):
        expected = set(sorted(range(40), key=lambda token: -before[token])[:k])
        assert set(np.flatnonzero(np.isfinite(after))) == expected
        assert all(after[token] == before[token] for token in expected)


@pytest.mark.parametrize("k", [0, 40, 1_000])
def test_top_k_of_none_or_of_all_keeps_all(k: int) -> None:
    np.testing.assert_array_equal(keep_top_k(logits(), k), logits())


@pytest.mark.parametrize("p", [0.01, 0.5, 0.9, 0.999])
def test_top_p_keeps_the_fewest_likeliest_that_add_up_to_p(p: float) -> None:
    scores = logits()
    found = keep_top_p(scores, p)
    for before, after, chances in zip(scores, found, probabilities(scores), strict=True):
        kept = np.flatnonzero(np.isfinite(after))
        assert np.array_equal(after[kept], before[kept])
        assert chances[kept].sum() >= p
        assert chances[kept].sum() - chances[kept].min() < p
        assert np.delete(chances, kept).max() <= chances[kept].min()


def test_top_p_of_one_keeps_even_the_least_likely() -> None:
    scores = np.array([[0.0, -80.0, -700.0]])
    np.testing.assert_array_equal(keep_top_p(scores, 1.0), scores)


def test_of_equally_likely_tokens_the_first_are_kept() -> None:
    alike = np.tile([0.0, -1.0], (1, 64))
    (first,), (half,), (one,) = keep_top_k(alike, 5), keep_top_p(alike[:, ::2], 0.5), temper(alike, 0)
    assert np.flatnonzero(np.isfinite(first)).tolist() == [0, 2, 4, 6, 8]
    assert np.flatnonzero(np.isfinite(half)).tolist() == list(range(32))
    assert np.flatnonzero(np.isfinite(one)).tolist() == [0]


def test_top_p_counts_what_top_k_left() -> None:
    """0.5, 0.25, 0.25: of the two that top-k 2 leaves, the first has two thirds."""
    scores = np.log([[0.5, 0.25, 0.25]])
    assert np.isfinite(keep_top_p(keep_top_k(scores, 2), 0.6)).tolist() == [[True, False, False]]


def test_draws_invert_the_cumulative_distribution() -> None:
    scores = np.log(np.array([0.1, 0.2, 0.3, 0.4]))[None].repeat(6, axis=0)
    uniforms = np.array([0.0, 0.0999, 0.1001, 0.2999, 0.6001, 1 - 2**-53])
    assert draw(scores, uniforms).tolist() == [0, 0, 1, 1, 3, 3]


def test_what_was_removed_is_never_drawn() -> None:
    scores = np.array([[-np.inf, 0.0, -np.inf, 0.0, -np.inf]]).repeat(4, axis=0)
    assert draw(scores, np.array([0.0, 0.4999, 0.5, 1 - 2**-53])).tolist() == [1, 1, 3, 3]


def test_frequencies_of_draws_are_the_probabilities() -> None:
    scores = logits(sequences=1, tokens=6).repeat(100_000, axis=0)
    drawn = draw(scores, np.random.default_rng(1).random(100_000))
    found = np.bincount(drawn, minlength=6) / 100_000
    np.testing.assert_allclose(found, probabilities(scores[:1])[0], rtol=0, atol=0.005)


def test_a_small_change_of_the_logits_changes_no_draw_but_at_a_border() -> None:
    scores, uniforms = logits(sequences=10_000), np.random.default_rng(2).random(10_000)
    changed = scores + np.random.default_rng(3).normal(0, 1e-6, scores.shape)
    assert (draw(scores, uniforms) != draw(changed, uniforms)).sum() <= 1
