"""What is written of scored variants: columns of the table, and fields of the annotated VCF."""

import gzip
import math
from pathlib import Path
from typing import Any

import pysam
import pytest
from dnalm.engine.scoring import ScoreChoices, Scored
from dnalm.engine.variant_tokens import Site
from dnalm.formats.vcf import VcfReader
from dnalm.methods.variant_windows import Allele, Status, VariantWindows
from dnalm.tasks.variant_inputs import Entry, Variant
from dnalm.tasks.variant_outputs import VariantVcf, rows

NAN = math.nan
BOTH = ScoreChoices(("l2", "pll"), both_strands=True)
FACTS: dict[str, Any] = {"model": {"name": "tiny", "licence": "MIT"}, "version": 1}
HEADER = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
CONTIG = "##contig=<ID=chr1>\n"


def scored(l2: float, pll: float = NAN, status: Status = Status.OK) -> Scored:
    return Scored({"l2": l2, "pll": pll}, {"l2": l2 / 10, "pll": pll / 10}, status)


def vcf(path: Path, *records: str, header: str = "") -> Path:
    lines = "".join("\t".join(record.split()) + "\n" for record in records)
    path.write_text(f"##fileformat=VCFv4.2\n{CONTIG}{header}{HEADER}{lines}")
    return path


def annotated(path: Path, source: Path, choices: ScoreChoices, *results: list[Scored], compressed: bool = True) -> bool:
    """Write each record with its results; return whether the file is plain text."""
    reader = VcfReader(source)
    with reader, VariantVcf(path, reader, choices, "max of hidden states", FACTS) as writer:
        for record, found in zip(reader, results, strict=True):
            variants = [Variant("chr1", 0, ".", "A", allele, Status.OK) for allele in record.alternatives]
            writer.append([Entry(variants, record)], found)
        return writer.finish(compressed)


def records_of(path: Path) -> list[str]:
    text = gzip.decompress(path.read_bytes()).decode()
    return [line.split("\t")[7] for line in text.splitlines() if not line.startswith("#")]


def test_the_table_counts_from_1_and_leaves_out_what_has_no_score() -> None:
    site = Site(VariantWindows(Allele("ANGN", 2, 1), Allele("ANTN", 2, 1)))
    variants = [
        Variant("chr1", 41, "rs1", "G", "T", Status.OK, site),
        Variant("chr2", 0, ".", "A", "<DEL>", Status.SYMBOLIC_ALT),
    ]
    found = rows(variants, [scored(1.5, -1234567.0), scored(NAN, status=Status.SYMBOLIC_ALT)], BOTH)
    assert found == {
        "chrom": ["chr1", "chr2"],
        "pos": [42, 1],
        "id": ["rs1", "."],
        "ref": ["G", "A"],
        "alt": ["T", "<DEL>"],
        "l2": ["1.5", ""],
        "pll": ["-1.23457e+06", ""],
        "l2_strand_difference": ["0.15", ""],
        "pll_strand_difference": ["-123457", ""],
        "n_in_window": [2, ""],
        "status": ["OK", "SYMBOLIC_ALT"],
    }
    assert list(found)[5:9] == ["l2", "pll", "l2_strand_difference", "pll_strand_difference"]


def test_one_strand_has_no_difference() -> None:
    found = rows([Variant("chr1", 0, ".", "A", "C", Status.OK)], [scored(1.0)], ScoreChoices(("l2",)))
    assert list(found) == ["chrom", "pos", "id", "ref", "alt", "l2", "n_in_window", "status"]


