"""A thousand networks
===================

A thousand small networks, each trained on samples that it draws itself, in one prange.

Each learns one sine wave of its own, as when a model is wanted for each customer, sensor or particle. Where all learn
from data that are there, `fastbp.fit_many` does it in one line.
"""

import time

import numpy as np
from numba import njit, prange

from fastbp import Adam, Network, Trainer, compiled

N, STEPS, BATCH = 1_000, 300, 32


@njit(cache=True, parallel=True)
def train(handles, waves, costs):
    """waves (n, 2): frequency and phase that each network is to learn; costs (n,): of its last step."""
    for i in prange(len(handles)):
        np.random.seed(i)
        X, y = np.empty((BATCH, 1), np.float32), np.empty((BATCH, 1), np.float32)
        for _ in range(STEPS):
            X[:, 0] = np.random.uniform(-1, 1, BATCH)
            y[:] = np.sin(waves[i, 0] * X + waves[i, 1])
            costs[i] = compiled.step(handles[i], X, y)


trainers = [Trainer(Network([1, 24, 1], hidden="tanh", output="identity", seed=i), optimizer=Adam(0.02),
                    batch_size=BATCH) for i in range(N)]
handles = compiled.Handles(compiled.Handle(trainer) for trainer in trainers)
waves = np.random.default_rng(0).uniform((1, 0), (4, 3), size=(N, 2))
costs = np.empty(N)
train(compiled.Handles([compiled.Handle(trainers[0])]), waves, costs)  # compiles it, once on a machine
started = time.perf_counter()
train(handles, waves, costs)
seconds = time.perf_counter() - started
assert all(handle.problem is None for handle in handles)
print(f"{N:,} networks, {STEPS} steps each: {seconds:.2f} s; median cost {np.median(costs):.4f}")
assert np.median(costs) < 0.02
