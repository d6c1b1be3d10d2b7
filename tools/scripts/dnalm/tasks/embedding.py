"""Embed sequences: read, tokenize, run the model in batches of like lengths, pool, write in the order read."""

import platform
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnalm.engine.baseline_representations import KmerRepresentation, OneHotRepresentation
from dnalm.engine.embedded import Embedded, Representation
from dnalm.engine.processes import Crew, in_this_process
from dnalm.errors import UserError
from dnalm.formats.embeddings_file import WRITERS
from dnalm.formats.fasta import SequenceRecord
from dnalm.formats.outputs import whole_or_nothing
from dnalm.formats.records import buffers, columns_of_records, open_records
from dnalm.formats.tables import TableWriter
from dnalm.report.counts import RecordCounts
from dnalm.report.progress import Progress
from dnalm.report.provenance import provenance
from dnalm.tasks.embedding_options import (
    BASELINES,
    Embedder,
    EmbeddingOptions,
    NamesAndBases,
    RepresentationInfo,
    Vectors,
)

# A buffer is sorted by length and freed of repeats as a whole; it bounds the memory.
BUFFER_RECORDS = 8_192
BUFFER_BASES = 4_000_000
BUFFER_NUMBERS = 16_000_000
USUAL_DIMENSIONS = 1_024  # of a layer


def embed(options: EmbeddingOptions) -> None:
    """Write one vector a sequence, or one a token, in the order of the input, and say on stdout what was done.

    Raises:
        UserError: sequences, model or options cannot be used.
    """
    _check(options)
    embedder = _embedder(options)
    print(f"Device: {embedder.description}", flush=True)
    outputs = [options.output, *([options.summary] if options.summary else [])]
    inputs = [path for path in (options.sequences, options.genome, options.regions, options.model) if path]
    with ExitStack() as stack:
        partials = stack.enter_context(whole_or_nothing(outputs, inputs))
        reader = open_records(options.sequences, options.genome, options.regions)
        stack.callback(reader.close)
        parts = buffers(iter(reader), *_most_at_once(options, embedder))
        first = next(parts)  # a file that is no FASTA is refused before a model is loaded
        embedders = stack.enter_context(embedder.open(_names_and_bases(first)))
        told: RepresentationInfo = embedders.told
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
        facts = provenance("dnalm_embed", _choices(options), told.facts, embedder.device, dict(counts), packages)
        writer.finish(facts)
        _report(counts, facts)


def _embedder(options: EmbeddingOptions) -> Embedder:
    """Return what embeds; only a model brings torch."""
    if options.representation not in BASELINES:
        from dnalm.tasks.embedding_with_model import model_embedder

        return model_embedder(options)
    baseline: Representation
    if options.representation == "kmer":
        baseline = KmerRepresentation(options.k, options.both_strands)
    else:
        baseline = OneHotRepresentation(options.pooling == "none", options.both_strands)

    def embed_them(given: NamesAndBases, on_done: Callable[[int], None]) -> Vectors:
        return baseline.embed(*given, on_done), baseline.dimensions

    def open_it(first: NamesAndBases) -> AbstractContextManager[Crew[NamesAndBases, Vectors]]:
        info = RepresentationInfo(baseline.description, baseline.facts())
        return nullcontext(in_this_process(embed_them, lambda: info))

    return Embedder(f"CPU ({platform.machine()}), 1 thread; float32", "cpu", 1, 0, open_it)


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


def _most_at_once(options: EmbeddingOptions, embedder: Embedder) -> tuple[int, int]:
    """Return how many records, and of how many bases, are held and sorted at once."""
    # One vector a token is a hundred times more to hold than one a sequence.
    most_bases = BUFFER_BASES // 64 if options.pooling == "none" else BUFFER_BASES
    dimensions = 4**options.k if options.representation == "kmer" else USUAL_DIMENSIONS
    if options.layer and options.combine_layers == "concatenate":
        dimensions *= len(options.layer)
    most_records = min(BUFFER_RECORDS, BUFFER_NUMBERS // dimensions)
    if embedder.processes == 1:
        return most_records, most_bases
    # So small that the processes end together, so large that batches have sequences of like lengths.
    return min(most_records, embedder.batch_tokens), min(most_bases, 64 * embedder.batch_tokens)


def _norm(vectors: NDArray[np.float32]) -> str:
    """Return the length of a vector, of a sequence's tokens the mean of theirs."""
    return f"{np.linalg.norm(vectors, axis=-1).mean():.6g}"


def _report(counts: RecordCounts, facts: dict[str, Any]) -> None:
    """Say what went in, what was changed, and what was run."""
    counts.tell("Embedded")
    if "sha256" in facts["model"]:
        print(f"Model SHA-256: {facts['model']['sha256']}")
    print("Versions: " + ", ".join(f"{name} {version}" for name, version in facts["versions"].items()))
