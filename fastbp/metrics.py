"""Metrics that compare outputs with targets: call them, or name them in `fit(metrics=...)` for the validation samples.

Every metric takes (y, outputs): labels (n,) or rows (n, n_out), as `fit` does, and the outputs (n, n_out) of `forward`.
Metrics that count right decisions also take the result of `predict`; then labels may be strings, too.

`multilabel` says what rows of targets mean. True: each output is a class of its own, and a value of at least 1/2 means
yes. False: a sample has one class, that of the largest value in its row. None: a guess; one-hot rows and a column of 0
and 1 are labels, other rows in [0, 1] are not. `sample_weight` (n,) counts a sample of weight 2 twice and a sample of
weight 0 not at all. Metrics of classes are NaN if an output is NaN.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastbp.checks import one_of, whole_number
from fastbp.core import metrics as core
from fastbp.frames import BLOCK, warn_of_other_rows
from fastbp.inputs import check_some_weight, checked_weights, of_each_class
from fastbp.pairs import as_pair, beside_outputs, decisions, has_nan, need_labels
from fastbp.workspace import Array

__all__ = ["Metric", "accuracy", "confusion_matrix", "f1", "log_loss", "mae", "precision", "r2", "recall", "rmse",
           "top_k"]


def __dir__() -> list[str]:
    return __all__


# Names in histories and logs, and for watching.
TAKEN = {"loss", "validation_loss", "validation_accuracy", "epoch", "step", "seconds", "samples", "stopped"}
# Kinds of metrics: the kinds of targets that each supports, and their description.
KINDS = {
    "any": ({"labels", "multilabel", "values"}, "any targets"),
    "classes": ({"labels", "multilabel"}, "classes: labels, or rows that say yes or no to each output"),
    "labels": ({"labels"}, "labels: one class a sample"),
    "probabilities": ({"labels", "multilabel"}, "probabilities of classes: sigmoid or softmax outputs"),
    "values": ({"multilabel", "values"}, "values: rows of targets, not labels"),
}
FITS = {"labels": "labels", "multilabel": "rows that say yes or no to each output", "values": "values"}


@dataclass(frozen=True)
class Metric:
    """A number that a fit computes after each epoch from targets and outputs of the validation samples.

    Parameters
    ----------
    name : str
        Name in the history, in logs and for watching.
    function : (y, outputs) -> float
        y: labels (n,) int64, or rows (n, n_out); outputs (n, n_out). If it has a parameter multilabel or sample_weight,
        a fit passes it, too.
    more_is_better : bool
    kind : str
        Targets that it supports: "any"; "classes", labels or rows that say yes or no to each output; "labels", one
        class a sample; "probabilities", classes and outputs in [0, 1]; "values", rows of numbers.

    Raises
    ------
    ValueError
        The kind is unknown.

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
    function: Callable[..., Any]
    more_is_better: bool = True
    kind: str = "any"

    def __post_init__(self) -> None:
        one_of("kind of metric", self.kind, KINDS)


def accuracy(y: npt.ArrayLike, outputs: npt.ArrayLike, *, multilabel: bool | None = None,
             sample_weight: npt.ArrayLike | None = None) -> float:
    """Share of samples with the right class; if each output is a class of its own, share of right yes/no decisions.

    Parameters
    ----------
    y : array_like (n,) or (n, n_out)
        Labels, as numbers or strings, or rows.
    outputs : array_like (n, n_out) or (n,)
        The result of `forward`, or labels from `predict`.
    multilabel : bool, optional
        True: each output is a class of its own; False: a sample has one class; None: a guess. See the module.
    sample_weight : array_like (n,), optional
        >= 0: a weight of 2 counts the sample twice.

    Returns
    -------
    float
        In [0, 1]; NaN if an output is NaN.

    Raises
    ------
    ValueError, TypeError
        y and outputs do not match, or a setting is out of its range.

    Examples
    --------
    >>> accuracy([0, 1], [[0.9, 0.1], [0.8, 0.2]])
    0.5
    >>> accuracy(["cat", "dog"], ["cat", "cat"])
    0.5
    """
    counts = _counts("accuracy", y, outputs, multilabel, sample_weight)
    if not counts.multilabel:
        return float(counts.right.sum() / counts.total)
    right = 2 * counts.right + counts.total - counts.taken - counts.there  # yes and no
    return float(right.sum() / (counts.total * len(right)))


