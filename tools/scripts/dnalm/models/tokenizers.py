"""From bases to token ids: tokenizer.json (BPE and others), k-mer vocabularies, single letters."""

import contextlib
import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as RustTokenizer

from dnalm.errors import UserError, shown
from dnalm.models.tokenizer_limits import bounded
from dnalm.models.vocabularies import LETTERS, all_kmers

Ids = NDArray[np.signedinteger[Any]]  # of 32 bits where these suffice: a chromosome has many tokens
LONGEST_KMER = 8  # 65,536 tokens; no published DNA vocabulary has longer fixed words
KINDS_OF_FILES = {
    "tokenizer.json": dict,
    "vocab.txt": str,
    "tokenizer_config.json": dict,
    "special_tokens_map.json": dict,
}
# Repeats are the worst that a pattern of a tokenizer.json can meet, and genomes are full of them.
PROBE = "".join(first * 200 + second for first, second in itertools.permutations("ACGTN", 2))
PATIENCE = 0.02  # seconds between two looks at the clock
SLOWEST_PROBE = 1.0  # seconds of the processor; published tokenizers take a millisecond
LARGEST_ID = 2**31 - 1
SPELLINGS = {"pad_token": ("[PAD]", "<pad>"), "mask_token": ("[MASK]", "<mask>"), "unk_token": ("[UNK]", "<unk>")}
OVERLAPPING = "DNATokenizer"  # of DNABERT: every base begins a word of its own
INSTEAD = "use a model whose tokens lie side by side, such as DNABERT-2 or the Nucleotide Transformer"
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
    eos_id: int | None
    mask_id: int | None
    largest_input: int | None
    vocabulary_size: int

    def encode(self, sequences: Sequence[str]) -> list[Encoding]:
        """Tokenize sequences of A, C, G, T and N."""
        ...

    def bases_deciding(self, tokens: int) -> int | None:
        """Return how many first bases settle the first tokens, one more and special ones apart; None if all may."""
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
    if settings.get("tokenizer_class") == OVERLAPPING:
        raise UserError(
            f"The model's tokenizer, {OVERLAPPING}, reads overlapping k-mers, which is not supported; {INSTEAD}."
        )
    if "tokenizer.json" in files:
        return _of_all_kmers(files["tokenizer.json"], settings) or JsonTokenizer(files["tokenizer.json"], settings)
    if "vocab.txt" in files:
        return KmerTokenizer(files["vocab.txt"].split(), settings)
    raise UserError("The model has no tokenizer.json and no vocab.txt; use a model with its tokenizer.")


def special_tokens(files: Mapping[str, Any]) -> dict[str, str]:
    """Return the special tokens of a tokenizer.json under the names of tokenizer_config.json; none of a vocab.txt."""
    if "tokenizer.json" not in files:
        return {}
    with _library_errors():
        vocabulary = _library_tokenizer(files["tokenizer.json"]).get_vocab(with_added_tokens=True)
    found = {name: _first_id(vocabulary, *spellings) for name, spellings in SPELLINGS.items()}
    texts = {number: text for text, number in vocabulary.items()}
    return {name: texts[number] for name, number in found.items() if number is not None}


def _of_all_kmers(description: Mapping[str, Any], settings: Mapping[str, Any]) -> "KmerTokenizer | None":
    """Return a reader, tens of times as fast as the library, of what is `all_kmers` to the letter, or None."""
    model = description.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) and model.get("type") == "WordLevel" else None
    if not isinstance(vocabulary, dict) or _text(settings.get("pad_token")) not in ("", "[PAD]"):
        return None
    k = max((len(token) for token in vocabulary if set(token) <= set(LETTERS)), default=0)
    if not 0 < k <= LONGEST_KMER or description != json.loads(all_kmers(k).to_str()):
        return None
    # A tokenizer.json says itself what it puts behind a sequence: nothing here.
    return KmerTokenizer(sorted(vocabulary, key=vocabulary.__getitem__), {**settings, "eos_token": None})


