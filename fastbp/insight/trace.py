"""One sample through the five equations: the numbers that the compiled core computed, and what they were made of."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastbp.checks import whole_number
from fastbp.core import equations
from fastbp.core.activations import IDENTITY, SOFTMAX
from fastbp.core.call import ACTIVATION
from fastbp.core.costs import CUSTOM, TIMES_PRIME
from fastbp.inputs import as_data
from fastbp.insight.drawing import draw_network
from fastbp.insight.record import Record, largest
from fastbp.insight.values import layer_values, one_sample
from fastbp.losses import Loss, MeanAbsolute
from fastbp.network import Network, check_loss, check_network
from fastbp.optimizers import SGD, Optimizer
from fastbp.workspace import Array, Workspace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FLAT = 0.01  # a slope below this lets hardly any error through: sigmoid's is at most 0.25, tanh's 1
NEURONS, TERMS = 6, 4  # most that are printed: of a layer, and of a sum


@dataclass(frozen=True, repr=False, eq=False)
class Trace(Record):
    """What the compiled core computed for one sample; `print` shows it, `plot` draws it: forward, neurons by what they
    send and lines by weight, and backward, neurons by their error and lines by gradient.

    Lists have an entry for each layer, layer 0 first, as `network.W` has. The texts count layers from 1, as the five
    equations do.

    Attributes
    ----------
    network : Network
        A copy of the network as it was.
    loss, optimizer
        Whose cost and whose step they are.
    x : ndarray (n_in,)
        The sample as it was given; a[0] is x times network.input_scale.
    t : ndarray (n_out,)
        Targets of the outputs.
    a : list of ndarray (neurons,)
        a[0] is the input, a[l + 1] what layer l sends on; the last one is the output.
    z, delta : list of ndarray (neurons,)
        z[l] = a[l] W[l] + b[l] and delta[l] = dE/dz[l] of layer l.
    slopes : list of ndarray (neurons,), or last of None
        f'(z[l]); None for softmax, each of whose outputs depends on all z.
    sums : list of ndarray (neurons,)
        delta[l + 1] W[l + 1]ᵀ of each hidden layer l, which times its slope is delta[l].
    sensitivity : ndarray (n_out,) or None
        dE/da of the outputs, which times their slope is the output error; None where the output error comes from z
        at once, since the slope cancels (sigmoid with binary_cross_entropy, softmax with cross_entropy, and Poisson).
    cost : float
        E, in the unit of the loss.
    dW, db : list of ndarray (n_in, n_out) and (n_out,)
        Gradients of E. dW[l][j, k] = a[l][j] delta[l][k].
    updated : Network
        A copy of the network after one step by this sample alone, of an optimizer without memory of earlier steps.

    Examples
    --------
    >>> seen = trace(Network([2, 3, 2], seed=0), [1.0, 0.5], 1)
    >>> bool((seen.sums[0] * seen.slopes[0] == seen.delta[0]).all())
    True
    """

    network: Network
    loss: Loss
    optimizer: Optimizer
    x: Array
    t: Array
    a: list[Array]
    z: list[Array]
    delta: list[Array]
    slopes: list[Array | None]
    sums: list[Array]
    sensitivity: Array | None
    cost: float
    dW: list[Array]
    db: list[Array]
    updated: Network = field(repr=False)

    @property
    def saturated(self) -> list[Array]:
        """Which neurons of each layer have a slope below 0.01, so that hardly any error passes: bool (neurons,).

        Examples
        --------
        >>> trace(Network([1, 1, 1], hidden="sigmoid", output="identity", weights="zeros"), [0.0], [1.0]).saturated
        [array([False]), array([False])]
        """
        return [np.zeros(len(z), bool) if slope is None else np.abs(slope) < FLAT
                for z, slope in zip(self.z, self.slopes, strict=True)]

    def steps(self) -> list[tuple[str, str]]:
        """Return title and text of each step: forward layer by layer, output error, backward, gradients, update.

        Of wide layers the texts show the neurons with the largest errors, and of long sums the largest terms.

        Returns
        -------
        steps : list of (str, str)

        Examples
        --------
        >>> for title, text in trace(Network([1, 1], output="identity", weights="zeros"), [2.0], [3.0]).steps()[:2]:
        ...     print(title, text, sep="\\n")
        Forward pass, layer 1: z[1] = a[0] W[1] + b[1], a[1] = identity(z[1])
          neuron 0: z = 2*0 + 0 = 0, a = 0
        Output error: delta[1] = dE/dz[1]
          E = 4.5
          neuron 0: a = 0, t = 3; dE/da = -3 times f'(z) = 1 = -3
        """
        last = len(self.z)
        forward = [(f"Forward pass, layer {l}: z[{l}] = a[{l - 1}] W[{l}] + b[{l}], a[{l}] = "
                    f"{self.network.activations[l - 1]}(z[{l}])", self._forward(l - 1)) for l in range(1, last + 1)]
        error = (f"Output error: delta[{last}] = dE/dz[{last}]", self._output_error())
        backward = [(f"Backward, layer {l}: delta[{l}] = (delta[{l + 1}] W[{l + 1}]ᵀ) f'(z[{l}])",
                     self._backward(l - 1)) for l in range(last - 1, 0, -1)]
        return [*forward, error, *backward,
                ("Weight gradients: dE/dW[l] = a[l-1] times delta[l], dE/db[l] = delta[l]", self._gradients()),
                (f"Update by {type(self.optimizer).__name__}(eta={self.optimizer.eta})", self._update())]

    def asks(self, output: int) -> str:
        """Return what the sample asks of one output neuron: up or down, and through what.

        Parameters
        ----------
        output : int
            Index of the neuron, from 0.

        Returns
        -------
        text : str

        Raises
        ------
        ValueError, TypeError
            There is no such neuron.

        Examples
        --------
        >>> print(trace(Network([1, 1], output="identity", weights="zeros"), [2.0], [3.0]).asks(0))
        output 0 is 0, its target 3: z should go up; its error is -3
          through its bias: + 3 per unit of learning rate
          through the weight from input 0, which sends 2: + 6
        """
        k = whole_number("output", output, 0, len(self.t) - 1)
        wish, weights, sent = -self.delta[-1][k], self.network.W[-1][:, k], self.a[-2]
        if wish == 0:
            return f"output {k}: asks for nothing, its error is 0"
        told = [f"output {k} is {_n(self.a[-1][k])}, its target {_n(self.t[k])}: z should go "
                f"{'up' if wish > 0 else 'down'}; its error is {_n(-wish)}",
                f"  through its bias: {_signed(wish)} per unit of learning rate"]
        told += [f"  through the weight from {self._sender(j)}, which sends {_n(sent[j])}: {_signed(sent[j] * wish)}"
                 for j in largest(np.abs(sent), TERMS) if sent[j]]
        if len(self.z) > 1:
            told += [f"  by the activation of {self._sender(j)}, with the weight {_n(weights[j])}: it should go "
                     f"{'up' if weights[j] * wish > 0 else 'down'} ({_signed(weights[j] * wish)})"
                     for j in largest(np.abs(weights), TERMS) if weights[j]]
        return "\n".join(told)

    def wanting(self) -> list[int]:
        """Return the outputs of which the sample asks most.

        Returns
        -------
        outputs : list of int
            Indices of up to four neurons, the largest error first.

        Examples
        --------
        >>> trace(Network([1, 3], weights="zeros"), [1.0], 2).wanting()
        [2, 0, 1]
        """
        return largest(np.abs(self.delta[-1]), TERMS)

    def __repr__(self) -> str:
        steps = [f"{i}. {title}\n{text}" for i, (title, text) in enumerate(self.steps(), 1)]
        return "\n".join([self.heading(), *steps])

    def heading(self) -> str:
        """Return a line on what was traced and, if a number is not finite, one on which is the first.

        Examples
        --------
        >>> trace(Network([1, 1], output="identity", weights="zeros"), [2.0], [3.0]).heading()
        'One sample through 1-1; layer l is network.W[l - 1]; E = quadratic = 4.5'
        """
        told = (f"One sample through {'-'.join(map(str, self.network.layer_sizes))}; layer l is network.W[l - 1]; "
                f"E = {self.loss.name} = {_n(self.cost)}")
        names = [f"{name}[{l}]" for l in range(1, len(self.z) + 1) for name in "Wbz"]
        arrays = [array for l in range(len(self.z)) for array in (self.network.W[l], self.network.b[l], self.z[l])]
        for name, array in zip(names, arrays, strict=True):
            if not np.isfinite(array).all():
                at = [int(i) for i in np.argwhere(~np.isfinite(array))[0]]
                return f"{told}\nThe first number that is not finite: {name}{at} = {array[tuple(at)]}"
        return told

    def _draw(self, figure: Figure) -> None:
        figure.set_size_inches(12, 5)
        forward, backward = figure.subplots(1, 2)
        important = [np.abs(self.dW[0]).max(axis=1), *map(np.abs, self.delta)]
        draw_network(forward, self.a, self.network.W, important, f"forward: a and W; E = {_n(self.cost)}")
        draw_network(backward, [self.a[0], *self.delta], self.dW, important, "backward: input, delta and dE/dW")

    def _sender(self, j: int) -> str:
        names = self.network.feature_names
        return f"hidden neuron {j}" if len(self.z) > 1 else f"input {j}" if names is None else names[j]

    def _shown(self, l: int) -> tuple[list[int], list[str]]:
        """Return the neurons of layer l to print, and a line that says so if they are not all."""
        shown, n = sorted(largest(np.abs(self.delta[l]), NEURONS)), len(self.z[l])
        return shown, [f"  ({len(shown)} of {n} neurons, those with the largest errors)"] if len(shown) < n else []

    def _forward(self, l: int) -> str:
        (shown, more), W, b = self._shown(l), self.network.W[l], self.network.b[l]
        return "\n".join([f"  neuron {k}: z = {_terms(self.a[l], W[:, k])} {_signed(b[k])} = {_n(self.z[l][k])}, "
                          f"a = {_n(self.a[l + 1][k])}{self._mark(l, k)}" for k in shown] + more)

    def _mark(self, l: int, k: int) -> str:
        slope = self.slopes[l]
        return "" if slope is None or not self.saturated[l][k] else f"  saturated: its slope is {_n(slope[k])}"

    def _output_error(self) -> str:
        (shown, more), slope, told = self._shown(len(self.z) - 1), self.slopes[-1], [f"  E = {_n(self.cost)}"]
        for k in shown:
            a, t, error = _n(self.a[-1][k]), _n(self.t[k]), _n(self.delta[-1][k])
            if self.sensitivity is None:
                told.append(f"  neuron {k}: a = {a}, t = {t}, delta = {error}{self._why_no_slope()}")
            else:
                times = f"its Jacobian = {error}" if slope is None else f"f'(z) = {_n(slope[k])} = {error}"
                told.append(f"  neuron {k}: a = {a}, t = {t}; dE/da = {_n(self.sensitivity[k])} times {times}")
        return "\n".join(told + more)

    def _why_no_slope(self) -> str:
        return "" if self.loss.code == CUSTOM else f"; the slope of {self.network.activations[-1]} cancels"

    def _backward(self, l: int) -> str:
        (shown, more), f_prime, W = self._shown(l), self.slopes[l], self.network.W[l + 1]
        assert f_prime is not None  # softmax is an output
        return "\n".join([f"  neuron {j}: {_terms(self.delta[l + 1], W[j])} = {_n(self.sums[l][j])}, times f'(z) = "
                          f"{_n(f_prime[j])} = {_n(self.delta[l][j])}{self._mark(l, j)}" for j in shown] + more)

    def _gradients(self) -> str:
        return "\n".join(f"  dE/dW[{l + 1}][{j}, {k}] = {_n(self.a[l][j])} * {_n(self.delta[l][k])} = "
                         f"{_n(self.dW[l][j, k])}" for l, j, k in self._largest_gradients())

    def _update(self) -> str:
        return "\n".join(f"  W[{l + 1}][{j}, {k}]: {_n(self.network.W[l][j, k])} -> {_n(self.updated.W[l][j, k])}"
                         for l, j, k in self._largest_gradients())

    def _largest_gradients(self) -> list[tuple[int, int, int]]:
        """Return layer, sender and receiver of the weights with the largest gradients of each layer."""
        return [(l, *(int(i) for i in np.unravel_index(flat, dW.shape))) for l, dW in enumerate(self.dW)  # type: ignore[misc]
                for flat in largest(np.abs(dW).ravel(), TERMS)]


def trace(network: Network, x: npt.ArrayLike, t: Any, loss: str | Loss | None = None,
          optimizer: Optimizer | None = None) -> Trace:
    """Take one sample through the five equations and keep every number that the compiled core computes.

    Parameters
    ----------
    network : Network
        It is not changed.
    x : array_like (n_in,) or (1, n_in)
        One sample, as `fit` takes them; the index of a pandas Series names its features.
    t : int, str or array_like (n_out,) or (1, n_out)
        Its label, the name of its class, or its targets.
    loss : str or one of fastbp.losses, optional
        See Trainer; None: the loss that matches the output.
    optimizer : one of fastbp.optimizers, optional
        Whose first step is shown; None: SGD().

    Returns
    -------
    Trace

    Raises
    ------
    ValueError, TypeError
        The sample, its target or the loss do not fit the network.

    Examples
    --------
    >>> net = Network([2, 2, 1], hidden="sigmoid", output="sigmoid", dtype="float64")
    >>> net.W[0], net.b[0] = [[0.5, -0.5], [0.25, 1.0]], [0.0, 0.1]
    >>> net.W[1], net.b[1] = [[0.4], [-0.4]], [0.2]
    >>> seen = trace(net, [1.0, 0.5], [1.0], loss="quadratic", optimizer=SGD(eta=1.0))
    >>> print(seen.asks(0))
    output 0 is 0.562312, its target 1: z should go up; its error is -0.107723
      through its bias: + 0.107723 per unit of learning rate
      through the weight from hidden neuron 0, which sends 0.651355: + 0.0701656
      through the weight from hidden neuron 1, which sends 0.524979: + 0.0565521
      by the activation of hidden neuron 0, with the weight 0.4: it should go up (+ 0.043089)
      by the activation of hidden neuron 1, with the weight -0.4: it should go down (- 0.043089)
    """
    check_network(network)
    loss = check_loss(loss, network.activations[-1], network.layer_sizes[-1])
    optimizer = SGD() if optimizer is None else optimizer
    data = as_data(*one_sample(x, t), None, network, loss)
    network = copy.deepcopy(network)
    workspace, gradient, cost = layer_values(network, data, loss)
    updated = copy.deepcopy(network)
    if np.isfinite(gradient).all():
        optimizer.step(updated, gradient)
    dW, db = network.views(gradient)
    kept = {name: [array[0].copy() for array in getattr(workspace, name)] for name in ("a", "z", "delta")}
    return Trace(network, loss, optimizer, data.x.numbers(slice(None))[0], workspace.targets[0].copy(), **kept,
                 slopes=_slopes(workspace), sums=_sums(network, workspace), sensitivity=_sensitivity(workspace, loss),
                 cost=cost, dW=dW, db=db, updated=updated)


# What the engine multiplies at once is computed once more, in parts, by its own equations: with the identity for f, a
# product is left without f'(z); with the cost |a - t| and t far below a, dE/da is 1, which leaves f'(z) alone.


def _slopes(workspace: Workspace) -> list[Array | None]:
    """f'(z) of each layer."""
    one, cost = MeanAbsolute().rule(workspace.buffers.dtype.name), np.zeros(1)

    def slope(l: int) -> None:
        below = np.full_like(workspace.z[l], -np.inf)
        equations.output_error_serial(workspace.layers[l : l + 1], workspace.buffers, below, cost, one, 1, 1)

    return [None if layer[ACTIVATION] == SOFTMAX else _instead(workspace, l, slope)
            for l, layer in enumerate(workspace.layers)]


