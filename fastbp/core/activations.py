"""Activation functions f and their derivatives f' and f'', chosen by an integer code outside the inner loops.

Functions of x, such as tanh, are called with `Numbers` while code is emitted (see elementwise).

To add an activation:
1. here, f, f' and f'' as functions of Numbers, with errors and source in their docstrings, and a row of ACTIVATIONS;
2. in core/reference.py, f and f' in plain NumPy: functions of its name and of its name with _prime;
3. in tests/core/test_activations.py, its entry of CURVES, which finds f here by the activation's name: f with more
   digits, the error promised, the values at the ends; in tests/core/test_derivatives.py, a row of AS_PYTORCH that has
   it, and the stored numbers anew, as that file says;
4. its name in the docstring of Network and in docs/guide/recipe.md, for readers.
The code that chooses, names, messages, the command's options, initial weights and the comparisons with the oracle and
with central differences come from the table; if 2 is missing no test can be imported, if 3 is missing tests fail.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from fastbp.core import compiler
from fastbp.core.compiler import out_of_line
from fastbp.core.simd.elementwise import Numbers, by_code, copysign, each, fma, polynomial, power_of_two, where
from fastbp.core.simd.memory import ahead, number

LEAK = 0.01  # slope of leaky relu below 0
# Klambauer, Unterthiner, Mayr, Hochreiter: Self-Normalizing Neural Networks (NeurIPS 2017), equation 14.
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def _exp_parts(x):
    """(s, p) with e**x = s + s p, s a power of two and |p| < 0.42, for x <= 88 (float32) or 709 (float64).

    Reduction x = n ln 2 + r, |r| <= ln 2 / 2, with ln 2 in two parts (Cody and Waite 1980); p = e**r - 1 by its Taylor
    series, whose first omitted term is below 0.1 ulp of 1. Terms are taken in pairs, since a core runs several chains
    of multiply-adds at once but waits four or five cycles for each. Below the smallest normal number e**x is constant.
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

    For smaller x the result is that at -87 (1.6e-38) or -708 (3.3e-308).
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


def leaky_relu(x):
    """x, or 0.01 x where x < 0 (Maas, Hannun, Ng, ICML 2013)."""
    return where(x < 0, LEAK * x, x)


def expm1(x):
    """e**x - 1 for x <= 88 (float32) or 709 (float64), without cancellation; within 2 ulp."""
    s, p = _exp_parts(x)
    return fma(s, p, s - 1)


def elu(x):
    """x, or e**x - 1 where x < 0 (Clevert, Unterthiner, Hochreiter, ICLR 2016, with alpha = 1); within 2 ulp."""
    return where(x > 0, x, expm1(x))


def selu(x):
    """1.0507 x, or 1.7581 (e**x - 1) where x < 0 (Klambauer et al., NeurIPS 2017); within 3 ulp."""
    return where(x > 0, SELU_SCALE * x, SELU_SCALE * SELU_ALPHA * expm1(x))


def selu_prime(x):
    """1.0507, or 1.7581 e**x where x < 0; within 3 ulp."""
    return where(x > 0, SELU_SCALE, SELU_SCALE * SELU_ALPHA * exp(x))


def selu_second(x):
    """1.7581 e**x where x < 0, else 0; within 3 ulp."""
    return where(x >= 0, 0, SELU_SCALE * SELU_ALPHA * exp(x))


def softplus(x):
    """log(1 + e**x); within 4.5 ulp for x >= -87 (float32) or -708 (float64).

    max(x, 0) + log(1 + y) with y = e**-|x|, and log(1 + y) = 2 artanh(y / (2 + y)) by the series of artanh, whose first
    omitted term is below 0.1 ulp.
    """
    y = exp(-abs(x))
    twice = 2 * y / (2 + y)  # half of it is no normal number at the lowest x, and would be flushed to 0
    terms = 8 if x.single else 17
    return where(x > 0, x, 0) + twice * polynomial(0.25 * twice * twice, [1 / (2 * i + 1) for i in range(terms)])


