"""The training of a fine-tuning: all weights, or LoRA's; with the best ones kept, and a checkpoint to go on from."""

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from dnalm.engine.checkpoints import BEST, TrainingState, damaged_state
from dnalm.engine.devices import Machine
from dnalm.engine.representations import ModelChoices, ModelRepresentation
from dnalm.engine.supervision import Labelled, LabelledBatches, Supervision, WindowedClassifier
from dnalm.engine.training import ModelTrainer, train
from dnalm.engine.training_run import Run, TrainingSettings
from dnalm.errors import UserError, shown
from dnalm.methods.splits import TRAIN, VALIDATE
from dnalm.models.adapters import add_adapters, merged
from dnalm.models.heads import Classifier, PooledClassifier, load_classifier, trainable_classifier, write_classifier
from dnalm.models.model_file import StoredModel, write_safetensors
from dnalm.models.sources import open_model
from dnalm.tasks.finetuning_baselines import standardised
from dnalm.tasks.finetuning_options import DECISIVE, FinetuningOptions
from dnalm.tasks.finetuning_split import Dataset
from dnalm.temporary_files import filling

ADAPTER = "adapter."  # first part of the names of LoRA's own tensors in a checkpoint
KIND = "finetuning"


@dataclass(frozen=True)
class Origin:
    """What a fine-tuning is of, as its model says: name and provenance; and what identifies it, sequences and model."""

    name: str
    provenance: dict[str, Any]
    data: str
    model: str


