"""Why training does not learn: what data and network say about it, in sentences that name figures and what to do."""

from __future__ import annotations

import copy
import math
import warnings
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastbp import losses
from fastbp.checks import counted, level_of_caller
from fastbp.core import activations
from fastbp.core.costs import BINARY_CROSS_ENTROPY, CROSS_ENTROPY, MEAN_ABSOLUTE, POISSON, QUADRATIC
from fastbp.inputs import BLOCK, Data, Inputs, Targets, as_data
from fastbp.names import Names
from fastbp.network import NO_WEIGHTS, Network, infer
from fastbp.randomness import LOOK, generator
from fastbp.workspace import Array

if TYPE_CHECKING:
    from fastbp.training.trainer import Trainer

# What `diagnose` looks at: samples, numbers of the inputs, and samples that go through the network.
SAMPLES, NUMBERS, FORWARD = 10_000, 10_000_000, 2_000
# What `fit` looks at: 0.01 ms of CPU time for 1,000 samples of 10 columns, 0.04 ms for MNIST's bytes.
FEW_SAMPLES, FEW_NUMBERS = 1_000, 100_000
COPIED = 1_000_000  # numbers of the inputs that `fit` copies to see whether it has learned
LARGE, SMALL = 10.0, 0.01  # means and standard deviations beyond which data want scaling
APART = 1_000.0  # times the span of another column; of pixels it is 255 at the most
# Data are rarely as far off as this by intention: it is said during a fit, too.
ABSURD_INPUTS, ABSURD_TARGETS = (100.0, 50.0), (1_000.0, 100.0)  # |mean| and standard deviation
DIVERGES = 100.0  # size of a number that can make the cost overflow at a usual eta
DEAD = 0.8  # of a layer's neurons: where all inputs are on one side of 0, half of them are from the beginning
MANY = 0.5  # of a layer's activations
SATURATED = 0.99  # of the way from the middle of sigmoid or tanh to its ends
LEARNED = 0.5  # of the way from the loss of a constant prediction to 0: such a network learns, whatever it looks like
STEPS, LITTLE, CLEAR = 20, 1e-3, 1e-2  # mini-batches of a trial, and falls of the loss in them
# A fit of fewer epochs and fewer steps is not judged unless its loss is HOPELESS times that of a constant prediction.
FEWEST_EPOCHS, FEWEST_STEPS, HOPELESS = 3, 100, 1_000.0
MANY_STEPS, MANY_EPOCHS, FAR_WORSE = 1_000, 20, 10.0  # a loss that is hardly worse is a fault only after so many steps
ASK = ": see fastbp.diagnose(trainer, X, y)"  # how a warning of a fit ends
STANDARDIZE = "standardise them, X = (X - X.mean(0)) / X.std(0), with the same two for all data"


class TrainingWarning(UserWarning):
    """A fit that probably does not do what it is meant to do; `diagnose` says more."""


