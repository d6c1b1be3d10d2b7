"""What went in and what was changed, counted while it streams and told on stdout."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

# Ids of which a repeat is noticed: a bound on memory, far above what people compare.
MOST_REMEMBERED = 1_000_000
MEANINGS = {
    "lower_case": "lower-case letters read as upper case",
    "ambiguous": "IUPAC letters read as N",
    "uracil": "letters U read as T",
    "duplicate_ids": "sequences with an id seen before, kept",
    "windowed_sequences": "sequences longer than the model's context, read in windows",
    "truncated_sequences": "sequences longer than the model's context, cut",
    "truncated_bases": "bases left out by the cut",
    "all_n_sequences": "sequences of N alone",
    "no_kmer_sequences": "sequences without a k-mer, whose vector is zero",
}


class RecordCounts(Counter[str]):
    """Counts over all buffers of a job; ids are remembered by their hash alone."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[int] = set()

    def add(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Count a buffer's columns: id, status, length, n_windows, truncated, and what was mended."""
        self["sequences"] += len(columns["id"])
        self["bases"] += sum(columns["length"])
        self["windowed_sequences"] += sum(number > 1 for number in columns["n_windows"])
        self["truncated_bases"] += sum(columns["truncated"])
        for status in ("truncated", "all_n", "no_kmer"):
            self[f"{status}_sequences"] += list(columns["status"]).count(status)
        for kind in ("lower_case", "ambiguous", "uracil"):
            self[kind] += sum(columns[kind])
        for name in columns["id"]:
            self["duplicate_ids"] += hash(name) in self._seen
            if len(self._seen) < MOST_REMEMBERED:
                self._seen.add(hash(name))

    def tell(self, done: str) -> None:
        """Say what was done with all sequences, and what was changed in them."""
        print(f"{done} {self['sequences']:,} sequences of {self['bases']:,} bases in all")
        for kind, meaning in MEANINGS.items():
            if self[kind]:
                print(f"{meaning}: {self[kind]:,}")
