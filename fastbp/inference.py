"""Inference: outputs of a network for samples, by calls prepared once, on as many threads as are fastest."""

from __future__ import annotations

import functools
import math
import os
import time
from typing import Any, Protocol

import numpy as np

from fastbp.checks import whole_number
from fastbp.core import build, doors, engine
from fastbp.core.call import INFER, Slip
from fastbp.core.costs import NO_LOSS
from fastbp.core.plan import plan_for
from fastbp.core.samples import NO_SAMPLES, Samples, address_of_array
from fastbp.core.sparse import room_for_entries
from fastbp.core.threads import processors, team
from fastbp.core.threads.pace import pace_of
from fastbp.inputs import Inputs, Targets
from fastbp.losses import Loss
from fastbp.workspace import Array, Workspace, keep

CAPACITY = 256  # samples computed at once outside of training
MOST_THREADS = 1024
NO_ORDER, NO_SETTINGS, NO_WEIGHTS = np.empty(0, np.int64), np.empty(0), np.empty(0)
# A call of fewer multiply-adds, or of less time, runs on one thread: more threads, even awake, would save a few
# microseconds, and finding that out takes as long.
WORTH_TRYING, WORTH_SECONDS = 1 << 18, 2.5e-5
# Timing takes 3 us. So this many short calls go untimed after each timed one: if the fastest number of threads is
# known, and while it is being tried.
SHORT, UNTIMED, UNTIMED_TRIALS = 2e-4, 15, 3


class Served(Protocol):
    """The attributes of a network that are needed here."""

    layer_sizes: tuple[int, ...]
    activations: tuple[str, ...]
    dtype: np.dtype[Any]
    n_parameters: int
    few: int
    choices: dict[int, Choice]

    @property
    def theta(self) -> Array: ...

    @property
    def input_scale(self) -> float: ...

    def take_workspace(self, rows: int) -> Workspace: ...

    def give_back(self, workspace: Workspace) -> None: ...

    def workspace(self, capacity: int, *, sparse: bool = False) -> Workspace: ...


def choose_threads(threads: int | None, work: float, worth: float = team.WORTH_THREADS) -> int:
    """Return the threads for `work` multiply-adds: as requested, or all threads if the work reaches `worth`."""
    if threads is not None:
        return whole_number("threads", threads, 1, MOST_THREADS)
    return processors.available_threads() if work >= worth else 1


class Choice:
    """The number of threads for calls of similar size: the one measured to be fastest."""

    def __init__(self, network: Served, most: int, size: int):
        self.pace = pace_of((1, most), network.layer_sizes, network.activations, network.dtype.name, size, os.getpid())
        self.threads, self.untimed = 1, 0

    def next(self) -> int:
        if self.threads > 1 and not team.is_awake(self.threads):
            self.untimed = 0  # waking them costs time, too
        if self.untimed == 0:
            _, self.threads = self.pace.next_slice(1, self.pace.alone > WORTH_SECONDS)
        return self.threads

    def took(self, started: float) -> None:
        """Record the time of a call on as many threads as `next` returned."""
        if self.untimed:
            self.untimed -= 1
            return
        pace, ended = self.pace, time.perf_counter()
        pace.took(1, self.threads, started, ended, 1)
        if ended - started < SHORT:
            known = pace.trial is None or pace.alone <= WORTH_SECONDS
            self.untimed = UNTIMED if known else UNTIMED_TRIALS
            pace.since_trial += self.untimed * (ended - started)


def outputs_of(network: Served, x: Array | Samples, n: int, threads: int | None, outputs: Array) -> bool:
    """Write the outputs (n, n_out) of samples: a contiguous array (n, n_in) of float32 or float64, or Samples.

    Returns whether all inputs are finite; outputs of samples that are not finite are meaningless."""
    if threads == 1 or (threads is None and n <= network.few):
        return _by_one(network, x, n, outputs) == 0
    choice = _choice(network, n) if threads is None else None
    wanted = threads or (choice.next() if choice else 1)
    started, used = time.perf_counter(), 1
    if wanted > 1:
        cost, used = _by_several(network, x, n, outputs, wanted)
    if used == 1:
        cost = _by_one(network, x, n, outputs)
    if choice and used == wanted:
        choice.took(started)
    return cost == 0