@dataclass(repr=False)
class Diagnosis:
    """What `diagnose` found. It shows itself as a list of its notes.

    Attributes
    ----------
    notes : list of str
        A sentence for each finding, with its figures and what to do; empty if nothing was found.
    figures : dict of float
        What was looked at: samples; input_mean, input_std and input_max (times the network's input_scale); target_mean
        and target_std; loss and constant_loss (of the best constant prediction); for hidden layer l = 0, 1, ...
        dead_l or saturated_l (shares); output_std; loss_after (20 mini-batches on a copy); largest_class (its share).

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
    """Look for what keeps a network from learning; trainer and network stay as they are.

    It finds inputs and targets that are not scaled, constant columns (other than 0), one class in nearly all samples,
    dead relu neurons, saturated sigmoid or tanh units, outputs that are the same for all samples, and, by some steps
    on a copy, an eta that is far too large or too small. Of more than 10,000 samples it looks at as many, spread over
    all. If the loss is less than half of that of the best constant prediction, scales, units and outputs are taken to
    be good enough; eta is tried only if they are.

    Parameters
    ----------
    trainer : Trainer
        Before or after training.
    X, y : array_like
        As for `Trainer.fit`.

    Raises
    ------
    ValueError, TypeError
        The data do not fit the network, or the trainer is none.

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
    data = as_data(X, y, None, net, trainer.loss, known)
    data = data.taken(_spread(len(data), min(SAMPLES, max(100, NUMBERS // net.layer_sizes[0]))))
    x, t = data.x, data.t
    found = Diagnosis(figures={"samples": len(x)})
    names = _column_names(known.feature_names or (), net.layer_sizes[0])
    rows = _spread(len(x), FORWARD)
    shown = x.taken(rows), t.taken(rows)
    levels = Levels.of(trainer.loss, shown[1], net.layer_sizes[-1])
    outputs, loss = infer(net, *shown, trainer.loss, trainer.threads)
    found.figures |= {"loss": loss} | ({} if levels.constant is None else {"constant_loss": levels.constant})
    if not levels.learned(loss):
        _look_at_inputs(found, x, names)
        _look_at_targets(found, t, trainer.loss)
        _look_at_network(found, net, outputs, *shown)
    if not found.notes:
        rows = _spread(len(x), STEPS * trainer.batch_size)
        few = x.taken(rows), t.taken(rows)
        _look_at_eta(found, trainer, few, shown, levels)
    _look_at_columns(found, x, names)
    _look_at_classes(found, t, known.classes)
    return found


# Which samples


def _spread(n: int, most: int) -> Array | slice:
    """Numbers of up to `most` of n samples: one of each of as many equal stretches, drawn, as data may be periodic."""
    if n <= most:
        return slice(None)
    edges = np.linspace(0, n, most + 1)
    return (edges[:-1] + generator(LOOK, n).random(most) * np.diff(edges)).astype(np.int64)


def _trained_on(n: int, most: int, chosen: Array | None, weights: Array) -> Array | slice:
    """Numbers of up to `most` of the samples that are trained on: those chosen, of a weight above 0."""
    if chosen is None and not len(weights):
        return _spread(n, most)
    rows = np.arange(n) if chosen is None else chosen
    if len(weights):
        rows = rows[weights[rows] > 0]
    return rows[_spread(len(rows), most)]


# Figures


@dataclass
class _Columns:
    """Of each column: mean and standard deviation, least and largest number."""

    mean: Array
    std: Array
    low: Array
    high: Array

    def worst(self) -> int:
        """Number of the column that is farthest from 0."""
        return int(np.argmax(np.maximum(np.abs(self.mean), self.std)))

    def beyond(self, mean: float, std: float) -> bool:
        return bool((np.abs(self.mean) > mean).any() or (self.std > std).any())


def _columns(array: Array, scale: float = 1.0) -> _Columns:
    """Sums are taken in float64: the float32 mean of 60,000 rows is off by 6e-4."""
    rows = max(1, BLOCK // array.shape[1])
    blocks = [slice(first, first + rows) for first in range(0, len(array), rows)]
    with np.errstate(over="ignore", invalid="ignore"):
        mean = sum(array[block].sum(0, dtype=np.float64) for block in blocks) / len(array)
        squares = sum(np.square(array[block] - mean).sum(0) for block in blocks) / len(array)
        return _Columns(mean * scale, np.sqrt(squares) * scale, array.min(0) * scale, array.max(0) * scale)


def _rows(t: Targets, n_out: int) -> Array:
    """Targets (n, n_out) in float64."""
    if t.array.ndim == 2:
        return t.array.astype(np.float64)
    if n_out == 1:
        return t.array[:, np.newaxis].astype(np.float64)
    rows = np.zeros((len(t), n_out))
    rows[np.arange(len(t)), t.array] = 1
    return rows


def _constant_loss(loss: losses.Loss, t: Targets, n_out: int, weights: Array) -> float | None:
    """Mean loss of the best prediction that is the same for all samples, or for mean_absolute and huber of the better
    one of mean and median; None where the loss is the user's own."""
    if t.array.ndim == 1 and loss.code in (QUADRATIC, BINARY_CROSS_ENTROPY, CROSS_ENTROPY):
        shares = np.bincount(t.array, weights if len(weights) else None, max(2, n_out)) / (
            weights.sum() if len(weights) else len(t))
        mean = shares[1:] if n_out == 1 else shares
        return float((mean * (1 - mean)).sum() / 2) if loss.code == QUADRATIC else _entropy(loss, mean)
    rows = _rows(t, n_out)
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
    """Cross-entropy of targets of this mean, predicted by their mean."""
    if isinstance(loss, losses.CrossEntropy):
        mean = (1 - loss.label_smoothing) * mean + loss.label_smoothing / len(mean)
    rest = 0.0 if loss.code == CROSS_ENTROPY else _times_log(1 - mean, 1 - mean)
    return float(-np.sum(_times_log(mean, mean) + rest))


def _times_log(x: Array, y: Array) -> Array:
    """x log y, 0 where x is 0."""
    return np.asarray(x * np.log(np.where(x > 0, y, 1.0)))


def _distances(loss: losses.Loss, r: Array) -> Array | None:
    """Cost of each sample by its distances |a - t| (n, n_out)."""
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
    """Mean losses of the perfect prediction and of the best constant one, if that is known."""

    least: float
    constant: float | None

    @classmethod
    def of(cls, loss: losses.Loss, t: Targets, n_out: int) -> Levels:
        return cls(_least_loss(loss, t, n_out), _constant_loss(loss, t, n_out, NO_WEIGHTS))

    def learned(self, cost: float) -> bool:
        return self.constant is not None and cost - self.least <= LEARNED * (self.constant - self.least)


def _least_loss(loss: losses.Loss, t: Targets, n_out: int) -> float:
    """Mean loss of a perfect prediction: 0 but for targets that are shares, or counts."""
    if loss.code not in (BINARY_CROSS_ENTROPY, CROSS_ENTROPY, POISSON):
        return 0.0
    rows = _rows(t, n_out)
    if loss.code == POISSON:
        return float((rows - _times_log(rows, rows)).sum(1).mean())
    return sum(_entropy(loss, row) for row in np.clip(rows, 0, 1)) / len(rows)


# Findings


def _column_names(given: Any, n: int) -> list[str]:
    """What to call the columns: of a frame also by their names."""
    names = list(given)
    return [f"column {k} ({names[k]!r})" if len(names) == n else f"column {k}" for k in range(n)]


def _of(columns: _Columns, k: int, name: str) -> str:
    return f"{name} has mean {columns.mean[k]:.3g} and standard deviation {columns.std[k]:.3g}"


def _are_bytes(array: Array) -> bool:
    """Whether inputs look like grey values from 0 to 255, which have one scale."""
    if array.dtype == np.uint8:
        return bool(array.max() > 127)
    return bool(array.shape[1] >= 64 and array.min() == 0 and 127 < array.max() <= 255
                and (array == np.floor(array)).all())


def _unscaled_inputs(x: Inputs, columns: _Columns, names: list[str]) -> str:
    """The sentence about inputs that are too large."""
    scaled = "" if x.samples.scale == 1 else f", times the network's input_scale {x.samples.scale:.4g},"
    if not scaled and _are_bytes(x.array):
        return (f"inputs are not scaled: they are bytes from 0 to {columns.high.max():.0f}, of mean "
                f"{columns.mean.mean():.3g}; make the network with Network(..., input_scale=1/255), or in the command "
                "give --input-scale 1/255")
    k = columns.worst()
    return f"inputs{scaled} are not scaled: {_of(columns, k, names[k])}; {STANDARDIZE}"


def _look_at_inputs(found: Diagnosis, x: Inputs, names: list[str]) -> None:
    columns = _columns(x.array, x.samples.scale)
    largest = max(abs(float(columns.low.min())), abs(float(columns.high.max())))
    spread = math.sqrt(float(np.mean(columns.std**2 + (columns.mean - columns.mean.mean()) ** 2)))
    found.figures |= {"input_mean": float(columns.mean.mean()), "input_std": spread, "input_max": largest}
    if columns.beyond(LARGE, LARGE):
        found.notes.append(_unscaled_inputs(x, columns, names))
    elif not columns.beyond(SMALL, SMALL) and largest > 0:
        k = columns.worst()
        found.notes.append(f"inputs are small: the largest mean and standard deviation are those of {names[k]}, "
                           f"{columns.mean[k]:.3g} and {columns.std[k]:.3g}; {STANDARDIZE}")


def _look_at_columns(found: Diagnosis, x: Inputs, names: list[str]) -> None:
    """Compare columns. Those that are always 0 are none: their weights stay as they are, as at the border of images."""
    columns = _columns(x.array, x.samples.scale)
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


def _unscaled_targets(columns: _Columns, loss: losses.Loss, word: str = "not scaled") -> str:
    k = columns.worst()
    name = "they have" if len(columns.mean) == 1 else f"those of output {k} have"
    todo = ("divide them by a number near their mean, and multiply predictions by it" if loss.code == POISSON
            else "train on (y - y.mean(0)) / y.std(0), and turn predictions back")
    return (f"targets are {word}: {name} mean {columns.mean[k]:.3g} and standard deviation {columns.std[k]:.3g}; "
            f"{todo}")


def _look_at_targets(found: Diagnosis, t: Targets, loss: losses.Loss) -> None:
    if t.array.ndim == 1:
        return
    columns = _columns(t.array)
    found.figures |= {"target_mean": float(columns.mean.mean()), "target_std": float(columns.std.max())}
    if columns.beyond(LARGE, LARGE):
        found.notes.append(_unscaled_targets(columns, loss))
    elif t.labels is None and len(t) > 1 and not columns.std.any():
        found.notes.append(f"targets are the same for all {len(t):,} samples looked at, {columns.mean[0]:.4g}; there "
                           "is nothing to learn")
    elif t.labels is None and len(t) > 1 and columns.std.max() < SMALL:
        found.notes.append(_unscaled_targets(columns, loss, "nearly the same for all samples"))


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
                           'says nothing; look at metrics=["f1"], and try fit(..., class_weight="balanced")')


def _look_at_network(found: Diagnosis, net: Network, outputs: Array, x: Inputs, t: Targets) -> None:
    if not np.isfinite(outputs).all():
        found.notes.append("outputs are not finite: the parameters or the inputs are too large; make a new network")
        return
    _look_at_units(found, net, x)
    _look_at_outputs(found, net, outputs, _rows(t, net.layer_sizes[-1]))


def _look_at_units(found: Diagnosis, net: Network, x: Inputs) -> None:
    """Hidden layers, one after another, each a network of its own."""
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
                    f"hidden layer {l} is dead: {100 * dead:.0f} % of its {a.shape[1]} relu neurons send 0 for every "
                    'sample and cannot learn; make a new network, with a smaller eta or hidden="leaky_relu"')
        elif code in (activations.SIGMOID, activations.TANH):
            from_middle = np.abs(a) if code == activations.TANH else np.abs(2 * a - 1)
            share = found.figures[f"saturated_{l}"] = float((from_middle > SATURATED).mean())
            if share > MANY:
                found.notes.append(
                    f"hidden layer {l} is saturated: {100 * share:.0f} % of its {activation} activations are within "
                    f"{100 - 100 * SATURATED:.0f} % of their ends, where there is hardly a gradient; scale the inputs, "
                    "make a new network with smaller weights, or try a smaller eta")


def _look_at_outputs(found: Diagnosis, net: Network, outputs: Array, rows: Array) -> None:
    """Constant ones are right before the first step of a network that is one layer, which may start at 0."""
    if len(rows) == 1:
        return
    spread, wanted = float(outputs.std(0, dtype=np.float64).max()), float(rows.std(0).max())
    found.figures["output_std"] = spread
    if spread < LITTLE * wanted and (len(net.W) > 1 or net.theta.any()):
        found.notes.append(
            f"outputs are the same for all samples: their standard deviation is {spread:.3g}, that of the targets "
            f"{wanted:.3g}; make a new network (other seed or weights), with a smaller eta or other hidden units")


def _look_at_eta(found: Diagnosis, trainer: Trainer, few: tuple[Inputs, Targets], shown: tuple[Inputs, Targets],
                 levels: Levels) -> None:
    """Train copies for some mini-batches."""
    trial = _trial(trainer)
    before = infer(trial.network, *shown, trainer.loss, trainer.threads)[1]
    after = found.figures["loss_after"] = _loss_after(trainer, trainer.optimizer.eta, few, shown)
    found.notes += (_too_large_eta(trainer, before, after, few, shown, levels)
                    or _too_small_eta(trainer, before, after, few, shown, levels))


def _too_large_eta(trainer: Trainer, before: float, after: float, few: tuple[Inputs, Targets],
                   shown: tuple[Inputs, Targets], levels: Levels) -> list[str]:
    """Steps that are too large make it worse, those of a tenth do not. Near a minimum all do, more or less."""
    constant = before if levels.constant is None else levels.constant
    if after < before or (levels.learned(before) and after < constant + abs(constant)):
        return []
    tenth = _loss_after(trainer, trainer.optimizer.eta / 10, few, shown)
    better = tenth - levels.least < 0.9 * (before - levels.least)
    worse = after > constant and tenth - levels.least < 0.5 * (after - levels.least)
    return [_of_eta(trainer, "large", before, after, 0.1, tenth)] if better or worse or after == math.inf else []


def _too_small_eta(trainer: Trainer, before: float, after: float, few: tuple[Inputs, Targets],
                   shown: tuple[Inputs, Targets], levels: Levels) -> list[str]:
    """Of steps that are too small nothing comes, of some that are 10, 100, ... times as large something does."""
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
    """A copy, whose network holds the parameters that are trained and not their mean."""
    trial = copy.deepcopy(trainer)
    trial.state.hold_mean(False)
    return trial


def _loss_after(trainer: Trainer, eta: float, few: tuple[Inputs, Targets], shown: tuple[Inputs, Targets]) -> float:
    trial = _trial(trainer)
    trial.optimizer = replace(trial.optimizer, eta=eta)
    end = trial.steps_done + STEPS
    try:
        while trial.steps_done < end:
            trial.go_once(Data(*few, NO_WEIGHTS), Names(trial.network))
            trial.state.hold_mean(False)
    except ArithmeticError:  # DivergenceError, of a module above this one
        return math.inf
    return infer(trial.network, *shown, trial.loss, trial.threads)[1]


# What a fit says by itself


def warn_of_scales(trainer: Trainer, x: Inputs, t: Targets, weights: Array, chosen: Array | None,
                   features: tuple[str, ...] | None) -> None:
    """Before a fit: inputs or targets are absurdly large. A single sample has no scale."""
    if len(x) == 1:
        return
    n_in = trainer.network.layer_sizes[0]
    rows = _trained_on(len(x), min(FEW_SAMPLES, max(1, FEW_NUMBERS // n_in)), chosen, weights)
    part = x.array[rows]
    if _largest(part) * x.samples.scale > ABSURD_INPUTS[1]:
        columns = _columns(part, x.samples.scale)
        if columns.beyond(*ABSURD_INPUTS):
            names = _column_names(features or (), n_in)
            _warn(trainer, "inputs", _unscaled_inputs(replace(x, array=part), columns, names))
    if t.array.ndim == 2:
        part = t.array[rows]
        if _largest(part) > ABSURD_TARGETS[1]:
            columns = _columns(part)
            if columns.beyond(*ABSURD_TARGETS):
                _warn(trainer, "targets", _unscaled_targets(columns, trainer.loss))


def warn_of_no_learning(trainer: Trainer, history: list[float], steps: int, x: Inputs, t: Targets, weights: Array,
                        chosen: Array | None) -> None:
    """After a fit: the mean of the parameters is still that of the first ones; or the loss is no better than that of a
    constant prediction, that of the training and that of the network as it is now, which no dropout disturbs."""
    first = 0.0 if trainer.ema is None else trainer.ema**trainer.steps_done
    if first > MANY:
        _warn(trainer, "ema", f"the network holds the mean of its parameters, {100 * first:.0f} % of which is still "
                              f"the first ones: ema={trainer.ema:g} is too slow for "
                              f"{counted(trainer.steps_done, 'step')}")
    constant = _constant_loss_of(trainer, t, _trained_on(len(x), FEW_SAMPLES, chosen, weights), weights)
    if not (constant and history) or history[-1] < constant - 0.1 * abs(constant):
        return
    rows = _trained_on(len(x), min(SAMPLES, max(FEW_SAMPLES, COPIED // x.array.shape[1])), chosen, weights)
    constant = _constant_loss_of(trainer, t, rows, weights)
    if not constant or history[-1] < constant - 0.02 * abs(constant):
        return
    part = x.taken(rows), t.taken(rows)
    own = weights[rows] if len(weights) else weights
    outputs, now = infer(trainer.network, *part, trainer.loss, trainer.threads, own)
    if not now < constant - 1e-4 * abs(constant) and _is_stuck(history, steps, now - constant, abs(constant), outputs):
        n = len(history)
        _warn(trainer, "loss", f"after {counted(n, 'epoch')} the loss, {history[-1]:.4g}, is no better than "
                               f"that of a constant prediction, {constant:.4g}")


def _is_stuck(history: list[float], steps: int, excess: float, constant: float, outputs: Array) -> bool:
    """Whether a loss that is not better says something: after a few steps it need not, unless it is far worse or the
    outputs are constant; and data may hold nothing to learn."""
    if len(history) < FEWEST_EPOCHS and steps < FEWEST_STEPS:
        return not (excess < HOPELESS * constant or history[-1] < HOPELESS * constant)
    long = (len(history) >= FEWEST_EPOCHS and steps >= MANY_STEPS) or (len(history) >= MANY_EPOCHS
                                                                         and steps >= FEWEST_STEPS)
    if not excess < FAR_WORSE * constant or long:
        return True
    return bool(outputs.std(0, dtype=np.float64).max() <= LITTLE * np.abs(outputs).max())


def likely_cause(x: Inputs, t: Targets, batch: Array, order: Array, weights: Array,
                 features: tuple[str, ...] | None) -> str:
    """What to do about a cost that is no longer finite, from the mini-batch at which it was and some of all samples."""
    rows = np.concatenate([batch, order[_spread(len(order), max(1, BLOCK // x.array.shape[1]))]])
    said = []
    sizes = _sizes(x.array[rows]) * x.samples.scale  # of samples without weight, too: 0 times infinity is no number
    if sizes.max() > DIVERGES:
        k = int(np.argmax(sizes))
        todo = ("set the network's input_scale=1/255" if x.samples.scale == 1 and _are_bytes(x.array[rows])
                else "standardise them")
        name = _column_names(features or (), len(sizes))[k]
        said.append(f"inputs reach {sizes[k]:.3g} ({name}): {todo}")
    rows = rows[weights[rows] > 0] if len(weights) else rows
    if t.array.ndim == 2:
        sizes = _sizes(t.array[rows])
        if sizes.max() > DIVERGES:
            k = int(np.argmax(sizes))
            where = "" if len(sizes) == 1 else f" (output {k})"
            said.append(f"targets reach {sizes[k]:.3g}{where}: scale them")
    return ", and ".join(said) if said else "try a smaller eta"


def _largest(array: Array) -> float:
    return max(float(array.max()), -float(array.min())) if array.size else 0.0


def _sizes(array: Array) -> Array:
    """Of the largest number of each column."""
    return np.asarray(np.maximum(array.max(0).astype(np.float64), -array.min(0).astype(np.float64)))


def _constant_loss_of(trainer: Trainer, t: Targets, rows: Array | slice, weights: Array) -> float | None:
    part = replace(t, array=t.array[rows])
    own = weights[rows] if len(weights) else weights
    return _constant_loss(trainer.loss, part, trainer.network.layer_sizes[-1], own)


def _warn(trainer: Trainer, kind: str, text: str) -> None:
    """Once for a trainer and kind; shown at the caller's line, outside of this package."""
    if kind in trainer.warned_of:
        return
    trainer.warned_of.add(kind)
    warnings.warn(text + ASK, TrainingWarning, stacklevel=level_of_caller())
