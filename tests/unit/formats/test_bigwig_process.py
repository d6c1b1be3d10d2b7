"""bigWig files are opened if they are such, and if their contigs are of this world."""

from pathlib import Path

import numpy as np
import pytest
from dnalm.formats import bigwig_process
from dnalm.formats.bigwig import BigWigWriter, Chromosomes
from dnalm.formats.bigwig_process import open_file, values
from dnalm.formats.isolated_reader import Refused


def track(path: Path, lengths: dict[str, int]) -> str:
    with BigWigWriter(path, Chromosomes(lengths)) as writer:
        writer.append("b", 3, np.array([0.5, 1], np.float32))
        writer.finish()
    return str(path)


def test_contigs_and_values(tmp_path: Path) -> None:
    number, contigs = open_file(track(tmp_path / "x", {"b": 9, "a": 4})).value
    assert contigs == [["b", 9], ["a", 4]]
    np.testing.assert_array_equal(values(number, "b", 2, 6).arrays[0], [np.nan, 0.5, 1, np.nan])
    assert values(number, "a", 0, 4).arrays == []


@pytest.mark.parametrize("content", [b"", b"chr1\t0\t10\n", b"\xeb\xf2\x89\x87" + bytes(60)])
def test_other_files_are_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    assert open_file(str(tmp_path / "x")).value is None


def test_more_bases_than_any_genome_has_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = track(tmp_path / "x", {"b": 9, "a": 4})
    monkeypatch.setattr(bigwig_process, "MOST_BASES", 12)
    with pytest.raises(Refused, match="claims contigs of 13 bases"):
        open_file(path)
