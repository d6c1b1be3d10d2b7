"""Progress on stdout: one flushed line every few seconds, with rate and time left."""

import time
from collections.abc import Callable


class Progress:
    """Count what is done and say so now and then.

    Args:
        what: the things counted, plural.
        fraction: how much of the input has been read, 0 to 1; the time left follows from it.
        every: seconds between two lines.
    """

    def __init__(self, what: str, fraction: Callable[[], float], every: float = 5.0) -> None:
        self.what, self.fraction, self.every = what, fraction, every
        self.done = 0
        self.start = self.last = time.monotonic()

    def add(self, count: int) -> None:
        """Count things done."""
        self.done += count
        now = time.monotonic()
        if now - self.last < self.every:
            return
        self.last = now
        elapsed = now - self.start
        read = self.fraction()
        left = f", about {duration(elapsed / read - elapsed)} left" if 0.01 < read < 1 else ""
        print(f"{self.done:,} {self.what}, {self.done / elapsed:.1f} a second{left}", flush=True)


def duration(seconds: float) -> str:
    """Return a time as people say it."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{max(1, round(seconds))} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes / 60:.1f} h"
