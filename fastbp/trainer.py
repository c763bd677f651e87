"""Trainer: shuffled mini-batches, epochs, history; a thin loop around the compiled steps."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import logging
import math
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
import numpy.typing as npt

import fastbp
from fastbp import callbacks as calls
from fastbp import losses
from fastbp.callbacks import Callback, Fit, History
from fastbp.checkpoint import (
    State,
    check_same,
    check_start,
    fingerprint,
    name_of_loss,
    name_of_schedule,
    without_address,
)
from fastbp.checks import check_spelling, counted, fraction, known_as, number, one_of, positive, truth, whole_number
from fastbp.core import build, call, compiler, engine
from fastbp.core.noise import WHOLE, threshold
from fastbp.core.plan import Plan, plan_for, samples_at_once, scratch_size
from fastbp.core.rules import CLIP_NORM, CLIP_VALUE, EMA_DECAY, MAX_NORM, RULE
from fastbp.core.threads import team
from fastbp.core.threads.board import balance, board_size
from fastbp.diagnosis import likely_cause, warn_of_no_learning, warn_of_scales
from fastbp.frames import warn_of_other_rows
from fastbp.history import joined
from fastbp.inputs import (
    MULTILABEL,
    VALUE,
    Inputs,
    Targets,
    as_inputs,
    as_targets,
    as_weights,
    check_some_weight,
    decide,
    right,
)
from fastbp.metrics import Metric, as_metrics, measure
from fastbp.metrics import check as check_metric
from fastbp.names import Names, classifies, n_classes
from fastbp.network import (
    NO_WEIGHTS,
    Network,
    all_finite,
    check_loss,
    check_network,
    check_theta,
    choose_threads,
    infer,
    mean_cost,
)
from fastbp.optimizers import OPTIMIZERS, SGD, Optimizer
from fastbp.pace import pace_of
from fastbp.randomness import DROPOUT, ORDER, SPLIT, generator
from fastbp.schedules import SCHEDULES, Function, Schedule, factors_of
from fastbp.stream import read_ahead
from fastbp.workspace import Array, Workspace, aligned

WORTH_TRYING = 200_000  # multiply-adds of a step, from which on all threads may be faster than one
OF_A_SAMPLE = 3_000  # a sample's own cost (to gather it, its activations and output error), in multiply-adds
LEAST_SAMPLES = 24  # for each thread: of fewer a phase is a few grains, and who has more of cheap ones seems fast
MOST_NOISE = 1e9  # what the table of layers holds, which counts in 2**-32
LOG = logging.getLogger("fastbp")
READ_ONCE = {"batch_size", "seed", "threads", "dropout", "noise", "frozen"}  # by a fit, when it begins
KEEP_SECONDS = 2.0  # from copy to copy of the parameters, so that divergence can be undone
Validation = tuple[Inputs, Targets, Array]  # the last, weights: see `as_weights`
# Where a fit is, for Ctrl-C: between two epochs, within one, after the steps of one that is to be validated, in the
# callbacks after one, or not yet in its first.
BETWEEN, WITHIN, STEPPED, CALLING, BUSY = range(5)


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


class DivergenceError(ArithmeticError):
    """The cost, a parameter or a moment is no longer finite; the network holds the last finite parameters."""


class Trainer:
    """Trains a network by gradient descent on shuffled mini-batches.

    Each parameter but the network is an attribute, too, and may be assigned between fits, by the same rules:
    `trainer.batch_size = 64`. During a fit callbacks may assign loss, optimizer, schedule, clip_norm, clip_value,
    max_norm and ema. Once steps have been made, an optimizer or ema that needs another state needs a new Trainer.

    Defaults, the same as of `fastbp train`: SGD with Nesterov's momentum of 0.9, a learning rate of 0.2 for sigmoid and
    softmax outputs or 0.01 for others, and the linear schedule; mini-batches of 128; the loss that matches the output;
    5 epochs in `fit`. An optimiser that is given comes with the constant schedule.

    Parameters
    ----------
    network : Network
        Trained in place.
    loss : str or one of fastbp.losses, optional
        quadratic, mean_absolute or huber; binary_cross_entropy (sigmoid outputs), cross_entropy (softmax outputs),
        poisson (softplus outputs); None: the one that matches the output, or quadratic. losses.Custom: your own. Names
        of other libraries are taken too: "mse" means quadratic, which is half of the squared error summed over the
        outputs, and "log_loss" the cross-entropy that matches the output.
    optimizer : SGD, Adam, AdamW, NAdam, RMSprop, Adagrad, Lion or Rprop
        With its settings; or its name, for their defaults. None or "sgd": as above.
    batch_size : int
        Samples of a mini-batch, >= 1; the last of an epoch may be smaller.
    seed : int
        >= 0. The order of samples is a function of the seed and the epoch's number alone.
    threads : int, optional
        >= 1; None: one or all, whichever is measured to be faster as it runs. The result is the same to the bit.
    schedule : str, Schedule or callable, optional
        Factor of the learning rate at each step of a fit: one of fastbp.schedules; its name, constant, linear (warm-up
        over 15 % of the steps, then decay to 0), step, exponential, cosine or one_cycle; or any function
        (step, steps) -> factor, step counting from 0. None: linear for the default optimiser, else constant. Each fit
        begins it anew, over all steps of its epochs: for more epochs than are likely to be made, as with early stopping
        or a time budget, say "constant". `partial_fit` and `fit_batches` know no number of steps and go without.
    dropout : float or sequence of float
        In [0, 1): the share of activations that each step leaves out, of every hidden layer, or of the input and of
        each hidden layer; those that stay are 1 / (1 - share) times as large. The same ones whatever the threads: they
        are a function of the seed, the step, the layer and the element alone.
    noise : float
        >= 0, in units of the inputs times the network's input_scale: standard deviation of Gaussian noise that each
        step adds to them, as reproducible.
    clip_norm, clip_value : float, optional
        > 0. A gradient whose norm, over all parameters that are trained, is above clip_norm becomes as long as that; or
        each of its numbers is brought into [-clip_value, clip_value].
    max_norm : float, optional
        > 0. After each step the incoming weights of each neuron, if their norm is above it, become as long as that.
    ema : float, optional
        In (0, 1): decay, at each step, of an exponential moving mean of the parameters, which begins at the first ones
        and forgets them in some 5 / (1 - ema) steps. Epochs are validated with the mean, and the network holds it when
        a fit ends; training goes on from the parameters themselves, unless others are put into the network.
    frozen : sequence of int
        Layers l whose W[l] and b[l] stay what they are; no gradient is computed for them.

    Attributes
    ----------
    history : History
        All epochs of all calls of fit and fit_batches so far, also of one that was interrupted; NaN where an epoch
        lacks what others have. Each call returns the part of its own.
    epochs_done, steps_done : int
        Times that samples were gone through, and updates of the parameters, so far.

    References
    ----------
    Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov: Dropout: A Simple Way to Prevent Neural Networks from
    Overfitting (JMLR 2014), with section 5.1 for max_norm.
    Pascanu, Mikolov, Bengio: On the difficulty of training recurrent neural networks (ICML 2013), algorithm 1, for
    clip_norm.
    Polyak, Juditsky: Acceleration of Stochastic Approximation by Averaging (SIAM J. Control Optim. 1992), for ema.

    Raises
    ------
    ValueError, TypeError
        A setting is out of its range or does not fit the network.

    Examples
    --------
    >>> from fastbp import Adam, Network, Trainer
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> y = (X[:, 0] * X[:, 1] > 0).astype(int)
    >>> net = Network([2, 16, 2], hidden="tanh", output="softmax")
    >>> history = Trainer(net, optimizer=Adam(eta=0.03), batch_size=20).fit(X, y, epochs=40)
    >>> bool(np.mean(net.predict(X) == y) > 0.95)
    True
    """

    if TYPE_CHECKING:  # what the settings are once they have been checked
        loss: losses.Loss
        optimizer: Optimizer
        batch_size: int
        seed: int
        threads: int
        schedule: Schedule | Function | None
        dropout: tuple[float, ...]
        noise: float
        clip_norm: float | None
        clip_value: float | None
        max_norm: float | None
        ema: float | None
        frozen: tuple[int, ...]
        _chooses_threads: bool

    @known_as(MISPLACED)
    def __init__(self, network: Network, loss: str | losses.Loss | None = None,
                 optimizer: Optimizer | str | None = None, batch_size: int = 128, seed: int = 0,
                 threads: int | None = None, schedule: str | Schedule | Function | None = None,
                 dropout: float | Sequence[float] = 0.0, noise: float = 0.0, clip_norm: float | None = None,
                 clip_value: float | None = None, max_norm: float | None = None, ema: float | None = None,
                 frozen: Sequence[int] = ()):
        self._network = check_network(network)
        self._default_optimizer = default_optimizer(network.activations[-1])
        settings = {"loss": loss, "optimizer": optimizer, "batch_size": batch_size, "seed": seed, "threads": threads,
                    "schedule": schedule, "dropout": dropout, "noise": noise, "clip_norm": clip_norm,
                    "clip_value": clip_value, "max_norm": max_norm, "ema": ema, "frozen": frozen}
        for name, value in settings.items():
            setattr(self, name, value)
        self.epochs_done = 0
        self.history = History()
        self._alone = threading.RLock()
        self._clock = np.zeros(1, np.int64)  # updates so far; the kernel counts on, so Ctrl-C cannot lose one
        self._new_room()
        self._new_state()
        self.warned_of: set[str] = set()  # kinds of notes: each comes once
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
        if made and name == "batch_size" and self._chooses_threads:
            self.threads = None  # type: ignore[assignment]  # chosen anew, by its rule
        elif made and name in ("batch_size", "threads", "clip_norm", "optimizer") and not of_a_kind:
            self._new_room()
        if made and self._state_kind != self._kind_of_state(self.optimizer, self.ema):
            self._new_state()

    def _check_change(self, name: str, chosen: Any) -> None:
        """Refuse what a fit reads once, while one is under way, and what the state of earlier steps is not for."""
        if self._is_training and name in READ_ONCE:
            raise RuntimeError(f"{name} cannot be changed during a fit, which reads it when it begins; change it "
                               "before or after")
        kind = self._kind_of_state(chosen if name == "optimizer" else self.optimizer,
                                   chosen if name == "ema" else self.ema)
        if kind != self._state_kind and (self.steps_done or self._is_training):
            raise ValueError(f"{name} cannot be changed to {chosen!r}: the steps made so far have left a state of "
                             "another kind; make a new Trainer")

    def _new_room(self) -> None:
        """What goes by the number of threads and the size of a mini-batch."""
        net = self.network
        counts = sorted({1 if self._chooses_threads else self.threads, self.threads})
        self._pace = pace_of(tuple(counts), net.layer_sizes, net.activations, net.dtype.name, self.batch_size,
                             str(type(self.optimizer)), os.getpid())
        self._board = np.zeros(board_size(self.threads), np.int64)
        if len(vars(self).get("_scratch", ())) != self._scratch_size():
            self._scratch = self._new_scratch()

    def _new_state(self) -> None:
        """The moments, then the mean of the parameters, or while that is in their place they themselves."""
        net, rows = self.network, self.optimizer.n_moments + (self.ema is not None)
        self._state_kind = self._kind_of_state(self.optimizer, self.ema)
        self._state = aligned(rows * net.n_parameters, net.dtype).reshape(rows, net.n_parameters)
        self._holds_mean, self._mean_held = False, 0  # whether the network does, and the mean's checksum
        self._kept: tuple[Workspace, _Snapshot] | None = None  # of the last fit: memory is slow when it is new

    def _work(self) -> int:
        """Multiply-adds of a step."""
        return self.batch_size * (3 * self.network.n_parameters + OF_A_SAMPLE)

    def _scratch_size(self) -> int:
        return scratch_size(self.network.layer_sizes, self.threads, self.batch_size, self.clip_norm is not None)

    def _new_scratch(self) -> Array:
        return aligned(self._scratch_size(), self.network.dtype)

    @staticmethod
    def _kind_of_state(optimizer: Optimizer, ema: float | None) -> tuple[float, bool]:
        """What the rows of the state mean depends on the optimiser's rule, and whether the mean is among them."""
        return optimizer.settings()[RULE], ema is not None

    def _settings(self) -> Array:
        settings = self.optimizer.settings()
        settings[[CLIP_VALUE, CLIP_NORM, EMA_DECAY, MAX_NORM]] = [
            value or 0.0 for value in (self.clip_value, self.clip_norm, self.ema, self.max_norm)]
        return settings

    def _prepare(self, layers: Array) -> None:
        """Write what only training does into a table of layers; called before each fit, as settings may be changed."""
        for l, rate in enumerate(self.dropout):
            layers[l, call.DROPOUT] = threshold(rate)
            if rate or self.noise:  # a stream comes here with each batch, and a generator takes as long as small steps
                layers[l, call.KEY] = generator(DROPOUT, self.seed, l).integers(1 << 62)
        layers[0, call.NOISE] = round(self.noise * WHOLE)
        layers[:, call.FROZEN] = [l in self.frozen for l in range(len(layers))]
        if self._clock[0] == 0 and self.ema is not None:
            self._state[-1] = self.network.theta

    def _hold_mean(self, mean: bool) -> None:
        """Have the network hold the mean of the parameters, if there is one, or the parameters themselves; those that
        somebody has put in the mean's place are both."""
        if self.ema is None or mean == self._holds_mean:
            return
        with compiler.uninterrupted():  # half of an exchange would lose one of the two
            theta = self.network.theta.copy()
            if not mean and _checksum(theta) != self._mean_held:
                self._state[-1] = theta
            self.network.theta, self._state[-1], self._holds_mean = self._state[-1], theta, mean
            if mean:
                self._mean_held = _checksum(self.network.theta)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept": None, "_scratch": None, "_alone": None, "_is_training": False}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Copy all that a step writes to: what a pickle hands over may be read-only, as joblib's memory maps are."""
        self.__dict__.update(state)
        self._alone, self._scratch = threading.RLock(), self._new_scratch()
        self._clock, self._board = self._clock.copy(), self._board.copy()
        rows = self._state
        self._state = aligned(rows.size, rows.dtype).reshape(rows.shape)
        self._state[...] = rows

    @contextlib.contextmanager
    def _training(self) -> Iterator[None]:
        """In this block no other thread trains with this trainer, or another on its network."""
        with contextlib.ExitStack() as held:
            for lock, what in ((self._alone, "trainer"), (self.network._alone, "network")):
                if not lock.acquire(blocking=False):
                    raise RuntimeError(f"this {what} is being trained by another thread; give each thread its own "
                                       "(copy.deepcopy of the trainer copies its network, too), or wait for the other")
                held.callback(lock.release)
            held.callback(setattr, self, "_is_training", self._is_training)  # a callback may train, too
            self._is_training = True
            yield

    @property
    def network(self) -> Network:
        return self._network

    @network.setter
    def network(self, network: Network) -> None:
        raise AttributeError("a trainer keeps its network, for which its state is made; make a new Trainer")

    def __repr__(self) -> str:
        """The settings that are not the defaults, and how far it is."""
        plain = {name: parameter.default for name, parameter in inspect.signature(Trainer).parameters.items()}
        plain |= {"loss": check_loss(None, self.network.activations[-1]), "optimizer": self._default_optimizer,
                  "threads": choose_threads(None, self._work(), WORTH_TRYING),
                  "dropout": _rates(0.0, len(self.network.layer_sizes) - 2)}
        given = [f"{name}={without_address(getattr(self, name))}" for name, default in plain.items()
                 if name != "network" and (getattr(self, name) is not default if name == "optimizer"
                                           else getattr(self, name) != default)]
        steps = counted(self.steps_done, "step")
        return f"Trainer({', '.join([repr(self.network), *given])}), {steps} done"

    @property
    def _schedule_of_fit(self) -> Schedule | Function:
        """What was given, or the default."""
        if self.schedule is not None:
            return self.schedule
        return SCHEDULES["linear" if self.optimizer is self._default_optimizer else "constant"]

    @property
    def steps_done(self) -> int:
        """Updates of the parameters so far."""
        return int(self._clock[0])

    @known_as(OF_TRAINER | OF_OPTIMIZER, validation_split="validation_fraction",
              verbose=("progress", lambda verbose: _progress(verbose)))
    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike, epochs: int = 5,
            validation_data: Sequence[npt.ArrayLike] | None = None,
            progress: bool | None = None, *, sample_weight: npt.ArrayLike | None = None,
            class_weight: str | Mapping[Any, float] | None = None, validation_fraction: float | None = None,
            stratify: bool = False, metrics: Iterable[str | Metric] = (),
            callbacks: Iterable[Callback] = ()) -> History:
        """Train for `epochs` more epochs; a further call goes on from where the last one ended.

        Parameters
        ----------
        X : array_like (n, n_in), or frame of pandas, Polars or PyArrow
            Multiplied by the network's input_scale. uint8, float32 and float64 are read where they lie. The network
            keeps the names of a frame's columns, see `Network.feature_names`.
        y : array_like or frame
            Labels (n,), or rows of targets (n, n_out); of one output values (n,) too. Labels are numbers from 0, or
            names (texts), which the network keeps, sorted, see `Network.classes`. It keeps the names of the columns
            of a frame of rows, too, as classes or as `Network.target_names`. X, y and sample_weight are paired by
            position, whatever their index.
        epochs : int
            >= 1.
        validation_data : (X, y) or (X, y, sample_weight), optional
            Evaluated after each epoch.
        progress : bool, optional
            Show a bar on standard error; None: where that is a terminal, and in notebooks. Also taken as
            verbose=0, 1, 2 or "auto".
        sample_weight : array_like (n,), optional
            >= 0: a weight of 2 is that sample twice in its mini-batch, over whose weights the gradient is averaged; a
            mini-batch whose weights are all 0 moves no parameter and no moment, though it counts as a step.
        class_weight : "balanced" or dict, optional
            A weight for each label or name of a class, times the sample's own; "balanced": such that all
            classes have the same total.
        validation_fraction : float, optional
            In (0, 1): this share of the samples, drawn by the trainer's seed and copied, is kept for validation, with
            its sample weights, and not trained on. Also taken as validation_split.
        stratify : bool
            Whether the share is taken of each class, of which one sample at least is trained on; needs labels.
        metrics : iterable of str or metrics.Metric
            After each epoch, of the validation samples, into history.metrics: accuracy, top5, precision, recall and f1
            (means over the classes), log_loss; r2, mae, rmse.
        callbacks : iterable of functions of a `callbacks.Fit`
            Called after each epoch, those of fastbp.callbacks when they are to be.

        Raises
        ------
        ValueError, TypeError
            The data do not fit; nothing has been changed.
        DivergenceError
            The cost became NaN or infinite; the network holds the last finite parameters.

        Warns
        -----
        TrainingWarning
            Inputs or targets are absurdly large; the loss is no better than that of a constant prediction, after 20
            epochs or 1,000 steps or by far; the network holds a mean (ema) that is still mostly the first parameters.
            Each once for a trainer. `diagnose` says more.
        UserWarning
            X, y or sample_weight of pandas have the same index labels in another order.
        """
        epochs = whole_number("epochs", epochs, 1)
        watchers = self._callbacks(callbacks)
        names = Names(self.network, learning=True)
        x, t = self._check(X, y, "X", "y", names, sample_weight)
        chosen = None
        if truth("stratify", stratify) and validation_fraction is None:
            raise ValueError("stratify=True belongs to validation_fraction")
        if validation_fraction is not None:
            if validation_data is not None:
                raise ValueError("give validation_data or validation_fraction, not both")
            chosen, kept = _split(len(x), t.labels, validation_fraction, stratify, self.seed)
            own = as_weights(sample_weight, None, None, len(x))
            own = check_some_weight(own[kept] if len(own) else own, "validation ")
            validation: Validation | None = (x.taken(kept), t.taken(kept), own)
        else:
            validation = self._validation(validation_data, names)
        weights = as_weights(sample_weight, class_weight, t.labels, len(x), names, chosen,
                             n_classes(self.network.layer_sizes[-1]))
        check_some_weight(weights if chosen is None else weights[chosen] if len(weights) else weights)
        chosen_metrics = self._metrics(metrics, validation)
        fit = self._new_fit(epochs, validation, chosen_metrics)
        warn_of_scales(self, x, t, weights, chosen, names.feature_names)
        with self._training():
            earlier, run = self.history, _Run(self, x, t, weights, epochs, chosen, watchers, fit)
            run.validated = [] if validation is None else [validation[0].array, validation[1].array, validation[2]]
            try:
                saved = run.saved()
                calls.begin(watchers, fit)
                if saved is not None:
                    calls.restore(watchers, run.resume(*saved))
                if self.batch_size > run.n:
                    LOG.info("batch_size %d is more than the %d samples: each batch is all of them", self.batch_size,
                             run.n)
                self._learn_meaning(t, names)
                run.place = BETWEEN, fit.epoch
                with _bar(run.total, fit.step, progress) as bar:
                    while fit.epoch < epochs and not fit.history.stopped:
                        self._hold_mean(False)
                        cost, _, samples = run.epoch(bar)
                        fit.history.seconds.append(time.perf_counter() - run.started)
                        fit.history.loss.append(cost)
                        fit.history.samples.append(samples)
                        self._validate(fit, validation, chosen_metrics)
                        run.call_after_epoch()
                        run.place = BETWEEN, fit.epoch
            except KeyboardInterrupt:
                if run.catch_up():
                    calls.interrupted(watchers, fit)
                raise
            finally:
                run.leave_finite()
                self.history = joined(earlier, fit.history)
                run.kept.time = 0.0  # a stream that comes next begins with a copy of its own
                self._hold_mean(True)
                calls.end(watchers, fit)
        warn_of_no_learning(self, fit.history.loss, fit.step, x, t, weights, chosen)
        return fit.history

    def _learn_meaning(self, t: Targets, names: Names) -> None:
        """The network is to predict what it is trained on."""
        names.teach(self.network)
        self.network.multilabel = t.kind == MULTILABEL

    def _callbacks(self, callbacks: Iterable[Callback]) -> list[Callback]:
        if not isinstance(callbacks, Iterable):
            raise TypeError(f"callbacks must be a sequence of functions, got {callbacks!r}; give [{callbacks!r}]")
        watchers = list(callbacks)
        for callback in watchers:
            if not callable(callback) or isinstance(callback, type):
                made = f"; make one: {callback.__name__}(...)" if isinstance(callback, type) else ""
                raise TypeError(f"callbacks must be functions, got {callback!r}{made}")
        calls.check_one_end(watchers, self.ema)
        return calls.in_order(watchers)

    def _validation(self, data: Sequence[npt.ArrayLike] | None, names: Names) -> Validation | None:
        """What to validate with; what does not fit is refused now."""
        if data is None:
            return None
        if not (isinstance(data, (tuple, list)) and len(data) in (2, 3)):
            raise TypeError(f"validation_data must be (X, y) or (X, y, sample_weight), got {_kind(data)}")
        given = data[2] if len(data) == 3 else None
        x, t = self._check(data[0], data[1], "validation X", "validation y", names, given)
        weights = as_weights(given, None, None, len(x))
        return x, t, check_some_weight(weights, "validation ")

    def _metrics(self, metrics: Iterable[str | Metric], validation: Validation | None) -> list[Metric]:
        """What to measure of the validation samples; what does not fit them is refused now."""
        chosen = as_metrics(metrics)
        if validation is None:
            if chosen:
                raise ValueError("metrics need validation_data or validation_fraction")
            return []
        x, t, weights = validation
        made_up = np.full((len(x), self.network.layer_sizes[-1]), 0.5, self.network.dtype)
        for metric in chosen:
            check_metric(metric, _kind_for(metric, t), classifies(self.network.activations[-1]))
            self._measure(metric, t, made_up, weights)
        return chosen

    def _new_fit(self, epochs: int, validation: Validation | None, metrics: list[Metric]) -> Fit:
        check_theta(self.network)
        fit = Fit(self.network, epochs=epochs)
        if validation is None or validation[1].kind == VALUE:
            del fit.available["validation_accuracy"]
        if validation is None:
            del fit.available["validation_loss"]
        fit.available |= {metric.name: metric.more_is_better for metric in metrics}
        fit.history.metrics = {metric.name: [] for metric in metrics}
        return fit

    def _validate(self, fit: Fit, validation: Validation | None, metrics: list[Metric]) -> None:
        """Write what the validation samples say of an epoch into the history."""
        self._hold_mean(True)
        if validation is not None:
            x, t, weights = validation
            outputs, cost, accuracy = self._outputs(x, t, weights)
            fit.history.validation_loss.append(cost)
            if accuracy is not None:
                fit.history.validation_accuracy.append(accuracy)
            for metric in metrics:
                fit.history.metrics[metric.name].append(self._measure(metric, t, outputs, weights))

    def partial_fit(self, X: npt.ArrayLike, y: npt.ArrayLike, *, sample_weight: npt.ArrayLike | None = None) -> float:
        """Go once through some samples in mini-batches, as they come in a stream; returns their mean cost.

        Their order is shuffled by the seed and the number of epochs and calls before; the learning rate is the
        optimiser's eta, without the schedule, which needs to know how many steps there will be. Where all weights are 0
        nothing is done, and the mean is NaN. Raises as `fit` does; where the cost or a parameter is no longer finite,
        the network goes back by up to 2 s.
        """
        names = Names(self.network, learning=True)
        x, t = self._check(X, y, "X", "y", names, sample_weight, streamed=True)
        check_theta(self.network)
        weights = as_weights(sample_weight, None, None, len(x))
        if len(weights) and not weights.any():
            return math.nan
        return self._go_once(x, t, weights, names)

    def _go_once(self, x: Inputs, t: Targets, weights: Array, names: Names) -> float:
        """`partial_fit` of what has been checked."""
        with self._training():
            run = _Run(self, x, t, weights, 1, None, [], partial=True)
            self._learn_meaning(t, names)
            self._hold_mean(False)
            try:
                return run.epoch(None)[0]
            finally:
                self._hold_mean(True)

    def fit_batches(self, batches: Iterable[Sequence[npt.ArrayLike]], epochs: int = 1,
                    validation_data: Sequence[npt.ArrayLike] | None = None, *,
                    metrics: Iterable[str | Metric] = (), callbacks: Iterable[Callback] = ()) -> History:
        """Train on batches that need not be in memory together; a thread reads ahead while others compute.

        Parameters
        ----------
        batches : iterable of (X, y) or (X, y, sample_weight)
            Iterated over anew in each epoch: a list, or an object whose __iter__ reads files, say. Each is gone through
            in mini-batches of batch_size samples, as in `partial_fit`; one whose weights are all 0 is left out.
        epochs, validation_data, metrics, callbacks
            See `fit`; callbacks for steps are called after a batch. There are no checkpoints: for them give `fit`
            memory-mapped arrays.

        Raises
        ------
        ValueError, TypeError
            A batch does not fit, when its turn comes; or there is none.
        DivergenceError
            The cost became NaN or infinite; the network holds the last finite parameters.

        Examples
        --------
        >>> class Batches:
        ...     def __iter__(self):
        ...         draw = np.random.default_rng(0)
        ...         for _ in range(50):
        ...             X = draw.normal(size=(100, 2))
        ...             yield X, (X[:, 0] > X[:, 1]).astype(int)
        >>> net = Network([2, 8, 2], output="softmax")
        >>> history = Trainer(net, batch_size=20).fit_batches(Batches(), epochs=3)
        >>> history.samples, history.loss[-1] < 0.2
        ([5000, 5000, 5000], True)
        """
        epochs = whole_number("epochs", epochs, 1)
        if self.schedule not in (None, SCHEDULES["constant"]):
            raise ValueError("fit_batches takes no schedule, as it does not know how many steps there will be")
        watchers = self._callbacks(callbacks)
        if any(isinstance(callback, calls.Checkpoint) for callback in watchers):
            raise ValueError("fit_batches makes no checkpoints; give fit memory-mapped arrays for them")
        names = Names(self.network, learning=True)
        validation = self._validation(validation_data, names)
        chosen_metrics = self._metrics(metrics, validation)
        fit = self._new_fit(epochs, validation, chosen_metrics)
        with self._training():
            earlier = self.history
            try:
                calls.begin(watchers, fit)
                while fit.epoch < epochs and not fit.history.stopped:
                    self._epoch_of_batches(batches, fit, watchers, names)
                    self._validate(fit, validation, chosen_metrics)
                    calls.call(watchers, fit, epoch_ends=True)
            finally:
                self.history = joined(earlier, fit.history)
                self._hold_mean(True)
                calls.end(watchers, fit)
        return fit.history

    def _epoch_of_batches(self, batches: Iterable[Sequence[npt.ArrayLike]], fit: Fit, watchers: list[Callback],
                          names: Names) -> None:
        """Go through all batches once, unless a callback stops the fit."""
        started, total, total_weight, samples, given = time.perf_counter(), 0.0, 0.0, 0, False
        fit.epoch += 1
        with contextlib.closing(read_ahead(batches, functools.partial(self._check_batch, names))) as checked:
            for x, t, weights in checked:
                given = True
                if len(weights) and not weights.any():
                    continue
                run = _Run(self, x, t, weights, 1, None, [], partial=True)
                run.fit.eta_factor = fit.eta_factor
                self._learn_meaning(t, names)
                self._hold_mean(False)
                cost, weight, n = run.epoch(None)
                total, total_weight, samples = total + cost * weight, total_weight + weight, samples + n
                before, fit.step, fit.loss = fit.step, fit.step + run.steps, total / total_weight
                calls.call(watchers, fit, epoch_ends=False, before=before)
                if fit.history.stopped:
                    break
        if samples == 0:
            raise ValueError(_why_no_batches(given, fit.epoch))
        fit.history.seconds.append(time.perf_counter() - started)
        fit.history.loss.append(total / total_weight)
        fit.history.samples.append(samples)

    def _check_batch(self, names: Names, batch: Sequence[npt.ArrayLike]) -> tuple[Inputs, Targets, Array]:
        if not (isinstance(batch, (tuple, list)) and len(batch) in (2, 3)):
            raise TypeError(f"a batch must be (X, y) or (X, y, sample_weight), got {_kind(batch)}")
        given = batch[2] if len(batch) == 3 else None
        x, t = self._check(batch[0], batch[1], "X", "y", names, given, streamed=True)
        # Copied, while it is read ahead: who fills the same arrays again and again gives others than those trained on.
        return x.taken(), t.taken(), as_weights(given, None, None, len(x))

    def evaluate(self, X: npt.ArrayLike, y: npt.ArrayLike, *,
                 sample_weight: npt.ArrayLike | None = None) -> tuple[float, float | None]:
        """Mean cost and, unless targets are values, accuracy in [0, 1] (else None); both over the weights, where they
        are given. Raises as `fit` does.

        Of several sigmoid outputs beside rows of targets: the share of all yes (from 1/2 on) and no that are right.
        """
        x, t = self._check(X, y, "X", "y", None, sample_weight)
        weights = check_some_weight(as_weights(sample_weight, None, None, len(x)))
        _, cost, accuracy = self._outputs(x, t, weights)
        return cost, accuracy

    def compile(self) -> None:
        """Compile now what `fit` and `evaluate` need, or load it from the cache; otherwise their first call does."""
        net, trial = self.network, copy.deepcopy(self)
        x, t = self._check(np.zeros((1, net.layer_sizes[0])), np.eye(1, net.layer_sizes[-1]), "X", "y")
        self._outputs(x, t)
        workspace, one = net.workspace(1), np.zeros(1)
        trial._prepare(workspace.layers)
        trial._steps(x, t, NO_WEIGHTS, one.astype(np.int64), 1, one, one.copy(), workspace, self.threads)

    def _check(self, X: npt.ArrayLike, y: npt.ArrayLike, x_name: str, y_name: str,
               names: Names | None = None, sample_weight: npt.ArrayLike | None = None,
               streamed: bool = False) -> tuple[Inputs, Targets]:
        x = as_inputs(X, self.network, x_name, names)
        t = as_targets(y, len(x), self.network, self.loss, y_name, names)
        warn_of_other_rows({x_name: X, y_name: y, x_name[:-1] + "sample_weight": sample_weight},
                           self.warned_of if streamed else None)
        return x, t

    def _outputs(self, x: Inputs, t: Targets, weights: Array = NO_WEIGHTS) -> tuple[Array, float, float | None]:
        """Outputs, mean cost and accuracy."""
        outputs, cost = infer(self.network, x, t, self.loss, self.threads, weights)
        shares = right(outputs, t)
        accuracy = None if shares is None else float(np.average(shares, weights=weights if len(weights) else None))
        return outputs, cost, accuracy

    def _measure(self, metric: Metric, t: Targets, outputs: Array, weights: Array) -> float:
        """A metric of labels, where there are, or of rows."""
        kind = _kind_for(metric, t)
        y = t.array if t.labels is None or kind != t.kind else t.labels
        return measure(metric, y, outputs, kind, weights if len(weights) else None)

    def _plan(self, batch_size: int, threads: int) -> Plan:
        return plan_for(self.network.layer_sizes, batch_size, call.TRAIN, threads, frozen=self.frozen,
                        bounds=(self.clip_norm is not None, self.max_norm is not None))

    def plan(self, batch_size: int | None = None) -> Plan:
        """What a step of so many samples (None: of batch_size) does, stage by stage, on all of the trainer's threads;
        print it.

        Examples
        --------
        >>> print(Trainer(Network([784, 100, 10]), threads=1).plan())
        pieces of 128 samples; each, stage by stage:
          1. SAMPLES: input, layers 0 to 1 forward, output error, layers 0 to 0 backward; 1 part
          2. WEIGHTS: gradients of layers 0 to 1, update; 1 part
        """
        return self._plan(self.batch_size if batch_size is None else whole_number("batch_size", batch_size, 1),
                          self.threads)

    def _steps(self, x: Inputs, t: Targets, weights: Array, order: Array, batch_size: int, etas: Array, costs: Array,
               workspace: Workspace, threads: int) -> int:
        """One compiled call: a step for each of `etas`, their mean costs into `costs`. Returns the steps made."""
        net = self.network
        settings = self._settings()
        if not team.is_awake(threads):  # they may wake on other cores, and what was known of their speeds is old
            self._board[:] = 0
        slip = workspace.slip
        slip.point(theta=net.theta, gradient=self._scratch, state=self._state, clock=self._clock, rule=settings,
                   etas=etas)
        slip.put(n_gradient=len(self._scratch), n_state=len(self._state))
        slip.put_data(x.samples, t.samples, weights, order, len(order))
        slip.put_loss(self.loss.rule(net.dtype.name))
        with team.team((engine.run, engine.run_serial), threads, self.threads, self._board) as (run, threads):
            slip.put_work(call.TRAIN, batch_size, self._plan(batch_size, threads), costs)
            slip.put_threads(self._board, threads)
            slip.put(address=build.address(net.dtype.name, workspace.layers, settings, call.TRAIN))
            made = run(slip.vector, threads)
        if threads > 1 and batch_size >= LEAST_SAMPLES * threads:
            balance(self._board, threads)
        return int(made)


