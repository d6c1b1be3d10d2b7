"""A Tool Shed of one's own, installed from packages, to upload repositories to."""

from __future__ import annotations

import base64
import json
import secrets
import shutil
import subprocess
import urllib.request
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import yaml
from configuration import ServerError, write_json
from server import bypass_proxies, free_port
from service import Service

OWNER = "dnalm"
ADDRESS = f"{OWNER}@example.org"


class ToolShed(AbstractContextManager["ToolShed"]):
    """A Tool Shed on 127.0.0.1 with one user, empty at its start."""

    def __init__(self, folder: Path, environments: Path) -> None:
        self._folder, self._environments = folder.resolve(), environments
        self._admin_key, self._password = secrets.token_hex(16), secrets.token_hex(16)
        self._key = ""
        self._port = free_port(0)
        self.url = f"http://127.0.0.1:{self._port}"
        binaries = environments / "toolshed" / "bin"
        command = [binaries / "uvicorn", "--factory", "tool_shed.webapp.fast_factory:factory"]
        self._service = Service(
            "tool-shed",
            self._folder,
            [*command, "--host", "127.0.0.1", "--port", str(self._port)],
            self._answers,
            # Its Mercurial is found by its name.
            {"TOOL_SHED_CONFIG_FILE": str(self._folder / "tool_shed.yml"), "PATH": f"{binaries}:/usr/bin:/bin"},
        )

    def __enter__(self) -> ToolShed:
        bypass_proxies()
        shutil.rmtree(self._folder, ignore_errors=True)
        for name in ("hgweb", "files", "new_files", "data"):
            (self._folder / name).mkdir(parents=True)
        write_json(self._folder / "tool_shed.yml", {"tool_shed": self._settings()})
        self._service.start()
        try:
            user = {"username": OWNER, "email": ADDRESS, "password": self._password}
            self._call("users", user)
            login = base64.b64encode(f"{ADDRESS}:{self._password}".encode()).decode()
            self._key = self._call("authenticate/baseauth", headers={"Authorization": f"Basic {login}"})["api_key"]
        except BaseException:
            self._service.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._service.stop()

    def _settings(self) -> dict[str, Any]:
        return {
            "tool_shed_url": self.url,
            "config_dir": str(self._folder),
            "data_dir": str(self._folder / "data"),
            "database_connection": f"sqlite:///{self._folder / 'community.sqlite'}?isolation_level=IMMEDIATE",
            "hgweb_config_dir": str(self._folder / "hgweb"),
            "file_path": str(self._folder / "files"),
            "new_file_path": str(self._folder / "new_files"),
            "toolshed_search_on": False,
            "admin_users": ADDRESS,
            "bootstrap_admin_api_key": self._admin_key,
            "id_secret": secrets.token_hex(16),
        }

    def _answers(self) -> bool:
        try:
            return "version_major" in self._call("version")
        except (OSError, ValueError):
            return False

    def _call(self, path: str, content: object = None, headers: dict[str, str] | None = None) -> Any:
        """Ask the Tool Shed's API; with content it is told something, as the admin."""
        request = urllib.request.Request(f"{self.url}/api/{path}", headers=headers or {"x-api-key": self._admin_key})
        if content is not None:
            request.data = json.dumps(content).encode()
            request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)

    def upload(self, folder: Path) -> str:
        """Create the repository that the folder's .shed.yml describes, and return its name.

        The categories that it names are made, as the Tool Shed of the community has them.
        """
        description = yaml.safe_load((folder / ".shed.yml").read_text())
        known = {category["name"] for category in self._call("categories")}
        for category in set(description["categories"]) - known:
            self._call("categories", {"name": category, "description": category})
        planemo = self._environments / "planemo" / "bin" / "planemo"
        address = ("--shed_target", self.url, "--shed_key", self._key)
        done = subprocess.run(
            [planemo, "shed_create", *address, folder], capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        if done.returncode or "updated successfully" not in done.stdout + done.stderr:
            said = f"{done.stdout}{done.stderr}\n{self._service.log_tail()}"
            raise ServerError(f"The repository {folder} could not be uploaded:\n{said}")
        return description["name"]

    def install(self, name: str, galaxy_url: str, galaxy_key: str, section: str) -> str:
        """Install a repository into a Galaxy as its admin would, and return what shed-tools said."""
        done = subprocess.run(
            [
                self._environments / "toolshed" / "bin" / "shed-tools",
                "install",
                *("--galaxy", galaxy_url, "--api-key", galaxy_key),
                *("--tool-shed", self.url, "--owner", OWNER, "--name", name, "--section-label", section),
                "--skip-install-resolver-dependencies",
            ],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        said = done.stdout + done.stderr
        if done.returncode:
            raise ServerError(f"The repository {name} could not be installed:\n{said}")
        return said
