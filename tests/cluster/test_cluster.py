"""Jobs of a real Galaxy on a real Slurm and a real Pulsar of this machine, sent there by the sample rules."""

import shutil
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata
import client
import numpy as np
import pytest
from bioblend.galaxy import GalaxyInstance
from configuration import Execution, ServerError
from conftest import ENVIRONMENTS, REPOSITORY, TEST_DATA
from pulsar_server import Pulsar
from server import GalaxyServer
from slurm import Slurm, install

SCRATCH = REPOSITORY / ".galaxy"
HERE = Path(__file__).parent
SHARDS = 4
pytestmark = pytest.mark.parametrize("where", ["slurm", "pulsar"])


@dataclass
class Cluster:
    """What jobs run on."""

    slurm: Slurm
    pulsar: Pulsar
    galaxy: GalaxyServer

    def connect(self) -> GalaxyInstance:
        return client.connect(self.galaxy)


@pytest.fixture(scope="module")
def cluster(shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Slurm, Pulsar, and a Galaxy with the shipped suite, whose jobs all go to one of both."""
    try:
        install()
    except ServerError as error:
        pytest.exit(f"The cluster cannot start here. {error}", returncode=1)
    folder = tmp_path_factory.mktemp("suite")
    shutil.copytree(shipped, folder, dirs_exist_ok=True)
    shutil.copy(HERE / "hungry.xml", folder / "tools")
    with (
        Slurm(SCRATCH / "slurm") as slurm,
        Pulsar(SCRATCH / "pulsar", ENVIRONMENTS) as pulsar,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in slurm.environment.items():
            patch.setenv(name, value)
        rules = tmp_path_factory.mktemp("rules") / "tpv.yml"
        own = string.Template((HERE / "tpv.yml").read_text())
        rules.write_text(own.safe_substitute(PULSAR_URL=pulsar.url, PULSAR_TOKEN=pulsar.token))
        dispatcher = {
            "runner": "dynamic",
            "type": "python",
            "function": "map_tool_to_destination",
            "rules_module": "tpv.rules",
            "tpv_config_files": [str(folder / "tool-data" / "tpv_dnalm.sample.yml"), str(rules)],
        }
        execution = Execution(
            runners={
                "slurm": {"load": "galaxy.jobs.runners.cli:ShellJobRunner", "workers": 2},
                "pulsar": {"load": "galaxy.jobs.runners.pulsar:PulsarRESTJobRunner", "workers": 2},
            },
            environments={"tpv_dispatcher": dispatcher},
            default="tpv_dispatcher",
        )
        with GalaxyServer(SCRATCH / "cluster-galaxy", folder, ENVIRONMENTS, execution=execution) as galaxy:
            yield Cluster(slurm, pulsar, galaxy)


@pytest.fixture
def history(cluster: Cluster, where: str) -> Callable[..., tuple[GalaxyInstance, str]]:
    """Return a function that makes a history whose jobs go where they should, by its tags."""

    def make(*tags: str) -> tuple[GalaxyInstance, str]:
        gi = cluster.connect()
        made = client.create_history(gi, where)
        gi.histories.update_history(made, tags=[*tags, *(["pulsar"] if where == "pulsar" else [])])
        return gi, made

    return make


def embedding(sequences: Any, model: str) -> dict[str, Any]:
    return {
        "input|select": "sequences",
        "input|sequences": sequences,
        "kind|model_source|select": "history",
        "kind|model_source|model": {"src": "hda", "id": model},
    }


def one(dataset: str) -> dict[str, str]:
    return {"src": "hda", "id": dataset}


def each_of(collection: str) -> dict[str, Any]:
    return {"batch": True, "values": [{"src": "hdca", "id": collection}]}


def test_split_embedded_and_merged_is_as_if_it_had_not_been_split(
    cluster: Cluster, history: Callable[..., tuple[GalaxyInstance, str]], where: str, tmp_path: Path
) -> None:
    gi, place = history()
    before = len(cluster.slurm.finished())
    sequences = client.upload(gi, place, TEST_DATA / "two_genomes.fasta", "fasta")
    model = client.upload(gi, place, TEST_DATA / "random_model.safetensors", "safetensors")
    split = client.run_tool(gi, place, "dnalm_split", {"what|sequences": one(sequences), "shards": SHARDS})
    parts = client.run_tool(gi, place, "dnalm_embed", embedding(each_of(split.collections["sequence_shards"]), model))
    assert len(parts.jobs) == SHARDS
    shards = {"src": "hdca", "id": parts.collections["embeddings"]}
    merged = client.run_tool(gi, place, "dnalm_merge", {"shards": shards})
    whole = client.run_tool(gi, place, "dnalm_embed", embedding(one(sequences), model))
    found, expected = (
        anndata.read_h5ad(client.save_dataset(gi, dataset, tmp_path / name))
        for name, dataset in {"merged": merged.datasets["output"], "whole": whole.datasets["embeddings"]}.items()
    )
    assert list(found.obs_names) == list(expected.obs_names)
    assert found.obs.equals(expected.obs)
    np.testing.assert_allclose(found.X, expected.X, rtol=0, atol=1e-5 * np.abs(expected.X).max())

    done = [job for run in (split, parts, merged, whole) for job in run.jobs]
    assert len(done) == SHARDS + 3
    assert {gi.jobs.get_destination_params(job)["Runner"] for job in done} == {where}
    jobs = cluster.slurm.finished()[before:]
    if where == "pulsar":
        assert jobs == []
        return
    kinds = [(job.name.split("dnalm_")[1].split("_")[0], job.partition, job.cpus, job.state) for job in jobs]
    on_cpu, on_gpu = (kind for kind in (("cpu", 2, "COMPLETED"), ("gpu", 2, "COMPLETED")))
    assert kinds == [("split", *on_cpu), *[("embed", *on_gpu)] * SHARDS, ("merge", *on_cpu), ("embed", *on_gpu)]
    assert {job.memory for job in jobs} == {"6G"}
    gpus = [gi.jobs.show_job(job, full_details=True)["job_stdout"].strip() for job in parts.jobs]
    assert set(gpus) <= {"GPU of this job 0", "GPU of this job 1"}


def test_a_job_that_fails_says_why(history: Callable[..., tuple[GalaxyInstance, str]]) -> None:
    gi, place = history()
    protein = client.upload(gi, place, TEST_DATA / "protein.fasta", "fasta")
    model = client.upload(gi, place, TEST_DATA / "random_model.safetensors", "safetensors")
    with pytest.raises(client.JobError, match=r"(?s)state error, exit code 1.*dnalm_embed: .*protein"):
        client.run_tool(gi, place, "dnalm_embed", embedding(one(protein), model))


def test_a_job_that_runs_out_of_time_is_an_error_unless_it_ended_by_itself(
    history: Callable[..., tuple[GalaxyInstance, str]], where: str, tmp_path: Path
) -> None:
    """Slurm asks the whole job to end, its shell as well: a training may keep its model before Galaxy sees that gone."""
    gi, place = history("short")
    sequences = client.upload(gi, place, TEST_DATA / "human_mitochondrion.fasta", "fasta")
    inputs = {"input|sequences": one(sequences), "training|epochs": 100_000, "training|patience": 0}
    try:
        run = client.run_tool(gi, place, "dnalm_pretrain", inputs)
    except client.JobError as error:
        assert "state error" in str(error)
    else:
        assert where == "slurm"
        saved = client.save_dataset(gi, run.datasets["log"], tmp_path / "log").read_text()
        assert "the job was asked to end" in saved.splitlines()[-1]


def test_a_training_whose_own_time_limit_is_shorter_ends_well(
    history: Callable[..., tuple[GalaxyInstance, str]], tmp_path: Path
) -> None:
    gi, place = history()
    sequences = client.upload(gi, place, TEST_DATA / "human_mitochondrion.fasta", "fasta")
    inputs = {"input|sequences": one(sequences), "training|epochs": 100_000, "training|patience": 0}
    run = client.run_tool(gi, place, "dnalm_pretrain", inputs | {"training|time_limit": 0.005})
    saved = client.save_dataset(gi, run.datasets["log"], tmp_path / "log").read_text()
    assert "time limit" in saved.splitlines()[-1]


def test_a_job_whose_memory_is_exhausted_comes_back_with_more(
    history: Callable[..., tuple[GalaxyInstance, str]], where: str, tmp_path: Path
) -> None:
    """With the CLI runner; Galaxy's runner of Pulsar sends no job back, whatever its exit code."""
    gi, place = history()
    if where == "pulsar":
        with pytest.raises(client.JobError, match="exit code 137"):
            client.run_tool(gi, place, "dnalm_hungry", {})
        return
    run = client.run_tool(gi, place, "dnalm_hungry", {})
    saved = client.save_dataset(gi, run.datasets["output"], tmp_path / "memory")
    assert saved.read_text() == f"{24 * 1024}\n"
