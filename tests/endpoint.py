"""An inference endpoint on this machine: embeds by counting letters, and misbehaves in every way that a test asks for.

Its paths say how it answers: `/pooled` one vector a sequence, `/tokens` one a token as plain lists, `/pipeline` the same
within further brackets as the transformers pipelines do. Below `/open` no token is needed. `faults` are answered first,
one a request, in their order.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

WIDTH = 3  # bases of a token
DIMENSIONS = 5


def token_vectors(bases: str) -> list[list[float]]:
    """Return one vector a token: a special one in front, then pieces of three bases by their letters and their place."""
    pieces = [bases[start : start + WIDTH] for start in range(0, len(bases), WIDTH)]
    counted = [[*(float(piece.count(x)) for x in "ACGT"), float(place)] for place, piece in enumerate(pieces)]
    return [[9.0] * DIMENSIONS, *counted]


def pooled_vector(bases: str) -> list[float]:
    """Return the mean of a sequence's own tokens."""
    own = token_vectors(bases)[1:]
    return [sum(column) / len(own) for column in zip(*own, strict=True)]


@dataclass(frozen=True)
class Asked:
    """A request: where to, with which token, and which sequences."""

    path: str
    token: str | None
    sequences: list[str]


@dataclass(frozen=True)
class Fault:
    """An answer that is no embedding, or that comes late or never."""

    status: int = 200
    content: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0
    breaks_off: bool = False
    drips: Literal["", "headers", "body", "no end"] = ""  # what is sent letter by letter, or without an end


@dataclass
class EndpointServer:
    """The server's state: what it was asked, what it is to do wrong, whom it lets in."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    faults: deque[Fault] = field(default_factory=deque)
    # Whether a request of so many sequences, or of one sequence, is answered with a fault.
    fault_of: Callable[[list[str]], Fault | None] = lambda sequences: None
    tokens: set[str] | None = None
    seconds: float = 0
    in_flight: int = 0
    most_in_flight: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    closing: threading.Event = field(default_factory=threading.Event)

    def sequences(self) -> list[str]:
        """Return every sequence it was asked for, in order."""
        return [bases for asked in self.asked for bases in asked.sequences]


def error(status: int, said: str = "it went wrong", **headers: str) -> Fault:
    """Return an answer as servers of the hub's kind give it."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Fault(status, json.dumps({"error": said}).encode(), named)


@contextmanager
def serving(port: int = 0) -> Iterator[EndpointServer]:
    """Run an endpoint on a port of 127.0.0.1."""
    endpoint = EndpointServer()

    class EndpointHandler(Handler):
        pass

    EndpointHandler.endpoint = endpoint
    server = Server(("127.0.0.1", port), EndpointHandler)
    server.daemon_threads = True
    endpoint.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.005,), daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        endpoint.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


class Server(ThreadingHTTPServer):
    """Serves in threads, and is silent on those who leave."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print what is no closed connection."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Answers one client."""

    endpoint: EndpointServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Be silent."""

    def do_GET(self) -> None:
        """Answer who follows a redirect, or looks for a model, with what is no embedding."""
        self.endpoint.asked.append(Asked(self.path, self._token(), []))
        kind, _, left = self.path.rpartition("/")
        if kind == "/moved" and int(left):  # so many times elsewhere
            self._send(307, b"", {"Location": f"/moved/{int(left) - 1}"})
            return
        self._send(200, b"[[0.0]]", {})

    def do_POST(self) -> None:
        """Embed the sequences of a request."""
        endpoint = self.endpoint
        given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["inputs"]
        sequences = [given] if isinstance(given, str) else given
        with endpoint.lock:
            endpoint.asked.append(Asked(self.path, self._token(), sequences))
            endpoint.in_flight += 1
            endpoint.most_in_flight = max(endpoint.most_in_flight, endpoint.in_flight)
            fault = endpoint.faults.popleft() if endpoint.faults else endpoint.fault_of(sequences)
        try:
            if endpoint.seconds:
                time.sleep(endpoint.seconds)
            if fault is not None:
                self._misbehave(fault)
            elif endpoint.tokens is not None and not self._is_let_in():
                self._send(401, b'{"error":"Invalid credentials in Authorization header"}', {})
            else:
                self._embed(given, sequences)
        finally:
            with endpoint.lock:
                endpoint.in_flight -= 1

    def _embed(self, given: str | list[str], sequences: list[str]) -> None:
        kind = self.path.split("?")[0].rsplit("/", 1)[-1]
        answers: list[Any]
        if kind == "html":
            self._send(200, b"<!DOCTYPE html><html><body>Please log in.</body></html>", {"Content-Type": "text/html"})
            return
        if kind == "echo":  # tells everything it was sent, the token among it
            self._send(500, json.dumps({"error": str(dict(self.headers))}).encode(), {})
            return
        if kind == "tokens":
            answers = [token_vectors(bases) for bases in sequences]
        elif kind == "pipeline":
            answers = [[token_vectors(bases)] for bases in sequences]
        else:
            answers = [pooled_vector(bases) for bases in sequences]
        answer = answers[0] if isinstance(given, str) and kind != "pooled" else answers
        self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _misbehave(self, fault: Fault) -> None:
        if fault.seconds:
            self.endpoint.closing.wait(fault.seconds)
        if fault.breaks_off:
            self.send_response(HTTPStatus(200))
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"[[0.5,")
            self.close_connection = True
            return
        if fault.drips:
            self.close_connection = True
            with contextlib.suppress(OSError):  # who asked has left
                self._drip(fault)
            return
        self._send(fault.status, fault.content, fault.headers)

    def _drip(self, fault: Fault) -> None:
        start = f"HTTP/1.1 {fault.status} OK\r\n".encode()
        if fault.drips != "headers":
            start += b"Content-Type: application/json\r\n\r\n"
        self.wfile.write(start)
        drops = {"headers": (b"X-Drop: 1\r\n", 0.1), "body": (b" ", 0.1), "no end": (b"1.5," * 65_536, 0.0)}
        drop, pause = drops[fault.drips]
        while not self.endpoint.closing.wait(pause):
            self.wfile.write(drop)

    def _is_let_in(self) -> bool:
        return self.path.startswith("/open/") or self._token() in (self.endpoint.tokens or ())

    def _token(self) -> str | None:
        return self.headers.get("Authorization", "").removeprefix("Bearer ") or None

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        try:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)
        except (BrokenPipeError, ConnectionResetError):  # who asked has left
            self.close_connection = True
