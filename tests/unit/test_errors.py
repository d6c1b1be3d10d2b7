"""What an error says of a file's content: one printable line, not long."""

import pytest
from dnalm.errors import printable, shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("chr1 of the génome", "chr1 of the génome"),
        ("a\tb\r\n", r"a\tb\r\n"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("right\u202eleft", r"right\u202eleft"),  # would turn the rest of the sentence round
        ("\u2028", r"\u2028"),
        ("\udce9", r"\udce9"),  # a byte that is no UTF-8
        ("", ""),
    ],
)
def test_a_text_is_one_printable_line(text: str, expected: str) -> None:
    assert printable(text) == expected


@pytest.mark.parametrize(
    ("value", "most", "expected"),
    [
        ("x" * 80, 80, "x" * 80),
        ("x" * 81, 80, "x" * 80 + "…"),
        ("\n" * 5, 3, r"\n\n\n…"),  # letters of the text count, not those that stand for them
        (None, 80, "None"),
        (1.5, 2, "1.…"),
    ],
)
def test_a_long_text_is_cut(value: object, most: int, expected: str) -> None:
    assert shown(value, most) == expected


def test_a_text_is_cut_at_80_letters_unless_told_otherwise() -> None:
    assert shown("x" * 1_000) == "x" * 80 + "…"
