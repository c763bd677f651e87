"""Why backpropagation: all derivatives of the cost in three ways, the same numbers at very different cost."""

from __future__ import annotations

import functools
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from numba import types

from fastbp import few
from fastbp.checks import counted
from fastbp.core import compiler
from fastbp.core.activations import multiply_by_prime
from fastbp.core.call import ACCUMULATE, CALL_VIEWS, INFER, layer_of
from fastbp.core.doors import COSTS, go
from fastbp.core.product import LOOK, Shape, product, repeated_zero
from fastbp.core.simd.matrix import rows_of
from fastbp.core.simd.memory import ahead, at, number, pointer_from
from fastbp.figures import spread
from fastbp.insight.gradient_check import KINKED, Probe, in_float64
from fastbp.insight.record import Record
from fastbp.losses import Loss
from fastbp.network import Network
from fastbp.workspace import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FACTORS = 1 / 8, 1 / 4, 1 / 2, 1, 2  # of the widths of the hidden layers
ROUNDS = 5
# Multiply-adds of a measurement: of the slow ways on a sample of parameters, at least LEAST, if all would take more.
WORK, LEAST = 2e8, 16
STEP = 2.0**-26  # of a parameter: the square root of the rounding of float64
SAME = 1e-4  # difference of perturbed derivatives, of the largest
WAYS = "perturbing each", "walking from each", "backpropagation"


@dataclass(frozen=True, repr=False)
class CostComparison(Record):
    """What `compare_costs` measured; printed as a table.

    Attributes
    ----------
    layer_sizes : list of tuple of int
        Of the networks that were measured: with narrower hidden layers, the network itself, and with wider ones.
    own : int
        Index of the network itself.
    n_samples : int
    n_parameters : ndarray (networks,)
    measured : ndarray (networks,)
        Parameters whose derivatives were computed in the two slow ways. If they are fewer than all, `seconds` of these
        ways are extrapolated.
    seconds : ndarray (networks, 3)
        Of all derivatives: by perturbing each parameter, by walking from each, by backpropagation.
    forward, backward : ndarray (networks,)
        Seconds of a forward pass with the costs, and of a backward pass with the weight gradients.
    differences : tuple of float
        Largest difference of the first and of the second way's derivatives of the network itself from those of
        backpropagation, relative to the largest derivative if any is not 0. The first is NaN if a neuron is at the kink
        of its activation: the difference to one side is then another number.

    Examples
    --------
    >>> seconds = np.array([[2e-3, 1e-3, 3e-5]])
    >>> CostComparison([(4, 8, 3)], 0, 20, np.array([67]), np.array([67]), seconds, np.array([1e-5]), np.array([2e-5]),
    ...                (2e-8, 1e-16))
    CostComparison: seconds for all derivatives of 4-8-3, 20 samples, float64, one thread
      network  parameters  perturbing each  walking from each  backpropagation
        4-8-3          67            0.002              0.001            3e-05
    the same numbers, to 2e-08 and 1e-16 of the largest; a backward pass takes 2.0 forward passes
    """

    layer_sizes: list[tuple[int, ...]]
    own: int
    n_samples: int
    n_parameters: Array
    measured: Array
    seconds: Array
    forward: Array
    backward: Array
    differences: tuple[float, float]

    @property
    def ratio(self) -> float:
        """Time of a backward pass of the network itself, in forward passes.

        Examples
        --------
        >>> from fastbp import Network
        >>> compare_costs(Network([2, 4, 2]), np.eye(2), [0, 1]).ratio > 0
        True
        """
        return float(self.backward[self.own] / self.forward[self.own])

    def __repr__(self) -> str:
        names = ["-".join(map(str, sizes)) for sizes in self.layer_sizes]
        rows = [["network", "parameters", *WAYS]]
        for name, count, measured, seconds in zip(names, self.n_parameters, self.measured, self.seconds, strict=True):
            mark = "*" if measured < count else ""
            rows.append([name, f"{count:,}", *(f"{each:.2g}{mark}" for each in seconds[:2]), f"{seconds[2]:.2g}"])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  " + "  ".join(map(str.rjust, row, widths)) for row in rows]
        first, second = self.differences
        at_kink, agree = np.isnan(first), not first >= SAME and second < 1e-10
        same = "the same numbers, to" if agree else "NOT the same numbers: they differ by"
        both = f"{second:.1g} (walked)" if at_kink else f"{first:.1g} and {second:.1g}"
        lines.append(f"{same} {both} of the largest; a backward pass takes {self.ratio:.1f} forward passes")
        if at_kink:
            lines.append("perturbed ones are not compared: a neuron lies at the kink of its activation, z = 0")
        if (self.measured < self.n_parameters).any():
            least = int(self.measured[self.measured < self.n_parameters].min())
            lines.append(f"* extrapolated from a sample of {least} or more of the parameters")
        return "\n".join([f"CostComparison: seconds for all derivatives of {names[self.own]}, "
                          f"{counted(self.n_samples, 'sample')}, float64, one thread", *lines])

    def _draw(self, figure: Figure) -> None:
        figure.set_size_inches(7, 4)
        axes = figure.subplots()
        for way, seconds in zip(WAYS, self.seconds.T, strict=True):
            axes.loglog(self.n_parameters, seconds, "o-", label=way)
        note = "" if (self.measured == self.n_parameters).all() else " (the slow ways extrapolated)"
        axes.set(xlabel="parameters", ylabel="seconds",
                 title=f"All derivatives of the cost, {counted(self.n_samples, 'sample')}{note}")
        axes.legend()


