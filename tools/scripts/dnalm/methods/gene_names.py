"""Which genes of a file a model knows, and why it may know few."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

ENSEMBL = re.compile(r"ENS[A-Z]{0,6}[GTP]\d{6,}(\.\d+)?")


def matched(names: Sequence[str], vocabulary: Mapping[str, int]) -> NDArray[np.int64]:
    """Return the vocabulary id of each name, -1 for a name that is not in it to the letter; shape (genes,)."""
    return np.array([vocabulary.get(name, -1) for name in names], dtype=np.int64)


def why_few_match(names: Sequence[str], vocabulary: Mapping[str, int]) -> str:
    """Return what the names look like, in words that tell what to do, from names of which few match."""
    ensembl = sum(bool(ENSEMBL.fullmatch(name)) for name in names)
    if 2 * ensembl > len(names):
        return "they are Ensembl ids, and the model knows gene symbols: choose a column with symbols"
    capitals = {name.upper() for name in vocabulary}
    if 2 * sum(name.upper() in capitals for name in names) > len(names):
        return (
            "most would match in capitals: they look like symbols of another species, such as mouse, and the model is of "
            "human genes"
        )
    return "choose a column with symbols of human genes"
