"""Predict: read sequences, run a classifier in batches of like lengths, write what it says in the order read."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dnalm.engine.devices import device_for, prepare_machine
from dnalm.engine.prediction import Predicted, PredictionChoices, Predictor, refuse_unpredictable
from dnalm.engine.representations import LongSequences
from dnalm.errors import UserError, shown
from dnalm.formats.fasta import SequenceRecord
from dnalm.formats.outputs import whole_or_nothing
from dnalm.formats.records import buffers, columns_of_records, open_records
from dnalm.formats.regions import BedWriter, RegionRecord
from dnalm.formats.tables import TableWriter
from dnalm.methods.predictions import Numbers, called
from dnalm.models.head_config import HeadFacts
from dnalm.models.heads import load_classifier
from dnalm.models.sources import open_model
from dnalm.report.counts import RecordCounts
from dnalm.report.progress import Progress
from dnalm.report.provenance import provenance

# A buffer is sorted by length and freed of repeats as a whole; it bounds the memory, as does the second for many labels.
BUFFER_RECORDS = 8_192
BUFFER_BASES = 4_000_000
BUFFER_NUMBERS = 4_000_000
WIDEST = 50  # labels that have a column each by default: Galaxy shows tables of up to 100 columns
BEST = 5  # likeliest labels that are told of more
Columns = Literal["auto", "all", "best"]


@dataclass(frozen=True)
class PredictionOptions:
    """What a user chooses; the names are those of `dnalm_predict.py --help`."""

    model: Path
    output: Path
    sequences: Path | None = None
    genome: Path | None = None
    regions: Path | None = None
    bed: Path | None = None
    columns: Columns = "auto"
    label: str | None = None
    both_strands: bool = False
    long_sequences: LongSequences = "windows"
    window_overlap: float = 0.25
    dtype: str = "float32"
    device: str = "auto"
    threads: int | None = None
    batch_tokens: int | None = None


def predict(options: PredictionOptions) -> None:
    """Write one row a sequence, of regions an interval each, in the order of the input; say on stdout what was done.

    Raises:
        UserError: sequences, model or options cannot be used.
    """
    _check(options)
    device = device_for(options.device, options.dtype)
    machine = prepare_machine(device, options.threads, options.batch_tokens)
    print(f"Device: {machine.description}; {options.dtype}", flush=True)
    outputs = [options.output, *([options.bed] if options.bed else [])]
    inputs = [path for path in (options.sequences, options.genome, options.regions, options.model) if path]
    with ExitStack() as stack:
        partials = stack.enter_context(whole_or_nothing(outputs, inputs))
        reader = open_records(options.sequences, options.genome, options.regions)
        stack.callback(reader.close)
        records: Iterator[SequenceRecord] = iter(reader)
        records = chain([next(records)], records)  # a file that is no FASTA is refused before a model is loaded
        predictor = _predictor(options, machine)
        facts = predictor.classifier.facts
        print(f"Model: {predictor.description}", flush=True)
        columns_of = _Columns(facts, options)
        progress = Progress("sequences", lambda: reader.fraction_read)
        table = stack.enter_context(TableWriter(partials[0]))
        bed = stack.enter_context(BedWriter(partials[1])) if options.bed else None
        counts, of_labels = RecordCounts(), np.zeros(len(facts.labels), dtype=np.int64)
        most_records = max(1, min(BUFFER_RECORDS, BUFFER_NUMBERS // len(facts.labels)))
        for buffer in buffers(records, most_records, BUFFER_BASES):
            names, sequences = [record.id for record in buffer], [record.bases for record in buffer]
            if not counts and options.dtype != "float32":
                difference = predictor.change_precision(options.dtype, names, sequences)
                print(f"Precision: at most {difference:.3g} from float32 on the first sequences", flush=True)
            predicted = predictor.predict(names, sequences, progress.add)
            outcomes = predictor.outcomes(np.stack([found.logits for found in predicted]))
            calls = _calls(facts, outcomes)
            columns = columns_of.table(buffer, predicted, outcomes, calls)
            table.append(columns)
            if bed:
                bed.append(*columns_of.intervals(buffer, predicted, outcomes, calls))
            counts.add(columns)
            of_labels += calls.sum(axis=0)
        _report(counts, of_labels, facts, _facts(options, predictor, machine.device.type, counts))


def _check(options: PredictionOptions) -> None:
    """Refuse choices that contradict each other."""
    if options.bed and not options.regions:
        raise UserError("A BED is made of regions; give a genome together with regions, or leave the BED out.")
    if not 0 <= options.window_overlap < 1:
        raise UserError(f"The overlap of windows is {options.window_overlap}; use a share from 0 to below 1.")


def _predictor(options: PredictionOptions, machine: Any) -> Predictor:
    """Load the model and refuse what its head cannot tell."""
    classifier = load_classifier(open_model(options.model))
    name = classifier.model.stored.name
    classes = "--label" if options.label is not None else "--columns" if options.columns != "auto" else None
    if classifier.task == "regress" and classes:
        raise UserError(
            f"The model '{name}' predicts values ({shown(', '.join(classifier.labels))}) and has no classes; leave out "
            f"{classes}, or choose a model that classifies."
        )
    if options.label is not None and options.label not in classifier.labels:
        raise UserError(
            f"The model '{name}' has no label '{shown(options.label)}'; it has {shown(', '.join(classifier.labels), 200)}."
        )
    refuse_unpredictable(classifier, options.dtype)
    if not classifier.pooled and options.long_sequences == "windows":
        print(
            "The head of this model reads a sequence as a whole: what lies beyond its context is cut and counted, and not "
            "read in windows",
            flush=True,
        )
    choices = PredictionChoices(options.long_sequences, options.window_overlap, options.both_strands)
    return Predictor(classifier, choices, machine)


def _calls(facts: HeadFacts, outcomes: Numbers) -> NDArray[np.bool_]:
    """Return which labels are called of each sequence; none of a regressor's."""
    if facts.task == "regress":
        return np.zeros(outcomes.shape, dtype=np.bool_)
    thresholds = None if facts.thresholds is None else np.array(facts.thresholds)
    return called(outcomes, exclusive=facts.task == "classify", thresholds=thresholds)


