"""Guard: copies of all that a step changes, so that divergence and an ill-timed Ctrl-C can be undone."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from fastbp.training.state import State

KEEP_SECONDS = 2.0  # from copy to copy


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
        Of an epoch, before which it was taken.
    time : float
        When; 0.0: never, or of a fit that has ended.
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
        """Go back to the copy, if parameters or moments are no longer finite, as Ctrl-C may come before it is seen;
        returns whether that was so."""
        if self.time == 0 or self.state.is_finite():
            return False
        self.restore()
        return True

    def last_finite(self, end: int, make: Callable[[int], bool]) -> int:
        """Go back to the copy, and forward to the last finite parameters before the step `end`.

        make: makes the step of that number again, and says whether its cost was finite. Returns the step that failed.
        """
        self.restore()
        for step in range(self.step, end):
            self.take(step)
            if not make(step) or not self.state.is_finite():
                self.restore()
                return step
        return end
