"""The cost of one sample, its output error delta[L] = dE/dz[L] and that error's derivative, for each loss.

To add a loss:
1. here, its two kernels, with their equations in the docstrings, and a row of COSTS; a number of its own is a field of
   Cost and of the slip's;
2. in core/reference.py, the same in plain NumPy from a and t: functions of its name and of its name with _slope;
3. in fastbp/losses.py, its settings: what users and other libraries call it, which outputs it is for, what it asks of
   targets; and the class in LOSSES;
4. in tests/core/test_losses.py, its cost and error worked by hand: a row of BY_HAND; if it asks something of targets,
   such ones in `draw_targets` of tests/rig.py; in tests/core/test_derivatives.py, a row of AS_PYTORCH that has it, what
   PyTorch calls it, and the stored numbers anew, as that file says;
5. its name in the docstring of Trainer and in docs/guide/recipe.md, for readers.
The code that chooses, names, messages, the command's options and the comparisons with the oracle and with central
differences come from the tables; if 2 is missing no test can be imported, if 3 or 4 is missing tests fail.
"""

from __future__ import annotations

import functools
import math
from collections import namedtuple
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastbp.core import compiler
from fastbp.core.activations import IDENTITY, differentiate_error, multiply_by_prime
from fastbp.core.compiler import out_of_line
from fastbp.core.simd.memory import ahead, number
from fastbp.core.simd.vectors import by_cases


class Cost(NamedTuple):
    """A loss as the kernels read it: its code, its settings and, for a user's function, the address of its code."""

    code: int
    threshold: float = 0.0
    label_smoothing: float = 0.0
    address: int = 0


# Kernels: the cost of one sample with outputs a = f(z) and targets t, each a pointer to n numbers. error holds a - t on
# entry and, on return, dE/da or dE/dz, as the table says. loss: a Cost.


@compiler.inner
def quadratic(z, a, t, error, n, loss):
    """1/2 sum (a - t)^2, with slope a - t."""
    cost = 0.0
    for j in range(n):
        cost += 0.5 * error[j] * error[j]
    return cost


@compiler.inner
def mean_absolute(z, a, t, error, n, loss):
    """sum |a - t|, with slope sign(a - t)."""
    cost, zero, one = 0.0, number(error, 0), number(error, 1)
    for j in range(n):
        cost += abs(error[j])
        error[j] = (one if error[j] > 0 else zero) - (one if error[j] < 0 else zero)
    return cost


@compiler.inner
def huber(z, a, t, error, n, loss):
    """sum i (a - t) - 1/2 i^2, with slope i: a - t, clipped to ±threshold."""
    cost, threshold = 0.0, number(a, loss.threshold)
    for j in range(n):
        inside = min(max(error[j], -threshold), threshold)
        cost += inside * (error[j] - 0.5 * inside)
        error[j] = inside
    return cost


@compiler.inner
def binary_cross_entropy(z, a, t, error, n, loss):
    """sum log(1 + e^z) - t z, delta = a - t with a = sigmoid(z); from z, so it holds for large |z|."""
    cost = 0.0
    for j in range(n):
        cost += max(z[j], 0.0) - z[j] * t[j] + math.log1p(math.exp(-abs(z[j])))
    return cost


@compiler.inner
def cross_entropy(z, a, t, error, n, loss):
    """log(sum e^z) - sum t z, delta = a - t with a = softmax(z), where t sums to 1; from z, so it holds for large |z|.

    e^(z - highest) was divided by its sum to give a, so log(sum e^z) = z_h - log a_h at the highest z_h. The
    difference of two z comes first: at z = 10,000 a float32 sum keeps no more than three decimals of log a_h.
    """
    h, smoothing = 0, number(a, loss.label_smoothing)
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


@compiler.inner
def poisson(z, a, t, error, n, loss):
    """sum a - t log a, delta = (1 - t / a) f'(z) with a = softplus(z).

    For softplus f' = 1 - e^-a. If the rate a is nearly 0, f' equals it and f' / a is 1, whereas t / a could overflow.
    """
    cost = 0.0
    for j in range(n):
        prime = -math.expm1(-a[j])
        cost += a[j] - t[j] * math.log(a[j])
        error[j] = prime - t[j] * (prime / a[j])
    return cost


