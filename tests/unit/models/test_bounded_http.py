"""Answers have a bounded size and time, however they are compressed, and an error is told by its status."""

import gzip
import json
import threading
import time
import zlib
from collections.abc import Iterator

import httpx2
import pytest
from dnalm.models import bounded_http
from dnalm.models.bounded_http import BoundedClient, RedirectedElsewhere, UnusableAnswer, in_time
from endpoint import EndpointServer, Fault

ASKED = {"inputs": "ACGT"}
ANSWER = b"[[0.5,1.5]]"


@pytest.fixture
def client() -> Iterator[BoundedClient]:
    with BoundedClient(30.0) as client:
        yield client


@pytest.mark.parametrize(
    ("encoding", "content"),
    [
        (None, ANSWER),
        ("identity", ANSWER),
        ("gzip", gzip.compress(ANSWER)),
        ("GZIP", gzip.compress(ANSWER)),
        ("deflate", zlib.compress(ANSWER)),
    ],
)
def test_a_usual_answer_is_read_whole(
    client: BoundedClient, endpoint: EndpointServer, encoding: str | None, content: bytes
) -> None:
    headers = {"Content-Encoding": encoding} if encoding else {}
    endpoint.faults.append(Fault(200, content, headers | {"X-Other": "kept"}))
    with client.stream("POST", f"{endpoint.url}/pooled", json=ASKED) as response:
        assert response.read() == ANSWER
    assert response.json() == [[0.5, 1.5]]
    assert (response.status_code, response.headers["x-other"]) == (200, "kept")


@pytest.mark.parametrize("encoding", ["gzip, gzip", "gzip,deflate", "br", "zstd", "compress"])
def test_an_answer_compressed_otherwise_is_refused(
    client: BoundedClient, endpoint: EndpointServer, encoding: str
) -> None:
    content = gzip.compress(gzip.compress(ANSWER))
    endpoint.faults.append(Fault(200, content, {"Content-Encoding": encoding}))
    with pytest.raises(UnusableAnswer, match="compressed in a way that was not asked for"):
        client.post(f"{endpoint.url}/pooled", json=ASKED)


def test_damaged_compression_is_an_error_of_the_connection(client: BoundedClient, endpoint: EndpointServer) -> None:
    endpoint.faults.append(Fault(200, ANSWER, {"Content-Encoding": "gzip"}))
    with pytest.raises(httpx2.DecodingError):
        client.post(f"{endpoint.url}/pooled", json=ASKED)


@pytest.mark.parametrize("compressed", [False, True])
def test_the_most_bytes_are_those_of_the_numbers_of_the_sequences(
    client: BoundedClient, endpoint: EndpointServer, monkeypatch: pytest.MonkeyPatch, compressed: bool
) -> None:
    for name, value in {"FEWEST_TOKENS": 1, "MOST_DIMENSIONS": 2, "NUMBER_BYTES": 8, "OTHER_BYTES": 1_000}.items():
        monkeypatch.setattr(bounded_http, name, value)
    most = 1_000 + 8 * 2 * len(b'{"inputs":"ACGT"}')
    for size in (most, most + 1):
        content = b" " * size
        headers = {"Content-Encoding": "gzip"} if compressed else {}
        endpoint.faults.append(Fault(200, gzip.compress(content) if compressed else content, headers))
        if size == most:
            assert client.post(f"{endpoint.url}/pooled", json=ASKED).content == content
        else:
            with pytest.raises(UnusableAnswer, match="the answer has more than 0 MiB"):
                client.post(f"{endpoint.url}/pooled", json=ASKED)


def test_long_sequences_have_no_longer_answers_than_the_most(
    client: BoundedClient, endpoint: EndpointServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded_http, "MOST_NUMBERS", 10)
    monkeypatch.setattr(bounded_http, "OTHER_BYTES", 0)
    endpoint.faults.append(Fault(200, b" " * 321))
    with pytest.raises(UnusableAnswer, match="the answer has more than"):
        client.post(f"{endpoint.url}/pooled", json={"inputs": "A" * 5_000})


