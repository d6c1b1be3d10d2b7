"""Embed sequences: read, tokenize, run the model in batches of like lengths, pool, write in the order read."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnalm.engine.devices import DTYPES, Machine, prepare_machine
from dnalm.engine.inference import embed_encodings
from dnalm.errors import UserError
from dnalm.formats.embeddings_file import WRITERS
from dnalm.formats.fasta import FastaReader, SequenceRecord
from dnalm.formats.outputs import whole_or_nothing
from dnalm.formats.tables import TableWriter
from dnalm.methods.pooling import POOLINGS
from dnalm.models.registry import load_language_model
from dnalm.models.sources import open_model
from dnalm.models.tokenizers import Encoding
from dnalm.report.progress import Progress
from dnalm.report.provenance import provenance

# A buffer is sorted by length and freed of repeats as a whole; it bounds the memory.
BUFFER_RECORDS = 8_192
BUFFER_BASES = 4_000_000
# Sequences on which the deviation of a lower precision is measured.
COMPARED = 16
# Ids of which a repeat is noticed: a bound on memory, far above what people compare.
MOST_REMEMBERED = 1_000_000


@dataclass(frozen=True)
class EmbeddingOptions:
    """What a user chooses; the names are those of `dnalm_embed.py --help`."""

    sequences: Path
    model: Path
    output: Path
    summary: Path | None = None
    layer: int = -1
    pooling: str = "mean"
    dtype: str = "float32"
    output_format: str = "h5ad"
    device: str = "auto"
    threads: int | None = None
    batch_tokens: int | None = None


def embed(options: EmbeddingOptions) -> None:
    """Write one vector a sequence, in the order of the file, and say on stdout what was done.

    Raises:
        UserError: sequences, model or options cannot be used.
    """
    outputs = [options.output, *([options.summary] if options.summary else [])]
    machine = prepare_machine(options.device, options.threads, options.batch_tokens)
    print(f"Device: {machine.description}; {options.dtype}", flush=True)
    with ExitStack() as stack:
        partials = stack.enter_context(whole_or_nothing(outputs, inputs=[options.sequences, options.model]))
        reader = stack.enter_context(FastaReader(options.sequences))
        buffers = _buffers(reader)
        first = next(buffers, [])  # a file that is no FASTA is refused before a model is loaded
        embedder = _Embedder(options, machine)
        print(f"Model: {embedder.description}", flush=True)
        progress = Progress("sequences", lambda: reader.fraction_read)
        writer = stack.enter_context(WRITERS[options.output_format](partials[0]))
        summary = stack.enter_context(TableWriter(partials[1])) if options.summary else None
        counts: Counter[str] = Counter()
        seen: set[int] = set()
        deviation = embedder.lower_precision(first) if options.dtype != "float32" else None
        for records in _chain(first, buffers):
            columns, vectors = embedder.embed(records, progress.add)
            writer.append(columns, vectors)
            if summary:
                summary.append(columns | {"embedding_norm": _rounded_norms(vectors)})
            _count(counts, columns, seen)
        chosen = {name: getattr(options, name) for name in ("layer", "pooling", "dtype")}
        facts = provenance("dnalm_embed", chosen, embedder.facts(deviation), machine.device.type, dict(counts))
        writer.finish(facts)
        _report(counts, facts)


class _Embedder:
    """A loaded model with the choices that turn a sequence into a vector."""

    def __init__(self, options: EmbeddingOptions, machine: Machine) -> None:
        self._model = load_language_model(open_model(options.model))
        self._machine = machine
        self._layer = self._model.layer_number(options.layer)
        self._pool = POOLINGS[options.pooling]
        self._dtype = DTYPES[options.dtype]
        self._model.to(machine.device, DTYPES["float32"])
        if options.pooling == "cls":
            self._check_cls()

    def _check_cls(self) -> None:
        if self._model.tokenizer.cls_id is None:
            name = self._model.stored.name
            raise UserError(f"The model '{name}' puts no CLS token first; choose pooling mean or max.")
        if self._model.causal:
            print("Warning: this model reads left to right, so that its first token is the same for every sequence.")

    @property
    def description(self) -> str:
        model, context = self._model, self._model.context_length
        return (
            f"{model.stored.name}, {model.stored.config.get('model_type')}, {len(model.layers)} layers, "
            f"hidden size {model.hidden_size}, context {f'{context:,}' if context else 'unlimited'} tokens, "
            f"layer {self._layer} is used"
        )

    def facts(self, deviation: float | None) -> dict[str, Any]:
        """Return what identifies the model, and how far the lower precision was from float32."""
        stored = self._model.stored
        facts = {"name": stored.name, "sha256": stored.sha256(), "licence": stored.licence, "layer": self._layer}
        if "revision" in stored.provenance:
            facts["revision"] = stored.provenance["revision"]
        return facts if deviation is None else facts | {"lowest_cosine_with_float32": deviation}

    def lower_precision(self, records: list[SequenceRecord]) -> float:
        """Change to the lower precision; return the lowest cosine with float32 over the first sequences."""
        few = records[:COMPARED]
        exact = self.embed(few)[1]
        self._model.to(self._machine.device, self._dtype)
        lower = self.embed(few)[1]
        norms = np.linalg.norm(exact, axis=1) * np.linalg.norm(lower, axis=1)
        deviation = round(float(((exact * lower).sum(axis=1) / norms).min()), 6)
        print(f"Precision: cosine with float32 at least {deviation:.6f} on the first {len(few)} sequences", flush=True)
        return deviation

    def embed(
        self, records: list[SequenceRecord], on_batch: Callable[[int], None] = lambda count: None
    ) -> tuple[dict[str, list[Any]], NDArray[np.float32]]:
        """Return the records' columns and vectors, shape (records, hidden size); equal sequences are computed once."""
        distinct = {bases: row for row, bases in enumerate(dict.fromkeys(record.bases for record in records))}
        whole = self._model.encode(list(distinct))
        limit = self._model.context_length
        encodings = [encoding.truncated(limit) for encoding in whole] if limit else whole
        rows = np.array([distinct[record.bases] for record in records])
        copies = np.bincount(rows)

        def count_copies(indices: list[int]) -> None:
            on_batch(int(copies[indices].sum()))

        vectors = embed_encodings(self._model, encodings, self._pool, self._layer, self._machine, count_copies)
        return _columns(records, [encodings[row] for row in rows]), vectors[rows]