def _why_no_batches(given: bool, epoch: int) -> str:
    """What to say of an epoch in which nothing was trained on; whether there were batches."""
    if given:
        return "there are no batches with a weight above 0"
    where = "there are no batches" if epoch == 1 else f"there are no batches in epoch {epoch}"
    return where + "; an iterator gives its own once, so give a list or an object that can be iterated over again"


def _loss(trainer: Trainer, loss: str | losses.Loss | None) -> losses.Loss:
    network = trainer.network
    if isinstance(loss, Optimizer) or (isinstance(loss, str) and loss.lower() in OPTIMIZERS):
        raise ValueError(f"{loss!r} is an optimizer, and Trainer's second argument the loss; give it by its name: "
                         f"Trainer(net, optimizer={loss!r})")
    chosen = check_loss(loss, network.activations[-1])
    chosen.rule(network.dtype.name)  # compiles what is the user's own
    return chosen


def _threads(trainer: Trainer, threads: int | None) -> int:
    chosen = choose_threads(threads, trainer._work(), WORTH_TRYING)
    trainer._chooses_threads = threads is None
    return chosen


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


def _rates(dropout: float | Sequence[float], n_hidden: int) -> tuple[float, ...]:
    """Of the input and of each hidden layer."""
    if np.ndim(dropout) == 0:
        return (0.0,) + (fraction("dropout", dropout),) * n_hidden
    rates = list(dropout)  # type: ignore[arg-type]
    if len(rates) != n_hidden + 1:
        raise ValueError(f"dropout names {len(rates)} rates; there are the input and "
                         f"{counted(n_hidden, 'hidden layer')}")
    return tuple(fraction("dropout", rate) for rate in rates)


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
    "optimizer": lambda trainer, value: _optimizer(value, trainer._default_optimizer),
    "batch_size": lambda trainer, value: whole_number("batch_size", value, 1),
    "seed": lambda trainer, value: whole_number("seed", value, 0),
    "threads": _threads,
    "schedule": lambda trainer, value: _schedule(value),
    "dropout": lambda trainer, value: _rates(value, len(trainer.network.layer_sizes) - 2),
    "noise": lambda trainer, value: _noise(value),
    "clip_norm": lambda trainer, value: _clip(trainer, "clip_norm", value),
    "clip_value": lambda trainer, value: _clip(trainer, "clip_value", value),
    "max_norm": lambda trainer, value: _none_or_positive("max_norm", value),
    "ema": lambda trainer, value: None if value is None else number("ema", value, 0, 1, low_open=True, high_open=True),
    "frozen": lambda trainer, value: _frozen(value, len(trainer.network.W)),
}


