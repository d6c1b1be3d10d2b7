"""Let a causal model write DNA: token by token, in batches, each sequence with random numbers of its own."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnalm.engine.devices import Machine
from dnalm.errors import UserError
from dnalm.methods.sampling import draw, keep_top_k, keep_top_p, log_softmax, temper
from dnalm.models.language_model import Cache, LanguageModel
from dnalm.models.tokenizers import LETTERS

# A step reads one token a sequence, so that many sequences at once cost little more than one, until the cache of what
# they have read fills the memory: it is allowed so many tokens for each that a batch may have elsewhere.
CACHED_TOKENS = 32
MOST_ROWS = 256
# All pairs and triplets of letters: a tokenizer that writes them in other than plain words is refused.
PROBE = "AACAGATCCGCTGGTTACGTTGCATGACTCAGTA" * 8


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn; the names are those of `dnalm_generate.py --help`, `length` is in bases."""

    length: int = 200
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0


@dataclass(frozen=True, slots=True)
class Request:
    """One sequence to generate: what it continues (None: nothing), and whole numbers that seed its random numbers."""

    prompt: str | None
    seeds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Generated:
    """What was generated behind a prompt.

    Attributes:
        bases: A, C, G and T, of the length asked for.
        n_tokens: tokens drawn.
        log_likelihood: natural logarithm of their probability by the model itself, whatever the sampling.
        unread: bases at the prompt's start that lie before the model's context.
    """

    bases: str
    n_tokens: int
    log_likelihood: float
    unread: int

    @property
    def bits_per_base(self) -> float:
        """Minus the log-likelihood in bits, divided by the bases; 2 is what four equally likely letters have."""
        return -self.log_likelihood / math.log(2) / len(self.bases)

    @property
    def gc(self) -> float:
        """The share of G and C."""
        return (self.bases.count("G") + self.bases.count("C")) / len(self.bases)


