"""What scGPT reads of a cell: its expressed genes, and for each the bin of its value among the cell's own.

Cui et al. 2024, doi:10.1038/s41592-024-02201-0, "Value binning". Only ranks within a cell count, so that raw counts and
their normalised logarithms have the same bins. Where several edges of bins coincide, as small counts make them do, a
value is put into one of those bins at random; each cell draws from a generator of its own. The quantiles are NumPy's, as
in the reference: where one falls on a value, rounding may move that value by a bin.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 51  # of the published models: 50 for values, the first for what is not expressed
Genes = NDArray[np.int64]
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CellTokens:
    """A cell as the model reads it.

    Attributes:
        genes: vocabulary ids, the special token of the cell first; shape (tokens,).
        values: the bin of each, and in front what stands for no value; shape (tokens,).
        expressed: how many of the cell's expressed genes are in the vocabulary; more than are read if some were left out.
    """

    genes: Genes
    values: NDArray[np.float32]
    expressed: int

    def __len__(self) -> int:
        return len(self.genes)


def cell_generator(seed: int, name: str) -> np.random.Generator:
    """Return the random numbers of one cell: they depend on the seed and the cell's name, and on nothing else."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), key=seed.to_bytes(8, "little"), digest_size=16)
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest.digest(), "little")))


def bin_values(values: Values, uniform: Values | float) -> NDArray[np.float32]:
    """Return the bin of each expressed value of a cell, 1 to 50.

    The edges are the 50 quantiles 0, 1/49 … 1 of the values. A value between two edges, or on one that no other equals,
    has the bin of the edges not above it, whatever `uniform` is; one on coinciding edges has any of theirs.

    Args:
        values: all above zero, at least one; shape (genes,).
        uniform: numbers from 0 to below 1 that decide, one a gene or one for all.
    """
    edges = np.quantile(values, np.linspace(0, 1, BINS - 1))
    below, not_above = np.searchsorted(edges, values, side="left"), np.searchsorted(edges, values, side="right")
    return np.ceil(uniform * (below - not_above) + not_above).astype(np.float32)


def cell_tokens(
    genes: Genes,
    values: Values,
    *,
    cls_id: int,
    no_value: float,
    most_tokens: int,
    random: np.random.Generator,
    middle: bool = False,
) -> CellTokens:
    """Return what the model reads of a cell; with more genes than it takes, a random choice of them.

    Args:
        genes: vocabulary ids of the cell's expressed genes, in the order of the file; shape (genes,).
        values: their values, all above zero; shape (genes,).
        cls_id: id of the token whose output is the cell's embedding.
        no_value: the value beside it.
        most_tokens: how many the model takes, that one included.
        random: the cell's own generator.
        middle: whether a value on coinciding edges has the middle one of their bins instead of a random one.
    """
    binned = np.empty(0, dtype=np.float32)
    if len(genes):
        binned = bin_values(values, 0.5 if middle else random.random(len(values)))
    expressed = len(genes)
    if expressed > most_tokens - 1:
        # Drawn after the bins, which therefore do not depend on how many are read.
        kept = np.sort(random.choice(expressed, most_tokens - 1, replace=False, shuffle=False))
        genes, binned = genes[kept], binned[kept]
    front: NDArray[Any] = np.array([no_value], dtype=np.float32)
    return CellTokens(np.concatenate([[cls_id], genes]), np.concatenate([front, binned]), expressed)
