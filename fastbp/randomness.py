"""Random numbers: for each purpose a stream of its own."""

from __future__ import annotations

import zlib

import numpy as np

WEIGHTS, ORDER, SPLIT, DROPOUT, RANGE_TEST, LOOK = (
    zlib.crc32(f"fastbp {purpose}".encode()) for purpose in
    ("initial weights", "order of samples", "validation split", "dropout and noise", "range test",
     "diagnosis"))


def generator(purpose: int, seed: int, number: int = 0) -> np.random.Generator:
    """The stream for one of the purposes above and, within it, a layer's or an epoch's number.

    `default_rng([seed, 0])` is `default_rng(seed)`, since NumPy pads entropy with zeros: weights and orders made so
    would be the user's own numbers again. A spawn key follows the padding (numpy.random.SeedSequence), and begins with
    the purpose.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(purpose, number)))
