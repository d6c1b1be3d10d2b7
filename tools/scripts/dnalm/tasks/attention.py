"""Attention: run a model over chosen sequences one by one, and keep what chosen heads look at."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dnalm.engine.attention import Head, attention_maps, chosen_heads, read_tokens
from dnalm.engine.devices import prepare_machine
from dnalm.engine.inference import DeviceMemoryError
from dnalm.errors import UserError, shown
from dnalm.formats.attention_file import AttentionWriter
from dnalm.formats.fasta import FastaReader, SequenceRecord
from dnalm.formats.outputs import whole_or_nothing
from dnalm.models.registry import load_language_model
from dnalm.models.sources import open_model
from dnalm.models.tokenizers import Encoding
from dnalm.report.attention_plot import AttentionPanel, attention_panel, draw_attention, panel_title
from dnalm.report.progress import Progress
from dnalm.report.provenance import provenance

MOST_BYTES = 4 << 30  # of all maps together
MOST_PANELS = 24  # maps in the picture


@dataclass(frozen=True)
class AttentionOptions:
    """What a user chooses; the names are those of `dnalm_attention.py --help`."""

    model: Path
    sequences: Path
    output: Path
    layers_heads: str = "last.*"
    ids: str | None = None
    figure: Path | None = None
    device: str = "auto"
    threads: int | None = None
    batch_tokens: int | None = None


def attention(options: AttentionOptions) -> None:
    """Write one map a chosen sequence and head, and draw the first ones.

    Raises:
        UserError: sequences, model or options cannot be used, or the maps would be too many or too large.
    """
    machine = prepare_machine(options.device, options.threads, options.batch_tokens)
    print(f"Device: {machine.description}; float32", flush=True)
    wanted = _wanted_ids(options.ids)
    outputs = [options.output, *([options.figure] if options.figure else [])]
    with ExitStack() as stack:
        partials = stack.enter_context(whole_or_nothing(outputs, [options.sequences, options.model]))
        reader = stack.enter_context(FastaReader(options.sequences))
        records = _chosen(reader, wanted)
        first = next(records)  # a file that is no FASTA is refused before a model is loaded
        model = load_language_model(open_model(options.model))
        heads = chosen_heads(options.layers_heads, model)
        print(
            f"Model: {model.stored.name}, {model.architecture}, {len(model.layers)} layers of {model.heads} heads; "
            f"{len(heads):,} {'head' if len(heads) == 1 else 'heads'}: {shown(', '.join(map(str, heads)), 200)}",
            flush=True,
        )
        try:
            model.to(machine.device, torch.float32)
        except torch.OutOfMemoryError:
            raise DeviceMemoryError(
                f"The model '{model.stored.name}' does not fit into the GPU; use a smaller model or a larger GPU."
            ) from None
        writer = stack.enter_context(AttentionWriter(partials[0], [(head.layer, head.head) for head in heads]))
        progress = Progress("sequences", lambda: reader.fraction_read)
        state = _Progressed()
        for record in _again(first, records):
            encoding = read_tokens(model, record.id, record.bases)
            state.count(record, encoding, heads)
            maps = attention_maps(model, encoding, heads, machine)
            writer.append(record.id, encoding.starts, encoding.ends, state.drawn(record, encoding, heads, maps))
            progress.add(1)
        facts = _facts(options, heads, model.stored, machine.device.type, state)
        writer.finish(facts)
        if options.figure:
            draw_attention(state.panels, len(heads), _note(model.stored.name, state), facts, partials[1])
        _report(state, facts)


@dataclass
class _Progressed:
    """What has been read and kept so far."""

    sequences: int = 0
    bases: int = 0
    lower_case: int = 0
    ambiguous: int = 0
    uracil: int = 0
    bytes: int = 0
    maps: int = 0
    panels: list[AttentionPanel] = field(default_factory=list)

    def count(self, record: SequenceRecord, encoding: Encoding, heads: list[Head]) -> None:
        """Count a sequence, or raise UserError if its maps would be too many beside those before."""
        self.bytes += len(heads) * len(encoding) ** 2 * 4
        if self.bytes > MOST_BYTES:
            raise UserError(
                f"The maps up to sequence '{record.id}' (number {self.sequences + 1:,}) have {self.bytes / 2**30:.1f} GiB, "
                f"more than {MOST_BYTES / 2**30:.0f}; choose fewer sequences by their ids, or fewer heads."
            )
        self.sequences += 1
        self.maps += len(heads)
        self.bases += len(record.bases)
        for kind in ("lower_case", "ambiguous", "uracil"):
            setattr(self, kind, getattr(self, kind) + getattr(record, kind))

    def drawn(
        self, record: SequenceRecord, encoding: Encoding, heads: list[Head], maps: Iterator[NDArray[np.float32]]
    ) -> Iterator[NDArray[np.float32]]:
        """Yield the maps as they come, and keep the pixels of the first ones of all."""
        for head, of_head in zip(heads, maps, strict=True):
            if len(self.panels) < MOST_PANELS:
                title = panel_title(record.id, str(head))
                self.panels.append(attention_panel(title, of_head, encoding.starts, encoding.ends))
            yield of_head


def _wanted_ids(text: str | None) -> list[str] | None:
    """Return the ids that a text names, each once, in its order; None for every sequence."""
    if text is None:
        return None
    if not (ids := list(dict.fromkeys(text.split()))):
        raise UserError("No id is given; name sequences, separated by blanks, or leave the ids out for all of them.")
    return ids


def _chosen(reader: FastaReader, wanted: list[str] | None) -> Iterator[SequenceRecord]:
    """Yield the chosen records in the order of the file; raise UserError if an id is not there."""
    found: set[str] = set()
    for record in reader:
        if wanted is None or record.id in wanted:
            found.add(record.id)
            yield record
    if missing := [name for name in wanted or [] if name not in found]:
        others = f" and {len(missing) - 1:,} other ids" if len(missing) > 1 else ""
        raise UserError(
            f"The file '{reader.path.name}' has no sequence '{shown(missing[0])}'{others}; an id is what stands between "
            "'>' and the first blank."
        )


def _again(first: SequenceRecord, others: Iterator[SequenceRecord]) -> Iterator[SequenceRecord]:
    yield first
    yield from others


def _note(model: str, state: _Progressed) -> str:
    drawn = len(state.panels)
    some = f"the first {drawn} of {state.maps:,} maps; " if drawn < state.maps else ""
    return f"Attention of {shown(model, 60)}: {some}special tokens left out, a scale of colours each"


def _facts(
    options: AttentionOptions, heads: list[Head], stored: Any, device: str, state: _Progressed
) -> dict[str, Any]:
    """Return what was run; paths and the machine's options are none of it."""
    model = {"name": stored.name, "sha256": stored.sha256(), "licence": stored.licence}
    chosen = {"layers_heads": [str(head) for head in heads], "ids": options.ids}
    counts = {"sequences": state.sequences, "bases": state.bases, "maps": state.maps}
    return provenance("dnalm_attention", chosen, model, device, counts)


def _report(state: _Progressed, facts: dict[str, Any]) -> None:
    """Say what went in, what was changed, and what was run."""
    print(f"Kept {state.maps:,} maps of {state.sequences:,} sequences of {state.bases:,} bases in all")
    meanings = {
        "lower_case": "lower-case letters read as upper case",
        "ambiguous": "IUPAC letters read as N",
        "uracil": "letters U read as T",
    }
    for kind, meaning in meanings.items():
        if count := getattr(state, kind):
            print(f"{meaning}: {count:,}")
    if len(state.panels) < state.maps:
        print(f"maps in the picture, the first of all: {len(state.panels)}")
    print(f"Model SHA-256: {facts['model']['sha256']}; licence: {facts['model']['licence'] or 'unknown'}")
    print("Versions: " + ", ".join(f"{name} {version}" for name, version in facts["versions"].items()))
