"""Metrics of outputs beside targets: to call, or by name in `fit(metrics=...)`, which watches them on the validation.

Every one takes (y, outputs): labels (n,) or rows (n, n_out), as `fit` does, and what `forward` gives, (n, n_out).
Rows of one 1 each count as labels; of other rows each column is a class of its own, said yes to from 1/2 on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.checks import one_of, whole_number
from fastbp.core import metrics as core
from fastbp.inputs import decide
from fastbp.workspace import Array

TAKEN = {"loss", "validation_loss", "validation_accuracy", "epoch", "step", "seconds"}  # names in logs and to watch
LEAST = 1e-15  # of a probability in a log loss, which stays finite


@dataclass(frozen=True)
class Metric:
    """A number that a fit computes after each epoch, from the validation's targets and outputs.

    Parameters
    ----------
    name : str
        In the history, in logs and to watch.
    function : (y, outputs) -> float
        y: labels (n,) int64, or rows (n, n_out); outputs (n, n_out).
    more_is_better : bool

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import Network, Trainer
    >>> worst = Metric("worst", lambda y, outputs: np.abs(outputs - y).max(), more_is_better=False)
    >>> X = np.linspace(0, 1, 50)[:, np.newaxis]
    >>> history = Trainer(Network([1, 4, 1], output="identity")).fit(X, X, 2, (X, X), metrics=["r2", worst])
    >>> sorted(history.metrics)
    ['r2', 'worst']
    """

    name: str
    function: Callable[[Array, Array], Any]
    more_is_better: bool = True


def accuracy(y: npt.ArrayLike, outputs: npt.ArrayLike) -> float:
    """Share of the samples whose largest output is that of their label; of several classes to a sample, share of all
    yes and no that are right.

    Examples
    --------
    >>> accuracy([0, 1], [[0.9, 0.1], [0.8, 0.2]])
    0.5
    """
    targets, a = _pair(y, outputs)
    if targets.ndim == 2:
        counts = _counts_of_classes(targets, a)
        return float((counts[:, 0, 0] + counts[:, 1, 1]).sum() / counts.sum())
    return float(np.mean(decide(a) == targets))


def top_k(y: npt.ArrayLike, outputs: npt.ArrayLike, k: int = 5) -> float:
    """Share of the samples whose label is among the `k` largest outputs; of equal ones the first counts as larger.

    Examples
    --------
    >>> top_k([2, 1], [[0.5, 0.2, 0.3], [0.5, 0.2, 0.3]], k=2)
    0.5
    """
    targets, a = _pair(y, outputs)
    _need_labels(targets, "top_k")
    return float(core.count_top(targets, _columns(a), whole_number("k", k, 1)) / len(a))


def confusion_matrix(y: npt.ArrayLike, outputs: npt.ArrayLike) -> Array:
    """(classes, classes) int64: samples of each label, a row, by what was decided, a column.

    Examples
    --------
    >>> confusion_matrix([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    array([[1, 0],
           [1, 1]])
    """
    targets, a = _pair(y, outputs)
    _need_labels(targets, "confusion_matrix")
    counts = np.zeros((max(2, a.shape[1]),) * 2, np.int64)
    core.count_pairs(targets, decide(a), counts)
    return counts


def precision(y: npt.ArrayLike, outputs: npt.ArrayLike, average: str | None = "macro") -> float | Array:
    """Share of right ones among those taken for a class, 0 where none was: of each (None), or the mean over those that
    are there or taken for ("macro")."""
    right, taken, there = _right(y, outputs)
    return _averaged(right / np.maximum(taken, 1), taken + there > 0, average)


def recall(y: npt.ArrayLike, outputs: npt.ArrayLike, average: str | None = "macro") -> float | Array:
    """Share of right ones among those that are of a class, as `precision`."""
    right, taken, there = _right(y, outputs)
    return _averaged(right / np.maximum(there, 1), taken + there > 0, average)


def f1(y: npt.ArrayLike, outputs: npt.ArrayLike, average: str | None = "macro") -> float | Array:
    """Harmonic mean of precision and recall of each class, as `precision`.

    Examples
    --------
    >>> round(f1([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), 4)
    0.6667
    """
    right, taken, there = _right(y, outputs)
    return _averaged(2 * right / np.maximum(taken + there, 1), taken + there > 0, average)


def log_loss(y: npt.ArrayLike, outputs: npt.ArrayLike) -> float:
    """Mean of −log of the label's probability, in nats; of several classes to a sample, over all of them."""
    targets, a = _pair(y, outputs)
    if targets.ndim == 2:
        return float(core.sum_binary_log_losses(targets, a, LEAST) / a.size)
    return float(core.sum_log_losses(targets, _columns(a), LEAST) / len(a))


def mae(y: npt.ArrayLike, outputs: npt.ArrayLike) -> float:
    """Mean absolute error, in units of the targets."""
    sums, n = _errors(y, outputs)
    return float(sums[0].mean() / n)


def rmse(y: npt.ArrayLike, outputs: npt.ArrayLike) -> float:
    """Root of the mean squared error, in units of the targets.

    Examples
    --------
    >>> rmse([[1.0], [3.0]], [[1.0], [1.0]]) == 2**0.5
    True
    """
    sums, n = _errors(y, outputs)
    return float(np.sqrt(sums[1].mean() / n))


def r2(y: npt.ArrayLike, outputs: npt.ArrayLike) -> float:
    """1 − squared error / variance of the targets, mean over the outputs: 1 is perfect, 0 as good as their mean. Of
    targets that are all equal: 1 if every output is, else 0."""
    (_, squared, spread), _ = _errors(y, outputs)
    constant = np.where(squared == 0, 1.0, 0.0)
    return float(np.where(spread > 0, 1 - squared / np.where(spread > 0, spread, 1), constant).mean())


METRICS = {metric.name: metric for metric in (
    Metric("accuracy", accuracy), Metric("top5", top_k), Metric("precision", precision), Metric("recall", recall),
    Metric("f1", f1), Metric("log_loss", log_loss, False), Metric("r2", r2), Metric("mae", mae, False),
    Metric("rmse", rmse, False))}
# Names in other libraries; see checks.one_of.
ALIASES = {
    "acc": "accuracy", "accuracyscore": "accuracy", "top5accuracy": "top5", "precisionscore": "precision",
    "recallscore": "recall", "f1score": "f1", "f1macro": "f1", "r2score": "r2", "meanabsoluteerror": "mae",
    "rootmeansquarederror": "rmse",
}


def as_metrics(chosen: Iterable[str | Metric]) -> list[Metric]:
    """Metrics by name or as they are."""
    if isinstance(chosen, str):
        raise TypeError(f"metrics must be a sequence of names or of metrics.Metric, got {chosen!r}")
    metrics = [metric if isinstance(metric, Metric) else METRICS[one_of("metric", metric, METRICS, ALIASES)]
               for metric in chosen]
    names = [metric.name for metric in metrics]
    if taken := TAKEN.intersection(names):
        raise ValueError(f"a metric must not be called {', '.join(sorted(taken))}: a fit has its own")
    if len(set(names)) < len(names):
        raise ValueError(f"metrics must each have a name of its own, got {', '.join(names)}")
    return metrics


def _pair(y: npt.ArrayLike, outputs: npt.ArrayLike) -> tuple[Array, Array]:
    """Labels (n,) int64 or rows (n, n_out), and outputs (n, n_out); rows of one class each become labels."""
    targets, a = np.asarray(y), np.asarray(outputs)
    if a.ndim != 2 or len(a) == 0 or targets.ndim not in (1, 2) or len(targets) != len(a):
        raise ValueError(f"y {targets.shape} and outputs {a.shape} must be of as many samples, outputs in rows")
    if targets.ndim == 2 and targets.shape == a.shape:
        one_each = a.shape[1] > 1 and bool(((targets == 0) | (targets == 1)).all() and (targets.sum(axis=1) == 1).all())
        if a.shape[1] == 1 and bool(((targets == 0) | (targets == 1)).all()):
            return targets[:, 0].astype(np.int64), a
        return (np.argmax(targets, axis=1), a) if one_each else (targets, a)
    if targets.ndim == 2:
        raise ValueError(f"y has shape {targets.shape}, outputs {a.shape}")
    if targets.dtype.kind in "bui" or (targets.dtype.kind == "f" and (targets == np.floor(targets)).all()):
        if targets.min() < 0 or targets.max() >= max(2, a.shape[1]):
            raise ValueError(f"y must hold labels 0 to {max(2, a.shape[1]) - 1}, found {targets.min()} to "
                             f"{targets.max()}")
        return targets.astype(np.int64), a
    raise ValueError("y must hold whole labels")


def _need_labels(targets: Array, name: str) -> None:
    if targets.ndim != 1:
        raise ValueError(f"{name} needs one label a sample, y holds rows of values")


def _columns(a: Array) -> Array:
    """Of a single output, that of label 0 beside it."""
    return np.hstack([1 - a, a]) if a.shape[1] == 1 else a


def _counts_of_classes(rows: Array, a: Array) -> Array:
    counts = np.zeros((a.shape[1], 2, 2), np.int64)
    core.count_classes(rows, a, counts)
    return counts


def _right(y: npt.ArrayLike, outputs: npt.ArrayLike) -> tuple[Array, Array, Array]:
    """Of each class: samples rightly taken for it, taken for it, of it."""
    targets, a = _pair(y, outputs)
    if targets.ndim == 2:
        counts = _counts_of_classes(targets, a)
        return counts[:, 1, 1], counts[:, :, 1].sum(axis=1), counts[:, 1].sum(axis=1)
    matrix = confusion_matrix(targets, a)
    return np.diag(matrix), matrix.sum(axis=0), matrix.sum(axis=1)


def _averaged(shares: Array, counts: Array, average: str | None) -> float | Array:
    if average is None:
        return shares
    one_of("average", average, ["macro"])
    return float(shares[counts].mean())


def _errors(y: npt.ArrayLike, outputs: npt.ArrayLike) -> tuple[Any, int]:
    """Sums over the samples of |error|, error², (t − mean)², for each output."""
    targets, a = np.asarray(y), np.asarray(outputs)
    if targets.ndim == 1 and a.ndim == 2 and a.shape[1] == 1:
        targets = targets[:, np.newaxis]
    if a.ndim != 2 or targets.shape != a.shape or len(a) == 0:
        raise ValueError(f"y has shape {targets.shape}, outputs {a.shape}; they must be equal, of at least one sample")
    sums = np.zeros((3, a.shape[1]))
    core.sum_errors(targets, a, sums)
    return sums, len(a)
