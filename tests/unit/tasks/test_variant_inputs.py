"""Variants from a VCF, from pairs of sequences, and from every change of regions: alleles, statuses, windows."""

from pathlib import Path

import pytest
from dnalm.errors import UserError
from dnalm.methods.variant_windows import Allele, Status
from dnalm.tasks.variant_inputs import Entry, PairVariants, SaturationVariants, Variant, VcfVariants, Windowing

#         0         10        20
GENOME = "TTGACCATGACCAGTACCATNAGACATGGA"
FIVE = Windowing(5, shared=False)


def fasta(path: Path, **records: str) -> Path:
    path.write_text("".join(f">{name}\n{bases}\n" for name, bases in records.items()))
    return path


def lines(path: Path, *rows: str) -> Path:
    path.write_text("".join("\t".join(row.split()) + "\n" for row in rows))
    return path


@pytest.fixture
def genome(tmp_path: Path) -> Path:
    """A contig of 30 bases with an N, and one of 4."""
    return fasta(tmp_path / "genome.fasta", chr1=GENOME, chr2="ACGT")


def of_vcf(folder: Path, genome: Path, *rows: str, regions: Path | None = None, fail: bool = False) -> list[Entry]:
    with VcfVariants(lines(folder / "x.vcf", *rows), genome, regions, fail) as variants:
        return list(variants.entries(FIVE))


def of_pairs(folder: Path, reference: str, alternative: str, windowing: Windowing = FIVE) -> Variant:
    one, other = fasta(folder / "one.fasta", r=reference), fasta(folder / "other.fasta", a=alternative)
    with PairVariants(one, other) as variants:
        ((variant,),) = (entry.variants for entry in variants.entries(windowing))
    return variant


def told(variant: Variant) -> tuple[str, int, str, str, str, str]:
    return (
        variant.contig,
        variant.position,
        variant.id,
        variant.reference,
        variant.alternative,
        str(variant.status),
    )


def windows(variant: Variant) -> tuple[Allele, Allele]:
    assert variant.site
    return variant.site.windows.reference, variant.site.windows.alternative


# Windows


def test_windows_lie_around_what_the_alleles_do_not_share() -> None:
    """ACCA to ACTA: the C at 5 becomes T."""
    site = FIVE.site(lambda start, end: GENOME[start:end], 30, 3, "aCCA", "ACTa")
    assert site.windows.reference == Allele("ACCAT", 2, 1)
    assert site.windows.alternative == Allele("ACTAT", 2, 1)
    assert site.shared is None


def test_windows_of_the_grid_are_there_where_they_are_wanted() -> None:
    """Windows of 8 begin at every fourth base; 13 lies in the middle half, 10 to 13, of the one that begins at 8."""
    site = Windowing(8, shared=True).site(lambda start, end: GENOME[start:end], 30, 13, "G", "T")
    assert site.windows.reference == Allele(GENOME[9:17], 4, 1)
    assert site.shared
    assert site.shared.reference == Allele(GENOME[8:16], 5, 1)
    assert site.shared.alternative == Allele(GENOME[8:13] + "T" + GENOME[14:16], 5, 1)


# VCF


def test_each_record_is_an_entry_of_its_alternatives(genome: Path, tmp_path: Path) -> None:
    first, second = of_vcf(tmp_path, genome, "chr1 4 a A C,<DEL>,*", "1 8 b tg t")
    assert [told(variant) for variant in first.variants] == [
        ("chr1", 3, "a", "A", "C", "OK"),
        ("chr1", 3, "a", "A", "<DEL>", "SYMBOLIC_ALT"),
        ("chr1", 3, "a", "A", "*", "SPANNING_DELETION"),
    ]
    assert windows(first.variants[0]) == (Allele("TGACC", 2, 1), Allele("TGCCC", 2, 1))
    assert [variant.site for variant in first.variants[1:]] == [None, None]
    # The contig as the record calls it, the windows of the contig as the genome calls it.
    (deletion,) = second.variants
    assert told(deletion) == ("1", 7, "b", "tg", "t", "OK")
    assert windows(deletion) == (Allele("ATGAC", 2, 1), Allele("ATACC", 2, 0))
    assert second.record
    assert second.record.columns[:5] == ["1", "8", "b", "tg", "t"]