def _progress(verbose: Any) -> bool | None:
    """What `progress` is for Keras' verbose: 0, 1, 2, a truth value or "auto"."""
    if isinstance(verbose, (bool, np.bool_)):
        return bool(verbose)
    return None if isinstance(verbose, str) and one_of("verbose", verbose, ["auto"]) else whole_number(
        "verbose", verbose, 0) > 0


def _split(n: int, labels: Array | None, share: float, stratify: bool, seed: int) -> tuple[Array, Array]:
    """Numbers of the samples to train on and of those to validate with."""
    share = number("validation_fraction", share, 0, 1, low_open=True, high_open=True)
    order = generator(SPLIT, seed).permutation(n)
    # As many as the fraction says, evenly spread: so of each class, once they are sorted by it, to within one sample.
    kept = np.diff(np.floor(np.arange(n + 1) * share + 0.5)).astype(bool)
    if stratify:
        if labels is None:
            raise ValueError("stratify=True needs labels, y holds values")
        order = order[np.argsort(labels[order], kind="stable")]
        _, first, of = np.unique(labels[order], return_index=True, return_inverse=True)
        kept[first[np.bincount(of, ~kept) == 0]] = False  # a class of which nothing is left to train on
    if kept.all() or not kept.any():
        raise ValueError(f"validation_fraction {share} of {n} samples leaves none for "
                         f"{'training' if kept.all() else 'validation'}")
    return np.sort(order[~kept]), np.sort(order[kept])


