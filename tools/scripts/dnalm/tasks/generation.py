"""Generate sequences: read prompts, let the model continue each several times, write what it drew and how likely."""

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from dnalm.engine.devices import prepare_machine
from dnalm.engine.generation import Generated, Request, Sampling, SequenceGenerator
from dnalm.errors import UserError
from dnalm.formats.fasta import FastaReader, FastaWriter, SequenceRecord
from dnalm.formats.outputs import whole_or_nothing
from dnalm.formats.tables import TableWriter
from dnalm.models.registry import load_language_model
from dnalm.models.sources import open_model
from dnalm.report.progress import Progress
from dnalm.report.provenance import provenance

# A buffer of sequences is batched as a whole; it bounds the memory.
BUFFER_SEQUENCES = 4_096
BUFFER_BASES = 4_000_000
# Ids of which a repeat is noticed: a bound on memory, far above what people prompt with.
MOST_REMEMBERED = 1_000_000
NO_PROMPT = "."  # in the table, as in BED and VCF


@dataclass(frozen=True)
class GenerationOptions:
    """What a user chooses; the names are those of `dnalm_generate.py --help`."""

    model: Path
    output: Path
    prompts: Path | None = None
    number: int = 10
    length: int = 200
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    summary: Path | None = None
    device: str = "auto"
    threads: int | None = None
    batch_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """The n-th sequence of a prompt, counted from 1; `prompt` is None where sequences start from nothing."""

    prompt: SequenceRecord | None
    number: int
    request: Request

    @property
    def id(self) -> str:
        """What the sequence is called."""
        return f"{self.prompt.id if self.prompt else 'generated'}_{self.number}"


