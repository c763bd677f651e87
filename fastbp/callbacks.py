"""Callbacks: functions that a fit calls after each epoch, or after every so many steps.

Any function of a `Fit` is one; those here stop early, keep the best parameters or their mean, change the learning rate,
write logs and checkpoints.
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
        With the parameters of this moment; callbacks may change them.
    history : History
    epoch, step : int
        Epochs begun and steps made in this fit.
    loss : float
        Mean cost of this epoch's steps so far.
    epoch_ends : bool
        Whether this is the end of an epoch, whose numbers are in `history`.
    epochs : int
        How many the fit was called for.
    eta_factor : float
        By which the learning rate is multiplied from the next epoch on, beside its schedule.
    available : dict
        What `history` will hold to watch, and whether more of it is better.
    state : function
        Gives all of the fit, for a checkpoint.

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
        """Make sure that there will be values of a name to watch.

        Parameters
        ----------
        name : str
            Such as validation_loss, or that of a metric.

        Raises
        ------
        ValueError
            The fit has none of that name.

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


ENDS_WITH = " theta"  # how the name of the parameters ends, in a checkpoint, that a callback will end the fit with


class Watcher:
    """Base of the callbacks that know when a fit begins and ends, and may be called within an epoch.

    Attributes
    ----------
    every : int or None
        Call it after so many steps; 0: after epochs and whenever compiled code returns; None: after epochs.
    settings : tuple
        On which it depends how a fit goes, if it does: a checkpoint has to agree with them.
    ends_with : str
        What it puts into the network when a fit ends, if it does.

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

    ends_with = ""  # of one that puts other parameters into the network when a fit ends: which

    every: int | None = None  # how many steps; ALWAYS: after epochs and whenever compiled code returns; None: epochs
    settings: tuple[Any, ...] = ()  # of one on which it depends how a fit goes: what a checkpoint has to agree with

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
        """Return what it knows, numbers and arrays, for a checkpoint; `restore` takes it back after `begin`.

        Examples
        --------
        >>> SWA().state()
        {'n': 0}
        """
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Parameters
        ----------
        state : dict
            Of `state`.

        Examples
        --------
        >>> watcher = SWA()
        >>> watcher.restore({"n": 3, "theta": np.zeros(9)})
        >>> watcher.n
        3
        """


