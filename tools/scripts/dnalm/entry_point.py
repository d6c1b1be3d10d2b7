"""What every entry script shares: the options of the machine, and errors told in one sentence."""

import argparse
import contextlib
import functools
import gc
import io
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, NoReturn

from dnalm import __version__
from dnalm.errors import DISK_IS_FULL, UserError, printable, shown

TORCH_OUT_OF_MEMORY = "DefaultCPUAllocator: can't allocate memory"  # of the host; it is no MemoryError
GPU_OUT_OF_MEMORY = "OutOfMemoryError"  # torch's error; torch is not imported here
# New objects between two runs of the garbage collector. Imports make hundreds of thousands that stay: at Python's 700 a
# tenth of a start with torch goes into looking through them. What is not in a cycle is freed at once all the same.
OBJECTS_BETWEEN_COLLECTIONS = 100_000
OUT_OF_MEMORY_EXIT_CODE = 137  # what a kernel's kill looks like: Galaxy may resubmit the job with more memory
UNFORESEEN_EXIT_CODE = 70  # EX_SOFTWARE of sysexits.h: an error of ours. Galaxy takes every code but 0 for an error
SENT_AGAIN_AFTER = 0.02  # seconds, for a signal that came where no exception can be raised
DEBUG = "DNALM_DEBUG"  # environment variable: 1 for the traceback of an unforeseen error


def argument_parser(
    name: str, description: str, runs_a_model: bool = True, *, shares_out: bool = False
) -> argparse.ArgumentParser:
    """Return a parser with the options that every tool has, or every tool that runs a model, and no form shows.

    With `shares_out` it is a tool whose work several processes can do.
    """
    parser = argparse.ArgumentParser(
        prog=name, description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=__version__)
    if not runs_a_model:
        return parser
    machine = parser.add_argument_group("machine", "set by the destination or the admin, never by a form")
    machine.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="where the model runs")
    machine.add_argument(
        "--threads",
        type=number_or_auto,
        default="auto",
        metavar="N",
        help="CPU threads; never more than the job's share of the machine",
    )
    machine.add_argument(
        "--batch-tokens",
        type=number_or_auto,
        default="auto",
        metavar="N",
        help="tokens, padding included, that the model takes at once; auto suits the device",
    )
    if shares_out:
        machine.add_argument(
            "--processes",
            type=number_or_auto,
            default="auto",
            metavar="N",
            help="processes that share the work, each with the model; auto is one a GPU, and one on a CPU",
        )
    return parser


def number_or_auto(text: str) -> int | None:
    """Parse a positive number; None stands for 'auto'."""
    if text == "auto":
        return None
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is neither a positive number nor 'auto'")
    return int(text)


def number_between(kind: type[int] | type[float], lowest: float, highest: float) -> Callable[[str], float]:
    """Return a parser of whole or other numbers that refuses those outside the bounds."""

    def number(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = kind(lowest) - 1
        if not lowest <= value <= highest:
            raise argparse.ArgumentTypeError(f"'{text}' is no {kind.__name__} from {lowest:g} to {highest:g}")
        return value

    return number


def run(
    parser: argparse.ArgumentParser,
    task: Callable[[argparse.Namespace], None],
    argv: Sequence[str] | None = None,
    *,
    network: bool = False,
) -> int:
    """Run a task and return the exit code.

    It is 0; 1 with one sentence for a user's error; 137 when the host's memory is exhausted; 70 with one sentence for an
    error that nobody foresaw, which is raised instead where the environment has DNALM_DEBUG=1.
    Only with `network` may the task ask the Hugging Face hub or a served model.
    """
    _open_closed_streams()
    arguments = parser.parse_args(argv)
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    signal.signal(signal.SIGTERM, _end)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    debug, usual = os.environ.get(DEBUG) == "1", sys.unraisablehook
    sys.unraisablehook = functools.partial(_unraisable, usual if debug else _nothing)
    if not debug:
        sys.excepthook = _nothing  # Cython calls it too before the other
    try:
        _prepare_libraries(network)
        task(arguments)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception as error:
        code = _said(parser.prog, error)
        if code is None and debug:
            raise
        return _say_unforeseen(parser.prog, error) if code is None else code
    finally:
        if debug:
            sys.unraisablehook = usual
    return 0


def _open_closed_streams() -> None:
    """Give standard streams that were closed to /dev/null: else the first files opened would take their places."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115 (open as long as the process is)


def _prepare_libraries(network: bool) -> None:
    """Set what libraries read when they are imported, which is later, and keep from users what only their callers need."""
    import logging  # here and not above: --help is instant
    import tempfile

    offline = str(int(not network))
    os.environ.update(HF_HUB_OFFLINE=offline, TRANSFORMERS_OFFLINE=offline, HF_HUB_DISABLE_TELEMETRY="1")
    warnings.simplefilter("ignore")
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns of a home folder that cannot be written to
    with contextlib.suppress(OSError):  # no folder for temporary files: who needs one says so
        # torch makes the folder of its compiler's cache when it is imported. Nothing is compiled: with a folder that is
        # there already, none is made and none left.
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", tempfile.gettempdir())


def _unraisable(tell: Callable[[Any], object], unraisable: Any) -> None:
    """Deal with an exception where none can be raised, as while an object is removed: Python goes on without it.

    One that ends the job is a signal that came at that moment. It is sent again when Python has left the place; an error
    is told, or not.
    """
    if not isinstance(unraisable.exc_value, SystemExit | KeyboardInterrupt):
        tell(unraisable)
        return
    import threading

    again = threading.Timer(SENT_AGAIN_AFTER, os.kill, [os.getpid(), signal.SIGTERM])
    again.daemon = True
    again.start()


def _nothing(*error: object) -> None:
    """Print no traceback of an error that nobody can catch."""


def _said(program: str, error: Exception) -> int | None:
    """Say what a foreseen error means in one sentence, and return the exit code; None for another error."""
    if isinstance(error, UserError):
        return _say(program, str(error))
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and TORCH_OUT_OF_MEMORY in str(error)):
        _say(program, "The job's memory is exhausted; run it with more memory.")
        return OUT_OF_MEMORY_EXIT_CODE
    if type(error).__name__ == GPU_OUT_OF_MEMORY:
        return _say(
            program,
            "The GPU's memory does not suffice; use smaller batches (a training: with more batches a step), shorter "
            "sequences, a smaller model or a larger GPU.",
        )
    if isinstance(error, BrokenPipeError):  # whoever read our words has left; nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    if isinstance(error, OSError) and error.errno in DISK_IS_FULL:
        from dnalm.temporary_files import full_temporary_folder, is_temporary

        if error.filename and is_temporary(error.filename):
            return _say(program, str(full_temporary_folder()))
        where = f" while writing '{error.filename}'" if error.filename else ""
        return _say(program, f"The disk is full{where}; free some space and run again.")
    return None


def _end(signal_number: int, frame: FrameType | None) -> NoReturn:
    """Leave by an exception, so that unfinished outputs are removed on the way out."""
    sys.exit(128 + signal_number)


def _say_unforeseen(program: str, error: Exception) -> int:
    _say(
        program,
        f"An unforeseen error ended the job ({type(error).__name__}: {shown(error, 300)}). Report this line to the authors; "
        f"with {DEBUG}=1 in the environment the traceback is printed as well.",
    )
    return UNFORESEEN_EXIT_CODE


def _say(program: str, sentence: str) -> int:
    """Print one line, whatever names of files and records it quotes; return the exit code of a user's error."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    with contextlib.suppress(OSError, ValueError):
        print(f"{program}: {printable(sentence)}", file=sys.stderr, flush=True)
    return 1
