"""Vanishing gradients: the size of the error, delta, in each layer, for any activation, initial weights and depth."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.checks import whole_number
from fastbp.initialization import Initializer
from fastbp.inputs import Data
from fastbp.insight.record import Record, table
from fastbp.insight.values import checked, layer_values, some
from fastbp.losses import Loss
from fastbp.network import Network
from fastbp.workspace import Array


def small_normal(draw: np.random.Generator, n_in: int, n_out: int) -> Array:
    """Initial weights of mean 0 and standard deviation 0.1, whatever the layer's size."""
    return draw.normal(0, 0.1, (n_in, n_out))


@dataclass(frozen=True, repr=False)
class LayerErrors(Record):
    """What `layer_errors` returns: the size of delta in each layer; printed as a table, drawn as a curve.

    Attributes
    ----------
    rms : ndarray (L,)
        Root of the mean square of delta over samples and neurons, in float64. NaN if the cost is not finite.
    cost : float
        Mean cost of the samples.

    Examples
    --------
    >>> LayerErrors(np.array([0.25, 1.0]), 0.5)
    LayerErrors: sizes (rms) of delta, cost 0.5
    layer  delta  from the next layer
        0   0.25               × 0.25
        1      1
    """

    rms: Array
    cost: float

    def __repr__(self) -> str:
        with np.errstate(all="ignore"):  # sizes may be 0, infinite or NaN
            steps = [*(f"× {factor:.3g}" for factor in self.rms[:-1] / self.rms[1:]), ""]
        return table(f"LayerErrors: sizes (rms) of delta, cost {self.cost:.4g}",
                     ("layer", "delta", "from the next layer"), *zip(range(len(steps)), self.rms, steps, strict=True))

    def _draw(self, figure: Any) -> None:
        axes = figure.subplots()
        axes.semilogy(range(len(self.rms)), self.rms, marker=".")
        axes.set(xlabel="layer", ylabel="rms of delta")


def layer_errors(network: Network, X: npt.ArrayLike, y: npt.ArrayLike, loss: str | Loss | None = None) -> LayerErrors:
    """Measure the size of the error, delta = dE/dz, in each layer of a network: does it vanish, does it explode?

    A step back multiplies the error by the weights and by f'(z), and f' of a sigmoid is at most 1/4.

    Parameters
    ----------
    network : Network
    X, y, loss
        See `cost_and_gradient`. Of more than 256 samples, 256 are taken from all over the data.

    Returns
    -------
    LayerErrors

    Raises
    ------
    ValueError, TypeError
        X, y or the loss do not fit the network, or a parameter is not finite.

    References
    ----------
    Bengio, Simard, Frasconi: Learning Long-Term Dependencies with Gradient Descent is Difficult (IEEE Transactions on
    Neural Networks 1994).

    Examples
    --------
    A chain of sigmoid neurons at z = 0 with weights of 1:

    >>> net = Network([1, 1, 1, 1, 1], hidden="sigmoid", output="identity", weights=lambda *_: np.ones((1, 1)))
    >>> net.b[1], net.b[2] = -0.5, -0.5
    >>> layer_errors(net, [[0.0]], [[-0.5]])
    LayerErrors: sizes (rms) of delta, cost 0.5
    layer   delta  from the next layer
        0  0.0156               × 0.25
        1  0.0625               × 0.25
        2    0.25               × 0.25
        3       1
    """
    data, own = checked(network, X, y, loss)
    return _errors(network, some(data), own)


def _errors(network: Network, data: Data, loss: Loss) -> LayerErrors:
    workspace, _, cost = layer_values(network, data, loss)
    with np.errstate(all="ignore"):
        rms = [np.sqrt(np.mean(np.square(delta, dtype=np.float64))) for delta in workspace.delta]
    return LayerErrors(np.array(rms), cost)


