"""Shards of one result: how sentences name them, what merging them says, and one provenance from theirs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dnalm.errors import UserError, shown

# What a shard's machine may have of its own, and what is noted then: texts, each once.
MAY_DIFFER = ("device", "versions")
LOWEST = "lowest_cosine_with_float32"  # of a model of lower precision, measured on each shard's first sequences
MOST_REMEMBERED = 1_000_000  # ids, as where embeddings are made


@dataclass(frozen=True)
class Merged:
    """What was merged: records of each shard, what they are called, and sentences about what differs."""

    records: list[int]
    unit: str
    notes: list[str] = field(default_factory=list)


def named(number: int, path: Path) -> str:
    """Return how a sentence names a shard, counted from 1; it begins with a capital."""
    return f"Shard {number} ('{path.name}')"


class RepeatedIds:
    """Count records whose id was seen before, over all shards as over a file that was never split."""

    def __init__(self) -> None:
        self.count = 0
        self._seen: set[int] = set()

    def add(self, ids: Sequence[str]) -> None:
        """Count the next records."""
        for name in ids:
            self.count += hash(name) in self._seen
            if len(self._seen) < MOST_REMEMBERED:
                self._seen.add(hash(name))


def joined_provenance(parts: Sequence[Mapping[str, Any]], names: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Return what was run to make a result of these parts, its counts added, and sentences about what differs.

    Args:
        parts: as `dnalm.report.provenance` makes them.
        names: what they are called in a sentence.

    Raises:
        UserError: parts come from different tools, options or models.
    """
    first = parts[0]
    for number, part in enumerate(parts, start=1):
        if difference := _difference(_decisive(first), _decisive(part)):
            name, one, other = difference
            raise UserError(
                f"{names[number - 1]} was made with {name} {shown(other)}, {names[0]} with {shown(one)}; merge shards of "
                "one run."
            )
    joined, notes = dict(first), []
    for name in MAY_DIFFER:
        if name in first:
            joined[name] = _all_of([part.get(name) for part in parts])
            if joined[name] != first[name]:
                notes.append(f"Shards differ in {name}: {shown(joined[name], 500)}")
    counts: Counter[str] = Counter()
    for part in parts:
        counts.update(part.get("counts", {}))
    if "counts" in first:
        joined["counts"] = dict(counts)
    lowest = [part["model"][LOWEST] for part in parts if LOWEST in (part.get("model") or {})]
    if lowest:
        joined["model"] = {**first["model"], LOWEST: min(lowest)}
    return joined, notes


def _decisive(part: Mapping[str, Any]) -> dict[str, Any]:
    decisive = {name: value for name, value in part.items() if name not in (*MAY_DIFFER, "counts")}
    if isinstance(decisive.get("model"), dict):
        decisive["model"] = {name: value for name, value in decisive["model"].items() if name != LOWEST}
    return decisive


def _difference(one: Any, other: Any, name: str = "") -> tuple[str, Any, Any] | None:
    """Return the name of the first value that differs, and both values."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in [*one, *(key for key in other if key not in one)]:
            if found := _difference(one.get(key), other.get(key), f"{name} {key}".strip()):
                return found
        return None
    return None if one == other else (name or "provenance", one, other)


def _all_of(values: Sequence[Any]) -> Any:
    """Return texts joined, each once and in their order; of mappings each of their texts."""
    if isinstance(values[0], dict):
        names = dict.fromkeys(name for value in values for name in (value or {}))
        return {name: _all_of([(value or {}).get(name, "") for value in values]) for name in names}
    return ", ".join(sorted({part for value in values for part in str(value or "none").split(", ")}))
