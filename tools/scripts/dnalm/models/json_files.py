"""Text and JSON that others wrote: read within bounds of size and depth, and with numbers that JSON has."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

LARGEST_TEXT_FILE = 100_000_000  # bytes of a config or tokenizer file
DEEPEST = 100  # what is deeper than Python's own limit can be read, but not written again
Pairs = Callable[[list[tuple[str, Any]]], dict[str, Any]]


def read_text(path: Path, most: int | None = None) -> str:
    """Return a UTF-8 text file without its byte order mark.

    Args:
        path: a regular file, or a link to one.
        most: bytes; 100 MB if not given. No more are read, whatever the file system says of its size.

    Raises:
        OSError: it is missing, may not be read, or is a folder, a pipe or a device.
        ValueError: it is larger, or not UTF-8.
    """
    most = LARGEST_TEXT_FILE if most is None else most
    if not path.is_file():
        if not path.exists():
            raise FileNotFoundError(2, "No such file or directory", str(path))
        raise OSError(22, "Not a regular file", str(path))
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it has over {most / 1e6:g} MB")
    return content.decode("utf-8-sig")


def parse_json(text: str, *, infinite: bool = False, pairs: Pairs | None = None) -> Any:
    """Return what a JSON text says.

    Args:
        text: JSON, beyond which Python's writer knows NaN, Infinity and -Infinity.
        infinite: whether these are read; without, neither they nor numbers too large for a float (1e400) are.
        pairs: makes an object of its keys and values.

    Raises:
        ValueError: it is none, is nested deeper than 100, or has a number that JSON lacks.
    """

    def refuse(number: str) -> None:
        raise ValueError(f"it has the number {number[:40]}")

    def finite(number: str) -> float:
        value = float(number)
        if math.isinf(value):
            refuse(number)
        return value

    strict: dict[str, Any] = {} if infinite else {"parse_constant": refuse, "parse_float": finite}
    try:
        value = json.loads(text, object_pairs_hook=pairs, **strict)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return value
    raise ValueError("it is nested too deep")


def is_finite(value: object) -> bool:
    """Say whether parsed JSON has no NaN and no infinity in it."""
    if isinstance(value, dict):
        return all(map(is_finite, value.values()))
    if isinstance(value, list):
        return all(map(is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)
