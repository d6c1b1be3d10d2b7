"""Run the tests written in the tools' XML in a running Galaxy."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bioblend.galaxy import GalaxyInstance
from configuration import data_manager_files, tool_files, xml_root
from endpoint import EndpointServer, serving
from server import GalaxyServer

PARALLEL_TESTS = 2
JOB_LIMIT = 900
# The data table of served models, the token of the form's <credentials>, and what the table says of each kind of answers:
# authorization, max_bases, special_first, special_last. Tests with credentials cannot run side by side: one has them.
ENDPOINTS, TOKEN = "dnalm_endpoints", "hf_of_the_test"
KINDS = {"pooled": ("token", "", "0", "0"), "tokens": ("none", "1000", "1", "0"), "html": ("none", "", "0", "0")}
FINISHED = re.compile(r"Test '(?P<name>.+)' (?P<verdict>passed|failed)$")


@dataclass(frozen=True)
class ToolTestResult:
    """What became of one `<test>`; `index` counts from 0 in the order of the XML."""

    tool_id: str
    index: int
    status: str
    problem: str = ""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether the test ran and succeeded: a skipped or missing test has not."""
        return self.status == "success"


def run_tool_tests(
    server: GalaxyServer, tool_id: str | None = None, announce: Callable[[str], None] = print
) -> list[ToolTestResult]:
    """Run all tests of all tools of the server's repository, or of one tool, announcing each as it ends."""
    expected = expected_tests(server, tool_id)
    names = {f"{form_of(known)}, test {index + 1}" for known, index in expected}
    with tempfile.TemporaryDirectory() as folder, endpoints(server):
        report = Path(folder) / "report.json"
        outcomes = verdicts(test_command(server, tool_id, report), server, Path(folder))
        outcomes = (outcome for outcome in outcomes if outcome[0] in names)
        for finished, (name, verdict) in enumerate(outcomes, start=1):
            announce(f"[{finished}/{len(expected)}] {name}: {verdict}")
        records = json.loads(report.read_text())["tests"] if report.exists() else []
    results = {(form_of(result.tool_id), result.index): result for result in map(read_result, records)}
    return [results.get((form_of(known), index)) or missing((known, index)) for known, index in expected]


@contextmanager
def endpoints(server: GalaxyServer) -> Iterator[EndpointServer]:
    """Run an endpoint on this machine and list it in the server's data table, as long as the block runs."""
    table = server.layout.data / "tables" / f"{ENDPOINTS}.loc"
    data_tables = GalaxyInstance(server.url, key=server.user_key).tool_data
    with serving() as endpoint:
        endpoint.tokens = {TOKEN}
        places = {
            kind: f"{endpoint.url}/{kind if said[0] == 'token' else f'open/{kind}'}" for kind, said in KINDS.items()
        }
        rows = [(f"local_{kind}", f"Test server ({kind})", places[kind], *said) for kind, said in KINDS.items()]
        table.write_text("".join("\t".join(row) + "\n" for row in rows))
        data_tables.reload_data_table(ENDPOINTS)
        try:
            yield endpoint
        finally:
            table.write_text("")
            data_tables.reload_data_table(ENDPOINTS)


def test_command(server: GalaxyServer, tool_id: str | None, report: Path) -> list[str]:
    """Return the command that runs the tests."""
    command = [
        str(server.environments / "galaxy" / "bin" / "galaxy-tool-test"),
        *("--galaxy-url", server.url),
        *("--key", server.user_key),
        *("--admin-key", server.admin_key),
        *("--test-data", str(server.repository / "test-data")),
        *("--parallel-tests", str(PARALLEL_TESTS)),
        *("--download-attempts", "5"),
        *("--output-json", str(report)),
        "--with-reference-data",
        "--no-history-reuse",
    ]
    return [*command, "--tool-id", tool_id] if tool_id else command


def expected_tests(server: GalaxyServer, tool_id: str | None) -> list[tuple[str, int]]:
    """Return tool id and index of every test that must run.

    A tool that Galaxy could not load is expected with one test, so that it shows up as missing. Of a Tool Shed's data
    manager Galaxy hands out no tests.
    """
    galaxy = GalaxyInstance(server.url, key=server.user_key)
    summary = galaxy.make_get_request(f"{server.url}api/tools/tests_summary").json()
    expected = []
    files = [*tool_files(server.repository), *data_manager_files(None if server.tool_shed else server.data_manager)]
    for identifier in [xml_root(path).get("id", "") for path in files]:
        if tool_id in (None, identifier):
            # A tool of a Tool Shed is known by a longer id, which ends with this one and the version.
            known = next((name for name in summary if identifier in name.split("/")), identifier)
            counts = [version["count"] for version in summary.get(known, {}).values()]
            expected += [(known, index) for index in range(max(sum(counts), 1))]
    return expected


def verdicts(command: list[str], server: GalaxyServer, folder: Path) -> Iterator[tuple[str, str]]:
    """Run the tests and yield the name and the verdict of each when it ends."""
    environment = os.environ | {
        "TMPDIR": str(folder),
        "GALAXY_TEST_DEFAULT_WAIT": str(JOB_LIMIT),
        "PYTHONUNBUFFERED": "1",
    }
    with (
        (server.state_directory / "tool_tests.log").open("w") as log,
        subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        try:
            assert process.stdout is not None
            for line in process.stdout:
                log.write(line)
                if found := FINISHED.search(line.rstrip()):
                    yield readable_name(found["name"]), found["verdict"]
        finally:
            process.kill()


def readable_name(name: str) -> str:
    """Turn `tool/version-0` into `tool, test 1`: people count the tests of an XML from one."""
    tool, _, index = name.rpartition("-")
    return f"{form_of(tool)}, test {int(index) + 1}"


def form_of(identifier: str) -> str:
    """Return a form's own id of the one that Galaxy knows it by, with or without its version."""
    parts = identifier.split("/")  # of a Tool Shed: its address, repos, owner, repository, tool, version
    return parts[4 if "repos" in parts else 0]


def read_result(record: dict[str, Any]) -> ToolTestResult:
    """Read one record of the report."""
    data = record["data"]
    job = data.get("job") or {}
    complaints = [data.get("execution_problem"), *data.get("output_problems", []), data.get("dynamic_param_problem")]
    parts = [str(complaint) for complaint in complaints if complaint]
    if data["status"] != "success" and job:
        parts += [f"exit code {job.get('exit_code')}", job.get("stderr") or "", (job.get("stdout") or "")[-2000:]]
    if data["status"] == "skip":
        parts.append(f"skipped: {data.get('skip', 'Galaxy has no data for its data table')}")
    problem = "" if data["status"] == "success" else "\n".join(part.strip() for part in parts if part.strip())
    return ToolTestResult(
        data["tool_id"], data["test_index"], data["status"], problem, float(data.get("time_seconds", 0.0))
    )


def missing(key: tuple[str, int]) -> ToolTestResult:
    """Return the result of a test that left no record."""
    return ToolTestResult(*key, status="missing", problem="The test never ran: Galaxy's log says why.")
