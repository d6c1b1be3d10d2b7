"""Pictures of variant scores: rows, a histogram, or a heat map."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dnalm.report.variant_plots import EvenSample, Point, VariantFigure
from matplotlib.axes import Axes
from PIL import Image


def point(position: int, value: float, name: str = ".", alternative: str = "C", reference: str = "A") -> Point:
    return Point("chr1", position, name, reference, alternative, {"llr_masked": value}, {})


def picture(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"), dtype=float)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Gather the tick labels that are drawn."""
    found: list[str] = []
    usual = Axes.set_yticks

    def gathering(axes: Axes, ticks: Any, labels: list[str] | None = None, **others: Any) -> Any:
        found.extend(labels or [])
        return usual(axes, ticks, labels, **others)

    monkeypatch.setattr(Axes, "set_yticks", gathering)
    return found


@pytest.mark.parametrize("count", [5, 100, 1_000])
def test_an_even_sample_holds_no_more_than_it_may(count: int) -> None:
    sample = EvenSample(64)
    for number in range(count):
        sample.add((float(number),))
    kept = [row[0] for row in sample.rows]
    steps = set(np.diff(kept))
    assert kept[0] == 0
    assert len(steps) == 1
    assert min(count, 32) <= len(kept) <= 64
    assert sample.thinned == (count > 64)


def test_few_variants_are_named(tmp_path: Path, written: list[str]) -> None:
    figure = VariantFigure(["llr_masked"], saturation=False)
    figure.add(point(5, -1.0, "rs1"))
    figure.add(point(6, math.nan, "rs2"))
    figure.add(point(7, 0.5))
    figure.add(point(8, 0.5, "rs3;rs4"))
    figure.add(point(8, 0.7, "rs3;rs4", "T"))
    figure.draw(tmp_path / "x.png", "a model", {})
    assert written == ["rs1", "chr1:7 A>C", "rs3;rs4 A>C", "rs3;rs4 A>T"]


@pytest.mark.slow
@pytest.mark.parametrize("count", [41, 5_000])
def test_many_variants_are_a_histogram(tmp_path: Path, written: list[str], count: int) -> None:
    figure = VariantFigure(["llr_masked"], saturation=False)
    for number in range(count):
        figure.add(point(number, math.sin(number)))
    figure.draw(tmp_path / "x.png", "a model", {})
    assert written == []
    assert picture(tmp_path / "x.png").shape[1] > 600


def test_a_heat_map_shows_losses_red_gains_blue_and_a_dot_at_the_reference(tmp_path: Path, written: list[str]) -> None:
    figure = VariantFigure(["llr_masked"], saturation=True)
    for position in range(1, 101):
        for letter in "CGT":
            figure.add(point(position, -2.0 if position <= 50 else 2.0, "region", letter))
    figure.draw(tmp_path / "x.png", "a model", {})
    assert written == list("ACGT")
    pixels = picture(tmp_path / "x.png")
    red, blue = (pixels[..., one] - pixels[..., other] > 60 for one, other in ((0, 2), (2, 0)))
    columns = [np.flatnonzero(found.any(axis=0)) for found in (red[:, :-200], blue[:, :-200])]
    assert abs(np.median(columns[0]) + np.median(columns[1])) / 2 > np.median(columns[0])
    assert red.sum() > 10_000
    assert blue.sum() > 10_000
    assert columns[0].max() - 2 <= columns[1].min()


@pytest.mark.slow
def test_a_heat_map_of_many_bases_shows_the_first(tmp_path: Path, written: list[str]) -> None:
    figure = VariantFigure(["llr_masked"], saturation=True)
    for position in range(1, 4_001):
        figure.add(point(position, float(position % 7), "region", "G"))
    figure.draw(tmp_path / "x.png", "a model", {})
    assert len(written) == 4 * 24


def test_regions_and_bases_without_a_score_have_their_place(tmp_path: Path, written: list[str]) -> None:
    figure = VariantFigure(["llr_masked"], saturation=True)
    figure.add(point(5, 1.0, "one"))
    figure.add(Point("chr1", 6, "one", "N", ".", {"llr_masked": math.nan}, {}))
    figure.add(point(5, 1.0, "two"))
    figure.draw(tmp_path / "x.png", "a model", {})
    assert len(written) == 2 * 4
