from collections import Counter

import numpy as np
import pytest
from dnalm.methods.baselines import kmer_frequencies, kmer_names, one_hot
from dnalm.methods.strands import reverse_complement


def random_bases(length: int) -> str:
    return "".join(np.random.default_rng(length).choice(list("ACGTN"), length, p=[0.24] * 4 + [0.04]))


@pytest.mark.parametrize("both_strands", [False, True])
@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("bases", [*map(random_bases, (3, 10, 200)), "NNNN", "A", "ANNC"])
def test_frequencies_equal_counting_by_hand(bases: str, k: int, both_strands: bool) -> None:
    strands = [bases, reverse_complement(bases)] if both_strands else [bases]
    found = [strand[start : start + k] for strand in strands for start in range(len(strand) - k + 1)]
    counts = Counter(kmer for kmer in found if "N" not in kmer)
    total = sum(counts.values()) or 1
    expected = [counts[name] / total for name in kmer_names(k)]
    np.testing.assert_allclose(kmer_frequencies(bases, k, both_strands), expected, atol=1e-7)


def test_one_hot_is_zero_at_n() -> None:
    assert one_hot("ACGTN").tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