def compare_costs(network: Network, X: npt.ArrayLike, y: npt.ArrayLike,
                  loss: str | Loss | None = None) -> CostComparison:
    """Compute all derivatives of the mean cost in three ways, compare the numbers, and measure the times.

    1. Perturbing each: a whole forward pass for each parameter, which is moved a little: (E(theta + h) − E(theta)) / h.
    2. Walking from each: after one forward pass, for each parameter on its own, the chain of factors from it to the
       cost, R{z[l]} = a[l-1] of the sender (1 for a bias), R{z[m]} = (R{z[m-1]} ∘ f'(z[m-1])) W[m] up to the output,
       and the mean of dE/dz[L] · R{z[L]}.
    3. Backpropagation: one forward and one backward pass, as training makes them.

    All run in compiled code with the same products, on a float64 copy of the network, on one thread, with up to 128
    samples; times are medians of 5 rounds, in which the ways take turns. The first two take time for each parameter: of
    large networks they are measured on a sample of parameters, spread over all, and extrapolated. Networks with
    narrower and with wider hidden layers are measured, too; without a hidden layer there is only the one.

    Parameters
    ----------
    network : Network
    X, y, loss
        As of cost_and_gradient. Sparse samples are taken.

    Returns
    -------
    CostComparison

    Raises
    ------
    ValueError, TypeError
        X, y or the loss do not fit the network; a parameter, which is named, or the cost of a sample is not finite.

    References
    ----------
    Rumelhart, Hinton, Williams: Learning representations by back-propagating errors (Nature 1986).
    Griewank, Walther: Evaluating Derivatives (SIAM 2008), chapters 3 and 4: forward and reverse mode.

    Examples
    --------
    >>> from fastbp import Network
    >>> X = np.random.default_rng(0).normal(size=(20, 4))
    >>> found = compare_costs(Network([4, 8, 3], hidden="tanh"), X, X[:, :3].argmax(axis=1))
    >>> found.n_parameters.tolist(), found.layer_sizes[found.own]
    ([11, 19, 35, 67, 131], (4, 8, 3))
    >>> max(found.differences) < 1e-6
    True
    """
    probe = Probe(network, X, y, loss)
    first, *hidden, last = network.layer_sizes
    kinds = list(dict.fromkeys((first, *(max(1, round(factor * n)) for n in hidden), last) for factor in FACTORS))
    own, rows = kinds.index(network.layer_sizes), []
    for sizes in kinds:
        other = probe.network if sizes == network.layer_sizes else in_float64(network, sizes)
        ways = _Ways(probe, other)
        rows.append(ways.measure())
        if sizes == network.layer_sizes:
            differences = ways.differences(probe.noise() / STEP)
    counts, measured, seconds, forward, backward = map(np.array, zip(*rows, strict=True))
    return CostComparison(kinds, own, len(probe), counts, measured, seconds, forward, backward, differences)


