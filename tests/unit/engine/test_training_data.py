import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dnalm.engine.devices import prepare_machine
from dnalm.engine.objectives import LanguageModelling
from dnalm.engine.training import ModelTrainer
from dnalm.engine.training_data import Batching, BatchPlan, Masking, TokenizedWindows, TrainingBatches
from dnalm.engine.training_run import Run, TrainingSettings
from dnalm.models.language_model import LanguageModel
from dnalm.models.registry import new_language_model, trainable
from dnalm.models.vocabularies import all_kmers

MASK, PAD = 4, 3
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
}
MIXTURE = {"num_local_experts": 4, "num_experts_per_tok": 1}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama"} | SMALL,
    "mistral": {"model_type": "mistral"} | SMALL,
    "mixtral": {"model_type": "mixtral"} | SMALL | MIXTURE,
    "modernbert": {"model_type": "modernbert"} | SMALL,
}


def windows_of(lengths: list[int], seed: int = 0, weighted: bool = False) -> TokenizedWindows:
    """Tokens of letters behind a start, some of which are N and so no base."""
    generator = np.random.default_rng(seed)
    ids, bases = [], []
    for length in lengths:
        letters = generator.integers(5, 9, length)
        unknown = generator.random(length) < 0.05
        ids.append(np.concatenate([[1], np.where(unknown, 0, letters)]))
        bases.append(np.concatenate([[0], np.where(unknown, 0, 1)]))
    count = sum(lengths) + len(lengths)
    weights = generator.choice([0.1, 1.0], count) if weighted else np.ones(count)
    return TokenizedWindows(
        np.concatenate(ids).astype(np.int32),
        np.concatenate(bases).astype(np.uint16),
        weights.astype(np.float32),
        np.cumsum([0, *(length + 1 for length in lengths)]),
    )


def batches_of(
    windows: TokenizedWindows, batching: Batching, size: int = 4, masked: bool = False, **options: Any
) -> TrainingBatches:
    masking = Masking(MASK, np.arange(5, 9)) if masked else None
    plan = BatchPlan(batching, size, int(windows.lengths.max()), seed=1)
    return TrainingBatches(windows, plan, PAD, masking, **options)


LENGTHS = np.random.default_rng(9).integers(10, 60, 45).tolist()


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


def test_packed_rows_are_not_longer_than_the_longest_window_and_no_window_sees_another() -> None:
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


def model_of(architecture: str) -> LanguageModel:
    torch.manual_seed(2)
    tokenizer = {"tokenizer.json": json.loads(all_kmers(1).to_str())}
    return new_language_model(CONFIGS[architecture], tokenizer, "test", causal=architecture != "modernbert")


def trainer_of(
    model: LanguageModel, training: TrainingBatches, validation: TrainingBatches, folder: Path, **changes: Any
) -> ModelTrainer:
    usual: dict[str, Any] = {
        "epochs": 1,
        "max_steps": 1,
        "gradient_accumulation": 1,
        "learning_rate": 0.01,
        "weight_decay": 0.01,
        "warmup": 0,
        "patience": 3,
        "evaluate_every": None,
        "dtype": "float32",
        "seed": 0,
        "time_limit": None,
    }
    machine = prepare_machine("cpu", 1, None)
    settings = TrainingSettings(**(usual | changes))
    return ModelTrainer(
        trainable(model),
        LanguageModelling(training.masked),
        training,
        validation,
        settings,
        machine,
        folder,
        Run(),
        0.0,
        lambda scheduled: None,
        lambda state, run: None,
    )


def one_by_one(model: LanguageModel, batches: TrainingBatches) -> tuple[float, int, int]:
    """Return nats, tokens and bases of the windows, each read alone and each token by its own log-probability."""
    nats, tokens, bases = 0.0, 0, 0
    for number in range(len(batches)):
        batch = batches[number]
        assert len(batch["input_ids"]) == 1
        with torch.no_grad():
            logits = model.logits(batch["input_ids"], None)[0].double().log_softmax(-1)
        for place in range(len(logits)):
            if batch["weights"][0, place] > 0:
                nats -= float(logits[place, batch["targets"][0, place]])
                tokens += 1
                bases += int(batch["bases"][0, place])
    return nats, tokens, bases


