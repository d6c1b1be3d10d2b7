"""Pictures read back: letters from the SVG, colours from the PNG."""

import itertools
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from dnalm.report.plots import (
    MOST_SHAPES,
    NOT_GIVEN,
    OTHER,
    PALETTE,
    Categories,
    MapText,
    Numbers,
    draw_map,
    named_categories,
    shortened,
)
from matplotlib.colors import to_rgb
from PIL import Image

TEXT = MapText("A title", ["a subtitle"], ("PC1", "PC2"), scaled=True)


def cloud(points: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(points, 2)).astype(np.float32)


def categories(points: int, labels: list[str], missing: int = 0) -> Categories:
    codes = np.arange(points) % len(labels)
    codes[:missing] = -1
    return Categories("a column", labels, codes)


def letters(path: Path) -> list[str]:
    """Return the texts of an SVG."""
    return [text.text or "" for text in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")]


def share(picture: Path, color: str) -> float:
    """Return the share of a PNG's pixels that have nearly a colour, as it looks on white when half transparent."""
    pixels = np.asarray(Image.open(picture).convert("RGB"), dtype=np.int64).reshape(-1, 3)
    packed, counts = np.unique(pixels @ [1 << 16, 1 << 8, 1], return_counts=True)
    colors = (packed[:, None] >> np.array([16, 8, 0]) & 255) / 255
    wanted = np.array(to_rgb(color))
    alphas = np.linspace(0.4, 1, 13)[:, None]
    tones = wanted * alphas + 1 - alphas
    near = (np.abs(colors[:, None] - tones).max(axis=2) < 0.02).any(axis=1)
    return float(counts[near].sum() / counts.sum())


@pytest.mark.slow
@pytest.mark.parametrize("figure_format", ["png", "pdf", "svg"])
@pytest.mark.parametrize("points", [30, MOST_SHAPES + 1])
def test_equal_maps_are_equal_bytes_without_date_or_program(tmp_path: Path, figure_format: str, points: int) -> None:
    drawn = cloud(points)
    colors = categories(points, ["a", "b"])
    for name in ("first", "second"):
        draw_map(tmp_path / name, drawn, colors, TEXT, figure_format, facts={"seed": 0})
    found = (tmp_path / "first").read_bytes()
    assert found == (tmp_path / "second").read_bytes()
    assert not any(word in found.lower() for word in (b"creationdate", b"dc:date", b"matplotlib v", b"matplotlib.org"))
    assert b"seed" in found


def test_settings_of_the_machine_do_not_matter(tmp_path: Path) -> None:
    points = cloud(30)
    draw_map(tmp_path / "usual", points, None, TEXT, "png")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "savefig.dpi": 20}):
        draw_map(tmp_path / "other", points, None, TEXT, "png")
    assert (tmp_path / "usual").read_bytes() == (tmp_path / "other").read_bytes()


def test_everything_said_is_in_the_picture(tmp_path: Path) -> None:
    labels = ["_human", "$\\frac{1}{2}$", "E. coli & <others>"]
    draw_map(tmp_path / "x", cloud(31), categories(31, labels, missing=1), TEXT, "svg")
    found = letters(tmp_path / "x")
    for text in ("A title", "a subtitle", "PC1", "PC2", "a column", "not given (1)"):
        assert text in found
    assert [text for text in found if text.endswith(" (10)")] == [f"{label} (10)" for label in labels]


def test_long_names_keep_both_ends(tmp_path: Path) -> None:
    labels = ["chromosome_of_a_plant_with_a_long_name_1", "chromosome_of_a_plant_with_a_long_name_2"]
    draw_map(tmp_path / "x", cloud(10), categories(10, labels), TEXT, "svg")
    assert {"chromosome_of_a_…ith_a_long_name_1 (5)"[-9:], "chromosome_of_a_…ith_a_long_name_2 (5)"[-9:]} == {
        text[-9:] for text in letters(tmp_path / "x") if "…" in text
    }


def test_a_long_title_is_broken_into_lines(tmp_path: Path) -> None:
    title = "a very long title " * 6
    draw_map(tmp_path / "x", cloud(10), None, MapText(title, [title], ("x", "y"), scaled=False), "svg")
    assert all(len(text) < 80 for text in letters(tmp_path / "x"))


