"""Targets and outputs of metrics: checked, and converted to one of two forms, labels or rows of classes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastbp.checks import truth
from fastbp.frames import warn_of_other_rows
from fastbp.inputs import decide
from fastbp.names import order_beside
from fastbp.workspace import Array


def decisions(name: str, y: npt.ArrayLike, outputs: npt.ArrayLike,
              multilabel: bool | None) -> tuple[Array, Array, int]:
    """Return targets and decisions, both labels (n,) int64 or both rows (n, n_out), and the number of classes.

    Decisions as rows are the outputs themselves; decisions as labels are float64, NaN if an output is NaN.
    """
    targets, a = as_pair(name, y, outputs)
    multilabel = None if multilabel is None else truth("multilabel", multilabel)
    if a.ndim == 2 and a.shape[1] == 1 and a.dtype.kind in "buiU" and not multilabel:
        a = a[:, 0]
    if a.ndim == 2:
        targets = _targets(name, targets, a, multilabel)
        if targets.ndim == 2:
            return targets, a, a.shape[1]
        return targets, (np.full(len(a), np.nan) if has_nan(a) else decide(a)), max(2, a.shape[1])
    if a.dtype.kind == "f" and not (np.isnan(a) | (a == np.floor(a))).all():
        raise ValueError(f"{name} takes the outputs (n, n_out) of forward, (n, 1) for one output, or labels (n,); "
                         f"outputs have dtype {a.dtype} and shape {a.shape}, and are not whole numbers")
    if targets.ndim == 2 and targets.shape[1] > 1:
        if multilabel or not _one_each(targets):
            raise ValueError(f"{name} of rows of targets {targets.shape} needs outputs of that shape, got {a.shape}")
        targets = np.argmax(targets, axis=1)
    targets = targets.reshape(len(targets))
    if (targets.dtype.kind == "U") != (a.dtype.kind == "U"):
        raise TypeError(f"{name} needs labels of one kind: y has dtype {targets.dtype}, outputs {a.dtype}")
    _check_whole(targets)
    if has_nan(a):
        return np.zeros(len(a), np.int64), a, len(np.unique(targets))
    classes, both = np.unique(np.concatenate([targets, a]), return_inverse=True)
    both = both.reshape(2, len(a))
    return both[0], both[1], len(classes)


def beside_outputs(name: str, y: npt.ArrayLike, outputs: npt.ArrayLike, multilabel: bool | None) -> tuple[Array, Array]:
    """Return targets, labels (n,) int64 or rows (n, n_out), and outputs (n, n_out), for a metric that needs more than
    predicted labels."""
    targets, a = as_pair(name, y, outputs)
    if a.ndim != 2 or a.dtype.kind == "U":
        raise ValueError(f"{name} needs the outputs (n, n_out) of forward, (n, 1) for one output, not labels; outputs "
                         f"have dtype {a.dtype} and shape {a.shape}")
    return _targets(name, targets, a, None if multilabel is None else truth("multilabel", multilabel)), a


def as_pair(name: str, y: npt.ArrayLike, outputs: npt.ArrayLike) -> tuple[Array, Array]:
    """Return both as arrays of one or two dimensions with equally many samples; of two frames, the columns of y in the
    order of those of outputs."""
    targets, a = _array("y", y), _array("outputs", outputs)
    order = order_beside(y, "y", outputs, "outputs")
    targets = targets if order is None else targets[:, order]
    warn_of_other_rows({"y": y, "outputs": outputs})
    if targets.ndim not in (1, 2) or a.ndim not in (1, 2) or len(targets) != len(a) or 0 in targets.shape + a.shape:
        raise ValueError(f"{name} needs y and outputs with equally many samples, at least one, (n,) or (n, n_out); "
                         f"y has shape {targets.shape}, outputs {a.shape}")
    return targets, a


def _array(name: str, given: npt.ArrayLike) -> Array:
    """Return an array of real numbers or strings; Python objects become one or the other."""
    if np.ma.is_masked(given):
        raise ValueError(f"{name} has masked values; fill them or leave their samples out")
    array = np.asarray(given)
    if array.dtype.kind == "O" and array.ndim:
        whole = array.ravel()
        if all(isinstance(one, str) for one in whole):
            return array.astype(str)
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError):
            kinds = sorted({type(one).__name__ for one in whole})
            raise TypeError(f"{name} must hold real numbers or strings, found {', '.join(kinds)}") from None
    if array.dtype.kind == "T":  # StringDType; its astype(str) raises TypeError in NumPy 2.4.6
        return np.array(array.tolist(), str)
    if array.dtype.kind not in "buifU":
        raise TypeError(f"{name} must hold real numbers or strings, got dtype {array.dtype}")
    return array


def _targets(name: str, targets: Array, a: Array, multilabel: bool | None) -> Array:
    """Return labels (n,) int64 or, if each output is a class of its own, rows (n, n_out)."""
    if targets.dtype.kind == "U":
        raise TypeError(f"y holds strings; with outputs {a.shape}, {name} needs the column index of each sample; or, "
                        "instead of the outputs, give the strings that predict returns")
    if multilabel and targets.ndim == 1 and a.shape[1] == 1:
        targets = targets[:, np.newaxis]
    if targets.ndim == 1 or (targets.shape[1] == 1 < a.shape[1]):
        if multilabel:
            raise ValueError(f"multilabel=True needs rows of targets {a.shape}, y has shape {targets.shape}")
        return _labels(targets.reshape(len(targets)), max(2, a.shape[1]))
    if targets.shape != a.shape:
        raise ValueError(f"{name} needs labels (n,) or rows of targets {a.shape}; y has shape {targets.shape}, outputs "
                         f"{a.shape}")
    if has_nan(targets):
        raise ValueError("y holds NaN")
    if multilabel is False:
        return decide(targets)
    if multilabel is None and a.shape[1] == 1:
        return _labels(targets[:, 0], 2)
    if multilabel is None and _one_each(targets):
        return np.asarray(np.argmax(targets, axis=1))
    if targets.min() < 0 or targets.max() > 1:
        raise ValueError(f"{name} needs classes, y holds values from {targets.min()} to {targets.max()}: give labels "
                         "(n,), or rows of numbers in [0, 1]")
    return targets


def _one_each(rows: Array) -> bool:
    return bool(((rows == 0) | (rows == 1)).all() and (rows.sum(axis=1) == 1).all())


def _labels(targets: Array, classes: int) -> Array:
    _check_whole(targets)
    if targets.min() < 0 or targets.max() >= classes:
        raise ValueError(f"y must hold labels 0 to {classes - 1}, found {targets.min()} to {targets.max()}")
    return targets.astype(np.int64)


def _check_whole(targets: Array) -> None:
    if targets.dtype.kind == "f" and not (whole := targets == np.floor(targets)).all():  # NaN is not
        raise ValueError(f"y must hold whole labels, y[{int(np.argmin(whole))}] is {targets[np.argmin(whole)]}")


def need_labels(name: str, targets: Array) -> None:
    if targets.ndim != 1:
        raise ValueError(f"{name} needs one label a sample, y holds rows of values")


def has_nan(array: Array) -> bool:
    """Whether an element is NaN; allocates no memory."""
    return array.dtype.kind == "f" and bool(np.isnan(array.min()))
