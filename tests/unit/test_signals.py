"""Signals that end a job wait until a block is done."""

import signal
import threading
from collections.abc import Iterator
from types import FrameType

import pytest
from dnalm.signals import kept_waiting

Received = list[int]
ENDING = (signal.SIGTERM, signal.SIGINT)


@pytest.fixture
def received() -> Iterator[Received]:
    """Numbers of the signals that have arrived, in their order; afterwards the handlers are as before."""
    numbers: Received = []

    def remember(number: int, frame: FrameType | None) -> None:
        numbers.append(number)

    before = {number: signal.signal(number, remember) for number in ENDING}
    yield numbers
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_arrives_when_the_block_is_done(received: Received, number: int) -> None:
    with kept_waiting():
        signal.raise_signal(number)
        assert received == []
    assert received == [number]


def test_of_several_signals_the_first_arrives(received: Received) -> None:
    with kept_waiting():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
    assert received == [signal.SIGINT]


def test_handlers_are_as_before_even_after_an_error(received: Received) -> None:
    handlers = [signal.getsignal(number) for number in ENDING]
    with pytest.raises(ZeroDivisionError), kept_waiting():
        signal.raise_signal(signal.SIGTERM)
        raise ZeroDivisionError
    assert received == [signal.SIGTERM]
    assert [signal.getsignal(number) for number in ENDING] == handlers
    signal.raise_signal(signal.SIGINT)
    assert received == [signal.SIGTERM, signal.SIGINT]


def test_an_exception_of_a_signal_leaves_the_block_when_it_is_done() -> None:
    done = []
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), kept_waiting():
            signal.raise_signal(signal.SIGINT)
            done.append("the rest of the block")
    finally:
        signal.signal(signal.SIGINT, handler)
    assert done == ["the rest of the block"]


def test_blocks_may_lie_in_one_another(received: Received) -> None:
    with kept_waiting():
        with kept_waiting():
            signal.raise_signal(signal.SIGTERM)
        assert received == []
    assert received == [signal.SIGTERM]


def test_a_function_may_be_decorated(received: Received) -> None:
    @kept_waiting()
    def work() -> list[int]:
        signal.raise_signal(signal.SIGTERM)
        return list(received)

    assert work() == []
    assert received == [signal.SIGTERM]


def test_other_threads_have_nothing_to_do_with_signals(received: Received) -> None:
    """Only the main thread may set a handler: elsewhere the block simply runs."""
    handlers = [signal.getsignal(number) for number in ENDING]
    seen: list[object] = []

    def work() -> None:
        with kept_waiting():
            seen.extend(signal.getsignal(number) for number in ENDING)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == handlers
