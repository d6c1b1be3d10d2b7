"""Facts about one thing, one a line: on stdout and as a narrow table."""

from collections.abc import Mapping
from pathlib import Path

from dnalm.errors import printable
from dnalm.formats.tables import TableWriter


def tell(facts: Mapping[str, str], table: Path | None) -> None:
    """Print facts and write them as a table of properties and values if asked for."""
    values = [one_line(value) for value in facts.values()]
    for fact, value in zip(facts, values, strict=True):
        print(f"{fact.replace('_', ' ')}: {value}")
    if table:
        with TableWriter(table) as writer:
            writer.append({"property": list(facts), "value": values})


def one_line(value: str) -> str:
    """Return a fact on one line: blanks for tabs and line ends, other control characters escaped."""
    return printable(" ".join(value.split()))
