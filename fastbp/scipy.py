"""What optimisers of SciPy ask for: cost, gradient and Hessian-vector products at parameters that they choose."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.checks import not_negative
from fastbp.derivatives import hvp
from fastbp.gradient import cost_and_gradient
from fastbp.inputs import as_data
from fastbp.losses import Loss
from fastbp.network import Network, check_loss, check_network
from fastbp.workspace import Array


class Objective:
    """The mean cost of some samples, and half of l2 times the squared norm of the weights, as a function of theta.

    The network itself is never written to. Arrays that need no conversion are not copied.

    Parameters
    ----------
    network, X, y, loss, sample_weight, l2, threads
        See `fastbp.objective`, which makes one.

    Attributes
    ----------
    x0 : ndarray (n_parameters,), float64
        The network's parameters when this was made, to begin with.

    Raises
    ------
    ValueError, TypeError
        X, y or the loss do not fit the network.

    Examples
    --------
    >>> from fastbp import Network, objective
    >>> cost = objective(Network([2, 1], output="identity", weights="zeros"), [[3.0, 4.0]], [2.0])
    >>> value, gradient = cost(cost.x0)
    >>> value, gradient
    (2.0, array([-6., -8., -2.]))
    """

    def __init__(self, network: Network, X: npt.ArrayLike, y: npt.ArrayLike, loss: str | Loss | None = None, *,
                 sample_weight: npt.ArrayLike | None = None, l2: float = 0.0, threads: int | None = None):
        own = check_network(network)
        self._loss = check_loss(loss, own.activations[-1], own.layer_sizes[-1])
        data = as_data(X, y, sample_weight, own, self._loss, sparse=True).with_some_weight()
        self._samples = data.x.array, data.t.array if data.t.labels is None else data.t.labels
        self._given: dict[str, Any] = {"sample_weight": data.weights if len(data.weights) else None, "threads": threads}
        self.x0: Array = own.theta.astype(float)
        self._network = copy.deepcopy(own)
        self._network.classes = None  # targets are numbers from here on
        self._pull = np.zeros(own.n_parameters)  # l2 for weights, 0 for biases
        for W in own.views(self._pull)[0]:
            W[...] = not_negative("l2", l2)

    def __call__(self, theta: Array) -> tuple[float, Array]:
        """Cost and gradient at theta.

        The gradient is a new array each time: BFGS, CG and others of SciPy keep what they are given.
        """
        self._network.theta = theta
        cost, gradient = cost_and_gradient(self._network, *self._samples, self._loss, **self._given)
        pulls = self._pull * theta
        return float(cost + 0.5 * (pulls @ theta)), gradient + pulls

    def hessp(self, theta: Array, vector: Array) -> Array:
        """Hessian at theta, times a vector.

        Parameters
        ----------
        theta, vector : ndarray (n_parameters,)

        Returns
        -------
        ndarray (n_parameters,), float64
            See `hvp`.

        Raises
        ------
        ValueError
            The loss is a losses.Custom, which gives no second derivative.

        Examples
        --------
        >>> from fastbp import Network, objective
        >>> cost = objective(Network([1, 1], output="identity"), [[2.0]], [0.0], l2=0.5)
        >>> cost.hessp(cost.x0, np.array([1.0, 0.0]))
        array([4.5, 2. ])
        """
        self._network.theta = theta
        return hvp(self._network, *self._samples, vector, self._loss, **self._given) + self._pull * vector


def objective(network: Network, X: npt.ArrayLike, y: npt.ArrayLike, loss: str | Loss | None = None, *,
              sample_weight: npt.ArrayLike | None = None, l2: float = 0.0, threads: int | None = None) -> Objective:
    """Return what `scipy.optimize.minimize` minimises: a function of theta that gives cost and gradient.

    Parameters
    ----------
    network : Network
        Its parameters are where to begin, as the float64 vector x0. It is not written to: put the result into it.
    X, y, loss, sample_weight, threads
        As of `cost_and_gradient`.
    l2 : float
        >= 0: half of it, times the squared norm of all weights without biases, is added to the cost. scikit-learn's
        alpha is l2 times the number of samples.

    Returns
    -------
    Objective
        To be called with theta, for `jac=True`; its `hessp` is for Newton-CG and trust-region methods.

    Raises
    ------
    ValueError, TypeError
        X, y or the loss do not fit the network, or l2 is out of its range.

    References
    ----------
    Nocedal, Wright: Numerical Optimization (Springer 2006), chapters 6 and 7, for the methods.

    Examples
    --------
    >>> from scipy.optimize import minimize
    >>> from fastbp import Network, objective
    >>> x = np.linspace(-2, 2, 50)[:, np.newaxis]
    >>> net = Network([1, 10, 1], hidden="tanh", output="identity", seed=0, dtype="float64")
    >>> cost = objective(net, x, np.sin(2 * x))
    >>> result = minimize(cost, cost.x0, jac=True, method="L-BFGS-B")
    >>> net.theta = result.x
    >>> bool(np.abs(net.forward(x) - np.sin(2 * x)).max() < 0.1)
    True
    """
    return Objective(network, X, y, loss, sample_weight=sample_weight, l2=l2, threads=threads)
