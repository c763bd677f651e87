"""Figures of data: samples to examine, scales of columns, losses of constant and of perfect predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastbp import losses
from fastbp.core.costs import BINARY_CROSS_ENTROPY, CROSS_ENTROPY, MEAN_ABSOLUTE, POISSON, QUADRATIC
from fastbp.frames import BLOCK
from fastbp.inference import NO_WEIGHTS
from fastbp.inputs import Inputs, Targets
from fastbp.randomness import LOOK, generator
from fastbp.workspace import Array

SAMPLES = 10_000  # largest number of samples examined
LITTLE, MANY = 1e-3, 0.5  # share of a value; share of a layer's activations, or of the weight of a mean
LARGE, SMALL = 10.0, 0.01  # means and standard deviations beyond which data need scaling
LEARNED = 0.5  # a loss below this share of that of a constant prediction shows that a network learns
STANDARDIZE = "standardise them, X = (X - X.mean(0)) / X.std(0), with the same two for all data"

# Which samples


def spread(n: int, most: int) -> Array | slice:
    """Return indices of up to `most` of n samples: one drawn from each of equal stretches, as data may be periodic."""
    if n <= most:
        return slice(None)
    edges = np.linspace(0, n, most + 1)
    return (edges[:-1] + generator(LOOK, n).random(most) * np.diff(edges)).astype(np.int64)


def trained_on(n: int, most: int, chosen: Array | None, weights: Array) -> Array | slice:
    """Return indices of up to `most` training samples: those chosen, with a weight above 0."""
    if chosen is None and not len(weights):
        return spread(n, most)
    rows = np.arange(n) if chosen is None else chosen
    if len(weights):
        rows = rows[weights[rows] > 0]
    return rows[spread(len(rows), most)]


# Figures


@dataclass
class Columns:
    """Mean, standard deviation, minimum and maximum of each column."""

    mean: Array
    std: Array
    low: Array
    high: Array

    def worst(self) -> int:
        """Return the index of the column that is farthest from 0."""
        return int(np.argmax(np.maximum(np.abs(self.mean), self.std)))

    def beyond(self, mean: float, std: float) -> bool:
        return bool((np.abs(self.mean) > mean).any() or (self.std > std).any())


def columns_of(array: Array, scale: float = 1.0) -> Columns:
    """Return the figures of columns, summed in float64: the float32 mean of 60,000 rows is off by 6e-4."""
    rows = max(1, BLOCK // array.shape[1])
    blocks = [slice(first, first + rows) for first in range(0, len(array), rows)]
    with np.errstate(over="ignore", invalid="ignore"):
        mean = sum(array[block].sum(0, dtype=np.float64) for block in blocks) / len(array)
        squares = sum(np.square(array[block] - mean).sum(0) for block in blocks) / len(array)
        return Columns(mean * scale, np.sqrt(squares) * scale, array.min(0) * scale, array.max(0) * scale)


def rows_of(t: Targets, n_out: int) -> Array:
    """Return targets (n, n_out) in float64."""
    if t.array.ndim == 2:
        return t.array.astype(np.float64)
    if n_out == 1:
        return t.array[:, np.newaxis].astype(np.float64)
    rows = np.zeros((len(t), n_out))
    rows[np.arange(len(t)), t.array] = 1
    return rows


def constant_loss(loss: losses.Loss, t: Targets, n_out: int, weights: Array) -> float | None:
    """Return the mean loss of the best constant prediction; for mean_absolute and huber, of the better one of mean and
    median; None for other losses."""
    if t.array.ndim == 1 and loss.code in (QUADRATIC, BINARY_CROSS_ENTROPY, CROSS_ENTROPY):
        shares = np.bincount(t.array, weights if len(weights) else None, max(2, n_out)) / (
            weights.sum() if len(weights) else len(t))
        mean = shares[1:] if n_out == 1 else shares
        return float((mean * (1 - mean)).sum() / 2) if loss.code == QUADRATIC else _entropy(loss, mean)
    rows = rows_of(t, n_out)
    w = weights if len(weights) else np.ones(len(rows))
    mean = np.average(rows, axis=0, weights=w)
    if loss.code in (BINARY_CROSS_ENTROPY, CROSS_ENTROPY):
        return _entropy(loss, mean)
    if loss.code == POISSON:
        return float((mean - _times_log(mean, mean)).sum())
    constants = [mean] if loss.code == QUADRATIC else [mean, np.median(rows, axis=0)]
    costs = [_distances(loss, np.abs(rows - constant)) for constant in constants]
    return min((float(np.average(cost, weights=w)) for cost in costs if cost is not None), default=None)


def _entropy(loss: losses.Loss, mean: Array) -> float:
    """Return the cross-entropy of targets that are predicted by their mean."""
    if isinstance(loss, losses.CrossEntropy):
        mean = (1 - loss.label_smoothing) * mean + loss.label_smoothing / len(mean)
    rest = 0.0 if loss.code == CROSS_ENTROPY else _times_log(1 - mean, 1 - mean)
    return float(-np.sum(_times_log(mean, mean) + rest))


def _times_log(x: Array, y: Array) -> Array:
    """Return x log y, 0 where x is 0."""
    return np.asarray(x * np.log(np.where(x > 0, y, 1.0)))


def _distances(loss: losses.Loss, r: Array) -> Array | None:
    """Return the cost of each sample, given its distances |a - t| (n, n_out)."""
    if loss.code == QUADRATIC:
        return np.asarray(np.square(r).sum(1) / 2)
    if loss.code == MEAN_ABSOLUTE:
        return np.asarray(r.sum(1))
    if isinstance(loss, losses.Huber):
        limit = loss.threshold
        return np.asarray(np.where(r <= limit, r**2 / 2, limit * (r - limit / 2)).sum(1))
    return None


@dataclass
class Levels:
    """Mean losses of the perfect prediction and, if known, of the best constant one."""

    least: float
    constant: float | None

    @classmethod
    def of(cls, loss: losses.Loss, t: Targets, n_out: int) -> Levels:
        return cls(_least_loss(loss, t, n_out), constant_loss(loss, t, n_out, NO_WEIGHTS))

    def learned(self, cost: float) -> bool:
        return self.constant is not None and cost - self.least <= LEARNED * (self.constant - self.least)


def _least_loss(loss: losses.Loss, t: Targets, n_out: int) -> float:
    """Return the mean loss of a perfect prediction: 0 except for targets that are shares, or counts."""
    if loss.code not in (BINARY_CROSS_ENTROPY, CROSS_ENTROPY, POISSON):
        return 0.0
    rows = rows_of(t, n_out)
    if loss.code == POISSON:
        return float((rows - _times_log(rows, rows)).sum(1).mean())
    return sum(_entropy(loss, row) for row in np.clip(rows, 0, 1)) / len(rows)


# In words


def column_names(given: Any, n: int) -> list[str]:
    """Return what to call the columns in messages, with their names if they are from a frame."""
    names = list(given)
    return [f"column {k} ({names[k]!r})" if len(names) == n else f"column {k}" for k in range(n)]


def described(columns: Columns, k: int, name: str) -> str:
    return f"{name} has mean {columns.mean[k]:.3g} and standard deviation {columns.std[k]:.3g}"


def are_bytes(array: Array) -> bool:
    """Whether inputs look like grey values from 0 to 255, which have one scale."""
    if array.dtype == np.uint8:
        return bool(array.max() > 127)
    return bool(array.shape[1] >= 64 and array.min() == 0 and 127 < array.max() <= 255
                and (array == np.floor(array)).all())


def unscaled_inputs(x: Inputs, columns: Columns, names: list[str]) -> str:
    """Return the sentence about inputs that are too large."""
    scaled = "" if x.samples.scale == 1 else f", times the network's input_scale {x.samples.scale:.4g},"
    if not scaled and are_bytes(x.array):
        return (f"inputs are not scaled: they are bytes from 0 to {columns.high.max():.0f}, of mean "
                f"{columns.mean.mean():.3g}; make the network with Network(..., input_scale=1/255), or in the command "
                "give --input-scale 1/255")
    k = columns.worst()
    return f"inputs{scaled} are not scaled: {described(columns, k, names[k])}; {STANDARDIZE}"


def unscaled_targets(columns: Columns, loss: losses.Loss, word: str = "not scaled") -> str:
    k = columns.worst()
    name = "they have" if len(columns.mean) == 1 else f"those of output {k} have"
    todo = ("divide them by a number near their mean, and multiply predictions by it" if loss.code == POISSON
            else "train on (y - y.mean(0)) / y.std(0), and turn predictions back")
    return (f"targets are {word}: {name} mean {columns.mean[k]:.3g} and standard deviation {columns.std[k]:.3g}; "
            f"{todo}")
