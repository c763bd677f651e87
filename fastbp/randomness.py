"""Random numbers: a separate stream for each purpose."""

from __future__ import annotations

import zlib

import numpy as np

WEIGHTS, ORDER, SPLIT, DROPOUT, RANGE_TEST, LOOK, WINDOW, FOLDS = (
    zlib.crc32(f"fastbp {purpose}".encode()) for purpose in
    ("initial weights", "order of samples", "validation split", "dropout and noise", "range test",
     "diagnosis", "batches from a window", "folds"))


def generator(purpose: int, seed: int, number: int = 0) -> np.random.Generator:
    """Return the stream for one of the purposes above and, within it, for the number of a layer or an epoch.

    `default_rng([seed, 0])` equals `default_rng(seed)`, since NumPy pads entropy with zeros: weights and orders made
    with it would repeat the user's own numbers. A spawn key comes after the padding (numpy.random.SeedSequence); here
    it begins with the purpose.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(purpose, number)))
