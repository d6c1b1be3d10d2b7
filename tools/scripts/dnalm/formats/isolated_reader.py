"""Binary files of users, parsed in a child process: a crash, an endless loop or a lack of memory there is a sentence here.

Libraries in C (HDF5, Arrow, libBigWig) crash or loop on damaged files. The child has limits of memory and processor time
and may write no file; it answers one request after the other over pipes. A message is the length of a JSON header (8
bytes, little-endian), the header, `{"value": …, "arrays": [[dtype, shape], …]}`, and the bytes of the arrays in C order,
each filled up to whole 8: nothing in it is executed, and dtypes and sizes are checked before memory is taken.
"""

import contextlib
import fcntl
import itertools
import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from dnalm.errors import DISK_IS_FULL, UserError

SECONDS = 60  # of processor time, for one request
LEAST_MEMORY = 2 << 30  # bytes of address space
MOST_HEADER = 64 << 20  # bytes
MOST_ARRAYS = 2 << 30  # bytes of one message
ALIGNED = 8  # bytes; of an array's place in a message
PIPE_SIZE = 1 << 20  # bytes, where the system allows it
DTYPES = {"|b1", "|i1", "|u1", *(f"<{kind}{size}" for kind in "iu" for size in (2, 4, 8)), "<f2", "<f4", "<f8"}
SCRIPTS = Path(__file__).resolve().parents[2]

Arrays = Sequence[NDArray[Any]]


class Refused(Exception):  # noqa: N818 (it is a decision, not an error)
    """A child's reason not to read a file: the rest of a sentence that begins with the file's name."""


class NotUnderstood(Exception):  # noqa: N818
    """An exception of a library in a child, as text."""


@dataclass(frozen=True)
class Subject:
    """How sentences name a file, e.g. "The file 'x'", and what they say of it if its library raises an exception."""

    where: str
    damaged: str

    def sentence(self, reason: str) -> str:
        """Return the sentence for a file that cannot be read."""
        return f"{self.where} {reason}. Make or upload it again."


@dataclass(frozen=True)
class Answer:
    """What an operation returns: anything that JSON holds, and arrays."""

    value: Any = None
    arrays: Arrays = ()


def memory_limit() -> int:
    """Return the bytes that a child may take: the job's memory, or else half of the machine's."""
    job = os.environ.get("GALAXY_MEMORY_MB", "")
    if job.isascii() and job.isdigit() and int(job):
        return max(int(job) << 20, LEAST_MEMORY)
    return max(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2, LEAST_MEMORY)


