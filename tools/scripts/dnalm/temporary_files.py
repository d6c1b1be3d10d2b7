"""Files and folders that a run removes when it ends; those of a killed run are removed by the next one in that folder.

A run marks each folder that it writes unfinished files into by a file `.dnalm.<part>.partial` that it keeps locked
(flock), and names these files `.<name>.<part>.partial`. A mark without a lock belongs to a run that was killed. That is
certain only where both runs see the same locks, so that the first half of `<part>` is computed from the boot of this
kernel and the mounted file system: marks of another machine, or of the same one before it was started again, are left.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from dnalm.errors import DISK_IS_FULL, UserError
from dnalm.signals import kept_waiting

BOOT = Path("/proc/sys/kernel/random/boot_id")  # the same in all containers of one kernel
MARK = re.compile(r"\.dnalm\.([0-9a-f]{16}-[0-9a-f]{16})\.partial")
FILES = ".partial.files"  # what the names of temporary folders end in
FULL_BELOW = 1 << 16  # free bytes of a file system that is full


@contextlib.contextmanager
def unfinished(folder: Path) -> Iterator[str]:
    """Yield the part that the names of this run's unfinished files in a folder have: `.<name>.<part>.partial`.

    At the end all of them are removed, and at the beginning those of runs that were killed.
    """
    place = _place(folder)
    if place is not None:
        _remove_leftovers(folder, place)
    part, descriptor = "", -1
    try:
        with kept_waiting():
            part, descriptor = _new_mark(folder, place or secrets.token_hex(8))
        yield part
    finally:
        with kept_waiting():
            if part:
                _remove(folder, part)
                os.close(descriptor)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a new folder in the one for temporary files (TMPDIR), removed at the end.

    Raises:
        UserError: there is no folder for temporary files, or it is full.
    """
    parent = _temporary()
    with contextlib.ExitStack() as stack:
        with filling(parent):
            folder = parent / f".dnalm.{stack.enter_context(unfinished(parent))}{FILES}"
            folder.mkdir(mode=0o700)
        yield folder


@contextlib.contextmanager
def filling(folder: Path) -> Iterator[None]:
    """Say of a disk that is full within the block, which writes to a temporary folder alone, that it is that folder's.

    Raises:
        UserError: the temporary folder is full.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # libraries in C drop the reason of a failed write
        if not (isinstance(error, OSError) and error.errno in DISK_IS_FULL) and not _is_full(folder):
            raise
        raise full_temporary_folder() from error


def full_temporary_folder() -> UserError:
    """Return the sentence for a full folder of temporary files."""
    return UserError(
        f"The temporary folder '{tempfile.gettempdir()}' is full; free some space there, or set TMPDIR to another folder."
    )


def is_temporary(path: str | bytes) -> bool:
    """Say whether a path lies in a temporary folder of a run."""
    return any(part.startswith(".dnalm.") and part.endswith(FILES) for part in Path(os.fsdecode(path)).parts)


def _temporary() -> Path:
    try:
        return Path(tempfile.gettempdir())
    except OSError as error:
        raise UserError(
            "There is no folder for temporary files that can be written to; set TMPDIR to a folder that can."
        ) from error


def _is_full(folder: Path) -> bool:
    try:
        file_system = os.statvfs(folder)
    except OSError:
        return False
    return file_system.f_bavail * file_system.f_frsize < FULL_BELOW


def _place(folder: Path) -> str | None:
    """Return what this kernel and file system are known by while they run; None where the kernel does not say."""
    try:
        boot = BOOT.read_text()
        device = folder.stat().st_dev
    except OSError:
        return None
    return hashlib.sha256(f"{boot} {device}".encode()).hexdigest()[:16]


def _new_mark(folder: Path, place: str) -> tuple[str, int]:
    """Make a mark and lock it; return its part and its open file, with which the lock ends."""
    while True:
        part = f"{place}-{secrets.token_hex(8)}"
        path = folder / f".dnalm.{part}.partial"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _lock(descriptor, wait=True)
            if _is_at(descriptor, path):
                return part, descriptor
        except BaseException:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        os.close(descriptor)  # another run took it for a leftover before it was locked


def _lock(descriptor: int, *, wait: bool) -> bool:
    """Say whether the file is now locked by this process; where a file system has no locks it is not."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno in DISK_IS_FULL:
            raise
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _remove_leftovers(folder: Path, place: str) -> None:
    """Remove what runs of this user that were killed left in a folder; what cannot be removed is left."""
    try:
        names = [entry.name for entry in os.scandir(folder) if entry.name.startswith(f".dnalm.{place}-")]
    except OSError:
        return
    for name in names:
        mark = MARK.fullmatch(name)
        if mark is None:
            continue
        path = folder / name
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            found = os.fstat(descriptor)
            ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()
            if ours and _lock(descriptor, wait=False) and _is_at(descriptor, path):
                _remove(folder, mark[1])
        finally:
            os.close(descriptor)


def _remove(folder: Path, part: str) -> None:
    """Remove all unfinished files of a part, the mark last; what cannot be removed is left."""
    mark = f".dnalm.{part}.partial"
    try:
        found = [entry for entry in os.scandir(folder) if f".{part}.partial" in entry.name and entry.name != mark]
    except OSError:  # the folder itself is gone
        return
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                Path(entry.path).unlink()
    with contextlib.suppress(OSError):
        (folder / mark).unlink()
