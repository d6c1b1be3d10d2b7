"""Fine-tune a language model on labelled sequences, and show on held-out ones whether it was worth it."""

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from dnalm.engine.devices import Machine, prepare_machine
from dnalm.engine.interruptions import Interruption, told_to_end
from dnalm.engine.representations import ModelChoices, ModelRepresentation
from dnalm.engine.training_run import DIVERGED, Run, diverged, processes
from dnalm.errors import UserError
from dnalm.formats.outputs import whole_or_nothing
from dnalm.methods.splits import TEST, VALIDATE
from dnalm.models.heads import Classifier, PooledClassifier, new_classifier, write_classifier
from dnalm.models.model_file import StoredModel
from dnalm.models.sources import open_model
from dnalm.report.progress import Progress
from dnalm.report.provenance import provenance
from dnalm.tasks.finetuning_baselines import baselines, head_facts, probe
from dnalm.tasks.finetuning_data import read_examples
from dnalm.tasks.finetuning_options import DECISIVE, FinetuningOptions, filled, refuse_contradictions
from dnalm.tasks.finetuning_outputs import account, tell, write_tables
from dnalm.tasks.finetuning_results import Judgement, judge
from dnalm.tasks.finetuning_split import Dataset, make_dataset
from dnalm.tasks.finetuning_training import FinetuningJob, Origin, open_checkpoint
from dnalm.temporary_files import temporary_folder

BUFFER_RECORDS = 8_192
RESERVE = 1.5  # of the time that judging is foreseen to take behind a training
TIMED = 32  # sequences embedded to foresee it, where no probe was


def finetune(options: FinetuningOptions) -> None:
    """Write a model with a head, metrics of it and of its baselines, predictions, records, a log and a picture.

    Raises:
        UserError: sequences, labels, model or options cannot be used, or the training diverged.
    """
    started = time.monotonic()
    refuse_contradictions(options)
    if processes() > 1:
        raise UserError("Fine-tuning is done by one process; start it without torchrun.")
    options = filled(options)
    machine = prepare_machine(options.device, options.threads, options.batch_tokens, options.seed)
    print(f"Device: {machine.description}; {options.dtype}", flush=True)
    inputs = [path for path in (*options.sequences, options.labels, options.model, options.resume_from) if path]
    optional = (options.checkpoint, options.metrics, options.predictions, options.records, options.log, options.figure)
    outputs = [options.output, *(path for path in optional if path)]
    run: Run | None = None
    with ExitStack() as stack:
        interruption = stack.enter_context(told_to_end())
        partials = stack.enter_context(whole_or_nothing(outputs, inputs, some_may_lack=True))
        partial = dict(zip(outputs, partials, strict=True))
        folder = stack.enter_context(temporary_folder())
        stack.enter_context(threadpool_limits(machine.threads))
        collection = read_examples(options)
        dataset = make_dataset(options, collection)
        account(collection, dataset)
        work = _Work(options, dataset, open_model(options.model), machine, folder, partial)
        resumed = open_checkpoint(options, dataset, work.sha256)
        print(f"Model: {work.description}", flush=True)
        work.describe_origin(dict(+collection.counts))
        if options.baselines == "all":
            work.judgements += baselines(options, dataset)
        if options.baselines == "all" or options.method == "probe":
            work.probe()
        if options.method != "probe":
            run = work.train(started, resumed, interruption)
        metrics = write_tables(options, partial, collection, dataset, work.judgements, run)
        tell(dataset, metrics, run, work.facts)
    if run and run.stopped == DIVERGED:
        raise diverged(run)