def top_k(y: npt.ArrayLike, outputs: npt.ArrayLike, k: int = 5, *, multilabel: bool | None = None,
          sample_weight: npt.ArrayLike | None = None) -> float:
    """Share of the samples whose label is among the k largest outputs; the first of equal outputs counts as larger.

    Parameters
    ----------
    y, outputs
        See `accuracy`.
    k : int
        >= 1.
    multilabel, sample_weight
        See `accuracy`.

    Returns
    -------
    float
        In [0, 1]; NaN if an output is NaN.

    Raises
    ------
    ValueError, TypeError
        y and outputs do not match or are not labels, or a setting is out of its range.

    Examples
    --------
    >>> top_k([2, 1], [[0.5, 0.2, 0.3], [0.5, 0.2, 0.3]], k=2)
    0.5
    """
    k = whole_number("k", k, 1)
    targets, a = beside_outputs("top_k", y, outputs, multilabel)
    need_labels("top_k", targets)
    weights = _weights(sample_weight, len(a), y)
    if has_nan(a):
        return np.nan
    k = min(k, max(2, a.shape[1]))
    hits = sum(core.count_top(targets[part], _floats(of_each_class(a[part])), weights[part], k) for part in _parts(a))
    return float(hits / weights.sum())


def confusion_matrix(y: npt.ArrayLike, outputs: npt.ArrayLike, *, multilabel: bool | None = None,
                     sample_weight: npt.ArrayLike | None = None) -> Array:
    """Count the samples by label (rows) and by predicted label (columns).

    The classes are the columns of the outputs; if outputs are labels, the sorted distinct labels of y and outputs.

    Parameters
    ----------
    y, outputs
        See `accuracy`.
    multilabel, sample_weight
        See `accuracy`.

    Returns
    -------
    ndarray (classes, classes)
        int64; float64 with weights.

    Raises
    ------
    ValueError, TypeError
        y and outputs do not match, or a setting is out of its range; or an output is NaN.

    Examples
    --------
    >>> confusion_matrix([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    array([[1, 0],
           [1, 1]])
    """
    targets, decided, n_classes = decisions("confusion_matrix", y, outputs, multilabel)
    need_labels("confusion_matrix", targets)
    if has_nan(decided):
        raise ValueError("confusion_matrix needs a decision for each sample, but an output is NaN")
    counts = np.zeros((n_classes, n_classes))
    weights = np.ones(len(targets)) if sample_weight is None else checked_weights(sample_weight, len(targets))
    warn_of_other_rows({"y": y, "sample_weight": sample_weight})
    core.count_pairs(targets, decided, weights, counts)
    return counts.astype(np.int64) if sample_weight is None else counts


def precision(y: npt.ArrayLike, outputs: npt.ArrayLike, average: str | None = "macro", *,
              multilabel: bool | None = None, sample_weight: npt.ArrayLike | None = None) -> float | Array:
    """Share of right ones among the samples predicted as a class, 0 if there are none.

    Of each class (average=None), or their mean ("macro"): for labels over the classes that occur in y or in the
    predictions, for rows over all classes, as in scikit-learn with zero_division=0.

    Parameters
    ----------
    y, outputs
        See `accuracy`.
    average : "macro" or None
    multilabel, sample_weight
        See `accuracy`.

    Returns
    -------
    float, or ndarray (classes,)
        In [0, 1]; NaN if an output is NaN.

    Raises
    ------
    ValueError, TypeError
        y and outputs do not match, or a setting is out of its range.

    References
    ----------
    van Rijsbergen: Information Retrieval (Butterworths 1979), chapter 7.

    Examples
    --------
    >>> precision([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], average=None)
    array([0.5, 1. ])
    """
    counts = _counts("precision", y, outputs, multilabel, sample_weight)
    return counts.averaged(counts.right, counts.taken, average)


def recall(y: npt.ArrayLike, outputs: npt.ArrayLike, average: str | None = "macro", *,
           multilabel: bool | None = None, sample_weight: npt.ArrayLike | None = None) -> float | Array:
    """Share of right ones among the samples of a class, 0 if there are none: of each (None), or their mean ("macro").

    Parameters
    ----------
    y, outputs, average, multilabel, sample_weight
        See `precision`.

    Returns
    -------
    float, or ndarray (classes,)
        See `precision`.

    Raises
    ------
    ValueError, TypeError
        y and outputs do not match, or a setting is out of its range.

    References
    ----------
    van Rijsbergen: Information Retrieval (Butterworths 1979), chapter 7.

    Examples
    --------
    >>> recall([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], average=None)
    array([1. , 0.5])
    """
    counts = _counts("recall", y, outputs, multilabel, sample_weight)
    return counts.averaged(counts.right, counts.there, average)


