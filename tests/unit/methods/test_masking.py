import numpy as np
import pytest
from dnalm.methods.masking import hide

MASK = 4
WORDS = np.arange(5, 69)


def hidden(tokens: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    ids = generator.choice(WORDS, tokens)
    may_hide = generator.random(tokens) < 0.9
    seen, chosen = hide(ids, may_hide, MASK, WORDS, generator)
    return ids, may_hide, seen, chosen


def test_15_of_100_tokens_are_hidden_8_of_10_of_them_by_the_mask() -> None:
    ids, may_hide, seen, chosen = hidden(200_000, 1)
    assert abs(chosen.sum() / may_hide.sum() - 0.15) < 0.003
    share = {
        "mask": (seen[chosen] == MASK).mean(),
        "itself": (seen[chosen] == ids[chosen]).mean(),
        "another": ((seen != MASK) & (seen != ids))[chosen].mean(),
    }
    # One in 64 random words is the word itself.
    assert share == pytest.approx({"mask": 0.8, "itself": 0.1 + 0.1 / 64, "another": 0.1 - 0.1 / 64}, abs=0.006)
    swapped = seen[chosen & (seen != MASK) & (seen != ids)]
    assert set(swapped) == set(WORDS)


def test_only_tokens_that_may_be_are_hidden_and_all_others_are_seen_as_they_are() -> None:
    ids, may_hide, seen, chosen = hidden(5_000, 2)
    assert not (chosen & ~may_hide).any()
    assert (seen[~chosen] == ids[~chosen]).all()


def test_the_ids_given_stay_as_they_are() -> None:
    ids = np.arange(5, 60)
    hide(ids, np.ones(55, dtype=bool), MASK, WORDS, np.random.default_rng(0))
    assert ids.tolist() == list(range(5, 60))


def test_one_token_is_hidden_at_least_if_any_may_be() -> None:
    for seed in range(50):
        may_hide = np.array([False, True, True, False])
        _, chosen = hide(np.array([0, 9, 9, 1]), may_hide, MASK, WORDS, np.random.default_rng(seed))
        assert 1 <= chosen.sum() <= 2
        assert not chosen[[0, 3]].any()
        _, chosen = hide(np.array([0, 1]), np.zeros(2, dtype=bool), MASK, WORDS, np.random.default_rng(seed))
        assert not chosen.any()
