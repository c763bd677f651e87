"""The cost of one sample and its output error delta[L] = dE/dz[L], for each loss."""

from __future__ import annotations

import math

from fastbp.core import jit
from fastbp.core.activations import SIGMOID, SOFTMAX, multiply_by_prime
from fastbp.core.simd import out_of_line, part

QUADRATIC, BINARY_CROSS_ENTROPY, CROSS_ENTROPY = range(3)
CODES = {"quadratic": QUADRATIC, "binary_cross_entropy": BINARY_CROSS_ENTROPY, "cross_entropy": CROSS_ENTROPY}
# The output activation a loss is written for; None: any.
MATCHING = {QUADRATIC: None, BINARY_CROSS_ENTROPY: SIGMOID, CROSS_ENTROPY: SOFTMAX}


@jit.piece
def costs_and_errors(loss, activation, z, a, t, delta, costs, n_rows, n, ld):
    """Costs of samples and, in `delta`, their output errors: both overwritten.

    quadratic              1/2 sum (a - t)^2              delta = (a - t) ∘ f'(z)
    binary cross-entropy   sum log(1 + e^z) - t z         delta = a - t      (a = sigmoid(z))
    cross-entropy          log(sum e^z) - sum t z         delta = a - t      (a = softmax(z), t sums to 1)

    The two cross-entropies are computed from z, so they hold for large |z|. z, a, delta: `n_rows` rows of `n` outputs,
    `ld` apart, with the room that `activate` wants; t: rows without gaps; costs (n_rows,) float64.
    """
    out_of_line()
    for i in range(n_rows):
        z_row, a_row, t_row, error = part(z, i * ld, n), part(a, i * ld, n), part(t, i * n, n), part(delta, i * ld, n)
        for j in range(n):
            error[j] = a_row[j] - t_row[j]
        if loss == QUADRATIC:
            costs[i] = _quadratic(error)
        elif loss == BINARY_CROSS_ENTROPY:
            costs[i] = _binary_cross_entropy(z_row, t_row)
        else:
            costs[i] = _cross_entropy(z_row, a_row, t_row)
    if loss == QUADRATIC:
        multiply_by_prime(activation, z, a, delta, n_rows, n, ld)


@jit.inlined
def _quadratic(error):
    cost = 0.0
    for j in range(error.size):
        cost += 0.5 * error[j] * error[j]
    return cost


@jit.inlined
def _binary_cross_entropy(z, t):
    cost = 0.0
    for j in range(z.size):
        cost += max(z[j], 0.0) - z[j] * t[j] + math.log1p(math.exp(-abs(z[j])))
    return cost


@jit.inlined
def _cross_entropy(z, a, t):
    # e^(z - highest) was divided by its sum to give a, so log(sum e^z) = z_h - log a_h at the highest z_h. The
    # difference of two z comes first: at z = 10,000 a float32 sum keeps no more than three decimals of log a_h.
    h = 0
    for j in range(1, a.size):
        h = j if z[j] > z[h] else h
    log_highest, cost = math.log(a[h]), 0.0
    for j in range(a.size):
        cost += t[j] * ((z[h] - z[j]) - log_highest)
    return cost
