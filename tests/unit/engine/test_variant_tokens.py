"""Which tokens a variant changes, and which both alleles share."""

from collections.abc import Callable

import numpy as np
import pytest
from dnalm.engine.variant_tokens import (
    Site,
    TokenizedSites,
    aligned_tokens,
    changes_one_token,
    most_context,
    substituted_token,
    token_over,
    usual_context,
)
from dnalm.methods.variant_windows import Allele, VariantWindows
from dnalm.models.language_model import LanguageModel
from dnalm.models.tokenizers import Encoding
from tiny_variants import GENOME, KINDS, other_letters, site, snv

Make = Callable[[str, str], LanguageModel]


def letters(bases: str) -> Encoding:
    """A special token in front, then one token per base."""
    places = np.arange(len(bases))
    ids = np.array([4 + "ACGTN".index(base) for base in bases])
    return Encoding(np.r_[3, ids], np.r_[0, places], np.r_[0, places + 1])


def encoded(model: LanguageModel, windows: VariantWindows) -> list[Encoding]:
    return model.encode([windows.reference.bases, windows.alternative.bases])


def test_the_models_window_is_known(tiny_model: Make) -> None:
    assert [changes_one_token(tiny_model("masked", kind)) for kind in KINDS] == [True, True, True, False]
    # 64 tokens, one of them CLS; byte pairs have SEP too, and a token may be one base.
    assert [most_context(tiny_model("masked", kind)) for kind in KINDS] == [63, 189, 378, 62]
    assert [usual_context(tiny_model("masked", kind)) for kind in KINDS] == [63, 189, 200, 62]


