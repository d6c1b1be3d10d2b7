"""Language modelling: losses and measures, compared with log-probabilities written out."""

import math
from typing import Any

import pytest
import torch
from dnalm.engine.objectives import LanguageModelling, nats_a_place
from dnalm.engine.training_data import Batch
from dnalm.models.language_model import Logits
from torch import Tensor, nn


class Fixed(nn.Module):
    """A model that gives the same logits whatever it reads, and keeps what it was given."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)
        self.given: dict[str, Any] = {}

    def forward(self, **given: Any) -> Logits:
        self.given = given
        return Logits(self.logits)


@pytest.fixture
def model() -> Fixed:
    """Two rows of three tokens; of four words the first is as likely as the three others together, or half as likely."""
    logits = torch.zeros(2, 3, 4)
    logits[0, :, 0] = math.log(3)
    return Fixed(logits)


@pytest.fixture
def batch() -> Batch:
    """Three predicted tokens, of 3, 1 and 2 bases; one of them has a low weight."""
    return {
        "input_ids": torch.zeros(2, 3, dtype=torch.int64),
        "attention_mask": torch.ones(2, 3, dtype=torch.int64),
        "targets": torch.tensor([[0, 1, 2], [3, 0, 0]]),
        "weights": torch.tensor([[1.0, 0.5, 0.0], [1.0, 0.0, 0.0]]),
        "bases": torch.tensor([[3, 1, 3], [2, 3, 3]]),
    }


def test_each_place_has_the_nats_of_its_target(model: Fixed, batch: Batch) -> None:
    nats, predicted = nats_a_place(model, batch)
    expected = [[math.log(2), math.log(6), math.log(6)], [math.log(4)] * 3]
    torch.testing.assert_close(nats, torch.tensor(expected))
    assert predicted.tolist() == [[True, True, False], [True, False, False]]
    assert set(model.given) == {"input_ids", "attention_mask"}


def test_packed_rows_are_read_with_their_positions(model: Fixed, batch: Batch) -> None:
    positions = torch.tensor([[0, 1, 0], [0, 1, 2]])
    nats_a_place(model, batch | {"position_ids": positions})
    assert torch.equal(model.given["position_ids"], positions)


def test_the_loss_is_weighted_and_the_sums_are_not(model: Fixed, batch: Batch) -> None:
    objective = LanguageModelling(masked=False)
    total, sums = objective.losses(model, batch)
    assert total.item() == pytest.approx(math.log(2) + 0.5 * math.log(6) + math.log(4))
    assert total.requires_grad
    assert (sums.dtype, sums.requires_grad, len(sums)) == (torch.float64, False, objective.quantities)
    assert sums.tolist() == pytest.approx([math.log(2) + math.log(6) + math.log(4), 3, 6])
    assert objective.weight(batch).item() == 2.5


def test_measures_are_nats_a_token_perplexity_and_bits_a_base() -> None:
    measures = LanguageModelling(masked=True).measures([6 * math.log(4), 6, 18])
    assert list(measures) == ["loss", "perplexity", "bits_per_base"]
    assert measures == pytest.approx({"loss": math.log(4), "perplexity": 4, "bits_per_base": 2 / 3})


def test_measures_without_tokens_are_nan_and_a_huge_perplexity_is_infinite() -> None:
    objective = LanguageModelling(masked=False)
    nothing = objective.measures([0.0, 0, 0])
    assert all(math.isnan(value) for value in nothing.values())
    assert objective.measures([100.0, 1, 1])["perplexity"] == pytest.approx(math.exp(100))
    assert objective.measures([1_000.0, 1, 1])["perplexity"] == math.inf


def test_the_headline_names_what_is_predicted() -> None:
    assert LanguageModelling(masked=True).headline == ("bits_per_base", "bits a masked base")
    assert LanguageModelling(masked=False).headline == ("bits_per_base", "bits a base")
