import pytest
from dnalm.methods.intervals import Intervals

INTERVALS = Intervals([("a", 10, 20), ("b", 0, 1), ("a", 40, 50), ("a", 15, 25), ("a", 25, 30)])


def test_stretches_are_sorted_and_merged_where_they_touch() -> None:
    assert INTERVALS.of_contig == {"a": [(10, 30), (40, 50)], "b": [(0, 1)]}


@pytest.mark.parametrize(
    ("contig", "start", "end", "inside"),
    [
        ("a", 10, 11, True),
        ("a", 9, 10, False),
        ("a", 9, 11, True),
        ("a", 29, 30, True),
        ("a", 30, 31, False),
        ("a", 30, 40, False),
        ("a", 0, 100, True),
        ("a", 35, 41, True),
        ("a", 49, 49, True),
        ("a", 50, 50, False),
        ("b", 0, 1, True),
        ("c", 0, 1, False),
    ],
)
def test_an_overlap_is_found(contig: str, start: int, end: int, inside: bool) -> None:
    assert INTERVALS.overlap(contig, start, end) == inside
