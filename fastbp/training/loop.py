"""The loop: epochs over a source of samples, arrays or a stream; each is passes through samples in mini-batches."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from fastbp import callbacks as calls
from fastbp.callbacks import Callback, Fit
from fastbp.core.plan import samples_at_once
from fastbp.diagnosis import likely_cause
from fastbp.history import joined
from fastbp.inputs import Data, decide, right
from fastbp.network import mean_cost
from fastbp.randomness import ORDER, generator
from fastbp.schedules import factors_of
from fastbp.training.bar import bar_of
from fastbp.training.guard import DivergenceError
from fastbp.training.resume import BETWEEN, STEPPED, WITHIN, Record
from fastbp.training.validation import Validation
from fastbp.workspace import Array

if TYPE_CHECKING:
    from fastbp.training.trainer import Trainer

LOG = logging.getLogger("fastbp")


class Mean(NamedTuple):
    """A mean cost, over which weight, of how many samples."""

    cost: float
    weight: float
    samples: int


class Pass:
    """Once through some samples in shuffled mini-batches; through arrays again for each epoch.

    Attributes
    ----------
    n, batch_size, steps : int
        Samples, those of a mini-batch, mini-batches.
    at : int
        Steps made of it.
    costs : ndarray (steps,)
        Mean costs of their mini-batches.
    """

    def __init__(self, trainer: Trainer, data: Data, chosen: Array | None = None, streamed: bool = False):
        """chosen: numbers of the samples to go through, None: all; streamed: what has gone by cannot be gone over
        again."""
        self.trainer, self.data, self.chosen, self.streamed = trainer, data, chosen, streamed
        self.n = len(data) if chosen is None else len(chosen)
        self.batch_size = min(trainer.batch_size, self.n)
        self.steps = -(-self.n // self.batch_size)
        self.at, self.costs = 0, np.empty(self.steps)
        trainer.stepper.prepare(self.batch_size)

    def shuffle(self) -> None:
        """Draw the order, which depends on the seed and the passes before alone."""
        order = generator(ORDER, self.trainer.seed, self.trainer.epochs_done).permutation(self.n)
        self.order = order if self.chosen is None else self.chosen[order]

    def slices(self, etas: Array, most_of: Callable[[int], int] = lambda left: left) -> Iterator[int]:
        """Make the steps that are left, a slice of time at a time; yields how many each slice made.

        most_of: of so many that are left, how many may be made at once.
        """
        pace, guard = self.trainer.stepper.pace, self.trainer.stepper.guard
        if not self.streamed or guard.time == 0:
            guard.take(self.at)
        while self.at < self.steps:
            most = most_of(self.steps - self.at)
            steps, threads = pace.next_slice(most, self.streamed or pace.worth_trying(self.steps))
            started = time.perf_counter()
            made = self._make(etas, self.at, steps, threads)
            if made < steps:
                self._diverged(etas, self.at + made)
            pace.took(steps, threads, started, time.perf_counter(), most)
            self.at += steps
            late = guard.is_old(started)
            if late or self.at == self.steps:
                self.check_finite(etas)
            if late:
                guard.take(self.at)
            yield steps

    def check_finite(self, etas: Array) -> None:
        """Raise DivergenceError unless what the steps so far have left is finite."""
        if not self.trainer.state.is_finite():
            self._diverged(etas, self.at)

    def end(self) -> Mean:
        """Of the steps made; the pass can begin anew."""
        self.trainer.state.epochs_done += 1
        made, self.at = self.at, 0
        self.trainer.stepper.workspace.slip.let_go()
        return self.mean(made)

    def mean(self, steps: int) -> Mean:
        """Of the first so many steps."""
        samples, weights = min(self.n, steps * self.batch_size), self.data.weights
        own = weights[self.order[:samples]] if len(weights) else weights
        weight = float(own.sum()) if len(own) else float(samples)
        return Mean(mean_cost(self.costs[:steps], self.batch_size, samples, own), weight, samples)

    def shown(self, steps: int) -> dict[str, str]:
        """For a bar: mean cost of the last so many steps, accuracy on the last samples that went through at once."""
        shown = {"loss": f"{self.costs[self.at - steps : self.at].mean():.4f}"}
        workspace = self.trainer.stepper.workspace
        n = samples_at_once(self.trainer.network.layer_sizes, self.batch_size, 1)
        targets = workspace.targets[:n]
        shares = right(workspace.a[-1][:n], replace(self.data.t, array=targets, labels=decide(targets)))
        return shown if shares is None else shown | {"accuracy": f"{shares.mean():.3f}"}

    def _make(self, etas: Array, step: int, steps: int, threads: int) -> int:
        samples = self.order[step * self.batch_size : (step + steps) * self.batch_size]
        part = slice(step, step + steps)
        return self.trainer.stepper.make(self.data, samples, self.batch_size, etas[part], self.costs[part], threads)

    def _diverged(self, etas: Array, end: int) -> None:
        """Go back to the last finite parameters before step `end`, and say what happened."""
        trainer, guard = self.trainer, self.trainer.stepper.guard
        if self.streamed:
            guard.leave_finite()
        else:
            end = guard.last_finite(end, lambda step: self._make(etas, step, 1, trainer.threads) == 1)
        batch = self.order[end * self.batch_size : (end + 1) * self.batch_size]
        cause = likely_cause(self.data.x, self.data.t, batch, self.order, self.data.weights,
                             trainer.network.feature_names)
        raise DivergenceError(
            f"the cost or a parameter is no longer finite: epoch {trainer.epochs_done + 1}, step {end + 1} of "
            f"{self.steps}, at a learning rate of {etas[min(end, self.steps - 1)]:.4g}; the network holds its last "
            f"finite parameters; {cause}")


def go_once(trainer: Trainer, data: Data, eta_factor: float = 1.0) -> tuple[Mean, int]:
    """One pass through samples of a stream, without a schedule; how many steps it took. The network holds the
    parameters that are trained, not their mean, afterwards too."""
    once = Pass(trainer, data, streamed=True)
    trainer.state.hold_mean(False)
    once.shuffle()
    try:
        for _ in once.slices(trainer.optimizer.eta * np.full(once.steps, eta_factor)):
            pass
    except KeyboardInterrupt:
        trainer.stepper.guard.leave_finite()
        raise
    return once.end(), once.steps


class Source(Protocol):
    """Where the samples of an epoch come from, and what is done around its epochs."""

    watchers: list[Callback]

    def begin(self) -> None:
        """Before the first."""

    def bar(self, progress: bool | None) -> contextlib.AbstractContextManager[Any]:
        """A progress bar over all of them."""

    def epoch(self) -> tuple[float, float, int]:
        """Go through all samples once, unless a callback stops the fit; mean cost, seconds, samples."""

    def call_after_epoch(self) -> None:
        """Call the callbacks whose time that is."""

    def interrupted(self) -> None:
        """After Ctrl-C."""

    def end(self) -> None:
        """Whatever ended the fit."""


class Arrays:
    """Samples in memory, or mapped there: a schedule over all epochs, callbacks between any two steps, checkpoints."""

    def __init__(self, once: Pass, fit: Fit, watchers: list[Callback], validated: list[Array],
                 learn: Callable[[], None]):
        """validated: the arrays that epochs are validated with; learn: called when nothing can be refused any more."""
        self.once, self.fit, self.watchers, self.learn = once, fit, watchers, learn
        self.record = Record(once, fit, watchers, validated)
        self._bar: Any = None

    def begin(self) -> None:
        saved = self.record.saved()
        calls.begin(self.watchers, self.fit)
        if saved is not None:
            calls.restore(self.watchers, self.record.resume(*saved))
        if self.once.trainer.batch_size > self.once.n:
            LOG.info("batch_size %d is more than the %d samples: each batch is all of them",
                     self.once.trainer.batch_size, self.once.n)
        self.learn()
        self.record.place = BETWEEN, self.fit.epoch

    @contextlib.contextmanager
    def bar(self, progress: bool | None) -> Iterator[None]:
        with bar_of(self.fit.epochs * self.once.steps, self.fit.step, progress) as self._bar:
            yield

    def epoch(self) -> tuple[float, float, int]:
        once, fit, record = self.once, self.fit, self.record
        once.shuffle()
        if once.at == 0:
            record.started, record.factor = time.perf_counter(), fit.eta_factor
        etas, whole = once.trainer.optimizer.eta * self._factors(), record.place[1]
        record.epoch_began = fit.step - once.at
        record.place, fit.epoch = (WITHIN, whole), whole + 1
        for steps in once.slices(etas, lambda left: calls.steps_until_call(self.watchers, fit.step, left)):
            fit.step += steps
            self._tell(steps)
            if fit.history.stopped:
                break
        if once.at < once.steps:
            once.check_finite(etas)
        record.place = STEPPED, whole
        cost, _, samples = once.end()
        return cost, time.perf_counter() - record.started, samples

    def _tell(self, steps: int) -> None:
        """The bar and the callbacks of the steps just made."""
        if self._bar is not None:
            self._bar.set_postfix(self.once.shown(steps), refresh=False)
            self._bar.update(steps)
        if self.watchers:
            self.fit.loss = self.once.mean(self.once.at).cost
            calls.call(self.watchers, self.fit, epoch_ends=False)

    def _factors(self) -> Array:
        """Of eta, at each step of the epoch."""
        once, done = self.once, self.fit.step - self.once.at
        steps, total = np.arange(done, done + once.steps), self.fit.epochs * once.steps
        factors = self.record.factor * factors_of(once.trainer.schedule_of_fit, steps, total)
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
        guard = self.once.trainer.stepper.guard
        guard.leave_finite()
        guard.time = 0.0  # a stream that comes next begins with a copy of its own


class Batches:
    """A stream of batches, read ahead by a thread: no schedule, callbacks between any two batches, no checkpoints."""

    def __init__(self, trainer: Trainer, read: Callable[[], Generator[Data]], learn: Callable[[Data], None], fit: Fit,
                 watchers: list[Callback]):
        """read: gives the batches of an epoch; learn: told of each that is trained on."""
        self.trainer, self.read, self.learn, self.fit, self.watchers = trainer, read, learn, fit, watchers

    def begin(self) -> None:
        calls.begin(self.watchers, self.fit)

    def bar(self, progress: bool | None) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext()

    def epoch(self) -> tuple[float, float, int]:
        fit, started, total, weight, samples, given = self.fit, time.perf_counter(), 0.0, 0.0, 0, False
        fit.epoch += 1
        with contextlib.closing(self.read()) as batches:
            for data in batches:
                given = True
                if data.is_idle:
                    continue
                self.learn(data)
                mean, steps = go_once(self.trainer, data, fit.eta_factor)
                total, weight, samples = total + mean.cost * mean.weight, weight + mean.weight, samples + mean.samples
                before, fit.step, fit.loss = fit.step, fit.step + steps, total / weight
                calls.call(self.watchers, fit, epoch_ends=False, before=before)
                if fit.history.stopped:
                    break
        if samples == 0:
            raise ValueError(_why_no_batches(given, fit.epoch))
        return total / weight, time.perf_counter() - started, samples

    def call_after_epoch(self) -> None:
        calls.call(self.watchers, self.fit, epoch_ends=True)

    def interrupted(self) -> None:
        pass

    def end(self) -> None:
        pass


def _why_no_batches(given: bool, epoch: int) -> str:
    """What to say of an epoch in which nothing was trained on; whether there were batches."""
    if given:
        return "there are no batches with a weight above 0"
    where = "there are no batches" if epoch == 1 else f"there are no batches in epoch {epoch}"
    return where + "; an iterator gives its own once, so give a list or an object that can be iterated over again"


def run(trainer: Trainer, source: Source, fit: Fit, validation: Validation, progress: bool | None = False) -> None:
    """All epochs of a fit: train, validate, call callbacks. Whatever ends it, trainer and network are left whole."""
    earlier = trainer.history
    try:
        source.begin()
        with source.bar(progress):
            while fit.epoch < fit.epochs and not fit.history.stopped:
                trainer.state.hold_mean(False)
                cost, seconds, samples = source.epoch()
                fit.history.seconds.append(seconds)
                fit.history.loss.append(cost)
                fit.history.samples.append(samples)
                trainer.state.hold_mean(True)
                validation.measure(fit.history)
                source.call_after_epoch()
    except KeyboardInterrupt:
        source.interrupted()
        raise
    finally:
        source.end()
        trainer.history = joined(earlier, fit.history)
        trainer.state.hold_mean(True)
        calls.end(source.watchers, fit)
