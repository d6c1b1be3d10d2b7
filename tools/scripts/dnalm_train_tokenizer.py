#!/usr/bin/env python3
"""Train a tokenizer: byte pairs learnt from sequences, or all k-mers, or single letters."""

import argparse
import sys
from pathlib import Path

from dnalm.entry_point import argument_parser, run


def parser() -> argparse.ArgumentParser:
    """Return the options of this tool."""
    options = argument_parser(
        "dnalm_train_tokenizer",
        "Train a tokenizer: byte pairs learnt from sequences, or all k-mers, or single letters.",
        runs_a_model=False,
    )
    options.add_argument(
        "--sequences",
        type=Path,
        required=True,
        action="append",
        help="FASTA file, plain or gzip-compressed; may be given several times",
    )
    options.add_argument("--kind", choices=["bpe", "kmer", "letters"], default="bpe", help="what the tokens are")
    options.add_argument(
        "--vocabulary-size", type=int, default=4096, help="tokens of kind bpe, the five special ones included"
    )
    options.add_argument("--k", type=int, default=6, help="length of the words of kind kmer, 1 to 8")
    options.add_argument("--output", type=Path, required=True, help="tokenizer.json")
    options.add_argument("--table", type=Path, help="table of the tokens of the sequences, commonest first")
    options.add_argument("--summary", type=Path, help="table of what the tokenizer is, and its bases per token")
    return options


def main(arguments: argparse.Namespace) -> None:
    """Run the task; its heavy imports wait until here."""
    from dnalm.tasks.tokenizer_training import TokenizerOptions
    from dnalm.tasks.tokenizer_training import train_tokenizer as run_task

    run_task(TokenizerOptions(**vars(arguments)))


if __name__ == "__main__":
    sys.exit(run(parser(), main))
