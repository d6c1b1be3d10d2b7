"""Progress lines and limits of a training, step by step with a clock of the test's own."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dnalm.engine.training_callbacks import CHECKPOINT_SECONDS, Limits, Progress
from dnalm.engine.training_run import DIVERGED, NO_GAIN, SIGNAL, TIME_LIMIT, Divergence, Run
from transformers import TrainerControl, TrainerState, TrainingArguments


class Clock:
    """Seconds since a moment in the past."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(time, "monotonic", made)
    return made


@pytest.fixture
def arguments(tmp_path: Path) -> TrainingArguments:
    return TrainingArguments(output_dir=str(tmp_path / "trainer"), use_cpu=True)


def trainer(**changes: Any) -> Any:
    """What a callback asks of the trainer: a training of 1,000 steps, 100 an epoch, that started at second 1,000."""
    usual: dict[str, Any] = {
        "objective": SimpleNamespace(headline=("bits_per_base", "bits a base")),
        "total_steps": 1_000,
        "steps_an_epoch": 100,
        "run": Run(),
        "started": 1_000.0,
        "is_finite": True,
        "is_without_gain": False,
        "interrupted": lambda: False,
        "settings": SimpleNamespace(time_limit=None),
        "evaluation_seconds": 0.0,
        "batches": SimpleNamespace(tokens=1_000),
        "validation": SimpleNamespace(tokens=100),
        "accelerator": SimpleNamespace(num_processes=1),
    }
    return SimpleNamespace(**(usual | changes))


def after_step(limits: Limits, arguments: TrainingArguments, step: int, max_steps: int = 1_000) -> TrainerControl:
    control = TrainerControl()
    limits.on_step_end(arguments, TrainerState(global_step=step, max_steps=max_steps), control)
    return control


def wanted(control: TrainerControl) -> tuple[bool, bool, bool]:
    return control.should_evaluate, control.should_save, control.should_training_stop


