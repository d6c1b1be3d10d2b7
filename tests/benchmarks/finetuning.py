"""What fine-tuning costs: ratios of CPU time and of memory, measured in one run, one thread, interleaved, medians.

    python tests/benchmarks/finetuning.py --rounds 3 --output finetuning.json

The model has random weights in the shape of a Nucleotide Transformer of 40 M parameters, as in `embedding.py`; the
sequences are random, 200 bases each, of two classes. A probe is measured as the whole tool against `dnalm_embed` on the
same sequences. Of 10,000 sequences all but the embedding is done for real by the whole tool: reading, leaks, linear
models, intervals, tables and picture, on given vectors that tell the classes a little; the time to embed so many follows
from that of few and of more. LoRA and full training are measured as whole steps (forward, backward, clipping, AdamW),
and by the bytes that gradients and the optimizer's state take.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "tools" / "scripts"))

from dnalm.engine.devices import prepare_machine
from dnalm.engine.embedded import Embedded
from dnalm.engine.representations import ModelChoices, ModelRepresentation
from dnalm.engine.supervision import Labelled, LabelledBatches, Supervision, WindowedClassifier
from dnalm.models.adapters import add_adapters
from dnalm.models.head_config import HeadFacts
from dnalm.models.heads import PooledClassifier, new_classifier, trainable_classifier
from dnalm.models.sources import open_model
from dnalm.tasks.embedding import embed
from dnalm.tasks.embedding_options import EmbeddingOptions
from dnalm.tasks.finetuning import finetune
from dnalm.tasks.finetuning_options import FinetuningOptions
from embedding import HIDDEN, processor_time, write_model
from threadpoolctl import threadpool_limits

LENGTH, FEW, MANY, BATCH, RANK = 200, 32, 10_000, 16, 8
TARGETS = {
    "probe / embed, the whole tool": "",
    "probe / embed, the whole tool with k-mers and GC": "",
    "probe / embed, 10,000 sequences": "<= 1.05",
    "probe / embed, 10,000 sequences with k-mers and GC": "",
    "memory of gradients and optimizer, full / LoRA": ">= 1.5",
    "steps a second, LoRA / full": ">= 1",
}


@dataclass
class Trainee:
    """A model in training: a step to take, and the bytes of its gradients and optimizer behind it."""

    step: Callable[[int], None]
    memory: Callable[[], int]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sequences", type=int, default=256, help=f"that are embedded; more than {FEW}")
    parser.add_argument("--many", type=int, default=MANY, help="that all but the embedding is measured with")
    parser.add_argument("--steps", type=int, default=2, help="of each training in each round")
    parser.add_argument("--output", type=Path, help="JSON file of the ratios")
    arguments = parser.parse_args()
    prepare_machine("cpu", 1, None)
    with tempfile.TemporaryDirectory() as place, threadpool_limits(1):
        folder = Path(place)
        (folder / "model").mkdir()
        write_model(folder / "model")
        for name, count in (("few", FEW), ("some", arguments.sequences), ("many", arguments.many)):
            write_sequences(folder / name, count)
        trainees = {method: trainee_of(folder, method) for method in ("lora", "full")}
        variants: dict[str, Callable[[], object]] = {
            "embed few": lambda: embed_all(folder, "few"),
            "embed": lambda: embed_all(folder, "some"),
            "probe": lambda: probe(folder, "some", "none"),
            "probe and baselines": lambda: probe(folder, "some", "all"),
            "rest": lambda: rest(folder, arguments.many, "none"),
            "rest and baselines": lambda: rest(folder, arguments.many, "all"),
        }
        variants |= {method: partial(take_steps, trainee, arguments.steps) for method, trainee in trainees.items()}
        seconds: dict[str, list[float]] = {name: [] for name in variants}
        for number in range(arguments.rounds):
            for name, run in variants.items():
                start = processor_time()
                with redirect_stdout(StringIO()):
                    run()
                seconds[name].append(processor_time() - start)
            print(f"round {number + 1} of {arguments.rounds} done", flush=True)
        memory = {method: trainee.memory() for method, trainee in trainees.items()}
    median = {name: statistics.median(found) for name, found in seconds.items()}
    embed_one = (median["embed"] - median["embed few"]) / (arguments.sequences - FEW)
    embed_many = median["embed few"] + embed_one * (arguments.many - FEW)
    measured = {
        "probe / embed, the whole tool": median["probe"] / median["embed"],
        "probe / embed, the whole tool with k-mers and GC": median["probe and baselines"] / median["embed"],
        "probe / embed, 10,000 sequences": (embed_one * arguments.many + median["rest"]) / embed_many,
        "probe / embed, 10,000 sequences with k-mers and GC": (
            (embed_one * arguments.many + median["rest and baselines"]) / embed_many
        ),
        "memory of gradients and optimizer, full / LoRA": memory["full"] / memory["lora"],
        "steps a second, LoRA / full": median["full"] / median["lora"],
    }
    for name, ratio in measured.items():
        print(f"{name:<52}{ratio:8.3f}   {TARGETS[name]}")
    if arguments.output:
        results = {name: {"measured": round(ratio, 4), "target": TARGETS[name]} for name, ratio in measured.items()}
        arguments.output.write_text(json.dumps(results, indent=2) + "\n")


def write_sequences(path: Path, count: int) -> None:
    """Write random sequences as FASTA, and as a table with two classes."""
    letters = np.random.default_rng(0).choice(list("ACGT"), (count, LENGTH))
    sequences = ["".join(row) for row in letters]
    fasta = "".join(f">{number}\n{bases}\n" for number, bases in enumerate(sequences))
    path.with_suffix(".fasta").write_text(fasta)
    rows = "".join(f"{number}\t{bases}\t{number % 2}\n" for number, bases in enumerate(sequences))
    path.with_suffix(".tsv").write_text(f"id\tsequence\tlabel\n{rows}")


def embed_all(folder: Path, name: str) -> None:
    """Embed with the tool."""
    embed(EmbeddingOptions(folder / "e.h5ad", folder / f"{name}.fasta", model=folder / "model", threads=1))


def probe(folder: Path, name: str, baselines: str) -> None:
    """Fit a probe with the tool."""
    options = FinetuningOptions(
        folder / "m",
        [folder / f"{name}.tsv"],
        folder / "model",
        metrics=folder / "metrics",
        predictions=folder / "predictions",
        records=folder / "records",
        figure=folder / "figure",
        baselines=baselines,  # type: ignore[arg-type]
        threads=1,
    )
    finetune(options)


def rest(folder: Path, count: int, baselines: str) -> None:
    """Fit a probe with the tool, its vectors given instead of computed."""
    vectors = np.random.default_rng(1).normal(size=(count, HIDDEN)).astype(np.float32)
    vectors[:, :20] += 0.3 * (np.arange(count) % 2)[:, None]

    def given(reader: ModelRepresentation, names: list[str], *others: object) -> list[Embedded]:
        return [Embedded(vectors[int(name)], LENGTH) for name in names]

    with mock.patch.object(ModelRepresentation, "embed", given):
        probe(folder, "many", baselines)


def take_steps(trainee: Trainee, count: int) -> None:
    """Train for some steps."""
    for number in range(count):
        trainee.step(number)


def trainee_of(folder: Path, method: str) -> Trainee:
    """Return a model with a batch to train it on."""
    classifier = new_classifier(open_model(folder / "model"), HeadFacts("classify", ("0", "1")), seed=0)
    trainable_classifier(classifier)
    if method == "lora":
        add_adapters(classifier.model, RANK, seed=0)
    assert isinstance(classifier.module, PooledClassifier)
    module, objective = WindowedClassifier(classifier.module).train(), Supervision("classify")
    letters = np.random.default_rng(2).choice(list("ACGT"), (4 * BATCH, LENGTH))
    sequences = ["".join(row) for row in letters]
    reader = ModelRepresentation(classifier.model, ModelChoices(), prepare_machine("cpu", 1, None))
    data = Labelled(
        reader.pieces(sequences, sequences), np.arange(len(sequences)) % 2, np.ones(len(sequences), dtype=np.float32)
    )
    batches = LabelledBatches(data, BATCH, classifier.model.pad_id, seed=0)
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)  # as the Trainer has it

    def step(number: int) -> None:
        batch = batches[number % len(batches)]
        (objective.losses(module, batch).total / objective.weight(batch)).backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)

    def memory() -> int:
        of_optimizer = [value for state in optimizer.state.values() for value in state.values()]
        gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
        return sum(tensor.numel() * tensor.element_size() for tensor in [*of_optimizer, *gradients])

    return Trainee(step, memory)


if __name__ == "__main__":
    main()
