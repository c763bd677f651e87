"""Callbacks: functions that a fit calls after each epoch, or after a given number of steps.

Any function that takes a `Fit` is a callback. Those in this module stop early, keep the best parameters or their mean,
change the learning rate, and write logs and checkpoints.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fastbp import checkpoint
from fastbp.checkpoint import State
from fastbp.checks import counted, number, positive, truth, whole_number
from fastbp.files import PREFIX, check_folder, naming, strict
from fastbp.history import WATCHED
from fastbp.history import History as History
from fastbp.network import Network
from fastbp.workspace import Array

__all__ = ["SWA", "CSVLog", "Checkpoint", "EarlyStopping", "Every", "Fit", "JSONLog", "ReduceOnPlateau", "StopAt",
           "TensorBoardLog", "TimeBudget", "Watcher"]


def __dir__() -> list[str]:
    return __all__


@dataclass
class Fit:
    """A fit as its callbacks see it.

    Attributes
    ----------
    network : Network
        With its current parameters, which callbacks may change.
    history : History
    epoch, step : int
        Number of epochs begun and of steps made in this fit.
    loss : float
        Mean cost of the steps of this epoch so far.
    epoch_ends : bool
        Whether this is the end of an epoch, whose numbers are in `history`.
    epochs : int
        Number of epochs that the fit was called for.
    eta_factor : float
        Factor of the learning rate from the next epoch on, in addition to that of the schedule.
    available : dict
        Names of the values in `history` that can be watched; for each, whether larger is better.
    state : function
        Returns the whole state of the fit, for a checkpoint.
    trainer : Trainer or None
        The trainer whose fit it is.

    Examples
    --------
    >>> from fastbp import Trainer
    >>> def show(fit):
    ...     print(fit.epoch, fit.step)
    >>> X, y = np.zeros((100, 2)), np.zeros(100)
    >>> _ = Trainer(Network([2, 3]), batch_size=10).fit(X, y, epochs=2, callbacks=[show])
    1 10
    2 20
    """

    network: Network
    history: History = field(default_factory=History)
    epoch: int = 0
    step: int = 0
    loss: float = math.nan
    epoch_ends: bool = False
    epochs: int = 1
    eta_factor: float = 1.0
    available: dict[str, bool] = field(default_factory=lambda: dict(WATCHED))
    state: Callable[[], State] = lambda: ({}, {})
    trainer: Any = field(default=None, repr=False)

    def stop(self, reason: str) -> None:
        """End the fit now.

        Parameters
        ----------
        reason : str
            Kept as history.stopped.

        Examples
        --------
        >>> fit = Fit(Network([2, 3]))
        >>> fit.stop("enough")
        >>> fit.history.stopped
        'enough'
        """
        self.history.stopped = reason or "stopped"

    def require(self, name: str) -> None:
        """Check that the fit will have values of this name to watch.

        Parameters
        ----------
        name : str
            Such as validation_loss, or the name of a metric.

        Raises
        ------
        ValueError
            The fit has no value of this name.

        Examples
        --------
        >>> Fit(Network([2, 3])).require("validation_loss")
        """
        if name not in self.available:
            lacking = "no validation samples" if "validation_loss" not in self.available else "no labels"
            raise ValueError(f"there is no {name} to watch: this fit has {', '.join(self.available)}"
                             + (f" and {lacking}" if name in WATCHED else ""))


Callback = Callable[[Fit], object]


ALWAYS = 0


ENDS_WITH = " theta"  # suffix, in a checkpoint, of the parameters that a callback puts in at the end


class Watcher:
    """Base class of callbacks that are told when a fit begins and ends, and may be called within an epoch.

    Attributes
    ----------
    every : int or None
        Call it after this many steps; 0: after epochs and whenever compiled code returns; None: after epochs.
    settings : tuple
        Settings that influence the fit, if there are any: a checkpoint must agree with them.
    ends_with : str
        What it puts into the network at the end of a fit, if anything.

    Examples
    --------
    >>> from fastbp import Trainer
    >>> class Report(Watcher):
    ...     def __call__(self, fit):
    ...         pass
    ...     def end(self, fit):
    ...         print(fit.step, "steps")
    >>> X, y = np.zeros((100, 2)), np.zeros(100)
    >>> _ = Trainer(Network([2, 3]), batch_size=10).fit(X, y, epochs=2, callbacks=[Report()])
    20 steps
    """

    ends_with = ""  # which parameters it puts into the network at the end of a fit, if any

    every: int | None = None  # number of steps; ALWAYS: after epochs and whenever compiled code returns; None: epochs
    settings: tuple[Any, ...] = ()  # those that influence the fit: a checkpoint must agree with them

    def begin(self, fit: Fit) -> None:
        """Forget the last fit: called before the first step.

        Parameters
        ----------
        fit : Fit

        Examples
        --------
        >>> watcher = EarlyStopping("loss")
        >>> watcher.begin(Fit(Network([2, 3])))
        """

    def __call__(self, fit: Fit) -> None:
        raise NotImplementedError

    def end(self, fit: Fit) -> None:
        """Called after the last step, whatever ended the fit.

        Parameters
        ----------
        fit : Fit

        Examples
        --------
        >>> SWA().end(Fit(Network([2, 3])))  # no mean has begun: the network stays as it is
        """

    def state(self) -> dict[str, Any]:
        """Return its state, numbers and arrays, for a checkpoint; `restore` takes it back after `begin`.

        Examples
        --------
        >>> SWA().state()
        {'n': 0}
        """
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the state that a checkpoint holds.

        Parameters
        ----------
        state : dict
            As returned by `state`.

        Examples
        --------
        >>> watcher = SWA()
        >>> watcher.restore({"n": 3, "theta": np.zeros(9)})
        >>> watcher.n
        3
        """


