#!/usr/bin/env python3
"""Segment DNA at single bases: the probability of every feature of a model at every base, and segments called from it."""

import argparse
import sys
from pathlib import Path

from dnalm.entry_point import argument_parser, number_between, run


def parser() -> argparse.ArgumentParser:
    """Return the options of this tool."""
    options = argument_parser(
        "dnalm_segment",
        "Segment DNA at single bases: probabilities of a model's features, and segments called from them.",
        shares_out=True,
    )
    options.add_argument("--sequences", type=Path, help="FASTA file, plain or gzip-compressed")
    options.add_argument("--genome", type=Path, help="FASTA file of the genome that --regions belong to")
    options.add_argument("--regions", type=Path, help="BED or GFF3 file; those that overlap or touch are read as one")
    options.add_argument("--model", type=Path, required=True, help="model file (.safetensors) or Hugging Face folder")
    options.add_argument("--features", help="names of the features to write, separated by commas (default: all)")
    options.add_argument(
        "--window",
        type=number_between(int, 1, 10_000_000),
        help="bases that the model reads at once (default: as many as in its training)",
    )
    options.add_argument(
        "--window-overlap",
        type=number_between(float, 0, 0.9),
        default=0.1,
        help="share of a window's output that it has in common with the next",
    )
    options.add_argument(
        "--stitch",
        choices=["center", "blend"],
        default="center",
        help="where windows overlap: the one in which a base lies most central, or a mean weighted so",
    )
    options.add_argument("--both-strands", action="store_true", help="average with the reverse complement")
    options.add_argument(
        "--dtype", choices=["float32", "bfloat16"], default="float32", help="numbers that the model computes with"
    )
    options.add_argument(
        "--threshold",
        type=number_between(float, 0, 1),
        default=0.5,
        help="probability that a segment reaches at one base at least",
    )
    options.add_argument(
        "--low-threshold",
        type=number_between(float, 0, 1),
        help="probability that every base of a segment reaches (default: --threshold)",
    )
    options.add_argument(
        "--min-length", type=number_between(int, 1, 2**31), default=1, help="bases of the shortest segment"
    )
    options.add_argument(
        "--merge-gap",
        type=number_between(int, 0, 2**31),
        default=0,
        help="segments that so many bases or fewer part become one",
    )
    options.add_argument("--call-settings", type=Path, help="table of these four for single features")
    options.add_argument("--tracks", type=Path, help="a new folder, or an empty one, for one bigWig a feature")
    options.add_argument(
        "--decimals", type=int, choices=range(1, 7), default=2, help="of the probabilities in the tracks"
    )
    options.add_argument("--calls", type=Path, help="file of the segments")
    options.add_argument("--calls-format", choices=["bed", "gff3"], default="bed", help="kind of the file of segments")
    options.add_argument("--summary", type=Path, help="table with one line a sequence or region")
    options.add_argument("--figure", type=Path, help="picture of the probabilities over the bases of a region")
    options.add_argument(
        "--figure-region", help="contig:first-last, counted from 1 (default: the first 50,000 bases with data)"
    )
    options.add_argument("--figure-format", choices=["png", "pdf", "svg"], default="png", help="kind of the picture")
    options.add_argument("--probabilities", type=Path, help="npz file with one number a base and feature")
    return options


def main(arguments: argparse.Namespace) -> None:
    """Run the task; its heavy imports wait until here."""
    from dnalm.tasks.segmentation import segment as run_task
    from dnalm.tasks.segmentation_options import SegmentationOptions

    run_task(SegmentationOptions(**vars(arguments)))


if __name__ == "__main__":
    sys.exit(run(parser(), main))
