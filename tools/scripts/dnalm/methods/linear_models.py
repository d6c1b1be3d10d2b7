"""Linear models on frozen representations: logistic and ridge regression, their penalty chosen by cross-validation.

scikit-learn fits them. What is returned speaks of the features as they were given, whatever was scaled on the way, so that
it can be a model's head.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Task = Literal["classify", "multilabel", "regress"]
Targets = NDArray[np.int64] | NDArray[np.float64]

# Of the squared weights, relative to the mean loss of a sequence; from the strongest to the weakest.
PENALTIES = tuple(10.0**power for power in range(1, -6, -1))
MOST_FOLDS = 5
MOST_CHOSEN_WITH = 10_000  # sequences with which the penalty is chosen; the model is fitted with all
WORSE_IN_A_ROW = 2  # weaker penalties that end the search
TOLERANCE, STEPS = 1e-4, 500
LONGEST_LOG = 1e-12


@dataclass(frozen=True)
class LinearModel:
    """Numbers of labels from features: `features @ weights.T + biases`.

    Attributes:
        weights: shape (labels, features).
        biases: shape (labels,).
        penalty: that was chosen; 0 where nothing was.
        held_out_loss: of that penalty, in cross-validation; infinite where there was none.
    """

    weights: Floats
    biases: Floats
    penalty: float = 0.0
    held_out_loss: float = np.inf

    def logits(self, features: Any) -> Floats:
        """Return one number a label, shape (sequences, labels), of features of shape (sequences, features)."""
        return np.asarray(features @ self.weights.T, dtype=np.float64) + self.biases


def constant_model(targets: Targets, task: Task, labels: int, features: int) -> LinearModel:
    """Return what says the same of every sequence: the shares of the labels, or the mean of the quantities."""
    if task == "regress":
        return LinearModel(np.zeros((labels, features)), np.asarray(targets, dtype=np.float64).mean(axis=0))
    if task == "classify":
        shares = np.bincount(np.asarray(targets, dtype=np.int64), minlength=labels) / len(targets)
        return LinearModel(np.zeros((labels, features)), np.log(np.maximum(shares, LONGEST_LOG)))
    shares = np.clip(np.asarray(targets, dtype=np.float64).mean(axis=0), LONGEST_LOG, 1 - LONGEST_LOG)
    return LinearModel(np.zeros((labels, features)), np.log(shares / (1 - shares)))


def fit(
    features: Any,
    targets: Targets,
    task: Task,
    labels: int,
    seed: int,
    clusters: NDArray[np.int64] | None = None,
    balanced: bool = False,
) -> LinearModel:
    """Return the linear model of the penalty that is best in cross-validation.

    Args:
        features: shape (sequences, features), dense, or sparse in rows.
        targets: classes, shape (sequences,); 0 and 1, or quantities, shape (sequences, labels).
        task: what they are.
        labels: how many there are.
        seed: of the folds.
        clusters: number of the group of each sequence; whole groups are in one fold.
        balanced: whether each class counts alike, however many members it has.
    """
    scaled, shift, scale = _scaled(features)
    penalty, loss = _chosen_penalty(scaled, targets, task, labels, seed, clusters, balanced)
    fitted = next(_path(scaled, targets, task, labels, (penalty,), balanced))
    weights = fitted.weights / scale
    return LinearModel(weights, fitted.biases - weights @ shift, penalty, loss)


def _scaled(features: Any) -> tuple[Any, Floats, Floats]:
    """Return features of variance 1, with what was taken off and divided by.

    Dense ones have the mean 0. Sparse ones have a variance of 1 on average: rare ones, divided by their own, would be loud.
    """
    if not isinstance(features, np.ndarray):
        mean = np.asarray(features.mean(axis=0)).ravel()
        squares = np.asarray(features.multiply(features).mean(axis=0)).ravel()
        scale = _scale(np.sqrt(np.maximum(squares - mean**2, 0).mean(keepdims=True)))
        return features.astype(np.float64) / scale[0], np.zeros(features.shape[1]), np.repeat(scale, features.shape[1])
    dense = np.asarray(features, dtype=np.float64)
    shift, scale = dense.mean(axis=0), _scale(dense.std(axis=0))
    return (dense - shift) / scale, shift, scale


def _scale(deviations: Floats) -> Floats:
    """Return deviations to divide by; 1 for features that do not vary, but for what rounding makes of them."""
    return np.where(deviations > 1e-9 * max(float(deviations.max(initial=0)), 1e-30), deviations, 1.0)


def _chosen_penalty(
    features: Any,
    targets: Targets,
    task: Task,
    labels: int,
    seed: int,
    clusters: NDArray[np.int64] | None,
    balanced: bool,
) -> tuple[float, float]:
    """Return the penalty whose loss on held-out folds is least, and the loss; the middle one where there is no fold."""
    chosen = np.random.default_rng((seed, 4)).permutation(features.shape[0])[:MOST_CHOSEN_WITH]
    own = targets[chosen]
    folds = list(_folds(own, task, seed, None if clusters is None else clusters[chosen]))
    if not folds:
        return PENALTIES[len(PENALTIES) // 2], np.inf
    features = features[chosen]
    paths = [(_path(features[seen], own[seen], task, labels, PENALTIES, balanced), held) for seen, held in folds]
    best, best_loss, worse = PENALTIES[0], np.inf, 0
    for penalty in PENALTIES:
        loss = float(np.mean([_loss(next(path).logits(features[held]), own[held], task) for path, held in paths]))
        if loss < best_loss:
            best, best_loss, worse = penalty, loss, 0
        else:
            worse += 1
        if worse == WORSE_IN_A_ROW:
            break
    return best, best_loss


def _folds(
    targets: Targets, task: Task, seed: int, clusters: NDArray[np.int64] | None
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield who is seen and who is held out; no class has fewer members than there are folds."""
    from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

    rows = np.zeros(len(targets))
    most = min(MOST_FOLDS, len(targets))
    if task == "classify":
        most = min(most, int(np.bincount(np.asarray(targets, dtype=np.int64))[np.unique(targets)].min()))
    if clusters is not None:
        most = min(most, len(np.unique(clusters)))
    if most < 2:
        return
    if clusters is not None and task == "classify":
        folds = StratifiedGroupKFold(most, shuffle=True, random_state=seed)
    elif clusters is not None:
        folds = GroupKFold(most)
    else:
        folds = (StratifiedKFold if task == "classify" else KFold)(most, shuffle=True, random_state=seed)
    for seen, held in folds.split(rows, targets if task == "classify" else rows, clusters):
        # A class in one group alone may be missing on one side.
        if task != "classify" or set(targets[seen]) == set(targets):
            yield seen, held


