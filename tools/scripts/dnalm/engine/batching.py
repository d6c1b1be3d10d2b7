"""Batches of like lengths within a budget of padded tokens."""

from collections.abc import Sequence


def length_buckets(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Return indices in batches, longest first, each with `items × longest ≤ budget`, or a single item.

    Sorting by length keeps padding to a few per cent; longest first shows a lack of memory at once. The batches depend
    on the lengths alone.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    batches: list[list[int]] = []
    for index in order:
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= budget:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
