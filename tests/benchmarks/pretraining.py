"""How fast pretraining is: ratios of CPU time, measured in one run, one thread, interleaved, median of the rounds.

    python tests/benchmarks/pretraining.py --rounds 5 --output pretraining.json

A table of the same, with the targets, is written beside the JSON file. What is counted are real tokens, never padding,
of whole training steps: forward, backward, clipping and AdamW.

The model is the preset mistral-dna-17m with random weights and DNABERT-2's tokenizer, the sequences are human, 32 a step:
all of 200 bases, or of 60 to 600. The tutorial tokenizes 1,000 sequences at once and pads them to their longest
(`padding="longest"` within `Dataset.map`). The absolute numbers are this machine's alone; only ratios are worth quoting.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "tools" / "scripts"))

from dnalm.engine.devices import prepare_machine
from dnalm.engine.objectives import nats_a_place
from dnalm.engine.training_data import Batch, BatchPlan, TokenizedWindows, TrainingBatches
from dnalm.formats.fasta import FastaReader
from dnalm.models.language_model import LanguageModel
from dnalm.models.presets import PRESETS
from dnalm.models.published_files import read_tokenizer
from dnalm.models.registry import new_language_model, trainable
from dnalm.tasks.pretraining_options import PretrainingOptions, filled
from dnalm.tasks.pretraining_tokens import chosen_batching

REPOSITORY = Path(__file__).parent.parent.parent
PRESET = "mistral-dna-17m"
TOKENIZER = REPOSITORY / "tests" / "parity" / "data" / "dnabert2" / "tokenizer.json"
SEQUENCES = REPOSITORY / "test-data" / "human.fasta.gz"
COUNT = 1_600  # sequences: as many as are grouped by length together
MAPPED = 1_000  # sequences that the tutorial pads to one length
BATCH = 32
LENGTHS = {"uniform 200": (200, 200), "mixed 60-600": (60, 600)}
TARGETS = {
    "uniform 200: auto / tutorial": ">= 1.08",
    "mixed 60-600: auto / tutorial": ">= 1.8",
    "uniform 200: loading and tokenizing / step": "<= 0.03",
    "mixed 60-600: loading and tokenizing / step": "<= 0.03",
}


@dataclass
class Variant:
    """Batches of one kind, and what was measured of them: real tokens and seconds of processor time."""

    batch: Callable[[int], Batch]
    count: int
    rates: list[float]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="of each kind in each round")
    parser.add_argument("--output", type=Path, help="JSON file of the ratios; a table is written beside it")
    arguments = parser.parse_args()
    prepare_machine("cpu", 1, None)
    preset = PRESETS[PRESET]
    torch.manual_seed(0)
    model = new_language_model(preset.config, read_tokenizer([TOKENIZER]), "benchmark", causal=True)
    module = trainable(model)
    optimizer = torch.optim.AdamW(module.parameters(), lr=preset.learning_rate, foreach=True)
    variants: dict[str, Variant] = {}
    shares: dict[str, list[float]] = {name: [] for name in LENGTHS}
    tokenizing, chosen = {}, {}
    for name, (shortest, longest) in LENGTHS.items():
        windows, tokenizing[name] = tokenized(model, sequences_of(shortest, longest))
        chosen[name] = chosen_batching(filled(PretrainingOptions(Path(), preset=PRESET)), model, windows.lengths)
        variants |= {f"{name}: {kind}": variant for kind, variant in variants_of(windows, model.pad_id).items()}
    for number in range(arguments.rounds):
        for name, variant in variants.items():
            tokens, seconds, loading = 0, 0.0, 0.0
            for step in range(number * arguments.steps, (number + 1) * arguments.steps):
                start = time.process_time()
                batch = variant.batch(step % variant.count)
                loaded = time.process_time()
                train_step(module, optimizer, batch)
                seconds += time.process_time() - start
                loading += loaded - start
                tokens += int(batch["tokens"])
            variant.rates.append(tokens / seconds)
            data, _, kind = name.partition(": ")
            if kind == chosen[data]:
                shares[data].append((loading + tokenizing[data] * tokens) / seconds)
        print(f"round {number + 1} of {arguments.rounds} done", flush=True)
    rate = {name: statistics.median(variant.rates) for name, variant in variants.items()}
    measured = {}
    for name in LENGTHS:
        measured[f"{name}: auto / tutorial"] = rate[f"{name}: {chosen[name]}"] / rate[f"{name}: tutorial"]
        for kind in ("padded", "grouped", "packed"):
            measured[f"{name}: {kind} / tutorial"] = rate[f"{name}: {kind}"] / rate[f"{name}: tutorial"]
        measured[f"{name}: loading and tokenizing / step"] = statistics.median(shares[name])
    results = {name: {"measured": round(value, 6), "target": TARGETS.get(name)} for name, value in measured.items()}
    table = "ratio\tmeasured\ttarget\n"
    for name, result in results.items():
        table += f"{name}\t{result['measured']:.4g}\t{result['target'] or ''}\n"
    print(table.expandtabs(52) + "auto is " + ", ".join(f"{kind} for {name}" for name, kind in chosen.items()))
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=2) + "\n")
        arguments.output.with_suffix(".tsv").write_text(table)


def sequences_of(shortest: int, longest: int) -> list[str]:
    """Return pieces of human sequence, each length as likely as any other."""
    with FastaReader(SEQUENCES) as reader:
        records = [record.bases for record in reader if len(record.bases) >= longest]
    generator = np.random.default_rng(0)
    pieces = []
    for length in generator.integers(shortest, longest + 1, COUNT).tolist():
        record = records[int(generator.integers(len(records)))]
        start = int(generator.integers(len(record) - length + 1))
        pieces.append(record[start : start + length])
    return pieces


def tokenized(model: LanguageModel, sequences: list[str]) -> tuple[TokenizedWindows, float]:
    """Return the tokens of all sequences, and the seconds that each took."""
    start = time.process_time()
    encodings = model.encode(sequences)
    ids = np.concatenate([encoding.ids for encoding in encodings]).astype(np.int32)
    seconds = (time.process_time() - start) / len(ids)
    bases = np.concatenate([encoding.ends - encoding.starts for encoding in encodings]).astype(np.uint16)
    offsets = np.cumsum([0, *map(len, encodings)])
    return TokenizedWindows(ids, bases, np.ones(len(ids), dtype=np.float32), offsets), seconds


def variants_of(windows: TokenizedWindows, pad_id: int) -> dict[str, Variant]:
    """Return the batches that are compared."""
    found = {}
    for kind in ("padded", "grouped", "packed"):
        plan = BatchPlan(kind, BATCH, int(windows.lengths.max()), 0)
        batches = TrainingBatches(windows, plan, pad_id, None)
        found[kind] = Variant(batches.__getitem__, len(batches), [])
    padded = found["padded"]
    order = np.random.default_rng(1).permutation(len(windows))
    longest = [int(windows.lengths[first : first + MAPPED].max()) for first in range(0, len(windows), MAPPED)]

    def like_the_tutorial(number: int) -> Batch:
        """Pad a batch of any sequences to the longest of those that were tokenized together with one of them."""
        batch = padded.batch(number)
        missing = max(longest[index // MAPPED] for index in order[number * BATCH : (number + 1) * BATCH])
        missing -= batch["input_ids"].shape[1]
        filled = {"input_ids": pad_id}
        return {
            name: value if value.dim() == 0 else nn.functional.pad(value, (0, missing), value=filled.get(name, 0))
            for name, value in batch.items()
        }

    return {"tutorial": Variant(like_the_tutorial, padded.count, [])} | found


def train_step(module: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch) -> None:
    """Train on one batch as the trainer does."""
    nats, predicted = nats_a_place(module, batch)
    (torch.where(predicted, nats, 0).sum() / predicted.sum()).backward()
    nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


if __name__ == "__main__":
    main()