def f1(y: npt.ArrayLike, outputs: npt.ArrayLike, average: str | None = "macro", *,
       multilabel: bool | None = None, sample_weight: npt.ArrayLike | None = None) -> float | Array:
    """Harmonic mean of precision and recall: of each class (None), or their mean ("macro").

    Parameters
    ----------
    y, outputs, average, multilabel, sample_weight
        See `precision`.

    Returns
    -------
    float, or ndarray (classes,)
        See `precision`.

    Raises
    ------
    ValueError, TypeError
        y and outputs do not match, or a setting is out of its range.

    References
    ----------
    van Rijsbergen: Information Retrieval (Butterworths 1979), chapter 7.

    Examples
    --------
    >>> round(f1([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), 4)
    0.6667
    """
    counts = _counts("f1", y, outputs, multilabel, sample_weight)
    return counts.averaged(2 * counts.right, counts.taken + counts.there, average)


def log_loss(y: npt.ArrayLike, outputs: npt.ArrayLike, *, multilabel: bool | None = None,
             sample_weight: npt.ArrayLike | None = None) -> float:
    """Mean of −log of the label's probability, in nats; over all classes if each output is a class of its own.

    An output of exactly 0 counts as the smallest normal number of its type. For a sigmoid output of exactly 1 the
    distance to 1 is lost: the computed 1 / (1 + e^-z) is 1 for e^-z below eps / 2, the correctly rounded one for e^-z
    below eps / 4. So 1 − a counts as eps / 2^1.5, between the two: a loss of 16.98 for float32, 37.08 for float64.
    `Trainer.evaluate` knows z and computes the exact loss.

    Parameters
    ----------
    y, outputs
        See `accuracy`.
    multilabel, sample_weight
        See `accuracy`.

    Returns
    -------
    float
        >= 0, in nats; NaN if an output is NaN.

    Raises
    ------
    ValueError, TypeError
        y and outputs do not match, or a setting is out of its range; or an output is outside [0, 1].

    References
    ----------
    Good: Rational Decisions (Journal of the Royal Statistical Society B, 1952), the logarithmic score.

    Examples
    --------
    >>> round(log_loss([0, 1], [[0.5, 0.5], [0.75, 0.25]]), 4)
    1.0397
    """
    targets, a = beside_outputs("log_loss", y, outputs, multilabel)
    weights = _weights(sample_weight, len(a), y)
    if has_nan(a):
        return np.nan
    own = np.finfo(a.dtype if a.dtype.kind == "f" else np.float64)
    if a.min() < 0 or a.max() > 1 + 8 * float(own.eps):
        raise ValueError(f"log_loss needs probabilities, outputs in [0, 1], found {a.min()} to {a.max()}")
    least, rest = max(float(own.tiny), float(np.finfo(np.float64).tiny)), float(own.eps) / 2**1.5
    if targets.ndim == 1 and a.shape[1] > 1:
        total = sum(core.sum_log_losses(targets[part], _floats(a[part]), weights[part], least) for part in _parts(a))
        return float(total / weights.sum())
    rows = targets.reshape(a.shape)
    total = sum(core.sum_binary_log_losses(_floats(rows[part]), _floats(a[part]), weights[part], least, rest)
                for part in _parts(a))
    return float(total / (weights.sum() * a.shape[1]))


def mae(y: npt.ArrayLike, outputs: npt.ArrayLike, *, sample_weight: npt.ArrayLike | None = None) -> float:
    """Mean absolute error, over all outputs, in units of the targets.

    Parameters
    ----------
    y, outputs : array_like (n, n_out), or (n,) for one output
        One may be a column (n, 1) if the other is (n,).
    sample_weight : array_like (n,), optional
        >= 0: a weight of 2 counts the sample twice.

    Returns
    -------
    float
        In units of the targets.

    Raises
    ------
    ValueError, TypeError
        y and outputs do not match, or do not hold numbers.

    Examples
    --------
    >>> mae([[1.0], [3.0]], [[1.0], [1.0]])
    1.0
    """
    sums = _errors("mae", y, outputs, sample_weight)
    return float((sums[1] / sums[0]).mean())


