"""Groups of scores from tables: whose rows they are, and their labels, clusters and matches."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dnalm.errors import UserError
from dnalm.methods.group_comparison import Group
from dnalm.tasks.comparison_groups import read_groups
from dnalm.tasks.comparison_options import ComparisonOptions


def table(path: Path, *rows: str) -> Path:
    """Write a table; blanks part its columns, and a dash is an empty cell."""
    path.write_text("".join("\t".join("" if cell == "-" else cell for cell in row.split(" ")) + "\n" for row in rows))
    return path


def groups_of(*tables: Path, **choices: Any) -> dict[str, Group]:
    score, groups = read_groups(ComparisonOptions(list(tables), Path("out"), score="score", **choices))
    assert score == "score"
    return {group.name: group for group in groups}


def numbers(values: "np.ndarray | None") -> list[float]:
    assert values is not None
    return values.tolist()


def test_several_tables_are_groups_with_sorted_scores(tmp_path: Path) -> None:
    first = table(tmp_path / "b.tsv", "id score", "x 3", "y -", "z -1.5", "v inf", "w many")
    second = table(tmp_path / "a.tsv", "score id", "2 x", "1 y")
    found = groups_of(first, second)
    assert list(found) == ["b", "a"]
    assert numbers(found["b"].values) == [-1.5, 3]
    assert (found["b"].rows, found["b"].empty, found["b"].not_numbers) == (5, 1, 2)
    assert numbers(found["a"].values) == [1, 2]
    assert (found["a"].rows, found["a"].empty, found["a"].not_numbers) == (2, 0, 0)
    assert (found["a"].labels, found["a"].clusters, found["a"].keys) == (None, None, None)


def test_names_of_tables_may_be_given_and_are_tidied(tmp_path: Path) -> None:
    paths = [table(tmp_path / name, "score x", "1 a", "2 a") for name in ("one", "two", "three")]
    assert list(groups_of(*paths, names=["  a   b ", "", "c"])) == ["a b", "group 2", "c"]


def test_groups_of_one_table_come_in_the_order_of_their_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table(tmp_path / "t", "score kind", "5 b", "1 a", "4 b", "2 -", "3 a")
    found = groups_of(path, group_column="kind")
    assert [(name, numbers(group.values)) for name, group in found.items()] == [("b", [4, 5]), ("a", [1, 3])]
    assert "Rows without a group, left out: 1\n" in capsys.readouterr().out


def test_groups_may_be_sorted_by_their_median_those_without_scores_last(tmp_path: Path) -> None:
    path = table(tmp_path / "t", "score kind", "- none", "1 low", "9 high", "1 low", "2 same", "8 high", "2 also")
    assert list(groups_of(path, group_column="kind", order="median")) == ["high", "also", "same", "low", "none"]


def test_labels_are_the_groups_where_there_are_no_others(tmp_path: Path) -> None:
    path = table(tmp_path / "t", "score label", "5 no", "1 yes", "4 no", "2 .")
    found = groups_of(path, label_column="label")
    assert [(name, numbers(group.values), numbers(group.labels)) for name, group in found.items()] == [
        ("no", [4, 5], [0, 0]),
        ("yes", [1], [1]),
    ]


@pytest.mark.parametrize(
    ("labels", "chosen", "positive"),
    [
        (("1", "0"), None, "1"),
        (("benign", "Pathogenic"), None, "Pathogenic"),
        (("control", "CASE"), None, "CASE"),
        # None or both of the usual words: the last in the alphabet.
        (("b", "a"), None, "b"),
        (("case", "positive"), None, "positive"),
        (("1", "0"), "0", "0"),
    ],
)
def test_the_positive_label_is_a_usual_word_or_the_one_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], labels: tuple[str, str], chosen: str | None, positive: str
) -> None:
    path = table(tmp_path / "t", "score label kind", f"1 {labels[0]} a", f"2 {labels[1]} b", "3 - a")
    found = groups_of(path, group_column="kind", label_column="label", positive_label=chosen)
    assert numbers(found["a"].labels) == [int(labels[0] == positive), -1]
    assert numbers(found["b"].labels) == [int(labels[1] == positive)]
    said = capsys.readouterr().out
    assert f"Positive label: '{positive}', by higher scores" in said
    assert "Rows without a label, left out of AUROC and AUPRC: 1\n" in said


def test_clusters_are_numbered_by_name_and_rows_without_one_are_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table(tmp_path / "t", "score kind gene", "1 a TP53", "2 a -", "3 a BRCA1", "4 b TP53", "5 b -", "- b MYC")
    found = groups_of(path, group_column="kind", cluster_column="gene")
    # BRCA1, MYC and TP53 are 0, 1 and 2.
    assert numbers(found["a"].clusters) == [2, 4, 0]
    assert numbers(found["b"].clusters) == [2, 5]
    assert "Clusters: 4; rows without a cluster: 2\n" in capsys.readouterr().out


def test_rows_are_matched_by_their_place_among_all_rows_of_the_group(tmp_path: Path) -> None:
    """A row without a score keeps its place."""
    one = table(tmp_path / "one", "score x", "7 a", "- a", "5 a")
    other = table(tmp_path / "other", "score x", "1 a", "2 a", "3 a")
    found = groups_of(one, other, match="order")
    assert list(zip(numbers(found["one"].values), numbers(found["one"].keys), strict=True)) == [(5, 2), (7, 0)]
    assert numbers(found["other"].keys) == [0, 1, 2]


def test_rows_are_matched_by_the_text_of_a_column(tmp_path: Path) -> None:
    one = table(tmp_path / "one", "score id", "7 a", "6 -", "5 b", "4 -")
    other = table(tmp_path / "other", "score id", "1 b", "2 c", "3 a")
    found = groups_of(one, other, match="column", match_column="id")
    keys = {name: dict(zip(numbers(group.values), numbers(group.keys), strict=True)) for name, group in found.items()}
    assert keys["one"][7] == keys["other"][3]
    assert keys["one"][5] == keys["other"][1]
    assert [keys["one"][4], keys["one"][6]] == [-1, -1]
    assert len({keys["other"][score] for score in (1, 2, 3)}) == 3


def test_groups_do_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    rows = ["1 a yes x", "1 a no x", "1 a no y", "2 a yes y", "1 b no x", "0 b yes y"]
    columns = {"group_column": "kind", "label_column": "label", "cluster_column": "gene"}
    found = [
        groups_of(table(tmp_path / "t", "score kind label gene", *order), **columns)
        for order in (rows, [*rows[3::-1], *rows[:3:-1]])
    ]
    for name in ("a", "b"):
        for part in ("values", "labels", "clusters"):
            assert numbers(getattr(found[0][name], part)) == numbers(getattr(found[1][name], part))
    assert numbers(found[0]["a"].clusters) == [0, 0, 1, 1]
    assert numbers(found[0]["a"].labels) == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("rows", "choices", "sentence"),
    [
        (
            ["- a", "x b"],
            {"group_column": "kind"},
            "has no score in any group, of 2 rows; the first value is 'x', which",
        ),
        (["1 -", "2 NA"], {"group_column": "kind"}, "has no score in any group, of 2 rows; choose another column"),
        (["1 a", "- b"], {"group_column": "kind"}, "Only the group 'a' has scores; a comparison needs two"),
        (["1 a", "2 b", "3 c"], {"label_column": "kind"}, "There must be two labels; the column 'kind' has 3: "),
        (["1 a", "2 a"], {"label_column": "kind"}, "There must be two labels; the column 'kind' has 1: "),
        (["1 -", "2 -"], {"label_column": "kind"}, "There must be two labels; the column 'kind' is empty"),
        (["1 a", "2 b"], {"label_column": "kind", "positive_label": "c"}, "There is no label 'c'; the labels are "),
        (
            ["1 a x", "2 b x", "- b y"],
            {"group_column": "kind", "cluster_column": "more"},
            "All rows with a score are of one cluster",
        ),
        (
            ["1 a x", "2 b x", "3 b x", "4 b y"],
            {"group_column": "kind", "match": "column", "match_column": "more"},
            "The group 'b' has 2 rows with 'x' in the column 'more'; to match rows",
        ),
    ],
)
def test_tables_that_cannot_be_compared_are_refused(
    tmp_path: Path, rows: list[str], choices: dict[str, str], sentence: str
) -> None:
    header = "score kind more" if "more" in choices.values() else "score kind"
    with pytest.raises(UserError, match=sentence):
        groups_of(table(tmp_path / "t", header, *rows), **choices)


def test_two_tables_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
    paths = [table(tmp_path / folder / "t.tsv", "score x", "1 a") for folder in ("one", "other")]
    with pytest.raises(UserError, match="Two groups are called 't'; give each its own name"):
        groups_of(*paths)
    with pytest.raises(UserError, match="Two groups are called 'a b'"):
        groups_of(*paths, names=["a b", " a  b"])