def test_progress_is_told_every_few_seconds(
    clock: Clock, arguments: TrainingArguments, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(log=[{"split": "training", "bits_per_base": 1.98765}])
    run.log.append({"split": "validation", "bits_per_base": 1.0})
    progress = Progress(trainer(run=run, tokens_per_second=54_321.4))
    for step, seconds in ((11, 1), (12, 2), (13, 4.9), (14, 9), (15, 12), (20, 21)):
        clock.now = 1_000.0 + seconds
        progress.on_step_end(arguments, TrainerState(global_step=step, max_steps=1_000), TrainerControl())
    # The first step seen is the 11th of a resumed training, and the time before it is that of the preparation.
    assert capsys.readouterr().out.splitlines() == [
        "Step 14 of 1,000, 54,321 tokens a second, 1.988 bits a base, 0.50 steps a second, about 33 min left",
        "Step 20 of 1,000, 54,321 tokens a second, 1.988 bits a base, 0.50 steps a second, about 33 min left",
    ]


def test_progress_without_rows_and_of_other_processes(
    clock: Clock, arguments: TrainingArguments, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress(trainer(total_steps=40))
    progress.on_step_end(arguments, TrainerState(global_step=1), TrainerControl())
    clock.now += 10
    other = TrainerState(global_step=20, is_world_process_zero=False)
    progress.on_step_end(arguments, other, TrainerControl())
    progress.on_evaluate(arguments, other, TrainerControl(), {"eval_loss": 1.0, "eval_bits_per_base": 2.0})
    assert capsys.readouterr().out == ""
    progress.on_step_end(arguments, TrainerState(global_step=20), TrainerControl())
    assert capsys.readouterr().out == "Step 20 of 40, 2.00 steps a second, about 10 s left\n"


def test_each_validation_is_told(arguments: TrainingArguments, capsys: pytest.CaptureFixture[str]) -> None:
    measures = {"eval_loss": 1.23456, "eval_bits_per_base": 1.78}
    Progress(trainer()).on_evaluate(arguments, TrainerState(global_step=1_234), TrainerControl(), measures)
    assert capsys.readouterr().out == "Step 1,234: validation loss 1.2346, 1.7800 bits a base\n"


def test_the_last_step_is_measured_and_saved(clock: Clock, arguments: TrainingArguments) -> None:
    limits = Limits(trainer())
    assert wanted(after_step(limits, arguments, 999)) == (False, False, False)
    assert wanted(after_step(limits, arguments, 1_000)) == (True, True, False)


def test_a_checkpoint_is_saved_now_and_then(clock: Clock, arguments: TrainingArguments) -> None:
    limits = Limits(trainer())
    saved = []
    for step in range(1, 31):
        clock.now = 1_000.0 + 61 * step
        saved.append(after_step(limits, arguments, step).should_save)
    assert CHECKPOINT_SECONDS == 600
    assert [step for step, is_saved in enumerate(saved, start=1) if is_saved] == [10, 20, 30]


def test_a_signal_ends_the_training_with_a_measurement(clock: Clock, arguments: TrainingArguments) -> None:
    told = trainer(interrupted=lambda: True)
    assert wanted(after_step(Limits(told), arguments, 5)) == (True, True, True)
    assert told.run.stopped == SIGNAL


def test_a_loss_that_is_nan_ends_everything(clock: Clock, arguments: TrainingArguments) -> None:
    broken = trainer(is_finite=False, interrupted=lambda: True)
    with pytest.raises(Divergence):
        after_step(Limits(broken), arguments, 5)
    assert broken.run.stopped == ""


@pytest.mark.parametrize(
    ("evaluation_seconds", "last"),
    # An hour of 3,600 s with steps of 10 s. An evaluation takes 100 s as the one before, or by the steps' own speed
    # half of a tenth of an epoch of 1,000 s.
    [(100.0, 350), (0.0, 355)],
)
def test_the_time_limit_leaves_time_for_the_last_measurement(
    clock: Clock, arguments: TrainingArguments, evaluation_seconds: float, last: int
) -> None:
    limited = trainer(settings=SimpleNamespace(time_limit=1.0), evaluation_seconds=evaluation_seconds)
    limits = Limits(limited)
    limits.on_train_begin(arguments, TrainerState(), TrainerControl())
    for step in range(1, 1_000):
        clock.now = 1_000.0 + 10 * step
        if after_step(limits, arguments, step).should_training_stop:
            break
    assert (step, limited.run.stopped) == (last + 1, TIME_LIMIT)


def test_patience_ends_the_training_after_a_checkpoint(arguments: TrainingArguments) -> None:
    for without_gain, stopped, expected in ((False, "", ""), (True, "", NO_GAIN), (True, SIGNAL, SIGNAL)):
        patient = trainer(is_without_gain=without_gain, run=Run(stopped=stopped))
        control = TrainerControl()
        Limits(patient).on_save(arguments, TrainerState(), control)
        assert patient.run.stopped == expected
        assert control.should_training_stop == (expected == NO_GAIN)


@pytest.mark.parametrize(
    ("own", "others", "expected"),
    [("", [0], ""), ("", [1, 2], TIME_LIMIT), (SIGNAL, [2, 0], SIGNAL), ("", [4], DIVERGED)],
)
def test_several_processes_do_what_the_most_urgent_wants(
    clock: Clock, arguments: TrainingArguments, own: str, others: list[int], expected: str
) -> None:
    """The processes' wishes are gathered as numbers: nothing, save, time limit, signal, diverged."""
    import torch

    def gather(number: torch.Tensor) -> torch.Tensor:
        return torch.cat([number.view(1), torch.tensor(others)])

    accelerator = SimpleNamespace(num_processes=1 + len(others), device=torch.device("cpu"), gather=gather)
    several = trainer(accelerator=accelerator, interrupted=lambda: own == SIGNAL)
    limits = Limits(several)
    if expected == DIVERGED:
        with pytest.raises(Divergence):
            after_step(limits, arguments, 5)
    else:
        assert after_step(limits, arguments, 5).should_training_stop == bool(expected)
        assert several.run.stopped == expected
