"""Outputs that are whole or not there: files and folders."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dnalm.errors import DISK_IS_FULL, UserError
from dnalm.temporary_files import unfinished

LONGEST_NAME = 200  # bytes; file systems take 255, a partial output's name needs some


@contextmanager
def whole_or_nothing(
    outputs: Sequence[Path], inputs: Sequence[Path] = (), *, some_may_lack: bool = False
) -> Iterator[list[Path]]:
    """Yield one path beside each output to write to; rename them all at the end, or remove them all.

    With `some_may_lack` an output that was not written is left as it was.

    Raises:
        UserError: an output is an input, another output, a folder or a device, or its folder does not exist.
    """
    try:
        targets = [output.resolve() for output in outputs]
        _refuse_unsafe(targets, [path.resolve() for path in inputs])
    except (OSError, RuntimeError) as error:  # links in a circle, names too long, folders that may not be entered
        raise UserError(f"The outputs cannot be written ({error}); choose other names.") from error
    with ExitStack() as stack:
        try:
            parts = {
                folder: stack.enter_context(unfinished(folder)) for folder in {target.parent for target in targets}
            }
        except OSError as error:  # a read-only file system, which looks as if it could be written to
            if error.errno in DISK_IS_FULL:
                raise
            raise UserError(f"The outputs cannot be written ({error}); choose another folder.") from error
        partials = [target.with_name(f".{target.name}.{parts[target.parent]}.partial") for target in targets]
        yield partials
        for partial, target in zip(partials, targets, strict=True):
            if partial.exists() or not some_may_lack:
                partial.replace(target)


def _refuse_unsafe(targets: list[Path], inputs: list[Path]) -> None:
    for number, target in enumerate(targets):
        if target in inputs:
            raise UserError(f"The output '{target.name}' is also an input; choose another name for the output.")
        if any(path.is_dir() and path in target.parents for path in inputs):
            raise UserError(f"The output '{target.name}' lies in the folder of an input; choose another folder.")
        if target in targets[:number]:
            raise UserError(f"Two outputs have the name '{target.name}'; give each its own.")
        if not target.parent.is_dir():
            raise UserError(
                f"The folder '{target.parent}' of the output '{target.name}' does not exist; make it first."
            )
        if len(os.fsencode(target.name)) > LONGEST_NAME:
            raise UserError(f"The output name '{target.name[:40]}…' is too long; choose a shorter one.")
        if target.exists() and not target.is_file():
            raise UserError(f"The output '{target}' is not a regular file; choose another name.")
        if not os.access(target.parent, os.W_OK):
            raise UserError(f"The folder '{target.parent}' cannot be written to; choose another for '{target.name}'.")


@contextmanager
def whole_folder_or_nothing(folder: Path, inputs: Sequence[Path] = (), outputs: Sequence[Path] = ()) -> Iterator[Path]:
    """Yield a new folder beside the one to make, to write into; rename it at the end, or remove it.

    Raises:
        UserError: the folder has files in it already or cannot be made, lies in an input's, or is to hold another output.
    """
    with ExitStack() as stack:
        with _told(folder):
            target = _checked_folder(folder, inputs, outputs)
            part = stack.enter_context(unfinished(target.parent))
            partial = target.with_name(f".{target.name[:40]}.{part}.partial")
            partial.mkdir(mode=0o700)
        yield partial
        partial.chmod(0o755)
        with _told(target):
            partial.replace(target)  # an empty folder gives way


def _checked_folder(folder: Path, inputs: Sequence[Path], outputs: Sequence[Path]) -> Path:
    """Return the folder to make, links followed, or raise UserError if it may not be made."""
    target = folder.resolve()
    if target.exists() and not target.is_dir():
        raise UserError(f"'{target}' is a file; choose a new folder, or an empty one.")
    if target.exists() and any(target.iterdir()):
        raise UserError(f"The folder '{target}' has files in it already; choose a new or an empty one.")
    if target == Path.cwd():
        raise UserError(f"The folder '{target}' is the one you are in; choose another one.")
    if not target.parent.is_dir():
        raise UserError(f"The folder '{target.parent}' does not exist; make it first.")
    for given in (path.resolve() for path in inputs):
        if given.is_dir() and given in target.parents:
            raise UserError(f"The folder '{target}' lies in that of an input; choose another one.")
    for output in outputs:
        if target in (output.resolve(), *output.resolve().parents):
            raise UserError(
                f"The output '{output}' lies in the folder '{target}', which is to be made; choose another."
            )
    return target


@contextmanager
def _told(target: Path) -> Iterator[None]:
    """Say in a sentence why a folder cannot be made."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # names too long, folders that may not be written, links in a circle
        if isinstance(error, OSError) and error.errno in DISK_IS_FULL:
            raise
        raise UserError(f"The folder '{target}' cannot be made ({error}); choose another one.") from error
