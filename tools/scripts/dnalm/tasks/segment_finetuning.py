"""Train a segmenter: a language model learns from an annotated genome which features each base lies in.

The model of de Almeida et al. 2025, doi:10.1038/s41592-025-02881-2.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dnalm.engine.checkpoints import BEST, TrainingState
from dnalm.engine.devices import Machine, prepare_machine
from dnalm.engine.interruptions import told_to_end
from dnalm.engine.segment_training import Segmentation, SegmentBatches
from dnalm.engine.training import ModelTrainer, train
from dnalm.engine.training_run import DIVERGED, Run, TrainingSettings, cell, diverged, processes
from dnalm.errors import UserError, shown
from dnalm.formats.outputs import whole_or_nothing
from dnalm.formats.tables import TableWriter
from dnalm.methods.segment_masks import spans_of
from dnalm.methods.segment_scores import METRICS, BlockCounts, SegmentCounts
from dnalm.models.language_model import LanguageModel
from dnalm.models.model_file import StoredModel, write_model_file
from dnalm.models.registry import load_language_model, load_segmenter
from dnalm.models.segment_training import (
    check_window,
    load_trained_segmenter,
    new_segmenter,
    trainable_segmenter,
    window_limits,
    write_segmenter,
)
from dnalm.models.segmenter import Segmenter
from dnalm.models.sources import open_model
from dnalm.report.plots import Curve, draw_training
from dnalm.report.provenance import provenance
from dnalm.tasks.segment_finetuning_data import SIDES, TEST, TRAINING, VALIDATION, SegmentData, read_data
from dnalm.tasks.segment_finetuning_options import DECISIVE, SegmentFinetuningOptions
from dnalm.temporary_files import filling, temporary_folder

COLUMNS = ("step", "epoch", "split", "loss", "auprc", "mcc", "learning_rate")
CALLED = 0.5  # probability from which a base is called in the table of metrics
REPEATS = 1_000  # resamples of the intervals
WITH_INTERVALS = ("mcc", "f1", "auprc")


def finetune(options: SegmentFinetuningOptions) -> None:
    """Train a segmenter and write the best one, its metrics on held-out blocks, a checkpoint, a log and its curve.

    Raises:
        UserError: data, model or options cannot be used, or the training diverged.
    """
    started = time.monotonic()
    if options.validation_fraction + options.test_fraction >= 0.9:
        raise UserError("Validation and test take nearly everything; leave more to train on.")
    if processes() > 1:
        raise UserError("A segmenter is trained by one process; start it without torchrun.")
    machine = prepare_machine(options.device, options.threads, options.batch_tokens, options.seed)
    print(f"Device: {machine.description}; {options.dtype}", flush=True)
    given = [options.genome, options.annotation, options.regions, options.model, options.resume_from]
    inputs = [path for path in given if path and path.is_file()]
    optional = (options.checkpoint, options.log, options.figure, options.metrics)
    outputs = [options.output, *(path for path in optional if path)]
    with (
        told_to_end() as interruption,
        whole_or_nothing(outputs, inputs, some_may_lack=True) as partials,
        temporary_folder() as folder,
    ):
        stored = open_model(options.model)
        backbone = load_language_model(stored)
        if options.window is not None:
            check_window(backbone, options.window)
        data = read_data(options, *window_limits(backbone))
        try:
            for sentence in data.account():
                print(sentence, flush=True)
            resumed = _open_checkpoint(options)
            torch.manual_seed(options.seed)
            job = _Job(options, stored, data, machine, folder, dict(zip(outputs, partials, strict=True)), resumed)
            print(job.description, flush=True)
            # From here on there is something to keep when the job is told to end.
            interruption.awaited = True
            run = job.train(started, interruption)
            for sentence in job.write(run):
                print(sentence, flush=True)
        finally:
            data.reference.close()
    if run.stopped == DIVERGED:
        raise diverged(run)


class _Job:
    """One training with everything it writes."""

    def __init__(
        self,
        options: SegmentFinetuningOptions,
        stored: StoredModel,
        data: SegmentData,
        machine: Machine,
        folder: Path,
        partial: Mapping[Path, Path],
        resumed: StoredModel | None,
    ) -> None:
        self._options, self._origin, self._data, self._machine = options, stored, data, machine
        self._folder, self._partial, self._resumed = folder, partial, resumed
        self._segmenter, self._model = self._segmenter_of(stored, resumed)
        self._module = trainable_segmenter(self._segmenter, frozen=options.backbone == "frozen")
        self._print = data.fingerprint()
        self._best: Path | None = None
        self._end: Path | None = None

    def _segmenter_of(self, stored: StoredModel, resumed: StoredModel | None) -> tuple[Segmenter, LanguageModel]:
        """Return the checkpoint's segmenter, or a backbone with a fresh head."""
        data = self._data
        if resumed is None:
            return new_segmenter(stored, data.features, data.window, data.frequencies)
        segmenter, model = load_trained_segmenter(resumed)
        if (
            list(segmenter.features) != data.features
            or resumed.provenance.get("model", {}).get("sha256") != stored.sha256()
        ):
            raise UserError(
                f"The checkpoint '{resumed.name}' is of another model or of other features; give those it was trained with."
            )
        return segmenter, model

    @property
    def description(self) -> str:
        """Sizes of model and data."""
        parameters = [parameter for parameter in self._module.parameters() if parameter.requires_grad]
        count = sum(parameter.numel() for parameter in parameters)
        return (
            f"Model: {self._model.architecture} of {self._origin.name}, {count:,} parameters to train (backbone "
            f"{self._options.backbone}); {len(self._data.features):,} features; loss {self._options.loss}"
        )

    def train(self, started: float, interrupted: Callable[[], bool]) -> Run:
        """Run the training, from its checkpoint where there is one; the time limit counts from `started`."""
        options, data = self._options, self._data
        run, state = Run(), None
        if self._resumed is not None:
            run, state = self._resumption(self._resumed)
        trainer = ModelTrainer(
            self._module,
            Segmentation(options.loss, data.frequencies),
            self._batches(TRAINING),
            self._batches(VALIDATION),
            TrainingSettings(**{field.name: getattr(options, field.name) for field in fields(TrainingSettings)}),
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

    def _batches(self, side: int) -> SegmentBatches:
        options, data = self._options, self._data
        return SegmentBatches(
            data.places[side],
            data.window,
            data.sources(self._segmenter.encode),
            options.batch_size,
            options.seed,
            both_strands=options.strands == "both",
            training=side == TRAINING,
        )

    def _resumption(self, checkpoint: StoredModel) -> tuple[Run, TrainingState]:
        """Return the run that a checkpoint was taken of and its state; raise UserError if it was of other data."""
        facts = checkpoint.training or {}
        if facts.get("data") != self._print:
            raise UserError(
                f"The checkpoint '{checkpoint.name}' was trained on other windows; give the same genome, annotation, "
                "regions and features."
            )
        run = Run.of_facts(facts["run"])
        tensors = checkpoint.read_training_tensors()
        best = {name.removeprefix(BEST): tensor for name, tensor in tensors.items() if name.startswith(BEST)}
        if best:
            self._best = self._folder / "best.safetensors"
            with filling(self._folder):
                self._write_tensors(self._best, checkpoint, best)
        return run, TrainingState(tensors, facts.get("state", {}))

    def _write_tensors(self, path: Path, like: StoredModel, tensors: Mapping[str, Tensor]) -> None:
        write_model_file(
            path,
            tensors,
            like.config,
            like.tokenizer,
            name=like.name,
            licence=like.licence,
            labels=like.labels,
            provenance=like.provenance,
        )

    def _keep_best(self, scheduled: bool) -> None:
        """Keep the weights as they are now; those of an early end beside the best that a later job goes on with."""
        path = self._folder / ("best.safetensors" if scheduled else "end.safetensors")
        with filling(self._folder):
            self._write_model(path.with_suffix(".partial"))
        path.with_suffix(".partial").replace(path)
        self._best, self._end = (path, None) if scheduled else (self._best, path)

    def _keep_checkpoint(self, state: TrainingState, run: Run) -> None:
        """Replace the checkpoint on disk by a whole one."""
        if self._options.checkpoint is None:
            return
        best = open_model(self._best).read_tensors() if self._best else {}
        facts = {
            "data": self._print,
            "options": {name: getattr(self._options, name) for name in DECISIVE},
            "run": run.facts(),
            "state": state.facts,
        }
        partial = self._partial[self._options.checkpoint]
        self._write_model(partial, facts, state.tensors | {f"{BEST}{name}": tensor for name, tensor in best.items()})
        partial.replace(self._options.checkpoint.resolve())

    def _write_model(
        self, path: Path, training: dict[str, Any] | None = None, tensors: dict[str, Tensor] | None = None
    ) -> None:
        name = self._options.name or f"{self._origin.name} segmenter"
        with _empty_folder(self._folder) as folder:
            write_segmenter(
                path,
                self._segmenter,
                self._model,
                folder,
                name=name,
                provenance=self._provenance(),
                training=training,
                training_tensors=tensors,
            )

    def _provenance(self) -> dict[str, Any]:
        if self._resumed is not None:
            return self._resumed.provenance
        origin = self._origin
        facts: dict[str, Any] = {"name": origin.name, "sha256": origin.sha256(), "licence": origin.licence}
        facts |= {"trained_from": origin.provenance} if origin.provenance else {}
        options = {name: getattr(self._options, name) for name in DECISIVE} | {"window": self._data.window}
        counts = {f"{side}_windows": len(places) for side, places in zip(SIDES, self._data.places, strict=True)}
        return provenance("dnalm_finetune_segments", options, facts, self._machine.device.type, counts)

    def write(self, run: Run) -> list[str]:
        """Write model, metrics, log and curve of a run, and return what is to be said; nothing without a measured model."""
        options = self._options
        run.log += run.end()
        if options.log:
            with TableWriter(self._partial[options.log]) as table:
                table.append({name: [cell(row.get(name)) for row in run.log] for name in COLUMNS})
        best = self._end or self._best
        if best is None:
            return run.reason()
        if options.figure:
            curves = {split: [row for row in run.log if row["split"] == split] for split in ("training", "validation")}
            draw_training(
                {
                    split: Curve([row["step"] for row in rows], [row["loss"] for row in rows])
                    for split, rows in curves.items()
                },
                f"Loss ({options.loss})",
                run.best_step,
                self._partial[options.figure],
            )
        rows = self._measured(best)
        if options.metrics:
            with TableWriter(self._partial[options.metrics]) as table:
                table.append({name: [cell(_known(row[name])) for row in rows] for name in rows[0]})
        shutil.copyfile(best, self._partial[options.output])
        return [f"Best on validation: step {run.best_step:,}", *map(_sentence, rows), *run.reason()]

    def _measured(self, path: Path) -> list[dict[str, Any]]:
        """Return one row a held-out side and feature; each window is a block of its own."""
        segmenter = load_segmenter(open_model(path))
        segmenter.to(self._machine.device, torch.float32)
        rows = []
        for side in (VALIDATION, TEST):
            if len(self._data.places[side]):
                rows += self._measured_side(segmenter, side)
        return rows

    def _measured_side(self, segmenter: Segmenter, side: int) -> list[dict[str, Any]]:
        data = self._data
        counts = [BlockCounts(len(data.places[side]), scored=True) for _ in data.features]
        segments = [SegmentCounts() for _ in data.features]
        for block, (contig, start, *_) in enumerate(data.places[side].tolist()):
            end = start + data.window
            with torch.inference_mode():
                probabilities = segmenter.probabilities([data.bases(contig, start, end)])[0].cpu().numpy()
            inside = data.labels(contig, start, end)
            called = probabilities >= CALLED
            for number in range(len(data.features)):
                blocks = np.full(data.window, block)
                counts[number].add(blocks, inside[:, number], called[:, number], probabilities[:, number])
                segments[number].add(spans_of(inside[:, number]), spans_of(called[:, number]))
        rows = []
        for feature, of_bases, of_segments in zip(data.features, counts, segments, strict=True):
            cells = of_bases.cells.sum(axis=0)
            row: dict[str, Any] = {"split": SIDES[side], "feature": feature, "windows": len(data.places[side])}
            row |= {"bases": int(cells.sum()), "annotated_bases": int(cells[2:].sum())}
            row["base_rate"] = float(cells[2:].sum() / cells.sum())
            for metric in METRICS:
                value, interval = of_bases.measured(metric, REPEATS if metric in WITH_INTERVALS else 0, 0)
                row[metric] = value
                if metric in WITH_INTERVALS:
                    row |= {f"{metric}_low": interval.low, f"{metric}_high": interval.high}
            rows.append(row | of_segments.scores())
        return rows


def _open_checkpoint(options: SegmentFinetuningOptions) -> StoredModel | None:
    if options.resume_from is None:
        return None
    stored = open_model(options.resume_from)
    facts = stored.training
    if not facts or not isinstance(facts.get("options"), dict) or not isinstance(facts.get("run"), dict):
        raise UserError(
            f"The model '{options.resume_from.name}' is no checkpoint; give the checkpoint of a segmenter's training."
        )
    for name in DECISIVE:
        now, then = getattr(options, name), facts["options"].get(name)
        if now != then:
            raise UserError(
                f"The checkpoint '{stored.name}' was trained with --{name.replace('_', '-')} {shown(then)}, now it is "
                f"{now}; use the same."
            )
    return stored


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and np.isnan(value) else value


def _sentence(row: dict[str, Any]) -> str:
    if not row["annotated_bases"]:
        return f"{row['split']}, {row['feature']}: no base of these windows lies in it"
    scored = f"AUPRC {row['auprc']:.3f} ({row['auprc_low']:.3f} to {row['auprc_high']:.3f})"
    return f"{row['split']}, {row['feature']}: {scored}, base rate {row['base_rate']:.3f}, MCC {row['mcc']:.3f}"


@contextmanager
def _empty_folder(parent: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        yield Path(folder)
