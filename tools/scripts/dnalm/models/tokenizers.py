"""From bases to token ids: tokenizer.json (BPE and others), k-mer vocabularies, single letters."""

import contextlib
import itertools
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as RustTokenizer

from dnalm.errors import UserError, shown

Ids = NDArray[np.int64]
LONGEST_KMER = 8  # 65,536 tokens; no published DNA vocabulary has longer fixed words
LETTERS = "ACGT"
KINDS_OF_FILES = {
    "tokenizer.json": dict,
    "vocab.txt": str,
    "tokenizer_config.json": dict,
    "special_tokens_map.json": dict,
}
# Repeats are the worst that a pattern of a tokenizer.json can meet, and genomes are full of them.
PROBE = "".join(first * 200 + second for first, second in itertools.permutations("ACGTN", 2))
SLOWEST_PROBE = 1.0  # seconds of the processor; published tokenizers take a millisecond
NO_LIMIT = 10**9  # Hugging Face writes 10**30 for "no limit"


@dataclass(frozen=True, slots=True)
class Encoding:
    """The tokens of one sequence, each with the bases it covers.

    Attributes:
        ids: token ids, special tokens included; shape (tokens,).
        starts, ends: 0-based half-open bases of each token; both 0 for special tokens; shape (tokens,).
    """

    ids: Ids
    starts: Ids
    ends: Ids

    @property
    def special(self) -> NDArray[np.bool_]:
        """Which tokens cover no base; shape (tokens,)."""
        return self.starts == self.ends

    def __len__(self) -> int:
        return len(self.ids)

    def truncated(self, limit: int) -> "Encoding":
        """Return the first tokens, at most `limit` with the special tokens at the end, which stay."""
        if len(self) <= limit:
            return self
        last = len(self) - 1 - int(np.flatnonzero(~self.special)[-1])
        kept = np.r_[0 : limit - last, len(self) - last : len(self)]
        return Encoding(self.ids[kept], self.starts[kept], self.ends[kept])


class Tokenizer(Protocol):
    """What the engine needs of a tokenizer. `cls_id` is None where sequences do not start with such a token."""

    pad_id: int | None
    cls_id: int | None
    largest_input: int | None

    def encode(self, sequences: Sequence[str]) -> list[Encoding]:
        """Tokenize sequences of A, C, G, T and N."""
        ...

    def words(self) -> dict[int, str]:
        """Return the ids of the tokens that stand for bases alone, in their order, each with its A, C, G and T."""
        ...


def tokenizer_from_files(files: Mapping[str, Any]) -> Tokenizer:
    """Return the tokenizer that a model's files describe.

    Args:
        files: file name → content (parsed JSON, or text): tokenizer.json, or vocab.txt with every k-mer of A, C, G, T and
            the four letters; tokenizer_config.json and special_tokens_map.json where there are any.

    Raises:
        UserError: there is neither, or they do not describe a DNA tokenizer.
    """
    for name, kind in KINDS_OF_FILES.items():
        if name in files and not isinstance(files[name], kind):
            raise UserError(f"The model's {name} is not what a tokenizer needs; use an intact model.")
    settings = {**files.get("special_tokens_map.json", {}), **files.get("tokenizer_config.json", {})}
    if "tokenizer.json" in files:
        return JsonTokenizer(files["tokenizer.json"], settings)
    if "vocab.txt" in files:
        return KmerTokenizer(files["vocab.txt"].split(), settings)
    raise UserError("The model has no tokenizer.json and no vocab.txt; use a model with its tokenizer.")


