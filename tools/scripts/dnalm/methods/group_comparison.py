"""What is known of a group of scores, of two groups, and of a score against labels: numbers, and intervals around them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnalm.errors import UserError, shown
from dnalm.methods import statistics
from dnalm.methods.bootstrap import Interval, bootstrap_interval, bootstrap_two_groups
from dnalm.methods.statistics import Tested

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Line = dict[str, str | float]  # of a table: its columns by name

ALL_OTHERS = "all others"
ALL_GROUPS = "all groups"


@dataclass(frozen=True)
class Group:
    """The rows of a group that have a score.

    Attributes:
        name: as the tables have it.
        values: scores, from the lowest to the highest.
        clusters: number of each row's cluster.
        labels: 1 positive, 0 negative, -1 neither known.
        keys: number of what each row shares with one of another group, -1 if nothing.
        rows, empty, not_numbers: all rows, those without a score, and those whose score is no finite number.
    """

    name: str
    values: Floats
    clusters: Codes | None = None
    labels: Codes | None = None
    keys: Codes | None = None
    rows: int = 0
    empty: int = 0
    not_numbers: int = 0

    @property
    def status(self) -> str:
        """`ok`, or why the group says little."""
        if not len(self.values):
            return "no_scores"
        if len(self.values) == 1:
            return "one_member"
        return "ok" if self.values[0] < self.values[-1] else "constant"


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made; no resamples, no intervals."""

    resamples: int
    confidence: float
    seed: int

    def of_rows(self, statistic: statistics.Statistic, arrays: Sequence[Floats], clusters: Codes | None) -> Interval:
        """Return the interval of a statistic of rows."""
        return bootstrap_interval(statistic, arrays, clusters, self.resamples, self.confidence, self.seed)

    def of_groups(self, statistic: statistics.Statistic, first: Group, second: Group) -> Interval:
        """Return the interval of a statistic of two groups, none where one of them has a single member."""
        if min(len(first.values), len(second.values)) < 2:
            return Interval(math.nan, math.nan)  # it would be that of the other group alone
        clusters = None
        if first.clusters is not None and second.clusters is not None:
            clusters = (first.clusters, second.clusters)
        return bootstrap_two_groups(
            statistic, first.values, second.values, clusters, self.resamples, self.confidence, self.seed
        )


def described(group: Group, bootstrap: Bootstrap) -> Line:
    """Return counts, median and mean with their intervals, and spread of a group."""
    values, n = group.values, len(group.values)
    line: Line = {"group": group.name, "status": group.status, "rows": group.rows, "n": n}
    line |= {"empty": group.empty, "not_numbers": group.not_numbers}
    for name, statistic in (("median", statistics.median), ("mean", statistics.mean)):
        line |= _with_interval(name, statistic(values), bootstrap.of_rows(statistic, (values,), group.clusters))
    line["sd"] = float(np.std(values, ddof=1)) if n > 1 else math.nan
    marks = np.quantile(values, [0, 0.25, 0.75, 1]) if n else np.full(4, np.nan)
    return line | dict(zip(("min", "q1", "q3", "max"), marks.tolist(), strict=True))


def compared(first: Group, second: Group, bootstrap: Bootstrap, *, matched: bool) -> Line:
    """Return effect sizes with intervals and tests of two groups: first − second, of independent or also matched rows.

    Raises:
        UserError: rows without a key are matched by order, and there are not as many of both.
    """
    line: Line = {"first": first.name, "second": second.name}
    line |= {"n_first": len(first.values), "n_second": len(second.values)}
    for name, statistic in EFFECTS.items():
        line |= _with_interval(
            name, statistic(first.values, second.values), bootstrap.of_groups(statistic, first, second)
        )
    line |= _tested(INDEPENDENT, first.values, second.values)
    return line | _matched(first, second, bootstrap) if matched else line


def _matched(first: Group, second: Group, bootstrap: Bootstrap) -> Line:
    """Return the mean difference of the rows that both groups have, and its tests."""
    assert first.keys is not None
    assert second.keys is not None
    _, of_first, of_second = np.intersect1d(
        np.where(first.keys < 0, -1, first.keys), np.where(second.keys < 0, -2, second.keys), return_indices=True
    )
    one, other = first.values[of_first], second.values[of_second]
    clusters = None if first.clusters is None else first.clusters[of_first]
    interval = bootstrap.of_rows(statistics.mean, (one - other,), clusters)
    line: Line = {"pairs": len(one)} | _with_interval("mean_of_differences", statistics.mean(one - other), interval)
    return line | _tested(PAIRED, one, other)


def refuse_uneven(first: Group, second: Group) -> None:
    """Refuse to match rows by their order where one group has more.

    Raises:
        UserError: they have not as many rows, those without a score included.
    """
    if first.rows != second.rows:
        raise UserError(
            f"The groups '{shown(first.name)}' and '{shown(second.name)}' have {first.rows:,} and {second.rows:,} rows; "
            "to match rows by their order there must be as many, so match them by a column."
        )


def classified(group: Group, sign: int, bootstrap: Bootstrap) -> Line:
    """Return how well the scores, times a sign, tell positive rows from negative ones: AUROC and AUPRC."""
    labels, values = positives(group, sign)
    clusters = None if group.clusters is None or group.labels is None else group.clusters[group.labels >= 0]
    found = int(labels.sum())
    both = 0 < found < len(labels)
    line: Line = {"group": group.name, "status": "ok" if both else "one_label" if len(labels) else "no_label"}
    line |= {"positives": found, "negatives": len(labels) - found}
    for name, metric in (("auroc", statistics.auroc), ("auprc", statistics.auprc)):
        interval = bootstrap.of_rows(metric, (labels, values), clusters) if both else Interval(math.nan, math.nan)
        line |= _with_interval(name, metric(labels, values), interval)
    return line | {"prevalence": statistics.mean(labels)}


def positives(group: Group, sign: int) -> tuple[Floats, Floats]:
    """Return of the rows with a label whether it is positive, 1 or 0, and the score times a sign."""
    assert group.labels is not None
    known = group.labels >= 0
    return group.labels[known].astype(np.float64), group.values[known] * sign


def joined(name: str, groups: Sequence[Group]) -> Group:
    """Return the rows of several groups as one."""
    columns: dict[str, Any] = {}
    for column in ("labels", "clusters", "values"):
        parts = [getattr(group, column) for group in groups]
        if parts[0] is not None:
            columns[column] = np.concatenate(parts)
    order = np.lexsort(list(columns.values()))
    return Group(name, **{column: values[order] for column, values in columns.items()})


def _tested(tests: dict[str, tuple[str, Callable[..., Tested]]], first: Floats, second: Floats) -> Line:
    line: Line = {}
    for name, (letter, test) in tests.items():
        found = test(first, second)
        line |= {f"{name}_{letter}": found.statistic, f"{name}_p": found.p}
    return line


def _with_interval(name: str, value: float, interval: Interval) -> Line:
    return {name: value, f"{name}_low": interval.low, f"{name}_high": interval.high}


EFFECTS: dict[str, statistics.Statistic] = {
    "difference_of_medians": statistics.difference_of_medians,
    "cliffs_delta": statistics.cliffs_delta,
    "hedges_g": statistics.hedges_g,
}
# Name → the letter of its statistic, and the test.
INDEPENDENT = {"mann_whitney": ("u", statistics.mann_whitney), "welch": ("t", statistics.welch)}
PAIRED = {"wilcoxon": ("w", statistics.wilcoxon), "paired": ("t", statistics.paired_t)}
