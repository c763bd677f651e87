"""Pass: once through samples in mini-batches; steps are made in slices of time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from fastbp.core.plan import samples_at_once
from fastbp.inference import mean_cost
from fastbp.inputs import Data, decide, right
from fastbp.network import check_theta
from fastbp.randomness import ORDER, generator
from fastbp.training.guard import DivergenceError
from fastbp.training.notes import likely_cause
from fastbp.training.settings import Settings
from fastbp.training.stepper import Stepper
from fastbp.workspace import Array

AT_FIRST = "the cost is not finite before the first update"


class Mean(NamedTuple):
    """A mean cost, the total weight, and the number of samples."""

    cost: float
    weight: float
    samples: int


class Pass:
    """A pass through samples in shuffled mini-batches; for arrays it is repeated in each epoch.

    Attributes
    ----------
    n, batch_size, steps : int
        Number of samples, of samples in a mini-batch, and of mini-batches.
    at : int
        Number of steps made.
    costs : ndarray (steps,)
        Mean cost of each mini-batch.
    """

    def __init__(self, stepper: Stepper, data: Data, chosen: Array | None = None, streamed: bool = False):
        """chosen: indices of the samples to use, None: all; streamed: samples cannot be read a second time."""
        self.stepper, self.settings = stepper, stepper.settings
        self.data, self.chosen, self.streamed = data, chosen, streamed
        self.n = len(data) if chosen is None else len(chosen)
        self.batch_size = min(self.settings.batch_size, self.n)
        self.steps = -(-self.n // self.batch_size)
        self.at, self.costs = 0, np.zeros(self.steps)
        self.steps_before = self.settings.steps_done
        stepper.prepare(self.batch_size, data.x.is_sparse)

    def shuffle(self) -> None:
        """Draw the order, which depends only on the seed and the number of passes before."""
        self.order = self.order_of(self.settings.epochs_done)

    def order_of(self, epoch: int) -> Array:
        """Return the indices of the samples in the order of pass number `epoch`."""
        order = generator(ORDER, self.settings.seed, epoch).permutation(self.n)
        return order if self.chosen is None else self.chosen[order]

    def slices(self, etas: Array, most_of: Callable[[int], int] = lambda left: left) -> Iterator[int]:
        """Make the remaining steps in slices of time; yield the number of steps of each slice.

        most_of: returns how many of the remaining steps may be made at once.
        """
        stepper, pace, guard = self.stepper, self.stepper.pace, self.stepper.guard
        if not self.streamed:
            guard.take(self.at)
        elif not stepper.keep():
            self._diverged(etas, self.at)
        stepper.has_changed = False
        while self.at < self.steps:
            if stepper.has_changed:
                self.check_finite(etas)
                guard.take(self.at)
                stepper.has_changed = False
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
        """Raise DivergenceError unless parameters and moments are finite after the steps so far."""
        if not self.settings.state.is_finite():
            self._diverged(etas, self.at)

    def end(self) -> Mean:
        """Return the mean cost of the steps made, and reset the pass."""
        self.settings.state.epochs_done += 1
        made, self.at = self.at, 0
        self.stepper.workspace.slip.let_go()
        return self.mean(made)

    def samples_of(self, steps: slice) -> Array:
        """Return the indices of the samples of some steps."""
        return self.order[steps.start * self.batch_size : steps.stop * self.batch_size]

    def mean(self, steps: int) -> Mean:
        """Return the mean cost of the first `steps` steps."""
        samples, weights = min(self.n, steps * self.batch_size), self.data.weights
        own = weights[self.order[:samples]] if len(weights) else weights
        weight = float(own.sum()) if len(own) else float(samples)
        return Mean(mean_cost(self.costs[:steps], self.batch_size, samples, own), weight, samples)

    def shown(self, steps: int) -> dict[str, str]:
        """Return values for the bar: mean cost of the last `steps` steps, accuracy on the samples in the buffers."""
        shown = {"loss": f"{self.costs[self.at - steps : self.at].mean():.4f}"}
        workspace = self.stepper.workspace
        n = samples_at_once(self.settings.network.layer_sizes, self.batch_size, 1)
        targets = workspace.targets[:n]
        shares = right(workspace.a[-1][:n], replace(self.data.t, array=targets, labels=decide(targets)))
        return shown if shares is None else shown | {"accuracy": f"{shares.mean():.3f}"}

    def _make(self, etas: Array, step: int, steps: int, threads: int) -> int:
        part = slice(step, step + steps)
        samples = self.samples_of(part)
        return self.stepper.make(self.data, samples, self.batch_size, etas[part], self.costs[part], threads)

    def _diverged(self, etas: Array, end: int) -> None:
        """Go back to the last finite parameters before step `end`, and raise DivergenceError."""
        settings, guard = self.settings, self.stepper.guard
        holds = "holds its last finite parameters"
        if self.streamed:
            if guard.leave_finite():
                holds = "goes back by up to 2 s, to finite parameters"
        else:
            end = guard.last_finite(end, lambda step: self._make(etas, step, 1, settings.threads) == 1)
        check_start(settings)
        costed = end == self.steps or math.isfinite(self.costs[end])
        is_first = not costed and end == 0 and settings.steps_done == self.steps_before  # and no update was undone
        # In a stream it is unknown which step left numbers that are noticed after several steps, or before the first.
        after = costed and (self.streamed or end == self.steps)
        step = f"step {end + 1}" if not after else f"after step {end}" if end else "before step 1"
        end = min(end, self.steps - 1)
        batch = self.samples_of(slice(end, end + 1))
        cause = likely_cause(settings, self.data, batch, self.order, is_first)
        if is_first and not (self.streamed and settings.steps_done):
            raise DivergenceError(f"{AT_FIRST}; {cause}")
        raise DivergenceError(f"the cost or a parameter is no longer finite: epoch {settings.epochs_done + 1}, {step} "
                              f"of {self.steps}, at a learning rate of {etas[end]:.4g}; the network {holds}; {cause}")


def one_step(stepper: Stepper, data: Data) -> float:
    """Make one step on all samples in their order, if the mean cost is finite; return the mean cost."""
    n, settings, pace, cost = len(data), stepper.settings, stepper.pace, np.zeros(1)
    stepper.prepare(n, data.x.is_sparse)
    order, eta = np.arange(n), settings.optimizer.eta
    made = kept = stepper.keep()
    if kept:
        _, threads = pace.next_slice(1)
        started = time.perf_counter()
        made = stepper.make(data, order, n, np.array([eta]), cost, threads) == 1
        pace.took(1, threads, started, time.perf_counter(), 1)
    if not made:
        step, back = settings.steps_done + 1, "" if settings.state.is_finite() else ", and the network goes back"
        stepper.guard.leave_finite()
        check_start(settings)
        cause = likely_cause(settings, data, order, order, kept and settings.steps_done == step - 1)
        what = "the cost" if kept else "a parameter or a moment"
        if step == 1:
            raise DivergenceError(f"{AT_FIRST}; {cause}")
        raise DivergenceError(f"{what} is no longer finite: step {step}, at a learning rate of {eta:.4g}, was not "
                              f"made{back}; {cause}")
    return float(cost[0])


def check_start(settings: Settings) -> None:
    """Raise DivergenceError after going back, if the state there is not finite either."""
    check_theta(settings.network)
    if not settings.state.is_finite():
        raise DivergenceError("the optimiser's moments were already infinite before the first step of this call: "
                              "earlier steps have left them so, and a smaller eta cannot repair them; make a new "
                              "Trainer, with a smaller eta from the start")


def go_once(stepper: Stepper, data: Data, eta_factor: float = 1.0) -> tuple[Mean, int]:
    """Make one pass through samples of a stream, without a schedule; return the mean cost and the number of steps.

    Before and after it the network holds the trained parameters, not their mean."""
    once, settings = Pass(stepper, data, streamed=True), stepper.settings
    settings.hold_mean(False)
    once.shuffle()
    try:
        for _ in once.slices(settings.optimizer.eta * np.full(once.steps, eta_factor)):
            pass
    except KeyboardInterrupt:
        stepper.guard.leave_finite()
        raise
    return once.end(), once.steps