def _columns(records: list[SequenceRecord], encodings: list[Encoding]) -> dict[str, list[Any]]:
    """Return one value a record under each name; `truncated` counts the bases that the model did not see."""
    truncated = [len(record.bases) - int(tokens.ends.max()) for record, tokens in zip(records, encodings, strict=True)]
    return {
        "id": [record.id for record in records],
        "status": ["truncated" if bases else "ok" for bases in truncated],
        "length": [len(record.bases) for record in records],
        "n_tokens": [len(encoding) for encoding in encodings],
        "truncated": truncated,
        "lower_case": [record.lower_case for record in records],
        "ambiguous": [record.ambiguous for record in records],
        "uracil": [record.uracil for record in records],
    }


def _buffers(records: Iterator[SequenceRecord] | FastaReader) -> Iterator[list[SequenceRecord]]:
    buffer: list[SequenceRecord] = []
    bases = 0
    for record in records:
        buffer.append(record)
        bases += len(record.bases)
        if len(buffer) == BUFFER_RECORDS or bases >= BUFFER_BASES:
            yield buffer
            buffer, bases = [], 0
    if buffer:
        yield buffer


def _chain(first: list[SequenceRecord], others: Iterator[list[SequenceRecord]]) -> Iterator[list[SequenceRecord]]:
    yield first
    yield from others


def _rounded_norms(vectors: NDArray[np.float32]) -> list[str]:
    return [f"{norm:.6g}" for norm in np.linalg.norm(vectors, axis=1)]


def _count(counts: Counter[str], columns: dict[str, list[Any]], seen: set[int]) -> None:
    """Add a buffer's records to the counts; ids are remembered by their hash alone."""
    counts["sequences"] += len(columns["id"])
    counts["bases"] += sum(columns["length"])
    counts["truncated_sequences"] += columns["status"].count("truncated")
    counts["truncated_bases"] += sum(columns["truncated"])
    for kind in ("lower_case", "ambiguous", "uracil"):
        counts[kind] += sum(columns[kind])
    for name in columns["id"]:
        counts["duplicate_ids"] += hash(name) in seen
        if len(seen) < MOST_REMEMBERED:
            seen.add(hash(name))


def _report(counts: Counter[str], facts: dict[str, Any]) -> None:
    """Say what went in, what was changed, and what was run."""
    print(f"Embedded {counts['sequences']:,} sequences of {counts['bases']:,} bases in all")
    changes = {
        "lower_case": "lower-case letters read as upper case",
        "ambiguous": "IUPAC letters read as N",
        "uracil": "letters U read as T",
        "duplicate_ids": "sequences with an id seen before, kept",
        "truncated_sequences": "sequences longer than the model's context, cut",
        "truncated_bases": "bases left out by the cut",
    }
    for kind, meaning in changes.items():
        if counts[kind]:
            print(f"{meaning}: {counts[kind]:,}")
    print(f"Model SHA-256: {facts['model']['sha256']}")
    print("Versions: " + ", ".join(f"{name} {version}" for name, version in facts["versions"].items()))
