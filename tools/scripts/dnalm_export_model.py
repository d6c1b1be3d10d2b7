#!/usr/bin/env python3
"""Export a model as a folder that Hugging Face's libraries read."""

import argparse
import sys
from pathlib import Path

from dnalm.entry_point import argument_parser, run


def parser() -> argparse.ArgumentParser:
    """Return the options of this tool."""
    options = argument_parser(
        "dnalm_export_model", "Export a model as a folder that Hugging Face's libraries read.", runs_a_model=False
    )
    options.add_argument("--model", type=Path, required=True, help="model file, or the folder of an installed model")
    options.add_argument("--output-directory", type=Path, required=True, help="a new folder, or an empty one")
    options.add_argument("--summary", type=Path, help="table of what the model is")
    return options


def main(arguments: argparse.Namespace) -> None:
    """Run the task; its heavy imports wait until here."""
    from dnalm.tasks.model_export import ExportOptions
    from dnalm.tasks.model_export import export_model as run_task

    run_task(ExportOptions(**vars(arguments)))


if __name__ == "__main__":
    sys.exit(run(parser(), main))