class Every(Watcher):
    """Call a function after every `steps` steps; the steps of a fit count on from epoch to epoch.

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
        raise TypeError(f"watch must be a name, such as {', '.join(WATCHED)} or that of a metric, got {watch!r}")
    return KERAS_NAMES.get(watch, watch)


class _Better:
    """Whether a watched value has got better by more than `least_gain`."""

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
    """Stop once a value has not got better for some epochs, and go back to the parameters at its best.

    Parameters
    ----------
    watch : str
        validation_loss, validation_accuracy, loss, or the name of one of the fit's metrics.
    patience : int
        Epochs without gain after which to stop, >= 1.
    least_gain : float
        A gain is more than this, >= 0.
    restore_best : bool
        Whether the network ends with its best parameters, however the fit ends; the optimiser's state goes on from
        where it is. With Trainer(ema) they are the best mean, as the mean is validated. Not beside SWA or another
        EarlyStopping that does so: fit raises ValueError.

    Raises
    ------
    ValueError, TypeError
        A setting is out of its range, or a fit begins that has no such value to watch.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import Network, Trainer
    >>> draw = np.random.default_rng(0)
    >>> X, y = draw.normal(size=(60, 20)), draw.integers(0, 2, 60)  # nothing to be learned
    >>> trainer = Trainer(Network([20, 30, 2]), batch_size=10)
    >>> history = trainer.fit(X, y, 100, validation_fraction=0.5, callbacks=[EarlyStopping(patience=3)])
    >>> len(history.loss) < 100, history.stopped
    (True, 'validation_loss has not got better for 3 epochs')
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
            fit.stop(f"{self.better.watch} has not got better for {counted(self.patience, 'epoch')}")

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
    """Multiply the learning rate by `factor` once a value has not got better for some epochs.

    Parameters
    ----------
    watch, patience, least_gain
        See `EarlyStopping`; after each reduction the patience begins anew.
    factor : float
        In (0, 1).
    least : float
        The factor's power does not fall below this, >= 0.

    Raises
    ------
    ValueError, TypeError
        A setting is out of its range, or a fit begins that has no such value to watch.

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
    """Stochastic weight averaging: the network ends with the mean of its parameters at the ends of the last epochs, of
    which the history knows nothing.

    A fit that ends before the mean begins leaves the last parameters. `fit` raises ValueError if something else decides
    what the network ends with: Trainer(ema), EarlyStopping(restore_best=True) or another SWA.

    Parameters
    ----------
    start : float
        In [0, 1): share of the epochs after which the mean begins. It wants a learning rate that stays high, or rises
        again and again, from there on.

    Raises
    ------
    ValueError, TypeError
        `start` is out of its range.

    References
    ----------
    Izmailov, Podoprikhin, Garipov, Vetrov, Wilson: Averaging Weights Leads to Wider Optima and Better Generalization
    (UAI 2018), algorithm 1, its cycle an epoch.

    Examples
    --------
    >>> SWA(start=0.5).start
    0.5
    """

    ends_with = "the mean of the last epochs"

    def __init__(self, start: float = 0.75):
        self.start, self.n = number("start", start, 0, 1, high_open=True), 0
        self.settings = (self.start,)
        self.theta: Array | None = None  # the mean of n, in float64

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
    """Stop once a watched value has come far enough: if more is better at or above `value`, of a loss at or below.

    Parameters
    ----------
    watch : str
        See `EarlyStopping`.
    value : float
        In the unit of what is watched; an accuracy is in [0, 1].

    Raises
    ------
    ValueError, TypeError
        A setting is out of its range, or a fit begins that has no such value to watch.

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
            fit.stop(f"{self.watch} has come to {value:.6g}")


class TimeBudget(Watcher):
    """Stop after so many seconds, in the middle of an epoch too.

    Parameters
    ----------
    seconds : float
        > 0, from the beginning of the fit. Its last step is made up to 0.03 s later, or one step if that takes longer;
        validation comes after.

    Raises
    ------
    ValueError, TypeError
        `seconds` is no number above 0.

    Examples
    --------
    >>> from fastbp import Trainer
    >>> X, y = np.zeros((100, 2)), np.zeros(100)
    >>> history = Trainer(Network([2, 3])).fit(X, y, epochs=10**6, callbacks=[TimeBudget(0.1)])
    >>> history.stopped
    'its 0.1 seconds are over'
    """

    every = ALWAYS

    def __init__(self, seconds: float):
        self.seconds, self.started = positive("seconds", seconds), 0.0

    def begin(self, fit: Fit) -> None:
        self.started = time.monotonic()

    def __call__(self, fit: Fit) -> None:
        if not fit.epoch_ends and time.monotonic() - self.started > self.seconds:
            fit.stop(f"its {self.seconds:g} second{' is' if self.seconds == 1 else 's are'} over")