def rmse(y: npt.ArrayLike, outputs: npt.ArrayLike, *, sample_weight: npt.ArrayLike | None = None) -> float:
    """Root of the mean squared error, over all outputs, in units of the targets.

    Parameters
    ----------
    y, outputs, sample_weight
        See `mae`.

    Returns
    -------
    float
        In units of the targets.

    Raises
    ------
    ValueError, TypeError
        y and outputs do not match, or do not hold numbers.

    Examples
    --------
    >>> rmse([[1.0], [3.0]], [[1.0], [1.0]]) == 2**0.5
    True
    """
    sums = _errors("rmse", y, outputs, sample_weight)
    return float(np.sqrt((sums[2] / sums[0]).mean()))


def r2(y: npt.ArrayLike, outputs: npt.ArrayLike, *, sample_weight: npt.ArrayLike | None = None) -> float:
    """1 − squared error / variance of the targets, mean over the outputs: 1 is perfect, 0 as good as the mean.

    If all targets are equal: 1 if every output equals them, else 0.

    Parameters
    ----------
    y, outputs, sample_weight
        See `mae`.

    Returns
    -------
    float
        At most 1.

    Raises
    ------
    ValueError, TypeError
        y and outputs do not match, or do not hold numbers.

    References
    ----------
    Draper, Smith: Applied Regression Analysis (Wiley 1998), its coefficient of determination.

    Examples
    --------
    >>> r2([1.0, 2.0, 3.0], [1.0, 2.0, 2.0])
    0.5
    """
    _, _, squared, spread, _ = _errors("r2", y, outputs, sample_weight)
    constant = np.where(squared == 0, 1.0, 0.0)
    return float(np.where(spread == 0, constant, 1 - squared / np.where(spread == 0, 1, spread)).mean())


METRICS = {metric.name: metric for metric in (
    Metric("accuracy", accuracy, kind="classes"), Metric("top5", top_k, kind="labels"),
    Metric("precision", precision, kind="classes"), Metric("recall", recall, kind="classes"),
    Metric("f1", f1, kind="classes"), Metric("log_loss", log_loss, False, "probabilities"),
    Metric("r2", r2, kind="values"), Metric("mae", mae, False, "values"), Metric("rmse", rmse, False, "values"))}
# Names in other libraries; see checks.one_of.
ALIASES = {
    "acc": "accuracy", "accuracyscore": "accuracy", "top5accuracy": "top5", "precisionscore": "precision",
    "recallscore": "recall", "f1score": "f1", "f1macro": "f1", "r2score": "r2", "meanabsoluteerror": "mae",
    "rootmeansquarederror": "rmse",
}


def as_metrics(chosen: Iterable[str | Metric] | None) -> list[Metric]:
    """Return metrics, given by name or as Metric; None: none."""
    if chosen is None:
        return []
    if isinstance(chosen, (str, Metric)):
        raise TypeError(f"metrics must be a sequence of names or of metrics.Metric, got {chosen!r}; give [{chosen!r}]")
    for metric in chosen if isinstance(chosen, Sequence) else ():
        if callable(metric) and not isinstance(metric, Metric):
            raise TypeError(f"a metric must be a name or a metrics.Metric, got {metric!r}; of your own function make "
                            "one: metrics.Metric(name, function)")
    metrics = [metric if isinstance(metric, Metric) else METRICS[one_of("metric", metric, METRICS, ALIASES)]
               for metric in chosen]
    names = [metric.name for metric in metrics]
    if taken := TAKEN.intersection(names):
        raise ValueError(f"a metric must not be called {', '.join(sorted(taken))}: a fit has its own")
    if len(set(names)) < len(names):
        raise ValueError(f"metrics must each have a name of its own, got {', '.join(names)}")
    return metrics


def check(metric: Metric, kind: str, probabilities: bool = True) -> None:
    """Raise ValueError unless a metric supports targets of a kind, "labels", "multilabel" or "values", with outputs
    that are probabilities or not."""
    fits, needs = KINDS[metric.kind]
    if metric.kind == "probabilities" and not probabilities:
        raise ValueError(f"metric {metric.name} needs {needs}")
    if kind not in fits:
        raise ValueError(f"metric {metric.name} needs {needs}; the targets of this fit are {FITS[kind]}")