class FinetuningJob:
    """One training of a classifier with what it keeps.

    Args:
        options: what the user chose, nothing left open.
        classifier: with a fresh head; it is changed.
        dataset: what is learnt from.
        origin: what stands in the files.
        machine: device and threads.
        folder: of this job's own.
        checkpoint: path to write checkpoints to, beside the one to keep them at; None for none.
        resumed: the checkpoint to go on from.
    """

    def __init__(
        self,
        options: FinetuningOptions,
        classifier: Classifier,
        dataset: Dataset,
        origin: Origin,
        machine: Machine,
        folder: Path,
        checkpoint: tuple[Path, Path] | None,
        resumed: StoredModel | None,
    ) -> None:
        assert isinstance(classifier.module, PooledClassifier)
        self._options, self._classifier, self._origin = options, classifier, origin
        self._machine, self._folder, self._checkpoint, self._resumed = machine, folder, checkpoint, resumed
        self._pooled = classifier.module
        trainable_classifier(classifier)
        if resumed is not None and options.method == "full":
            self._restore(dict(load_classifier(resumed).module.state_dict()))
        if options.method == "lora":
            add_adapters(classifier.model, options.rank, options.seed)
        self._batches = self._batches_of(dataset)
        self._best: Path | None = None
        self._end: Path | None = None

    @property
    def description(self) -> str:
        """Sizes of model and data."""
        parameters = list(self._pooled.parameters())
        trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
        return (
            f"Training {trained:,} of {sum(map(torch.numel, parameters)):,} parameters ({self._options.method}); "
            f"{self._batches[0].tokens:,} tokens in {len(self._batches[0]):,} batches an epoch"
        )

    def train(self, started: float, reserved: float, interrupted: Callable[[], bool]) -> Run:
        """Train, from the checkpoint where there is one, and leave the classifier with the best weights, adapters merged.

        Args:
            started: when the job began, from which its time limit counts, in seconds of the monotonic clock.
            reserved: seconds of it that are needed when the training is over.
            interrupted: says whether somebody asked the job to end.
        """
        run, state = Run(), None
        if self._resumed is not None:
            run, state = self._resumption(self._resumed)
        given = {field.name: getattr(self._options, field.name) for field in fields(TrainingSettings)}
        settings = TrainingSettings(**given)
        if settings.time_limit is not None:
            settings = replace(settings, time_limit=settings.time_limit - reserved / 3600)
        trainer = ModelTrainer(
            WindowedClassifier(self._pooled),
            Supervision(self._options.task),
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
        if best := self._end or self._best:
            self._restore(load_file(best))
        self._pooled.eval().requires_grad_(False)
        return run

    @property
    def has_best(self) -> bool:
        """Whether the model was measured at least once."""
        return bool(self._end or self._best)

    def deployed(self) -> AbstractContextManager[None]:
        """Show the classifier as it is written: with its adapters merged."""
        return merged(self._classifier.model.backbone) if self._options.method == "lora" else nullcontext()

    def _batches_of(self, dataset: Dataset) -> tuple[LabelledBatches, LabelledBatches]:
        model, options = self._classifier.model, self._options
        reader = ModelRepresentation(model, ModelChoices(), self._machine)
        targets = standardised(dataset)
        targets = targets if dataset.task == "classify" else targets.astype(np.float32)
        weights = np.ones(len(targets), dtype=np.float32)
        if options.class_weights == "balanced":
            counts = np.bincount(targets[dataset.of(TRAIN)], minlength=len(dataset.labels))
            weights = (len(dataset.of(TRAIN)) / (len(counts) * counts))[targets].astype(np.float32)

        def of(side: int) -> Labelled:
            rows = dataset.of(side)
            examples = [dataset.examples[row] for row in rows.tolist()]
            pieces = reader.pieces([example.id for example in examples], [example.bases for example in examples])
            return Labelled(pieces, targets[rows], weights[rows])

        training, validation = of(TRAIN), of(VALIDATE)
        longest = max(sum(map(len, pieces)) for pieces in validation.pieces)
        return (
            LabelledBatches(training, options.batch_size, model.pad_id, options.seed),
            LabelledBatches(validation, max(1, self._machine.batch_tokens // longest), model.pad_id, None),
        )

    def _trained(self) -> dict[str, Tensor]:
        """Return the tensors that are trained, under their names in the module."""
        return {name: value.data for name, value in self._pooled.named_parameters() if value.requires_grad}

    def _restore(self, tensors: dict[str, Tensor]) -> None:
        """Give the module tensors that `_trained` returned; raise UserError if they are another module's."""
        own = dict(self._pooled.named_parameters())
        with torch.no_grad():
            for name, tensor in tensors.items():
                if name not in own or own[name].shape != tensor.shape:
                    raise damaged_state()
                own[name].copy_(tensor)

    def _resumption(self, checkpoint: StoredModel) -> tuple[Run, TrainingState]:
        """Return the run that a checkpoint was taken of and its state, with the weights in the module."""
        facts = checkpoint.training or {}
        run = Run.of_facts(facts["run"])
        tensors = checkpoint.read_training_tensors()
        if self._options.method == "lora":
            adapters = {name.removeprefix(ADAPTER): tensors[name] for name in tensors if name.startswith(ADAPTER)}
            if adapters.keys() != self._trained().keys():
                raise damaged_state()
            self._restore(adapters)
        best = {name.removeprefix(BEST): tensor for name, tensor in tensors.items() if name.startswith(BEST)}
        if best:
            self._best = self._folder / "best.safetensors"
            with filling(self._folder):
                write_safetensors(self._best, best, {})
        return run, TrainingState(tensors, facts.get("state", {}))

    def _keep_best(self, scheduled: bool) -> None:
        """Keep the weights as they are now; those of an early end beside the best that a later job goes on with."""
        path = self._folder / ("best.safetensors" if scheduled else "end.safetensors")
        with filling(self._folder):
            write_safetensors(path.with_suffix(".partial"), self._trained(), {})
        path.with_suffix(".partial").replace(path)
        self._best, self._end = (path, None) if scheduled else (self._best, path)

    def _keep_checkpoint(self, state: TrainingState, run: Run) -> None:
        """Replace the checkpoint on disk by a whole one."""
        if self._checkpoint is None:
            return
        partial, target = self._checkpoint
        best = load_file(self._best) if self._best else {}
        tensors = state.tensors | {f"{BEST}{name}": tensor for name, tensor in best.items()}
        if self._options.method == "lora":
            tensors |= {f"{ADAPTER}{name}": tensor for name, tensor in self._trained().items()}
        self.write(partial, self._facts(state, run), tensors)
        partial.replace(target)

    def _facts(self, state: TrainingState, run: Run) -> dict[str, Any]:
        return {
            "kind": KIND,
            "data": self._origin.data,
            "model": self._origin.model,
            "options": {name: getattr(self._options, name) for name in DECISIVE},
            "run": run.facts(),
            "state": state.facts,
        }

    def write(
        self, path: Path, training: dict[str, Any] | None = None, tensors: dict[str, Tensor] | None = None
    ) -> None:
        """Write the classifier as it is, adapters merged."""
        with self.deployed(), tempfile.TemporaryDirectory(dir=self._folder) as folder:
            write_classifier(
                path,
                self._classifier,
                Path(folder),
                name=self._origin.name,
                provenance=self._origin.provenance,
                training=training,
                training_tensors=tensors,
            )


def open_checkpoint(options: FinetuningOptions, dataset: Dataset, model: str) -> StoredModel | None:
    """Return the checkpoint to go on from, if any.

    Raises:
        UserError: it is none of a fine-tuning, or of other sequences, another model or other options.
    """
    if options.resume_from is None:
        return None
    stored = open_model(options.resume_from)
    facts = stored.training
    if not facts or facts.get("kind") != KIND or not isinstance(facts.get("options"), dict) or "run" not in facts:
        raise UserError(
            f"The model '{options.resume_from.name}' is no checkpoint of a fine-tuning; give the checkpoint of one."
        )
    for name in DECISIVE:
        now, then = getattr(options, name), facts["options"].get(name)
        if now != then:
            raise UserError(
                f"The checkpoint '{stored.name}' was trained with --{name.replace('_', '-')} {shown(then)}, now it is "
                f"{now}; use the same."
            )
    for name, now, what in (("data", dataset.fingerprint(), "sequences, labels and split"), ("model", model, "model")):
        if facts.get(name) != now:
            raise UserError(f"The checkpoint '{stored.name}' is of another {what}; give the same.")
    return stored
