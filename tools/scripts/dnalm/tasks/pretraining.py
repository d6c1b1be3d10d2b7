"""Pretrain a language model: windows of sequences, a split without leaks, tokens, training, and a model file."""

import contextlib
import functools
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from dnalm.engine.checkpoints import BEST, TrainingState
from dnalm.engine.devices import Machine, prepare_machine
from dnalm.engine.interruptions import told_to_end
from dnalm.engine.objectives import LanguageModelling
from dnalm.engine.training import ModelTrainer, train
from dnalm.engine.training_data import TrainingBatches
from dnalm.engine.training_run import DIVERGED, Run, TrainingSettings, cell, diverged, is_main, one_voice, processes
from dnalm.errors import UserError, shown
from dnalm.formats.outputs import whole_or_nothing
from dnalm.formats.tables import TableWriter
from dnalm.models.language_model import LanguageModel
from dnalm.models.model_file import StoredModel, write_model_file
from dnalm.models.presets import PRESETS
from dnalm.models.published_files import read_config, read_tokenizer
from dnalm.models.registry import FILLED, load_language_model, new_language_model, published_tensors, trainable
from dnalm.models.sources import open_model
from dnalm.report.plots import Curve, draw_training
from dnalm.report.provenance import provenance
from dnalm.tasks.pretraining_card import model_card
from dnalm.tasks.pretraining_options import DECISIVE, PretrainingOptions, filled, refuse_contradictions
from dnalm.tasks.pretraining_tokens import batches_of, learnt_tokenizer, tokenized
from dnalm.tasks.pretraining_windows import Windows, account, fingerprint, read_windows
from dnalm.temporary_files import filling, temporary_folder

COLUMNS = ("step", "epoch", "split", "loss", "perplexity", "bits_per_base", "learning_rate")


@one_voice()
def pretrain(options: PretrainingOptions) -> None:
    """Train a model and write the best one, a checkpoint, a log, its curve and a model card.

    Raises:
        UserError: data, model or options cannot be used, or the training diverged.
    """
    started = time.monotonic()
    refuse_contradictions(options)
    options = filled(options)
    machine = prepare_machine(options.device, options.threads, options.batch_tokens, options.seed)
    main = is_main()
    said: Callable[[str], None] = functools.partial(print, flush=True) if main else _nothing
    said(f"Device: {machine.description}; {options.dtype}")
    given = [options.genome, options.regions, options.model_config, options.continue_from, options.resume_from]
    inputs = [path for path in (*given, *(options.sequences or []), *(options.tokenizer or [])) if path]
    optional = (options.checkpoint, options.log, options.figure, options.card)
    outputs = [options.output, *(path for path in optional if path)]
    with (
        told_to_end() as interruption,
        whole_or_nothing(outputs if main else [], inputs, some_may_lack=True) as partials,
        temporary_folder() as folder,
    ):
        partial = dict(zip(outputs, partials, strict=True)) if main else {}
        windows = read_windows(options)
        for sentence in account(windows):
            said(sentence)
        resumed = _open_checkpoint(options)
        model = _model(options, windows, resumed)
        training, validation = tokenized(options, model, windows)
        batches = batches_of(options, model, training, validation, machine)
        job = _Job(options, model, windows, batches, machine, folder, partial, resumed)
        said(job.description)
        # From here on there is something to keep when the job is told to end.
        interruption.awaited = True
        run = job.train(started, interruption)
        if main:
            job.write(run)
            for sentence in job.results(run):
                said(sentence)
    if run.stopped == DIVERGED:
        raise diverged(run)


