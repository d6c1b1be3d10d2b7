"""One trainer for everything that is trained: transformers' own, with our batches, losses, limits and checkpoints."""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from dnalm.engine.checkpoints import TrainingState, capture, damaged_state, steps_done, unfold
from dnalm.engine.devices import Machine
from dnalm.engine.training_data import Batch, TrainingBatches
from dnalm.errors import UserError
from dnalm.models.model_file import is_finite
from dnalm.report.progress import duration

NATS_A_BIT = math.log(2)
LOGGED_ROWS = 200  # of training, in the log of a whole run
PROGRESS_SECONDS = 5.0
CHECKPOINT_SECONDS = 600.0
SAVE, TIME_LIMIT, SIGNAL, NO_GAIN, DIVERGED = "save", "time limit", "signal", "no gain", "diverged"


@dataclass(frozen=True)
class TrainingSettings:
    """How a model is trained; the names are those of `dnalm_pretrain.py --help`."""

    epochs: float
    max_steps: int | None
    gradient_accumulation: int
    learning_rate: float
    weight_decay: float
    warmup: float
    patience: int
    evaluate_every: int | None
    dtype: str
    seed: int
    time_limit: float | None


@dataclass
class Run:
    """What became of a training.

    Attributes:
        log: one row a measurement, column → value.
        best_loss: of validation, in nats a token; infinite before the first.
        best_step: at which it was.
        without_gain: evaluations since.
        stopped: why it ended before its last step; empty if it did not.
        steps: done in all.
    """

    log: list[dict[str, Any]] = field(default_factory=list)
    best_loss: float = math.inf
    best_step: int = 0
    without_gain: int = 0
    stopped: str = ""
    steps: int = 0

    def copy(self) -> "Run":
        """Return a run of its own with the same rows."""
        return replace(self, log=list(self.log))

    def facts(self) -> dict[str, Any]:
        """Return the run as JSON, which has no word for what is infinite or no number: None stands for both."""
        rows = [{name: _finite(value) for name, value in row.items()} for row in self.log]
        return vars(self) | {"log": rows, "best_loss": _finite(self.best_loss)}

    @classmethod
    def of_facts(cls, facts: dict[str, Any]) -> "Run":
        """Return the run that `facts` told of, not stopped; raise UserError if it told of none."""
        try:
            best = facts["best_loss"]
            return cls(**facts | {"best_loss": math.inf if best is None else float(best), "stopped": ""})
        except (KeyError, TypeError, ValueError) as error:
            raise damaged_state() from error


@dataclass
class Sums:
    """Nats, tokens and bases predicted so far."""

    nats: float = 0.0
    tokens: float = 0.0
    bases: float = 0.0

    def measures(self) -> dict[str, float]:
        """Return loss (nats a token), perplexity, and bits a base."""
        loss = self.nats / self.tokens if self.tokens else math.nan
        perplexity = math.exp(loss) if loss < 700 else math.inf
        bits = self.nats / NATS_A_BIT / self.bases if self.bases else math.nan
        return {"loss": loss, "perplexity": perplexity, "bits_per_base": bits}


