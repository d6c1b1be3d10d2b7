"""Make workflows/: each short description in tests/galaxy/workflows becomes a folder as the IWC asks for.

A real Galaxy reads the description, fills in every default of every form and gives the workflow back as its editor
would save it. Run it again when a form has changed:

    .environments/tools/bin/python tests/galaxy/make_workflows.py
"""

from __future__ import annotations

import argparse
import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import client
import yaml
from bioblend.galaxy import GalaxyInstance
from server import GalaxyServer

CHECKOUT = Path(__file__).resolve().parents[2]
DESCRIPTIONS = Path(__file__).resolve().parent / "workflows"
NAMESPACE = uuid.UUID("6f1d1a52-4c1d-4f0e-9a75-2a0f4b6c7d11")
RELEASE = "0.1"
CREATOR = [{"class": "Organization", "name": "DNA-LM"}]
TAGS = ["dna-language-models"]


def main() -> None:
    """Write the folders of all descriptions, or of those named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="of descriptions, without their suffix; all if none")
    names = parser.parse_args().names or [path.name.partition(".")[0] for path in sorted(DESCRIPTIONS.glob("*.yml"))]
    with GalaxyServer(CHECKOUT / ".galaxy" / "workflows", CHECKOUT, CHECKOUT / ".environments") as server:
        gi = client.connect(server)
        for name in names:
            folder = CHECKOUT / "workflows" / name
            folder.mkdir(parents=True, exist_ok=True)
            description = (DESCRIPTIONS / f"{name}.gxwf.yml").read_text()
            workflow = canonical(saved(gi, description), yaml.safe_load(description))
            (folder / f"{name}.ga").write_text(json.dumps(workflow, indent=4) + "\n")
            (folder / ".dockstore.yml").write_text(dockstore(name))
            print(folder.relative_to(CHECKOUT))


def saved(gi: GalaxyInstance, description: str) -> dict[str, Any]:
    """Return a workflow as Galaxy's editor would save it."""
    answer = gi.make_post_request(
        f"{gi.url}/workflows", payload={"workflow": {"yaml_content": description}, "fill_defaults": True}
    )
    workflow: dict[str, Any] = gi.workflows.export_workflow_dict(answer["id"])
    return workflow


def canonical(workflow: dict[str, Any], description: dict[str, Any]) -> dict[str, Any]:
    """Return a workflow without what differs from one export to the next, and with what the IWC asks for."""
    name = workflow["name"]
    said = {"creator": CREATOR, "license": "MIT", "release": RELEASE, "tags": TAGS, "annotation": description["doc"]}
    workflow = workflow | said | {"uuid": fixed(name), "version": 1}
    for step in workflow["steps"].values():
        step["uuid"] = fixed(name, step["id"])
        if step["type"] == "tool":
            state = settled(json.loads(step["tool_state"]), "", step["input_connections"])
            step["tool_state"] = json.dumps(state, sort_keys=True)
            step["inputs"] = []
        for output in step.get("workflow_outputs", []):
            output["uuid"] = fixed(name, step["id"], output["output_name"])
        step["workflow_outputs"] = sorted(step.get("workflow_outputs", []), key=lambda output: output["output_name"])
    return workflow


def settled(value: Any, place: str, connections: Mapping[str, Any]) -> Any:
    """Return a step's state in which what is connected says so, and what is not asks nobody when the workflow runs."""
    if place in connections:
        return {"__class__": "ConnectedValue"}
    if isinstance(value, dict):
        if value.get("__class__") == "RuntimeValue":
            return None
        return {key: settled(inner, f"{place}|{key}".lstrip("|"), connections) for key, inner in value.items()}
    return value


def fixed(*parts: object) -> str:
    """Return an identifier that is the same at every export, of the version that Galaxy takes."""
    named = uuid.uuid5(NAMESPACE, "/".join(map(str, parts)))
    return str(uuid.UUID(int=named.int, version=4))


def dockstore(name: str) -> str:
    """Return what Dockstore and the IWC read of a folder."""
    return yaml.safe_dump(
        {
            "version": 1.2,
            "workflows": [
                {
                    "name": "main",
                    "subclass": "Galaxy",
                    "publish": True,
                    "primaryDescriptorPath": f"/{name}.ga",
                    "testParameterFiles": [f"/{name}-tests.yml"],
                    "authors": [{"name": "DNA-LM"}],
                }
            ],
        },
        sort_keys=False,
    )


if __name__ == "__main__":
    main()