def measure(metric: Metric, y: Array, outputs: Array, kind: str, sample_weight: Array | None = None) -> float:
    """Compute a metric for targets of a kind, see `check`; its function gets kind and weights if it takes them.

    Raises ValueError if it does not return a number.
    """
    known = {"multilabel": kind == "multilabel", "sample_weight": sample_weight}
    try:
        parameters: Iterable[str] = inspect.signature(metric.function).parameters
    except ValueError:  # of something that is compiled
        parameters = ()
    value = metric.function(y, outputs, **{name: known[name] for name in known if name in parameters})
    try:
        if np.ndim(value) == 0:
            return float(value)
    except (TypeError, ValueError):
        pass
    raise ValueError(f"metric {metric.name} must give a number, got {value!r}")


class _Counts(NamedTuple):
    """Weights per class (classes,): of samples rightly predicted, predicted, and present; and of all samples."""

    right: Array
    taken: Array
    there: Array
    total: float
    multilabel: bool

    def averaged(self, part: Array, of: Array, average: str | None) -> float | Array:
        """Return part / of, 0 for 0 / 0, for each class or as their mean."""
        shares = part / np.where(of == 0, 1, of)
        if average is None:
            return shares
        one_of("average", average, ["macro"])
        return float(shares[self.multilabel | (self.taken + self.there != 0)].mean())


def _counts(name: str, y: npt.ArrayLike, outputs: npt.ArrayLike, multilabel: bool | None,
            sample_weight: npt.ArrayLike | None) -> _Counts:
    targets, decided, n_classes = decisions(name, y, outputs, multilabel)
    weights = _weights(sample_weight, len(targets), y)
    several = targets.ndim == 2
    if has_nan(decided):
        right = taken = there = np.full(n_classes, np.nan)
    elif several:
        counts = np.zeros((n_classes, 2, 2))
        for part in _parts(decided):
            core.count_classes(_floats(targets[part]), _floats(decided[part]), weights[part], counts)
        right, taken, there = counts[:, 1, 1], counts[:, :, 1].sum(axis=1), counts[:, 1].sum(axis=1)
    else:
        right = np.bincount(targets, weights * (targets == decided), n_classes)
        taken, there = np.bincount(decided, weights, n_classes), np.bincount(targets, weights, n_classes)
    return _Counts(right, taken, there, float(weights.sum()), several)


def _weights(sample_weight: npt.ArrayLike | None, n: int, y: npt.ArrayLike) -> Array:
    """Return the weight of each sample (n,), divided by the largest; y: the targets that they belong to."""
    if sample_weight is None:
        return np.ones(n)
    warn_of_other_rows({"y": y, "sample_weight": sample_weight})
    weights = check_some_weight(checked_weights(sample_weight, n))
    return np.asarray(weights / weights.max())


def _parts(a: Array) -> Iterator[slice]:
    """Yield slices of the samples for the compiled functions, so that copies take little memory."""
    n = max(1, BLOCK // a.shape[1])
    return (slice(i, i + n) for i in range(0, len(a), n))


def _floats(rows: Array) -> Array:
    """Return rows as the compiled functions read them."""
    return np.require(rows, np.float64, ("C", "A", "W"))


def _errors(name: str, y: npt.ArrayLike, outputs: npt.ArrayLike, sample_weight: npt.ArrayLike | None) -> Array:
    """Return, for each output (5, n_out), the sums of weights, |error|, error² and (t − mean)², and the mean."""
    targets, a = as_pair(name, y, outputs)
    if targets.dtype.kind == "U" or a.dtype.kind == "U":
        raise TypeError(f"{name} needs numbers, got y {targets.dtype} and outputs {a.dtype}")
    targets, a = (array[:, np.newaxis] if array.ndim == 1 else array for array in (targets, a))
    if targets.shape != a.shape:
        raise ValueError(f"{name} needs a value for each output: y has shape {np.shape(y)}, outputs "
                         f"{np.shape(outputs)}")
    weights, sums = _weights(sample_weight, len(a), y), np.zeros((5, a.shape[1]))
    for part in _parts(a):
        core.sum_errors(_floats(targets[part]), _floats(a[part]), weights[part], sums)
    return sums
