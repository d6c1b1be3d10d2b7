"""Made-up rows with labels, classes and scores, on which statistics are tried."""

import numpy as np

GENERATOR = np.random.default_rng(0)
ROWS = 60
CLASSES = GENERATOR.integers(0, 3, ROWS)
PREDICTED = np.where(GENERATOR.random(ROWS) < 0.6, CLASSES, GENERATOR.integers(0, 4, ROWS))
LABELS = GENERATOR.random(ROWS) < 0.3
SCORES = np.round(GENERATOR.normal(size=ROWS) + LABELS, 1)  # with ties
OTHERS = np.round(SCORES + GENERATOR.normal(size=ROWS), 1)
CLUSTERS = np.array([f"gene {number}" for number in GENERATOR.integers(0, 12, ROWS)])

FLAGS = np.stack([CLASSES == 0, CLASSES == 1, CLASSES == 2, np.zeros(ROWS, dtype=bool)], axis=1)  # one is never true
OF_FLAGS = np.round(FLAGS + GENERATOR.normal(size=FLAGS.shape), 1)

OF_ROWS: dict[str, tuple[np.ndarray, ...]] = {
    "mean": (SCORES,),
    "median": (SCORES,),
    "accuracy": (CLASSES, PREDICTED),
    "balanced_accuracy": (CLASSES, PREDICTED),
    "macro_f1": (CLASSES, PREDICTED),
    "mcc": (CLASSES, PREDICTED),
    "auroc": (LABELS, SCORES),
    "auprc": (LABELS, SCORES),
    "r2": (SCORES, OTHERS),
    "pearson": (SCORES, OTHERS),
    "spearman": (SCORES, OTHERS),
    "macro_auroc": (FLAGS, OF_FLAGS),
    "macro_auprc": (FLAGS, OF_FLAGS),
    "label_f1": (FLAGS, OF_FLAGS > 0.5),
}
OF_GROUPS = ["difference_of_means", "difference_of_medians", "cliffs_delta", "hedges_g"]