class _Ways:
    """One network, samples of a probe, and the three ways to the derivatives of the chosen parameters."""

    def __init__(self, probe: Probe, network: Network):
        self.network, n, n_out = network, len(probe), network.layer_sizes[-1]
        self.work = len(probe) * network.n_parameters
        count = min(network.n_parameters, max(LEAST, int(WORK // self.work)))
        self.chosen = np.arange(network.n_parameters)[spread(network.n_parameters, count)]
        self.steps = STEP * np.maximum(1, np.abs(network.theta[self.chosen]))
        self.perturbed, self.walked, self.gradient = *np.empty((2, count)), np.empty(network.n_parameters)
        workspace = network.workspace(n)
        self.only_costs, self.all = (few.slip_for(network, workspace, probe.loss, purpose)
                                     for purpose in (INFER, ACCUMULATE))
        self.only_costs.point(outputs=np.empty((n, n_out)))
        self.all.point(gradient=self.gradient, tangents=np.zeros(len(workspace.buffers)))
        for slip in (self.only_costs, self.all):
            few.run(slip, network, probe.loss, probe.x, probe.t, n)
        self.walk, self.z = _address_of_walk(), workspace.z

    def measure(self) -> tuple[int, int, list[float], float, float]:
        """Return the numbers of parameters, all and chosen, and seconds: of the three ways, forward, backward."""
        rounds = [self._round() for _ in range(ROUNDS + 1)][1:]  # the first one may compile
        forward, both, walking, perturbing = np.median(rounds, axis=0).tolist()
        count, share = self.network.n_parameters, self.network.n_parameters / len(self.chosen)
        ways = [forward + share * perturbing, forward + share * walking, both]
        return count, len(self.chosen), ways, forward, max(both - forward, 0.0)

    def _round(self) -> Array:
        """Return seconds: of a forward pass, of it and a backward pass, of the walks, of the perturbed passes."""
        # As many as perturbed passes, or more: on a busy machine, short measurements look faster than long ones.
        times, costs, both = max(len(self.chosen), int(1e6 // self.work)), self.only_costs.vector, self.all.vector
        ended = [time.perf_counter()]
        for way, arguments in ((repeat, (costs, times)), (repeat, (both, times)),
                               (walk_from_each, (both, self.walk, self.chosen, self.walked)),
                               (perturb_each, (costs, self.network.theta, self.chosen, self.steps, self.perturbed))):
            way(*arguments)
            ended.append(time.perf_counter())
        return np.diff(ended) / (times, times, 1, 1)

    def differences(self, rounding: float) -> tuple[float, float]:
        """rounding: how far that of a cost may move a perturbed derivative; the difference is of 10,000 times that, at
        least."""
        right, largest = self.gradient[self.chosen], np.abs(self.gradient).max() or 1.0
        first = float(np.abs(self.perturbed - right).max() / max(largest, rounding / SAME))
        if any(name in KINKED and (z == 0).any() for name, z in zip(self.network.activations, self.z, strict=True)):
            first = math.nan  # the slope to one side is not that of the other
        return first, float(np.abs(self.walked - right).max() / largest)


@compiler.serial
def repeat(slip, times):  # type: ignore[no-untyped-def]
    """Run a call so many times."""
    for _ in range(times):
        go(at(slip, 0))


@compiler.serial
def perturb_each(slip, theta, chosen, steps, slopes):  # type: ignore[no-untyped-def]
    """Write (E(theta + step) - E(theta)) / step of each of the chosen parameters; slip: of a call that gives E."""
    go(at(slip, 0))
    cost = pointer_from(slip[COSTS], 0.0)[0]
    for k in range(len(chosen)):
        before = theta[chosen[k]]
        theta[chosen[k]] = before + steps[k]
        go(at(slip, 0))
        slopes[k] = (pointer_from(slip[COSTS], 0.0)[0] - cost) / (theta[chosen[k]] - before)
        theta[chosen[k]] = before


@compiler.serial
def walk_from_each(slip, address, chosen, slopes):  # type: ignore[no-untyped-def]
    """Write the derivatives by each of the chosen parameters; address: of `walk`."""
    for k in range(len(chosen)):
        compiler.call(address, (at(slip, 0), chosen[k], at(slopes, k)))


@compiler.apart
def walk(call, i, slope):  # type: ignore[no-untyped-def]
    """slope[0] = the derivative of the mean cost by theta[i], after a call that left z, a and delta[L] in the buffers.

    R{z[l]} of the parameter's layer l is a[l-1] of its sender, or 1, in the column of its neuron. From there
    R{z[m]} = R{a[m-1]} W[m] and R{a[m]} = f'(z[m]) ∘ R{z[m]}, in tangents where z has its place.
    """
    l, n, one = 0, call.n_samples, number(call.theta, 1)
    while i >= layer_of(call, l).b + layer_of(call, l).n_out:
        l += 1
    layer = layer_of(call, l)
    weight = i < layer.b
    sender, neuron = (i - layer.w) // layer.n_out, (i - layer.w) % layer.n_out if weight else i - layer.b
    for s in range(n):
        for j in range(layer.n_out):
            call.tangents[layer.z + s * layer.ld + j] = 0
        sent = call.buffers[layer.input + s * layer.ld_input + sender] if weight else one
        call.tangents[layer.z + s * layer.ld + neuron] = sent
    for m in range(l + 1, call.n_layers):
        layer, after = layer_of(call, m - 1), layer_of(call, m)
        multiply_by_prime(layer.activation, ahead(call.buffers, layer.z), ahead(call.buffers, layer.a),
                          ahead(call.tangents, layer.z), n, layer.n_out, layer.ld)
        weights = rows_of(call.theta, after.w, after.n_out, 0)
        product(rows_of(call.tangents, after.z, after.ld, 0), rows_of(call.tangents, layer.z, layer.ld, 0), weights,
                Shape(n, after.n_out, after.n_in), repeated_zero(weights), one, LOOK)
    last, total = layer_of(call, call.n_layers - 1), 0.0
    for s in range(n):
        for j in range(last.n_out):
            total += call.buffers[last.delta + s * last.ld + j] * call.tangents[last.z + s * last.ld + j]
    slope[0] = total / n


@functools.cache
def _address_of_walk() -> int:
    """Return the address of the machine code of `walk`, for slips of float64, which have loaded the pieces."""
    made = walk, (CALL_VIEWS["float64"], types.int64, types.CPointer(types.float64))
    once = compiler.once([made], "its walk through the chain rule (float64)", "2 to 5 s")
    with compiler.global_compiler_lock, once, compiler.linking():
        return compiler.machine_code(*made)
