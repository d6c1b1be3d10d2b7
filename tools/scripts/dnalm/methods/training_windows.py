"""From records to windows to train on: the grid, the split into training and validation, and what may not be in both."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]
Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Intervals:
    """Windows on contigs, in the order of their records.

    Attributes:
        contigs: number of the contig each lies on; shape (windows,).
        starts, ends: 0-based half-open bases of the contig; shape (windows,) each.
        records: number of the record each was cut from; shape (windows,).
    """

    contigs: Positions
    starts: Positions
    ends: Positions
    records: Positions

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, chosen: Flags) -> "Intervals":
        return Intervals(self.contigs[chosen], self.starts[chosen], self.ends[chosen], self.records[chosen])


def window_grid(length: int, window: int, stride: int, least: int) -> list[tuple[int, int]]:
    """Cut a record into windows, a new one every `stride` bases.

    Returns:
        First and past-the-end base of each, 0-based. A record no longer than a window is one window; what is left behind
        the last whole window is one more, shorter, if no window covers it. Windows of fewer than `least` bases are left out.
    """
    found = [(start, start + window) for start in range(0, length - window + 1, stride)]
    rest = found[-1][1] if found else 0
    if rest < length:
        found.append((found[-1][0] + stride if found else 0, length))
    return [(start, end) for start, end in found if end - start >= least]


def random_split(windows: Intervals, fraction: float, generator: np.random.Generator) -> Flags:
    """Return which windows validate: each has the same chance; at least one if there are two."""
    count = min(max(1, round(fraction * len(windows))), len(windows) - 1)
    validates = np.zeros(len(windows), dtype=np.bool_)
    validates[generator.permutation(len(windows))[:count]] = True
    return validates


def block_split(windows: Intervals, fraction: float, generator: np.random.Generator) -> Flags:
    """Return which windows validate: one run of neighbours on the genome that holds a share of them, somewhere."""
    count = min(max(1, round(fraction * len(windows))), len(windows) - 1)
    first = int(generator.integers(0, len(windows) - count + 1))
    validates = np.zeros(len(windows), dtype=np.bool_)
    # Regions may come in any order.
    validates[np.lexsort((windows.starts, windows.contigs))[first : first + count]] = True
    return validates


def record_split(windows: Intervals, fraction: float, generator: np.random.Generator) -> Flags:
    """Return which windows validate: all of some records, until they hold a share of the windows."""
    records = generator.permutation(np.unique(windows.records))
    validates = np.zeros(len(windows), dtype=np.bool_)
    for record in records[:-1]:
        if validates.sum() >= max(1, fraction * len(windows)):
            break
        validates |= windows.records == record
    return validates


def near_validation(windows: Intervals, validates: Flags, gap: int) -> Flags:
    """Return which training windows share a base with a validation window, or lie within `gap` bases of one."""
    near = np.zeros(len(windows), dtype=np.bool_)
    for contig in np.unique(windows.contigs[validates]):
        here = windows.contigs == contig
        order = np.argsort(windows.starts[here & validates], kind="stable")
        starts = windows.starts[here & validates][order] - gap
        # The furthest end so far: an early long window may reach beyond later short ones.
        ends = np.maximum.accumulate(windows.ends[here & validates][order] + gap)
        candidates = np.flatnonzero(here & ~validates)
        before = np.searchsorted(starts, windows.ends[candidates], side="left") - 1
        near[candidates] = (before >= 0) & (ends[np.maximum(before, 0)] > windows.starts[candidates])
    return near


def first_of_each(sequences: Sequence[bytes]) -> Flags:
    """Return which sequences are the first of their kind, where a sequence and its reverse complement are one kind."""
    seen: set[bytes] = set()
    first = np.zeros(len(sequences), dtype=np.bool_)
    for number, bases in enumerate(sequences):
        kind = min(bases, bases.translate(COMPLEMENTS)[::-1])
        if kind not in seen:
            seen.add(kind)
            first[number] = True
    return first


COMPLEMENTS = bytes.maketrans(b"ACGT", b"TGCA")
K, SKETCH = 12, 64  # bases a word, and words kept of each window
CODES = np.full(256, 4, dtype=np.uint64)
CODES[np.frombuffer(b"ACGT", dtype=np.uint8)] = np.arange(4)


def canonical_words(bases: bytes) -> NDArray[np.uint64]:
    """Return the 12-mers of a sequence that have no N, each or its reverse complement whichever is less, as numbers."""
    codes = CODES[np.frombuffer(bases, dtype=np.uint8)]
    if len(codes) < K:
        return np.zeros(0, dtype=np.uint64)
    count = len(codes) - K + 1
    forward, backward = np.zeros(count, dtype=np.uint64), np.zeros(count, dtype=np.uint64)
    clean = np.ones(count, dtype=np.bool_)
    for place in range(K):
        part = codes[place : place + count]
        clean &= part < 4
        forward |= part << np.uint64(2 * (K - 1 - place))
        backward |= (np.uint64(3) - np.minimum(part, np.uint64(3))) << np.uint64(2 * place)
    return np.minimum(forward, backward)[clean]


def sketch(bases: bytes) -> NDArray[np.uint64]:
    """Return the least hashes of a sequence's canonical 12-mers, at most 64, sorted (MinHash; Ondov et al. 2016)."""
    # The mixing step of SplitMix64 (Steele et al. 2014): neighbours among words are far apart among hashes.
    mixed = canonical_words(bases) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(32)
    return np.unique(mixed)[:SKETCH]


def near_duplicates(validation: Sequence[bytes], training: Sequence[bytes], threshold: float) -> int:
    """Return how many validation windows have a training window whose 12-mers are much the same.

    Args:
        validation: sequences.
        training: sequences.
        threshold: the Jaccard index of the two sets of canonical 12-mers, estimated from sketches, from which they are.
    """
    sketches = [sketch(bases) for bases in training]
    words = np.concatenate([np.zeros(0, dtype=np.uint64), *sketches])
    owners = np.repeat(np.arange(len(sketches), dtype=np.int32), [len(found) for found in sketches])
    order = np.argsort(words, kind="stable")
    words, owners = words[order], owners[order]
    count = 0
    for bases in validation:
        own = sketch(bases)
        first, last = (np.searchsorted(words, own, side=side) for side in ("left", "right"))
        spans = zip(first.tolist(), np.minimum(last, first + MOST_OWNERS).tolist(), strict=True)
        sharing = np.concatenate([owners[:0], *(owners[start:end] for start, end in spans)])
        candidates, shared = np.unique(sharing, return_counts=True)
        best = candidates[np.argsort(-shared, kind="stable")[:MOST_COMPARED]]
        count += any(_jaccard(own, sketches[number]) >= threshold for number in best.tolist())
    return count


MOST_OWNERS, MOST_COMPARED = 200, 10  # of a word that is everywhere, and of candidates: bounds on time


def _jaccard(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> float:
    union = np.union1d(one, other)[:SKETCH]
    both = np.intersect1d(np.intersect1d(one, other), union)
    return len(both) / max(1, len(union))
