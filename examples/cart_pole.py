"""A policy gradient
=================

Policy gradient: a cart learns to balance a pole, in one @njit function that holds simulation, network and training.

The policy is a network whose two outputs are the probabilities of a push to the left and to the right. After 2,000
steps each push is made more probable if what followed was better than usual, less if it was worse: Williams: Simple
Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning (Machine Learning 1992). The cart is
that of Barto, Sutton and Anderson: Neuronlike Adaptive Elements (1983); an episode ends when the pole falls, or after
500 steps.
"""

import time

import numpy as np
from numba import njit

from fastbp import Adam, Network, Trainer, compiled

STEPS, LONGEST, DISCOUNT = 2_000, 500, 0.98


@njit(cache=True)
def push(state, right):
    """Move the cart, 1 kg with a pole of 0.1 kg and 1 m, for 0.02 s; whether the pole stands and the cart is near."""
    x, speed, angle, spin = state
    force, sine, cosine = 10.0 if right else -10.0, np.sin(angle), np.cos(angle)
    shared = (force + 0.05 * spin**2 * sine) / 1.1
    turn = (9.8 * sine - cosine * shared) / (0.5 * (4 / 3 - 0.1 * cosine**2 / 1.1))
    state[:] = (x + 0.02 * speed, speed + 0.02 * (shared - 0.05 * turn * cosine / 1.1), angle + 0.02 * spin,
                spin + 0.02 * turn)
    return abs(state[0]) < 2.4 and abs(state[2]) < np.pi / 15


@njit(cache=True)
def play(handle, X, actions, lengths):
    """Fill X (n, 4) with states and `actions` (n,) with what was done in them; lengths (n,): steps of the episode, at
    its last step, else 0. Returns the mean length."""
    state, chances, begun, episodes = np.random.uniform(-0.05, 0.05, 4), np.empty(2, np.float32), 0, 0
    for i in range(len(X)):
        X[i] = state
        compiled.forward(handle, X[i], chances)
        actions[i] = np.random.random() < chances[1]
        stands, long = push(state, actions[i] == 1), i + 1 - begun
        over = not stands or long == LONGEST or i + 1 == len(X)
        lengths[i] = long if over else 0
        if over:
            begun, episodes = i + 1, episodes + 1
            state[:] = np.random.uniform(-0.05, 0.05, 4)
    return len(X) / episodes


@njit(cache=True)
def advantages(lengths, better):
    """How much better it went after each step than usual, in standard deviations; 1 a step that was still to come."""
    ahead = 0.0
    for i in range(len(lengths) - 1, -1, -1):
        ahead = 1.0 if lengths[i] else 1.0 + DISCOUNT * ahead
        better[i] = ahead
    better -= better.mean()
    better /= better.std() + 1e-8


@njit(cache=True)
def learn(handle, n_updates, n_parameters, seed):
    """Returns the mean length of the episodes before each update."""
    np.random.seed(seed)
    X, actions, lengths = np.empty((STEPS, 4), np.float32), np.empty(STEPS, np.int64), np.empty(STEPS, np.int64)
    chances, slopes = np.empty((STEPS, 2), np.float32), np.empty((STEPS, 2), np.float32)
    gradient, better, history = np.empty(n_parameters, np.float32), np.empty(STEPS), np.empty(n_updates)
    for k in range(n_updates):
        history[k] = play(handle, X, actions, lengths)
        advantages(lengths, better)
        compiled.forward(handle, X, chances)
        slopes[:] = 0
        for i in range(STEPS):  # of E = -mean of better · log(chance of what was done), with respect to the chances
            slopes[i, actions[i]] = -better[i] / chances[i, actions[i]] / STEPS
        compiled.vjp(handle, X, slopes, gradient)
        compiled.update(handle, gradient)
    return history


net = Network([4, 32, 2], hidden="tanh", seed=0)
handle = compiled.Handle(Trainer(net, optimizer=Adam(0.02), batch_size=STEPS))
learn(handle, 0, net.n_parameters, 0)  # compiles it, once on a machine
started = time.perf_counter()
history = learn(handle, 100, net.n_parameters, 0)
seconds = time.perf_counter() - started
assert handle.problem is None
print(f"mean length of an episode: {history[0]:.0f} steps at first, {history[-10:].mean():.0f} at the end; "
      f"{100 * STEPS:,} steps of simulation and 100 updates took {seconds:.2f} s")
assert history[0] < 40 < 200 < history[-10:].mean()