@compiler.inner
def cosine(z, a, t, error, n, loss):
    """1 - cos(a, t), with slope (cos(a, t) a / |a| - t / |t|) / |a|; 1, with slope 0, if all of a or t are 0.

    Computed as 1/2 |a / |a| - t / |t||^2, which is exact for small angles, too; always in float64 (by 1.0), as squares
    of float32 could overflow.
    """
    squares_of_a, squares_of_t, cost = 0.0, 0.0, 0.0
    for j in range(n):
        squares_of_a += 1.0 * a[j] * a[j]
        squares_of_t += 1.0 * t[j] * t[j]
    if squares_of_a == 0 or squares_of_t == 0:
        for j in range(n):
            error[j] = 0
        return 1.0
    per_a, per_t = 1 / math.sqrt(squares_of_a), 1 / math.sqrt(squares_of_t)
    for j in range(n):
        difference = per_a * a[j] - per_t * t[j]
        cost += 0.5 * difference * difference
    for j in range(n):
        error[j] = number(error, per_a * (per_a * a[j] - per_t * t[j] - cost * (per_a * a[j])))
    return cost


# Kernels of the derivative: R{error} for the error that a kernel above returned. R is the derivative along a direction
# with known Rz and Ra; at a kink it is 0. They return 0.0, as `_by_loss` needs functions that return a float64.


@compiler.inner
def as_outputs(a, t, error, Rz, Ra, Rerror, n, loss):
    """R{a - t} = Ra."""
    for j in range(n):
        Rerror[j] = Ra[j]
    return 0.0


@compiler.inner
def mean_absolute_tangent(a, t, error, Rz, Ra, Rerror, n, loss):
    """R{sign(a - t)} = 0."""
    for j in range(n):
        Rerror[j] = 0
    return 0.0


@compiler.inner
def huber_tangent(a, t, error, Rz, Ra, Rerror, n, loss):
    """Ra where |a - t| is below the threshold, else 0."""
    threshold = number(a, loss.threshold)
    for j in range(n):
        Rerror[j] = Ra[j] if abs(error[j]) < threshold else number(a, 0)
    return 0.0


@compiler.inner
def poisson_tangent(a, t, error, Rz, Ra, Rerror, n, loss):
    """R{(1 - t / a) f'} = (f' e^-a + t q (q - e^-a)) Rz with q = f' / a, f' = 1 - e^-a."""
    for j in range(n):
        prime = -math.expm1(-a[j])
        rest, q = 1 - prime, prime / a[j]
        Rerror[j] = (prime * rest + t[j] * q * (q - rest)) * Rz[j]
    return 0.0


@compiler.inner
def cosine_tangent(a, t, error, Rz, Ra, Rerror, n, loss):
    """With u = a / |a|, w = t / |t|, c = u · w and slope s = (c u - w) / |a|:
    R{s} = (R{c} u + c R{u}) / |a| - s R{|a|} / |a|, R{|a|} = u · Ra, R{u} = (Ra - u R{|a|}) / |a|, R{c} = w · R{u}."""
    squares_of_a, squares_of_t, c, growth = 0.0, 0.0, 0.0, 0.0
    for j in range(n):
        squares_of_a += 1.0 * a[j] * a[j]
        squares_of_t += 1.0 * t[j] * t[j]
    there = squares_of_a > 0 and squares_of_t > 0
    per_a, per_t = (1 / math.sqrt(squares_of_a), 1 / math.sqrt(squares_of_t)) if there else (0.0, 0.0)
    for j in range(n):
        c += per_a * a[j] * (per_t * t[j])
        growth += per_a * a[j] * (per_a * Ra[j])  # R{|a|} / |a|
    change = 0.0
    for j in range(n):
        change += per_t * t[j] * (per_a * Ra[j] - per_a * a[j] * growth)
    for j in range(n):
        u = per_a * a[j]
        Rerror[j] = number(a, per_a * (change * u + c * (per_a * Ra[j] - u * growth)) - error[j] * growth)
    return 0.0


class Row(NamedTuple):
    """A row of the table of losses."""

    name: str
    code: int
    kernel: Any  # None: a user's function of many samples
    tangent: Any  # kernel of the derivative; None: there is none
    times_prime: bool = True  # whether the kernel writes dE/da, to be multiplied by f'(z); otherwise dE/dz


