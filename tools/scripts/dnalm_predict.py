#!/usr/bin/env python3
"""Predict classes or values of DNA sequences with a fine-tuned model."""

import argparse
import sys
from pathlib import Path

from dnalm.entry_point import argument_parser, run


def parser() -> argparse.ArgumentParser:
    """Return the options of this tool."""
    options = argument_parser("dnalm_predict", "Predict classes or values of DNA sequences with a fine-tuned model.")
    options.add_argument("--sequences", type=Path, help="FASTA file, plain or gzip-compressed")
    options.add_argument("--genome", type=Path, help="FASTA file of the genome that --regions belong to")
    options.add_argument("--regions", type=Path, help="BED or GFF3 file; regions of the minus strand are turned")
    options.add_argument(
        "--model", type=Path, required=True, help="model file (.safetensors) or Hugging Face folder, with its head"
    )
    options.add_argument("--both-strands", action="store_true", help="average with the reverse complement")
    options.add_argument(
        "--long-sequences",
        choices=["windows", "truncate", "fail"],
        default="windows",
        help="what is done with sequences longer than the model's context; heads that read a sequence as a whole cut it",
    )
    options.add_argument(
        "--window-overlap", type=float, default=0.25, help="share of a window that it has in common with the next"
    )
    options.add_argument(
        "--columns",
        choices=["auto", "all", "best"],
        default="auto",
        help="columns of the table: one a label, or the five likeliest labels; auto is all of up to 50",
    )
    options.add_argument("--label", help="label whose probability is the score of the BED; the called one by default")
    options.add_argument(
        "--dtype",
        choices=["float32", "bfloat16", "int8"],
        default="float32",
        help="numbers of the model; int8 is for encoders on a CPU",
    )
    options.add_argument("--output", type=Path, required=True, help="table with one line a sequence")
    options.add_argument("--bed", type=Path, help="BED file of the regions with what is predicted of them")
    return options


def main(arguments: argparse.Namespace) -> None:
    """Run the task; its heavy imports wait until here."""
    from dnalm.tasks.prediction import PredictionOptions
    from dnalm.tasks.prediction import predict as run_task

    run_task(PredictionOptions(**vars(arguments)))


if __name__ == "__main__":
    sys.exit(run(parser(), main))
