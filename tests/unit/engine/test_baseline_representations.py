"""Baselines without a model: k-mer frequencies and one-hot letters."""

import numpy as np
import pytest
from dnalm.engine.baseline_representations import KmerRepresentation, OneHotRepresentation
from dnalm.errors import UserError
from dnalm.methods.strands import reverse_complement


def test_kmers_say_when_there_is_none() -> None:
    found = KmerRepresentation(4, both_strands=False).embed(["a", "b", "c"], ["ACGTA", "ACG", "NNNNN"])
    assert [one.status for one in found] == ["ok", "no_kmer", "all_n"]
    assert not found[1].vectors.any()


def test_one_hot_of_unequal_lengths_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="Sequence 'b' has 3 bases, the first 4"):
        OneHotRepresentation(per_base=False, both_strands=False).embed(["a", "b"], ["ACGT", "ACG"])


def test_one_hot_lies_in_a_row_or_one_vector_a_base() -> None:
    row, base = OneHotRepresentation(False, False), OneHotRepresentation(True, False)
    (flat,), (apart,) = row.embed(["a"], ["AC"]), base.embed(["a"], ["AC"])
    assert flat.vectors.tolist() == [1, 0, 0, 0, 0, 1, 0, 0]
    assert row.dimensions == ["1A", "1C", "1G", "1T", "2A", "2C", "2G", "2T"]
    assert apart.vectors.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0]]
    assert base.dimensions == ["A", "C", "G", "T"]


@pytest.mark.parametrize("per_base", [False, True])
def test_one_hot_of_both_strands_is_the_mean_of_either(per_base: bool) -> None:
    bases = "AACGNT"
    (both,) = OneHotRepresentation(per_base, True).embed(["a"], [bases])
    one, other = (
        OneHotRepresentation(per_base, False).embed(["a"], [b])[0] for b in (bases, reverse_complement(bases))
    )
    np.testing.assert_array_equal(both.vectors, (one.vectors + other.vectors) / 2)
