"""Stepper: the compiled call that makes steps of training, and the memory that they need."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from fastbp.core import build, call, engine
from fastbp.core.noise import WHOLE, threshold
from fastbp.core.plan import Plan, plan_for, scratch_size
from fastbp.core.rules import CLIP_NORM, CLIP_VALUE, EMA_DECAY, MAX_NORM
from fastbp.core.threads import team
from fastbp.core.threads.board import balance, board_size
from fastbp.inputs import Data
from fastbp.randomness import DROPOUT, generator
from fastbp.training.guard import Guard
from fastbp.training.pace import pace_of
from fastbp.workspace import Array, Workspace, aligned

if TYPE_CHECKING:
    from fastbp.training.trainer import Trainer

LEAST_SAMPLES = 24  # for each thread: of fewer a phase is a few grains, and who has more of cheap ones seems fast


class Stepper:
    """Makes steps by a trainer's settings, which it reads at each call, as callbacks may change them.

    Memory is kept from fit to fit, as it is slow when it is new.

    Attributes
    ----------
    pace : fastbp.training.pace.Pace
        How many steps a call makes, and on how many threads.
    workspace : Workspace
        Of the last fit.
    guard : Guard
    """

    workspace: Workspace
    guard: Guard

    def __init__(self, trainer: Trainer):
        self.trainer = trainer
        self.renew()

    def renew(self) -> None:
        """Make what goes by the number of threads and the size of a mini-batch."""
        trainer, net = self.trainer, self.trainer.network
        self.pace = pace_of(trainer.thread_counts(), net.layer_sizes, net.activations, net.dtype.name,
                            trainer.batch_size, str(type(trainer.optimizer)), os.getpid())
        self.board = np.zeros(board_size(trainer.threads), np.int64)
        size = scratch_size(net.layer_sizes, trainer.threads, trainer.batch_size, trainer.clip_norm is not None)
        if len(vars(self).get("scratch", ())) != size:
            self.scratch = aligned(size, net.dtype)

    def prepare(self, batch_size: int) -> None:
        """Before mini-batches of so many samples: have buffers for them, and a guard of the trainer's state."""
        net, state = self.trainer.network, self.trainer.state
        kept = vars(self).get("workspace")
        if kept is None or kept.capacity < batch_size or self.guard.state is not state:
            self.workspace, self.guard = net.workspace(batch_size), Guard(state)
        self.prepare_layers(self.workspace.layers)
        state.begin()

    def prepare_layers(self, layers: Array) -> None:
        """Write what only training does into a table of layers."""
        trainer = self.trainer
        for l, rate in enumerate(trainer.dropout):
            layers[l, call.DROPOUT] = threshold(rate)
            if rate or trainer.noise:  # batches of a stream come here, and a generator takes as long as small steps
                layers[l, call.KEY] = generator(DROPOUT, trainer.seed, l).integers(1 << 62)
        layers[0, call.NOISE] = round(trainer.noise * WHOLE)
        layers[:, call.FROZEN] = [l in trainer.frozen for l in range(len(layers))]

    def settings(self) -> Array:
        """The vector of settings that the compiled update reads."""
        trainer = self.trainer
        settings = trainer.optimizer.settings()
        settings[[CLIP_VALUE, CLIP_NORM, EMA_DECAY, MAX_NORM]] = [
            value or 0.0 for value in (trainer.clip_value, trainer.clip_norm, trainer.ema, trainer.max_norm)]
        return settings

    def plan(self, batch_size: int, threads: int) -> Plan:
        """What a step does."""
        trainer = self.trainer
        return plan_for(trainer.network.layer_sizes, batch_size, call.TRAIN, threads, frozen=trainer.frozen,
                        bounds=(trainer.clip_norm is not None, trainer.max_norm is not None))

    def make(self, data: Data, order: Array, batch_size: int, etas: Array, costs: Array, threads: int) -> int:
        """One compiled call: a step for each of `etas`, their mean costs into `costs`. Returns the steps made."""
        trainer, net, state, board = self.trainer, self.trainer.network, self.trainer.state, self.board
        settings, slip = self.settings(), self.workspace.slip
        if not team.is_awake(threads):  # they may wake on other cores, and what was known of their speeds is old
            board[:] = 0
        slip.point(theta=net.theta, gradient=self.scratch, state=state.rows, clock=state.clock, rule=settings,
                   etas=etas)
        slip.put(n_gradient=len(self.scratch), n_state=len(state.rows))
        slip.put_data(data.x.samples, data.t.samples, data.weights, order, len(order))
        slip.put_loss(trainer.loss.rule(net.dtype.name))
        with team.team((engine.run, engine.run_serial), threads, trainer.threads, board) as (run, threads):
            slip.put_work(call.TRAIN, batch_size, self.plan(batch_size, threads), costs)
            slip.put_threads(board, threads)
            slip.put(address=build.address(net.dtype.name, self.workspace.layers, settings, call.TRAIN))
            made = run(slip.vector, threads)
        if threads > 1 and batch_size >= LEAST_SAMPLES * threads:
            balance(board, threads)
        return int(made)
