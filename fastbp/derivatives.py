"""Derivatives for other programs: per sample, with respect to inputs, along directions of theta, of second order.

Dropout and noise belong to training and are not applied. Every vector over the parameters is laid out like
`network.theta`; `network.views` gives it layer by layer. The equations are in fastbp.core.derivatives.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp import few
from fastbp.checks import whole_number
from fastbp.core import build, costs, engine
from fastbp.core.call import Slip
from fastbp.core.costs import NO_LOSS, Cost
from fastbp.core.derivatives import (
    GRADIENT,
    GRADIENT_AND_INPUTS,
    GRADIENT_TANGENT,
    INPUT_GRADIENTS,
    OUTPUT_TANGENTS,
    SAMPLE_GRADIENTS,
    SAMPLE_NORMS,
)
from fastbp.core.plan import scratch_size
from fastbp.core.samples import NO_SAMPLES, describe
from fastbp.core.threads import team
from fastbp.frames import not_finite
from fastbp.inference import CAPACITY, NO_ORDER, NO_WEIGHTS, choose_threads
from fastbp.inputs import Inputs, as_data, as_inputs
from fastbp.losses import Loss, Quadratic
from fastbp.network import Network, check_loss, check_network
from fastbp.workspace import Array, Workspace, aligned, keep, overlap, room_for

ANY_TARGETS = Quadratic()  # for few.run: it asks nothing of targets but that they are finite


def input_gradients(network: Network, X: npt.ArrayLike, y: npt.ArrayLike | None = None, loss: str | Loss | None = None,
                    *, output: int | None = None, threads: int | None = None) -> Array:
    """Gradient of each sample's own cost, or of one output, with respect to the sample.

    Parameters
    ----------
    network : Network
    X, y, loss, threads
        See cost_and_gradient. Without y, `output` selects what is differentiated.
    output : int, optional
        Index k of an output, from 0: return the gradient of the output a[L][k] instead of a cost, without y and loss.

    Returns
    -------
    gradients : ndarray (n, n_in)
        dE_i / dX[i] of the cost of sample i alone, or d a_i[k] / dX[i], with respect to X as given, before it is
        multiplied by network.input_scale. Columns are in the order of network.feature_names. NaN for a sample whose
        cost is not finite.

    Raises
    ------
    ValueError, TypeError
        X, y or the loss do not fit the network; both or neither of y and output are given.

    Examples
    --------
    >>> net = Network([3, 8, 2], output="softmax", seed=0)
    >>> X = np.eye(3)
    >>> input_gradients(net, X, [0, 1, 1]).shape  # which features raise the cost of each sample
    (3, 3)
    >>> saliency = np.abs(input_gradients(net, X, output=1))
    """
    check_network(network)
    if (y is None) == (output is None):
        raise ValueError("give either y, for the gradient of costs, or output=k, for the gradient of output k")
    if output is None:
        x, t, of = _costs(network, X, y, loss)
    elif loss is not None:
        raise ValueError("output=k gives the gradient of an output, which does not depend on a loss; leave out loss")
    else:
        n_out = network.layer_sizes[-1]
        x, of = as_inputs(X, network), NO_LOSS
        chosen = np.arange(n_out) == whole_number("output", output, 0, n_out - 1)
        t = _rows(np.broadcast_to(chosen.astype(network.dtype), (len(x), n_out)))
    gradients = np.empty((len(x), network.layer_sizes[0]), network.dtype)
    _compute(network, INPUT_GRADIENTS, x, t, of, threads, outputs=gradients)
    return gradients


def per_sample_gradients(network: Network, X: npt.ArrayLike, y: npt.ArrayLike, loss: str | Loss | None = None, *,
                         threads: int | None = None, out: Array | None = None) -> Array:
    """Gradient of each sample's own cost with respect to theta; their mean is the gradient of cost_and_gradient.

    Parameters
    ----------
    network, X, y, loss, threads
        As of cost_and_gradient.
    out : ndarray (n, n_parameters), of the network's dtype, optional
        Where to write the gradients; then it is also returned.

    Returns
    -------
    gradients : ndarray (n, n_parameters)
        NaN for a sample whose cost is not finite. If only the norms are needed, per_sample_gradient_norms needs less
        memory and time.

    Raises
    ------
    ValueError, TypeError
        X, y, the loss or out do not fit the network.

    Examples
    --------
    >>> from fastbp import cost_and_gradient
    >>> net, X, y = Network([3, 4, 2], dtype="float64"), np.eye(3), [0, 1, 1]
    >>> gradients = per_sample_gradients(net, X, y)
    >>> np.allclose(gradients.mean(axis=0), cost_and_gradient(net, X, y)[1])
    True
    """
    check_network(network)
    x, t, of = _costs(network, X, y, loss)
    out = room_for(out, (len(x), network.n_parameters), network.dtype)
    gradients = np.empty_like(out) if overlap(out, x.array) or overlap(out, t.array) else out
    _compute(network, SAMPLE_GRADIENTS, x, t, of, threads, outputs=gradients)
    if gradients is not out:
        out[...] = gradients
    return out


def per_sample_gradient_norms(network: Network, X: npt.ArrayLike, y: npt.ArrayLike, loss: str | Loss | None = None, *,
                              threads: int | None = None) -> Array:
    """Euclidean norm of each sample's gradient with respect to theta, without the gradients.

    The gradient of a layer is an outer product of a[l-1] and delta[l], and delta[l] for its biases. Its squared norm is

        (|a[l-1]|² + 1) |delta[l]|²

    Parameters
    ----------
    network, X, y, loss, threads
        As of cost_and_gradient.

    Returns
    -------
    norms : ndarray (n,)
        NaN for a sample whose cost is not finite.

    Raises
    ------
    ValueError, TypeError
        X, y or the loss do not fit the network.

    References
    ----------
    Goodfellow: Efficient Per-Example Gradient Computations (2015), arXiv:1510.01799.

    Examples
    --------
    >>> net, X, y = Network([3, 4, 2]), np.eye(3), [0, 1, 1]
    >>> np.allclose(per_sample_gradient_norms(net, X, y), np.linalg.norm(per_sample_gradients(net, X, y), axis=1))
    True
    """
    check_network(network)
    x, t, of = _costs(network, X, y, loss)
    norms = np.empty(len(x), network.dtype)
    _compute(network, SAMPLE_NORMS, x, t, of, threads, outputs=norms)
    return norms


def jvp(network: Network, X: npt.ArrayLike, tangent: npt.ArrayLike, *, threads: int | None = None) -> Array:
    """Jacobian-vector product: how the outputs change along a direction of theta.

    Parameters
    ----------
    network, X, threads
        As of cost_and_gradient.
    tangent : array_like (n_parameters,)
        The direction v.

    Returns
    -------
    tangents : ndarray (n, n_out)
        d a[L] / dr at theta + r v for r = 0.

    Raises
    ------
    ValueError, TypeError
        X or the tangent do not fit the network.

    Examples
    --------
    >>> net = Network([2, 1], output="identity")
    >>> jvp(net, [[3, 4]], [1, 0, 10])  # of W[0] = [[w], [u]] and b[0] = [b], along w and ten times as far along b
    array([[13.]], dtype=float32)
    """
    check_network(network)
    x, direction = as_inputs(X, network), _vector("tangent", tangent, network)
    tangents = np.empty((len(x), network.layer_sizes[-1]), network.dtype)
    _compute(network, OUTPUT_TANGENTS, x, None, NO_LOSS, threads, direction=direction, outputs=tangents)
    return tangents


def vjp(network: Network, X: npt.ArrayLike, cotangent: npt.ArrayLike, *, threads: int | None = None) -> Array:
    """Vector-Jacobian product: the gradient with respect to theta of the sum of cotangent ∘ outputs.

    Parameters
    ----------
    network, X, threads
        As of cost_and_gradient.
    cotangent : array_like (n, n_out), or of one output (n,) too
        dE / da[L] of any E that another program computes from the outputs.

    Returns
    -------
    gradient : ndarray (n_parameters,)
        Summed over the samples, not their mean.

    Raises
    ------
    ValueError, TypeError
        X or the cotangent do not fit the network.

    References
    ----------
    Griewank, Walther: Evaluating Derivatives (SIAM 2008), chapter 3, the reverse mode.

    Examples
    --------
    >>> net = Network([2, 1], output="identity")
    >>> vjp(net, [[3, 4], [5, 6]], [[1], [10]])
    array([53., 64., 11.], dtype=float32)

    The Gauss-Newton matrix of the quadratic cost, times a vector:

    >>> X, v = np.ones((5, 2)), np.ones(3)
    >>> product = vjp(net, X, jvp(net, X, v)) / len(X)
    """
    check_network(network)
    x, n_out = as_inputs(X, network), network.layer_sizes[-1]
    shape = (len(x),) if n_out == np.ndim(cotangent) == 1 else (len(x), n_out)
    t = _rows(_numbers("cotangent", cotangent, shape, network).reshape(len(x), n_out))
    return _summed(network, GRADIENT, x, t, NO_LOSS, threads)


def pull_back(network: Network, X: npt.ArrayLike, cotangent: npt.ArrayLike, to_inputs: bool,
              to_theta: bool) -> tuple[Array | None, Array | None]:
    """Return the gradients of the sum of cotangent ∘ outputs, those asked for: to X (n, n_in), and to theta."""
    purpose = INPUT_GRADIENTS if not to_theta else GRADIENT_AND_INPUTS if to_inputs else GRADIENT
    found = _pull_back_of_few(network, X, cotangent, purpose)
    if found is None:
        x = as_inputs(X, network)
        shape = len(x), network.layer_sizes[-1]
        t = _rows(_numbers("the gradient of the outputs", cotangent, shape, network))
        threads = _threads(None, network, x)
        found = _room(network, len(x), purpose, scratch_size(network.layer_sizes, threads, len(x)))
        _compute(network, purpose, x, t, NO_LOSS, threads, **found)
    return found.get("outputs"), found["gradient"][: network.n_parameters] if to_theta else None


def _room(network: Network, n: int, purpose: int, scratch: int = 0) -> dict[str, Array]:
    """Return arrays for the gradients of `pull_back`, named as in the slip."""
    room = {}
    if purpose != GRADIENT:
        room["outputs"] = np.empty((n, network.layer_sizes[0]), network.dtype)
    if purpose != INPUT_GRADIENTS:
        room["gradient"] = aligned(max(network.n_parameters, scratch), network.dtype)
    return room


def _pull_back_of_few(network: Network, X: Any, cotangent: Any, purpose: int) -> dict[str, Array] | None:
    """As _hvp_of_few, for pull_back."""
    if not few.are_few(network, X):
        return None
    workspace, room = network.take_workspace(len(X)), _room(network, len(X), purpose)
    slip = _kept(network, workspace, None, purpose)
    slip.point(**room)
    ended = few.run(slip, network, ANY_TARGETS, X, cotangent, workspace.capacity)
    network.give_back(workspace)
    return None if np.isnan(ended) else room


def hvp(network: Network, X: npt.ArrayLike, y: npt.ArrayLike, vector: npt.ArrayLike, loss: str | Loss | None = None, *,
        sample_weight: npt.ArrayLike | None = None, threads: int | None = None) -> Array:
    """Hessian-vector product: the Hessian of the mean cost with respect to theta, times a vector.

    It takes about as long as two or three gradients and stores no matrix. Newton-CG and trust-region methods need it;
    power iteration with it gives the curvature.

    Parameters
    ----------
    network, X, y, loss, threads, sample_weight
        See cost_and_gradient, whose gradient this differentiates.
    vector : array_like (n_parameters,)

    Returns
    -------
    product : ndarray (n_parameters,)
        At a kink (relu, leaky_relu, elu, selu at 0; mean_absolute at its target, huber at its threshold) the second
        derivative is taken to be 0. All NaN if the cost is not finite.

    Raises
    ------
    ValueError, TypeError
        X, y, the vector or the loss do not fit the network; the loss is a losses.Custom, whose function gives no
        second derivative.

    References
    ----------
    Pearlmutter: Fast Exact Multiplication by the Hessian (Neural Computation 1994), section 3.

    Examples
    --------
    >>> net = Network([2, 1], output="identity", dtype="float64")
    >>> hvp(net, [[3, 4]], [0], [1, 0, 0], loss="quadratic")  # the Hessian is (3, 4, 1)ᵀ (3, 4, 1)
    array([ 9., 12.,  3.])
    """
    check_network(network)
    own = check_loss(loss, network.activations[-1], network.layer_sizes[-1])
    if own.code not in costs.TWICE:
        raise ValueError(f"hvp needs the second derivative of the cost, and a {own} loss gives only the first; take "
                         "differences of cost_and_gradient, or a loss of fastbp.losses")
    direction = _vector("vector", vector, network)
    product = _hvp_of_few(network, X, y, own, direction) if sample_weight is None and threads is None else None
    if product is None:
        data = as_data(X, y, sample_weight, network, own).with_some_weight()
        weights = data.weights / data.weights.mean() if len(data.weights) else NO_WEIGHTS
        product = _summed(network, GRADIENT_TANGENT, data.x, data.t, own.rule(network.dtype.name), threads, weights,
                          direction)
        product /= len(data)
    return product


def _hvp_of_few(network: Network, X: Any, y: Any, loss: Loss, direction: Array) -> Array | None:
    """Compute hvp in one compiled call, in memory of the network; None if X or y do not allow it, see few.run."""
    if not few.are_few(network, X):
        return None
    product, workspace = np.empty(network.n_parameters, network.dtype), network.take_workspace(len(X))
    slip = _kept(network, workspace, loss, GRADIENT_TANGENT)
    slip.point(gradient=product, direction=direction, step_costs=np.zeros(1))
    cost = few.run(slip, network, loss, X, y, workspace.capacity)
    network.give_back(workspace)
    if np.isnan(cost):
        return None
    product /= len(X)
    return product


def _kept(network: Network, workspace: Workspace, loss: Loss | None, purpose: int) -> Slip:
    """Return the workspace's slip for derivatives of few samples; without a loss, targets are dE/da[L]."""
    slip = workspace.few.get((loss, purpose))
    if slip is None:
        slip = bound(network, workspace, purpose, loss.rule(network.dtype.name) if loss else NO_LOSS)
        if purpose == GRADIENT_TANGENT:
            slip.point(tangents=aligned(len(workspace.buffers), network.dtype))
        slip.put(n_gradient=network.n_parameters)
        keep(workspace.few, (loss, purpose), slip)
    return slip


