"""Labelled sequences into those that train, validate and test: by chance, by groups, or as they are given.

A part of each class goes to each side. The same seed gives the same split.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

TRAIN, VALIDATE, TEST = 0, 1, 2
SIDES = ("train", "validation", "test")
Sides = NDArray[np.int64]


def random_split(classes: NDArray[np.int64], validation: float, test: float, generator: np.random.Generator) -> Sides:
    """Return the side of each member: of every class its share, and one each to validate and test from three members on.

    Args:
        classes: number of each member's class; shape (members,).
        validation: share of the members that validate.
        test: share that test.
        generator: decides who.
    """
    sides = np.full(len(classes), TRAIN)
    for code in np.unique(classes):
        members = generator.permutation(np.flatnonzero(classes == code))
        tested = _share(test, len(members))
        validated = _share(validation, len(members))
        sides[members[:tested]] = TEST
        sides[members[tested : tested + validated]] = VALIDATE
    return sides


def _share(fraction: float, count: int) -> int:
    return min(max(1, round(fraction * count)), max(0, (count - 1) // 2)) if fraction else 0


def group_split(
    classes: NDArray[np.int64],
    groups: NDArray[np.int64],
    validation: float,
    test: float,
    generator: np.random.Generator,
) -> Sides:
    """Return the side of each member, whole groups on one side each.

    Groups are dealt out from the largest to the smallest, equal ones by chance, each to the side that then is nearest to
    having its share of every class: the greedy rule of stratified group folds (Sechidis et al. 2011,
    doi:10.1007/978-3-642-23808-6_10, for the single labels of whole groups). The first three groups go to one side each.

    Args:
        classes: see `random_split`.
        groups: number of each member's group; shape (members,).
        validation: share of the members that validate.
        test: share that test.
        generator: see `random_split`.
    """
    shares = np.array([1 - validation - test, validation, test])
    counts = np.zeros((int(groups.max()) + 1, int(classes.max()) + 1))
    np.add.at(counts, (groups, classes), 1)
    per_class = counts.sum(axis=0)
    order = generator.permutation(len(counts))
    order = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]
    held = np.zeros((len(SIDES), counts.shape[1]))
    side_of = np.full(len(counts), TRAIN)
    open_sides = [side for side in np.argsort(-shares, kind="stable").tolist() if shares[side] > 0]
    wanted = shares[:, None] * per_class
    for number, group in enumerate(order.tolist()):
        if number < len(open_sides):
            chosen = open_sides[number]
        else:
            over = [
                (np.abs(held + (np.arange(len(SIDES)) == side)[:, None] * counts[group] - wanted) / per_class).sum()
                for side in open_sides
            ]
            chosen = open_sides[int(np.argmin(over))]
        held[chosen] += counts[group]
        side_of[group] = chosen
    return side_of[groups]


def sides_of_names(names: Sequence[str]) -> Sides:
    """Return the sides that people's words for them mean; −1 for any other word."""
    return np.array([MEANINGS.get(name.strip().lower(), -1) for name in names], dtype=np.int64)


MEANINGS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("validation", "validate", "valid", "val", "dev"), VALIDATE),
    **dict.fromkeys(("test", "testing"), TEST),
}
