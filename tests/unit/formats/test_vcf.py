import gzip
from pathlib import Path

import pysam
import pytest
from dnalm.errors import UserError
from dnalm.formats import text_lines
from dnalm.formats.vcf import InfoField, VcfReader, VcfWriter, can_be_indexed, decompress

HEADER = """##fileformat=VCFv4.3
##contig=<ID=chr1,length=1000>
##INFO=<ID=AF,Number=A,Type=Float,Description="frequency">
##FORMAT=<ID=GT,Number=1,Type=String,Description="genotype">
#CHROM	POS	ID	REF	ALT	QUAL	FILTER	INFO	FORMAT	one	two
"""
# Numbers as people write them, an undescribed filter and field, a semicolon too many: nothing that is ours to mend.
RECORDS = [
    "chr1\t10\trs1\tA\tC,<DEL>\t100.00\tPASS\tAF=0.10,1e-3\tGT\t0/1\t./.",
    "chr1\t10\t.\ta\tg\t.\tmine\t.\tGT\t0|1\t1",
    "chr1\t20\trs2;rs3\tAC\tA\t1e2\t.\tAF=0.500;OTHER;\tGT\t0/1\t0/1",
]
FIELD = InfoField("DNALM_L2", "A", "Float", 'a "distance"')


def write(path: Path, text: str, how: str = "plain") -> Path:
    content = text.encode("utf-8", "surrogateescape")
    if how == "bgzip":
        with pysam.BGZFile(str(path), "wb", None) as file:
            file.write(content)
    else:
        path.write_bytes(gzip.compress(content) if how == "gzip" else content)
    return path


@pytest.mark.parametrize("how", ["plain", "gzip", "bgzip"])
def test_records_are_read_however_they_are_compressed(tmp_path: Path, how: str) -> None:
    with VcfReader(write(tmp_path / "x.dat", HEADER + "\n".join(RECORDS) + "\n", how)) as reader:
        records = list(reader)
        assert reader.fraction_read == 1
    assert [(r.contig, r.position, r.id, r.reference, r.alternatives, r.line) for r in records] == [
        ("chr1", 9, "rs1", "A", ["C", "<DEL>"], 6),
        ("chr1", 9, ".", "a", ["g"], 7),
        ("chr1", 19, "rs2;rs3", "AC", ["A"], 8),
    ]
    assert reader.info_fields == {"AF"}
    assert (reader.in_order, reader.header_made, reader.filled) == (True, False, 0)


def test_what_is_written_is_what_was_read_and_more_in_info(tmp_path: Path) -> None:
    with VcfReader(write(tmp_path / "x.vcf", HEADER + "\n".join(RECORDS) + "\n")) as reader:
        writer = VcfWriter(tmp_path / "y.vcf.gz", reader.header, [FIELD], {"made": "so"})
        for number, record in enumerate(reader):
            writer.append(record, {"DNALM_L2": ["1.5", "."][: len(record.alternatives)] if number else []})
        writer.close()
    written = gzip.decompress((tmp_path / "y.vcf.gz").read_bytes()).decode().splitlines()
    before = HEADER.splitlines()
    added = ["##INFO=<ID=DNALM_L2,Number=A,Type=Float,Description=\"a 'distance'\">", "##made=so"]
    assert written[: len(before) + 2] == [*before[:-1], *added, before[-1]]
    columns = [line.split("\t") for line in written[len(before) + 2 :]]
    assert [line[7] for line in columns] == ["AF=0.10,1e-3", "DNALM_L2=1.5", "AF=0.500;OTHER;;DNALM_L2=1.5"]
    for line, original in zip(columns, RECORDS, strict=True):
        expected = original.split("\t")
        assert line[:7] + line[8:] == expected[:7] + expected[8:]


def test_htslib_indexes_and_reads_what_is_written(tmp_path: Path) -> None:
    with VcfReader(write(tmp_path / "x.vcf", HEADER + RECORDS[0] + "\n" + RECORDS[1] + "\n")) as reader:
        writer = VcfWriter(tmp_path / "y.vcf.gz", reader.header, [FIELD], {"json": '{"a": [1, 2]}'})
        for record in reader:
            writer.append(record, {"DNALM_L2": ["0.25", "."][: len(record.alternatives)]})
        writer.close()
    pysam.tabix_index(str(tmp_path / "y.vcf.gz"), preset="vcf")
    with pysam.VariantFile(str(tmp_path / "y.vcf.gz")) as file:
        found = [record.info["DNALM_L2"] for record in file.fetch("chr1", 0, 15)]
    assert found == [(0.25, None), (0.25,)]


