import itertools

import pytest
from dnalm.methods.pieces import evenly_thinned, pieces


def test_pieces_are_the_stretches_between_n_cut_from_the_left() -> None:
    assert list(pieces("NACGTACGNNAN", 3)) == ["ACG", "TAC", "G", "A"]
    assert list(pieces("ACG", 3)) == ["ACG"]
    assert list(pieces("NNN", 3)) == []


def test_what_fits_is_kept_whole() -> None:
    assert evenly_thinned(["AC", "GT", "A"], 5) == ["AC", "GT", "A"]
    assert evenly_thinned([], 5) == []


@pytest.mark.parametrize("count", [11, 20, 21, 40, 41, 1_000])
def test_what_is_too_much_is_thinned_evenly_to_at_least_half(count: int) -> None:
    numbers = [f"{number:05}" for number in range(count)]
    kept = [int(piece) for piece in evenly_thinned(numbers, 50)]
    assert 5 <= len(kept) <= 10
    assert {second - first for first, second in itertools.pairwise(kept)} == {kept[1]}
    assert kept[0] == 0
    assert kept[-1] + kept[1] >= count


def test_a_piece_longer_than_the_limit_is_kept() -> None:
    assert evenly_thinned(["A" * 20, "C" * 20], 10) == ["A" * 20]
