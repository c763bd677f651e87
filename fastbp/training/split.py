"""Which samples are held out for validation."""

from __future__ import annotations

import numpy as np

from fastbp.checks import number
from fastbp.randomness import SPLIT, generator
from fastbp.workspace import Array


def split(n: int, labels: Array | None, share: float, stratify: bool, seed: int) -> tuple[Array, Array]:
    """Return the indices of the samples to train on and of those to validate with."""
    share = number("validation_fraction", share, 0, 1, low_open=True, high_open=True)
    order = generator(SPLIT, seed).permutation(n)
    # The fraction, evenly spread: after sorting by class it holds for each class, to within one sample.
    kept = np.diff(np.floor(np.arange(n + 1) * share + 0.5)).astype(bool)
    if stratify:
        if labels is None:
            raise ValueError("stratify=True needs labels, but y holds values")
        order = order[np.argsort(labels[order], kind="stable")]
        _, first, of = np.unique(labels[order], return_index=True, return_inverse=True)
        kept[first[np.bincount(of, ~kept) == 0]] = False  # a class without training samples
    if kept.all() or not kept.any():
        raise ValueError(f"validation_fraction {share} of {n} samples leaves none for "
                         f"{'training' if kept.all() else 'validation'}")
    return np.sort(order[~kept]), np.sort(order[kept])
