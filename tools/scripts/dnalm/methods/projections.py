"""From many dimensions to two: principal components, UMAP, t-SNE; and how well groups stand apart.

All of it runs in one thread: sums of floating-point numbers depend on the number of threads, and UMAP and t-SNE make a
different map of the smallest difference.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dnalm.methods.threads import one_thread

Vectors = NDArray[np.float32]

# What exact principal components cost: the cube of the dimensions, or the square of the records times the dimensions.
MOST_DIMENSIONS, MOST_RECORDS = 6_000, 3_000
SILHOUETTE_RECORDS = 10_000  # its cost is their square
SILHOUETTE_MEGABYTES = 128  # of distances at once
# As umap-learn has them: rounds of moving every record, fewer where there are many; width of the start.
UMAP_EPOCHS, UMAP_EPOCHS_OF_MANY, UMAP_MANY_RECORDS = 500, 200, 10_000
UMAP_WIDTH = 10
# Differences this small, relative to the values, are below what an embedding promises.
NOISE = 1e-5


def as_they_are(vectors: Vectors) -> Vectors:
    """Return the vectors unchanged."""
    return vectors


def unit_length(vectors: Vectors) -> Vectors:
    """Divide each vector by its length, so that only its direction counts; a zero vector stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    lengths[lengths == 0] = 1
    return vectors / lengths


def unit_variance(vectors: Vectors) -> Vectors:
    """Divide each dimension by its standard deviation; a constant dimension stays."""
    deviations = vectors.std(axis=0, dtype=np.float64).astype(np.float32)
    deviations[~varying(vectors) | (deviations == 0)] = 1
    return vectors / deviations


def varying(vectors: Vectors) -> NDArray[np.bool_]:
    """Return for each dimension whether its values differ by more than rounding."""
    lowest, highest = vectors.min(axis=0), vectors.max(axis=0)
    return highest - lowest > NOISE * np.maximum(np.abs(lowest), np.abs(highest))


@dataclass(frozen=True)
class Components:
    """Principal components: `scores`, shape (records, components), and the share of all variance of each."""

    scores: Vectors
    explained: NDArray[np.float64]


def principal_components(vectors: Vectors, number: int, seed: int) -> Components:
    """Return the scores on the first principal components, at most min(records - 1, dimensions) of them.

    Dimensions are centred, not scaled. The components are exact up to a size where that would take minutes; beyond it
    they come from a randomized singular value decomposition (Halko, Martinsson and Tropp 2011, SIAM Review 53).
    """
    from sklearn.decomposition import PCA

    records, dimensions = vectors.shape
    # Centred beforehand: where a mean is far from zero, squares in float32 would lose the variance beside it.
    centred = vectors - vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    solver = "randomized"
    if dimensions <= min(records, MOST_DIMENSIONS):
        solver = "covariance_eigh"
    elif records <= MOST_RECORDS:
        solver, centred = "full", centred.astype(np.float64)
    # Scaled, so that no square is too large or too small.
    scale = np.abs(centred).max()
    centred /= scale
    with one_thread():
        components = PCA(min(number, records - 1, dimensions), svd_solver=solver, random_state=seed)
        scores = components.fit_transform(centred)
    return Components((scores * scale).astype(np.float32), components.explained_variance_ratio_.astype(np.float64))


@dataclass(frozen=True)
class Settings:
    """What UMAP and t-SNE leave open: neighbors and min_dist are UMAP's, perplexity is t-SNE's."""

    seed: int
    neighbors: int
    min_dist: float
    perplexity: float


def first_two(scores: Vectors, settings: Settings) -> Vectors:
    """Return the first two principal components themselves."""
    return scores[:, :2]


