from pathlib import Path

from dnalm.formats.bedgraph import BasewiseTrack
from dnalm.methods.intervals import Intervals


def test_a_track_is_sorted_and_tells_each_base_once(tmp_path: Path) -> None:
    track = BasewiseTrack(Intervals([("b", 5, 8), ("a", 100, 102), ("b", 0, 2), ("b", 6, 9)]))
    for contig, position, value in [("b", 8, 3), ("b", 5, -1.25), ("a", 101, 1e-7), ("b", 0, 2), ("b", 5, -1.25)]:
        track.set(contig, position, value)
    track.write(tmp_path / "track", ["a", "b", "c"])
    assert (tmp_path / "track").read_text() == "a\t101\t102\t1e-07\nb\t0\t1\t2\nb\t5\t6\t-1.25\nb\t8\t9\t3\n"
