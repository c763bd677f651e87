"""Guard: a copy of all that a step changes, so that divergence and an ill-timed Ctrl-C can be undone."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from fastbp.training.state import State

KEEP_SECONDS = 2.0  # time from copy to copy


class DivergenceError(ArithmeticError):
    """The cost, a parameter or a moment is no longer finite; the network holds the last finite parameters.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import SGD, DivergenceError, Network, Trainer
    >>> X = np.linspace(0, 1, 100)[:, np.newaxis]
    >>> trainer = Trainer(Network([1, 1], output="identity"), optimizer=SGD(eta=1e6))
    >>> try:
    ...     trainer.fit(X, X, epochs=100)
    ... except DivergenceError:
    ...     print(bool(np.isfinite(trainer.network.theta).all()))
    True
    """


class Guard:
    """A copy of all that a step changes.

    Attributes
    ----------
    step : int
        The step of the epoch before which the copy was taken.
    time : float
        When it was taken; 0.0: never, or in a fit that has ended.
    """

    def __init__(self, state: State):
        self.state = state
        self._copies = tuple(np.empty_like(part) for part in state.live)
        self.step, self.time = 0, 0.0

    def is_old(self, now: float) -> bool:
        return now - self.time > KEEP_SECONDS

    def take(self, step: int) -> None:
        for kept, part in zip(self._copies, self.state.live, strict=True):
            kept[...] = part
        self.step, self.time = step, time.perf_counter()

    def restore(self) -> None:
        for kept, part in zip(self._copies, self.state.live, strict=True):
            part[...] = kept

    def leave_finite(self) -> bool:
        """Go back to the copy if parameters or moments are no longer finite, as Ctrl-C may come before this is noticed.

        Returns whether they were not finite."""
        if self.time == 0 or self.state.is_finite():
            return False
        self.restore()
        return True

    def last_finite(self, end: int, make: Callable[[int], bool]) -> int:
        """Go back to the copy, then forward to the last finite parameters before the step `end`.

        make: repeats the step of a given number and returns whether its cost was finite. Returns the step that failed.
        """
        self.restore()
        for step in range(self.step, end):
            self.take(step)
            if not make(step) or not self.state.is_finite():
                self.restore()
                return step
        return end
