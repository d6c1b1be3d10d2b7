#!/usr/bin/env python3
"""Compare scores of groups: pictures, tests, effect sizes, and how well scores tell two labels apart."""

import argparse
import sys
from pathlib import Path

from dnalm.entry_point import argument_parser, number_between, run


def parser() -> argparse.ArgumentParser:
    """Return the options of this tool."""
    options = argument_parser(
        "dnalm_compare_scores",
        "Compare scores of groups: pictures, tests, effect sizes, and how well scores tell two labels apart.",
        runs_a_model=False,
    )
    options.add_argument(
        "--tables",
        type=Path,
        action="append",
        required=True,
        help="tab-separated table with a header line; repeat it for several, each of which is a group",
    )
    options.add_argument(
        "--names", action="append", metavar="NAME", help="of the groups, one a table (default: names of the files)"
    )
    options.add_argument(
        "--score", help="name or number of the column of scores (default: the first that looks like it)"
    )
    options.add_argument("--group-column", help="column that tells the groups of a single table apart")
    options.add_argument("--label-column", help="column with two labels, such as pathogenic and benign")
    options.add_argument(
        "--positive-label", metavar="LABEL", help="the label that scores shall find (default: 1, true, pathogenic …)"
    )
    options.add_argument(
        "--positive-scores",
        choices=["higher", "lower"],
        default="higher",
        help="than those of the other label, where the score is right",
    )
    options.add_argument("--cluster-column", help="column, such as gene or block, whose rows depend on one another")
    options.add_argument(
        "--compare",
        choices=["auto", "pairs", "reference", "rest"],
        default="auto",
        help="every two groups, each with the reference, or each with all others; auto: pairs of up to 20 groups",
    )
    options.add_argument("--reference-group", metavar="NAME", help="of the reference (default: the first group)")
    options.add_argument(
        "--match",
        choices=["no", "order", "column"],
        default="no",
        help="rows of groups: matched by their order or a column, for paired tests, or independent",
    )
    options.add_argument("--match-column", help="column with the same value in rows that belong together")
    options.add_argument(
        "--false-discovery",
        choices=["bh", "by"],
        default="bh",
        help="adjustment over all comparisons: Benjamini and Hochberg's, or Benjamini and Yekutieli's",
    )
    options.add_argument("--confidence", type=number_between(float, 0.5, 0.999), default=0.95, help="of the intervals")
    options.add_argument(
        "--bootstraps", type=number_between(int, 0, 100_000), default=1_000, help="resamples behind each interval"
    )
    options.add_argument("--seed", type=number_between(int, 0, 2**31 - 1), default=0, help="of the resamples")
    options.add_argument("--output", type=Path, required=True, help="picture of the groups")
    options.add_argument(
        "--kind", choices=["violin", "box", "ecdf"], default="violin", help="of the picture; ecdf: cumulative shares"
    )
    options.add_argument("--order", choices=["given", "median"], default="given", help="of the groups")
    options.add_argument("--figure-format", choices=["png", "pdf", "svg"], default="png", help="kind of the pictures")
    options.add_argument("--title", help="of the picture, instead of the score's name")
    options.add_argument("--groups", type=Path, help="table with one line a group")
    options.add_argument("--comparisons", type=Path, help="table with one line a comparison of two groups")
    options.add_argument("--classification", type=Path, help="table of AUROC and AUPRC; needs labels")
    options.add_argument("--curves", type=Path, help="picture of the curves behind them; needs labels")
    return options


def main(arguments: argparse.Namespace) -> None:
    """Run the task; its heavy imports wait until here."""
    from dnalm.tasks.comparison import ComparisonOptions, compare_scores

    compare_scores(ComparisonOptions(**vars(arguments)))


if __name__ == "__main__":
    sys.exit(run(parser(), main))
