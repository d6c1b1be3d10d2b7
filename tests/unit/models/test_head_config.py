"""The config of a head that classifies or regresses: written, read again, and damaged."""

from pathlib import Path
from typing import Any

import pytest
import torch
from dnalm.errors import UserError
from dnalm.models.head_config import (
    BIAS,
    MARK,
    WEIGHT,
    HeadFacts,
    check_facts,
    config_with_head,
    has_head,
    has_other_backbone,
    read_facts,
    read_labels,
    without_head,
)
from dnalm.models.model_file import StoredModel, TensorInfo

BACKBONE = {"model_type": "bert", "hidden_size": 32}
FACTS = HeadFacts("classify", ("zebra", "ant", "mouse"), temperature=1.5, thresholds=(0.2, 0.5, 1.0))


def stored(config: dict[str, Any], *tensors: str) -> StoredModel:
    """Return a model named m with a config and names of tensors."""
    info = TensorInfo(Path("m"), torch.float32, (1,), 0, 4)
    return StoredModel("m", (), dict.fromkeys(tensors, info), config, {})


@pytest.mark.parametrize(
    "facts",
    [
        FACTS,
        HeadFacts("multilabel", ("a",)),
        HeadFacts("regress", ("height", "mass"), target_mean=(-1.0, 2.5), target_scale=(3.0, 0.5)),
    ],
    ids=lambda facts: facts.task,
)
def test_written_facts_are_read_again(facts: HeadFacts) -> None:
    assert read_facts(stored(config_with_head(BACKBONE, facts, language_model=False))) == facts


def test_the_config_has_hugging_faces_keys_and_one_of_its_own() -> None:
    before = BACKBONE | {"num_labels": 7, "label2id": {"old": 0}, "id2label": {"0": "old"}}
    assert config_with_head(before, FACTS, language_model=True) == BACKBONE | {
        "problem_type": "single_label_classification",
        "id2label": {"0": "zebra", "1": "ant", "2": "mouse"},
        "dnalm_classifier": {
            "pooling": "mean",
            "temperature": 1.5,
            "language_model": True,
            "thresholds": [0.2, 0.5, 1.0],
        },
    }


def test_a_model_without_its_head_is_its_backbone() -> None:
    whole = stored(config_with_head(BACKBONE, FACTS, language_model=False), "bert.a", WEIGHT, BIAS)
    bare = without_head(whole)
    assert (bare.config, bare.tensors.keys()) == (BACKBONE, {"bert.a"})
    # A published classifier keeps what is called alike.
    published = stored(BACKBONE | {"id2label": {"0": "a"}}, "bert.a", WEIGHT, BIAS)
    assert without_head(published) is published
    assert (has_head(whole.config), has_head(published.config)) == (True, False)


def test_a_backbone_that_was_trained_with_a_head_is_another_one() -> None:
    assert not has_other_backbone(BACKBONE)
    assert not has_other_backbone(config_with_head(BACKBONE, FACTS, language_model=True))
    assert has_other_backbone(config_with_head(BACKBONE, FACTS, language_model=False))
    for damaged in (5, {}, {"language_model": "yes"}):
        assert has_other_backbone(BACKBONE | {MARK: damaged})


def test_labels_are_in_the_order_of_their_numbers_on_one_line() -> None:
    named = {"2": 7, "10": "last", "0": "first", **{str(number): f"l{number}" for number in (1, 3, 4, 5, 6, 7, 8, 9)}}
    assert read_labels(stored({"id2label": named}))[:3] == ("first", "l1", "7")
    assert read_labels(stored({"id2label": named}))[-1] == "last"
    assert read_labels(stored({"id2label": {0: "a\tb"}})) == (r"a\tb",)


@pytest.mark.parametrize(
    ("id2label", "sentence"),
    [
        (None, "its id2label names no labels, or too many"),
        ({}, "its id2label names no labels, or too many"),
        (["a", "b"], "its id2label names no labels, or too many"),
        (dict.fromkeys(map(str, range(100_001)), "x"), "its id2label names no labels, or too many"),
        ({"0": "a", "2": "c"}, "its id2label does not name the labels 0, 1, 2 and so on"),
        ({"1": "a", "2": "c"}, "its id2label does not name the labels 0, 1, 2 and so on"),
        ({"0": "a", "1": None}, "its id2label does not name the labels 0, 1, 2 and so on"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_labels_that_are_not_numbered_are_refused(id2label: object, sentence: str) -> None:
    with pytest.raises(UserError, match=f"head of the model 'm' cannot be read: {sentence}"):
        read_labels(stored({"id2label": id2label}))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"thresholds": [0.0, 0.5, 0.5]}, "a threshold is no probability above 0"),
        ({"thresholds": [0.5, 0.5, 1.1]}, "a threshold is no probability above 0"),
        ({"thresholds": [0.5, 0.5]}, "its thresholds are not 3 numbers"),
        ({"thresholds": [0.5, 0.5, True]}, "its thresholds are not 3 numbers"),
        ({"thresholds": 0.5}, "its thresholds are not 3 numbers"),
        ({"target_mean": [0, 0, float("inf")]}, "its target_mean are not 3 numbers"),
        ({"target_scale": ["1", 1, 1]}, "its target_scale are not 3 numbers"),
        ({"temperature": -1}, "its temperature is -1"),
        ({"temperature": None}, "its temperature are not 1 numbers"),
        ({"pooling": "cls"}, "its pooling is 'cls', and only mean is known here"),
    ],
)
def test_calibration_that_makes_no_sense_is_refused(changes: dict[str, Any], sentence: str) -> None:
    config = config_with_head(BACKBONE, FACTS, language_model=False)
    config[MARK] |= changes
    with pytest.raises(UserError, match=sentence):
        read_facts(stored(config))


def test_labels_of_a_config_are_checked_like_those_of_a_new_head() -> None:
    config = config_with_head(BACKBONE, FACTS, language_model=False)
    config["id2label"]["1"] = "zebra"
    with pytest.raises(UserError, match="model 'm' has the label 'zebra' twice"):
        read_facts(stored(config))


@pytest.mark.parametrize("problem", [None, 5, "ranking"])
def test_an_unknown_task_is_refused(problem: object) -> None:
    config = config_with_head(BACKBONE, FACTS, language_model=False) | {"problem_type": problem}
    with pytest.raises(UserError, match=f"its problem_type is '{problem}'"):
        read_facts(stored(config))


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        (HeadFacts("classify", ("a",)), "model 'm' has one class only"),
        (HeadFacts("regress", ()), "model 'm' has 0 labels; use 1 to 100,000"),
        (HeadFacts("classify", ("a", "b", "a")), "the label 'a' twice"),
        (HeadFacts("multilabel", ("a", "")), "the label ''; labels are 1 to 200 letters on one line"),
        (HeadFacts("multilabel", ("x" * 201,)), "labels are 1 to 200 letters"),
        (HeadFacts("multilabel", ("a\nb",)), r"the label 'a\\nb'"),
    ],
)
def test_heads_that_cannot_be_are_refused(facts: HeadFacts, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        check_facts(facts, "m")


def test_one_label_is_enough_where_labels_do_not_exclude_each_other() -> None:
    check_facts(HeadFacts("multilabel", ("a",)), "m")
    check_facts(HeadFacts("regress", ("x" * 200,)), "m")
    check_facts(HeadFacts("classify", ("a", "b")), "m")
