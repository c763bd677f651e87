"""Every stream of random numbers is one of its own."""

import itertools

import numpy as np
import pytest

from fastbp import Network
from fastbp.randomness import DROPOUT, ORDER, RANGE_TEST, SPLIT, WEIGHTS, generator

PURPOSES = (WEIGHTS, ORDER, SPLIT, DROPOUT, RANGE_TEST)


def test_no_two_streams_begin_alike():
    """Neither of ours, nor ours and those that users make of the same seed."""
    numbers = [*range(4), 2**32]
    ours = [generator(*key) for key in itertools.product(PURPOSES, numbers, range(4))]
    entropy = [*numbers, *([seed, k] for seed in numbers for k in range(3)), [0, 0, 1], [0, 0, 2]]
    users = [np.random.default_rng(key) for key in entropy]
    users += [child for seed in numbers for child in np.random.default_rng(seed).spawn(4)]
    users += [child for parent in np.random.default_rng(0).spawn(3) for child in parent.spawn(3)]
    first = {tuple(draw.integers(1 << 62, size=2)) for draw in ours}
    others = {tuple(draw.integers(1 << 62, size=2)) for draw in users}
    assert len(first) == len(ours)
    assert not first & others


@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_initial_weights_are_independent_of_data_of_the_same_seed(seed):
    net = Network([64, 64, 2], seed=seed, dtype="float64")
    for l, W in enumerate(net.W):
        for entropy in (seed, [seed, l]):
            theirs = np.random.default_rng(entropy).normal(size=W.shape)
            assert abs(np.corrcoef(W.ravel(), theirs.ravel())[0, 1]) < 5 / W.size**0.5
