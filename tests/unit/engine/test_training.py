"""The trainer: its loss and steps, compared with windows one by one, and how a training is told of and ends."""

import itertools
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dnalm.engine.checkpoints import TrainingState
from dnalm.engine.devices import prepare_machine
from dnalm.engine.objectives import LanguageModelling, Losses
from dnalm.engine.training import ModelTrainer, train
from dnalm.engine.training_data import Batch, Batching, TokenizedWindows, TrainingBatches
from dnalm.engine.training_run import DIVERGED, NO_GAIN, SIGNAL, Run, TrainingSettings
from dnalm.errors import UserError
from dnalm.models.language_model import LanguageModel
from dnalm.models.registry import new_language_model, trainable
from dnalm.models.vocabularies import all_kmers
from token_windows import LENGTHS, batches_of, windows_of
from torch import Tensor, nn

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


def settings(**changes: Any) -> TrainingSettings:
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
    return TrainingSettings(**(usual | changes))


def model_of(architecture: str) -> LanguageModel:
    torch.manual_seed(2)
    tokenizer = {"tokenizer.json": json.loads(all_kmers(1).to_str())}
    return new_language_model(CONFIGS[architecture], tokenizer, "test", causal=architecture != "modernbert")


def trainer_of(
    model: LanguageModel, training: TrainingBatches, validation: TrainingBatches, folder: Path, **changes: Any
) -> ModelTrainer:
    machine = prepare_machine("cpu", 1, None)
    return ModelTrainer(
        trainable(model),
        LanguageModelling(training.masked),
        training,
        validation,
        settings(**changes),
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


@pytest.mark.slow
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


@pytest.mark.slow
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


class Weight(nn.Module):
    """A model of one number."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(1))

    def forward(self) -> Tensor:
        return self.value


class SquaredDistance:
    """The squared distance of the model's number to that of a batch; the sums are this and the number of batches."""

    quantities = 2
    headline = ("loss", "loss")

    def losses(self, model: nn.Module, batch: Batch) -> Losses:
        total = (model() - batch["number"]).square().sum()
        return Losses(total, torch.stack([total.detach().double(), torch.tensor(1.0, dtype=torch.float64)]))

    def weight(self, batch: Batch) -> Tensor:
        return torch.tensor(1.0)

    def measures(self, sums: Sequence[float]) -> dict[str, float]:
        return {"loss": sums[0] / sums[1]}


class Numbers:
    """Batches of one number and ten tokens each."""

    def __init__(self, *numbers: float) -> None:
        self._numbers = numbers
        self.tokens = 10 * len(numbers)

    def set_epoch(self, epoch: int) -> None: ...

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, number: int) -> Batch:
        return {"number": torch.tensor([self._numbers[number]]), "tokens": torch.tensor(10)}


class OneByOne(Numbers):
    """One batch for validation, another each time that it is read."""

    def __init__(self, *numbers: float) -> None:
        super().__init__(0.0)
        self._left = list(numbers)

    def __getitem__(self, number: int) -> Batch:
        return {"number": torch.tensor([self._left.pop(0)]), "tokens": torch.tensor(10)}


class Kept:
    """What a training tells of: whether each best model was of the schedule, and a copy of each checkpoint."""

    def __init__(self) -> None:
        self.best: list[bool] = []
        self.checkpoints: list[tuple[TrainingState, Run]] = []

    def checkpoint(self, state: TrainingState, run: Run) -> None:
        tensors = {name: tensor.clone() for name, tensor in state.tensors.items()}
        self.checkpoints.append((TrainingState(tensors, state.facts), run.copy()))


