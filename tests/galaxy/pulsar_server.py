"""Run Pulsar on this machine as if it were another: its own folder, its own environment, files sent to it and back."""

from __future__ import annotations

import os
import secrets
import shutil
import urllib.error
import urllib.request
from contextlib import AbstractContextManager
from pathlib import Path

from configuration import write_json
from server import bypass_proxies, free_port
from service import Service


class Pulsar(AbstractContextManager["Pulsar"]):
    """A Pulsar on 127.0.0.1 that runs two jobs at a time with the tools' environment."""

    def __init__(self, folder: Path, environments: Path) -> None:
        self._folder, self._environments = folder.resolve(), environments
        self.token = secrets.token_hex(16)
        self._port = free_port(0)
        self.url = f"http://127.0.0.1:{self._port}/"
        binaries = environments / "pulsar" / "bin"
        environment = {"PATH": f"{binaries}:/usr/bin:/bin", "HOME": str(self._folder)}
        command = [binaries / "pulsar", "-m", "gunicorn", "-c", self._folder]
        self._service = Service("pulsar", self._folder, command, self._answers, environment)

    @property
    def staging(self) -> Path:
        """Where each job has a folder while it runs."""
        return self._folder / "staging"

    @property
    def log(self) -> Path:
        """What Pulsar printed."""
        return self._service.log

    def __enter__(self) -> Pulsar:
        bypass_proxies()
        shutil.rmtree(self._folder, ignore_errors=True)
        self.staging.mkdir(parents=True)
        tools = self._environments / "tools" / "bin"
        manager = {"type": "queued_python", "num_concurrent_jobs": 2, "env_PATH": f"{tools}{os.pathsep}/usr/bin:/bin"}
        write_json(
            self._folder / "app.yml",
            {
                "private_token": self.token,
                "staging_directory": str(self.staging),
                "persistence_directory": str(self._folder / "persisted"),
                "conda_auto_init": False,
                "conda_auto_install": False,
                "managers": {"_default_": manager},
            },
        )
        (self._folder / "server.ini").write_text(
            f"[server:main]\nhost = 127.0.0.1\nport = {self._port}\n\n[app:main]\napp_config = %(here)s/app.yml\n"
        )
        self._service.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._service.stop()

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(self.url, timeout=5).close()
        except urllib.error.HTTPError:
            return True  # it says that there is no such page
        except OSError:
            return False
        return True