def test_a_window_of_a_model_without_a_limit_has_200_bases(tiny_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("masked", "letters")
    monkeypatch.setattr(model, "context_length", None)
    assert most_context(model) is None
    assert usual_context(model) == 200


@pytest.mark.parametrize("kind", KINDS)
def test_the_longest_window_is_read_whatever_its_bases(tiny_model: Make, kind: str) -> None:
    model = tiny_model("masked", kind)
    most = most_context(model)
    assert most is not None
    for bases in ("A" * most, (GENOME * 2)[:most]):
        assert len(model.encode([bases])[0]) <= 64
    if kind != "byte pairs":
        assert len(model.encode(["A" * (most + 1)])[0]) > 64


def test_a_substitution_in_one_token_is_found() -> None:
    windows = VariantWindows(Allele("ACGTA", 2, 1), Allele("ACTTA", 2, 1))
    assert substituted_token(windows, letters("ACGTA"), letters("ACTTA")) == 3
    two = VariantWindows(Allele("ACGTA", 2, 2), Allele("ACTAA", 2, 2))
    assert substituted_token(two, letters("ACGTA"), letters("ACTAA")) is None
    insertion = VariantWindows(Allele("ACGTA", 3, 0), Allele("ACGGT", 3, 1))
    assert substituted_token(insertion, letters("ACGTA"), letters("ACGTC")) is None


def test_other_borders_of_tokens_are_no_substitution() -> None:
    windows = VariantWindows(Allele("ACGT", 1, 1), Allele("AGGT", 1, 1))
    one = Encoding(np.array([3, 7, 8]), np.array([0, 0, 2]), np.array([0, 2, 4]))
    moved = Encoding(np.array([3, 7, 9]), np.array([0, 0, 1]), np.array([0, 1, 4]))
    assert substituted_token(windows, one, moved) is None
    assert substituted_token(windows, one, letters("AGGT")) is None
    assert substituted_token(windows, one, one) is None


@pytest.mark.parametrize("kind", KINDS[:3])
def test_the_substituted_token_covers_the_variant(tiny_model: Make, kind: str) -> None:
    model = tiny_model("masked", kind)
    for position in range(100, 106):
        windows = snv(position).windows
        reference, alternative = encoded(model, windows)
        number = substituted_token(windows, reference, alternative)
        assert number is not None
        assert reference.starts[number] <= windows.reference.site < reference.ends[number]
        assert token_over(reference, windows.reference) == number


def test_a_variant_behind_the_last_base_is_over_the_last_token() -> None:
    encoding = letters("ACGT")
    assert [token_over(encoding, Allele("ACGT", at, 1)) for at in (0, 2, 3)] == [1, 3, 4]
    assert token_over(encoding, Allele("ACGT", 4, 0)) == 4
    framed = Encoding(np.r_[encoding.ids, 3], np.r_[encoding.starts, 0], np.r_[encoding.ends, 0])
    assert token_over(framed, Allele("ACGT", 3, 1)) == 4


def test_aligned_tokens_are_at_the_same_distance_from_the_variant() -> None:
    """A deletion of GG: REF is AC GG TNA, ALT is AC TNA and two bases more."""
    windows = VariantWindows(Allele("ACGGTNA", 2, 2), Allele("ACTNACC", 2, 0))
    both = letters("ACGGTNA"), letters("ACTNACC")
    right = aligned_tokens(windows, *both, left=False)
    assert [numbers.tolist() for numbers in right] == [[5, 7], [3, 5]]  # T and A; N does not count
    all_of_them = aligned_tokens(windows, *both, left=True)
    assert [numbers.tolist() for numbers in all_of_them] == [[1, 2, 5, 7], [1, 2, 3, 5]]


def test_tokens_with_other_bases_or_borders_are_not_aligned() -> None:
    """Behind a substitution in a byte pair the next token may differ."""
    windows = VariantWindows(Allele("ACGTT", 0, 1), Allele("CCGTT", 0, 1))
    reference = Encoding(np.array([5, 6, 7]), np.array([0, 1, 3]), np.array([1, 3, 5]))
    alternative = Encoding(np.array([8, 9, 10, 11]), np.array([0, 1, 2, 3]), np.array([1, 2, 3, 5]))
    found = aligned_tokens(windows, reference, alternative, left=True)
    assert [numbers.tolist() for numbers in found] == [[], []]


@pytest.mark.parametrize("kind", KINDS)
def test_aligned_tokens_cover_the_same_letters_of_the_genome(tiny_model: Make, kind: str) -> None:
    model = tiny_model("masked", kind)
    windows = site(200, GENOME[200:204], GENOME[200]).windows
    reference, alternative = encoded(model, windows)
    behind = [windows.reference.site + windows.reference.length, windows.alternative.site]
    found = aligned_tokens(windows, reference, alternative, left=True)
    assert len(found[0]) > 0
    for n, m in zip(*found, strict=True):
        assert reference.ids[n] == alternative.ids[m]
        if reference.starts[n] >= behind[0]:
            assert reference.starts[n] - behind[0] == alternative.starts[m] - behind[1]
        else:
            assert reference.ends[n] <= windows.reference.site
            assert reference.starts[n] - windows.reference.site == alternative.starts[m] - windows.alternative.site


def test_a_site_has_the_windows_of_both_alleles_and_strands() -> None:
    both = snv(100)
    assert both.shared is not None
    assert [allele.bases for allele in both.alleles] == [
        allele.bases for pair in (both.windows, both.shared) for allele in (pair.reference, pair.alternative)
    ]
    turned = both.reverse_complement()
    assert turned.windows == both.windows.reverse_complement()
    assert turned.shared == both.shared.reverse_complement()
    alone = Site(both.windows)
    assert len(alone.alleles) == 2
    assert alone.reverse_complement().shared is None


def test_sites_are_tokenized_once_and_those_too_long_are_told_apart(tiny_model: Make) -> None:
    model = tiny_model("masked", "letters")
    long = site(200, GENOME[200], other_letters(GENOME[200]), context=100)
    sites = [Site(one.windows) for one in (snv(100), long, snv(100, 2), snv(100))]
    found = TokenizedSites(model, sites)
    assert found.readable == [True, False, True, True]
    assert found.scorable() == [0, 2, 3]
    assert len(found.encodings) == 5  # REF of 100 and two ALTs; both alleles of the long one
    windows = found.windows()
    assert set(windows) == {allele.bases for one in (sites[0], sites[2]) for allele in one.alleles}
    for bases, window in windows.items():
        assert window.counted.sum() == len(bases)
        assert window.encoding is found.encodings[bases]


def test_groups_have_one_window_of_ref_and_equal_variants_together(tiny_model: Make) -> None:
    model = tiny_model("masked", "letters")
    sites = [Site(one.windows) for one in (snv(100), snv(105), snv(100, 2), snv(100))]
    groups = TokenizedSites(model, sites).groups([0, 1, 2, 3])
    assert list(groups) == [sites[0].windows.reference.bases, sites[1].windows.reference.bases]
    assert [list(of_reference.values()) for of_reference in groups.values()] == [[[0, 3], [2]], [[1]]]