@pytest.mark.parametrize("header", ["", "##fileformat=VCFv4.1\n", "\n##contig=<ID=chr1>\n"])
def test_a_header_that_lacks_is_made(tmp_path: Path, header: str) -> None:
    with VcfReader(write(tmp_path / "x.vcf", header + "chr1\t5\t.\tA\tC\t.\t.\n\nchr1\t6\tx\tG\tA\n")) as reader:
        records = list(reader)
        assert (reader.header_made, reader.filled) == (True, 2)
        assert reader.header[-1] == "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"
    assert [record.columns[5:] for record in records] == [[".", ".", "."]] * 2
    columns = "\t".join(["chr1\t5\t.\tA\tC\t.\t.\tX=1\tGT", *["0/1"] * 3])
    with VcfReader(write(tmp_path / "y.vcf", columns + "\n")) as reader:
        assert reader.header[-1].endswith("\tINFO\tFORMAT\tsample_1\tsample_2\tsample_3")
        assert [record.samples for record in reader] == ["GT\t0/1\t0/1\t0/1"]


@pytest.mark.parametrize(
    ("places", "in_order"),
    [
        ([("1", 1), ("1", 1), ("1", 5), ("2", 3)], True),
        ([("1", 5), ("1", 4)], False),
        ([("1", 5), ("2", 6), ("1", 7)], False),
    ],
)
def test_the_order_is_watched(tmp_path: Path, places: list[tuple[str, int]], in_order: bool) -> None:
    with VcfReader(write(tmp_path / "x", "".join(f"{c}\t{p}\t.\tA\tC\n" for c, p in places))) as reader:
        assert [(record.contig, record.position + 1) for record in reader] == places
        assert reader.in_order == in_order


def test_bytes_that_are_no_text_and_windows_line_ends_pass(tmp_path: Path) -> None:
    path = tmp_path / "x.vcf"
    path.write_bytes(HEADER.encode().replace(b"\n", b"\r\n") + b"chr1\t5\tna\xefve\tA\tC\t.\t.\tX=\xff\tGT\t0\t0\r\n")
    with VcfReader(path) as reader:
        writer = VcfWriter(tmp_path / "y", reader.header, [FIELD], {})
        for record in reader:
            writer.append(record, {"DNALM_L2": ["1"]})
        writer.close()
    written = gzip.decompress((tmp_path / "y").read_bytes())
    assert written.endswith(b"\nchr1\t5\tna\xefve\tA\tC\t.\t.\tX=\xff;DNALM_L2=1\tGT\t0\t0\n")
    assert b"\r" not in written


def test_equal_records_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        writer = VcfWriter(tmp_path / name, HEADER.splitlines(), [FIELD], {})
        writer.close()
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


# Places of records, and whether tabix takes them: its index ends at 2^29 bases.
PLACES = {
    "sorted": ([("1", 5), ("1", 5), ("2", 3)], True),
    "a telomere": ([("1", 0), ("1", 5)], True),
    "by no position": ([("1", 5), ("1", 4)], False),
    "a contig twice": ([("1", 5), ("2", 6), ("1", 7)], False),
    "a contig of wheat": ([("1", 5), ("1", 600_000_000)], False),
}


@pytest.mark.parametrize("case", PLACES)
def test_what_cannot_be_indexed_is_known(tmp_path: Path, case: str, capfd: pytest.CaptureFixture[str]) -> None:
    places, indexed = PLACES[case]
    header = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    records = "".join(f"{contig}\t{position}\t.\tA\tC\t.\t.\t.\n" for contig, position in places)
    path = write(tmp_path / "x.vcf.gz", header + records, "bgzip")
    assert can_be_indexed(path) == indexed
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == [path]
    decompress(path)
    assert path.read_text() == header + records
    assert list(tmp_path.iterdir()) == [path]


