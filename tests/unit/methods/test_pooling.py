from typing import get_args

import numpy as np
import pytest
import torch
from dnalm.methods.pooling import POOLINGS, Pooling, combine, reduce_states, token_weights

HIDDEN = torch.tensor([[[9.0, 9.0], [1.0, -5.0], [3.0, -7.0], [8.0, 8.0]]])
WEIGHTS = torch.tensor([[0.0, 1.0, 1.0, 0.0]])
STARTS, ENDS = np.array([0, 6, 12, 18, 19]), np.array([6, 12, 18, 19, 20])


@pytest.mark.parametrize(("pooling", "expected"), [("mean", [2.0, -6.0]), ("max", [3.0, -5.0]), ("min", [1.0, -7.0])])
def test_what_weighs_nothing_never_counts(pooling: Pooling, expected: list[float]) -> None:
    for outside in (9.0, float("nan"), float("inf"), -float("inf")):
        hidden = HIDDEN.clone()
        hidden[0, 0] = hidden[0, 3] = outside
        parts = [part.numpy() for part in reduce_states(pooling, hidden, WEIGHTS)]
        assert combine(pooling, parts, 2.0).tolist() == expected


def test_none_keeps_the_tokens_that_count() -> None:
    (part,) = reduce_states("none", HIDDEN, WEIGHTS)
    assert part.tolist() == [[1.0, -5.0], [3.0, -7.0]]
    assert combine("none", [part.numpy(), part.numpy()], 4.0).shape == (4, 2)


@pytest.mark.parametrize(
    ("pooling", "by_bases", "expected", "front"),
    [
        ("mean", False, [1, 1, 1, 1, 1], 0.0),
        ("mean", True, [6, 6, 6, 1, 1], 0.0),
        ("max", False, [1, 1, 1, 1, 1], 0.0),
        ("last", False, [0, 0, 0, 0, 1], 0.0),
        ("center", False, [0, 1, 0, 0, 0], 0.0),  # base 10 of 20 lies in the token of bases 6 to 12
        ("cls", False, [0, 0, 0, 0, 0], 1.0),
    ],
)
def test_how_much_each_token_counts(pooling: Pooling, by_bases: bool, expected: list[int], front: float) -> None:
    weights, special = token_weights(pooling, STARTS, ENDS, by_bases)
    assert (weights.tolist(), special) == (expected, front)


def test_windows_are_joined_by_their_weights() -> None:
    parts = [np.array([3.0, 6.0], dtype=np.float32), np.array([1.0, 1.0], dtype=np.float32)]
    assert combine("mean", parts, 4.0).tolist() == [1.0, 1.75]
    assert combine("max", parts, 4.0).tolist() == [3.0, 6.0]
    assert combine("min", parts, 4.0).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("pooling", POOLINGS)
def test_vectors_are_float32_whatever_the_model(pooling: Pooling) -> None:
    assert reduce_states(pooling, HIDDEN.bfloat16(), WEIGHTS)[0].dtype == torch.float32


def test_a_mean_of_bfloat16_adds_up_in_float32() -> None:
    hidden = torch.ones(1, 4_096, 1, dtype=torch.bfloat16)
    hidden[0, 0] = 257.0
    (part,) = reduce_states("mean", hidden, torch.ones(1, 4_096))
    np.testing.assert_allclose(combine("mean", [part.numpy()], 4_096), hidden.double().mean().numpy(), rtol=1e-6)


def test_the_list_of_poolings_is_complete() -> None:
    assert get_args(Pooling) == POOLINGS
