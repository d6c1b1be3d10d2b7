"""Embed sequences: read, tokenize, run the model in batches of like lengths, pool, write in the order read."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from dnalm.engine.devices import Machine, device_for, prepare_machine
from dnalm.engine.processes import Work, crew
from dnalm.engine.representations import (
    COMPARED,
    Combination,
    Embedded,
    KmerRepresentation,
    LongSequences,
    ModelChoices,
    ModelRepresentation,
    OneHotRepresentation,
    Representation,
    Taken,
)
from dnalm.errors import UserError
from dnalm.formats.embeddings_file import WRITERS
from dnalm.formats.fasta import SequenceRecord
from dnalm.formats.outputs import whole_or_nothing
from dnalm.formats.records import buffers, columns_of_records, open_records
from dnalm.formats.tables import TableWriter
from dnalm.methods.pooling import Pooling
from dnalm.models.quantized import refuse_unquantizable
from dnalm.models.registry import load_language_model
from dnalm.models.sources import open_model
from dnalm.report.counts import RecordCounts
from dnalm.report.progress import Progress
from dnalm.report.provenance import provenance

# A buffer is sorted by length and freed of repeats as a whole; it bounds the memory.
BUFFER_RECORDS = 8_192
BUFFER_BASES = 4_000_000
BUFFER_NUMBERS = 16_000_000
USUAL_DIMENSIONS = 1_024  # of a layer
BASELINES = ("kmer", "onehot")
NamesAndBases = tuple[list[str], list[str]]


@dataclass(frozen=True)
class EmbeddingOptions:
    """What a user chooses; the names are those of `dnalm_embed.py --help`."""

    output: Path
    sequences: Path | None = None
    genome: Path | None = None
    regions: Path | None = None
    model: Path | None = None
    representation: str = "hidden"
    k: int = 4
    layer: list[int] | None = None
    combine_layers: Combination = "average"
    pooling: Pooling = "mean"
    pooling_weights: str = "tokens"
    special_tokens: str = "drop"
    long_sequences: LongSequences = "windows"
    window_overlap: float = 0.25
    both_strands: bool = False
    dtype: str = "float32"
    seed: int = 0
    summary: Path | None = None
    output_format: str = "h5ad"
    device: str = "auto"
    threads: int | None = None
    batch_tokens: int | None = None
    processes: int | None = None


@dataclass(frozen=True)
class _Told:
    """What a process says of its representation when it has opened it."""

    description: str
    facts: dict[str, Any]
    cosine: float | None  # of a lower precision with float32


def embed(options: EmbeddingOptions) -> None:
    """Write one vector a sequence, or one a token, in the order of the input, and say on stdout what was done.

    Raises:
        UserError: sequences, model or options cannot be used.
    """
    _check(options)
    device = device_for(options.device, options.dtype)
    processes = 1 if options.representation in BASELINES else options.processes
    machine = prepare_machine(device, options.threads, options.batch_tokens, options.seed, processes)
    print(f"Device: {machine.description}; {options.dtype}", flush=True)
    outputs = [options.output, *([options.summary] if options.summary else [])]
    inputs = [path for path in (options.sequences, options.genome, options.regions, options.model) if path]
    with ExitStack() as stack:
        partials = stack.enter_context(whole_or_nothing(outputs, inputs))
        reader = open_records(options.sequences, options.genome, options.regions)
        stack.callback(reader.close)
        parts = buffers(iter(reader), *_most_at_once(options, machine))
        first = next(parts)  # a file that is no FASTA is refused before a model is loaded
        embedders = stack.enter_context(
            crew(partial(_embedder, options, _names_and_bases(first[:COMPARED])), machine, options.seed)
        )
        told: _Told = embedders.told
        print(f"Model: {told.description}", flush=True)
        if told.cosine is not None:
            print(f"Precision: cosine with float32 at least {told.cosine:.6f} on the first sequences", flush=True)
        progress = Progress("sequences", lambda: reader.fraction_read)
        writer = stack.enter_context(WRITERS[options.output_format](partials[0]))
        summary = stack.enter_context(TableWriter(partials[1])) if options.summary else None
        counts = RecordCounts()
        named = ((part, _names_and_bases(part)) for part in chain([first], parts))
        for buffer, (embedded, dimensions) in embedders.results(named, progress.add):
            columns = _columns(buffer, embedded)
            writer.dimensions = dimensions
            _write(writer, columns, embedded)
            if summary:
                summary.append(columns | {"embedding_norm": [_norm(found.vectors) for found in embedded]})
            counts.add(columns)
        packages = ("onnxruntime",) if options.dtype == "int8" else ()
        kind = machine.device.type
        facts = provenance("dnalm_embed", _choices(options), told.facts, kind, dict(counts), packages)
        writer.finish(facts)
        _report(counts, facts)


def _embedder(
    options: EmbeddingOptions, first: NamesAndBases, machine: Machine
) -> tuple[Work[NamesAndBases, tuple[list[Embedded], list[str] | None]], Callable[[], _Told]]:
    """Return how sequences are embedded, with the names of the dimensions, and what is to be said of the representation.

    The deviation of a lower precision is measured on the first records.
    """
    representation = _representation(options, machine)
    cosine = None
    if isinstance(representation, ModelRepresentation) and options.dtype != "float32":
        cosine = representation.change_precision(options.dtype, *first)

    def embed_them(given: NamesAndBases, on_done: Callable[[int], None]) -> tuple[list[Embedded], list[str] | None]:
        return representation.embed(*given, on_done), representation.dimensions

    return embed_them, lambda: _Told(representation.description, representation.facts(), cosine)


def _names_and_bases(records: list[SequenceRecord]) -> NamesAndBases:
    return [record.id for record in records], [record.bases for record in records]


def _check(options: EmbeddingOptions) -> None:
    """Refuse choices that contradict each other."""
    if (options.model is None) != (options.representation in BASELINES):
        wanted = "takes no model" if options.representation in BASELINES else "needs a model"
        raise UserError(f"The representation '{options.representation}' {wanted}; change one of both.")
    if options.layer and options.representation != "hidden":
        raise UserError(
            f"The representation '{options.representation}' has no layers to choose; use hidden for a layer."
        )
    if options.dtype == "int8" and options.representation != "hidden":
        raise UserError(
            f"int8 is for hidden states; for the representation '{options.representation}' choose bfloat16 or float32."
        )
    if options.pooling_weights == "bases" and (options.pooling != "mean" or options.special_tokens == "keep"):
        raise UserError(
            "Weights by bases are for the mean without special tokens, which cover no base; change one of both."
        )
    if options.both_strands and options.pooling == "none" and options.representation not in BASELINES:
        raise UserError("The tokens of both strands do not lie on each other; with pooling none use one strand.")
    if not 0 <= options.window_overlap < 1:
        raise UserError(f"The overlap of windows is {options.window_overlap}; use a share from 0 to below 1.")


def _choices(options: EmbeddingOptions) -> dict[str, Any]:
    """Return the options that decide over the numbers; paths and the machine's are none of these."""
    decisive = (
        "pooling",
        "pooling_weights",
        "special_tokens",
        "long_sequences",
        "window_overlap",
        "both_strands",
        "dtype",
    )
    chosen = {name: getattr(options, name) for name in ("representation", "layer", "combine_layers", *decisive, "seed")}
    return chosen | ({"k": options.k} if options.representation == "kmer" else {})