class _Run:
    """One call of fit, or of partial_fit, or one batch of many: the samples' order, the learning rates, and steps made
    a slice of time at a time."""

    def __init__(self, trainer: Trainer, x: Inputs, t: Targets, weights: Array, epochs: int, chosen: Array | None,
                 callbacks: list[Callback], fit: Fit | None = None, partial: bool = False):
        self.trainer, self.x, self.t, self.weights = trainer, x, t, weights
        self.chosen, self.callbacks = chosen, callbacks
        self.n = len(x) if chosen is None else len(chosen)  # samples of an epoch
        self.batch_size = min(trainer.batch_size, self.n)
        self.steps = -(-self.n // self.batch_size)  # an epoch
        self.total = epochs * self.steps
        self.fit = Fit(trainer.network, epochs=epochs) if fit is None else fit
        self.fit.state = self.state
        self.start = ""  # the first parameters' fingerprint, if there are checkpoints
        self.partial = partial  # of a stream: without its schedule, and what has gone by cannot be gone over again
        self.first_epoch = trainer.epochs_done
        self._named: tuple[losses.Loss, Schedule | Function, dict[str, str]] | None = None
        self.validated: list[Array] = []  # with which samples
        self.at = 0  # steps of the epoch that is under way; their costs, when it began, and eta's factor for it
        self.costs, self.started, self.factor = np.empty(self.steps), 0.0, 1.0
        self.place, self.epoch_began = (BUSY, 0), 0  # where, after how many whole epochs; the epoch's first step
        self.uncalled: tuple[State, float] = ({}, {}), 1.0  # callbacks and eta's factor before the last epoch's calls
        self.steps_before = trainer.steps_done  # this fit's
        self.pace = trainer._pace
        kept = trainer._kept
        if kept is None or kept[0].capacity < self.batch_size or kept[1].live[0] is not trainer.network.theta:
            kept = trainer._kept = trainer.network.workspace(self.batch_size), _Snapshot(trainer)
        self.workspace, self.kept = kept
        trainer._prepare(self.workspace.layers)

    def epoch(self, bar: Any) -> tuple[float, float, int]:
        """Go through all samples once, unless a callback stops the fit; returns the mean cost over which weight, of how
        many samples."""
        order = generator(ORDER, self.trainer.seed, self.trainer.epochs_done).permutation(self.n)
        if self.chosen is not None:
            order = self.chosen[order]
        if self.at == 0:
            self.started, self.factor = time.perf_counter(), self.fit.eta_factor
        etas, costs, step = self.trainer.optimizer.eta * self._factors(), self.costs, self.at
        if not self.partial or self.kept.time == 0:
            self.kept.take(step)
        self.epoch_began, whole = self.fit.step - step, self.place[1]
        self.place = WITHIN, whole
        self.fit.epoch = whole + 1
        while step < self.steps and not self.fit.history.stopped:
            most = calls.steps_until_call(self.callbacks, self.fit.step, self.steps - step)
            steps, threads = self.pace.next_slice(most, self.partial or self.pace.worth_trying(self.steps))
            started = time.perf_counter()
            try:
                made = self._make(order, etas, costs, step, steps, threads)
            except KeyboardInterrupt:
                if self.partial:  # `fit` sees to it at its end
                    self.leave_finite()
                raise
            if made < steps:
                self._diverged(order, etas, costs, step + made)
            self.pace.took(steps, threads, started, time.perf_counter(), most)
            step = self.at = step + steps
            self.fit.step += steps
            late = started - self.kept.time > KEEP_SECONDS
            if (late or step == self.steps) and not self.kept.live_is_finite():
                self._diverged(order, etas, costs, step)
            if late:
                self.kept.take(step)
            if bar is not None:
                bar.set_postfix(self._report(costs[step - steps : step]), refresh=False)
                bar.update(steps)
            if self.callbacks:
                self.fit.loss, *_ = self._mean(costs[:step], order)
                calls.call(self.callbacks, self.fit, epoch_ends=False)
        if step < self.steps and not self.kept.live_is_finite():
            self._diverged(order, etas, costs, step)
        self.place = STEPPED, whole
        self.trainer.epochs_done += 1
        self.at = 0
        self.workspace.slip.let_go()
        return self._mean(costs[:step], order)

    def call_after_epoch(self) -> None:
        """Call the callbacks whose time comes after an epoch, which may be done again if Ctrl-C ends it half-way."""
        self.uncalled = calls.states(self.callbacks), self.fit.eta_factor
        self.place = CALLING, self.place[1]
        calls.call(self.callbacks, self.fit, epoch_ends=True)

    def state(self) -> State:
        """All that `resume` needs. Within an epoch, that it has been stopped is no part of it."""
        trainer, fit = self.trainer, self.fit
        tensors, known = calls.states(self.callbacks)
        tensors |= {"theta": trainer.network.theta, "state": trainer._state, "costs": self.costs[: self.at]}
        return tensors, {
            "settings": self._identity(), "start": self.start,
            "history": vars(fit.history) | ({} if fit.epoch_ends else {"stopped": ""}),
            "callbacks": known, "steps_done": trainer.steps_done, "epochs_done": trainer.epochs_done,
            "epoch": fit.epoch if fit.epoch_ends else fit.epoch - 1, "step": fit.step, "at": self.at,
            "seconds": time.perf_counter() - self.started, "eta_factor": float(fit.eta_factor),
            "factor": float(self.factor), "holds_mean": trainer._holds_mean,
        }

    def saved(self) -> State | None:
        """What the checkpoint of most steps holds, if a callback has one to go on from and it is of this fit: first its
        history. From here on no other fit writes to their folders."""
        found: dict[Path, State] = {}
        with contextlib.ExitStack() as undo:
            for callback in self.callbacks:
                if isinstance(callback, calls.Checkpoint):
                    self.start = fingerprint(self.trainer.network.theta)
                    saved = callback.saved()
                    undo.callback(callback.end, self.fit)
                    if callback.resumed is not None and saved is not None:
                        found[callback.resumed] = saved
            for path, (_, there) in found.items():
                check_same(path, there["settings"], self._identity())
            if found:
                newest = max(found, key=lambda path: found[path][1]["step"])
                self._check_starts(newest, found)
            undo.pop_all()
        if not found:
            return None
        there, fit = found[newest][1], self.fit
        fit.history, fit.epoch, fit.step = History(**there["history"]), there["epoch"], there["step"]
        fit.eta_factor = there["eta_factor"]
        LOG.info("resumed from %s: %d of %s were done", newest, fit.epoch, counted(fit.epochs, "epoch"))
        return found[newest]

    def _check_starts(self, newest: Path, found: dict[Path, State]) -> None:
        """Refuse checkpoints of a network that began elsewhere; one that is where the newest ended goes on, too, as in
        a further call after Ctrl-C. What goes on has begun where the first fit did."""
        tensors, there = found[newest]
        ends = {fingerprint(theta) for theta in (tensors["theta"], *tensors["state"][-1:])}
        if self.start in ends:
            self.start = there.get("start", "")
        for path, (_, there) in found.items():
            check_start(path, there.get("start", ""), self.start)

    def resume(self, tensors: dict[str, Array], there: dict[str, Any]) -> dict[str, Any]:
        """Go back to where a checkpoint was written; what the callbacks knew then."""
        trainer = self.trainer
        trainer.network.theta, trainer._state[...] = tensors["theta"], tensors["state"]
        trainer._clock[0], trainer.epochs_done = there["steps_done"], there["epochs_done"]
        self.steps_before = there["steps_done"] - there["step"]
        trainer._holds_mean, trainer._mean_held = there["holds_mean"], _checksum(trainer.network.theta)
        self.factor, self.at = there["factor"], there["at"]
        self.costs[: self.at], self.started = tensors["costs"], time.perf_counter() - there["seconds"]
        known: dict[str, Any] = there["callbacks"] | tensors
        return known

    def _identity(self) -> dict[str, Any]:
        """What a checkpoint must have in common with the fit that goes on from it."""
        trainer, net = self.trainer, self.trainer.network
        names = ("optimizer", "batch_size", "seed", "dropout", "noise", "clip_norm", "clip_value", "max_norm", "ema",
                 "frozen")
        return {
            "fastbp": fastbp.__version__, "layer_sizes": net.layer_sizes, "activations": net.activations,
            "dtype": net.dtype.name, "input_scale": net.input_scale, **self._functions(),
            **{name: without_address(getattr(trainer, name)) for name in names},
            "epochs": self.fit.epochs, "first epoch": self.first_epoch, "samples": self.n, "data": self._data,
            "metrics": list(self.fit.history.metrics),
            "callbacks": [[type(callback).__name__, *callback.settings] for callback in calls.bound(self.callbacks)],
        }

    def _functions(self) -> dict[str, str]:
        """What tells loss and schedule from others. That may call functions, so it is kept from checkpoint to
        checkpoint, unless a callback puts others in their place."""
        trainer, net = self.trainer, self.trainer.network
        if self._named is None or self._named[0] is not trainer.loss or self._named[1] is not trainer._schedule_of_fit:
            names = {"loss": name_of_loss(trainer.loss, net.layer_sizes[-1], net.dtype),
                     "schedule": name_of_schedule(trainer._schedule_of_fit, self.total)}
            self._named = trainer.loss, trainer._schedule_of_fit, names
        return self._named[2]

    @functools.cached_property
    def _data(self) -> str:
        chosen = [] if self.chosen is None else [self.chosen]
        return fingerprint(self.x.array, self.t.array, self.weights, *chosen, *self.validated)

    def _mean(self, costs: Array, order: Array) -> tuple[float, float, int]:
        """Of the samples of as many mini-batches, the last of which may be smaller; their weight, and how many."""
        samples = min(self.n, len(costs) * self.batch_size)
        weights = self.weights[order[:samples]] if len(self.weights) else self.weights
        weight = float(weights.sum()) if len(weights) else float(samples)
        return mean_cost(costs, self.batch_size, samples, weights), weight, samples

    def _factors(self) -> Array:
        if self.partial:
            return np.full(self.steps, self.factor)
        schedule, done = self.trainer._schedule_of_fit, self.fit.step - self.at
        factors = self.factor * factors_of(schedule, np.arange(done, done + self.steps), self.total)
        if not (np.isfinite(factors).all() and (factors >= 0).all()):
            raise ValueError(f"schedule must give finite factors >= 0, got {factors.min()} to {factors.max()}")
        return factors

    def _make(self, order: Array, etas: Array, costs: Array, step: int, steps: int, threads: int) -> int:
        samples = order[step * self.batch_size : (step + steps) * self.batch_size]
        part = slice(step, step + steps)
        return self.trainer._steps(self.x, self.t, self.weights, samples, self.batch_size, etas[part], costs[part],
                                   self.workspace, threads)

    def _diverged(self, order: Array, etas: Array, costs: Array, end: int) -> None:
        """Go back to the last parameters kept, and step by step forward to the last finite ones before `end`."""
        if not self.partial or not self.kept.live_is_finite():
            self.kept.restore()
        step = end if self.partial else self.kept.step
        while step < end:
            self.kept.take(step)
            made = self._make(order, etas, costs, step, 1, self.trainer.threads)
            if made == 0 or not self.kept.live_is_finite():
                self.kept.restore()
                break
            step += 1
        eta = etas[min(step, self.steps - 1)]
        batch = order[step * self.batch_size : (step + 1) * self.batch_size]
        raise DivergenceError(
            f"the cost or a parameter is no longer finite: epoch {self.trainer.epochs_done + 1}, step {step + 1} of "
            f"{self.steps}, at a learning rate of {eta:.4g}; the network holds its last finite parameters; "
            + likely_cause(self.x, self.t, batch, order, self.weights,
                           self.trainer.network.feature_names))

    def catch_up(self) -> bool:
        """After Ctrl-C, which comes when compiled code has returned: count the steps that were made meanwhile. Returns
        whether a checkpoint can be written: of finite numbers, when no callback was missed."""
        place, whole = self.place
        if place == BUSY:
            return False
        if place == BETWEEN:
            self.fit.epoch, self.fit.epoch_ends = whole, True
            return self.at == 0 and self.kept.live_is_finite()  # else the fit has not moved since it resumed
        keeps = any(isinstance(callback, calls.Checkpoint) for callback in self.callbacks)
        if calls.of_steps(self.callbacks) or (place in (STEPPED, CALLING) and not keeps):
            return False
        if place == CALLING:
            (tensors, known), self.fit.eta_factor = self.uncalled
            calls.restore(self.callbacks, known | tensors)
            self.fit.history.stopped = ""
        if place in (STEPPED, CALLING):
            self._reopen(whole)
        self.fit.step = self.trainer.steps_done - self.steps_before
        self.at, self.fit.epoch, self.fit.epoch_ends = self.fit.step - self.epoch_began, whole + 1, False
        return self.kept.live_is_finite()

    def _reopen(self, whole: int) -> None:
        """Go back to the last step of the epoch after so many whole ones; the fit that resumes does what comes next."""
        history = self.fit.history
        lists: list[list[Any]] = [history.seconds, history.loss, history.samples, history.validation_loss,
                                  history.validation_accuracy, *history.metrics.values()]
        for values in lists:
            del values[whole:]
        self.trainer.epochs_done = self.first_epoch + whole

    def leave_finite(self) -> None:
        """Go back to the last parameters kept, if Ctrl-C came when these were no longer finite, before it was seen."""
        if self.kept.time > 0 and not self.kept.live_is_finite():
            self.kept.restore()

    def _report(self, costs: Array) -> dict[str, str]:
        """What the bar shows: mean loss of the last steps, accuracy on the last samples that went through at once."""
        shown = {"loss": f"{costs.mean():.4f}"}
        n = samples_at_once(self.trainer.network.layer_sizes, self.batch_size, 1)
        targets = self.workspace.targets[:n]
        shares = right(self.workspace.a[-1][:n], replace(self.t, array=targets, labels=decide(targets)))
        if shares is not None:
            shown["accuracy"] = f"{shares.mean():.3f}"
        return shown


class _Snapshot:
    """A copy of all that a step changes."""

    def __init__(self, trainer: Trainer):
        self.live = (trainer.network.theta, trainer._state, trainer._clock)
        self.copies = tuple(np.empty_like(part) for part in self.live)
        self.step, self.time = 0, 0.0

    def live_is_finite(self) -> bool:
        """Whether parameters and optimiser state are: moments that overflow would hold theta still, unnoticed."""
        return all(all_finite(part) for part in self.live)

    def take(self, step: int) -> None:
        for kept, part in zip(self.copies, self.live, strict=True):
            kept[...] = part
        self.step, self.time = step, time.perf_counter()

    def restore(self) -> None:
        for kept, part in zip(self.copies, self.live, strict=True):
            part[...] = kept


def _kind_for(metric: Metric, t: Targets) -> str:
    """What targets are to a metric: to one of values, rows that are shares of classes are values too."""
    return VALUE if metric.kind == "values" and t.array.ndim == 2 else t.kind


def _checksum(theta: Array) -> int:
    """Of all parameters: that somebody has changed one must not go unseen."""
    return crc32(theta)  # type: ignore[arg-type]  # takes any buffer


def _kind(value: object) -> str:
    """What to call a value whose text may be long."""
    length = f" of length {len(value)}" if isinstance(value, Sized) else ""
    return type(value).__name__ + length


def _bar(total: int, done: int, progress: bool | None) -> Any:
    """A tqdm bar, or a context of None."""
    notebook = _in_notebook()
    if progress is None:
        progress = notebook or (sys.stderr is not None and sys.stderr.isatty())
    if not progress:
        return contextlib.nullcontext()
    if notebook:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there is no ipywidgets: then it is a bar of text
            from tqdm.auto import tqdm
    else:
        from tqdm import tqdm

    return tqdm(total=total, initial=done, unit="step")


def _in_notebook() -> bool:
    """Whether a Jupyter kernel runs this."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return get_ipython is not None and getattr(get_ipython(), "kernel", None) is not None
