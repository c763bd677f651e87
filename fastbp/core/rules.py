"""Rules of optimisers: each has a row in RULES and a loop over a range of theta; settings are one flat vector.

To add a rule:
1. here, a code, a row of RULES, slots for the numbers that no other rule has, and its loop in `update_rarely`;
2. in core/reference.py, the same in plain NumPy: its lines of `update`;
3. in fastbp/optimizers.py, its settings, which name the slots, and their name in OPTIMIZERS; the class in
   fastbp/__init__.py;
4. in tests/core/test_optimizers.py, settings to compare with the oracle: rows of OPTIMIZERS and, if PyTorch has the
   rule, of AS_PYTORCH, with the stored numbers anew, as that file says, or else the class among those that PyTorch
   lacks; the number of its moments in `test_moments`;
5. its name in the docstring of Trainer and in docs/guide/recipe.md, for readers.
Names, messages and the command's options come from the tables; tests fail if 2, 3 or 4 is missing, but for the class in
fastbp/__init__.py.
"""

from __future__ import annotations

import math
from collections import namedtuple
from typing import NamedTuple

import numpy as np
from numba import prange, types

from fastbp.core import compiler
from fastbp.core.compiler import out_of_line
from fastbp.core.compiler.view import View, seen_as
from fastbp.core.simd.memory import ahead, at, number
from fastbp.core.simd.vectors import fma
from fastbp.core.threads.board import even_share

SGD_RULE, MOMENTUM_RULE, NESTEROV_RULE, ADAM_RULE, NADAM_RULE, RMS_RULE, LION_RULE, RPROP_RULE = range(8)


class Row(NamedTuple):
    """A row of the table of rules."""

    code: int
    n_moments: int  # vectors of state, each as long as theta
    rare: bool  # whether it is in `update_rarely`, which is compiled at first use


RULES = (Row(SGD_RULE, 0, False), Row(MOMENTUM_RULE, 1, False), Row(NESTEROV_RULE, 1, False), Row(ADAM_RULE, 2, False),
         Row(NADAM_RULE, 2, True), Row(RMS_RULE, 1, True), Row(LION_RULE, 1, True), Row(RPROP_RULE, 2, True))
N_MOMENTS = tuple(row.n_moments for row in RULES)
_BY_CODE: dict[float, Row] = {row.code: row for row in RULES}
# Slots of the vector of settings, 0 if a rule has no such setting: first the rule's code and its own settings, then
# those of every rule.
N_SETTINGS = 21
(RULE,
 MOMENTUM,  # of SGD
 BETA1, BETA2, EPSILON,  # as Adam's paper names them
 EPSILON_HAT,  # whether epsilon is beside the root as it is before its mean is corrected, as in the paper's section 2
 MOMENTUM_DECAY,  # of NAdam
 OLD_SQUARES, NEW_SQUARES,  # v <- OLD_SQUARES v + NEW_SQUARES g^2: a mean of squares for RMSprop, a sum for Adagrad
 DECREASE, INCREASE, LEAST, MOST,  # factors of Rprop's steps, and their bounds in units of eta
 WEIGHT_DECAY, DECAY_BIASES, L1,
 L2,  # of a penalty L2 / 2 |W|^2 / (weight of the mini-batch), whose gradient is part of the rule's
 CLIP_VALUE, CLIP_NORM,  # bounds of each number of the gradient, and of the gradient's norm
 EMA_DECAY,  # of the parameters' mean
 MAX_NORM,  # bound of the norm of each neuron's weights
 ) = range(N_SETTINGS)
SLOTS = ("code", "momentum", "beta1", "beta2", "epsilon", "epsilon_hat", "momentum_decay", "old_squares", "new_squares",
         "decrease", "increase", "least", "most", "weight_decay", "decay_biases", "l1", "l2", "clip_value", "clip_norm",
         "ema_decay", "max_norm")
RULE_VIEW = View("Rule", dict.fromkeys(SLOTS, types.float64))  # the vector as compiled code reads it
as_rule = seen_as(RULE_VIEW)
NEAR = 1 << 12  # parameters that stay in the nearest cache, with their gradient and state, for all loops over them


def row_of(code: float) -> Row:
    """The row of the rule with this code; ValueError if there is none."""
    if code not in _BY_CODE:
        raise ValueError(f"unknown rule {code}; valid: {', '.join(map(str, _BY_CODE))}")
    return _BY_CODE[code]


# The values that depend on the step: eta; with bias-corrected means, the rate of the first mean, the factor of the root
# of the second, what is added to that, and the rate of the gradient itself; the factor of the weights in the gradient,
# and the factor of the rest of it.
Rates = namedtuple("Rates", ["eta", "rate", "unbias", "epsilon", "rate_of_gradient", "l2", "clipping"])
NO_RATES = Rates(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)  # if nothing is updated
# The arrays and the rule of an update, for callers without a slip. state: n_state rows, laid out like theta.
Change = namedtuple("Change", ["theta", "state", "n_state", "n_parameters", "rule"])