@dataclass(frozen=True, repr=False)
class DepthExperiment(Record):
    """What `vanishing_gradients` returns: the size of delta in each layer of many networks.

    Printed as a table; drawn over the steps back from the output, in a panel for each activation and initial weights.

    Attributes
    ----------
    errors : dict of LayerErrors
        By hidden activation, initial weights and number of hidden layers: ``errors["sigmoid", "he_normal", 10]``.

    Examples
    --------
    >>> DepthExperiment({("tanh", "glorot_uniform", 2): LayerErrors(np.array([0.01, 0.1, 1.0]), 0.5)})
    DepthExperiment: sizes (rms) of delta in the first and last layer, and the factor of a step back
    hidden         weights  depth  first  last  a step
      tanh  glorot_uniform      2   0.01     1   × 0.1
    """

    errors: dict[tuple[str, str, int], LayerErrors]

    def __repr__(self) -> str:
        with np.errstate(all="ignore"):
            rows = [(*key, errors.rms[0], errors.rms[-1], f"× {(errors.rms[0] / errors.rms[-1]) ** (1 / key[2]):.3g}")
                    for key, errors in self.errors.items()]
        return table("DepthExperiment: sizes (rms) of delta in the first and last layer, and the factor of a step back",
                     ("hidden", "weights", "depth", "first", "last", "a step"), *rows)

    def _draw(self, figure: Any) -> None:
        hidden, weights = (list(dict.fromkeys(key[i] for key in self.errors)) for i in range(2))
        figure.set_size_inches(1 + 2.6 * len(weights), 0.6 + 2 * len(hidden))
        panels = figure.subplots(len(hidden), len(weights), squeeze=False, sharex=True, sharey=True)
        for (name, start, depth), errors in self.errors.items():
            panel = panels[hidden.index(name), weights.index(start)]
            panel.semilogy(range(len(errors.rms)), errors.rms[::-1], marker=".", markersize=3, label=str(depth))
            panel.set_title(f"{name}, weights {start}", fontsize=9)
        panels[0, 0].legend(title="hidden layers", fontsize=7, title_fontsize=7)
        figure.supxlabel("steps back from the output")
        figure.supylabel("rms of delta")


def vanishing_gradients(network: Network, X: npt.ArrayLike, y: npt.ArrayLike, loss: str | Loss | None = None, *,
                        hidden: Sequence[str] = ("sigmoid", "tanh", "relu"),
                        weights: Sequence[str | Initializer] = (small_normal, "glorot_uniform", "he_normal"),
                        depths: Sequence[int] = (2, 5, 10, 20), seed: int = 0) -> DepthExperiment:
    """Measure how the error shrinks or grows on its way back, for each activation, initial weights and depth.

    Parameters
    ----------
    network : Network
        It has at least one hidden layer, whose width all hidden layers get. The networks of the experiment have its
        inputs, outputs and dtype; it is not changed.
    X, y, loss
        See `layer_errors`.
    hidden : sequence of str
        Activations of the hidden layers, see Network.
    weights : sequence of str or function
        Initial weights, see Network; small_normal has the standard deviation 0.1 in layers of every size.
    depths : sequence of int
        Numbers of hidden layers, >= 1.
    seed : int
        Of the initial weights.

    Returns
    -------
    DepthExperiment

    Raises
    ------
    ValueError, TypeError
        X, y, the loss or a setting is not valid, or the network has no hidden layer.

    References
    ----------
    Glorot, Bengio: Understanding the difficulty of training deep feedforward neural networks (AISTATS 2010), section 4.
    He, Zhang, Ren, Sun: Delving Deep into Rectifiers (ICCV 2015), section 2.2.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(100, 8))
    >>> found = vanishing_gradients(Network([8, 32, 2]), X, (X[:, 0] > 0).astype(int), depths=[3, 12])
    >>> deep = found.errors["sigmoid", "glorot_uniform", 12].rms
    >>> bool(deep[0] < 1e-6 * deep[-1])
    True
    """
    data, own = checked(network, X, y, loss)
    if len(network.layer_sizes) == 2:
        raise ValueError("the network has no hidden layer, whose width those of the experiment get; give "
                         "Network([n_in, width, n_out])")
    n_in, width, *_, n_out = network.layer_sizes
    errors, part = {}, some(data)
    starts = {getattr(start, "__name__", str(start)): start for start in weights}
    if len(starts) < len(weights):
        raise ValueError("two of the initial weights have the same name; give each once, and functions names by def")
    for name, (called, start), depth in itertools.product(hidden, starts.items(), depths):
        sizes = [n_in, *[width] * whole_number("a depth", depth, 1), n_out]
        net = Network(sizes, name, network.activations[-1], network.dtype, seed, start, network.input_scale)
        errors[net.activations[0], called, depth] = _errors(net, part, own)
    return DepthExperiment(errors)
