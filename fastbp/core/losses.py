"""The cost of one sample and its output error delta[L] = dE/dz[L], for each loss; frozen settings of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numba
from numba import types

from fastbp.checks import fraction, one_of, positive, settle
from fastbp.core import activations, compiler
from fastbp.core.activations import multiply_by_prime
from fastbp.core.compiler import out_of_line
from fastbp.core.compiler.numba import Dispatcher, NumbaError
from fastbp.core.simd.memory import part

QUADRATIC, BINARY_CROSS_ENTROPY, CROSS_ENTROPY, MEAN_ABSOLUTE, HUBER, POISSON, CUSTOM = range(7)


class Rule(NamedTuple):
    """A loss as the kernels read it: its code, its own number, and of a custom one where its machine code is."""

    code: int
    number: float = 0.0
    address: int = 0


@dataclass(frozen=True)
class Loss:
    """What all losses have in common."""

    name: ClassVar[str]
    outputs = tuple[str, ...]()  # the activations that it is for; (): any
    code: ClassVar[int]

    def rule(self, dtype: str = "float32") -> Rule:
        """What the kernels read, for float32 or float64."""
        return Rule(self.code)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Quadratic(Loss):
    """½ Σ (a − t)²; "mse" and "mean_squared_error" name it too.

    Its minimum is that of the mean squared error, but its value is half of the sum over the outputs: n_out / 2 times
    the mean.
    """

    name = "quadratic"
    code = QUADRATIC


@dataclass(frozen=True)
class MeanAbsolute(Loss):
    """Σ |a − t|: its minimum is the median. "mae" and "mean_absolute_error" name it too, which is the mean over the
    outputs elsewhere."""

    name = "mean_absolute"
    code = MEAN_ABSOLUTE


@dataclass(frozen=True)
class Huber(Loss):
    """Quadratic near 0, absolute beyond: Σ ½ r² where |r| = |a − t| <= threshold, else threshold (|r| − ½ threshold).

    Parameters
    ----------
    threshold : float
        > 0, in units of the targets.

    References
    ----------
    Huber: Robust Estimation of a Location Parameter (Annals of Mathematical Statistics 1964).
    """

    threshold: float = 1.0
    name = "huber"
    code = HUBER

    def __post_init__(self) -> None:
        settle(self, "threshold", positive)

    def rule(self, dtype: str = "float32") -> Rule:
        return Rule(self.code, self.threshold)


@dataclass(frozen=True)
class BinaryCrossEntropy(Loss):
    """−Σ t log a + (1 − t) log(1 − a), in nats: each output a class of its own, of which any number may hold."""

    name = "binary_cross_entropy"
    outputs = ("sigmoid",)
    code = BINARY_CROSS_ENTROPY


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """−Σ t log a, in nats.

    Parameters
    ----------
    label_smoothing : float
        In [0, 1): targets become (1 − label_smoothing) t + label_smoothing / n_out.

    References
    ----------
    Szegedy, Vanhoucke, Ioffe, Shlens, Wojna: Rethinking the Inception Architecture for Computer Vision (CVPR 2016),
    section 7.

    Examples
    --------
    >>> CrossEntropy(label_smoothing=0.1).label_smoothing
    0.1
    """

    label_smoothing: float = 0.0
    name = "cross_entropy"
    outputs = ("softmax",)
    code = CROSS_ENTROPY

    def __post_init__(self) -> None:
        settle(self, "label_smoothing", fraction)

    def rule(self, dtype: str = "float32") -> Rule:
        return Rule(self.code, self.label_smoothing)


@dataclass(frozen=True)
class Poisson(Loss):
    """Σ a − t log a: the outputs are the rates of counts t >= 0, without what does not depend on them."""

    name = "poisson"
    outputs = ("softplus",)
    code = POISSON


@dataclass(frozen=True)
class Custom(Loss):
    """A loss of your own.

    Parameters
    ----------
    function : function (z, a, t, delta) -> cost
        Of one sample; all are vectors (n_out,) of the network's type. Writes the output error dE/dz into delta and
        returns the cost. Compiled by Numba, or already an @njit function; an exception in it shows as a cost of NaN.
    outputs : str or sequence of str
        Output activations that it is for, one or several; (): any.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import Network, Trainer, losses
    >>> def fourth_power(z, a, t, delta):
    ...     delta[:] = (a - t) ** 3  # of identity outputs
    ...     return ((a - t) ** 4).sum() / 4
    >>> net = Network([2, 8, 1], hidden="tanh", output="identity", seed=0)
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> loss = losses.Custom(fourth_power, outputs="identity")
    >>> history = Trainer(net, loss, "adam").fit(X, X[:, 0] * X[:, 1], 20)
    >>> history.loss[-1] < history.loss[0]
    True
    """

    function: Callable[..., float]
    outputs: Any = ()  # after the check a tuple of names
    name = "custom"
    code = CUSTOM
    _compiled: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(f"function must be a function (z, a, t, delta) -> cost, got {self.function!r}")
        settle(self, "outputs", _output_names)

    def rule(self, dtype: str = "float32") -> Rule:
        if dtype not in self._compiled:
            self._compiled[dtype] = _of_rows(self.function, dtype)
        return Rule(self.code, 0.0, compiler.machine_code(*self._compiled[dtype]))

    def __getstate__(self) -> dict[str, Any]:
        return {"function": self.function, "outputs": self.outputs, "_compiled": {}}


def _output_names(what: str, outputs: Any) -> tuple[str, ...]:
    if not isinstance(outputs, Iterable):
        raise TypeError(f"{what} must be the name of an output activation or a sequence of them, got {outputs!r}")
    names = [outputs] if isinstance(outputs, str) else outputs
    return tuple(one_of("output activation", name, activations.CODES, activations.ALIASES) for name in names)


LOSSES: dict[str, type[Any]] = {kind.name: kind for kind in (Quadratic, BinaryCrossEntropy, CrossEntropy, MeanAbsolute,
                                                              Huber, Poisson)}
# Names in other libraries; see checks.one_of. What "log_loss" means depends on the output: see network.check_loss.
ALIASES = {
    "mse": "quadratic", "meansquarederror": "quadratic", "squarederror": "quadratic", "mseloss": "quadratic",
    "mae": "mean_absolute", "meanabsoluteerror": "mean_absolute", "absoluteerror": "mean_absolute",
    "l1loss": "mean_absolute", "huberloss": "huber", "smoothl1": "huber", "smoothl1loss": "huber",
    "bce": "binary_cross_entropy", "binarycrossentropyloss": "binary_cross_entropy", "bceloss": "binary_cross_entropy",
    "logloss": "cross_entropy", "categoricalcrossentropy": "cross_entropy",
    "sparsecategoricalcrossentropy": "cross_entropy", "crossentropyloss": "cross_entropy",
    "poissonnll": "poisson",
}


def _of_rows(function: Callable[..., float], dtype: str) -> tuple[Any, tuple[Any, ...]]:
    """A user's function, for many samples; and the types it is to be compiled for."""
    of_one = function if isinstance(function, Dispatcher) else numba.njit(**compiler.FLAGS)(function)

    @numba.njit(**compiler.FLAGS, **compiler.NO_ENTRY)
    def of_rows(z, a, t, delta, costs, n_rows, n, ld):
        costs[:n_rows] = math.nan
        for i in range(n_rows):
            costs[i] = of_one(part(z, i * ld, n), part(a, i * ld, n), part(t, i * n, n), part(delta, i * ld, n))

    numbers, whole = getattr(types, dtype)[::1], types.int64
    signature = (numbers, numbers, numbers, numbers, types.float64[::1], whole, whole, whole)
    try:
        with compiler.uninterrupted():
            of_rows.compile(signature)
    except NumbaError as error:
        raise TypeError(f"Numba cannot compile the loss {function.__name__}(z, a, t, delta): {error}") from None
    return of_rows, signature


