"""Work shared out to processes that each have a model of their own: one a GPU, or several that share the CPU's threads."""

import multiprocessing
import os
import queue
import signal
import sys
import threading
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

if TYPE_CHECKING:
    from dnalm.engine.devices import Machine  # brings torch, which a baseline does not need

Part = TypeVar("Part")
Result = TypeVar("Result")
Kept = TypeVar("Kept")
Done = Callable[[int], None]
# Does the work of one part, telling how many of its records are finished now and then.
Work = Callable[[Part, Done], Result]
# From the machine of a process: the work, and what the task has to know of it, asked of one process.
Make = Callable[["Machine"], tuple[Work[Part, Result], Callable[[], Any]]]

# Parts that are on their way, a process: one that it works on, and one that waits for it or to be written.
PARTS_ON_THEIR_WAY = 2


class Crew(Generic[Part, Result]):
    """Processes that do the same work; `told` is what the first said of it."""

    def __init__(self, told: Any, run: "Callable[[Part, Done], Future[Result]]", on_their_way: int) -> None:
        self.told, self._run, self._on_their_way = told, run, on_their_way

    def results(
        self, parts: Iterable[tuple[Kept, Part]], on_done: Done = lambda count: None
    ) -> Iterator[tuple[Kept, Result]]:
        """Yield what is kept of each part here with its result, in the order given; few parts are held at a time."""
        lock = threading.Lock()

        def count_done(count: int) -> None:
            with lock:
                on_done(count)

        waiting: deque[tuple[Kept, Future[Result]]] = deque()
        for kept, part in parts:
            waiting.append((kept, self._run(part, count_done)))
            if len(waiting) == self._on_their_way:
                first, result = waiting.popleft()
                yield first, result.result()
        while waiting:
            first, result = waiting.popleft()
            yield first, result.result()


@contextmanager
def crew(make: Make[Part, Result], machine: "Machine", seed: int = 0) -> Iterator[Crew[Part, Result]]:
    """Yield the processes that a machine is for, each with work of its own; end them on the way out.

    Args:
        make: called in each process, to load its model; pickled, as are parts, results and what is told. Where there is
            one process alone it is this one, and nothing is pickled.
        machine: as `prepare_machine` returns it.
        seed: of random numbers, the same in each process.

    What a process raises is raised here, when its result is asked for.

    Raises:
        MemoryError: a process was killed, as the kernel does when the memory is exhausted.
    """
    if machine.processes == 1:
        yield in_this_process(*make(machine))
        return
    workers: list[_Worker] = []
    idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()

    def run(part: Part, on_done: Done) -> Result:
        worker = idle.get()
        try:
            return worker.ask(part, on_done)
        finally:
            idle.put(worker)

    threads = ThreadPoolExecutor(machine.processes)
    try:
        for number in range(machine.processes):
            workers.append(_Worker(make, machine.of_process(number), number > 0, seed))
        told = [worker.answer(lambda count: None) for worker in workers]
        for worker in workers:
            idle.put(worker)
        on_their_way = PARTS_ON_THEIR_WAY * machine.processes
        yield Crew(told[0], lambda part, on_done: threads.submit(run, part, on_done), on_their_way)
    finally:
        # First the processes: a thread that waits for one then ends by itself.
        for worker in workers:
            worker.end()
        threads.shutdown(cancel_futures=True)
        for worker in workers:
            worker.close()


def in_this_process(work: Work[Part, Result], tell: Callable[[], Any]) -> Crew[Part, Result]:
    """Return a crew of this process alone: each part is done when it is asked for."""
    return Crew(tell(), lambda part, on_done: _finished(work(part, on_done)), 1)


def _finished(result: Result) -> "Future[Result]":
    future: Future[Result] = Future()
    future.set_result(result)
    return future


class _Worker:
    """One process, seen from the one that started it; one thread at a time may ask it."""

    def __init__(self, make: Make[Any, Any], machine: "Machine", silent: bool, seed: int) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would inherit locks of threads, and no GPU
        self._connection, others = context.Pipe()
        self._process: SpawnProcess = context.Process(
            target=_work, args=(others, make, machine, silent, seed), daemon=True
        )
        # What ends a job may reach every process of it: this one ends the others. What is blocked is inherited.
        usual = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, usual)
        others.close()

    def ask(self, part: Any, on_done: Done) -> Any:
        """Return the result of a part."""
        try:
            self._connection.send(part)
        except OSError:
            self._gone()
        return self.answer(on_done)

    def answer(self, on_done: Done) -> Any:
        """Wait for a result; raise what the process raised."""
        while True:
            try:
                kind, content = self._connection.recv()
            except (EOFError, OSError):
                self._gone()
            if kind == "done":
                on_done(content)
            elif kind == "raised":
                raise content
            else:
                return content

    def _gone(self) -> NoReturn:
        """Say why the process is no more."""
        self._process.join()
        if self._process.exitcode == -signal.SIGKILL:
            raise MemoryError
        raise RuntimeError(f"A process of the job ended with exit code {self._process.exitcode}.")

    def end(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()  # it writes no files
        self._process.join()

    def close(self) -> None:
        """Forget the process, when nobody asks it any more."""
        self._connection.close()


def _work(
    connection: Connection,
    make: Make[Any, Any],
    machine: "Machine",
    silent: bool,
    seed: int,
) -> None:
    """Make the work and do part after part, until the process that gives them is gone."""
    from dnalm.engine.devices import settle

    warnings.simplefilter("ignore")
    if silent:  # one voice: all would say the same
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    try:
        settle(machine, seed)
        work, tell = make(machine)
        connection.send(("told", None if silent else tell()))
        while True:
            part = connection.recv()
            connection.send(("result", work(part, lambda count: connection.send(("done", count)))))
    except (EOFError, ConnectionError):  # nobody is left to work for
        return
    except Exception as error:
        error.add_note("".join(traceback.format_exception(error)))
        connection.send(("raised", error))
