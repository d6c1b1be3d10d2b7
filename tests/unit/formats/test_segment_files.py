"""Called segments as BED and GFF3, line by line."""

from pathlib import Path

import numpy as np
import pytest
from dnalm.formats import segment_files
from dnalm.formats.segment_files import SegmentFormat, SegmentWriter
from dnalm.methods.segments import Segments

FEATURES, COLORS = ["splice donor", "5'UTR;%", "exon"], ["#0a80FF", "#000000", "#010203"]


def segments(*rows: tuple[float, ...]) -> Segments:
    """Return rows of start, end, the sums before and after, and the highest probability."""
    return np.array(rows, dtype=np.float64)


def write(path: Path, kind: SegmentFormat) -> list[str]:
    with SegmentWriter(path, FEATURES, COLORS, kind) as writer:
        writer.append(1, segments((3, 7, 1.0, 4.0, 0.9)))
        writer.append(0, segments((0, 10, 0.0, 9.996, 1.0), (20, 21, 12.0, 12.5, 0.5)))
        writer.append(2, segments((20, 22, 0.0, 2.0, 1.0)))
        writer.append(1, segments((20, 22, 4.0, 5.0, 0.5)))
        writer.end("chr 1;b")
        writer.append(0, segments((5, 6, 0.0, 0.25, 0.25)))
        writer.end("chr1")
        writer.end("chr2")
    return path.read_text().splitlines()


def test_bed_has_the_mean_probability_as_score_and_the_features_color(tmp_path: Path) -> None:
    assert write(tmp_path / "s.bed", "bed") == [
        "chr 1;b\t0\t10\tsplice_donor\t1000\t.\t0\t10\t10,128,255",
        "chr 1;b\t3\t7\t5'UTR;%\t750\t.\t3\t7\t0,0,0",
        "chr 1;b\t20\t21\tsplice_donor\t500\t.\t20\t21\t10,128,255",
        "chr 1;b\t20\t22\t5'UTR;%\t500\t.\t20\t22\t0,0,0",
        "chr 1;b\t20\t22\texon\t1000\t.\t20\t22\t1,2,3",
        "chr1\t5\t6\tsplice_donor\t250\t.\t5\t6\t10,128,255",
    ]


def test_gff3_counts_from_one_and_quotes_what_it_must(tmp_path: Path) -> None:
    assert write(tmp_path / "s.gff3", "gff3") == [
        "##gff-version 3",
        "chr%201%3Bb\tDNA-LM\tsequence_feature\t1\t10\t0.9996\t.\t.\tID=segment_1;Name=splice donor;highest=1.0000",
        "chr%201%3Bb\tDNA-LM\tsequence_feature\t4\t7\t0.7500\t.\t.\tID=segment_2;Name=5%27UTR%3B%25;highest=0.9000",
        "chr%201%3Bb\tDNA-LM\tsequence_feature\t21\t21\t0.5000\t.\t.\tID=segment_3;Name=splice donor;highest=0.5000",
        "chr%201%3Bb\tDNA-LM\tsequence_feature\t21\t22\t0.5000\t.\t.\tID=segment_4;Name=5%27UTR%3B%25;highest=0.5000",
        "chr%201%3Bb\tDNA-LM\texon\t21\t22\t1.0000\t.\t.\tID=segment_5;Name=exon;highest=1.0000",
        "chr1\tDNA-LM\tsequence_feature\t6\t6\t0.2500\t.\t.\tID=segment_6;Name=splice donor;highest=0.2500",
    ]


@pytest.mark.parametrize(
    ("feature", "term"),
    [
        ("protein_coding_gene", "gene"),
        ("5UTR", "five_prime_UTR"),
        ("splice_acceptor", "three_prime_cis_splice_site"),
        ("enhancer_Tissue_invariant", "enhancer"),
        ("tRNA", "tRNA"),
        ("my own", "sequence_feature"),
    ],
)
def test_features_have_their_term_of_the_sequence_ontology(tmp_path: Path, feature: str, term: str) -> None:
    with SegmentWriter(tmp_path / "s", [feature], ["#000000"], "gff3") as writer:
        writer.append(0, segments((0, 1, 0, 1, 1)))
        writer.end("chr1")
    assert (tmp_path / "s").read_text().splitlines()[1].split("\t")[2] == term


@pytest.mark.parametrize(("held", "at_once"), [(1, 1), (100, 3), (1 << 16, 1_024)])
def test_what_waits_on_disk_is_written_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: int, at_once: int
) -> None:
    monkeypatch.setattr(segment_files, "HELD_IN_MEMORY", held)
    monkeypatch.setattr(segment_files, "READ_AT_ONCE", at_once)
    starts = {feature: np.arange(50) * 10 + feature for feature in (0, 1)}
    with SegmentWriter(tmp_path / "s", FEATURES, COLORS, "bed") as writer:
        for feature, places in starts.items():
            for part in np.split(places, 5):
                writer.append(feature, segments(*((start, start + 2, 0, 1, 1) for start in part)))
        writer.end("chr1")
    found = [line.split("\t")[1:4] for line in (tmp_path / "s").read_text().splitlines()]
    expected = [(10 * number + feature, FEATURES[feature]) for number in range(50) for feature in (0, 1)]
    assert found == [[str(start), str(start + 2), "_".join(name.split())] for start, name in expected]


@pytest.mark.parametrize(("kind", "content"), [("bed", ""), ("gff3", "##gff-version 3\n")])
def test_no_segments_leave_a_valid_file(tmp_path: Path, kind: SegmentFormat, content: str) -> None:
    with SegmentWriter(tmp_path / "s", FEATURES, COLORS, kind) as writer:
        writer.end("chr1")
    assert (tmp_path / "s").read_text() == content
