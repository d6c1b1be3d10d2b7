import argparse
import errno
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY
from dnalm.entry_point import argument_parser, number_between, number_or_auto, run
from dnalm.errors import UserError
from dnalm.temporary_files import temporary_folder

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


def test_an_unforeseen_error_is_one_sentence_with_a_code_of_its_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DNALM_DEBUG")
    for hook in ("unraisablehook", "excepthook"):  # so that what is changed is changed back
        monkeypatch.setattr(sys, hook, getattr(sys, hook))
    error = ZeroDivisionError("division by zero\nin two lines")
    assert run(argument_parser("tool", "A tool."), raising(error), []) == 70
    assert capsys.readouterr().err == (
        "tool: An unforeseen error ended the job (ZeroDivisionError: division by zero\\nin two lines). Report this line to "
        "the authors; with DNALM_DEBUG=1 in the environment the traceback is printed as well.\n"
    )


def test_an_unforeseen_error_is_raised_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in all tests."""
    assert os.environ["DNALM_DEBUG"] == "1"
    with pytest.raises(ZeroDivisionError):
        run(argument_parser("tool", "A tool."), raising(ZeroDivisionError()), [])


def test_an_interrupted_tool_prints_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(argument_parser("tool", "A tool."), raising(KeyboardInterrupt()), []) == 130
    assert capsys.readouterr().err == ""


def test_a_full_temporary_folder_is_told_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def task(arguments: argparse.Namespace) -> None:
        with temporary_folder() as folder:
            raise OSError(errno.ENOSPC, "full", str(folder / "genome.fa"))

    assert run(argument_parser("tool", "A tool."), task, []) == 1
    assert capsys.readouterr().err.startswith(
        f"tool: The temporary folder '{tempfile.gettempdir()}' is full; free some"
    )


IN_A_PROCESS = """
import sys
from dnalm.entry_point import argument_parser, run
from dnalm.errors import UserError
from dnalm.temporary_files import temporary_folder

def task(arguments):
{task}

sys.exit(run(argument_parser("tool", "A tool.", runs_a_model=False), task))
"""


def run_process(task: str, redirection: str = "", **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a task in a process whose standard streams a shell has set up."""
    code = IN_A_PROCESS.format(task=textwrap.indent(textwrap.dedent(task), "    "))
    usual = {
        name: value for name, value in os.environ.items() if name not in ("DNALM_DEBUG", "TORCHINDUCTOR_CACHE_DIR")
    }
    return subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {redirection}', sys.executable, code],
        env=usual | {"PYTHONPATH": str(REPOSITORY / "scripts")} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("redirection", [">&-", "<&- >&-"])
def test_a_closed_stdout_does_not_hide_the_sentence(redirection: str) -> None:
    done = run_process('raise UserError("Record 1 is empty.")', redirection)
    assert (done.returncode, done.stderr) == (1, "tool: Record 1 is empty.\n")


@pytest.mark.parametrize("redirection", ["2>&-", "<&- >&- 2>&-"])
def test_a_closed_stderr_changes_no_exit_code(redirection: str) -> None:
    done = run_process('print("some progress"); raise UserError("Record 1 is empty.")', redirection)
    assert done.returncode == 1


def test_no_file_takes_the_place_of_a_closed_stdout(tmp_path: Path) -> None:
    """What C code writes to stdout would stand in the output."""
    task = f"""
        import os
        with open({str(tmp_path / "output")!r}, "w") as output:
            output.write("result")
            output.flush()
            os.write(1, b"words of a library")
            print("progress", flush=True)
    """
    assert run_process(task, ">&-").returncode == 0
    assert (tmp_path / "output").read_text() == "result"


def test_a_full_disk_under_block_gzip_is_told(tmp_path: Path) -> None:
    task = f"""
        import os, pathlib, resource
        from dnalm.formats.block_gzip import BlockGzipFile
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        with BlockGzipFile(pathlib.Path({str(tmp_path / "x.gz")!r})) as file:
            for _ in range(40):
                file.write(os.urandom(60_000))
    """
    done = run_process(task)
    assert done.returncode == 1
    assert f"tool: The disk is full while writing '{tmp_path / 'x.gz'}'; free some space and run again." in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_while_an_object_is_removed_prints_no_traceback() -> None:
    task = """
        class Odd:
            def __del__(self):
                raise OSError("nobody can catch this")
        Odd()
    """
    done = run_process(task)
    assert (done.returncode, done.stderr) == (0, "")
    assert "nobody can catch this" in run_process(task, DNALM_DEBUG="1").stderr


@pytest.mark.parametrize("debug", ["0", "1"])
def test_a_signal_while_an_object_is_removed_still_ends_the_job(debug: str) -> None:
    """Python cannot raise what the signal's handler raises there, and would go on."""
    task = """
        import os, signal, time
        class Removed:
            def __del__(self):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.01)
        Removed()
        time.sleep(30)
        print("the job went on")
    """
    done = run_process(task, DNALM_DEBUG=debug)
    assert (done.returncode, done.stdout, done.stderr) == (143, "", "")


@pytest.mark.slow
def test_transformers_leaves_nothing_in_the_temporary_folder(tmp_path: Path) -> None:
    """It imports a part of torch's compiler, which makes the folder of its cache."""
    done = run_process("import transformers, torch._dynamo.package", TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_home_folder_that_cannot_be_written_to_is_no_news(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    home = {"HOME": os.devnull, "XDG_CONFIG_HOME": "", "XDG_CACHE_HOME": "", "TMPDIR": str(tmp_path / "tmp")}
    done = run_process("import matplotlib; matplotlib.get_configdir()", **home)
    assert (done.returncode, done.stderr) == (0, "")
    assert list((tmp_path / "tmp").iterdir()) == []


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
