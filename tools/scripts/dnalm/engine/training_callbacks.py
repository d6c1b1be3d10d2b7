"""What happens after a step: a line of progress, and the end in time."""

import time
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from dnalm.engine.training_run import DIVERGED, NO_GAIN, SAVE, SIGNAL, TIME_LIMIT, Divergence
from dnalm.report.progress import duration

if TYPE_CHECKING:
    from dnalm.engine.training import ModelTrainer

PROGRESS_SECONDS = 5.0
CHECKPOINT_SECONDS = 600.0
FORWARD_SHARE = 0.5  # at most, of a step's time: measuring has no backward pass


class Progress(TrainerCallback):
    """One flushed line every few seconds."""

    def __init__(self, trainer: "ModelTrainer") -> None:
        self._trainer = trainer
        self._start = self._last = time.monotonic()
        self._first_step: int | None = None
        self._measure, self._unit = trainer.objective.headline

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Say where the training is."""
        if self._first_step is None:
            self._first_step = state.global_step - 1
            self._start = time.monotonic()
        now = time.monotonic()
        if now - self._last < PROGRESS_SECONDS or not state.is_world_process_zero:
            return
        self._last = now
        done = state.global_step - self._first_step
        rate = done / max(now - self._start, 1e-9)
        left = (self._trainer.total_steps - state.global_step) / rate
        rows = [row for row in self._trainer.run.log if row["split"] == "training"]
        said = (
            f", {self._trainer.tokens_per_second:,.0f} tokens a second, {rows[-1][self._measure]:.3f} {self._unit}"
            if rows
            else ""
        )
        print(
            f"Step {state.global_step:,} of {self._trainer.total_steps:,}{said}, {rate:.2f} steps a second, "
            f"about {duration(left)} left",
            flush=True,
        )

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Say what validation gave."""
        if metrics and state.is_world_process_zero:
            print(
                f"Step {state.global_step:,}: validation loss {metrics['eval_loss']:.4f}, "
                f"{metrics[f'eval_{self._measure}']:.4f} {self._unit}",
                flush=True,
            )


class Limits(TrainerCallback):
    """End in time: at the last step, at the time limit, on a signal, or when patience is over."""

    def __init__(self, trainer: "ModelTrainer") -> None:
        self._trainer = trainer
        self._start, self._saved = trainer.started, time.monotonic()
        self._trained_since, self._steps = self._saved, 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Look at the clock."""
        self._trained_since = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Measure and save before the end, and now and then between."""
        now = time.monotonic()
        self._steps += 1
        what = self._of_all(self._what_to_do(now))
        if what == DIVERGED:
            raise Divergence
        if what in {TIME_LIMIT, SIGNAL}:
            self._trainer.run.stopped = what
            control.should_evaluate = control.should_save = control.should_training_stop = True
        elif state.global_step >= state.max_steps:
            control.should_evaluate = control.should_save = True
        elif what == SAVE:
            control.should_save = True
        if control.should_save:
            self._saved = now

    def _what_to_do(self, now: float) -> str:
        trainer = self._trainer
        if not trainer.is_finite:
            return DIVERGED
        if trainer.interrupted():
            return SIGNAL
        limit = trainer.settings.time_limit
        if limit is not None and now + self._seconds_to_measure(now) - self._start > limit * 3600:
            return TIME_LIMIT
        return SAVE if now - self._saved > CHECKPOINT_SECONDS else ""

    def _seconds_to_measure(self, now: float) -> float:
        """Return how long the last evaluation will take: as the one before, or else as steps over as many tokens."""
        trainer = self._trainer
        if trainer.evaluation_seconds:
            return trainer.evaluation_seconds
        epoch = (now - self._trained_since) / self._steps * trainer.steps_an_epoch
        return FORWARD_SHARE * epoch * trainer.validation.tokens / trainer.batches.tokens

    def _of_all(self, what: str) -> str:
        """Let all processes do what the most urgent of them wants: none goes on, saves or ends alone."""
        accelerator = self._trainer.accelerator
        if accelerator.num_processes == 1:
            return what
        urgency = ("", SAVE, TIME_LIMIT, SIGNAL, DIVERGED)
        number = torch.tensor(urgency.index(what), device=accelerator.device)
        return urgency[int(accelerator.gather(number).max())]

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """End when validation has not become better for long enough."""
        run = self._trainer.run
        if self._trainer.is_without_gain and not run.stopped:
            run.stopped = NO_GAIN
            control.should_training_stop = True
