"""Run four workflows in a real Galaxy on the demo data: the shortest way to see DNA-LM at work."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bioblend
import client
import requests
import yaml
from server import GalaxyServer, ServerError

CHECKOUT = Path(__file__).resolve().parents[2]
RESULTS = CHECKOUT / "demo-results"
WORKFLOWS = ("embed-and-map", "finetune-and-predict", "score-and-compare", "segment-and-evaluate")


@dataclass(frozen=True)
class Invocation:
    """A workflow that was started: its folder's name, its history and its own id."""

    workflow: str
    history: str
    id: str


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repository", type=Path, default=CHECKOUT, help="the folder with tools/")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where outputs are saved")
    parser.add_argument(
        "--workflows", nargs="+", choices=WORKFLOWS, default=WORKFLOWS, metavar="NAME", help="which to run: %(choices)s"
    )
    return parser.parse_args()


def main() -> int:
    """Start Galaxy, run the workflows on the data of their tests, save, stop."""
    arguments = parse_arguments()
    state = CHECKOUT / ".galaxy" / "demo"
    if arguments.results == RESULTS:  # nothing of an earlier run shall look like a result of this one
        shutil.rmtree(RESULTS, ignore_errors=True)
    print("Starting Galaxy with the suite (about half a minute)", flush=True)
    try:
        with GalaxyServer(state, arguments.repository, CHECKOUT / ".environments") as server:
            gi = client.connect(server)
            save(gi, start(gi, arguments.workflows), arguments.results)
    except (ServerError, client.JobError) as error:
        print(error, file=sys.stderr)
        return 1
    except (bioblend.ConnectionError, requests.RequestException) as error:
        said = " ".join(str(error).split())
        print(
            f"The connection to Galaxy broke ({said}); look into {state} for its logs, and run again.", file=sys.stderr
        )
        return 1
    return 0


def start(gi: bioblend.galaxy.GalaxyInstance, names: Sequence[str]) -> list[Invocation]:
    """Start workflows, each in a history of its own, on the inputs of their first test."""
    invoked = []
    for name in names:
        workflow = json.loads((CHECKOUT / "workflows" / name / f"{name}.ga").read_text())
        print(f"Uploading, and starting the workflow: {workflow['name']}", flush=True)
        history = client.create_history(gi, workflow["name"])
        inputs = {label: uploaded(gi, history, name, value) for label, value in job_of(name).items()}
        invoked.append(Invocation(name, history, client.invoke(gi, history, workflow, inputs)))
    return invoked


def save(gi: bioblend.galaxy.GalaxyInstance, invoked: Sequence[Invocation], folder: Path) -> None:
    """Wait for workflows, save the outputs of each in a folder of its name, and print where they are."""
    saved = []
    for invocation in invoked:
        print(f"Waiting for {invocation.workflow}", flush=True)
        saved += client.save_invocation(gi, invocation.history, invocation.id, folder / invocation.workflow)
    print("The results:")
    for path in saved:
        print(f"  {path}")


def job_of(name: str) -> dict[str, Any]:
    """Return the inputs of a workflow's own first test: label → file or value."""
    tests = yaml.safe_load((CHECKOUT / "workflows" / name / f"{name}-tests.yml").read_text())
    job: dict[str, Any] = tests[0]["job"]
    return job


def uploaded(gi: bioblend.galaxy.GalaxyInstance, history: str, name: str, value: Any) -> Any:
    """Return an input as an invocation takes it; a file is uploaded."""
    if not isinstance(value, dict):
        return value
    path = (CHECKOUT / "workflows" / name / value["path"]).resolve()
    return {"src": "hda", "id": client.upload(gi, history, path, value["filetype"])}


if __name__ == "__main__":
    sys.exit(main())
