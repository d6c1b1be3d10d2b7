"""A model that a server runs: sequences go to it over HTTP, vectors come back, whatever else happens has one of few names.

The requests are made by huggingface_hub's `InferenceClient` (feature extraction), which neither tries again nor bounds the
time and size of an answer; `engine.asking` does the first, `models.bounded_http` the second. Nothing that a server says is
passed on with the token in it.
"""

import base64
import ipaddress
import json
import re
import unicodedata
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Literal, Self
from urllib.parse import quote, urlsplit

import httpx2
import huggingface_hub
import numpy as np
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError, HTTPError, InferenceTimeoutError
from huggingface_hub.utils import logging
from numpy.typing import NDArray

from dnalm.errors import UserError, shown
from dnalm.models.bounded_http import BoundedClient, RedirectedElsewhere, UnusableAnswer, in_time
from dnalm.models.hub import MODEL_ID, TOKEN

CONNECT_WITHIN, ANSWER_WITHIN, WHOLE_ANSWER_WITHIN = 10.0, 120.0, 300.0  # seconds; the second: for something of it
LATER = {408, 429, 500, 502, 503, 504}
TOO_MUCH = {413, 422}
PROVIDERS = ("hf-inference", "deepinfra", "scaleway", "together")  # with feature extraction
LONGEST_QUOTE = 200  # characters of a server's own words
HIDING = 8  # letters and digits of a token, one after the other, in a text that is not shown
NotNowKind = Literal["timeout", "unreachable", "server_error"]

logging.set_verbosity_error()  # its warnings quote addresses


class NotNow(Exception):  # noqa: N818 (an outcome)
    """The same request may be answered later; `wait` is what the server asks for, in seconds."""

    def __init__(self, kind: NotNowKind, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.kind, self.wait = kind, wait


class TooMuch(Exception):  # noqa: N818 (an outcome)
    """Fewer sequences at once may be answered."""


class Refused(Exception):  # noqa: N818 (an outcome)
    """These sequences are never answered."""


class BadAnswer(Exception):  # noqa: N818 (an outcome)
    """An answer came that holds no embeddings of these sequences."""


class Stop(UserError):  # noqa: N818 (an outcome)
    """No request will be answered."""


@dataclass(frozen=True)
class Endpoint:
    """Where a model is served: at an address, or by a provider for the hub's models.

    Attributes:
        name: what people call it.
        url: of an endpoint.
        model_id, provider: of a model of the hub.
        takes_token: whether the user's token is sent there.
        max_bases: the longest sequence that is sent.
        special_first, special_last: tokens around a sequence's own in an answer of one vector a token.
    """

    name: str
    url: str | None = None
    model_id: str | None = None
    provider: str | None = None
    takes_token: bool = True
    max_bases: int | None = None
    special_first: int = 0
    special_last: int = 0

    @property
    def identity(self) -> str:
        """What an answer belongs to: address without its query, or provider and model."""
        if self.url is None:
            return f"{self.provider}:{self.model_id}"
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}{parts.path}"

    @property
    def host(self) -> str:
        """Who gets the sequences, for people."""
        return f"the provider {self.provider}" if self.url is None else urlsplit(self.url).netloc


