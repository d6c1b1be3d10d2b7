"""What the model reads of a cell: bins worked out by hand, and what chance decides."""

import numpy as np
import pytest
from dnalm.methods.expression_bins import bin_values, cell_generator, cell_tokens


@pytest.mark.parametrize("uniform", [0.0, 0.7])
def test_fifty_different_values_have_a_bin_each(uniform: float) -> None:
    values = np.arange(50.0)[::-1] + 1
    assert bin_values(values, uniform).tolist() == list(range(50, 0, -1))


@pytest.mark.parametrize(("uniform", "expected"), [(0.0, [25, 25, 50]), (0.5, [13, 13, 50]), (0.999, [1, 1, 50])])
def test_a_value_on_several_edges_has_any_of_their_bins(uniform: float, expected: list[int]) -> None:
    """Of the quantiles 0, 1/49 … 1 of 1, 1 and 2 the first 25 are 1, and only the last is 2."""
    assert bin_values(np.array([1.0, 1.0, 2.0]), uniform).tolist() == expected


def test_bins_depend_on_ranks_alone() -> None:
    values = np.random.default_rng(0).choice([1.0, 2.0, 5.0, 40.0], 50)
    uniform = np.random.default_rng(1).random(50)
    assert bin_values(np.log1p(values), uniform).tolist() == bin_values(values, uniform).tolist()


def test_bins_of_a_value_that_repeats_are_even() -> None:
    """A value that is half of all has half of the bins, each about as often."""
    values = np.array([1.0] * 100 + list(range(2, 102)))
    random = np.random.default_rng(0)
    drawn = np.concatenate([bin_values(values, random.random(200))[:100] for _ in range(100)])
    bins, times = np.unique(drawn, return_counts=True)
    assert bins.tolist() == list(range(1, 26))
    assert times.min() > 0.8 * times.mean()


def test_one_gene_may_have_any_bin() -> None:
    found = [bin_values(np.array([3.0]), u)[0] for u in (0.0, 0.5, np.nextafter(1, 0))]
    assert found == [50, 25, 1]


def test_random_numbers_of_a_cell_depend_on_seed_and_name_alone() -> None:
    def numbers(seed: int, name: str) -> list[float]:
        return cell_generator(seed, name).random(3).tolist()

    assert numbers(0, "AAAC-1") == numbers(0, "AAAC-1")
    different = [numbers(0, "AAAC-1"), numbers(1, "AAAC-1"), numbers(0, "AAAC-2"), numbers(0, "caf\udce9")]
    assert len({tuple(drawn) for drawn in different}) == 4


def test_random_numbers_of_a_cell_never_change() -> None:
    """Embeddings that were published once can be made again."""
    assert cell_generator(0, "AAAC-1").random() == pytest.approx(0.7585322081874127, abs=1e-12)


def test_a_cell_begins_with_the_token_of_the_cell() -> None:
    genes, values = np.array([7, 3, 5]), np.array([1.0, 2.0, 1.0])
    tokens = cell_tokens(
        genes, values, cls_id=9, no_value=-2, most_tokens=4, random=cell_generator(0, "cell"), middle=True
    )
    assert tokens.genes.tolist() == [9, 7, 3, 5]
    assert tokens.values.tolist() == [-2, 13, 50, 13]
    assert tokens.values.dtype == np.float32
    assert (len(tokens), tokens.expressed) == (4, 3)


def test_each_gene_of_a_cell_draws_its_own_bin() -> None:
    tokens = cell_tokens(
        np.arange(200), np.ones(200), cls_id=200, no_value=-2, most_tokens=300, random=cell_generator(0, "cell")
    )
    assert len(set(tokens.values[1:])) > 40  # of 50


def test_a_cell_without_genes_is_the_token_of_the_cell_alone() -> None:
    nothing = np.empty(0, dtype=np.int64), np.empty(0)
    tokens = cell_tokens(*nothing, cls_id=9, no_value=-2, most_tokens=4, random=cell_generator(0, "cell"))
    assert (tokens.genes.tolist(), tokens.values.tolist(), tokens.expressed) == ([9], [-2], 0)


def test_a_cell_of_too_many_genes_reads_each_about_as_often() -> None:
    genes, values = np.arange(100), np.arange(1.0, 101)
    read = np.zeros(100)
    for cell in range(400):
        tokens = cell_tokens(
            genes, values, cls_id=100, no_value=-2, most_tokens=21, random=cell_generator(0, f"cell {cell}")
        )
        assert tokens.genes[0] == 100
        assert len(set(tokens.genes)) == len(tokens) == 21
        assert tokens.expressed == 100
        read[tokens.genes[1:]] += 1
    assert read.min() > 40
    assert read.max() < 130


def test_genes_that_are_read_stay_in_their_order() -> None:
    genes = np.arange(100)[::-1]
    tokens = cell_tokens(genes, np.ones(100), cls_id=100, no_value=-2, most_tokens=11, random=cell_generator(0, "cell"))
    read = tokens.genes[1:].tolist()
    assert read == sorted(read, reverse=True)


def test_bins_do_not_depend_on_how_many_genes_are_read() -> None:
    genes, values = np.arange(60), np.repeat([1.0, 2.0, 3.0], 20)
    long, short = (
        cell_tokens(genes, values, cls_id=99, no_value=-2, most_tokens=most, random=cell_generator(3, "cell"))
        for most in (1_200, 15)
    )
    of_long = dict(zip(long.genes.tolist(), long.values.tolist(), strict=True))
    assert all(of_long[gene] == value for gene, value in zip(short.genes.tolist(), short.values.tolist(), strict=True))
