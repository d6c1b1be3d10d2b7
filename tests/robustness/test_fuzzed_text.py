"""Every reader of text, on thousands of files that go wrong in the ways files do.

A file is read, and every record in it is accounted for by a count of our own, or it is refused by a UserError. `make fuzz`
reads fifty times as many.
"""

import gzip
import io
import os
import random
import re
import resource
import signal
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from dnalm.errors import UserError
from dnalm.formats.annotations import read_annotation, read_features
from dnalm.formats.call_settings import read_call_settings
from dnalm.formats.contigs import Contigs
from dnalm.formats.embeddings_reader import read_embeddings
from dnalm.formats.fasta import FastaReader
from dnalm.formats.label_tables import ColumnNames, LabelTable
from dnalm.formats.merged_text import merge_beds, merge_tables, merge_vcfs
from dnalm.formats.reference import Reference
from dnalm.formats.regions import RegionReader, read_regions
from dnalm.formats.score_tables import ScoreColumns, read_scores
from dnalm.formats.sequence_tables import read_sequence_table
from dnalm.formats.tables import Table
from dnalm.formats.vcf import VcfReader
from dnalm.methods.segments import Calling
from dnalm.tasks.splitting import SplittingOptions, split
from mutations import mutated

RECORDS = 40  # of a file
FILES = 25_000 if os.environ.get("DNALM_FUZZ") == "full" else 500
LONGEST = 60  # seconds for a file: one that never ends fails, and does not hold the tests
MOST_MEMORY = 1 << 20  # kB that all files of a reader may take more
Count = Callable[[bytes], int | None]


def content_of(content: bytes) -> tuple[bytes, bool]:
    """Return a file's text as far as it is whole, and whether all of it is."""
    if not content.startswith(b"\x1f\x8b"):
        return content, True
    text = b""
    try:
        with gzip.open(io.BytesIO(content)) as file:
            while part := file.read1(1 << 16):
                text += part
    except (OSError, EOFError, zlib.error):
        return text, False
    return text, True


def lines_of(content: bytes) -> list[bytes]:
    return re.split(rb"\r?\n", content.removeprefix(b"\xef\xbb\xbf"))


# Counts of our own, each told in another way than the readers do it.


def fasta_records(content: bytes) -> int:
    """With the line ends of old Macs too."""
    return len(re.findall(rb"(?:^|[\n\r])>", content.removeprefix(b"\xef\xbb\xbf").lstrip()))


def vcf_records(content: bytes) -> int:
    lines = [line.strip(b"\r") for line in lines_of(content)]
    return sum(1 for line in dropwhile(lambda line: not line or line.startswith(b"#"), lines) if line)


def intervals(content: bytes) -> int:
    found, gff = 0, False
    for line in lines_of(content):
        columns = line.split(b"\t")
        gff = (
            gff
            or line.startswith(b"##gff-version")
            or (len(columns) == 9 and not columns[1].decode("latin-1").isdigit())
        )
        if line.rstrip() == b"##FASTA" or (gff and line.startswith(b">")):
            break
        is_data = len(columns) > 2 and columns[1].isdigit() and columns[2].isdigit()
        is_browsers = re.match(rb"(track|browser)([ \t]|\Z)", line) is not None and not is_data
        found += not (line.startswith(b"#") or not line.strip() or is_browsers)
    return found


def table_records(content: bytes) -> int:
    """The lines below that of the names which have more in them than separators."""
    lines = lines_of(content)
    first = next((number for number, line in enumerate(lines) if line.strip() and not line.startswith(b"##")), None)
    if first is None:
        return 0
    separator = next((found for found in (b"\t", b",", b";") if found in lines[first]), b"\t")
    quotes = b'"' if separator != b"\t" or lines[first].strip().startswith(b'"') else b""
    return sum(
        1 for line in lines[first + 1 :] if re.sub(rb"[\s" + separator + quotes + rb"]", b"", line.decode().encode())
    )


@dataclass(frozen=True)
class Reader:
    """How an honest file is made, how one is read (the result is the number of records), and how its records are counted."""

    write: Callable[[random.Random], bytes]
    read: Callable[[Path, Path], int | None]
    count: Callable[[bytes], int] | None


def bases(rng: random.Random, length: int) -> str:
    return "".join(rng.choices("ACGTNacgtR", weights=[20] * 4 + [2] * 6, k=length))