class _Job:
    """One training with everything it writes."""

    def __init__(
        self,
        options: PretrainingOptions,
        model: LanguageModel,
        windows: Windows,
        batches: tuple[TrainingBatches, TrainingBatches],
        machine: Machine,
        folder: Path,
        partial: dict[Path, Path],
        resumed: StoredModel | None,
    ) -> None:
        self._options, self._model, self._windows, self._batches = options, model, windows, batches
        self._machine, self._folder, self._partial, self._resumed = machine, folder, partial, resumed
        self._module = trainable(model, machine.device.type)
        self._data = fingerprint(windows)
        self._best: Path | None = None
        self._end: Path | None = None

    @property
    def description(self) -> str:
        """Sizes of model and data."""
        parameters = sum(parameter.numel() for parameter in self._module.parameters())
        tokens = int(self._batches[0].tokens)
        return (
            f"Model: {self._model.architecture}, {parameters:,} parameters, {len(self._model.layers)} layers; objective "
            f"{self._options.objective}; {tokens:,} tokens to train on in {len(self._batches[0]):,} batches an epoch"
        )

    def train(self, started: float, interrupted: Callable[[], bool]) -> Run:
        """Run the training, from its checkpoint where there is one; the time limit counts from `started`."""
        options = self._options
        run, state = Run(), None
        if self._resumed is not None:
            run, state = self._resumption(self._resumed)
        settings = TrainingSettings(**{field.name: getattr(options, field.name) for field in fields(TrainingSettings)})
        trainer = ModelTrainer(
            self._module,
            LanguageModelling(options.objective == "masked"),
            *self._batches,
            settings,
            self._machine,
            self._folder,
            run,
            started,
            self._keep_best,
            self._keep_checkpoint,
            interrupted,
        )
        train(trainer, state)
        return run

    def _resumption(self, checkpoint: StoredModel) -> tuple[Run, TrainingState]:
        """Return the run that a checkpoint was taken of and its state; raise UserError if it was another."""
        facts = checkpoint.training or {}
        if facts.get("data") != self._data:
            raise UserError(
                f"The checkpoint '{checkpoint.name}' was trained on other windows; give the same sequences and the same "
                "options of windows and split."
            )
        if facts.get("processes") != processes():
            raise UserError(
                f"The checkpoint '{checkpoint.name}' was trained by {shown(facts.get('processes'))} processes, now there "
                f"are {processes()}; use as many."
            )
        run = Run.of_facts(facts["run"])
        tensors = checkpoint.read_training_tensors()
        best = {name.removeprefix(BEST): tensor for name, tensor in tensors.items() if name.startswith(BEST)}
        if best:
            self._best = self._folder / "best.safetensors"
            with filling(self._folder):
                self._write_model(self._best, best)
        return run, TrainingState(tensors, facts.get("state", {}))

    def _keep_best(self, scheduled: bool) -> None:
        """Keep the weights as they are now; those of an early end beside the best that a later job goes on with."""
        path = self._folder / ("best.safetensors" if scheduled else "end.safetensors")
        with filling(self._folder), self._published() as tensors:
            self._write_model(path.with_suffix(".partial"), tensors)
        path.with_suffix(".partial").replace(path)
        self._best, self._end = (path, None) if scheduled else (self._best, path)

    def _keep_checkpoint(self, state: TrainingState, run: Run) -> None:
        """Replace the checkpoint on disk by a whole one."""
        if self._options.checkpoint is None:
            return
        best = open_model(self._best).read_tensors() if self._best else {}
        facts = {
            "data": self._data,
            "processes": processes(),
            "options": {name: getattr(self._options, name) for name in DECISIVE},
            "run": run.facts(),
            "state": state.facts,
        }
        partial = self._partial[self._options.checkpoint]
        with self._published() as tensors:
            self._write_model(
                partial,
                tensors,
                training=facts,
                training_tensors=state.tensors | {f"{BEST}{name}": tensor for name, tensor in best.items()},
            )
        partial.replace(self._options.checkpoint.resolve())

    @contextlib.contextmanager
    def _published(self) -> Iterator[dict[str, torch.Tensor]]:
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            with filling(self._folder):
                tensors = published_tensors(self._model, Path(folder))
            yield tensors

    def _write_model(
        self,
        path: Path,
        tensors: dict[str, torch.Tensor],
        training: dict[str, Any] | None = None,
        training_tensors: dict[str, torch.Tensor] | None = None,
    ) -> None:
        stored = self._model.stored
        write_model_file(
            path,
            tensors,
            stored.config,
            stored.tokenizer,
            name=stored.name,
            licence=stored.licence,
            provenance=self._provenance(),
            training=training,
            training_tensors=training_tensors,
        )

    def _provenance(self) -> dict[str, Any]:
        if self._resumed is not None:
            return self._resumed.provenance
        options = {name: getattr(self._options, name) for name in DECISIVE}
        origin = self._model.stored.provenance
        facts = {"name": self._model.stored.name} | ({"continued_from": origin} if origin else {})
        return provenance("dnalm_pretrain", options, facts, self._machine.device.type, dict(self._windows.counts))

    def write(self, run: Run) -> None:
        """Write the model, log, curve and card of a run; nothing of a model that never was measured."""
        options = self._options
        run.log += run.end()
        if options.log:
            with TableWriter(self._partial[options.log]) as table:
                table.append({self._heading(name): [cell(row.get(name)) for row in run.log] for name in COLUMNS})
        best = self._end or self._best
        if best is None:
            return
        if options.figure:
            curves = {split: [row for row in run.log if row["split"] == split] for split in ("training", "validation")}
            draw_training(
                {
                    split: Curve([row["step"] for row in rows], [row["bits_per_base"] for row in rows])
                    for split, rows in curves.items()
                },
                self._headline,
                run.best_step,
                self._partial[options.figure],
            )
        if options.card:
            self._partial[options.card].write_text(self._card(run), encoding="utf-8")
        shutil.copyfile(best, self._partial[options.output])

    def _heading(self, column: str) -> str:
        """Return a column's name in the log: bits of masked bases are not to be compared with those of all."""
        masked = self._options.objective == "masked" and column == "bits_per_base"
        return "masked_bits_per_base" if masked else column

    @property
    def _headline(self) -> str:
        return "Masked bits per base" if self._options.objective == "masked" else "Bits per base"

    def results(self, run: Run) -> list[str]:
        """Return what is to be said at the end."""
        best = next((row for row in run.log if row["split"] == "validation" and row["step"] == run.best_step), None)
        sentences = []
        if best:
            sentences.append(
                f"{self._headline} of the best model (step {run.best_step:,}) on validation: {best['bits_per_base']:.4f}"
            )
        return sentences + run.reason()

    def _card(self, run: Run) -> str:
        return model_card(
            self._model,
            sum(parameter.numel() for parameter in self._module.parameters()),
            {name: getattr(self._options, name) for name in DECISIVE},
            self._windows.counts,
            self.results(run),
            continued="continued_from" in self._provenance().get("model", {}),
        )


