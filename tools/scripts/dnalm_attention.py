#!/usr/bin/env python3
"""Show what chosen heads of a language model look at in DNA sequences."""

import argparse
import sys
from pathlib import Path

from dnalm.entry_point import argument_parser, run


def parser() -> argparse.ArgumentParser:
    """Return the options of this tool."""
    options = argument_parser("dnalm_attention", "Show what chosen heads of a language model look at in DNA sequences.")
    options.add_argument("--sequences", type=Path, required=True, help="FASTA file, plain or gzip-compressed")
    options.add_argument("--ids", help="names of the sequences to take, separated by blanks (default: all)")
    options.add_argument("--model", type=Path, required=True, help="model file (.safetensors) or Hugging Face folder")
    options.add_argument(
        "--layers-heads",
        default="last.*",
        help="layer.head, both counted from 1, separated by commas, such as 1.4,7.10; 'last' is the last layer, '*' every "
        "head",
    )
    options.add_argument("--output", type=Path, required=True, help="npz file of the maps")
    options.add_argument("--figure", type=Path, help="PNG of the first maps")
    return options


def main(arguments: argparse.Namespace) -> None:
    """Run the task; its heavy imports wait until here."""
    from dnalm.tasks.attention import AttentionOptions
    from dnalm.tasks.attention import attention as run_task

    run_task(AttentionOptions(**vars(arguments)))


if __name__ == "__main__":
    sys.exit(run(parser(), main))
