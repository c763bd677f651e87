"""The loop of a fit: epochs over a source of samples, arrays or a stream, in mini-batches."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, Protocol

import numpy as np

from fastbp import callbacks as calls
from fastbp.callbacks import Callback, Fit
from fastbp.core import compiler
from fastbp.history import joined
from fastbp.inputs import Data
from fastbp.schedules import factors_of
from fastbp.training.bar import bar_of
from fastbp.training.passes import Pass, go_once
from fastbp.training.resume import BETWEEN, STEPPED, WITHIN, Record
from fastbp.training.settings import Settings
from fastbp.training.stepper import Stepper
from fastbp.training.validation import Validation
from fastbp.workspace import Array

LOG = logging.getLogger("fastbp")


class Source(Protocol):
    """Where the samples of an epoch come from, and what is done before and after the epochs."""

    watchers: list[Callback]
    is_over: bool

    def begin(self) -> None:
        """Prepare, before the first epoch."""

    def bar(self, progress: bool | None) -> contextlib.AbstractContextManager[Any]:
        """Return a progress bar over all epochs."""

    def epoch(self) -> None:
        """Go through all samples once, unless a callback stops the fit, and add the epoch to the history."""

    def call_after_epoch(self) -> None:
        """Call the callbacks that are due after an epoch."""

    def interrupted(self) -> None:
        """Handle Ctrl-C."""

    def end(self) -> None:
        """Clean up, whatever ended the fit."""


class Arrays:
    """Samples in memory or memory-mapped: a schedule over all epochs, callbacks between any two steps, checkpoints."""

    is_over = False

    def __init__(self, once: Pass, fit: Fit, watchers: list[Callback], validated: list[Array],
                 learn: Callable[[], None]):
        """validated: the arrays of the validation samples; learn: called once all checks have passed."""
        self.once, self.fit, self.watchers, self.learn = once, fit, watchers, learn
        self.record = Record(once, fit, watchers, validated)
        self._bar: Any = None

    def begin(self) -> None:
        saved = self.record.saved()
        self._begin_calls()
        if saved is not None:
            calls.restore(self.watchers, self.record.resume(*saved))
        if self.once.settings.batch_size > self.once.n:
            LOG.info("batch_size %d is more than the %d samples: each batch holds all of them",
                     self.once.settings.batch_size, self.once.n)
        self.learn()
        self.record.place = BETWEEN, self.fit.epoch

    def _begin_calls(self) -> None:
        calls.begin(self.watchers, self.fit)

    @contextlib.contextmanager
    def bar(self, progress: bool | None) -> Iterator[None]:
        with bar_of(self.fit.epochs * self.once.steps, self.fit.step, progress) as self._bar:
            yield

    def epoch(self) -> None:
        once, fit, record = self.once, self.fit, self.record
        once.shuffle()
        if once.at == 0:
            record.started, record.factor = time.perf_counter(), fit.eta_factor
        etas, whole = once.settings.optimizer.eta * self.factors(fit.step - once.at), record.place[1]
        record.epoch_began = fit.step - once.at
        record.place, fit.epoch = (WITHIN, whole), whole + 1
        for steps in once.slices(etas, lambda left: calls.steps_until_call(self.watchers, fit.step, left)):
            fit.step += steps
            optimizer, schedule = once.settings.optimizer, once.settings.schedule
            self._tell(steps)
            if fit.history.stopped:
                break
            if once.settings.optimizer is not optimizer or once.settings.schedule is not schedule:  # by a callback
                etas[:] = once.settings.optimizer.eta * self.factors(fit.step - once.at)
        if once.at < once.steps:
            once.check_finite(etas)
        record.place = STEPPED, whole
        with compiler.uninterrupted():  # so that an epoch that is counted is in the history
            cost, _, samples = once.end()
            note(fit, cost, time.perf_counter() - record.started, samples)

    def _tell(self, steps: int) -> None:
        """Report the steps just made to the bar and the callbacks."""
        if self._bar is not None:
            self._bar.set_postfix(self.once.shown(steps), refresh=False)
            self._bar.update(steps)
        if self.watchers:
            self.fit.loss = self.once.mean(self.once.at).cost
            calls.call(self.watchers, self.fit, epoch_ends=False)

    def factors(self, done: int) -> Array:
        """Return the factor of eta at each step of the epoch that begins after `done` steps of the fit."""
        once = self.once
        steps, total = np.arange(done, done + once.steps), self.fit.epochs * once.steps
        factors = self.record.factor * factors_of(once.settings.schedule_of_fit, steps, total)
        if not (np.isfinite(factors).all() and (factors >= 0).all()):
            raise ValueError(f"schedule must give finite factors >= 0, got {factors.min()} to {factors.max()}")
        return factors

    def call_after_epoch(self) -> None:
        self.record.before_calls()
        calls.call(self.watchers, self.fit, epoch_ends=True)
        self.record.place = BETWEEN, self.fit.epoch

    def interrupted(self) -> None:
        if self.record.catch_up():
            calls.interrupted(self.watchers, self.fit)

    def end(self) -> None:
        guard = self.once.stepper.guard
        guard.leave_finite()
        guard.time = 0.0  # a stream that comes next takes a new copy


class Batches:
    """A stream of batches, read ahead by a thread: no schedule, callbacks between any two batches, no checkpoints."""

    is_over = False

    def __init__(self, stepper: Stepper, read: Callable[[], Generator[Data]], learn: Callable[[Data], None], fit: Fit,
                 watchers: list[Callback]):
        """read: returns the batches of an epoch; learn: called with each batch that is trained on."""
        self.stepper, self.read, self.learn, self.fit, self.watchers = stepper, read, learn, fit, watchers

    def begin(self) -> None:
        calls.begin(self.watchers, self.fit)

    def bar(self, progress: bool | None) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext()

    def epoch(self) -> None:
        fit, started, total, weight, samples, given = self.fit, time.perf_counter(), 0.0, 0.0, 0, False
        fit.epoch += 1
        with contextlib.closing(self.read()) as batches:
            for data in batches:
                given = True
                if data.is_idle:
                    continue
                self.learn(data)
                mean, steps = go_once(self.stepper, data, fit.eta_factor)
                total, weight, samples = total + mean.cost * mean.weight, weight + mean.weight, samples + mean.samples
                before, fit.step, fit.loss = fit.step, fit.step + steps, total / weight
                calls.call(self.watchers, fit, epoch_ends=False, before=before)
                if fit.history.stopped:
                    break
        if samples == 0:
            raise ValueError(_why_no_batches(given, fit.epoch))
        note(fit, total / weight, time.perf_counter() - started, samples)

    def call_after_epoch(self) -> None:
        calls.call(self.watchers, self.fit, epoch_ends=True)

    def interrupted(self) -> None:
        pass

    def end(self) -> None:
        pass


def _why_no_batches(given: bool, epoch: int) -> str:
    """Return the message about an epoch without training; given: whether there were batches."""
    if given:
        return "there are no batches with a weight above 0"
    where = "there are no batches" if epoch == 1 else f"there are no batches in epoch {epoch}"
    return where + "; an iterator can be used only once: give a list, or an object that can be iterated over again"


def run(settings: Settings, source: Source, fit: Fit, validation: Validation, progress: bool | None = False) -> None:
    """Run all epochs of a fit: train, validate, call callbacks. Trainer and network always stay consistent."""
    try:
        source.begin()
        with source.bar(progress):
            _epochs(settings, source, fit, validation)
    except KeyboardInterrupt:
        source.interrupted()
        raise
    finally:
        try:
            end(settings, source, fit)
        except KeyboardInterrupt:  # it may have come before it was held back
            end(settings, source, fit)
            raise


def _epochs(settings: Settings, source: Source, fit: Fit, validation: Validation) -> None:
    # A separate function: in CPython 3.13, the jump back of a loop that ends a `try` is outside of the `try`; Ctrl-C
    # there would skip the `finally`.
    while fit.epoch < fit.epochs and not fit.history.stopped:
        settings.hold_mean(False)
        source.epoch()
        settings.hold_mean(True)
        validation.measure(fit.history)
        source.call_after_epoch()


def note(fit: Fit, cost: float, seconds: float, samples: int) -> None:
    """Add the numbers of a finished epoch to the history of the fit."""
    fit.history.seconds.append(seconds)
    fit.history.loss.append(cost)
    fit.history.samples.append(samples)


def end(settings: Settings, source: Source, fit: Fit) -> None:
    """Leave trainer and network consistent, whatever ended the fit."""
    with compiler.uninterrupted():  # not even by a second Ctrl-C
        if source.is_over:
            return
        source.is_over = True
        source.end()
        settings.history = joined(settings.history, fit.history)
        settings.hold_mean(True)
        calls.end(source.watchers, fit)
