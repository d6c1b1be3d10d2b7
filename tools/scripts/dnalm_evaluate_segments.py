#!/usr/bin/env python3
"""Evaluate segments: compare called segments, and probabilities, with an annotation."""

import argparse
import sys
from pathlib import Path

from dnalm.entry_point import argument_parser, number_between, run


def parser() -> argparse.ArgumentParser:
    """Return the options of this tool."""
    options = argument_parser(
        "dnalm_evaluate_segments",
        "Evaluate segments: compare called segments, and probabilities, with an annotation.",
        runs_a_model=False,
    )
    options.add_argument("--calls", type=Path, help="BED of called segments, named for their features")
    options.add_argument(
        "--tracks", type=Path, action="append", help="bigWig of a feature's probabilities; once a feature"
    )
    options.add_argument(
        "--track-names", action="append", help="the feature of each track, in their order (default: the files' names)"
    )
    options.add_argument("--annotation", type=Path, required=True, help="GTF, GFF3, or BED with names of features")
    options.add_argument("--features", help="features to evaluate, separated by commas (default: all)")
    options.add_argument(
        "--names", type=Path, help="table: a feature, and what the annotation calls it; one header line"
    )
    options.add_argument("--genome", type=Path, help="FASTA that was segmented; calls alone need it, or --regions")
    options.add_argument("--regions", type=Path, help="BED or GFF3 of what is evaluated, for example held-out sequence")
    options.add_argument(
        "--threshold",
        type=number_between(float, 0, 1),
        default=0.5,
        help="probability from which a base of a track is called, where no calls are given",
    )
    options.add_argument(
        "--repeats", type=number_between(int, 0, 100_000), default=1_000, help="resamples of the intervals"
    )
    options.add_argument("--seed", type=number_between(int, 0, 2**32 - 1), default=0, help="of the resamples")
    options.add_argument("--output", type=Path, required=True, help="table with one line a feature")
    options.add_argument("--figure", type=Path, help="picture of the metrics (PNG)")
    return options


def main(arguments: argparse.Namespace) -> None:
    """Run the task; its heavy imports wait until here."""
    from dnalm.tasks.segment_evaluation import EvaluationOptions
    from dnalm.tasks.segment_evaluation import evaluate as run_task

    run_task(EvaluationOptions(**vars(arguments)))


if __name__ == "__main__":
    sys.exit(run(parser(), main))
