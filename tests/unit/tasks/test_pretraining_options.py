"""Options of a pretraining: what contradicts, what the preset decides, and what the script offers."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import dnalm_pretrain
import pytest
from dnalm.errors import UserError
from dnalm.tasks.pretraining_options import DECISIVE, PretrainingOptions, filled, refuse_contradictions

FILE = Path("file")
USUAL = PretrainingOptions(Path("out"), sequences=[FILE])


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        ({"sequences": None}, "Give either sequences, or a genome together with regions"),
        ({"genome": FILE}, "Give either sequences, or a genome together with regions"),
        ({"sequences": None, "genome": FILE}, "Give either sequences, or a genome together with regions"),
        ({"regions": FILE}, "Give either sequences, or a genome together with regions"),
        ({"continue_from": FILE, "tokenizer": [FILE]}, "brings its config and tokenizer; give neither"),
        ({"continue_from": FILE, "model_config": FILE}, "brings its config and tokenizer; give neither"),
        ({"preset": "custom"}, "The recipe 'custom' has no model of its own"),
        ({"validation_fraction": 0.0}, "The share of validation is 0.0; use one between 0 and 1"),
        ({"validation_fraction": 1.0}, "The share of validation is 1.0; use one between 0 and 1"),
    ],
)
def test_options_that_contradict_each_other_are_refused(choices: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        refuse_contradictions(replace(USUAL, **choices))


@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"sequences": None, "genome": FILE, "regions": FILE},
        {"tokenizer": [FILE], "model_config": FILE},
        {"preset": "custom", "model_config": FILE},
        {"preset": "custom", "continue_from": FILE},
        {"preset": "custom", "resume_from": FILE},
    ],
)
def test_options_that_agree_are_taken(choices: dict[str, Any]) -> None:
    refuse_contradictions(replace(USUAL, **choices))


def test_what_nobody_chose_is_the_presets() -> None:
    found = filled(replace(USUAL, preset="nt-v2-50m"))
    assert (found.objective, found.window, found.stride) == ("masked", 3_000, 3_000)
    assert (found.epochs, found.batch_size, found.learning_rate) == (10, 8, 1e-4)
    assert replace(
        found, objective=None, window=None, stride=None, epochs=None, batch_size=None, learning_rate=None
    ) == (replace(USUAL, preset="nt-v2-50m"))


def test_what_was_chosen_is_kept_even_if_it_is_0() -> None:
    chosen = {"objective": "masked", "window": 70, "stride": 30, "epochs": 0.5, "batch_size": 3, "learning_rate": 0.0}
    options = replace(USUAL, **chosen)  # type: ignore[arg-type]
    assert filled(options) == options


def test_windows_of_a_chosen_length_do_not_overlap() -> None:
    assert filled(replace(USUAL, window=70)).stride == 70


def test_the_script_offers_these_options_with_these_defaults() -> None:
    arguments = dnalm_pretrain.parser().parse_args(["--output", "out", "--sequences", "file"])
    assert PretrainingOptions(**vars(arguments)) == USUAL


def test_a_checkpoint_depends_on_all_options_but_these() -> None:
    # A checkpoint brings its config and tokenizer; the fingerprint of the windows covers the sequences.
    files = {"output", "sequences", "genome", "regions", "model_config", "continue_from", "tokenizer", "resume_from"}
    written = {"checkpoint", "log", "figure", "card", "name"}
    of_this_job = {"patience", "time_limit", "device", "threads", "batch_tokens"}
    assert {field.name for field in fields(PretrainingOptions)} - set(DECISIVE) == files | written | of_this_job
