"""How fast prediction is beside embedding: ratios of CPU time, measured in one run, one thread, interleaved, medians.

    python tests/benchmarks/prediction.py --rounds 5 --output benchmark.json

Both are run on the same sequences: by the whole task, files read and written, and by the engine alone. The model has
random weights in the shape of a Nucleotide Transformer of 40 M parameters, as in `embedding.py`; the published
classifier is a Llama with a head over its last token, its embedding the last token's too.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import torch
import transformers

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "tools" / "scripts"))

from dnalm.models.head_config import HeadFacts
from dnalm.models.heads import new_classifier, write_classifier
from dnalm.models.sources import open_model
from dnalm.tasks.embedding import embed
from dnalm.tasks.embedding_options import EmbeddingOptions
from dnalm.tasks.prediction import PredictionOptions, predict
from embedding import processor_time, write_model

TARGET = ">= 0.95"
PUBLISHED = {"hidden_size": 256, "num_hidden_layers": 8, "num_attention_heads": 8, "intermediate_size": 1_024}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sequences", type=int, default=256)
    parser.add_argument("--output", type=Path, help="JSON file of the ratios")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        sequences = write_sequences(folder, arguments.sequences)
        variants = make_variants(folder, sequences)
        seconds: dict[str, list[float]] = {name: [] for name in variants}
        for number in range(arguments.rounds):
            for name, run in variants.items():
                start = processor_time()
                with redirect_stdout(StringIO()):
                    run()
                seconds[name].append(processor_time() - start)
            print(f"round {number + 1} of {arguments.rounds} done", flush=True)
    median = {name: statistics.median(found) for name, found in seconds.items()}
    ratios = {
        "throughput of predict / embed, pooled head": median["embed"] / median["predict"],
        "throughput of predict / embed, 1,000 labels": median["embed"] / median["predict 1,000 labels"],
        "throughput of predict / embed, published head": median["embed published"] / median["predict published"],
    }
    for name, ratio in ratios.items():
        print(f"{name:<52}{ratio:.3f}   {TARGET}")
    if arguments.output:
        results = {name: {"measured": round(ratio, 4), "target": TARGET} for name, ratio in ratios.items()}
        arguments.output.write_text(json.dumps(results, indent=2) + "\n")


def write_sequences(folder: Path, count: int) -> Path:
    """Write random sequences of 60 to 600 bases."""
    generator = np.random.default_rng(0)
    path = folder / "sequences.fasta"
    with path.open("w") as file:
        for number, length in enumerate(generator.integers(60, 601, count)):
            file.write(f">{number}\n{''.join(generator.choice(list('ACGT'), length))}\n")
    return path


def make_variants(folder: Path, sequences: Path) -> dict[str, Callable[[], None]]:
    """Return what is compared."""
    backbone = folder / "backbone"
    backbone.mkdir()
    write_model(backbone)
    models = {
        "predict": with_head(folder, backbone, ("a", "b")),
        "predict 1,000 labels": with_head(folder, backbone, tuple(map(str, range(1_000)))),
        "predict published": published(folder, backbone),
    }
    output, machine = folder / "out", {"device": "cpu", "threads": 1}

    def embedding(model: Path, pooling: str) -> Callable[[], None]:
        options = EmbeddingOptions(output, sequences, model=model, pooling=pooling, output_format="npz", **machine)  # type: ignore[arg-type]
        return lambda: embed(options)

    def predicting(model: Path) -> Callable[[], None]:
        options = PredictionOptions(model, output, sequences, **machine)  # type: ignore[arg-type]
        return lambda: predict(options)

    return {
        "embed": embedding(models["predict"], "mean"),
        "embed published": embedding(models["predict published"], "last"),
        **{name: predicting(model) for name, model in models.items()},
    }


def with_head(folder: Path, backbone: Path, labels: tuple[str, ...]) -> Path:
    """Write the model with a fresh head."""
    classifier = new_classifier(open_model(backbone), HeadFacts("classify", labels), seed=0)
    path = folder / f"{len(labels)}.safetensors"
    write_classifier(path, classifier, folder, name="benchmark", provenance={}, same_backbone=True)
    return path


def published(folder: Path, tokenizer_of: Path) -> Path:
    """Write a classifier that reads left to right, as its authors would."""
    target = folder / "published"
    words = len((tokenizer_of / "vocab.txt").read_text().split())
    torch.manual_seed(0)
    config = transformers.LlamaConfig(vocab_size=words, pad_token_id=1, max_position_embeddings=1_024, **PUBLISHED)
    transformers.LlamaForSequenceClassification(config).save_pretrained(target)
    shutil.copy(tokenizer_of / "vocab.txt", target)
    return target


if __name__ == "__main__":
    main()
