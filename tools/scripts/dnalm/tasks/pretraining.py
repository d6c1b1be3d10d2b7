"""Pretrain a language model: windows of sequences, a split without leaks, tokens, training, and a model file."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from dnalm import __version__
from dnalm.engine.checkpoints import BEST, TrainingState
from dnalm.engine.devices import Machine, prepare_machine
from dnalm.engine.objectives import LanguageModelling
from dnalm.engine.training import ModelTrainer, train
from dnalm.engine.training_data import Batching, BatchPlan, Masking, TokenizedWindows, TrainingBatches
from dnalm.engine.training_run import DIVERGED, Run, TrainingSettings, cell, diverged, processes
from dnalm.errors import UserError, shown
from dnalm.formats.fasta import FastaReader, SequenceRecord
from dnalm.formats.outputs import whole_or_nothing
from dnalm.formats.regions import RegionReader, RegionRecord
from dnalm.formats.sequence_tables import is_table, read_sequence_table
from dnalm.formats.tables import TableWriter
from dnalm.methods import training_windows as grid
from dnalm.methods.pieces import evenly_thinned, pieces
from dnalm.methods.strands import reverse_complement
from dnalm.models.language_model import LanguageModel
from dnalm.models.model_file import StoredModel, write_model_file
from dnalm.models.presets import PRESETS, Objective, Preset
from dnalm.models.published_files import read_config, read_tokenizer
from dnalm.models.registry import FILLED, load_language_model, new_language_model, published_tensors, trainable
from dnalm.models.sources import open_model
from dnalm.models.vocabularies import all_kmers, learn_byte_pairs
from dnalm.report.plots import Curve, draw_training
from dnalm.report.provenance import provenance

LEAST_BASES = 20  # a shorter window teaches nothing
NEAR = 0.5  # Jaccard index of 12-mers from which two windows count as near duplicates
MOST_COMPARED = 200_000  # training windows that validation is compared with for near duplicates
# Byte pairs are learnt as dnalm_train_tokenizer does by default.
VOCABULARY, LONGEST_WORD, MOST_LEARNT = 4_096, 1_000, 50_000_000
TOKENIZED_TOGETHER = 4_096
COLUMNS = ("step", "epoch", "split", "loss", "perplexity", "bits_per_base", "learning_rate", "tokens_per_second")
MIXED = 0.25  # coefficient of variation of lengths from which packing was measured to win over grouping
# Changing one of these changes what a checkpoint would go on with.
DECISIVE = [
    "preset",
    "objective",
    "window",
    "stride",
    "split",
    "validation_fraction",
    "max_n",
    "soft_masked_weight",
    "reverse_complement",
    "batching",
    "batch_size",
    "gradient_accumulation",
    "learning_rate",
    "weight_decay",
    "warmup",
    "epochs",
    "max_steps",
    "evaluate_every",
    "dtype",
    "seed",
]


@dataclass(frozen=True)
class PretrainingOptions:
    """What a user chooses; the names are those of `dnalm_pretrain.py --help`. None stands for the preset's."""

    output: Path
    sequences: list[Path] | None = None
    genome: Path | None = None
    regions: Path | None = None
    preset: str = "demo"
    model_config: Path | None = None
    continue_from: Path | None = None
    tokenizer: list[Path] | None = None
    objective: Objective | None = None
    window: int | None = None
    stride: int | None = None
    max_n: float = 0.1
    soft_masked_weight: float = 1.0
    reverse_complement: bool = False
    split: Literal["random", "block", "record"] = "block"
    validation_fraction: float = 0.1
    batching: Literal["auto", "padded", "grouped", "packed"] = "auto"
    epochs: float | None = None
    max_steps: int | None = None
    batch_size: int | None = None
    gradient_accumulation: int = 1
    learning_rate: float | None = None
    weight_decay: float = 0.01
    warmup: float = 0.05
    patience: int = 3
    evaluate_every: int | None = None
    dtype: str = "float32"
    seed: int = 0
    time_limit: float | None = None
    resume_from: Path | None = None
    name: str | None = None
    checkpoint: Path | None = None
    log: Path | None = None
    figure: Path | None = None
    card: Path | None = None
    device: str = "auto"
    threads: int | None = None
    batch_tokens: int | None = None


@dataclass(frozen=True)
class Windows:
    """What is trained on: bases of each window, weights of them where asked for, which validate, and counts."""

    sequences: list[bytes]
    weights: list[NDArray[np.float32]] | None
    validates: NDArray[np.bool_]
    counts: Counter[str]


