"""Asking a served model for many embeddings: requests, retries, limits, and what becomes of each sequence."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from dnalm.engine import asking
from dnalm.engine.asking import IN_FLIGHT, SEQUENCES, Answer, Asker, Failure, pooled, refuse_too_many
from dnalm.errors import UserError
from dnalm.methods.pooling import Pooling
from dnalm.models.served import BadAnswer, Endpoint, NotNow, Refused, ServedModel, Stop, TooMuch

Answers = Callable[[list[str]], list[np.ndarray]]
FIVE = ["A", "C", "G", "T", "N"]
TOKENS = np.array([[9, 9], [1, 4], [5, 2], [6, 0], [8, 8]], dtype=np.float32)  # the first and the last are special


def vector(bases: str) -> np.ndarray:
    return np.array([len(bases), bases.count("A")], dtype=np.float32)


class Scripted(ServedModel):
    """A server within the test: it answers, or raises, as a function says."""

    def __init__(self, answer: Answers) -> None:
        self.endpoint = Endpoint("a server", url="https://embeddings.example.org")
        self.asked: list[list[str]] = []
        self._answer = answer

    def ask(self, sequences: Sequence[str]) -> list[np.ndarray]:
        self.asked.append(list(sequences))
        return self._answer(list(sequences))


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "FIRST_WAIT", 0.0)
    monkeypatch.setattr(asking, "LISTEN_EVERY", 0.01)


def vectors(sequences: list[str]) -> list[np.ndarray]:
    return [vector(bases) for bases in sequences]


def asked(
    answer: Answers, sequences: Sequence[str], most_requests: int = 1_000, **options: Any
) -> tuple[Scripted, Asker, list[Answer | Failure]]:
    """Ask for sequences; return server, asker and outcomes in the order of the sequences."""
    served = Scripted(answer)
    asker = Asker(served, "mean", most_requests, **options)
    found = dict(asker.ask(sequences))
    return served, asker, [found[index] for index in range(len(sequences))]


def statuses(found: list[Answer | Failure]) -> list[str]:
    return [one.status if isinstance(one, Failure) else "ok" for one in found]


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [("mean", [4, 2]), ("max", [6, 4]), ("min", [1, 0]), ("last", [6, 0]), ("center", [5, 2]), ("cls", [9, 9])],
)
def test_vectors_of_tokens_are_pooled_without_the_special_ones(pooling: Pooling, expected: list[float]) -> None:
    endpoint = Endpoint("x", special_first=1, special_last=1)
    found = pooled(TOKENS, pooling, endpoint)
    assert (found.vector.tolist(), found.tokens) == (expected, 5)


def test_a_vector_that_the_server_pooled_is_kept() -> None:
    found = pooled(TOKENS[0], "max", Endpoint("x", special_first=1))
    assert (found.vector.tolist(), found.tokens) == ([9, 9], 0)


def test_an_answer_of_special_tokens_alone_is_bad() -> None:
    with pytest.raises(BadAnswer, match="the answer has 2 tokens, all of them special ones"):
        pooled(TOKENS[:2], "mean", Endpoint("x", special_first=1, special_last=1))


def test_a_server_that_pools_is_asked_for_many_at_once_after_the_first() -> None:
    sequences = ["A" * length for length in range(1, 2 * SEQUENCES + 4)]
    served, asker, found = asked(vectors, sequences)
    assert [one.vector.tolist() for one in found if isinstance(one, Answer)] == [vector(x).tolist() for x in sequences]
    assert served.asked[0] == ["A"]
    assert sorted(map(len, served.asked[1:])) == [2, SEQUENCES, SEQUENCES]
    assert (asker.by_server, asker.requests, asker.answered, asker.ended) == (True, 4, len(sequences), None)
    assert asker.seconds > 0


def test_a_server_of_tokens_is_asked_for_one_sequence_at_a_time() -> None:
    served, asker, found = asked(
        lambda sequences: [np.ones((len(x), 2)) for x in sequences], ["AC", "ACG", "A", "ACGT"]
    )
    assert [len(request) for request in served.asked] == [1, 1, 1, 1]
    assert [one.tokens for one in found if isinstance(one, Answer)] == [2, 3, 1, 4]
    assert asker.by_server is False


def test_a_request_has_a_bounded_number_of_bases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "BASES", 10)
    served, _, found = asked(vectors, ["A" * 4] * 6 + ["A" * 30, "A"])
    assert statuses(found) == ["ok"] * 8
    assert sorted(sum(map(len, request)) for request in served.asked) == [1, 4, 4, 8, 8, 30]


def test_too_large_a_request_is_sent_in_halves() -> None:
    def answer(sequences: list[str]) -> list[np.ndarray]:
        if len(sequences) > 4:
            raise TooMuch("the server answers 413")
        return vectors(sequences)

    served, _, found = asked(answer, ["A" * length for length in range(1, 18)])
    assert statuses(found) == ["ok"] * 17
    assert [len(request) for request in served.asked[:2]] == [1, SEQUENCES]
    assert max(len(request) for request in served.asked[3:]) <= 8


def test_a_sequence_that_is_too_large_by_itself_has_no_embedding() -> None:
    def answer(sequences: list[str]) -> list[np.ndarray]:
        if any(len(bases) > 9 for bases in sequences):
            raise TooMuch("the server answers 413")
        return vectors(sequences)

    _, asker, found = asked(answer, ["A", "C" * 10, "G"])
    assert found[1] == Failure("too_large", "the server answers 413")
    assert statuses(found) == ["ok", "too_large", "ok"]
    assert asker.answered == 2


@pytest.mark.parametrize(
    ("error", "status"), [(Refused("a letter"), "refused"), (BadAnswer("no numbers"), "bad_answer")]
)
def test_refused_sequences_do_not_end_the_job_once_others_were_answered(error: Exception, status: str) -> None:
    def answer(sequences: list[str]) -> list[np.ndarray]:
        if "A" not in sequences:
            raise error
        return [np.ones((1, 2))]

    served, asker, found = asked(answer, ["A", "C", "G", "T", "N", "A"])
    assert statuses(found) == ["ok", *[status] * 4, "ok"]
    assert found[1] == Failure(status, str(error))
    assert (len(served.asked), asker.ended) == (6, None)


def test_three_refusals_before_any_answer_stop_everything() -> None:
    def answer(sequences: list[str]) -> list[np.ndarray]:
        raise Refused("the server answers 400")

    with pytest.raises(Stop, match="'a server' embeds nothing: the server answers 400"):
        asked(answer, FIVE)


def test_a_server_that_is_busy_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "ATTEMPTS", 3)
    failures = iter([NotNow("server_error", "the server answers 503")] * 2)

    def answer(sequences: list[str]) -> list[np.ndarray]:
        if (failure := next(failures, None)) is not None:
            raise failure
        return vectors(sequences)

    served, asker, found = asked(answer, ["AC", "G"])
    assert statuses(found) == ["ok", "ok"]
    assert (len(served.asked), asker.requests) == (4, 4)


def test_a_server_that_is_never_ready_stops_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "ATTEMPTS", 3)

    def answer(sequences: list[str]) -> list[np.ndarray]:
        raise NotNow("timeout", "no answer within 120 s")

    served = Scripted(answer)
    with pytest.raises(Stop, match="'a server' embeds nothing: no answer within 120 s, 3 times"):
        list(Asker(served, "mean", 100).ask(["A", "C"]))
    assert served.asked == [["A"]] * 3


def test_three_requests_in_a_row_without_an_answer_end_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "ATTEMPTS", 2)
    monkeypatch.setattr(asking, "IN_FLIGHT", 1)

    def answer(sequences: list[str]) -> list[np.ndarray]:
        if sequences != ["A"]:
            raise NotNow("server_error", "the server answers 500")
        return [np.ones((1, 2))]

    served, asker, found = asked(answer, FIVE + FIVE)
    assert statuses(found) == ["ok", *["server_error"] * 3, *["not_asked"] * 6]
    assert found[1] == Failure("server_error", "the server answers 500, 2 times")
    assert asker.ended == "3 requests in a row failed: the server answers 500, 2 times"
    assert found[9] == Failure("not_asked", asker.ended)
    assert len(served.asked) == 1 + 3 * 2


def test_a_server_that_asks_to_wait_too_long_is_not_waited_for() -> None:
    def answer(sequences: list[str]) -> list[np.ndarray]:
        if sequences != ["A"]:
            raise NotNow("server_error", "the server answers 429", wait=3_600)
        return [np.ones((1, 2))]

    served, _, found = asked(answer, ["A", "C"])
    assert found[1] == Failure("server_error", "the server answers 429, and asks to wait for 3,600 s")
    assert len(served.asked) == 2


def test_all_requests_wait_as_long_as_the_server_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = iter([0.05])

    def answer(sequences: list[str]) -> list[np.ndarray]:
        if (wait := next(waits, None)) is not None:
            raise NotNow("server_error", "the server answers 429", wait)
        return vectors(sequences)

    _, asker, found = asked(answer, ["A", "C"])
    assert statuses(found) == ["ok", "ok"]
    assert asker.seconds >= 0.05


def test_no_more_requests_are_sent_than_allowed() -> None:
    served, asker, found = asked(lambda sequences: [np.ones((1, 2))], FIVE, most_requests=3)
    assert len(served.asked) == asker.requests == asker.answered == 3
    assert sorted(statuses(found)) == ["not_asked", "not_asked", "ok", "ok", "ok"]
    assert asker.ended == "the 3 requests that are allowed are used up"
    assert Failure("not_asked", asker.ended) in found


def test_a_server_that_stops_ends_the_job_and_keeps_what_was_answered() -> None:
    def answer(sequences: list[str]) -> list[np.ndarray]:
        if sequences != ["A"]:
            raise Stop("The credit is used up (402); add some.")
        return vectors(sequences)

    _, asker, found = asked(answer, ["A", *["CG"] * 40])
    assert statuses(found) == ["ok", *["not_asked"] * 40]
    assert found[1] == found[40] == Failure("not_asked", "The credit is used up (402); add some")
    assert asker.ended == "The credit is used up (402); add some"


def test_a_server_that_stops_before_any_answer_is_an_error() -> None:
    def answer(sequences: list[str]) -> list[np.ndarray]:
        raise Stop("'a server' refuses the token (401).")

    with pytest.raises(Stop, match="refuses the token"):
        asked(answer, FIVE)


def test_an_answer_of_other_dimensions_than_the_first_is_bad() -> None:
    _, asker, found = asked(lambda sequences: [np.ones(len(bases)) for bases in sequences], ["AC", "ACG", "GT"])
    assert statuses(found) == ["ok", "bad_answer", "ok"]
    assert found[1] == Failure("bad_answer", "it has 3 dimensions, the first 2")
    assert asker.answered == 2


def test_a_job_that_is_told_to_end_sends_no_other_request() -> None:
    sent: list[str] = []

    def answer(sequences: list[str]) -> list[np.ndarray]:
        sent.extend(sequences)
        return [np.ones((1, 2))]

    served, asker, found = asked(answer, FIVE + FIVE, told_to_end=lambda: bool(sent))
    assert 1 <= len(served.asked) <= 1 + IN_FLIGHT
    assert asker.ended == "the job was told to end"
    assert set(statuses(found)) == {"ok", "not_asked"}
    assert found[9] == Failure("not_asked", "the job was told to end")


def test_an_error_of_ours_is_raised_and_not_taken_for_an_outcome() -> None:
    def answer(sequences: list[str]) -> list[np.ndarray]:
        raise ZeroDivisionError("ours")

    with pytest.raises(ZeroDivisionError, match="ours"):
        asked(answer, FIVE)


def test_what_the_first_answer_has_shown_is_known_later() -> None:
    asker = Asker(Scripted(vectors), "mean", 100)
    assert [index for index, _ in asker.ask(["A"])] == [0]
    assert len(dict(asker.ask(["AC"] * SEQUENCES))) == SEQUENCES
    assert (asker.requests, asker.answered) == (2, SEQUENCES + 1)


@pytest.mark.parametrize(
    ("distinct", "most", "by_server", "said"),
    [
        (80, 4, None, "80 sequences would take 5 requests at least, and 4 are allowed"),
        (1_600, 99, True, "1,600 sequences would take 100 requests at least, and 99 are allowed"),
        (21, 20, False, "21 sequences would take 21 requests, one for each since the server sends one vector a token"),
    ],
)
def test_more_requests_than_are_allowed_are_refused(
    distinct: int, most: int, by_server: bool | None, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        refuse_too_many(distinct, most, by_server)
    refuse_too_many(distinct, most + 1, by_server)