class Checkpoint(Watcher):
    """Keep all that the fit needs to go on to the bit, were it killed.

    Parameters
    ----------
    folder : str or path
        Of this fit alone; made if there is none.
    seconds : float
        >= 0. From checkpoint to checkpoint, in the middle of epochs too; the fit's end writes one as well,
        and Ctrl-C: after one in the callbacks of an epoch's end, the fit that goes on calls them all for it again.
    keep : int
        >= 1: how many of the newest stay.
    resume : bool
        Go on from the newest whole one, if there is any: a fit of the same settings and data then ends with the same
        parameters, to the bit, as one never interrupted. A fit that a time budget stopped goes on, too. The network
        is made as it was for the first fit, with the same seed, or holds what it ended with.

    Raises
    ------
    FileExistsError
        When a fit begins: there are checkpoints, and resume is False.
    BlockingIOError
        When a fit begins: another one is writing to the folder, on a system that has locks.
    OSError
        A checkpoint cannot be written, on a full disk say. The fit ends, the older checkpoints stay, and the network
        holds the parameters of the last step.
    ValueError
        When a fit begins: its settings, its data, the parameters that the network begins with or the version are not
        those of the checkpoint, or a setting is out of its range. Functions are compared by what they give: a schedule
        by its factors, a loss of your own by its costs and errors; metrics by their names. Of an array of more than a
        gigabyte as many samples as that are compared, evenly spread.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from fastbp import Network, Trainer
    >>> X, y = np.random.default_rng(0).normal(size=(500, 4)), np.arange(500) % 3
    >>> folder, thetas = tempfile.mkdtemp(), []
    >>> for seconds in (0.01, 10):  # the second fit goes on where the first was stopped
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
        self.resumed: Path | None = None  # what the last fit went on from
        self.last, self.stopped = 0.0, False
        self._lock: io.FileIO | None = None

    def saved(self) -> State | None:
        """What to go on from, before a fit begins; from here to the fit's end no other fit writes to the folder."""
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
        for half_written in self.folder.glob(PREFIX + "*"):  # by a process that was killed
            half_written.unlink()
        self.last, self.stopped = time.monotonic(), False

    def __call__(self, fit: Fit) -> None:
        """Within an epoch that is stopped the fit can go on later; what comes after belongs to its end."""
        over = fit.history.stopped != "" or (fit.epoch_ends and fit.epoch == fit.epochs)
        if not self.stopped and (over or time.monotonic() - self.last >= self.seconds):
            tensors, known = fit.state()
            if np.isfinite(tensors["theta"]).all() and np.isfinite(tensors["state"]).all():  # else the fit soon ends
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
    """Writes a line an epoch to a file, which is complete after each."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = check_folder(path)

    def begin(self, fit: Fit) -> None:
        """Of a fit that goes on from a checkpoint, the lines of the epochs before it stay."""
        done = len(fit.history.loss)
        with naming(self.path):
            lines = self.path.read_bytes().splitlines(keepends=True) if done and self.path.is_file() else []
            self._cut(sum(map(len, itertools.takewhile(lambda line: self._is_of(line, done), lines))))

    def _is_of(self, line: bytes, epochs: int) -> bool:
        """Whether a line is whole, and one of the first epochs or the heading."""
        try:
            return line.endswith(b"\n") and self._epoch(line.decode()) <= epochs
        except (ValueError, KeyError, TypeError):
            return False

    def _cut(self, length: int) -> None:
        """Cut the file where it is: what stays is never written anew, so that no failure can lose it."""
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
                    self._cut(length)  # no half a line stays
                raise

    def _text(self, values: dict[str, Any], first: bool) -> str:
        raise NotImplementedError

    def _epoch(self, line: str) -> int:
        """Which epoch a line is of; 0 for the heading. Raises ValueError, KeyError or TypeError of other lines."""
        raise NotImplementedError


class JSONLog(_Log):
    """Write a line of JSON an epoch: epoch, step, seconds of training so far, loss, and what validation gives.

    A NaN or infinite number is written as null, as JSON knows neither.

    Parameters
    ----------
    path : str or path
        Overwritten when a fit begins; of a fit that goes on from a checkpoint the lines of the epochs before it stay.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        There is no such folder, or `path` is one.
    OSError
        In a fit: a line cannot be written. The lines before it stay.

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
    """As `JSONLog`, but a row of a table with a heading; NaN is written as nan.

    Parameters
    ----------
    path : str or path
        See `JSONLog`.

    Raises
    ------
    OSError
        As of `JSONLog`.

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
    """Write what TensorBoard shows, after each epoch: loss, and what validation and metrics give.

    Parameters
    ----------
    folder : str or path
        Of this run; others beside it are shown with it. Written by tensorboardX: pip install "fastbp[tensorboard]".

    Raises
    ------
    ImportError
        tensorboardX is not installed.
    OSError
        In a fit: nothing can be written to the folder.

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
        """Of a fit that goes on from a checkpoint, what came after it is not shown."""
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
    """Raise ValueError if more than one decides what the network ends with: all but the last would be lost.

    A moving mean goes together with EarlyStopping, which keeps the best mean.
    """
    ends = [f"{type(callback).__name__} ({callback.ends_with})" for callback in callbacks
            if isinstance(callback, Watcher) and callback.ends_with]
    if ema is not None and any(isinstance(callback, SWA) for callback in callbacks):
        ends.append(f"Trainer(ema={ema:g}) (the moving mean)")
    if len(ends) > 1:
        raise ValueError(f"{' and '.join(ends)} each decide what the network ends with; use one of them, or "
                         "EarlyStopping(restore_best=False), which only stops")


