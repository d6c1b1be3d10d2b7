"""Representations without a model, that a model must beat."""

import itertools

import numpy as np
from numpy.typing import NDArray

LETTERS = "ACGT"
N_CODE = len(LETTERS)
_CODES = np.full(256, N_CODE, dtype=np.int64)
_CODES[np.frombuffer(LETTERS.encode(), dtype=np.uint8)] = np.arange(len(LETTERS))


def letter_codes(bases: str) -> NDArray[np.int64]:
    """Return A, C, G, T as 0 to 3 and everything else as 4; shape (bases,)."""
    return _CODES[np.frombuffer(bases.encode("ascii"), dtype=np.uint8)]


def gc_content(bases: str) -> float:
    """Return the share of G and C among A, C, G and T; one half where there is none of them."""
    known = sum(map(bases.count, LETTERS))
    return (bases.count("G") + bases.count("C")) / known if known else 0.5


def kmer_names(k: int) -> list[str]:
    """Return all k-mers in alphabetical order: the dimensions of `kmer_frequencies`."""
    return ["".join(letters) for letters in itertools.product(LETTERS, repeat=k)]


def kmer_frequencies(bases: str, k: int, both_strands: bool = False) -> NDArray[np.float32]:
    """Return the share of each k-mer among the overlapping k-mers without N; shape (4**k,), all 0 where there is none.

    With both strands, the counts of the reverse complement are added before.
    """
    codes = letter_codes(bases)
    if len(codes) < k:
        return np.zeros(4**k, dtype=np.float32)
    numbers = np.zeros(len(codes) - k + 1, dtype=np.int64)
    whole = np.ones(len(numbers), dtype=np.bool_)
    for offset in range(k):
        letters = codes[offset : offset + len(numbers)]
        numbers = 4 * numbers + letters
        whole &= letters != N_CODE
    counts = np.bincount(numbers[whole], minlength=4**k).astype(np.float64)
    if both_strands:
        counts += counts[_reverse_complements(k)]
    return (counts / max(counts.sum(), 1)).astype(np.float32)


def _reverse_complements(k: int) -> NDArray[np.int64]:
    """Return the number of each k-mer's reverse complement; shape (4**k,)."""
    digits = np.indices((4,) * k).reshape(k, -1)
    powers = 4 ** np.arange(k, dtype=np.int64)
    return powers @ (3 - digits)


def one_hot(bases: str) -> NDArray[np.float32]:
    """Return one row a base with a 1 at A, C, G or T, and zeros for N; shape (bases, 4)."""
    rows = np.eye(N_CODE + 1, N_CODE, dtype=np.float32)
    return rows[letter_codes(bases)]
