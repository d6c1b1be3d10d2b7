"""Batches of items of like length within a budget of tokens."""

import numpy as np
import pytest
from dnalm.engine.batching import length_buckets


@pytest.mark.parametrize("budget", [1, 50, 200, 10_000])
def test_every_item_is_in_one_batch_within_the_budget(budget: int) -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 500).tolist()
    batches = length_buckets(lengths, budget)
    assert sorted(index for batch in batches for index in batch) == list(range(500))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= budget


def test_like_lengths_come_together_longest_first() -> None:
    assert length_buckets([3, 9, 3, 9, 5], budget=18) == [[1, 3], [4, 0, 2]]


def test_padding_is_small() -> None:
    lengths = np.random.default_rng(0).integers(10, 100, 2_000).tolist()
    padded = sum(len(batch) * lengths[batch[0]] for batch in length_buckets(lengths, 1_024))
    assert padded < 1.02 * sum(lengths)


def test_nothing_makes_no_batch() -> None:
    assert length_buckets([], 100) == []
