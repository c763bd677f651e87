"""State: all that a step changes, with one owner."""

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
    """The kind of a state: the rule that its rows belong to, and whether they include the mean of the parameters."""

    rule: float
    mean: bool


class State:
    """Parameters (held by the network), moments of the optimiser, mean of the parameters, and counts.

    Attributes
    ----------
    rows : ndarray (moments, or one more, n_parameters)
        The moments; last the mean of the parameters or, while the network holds the mean, the parameters themselves.
    clock : ndarray (1,), int64
        Number of updates so far; compiled code counts them, so that Ctrl-C cannot lose one.
    epochs_done : int
        Number of passes through samples.
    """

    def __init__(self, network: Network, kind: Kind):
        n_rows = row_of(kind.rule).n_moments + kind.mean
        self.network, self.kind = network, kind
        self.rows = aligned(n_rows * network.n_parameters, network.dtype).reshape(n_rows, network.n_parameters)
        self.clock, self.epochs_done = np.zeros(1, np.int64), 0
        self.holds_mean, self._mean_held = False, 0  # whether the network holds the mean, and its checksum

    @property
    def live(self) -> tuple[Array, Array, Array]:
        """Return the arrays that a step writes to."""
        return self.network.theta, self.rows, self.clock

    def is_finite(self) -> bool:
        """Whether parameters and moments are finite: moments that overflow would stop theta unnoticed."""
        return all(map(all_finite, self.live))

    def begin(self) -> None:
        """Start the mean at the current parameters if it has not begun; called before each fit."""
        if self.clock[0] == 0 and self.kind.mean:
            self.rows[-1] = self.network.theta

    def hold_mean(self, mean: bool, frozen: Sequence[int]) -> None:
        """Let the network hold the mean of the parameters, if there is one, or the parameters themselves.

        Parameters that a user assigned in place of the mean are used for both; so are those of frozen layers, which do
        not change."""
        if not self.kind.mean or mean == self.holds_mean:
            return
        with compiler.uninterrupted():  # half an exchange would lose one of the two
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
        """Return the state for a checkpoint: tensors, and values that JSON can hold."""
        return {"theta": self.network.theta, "state": self.rows}, {
            "steps_done": int(self.clock[0]), "epochs_done": self.epochs_done, "holds_mean": self.holds_mean}

    def restore(self, tensors: dict[str, Array], known: dict[str, Any]) -> None:
        """Restore what `saved` returned."""
        self.network.theta, self.rows[...] = tensors["theta"], tensors["state"]
        self.clock[0], self.epochs_done = known["steps_done"], known["epochs_done"]
        self.holds_mean, self._mean_held = known["holds_mean"], _checksum(self.network.theta)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Copy all that a step writes to: arrays from a pickle may be read-only, such as the memory maps of joblib."""
        self.__dict__.update(state)
        self.clock, rows = self.clock.copy(), self.rows
        self.rows = aligned(rows.size, rows.dtype).reshape(rows.shape)
        self.rows[...] = rows


def _checksum(theta: Array) -> int:
    """Return a checksum of all parameters, to notice any change by a user."""
    return crc32(theta)  # type: ignore[arg-type]  # takes any buffer
