"""Compare scores of groups: read, describe each group, test every two, tell labels apart, draw and tabulate."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from dnalm.errors import UserError, shown
from dnalm.formats.outputs import whole_or_nothing
from dnalm.formats.tables import TableWriter, listed
from dnalm.methods import statistics
from dnalm.methods.group_comparison import (
    ALL_GROUPS,
    ALL_OTHERS,
    Bootstrap,
    Group,
    Line,
    classified,
    compared,
    described,
    joined,
    positives,
    refuse_uneven,
)
from dnalm.methods.threads import one_thread
from dnalm.report.comparison_plots import MOST_LINES, MOST_SHOWN, LabelCurve, draw_curves, draw_groups
from dnalm.report.plots import MapText
from dnalm.report.progress import Progress
from dnalm.report.provenance import versions
from dnalm.tasks.comparison_groups import read_groups
from dnalm.tasks.comparison_options import ComparisonOptions

MOST_IN_PAIRS = 20  # groups of which every two are compared by default
MOST_TOLD = 20  # groups or comparisons on stdout
# Rows drawn for all intervals of one kind: more of them have fewer resamples each, for a job of minutes.
MOST_DRAWN, FEWEST_RESAMPLES = 500_000_000, 200
PACKAGES = ("numpy", "scipy", "scikit-learn", "matplotlib")
CUMULATIVE = "Share of the group at or below"


def compare_scores(options: ComparisonOptions) -> None:
    """Draw groups of scores, write tables of groups, comparisons and labels, and say on stdout what was found.

    Raises:
        UserError: tables, columns or options cannot be used, or there is nothing to compare.
    """
    options.check()
    further = (options.groups, options.comparisons, options.classification, options.curves)
    outputs = [options.output, *(path for path in further if path)]
    with whole_or_nothing(outputs, options.tables) as partials:
        score, groups = read_groups(options)
        _tell_groups(groups)
        with one_thread():
            _compare(score, groups, options, dict(zip(outputs, partials, strict=True)))


def _compare(score: str, groups: Sequence[Group], options: ComparisonOptions, written: Mapping[Path, Path]) -> None:
    """Write what was asked for, each output at its place in `written`."""
    if options.groups:
        bootstrap = _bootstrap(sum(len(group.values) for group in groups), "groups", options)
        _write(written[options.groups], [described(group, bootstrap) for group in groups])
    scored = [group for group in groups if len(group.values)]
    comparisons = _adjusted(list(_comparisons(scored, options)), options.false_discovery)
    _tell_comparisons(comparisons)
    if options.comparisons:
        _write(written[options.comparisons], comparisons)
    facts = _facts(score, options)
    _draw(written[options.output], score, scored, comparisons, options, facts)
    if options.label_column:
        _tell_labels_apart(score, scored, written, options, facts)
    print("Versions: " + ", ".join(f"{name} {version}" for name, version in facts["versions"].items()))


def _tell_groups(groups: Sequence[Group]) -> None:
    for group in groups[:MOST_TOLD]:
        left_out = [
            f"{count:,} {what}"
            for count, what in ((group.empty, "without a score"), (group.not_numbers, "with a score that is no number"))
            if count
        ]
        aside = f" ({', '.join(left_out)}, left out)" if left_out else ""
        middle = f", median {statistics.median(group.values):.4g}" if len(group.values) else ""
        print(f"{shown(group.name)}: {len(group.values):,} scores of {group.rows:,} rows{aside}{middle}")
    if len(groups) > MOST_TOLD:
        print(f"… and {len(groups) - MOST_TOLD:,} more groups")


def _bootstrap(rows: int, what: str, options: ComparisonOptions) -> Bootstrap:
    """Return how intervals are made whose resamples draw so many rows: fewer where all together would take hours."""
    affordable = max(FEWEST_RESAMPLES, MOST_DRAWN // max(1, rows))
    if affordable < options.bootstraps:
        print(f"Intervals of {what} from {affordable:,} resamples, not {options.bootstraps:,}: there are so many rows")
    return Bootstrap(min(options.bootstraps, affordable), options.confidence, options.seed)


def _comparisons(groups: Sequence[Group], options: ComparisonOptions) -> Iterator[Line]:
    """Yield effect sizes and tests of every two groups that are compared."""
    partners = _partners(groups, options)
    everything = sum(len(group.values) for group in groups)
    rows = sum(len(first.values) + len(other.values) if other else everything for first, other in partners)
    bootstrap = _bootstrap(rows, "comparisons", options)
    done = 0
    progress = Progress("comparisons", lambda: done / len(partners))
    for first, other in partners:
        second = other or joined(ALL_OTHERS, [group for group in groups if group is not first])
        if options.match == "order":
            refuse_uneven(first, second)
        yield compared(first, second, bootstrap, matched=options.match != "no")
        done += 1
        progress.add(1)


def _partners(groups: Sequence[Group], options: ComparisonOptions) -> list[tuple[Group, Group | None]]:
    """Return which groups are compared with which; None stands for all others together."""
    how = options.compare
    if how == "auto":
        how = "pairs" if len(groups) <= MOST_IN_PAIRS or options.match != "no" else "rest"
        if how == "rest":
            print(f"Each of {len(groups):,} groups is compared with all others together")
    if how == "pairs" or (how == "rest" and len(groups) == 2):
        return list(combinations(groups, 2))
    if how == "rest":
        return [(group, None) for group in groups] if len(groups) > 1 else []
    name = options.reference_group or groups[0].name
    reference = next((group for group in groups if group.name == name), None)
    if reference is None:
        names = [group.name for group in groups]
        raise UserError(f"There is no group '{shown(name)}' with scores for the reference; there are {listed(names)}.")
    return [(group, reference) for group in groups if group is not reference]


def _adjusted(lines: list[Line], method: str) -> list[Line]:
    """Put beside each p the one that is adjusted over all comparisons."""
    tests = [name.removesuffix("_p") for name in (lines[0] if lines else ()) if name.endswith("_p")]
    adjusted = {
        f"{test}_p": statistics.false_discovery([line[f"{test}_p"] for line in lines], method) for test in tests
    }
    found: list[Line] = []
    for number, line in enumerate(lines):
        found.append({})
        for name, value in line.items():
            found[-1][name] = value
            if name in adjusted:
                found[-1][f"{name.removesuffix('_p')}_fdr"] = float(adjusted[name][number])
    return found


def _tell_comparisons(lines: Sequence[Line]) -> None:
    for line in lines[:MOST_TOLD]:
        print(
            f"{shown(line['first'])} against {shown(line['second'])}: Cliff's delta {_words(line, 'cliffs_delta')}, "
            f"Mann-Whitney p {_probability(line['mann_whitney_p'])}, adjusted {_probability(line['mann_whitney_fdr'])}"
            + (f"; of {line['pairs']:,} pairs Wilcoxon p {_probability(line['wilcoxon_p'])}" if "pairs" in line else "")
        )
    if len(lines) > MOST_TOLD:
        print(f"… and {len(lines) - MOST_TOLD:,} more comparisons")


def _draw(
    path: Path,
    score: str,
    groups: Sequence[Group],
    comparisons: Sequence[Line],
    options: ComparisonOptions,
    facts: Mapping[str, Any],
) -> None:
    """Draw the groups, and say above them of two how they differ, of more whether they do."""
    said: list[str] = []
    if len(comparisons) == 1:
        (line,) = comparisons
        test, p = ("Wilcoxon", line["wilcoxon_p"]) if "pairs" in line else ("Mann-Whitney", line["mann_whitney_p"])
        said = [f"Cliff's delta {_words(line, 'cliffs_delta')}, {test} p {_probability(p)}"]
    elif len(groups) > 1:
        found = statistics.kruskal_wallis([group.values for group in groups])
        said = [f"{len(groups)} groups, Kruskal-Wallis H {_rounded(found.statistic)}, p {_probability(found.p)}"]
        print(said[0])
    if len(groups) > MOST_SHOWN:
        print(f"Groups in the picture: the first {MOST_SHOWN}; the tables have all {len(groups):,}")
        said.append(f"the first {MOST_SHOWN} of {len(groups):,} groups")
    axes = (score, CUMULATIVE if options.kind == "ecdf" else "")
    text = MapText(options.title or score, said, axes, scaled=True)
    shown_groups = {group.name: group.values for group in groups[:MOST_SHOWN]}
    draw_groups(path, shown_groups, options.kind, text, options.figure_format, facts)


def _tell_labels_apart(
    score: str,
    groups: Sequence[Group],
    written: Mapping[Path, Path],
    options: ComparisonOptions,
    facts: Mapping[str, Any],
) -> None:
    """Measure how well the scores tell the labels apart, over everything and in each group; tabulate and draw."""
    sign = 1 if options.positive_scores == "higher" else -1
    everything = joined(ALL_GROUPS, groups)
    inside = list(groups) if options.group_column or len(options.tables) > 1 else []
    bootstrap = _bootstrap(len(everything.values) * (2 if inside else 1), "AUROC and AUPRC", options)
    lines = [classified(group, sign, bootstrap) for group in [everything, *inside]]
    for line in lines[:MOST_TOLD]:
        areas = f"AUROC {_words(line, 'auroc')}, AUPRC {_words(line, 'auprc')}"
        found = areas if line["status"] == "ok" else f"no AUROC ({line['status']})"
        print(f"{shown(line['group'])}: {line['positives']:,} positives, {line['negatives']:,} negatives, {found}")
    if lines[0]["status"] != "ok":
        raise UserError("All rows with a score and a label have one label; AUROC and AUPRC need both.")
    if float(lines[0]["auroc"]) < 0.5:
        opposite = {"higher": "lower", "lower": "higher"}[options.positive_scores]
        print(f"AUROC is below 0.5: {opposite} scores go with the positive label; if you expected that, choose it")
    if options.classification:
        _write(written[options.classification], lines)
    if options.curves:
        curves = [
            _curve(group, sign, line)
            for group, line in zip([everything, *inside], lines, strict=True)
            if line["status"] == "ok"
        ]
        said = f"{lines[0]['positives']:,} positives, {lines[0]['negatives']:,} negatives"
        if len(curves) > MOST_LINES:
            print(f"Curves in the picture: the first {MOST_LINES} of {len(curves):,}")
            said += f"; the first {MOST_LINES} of {len(curves):,}"
        text = MapText(options.title or score, [said], ("False positive rate", "True positive rate"), scaled=True)
        prevalence = float(lines[0]["prevalence"])
        draw_curves(written[options.curves], curves, prevalence, text, options.figure_format, facts)


def _curve(group: Group, sign: int, line: Line) -> LabelCurve:
    from sklearn.metrics import precision_recall_curve, roc_curve

    labels, values = positives(group, sign)
    false_positive, true_positive, _ = roc_curve(labels, values)
    precision, recall, _ = precision_recall_curve(labels, values)
    areas = (_words(line, "auroc"), _words(line, "auprc"))
    return LabelCurve(group.name, false_positive, true_positive, recall[::-1], precision[::-1], areas)


def _facts(score: str, options: ComparisonOptions) -> dict[str, Any]:
    """Return the options that shape the result, without paths."""
    names = ["group_column", "label_column", "positive_label", "positive_scores", "cluster_column", "compare"]
    names += ["reference_group", "match", "match_column", "false_discovery", "confidence", "bootstraps", "seed"]
    chosen = {"score": score} | {name: getattr(options, name) for name in names}
    return {"tool": "dnalm_compare_scores", "options": chosen, "versions": versions(PACKAGES)}


def _write(path: Path, lines: Sequence[Line]) -> None:
    names = list(lines[0]) if lines else ["first", "second"]
    with TableWriter(path) as table:
        table.append({name: [_text(line[name]) for line in lines] for name in names})


def _text(value: str | float) -> str:
    """Return a value as a table has it: six digits, nothing where there is no number."""
    if not isinstance(value, float):
        return str(value)
    return "" if math.isnan(value) else f"{value:.6g}"


def _words(line: Line, name: str) -> str:
    """Return a number and its interval for people."""
    value, low, high = (float(line[f"{name}{end}"]) for end in ("", "_low", "_high"))
    return _rounded(value) + ("" if math.isnan(low) else f" [{_rounded(low)}, {_rounded(high)}]")


def _rounded(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.3f}".replace("-", "−")


def _probability(value: str | float) -> str:
    p = float(value)
    if math.isnan(p):
        return "undefined"
    return f"= {p:.2g}" if p >= np.finfo(np.float64).tiny else "< 1e-300"