def silu(x):
    """x / (1 + e**-x) (Hendrycks, Gimpel 2016; Elfwing, Uchibe, Doya 2018); within 4 ulp, and 0 below -87 or -708."""
    return where(x < (-87.0 if x.single else -708.0), 0, x * sigmoid(x))


def silu_prime(x):
    """s + x s (1 - s) with s = sigmoid(x); the error is below 2 ulp of 1."""
    x = _within(x, 87.0, 708.0)
    s = sigmoid(x)
    return fma(x * s, sigmoid(-x), s)


def sigmoid_slope(x):
    """s (1 - s) with s = sigmoid(x), for x >= -87 (float32) or -708 (float64); the error is below 2 ulp of 1."""
    return sigmoid(x) * sigmoid(-x)


def silu_second(x):
    """s (1 - s) (2 + x (1 - 2 s)) with s = sigmoid(x); the error is below 2 ulp of 1."""
    x = _within(x, 87.0, 708.0)
    s, rest = sigmoid(x), sigmoid(-x)
    return s * rest * fma(x, rest - s, 2)


def _within(x, single, double):
    """x, clipped to ±`single` (float32) or ±`double` (float64): beyond, a product with a factor that no longer shrinks
    would grow."""
    most = single if x.single else double
    return where(x > most, most, where(x < -most, -most, x))


# (1 + x) e**(x**2 / 2) Q(x) for x >= 0 as a polynomial in t = (x - 4) / (x + 4), where Q(x) = erfc(x / sqrt 2) / 2 is
# the normal distribution's upper tail: interpolated at Chebyshev's points, with 50 digits, for x up to 13.5 (float32;
# relative error 2e-9) and to 38.5 (float64; 5e-17). Beyond, Q is less than the smallest normal number.
TAIL = {
    True: (0.47205320682377766, -0.0967034680998224, 0.013999597083655125, 0.028600016138151725, -0.03219723787333984,
           0.01793996572345768, -0.005004791607385315, -0.00030350315897290125, 0.000693872962511609,
           -5.979629749646178e-05, -7.143397337989712e-05),
    False: (0.47205320650984467, -0.09670347732652544, 0.01399963472442967, 0.02860036405351155, -0.032197837428321205,
            0.01793609748089354, -0.005002378585866628, -0.0002856231150590351, 0.0006948970451158133,
            -9.443012517631318e-05, -8.785277941681178e-05, 2.1249485287889293e-05, 1.3625135046404056e-05,
            -3.4307400257143654e-06, -2.608085062900232e-06, 4.0241505167531964e-07, 5.433286005113161e-07,
            2.4727507958862666e-09, -1.0126966406382997e-07, -1.8688001681908975e-08, 1.1449193180021513e-08,
            4.299554988220969e-09, 1.6836359455145779e-10),
}


def _normal(x):
    """(Phi(x), e**(-x**2 / 2)): the normal distribution's integral up to x, and sqrt(2 pi) times its density."""
    size = abs(_within(x, 13.5, 38.5))
    square = size * size
    rest = fma(size, size, -square)  # x**2 = square + rest, to the last digit
    bell = exp(-0.5 * square)
    bell = fma(bell, -0.5 * rest, bell)
    tail = bell * polynomial((size - 4) / (size + 4), TAIL[x.single]) / (1 + size)
    return where(x > 0, 1 - tail, tail), bell


def gelu(x):
    """x Phi(x), Phi being the normal distribution's integral (Hendrycks, Gimpel 2016); within 6 ulp while
    e**(-x**2 / 2) is a normal number."""
    return where(x < (-13.5 if x.single else -38.5), 0, x * _normal(x)[0])


def gelu_prime(x):
    """Phi(x) + x phi(x), phi being the normal density; the error is below 2 ulp of 1."""
    x = _within(x, 13.5, 38.5)
    integral, bell = _normal(x)
    return fma(x, bell * (1 / math.sqrt(2 * math.pi)), integral)


def gelu_second(x):
    """phi(x) (2 - x**2), phi being the normal density; the error is below 2 ulp of 1."""
    x = _within(x, 13.5, 38.5)
    return (2 - x * x) * (_normal(x)[1] * (1 / math.sqrt(2 * math.pi)))


