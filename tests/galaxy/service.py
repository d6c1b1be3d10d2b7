"""Run a program that other programs of this machine use, for as long as its owner needs it."""

from __future__ import annotations

import atexit
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import processes
from configuration import ServerError
from server import turn_signals_into_exits, uninterrupted

START_LIMIT = 300.0


@dataclass
class Service:
    """A program that runs in the foreground, and all it starts; it ends with its owner.

    `answers` says whether it is ready. What it prints is kept in `<name>.log` of the folder.
    """

    name: str
    folder: Path
    command: Sequence[object]
    answers: Callable[[], bool]
    environment: Mapping[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    @property
    def log(self) -> Path:
        """What it printed."""
        return self.folder / f"{self.name}.log"

    @property
    def _state(self) -> Path:
        """The mark by which its processes are known: a folder that need not exist."""
        return self.folder / self.name

    def __enter__(self) -> Service:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start and return when it answers; raises ServerError with the end of its log if it does not."""
        turn_signals_into_exits()
        atexit.register(self.stop)
        processes.end(self._state, patience=0)  # of an owner that was killed
        environment = os.environ | self.environment | {processes.MARK: str(self._state.resolve())}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(part) for part in self.command],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it and all it started; harmless when it does not run."""
        if self._process is None:
            return
        with uninterrupted():
            processes.end(self._state, patience=10)
            self._process.wait()
            self._process = None
        atexit.unregister(self.stop)

    def _wait(self) -> None:
        assert self._process is not None
        began = time.monotonic()
        while not self.answers():
            if self._process.poll() is not None:
                raise ServerError(f"{self.name} ended while it started.\n{self.log_tail()}")
            if time.monotonic() - began > START_LIMIT:
                raise ServerError(f"{self.name} did not answer within {START_LIMIT:.0f} s.\n{self.log_tail()}")
            time.sleep(0.25)

    def log_tail(self, lines: int = 40) -> str:
        """Return the last lines of the log, and where the rest is."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join([*text.splitlines()[-lines:], f"The whole log: {self.log}"])
