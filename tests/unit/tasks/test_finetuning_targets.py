"""From labels as they stand to classes, several labels at once, and quantities."""

from collections.abc import Sequence

import numpy as np
import pytest
from dnalm.errors import UserError
from dnalm.tasks.finetuning_data import Collection, Example
from dnalm.tasks.finetuning_targets import TARGETS, class_targets, is_missing, quantity_targets, several_targets


def collection(*labels: str | tuple[str, ...], columns: Sequence[str] = ("label",), line: int = 2) -> Collection:
    """Return sequences with these labels, as from lines of a table from `line` on, or without lines if that is 0."""
    examples = [
        Example(f"s{number}", "ACGT", (own,) if isinstance(own, str) else own, line=line and line + number)
        for number, own in enumerate(labels)
    ]
    return Collection(examples, tuple(columns), "the table 't.tsv'")


@pytest.mark.parametrize("text", ["", "nan", "NaN", "NA", "na", "N/A", "."])
def test_these_texts_stand_for_no_label(text: str) -> None:
    assert is_missing(text)


@pytest.mark.parametrize("text", ["0", "none", "no", "-", ".5", "nano"])
def test_these_texts_are_labels(text: str) -> None:
    assert not is_missing(text)


# Classes


def test_classes_are_numbered_in_order_and_missing_ones_left_out() -> None:
    """Whole numbers come as numbers, before words in the order of the alphabet."""
    data = collection("10", "9", "b", "NA", "A", "-1", *("10", "9", "b", "A", "-1") * 2)
    labels, targets, labelled = class_targets(data.examples, data)
    assert labels == ("9", "10", "-1", "A", "b")
    assert targets.tolist() == [1, 0, 4, 3, 2] + [1, 0, 4, 3, 2] * 2
    assert targets.dtype == np.int64
    assert labelled.tolist() == [True] * 3 + [False] + [True] * 12


def test_white_space_in_labels_is_tidied_and_counted() -> None:
    data = collection("a", " a", "not  sure", "a\t", "not sure", "not sure ")
    labels, targets, _ = class_targets(data.examples, data)
    assert labels == ("a", "not sure")
    assert targets.tolist() == [0, 0, 1, 0, 1, 1]
    assert data.counts == {"labels_with_white_space": 4}


def test_classes_that_differ_by_capital_letters_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    data = collection(*["Yes", "yes", "no"] * 3)
    assert class_targets(data.examples, data)[0] == ("Yes", "no", "yes")
    assert capsys.readouterr().out == "Warning: classes that differ in small and capital letters alone: Yes, yes\n"


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (["a"] * 6, "The column 'label' of the table 't.tsv' has only the class 'a'; give two classes or more"),
        (["", "NA"] * 3, "The column 'label' of the table 't.tsv' has no label; give two classes or more"),
        (["a", "b"] * 3 + ["7"] * 2, "The class '7' has 2 of the 3 sequences that it needs .* with; add sequences"),
        (["a", "b", "c"] * 2, "The class 'a' has 2 of the 3 .*; other classes with too few: 2; add sequences"),
        (
            ["1.5", "2"] * 2,
            r"The class '1\.5' has 2 of .* \(they are numbers: for quantities choose the task regress\)",
        ),
        ([str(number) for number in range(1_001)], r"has 1,001 classes, more than 1,000 \(they are numbers"),
        (
            [f"x{number}" for number in range(1_001)],
            "has 1,001 classes, more than 1,000; choose the column of the classes",
        ),
    ],
)
def test_classes_that_cannot_be_learnt_are_refused(labels: list[str], sentence: str) -> None:
    data = collection(*labels)
    with pytest.raises(UserError, match=sentence):
        class_targets(data.examples, data)


# Several labels at once


def test_labels_between_semicolons_are_flags() -> None:
    """An empty cell has none of the labels; NA says that nobody knows."""
    data = collection("b; a", "a", "", "NA", "b;", "b;b;10", "10", "a;10")
    labels, targets, labelled = several_targets(data.examples, data)
    assert labels == ("10", "a", "b")
    assert targets.tolist() == [[0, 1, 1], [0, 1, 0], [0, 0, 0], [0, 0, 1], [1, 0, 1], [1, 0, 0], [1, 1, 0]]
    assert labelled.tolist() == [True, True, True, False, True, True, True, True]


