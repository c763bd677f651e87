"""Activation functions f and their derivatives f', chosen by an integer code outside the inner loops.

What takes x, as tanh does, is called with `Numbers` while code is emitted (see elementwise).
"""

from __future__ import annotations

import math

from fastbp.core import jit
from fastbp.core.elementwise import copysign, each, fma, power_of_two, where
from fastbp.core.simd import out_of_line, part

IDENTITY, SIGMOID, TANH, RELU, SOFTMAX = range(5)
CODES = {"identity": IDENTITY, "sigmoid": SIGMOID, "tanh": TANH, "relu": RELU, "softmax": SOFTMAX}


def _exp_parts(x):
    """(s, p) with e**x = s + s p, s a power of two and |p| < 0.42, for x <= 88 (float32) or 709 (float64).

    Reduction x = n ln 2 + r, |r| <= ln 2 / 2, with ln 2 in two parts (Cody and Waite 1980); p = e**r - 1 by its Taylor
    series, whose first term left out is below 0.1 ulp of 1: terms in pairs, since a core has room for several chains of
    multiply-adds but waits four or five cycles for each. Below the smallest normal number e**x stays there.
    """
    if x.single:
        lowest, shift = -87.0, 1.5 * 2.0**23 + 127
        ln2_high, ln2_low = 0.693359375, -2.1219444005469058e-4
    else:
        lowest, shift = -708.0, 1.5 * 2.0**52 + 1023
        ln2_high, ln2_low = float.fromhex("0x1.62e42fefa0000p-1"), float.fromhex("0x1.cf79abc9e3b39p-40")
    c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13 = [1 / math.factorial(i) for i in range(2, 14)]
    x = where(x < lowest, lowest, x)
    shifted = fma(x, 1 / math.log(2), shift)  # rounds to a whole number, with the exponent's bias in its last bits
    n = shifted - shift
    r = fma(n, -ln2_low, fma(n, -ln2_high, x))
    r2 = r * r
    q = fma(r, c7, c6)
    if not x.single:
        q = fma(r2, fma(r2, fma(r2, fma(r, c13, c12), fma(r, c11, c10)), fma(r, c9, c8)), q)
    q = fma(r2, fma(r2, q, fma(r, c5, c4)), fma(r, c3, c2))
    return power_of_two(shifted), fma(r2, q, r)


def exp(x):
    """e**x for -87 <= x <= 88 (float32) or -708 <= x <= 709 (float64), branch-free; within 1.5 ulp of the true value.

    Below it stays where it is at -87 (1.6e-38) or -708 (3.3e-308).
    """
    s, p = _exp_parts(x)
    return fma(s, p, s)


def sigmoid(x):
    """1 / (1 + e**-x), from e**-|x| so that nothing overflows; within 3 ulp where `exp` is within its own."""
    e = exp(-abs(x))
    return where(x >= 0, 1, e) / (1 + e)


def tanh(x):
    """m / (2 - m) with m = 1 - e**(-2|x|) taken without cancellation, and the sign of x; within 4 ulp."""
    s, p = _exp_parts(-2 * abs(x))
    m = fma(-s, p, 1 - s)
    return copysign(m / (2 - m), x)


def relu(x):
    """x, or 0 where x < 0; a NaN passes through."""
    return where(x < 0, 0, x)


_identity_of = each(lambda z, a: z)
_sigmoid_of = each(lambda z, a: sigmoid(z))
_tanh_of = each(lambda z, a: tanh(z))
_relu_of = each(lambda z, a: relu(z))
_exp_of_difference = each(lambda z, a, highest: exp(z - highest))
_quotient = each(lambda z, a, total: a / total)


@jit.piece
def activate(code, z, a, n_rows, n, ld):
    """a = f(z) for `n_rows` rows of `n` neurons, in z and a `ld` apart, each row from the start of a cache line and
    with room up to the end of one; `a` is overwritten."""
    out_of_line()
    if code == RELU:
        _relu_of(z, a, n_rows, n, ld, ())
    elif code == SIGMOID:
        _sigmoid_of(z, a, n_rows, n, ld, ())
    elif code == TANH:
        _tanh_of(z, a, n_rows, n, ld, ())
    elif code == SOFTMAX:
        for i in range(n_rows):
            _softmax(part(z, i * ld, n), part(a, i * ld, n))
    else:
        _identity_of(z, a, n_rows, n, ld, ())


@jit.inlined
def _softmax(z, a):
    n, highest = z.size, z[0]
    for j in range(1, n):
        highest = max(highest, z[j])
    _exp_of_difference(z, a, 1, n, n, (highest,))
    total = a.dtype.type(0)
    for j in range(n):
        total += a[j]
    _quotient(z, a, 1, n, n, (total,))


# f' of each, written in a = f(z), times dE/da.
_times_sigmoid_prime = each(lambda a, delta: delta * (a * (1 - a)))
_times_tanh_prime = each(lambda a, delta: delta * (1 - a * a))
_times_relu_prime = each(lambda a, delta: where(a > 0, delta, 0 * delta))  # NaN in delta stays


@jit.piece
def multiply_by_prime(code, a, delta, n_rows, n, ld):
    """delta = delta ∘ f'(z) for rows as above, f' written in a = f(z); for softmax delta's product with its Jacobian.

    `delta` comes in as dE/da and leaves as dE/dz.
    """
    out_of_line()
    if code == RELU:
        _times_relu_prime(a, delta, n_rows, n, ld, ())
    elif code == SIGMOID:
        _times_sigmoid_prime(a, delta, n_rows, n, ld, ())
    elif code == TANH:
        _times_tanh_prime(a, delta, n_rows, n, ld, ())
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