# Codes that other files name; the others appear only in their rows.
QUADRATIC, BINARY_CROSS_ENTROPY, CROSS_ENTROPY, MEAN_ABSOLUTE, HUBER, POISSON, CUSTOM = range(7)
COSTS = (
    Row("quadratic", QUADRATIC, quadratic, as_outputs),
    Row("binary_cross_entropy", BINARY_CROSS_ENTROPY, binary_cross_entropy, as_outputs, times_prime=False),
    Row("cross_entropy", CROSS_ENTROPY, cross_entropy, as_outputs, times_prime=False),
    Row("mean_absolute", MEAN_ABSOLUTE, mean_absolute, mean_absolute_tangent),
    Row("huber", HUBER, huber, huber_tangent),
    Row("poisson", POISSON, poisson, poisson_tangent, times_prime=False),
    Row("custom", CUSTOM, None, None, times_prime=False),
    Row("cosine", 7, cosine, cosine_tangent),
)
CODES = {row.name: row.code for row in COSTS}
TIMES_PRIME = tuple(row.code for row in COSTS if row.times_prime)
ANY, NOT_NEGATIVE, SHARES, DISTRIBUTION = range(4)  # conditions on rows of targets; SHARES: in [0, 1]
NO_LOSS = Cost(-1)  # for calls without targets; its cost is NaN, as for every code that is not in COSTS


def check_code(code: int) -> None:
    """Raise ValueError if no loss has this code."""
    if code not in CODES.values():
        raise ValueError(f"unknown loss code {code!r}; valid: {', '.join(map(str, sorted(CODES.values())))}")


def _by_loss(kernels):
    """Return the intrinsic that calls the kernel with a code on a tuple of arguments; NaN for an unknown code."""
    @intrinsic
    def run(typing, code, arguments):
        def emit(context, builder, signature, values):
            given = [builder.extract_value(values[1], i) for i in range(len(arguments))]
            cases = {code: functools.partial(compiler.emit_call, context, builder, kernel, tuple(arguments), given)
                     for code, kernel in kernels.items()}
            return by_cases(builder, values[0], cases, ir.Constant(ir.DoubleType(), math.nan))

        return types.float64(types.int64, arguments), emit

    return run


_cost_by = _by_loss({row.code: row.kernel for row in COSTS if row.kernel is not None})
_tangent_by = _by_loss({row.code: row.tangent for row in COSTS if row.tangent is not None})
TWICE = tuple(row.code for row in COSTS if row.tangent is not None)  # losses with a second derivative
# The output layer: pointers to z, a and delta of `n_rows` rows of `n` outputs, `ld` apart, with room as for `activate`.
Outputs = namedtuple("Outputs", ["z", "a", "delta", "n_rows", "n", "ld"])


@compiler.piece
def costs_and_errors(loss, activation, outputs, t, costs):
    """Costs of samples and, in `delta`, their output errors: both overwritten; the cost is NaN for an unknown code.

    loss: a Cost; outputs: see Outputs; t: pointer to rows without gaps; costs: to as many float64.
    """
    out_of_line()
    z, a, delta, n_rows, n, ld = outputs
    if loss.code == CUSTOM:
        compiler.call(loss.address, (z, a, t, delta, costs, n_rows, n, ld))
        return
    for i in range(n_rows):
        z_row, a_row, t_row, error = ahead(z, i * ld), ahead(a, i * ld), ahead(t, i * n), ahead(delta, i * ld)
        for j in range(n):
            error[j] = a_row[j] - t_row[j]
        costs[i] = _cost_by(loss.code, (z_row, a_row, t_row, error, n, loss))
    if loss.code in TIMES_PRIME:
        multiply_by_prime(activation, z, a, delta, n_rows, n, ld)


@compiler.inner
def costs_and_tangents(loss, activation, outputs, tangents, t, costs):
    """`costs_and_errors`, and also R{delta}: tangents are pointers to Rz, Ra and Rdelta, laid out alike."""
    z, a, delta, n_rows, n, ld = outputs
    Rz, Ra, Rdelta = tangents
    times_prime = loss.code in TIMES_PRIME
    costs_and_errors(loss, IDENTITY if times_prime else activation, outputs, t, costs)
    for i in range(n_rows):
        _tangent_by(loss.code, (ahead(a, i * ld), ahead(t, i * n), ahead(delta, i * ld), ahead(Rz, i * ld),
                                ahead(Ra, i * ld), ahead(Rdelta, i * ld), n, loss))
    if times_prime:
        differentiate_error(activation, (z, a, Rz, Ra, delta, Rdelta), n_rows, n, ld)
