"""From examples to those that train, validate and test, so that nothing tested was seen before."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dnalm.errors import UserError, shown
from dnalm.methods import leakage
from dnalm.methods.splits import SIDES, TEST, TRAIN, VALIDATE, group_split, random_split, sides_of_names
from dnalm.methods.training_windows import near_duplicates
from dnalm.models.head_config import Task
from dnalm.tasks.finetuning_data import Collection, Example
from dnalm.tasks.finetuning_options import FinetuningOptions
from dnalm.tasks.finetuning_targets import TARGETS, is_missing

STRATA, FEW = 10, 50  # of quantities that a split keeps apart, from so many sequences on
NEAR = 0.5  # Jaccard index of 12-mers from which two sequences count as near duplicates
MOST_COMPARED = 200_000


@dataclass(frozen=True)
class Dataset:
    """What is learnt from.

    Attributes:
        task: see `HeadFacts`.
        labels: names of what a model is to give numbers for.
        examples: those that are used, in the order read.
        targets: one row an example: with classes its number, shape (examples,), int64; with several labels 0 or 1, shape
            (examples, labels); with quantities theirs, shape (examples, 1), float64.
        sides: TRAIN, VALIDATE or TEST of each; shape (examples,).
        clusters: number of the group of each, where groups were split as wholes; else None.
    """

    task: Task
    labels: tuple[str, ...]
    examples: list[Example]
    targets: NDArray[np.int64] | NDArray[np.float64]
    sides: NDArray[np.int64]
    clusters: NDArray[np.int64] | None

    def of(self, *sides: int) -> NDArray[np.int64]:
        """Return the numbers of the examples on some sides."""
        return np.flatnonzero(np.isin(self.sides, sides))

    def fingerprint(self) -> str:
        """Return what identifies sequences, targets and their split."""
        digest = hashlib.sha256("\n".join(self.labels).encode())
        digest.update(self.sides.tobytes() + np.ascontiguousarray(self.targets).tobytes())
        for example in self.examples:
            digest.update(example.bases.encode() + b"\n")
        return digest.hexdigest()


def make_dataset(options: FinetuningOptions, collection: Collection) -> Dataset:
    """Return what is learnt from; examples that are left out get a status, and are counted.

    Raises:
        UserError: the labels cannot be learnt, or the split leaves a side without what it needs.
    """
    examples = [example for example in collection.examples if example.status == "ok"]
    labels, targets, labelled = TARGETS[options.task](examples, collection)
    counts = collection.counts
    for example, chosen in zip(examples, labelled, strict=True):
        if not chosen:
            example.status = "label_missing"
    counts["label_missing"] = int((~labelled).sum())
    examples = [example for example, chosen in zip(examples, labelled, strict=True) if chosen]
    strata = _strata(options.task, targets)
    sides, clusters = _split(options, examples, strata)
    kept = _remove_leaks(examples, sides, counts)
    dataset = Dataset(
        options.task,
        labels,
        [example for example, chosen in zip(examples, kept, strict=True) if chosen],
        targets[kept],
        sides[kept],
        None if clusters is None else clusters[kept],
    )
    _check_sides(options, dataset, counts)
    _count_near_duplicates(dataset, counts)
    for side, name in enumerate(SIDES):
        counts[f"{name}_sequences"] = len(dataset.of(side))
    return dataset


def _strata(task: Task, targets: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.int64]:
    """Return what a split is to have its share of: classes, the rarest label of each example, or tenths of quantities."""
    if task == "classify":
        return targets.astype(np.int64)
    if task == "multilabel":
        rarest_first = np.argsort(targets.sum(axis=0), kind="stable")
        ordered = targets[:, rarest_first]
        return np.where(ordered.any(axis=1), ordered.argmax(axis=1) + 1, 0)
    count = STRATA if len(targets) >= FEW else 1
    ranks = np.argsort(np.argsort(targets[:, 0], kind="stable"), kind="stable")
    return ranks * count // len(targets)


def _split(
    options: FinetuningOptions, examples: Sequence[Example], strata: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """Return the side of each example, and the number of its group where groups stay together."""
    generator = np.random.default_rng((options.seed, 2))
    groups = None
    if options.split == "record" or (options.group_column and options.split in {"group", "given"}):
        groups = _groups(options, examples)
    if options.split == "given":
        return _given_split(options, examples, strata, groups, generator), groups
    fractions = options.validation_fraction, options.test_fraction
    if groups is None:
        return random_split(strata, *fractions, generator), None
    if groups.max() + 1 < len(SIDES):
        raise UserError(
            f"The split '{options.split}' needs {len(SIDES)} groups, to train, validate and test with, and there are "
            f"{groups.max() + 1}; choose another split, or give more groups."
        )
    return group_split(strata, groups, *fractions, generator), groups


def _groups(options: FinetuningOptions, examples: Sequence[Example]) -> NDArray[np.int64]:
    numbers: dict[str, int] = {}
    found = []
    for example in examples:
        if options.split == "record":
            name = example.place.contig if example.place else example.id
        else:
            name = example.group or ""
            if is_missing(name):
                raise UserError(
                    f"'{shown(example.id)}' has no group in the column '{shown(options.group_column)}'; give each a group."
                )
        found.append(numbers.setdefault(name, len(numbers)))
    return np.array(found, dtype=np.int64)


def _given_split(
    options: FinetuningOptions,
    examples: Sequence[Example],
    strata: NDArray[np.int64],
    groups: NDArray[np.int64] | None,
    generator: np.random.Generator,
) -> NDArray[np.int64]:
    """Return the sides that the table gives; without any to validate, some of those that train do."""
    sides = sides_of_names([example.side or "" for example in examples])
    if (sides < 0).any():
        example = examples[int(np.flatnonzero(sides < 0)[0])]
        raise UserError(
            f"'{shown(example.id)}' has '{shown(example.side)}' in the column '{shown(options.split_column)}'; "
            "use train, validation and test."
        )
    if not (sides == VALIDATE).any() and (sides == TRAIN).sum() > 1:
        training = np.flatnonzero(sides == TRAIN)
        fraction = options.validation_fraction
        if groups is None:
            chosen = random_split(strata[training], fraction, 0.0, generator)
        else:
            own = np.unique(groups[training], return_inverse=True)[1]
            chosen = group_split(strata[training], own, fraction, 0.0, generator)
        sides[training[chosen == VALIDATE]] = VALIDATE
        print(f"The table gives nothing to validate with: {int((sides == VALIDATE).sum()):,} of training are taken")
    return sides


def _remove_leaks(examples: Sequence[Example], sides: NDArray[np.int64], counts: Counter[str]) -> NDArray[np.bool_]:
    """Return which examples stay when nothing that tests or validates was seen before; the others get a status."""
    kept = np.ones(len(examples), dtype=np.bool_)
    sequences, places = [example.bases for example in examples], [example.place for example in examples]
    for later, earlier in ((TEST, (TRAIN, VALIDATE)), (VALIDATE, (TRAIN,))):
        tested = (sides == later) & kept
        same = leakage.same_sequences(sequences, tested)
        overlap = leakage.overlapping(places, sequences, tested) & ~same
        for status, found in ((f"same_in_{SIDES[later]}", same), (f"overlaps_{SIDES[later]}", overlap)):
            leaks = np.flatnonzero(found & kept & np.isin(sides, earlier))
            kept[leaks] = False
            counts[status] = len(leaks)
            for number in leaks.tolist():
                examples[number].status = status
    return kept


def _check_sides(options: FinetuningOptions, dataset: Dataset, counts: Counter[str]) -> None:
    """Raise UserError if a side lacks what it needs; tell what cannot be measured."""
    leaks = sum(counts[f"{how}_{side}"] for how in ("same_in", "overlaps") for side in ("test", "validation"))
    because = f" after {leaks:,} were left out that {SIDES[TEST]} or {SIDES[VALIDATE]} has" if leaks else ""
    ways = "more sequences, another split" + (", or sequences that overlap less" if leaks else "")
    for side, name in enumerate(SIDES):
        if not len(dataset.of(side)):
            raise UserError(
                f"The split '{options.split}' leaves no sequence for {name} ({len(dataset.sides):,} in all{because}); "
                f"give {ways}."
            )
    training = dataset.targets[dataset.of(TRAIN)]
    if dataset.task == "classify":
        lacking = sorted(set(range(len(dataset.labels))) - set(training.tolist()))
    elif dataset.task == "multilabel":
        lacking = np.flatnonzero(training.min(axis=0) == training.max(axis=0)).tolist()
    else:
        lacking = [] if np.ptp(training) else [0]
    if lacking:
        what = "sequences to tell it from" if dataset.task != "classify" else "sequence to train on"
        raise UserError(
            f"The split '{options.split}' leaves '{shown(dataset.labels[lacking[0]])}' no {what}{because}; give {ways}."
        )
    tested = set(dataset.targets[dataset.of(TEST)].tolist()) if dataset.task == "classify" else set()
    if len(tested) == 1:
        raise UserError(
            f"The split '{options.split}' leaves the class '{shown(dataset.labels[tested.pop()])}' alone to test with"
            f"{because}; give {ways}."
        )
    if tested and (untested := [label for number, label in enumerate(dataset.labels) if number not in tested]):
        print(
            f"Warning: classes that no test sequence has: {', '.join(map(shown, untested[:6]))}"
            + " …" * (len(untested) > 6)
        )


def _count_near_duplicates(dataset: Dataset, counts: Counter[str]) -> None:
    training = dataset.of(TRAIN, VALIDATE)[:MOST_COMPARED]
    tested, seen = (
        [dataset.examples[n].bases.encode() for n in part.tolist()] for part in (dataset.of(TEST), training)
    )
    counts["near_duplicates_in_test"] = near_duplicates(tested, seen, NEAR)
