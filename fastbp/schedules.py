"""Learning-rate schedules: the factor of eta at each step of a fit.

Settings are frozen; a schedule depends only on the step, counted from 0, and on the total number of steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastbp.checks import fraction, not_negative, number, positive, settle, whole_number
from fastbp.workspace import Array

__all__ = ["Constant", "Cosine", "Exponential", "Linear", "OneCycle", "Schedule", "Step", "WarmUp"]


def __dir__() -> list[str]:
    return __all__


Function = Callable[[int, int], float]


@dataclass(frozen=True)
class Schedule:
    """Base class of the schedules: a call with (step, steps) returns the factor.

    Your own schedule may be a function, or a class that defines `factors`.

    Examples
    --------
    >>> schedule = Linear()
    >>> isinstance(schedule, Schedule), schedule(50, 100)
    (True, 0.5)
    """

    def __call__(self, step: int, steps: int) -> float:
        return float(self.factors(np.array([step]), steps)[0])

    def factors(self, step: Array, steps: int) -> Array:
        """Return the factors of many steps at once.

        Parameters
        ----------
        step : ndarray (n,) of int
            Indices of steps, counted from 0.
        steps : int
            Number of steps of the whole fit.

        Returns
        -------
        ndarray (n,)

        Raises
        ------
        NotImplementedError
            A class does not define this method.

        Examples
        --------
        >>> Linear().factors(np.array([0, 1, 2, 3]), 4)
        array([1.  , 0.75, 0.5 , 0.25])
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Constant(Schedule):
    """The factor is 1 at every step.

    Examples
    --------
    >>> Constant()(50, 100)
    1.0
    """

    def factors(self, step: Array, steps: int) -> Array:
        return np.ones(len(step))


@dataclass(frozen=True)
class Step(Schedule):
    """The factor is multiplied by `factor` at regular intervals.

    Parameters
    ----------
    every : float
        Share of all steps between two falls, in (0, 1]; by default it falls twice in a fit.
    factor : float
        > 0.

    Raises
    ------
    ValueError, TypeError
        A setting is out of its range.

    References
    ----------
    He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition (CVPR 2016), section 4.2.

    Examples
    --------
    >>> [round(Step()(step, 100), 3) for step in (0, 33, 34, 99)]
    [1.0, 1.0, 0.1, 0.01]
    """

    every: float = 1 / 3
    factor: float = 0.1

    def __post_init__(self) -> None:
        settle(self, "every", number, 0, 1, low_open=True)
        settle(self, "factor", positive)

    def factors(self, step: Array, steps: int) -> Array:
        return self.factor ** np.floor(_unrounded(step / (self.every * steps)))


@dataclass(frozen=True)
class Exponential(Schedule):
    """The factor falls by the same ratio at every step: `end` ** (step / steps).

    Parameters
    ----------
    end : float
        Factor after the last step, > 0.

    Raises
    ------
    ValueError, TypeError
        A setting is out of its range.

    References
    ----------
    Senior, Heigold, Ranzato, Yang: An Empirical Study of Learning Rates in Deep Neural Networks for Speech Recognition
    (ICASSP 2013), its exponential scheduling.

    Examples
    --------
    >>> Exponential(end=0.01)(50, 100)
    0.1
    """

    end: float = 0.01

    def __post_init__(self) -> None:
        settle(self, "end", positive)

    def factors(self, step: Array, steps: int) -> Array:
        return self.end ** (step / steps)


@dataclass(frozen=True)
class Linear(Schedule):
    """The factor falls linearly from 1.

    Parameters
    ----------
    end : float
        Factor after the last step, >= 0.

    Raises
    ------
    ValueError, TypeError
        A setting is out of its range.

    References
    ----------
    Li, Yumer, Ramanan: Budgeted Training: Rethinking Deep Neural Network Training under Resource Constraints
    (ICLR 2020), its linear schedule.

    Examples
    --------
    >>> Linear()(25, 100)
    0.75
    """

    end: float = 0.0

    def __post_init__(self) -> None:
        settle(self, "end", not_negative)

    def factors(self, step: Array, steps: int) -> Array:
        return self.end + (1 - self.end) * ((steps - step) / steps)