# 2 sqrt(2 / pi), and the same times 0.044715, each as a number and its rounding error: float32, float64.
CUBIC = {
    True: ((1.5957691669464111, -4.534068032135963e-08), (0.07135481387376785, 2.3988323966106506e-09)),
    False: ((1.5957691216057308, -9.96930880911092e-17), (0.07135481627260025, -6.175149918155315e-19)),
}


def _gelu_tanh_parts(x):
    """For x within ±12 (float32) or ±25 (float64): (s, 1 - s, u') with s = (1 + tanh(u / 2)) / 2 and
    u = 2 sqrt(2 / pi) (x + 0.044715 x**3).

    e**u loses as many digits as u has before the point. So u is computed in double-word arithmetic: the rounding
    error of each sum and product is known exactly.
    """
    (a, rest_a), (b, rest_b) = CUBIC[x.single]
    square = x * x
    term = b * square
    total = term + a
    part = total - term
    rest = (term - (total - part)) + (a - part) + fma(square, b, -term)
    rest = rest + b * fma(x, x, -square) + fma(square, rest_b, rest_a)
    u = x * total
    rest = fma(x, total, -u) + x * rest
    e = exp(-abs(u))
    e = fma(e, where(u < 0, rest, -rest), e)
    return where(u < 0, e, 1) / (1 + e), where(u < 0, 1, e) / (1 + e), fma(square, 3 * b, a)


def gelu_tanh(x):
    """gelu with (1 + tanh(sqrt(2 / pi) (x + 0.044715 x**3))) / 2 for Phi (Hendrycks, Gimpel 2016); within 4 ulp."""
    within = _within(x, 12.0, 25.0)
    return where(x > within, x, where(x < within, 0, x * _gelu_tanh_parts(within)[0]))


def gelu_tanh_prime(x):
    """s + x s (1 - s) u'; the error is below 2 ulp of 1."""
    x = _within(x, 12.0, 25.0)
    s, rest, slope = _gelu_tanh_parts(x)
    return fma(x * s, rest * slope, s)


def gelu_tanh_second(x):
    """s (1 - s) (2 u' + x ((1 - 2 s) u'**2 + u'')); the error is below 4 ulp of 1."""
    x = _within(x, 12.0, 25.0)
    s, rest, slope = _gelu_tanh_parts(x)
    return s * rest * fma(x, fma((rest - s) * slope, slope, 6 * CUBIC[x.single][1][0] * x), 2 * slope)


def _mish_parts(x):
    """(n, d, d - n, e**-|x|) with tanh(softplus(x)) = n / d: from e**-|x|, so that nothing overflows or cancels.

    With y = e**x that is (y**2 + 2 y) / (y**2 + 2 y + 2); for x > 0 both are multiplied by e**-2x.
    """
    e = exp(-abs(x))
    n = where(x < 0, e * (e + 2), 2 * e + 1)
    rest = where(x < 0, 2, 2 * e * e)
    return n, n + rest, rest, e


def mish(x):
    """x tanh(softplus(x)) (Misra 2019, arXiv:1908.08681); within 5 ulp, and 0 below -87 or -708."""
    n, d, _, _ = _mish_parts(x)
    return where(x < (-87.0 if x.single else -708.0), 0, x * (n / d))


def mish_prime(x):
    """t + x s (1 - t**2) with t = tanh(softplus(x)), s = sigmoid(x); the error is below 2 ulp of 1."""
    x = _within(x, 87.0, 708.0)
    n, d, rest, e = _mish_parts(x)
    t, s = n / d, where(x < 0, e, 1) / (1 + e)
    return fma(x * s * (rest / d), 1 + t, t)


def mish_second(x):
    """s (1 - t**2) (2 + x (1 - s - 2 t s)) with t and s as there; the error is below 4 ulp of 1."""
    x = _within(x, 87.0, 708.0)
    n, d, rest, e = _mish_parts(x)
    t, s, s_rest = n / d, where(x < 0, e, 1) / (1 + e), where(x < 0, 1, e) / (1 + e)
    return s * (rest / d) * (1 + t) * fma(x, s_rest - 2 * t * s, 2)


Z, A, SIGN = "z", "a", "sign of a"  # the argument of f' in code; see WHOLE