class KmerTokenizer:
    """Words of k bases without overlap, read left to right; k = 1 reads single letters.

    The rule of the Nucleotide Transformer (Dalla-Torre et al. 2025, doi:10.1038/s41592-024-02523-z): the sequence is split
    at every N; each N is a token; each piece is cut into k-mers and what remains, shorter than k, into single letters.
    `<cls>` is put first where the vocabulary has it; an end token last only where the settings name one.
    """

    def __init__(self, vocabulary: Sequence[str], settings: Mapping[str, Any]) -> None:
        ids = {token: number for number, token in reversed(list(enumerate(vocabulary))) }
        words = [token for token in ids if set(token) <= set(LETTERS)]
        self.k = max(map(len, words), default=0)
        if not 0 < self.k <= LONGEST_KMER:
            raise UserError(f"The model's vocab.txt has no words of 1 to {LONGEST_KMER} bases; use a DNA vocabulary.")
        kmers = ["".join(letters) for letters in itertools.product(LETTERS, repeat=self.k)]
        if lacking := [word for word in (*kmers, *LETTERS) if word not in ids]:
            raise UserError(f"The model's vocab.txt lacks the word '{lacking[0]}'; use a complete vocabulary.")
        unknown = _first_id(ids, "<unk>", "[UNK]")
        n_id = ids.get("N", unknown)
        if n_id is None:
            raise UserError("The model's vocab.txt has neither 'N' nor an unknown token; use a complete vocabulary.")
        self._words_of_ids = _dna_words(ids)
        self._kmer_ids = np.array([ids[kmer] for kmer in kmers], dtype=np.int64)
        self._letter_ids = np.array([*(ids[letter] for letter in LETTERS), n_id], dtype=np.int64)
        self._grid: Ids = np.zeros(1, dtype=np.int64)
        self._powers = len(LETTERS) ** np.arange(self.k - 1, -1, -1, dtype=np.int64)
        self.pad_id = _first_id(ids, "<pad>", "[PAD]")
        self.cls_id = _first_id(ids, "<cls>", "[CLS]")
        self.eos_id = _first_id(ids, _text(settings.get("eos_token")))
        self.largest_input = _largest_input(settings)

    def encode(self, sequences: Sequence[str]) -> list[Encoding]:
        """Tokenize sequences of A, C, G, T and N."""
        return [self._encode(sequence) for sequence in sequences]

    def words(self) -> dict[int, str]:
        """Return the ids of the tokens that stand for bases alone, in their order, each with its A, C, G and T."""
        return self._words_of_ids

    def _encode(self, sequence: str) -> Encoding:
        codes = CODES[np.frombuffer(sequence.encode("ascii"), dtype=np.uint8)]
        if "N" in sequence:
            starts, lengths = self._words(codes)
            ids = self._letter_ids[codes[starts]]
            if self.k > 1:
                whole = lengths == self.k
                letters = codes[starts[whole, None] + np.arange(self.k)]
                ids[whole] = self._kmer_ids[letters @ self._powers]
            return self._framed([ids], [starts], [starts + lengths])
        # Most sequences have no N: their words lie on a grid, and what is left are single letters.
        count = len(codes) // self.k
        edge = count * self.k
        grid = self._grid_to(edge)
        kmers = self._kmer_ids[codes[:edge].reshape(count, self.k) @ self._powers]
        rest = np.arange(edge, len(codes))
        return self._framed(
            [kmers, self._letter_ids[codes[edge:]]], [grid[:count], rest], [grid[1 : count + 1], rest + 1]
        )

    def _framed(self, ids: list[Ids], starts: list[Ids], ends: list[Ids]) -> Encoding:
        """Join the parts of an encoding and put the special tokens around them."""
        front = [] if self.cls_id is None else [np.array([self.cls_id])]
        back = [] if self.eos_id is None else [np.array([self.eos_id])]
        nowhere = np.zeros(1, dtype=np.int64)
        first, last = [nowhere] * len(front), [nowhere] * len(back)
        return Encoding(
            np.concatenate([*front, *ids, *back]),
            np.concatenate([*first, *starts, *last]),
            np.concatenate([*first, *ends, *last]),
        )

    def _grid_to(self, end: int) -> Ids:
        """Return 0, k, 2k … up to at least `end`; kept, since every sequence begins alike."""
        if self._grid[-1] < end:
            self._grid = np.arange(0, 2 * end + self.k, self.k)
        return self._grid

    def _words(self, codes: Ids) -> tuple[Ids, Ids]:
        """Return first base and length of each word."""
        is_n = codes == N_CODE
        edges = np.flatnonzero(np.diff(is_n)) + 1
        bounds = [0, *edges.tolist(), len(codes)] if len(codes) else []
        starts = [np.zeros(0, dtype=np.int64)]
        lengths = [np.zeros(0, dtype=np.int64)]
        for start, end in itertools.pairwise(bounds):
            whole = 0 if is_n[start] else (end - start) // self.k
            letters_from = start + whole * self.k
            starts += [np.arange(start, letters_from, self.k), np.arange(letters_from, end)]
            lengths += [np.full(whole, self.k), np.ones(end - letters_from, dtype=np.int64)]
        return np.concatenate(starts), np.concatenate(lengths)


