"""Annotations of every format."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from dnalm.errors import UserError
from dnalm.formats.annotations import contigs_in_common, read_annotation
from dnalm.formats.segment_files import SegmentWriter

GTF = """#comment
chr1\tHAVANA\tgene\t11\t100\t.\t+\t.\tgene_id "a"; gene_type "protein_coding";
chr1\tHAVANA\texon\t11\t20\t.\t+\t.\tgene_id "a";
chr1\tHAVANA\texon\t15\t30\t.\t-\t.\tgene_id "a";
chr1\tHAVANA\texon\t31\t40\t.\t+\t.\tgene_id "a";
chr2\tEnsembl\tgene\t1\t5\t.\t+\t.\tgene_id "b"; gene_biotype "lincRNA";
"""
GFF3 = """##gff-version 3
chr1\tRefSeq\tfive_prime_UTR\t1\t10\t.\t+\t.\tID=x
chr1\tDNA-LM\tgene\t21\t30\t0.9\t.\t.\tID=segment_1;Name=protein_coding_gene;highest=0.9
chr1\tRefSeq\ttRNA_gene\t31\t40\t.\t+\t.\tID=y;gene_biotype=tRNA
##FASTA
>chr1
ACGT
"""
BED = "track name=x\nchr1\t5\t10\texon\nchr1\t0\t6\texon\t0\t-\n"


def spans(text: str, tmp_path: Path, *features: str) -> dict[str, dict[str, list[list[int]]]]:
    (tmp_path / "a").write_text(text)
    found = read_annotation(tmp_path / "a", list(features) or None).spans
    return {contig: {name: where.tolist() for name, where in inside.items()} for contig, inside in found.items()}


def test_gtf_is_of_features_and_of_kinds_of_genes(tmp_path: Path) -> None:
    assert spans(GTF, tmp_path, "exon", "protein_coding_gene", "lncRNA", "intron") == {
        "chr1": {"protein_coding_gene": [[10, 100]], "exon": [[10, 40]]},
        "chr2": {"lncRNA": [[0, 5]]},
    }
    assert spans(GTF, tmp_path, "gene") == {"chr1": {"gene": [[10, 100]]}, "chr2": {"gene": [[0, 5]]}}


def test_gff3_goes_by_synonyms_and_by_our_own_names(tmp_path: Path) -> None:
    assert spans(GFF3, tmp_path, "5UTR", "protein_coding_gene", "tRNA") == {
        "chr1": {"5UTR": [[0, 10]], "protein_coding_gene": [[20, 30]], "tRNA": [[30, 40]]}
    }


CIRCULAR = "NC_1\tx\tregion\t1\t100\t.\t+\t.\tID=c;Is_circular=true\n"
OVER = "NC_1\tx\tCDS\t95\t108\t.\t+\t.\tID=a\n"


@pytest.mark.parametrize("text", [CIRCULAR + OVER, OVER + CIRCULAR])
def test_a_feature_over_the_origin_of_a_circular_contig_has_two_parts(tmp_path: Path, text: str) -> None:
    assert spans(text, tmp_path, "CDS") == {"NC_1": {"CDS": [[0, 8], [94, 100]]}}
    assert read_annotation(tmp_path / "a", ["CDS"]).furthest == {"NC_1": 100}
    assert read_annotation(tmp_path / "a", ["CDS"]).lines == {"CDS": 1}


def test_a_feature_behind_the_end_of_a_contig_is_not_turned_around(tmp_path: Path) -> None:
    assert spans(OVER, tmp_path, "CDS") == {"NC_1": {"CDS": [[94, 108]]}}
    (tmp_path / "a").write_text(CIRCULAR + OVER.replace("108", "208"))
    with pytest.raises(UserError, match="ends at 208 of 'NC_1', which ends at 100"):
        contigs_in_common(read_annotation(tmp_path / "a", ["CDS"]), {"NC_1": 100}, "a")


def test_segments_of_any_name_are_read_as_they_were_called(tmp_path: Path) -> None:
    found = np.array([[3.0, 9.0, 0.0, 5.0, 0.9]])
    for kind in ("bed", "gff3"):
        with SegmentWriter(tmp_path / kind, ["5'UTR;%"], ["#000000"], kind) as writer:
            writer.append(0, found)
            writer.end("a/b;c%2F")
        calls = read_annotation(tmp_path / kind)
        assert calls.of("a/b;c%2F", "5'UTR;%").tolist() == [[3, 9]]


def test_bed_goes_by_names(tmp_path: Path) -> None:
    assert spans(BED, tmp_path) == {"chr1": {"exon": [[0, 10]]}}
    (tmp_path / "b.gz").write_bytes(gzip.compress(BED.encode()))
    assert read_annotation(tmp_path / "b.gz").lines == {"exon": 2}


def test_contigs_go_by_the_names_of_the_sequences(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(
        "".join(f"{name}\t0\t{end}\texon\n" for name, end in (("1", 5), ("chr2", 6), ("MT", 7)))
    )
    found = read_annotation(tmp_path / "a").under_names({"chr1": 10, "2": 10, "chrM": 10})
    assert found.furthest == {"chr1": 5, "2": 6, "chrM": 7}
    assert {contig: inside["exon"].tolist() for contig, inside in found.spans.items()} == {
        "chr1": [[0, 5]],
        "2": [[0, 6]],
        "chrM": [[0, 7]],
    }
    (tmp_path / "a").write_text("chr1\t0\t5\texon\n1\t0\t6\texon\nM\t0\t7\texon\nMT\t0\t8\texon\n")
    found = read_annotation(tmp_path / "a").under_names({"chr1": 10, "chrM": 10})
    assert found.furthest == {"chr1": 5, "1": 6, "chrM": 7, "MT": 8}  # two are never made one


def test_what_is_no_wanted_feature_is_counted(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(GTF)
    found = read_annotation(tmp_path / "a", ["exon"])
    assert found.lines == {"exon": 3}
    assert found.others == {"gene": 2}
    assert found.furthest == {"chr1": 100, "chr2": 5}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("chr1\t1\t2\n", "Line 1 of 'a' has no name"),
        ("chr1\tx\t2\texon\n", "Line 1 of 'a' has 'x' where a position should be"),
        ("chr1\t5\t5\texon\n", "feature of length 0"),
        ("chr1\t-1\t5\texon\n", "outside of the contig"),
        ("chr1\t1\t5\t \n", "has no name"),
        ("#nothing\n\n", "has no feature"),
        ("", "has no feature"),
        ("chr1\ts\texon\t5\t4\t.\t+\t.\tx\n", "feature of length 0"),
        (">chr1\nACGT\n", "Line 1 of 'a' is not a feature: >chr1"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        spans(text, tmp_path)


def test_binary_and_broken_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"chr1\t\x00")
    (tmp_path / "b").write_bytes(gzip.compress(BED.encode() * 100)[:-20])
    with pytest.raises(UserError, match="Line 1 of 'a' has a NUL byte"):
        read_annotation(tmp_path / "a")
    with pytest.raises(UserError, match=r"The compressed file 'b' is damaged or cut short after line \d+"):
        read_annotation(tmp_path / "b")
    with pytest.raises(UserError, match="not a regular file"):
        read_annotation(tmp_path)


def test_an_annotation_of_another_genome_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(BED)
    annotation = read_annotation(tmp_path / "a")
    assert contigs_in_common(annotation, {"chr2": 5, "chr1": 10}, "a") == ["chr1"]
    with pytest.raises(UserError, match=r"shares no contig with the sequences \(chr1 … against 1 …\)"):
        contigs_in_common(annotation, {"1": 10}, "a")
    with pytest.raises(UserError, match="ends at 10 of 'chr1', which ends at 9"):
        contigs_in_common(annotation, {"chr1": 9}, "a")