class LanguageModelTrainer(Trainer):
    """Train a language model on batches of `TrainingBatches`.

    Args:
        model: a module that takes input_ids and attention_mask and gives logits.
        training: its batches.
        validation: batches to measure it with.
        settings: how.
        machine: device and threads.
        folder: of this job's own, for nothing that stays.
        run: filled as the training goes; that of an interrupted run where one is resumed.
        started: when the job began, from which its time limit counts, in seconds of the monotonic clock.
        on_best: told when the model is better than ever: to keep its weights. It is given whether the schedule asked for
            the evaluation, or only an early end did.
        on_checkpoint: given the state of training, and the run as a later job is to go on with: to keep them with the
            model's weights. An evaluation that only an early end asked for is none of the schedule's and not in it.
        interrupted: says whether somebody asked the job to end.
    """

    # Losses are divided by what all micro-batches of a step predict together.
    loss_is_scaled_for_ga = True
    since = 0.0  # when the last row of the log was written, in seconds of the monotonic clock

    def __init__(
        self,
        model: nn.Module,
        training: TrainingBatches,
        validation: TrainingBatches,
        settings: TrainingSettings,
        machine: Machine,
        folder: Path,
        run: Run,
        started: float,
        on_best: Callable[[bool], None],
        on_checkpoint: Callable[[TrainingState, Run], None],
        interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        self.batches, self.validation, self.settings, self.run = training, validation, settings, run
        self.started = started
        self.on_best, self.on_checkpoint, self.interrupted = on_best, on_checkpoint, interrupted
        # Nats, tokens and bases predicted, and tokens read, since the last row of the log; on the model's device.
        self._sums = torch.zeros(4, dtype=torch.float64)
        self.evaluation_seconds = 0.0
        self._scheduled_run: Run | None = None
        transformers.utils.logging.disable_progress_bar()
        batches = math.ceil(len(training) / processes())
        a_step = max(1, math.ceil(batches / settings.gradient_accumulation))
        total = settings.max_steps or max(1, math.ceil(settings.epochs * a_step))
        arguments = TrainingArguments(
            output_dir=str(folder / "trainer"),
            num_train_epochs=settings.epochs,
            max_steps=settings.max_steps or -1,
            per_device_train_batch_size=1,  # a batch is one item of our dataset
            gradient_accumulation_steps=settings.gradient_accumulation,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            lr_scheduler_type="cosine",
            warmup_steps=round(settings.warmup * total),
            max_grad_norm=1.0,
            bf16=settings.dtype == "bfloat16",
            use_cpu=machine.device.type == "cpu",
            seed=settings.seed,
            data_seed=settings.seed,
            logging_steps=max(1, total // LOGGED_ROWS),
            logging_nan_inf_filter=False,
            eval_strategy="steps",
            eval_steps=settings.evaluate_every or a_step,
            save_strategy="steps",
            save_steps=settings.evaluate_every or a_step,
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_num_workers=0,
            ddp_find_unused_parameters=False,  # a test holds that each preset trains all of its own
            dataloader_pin_memory=machine.device.type == "cuda",
        )
        callbacks = [_Progress(self), _Limits(self)]
        super().__init__(
            model=model, args=arguments, train_dataset=training, eval_dataset=validation, callbacks=callbacks
        )
        self.remove_callback(transformers.PrinterCallback)
        self.total_steps = total
        self.folder = folder

    def fit(self, resumed: TrainingState | None) -> None:
        """Train until the last step, or until a limit, patience, or a signal ends it.

        Raises:
            UserError: the loss is no number any more.
        """
        if resumed is None:
            self.train()
            return
        done = steps_done(resumed)
        if done >= self.total_steps or self.is_without_gain:
            self.state.global_step = done
            self.run.stopped = NO_GAIN if done < self.total_steps else ""
            return
        checkpoint = self.folder / "resumed"
        checkpoint.mkdir()
        unfold(resumed, checkpoint)
        self.train(resume_from_checkpoint=str(checkpoint))

    @property
    def is_without_gain(self) -> bool:
        """Whether validation has not become better for as long as is waited for it."""
        return bool(self.settings.patience) and self.run.without_gain >= self.settings.patience

    @property
    def is_finite(self) -> bool:
        """Whether all losses since the last row of the log are numbers."""
        return math.isfinite(float(self._sums[0]))

    def get_train_dataloader(self) -> DataLoader[Batch]:
        """Return the batches in the order of the dataset, shared among processes."""
        loader = DataLoader(self.batches, batch_size=1, collate_fn=_first, shuffle=False)
        return cast(DataLoader[Batch], self.accelerator.prepare(loader))

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the weighted mean of the nats a token of a whole step, of which this batch is a part."""
        assert num_items_in_batch is not None
        nats, predicted = nats_a_place(model, inputs)
        with torch.no_grad():
            sums = torch.cat([_sums(nats, predicted, inputs["bases"]), inputs["tokens"].double().view(1)])
            self._sums = self._sums.to(sums.device) + sums
        loss = (nats * inputs["weights"]).sum() / num_items_in_batch
        # The mean over processes is taken of gradients; the loss was divided by the tokens of all.
        return loss * self.accelerator.num_processes

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: torch.device) -> Tensor:
        total = torch.stack([batch["weights"].sum() for batch in batch_samples]).sum().to(device)
        if self.accelerator.num_processes > 1:
            total = self.accelerator.gather(total).sum()
        # A step of hardly any weight is to change hardly anything.
        return total.clamp(min=1.0)

    def evaluate(self, *arguments: Any, **options: Any) -> dict[str, float]:
        """Measure the model on the validation windows, and tell whether it is the best so far."""
        del arguments, options
        began = time.monotonic()
        measures = self.measure(self.validation).measures()
        self.evaluation_seconds = time.monotonic() - began
        self.control: TrainerControl = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, {f"eval_{name}": value for name, value in measures.items()}
        )
        run = self.run
        scheduled = (
            self.state.global_step % self.state.eval_steps == 0 or self.state.global_step >= self.state.max_steps
        )
        self._scheduled_run = run if scheduled else run.copy()
        run.log.append(self._row("validation") | measures)
        if not math.isfinite(measures["loss"]):
            raise _Diverged
        self._refuse_what_is_no_number()
        if measures["loss"] < run.best_loss:
            run.best_loss, run.best_step, run.without_gain = measures["loss"], self.state.global_step, 0
            if self.accelerator.is_main_process:
                self.on_best(scheduled)
        else:
            run.without_gain += 1
        return {f"eval_{name}": value for name, value in measures.items()}

    def measure(self, batches: TrainingBatches) -> Sums:
        """Return the sums over all batches, each process taking its share."""
        model = self.model
        assert model is not None
        model.eval()
        totals = torch.zeros(3, dtype=torch.float64, device=self.args.device)
        with torch.inference_mode():
            for number in range(self.accelerator.process_index, len(batches), self.accelerator.num_processes):
                inputs = self._prepare_inputs(batches[number])
                with self.accelerator.autocast():
                    nats, predicted = nats_a_place(model, inputs)
                totals += _sums(nats, predicted, inputs["bases"])
        model.train()
        return Sums(*self._of_all_processes(totals))

    def _of_all_processes(self, sums: Tensor) -> list[float]:
        if self.accelerator.num_processes > 1:
            sums = self.accelerator.reduce(sums.clone())
        return sums.tolist()

    def _refuse_what_is_no_number(self) -> None:
        assert self.model is not None
        if not all(is_finite(parameter.detach()) for parameter in self.model.parameters()):
            raise _Diverged

    def _row(self, split: str) -> dict[str, Any]:
        return {"step": self.state.global_step, "epoch": round(self.state.epoch or 0.0, 4), "split": split}

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Keep a row of training."""
        if "loss" not in logs:
            return
        *predicted, read = self._of_all_processes(self._sums)
        seconds = time.monotonic() - self.since
        row = self._row("training") | Sums(*predicted).measures() | {"learning_rate": logs["learning_rate"]}
        self.run.log.append(row | {"tokens_per_second": round(read / max(seconds, 1e-9))})
        self._sums, self.since = torch.zeros_like(self._sums), time.monotonic()

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Hand the state over instead of writing pickled files."""
        del model, trial
        self._refuse_what_is_no_number()
        random_states = self._random_states()
        for callback in [self.control]:
            self.state.stateful_callbacks[type(callback).__name__] = callback.state()
        if self.accelerator.is_main_process:
            assert self.optimizer is not None
            self.run.steps = self.state.global_step
            state = {name: value for name, value in vars(self.state).items() if _is_json(value)}
            run = self._scheduled_run or self.run
            run.steps = self.run.steps
            self.on_checkpoint(capture(self.optimizer, self.lr_scheduler, state, random_states), run)
        self.accelerator.wait_for_everyone()

    def _random_states(self) -> list[Tensor]:
        """Return the state of torch's generator on the CPU of every process."""
        own = torch.get_rng_state()
        if self.accelerator.num_processes == 1:
            return [own]
        return list(self.accelerator.gather(own[None].to(self.args.device)).cpu())

    def _load_from_checkpoint(self, *arguments: Any, **options: Any) -> None:
        """Do nothing: the model already has the checkpoint's weights."""

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Give optimizer and schedule their state; raise UserError if it is that of another model."""
        try:
            super()._load_optimizer_and_scheduler(checkpoint)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise damaged_state() from error
        assert self.optimizer is not None
        for parameter, moments in self.optimizer.state.items():
            if any(moment.shape not in {parameter.shape, torch.Size()} for moment in moments.values()):
                raise damaged_state()


class _Diverged(Exception):  # noqa: N818 (the trainer turns it into the sentence)
    """The loss is no number any more."""


def diverged(run: Run) -> UserError:
    """Return the sentence for a loss that is no number any more."""
    kept = (
        f"the best model so far (step {run.best_step}) is kept" if math.isfinite(run.best_loss) else "no model is kept"
    )
    return UserError(
        f"The training diverged after step {run.steps}: its loss is no number any more; {kept}. "
        "Use a lower learning rate, a longer warm-up or float32."
    )


def train(trainer: LanguageModelTrainer, resumed: TrainingState | None) -> None:
    """Fit, and note why it stopped; a loss that is no number is noted as DIVERGED."""
    trainer.since = time.monotonic()
    try:
        trainer.fit(resumed)
    except _Diverged:
        trainer.run.stopped = DIVERGED
    trainer.run.steps = trainer.state.global_step


class _Progress(TrainerCallback):
    """One flushed line every few seconds."""

    def __init__(self, trainer: LanguageModelTrainer) -> None:
        self._trainer = trainer
        self._start = self._last = time.monotonic()
        self._first_step: int | None = None
        self._unit = "bits a masked base" if trainer.batches.masked else "bits a base"

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
            f", {rows[-1]['tokens_per_second']:,} tokens a second, {rows[-1]['bits_per_base']:.3f} {self._unit}"
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
                f"{metrics['eval_bits_per_base']:.4f} {self._unit}",
                flush=True,
            )


class _Limits(TrainerCallback):
    """End in time: at the last step, at the time limit, on a signal, or when patience is over."""

    def __init__(self, trainer: LanguageModelTrainer) -> None:
        self._trainer = trainer
        self._start, self._saved = trainer.started, time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Measure and save before the end, and now and then between."""
        now = time.monotonic()
        what = self._of_all(self._what_to_do(now))
        if what == DIVERGED:
            raise _Diverged
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
        # The last evaluation takes as long as the one before.
        if limit is not None and now + trainer.evaluation_seconds - self._start > limit * 3600:
            return TIME_LIMIT
        return SAVE if now - self._saved > CHECKPOINT_SECONDS else ""

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


def nats_a_place(model: nn.Module, inputs: Batch) -> tuple[Tensor, Tensor]:
    """Return −log p of the target at every place, and which places are predicted; shape (rows, tokens) each."""
    places = {"position_ids": inputs["position_ids"]} if "position_ids" in inputs else {}
    logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], **places).logits
    targets = inputs["targets"]
    nats = functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
    return nats.view(targets.shape), inputs["weights"] > 0


def _sums(nats: Tensor, predicted: Tensor, bases: Tensor) -> Tensor:
    """Return nats, tokens and bases of the predicted places; shape (3,)."""
    return torch.stack([torch.where(predicted, values, 0).double().sum() for values in (nats, predicted, bases)])


def processes() -> int:
    """Return how many processes train together, as torchrun says."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _first(batches: list[Batch]) -> Batch:
    return batches[0]


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_json(value: object) -> bool:
    return isinstance(value, str | int | float | bool | list | dict | None)
