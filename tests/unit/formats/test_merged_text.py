"""Tables, BED and VCF of shards as one file, line by line."""

import gzip
import json
from pathlib import Path

import pysam
import pytest
from dnalm.errors import UserError
from dnalm.formats.merged_text import merge_beds, merge_tables, merge_vcfs, text_kind

COLUMNS = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"


def written(folder: Path, *contents: str) -> list[Path]:
    """Write files that are called a, b, c and so on."""
    paths = [folder / name for name, _ in zip("abcdef", contents, strict=False)]
    for path, content in zip(paths, contents, strict=True):
        path.write_text(content)
    return paths


def vcf(*lines: str) -> str:
    return "".join(f"{line}\n" for line in ("##fileformat=VCFv4.2", *lines))


def record(position: int, alternate: str = "G") -> str:
    return f"chr1\t{position}\t.\tA\t{alternate}\t.\t.\t."


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("##fileformat=VCFv4.2\n", "VCF"),
        ("#CHROM\tPOS\n", "VCF"),
        ("chr1\t0\t10\n", "BED"),
        ("track name=x\n\n# note\nbrowser position\nchr1\t0\t10\tpeak\n", "BED"),
        ("chr1\t0\n", "table"),
        ("chr1\t-5\t10\n", "table"),
        ("id\tstart\tend\nchr1\t0\t10\n", "table"),
        ("# only a comment\n", "table"),
        ("", "table"),
    ],
)
def test_the_first_lines_show_what_a_text_is(tmp_path: Path, content: str, kind: str) -> None:
    (tmp_path / "x").write_text(content)
    assert text_kind(tmp_path / "x") == kind
    (tmp_path / "x").write_bytes(gzip.compress(content.encode()))
    assert text_kind(tmp_path / "x") == kind


def test_tables_share_one_header(tmp_path: Path) -> None:
    paths = written(tmp_path, "id\tscore\na\t1\nb\t\n", "id\tscore\n", "id\tscore\r\n\tc\n", "")
    merged = merge_tables(paths, tmp_path / "m")
    assert (tmp_path / "m").read_text() == "id\tscore\na\t1\nb\t\n\tc\n"
    assert (merged.records, merged.unit, merged.notes) == ([2, 0, 1, 0], "rows", [])


