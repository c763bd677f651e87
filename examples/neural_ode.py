"""A neural ODE
============

A network as the right-hand side of a differential equation, trained inside a Runge-Kutta loop.

dx/dt = f(x) is learnt from the paths that x takes, in one @njit function: each path is followed for some steps of the
classical fourth-order method, and the error at its points goes back through them by `compiled.vjp`. The equation is the
spiral of Chen and others: Neural Ordinary Differential Equations (NeurIPS 2018), dx/dt = A x³.
"""

import time

import numpy as np
from numba import njit

from fastbp import Adam, Network, Trainer, compiled

DT, LENGTH, PATHS = 0.05, 8, 20
WEIGHTS = np.array([1, 2, 2, 1]) / 6  # of the four slopes of a step
REACH = np.array([0, 0.5, 0.5, 1]) * DT  # how far along the slope before it each is taken


@njit(cache=True)
def forward(handle, paths, points, slopes):
    """Fill paths (LENGTH + 1, n, 2) from paths[0] on; points, slopes (LENGTH, 4, n, 2): where the network was asked,
    and what it said."""
    for k in range(LENGTH):
        for s in range(4):
            points[k, s] = paths[k] + REACH[s] * slopes[k, max(s - 1, 0)] if s else paths[k]
            compiled.forward(handle, points[k, s], slopes[k, s])
        paths[k + 1] = paths[k]
        for s in range(4):
            paths[k + 1] += DT * WEIGHTS[s] * slopes[k, s]


@njit(cache=True)
def backward(handle, errors, points, gradient, own):
    """The gradient of a cost with respect to theta; errors (LENGTH + 1, n, 2): dE/dx at each point of the paths, to
    which what comes from later points is added. own (n_parameters,): overwritten."""
    gradient[:] = 0
    n = errors.shape[1]
    to_slopes, to_point = np.empty((4, n, 2)), np.empty((n, 2))
    for k in range(LENGTH - 1, -1, -1):
        errors[k] += errors[k + 1]
        for s in range(4):
            to_slopes[s] = DT * WEIGHTS[s] * errors[k + 1]
        for s in range(3, -1, -1):
            compiled.vjp(handle, points[k, s], to_slopes[s], own, to_point)
            gradient += own
            errors[k] += to_point
            if s:
                to_slopes[s - 1] += REACH[s] * to_point


@njit(cache=True)
def train(handle, truth, steps, n_parameters, seed):
    """Steps on pieces of the true path (n, 2), drawn at random, with a learning rate that falls to 0; returns the mean
    squared error of each."""
    np.random.seed(seed)
    paths, wanted = np.empty((LENGTH + 1, PATHS, 2)), np.empty((LENGTH + 1, PATHS, 2))
    points, slopes = np.empty((LENGTH, 4, PATHS, 2)), np.empty((LENGTH, 4, PATHS, 2))
    gradient, own, costs = np.empty(n_parameters), np.empty(n_parameters), np.empty(steps)
    for i in range(steps):
        compiled.set_eta(handle, 0.01 * (1 - i / steps))
        for j in range(PATHS):
            first = np.random.randint(len(truth) - LENGTH)
            wanted[:, j] = truth[first : first + LENGTH + 1]
        paths[0] = wanted[0]
        forward(handle, paths, points, slopes)
        errors = paths - wanted
        costs[i] = (errors**2).mean()
        errors *= 2 / errors.size
        backward(handle, errors, points, gradient, own)
        compiled.update(handle, gradient)
    return costs


def spiral(n):
    """The true path from (2, 0), by a hundred times as many steps."""
    A, x, path = np.array([[-0.1, 2.0], [-2.0, -0.1]]), np.array([2.0, 0.0]), []
    for i in range(100 * n):
        if i % 100 == 0:
            path.append(x)
        x = x + DT / 100 * (x**3 @ A)
    return np.array(path)


truth = spiral(200)
net = Network([2, 50, 2], hidden="silu", output="identity", dtype="float64", seed=0)
handle = compiled.Handle(Trainer(net, optimizer=Adam(), batch_size=PATHS))
train(handle, truth, 0, net.n_parameters, 0)  # compiles it, once on a machine
started = time.perf_counter()
costs = train(handle, truth, 2_000, net.n_parameters, 0)
seconds = time.perf_counter() - started
assert handle.problem is None
print(f"mean squared error of a path: {costs[0]:.3g} at first, {costs[-50:].mean():.2g} at the end; "
      f"2,000 steps through {4 * LENGTH} evaluations took {seconds:.2f} s")
assert costs[-50:].mean() < costs[0] / 100
