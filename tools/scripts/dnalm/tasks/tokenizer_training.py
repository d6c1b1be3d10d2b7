"""Train a tokenizer: learn or list its tokens, count them in the sequences, write it as one tokenizer.json."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from dnalm.errors import UserError
from dnalm.formats.fasta import FastaReader, SequenceRecord
from dnalm.formats.outputs import whole_or_nothing
from dnalm.formats.tables import TableWriter
from dnalm.methods.pieces import evenly_thinned, pieces
from dnalm.models.tokenizers import LONGEST_KMER, tokenizer_from_files
from dnalm.models.tokenizers import Tokenizer as EncodingTokenizer
from dnalm.models.vocabularies import SMALLEST_VOCABULARY, SPECIAL_TOKENS, all_kmers, learn_byte_pairs
from dnalm.report.facts import tell
from dnalm.report.progress import Progress

Counts = NDArray[np.int64]
LARGEST_VOCABULARY = 65_536
# Byte pairs are learnt within words of this length. Longer ones take longer and give nothing: with 10,000 bases there
# are 0.1 % more bases a token.
LONGEST_WORD = 1_000
MOST_LEARNT = 50_000_000  # bases; the library needs about 60 bytes for each
# A multiple of every k, so that k-mers of a piece are those of the whole sequence.
LONGEST_PIECE = 84_000


@dataclass(frozen=True)
class TokenizerOptions:
    """What a user chooses; the names are those of `dnalm_train_tokenizer.py --help`."""

    sequences: list[Path]
    output: Path
    kind: str = "bpe"
    vocabulary_size: int = 4096
    k: int = 6
    table: Path | None = None
    summary: Path | None = None


def train_tokenizer(options: TokenizerOptions) -> None:
    """Write a tokenizer.json, how often the sequences have each token, and what the tokenizer is.

    Raises:
        UserError: the sequences or numbers cannot be used, or the sequences do not support so large a vocabulary.
    """
    _check(options)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # threads gain nothing here
    optional = [path for path in (options.table, options.summary) if path]
    with whole_or_nothing([options.output, *optional], options.sequences) as partials:
        tokenizer, learnt = _tokenizer(options)
        text = tokenizer.to_str(pretty=True) + "\n"
        partials[0].write_text(text, encoding="utf-8")
        seen, counts = _count(options.sequences, json.loads(text))
        if options.table:
            _write_table(partials[1], tokenizer, counts, seen["N"])
        facts = _facts(options, tokenizer, learnt, counts, seen)
        facts["sha256"] = hashlib.sha256(text.encode()).hexdigest()
        tell(facts, partials[-1] if options.summary else None)


def _check(options: TokenizerOptions) -> None:
    size = options.vocabulary_size
    if options.kind == "bpe" and not SMALLEST_VOCABULARY <= size <= LARGEST_VOCABULARY:
        raise UserError(
            f"The vocabulary size is {size:,}; use {SMALLEST_VOCABULARY} to {LARGEST_VOCABULARY:,} tokens: "
            f"{len(SPECIAL_TOKENS)} special ones, 4 letters, and those to be learnt."
        )
    if options.kind == "kmer" and not 1 <= options.k <= LONGEST_KMER:
        raise UserError(f"The k-mers have {options.k} bases; use 1 to {LONGEST_KMER}.")


def _tokenizer(options: TokenizerOptions) -> tuple[Tokenizer, int]:
    """Return the new tokenizer and of how many bases it was learnt."""
    if options.kind != "bpe":
        return all_kmers(options.k if options.kind == "kmer" else 1), 0
    every_word = (word for record in _records(options.sequences) for word in pieces(record.bases, LONGEST_WORD))
    words = evenly_thinned(every_word, MOST_LEARNT)
    if not words:
        raise _only_n()
    print(f"Learning from {len(words):,} pieces of at most {LONGEST_WORD:,} bases", flush=True)
    return learn_byte_pairs(words, options.vocabulary_size), sum(map(len, words))


def _records(paths: Sequence[Path]) -> Iterator[SequenceRecord]:
    for path in paths:
        with FastaReader(path) as reader:
            yield from reader


def _count(paths: Sequence[Path], description: dict[str, object]) -> tuple["Counter[str]", Counts]:
    """Return what the sequences have, and how often each token id occurs in what lies between N."""
    tokenizer = tokenizer_from_files({"tokenizer.json": description})
    counts = np.zeros(0, dtype=np.int64)
    seen: Counter[str] = Counter()
    for path in paths:
        with FastaReader(path) as reader:
            counts = _count_file(reader, tokenizer, counts, seen)
    if not counts.any():
        raise _only_n()
    return seen, counts


def _count_file(reader: FastaReader, tokenizer: EncodingTokenizer, counts: Counts, seen: "Counter[str]") -> Counts:
    """Return the counts with those of a file added."""
    progress = Progress("bases", lambda: reader.fraction_read)
    for record in reader:
        for piece in pieces(record.bases, LONGEST_PIECE):
            (encoding,) = tokenizer.encode([piece])
            found = np.bincount(encoding.ids[~encoding.special], minlength=len(counts))
            found[: len(counts)] += counts
            counts = found
            progress.add(len(piece))
        seen["sequences"] += 1
        seen["bases"] += len(record.bases)
        seen["N"] += record.bases.count("N")
        for kind in ("lower_case", "ambiguous", "uracil"):
            seen[kind] += getattr(record, kind)
    return counts


def _only_n() -> UserError:
    return UserError("The sequences are letters N alone, or IUPAC letters read as N; give sequences of A, C, G and T.")


def _write_table(path: Path, tokenizer: Tokenizer, counts: Counts, n: int) -> None:
    """Write the tokens that occur, commonest first, equally common ones in the order of their ids; N is one."""
    token_of_n = tokenizer.encode("N", add_special_tokens=False).tokens[0]
    vocabulary = {number: token for token, number in tokenizer.get_vocab().items()}
    rows = [(vocabulary[number], int(counts[number])) for number in np.flatnonzero(counts).tolist()]
    lengths = {token: len(token) for token, _ in rows} | {token_of_n: 1}
    rows += [(token_of_n, n)] if n else []
    rows.sort(key=lambda row: -row[1])
    total = sum(count for _, count in rows)
    with TableWriter(path) as table:
        table.append(
            {
                "token": [token for token, _ in rows],
                "length": [lengths[token] for token, _ in rows],
                "count": [count for _, count in rows],
                "share": [f"{count / total:.6g}" for _, count in rows],
            }
        )


def _facts(
    options: TokenizerOptions, tokenizer: Tokenizer, learnt: int, counts: Counts, seen: "Counter[str]"
) -> dict[str, str]:
    """Return what is said of the tokenizer and of the sequences."""
    vocabulary = tokenizer.get_vocab()
    framed = " ".join(tokenizer.encode("A").tokens).replace(" A", " …")
    own = [token for token in vocabulary if token not in SPECIAL_TOKENS]
    tokens = int(counts.sum())
    facts = {"kind": options.kind}
    facts |= {"k": str(options.k)} if options.kind == "kmer" else {}
    facts |= {
        "vocabulary": f"{len(vocabulary):,}",
        "special_tokens": " ".join(SPECIAL_TOKENS),
        "sequence_becomes": framed,
        "N_becomes": tokenizer.encode("N", add_special_tokens=False).tokens[0],
        "longest_token": str(max(map(len, own))),
        **{fact: f"{seen[fact]:,}" for fact in ("sequences", "bases", "N", "lower_case", "ambiguous", "uracil")},
    }
    facts |= {"bases_learnt_from": f"{learnt:,}"} if options.kind == "bpe" else {}
    return facts | {
        "tokens": f"{tokens:,}",
        "tokens_that_occur": f"{np.count_nonzero(counts):,} of {len(own):,}",
        "bases_per_token": f"{(seen['bases'] - seen['N']) / tokens:.4f}",
    }
