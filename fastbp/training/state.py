"""State: all that a step changes, and its one owner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np

from fastbp.core import compiler
from fastbp.core.rules import row_of
from fastbp.network import Network, all_finite
from fastbp.workspace import Array, aligned


class Kind(NamedTuple):
    """What the rows of a state mean: they are of this rule, and whether the parameters' mean is among them."""

    rule: float
    mean: bool


class State:
    """The parameters, which the network holds, the optimiser's moments, the mean of the parameters, and counts.

    Attributes
    ----------
    rows : ndarray (moments, or one more, n_parameters)
        The moments; last the mean of the parameters or, while the network holds that, the parameters themselves.
    clock : ndarray (1,), int64
        Updates so far: compiled code counts on, so that Ctrl-C cannot lose one.
    epochs_done : int
        Times that samples were gone through.
    """

    def __init__(self, network: Network, kind: Kind):
        n_rows = row_of(kind.rule).n_moments + kind.mean
        self.network, self.kind = network, kind
        self.rows = aligned(n_rows * network.n_parameters, network.dtype).reshape(n_rows, network.n_parameters)
        self.clock, self.epochs_done = np.zeros(1, np.int64), 0
        self.holds_mean, self._mean_held = False, 0  # whether the network does, and the mean's checksum

    @property
    def live(self) -> tuple[Array, Array, Array]:
        """What a step writes to."""
        return self.network.theta, self.rows, self.clock

    def is_finite(self) -> bool:
        """Whether parameters and moments are: moments that overflow would hold theta still, unnoticed."""
        return all(map(all_finite, self.live))

    def begin(self) -> None:
        """The mean begins at the first parameters; called before each fit."""
        if self.clock[0] == 0 and self.kind.mean:
            self.rows[-1] = self.network.theta

    def hold_mean(self, mean: bool, frozen: Sequence[int]) -> None:
        """Have the network hold the mean of the parameters, if there is one, or the parameters themselves; those that
        somebody has put in the mean's place are both, as are those of layers that are frozen, which stay what they
        are."""
        if not self.kind.mean or mean == self.holds_mean:
            return
        with compiler.uninterrupted():  # half of an exchange would lose one of the two
            theta = self.network.theta.copy()
            if not mean and _checksum(theta) != self._mean_held:
                self.rows[-1] = theta
            W, b = self.network.views(self.rows[-1])
            for l in () if mean else frozen:
                W[l], b[l] = self.network.W[l], self.network.b[l]
            self.network.theta, self.rows[-1], self.holds_mean = self.rows[-1], theta, mean
            if mean:
                self._mean_held = _checksum(self.network.theta)

    def saved(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """For a checkpoint: tensors, and what JSON can hold."""
        return {"theta": self.network.theta, "state": self.rows}, {
            "steps_done": int(self.clock[0]), "epochs_done": self.epochs_done, "holds_mean": self.holds_mean}

    def restore(self, tensors: dict[str, Array], known: dict[str, Any]) -> None:
        """Go back to what `saved` gave."""
        self.network.theta, self.rows[...] = tensors["theta"], tensors["state"]
        self.clock[0], self.epochs_done = known["steps_done"], known["epochs_done"]
        self.holds_mean, self._mean_held = known["holds_mean"], _checksum(self.network.theta)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Copy all that a step writes to: what a pickle hands over may be read-only, as joblib's memory maps are."""
        self.__dict__.update(state)
        self.clock, rows = self.clock.copy(), self.rows
        self.rows = aligned(rows.size, rows.dtype).reshape(rows.shape)
        self.rows[...] = rows


def _checksum(theta: Array) -> int:
    """Of all parameters: that somebody has changed one must not go unseen."""
    return crc32(theta)  # type: ignore[arg-type]  # takes any buffer
