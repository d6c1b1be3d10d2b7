"""From a genome and its annotation to windows: no N, blocks of test and validation with gaps, and user errors."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TEST_DATA
from dnalm.errors import UserError
from dnalm.formats.reference import Reference
from dnalm.tasks import segment_finetuning_data
from dnalm.tasks.segment_finetuning_data import TEST, TRAINING, VALIDATION, SegmentData, read_data
from dnalm.tasks.segment_finetuning_options import SegmentFinetuningOptions

MITOCHONDRION, FEATURES = TEST_DATA / "human_mitochondrion.fasta", TEST_DATA / "mitochondrial_features.bed"
RANDOM = TEST_DATA / "random_model.safetensors"
LENGTH, WINDOW = 12_000, 120


@pytest.fixture
def genome(tmp_path: Path) -> tuple[Path, Path]:
    """A genome of random bases, and a BED with an island of 40 to 160 bases about every 200 bases."""
    generator = np.random.default_rng(0)
    bases = "".join(generator.choice(list("ACGT"), LENGTH))
    lengths = generator.integers(40, 160, LENGTH // 200).tolist()
    lines = [f"chr1\t{200 * number}\t{200 * number + length}\tisland\n" for number, length in enumerate(lengths)]
    (tmp_path / "g.fasta").write_text(f">chr1\n{bases}\n>chr2\n{'ACGT' * 100}\n")
    (tmp_path / "g.bed").write_text("".join(lines))
    return tmp_path / "g.fasta", tmp_path / "g.bed"


@pytest.fixture
def data_of(genome: tuple[Path, Path], tmp_path: Path) -> Callable[..., SegmentData]:
    options = SegmentFinetuningOptions(RANDOM, *genome, output=tmp_path / "m", window=WINDOW)
    return lambda **changes: read_data(replace(options, **changes), 12, None)


def spans(places: np.ndarray) -> list[tuple[int, int]]:
    return [(start - left, start + WINDOW + right) for _, start, left, right in places.tolist()]


def test_no_base_is_on_two_sides_and_gaps_lie_between(data_of: Callable[..., SegmentData]) -> None:
    for seed in range(5):
        data = data_of(seed=seed)
        sides = [spans(data.places[side]) for side in (TRAINING, VALIDATION, TEST)]
        for number, own in enumerate(sides):
            for other in sides[number + 1 :]:
                nearest = min(max(start - end2, start2 - end) for start, end in own for start2, end2 in other)
                assert nearest >= WINDOW
        for side in (VALIDATION, TEST):
            starts = sorted(data.places[side][:, 1])
            assert max(np.diff(starts)) == WINDOW  # one block
        assert len(data.places[TRAINING]) > 5 * len(data.places[TEST])


def test_training_windows_move_within_what_they_cover_together(data_of: Callable[..., SegmentData]) -> None:
    data = data_of()
    covered = np.zeros(LENGTH + 1_000, dtype=bool)
    for start in data.places[TRAINING][:, 1]:
        covered[start : start + WINDOW] = True
    for start, end in spans(data.places[TRAINING]):
        assert covered[start:end].all()
    assert data.places[TRAINING][:, 2:].max() == WINDOW // 2


def test_windows_hold_no_n_and_reach_the_ends_of_stretches(tmp_path: Path, data_of: Callable[..., SegmentData]) -> None:
    bases = "N" * 77 + "ACGT" * 500 + "NRN" + "AC" * 30 + "N" + "CAGT" * 600
    (tmp_path / "n.fasta").write_text(f">chr1\n{bases}\n")
    (tmp_path / "n.bed").write_text("".join(f"chr1\t{start}\t{start + 20}\tx\n" for start in range(0, 4_400, 97)))
    data = data_of(genome=tmp_path / "n.fasta", annotation=tmp_path / "n.bed", test_fraction=0.0)
    places = np.concatenate(data.places)
    for contig, start, *_ in places.tolist():
        assert "N" not in data.bases(contig, start, start + WINDOW)
    assert data.counts["n"] == 77 + 3 + 1
    assert data.counts["short"] == 60
    windows = len(places) + data.counts["windows_between"]
    assert windows == -(-2_000 // WINDOW) + -(-2_400 // WINDOW)


def test_regions_bound_what_is_learnt(tmp_path: Path, data_of: Callable[..., SegmentData]) -> None:
    (tmp_path / "r.bed").write_text("chr1\t1000\t5000\nchr1\t3000\t9000\n")
    data = data_of(regions=tmp_path / "r.bed")
    starts = np.concatenate(data.places)[:, 1]
    assert (starts.min(), starts.max()) == (1_000, 9_000 - WINDOW)


def test_contigs_may_have_other_usual_names(
    tmp_path: Path, genome: tuple[Path, Path], data_of: Callable[..., SegmentData]
) -> None:
    usual = data_of()
    (tmp_path / "other.bed").write_text(genome[1].read_text().replace("chr1", "1"))
    (tmp_path / "r.bed").write_text(f"1\t0\t{usual.reference.lengths['chr1']}\n")
    found = data_of(annotation=tmp_path / "other.bed", regions=tmp_path / "r.bed")
    assert found.fingerprint() == usual.fingerprint()


def test_every_side_has_every_feature_where_that_can_be(tmp_path: Path, data_of: Callable[..., SegmentData]) -> None:
    """A rare feature lies at three places alone: blocks are put so that each side has one of them."""
    (tmp_path / "f.bed").write_text(
        "".join(f"chr1\t{start}\t{start + 30}\tcommon\n" for start in range(0, 11_000, 200))
        + "".join(f"chr1\t{start}\t{start + 30}\trare\n" for start in (1_500, 6_000, 10_500))
    )
    for seed in range(3):
        data = data_of(annotation=tmp_path / "f.bed", seed=seed)
        for places in data.places:
            labels = [data.labels(contig, start, start + WINDOW).any(axis=0) for contig, start, *_ in places.tolist()]
            assert np.any(labels, axis=0).tolist() == [True, True]


def test_frequencies_are_those_of_the_training_windows(data_of: Callable[..., SegmentData]) -> None:
    data = data_of()
    labels = [data.labels(contig, start, start + WINDOW) for contig, start, *_ in data.places[TRAINING].tolist()]
    assert data.frequencies == pytest.approx(np.concatenate(labels).mean(axis=0))


def test_a_small_genome_has_small_windows(data_of: Callable[..., SegmentData]) -> None:
    assert data_of(window=None).window == 396  # a thirtieth of it, a multiple of 12
    whole = data_of(window=None, genome=MITOCHONDRION, annotation=FEATURES)
    assert (whole.window, whole.features) == (552, ["CDS", "rRNA", "tRNA"])


def test_contigs_of_the_annotation_that_the_genome_lacks_are_counted(
    tmp_path: Path, genome: tuple[Path, Path], data_of: Callable[..., SegmentData]
) -> None:
    (tmp_path / "more.bed").write_text(genome[1].read_text() + "chr7\t0\t10\tisland\n")
    assert (
        "contigs of the annotation that the genome lacks, left out: 1"
        in data_of(annotation=tmp_path / "more.bed").account()
    )


def test_labels_follow_the_annotation() -> None:
    options = SegmentFinetuningOptions(
        RANDOM, MITOCHONDRION, FEATURES, output=Path("m"), window=600, features="tRNA,CDS"
    )
    data = read_data(options, 12, None)
    found = data.labels(0, 3_200, 3_400)
    assert data.features == ["tRNA", "CDS"]
    assert np.flatnonzero(found[:, 0]).tolist() == list(range(29, 104))
    assert np.flatnonzero(found[:, 1]).tolist() == list(range(106, 200))
    with Reference(MITOCHONDRION) as reference:
        assert data.bases(0, 10, 40) == reference.fetch("human_mitochondrion", 10, 40, "").bases


@pytest.mark.parametrize(
    ("bases", "multiple", "most", "window"),
    [
        (5_000, 12, None, 156),  # a thirtieth are 166 bases
        (5_000, 12, 100, 96),
        (5_000, 12, 1_000, 156),
        (5_000, 200, None, 200),
        (120_000, 7, None, 2_996),  # 3,000 bases at most
    ],
)
def test_the_usual_window_gives_thirty_windows_of_whole_steps(
    tmp_path: Path, bases: int, multiple: int, most: int | None, window: int
) -> None:
    (tmp_path / "x.fasta").write_text(f">chr1\n{'ACGTC' * (bases // 5)}\n")
    (tmp_path / "x.bed").write_text(f"chr1\t0\t{bases}\tx\n")
    options = SegmentFinetuningOptions(RANDOM, tmp_path / "x.fasta", tmp_path / "x.bed", output=tmp_path / "m")
    assert read_data(options, multiple, most).window == window


def test_windows_and_their_room_are_those_worked_out_by_hand(
    tmp_path: Path, data_of: Callable[..., SegmentData]
) -> None:
    """130 bases in windows of 20 have one at 110, which shares bases with that at 100."""
    (tmp_path / "x.fasta").write_text(f">chr1\n{'ACGTC' * 26}\n")
    (tmp_path / "x.bed").write_text("chr1\t0\t65\tx\n")
    sources = {"genome": tmp_path / "x.fasta", "annotation": tmp_path / "x.bed"}
    drawn = (data_of(**sources, window=20, test_fraction=0.0, seed=seed) for seed in range(100))
    data = next(data for data in drawn if data.places[VALIDATION][0, 1] == 60)
    assert data.places[VALIDATION].tolist() == [[0, 60, 0, 0]]
    # The windows at 40 and 80 are the gap. Those left may move by 10 bases within 0 to 40 and 100 to 130.
    assert data.places[TRAINING].tolist() == [[0, 0, 0, 10], [0, 20, 10, 0], [0, 100, 0, 10], [0, 110, 10, 0]]
    assert data.places[TEST].shape == (0, 4)
    assert data.counts["windows_between"] == 2
    assert data.frequencies == [40 / 80]


def test_a_contig_longer_than_a_chunk_is_one_stretch(
    data_of: Callable[..., SegmentData], monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = data_of()
    monkeypatch.setattr(segment_finetuning_data, "CHUNK", 1_000)
    assert data_of().fingerprint() == usual.fingerprint()


def test_the_fingerprint_follows_split_window_bases_and_features(
    genome: tuple[Path, Path], tmp_path: Path, data_of: Callable[..., SegmentData]
) -> None:
    usual = data_of().fingerprint()
    assert data_of().fingerprint() == usual
    (tmp_path / "other.fasta").write_text(genome[0].read_text().replace("A", "C"))
    (tmp_path / "other.bed").write_text(genome[1].read_text().replace("\t0\t", "\t1\t"))
    (tmp_path / "renamed.bed").write_text(genome[1].read_text().replace("island", "islet"))
    changes: list[dict[str, Any]] = [{"seed": 1}, {"window": 132}, {"genome": tmp_path / "other.fasta"}]
    changes += [{"annotation": tmp_path / name} for name in ("other.bed", "renamed.bed")]
    assert len({usual, *(data_of(**change).fingerprint() for change in changes)}) == 6


def test_the_account_has_windows_shares_and_what_was_left_out(
    tmp_path: Path, data_of: Callable[..., SegmentData]
) -> None:
    bases = "ACGT" * 300 + "N" * 5 + "ACGT" * 20
    (tmp_path / "x.fasta").write_text(f">chr1\n{bases}\n>chr2\nACGT\n")
    (tmp_path / "x.bed").write_text("chr1\t0\t1200\tx\nchr1\t0\t10\tother\nchr7\t0\t10\tx\n")
    sources = {"genome": tmp_path / "x.fasta", "annotation": tmp_path / "x.bed"}
    data = data_of(**sources, features="x, ,x", test_fraction=0.0)
    train, left_out = len(data.places[TRAINING]), data.counts["windows_between"]
    assert train + 1 + left_out == 10
    assert data.account() == [
        f"Windows of 120 bases: {train} for training, 1 for validation, 0 for test; left out between them: {left_out}",
        "Share of the training bases in each feature: x 1.0000",
        "bases left out that are N: 5",
        "bases left out because their stretch without N is shorter than a window: 80",
        "contigs left out because the annotation has no line on them: 1",
        "contigs of the annotation that the genome lacks, left out: 1",
        "lines of the annotation that are none of the features: 1",
    ]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"features": " , "}, "The features are empty; name them as the annotation does, separated by commas"),
        ({"features": "island,exon"}, r"The annotation 'g.bed' has no 'exon' \(it has none\)"),
        ({"window": 12_012}, "No stretch without N is as long as a window of 12,012 bases"),
        ({"window": 6_000}, "2 windows are too few to be split in blocks with gaps between them"),
        ({"regions": "chr9\t0\t10\n"}, "Line 1 of 'r.bed' is no part of a contig of 'g.fasta'"),
        ({"regions": "chr1\t0\t900\nchr2\t0\t401\n"}, "Line 2 of 'r.bed' is no part of a contig of 'g.fasta'"),
    ],
)
def test_what_cannot_be_windows_is_refused(
    tmp_path: Path, data_of: Callable[..., SegmentData], changes: dict[str, Any], sentence: str
) -> None:
    if "regions" in changes:
        (tmp_path / "r.bed").write_text(changes["regions"])
        changes = {"regions": tmp_path / "r.bed"}
    with pytest.raises(UserError, match=sentence):
        data_of(**changes)


def test_more_features_than_can_be_learnt_are_refused(
    tmp_path: Path, data_of: Callable[..., SegmentData], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment_finetuning_data, "MOST_FEATURES", 2)
    (tmp_path / "x.bed").write_text("".join(f"chr1\t{start}\t12000\t{name}\n" for start, name in enumerate("abc")))
    with pytest.raises(UserError, match="The annotation has 3 features; name those that are to be learnt"):
        data_of(annotation=tmp_path / "x.bed")
    assert data_of(annotation=tmp_path / "x.bed", features="c,a").features == ["c", "a"]