def bound(network: Network, workspace: Workspace, purpose: int, loss: Cost) -> Slip:
    """Return a slip for calls of fastbp.core.derivatives on one thread, and load the machine code for them."""
    slip = workspace.new_slip()
    slip.point(theta=network.theta, clock=workspace.clock, step_costs=np.zeros(1))
    slip.put_data(NO_SAMPLES, NO_SAMPLES, NO_WEIGHTS, NO_ORDER, 0)
    slip.put_loss(loss)
    slip.put_threads(workspace.board(1), 1)
    slip.put(purpose=purpose, piece=CAPACITY, address=build.address_of_derivatives(network.dtype.name,
                                                                                  workspace.layers))
    return slip


def _costs(network: Network, X: npt.ArrayLike, y: Any, loss: str | Loss | None) -> tuple[Inputs, Inputs, Cost]:
    """Return samples, targets and the loss as the kernels read it, checked."""
    own = check_loss(loss, network.activations[-1], network.layer_sizes[-1])
    data = as_data(X, y, None, network, own)
    return data.x, data.t, own.rule(network.dtype.name)


def _numbers(name: str, values: npt.ArrayLike, shape: tuple[int, ...], network: Network) -> Array:
    """Return `values` as a contiguous, finite array of this shape and the network's dtype."""
    given = np.asarray(values)
    if given.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold numbers, got an array of {given.dtype}")
    if given.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {given.shape}")
    with np.errstate(over="ignore"):
        array: Array = np.ascontiguousarray(given, network.dtype)
    if not np.isfinite(array).all():
        at = np.unravel_index(int(np.argmin(np.isfinite(array))), shape)
        raise not_finite(f"{name}[{', '.join(map(str, at))}]", given[at], network.dtype)
    return array