class KmerTokenizer:
    """Words of k bases without overlap, read left to right; k = 1 reads single letters.

    The rule of the Nucleotide Transformer (Dalla-Torre et al. 2025, doi:10.1038/s41592-024-02523-z): the sequence is split
    at every N; each N is a token; each piece is cut into k-mers and what remains, shorter than k, into single letters.
    `<cls>` is put first where the vocabulary has it; an end token last only where the settings name one.
    """

    def __init__(self, vocabulary: Sequence[str], settings: Mapping[str, Any]) -> None:
        ids = {token: number for number, token in reversed(list(enumerate(vocabulary)))}
        words = [token for token in ids if set(token) <= set(LETTERS)]
        self.k = max(map(len, words), default=0)
        if not 0 < self.k <= LONGEST_KMER:
            raise UserError(f"The model's vocab.txt has no words of 1 to {LONGEST_KMER} bases; use a DNA vocabulary.")
        kmers = ["".join(letters) for letters in itertools.product(LETTERS, repeat=self.k)]
        if lacking := [word for word in (*kmers, *LETTERS) if word not in ids]:
            if self.k > 1 and lacking == list(LETTERS):
                raise UserError(
                    f"The model's vocab.txt has all words of {self.k} bases and no single bases: they overlap, as "
                    f"DNABERT's, which is not supported; {INSTEAD}."
                )
            raise UserError(f"The model's vocab.txt lacks the word '{lacking[0]}'; use a complete vocabulary.")
        unknown = _first_id(ids, "<unk>", "[UNK]")
        n_id = ids.get("N", unknown)
        if n_id is None:
            raise UserError("The model's vocab.txt has neither 'N' nor an unknown token; use a complete vocabulary.")
        self._words_of_ids = _dna_words(ids)
        self.pad_id = _first_id(ids, "<pad>", "[PAD]")
        self.cls_id = _first_id(ids, "<cls>", "[CLS]")
        self.eos_id = _first_id(ids, _text(settings.get("eos_token")))
        self.mask_id = _first_id(ids, "<mask>", "[MASK]")
        self.vocabulary_size = len(vocabulary)
        self._kmer_ids = np.array([ids[kmer] for kmer in kmers], dtype=np.int32)
        of_codes = [*(ids[letter] for letter in LETTERS), n_id, self.cls_id or 0, self.eos_id or 0]
        self._letter_ids = np.array(of_codes, dtype=np.int32)
        self.largest_input = _largest_input(settings)

    def encode(self, sequences: Sequence[str]) -> list[Encoding]:
        """Tokenize sequences of A, C, G, T and N: short ones many at a time, a long one in parts."""
        encodings: list[Encoding] = []
        for group in _groups(sequences, BASES_AT_ONCE):
            if len(group[0]) > BASES_AT_ONCE:
                encodings.append(self._encode_long(group[0]))
            else:
                encodings += self._encode_together(group)
        return encodings

    def words(self) -> dict[int, str]:
        """Return the ids of the tokens that stand for bases alone, in their order, each with its A, C, G and T."""
        return self._words_of_ids

    def bases_deciding(self, tokens: int) -> int:
        """Return how many first bases settle the first tokens, one more and special ones apart.

        Tokens begin at most k bases apart, and what a token is depends on the k bases from its first.
        """
        return (tokens + 1) * self.k

    def _encode_together(self, sequences: Sequence[str]) -> list[Encoding]:
        """Tokenize the joined sequences; each encoding is a view of the whole's arrays."""
        back = "" if self.eos_id is None else BACK
        text = FRONT + (back + FRONT).join(sequences) + back
        codes = CODES[np.frombuffer(text.encode("ascii"), dtype=np.uint8)]
        # Each N and each end of a sequence is a word of its own; whole k-mers, then single letters lie behind it.
        single = np.flatnonzero(codes >= N_CODE)
        kmers, letters = np.divmod(np.diff(single, append=len(codes)) - 1, self.k)
        counts = np.column_stack([np.ones_like(kmers), kmers, letters])
        lengths = np.repeat(np.tile(np.array([1, self.k, 1], dtype=np.int32), len(single)), counts.reshape(-1))
        ends = np.cumsum(lengths, dtype=np.int32)
        starts = ends - lengths
        first_codes = codes[starts]
        ids = self._letter_ids[first_codes]
        whole = np.flatnonzero(lengths > 1)
        ids[whole] = self._kmer_ids[self._numbers(codes, starts[whole])]

        fronts = np.flatnonzero(first_codes == FRONT_CODE)
        bounds = np.append(fronts, len(ids))
        shift = np.repeat(starts[fronts] + 1, np.diff(bounds))
        starts -= shift
        ends -= shift
        for special in (fronts, bounds[1:] - 1 if back else bounds[:0]):
            starts[special] = ends[special] = 0
        first = 0 if self.cls_id is not None else 1
        return [
            Encoding(ids[start + first : end], starts[start + first : end], ends[start + first : end])
            for start, end in itertools.pairwise(bounds.tolist())
        ]

    def _numbers(self, codes: NDArray[np.uint8], starts: Ids) -> Ids:
        """Return the number, in base 4, of the k-mer at each start."""
        numbers = np.zeros(len(starts), dtype=np.int32)
        for position in range(self.k):
            numbers *= len(LETTERS)
            numbers += codes[starts + position]
        return numbers

    def _encode_long(self, sequence: str) -> Encoding:
        """Tokenize a sequence in parts that end where a word ends, so that nothing but the result is as long."""
        position_type = np.int32 if len(sequence) < 2**31 else np.int64
        front, back = int(self.cls_id is not None), int(self.eos_id is not None)
        ids: list[Ids] = []
        starts: list[Ids] = []
        ends: list[Ids] = []
        begin = 0
        while begin < len(sequence):
            end = min(begin + BASES_AT_ONCE, len(sequence))
            if end < len(sequence):  # words are counted from behind the last N
                end -= (end - max(sequence.rfind("N", begin, end) + 1, begin)) % self.k
            (part,) = self._encode_together([sequence[begin:end]])
            inner = slice(front, len(part) - back)
            kept = slice(0 if begin == 0 else front, len(part) if end == len(sequence) else len(part) - back)
            ids.append(part.ids[kept])
            for positions, found in ((starts, part.starts), (ends, part.ends)):
                moved: Ids = found.astype(position_type)
                moved[inner] += begin
                positions.append(moved[kept])
            begin = end
        return Encoding(_joined(ids), _joined(starts), _joined(ends))


