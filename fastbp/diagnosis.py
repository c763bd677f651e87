"""Diagnosis of training that does not learn: sentences about data and network, with figures and advice."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from fastbp import losses
from fastbp.core import activations
from fastbp.figures import (
    LARGE,
    LITTLE,
    MANY,
    SAMPLES,
    SMALL,
    STANDARDIZE,
    Levels,
    column_names,
    columns_of,
    rows_of,
    spread,
    unscaled_inputs,
    unscaled_targets,
)
from fastbp.inference import NO_WEIGHTS, infer
from fastbp.inputs import Data, Inputs, Targets, as_data
from fastbp.names import Names
from fastbp.network import Network
from fastbp.training.guard import DivergenceError
from fastbp.training.notes import likely_cause
from fastbp.training.trainer import Trainer
from fastbp.workspace import Array

# Limits of `diagnose`: samples, elements of the inputs, and samples that go through the network.
NUMBERS, FORWARD = 10_000_000, 2_000
APART = 1_000.0  # ratio of the spans of two columns; at most 255 for pixels
DEAD = 0.8  # share of a layer's neurons; half are dead from the start if all inputs are on one side of 0
SATURATED = 0.99  # share of the distance from the middle of sigmoid or tanh to its ends
STEPS, CLEAR = 20, 1e-2  # mini-batches of a trial, and a fall of the loss in them


@dataclass(repr=False)
class Diagnosis:
    """What `diagnose` found; printed as a list of its notes.

    Attributes
    ----------
    notes : list of str
        A sentence for each finding, with its figures and what to do; empty if nothing was found.
    figures : dict of float
        Measured values: samples; input_mean, input_std and input_max (times the network's input_scale); target_mean and
        target_std; loss and constant_loss (of the best constant prediction); dead_l or saturated_l (share of hidden
        layer l = 0, 1, ...); output_std; loss_after (20 mini-batches on a copy); largest_class (its share).

    Examples
    --------
    >>> Diagnosis(["eta 1e-09 is too small"], {"samples": 100})
    Diagnosis of 100 samples:
    - eta 1e-09 is too small
    """

    notes: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    def __repr__(self) -> str:
        title = f"Diagnosis of {self.figures.get('samples', 0):,.0f} samples:"
        return "\n- ".join([title, *self.notes]) if self.notes else title + " nothing found"


def diagnose(trainer: Trainer, X: npt.ArrayLike, y: npt.ArrayLike) -> Diagnosis:
    """Look for reasons why a network does not learn; trainer and network are not changed.

    It finds inputs and targets that are not scaled, constant columns (other than 0), one class in nearly all samples,
    dead relu neurons, saturated sigmoid or tanh units and outputs that are the same for all samples. Some steps on a
    copy find an eta that is far too large or too small. At most 10,000 samples, spread over all, are examined. If the
    loss is less than half of that of the best constant prediction, scales, units and outputs are taken to be good
    enough; eta is tried only if they are.

    Parameters
    ----------
    trainer : Trainer
        Before or after training.
    X, y : array_like
        As for `Trainer.fit`.

    Raises
    ------
    ValueError, TypeError
        The data do not fit the network, or `trainer` is not a Trainer.

    Examples
    --------
    >>> from fastbp import Network, Trainer
    >>> X = np.random.default_rng(0).normal(50, 20, size=(300, 2))
    >>> trainer = Trainer(Network([2, 8, 2]))
    >>> print(diagnose(trainer, X, (X[:, 0] > X[:, 1]).astype(int)))
    Diagnosis of 300 samples:
    - inputs are not scaled: column 1 has mean 50.8 and standard deviation 19.7; standardise them, \
X = (X - X.mean(0)) / X.std(0), with the same two for all data
    >>> X = (X - X.mean(0)) / X.std(0)
    >>> print(diagnose(trainer, X, (X[:, 0] > X[:, 1]).astype(int)))
    Diagnosis of 300 samples: nothing found
    """
    if not isinstance(getattr(trainer, "network", None), Network):
        raise TypeError(f"trainer must be a Trainer, got {trainer!r}")
    net = trainer.network
    known = Names(net, learning=True)
    data = as_data(X, y, None, net, trainer.loss, known, sparse=True)
    chosen = spread(len(data), min(SAMPLES, max(100, NUMBERS // net.layer_sizes[0])))
    part = data.taken(chosen)
    x, t = part.x.dense(), part.t
    found = Diagnosis(figures={"samples": len(x)})
    names = column_names(known.feature_names or (), net.layer_sizes[0])
    rows = spread(len(x), FORWARD)
    shown = x.taken(rows), t.taken(rows)
    levels = Levels.of(trainer.loss, shown[1], net.layer_sizes[-1])
    outputs, loss = infer(net, *shown, trainer.loss, trainer.threads)
    found.figures |= {"loss": loss} | ({} if levels.constant is None else {"constant_loss": levels.constant})
    if not levels.learned(loss):
        _look_at_inputs(found, x, names)
        _look_at_targets(found, t, trainer.loss)
        if math.isfinite(loss):
            _look_at_network(found, net, trainer.loss, outputs, *shown)
        else:
            rows = np.arange(len(data))[chosen][rows]
            found.notes.append(f"the loss is not finite: {likely_cause(trainer, data, rows, rows, is_first=True)}")
    if not found.notes:
        rows = spread(len(x), STEPS * trainer.batch_size)
        few = x.taken(rows), t.taken(rows)
        _look_at_eta(found, trainer, few, shown, levels)
    _look_at_columns(found, x, names)
    _look_at_classes(found, t, known.classes)
    return found


# Findings


def _look_at_inputs(found: Diagnosis, x: Inputs, names: list[str]) -> None:
    columns = columns_of(x.array, x.samples.scale)
    largest = max(abs(float(columns.low.min())), abs(float(columns.high.max())))
    spread = math.sqrt(float(np.mean(columns.std**2 + (columns.mean - columns.mean.mean()) ** 2)))
    found.figures |= {"input_mean": float(columns.mean.mean()), "input_std": spread, "input_max": largest}
    if columns.beyond(LARGE, LARGE):
        found.notes.append(unscaled_inputs(x, columns, names))
    elif not columns.beyond(SMALL, SMALL) and largest > 0:
        k = columns.worst()
        found.notes.append(f"inputs are small: the largest mean and standard deviation are those of {names[k]}, "
                           f"{columns.mean[k]:.3g} and {columns.std[k]:.3g}; {STANDARDIZE}")


def _look_at_columns(found: Diagnosis, x: Inputs, names: list[str]) -> None:
    """Compare columns. Columns of zeros are ignored: their weights do not change, as at the border of images."""
    columns = columns_of(x.array, x.samples.scale)
    span = columns.high - columns.low
    constant = np.flatnonzero((span == 0) & (columns.high != 0))
    if len(x) > 1 and len(constant):
        k = int(constant[0])
        what = f"{names[k]} is {columns.high[k]:.4g}" if len(constant) == 1 else (
            f"{len(constant)} columns have one value, {names[k]} for instance {columns.high[k]:.4g},")
        found.notes.append(f"{what} in all {len(x):,} samples looked at; leave such columns out, they say nothing")
    if not span.any():
        return
    most, least = int(np.argmax(span)), int(np.argmin(np.where(span > 0, span, np.inf)))
    if span[most] > APART * span[least]:
        found.notes.append(f"columns have very different scales: {names[most]} spans {span[most]:.3g}, {names[least]} "
                           f"{span[least]:.3g}, and the large ones drown the small ones; {STANDARDIZE}")


def _look_at_targets(found: Diagnosis, t: Targets, loss: losses.Loss) -> None:
    if t.array.ndim == 1:
        return
    columns = columns_of(t.array)
    found.figures |= {"target_mean": float(columns.mean.mean()), "target_std": float(columns.std.max())}
    if loss.heeds_lengths and columns.beyond(LARGE, LARGE):
        found.notes.append(unscaled_targets(columns, loss))
    elif t.labels is None and len(t) > 1 and not columns.std.any():
        found.notes.append(f"targets are the same for all {len(t):,} samples looked at, {columns.mean[0]:.4g}; there "
                           "is nothing to learn")
    elif loss.heeds_lengths and t.labels is None and len(t) > 1 and columns.std.max() < SMALL:
        found.notes.append(unscaled_targets(columns, loss, "nearly the same for all samples"))


def _look_at_classes(found: Diagnosis, t: Targets, classes: Array | None) -> None:
    if t.labels is None or len(t) == 1:
        return
    shares = np.bincount(t.labels) / len(t)
    k = int(np.argmax(shares))
    found.figures["largest_class"], name = float(shares[k]), k if classes is None else repr(str(classes[k]))
    if shares[k] == 1:
        found.notes.append(f"all {len(t):,} labels looked at are {name}; there is nothing to learn")
    elif shares[k] > 0.95:
        found.notes.append(f"{100 * shares[k]:.1f} % of the labels are {name}, so that an accuracy of {shares[k]:.3f} "
                           'means little; look at metrics=["f1"], and try fit(..., class_weight="balanced")')


def _look_at_network(found: Diagnosis, net: Network, loss: losses.Loss, outputs: Array, x: Inputs, t: Targets) -> None:
    _look_at_units(found, net, x)
    _look_at_outputs(found, net, loss, outputs, rows_of(t, net.layer_sizes[-1]))


def _look_at_units(found: Diagnosis, net: Network, x: Inputs) -> None:
    """Examine the hidden layers one after another, each as a network of its own."""
    a, scale = x.array, net.input_scale
    for l, activation in enumerate(net.activations[:-1]):
        layer = Network(net.layer_sizes[l : l + 2], output=activation, dtype=net.dtype, weights="zeros",
                        input_scale=scale)
        layer.W[0], layer.b[0] = net.W[l], net.b[l]
        a, scale = layer.forward(a), 1.0
        if not np.isfinite(a).all():
            found.notes.append(f"activations of hidden layer {l} are not finite: make a new network, on scaled inputs")
            return
        code = activations.CODES[activation]
        if code == activations.RELU and len(a) > 1:
            dead = found.figures[f"dead_{l}"] = float((a == 0).all(axis=0).mean())
            if dead > DEAD:
                found.notes.append(
                    f"hidden layer {l} is dead: {100 * dead:.0f} % of its {a.shape[1]} relu neurons are 0 for every "
                    'sample and cannot learn; make a new network, with a smaller eta or hidden="leaky_relu"')
        elif code in (activations.SIGMOID, activations.TANH):
            from_middle = np.abs(a) if code == activations.TANH else np.abs(2 * a - 1)
            share = found.figures[f"saturated_{l}"] = float((from_middle > SATURATED).mean())
            if share > MANY:
                found.notes.append(
                    f"hidden layer {l} is saturated: {100 * share:.0f} % of its {activation} activations are within "
                    f"{100 - 100 * SATURATED:.0f} % of their ends, where there is hardly a gradient; scale the inputs, "
                    "make a new network with smaller weights, or try a smaller eta")


def _look_at_outputs(found: Diagnosis, net: Network, loss: losses.Loss, outputs: Array, rows: Array) -> None:
    """Find constant outputs; these are no fault of an untrained network of one layer, which may start at 0."""
    if len(rows) == 1:
        return
    spread, wanted = float(outputs.std(0, dtype=np.float64).max()), float(rows.std(0).max())
    found.figures["output_std"] = spread
    if loss.heeds_lengths and spread < LITTLE * wanted and (len(net.W) > 1 or net.theta.any()):
        found.notes.append(
            f"outputs are the same for all samples: their standard deviation is {spread:.3g}, that of the targets "
            f"{wanted:.3g}; make a new network (other seed or weights), with a smaller eta or other hidden units")


def _look_at_eta(found: Diagnosis, trainer: Trainer, few: tuple[Inputs, Targets], shown: tuple[Inputs, Targets],
                 levels: Levels) -> None:
    """Train copies for some mini-batches, with this eta and others."""
    trial = _trial(trainer)
    before = infer(trial.network, *shown, trainer.loss, trainer.threads)[1]
    after = found.figures["loss_after"] = _loss_after(trainer, trainer.optimizer.eta, few, shown)
    found.notes += (_too_large_eta(trainer, before, after, few, shown, levels)
                    or _too_small_eta(trainer, before, after, few, shown, levels))


def _too_large_eta(trainer: Trainer, before: float, after: float, few: tuple[Inputs, Targets],
                   shown: tuple[Inputs, Targets], levels: Levels) -> list[str]:
    """Find an eta whose steps raise the loss, if those of a tenth do not; near a minimum both may raise it a little."""
    constant = before if levels.constant is None else levels.constant
    if after < before or (levels.learned(before) and after < constant + abs(constant)):
        return []
    tenth = _loss_after(trainer, trainer.optimizer.eta / 10, few, shown)
    better = tenth - levels.least < 0.9 * (before - levels.least)
    worse = after > constant and tenth - levels.least < 0.5 * (after - levels.least)
    return [_of_eta(trainer, "large", before, after, 0.1, tenth)] if better or worse or after == math.inf else []


def _too_small_eta(trainer: Trainer, before: float, after: float, few: tuple[Inputs, Targets],
                   shown: tuple[Inputs, Targets], levels: Levels) -> list[str]:
    """Find an eta whose steps hardly lower the loss, if steps that are 10, 100, ... times as large do."""
    excess = before - levels.least
    if levels.learned(before) or not abs(before - after) < LITTLE * excess:
        return []
    for factor in (1e1, 1e2, 1e3, 1e4, 1e6, 1e8, 1e10, 1e12):
        there = _loss_after(trainer, factor * trainer.optimizer.eta, few, shown)
        if before - there > CLEAR * excess:
            return [_of_eta(trainer, "small", before, after, factor, there)]
    return []


def _of_eta(trainer: Trainer, what: str, before: float, after: float, factor: float, there: float) -> str:
    eta = trainer.optimizer.eta
    said = f"eta {eta:.3g} is too {what}: in {STEPS} mini-batches the loss goes from {before:.4g} to {after:.4g}"
    if not there < before:
        return f"{said}, with {factor * eta:.3g} to {there:.4g}; try a far smaller one, or see find_eta"
    return f"{said}, with {factor * eta:.3g} to {there:.4g}; try that, or see find_eta"


def _trial(trainer: Trainer) -> Trainer:
    """Return a copy whose network holds the trained parameters, not their mean."""
    trial = copy.deepcopy(trainer)
    trial.hold_mean(False)
    return trial


def _loss_after(trainer: Trainer, eta: float, few: tuple[Inputs, Targets], shown: tuple[Inputs, Targets]) -> float:
    trial = _trial(trainer)
    trial.optimizer = replace(trial.optimizer, eta=eta)
    end = trial.steps_done + STEPS
    try:
        while trial.steps_done < end:
            trial.go_once(Data(*few, NO_WEIGHTS), Names(trial.network))
            trial.hold_mean(False)
    except DivergenceError:
        return math.inf
    return infer(trial.network, *shown, trial.loss, trial.threads)[1]