class ReaderProcess:
    """A child process that runs a module of operations; use it in a `with`, or close it.

    Args:
        module: the full name of a module that calls `serve`.
        writes: whether it may write files.
    """

    def __init__(self, module: str, *, writes: bool = False) -> None:
        self._memory = memory_limit()
        limits = {"memory": self._memory, "seconds": SECONDS, "writes": writes}
        paths = [str(SCRIPTS), *filter(None, [os.environ.get("PYTHONPATH")])]
        # One thread: several would only wait for each other, and take address space.
        settings = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}
        self._module, self._ready = module, False
        self._expected = 0  # answers
        try:
            self._process = subprocess.Popen(  # noqa: S603 (our own module)
                [sys.executable, "-P", "-m", module, json.dumps(limits)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # libraries print there what the sentence says
                bufsize=0,
                env={**os.environ, **settings, "PYTHONPATH": os.pathsep.join(paths)},
            )
        except OSError as error:  # no more processes or files
            raise UserError(
                f"No process that reads files can be started ({error.strerror}). Run the job again."
            ) from error
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(AttributeError, OSError):  # Linux alone has the setting
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_SIZE)  # type: ignore[arg-type]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child; what it has written stays."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        self._process.wait()

    def ask(self, subject: Subject, operation: str, *arguments: Any, arrays: Arrays = ()) -> Answer:
        """Have the child do something with a file, and return its answer.

        Raises:
            UserError: the file is refused or damaged, or the child ended while it read the file.
            OSError: the disk is full.
        """
        self._request(subject, [operation, *arguments], arrays)
        return self._answer(subject)

    def stream(self, subject: Subject, requests: Iterable[Sequence[Any]]) -> Iterator[Answer]:
        """Yield the answers to requests (operation and arguments): the child prepares one while the last one is used."""
        ahead = iter(requests)
        if (request := next(ahead, None)) is None:
            return
        self._request(subject, request, ())
        for request in ahead:
            answer = self._answer(subject)
            self._request(subject, request, ())
            yield answer
            if self._expected != 1:
                raise RuntimeError("another request has taken the answer")
        yield self._answer(subject)

    def _request(self, subject: Subject, request: Sequence[Any], arrays: Arrays) -> None:
        with self._ended_by(subject):
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            if not self._ready:
                _receive(self._process.stdout)
                self._ready = True
            while self._expected:  # answers that a stream was not asked for any more
                _receive(self._process.stdout)
                self._expected -= 1
            _send(self._process.stdin, request, arrays)
            self._expected += 1

    def _answer(self, subject: Subject) -> Answer:
        with self._ended_by(subject):
            assert self._process.stdout is not None
            answer = _receive(self._process.stdout)
            self._expected -= 1
            kind, value = answer.value
            if kind not in ("done", "refused", "memory", "full", "damaged"):
                raise ValueError(f"an answer of the unknown kind {kind}")
        if kind == "refused":
            raise UserError(f"{subject.where} {value}")
        if kind == "memory":
            raise UserError(self._too_large(subject))
        if kind == "full":
            raise OSError(value, os.strerror(value))
        if kind == "damaged":
            raise UserError(subject.sentence(subject.damaged)) from NotUnderstood(value)
        return Answer(value, answer.arrays)

    @contextlib.contextmanager
    def _ended_by(self, subject: Subject) -> Iterator[None]:
        """Turn the end of the child into a sentence; after any exception the rest of a message could not be told."""
        try:
            yield
        except BaseException as error:
            if isinstance(error, EOFError | BrokenPipeError):
                self._raise_end(subject, self._process.wait(), error)
            self.close()
            if isinstance(error, ValueError | TypeError | KeyError | RecursionError):
                raise UserError(subject.sentence("is damaged: reading it crashed")) from error
            raise

    def _raise_end(self, subject: Subject, code: int, error: Exception) -> NoReturn:
        if not self._ready:
            raise RuntimeError(f"{sys.executable} -m {self._module} ended with {code}") from error
        if code == -signal.SIGXCPU:
            raise UserError(subject.sentence("is damaged: reading it did not end")) from error
        if code == -signal.SIGKILL:  # by the system, when memory is exhausted
            raise UserError(self._too_large(subject)) from error
        raise UserError(subject.sentence("is damaged: reading it crashed")) from error

    def _too_large(self, subject: Subject) -> str:
        return (
            f"{subject.where} needs more than {self._memory / 2**30:.1f} GB of memory to be read. Make it again, or run the "
            "job with more memory."
        )


def serve(operations: Mapping[str, Callable[..., Answer]]) -> NoReturn:
    """Answer the parent's requests until it ends; the limits are the process's first argument."""
    limits = json.loads(sys.argv[1])
    requests = os.fdopen(os.dup(0), "rb", buffering=0)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    with open(os.devnull, "r+b", buffering=0) as nothing:  # noqa: PTH123
        for number in (0, 1):  # so that no library writes into an answer
            os.dup2(nothing.fileno(), number)
    _set_limits(limits["memory"], limits["writes"])
    try:
        _send(answers, ["ready", None], ())
        while True:
            request = _receive(requests)
            _renew_time(limits["seconds"])
            name, *arguments = request.value
            value, arrays = _result(operations[name], arguments, request.arrays)
            _send(answers, value, arrays)
    except (EOFError, BrokenPipeError):
        pass
    os._exit(0)  # without a library's clean-up of what may be damaged


