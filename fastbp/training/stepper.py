"""Stepper: the compiled call that makes steps of training, and the memory that they need."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from fastbp import few
from fastbp.core import build, call, engine
from fastbp.core.call import Slip
from fastbp.core.noise import WHOLE, threshold
from fastbp.core.plan import Plan, plan_for, scratch_size
from fastbp.core.rules import CLIP_NORM, CLIP_VALUE, EMA_DECAY, MAX_NORM
from fastbp.core.samples import address_of_array
from fastbp.core.threads import team
from fastbp.core.threads.board import balance, board_size
from fastbp.core.threads.pace import pace_of
from fastbp.inference import hold_entries
from fastbp.inputs import Data, several_decisions
from fastbp.randomness import DROPOUT, generator
from fastbp.training.guard import Guard
from fastbp.training.settings import Settings
from fastbp.workspace import Array, Workspace, aligned

LEAST_SAMPLES = 24  # per thread: with fewer, a phase is a few grains, and a thread with cheap ones seems fast


class Observer(Protocol):
    """Looks at every `interval`-th step of a trainer; it changes nothing."""

    interval: int

    def before(self, stepper: Stepper) -> None:
        """Called before the step."""

    def after(self, stepper: Stepper, n: int, eta: float, cost: float) -> None:
        """Called after the step: its number of samples, learning rate and mean cost; z, a and delta of the last piece
        of its samples are in stepper.workspace."""


class Stepper:
    """Makes steps with the settings of a trainer, read at each call, as callbacks may change them.

    Memory is kept from fit to fit, as new memory is slow.

    Attributes
    ----------
    pace : fastbp.core.threads.pace.Pace
        How many steps a call makes, and on how many threads.
    workspace : Workspace
        The workspace of the last call.
    workspaces : dict
        By whether samples are sparse, the workspaces of earlier calls.
    guard : Guard
    """

    workspace: Workspace
    guard: Guard
    # Whether a callback has assigned settings, or trained, since the guard's copy: steps after it cannot be repeated.
    has_changed = False
    extra: Mapping[int, float] = MappingProxyType({})  # slots of the rule, and values, that no setting gives
    few: Slip | None = None  # slip of `step_few`; None: a setting has changed
    most_few = 0  # most samples that it takes
    observer: Observer | None = None  # see `observe`

    def __init__(self, settings: Settings):
        self.settings, self.workspaces = settings, dict[bool, Workspace]()
        self.renew()

    def renew(self) -> None:
        """Renew what depends on the number of threads and the size of a mini-batch."""
        own, net = self.settings, self.settings.network
        self.pace = pace_of(own.thread_counts(), net.layer_sizes, net.activations, net.dtype.name,
                            own.batch_size, str(type(own.optimizer)), os.getpid())
        self.threads = own.threads
        self.board = np.zeros(board_size(own.threads), np.int64)
        size = scratch_size(net.layer_sizes, own.threads, own.batch_size, own.clip_norm is not None)
        if len(vars(self).get("scratch", ())) != size:
            self.scratch = aligned(size, net.dtype)

    def observe(self, observer: Observer | None) -> None:
        """Let `observer` look at steps from now on; None: no longer."""
        self.observer, self.few = observer, None

    def step_few(self, X: Any, y: Any) -> float:
        """Make a step on a few samples in one compiled call; return their mean cost, or NaN: see few.run."""
        own, net = self.settings, self.settings.network
        slip = self.few or self._bind()
        if not (self.most_few and self.keep()):
            return math.nan
        cost = few.run(slip, net, own.loss, X, y, self.most_few)
        if cost == cost and net.multilabel is not (multilabel := self._decides_each and y.ndim == 2):
            net.multilabel = multilabel
        return cost

    def keep(self) -> bool:
        """Copy, before steps of a stream, what they change, if the last copy is old.

        Returns False if the state is no longer finite, although the costs may be; then nothing is copied."""
        if not self.guard.is_old(time.perf_counter()):
            return True
        if not self.settings.state.is_finite():
            return False
        self.guard.take(0)
        return True

    def _bind(self) -> Slip:
        """Return a slip of steps with the current settings, in the memory of this stepper."""
        own, net = self.settings, self.settings.network
        rule, plan = self.rule(), self.plan(own.batch_size, 1)
        # Not with a mean of the parameters, which the network holds between steps, and not if threads may pay off.
        alone = plan.piece if own.threads == 1 else (team.WORTH_THREADS - 1) // (3 * net.n_parameters)
        self.most_few = 0 if own.state.kind.mean or self.observer else min(plan.piece, alone)
        self._decides_each = several_decisions(net.layer_sizes[-1], net.activations[-1])
        self.prepare(max(1, self.most_few))
        # Set at the end: Ctrl-C may come while machine code is loaded.
        self.few = self.bound(self.workspace, rule, plan, self.scratch)
        return self.few

    def bound(self, workspace: Workspace, rule: Array, plan: Plan, scratch: Array) -> Slip:
        """Return a slip for steps on one thread in a workspace, with the current settings."""
        own, net, state = self.settings, self.settings.network, self.settings.state
        slip = workspace.bind(net.theta, state.clock, own.loss.rule(net.dtype.name), rule, call.TRAIN, plan)
        slip.point(gradient=scratch, state=state.rows, rule=rule, etas=np.array([own.optimizer.eta]))
        slip.put(n_gradient=len(scratch), n_state=len(state.rows))
        return slip

    def prepare(self, batch_size: int, sparse: bool = False) -> None:
        """Prepare buffers for mini-batches of this size, and a guard of the trainer's state."""
        own, net, state, known = self.settings, self.settings.network, self.settings.state, vars(self)
        if sparse and (own.noise or own.dropout[0] or own.augmentation):
            what = "noise" if own.noise else "augmentation" if own.augmentation else "dropout of the input"
            raise ValueError(f"{what} needs dense samples, and X is sparse: give X.toarray(), or a trainer without it")
        held = self.workspaces.get(sparse)
        if held is None or held.capacity < batch_size:
            held = self.workspaces[sparse] = net.workspace(batch_size, sparse=sparse)
        self.workspace = held
        if "guard" not in known or self.guard.state is not state:  # otherwise a stream needs its copy
            self.guard = Guard(state)
        self.prepare_layers(self.workspace.layers)
        state.begin()

    def prepare_layers(self, layers: Array) -> None:
        """Write the settings that apply only in training into a table of layers."""
        own = self.settings
        for l, rate in enumerate(own.dropout):
            layers[l, call.DROPOUT] = threshold(rate)
            if rate or own.noise or own.augmentation:  # for streams, too: a generator takes as long as small steps
                layers[l, call.KEY] = generator(DROPOUT, own.seed, l).integers(1 << 62)
        layers[0, call.NOISE] = round(own.noise * WHOLE)
        layers[0, call.AUGMENTATION] = 0
        if own.augmentation is not None:  # which keeps them
            layers[0, call.AUGMENTATION] = address_of_array(own.augmentation.settings(own.network.layer_sizes[0]))
        layers[:, call.FROZEN] = [l in own.frozen for l in range(len(layers))]

    def rule(self) -> Array:
        """Return the vector that the compiled update reads: settings of the optimiser and of the trainer."""
        own, rule = self.settings, self.settings.optimizer.settings()
        rule[[CLIP_VALUE, CLIP_NORM, EMA_DECAY, MAX_NORM]] = [
            value or 0.0 for value in (own.clip_value, own.clip_norm, own.ema, own.max_norm)]
        if self.extra:
            rule[list(self.extra)] = list(self.extra.values())
        return rule

    def plan(self, batch_size: int, threads: int, sparse: bool = False) -> Plan:
        """Return the plan of a step."""
        own = self.settings
        return plan_for(own.network.layer_sizes, batch_size, call.TRAIN, threads, frozen=own.frozen,
                        bounds=(own.clip_norm is not None, own.max_norm is not None), sparse=sparse)

    def make(self, data: Data, order: Array, batch_size: int, etas: Array, costs: Array, threads: int) -> int:
        """Make a step for each of `etas` in one compiled call, or in several if there is an observer; write mean costs
        to `costs`; return the steps made."""
        if self.observer is None:
            return self._make(data, order, batch_size, etas, costs, threads)
        made, observer = 0, self.observer
        while made < len(etas):
            left = observer.interval - self.settings.steps_done % observer.interval  # the last of them is looked at
            part = slice(made, made + min(max(1, left - 1), len(etas) - made))
            samples = order[part.start * batch_size : part.stop * batch_size]
            if left == 1:
                observer.before(self)
            made += self._make(data, samples, batch_size, etas[part], costs[part], threads)
            if made < part.stop:
                break
            if left == 1:
                observer.after(self, len(samples), float(etas[made - 1]), float(costs[made - 1]))
        return made

    def _make(self, data: Data, order: Array, batch_size: int, etas: Array, costs: Array, threads: int) -> int:
        return self.run(threads, batch_size,
                        lambda threads: self.ready(data, order, batch_size, etas, costs, threads))

    def run(self, threads: int, batch_size: int, ready: Callable[[int], Slip]) -> int:
        """Run the slip that `ready` returns for the number of threads that are safe; return the steps made."""
        board = self.board
        if not team.is_awake(threads):  # they may wake on other cores, and their measured speeds are outdated
            board[:] = 0
        with team.team((engine.run, engine.run_serial), threads, self.threads, board) as (run, threads):
            made = run(ready(threads).vector, threads)
        if threads > 1 and batch_size >= LEAST_SAMPLES * threads:
            balance(board, threads)
        return int(made)

    def ready(self, data: Data, order: Array, batch_size: int, etas: Array, costs: Array, threads: int) -> Slip:
        """Return the workspace's slip for such a call on `threads` threads, and load the machine code for it."""
        plan = self.plan(batch_size, threads, data.x.is_sparse)
        slip = self.bring(data, order, plan, threads, self.rule())
        slip.point(etas=etas)
        slip.put_work(call.TRAIN, batch_size, plan, costs)
        return slip

    def bring(self, data: Data, order: Array, plan: Plan, threads: int, rule: Array) -> Slip:
        """Return the workspace's slip, on which all is written but the work, and load the machine code for it."""
        own, net, state = self.settings, self.settings.network, self.settings.state
        sparse = data.x.is_sparse
        self.workspace = self.workspaces[sparse]  # a callback may have used the other one
        slip = self.workspace.slip
        slip.point(theta=net.theta, gradient=self.scratch, state=state.rows, clock=state.clock, rule=rule)
        slip.put(n_gradient=len(self.scratch), n_state=len(state.rows))
        slip.put_data(data.x.samples, data.t.samples, data.weights, order, len(order))
        slip.put_loss(own.loss.rule(net.dtype.name))
        slip.put_threads(self.board, threads)
        hold_entries(slip, data.x, plan.piece, threads)
        slip.put(address=build.address(net.dtype.name, self.workspace.layers, rule, call.TRAIN, sparse))
        return slip
