"""The signals that end a job, kept waiting where the exception they raise would do harm."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def kept_waiting() -> Iterator[None]:
    """Hold the signals that end a job back until the block, or the function so decorated, is done.

    For code in C that calls Python and takes no exception from it, as HDF5 with a file of ours.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone has to do with signals
        yield
        return
    told: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        told.append(number)

    usual = {number: signal.signal(number, remember) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
        for first in told[:1]:
            signal.raise_signal(first)