def test_the_size_of_an_entry_counts_the_letters_of_its_record(genome: Path, tmp_path: Path) -> None:
    (entry,) = of_vcf(tmp_path, genome, "chr1 4 a A C . PASS X=1")
    assert entry.size == len("chr14aAC.PASSX=1")
    assert Entry(entry.variants).size == 0


@pytest.mark.parametrize(
    ("row", "status"),
    [
        ("chr9 4 . A C", Status.UNKNOWN_CONTIG),
        ("chr9 4 . R C", Status.UNKNOWN_CONTIG),
        ("chr1 0 . A C", Status.BEYOND_CONTIG),
        ("chr1 31 . A C", Status.BEYOND_CONTIG),
        ("chr1 30 . AC A", Status.BEYOND_CONTIG),
        ("chr1 30 . A C", Status.OK),
        ("chr1 4 . C T", Status.REF_MISMATCH),
        ("chr1 4 . R T", Status.REF_NOT_ACGT),
        ("chr1 21 . N T", Status.REF_NOT_ACGT),
        ("chr1 4 . A R", Status.ALT_NOT_ACGT),
        ("chr1 4 . A a", Status.ALT_EQUALS_REF),
        ("chr1 4 . A .", Status.NO_ALT),
        # What the alternative is says more than where the record lies.
        ("chr9 4 . A .", Status.NO_ALT),
        ("chr1 4 . C <DEL>", Status.SYMBOLIC_ALT),
        ("chr1 4 . A ACGTT", Status.ALLELE_TOO_LONG),
    ],
)
def test_an_allele_has_a_status(genome: Path, tmp_path: Path, row: str, status: Status) -> None:
    ((variant,),) = (entry.variants for entry in of_vcf(tmp_path, genome, row))
    assert variant.status == status
    assert (variant.site is not None) == (status in (Status.OK, Status.ALLELE_TOO_LONG))


def test_alleles_outside_the_regions_have_no_windows(genome: Path, tmp_path: Path) -> None:
    """Regions [3, 5) and [9, 10), of a contig under its other name."""
    regions = lines(tmp_path / "x.bed", "1 3 5", "chr1 9 10")
    rows = ("chr1 3 . G A", "chr1 4 . A C", "1 5 . C A", "1 6 . C A", "chr1 9 . GA G", "chr2 1 . A C")
    found = of_vcf(tmp_path, genome, *rows, regions=regions)
    statuses = [str(variant.status) for entry in found for variant in entry.variants]
    assert statuses == ["OUTSIDE_REGIONS", "OK", "OK", "OUTSIDE_REGIONS", "OK", "OUTSIDE_REGIONS"]


def test_regions_of_another_genome_are_refused(genome: Path, tmp_path: Path) -> None:
    for line, sentence in (("chr7 0 9", "on the contig 'chr7', which the genome"), ("chr1 3 31", "ends at 31")):
        with pytest.raises(UserError, match=f"Line 2 of 'x.bed' (is )?{sentence}"):
            of_vcf(tmp_path, genome, "chr1 4 . A C", regions=lines(tmp_path / "x.bed", "1 3 5", line))


def test_a_byte_order_mark_is_no_part_of_a_contigs_name(genome: Path, tmp_path: Path) -> None:
    (tmp_path / "x.bed").write_bytes(b"\xef\xbb\xbfchr1\t3\t5\n")
    ((variant,),) = (entry.variants for entry in of_vcf(tmp_path, genome, "chr1 4 . A C", regions=tmp_path / "x.bed"))
    assert variant.status == Status.OK


def test_a_contig_of_another_length_is_not_scored(genome: Path, tmp_path: Path) -> None:
    """The header gives chr1, the genome's chr1 of 30 bases, 31; chr2 has the length that the header gives."""
    header = ("##contig=<ID=1,length=31,x=y>", "##contig=<length=4,ID=chr2>", "#CHROM POS ID REF ALT QUAL FILTER INFO")
    rows = ("chr1 4 . A C", "1 4 . A C", "chr2 1 . A C")
    found = of_vcf(tmp_path, genome, *header, *(f"{row} . . ." for row in rows))
    statuses = [variant.status for entry in found for variant in entry.variants]
    assert statuses == [Status.OK, Status.CONTIG_LENGTH_DIFFERS, Status.OK]