@pytest.mark.parametrize(
    ("second", "sentence"),
    [
        (
            "id\tvalue\nb\t2\n",
            r"Shard 2 \('b'\) starts with 'id\\tvalue', the shards before it with the header 'id\\ts",
        ),
        ("b\t2\n", r"Shard 2 \('b'\) starts with 'b\\t2', .*; merge tables with the same header"),
        ("id\tscore\nb\t2\t3\n", r"Line 2 of Shard 2 \('b'\) has 3 columns, the lines before it 2; mend it"),
        ("id\tscore\nb\t2\n\n", r"Line 3 of Shard 2 \('b'\) has 1 columns, the lines before it 2"),
    ],
)
def test_tables_that_do_not_fit_are_refused(tmp_path: Path, second: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        merge_tables(written(tmp_path, "id\tscore\na\t1\n", second), tmp_path / "m")


def test_regions_stand_behind_the_first_track_lines(tmp_path: Path) -> None:
    paths = written(
        tmp_path,
        "chr1\t1\t2\n",
        "track name=x\n# note\n\nchr1\t3\t4\n",
        "track name=x\n# note\nchr1\t5\t6\n",
        "track name=y\nchr1\t7\t8\n",
    )
    merged = merge_beds(paths, tmp_path / "m")
    expected = ["chr1\t1\t2", "track name=x", "# note", *(f"chr1\t{start}\t{start + 1}" for start in (3, 5, 7))]
    assert (tmp_path / "m").read_text().splitlines() == expected
    assert (merged.records, merged.unit) == ([1, 1, 1, 1], "regions")
    assert merged.notes == ["Shard 4 ('d') has track lines or comments of its own, left out: 1"]


@pytest.mark.parametrize(
    ("second", "sentence"),
    [
        ("\nchr1\tx\t2\tpeak\n", r"Line 2 of Shard 2 \('b'\) is no region: 'chr1\\tx\\t2\\tpeak'; mend or remove it"),
        ("chr1\t1\t2\n", r"Line 1 of Shard 2 \('b'\) has 3 columns, the lines before it 4"),
    ],
)
def test_regions_that_do_not_fit_are_refused(tmp_path: Path, second: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        merge_beds(written(tmp_path, "chr1\t0\t9\tpeak\n", second), tmp_path / "m")


def test_headers_of_variants_are_joined(tmp_path: Path) -> None:
    contigs = [f"##contig=<ID=chr{number},length=9>" for number in (1, 2)]
    paths = written(
        tmp_path,
        vcf(contigs[0], COLUMNS, record(5)),
        vcf(contigs[0], contigs[1], "##note", COLUMNS, record(7), "", record(8)),
    )
    merged = merge_vcfs(paths, tmp_path / "m")
    assert (tmp_path / "m").read_text() == vcf(*contigs, "##note", COLUMNS, record(5), record(7), record(8))
    assert (merged.records, merged.unit) == ([1, 2], "records")
    adds = "Shard 2 ('b') adds to the header: "
    assert merged.notes == [f"{adds}{contigs[1]}", f"{adds}##note"]


def test_what_was_run_is_one_line_with_all_counts(tmp_path: Path) -> None:
    def run(records: int, device: str) -> str:
        return f'##dnalm={{"counts": {{"records": {records}}}, "device": "{device}", "tool": "score"}}'

    other = '##other={"not":"of a tool"}'
    paths = written(
        tmp_path, vcf(run(1, "cpu"), other, COLUMNS, record(5)), vcf(run(2, "cuda"), other, COLUMNS, record(6))
    )
    merged = merge_vcfs(paths, tmp_path / "m")
    lines = (tmp_path / "m").read_text().splitlines()
    assert json.loads(lines[1].removeprefix("##dnalm=")) == {
        "counts": {"records": 3},
        "device": "cpu, cuda",
        "tool": "score",
    }
    assert lines[2:4] == [other, COLUMNS]
    assert merged.notes == ["Shards differ in device: cpu, cuda"]


def test_a_single_file_keeps_its_bytes(tmp_path: Path) -> None:
    content = vcf('##dnalm={"tool":"score",  "counts":{"records":1}}', COLUMNS, record(5))
    merge_vcfs(written(tmp_path, content), tmp_path / "m")
    assert (tmp_path / "m").read_text() == content


@pytest.mark.parametrize("compressed", [0, 1])
def test_the_first_file_decides_over_compression(tmp_path: Path, compressed: int) -> None:
    contents = [vcf(COLUMNS, record(5)), vcf(COLUMNS, record(6))]
    paths = written(tmp_path, *contents)
    paths[compressed].write_bytes(gzip.compress(contents[compressed].encode()))
    merge_vcfs(paths, tmp_path / "m.vcf.gz")
    merged = (tmp_path / "m.vcf.gz").read_bytes()
    if compressed == 0:
        pysam.tabix_index(str(tmp_path / "m.vcf.gz"), preset="vcf")  # which takes block gzip alone
        merged = gzip.decompress(merged)
    assert merged.decode() == vcf(COLUMNS, record(5), record(6))


@pytest.mark.parametrize(
    ("second", "sentence"),
    [
        (record(5) + "\n", r"Shard 2 \('b'\) has no VCF header that ends with a line '#CHROM …'; add it"),
        (vcf(record(5)), r"Shard 2 \('b'\) has no VCF header"),
        ("", r"Shard 2 \('b'\) has no VCF header"),
        (vcf(COLUMNS + "\tFORMAT\tme"), r"Shard 2 \('b'\) has the columns '#CHROM.*; merge files of the same samples"),
        (vcf("##contig=<ID=chr1,length=8>", COLUMNS), r"Shard 2 \('b'\) describes contig 'chr1' in another way than"),
        (vcf(COLUMNS, record(6), "chr1\t7"), r"Line 4 of Shard 2 \('b'\) has 2 columns, the lines before it 8"),
        (
            vcf('##dnalm={"tool": "other"}', COLUMNS),
            r"Shard 2 \('b'\) was made with tool other, Shard 1 \('a'\) with x",
        ),
    ],
)
def test_variants_that_do_not_fit_are_refused(tmp_path: Path, second: str, sentence: str) -> None:
    first = vcf("##contig=<ID=chr1,length=9>", '##dnalm={"tool": "x"}', COLUMNS, record(5))
    with pytest.raises(UserError, match=sentence):
        merge_vcfs(written(tmp_path, first, second), tmp_path / "m")


def test_a_header_among_the_records_is_no_variant(tmp_path: Path) -> None:
    header = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    record = "1\t5\t.\tA\tC\t.\t.\t.\n"
    (tmp_path / "a").write_text(header + record + header.splitlines(keepends=True)[1] + record)
    with pytest.raises(UserError, match=r"Line 4 of Shard 1 \('a'\) is no variant: '#CHROM"):
        merge_vcfs([tmp_path / "a"], tmp_path / "merged")
