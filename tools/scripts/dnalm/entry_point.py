"""What every entry script shares: the options of the machine, and errors told in one sentence."""

import argparse
import contextlib
import gc
import io
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

from dnalm import __version__
from dnalm.errors import DISK_IS_FULL, UserError, printable

TORCH_OUT_OF_MEMORY = "DefaultCPUAllocator: can't allocate memory"  # of the host; it is no MemoryError
GPU_OUT_OF_MEMORY = "OutOfMemoryError"  # torch's error; torch is not imported here
# New objects between two runs of the garbage collector. Imports make hundreds of thousands that stay: at Python's 700 a
# tenth of a start with torch goes into looking through them. What is not in a cycle is freed at once all the same.
OBJECTS_BETWEEN_COLLECTIONS = 100_000
OUT_OF_MEMORY_EXIT_CODE = 137  # what a kernel's kill looks like: Galaxy may resubmit the job with more memory


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
    """Run a task and return the exit code: 0, 1 with one sentence, or 137 when the host's memory is exhausted.

    Only with `network` may the task ask the Hugging Face hub or a served model.
    """
    arguments = parser.parse_args(argv)
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    signal.signal(signal.SIGTERM, _end)
    warnings.simplefilter("ignore")  # of libraries, to their callers: a user can do nothing about them
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # Before any heavy import, which reads them once.
    offline = str(int(not network))
    os.environ.update(HF_HUB_OFFLINE=offline, TRANSFORMERS_OFFLINE=offline, HF_HUB_DISABLE_TELEMETRY="1")
    try:
        task(arguments)
    except UserError as error:
        return _say(parser.prog, str(error))
    except MemoryError:
        return _say_memory(parser.prog)
    except RuntimeError as error:
        if type(error).__name__ == GPU_OUT_OF_MEMORY:
            return _say(
                parser.prog,
                "The GPU's memory does not suffice; use smaller batches (a training: with more batches a step), shorter "
                "sequences, a smaller model or a larger GPU.",
            )
        if TORCH_OUT_OF_MEMORY not in str(error):
            raise
        return _say_memory(parser.prog)
    except BrokenPipeError:  # whoever read our words has left; nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno not in DISK_IS_FULL:
            raise
        where = f" while writing '{error.filename}'" if error.filename else ""
        return _say(parser.prog, f"The disk is full{where}; free some space and run again.")
    return 0


def _end(signal_number: int, frame: FrameType | None) -> NoReturn:
    """Leave by an exception, so that unfinished outputs are removed on the way out."""
    sys.exit(128 + signal_number)


def _say_memory(program: str) -> int:
    _say(program, "The job's memory is exhausted; run it with more memory.")
    return OUT_OF_MEMORY_EXIT_CODE


def _say(program: str, sentence: str) -> int:
    """Print one line, whatever names of files and records it quotes."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    with contextlib.suppress(OSError):
        print(f"{program}: {printable(sentence)}", file=sys.stderr, flush=True)
    return 1
