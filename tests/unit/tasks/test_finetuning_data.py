"""Labelled sequences from a table, from FASTA files of classes, and from FASTA with a table of labels."""

from pathlib import Path
from typing import Any

import pytest
from dnalm.errors import UserError
from dnalm.methods.leakage import Place
from dnalm.tasks.finetuning_data import Collection, Example, read_examples
from dnalm.tasks.finetuning_options import FinetuningOptions


def fasta(path: Path, **records: str) -> Path:
    path.write_text("".join(f">{name}\n{bases}\n" for name, bases in records.items()))
    return path


def table(path: Path, *rows: str) -> Path:
    path.write_text("".join(row.replace(" ", "\t") + "\n" for row in rows))
    return path


def read(*sequences: Path, **choices: Any) -> Collection:
    return read_examples(FinetuningOptions(Path("out"), list(sequences), Path("model"), **choices))


# FASTA with a table of labels


def test_sequences_get_the_labels_of_their_ids(tmp_path: Path) -> None:
    """In the order of the sequences, of one file after the other."""
    one = fasta(tmp_path / "one.fasta", s1="ACGT", s2="acgu")
    two = fasta(tmp_path / "two.fasta", s3="RCGT")
    labels = table(tmp_path / "t.tsv", "id gene label", "s3 B x", "s1 A y", "s2 A x")
    found = read(one, two, labels=labels)
    assert found.examples == [
        Example("s1", "ACGT", ("y",), line=3),
        Example("s2", "ACGT", ("x",), line=4),
        Example("s3", "NCGT", ("x",), line=2),
    ]
    assert found.label_columns == ("label",)
    assert found.source == "the table 't.tsv'"
    assert +found.counts == {"sequences": 3, "lower_case": 4, "ambiguous": 1, "uracil": 1}


def test_groups_and_sides_are_read_where_they_are_asked_for(tmp_path: Path) -> None:
    sequences = fasta(tmp_path / "s.fasta", s1="ACGT")
    labels = table(tmp_path / "t.tsv", "id label gene side", "s1 x A test")
    (found,) = read(sequences, labels=labels, group_column="gene", split="given", split_column="side").examples
    assert (found.group, found.side) == ("A", "test")
    # A column of sides is none of the split's unless sides are given.
    (found,) = read(sequences, labels=labels, label_column="label", split_column="side").examples
    assert (found.group, found.side) == (None, None)


def test_several_columns_of_labels_are_named_between_commas(tmp_path: Path) -> None:
    sequences = fasta(tmp_path / "s.fasta", s1="ACGT")
    labels = table(tmp_path / "t.tsv", "id one two three", "s1 1 0 1")
    found = read(sequences, labels=labels, label_column=" three, one")
    assert found.label_columns == ("three", "one")
    assert found.examples[0].labels == ("1", "1")


def test_a_place_is_the_tables_or_else_the_names(tmp_path: Path) -> None:
    (tmp_path / "s.fasta").write_text(">chr1:5-9\nACGT\n>b\nACGA\n>c\nACGG\n")
    labels = table(tmp_path / "t.tsv", "id label chrom start end", "chr1:5-9 x   ", "b y chr2 7 11", "c y   ")
    found = read(tmp_path / "s.fasta", labels=labels)
    assert [example.place for example in found.examples] == [Place("chr1", 5, 9), Place("chr2", 7, 11), None]


def test_what_does_not_match_is_left_out_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sequences = fasta(tmp_path / "s.fasta", **{f"s{number}": "ACGT" for number in range(8)})
    labels = table(tmp_path / "t.tsv", "id label", "s0 x", "q1 y", "q2 x")
    found = read(sequences, labels=labels)
    assert [(example.id, example.status) for example in found.examples] == [
        ("s0", "ok"),
        *((f"s{number}", "not_in_labels") for number in range(1, 8)),
        ("q1", "no_sequence"),
        ("q2", "no_sequence"),
    ]
    assert found.examples[1].labels is None
    assert (found.examples[8].bases, found.examples[8].labels) == ("", ("y",))
    assert (found.counts["not_in_labels"], found.counts["no_sequence"]) == (7, 2)
    assert capsys.readouterr().out == (
        "sequences without a line in the labels, left out: 7 (s1, s2, s3, s4, s5 …)\n"
        "lines of the labels without a sequence, left out: 2 (q1, q2)\n"
    )


@pytest.mark.parametrize(
    ("ids", "sentence"),
    [
        (["s0"], r"There are 1 sequences without a line in the labels \(s1\); add what is missing"),
        (["s0", "s1", "q1"], r"There are 1 lines of the labels without a sequence \(q1\); add what is missing"),
    ],
)
def test_what_does_not_match_may_be_an_error(tmp_path: Path, ids: list[str], sentence: str) -> None:
    sequences = fasta(tmp_path / "s.fasta", s0="ACGT", s1="ACGT")
    labels = table(tmp_path / "t.tsv", "id label", *(f"{name} x" for name in ids))
    with pytest.raises(UserError, match=sentence):
        read(sequences, labels=labels, unmatched="fail")


def test_repeated_ids_and_lines_are_counted(tmp_path: Path) -> None:
    (tmp_path / "s.fasta").write_text(">a\nACGT\n>a\nTTTT\n>b\nACGA\n>a\nCCCC\n")
    labels = table(tmp_path / "t.tsv", "id label", "a x", "b y", "a x", "a x")
    found = read(tmp_path / "s.fasta", labels=labels)
    assert [(example.bases, example.labels, example.line) for example in found.examples] == [
        ("ACGT", ("x",), 2),
        ("TTTT", ("x",), 2),
        ("ACGA", ("y",), 3),
        ("CCCC", ("x",), 2),
    ]
    assert (found.counts["duplicate_ids"], found.counts["repeated_lines"]) == (2, 2)