@pytest.mark.parametrize(
    ("architecture", "batching"),
    [
        *itertools.product(["llama", "mistral", "mixtral"], ["padded", "grouped", "packed"]),
        *itertools.product(["modernbert"], ["padded", "grouped"]),  # it sees both ways and is never packed
    ],
)
def test_the_loss_is_that_of_the_windows_one_by_one(architecture: str, batching: Batching, tmp_path: Path) -> None:
    masked = architecture == "modernbert"
    model = model_of(architecture)
    windows = windows_of(LENGTHS)
    trainer = trainer_of(model, batches_of(windows, batching, masked=masked), batches_of(windows, "padded"), tmp_path)
    found = trainer.measure(batches_of(windows, batching, masked=masked))
    found_nats, found_tokens, found_bases = found
    assert model.with_head is not None
    model.with_head.eval()
    nats, tokens, bases = one_by_one(model, batches_of(windows, "padded", 1, masked))
    assert (found_tokens, found_bases) == (tokens, bases)
    assert found_nats / found_tokens == pytest.approx(nats / tokens, abs=1e-5)
    measures = trainer.objective.measures(found)
    assert measures["bits_per_base"] == pytest.approx(nats / np.log(2) / bases, abs=2e-5)
    assert measures["perplexity"] == pytest.approx(np.exp(nats / tokens), rel=2e-5)


def weights_after_a_step(size: int, folder: Path, *, weighted: bool = False, **changes: Any) -> dict[str, torch.Tensor]:
    model = model_of("llama")
    windows = windows_of(LENGTHS[:16], weighted=weighted)
    trainer = trainer_of(
        model, batches_of(windows, "padded", size), batches_of(windows, "padded", 4, validation=True), folder, **changes
    )
    trainer.fit(None)
    return {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}


@pytest.mark.parametrize("weighted", [False, True])
def test_two_batches_whose_gradients_make_a_step_are_one_of_twice_the_size(tmp_path: Path, weighted: bool) -> None:
    whole = weights_after_a_step(8, tmp_path, weighted=weighted)
    halves = weights_after_a_step(4, tmp_path, weighted=weighted, gradient_accumulation=2)
    for name, weights in whole.items():
        assert torch.allclose(halves[name], weights, rtol=0, atol=1e-5), name


def test_tokens_of_low_weight_change_less(tmp_path: Path) -> None:
    """The gradient is that of the weighted mean, written out."""
    model = model_of("llama")
    windows = windows_of([30, 50], weighted=True)
    batches = batches_of(windows, "padded", 2)
    trainer = trainer_of(model, batches, batches_of(windows, "padded", 2, validation=True), tmp_path)
    batch = batches[0]
    loss = trainer.compute_loss(
        trainer.model, batch, num_items_in_batch=trainer._get_num_items_in_batch([batch], torch.device("cpu"))
    )
    logits = trainer.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.log_softmax(-1)
    nats = -logits.gather(-1, batch["targets"][..., None])[..., 0]
    expected = (nats * batch["weights"]).sum() / batch["weights"].sum()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    assert set(batch["weights"].unique().tolist()) == {0.0, float(np.float32(0.1)), 1.0}


def test_a_batch_of_hardly_any_weight_changes_hardly_anything(tmp_path: Path) -> None:
    model = model_of("llama")
    windows = windows_of([30, 50])
    light = TokenizedWindows(windows.ids, windows.bases, windows.weights * np.float32(1e-6), windows.offsets)
    batches = batches_of(light, "padded", 2)
    trainer = trainer_of(model, batches, batches, tmp_path)
    items = trainer._get_num_items_in_batch([batches[0]], torch.device("cpu"))
    assert trainer.compute_loss(trainer.model, batches[0], num_items_in_batch=items).item() < 1e-3