@compiler.piece
def costs_and_errors(loss, activation, z, a, t, delta, costs, n_rows, n, ld):
    """Costs of samples and, in `delta`, their output errors: both overwritten. loss: a Rule.

    quadratic              1/2 sum (a - t)^2              delta = (a - t) ∘ f'(z)
    mean absolute          sum |a - t|                    delta = sign(a - t) ∘ f'(z)
    Huber                  see there                      delta = (a - t, at most the threshold) ∘ f'(z)
    binary cross-entropy   sum log(1 + e^z) - t z         delta = a - t           (a = sigmoid(z))
    cross-entropy          log(sum e^z) - sum t z         delta = a - t           (a = softmax(z), t sums to 1)
    Poisson                sum a - t log a                delta = (1 - t / a) ∘ f'(z)    (a = softplus(z))

    The two cross-entropies are computed from z, so they hold for large |z|. z, a, delta: `n_rows` rows of `n` outputs,
    `ld` apart, with the room that `activate` wants; t: rows without gaps; costs (n_rows,) float64.
    """
    out_of_line()
    if loss.code == CUSTOM:
        compiler.call(loss.address, (z, a, t, delta, costs, n_rows, n, ld))
        return
    number = a.dtype.type(loss.number)
    for i in range(n_rows):
        z_row, a_row, t_row, error = part(z, i * ld, n), part(a, i * ld, n), part(t, i * n, n), part(delta, i * ld, n)
        for j in range(n):
            error[j] = a_row[j] - t_row[j]
        if loss.code == QUADRATIC:
            costs[i] = _quadratic(error)
        elif loss.code == BINARY_CROSS_ENTROPY:
            costs[i] = _binary_cross_entropy(z_row, t_row)
        elif loss.code == CROSS_ENTROPY:
            costs[i] = _cross_entropy(z_row, a_row, t_row, error, number)
        elif loss.code == MEAN_ABSOLUTE:
            costs[i] = _mean_absolute(error)
        elif loss.code == HUBER:
            costs[i] = _huber(error, number)
        else:
            costs[i] = _poisson(a_row, t_row, error)
    if loss.code == QUADRATIC or loss.code == MEAN_ABSOLUTE or loss.code == HUBER:
        multiply_by_prime(activation, z, a, delta, n_rows, n, ld)