def pretrain(options: PretrainingOptions) -> None:
    """Train a model and write the best one, a checkpoint, a log, its curve and a model card.

    Raises:
        UserError: data, model or options cannot be used, or the training diverged.
    """
    started = time.monotonic()
    _check(options)
    options = filled(options)
    machine = prepare_machine(options.device, options.threads, options.batch_tokens, options.seed)
    main = int(os.environ.get("RANK", "0")) == 0
    said: Callable[[str], None] = print if main else _nothing
    said(f"Device: {machine.description}; {options.dtype}")
    given = [options.genome, options.regions, options.model_config, options.continue_from, options.resume_from]
    inputs = [path for path in (*given, *(options.sequences or []), *(options.tokenizer or [])) if path]
    optional = (options.checkpoint, options.log, options.figure, options.card)
    outputs = [options.output, *(path for path in optional if path)]
    with (
        _told_to_end() as interruption,
        whole_or_nothing(outputs if main else [], inputs, some_may_lack=True) as partials,
        _scratch() as folder,
    ):
        partial = dict(zip(outputs, partials, strict=True)) if main else {}
        windows = read_windows(options)
        for sentence in _account(windows):
            said(sentence)
        resumed = _open_checkpoint(options)
        model = _model(options, windows, resumed)
        training, validation = _tokenized(options, model, windows)
        batches = _batches(options, model, training, validation, machine)
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
        self._module = trainable(model)
        self._data = _fingerprint(windows)
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
            self._write_model(self._best, best)
        return run, TrainingState(tensors, facts.get("state", {}))

    def _keep_best(self, scheduled: bool) -> None:
        """Keep the weights as they are now; those of an early end beside the best that a later job goes on with."""
        path = self._folder / ("best.safetensors" if scheduled else "end.safetensors")
        with self._published() as tensors:
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
            yield published_tensors(self._model, Path(folder))

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
        stored, counts = self._model.stored, self._windows.counts
        parameters = sum(parameter.numel() for parameter in self._module.parameters())
        options = {name: getattr(self._options, name) for name in DECISIVE}
        lines = [
            "---",
            "tags: [dna, biology]",
            *([f'license: "{stored.licence.lower()}"'] if stored.licence else []),
            "---",
        ]
        lines += [
            "",
            f"# {stored.name}",
            "",
            f"{self._model.architecture}, {parameters:,} parameters, trained with DNA-LM ",
        ]
        lines[-1] += f"{__version__} ({self._options.objective} language modelling)."
        lines += ["", "## Results", "", *(f"- {sentence}" for sentence in self.results(run))]
        lines += ["", "## Data", "", *(f"- {name.replace('_', ' ')}: {number:,}" for name, number in counts.items())]
        lines += ["", "## Options", "", *(f"- {name}: {value}" for name, value in options.items()), ""]
        return "\n".join(lines)


def _check(options: PretrainingOptions) -> None:
    """Refuse choices that contradict each other."""
    if (options.sequences is None) == (options.genome is None) or (options.genome is None) != (options.regions is None):
        raise UserError("Give either sequences, or a genome together with regions.")
    if options.continue_from and (options.tokenizer or options.model_config):
        raise UserError("A model that is continued brings its config and tokenizer; give neither.")
    if not 0 < options.validation_fraction < 1:
        raise UserError(f"The share of validation is {options.validation_fraction}; use one between 0 and 1.")


def filled(options: PretrainingOptions) -> PretrainingOptions:
    """Return the options with the preset's where the user chose nothing."""
    preset = PRESETS[options.preset]
    window = options.window or preset.window
    return replace(
        options,
        objective=options.objective or preset.objective,
        window=window,
        stride=options.stride or window,
        epochs=options.epochs or preset.epochs,
        batch_size=options.batch_size or preset.batch_size,
        # 0 is a choice too.
        learning_rate=preset.learning_rate if options.learning_rate is None else options.learning_rate,
    )


def _records(options: PretrainingOptions) -> Iterator[tuple[int, SequenceRecord]]:
    """Yield each record with the number of the contig it lies on."""
    if options.genome is not None:
        assert options.regions is not None
        contigs: dict[str, int] = {}
        with RegionReader(options.genome, options.regions, options.soft_masked_weight != 1) as reader:
            for record in reader:
                assert isinstance(record, RegionRecord)
                assert record.region is not None
                yield contigs.setdefault(record.region.contig, len(contigs)), record
        return
    number = 0
    for path in options.sequences or []:
        read: Any = read_sequence_table if is_table(path) else FastaReader
        records = read(path, keep_case=options.soft_masked_weight != 1)
        for record in records:
            yield number, record
            number += 1


