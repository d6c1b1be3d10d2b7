"""Lines of BED, GFF3 and GTF."""

from pathlib import Path

import pytest
from dnalm.errors import UserError
from dnalm.formats.interval_lines import Circular, attribute, is_directive, parts, read_intervals

GENE = "chr1\tx\tgene\t{}\t{}\t.\t+\t.\t{}\n"


def intervals(content: str | bytes, folder: Path) -> list[tuple[str, int, int, int]]:
    (folder / "x.dat").write_bytes(content if isinstance(content, bytes) else content.encode())
    return [
        (line.contig, line.start, line.end, line.number) for line in read_intervals(folder / "x.dat", "BED", "region")
    ]


def test_bed_and_gff_are_told_apart_by_their_columns(tmp_path: Path) -> None:
    text = "chr1\t4\t10\n" + GENE.format(5, 10, "ID=a") + "chr1\t4\t10\ta\t0\t+\t4\t10\t0\n"
    assert intervals(text, tmp_path) == [("chr1", 4, 10, number) for number in (1, 2, 3)]


@pytest.mark.parametrize(
    ("line", "passed_over"),
    [
        ("#chr1\t1\t2", True),
        ("  ", True),
        ("track name=x", True),
        ("track\tname=x", True),
        ("browser position chr1:1-2", True),
        ("track", True),
        ("track1\t5\t10", False),
        ("tracking\t5\t10", False),
        ("browserless\t5\t10", False),
        ("track\t5\t10", False),
        ("chr1\t5\t10", False),
    ],
)
def test_directives_are_whole_words(line: str, passed_over: bool) -> None:
    assert is_directive(line.encode()) is passed_over


def test_sequences_end_a_gff_and_comments_do_not(tmp_path: Path) -> None:
    one = GENE.format(5, 10, "ID=a")
    gff = "##gff-version 3\n" + one
    assert len(intervals(gff + "##FASTA of the protein\n" + one, tmp_path)) == 2
    assert len(intervals(gff + "##FASTA\n>chr1\nACGT\n", tmp_path)) == 1
    assert len(intervals(gff + "##FASTA \r\n>chr1\nACGT\n", tmp_path)) == 1
    assert len(intervals(gff + ">chr1\nACGT\n", tmp_path)) == 1
    assert len(intervals(one + ">chr1\nACGT\n", tmp_path)) == 1
    with pytest.raises(UserError, match=r"Line 2 of 'x.dat' is not a region: >chr1"):
        intervals("chr1\t1\t2\n>chr1\nACGT\n", tmp_path)


def test_a_byte_order_mark_and_latin_1_do_not_matter(tmp_path: Path) -> None:
    assert intervals(b"\xef\xbb\xbfchr1\t1\t2\tgen\xe9\n", tmp_path) == [("chr1", 1, 2, 1)]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("chr1\t1\n", "is not a region"),
        ("chr1\t1.5\t3\n", "has '1.5' where a position should be"),
        ("chr1\t1\t" + "9" * 5_000 + "\n", "where a position should be"),
        ("chr1\t1\t" + "9" * 18 + "\n", "lies outside of the contig"),
        ("chr1\t-1\t3\n", "lies outside of the contig"),
        ("chr1\t3\t3\n", "is a region of length 0"),
        ("\t3\t4\n", "has no contig"),
        (GENE.format(0, 5, "."), "lies outside of the contig"),
        ("", "has no region"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        intervals(text, tmp_path)


def test_attributes_are_found_whatever_their_case(tmp_path: Path) -> None:
    (tmp_path / "x").write_text(GENE.format(1, 5, " Name=n; id=i;odd") + "chr1\t1\t2\n")
    gff, bed = read_intervals(tmp_path / "x", "GFF3")
    assert attribute(gff, "ID", "Name") == "i"
    assert attribute(gff, "name") == "n"
    assert attribute(gff, "odd") == attribute(bed, "ID") == ""


def test_circular_contigs_are_passed_at_their_origin(tmp_path: Path) -> None:
    (tmp_path / "x").write_text(GENE.format(1, 100, "Is_circular=true") + GENE.format(95, 108, "ID=a"))
    circular = Circular()
    for line in read_intervals(tmp_path / "x", "GFF3"):
        circular.learn(line)
    assert circular.lengths == {"chr1": 100}
    assert parts(94, 108, circular.passes_origin("chr1", 94, 108)) == [(94, 100), (0, 8)]
    assert parts(90, 100, circular.passes_origin("chr1", 90, 100)) == [(90, 100)]
    assert circular.passes_origin("chr1", 50, 151) == 0  # more than once around
    assert circular.passes_origin("chr2", 94, 108) == 0
