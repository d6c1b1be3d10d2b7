"""Probabilities per base, gaps filled, in NumPy arrays."""

import json
import resource
from pathlib import Path

import numpy as np
import pytest
from dnalm.formats import probabilities_file
from dnalm.formats.probabilities_file import ProbabilitiesWriter


@pytest.mark.parametrize("rows", [1, 3, 4_096])
def test_bases_without_a_probability_are_nan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(probabilities_file, "EMPTY_ROWS", rows)
    values = np.random.default_rng(0).random((5, 2), dtype=np.float32)
    with ProbabilitiesWriter(tmp_path / "p.npz", ["exon", "5'UTR"]) as writer:
        writer.begin("chr2", 0, 20)
        writer.append(3, values[:2])
        writer.append(5, values[2:4])
        writer.append(14, values[4:])
        writer.end()
        writer.begin("chr1:100-107", 100, 107)  # a region counts from the contig's first base
        writer.append(102, values)
        writer.end()
        writer.finish({"tool": "a test"})
    expected = np.full((20, 2), np.nan, dtype=np.float32)
    expected[3:7], expected[14] = values[:4], values[4]
    with np.load(tmp_path / "p.npz", allow_pickle=False) as arrays:
        assert list(arrays) == ["features", "chr2", "chr1:100-107", "provenance"]
        assert arrays["features"].tolist() == ["exon", "5'UTR"]
        assert arrays["chr2"].dtype == np.float32
        np.testing.assert_array_equal(arrays["chr2"], expected)
        np.testing.assert_array_equal(arrays["chr1:100-107"], np.concatenate([np.full((2, 2), np.nan), values]))
        assert json.loads(str(arrays["provenance"])) == {"tool": "a test"}


def test_a_contig_may_have_no_probability_at_all(tmp_path: Path) -> None:
    with ProbabilitiesWriter(tmp_path / "p.npz", ["exon"]) as writer:
        for name, end in (("chr1", 3), ("empty", 0)):
            writer.begin(name, 0, end)
            writer.end()
        writer.finish({})
    with np.load(tmp_path / "p.npz", allow_pickle=False) as arrays:
        assert np.isnan(arrays["chr1"]).all()
        assert (arrays["chr1"].shape, arrays["empty"].shape) == ((3, 1), (0, 1))


@pytest.mark.parametrize("error", [ZeroDivisionError, None])
def test_an_error_of_closing_the_file_hides_no_other(tmp_path: Path, error: type[Exception] | None) -> None:
    """On a disk that is full, closing the file fails."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(error or OSError), ProbabilitiesWriter(tmp_path / "p.npz", ["exon"]) as writer:
            writer.begin("chr1", 0, 10)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1, limits[1]))
            if error:
                raise error
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
