from collections.abc import Callable

import numpy as np
import pytest
from dnalm.methods.strands import reverse_complement
from dnalm.methods.variant_windows import (
    Allele,
    Status,
    VariantWindows,
    allele_status,
    contig_aliases,
    known_name,
    shared_windows,
    trimmed,
    variant_windows,
)

GENOME = "".join(np.random.default_rng(1).choice(list("ACGT"), 300))


def laid(
    position: int,
    reference: str,
    alternative: str,
    context: int | None,
    genome: str = GENOME,
    how: Callable[..., VariantWindows] = variant_windows,
) -> VariantWindows:
    assert genome[position:].startswith(reference)
    return how(lambda start, end: genome[start:end], len(genome), position, reference, alternative, context)


@pytest.mark.parametrize("context", [10, 11, 200, 300])
@pytest.mark.parametrize("position", [0, 1, 5, 100, 150, 294, 298, 299])
def test_windows_are_the_contigs_own_bases_around_the_variant(position: int, context: int) -> None:
    letter = GENOME[position]
    other = "ACGT"["ACGT".index(letter) - 1]
    windows = laid(position, letter, other, context)
    start = min(max(position - context // 2, 0), 300 - context)
    assert windows.reference == Allele(GENOME[start : start + context], position - start, 1)
    changed = GENOME[:position] + other + GENOME[position + 1 :]
    assert windows.alternative == Allele(changed[start : start + context], position - start, 1)
    if context // 2 <= position <= 300 - context // 2 - context % 2:
        assert windows.reference.site == context // 2
    assert windows.status == Status.OK


@pytest.mark.parametrize("context", [20, 21, 100])
@pytest.mark.parametrize(("gone", "come"), [(3, 0), (0, 4), (5, 2), (2, 7), (1, 9)])
@pytest.mark.parametrize("position", [0, 2, 60, 150, 280, 290, 295])
def test_alleles_of_different_lengths_have_windows_of_one_length(
    position: int, gone: int, come: int, context: int
) -> None:
    alternative = "".join(np.random.default_rng(position).choice(list("ACGT"), come))
    windows = laid(position, GENOME[position : position + gone], alternative, context)
    changed = GENOME[:position] + alternative + GENOME[position + gone :]
    for allele, contig, length in ((windows.reference, GENOME, gone), (windows.alternative, changed, come)):
        assert len(allele.bases) == context
        start = position - allele.site
        assert allele.bases == contig[start : start + context]
        assert allele.site == min(position, max(context // 2, context - len(contig) + position))
        assert allele.length == length


@pytest.mark.parametrize("position", [300, 299])
def test_an_insertion_at_the_very_end_is_seen(position: int) -> None:
    windows = laid(position, "", "GATTACA", 40)
    changed = GENOME[:position] + "GATTACA" + GENOME[position:]
    assert windows.reference.bases == GENOME[-40:]
    assert windows.alternative.bases == changed[-40:]


def test_a_contig_shorter_than_the_window_is_seen_whole() -> None:
    windows = laid(3, "A", "C", 200, "GGGAGG")
    assert windows.reference.bases, windows.alternative.bases == ("GGGAGG", "GGGCGG")
    windows = laid(2, "AAA", "", 200, "GGAAAGGGG")
    assert (windows.reference.bases, windows.alternative.bases) == ("GGAAAG", "GGGGGG")


def test_pairs_are_whole_and_the_longer_is_cut_where_the_change_stays_central() -> None:
    same = laid(100, GENOME[100], "A" if GENOME[100] != "A" else "C", None)
    assert (same.reference.bases, same.status) == (GENOME, Status.OK)
    left = laid(5, GENOME[5:8], "", None)
    assert (left.reference.bases, left.status) == (GENOME[:-3], Status.LENGTHS_DIFFER)
    right = laid(290, GENOME[290:293], "", None)
    assert (right.reference.bases, right.reference.site) == (GENOME[3:], 287)
    assert right.alternative.bases == GENOME[:290] + GENOME[293:]


@pytest.mark.parametrize(
    ("length", "status"), [(10, Status.OK), (11, Status.ALLELE_TOO_LONG), (10_000, Status.ALLELE_TOO_LONG)]
)
def test_an_allele_longer_than_half_the_window_is_not_scored(length: int, status: Status) -> None:
    assert laid(150, GENOME[150], "A" * length, 20).status == status
    long = GENOME[:150] + "A" * length + GENOME[150:]
    assert laid(150, "A" * length, "", 20, long).status == status


@pytest.mark.parametrize("context", [20, None])
def test_a_variant_in_a_desert_is_not_scored(context: int | None) -> None:
    genome = "N" * 50 + "A" + "N" * 50
    assert laid(50, "A", "C", context, genome).status == Status.WINDOW_ALL_N
    assert laid(50, "A", "C", context, genome[:51] + "G" + genome[52:]).status == Status.OK
    assert laid(50, "A", "C", 20, genome).ambiguous == 19


def test_swapped_alleles_have_swapped_windows() -> None:
    for position in (0, 3, 100, 296):
        forward = laid(position, GENOME[position : position + 3], "TACCAT", 50)
        changed = GENOME[:position] + "TACCAT" + GENOME[position + 3 :]
        backward = laid(position, "TACCAT", GENOME[position : position + 3], 50, changed)
        assert (forward.reference, forward.alternative) == (backward.alternative, backward.reference)


def test_the_other_strand_of_odd_windows_is_the_window_of_the_other_strand() -> None:
    letter = GENOME[140]
    forward = laid(140, letter, "A" if letter != "A" else "C", 51)
    complement = reverse_complement("A" if letter != "A" else "C")
    backward = laid(159, reverse_complement(letter), complement, 51, reverse_complement(GENOME))
    assert forward.reverse_complement() == backward
    assert forward.reverse_complement().reverse_complement() == forward


@pytest.mark.parametrize("context", [20, 21, 64])
def test_a_shared_window_is_of_a_grid_and_has_the_variant_in_its_middle_half(context: int) -> None:
    step = context // 2
    starts = set()
    for position in range(300):
        letter = GENOME[position]
        windows = laid(position, letter, "A" if letter != "A" else "C", context, how=shared_windows)
        start = position - windows.reference.site
        starts.add(start)
        assert windows.reference.bases == GENOME[start : start + context]
        assert start % step == 0 or start == 300 - context
        if context // 4 <= position < 300 - context:
            assert context // 4 <= windows.reference.site < context // 4 + step
    assert len(starts) <= 300 // step + 1


@pytest.mark.parametrize(
    ("reference", "alternative", "expected"),
    [
        ("A", "C", (0, "A", "C")),
        ("CA", "C", (1, "A", "")),
        ("C", "CA", (1, "", "A")),
        ("GCA", "GTA", (1, "C", "T")),
        ("CAA", "CA", (2, "A", "")),
        ("ACGT", "TGCA", (0, "ACGT", "TGCA")),
        ("ATTTG", "ATG", (2, "TT", "")),
    ],
)
def test_what_alleles_have_in_common_is_trimmed(
    reference: str, alternative: str, expected: tuple[int, str, str]
) -> None:
    offset, gone, come = trimmed(reference, alternative)
    assert reference[:offset] + come + reference[offset + len(gone) :] == alternative
    assert len(gone) + len(come) == len(expected[1]) + len(expected[2])


@pytest.mark.parametrize(
    ("reference", "alternative", "status"),
    [
        ("A", "C", Status.OK),
        ("a", "ct", Status.OK),
        ("A", ".", Status.NO_ALT),
        ("A", "a", Status.ALT_EQUALS_REF),
        ("A", "*", Status.SPANNING_DELETION),
        ("A", "<DEL>", Status.SYMBOLIC_ALT),
        ("A", "<*>", Status.SYMBOLIC_ALT),
        ("G", "G]17:198982]", Status.BREAKEND_ALT),
        ("G", "[13:123457[G", Status.BREAKEND_ALT),
        ("G", "G.", Status.BREAKEND_ALT),
        ("G", ".G", Status.BREAKEND_ALT),
        ("A", "N", Status.ALT_NOT_ACGT),
        ("A", "R", Status.ALT_NOT_ACGT),
        ("N", "A", Status.REF_NOT_ACGT),
        ("AN", "A", Status.REF_NOT_ACGT),
    ],
)
def test_alleles_that_are_no_sequences_are_told_apart(reference: str, alternative: str, status: Status) -> None:
    assert allele_status(reference, alternative) == status


@pytest.mark.parametrize(
    ("names", "strangers"),
    [
        (("chr1", "1", "Chr1", "CHR1"), ("chr11", "Chr", "")),
        (("chrM", "chrMT", "M", "MT", "Mt", "ChrM", "chrMt"), ("m", "chrX", "Mito")),
        (("chrUn_gl000220", "Un_gl000220"), ("GL000220",)),
        (("chrX", "X"), ("x", "chrx")),
    ],
)
def test_every_name_of_a_contig_is_one_of_all_its_others(names: tuple[str, ...], strangers: tuple[str, ...]) -> None:
    for name in names:
        assert set(names) - {name} <= set(contig_aliases(name))
        assert name not in contig_aliases(name)
        assert not {*strangers} & {*contig_aliases(name)}
        assert [known_name(name, [other]) for other in names] == list(names)
        assert known_name(name, strangers) is None
        assert known_name(name, names) == name
