"""An HTTP client whose answers have a bounded size and a bounded time, whatever a server sends."""

import json
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import httpx2

FEWEST_TOKENS = 1_024  # that an answer may have: short sequences may be padded to a model's length
MOST_DIMENSIONS = 8_192  # of a token
MOST_NUMBERS = 1 << 24  # of an answer; a quarter of a gigabyte of JSON, and half as much again when it is read
NUMBER_BYTES = 32  # of a number in JSON, with what stands around it
OTHER_BYTES = 1 << 16  # of an answer, beside its numbers
BRACKETS = 4  # opened for a token, quotes included
OTHER_BRACKETS = 10_000
ERROR_BYTES = 1 << 16  # read of an answer that is an error
ERROR_SECONDS = 10.0  # in which it is read
MOST_REDIRECTS = 5
# Both grow a thousandfold at most, in pieces of 64 KiB; one inside the other, and others, may grow without a bound.
ENCODINGS = ("", "identity", "gzip", "deflate")

Result = TypeVar("Result")


class RedirectedElsewhere(Exception):  # noqa: N818 (an outcome)
    """A server sends a request elsewhere that is not to go there."""


class UnusableAnswer(Exception):  # noqa: N818 (an outcome)
    """An answer was not read to its end; the text says why."""


class BoundedClient(httpx2.Client):
    """A client that reads an answer whole when it is sent, and at most so much and so long as its request lets expect.

    Of an error (status 400 and above) only the words of a JSON object's `error` and its `estimated_time` are kept, and no
    body of whatever kind hides the status. Redirects are followed where nothing is sent but the address (GET).

    Args:
        within: seconds for a whole answer.
    """

    def __init__(self, within: float) -> None:
        super().__init__(follow_redirects=True)
        self._within = within

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send a request and return its answer, read.

        Raises:
            RedirectedElsewhere, UnusableAnswer: see there.
            TimeoutError: the answer is not whole in time.
            httpx2.HTTPError: there is none.
        """
        deadline = time.monotonic() + self._within
        options |= {"stream": True, "follow_redirects": False}
        for _ in range(MOST_REDIRECTS + 1):
            request.headers["accept-encoding"] = "gzip, deflate"
            response = super().send(request, **options)
            try:
                if not response.is_redirect:
                    return _read(response, deadline)
                if request.method != "GET":
                    raise RedirectedElsewhere
            finally:
                response.close()
            if response.next_request is None:
                break
            request = response.next_request
        raise UnusableAnswer("the answer sends from one address to the next")


def _read(response: httpx2.Response, deadline: float) -> httpx2.Response:
    content = _error(response, deadline) if response.is_error else _answer(response, deadline)
    headers = httpx2.Headers(response.headers)
    for name in ("content-encoding", "content-length", "transfer-encoding"):
        headers.pop(name, None)
    return httpx2.Response(response.status_code, headers=headers, content=content, request=response.request)


def _answer(response: httpx2.Response, deadline: float) -> bytes:
    if response.headers.get("content-encoding", "").strip().lower() not in ENCODINGS:
        raise UnusableAnswer("the answer is compressed in a way that was not asked for")
    asked = len(response.request.read())  # bytes, hardly more than the bases sent
    tokens = max(FEWEST_TOKENS, asked)
    numbers = min(MOST_NUMBERS, MOST_DIMENSIONS * tokens)
    most = NUMBER_BYTES * numbers + OTHER_BYTES
    parts, size = [], 0
    for part in response.iter_bytes():
        size += len(part)
        if size > most:
            raise UnusableAnswer(f"the answer has more than {most >> 20:,} MiB")
        if time.monotonic() > deadline:
            raise TimeoutError
        parts.append(part)
    content = b"".join(parts)
    if response.request.method == "GET":  # of the hub, about a model
        return content
    brackets = sum(content.count(mark) for mark in (b"[", b"{", b'"'))
    # A list of short lists takes twenty times its text in memory.
    if content.count(b",") > numbers or brackets > BRACKETS * tokens + OTHER_BRACKETS:
        raise UnusableAnswer("the answer has more numbers or lists than embeddings of these sequences")
    return content


def _error(response: httpx2.Response, deadline: float) -> bytes:
    deadline = min(deadline, time.monotonic() + ERROR_SECONDS)
    content = b""
    try:
        if response.headers.get("content-encoding", "").strip().lower() in ENCODINGS:
            for part in response.iter_bytes():
                content += part[:ERROR_BYTES]
                if len(content) > ERROR_BYTES or time.monotonic() > deadline:
                    break
        said = json.loads(content[:ERROR_BYTES])
    except (ValueError, RecursionError, httpx2.HTTPError, httpx2.StreamError):
        said = None
    kept = {name: said[name] for name in ("error", "estimated_time") if name in said} if isinstance(said, dict) else {}
    if "error" in kept:
        kept["error"] = str(kept["error"])
    return json.dumps(kept).encode()


def in_time(call: Callable[[], Result], seconds: float) -> Result:
    """Return what a call returns, or raise what it raises; it runs in a thread that is left alone when its time is over.

    A server that sends its headers letter by letter is read by a library that has no bound for them all.

    Raises:
        TimeoutError: the time is over.
    """
    outcomes: queue.SimpleQueue[tuple[list[Result], BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            outcomes.put(([call()], None))
        except BaseException as error:  # raised where it is waited for
            outcomes.put(([], error))

    threading.Thread(target=work, daemon=True).start()
    try:
        results, error = outcomes.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError from None
    if error is not None:
        raise error
    return results[0]
