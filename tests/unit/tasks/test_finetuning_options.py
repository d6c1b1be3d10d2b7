"""Options of a fine-tuning: what contradicts, what the method decides, and what the script offers."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import dnalm_finetune
import pytest
from dnalm.errors import UserError
from dnalm.tasks.finetuning_options import DECISIVE, FinetuningOptions, filled, refuse_contradictions

USUAL = FinetuningOptions(Path("out"), [Path("in.fasta")], Path("model"))


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        ({"split": "group"}, "The split 'group' needs the column of the groups"),
        ({"group_column": "gene"}, "for the splits group and given; leave it out of 'random'"),
        ({"group_column": "gene", "split": "record"}, "for the splits group and given; leave it out of 'record'"),
        (
            {"validation_fraction": 0.5, "test_fraction": 0.41},
            "together take 0.91 of the sequences; leave at least 0.1",
        ),
        ({"resume_from": Path("checkpoint")}, "A probe has no checkpoint to go on from"),
        ({"task": "regress", "class_weights": "balanced"}, "Weights of classes are for the task classify"),
        ({"task": "multilabel", "class_weights": "balanced"}, "Weights of classes are for the task classify"),
    ],
)
def test_options_that_contradict_each_other_are_refused(choices: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        refuse_contradictions(replace(USUAL, **choices))


@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"split": "group", "group_column": "gene"},
        {"split": "given", "group_column": "gene"},
        {"split": "given"},
        {"validation_fraction": 0.4, "test_fraction": 0.5},
        {"method": "lora", "resume_from": Path("checkpoint")},
        {"class_weights": "balanced"},
    ],
)
def test_options_that_agree_are_taken(choices: dict[str, Any]) -> None:
    refuse_contradictions(replace(USUAL, **choices))


def test_a_learning_rate_that_nobody_chose_is_the_methods() -> None:
    rates = {method: filled(replace(USUAL, method=method)).learning_rate for method in ("probe", "lora", "full")}
    assert rates == {"probe": 0.0, "lora": 1e-3, "full": 1e-4}


def test_a_chosen_learning_rate_is_kept_even_if_it_is_0() -> None:
    for rate in (0.0, 0.5):
        chosen = replace(USUAL, method="full", learning_rate=rate)
        assert filled(chosen) == chosen


def test_the_script_offers_these_options_with_these_defaults() -> None:
    arguments = dnalm_finetune.parser().parse_args(["--output", "out", "--sequences", "in.fasta", "--model", "model"])
    assert FinetuningOptions(**vars(arguments)) == USUAL


def test_a_checkpoint_depends_on_all_options_but_these() -> None:
    files = {"output", "sequences", "model", "labels", "resume_from", "checkpoint", "metrics", "predictions", "records"}
    # The fingerprint of the data covers what the columns and names of the labels change.
    of_data = {"label_column", "group_column", "split_column", "class_names", "unmatched"}
    of_this_job = {"log", "figure", "name", "baselines", "patience", "time_limit", "device", "threads", "batch_tokens"}
    assert {field.name for field in fields(FinetuningOptions)} - set(DECISIVE) == files | of_data | of_this_job
