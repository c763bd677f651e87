"""The cost of one sample and its output error delta[L] = dE/dz[L], for each loss."""

from __future__ import annotations

import math

from fastbp.core import jit
from fastbp.core.activations import SIGMOID, SOFTMAX, multiply_by_prime
from fastbp.core.simd import out_of_line

QUADRATIC, BINARY_CROSS_ENTROPY, CROSS_ENTROPY = range(3)
CODES = {"quadratic": QUADRATIC, "binary_cross_entropy": BINARY_CROSS_ENTROPY, "cross_entropy": CROSS_ENTROPY}
# The output activation a loss is written for; None: any.
MATCHING = {QUADRATIC: None, BINARY_CROSS_ENTROPY: SIGMOID, CROSS_ENTROPY: SOFTMAX}


@jit.inner
def cost_and_error(loss, activation, z, a, t, delta):
    """Return one sample's cost; delta (n_out,) is overwritten with its output error.

    quadratic              1/2 sum (a - t)^2              delta = (a - t) ∘ f'(z)
    binary cross-entropy   sum log(1 + e^z) - t z         delta = a - t      (a = sigmoid(z))
    cross-entropy          log(sum e^z) - sum t z         delta = a - t      (a = softmax(z), t sums to 1)

    The two cross-entropies are computed from z, so they hold for large |z|. z, a, t: (n_out,).
    """
    out_of_line()
    for j in range(a.size):
        delta[j] = a[j] - t[j]
    cost = 0.0
    if loss == QUADRATIC:
        for j in range(a.size):
            cost += 0.5 * delta[j] * delta[j]
        multiply_by_prime(activation, a, delta)
    elif loss == BINARY_CROSS_ENTROPY:
        for j in range(a.size):
            cost += max(z[j], 0.0) - z[j] * t[j] + math.log1p(math.exp(-abs(z[j])))
    else:
        # e^(z - highest) was divided by its sum to give a, so log(sum e^z) = z_h - log a_h at the highest z_h. The
        # difference of two z comes first: at z = 10,000 a float32 sum keeps no more than three decimals of log a_h.
        h = 0
        for j in range(1, a.size):
            h = j if z[j] > z[h] else h
        log_highest = math.log(a[h])
        for j in range(a.size):
            cost += t[j] * ((z[h] - z[j]) - log_highest)
    return cost
