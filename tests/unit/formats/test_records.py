"""Sequences of a job, whatever they come from, in buffers."""

from pathlib import Path

import pytest
from dnalm.errors import UserError
from dnalm.formats.fasta import FastaReader, SequenceRecord
from dnalm.formats.records import buffers, columns_of_records, open_records
from dnalm.formats.regions import Region, RegionReader, RegionRecord


@pytest.fixture
def genome(tmp_path: Path) -> Path:
    (tmp_path / "genome.fa").write_text(">chr1\nACGTRNacgt\n")
    return tmp_path / "genome.fa"


@pytest.fixture
def regions(tmp_path: Path) -> Path:
    (tmp_path / "regions.bed").write_text("chr1\t4\t8\tpeak\t0\t-\nchr1\t0\t3\n")
    return tmp_path / "regions.bed"


def test_sequences_are_those_of_a_fasta_file(genome: Path) -> None:
    with open_records(genome, None, None) as reader:
        assert isinstance(reader, FastaReader)
        assert [(record.id, record.bases) for record in reader] == [("chr1", "ACGTNNACGT")]


def test_sequences_are_those_of_a_genomes_regions(genome: Path, regions: Path) -> None:
    with open_records(None, genome, regions) as reader:
        assert isinstance(reader, RegionReader)
        assert [(record.id, record.bases) for record in reader] == [("peak", "GTNN"), ("chr1:0-3(.)", "ACG")]


@pytest.mark.parametrize(
    ("sequences", "of_genome", "of_regions"),
    [
        (None, None, None),
        ("x", "x", "x"),
        ("x", "x", None),
        ("x", None, "x"),
        (None, "x", None),
        (None, None, "x"),
    ],
)
def test_both_or_neither_are_refused(sequences: str | None, of_genome: str | None, of_regions: str | None) -> None:
    paths = [None if name is None else Path(name) for name in (sequences, of_genome, of_regions)]
    with pytest.raises(UserError, match="Give either sequences, or a genome together with regions"):
        open_records(*paths)


@pytest.mark.parametrize(
    ("most_records", "most_bases", "expected"),
    [
        (2, 100, [["a", "b"], ["c", "d"], ["e"]]),
        (100, 5, [["a", "b"], ["c"], ["d", "e"]]),  # 3 + 2 bases, 9 bases, the rest
        (1, 100, [["a"], ["b"], ["c"], ["d"], ["e"]]),
        (5, 100, [["a", "b", "c", "d", "e"]]),
    ],
)
def test_a_buffer_ends_with_the_record_that_fills_it(
    most_records: int, most_bases: int, expected: list[list[str]]
) -> None:
    records = [SequenceRecord(name, "A" * bases) for name, bases in zip("abcde", (3, 2, 9, 1, 1), strict=True)]
    found = list(buffers(iter(records), most_records, most_bases))
    assert [[record.id for record in buffer] for buffer in found] == expected


def test_no_records_make_no_buffer() -> None:
    assert list(buffers(iter([]), 2, 100)) == []


def test_a_buffer_is_given_before_the_next_record_is_read() -> None:
    records = iter([SequenceRecord("a", "ACGT"), SequenceRecord("b", "ACGT"), SequenceRecord("c", "ACGT")])
    assert [record.id for record in next(buffers(records, 2, 100))] == ["a", "b"]
    assert next(records).id == "c"


def test_columns_say_what_was_changed_in_each_record() -> None:
    records = [SequenceRecord("a", "ACGT", lower_case=1, ambiguous=2), SequenceRecord("b", "AC", uracil=3)]
    assert columns_of_records(records) == {"lower_case": [1, 0], "ambiguous": [2, 0], "uracil": [0, 3]}


def test_columns_of_regions_say_where_they_lie() -> None:
    places = [Region("chr1", 4, 8, "peak", "-", 1), Region("chr2", 0, 3, "x", ".", 2)]
    records = [RegionRecord(place.name, "ACGT", region=place) for place in places]
    found = columns_of_records(records)
    assert list(found) == ["lower_case", "ambiguous", "uracil", "contig", "start", "end", "strand"]
    assert (found["contig"], found["start"], found["end"]) == (["chr1", "chr2"], [4, 0], [8, 3])
    assert found["strand"] == ["-", "."]