@compiler.inner
def rates_of(rule, eta, step, weight):
    """Return the Rates of a step, counted from 1, for a mean gradient over this weight that is not clipped."""
    l2 = rule.l2 / weight
    if rule.code != ADAM_RULE and rule.code != NADAM_RULE:
        return Rates(eta, eta, 1.0, rule.epsilon, 0.0, l2, 1.0)
    beta1, unbias = rule.beta1, 1 / math.sqrt(1 - rule.beta2**step)
    epsilon = rule.epsilon * unbias if rule.epsilon_hat != 0 else rule.epsilon
    if rule.code == ADAM_RULE:
        return Rates(eta, eta / (1 - beta1**step), unbias, epsilon, 0.0, l2, 1.0)
    log_q = rule.momentum_decay * math.log(0.96)
    now, then = beta1 * (1 - 0.5 * math.exp(step * log_q)), beta1 * (1 - 0.5 * math.exp((step + 1) * log_q))
    product = _product_of_momenta(beta1, log_q, step)
    return Rates(eta, eta * then / (1 - product * then), unbias, epsilon, eta * (1 - now) / (1 - product), l2, 1.0)


@compiler.inner
def _product_of_momenta(beta1, log_q, n):
    """Return the product of beta1 (1 - q**i / 2) over i = 1 to n: its logarithm from the series of log(1 - x), summed
    over i first; 0 if it is negligible against 1."""
    total = n * math.log(beta1)
    if total < -40:
        return 0.0
    for k in range(1, 53):
        powers = n if log_q == 0 else math.exp(k * log_q) * math.expm1(k * n * log_q) / math.expm1(k * log_q)
        total -= 0.5**k / k * powers
    return math.exp(total)


@compiler.piece
def update_block(change, lo, g, n, n_weights, rates):
    """theta ← theta − eta · (the rule's direction) for `n` parameters from theta[lo] on; their gradient g is clipped in
    place. Their state is updated, with the parameters' mean in its last row if it is kept, unless max-norm follows.

    change: the slip of a call, or a Change. The first `n_weights` are weights, to which L2 applies; weight decay and L1
    apply to biases, too, if decay_biases is set.
    """
    out_of_line()
    rule, t, like = change.rule, ahead(change.theta, lo), change.theta
    n_decaying = n if rule.decay_biases != 0 else n_weights
    if rule.clip_value > 0:
        bound = number(like, rule.clip_value)
        for i in range(n):
            g[i] = min(max(g[i], -bound), bound)
    if rates.clipping != 1:
        clipping = number(like, rates.clipping)
        for i in range(n):
            g[i] *= clipping
    if rates.l2 != 0:
        pull = number(like, rates.l2)
        for i in range(n_weights):
            g[i] += pull * t[i]
    if rule.weight_decay != 0:
        kept = number(like, 1 - rates.eta * rule.weight_decay)
        for i in range(n_decaying):
            t[i] *= kept
    if rule.code == SGD_RULE:
        descend(t, g, n, number(like, rates.eta))
    elif rule.code == MOMENTUM_RULE or rule.code == NESTEROV_RULE:
        _momentum(t, g, moment_of(change, 0, lo), n, rule, number(like, rates.eta))
    elif rule.code == ADAM_RULE:
        _adam(t, g, moment_of(change, 0, lo), moment_of(change, 1, lo), n, rule, rates)
    else:
        update_rarely(change, lo, g, n, rates)
    if rule.l1 != 0:
        toll = number(like, rates.eta * rule.l1)
        for i in range(n_decaying):
            t[i] -= min(max(t[i], -toll), toll)
    if rule.ema_decay > 0 and rule.max_norm == 0:
        move_mean(change, lo, n)


@compiler.inlined
def descend(t, g, n, eta):
    for i in range(n):
        t[i] -= eta * g[i]


@compiler.inlined
def moment_of(change, i, lo):
    """Return row i of the state, from parameter lo on."""
    return ahead(change.state, i * change.n_parameters + lo)


@compiler.rare
def update_rarely(change, lo, g, n, rates):
    """`update_block` by rarely used rules. An unknown code makes the parameters NaN, which is noticed in the next
    cost."""
    rule, t, m, v = change.rule, ahead(change.theta, lo), moment_of(change, 0, lo), moment_of(change, 1, lo)
    eta = number(g, rates.eta)
    if rule.code == NADAM_RULE:
        _nadam(t, g, m, v, n, rule, rates)
    elif rule.code == RMS_RULE:
        _rmsprop(t, g, m, n, rule, eta)
    elif rule.code == LION_RULE:
        _lion(t, g, m, n, rule, eta)
    elif rule.code == RPROP_RULE:
        _rprop(t, g, m, v, n, rule, eta)
    else:
        for i in range(n):
            t[i] = math.nan


