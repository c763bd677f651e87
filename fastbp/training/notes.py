"""Warnings of a fit: about absurd scales, a loss that does not fall, and the likely cause of divergence."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np

from fastbp.checks import counted, level_of_caller
from fastbp.figures import (
    LEARNED,
    LITTLE,
    MANY,
    SAMPLES,
    are_bytes,
    column_names,
    columns_of,
    constant_loss,
    spread,
    trained_on,
    unscaled_inputs,
    unscaled_targets,
)
from fastbp.frames import BLOCK
from fastbp.inference import infer
from fastbp.inputs import Data
from fastbp.losses import Custom
from fastbp.training.settings import Settings
from fastbp.workspace import Array

# What a fit examines takes 0.01 ms of CPU time for 1,000 samples of 10 columns, 0.04 ms for the bytes of MNIST.
FEW_SAMPLES, FEW_NUMBERS = 1_000, 100_000
COPIED = 1_000_000  # elements of the inputs that are copied to see whether the network has learned
# Data are rarely as large as this by intention.
ABSURD_INPUTS, ABSURD_TARGETS = (100.0, 50.0), (1_000.0, 100.0)  # |mean| and standard deviation
DIVERGES = 100.0  # absolute value that can make the cost overflow at a usual eta
# A fit with fewer epochs and fewer steps is judged only if its loss is HOPELESS times that of a constant prediction.
FEWEST_EPOCHS, FEWEST_STEPS, HOPELESS = 3, 100, 1_000.0
MANY_STEPS, MANY_EPOCHS, FAR_WORSE = 1_000, 20, 10.0  # a slightly worse loss is a fault only after this many steps
JUMP, JUMPS, LAST = 0.1, 2, 5  # rise of an epoch's loss, as a share of the constant loss; how many of the last epochs
TINY_FALL = 0.01  # share of what the loss is above the constant loss: an eta of use lowers it by more
USUAL = 10  # samples for each label, below which a label may be missing by chance
ASK = ": see fastbp.diagnose(trainer, X, y)"  # end of the warnings of a fit


class TrainingWarning(UserWarning):
    """Warning about a fit that probably does not learn as intended; `diagnose` says more.

    Examples
    --------
    >>> import warnings
    >>> from fastbp import Network, Trainer
    >>> X, y = np.arange(200.0).reshape(100, 2) * 1000, np.arange(100) % 2
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     history = Trainer(Network([2, 2])).fit(X, y)
    >>> print(caught[0].category.__name__, str(caught[0].message)[:21])
    TrainingWarning inputs are not scaled
    """


def warn_of_scales(settings: Settings, data: Data, chosen: Array | None, features: tuple[str, ...] | None) -> None:
    """Warn before a fit if inputs or targets are absurdly large. A single sample has no scale."""
    if len(data) == 1:
        return
    x, t, n_in = data.x, data.t, settings.network.layer_sizes[0]
    rows = trained_on(len(data), min(FEW_SAMPLES, max(1, FEW_NUMBERS // n_in)), chosen, data.weights)
    part = x.numbers(rows)
    if _largest(part) * x.samples.scale > ABSURD_INPUTS[1]:
        columns = columns_of(part, x.samples.scale)
        if columns.beyond(*ABSURD_INPUTS):
            names = column_names(features or (), n_in)
            warn(settings, "inputs", unscaled_inputs(replace(x, array=part), columns, names))
    if t.array.ndim == 2 and settings.loss.heeds_lengths:
        part = t.array[rows]
        if _largest(part) > ABSURD_TARGETS[1]:
            columns = columns_of(part)
            if columns.beyond(*ABSURD_TARGETS):
                warn(settings, "targets", unscaled_targets(columns, settings.loss))


def warn_of_labels(settings: Settings, data: Data, chosen: Array | None) -> None:
    """Warn before a fit if some outputs stand for labels that no sample has: they may be counted from 1. One class
    alone, and names of classes that the data lack, may be an intention."""
    n, rows = settings.network.layer_sizes[-1], trained_on(len(data), len(data), chosen, data.weights)
    if n < 3 or data.t.labels is None or settings.network.classes is not None or len(data) < USUAL * n:
        return
    counts = np.bincount(data.t.labels[rows], minlength=n)
    missing = np.flatnonzero(counts == 0)
    if 0 < len(missing) < n - 1:
        named = ", ".join(map(str, missing[:3])) + f" and {len(missing) - 3:,} more" * (len(missing) > 3)
        warn(settings, "labels", f"{counted(len(missing), 'label')} of {n:,} never occur{'s' * (len(missing) == 1)} in "
             f"{counts.sum():,} samples, and will hardly be predicted: {named}; check y, whose labels count from 0, or "
             "make a network with fewer outputs")


def warn_of_no_learning(settings: Settings, history: list[float], steps: int, data: Data, chosen: Array | None) -> None:
    """Warn after a fit, see `notes_of_learning`."""
    constant = constant_of_few(settings, data, chosen)
    for kind, text in notes_of_learning(settings, history, steps, data, chosen, constant).items():
        warn(settings, kind, text)


def notes_of_learning(settings: Settings, history: list[float], steps: int, data: Data, chosen: Array | None,
                      constant: float | None) -> dict[str, str]:
    """Return the notes after a fit, by kind: the mean of the parameters is still mostly the first ones; the loss jumps
    up and down; or it is no better than that of a constant prediction, both in training and for the current network
    without dropout, and perhaps why.

    constant: see `constant_of_few`.
    """
    first, notes = 0.0 if settings.ema is None else settings.ema**settings.steps_done, dict[str, str]()
    if first > MANY:
        notes["ema"] = (f"the network holds the mean of its parameters, and {100 * first:.0f} % of it is still the "
                        f"first ones: ema={settings.ema:g} is too slow for {counted(settings.steps_done, 'step')}")
    if not (constant and history):
        return notes
    eta = settings.optimizer.eta
    rises, jump = np.diff(history[-LAST - 1 :]), JUMP * abs(constant)
    jumps = len(history) > 2 * LAST and (rises > jump).sum() >= JUMPS
    if jumps and history[-1] > max(LEARNED * constant, min(history) + jump):
        notes["eta"] = (f"eta {eta:.3g} is too large: the loss jumps up and down, and rose by {rises.max():.3g} from "
                        f"one epoch to the next; try {eta / 10:.3g}, or see find_eta")
    if history[-1] < constant - 0.1 * abs(constant):
        return notes
    most = min(SAMPLES, max(FEW_SAMPLES, COPIED // data.x.array.shape[1]))
    rows = trained_on(len(data), most, chosen, data.weights)
    constant = _constant_loss_of(settings, data, rows)
    if not constant or history[-1] < constant - 0.02 * abs(constant):
        return notes
    part = data.taken(rows)
    outputs, now = infer(settings.network, part.x, part.t, settings.loss, settings.threads, part.weights)
    if not now < constant - 1e-4 * abs(constant) and _is_stuck(history, steps, now - constant, abs(constant), outputs):
        notes["loss"] = (f"after {counted(len(history), 'epoch')} the loss, {history[-1]:.4g}, is no better than that "
                         f"of a constant prediction, {constant:.4g}")
        if _are_constant(outputs):
            notes["loss"] += "; the outputs are the same for all samples"
        elif steps >= FEWEST_STEPS and abs(history[0] - history[-1]) < TINY_FALL * (history[0] - constant):
            notes["loss"] += f": eta {eta:.3g} is too small, as the loss was {history[0]:.4g} after the first epoch"
    return notes


def _is_stuck(history: list[float], steps: int, excess: float, constant: float, outputs: Array) -> bool:
    """Whether a loss that is not better means a fault: after a few steps only if it is far worse or the outputs are
    constant, as data may contain nothing to learn."""
    if len(history) < FEWEST_EPOCHS and steps < FEWEST_STEPS:
        return not (excess < HOPELESS * constant or history[-1] < HOPELESS * constant)
    long = (len(history) >= FEWEST_EPOCHS and steps >= MANY_STEPS) or (len(history) >= MANY_EPOCHS
                                                                         and steps >= FEWEST_STEPS)
    if not excess < FAR_WORSE * constant or long:
        return True
    return _are_constant(outputs)


def _are_constant(outputs: Array) -> bool:
    with np.errstate(invalid="ignore"):  # they may be infinite
        return bool(outputs.std(0, dtype=np.float64).max() <= LITTLE * np.abs(outputs).max())


def likely_cause(settings: Settings, data: Data, batch: Array, order: Array, is_first: bool) -> str:
    """Return advice about numbers that are not finite, from the mini-batch where they appeared and from other samples.

    is_first: the cost is not finite before any update of this call: then eta is not the cause.
    """
    of_function = _fault_of_function(settings, data, batch, is_first)
    if of_function:
        return of_function
    said = _too_large(data, batch, order, settings.network.feature_names)
    if not is_first:
        return ", and ".join(said) or "try a smaller eta"
    largest = float(np.abs(settings.network.theta).max())
    made_so = ", or if training has made them large, try a smaller eta" * (settings.steps_done > 0)
    if largest > DIVERGES:
        said.insert(0, f"the network's parameters reach {largest:.3g}, too large for its outputs to be finite: make a "
                       f"new Network{made_so}")
    return ", and ".join(said) or ("the network's parameters or the inputs are too large for its outputs to be finite: "
                                   f"make a new Network, or scale the inputs{made_so}")


def _fault_of_function(settings: Settings, data: Data, rows: Array, is_first: bool) -> str:
    """For losses.Custom, return that its function gave no finite cost for finite outputs, and for which sample.

    After updates, only if the outputs are of usual size: for large ones many functions overflow."""
    own, net, weights = settings.loss, settings.network, data.weights
    rows = rows[weights[rows] > 0] if len(weights) else rows
    if not isinstance(own, Custom) or len(rows) == 0:
        return ""

    def of(rows: Array) -> tuple[Array, float]:
        part = data.taken(rows)
        return infer(net, part.x, part.t, own, settings.threads, part.weights)

    outputs, cost = of(rows)
    where = ""
    if not math.isfinite(cost):  # otherwise dropout or noise was involved
        while len(rows) > 1:
            half = rows[: len(rows) // 2]
            rows = rows[len(half) :] if math.isfinite(of(half)[1]) else half
        outputs, where = of(rows)[0], f" for sample {rows[0]}"
    largest = float(np.abs(outputs).max())
    if not (math.isfinite(largest) if is_first else where and largest < DIVERGES):
        return ""
    return (f"the function {own.function.__name__} of losses.Custom returned no finite number, or raised,{where} at "
            f"outputs up to {largest:.3g}: it must return one for all outputs and targets")


def _too_large(data: Data, batch: Array, order: Array, features: tuple[str, ...] | None) -> list[str]:
    """Return which inputs and targets can make the cost overflow, and advice."""
    x, t, weights = data.x, data.t, data.weights
    rows = np.concatenate([batch, order[spread(len(order), max(1, BLOCK // x.array.shape[1]))]])
    said = []
    sizes = _sizes(x.numbers(rows)) * x.samples.scale  # also of samples with weight 0: 0 times infinity is NaN
    if sizes.max() > DIVERGES:
        k = int(np.argmax(sizes))
        todo = ("set the network's input_scale=1/255" if x.samples.scale == 1 and are_bytes(x.numbers(rows))
                else "standardise them")
        name = column_names(features or (), len(sizes))[k]
        said.append(f"inputs reach {sizes[k]:.3g} ({name}): {todo}")
    rows = rows[weights[rows] > 0] if len(weights) else rows
    if t.array.ndim == 2:
        sizes = _sizes(t.array[rows])
        if sizes.max() > DIVERGES:
            k = int(np.argmax(sizes))
            where = "" if len(sizes) == 1 else f" (output {k})"
            said.append(f"targets reach {sizes[k]:.3g}{where}: scale them")
    return said


def _largest(array: Array) -> float:
    return max(float(array.max()), -float(array.min())) if array.size else 0.0


def _sizes(array: Array) -> Array:
    """Return the largest absolute value of each column."""
    return np.asarray(np.maximum(array.max(0).astype(np.float64), -array.min(0).astype(np.float64)))


def constant_of_few(settings: Settings, data: Data, chosen: Array | None) -> float | None:
    """Return the loss of the best constant prediction for some samples; None if it is not known for this loss."""
    return _constant_loss_of(settings, data, trained_on(len(data), FEW_SAMPLES, chosen, data.weights))


def _constant_loss_of(settings: Settings, data: Data, rows: Array | slice) -> float | None:
    part = replace(data.t, array=data.t.array[rows])
    own = data.weights[rows] if len(data.weights) else data.weights
    return constant_loss(settings.loss, part, settings.network.layer_sizes[-1], own)


def warn(settings: Settings, kind: str, text: str) -> None:
    """Warn once per trainer and kind, at the caller's line outside of this package."""
    if kind in settings.warned_of:
        return
    settings.warned_of.add(kind)
    warnings.warn(text + ASK, TrainingWarning, stacklevel=level_of_caller())