class SequenceGenerator:
    """A causal language model that continues DNA.

    **What can be drawn.** Tokens of A, C, G and T alone: special tokens, unknown and N never are. Temperature, top-k
    and top-p, in this order, act on the model's distribution over these.

    **Where it starts.** Behind the prompt with the special tokens that the tokenizer puts before it, but none that it
    puts behind. Without a prompt, behind these special tokens alone; where there are none, the first base is drawn
    uniformly, and its probability of 1/4 counts.

    **Length.** The last token is cut at the length. What is drawn are thus the first bases of an endless sequence, and
    no token is preferred for being short.

    **Log-likelihood.** The sum of the log-probabilities of the drawn tokens, each by the softmax over the model's full
    vocabulary at temperature 1. The last token counts with the probability of all DNA tokens that begin with the bases
    kept of it, since any of them would have given these.

    **Context.** When it is full, the older half of its tokens is dropped, special tokens at the front apart, and the
    model reads the rest anew. Of a prompt longer than the context the end is read.
    """

    def __init__(self, model: LanguageModel, sampling: Sampling, machine: Machine) -> None:
        if not model.causal:
            raise UserError(
                f"The model '{model.stored.name}' ({model.architecture}) fills masks and cannot continue a sequence; "
                "use a causal model, which reads left to right."
            )
        self._model, self._sampling, self._machine = model, sampling, machine
        words = dna_words(model)
        self._word_ids = np.array(list(words), dtype=np.int64)
        self._words = list(words.values())
        self._beginning_with: dict[str, NDArray[np.int64]] = {}
        (encoding,) = model.encode(["A"])
        self._front = encoding.ids[: int(np.flatnonzero(~encoding.special)[0])]
        self._room = model.context_length - len(self._front) if model.context_length else None
        model.to(machine.device, torch.float32)

    @property
    def description(self) -> str:
        """Architecture, sizes, and where sequences without a prompt start."""
        model, context = self._model, self._model.context_length
        start = "a start token" if len(self._front) else "no start token: unprompted, the first base is uniform"
        return (
            f"{model.stored.name}, {model.architecture}, {len(model.layers)} layers, "
            f"context {f'{context:,}' if context else 'unlimited'} tokens, {len(self._words):,} DNA tokens; {start}"
        )

    def facts(self) -> dict[str, Any]:
        """Return what identifies the model."""
        stored = self._model.stored
        facts = {"name": stored.name, "sha256": stored.sha256(), "licence": stored.licence}
        return facts | {key: stored.provenance[key] for key in ("revision",) if key in stored.provenance}

    def generate(
        self, requests: Sequence[Request], on_bases: Callable[[int], None] = lambda count: None
    ) -> list[Generated]:
        """Return one sequence a request, in order; `on_bases` is told how many bases were added.

        A sequence depends on its request alone, not on its company.

        Raises:
            UserError: the tokenizer cannot read a prompt, the model makes NaN or infinity, or one sequence alone does
                not fit into the GPU's memory.
        """
        prompts = list(dict.fromkeys(request.prompt for request in requests))
        starts = dict(zip(prompts, self._starts(prompts), strict=True))
        sequences = [_Sequence(request, *starts[request.prompt]) for request in requests]
        with torch.inference_mode():
            for batch in self._batches(sequences):
                self._grow_within_memory(batch, on_bases)
        return [
            Generated("".join(sequence.words), sequence.n_tokens, sequence.log_likelihood, sequence.unread)
            for sequence in sequences
        ]

    def _starts(self, prompts: Sequence[str | None]) -> Iterator[tuple[list[int], int]]:
        """Yield the tokens that each prompt gives the model, and how many bases lie before them."""
        encodings = self._model.encode([prompt or LETTERS for prompt in prompts])
        for prompt, encoding in zip(prompts, encodings, strict=True):
            covering = np.flatnonzero(~encoding.special)[-self._room if self._room else 0 :]
            read = encoding.ids[covering] if prompt else encoding.ids[:0]
            unread = int(encoding.starts[covering[0]]) if prompt else 0
            yield [*self._front.tolist(), *read.tolist()], unread

    def _batches(self, sequences: Sequence["_Sequence"]) -> Iterator[list["_Sequence"]]:
        """Yield sequences whose starts have as many tokens, so that nothing is padded."""
        of_length: dict[int, list[_Sequence]] = {}
        for sequence in sequences:
            of_length.setdefault(len(sequence.start), []).append(sequence)
        for length, alike in sorted(of_length.items()):
            most = min(length + self._sampling.length, self._model.context_length or math.inf)
            rows = int(min(max(CACHED_TOKENS * self._machine.batch_tokens // most, 1), MOST_ROWS))
            yield from (alike[first : first + rows] for first in range(0, len(alike), rows))

    def _grow_within_memory(self, batch: list["_Sequence"], on_bases: Callable[[int], None]) -> None:
        """Grow a batch, or its halves where the GPU's memory does not suffice."""
        for sequence in batch:
            sequence.restart()
        try:
            self._grow(batch, on_bases)
            return
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise UserError(
                    f"One sequence of {len(batch[0].window):,} tokens does not fit into the GPU; "
                    "use shorter sequences or a larger GPU."
                ) from None
        on_bases(-sum(sequence.length for sequence in batch))
        torch.cuda.empty_cache()
        middle = len(batch) // 2
        for half in (batch[:middle], batch[middle:]):
            self._grow_within_memory(half, on_bases)

    def _grow(self, rows: list["_Sequence"], on_bases: Callable[[int], None]) -> None:
        """Draw tokens until every sequence has its length; all windows have as many tokens at any time."""
        if not rows[0].window:
            self._add_uniform_bases(rows)
            on_bases(len(rows))
        rows = [row for row in rows if row.length < self._sampling.length]
        if not rows:
            return
        logits, cache = self._read(rows)
        while True:
            on_bases(self._draw(rows, logits))
            going = [number for number, row in enumerate(rows) if row.length < self._sampling.length]
            if not going:
                return
            finished = len(going) < len(rows)
            rows = [rows[number] for number in going]
            if self._model.context_length and len(rows[0].window) > self._model.context_length:
                self._slide(rows)
                logits, cache = self._read(rows)
                continue
            if finished:
                cache.batch_select_indices(self._tensor(going))
            newest = self._tensor([row.window[-1] for row in rows])
            logits, cache = self._model.next_logits(newest[:, None], cache)

    def _add_uniform_bases(self, rows: list["_Sequence"]) -> None:
        ids = {word: number for number, word in zip(self._word_ids.tolist(), self._words, strict=True)}
        for row in rows:
            letter = LETTERS[int(row.random.integers(len(LETTERS)))]
            row.add(ids[letter], letter, -math.log(len(LETTERS)))

    def _slide(self, rows: list["_Sequence"]) -> None:
        """Drop the older half of full windows, special tokens at the front apart."""
        assert self._room is not None
        kept = max(self._room // 2, 1)
        for row in rows:
            row.window = [*self._front.tolist(), *row.window[-kept:]]

    def _read(self, rows: list["_Sequence"]) -> tuple[Tensor, Cache]:
        """Read whole windows, equal ones once; return the next token's logits and the cache, one row a sequence."""
        numbers = {window: number for number, window in enumerate(dict.fromkeys(tuple(row.window) for row in rows))}
        logits, cache = self._model.next_logits(self._tensor(list(numbers)))
        if len(numbers) < len(rows):
            owners = self._tensor([numbers[tuple(row.window)] for row in rows])
            cache.batch_select_indices(owners)
            logits = logits[owners]
        return logits, cache

    def _draw(self, rows: list["_Sequence"], logits: Tensor) -> int:
        """Add one token to each row; return the bases added."""
        exact = logits.double().cpu().numpy()
        if not np.isfinite(exact).all():
            raise UserError("The model makes NaN or infinite numbers of a sequence; use another model.")
        likelihoods = log_softmax(exact)[:, self._word_ids]
        sampling = self._sampling
        filtered = keep_top_p(keep_top_k(temper(likelihoods, sampling.temperature), sampling.top_k), sampling.top_p)
        drawn = draw(filtered, np.array([row.random.random() for row in rows]))
        added = 0
        for row, number, of_row in zip(rows, drawn.tolist(), likelihoods, strict=True):
            word = self._words[number]
            left = sampling.length - row.length
            if len(word) < left:
                row.add(int(self._word_ids[number]), word, float(of_row[number]))
            else:
                kept = word[:left]
                row.add(int(self._word_ids[number]), kept, float(np.logaddexp.reduce(of_row[self._words_on(kept)])))
            added += min(len(word), left)
        return added

    def _words_on(self, beginning: str) -> NDArray[np.int64]:
        """Return the numbers of the DNA tokens that begin with some bases."""
        if beginning not in self._beginning_with:
            numbers = [number for number, word in enumerate(self._words) if word.startswith(beginning)]
            self._beginning_with[beginning] = np.array(numbers, dtype=np.int64)
        return self._beginning_with[beginning]

    def _tensor(self, numbers: Sequence[Any]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.int64, device=self._machine.device)


class _Sequence:
    """A sequence on its way: what the model sees of it, and what was drawn."""

    def __init__(self, request: Request, start: list[int], unread: int) -> None:
        self.start, self.unread = start, unread
        self._seeds = request.seeds
        self.restart()

    def restart(self) -> None:
        """Forget what was drawn; the same will be drawn again."""
        self.random = np.random.default_rng(self._seeds)
        self.window = list(self.start)
        self.words: list[str] = []
        self.length = 0
        self.n_tokens = 0
        self.log_likelihood = 0.0

    def add(self, token: int, bases: str, log_probability: float) -> None:
        """Append a token, or what is kept of it."""
        self.window.append(token)
        self.words.append(bases)
        self.length += len(bases)
        self.n_tokens += 1
        self.log_likelihood += log_probability


def dna_words(model: LanguageModel) -> dict[int, str]:
    """Return id → bases of the tokens that stand for A, C, G and T alone.

    Raises:
        UserError: the tokenizer writes DNA in other tokens, for example with a mark for the middle of a word.
    """
    words = {number: word for number, word in model.tokenizer.words().items() if number < model.vocabulary_size}
    for encoding, bases in zip(model.encode([*LETTERS, PROBE]), [*LETTERS, PROBE], strict=True):
        for number, start, end in zip(encoding.ids, encoding.starts, encoding.ends, strict=True):
            if start < end and words.get(int(number)) != bases[start:end]:
                raise UserError(
                    f"The tokenizer of the model '{model.stored.name}' writes '{bases[start:end][:20]}' as no plain word "
                    "of A, C, G and T, so that its tokens cannot be put together; use another model."
                )
    return words
