"""The suite and the data manager, uploaded to a real Tool Shed, installed from it into a fresh Galaxy, and used there."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import anndata
import client
import pytest
from bioblend.galaxy import GalaxyInstance
from configuration import SECTION_NAME
from conftest import ENVIRONMENTS, FORMS, REPOSITORY, TEST_DATA
from hub import Hub
from server import GalaxyServer
from tool_shed import OWNER, ToolShed
from tool_tests import run_tool_tests

SCRATCH = REPOSITORY / ".galaxy"


@pytest.fixture(scope="module")
def tool_shed(repositories: dict[str, Path], announce: Callable[[str], None]) -> Iterator[tuple[ToolShed, list[str]]]:
    """A Tool Shed to which both repositories were uploaded, and their names."""
    with ToolShed(SCRATCH / "tool-shed", ENVIRONMENTS) as shed:
        names = [shed.upload(folder) for folder in repositories.values()]
        announce(f"uploaded to {shed.url}: {', '.join(names)}")
        yield shed, names


@pytest.fixture(scope="module")
def galaxy(
    tool_shed: tuple[ToolShed, list[str]],
    archives: dict[str, Path],
    galaxys_hub: Hub,
    announce: Callable[[str], None],
) -> Iterator[GalaxyServer]:
    """A Galaxy that had no tools of ours until both repositories were installed from the Tool Shed."""
    shed, names = tool_shed
    with GalaxyServer(
        SCRATCH / "shed-galaxy",
        archives["suite"],
        ENVIRONMENTS,
        data_manager=archives["data_manager"],
        job_environment={"HF_ENDPOINT": galaxys_hub.url, "HF_TOKEN": "hf_of_the_admin"},
        tool_shed=shed.url,
    ) as server:
        assert ours(client.connect(server)) == []
        for name in names:
            announce(shed.install(name, server.url, server.admin_key, SECTION_NAME).strip().splitlines()[-1])
        yield server


def ours(gi: GalaxyInstance) -> list[str]:
    """Return the ids of DNA-LM's tools in a Galaxy."""
    return [tool["id"] for tool in gi.tools.get_tools() if "dnalm" in tool["id"]]


def full_id(gi: GalaxyInstance, form: str) -> str:
    (found,) = (known for known in ours(gi) if form in known.split("/")[-2:])
    return found


def test_every_form_is_there_by_its_full_id(galaxy: GalaxyServer, tool_shed: tuple[ToolShed, list[str]]) -> None:
    address = tool_shed[0].url.removeprefix("http://")
    known = ours(client.connect(galaxy))
    assert {name.split("/")[-2] for name in known} == {form.stem for form in FORMS}
    assert {tuple(name.split("/")[:3]) for name in known} == {(address, "repos", OWNER)}


def test_every_test_of_every_form_passes(galaxy: GalaxyServer, announce: Callable[[str], None]) -> None:
    results = run_tool_tests(galaxy, announce=announce)
    forms = [form for form in FORMS if form.stem != "data_manager_dnalm"]  # which is run by itself below
    assert len(results) == sum(len(ElementTree.parse(form).findall("tests/test")) for form in forms)
    assert all("/repos/" in result.tool_id for result in results)
    problems = [
        f"{result.tool_id}, test {result.index + 1}: {result.problem}" for result in results if not result.passed
    ]
    assert not problems, "\n\n".join(problems)


def test_the_data_manager_installs_a_model_that_embeds(galaxy: GalaxyServer, tmp_path: Path) -> None:
    gi = client.connect(galaxy)
    history = client.create_history(gi, "from the Tool Shed")
    chosen = {"model|source": "hub", "model|model_id": "somebody/plants", "display_name": "Our plants"}
    client.run_tool(gi, history, full_id(gi, "data_manager_dnalm"), chosen)
    table = gi.tool_data.show_data_table("huggingface")
    rows = [dict(zip(table["columns"], fields, strict=True)) for fields in table["fields"]]
    (row,) = (row for row in rows if row["name"].startswith("Our plants"))
    assert (Path(row["path"]) / "model.safetensors").exists()
    sequences = client.upload(gi, history, TEST_DATA / "two_genomes.fasta", "fasta")
    inputs = {
        "input|select": "sequences",
        "input|sequences": {"src": "hda", "id": sequences},
        "kind|model_source|select": "installed",
        "kind|model_source|model": row["value"],
    }
    client.save_outputs(gi, client.run_tool(gi, history, full_id(gi, "dnalm_embed"), inputs), tmp_path)
    embeddings = anndata.read_h5ad(tmp_path / "embeddings.h5ad")
    assert embeddings.shape == (80, 32)
    assert "somebody/plants" in json.dumps(embeddings.uns, default=str)
