"""Losses: the frozen settings of each; the computation is in core/costs.py."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numba
import numpy as np
from numba import carray, types
from numba.extending import is_jitted

from fastbp.checks import fraction, one_of, positive, settle
from fastbp.core import activations, compiler, costs
from fastbp.core.costs import Cost
from fastbp.core.simd.memory import ahead
from fastbp.workspace import Array

__all__ = ["BinaryCrossEntropy", "Cosine", "CrossEntropy", "Custom", "Huber", "Loss", "MeanAbsolute", "Poisson",
           "Quadratic"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True)
class Loss:
    """Base class of the losses. For a loss of your own, use `Custom`.

    Attributes
    ----------
    name : str
        Name for Trainer and for the command.
    outputs : tuple of str
        Output activations that it supports; (): any.

    Examples
    --------
    >>> CrossEntropy.name, CrossEntropy.outputs
    ('cross_entropy', ('softmax',))
    """

    name: ClassVar[str]
    aliases = tuple[str, ...]()  # its names in other libraries, as checks.one_of compares them
    outputs = tuple[str, ...]()  # output activations that it supports; (): any
    least_outputs = 1
    must_be = costs.ANY  # condition on rows of targets; see check_targets
    heeds_lengths = True  # whether the cost changes if all targets, or all outputs, are doubled
    code: ClassVar[int]  # from the table of core/costs.py by name, unless set

    def __init_subclass__(cls) -> None:
        if "code" not in vars(cls) and "name" in vars(cls):
            cls.code = costs.CODES[cls.name]

    def _own(self) -> dict[str, Any]:
        """Return the settings that only this loss has, by their names in a Cost."""
        return {}

    def rule(self, dtype: str = "float32") -> Cost:
        """Return what the kernels read, for float32 or float64."""
        costs.check_code(self.code)
        return Cost(self.code, **self._own())

    def check_targets(self, rows: Array, name: str) -> None:
        """Raise ValueError if rows of targets (n, n_out), called `name`, are not valid for this loss."""

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Quadratic(Loss):
    """½ Σ (a − t)²; "mse" and "mean_squared_error" are other names.

    It has the same minimum as the mean squared error, but its value is half of the sum over the outputs: n_out / 2
    times the mean.

    References
    ----------
    Bishop: Neural Networks for Pattern Recognition (Oxford 1995), chapter 6, "Error functions".

    Examples
    --------
    >>> from fastbp import Network, cost_and_gradient
    >>> net = Network([1, 2], output="identity", weights="zeros")
    >>> cost_and_gradient(net, [[1.0]], [[1.0, 3.0]], Quadratic())[0]
    5.0
    """

    name = "quadratic"
    aliases = ("mse", "meansquarederror", "squarederror", "mseloss")


@dataclass(frozen=True)
class MeanAbsolute(Loss):
    """Σ abs(a − t), whose minimum is the median; "mae" and "mean_absolute_error" are other names.

    It is the sum over the outputs; other libraries take the mean.

    References
    ----------
    Bishop: Neural Networks for Pattern Recognition (Oxford 1995), chapter 6, "Error functions".

    Examples
    --------
    >>> from fastbp import Network, cost_and_gradient
    >>> net = Network([1, 2], output="identity", weights="zeros")
    >>> cost_and_gradient(net, [[1.0]], [[1.0, 3.0]], MeanAbsolute())[0]
    4.0
    """

    name = "mean_absolute"
    aliases = ("mae", "meanabsoluteerror", "absoluteerror", "l1loss")


@dataclass(frozen=True)
class Huber(Loss):
    """Quadratic for small errors, absolute for large ones.

    The sum over the outputs, with r = a − t, of

        ½ r²                                   if abs(r) <= threshold
        threshold (abs(r) − ½ threshold)       else

    Parameters
    ----------
    threshold : float
        > 0, in units of the targets.

    Raises
    ------
    ValueError, TypeError
        A setting is out of its range.

    References
    ----------
    Huber: Robust Estimation of a Location Parameter (Annals of Mathematical Statistics 1964).

    Examples
    --------
    >>> from fastbp import Network, cost_and_gradient
    >>> net = Network([1, 2], output="identity", weights="zeros")
    >>> cost_and_gradient(net, [[1.0]], [[1.0, 3.0]], Huber(threshold=2.0))[0]
    4.5
    """

    threshold: float = 1.0
    name = "huber"
    aliases = ("huberloss", "smoothl1", "smoothl1loss")

    def __post_init__(self) -> None:
        settle(self, "threshold", positive)

    def _own(self) -> dict[str, Any]:
        return {"threshold": self.threshold}


@dataclass(frozen=True)
class BinaryCrossEntropy(Loss):
    """−Σ t log a + (1 − t) log(1 − a), in nats: each output is a class of its own; a sample may have several.

    Targets are in [0, 1].

    References
    ----------
    Bishop: Neural Networks for Pattern Recognition (Oxford 1995), chapter 6, "Error functions".

    Examples
    --------
    >>> from fastbp import Network, cost_and_gradient
    >>> net = Network([1, 2], output="sigmoid", weights="zeros")
    >>> round(cost_and_gradient(net, [[1.0]], [[1.0, 1.0]], BinaryCrossEntropy())[0], 4)  # 2 log 2
    1.3863
    """

    name = "binary_cross_entropy"
    aliases = ("bce", "binarycrossentropyloss", "bceloss")
    outputs = ("sigmoid",)
    must_be = costs.SHARES

    def check_targets(self, rows: Array, name: str) -> None:
        _check_shares(self, rows, name)


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """−Σ t log a, in nats.

    Parameters
    ----------
    label_smoothing : float
        In [0, 1): targets become (1 − label_smoothing) t + label_smoothing / n_out.

    Raises
    ------
    ValueError, TypeError
        A setting is out of its range.

    References
    ----------
    Bishop: Neural Networks for Pattern Recognition (Oxford 1995), chapter 6, "Error functions".
    Szegedy, Vanhoucke, Ioffe, Shlens, Wojna: Rethinking the Inception Architecture for Computer Vision (CVPR 2016),
    section 7.

    Examples
    --------
    >>> CrossEntropy(label_smoothing=0.1).label_smoothing
    0.1
    """

    label_smoothing: float = 0.0
    name = "cross_entropy"
    aliases = ("logloss", "categoricalcrossentropy", "sparsecategoricalcrossentropy", "crossentropyloss")
    outputs = ("softmax",)
    must_be = costs.DISTRIBUTION

    def __post_init__(self) -> None:
        settle(self, "label_smoothing", fraction)

    def _own(self) -> dict[str, Any]:
        return {"label_smoothing": self.label_smoothing}

    def check_targets(self, rows: Array, name: str) -> None:
        _check_shares(self, rows, name)
        sums = rows.sum(axis=1, dtype=np.float64)
        worst = int(np.argmax(np.abs(sums - 1)))
        if abs(sums[worst] - 1) > 1e-3:
            raise ValueError(f"rows of {name} must each sum to 1 for {self}, row {worst} sums to {sums[worst]:.6g}")


def _check_shares(loss: Loss, rows: Array, name: str) -> None:
    if rows.min() < 0 or rows.max() > 1:
        raise ValueError(f"{name} must lie in [0, 1] for {loss}, found {rows.min()} to {rows.max()}")


@dataclass(frozen=True)
class Poisson(Loss):
    """Σ a − t log a: outputs are the rates of counts t >= 0; terms that do not depend on the outputs are left out.

    References
    ----------
    McCullagh, Nelder: Generalized Linear Models (Chapman and Hall 1989), chapter 6, the log likelihood.

    Examples
    --------
    >>> from fastbp import Network, cost_and_gradient
    >>> net = Network([1, 1], output="softplus", weights="zeros")  # of rate log 2
    >>> round(cost_and_gradient(net, [[1.0]], [3.0], Poisson())[0], 4)
    1.7927
    """

    name = "poisson"
    aliases = ("poissonnll",)
    outputs = ("softplus",)
    must_be = costs.NOT_NEGATIVE

    def check_targets(self, rows: Array, name: str) -> None:
        if rows.min() < 0:
            raise ValueError(f"{name} must be at least 0 for {self}, found {rows.min()}")


@dataclass(frozen=True)
class Cosine(Loss):
    """1 − cos(a, t), from 0 to 2: depends on the directions of outputs and targets, not on their lengths.

    It is 1, with gradient 0, for a sample whose outputs or targets are all 0. It needs at least two outputs: for a
    single one the gradient is always 0.

    References
    ----------
    Salton, McGill: Introduction to Modern Information Retrieval (McGraw-Hill 1983), its cosine coefficient.

    Examples
    --------
    >>> from fastbp import Network, cost_and_gradient
    >>> net = Network([1, 2], output="identity", weights=lambda draw, n_in, n_out: np.array([[2.0, 0.0]]))
    >>> cost_and_gradient(net, [[1.0]], [[0.0, 3.0]], Cosine())[0]  # at a right angle
    1.0
    """

    name = "cosine"
    least_outputs = 2
    heeds_lengths = False
    aliases = ("cosinesimilarity", "cosineembedding", "cosineembeddingloss", "cosinedistance")


LOSSES: dict[str, type[Any]] = {kind.name: kind for kind in (
    Quadratic, BinaryCrossEntropy, CrossEntropy, MeanAbsolute, Huber, Poisson, Cosine)}
# What "log_loss" means depends on the output: see network.check_loss.
ALIASES = {alias: kind.name for kind in LOSSES.values() for alias in kind.aliases}


@dataclass(frozen=True)
class Custom(Loss):
    """A loss of your own.

    Parameters
    ----------
    function : function (z, a, t, delta) -> cost
        For one sample; the arguments are vectors (n_out,) of the network's dtype. Writes the output error dE/dz into
        delta and returns the cost. Numba compiles it, or it is an @njit function; an exception gives a cost of NaN.
    outputs : str or sequence of str
        Output activations that it supports, one or several; (): any.

    Raises
    ------
    TypeError
        `function` is not a function; or, when a trainer is made, Numba cannot compile it or it returns no number.
    ValueError
        An activation of `outputs` is unknown.

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
    outputs: Any = ()  # a tuple of names after the check
    name = "custom"
    _compiled: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(f"function must be a function (z, a, t, delta) -> cost, got {self.function!r}")
        settle(self, "outputs", _output_names)

    def rule(self, dtype: str = "float32") -> Cost:
        if dtype not in self._compiled:
            self._compiled[dtype] = _of_rows(self.function, dtype)
        return Cost(self.code, address=compiler.machine_code(*self._compiled[dtype]))

    def __getstate__(self) -> dict[str, Any]:
        return {"function": self.function, "outputs": self.outputs, "_compiled": {}}


