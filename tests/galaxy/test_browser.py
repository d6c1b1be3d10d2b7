"""A person at the screen: a form is found and opened, files and a model chosen, Run clicked, the results seen."""

import json
import os
import shutil
import subprocess

import client
import pytest
from bioblend.galaxy import GalaxyInstance
from conftest import ENVIRONMENTS, FORMS, REPOSITORY, TEST_DATA
from server import GalaxyServer

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")  # as in browser.py, which another Python runs
GALAXY_PYTHON = ENVIRONMENTS / "galaxy" / "bin" / "python"
SCREENSHOTS = REPOSITORY / "demo-results" / "screenshots"
# In CI it is being installed while this is read, and without it the tests fail.
pytestmark = pytest.mark.skipif(
    not os.environ.get("CI") and not any(map(shutil.which, CHROMIUM_NAMES)),
    reason="there is no Chromium on this machine",
)


def browse(galaxy: GalaxyServer, folder: str, *arguments: str) -> str:
    """Do in a browser what the arguments say, with pictures of each step; return what it printed."""
    pictures = SCREENSHOTS / folder
    shutil.rmtree(pictures, ignore_errors=True)
    script = str(REPOSITORY / "tests" / "galaxy" / "browser.py")
    command = [str(GALAXY_PYTHON), script, "--url", galaxy.url, "--screenshots", str(pictures), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list(pictures.glob("*.png"))
    return done.stdout


def outputs(gi: GalaxyInstance, history: str, inputs: int) -> list[dict[str, str]]:
    """Return the datasets after the inputs, all of them well."""
    made: list[dict[str, str]] = gi.histories.show_history(history, contents=True)[inputs:]
    assert {item["state"] for item in made} == {"ok"}
    return made


def test_the_embed_form_and_the_map_run_by_point_and_click(galaxy: GalaxyServer) -> None:
    gi = client.connect(galaxy)
    history = client.create_history(gi, "by point and click")
    # The form offers the latest dataset by itself: the one to choose is the other.
    chosen = client.upload(gi, history, TEST_DATA / "two_genomes.fasta", "fasta")
    client.upload(gi, history, TEST_DATA / "human_mitochondrion.fasta", "fasta")
    choices = ("--choose", "input|sequences=two_genomes", "--choose", "kind|model_source|model=DNA-LM demo (causal")
    browse(galaxy, "embed", "--history", history, "--tool", "dnalm_embed", *choices)
    summary, embeddings = outputs(gi, history, 2)
    assert (embeddings["extension"], summary["extension"]) == ("h5ad", "tabular")
    job = gi.jobs.show_job(gi.datasets.show_dataset(summary["id"])["creating_job"])
    assert job["inputs"]["input|sequences"]["id"] == chosen
    assert "dnalm_demo" in job["params"]["kind"]
    assert "ecoli_100001" in gi.datasets.download_dataset(summary["id"]).decode()

    browse(galaxy, "project", "--history", history, "--tool", "dnalm_project")
    assert "png" in {item["extension"] for item in outputs(gi, history, 4)}


def test_the_variants_form_runs_by_point_and_click(galaxy: GalaxyServer) -> None:
    gi = client.connect(galaxy)
    history = client.create_history(gi, "variants by point and click")
    genome = client.upload(gi, history, TEST_DATA / "human_mitochondrion.fasta", "fasta")
    client.upload(gi, history, TEST_DATA / "two_genomes.fasta", "fasta")
    client.upload(gi, history, TEST_DATA / "mitochondrial_variants.vcf", "vcf")
    choices = ("--choose", "input|reference=human_mitochondrion", "--choose", "model_source|model=DNA-LM demo (causal")
    browse(galaxy, "score-variants", "--history", history, "--tool", "dnalm_score_variants", *choices)
    table, annotated, figure = outputs(gi, history, 3)
    assert [item["extension"] for item in (table, annotated, figure)] == ["tabular", "vcf_bgzip", "png"]
    job = gi.jobs.show_job(gi.datasets.show_dataset(table["id"])["creating_job"])
    assert job["inputs"]["input|reference"]["id"] == genome
    assert gi.datasets.download_dataset(figure["id"]).startswith(b"\x89PNG")


def test_a_biologist_finds_the_tools_by_the_words_of_the_field(galaxy: GalaxyServer) -> None:
    wanted = {
        "embedding": "dnalm_embed",
        "variant effect": "dnalm_score_variants",
        "DNABERT": "dnalm_embed",
        "nucleotide transformer": "dnalm_embed",
        "segment": "dnalm_segment",
    }
    found = json.loads(browse(galaxy, "search", *(word for query in wanted for word in ("--search", query))))
    assert {query: identifiers[:1] for query, identifiers in found.items()} == {
        query: [identifier] for query, identifier in wanted.items()
    }


def test_the_panel_has_one_section_with_the_tools_in_the_order_of_use(galaxy: GalaxyServer) -> None:
    sections = {section["name"]: section for section in client.connect(galaxy).tools.get_tool_panel()}
    shown = [
        item["id"] for item in sections["DNA language models"]["elems"] if item["model_class"] != "ToolSectionLabel"
    ]
    assert sorted(shown) == sorted(form.stem for form in FORMS if form.stem != "data_manager_dnalm")
    in_order = (
        "dnalm_embed",
        "dnalm_project",
        "dnalm_score_variants",
        "dnalm_compare_scores",
        "dnalm_segment",
        "dnalm_merge",
    )
    assert [identifier for identifier in shown if identifier in in_order] == list(in_order)