def read_windows(options: PretrainingOptions) -> Windows:
    """Cut the records into windows, leave out what cannot be learnt from, and split them."""
    assert options.window is not None
    assert options.stride is not None
    counts: Counter[str] = Counter()
    sequences: list[bytes] = []
    weights: list[NDArray[np.float32]] = []
    places: list[tuple[int, int, int, int]] = []
    for number, (contig, record) in enumerate(_records(options)):
        counts["records"] += 1
        counts["bases"] += len(record.bases)
        first = record.region.start if isinstance(record, RegionRecord) and record.region else 0
        backwards = isinstance(record, RegionRecord) and record.region is not None and record.region.strand == "-"
        whole_grid = grid.window_grid(len(record.bases), options.window, options.stride, 1)
        cut = [(start, end) for start, end in whole_grid if end - start >= LEAST_BASES]
        counts["records_too_short" if not cut else "ends_too_short"] += len(whole_grid) - len(cut)
        for start, end in cut:
            bases = record.bases[start:end]
            if bases.count("N") > options.max_n * len(bases):
                counts["windows_with_too_many_n"] += 1
                continue
            sequences.append(bases.encode())
            origin = first + (len(record.bases) - end if backwards else start)
            places.append((contig, origin, origin + end - start, number))
            if options.soft_masked_weight != 1:
                weights.append(_soft_mask(record, start, end, options.soft_masked_weight))
    if not sequences:
        raise UserError(
            f"No window is left of {counts['records']:,} records ({counts['windows_with_too_many_n']:,} had too many N, "
            f"{counts['records_too_short']:,} records under {LEAST_BASES} bases); give more sequences."
        )
    counts["windows"] = len(sequences)
    intervals = grid.Intervals(*(np.array(column, dtype=np.int64) for column in zip(*places, strict=True)))
    first_of_each = grid.first_of_each(sequences)
    counts["duplicate_windows"] = int((~first_of_each).sum())
    validates, kept = _split(options, intervals, first_of_each, counts)
    numbers = np.flatnonzero(kept).tolist()
    sequences = [sequences[number] for number in numbers]
    weights = [weights[number] for number in numbers] if weights else []
    validates = validates[kept]
    counts["training_windows_not_compared"] = max(0, int((~validates).sum()) - MOST_COMPARED)
    counts["near_duplicates_in_validation"] = grid.near_duplicates(
        [sequences[number] for number in np.flatnonzero(validates)],
        [sequences[number] for number in np.flatnonzero(~validates)[:MOST_COMPARED]],
        NEAR,
    )
    counts["training_windows"], counts["validation_windows"] = int((~validates).sum()), int(validates.sum())
    return Windows(sequences, weights or None, validates, counts)