def _open_checkpoint(options: PretrainingOptions) -> StoredModel | None:
    if options.resume_from is None:
        return None
    stored = open_model(options.resume_from)
    facts = stored.training or {}
    before = facts.get("options")
    if not isinstance(facts.get("run"), dict) or not isinstance(before, dict) or "preset" not in before:
        raise UserError(
            f"The model '{options.resume_from.name}' is no checkpoint of a pretraining; give the checkpoint of one."
        )
    for name in DECISIVE:
        now, then = getattr(options, name), before.get(name)
        if now != then:
            raise UserError(
                f"The checkpoint '{stored.name}' was trained with --{name.replace('_', '-')} {shown(then)}, now it is "
                f"{now}; use the same."
            )
    _refuse_other_model(options, stored)
    return stored


def _refuse_other_model(options: PretrainingOptions, checkpoint: StoredModel) -> None:
    """Raise UserError if a config, a tokenizer or a model to continue is given that is not the checkpoint's."""
    config: dict[str, Any] = {}
    tokenizer: dict[str, Any] | None = read_tokenizer(options.tokenizer) if options.tokenizer else None
    if options.model_config:
        config = read_config(options.model_config)
    elif options.continue_from:
        continued = open_model(options.continue_from)
        config, tokenizer = continued.config, continued.tokenizer
    other = [name for name, value in config.items() if name not in FILLED and checkpoint.config.get(name) != value]
    if other or tokenizer not in (None, checkpoint.tokenizer):
        what = f"{shown(other[0])} in its config" if other else "its tokenizer"
        raise UserError(
            f"The checkpoint '{checkpoint.name}' is of another model: it differs in {what}; give the checkpoint's own model."
        )


def _model(options: PretrainingOptions, windows: Windows, resumed: StoredModel | None) -> LanguageModel:
    """Return the model to train: a checkpoint's, one to continue, or a new one."""
    causal = options.objective == "causal"
    if resumed is not None or options.continue_from is not None:
        stored = resumed or open_model(options.continue_from)  # type: ignore[arg-type]
        model = load_language_model(stored, head=True)
        if model.causal != causal:
            raise UserError(
                f"The model '{stored.name}' is {'causal' if model.causal else 'masked'}, the objective {options.objective}; "
                "change the objective, or the preset that brings it."
            )
        if options.name:
            model.stored = replace(model.stored, name=options.name)
        return model
    preset = PRESETS[options.preset]
    config = read_config(options.model_config) if options.model_config else preset.config
    tokenizer = read_tokenizer(options.tokenizer) if options.tokenizer else learnt_tokenizer(preset, windows)
    torch.manual_seed(options.seed)
    return new_language_model(config, tokenizer, options.name or f"dnalm-{options.preset}", causal=causal)


def _nothing(sentence: str) -> None:
    """Say nothing: another process does."""
