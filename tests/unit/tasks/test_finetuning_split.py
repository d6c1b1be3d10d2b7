"""From examples to those that train, validate and test: shares, groups, given sides, and no leaks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dnalm.errors import UserError
from dnalm.methods.leakage import Place
from dnalm.methods.splits import SIDES, TEST, TRAIN, VALIDATE
from dnalm.methods.strands import reverse_complement
from dnalm.tasks.finetuning_data import Collection, Example
from dnalm.tasks.finetuning_options import FinetuningOptions
from dnalm.tasks.finetuning_split import Dataset, make_dataset

Make = Callable[..., Dataset]


def options(**choices: Any) -> FinetuningOptions:
    return FinetuningOptions(Path("out"), [Path("in")], Path("model"), **choices)


@pytest.fixture
def examples_of() -> Callable[..., list[Example]]:
    """Return a function that gives examples of random bases with these labels."""
    generator = np.random.default_rng(0)

    def examples(labels: list[str], length: int = 40) -> list[Example]:
        return [
            Example(f"s{number}", "".join(generator.choice(list("ACGT"), length)), (label,))
            for number, label in enumerate(labels)
        ]

    return examples


def collection(examples: list[Example]) -> Collection:
    return Collection(examples, ("label",), "the table 't.tsv'")


def sides(dataset: Dataset) -> dict[str, str]:
    return {example.id: SIDES[side] for example, side in zip(dataset.examples, dataset.sides, strict=True)}


def with_sides(examples: list[Example], names: list[str]) -> list[Example]:
    for example, name in zip(examples, names, strict=True):
        example.side = name
    return examples


def test_every_class_has_its_share_on_every_side(examples_of: Callable[..., list[Example]]) -> None:
    data = collection(examples_of(["a"] * 50 + ["b"] * 20))
    dataset = make_dataset(options(), data)
    assert (dataset.task, dataset.labels, dataset.clusters) == ("classify", ("a", "b"), None)
    counts = np.zeros((2, 3), dtype=int)
    np.add.at(counts, (dataset.targets.astype(int), dataset.sides), 1)
    assert counts.tolist() == [[35, 5, 10], [14, 2, 4]]
    assert {name: data.counts[f"{name}_sequences"] for name in SIDES} == {"train": 49, "validation": 7, "test": 14}
    assert dataset.of(VALIDATE, TEST).tolist() == np.flatnonzero(dataset.sides != TRAIN).tolist()


def test_the_seed_decides_who_is_on_which_side(examples_of: Callable[..., list[Example]]) -> None:
    examples = examples_of(["a", "b"] * 20)
    found = [make_dataset(options(seed=seed), collection(examples)) for seed in (1, 1, 2)]
    assert sides(found[0]) == sides(found[1]) != sides(found[2])
    assert found[0].fingerprint() == found[1].fingerprint() != found[2].fingerprint()


def test_the_fingerprint_is_of_sequences_targets_labels_and_sides() -> None:
    def fingerprint(
        labels: tuple[str, ...] = ("a", "b"), bases: str = "ACGT", targets: tuple[int, ...] = (0, 1), side: int = TRAIN
    ) -> str:
        examples = [Example("x", bases, None), Example("y", "GGGG", None)]
        return Dataset("classify", labels, examples, np.array(targets), np.array([side, TEST]), None).fingerprint()

    changed = [
        fingerprint(labels=("a", "c")),
        fingerprint(bases="ACGA"),
        fingerprint(targets=(0, 0)),
        fingerprint(side=VALIDATE),
        # The same letters, parted elsewhere.
        fingerprint(bases="ACGTG"),
    ]
    assert len({fingerprint(), *changed}) == 6
    assert fingerprint() == fingerprint()


def test_what_is_not_labelled_is_left_out(examples_of: Callable[..., list[Example]]) -> None:
    examples = examples_of(["a", "NA", "b"] * 10)
    examples[3].status = "no_sequence"
    data = collection(examples)
    dataset = make_dataset(options(), data)
    assert [example.status for example in examples[:5]] == ["ok", "label_missing", "ok", "no_sequence", "label_missing"]
    assert data.counts["label_missing"] == 10
    assert len(dataset.examples) == len(dataset.targets) == 19
    assert all(example.status == "ok" for example in dataset.examples)


def test_of_several_labels_the_rarest_decides_over_the_share(examples_of: Callable[..., list[Example]]) -> None:
    """20 of 100 have the rare label, all of them the common one too; 10 have none."""
    data = collection(examples_of(["common;rare"] * 20 + ["common"] * 70 + [""] * 10))
    dataset = make_dataset(options(task="multilabel"), data)
    rare = dataset.targets[:, dataset.labels.index("rare")] > 0
    assert [int((dataset.sides[rare] == side).sum()) for side in (TRAIN, VALIDATE, TEST)] == [14, 2, 4]
    none = dataset.targets.sum(axis=1) == 0
    assert [int((dataset.sides[none] == side).sum()) for side in (TRAIN, VALIDATE, TEST)] == [7, 1, 2]


def test_every_tenth_of_many_quantities_has_its_share(examples_of: Callable[..., list[Example]]) -> None:
    data = collection(examples_of([str(number) for number in range(100)]))
    dataset = make_dataset(options(task="regress"), data)
    counts = np.zeros((10, 3), dtype=int)
    np.add.at(counts, (dataset.targets[:, 0].astype(int) // 10, dataset.sides), 1)
    assert counts.tolist() == [[7, 1, 2]] * 10


def test_whole_groups_are_on_one_side(examples_of: Callable[..., list[Example]]) -> None:
    examples = examples_of(["a", "b"] * 20)
    for number, example in enumerate(examples):
        example.group = f"g{number // 2 % 10}"
    dataset = make_dataset(options(split="group", group_column="gene"), collection(examples))
    assert dataset.clusters is not None
    found: dict[str | None, set[int]] = {}
    for example, side in zip(dataset.examples, dataset.sides.tolist(), strict=True):
        found.setdefault(example.group, set()).add(side)
    assert all(len(of_group) == 1 for of_group in found.values())
    assert set.union(*found.values()) == {TRAIN, VALIDATE, TEST}
    groups = [example.group for example in dataset.examples]
    assert [groups.index(group) for group in groups] == [
        dataset.clusters.tolist().index(cluster) for cluster in dataset.clusters
    ]


def test_records_of_one_contig_are_on_one_side(examples_of: Callable[..., list[Example]]) -> None:
    """A sequence without a place is a contig of its own."""
    examples = examples_of(["a", "b"] * 20)
    for number, example in enumerate(examples[:36]):
        example.place = Place(f"chr{number // 2 % 6}", 1_000 * number, 1_000 * number + 40)
    dataset = make_dataset(options(split="record"), collection(examples))
    assert dataset.clusters is not None
    found: dict[str, set[int]] = {}
    for example, side in zip(dataset.examples, dataset.sides.tolist(), strict=True):
        found.setdefault(example.place.contig if example.place else example.id, set()).add(side)
    assert len(found) == len(set(dataset.clusters.tolist())) == 6 + 4
    assert all(len(of_contig) == 1 for of_contig in found.values())


def test_given_sides_are_kept(examples_of: Callable[..., list[Example]]) -> None:
    names = ["Train", " dev ", "TEST", "training", "val", "testing"] * 4
    examples = with_sides(examples_of(["a"] * 6 + ["b"] * 6 + ["a"] * 6 + ["b"] * 6), names)
    dataset = make_dataset(options(split="given"), collection(examples))
    assert dataset.sides.tolist() == [TRAIN, VALIDATE, TEST] * 8
    assert dataset.clusters is None


def test_some_that_train_validate_where_the_table_names_none(
    examples_of: Callable[..., list[Example]], capsys: pytest.CaptureFixture[str]
) -> None:
    """A fifth of each of five classes of six."""
    examples = with_sides(examples_of(list("abcde") * 8), ["train"] * 30 + ["test"] * 10)
    dataset = make_dataset(options(split="given", validation_fraction=0.2), collection(examples))
    assert dataset.sides[30:].tolist() == [TEST] * 10
    assert np.bincount(dataset.targets[dataset.of(VALIDATE)]).tolist() == [1] * 5
    assert np.bincount(dataset.targets[dataset.of(TRAIN)]).tolist() == [5] * 5
    assert "The table gives nothing to validate with: 5 of training are taken\n" in capsys.readouterr().out


def test_those_taken_to_validate_are_whole_groups(examples_of: Callable[..., list[Example]]) -> None:
    examples = with_sides(examples_of(["a", "b"] * 20), ["train"] * 30 + ["test"] * 10)
    for number, example in enumerate(examples):
        example.group = f"g{number // 5}"
    dataset = make_dataset(options(split="given", group_column="gene", validation_fraction=0.2), collection(examples))
    validated = {
        example.group for example, side in zip(dataset.examples, dataset.sides, strict=True) if side == VALIDATE
    }
    trained = {example.group for example, side in zip(dataset.examples, dataset.sides, strict=True) if side == TRAIN}
    assert validated
    assert not validated & trained
    assert dataset.clusters is not None


# Leaks


def test_sequences_of_test_and_validation_leave_those_that_come_before(
    examples_of: Callable[..., list[Example]],
) -> None:
    """The same bases, or their reverse complement, stay on the last side alone that has them."""
    names = ["train"] * 12 + ["validation"] * 6 + ["test"] * 6
    examples = with_sides(examples_of(["a", "b"] * 12), names)
    for number, example in enumerate(examples):
        example.group = f"g{number}"
    examples[0].bases = examples[18].bases
    examples[1].bases = reverse_complement(examples[19].bases)
    examples[2].bases = examples[12].bases
    examples[13].bases = examples[20].bases
    examples[3].bases = examples[13].bases  # of test too, through validation
    data = collection(examples)
    dataset = make_dataset(options(split="given", group_column="gene"), data)
    left_out = {example.id: example.status for example in examples if example.status != "ok"}
    assert left_out == {
        **dict.fromkeys(("s0", "s1", "s3", "s13"), "same_in_test"),
        "s2": "same_in_validation",
    }
    assert (data.counts["same_in_test"], data.counts["same_in_validation"]) == (4, 1)
    assert not left_out.keys() & sides(dataset).keys()
    assert [data.counts[f"{name}_sequences"] for name in SIDES] == [8, 5, 6]
    # What is left keeps its target and its group.
    kept = [int(example.id.removeprefix("s")) for example in dataset.examples]
    assert kept == [*range(4, 13), *range(14, 24)]
    assert dataset.targets.tolist() == [number % 2 for number in kept]
    assert dataset.clusters is not None
    assert dataset.clusters.tolist() == kept


def test_neighbours_on_the_genome_leave_the_side_that_comes_before(
    examples_of: Callable[..., list[Example]],
) -> None:
    names = ["train"] * 12 + ["validation"] * 6 + ["test"] * 6
    examples = with_sides(examples_of(["a", "b"] * 12), names)
    genome = "".join(example.bases for example in examples)[::-1]
    for number, start in ((0, 100), (1, 180), (2, 420), (12, 400), (13, 150), (18, 130)):
        examples[number].bases = genome[start : start + 40]
        examples[number].place = Place("chr1", start, start + 40)
    data = collection(examples)
    make_dataset(options(split="given"), data)
    # Of 180 to 220 only what was left out itself, 150 to 190, has some bases.
    assert {example.id: example.status for example in examples if example.status != "ok"} == {
        **dict.fromkeys(("s0", "s13"), "overlaps_test"),
        "s2": "overlaps_validation",
    }
    assert (data.counts["overlaps_test"], data.counts["overlaps_validation"]) == (2, 1)


def test_near_duplicates_in_test_are_counted_and_kept(examples_of: Callable[..., list[Example]]) -> None:
    names = ["train"] * 8 + ["validation"] * 6 + ["test"] * 6
    examples = with_sides(examples_of(["a", "b"] * 10, length=120), names)
    for number, other in ((14, 0), (15, 8), (16, 0)):
        examples[number].bases = reverse_complement(examples[other].bases)[number:]
    data = collection(examples)
    dataset = make_dataset(options(split="given"), data)
    assert data.counts["near_duplicates_in_test"] == 3
    assert len(dataset.examples) == 20


# What cannot be


@pytest.mark.parametrize(
    ("labels", "names", "sentence"),
    [
        (["a", "b"] * 6, ["train"] * 6 + ["validation"] * 6, r"leaves no sequence for test \(12 in all\); give more"),
        (["a", "b"] * 6, ["test"] * 6 + ["validation"] * 6, r"leaves no sequence for train \(12 in all\); give more"),
        (
            ["a"] * 6 + ["b"] * 6,
            ["train"] * 6 + ["validation"] * 3 + ["test"] * 3,
            "leaves 'b' no sequence to train on; give more sequences, another split",
        ),
        (
            ["a", "b"] * 4 + ["b"] * 4,
            ["train"] * 4 + ["validation"] * 4 + ["test"] * 4,
            "leaves the class 'b' alone to test with; give more sequences",
        ),
        (
            ["a", "b"] * 6,
            ["train"] * 6 + ["oops"] * 6,
            "'s6' has 'oops' in the column 'split'; use train, validation and",
        ),
    ],
)
def test_given_sides_that_cannot_be_are_refused(
    examples_of: Callable[..., list[Example]], labels: list[str], names: list[str], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        make_dataset(options(split="given"), collection(with_sides(examples_of(labels), names)))


def test_leaks_are_named_as_the_cause_of_an_empty_side(examples_of: Callable[..., list[Example]]) -> None:
    examples = with_sides(examples_of(["a", "b"] * 6), ["train"] * 4 + ["validation"] * 4 + ["test"] * 4)
    for number in range(4):
        examples[number].bases = examples[8 + number].bases
    with pytest.raises(
        UserError, match=r"for train \(8 in all after 4 were left out that test or validation has\).*less"
    ):
        make_dataset(options(split="given"), collection(examples))


@pytest.mark.parametrize(
    ("task", "labels", "label"),
    [("multilabel", ["x;y", "x", "x;y"] * 2 + ["y", "", ""] * 2, "x"), ("regress", ["1"] * 6 + ["2"] * 6, "label")],
)
def test_a_label_that_does_not_vary_in_training_is_refused(
    examples_of: Callable[..., list[Example]], task: str, labels: list[str], label: str
) -> None:
    examples = with_sides(examples_of(labels), ["train"] * 6 + ["validation", "test"] * 3)
    with pytest.raises(UserError, match=f"The split 'given' leaves '{label}' no sequences to tell it from"):
        make_dataset(options(task=task, split="given"), collection(examples))


def test_classes_that_no_test_sequence_has_are_told(
    examples_of: Callable[..., list[Example]], capsys: pytest.CaptureFixture[str]
) -> None:
    labels = ["a", "b", "c", "d"] * 3 + ["a", "b"] * 3
    examples = with_sides(examples_of(labels), ["train"] * 8 + ["validation"] * 4 + ["test"] * 6)
    make_dataset(options(split="given"), collection(examples))
    assert "Warning: classes that no test sequence has: c, d\n" in capsys.readouterr().out


def test_groups_are_needed_for_each_side(examples_of: Callable[..., list[Example]]) -> None:
    examples = examples_of(["a", "b"] * 6)
    for number, example in enumerate(examples):
        example.group = f"g{number % 2}"
    with pytest.raises(UserError, match=r"The split 'group' needs 3 groups, .* there are 2; choose another split"):
        make_dataset(options(split="group", group_column="gene"), collection(examples))
    examples[4].group = "NA"
    with pytest.raises(UserError, match="'s4' has no group in the column 'gene'; give each a group"):
        make_dataset(options(split="group", group_column="gene"), collection(examples))
