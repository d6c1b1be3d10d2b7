"""Probabilities of tracks, read by position."""

from pathlib import Path

import numpy as np
import pytest
from dnalm.errors import UserError
from dnalm.formats.bigwig import BigWigWriter, Chromosomes
from dnalm.formats.track_reader import TracksReader

LENGTHS = {"chr2": 10, "chr1": 40}


def track(path: Path, start: int, values: list[float], lengths: dict[str, int] | None = None) -> Path:
    """Write a track with values of chr1 alone."""
    with BigWigWriter(path, Chromosomes(lengths or LENGTHS)) as writer:
        writer.append("chr1", start, np.array(values, dtype=np.float32))
        writer.finish()
    return path


def test_values_are_read_by_feature_and_position(tmp_path: Path) -> None:
    paths = {"exon": track(tmp_path / "a", 2, [0, 0.5, 1]), "intron": track(tmp_path / "b", 3, [0.25])}
    with TracksReader(paths) as tracks:
        assert tracks.lengths == LENGTHS
        found = tracks.values("exon", "chr1", 1, 6)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, [np.nan, 0, 0.5, 1, np.nan])
        np.testing.assert_array_equal(tracks.values("intron", "chr1", 2, 5), [np.nan, 0.25, np.nan])
        assert np.isnan(tracks.values("exon", "chr2", 0, 10)).all()


def test_no_tracks_have_no_contigs() -> None:
    with TracksReader({}) as tracks:
        assert tracks.lengths == {}


@pytest.mark.parametrize(("value", "said"), [(1.5, "1.5"), (-0.25, "-0.25"), (float("inf"), "inf")])
def test_a_value_that_is_no_probability_is_named_by_its_position(tmp_path: Path, value: float, said: str) -> None:
    path = track(tmp_path / "x.bw", 10, [0.5, value, 0.5, 7])
    with TracksReader({"exon": path}) as tracks:
        assert tracks.values("exon", "chr1", 0, 11)[10] == 0.5
        with pytest.raises(UserError, match=f"'x.bw' has the value {said} at chr1:12, which is no probability"):
            tracks.values("exon", "chr1", 5, 20)


@pytest.mark.parametrize("lengths", [{"chr2": 10, "chr1": 41}, {"chr1": 40}, {"chr2": 10, "chr1": 40, "chrM": 1}])
def test_tracks_of_other_genomes_are_refused(tmp_path: Path, lengths: dict[str, int]) -> None:
    paths = {"exon": track(tmp_path / "a", 0, [1]), "intron": track(tmp_path / "b.bw", 0, [1], lengths)}
    with pytest.raises(UserError, match=r"'b.bw' has other contigs, or of other lengths, than the first"):
        TracksReader(paths)


@pytest.mark.parametrize("content", [b"", b"chr1\t0\t10\n", b"\x89HDF\r\n\x1a\n"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.bw").write_bytes(content)
    with pytest.raises(UserError, match=r"'x.bw' is damaged, or not a bigWig\. Make or upload it again"):
        TracksReader({"exon": track(tmp_path / "a", 0, [1]), "intron": tmp_path / "x.bw"})


def test_a_missing_or_cut_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cut").write_bytes(track(tmp_path / "whole", 0, [1]).read_bytes()[:40])
    for name, sentence in {"absent": "does not exist. Check its name", "cut": "is damaged, or not a bigWig"}.items():
        with pytest.raises(UserError, match=f"{name}' {sentence}"):
            TracksReader({"exon": tmp_path / name})


def test_damaged_values_are_refused(tmp_path: Path) -> None:
    """The header and the list of contigs are intact, the compressed values are not."""
    path = track(tmp_path / "x.bw", 0, np.random.default_rng(0).random(40).tolist())
    content = bytearray(path.read_bytes())
    (offset,) = np.frombuffer(content, "<u8", 1, offset=16)  # of the data, in the header
    content[offset + 8 + 2 : offset + 8 + 60] = b"\xff" * 58
    path.write_bytes(content)
    with (
        TracksReader({"exon": path}) as tracks,
        pytest.raises(UserError, match=r"'x.bw' is damaged at chr1:1-40\. Make or upload it again"),
    ):
        tracks.values("exon", "chr1", 0, 40)
