"""The cost of one sample and its output error delta[L] = dE/dz[L], for each loss.

A new loss is a code, a row of COSTS, its lines in `costs_and_errors`, in core/reference.py and in the tests' table of
pairs, and its settings in fastbp/losses.py.
"""

from __future__ import annotations

import math
from collections import namedtuple
from typing import NamedTuple

from fastbp.core import compiler
from fastbp.core.activations import multiply_by_prime
from fastbp.core.compiler import out_of_line
from fastbp.core.simd.memory import ahead, number

QUADRATIC, BINARY_CROSS_ENTROPY, CROSS_ENTROPY, MEAN_ABSOLUTE, HUBER, POISSON, CUSTOM = range(7)


class Row(NamedTuple):
    """A loss in the table of them."""

    code: int
    times_prime: bool  # whether it writes dE/da into delta, which f'(z) then multiplies


COSTS = (Row(QUADRATIC, True), Row(BINARY_CROSS_ENTROPY, False), Row(CROSS_ENTROPY, False), Row(MEAN_ABSOLUTE, True),
         Row(HUBER, True), Row(POISSON, False), Row(CUSTOM, False))
TIMES_PRIME = tuple(row.code for row in COSTS if row.times_prime)


class Cost(NamedTuple):
    """A loss as the kernels read it: its code, its settings, and of a user's function where its machine code is."""

    code: int
    threshold: float = 0.0
    label_smoothing: float = 0.0
    address: int = 0


NO_LOSS = Cost(-1)  # for calls without targets; as of every code that is not in COSTS, its cost is NaN


def check_code(code: int) -> None:
    """Raise ValueError if no loss has this code."""
    if code not in (row.code for row in COSTS):
        raise ValueError(f"unknown loss code {code!r}; valid: {', '.join(str(row.code) for row in COSTS)}")


# What the output layer gives: pointers to z, a and delta of `n_rows` rows of `n` outputs, `ld` apart, with the room
# that `activate` wants.
Outputs = namedtuple("Outputs", ["z", "a", "delta", "n_rows", "n", "ld"])


@compiler.piece
def costs_and_errors(loss, activation, outputs, t, costs):
    """Costs of samples and, in `delta`, their output errors: both overwritten. loss: a Cost.

    quadratic              1/2 sum (a - t)^2              delta = (a - t) ∘ f'(z)
    mean absolute          sum |a - t|                    delta = sign(a - t) ∘ f'(z)
    Huber                  see there                      delta = (a - t, at most the threshold) ∘ f'(z)
    binary cross-entropy   sum log(1 + e^z) - t z         delta = a - t           (a = sigmoid(z))
    cross-entropy          log(sum e^z) - sum t z         delta = a - t           (a = softmax(z), t sums to 1)
    Poisson                sum a - t log a                delta = (1 - t / a) ∘ f'(z)    (a = softplus(z))
    code of no loss        NaN

    The two cross-entropies are computed from z, so they hold for large |z|. outputs: see Outputs; t: pointer to
    rows without gaps; costs: to as many float64.
    """
    out_of_line()
    z, a, delta, n_rows, n, ld = outputs
    if loss.code == CUSTOM:
        compiler.call(loss.address, (z, a, t, delta, costs, n_rows, n, ld))
        return
    threshold, smoothing = number(a, loss.threshold), number(a, loss.label_smoothing)
    for i in range(n_rows):
        z_row, a_row, t_row, error = ahead(z, i * ld), ahead(a, i * ld), ahead(t, i * n), ahead(delta, i * ld)
        for j in range(n):
            error[j] = a_row[j] - t_row[j]
        if loss.code == QUADRATIC:
            costs[i] = _quadratic(error, n)
        elif loss.code == BINARY_CROSS_ENTROPY:
            costs[i] = _binary_cross_entropy(z_row, t_row, n)
        elif loss.code == CROSS_ENTROPY:
            costs[i] = _cross_entropy(z_row, a_row, t_row, error, n, smoothing)
        elif loss.code == MEAN_ABSOLUTE:
            costs[i] = _mean_absolute(error, n)
        elif loss.code == HUBER:
            costs[i] = _huber(error, n, threshold)
        elif loss.code == POISSON:
            costs[i] = _poisson(a_row, t_row, error, n)
        else:
            costs[i] = math.nan
    if loss.code in TIMES_PRIME:
        multiply_by_prime(activation, z, a, delta, n_rows, n, ld)


@compiler.inlined
def _quadratic(error, n):
    cost = 0.0
    for j in range(n):
        cost += 0.5 * error[j] * error[j]
    return cost


@compiler.inlined
def _mean_absolute(error, n):
    cost, zero, one = 0.0, number(error, 0), number(error, 1)
    for j in range(n):
        cost += abs(error[j])
        error[j] = (one if error[j] > 0 else zero) - (one if error[j] < 0 else zero)
    return cost


@compiler.inlined
def _huber(error, n, threshold):
    cost = 0.0
    for j in range(n):
        inside = min(max(error[j], -threshold), threshold)
        cost += inside * (error[j] - 0.5 * inside)
        error[j] = inside
    return cost


@compiler.inlined
def _binary_cross_entropy(z, t, n):
    cost = 0.0
    for j in range(n):
        cost += max(z[j], 0.0) - z[j] * t[j] + math.log1p(math.exp(-abs(z[j])))
    return cost


@compiler.inlined
def _cross_entropy(z, a, t, error, n, smoothing):
    # e^(z - highest) was divided by its sum to give a, so log(sum e^z) = z_h - log a_h at the highest z_h. The
    # difference of two z comes first: at z = 10,000 a float32 sum keeps no more than three decimals of log a_h.
    h = 0
    for j in range(1, n):
        h = j if z[j] > z[h] else h
    log_highest, cost = math.log(a[h]), 0.0
    if smoothing == 0:
        for j in range(n):
            cost += t[j] * ((z[h] - z[j]) - log_highest)
    else:
        rest = number(a, 1) - smoothing
        for j in range(n):
            target = rest * t[j] + smoothing / n
            cost += target * ((z[h] - z[j]) - log_highest)
            error[j] = a[j] - target
    return cost


@compiler.inlined
def _poisson(a, t, error, n):
    # f' = 1 - e^-a of softplus. Beside a rate that is next to 0 it is that rate, and their quotient 1: t / a first
    # could overflow.
    cost = 0.0
    for j in range(n):
        prime = -math.expm1(-a[j])
        cost += a[j] - t[j] * math.log(a[j])
        error[j] = prime - t[j] * (prime / a[j])
    return cost
