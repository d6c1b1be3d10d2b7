"""What became of a training, as a log, as JSON and in sentences; and which process speaks."""

import json
import math
import time
from typing import Any

import pytest
from dnalm.engine import training_run
from dnalm.engine.training_run import DIVERGED, NO_GAIN, SIGNAL, TIME_LIMIT, Run, cell, diverged, is_main, one_voice
from dnalm.errors import UserError

ROW = {"step": 8, "epoch": 0.5, "split": "validation", "loss": 1.25}


def test_a_copy_has_rows_of_its_own() -> None:
    run = Run(log=[ROW], best_loss=1.25, best_step=8)
    copied = run.copy()
    run.log.append(ROW)
    assert copied == Run(log=[ROW], best_loss=1.25, best_step=8)


def test_a_run_goes_through_json_and_is_not_stopped_then() -> None:
    run = Run([ROW, ROW | {"loss": math.nan}], best_loss=1.25, best_step=8, without_gain=2, stopped=SIGNAL, steps=9)
    facts = json.loads(json.dumps(run.facts(), allow_nan=False))
    assert facts["log"][1]["loss"] is None
    again = Run.of_facts(facts)
    assert again == Run([ROW, ROW | {"loss": None}], best_loss=1.25, best_step=8, without_gain=2, steps=9)


def test_a_run_without_a_best_loss_goes_through_json() -> None:
    facts = json.loads(json.dumps(Run().facts(), allow_nan=False))
    assert facts["best_loss"] is None
    assert Run.of_facts(facts) == Run()


@pytest.mark.parametrize("change", [{"best_loss": "low"}, {"best_loss": []}, {"another": 1}, None])
def test_facts_of_no_run_are_refused(change: dict[str, Any] | None) -> None:
    facts = {} if change is None else Run().facts() | change
    with pytest.raises(UserError, match="state of training is damaged"):
        Run.of_facts(facts)


@pytest.mark.parametrize(
    ("stopped", "reason"),
    [
        (NO_GAIN, "validation did not become better any more"),
        (SIGNAL, "the job was asked to end"),
        (DIVERGED, "its loss is no number any more"),
        (TIME_LIMIT, "time limit"),
    ],
)
def test_a_training_that_ended_early_says_so_in_log_and_words(stopped: str, reason: str) -> None:
    run = Run(log=[ROW], stopped=stopped, steps=8)
    assert run.end() == [{"step": 8, "epoch": 0.5, "split": f"stopped: {stopped}"}]
    assert Run(log=[ROW], stopped=stopped, steps=1_234).reason() == [f"Stopped after step 1,234: {reason}"]


def test_an_end_has_an_epoch_only_where_the_last_row_is_of_its_step() -> None:
    assert Run(log=[ROW], stopped=SIGNAL, steps=9).end()[0]["epoch"] == ""
    assert Run(stopped=SIGNAL, steps=9).end()[0]["epoch"] == ""


def test_a_whole_training_says_nothing_of_its_end() -> None:
    assert (Run(log=[ROW], steps=8).end(), Run(log=[ROW], steps=8).reason()) == ([], [])


def test_a_diverged_training_says_which_model_is_kept() -> None:
    kept = str(diverged(Run(best_loss=1.5, best_step=40, steps=52)))
    assert kept.startswith("The training diverged after step 52: its loss is no number any more; the best model so far")
    assert "(step 40) is kept" in kept
    assert "no model is kept" in str(diverged(Run(steps=2)))


@pytest.mark.parametrize(
    ("size", "rank", "processes", "main"),
    [(None, None, 1, True), ("1", "5", 1, True), ("3", "0", 3, True), ("3", "2", 3, False), ("3", None, 3, True)],
)
def test_processes_are_counted_as_torchrun_says(
    monkeypatch: pytest.MonkeyPatch, size: str | None, rank: str | None, processes: int, main: bool
) -> None:
    for name, value in (("WORLD_SIZE", size), ("RANK", rank)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert (training_run.processes(), is_main()) == (processes, main)


@pytest.mark.parametrize(("rank", "waited"), [("0", []), ("1", [60.0])])
def test_other_processes_let_the_main_one_speak_first(
    monkeypatch: pytest.MonkeyPatch, rank: str, waited: list[float]
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", rank)
    with pytest.raises(UserError, match="no room"), one_voice():
        raise UserError("There is no room.")
    assert slept == waited


def test_only_what_a_user_can_mend_is_kept_back(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(ValueError, match="broken"), one_voice():
        raise ValueError("broken")
    assert slept == []


def test_cells_have_six_digits_and_none_is_empty() -> None:
    values = [0.123456789, 1e-9, 12, None, "validation", math.nan]
    assert [cell(value) for value in values] == ["0.123457", "1e-09", "12", "", "validation", "nan"]