def _by_one(network: Served, x: Array | Samples, n: int, outputs: Array) -> float:
    """Write outputs on one thread; return the cost, see doors.cost."""
    workspace = network.take_workspace(n if n < CAPACITY else CAPACITY)  # with shared pieces, 0.15 us more
    slip = workspace.few.get(1) or bound(network, workspace, 1)
    if n > workspace.capacity:
        slip.make_room(-(-n // workspace.capacity))
    cost: float
    if type(x) is Samples:
        _place(slip, x, n, outputs, network)
        cost = doors.infer(slip.vector)
    else:
        cost = doors.forward(slip.vector, x, outputs, network.input_scale)
    network.give_back(workspace)
    return cost


def _by_several(network: Served, x: Array | Samples, n: int, outputs: Array, threads: int) -> tuple[float, int]:
    """Return the cost, see doors.cost, and the number of threads; 1: more are not safe, and nothing was done."""
    workspace = network.take_workspace(min(n, CAPACITY))
    slip = workspace.few.get(threads) or bound(network, workspace, threads)
    slip.put_stages(plan_for(network.layer_sizes, min(n, workspace.capacity), INFER, threads, errors=False))
    if n > workspace.capacity:
        slip.make_room(-(-n // workspace.capacity))
    _place(slip, x, n, outputs, network)
    if not team.run_awake(engine.run, slip.vector, threads):
        with team.team((engine.run, None), threads, board=workspace.board(threads)) as (run, threads):
            if run is not None:
                run(slip.vector, threads)
    cost = math.nan if threads == 1 else doors.cost(slip.vector)
    network.give_back(workspace)
    return cost, threads


def _place(slip: Slip, x: Array | Samples, n: int, outputs: Array, network: Served) -> None:
    if type(x) is Samples:
        doors.place(slip.vector, *x, n, address_of_array(outputs))
    else:
        doors.place_rows(slip.vector, x, outputs, network.input_scale)


def bound(network: Served, workspace: Workspace, threads: int) -> Slip:
    """Return a slip, kept by the workspace, for inference on this many threads."""
    plan = plan_for(network.layer_sizes, workspace.capacity, INFER, threads, errors=False)
    slip = workspace.bind(network.theta, np.zeros(1, np.int64), NO_LOSS, NO_SETTINGS, INFER, plan)
    slip.put_threads(workspace.board(threads), threads)
    keep(workspace.few, threads, slip)
    return slip


@functools.cache
def _most_threads() -> int:
    return processors.available_threads()


def _choice(network: Served, n: int) -> Choice | None:
    """Return the Choice of threads for about `n` samples; None if one thread is enough."""
    most, size = _most_threads(), n.bit_length()
    if most == 1 or n <= network.few:
        return None
    if size not in network.choices:
        network.choices[size] = Choice(network, most, size)
    return network.choices[size]


def infer(network: Served, x: Inputs, t: Targets | None, loss: Loss | None, threads: int | None,
          weights: Array = NO_WEIGHTS, outputs: Array | None = None) -> tuple[Array, float]:
    """Return outputs (n, n_out) and, with targets, the mean cost of checked inputs; threads None: as many as are
    fastest."""
    if outputs is None:
        outputs = np.empty((len(x), network.layer_sizes[-1]), network.dtype)
    choice = _choice(network, len(x)) if threads is None else None
    wanted, sparse = threads or (choice.next() if choice else 1), x.is_sparse
    started, capacity = time.perf_counter(), min(len(x), CAPACITY)
    workspace = network.workspace(capacity, sparse=True) if sparse else network.take_workspace(capacity)
    workspace.slip.point(outputs=outputs)
    cost, used = go_through(network, workspace, x, t, loss, weights, INFER, wanted)
    if not sparse:
        network.give_back(workspace)
    if choice and used == wanted:
        choice.took(started)
    return outputs, cost


def hold_entries(slip: Slip, x: Inputs, piece: int, threads: int) -> None:
    """Provide room for what gradients need of the stored entries of sparse samples."""
    if x.is_sparse:
        most = x.array.most_entries(piece)
        slip.make_room_for_entries(most, threads * room_for_entries(most))


def go_through(network: Served, workspace: Workspace, x: Inputs, t: Targets | None, loss: Loss | None, weights: Array,
               purpose: int, threads: int) -> tuple[float, int]:
    """Run the compiled steps that change no parameter; the workspace's slip points to where outputs or the gradient go.

    Returns the mean cost and the number of threads used."""
    steps, batch_size, slip = -(-len(x) // workspace.capacity), workspace.capacity, workspace.slip
    costs = np.full(steps, np.nan)
    board = workspace.board(threads)
    slip.point(theta=network.theta, clock=workspace.clock)
    slip.put_data(x.samples, t.samples if t else NO_SAMPLES, weights, NO_ORDER, len(x))
    slip.put_loss(loss.rule(network.dtype.name) if loss else NO_LOSS)
    with team.team((engine.run, engine.run_serial), threads, board=board) as (run, threads):
        plan = plan_for(network.layer_sizes, batch_size, purpose, threads, t is not None, sparse=workspace.sparse)
        slip.put_work(purpose, batch_size, plan, costs)
        slip.put_threads(board, threads)
        if purpose != INFER:
            hold_entries(slip, x, plan.piece, threads)
        slip.put(address=build.address(network.dtype.name, workspace.layers, NO_SETTINGS, purpose, workspace.sparse))
        run(slip.vector, threads)
    slip.let_go()
    return mean_cost(costs, batch_size, len(x), weights), threads


def mean_cost(costs: Array, batch_size: int, n_samples: int, weights: Array) -> float:
    """Return the mean cost over all samples from the mean costs of mini-batches; the last one may be smaller.

    weights: those of the samples in order; empty if all are 1.
    """
    if len(weights):
        sums = np.add.reduceat(weights, np.arange(0, n_samples, batch_size))
        return float((costs * sums).sum() / max(sums.sum(), np.finfo(np.float64).tiny))
    last = n_samples - (len(costs) - 1) * batch_size
    return float((costs[:-1].sum() * batch_size + costs[-1] * last) / n_samples)