def _output_names(what: str, outputs: Any) -> tuple[str, ...]:
    if not isinstance(outputs, Iterable):
        raise TypeError(f"{what} must be the name of an output activation or a sequence of them, got {outputs!r}")
    names = [outputs] if isinstance(outputs, str) else outputs
    return tuple(one_of("output activation", name, activations.CODES, activations.ALIASES) for name in names)


def _of_rows(function: Callable[..., float], dtype: str) -> tuple[Any, tuple[Any, ...]]:
    """Return a user's function for many samples, and the types to compile it for."""
    of_one: Any = function if is_jitted(function) else numba.njit(**compiler.FLAGS)(function)

    @numba.njit(**compiler.FLAGS, **compiler.NO_ENTRY)
    def of_rows(z, a, t, delta, costs, n_rows, n, ld):  # type: ignore[no-untyped-def]
        for i in range(n_rows):
            costs[i] = math.nan  # stays if the function raises
        for i in range(n_rows):
            costs[i] = of_one(carray(ahead(z, i * ld), (n,)), carray(ahead(a, i * ld), (n,)),
                              carray(ahead(t, i * n), (n,)), carray(ahead(delta, i * ld), (n,)))

    numbers, whole = types.CPointer(getattr(types, dtype)), types.int64
    signature = (numbers, numbers, numbers, numbers, types.CPointer(types.float64), whole, whole, whole)
    try:
        with compiler.uninterrupted():
            of_rows.compile(signature)
    except numba.NumbaError as error:
        raise TypeError(f"Numba cannot compile the loss {function.__name__}(z, a, t, delta): {error}") from None
    vectors = (types.Array(getattr(types, dtype), 1, "C"),) * 4
    returned = next(each.return_type for each in of_one.nopython_signatures if each.args == vectors)
    if isinstance(returned, types.Array):  # Numba would use its first element
        raise TypeError(f"the loss {function.__name__}(z, a, t, delta) returns an array; it must return the cost of a "
                        "sample, a number, such as the array's .sum()")
    return of_rows, signature