Make = Callable[..., ModelTrainer]


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def make(tmp_path: Path, kept: Kept) -> Make:
    """Return a function that makes the trainer of a model of one number; four steps at a learning rate of zero."""
    made = itertools.count()

    def call(
        training: Numbers | None = None,
        validation: Numbers | None = None,
        *,
        run: Run | None = None,
        interrupted: Callable[[], bool] = lambda: False,
        **changes: Any,
    ) -> ModelTrainer:
        usual = {"learning_rate": 0.0, "weight_decay": 0.0, "max_steps": 4, "evaluate_every": 1}
        folder = tmp_path / str(next(made))
        folder.mkdir()
        return ModelTrainer(
            Weight(),
            SquaredDistance(),
            training or Numbers(1.0, 2.0),
            validation or Numbers(1.0),
            settings(**(usual | changes)),
            prepare_machine("cpu", 1, None),
            folder,
            run or Run(),
            time.monotonic(),
            kept.best.append,
            kept.checkpoint,
            interrupted,
        )

    return call


def rows(run: Run, split: str) -> list[tuple[int, float]]:
    return [(row["step"], row["loss"]) for row in run.log if row["split"] == split]


@pytest.mark.parametrize(
    ("changes", "total", "warmup", "an_epoch"),
    [
        ({"epochs": 1, "max_steps": None}, 7, 0, 7),
        ({"epochs": 2.5, "max_steps": None, "gradient_accumulation": 2, "warmup": 0.2}, 10, 2, 4),
        ({"epochs": 1.2, "max_steps": None}, 9, 0, 7),
        ({"epochs": 0.01, "max_steps": None}, 1, 0, 7),
        ({"epochs": 9, "max_steps": 3, "warmup": 0.5}, 3, 2, 7),
    ],
)
def test_steps_follow_from_epochs_and_accumulation(
    make: Make, changes: dict[str, Any], total: int, warmup: int, an_epoch: int
) -> None:
    trainer = make(Numbers(*range(7)), evaluate_every=None, **changes)
    assert (trainer.total_steps, trainer.steps_an_epoch) == (total, an_epoch)
    assert (trainer.args.warmup_steps, trainer.args.eval_steps, trainer.args.save_steps) == (warmup, an_epoch, an_epoch)


@pytest.mark.slow
def test_a_training_logs_each_step_and_keeps_the_best(make: Make, kept: Kept) -> None:
    trainer = make(Numbers(1.0, 2.0), OneByOne(3.0, 1.0, 2.0, 0.5))
    train(trainer, None)
    run = trainer.run
    assert rows(run, "training") == [(1, 1.0), (2, 4.0), (3, 1.0), (4, 4.0)]
    assert rows(run, "validation") == [(1, 9.0), (2, 1.0), (3, 4.0), (4, 0.25)]
    assert (run.best_loss, run.best_step, run.without_gain, run.steps, run.stopped) == (0.25, 4, 0, 4, "")
    assert kept.best == [True, True, True]
    assert [run.steps for _, run in kept.checkpoints] == [1, 2, 3, 4]
    assert [row["epoch"] for row in run.log if row["split"] == "training"] == [0.5, 1.0, 1.5, 2.0]


@pytest.mark.slow
def test_a_training_ends_when_validation_no_longer_becomes_better(make: Make, kept: Kept) -> None:
    trainer = make(None, OneByOne(2.0, 1.0, 1.0, 3.0, 0.0), max_steps=9, patience=2)
    train(trainer, None)
    run = trainer.run
    assert (run.stopped, run.steps, run.best_step, run.without_gain) == (NO_GAIN, 4, 2, 2)
    assert kept.best == [True, True]
    without = make(None, OneByOne(2.0, 1.0, 1.0, 3.0, 4.0), max_steps=5, patience=0)
    train(without, None)
    assert (without.run.stopped, without.run.steps) == ("", 5)