def fasta(rng: random.Random) -> bytes:
    return "".join(f">s{n} x\n{bases(rng, 30)}\n{bases(rng, rng.randint(1, 30))}\n" for n in range(RECORDS)).encode()


def genome(rng: random.Random) -> bytes:
    return "".join(f">c{n}\n{bases(rng, 60)}\n{bases(rng, rng.randint(1, 60))}\n" for n in range(RECORDS)).encode()


def vcf(rng: random.Random) -> bytes:
    head = "##fileformat=VCFv4.2\n##contig=<ID=chr1,length=900>\n##INFO=<ID=X,Number=1,Type=Integer,Description=x>\n"
    lines = [f"chr1\t{rng.randint(1, 900)}\tr{n}\t{rng.choice('ACGT')}\tA,C\t.\tPASS\tX={n}" for n in range(RECORDS)]
    return (head + "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n" + "\n".join(lines) + "\n").encode()


def bed(rng: random.Random) -> bytes:
    rows = ((start := rng.randint(0, 500), start + rng.randint(1, 90), number) for number in range(RECORDS))
    return "".join(f"chr{n % 3}\t{start}\t{end}\tname{n}\t0\t{rng.choice('+-.')}\n" for start, end, n in rows).encode()


def gff(rng: random.Random) -> bytes:
    rows = ((start := rng.randint(1, 500), start + rng.randint(0, 90), number) for number in range(RECORDS))
    lines = [f"chr1\tx\tgene\t{start}\t{end}\t.\t+\t.\tID=g{n};biotype=tRNA" for start, end, n in rows]
    return ("##gff-version 3\nchr1\tx\tregion\t1\t560\t.\t+\t.\tIs_circular=true\n" + "\n".join(lines) + "\n").encode()


def table(rng: random.Random) -> bytes:
    lines = [f"s{n}\t{rng.choice(['x', 'y'])}\t{rng.gauss(0, 1):.4f}\t{rng.random():.3f}" for n in range(RECORDS)]
    return ("id\tlabel\tscore\tdimension_1\n" + "\n".join(lines) + "\n").encode()


def sequence_table(rng: random.Random) -> bytes:
    return ("sequence\tlabel\n" + "".join(f"{bases(rng, 20)}\t{n % 2}\n" for n in range(RECORDS))).encode()


def embeddings(rng: random.Random) -> bytes:
    rows = (f"s{n}\tg\t{rng.gauss(0, 1):.5f}\t{rng.gauss(0, 1):.5f}" for n in range(RECORDS))
    return ("id\tgroup\tdimension_1\tdimension_2\n" + "\n".join(rows) + "\n").encode()


def settings(rng: random.Random) -> bytes:
    rows = (f"f{n}\t{rng.uniform(0.1, 1):.3f}\t{rng.randint(1, 99)}" for n in range(RECORDS))
    return ("feature\tthreshold\tmin_length\n" + "\n".join(rows) + "\n").encode()


def index(rng: random.Random) -> bytes:
    return "".join(f"c{n}\t{rng.randint(1, 99)}\t{n * 200 + 4}\t60\t61\n" for n in range(RECORDS)).encode()


def records(reader: Any) -> int:
    return sum(1 for _ in reader)


def read_fasta(path: Path, folder: Path) -> int:
    with FastaReader(path) as reader:
        return records(reader)


def read_genome(path: Path, folder: Path) -> None:
    with Reference(path) as reference:
        for contig, length in reference.lengths.items():
            reference.fetch(contig, max(0, length - 50), length, "x", keep_case=True)


def read_vcf(path: Path, folder: Path) -> int:
    with VcfReader(path) as reader:
        return sum(1 for record in reader if (record.position, record.alternatives))


def read_sequences_of_regions(path: Path, folder: Path) -> int:
    if not (folder / "genome.fa").exists():
        (folder / "genome.fa").write_text("".join(f">chr{n}\n{'ACGTTGCAAC' * 60}\n" for n in range(3)))
    with RegionReader(folder / "genome.fa", path, keep_case=True) as reader:
        return records(reader)


def read_frames(path: Path, folder: Path) -> int:
    rows = sum(map(len, Table(path).frames(16, text=["id"])))
    assert rows == records(Table(path))
    return rows


def read_numbers(path: Path, folder: Path) -> int:
    return len(read_scores([path], ["x"], ScoreColumns(score="score", group="label")).values)