def _path(
    features: Any, targets: Targets, task: Task, labels: int, penalties: tuple[float, ...], balanced: bool
) -> Iterator[LinearModel]:
    """Yield the model of each penalty, each fitted from where the one before ended."""
    from sklearn.linear_model import LogisticRegression, Ridge

    count = features.shape[0]
    if task == "regress":
        for penalty in penalties:
            ridge = Ridge(alpha=penalty * count, tol=TOLERANCE).fit(features, targets)
            yield LinearModel(ridge.coef_.reshape(labels, -1), np.asarray(ridge.intercept_).reshape(labels), penalty)
        return
    columns = [targets] if task == "classify" else list(np.asarray(targets, dtype=np.int64).T)
    models = [
        LogisticRegression(
            tol=TOLERANCE, max_iter=STEPS, warm_start=True, class_weight="balanced" if balanced else None
        )
        for _ in columns
    ]
    for penalty in penalties:
        weights, biases = [], []
        for model, column in zip(models, columns, strict=True):
            if (column == column[0]).all():  # of a label that no sequence of a fold has, or every one
                share = 1 - LONGEST_LOG if column[0] else LONGEST_LOG
                weights.append(np.zeros((1, features.shape[1])))
                biases.append([np.log(share / (1 - share))])
                continue
            model.set_params(C=1 / (penalty * count)).fit(features, column)
            weights.append(model.coef_)
            biases.append(model.intercept_)
        together: Floats = np.concatenate(weights)
        offsets: Floats = np.concatenate(biases)
        if task == "classify" and labels == 2:  # one row stands for both
            together, offsets = np.concatenate([-together, together]) / 2, np.concatenate([-offsets, offsets]) / 2
        yield LinearModel(together, offsets, penalty)


def _loss(logits: Floats, targets: Targets, task: Task) -> float:
    """Return the mean loss: −log p of what is true, or the squared error."""
    if task == "regress":
        return float(np.mean((logits - targets) ** 2))
    if task == "classify":
        highest = logits.max(axis=1, keepdims=True)
        log_sums = highest[:, 0] + np.log(np.exp(logits - highest).sum(axis=1))
        return float(np.mean(log_sums - logits[np.arange(len(logits)), np.asarray(targets, dtype=np.int64)]))
    return float(np.mean(np.logaddexp(0, np.where(np.asarray(targets) > 0, -logits, logits))))
