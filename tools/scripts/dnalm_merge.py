#!/usr/bin/env python3
"""Merge the results of shards into one, in their order."""

import argparse
import sys
from pathlib import Path

from dnalm.entry_point import argument_parser, run


def parser() -> argparse.ArgumentParser:
    """Return the options of this tool."""
    options = argument_parser(
        "dnalm_merge", "Merge the results of shards into one, in their order.", runs_a_model=False
    )
    options.add_argument(
        "--shards",
        type=Path,
        action="append",
        required=True,
        help="h5ad, parquet, table, VCF, BED or bigWig, told apart by content; repeat it in the order of the shards",
    )
    options.add_argument("--output", type=Path, required=True, help="file of the shards' kind")
    options.add_argument("--table", type=Path, help="table with one line a shard")
    return options


def main(arguments: argparse.Namespace) -> None:
    """Run the task; its heavy imports wait until here."""
    from dnalm.tasks.merging import MergingOptions
    from dnalm.tasks.merging import merge as run_task

    run_task(MergingOptions(**vars(arguments)))


if __name__ == "__main__":
    sys.exit(run(parser(), main))
