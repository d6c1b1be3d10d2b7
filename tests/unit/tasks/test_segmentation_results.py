"""What becomes of probabilities: segments, statuses, a summary, and what each writer is given."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyBigWig
import pytest
from dnalm.formats.contigs import Contig
from dnalm.formats.probabilities_file import ProbabilitiesWriter
from dnalm.formats.segment_files import SegmentWriter
from dnalm.formats.tables import TableWriter
from dnalm.formats.tracks import TracksWriter
from dnalm.methods.segments import Calling
from dnalm.report.segment_plot import RegionPicture
from dnalm.tasks import segmentation_results
from dnalm.tasks.segmentation_results import Results, Target, lengths_of
from numpy.typing import NDArray

CALLINGS = {"CDS": Calling(0.5, 0.5), "long tRNA": Calling(0.6, 0.3, min_length=2)}


def contig(name: str, length: int, *n_runs: tuple[int, int]) -> Contig:
    return Contig(name, length, np.array(n_runs, dtype=np.uint32).reshape(-1, 2), 0, 0, 0)


def rows(*values: tuple[float, float]) -> NDArray[np.float32]:
    """Return probabilities of bases in a row: of CDS, of long tRNA."""
    return np.array(values, dtype=np.float32)


def summary(path: Path) -> list[dict[str, str]]:
    header, *lines = [line.split("\t") for line in path.read_text().splitlines()]
    return [dict(zip(header, line, strict=True)) for line in lines]


def results(
    *,
    tracks: TracksWriter | None = None,
    calls: SegmentWriter | None = None,
    table: TableWriter | None = None,
    picture: RegionPicture | None = None,
    probabilities: ProbabilitiesWriter | None = None,
) -> Results:
    return Results(CALLINGS, tracks, calls, table, picture, probabilities)


# A contig of 9 bases whose fifth is N, of which all but the N has probabilities, in three parts.
CHROMOSOME = contig("chr1", 9, (4, 5))
PARTS = [
    (0, rows((0.9, 0.2), (0.7, 0.4))),
    (2, rows((0.2, 0.7), (0.1, 0.1))),
    (5, rows((0.5, 0.6), (0.4, 0.2), (0.8, 0.3), (0.6, 0.9))),
]


def add_chromosome(found: Results) -> None:
    found.begin(Target("chr1", CHROMOSOME, 0, 9))
    for start, probabilities in PARTS:
        found.add(start, probabilities)
    found.end(n_windows=3)


def test_a_target_knows_its_n_and_whether_it_is_a_whole_contig() -> None:
    gappy = contig("chr1", 100, (0, 10), (40, 50), (60, 61))
    assert Target("chr1", gappy, 0, 100).n == 21
    assert Target("x", gappy, 5, 45).n == 5 + 5
    assert Target("x", gappy, 10, 40).n == 0
    assert Target("x", contig("chr2", 5), 0, 5).n == 0
    assert Target("chr1", gappy, 0, 100).is_whole
    assert not Target("x", gappy, 0, 99).is_whole
    assert not Target("x", gappy, 1, 100).is_whole


def test_segments_go_over_the_borders_of_parts_and_not_over_gaps() -> None:
    """By hand: CDS at 0-2, 5-6, 7-9; tRNA at 1-3 and 7-9, while the single base 5 is too short."""
    with results() as found:
        add_chromosome(found)
    assert found.segments.tolist() == [3, 2]
    assert found.segment_bases.tolist() == [2 + 1 + 2, 2 + 2]
    assert found.counts == {"targets": 1, "bases": 9, "bases_with_data": 8, "windows": 3, "gaps_targets": 1}


def test_calls_are_sorted_by_position_and_named_by_their_contig(tmp_path: Path) -> None:
    with results(calls=SegmentWriter(tmp_path / "calls", list(CALLINGS), ["#000000", "#0000FF"], "bed")) as found:
        add_chromosome(found)
    lines = [line.split("\t") for line in (tmp_path / "calls").read_text().splitlines()]
    assert [line[:5] for line in lines] == [
        ["chr1", "0", "2", "CDS", "800"],
        ["chr1", "1", "3", "long_tRNA", "550"],
        ["chr1", "5", "6", "CDS", "500"],
        ["chr1", "7", "9", "CDS", "700"],
        ["chr1", "7", "9", "long_tRNA", "600"],
    ]


def test_the_summary_has_a_row_and_a_status_for_each_target(tmp_path: Path) -> None:
    targets: Sequence[tuple[Target, NDArray[np.float32] | None]] = [
        (Target("two:0-2", contig("two", 4), 0, 2), rows((0.9, 0.9), (0.9, 0.9))),
        (Target("short", contig("short", 3, (0, 1)), 0, 3), None),
        (Target("n:1-3", contig("n", 4, (1, 3)), 1, 3), None),
    ]
    with results(table=TableWriter(tmp_path / "summary")) as found:
        add_chromosome(found)
        for target, probabilities in targets:
            found.begin(target)
            if probabilities is not None:
                found.add(target.start, probabilities)
            found.end(n_windows=int(probabilities is not None))
        found.finish({})
    columns = ("id", "contig", "start", "end", "status", "length", "n", "with_data", "n_windows", "segments")
    names = (*columns, "bases_in_CDS", "bases_in_long_tRNA")
    table = summary(tmp_path / "summary")
    assert [tuple(row) for row in table] == [names] * 4
    assert [" ".join(row.values()) for row in table] == [
        "chr1 chr1 0 9 gaps 9 1 8 3 5 5 4",
        "two:0-2 two 0 2 ok 2 0 2 1 2 2 2",
        "short short 0 3 too_short 3 1 0 0 0 0 0",
        "n:1-3 n 1 3 all_n 2 2 0 0 0 0 0",
    ]
    assert {name: count for name, count in found.counts.items() if name.endswith("_targets")} == {
        **dict.fromkeys(("gaps_targets", "ok_targets", "too_short_targets", "all_n_targets"), 1)
    }
    assert found.segments.tolist() == [4, 3]


def test_a_summary_longer_than_what_is_held_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmentation_results, "SUMMARY_ROWS", 2)
    with results(table=TableWriter(tmp_path / "summary")) as found:
        for number in range(5):
            found.begin(Target(f"x{number}", contig(f"x{number}", 1), 0, 1))
            found.end(0)
        found.finish({})
    assert [row["id"] for row in summary(tmp_path / "summary")] == ["x0", "x1", "x2", "x3", "x4"]


def test_probabilities_and_tracks_have_no_data_where_there_was_none(tmp_path: Path) -> None:
    (tmp_path / "tracks").mkdir()
    tracks = TracksWriter(tmp_path / "tracks", list(CALLINGS), lengths_of([CHROMOSOME]), decimals=1, threads=1)
    archive = ProbabilitiesWriter(tmp_path / "npz", list(CALLINGS))
    with results(tracks=tracks, probabilities=archive) as found:
        add_chromosome(found)
        found.finish({"tool": "test"})
    expected = np.full((9, 2), np.nan, dtype=np.float32)
    for start, probabilities in PARTS:
        expected[start : start + len(probabilities)] = probabilities
    with np.load(tmp_path / "npz") as stored:
        np.testing.assert_array_equal(stored["chr1"], expected)
        assert stored["provenance"].item() == '{"tool": "test"}'
    for column, name in enumerate(("CDS", "long_tRNA")):
        with pyBigWig.open(str(tmp_path / "tracks" / f"{name}.bw")) as track:
            np.testing.assert_allclose(track.values("chr1", 0, 9, numpy=True), expected[:, column], atol=1e-6)


def test_a_picture_gets_what_lies_on_its_contig_alone() -> None:
    picture, expected = (RegionPicture("chr1", 0, 9, list(CALLINGS), (0.5, 0.6)) for _ in range(2))
    with results(picture=picture) as found:
        add_chromosome(found)
        found.begin(Target("chr2", contig("chr2", 9), 0, 9))
        found.add(0, rows(*[(0.9, 0.9)] * 9))
        found.end(1)
    assert picture.segments == [[(0, 2), (5, 6), (7, 9)], [(1, 3), (7, 9)]]
    for start, probabilities in PARTS:
        expected.add(start, probabilities)
    expected.segments = picture.segments
    np.testing.assert_equal(vars(picture), vars(expected))


def test_lengths_are_told_by_name_in_order() -> None:
    assert list(lengths_of([contig("b", 2), contig("a", 10)]).items()) == [("b", 2), ("a", 10)]
