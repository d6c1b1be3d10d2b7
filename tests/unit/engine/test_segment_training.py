"""Losses, measures and batches of a segmenter's training, and the models that are trained."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REPOSITORY, TEST_DATA
from dnalm.engine.segment_training import BINS, GAMMA, Segmentation, SegmentBatches, Sources
from dnalm.errors import UserError
from dnalm.methods import statistics
from dnalm.models.registry import load_segmenter
from dnalm.models.segment_training import new_segmenter, trainable_segmenter, window_limits, write_segmenter
from dnalm.models.sources import open_model
from torch import Tensor, nn
from torch.nn import functional

PARITY = REPOSITORY / "tests" / "parity" / "data"
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


BACKBONES = {
    "masked 3-mers": (TEST_DATA / "random_model.safetensors", 1_200),
    "causal letters": (TEST_DATA / "demo_model.safetensors", 400),
    "6-mers, rotary": (PARITY / "nt_v2", 480),
    "6-mers, absolute": (PARITY / "nt_v1", 240),
    "a segmenter's own": (PARITY / "segment_nt", 480),
}


@pytest.mark.parametrize("name", BACKBONES)
def test_a_new_segmenter_stands_on_any_model_of_kmers(name: str, tmp_path: Path) -> None:
    path, window = BACKBONES[name]
    torch.manual_seed(0)
    segmenter, model = new_segmenter(open_model(path), ["one", "other"], window, FREQUENCIES)
    bases = [GENOME[:window]]
    with torch.inference_mode():
        before = segmenter.probabilities(bases)
    assert before.shape == (1, window, 2)
    # It starts out from the frequencies.
    torch.testing.assert_close(before.mean(dim=(0, 1)), torch.tensor(FREQUENCIES), rtol=0.3, atol=0)
    (tmp_path / "folder").mkdir()
    write_segmenter(tmp_path / "m", segmenter, model, tmp_path / "folder", name="new", provenance={"a": 1})
    stored = open_model(tmp_path / "m")
    again = load_segmenter(stored)
    with torch.inference_mode():
        torch.testing.assert_close(again.probabilities(bases), before, rtol=0, atol=1e-6)
    assert again.window.default == window
    assert stored.labels == ["one", "other"]
    assert not any("lm_head" in tensor for tensor in stored.tensors)


def test_one_seed_makes_one_head() -> None:
    heads = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        segmenter, _ = new_segmenter(open_model(TEST_DATA / "random_model.safetensors"), ["a"], 120, [0.5])
        heads.append(torch.cat([value.flatten() for value in segmenter.network.state_dict().values()]))
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_rotations_are_slowed_for_windows_longer_than_those_of_pretraining() -> None:
    stored = open_model(PARITY / "nt_v2")
    pretrained = stored.config["max_position_embeddings"] - 2
    short, _ = new_segmenter(stored, ["a"], 240, [0.5])
    assert short.stored.config["rescaling_factor"] is None
    window = 24 * (pretrained // 2)
    long, _ = new_segmenter(stored, ["a"], window, [0.5])
    assert long.stored.config["rescaling_factor"] == pytest.approx((window // 6 + 1) / pretrained)
    with torch.inference_mode():
        assert not torch.allclose(short.probabilities([GENOME[:240]]), long.probabilities([GENOME[:240]]))


def test_a_frozen_backbone_has_no_gradients() -> None:
    for frozen in (True, False):
        segmenter, _ = new_segmenter(open_model(TEST_DATA / "random_model.safetensors"), ["a"], 120, [0.5])
        network = trainable_segmenter(segmenter, frozen=frozen)
        of_backbone = {parameter.requires_grad for name, parameter in network.named_parameters() if "backbone" in name}
        of_head = {parameter.requires_grad for name, parameter in network.named_parameters() if "backbone" not in name}
        assert (of_backbone, of_head) == ({not frozen}, {True})


def test_models_that_cannot_be_segmenters_are_refused() -> None:
    with pytest.raises(UserError, match="cover different numbers of bases"):
        new_segmenter(open_model(PARITY / "dnabert2"), ["a"], 120, [0.5])
    with pytest.raises(UserError, match="stands on no language model"):
        new_segmenter(open_model(PARITY / "segment_enformer"), ["a"], 512, [0.5])
    random = open_model(TEST_DATA / "random_model.safetensors")
    for window in (100, 3_072):
        with pytest.raises(UserError, match=r"use a multiple of 12, at most 3,060"):
            new_segmenter(random, ["a"], window, [0.5])


def test_limits_of_windows_follow_from_tokens() -> None:
    from dnalm.models.registry import load_language_model

    limits = {
        name: window_limits(load_language_model(open_model(path))) for name, (path, _) in list(BACKBONES.items())[:4]
    }
    assert limits["masked 3-mers"] == (12, 3_060)
    assert limits["causal letters"] == (4, 1_020)
    assert limits["6-mers, rotary"] == (24, None)