@pytest.mark.parametrize(("code", "first"), zip("RYSWKMBDHV", "ACCAGACAAA", strict=True))
def test_a_code_of_the_genome_is_what_a_vcf_makes_of_it(tmp_path: Path, code: str, first: str) -> None:
    """VCF 4.3, section 1.6.1: REF has the base of a code that is first in the alphabet. The window has REF too."""
    (tmp_path / "genome.fasta").write_text(f">1\nTGAC{code}TGACCA\n")
    row = f"1 4 . C{first}T CT"
    ((variant,),) = (entry.variants for entry in of_vcf(tmp_path, tmp_path / "genome.fasta", row))
    assert variant.status == Status.OK
    assert variant.site
    assert variant.site.windows.reference.bases == f"AC{first}TG"
    assert variant.site.windows.alternative.bases == "ACTGA"
    other = next(letter for letter in "ACGT" if letter != first)
    ((variant,),) = (entry.variants for entry in of_vcf(tmp_path, tmp_path / "genome.fasta", f"1 5 . {other} {first}"))
    assert variant.status == Status.REF_MISMATCH
    with pytest.raises(UserError, match=f"where the genome 'genome.fasta' has '{code}'"):
        of_vcf(tmp_path, tmp_path / "genome.fasta", f"1 5 . {other} {first}", fail=True)


def test_a_mismatch_may_end_the_job(genome: Path, tmp_path: Path) -> None:
    sentence = "Line 2 of 'x.vcf' has the REF 'CG' at chr1:4, where the genome 'genome.fasta' has 'AC'"
    with pytest.raises(UserError, match=sentence):
        of_vcf(tmp_path, genome, "chr1 4 . A C", "chr1 4 . CG C", fail=True)


def test_letters_that_are_no_dna_are_no_mismatch(genome: Path, tmp_path: Path) -> None:
    ((variant,),) = (entry.variants for entry in of_vcf(tmp_path, genome, "chr1 4 . R C", fail=True))
    assert variant.status == Status.REF_NOT_ACGT


def test_a_vcf_is_read_to_its_end(genome: Path, tmp_path: Path) -> None:
    with VcfVariants(lines(tmp_path / "x.vcf", "chr1 4 . A C"), genome, None, False) as variants:
        assert len(list(variants.entries(FIVE))) == 1
        assert variants.fraction_read == 1


@pytest.mark.parametrize(
    ("missing", "said"), [("x.vcf", "x.vcf"), ("genome.fasta", "genome.fasta"), ("x.bed", "x.bed")]
)
def test_a_file_that_is_not_there_is_refused_at_once(genome: Path, tmp_path: Path, missing: str, said: str) -> None:
    lines(tmp_path / "x.vcf", "chr1 4 . A C")
    lines(tmp_path / "x.bed", "chr1 4 5")
    (tmp_path / missing).unlink()
    with pytest.raises(UserError, match=said):
        VcfVariants(tmp_path / "x.vcf", genome, tmp_path / "x.bed", False)


# Pairs


@pytest.mark.parametrize(
    ("reference", "alternative", "expected"),
    [
        ("ACGTAC", "ACTTAC", ("r", 2, "a", "G", "T", "OK")),
        ("ACGTAC", "ACTGAC", ("r", 2, "a", "GT", "TG", "OK")),
        # An empty allele is told with the base before it, as in a VCF.
        ("ACGTAC", "ACAC", ("r", 1, "a", "CGT", "C", "OK")),
        ("ACAC", "ACGTAC", ("r", 1, "a", "C", "CGT", "OK")),
        # At the start there is none.
        ("GACGT", "ACGT", ("r", 0, "a", "G", ".", "OK")),
        ("ACGT", "GACGT", ("r", 0, "a", ".", "G", "OK")),
        ("ACGT", "ACGT", ("r", 0, "a", "A", "A", "ALT_EQUALS_REF")),
        ("ACNT", "ACGT", ("r", 2, "a", "N", "G", "REF_NOT_ACGT")),
        ("ACGT", "ACNT", ("r", 2, "a", "G", "N", "ALT_NOT_ACGT")),
    ],
)
def test_a_pair_is_told_as_what_changes(
    tmp_path: Path, reference: str, alternative: str, expected: tuple[str, int, str, str, str, str]
) -> None:
    variant = of_pairs(tmp_path, reference, alternative)
    assert told(variant) == expected
    assert (variant.site is not None) == (expected[-1] == "OK")


