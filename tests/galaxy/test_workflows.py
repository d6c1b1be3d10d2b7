"""Every workflow of workflows/: laid out as the IWC asks, up to date with the forms, and run in a real Galaxy."""

import json
import subprocess
from pathlib import Path
from typing import Any

import anndata
import client
import demo
import pytest
import yaml
from conftest import ENVIRONMENTS, REPOSITORY
from demo import Invocation
from galaxy.util.xml_macros import load
from server import GalaxyServer

WORKFLOWS = REPOSITORY / "workflows"
FOLDERS = sorted(path.parent for path in WORKFLOWS.glob("*/*.ga"))
NAMES = [folder.name for folder in FOLDERS]
DESCRIPTIONS = sorted(
    path.name.partition(".")[0] for path in (REPOSITORY / "tests" / "galaxy" / "workflows").glob("*.yml")
)
PLANEMO = str(ENVIRONMENTS / "planemo" / "bin" / "planemo")

each_workflow = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


@pytest.fixture(scope="module")
def invocations(galaxy: GalaxyServer) -> dict[str, Invocation]:
    """Start every workflow on the inputs of its first test, with the demo's own code; not waited for."""
    return {invoked.workflow: invoked for invoked in demo.start(client.connect(galaxy), NAMES)}


def workflow_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / f"{folder.name}.ga").read_text())
    return content


def test_every_description_has_been_made_into_a_workflow() -> None:
    assert NAMES == DESCRIPTIONS


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
def test_steps_are_of_the_version_of_their_form(folder: Path) -> None:
    version = load(REPOSITORY / "tools" / "dnalm_embed.xml").getroot().get("version")
    tools = [step for step in workflow_of(folder)["steps"].values() if step["type"] == "tool"]
    assert {step["tool_version"] for step in tools} == {version}


def test_planemo_finds_nothing_to_complain_of() -> None:
    """All in one call: planemo takes longer to start than to check them."""
    command = [PLANEMO, "workflow_lint", "--fail_level", "warn", str(WORKFLOWS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(f"{name}.ga" in done.stdout for name in NAMES), done.stdout


@each_workflow
def test_its_outputs_are_those_of_its_tests(
    galaxy: GalaxyServer, invocations: dict[str, Invocation], folder: Path, tmp_path: Path
) -> None:
    """A run in the real Galaxy, held by planemo against the workflow's own tests."""
    invocation = invocations[folder.name].id
    gi = client.connect(galaxy)
    client.wait_for_invocation(gi, invocation)
    report = tmp_path / "report.json"
    command = [
        *(PLANEMO, "workflow_test_on_invocation", "--galaxy_url", galaxy.url, "--galaxy_user_key", galaxy.user_key),
        *("--test_output_json", str(report), "--test_output", str(tmp_path / "report.html")),
        *(str(folder / f"{folder.name}-tests.yml"), invocation),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    tests = json.loads(report.read_text())["tests"] if report.exists() else []
    problems = [str(test["data"].get("output_problems") or test["data"].get("execution_problem")) for test in tests]
    assert done.returncode == 0, problems or done.stdout[-3000:] + done.stderr[-3000:]
    assert [test["data"]["status"] for test in tests] == ["success"], problems


def test_the_demo_saves_what_its_workflows_made(
    galaxy: GalaxyServer, invocations: dict[str, Invocation], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo.save(client.connect(galaxy), [invocations[name] for name in demo.WORKFLOWS], tmp_path)
    printed = capsys.readouterr().out
    for workflow in demo.WORKFLOWS:
        saved = [path for path in (tmp_path / workflow).rglob("*") if path.is_file()]
        assert saved
        assert all(str(path) in printed for path in saved)
        pictures = [path for path in saved if path.suffix == ".png"]
        assert pictures
        assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    assert anndata.read_h5ad(tmp_path / "embed-and-map" / "Embeddings.h5ad").shape == (80, 64)
    assert len(list((tmp_path / "segment-and-evaluate" / "Tracks").glob("*.bw"))) > 1
