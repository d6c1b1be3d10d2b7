import numpy as np
import pytest
from dnalm.methods.splits import TEST, TRAIN, VALIDATE, group_split, random_split, sides_of_names


def generator() -> np.random.Generator:
    return np.random.default_rng(3)


def test_each_class_gives_its_share_to_each_side() -> None:
    classes = np.repeat([0, 1, 2], [200, 50, 10])
    sides = random_split(classes, 0.1, 0.2, generator())
    for code, (validated, tested) in {0: (20, 40), 1: (5, 10), 2: (1, 2)}.items():
        assert (sides[classes == code] == VALIDATE).sum() == validated
        assert (sides[classes == code] == TEST).sum() == tested


@pytest.mark.parametrize("count", [3, 4, 5])
def test_a_small_class_is_on_every_side(count: int) -> None:
    sides = random_split(np.zeros(count, dtype=np.int64), 0.01, 0.01, generator())
    assert set(sides.tolist()) == {TRAIN, VALIDATE, TEST}


def test_the_same_seed_gives_the_same_split() -> None:
    classes = np.arange(100) % 3
    one, other = (random_split(classes, 0.1, 0.2, generator()) for _ in range(2))
    assert one.tolist() == other.tolist()
    assert random_split(classes, 0.1, 0.2, np.random.default_rng(4)).tolist() != one.tolist()


def test_groups_stay_together_and_sides_have_their_share_of_every_class() -> None:
    draw = np.random.default_rng(0)
    groups = draw.integers(0, 60, 1_200)
    classes = ((groups % 5 == 0) ^ (draw.random(1_200) < 0.1)).astype(np.int64)
    sides = group_split(classes, groups, 0.1, 0.2, generator())
    assert all(len(set(sides[groups == group])) == 1 for group in range(60))
    for side, share in ((TRAIN, 0.7), (VALIDATE, 0.1), (TEST, 0.2)):
        for code in (0, 1):
            assert (sides[classes == code] == side).mean() == pytest.approx(share, abs=0.06)


def test_three_groups_are_on_three_sides() -> None:
    groups = np.repeat([0, 1, 2], [50, 3, 2])
    sides = group_split(np.zeros(55, dtype=np.int64), groups, 0.1, 0.2, generator())
    assert set(sides.tolist()) == {TRAIN, VALIDATE, TEST}
    assert (sides == TRAIN).sum() == 50


def test_words_for_sides() -> None:
    assert sides_of_names(["Train", " dev", "TEST", "valid", "x", ""]).tolist() == [
        TRAIN,
        VALIDATE,
        TEST,
        VALIDATE,
        -1,
        -1,
    ]