class Every(Watcher):
    """Call a function after every `steps` steps; the count continues from epoch to epoch.

    Parameters
    ----------
    steps : int
        >= 1.
    function : function of a `Fit`

    Raises
    ------
    ValueError, TypeError
        `steps` is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import Network, Trainer
    >>> seen = []
    >>> trainer = Trainer(Network([2, 3]), batch_size=10)
    >>> _ = trainer.fit(np.zeros((100, 2)), np.zeros(100), 1, callbacks=[Every(4, lambda fit: seen.append(fit.step))])
    >>> seen
    [4, 8]
    """

    def __init__(self, steps: int, function: Callback):
        self.every, self.function = whole_number("steps", steps, 1), function

    def __call__(self, fit: Fit) -> None:
        self.function(fit)


KERAS_NAMES = {"val_loss": "validation_loss", "val_accuracy": "validation_accuracy"}


def _name(watch: object) -> str:
    if not isinstance(watch, str):
        raise TypeError(f"watch must be a name: {', '.join(WATCHED)} or the name of a metric, got {watch!r}")
    return KERAS_NAMES.get(watch, watch)


class _Better:
    """Tells whether a watched value has improved by more than `least_gain`."""

    def __init__(self, watch: str, least_gain: float):
        self.watch, self.least_gain = _name(watch), number("least_gain", least_gain, 0, math.inf)
        self.sign, self.best, self.waited = 1, math.nan, 0

    def begin(self, fit: Fit) -> None:
        fit.require(self.watch)
        self.sign, self.best, self.waited = (1 if fit.available[self.watch] else -1), math.nan, 0

    def __call__(self, fit: Fit) -> bool:
        value = self.sign * fit.history.values()[self.watch][-1]
        better = value > self.best + self.least_gain or (math.isnan(self.best) and not math.isnan(value))
        self.best, self.waited = (value, 0) if better else (self.best, self.waited + 1)
        return better

    def state(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited}

    def restore(self, state: dict[str, Any]) -> None:
        self.best, self.waited = state["best"], state["waited"]