N_CODE = len(LETTERS)
CODES = np.full(256, N_CODE, dtype=np.int64)
CODES[np.frombuffer(LETTERS.encode(), dtype=np.uint8)] = np.arange(len(LETTERS))


class JsonTokenizer:
    """A tokenizer.json, run by the `tokenizers` library; its own post-processor adds the special tokens."""

    def __init__(self, description: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        with _library_errors():
            self._tokenizer = RustTokenizer.from_str(json.dumps(description))
            # A file may carry the truncation and padding of its last use.
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
            first = self._tokenizer.encode("A")
            started = time.process_time()
            self._tokenizer.encode(PROBE)
            seconds = time.process_time() - started
        if seconds > SLOWEST_PROBE:
            raise UserError(
                f"The model's tokenizer.json takes {seconds:.0f} seconds for {len(PROBE):,} bases; use an intact model."
            )
        if not first.ids:
            raise UserError("The model's tokenizer.json makes no token of the letter A; use a DNA model.")
        self.pad_id = self._id(settings.get("pad_token"), "[PAD]", "<pad>")
        self.cls_id = first.ids[0] if first.special_tokens_mask[0] else None
        self.largest_input = _largest_input(settings)

    def _id(self, *tokens: object) -> int | None:
        found = (self._tokenizer.token_to_id(_text(token)) for token in tokens)
        return next((token_id for token_id in found if token_id is not None), None)

    def encode(self, sequences: Sequence[str]) -> list[Encoding]:
        """Tokenize sequences of A, C, G, T and N."""
        encodings = []
        with _library_errors():
            batch = self._tokenizer.encode_batch(list(sequences))
        for encoded in batch:
            spans = np.array(encoded.offsets, dtype=np.int64).reshape(-1, 2)
            encodings.append(Encoding(np.array(encoded.ids, dtype=np.int64), spans[:, 0], spans[:, 1]))
        return encodings

    def words(self) -> dict[int, str]:
        """Return the ids of the tokens that stand for bases alone, in their order, each with its A, C, G and T."""
        return _dna_words(self._tokenizer.get_vocab(with_added_tokens=True))


@contextlib.contextmanager
def _library_errors() -> Iterator[None]:
    """Tell what the tokenizers library complains of; its panics are no Exceptions."""
    try:
        with _quiet():
            yield
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:
        raise UserError(f"The model's tokenizer.json cannot be used ({shown(error)}); use an intact model.") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep a panic of the tokenizers library, which prints before Python hears of it, from the user's eyes."""
    sys.stderr.flush()
    usual = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(usual, 2)
        os.close(usual)
        os.close(nowhere)


def _dna_words(ids: Mapping[str, int]) -> dict[int, str]:
    """Return id → word of those of A, C, G and T alone, in the order of the ids."""
    return dict(sorted((number, word) for word, number in ids.items() if word and set(word) <= set(LETTERS)))


def _first_id(ids: Mapping[str, int], *tokens: str) -> int | None:
    return next((ids[token] for token in tokens if token in ids), None)


def _text(token: object) -> str:
    """Return a special token's text, empty for none; Hugging Face writes it plain or as an object with `content`."""
    if isinstance(token, Mapping):
        token = token.get("content")
    return token if isinstance(token, str) else ""


def _largest_input(settings: Mapping[str, Any]) -> int | None:
    limit = settings.get("model_max_length")
    if not isinstance(limit, int | float) or isinstance(limit, bool):
        return None
    return int(limit) if 0 < limit < NO_LIMIT else None
