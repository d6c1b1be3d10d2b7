"""Tables that cannot be compared: one sentence, exit code 1, nothing written."""

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TEST_DATA, Run

GROUPS = (TEST_DATA / "scores_groups.tsv").read_text()
TABLE = "id\tscore\tkind\tgene\thit\nx\t1\ta\tg\t0\ny\t2\ta\tg\t1\nz\t3\tb\tg\t0\nw\t4\tb\th\t1\n"
BY_KIND = ("--group-column", "kind")


@pytest.fixture
def refused(run_tool: Run, tmp_path: Path) -> Callable[..., str]:
    """Run a job that must be refused, and return its sentence."""

    def call(*arguments: object, labels: bool = False) -> str:
        results = tmp_path / "results"
        results.mkdir()
        names = ("output", "groups", "comparisons", *(("classification", "curves") if labels else ()))
        outputs = [part for name in names for part in (f"--{name}", results / name)]
        code, _, error = run_tool("compare_scores", *arguments, *outputs)
        assert code == 1
        assert error.startswith("dnalm_compare_scores: ")
        assert error.endswith(".\n")
        assert error.count("\n") == 1
        assert list(results.iterdir()) == []
        return error

    return call


BAD_TABLES: dict[str, tuple[str, tuple[object, ...], str]] = {
    "empty": ("", BY_KIND, "The table 'input.tsv' is empty"),
    "header alone": (TABLE.splitlines()[0] + "\n", BY_KIND, "No column of the table 'input.tsv' looks like scores"),
    "header alone, named": (TABLE.splitlines()[0] + "\n", (*BY_KIND, "--score", "score"), "has no score in any group"),
    "one column": ("score\n1\n2\n", BY_KIND, "has one column only"),
    "binary": ("\0\1\2\tx\n", BY_KIND, "Line 1 of 'input.tsv' has a NUL byte"),
    "no header": (TABLE.split("\n", 1)[1], ("--group-column", "3", "--score", "2"), "has the number '1' where"),
    "missing column of scores": (
        TABLE,
        (*BY_KIND, "--score", "pll"),
        "There is no column 'pll' (score) in the table 'input.tsv'; it has 'id', 'score', 'kind', 'gene', 'hit'",
    ),
    "missing column of groups": (TABLE, ("--group-column", "type"), "There is no column 'type' (group)"),
    "missing column by number": (TABLE, ("--group-column", "6"), "There is no column '6' (group)"),
    "missing column of clusters": (TABLE, (*BY_KIND, "--cluster-column", "block"), "no column 'block' (cluster)"),
    "text as scores": (
        TABLE,
        (*BY_KIND, "--score", "id"),
        "has no score in any group, of 4 rows; the first value is 'x', which is no number; choose another column",
    ),
    "all NaN": (
        "id\tscore\tkind\na\tnan\tx\nb\tNA\ty\nc\t\ty\nd\t.\tx\n",
        (*BY_KIND, "--score", "score"),
        "has no score in any group, of 4 rows; choose another column",
    ),
    "infinities": (
        "id\tscore\tkind\na\tinf\tx\nb\t-inf\ty\n",
        (*BY_KIND, "--score", "score"),
        "the first value is 'inf', which is no number",
    ),
    "no column looks like scores": ("id\tkind\nx\ta\ny\tb\n", BY_KIND, "No column of the table 'input.tsv' looks like"),
    "one group": (TABLE.replace("\tb\t", "\ta\t"), BY_KIND, "Only the group 'a' has scores; a comparison needs two"),
    "one group with scores": (TABLE.replace("3\tb", "\tb").replace("4\tb", "\tb"), BY_KIND, "Only the group 'a' has"),
    "no groups": (TABLE, (), "One table alone is one group"),
    "empty column of groups": (
        TABLE.replace("\ta\t", "\t\t").replace("\tb\t", "\tNA\t"),
        BY_KIND,
        "has no score in any group",
    ),
    "one cluster": (
        TABLE.replace("\th\t", "\tg\t"),
        (*BY_KIND, "--cluster-column", "gene"),
        "All rows with a score are of one cluster, 'g'; intervals need at least two",
    ),
    "a row too long": (
        TABLE.replace("w\t4", "w\t4\t1"),
        BY_KIND,
        "Line 5 of 'input.tsv' has 6 cells, but the table 5 columns",
    ),
    "unknown reference": (
        TABLE,
        (*BY_KIND, "--compare", "reference", "--reference-group", "c"),
        "There is no group 'c' with scores for the reference; there are 'a', 'b'",
    ),
    "reference without comparison": (TABLE, (*BY_KIND, "--reference-group", "a"), "goes with '--compare reference'"),
    "matched by order, uneven": (
        TABLE + "v\t5\tb\th\t1\n",
        (*BY_KIND, "--match", "order"),
        "The groups 'a' and 'b' have 2 and 3 rows",
    ),
    "matched by a repeated value": (
        TABLE,
        (*BY_KIND, "--match", "column", "--match-column", "gene"),
        "The group 'a' has 2 rows with 'g' in the column 'gene'",
    ),
    "matched by nothing": (TABLE, (*BY_KIND, "--match", "column"), "goes with '--match column' alone"),
    "matched with all others": (TABLE, (*BY_KIND, "--match", "order", "--compare", "rest"), "cannot be matched"),
    "labels wanted, none given": (TABLE, (*BY_KIND, "--positive-label", "1"), "AUROC and AUPRC need labels"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_bad_tables_are_refused(refused: Callable[..., str], tmp_path: Path, case: str) -> None:
    content, options, sentence = BAD_TABLES[case]
    (tmp_path / "input.tsv").write_text(content)
    assert sentence in refused("--tables", tmp_path / "input.tsv", *options)


BAD_LABELS: dict[str, tuple[str, tuple[object, ...], str]] = {
    "three": (GROUPS, ("--label-column", "consequence"), "the column 'consequence' has 4: 'missense', 'intron'"),
    "one": (TABLE.replace("\t1\n", "\t0\n"), ("--label-column", "hit"), "the column 'hit' has 1: '0'"),
    "none": (TABLE.replace("\t1\n", "\t\n").replace("\t0\n", "\t\n"), ("--label-column", "hit"), "'hit' is empty"),
    "one with scores": (
        TABLE.replace("y\t2", "y\t").replace("w\t4", "w\t"),
        ("--label-column", "hit"),
        "All rows with a score and a label have one label",
    ),
    "unknown positive": (
        TABLE,
        ("--label-column", "hit", "--positive-label", "yes"),
        "There is no label 'yes'; the labels are '0', '1'",
    ),
}


@pytest.mark.parametrize("case", BAD_LABELS)
def test_bad_labels_are_refused(refused: Callable[..., str], tmp_path: Path, case: str) -> None:
    content, options, sentence = BAD_LABELS[case]
    (tmp_path / "input.tsv").write_text(content)
    assert sentence in refused("--tables", tmp_path / "input.tsv", *options, labels=True)


def test_tables_with_different_columns_are_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "one.tsv").write_text(TABLE)
    (tmp_path / "other.tsv").write_text(TABLE.replace("score", "pll"))
    error = refused("--tables", tmp_path / "one.tsv", "--tables", tmp_path / "other.tsv")
    assert "There is no column 'score' (score) in the table 'other.tsv'" in error


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--group-column", "kind"), "not both"),
        (("--names", "one"), "There are 1 names for 2 tables"),
        (("--names", "one", "--names", "one"), "Two groups are called 'one'"),
    ],
)
def test_several_tables_have_names_of_their_own_and_no_groups(
    refused: Callable[..., str], tmp_path: Path, options: tuple[object, ...], sentence: str
) -> None:
    for name in ("one.tsv", "other.tsv"):
        (tmp_path / name).write_text(TABLE)
    assert sentence in refused("--tables", tmp_path / "one.tsv", "--tables", tmp_path / "other.tsv", *options)
