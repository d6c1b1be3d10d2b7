"""Whatever a server sends, a job ends in time and memory: with right vectors and a list of failures, or one sentence."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BEHAVIOURS = 176
# One of each kind, and those that were once waited for without an end, or filled the memory.
SAMPLE = (
    "status 401 X",
    "body: NaN",
    "body: no UTF-8",
    "body: million lists",
    "error body: no numbers",
    "echo: reversed",
    "echo: zero width",
    "protocol: two lengths",
    "protocol: headers for ever",
    "protocol: numbers for ever",
    "header: Location: /",
)


def jobs(folder: Path, *names: str) -> list[dict[str, Any]]:
    """Return what became of the jobs that ask a server with a hostile behaviour, all in a process of little memory."""
    script = Path(__file__).with_name("hostile_answers.py")
    only = [part for name in names for part in ("--only", name)]
    done = subprocess.run([sys.executable, script, *only, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(found: list[dict[str, Any]], count: int) -> None:
    assert len(found) == 2 * count
    assert [(line["name"], line["after"], line["wrong"]) for line in found if line["wrong"]] == []


@pytest.mark.slow
def test_jobs_get_over_hostile_answers(tmp_path: Path) -> None:
    """A few of them; `make fuzz` asks all, which takes minutes."""
    if os.environ.get("DNALM_FUZZ") == "full":
        check(jobs(tmp_path), BEHAVIOURS)
    else:
        check(jobs(tmp_path, *SAMPLE), len(SAMPLE))
