"""Whatever a server, a network or a user brings: a sentence or a line of a table, and never the same request for ever."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import anndata
import huggingface_hub
import numpy as np
import pandas as pd
import pytest
from conftest import TEST_DATA, Run
from dnalm.engine import asking
from dnalm.errors import UserError
from dnalm.models import served
from dnalm.models.served import BadAnswer, Endpoint, ServedModel, quoted, read_answer, refuse_unsafe
from endpoint import EndpointServer, Fault, error, pooled_vector
from hub import Hub

Asked = Callable[..., tuple[int, str, str]]
BASES = [f"ACGT{'A' * number}" for number in range(40)]
NAN, MANY = json.dumps([[float("nan")] * 5]).encode(), asking.SEQUENCES


@pytest.fixture
def sequences(tmp_path: Path) -> Path:
    path = tmp_path / "in.fa"
    path.write_text("".join(f">s{number}\n{bases}\n" for number, bases in enumerate(BASES)))
    return path


@pytest.fixture
def ask(run_remote: Run, endpoint: EndpointServer, sequences: Path, tmp_path: Path) -> Asked:
    """Embed 40 sequences with the endpoint."""

    def call(*options: object, kind: str = "pooled", url: str | None = None) -> tuple[int, str, str]:
        outputs = ("--output", tmp_path / "out", "--failed", tmp_path / "failed", "--summary", tmp_path / "summary")
        where = ("--endpoint", url or f"{endpoint.url}/{kind}", "--consent")
        return run_remote("--sequences", sequences, *where, *outputs, *options)

    return call


@pytest.fixture
def refused(ask: Asked, tmp_path: Path) -> Callable[..., str]:
    """Run a job that must be refused, and return its sentence."""

    def call(*options: object, **where: Any) -> str:
        code, said, problem = ask(*options, **where)
        assert code == 1
        assert problem.startswith("dnalm_remote_embed: ")
        assert problem.count("\n") == 1
        assert problem.endswith(".\n")
        assert "Traceback" not in said
        assert {path.name for path in tmp_path.iterdir()} <= {"in.fa"}
        return problem

    return call


def failed(folder: Path) -> dict[str, list[str]]:
    """Return the reasons by status."""
    found: dict[str, list[str]] = {}
    for row in pd.read_csv(folder / "failed", sep="\t").itertuples():
        found.setdefault(str(row.status), []).append(str(row.reason))
    return found


def whole(folder: Path) -> bool:
    wanted = np.array([pooled_vector(bases) for bases in BASES], dtype=np.float32)
    return np.array_equal(anndata.read_h5ad(folder / "out").X, wanted)


# Before the first answer: nothing can be had


@pytest.mark.parametrize(
    ("fault", "sentence", "requests"),
    [
        (error(400), "embeds nothing: the server answers 400: it went wrong.", 3),
        (error(401), "needs a token (401); set the credentials of this tool", 1),
        (error(402), "The credit of the token's owner", 1),
        (error(403), "refuses what the token may do (403)", 1),
        (error(404), "does not serve this model (404)", 1),
        (error(404, X_Error_Code="RepoNotFound"), "does not serve this model (404)", 1),
        (error(403, X_Error_Code="GatedRepo"), "refuses what the token may do (403)", 1),
        (error(408), "embeds nothing: the server answers 408, 6 times.", 6),
        (error(413), "embeds nothing: the server answers 413: it went wrong.", 3),
        (error(422), "embeds nothing: the server answers 422: it went wrong.", 3),
        (error(424), "embeds nothing: the server answers 424: it went wrong.", 3),
        (error(429), "embeds nothing: the server answers 429, 6 times.", 6),
        (error(429, Retry_After="3600"), "the server answers 429, and asks to wait for 3,600 s.", 1),
        (error(500), "embeds nothing: the server answers 500, 6 times.", 6),
        (error(502), "embeds nothing: the server answers 502, 6 times.", 6),
        (error(503), "embeds nothing: the server answers 503, 6 times.", 6),
        (error(504), "embeds nothing: the server answers 504, 6 times.", 6),
        (Fault(200, b'{"error":"loading"}'), "the answer holds no numbers of one shape.", 3),
        (Fault(200, b""), "embeds nothing: the answer is no JSON.", 3),
        (Fault(200, b"\xff\xfe\x00"), "embeds nothing: the answer holds no numbers of one shape.", 3),
        (Fault(200, b"[[0.5,"), "embeds nothing: the answer is no JSON.", 3),
        (Fault(200, b'["a","b"]'), "the answer holds no numbers of one shape.", 3),
        (Fault(200, b"[[1,2],[3]]"), "the answer holds no numbers of one shape.", 3),
        (Fault(200, b"[]"), "an answer of the shape (0,) came", 3),
        (Fault(200, b"0.5"), "an answer of the shape () came", 3),
        (Fault(200, b"[[[[1],[2]],[[3],[4]]]]"), "an answer of the shape (1, 2, 2, 1) came", 3),
        (Fault(200, NAN), "a number of the answer is NaN or infinite.", 3),
        (Fault(200, b"[[1e39]]"), "a number of the answer is NaN or infinite.", 3),
        (Fault(200, b"[[null]]"), "a number of the answer is NaN or infinite.", 3),
        (Fault(200, b" <html>Log in</html>"), "is no inference endpoint: it sends a web page (HTML)", 1),
        (Fault(302, b"", {"Location": "/elsewhere"}), "sends requests elsewhere, which is not followed", 1),
        (Fault(307, b"", {"Location": "http://127.0.0.1:9/"}), "sends requests elsewhere, which is not followed", 1),
        (Fault(breaks_off=True), "it cannot be reached or broke off", 6),
    ],
    ids=lambda value: f"{value.status} {value.content[:12]!r}" if isinstance(value, Fault) else None,
)
def test_an_endpoint_that_never_embeds_is_refused(
    refused: Callable[..., str], endpoint: EndpointServer, fault: Fault, sentence: str, requests: int
) -> None:
    endpoint.fault_of = lambda sequences: fault
    assert sentence in refused()
    assert len(endpoint.asked) == requests
    assert {len(asked.sequences) for asked in endpoint.asked} == {1}


def test_an_endpoint_that_answers_with_a_web_page(refused: Callable[..., str], endpoint: EndpointServer) -> None:
    assert "is no inference endpoint: it sends a web page (HTML)" in refused(kind="html")
    assert len(endpoint.asked) == 1


def test_an_endpoint_that_does_not_answer_in_time(
    refused: Callable[..., str], endpoint: EndpointServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "ANSWER_WITHIN", 0.2)
    monkeypatch.setattr(asking, "ATTEMPTS", 2)
    endpoint.fault_of = lambda sequences: Fault(seconds=5)
    assert "embeds nothing: no answer within 0.2 s, 2 times." in refused()


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # and no one listens
        yield held.getsockname()[1]


def test_an_endpoint_where_nobody_listens(refused: Callable[..., str], closed_port: int) -> None:
    assert "it cannot be reached or broke off (ConnectError), 6 times." in refused(
        url=f"http://127.0.0.1:{closed_port}/"
    )


# In the midst: what is done is kept


@pytest.mark.parametrize("fault", [error(429, Retry_After="0"), error(503), error(500), Fault(breaks_off=True)])
def test_what_may_be_answered_later_is_asked_again(
    ask: Asked, endpoint: EndpointServer, tmp_path: Path, fault: Fault
) -> None:
    endpoint.faults.extend([fault, error(503), fault])
    code, said, _ = ask()
    assert code == 0
    assert whole(tmp_path)
    assert len(endpoint.asked) == 3 + 1 + -(-39 // MANY)
    assert "without an embedding" not in said


@pytest.mark.parametrize(
    "fault",
    [
        error(429, Retry_After="1"),
        error(429, ratelimit='"api";r=0;t=1'),
        None,
        Fault(503, b'{"error":"Model is loading","estimated_time":1.0}'),
    ],
    ids=["Retry-After", "ratelimit", "date", "estimated_time"],
)
def test_a_server_that_asks_to_wait_is_waited_for_by_all(
    ask: Asked, endpoint: EndpointServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: Fault | None
) -> None:
    times: list[float] = []
    fault = fault or error(429, Retry_After=formatdate(time.time() + 2, usegmt=True))

    def fault_of(sequences: list[str]) -> Fault | None:
        times.append(time.monotonic())
        return fault if len(times) == 2 else None

    endpoint.fault_of = fault_of
    assert ask(kind="tokens")[0] == 0
    told = times[1]
    # The others hear of it when the answer has come; then nothing for a second.
    assert not [when for when in times if told + 0.3 < when < told + 0.9]
    assert max(times) > told + 0.9
    assert len(times) == 41


@pytest.mark.parametrize("status", [413, 422, 504])
def test_a_request_that_is_too_much_is_halved(
    ask: Asked, endpoint: EndpointServer, tmp_path: Path, status: int
) -> None:
    endpoint.fault_of = lambda sequences: error(status) if len(sequences) > 3 else None
    assert ask()[0] == 0
    assert whole(tmp_path)
    sizes = [len(asked.sequences) for asked in endpoint.asked]
    assert MANY in sizes
    assert max(sizes[-8:]) <= 3  # it has learned
    assert sorted(set(sizes)) != [1, MANY]


def test_answers_of_unlike_length_to_one_request_are_asked_one_by_one(
    ask: Asked, endpoint: EndpointServer, tmp_path: Path
) -> None:
    def fault_of(sequences: list[str]) -> Fault | None:
        ragged = [[0.0] * (5 + number) for number in range(len(sequences))]
        return Fault(200, json.dumps(ragged).encode()) if len(sequences) > 1 else None

    endpoint.fault_of = fault_of
    assert ask()[0] == 0
    assert whole(tmp_path)


@pytest.mark.parametrize(
    ("fault", "status", "reason"),
    [
        (error(400, "no such letter"), "refused", "the server answers 400: no such letter"),
        (error(424), "refused", "the server answers 424: it went wrong"),
        (error(413), "too_large", "the server answers 413: it went wrong"),
        (error(422, "tab\tline\nend"), "too_large", "the server answers 422: tab line end"),
        (Fault(200, b'{"error":"x"}'), "bad_answer", "the answer holds no numbers of one shape"),
        (Fault(200, b"[[1,2,3]]"), "bad_answer", "it has 3 dimensions, the first 5"),
        (Fault(200, NAN), "bad_answer", "a number of the answer is NaN or infinite"),
        (error(500), "server_error", "the server answers 500, 6 times"),
        (Fault(breaks_off=True), "unreachable", "it cannot be reached or broke off (RemoteProtocolError), 6 times"),
    ],
    ids=lambda value: f"{value.status} {value.content[:12]!r}" if isinstance(value, Fault) else None,
)
def test_one_sequence_that_cannot_be_embedded_is_listed_alone(
    ask: Asked, endpoint: EndpointServer, tmp_path: Path, fault: Fault, status: str, reason: str
) -> None:
    endpoint.fault_of = lambda sequences: fault if BASES[7] in sequences else None
    code, said, _ = ask(kind="tokens")
    assert code == 0
    assert failed(tmp_path) == {status: [reason]}
    assert f"Warning: sequences without an embedding: 1 (1 {status})" in said
    found = anndata.read_h5ad(tmp_path / "out")
    assert found.obs_names.tolist() == [f"s{number}" for number in range(40) if number != 7]
    table = pd.read_csv(tmp_path / "summary", sep="\t")
    assert table["status"].tolist() == [status if number == 7 else "ok" for number in range(40)]
    times = sum(asked.sequences == [BASES[7]] for asked in endpoint.asked)
    assert times == (asking.ATTEMPTS if status in ("server_error", "unreachable") else 1)


def test_400_is_not_asked_again_in_smaller_parts(ask: Asked, endpoint: EndpointServer, tmp_path: Path) -> None:
    endpoint.fault_of = lambda sequences: error(400) if BASES[7] in sequences else None
    assert ask()[0] == 0
    assert sum(BASES[7] in asked.sequences for asked in endpoint.asked) == 1
    assert len(failed(tmp_path)["refused"]) == MANY


def test_another_number_of_vectors_than_sequences_is_refused(
    ask: Asked, endpoint: EndpointServer, tmp_path: Path
) -> None:
    endpoint.fault_of = lambda sequences: Fault(200, b"[[1,2,3,4,5]]") if len(sequences) > 1 else None
    assert ask()[0] == 0
    reasons = failed(tmp_path)["bad_answer"]
    assert f"{MANY} sequences were sent, and an answer of the shape (1, 5) came" in reasons
    assert anndata.read_h5ad(tmp_path / "out").n_obs == 1


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (error(401), "needs a token (401)"),
        (error(402), "is used up (402)"),
        (error(403), "refuses what the token may do (403)"),
        (error(404), "does not serve this model (404)"),
        (Fault(200, b"<html>"), "it sends a web page (HTML)"),
    ],
)
def test_after_a_final_no_nothing_more_is_asked(
    ask: Asked, endpoint: EndpointServer, tmp_path: Path, fault: Fault, reason: str
) -> None:
    endpoint.fault_of = lambda sequences: fault if len(endpoint.asked) > 10 else None
    code, said, _ = ask(kind="tokens")
    assert code == 0
    assert "Ended early: " in said
    (reasons,) = failed(tmp_path).values()
    assert all(reason in found for found in reasons)
    assert len(endpoint.asked) <= 10 + asking.IN_FLIGHT
    assert anndata.read_h5ad(tmp_path / "out").n_obs == 10


def test_a_server_that_has_gone_is_not_asked_for_ever(ask: Asked, endpoint: EndpointServer, tmp_path: Path) -> None:
    endpoint.fault_of = lambda sequences: error(503) if len(endpoint.asked) > 5 else None
    code, said, _ = ask(kind="tokens")
    assert code == 0
    assert "Ended early: 3 requests in a row failed: the server answers 503, 6 times" in said
    found = failed(tmp_path)
    assert set(found) == {"server_error", "not_asked"}
    assert len(endpoint.asked) <= 5 + (3 + asking.IN_FLIGHT) * asking.ATTEMPTS


# What users and admins give


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://example.org/embed", "The endpoint at 'example.org' is not encrypted; only https is used"),
        ("http://10.0.0.7/", "is not encrypted"),
        ("http://127.0.0.1.example.org/", "is not encrypted"),
        ("http://localhost.example.org/", "is not encrypted"),
        ("ftp://127.0.0.1/", "is none of an endpoint"),
        ("file:///etc/passwd", "is none of an endpoint"),
        ("127.0.0.1:80", "is none of an endpoint"),
        ("https://", "is none of an endpoint"),
        ("https://user:password@example.org/", "is none of an endpoint"),
    ],
)
def test_unsafe_addresses_are_refused(refused: Callable[..., str], url: str, sentence: str) -> None:
    assert sentence in refused(url=url)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/", "http://localhost:1/", "http://[::1]:1/", "https://example.org/x"]
)
def test_safe_addresses_are_not(url: str) -> None:
    refuse_unsafe(Endpoint("x", url), None)


@pytest.mark.parametrize("model_id", ["../../etc", "a/b/c", "a b/c", "a--b/c", "https://example.org/x", ""])
def test_ids_that_are_none_are_refused(run_remote: Run, sequences: Path, tmp_path: Path, model_id: str) -> None:
    arguments = ("--sequences", sequences, f"--model-id={model_id}", "--consent", "--output", tmp_path / "out")
    code, _, problem = run_remote(*arguments)
    assert code == 1
    assert "is no id of a model" in problem


def test_a_provider_needs_a_token(run_remote: Run, sequences: Path, tmp_path: Path) -> None:
    arguments = ("--sequences", sequences, "--model-id", "somebody/dna", "--consent", "--output", tmp_path / "out")
    code, _, problem = run_remote(*arguments)
    assert code == 1
    assert "No token is given, and the hub's providers need one" in problem


def test_a_strange_token_is_refused(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_two words\nand a line")
    problem = refused()
    assert "The token holds blanks or strange letters" in problem
    assert "words" not in problem


def test_an_endpoint_or_a_model_of_the_hub_is_needed(run_remote: Run, sequences: Path, tmp_path: Path) -> None:
    for where in ((), ("--endpoint", "https://example.org", "--model-id", "a/b")):
        code, _, problem = run_remote("--sequences", sequences, *where, "--consent", "--output", tmp_path / "out")
        assert code == 1
        assert "Give either an endpoint, or the id of a model of the hub" in problem


def test_bad_sequences_are_refused_before_any_is_sent(
    run_remote: Run, endpoint: EndpointServer, tmp_path: Path
) -> None:
    path = tmp_path / "in.fa"
    path.write_text("".join(f">s{number}\nACGT\n" for number in range(5_000)) + ">last\nPROTEIN\n")
    arguments = ("--sequences", path, "--endpoint", f"{endpoint.url}/pooled", "--consent", "--output", tmp_path / "out")
    code, _, problem = run_remote(*arguments)
    assert code == 1
    assert "Record 5001 ('last')" in problem
    assert endpoint.asked == []


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"id\tvector\n", "is neither embeddings (h5ad) nor a journal"),
        (b'{"dnalm_journal":1}\nno JSON\n', "The journal 'earlier' is damaged"),
        (b'{"dnalm_journal":1}\n{"key":"00","tokens":1,"vector":"AAAA"}\n', "is damaged"),
        (b'{"dnalm_journal":1}\n{"key":"' + b"0" * 64 + b'","tokens":1,"vector":"AADAfw=="}\n', "is damaged"),
        ((TEST_DATA / "cells.h5ad").read_bytes(), "holds no embeddings that this tool made"),
        ((TEST_DATA / "two_genomes_embeddings.h5ad").read_bytes(), "holds no embeddings that this tool made"),
        ((TEST_DATA / "two_genomes_embeddings.h5ad").read_bytes()[:5_000], "is a damaged HDF5 file"),
    ],
    ids=["empty", "table", "no JSON", "short key", "NaN", "cells", "other embeddings", "cut"],
)
def test_what_is_no_earlier_job_is_refused(
    ask: Asked, endpoint: EndpointServer, tmp_path: Path, content: bytes, sentence: str
) -> None:
    (tmp_path / "earlier").write_bytes(content)
    code, _, problem = ask("--resume-from", tmp_path / "earlier")
    assert code == 1
    assert sentence in problem
    assert problem.count("\n") == 1
    assert endpoint.asked == []
    assert {path.name for path in tmp_path.iterdir()} == {"in.fa", "earlier"}


def test_more_special_tokens_than_there_are_tokens(refused: Callable[..., str]) -> None:
    assert "embeds nothing: the answer has 3 tokens, all of them special ones" in refused(
        "--special-last", 20, kind="tokens"
    )


# Models of the hub, by a provider


@pytest.fixture
def provider(endpoint: EndpointServer, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> EndpointServer:
    """The endpoint in the place of the hub's provider, and the local hub in that of the hub."""
    from huggingface_hub.inference._providers import PROVIDERS

    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(huggingface_hub.HfApi, "__init__", _with_endpoint(hub.url))
    monkeypatch.setattr(PROVIDERS["hf-inference"]["feature-extraction"], "base_url", endpoint.url)
    monkeypatch.setenv("HF_TOKEN", "hf_token")
    hub.tokens = {"hf_token"}
    return endpoint


