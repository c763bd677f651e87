"""Averaging and noise: the gradients of mini-batches, and the paths that gradient descent takes with them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.checks import positive, whole_number
from fastbp.derivatives import per_sample_gradient_norms
from fastbp.gradient import cost_and_gradient
from fastbp.inference import infer
from fastbp.inputs import Data
from fastbp.insight.record import Record, table
from fastbp.insight.values import checked
from fastbp.losses import Loss
from fastbp.network import Network
from fastbp.optimizers import SGD
from fastbp.randomness import LOOK, generator
from fastbp.training.trainer import Trainer
from fastbp.workspace import Array

MOST_DRAWS, MOST_STEPS = 10_000, 1_000_000
POINTS = 100  # most points of a path that are kept after its start
GRID, MARGIN = 25, 0.15  # points on a side of the surface; how far it reaches beyond the paths, as a share of them


@dataclass(frozen=True, repr=False)
class GradientNoise(Record):
    """What `gradient_noise` returns: the directions of mini-batches' gradients, by batch size.

    Attributes
    ----------
    batch_sizes : ndarray (sizes,), int64
    cosines : ndarray (sizes, draws)
        Between the gradient of each mini-batch drawn and that of all samples; NaN if one of them is 0.
    noise_scale : float
        Batch size at which noise is as large as the gradient: sum of the variances of the samples' gradients, divided
        by the squared length of their mean. Infinite if that is 0.
    expected : ndarray (sizes,)
        Cosine that the noise scale lets expect, of mini-batches without repeated samples.

    Examples
    --------
    >>> GradientNoise(np.array([1, 10]), np.array([[0.1, 0.3], [0.6, 0.8]]), 12.0, np.array([0.28, 0.67]))
    GradientNoise: cosine with the gradient of all samples; the noise scale is 12 samples
    batch size  mean  lowest  highest  expected
             1   0.2     0.1      0.3      0.28
            10   0.7     0.6      0.8      0.67
    """

    batch_sizes: Array
    cosines: Array
    noise_scale: float
    expected: Array

    def __repr__(self) -> str:
        rows = [(size, of.mean(), of.min(), of.max(), expected) for size, of, expected in
                zip(self.batch_sizes, self.cosines, self.expected, strict=True)]
        return table("GradientNoise: cosine with the gradient of all samples; the noise scale is "
                     f"{self.noise_scale:.3g} samples", ("batch size", "mean", "lowest", "highest", "expected"), *rows)

    def _draw(self, figure: Any) -> None:
        axes = figure.subplots()
        axes.semilogx(self.batch_sizes, self.cosines, ".", color="C0", alpha=0.4)
        axes.semilogx(self.batch_sizes, self.expected, color="C1", label=f"noise scale {self.noise_scale:.3g}")
        axes.axhline(0, color="0.7", linewidth=1)
        axes.set(xlabel="batch size", ylabel="cosine with the gradient of all samples", ylim=(-1.05, 1.05))
        axes.legend()


def gradient_noise(network: Network, X: npt.ArrayLike, y: npt.ArrayLike, loss: str | Loss | None = None, *,
                   batch_sizes: Sequence[int | None] = (1, 10, 100, 1000, 10_000, None), draws: int = 20,
                   seed: int = 0) -> GradientNoise:
    """Measure how well the gradients of mini-batches agree with that of all samples, by batch size.

    Parameters
    ----------
    network : Network
    X, y, loss
        See `cost_and_gradient`.
    batch_sizes : sequence of int or None
        >= 1. None, or more than there are samples: all.
    draws : int
        Mini-batches drawn of each size, without repeated samples.
    seed : int
        Of the draws.

    Returns
    -------
    GradientNoise

    Raises
    ------
    ValueError, TypeError
        X, y, the loss or a setting is not valid, or a parameter is not finite.

    References
    ----------
    McCandlish, Kaplan, Amodei and others: An Empirical Model of Large-Batch Training (2018), arXiv:1812.06162,
    section 2.2, the simple noise scale.

    Examples
    --------
    >>> draw = np.random.default_rng(0)
    >>> X = draw.normal(size=(1000, 5))
    >>> found = gradient_noise(Network([5, 16, 2], seed=0), X, (X[:, 0] > 0).astype(int))
    >>> found.batch_sizes.tolist(), float(found.cosines[-1].min().round(6))
    ([1, 10, 100, 1000], 1.0)
    """
    data, own = checked(network, X, y, loss)
    n, draws, seed = len(data), whole_number("draws", draws, 1, MOST_DRAWS), whole_number("seed", seed, 0)
    sizes = _sizes(batch_sizes, n)
    net, x, t, draw = _unnamed(network), data.x.array, data.t.array, generator(LOOK, seed)

    def gradient(chosen: Any = ...) -> Array:
        return cost_and_gradient(net, x[chosen], t[chosen], own)[1].astype(np.float64)

    whole, norms = gradient(), per_sample_gradient_norms(net, x, t, own).astype(np.float64)
    cosines = [[_cosine(whole if size == n else gradient(draw.choice(n, size, replace=False)), whole)
                for _ in range(draws)] for size in sizes]
    squared = whole @ whole
    scale = max(np.mean(norms**2) - squared, 0.0) / squared if squared else np.inf
    batch = np.array(sizes)
    with np.errstate(invalid="ignore"):  # an infinite scale times 0
        expected = 1 / np.sqrt(1 + scale / batch * (n - batch) / max(1, n - 1))
    return GradientNoise(batch, np.array(cosines), float(scale), expected)


def _sizes(given: Sequence[int | None], n: int) -> list[int]:
    """Return different batch sizes, from 1 to the number of samples."""
    sizes = [n if size is None else min(n, whole_number("a batch size", size, 1)) for size in given]
    if not sizes:
        raise ValueError("batch_sizes is empty; give at least one")
    return list(dict.fromkeys(sizes))


def _cosine(u: Array, v: Array) -> float:
    """Return the cosine of the angle between two vectors; NaN if one is 0."""
    lengths = np.linalg.norm(u) * np.linalg.norm(v)
    return float(u @ v / lengths) if lengths else np.nan


def _unnamed(network: Network) -> Network:
    """Return a copy that takes checked targets, which are numbers."""
    net = copy.deepcopy(network)
    net.classes = None
    return net


@dataclass(frozen=True, repr=False)
class DescentPaths(Record):
    """What `descent_paths` returns: paths of gradient descent, seen on a plane through the cost surface.

    Attributes
    ----------
    batch_sizes : list of int
    paths : list of ndarray (points, 2)
        Coordinates of each path's parameters in the plane; all begin at (0, 0).
    costs : list of ndarray (points,)
        Cost of all samples at each path's own parameters, which lie beside the plane.
    steps : ndarray (points,), int64
        Number of updates before each point.
    directions : ndarray (2, n_parameters)
        Unit vectors of the plane: theta = start + u directions[0] + v directions[1].
    share : float
        How much of the squared distances of all points from the start lies in the plane, in [0, 1].
    u, v : ndarray (25,)
        Coordinates of the surface.
    surface : ndarray (25, 25)
        Cost of all samples at v[i], u[j]; NaN if it is not finite.

    Examples
    --------
    >>> draw = np.random.default_rng(0)
    >>> X = draw.normal(size=(200, 5))
    >>> found = descent_paths(Network([5, 8, 2], seed=0), X, (X[:, 0] > 0).astype(int), steps=20)
    >>> found.batch_sizes, found.paths[0][0].tolist(), bool(found.costs[2][-1] < found.costs[2][0])
    ([1, 100, 200], [0.0, 0.0], True)
    """

    batch_sizes: list[int]
    paths: list[Array]
    costs: list[Array]
    steps: Array
    directions: Array
    share: float
    u: Array
    v: Array
    surface: Array

    def __repr__(self) -> str:
        rows = [(size, costs[-1], f"{np.mean(np.diff(costs) > 0):.0%}") for size, costs in
                zip(self.batch_sizes, self.costs, strict=True)]
        return table(f"DescentPaths: {self.steps[-1]:,} steps from the cost {self.costs[0][0]:.4g}; the plane has "
                     f"{self.share:.0%} of the squared distances", ("batch size", "cost at the end", "rises"), *rows)

    def _draw(self, figure: Any) -> None:
        figure.set_size_inches(11, 4.5)
        plane, over_steps = figure.subplots(1, 2)
        figure.colorbar(plane.contourf(self.u, self.v, self.surface, levels=20, cmap="Greys"), ax=plane, label="cost")
        for size, points, costs in zip(self.batch_sizes, self.paths, self.costs, strict=True):
            plane.plot(*points.T, marker=".", markersize=2, linewidth=1, label=f"batch size {size:,}")
            over_steps.plot(self.steps, costs, linewidth=1)
        plane.plot(0, 0, "k*", markersize=10)
        plane.set(xlabel="first main direction", ylabel="second main direction")
        plane.legend(fontsize=8)
        over_steps.set(xlabel="step", ylabel="cost of all samples")


def descent_paths(network: Network, X: npt.ArrayLike, y: npt.ArrayLike, loss: str | Loss | None = None, *,
                  batch_sizes: Sequence[int | None] = (1, 100, None), steps: int = 200, eta: float = 0.1,
                  seed: int = 0) -> DescentPaths:
    """Follow gradient descent from the network's parameters with several batch sizes, and cut the cost surface there.

    All make the same number of steps with the same eta, so that only the noise of their gradients differs. The plane
    goes through the start and along the two main directions of all paths, seen from the start: those with the largest
    share of the squared distances (without centring, the singular vectors of theta - start).

    Parameters
    ----------
    network : Network
        Not changed: copies are trained.
    X, y, loss
        See `cost_and_gradient`. The surface is the mean cost of all of them at 625 points: some thousand samples are
        enough.
    batch_sizes : sequence of int or None
        >= 1. None, or more than there are samples: all.
    steps : int
        1 to a million. Up to 100 points of each path are kept, evenly spaced, and the start.
    eta : float
        > 0. The learning rate.
    seed : int
        Of the order of samples.

    Returns
    -------
    DescentPaths

    Raises
    ------
    ValueError, TypeError
        X, y, the loss or a setting is not valid, or a parameter is not finite.
    DivergenceError
        The cost of a path is no longer finite: eta is too large.

    References
    ----------
    Li, Xu, Taylor, Studer, Goldstein: Visualizing the Loss Landscape of Neural Nets (NeurIPS 2018), section 7.2.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(200, 5))
    >>> found = descent_paths(Network([5, 8, 2], seed=0), X, (X[:, 0] > 0).astype(int), batch_sizes=[1, None], steps=50)
    >>> found.surface.shape, 0 < found.share <= 1
    ((25, 25), True)
    """
    data, own = checked(network, X, y, loss)
    steps, eta = whole_number("steps", steps, 1, MOST_STEPS), positive("eta", eta)
    sizes, seed, net = _sizes(batch_sizes, len(data)), whole_number("seed", seed, 0), _unnamed(network)
    kept = np.unique(np.linspace(0, steps, min(steps, POINTS) + 1).astype(np.int64))
    walked = [_walk(net, data, own, SGD(eta), size, kept, seed) for size in sizes]
    start = network.theta.astype(np.float64)
    moves = np.concatenate(walked) - start
    directions = np.linalg.svd(moves, full_matrices=False)[2][:2]
    directions *= np.where((moves @ directions.T).sum(axis=0) < 0, -1, 1)[:, np.newaxis]  # paths lead to the right
    points, total = moves @ directions.T, np.square(moves).sum()
    u, v = (np.linspace(low - MARGIN * span, high + MARGIN * span, GRID) for low, high, span in (
        (of.min(), of.max(), np.ptp(of) or 1.0) for of in points.T))
    plane = [[_cost_at(net, start + i * directions[0] + j * directions[1], data, own) for i in u] for j in v]
    costs = [np.array([_cost_at(net, theta, data, own) for theta in path]) for path in walked]
    return DescentPaths(sizes, np.split(points, len(sizes)), costs, kept, directions,
                        float(np.square(points).sum() / total) if total else 1.0, u, v, np.array(plane))


def _walk(network: Network, data: Data, loss: Loss, optimizer: SGD, size: int, kept: Array, seed: int) -> Array:
    """Return theta after each of the `kept` numbers of steps, the first of them 0: (points, n_parameters)."""
    net, n = copy.deepcopy(network), len(data)
    trainer, draw = Trainer(net, loss, optimizer, batch_size=size), generator(LOOK, seed, 1)
    found, order = [net.theta.copy()], np.empty(0, np.int64)
    for step in range(1, kept[-1] + 1):
        if len(order) < size:
            order = draw.permutation(n)
        chosen, order = order[:size], order[size:]
        trainer.step(data.x.array[chosen], data.t.array[chosen])
        if step in kept:
            found.append(net.theta.copy())
    return np.array(found)


def _cost_at(network: Network, theta: Array, data: Data, loss: Loss) -> float:
    """Return the cost of all samples at these parameters; NaN if it is not finite."""
    with np.errstate(over="ignore"):
        network.theta = theta
    cost = infer(network, data.x, data.t, loss, None)[1]
    return cost if np.isfinite(cost) else np.nan
