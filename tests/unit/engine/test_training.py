"""The trainer: its loss and steps, compared with windows one by one, and how a training is told of and ends."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dnalm.engine.devices import prepare_machine
from dnalm.engine.objectives import LanguageModelling
from dnalm.engine.training import ModelTrainer
from dnalm.engine.training_data import Batching, TokenizedWindows, TrainingBatches
from dnalm.engine.training_run import Run, TrainingSettings
from dnalm.models.language_model import LanguageModel
from dnalm.models.registry import new_language_model, trainable
from dnalm.models.vocabularies import all_kmers
from token_windows import LENGTHS, batches_of, windows_of

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