def _with_endpoint(url: str) -> Callable[..., None]:
    usual = huggingface_hub.HfApi.__init__

    def init(self: huggingface_hub.HfApi, endpoint: str | None = None, **others: Any) -> None:
        usual(self, endpoint=endpoint or url, **others)

    return init


def test_a_model_of_the_hub_is_embedded_by_a_provider(
    run_remote: Run, provider: EndpointServer, hub: Hub, sequences: Path, tmp_path: Path
) -> None:
    hub.add("somebody/dna", {"README.md": b"x"}, pipeline_tag="feature-extraction")
    arguments = ("--sequences", sequences, "--model-id", "somebody/dna", "--consent", "--output", tmp_path / "out")
    code, _, problem = run_remote(*arguments)
    assert (code, problem) == (0, "")
    assert whole(tmp_path)
    assert {asked.path for asked in provider.asked} == {"/models/somebody/dna/pipeline/feature-extraction"}
    assert {asked.token for asked in provider.asked} == {"hf_token"}
    assert (
        json.loads(anndata.read_h5ad(tmp_path / "out").uns["dnalm"])["model"]["served_at"]
        == "hf-inference:somebody/dna"
    )


def test_a_model_that_is_not_served_for_this_is_refused(
    run_remote: Run, provider: EndpointServer, hub: Hub, sequences: Path, tmp_path: Path
) -> None:
    hub.add("somebody/masked-dna", {"README.md": b"x"}, pipeline_tag="fill-mask")
    arguments = ("--sequences", sequences, "--consent", "--output", tmp_path / "out")
    code, _, problem = run_remote(*arguments, "--model-id", "somebody/masked-dna")
    assert code == 1
    assert "The model 'somebody/masked-dna' is not served for feature extraction by hf-inference" in problem
    assert "Supported tasks: 'fill-mask'" in problem
    code, _, problem = run_remote(*arguments, "--model-id", "somebody/absent")
    assert code == 1
    assert provider.asked == []
    assert not (tmp_path / "out").exists()