def read_settings(path: Path, folder: Path) -> None:
    known = [f"f{number}" for number in range(RECORDS)]
    read_call_settings(path, dict.fromkeys(known, Calling(0.5, 0.5, 1, 0)), known)


def merged(merge: Callable[..., Any]) -> Callable[[Path, Path], int]:
    return lambda path, folder: sum(merge([path], folder / "merged").records)


def split_up(kind: str) -> Callable[[Path, Path], int]:
    def read(path: Path, folder: Path) -> int:
        shards = folder / f"shards_{len(list(folder.iterdir()))}_{random.getrandbits(60)}"
        split(SplittingOptions(shards, shards=3, **{kind: path}))  # type: ignore[arg-type]
        written = b"".join(content_of(file.read_bytes())[0] for file in sorted(shards.iterdir()))
        count = {"sequences": fasta_records, "variants": lambda text: len(re.findall(rb"(?:^|\n)[^#\n]", text))}
        return count[kind](written) if kind in count else len(written.splitlines())

    return read


READERS = {
    "fasta": Reader(fasta, read_fasta, fasta_records),
    "contigs": Reader(genome, lambda path, _: len(Contigs(path)), fasta_records),
    "genome": Reader(genome, read_genome, None),
    "vcf": Reader(vcf, read_vcf, vcf_records),
    "regions in BED": Reader(bed, lambda path, _: records(read_regions(path)), intervals),
    "regions in GFF": Reader(gff, lambda path, _: records(read_regions(path)), intervals),
    "sequences of regions": Reader(bed, read_sequences_of_regions, intervals),
    "features in BED": Reader(bed, lambda path, _: records(read_features(path)), intervals),
    "features in GFF": Reader(gff, lambda path, _: sum(read_annotation(path).lines.values()), intervals),
    "table": Reader(table, read_frames, table_records),
    "labels": Reader(
        table, lambda path, _: records(LabelTable(path, ColumnNames(), with_sequences=False)), table_records
    ),
    "labels with sequences": Reader(
        sequence_table,
        lambda path, _: records(LabelTable(path, ColumnNames(), with_sequences=True).records()),
        table_records,
    ),
    "sequences": Reader(sequence_table, lambda path, _: records(read_sequence_table(path)), table_records),
    "scores": Reader(table, read_numbers, table_records),
    "embeddings": Reader(embeddings, lambda path, _: len(read_embeddings(path).ids), table_records),
    "settings": Reader(settings, read_settings, None),
    "split sequences": Reader(fasta, split_up("sequences"), fasta_records),
    "split variants": Reader(vcf, split_up("variants"), vcf_records),
    "split genome": Reader(index, split_up("genome"), None),
    "merged tables": Reader(table, merged(merge_tables), lambda content: max(0, len(content.splitlines()) - 1)),
    "merged BED": Reader(bed, merged(merge_beds), None),
    "merged VCF": Reader(vcf, merged(merge_vcfs), vcf_records),
}


@contextmanager
def bounded(what: bytes) -> Iterator[None]:
    """Fail if it takes more than a minute."""

    def late(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"reading does not end: {what[:2_000]!r}")

    usual = signal.signal(signal.SIGALRM, late)
    signal.alarm(LONGEST)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, usual)


@pytest.mark.parametrize("name", READERS)
def test_every_record_is_accounted_for_or_the_file_is_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reader, rng = READERS[name], random.Random(name)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    accepted = refused = 0
    for number in range(FILES):
        content = reader.write(rng) if number == 0 else mutated(reader.write(rng), rng)
        path = tmp_path / "input.dat"
        path.write_bytes(content)
        with bounded(content):
            try:
                found = reader.read(path, tmp_path)
            except UserError as error:
                assert number, f"an honest file was refused: {error}"
                assert str(error).endswith(".")
                assert "\n" not in str(error)
                refused += 1
                continue
            except Exception as error:
                raise AssertionError(f"file {number}: {error!r}: {content!r}") from error
        accepted += 1
        if reader.count is not None:
            text, whole = content_of(content)
            # What lies behind the annotation in a GFF is not read.
            assert whole or re.search(rb"\n(##FASTA\s*\n|>)", text), (
                f"file {number} is damaged and was read: {content!r}"
            )
            assert found == reader.count(text), f"file {number}: {text!r}"
    assert accepted > FILES // 20
    assert refused > FILES // 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_MEMORY