class EarlyStopping(Watcher):
    """Stop if a value has not improved for some epochs, and restore the parameters of its best epoch.

    Parameters
    ----------
    watch : str
        validation_loss, validation_accuracy, loss, or the name of one of the fit's metrics.
    patience : int
        Number of epochs without improvement after which to stop, >= 1.
    least_gain : float
        Only a change by more than this is an improvement, >= 0.
    restore_best : bool
        Whether the network ends with its best parameters, however the fit ends; the state of the optimiser is not
        restored. With Trainer(ema) they are the best mean, as the mean is validated. With SWA, or with another
        EarlyStopping that restores parameters, fit raises ValueError.

    Raises
    ------
    ValueError, TypeError
        A setting is out of its range, or a fit has no such value to watch.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import Network, Trainer
    >>> draw = np.random.default_rng(0)
    >>> X, y = draw.normal(size=(60, 20)), draw.integers(0, 2, 60)  # nothing to be learned
    >>> trainer = Trainer(Network([20, 30, 2]), batch_size=10)
    >>> history = trainer.fit(X, y, 100, validation_fraction=0.5, callbacks=[EarlyStopping(patience=3)])
    >>> len(history.loss) < 100, history.stopped
    (True, 'validation_loss has not improved for 3 epochs')
    """

    def __init__(self, watch: str = "validation_loss", patience: int = 5, least_gain: float = 0.0,
                 restore_best: bool = True):
        self.better, self.patience = _Better(watch, least_gain), whole_number("patience", patience, 1)
        self.restore_best = truth("restore_best", restore_best)
        self.ends_with = "the best parameters" if self.restore_best else ""
        self.settings = self.better.watch, self.patience, self.better.least_gain, self.restore_best
        self.theta: Array | None = None  # the best

    def begin(self, fit: Fit) -> None:
        self.better.begin(fit)
        self.theta = None

    def __call__(self, fit: Fit) -> None:
        if self.better(fit):
            self.theta = fit.network.theta.copy() if self.restore_best else None
        elif self.better.waited >= self.patience:
            fit.stop(f"{self.better.watch} has not improved for {counted(self.patience, 'epoch')}")

    def end(self, fit: Fit) -> None:
        if self.theta is not None:
            fit.network.theta = self.theta
            self.theta = None

    def state(self) -> dict[str, Any]:
        return self.better.state() | ({} if self.theta is None else {"theta": self.theta})

    def restore(self, state: dict[str, Any]) -> None:
        self.better.restore(state)
        self.theta = state.get("theta")


class ReduceOnPlateau(Watcher):
    """Multiply the learning rate by `factor` if a value has not improved for some epochs.

    Parameters
    ----------
    watch, patience, least_gain
        See `EarlyStopping`; after each reduction the count of `patience` starts again.
    factor : float
        In (0, 1).
    least : float
        Lower bound of the product of all reductions, >= 0.

    Raises
    ------
    ValueError, TypeError
        A setting is out of its range, or a fit has no such value to watch.

    Examples
    --------
    >>> from fastbp import Trainer
    >>> factors, X = [], np.ones((20, 2))
    >>> callbacks = [ReduceOnPlateau("loss", patience=1, factor=0.5, least_gain=100.0),
    ...              lambda fit: factors.append(fit.eta_factor)]
    >>> _ = Trainer(Network([2, 3])).fit(X, np.zeros(20), 4, callbacks=callbacks)
    >>> factors
    [1.0, 0.5, 0.25, 0.125]
    """

    def __init__(self, watch: str = "validation_loss", patience: int = 5, least_gain: float = 0.0, factor: float = 0.1,
                 least: float = 0.0):
        self.better, self.patience = _Better(watch, least_gain), whole_number("patience", patience, 1)
        self.factor = number("factor", factor, 0, 1, low_open=True, high_open=True)
        self.least = number("least", least, 0, 1, high_open=True)
        self.settings = self.better.watch, self.patience, self.better.least_gain, self.factor, self.least

    def begin(self, fit: Fit) -> None:
        self.better.begin(fit)

    def __call__(self, fit: Fit) -> None:
        if not self.better(fit) and self.better.waited >= self.patience:
            fit.eta_factor = max(self.least, fit.eta_factor * self.factor)
            self.better.waited = 0

    def state(self) -> dict[str, Any]:
        return self.better.state()

    def restore(self, state: dict[str, Any]) -> None:
        self.better.restore(state)


