import gzip
from pathlib import Path

import numpy as np
import pytest
from dnalm.errors import UserError
from dnalm.formats import contigs as module
from dnalm.formats.contigs import Contigs
from dnalm.formats.fasta import FastaReader


def sequences(count: int, longest: int) -> dict[str, str]:
    generator = np.random.default_rng(count)
    return {
        f"contig|{number}": "".join(generator.choice(list("ACGTNN"), generator.integers(1, longest)))
        for number in range(count)
    }


def fasta(path: Path, records: dict[str, str], width: int = 13, line_end: str = "\n") -> Path:
    lines = []
    for name, bases in records.items():
        lines += [f">{name} of a genome", *(bases[start : start + width] for start in range(0, len(bases), width))]
    path.write_bytes((line_end.join(lines) + line_end).encode())
    return path


@pytest.mark.parametrize("piece", [1, 7, 64, 1 << 20])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\n\n"])
def test_pieces_make_the_records_of_the_whole(tmp_path: Path, piece: int, line_end: str) -> None:
    path = fasta(tmp_path / "x.fa", sequences(9, 200), line_end=line_end)
    with FastaReader(path) as whole, FastaReader(path) as cut:
        found: dict[int, list[str]] = {}
        for number, record in cut.pieces(piece):
            assert len(record.bases) <= piece
            found.setdefault(number, [record.id, ""])[1] += record.bases
        assert list(found.values()) == [[record.id, record.bases] for record in whole]


def test_a_foreign_letter_is_named_by_its_place_in_the_record(tmp_path: Path) -> None:
    path = tmp_path / "x.fa"
    path.write_text(">a\nACGTACGT\nACGTAC1T\n")
    with (
        pytest.raises(UserError, match=r"Record 1 \('a'\) of 'x.fa' has the digit '1' at position 15"),
        FastaReader(path) as reader,
    ):
        list(reader.pieces(4))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (">a\nAC\n>b\n>c\nAC\n", "Record 2 ('b') of 'x.fa' has no sequence"),
        (">a\nAC\n>b\n", "Record 2 ('b') of 'x.fa' has no sequence"),
        (">a\nAC\n> \nAC\n", "Record 2 of 'x.fa' has no name"),
        (">a\nAC>b\nAC\n", "has '>' at position 3"),
        ("", "is empty"),
        (">chr 1\nAC\n>chr 2\nAC\n", "has two contigs called 'chr' (a name ends at the first blank)"),
    ],
)
def test_contigs_that_cannot_be_told_apart_or_read_are_refused(tmp_path: Path, content: str, sentence: str) -> None:
    path = tmp_path / "x.fa"
    path.write_text(content)
    with pytest.raises(UserError) as refusal:
        Contigs(path)
    assert sentence in str(refusal.value)


@pytest.mark.parametrize("compressed", [False, True])
def test_contigs_know_their_lengths_and_runs_of_n(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compressed: bool
) -> None:
    monkeypatch.setattr(FastaReader.pieces, "__defaults__", (5,))
    records = sequences(20, 90)
    path = fasta(tmp_path / "x.fa", records)
    if compressed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    contigs = Contigs(path)
    assert list(contigs) == list(records)
    for name, bases in records.items():
        is_n = np.zeros(len(bases), dtype=bool)
        for start, end in contigs[name].n_runs.tolist():
            assert not is_n[max(start - 1, 0)]  # runs do not touch
            is_n[start:end] = True
        assert is_n.tolist() == [base == "N" for base in bases]
        assert contigs[name].length == len(bases)


def test_letters_are_those_of_the_contig_and_n_around_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FastaReader.pieces, "__defaults__", (11,))
    records = sequences(30, 400)
    generator = np.random.default_rng(3)
    for contig, letters in Contigs(fasta(tmp_path / "x.fa", records)).letters():
        bases = records[contig.name]
        for start in sorted(generator.integers(-20, len(bases), 6).tolist()):
            end = start + int(generator.integers(20, 60))
            expected = "".join(bases[at] if 0 <= at < len(bases) else "N" for at in range(start, end))
            assert letters.fetch(start, end) == expected


def test_lower_case_iupac_and_uracil_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "x.fa"
    path.write_text(">a\nacguRYNT\n")
    contig = Contigs(path)["a"]
    assert (contig.lower_case, contig.ambiguous, contig.uracil) == (4, 2, 1)
    assert contig.n_runs.tolist() == [[4, 7]]


def test_a_contig_longer_than_tracks_can_tell_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST", 30)
    with pytest.raises(UserError, match="longer than 30 bases"):
        Contigs(fasta(tmp_path / "x.fa", {"a": "ACGT" * 8}))
