import argparse
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY
from dnalm.entry_point import argument_parser, number_between, number_or_auto, run
from dnalm.errors import UserError

SCRIPTS = sorted((REPOSITORY / "scripts").glob("*.py"))


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def raising(error: BaseException) -> Callable[[argparse.Namespace], None]:
    def task(arguments: argparse.Namespace) -> None:
        raise error

    return task


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (UserError("Record 1 is empty."), 1, "tool: Record 1 is empty.\n"),
        (MemoryError(), 137, "tool: The job's memory is exhausted; run it with more memory.\n"),
        (OSError(errno.ENOSPC, "full", "x.h5ad"), 1, "tool: The disk is full while writing 'x.h5ad'; "),
        (OSError(errno.EDQUOT, "quota"), 1, "tool: The disk is full; "),
        (
            torch.OutOfMemoryError("CUDA out of memory."),
            1,
            "tool: The GPU's memory does not suffice; use smaller batches",
        ),
    ],
)
def test_users_errors_are_one_sentence(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, sentence: str
) -> None:
    assert run(argument_parser("tool", "A tool."), raising(error), []) == code
    said = capsys.readouterr().err
    assert said.startswith(sentence)
    assert said.count("\n") == 1


def test_memory_that_torch_does_not_get_is_the_hosts(capsys: pytest.CaptureFixture[str]) -> None:
    def task(arguments: argparse.Namespace) -> None:
        torch.empty(1 << 50)

    assert run(argument_parser("tool", "A tool."), task, []) == 137
    assert capsys.readouterr().err == "tool: The job's memory is exhausted; run it with more memory.\n"


def test_our_own_errors_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run(argument_parser("tool", "A tool."), raising(ZeroDivisionError()), [])


def test_a_termination_leaves_by_an_exception() -> None:
    def task(arguments: argparse.Namespace) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    with pytest.raises(SystemExit) as left:
        run(argument_parser("tool", "A tool."), task, [])
    assert left.value.code == 143


@pytest.mark.parametrize(("text", "number"), [("auto", None), ("1", 1), ("4096", 4096)])
def test_numbers_of_the_machine(text: str, number: int | None) -> None:
    assert number_or_auto(text) == number


@pytest.mark.parametrize("text", ["0", "-1", "", "two", "1.5", "²"])
def test_numbers_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        number_or_auto(text)


@pytest.mark.parametrize("text", ["2", "7", "10"])
def test_numbers_between_bounds(text: str) -> None:
    assert number_between(int, 2, 10)(text) == int(text)
    assert number_between(float, 2, 10)(f"{text}.0") == int(text)


@pytest.mark.parametrize("text", ["1", "11", "", "two", "2.5", "nan", "inf"])
def test_numbers_out_of_bounds_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no int from 2 to 10"):
        number_between(int, 2, 10)(text)
    if text != "2.5":
        with pytest.raises(argparse.ArgumentTypeError):
            number_between(float, 2, 10)(text)


def test_a_tool_without_a_model_has_no_options_of_one() -> None:
    options = argument_parser("tool", "A tool.", runs_a_model=False).format_help()
    assert "--version" in options
    assert "--device" not in options


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_help_needs_no_heavy_import(script: Path) -> None:
    """Looking at a tool's options, as Galaxy does for every version command, must not wait for torch."""
    listed = "import runpy, sys; sys.argv = [sys.argv[1], '--help']\n"
    listed += "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
    listed += "except SystemExit: print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", listed, str(script)],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY / "scripts",
    )
    assert f"usage: {script.stem}" in done.stdout
    assert not {"torch", "transformers", "numpy", "h5py", "Bio", "pandas", "sklearn", "matplotlib"} & set(
        done.stdout.split()
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_an_entry_script_is_thin(script: Path) -> None:
    assert len(script.read_text().splitlines()) <= 140


def test_the_network_is_for_those_whose_purpose_it_is() -> None:
    allowed = {script.stem for script in SCRIPTS if "network=True" in script.read_text()}
    assert allowed == {"data_manager_dnalm", "dnalm_remote_embed"}
