"""Facts about one thing, one a line: on stdout and as a narrow table."""

from collections.abc import Mapping
from pathlib import Path

from dnalm.formats.tables import TableWriter


def tell(facts: Mapping[str, str], table: Path | None) -> None:
    """Print facts and write them as a table of properties and values if asked for."""
    for fact, value in facts.items():
        print(f"{fact.replace('_', ' ')}: {value}")
    if table:
        with TableWriter(table) as writer:
            writer.append({"property": list(facts), "value": [" ".join(value.split()) for value in facts.values()]})
