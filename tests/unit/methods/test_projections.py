"""Every method against its definition, computed plainly."""

import random
from collections.abc import Callable

import numpy as np
import pytest
from dnalm.methods import projections
from dnalm.methods.projections import (
    SCALINGS,
    Settings,
    fitting_neighbors,
    fitting_perplexity,
    principal_components,
    silhouette,
    tsne,
    umap,
    varying,
)
from sklearn.datasets import make_swiss_roll
from sklearn.manifold import trustworthiness

Method = Callable[[np.ndarray, Settings], np.ndarray]

GROUPS = np.repeat([0, 1, 2], 20)
SETTINGS = Settings(seed=0, neighbors=10, min_dist=0.1, perplexity=10)


@pytest.fixture
def vectors() -> np.ndarray:
    """Three groups of 20 vectors that lie apart."""
    generator = np.random.default_rng(0)
    centers = generator.normal(size=(3, 12)) * 8
    return (centers[GROUPS] + generator.normal(size=(60, 12))).astype(np.float32)


def plain_components(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores and shares of the variance from a singular value decomposition in double precision."""
    centred = vectors.astype(np.float64) - vectors.astype(np.float64).mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    return left * values, values**2 / (values**2).sum()


@pytest.mark.parametrize(("records", "dimensions"), [(60, 12), (12, 60), (700, 40), (3, 2)])
@pytest.mark.parametrize("offset", [0, 1_000])
def test_principal_components_are_those_of_the_definition(records: int, dimensions: int, offset: float) -> None:
    spread = np.exp(-np.arange(dimensions) / 4)
    vectors = (np.random.default_rng(1).normal(size=(records, dimensions)) * spread + offset).astype(np.float32)
    found = principal_components(vectors, 5, seed=0)
    scores, explained = plain_components(vectors)
    number = min(5, records - 1, dimensions)
    assert found.scores.shape == (records, number)
    signs = np.sign((found.scores * scores[:, :number]).sum(axis=0))
    np.testing.assert_allclose(found.scores * signs, scores[:, :number], rtol=0, atol=1e-5 * np.abs(scores).max())
    np.testing.assert_allclose(found.explained, explained[:number], rtol=0, atol=1e-5)


def test_components_of_very_many_records_and_dimensions_are_near(
    vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = principal_components(vectors, 2, seed=0)
    monkeypatch.setattr(projections, "MOST_DIMENSIONS", 5)
    monkeypatch.setattr(projections, "MOST_RECORDS", 5)
    near = principal_components(vectors, 2, seed=0)
    np.testing.assert_allclose(np.abs(near.scores), np.abs(exact.scores), atol=1e-2 * np.abs(exact.scores).max())


@pytest.mark.parametrize("factor", [1e-25, 1e25])
def test_the_scale_of_the_vectors_does_not_matter(vectors: np.ndarray, factor: float) -> None:
    usual, scaled = (principal_components(vectors * np.float32(each), 2, seed=0) for each in (1, factor))
    np.testing.assert_allclose(scaled.explained, usual.explained, rtol=1e-4)
    np.testing.assert_allclose(scaled.scores / np.float32(factor), usual.scores, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("method", [umap, tsne])
def test_groups_stay_together_and_equal_seeds_give_equal_maps(vectors: np.ndarray, method: Method) -> None:
    scores = principal_components(vectors, 10, seed=0).scores
    first, second = method(scores, SETTINGS), method(scores, SETTINGS)
    assert first.shape == (60, 2)
    np.testing.assert_array_equal(first, second)
    value, _ = silhouette(first, GROUPS, seed=0)
    assert value is not None
    assert value > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("method", [umap, tsne])
@pytest.mark.parametrize("records", [3, 4, 5, 8])
def test_few_records_have_a_map(vectors: np.ndarray, method: Method, records: int) -> None:
    scores = principal_components(vectors[::20][:records] if records == 3 else vectors[:records], 50, seed=0).scores
    settings = Settings(0, fitting_neighbors(15, records), 0.1, fitting_perplexity(30, records))
    points = method(scores, settings)
    assert points.shape == (records, 2)
    assert np.isfinite(points).all()


@pytest.mark.parametrize("method", [umap, tsne])
def test_vectors_along_one_line_have_a_map(method: Method) -> None:
    vectors = np.zeros((30, 4), dtype=np.float32)
    vectors[:, 1] = np.arange(30)
    points = method(principal_components(vectors, 50, seed=0).scores, SETTINGS)
    assert np.isfinite(points).all()


@pytest.mark.slow
def test_equal_records_lie_together_on_a_umap() -> None:
    """As many equal ones as neighbours: none is a neighbour of itself."""
    vectors = np.repeat(np.random.default_rng(0).normal(size=(4, 6)), 20, axis=0).astype(np.float32)
    points = umap(principal_components(vectors, 50, seed=0).scores, SETTINGS)
    value, _ = silhouette(points, np.repeat(np.arange(4), 20), seed=0)
    assert np.isfinite(points).all()
    assert value is not None
    assert value > 0.5


@pytest.mark.slow
def test_a_umap_keeps_the_neighbours_of_a_curved_sheet() -> None:
    """A swiss roll, which no plane through its points can keep: the first two components have a trustworthiness of 0.875."""
    sheet, _ = make_swiss_roll(400, random_state=0)
    scores = principal_components(sheet.astype(np.float32), 3, seed=0).scores
    assert trustworthiness(scores, umap(scores, SETTINGS), n_neighbors=10) > 0.98


def test_random_numbers_of_the_process_stay_as_they_were(vectors: np.ndarray) -> None:
    random.seed(7)
    expected = random.random()
    random.seed(7)
    umap(principal_components(vectors, 10, seed=0).scores, SETTINGS)
    assert random.random() == expected


@pytest.mark.parametrize(("records", "neighbors", "perplexity"), [(3, 2, 1), (4, 3, 1), (16, 15, 5), (100, 15, 30)])
def test_settings_fit_the_records(records: int, neighbors: int, perplexity: float) -> None:
    assert fitting_neighbors(15, records) == neighbors
    assert fitting_perplexity(30, records) == perplexity


def test_unit_length_leaves_the_direction() -> None:
    vectors = np.array([[3, 4], [0, 0], [-1e-3, 0]], dtype=np.float32)
    expected = np.array([[0.6, 0.8], [0, 0], [-1, 0]])
    np.testing.assert_allclose(SCALINGS["unit-length"](vectors), expected, rtol=1e-6)


def test_unit_variance_leaves_constant_dimensions(vectors: np.ndarray) -> None:
    vectors[:, 3] = 7
    scaled = SCALINGS["unit-variance"](vectors)
    np.testing.assert_array_equal(scaled[:, 3], 7)
    np.testing.assert_allclose(np.delete(scaled, 3, axis=1).std(axis=0), 1, rtol=1e-5)


def test_rounding_is_no_variation() -> None:
    vectors = np.array([[1, 1000, 0, 1], [1, 1000.001, 0, 1.01]], dtype=np.float32)
    assert varying(vectors).tolist() == [False, False, False, True]


def test_silhouette_is_that_of_the_definition(vectors: np.ndarray) -> None:
    distances = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
    values = []
    for record, group in enumerate(GROUPS):
        means = [distances[record, other == GROUPS].sum() / (20 - (other == group)) for other in range(3)]
        inside = means.pop(group)
        values.append((min(means) - inside) / max(min(means), inside))
    value, counted = silhouette(vectors, GROUPS, seed=0)
    assert value == pytest.approx(np.mean(values), abs=1e-5)
    assert counted == 60


def test_silhouette_of_many_records_is_sampled_by_the_seed(
    vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = silhouette(vectors, GROUPS, seed=0)
    monkeypatch.setattr(projections, "SILHOUETTE_RECORDS", 40)
    first, again, other = (silhouette(vectors, GROUPS, seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert first == (pytest.approx(whole, abs=0.1), 40)


@pytest.mark.parametrize("groups", [np.zeros(60, dtype=int), np.arange(60)])
def test_no_silhouette_without_groups(vectors: np.ndarray, groups: np.ndarray) -> None:
    assert silhouette(vectors, groups, seed=0)[0] is None
