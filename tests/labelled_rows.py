"""Random rows with labels, classes and scores, on which statistics are tested."""

from dataclasses import dataclass

import numpy as np

ROWS = 60
STATISTICS_OF_ROWS = (
    *("mean", "median", "accuracy", "balanced_accuracy", "macro_f1", "mcc", "auroc", "auprc", "r2"),
    *("pearson", "spearman", "macro_auroc", "macro_auprc", "label_f1"),
)
STATISTICS_OF_GROUPS = ("difference_of_means", "difference_of_medians", "cliffs_delta", "hedges_g")


@dataclass(frozen=True)
class LabelledRows:
    """One value per row in each array; flags and their scores have shape (rows, 4), and the last flag is never true."""

    classes: np.ndarray
    predicted: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    others: np.ndarray
    clusters: np.ndarray
    flags: np.ndarray
    flag_scores: np.ndarray

    def arrays(self, statistic: str) -> tuple[np.ndarray, ...]:
        """Return the arrays that a statistic of rows takes."""
        if statistic in ("mean", "median"):
            return (self.scores,)
        if statistic in ("accuracy", "balanced_accuracy", "macro_f1", "mcc"):
            return (self.classes, self.predicted)
        if statistic in ("auroc", "auprc"):
            return (self.labels, self.scores)
        if statistic in ("r2", "pearson", "spearman"):
            return (self.scores, self.others)
        return (self.flags, self.flag_scores > 0.5 if statistic == "label_f1" else self.flag_scores)


def labelled_rows(generator: np.random.Generator) -> LabelledRows:
    """Return 60 rows of three classes (a fourth is only predicted), with ties among their scores."""
    classes = generator.integers(0, 3, ROWS)
    predicted = np.where(generator.random(ROWS) < 0.6, classes, generator.integers(0, 4, ROWS))
    labels = generator.random(ROWS) < 0.3
    scores = np.round(generator.normal(size=ROWS) + labels, 1)
    others = np.round(scores + generator.normal(size=ROWS), 1)
    clusters = np.array([f"gene {number}" for number in generator.integers(0, 12, ROWS)])
    flags = np.stack([classes == 0, classes == 1, classes == 2, np.zeros(ROWS, dtype=bool)], axis=1)
    flag_scores = np.round(flags + generator.normal(size=flags.shape), 1)
    return LabelledRows(classes, predicted, labels, scores, others, clusters, flags, flag_scores)
