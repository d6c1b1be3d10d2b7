"""Run an entry script until its work begins, say on stderr how many processor seconds that took, and end there."""

import importlib
import os
import sys
import time
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).resolve().parents[1] / "tools" / "scripts"


def stop(*_: object) -> None:
    """Say the seconds since the process began, and end it."""
    print(f"started after {time.process_time():.3f} s", file=sys.stderr, flush=True)
    os._exit(0)


def at_first_input(options: list[str]) -> None:
    """Stop when a file of the command line is opened."""
    inputs = {option for option in options if Path(option).is_file()}

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and str(arguments[0]) in inputs:
            stop()

    sys.addaudithook(hook)


def at_first_forward_pass() -> None:
    """Stop when a layer first computes; torch is imported a little earlier than the tool would."""
    from torch.nn.modules.module import register_module_forward_pre_hook

    register_module_forward_pre_hook(stop)


if __name__ == "__main__":
    event, script, *options = sys.argv[1:]
    sys.path.insert(0, str(SCRIPTS))
    tool = importlib.import_module(script)
    from dnalm.entry_point import run  # a script that has been imported brings it

    parser = tool.parser()
    if event == "input":
        at_first_input(options)
    else:
        import gc

        from dnalm.entry_point import OBJECTS_BETWEEN_COLLECTIONS

        gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)  # as `run` does before anything heavy
        at_first_forward_pass()
    sys.exit(run(parser, tool.main, options))
