"""Run a real Galaxy, installed from packages, with the tools of one repository."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import configuration
import processes
from bioblend.galaxy import GalaxyInstance
from configuration import ServerError

START_LIMIT = 300.0
CLEAN_STOP_LIMIT = 20.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class GalaxyServer:
    """A Galaxy on 127.0.0.1, alone in its state directory, that ends with its owner.

    `repository` is the checkout or an unpacked Tool Shed archive, `data_manager` the archive of the data manager (a
    checkout has its own). `job_environment` is what an admin sets for jobs. With `keep_state` histories and the port
    outlive the server; without it every start is from nothing. With `offline_jobs` a job that tries the network fails
    at once. With the address of a `tool_shed` the tools are not there before they are installed from it.
    `execution` says where jobs run if not on this machine.
    """

    state_directory: Path
    repository: Path
    environments: Path
    keep_state: bool = False
    offline_jobs: bool = True
    data_manager: Path | None = None
    job_environment: dict[str, str] = field(default_factory=dict)
    tool_shed: str = ""
    execution: configuration.Execution = field(default_factory=configuration.Execution)
    url: str = field(default="", init=False)
    admin_key: str = field(default="", init=False, repr=False)
    user_key: str = field(default="", init=False, repr=False)
    _lock: IO[str] | None = field(default=None, init=False, repr=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)
    _services: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        self.state_directory = Path(self.state_directory).resolve()
        self.repository = Path(self.repository).resolve()
        if self.data_manager is None and (self.repository / "tools" / "data_manager").exists():
            self.data_manager = self.repository / "tools" / "data_manager"
        # Not resolved: through a link, a virtual environment's scripts still name the place it was made in.
        self.environments = Path(self.environments).absolute()

    def __enter__(self) -> GalaxyServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def log(self) -> Path:
        """The file with everything Galaxy and Celery printed since the last start."""
        return self.state_directory / "galaxy.log"

    @property
    def layout(self) -> configuration.Layout:
        """Where this server's files are."""
        return configuration.Layout(
            self.state_directory, self.repository, self.environments, self.data_manager, self.tool_shed
        )

    def start(self) -> None:
        """Start Galaxy and return when it answers; raises ServerError with the end of the log if it does not."""
        self._take_state_directory()
        try:
            turn_signals_into_exits()
            atexit.register(self.stop)
            self._end_stale_server()
            if not self.keep_state:
                self._remove_state()
            self._launch()
            self._wait_until_it_answers()
            self.user_key = self._make_user_key()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End every process of this server and check that none is left; harmless when nothing runs."""
        if self._lock is None:
            return
        with uninterrupted():
            processes.end(self.state_directory, patience=CLEAN_STOP_LIMIT if self.keep_state else 0)
            if self._process is not None:
                self._process.wait()
                self._process = None
            if not self.keep_state:
                self._remove_state()
            self._lock.close()
            self._lock = None
            atexit.unregister(self.stop)

    def is_alive(self) -> bool:
        """Return whether Galaxy and all its services still run; Gravity itself stays when one of them has ended."""
        if self._process is None or self._process.poll() is not None:
            return False
        running = processes.children(self._process.pid)
        self._services = max(self._services, running)
        return running == self._services

    def _take_state_directory(self) -> None:
        """Lock the state directory; the kernel drops the lock with its owner, however that ends."""
        if re.search(r"[^\w./+-]", str(self.state_directory)):
            # Galaxy's job scripts do not quote it.
            raise ServerError(f"Galaxy cannot work in {self.state_directory!s}: name a folder without blanks or signs.")
        path = self.state_directory / "owner.lock"
        if self.state_directory.exists() and not path.exists() and any(self.state_directory.iterdir()):
            raise ServerError(f"{self.state_directory} holds other files: name an empty folder for Galaxy's state.")
        self.state_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = path.open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read().strip()
            lock.close()
            raise ServerError(
                f"A Galaxy of process {owner} already runs in {self.state_directory}: stop it or name another folder."
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        self._lock = lock

    def _end_stale_server(self) -> None:
        stale = processes.of_state_directory(self.state_directory)
        if stale:
            print(f"Ending {len(stale)} processes that an earlier Galaxy left in {self.state_directory}", flush=True)
            processes.end(self.state_directory, patience=CLEAN_STOP_LIMIT if self.keep_state else 0)

    def _remove_state(self) -> None:
        for folder in (self.layout.config, self.layout.data):
            shutil.rmtree(folder, ignore_errors=True)

    def _launch(self) -> None:
        bypass_proxies()
        port = self._choose_port()
        self.url = f"http://127.0.0.1:{port}/"
        self.admin_key = secrets.token_hex(16)
        configuration.write(self.layout, port, self.admin_key, self.offline_jobs, self.job_environment, self.execution)
        command = [
            str(self.environments / "galaxy" / "bin" / "galaxy"),
            "--config-file",
            str(self.layout.galaxy_yml),
            "--state-dir",
            str(self.layout.data / "gravity"),
        ]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.layout.data,
                env=configuration.server_environment(self.layout),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._services = 0

    def _choose_port(self) -> int:
        """Return a free port, for a kept state the one it had before if that is free."""
        path = self.state_directory / "port"
        wanted = int(path.read_text()) if self.keep_state and path.exists() else 0
        port = free_port(wanted) or free_port(0)
        if port is None:
            raise ServerError("There is no free port on 127.0.0.1.")
        if self.keep_state:
            path.write_text(f"{port}\n")
        return port

    def _wait_until_it_answers(self) -> None:
        began = time.monotonic()
        said = began
        while not self._answers():
            now = time.monotonic()
            if not self.is_alive():
                raise ServerError(f"Galaxy ended while it started.\n{self.log_tail()}")
            if now - began > START_LIMIT:
                raise ServerError(f"Galaxy did not answer within {START_LIMIT:.0f} s.\n{self.log_tail()}")
            if now - said >= 10:
                print(f"Galaxy is starting ({now - began:.0f} s)", flush=True)
                said = now
            time.sleep(0.25)

    def _answers(self) -> bool:
        # The timeout is for a port that accepts and never answers: gunicorn listens before Galaxy is loaded.
        try:
            with urllib.request.urlopen(f"{self.url}api/version", timeout=5) as response:
                return "version_major" in json.load(response)
        except (OSError, ValueError):
            return False

    def _make_user_key(self) -> str:
        """Return a key of the server's one user: the bootstrap key belongs to nobody and cannot own a history."""
        users = GalaxyInstance(self.url, key=self.admin_key).users
        known = users.get_users(f_email=configuration.USER_ADDRESS)
        name = configuration.USER_ADDRESS.partition("@")[0]
        user = known[0] if known else users.create_local_user(name, configuration.USER_ADDRESS, secrets.token_hex(16))
        return users.get_or_create_user_apikey(user["id"])

    def log_tail(self, lines: int = 40) -> str:
        """Return the last lines of the log, and where the rest is."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join([*text.splitlines()[-lines:], f"The whole log: {self.log}"])


def free_port(wanted: int) -> int | None:
    """Return `wanted`, or any port for 0, if it can be bound on 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return None
        return probe.getsockname()[1]


def bypass_proxies() -> None:
    """Keep the requests of this process to its own Galaxy away from a proxy that the user's network needs."""
    for name in ("NO_PROXY", "no_proxy"):
        kept = [part for part in os.environ.get(name, "").split(",") if part]
        if "127.0.0.1" not in kept:
            os.environ[name] = ",".join([*kept, "127.0.0.1"])


def turn_signals_into_exits() -> None:
    """Make SIGTERM and a closed terminal unwind this process, as Ctrl-C does, so that its server is stopped."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, exit_by_signal)


def exit_by_signal(number: int, _frame: object) -> None:
    """Leave the process as a shell reports one that a signal ended."""
    raise SystemExit(128 + number)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore further requests to end while the server is being stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
