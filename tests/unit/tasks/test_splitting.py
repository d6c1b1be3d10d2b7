"""Shards of equal cost, in order, with every record in one of them."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pysam
import pytest
from conftest import TEST_DATA, Run
from dnalm.formats.fasta import FastaReader
from dnalm.formats.regions import read_regions

VARIANTS = TEST_DATA / "shards" / "variants.vcf"
Split = Callable[..., tuple[list[Path], pd.DataFrame, str]]


@pytest.fixture
def split(run_tool: Run, tmp_path: Path) -> Split:
    """Split and return the shards' files, the table and what was said."""
    made = 0

    def call(*options: object) -> tuple[list[Path], pd.DataFrame, str]:
        nonlocal made
        made += 1
        folder = tmp_path / f"shards_{made}"
        code, said, error = run_tool("split", *options, "--output-directory", folder, "--table", tmp_path / "table")
        assert (code, error) == (0, "")
        return sorted(folder.iterdir()), pd.read_csv(tmp_path / "table", sep="\t"), said

    return call


def write_sequences(folder: Path, lengths: list[int]) -> Path:
    path = folder / "sequences.fasta"
    path.write_text("".join(f">s{number}\n{'acgTN' * length}\n" for number, length in enumerate(lengths)))
    return path


@pytest.mark.parametrize("shards", [1, 2, 3, 7, 80, 200])
def test_shards_one_after_the_other_are_the_sequences(split: Split, shards: int) -> None:
    sequences = TEST_DATA / "two_genomes.fasta"
    files, table, _ = split("--sequences", sequences, "--shards", shards)
    assert len(files) == min(shards, 80)
    assert "".join(file.read_text() for file in files) == sequences.read_text()
    assert table["shard"].tolist() == [file.stem for file in files]
    assert table["bases"].sum() == 48_000
    assert table["bases"].max() <= 48_000 / shards + 600


def test_letters_and_headers_stay_as_they_are(split: Split, tmp_path: Path) -> None:
    path = tmp_path / "x.fasta.gz"
    path.write_bytes(gzip.compress(b">a  two\tblanks >b\nacgtnRYK\n>a\nACGT\nuu\n"))
    files, _, _ = split("--sequences", path, "--shards", 1)
    assert files[0].read_text() == ">a  two\tblanks >b\nacgtnRYK\n>a\nACGTuu\n"