def umap(scores: Vectors, settings: Settings) -> Vectors:
    """Return a UMAP (McInnes, Healy and Melville 2018), started from the first two principal components.

    Such a start keeps the large distances about right (Kobak and Linderman 2021, Nature Biotechnology 39). Neighbours are
    exact (Euclidean). The layout is igraph's: umap-learn compiles its own for 15 s in every job, and its maps keep no more
    neighbours (`tests/benchmarks/projection.py`).

    Args:
        scores: shape (records, components); at least 3 records.
        settings: `neighbors` counts the record itself.
    """
    import igraph
    from sklearn.neighbors import NearestNeighbors

    records, others = len(scores), settings.neighbors - 1
    with one_thread():
        search = NearestNeighbors(n_neighbors=others, algorithm="brute").fit(scores)
        distances, neighbors = search.kneighbors()  # of each record, without itself
    edges = np.column_stack([np.repeat(np.arange(records), others), neighbors.ravel()])
    graph = igraph.Graph(n=records, edges=edges, directed=True)
    igraph.set_random_number_generator(random.Random(settings.seed))  # noqa: S311 (no secret is made of it)
    try:
        layout = graph.layout_umap(
            dist=distances.ravel().tolist(),
            seed=_umap_start(scores, settings.seed).tolist(),
            min_dist=settings.min_dist,
            epochs=UMAP_EPOCHS if records <= UMAP_MANY_RECORDS else UMAP_EPOCHS_OF_MANY,
        )
    finally:
        igraph.set_random_number_generator(random)  # the module, as igraph has it at first
    return np.array(layout.coords, dtype=np.float32)


def _umap_start(scores: Vectors, seed: int) -> NDArray[np.float64]:
    """Return the first two components, scaled to the usual width; equal records are moved apart a little."""
    generator = np.random.default_rng(seed)
    start = scores[:, :2].astype(np.float64)
    width = np.ptp(start, axis=0)
    if not width.all():  # a component without any spread cannot be scaled
        return generator.uniform(0, UMAP_WIDTH, start.shape)
    start = UMAP_WIDTH * (start - start.min(axis=0)) / width
    return start + generator.normal(scale=1e-4, size=start.shape)


def tsne(scores: Vectors, settings: Settings) -> Vectors:
    """Return a t-SNE (van der Maaten and Hinton 2008, JMLR 9; Barnes-Hut), started from the first two components."""
    from sklearn.manifold import TSNE

    start = scores[:, :2] / scores[:, 0].std() * 1e-4
    reducer = TSNE(perplexity=settings.perplexity, init=start, random_state=settings.seed, n_jobs=1)
    with one_thread():
        return reducer.fit_transform(scores)


def fitting_neighbors(neighbors: int, records: int) -> int:
    """Return UMAP's number of neighbours, itself included, that the records have."""
    return min(neighbors, records - 1) if records > 3 else 2


def fitting_perplexity(perplexity: float, records: int) -> float:
    """Return a perplexity of which the records have three times as many neighbours, as t-SNE looks for."""
    return min(perplexity, max(1.0, round((records - 1) / 3, 2)))


def silhouette(points: Vectors, groups: NDArray[np.int64], seed: int) -> tuple[float | None, int]:
    """Return the mean silhouette coefficient (Rousseeuw 1987) and the number of records it is the mean of.

    Args:
        points: shape (records, dimensions); distances are Euclidean.
        groups: one number a record.
        seed: chooses 10,000 records where there are more.

    It is None where there are fewer than two groups, or no two records in one.
    """
    from sklearn import config_context
    from sklearn.metrics import silhouette_score

    if len(groups) > SILHOUETTE_RECORDS:
        rows = np.sort(np.random.default_rng(seed).choice(len(groups), SILHOUETTE_RECORDS, replace=False))
        points, groups = points[rows], groups[rows]
    if not 1 < len(np.unique(groups)) < len(groups):
        return None, len(groups)
    with one_thread(), config_context(working_memory=SILHOUETTE_MEGABYTES):
        return float(silhouette_score(points, groups)), len(groups)


SCALINGS: dict[str, Callable[[Vectors], Vectors]] = {
    "none": as_they_are,
    "unit-length": unit_length,
    "unit-variance": unit_variance,
}
PROJECTIONS: dict[str, Callable[[Vectors, Settings], Vectors]] = {"pca": first_two, "umap": umap, "tsne": tsne}
