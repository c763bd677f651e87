"""z, a and delta of samples, as the compiled core leaves them; names of parameters."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.core.call import ACCUMULATE
from fastbp.core.plan import scratch_size
from fastbp.figures import spread
from fastbp.frames import is_frame
from fastbp.inference import CAPACITY, NO_WEIGHTS, go_through
from fastbp.inputs import Data, as_data
from fastbp.losses import Loss
from fastbp.network import Network, check_loss, check_network, check_theta
from fastbp.workspace import Array, Workspace, aligned, parameter_offsets


def checked(network: Network, X: npt.ArrayLike, y: npt.ArrayLike, loss: str | Loss | None) -> tuple[Data, Loss]:
    """Return samples and loss; raise ValueError or TypeError if they, or the network's parameters, are not valid."""
    check_theta(check_network(network))
    own = check_loss(loss, network.activations[-1], network.layer_sizes[-1])
    return as_data(X, y, None, network, own), own


def one_sample(x: Any, t: Any) -> tuple[Any, Any]:
    """Return a sample and its target as samples and targets, one each; raise ValueError if it is not one sample.

    x: a row of numbers, a pandas Series whose index names the features, or a table of one row; t: its target, alone or
    as a row or table of one row."""
    if not is_frame(x):
        x = _row_of_frame(x) if _is_labelled(x) else np.atleast_2d(x.toarray() if hasattr(x, "toarray") else x)
    if len(x) != 1:
        raise ValueError(f"x must be one sample, got {len(x)}")
    if is_frame(t):
        return x, t
    if _is_labelled(t) and len(t) > 1:
        return x, _row_of_frame(t)
    t = np.asarray(t)
    return x, t if t.ndim == 2 or t.shape == (1,) else t[np.newaxis]


def _is_labelled(x: Any) -> bool:
    """Whether x is a pandas Series."""
    return hasattr(x, "iloc") and x.ndim == 1


def _row_of_frame(x: Any) -> Any:
    return x.to_frame().T


def some(data: Data) -> Data:
    """Return as many of the samples as the core computes at once, from all over the data."""
    return data.taken(spread(len(data), CAPACITY))


def layer_values(network: Network, data: Data, loss: Loss) -> tuple[Workspace, Array, float]:
    """Return a workspace whose a, z and delta are those of these samples, at most CAPACITY; their gradient and cost.

    If the cost is not finite, delta and the gradient are NaN."""
    n = len(data)
    workspace = network.workspace(n)
    gradient = aligned(max(network.n_parameters, scratch_size(network.layer_sizes, 1, n)), network.dtype)
    workspace.slip.point(gradient=gradient)
    workspace.slip.put(n_gradient=len(gradient))
    cost, _ = go_through(network, workspace, data.x, data.t, loss, NO_WEIGHTS, ACCUMULATE, 1)
    if not math.isfinite(cost):
        for values in (gradient, *workspace.delta):
            values[:] = math.nan
    return workspace, gradient[: network.n_parameters], cost


def place_of(i: int, layer_sizes: tuple[int, ...]) -> tuple[int, int, int]:
    """Return layer, sender and receiver of theta[i]; the sender of a bias comes after the others."""
    begins = [begin for begin, _ in parameter_offsets(layer_sizes)]
    l = int(np.searchsorted(begins, i, side="right")) - 1
    return l, *divmod(int(i) - begins[l], layer_sizes[l + 1])


def name_of(i: int, layer_sizes: tuple[int, ...]) -> str:
    """Return what theta[i] is called: `net.W[l][i, j]` or `net.b[l][j]`."""
    l, sender, receiver = place_of(i, layer_sizes)
    return f"net.W[{l}][{sender}, {receiver}]" if sender < layer_sizes[l] else f"net.b[{l}][{receiver}]"
