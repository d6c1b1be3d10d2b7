"""Whatever happens in the child is one sentence here, and what comes from it is checked before it is believed."""

import ast
import os
import resource
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import REPOSITORY
from dnalm.errors import UserError
from dnalm.formats import isolated_reader
from dnalm.formats.isolated_reader import (
    ReaderProcess,
    Subject,
    memory_limit,
    name_for_library,
    texts_as_arrays,
    texts_of_arrays,
)

SUBJECT = Subject("The file 'x'", "is a damaged test file")
CHILD = """
import fcntl, os, resource, signal, sys, time
import numpy as np
from dnalm.formats.isolated_reader import Answer, Refused, serve

class Own(Exception):
    def __str__(self):
        return "said of it"

def echo(value, *arrays):
    return Answer(value, arrays)

def crash():
    os.kill(os.getpid(), signal.SIGSEGV)

def abort():
    os.abort()

def leave():
    os._exit(0)

def loop():
    while True:
        pass

def compute(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return Answer()

def fill():
    kept = [np.ones(1 << 20) for _ in range(1 << 20)]

def killed():
    os.kill(os.getpid(), signal.SIGKILL)

def refuse():
    raise Refused("is not wanted. Leave it out.")

def fail():
    raise Own

def fail_of_the_system():
    raise SystemError

def write(path):
    with open(path, "wb") as file:
        file.write(b"x")
    return Answer()

def speak():
    print("on stdout", flush=True)
    os.write(1, b"more")
    os.write(2, b"on stderr")
    return Answer("said")

def raw(header, data):
    pipes = (number for number in range(3, 20) if os.path.exists(f"/proc/self/fd/{number}"))
    answers = next(number for number in pipes if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_WRONLY)
    os.write(answers, len(header).to_bytes(8, "little") + header.encode() + data.encode("latin-1"))
    os._exit(0)

def limits():
    return Answer([resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE)])

def name():
    return Answer(os.getpid())

if __name__ == "__main__":
    serve({key: value for key, value in globals().items() if callable(value)})
"""


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that starts a child with the operations above."""
    (tmp_path / "operations.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(isolated_reader, "LEAST_MEMORY", 1 << 30)
    monkeypatch.setenv("GALAXY_MEMORY_MB", "1024")
    return lambda **options: ReaderProcess("operations", **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(9, dtype=">i4")[::2],
        np.zeros((0, 4), np.uint8),
        np.array([True, False]),
        np.array(3, np.int64),
        np.ones(3_000_000, np.float16),
    ],
)
def test_values_and_arrays_go_there_and_back(child: Any, array: np.ndarray) -> None:
    value = {"text": "gène\n\ud800", "list": [1, None, 2.5]}
    with child() as process:
        for _ in range(2):
            answer = process.ask(SUBJECT, "echo", value, arrays=[array, array])
            assert answer.value == value
            for found in answer.arrays:
                np.testing.assert_array_equal(found, array)


ENDS = {
    "crash": "The file 'x' is damaged: reading it crashed. Make or upload it again.",
    "abort": "The file 'x' is damaged: reading it crashed. Make or upload it again.",
    "leave": "The file 'x' is damaged: reading it crashed. Make or upload it again.",
    "loop": "The file 'x' is damaged: reading it did not end. Make or upload it again.",
    "fill": "The file 'x' needs more than 1.0 GB of memory to be read.",
    "killed": "The file 'x' needs more than 1.0 GB of memory to be read.",
    "refuse": "The file 'x' is not wanted. Leave it out.",
    "fail": "The file 'x' is a damaged test file. Make or upload it again.",
    "fail_of_the_system": "The file 'x' is a damaged test file. Make or upload it again.",
}


SLOW = ("loop", "fill")


@pytest.mark.slow
@pytest.mark.parametrize(
    "operation", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in ENDS]
)
def test_an_end_is_one_sentence(child: Any, monkeypatch: pytest.MonkeyPatch, operation: str) -> None:
    monkeypatch.setattr(isolated_reader, "SECONDS", 1)
    with child() as process, pytest.raises(UserError) as caught:
        process.ask(SUBJECT, operation)
    assert str(caught.value).startswith(ENDS[operation])


def test_an_exception_says_why_to_those_who_look(child: Any) -> None:
    with child() as process:
        with pytest.raises(UserError) as caught:
            process.ask(SUBJECT, "fail")
        assert str(caught.value.__cause__) == "Own: said of it"
        assert process.ask(SUBJECT, "echo", 1).value == 1  # and the child goes on


@pytest.mark.slow
def test_each_request_has_its_own_time(child: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolated_reader, "SECONDS", 1)
    with child() as process:
        for _ in range(4):
            process.ask(SUBJECT, "compute", 0.7)


@pytest.mark.parametrize("writes", [False, True])
def test_a_reader_can_write_no_file(child: Any, tmp_path: Path, writes: bool) -> None:
    with child(writes=writes) as process:
        core, size = process.ask(SUBJECT, "limits").value
        assert (core, size == 0) == (0, not writes)
        if writes:
            process.ask(SUBJECT, "write", str(tmp_path / "y"))
        else:
            with pytest.raises(OSError, match="File too large"):
                process.ask(SUBJECT, "write", str(tmp_path / "y"))
    assert (tmp_path / "y").read_bytes() == (b"x" if writes else b"")


def test_what_a_library_prints_is_in_no_answer(child: Any, capfd: pytest.CaptureFixture[str]) -> None:
    with child() as process:
        assert process.ask(SUBJECT, "speak").value == "said"
    assert capfd.readouterr() == ("", "")


WRONG = {
    "no JSON": ("{", ""),
    "deep": ("[" * 100_000, ""),
    "a list": ("[1]", ""),
    "no kind": ('{"value": 3, "arrays": []}', ""),
    "unknown kind": ('{"value": ["x", 3], "arrays": []}', ""),
    "objects": ('{"value": ["done", 3], "arrays": [["|O", [1]]]}', "12345678"),
    "text": ('{"value": ["done", 3], "arrays": [["<U2", [1]]]}', "12345678"),
    "negative length": ('{"value": ["done", 3], "arrays": [["<f8", [-1]]]}', "12345678"),
    "endless": ('{"value": ["done", 3], "arrays": [["<f8", [1000000, 1000000]]]}', ""),
    "many axes": ('{"value": ["done", 3], "arrays": [["<f8", [1, 1, 1]]]}', "12345678"),
    "cut short": ('{"value": ["done", 3], "arrays": [["<f8", [2]]]}', "12345678"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_answer_is_not_believed(child: Any, case: str) -> None:
    """As of a child that a file has made do other things."""
    with child() as process, pytest.raises(UserError, match="is damaged: reading it crashed"):
        process.ask(SUBJECT, "raw", *WRONG[case])


def test_a_child_that_does_not_start_is_no_fault_of_the_file() -> None:
    with ReaderProcess("dnalm.formats.absent") as process, pytest.raises(RuntimeError, match="absent ended with 1"):
        process.ask(SUBJECT, "echo")


def test_answers_of_a_stream_come_in_order_and_what_is_left_of_them_is_dropped(child: Any) -> None:
    with child() as process:
        requests = [("echo", number) for number in range(5)]
        assert [answer.value for answer in process.stream(SUBJECT, requests)] == [0, 1, 2, 3, 4]
        assert list(process.stream(SUBJECT, [])) == []
        stream = process.stream(SUBJECT, requests)
        assert next(stream).value == 0
        assert process.ask(SUBJECT, "echo", "another").value == "another"
        with pytest.raises(RuntimeError, match="another request has taken the answer"):
            next(stream)


def test_a_machine_without_room_for_a_process_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolated_reader.sys, "executable", "/absent/python")
    with pytest.raises(UserError, match=r"No process that reads files can be started \(No such file or directory\)"):
        ReaderProcess("dnalm.formats.npz_process")


def test_nothing_is_left_running(child: Any) -> None:
    process = child()
    number = process.ask(SUBJECT, "name").value
    process.close()
    process.close()
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


@pytest.mark.slow
def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    program = """
import os, sys
from dnalm.formats.isolated_reader import ReaderProcess, Subject
child = ReaderProcess("dnalm.formats.npz_process")
print(child._process.pid, flush=True)
os._exit(0)
"""
    path = os.environ | {"PYTHONPATH": str(REPOSITORY / "scripts")}
    said = subprocess.run(["python", "-c", program], env=path, capture_output=True, text=True, check=True).stdout
    for _ in range(200):
        try:
            os.kill(int(said), 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError("it is still there")


def test_memory_is_that_of_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GALAXY_MEMORY_MB", "64000")
    assert memory_limit() == 64_000 << 20
    monkeypatch.setenv("GALAXY_MEMORY_MB", "10")
    assert memory_limit() == isolated_reader.LEAST_MEMORY
    for text in ("", "0", "-3", "much"):
        monkeypatch.setenv("GALAXY_MEMORY_MB", text)
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        assert memory_limit() == max(machine // 2, isolated_reader.LEAST_MEMORY)


@pytest.mark.parametrize("name", [b"x", "gène".encode(), b"g\xe8ne\n"])
def test_a_library_gets_a_name_that_it_can_open(tmp_path: Path, name: bytes) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/" + name)
    Path(path).write_bytes(b"content")
    assert Path(name_for_library(path).encode().decode()).read_bytes() == b"content"


@pytest.mark.parametrize("texts", [[], [""], ["a", "", "gène", "\ud800"]])
def test_texts_go_there_and_back(texts: list[str]) -> None:
    assert texts_of_arrays(texts_as_arrays(texts), len(texts)) == texts


@pytest.mark.parametrize(
    "arrays",
    [
        [np.array([1, 1]), np.zeros(2, np.uint8)],
        [np.array([1]), np.zeros(2, np.uint8)],
        [np.array([-1]), np.zeros(0, np.uint8)],
        [np.array([1.0]), np.zeros(1, np.uint8)],
        [np.array([1]), np.zeros(1, np.int8)],
        [np.array([1]), np.full(1, 255, np.uint8)],
        [np.array([1])],
    ],
)
def test_texts_of_other_arrays_are_refused(arrays: list[np.ndarray]) -> None:
    with pytest.raises(ValueError):
        texts_of_arrays(arrays, 1)


# Functions by which libraries open files of users, and where they may be called. Files of our own are made elsewhere.
OPENERS = {
    "h5py.File": {"hdf5_process.py", "embeddings_file.py"},
    "np.load": set(),
    "zipfile.ZipFile": {
        "npz_process.py",
        "embeddings_file.py",
        "attention_file.py",
        "probabilities_file.py",
        "pickled_weights.py",
    },
    "pyBigWig.open": {"bigwig_process.py"},
    "pq.ParquetFile": {"parquet_process.py"},
    "pq.read_table": set(),
    "read_elem": set(),
    "pd.read_parquet": set(),
    "pd.read_hdf": set(),
}


@pytest.mark.slow
def test_libraries_open_files_of_users_in_children_alone() -> None:
    found: dict[str, set[str]] = {name: set() for name in OPENERS}
    for path in (REPOSITORY / "tools" / "scripts").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and (name := ast.unparse(node.func)) in found:
                found[name].add(path.name)
    assert found == OPENERS


def test_the_parent_has_none_of_the_childs_limits(child: Any) -> None:
    before = resource.getrlimit(resource.RLIMIT_AS), resource.getrlimit(resource.RLIMIT_CPU)
    with child() as process:
        process.ask(SUBJECT, "echo", 1)
    assert (resource.getrlimit(resource.RLIMIT_AS), resource.getrlimit(resource.RLIMIT_CPU)) == before
