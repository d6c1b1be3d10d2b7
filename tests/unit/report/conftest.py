"""Fixtures for the tests of reports."""

from typing import Any

import pytest
from matplotlib.figure import Figure


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Gather the figures that are saved, instead of the time that writing them takes."""
    gathered: list[Figure] = []

    def gather(figure: Figure, *arguments: Any, **options: Any) -> None:
        gathered.append(figure)

    monkeypatch.setattr(Figure, "savefig", gather)
    return gathered
