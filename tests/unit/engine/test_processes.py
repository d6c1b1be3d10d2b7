"""Processes that share work out, with work small enough to see how."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from dnalm.engine.devices import Machine
from dnalm.engine.processes import crew
from dnalm.errors import UserError

Done = Callable[[int], None]
TWO = Machine(torch.device("cpu"), 1, 1_024, processes=2)


def squares(offset: int, machine: Machine) -> tuple[Callable[[float, Done], dict[str, Any]], Callable[[], str]]:
    """The square of a part, which takes as many tenths of a second as the part says."""

    def square(part: float, on_done: Done) -> dict[str, Any]:
        if part == -1:
            raise UserError("A part is -1; give another.")
        if part == -2:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(part / 10)
        on_done(1)
        return {"square": part**2 + offset, "process": os.getpid(), "threads": torch.get_num_threads()}

    return square, lambda: f"squares, {machine.processes} process"


def taken(parts: list[float], most_ahead: list[int], yielded: list[int]) -> Iterator[tuple[float, float]]:
    """Give the parts, noting how many are out at most."""
    for number, part in enumerate(parts, start=1):
        most_ahead[0] = max(most_ahead[0], number - yielded[0])
        yield part, part


@pytest.mark.slow
def test_results_come_in_order_from_all_processes_and_few_parts_are_out() -> None:
    parts: list[float] = [3, 0, 1, 0, 2, 0, 0, 1, 0, 0, 0, 0]
    most_ahead, yielded = [0], [0]
    done: list[int] = []
    found: list[float] = []
    with crew(partial(squares, 7), TWO) as workers:
        assert workers.told == "squares, 1 process"
        for part, result in workers.results(taken(parts, most_ahead, yielded), done.append):
            yielded[0] += 1
            found.append(part)
            assert result["square"] == part**2 + 7
            assert result["threads"] == 1
        processes = {result["process"] for _, result in workers.results([(1, 1)] * 4)}
    assert found == parts
    assert sum(done) == len(parts)
    assert 2 < most_ahead[0] <= 4 + 1
    assert len(processes) == 2
    assert os.getpid() not in processes
    assert multiprocessing.active_children() == []


def test_one_process_is_this_one() -> None:
    held = 5  # a closure cannot be pickled

    def make(machine: Machine) -> tuple[Callable[[int, Done], int], Callable[[], str]]:
        return lambda part, on_done: part + held, lambda: "told"

    with crew(make, Machine(TWO.device, 1, 1)) as one:
        assert one.told == "told"
        assert list(one.results([(10, 1), (20, 2)])) == [(10, 6), (20, 7)]


@pytest.mark.slow
@pytest.mark.parametrize(("bad", "error", "said"), [(-1, UserError, "A part is -1"), (-2, MemoryError, "^$")])
def test_what_ends_a_process_is_raised_and_ends_the_others(bad: float, error: type[Exception], said: str) -> None:
    seen = []
    with pytest.raises(error, match=said), crew(partial(squares, 0), TWO) as workers:
        for part, _ in workers.results([(part, part) for part in (2, bad, 0, 300, 300)]):
            seen.append(part)
    assert seen == [2]
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_the_error_of_making_work_is_raised() -> None:
    with pytest.raises(UserError, match="no work"), crew(refuse, TWO):
        pass
    assert multiprocessing.active_children() == []


def refuse(machine: Machine) -> Any:
    raise UserError("There is no work; give some.")
