"""Every workflow of workflows/: laid out as the IWC asks, up to date with the forms, and run in a real Galaxy."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ENVIRONMENTS, REPOSITORY
from server import GalaxyServer

FOLDERS = sorted(path.parent for path in (REPOSITORY / "workflows").glob("*/*.ga"))
DESCRIPTIONS = sorted(
    path.name.partition(".")[0] for path in (REPOSITORY / "tests" / "galaxy" / "workflows").glob("*.yml")
)
PLANEMO = str(ENVIRONMENTS / "planemo" / "bin" / "planemo")

each_workflow = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def workflow_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / f"{folder.name}.ga").read_text())
    return content


def test_every_description_has_been_made_into_a_workflow() -> None:
    assert [folder.name for folder in FOLDERS] == DESCRIPTIONS


@each_workflow
def test_a_folder_is_laid_out_as_the_iwc_asks(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    assert names == {f"{folder.name}.ga", f"{folder.name}-tests.yml", ".dockstore.yml", "README.md", "CHANGELOG.md"}
    workflow = workflow_of(folder)
    assert workflow["annotation"].startswith("This workflow ")
    assert workflow["license"] == "MIT"
    assert workflow["creator"]
    assert f"[{workflow['release']}]" in (folder / "CHANGELOG.md").read_text()
    (described,) = yaml.safe_load((folder / ".dockstore.yml").read_text())["workflows"]
    assert described["primaryDescriptorPath"] == f"/{folder.name}.ga"


@each_workflow
def test_inputs_outputs_and_steps_have_plain_labels(folder: Path) -> None:
    steps = workflow_of(folder)["steps"].values()
    assert all(step["label"] for step in steps)
    outputs = [output["label"] for step in steps for output in step["workflow_outputs"]]
    assert outputs
    assert len(set(outputs)) == len(outputs)
    assert set(outputs) >= set(yaml.safe_load((folder / f"{folder.name}-tests.yml").read_text())[0]["outputs"])


@each_workflow
def test_the_report_shows_outputs_that_exist(folder: Path) -> None:
    workflow = workflow_of(folder)
    labels = {output["label"] for step in workflow["steps"].values() for output in step["workflow_outputs"]}
    shown = {part.partition('"')[0] for part in workflow["report"]["markdown"].split('output="')[1:]}
    assert shown
    assert shown <= labels


@each_workflow
def test_planemo_finds_nothing_to_complain_of(folder: Path) -> None:
    command = [PLANEMO, "workflow_lint", "--fail_level", "warn", str(folder / f"{folder.name}.ga")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@each_workflow
def test_it_runs_in_galaxy(galaxy: GalaxyServer, folder: Path, tmp_path: Path) -> None:
    """With its own tests, by planemo; every tool is of the version that the workflow was made with."""
    workflow = folder / f"{folder.name}.ga"
    report = tmp_path / "report.json"
    command = [
        *(PLANEMO, "test", "--engine", "external_galaxy", "--galaxy_url", galaxy.url),
        *("--galaxy_admin_key", galaxy.admin_key, "--galaxy_user_key", galaxy.user_key),
        *("--no_shed_install", "--no_dependency_resolution", "--test_output_json", str(report)),
        *("--test_output", str(tmp_path / "report.html"), str(workflow)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    tests = json.loads(report.read_text())["tests"] if report.exists() else []
    said = "\n".join(
        str(test["data"].get("output_problems") or test["data"].get("execution_problem")) for test in tests
    )
    assert done.returncode == 0, said or done.stdout[-3000:] + done.stderr[-3000:]
    assert tests
    assert all(test["data"]["status"] == "success" for test in tests)
