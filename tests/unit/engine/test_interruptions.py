"""The signals that end a job: at once until there is something to keep, then as a question."""

import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest
from dnalm.engine.interruptions import Interruption, told_to_end

SIGNALS = [signal.SIGTERM, signal.SIGINT]


@pytest.fixture
def install() -> Iterator[Callable[[Any], None]]:
    """Return a function that sets the handler of both signals; what was there before comes back."""
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def call(handler: Any) -> None:
        for number in SIGNALS:
            signal.signal(number, handler)

    yield call
    for number, handler in before.items():
        signal.signal(number, handler)


def test_an_interruption_is_a_question() -> None:
    interruption = Interruption()
    assert not interruption()
    interruption.told = True
    assert interruption()


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_noted_once_there_is_something_to_keep(
    install: Callable[[Any], None], number: signal.Signals
) -> None:
    seen: list[int] = []
    install(lambda number, frame: seen.append(number))
    with told_to_end() as interruption:
        interruption.awaited = True
        assert not interruption()
        signal.raise_signal(number)
        assert interruption()
    assert seen == []


@pytest.mark.parametrize("number", SIGNALS)
def test_before_that_the_usual_handler_is_called(install: Callable[[Any], None], number: signal.Signals) -> None:
    seen: list[tuple[int, bool]] = []

    def usual(number: int, frame: FrameType | None) -> None:
        seen.append((number, frame is not None))

    install(usual)
    with told_to_end() as interruption:
        signal.raise_signal(number)
        assert not interruption()
    assert seen == [(number, True)]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_without_a_usual_handler_the_job_ends_with_the_shells_code(
    install: Callable[[Any], None], number: signal.Signals, code: int
) -> None:
    install(signal.SIG_DFL)
    with pytest.raises(SystemExit) as ended, told_to_end():
        signal.raise_signal(number)
    assert ended.value.code == code


def test_the_usual_handlers_come_back_even_after_an_error(install: Callable[[Any], None]) -> None:
    def usual(number: int, frame: FrameType | None) -> None: ...

    install(usual)
    with pytest.raises(ValueError, match="broken"), told_to_end():
        assert signal.getsignal(signal.SIGTERM) is not usual
        raise ValueError("broken")
    assert [signal.getsignal(number) for number in SIGNALS] == [usual, usual]