def generate(options: GenerationOptions) -> None:
    """Write sequences in the order of prompts and samples, and say on stdout what was done.

    Raises:
        UserError: prompts, model or options cannot be used.
    """
    _check(options)
    machine = prepare_machine(options.device, options.threads, options.batch_tokens, options.seed)
    print(f"Device: {machine.description}; float32", flush=True)
    outputs = [options.output, *([options.summary] if options.summary else [])]
    inputs = [path for path in (options.prompts, options.model) if path]
    with ExitStack() as stack:
        partials = stack.enter_context(whole_or_nothing(outputs, inputs))
        reader = stack.enter_context(FastaReader(options.prompts)) if options.prompts else None
        counts: Counter[str] = Counter()
        prompts = _prompts(reader, counts)
        first = next(prompts)  # a file that is no FASTA is refused before a model is loaded
        sampling = Sampling(options.length, options.temperature, options.top_k, options.top_p)
        model = load_language_model(open_model(options.model), head=True)
        generator = SequenceGenerator(model, sampling, machine)
        print(f"Model: {generator.description}", flush=True)
        _say_sampling(options)
        planned = 0
        progress = Progress("bases", lambda: progress.done / planned * (reader.fraction_read if reader else 1.0))
        fasta = stack.enter_context(FastaWriter(partials[0]))
        summary = stack.enter_context(TableWriter(partials[1])) if options.summary else None
        samples = _samples(chain([first], prompts), options)
        while buffer := list(islice(samples, max(1, min(BUFFER_SEQUENCES, BUFFER_BASES // options.length)))):
            planned += len(buffer) * options.length
            found = generator.generate([sample.request for sample in buffer], progress.add)
            _write(fasta, summary, buffer, found)
            _count(counts, buffer, found)
        decisive = ("number", "length", "temperature", "top_k", "top_p", "seed")
        chosen = {name: getattr(options, name) for name in decisive}
        facts = provenance("dnalm_generate", chosen, generator.facts(), machine.device.type, dict(counts))
        _report(counts)
        print(f"Model SHA-256: {facts['model']['sha256']}")
        print("Versions: " + ", ".join(f"{name} {version}" for name, version in facts["versions"].items()))


def _check(options: GenerationOptions) -> None:
    """Refuse numbers out of bounds."""
    for name, value in (("number of sequences", options.number), ("length", options.length)):
        if value < 1:
            raise UserError(f"The {name} is {value}; use 1 or more.")
    if not 0 <= options.temperature < math.inf:
        raise UserError(f"The temperature is {options.temperature:g}; use 0 (always the likeliest token) or more.")
    if options.top_k < 0:
        raise UserError(f"The top-k is {options.top_k}; use 0 (all tokens) or more.")
    if not 0 < options.top_p <= 1:
        raise UserError(f"The top-p is {options.top_p:g}; use a share above 0 up to 1 (all tokens).")
    if options.seed < 0:
        raise UserError(f"The seed is {options.seed}; use 0 or more.")


def _say_sampling(options: GenerationOptions) -> None:
    top_k = f"{options.top_k:,}" if options.top_k else "all"
    sequences = f"{options.number:,} of {options.length:,} bases{' a prompt' if options.prompts else ''}"
    filters = f"temperature {options.temperature:g}, top-k {top_k}, top-p {options.top_p:g}"
    print(f"Sampling: {sequences}, {filters}, seed {options.seed}", flush=True)
    if options.number > 1 and (options.temperature == 0 or options.top_k == 1):
        print("Warning: the likeliest token is always taken, so that all sequences of a prompt are alike.", flush=True)


def _prompts(reader: FastaReader | None, counts: Counter[str]) -> Iterator[SequenceRecord | None]:
    """Yield and count the prompts, or one None where there are none."""
    if reader is None:
        yield None
        return
    seen: set[int] = set()
    for record in reader:
        counts["prompts"] += 1
        for kind in ("lower_case", "ambiguous", "uracil"):
            counts[kind] += getattr(record, kind)
        counts["duplicate_ids"] += hash(record.id) in seen
        if len(seen) < MOST_REMEMBERED:
            seen.add(hash(record.id))
        yield record


def _samples(prompts: Iterator[SequenceRecord | None], options: GenerationOptions) -> Iterator[Sample]:
    """Yield every sample of every prompt; its random numbers follow from the seed, the prompt's number and its own."""
    for prompt_number, prompt in enumerate(prompts):
        for number in range(1, options.number + 1):
            request = Request(prompt.bases if prompt else None, (options.seed, prompt_number, number))
            yield Sample(prompt, number, request)


def _write(fasta: FastaWriter, summary: TableWriter | None, samples: list[Sample], found: list[Generated]) -> None:
    for sample, generated in zip(samples, found, strict=True):
        likelihood = f"log_likelihood={generated.log_likelihood:.4f} bits_per_base={generated.bits_per_base:.4f}"
        fasta.append(sample.id, likelihood, generated.bases)
    if summary:
        summary.append(
            {
                "id": [sample.id for sample in samples],
                "prompt": [sample.prompt.id if sample.prompt else NO_PROMPT for sample in samples],
                "length": [len(generated.bases) for generated in found],
                "n_tokens": [generated.n_tokens for generated in found],
                "log_likelihood": [f"{generated.log_likelihood:.4f}" for generated in found],
                "bits_per_base": [f"{generated.bits_per_base:.4f}" for generated in found],
                "gc": [f"{generated.gc:.4f}" for generated in found],
                "prompt_unread": [generated.unread for generated in found],
            }
        )


def _count(counts: Counter[str], samples: list[Sample], found: list[Generated]) -> None:
    """Add a buffer's sequences to the counts; a prompt counts with its first sequence."""
    for sample, generated in zip(samples, found, strict=True):
        counts["sequences"] += 1
        counts["bases"] += len(generated.bases)
        counts["tokens"] += generated.n_tokens
        if sample.number == 1 and generated.unread:
            counts["unread_prompts"] += 1
            counts["unread_bases"] += generated.unread


MEANINGS = {
    "prompts": "prompts",
    "lower_case": "lower-case letters of prompts read as upper case",
    "ambiguous": "IUPAC letters of prompts read as N",
    "uracil": "letters U of prompts read as T",
    "duplicate_ids": "prompts with an id seen before, kept",
    "unread_prompts": "prompts longer than the model's context, of which only the end is read",
    "unread_bases": "bases of prompts left out by that",
}


def _report(counts: Counter[str]) -> None:
    """Say what was made, and what was changed of the prompts."""
    sequences, bases, tokens = (f"{counts[kind]:,}" for kind in ("sequences", "bases", "tokens"))
    print(f"Generated {sequences} sequences of {bases} bases in all, {tokens} tokens")
    for kind, meaning in MEANINGS.items():
        if counts[kind]:
            print(f"{meaning}: {counts[kind]:,}")
