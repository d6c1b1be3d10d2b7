#!/usr/bin/env python3
"""Generate DNA sequences with a language model that reads left to right."""

import argparse
import sys
from pathlib import Path

from dnalm.entry_point import argument_parser, run


def parser() -> argparse.ArgumentParser:
    """Return the options of this tool."""
    options = argument_parser("dnalm_generate", "Generate DNA with a language model that reads left to right.")
    options.add_argument(
        "--model", type=Path, required=True, help="causal model: model file (.safetensors) or Hugging Face folder"
    )
    options.add_argument(
        "--prompts", type=Path, help="FASTA file of the DNA to continue; without it sequences start from nothing"
    )
    options.add_argument("--number", type=int, default=10, help="sequences, of each prompt if there are any")
    options.add_argument("--length", type=int, default=200, help="bases of each sequence, the prompt's not counted")
    options.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        help="1: as the model has it; less: likelier tokens; more: freer; 0: always the likeliest",
    )
    options.add_argument(
        "--top-k", type=int, default=0, help="only so many of the likeliest tokens can be drawn; 0 for all"
    )
    options.add_argument(
        "--top-p",
        type=float,
        default=1.0,
        help="only the fewest likeliest tokens that have this probability together can be drawn; 1 for all",
    )
    options.add_argument("--seed", type=int, default=0, help="of the random numbers")
    options.add_argument("--output", type=Path, required=True, help="FASTA file of the sequences")
    options.add_argument("--summary", type=Path, help="table with one line a sequence")
    return options


def main(arguments: argparse.Namespace) -> None:
    """Run the task; its heavy imports wait until here."""
    from dnalm.tasks.generation import GenerationOptions
    from dnalm.tasks.generation import generate as run_task

    run_task(GenerationOptions(**vars(arguments)))


if __name__ == "__main__":
    sys.exit(run(parser(), main))
