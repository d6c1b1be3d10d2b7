from pathlib import Path

import numpy as np
import pyBigWig
import pytest
from dnalm.formats import bigwig
from dnalm.formats.bigwig import BigWigWriter, Chromosomes
from numpy.typing import NDArray


def write(path: Path, contigs: dict[str, NDArray[np.float32]], chunk: int) -> None:
    """Write values, NaN for none, in chunks that end at gaps and multiples of a number."""
    with BigWigWriter(path, Chromosomes({name: len(values) for name, values in contigs.items()})) as writer:
        for name, values in contigs.items():
            edges = np.flatnonzero(np.diff(~np.isnan(values), prepend=False, append=False)).reshape(-1, 2)
            for start, end in edges.tolist():
                for first in range(start, end, chunk):
                    writer.append(name, first, values[first : min(end, first + chunk)])
        writer.finish()


def random_values(generator: np.random.Generator, length: int) -> NDArray[np.float32]:
    values = generator.random(length, dtype=np.float32)
    for start in generator.integers(0, length, max(1, length // 5_000)):
        values[start : start + int(generator.integers(1, 300))] = np.nan
    return values


@pytest.fixture(scope="module")
def contigs() -> dict[str, NDArray[np.float32]]:
    """Names out of alphabetical order and more of them than a node of a tree holds; lengths from one base up."""
    generator = np.random.default_rng(0)
    lengths = {"chr10|x": 700_000, "chr2": 1, "chrM": 16_569}
    lengths |= {f"scaffold_{number}": int(generator.integers(1, 900)) for number in range(600, 0, -1)}
    return {name: random_values(generator, length) for name, length in lengths.items()}


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [1_000, 1_000_000])
def test_values_are_read_again_by_position(tmp_path: Path, contigs: dict[str, NDArray[np.float32]], chunk: int) -> None:
    write(tmp_path / "x.bw", contigs, chunk)
    with pyBigWig.open(str(tmp_path / "x.bw")) as track:
        assert track.isBigWig()
        assert track.chroms() == {name: len(values) for name, values in contigs.items()}
        for name, values in contigs.items():
            found = track.values(name, 0, len(values), numpy=True).astype(np.float32)
            assert np.array_equal(found, values, equal_nan=True)
        whole = np.concatenate(list(contigs.values()))
        assert track.header()["nBasesCovered"] == (~np.isnan(whole)).sum()
        assert track.header()["sumData"] == int(np.nansum(whole, dtype=np.float64))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mean", "min", "max", "coverage"])
def test_zoom_levels_tell_what_the_values_do(
    tmp_path: Path, contigs: dict[str, NDArray[np.float32]], kind: str
) -> None:
    write(tmp_path / "x.bw", contigs, 5_000)
    with pyBigWig.open(str(tmp_path / "x.bw")) as track:
        assert track.header()["nLevels"] == 5
        for name, values in contigs.items():
            near, exact = (track.stats(name, 0, len(values), type=kind, exact=exact)[0] for exact in (False, True))
            assert near == exact or near == pytest.approx(exact, abs=1e-4)
        # Bins of whole summaries: 64 of the first level each.
        near, exact = (
            np.array(track.stats("chr10|x", 0, 4096 * 128, type=kind, nBins=128, exact=exact), dtype=float)
            for exact in (False, True)
        )
        np.testing.assert_allclose(near, exact, atol=1e-4)


@pytest.mark.slow
def test_the_chunks_do_not_show(tmp_path: Path, contigs: dict[str, NDArray[np.float32]]) -> None:
    write(tmp_path / "a.bw", contigs, 777)
    write(tmp_path / "b.bw", contigs, 1_000_000)
    assert (tmp_path / "a.bw").read_bytes() == (tmp_path / "b.bw").read_bytes()


def test_every_section_of_a_zoom_level_is_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small sections and nodes make trees of several levels of a small file."""
    for name, value in {"SECTION": 16, "ZOOMS_A_SECTION": 4, "NODE": 4, "FIRST_ZOOM": 8}.items():
        monkeypatch.setattr(bigwig, name, value)
    generator = np.random.default_rng(1)
    contigs = {f"c{number}": random_values(generator, int(generator.integers(1, 500))) for number in range(40)}
    write(tmp_path / "x.bw", contigs, 50)
    with pyBigWig.open(str(tmp_path / "x.bw")) as track:
        for name, values in contigs.items():
            assert np.array_equal(
                track.values(name, 0, len(values), numpy=True).astype(np.float32), values, equal_nan=True
            )
            near, exact = (track.stats(name, 0, len(values), exact=exact)[0] for exact in (False, True))
            assert near == exact or near == pytest.approx(exact, abs=1e-4)
