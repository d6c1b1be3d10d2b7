"""Batches of token windows: each window once per epoch, targets, masks, order, packing."""

from collections import Counter

import numpy as np
import pytest
import torch
from dnalm.engine.training_data import Batching, TokenizedWindows
from token_windows import LENGTHS, PAD, batches_of, windows_of


def rows_of(batch: dict[str, torch.Tensor]) -> list[tuple[tuple[int, ...], ...]]:
    """Return each window of a batch as its ids, targets, weights and bases, padding apart."""
    found = []
    for row in range(len(batch["input_ids"])):
        if "position_ids" in batch:
            starts = np.flatnonzero(batch["position_ids"][row].numpy() == 0)
            filled = int(batch["attention_mask"][row, 0].any(0).sum())
        else:
            starts, filled = np.array([0]), int(batch["attention_mask"][row].sum())
        ends = [*starts[1:], filled]
        for start, end in zip(starts, ends, strict=True):
            part = [
                tuple(np.round(batch[name][row, start:end].tolist(), 4))
                for name in ("input_ids", "targets", "weights", "bases")
            ]
            found.append(tuple(part))
    return [window for window in found if 1 in window[0]]


@pytest.mark.parametrize(
    ("batching", "masked"),
    [("padded", False), ("grouped", False), ("packed", False), ("padded", True), ("grouped", True)],
)
def test_an_epoch_has_each_window_once_whatever_the_batching(batching: Batching, masked: bool) -> None:
    windows = windows_of(LENGTHS, weighted=True)
    plain = batches_of(windows, "padded", 1, masked)
    batches = batches_of(windows, batching, masked=masked)
    for epoch in (0, 3):
        plain.set_epoch(epoch)
        batches.set_epoch(epoch)
        one_by_one = Counter(window for number in range(len(plain)) for window in rows_of(plain[number]))
        together = Counter(window for number in range(len(batches)) for window in rows_of(batches[number]))
        assert sum(one_by_one.values()) == len(LENGTHS)
        assert together == one_by_one


def test_an_epoch_is_the_same_each_time_and_the_next_is_another() -> None:
    for batching in ("padded", "grouped", "packed"):
        one, two = (batches_of(windows_of(LENGTHS), batching) for _ in range(2))
        two.set_epoch(5)
        two.set_epoch(0)
        assert len(one) == len(two)
        for number in range(len(one)):
            assert all(torch.equal(one[number][name], tensor) for name, tensor in two[number].items())
        two.set_epoch(1)
        assert len(one) == len(two)
        assert any(rows_of(one[number]) != rows_of(two[number]) for number in range(len(one)))


def test_a_causal_model_predicts_each_next_base_and_no_special_token() -> None:
    ids = np.array([1, 5, 6, 0, 7, 2])
    bases = np.array([0, 3, 1, 0, 2, 0])
    weights = np.array([1, 0.5, 1, 1, 0.25, 1], dtype=np.float32)
    windows = TokenizedWindows(ids.astype(np.int32), bases.astype(np.uint16), weights, np.array([0, 6]))
    batch = batches_of(windows, "padded")[0]
    assert batch["input_ids"].tolist() == [ids.tolist()]
    assert batch["weights"].tolist() == [[0.5, 1, 0, 0.25, 0, 0]]
    predicted = batch["weights"][0] > 0
    assert batch["targets"][0][predicted].tolist() == [5, 6, 7]
    assert batch["bases"][0][predicted].tolist() == [3, 1, 2]


def test_a_masked_model_predicts_what_is_hidden_and_nothing_else() -> None:
    windows = windows_of([200] * 20, weighted=True)
    batches = batches_of(windows, "padded", 1, masked=True)
    hidden = 0
    for number in range(len(batches)):
        batch = batches[number]
        predicted = batch["weights"] > 0
        changed = batch["input_ids"] != batch["targets"]
        assert not (changed & ~predicted).any()
        assert (batch["bases"][predicted] == 1).all()
        assert not torch.isin(batch["targets"][predicted], torch.tensor([0, 1])).any()
        hidden += int(predicted.sum())
    assert 0.13 < hidden / (windows.bases > 0).sum() < 0.17


def test_validation_is_the_same_in_every_epoch() -> None:
    other = windows_of(LENGTHS, seed=1)
    batches = batches_of(windows_of(LENGTHS), "grouped", masked=True, other_strands=other, validation=True)
    before = [rows_of(batches[number]) for number in range(len(batches))]
    batches.set_epoch(7)
    assert [rows_of(batches[number]) for number in range(len(batches))] == before


def test_either_strand_is_trained_on_as_often() -> None:
    one, other = windows_of([30] * 400, seed=1), windows_of([32] * 400, seed=2)
    batches = batches_of(one, "padded", 1, other_strands=other)
    lengths = [batches[number]["input_ids"].shape[1] for number in range(len(batches))]
    assert set(lengths) == {31, 33}
    assert 150 < lengths.count(31) < 250
    batches.set_epoch(1)
    assert [batches[number]["input_ids"].shape[1] for number in range(len(batches))] != lengths


def test_grouping_wastes_little() -> None:
    windows = windows_of(np.random.default_rng(1).integers(10, 100, 800).tolist())

    def waste(batching: Batching) -> float:
        batches = batches_of(windows, batching, 8)
        places = sum(batches[number]["input_ids"].numel() for number in range(len(batches)))
        return 1 - batches.tokens / places

    assert waste("padded") > 0.3
    assert waste("grouped") < 0.06
    assert waste("packed") < 0.06


def test_packed_rows_are_bounded_and_no_window_sees_another() -> None:
    batches = batches_of(windows_of(LENGTHS), "packed")
    for number in range(len(batches)):
        batch = batches[number]
        assert batch["input_ids"].shape[1] <= max(LENGTHS) + 1
        for row in range(len(batch["input_ids"])):
            positions, mask = batch["position_ids"][row].tolist(), batch["attention_mask"][row, 0]
            begin = 0
            for place, position in enumerate(positions):
                if position == 0 and batch["input_ids"][row, place] != PAD:
                    begin = place
                if batch["input_ids"][row, place] != PAD:
                    assert np.flatnonzero(mask[place].numpy()).tolist() == list(range(begin, place + 1))
