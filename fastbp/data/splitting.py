"""Which samples are held out: `split` and `k_fold`, which return indices."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.checks import counted, number, whole_number
from fastbp.frames import array_of
from fastbp.randomness import FOLDS, SPLIT, generator

Array = npt.NDArray[Any]


def split(n: int, fraction: float, stratify: npt.ArrayLike | None = None, seed: int = 0) -> tuple[Array, Array]:
    """Return which of n samples to train on, and which to hold out.

    With the same seed and fraction these are the samples that `Trainer.fit(validation_fraction=...)` trains on and
    validates with.

    Parameters
    ----------
    n : int
        Number of samples.
    fraction : float
        Share of the samples that is held out, in (0, 1), rounded to whole samples.
    stratify : array-like (n,), optional
        Labels or names of classes: the share is then that of each class, too, to within one sample. A class with one
        sample is trained on.
    seed : int
        Decides which samples.

    Returns
    -------
    train, held : ndarray (n_train,) and (n_held,), int64
        Indices in increasing order.

    Raises
    ------
    TypeError, ValueError
        The fraction leaves no sample for one of the two, or an argument is of another type, range or length.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.data import split
    >>> y = np.array(["a", "b"] * 10)
    >>> train, held = split(len(y), 0.2, stratify=y)
    >>> len(train), sorted(y[held].tolist())
    (16, ['a', 'a', 'b', 'b'])
    """
    n, seed = whole_number("n", n, 1), whole_number("seed", seed, 0)
    fraction = number("fraction", fraction, 0, 1, low_open=True, high_open=True)
    return held_out(n, fraction, None if stratify is None else _labels(stratify, n), seed, "fraction")


def held_out(n: int, share: float, labels: Array | None, seed: int, name: str) -> tuple[Array, Array]:
    """Return the indices of the samples to train on and of those to validate with. name: of the share, in messages."""
    order = generator(SPLIT, seed).permutation(n)
    # The fraction, evenly spread: after sorting by class it holds for each class, to within one sample.
    kept = np.diff(np.floor(np.arange(n + 1) * share + 0.5)).astype(bool)
    if labels is not None:
        order = order[np.argsort(labels[order], kind="stable")]
        _, first, of = np.unique(labels[order], return_index=True, return_inverse=True)
        kept[first[np.bincount(of, ~kept) == 0]] = False  # a class without training samples
    if kept.all() or not kept.any():
        raise ValueError(f"{name} {share} of {n} samples leaves none for {'training' if kept.all() else 'validation'}")
    return np.sort(order[~kept]), np.sort(order[kept])


def k_fold(n: int, k: int = 5, stratify: npt.ArrayLike | None = None, seed: int = 0) -> list[tuple[Array, Array]]:
    """Return k ways to divide n samples: each sample is held out by exactly one of them.

    Parameters
    ----------
    n : int
        Number of samples.
    k : int
        Number of folds, from 2 to n. The numbers of samples that they hold out differ by 1 at most.
    stratify : array-like (n,), optional
        Labels or names of classes: then also the numbers of samples of each class differ by 1 at most.
    seed : int
        Decides which samples.

    Returns
    -------
    list of (train, held)
        Indices of the samples to train on and of those held out, int64 arrays (n_train,) and (n_held,) in increasing
        order.

    Raises
    ------
    TypeError, ValueError
        A class has fewer samples than there are folds, or an argument is of another type, range or length.

    Examples
    --------
    >>> from fastbp.data import k_fold
    >>> [len(held) for train, held in k_fold(10, 3)]
    [4, 3, 3]
    >>> k_fold(4, 2, stratify=["a", "a", "a", "b"])
    Traceback (most recent call last):
    ...
    ValueError: class 'b' has 1 sample, fewer than the 2 folds: take fewer, leave out that class, or do not stratify
    """
    n, seed = whole_number("n", n, 2), whole_number("seed", seed, 0)
    k = whole_number("k", k, 2, n)
    order = generator(FOLDS, seed).permutation(n)
    if stratify is not None:
        labels = _labels(stratify, n)
        classes, counts = np.unique(labels, return_counts=True)
        least = int(np.argmin(counts))
        if counts[least] < k:
            raise ValueError(f"class {classes[least].item()!r} has {counted(counts[least], 'sample')}, fewer than the "
                             f"{k} folds: take fewer, leave out that class, or do not stratify")
        order = order[np.argsort(labels[order], kind="stable")]
    fold = np.empty(n, np.int64)
    fold[order] = np.arange(n) % k  # as cards are dealt, class after class
    return [(np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(k)]


def _labels(stratify: npt.ArrayLike, n: int) -> Array:
    labels = array_of(stratify, "stratify", text=True)
    if labels.shape != (n,):
        raise ValueError(f"stratify must have one label for each of {n} samples, shape ({n},), got {labels.shape}")
    return labels
