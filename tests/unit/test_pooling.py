import pytest
import torch
from dnalm.methods.pooling import POOLINGS

HIDDEN = torch.tensor([[[9.0, 9.0], [1.0, -5.0], [3.0, -7.0], [8.0, 8.0]]])
COVERS = torch.tensor([[False, True, True, False]])


@pytest.mark.parametrize(("name", "expected"), [("mean", [2.0, -6.0]), ("max", [3.0, -5.0]), ("cls", [9.0, 9.0])])
def test_special_tokens_and_padding_never_count(name: str, expected: list[float]) -> None:
    assert POOLINGS[name](HIDDEN, COVERS).tolist() == [expected]


@pytest.mark.parametrize("name", ["mean", "max"])
def test_values_outside_the_mask_may_be_anything(name: str) -> None:
    hidden = HIDDEN.clone()
    hidden[0, 3] = float("nan")
    hidden[0, 0] = float("inf")
    assert torch.equal(POOLINGS[name](hidden, COVERS), POOLINGS[name](HIDDEN, COVERS))


@pytest.mark.parametrize("name", POOLINGS)
def test_vectors_are_float32_whatever_the_model(name: str) -> None:
    assert POOLINGS[name](HIDDEN.bfloat16(), COVERS).dtype == torch.float32


def test_a_mean_of_bfloat16_adds_up_in_float32() -> None:
    hidden = torch.full((1, 4_096, 1), 1.0, dtype=torch.bfloat16)
    hidden[0, 0] = 257.0
    covers = torch.ones(1, 4_096, dtype=torch.bool)
    torch.testing.assert_close(POOLINGS["mean"](hidden, covers), hidden.double().mean(dim=1).float())