@compiler.inlined
def move_mean(change, lo, n):
    """mean ← decay mean + (1 − decay) theta, computed as a step towards theta, so that equal numbers stay equal."""
    mean, t = moment_of(change, change.n_state - 1, lo), ahead(change.theta, lo)
    rest = number(mean, 1 - change.rule.ema_decay)
    for i in range(n):
        mean[i] += rest * (t[i] - mean[i])


@compiler.inlined
def _momentum(t, g, v, n, rule, eta):
    momentum = number(t, rule.momentum)
    if rule.code == MOMENTUM_RULE:
        for i in range(n):
            v[i] = momentum * v[i] + g[i]
            t[i] -= eta * v[i]
    else:
        for i in range(n):
            v[i] = momentum * v[i] + g[i]
            t[i] -= eta * (g[i] + momentum * v[i])


@compiler.inlined
def _adam(t, g, m, v, n, rule, rates):
    beta1, beta2, epsilon = number(t, rule.beta1), number(t, rule.beta2), number(t, rates.epsilon)
    rest1, rest2 = number(t, 1 - rule.beta1), number(t, 1 - rule.beta2)
    rate, unbias = number(t, rates.rate), number(t, rates.unbias)
    for i in range(n):
        mean, square = fma(beta1, m[i], rest1 * g[i]), fma(beta2, v[i], rest2 * g[i] * g[i])
        m[i], v[i] = mean, square
        t[i] -= rate * mean / fma(np.sqrt(square), unbias, epsilon)


@compiler.inlined
def _nadam(t, g, m, v, n, rule, rates):
    beta1, beta2, epsilon = number(t, rule.beta1), number(t, rule.beta2), number(t, rates.epsilon)
    rest1, rest2 = number(t, 1 - rule.beta1), number(t, 1 - rule.beta2)
    rate, unbias, rate_of_gradient = number(t, rates.rate), number(t, rates.unbias), number(t, rates.rate_of_gradient)
    for i in range(n):
        mean, square = fma(beta1, m[i], rest1 * g[i]), fma(beta2, v[i], rest2 * g[i] * g[i])
        m[i], v[i] = mean, square
        t[i] -= fma(rate, mean, rate_of_gradient * g[i]) / fma(np.sqrt(square), unbias, epsilon)


@compiler.inlined
def _rmsprop(t, g, v, n, rule, eta):
    old, new, epsilon = number(t, rule.old_squares), number(t, rule.new_squares), number(t, rule.epsilon)
    for i in range(n):
        v[i] = old * v[i] + new * g[i] * g[i]
        t[i] -= eta * g[i] / (np.sqrt(v[i]) + epsilon)


@compiler.inlined
def _lion(t, g, m, n, rule, eta):
    beta1, beta2, zero = number(t, rule.beta1), number(t, rule.beta2), number(t, 0)
    rest1, rest2 = number(t, 1 - rule.beta1), number(t, 1 - rule.beta2)
    for i in range(n):
        direction = beta1 * m[i] + rest1 * g[i]
        t[i] -= (eta if direction > 0 else zero) - (eta if direction < 0 else zero)
        m[i] = beta2 * m[i] + rest2 * g[i]


@compiler.inlined
def _rprop(t, g, before, steps, n, rule, eta):
    """steps: in units of eta; 0 for the first, which is 1."""
    decrease, increase, one, zero = number(t, rule.decrease), number(t, rule.increase), number(t, 1), number(t, 0)
    least, most = number(t, rule.least), number(t, rule.most)
    for i in range(n):
        same = g[i] * before[i]
        step = (steps[i] if steps[i] > 0 else one) * (increase if same > 0 else decrease if same < 0 else one)
        step = min(max(step, least), most)
        slope = zero if same < 0 else g[i]
        t[i] -= (eta * step if slope > 0 else zero) - (eta * step if slope < 0 else zero)
        before[i], steps[i] = slope, step


@compiler.inner
def check_update(theta, gradient, state, settings, threads):
    """Raise ValueError unless the rule exists, and the gradient and its moments are as long as theta."""
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
    """`update_block` for all of theta; weight decay and L1 apply to all of it, too. Raises ValueError, before writing
    anything, if threads is below 1, the rule is unknown or an array is too short."""
    check_update(theta, gradient, state, settings, threads)
    for c in prange(threads):
        lo, hi = even_share(theta.size, c, threads, 16)
        for first in range(lo, hi, NEAR):
            n, rule = min(NEAR, hi - first), as_rule(at(settings, 0))
            change = Change(at(theta, 0), at(state, 0), len(state), theta.size, rule)
            update_block(change, first, at(gradient, first), n, n, rates_of(rule, eta, step, 1.0))


update, update_serial = compiler.twins(_update)