def name_for_library(path: str) -> str:
    """Return a name of a file for libraries that take UTF-8 alone; the file stays open if it has another name."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return f"/dev/fd/{os.open(path, os.O_RDONLY)}"
    return path


def _set_limits(memory: int, writes: bool) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # of the whole group: the parent ends, and with it this process
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    limits = {resource.RLIMIT_AS: memory, resource.RLIMIT_CORE: 0, **({} if writes else {resource.RLIMIT_FSIZE: 0})}
    for kind, wanted in limits.items():
        hard = resource.getrlimit(kind)[1]
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(ValueError, OSError):  # macOS limits no address space
            resource.setrlimit(kind, (most, most))


def _renew_time(seconds: int) -> None:
    """Let SIGXCPU end the process when it has used so many more seconds; it needs no Python code to run."""
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = math.ceil(time.process_time()) + seconds
    if hard != resource.RLIM_INFINITY:  # at which SIGKILL comes, as when memory is exhausted
        soft = min(soft, max(1, hard - 1))
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _result(operation: Callable[..., Answer], arguments: Sequence[Any], arrays: Arrays) -> tuple[list[Any], Arrays]:
    """Run an operation; whatever its library raises is an answer."""
    try:
        answer = operation(*arguments, *arrays)
    except Refused as error:
        return ["refused", str(error)], ()
    except MemoryError:
        return ["memory", None], ()
    except Exception as error:  # of any class, see above
        if isinstance(error, OSError) and error.errno in DISK_IS_FULL:
            return ["full", error.errno], ()
        return ["damaged", f"{type(error).__name__}: {error}"[:1000]], ()
    return ["done", answer.value], answer.arrays


def _send(stream: IO[bytes], value: Any, arrays: Arrays) -> None:
    sent = [np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")) for array in arrays]
    described = [[array.dtype.str, list(array.shape)] for array in sent]
    header = json.dumps({"value": value, "arrays": described}).encode()
    _write(stream, len(header).to_bytes(8, "little") + header)
    if len(sent) == 1 and sent[0].nbytes % ALIGNED == 0:
        _write(stream, sent[0].reshape(-1).view(np.uint8).data)
    elif sent:  # in one go: many small ones, each a call of the system, would take longer
        whole = np.zeros(sum(_room(array.nbytes) for array in sent), dtype=np.uint8)
        start = 0
        for array in sent:
            whole[start : start + array.nbytes] = array.reshape(-1).view(np.uint8)
            start += _room(array.nbytes)
        _write(stream, whole.data)


def _room(size: int) -> int:
    """Return the bytes that an array takes in a message."""
    return -(-size // ALIGNED) * ALIGNED


def _write(stream: IO[bytes], data: bytes | memoryview) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[stream.write(rest) :]


def _receive(stream: IO[bytes]) -> Answer:
    size = int.from_bytes(_bytes(stream, 8), "little")
    if size > MOST_HEADER:
        raise ValueError("a header without end")
    header = json.loads(_bytes(stream, size))
    sizes: list[int] = []
    for name, shape in header["arrays"]:
        if name not in DTYPES or len(shape) > 2 or not all(type(length) is int and length >= 0 for length in shape):
            raise ValueError("an array of an unknown kind")
        sizes.append(math.prod(shape) * np.dtype(name).itemsize)
    if sum(map(_room, sizes)) > MOST_ARRAYS:
        raise ValueError("arrays without end")
    whole = np.empty(sum(map(_room, sizes)), dtype=np.uint8)
    _fill(stream, whole.data)
    arrays: list[NDArray[Any]] = []
    start = 0
    for (name, shape), size in zip(header["arrays"], sizes, strict=True):
        arrays.append(whole[start : start + size].view(name).reshape(shape))
        start += _room(size)
    return Answer(header["value"], arrays)


def _bytes(stream: IO[bytes], size: int) -> bytearray:
    data = bytearray(size)
    _fill(stream, memoryview(data))
    return data


def _fill(stream: IO[bytes], view: memoryview) -> None:
    while view:
        count = stream.readinto(view)  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        view = view[count:]


def texts_as_arrays(texts: Sequence[str]) -> list[NDArray[Any]]:
    """Return texts as two arrays, the lengths and all bytes in UTF-8; `texts_of_arrays` is the way back."""
    parts = [text.encode("utf-8", "surrogatepass") for text in texts]
    lengths = np.fromiter(map(len, parts), dtype=np.int64, count=len(parts))
    return [lengths, np.frombuffer(b"".join(parts), dtype=np.uint8)]


def texts_of_arrays(arrays: Arrays, count: int) -> list[str]:
    """Return the texts of two arrays.

    Raises:
        ValueError: the arrays do not hold so many texts.
    """
    lengths, data = arrays
    ends = np.cumsum(lengths)
    if lengths.shape != (count,) or lengths.dtype != np.int64 or (lengths < 0).any() or data.dtype != np.uint8:
        raise ValueError("texts without their lengths")
    if (int(ends[-1]) if count else 0) != data.size:
        raise ValueError("texts of other lengths")
    whole = data.tobytes()
    starts = [0, *ends.tolist()]
    return [whole[first:last].decode("utf-8", "surrogatepass") for first, last in itertools.pairwise(starts)]
