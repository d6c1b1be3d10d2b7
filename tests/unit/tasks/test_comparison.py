"""Comparisons of scores through the entry script, against scipy, scikit-learn and plain arithmetic."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import REPOSITORY, TEST_DATA, Run
from dnalm.methods import bootstrap, statistics
from PIL import Image
from scipy import stats
from sklearn import metrics

GROUPS = TEST_DATA / "scores_groups.tsv"
FIRST, SECOND = TEST_DATA / "scores_first.tsv", TEST_DATA / "scores_second.tsv"
OUTPUTS = ("groups", "comparisons", "classification")
Compared = Callable[..., tuple[dict[str, pd.DataFrame], str]]


@pytest.fixture
def compared(run_tool: Run, tmp_path: Path) -> Compared:
    """Compare tables and return the tables that come out, and what was said."""

    def call(*options: object, labels: bool = False) -> tuple[dict[str, pd.DataFrame], str]:
        wanted = OUTPUTS if labels else OUTPUTS[:2]
        named = [part for name in wanted for part in (f"--{name}", tmp_path / name)]
        code, said, error = run_tool("compare_scores", *options, "--output", tmp_path / "picture", *named)
        assert (code, error) == (0, "")
        read = {name: pd.read_csv(tmp_path / name, sep="\t", keep_default_na=True) for name in wanted}
        return {name: table.set_index(table.columns[0]) for name, table in read.items()}, said

    return call


def tables(*paths: Path) -> list[object]:
    return [part for path in paths for part in ("--tables", path)]


def scores(path: Path, column: str = "llr_masked") -> "pd.Series[float]":
    return pd.to_numeric(pd.read_csv(path, sep="\t", index_col="id")[column], errors="coerce").dropna()


def write(folder: Path, name: str, **columns: object) -> Path:
    path = folder / name
    pd.DataFrame(columns).to_csv(path, sep="\t", index=False)
    return path


def test_two_tables_are_compared_as_scipy_does(compared: Compared) -> None:
    found, said = compared(*tables(FIRST, SECOND))
    first, second = scores(FIRST), scores(SECOND)
    (line,) = found["comparisons"].reset_index().to_dict("records")
    assert (line["first"], line["second"]) == ("scores_first", "scores_second")
    assert (line["n_first"], line["n_second"]) == (117, 80)
    assert line["difference_of_medians"] == pytest.approx(first.median() - second.median())
    u = stats.mannwhitneyu(first, second)
    assert (line["mann_whitney_u"], line["mann_whitney_p"]) == pytest.approx(tuple(u), rel=1e-5)
    t = stats.ttest_ind(first, second, equal_var=False)
    assert (line["welch_t"], line["welch_p"]) == pytest.approx((t.statistic, t.pvalue), rel=1e-5)
    assert line["mann_whitney_fdr"] == line["mann_whitney_p"]
    assert line["cliffs_delta"] == pytest.approx(2 * u.statistic / (117 * 80) - 1, rel=1e-5)
    low, high = bootstrap.bootstrap_two_groups(statistics.cliffs_delta, np.sort(first), np.sort(second))
    assert (line["cliffs_delta_low"], line["cliffs_delta_high"]) == pytest.approx((low, high), rel=1e-5)
    assert "pairs" not in line
    assert "Scores: the column 'llr_masked'; not compared: 'l2'" in said


def test_each_group_is_described(compared: Compared) -> None:
    found, said = compared(*tables(FIRST, SECOND), "--names", "one", "--names", "another", "--confidence", 0.9)
    values = scores(FIRST)
    line = found["groups"].loc["one"]
    assert line[["status", "rows", "n", "empty", "not_numbers"]].tolist() == ["ok", 120, 117, 2, 1]
    for name in ("median", "mean", "min", "max"):
        assert line[name] == pytest.approx(getattr(values, name)(), rel=1e-5)
    assert line["sd"] == pytest.approx(values.std(), rel=1e-5)
    assert (line["q1"], line["q3"]) == pytest.approx(tuple(values.quantile([0.25, 0.75])), rel=1e-5)
    interval = bootstrap.bootstrap_interval(statistics.mean, (np.sort(values),), confidence=0.9)
    assert (line["mean_low"], line["mean_high"]) == pytest.approx(interval, rel=1e-5)
    assert "one: 117 scores of 120 rows (2 without a score, 1 with a score that is no number, left out)" in said
    assert "The first score that is no finite number: 'failed'" in said


def test_labels_are_told_apart_as_scikit_learn_does(compared: Compared) -> None:
    options = ("--group-column", "consequence", "--label-column", "label", "--positive-scores", "lower")
    found, said = compared(*tables(GROUPS), *options, labels=True)
    table = pd.read_csv(GROUPS, sep="\t")
    assert found["classification"].index.tolist() == ["all groups", *table["consequence"].unique()]
    for name, line in found["classification"].iterrows():
        rows = table if name == "all groups" else table[table["consequence"] == name]
        labels = rows["label"] == "pathogenic"
        assert (line["positives"], line["negatives"]) == (labels.sum(), (~labels).sum())
        if labels.nunique() == 1:
            assert line["status"] == "one_label"
            assert np.isnan(line["auroc"])
        else:
            assert line["auroc"] == pytest.approx(metrics.roc_auc_score(labels, -rows["llr_masked"]), rel=1e-5)
            assert line["auprc"] == pytest.approx(
                metrics.average_precision_score(labels, -rows["llr_masked"]), rel=1e-5
            )
            assert line["auroc_low"] <= line["auroc"] <= line["auroc_high"]
        assert line["prevalence"] == pytest.approx(labels.mean(), rel=1e-5)
    assert "Positive label: 'pathogenic', by lower scores; negative: 'benign'" in said
    assert "AUROC is below 0.5" not in said


def test_the_wrong_direction_is_told(compared: Compared) -> None:
    options = ("--label-column", "label", "--positive-label", "benign", "--positive-scores", "lower")
    found, said = compared(*tables(GROUPS), *options, labels=True)
    assert found["classification"].loc["all groups", "auroc"] < 0.5
    assert "AUROC is below 0.5: higher scores go with the positive label" in said
    assert found["groups"].index.tolist() == ["benign", "pathogenic"]  # without groups, the labels are


@pytest.mark.slow
@pytest.mark.parametrize(
    ("labels", "positive"),
    [(["0", "1"], "1"), (["FALSE", "TRUE"], "TRUE"), (["zebra", "case"], "case"), (["a", "b"], "b")],
)
def test_the_positive_label_is_guessed_and_said(
    compared: Compared, tmp_path: Path, labels: list[str], positive: str
) -> None:
    path = write(tmp_path, "t", score=[1.5, 2.5, 3.5, 4.5], label=labels * 2)
    _, said = compared(*tables(path), "--label-column", "label", labels=True)
    assert f"Positive label: '{positive}', by higher scores" in said


def test_matched_rows_have_paired_tests(compared: Compared, tmp_path: Path) -> None:
    first, second = scores(FIRST, "l2"), scores(SECOND, "l2")
    shuffled = tmp_path / "scores_second.tsv"
    pd.read_csv(SECOND, sep="\t").sample(frac=1, random_state=0).to_csv(shuffled, sep="\t", index=False)
    found, said = compared(*tables(FIRST, shuffled), "--score", "l2", "--match", "column", "--match-column", "id")
    (line,) = found["comparisons"].to_dict("records")
    one, other = first[second.index], second
    assert line["pairs"] == 80
    assert line["mean_of_differences"] == pytest.approx((one - other).mean(), rel=1e-5)
    assert line["mean_of_differences_low"] < line["mean_of_differences"] < line["mean_of_differences_high"]
    assert line["wilcoxon_p"] == pytest.approx(stats.wilcoxon(one, other).pvalue, rel=1e-5)
    assert line["paired_t"] == pytest.approx(stats.ttest_rel(one, other).statistic, rel=1e-5)
    assert "; of 80 pairs Wilcoxon p = " in said


def test_rows_matched_by_order_skip_both_where_one_has_no_score(compared: Compared, tmp_path: Path) -> None:
    one = write(tmp_path, "one", score=["1.5", "", "3", "4", "5"])
    other = write(tmp_path, "other", score=["1", "2", "x", "3", "3.2"], id=list("abcde"))
    pd.read_csv(one, sep="\t", dtype=str).assign(id=list("abcde")).to_csv(one, sep="\t", index=False)
    found, _ = compared(*tables(one, other), "--score", "score", "--match", "order")
    (line,) = found["comparisons"].to_dict("records")
    assert line["pairs"] == 3
    assert line["mean_of_differences"] == pytest.approx((0.5 + 1 + 1.8) / 3, rel=1e-5)


@pytest.mark.slow
def test_nothing_depends_on_the_order_of_the_rows(run_tool: Run, tmp_path: Path) -> None:
    for name, seed in (("first", 1), ("second", 2)):
        (tmp_path / name).mkdir()
        table = pd.read_csv(GROUPS, sep="\t").sample(frac=1, random_state=seed)
        table = table.sort_values("consequence", kind="stable")  # the order of the groups stays
        table.to_csv(tmp_path / name / "t", sep="\t", index=False)
        outputs = [part for output in (*OUTPUTS, "curves") for part in (f"--{output}", tmp_path / name / output)]
        code, _, _ = run_tool(
            "compare_scores",
            *("--tables", tmp_path / name / "t", "--group-column", "consequence", "--label-column", "label"),
            *("--cluster-column", "gene", "--output", tmp_path / name / "picture", *outputs),
        )
        assert code == 0
    for output in (*OUTPUTS, "curves"):
        assert (tmp_path / "first" / output).read_bytes() == (tmp_path / "second" / output).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["violin", "box", "ecdf"])
@pytest.mark.parametrize("figure_format", ["png", "pdf", "svg"])
def test_equal_runs_give_equal_bytes(run_tool: Run, tmp_path: Path, kind: str, figure_format: str) -> None:
    for name in ("first", "second"):
        options = (*tables(GROUPS), "--group-column", 8, "--label-column", 10, "--bootstraps", 50)
        places = ("--output", tmp_path / f"{name}.picture", "--curves", tmp_path / f"{name}.curves")
        assert run_tool("compare_scores", *options, "--kind", kind, "--figure-format", figure_format, *places)[0] == 0
    for picture in ("picture", "curves"):
        assert (tmp_path / f"first.{picture}").read_bytes() == (tmp_path / f"second.{picture}").read_bytes()


@pytest.mark.slow
def test_clusters_change_intervals_and_nothing_else(compared: Compared) -> None:
    plain, _ = compared(*tables(GROUPS), "--group-column", "consequence")
    clustered, said = compared(*tables(GROUPS), "--group-column", "consequence", "--cluster-column", "gene")
    assert "Clusters: 12" in said
    for name, table in plain.items():
        intervals = [column for column in table if column.endswith(("_low", "_high"))]
        assert not table[intervals].equals(clustered[name][intervals])
        assert table.drop(columns=intervals).equals(clustered[name].drop(columns=intervals))


def test_rows_without_group_label_or_cluster_are_counted(compared: Compared, tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "t",
        score=[1.5, 2.5, 3.5, 4.5, 5.5, 6.5],
        kind=["a", "a", "b", "b", "", "NA"],
        hit=["no", "yes", "no", ".", "no", "yes"],
        gene=["x", "", "y", "x", "y", "y"],
    )
    options = ("--group-column", "kind", "--label-column", "hit", "--cluster-column", "gene")
    found, said = compared(*tables(path), *options, labels=True)
    assert "Rows without a group, left out: 2" in said
    assert "Rows without a label, left out of AUROC and AUPRC: 1" in said
    assert "Clusters: 3; rows without a cluster: 1" in said
    assert found["groups"]["n"].tolist() == [2, 2]
    assert found["classification"].loc["all groups", ["positives", "negatives"]].tolist() == [1, 2]


@pytest.mark.slow
def test_false_discoveries_are_adjusted_over_all_comparisons(compared: Compared) -> None:
    for method in ("bh", "by"):
        found, _ = compared(*tables(GROUPS), "--group-column", "consequence", "--false-discovery", method)
        table = found["comparisons"]
        expected = stats.false_discovery_control(table["mann_whitney_p"], method=method)
        np.testing.assert_allclose(table["mann_whitney_fdr"], expected, rtol=1e-4)
        # The group of one has no Welch's test, and does not count.
        defined = table["welch_p"].notna()
        assert defined.sum() == 3
        expected = stats.false_discovery_control(table["welch_p"][defined], method=method)
        np.testing.assert_allclose(table["welch_fdr"][defined], expected, rtol=1e-4)
        assert table["welch_fdr"][~defined].isna().all()


def test_a_group_of_one_has_a_difference_and_no_interval(compared: Compared) -> None:
    found, _ = compared(*tables(GROUPS), "--group-column", "consequence")
    assert found["groups"].loc["splice site", "status"] == "one_member"
    lines = found["comparisons"][found["comparisons"]["second"] == "splice site"]
    assert lines["cliffs_delta"].notna().all()
    assert lines[["cliffs_delta_low", "hedges_g", "welch_p"]].isna().all(axis=None)


def test_a_group_without_scores_is_told_and_not_compared(compared: Compared, tmp_path: Path) -> None:
    path = write(tmp_path, "t", score=["", "NA", "1", "2", "4", "4"], kind=list("aabbcc"))
    found, said = compared(*tables(path), "--group-column", "kind")
    assert found["groups"]["status"].tolist() == ["no_scores", "ok", "constant"]
    assert "a: 0 scores of 2 rows (2 without a score, left out)" in said
    assert len(found["comparisons"]) == 1


@pytest.mark.slow
def test_groups_are_compared_with_whom_is_asked_for(compared: Compared) -> None:
    def pairs(*options: object) -> list[tuple[str, str]]:
        found, _ = compared(*tables(GROUPS), "--group-column", "consequence", "--bootstraps", 0, *options)
        return list(found["comparisons"]["second"].items())

    assert len(pairs()) == 6
    assert pairs("--compare", "reference") == [(name, "missense") for name in ("intron", "splice site", "synonymous")]
    assert {second for _, second in pairs("--compare", "reference", "--reference-group", "intron")} == {"intron"}
    rest = pairs("--compare", "rest", "--order", "median")
    assert rest == [(name, "all others") for name in ("intron", "synonymous", "missense", "splice site")]


def test_all_others_are_all_the_others(compared: Compared) -> None:
    found, _ = compared(*tables(GROUPS), "--group-column", "consequence", "--compare", "rest", "--bootstraps", 0)
    table = pd.read_csv(GROUPS, sep="\t")
    inside = table["consequence"] == "intron"
    expected = stats.mannwhitneyu(table["llr_masked"][inside], table["llr_masked"][~inside]).pvalue
    assert found["comparisons"].loc["intron", "mann_whitney_p"] == pytest.approx(expected, rel=1e-5)
    assert found["comparisons"]["cliffs_delta_low"].isna().all()


@pytest.mark.slow
def test_two_hundred_groups_are_each_compared_with_all_others(compared: Compared, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    path = write(tmp_path, "t", score=generator.normal(size=2_000), kind=[f"g{n % 200}" for n in range(2_000)])
    found, said = compared(*tables(path), "--group-column", "kind", "--bootstraps", 50)
    assert len(found["comparisons"]) == 200
    assert "Each of 200 groups is compared with all others together" in said
    assert "… and 180 more groups" in said
    assert "Groups in the picture: the first 40; the tables have all 200" in said
    assert (found["comparisons"]["mann_whitney_fdr"] > 0.05).all()
    assert Image.open(tmp_path / "picture").size[1] < 4_000


def test_many_rows_have_fewer_resamples_and_are_told_so(compared: Compared, monkeypatch: pytest.MonkeyPatch) -> None:
    from dnalm.tasks import comparison

    monkeypatch.setattr(comparison, "MOST_DRAWN", 100_000)
    _, said = compared(*tables(GROUPS), "--group-column", "consequence")
    assert "Intervals of groups from 833 resamples, not 1,000: there are so many rows" in said
    assert "Intervals of comparisons from 277 resamples" in said


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"id": ["1", "2"], "pos": ["5", "6"], "pll": ["0.5", "1"], "kind": ["a", "b"]}, "pll"),
        ({"id": ["1", "2"], "first": ["", ""], "second": ["", "1"], "kind": ["a", "b"]}, "second"),
        ({"note": ["x", "1"], "score": ["2", "1"], "kind": ["a", "b"]}, "score"),
    ],
)
def test_the_column_of_scores_is_found(
    run_tool: Run, tmp_path: Path, columns: dict[str, list[str]], expected: str
) -> None:
    path = write(tmp_path, "t", **columns)
    _, said, _ = run_tool("compare_scores", *tables(path), "--group-column", "kind", "--output", tmp_path / "x")
    assert f"Scores: the column '{expected}'" in said


def test_the_picture_says_what_was_done(run_tool: Run, tmp_path: Path) -> None:
    for figure_format in ("svg", "png"):
        options = (*tables(FIRST, SECOND), "--title", "Two models", "--figure-format", figure_format)
        assert run_tool("compare_scores", *options, "--output", tmp_path / figure_format)[0] == 0
    svg = (tmp_path / "svg").read_text()
    for text in ("Two models", "n = 117", "scores_second", "llr_masked", "Cliff's delta −0.", "Mann-Whitney p = "):
        assert text in svg
    facts = json.loads(Image.open(tmp_path / "png").info["Description"])
    assert facts["options"]["score"] == "llr_masked"
    assert facts["versions"].keys() >= {"dnalm", "scipy"}
    assert str(tmp_path) not in json.dumps(facts)


@pytest.mark.slow
def test_a_comparison_needs_no_model(tmp_path: Path) -> None:
    absent = {"torch", "transformers", "tokenizers", "safetensors", "Bio", "anndata"}
    code = "import sys, dnalm_compare_scores as tool; tool.main(tool.parser().parse_args(sys.argv[1:]))\n"
    code += f"assert not {absent} & sys.modules.keys()"
    arguments = [*tables(FIRST, SECOND), "--output", tmp_path / "picture.png"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=REPOSITORY / "scripts",
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