@pytest.mark.parametrize(
    ("rows", "choices"),
    [
        (["id label gene side", "a x A train", "a y A train"], {}),
        (["id label gene side", "a x A train", "a x B train"], {"group_column": "gene"}),
        (["id label gene side", "a x A train", "a x A test"], {"split": "given", "split_column": "side"}),
    ],
)
def test_lines_that_contradict_each_other_are_refused(tmp_path: Path, rows: list[str], choices: dict[str, str]) -> None:
    sequences = fasta(tmp_path / "s.fasta", a="ACGT")
    with pytest.raises(UserError, match=r"Lines 2 and 3 of 't\.tsv' say different things of 'a'; keep one"):
        read(sequences, labels=table(tmp_path / "t.tsv", *rows), label_column="label", **choices)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (["id label"], r"The table 't\.tsv' has no line below its header; give the labels"),
        (["id label", "q x"], "called like 'a', the lines like 'q'; use the same names in both"),
        (["a x", "b y"], r"The first line of 't\.tsv' is about the sequence 'a' and names no columns"),
    ],
)
def test_a_table_that_labels_no_sequence_is_refused(tmp_path: Path, rows: list[str], sentence: str) -> None:
    sequences = fasta(tmp_path / "s.fasta", a="ACGT", b="ACGA")
    with pytest.raises(UserError, match=sentence):
        read(sequences, labels=table(tmp_path / "t.tsv", *rows))


def test_a_sequence_may_be_called_as_the_column_of_names(tmp_path: Path) -> None:
    sequences = fasta(tmp_path / "s.fasta", id="ACGT", b="ACGA")
    found = read(sequences, labels=table(tmp_path / "t.tsv", "id label", "id x", "b y"))
    assert [example.labels for example in found.examples] == [("x",), ("y",)]


def test_a_table_of_labels_is_for_fasta(tmp_path: Path) -> None:
    labels = table(tmp_path / "t.tsv", "id label", "a x")
    both = table(tmp_path / "both.tsv", "id sequence label", "a ACGT x")
    with pytest.raises(
        UserError, match=r"The sequences are in the table 'both\.tsv', and there is a table of labels too"
    ):
        read(both, labels=labels)


# One table with both


def test_a_table_may_have_sequences_and_labels(tmp_path: Path) -> None:
    path = table(tmp_path / "t.tsv", "name label sequence", "a x acgt", " y ACGU", "chr1:2-6 x RYGT")
    found = read(path)
    assert found.examples == [
        Example("a", "ACGT", ("x",), line=2),
        Example("line_3", "ACGT", ("y",), line=3),
        Example("chr1:2-6", "NNGT", ("x",), place=Place("chr1", 2, 6), line=4),
    ]
    assert found.source == "the table 't.tsv'"
    assert +found.counts == {"sequences": 3, "lower_case": 4, "ambiguous": 2, "uracil": 1}


def test_a_table_is_the_only_file_of_sequences(tmp_path: Path) -> None:
    path, other = table(tmp_path / "t.tsv", "label sequence", "x ACGT"), fasta(tmp_path / "s.fasta", a="ACGT")
    with pytest.raises(UserError, match=r"The table 't\.tsv' is one of several files; give one table"):
        read(other, path)


# FASTA files of classes


def test_each_file_is_a_class_of_its_name(tmp_path: Path) -> None:
    one = fasta(tmp_path / "promoter.fa", **{"chr1:5-9": "ACGT", "b": "acgt"})
    two = fasta(tmp_path / "my.enhancers.fasta", b="ACGA")
    found = read(one, two)
    assert found.examples == [
        Example("chr1:5-9", "ACGT", ("promoter",), place=Place("chr1", 5, 9)),
        Example("b", "ACGT", ("promoter",)),
        Example("b", "ACGA", ("my.enhancers",)),
    ]
    assert (found.label_columns, found.source) == (("file",), "the files")
    assert +found.counts == {"sequences": 3, "lower_case": 4}


def test_classes_may_be_named(tmp_path: Path) -> None:
    paths = [fasta(tmp_path / name, a="ACGT") for name in ("one", "two")]
    found = read(*paths, class_names=" not  bound,bound.fasta")
    assert [example.labels for example in found.examples] == [("not bound",), ("bound",)]


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        ({"class_names": "a"}, "There are 1 names of classes and 2 files; give one name a file"),
        ({"class_names": "x.fasta,x.fa"}, r"The names of the classes \(x, x\) are not all different"),
        ({"class_names": "x,"}, r"The names of the classes \(x, \) are not all different"),
        ({"task": "regress"}, "FASTA files, one a class, are for the task classify without given groups or splits"),
        ({"split": "given"}, "FASTA files, one a class, are for the task classify without given groups or splits"),
        ({"group_column": "gene"}, "FASTA files, one a class, are for the task classify without given groups or"),
    ],
)
def test_files_of_classes_that_cannot_be_are_refused(tmp_path: Path, choices: dict[str, str], sentence: str) -> None:
    paths = [fasta(tmp_path / name, a="ACGT") for name in ("one", "two")]
    with pytest.raises(UserError, match=sentence):
        read(*paths, **choices)


def test_one_fasta_alone_has_no_labels(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Nothing says what the sequences of 'one\.fasta' are"):
        read(fasta(tmp_path / "one.fasta", a="ACGT"))
