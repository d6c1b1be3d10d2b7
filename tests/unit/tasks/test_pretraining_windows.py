"""From records to the windows of a pretraining: cut, freed of repeats, split without leaks, and counted."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dnalm.errors import UserError
from dnalm.methods.strands import reverse_complement
from dnalm.tasks import pretraining_windows
from dnalm.tasks.pretraining_options import PretrainingOptions, filled
from dnalm.tasks.pretraining_windows import Windows, account, fingerprint, read_windows


def read(path: Path, **choices: Any) -> Windows:
    return read_windows(filled(PretrainingOptions(Path("out"), sequences=[path], **choices)))


def fasta(path: Path, *records: str) -> Path:
    path.write_text("".join(f">r{number}\n{bases}\n" for number, bases in enumerate(records)))
    return path


@pytest.fixture
def bases_of() -> Callable[[int], str]:
    """Return a function that gives random bases, other ones each time."""
    generator = np.random.default_rng(0)
    return lambda length: "".join(generator.choice(list("ACGT"), length))


# Windows


def test_records_are_cut_into_windows_and_short_ends_left_out(tmp_path: Path, bases_of: Callable[[int], str]) -> None:
    """Of 100, 85 and 12 bases; windows of 40 every 40, of which one of 20 is long enough and one of 5 is not."""
    records = [bases_of(100), bases_of(85), bases_of(12)]
    found = read(fasta(tmp_path / "s", *records), window=40, split="record")
    first = [records[0][:40], records[0][40:80], records[0][80:]]
    assert [sequence.decode() for sequence in found.sequences] == [*first, records[1][:40], records[1][40:80]]
    assert found.weights is None
    assert {
        name: found.counts[name] for name in ("records", "bases", "windows", "ends_too_short", "records_too_short")
    } == {
        "records": 3,
        "bases": 197,
        "windows": 5,
        "ends_too_short": 1,
        "records_too_short": 1,
    }
    # Whole records are on one side.
    assert found.validates.tolist() in ([True] * 3 + [False] * 2, [False] * 3 + [True] * 2)
    assert found.counts["training_windows"] + found.counts["validation_windows"] == 5


def test_windows_may_overlap(tmp_path: Path, bases_of: Callable[[int], str]) -> None:
    record = bases_of(60)
    found = read(fasta(tmp_path / "s", record, bases_of(60)), window=40, stride=20, split="record")
    assert [sequence.decode() for sequence in found.sequences[:2]] == [record[:40], record[20:]]


def test_windows_with_too_many_n_are_left_out(tmp_path: Path, bases_of: Callable[[int], str]) -> None:
    """A quarter of N is allowed: 10 of 40 bases are, 11 are not."""
    records = [bases_of(30) + "N" * 10, bases_of(29) + "N" * 11, bases_of(40)]
    found = read(fasta(tmp_path / "s", *records), window=40, max_n=0.25, split="random")
    assert [sequence.decode() for sequence in found.sequences] == [records[0], records[2]]
    assert found.counts["windows_with_too_many_n"] == 1


def test_repeats_and_reverse_complements_are_left_out(tmp_path: Path, bases_of: Callable[[int], str]) -> None:
    one, other = bases_of(40), bases_of(40)
    records = [one, other, one, reverse_complement(other), bases_of(40)]
    found = read(fasta(tmp_path / "s", *records), window=40, split="random")
    assert [sequence.decode() for sequence in found.sequences] == [one, other, records[4]]
    assert found.counts["duplicate_windows"] == 2


def test_a_block_of_windows_validates_with_a_gap_around_it(tmp_path: Path, bases_of: Callable[[int], str]) -> None:
    record = bases_of(50 * 40)
    found = read(fasta(tmp_path / "s", record), window=40, validation_fraction=0.2, seed=1)
    places = [record.find(sequence.decode()) // 40 for sequence in found.sequences]
    block = [place for place, validates in zip(places, found.validates, strict=True) if validates]
    assert block == list(range(block[0], block[0] + 10))
    assert set(range(50)) - set(places) == {block[0] - 1, block[-1] + 1} & set(range(50))
    assert found.counts["windows_left_out_beside_validation"] == 50 - len(places)


def test_the_seed_decides_which_windows_validate(tmp_path: Path, bases_of: Callable[[int], str]) -> None:
    path = fasta(tmp_path / "s", bases_of(50 * 40))
    found = [read(path, window=40, split="random", seed=seed) for seed in (1, 1, 2)]
    assert found[0].validates.tolist() == found[1].validates.tolist() != found[2].validates.tolist()
    assert [int(windows.validates.sum()) for windows in found] == [5, 5, 5]
    prints = [fingerprint(windows) for windows in found]
    assert prints[0] == prints[1] != prints[2]


def test_near_duplicates_in_validation_are_counted_and_kept(
    tmp_path: Path, bases_of: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of ten windows comes twice, the second time with another last base: whichever validates has a like one."""
    originals = [bases_of(100) for _ in range(10)]
    changed = [bases[:-1] + ("A" if bases[-1] != "A" else "C") for bases in originals]
    path = fasta(tmp_path / "s", *originals, *changed)
    found = read(path, window=100, split="random", validation_fraction=0.05)
    assert found.counts["validation_windows"] == 1
    assert found.counts["near_duplicates_in_validation"] == 1
    assert (len(found.sequences), found.counts["training_windows_not_compared"]) == (20, 0)
    # With fewer training windows to compare with, it is not found where it is among the others.
    monkeypatch.setattr(pretraining_windows, "MOST_COMPARED", 0)
    found = read(path, window=100, split="random", validation_fraction=0.05)
    assert found.counts["near_duplicates_in_validation"] == 0
    assert found.counts["training_windows_not_compared"] == 19


