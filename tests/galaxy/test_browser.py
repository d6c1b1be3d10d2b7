"""A person at the screen: the form is opened, a file chosen, Run clicked, the result seen."""

import shutil
import subprocess
from pathlib import Path

import client
import pytest
from conftest import ENVIRONMENTS, REPOSITORY, TEST_DATA
from server import GalaxyServer

GALAXY_PYTHON = ENVIRONMENTS / "galaxy" / "bin" / "python"


@pytest.mark.skipif(not shutil.which("chromium"), reason="there is no Chromium on this machine")
def test_the_embed_form_runs_by_point_and_click(galaxy: GalaxyServer, tmp_path: Path) -> None:
    gi = client.connect(galaxy)
    history = client.create_history(gi, "by point and click")
    client.upload(gi, history, TEST_DATA / "human_mitochondrion.fasta", "fasta")
    client.upload(gi, history, TEST_DATA / "two_genomes.fasta", "fasta")
    browser: list[str | Path] = [
        GALAXY_PYTHON,
        REPOSITORY / "tests" / "galaxy" / "browser.py",
        "--url",
        galaxy.url,
        "--history",
        history,
    ]
    browser += ["--tool", "dnalm_embed", "--choose", "input|sequences=two_genomes.fasta", "--screenshots", tmp_path]
    done = subprocess.run(browser, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    outputs = gi.histories.show_history(history, contents=True)
    assert [(item["extension"], item["state"]) for item in outputs[2:]] == [("h5ad", "ok"), ("tabular", "ok")]
    assert "two_genomes" in gi.histories.show_history(history, contents=True)[1]["name"]
    assert len(list(tmp_path.glob("*.png"))) >= 5
