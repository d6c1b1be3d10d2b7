"""From labels as they stand to what is learnt: classes, several labels at once, or quantities."""

import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from dnalm.errors import UserError, shown
from dnalm.formats.tables import MISSING
from dnalm.models.head_config import Task
from dnalm.tasks.finetuning_data import Collection, Example

MOST_CLASSES = 1_000
FEWEST = 3  # members of a class: one each to train, validate and test

Targets = tuple[tuple[str, ...], "NDArray[np.int64] | NDArray[np.float64]", NDArray[np.bool_]]


def class_targets(examples: Sequence[Example], collection: Collection) -> Targets:
    """Return classes by name, the number of each labelled example's, and which are labelled."""
    texts = [_tidy(example, 0, collection.counts) for example in examples]
    labelled = np.array([not is_missing(text) for text in texts], dtype=np.bool_)
    given = [text for text in texts if not is_missing(text)]
    members = Counter(given)
    column = collection.label_columns[0]
    if len(members) < 2:
        what = f"only the class '{shown(next(iter(members)))}'" if members else "no label"
        raise UserError(f"The column '{shown(column)}' of {collection.source} has {what}; give two classes or more.")
    hint = " (they are numbers: for quantities choose the task regress)" if all(map(_is_number, members)) else ""
    if len(members) > MOST_CLASSES:
        raise UserError(
            f"The column '{shown(column)}' of {collection.source} has {len(members):,} classes, more than "
            f"{MOST_CLASSES:,}{hint}; choose the column of the classes."
        )
    few = [label for label, count in members.items() if count < FEWEST]
    if few:
        raise UserError(
            f"The class '{shown(few[0])}' has {members[few[0]]} of the {FEWEST} sequences that it needs to be trained, "
            f"validated and tested with{hint}"
            + (f"; other classes with too few: {len(few) - 1:,}" if len(few) > 1 else "")
            + "; add sequences, or leave the class out."
        )
    folded = Counter(label.casefold() for label in members)
    if alike := [label for label in members if folded[label.casefold()] > 1]:
        print(f"Warning: classes that differ in small and capital letters alone: {', '.join(map(shown, alike[:6]))}")
    labels = tuple(sorted(members, key=_in_order))
    codes = {label: number for number, label in enumerate(labels)}
    return labels, np.array([codes[text] for text in given], dtype=np.int64), labelled


def several_targets(examples: Sequence[Example], collection: Collection) -> Targets:
    """Return labels, which are true, and who is labelled: one column with names between semicolons, or one a label."""
    columns = collection.label_columns
    if len(columns) > 1:
        labelled = np.array(
            [
                all(not is_missing(_tidy(example, place, collection.counts)) for place in range(len(columns)))
                for example in examples
            ],
            dtype=np.bool_,
        )
        rows = [
            [_flag(example, place, collection) for place in range(len(columns))]
            for example, chosen in zip(examples, labelled, strict=True)
            if chosen
        ]
        labels, targets = columns, np.array(rows, dtype=np.int64).reshape(-1, len(columns))
    else:
        texts = [_tidy(example, 0, collection.counts) for example in examples]
        labelled = np.array([text == "" or not is_missing(text) for text in texts], dtype=np.bool_)
        sets = [
            {part.strip() for part in text.split(";")} - {""} for text in texts if text == "" or not is_missing(text)
        ]
        labels = tuple(sorted(set().union(*sets), key=_in_order))
        if len(labels) > MOST_CLASSES:
            raise UserError(f"There are {len(labels):,} labels, more than {MOST_CLASSES:,}; choose another column.")
        targets = np.array([[label in true for label in labels] for true in sets], dtype=np.int64)
    if not labels:
        raise UserError(f"The column '{shown(columns[0])}' of {collection.source} has no label; choose another column.")
    for number, label in enumerate(labels):
        true = int(targets[:, number].sum())
        if min(true, len(targets) - true) < FEWEST:
            raise UserError(
                f"The label '{shown(label)}' is true of {true:,} of {len(targets):,} sequences; it needs {FEWEST} of "
                f"which it is true and {FEWEST} of which it is not: add sequences, or leave the label out."
            )
    return labels, targets, labelled


def quantity_targets(examples: Sequence[Example], collection: Collection) -> Targets:
    """Return the name of the quantity, its values, and which examples have one."""
    if len(collection.label_columns) > 1:
        raise UserError("The task regress takes one column of labels; choose one.")
    values = np.array([_quantity(example, collection) for example in examples], dtype=np.float64)
    labelled = ~np.isnan(values)
    if not labelled.any() or np.ptp(values[labelled]) == 0:
        what = f"is {values[labelled][0]:g} of every sequence" if labelled.any() else "has no number"
        raise UserError(
            f"The column '{shown(collection.label_columns[0])}' of {collection.source} {what}; choose another column."
        )
    return (collection.label_columns[0],), values[labelled][:, None], labelled


TARGETS: dict[Task, Callable[[Sequence[Example], Collection], Targets]] = {
    "classify": class_targets,
    "multilabel": several_targets,
    "regress": quantity_targets,
}


def _tidy(example: Example, place: int, counts: Counter[str]) -> str:
    """Return a label with single blanks within; count what that changed."""
    assert example.labels is not None
    text = " ".join(example.labels[place].split())
    counts["labels_with_white_space"] += text != example.labels[place]
    return text


def is_missing(text: str) -> bool:
    """Say whether a value stands for none."""
    return text in MISSING


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _in_order(label: str) -> tuple[bool, float, str]:
    """Sort whole numbers as numbers, before words in the order of the alphabet."""
    number = label.isascii() and label.isdigit()
    return (not number, float(label) if number else 0.0, label)


def _flag(example: Example, place: int, collection: Collection) -> int:
    assert example.labels is not None
    text = " ".join(example.labels[place].split()).lower()
    if text not in FLAGS:
        raise UserError(
            f"{_where(example, collection)} has '{shown(text)}' in the column '{shown(collection.label_columns[place])}', "
            "where several columns of labels have 0 and 1; correct it."
        )
    return FLAGS[text]


FLAGS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1, "no": 0, "yes": 1}


def _quantity(example: Example, collection: Collection) -> float:
    text = _tidy(example, 0, collection.counts)
    if is_missing(text):
        return math.nan
    if not _is_number(text) or not math.isfinite(float(text)):
        raise UserError(
            f"{_where(example, collection)} has the label '{shown(text)}', which is no finite number; correct it, or choose "
            "the task classify for names."
        )
    return float(text)


def _where(example: Example, collection: Collection) -> str:
    return f"Line {example.line} of {collection.source}" if example.line else f"Sequence '{shown(example.id)}'"
