"""Settings: a network, how it is trained, and the rule that checks each setting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastbp import losses
from fastbp.checks import check_spelling, counted, fraction, number, one_of, positive, shown, whole_number
from fastbp.core.rules import RULE
from fastbp.data.augmentation import Augmentation
from fastbp.history import History
from fastbp.inference import choose_threads
from fastbp.names import classifies
from fastbp.network import Network, check_loss, check_network
from fastbp.optimizers import OPTIMIZERS, SGD, Optimizer
from fastbp.schedules import SCHEDULES, Function, Schedule
from fastbp.training.state import Kind, State

MOST_NOISE = 1e9  # the most that the table of layers can hold, in units of 2**-32
WORTH_TRYING = 200_000  # multiply-adds of a step from which all threads may be faster than one
OF_A_SAMPLE = 3_000  # fixed cost of a sample (gathering, activations, output error), in multiply-adds
# Read by a fit only when it begins.
READ_ONCE = {"batch_size", "seed", "threads", "dropout", "noise", "augmentation", "frozen"}

# Keywords that are often passed to the wrong call.
OF_FIT = dict.fromkeys(
    ("epochs", "validation_data", "validation_fraction", "validation_split", "progress", "verbose", "sample_weight",
     "class_weight", "stratify", "metrics", "callbacks"),
    "it belongs to fit: Trainer(net).fit(X, y, ...)")
OF_TRAINER = dict.fromkeys(
    ("loss", "optimizer", "batch_size", "seed", "threads", "schedule", "dropout", "noise", "augmentation", "clip_norm",
     "clip_value", "max_norm", "ema", "frozen"),
    "it belongs to the trainer: Trainer(net, ...)")
OF_OPTIMIZER = dict.fromkeys(("eta", "lr", "learning_rate"),
                             "eta belongs to the optimizer: Trainer(net, optimizer=SGD(eta=...))")
MISPLACED = OF_FIT | OF_OPTIMIZER  # keywords that a trainer does not have


class Settings:
    """A network, how it is trained, and its progress: shared by all calls of a Trainer.

    Each setting has a rule, applied in the constructor and at each assignment; what depends on the setting is renewed.

    Attributes
    ----------
    state : State
    warned_of : set of str
        Kinds of notes already given: each is given once.
    """

    if TYPE_CHECKING:  # types of the settings after the checks
        loss: losses.Loss
        optimizer: Optimizer
        batch_size: int
        seed: int
        threads: int
        schedule: Schedule | Function | None
        dropout: tuple[float, ...]
        noise: float
        augmentation: Augmentation | None
        clip_norm: float | None
        clip_value: float | None
        max_norm: float | None
        ema: float | None
        frozen: tuple[int, ...]
        _chooses_threads: bool

    def __init__(self, network: Network, given: dict[str, Any]):
        self._network = check_network(network)
        self.default_optimizer = default_optimizer(network.activations[-1])
        for name, value in given.items():
            setattr(self, name, value)
        self.history = History()
        self.state = State(network, self._kind(self.optimizer, self.ema))
        self.warned_of: set[str] = set()
        self._is_training = False

    def __setattr__(self, name: str, value: Any) -> None:
        """Check a setting by its rule, in the constructor and later, and renew what depends on it."""
        if name in MISPLACED:
            raise AttributeError(f"a trainer has no {name}: {MISPLACED[name]}")
        if name not in SETTINGS:
            check_spelling("trainer", name, self, SETTINGS)
            return super().__setattr__(name, value)
        chosen, made = SETTINGS[name](self, value), "_is_training" in vars(self)
        if made:
            self._check_change(name, chosen)
        of_a_kind = name == "optimizer" and made and type(chosen) is type(self.optimizer)
        super().__setattr__(name, chosen)
        if name == "threads":
            self._chooses_threads = value is None
        if not made:
            return
        kind = self._kind(self.optimizer, self.ema)
        if self.state.kind != kind:
            self.state = State(self.network, kind)
        if name == "batch_size" and self._chooses_threads:
            self.threads = None  # type: ignore[assignment]  # chosen again by its rule
        else:
            self.changed(name in ("batch_size", "threads", "clip_norm", "optimizer") and not of_a_kind)

    def hold_mean(self, mean: bool) -> None:
        """See State.hold_mean."""
        self.state.hold_mean(mean, self.frozen)

    def changed(self, room: bool) -> None:
        """React to an assigned setting; room: whether it affects memory and threads."""

    def _check_change(self, name: str, chosen: Any) -> None:
        """Refuse settings that a running fit reads only once, or that do not fit the state of earlier steps."""
        if self._is_training and name in READ_ONCE:
            raise RuntimeError(f"{name} cannot be changed during a fit, which reads it when it begins; change it "
                               "before or after")
        kind = self._kind(chosen if name == "optimizer" else self.optimizer, chosen if name == "ema" else self.ema)
        if kind != self.state.kind and (self.steps_done or self._is_training):
            raise ValueError(f"{name} cannot be changed to {chosen!r}: the steps made so far have left a state of "
                             "another kind; make a new Trainer")

    @staticmethod
    def _kind(optimizer: Optimizer, ema: float | None) -> Kind:
        """Return the kind of the state: what its rows mean."""
        return Kind(optimizer.settings()[RULE], ema is not None)

    def thread_counts(self) -> tuple[int, ...]:
        """Return the numbers of threads to choose from by measurement."""
        return tuple(sorted({1 if self._chooses_threads else self.threads, self.threads}))

    @property
    def asked_threads(self) -> int | None:
        """Return the requested number of threads; None if the fastest number is to be used."""
        return None if self._chooses_threads else self.threads

    @property
    def network(self) -> Network:
        """The network, trained in place.

        Raises
        ------
        AttributeError
            On assignment: the state of a trainer belongs to its network.

        Examples
        --------
        >>> from fastbp import Trainer
        >>> net = Network([2, 3])
        >>> Trainer(net).network is net
        True
        """
        return self._network

    @network.setter
    def network(self, network: Network) -> None:
        raise AttributeError("a trainer keeps its network, to which its state belongs; make a new Trainer")

    @property
    def schedule_of_fit(self) -> Schedule | Function:
        """Return the given schedule, or the default."""
        if self.schedule is not None:
            return self.schedule
        return SCHEDULES["linear" if self.optimizer is self.default_optimizer else "constant"]

    @property
    def steps_done(self) -> int:
        """Number of updates of the parameters so far.

        Examples
        --------
        >>> from fastbp import Trainer
        >>> trainer = Trainer(Network([2, 3]), batch_size=10)
        >>> _ = trainer.fit(np.zeros((100, 2)), np.zeros(100), epochs=3)
        >>> trainer.steps_done
        30
        """
        return int(self.state.clock[0])

    @property
    def epochs_done(self) -> int:
        """Number of passes through samples so far.

        Examples
        --------
        >>> from fastbp import Trainer
        >>> trainer = Trainer(Network([2, 3]))
        >>> _ = trainer.fit(np.zeros((100, 2)), np.zeros(100), epochs=3)
        >>> trainer.epochs_done
        3
        """
        return self.state.epochs_done


def _loss(own: Settings, loss: str | losses.Loss | None) -> losses.Loss:
    network = own.network
    if isinstance(loss, Optimizer) or (isinstance(loss, str) and loss.lower() in OPTIMIZERS):
        raise ValueError(f"{loss!r} is an optimizer, but the second argument is the loss; pass it by keyword: "
                         f"Trainer(net, optimizer={loss!r})")
    chosen = check_loss(loss, network.activations[-1], network.layer_sizes[-1])
    chosen.rule(network.dtype.name)  # compiles a function of the user
    return chosen


def chosen_threads(own: Settings, threads: int | None) -> int:
    """Return the given number of threads; for None, as many as may be faster than one for a step."""
    work = own.batch_size * (3 * own.network.n_parameters + OF_A_SAMPLE)
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


def _augmentation(augmentation: Augmentation | None, n_in: int) -> Augmentation | None:
    if augmentation is not None:
        if not isinstance(augmentation, Augmentation):
            raise TypeError(f"augmentation must be a fastbp.data.Augmentation, got {shown(augmentation)}")
        augmentation.settings(n_in)
    return augmentation


def _clip(own: Settings, name: str, value: float | None) -> float | None:
    chosen = _none_or_positive(name, value)
    other = "clip_value" if name == "clip_norm" else "clip_norm"
    if chosen is not None and vars(own).get(other) is not None:
        raise ValueError("give clip_norm or clip_value, not both")
    return chosen


def _none_or_positive(name: str, value: float | None) -> float | None:
    return None if value is None else positive(name, value)


def rates(dropout: float | Sequence[float], n_hidden: int) -> tuple[float, ...]:
    """Return the dropout rates of the input and of each hidden layer."""
    if np.ndim(dropout) == 0:
        return (0.0,) + (fraction("dropout", dropout),) * n_hidden
    each = list(dropout)  # type: ignore[arg-type]
    if len(each) != n_hidden + 1:
        raise ValueError(f"dropout has {len(each)} rates; expected rates for the input and "
                         f"{counted(n_hidden, 'hidden layer')}")
    return tuple(fraction("dropout", rate) for rate in each)


def _frozen(frozen: Sequence[int], n_layers: int) -> tuple[int, ...]:
    if not isinstance(frozen, Iterable):
        raise TypeError(f"frozen must be a sequence of layer indices, got {frozen!r}")
    layers = sorted({whole_number("a frozen layer", l, 0) for l in frozen})
    if layers and layers[-1] >= n_layers:
        raise ValueError(f"frozen names layer {layers[-1]}; the network has layers 0 to {n_layers - 1}")
    if len(layers) == n_layers:
        raise ValueError("all layers are frozen; there is nothing to train")
    return tuple(layers)


def default_optimizer(output: str) -> SGD:
    """Return the default optimiser for outputs of this activation."""
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


# The rule of each setting: (trainer, given value) -> value to use.
SETTINGS: dict[str, Callable[[Settings, Any], Any]] = {
    "loss": _loss,
    "optimizer": lambda own, value: _optimizer(value, own.default_optimizer),
    "batch_size": lambda own, value: whole_number("batch_size", value, 1),
    "seed": lambda own, value: whole_number("seed", value, 0),
    "threads": chosen_threads,
    "schedule": lambda own, value: _schedule(value),
    "dropout": lambda own, value: rates(value, len(own.network.layer_sizes) - 2),
    "noise": lambda own, value: _noise(value),
    "clip_norm": lambda own, value: _clip(own, "clip_norm", value),
    "clip_value": lambda own, value: _clip(own, "clip_value", value),
    "max_norm": lambda own, value: _none_or_positive("max_norm", value),
    "ema": lambda own, value: None if value is None else number("ema", value, 0, 1, low_open=True, high_open=True),
    "frozen": lambda own, value: _frozen(value, len(own.network.W)),
    "augmentation": lambda own, value: _augmentation(value, own.network.layer_sizes[0]),
}