def _split(
    options: PretrainingOptions, intervals: grid.Intervals, kept: NDArray[np.bool_], counts: Counter[str]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which windows validate, and which are left when none shares a base with both sides."""
    assert options.window is not None
    if kept.sum() < 2:
        raise UserError(
            "Only one window is left, which cannot be both trained on and validated with; give more sequences."
        )
    generator = np.random.default_rng((options.seed, 1))
    split = {"random": grid.random_split, "block": grid.block_split, "record": grid.record_split}[options.split]
    validates = np.zeros(len(intervals), dtype=np.bool_)
    validates[kept] = split(intervals[kept], options.validation_fraction, generator)
    near = grid.near_validation(intervals, validates, options.window if options.split == "block" else 0)
    counts["windows_left_out_beside_validation"] = int((near & kept).sum())
    kept = kept & ~near
    for side, chosen in (("validation", validates & kept), ("training", ~validates & kept)):
        if not chosen.any():
            raise UserError(
                f"The split '{options.split}' leaves no window for {side} ({int(kept.sum()):,} windows in all); give more "
                "sequences, smaller windows, or another split."
            )
    return validates, kept


def _soft_mask(record: SequenceRecord, start: int, end: int, weight: float) -> NDArray[np.float32]:
    if record.soft_masked is None:
        return np.ones(end - start, dtype=np.float32)
    return np.where(record.soft_masked[start:end], np.float32(weight), np.float32(1))


def _account(windows: Windows) -> list[str]:
    """Return sentences about what became of the records."""
    counts = windows.counts
    sentences = [
        f"Read {counts['records']:,} records of {counts['bases']:,} bases: {counts['windows']:,} windows, "
        f"{counts['training_windows']:,} to train on and {counts['validation_windows']:,} to validate with"
    ]
    meanings = {
        "windows_with_too_many_n": "windows left out for their N",
        "records_too_short": f"records left out that have under {LEAST_BASES} bases",
        "ends_too_short": f"ends of records left out that have under {LEAST_BASES} bases",
        "duplicate_windows": "windows left out that repeat another or its reverse complement",
        "windows_left_out_beside_validation": "windows left out because validation has some of their bases, or neighbours",
        "near_duplicates_in_validation": "validation windows much like one of training, kept",
        "training_windows_not_compared": "training windows, the last ones, that validation was not compared with",
    }
    return sentences + [f"{meaning}: {counts[name]:,}" for name, meaning in meanings.items() if counts[name]]


def _fingerprint(windows: Windows) -> str:
    """Return what identifies the windows and their split."""
    digest = hashlib.sha256(np.packbits(windows.validates).tobytes())
    for bases in windows.sequences:
        digest.update(bases + b"\n")
    for weights in windows.weights or ():
        digest.update(weights.tobytes())
    return digest.hexdigest()


def _open_checkpoint(options: PretrainingOptions) -> StoredModel | None:
    if options.resume_from is None:
        return None
    stored = open_model(options.resume_from)
    facts = stored.training
    if not facts or not isinstance(facts.get("options"), dict) or not isinstance(facts.get("run"), dict):
        raise UserError(
            f"The model '{options.resume_from.name}' is no checkpoint; give the checkpoint of a pretraining."
        )
    for name in DECISIVE:
        now, then = getattr(options, name), facts["options"].get(name)
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
    tokenizer = read_tokenizer(options.tokenizer) if options.tokenizer else _tokenizer(preset, windows)
    torch.manual_seed(options.seed)
    return new_language_model(config, tokenizer, options.name or f"dnalm-{options.preset}", causal=causal)


def _tokenizer(preset: Preset, windows: Windows) -> dict[str, Any]:
    """Return the preset's tokenizer; one of byte pairs is learnt from the training windows."""
    if preset.tokenizer != "bpe":
        tokenizer = all_kmers(1 if preset.tokenizer == "letters" else 6)
    else:
        chosen = zip(windows.sequences, windows.validates, strict=True)
        words = (word for bases, validates in chosen if not validates for word in pieces(bases.decode(), LONGEST_WORD))
        try:
            tokenizer = learn_byte_pairs(evenly_thinned(words, MOST_LEARNT), VOCABULARY)
        except UserError as error:
            fact = str(error).partition(";")[0]
            raise UserError(
                f"{fact}; give more sequences, a smaller tokenizer, or a preset that reads letters."
            ) from error
    return {"tokenizer.json": json.loads(tokenizer.to_str())}


def _tokenized(
    options: PretrainingOptions, model: LanguageModel, windows: Windows
) -> tuple[tuple[TokenizedWindows, TokenizedWindows | None], TokenizedWindows]:
    """Return tokens of the training windows, of their other strands if asked for, and of the validation windows."""

    def tokens(validation: bool, other_strand: bool = False) -> TokenizedWindows:
        numbers = np.flatnonzero(windows.validates == validation).tolist()
        ids, bases, weights, lengths = [], [], [], [0]
        for first in range(0, len(numbers), TOKENIZED_TOGETHER):
            part = numbers[first : first + TOKENIZED_TOGETHER]
            letters = [windows.sequences[number].decode() for number in part]
            if other_strand:
                letters = [reverse_complement(sequence) for sequence in letters]
            for number, sequence, encoding in zip(part, letters, model.encode(letters), strict=True):
                if model.context_length is not None and len(encoding) > model.context_length:
                    raise UserError(
                        f"A window of {len(sequence):,} bases has {len(encoding):,} tokens, the model reads "
                        f"{model.context_length:,}; use smaller windows."
                    )
                before = np.concatenate([[0], np.cumsum(np.frombuffer(sequence.encode(), dtype=np.uint8) == ord("N"))])
                clean = before[encoding.ends] == before[encoding.starts]
                covered = (encoding.ends - encoding.starts) * clean
                ids.append(encoding.ids.astype(np.int32))
                bases.append(np.minimum(covered, 65_535).astype(np.uint16))
                weights.append(_token_weights(windows, number, encoding.starts, encoding.ends, other_strand))
                lengths.append(len(encoding))
        return TokenizedWindows(
            np.concatenate(ids), np.concatenate(bases), np.concatenate(weights), np.cumsum(np.array(lengths))
        )

    other = tokens(False, other_strand=True) if options.reverse_complement else None
    return (tokens(False), other), tokens(True)


def _token_weights(
    windows: Windows, number: int, starts: NDArray[np.int64], ends: NDArray[np.int64], other_strand: bool
) -> NDArray[np.float32]:
    """Return the mean weight of each token's bases."""
    if windows.weights is None:
        return np.ones(len(starts), dtype=np.float32)
    weights = windows.weights[number][::-1] if other_strand else windows.weights[number]
    before = np.concatenate([[0.0], np.cumsum(weights, dtype=np.float64)])
    mean = (before[ends] - before[starts]) / np.maximum(ends - starts, 1)
    # A weight of 0 would make a token one that is not predicted at all, also in validation.
    return np.maximum(mean, 1e-6).astype(np.float32)


def _batches(
    options: PretrainingOptions,
    model: LanguageModel,
    training: tuple[TokenizedWindows, TokenizedWindows | None],
    validation: TokenizedWindows,
    machine: Machine,
) -> tuple[TrainingBatches, TrainingBatches]:
    windows, other_strands = training
    if not all(_is_predictable(options, tokens) for tokens in (windows, validation)):
        raise UserError("No token is left to predict; give sequences with fewer N, or longer windows.")
    assert options.batch_size is not None
    masking = None
    if options.objective == "masked":
        if model.tokenizer.mask_id is None:
            raise UserError("The tokenizer has no mask token, which the objective masked needs; use another tokenizer.")
        masking = Masking(model.tokenizer.mask_id, np.unique(windows.ids[windows.bases > 0]).astype(np.int64))
    lengths = windows.lengths if other_strands is None else np.maximum(windows.lengths, other_strands.lengths)
    batching = chosen_batching(options, model, lengths)
    plan = BatchPlan(batching, options.batch_size, int(lengths.max()), options.seed)
    rows = max(1, machine.batch_tokens // int(validation.lengths.max()))
    measured = replace(plan, batching="grouped", batch_size=rows)
    return (
        TrainingBatches(windows, plan, model.pad_id, masking, other_strands),
        TrainingBatches(validation, measured, model.pad_id, masking, validation=True),
    )


def _is_predictable(options: PretrainingOptions, windows: TokenizedWindows) -> bool:
    """Say whether any token has bases and, in a causal model, another before it."""
    predicted = windows.bases > 0
    if options.objective == "causal":
        predicted[windows.offsets[:-1]] = False
    return bool(predicted.any())


PACKABLE = ("llama", "mistral", "mixtral")


def chosen_batching(options: PretrainingOptions, model: LanguageModel, lengths: NDArray[np.int64]) -> Batching:
    """Return how windows are put together: what was measured to be fastest, unless the user chose."""
    config: Any = model.with_head.config if model.architecture in PACKABLE else None  # type: ignore[union-attr]
    # The mask of a packed row knows of no sliding window.
    slides = getattr(config, "sliding_window", None)
    packable = config is not None and options.objective == "causal" and (not slides or lengths.max() <= slides)
    if options.batching == "packed" and not packable:
        raise UserError(f"The model ({model.architecture}) cannot read packed windows apart; use batching grouped.")
    if options.batching != "auto":
        return options.batching
    mixed = lengths.std() > MIXED * lengths.mean()
    return "packed" if packable and mixed else "grouped"


def _nothing(sentence: str) -> None:
    """Say nothing: another process does."""


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="dnalm-") as folder:
        yield Path(folder)


@dataclass
class _Interruption:
    """Whether the job was told to end, once there is something to keep; before that it ends at once."""

    awaited: bool = False
    told: bool = False

    def __call__(self) -> bool:
        return self.told


@contextlib.contextmanager
def _told_to_end() -> Iterator[_Interruption]:
    """Turn the signals that end a job into a question that the training asks."""
    interruption = _Interruption()
    usual = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def tell(number: int, frame: FrameType | None) -> None:
        handler = usual[signal.Signals(number)]
        if interruption.awaited:
            interruption.told = True
        elif callable(handler):
            handler(number, frame)
        else:
            raise SystemExit(128 + number)

    for number in usual:
        signal.signal(number, tell)
    try:
        yield interruption
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
