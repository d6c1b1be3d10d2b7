"""Served models: safe addresses, tokens that are never quoted, embeddings, and an outcome for every other answer."""

import base64
from collections.abc import Callable, Iterator
from urllib.parse import quote

import huggingface_hub
import numpy as np
import pytest
from dnalm.errors import UserError
from dnalm.models import served as served_module
from dnalm.models.served import (
    BadAnswer,
    Endpoint,
    NotNow,
    Refused,
    ServedModel,
    Stop,
    TooMuch,
    quoted,
    read_answer,
    refuse_unsafe,
)
from endpoint import EndpointServer, Fault, error, pooled_vector, token_vectors

TOKEN = "hf_secret/of+the=user"


@pytest.fixture
def served(endpoint: EndpointServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ServedModel]]:
    """Return a function that opens the model of the local endpoint."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    opened: list[ServedModel] = []

    def make(kind: str = "pooled", token: str | None = None, takes_token: bool = True) -> ServedModel:
        where = Endpoint("the endpoint", f"{endpoint.url}/{kind}", takes_token=takes_token)
        opened.append(ServedModel(where, token).__enter__())
        return opened[-1]

    yield make
    for model in opened:
        model.__exit__(None, None, None)


def test_answers_belong_to_an_address_without_its_query_or_to_a_providers_model() -> None:
    at_address = Endpoint("x", "https://example.org:8443/embed?key=1#part")
    of_provider = Endpoint("x", model_id="somebody/dna", provider="scaleway")
    assert (at_address.identity, at_address.host) == ("https://example.org:8443/embed", "example.org:8443")
    assert (of_provider.identity, of_provider.host) == ("scaleway:somebody/dna", "the provider scaleway")


@pytest.mark.parametrize(
    ("endpoint", "token", "sentence"),
    [
        (Endpoint("x", "https://example.org/"), "two words", "The token holds blanks or strange letters"),
        (Endpoint("x", "https://example.org/"), "", "The token holds blanks or strange letters"),
        (Endpoint("x", model_id="../../etc", provider="together"), "hf_x", r"'\.\./\.\./etc' is no id of a model"),
        (Endpoint("x", model_id="a--b/c", provider="together"), "hf_x", "is no id of a model"),
        (Endpoint("x", provider="together"), "hf_x", "'' is no id of a model"),
        (Endpoint("x", model_id="a/b", provider="together"), None, "No token is given, and the hub's providers need"),
        (Endpoint("x", "ftp://127.0.0.1/"), None, "is none of an endpoint"),
        (Endpoint("x", "https://user:password@example.org/"), None, "is none of an endpoint"),
        (Endpoint("x", "https://example.org/#part"), None, "is none of an endpoint"),
        (Endpoint("x", "http://10.0.0.7/"), None, "'10.0.0.7' is not encrypted; only https is used"),
        (Endpoint("x", "http://localhost.example.org/"), None, "is not encrypted"),
    ],
)
def test_unencrypted_and_malformed_endpoints_are_refused(endpoint: Endpoint, token: str | None, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as error:
        refuse_unsafe(endpoint, token)
    assert "words" not in str(error.value)
    with pytest.raises(UserError, match=sentence):
        ServedModel(endpoint, token)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/", "http://127.1.2.3/", "http://localhost/", "https://example.org/x?y"]
)
def test_this_machine_and_encrypted_addresses_are_safe(url: str) -> None:
    refuse_unsafe(Endpoint("x", url), "hf_x")
    refuse_unsafe(Endpoint("x", model_id="a/b", provider="together"), "hf_x")


def as_base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


HIDDEN = {
    "plain": TOKEN,
    "upper case": TOKEN.upper(),
    "reversed": TOKEN[::-1],
    "quoted": quote(TOKEN, safe=""),
    "part": TOKEN[6:16],
    "blanks": " ".join(TOKEN),
    "line ends": "\n".join(TOKEN),
    "dots": ".".join(TOKEN),
    "zero width": "\u200b".join(TOKEN),
    "combining": "\u0301".join(TOKEN),
    "full width": "".join(chr(ord(x) + 0xFEE0) for x in TOKEN),
    "mathematical": "".join(chr(0x1D41A + ord(x) - 97) if x.isalpha() else x for x in TOKEN),
    "base64": as_base64(TOKEN),
    "base64, reversed": as_base64(TOKEN)[::-1],
    "base64 of a header": as_base64(f"Bearer {TOKEN}"),
    "base64 of a name and it": as_base64(f"me:{TOKEN}:x"),
    "base64 of two letters and it": as_base64(f"xy{TOKEN}"),
    "base64 for addresses": base64.urlsafe_b64encode(TOKEN.encode()).decode(),
    "hex": TOKEN.encode().hex(),
    "hex, parted": TOKEN.encode().hex(":").upper(),
    "percent": "".join(f"%{ord(x):02X}" for x in TOKEN),
    "escaped": "".join(f"\\u{ord(x):04x}" for x in TOKEN),
    "escaped in bytes": "".join(f"\\x{ord(x):02x}" for x in TOKEN),
    "HTML": "".join(f"&#{ord(x)};" for x in TOKEN),
    "HTML, hexadecimal": "".join(f"&#x{ord(x):x};" for x in TOKEN),
    "numbers": str(list(TOKEN.encode())),
    "octal": "".join(f"\\{ord(x):03o}" for x in TOKEN),
}


@pytest.mark.parametrize("form", HIDDEN)
def test_words_with_a_token_in_them_are_not_shown(form: str) -> None:
    said = f"invalid credentials: {HIDDEN[form]}"
    assert quoted(said, TOKEN) == ""
    assert quoted(said, None)
    assert quoted(said, "Qv9-Lm2~Zw7")


@pytest.mark.parametrize("said", ["Input is too long (1,024 tokens)", "a\tb\nc", "hf_", "secret/o", ""])
def test_other_words_are_shown_on_one_line(said: str) -> None:
    assert quoted(said, TOKEN) == " ".join(said.split())


def test_words_are_short_and_printable() -> None:
    assert quoted("x" * 1_000, TOKEN) == "x" * 200 + "…"
    assert quoted("\x1b[31mred\u202e", TOKEN) == "\\x1b[31mred\\u202e"
    assert quoted("x" * 200 + TOKEN, TOKEN) == "x" * 200 + "…"


def test_a_short_token_is_not_shown_either() -> None:
    assert quoted("the token is a-b", "ab") == ""
    assert quoted("the token", "xyz") == "the token"


@pytest.mark.parametrize(
    ("shape", "count", "shapes"),
    [
        ((5,), 1, [(5,)]),
        ((1, 5), 1, [(5,)]),
        ((1, 1, 5), 1, [(5,)]),
        ((7, 5), 1, [(7, 5)]),
        ((1, 7, 5), 1, [(7, 5)]),
        ((3, 5), 3, [(5,)] * 3),
        ((3, 1, 7, 5), 3, [(7, 5)] * 3),
    ],
)
def test_brackets_around_an_embedding_do_not_matter(shape: tuple[int, ...], count: int, shapes: list[object]) -> None:
    answer = np.random.default_rng(0).random(shape)
    found = read_answer(answer, count)
    assert [vectors.shape for vectors in found] == shapes
    assert {vectors.dtype for vectors in found} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(np.concatenate([vectors.ravel() for vectors in found]), answer.ravel().astype("f4"))


@pytest.mark.parametrize(
    ("answer", "count", "sentence"),
    [
        (np.zeros((2, 4)), 3, r"3 sequences were sent, and an answer of the shape \(2, 4\) came"),
        (np.zeros(2), 2, r"2 sequences were sent, and an answer of the shape \(2,\) came"),
        (np.zeros((2, 3, 4)), 1, r"shape \(2, 3, 4\) came, where a vector, or one a token, is needed"),
        (np.zeros(()), 1, r"shape \(\) came, where"),
        (np.zeros((1, 0)), 1, r"shape \(1, 0\) came, where"),
        (np.array([[1.0, 2.0], [1.0, np.inf]]), 2, "a number of the answer is NaN or infinite"),
        (np.array([np.nan]), 1, "a number of the answer is NaN or infinite"),
    ],
)
def test_answers_without_an_embedding_per_sequence_are_refused(answer: np.ndarray, count: int, sentence: str) -> None:
    with pytest.raises(BadAnswer, match=sentence):
        read_answer(answer, count)


@pytest.mark.parametrize("sequences", [["ACGTTG"], ["ACGTTG", "TTTACG", "CCCCCC"]])
def test_embeddings_come_in_the_order_of_the_sequences(
    served: Callable[..., ServedModel], endpoint: EndpointServer, sequences: list[str]
) -> None:
    pooled, by_token = served("pooled").ask(sequences), served("tokens").ask(sequences)
    for bases, vector, vectors in zip(sequences, pooled, by_token, strict=True):
        np.testing.assert_allclose(vector, pooled_vector(bases), rtol=1e-6)
        np.testing.assert_allclose(vectors, token_vectors(bases), rtol=1e-6)
    assert [asked.sequences for asked in endpoint.asked] == [sequences, sequences]


@pytest.mark.parametrize(("takes_token", "sent"), [(True, TOKEN), (False, None)])
def test_the_token_is_sent_only_where_it_is_taken(
    served: Callable[..., ServedModel], endpoint: EndpointServer, takes_token: bool, sent: str | None
) -> None:
    served(token=TOKEN, takes_token=takes_token).ask(["ACGT"])
    assert endpoint.asked[0].token == sent


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "count", "outcome", "sentence"),
    [
        (error(400, "no such letter"), 1, Refused, "the server answers 400: no such letter"),
        (error(413), 1, TooMuch, "the server answers 413: it went wrong"),
        (error(422), 2, TooMuch, "the server answers 422"),
        (error(504), 1, NotNow, "the server answers 504"),
        (error(504), 2, TooMuch, "the server answers 504"),
        (error(503), 2, NotNow, "the server answers 503"),
        (error(401), 1, Stop, r"'the endpoint' needs a token \(401\)"),
        (error(402), 1, Stop, r"is used up \(402\)"),
        (error(403), 1, Stop, r"refuses what the token may do \(403\)"),
        (error(404), 1, Stop, r"does not serve this model \(404\)"),
        (Fault(200, b"<html>"), 1, Stop, r"it sends a web page \(HTML\)"),
        (Fault(302, b"", {"Location": "/elsewhere"}), 1, Stop, "sends requests elsewhere, which is not followed"),
        (Fault(200, b"[[1,2],[3]]"), 2, TooMuch, "are not of one length"),
        (Fault(200, b"[[1,2],[3]]"), 1, BadAnswer, "holds no numbers of one shape"),
        (Fault(200, b"[[0.5,"), 1, BadAnswer, "the answer is no JSON"),
        (Fault(200, b"[[1,2]]"), 2, BadAnswer, "2 sequences were sent"),
        (Fault(breaks_off=True), 1, NotNow, r"it cannot be reached or broke off \(RemoteProtocolError\)"),
    ],
    ids=lambda value: f"{value.status} {value.content[:12]!r}" if isinstance(value, Fault) else None,
)
def test_every_other_answer_has_an_outcome(
    served: Callable[..., ServedModel],
    endpoint: EndpointServer,
    fault: Fault,
    count: int,
    outcome: type[Exception],
    sentence: str,
) -> None:
    endpoint.faults.append(fault)
    with pytest.raises(outcome, match=sentence):
        served().ask(["ACGT"] * count)
    assert len(endpoint.asked) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "wait"),
    [
        (error(503), None),
        (error(429, Retry_After="7"), 7.0),
        (error(429, Retry_After="0.5"), 0.5),
        (error(429, Retry_After="soon"), None),
        (error(429, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"), 0.0),  # long ago
        (error(429, ratelimit='"api";r=0;t=40'), 40.0),
        (error(429, ratelimit='"api";r=3;t=40'), None),
        (Fault(503, b'{"estimated_time": 2.5}'), 2.5),
        (Fault(503, b'{"estimated_time": -1}'), None),
        (Fault(503, b'{"estimated_time": "long"}'), None),
        (Fault(503, b"{}"), None),
    ],
    ids=lambda value: f"{value.headers} {value.content[:30]!r}" if isinstance(value, Fault) else None,
)
def test_a_server_may_ask_to_wait(
    served: Callable[..., ServedModel], endpoint: EndpointServer, fault: Fault, wait: float | None
) -> None:
    endpoint.faults.append(fault)
    with pytest.raises(NotNow, match=f"the server answers {fault.status}") as error:
        served().ask(["ACGT"])
    assert (error.value.kind, error.value.wait) == ("server_error", wait)


def test_a_refused_token_is_never_quoted(served: Callable[..., ServedModel], endpoint: EndpointServer) -> None:
    endpoint.faults.extend([error(401), error(400, f"Bearer {TOKEN} may not")])
    model = served(token=TOKEN)
    with pytest.raises(Stop, match=r"'the endpoint' refuses the token \(401\)"):
        model.ask(["ACGT"])
    with pytest.raises(Refused) as refused:
        model.ask(["ACGT"])
    assert str(refused.value) == "the server answers 400"


BODIES = {
    "list": b"[]",
    "null": b"null",
    "text": b'"x"',
    "number": b"1",
    "errors of text": b'{"errors":["x",null,1]}',
    "errors": b'{"errors":1}',
    "no JSON": b"{",
    "not UTF-8": b"\xff\xfe",
    "deep": b"[" * 100_000,
    "digits": b"9" * 10_000,
    "empty": b"",
    "NaN": b'{"estimated_time":NaN}',
    "large": b'{"error":"' + b"x" * 200_000,
}


STATUSES: dict[int, type[Exception]] = {
    **dict.fromkeys((400, 418), Refused),
    **dict.fromkeys((401, 402, 403, 404), Stop),
    **dict.fromkeys((413, 422), TooMuch),
    **dict.fromkeys((429, 500, 503, 504), NotNow),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "body"),
    [*((status, "list") for status in STATUSES), *((503, body) for body in BODIES if body != "list")],
)
def test_the_status_decides_whatever_the_body_is(
    served: Callable[..., ServedModel], endpoint: EndpointServer, status: int, body: str
) -> None:
    endpoint.faults.append(Fault(status, BODIES[body]))
    with pytest.raises(STATUSES[status]) as error:
        served().ask(["ACGT"])
    assert f"{status}" in str(error.value)
    assert type(error.value) is STATUSES[status]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_sequences_are_not_sent_elsewhere_by_a_provider_either(
    served: Callable[..., ServedModel], endpoint: EndpointServer, status: int
) -> None:
    endpoint.faults.append(Fault(status, b"", {"Location": f"{endpoint.url}/pooled"}))
    with pytest.raises(Stop, match="sends requests elsewhere"):
        served().ask(["ACGT"])
    assert len(endpoint.asked) == 1


@pytest.mark.slow
def test_an_answer_that_never_ends_is_not_waited_for(
    served: Callable[..., ServedModel], endpoint: EndpointServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that sends something now and then, in its headers or its body, so that no read takes long."""
    monkeypatch.setattr(served_module, "WHOLE_ANSWER_WITHIN", 0.5)
    for dripping in ("headers", "body"):
        endpoint.faults.append(Fault(drips=dripping))
        with pytest.raises(NotNow, match=r"no whole answer within 0\.5 s") as error:
            served().ask(["ACGT"])
        assert error.value.kind == "timeout"
    np.testing.assert_allclose(served().ask(["ACGT"])[0], pooled_vector("ACGT"))


@pytest.mark.slow
def test_an_answer_without_an_end_is_a_bad_one(served: Callable[..., ServedModel], endpoint: EndpointServer) -> None:
    endpoint.faults.append(Fault(drips="no end"))
    with pytest.raises(BadAnswer, match="the answer has more than 256 MiB"):
        served().ask(["ACGT"])
