"""Find and end the processes of one Galaxy server, and no others."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

MARK = "DNALM_GALAXY_STATE"


def of_state_directory(state_directory: Path) -> list[int]:
    """Return the ids of the live processes that were started for this state directory.

    A process belongs to the server if its environment carries the mark, or if it shares a session with one that does:
    Galaxy starts its job scripts with an empty environment, but in the session that the server opened for itself.
    """
    mark = os.fsencode(f"{MARK}={state_directory.resolve()}")
    sessions: dict[int, int] = {}
    marked: set[int] = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        pid = int(entry.name)
        try:
            sessions[pid] = os.getsid(pid)
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                marked.add(pid)
        except OSError:
            continue
    own_session = os.getsid(0)
    opened = {sessions[pid] for pid in marked} - {own_session}
    return sorted(
        pid
        for pid, session in sessions.items()
        if pid != os.getpid() and (pid in marked or session in opened) and not is_zombie(pid)
    )


def children(pid: int) -> int:
    """Count the live children of a process."""
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0
    return sum(not is_zombie(int(child)) for child in listed)


def is_zombie(pid: int) -> bool:
    """Return whether a process has ended and only waits for its parent to notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def end(state_directory: Path, patience: float) -> None:
    """End every process of a state directory: a request first, after `patience` seconds by force.

    Raises RuntimeError if one survives.
    """
    if patience > 0:
        send(signal.SIGTERM, of_state_directory(state_directory))
        if wait_for_none(state_directory, patience):
            return
    for _ in range(5):
        send(signal.SIGKILL, of_state_directory(state_directory))
        if wait_for_none(state_directory, 2.0):
            return
    survivors = of_state_directory(state_directory)
    raise RuntimeError(f"Processes {survivors} of the Galaxy server in {state_directory} could not be ended.")


def send(number: signal.Signals, pids: list[int]) -> None:
    """Send a signal to processes, some of which may have ended already."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def wait_for_none(state_directory: Path, seconds: float) -> bool:
    """Return whether all processes of a state directory end within a time."""
    limit = time.monotonic() + seconds
    while of_state_directory(state_directory):
        if time.monotonic() > limit:
            return False
        time.sleep(0.1)
    return True
