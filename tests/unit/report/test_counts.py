"""Counts of records over all buffers of a job."""

from typing import Any

import pytest
from dnalm.report import counts
from dnalm.report.counts import RecordCounts


def columns(**changes: Any) -> dict[str, Any]:
    """Two usual sequences of 4 and 6 bases."""
    usual: dict[str, Any] = {
        "id": ["a", "b"],
        "status": ["ok", "ok"],
        "length": [4, 6],
        "n_windows": [1, 1],
        "truncated": [0, 0],
        "lower_case": [0, 0],
        "ambiguous": [0, 0],
        "uracil": [0, 0],
    }
    return usual | changes


def test_buffers_are_added_up() -> None:
    found = RecordCounts()
    found.add(columns(n_windows=[3, 1], lower_case=[2, 1], uracil=[0, 5], status=["ok", "all_n"]))
    found.add(columns(id=["c", "d"], truncated=[0, 30], status=["no_kmer", "truncated"], ambiguous=[1, 0]))
    assert +found == {
        "sequences": 4,
        "bases": 20,
        "windowed_sequences": 1,
        "truncated_sequences": 1,
        "truncated_bases": 30,
        "all_n_sequences": 1,
        "no_kmer_sequences": 1,
        "lower_case": 3,
        "ambiguous": 1,
        "uracil": 5,
    }


def test_ids_seen_before_are_counted_over_buffers() -> None:
    found = RecordCounts()
    found.add(columns(id=["a", "a"]))
    found.add(columns(id=["b", "a"]))
    assert found["duplicate_ids"] == 2


def test_ids_beyond_those_remembered_are_not_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "MOST_REMEMBERED", 1)
    found = RecordCounts()
    found.add(columns(id=["a", "b"]))
    found.add(columns(id=["b", "a"]))
    assert found["duplicate_ids"] == 1


def test_what_was_changed_is_told_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    found = RecordCounts()
    found.add(columns(id=["a", "a"], length=[1_000, 234], truncated=[0, 1_500], status=["ok", "truncated"]))
    found.tell("Embedded")
    assert capsys.readouterr().out.splitlines() == [
        "Embedded 2 sequences of 1,234 bases in all",
        "sequences with an id seen before, kept: 1",
        "sequences longer than the model's context, cut: 1",
        "bases left out by the cut: 1,500",
    ]