@pytest.mark.slow
@pytest.mark.parametrize(("points", "named"), [(MOST_SHAPES, 16), (MOST_SHAPES + 1, 8)])
def test_the_rarest_of_many_categories_are_grey_together(tmp_path: Path, points: int, named: int) -> None:
    assert named_categories(points) == named
    labels = [f"group {number:02}" for number in range(20)]
    colors = categories(points, labels)
    draw_map(tmp_path / "x", cloud(points), colors, TEXT, "svg")
    legend = [text for text in letters(tmp_path / "x") if text.startswith("group") or "others" in text]
    assert len(legend) == named + 1
    grey = int((colors.codes >= named).sum())
    assert legend[-1] == f"{20 - named} others ({grey:,})"


@pytest.mark.slow
def test_every_category_has_its_colour(tmp_path: Path) -> None:
    labels = [f"group {number}" for number in range(9)]
    points = MOST_SHAPES + 1
    draw_map(tmp_path / "x", cloud(points), categories(points, labels, missing=500), TEXT, "png")
    for color in (*PALETTE, OTHER, NOT_GIVEN):
        assert share(tmp_path / "x", color) > 0.001


def test_colours_differ_for_every_kind_of_colour_vision() -> None:
    """Machado, Oliveira and Fernandes (2009), full protanopia and deuteranopia, on linear light."""
    normal = np.eye(3)
    protanopia = [0.152286, 1.052583, -0.204868, 0.114503, 0.786281, 0.099216, -0.003882, -0.048116, 1.051998]
    deuteranopia = [0.367322, 0.860646, -0.227968, 0.280085, 0.672501, 0.047413, -0.011820, 0.042940, 0.968881]
    for vision in (normal, protanopia, deuteranopia):
        matrix = np.reshape(vision, (3, 3))
        seen = [np.clip(matrix @ np.array(to_rgb(color)) ** 2.2, 0, 1) ** (1 / 2.2) for color in PALETTE]
        assert min(np.linalg.norm(one - other) for one, other in itertools.combinations(seen, 2)) > 0.15


@pytest.mark.slow
def test_no_category_hides_another(tmp_path: Path) -> None:
    """Two groups on the same place: whichever comes later in the file, the picture has the same colour on the whole."""
    points = cloud(20_000)
    means = []
    for order in ([0, 1], [1, 0]):
        colors = Categories("a column", ["a", "b"], np.repeat(order, 10_000))
        draw_map(tmp_path / "x", points, colors, TEXT, "png", point_size=6)
        means.append(np.asarray(Image.open(tmp_path / "x").convert("RGB"), dtype=float).mean(axis=(0, 1)))
    np.testing.assert_allclose(means[0], means[1], atol=1)


def test_numbers_have_a_scale_and_missing_ones_are_counted(tmp_path: Path) -> None:
    values = np.linspace(0.25, 0.75, 50)
    values[:5] = np.nan
    draw_map(tmp_path / "x", cloud(50), Numbers("GC content", values), TEXT, "svg")
    found = letters(tmp_path / "x")
    assert {"GC content", "not given (5)", "0.50"} <= {text.strip() for text in found}


@pytest.mark.slow
def test_a_hundred_thousand_points_make_a_small_file_in_every_format(tmp_path: Path) -> None:
    points = cloud(100_000)
    for figure_format in ("png", "pdf", "svg"):
        draw_map(tmp_path / figure_format, points, None, TEXT, figure_format)
        assert (tmp_path / figure_format).stat().st_size < 3_000_000
    assert 0.1 < share(tmp_path / "png", PALETTE[0]) < 0.9


def test_points_have_the_size_asked_for(tmp_path: Path) -> None:
    points = cloud(20)
    for size in (2, 10):
        draw_map(tmp_path / str(size), points, None, TEXT, "png", point_size=size)
    assert share(tmp_path / "10", PALETTE[0]) > 8 * share(tmp_path / "2", PALETTE[0])


def test_a_unit_is_as_long_on_both_axes_of_a_map_without_scale(tmp_path: Path) -> None:
    """A square of points stays a square, though the map is wider than high."""
    square = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], dtype=np.float32)
    draw_map(tmp_path / "x", square, None, MapText("", [], ("x", "y"), scaled=False), "png", point_size=4)
    pixels = np.asarray(Image.open(tmp_path / "x").convert("RGB"), dtype=float) / 255
    rows, columns = np.nonzero(np.abs(pixels - np.array(to_rgb(PALETTE[0]))).max(axis=2) < 0.12)
    assert np.ptp(rows) == pytest.approx(np.ptp(columns), abs=3)


def test_a_label_has_no_letter_that_a_font_cannot_draw() -> None:
    assert shortened(b"gen\xe9".decode("utf-8", "surrogateescape")) == r"gen\udce9"
    assert shortened("a\nb\x1b[31m") == r"a\nb\x1b[31m"
    assert shortened("x" * 20 + "y" * 20, 9) == "xxxx…yyyy"
