import gzip
from pathlib import Path

import pytest
from dnalm.errors import UserError
from dnalm.formats.fasta import FastaReader, FastaWriter, SequenceRecord


def read(path: Path) -> list[SequenceRecord]:
    with FastaReader(path) as reader:
        return list(reader)


def written(folder: Path, content: bytes) -> Path:
    path = folder / "input.fasta"
    path.write_bytes(content)
    return path


def refusal(folder: Path, content: bytes) -> str:
    with pytest.raises(UserError) as error:
        read(written(folder, content))
    return str(error.value)


def test_reads_records_in_order_with_wrapped_lines_and_blanks(tmp_path: Path) -> None:
    records = read(written(tmp_path, b"\n>a first record\nACGT\nAC GT\n\n>b\nTTNN\n"))
    assert records == [SequenceRecord("a", "ACGTACGT"), SequenceRecord("b", "TTNN")]


def test_reads_behind_many_blank_lines(tmp_path: Path) -> None:
    blank = b" \n" * 300_000
    assert read(written(tmp_path, blank + b">a\nACGT\n")) == [SequenceRecord("a", "ACGT")]
    assert read(written(tmp_path, gzip.compress(blank + b">a\nACGT\n"))) == [SequenceRecord("a", "ACGT")]


@pytest.mark.parametrize(
    ("letters", "expected"),
    [
        (b"acgtN", SequenceRecord("a", "ACGTN", lower_case=4)),
        (b"ACGTRYSWKMBDHV", SequenceRecord("a", "ACGTNNNNNNNNNN", ambiguous=10)),
        (b"AUuG", SequenceRecord("a", "ATTG", lower_case=1, uracil=2)),
        (b"acgu\r\nryNn\r\n", SequenceRecord("a", "ACGTNNNN", lower_case=7, ambiguous=2, uracil=1)),
        (b"ACGT\rACGT", SequenceRecord("a", "ACGTACGT")),
    ],
)
def test_mends_and_counts_letters(tmp_path: Path, letters: bytes, expected: SequenceRecord) -> None:
    assert read(written(tmp_path, b">a\n" + letters)) == [expected]


def test_keeps_duplicate_ids_in_order(tmp_path: Path) -> None:
    assert [record.bases for record in read(written(tmp_path, b">x\nAA\n>y\nCC\n>x\nGG\n"))] == ["AA", "CC", "GG"]


def test_accepts_a_byte_order_mark_and_letters_beyond_ascii_in_names(tmp_path: Path) -> None:
    assert read(written(tmp_path, "\ufeff>gène µ\nACGT".encode()))[0].id == "gène"


@pytest.mark.parametrize("members", [1, 3])
def test_reads_gzip_and_block_gzip(tmp_path: Path, members: int) -> None:
    content = b"".join(gzip.compress(f">r{number}\nACGT\n".encode()) for number in range(members))
    assert [record.id for record in read(written(tmp_path, content))] == [f"r{number}" for number in range(members)]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b" \n\n", "holds only blank lines"),
        (b"\n" * 600_000, "holds only blank lines"),
        (b"\n" * 600_000 + b"ACGT\n", "text before the first '>' (line 600001)"),
        (gzip.compress(b"", mtime=0), "is empty"),
        (b"ACGT\n>a\nACGT\n", "text before the first '>' (line 1)"),
        (b"\n\n;comment\n>a\nACGT\n", "text before the first '>' (line 3)"),
        (b"  >a\nACGT\n>b\nAC\n", "text before the first '>' (line 1)"),
        (b">a\nACGT\n>b\n>c\nACGT\n", "Record 2 ('b') of 'input.fasta' has no sequence"),
        (b">a\nACGT\n>b", "Record 2 ('b') of 'input.fasta' has no sequence"),
        (b">\nACGT\n", "Record 1 of 'input.fasta' has no name"),
        (b">p\nMKTAYIAKQR\n", "has the letter 'I' at position 6: it looks like protein"),
        (b"@read\nACGT\n+\nIIII\n", "looks like FASTQ"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is binary"),
        (b"\x7fELF\x02\x01\x01\0\0", "is binary"),
        (">a\nACGT\n".encode("utf-16"), "is UTF-16"),
        (">a\nACGT\n".encode("utf-16-le"), "is UTF-16"),
        (">a\nACGT\n".encode("utf-16-be"), "is UTF-16"),
        (b">a\nAC\0GT\n", "Record 1 ('a') of 'input.fasta' has a NUL byte at position 3"),
        (b">a\0b\nACGT\n", "has a NUL byte in its name"),
        (b">a\nAC\n>b\nACG--T\n", "Record 2 ('b') of 'input.fasta' has the gap or stop sign '-' at position 4"),
        (b">a\nAC\n>b\nACG1T\n", "Record 2 ('b') of 'input.fasta' has the digit '1' at position 4"),
        (b">a\nACGT\nAC>b\nACGT", "has '>' at position 7"),
        (b">a\nACJT\n", "has 'J' at position 3"),
        (">a\nAC\u017fT\n".encode(), "has '\u017f' at position 3"),
        (b">a\x1b[0m\nACGT\n", "has a control character in its name"),
        (b">" + b"A" * 1_001 + b"\nACGT\n", "has a name of 1,001 letters"),
        (">a\nACéT\n".encode(), "has 'é' at position 3"),
        (b">a\nACGT\n>\xff\xfe\nACGT\n", "is not UTF-8 text"),
        (gzip.compress(b">a\n" + b"ACGT" * 5000, mtime=0)[:-20], "damaged or cut short"),
        (gzip.compress(b">a\nACGT\n", mtime=0)[:6], "damaged or cut short"),
        (b"BZh91AY&SY", "compressed with bzip2"),
        (b"PK\x03\x04....", "compressed with zip"),
    ],
)
def test_refuses_with_one_sentence(tmp_path: Path, content: bytes, sentence: str) -> None:
    message = refusal(tmp_path, content)
    assert sentence in message
    assert "\n" not in message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.fasta"):
        FastaReader(tmp_path / "absent.fasta")


@pytest.mark.slow
def test_fraction_read_grows_from_0_to_1(tmp_path: Path) -> None:
    path = written(tmp_path, b">a\nACGT\n" * 100_000)
    with FastaReader(path) as reader:
        fractions = [reader.fraction_read for _ in reader]
        assert reader.fraction_read == 1
    assert fractions == sorted(fractions)
    assert fractions[0] < 0.5
    assert fractions[-1] == 1


@pytest.mark.parametrize("length", [1, 80, 81, 160, 200])
def test_what_is_written_has_lines_of_80_bases_and_is_read_back(tmp_path: Path, length: int) -> None:
    bases = ("ACGTTGCA" * 25)[:length]
    with FastaWriter(tmp_path / "out.fa") as writer:
        writer.append("a", "first record", bases)
        writer.append("b", "x=1", "TT")
    title, *lines = (tmp_path / "out.fa").read_text().splitlines()[:-2]
    assert title == ">a first record"
    assert [len(line) for line in lines[:-1]] == [80] * (len(lines) - 1)
    assert 0 < len(lines[-1]) <= 80
    assert read(tmp_path / "out.fa") == [SequenceRecord("a", bases), SequenceRecord("b", "TT")]
