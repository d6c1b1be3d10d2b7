"""The sample rules for total-perspective-vortex, tried by its own dry run and linter."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ENVIRONMENTS, FORMS, REPOSITORY

RULES = REPOSITORY / "tool-data" / "tpv_dnalm.sample.yml"
BINARIES = ENVIRONMENTS / "galaxy" / "bin"
TOOLS = {form.stem: str(form) for form in FORMS}
FULL_ID = "toolshed.example.org/repos/dnalm/dnalm/{}/0.1.0+galaxy0"
WITHOUT_GPUS = {"dnalm_gpus": 0}
GIGABYTE = 1024**3

Destination = dict[str, Any]


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Jobs of every kind, by name."""
    large, hub = tmp_path_factory.mktemp("models") / "large.safetensors", tmp_path_factory.mktemp("hub")
    sparse(large, 2 * GIGABYTE)
    (hub / "snapshots" / "main").mkdir(parents=True)
    (hub / "snapshots" / "main" / "model.safetensors").symlink_to(large)
    small = tmp_path_factory.mktemp("models") / "small.safetensors"
    sparse(small, GIGABYTE // 10)
    installed = {"large": str(large), "hub": str(hub), "small": str(small)}

    def embed(model: str, data: float, **more: Any) -> dict[str, Any]:
        parameters = {"kind": {"select": "model", "model_source": {"select": "installed", "model": model}}}
        inputs = [("fasta", data)]
        return {"form": TOOLS["dnalm_embed"], "installed": installed, "parameters": parameters, "inputs": inputs} | more

    pretrain = {"form": TOOLS["dnalm_pretrain"], "inputs": [("fasta", 0.001)]}
    made = {
        "small model, little data": embed("small", 0.001),
        "small model, much data": embed("small", 0.1),
        "large model, little data": embed("large", 0.0001),
        "large model, much data": embed("large", 0.02),
        "large model of a hub's folder": embed("hub", 0.02),
        "large model, much data, full id": embed("large", 0.02, tool_id=FULL_ID.format("dnalm_embed")),
        "large model of the history": embed("none", 0, inputs=[("fasta", 0.02), ("safetensors", 2)]),
        "no model": embed("none", 50),
        "large model, much data, no GPUs": embed("large", 0.02, context=WITHOUT_GPUS),
        "second attempt": embed("small", 0.001, attempts=1),
        "third attempt": embed("small", 0.001, attempts=2),
        "large model, third attempt, smaller machines": embed(
            "large", 0.0001, attempts=3, context={"dnalm_most_mem": 40}
        ),
        "pretraining": pretrain,
        "pretraining, no GPUs": pretrain | {"context": WITHOUT_GPUS},
        "map of many embeddings": {"form": TOOLS["dnalm_project"], "inputs": [("h5ad", 50)]},
        "model installation": {"form": TOOLS["data_manager_dnalm"]},
    }
    for name, form in TOOLS.items():
        made |= {name: {"form": form}, FULL_ID.format(name): {"form": form, "tool_id": FULL_ID.format(name)}}
    return made


def sparse(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


@pytest.fixture(scope="module")
def found(cases: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Destination]:
    """Return where a job goes, by its name."""
    script = Path(__file__).with_name("tpv_dry_run.py")
    job_conf = tmp_path_factory.mktemp("job-conf") / "job_conf.yml"
    command = [BINARIES / "python", script, RULES, job_conf]
    given = json.dumps(list(cases.values()))
    done = subprocess.run(command, input=given, capture_output=True, text=True, cwd=job_conf.parent)
    assert done.returncode == 0, done.stderr
    answers = dict(zip(cases, json.loads(done.stdout.splitlines()[-1]), strict=True))
    return lambda name: answers[name]


def option(destination: Destination, name: str) -> str:
    (value,) = (
        part.partition("=")[2]
        for part in destination["params"]["native_specification"].split()
        if part.startswith(f"--{name}=")
    )
    return value


def environment(destination: Destination) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in destination["env"]}


@pytest.mark.parametrize(
    "job",
    [
        "small model, much data",
        "large model, much data",
        "large model of a hub's folder",
        "large model, much data, full id",
        "large model of the history",
        "pretraining",
    ],
)
def test_goes_to_a_gpu(found: Callable[[str], Destination], job: str) -> None:
    destination = found(job)
    assert destination["id"] == "dnalm_gpu"
    assert option(destination, "gres") == "gpu:1"
    assert "GALAXY_DNALM_DEVICE" not in environment(destination)


@pytest.mark.parametrize(
    "job",
    [
        "small model, little data",
        "large model, little data",
        "no model",
        "map of many embeddings",
        "model installation",
    ],
)
def test_goes_to_two_cores_at_most(found: Callable[[str], Destination], job: str) -> None:
    destination = found(job)
    assert destination["id"] == "dnalm_cpu"
    assert int(option(destination, "cpus-per-task")) <= 2
    assert environment(destination)["GALAXY_DNALM_DEVICE"] == "cpu"


@pytest.mark.parametrize("job", ["large model, much data, no GPUs", "pretraining, no GPUs"])
def test_goes_to_many_cores_where_there_is_no_gpu(found: Callable[[str], Destination], job: str) -> None:
    destination = found(job)
    assert destination["id"] == "dnalm_cpu"
    assert option(destination, "cpus-per-task") == environment(destination)["GALAXY_DNALM_PROCESSES"] == "8"


def test_memory_follows_the_model_and_the_attempts(found: Callable[[str], Destination]) -> None:
    def gigabytes(job: str) -> float:
        assert environment(found(job))["GALAXY_MEMORY_MB"] == option(found(job), "mem")
        return int(option(found(job), "mem")) / 1024

    first = gigabytes("small model, little data")
    assert 6 < first < 7
    assert gigabytes("large model, little data") == 12
    assert gigabytes("second attempt") == pytest.approx(2 * first, abs=0.01)
    assert gigabytes("third attempt") == pytest.approx(4 * first, abs=0.01)
    assert gigabytes("large model, third attempt, smaller machines") == 40


def test_exhausted_memory_brings_a_job_back(found: Callable[[str], Destination]) -> None:
    (again,) = found("small model, little data")["resubmit"]
    assert again == {"condition": "memory_limit_reached and attempt < 4", "environment": "tpv_dispatcher"}


def test_every_tool_is_known_by_its_own_and_by_its_full_id(found: Callable[[str], Destination]) -> None:
    for name in TOOLS:
        own, full = found(name), found(FULL_ID.format(name))
        assert own == full
        assert own["id"] in {"dnalm_cpu", "dnalm_gpu"}


def test_the_linter_has_nothing_to_say(tmp_path: Path) -> None:
    done = subprocess.run([BINARIES / "tpv", "lint", RULES], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "lint successful" in done.stdout + done.stderr


def test_the_archive_has_the_rules(shipped: Path) -> None:
    assert (shipped / "tool-data" / RULES.name).read_bytes() == RULES.read_bytes()
