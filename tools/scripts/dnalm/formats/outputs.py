"""Outputs that are whole or not there."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dnalm.errors import UserError

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
    partials = [target.with_name(f".{target.name}.{os.getpid()}.partial") for target in targets]
    try:
        yield partials
        for partial, target in zip(partials, targets, strict=True):
            if partial.exists() or not some_may_lack:
                partial.replace(target)
    finally:
        for partial in partials:
            partial.unlink(missing_ok=True)


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
            raise UserError(f"The output '{target}' is not a plain file; choose another name.")
        if not os.access(target.parent, os.W_OK):
            raise UserError(f"The folder '{target.parent}' cannot be written to; choose another for '{target.name}'.")