BAD = {
    "empty": (b"", "The file 'x.vcf' is empty"),
    "header alone": (HEADER.encode(), "The file 'x.vcf' has no variant"),
    "header alone, compressed": (gzip.compress(HEADER.encode()), "The file 'x.vcf' has no variant"),
    "FASTA": (b">chr1\nACGT\n", "Line 1 of 'x.vcf' is no variant; a VCF has CHROM, POS, ID, REF, ALT"),
    "BED": (b"chr1\t5\t10\n", "Line 1 of 'x.vcf' is no variant"),
    "position": (b"chr1\tfive\t.\tA\tC\n", "Line 1 of 'x.vcf' has the position 'five', which is no whole number"),
    "negative position": (b"chr1\t-5\t.\tA\tC\n", "has the position '-5'"),
    "no REF": (b"chr1\t5\t.\t\tC\n", "Line 1 of 'x.vcf' has an empty REF, or one with blanks"),
    "blank in ALT": (b"chr1\t5\t.\tA\tC \n", "has an empty ALT, or one with blanks"),
    "columns": (HEADER.encode() + b"chr1\t5\t.\tA\tC\t.\t.\t.\n", "Line 6 of 'x.vcf' has 8 columns, its header 11"),
    "bzip2": (b"BZh91AY", "is compressed with bzip2. Use gzip or plain text"),
    "BCF": (gzip.compress(b"BCF\x02\x02rest"), "is BCF; convert it to VCF first"),
    "UTF-16": (HEADER.encode("utf-16"), "is binary or UTF-16"),
    "binary": (bytes(range(256)) * 2, "is binary or UTF-16"),
    "cut short": (
        gzip.compress((HEADER + "\n".join(RECORDS * 2000)).encode())[:-40],
        "is damaged or cut short after line",
    ),
    "bad header": (
        b"##fileformat=VCFv4.2\n##INFO=<ID=\n#CHROM\tPOS\tREF\tID\tALT\nchr1\t5\t.\tA\tC\n",
        "is no VCF header",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", BAD)
def test_what_is_no_vcf_is_refused(tmp_path: Path, case: str) -> None:
    content, sentence = BAD[case]
    (tmp_path / "x.vcf").write_bytes(content)
    with pytest.raises(UserError) as error, VcfReader(tmp_path / "x.vcf") as reader:
        list(reader)
    assert sentence in str(error.value)
    assert str(error.value).endswith(".")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        VcfReader(tmp_path / "none.vcf")
    with pytest.raises(UserError, match="is not a regular file"):
        VcfReader(tmp_path)


def test_samples_of_one_name_are_no_fault_of_a_variant(tmp_path: Path) -> None:
    text = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts\ts\n1\t5\t.\tA\tC\t.\t.\t.\tGT\t0/1\t0/0\n"
    (tmp_path / "x.vcf").write_text(text)
    with VcfReader(tmp_path / "x.vcf") as reader:
        (record,) = reader
    assert record.samples == "GT\t0/1\t0/0"


def test_a_position_of_thousands_of_digits_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.vcf").write_text("1\t5\t.\tA\tC\n1\t" + "9" * 5_000 + "\t.\tA\tC\n")
    with (
        VcfReader(tmp_path / "x.vcf") as reader,
        pytest.raises(UserError, match=r"Line 2 of 'x.vcf' has the position '999"),
    ):
        list(reader)


def test_a_nul_byte_and_an_endless_header_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.vcf").write_bytes(b"1\t5\t" + b"r" * 99 + b"\tA\tC\n1\t6\t.\tA\tC\t.\t.\tX=\0\n")
    with VcfReader(tmp_path / "x.vcf") as reader, pytest.raises(UserError, match=r"Line 2 of 'x\.vcf' has a NUL byte"):
        list(reader)
    monkeypatch.setattr(text_lines, "LARGEST_HEADER", 1_000)
    (tmp_path / "y.vcf").write_text("##x=y\n" * 100 + "1\t5\t.\tA\tC\n")
    with pytest.raises(UserError, match=r"The header of 'y\.vcf'"):
        VcfReader(tmp_path / "y.vcf")


def test_lengths_of_contigs_are_those_of_the_header(tmp_path: Path) -> None:
    header = (
        "##contig=<ID=1,length=248956422>\n##contig=<assembly=x,length=5,ID=MT>\n##contig=<ID=2>\n"
        '##INFO=<ID=length,Number=1,Type=String,Description="length=7">\n'
    )
    (tmp_path / "x.vcf").write_text(header + "1\t5\t.\tA\tC\n")
    with VcfReader(tmp_path / "x.vcf") as reader:
        assert reader.contig_lengths == {"1": 248_956_422, "MT": 5}