class Row(NamedTuple):
    """A row of the table of activations."""

    name: str
    code: int  # in the table of layers; files hold names
    f: Callable[[Numbers], Numbers] | None  # None: a function of whole rows, not of each element
    f_prime: Callable[[Numbers], Numbers] | None  # None: as f, or 1 everywhere
    f_second: Callable[[Numbers], Numbers] | None  # None: as f, or 0 everywhere; at a kink of f or f' it is 0, too
    written_in: str  # argument of f_prime and f_second: Z, A, or only the sign of A
    weights: str = "glorot_uniform"  # the initial weights that suit it: a name of fastbp.initialization
    rare: bool = True  # whether it is in `activate_rarely`, which is compiled at first use


IDENTITY, SIGMOID, TANH, RELU, SOFTMAX = range(5)
ACTIVATIONS = (
    Row("identity", IDENTITY, lambda z: z, None, None, Z, rare=False),
    Row("sigmoid", SIGMOID, sigmoid, lambda a: a * (1 - a), lambda a: a * (1 - a) * (1 - 2 * a), A, rare=False),
    Row("tanh", TANH, tanh, lambda a: 1 - a * a, lambda a: -2 * a * (1 - a * a), A, rare=False),
    Row("relu", RELU, relu, lambda a: where(a > 0, 1, 0), None, SIGN, "he_normal", rare=False),
    Row("leaky_relu", 5, leaky_relu, lambda a: where(a > 0, 1, LEAK), None, SIGN, "he_normal"),
    Row("elu", 6, elu, lambda z: where(z > 0, 1, exp(z)), lambda z: where(z >= 0, 0, exp(z)), Z, "he_normal"),
    Row("selu", 7, selu, selu_prime, selu_second, Z, "lecun_normal"),
    Row("gelu", 8, gelu, gelu_prime, gelu_second, Z, "he_normal"),
    Row("gelu_tanh", 9, gelu_tanh, gelu_tanh_prime, gelu_tanh_second, Z, "he_normal"),
    Row("silu", 10, silu, silu_prime, silu_second, Z, "he_normal"),
    Row("mish", 12, mish, mish_prime, mish_second, Z, "he_normal"),
    Row("softplus", 11, softplus, sigmoid, sigmoid_slope, Z),
    Row("softmax", SOFTMAX, None, None, None, A, rare=False),
)
CODES = {row.name: row.code for row in ACTIVATIONS}
ALIASES = {"linear": "identity", "logistic": "sigmoid", "swish": "silu"}  # see checks.one_of
COMMON = frozenset(row.code for row in ACTIVATIONS if not row.rare)
# Activations whose f' needs a = f(z) as it was before dropout. Where dropout set a to 0, delta is 0, too: if the sign
# is enough, nothing more is needed.
WHOLE = tuple(row.code for row in ACTIVATIONS if row.written_in == A)


def _curves(rare):
    """f of each element of z, in the form for by_code: from z and a, into a."""
    def of(row):
        return lambda z, a: row.f(z)

    return by_code({row.code: of(row) for row in ACTIVATIONS if row.rare == rare and row.f})


def _slopes(rare):
    """delta f'(z): from z, a and delta, into delta. NaN in delta stays NaN even if f' is 0."""
    def of(row):
        if row.f_prime is None:
            return None
        return lambda z, a, delta: delta * row.f_prime(z if row.written_in == Z else a)

    return by_code({row.code: of(row) for row in ACTIVATIONS if row.rare == rare and row.f})


def _curvatures():
    """Rdelta + delta f''(z) Rz: from z, a, Rz, delta and Rdelta, into Rdelta."""
    def of(row):
        if row.f_second is None:
            return None
        return lambda z, a, Rz, delta, Rdelta: Rdelta + delta * row.f_second(z if row.written_in == Z else a) * Rz

    return by_code({row.code: of(row) for row in ACTIVATIONS if row.f})


_common_curve, _rare_curve = _curves(rare=False), _curves(rare=True)
_times_common_slope, _times_rare_slope = _slopes(rare=False), _slopes(rare=True)
_add_curvature = _curvatures()
_not_a_number = each(lambda z, a: z + math.nan)
_exp_of_difference = each(lambda z, a, highest: exp(z - highest))
_quotient = each(lambda z, a, total: a / total)


