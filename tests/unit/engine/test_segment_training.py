"""Losses, measures and batches of a segmenter's training."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from dnalm.engine.segment_training import BINS, GAMMA, Segmentation, SegmentBatches, Sources
from dnalm.methods import statistics
from torch import Tensor, nn
from torch.nn import functional

FREQUENCIES = [0.3, 0.01]


class Fixed(nn.Module):
    """A model that gives the same logits whatever it reads."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.logits


@pytest.fixture
def batch() -> tuple[Fixed, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(4, 50, 2, 2, generator=generator)
    labels = torch.rand(4, 50, 2, generator=generator) < torch.tensor([0.3, 0.1])
    return Fixed(logits), {"input_ids": torch.zeros(4, 50), "labels": labels, "tokens": torch.tensor(200)}


def test_losses_are_those_of_their_definitions(batch: tuple[Fixed, dict[str, Tensor]]) -> None:
    model, given = batch
    nats = functional.cross_entropy(model.logits.flatten(0, 2), given["labels"].long().flatten(), reduction="none")
    truth = torch.exp(-nats)
    weights = torch.where(given["labels"], torch.tensor([0.7 / 0.3, 99.0]), 1.0).flatten()
    wanted = {"plain": nats.sum(), "focal": ((1 - truth) ** GAMMA * nats).sum(), "weighted": (weights * nats).sum()}
    for kind, value in wanted.items():
        losses = Segmentation(kind, FREQUENCIES).losses(model, given)  # type: ignore[arg-type]
        torch.testing.assert_close(losses.total, value, rtol=1e-5, atol=1e-5)
        assert float(losses.sums[0]) == pytest.approx(value.item(), rel=1e-5)
        assert losses.total.requires_grad


def test_measures_are_those_of_all_bases(batch: tuple[Fixed, dict[str, Tensor]]) -> None:
    model, given = batch
    objective = Segmentation("plain", FREQUENCIES)
    sums = objective.losses(model, given).sums + objective.losses(model, given).sums
    measures = objective.measures(sums.tolist())
    assert len(sums) == objective.quantities
    probabilities = model.logits.detach().softmax(dim=-1)[..., 1]
    scores = ((probabilities * (BINS - 1)).round() / (BINS - 1)).flatten(0, 1).numpy()
    labels = given["labels"].flatten(0, 1).numpy()
    wanted = [statistics.auprc(labels[:, number], scores[:, number]) for number in range(2)]
    assert measures["auprc"] == pytest.approx(np.mean(wanted))
    wanted = [statistics.mcc(labels[:, number], scores[:, number] >= 0.5) for number in range(2)]
    assert measures["mcc"] == pytest.approx(np.mean(wanted))
    assert measures["loss"] == pytest.approx(float(sums[0] / sums[1]))
    assert float(objective.weight(given)) == labels.size


def test_measures_without_a_feature_are_no_numbers() -> None:
    objective = Segmentation("focal", [0.5])
    measures = objective.measures([0.0] * objective.quantities)
    assert all(math.isnan(value) for value in measures.values())


GENOME = "".join(np.random.default_rng(0).choice(list("ACGT"), 5_000))


def of_letter_a(contig: int, start: int, end: int) -> np.ndarray:
    return np.array([[base == "A"] for base in GENOME[start:end]])


def letters(sequences: Sequence[str]) -> Tensor:
    return torch.tensor([["ACGT".index(base) for base in sequence] for sequence in sequences])


@pytest.fixture
def batches() -> Callable[..., SegmentBatches]:
    places = np.array([[0, start, min(start, 50), 50] for start in range(0, 2_000, 100)])
    sources = Sources(lambda contig, start, end: GENOME[start:end], of_letter_a, letters)

    def make(training: bool = True, both_strands: bool = True) -> SegmentBatches:
        return SegmentBatches(places, 100, sources, 8, 3, both_strands=both_strands, training=training)

    return make


def test_labels_stay_with_their_bases(batches: Callable[..., SegmentBatches]) -> None:
    found = batches()
    forward = turned = 0
    for number in range(len(found)):
        batch = found[number]
        for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
            inside = labels[:, 0]
            # An A of the other strand is a T.
            kept, other = torch.equal(inside, ids == 0), torch.equal(inside, ids == 3)
            assert kept != other
            forward, turned = forward + kept, turned + other
    assert forward + turned == 20
    assert min(forward, turned) > 3


def test_windows_move_by_chance_and_no_further_than_they_may(batches: Callable[..., SegmentBatches]) -> None:
    found = batches(both_strands=False)
    starts = set()
    for epoch in range(20):
        found.set_epoch(epoch)
        sequences = ["".join("ACGT"[base] for base in ids) for number in range(3) for ids in found[number]["input_ids"]]
        starts |= {GENOME.index(sequence) for sequence in sequences}
    assert min(starts) >= 0
    assert 1_900 < max(starts) <= 1_950  # the last may move by 50
    assert len(starts) > 150


def test_batches_are_the_same_for_one_seed_and_epoch(batches: Callable[..., SegmentBatches]) -> None:
    one, other = batches(), batches()
    other.set_epoch(5)
    different = other[0]["input_ids"]
    other.set_epoch(0)
    assert torch.equal(one[0]["input_ids"], other[0]["input_ids"])
    assert not torch.equal(one[0]["input_ids"], different)
    assert len(one) == 3
    assert len(one[2]["input_ids"]) == 4


def test_validation_never_changes(batches: Callable[..., SegmentBatches]) -> None:
    found = batches(training=False)
    before = found[1]["input_ids"]
    found.set_epoch(7)
    assert torch.equal(found[1]["input_ids"], before)
    assert "".join("ACGT"[base] for base in before[0]) == GENOME[800:900]
