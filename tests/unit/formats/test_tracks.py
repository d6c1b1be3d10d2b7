"""One bigWig per feature."""

from pathlib import Path

import numpy as np
import pyBigWig
import pytest
from dnalm.formats.tracks import TracksWriter, file_names


def test_tracks_have_the_features_names_and_decimals(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((1_000, 2), dtype=np.float32)
    with TracksWriter(tmp_path, ["exon", "CTCF-bound"], {"a": 1_200}, 2, 2) as tracks:
        tracks.append("a", 100, values[:300])
        tracks.append("a", 400, values[300:])
        tracks.finish()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["CTCF-bound.bw", "exon.bw"]
    with pyBigWig.open(str(tmp_path / "CTCF-bound.bw")) as track:
        found = track.values("a", 0, 1_200, numpy=True)
        assert np.isnan(found[:100]).all()
        assert np.isnan(found[1_100:]).all()
        np.testing.assert_allclose(found[100:1_100], np.round(values[:, 1], 2), atol=1e-7)


def test_each_contig_has_its_own_values(tmp_path: Path) -> None:
    with TracksWriter(tmp_path, ["exon"], {"b": 4, "a": 3}, 4, 1) as tracks:
        tracks.append("b", 1, np.array([[0.5], [0.25]], dtype=np.float32))
        tracks.append("a", 0, np.array([[1], [0], [0.75]], dtype=np.float32))
        tracks.finish()
    with pyBigWig.open(str(tmp_path / "exon.bw")) as track:
        assert track.chroms() == {"b": 4, "a": 3}
        np.testing.assert_array_equal(track.values("b", 0, 4, numpy=True), [np.nan, 0.5, 0.25, np.nan])
        np.testing.assert_array_equal(track.values("a", 0, 3, numpy=True), [1, 0, 0.75])


def test_threads_change_no_byte(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((20_000, 3), dtype=np.float32)
    for threads in (1, 2):
        folder = tmp_path / str(threads)
        folder.mkdir()
        with TracksWriter(folder, list("abc"), {"chr1": 20_000}, 3, threads) as tracks:
            for start in range(0, 20_000, 4_000):
                tracks.append("chr1", start, values[start : start + 4_000])
            tracks.finish()
    for name in ("a.bw", "b.bw", "c.bw"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_of_a_thread_is_raised(tmp_path: Path, threads: int) -> None:
    with TracksWriter(tmp_path, ["a", "b"], {"chr1": 10}, 3, threads) as tracks, pytest.raises(KeyError, match="chr2"):
        tracks.append("chr2", 0, np.zeros((1, 2), dtype=np.float32))


def test_files_are_named_so_that_every_file_system_tells_them_apart() -> None:
    names = file_names(["exon", "Exon", "a/b", "a b", "../x", "…", "5UTR", "x" * 300])
    assert names[:7] == ["exon.bw", "Exon_2.bw", "a_b.bw", "a_b_2.bw", "_x.bw", "_.bw", "5UTR.bw"]
    assert len(names[7]) < 110


def test_a_name_of_nothing_but_dots_becomes_a_word() -> None:
    assert file_names(["..", "", "feature"]) == ["feature.bw", "feature_2.bw", "feature_3.bw"]