@pytest.mark.parametrize(
    ("records", "choices", "sentence"),
    [
        (["ACGT" * 4, "N" * 40], {}, r"No window is left of 2 records \(1 had too many N, 1 records under 20 bases\)"),
        (["ACGTA" * 8], {}, "Only one window is left, which cannot be both trained on and validated with"),
        (["ACGTA" * 8, "ACGTA" * 8], {}, "Only one window is left"),
        (["A" * 30 + "C" * 30 + "G" * 30], {"split": "record"}, "The split 'record' leaves no window for validation"),
        (["A" * 30 + "C" * 30], {"split": "block"}, "The split 'block' leaves no window for training"),
    ],
)
def test_records_that_cannot_be_learnt_from_are_refused(
    tmp_path: Path, records: list[str], choices: dict[str, str], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        read(fasta(tmp_path / "s", *records), window=30 if choices else 40, **choices)


# Places on a genome


def overlapping_pieces(length: int = 60, step: int = 20) -> dict[int, str]:
    """First base → bases of pieces of a contig, each of which shares bases with its neighbours."""
    contig = "".join(np.random.default_rng(4).choice(list("ACGT"), 2_000))
    return {first: contig[first : first + length] for first in range(0, 2_000 - length + 1, step)}


def bedtools(first: int, bases: str) -> str:
    return f">chr1:{first}-{first + len(bases)}\n{bases}"


def bedtools_with_strands(first: int, bases: str) -> str:
    strand, told = ("-", reverse_complement(bases)) if first % 40 else ("+", bases)
    return f">peak_{first}::chr1:{first}-{first + len(bases)}({strand})\n{told}"


def samtools(first: int, bases: str) -> str:
    return f">chr1:{first + 1}-{first + len(bases)}\n{bases}"


@pytest.mark.parametrize("split", ["random", "block", "record"])
@pytest.mark.parametrize("named", [bedtools, bedtools_with_strands, samtools])
def test_sequences_whose_names_tell_that_they_share_bases_are_on_one_side(
    tmp_path: Path, named: Callable[[int, str], str], split: str
) -> None:
    """Windows of 30 bases: those of a piece do not overlap, those of neighbouring pieces do."""
    pieces = overlapping_pieces()
    (tmp_path / "s.fasta").write_text("\n".join(named(first, bases) for first, bases in pieces.items()) + "\n")
    options = PretrainingOptions(tmp_path / "m", sequences=[tmp_path / "s.fasta"], window=30, split=split)  # type: ignore[arg-type]
    windows = read_windows(filled(options))
    contig = "".join(bases[:20] for bases in pieces.values()) + pieces[1_940][20:]
    sides: dict[bool, set[int]] = {False: set(), True: set()}
    for sequence, validates in zip(windows.sequences, windows.validates.tolist(), strict=True):
        bases = sequence.decode()
        place = max(contig.find(bases), contig.find(reverse_complement(bases)))
        assert place >= 0
        sides[validates] |= set(range(place, place + len(bases)))
    assert sides[True]
    assert sides[False]
    assert not sides[True] & sides[False]


def test_regions_that_call_a_contig_by_two_names_share_its_bases(tmp_path: Path) -> None:
    pieces = overlapping_pieces(length=30, step=15)
    contig = "".join(bases[:15] for bases in pieces.values()) + pieces[1_965][15:]
    (tmp_path / "g.fasta").write_text(f">chr1\n{contig}\n")
    lines = [f"{('chr1', '1')[number % 2]}\t{first}\t{first + 30}" for number, first in enumerate(pieces)]
    (tmp_path / "r.bed").write_text("\n".join(lines) + "\n")
    genome, regions = tmp_path / "g.fasta", tmp_path / "r.bed"
    options = PretrainingOptions(tmp_path / "m", genome=genome, regions=regions, window=30, split="random")
    windows = read_windows(filled(options))
    places: dict[bool, set[int]] = {True: set(), False: set()}
    for sequence, validates in zip(windows.sequences, windows.validates.tolist(), strict=True):
        first = contig.find(sequence.decode())
        places[validates] |= set(range(first, first + 30))
    assert not places[True] & places[False]
    assert windows.counts["windows_left_out_beside_validation"] >= windows.counts["validation_windows"]


def test_regions_of_both_strands_share_their_bases(tmp_path: Path, bases_of: Callable[[int], str]) -> None:
    """Windows of a region on the other strand begin at its end: of 75 bases, two of 30, and 15 at its start are left."""
    contig = bases_of(2_000)
    (tmp_path / "g.fasta").write_text(f">chr1\n{contig}\n")
    firsts = range(0, 1_925, 25)
    lines = [f"chr1\t{first}\t{first + 75}\tx\t0\t{'+-'[first // 25 % 2]}" for first in firsts]
    (tmp_path / "r.bed").write_text("\n".join(lines) + "\n")
    genome, regions = tmp_path / "g.fasta", tmp_path / "r.bed"
    options = PretrainingOptions(tmp_path / "m", genome=genome, regions=regions, window=30, split="random")
    windows = read_windows(filled(options))
    sides: dict[bool, set[int]] = {True: set(), False: set()}
    for sequence, validates in zip(windows.sequences, windows.validates.tolist(), strict=True):
        bases = sequence.decode()
        first = max(contig.find(bases), contig.find(reverse_complement(bases)))
        sides[validates] |= set(range(first, first + 30))
    assert sides[True]
    assert sides[False]
    assert not sides[True] & sides[False]


@pytest.mark.parametrize("names", [("chr1:0-30", "chr1:10-40"), ("peak", "chr1:0-40")])
def test_sequences_whose_names_tell_no_place_of_theirs_share_none(
    tmp_path: Path, bases_of: Callable[[int], str], names: tuple[str, str]
) -> None:
    """A name that tells of fewer bases than the sequence has, or a name of its own."""
    (tmp_path / "s.fasta").write_text("".join(f">{name}\n{bases_of(40)}\n" for name in names))
    found = read(tmp_path / "s.fasta", window=40, split="random")
    assert (len(found.sequences), found.counts["windows_left_out_beside_validation"]) == (2, 0)


# Weights of soft-masked bases


BASES = "ACGTTGCAACGATTACCGATAGGATCCATGACCAGTACCATTAGACATGGACCTTGA"
CASED = BASES[:20].lower() + BASES[20:]


@pytest.mark.parametrize("kind", ["fasta", "table", "regions"])
def test_soft_masked_bases_weigh_less_wherever_they_come_from(tmp_path: Path, kind: str) -> None:
    (tmp_path / "s.fasta").write_text(f">a\n{CASED}\n>b\n{BASES[::-1]}\n")
    (tmp_path / "s.csv").write_text(f"text\n{CASED}\n{BASES[::-1]}\n")
    length = len(BASES)
    (tmp_path / "s.bed").write_text(f"a\t0\t{length}\tx\t0\t-\nb\t0\t{length}\n")
    data = {
        "fasta": {"sequences": [tmp_path / "s.fasta"]},
        "table": {"sequences": [tmp_path / "s.csv"]},
        "regions": {"genome": tmp_path / "s.fasta", "regions": tmp_path / "s.bed"},
    }[kind]
    options = PretrainingOptions(tmp_path / "m", **data, soft_masked_weight=0.5, split="record")  # type: ignore[arg-type]
    windows = read_windows(filled(options))
    assert windows.weights is not None
    expected = [0.5] * 20 + [1.0] * (length - 20)
    assert windows.weights[0].tolist() == (expected[::-1] if kind == "regions" else expected)
    assert windows.weights[1].tolist() == [1.0] * length


def test_weights_stay_with_their_windows_where_others_are_left_out(tmp_path: Path) -> None:
    path = fasta(tmp_path / "s", BASES, BASES, CASED[::-1])
    found = read(path, soft_masked_weight=0.0, split="record", window=60)
    assert found.weights is not None
    assert [weights.tolist() for weights in found.weights] == [[1.0] * 57, [1.0] * 37 + [0.0] * 20]


# Account and fingerprint


def windows(*sequences: bytes, validates: int = 0, weights: list[Any] | None = None, **counts: int) -> Windows:
    sides = np.arange(len(sequences)) == validates
    return Windows(list(sequences), weights, sides, Counter(counts))


def test_the_account_names_what_was_left_out_and_nothing_else() -> None:
    counts = {"records": 1_200, "bases": 34_567, "windows": 2_000, "training_windows": 1_800, "validation_windows": 150}
    left_out = {"duplicate_windows": 1_050, "ends_too_short": 0, "records_too_short": 3}
    found = account(Windows([], None, np.zeros(0, dtype=bool), Counter(counts | left_out)))
    assert found == [
        "Read 1,200 records of 34,567 bases: 2,000 windows, 1,800 to train on and 150 to validate with",
        "records left out that have under 20 bases: 3",
        "windows left out that repeat another or its reverse complement: 1,050",
    ]


def test_the_fingerprint_is_of_bases_sides_and_weights() -> None:
    weights = [np.ones(4, dtype=np.float32), np.ones(4, dtype=np.float32)]
    usual = windows(b"ACGT", b"GGTA", weights=weights)
    others = [
        windows(b"ACGT", b"GGTA"),
        windows(b"ACGT", b"GGTC", weights=weights),
        windows(b"ACGTG", b"GTA", weights=weights),
        windows(b"ACGT", b"GGTA", validates=1, weights=weights),
        windows(b"ACGT", b"GGTA", weights=[weights[0], weights[0] / 2]),
    ]
    assert len({fingerprint(usual), *map(fingerprint, others)}) == 6
    assert fingerprint(windows(b"ACGT", b"GGTA", weights=weights, records=7)) == fingerprint(usual)
