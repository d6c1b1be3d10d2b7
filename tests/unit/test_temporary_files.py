"""Unfinished files are removed when a run ends, and those of killed runs by the next one: never those of another run."""

import errno
import fcntl
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import REPOSITORY
from dnalm import temporary_files
from dnalm.errors import UserError
from dnalm.temporary_files import filling, is_temporary, temporary_folder, unfinished

KILLED = """
import os, signal, sys
from pathlib import Path
from dnalm.temporary_files import unfinished
with unfinished(Path(sys.argv[1])) as part:
    Path(sys.argv[1], f".x.{part}.partial").write_text("half")
    Path(sys.argv[1], f".tracks.{part}.partial").mkdir()
    Path(sys.argv[1], f".tracks.{part}.partial", "CDS.bw").write_text("half")
    print("ready", flush=True)
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
"""


def run(folder: Path, end: str) -> "subprocess.Popen[str]":
    """Start a run that is in the midst of its work, or that was killed there."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environment = {"PYTHONPATH": str(REPOSITORY / "scripts")}
    job = subprocess.Popen([sys.executable, "-c", KILLED, folder, end], env=environment, **pipes)  # type: ignore[call-overload]
    assert job.stdout.readline() == "ready\n"
    return job


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def killed(folder: Path) -> list[str]:
    """Leave in a folder what a killed run leaves, and return its names."""
    assert run(folder, "killed").wait(timeout=60) == -signal.SIGKILL
    return names(folder)


def test_files_with_the_part_are_removed_at_the_end_and_no_others(tmp_path: Path) -> None:
    (tmp_path / ".x.1234.partial").touch()
    with unfinished(tmp_path) as part:
        (tmp_path / f".x.{part}.partial").touch()
        (tmp_path / f".x.{part}.partial.plain").touch()
        (tmp_path / f".tracks.{part}.partial").mkdir()
        (tmp_path / f".tracks.{part}.partial" / "CDS.bw").touch()
        (tmp_path / f".link.{part}.partial").symlink_to(tmp_path / ".x.1234.partial")
    assert names(tmp_path) == [".x.1234.partial"]


def test_the_next_run_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    left = killed(tmp_path)
    assert [re.sub(r"[0-9a-f]{16}", "n", name) for name in left] == [
        ".dnalm.n-n.partial",
        ".tracks.n-n.partial",
        ".x.n-n.partial",
    ]
    with unfinished(tmp_path) as part:
        assert names(tmp_path) == [f".dnalm.{part}.partial"]


def test_a_living_run_is_left_alone(tmp_path: Path) -> None:
    job = run(tmp_path, "waits")
    left = names(tmp_path)
    with unfinished(tmp_path):
        assert set(left) < set(names(tmp_path))
    assert names(tmp_path) == left
    job.communicate(timeout=60)
    assert names(tmp_path) == []


@pytest.mark.parametrize("change", ["another boot", "another file system", "no boot id"])
def test_what_may_be_of_another_machine_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    left = killed(tmp_path)
    if change == "another file system":
        monkeypatch.setattr(temporary_files, "_place", lambda folder: "0" * 16)
    else:
        boot = tmp_path.parent / f"boot of {tmp_path.name}"
        monkeypatch.setattr(temporary_files, "BOOT", boot)
        if change == "another boot":
            boot.write_text("another\n")
    with unfinished(tmp_path) as part:
        assert set(left) < set(names(tmp_path))
        (tmp_path / f".x.{part}.partial").touch()
    assert names(tmp_path) == left


def test_what_is_of_another_user_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = killed(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with unfinished(tmp_path):
        assert set(left) < set(names(tmp_path))


@pytest.mark.parametrize("kind", ["link", "folder", "fifo"])
def test_a_mark_that_is_no_file_is_left_alone(tmp_path: Path, kind: str) -> None:
    with unfinished(tmp_path) as part:
        mark = tmp_path / f".dnalm.{part.split('-')[0]}-{'0' * 16}.partial"
    if kind == "link":
        (tmp_path / "elsewhere").touch()
        mark.symlink_to(tmp_path / "elsewhere")
    elif kind == "folder":
        mark.mkdir()
    else:
        os.mkfifo(mark)
    left = names(tmp_path)
    with unfinished(tmp_path):
        pass
    assert names(tmp_path) == left


def test_without_locks_files_are_removed_at_the_end_and_none_of_other_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = killed(tmp_path)

    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with unfinished(tmp_path) as part:
        (tmp_path / f".x.{part}.partial").touch()
    assert names(tmp_path) == left


def test_a_mark_that_another_run_took_for_a_leftover_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its making and its lock."""
    lock = fcntl.flock
    taken: list[str] = []

    def late(descriptor: int, operation: int) -> None:
        if not taken:
            (mark,) = tmp_path.iterdir()
            taken.append(mark.name)
            mark.unlink()
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with unfinished(tmp_path) as part:
        assert names(tmp_path) == [f".dnalm.{part}.partial"]
        assert taken != names(tmp_path)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_temporary_folder_is_removed(temporary: Path) -> None:
    with temporary_folder() as folder:
        assert folder.parent == temporary
        assert folder.stat().st_mode & 0o777 == 0o700
        assert is_temporary(str(folder / "genome.fa"))
        (folder / "genome.fa").touch()
    assert names(temporary) == []
    assert not is_temporary(str(temporary / "genome.fa"))


def test_a_temporary_folder_of_a_killed_run_is_removed(temporary: Path) -> None:
    code = "import os; from dnalm.temporary_files import temporary_folder\n"
    code += "with temporary_folder() as folder: (folder / 'x').touch(); os.kill(os.getpid(), 9)"
    environment = {"PYTHONPATH": str(REPOSITORY / "scripts"), "TMPDIR": str(temporary)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert len(names(temporary)) == 2
    with temporary_folder() as folder:
        assert len(names(temporary)) == 2
        assert names(folder) == []
    assert names(temporary) == []


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "full"), OSError(errno.EDQUOT, "quota"), OSError(errno.EFBIG, "")]
)
def test_a_full_temporary_folder_is_named(temporary: Path, error: OSError) -> None:
    with (
        pytest.raises(
            UserError, match=rf"temporary folder '{temporary}' is full; free some space there, or set TMPDIR"
        ),
        filling(temporary),
    ):
        raise error


def test_an_error_without_its_reason_is_that_of_the_full_folder(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As torch's of a failed write."""
    with pytest.raises(RuntimeError, match="failed"), filling(temporary):
        raise RuntimeError("failed")
    found = os.statvfs(temporary)
    monkeypatch.setattr(os, "statvfs", lambda folder: os.statvfs_result((*found[:3], 0, 0, *found[5:])))
    with pytest.raises(UserError, match="is full"), filling(temporary):
        raise RuntimeError("failed")
    with pytest.raises(UserError, match="no such model"), filling(temporary):
        raise UserError("no such model")


def test_without_a_folder_for_temporary_files_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    with pytest.raises(UserError, match="no folder for temporary files"), temporary_folder():
        pass
