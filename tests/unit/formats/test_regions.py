import gzip
from pathlib import Path

import pysam
import pytest
from dnalm.errors import UserError
from dnalm.formats.regions import Region, RegionReader, read_regions
from dnalm.methods.strands import reverse_complement

CONTIGS = {"chr1": "ACGTACGTTTGGCCAANNNRYacgtt" * 20, "chr2": "GGGGCCCCATATAT"}


@pytest.fixture(params=["plain", "gzip", "bgzip"])
def genome(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A genome whose own folder is read-only, as a server's is."""
    folder = tmp_path / "genome"
    folder.mkdir()
    lines = []
    for name, bases in CONTIGS.items():
        lines += [f">{name} a contig", *(bases[start : start + 60] for start in range(0, len(bases), 60))]
    content = ("\n".join(lines) + "\n").encode()
    path = folder / "dataset_1.dat"
    if request.param == "bgzip":
        with pysam.BGZFile(str(path), "wb", None) as file:
            file.write(content)
    else:
        path.write_bytes(gzip.compress(content) if request.param == "gzip" else content)
    folder.chmod(0o500)
    return path


def bed(folder: Path, text: str) -> Path:
    path = folder / "regions.dat"
    path.write_text(text)
    return path


def test_bed_with_and_without_names_and_strands(tmp_path: Path) -> None:
    path = bed(tmp_path, "track name=x\n# a comment\nchr1\t0\t10\nchr1\t5\t9\tpeak 1\t0\t-\r\n\nchr2\t1\t2\t.\t0\t+\n")
    assert list(read_regions(path)) == [
        Region("chr1", 0, 10, "chr1:0-10(.)", ".", 3),
        Region("chr1", 5, 9, "peak_1", "-", 4),
        Region("chr2", 1, 2, "chr2:1-2(+)", "+", 6),
    ]


def test_gff3_counts_from_one(tmp_path: Path) -> None:
    text = "##gff-version 3\nchr1\tx\tgene\t1\t10\t.\t-\t.\tID=g1;Name=n\n"
    text += "chr1\tx\texon\t5\t5\t.\t+\t.\t.\n##FASTA\n>chr1\nAC\n"
    assert list(read_regions(bed(tmp_path, text))) == [
        Region("chr1", 0, 10, "g1", "-", 2),
        Region("chr1", 4, 5, "chr1:4-5(+)", "+", 3),
    ]


def test_gzipped_regions_are_read(tmp_path: Path) -> None:
    path = tmp_path / "r.dat"
    path.write_bytes(gzip.compress(b"chr1\t0\t10\n"))
    assert len(list(read_regions(path))) == 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "has no region"),
        ("# nothing\n", "has no region"),
        ("chr1 0 10\n", "Line 1 of 'regions.dat' is not a region: chr1 0 10."),
        ("chr1\t0\t10\nchr1\tzero\t10\n", "Line 2 of 'regions.dat' has 'zero' where a position should be"),
        ("chr1\t-1\t10\n", "lies outside of the contig"),
        ("chr1\t10\t10\n", "is a region of length 0"),
        ("chr1\t10\t8\n", "is a region of length -2"),
        ("chr1\t0\t10\tx\t0\tplus\n", "has the strand 'plus'"),
        ("\x00\xff", "has a NUL byte"),
        ("chr1\t0\t10\tna\0me\n", "Line 1 of 'regions.dat' has a NUL byte"),
        ("chr1\t0\t10\tna\x1b[31mme\n", "has a name with a control character"),
        (f"chr1\t0\t10\t{'x' * 1_001}\n", "has a name of 1,001 letters"),
    ],
)
def test_lines_that_are_no_regions_are_named(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(UserError) as error:
        list(read_regions(bed(tmp_path, text)))
    assert sentence in str(error.value)


def test_sequences_follow_the_strand(genome: Path, tmp_path: Path) -> None:
    regions = bed(tmp_path, "chr2\t0\t6\tb\t0\t-\nchr1\t50\t130\ta\t0\t+\nchr2\t2\t14\n")
    with RegionReader(genome, regions) as reader:
        records = list(reader)
        assert reader.fraction_read == 1
    plain = CONTIGS["chr1"][50:130].upper()
    normal = "".join(letter if letter in "ACGT" else "N" for letter in plain)
    assert [record.id for record in records] == ["b", "a", "chr2:2-14(.)"]
    assert [record.bases for record in records] == [reverse_complement("GGGGCC"), normal, CONTIGS["chr2"][2:14]]
    assert records[1].ambiguous == sum(plain.count(letter) for letter in "RY")
    assert records[1].lower_case == sum(letter.islower() for letter in CONTIGS["chr1"][50:130])
    assert list(genome.parent.iterdir()) == [genome]


def test_a_region_over_the_origin_of_a_circular_contig_is_joined(genome: Path, tmp_path: Path) -> None:
    circle = "chr2\tx\tregion\t1\t14\t.\t+\t.\tIs_circular=true\n"
    regions = bed(tmp_path, circle + "chr2\tx\tCDS\t13\t17\t.\t-\t.\tID=a\n")
    with RegionReader(genome, regions, keep_case=True) as reader:
        whole, over = reader
    assert whole.bases == CONTIGS["chr2"]
    assert over.bases == reverse_complement("AT" + "GGG")
    assert over.soft_masked is not None
    assert over.soft_masked.tolist() == [False] * 5
    with pytest.raises(UserError, match=r"ends at 15, the contig 'chr2' of 'dataset_1.dat' at 14"):
        RegionReader(genome, bed(tmp_path, circle.replace("14", "15") + "chr2\tx\tCDS\t13\t17\t.\t-\t.\tID=a\n"))


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("chr2\t0\t15\n", "ends at 15, the contig 'chr2' of 'dataset_1.dat' at 14"),
        ("chrX\t0\t5\n", "on the contig 'chrX', which the genome 'dataset_1.dat' lacks (it has chr1, chr2 …)"),
    ],
)
def test_a_region_off_the_genome_is_named_before_anything_is_read(
    genome: Path, tmp_path: Path, line: str, sentence: str
) -> None:
    with pytest.raises(UserError) as error:
        RegionReader(genome, bed(tmp_path, "chr1\t0\t5\n" + line))
    assert str(error.value).startswith("Line 2 of 'regions.dat'")
    assert sentence in str(error.value)
