"""Rules of optimisers: for each one a row of RULES and a loop over a range of theta; settings as one flat vector.

A new rule is a code, a row of RULES, slots for the numbers that no other rule has, its loop in `update_rarely`, its
lines in core/reference.py, and its settings in fastbp/optimizers.py, which names the slots.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import prange

from fastbp.core import compiler
from fastbp.core.compiler import out_of_line
from fastbp.core.simd.memory import part
from fastbp.core.simd.vectors import fma
from fastbp.core.threads.board import even_share

SGD_RULE, MOMENTUM_RULE, NESTEROV_RULE, ADAM_RULE, NADAM_RULE, RMS_RULE, LION_RULE, RPROP_RULE = range(8)


class Row(NamedTuple):
    """A rule in the table of them."""

    code: int
    n_moments: int  # vectors of state, each as long as theta
    rare: bool  # whether it is in `update_rarely`, which is compiled when it is first needed


RULES = (Row(SGD_RULE, 0, False), Row(MOMENTUM_RULE, 1, False), Row(NESTEROV_RULE, 1, False), Row(ADAM_RULE, 2, False),
         Row(NADAM_RULE, 2, True), Row(RMS_RULE, 1, True), Row(LION_RULE, 1, True), Row(RPROP_RULE, 2, True))
N_MOMENTS = tuple(row.n_moments for row in RULES)
_BY_CODE: dict[float, Row] = {row.code: row for row in RULES}
# Slots of the vector of settings, 0 where a rule has no such number: first the rule's code and its own numbers, then
# what every rule may have.
N_SETTINGS = 19
(RULE,
 MOMENTUM,  # of SGD
 BETA1, BETA2, EPSILON,  # as Adam's paper names them
 MOMENTUM_DECAY,  # of NAdam
 OLD_SQUARES, NEW_SQUARES,  # v <- OLD_SQUARES v + NEW_SQUARES g^2: a mean of squares for RMSprop, a sum for Adagrad
 DECREASE, INCREASE, LEAST, MOST,  # factors of Rprop's steps, and their bounds in units of eta
 WEIGHT_DECAY, DECAY_BIASES, L1,
 CLIP_VALUE, CLIP_NORM,  # bounds of each number of the gradient, and of the gradient's norm
 EMA_DECAY,  # of the parameters' mean
 MAX_NORM,  # bound of the norm of each neuron's weights
 ) = range(N_SETTINGS)
NEAR = 1 << 12  # parameters that stay in the nearest cache, with what belongs to them, for all loops over them


def row_of(code: float) -> Row:
    """The row of the rule with this code; ValueError if there is none."""
    if code not in _BY_CODE:
        raise ValueError(f"unknown rule {code}; valid: {', '.join(map(str, _BY_CODE))}")
    return _BY_CODE[code]


@compiler.inner
def factors_of(settings, eta, step):
    """What the rule's numbers depend on at a step, counted from 1: eta, and where means are corrected for beginning at
    0 the rate of the first, the factor of the second's root, and the rate of the gradient itself. Last, 1: what the
    gradient is multiplied by."""
    rule, beta1 = settings[RULE], settings[BETA1]
    if rule != ADAM_RULE and rule != NADAM_RULE:
        return eta, eta, 1.0, 0.0, 1.0
    unbias = 1 / math.sqrt(1 - settings[BETA2] ** step)
    if rule == ADAM_RULE:
        return eta, eta / (1 - beta1**step), unbias, 0.0, 1.0
    log_q = settings[MOMENTUM_DECAY] * math.log(0.96)
    now, then = beta1 * (1 - 0.5 * math.exp(step * log_q)), beta1 * (1 - 0.5 * math.exp((step + 1) * log_q))
    product = _product_of_momenta(beta1, log_q, step)
    return eta, eta * then / (1 - product * then), unbias, eta * (1 - now) / (1 - product), 1.0


@compiler.inner
def _product_of_momenta(beta1, log_q, n):
    """The product of beta1 (1 - q**i / 2) over i = 1 to n: its logarithm by the series of log(1 - x) for each, summed
    over i first; 0 once it is lost beside 1."""
    total = n * math.log(beta1)
    if total < -40:
        return 0.0
    for k in range(1, 53):
        powers = n if log_q == 0 else math.exp(k * log_q) * math.expm1(k * n * log_q) / math.expm1(k * log_q)
        total -= 0.5**k / k * powers
    return math.exp(total)


@compiler.piece
def update_block(theta, gradient, state, settings, factors, lo, n, first, n_decaying):
    """theta ← theta − eta · (the rule's direction) for `n` parameters from theta[lo] on, whose gradient begins at
    gradient[first] and is clipped in place; `state` (n_moments, theta.size) moves along. Where the parameters' mean is
    kept it is one more row, which moves here unless max-norm comes after. factors: `factors_of` the step. Weight decay
    and L1 are for the first `n_decaying`."""
    out_of_line()
    t, g = part(theta, lo, n), part(gradient, first, n)  # offsets in the loops would stop the vectoriser
    number, rule, decaying = theta.dtype.type, settings[RULE], part(theta, lo, n_decaying)
    eta, rate = number(factors[0]), number(factors[1])
    if settings[CLIP_VALUE] > 0:
        bound = number(settings[CLIP_VALUE])
        for i in range(g.size):
            g[i] = min(max(g[i], -bound), bound)
    if factors[4] != 1:
        clipping = number(factors[4])
        for i in range(g.size):
            g[i] *= clipping
    if settings[WEIGHT_DECAY] != 0:
        kept = number(1 - factors[0] * settings[WEIGHT_DECAY])
        for i in range(decaying.size):
            decaying[i] *= kept
    if rule == SGD_RULE:
        for i in range(t.size):
            t[i] -= eta * g[i]
    elif rule == ADAM_RULE:
        _adam(t, g, part(state[0], lo, n), part(state[1], lo, n), settings, rate, number(factors[2]))
    elif rule != MOMENTUM_RULE and rule != NESTEROV_RULE:
        update_rarely(t, g, state, settings, factors, lo)
    else:
        v, momentum = part(state[0], lo, n), number(settings[MOMENTUM])
        if rule == MOMENTUM_RULE:
            for i in range(t.size):
                v[i] = momentum * v[i] + g[i]
                t[i] -= eta * v[i]
        else:
            for i in range(t.size):
                v[i] = momentum * v[i] + g[i]
                t[i] -= eta * (g[i] + momentum * v[i])
    if settings[L1] != 0:
        toll = number(factors[0] * settings[L1])
        for i in range(decaying.size):
            decaying[i] -= min(max(decaying[i], -toll), toll)
    if settings[EMA_DECAY] > 0 and settings[MAX_NORM] == 0:
        move_mean(part(state[len(state) - 1], lo, n), t, settings)


@compiler.rare
def update_rarely(t, g, state, settings, factors, lo):
    """`update_block`, by rules that few use: t and g are its parameters and their gradient. A code of no rule makes
    the parameters NaN, which is seen in the next cost."""
    number, rule, n = t.dtype.type, settings[RULE], t.size
    if rule == NADAM_RULE:
        _nadam(t, g, part(state[0], lo, n), part(state[1], lo, n), settings, number(factors[1]), number(factors[2]),
               number(factors[3]))
    elif rule == RMS_RULE:
        _rmsprop(t, g, part(state[0], lo, n), settings, number(factors[0]))
    elif rule == LION_RULE:
        _lion(t, g, part(state[0], lo, n), settings, number(factors[0]))
    elif rule == RPROP_RULE:
        _rprop(t, g, part(state[0], lo, n), part(state[1], lo, n), settings, number(factors[0]))
    else:
        t[:] = math.nan


@compiler.inlined
def move_mean(mean, t, settings):
    """mean ← decay mean + (1 − decay) t, as a step towards t, which leaves equal numbers what they are."""
    rest = mean.dtype.type(1 - settings[EMA_DECAY])
    for i in range(mean.size):
        mean[i] += rest * (t[i] - mean[i])


@compiler.inlined
def _adam(t, g, m, v, settings, rate, unbias):
    number = t.dtype.type
    beta1, beta2, epsilon = number(settings[BETA1]), number(settings[BETA2]), number(settings[EPSILON])
    rest1, rest2 = number(1 - settings[BETA1]), number(1 - settings[BETA2])
    for i in range(t.size):
        mean, square = fma(beta1, m[i], rest1 * g[i]), fma(beta2, v[i], rest2 * g[i] * g[i])
        m[i], v[i] = mean, square
        t[i] -= rate * mean / fma(np.sqrt(square), unbias, epsilon)


@compiler.inlined
def _nadam(t, g, m, v, settings, rate, unbias, rate_of_gradient):
    number = t.dtype.type
    beta1, beta2, epsilon = number(settings[BETA1]), number(settings[BETA2]), number(settings[EPSILON])
    rest1, rest2 = number(1 - settings[BETA1]), number(1 - settings[BETA2])
    for i in range(t.size):
        mean, square = fma(beta1, m[i], rest1 * g[i]), fma(beta2, v[i], rest2 * g[i] * g[i])
        m[i], v[i] = mean, square
        t[i] -= fma(rate, mean, rate_of_gradient * g[i]) / fma(np.sqrt(square), unbias, epsilon)


@compiler.inlined
def _rmsprop(t, g, v, settings, eta):
    number = t.dtype.type
    old, new, epsilon = number(settings[OLD_SQUARES]), number(settings[NEW_SQUARES]), number(settings[EPSILON])
    for i in range(t.size):
        v[i] = old * v[i] + new * g[i] * g[i]
        t[i] -= eta * g[i] / (np.sqrt(v[i]) + epsilon)


@compiler.inlined
def _lion(t, g, m, settings, eta):
    number = t.dtype.type
    beta1, beta2 = number(settings[BETA1]), number(settings[BETA2])
    rest1, rest2 = number(1 - settings[BETA1]), number(1 - settings[BETA2])
    for i in range(t.size):
        direction = beta1 * m[i] + rest1 * g[i]
        t[i] -= (eta if direction > 0 else number(0)) - (eta if direction < 0 else number(0))
        m[i] = beta2 * m[i] + rest2 * g[i]


@compiler.inlined
def _rprop(t, g, before, steps, settings, eta):
    """steps: in units of eta; 0 for the first, which is 1."""
    number = t.dtype.type
    decrease, increase = number(settings[DECREASE]), number(settings[INCREASE])
    least, most, one, zero = number(settings[LEAST]), number(settings[MOST]), number(1), number(0)
    for i in range(t.size):
        same = g[i] * before[i]
        step = (steps[i] if steps[i] > 0 else one) * (increase if same > 0 else decrease if same < 0 else one)
        step = min(max(step, least), most)
        slope = zero if same < 0 else g[i]
        t[i] -= (eta * step if slope > 0 else zero) - (eta * step if slope < 0 else zero)
        before[i], steps[i] = slope, step


@compiler.inner
def check_update(theta, gradient, state, settings, threads):
    """Raise ValueError unless there is such a rule, and the gradient and its moments are as long as theta."""
    if threads < 1:
        raise ValueError("threads must be at least 1")
    rule = settings[RULE]
    if not 0 <= rule < len(N_MOMENTS) or rule != int(rule):
        raise ValueError("settings must hold the code of a rule")
    n_moments = N_MOMENTS[int(rule)] + (settings[EMA_DECAY] > 0)
    if gradient.size < theta.size or state.shape[0] < n_moments or (n_moments > 0 and state.shape[1] != theta.size):
        raise ValueError("gradient and each row of state must have as many numbers as theta, and state the rows that "
                         "the rule needs")


def _update(theta, gradient, state, settings, eta, step, threads):
    """`update_block` for all of theta; weight decay and L1 are for all of it too. Raises ValueError, before anything is
    written, if threads is below 1, the rule unknown or an array too short."""
    check_update(theta, gradient, state, settings, threads)
    factors = factors_of(settings, eta, step)
    for c in prange(threads):
        lo, hi = even_share(theta.size, c, threads, 16)
        for first in range(lo, hi, NEAR):
            n = min(NEAR, hi - first)
            update_block(theta, gradient, state, settings, factors, first, n, first, n)


update, update_serial = compiler.twins(_update)
