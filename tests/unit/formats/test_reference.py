import gzip
import os
import random
from pathlib import Path

import pysam
import pytest
from dnalm.errors import UserError
from dnalm.formats.reference import Reference


def test_a_servers_index_is_used_while_it_is_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "genome.fa"
    path.write_text(">a\nACGTACGT\n>b\nTTTT\n")
    index = tmp_path / "genome.fa.fai"
    index.write_text("a\t8\t3\t8\t9\n")
    with Reference(path) as genome:
        assert genome.lengths == {"a": 8}
    os.utime(index, (0, 0))
    with Reference(path) as genome:
        assert genome.lengths == {"a": 8, "b": 4}
        assert genome.fetch("b", 1, 3, "x").bases == "TT"


@pytest.mark.parametrize("content", [b"", b"no fasta", b">a\nACGT\nAC\nACGT\n"])
def test_what_is_no_genome_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "genome.fa"
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be indexed"), Reference(path) as genome:
        assert genome.lengths


def blocks(text: bytes, folder: Path) -> bytes:
    with pysam.BGZFile(str(folder / "blocks"), "wb", None) as file:
        file.write(text)
    return (folder / "blocks").read_bytes()


@pytest.mark.parametrize("kind", ["gzip, cut", "blocks, cut", "blocks without the last", "no gzip"])
def test_a_compressed_genome_that_is_cut_short_is_said_to_be_so(tmp_path: Path, kind: str) -> None:
    rng = random.Random(5)
    text = b">a\n" + "".join(rng.choices("ACGT", k=200_000)).encode() + b"\n"
    whole = gzip.compress(text) if kind.startswith("gzip") else blocks(text, tmp_path)
    content = b"\x1f\x8bnonsense" if kind == "no gzip" else whole[:-28] if "without" in kind else whole[:-1_000]
    (tmp_path / "genome.fa").write_bytes(content)
    with (
        pytest.raises(UserError, match=r"The compressed file 'genome.fa' is (damaged or )?cut short"),
        Reference(tmp_path / "genome.fa"),
    ):
        pass


def test_a_genome_of_blocks_and_plain_gzip_is_whole(tmp_path: Path) -> None:
    parts = {"a": b">a\n" + b"ACGT" * 10 + b"\n", "b": b">b\n" + b"TTGG" * 20 + b"\n"}
    mixed = (
        blocks(parts["a"], tmp_path) + gzip.compress(parts["b"]),
        gzip.compress(parts["a"]) + blocks(parts["b"], tmp_path),
        blocks(parts["a"], tmp_path)[:-28] + gzip.compress(parts["b"]),
    )
    for content in mixed:
        (tmp_path / "genome.fa").write_bytes(content)
        with Reference(tmp_path / "genome.fa") as genome:
            assert genome.lengths == {"a": 40, "b": 80}
            assert genome.fetch("b", 0, 4, "x").bases == "TTGG"


def test_a_contig_whose_name_is_not_utf_8_is_named_as_the_fault(tmp_path: Path) -> None:
    (tmp_path / "genome.fa").write_bytes(b">gen\xe9 x\nACGT\n")
    with pytest.raises(UserError, match="has a contig whose name is not UTF-8 text"), Reference(tmp_path / "genome.fa"):
        pass


def test_a_genome_that_is_not_as_its_index_says_is_refused_where_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "genome.fa").write_text(">a\nACGTACGT\n")
    (tmp_path / "genome.fa.fai").write_text("a\t800\t3\t8\t9\n")
    with Reference(tmp_path / "genome.fa") as genome, pytest.raises(UserError, match="not as its index says"):
        genome.fetch("a", 700, 720, "x")
