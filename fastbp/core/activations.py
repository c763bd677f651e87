"""Activation functions f and their derivatives f', chosen by an integer code outside the inner loops."""

from __future__ import annotations

import math

import numpy as np
from numba import types
from numba.extending import overload

from fastbp.core import jit
from fastbp.core.simd import out_of_line, power_of_two

IDENTITY, SIGMOID, TANH, RELU, SOFTMAX = range(5)
CODES = {"identity": IDENTITY, "sigmoid": SIGMOID, "tanh": TANH, "relu": RELU, "softmax": SOFTMAX}


def _exp_parts(x):
    """(s, p) with e**x = s + s p, s a power of two and |p| < 0.42, for x <= 88 (float32) or 709 (float64).

    Reduction x = n ln 2 + r, |r| <= ln 2 / 2, with ln 2 in two parts (Cody and Waite 1980); p = e**r - 1 by its Taylor
    series, whose first term left out is below 0.1 ulp of 1. Below the smallest normal number e**x stays there.
    """


@overload(_exp_parts)
def _exp_parts_of(x):
    dtype = {types.float32: np.float32, types.float64: np.float64}[x]
    single = dtype is np.float32
    shift = dtype(1.5 * 2.0 ** (23 if single else 52))  # adding it rounds to a whole number
    lowest = dtype(-87.0 if single else -708.0)
    log2_e = dtype(1 / math.log(2))
    ln2_high = dtype(0.693359375) if single else dtype(float.fromhex("0x1.62e42fefa0000p-1"))
    ln2_low = dtype(-2.1219444005469058e-4) if single else dtype(float.fromhex("0x1.cf79abc9e3b39p-40"))
    c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13 = [dtype(1 / math.factorial(i)) for i in range(1, 14)]

    def parts(x):
        x = lowest if x < lowest else x
        shifted = x * log2_e + shift
        n = shifted - shift
        r = (x - n * ln2_high) - n * ln2_low
        p = c7
        if not single:
            p = c7 + r * (c8 + r * (c9 + r * (c10 + r * (c11 + r * (c12 + r * c13)))))
        p = r * (c1 + r * (c2 + r * (c3 + r * (c4 + r * (c5 + r * (c6 + r * p))))))
        return power_of_two(shifted), p

    return parts


@jit.inner
def exp(x):
    """e**x for -87 <= x <= 88 (float32) or -708 <= x <= 709 (float64), branch-free; within 1.5 ulp of the true value.

    Below it stays where it is at -87 (1.6e-38) or -708 (3.3e-308).
    """
    s, p = _exp_parts(x)
    return s + s * p


@jit.inner
def sigmoid(x):
    """1 / (1 + e**-x), from e**-|x| so that nothing overflows; within 3 ulp where `exp` is within its own."""
    one = type(x)(1)
    e = exp(-abs(x))
    return (one if x >= 0 else e) / (one + e)


@jit.inner
def tanh(x):
    """-m / (2 + m) with m = e**(-2|x|) - 1 taken without cancellation, and the sign of x; within 4 ulp."""
    zero, two = type(x)(0), type(x)(2)
    s, p = _exp_parts(-two * abs(x))
    m = s * p + (s - type(x)(1))
    t = (zero - m) / (two + m)  # and not -m, which at 0 is -0
    return -t if x < 0 else t


@jit.inner
def activate(code, z, a):
    """a = f(z) for one row of neurons: z, a (n_out,); `a` is overwritten."""
    out_of_line()
    if code == RELU:
        for j in range(z.size):
            a[j] = z.dtype.type(0) if z[j] < 0 else z[j]  # a NaN passes through
    elif code == SIGMOID:
        for j in range(z.size):
            a[j] = sigmoid(z[j])
    elif code == TANH:
        for j in range(z.size):
            a[j] = tanh(z[j])
    elif code == SOFTMAX:
        _softmax(z, a)
    else:
        for j in range(z.size):
            a[j] = z[j]


@jit.inner
def _softmax(z, a):
    highest = z[0]
    for j in range(1, z.size):
        highest = max(highest, z[j])
    for j in range(z.size):
        a[j] = exp(z[j] - highest)
    total = a.dtype.type(0)
    for j in range(z.size):
        total += a[j]
    for j in range(z.size):
        a[j] /= total


@jit.inner
def multiply_by_prime(code, a, delta):
    """delta = delta ∘ f'(z) for one row, f' written in a = f(z); for softmax delta's product with its Jacobian.

    a, delta: (n_out,); `delta` comes in as dE/da and leaves as dE/dz.
    """
    out_of_line()
    one = a.dtype.type(1)
    if code == RELU:
        for j in range(a.size):
            delta[j] = delta[j] if a[j] > 0 else a.dtype.type(0)
    elif code == SIGMOID:
        for j in range(a.size):
            delta[j] *= a[j] * (one - a[j])
    elif code == TANH:
        for j in range(a.size):
            delta[j] *= one - a[j] * a[j]
    elif code == SOFTMAX:
        mean = a.dtype.type(0)
        for j in range(a.size):
            mean += a[j] * delta[j]
        for j in range(a.size):
            delta[j] = a[j] * (delta[j] - mean)
