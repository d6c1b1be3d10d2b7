"""Attention maps in pixels, and the texts and axes of their picture."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dnalm.report.attention_plot import MOST_PIXELS, AttentionPanel, attention_panel, draw_attention, panel_title
from PIL import Image


def panel(title: str, bases: int = 6) -> AttentionPanel:
    starts = np.arange(bases)
    return attention_panel(title, np.eye(bases, dtype=np.float32), starts, starts + 1)


def maps(figure: Any) -> list[Any]:
    """Return the frames with a map, in order; not those of the colour scales."""
    return [axes for axes in figure.axes if axes.get_title(loc="left")]


def test_a_token_has_as_many_pixels_as_bases_and_special_tokens_none() -> None:
    starts, ends = np.array([0, 0, 3, 4, 0]), np.array([0, 3, 4, 6, 0])
    given = np.arange(25, dtype=np.float32).reshape(5, 5)
    panel = attention_panel("title", given, starts, ends)
    owner = [1, 1, 1, 2, 3, 3]
    np.testing.assert_array_equal(panel.pixels, given[np.ix_(owner, owner)])
    assert (panel.bases, panel.bases_a_pixel) == (6, 1)


def test_a_pixel_of_several_tokens_has_the_largest_of_their_values() -> None:
    bases = 3 * MOST_PIXELS - 1
    starts = np.arange(bases)
    given = np.random.default_rng(0).random((bases, bases)).astype(np.float32)
    panel = attention_panel("title", given, starts, starts + 1)
    assert panel.pixels.shape == (MOST_PIXELS, MOST_PIXELS)
    assert panel.pixels[7, 11] == given[21:24, 33:36].max()
    assert panel.pixels[-1, 0] == given[-2:, :3].max()


def test_each_map_is_over_the_bases_of_its_sequence(tmp_path: Path, figures: list[Any]) -> None:
    panels = [panel("one", 6), panel("two", 9), panel("three", 4)]
    draw_attention(panels, 3, "a note", {"tool": "a test"}, tmp_path / "x.png")
    found = maps(figures[0])
    assert [axes.get_title(loc="left") for axes in found] == ["one", "two", "three"]
    assert [axes.get_xlim() for axes in found] == [(0.5, 6.5), (0.5, 9.5), (0.5, 4.5)]
    assert [axes.get_ylim() for axes in found] == [(6.5, 0.5), (9.5, 0.5), (4.5, 0.5)]  # the first base on top
    assert [axes.images[0].get_array().shape for axes in found] == [(6, 6), (9, 9), (4, 4)]
    assert (figures[0].get_suptitle(), figures[0].get_supxlabel()) == ("a note", "Attended base")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "heads", "shape"), [(1, 1, (1, 1)), (4, 2, (2, 2)), (6, 6, (1, 6)), (7, 7, (2, 4)), (5, 1, (2, 4))]
)
def test_a_sequence_has_a_row_of_its_own_up_to_six_heads(
    tmp_path: Path, figures: list[Any], count: int, heads: int, shape: tuple[int, int]
) -> None:
    draw_attention([panel(str(number)) for number in range(count)], heads, "", {}, tmp_path / "x.png")
    grid = maps(figures[0])[0].get_gridspec()
    assert grid is not None
    assert (grid.nrows, grid.ncols) == shape
    assert len(maps(figures[0])) == count


def test_the_colours_of_each_map_end_at_its_largest_value(tmp_path: Path, figures: list[Any]) -> None:
    weak, none = panel("weak"), panel("none")
    panels = [panel("strong"), AttentionPanel("weak", weak.pixels * np.float32(0.25), 1, 6)]
    panels.append(AttentionPanel("none", none.pixels * 0, 1, 6))
    draw_attention(panels, 3, "", {}, tmp_path / "x.png")
    assert [axes.images[0].norm.vmax for axes in maps(figures[0])] == [1.0, 0.25, 1.0]
    assert {axes.images[0].norm.vmin for axes in maps(figures[0])} == {0}


def test_the_file_is_a_png_that_says_what_was_run(tmp_path: Path) -> None:
    draw_attention([panel("one")], 1, "a note", {"tool": "a test"}, tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as image:
        assert image.format == "PNG"
        assert image.size == (708, 678)  # a map by itself is larger
        assert json.loads(image.info["Description"]) == {"tool": "a test"}


def test_a_title_names_sequence_layer_and_head() -> None:
    assert panel_title("chr1", "7.10") == "chr1\nlayer 7, head 10"
    name, _, head = panel_title("x" * 30 + "y" * 30, "1.2").partition("\n")
    assert name == "x" * 16 + "…" + "y" * 16
    assert head == "layer 1, head 2"
