"""Decides whether the command takes targets as classes or as values, and how many outputs they need.

The first of these rules that applies decides: --task; text means classes; cross-entropies mean classes, other losses
mean values; integers, true and false mean classes, numbers with fractions and rows mean values. If the meaning is
unclear, the user is asked: for whole floats with few different values, and for integers that leave out most labels from
0 to their largest, or begin below -1.

Integers that are not the labels 0, 1, 2, ... without a gap are names of classes, as strings are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastbp.data import Dataset

CLASSES, VALUES = "classes", "values"
OF_CLASSES = ("cross_entropy", "binary_cross_entropy")
ONLY_OF_VALUES = ("poisson",)
FEW = 100  # most different whole floats that may be labels
Array = np.ndarray[Any, Any]


def meaning(y: Array, loss: str | None = None, task: str | None = None) -> str:
    """Return CLASSES or VALUES; raise ValueError if the three contradict each other, or if the meaning is unclear.

    Parameters
    ----------
    y : ndarray (n,) or (n, n_out)
    loss, task : str, optional
        The name of the loss and the value of --task.

    Examples
    --------
    >>> meaning(np.array([0, 1, 2])), meaning(np.array([0, 1, 2]), "poisson"), meaning(np.array([0.5, 1, 2]))
    ('classes', 'values', 'values')
    """
    text = y.dtype.kind == "U"
    if task == VALUES and (text or loss in OF_CLASSES):
        raise ValueError(f"--task values needs numeric targets and a loss for values; "
                         f"{'the targets are text' if text else f'--loss {loss} is for classes'}")
    if loss in ONLY_OF_VALUES and (text or task == CLASSES):
        raise ValueError(f"--loss {loss} is for values; the targets are classes"
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
    several = f"{n} different ones" if n > 1 else "one"
    examples = ", ".join(f"{value:.17g}" for value in different[:3].tolist()) + (", ..." if n > 3 else "")
    if y.dtype.kind == "f":
        found = f"whole numbers stored as floats, {several} ({examples})" if n <= min(FEW, len(y) / 2) else ""
    else:
        found = f"integers up to {highest:,}, but only {several} ({examples})" if n < (highest + 1) / 2 else ""
        if different[0] < -1:
            found = f"integers from {different[0]:,} to {highest:,}"
    if found:
        raise ValueError(f"the targets are {found}: give --task classes or --task values")


def are_said_to_be_classes(loss: str | None, task: str | None) -> bool:
    """Whether the options alone decide for classes."""
    return task == CLASSES or loss in OF_CLASSES


def n_outputs(dataset: Dataset, task: str, loss: str | None = None) -> int:
    """Return the number of outputs that the targets need: one per class, or one per value.

    With binary_cross_entropy, fractions are the targets of a single output.
    """
    y = dataset.y_train
    if y.ndim > 1:
        return int(y.shape[1])
    if task == VALUES or (loss == "binary_cross_entropy" and not _whole(y)):
        return 1
    if not _whole(y):
        raise ValueError(f"classes need whole numbers or text as targets, but one is {y[y != np.floor(y)][0]}; give "
                         "--task values if they are values")
    names = class_names(dataset, task)
    return max(2, len(_labels(dataset)) if names is None else len(names))


def class_names(dataset: Dataset, task: str) -> list[str] | None:
    """Return the names of the classes in order: strings, or integers that are not 0, 1, 2, ...; None for labels.

    Names among the test targets must be among those of the training samples.

    Examples
    --------
    >>> class_names(Dataset(np.zeros((3, 1)), np.array([1, 10, 2]), None, None), CLASSES)
    ['1', '2', '10']
    """
    y = dataset.y_train
    if y.ndim > 1 or task == VALUES:
        return None
    if y.dtype.kind == "U":
        return _classes(y, dataset.y_test)
    labels = _labels(dataset)
    if not _whole(y) or y.dtype.kind == "b" or (labels == np.arange(len(labels))).all():
        return None
    if len(labels) == 1:
        raise _one_class(labels[0])
    return by_name(labels).tolist()  # type: ignore[no-any-return]


def by_name(y: Array) -> Array:
    """Return whole numbers as strings that name classes.

    Examples
    --------
    >>> by_name(np.array([1.0, -1.0])).tolist()
    ['1', '-1']
    """
    return np.array([str(int(label)) for label in y.tolist()])


def as_named(y: Array, classes: Array | None) -> Array:
    """Return targets as a network with these classes takes them: by name, if its classes have names."""
    whole = y.ndim == 1 and y.dtype.kind in "iuf" and bool(np.isfinite(y).all()) and _whole(y)
    return by_name(y) if classes is not None and whole else y


def named(dataset: Dataset, classes: Array | None) -> Dataset:
    """Return the data set with targets as a network with these classes takes them."""
    y_test = dataset.y_test if dataset.y_test is None else as_named(dataset.y_test, classes)
    made = Dataset(dataset.x_train, as_named(dataset.y_train, classes), dataset.x_test, y_test)
    made.__dict__.update(dataset.__dict__)
    return made


def _labels(dataset: Dataset) -> Array:
    """Return all different labels of the training and the test samples."""
    parts = [part for part in (dataset.y_train, dataset.y_test) if part is not None]
    return np.unique(np.concatenate([part[np.isfinite(part)] for part in parts]))


def _classes(y: Array, y_test: Array | None = None) -> list[str]:
    """Return the names of the classes in the training samples."""
    names = np.unique(y)
    if len(names) == 1:
        raise _one_class(names[0])
    unknown = np.setdiff1d(names if y_test is None else y_test, names)
    if len(unknown):
        raise ValueError(f"the test samples have the class {unknown[0]!s}, which no training sample has")
    return names.tolist()  # type: ignore[no-any-return]


def _one_class(name: object) -> ValueError:
    return ValueError(f"the targets have only one class, {name!s}; classification needs at least two")


def _whole(y: Array) -> bool:
    """Whether it holds labels: whole numbers, or strings that name them."""
    return y.dtype.kind != "f" or bool((y == np.floor(y)).all())
