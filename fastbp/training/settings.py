"""What each setting of a trainer may be: its rule, in the constructor and when it is assigned later."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastbp import losses
from fastbp.checks import counted, fraction, number, one_of, positive, whole_number
from fastbp.names import classifies
from fastbp.network import check_loss, choose_threads
from fastbp.optimizers import OPTIMIZERS, SGD, Optimizer
from fastbp.schedules import SCHEDULES, Function, Schedule

if TYPE_CHECKING:
    from fastbp.training.trainer import Trainer

MOST_NOISE = 1e9  # what the table of layers holds, which counts in 2**-32
WORTH_TRYING = 200_000  # multiply-adds of a step, from which on all threads may be faster than one
OF_A_SAMPLE = 3_000  # a sample's own cost (to gather it, its activations and output error), in multiply-adds
READ_ONCE = {"batch_size", "seed", "threads", "dropout", "noise", "frozen"}  # by a fit, when it begins

# Keywords that belong to another call than the one they are often given to.
OF_FIT = dict.fromkeys(
    ("epochs", "validation_data", "validation_fraction", "validation_split", "progress", "verbose", "sample_weight",
     "class_weight", "stratify", "metrics", "callbacks"),
    "it belongs to fit: Trainer(net).fit(X, y, ...)")
OF_TRAINER = dict.fromkeys(
    ("loss", "optimizer", "batch_size", "seed", "threads", "schedule", "dropout", "noise", "clip_norm", "clip_value",
     "max_norm", "ema", "frozen"),
    "it belongs to the trainer: Trainer(net, ...)")
OF_OPTIMIZER = dict.fromkeys(("eta", "lr", "learning_rate"),
                             "eta belongs to the optimizer: Trainer(net, optimizer=SGD(eta=...))")
MISPLACED = OF_FIT | OF_OPTIMIZER  # of a trainer


def _loss(trainer: Trainer, loss: str | losses.Loss | None) -> losses.Loss:
    network = trainer.network
    if isinstance(loss, Optimizer) or (isinstance(loss, str) and loss.lower() in OPTIMIZERS):
        raise ValueError(f"{loss!r} is an optimizer, and Trainer's second argument the loss; give it by its name: "
                         f"Trainer(net, optimizer={loss!r})")
    chosen = check_loss(loss, network.activations[-1])
    chosen.rule(network.dtype.name)  # compiles what is the user's own
    return chosen


def chosen_threads(trainer: Trainer, threads: int | None) -> int:
    """As many as given, or for None as many as may be faster than one for a step."""
    work = trainer.batch_size * (3 * trainer.network.n_parameters + OF_A_SAMPLE)
    return choose_threads(threads, work, WORTH_TRYING)


def _schedule(schedule: str | Schedule | Function | None) -> Schedule | Function | None:
    if isinstance(schedule, str):
        return SCHEDULES[one_of("schedule", schedule, SCHEDULES)]
    if not (schedule is None or callable(schedule)) or isinstance(schedule, type):
        made = f"; make one: {schedule.__name__}(...)" if isinstance(schedule, type) else ""
        raise TypeError(f"schedule must be None, a name or a function (step, steps) -> factor, got {schedule!r}{made}")
    return schedule


def _noise(noise: float) -> float:
    chosen = number("noise", noise, 0, MOST_NOISE)
    if 0 < chosen < 1 / MOST_NOISE:
        raise ValueError(f"noise must be 0 or at least {1 / MOST_NOISE:g}, got {noise!r}")
    return chosen


def _clip(trainer: Trainer, name: str, value: float | None) -> float | None:
    chosen = _none_or_positive(name, value)
    other = "clip_value" if name == "clip_norm" else "clip_norm"
    if chosen is not None and vars(trainer).get(other) is not None:
        raise ValueError("give clip_norm or clip_value, not both")
    return chosen


def _none_or_positive(name: str, value: float | None) -> float | None:
    return None if value is None else positive(name, value)


def rates(dropout: float | Sequence[float], n_hidden: int) -> tuple[float, ...]:
    """Of the input and of each hidden layer."""
    if np.ndim(dropout) == 0:
        return (0.0,) + (fraction("dropout", dropout),) * n_hidden
    each = list(dropout)  # type: ignore[arg-type]
    if len(each) != n_hidden + 1:
        raise ValueError(f"dropout names {len(each)} rates; there are the input and "
                         f"{counted(n_hidden, 'hidden layer')}")
    return tuple(fraction("dropout", rate) for rate in each)


def _frozen(frozen: Sequence[int], n_layers: int) -> tuple[int, ...]:
    if not isinstance(frozen, Iterable):
        raise TypeError(f"frozen must be a sequence of layers' numbers, got {frozen!r}")
    layers = sorted({whole_number("a frozen layer", l, 0) for l in frozen})
    if layers and layers[-1] >= n_layers:
        raise ValueError(f"frozen names layer {layers[-1]}; the network has layers 0 to {n_layers - 1}")
    if len(layers) == n_layers:
        raise ValueError("all layers are frozen; there is nothing to train")
    return tuple(layers)


def default_optimizer(output: str) -> SGD:
    """For outputs of this activation."""
    return SGD(eta=0.2 if classifies(output) else 0.01, momentum=0.9, nesterov=True)


def _optimizer(chosen: Optimizer | str | None, default: SGD) -> Optimizer:
    name = one_of("optimizer", chosen, OPTIMIZERS) if isinstance(chosen, str) else None
    if chosen is None or name == "sgd":
        return default
    if name is not None:
        return OPTIMIZERS[name]()  # type: ignore[no-any-return]
    if not isinstance(chosen, Optimizer):
        kinds = ", ".join(kind.__name__ for kind in OPTIMIZERS.values())
        raise TypeError(f"optimizer must be a name or one of {kinds}, got {chosen!r}")
    return chosen


# The rule of each setting: of a trainer and what was given, what counts.
SETTINGS: dict[str, Callable[[Trainer, Any], Any]] = {
    "loss": _loss,
    "optimizer": lambda trainer, value: _optimizer(value, trainer.default_optimizer),
    "batch_size": lambda trainer, value: whole_number("batch_size", value, 1),
    "seed": lambda trainer, value: whole_number("seed", value, 0),
    "threads": chosen_threads,
    "schedule": lambda trainer, value: _schedule(value),
    "dropout": lambda trainer, value: rates(value, len(trainer.network.layer_sizes) - 2),
    "noise": lambda trainer, value: _noise(value),
    "clip_norm": lambda trainer, value: _clip(trainer, "clip_norm", value),
    "clip_value": lambda trainer, value: _clip(trainer, "clip_value", value),
    "max_norm": lambda trainer, value: _none_or_positive("max_norm", value),
    "ema": lambda trainer, value: None if value is None else number("ema", value, 0, 1, low_open=True, high_open=True),
    "frozen": lambda trainer, value: _frozen(value, len(trainer.network.W)),
}
