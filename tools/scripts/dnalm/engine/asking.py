"""Ask a served model for many embeddings: few requests in flight, tried again where it may help, never more than allowed."""

import queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dnalm.errors import UserError
from dnalm.models.served import BadAnswer, Endpoint, NotNow, Refused, ServedModel, Stop, TooMuch

if TYPE_CHECKING:
    from dnalm.methods.pooling import Pooling

IN_FLIGHT = 4  # requests at once
SEQUENCES, BASES = 16, 200_000  # of a request whose answer has one vector a sequence
ATTEMPTS = 6  # of a request
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds before an attempt, doubled each time
LONGEST_ASKED_WAIT = 600.0  # seconds: who asks for more is not waited for
FAILURES_IN_A_ROW = 3  # requests given up, one after the other, after which no other is sent
LAST_ANSWERS_WITHIN = 10.0  # seconds for requests in flight when the job is told to end
LISTEN_EVERY = 0.2  # seconds


@dataclass(frozen=True, slots=True)
class Answer:
    """The embedding of a sequence, shape (dimensions,), and of how many tokens it was pooled here (0: by the server)."""

    vector: NDArray[np.float32]
    tokens: int


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a sequence has no embedding: a word for tables, and a sentence without its end."""

    status: str
    reason: str


Outcome = list[Answer] | NotNow | TooMuch | Refused | BadAnswer | Stop | Failure
KNOWN = (list, NotNow, TooMuch, Refused, BadAnswer, Stop, Failure)
Job = tuple[list[int], list[str]]


def pooled(answer: NDArray[np.float32], pooling: "Pooling", endpoint: Endpoint) -> Answer:
    """Return a sequence's vector from what a server sent; of one vector a token, those around the sequence's own left out.

    Raises:
        BadAnswer: there are no other tokens.
    """
    if answer.ndim == 1:
        return Answer(answer, 0)
    if pooling == "cls":
        return Answer(answer[0], len(answer))
    import torch  # not needed where servers pool

    from dnalm.methods.pooling import combine, reduce_states, token_weights

    inner = answer[endpoint.special_first : len(answer) - endpoint.special_last]
    if not len(inner):
        raise BadAnswer(f"the answer has {len(answer)} tokens, all of them special ones")
    places = np.arange(len(inner))
    weights, _ = token_weights(pooling, places, places + 1)
    states = torch.from_numpy(np.ascontiguousarray(inner))[None]
    (part,) = reduce_states(pooling, states, torch.from_numpy(weights)[None])
    return Answer(combine(pooling, [part.numpy()], float(weights.sum())), len(answer))


class Asker:
    """Sends sequences to a served model.

    Args:
        served: the model.
        pooling: from an answer of one vector a token to one vector.
        most_requests: how many are sent at most, those that are tried again included.
        told_to_end: whether no other request is to be sent.

    Attributes:
        requests: sent so far.
        answered: sequences that have an embedding.
        seconds: during which requests were in flight.
        ended: why no other request is sent; None as long as they are.
        by_server: whether the server pools; None before the first answer.
    """

    def __init__(
        self,
        served: ServedModel,
        pooling: "Pooling",
        most_requests: int,
        told_to_end: Callable[[], bool] = lambda: False,
    ) -> None:
        self._served, self._pooling, self._most_requests, self._told_to_end = (
            served,
            pooling,
            most_requests,
            told_to_end,
        )
        self.requests, self.answered, self.seconds = 0, 0, 0.0
        self.ended: str | None = None
        self.by_server: bool | None = None
        self._sequences = 1  # of a request; one until the kind of answers is known
        self._dimensions: int | None = None
        self._failures = 0
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[tuple[Job, Outcome | BaseException]] = queue.SimpleQueue()
        self._lock, self._ending = threading.Lock(), threading.Event()
        self._not_before = 0.0
        self._jitter = random.Random(0)  # noqa: S311 (of waits)
        for _ in range(IN_FLIGHT):
            # Daemons: a job that is ended does not wait for the answers of a slow server.
            threading.Thread(target=self._work, daemon=True).start()

    def ask(self, sequences: Sequence[str]) -> Iterator[tuple[int, Answer | Failure]]:
        """Yield what became of each sequence with its index, as answers come.

        Raises:
            Stop: no request is ever answered, and none has been.
        """
        waiting = deque([list(range(len(sequences)))])
        flying = 0
        began = time.monotonic()
        while waiting or flying:
            while waiting and self.ended is None and flying < (IN_FLIGHT if self.by_server is not None else 1):
                batch = self._next_batch(waiting, sequences)
                self._jobs.put((batch, [sequences[index] for index in batch]))
                flying += 1
            if not flying:
                break
            found = self._listen()
            if found is None:  # told to end, and the last answers do not come
                break
            flying -= 1
            (batch, texts), outcome = found
            if not isinstance(outcome, KNOWN):
                raise outcome
            if isinstance(outcome, TooMuch) and len(batch) > 1:
                self._sequences = max(1, len(batch) // 2)
                waiting.appendleft(batch)
                continue
            yield from zip(batch, self._settle(texts, outcome), strict=True)
        self.seconds += time.monotonic() - began
        reason = self.ended or "the job was told to end"
        for batch in waiting:
            yield from ((index, Failure("not_asked", reason)) for index in batch)

    def _next_batch(self, waiting: deque[list[int]], sequences: Sequence[str]) -> list[int]:
        """Take as many of the first waiting sequences as one request may have."""
        first = waiting.popleft()
        count, bases = 0, 0
        while count < min(len(first), self._sequences):
            bases += len(sequences[first[count]])
            if count and bases > BASES:
                break
            count += 1
        if count < len(first):
            waiting.appendleft(first[count:])
        return first[:count]

    def _listen(self) -> tuple[Job, Outcome | BaseException] | None:
        """Return the next outcome; None if the job is told to end and the last ones do not come in time."""
        told_at: float | None = None
        while True:
            if self._told_to_end() and told_at is None:
                told_at = time.monotonic()
                self._end("the job was told to end")
            try:
                return self._outcomes.get(timeout=LISTEN_EVERY)
            except queue.Empty:
                if told_at is not None and time.monotonic() - told_at > LAST_ANSWERS_WITHIN:
                    return None

    def _end(self, reason: str) -> None:
        self.ended = self.ended or reason
        self._ending.set()

    def _settle(self, texts: Sequence[str], outcome: Outcome) -> Iterable[Answer | Failure]:
        """Return what an outcome means for each of its sequences, and learn from it."""
        if isinstance(outcome, list):
            self._failures = 0
            return [self._checked(answer) for answer in outcome]
        reason = str(outcome) if isinstance(outcome, Exception) else outcome.reason
        if isinstance(outcome, Stop):
            if self.by_server is None:
                raise outcome
            self._end(reason.rstrip("."))
            return [Failure("not_asked", reason.rstrip("."))] * len(texts)
        if isinstance(outcome, Failure):
            return [outcome] * len(texts)
        self._failures += 1
        unanswered = isinstance(outcome, NotNow)
        enough = self._failures >= FAILURES_IN_A_ROW or (unanswered and self.by_server is None)
        if enough and (unanswered or self.by_server is None):
            if self.by_server is None:
                raise Stop(f"'{self._served.endpoint.name}' embeds nothing: {reason}.")
            self._end(f"{FAILURES_IN_A_ROW} requests in a row failed: {reason}")
        status = outcome.kind if isinstance(outcome, NotNow) else STATUS_OF[type(outcome)]
        return [Failure(status, reason)] * len(texts)

    def _checked(self, answer: Answer) -> Answer | Failure:
        """Return an answer if it is like the first one."""
        if self.by_server is None:
            self.by_server, self._dimensions = answer.tokens == 0, len(answer.vector)
            self._sequences = SEQUENCES if self.by_server else 1
        if len(answer.vector) != self._dimensions:
            return Failure("bad_answer", f"it has {len(answer.vector)} dimensions, the first {self._dimensions}")
        self.answered += 1
        return answer

    def _work(self) -> None:
        """Take jobs and hand back their outcomes, in a thread."""
        while True:
            job = self._jobs.get()
            try:
                outcome: Outcome | BaseException = self._outcome(job[1])
            except BaseException as error:  # of ours: who listens raises it
                outcome = error
            self._outcomes.put((job, outcome))

    def _outcome(self, texts: Sequence[str]) -> Outcome:
        """Send a request, again and again while that may help."""
        failure: NotNow | None = None
        for attempt in range(ATTEMPTS):
            self._ending.wait(max(0.0, self._not_before - time.monotonic()))
            if self._ending.is_set():
                return Failure("not_asked", self.ended or "the job was told to end")
            with self._lock:
                if self.requests >= self._most_requests:
                    reason = f"the {self._most_requests:,} requests that are allowed are used up"
                    self._end(reason)
                    return Failure("not_asked", reason)
                self.requests += 1
            try:
                endpoint = self._served.endpoint
                return [pooled(answer, self._pooling, endpoint) for answer in self._served.ask(texts)]
            except (TooMuch, Refused, BadAnswer, Stop) as outcome:
                return outcome
            except NotNow as outcome:
                failure = outcome
            if failure.wait is not None:
                if failure.wait > LONGEST_ASKED_WAIT:
                    return NotNow(failure.kind, f"{failure}, and asks to wait for {failure.wait:,.0f} s")
                self._not_before = max(self._not_before, time.monotonic() + failure.wait)  # for everybody
            elif attempt < ATTEMPTS - 1:
                longest = min(FIRST_WAIT * 2**attempt, LONGEST_WAIT)
                self._ending.wait(longest * (0.5 + 0.5 * self._jitter.random()))
        assert failure is not None
        return NotNow(failure.kind, f"{failure}, {ATTEMPTS} times")


STATUS_OF: dict[type[Exception], str] = {TooMuch: "too_large", Refused: "refused", BadAnswer: "bad_answer"}


def refuse_too_many(distinct: int, most_requests: int, by_server: bool | None = None) -> None:
    """Raise UserError if so many sequences need more requests than are allowed, whatever the answers are like."""
    fewest = -(-distinct // SEQUENCES) if by_server is not False else distinct
    if fewest > most_requests:
        kind = ", one for each since the server sends one vector a token" if by_server is False else " at least"
        raise UserError(
            f"{distinct:,} sequences would take {fewest:,} requests{kind}, and {most_requests:,} are allowed; send fewer "
            "sequences, or allow more requests."
        )