class _Columns:
    """What a classifier's outputs are written as: a table's columns, and a BED's names and scores."""

    def __init__(self, facts: HeadFacts, options: PredictionOptions) -> None:
        self._facts = facts
        self._labels = np.array(facts.labels, dtype=object)
        self._of_score = None if options.label is None else facts.labels.index(options.label)
        many = len(facts.labels) > WIDEST
        self._best = options.columns == "best" or (options.columns == "auto" and many)
        if self._best and options.columns == "auto" and facts.task != "regress":
            print(
                f"The model has {len(facts.labels):,} labels: the table has the {BEST} likeliest of each sequence; choose "
                "all for a column each",
                flush=True,
            )

    def table(
        self, records: list[SequenceRecord], predicted: list[Predicted], outcomes: Numbers, calls: NDArray[np.bool_]
    ) -> dict[str, list[Any]]:
        """Return one value a record under each name."""
        columns: dict[str, list[Any]] = {
            "id": [record.id for record in records],
            "status": ["truncated" if found.truncated else found.status for found in predicted],
        }
        columns |= self._values(outcomes) if self._facts.task == "regress" else self._classes(outcomes, calls)
        columns |= {
            "length": [len(record.bases) for record in records],
            "n_tokens": [found.n_tokens for found in predicted],
            "n_windows": [found.n_windows for found in predicted],
            "truncated": [found.truncated for found in predicted],
        }
        return columns | columns_of_records(records)

    def _values(self, outcomes: Numbers) -> dict[str, list[str]]:
        names = ["value"] if len(self._labels) == 1 else [f"value_{label}" for label in self._labels]
        return dict(zip(names, map(_cells, outcomes.T), strict=True))

    def _classes(self, outcomes: Numbers, calls: NDArray[np.bool_]) -> dict[str, list[str]]:
        columns: dict[str, list[str]] = {"label": self._called(calls)}
        if self._facts.task == "classify":
            columns["probability"] = _cells(outcomes[calls])
        if not self._best:
            return columns | {
                f"probability_{label}": _cells(of_label)
                for label, of_label in zip(self._labels, outcomes.T, strict=True)
            }
        ranked = np.argsort(-outcomes, axis=1, kind="stable")[:, :BEST]
        for rank, chosen in enumerate(ranked.T, start=1):
            columns[f"label_{rank}"] = list(self._labels[chosen])
            columns[f"probability_{rank}"] = _cells(outcomes[np.arange(len(outcomes)), chosen])
        return columns

    def _called(self, calls: NDArray[np.bool_]) -> list[str]:
        if self._facts.task == "classify":
            return list(self._labels[calls.argmax(axis=1)])
        return [",".join(self._labels[row]) for row in calls]

    def intervals(
        self, records: list[SequenceRecord], predicted: list[Predicted], outcomes: Numbers, calls: NDArray[np.bool_]
    ) -> tuple[list[Any], list[str], list[int]]:
        """Return regions, their names with what is predicted, and scores from 0 to 1,000.

        A score is a thousand times a probability: that of the label asked for, else of the called one, of several that
        may be true the largest. Of a regressor 500 is the mean of what it was trained on and 250 one standard deviation.
        """
        if self._facts.task == "regress":
            told = _cells(outcomes[:, 0])
            scores: Numbers = 500 + 250 * np.stack([found.logits[0] for found in predicted]).astype(np.float64)
        else:
            told = self._called(calls)
            if self._of_score is not None:
                scores = 1_000 * outcomes[:, self._of_score]
            elif self._facts.task == "classify":
                scores = 1_000 * outcomes[calls]
            else:
                scores = 1_000 * outcomes.max(axis=1)
        regions = [record.region for record in records if isinstance(record, RegionRecord)]
        names = [f"{record.id}|{'_'.join(said.split())}" for record, said in zip(records, told, strict=True)]
        return regions, names, [round(float(score)) for score in np.clip(scores, 0, 1_000)]


