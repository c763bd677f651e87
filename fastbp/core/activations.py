"""Activation functions f and their derivatives f', chosen by an integer code outside the inner loops."""

from __future__ import annotations

import math

import numpy as np
from numba import types
from numba.extending import overload

from fastbp.core import jit
from fastbp.core.simd import fma, out_of_line, part, power_of_two, whole_lines

IDENTITY, SIGMOID, TANH, RELU, SOFTMAX = range(5)
CODES = {"identity": IDENTITY, "sigmoid": SIGMOID, "tanh": TANH, "relu": RELU, "softmax": SOFTMAX}


def _exp_parts(x):
    """(s, p) with e**x = s + s p, s a power of two and |p| < 0.42, for x <= 88 (float32) or 709 (float64).

    Reduction x = n ln 2 + r, |r| <= ln 2 / 2, with ln 2 in two parts (Cody and Waite 1980); p = e**r - 1 by its Taylor
    series, whose first term left out is below 0.1 ulp of 1: terms in pairs, since a core has room for several chains of
    multiply-adds but waits four or five cycles for each. Below the smallest normal number e**x stays there.
    """


@overload(_exp_parts)
def _exp_parts_of(x):
    dtype = {types.float32: np.float32, types.float64: np.float64}[x]
    single = dtype is np.float32
    shift = dtype(1.5 * 2.0 ** (23 if single else 52))  # adding it rounds to a whole number
    lowest = dtype(-87.0 if single else -708.0)
    log2_e = dtype(1 / math.log(2))
    minus_ln2_high = dtype(-0.693359375) if single else dtype(float.fromhex("-0x1.62e42fefa0000p-1"))
    minus_ln2_low = dtype(2.1219444005469058e-4) if single else dtype(float.fromhex("-0x1.cf79abc9e3b39p-40"))
    c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13 = [dtype(1 / math.factorial(i)) for i in range(2, 14)]

    def parts(x):
        x = lowest if x < lowest else x
        shifted = fma(x, log2_e, shift)
        n = shifted - shift
        r = fma(n, minus_ln2_low, fma(n, minus_ln2_high, x))
        r2 = r * r
        q = fma(r, c7, c6)
        if not single:
            q = fma(r2, fma(r2, fma(r2, fma(r, c13, c12), fma(r, c11, c10)), fma(r, c9, c8)), q)
        q = fma(r2, fma(r2, q, fma(r, c5, c4)), fma(r, c3, c2))
        return power_of_two(shifted), fma(r2, q, r)

    return parts


@jit.inner
def exp(x):
    """e**x for -87 <= x <= 88 (float32) or -708 <= x <= 709 (float64), branch-free; within 1.5 ulp of the true value.

    Below it stays where it is at -87 (1.6e-38) or -708 (3.3e-308).
    """
    s, p = _exp_parts(x)
    return fma(s, p, s)


@jit.inlined
def sigmoid(x):
    """1 / (1 + e**-x), from e**-|x| so that nothing overflows; within 3 ulp where `exp` is within its own."""
    one = type(x)(1)
    e = exp(-abs(x))
    return (one if x >= 0 else e) / (one + e)


@jit.inlined
def tanh(x):
    """-m / (2 + m) with m = e**(-2|x|) - 1 taken without cancellation, and the sign of x; within 4 ulp."""
    zero, two = type(x)(0), type(x)(2)
    s, p = _exp_parts(-two * abs(x))
    m = fma(s, p, s - type(x)(1))
    t = (zero - m) / (two + m)  # and not -m, which at 0 is -0
    return -t if x < 0 else t


@jit.inlined
def relu(x):
    """x, or 0 where x < 0; a NaN passes through."""
    return type(x)(0) if x < 0 else x


@jit.inlined
def identity(x):
    return x


# Rows of neurons begin on a cache line and have room up to the end of one (Workspace): they are worked on in whole
# lines, which leaves nothing over for slow single steps. What lies beyond a row's `n` numbers is never read.


@jit.inlined
def _each(f, z, a, n_rows, n, ld):
    for i in range(n_rows):
        of, to = part(z, i * ld, n), part(a, i * ld, n)
        for j in range(n):
            to[j] = f(of[j])


@jit.piece
def activate(code, z, a, n_rows, n, ld):
    """a = f(z) for `n_rows` rows of `n` neurons, in z and a `ld` apart; `a` is overwritten."""
    out_of_line()
    lines = whole_lines(z, n)
    if code == RELU:
        _each(relu, z, a, n_rows, lines, ld)
    elif code == SIGMOID:
        _each(sigmoid, z, a, n_rows, lines, ld)
    elif code == TANH:
        _each(tanh, z, a, n_rows, lines, ld)
    elif code == SOFTMAX:
        for i in range(n_rows):
            _softmax(part(z, i * ld, lines), part(a, i * ld, lines), n)
    else:
        _each(identity, z, a, n_rows, lines, ld)


@jit.inlined
def _softmax(z, a, n):
    highest = z[0]
    for j in range(1, n):
        highest = max(highest, z[j])
    for j in range(z.size):
        a[j] = exp(z[j] - highest)
    total = a.dtype.type(0)
    for j in range(n):
        total += a[j]
    for j in range(z.size):
        a[j] /= total


@jit.inlined
def relu_prime(a):
    return type(a)(1) if a > 0 else type(a)(0)


@jit.inlined
def sigmoid_prime(a):
    return a * (type(a)(1) - a)


@jit.inlined
def tanh_prime(a):
    return type(a)(1) - a * a


@jit.inlined
def _multiply_each(prime, a, delta, n_rows, n, ld):
    for i in range(n_rows):
        of, to = part(a, i * ld, n), part(delta, i * ld, n)
        for j in range(n):
            to[j] *= prime(of[j])


@jit.piece
def multiply_by_prime(code, a, delta, n_rows, n, ld):
    """delta = delta ∘ f'(z) for rows as above, f' written in a = f(z); for softmax delta's product with its Jacobian.

    `delta` comes in as dE/da and leaves as dE/dz.
    """
    out_of_line()
    lines = whole_lines(a, n)
    if code == RELU:
        _multiply_each(relu_prime, a, delta, n_rows, lines, ld)
    elif code == SIGMOID:
        _multiply_each(sigmoid_prime, a, delta, n_rows, lines, ld)
    elif code == TANH:
        _multiply_each(tanh_prime, a, delta, n_rows, lines, ld)
    elif code == SOFTMAX:
        for i in range(n_rows):
            _multiply_by_jacobian(part(a, i * ld, n), part(delta, i * ld, n))


@jit.inlined
def _multiply_by_jacobian(a, delta):
    mean = a.dtype.type(0)
    for j in range(a.size):
        mean += a[j] * delta[j]
    for j in range(a.size):
        delta[j] = a[j] * (delta[j] - mean)
