"""Stretches of contigs, merged where they touch."""

from bisect import bisect_right
from collections.abc import Iterable


class Intervals:
    """Bases [start, end), 0-based, of contigs: sorted and merged, so that membership is one search.

    Attributes:
        of_contig: contig → its stretches in order, none touching another.
    """

    def __init__(self, stretches: Iterable[tuple[str, int, int]]) -> None:
        found: dict[str, list[tuple[int, int]]] = {}
        for contig, start, end in stretches:
            found.setdefault(contig, []).append((start, end))
        self.of_contig = {contig: _merged(pairs) for contig, pairs in found.items()}

    def overlap(self, contig: str, start: int, end: int) -> bool:
        """Say whether any base of [start, end) lies in a stretch; an empty one counts as the base at its start."""
        stretches = self.of_contig.get(contig, [])
        number = bisect_right(stretches, max(end, start + 1) - 1, key=lambda stretch: stretch[0]) - 1
        return number >= 0 and stretches[number][1] > start


def _merged(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(pairs):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
