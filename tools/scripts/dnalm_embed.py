#!/usr/bin/env python3
"""Embed DNA sequences with a language model: one vector a sequence."""

import argparse
import sys
from pathlib import Path

from dnalm.entry_point import argument_parser, run


def parser() -> argparse.ArgumentParser:
    """Return the options of this tool."""
    options = argument_parser(
        "dnalm_embed", "Embed DNA sequences with a language model: one vector a sequence.", shares_out=True
    )
    options.add_argument("--sequences", type=Path, help="FASTA file, plain or gzip-compressed")
    options.add_argument("--genome", type=Path, help="FASTA file of the genome that --regions belong to")
    options.add_argument("--regions", type=Path, help="BED or GFF3 file; regions of the minus strand are turned")
    options.add_argument("--model", type=Path, help="model file (.safetensors) or Hugging Face folder")
    options.add_argument(
        "--representation",
        choices=["hidden", "logits", "lm-head-norm", "kmer", "onehot"],
        default="hidden",
        help="what is taken: hidden states, logits, what leaves the first norm of the head, or without a model k-mer "
        "frequencies or letters",
    )
    options.add_argument("--k", type=int, choices=range(1, 9), default=4, help="length of k-mers")
    options.add_argument(
        "--layer",
        type=int,
        nargs="+",
        action="extend",
        help="0: embeddings, k: after layer k; negative numbers count from the end; several are combined (default: -1)",
    )
    options.add_argument(
        "--combine-layers",
        choices=["average", "concatenate"],
        default="average",
        help="what is done with several layers",
    )
    options.add_argument(
        "--pooling",
        choices=["mean", "max", "min", "cls", "last", "center", "none"],
        default="mean",
        help="from tokens to one vector; none keeps one vector a token",
    )
    options.add_argument(
        "--pooling-weights", choices=["tokens", "bases"], default="tokens", help="what counts alike in the mean"
    )
    options.add_argument(
        "--special-tokens", choices=["drop", "keep"], default="drop", help="whether CLS, SEP and the like count"
    )
    options.add_argument(
        "--long-sequences",
        choices=["windows", "truncate", "fail"],
        default="windows",
        help="what is done with sequences longer than the model's context",
    )
    options.add_argument(
        "--window-overlap", type=float, default=0.25, help="share of a window that it has in common with the next"
    )
    options.add_argument("--both-strands", action="store_true", help="average with the reverse complement")
    options.add_argument(
        "--dtype",
        choices=["float32", "bfloat16", "int8"],
        default="float32",
        help="numbers of the model; int8 is for hidden states of encoders on a CPU",
    )
    options.add_argument("--seed", type=int, default=0, help="of random numbers; embedding draws none")
    options.add_argument("--output", type=Path, required=True, help="file of embeddings")
    options.add_argument(
        "--output-format", choices=["h5ad", "parquet", "tabular", "npz"], default="h5ad", help="kind of the output file"
    )
    options.add_argument("--summary", type=Path, help="table with one line a sequence")
    return options


def main(arguments: argparse.Namespace) -> None:
    """Run the task; its heavy imports wait until here."""
    from dnalm.tasks.embedding import embed
    from dnalm.tasks.embedding_options import EmbeddingOptions

    embed(EmbeddingOptions(**vars(arguments)))


if __name__ == "__main__":
    sys.exit(run(parser(), main))
