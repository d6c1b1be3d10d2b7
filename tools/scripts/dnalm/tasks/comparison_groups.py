"""From tables of scores to groups: whose rows they are, which label and cluster each has, which belong together."""

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dnalm.errors import UserError, shown
from dnalm.formats.score_tables import ScoreColumns, Scores, read_scores
from dnalm.formats.tables import listed
from dnalm.methods import statistics
from dnalm.methods.group_comparison import Group
from dnalm.tasks.comparison_options import ComparisonOptions

# Labels that scores are to find, in small letters, where the user names none.
POSITIVE = ("1", "true", "yes", "positive", "pos", "pathogenic", "likely pathogenic", "case", "functional")

Codes = NDArray[np.int64]


def read_groups(options: ComparisonOptions) -> tuple[str, list[Group]]:
    """Return the name of the column of scores, and the groups in the order that is asked for.

    Raises:
        UserError: there is no score, or labels, clusters or matches cannot be used.
    """
    names = _names(options) if len(options.tables) > 1 else [""]
    # Labels of one table are its groups where it has no others.
    by = options.group_column or (options.label_column if len(options.tables) == 1 else None)
    wanted = ScoreColumns(options.score, by, options.label_column, options.cluster_column, options.match_column)
    scores = read_scores(options.tables, names, wanted)
    if without := int((scores.group < 0).sum()):
        print(f"Rows without a group, left out: {without:,}")
    labels = _labels(scores, options) if options.label_column else None
    _refuse_without_scores(scores)
    clusters = _clusters(scores) if options.cluster_column else None
    order = np.argsort(scores.group, kind="stable")
    bounds = np.searchsorted(scores.group[order], np.arange(len(scores.groups) + 1))
    groups = [
        _group(scores, number, order[start:end], labels, clusters, options)
        for number, (start, end) in enumerate(pairwise(bounds))
    ]
    if options.order == "median":
        groups.sort(key=lambda group: (-statistics.median(group.values) if len(group.values) else math.inf, group.name))
    if sum(len(group.values) > 0 for group in groups) < 2 and not options.label_column:
        only = next(group.name for group in groups if len(group.values))
        raise UserError(f"Only the group '{shown(only)}' has scores; a comparison needs two.")
    return scores.score, groups


def _names(options: ComparisonOptions) -> list[str]:
    given = options.names or [path.stem for path in options.tables]
    names = [" ".join(name.split()) or f"group {number}" for number, name in enumerate(given, start=1)]
    if repeated := next((name for number, name in enumerate(names) if name in names[:number]), None):
        raise UserError(f"Two groups are called '{shown(repeated)}'; give each its own name.")
    return names


def _refuse_without_scores(scores: Scores) -> None:
    if scores.example:
        print(f"The first score that is no finite number: '{scores.example}'")
    if not np.isfinite(scores.values[scores.group >= 0]).any():
        reason = f"; the first value is '{scores.example}', which is no number" if scores.example else ""
        raise UserError(
            f"The column '{scores.score}' has no score in any group, of {len(scores.values):,} rows{reason}; choose "
            "another column."
        )


def _labels(scores: Scores, options: ComparisonOptions) -> Codes:
    """Return 1 for rows with the positive label, 0 for the other, -1 for rows without one."""
    names, codes = scores.texts["label"]
    if len(names) != 2:
        found = f"has {len(names):,}: {listed(names)}" if names else "is empty"
        raise UserError(f"There must be two labels; the column '{shown(options.label_column)}' {found}.")
    positive = options.positive_label
    if positive is None:
        known = [name for name in names if name.lower() in POSITIVE]
        positive = known[0] if len(known) == 1 else max(names)
    if positive not in names:
        raise UserError(f"There is no label '{shown(positive)}'; the labels are {listed(names)}.")
    (negative,) = set(names) - {positive}
    print(f"Positive label: '{shown(positive)}', by {options.positive_scores} scores; negative: '{shown(negative)}'")
    if without := int((codes < 0).sum()):
        print(f"Rows without a label, left out of AUROC and AUPRC: {without:,}")
    return np.where(codes < 0, -1, codes == names.index(positive))


def _clusters(scores: Scores) -> Codes:
    """Return each row's cluster, numbered by name; rows without one are clusters of their own."""
    names, codes = scores.texts["cluster"]
    numbers = np.empty(len(names) + 1, dtype=np.int64)
    numbers[np.argsort(np.array(names, dtype=str))] = np.arange(len(names))
    alone = codes < 0
    clusters = np.where(alone, len(names) + np.cumsum(alone), numbers[codes])
    present = len(np.unique(clusters[np.isfinite(scores.values) & (scores.group >= 0)]))
    if present < 2:
        raise UserError(
            f"All rows with a score are of one cluster, {listed(names)}; intervals need at least two, so choose another "
            "column of clusters or none."
        )
    print(f"Clusters: {present:,}" + (f"; rows without a cluster: {alone.sum():,}" if alone.any() else ""))
    return clusters


def _group(
    scores: Scores,
    number: int,
    rows: Codes,
    labels: Codes | None,
    clusters: Codes | None,
    options: ComparisonOptions,
) -> Group:
    """Return the rows of a group that have a score, by score: nothing depends on the order of a table."""
    keys = _keys(scores, number, rows, options)
    scored = np.isfinite(scores.values[rows])
    kept = rows[scored]
    values = scores.values[kept]
    columns = {
        "clusters": None if clusters is None else clusters[kept],
        "labels": None if labels is None else labels[kept],
        "keys": None if keys is None else keys[scored],
    }
    given = {name: column for name, column in columns.items() if column is not None}
    order = np.lexsort([*reversed(given.values()), values])
    return Group(
        scores.groups[number],
        values[order],
        rows=len(rows),
        empty=scores.empty[number],
        not_numbers=scores.not_numbers[number],
        **{name: column[order] for name, column in given.items()},
    )


def _keys(scores: Scores, number: int, rows: Codes, options: ComparisonOptions) -> Codes | None:
    """Return with which rows of other groups these belong: their place in the group, or the number of their text."""
    if options.match == "no":
        return None
    if options.match == "order":
        return np.arange(len(rows))
    names, codes = scores.texts["pair"]
    counts = np.bincount(codes[rows][codes[rows] >= 0], minlength=1)
    if counts.max() > 1:
        raise UserError(
            f"The group '{shown(scores.groups[number])}' has {counts.max():,} rows with "
            f"'{shown(names[counts.argmax()])}' in the column '{shown(options.match_column)}'; to match rows, a value "
            "may stand once in a group."
        )
    return codes[rows]
