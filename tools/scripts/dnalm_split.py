#!/usr/bin/env python3
"""Split sequences, variants or a genome into shards of equal cost."""

import argparse
import sys
from pathlib import Path

from dnalm.entry_point import argument_parser, number_between, run


def parser() -> argparse.ArgumentParser:
    """Return the options of this tool."""
    options = argument_parser(
        "dnalm_split", "Split sequences, variants or a genome into shards of equal cost.", runs_a_model=False
    )
    what = options.add_mutually_exclusive_group(required=True)
    what.add_argument("--sequences", type=Path, help="FASTA file, plain or gzip-compressed; split by bases")
    what.add_argument("--variants", type=Path, help="VCF file, plain or gzip-compressed; split by alternative alleles")
    what.add_argument("--genome", type=Path, help="FASTA file or its .fai index; split into regions (BED) by bases")
    options.add_argument("--shards", type=number_between(int, 1, 9_999), default=4, help="how many there are at most")
    options.add_argument(
        "--region-length",
        type=number_between(int, 1, 1_000_000_000),
        help="genome: bases of a region (default: as few regions as the shards allow)",
    )
    options.add_argument(
        "--region-step",
        type=number_between(int, 1, 1_000_000_000),
        help="genome: bases from the start of a region to that of the next (default: the length of a region)",
    )
    options.add_argument("--whole-contigs", action="store_true", help="genome: never cut a contig")
    options.add_argument("--output-directory", type=Path, required=True, help="folder to make, for the shards")
    options.add_argument("--table", type=Path, help="table with one line a shard")
    return options


def main(arguments: argparse.Namespace) -> None:
    """Run the task; its heavy imports wait until here."""
    from dnalm.tasks.splitting import SplittingOptions
    from dnalm.tasks.splitting import split as run_task

    run_task(SplittingOptions(**vars(arguments)))


if __name__ == "__main__":
    sys.exit(run(parser(), main))
