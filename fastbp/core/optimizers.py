"""Optimisers: frozen settings, flat state, and for each rule one loop over a range of theta."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import prange

from fastbp.core import jit
from fastbp.core.simd import out_of_line, part

SGD_RULE, MOMENTUM_RULE, NESTEROV_RULE, ADAM_RULE = range(4)
RULE, FIRST, SECOND, EPSILON = range(4)  # slots of the settings vector


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent, with momentum and Nesterov's look-ahead if asked.

        v ← momentum v + g        theta ← theta − eta v            (momentum)
                                  theta ← theta − eta (g + momentum v)   (Nesterov)

    Parameters
    ----------
    eta : float
        Learning rate, > 0: parameter units per unit of gradient.
    momentum : float
        In [0, 1). 0 keeps no state.
    nesterov : bool
        Needs momentum > 0.

    Raises
    ------
    ValueError
        A setting is out of its range.

    References
    ----------
    Sutskever, Martens, Dahl, Hinton: On the importance of initialization and momentum in deep learning (ICML 2013),
    equations 1-4, with the velocity in units of the gradient as PyTorch has it.

    Examples
    --------
    >>> SGD(eta=0.1, momentum=0.9, nesterov=True)
    SGD(eta=0.1, momentum=0.9, nesterov=True)
    """

    eta: float = 0.1
    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        _check_positive("eta", self.eta)
        _check_fraction("momentum", self.momentum)
        if not isinstance(self.nesterov, bool):
            raise TypeError(f"nesterov must be True or False, got {self.nesterov!r}")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov=True needs momentum > 0, got momentum=0")

    @property
    def n_moments(self) -> int:
        """Vectors of state, each as long as theta."""
        return 1 if self.momentum else 0

    def settings(self) -> np.ndarray:
        """The vector of settings that the compiled update reads."""
        rule = NESTEROV_RULE if self.nesterov else MOMENTUM_RULE if self.momentum else SGD_RULE
        return np.array([rule, self.momentum, 0.0, 0.0])


@dataclass(frozen=True)
class Adam:
    """Adam: steps scaled by running means of the gradient and of its square.

        m ← beta1 m + (1 − beta1) g        v ← beta2 v + (1 − beta2) g²
        theta ← theta − eta m̂ / (√v̂ + epsilon)        with m̂ = m / (1 − beta1ᵗ), v̂ = v / (1 − beta2ᵗ)

    Parameters
    ----------
    eta : float
        Learning rate, > 0: about the largest change of a parameter in one step.
    beta1, beta2 : float
        Decay of the two means, in [0, 1).
    epsilon : float
        > 0, in units of the gradient.

    Raises
    ------
    ValueError
        A setting is out of its range.

    References
    ----------
    Kingma, Ba: Adam: A Method for Stochastic Optimization (ICLR 2015), algorithm 1.

    Examples
    --------
    >>> Adam(eta=0.001).beta2
    0.999
    """

    eta: float = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        _check_positive("eta", self.eta)
        _check_fraction("beta1", self.beta1)
        _check_fraction("beta2", self.beta2)
        _check_positive("epsilon", self.epsilon)

    @property
    def n_moments(self) -> int:
        """Vectors of state, each as long as theta."""
        return 2

    def settings(self) -> np.ndarray:
        """The vector of settings that the compiled update reads."""
        return np.array([ADAM_RULE, self.beta1, self.beta2, self.epsilon])


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _check_positive(name: str, value: object) -> None:
    number = _number(name, value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} must be a finite number > 0, got {value!r}")


def _check_fraction(name: str, value: object) -> None:
    if not 0 <= _number(name, value) < 1:
        raise ValueError(f"{name} must be in [0, 1), got {value!r}")


@jit.inner
def factors_of(settings, eta, step):
    """What the rule's numbers depend on at a step, counted from 1: the learning rate and, for Adam, with the correction
    of the first mean, and the factor that corrects the root of the second."""
    if settings[RULE] != ADAM_RULE:
        return eta, 1.0
    return eta / (1 - settings[FIRST] ** step), 1 / math.sqrt(1 - settings[SECOND] ** step)


@jit.piece
def update_block(theta, gradient, state, settings, factors, lo, n, first):
    """theta ← theta − eta · (the rule's direction) for `n` parameters from theta[lo] on, whose gradient begins at
    gradient[first]; `state` (n_moments, theta.size) moves along. factors: `factors_of` the step."""
    out_of_line()
    t, g = part(theta, lo, n), part(gradient, first, n)  # offsets in the loops would stop the vectoriser
    number = theta.dtype.type
    rule, rate = settings[RULE], number(factors[0])
    if rule == SGD_RULE:
        for i in range(t.size):
            t[i] -= rate * g[i]
    elif rule == ADAM_RULE:
        _adam(t, g, part(state[0], lo, n), part(state[1], lo, n), settings, rate, number(factors[1]))
    else:
        v, momentum = part(state[0], lo, n), number(settings[FIRST])
        if rule == MOMENTUM_RULE:
            for i in range(t.size):
                v[i] = momentum * v[i] + g[i]
                t[i] -= rate * v[i]
        else:
            for i in range(t.size):
                v[i] = momentum * v[i] + g[i]
                t[i] -= rate * (g[i] + momentum * v[i])


@jit.inlined
def _adam(t, g, m, v, settings, rate, unbias):
    number = t.dtype.type
    beta1, beta2, epsilon = number(settings[FIRST]), number(settings[SECOND]), number(settings[EPSILON])
    rest1, rest2 = number(1 - settings[FIRST]), number(1 - settings[SECOND])
    for i in range(t.size):
        m[i] = beta1 * m[i] + rest1 * g[i]
        v[i] = beta2 * v[i] + rest2 * g[i] * g[i]
        t[i] -= rate * m[i] / (np.sqrt(v[i]) * unbias + epsilon)


def _update(theta, gradient, state, settings, eta, step, threads):
    for c in prange(threads):
        lo, hi = jit.share(theta.size, c, threads, 16)
        update_block(theta, gradient, state, settings, factors_of(settings, eta, step), lo, hi - lo, lo)


update, update_serial = jit.twins(_update)
