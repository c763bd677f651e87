"""Few samples: the fast path for calls from Python, for arrays that the kernels can read as they are."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastbp.core import doors
from fastbp.core.call import Slip
from fastbp.core.plan import plan_for
from fastbp.core.threads.team import WORTH_THREADS
from fastbp.inference import CAPACITY, NO_SETTINGS
from fastbp.losses import Loss
from fastbp.network import Network
from fastbp.workspace import Workspace, keep


def are_few(network: Network, X: Any) -> bool:
    """Whether X may be so few samples that one thread computes them all at once."""
    most = min(CAPACITY, (WORTH_THREADS - 1) // (3 * network.n_parameters))
    return type(X) is np.ndarray and X.ndim == 2 and 0 < len(X) <= most


def slip_for(network: Network, workspace: Workspace, loss: Loss, purpose: int) -> Slip:
    """Return a slip, kept by the workspace, for costs with outputs (INFER) or with the gradient (ACCUMULATE)."""
    slip = workspace.few.get((loss, purpose))
    if slip is None:
        plan = plan_for(network.layer_sizes, 1, purpose, 1)
        slip = workspace.bind(network.theta, np.zeros(1, np.int64), loss.rule(network.dtype.name), NO_SETTINGS, purpose,
                              plan)
        slip.put(n_gradient=network.n_parameters)
        keep(workspace.few, (loss, purpose), slip)
    return slip


def run(slip: Slip, network: Network, loss: Loss, X: Any, y: Any, most: int) -> float:
    """Run a slip for up to `most` samples in one compiled call; return their mean cost.

    NaN if this path does not accept X or y, or if a number is invalid: then nothing was done. NaN, too, if the cost is
    not finite. The general path then finds the reason and raises the error.
    """
    n_in, n_out = network.layer_sizes[0], network.layer_sizes[-1]
    if not (type(X) is np.ndarray and type(y) is np.ndarray and X.ndim == 2 and X.shape[1] == n_in and y.ndim
            and 0 < len(X) == len(y) <= most and X.dtype == network.dtype and X.flags.carray and y.flags.carray):
        return math.nan
    cost = math.nan
    if y.dtype == np.int64 and y.ndim == 1 and network.classes is None and (
            n_out > 1 or network.activations[-1] == "sigmoid"):
        cost = doors.with_labels(slip.vector, X, y, network.input_scale, max(2, n_out))
    elif y.dtype == network.dtype and (y.shape[1:] == (n_out,) or y.ndim == n_out == 1):
        cost = doors.with_rows(slip.vector, X, y.reshape(-1, n_out), network.input_scale, loss.must_be)
    return cost if math.isfinite(cost) else math.nan
