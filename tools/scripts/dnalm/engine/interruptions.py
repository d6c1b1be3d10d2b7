"""The signals that end a job, as a question that a training asks."""

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType


@dataclass
class Interruption:
    """Whether the job was told to end, once there is something to keep; before that it ends at once."""

    awaited: bool = False
    told: bool = False

    def __call__(self) -> bool:
        """Say whether the job was told to end."""
        return self.told


@contextlib.contextmanager
def told_to_end() -> Iterator[Interruption]:
    """Turn the signals that end a job into a question that the training asks."""
    interruption = Interruption()
    usual = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def tell(number: int, frame: FrameType | None) -> None:
        handler = usual[signal.Signals(number)]
        if interruption.awaited:
            interruption.told = True
        elif callable(handler):
            handler(number, frame)
        else:
            raise SystemExit(128 + number)

    for number in usual:
        signal.signal(number, tell)
    try:
        yield interruption
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
