"""Times of a served and of a local model: the table, and how alike their vectors are said to be."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from dnalm.engine.devices import prepare_machine
from dnalm.engine.representations import ModelChoices, ModelRepresentation
from dnalm.models.registry import load_language_model
from dnalm.models.sources import open_model
from dnalm.tasks.remote_times import LocalModel, compare_times

NONE = LocalModel(None, "cpu", 1, None)


def counted(answered: int, requests: int, seconds: float) -> Any:
    """Return what is read of an asker when it has asked."""
    return SimpleNamespace(answered=answered, requests=requests, seconds=seconds)


def rows(table: Path) -> list[list[str]]:
    return [line.split("\t") for line in table.read_text().splitlines()]


def test_a_served_model_alone_has_one_line(tmp_path: Path) -> None:
    compare_times(tmp_path / "times", counted(8, 3, 0.5), "mean", NONE, {})
    assert rows(tmp_path / "times") == [
        ["where", "sequences", "requests", "seconds", "seconds_per_sequence"],
        ["remote", "8", "3", "0.500", "0.062500"],
    ]


def test_without_an_answer_there_is_no_time_per_sequence(tmp_path: Path) -> None:
    compare_times(tmp_path / "times", counted(0, 2, 1.25), "mean", NONE, {})
    assert rows(tmp_path / "times")[1] == ["remote", "0", "2", "1.250", ""]


@pytest.mark.parametrize(("factor", "cosine"), [(1, "1.000000"), (3, "1.000000"), (-1, "-1.000000"), (0, "0.000000")])
def test_the_lowest_cosine_with_the_local_model_is_told(
    random_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], factor: float, cosine: str
) -> None:
    sequences = ["ACGTTGCAAGGC", "GGGCCCATATTA"]
    machine = prepare_machine("cpu", 1, None)
    model = ModelRepresentation(load_language_model(open_model(random_model)), ModelChoices(pooling="mean"), machine)
    first, second = (found.vectors for found in model.embed(["a", "b"], sequences))
    sample = {sequences[0]: np.float32(factor) * first, sequences[1]: second}
    local = LocalModel(random_model, "cpu", 1, None)
    compare_times(tmp_path / "times", counted(2, 1, 0.5), "mean", local, sample)
    said = capsys.readouterr().out
    assert f"Cosine of remote and local vectors: at least {cosine} on 2 sequences\n" in said
    assert "Local model: dnalm-random, esm, " in said
    (_, remote, here) = rows(tmp_path / "times")
    assert remote == ["remote", "2", "1", "0.500", "0.250000"]
    assert here[:3] == ["local", "2", "0"]
    assert float(here[4]) == pytest.approx(float(here[3]) / 2, abs=5e-4)


def test_another_number_of_dimensions_is_another_model(
    random_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sample = {"ACGTTGCAAGGC": np.ones(5, dtype=np.float32)}
    compare_times(tmp_path / "times", counted(1, 1, 0.5), "mean", LocalModel(random_model, "cpu", 1, None), sample)
    said = capsys.readouterr().out
    assert "The local model has 64 dimensions, the served one 5: they are not the same\n" in said
    assert "Cosine" not in said