@pytest.mark.slow
def test_an_interrupted_training_is_measured_but_not_by_the_schedule(make: Make, kept: Kept) -> None:
    trainer = make(None, OneByOne(2.0), evaluate_every=3, interrupted=lambda: True)
    train(trainer, None)
    assert (trainer.run.stopped, trainer.run.steps, trainer.run.best_step) == (SIGNAL, 1, 1)
    assert rows(trainer.run, "validation") == [(1, 4.0)]
    assert kept.best == [False]
    ((_, of_schedule),) = kept.checkpoints
    assert rows(of_schedule, "validation") == []
    assert (of_schedule.best_loss, of_schedule.steps) == (math.inf, 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("training", "validation", "steps"),
    [(Numbers(1.0, math.nan), Numbers(1.0), 2), (Numbers(1.0, 2.0), Numbers(math.inf), 3)],
    ids=["training", "validation"],
)
def test_a_loss_that_became_nan_ends_the_training(
    make: Make, kept: Kept, training: Numbers, validation: Numbers, steps: int
) -> None:
    trainer = make(training, validation, evaluate_every=3)
    train(trainer, None)
    assert (trainer.run.stopped, trainer.run.steps) == (DIVERGED, steps)
    assert kept.checkpoints == []


@pytest.mark.slow
def test_a_batch_too_large_for_the_gpu_is_refused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any) -> Losses:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(SquaredDistance, "losses", full)
    with pytest.raises(UserError, match=r"does not fit into the GPU's memory \(step 1\); use a smaller batch size"):
        train(make(), None)


def test_gradients_of_a_step_are_of_the_mean_over_its_batches(make: Make) -> None:
    trainer = make(Numbers(1.0, 5.0), gradient_accumulation=2, learning_rate=0.5, max_steps=1)
    batches = [Numbers(1.0, 5.0)[number] for number in range(2)]
    items = trainer._get_num_items_in_batch(batches, torch.device("cpu"))
    losses = [trainer.compute_loss(trainer.model, batch, num_items_in_batch=items) for batch in batches]
    assert [loss.item() for loss in losses] == [0.5, 12.5]
    sum(losses).backward()
    assert trainer.model.value.grad.item() == -6  # twice the mean distance


@pytest.mark.slow
def test_resuming_gives_the_number_and_log_of_the_uninterrupted_training(make: Make, kept: Kept) -> None:
    def trainer(**options: Any) -> ModelTrainer:
        return make(Numbers(1.0, 5.0, 2.0), learning_rate=0.3, max_steps=5, evaluate_every=2, warmup=0.4, **options)

    numbers: list[float] = []
    whole = trainer()

    def keep(state: TrainingState, run: Run) -> None:
        kept.checkpoint(state, run)
        numbers.append(whole.model.value.item())

    whole.on_checkpoint = keep
    train(whole, None)
    state, run = kept.checkpoints[0]
    assert (run.steps, len(numbers)) == (2, 3)
    resumed = trainer(run=Run.of_facts(run.facts()))
    resumed.model.value.data.fill_(numbers[0])
    train(resumed, state)
    assert resumed.model.value.item() == whole.model.value.item() != numbers[0]
    assert whole.run.log == resumed.run.log
    assert whole.tokens_per_second > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("max_steps", "without_gain", "stopped"),
    [(4, 0, ""), (3, 9, ""), (9, 3, NO_GAIN)],
    ids=["done", "beyond", "no gain"],
)
def test_nothing_is_trained_where_nothing_is_left(
    make: Make, kept: Kept, max_steps: int, without_gain: int, stopped: str
) -> None:
    train(make(), None)
    state, _ = kept.checkpoints[-1]
    run = Run(without_gain=without_gain)
    trainer = make(run=run, max_steps=max_steps)
    count = len(kept.checkpoints)
    train(trainer, state)
    assert (run.stopped, run.steps, run.log) == (stopped, 4, [])
    assert len(kept.checkpoints) == count


@pytest.mark.slow
def test_the_optimizer_of_another_model_is_refused(make: Make, kept: Kept) -> None:
    train(make(), None)
    state, _ = kept.checkpoints[1]
    other = {name: torch.zeros(3) if name.endswith("exp_avg") else tensor for name, tensor in state.tensors.items()}
    assert other.keys() == state.tensors.keys()
    with pytest.raises(UserError, match="state of training is damaged"):
        train(make(), TrainingState(other, state.facts))