def refuse_unsafe(endpoint: Endpoint, token: str | None) -> None:
    """Raise UserError if sequences or a token would travel unencrypted, or something is malformed or missing."""
    if token is not None and not TOKEN.fullmatch(token):
        raise UserError("The token holds blanks or strange letters; give it again.")
    if endpoint.url is None:
        model_id = endpoint.model_id or ""
        if not MODEL_ID.fullmatch(model_id) or "--" in model_id or ".." in model_id:
            raise UserError(
                f"'{shown(model_id)}' is no id of a model; use organisation/name, as its page on the hub says."
            )
        if token is None:
            raise UserError(
                "No token is given, and the hub's providers need one; set this tool's credentials (from a shell HF_TOKEN)."
            )
        return
    parts = urlsplit(endpoint.url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.fragment:
        raise UserError(f"The address '{shown(endpoint.url)}' is none of an endpoint; the server's admin must fix it.")
    if parts.scheme == "http" and not _is_this_machine(parts.hostname):
        raise UserError(
            f"The endpoint at '{shown(parts.netloc)}' is not encrypted; only https is used (http for this machine alone)."
        )


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def quoted(text: str, token: str | None) -> str:
    r"""Return a text of a server in a short form on one line; '' if a part of the token may be in it.

    Only letters and digits are compared, without their case, both ways round: of the token, of its base64 in all three
    alignments, and of what stands for its characters in numbers (hexadecimal, percent, `\u`, `\x`, `&#`).
    """
    line = " ".join(text.split())
    short = shown(line, LONGEST_QUOTE)
    if not token:
        return short
    bare = _bare(line[:LONGEST_QUOTE])
    for form in map(_bare, _forms(token)):
        length = min(HIDING, len(form))
        for way in (form, form[::-1]):
            if any(way[start : start + length] in bare for start in range(len(way) - length + 1)):
                return ""
    return short


def _forms(token: str) -> list[str]:
    # What comes before the token shifts its base64 by none, one or two characters, and changes the first of it.
    shifted = [base64.b64encode(bytes(before) + token.encode()).decode() for before in range(3)]
    inner = [encoded[cut : len(encoded.rstrip("=")) - 1] for cut, encoded in zip((0, 2, 3), shifted, strict=True)]
    numbers = ("{:02x}", "u{:04x}", "x{:02x}", "{:d}", "{:03o}")
    return [token, quote(token, safe=""), *inner, *("".join(form.format(ord(x)) for x in token) for form in numbers)]


def _bare(text: str) -> str:
    """Return a text's ASCII letters, small, and digits alone."""
    return "".join(x for x in unicodedata.normalize("NFKD", text).lower() if x.isascii() and x.isalnum())


class ServedModel:
    """A served model that is asked for embeddings; use it in a `with`. Several threads may ask at once."""

    def __init__(self, endpoint: Endpoint, token: str | None) -> None:
        refuse_unsafe(endpoint, token)
        self.endpoint = endpoint
        self._token = token if endpoint.takes_token else None
        # Without this the library would look for a token of the machine, and send that.
        headers: dict[str, Any] = {} if self._token else {"authorization": None}
        timeout: Any = httpx2.Timeout(ANSWER_WITHIN, connect=CONNECT_WITHIN)
        provider: Any = endpoint.provider or "hf-inference"
        self._client = InferenceClient(provider=provider, token=self._token, headers=headers, timeout=timeout)
        self._open = ExitStack()

    def __enter__(self) -> Self:
        huggingface_hub.set_client_factory(lambda: BoundedClient(WHOLE_ANSWER_WITHIN))
        self._open.callback(huggingface_hub.set_client_factory, lambda: httpx2.Client(follow_redirects=True))
        return self

    def __exit__(self, *exception: object) -> None:
        self._open.close()

    def ask(self, sequences: Sequence[str]) -> list[NDArray[np.float32]]:
        """Return the embedding of each sequence, shape (dimensions,) or (tokens, dimensions), in order.

        Raises:
            NotNow, TooMuch, Refused, BadAnswer, Stop: there is none; nothing else is raised, whatever the server does.
        """
        try:
            answer = in_time(lambda: self._request(sequences), WHOLE_ANSWER_WITHIN)
        except TimeoutError:
            raise NotNow("timeout", f"no whole answer within {WHOLE_ANSWER_WITHIN:g} s") from None
        return read_answer(answer, len(sequences))

    def _request(self, sequences: Sequence[str]) -> NDArray[Any]:
        given: Any = sequences[0] if len(sequences) == 1 else list(sequences)
        try:
            return self._client.feature_extraction(given, model=self.endpoint.url or self.endpoint.model_id)
        except InferenceTimeoutError:
            raise NotNow("timeout", f"no answer within {ANSWER_WITHIN:g} s") from None
        except TimeoutError:  # of the whole answer
            raise
        except HfHubHTTPError as error:
            raise self._outcome(error.response, len(sequences)) from None
        except HTTPError as error:
            raise NotNow("unreachable", f"it cannot be reached or broke off ({type(error).__name__})") from None
        except RedirectedElsewhere:
            # Elsewhere nobody has agreed to.
            raise Stop(
                f"'{self.endpoint.name}' sends requests elsewhere, which is not followed; its address must be fixed."
            ) from None
        except UnusableAnswer as error:
            raise BadAnswer(str(error)) from None
        except StopIteration:
            raise Stop(f"No provider serves the model '{self.endpoint.model_id}'; choose another one.") from None
        except json.JSONDecodeError as error:
            if error.doc.lstrip().startswith("<"):
                raise Stop(
                    f"What answers for '{self.endpoint.name}' is no inference endpoint: it sends a web page (HTML); the "
                    "server's admin must fix its address."
                ) from None
            raise BadAnswer("the answer is no JSON") from None
        except (TypeError, ValueError, KeyError, IndexError, AttributeError, RecursionError, OverflowError) as error:
            raise self._about_answer(error, len(sequences)) from None
        except MemoryError:
            raise
        except Exception as error:  # what a library of the network has of its own
            raise NotNow("unreachable", f"it cannot be reached ({type(error).__name__})") from None

    def _about_answer(self, error: Exception, count: int) -> Exception:
        """Return what a failure of the library before a request or behind an answer means."""
        text = str(error)
        if self.endpoint.url is None and isinstance(error, ValueError) and text.startswith("Model "):
            said = quoted(text, self._token)
            return Stop(
                f"The model '{self.endpoint.model_id}' is not served for feature extraction by {self.endpoint.provider}"
                f"{f' ({said})' if said else ''}; choose another one."
            )
        if "inhomogeneous" in text and count > 1:
            return TooMuch("the answers of several sequences are not of one length")
        return BadAnswer("the answer holds no numbers of one shape")

    def _outcome(self, response: httpx2.Response, count: int) -> Exception:
        """Return what an error of the server means for a request of so many sequences."""
        status, name = response.status_code, self.endpoint.name
        said = self._said(response)
        if status in TOO_MUCH or (status == 504 and count > 1):
            return TooMuch(f"the server answers {status}{said}")
        if status in LATER:
            return NotNow("server_error", f"the server answers {status}", _asked_to_wait(response))
        if status == 401:
            why = "refuses the token" if self._token else "needs a token"
            return Stop(f"'{name}' {why} (401); set the credentials of this tool (from a shell HF_TOKEN).")
        if status == 402:
            return Stop(
                f"The credit of the token's owner at '{name}' is used up (402); add some, then go on from here."
            )
        if status == 403:
            return Stop(
                f"'{name}' refuses what the token may do (403); it needs the right to call inference providers, or this "
                "endpoint."
            )
        if status == 404:
            return Stop(f"'{name}' does not serve this model (404); choose another one, or ask the server's admin.")
        return Refused(f"the server answers {status}{said}")

    def _said(self, response: httpx2.Response) -> str:
        """Return a server's own words, if there are any without the token."""
        said = quoted(str(response.json().get("error", "")), self._token)
        return f": {said}" if said else ""


def _asked_to_wait(response: httpx2.Response) -> float | None:
    """Return how many seconds a server asks to wait, by `Retry-After`, `ratelimit` or an estimate in its words."""
    asked = response.headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", asked):
        return float(asked)
    if asked:
        try:
            now = parsedate_to_datetime(response.headers["date"])
            return max(0.0, (parsedate_to_datetime(asked) - now).total_seconds())
        except (KeyError, TypeError, ValueError):
            return None
    if limit := re.search(r";r=0;t=(\d{1,9})", response.headers.get("ratelimit", "")):
        return float(limit[1])
    estimate = response.json().get("estimated_time")
    return float(estimate) if isinstance(estimate, int | float) and 0 <= estimate < 1e9 else None


def read_answer(answer: NDArray[Any], count: int) -> list[NDArray[np.float32]]:
    """Return one embedding a sequence, shape (dimensions,) or (tokens, dimensions), from what a server sent for them all.

    A server sends one vector a sequence or one a token, and may wrap each in further brackets.

    Raises:
        BadAnswer: there is none for each, or a number is not finite.
    """
    if count > 1 and (answer.ndim < 2 or len(answer) != count):
        raise BadAnswer(f"{count} sequences were sent, and an answer of the shape {answer.shape} came")
    found = []
    for item in [answer] if count == 1 else answer:
        inner = item
        while inner.ndim > 1 and len(inner) == 1:
            inner = inner[0]
        if inner.ndim not in (1, 2) or not inner.size:
            raise BadAnswer(f"an answer of the shape {item.shape} came, where a vector, or one a token, is needed")
        if not np.isfinite(inner).all():
            raise BadAnswer("a number of the answer is NaN or infinite")
        found.append(np.asarray(inner, dtype=np.float32))
    return found
