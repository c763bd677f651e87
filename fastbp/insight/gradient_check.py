"""Gradient check: backpropagation against central differences of the cost, in float64."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastbp import few
from fastbp.checks import counted
from fastbp.core.call import INFER
from fastbp.core.costs import TIMES_PRIME
from fastbp.figures import rows_of, trained_on
from fastbp.gradient import cost_and_gradient
from fastbp.inputs import as_data
from fastbp.insight.values import name_of, place_of
from fastbp.losses import Huber, Loss, MeanAbsolute
from fastbp.network import Network, check_loss, check_network
from fastbp.randomness import LOOK, generator
from fastbp.workspace import Array, parameter_offsets

SMALL = 2_000  # parameters that are checked one by one; of more, random directions
SAMPLES, NUMBERS = 128, 10_000_000  # limits: samples, and elements of the inputs
DIRECTIONS = 5  # for each W[l] and b[l]
# How far a step moves the z of a neuron at most. In float64 the error of a difference is least near 1e-5, the cube
# root of its rounding; the smaller ones are for a cost that bends more, and for kinks.
STEPS = 1e-5, 1e-6, 1e-7
TOLERANCE = 1e-6  # largest relative error of a right gradient
KINKED = "relu", "leaky_relu", "elu", "selu"
Stretch = tuple[int, int, int]  # parameters from, to; number of the draw of a direction


@dataclass(frozen=True, repr=False)
class GradientCheck:
    """What `check_gradients` found; printed as a verdict and its reasons.

    Attributes
    ----------
    verdict : str
        "right", "wrong", or "not checked" if each sample has a unit at a kink.
    error : float
        Largest relative error; NaN if nothing was checked. Up to 1e-6 is right.
    worst : str
        Where it is: a parameter, `net.W[l][i, j]` or `net.b[l][j]`; or all of a `net.W[l]` or `net.b[l]`, along a
        random direction.
    layer : int
        The layer l of `worst`, from 0.
    backprop, difference : float
        The derivative there, by backpropagation and by the central difference; of a direction of length 1.
    checked : int
        Number of parameters that were checked one by one, or of random directions.
    n_parameters, samples, n_samples : int
        Parameters of the network; samples used, and samples given with a weight above 0.
    left_out : int
        Samples that were left out, as a step would take a unit of theirs across its kink.
    kink : str
        A unit of such a sample.

    Examples
    --------
    >>> GradientCheck("right", 2e-10, "net.b[0][3]", 0, 0.25, 0.25, 67, 67, 128, 150)
    GradientCheck: right. All 67 parameters, one by one, with 128 of 150 samples in float64:
    - largest relative error 2e-10 at net.b[0][3]: backprop 0.25, central difference 0.25; up to 1e-06 is right
    """

    verdict: str
    error: float
    worst: str
    layer: int
    backprop: float
    difference: float
    checked: int
    n_parameters: int
    samples: int
    n_samples: int
    left_out: int = 0
    kink: str = ""

    def __repr__(self) -> str:
        one_by_one = self.checked == self.n_parameters
        how = (f"All {counted(self.n_parameters, 'parameter')}, one by one" if one_by_one else
               f"{counted(self.n_parameters, 'parameter')}, along {counted(self.checked, 'random direction')}")
        of = "" if self.samples == self.n_samples else f"{self.samples:,} of "
        lines = [f"GradientCheck: {self.verdict}. {how}, with {of}{counted(self.n_samples, 'sample')} in float64:"]
        if not math.isnan(self.error):
            lines.append(f"largest relative error {self.error:.2g} at {self.worst}: backprop {self.backprop:.6g}, "
                         f"central difference {self.difference:.6g}; up to {TOLERANCE:g} is right")
        if self.left_out:
            lines.append(f"{counted(self.left_out, 'sample')} left out: a step of the difference crosses a kink there, "
                         f"between two slopes, such as {self.kink}")
        return "\n- ".join(lines)


def check_gradients(network: Network, X: npt.ArrayLike, y: npt.ArrayLike, loss: str | Loss | None = None, *,
                    sample_weight: npt.ArrayLike | None = None) -> GradientCheck:
    """Compare the gradient of cost_and_gradient with central differences of the cost,

        (E(theta + h v) − E(theta − h v)) / 2h

    both computed by the compiled core on a float64 copy of the network. v is each parameter in turn, if there are up to
    2,000; otherwise 5 random directions in each W[l] and b[l], and if one of them disagrees, halves of its parameters
    until one is left. h moves the z of a neuron by 1e-5; where that disagrees, by 1e-6 and 1e-7.

    The error is relative to the larger one of both, or to what the rounding of the cost lets a difference resolve, if
    that is more. At most 128 samples, spread over all, are used. A difference across a kink (relu, leaky_relu, elu and
    selu at 0, mean_absolute at its target, huber at its threshold) says nothing: samples for which a step crosses one
    are left out, on both sides.

    Parameters
    ----------
    network : Network
    X, y, loss, sample_weight
        As of cost_and_gradient. Sparse samples are taken.

    Returns
    -------
    GradientCheck

    Raises
    ------
    ValueError, TypeError
        X, y or the loss do not fit the network; a parameter, which is named, or the cost of a sample is not finite.

    References
    ----------
    Griewank, Walther: Evaluating Derivatives (SIAM 2008), chapter 1, on difference quotients.

    Examples
    --------
    >>> from fastbp import Network
    >>> X = np.random.default_rng(0).normal(size=(20, 4))
    >>> found = check_gradients(Network([4, 8, 3], hidden="tanh"), X, X[:, :3].argmax(axis=1))
    >>> found.verdict, found.error < 1e-8
    ('right', True)
    """
    probe, count = Probe(network, X, y, loss, sample_weight), network.n_parameters
    stretches = [(i, i + 1, 0) for i in range(count)] if count <= SMALL else [
        (lo, hi, k) for w, b, end in _layers(network) for lo, hi in ((w, b), (b, end)) for k in range(DIRECTIONS)]
    first = found = _compare(probe, stretches)
    checked, (lo, hi, _) = len(stretches), stretches[found.worst()]
    while found.errors[found.worst()] > TOLERANCE and hi - lo > 1:
        stretches = [(lo, (lo + hi) // 2, 0), ((lo + hi) // 2, hi, 1)]
        found = _compare(probe, stretches)
        lo, hi, _ = stretches[found.worst()]
    error, backprop, difference = found.rows[:, found.worst()].tolist()
    verdict = "not checked" if math.isnan(error) else "wrong" if error > TOLERANCE else "right"
    name, layer = name_of(lo, network.layer_sizes), place_of(lo, network.layer_sizes)[0]
    return GradientCheck(verdict, error, name if hi - lo == 1 else name[: name.index("]") + 1], layer, backprop,
                         difference, checked, count, len(probe), probe.given, first.left_out, first.kink)


class Probe:
    """A float64 copy of a network, and up to `most` samples in its workspace, to compute costs on one thread."""

    def __init__(self, network: Network, X: npt.ArrayLike, y: npt.ArrayLike, loss: str | Loss | None,
                 sample_weight: npt.ArrayLike | None = None, most: int = SAMPLES):
        check_network(network)
        self.loss = check_loss(loss, network.activations[-1], network.layer_sizes[-1])
        data = as_data(X, y, sample_weight, network, self.loss, sparse=True).with_some_weight()
        if not np.isfinite(network.theta).all():
            i = int(np.argmin(np.isfinite(network.theta)))
            raise ValueError(f"{name_of(i, network.layer_sizes)} is {network.theta[i]}; derivatives need finite "
                             "parameters")
        self.given = int((data.weights > 0).sum()) if len(data.weights) else len(data)
        self.rows = np.arange(len(data))[
            trained_on(len(data), max(1, min(most, NUMBERS // network.layer_sizes[0])), None, data.weights)]
        part = data.taken(self.rows)
        self.x = np.ascontiguousarray(part.x.dense().array, np.float64)
        self.t = np.ascontiguousarray(part.t.array, None if part.t.array.dtype == np.int64 else np.float64)
        self.weights = part.weights if len(part.weights) else np.ones(len(self.rows))
        self.network = in_float64(network, network.layer_sizes)
        self.network.theta = network.theta
        self.workspace = self.network.workspace(len(self.rows))
        self.workspace.targets[:] = rows_of(part.t, network.layer_sizes[-1])
        self.workspace.costs[:] = np.nan
        self.slip = few.slip_for(self.network, self.workspace, self.loss, INFER)
        self.slip.point(outputs=np.empty((len(self.rows), network.layer_sizes[-1])))
        costs = self.costs()
        if not np.isfinite(costs).all():
            i = int(np.argmin(np.isfinite(costs)))
            raise ValueError(f"the cost of sample {self.rows[i]} is {costs[i]}; inputs or parameters are too large")

    def __len__(self) -> int:
        return len(self.rows)

    def costs(self) -> Array:
        """Return the cost of each sample (n,) at network.theta, in memory that the next call overwrites."""
        few.run(self.slip, self.network, self.loss, self.x, self.t, len(self))
        costs: Array = self.workspace.costs
        return costs

    def kinks(self) -> list[tuple[str, Array]]:
        """Return names, and on which side of a kink the neurons were in the last call of `costs`: (n, neurons)."""
        w = self.workspace
        sides = [(f"{name} of layer {l}", z > 0)
                 for l, (name, z) in enumerate(zip(self.network.activations, w.z, strict=True)) if name in KINKED]
        if isinstance(self.loss, MeanAbsolute):
            sides.append(("mean_absolute", w.a[-1] > w.targets))
        elif isinstance(self.loss, Huber):
            sides.append(("huber", np.abs(w.a[-1] - w.targets) > self.loss.threshold))
        return sides

    def noise(self) -> float:
        """Return how far rounding moves the mean cost: about as far as a change of the last bit of all parameters."""
        theta, eps = self.network.theta, np.finfo(np.float64).eps
        draw, before, costs = generator(LOOK, len(theta)), theta.copy(), self.costs().copy()
        sizes = np.abs(costs)
        if self.loss.code not in TIMES_PRIME:  # log(a) of an a near 1, and differences of z, are small but rounded so
            sizes += 1 + np.abs(self.workspace.z[-1]).max(axis=1)
        most = max(float(eps * np.average(sizes, weights=self.weights)), np.finfo(np.float64).tiny)
        for _ in range(4):
            theta[:] = before * (1 + 2 * eps * draw.choice((-1, 1), len(theta)))
            most = max(most, abs(float(np.average(self.costs() - costs, weights=self.weights))))
        theta[:] = before
        return 4 * most

    def widths(self) -> Array:
        """Return for each parameter the change that moves the z of its neuron by 1 for the sample with the largest
        sending activation."""
        self.costs()
        widths = np.ones(self.network.n_parameters)
        for W, a in zip(self.network.views(widths)[0], self.workspace.a, strict=False):
            most = np.abs(a).max(axis=0)
            W[:] = (1 / np.where(most > 0, np.maximum(most, 1e-6), 1))[:, np.newaxis]
        return widths


@dataclass
class _Compared:
    """Relative errors, and derivatives by backpropagation and by differences (3, stretches); NaN: not checked."""

    rows: Array
    left_out: int = 0
    kink: str = ""

    @property
    def errors(self) -> Array:
        errors: Array = self.rows[0]
        return errors

    def worst(self) -> int:
        return int(np.argmax(np.nan_to_num(self.errors)))


def _compare(probe: Probe, stretches: Sequence[Stretch]) -> _Compared:
    """Compare along each stretch, with smaller steps where the larger ones disagree."""
    found = _Compared(np.full((3, len(stretches)), np.nan))
    least, widths = probe.noise() / TOLERANCE, probe.widths()
    for step in STEPS:
        first = bool(np.isnan(found.errors).all())
        slopes, across, kink = _differences(probe, stretches, widths * step)
        if first:
            found.left_out, found.kink = int(across.sum()), kink
        if across.all():
            continue
        x, t, weights = probe.x[~across], probe.t[~across], probe.weights[~across]
        _, gradient = cost_and_gradient(probe.network, x, t, probe.loss, sample_weight=weights)
        for k, stretch in enumerate(stretches):
            moved = np.subtract(*_ends(probe, stretch, widths * step)) / 2
            terms = gradient[stretch[0] : stretch[1]] * moved
            measured, predicted = float(np.average(slopes[k, ~across], weights=weights)), float(terms.sum())
            most = max(float(np.linalg.norm(terms)), abs(measured))
            error = abs(measured - predicted) / max(most, least)
            error = math.inf if math.isnan(error) else error
            if first or (most >= least and error < found.errors[k]):
                found.rows[:, k] = error, *(np.array([predicted, measured]) / np.linalg.norm(moved))
        if np.max(found.errors) <= TOLERANCE:
            break
    return found


def _differences(probe: Probe, stretches: Sequence[Stretch], widths: Array) -> tuple[Array, Array, str]:
    """Return half differences of the costs (stretches, n), which samples cross a kink (n,), and the name of one."""
    slopes, across, kink = np.empty((len(stretches), len(probe))), np.zeros(len(probe), bool), ""
    for k, stretch in enumerate(stretches):
        (above, below), theta = _ends(probe, stretch, widths), probe.network.theta[stretch[0] : stretch[1]]
        before, theta[:] = theta.copy(), above
        slopes[k], sides = probe.costs() / 2, probe.kinks()
        theta[:] = below
        slopes[k] -= probe.costs() / 2
        for (name, side), (_, other) in zip(sides, probe.kinks(), strict=True):
            i, j = np.nonzero(side != other)
            across[i] = True
            if len(i) and not kink:
                kink = f"neuron {j[0]} ({name}) of sample {probe.rows[i[0]]}"
        theta[:] = before
    return slopes, across, kink


def _ends(probe: Probe, stretch: Stretch, widths: Array) -> tuple[Array, Array]:
    """Return the parameters of a stretch after a step up and a step down: of a parameter by its width; of several with
    random signs, and by less, as many act on one neuron together."""
    (lo, hi, k), sizes = stretch, probe.network.layer_sizes
    step, theta = widths[lo:hi], probe.network.theta[lo:hi]
    if hi - lo > 1:
        senders = max(1.0, (hi - lo) / sizes[place_of(lo, sizes)[0] + 1])
        step = step / math.sqrt(senders) * generator(LOOK, lo, k).choice((-1, 1), hi - lo)
    step = np.copysign(np.maximum(np.abs(step), 1e3 * np.finfo(np.float64).eps * np.abs(theta)), step)
    return theta + step, theta - step


def in_float64(network: Network, sizes: Sequence[int]) -> Network:
    """Return a float64 network of the same activations and input_scale, without names."""
    return Network(sizes, network.activations[:-1], network.activations[-1], "float64", weights=None,
                   input_scale=network.input_scale)


def _layers(network: Network) -> list[tuple[int, int, int]]:
    """Return of each layer where its weights, its biases and the next layer begin in theta."""
    offsets = parameter_offsets(network.layer_sizes)
    return [(w, b, end) for (w, b), (end, _) in zip(offsets, offsets[1:], strict=False)]