def _vector(name: str, values: npt.ArrayLike, network: Network) -> Array:
    return _numbers(name, values, (network.n_parameters,), network)


def _rows(array: Array) -> Inputs:
    return Inputs(array, describe(array))


def _summed(network: Network, purpose: int, x: Inputs, t: Inputs, loss: Cost, threads: int | None,
            weights: Array = NO_WEIGHTS, direction: Array | None = None) -> Array:
    """Return a vector over the parameters, summed over the samples; all NaN if a sample's cost is not finite."""
    threads = _threads(threads, network, x)
    gradient = aligned(max(network.n_parameters, scratch_size(network.layer_sizes, threads, len(x))), network.dtype)
    finite = _compute(network, purpose, x, t, loss, threads, weights, direction, gradient=gradient)
    total = gradient[: network.n_parameters].copy()
    if not finite:
        total[:] = np.nan
    return total


def _threads(threads: int | None, network: Network, x: Inputs) -> int:
    return choose_threads(threads, 3 * len(x) * network.n_parameters)


def _compute(network: Network, purpose: int, x: Inputs, t: Inputs | None, loss: Cost, threads: int | None,
             weights: Array = NO_WEIGHTS, direction: Array | None = None, **results: Array) -> bool:
    """Fill `results`, named as in the slip, by one call of fastbp.core.derivatives. Return: are all costs finite?"""
    cost, threads = np.zeros(1), _threads(threads, network, x)
    workspace = network.take_workspace(min(len(x), CAPACITY))
    slip, board = bound(network, workspace, purpose, loss), workspace.board(threads)
    slip.point(step_costs=cost, **results)
    if direction is not None:
        slip.point(direction=direction, tangents=aligned(len(workspace.buffers), network.dtype))
    slip.put_data(x.samples, t.samples if t else NO_SAMPLES, weights, NO_ORDER, len(x))
    slip.put(n_gradient=len(results.get("gradient", ())))
    with team.team((engine.run, engine.run_serial), threads, board=board) as (run, threads):
        slip.put_threads(board, threads)
        run(slip.vector, threads)
    network.give_back(workspace)
    return bool(np.isfinite(cost[0]))