@pytest.mark.parametrize(
    "content",
    [
        json.dumps([[]] * 20_000),
        json.dumps([{}] * 20_000),
        json.dumps(["a"] * 20_000),
        "[" * 100_000,
        "[" + "0," * 200 + "0]",
    ],
    ids=["lists", "objects", "texts", "deep", "numbers"],
)
def test_what_takes_more_memory_than_its_text_is_refused(
    client: BoundedClient, endpoint: EndpointServer, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    if content.startswith("[0"):
        monkeypatch.setattr(bounded_http, "MOST_NUMBERS", 200 - 1)
    endpoint.faults.append(Fault(200, content.encode()))
    with pytest.raises(UnusableAnswer, match="the answer has more numbers or lists than embeddings"):
        client.post(f"{endpoint.url}/pooled", json=ASKED)


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (b'{"error":"no such letter","other":1}', {"error": "no such letter"}),
        (b'{"error":["a",1]}', {"error": "['a', 1]"}),
        (b'{"estimated_time":2.5}', {"estimated_time": 2.5}),
        (b"[]", {}),
        (b"{", {}),
        (b"\xff", {}),
        (b"[" * 60_000, {}),
        (b'{"error":"' + b"x" * 200_000 + b'"}', {}),
    ],
)
def test_of_an_error_its_status_and_words_are_kept(
    client: BoundedClient, endpoint: EndpointServer, content: bytes, kept: object
) -> None:
    endpoint.faults.append(Fault(503, content))
    response = client.post(f"{endpoint.url}/pooled", json=ASKED)
    assert (response.status_code, response.json()) == (503, kept)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["body", "no end", "breaks off", "compressed"])
def test_an_error_without_an_end_is_told_by_its_status(
    client: BoundedClient, endpoint: EndpointServer, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(bounded_http, "ERROR_SECONDS", 0.3)
    faults = {
        "breaks off": Fault(429, b"{", {"Content-Length": "1000", "Connection": "close"}),
        "compressed": Fault(429, b"{}", {"Content-Encoding": "gzip"}),
        "body": Fault(429, drips="body"),
        "no end": Fault(429, drips="no end"),
    }
    endpoint.faults.append(faults[how])
    began = time.monotonic()
    response = client.post(f"{endpoint.url}/pooled", json=ASKED, timeout=1.0)
    assert (response.status_code, response.json()) == (429, {})
    assert time.monotonic() - began < 10


@pytest.mark.slow
def test_a_whole_answer_has_its_time(endpoint: EndpointServer) -> None:
    endpoint.faults.append(Fault(drips="body"))
    with BoundedClient(0.4) as client, pytest.raises(TimeoutError):
        client.post(f"{endpoint.url}/pooled", json=ASKED)


def test_sequences_are_not_sent_elsewhere(client: BoundedClient, endpoint: EndpointServer) -> None:
    endpoint.faults.append(Fault(307, b"", {"Location": f"{endpoint.url}/new"}))
    with pytest.raises(RedirectedElsewhere):
        client.post(f"{endpoint.url}/old", json=ASKED)
    assert [asked.path for asked in endpoint.asked] == ["/old"]


def test_an_address_is_followed_for_a_while(client: BoundedClient, endpoint: EndpointServer) -> None:
    """As the hub's names of models that were renamed."""
    assert client.get(f"{endpoint.url}/moved/2").json() == [[0.0]]
    assert [asked.path for asked in endpoint.asked] == ["/moved/2", "/moved/1", "/moved/0"]
    with pytest.raises(UnusableAnswer, match="sends from one address to the next"):
        client.get(f"{endpoint.url}/moved/6")


def test_a_call_in_time_gives_its_result_or_its_error() -> None:
    assert in_time(lambda: 7, 30) == 7
    with pytest.raises(ZeroDivisionError):
        in_time(lambda: 1 // 0, 30)


def test_a_call_out_of_time_is_left_alone() -> None:
    ended = threading.Event()
    with pytest.raises(TimeoutError):
        in_time(lambda: ended.wait(30), 0.05)
    ended.set()
