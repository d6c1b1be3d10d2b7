"""Shards of equal cost, and tiles of a contig."""

import numpy as np
import pytest
from dnalm.methods.shards import shard_of, tiles


def test_records_of_one_cost_fill_shards_evenly() -> None:
    for records in (8, 9, 100):
        for shards in (1, 3, 8):
            numbers = [shard_of(place, 1, records, shards) for place in range(records)]
            assert numbers == sorted(numbers)
            counts = np.bincount(numbers, minlength=shards)
            assert counts.max() - counts.min() <= 1


def test_the_middle_of_a_record_decides_its_shard() -> None:
    """Costs 2, 6, 2: the middles are at 1, 5 and 9 of 10."""
    assert [shard_of(before, cost, 10, 2) for before, cost in ((0, 2), (2, 6), (8, 2))] == [0, 1, 1]
    assert [shard_of(before, cost, 10, 5) for before, cost in ((0, 2), (2, 6), (8, 2))] == [0, 2, 4]


def test_a_last_record_without_cost_is_in_the_last_shard() -> None:
    assert shard_of(10, 0, 10, 3) == 2


def test_no_shard_costs_more_than_its_share_and_one_record() -> None:
    costs = np.random.default_rng(0).integers(1, 1_000, 200)
    before, total = np.cumsum(costs) - costs, int(costs.sum())
    for shards in (2, 7, 30):
        numbers = [shard_of(int(b), int(cost), total, shards) for b, cost in zip(before, costs, strict=True)]
        assert numbers == sorted(numbers)
        assert np.bincount(numbers, weights=costs).max() <= total / shards + costs.max()


def test_tiles_cover_a_contig_and_end_with_it() -> None:
    assert list(tiles(10, 4, 4)) == [(0, 4), (4, 8), (8, 10)]
    assert list(tiles(10, 4, 3)) == [(0, 4), (3, 7), (6, 10)]
    assert list(tiles(3, 4, 4)) == [(0, 3)]
    assert list(tiles(8, 2, 4)) == [(0, 2), (4, 6)]


@pytest.mark.parametrize("size", [4, 5])
def test_a_tile_within_the_one_before_is_left_out(size: int) -> None:
    """The second tile reaches the end already; a third would lie within it."""
    assert list(tiles(6, size, 2)) == ([(0, 4), (2, 6)] if size == 4 else [(0, 5), (2, 6)])


def test_a_contig_without_bases_has_no_tile() -> None:
    assert list(tiles(0, 4, 2)) == []
