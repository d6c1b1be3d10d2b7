"""Shards: runs of records, in their order, that cost about the same."""

from collections.abc import Iterator


def shard_of(before: int, cost: int, total: int, shards: int) -> int:
    """Return the number of the shard, from 0, that holds the middle of a record.

    Shards are runs of the records' order, and none costs more than its share and one record.

    Args:
        before: cost of all records before this one.
        cost: of this one.
        total: of all.
        shards: how many there are at most; those without a record's middle stay empty.
    """
    return min(shards - 1, (2 * before + cost) * shards // (2 * total))


def tiles(length: int, size: int, step: int) -> Iterator[tuple[int, int]]:
    """Yield stretches [start, end) of a contig, 0-based, every `step` bases; the last ones end with the contig.

    A stretch that would lie wholly within the one before is left out.
    """
    for start in range(0, length, step):
        yield start, min(start + size, length)
        if start + size >= length:
            return
