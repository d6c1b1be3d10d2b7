"""How segments are called, feature by feature: a table whose columns are the options' names."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from dnalm.errors import UserError
from dnalm.formats.tables import MISSING, Table
from dnalm.methods.segments import Calling

FEATURE = "feature"
KINDS = {field.name: float if "threshold" in field.name else int for field in fields(Calling)}


def read_call_settings(path: Path, usual: Mapping[str, Calling], known: Sequence[str]) -> dict[str, Calling]:
    """Return how each feature is called: as usual, but for what the table says; an empty cell says nothing.

    Args:
        path: tab-separated, with the column `feature` and any of `threshold`, `low_threshold`, `min_length`, `merge_gap`.
        usual: feature → how it is called where the table says nothing.
        known: features of the model, of which not all may be wanted.

    Raises:
        UserError: a column, a feature or a number cannot be.
    """
    table = Table(path)
    names = table.columns
    if FEATURE not in names or (strange := [name for name in names if name not in (FEATURE, *KINDS)]):
        which = f"has the column '{strange[0]}'" if FEATURE in names else f"lacks the column '{FEATURE}'"
        raise UserError(f"The table '{path.name}' {which}; its columns are {FEATURE} and any of {', '.join(KINDS)}.")
    settings, told = dict(usual), set()
    for line, cells in table:
        row = dict(zip(names, cells, strict=True))
        where = f"Line {line} of '{path.name}'"
        feature = row.pop(FEATURE)
        if feature not in known:
            raise UserError(f"{where} names the feature '{feature}', which the model lacks; it has {', '.join(known)}.")
        if feature in told:
            raise UserError(f"{where} names the feature '{feature}' again; keep one line of it.")
        told.add(feature)
        said = {name: _number(text, name, where) for name, text in row.items() if text not in MISSING}
        if feature in settings:
            # Who sets one threshold alone does not mean the other's usual value to be above it.
            if "threshold" in said and "low_threshold" not in said:
                said["low_threshold"] = min(said["threshold"], settings[feature].low_threshold)
            settings[feature] = checked(replace(settings[feature], **said), where)
    return settings


def checked(calling: Calling, where: str) -> Calling:
    """Return it, or raise UserError, its sentence beginning with `where`, if it makes no sense."""
    if not 0 < calling.low_threshold <= calling.threshold <= 1:
        raise UserError(
            f"{where}: the low threshold is {calling.low_threshold:g}, the threshold {calling.threshold:g}; use two "
            "probabilities above 0, the low one no higher than the other."
        )
    if calling.min_length < 1 or calling.merge_gap < 0:
        raise UserError(
            f"{where}: the shortest length is {calling.min_length}, the gap {calling.merge_gap}; use a length of at least 1 "
            "and a gap of at least 0 bases."
        )
    return calling


def _number(text: str, name: str, where: str) -> Any:
    try:
        return KINDS[name](text)
    except ValueError:
        kind = "number" if KINDS[name] is float else "whole number"
        raise UserError(f"{where} has '{text}' as {name}, which is no {kind}; correct it.") from None
