"""The whole `make demo`, as a newcomer runs it: four workflows in a Galaxy of its own."""

import subprocess

import demo
import processes
from conftest import REPOSITORY


def test_make_demo_runs_every_workflow() -> None:
    done = subprocess.run(["make", "demo"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for workflow in demo.WORKFLOWS:
        saved = [path for path in (REPOSITORY / "demo-results" / workflow).rglob("*") if path.is_file()]
        pictures = [path for path in saved if path.suffix == ".png"]
        assert pictures
        assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
        assert all(str(path) in done.stdout for path in saved)
    assert processes.of_state_directory(REPOSITORY / ".galaxy" / "demo") == []
