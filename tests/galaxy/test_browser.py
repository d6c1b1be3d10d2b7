"""A person at the screen: the form is opened, a file chosen, Run clicked, the result seen."""

import shutil
import subprocess
from pathlib import Path

import client
import pytest
from conftest import ENVIRONMENTS, REPOSITORY, TEST_DATA
from server import GalaxyServer

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")  # as in browser.py, which another Python runs
GALAXY_PYTHON = ENVIRONMENTS / "galaxy" / "bin" / "python"


@pytest.mark.skipif(not any(map(shutil.which, CHROMIUM_NAMES)), reason="there is no Chromium on this machine")
def test_the_embed_form_runs_by_point_and_click(galaxy: GalaxyServer, tmp_path: Path) -> None:
    gi = client.connect(galaxy)
    history = client.create_history(gi, "by point and click")
    # The form offers the latest dataset by itself: the one to choose is the other.
    chosen = client.upload(gi, history, TEST_DATA / "human_mitochondrion.fasta", "fasta")
    client.upload(gi, history, TEST_DATA / "two_genomes.fasta", "fasta")
    browser: list[str | Path] = [
        GALAXY_PYTHON,
        REPOSITORY / "tests" / "galaxy" / "browser.py",
        "--url",
        galaxy.url,
        "--history",
        history,
    ]
    browser += [
        "--tool",
        "dnalm_embed",
        "--choose",
        "input|sequences=human_mitochondrion.fasta",
        "--screenshots",
        tmp_path,
    ]
    done = subprocess.run(browser, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    embeddings, summary = gi.histories.show_history(history, contents=True)[2:]
    assert [(item["extension"], item["state"]) for item in (embeddings, summary)] == [("h5ad", "ok"), ("tabular", "ok")]
    job = gi.jobs.show_job(gi.datasets.show_dataset(summary["id"])["creating_job"])
    assert job["inputs"]["input|sequences"]["id"] == chosen
    assert "human_mitochondrion" in gi.datasets.download_dataset(summary["id"]).decode()
    assert len(list(tmp_path.glob("*.png"))) >= 5
