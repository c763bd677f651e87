"""Record: the state of a fit that a checkpoint holds, and how another fit resumes from it."""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from pathlib import Path
from typing import Any

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
from fastbp.checks import counted
from fastbp.schedules import Function, Schedule
from fastbp.training.passes import Pass
from fastbp.workspace import Array

# The place of a fit when Ctrl-C comes: between two epochs, within one, after the steps of one and before its
# validation, in the callbacks after one, or before the first.
BETWEEN, WITHIN, STEPPED, CALLING, BUSY = range(5)
LOG = logging.getLogger("fastbp")


class Record:
    """The part of a checkpoint that is not in the trainer, the pass through the samples or the callbacks.

    Attributes
    ----------
    place : tuple of int
        Place of the fit (BETWEEN etc.), and number of completed epochs.
    epoch_began : int
        Steps of the fit at the start of the current epoch.
    started, factor : float
        Time of that start, and factor of eta in this epoch.
    """

    def __init__(self, once: Pass, fit: Fit, watchers: list[Callback], validated: list[Array]):
        self.once, self.fit, self.watchers, self.validated = once, fit, watchers, validated
        self.place, self.epoch_began, self.started, self.factor = (BUSY, 0), 0, 0.0, 1.0
        self.start = ""  # fingerprint of the initial parameters, if there are checkpoints
        self.first_epoch, self.steps_before = once.settings.epochs_done, once.settings.steps_done  # this fit's
        self._uncalled: tuple[State, float] = ({}, {}), 1.0  # callbacks and factor of eta before the last epoch's calls
        self._named: tuple[losses.Loss, Schedule | Function, dict[str, str]] | None = None
        fit.state = self.state

    def state(self) -> State:
        """Return all that `resume` needs. Within an epoch, this does not include that the fit was stopped."""
        once, fit = self.once, self.fit
        known_tensors, known = calls.states(self.watchers)
        tensors, counts = once.settings.state.saved()
        return known_tensors | tensors | {"costs": once.costs[: once.at]}, {
            "settings": self._identity(), "start": self.start,
            "history": vars(fit.history) | ({} if fit.epoch_ends else {"stopped": ""}), "callbacks": known, **counts,
            "epoch": fit.epoch if fit.epoch_ends else fit.epoch - 1, "step": fit.step, "at": once.at,
            "seconds": time.perf_counter() - self.started, "eta_factor": float(fit.eta_factor),
            "factor": float(self.factor),
        }

    def saved(self) -> State | None:
        """Return the state of the checkpoint with most steps, if a callback has one of this fit to resume from.

        Its history is taken first. From here on no other fit writes to their folders."""
        found: dict[Path, State] = {}
        with contextlib.ExitStack() as undo:
            for callback in self.watchers:
                if isinstance(callback, calls.Checkpoint):
                    self.start = fingerprint(self.once.settings.network.theta)
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
        self.take_history(found[newest][1])
        LOG.info("resumed from %s: %d of %s were done", newest, self.fit.epoch, counted(self.fit.epochs, "epoch"))
        return found[newest]

    def take_history(self, there: dict[str, Any]) -> None:
        """Take over what a checkpoint says of the fit itself."""
        fit = self.fit
        fit.history, fit.epoch, fit.step = History(**there["history"]), there["epoch"], there["step"]
        fit.eta_factor = there["eta_factor"]

    def _check_starts(self, newest: Path, found: dict[Path, State]) -> None:
        """Refuse checkpoints of a network with other initial parameters.

        A network with the final parameters of the newest checkpoint is accepted, too, as in a second call after Ctrl-C;
        its fit counts as begun with the parameters of the first one."""
        tensors, there = found[newest]
        theta = tensors["theta"]
        best = [each.astype(theta.dtype) for name, each in tensors.items() if name.endswith(calls.ENDS_WITH)]
        ends = {fingerprint(each) for each in (theta, *tensors["state"][-1:], *best)}
        if self.start in ends:
            self.start = there.get("start", "")
        for path, (_, there) in found.items():
            check_start(path, there.get("start", ""), self.start)

    def resume(self, tensors: dict[str, Array], there: dict[str, Any]) -> dict[str, Any]:
        """Restore the state in which a checkpoint was written; return the state of the callbacks."""
        once = self.once
        once.settings.state.restore(tensors, there)
        self.steps_before = there["steps_done"] - there["step"]
        self.factor, once.at = there["factor"], there["at"]
        once.costs[: once.at], self.started = tensors["costs"], time.perf_counter() - there["seconds"]
        known: dict[str, Any] = there["callbacks"] | tensors
        return known

    def _identity(self) -> dict[str, Any]:
        """Return the values that must agree between a checkpoint and the fit that resumes from it."""
        own, net = self.once.settings, self.once.settings.network
        names = ("optimizer", "batch_size", "seed", "dropout", "noise", "augmentation", "clip_norm", "clip_value",
                 "max_norm", "ema", "frozen")
        return {
            "fastbp": fastbp.__version__, "layer_sizes": net.layer_sizes, "activations": net.activations,
            "dtype": net.dtype.name, "input_scale": net.input_scale, **self._functions(),
            **{name: without_address(getattr(own, name)) for name in names},
            "epochs": self.fit.epochs, "first epoch": self.first_epoch, "samples": self.once.n, "data": self._data,
            "metrics": list(self.fit.history.metrics),
            "callbacks": [[type(callback).__name__, *callback.settings] for callback in calls.bound(self.watchers)],
        }

    def _functions(self) -> dict[str, str]:
        """Return text that identifies loss and schedule. It may call functions, so it is kept from checkpoint to
        checkpoint until a callback replaces one of the two."""
        own, net = self.once.settings, self.once.settings.network
        loss, schedule = own.loss, own.schedule_of_fit
        if self._named is None or self._named[0] is not loss or self._named[1] is not schedule:
            names = {"loss": name_of_loss(loss, net.layer_sizes[-1], net.dtype),
                     "schedule": name_of_schedule(schedule, self.fit.epochs * self.once.steps)}
            self._named = loss, schedule, names
        return self._named[2]

    @functools.cached_property
    def _data(self) -> str:
        data, chosen = self.once.data, self.once.chosen
        return fingerprint(*data.x.arrays, data.t.array, data.weights, *([] if chosen is None else [chosen]),
                           *self.validated)

    def before_calls(self) -> None:
        """Note that the callbacks of an epoch come next; they are called again if Ctrl-C interrupts them."""
        self._uncalled = calls.states(self.watchers), self.fit.eta_factor
        self.place = CALLING, self.place[1]

    def catch_up(self) -> bool:
        """Count, after Ctrl-C, the steps that compiled code made before it returned.

        Returns whether a checkpoint can be written: all numbers are finite, and no callback was missed."""
        (place, whole), once, fit = self.place, self.once, self.fit
        if place == BUSY:
            return False
        if place == BETWEEN:
            fit.epoch, fit.epoch_ends = whole, True
            return once.at == 0 and once.settings.state.is_finite()  # otherwise the fit has not moved since it resumed
        keeps = any(isinstance(callback, calls.Checkpoint) for callback in self.watchers)
        if calls.of_steps(self.watchers) or (place in (STEPPED, CALLING) and not keeps):
            return False
        if place == CALLING:
            (tensors, known), fit.eta_factor = self._uncalled
            calls.restore(self.watchers, known | tensors)
            fit.history.stopped = ""
        if place in (STEPPED, CALLING):
            self._reopen(whole)
        fit.step = once.settings.steps_done - self.steps_before
        once.at, fit.epoch, fit.epoch_ends = fit.step - self.epoch_began, whole + 1, False
        return once.settings.state.is_finite()

    def _reopen(self, whole: int) -> None:
        """Go back to the last step of the epoch after `whole` completed ones; the resumed fit does the rest."""
        history = self.fit.history
        lists: list[list[Any]] = [history.seconds, history.loss, history.samples, history.validation_loss,
                                  history.validation_accuracy, *history.metrics.values()]
        for values in lists:
            del values[whole:]
        self.once.settings.state.epochs_done = self.first_epoch + whole
