"""What a model file says of its head that classifies or regresses: labels, task, calibration.

The head is the same for every architecture: the mean of the last hidden states over the tokens that cover bases, and a
linear layer from it to one number a label. Its tensors `classifier.weight`, shape (labels, hidden size), and
`classifier.bias`, shape (labels,), stand beside the backbone's. In the config `problem_type` and `id2label` are Hugging
Face's, and `dnalm_classifier`, which no published model has, holds the rest and tells the head from published ones.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from dnalm.errors import UserError, printable, shown
from dnalm.models.configs import MOST_LABELS
from dnalm.models.model_file import StoredModel

Task = Literal["classify", "multilabel", "regress"]
PROBLEM_TYPES: dict[Task, str] = {
    "classify": "single_label_classification",
    "multilabel": "multi_label_classification",
    "regress": "regression",
}
MARK = "dnalm_classifier"
WEIGHT, BIAS = "classifier.weight", "classifier.bias"
OF_HEAD = (MARK, "id2label", "label2id", "num_labels", "problem_type")
POOLING = "mean"  # over the tokens that cover bases; the only one so far
LONGEST_LABEL = 200  # letters


@dataclass(frozen=True)
class HeadFacts:
    """What the numbers of a head mean.

    Attributes:
        task: whether exactly one label is true of a sequence, any number of them are, or each is a quantity.
        labels: their names, in the order of the head's outputs.
        temperature: logits are divided by it before they become probabilities (Guo et al. 2017, arXiv:1706.04599).
        thresholds: one probability a label. Of several labels those are called that reach theirs; of exclusive ones that
            with the largest probability by threshold, so that two with the thresholds 1 − t and t part at t.
        target_mean, target_scale: one a label; a quantity is the head's output times the scale plus the mean.
    """

    task: Task
    labels: tuple[str, ...]
    temperature: float = 1.0
    thresholds: tuple[float, ...] | None = None
    target_mean: tuple[float, ...] | None = None
    target_scale: tuple[float, ...] | None = None


def has_head(config: Mapping[str, Any]) -> bool:
    """Say whether a config tells of a head of ours."""
    return MARK in config


def without_head(stored: StoredModel) -> StoredModel:
    """Return a model without a head of ours; one that has none as it is."""
    if not has_head(stored.config):
        return stored
    tensors = {name: info for name, info in stored.tensors.items() if name not in (WEIGHT, BIAS)}
    config = {key: value for key, value in stored.config.items() if key not in OF_HEAD}
    return replace(stored, tensors=tensors, config=config)


def has_other_backbone(config: Mapping[str, Any]) -> bool:
    """Say whether the backbone was trained with a head of ours, so that no language-model head belongs to it any more."""
    return has_head(config) and not (isinstance(config[MARK], dict) and config[MARK].get("language_model") is True)


def config_with_head(config: Mapping[str, Any], facts: HeadFacts, *, language_model: bool) -> dict[str, Any]:
    """Return a backbone's config with what there is to say of its head.

    `language_model` says whether the backbone is still a language model's; some have a head without a tensor of its own.
    """
    bare = {key: value for key, value in config.items() if key not in OF_HEAD}
    calibration: dict[str, Any] = {
        "pooling": POOLING,
        "temperature": facts.temperature,
        "language_model": language_model,
    }
    for name in ("thresholds", "target_mean", "target_scale"):
        if (values := getattr(facts, name)) is not None:
            calibration[name] = list(values)
    return bare | {
        "problem_type": PROBLEM_TYPES[facts.task],
        "id2label": {str(number): label for number, label in enumerate(facts.labels)},
        MARK: calibration,
    }


def read_facts(stored: StoredModel) -> HeadFacts:
    """Return what a config says of a head of ours.

    Raises:
        UserError: it does not make sense.
    """
    config, said = stored.config, stored.config[MARK]
    tasks = {problem: task for task, problem in PROBLEM_TYPES.items()}
    problem = config.get("problem_type")
    if not isinstance(said, dict) or not isinstance(problem, str) or problem not in tasks:
        raise _unclear(stored, f"its problem_type is '{shown(problem)}'")
    if said.get("pooling") != POOLING:
        raise _unclear(stored, f"its pooling is '{shown(said.get('pooling'))}', and only {POOLING} is known here")
    labels = read_labels(stored)
    (temperature,) = _numbers(stored, [said.get("temperature", 1.0)], "temperature", 1)
    if not temperature > 0:
        raise _unclear(stored, f"its temperature is {temperature}")
    of_labels = {
        name: _numbers(stored, said[name], name, len(labels))
        for name in ("thresholds", "target_mean", "target_scale")
        if said.get(name) is not None
    }
    if not all(0 < threshold <= 1 for threshold in of_labels.get("thresholds", ())):
        raise _unclear(stored, "a threshold is no probability above 0")
    facts = HeadFacts(tasks[problem], labels, temperature, **of_labels)
    check_facts(facts, stored.name)
    return facts


def read_labels(stored: StoredModel) -> tuple[str, ...]:
    """Return the names in `id2label`, in the order of the ids.

    Raises:
        UserError: they are not named from 0 on, each once.
    """
    said = stored.config.get("id2label")
    if not isinstance(said, dict) or not 0 < len(said) <= MOST_LABELS:
        raise _unclear(stored, "its id2label names no labels, or too many")
    by_id = {str(number): label for number, label in said.items()}
    labels = [by_id.get(str(number)) for number in range(len(said))]
    if not all(isinstance(label, str | int | float) for label in labels):
        raise _unclear(stored, "its id2label does not name the labels 0, 1, 2 and so on")
    return tuple(printable(str(label)) for label in labels)


def check_facts(facts: HeadFacts, name: str) -> None:
    """Raise UserError if a model with this name cannot have such a head."""
    if facts.task == "classify" and len(facts.labels) < 2:
        raise UserError(
            f"The model '{name}' has one class only, so that there is nothing to tell apart; use two or more."
        )
    if not facts.labels or len(facts.labels) > MOST_LABELS:
        raise UserError(f"The model '{name}' has {len(facts.labels):,} labels; use 1 to {MOST_LABELS:,}.")
    for label in facts.labels:
        if not label.strip() or len(label) > LONGEST_LABEL or not label.isprintable():
            raise UserError(
                f"The model '{name}' has the label '{shown(label)}'; labels are 1 to {LONGEST_LABEL} letters on one line."
            )
    if len(set(facts.labels)) < len(facts.labels):
        repeated = next(label for number, label in enumerate(facts.labels) if label in facts.labels[:number])
        raise UserError(f"The model '{name}' has the label '{repeated}' twice; give each its own name.")


def _numbers(stored: StoredModel, values: object, name: str, count: int) -> tuple[float, ...]:
    finite = isinstance(values, list) and all(
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) for value in values
    )
    if not finite or not isinstance(values, list) or len(values) != count:
        raise _unclear(stored, f"its {name} are not {count} numbers")
    return tuple(float(value) for value in values)


def _unclear(stored: StoredModel, how: str) -> UserError:
    return UserError(
        f"The head of the model '{stored.name}' cannot be read: {how}; use an intact model, or fine-tune it again."
    )
