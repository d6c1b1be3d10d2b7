"""Scores of tables with their groups, labels, clusters and pairs."""

from pathlib import Path

import numpy as np
import pytest
from dnalm.errors import UserError
from dnalm.formats import score_tables
from dnalm.formats.score_tables import ScoreColumns, Scores, read_scores


def written(folder: Path, *contents: str) -> list[Path]:
    """Write tables that are called t1, t2 and so on."""
    paths = [folder / f"t{number}" for number in range(1, len(contents) + 1)]
    for path, content in zip(paths, contents, strict=True):
        path.write_text(content)
    return paths


def scores(folder: Path, content: str, **columns: str) -> Scores:
    return read_scores(written(folder, content), ["t1"], ScoreColumns(**columns))


@pytest.mark.parametrize("rows", [1, 3, 100_000])
def test_each_of_several_tables_is_a_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(score_tables, "ROWS", rows)
    paths = written(tmp_path, "id\tllr\na\t1.5\nb\t\nc\t -2e1 \n", "llr\tid\nfailed\ta\n.\tb\ninf\tc\n3\td\nNA\te\n")
    found = read_scores(paths, ["first", "second"], ScoreColumns(score="llr"))
    assert (found.score, found.groups, found.texts) == ("llr", ["first", "second"], {})
    np.testing.assert_array_equal(found.values, [1.5, np.nan, -20, np.nan, np.nan, np.nan, 3, np.nan])
    assert found.group.tolist() == [0, 0, 0, 1, 1, 1, 1, 1]
    assert found.empty == {0: 1, 1: 2}
    assert found.not_numbers == {1: 2}  # text and infinity
    assert found.example == "failed"


@pytest.mark.parametrize("rows", [2, 100_000])
def test_groups_of_one_table_come_in_the_order_of_their_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(score_tables, "ROWS", rows)
    table = "llr\tkind\n1\tintron\n2\t exon \n3\tNA\n4\tintron\n\texon\n6\n7\tnone\n"
    found = scores(tmp_path, table, score="llr", group="kind")
    assert found.groups == ["intron", "exon", "none"]
    assert found.group.tolist() == [0, 1, -1, 0, 1, -1, 2]
    assert found.empty == {1: 1}
    assert found.not_numbers == {}
    assert found.example == ""


def test_labels_clusters_and_pairs_are_numbered(tmp_path: Path) -> None:
    table = "llr\tlabel\tgene\tkey\n1\tbenign\tBRCA2\tx\n2\tpathogenic\t\ty\n3\t.\tCFTR\tx\n4\tbenign\tBRCA2\tnull\n"
    found = scores(tmp_path, table, score="llr", label="label", cluster="gene", pair="key")
    texts = {role: (names, numbers.tolist()) for role, (names, numbers) in found.texts.items()}
    assert texts == {
        "label": (["benign", "pathogenic"], [0, 1, -1, 0]),
        "cluster": (["BRCA2", "CFTR"], [0, -1, 1, 0]),
        "pair": (["x", "y"], [0, 1, 0, -1]),
    }


def test_pairs_of_several_tables_share_their_numbers(tmp_path: Path) -> None:
    paths = written(tmp_path, "id\tllr\na\t1\nb\t2\n", "id\tllr\nc\t3\na\t4\n")
    found = read_scores(paths, ["first", "second"], ScoreColumns(score="llr", pair="id"))
    names, numbers = found.texts["pair"]
    assert (names, numbers.tolist()) == (["a", "b", "c"], [0, 1, 2, 0])


@pytest.mark.parametrize("group", ["3", "2024"])
def test_columns_may_be_given_by_number(tmp_path: Path, group: str) -> None:
    """A number beyond the last column is a name."""
    found = scores(tmp_path, "id\tllr\t2024\na\t1\tx\nb\t2\ty\n", score="2", group=group)
    assert (found.score, found.groups) == ("llr", ["x", "y"])


@pytest.mark.parametrize("name", ["NaN", "inf", "Infinity"])
def test_a_name_may_look_like_no_finite_number(tmp_path: Path, name: str) -> None:
    assert scores(tmp_path, f"id\t{name}\na\t1\n", score=name).values.tolist() == [1]


def test_a_table_without_rows_has_no_scores(tmp_path: Path) -> None:
    found = scores(tmp_path, "id\tllr\n", score="llr", label="id")
    assert (len(found.values), len(found.group)) == (0, 0)
    names, numbers = found.texts["label"]
    assert (names, numbers.tolist()) == ([], [])


@pytest.mark.parametrize(
    ("table", "columns", "expected"),
    [
        ("id\tpos\tllr\n1\t5\t0.5\n", {}, "llr"),
        ("Chrom\tPOS\tscore\n1\t5\t0.5\n", {}, "score"),  # whatever the case
        ("x\tn_tokens\ty\na\t3\t0.5\n", {}, "y"),  # counts are no scores
        ("x\tfirst\tsecond\na\t\t1\nb\tNA\t2\n", {}, "second"),  # nothing is no score
        ("x\tfirst\tsecond\na\t1\t1\n", {"group": "first"}, "second"),
        ("x\tfirst\tsecond\n" + "a\t1\t1\n" * 10 + "a\tx\t1\n", {}, "second"),  # one text among ten numbers
        ("x\tfirst\tsecond\n" + "a\t1\t1\n" * 11 + "a\tx\t1\n", {}, "first"),  # among eleven
    ],
)
def test_the_first_column_that_looks_like_scores_is_taken(
    tmp_path: Path, table: str, columns: dict[str, str], expected: str
) -> None:
    assert scores(tmp_path, table, **columns).score == expected


def test_other_columns_that_look_like_scores_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores(tmp_path, "id\tllr\tl2\tnote\tcosine\na\t1\t2\tx\t3\n")
    assert capsys.readouterr().out == "Scores: the column 'llr'; not compared: 'l2', 'cosine'\n"
    scores(tmp_path, "id\tllr\tnote\na\t1\tx\n")
    assert capsys.readouterr().out == "Scores: the column 'llr'\n"
    scores(tmp_path, "id\tllr\tl2\na\t1\t2\n", score="l2")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("table", "columns", "sentence"),
    [
        ("id\tnote\na\tx\n", {}, "No column of the table 't1' looks like scores; name it: it has 'id', 'note'"),
        ("id\tllr\na\t1\n", {"score": "l2"}, r"no column 'l2' \(score\) in the table 't1'; it has 'id', 'llr'"),
        ("id\tllr\na\t1\n", {"score": "3"}, r"no column '3' \(score\) in the table 't1'"),
        ("id\tllr\na\t1\n", {"cluster": "ge\tne"}, r"no column 'ge\\tne' \(cluster\) in the table 't1'"),
        ("a\t0.5\nb\t1\n", {"score": "2"}, "first line of 't1' has the number '0.5' where the scores' name should be"),
    ],
)
def test_columns_that_are_not_there_are_named(
    tmp_path: Path, table: str, columns: dict[str, str], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        scores(tmp_path, table, **columns)


def test_every_table_must_have_the_columns_of_the_first(tmp_path: Path) -> None:
    paths = written(tmp_path, "id\tllr\na\t1\n", "id\tl2\na\t1\n")
    with pytest.raises(UserError, match=r"no column 'llr' \(score\) in the table 't2'; it has 'id', 'l2'"):
        read_scores(paths, ["first", "second"], ScoreColumns(score="2"))
