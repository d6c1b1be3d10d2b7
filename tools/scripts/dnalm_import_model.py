#!/usr/bin/env python3
"""Import a published model: its files become one model file."""

import argparse
import sys
from pathlib import Path

from dnalm.entry_point import argument_parser, run


def parser() -> argparse.ArgumentParser:
    """Return the options of this tool."""
    options = argument_parser(
        "dnalm_import_model", "Import a published model: its files become one model file.", runs_a_model=False
    )
    options.add_argument("--config", type=Path, required=True, help="config.json; of scGPT args.json")
    options.add_argument(
        "--weights",
        type=Path,
        required=True,
        action="append",
        help="model.safetensors; once a shard if there are several",
    )
    options.add_argument(
        "--tokenizer-files",
        type=Path,
        default=[],
        action="append",
        help="tokenizer.json or vocab.txt, tokenizer_config.json, special_tokens_map.json; of scGPT vocab.json; told apart "
        "by content; none for SegmentEnformer and SegmentBorzoi",
    )
    options.add_argument("--features", type=Path, help="names of what the model predicts, one a line")
    options.add_argument("--licence", help="of the weights, for example CC-BY-NC-SA-4.0")
    options.add_argument("--name", help="what people call the model")
    options.add_argument("--output", type=Path, required=True, help="model file (.safetensors)")
    options.add_argument("--summary", type=Path, help="table of what the model is")
    return options


def main(arguments: argparse.Namespace) -> None:
    """Run the task; its heavy imports wait until here."""
    from dnalm.tasks.model_import import ImportOptions
    from dnalm.tasks.model_import import import_model as run_task

    run_task(ImportOptions(**vars(arguments)))


if __name__ == "__main__":
    sys.exit(run(parser(), main))
