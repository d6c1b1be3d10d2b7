#!/usr/bin/env python3
"""Embed DNA sequences with a language model: one vector a sequence."""

import argparse
import sys
from pathlib import Path

from dnalm.entry_point import argument_parser, run


def parser() -> argparse.ArgumentParser:
    """Return the options of this tool."""
    options = argument_parser("dnalm_embed", "Embed DNA sequences with a language model: one vector a sequence.")
    options.add_argument("--sequences", type=Path, required=True, help="FASTA file, plain or gzip-compressed")
    options.add_argument("--model", type=Path, required=True, help="model file (.safetensors) or Hugging Face folder")
    options.add_argument(
        "--layer", type=int, default=-1, help="0: embeddings, k: after layer k; negative numbers count from the end"
    )
    options.add_argument("--pooling", choices=["mean", "max", "cls"], default="mean", help="from tokens to one vector")
    options.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="numbers of the model")
    options.add_argument("--output", type=Path, required=True, help="file of embeddings")
    options.add_argument("--output-format", choices=["h5ad", "npz"], default="h5ad", help="kind of the output file")
    options.add_argument("--summary", type=Path, help="table with one line a sequence")
    return options


def embed(arguments: argparse.Namespace) -> None:
    """Run the task; its heavy imports wait until here."""
    from dnalm.tasks.embedding import EmbeddingOptions
    from dnalm.tasks.embedding import embed as run_task

    run_task(EmbeddingOptions(**vars(arguments)))


if __name__ == "__main__":
    sys.exit(run(parser(), embed))