# Enough that numpy's calls cost little, few enough that the arrays stay in the processor's caches.
BASES_AT_ONCE = 1 << 18
FRONT, BACK = "<", ">"  # mark the ends of joined sequences
N_CODE = len(LETTERS)
FRONT_CODE, BACK_CODE = N_CODE + 1, N_CODE + 2
CODES = np.full(256, N_CODE, dtype=np.uint8)
CODES[np.frombuffer(LETTERS.encode(), dtype=np.uint8)] = np.arange(len(LETTERS))
CODES[[ord(FRONT), ord(BACK)]] = FRONT_CODE, BACK_CODE


def _groups(sequences: Sequence[str], most: int) -> Iterator[list[str]]:
    """Yield consecutive sequences of at most so many letters in all, a longer one alone."""
    group: list[str] = []
    letters = 0
    for sequence in sequences:
        letters += len(sequence) + 2  # with the marks of its ends
        if group and letters > most:
            yield group
            group, letters = [], len(sequence) + 2
        group.append(sequence)
    if group:
        yield group


def _joined(parts: list[Ids]) -> Ids:
    """Join arrays and let go of them."""
    whole = np.concatenate(parts)
    parts.clear()
    return whole


class JsonTokenizer:
    """A tokenizer.json, run by the `tokenizers` library; its own post-processor adds the special tokens."""

    def __init__(self, description: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        with _library_errors():
            self._tokenizer = _library_tokenizer(description)
            # A file may carry the truncation and padding of its last use.
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
            first = _probed(self._tokenizer)
        # A post-processor may add ids that the vocabulary lacks.
        ids = itertools.chain(self._tokenizer.get_vocab(with_added_tokens=True).values(), first.ids)
        if max(ids, default=0) > LARGEST_ID:
            raise UserError("The model's tokenizer.json has ids of over 31 bits; use an intact model.")
        if not first.ids:
            raise UserError("The model's tokenizer.json makes no token of the letter A; use a DNA model.")
        self.pad_id = self._id(settings.get("pad_token"), *SPELLINGS["pad_token"])
        self.cls_id = first.ids[0] if first.special_tokens_mask[0] else None
        self.eos_id = first.ids[-1] if first.special_tokens_mask[-1] and len(first.ids) > 1 else None
        self.mask_id = self._id(settings.get("mask_token"), *SPELLINGS["mask_token"])
        self.vocabulary_size = self._tokenizer.get_vocab_size()
        self.largest_input = _largest_input(settings)

    def bases_deciding(self, tokens: int) -> None:
        """Return None: a merge far behind may change any token before it."""
        return

    def _id(self, *tokens: object) -> int | None:
        found = (self._tokenizer.token_to_id(_text(token)) for token in tokens)
        return next((token_id for token_id in found if token_id is not None), None)

    def encode(self, sequences: Sequence[str]) -> list[Encoding]:
        """Tokenize sequences of A, C, G, T and N."""
        encodings = []
        with _library_errors():
            batch = self._tokenizer.encode_batch(list(sequences))
        for encoded in batch:
            spans = np.array(encoded.offsets, dtype=np.int32).reshape(-1, 2)
            encodings.append(Encoding(np.array(encoded.ids, dtype=np.int32), spans[:, 0], spans[:, 1]))
        return encodings

    def words(self) -> dict[int, str]:
        """Return the ids of the tokens that stand for bases alone, in their order, each with its A, C, G and T."""
        return _dna_words(self._tokenizer.get_vocab(with_added_tokens=True))


def _library_tokenizer(description: Mapping[str, Any]) -> RustTokenizer:
    """Return the library's tokenizer, without what would make it give other tokens each time, or texts without an end."""
    return RustTokenizer.from_str(json.dumps(bounded(description)))


def _probed(tokenizer: RustTokenizer) -> Any:
    """Return the encoding of one letter, after bases have shown that the tokenizer is quick enough.

    The library reads them in a thread, which is left to itself where it does not come to an end; it ends with the process.

    Raises:
        UserError: it is not, or it fails.
    """
    found: list[Any] = []

    def encode() -> None:
        try:
            # A batch, which lets other threads run meanwhile.
            found.extend(tokenizer.encode_batch(["A", PROBE]))
        except BaseException as error:  # a panic of the library is no Exception
            found.append(error)

    started = time.process_time()
    thread = threading.Thread(target=encode, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    while thread.is_alive() and time.process_time() - started < SLOWEST_PROBE:
        thread.join(PATIENCE)
    seconds = time.process_time() - started
    if thread.is_alive() or seconds > SLOWEST_PROBE:
        raise UserError(
            f"The model's tokenizer.json takes over {SLOWEST_PROBE:g} seconds for {len(PROBE):,} bases; use an intact model."
        )
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]


@contextlib.contextmanager
def _library_errors() -> Iterator[None]:
    """Tell what the tokenizers library complains of; its panics are no Exceptions."""
    try:
        with _quiet():
            yield
    except (KeyboardInterrupt, SystemExit, MemoryError, UserError):
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
