"""Tracks of shards merged base by base."""

import resource
from pathlib import Path

import numpy as np
import pyBigWig
import pytest
from dnalm.errors import UserError
from dnalm.formats import merged_tracks
from dnalm.formats.bigwig import BigWigWriter, Chromosomes
from dnalm.formats.merged_tracks import merge_bigwigs

Parts = dict[str, tuple[int, list[float]]]  # contig → where its values start, and its values
LENGTHS = {"chr2": 12, "chr1": 9}


def track(path: Path, parts: Parts, lengths: dict[str, int] | None = None) -> Path:
    with BigWigWriter(path, Chromosomes(lengths or LENGTHS)) as writer:
        for contig, (start, values) in parts.items():
            writer.append(contig, start, np.array(values, dtype=np.float32))
        writer.finish()
    return path


@pytest.mark.parametrize("stretch", [1, 5, 1 << 20])
def test_every_base_has_the_value_of_the_shard_that_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stretch: int
) -> None:
    monkeypatch.setattr(merged_tracks, "STRETCH", stretch)
    shards = [
        track(tmp_path / "a", {"chr2": (4, [0.5, 0.25, 0])}),
        track(tmp_path / "b", {"chr2": (0, [1, 2, 3]), "chr1": (8, [-7])}),
        track(tmp_path / "c", {"chr2": (7, [4])}),
    ]
    merged = merge_bigwigs(shards, tmp_path / "m")
    assert (merged.records, merged.unit, merged.notes) == ([3, 4, 1], "values", [])
    with pyBigWig.open(str(tmp_path / "m")) as file:
        assert file.chroms() == LENGTHS
        found = file.values("chr2", 0, 12, numpy=True)
        np.testing.assert_array_equal(found, [1, 2, 3, np.nan, 0.5, 0.25, 0, 4, *[np.nan] * 4])
        np.testing.assert_array_equal(file.values("chr1", 0, 9, numpy=True), [np.nan] * 8 + [-7])


def test_contigs_come_in_the_order_in_which_shards_have_them(tmp_path: Path) -> None:
    shards = [
        track(tmp_path / "a", {"z": (0, [1])}, {"z": 5}),
        track(tmp_path / "b", {"a": (0, [2])}, {"z": 5, "a": 7}),
        track(tmp_path / "c", {"b": (2, [3])}, {"b": 6}),
    ]
    merge_bigwigs(shards, tmp_path / "m")
    track(tmp_path / "whole", {"z": (0, [1]), "a": (0, [2]), "b": (2, [3])}, {"z": 5, "a": 7, "b": 6})
    assert (tmp_path / "m").read_bytes() == (tmp_path / "whole").read_bytes()


def test_two_values_of_one_base_are_refused_with_the_position(tmp_path: Path) -> None:
    shards = [track(tmp_path / "a", {"chr1": (2, [1, 1, 1])}), track(tmp_path / "b", {"chr1": (4, [1, 1])})]
    pattern = r"Shard 2 \('b'\) has a value at chr1:5, where a shard before it has one too; merge shards that do not"
    with pytest.raises(UserError, match=pattern):
        merge_bigwigs(shards, tmp_path / "m")


def test_contigs_of_another_length_are_refused(tmp_path: Path) -> None:
    shards = [track(tmp_path / "a", {}, {"chr1": 9_000}), track(tmp_path / "b", {}, {"chr1": 9_001})]
    pattern = r"Shard 2 \('b'\) has the contig 'chr1' with 9,001 bases, the shards before it with 9,000"
    with pytest.raises(UserError, match=pattern):
        merge_bigwigs(shards, tmp_path / "m")


@pytest.mark.parametrize("content", [b"", b"chr1\t0\t10\n", b"\x26\xfc\x8f\x88 and no more"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "b").write_bytes(content)
    with pytest.raises(UserError, match=r"Shard 2 \('b'\) is a damaged bigWig file\. Make or upload it again"):
        merge_bigwigs([track(tmp_path / "a", {}), tmp_path / "b"], tmp_path / "m")


def test_a_bigbed_file_is_refused(tmp_path: Path) -> None:
    """It differs from a bigWig by its first bytes, and the library opens both."""
    path = track(tmp_path / "a", {"chr1": (0, [1])})
    path.write_bytes(b"\xeb\xf2\x89\x87" + path.read_bytes()[4:])
    with pytest.raises(UserError, match=r"Shard 1 \('a'\) is a damaged bigWig file"):
        merge_bigwigs([path], tmp_path / "m")


def test_more_tracks_than_files_may_be_open_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merged_tracks, "SPARE_FILES", resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 2)
    shards = [track(tmp_path / str(number), {"chr1": (number, [1])}) for number in range(3)]
    assert merge_bigwigs(shards[:2], tmp_path / "m").records == [1, 1]
    with pytest.raises(UserError, match="At most 2 tracks are merged at once here; merge the 3 in steps"):
        merge_bigwigs(shards, tmp_path / "m")