@dataclass(frozen=True)
class Cosine(Schedule):
    """The factor falls along half a cosine from 1, optionally with restarts.

    Parameters
    ----------
    cycles : int
        Number of cycles, >= 1.
    growth : float
        Length of each cycle divided by that of the one before, > 0.
    end : float
        Factor at the end of a cycle, >= 0.

    Raises
    ------
    ValueError, TypeError
        A setting is out of its range.

    References
    ----------
    Loshchilov, Hutter: SGDR: Stochastic Gradient Descent with Warm Restarts (ICLR 2017), equation 5;
    its T_mult is `growth`.

    Examples
    --------
    >>> [round(Cosine(cycles=2)(step, 100), 3) for step in (0, 25, 49, 50, 75)]
    [1.0, 0.5, 0.001, 1.0, 0.5]
    """

    cycles: int = 1
    growth: float = 1.0
    end: float = 0.0

    def __post_init__(self) -> None:
        settle(self, "cycles", whole_number, 1)
        settle(self, "growth", positive)
        settle(self, "end", not_negative)

    def factors(self, step: Array, steps: int) -> Array:
        share = self._equal_cycles(step, steps) if self.growth == 1 else self._growing_cycles(step, steps)
        return _half_cosine(np.where(step < steps, share, 1), 1, self.end)

    def _equal_cycles(self, step: Array, steps: int) -> Array:
        """Return the fraction of the current cycle that is over, from step · cycles / steps in integer arithmetic."""
        result: Array = step * (self.cycles % steps) % steps / steps
        return result

    def _growing_cycles(self, step: Array, steps: int) -> Array:
        longest = self.cycles - 1 if self.growth > 1 else 0
        lengths = self.growth ** (np.arange(self.cycles) - float(longest))  # all <= 1, so that nothing overflows
        ends = np.concatenate([[0.0], _unrounded(np.cumsum(lengths) / lengths.sum() * steps)])
        cycle = np.minimum(np.searchsorted(ends, step, side="right") - 1, self.cycles - 1)
        length = ends[cycle + 1] - ends[cycle]
        return np.asarray((step - ends[cycle]) / np.where(length == 0, 1, length))


@dataclass(frozen=True)
class OneCycle(Schedule):
    """The factor rises along half a cosine to 1, then falls along another to far below its start.

    Parameters
    ----------
    rise : float
        Share of all steps in which it rises, in (0, 1).
    start, end : float
        Factors at the first step and after the last, >= 0.

    Raises
    ------
    ValueError, TypeError
        A setting is out of its range.

    References
    ----------
    Smith, Topin: Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates (2018); the
    defaults are those of PyTorch's OneCycleLR, without its cycle of the momentum.

    Examples
    --------
    >>> [round(OneCycle()(step, 100), 3) for step in (0, 15, 30, 65, 99)]
    [0.04, 0.52, 1.0, 0.5, 0.001]
    """

    rise: float = 0.3
    start: float = 0.04
    end: float = 4e-6

    def __post_init__(self) -> None:
        settle(self, "rise", number, 0, 1, low_open=True, high_open=True)
        settle(self, "start", not_negative)
        settle(self, "end", not_negative)

    def factors(self, step: Array, steps: int) -> Array:
        share = step / steps
        up = _half_cosine(np.minimum(share / self.rise, 1), self.start, 1)
        down = _half_cosine(np.clip((share - self.rise) / (1 - self.rise), 0, 1), 1, self.end)
        return np.where(share < self.rise, up, down)


@dataclass(frozen=True)
class WarmUp(Schedule):
    """The factor rises linearly to the first factor of another schedule, which has the rest of the steps.

    Parameters
    ----------
    share : float
        Share of all steps, in [0, 1); at least one step.
    then : Schedule, or a function (step, steps) -> factor

    Raises
    ------
    ValueError, TypeError
        A setting is out of its range.

    References
    ----------
    Goyal et al.: Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour (2017), section 2.2.

    Examples
    --------
    >>> schedule = WarmUp(0.15, Linear())
    >>> [round(schedule(step, 100), 3) for step in (0, 14, 15, 57, 99)]
    [0.067, 1.0, 1.0, 0.506, 0.012]
    """

    share: float = 0.05
    then: Schedule | Function = Constant()  # noqa: RUF009  # frozen

    def __post_init__(self) -> None:
        settle(self, "share", fraction)
        if not callable(self.then):
            raise TypeError(f"then must be a schedule or a function (step, steps) -> factor, got {self.then!r}")

    def factors(self, step: Array, steps: int) -> Array:
        rising = max(1, round(float(_unrounded(np.array(2 * self.share * steps))) / 2))
        rest = max(1, steps - rising)
        later = factors_of(self.then, np.maximum(step - rising, 0), rest)
        return np.where(step < rising, (step + 1) / rising * self.then(0, rest), later)


def factors_of(schedule: Schedule | Function, step: Array, steps: int) -> Array:
    """Return the factors of many steps, by a schedule or a function. Raises TypeError if one is not a number."""
    if isinstance(schedule, Schedule):
        return schedule.factors(step, steps)
    return np.fromiter((_factor(schedule(int(one), steps)) for one in step), np.float64, len(step))


def _factor(given: Any) -> float:
    try:
        return float(given)
    except (TypeError, ValueError):
        raise TypeError(f"schedule must give a number, by which eta is multiplied, got {given!r}") from None


def _unrounded(x: Array) -> Array:
    """Round numbers next to a whole number, such as 0.7 · 10 = 7.000000000000001: otherwise a phase begins a step
    late."""
    whole = np.rint(x)
    return np.where(np.abs(x - whole) <= 1e-12 * np.maximum(whole, 1), whole, x)


def _half_cosine(share: Array, start: float, end: float) -> Array:
    """Return half a cosine from `start` at share 0 to `end` at share 1."""
    result: Array = end + (start - end) * (1 + np.cos(np.pi * share)) / 2
    return result


SCHEDULES: dict[str, Schedule] = {
    "constant": Constant(), "linear": WarmUp(0.15, Linear()), "step": Step(), "exponential": Exponential(),
    "cosine": Cosine(), "one_cycle": OneCycle(),
}