def begin(callbacks: list[Callback], fit: Fit) -> None:
    for callback in callbacks:
        if isinstance(callback, Watcher):
            callback.begin(fit)


def in_order(callbacks: Iterable[Callback]) -> list[Callback]:
    """Checkpoints last, so that they hold what the others have made of the epoch."""
    return sorted(callbacks, key=lambda callback: isinstance(callback, Checkpoint))


def bound(callbacks: list[Callback]) -> list[Watcher]:
    """Those on which it depends how a fit goes; others may come and go from checkpoint to checkpoint."""
    return [callback for callback in callbacks if isinstance(callback, Watcher) and callback.settings]


def states(callbacks: list[Callback]) -> State:
    """What those know on which it depends how a fit goes, by their number."""
    tensors: dict[str, Array] = {}
    rest: dict[str, Any] = {}
    for i, callback in enumerate(bound(callbacks)):
        for name, value in callback.state().items():
            (tensors if isinstance(value, np.ndarray) else rest)[f"callback {i} {name}"] = value
    return tensors, rest


def restore(callbacks: list[Callback], known: dict[str, Any]) -> None:
    """Give back what `states` gave."""
    for i, callback in enumerate(bound(callbacks)):
        start = f"callback {i} "
        own = {name.removeprefix(start): value for name, value in known.items() if name.startswith(start)}
        if own:
            callback.restore(own)


def call(callbacks: list[Callback], fit: Fit, epoch_ends: bool, before: int | None = None) -> None:
    """Those whose time has come: after an epoch, or after steps, of which there were `before` at the last call or else
    one less."""
    fit.epoch_ends = epoch_ends
    before = fit.step - 1 if before is None else before
    for callback in callbacks:
        every = callback.every if isinstance(callback, Watcher) else None
        if epoch_ends if every is None else every == ALWAYS or (not epoch_ends and fit.step // every > before // every):
            callback(fit)


def of_steps(callbacks: list[Callback]) -> bool:
    """Whether one is to be called after certain steps."""
    return any(isinstance(callback, Watcher) and bool(callback.every) for callback in callbacks)


def interrupted(callbacks: list[Callback], fit: Fit) -> None:
    """Write checkpoints of a fit that Ctrl-C ends; if one cannot be written, the last one counts."""
    for callback in callbacks:
        if isinstance(callback, Checkpoint) and fit.step:
            with contextlib.suppress(OSError):
                checkpoint.write(callback.folder, fit.step, fit.state(), callback.keep)


def steps_until_call(callbacks: list[Callback], step: int, most: int) -> int:
    """How many steps may be made at once, of at most so many, before one is to be called."""
    for callback in callbacks:
        if isinstance(callback, Watcher) and callback.every:
            most = min(most, callback.every - step % callback.every)
    return most


def end(callbacks: list[Callback], fit: Fit) -> None:
    """Every one, whatever another raises: checkpoints let go of their folder."""
    with contextlib.ExitStack() as ends:
        for callback in reversed(callbacks):
            if isinstance(callback, Watcher):
                ends.callback(callback.end, fit)
