"""Do in a running Galaxy what a biologist does: upload, run a tool, save its outputs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bioblend.galaxy import GalaxyInstance
from server import GalaxyServer

JOB_LIMIT = 1800.0
SUFFIXES = {"vcf_bgzip": "vcf.gz", "tabular": "tsv", "bigwig": "bw", "txt": "txt"}


class JobError(RuntimeError):
    """A job ended in an error; the message holds what it printed."""


@dataclass
class ToolRun:
    """A finished run: its jobs, and its datasets and collections by output name."""

    tool_id: str
    jobs: list[str]
    datasets: dict[str, str] = field(default_factory=dict)
    collections: dict[str, str] = field(default_factory=dict)


def connect(server: GalaxyServer) -> GalaxyInstance:
    """Return a connection as the server's user."""
    return GalaxyInstance(server.url, key=server.user_key)


def create_history(gi: GalaxyInstance, name: str) -> str:
    """Create a history and return its id."""
    return gi.histories.create_history(name)["id"]


def upload(gi: GalaxyInstance, history: str, path: Path, ext: str = "auto", dbkey: str = "?") -> str:
    """Upload a file, wait until Galaxy has read it, and return the dataset's id."""
    answer = gi.tools.upload_file(str(path), history, file_type=ext, dbkey=dbkey, file_name=path.name)
    dataset = answer["outputs"][0]["id"]
    wait_for_jobs(gi, [job["id"] for job in answer["jobs"]])
    state = gi.datasets.wait_for_dataset(dataset, maxwait=JOB_LIMIT, interval=0.5, check=False)
    if state["state"] != "ok":
        raise JobError(f"The upload of {path} ended in state {state['state']}: {state.get('misc_info', '')}")
    return dataset


def run_tool(gi: GalaxyInstance, history: str, tool_id: str, inputs: dict[str, Any]) -> ToolRun:
    """Run a tool, wait for it, and return its outputs; raises JobError with the job's stderr.

    `inputs` are named as in the form, `section|name`; a dataset is `{"src": "hda", "id": …}`, and a collection of which
    each element is an input of a job of its own `{"batch": True, "values": [{"src": "hdca", "id": …}]}`.
    """
    answer = gi.tools.run_tool(history, tool_id, inputs)
    jobs = [job["id"] for job in answer["jobs"]]
    wait_for_jobs(gi, jobs)
    run = ToolRun(tool_id, jobs)
    for output in answer["outputs"]:
        gi.datasets.wait_for_dataset(output["id"], maxwait=JOB_LIMIT, interval=0.5, check=False)
        run.datasets[output["output_name"]] = output["id"]
    for collection in [*answer["output_collections"], *answer["implicit_collections"]]:
        gi.dataset_collections.wait_for_dataset_collection(collection["id"], maxwait=JOB_LIMIT, interval=0.5)
        run.collections[collection["output_name"]] = collection["id"]
    return run


def invoke(gi: GalaxyInstance, history: str, workflow: dict[str, Any], inputs: dict[str, Any]) -> str:
    """Import a workflow, start it on inputs (label → dataset or value) and return the invocation's id."""
    imported = gi.workflows.import_workflow_dict(workflow)["id"]
    answer = gi.workflows.invoke_workflow(imported, inputs, history_id=history, inputs_by="name")
    invocation: str = answer["id"]
    return invocation


def save_invocation(gi: GalaxyInstance, history: str, invocation: str, folder: Path) -> list[Path]:
    """Wait for a workflow's jobs and download every labelled output as `<label>.<suffix>`, a collection as a folder.

    Raises:
        JobError: a step could not be scheduled, or a job did not end well.
    """
    details = wait_for_invocation(gi, invocation)
    folder.mkdir(parents=True, exist_ok=True)
    saved = []
    for label, output in sorted(details["outputs"].items()):
        gi.datasets.wait_for_dataset(output["id"], maxwait=JOB_LIMIT, interval=0.5, check=False)
        saved.append(save_dataset(gi, output["id"], folder / file_name(label)))
    for label, output in sorted(details["output_collections"].items()):
        elements = gi.dataset_collections.wait_for_dataset_collection(output["id"], maxwait=JOB_LIMIT)["elements"]
        saved += save_elements(gi, elements, folder / file_name(label))
    return saved


def wait_for_invocation(gi: GalaxyInstance, invocation: str) -> dict[str, Any]:
    """Wait for a workflow's steps and jobs and return its details; raises JobError if one did not end well."""
    gi.invocations.wait_for_invocation(invocation, maxwait=JOB_LIMIT, interval=0.5, check=False)
    details = gi.invocations.show_invocation(invocation)
    if details["state"] in ("failed", "cancelled", "cancelling"):
        raise JobError(f"The workflow could not be run: {details.get('messages')}")
    wait_for_jobs(gi, [job["id"] for job in gi.jobs.get_jobs(invocation_id=invocation)])
    return details


def wait_for_jobs(gi: GalaxyInstance, jobs: list[str]) -> None:
    """Wait for jobs; raises JobError with the stderr of the first that did not end well."""
    for job in jobs:
        gi.jobs.wait_for_job(job, maxwait=JOB_LIMIT, interval=0.5, check=False)
        details = gi.jobs.show_job(job, full_details=True)
        if details["state"] != "ok":
            printed = "\n".join(part.strip() for part in (details["stdout"], details["stderr"]) if part)
            raise JobError(
                f"{details['tool_id']} ended in state {details['state']}, exit code {details['exit_code']}:\n{printed}"
            )


def save_outputs(gi: GalaxyInstance, run: ToolRun, folder: Path) -> list[Path]:
    """Download every output of a run as `<output name>.<suffix>`, a collection as a folder of its elements."""
    folder.mkdir(parents=True, exist_ok=True)
    saved = [save_dataset(gi, dataset, folder / name) for name, dataset in run.datasets.items()]
    for name, collection in run.collections.items():
        elements = gi.dataset_collections.show_dataset_collection(collection)["elements"]
        saved += save_elements(gi, elements, folder / name)
    return saved


def save_elements(gi: GalaxyInstance, elements: list[dict[str, Any]], folder: Path) -> list[Path]:
    """Download the datasets of a collection, nested ones into folders of their own."""
    saved: list[Path] = []
    for element in elements:
        place = folder / file_name(element["element_identifier"])
        if element["element_type"] == "dataset_collection":
            saved += save_elements(gi, element["object"]["elements"], place)
        else:
            saved.append(save_dataset(gi, element["object"]["id"], place))
    return saved


def save_dataset(gi: GalaxyInstance, dataset: str, path: Path) -> Path:
    """Download one dataset beside `path`, with the suffix of its type."""
    extension = gi.datasets.show_dataset(dataset)["file_ext"]
    target = path.with_name(f"{path.name}.{SUFFIXES.get(extension, extension)}")
    target.parent.mkdir(parents=True, exist_ok=True)
    gi.datasets.download_dataset(dataset, file_path=str(target), use_default_filename=False, require_ok_state=True)
    return target


def file_name(identifier: str) -> str:
    """Make an element's identifier safe as a file name."""
    return re.sub(r"[^\w.-]+", "_", identifier).strip("._") or "element"
