"""`make demo`, as a newcomer runs it."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import demo
import processes
import pytest
from conftest import REPOSITORY

STATE = REPOSITORY / ".galaxy"


def test_make_demo_saves_its_results_and_leaves_nothing_running() -> None:
    """With the shortest workflow; the results of all of them are looked at in test_workflows.py."""
    command = ["make", "demo", "DEMO=--workflows embed-and-map"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    saved = [path for path in (REPOSITORY / "demo-results" / "embed-and-map").rglob("*") if path.is_file()]
    assert {path.suffix for path in saved} >= {".h5ad", ".png", ".tsv"}
    assert all(str(path) in done.stdout for path in saved)
    assert processes.of_state_directory(STATE / "demo") == []


def test_a_connection_that_breaks_is_said_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The demo meets a Galaxy of which nothing is left but its address."""
    gone = SimpleNamespace(url="http://127.0.0.1:9", user_key="0")
    monkeypatch.setattr(demo, "GalaxyServer", lambda *given: contextlib.nullcontext(gone))
    monkeypatch.setattr("sys.argv", ["demo.py", "--results", str(tmp_path)])
    assert demo.main() == 1
    said = capsys.readouterr().err
    assert said.startswith("The connection to Galaxy broke (")
    assert said.count("\n") == 1


def test_make_serve_prints_its_address_and_stops_on_ctrl_c(tmp_path: Path) -> None:
    served = subprocess.Popen(
        ["make", "serve", f"SERVE=--state-directory {tmp_path / 'serve'}"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert served.stdout is not None
    lines = []
    for line in served.stdout:
        lines.append(line)
        if "http://127.0.0.1:" in line:
            break
    assert "http://127.0.0.1:" in lines[-1], lines
    os.killpg(served.pid, signal.SIGINT)
    served.communicate(timeout=120)
    deadline = time.monotonic() + 30
    while processes.of_state_directory(tmp_path / "serve") and time.monotonic() < deadline:
        time.sleep(0.5)
    assert processes.of_state_directory(tmp_path / "serve") == []
