"""Ask total-perspective-vortex's own dry run where jobs go; for Galaxy's Python, which has it.

Reads the cases from stdin, a list of JSON objects, and prints for each a JSON object with id, params, env and resubmit of
the destination.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml
from galaxy.tool_util.parser import get_tool_source
from tpv.commands.dryrunner import TPVDryRunner
from tpv.commands.test import mock_galaxy

GIGABYTE = 1024**3


class DataTable:
    """The installed models: value → path."""

    def __init__(self, rows: dict[str, str]) -> None:
        self.rows = rows

    def get_entry(self, query_attr: str, query_val: str, return_attr: str) -> str | None:
        """Return the path of a model."""
        assert (query_attr, return_attr) == ("value", "path")
        return self.rows.get(query_val)


def destination(runner: TPVDryRunner, rules: str, case: dict[str, Any]) -> dict[str, Any]:
    """Return where a job goes.

    A case has a `form`, and may have a `tool_id`, the `context` that an admin set, rows of `installed` models, the
    `parameters` of the job, `inputs` as pairs of datatype and GB, and the number of `attempts` before.
    """
    resources = get_tool_source(case["form"]).parse_requirements()[2]
    runner.tool = mock_galaxy.Tool(case.get("tool_id", Path(case["form"]).stem), resource_requirements=resources)
    job = mock_galaxy.Job()
    job.param_values = case.get("parameters", {})
    job.state_history = [SimpleNamespace(state="resubmitted")] * case.get("attempts", 0)
    for number, (extension, gigabytes) in enumerate(case.get("inputs", [])):
        dataset = mock_galaxy.Dataset(f"{number}", file_size=int(gigabytes * GIGABYTE))
        job.add_input_dataset(mock_galaxy.DatasetAssociation(f"{number}", dataset, extension))
    runner.job = job
    runner.tpv_config_files = [rules, {"global": {"context": case.get("context", {})}}]
    runner.galaxy_app.tool_data_tables = {"huggingface": DataTable(case.get("installed", {}))}
    found, _ = runner.run()
    return {"id": found.id, "params": found.params, "env": found.env, "resubmit": found.resubmit}


def main() -> None:
    """Answer every case."""
    rules, job_conf = sys.argv[1:]
    dispatcher = {
        "runner": "dynamic",
        "type": "python",
        "function": "map_tool_to_destination",
        "rules_module": "tpv.rules",
    }
    settings = {
        "runners": {"local": {"load": "galaxy.jobs.runners.local:LocalJobRunner"}},
        "execution": {"default": "tpv_dispatcher", "environments": {"tpv_dispatcher": dispatcher}},
    }
    Path(job_conf).write_text(yaml.safe_dump(settings))
    runner = TPVDryRunner(job_conf, [rules])
    print(json.dumps([destination(runner, rules, case) for case in json.load(sys.stdin)]))


if __name__ == "__main__":
    main()
