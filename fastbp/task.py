"""What a data set's targets mean to the command, classes or values, and how many outputs they need.

In this order: what --task says; text means classes; what the loss says (cross-entropies are of classes, the other
losses of values); then integers and truth values mean classes, numbers with fractions and rows mean values. Targets of
which neither is plain are a question to the user: whole floats of few different values, and integers that leave out
most labels from 0 to their largest.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastbp.data import Dataset

CLASSES, VALUES = "classes", "values"
OF_CLASSES = ("cross_entropy", "binary_cross_entropy")
ONLY_OF_VALUES = ("poisson",)
FEW = 100  # different whole floats that may be labels
Array = np.ndarray[Any, Any]


def meaning(y: Array, loss: str | None = None, task: str | None = None) -> str:
    """CLASSES or VALUES; ValueError if the three contradict each other, or if neither is plain.

    Parameters
    ----------
    y : ndarray (n,) or (n, n_out)
    loss, task : str, optional
        The loss's name and the user's word.

    Examples
    --------
    >>> meaning(np.array([0, 1, 2])), meaning(np.array([0, 1, 2]), "poisson"), meaning(np.array([0.5, 1, 2]))
    ('classes', 'values', 'values')
    """
    text = y.dtype.kind == "U"
    if task == VALUES and (text or loss in OF_CLASSES):
        raise ValueError(f"--task values needs targets of numbers and a loss of values; "
                         f"{'the targets are texts' if text else f'--loss {loss} is of classes'}")
    if loss in ONLY_OF_VALUES and (text or task == CLASSES):
        raise ValueError(f"--loss {loss} is of values; the targets are classes"
                         f"{'' if text else ', as --task says'}")
    if task is not None or text:
        return task or CLASSES
    if loss is not None:
        return CLASSES if loss in OF_CLASSES else VALUES
    if y.ndim > 1:
        return VALUES
    _ask_if_unclear(y)
    return VALUES if y.dtype.kind == "f" else CLASSES


def _ask_if_unclear(y: Array) -> None:
    if y.dtype.kind == "b" or not np.isfinite(y).all() or (y.dtype.kind == "f" and not _whole(y)):
        return
    different = np.unique(y)
    n, highest = len(different), different[-1].item()
    examples = ", ".join(f"{value:.17g}" for value in different[:3].tolist()) + (", ..." if n > 3 else "")
    if y.dtype.kind == "f":
        found = f"whole numbers stored as floats, {n} different ones ({examples})" if n <= min(FEW, len(y) / 2) else ""
    else:
        found = f"integers up to {highest:,}, but only {n} different ones ({examples})" if n < (highest + 1) / 2 else ""
    if found:
        raise ValueError(f"the targets are {found}: say what they are by --task classes or --task values")


def n_outputs(dataset: Dataset, task: str, loss: str | None = None) -> int:
    """How many outputs the targets need: one a class, from label 0 to the highest, or one a value.

    Of binary_cross_entropy, fractions are the targets of a single output.
    """
    y = dataset.y_train
    if y.ndim > 1:
        return int(y.shape[1])
    if task == VALUES or (loss == "binary_cross_entropy" and not _whole(y)):
        return 1
    if not _whole(y):
        raise ValueError(f"classes need whole labels or texts, the targets hold {y[y != np.floor(y)][0]}; give --task "
                         "values if they are values")
    parts = [part for part in (y, dataset.y_test) if part is not None]
    if y.dtype.kind == "U":
        return max(2, len(_classes(*parts)))
    finite = [part[np.isfinite(part)] for part in parts]
    least = min((part.min(initial=0) for part in finite), default=0)
    if least < 0:
        raise ValueError(f"classes count from 0, the targets hold {least:g}; store names of classes as texts, or give "
                         "--task values if they are values")
    return max(2, *(int(part.max(initial=0)) + 1 for part in finite))


def _classes(y: Array, y_test: Array | None = None) -> Array:
    """The names of the classes, which are those of the training samples."""
    names = np.unique(y)
    if len(names) == 1:
        raise ValueError(f"the targets have one class only, {names[0]!s}: there is nothing to tell apart")
    unknown = np.setdiff1d(names if y_test is None else y_test, names)
    if len(unknown):
        raise ValueError(f"the test samples have the class {unknown[0]!s}, which no training sample has")
    return names


def _whole(y: Array) -> bool:
    """Whether labels can be read from it; texts are names of labels."""
    return y.dtype.kind != "f" or bool((y == np.floor(y)).all())