def test_no_shard_is_heavier_than_its_share_and_one_record(split: Split, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    lengths = [int(length) for length in generator.lognormal(4, 1.5, 300)]
    path = write_sequences(tmp_path, [max(length, 1) for length in lengths])
    with FastaReader(path) as reader:
        found = [len(record.bases) for record in reader]
    for shards in (2, 5, 16):
        files, table, said = split("--sequences", path, "--shards", shards)
        assert table["bases"].max() <= sum(found) / shards + max(found)
        assert table["sequences"].sum() == 300
        assert f"the heaviest of {table['bases'].max():,} bases" in said
        read = []
        for file in files:
            with FastaReader(file) as reader:
                read += [record.id for record in reader]
        assert read == [f"s{number}" for number in range(300)]


def test_a_giant_leaves_no_shard_empty(split: Split, tmp_path: Path) -> None:
    path = tmp_path / "x.fasta"
    path.write_text(f">a\nAC\n>b\n{'ACGT' * 1000}\n>c\nGT\n")
    files, table, said = split("--sequences", path, "--shards", 8)
    assert table["sequences"].tolist() == [1, 1, 1]
    assert [file.name for file in files] == ["shard_1.fasta", "shard_2.fasta", "shard_3.fasta"]
    assert "Shards left out because they would be empty: 5 of 8" in said


def test_a_thousand_shards_are_sorted_by_their_names(split: Split) -> None:
    files, table, _ = split("--sequences", TEST_DATA / "two_genomes.fasta", "--shards", 1000)
    assert files[0].name == "shard_0001.fasta"
    assert table["first"].tolist() == table["last"].tolist()


def test_variants_keep_their_header_their_text_and_their_order(split: Split) -> None:
    lines = VARIANTS.read_text().splitlines()
    header, records = lines[:3], lines[3:]
    for shards in (1, 3, 7):
        files, table, _ = split("--variants", VARIANTS, "--shards", shards)
        parts = [gzip.decompress(file.read_bytes()).decode().splitlines() for file in files]
        assert all(part[:3] == header for part in parts)
        assert [line for part in parts for line in part[3:]] == records
        assert table["variants"].sum() == 10
        assert table["alleles"].sum() == 10 + sum("," in line for line in records)
        for file in files:
            pysam.tabix_index(str(file), preset="vcf", force=True)  # bgzip, and sorted


def test_variants_that_are_not_sorted_are_plain_text_in_their_order(split: Split) -> None:
    unsorted = TEST_DATA / "unsorted_variants.vcf"
    records = [line for line in unsorted.read_text().splitlines() if not line.startswith("#")]
    for shards in (1, 2):
        files, _, said = split("--variants", unsorted, "--shards", shards)
        assert [file.name for file in files] == [f"shard_{number + 1}.vcf" for number in range(shards)]
        assert "its shards are plain VCF" in said
        lines = [line for file in files for line in file.read_text().splitlines()]
        assert [line for line in lines if not line.startswith("#")] == records


def test_compressed_variants_are_read_too(split: Split, tmp_path: Path) -> None:
    (tmp_path / "v.vcf.gz").write_bytes(gzip.compress(VARIANTS.read_bytes()))
    plain, _, _ = split("--variants", VARIANTS, "--shards", 2)
    compressed, _, _ = split("--variants", tmp_path / "v.vcf.gz", "--shards", 2)
    assert [file.read_bytes() for file in plain] == [file.read_bytes() for file in compressed]


def test_a_genome_is_cut_where_shards_meet(split: Split, tmp_path: Path) -> None:
    index = tmp_path / "genome.fai"
    index.write_text("chr1\t250000\t6\t60\t61\nchr2\t95000\t6\t60\t61\nchrM\t16569\t6\t60\t61\n")
    for shards in (1, 2, 5):
        files, table, _ = split("--genome", index, "--shards", shards)
        regions = [region for file in files for region in read_regions(file)]
        for contig, length in (("chr1", 250_000), ("chr2", 95_000), ("chrM", 16_569)):
            own = [region for region in regions if region.contig == contig]
            assert [region.start for region in own] == [0, *(region.end for region in own[:-1])]
            assert own[-1].end == length
            assert all(region.start % 10_000 == 0 for region in own)
        assert len(regions) <= 3 + shards - 1
        assert table["bases"].max() <= 361_569 / shards + 10_000


def test_contigs_may_stay_whole(split: Split, tmp_path: Path) -> None:
    index = tmp_path / "genome.fai"
    index.write_text("chr1\t250000\t6\t60\t61\nchr2\t95000\t6\t60\t61\nchrM\t16569\t6\t60\t61\n")
    files, _, _ = split("--genome", index, "--shards", 3, "--whole-contigs")
    assert [file.read_text() for file in files] == ["chr1\t0\t250000\n", "chr2\t0\t95000\nchrM\t0\t16569\n"]


def test_regions_of_a_length_are_the_same_however_many_shards(split: Split) -> None:
    options = ("--genome", TEST_DATA / "human_mitochondrion.fasta", "--region-length", 1000, "--region-step", 700)
    whole, _, _ = split(*options, "--shards", 1)
    (lines,) = (file.read_text() for file in whole)
    starts = [region.start for region in read_regions(whole[0])]
    assert starts == list(range(0, 15_570 + 700, 700))
    for shards in (3, 7):
        files, _, _ = split(*options, "--shards", shards)
        assert "".join(file.read_text() for file in files) == lines


def test_a_genome_and_its_index_are_split_alike(split: Split) -> None:
    genome, _, _ = split("--genome", TEST_DATA / "human_mitochondrion.fasta", "--shards", 2)
    index, _, _ = split("--genome", TEST_DATA / "shards" / "genome.fai", "--shards", 2)
    assert [file.read_bytes() for file in genome] == [file.read_bytes() for file in index]


def test_equal_runs_give_equal_bytes(split: Split) -> None:
    first, _, _ = split("--variants", VARIANTS, "--shards", 3)
    second, _, _ = split("--variants", VARIANTS, "--shards", 3)
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]
