"""The mean cost of samples and its gradient."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp import few
from fastbp.core.call import ACCUMULATE
from fastbp.core.plan import scratch_size
from fastbp.inference import CAPACITY, choose_threads, go_through
from fastbp.inputs import as_data
from fastbp.losses import Loss
from fastbp.network import Network, check_loss, check_network
from fastbp.workspace import Array, aligned, room_for


def cost_and_gradient(network: Network, X: npt.ArrayLike, y: npt.ArrayLike, loss: str | Loss | None = None,
                      threads: int | None = None, *, sample_weight: npt.ArrayLike | None = None,
                      out: Array | None = None) -> tuple[float, Array]:
    """Return the mean cost over all samples and its gradient with respect to theta.

    Parameters
    ----------
    network : Network
    X : array_like (n, n_in)
    y : array_like
        Labels (n,), names of the network's classes (n,), or rows of targets (n, n_out).
    loss : str or one of fastbp.losses, optional
        See Trainer; None: the loss that matches the output.
    threads : int, optional
        The result is bit-identical for every number.
    sample_weight : array_like (n,), optional
        >= 0: a weight of 2 counts the sample twice. Means are weighted.
    out : ndarray (n_parameters,), of the network's dtype, optional
        Where to write the gradient; then it is also returned. With a few samples, as arrays of that dtype, nothing is
        allocated. The next call overwrites it: leave it out for callers that keep gradients, as SciPy's BFGS and CG do.

    Returns
    -------
    cost : float
        In the unit of the loss (nats for the cross-entropies).
    gradient : ndarray (n_parameters,)
        Laid out like theta; `network.views` gives it layer by layer. All NaN if the cost is not finite.

    Raises
    ------
    ValueError, TypeError
        X, y or the loss do not fit the network.

    Examples
    --------
    >>> from fastbp import Network
    >>> net = Network([3, 2], output="softmax", dtype="float64")
    >>> cost, gradient = cost_and_gradient(net, np.eye(3), [0, 1, 1])
    >>> gradient.shape == net.theta.shape
    True
    """
    check_network(network)
    loss = check_loss(loss, network.activations[-1], network.layer_sizes[-1])
    out = room_for(out, (network.n_parameters,), network.dtype)
    cost = math.nan
    if threads is None and sample_weight is None:
        cost = _of_few(network, X, y, loss, out)
    if math.isnan(cost):
        cost = _of_any(network, X, y, loss, threads, sample_weight, out)
    return cost, out


def _of_few(network: Network, X: Any, y: Any, loss: Loss, out: Array) -> float:
    """Compute on one thread, in a workspace that the network keeps."""
    if not few.are_few(network, X):
        return math.nan
    workspace = network.take_workspace(len(X))
    slip = few.slip_for(network, workspace, loss, ACCUMULATE)
    slip.point(gradient=out)
    cost = few.run(slip, network, loss, X, y, workspace.capacity)
    network.give_back(workspace)
    return cost


def _of_any(network: Network, X: npt.ArrayLike, y: npt.ArrayLike, loss: Loss, threads: int | None,
            sample_weight: npt.ArrayLike | None, out: Array) -> float:
    """Compute from arrays and frames of every kind, on as many threads as pay off."""
    data = as_data(X, y, sample_weight, network, loss, sparse=True).with_some_weight()
    workspace = network.workspace(min(len(data), CAPACITY), sparse=data.x.is_sparse)
    threads = choose_threads(threads, 3 * len(data) * network.n_parameters)
    size = max(network.n_parameters, scratch_size(network.layer_sizes, threads, len(data)))
    gradient = aligned(size, network.dtype)
    workspace.slip.point(gradient=gradient)
    workspace.slip.put(n_gradient=size)
    cost, _ = go_through(network, workspace, data.x, data.t, loss, data.weights, ACCUMULATE, threads)
    if not np.isfinite(cost):
        gradient[:] = np.nan  # the steps after the first such mini-batch were not made
    out[:] = gradient[: network.n_parameters]
    return cost