def _representation(options: EmbeddingOptions, machine: Machine) -> Representation:
    if options.representation == "kmer":
        return KmerRepresentation(options.k, options.both_strands)
    if options.representation == "onehot":
        return OneHotRepresentation(options.pooling == "none", options.both_strands)
    assert options.model is not None
    model = load_language_model(open_model(options.model), head=options.representation != "hidden")
    if options.dtype == "int8":
        refuse_unquantizable(model)
    choices = ModelChoices(
        representation=cast(Taken, options.representation),
        layers=tuple(options.layer or [-1]),
        combine_layers=options.combine_layers,
        pooling=options.pooling,
        by_bases=options.pooling_weights == "bases",
        keep_special=options.special_tokens == "keep",
        long_sequences=options.long_sequences,
        window_overlap=options.window_overlap,
        both_strands=options.both_strands,
    )
    return ModelRepresentation(model, choices, machine)


def _columns(records: list[SequenceRecord], embedded: list[Embedded]) -> dict[str, list[Any]]:
    """Return one value a record under each name; `truncated` counts the bases that were not read."""
    columns: dict[str, list[Any]] = {
        "id": [record.id for record in records],
        "status": ["truncated" if found.truncated else found.status for found in embedded],
        "length": [len(record.bases) for record in records],
        "n_tokens": [found.n_tokens for found in embedded],
        "n_windows": [found.n_windows for found in embedded],
        "truncated": [found.truncated for found in embedded],
    }
    return columns | columns_of_records(records)


def _write(writer: Any, columns: dict[str, list[Any]], embedded: list[Embedded]) -> None:
    """Append one row a record, or one a token with its number in the record and the bases it covers."""
    if embedded[0].starts is None:
        writer.append(columns, np.stack([found.vectors for found in embedded]))
        return
    rows: dict[str, list[Any]] = {"id": [], "token": [], "start": [], "end": []}
    for name, found in zip(columns["id"], embedded, strict=True):
        assert found.starts is not None
        assert found.ends is not None
        rows["id"] += [name] * len(found.starts)
        rows["token"] += range(len(found.starts))
        rows["start"] += found.starts.tolist()
        rows["end"] += found.ends.tolist()
    writer.append(rows, np.concatenate([found.vectors for found in embedded]))


def _most_at_once(options: EmbeddingOptions, machine: Machine) -> tuple[int, int]:
    """Return how many records, and of how many bases, are held and sorted at once."""
    # One vector a token is a hundred times more to hold than one a sequence.
    most_bases = BUFFER_BASES // 64 if options.pooling == "none" else BUFFER_BASES
    dimensions = 4**options.k if options.representation == "kmer" else USUAL_DIMENSIONS
    if options.layer and options.combine_layers == "concatenate":
        dimensions *= len(options.layer)
    most_records = min(BUFFER_RECORDS, BUFFER_NUMBERS // dimensions)
    if machine.processes == 1:
        return most_records, most_bases
    # So small that the processes end together, so large that batches have sequences of like lengths.
    return min(most_records, machine.batch_tokens), min(most_bases, 64 * machine.batch_tokens)


def _norm(vectors: NDArray[np.float32]) -> str:
    """Return the length of a vector, of a sequence's tokens the mean of theirs."""
    return f"{np.linalg.norm(vectors, axis=-1).mean():.6g}"


def _report(counts: RecordCounts, facts: dict[str, Any]) -> None:
    """Say what went in, what was changed, and what was run."""
    counts.tell("Embedded")
    if "sha256" in facts["model"]:
        print(f"Model SHA-256: {facts['model']['sha256']}")
    print("Versions: " + ", ".join(f"{name} {version}" for name, version in facts["versions"].items()))