def test_labels_between_semicolons_come_in_the_order_of_classes() -> None:
    data = collection(*["x;10;9"] * 3, *[""] * 3)
    assert several_targets(data.examples, data)[0] == ("9", "10", "x")


def test_several_columns_are_labels_of_their_own_in_their_order() -> None:
    data = collection(
        *(("1", "no"), ("0", "YES"), ("NA", "1"), ("true", "0.0"), ("False", " 1 "), ("1.0", "true"), ("no", "false")),
        columns=("z", "a"),
    )
    labels, targets, labelled = several_targets(data.examples, data)
    assert labels == ("z", "a")
    assert targets.tolist() == [[1, 0], [0, 1], [1, 0], [0, 1], [1, 1], [0, 0]]
    assert labelled.tolist() == [True, True, False, True, True, True, True]


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (
            ["a;b", "a", "b"] * 2 + ["a"],
            "The label 'a' is true of 5 of 7 sequences; it needs 3 of which it is true and 3",
        ),
        (["a", "", "", "a", ""], "The label 'a' is true of 2 of 5 sequences"),
        (["", "NA", ";"], "The column 'label' of the table 't.tsv' has no label; choose another column"),
        ([";".join(map(str, range(1_001)))] * 3, "There are 1,001 labels, more than 1,000; choose another column"),
    ],
)
def test_labels_that_cannot_be_learnt_are_refused(labels: list[str], sentence: str) -> None:
    data = collection(*labels)
    with pytest.raises(UserError, match=sentence):
        several_targets(data.examples, data)


@pytest.mark.parametrize(
    ("line", "where"), [(2, "Line 3 of the table 't.tsv' has 'maybe'"), (0, "Sequence 's1' has 'maybe'")]
)
def test_a_flag_that_is_neither_true_nor_false_is_refused(line: int, where: str) -> None:
    data = collection(("1", "0"), ("0", "Maybe"), columns=("one", "two"), line=line)
    with pytest.raises(UserError, match=f"{where} in the column 'two', where several columns of labels have 0 and 1"):
        several_targets(data.examples, data)


# Quantities


def test_quantities_are_numbers_and_missing_ones_left_out() -> None:
    data = collection("1.5", "nan", " -2e3 ", ".", "0", columns=("activity",))
    labels, values, labelled = quantity_targets(data.examples, data)
    assert labels == ("activity",)
    assert values.tolist() == [[1.5], [-2000.0], [0.0]]
    assert labelled.tolist() == [True, False, True, False, True]


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (["2", "2.0", "NA"], "The column 'label' of the table 't.tsv' is 2 of every sequence; choose another column"),
        (["NA", ""], "The column 'label' of the table 't.tsv' has no number; choose another column"),
        (["1", "inf", "2"], "Line 3 of the table 't.tsv' has the label 'inf', which is no finite number"),
        (["1", "many", "2"], "Line 3 of the table 't.tsv' has the label 'many', which is no finite number"),
    ],
)
def test_quantities_that_cannot_be_learnt_are_refused(labels: list[str], sentence: str) -> None:
    data = collection(*labels)
    with pytest.raises(UserError, match=sentence):
        quantity_targets(data.examples, data)


def test_there_is_one_quantity_alone() -> None:
    data = collection(("1", "2"), ("2", "3"), columns=("one", "two"))
    with pytest.raises(UserError, match="The task regress takes one column of labels; choose one"):
        quantity_targets(data.examples, data)


def test_each_task_has_its_own_targets() -> None:
    data = collection(*["1", "0", "1;0"] * 3)
    assert [TARGETS[task](data.examples, data)[1].shape for task in ("classify", "multilabel")] == [(9,), (9, 2)]
    assert TARGETS["regress"] is quantity_targets