class SWA(Watcher):
    """Stochastic weight averaging: the network ends with the mean of its parameters at the ends of the last epochs.

    The history does not include this mean. A fit that ends before the mean begins keeps the last parameters. `fit`
    raises ValueError if something else also sets the final parameters: Trainer(ema),
    EarlyStopping(restore_best=True) or another SWA.

    Parameters
    ----------
    start : float
        In [0, 1): share of the epochs after which the mean begins. From there on the learning rate should stay high,
        or rise repeatedly.

    Raises
    ------
    ValueError, TypeError
        `start` is out of its range.

    References
    ----------
    Izmailov, Podoprikhin, Garipov, Vetrov, Wilson: Averaging Weights Leads to Wider Optima and Better Generalization
    (UAI 2018), algorithm 1, with a cycle of one epoch.

    Examples
    --------
    >>> SWA(start=0.5).start
    0.5
    """

    ends_with = "the mean of the last epochs"

    def __init__(self, start: float = 0.75):
        self.start, self.n = number("start", start, 0, 1, high_open=True), 0
        self.settings = (self.start,)
        self.theta: Array | None = None  # mean over n epochs, in float64

    def begin(self, fit: Fit) -> None:
        self.theta, self.n = None, 0

    def __call__(self, fit: Fit) -> None:
        if fit.epoch > self.start * fit.epochs:
            theta, self.n = fit.network.theta.astype(np.float64), self.n + 1
            self.theta = theta if self.theta is None else self.theta + (theta - self.theta) / self.n

    def end(self, fit: Fit) -> None:
        if self.theta is not None:
            fit.network.theta = self.theta
            self.theta = None

    def state(self) -> dict[str, Any]:
        return {"n": self.n} | ({} if self.theta is None else {"theta": self.theta})

    def restore(self, state: dict[str, Any]) -> None:
        self.n, self.theta = state["n"], state.get("theta")


class StopAt(Watcher):
    """Stop if a watched value has reached `value`: at or below it for a loss, at or above it if larger is better.

    Parameters
    ----------
    watch : str
        See `EarlyStopping`.
    value : float
        In units of the watched value; an accuracy is in [0, 1].

    Raises
    ------
    ValueError, TypeError
        A setting is out of its range, or a fit has no such value to watch.

    Examples
    --------
    >>> StopAt("validation_accuracy", 0.98).value
    0.98
    """

    def __init__(self, watch: str, value: float):
        self.watch, self.value = _name(watch), number("value", value, -math.inf, math.inf)
        self.settings = self.watch, self.value

    def begin(self, fit: Fit) -> None:
        fit.require(self.watch)

    def __call__(self, fit: Fit) -> None:
        value = fit.history.values()[self.watch][-1]
        if value >= self.value if fit.available[self.watch] else value <= self.value:
            fit.stop(f"{self.watch} has reached {value:.6g}")


class TimeBudget(Watcher):
    """Stop after a number of seconds, even in the middle of an epoch.

    Parameters
    ----------
    seconds : float
        > 0, from the beginning of the fit. The last step may end up to 0.03 s later, or later by one step if a step
        takes longer; validation follows.

    Raises
    ------
    ValueError, TypeError
        `seconds` is not a number above 0.

    Examples
    --------
    >>> from fastbp import Trainer
    >>> X, y = np.zeros((100, 2)), np.zeros(100)
    >>> history = Trainer(Network([2, 3])).fit(X, y, epochs=10**6, callbacks=[TimeBudget(0.1)])
    >>> history.stopped
    'the time budget of 0.1 s is used up'
    """

    every = ALWAYS

    def __init__(self, seconds: float):
        self.seconds, self.started = positive("seconds", seconds), 0.0

    def begin(self, fit: Fit) -> None:
        self.started = time.monotonic()

    def __call__(self, fit: Fit) -> None:
        if not fit.epoch_ends and time.monotonic() - self.started > self.seconds:
            fit.stop(f"the time budget of {self.seconds:g} s is used up")


