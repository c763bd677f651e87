"""Sensitivity: which parameters and which inputs move the cost most, and which weights one sample strengthens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.checks import counted
from fastbp.derivatives import input_gradients
from fastbp.figures import column_names
from fastbp.gradient import cost_and_gradient
from fastbp.inputs import as_inputs
from fastbp.insight.record import Record, draw_picture, image_shape, table
from fastbp.insight.values import checked, layer_values, name_of, one_sample, place_of
from fastbp.losses import Loss
from fastbp.network import Network, check_network, check_theta
from fastbp.workspace import Array, parameter_offsets

LISTED, PICTURES = 8, 8  # rows of a printed table, pictures in a row
KEPT, SIDE = 100, 40  # pairs of a HebbianPairs; neurons on a side of its picture


@dataclass(frozen=True, repr=False)
class Sensitivity(Record):
    """What `sensitivity` returns: the gradient of the cost, ranked.

    Drawn as the weights of the first layer, and their gradients below: a picture for each of the eight neurons with the
    largest gradients if the inputs may be a square image; else one of all.

    Attributes
    ----------
    layer_sizes : tuple of int
    theta, gradient : ndarray (n_parameters,)
        Copies of the parameters, and dE/dtheta.
    cost : float
        The mean cost E.
    ranking : ndarray (n_parameters,), int64
        Indices into theta, those with the largest size of dE/dtheta first.
    layer_rms, layer_share : ndarray (L,)
        Root of the mean square of each layer's dE/dtheta, and the layer's share of the sum of all squares: of the fall
        of the cost by a small step of gradient descent.

    Examples
    --------
    >>> found = sensitivity(Network([2, 1], output="identity", weights="zeros"), [[1.0, 32.0]], [-0.1])
    >>> found.name_of(found.ranking[0])
    'net.W[0][1, 0]'
    """

    layer_sizes: tuple[int, ...]
    theta: Array
    gradient: Array
    cost: float
    ranking: Array
    layer_rms: Array
    layer_share: Array

    def name_of(self, i: int) -> str:
        """Return what parameter theta[i] is called, such as W[0][12, 3]: from neuron 12 to neuron 3, or b[0][3].

        Parameters
        ----------
        i : int
            Index into theta.

        Raises
        ------
        IndexError
            There is no such parameter.

        Examples
        --------
        >>> sensitivity(Network([3, 2]), np.eye(3), [0, 1, 1]).name_of(7)
        'net.b[0][1]'
        """
        if not 0 <= i < len(self.theta):
            raise IndexError(f"theta has no parameter {i}; it has {len(self.theta):,}")
        return name_of(i, self.layer_sizes)

    def __repr__(self) -> str:
        rms = np.sqrt(np.mean(np.square(self.gradient, dtype=np.float64))) or 1.0
        most = [(self.name_of(i), self.theta[i], self.gradient[i], abs(self.gradient[i]) / rms)
                for i in self.ranking[:LISTED]]
        layers = [(l, size, f"{share:.1%}") for l, (size, share) in enumerate(
            zip(self.layer_rms, self.layer_share, strict=True))]
        return "\n".join([table(f"Sensitivity of the cost {self.cost:.4g} to {len(self.theta):,} parameters",
                                ("parameter", "value", "dE/dtheta", "times the rms"), *most),
                          table("by layer:", ("layer", "rms of dE/dtheta", "share of the squares"), *layers)])

    def _draw(self, figure: Any) -> None:
        n_in, n_out = self.layer_sizes[:2]
        shape = image_shape(n_in)
        pair = [vector[: n_in * n_out].reshape(n_in, n_out).T for vector in (self.theta, self.gradient)]
        neurons = np.argsort(-np.square(pair[1]).sum(axis=1), kind="stable")[:PICTURES]
        columns = len(neurons) if shape[0] > 1 else 1
        figure.set_size_inches(max(6, 1 + 1.3 * columns), 3.6)
        panels = figure.subplots(2, columns, squeeze=False)
        for row, name, rows in zip(panels, ("weights", "gradients"), pair, strict=True):
            for axes, j in zip(row, neurons, strict=False):
                picture, title = (rows[j].reshape(shape), f"neuron {j}") if shape[0] > 1 else (rows, "")
                drawn = draw_picture(axes, picture, title, np.abs(rows).max())
            row[0].set_ylabel(name)
            figure.colorbar(drawn, ax=list(row), shrink=0.8)


def sensitivity(network: Network, X: npt.ArrayLike, y: npt.ArrayLike, loss: str | Loss | None = None) -> Sensitivity:
    """Rank the parameters by how much a small change of each moves the mean cost: by the size of dE/dtheta.

    One whose component is 3.2 moves the cost, for the same change, 32 times as much as one with 0.1.

    Parameters
    ----------
    network : Network
    X, y, loss
        See `cost_and_gradient`.

    Returns
    -------
    Sensitivity

    Raises
    ------
    ValueError, TypeError
        X, y or the loss do not fit the network, or a parameter is not finite.

    Examples
    --------
    >>> net = Network([2, 1], output="identity", weights="zeros")
    >>> sensitivity(net, [[32.0, 1.0]], [-0.1])
    Sensitivity of the cost 0.005 to 3 parameters
         parameter  value  dE/dtheta  times the rms
    net.W[0][0, 0]      0        3.2           1.73
    net.W[0][1, 0]      0        0.1         0.0541
       net.b[0][0]      0        0.1         0.0541
    by layer:
    layer  rms of dE/dtheta  share of the squares
        0              1.85                100.0%
    """
    check_theta(check_network(network))
    cost, gradient = cost_and_gradient(network, X, y, loss)
    squares = np.square(gradient, dtype=np.float64)
    offsets = parameter_offsets(network.layer_sizes)
    layers = [squares[begin:end] for (begin, _), (end, _) in zip(offsets, offsets[1:], strict=False)]
    sums, total = np.array([layer.sum() for layer in layers]), squares.sum()
    return Sensitivity(network.layer_sizes, network.theta.copy(), gradient, cost,
                       np.argsort(-squares, kind="stable"), np.sqrt([layer.mean() for layer in layers]),
                       sums / total if total else sums)


@dataclass(frozen=True, repr=False)
class Saliency(Record):
    """What `saliency` returns: how much each input of each sample moves a cost or an output.

    Drawn as the first samples, at most eight, with the map of its gradient below each: red raises, blue lowers.

    Attributes
    ----------
    inputs : ndarray (n, n_in)
        The samples, before they are multiplied by the network's input_scale.
    gradients : ndarray (n, n_in)
        Derivatives with respect to them.
    names : list of str
        What the inputs are called.
    of : str
        What was differentiated: "the cost" or "output k".

    Examples
    --------
    >>> Saliency(np.ones((1, 2)), np.array([[0.5, -2.0]]), ["column 0", "column 1"], "output 1")
    Saliency for output 1 of 1 sample with 2 inputs
       input  mean size of the gradient
    column 1                          2
    column 0                        0.5
    """

    inputs: Array
    gradients: Array
    names: list[str]
    of: str

    def __repr__(self) -> str:
        size = np.abs(self.gradients).mean(axis=0, dtype=np.float64)
        rows = [(self.names[k], size[k]) for k in np.argsort(-size, kind="stable")[:LISTED]]
        return table(f"Saliency for {self.of} of {counted(len(self.inputs), 'sample')} with {len(size)} inputs",
                     ("input", "mean size of the gradient"), *rows)

    def _draw(self, figure: Any) -> None:
        n, shape = min(PICTURES, len(self.inputs)), image_shape(self.inputs.shape[1])
        figure.set_size_inches(max(6, 1 + 1.3 * n), 3.2)
        panels = figure.subplots(2, n, squeeze=False)
        for i, (above, below) in enumerate(panels.T):
            draw_picture(above, self.inputs[i].reshape(shape), f"sample {i}")
            draw_picture(below, self.gradients[i].reshape(shape), limit=np.abs(self.gradients[i]).max())
        panels[0, 0].set_ylabel("input")
        panels[1, 0].set_ylabel(f"gradient of {self.of}", fontsize=8)


def saliency(network: Network, X: npt.ArrayLike, y: npt.ArrayLike | None = None, loss: str | Loss | None = None, *,
             output: int | None = None) -> Saliency:
    """Return how a small change of each input would change the cost of its sample, or one output: for an image, a map.

    Parameters
    ----------
    network, X, y, loss, output
        See `input_gradients`: give y, or output=k.

    Returns
    -------
    Saliency

    Raises
    ------
    ValueError, TypeError
        X, y or the loss do not fit the network, or a parameter is not finite; both or neither of y and output are
        given.

    References
    ----------
    Simonyan, Vedaldi, Zisserman: Deep Inside Convolutional Networks: Visualising Image Classification Models and
    Saliency Maps (2013), arXiv:1312.6034, section 3.

    Examples
    --------
    >>> net = Network([4, 8, 3], seed=0)
    >>> saliency(net, np.eye(4), [0, 1, 2, 2]).gradients.shape
    (4, 4)
    """
    check_theta(check_network(network))
    gradients = input_gradients(network, X, y, loss, output=output)
    inputs = as_inputs(X, network).array
    names = column_names(network.feature_names or (), inputs.shape[1])
    return Saliency(np.array(inputs), gradients, names, "the cost" if output is None else f"output {output}")


@dataclass(frozen=True, repr=False)
class HebbianPairs(Record):
    """What `hebbian_pairs` returns: how one sample changes each weight.

    Drawn as the growth of each layer's weights, at most 40 by 40, evenly spaced: senders from the most active one
    downwards, receivers from the one that should receive most to the right.

    Attributes
    ----------
    a : list of ndarray (n,)
        Activations of each layer; a[0] is the sample, as the network reads it, a[l] what layer l receives and a[l + 1]
        what it sends.
    wanted : list of ndarray (n_out,)
        -delta of each layer l: above 0 if the neuron should receive more, below 0 if less.
    growth : list of ndarray (n_in, n_out)
        -dE/dW[l] = a[l] of the sender times wanted[l] of the receiver: how fast gradient descent, with eta 1, changes
        each weight.
    pairs : ndarray (up to 100, 3), int64
        Layer, sender and receiver of the weights that grow most, the first most.
    cost : float
        Of the sample.

    Examples
    --------
    >>> found = hebbian_pairs(Network([3, 2], weights="zeros"), [0.0, 1.0, 0.5], 1)
    >>> l, sender, receiver = found.pairs[0]
    >>> int(sender), int(receiver), float(found.growth[l][sender, receiver])
    (1, 1, 0.5)
    """

    a: list[Array]
    wanted: list[Array]
    growth: list[Array]
    pairs: Array
    cost: float

    def __repr__(self) -> str:
        rows = [(l, i, self.a[l][i], j, self.a[l + 1][j], self.wanted[l][j], self.growth[l][i, j])
                for l, i, j in self.pairs[:LISTED]]
        return table(f"HebbianPairs: the weights that one sample, of cost {self.cost:.4g}, strengthens most", (
            "layer", "sender", "its activation", "receiver", "its activation", "wanted", "growth"), *rows)

    def _draw(self, figure: Any) -> None:
        figure.set_size_inches(3.4 * len(self.growth), 3.4)
        for l, axes in enumerate(figure.subplots(1, len(self.growth), squeeze=False)[0]):
            rows, columns = (np.argsort(-by, kind="stable")[:: 1 + len(by) // SIDE]
                             for by in (self.a[l], self.wanted[l]))
            drawn = draw_picture(axes, self.growth[l][np.ix_(rows, columns)], f"growth of W[{l}]",
                                 np.abs(self.growth[l]).max())
            axes.set(xlabel="receivers, most wanted first", ylabel="senders, most active first")
            figure.colorbar(drawn, ax=axes, shrink=0.8)


def hebbian_pairs(network: Network, x: npt.ArrayLike, t: npt.ArrayLike, loss: str | Loss | None = None) -> HebbianPairs:
    """Return which weights one sample strengthens most: those from active senders to receivers that should be active.

    "Fire together, wire together", with one difference: what counts of the receiver is not its activation, but the
    error that comes back to it:

        -dE/dW[l] = a[l-1]ᵀ (-delta[l])

    Parameters
    ----------
    network : Network
    x : array_like (n_in,) or (1, n_in)
        One sample; the index of a pandas Series names its features.
    t : label, name of a class, number, or array_like (n_out,) or (1, n_out)
        Its target.
    loss : str or one of fastbp.losses, optional
        See Trainer.

    Returns
    -------
    HebbianPairs

    Raises
    ------
    ValueError, TypeError
        x or t is not one sample that fits the network, or a parameter is not finite.

    References
    ----------
    Hebb: The Organization of Behavior (1949), chapter 4.
    Rumelhart, Hinton, Williams: Learning representations by back-propagating errors (Nature 1986), equation 6.

    Examples
    --------
    >>> net = Network([3, 2], weights="zeros")
    >>> hebbian_pairs(net, [0.0, 1.0, 0.5], 1)
    HebbianPairs: the weights that one sample, of cost 0.6931, strengthens most
    layer  sender  its activation  receiver  its activation  wanted  growth
        0       1               1         1             0.5     0.5     0.5
        0       2             0.5         1             0.5     0.5    0.25
    """
    data, own = checked(network, *one_sample(x, t), loss)
    workspace, gradient, cost = layer_values(network, data, own)
    vector = np.negative(gradient)
    for b in network.views(vector)[1]:
        b[:] = 0
    pairs = [place_of(i, network.layer_sizes) for i in np.argsort(-vector, kind="stable")[:KEPT] if vector[i] > 0]
    return HebbianPairs([layer[0] for layer in workspace.a], [-delta[0] for delta in workspace.delta],
                        network.views(vector)[0], np.array(pairs, np.int64).reshape(-1, 3), cost)