def _sums(network: Network, workspace: Workspace) -> list[Array]:
    """delta[l + 1] W[l + 1]ᵀ of each hidden layer l."""
    def product(l: int) -> None:
        equations.backward_serial(network.theta, _linear(workspace, l, l + 2), workspace.buffers, 1, 1)

    return [_instead(workspace, l, product) for l in range(len(workspace.z) - 1)]


def _sensitivity(workspace: Workspace, loss: Loss) -> Array | None:
    """dE/da of the outputs, unless the kernel of the loss gives dE/dz."""
    def derivative(l: int) -> None:
        equations.output_error_serial(_linear(workspace, l, l + 1), workspace.buffers, workspace.targets, np.zeros(1),
                                      loss.rule(workspace.buffers.dtype.name), 1, 1)

    return _instead(workspace, len(workspace.z) - 1, derivative) if loss.code in TIMES_PRIME else None


def _linear(workspace: Workspace, first: int, end: int) -> Array:
    """Return the rows of layers first..end, of which the first has the identity for f."""
    layers = workspace.layers[first:end].copy()
    layers[0, ACTIVATION] = IDENTITY
    return layers


def _instead(workspace: Workspace, l: int, compute: Callable[[int], None]) -> Array:
    """Return what `compute` writes in place of delta[l], which is kept."""
    delta: Array = workspace.delta[l][0].copy()
    compute(l)
    result: Array = workspace.delta[l][0].copy()
    workspace.delta[l][0] = delta
    return result


# Text


def _terms(sent: Array, weights: Array) -> str:
    """Return a sum of products as text: its largest terms in order, and the sum of the others."""
    products = sent.astype(np.float64) * weights
    shown = sorted(largest(np.abs(products), TERMS))
    told = " + ".join(f"{_n(sent[i])}*{_n(weights[i])}" for i in shown)
    rest = len(products) - len(shown)
    return f"{told} + {rest} more ({_n(products.sum() - products[shown].sum())})" if rest else told


def _n(value: Any) -> str:
    return f"{value + 0:.6g}"  # 0 for -0


def _signed(value: Any) -> str:
    return f"{'-' if value < 0 else '+'} {_n(abs(value))}"