def test_each_allele_of_a_record_has_a_value_in_every_field(tmp_path: Path) -> None:
    records = ("chr1 5 . A C,G . . X=1", "chr1 6 . A C . . .", "chr1 7 . A C,<DEL> . . .", "chr1 8 . A <DEL> . . .")
    source = vcf(tmp_path / "x.vcf", *records)
    symbolic = scored(NAN, status=Status.SYMBOLIC_ALT)
    results = [[scored(1.0), scored(NAN, 0.25)], [scored(-2.0, 3.0)], [scored(1.0, 2.0), symbolic], [symbolic]]
    annotated(tmp_path / "out", source, BOTH, *results)
    assert records_of(tmp_path / "out") == [
        "X=1;DNALM_L2=1,.;DNALM_PLL=.,0.25;DNALM_L2_STRAND_DIFFERENCE=0.1,.;DNALM_PLL_STRAND_DIFFERENCE=.,0.025;"
        "DNALM_STATUS=OK,OK",
        "DNALM_L2=-2;DNALM_PLL=3;DNALM_L2_STRAND_DIFFERENCE=-0.2;DNALM_PLL_STRAND_DIFFERENCE=0.3;DNALM_STATUS=OK",
        "DNALM_L2=1,.;DNALM_PLL=2,.;DNALM_L2_STRAND_DIFFERENCE=0.1,.;DNALM_PLL_STRAND_DIFFERENCE=0.2,.;"
        "DNALM_STATUS=OK,SYMBOLIC_ALT",
        "DNALM_STATUS=SYMBOLIC_ALT",
    ]


def test_fields_are_described_as_htslib_reads_them(tmp_path: Path) -> None:
    source = vcf(tmp_path / "x.vcf", "chr1 5 . A C . . .")
    annotated(tmp_path / "out.vcf.gz", source, BOTH, [scored(1.0, 2.0)])
    with pysam.VariantFile(str(tmp_path / "out.vcf.gz")) as file:
        fields = {name: (field.number, field.type, field.description) for name, field in file.header.info.items()}
        note = next(record.value for record in file.header.records if record.key == "dnalm_score_variants")
    assert {name: field[:2] for name, field in fields.items()} == {
        **dict.fromkeys(("DNALM_L2", "DNALM_PLL"), ("A", "Float")),
        **dict.fromkeys(("DNALM_L2_STRAND_DIFFERENCE", "DNALM_PLL_STRAND_DIFFERENCE"), ("A", "Float")),
        "DNALM_STATUS": (".", "String"),
    }
    assert "the max of hidden states of" in str(fields["DNALM_L2"][2])
    assert str(fields["DNALM_PLL"][2]).endswith("(tiny)")
    assert note == '{"model": {"licence": "MIT", "name": "tiny"}, "version": 1}'


@pytest.mark.parametrize(
    ("present", "prefix", "note"),
    [
        (["DNALM_L1"], "DNALM2_", "dnalm_score_variants2"),
        (["DNALM_L1", "DNALM2_PLL"], "DNALM3_", "dnalm_score_variants3"),
        (["DNALM2_PLL"], "DNALM_", "dnalm_score_variants"),
        (["DNALMOST"], "DNALM_", "dnalm_score_variants"),
    ],
)
def test_fields_that_are_there_already_are_left_alone(
    tmp_path: Path, present: list[str], prefix: str, note: str
) -> None:
    header = "".join(f'##INFO=<ID={name},Number=1,Type=Float,Description="x">\n' for name in present)
    source = vcf(tmp_path / "x.vcf", f"chr1 5 . A C . . {present[0]}=7", header=header)
    annotated(tmp_path / "out", source, ScoreChoices(("l2",)), [scored(1.0)])
    assert records_of(tmp_path / "out") == [f"{present[0]}=7;{prefix}L2=1;{prefix}STATUS=OK"]
    assert f"\n##{note}={{" in gzip.decompress((tmp_path / "out").read_bytes()).decode()


@pytest.mark.parametrize(
    ("positions", "compressed", "plain"),
    [((5, 6), False, False), ((6, 5), False, True), ((6, 5), True, False)],
)
def test_what_cannot_be_indexed_is_plain_unless_it_is_to_be_compressed(
    tmp_path: Path, positions: tuple[int, int], compressed: bool, plain: bool
) -> None:
    source = vcf(tmp_path / "x.vcf", *(f"chr1 {position} . A C . . ." for position in positions))
    out = tmp_path / "out"
    choices = ScoreChoices(("l2",))
    assert annotated(out, source, choices, [scored(1.0)], [scored(2.0)], compressed=compressed) is plain
    assert out.read_bytes().startswith(b"##fileformat=VCFv4.2\n" if plain else b"\x1f\x8b")
    assert {path.name for path in tmp_path.iterdir()} == {"x.vcf", "out"}