# The parts


@pytest.mark.parametrize(
    ("answer", "count", "shapes"),
    [
        ([1, 2], 1, [(2,)]),
        ([[1, 2]], 1, [(2,)]),
        ([[1, 2], [3, 4]], 1, [(2, 2)]),
        ([[[1, 2], [3, 4]]], 1, [(2, 2)]),
        ([[[[1, 2], [3, 4]]]], 1, [(2, 2)]),
        ([[1, 2], [3, 4]], 2, [(2,), (2,)]),
        ([[[1, 2]], [[3, 4]]], 2, [(2,), (2,)]),
        ([[[1, 2], [3, 4]]] * 2, 2, [(2, 2)] * 2),
        ([[[[1, 2], [3, 4]]]] * 3, 3, [(2, 2)] * 3),
    ],
)
def test_every_wrapping_of_answers_is_read(answer: list[Any], count: int, shapes: list[tuple[int, ...]]) -> None:
    found = read_answer(np.array(answer, dtype=np.float32), count)
    assert [vector.shape for vector in found] == shapes


def test_an_answer_to_too_few_is_refused() -> None:
    with pytest.raises(BadAnswer, match="3 sequences were sent"):
        read_answer(np.zeros((2, 4), dtype=np.float32), 3)


def test_words_with_the_token_are_not_shown() -> None:
    token = "hf_abc/def+ghi"
    for form in (token, "hf_abc%2Fdef%2Bghi", "aGZfYWJjL2RlZitnaGk="):
        assert quoted(f"Bearer {form}, and", token) == ""
    assert quoted("nothing", None) == "nothing"


def test_an_endpoint_without_a_token_gets_none_that_lies_about(
    endpoint: EndpointServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_environment")
    with ServedModel(Endpoint("x", f"{endpoint.url}/pooled"), None) as model:
        model.ask(["ACGT"])
    assert endpoint.asked[0].token is None


def test_threads_end_with_the_job_and_not_before(endpoint: EndpointServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that fails does not wait for a slow server."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with ServedModel(Endpoint("x", f"{endpoint.url}/pooled"), None) as model:
        asking.Asker(model, "mean", 10)
        assert sum(thread.daemon for thread in threading.enumerate()) >= asking.IN_FLIGHT


def test_a_stranger_s_error_is_a_sentence() -> None:
    with pytest.raises(UserError, match="is not encrypted"):
        refuse_unsafe(Endpoint("x", "http://example.org/"), "hf_x")