def _cells(values: Numbers) -> list[str]:
    return [f"{value:.6g}" for value in values.tolist()]


def _facts(options: PredictionOptions, predictor: Predictor, device: str, counts: RecordCounts) -> dict[str, Any]:
    """Return what was run; paths and the machine's options are none of it."""
    decisive = ("both_strands", "long_sequences", "window_overlap", "dtype", "columns", "label")
    chosen = {name: getattr(options, name) for name in decisive}
    packages = ("onnxruntime",) if options.dtype == "int8" else ()
    return provenance("dnalm_predict", chosen, predictor.facts(), device, dict(counts), packages)


def _report(counts: RecordCounts, of_labels: NDArray[np.int64], facts: HeadFacts, said: dict[str, Any]) -> None:
    """Say what went in, what was changed, what was called, and what was run."""
    counts.tell("Predicted")
    if facts.task != "regress":
        for number in np.argsort(-of_labels, kind="stable")[:TOLD]:
            print(f"called {facts.labels[number]}: {of_labels[number]:,}")
        if (others := len(facts.labels) - TOLD) > 0:
            print(f"and of {others:,} other labels: {of_labels.sum() - np.sort(of_labels)[-TOLD:].sum():,}")
    print(f"Model SHA-256: {said['model']['sha256']}; licence: {said['model']['licence'] or 'unknown'}")
    print("Versions: " + ", ".join(f"{name} {version}" for name, version in said["versions"].items()))


TOLD = 20  # labels on stdout