@compiler.inlined
def _quadratic(error):
    cost = 0.0
    for j in range(error.size):
        cost += 0.5 * error[j] * error[j]
    return cost


@compiler.inlined
def _mean_absolute(error):
    cost, zero, one = 0.0, error.dtype.type(0), error.dtype.type(1)
    for j in range(error.size):
        cost += abs(error[j])
        error[j] = (one if error[j] > 0 else zero) - (one if error[j] < 0 else zero)
    return cost


@compiler.inlined
def _huber(error, threshold):
    cost = 0.0
    for j in range(error.size):
        inside = min(max(error[j], -threshold), threshold)
        cost += inside * (error[j] - 0.5 * inside)
        error[j] = inside
    return cost


@compiler.inlined
def _binary_cross_entropy(z, t):
    cost = 0.0
    for j in range(z.size):
        cost += max(z[j], 0.0) - z[j] * t[j] + math.log1p(math.exp(-abs(z[j])))
    return cost


@compiler.inlined
def _cross_entropy(z, a, t, error, smoothing):
    # e^(z - highest) was divided by its sum to give a, so log(sum e^z) = z_h - log a_h at the highest z_h. The
    # difference of two z comes first: at z = 10,000 a float32 sum keeps no more than three decimals of log a_h.
    h = 0
    for j in range(1, a.size):
        h = j if z[j] > z[h] else h
    log_highest, cost = math.log(a[h]), 0.0
    if smoothing == 0:
        for j in range(a.size):
            cost += t[j] * ((z[h] - z[j]) - log_highest)
    else:
        rest = a.dtype.type(1) - smoothing
        for j in range(a.size):
            target = rest * t[j] + smoothing / a.size
            cost += target * ((z[h] - z[j]) - log_highest)
            error[j] = a[j] - target
    return cost


@compiler.inlined
def _poisson(a, t, error):
    # f' = 1 - e^-a of softplus. Beside a rate that is next to 0 it is that rate, and their quotient 1: t / a first
    # could overflow.
    cost = 0.0
    for j in range(a.size):
        prime = -math.expm1(-a[j])
        cost += a[j] - t[j] * math.log(a[j])
        error[j] = prime - t[j] * (prime / a[j])
    return cost