class Checkpoint(Watcher):
    """Write checkpoints: a fit that was killed can be resumed with bit-identical results.

    Parameters
    ----------
    folder : str or path
        For this fit alone; created if it does not exist.
    seconds : float
        >= 0. Time between two checkpoints, also within epochs. The end of the fit and Ctrl-C write one, too. If Ctrl-C
        comes in the callbacks at the end of an epoch, the resumed fit calls all of them again for this epoch.
    keep : int
        >= 1: number of the newest checkpoints to keep.
    resume : bool
        Resume from the newest undamaged checkpoint, if there is one: with the same settings and data, the fit ends
        with the same parameters, to the bit, as one that was never interrupted. A fit that a time budget stopped can
        be resumed, too. Make the network as for the first fit, with the same seed, or keep the one that it left.

    Raises
    ------
    FileExistsError
        When a fit begins: the folder holds checkpoints, and resume is False.
    BlockingIOError
        When a fit begins: another one is writing to the folder, on a system that has locks.
    OSError
        A checkpoint cannot be written, such as on a full disk. The fit ends, older checkpoints stay, and the network
        holds the parameters of the last step.
    ValueError
        When a fit begins: its settings, its data, the initial parameters of the network or the version differ from
        those of the checkpoint, or a setting is out of its range. Functions are compared by their results: a schedule
        by its factors, a custom loss by its costs and errors; metrics are compared by name. If an array is larger than
        a gigabyte, evenly spread samples of one gigabyte in total are compared.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from fastbp import Network, Trainer
    >>> X, y = np.random.default_rng(0).normal(size=(500, 4)), np.arange(500) % 3
    >>> folder, thetas = tempfile.mkdtemp(), []
    >>> for seconds in (0.01, 10):  # the second fit resumes where the first one stopped
    ...     network = Network([4, 8, 3], seed=0)
    ...     callbacks = [TimeBudget(seconds), Checkpoint(folder, resume=True)]
    ...     history = Trainer(network).fit(X, y, 20, callbacks=callbacks)
    >>> whole = Network([4, 8, 3], seed=0)
    >>> _ = Trainer(whole).fit(X, y, 20)
    >>> bool((whole.theta == network.theta).all())
    True
    """

    every = ALWAYS

    def __init__(self, folder: str | os.PathLike[str], seconds: float = 60.0, keep: int = 2, resume: bool = False):
        if not os.fspath(folder):
            raise ValueError("folder must have a name")
        self.folder, self.keep = Path(folder), whole_number("keep", keep, 1)
        self.seconds, self.resume = number("seconds", seconds, 0, math.inf), truth("resume", resume)
        self.resumed: Path | None = None  # the checkpoint that the last fit resumed from
        self.last, self.stopped = 0.0, False
        self._lock: io.FileIO | None = None

    def saved(self) -> State | None:
        """Return the state to resume from, before a fit begins; until it ends no other fit writes to the folder."""
        self._lock = checkpoint.lock(self.folder)
        try:
            self.resumed, state = (checkpoint.read_newest(self.folder) if self.resume else None) or (None, None)
            if state is None and checkpoint.files(self.folder):
                raise FileExistsError(f"{self.folder} holds checkpoints of a fit; go on from them (resume) or name "
                                      "another folder")
        except BaseException:
            self._unlock()
            raise
        return state

    def begin(self, fit: Fit) -> None:
        for half_written in self.folder.glob(PREFIX + "*"):  # left by a process that was killed
            half_written.unlink()
        self.last, self.stopped = time.monotonic(), False

    def __call__(self, fit: Fit) -> None:
        """Write a checkpoint if it is time, or if the fit stops: it can be resumed there, even within an epoch."""
        over = fit.history.stopped != "" or (fit.epoch_ends and fit.epoch == fit.epochs)
        if not self.stopped and (over or time.monotonic() - self.last >= self.seconds):
            tensors, known = fit.state()
            if np.isfinite(tensors["theta"]).all() and np.isfinite(tensors["state"]).all():  # else the fit ends now
                checkpoint.write(self.folder, fit.step, (tensors, known), self.keep)
            self.last = time.monotonic()
        self.stopped = fit.history.stopped != ""

    def end(self, fit: Fit) -> None:
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None


