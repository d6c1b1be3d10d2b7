"""Hostile models of every kind: each is embedded, or refused in one sentence, within bounds of time and memory."""

import os

import pytest
from robustness.hostile_models import Case, cases, failures

EVERYTHING = os.environ.get("DNALM_FUZZ") == "full"
SAMPLE = 50  # one of so many, in a run of all tests
# Those that once wrote gigabytes, never ended, or failed with a traceback.
KNOWN = (
    "tokenizer: A becomes 1,000 A, three times",
    "tokenizer: A is doubled 30 times",
    "tokenizer: a slow expression",
    "tokenizer: special tokens beyond the tokens",
    "config: no window",
    "config: no epsilon",
    "config: a pad beyond the tokens, rotary",
    "folder: a config with Infinity",
    "folder: an adapter beside a model",
    "folder: dnalm.json is a link to /dev/zero",
)


def chosen() -> list[Case]:
    made = cases()
    return made if EVERYTHING else [*made[::SAMPLE], *(case for case in made if case.name in KNOWN)]


@pytest.mark.slow
def test_a_hostile_model_is_embedded_or_refused_in_one_sentence() -> None:
    assert {case.name: outcome for case, outcome in failures(chosen())} == {}


def test_there_are_hundreds_of_them_each_with_a_name() -> None:
    names = [case.name for case in cases()]
    assert len(names) >= 300
    assert len(set(names)) == len(names)
    assert set(KNOWN) < set(names)
    assert names == [case.name for case in cases()]
    assert names != [case.name for case in cases(seed=1)]