def test_pairs_are_seen_whole_where_no_context_is_chosen(tmp_path: Path) -> None:
    variant = of_pairs(tmp_path, "ACGTACG", "ACTTACG", Windowing(None, shared=False))
    assert windows(variant) == (Allele("ACGTACG", 2, 1), Allele("ACTTACG", 2, 1))
    assert windows(of_pairs(tmp_path, "ACGTACG", "ACTTACG")) == (Allele("ACGTA", 2, 1), Allele("ACTTA", 2, 1))


def test_windows_of_a_pair_lie_around_what_changes(tmp_path: Path) -> None:
    """The deletion begins at 2, though it is told from 1 on."""
    assert windows(of_pairs(tmp_path, "ACGTAC", "ACAC")) == (Allele("ACGT", 2, 2), Allele("ACAC", 2, 0))


def test_letters_of_pairs_that_were_read_as_others_are_counted(tmp_path: Path) -> None:
    one = fasta(tmp_path / "one.fasta", r="acgtACGTRA", s="ACGU")
    other = fasta(tmp_path / "other.fasta", a="ACGTACCTYA", b="ACGA")
    with PairVariants(one, other) as variants:
        assert [told(entry.variants[0])[:3] for entry in variants.entries(FIVE)] == [("r", 6, "a"), ("s", 3, "b")]
        assert variants.mended == {"lower_case": 4, "ambiguous": 2, "uracil": 1}
        assert variants.fraction_read == 1


@pytest.mark.parametrize(
    ("one", "other", "sentence"),
    [
        ({"a": "AC", "b": "AC"}, {"a": "AG"}, "'other.fasta' has 1 sequences and 'one.fasta' more"),
        ({"a": "AC"}, {"a": "AG", "b": "AG"}, "'one.fasta' has 1 sequences and 'other.fasta' more"),
    ],
)
def test_files_of_pairs_need_as_many_sequences(
    tmp_path: Path, one: dict[str, str], other: dict[str, str], sentence: str
) -> None:
    files = fasta(tmp_path / "one.fasta", **one), fasta(tmp_path / "other.fasta", **other)
    with PairVariants(*files) as variants, pytest.raises(UserError, match=sentence):
        list(variants.entries(FIVE))


def test_a_file_of_pairs_that_is_no_fasta_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "other.fasta").write_text("no sequence\n")
    with pytest.raises(UserError, match=r"other\.fasta"):
        PairVariants(fasta(tmp_path / "one.fasta", a="ACGT"), tmp_path / "other.fasta")


# Saturation


def test_every_base_of_a_region_has_the_three_other_letters(genome: Path, tmp_path: Path) -> None:
    regions = lines(tmp_path / "x.bed", "1 19 22 b -", "chr2 0 1 a")
    with SaturationVariants(regions, genome) as variants:
        assert variants.fraction_read == 0
        entries = list(variants.entries(FIVE))
        assert variants.fraction_read == 1
        assert variants.contigs == ["chr1", "chr2"]
        assert [variants.intervals.overlap("chr1", at, at + 1) for at in (18, 19, 21, 22)] == [False, True, True, False]
    assert [[told(variant) for variant in entry.variants] for entry in entries] == [
        [("chr1", 19, "b", "T", letter, "OK") for letter in "ACG"],
        [("chr1", 20, "b", "N", ".", "REF_NOT_ACGT")],
        [("chr1", 21, "b", "A", letter, "OK") for letter in "CGT"],
        [("chr2", 0, "a", "A", letter, "OK") for letter in "CGT"],
    ]
    assert windows(entries[0].variants[1]) == (Allele("CATNA", 2, 1), Allele("CACNA", 2, 1))
    assert windows(entries[3].variants[0]) == (Allele("ACGT", 0, 1), Allele("CCGT", 0, 1))


def test_regions_that_leave_the_genome_are_refused_at_once(genome: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Line 2 of 'x\.bed' ends at 5, the contig 'chr2' of 'genome\.fasta' at 4"):
        SaturationVariants(lines(tmp_path / "x.bed", "chr1 0 3", "chr2 0 5"), genome)
