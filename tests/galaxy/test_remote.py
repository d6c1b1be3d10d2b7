"""A biologist embeds with a served model in a real Galaxy: the token reaches the endpoint, and no other place."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anndata
import client
from bioblend.galaxy import GalaxyInstance
from conftest import TEST_DATA
from server import GalaxyServer
from tool_tests import endpoints

TOOL, TOKEN = "dnalm_remote_embed", "hf_OfTheBiologistAndOfNobodyElse"
Ran = tuple[str, dict[str, str]]
SERVICE = {"name": "huggingface", "version": "1.0"}


@contextmanager
def credentials(gi: GalaxyInstance, galaxy: GalaxyServer, tool: str) -> Iterator[dict[str, object]]:
    """Keep a token in the vault, as the form of credentials does, and yield what a run with it names."""
    user, version = gi.users.get_current_user()["id"], gi.tools.show_tool(tool)["version"]
    group = {"name": "mine", "variables": [], "secrets": [{"name": "token", "value": TOKEN}]}
    source = {"source_type": "tool", "source_id": tool, "source_version": version}
    address = f"{galaxy.url}api/users/{user}/credentials"
    made = gi.make_post_request(address, payload=source | {"service_credential": SERVICE | {"group": group}})
    (known,) = (found for found in gi.make_get_request(address).json() if found["source_id"] == tool)
    yield SERVICE | {"user_credentials_id": known["id"], "selected_group": {"id": made["id"], "name": made["name"]}}
    gi.make_delete_request(f"{address}/{known['id']}").raise_for_status()


def run(gi: GalaxyInstance, galaxy: GalaxyServer, history: str, context: object, inputs: dict[str, object]) -> Ran:
    """Run the tool with credentials to the end; return its job and its outputs by their names."""
    payload = {"tool_id": TOOL, "history_id": history, "inputs": inputs, "credentials_context": [context]}
    answer = gi.make_post_request(f"{galaxy.url}api/tools", payload=payload)
    (job,) = [job["id"] for job in answer["jobs"]]
    client.wait_for_jobs(gi, [job])
    return job, {output["output_name"]: output["id"] for output in answer["outputs"]}


def test_the_token_reaches_the_endpoint_and_no_other_place(galaxy: GalaxyServer, tmp_path: Path) -> None:
    gi = client.connect(galaxy)
    history = client.create_history(gi, "served model")
    sequences = client.upload(gi, history, TEST_DATA / "two_genomes.fasta", "fasta")
    earlier = client.upload(gi, history, TEST_DATA / "remote_embeddings.h5ad", "h5ad")
    common = {"sequences": {"src": "hda", "id": sequences}, "consent": True}
    of_the_list = {"served|select": "endpoint", "served|endpoint": "local_pooled"}
    of_the_hub = {"served|select": "hub", "served|model_id": "somebody/dna", "bounds|max_requests": 1}
    with endpoints(galaxy) as endpoint, credentials(gi, galaxy, TOOL) as context:
        endpoint.tokens = {TOKEN}
        job, outputs = run(gi, galaxy, history, context, common | of_the_list)
        # An earlier job had all answers of that model of the hub: nothing is sent.
        going_on = {"bounds|resume_from": {"src": "hda", "id": earlier}}
        again, _ = run(gi, galaxy, history, context, common | of_the_hub | going_on)
    assert {asked.token for asked in endpoint.asked} == {TOKEN}
    assert len(endpoint.sequences()) == 80

    for name, dataset in outputs.items():
        client.save_dataset(gi, dataset, tmp_path / name)
    assert set(outputs) == {"embeddings", "summary", "failed"}
    assert anndata.read_h5ad(tmp_path / "embeddings.h5ad").shape == (80, 5)
    said, said_again = (json.dumps(gi.jobs.show_job(each, full_details=True)) for each in (job, again))
    assert "dnalm_remote_embed.py" in said
    assert "pooled by the server" in said
    assert "Answers of an earlier job: 80" in said_again
    assert "Requests: 0; pooled by an earlier job's" in said_again
    assert TOKEN not in said + said_again
    # All that the server keeps: outputs, logs, job folders and scripts, the database with its encrypted vault.
    places = [*tmp_path.rglob("*"), *galaxy.state_directory.rglob("*")]
    searched = [path for path in places if path.is_file() and not path.is_symlink()]
    assert galaxy.log in searched
    assert [path for path in searched if TOKEN.encode() in path.read_bytes()] == []