class _Log(Watcher):
    """Writes one line per epoch to a file, which is complete after each line."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = check_folder(path)

    def begin(self, fit: Fit) -> None:
        """If the fit resumes from a checkpoint, keep the lines of the epochs before it."""
        done = len(fit.history.loss)
        with naming(self.path):
            lines = self.path.read_bytes().splitlines(keepends=True) if done and self.path.is_file() else []
            self._cut(sum(map(len, itertools.takewhile(lambda line: self._is_of(line, done), lines))))

    def _is_of(self, line: bytes, epochs: int) -> bool:
        """Whether a line is complete, and is the heading or belongs to the first `epochs` epochs."""
        try:
            return line.endswith(b"\n") and self._epoch(line.decode()) <= epochs
        except (ValueError, KeyError, TypeError):
            return False

    def _cut(self, length: int) -> None:
        """Truncate the file in place: what stays is never rewritten, so no failure can lose it."""
        with self.path.open("ab") as file:
            if self.path.is_file():
                file.truncate(length)

    def __call__(self, fit: Fit) -> None:
        history = fit.history
        values: dict[str, Any] = {"epoch": fit.epoch, "step": fit.step, "seconds": sum(history.seconds)}
        values |= {name: each[-1] for name, each in history.values().items()}
        with naming(self.path):
            length = self.path.stat().st_size if self.path.exists() else 0
            device = self.path.exists() and not self.path.is_file()
            text = self._text(values, fit.epoch == 1 if device else length == 0)
            try:
                with self.path.open("ab") as file:
                    file.write(text.encode())
            except OSError:
                with contextlib.suppress(OSError):
                    self._cut(length)  # no incomplete line stays
                raise

    def _text(self, values: dict[str, Any], first: bool) -> str:
        raise NotImplementedError

    def _epoch(self, line: str) -> int:
        """Return the epoch of a line; 0 for the heading. Raises ValueError, KeyError or TypeError for other lines."""
        raise NotImplementedError


class JSONLog(_Log):
    """Write one line of JSON per epoch: epoch, step, seconds of training so far, loss, and the results of validation.

    NaN and infinity are written as null, as JSON has neither.

    Parameters
    ----------
    path : str or path
        Overwritten when a fit begins; if the fit resumes from a checkpoint, the lines of the epochs before it stay.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        The folder of `path` does not exist, or `path` is a folder.
    OSError
        During a fit: a line cannot be written. The lines before it stay.

    Examples
    --------
    >>> import tempfile
    >>> from fastbp import Trainer
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log = Path(folder, "log.jsonl")
    ...     _ = Trainer(Network([2, 3])).fit(np.zeros((9, 2)), np.zeros(9), 2, callbacks=[JSONLog(log)])
    ...     [json.loads(line)["epoch"] for line in log.read_text().splitlines()]
    [1, 2]
    """

    def _text(self, values: dict[str, Any], first: bool) -> str:
        return json.dumps(strict(values), allow_nan=False) + "\n"

    def _epoch(self, line: str) -> int:
        return int(json.loads(line)["epoch"])


class CSVLog(_Log):
    """Write one row of a CSV table per epoch, with a heading: the values of `JSONLog`; NaN is written as nan.

    Parameters
    ----------
    path : str or path
        See `JSONLog`.

    Raises
    ------
    OSError
        See `JSONLog`.

    Examples
    --------
    >>> import tempfile
    >>> from fastbp import Trainer
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log = Path(folder, "log.csv")
    ...     _ = Trainer(Network([2, 3])).fit(np.zeros((9, 2)), np.zeros(9), 2, callbacks=[CSVLog(log)])
    ...     print(log.read_text().splitlines()[0])
    epoch,step,seconds,loss
    """

    def _text(self, values: dict[str, Any], first: bool) -> str:
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        if first:
            rows.writerow(values)
        rows.writerow(values.values())
        return text.getvalue()

    def _epoch(self, line: str) -> int:
        first = line.split(",")[0]
        return 0 if first == "epoch" else int(first)


class TensorBoardLog(Watcher):
    """Write event files for TensorBoard after each epoch: loss, results of validation, and metrics.

    Parameters
    ----------
    folder : str or path
        Folder of this run; TensorBoard shows the runs in neighbouring folders, too. Written by tensorboardX:
        pip install "fastbp[tensorboard]".

    Raises
    ------
    ImportError
        tensorboardX is not installed.
    OSError
        During a fit: the folder cannot be written to.

    Examples
    --------
    >>> log = TensorBoardLog("runs/first")
    """

    def __init__(self, folder: str | os.PathLike[str]):
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise ImportError('TensorBoardLog needs tensorboardX: pip install "fastbp[tensorboard]"') from None
        self.folder, self._make, self._writer = os.fspath(folder), SummaryWriter, None

    def begin(self, fit: Fit) -> None:
        """If the fit resumes from a checkpoint, hide what was written after the checkpoint."""
        done = len(fit.history.loss)
        # tensorboardX (2.6.5) names a file by the second and overwrites one of that name; readers go by their order.
        own = f".{time.time_ns():020}.{os.getpid()}"
        self._writer = self._make(self.folder, filename_suffix=own, **({"purge_step": done + 1} if done else {}))

    def __call__(self, fit: Fit) -> None:
        if self._writer is not None:
            for name, each in fit.history.values().items():
                self._writer.add_scalar(name, each[-1], fit.epoch)
            self._writer.flush()

    def end(self, fit: Fit) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def check_one_end(callbacks: Iterable[Callback], ema: float | None) -> None:
    """Raise ValueError if several callbacks set the final parameters: all but those of the last would be lost.

    A moving mean can be combined with EarlyStopping, which keeps the best mean.
    """
    ends = [f"{type(callback).__name__} ({callback.ends_with})" for callback in callbacks
            if isinstance(callback, Watcher) and callback.ends_with]
    if ema is not None and any(isinstance(callback, SWA) for callback in callbacks):
        ends.append(f"Trainer(ema={ema:g}) (the moving mean)")
    if len(ends) > 1:
        raise ValueError(f"{' and '.join(ends)} each set the final parameters of the network; use only one of them, or "
                         "EarlyStopping(restore_best=False), which only stops")


def begin(callbacks: list[Callback], fit: Fit) -> None:
    for callback in callbacks:
        if isinstance(callback, Watcher):
            callback.begin(fit)


def in_order(callbacks: Iterable[Callback]) -> list[Callback]:
    """Return the callbacks with checkpoints last, so that they hold what the others did in the epoch."""
    return sorted(callbacks, key=lambda callback: isinstance(callback, Checkpoint))


def bound(callbacks: list[Callback]) -> list[Watcher]:
    """Return the callbacks that influence the fit; others may differ from checkpoint to checkpoint."""
    return [callback for callback in callbacks if isinstance(callback, Watcher) and callback.settings]


def states(callbacks: list[Callback]) -> State:
    """Return the states of the callbacks that influence the fit, by their number."""
    tensors: dict[str, Array] = {}
    rest: dict[str, Any] = {}
    for i, callback in enumerate(bound(callbacks)):
        for name, value in callback.state().items():
            (tensors if isinstance(value, np.ndarray) else rest)[f"callback {i} {name}"] = value
    return tensors, rest


def restore(callbacks: list[Callback], known: dict[str, Any]) -> None:
    """Restore what `states` returned."""
    for i, callback in enumerate(bound(callbacks)):
        start = f"callback {i} "
        own = {name.removeprefix(start): value for name, value in known.items() if name.startswith(start)}
        if own:
            callback.restore(own)


def call(callbacks: list[Callback], fit: Fit, epoch_ends: bool, before: int | None = None) -> None:
    """Call the callbacks that are due after an epoch, or after steps; `before` is the number of steps at the last call,
    by default one less than now."""
    fit.epoch_ends = epoch_ends
    before = fit.step - 1 if before is None else before
    for callback in callbacks:
        every = callback.every if isinstance(callback, Watcher) else None
        if epoch_ends if every is None else every == ALWAYS or (not epoch_ends and fit.step // every > before // every):
            callback(fit)


def of_steps(callbacks: list[Callback]) -> bool:
    """Whether a callback is to be called after certain steps."""
    return any(isinstance(callback, Watcher) and bool(callback.every) for callback in callbacks)


def interrupted(callbacks: list[Callback], fit: Fit) -> None:
    """Write checkpoints of a fit that Ctrl-C ends; if that fails, the previous checkpoint remains."""
    for callback in callbacks:
        if isinstance(callback, Checkpoint) and fit.step:
            with contextlib.suppress(OSError):
                checkpoint.write(callback.folder, fit.step, fit.state(), callback.keep)


def steps_until_call(callbacks: list[Callback], step: int, most: int) -> int:
    """Return how many steps, at most `most`, may be made before the next callback is due."""
    for callback in callbacks:
        if isinstance(callback, Watcher) and callback.every:
            most = min(most, callback.every - step % callback.every)
    return most


def end(callbacks: list[Callback], fit: Fit) -> None:
    """Call `end` of every callback, even if another one raises: checkpoints release their folder."""
    with contextlib.ExitStack() as ends:
        for callback in reversed(callbacks):
            if isinstance(callback, Watcher):
                ends.callback(callback.end, fit)
