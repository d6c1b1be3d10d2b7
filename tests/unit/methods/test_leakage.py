import numpy as np
import pytest
from dnalm.methods.leakage import Place, overlapping, place_of, same_sequences
from dnalm.methods.strands import reverse_complement


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("chr1:100-200", Place("chr1", 100, 200)),
        ("chr1:100-200(-)", Place("chr1", 100, 200)),
        ("peak_7::chr1:100-200(+)", Place("chr1", 100, 200)),
        ("NC_000001.11:1,000-2,000", Place("NC_000001.11", 1_000, 2_000)),
        ("HLA-A*01:01", None),
        ("gene_12", None),
        ("chr1:200-100", None),
        ("chr1:100", None),
    ],
)
def test_a_name_tells_its_place(name: str, place: Place | None) -> None:
    assert place_of(name) == place


def test_the_same_sequence_and_its_reverse_complement_leak() -> None:
    bases = "ACGTTGCAAT"
    sequences = [bases, bases, reverse_complement(bases), bases[::-1], bases + "A"]
    tested = np.array([True, False, False, False, False])
    assert same_sequences(sequences, tested).tolist() == [False, True, True, False, False]


def test_what_shares_a_base_with_a_test_leaks_as_pair_by_pair() -> None:
    generator = np.random.default_rng(0)
    starts = generator.integers(0, 2_000, 300)
    places = [
        None if number % 17 == 0 else Place(f"chr{number % 2}", int(start), int(start) + int(length))
        for number, (start, length) in enumerate(zip(starts, generator.integers(1, 60, 300), strict=True))
    ]
    tested = generator.random(300) < 0.1

    def share(one: Place | None, other: Place | None) -> bool:
        if one is None or other is None or one.contig != other.contig:
            return False
        return max(one.start, other.start) < min(one.end, other.end)

    genome = "".join(generator.choice(list("ACGT"), 3_000))
    sequences = [genome[place.start : place.end] if place else "ACGT" for place in places]
    expected = [
        not tested[number] and any(share(place, places[other]) for other in np.flatnonzero(tested))
        for number, place in enumerate(places)
    ]
    assert overlapping(places, sequences, tested).tolist() == expected
    assert any(expected)


def test_neighbours_share_no_base() -> None:
    places = [Place("a", 0, 100), Place("a", 100, 200), Place("a", 201, 300)]
    assert not overlapping(places, ["A"] * 3, np.array([False, True, False])).any()
    assert not overlapping([None, None], ["A"] * 2, np.array([True, False])).any()


def random_bases(length: int, seed: int) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), length))


def test_contigs_of_one_name_in_two_genomes_are_told_apart_by_their_bases() -> None:
    """chr1 of a human and of a mouse; on either strand, with variants, a gap and N."""
    human, mouse = random_bases(600, 1), random_bases(600, 2)
    varied = human[100:150] + "T" + human[150:250] + "NNNN" + human[254:262] + "C" + human[263:300]
    sequences = [human[0:200], mouse[100:300], human[100:300], reverse_complement(human[150:350]), varied, mouse[0:200]]
    spans = [(0, 200), (100, 300), (100, 300), (150, 350), (100, 300), (0, 200)]
    places = [Place("chr1", *span) for span in spans]
    tested = np.array([True, False, False, False, False, False])
    assert overlapping(places, sequences, tested).tolist() == [False, False, True, True, True, False]


def test_what_is_too_short_to_tell_by_leaks() -> None:
    places = [Place("chr1", 0, 100), Place("chr1", 80, 180)]
    sequences = [random_bases(100, 1), random_bases(100, 2)]
    assert overlapping(places, sequences, np.array([True, False])).tolist() == [False, True]