@compiler.piece
def activate(code, z, a, n_rows, n, ld):
    """a = f(z) for `n_rows` rows of `n` neurons, `ld` apart in z and a; `a` is overwritten.

    With an unknown code it becomes NaN. Each row starts on a cache line and has room up to the end of one."""
    out_of_line()
    if code == SOFTMAX:
        for i in range(n_rows):
            _softmax(ahead(z, i * ld), ahead(a, i * ld), n)
    elif not _common_curve(code, (z, a), n_rows, n, ld):
        activate_rarely(code, z, a, n_rows, n, ld)


@compiler.rare
def activate_rarely(code, z, a, n_rows, n, ld):
    """`activate` for functions that few networks use."""
    if not _rare_curve(code, (z, a), n_rows, n, ld):
        _not_a_number(z, a, n_rows, n, ld, ())


@compiler.inlined
def _softmax(z, a, n):
    highest = z[0]
    for j in range(1, n):
        highest = max(highest, z[j])
    _exp_of_difference(z, a, 1, n, n, (highest,))
    total = number(a, 0)
    for j in range(n):
        total += a[j]
    _quotient(z, a, 1, n, n, (total,))


@compiler.piece
def multiply_by_prime(code, z, a, delta, n_rows, n, ld):
    """delta = delta ∘ f'(z) for rows as above, with a = f(z); for softmax, the product of delta with its Jacobian.

    `delta` holds dE/da on entry and dE/dz on return.
    """
    out_of_line()
    if code == SOFTMAX:
        for i in range(n_rows):
            _multiply_by_jacobian(ahead(a, i * ld), ahead(delta, i * ld), n)
    elif not _times_common_slope(code, (z, a, delta), n_rows, n, ld):
        multiply_by_rare_prime(code, z, a, delta, n_rows, n, ld)


@compiler.rare
def multiply_by_rare_prime(code, z, a, delta, n_rows, n, ld):
    """`multiply_by_prime` for functions that few networks use."""
    if not _times_rare_slope(code, (z, a, delta), n_rows, n, ld):
        _not_a_number(z, delta, n_rows, n, ld, ())


@compiler.inlined
def _multiply_by_jacobian(a, delta, n):
    mean = number(a, 0)
    for j in range(n):
        mean += a[j] * delta[j]
    for j in range(n):
        delta[j] = a[j] * (delta[j] - mean)


@compiler.inner
def differentiate_error(code, arrays, n_rows, n, ld):
    """R{delta} and delta of rows as above, with delta = slope ∘ f'(z), where R is d/dr at theta + r v, r = 0:
    Rdelta = R{slope} ∘ f'(z) + slope ∘ f''(z) ∘ Rz; for softmax, by the Jacobian and how it changes.

    arrays: pointers to z, a, Rz, Ra, delta, Rdelta; on entry, delta holds the slope and Rdelta R{slope}.
    """
    z, a, Rz, Ra, delta, Rdelta = arrays
    multiply_by_prime(code, z, a, Rdelta, n_rows, n, ld)
    if code == SOFTMAX:
        for i in range(n_rows):
            _add_change_of_jacobian(ahead(a, i * ld), ahead(Ra, i * ld), ahead(delta, i * ld), ahead(Rdelta, i * ld), n)
    elif not _add_curvature(code, (z, a, Rz, delta, Rdelta), n_rows, n, ld):
        _not_a_number(z, Rdelta, n_rows, n, ld, ())
    multiply_by_prime(code, z, a, delta, n_rows, n, ld)


@compiler.inlined
def _add_change_of_jacobian(a, Ra, slope, Rdelta, n):
    """Rdelta += R{J} slope with J slope = a ∘ (slope - mean), where mean = a · slope."""
    mean = change = number(a, 0)
    for j in range(n):
        mean += a[j] * slope[j]
        change += Ra[j] * slope[j]
    for j in range(n):
        Rdelta[j] += Ra[j] * (slope[j] - mean) - a[j] * change
