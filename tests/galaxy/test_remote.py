"""A biologist embeds with a served model in a real Galaxy: the token reaches the endpoint, and no other place."""

import json
from pathlib import Path

import anndata
import client
from bioblend.galaxy import GalaxyInstance
from conftest import TEST_DATA
from server import GalaxyServer
from tool_tests import endpoints

TOKEN = "hf_OfTheBiologistAndOfNobodyElse"
SERVICE = {"name": "huggingface", "version": "1.0"}


def set_credentials(gi: GalaxyInstance, galaxy: GalaxyServer, tool: str) -> dict[str, object]:
    """Keep a token in the vault, as the form of credentials does, and return what a run with it names."""
    user, version = gi.users.get_current_user()["id"], gi.tools.show_tool(tool)["version"]
    group = {"name": "mine", "variables": [], "secrets": [{"name": "token", "value": TOKEN}]}
    source = {"source_type": "tool", "source_id": tool, "source_version": version}
    address = f"{galaxy.url}api/users/{user}/credentials"
    made = gi.make_post_request(address, payload=source | {"service_credential": SERVICE | {"group": group}})
    (known,) = (found for found in gi.make_get_request(address).json() if found["source_id"] == tool)
    return SERVICE | {"user_credentials_id": known["id"], "selected_group": {"id": made["id"], "name": made["name"]}}


def test_the_token_reaches_the_endpoint_and_no_other_place(galaxy: GalaxyServer, tmp_path: Path) -> None:
    gi = client.connect(galaxy)
    history = client.create_history(gi, "served model")
    sequences = client.upload(gi, history, TEST_DATA / "two_genomes.fasta", "fasta")
    context = set_credentials(gi, galaxy, "dnalm_remote_embed")
    with endpoints(galaxy) as endpoint:
        endpoint.tokens = {TOKEN}
        payload = {
            "tool_id": "dnalm_remote_embed",
            "history_id": history,
            "inputs": {
                "sequences": {"src": "hda", "id": sequences},
                "served|select": "endpoint",
                "served|endpoint": "local_pooled",
                "consent": True,
            },
            "credentials_context": [context],
        }
        answer = gi.make_post_request(f"{galaxy.url}api/tools", payload=payload)
        (job,) = [job["id"] for job in answer["jobs"]]
        client.wait_for_jobs(gi, [job])
    assert {asked.token for asked in endpoint.asked} == {TOKEN}
    assert len(endpoint.sequences()) == 80

    outputs = [client.save_dataset(gi, output["id"], tmp_path / output["output_name"]) for output in answer["outputs"]]
    assert len(outputs) == 3
    assert anndata.read_h5ad(tmp_path / "embeddings.h5ad").shape == (80, 5)
    said = json.dumps(gi.jobs.show_job(job, full_details=True))
    assert "dnalm_remote_embed.py" in said
    assert "pooled by the server" in said
    assert TOKEN not in said
    # All that the server keeps: outputs, logs, job folders and scripts, the database with its encrypted vault.
    places = [*tmp_path.rglob("*"), *galaxy.state_directory.rglob("*")]
    searched = [path for path in places if path.is_file() and not path.is_symlink()]
    assert galaxy.log in searched
    assert [path for path in searched if TOKEN.encode() in path.read_bytes()] == []