class _Work:
    """What is done with the model: the probe, the training, and what each says of the sequences that test.

    Attributes:
        sha256: of the model's files.
        judgements: of all methods so far.
        facts: provenance of all outputs.
    """

    def __init__(
        self,
        options: FinetuningOptions,
        dataset: Dataset,
        stored: StoredModel,
        machine: Machine,
        folder: Path,
        partial: dict[Path, Path],
    ) -> None:
        self._options, self._dataset, self._stored = options, dataset, stored
        self._machine, self._folder, self._partial = machine, folder, partial
        self.sha256 = stored.sha256()
        self.judgements: list[Judgement] = []
        self.facts: dict[str, Any] = {}
        self._classifier = new_classifier(stored, head_facts(dataset), options.seed)
        self._name = options.name or f"{stored.name}-finetuned"
        self._seconds = 0.0  # to embed a sequence

    @property
    def description(self) -> str:
        """The model, and its head."""
        return f"{self._stored.name}, {self._classifier.model.architecture}; {self._classifier.origin}"

    def describe_origin(self, counts: dict[str, int]) -> None:
        """Note what was run, with counts of what was read."""
        stored = self._stored
        about: dict[str, Any] = {"name": stored.name, "sha256": self.sha256, "licence": stored.licence}
        about |= {"provenance": stored.provenance} if stored.provenance else {}
        chosen = {name: getattr(self._options, name) for name in DECISIVE}
        packages = ("scikit-learn", "scipy", *(("peft",) if self._options.method == "lora" else ()))
        self.facts = provenance("dnalm_finetune", chosen, about, self._machine.device.type, counts, packages)

    def probe(self) -> None:
        """Fit a linear model on the frozen hidden states, as the model's head, and judge it; write it if asked for."""
        options, dataset, classifier = self._options, self._dataset, self._classifier
        vectors = self._embedded(classifier, np.arange(len(dataset.examples)), "sequences embedded for the probe")
        fitted = probe(options, dataset, vectors)
        assert isinstance(classifier.module, PooledClassifier)
        with torch.no_grad():
            classifier.module.classifier.weight.copy_(torch.from_numpy(fitted.weights))
            classifier.module.classifier.bias.copy_(torch.from_numpy(fitted.biases))
        judgement = self._judged("probe", classifier, vectors)
        self.judgements.append(judgement)
        if options.method == "probe":
            classifier.facts = judgement.facts
            write_classifier(
                self._partial[options.output],
                classifier,
                self._folder,
                name=self._name,
                provenance=self.facts,
                same_backbone=True,
            )

    def train(self, started: float, resumed: StoredModel | None, interruption: Interruption) -> Run:
        """Train all weights or LoRA's; judge the best model and write it, if there is one."""
        options, dataset = self._options, self._dataset
        rows = dataset.of(VALIDATE, TEST)
        if options.time_limit and not self._seconds:
            self._embedded(self._classifier, rows[:TIMED], "sequences embedded to foresee the end")
        # The probe's head is left behind.
        classifier = self._classifier = new_classifier(self._stored, head_facts(dataset), options.seed)
        origin = Origin(self._name, self.facts, dataset.fingerprint(), self.sha256)
        checkpoint = options.checkpoint
        kept = (self._partial[checkpoint], checkpoint.resolve()) if checkpoint else None
        job = FinetuningJob(options, classifier, dataset, origin, self._machine, self._folder, kept, resumed)
        print(job.description, flush=True)
        # From here on there is something to keep when the job is told to end.
        interruption.awaited = True
        run = job.train(started, RESERVE * self._seconds * len(rows), interruption)
        if job.has_best:
            vectors = np.zeros((len(dataset.examples), classifier.model.hidden_size), dtype=np.float32)
            with job.deployed():
                vectors[rows] = self._embedded(classifier, rows, "sequences embedded to judge the model")
            judgement = self._judged(options.method, classifier, vectors)
            self.judgements.append(judgement)
            classifier.facts = judgement.facts
            job.write(self._partial[options.output])
        return run

    def _embedded(self, classifier: Classifier, rows: NDArray[np.int64], what: str) -> NDArray[np.float32]:
        """Return the mean of the last hidden states of some examples, shape (rows, hidden size), and note the time."""
        reader = ModelRepresentation(classifier.model, ModelChoices(), self._machine)
        examples = [self._dataset.examples[row] for row in rows.tolist()]
        progress = Progress(what, lambda: progress.done / len(examples))
        vectors = np.empty((len(examples), classifier.model.hidden_size), dtype=np.float32)
        began = time.monotonic()
        for first in range(0, len(examples), BUFFER_RECORDS):
            part = examples[first : first + BUFFER_RECORDS]
            found = reader.embed([example.id for example in part], [example.bases for example in part], progress.add)
            vectors[first : first + len(part)] = [embedded.vectors for embedded in found]
        self._seconds = (time.monotonic() - began) / len(examples)
        return vectors

    def _judged(self, method: str, classifier: Classifier, vectors: NDArray[np.float32]) -> Judgement:
        """Return what a classifier's head says of the vectors of what validates and tests."""
        assert isinstance(classifier.module, PooledClassifier)
        head = classifier.module.classifier
        with torch.inference_mode():
            weight, bias = head.weight.cpu(), head.bias.cpu()
            validation, test = (
                torch.nn.functional.linear(torch.from_numpy(vectors[self._dataset.of(side)]), weight, bias).numpy()
                for side in (VALIDATE, TEST)
            )
        return judge(method, self._dataset, classifier.facts, validation, test)
