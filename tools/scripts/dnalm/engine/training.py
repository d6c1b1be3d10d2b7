"""One trainer for everything that is trained: transformers' own, with our batches, objectives, limits and checkpoints."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast

import torch
import transformers
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import Trainer, TrainerControl, TrainingArguments

from dnalm.engine.checkpoints import TrainingState, capture, damaged_state, steps_done, sums_since_the_last_row, unfold
from dnalm.engine.devices import Machine
from dnalm.engine.objectives import Objective
from dnalm.engine.training_callbacks import Limits, Progress
from dnalm.engine.training_data import Batch
from dnalm.engine.training_run import DIVERGED, NO_GAIN, Divergence, Run, TrainingSettings, processes
from dnalm.errors import UserError
from dnalm.models.model_file import is_finite
from dnalm.temporary_files import filling

LOGGED_ROWS = 200  # of training, in the log of a whole run


class Batches(Protocol):
    """The batches of an epoch, by number; the same for one seed and epoch."""

    @property
    def tokens(self) -> int:
        """How much there is to read in an epoch, padding apart."""
        ...

    def set_epoch(self, epoch: int) -> None:
        """Put the batches of an epoch together; their number is the same in every one."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Batch: ...


class ModelTrainer(Trainer):
    """Train a model on batches.

    Args:
        model: a module that the objective can run; its parameters without gradients stay as they are.
        objective: what is made small.
        training: its batches; each has under `tokens` how many it holds, without padding.
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
    tokens_per_second = 0.0  # until then since the row before; never in the log: equal trainings write equal ones

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        training: Batches,
        validation: Batches,
        settings: TrainingSettings,
        machine: Machine,
        folder: Path,
        run: Run,
        started: float,
        on_best: Callable[[bool], None],
        on_checkpoint: Callable[[TrainingState, Run], None],
        interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        self.objective, self.batches, self.validation = objective, training, validation
        self.settings, self.run = settings, run
        self.started = started
        self.on_best, self.on_checkpoint, self.interrupted = on_best, on_checkpoint, interrupted
        # The objective's sums, and tokens read, since the last row of the log; on the model's device.
        self._sums = torch.zeros(objective.quantities + 1, dtype=torch.float64)
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
            ddp_find_unused_parameters=False,  # a test holds that each preset of pretraining trains all of its own
            dataloader_pin_memory=machine.device.type == "cuda",
        )
        callbacks = [Progress(self), Limits(self)]
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=cast(Dataset[Batch], training),
            eval_dataset=cast(Dataset[Batch], validation),
            callbacks=callbacks,
        )
        self.remove_callback(transformers.PrinterCallback)
        self.total_steps, self.steps_an_epoch = total, a_step
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
        if self.accelerator.is_main_process:  # whose sums were those of all
            sums = sums_since_the_last_row(resumed, len(self._sums) - 1)
            self._sums[:-1] = torch.tensor(sums, dtype=torch.float64)
        checkpoint = self.folder / "resumed"
        with filling(self.folder):
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
        loader = DataLoader(cast(Dataset[Batch], self.batches), batch_size=1, collate_fn=_first, shuffle=False)
        return cast(DataLoader[Batch], self.accelerator.prepare(loader))

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the weighted mean of the losses of a whole step, of which this batch is a part."""
        assert num_items_in_batch is not None
        total, sums = self.objective.losses(model, inputs)
        sums = torch.cat([sums, inputs["tokens"].double().view(1)])
        self._sums = self._sums.to(sums.device) + sums
        # The mean over processes is taken of gradients; the loss was divided by the weights of all.
        return total / num_items_in_batch * self.accelerator.num_processes

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: torch.device) -> Tensor:
        total = torch.stack([self.objective.weight(batch) for batch in batch_samples]).sum().to(device)
        if self.accelerator.num_processes > 1:
            total = self.accelerator.gather(total).sum()
        # A step of hardly any weight is to change hardly anything.
        return total.clamp(min=1.0)

    def evaluate(self, *arguments: Any, **options: Any) -> dict[str, float]:
        """Measure the model on the validation windows, and tell whether it is the best so far."""
        del arguments, options
        began = time.monotonic()
        measures = self.objective.measures(self.measure(self.validation))
        self.evaluation_seconds = time.monotonic() - began
        self.since += self.evaluation_seconds
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
            raise Divergence
        self._refuse_what_is_no_number()
        if measures["loss"] < run.best_loss:
            run.best_loss, run.best_step, run.without_gain = measures["loss"], self.state.global_step, 0
            if self.accelerator.is_main_process:
                self.on_best(scheduled)
        else:
            run.without_gain += 1
        return {f"eval_{name}": value for name, value in measures.items()}

    def measure(self, batches: Batches) -> list[float]:
        """Return the objective's sums over all batches, each process taking its share."""
        model = self.model
        assert model is not None
        model.eval()
        totals = torch.zeros(self.objective.quantities, dtype=torch.float64, device=self.args.device)
        with torch.inference_mode():
            for number in range(self.accelerator.process_index, len(batches), self.accelerator.num_processes):
                inputs = self._prepare_inputs(batches[number])
                with self.accelerator.autocast():
                    totals += self.objective.losses(model, inputs).sums
        model.train()
        return self._of_all_processes(totals)

    def _of_all_processes(self, sums: Tensor) -> list[float]:
        if self.accelerator.num_processes > 1:
            sums = self.accelerator.reduce(sums.clone())
        return sums.tolist()

    def _refuse_what_is_no_number(self) -> None:
        assert self.model is not None
        if not all(is_finite(parameter.detach()) for parameter in self.model.parameters()):
            raise Divergence

    def _row(self, split: str) -> dict[str, Any]:
        return {"step": self.state.global_step, "epoch": round(self.state.epoch or 0.0, 4), "split": split}

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Keep a row of training."""
        if "loss" not in logs:
            return
        *sums, read = self._of_all_processes(self._sums)
        seconds = time.monotonic() - self.since
        row = self._row("training") | self.objective.measures(sums) | {"learning_rate": logs["learning_rate"]}
        self.run.log.append(row)
        self.tokens_per_second = read / max(seconds, 1e-9)
        self._sums, self.since = torch.zeros_like(self._sums), time.monotonic()

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Hand the state over instead of writing pickled files."""
        del model, trial
        self._refuse_what_is_no_number()
        random_states, sums = self._random_states(), self._of_all_processes(self._sums)[:-1]
        for callback in [self.control]:
            self.state.stateful_callbacks[type(callback).__name__] = callback.state()
        if self.accelerator.is_main_process:
            assert self.optimizer is not None
            self.run.steps = self.state.global_step
            state = {name: value for name, value in vars(self.state).items() if _is_json(value)}
            run = self._scheduled_run or self.run
            run.steps = self.run.steps
            self.on_checkpoint(capture(self.optimizer, self.lr_scheduler, state, random_states, sums), run)
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


def train(trainer: ModelTrainer, resumed: TrainingState | None) -> None:
    """Fit, and note why it stopped; a loss that is no number is noted as DIVERGED."""
    trainer.since = time.monotonic()
    try:
        trainer.fit(resumed)
    except Divergence:
        trainer.run.stopped = DIVERGED
    except torch.OutOfMemoryError:
        raise UserError(
            f"A batch of the training does not fit into the GPU's memory (step {trainer.state.global_step + 1:,}); use a "
            "smaller batch size, shorter sequences or windows, or a larger GPU."
        ) from None
    trainer.run.steps = trainer.state.global_step


def _first(batches: list[Batch]) -> Batch:
    return batches[0]


def _is_json(value: object) -> bool:
    return isinstance(value, str | int | float | bool | list | dict | None)
