"""Make workflows/tutorial: run every step of tests/galaxy/tutorial in a real Galaxy and tell what came out.

Run it again when a form or a result has changed; with --render only the page is made anew, with the results of before:

    .environments/tools/bin/python tests/galaxy/make_tutorial.py
"""

from __future__ import annotations

import argparse
import shutil
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(
    0, str(Path(__file__).resolve().parents[2] / "tools" / "scripts")
)  # of the scripts that know their options

import client
from bioblend.galaxy import GalaxyInstance
from server import GalaxyServer
from tutorial import CHECKOUT, PAGE, SOURCE, Step, Tutorial, read_tables

AT_ONCE = 2


def main() -> None:
    """Run the steps, keep their tables and pictures, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--render", action="store_true", help="make the page alone, without Galaxy")
    arguments = parser.parse_args()
    tutorial = Tutorial()
    tables, images = SOURCE / "tables", PAGE.parent / "images"
    if not arguments.render:
        for folder in (tables, images):
            shutil.rmtree(folder, ignore_errors=True)
        with GalaxyServer(CHECKOUT / ".galaxy" / "tutorial", CHECKOUT, CHECKOUT / ".environments") as server:
            run(client.connect(server), tutorial, tables, images)
    PAGE.write_text(tutorial.render(read_tables(tables)))
    print(PAGE.relative_to(CHECKOUT))


def run(gi: GalaxyInstance, tutorial: Tutorial, tables: Path, images: Path) -> None:
    """Upload the data, fill in every form, and save the tables and pictures that the page shows.

    A step begins as soon as those that it reads from have ended, two at a time.
    """
    history = client.create_history(gi, tutorial.front["title"])
    uploaded = {name: client.upload(gi, history, CHECKOUT / "test-data" / name) for name in tutorial.data}
    runs: dict[str, Future[client.ToolRun]] = {}

    def dataset(name: str) -> dict[str, str]:
        step, _, output = name.partition(".")
        return {"src": "hda", "id": runs[step].result().datasets[output] if step in runs else uploaded[name]}

    def run_step(step: Step) -> client.ToolRun:
        inputs: dict[str, Any] = {}
        for entry in tutorial.entries(step):
            if isinstance(entry.given, list):
                given = [dataset(name) for name in entry.given]
                inputs[entry.path] = given[0] if len(given) == 1 else {"batch": False, "values": given}
            else:
                inputs[entry.path] = entry.given
        print(f"{step.number} {step.title}", flush=True)
        return client.run_tool(gi, history, step.form.tool_id, inputs)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        # In the order of the page, so that what a step waits for has always begun before it.
        for step in tutorial.steps.values():
            runs[step.name] = pool.submit(run_step, step)
        for name in sorted(tutorial.tables()):
            client.save_dataset(gi, dataset(name)["id"], tables / name)
        for name in sorted(tutorial.pictures()):
            client.save_dataset(gi, dataset(name)["id"], images / name.replace(".", "_"))


if __name__ == "__main__":
    main()
