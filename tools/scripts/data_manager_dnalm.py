#!/usr/bin/env python3
"""Install a DNA language model on a Galaxy server: from the Hugging Face hub, or from a folder of the server."""

import argparse
import os
import sys
from pathlib import Path

from dnalm.entry_point import argument_parser, run
from dnalm.models.catalogue import CATALOGUE


def parser() -> argparse.ArgumentParser:
    """Return the options of this tool; the token of the hub is read from the environment's HF_TOKEN alone."""
    options = argument_parser(
        "data_manager_dnalm",
        "Install a DNA language model on a Galaxy server: from the Hugging Face hub, or from a folder of the server.",
        runs_a_model=False,
    )
    options.add_argument(
        "--source", choices=["curated", "hub", "folder"], default="curated", help="where the model is taken from"
    )
    options.add_argument(
        "--curated", choices=list(CATALOGUE), default=next(iter(CATALOGUE)), help="with source curated"
    )
    options.add_argument("--model-id", help="with source hub: organisation/name")
    options.add_argument("--revision", default="main", help="commit, tag or branch of the hub's model")
    options.add_argument("--folder", type=Path, help="with source folder: flat, or a repository of the hub's cache")
    options.add_argument("--licence", help="with source folder: its licence, where its README.md does not say")
    options.add_argument("--display-name", help="what users read in forms; the licence is added")
    options.add_argument("--installed", type=Path, help="file with the values of the table's rows, one a line")
    options.add_argument("--downloads", type=Path, help="folder where broken downloads wait for the next run")
    options.add_argument("--output-directory", type=Path, required=True, help="folder that gets the model's folder")
    options.add_argument("--output", type=Path, required=True, help="JSON file with the row of the data table")
    return options


def main(arguments: argparse.Namespace) -> None:
    """Run the task; its heavy imports wait until here."""
    from dnalm.tasks.installation import InstallationOptions
    from dnalm.tasks.installation import install as run_task

    token = os.environ.get("HF_TOKEN", "").strip() or None
    run_task(InstallationOptions(**vars(arguments), token=token))


if __name__ == "__main__":
    sys.exit(run(parser(), main, network=True))
