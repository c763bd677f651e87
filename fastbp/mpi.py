"""Training on several processes or machines, which exchange gradients with MPI: needs mpi4py.

All samples are cut into a fixed number of pieces, whatever the number of processes ("ranks"), and each rank has those
of some pieces. A mini-batch takes its share from each piece. The gradients of the pieces are added in the order of one
binary tree, so that 1, 2 and 4 ranks give the same bits.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

import fastbp
from fastbp.callbacks import Callback, Checkpoint, CSVLog, Fit, History, JSONLog, TensorBoardLog, Watcher
from fastbp.checkpoint import State, fingerprint, without_address
from fastbp.checks import counted, truth, whole_number
from fastbp.core import call
from fastbp.core.call import Slip
from fastbp.core.plan import Plan, plan_for, scratch_size
from fastbp.core.rules import CLIP_NORM
from fastbp.core.shares import add_share, add_share_serial
from fastbp.core.threads import team
from fastbp.frames import array_of, labels_of
from fastbp.inputs import Data, as_data
from fastbp.metrics import Metric
from fastbp.names import Names, n_classes
from fastbp.randomness import ORDER, generator
from fastbp.training import loop
from fastbp.training.guard import DivergenceError
from fastbp.training.passes import Mean, Pass
from fastbp.training.resume import Record
from fastbp.training.settings import SETTINGS
from fastbp.training.stepper import Observer, Stepper
from fastbp.training.trainer import Trainer
from fastbp.training.validation import Validation, measure, outputs_of
from fastbp.workspace import Array, aligned

__all__ = ["fit", "share"]

PIECES = 4
GRACE = 5.0  # seconds
STEPS_AT_ONCE = 32  # after which a copy is taken to go back to, and callbacks of time are called
WRITERS = (Checkpoint, CSVLog, JSONLog, TensorBoardLog)  # rank 0 alone has them
Result = TypeVar("Result")


def __dir__() -> list[str]:
    return __all__


def share(n: int, comm: Any = None, pieces: int | None = None) -> slice:
    """Return which of `n` samples belong to this rank: consecutive ones, so that a file is read in one go.

    Parameters
    ----------
    n : int
        >= 1: samples in all.
    comm : mpi4py.MPI.Comm, optional
        None: MPI.COMM_WORLD.
    pieces : int, optional
        See `fit`.

    Returns
    -------
    slice

    Raises
    ------
    ValueError, TypeError
        There are fewer samples, or pieces, than ranks.
    ImportError
        mpi4py is not installed.

    Examples
    --------
    >>> X = np.load("samples.npy", mmap_mode="r")  # doctest: +SKIP
    >>> own = fastbp.mpi.share(len(X))  # doctest: +SKIP
    """
    ranks = Ranks(world() if comm is None else comm, pieces)
    begins = np.cumsum([0, *even(whole_number("n", n, 1), ranks.pieces)])
    if n < ranks.size:
        raise ValueError(f"{counted(n, 'sample')} cannot be shared out over {ranks.size} ranks")
    return slice(int(begins[ranks.own.start]), int(begins[ranks.own.stop]))


def world() -> Any:
    """Return MPI.COMM_WORLD."""
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise ImportError(f'training on several ranks needs mpi4py and an MPI: pip install "fastbp[mpi]" mpich, or '
                          f"the MPI of the cluster ({error})") from None
    return MPI.COMM_WORLD


def even(n: int, parts: int) -> list[int]:
    """Return the sizes of `parts` parts of n, which differ by at most 1, the larger ones first."""
    return [n // parts + (i < n % parts) for i in range(parts)]


class Ranks:
    """The ranks of a communicator, and the pieces that each has."""

    def __init__(self, comm: Any, pieces: int | None = None):
        self.comm, self.rank, self.size = comm, comm.Get_rank(), comm.Get_size()
        self.agree_on_error = False  # whether all of them raise one
        self.pieces = max(PIECES, self.size) if pieces is None else whole_number("pieces", pieces, 1)
        if self.pieces < self.size:
            raise ValueError(f"pieces must be at least the number of ranks, {self.size}, got {pieces}")
        self.begins = [rank * self.pieces // self.size for rank in range(self.size + 1)]
        self.own = range(self.begins[self.rank], self.begins[self.rank + 1])

    def together(self, check: Callable[[], Result]) -> Result:
        """Return what `check` does; an error on one rank is raised on all of them, and names it."""
        result, failed = None, None
        try:
            result = check()
        except (ValueError, TypeError, OSError) as error:
            if self.size == 1:
                raise
            failed = f"rank {self.rank}: {error}"
        told = [each for each in self.comm.allgather(failed) if each is not None]
        if told:
            self.agree_on_error = True
            raise ValueError(told[0])
        return result  # type: ignore[return-value]

    def check_same(self, known: dict[str, Any]) -> None:
        """Raise ValueError unless all ranks know the same."""
        first, *others = self.comm.allgather(known)
        for rank, there in enumerate(others, 1):
            for name, value in first.items():
                if there[name] != value:
                    self.agree_on_error = True
                    raise ValueError(f"rank {rank} has {name} {there[name]}, rank 0 {value}; they must be the same on "
                                     "all ranks")

    def of_pieces(self, values: Sequence[Any]) -> list[Any]:
        """Return the values of all pieces, of those of this rank's."""
        return [value for part in self.comm.allgather(list(values)) for value in part]

    def threads(self) -> int:
        """Return the threads for this rank: the processors that its launcher gave it, shared with those of the node's
        other ranks that may run on the same ones."""
        from mpi4py import MPI

        own = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
        node = self.comm.Split_type(MPI.COMM_TYPE_SHARED)
        masks = node.allgather(own)
        node.Free()
        return max(1, int(sum(1 / sum(cpu in mask for mask in masks) for cpu in own) + 1e-6))


# The sum over the pieces


def nodes(lo: int, hi: int, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Return the largest nodes of the tree over pieces begin..end that hold none but pieces lo..hi."""
    if lo <= begin and end <= hi:
        yield begin, end
    elif lo < end and begin < hi:
        middle = (begin + end) // 2
        yield from nodes(lo, hi, begin, middle)
        yield from nodes(lo, hi, middle, end)


class Sum:
    """Adds the gradients of all pieces, each times its share of the mini-batch: by the tree, or as the library does.

    Gradients have room behind them, which compiled code needs."""

    def __init__(self, ranks: Ranks, n: int, dtype: np.dtype[Any], reproducible: bool):
        self.ranks, self.reproducible, self.dtype, self.n = ranks, reproducible, dtype, n
        self._nodes = [list(nodes(lo, hi, 0, ranks.pieces)) for lo, hi in itertools.pairwise(ranks.begins)]
        self._counts = np.array(even(n, ranks.size))
        self._places = np.cumsum([0, *self._counts[:-1]])
        self._received = np.empty((max(map(len, self._nodes)), ranks.size * self._counts[ranks.rank]), dtype)
        self._room, self._free, self.threads = 0, list[Array](), 1

    def make_room(self, room: int, threads: int) -> None:
        """Have gradients with so many numbers in all, and add them on so many threads."""
        if room > self._room:
            self._room, self._free = room, []
        self.threads = threads

    def __call__(self, compute: Callable[[int, Array], float], check: Callable[[], bool]) -> Array | None:
        """Return the sum, with its room; None if `check` is False.

        compute: writes the mean gradient of a piece and returns its share; check: called after those of this rank."""
        ranks = self.ranks
        own = self._nodes[ranks.rank] if self.reproducible else [(ranks.own.start, ranks.own.stop)]
        known = {node: self._whole(*self._of(node, compute)) for node in own}
        self._free += known.values()  # they are free after this call
        if not check():
            return None
        total = next(iter(known.values()))
        if ranks.size > 1:
            sums = {node: vector[: self.n] for node, vector in known.items()}
            if self.reproducible:
                self._exchange(sums)
            else:
                ranks.comm.Allreduce(_in_place(), sums[own[0]])
        return total

    def _of(self, node: tuple[int, int], compute: Callable[[int, Array], float]) -> tuple[Array, float]:
        """Return the sum of a node's pieces, and the share that it is still to be multiplied by."""
        begin, end = node
        if end - begin == 1:
            to = self._free.pop() if self._free else aligned(self._room, self.dtype)
            return to, compute(begin, to)
        middle = (begin + end) // 2
        total, share = self._of((begin, middle), compute)
        other, share_of_other = self._of((middle, end), compute)
        as_number = self.dtype.type
        with team.team((add_share, add_share_serial), self.threads) as (add, threads):
            add(total[: self.n], as_number(share), other[: self.n], as_number(share_of_other), threads)
        self._free.append(other)
        return total, 1.0

    def _whole(self, total: Array, share: float) -> Array:
        if share != 1:
            total[: self.n] *= self.dtype.type(share)
        return total

    def _exchange(self, known: dict[tuple[int, int], Array]) -> None:
        """Add the nodes of all ranks, into the first of this rank's: each adds its slice of all, then all get them."""
        ranks, sums, total = self.ranks, dict[tuple[int, int], Array](), next(iter(known.values()))
        own = int(self._counts[ranks.rank])
        for i, received in enumerate(self._received):
            has = [i < len(theirs) for theirs in self._nodes]
            mine = list(known.values())[i] if has[ranks.rank] else total
            counts = np.array([own * one for one in has])
            places = np.cumsum([0, *counts[:-1]])
            ranks.comm.Alltoallv([mine, (self._counts * has[ranks.rank], self._places)], [received, (counts, places)])
            for rank, theirs in enumerate(self._nodes):
                if has[rank]:
                    sums[theirs[i]] = received[places[rank] : places[rank] + own]
        first = int(self._places[ranks.rank])
        total[first : first + own] = _tree(sums, 0, ranks.pieces)
        ranks.comm.Allgatherv(_in_place(), [total, (self._counts, self._places)])


def _tree(sums: dict[tuple[int, int], Array], begin: int, end: int) -> Array:
    if (begin, end) in sums:
        return sums[begin, end]
    middle = (begin + end) // 2
    left = _tree(sums, begin, middle)
    return np.add(left, _tree(sums, middle, end), out=left)


def _in_place() -> Any:
    from mpi4py import MPI

    return MPI.IN_PLACE


# Steps


class Part(NamedTuple):
    """The samples of a piece in a mini-batch: their indices, row of the first one in the mini-batch, total weight."""

    order: Array
    row: int
    weight: float


class RankStepper(Stepper):
    """Makes steps whose gradients are added over the ranks. Each rank updates all parameters."""

    def __init__(self, trainer: Trainer, ranks: Ranks, reproducible: bool):
        net = trainer.network
        self.ranks, self.sum = ranks, Sum(ranks, net.n_parameters, net.dtype, reproducible)
        self._most_threads = ranks.threads()  # asked once: all ranks must ask together
        super().__init__(trainer)

    def renew(self) -> None:
        super().renew()
        if self.settings.asked_threads is None:
            self.threads = min(self.threads, self._most_threads)

    def observe(self, observer: Observer | None) -> None:
        if observer is not None:
            raise ValueError("insight.Statistics looks at the steps of one process; leave it out of fits on ranks")

    def make_room(self, most: int) -> None:
        """Provide room for gradients of up to `most` samples."""
        sizes = self.settings.network.layer_sizes
        self.sum.make_room(max(scratch_size(sizes, self.threads, n, clips=True) for n in (1, most)), self.threads)

    def make_one(self, data: Data, parts: Sequence[Part], weight: float, eta: float) -> float:
        """Make a step, unless the mean cost is not finite; return the mean cost.

        parts: those of this rank's pieces; weight: of the whole mini-batch."""
        costs, cost = [0.0] * len(parts), math.nan
        if weight == 0:
            self.settings.state.clock[0] += 1
            return 0.0

        def compute(piece: int, to: Array) -> float:
            i = piece - self.ranks.own.start
            if parts[i].weight == 0:
                to[:] = 0
                return 1.0
            share = parts[i].weight / weight
            costs[i] = share * self._gradient(data, parts[i], to)
            return share

        def is_finite() -> bool:
            nonlocal cost
            cost = math.fsum(self.ranks.of_pieces(costs))
            return math.isfinite(cost)

        total = self.sum(compute, is_finite)
        if total is not None:
            self._update(data, total, eta)
        return cost

    def _gradient(self, data: Data, part: Part, to: Array) -> float:
        """Write the mean gradient of a part; return its mean cost, NaN if it is not finite."""
        cost, clock = np.full(1, np.nan), self.settings.state.clock.copy()  # a part is no step

        def ready(threads: int) -> Slip:
            plan = self._plans(len(part.order), threads, data.x.is_sparse)[0]
            slip = self.bring(data, part.order, plan, threads, self.rule())
            slip.point(clock=clock, gradient=to)
            slip.put(row=part.row, n_gradient=len(to))
            slip.put_work(call.ACCUMULATE, len(part.order), plan, cost)
            return slip

        made = self.run(self.threads, len(part.order), ready)
        self.workspace.slip.put(row=0)
        return float(cost[0]) if made else math.nan

    def _update(self, data: Data, gradient: Array, eta: float) -> None:
        cost, etas, order = np.zeros(1), np.array([eta]), np.zeros(1, np.int64)  # of a sample that is not read

        def ready(threads: int) -> Slip:
            plan = self._plans(1, threads, data.x.is_sparse)[1]
            slip = self.bring(data, order, plan, threads, self.rule())
            slip.point(etas=etas, gradient=gradient)
            slip.put(n_gradient=len(gradient))
            slip.put_work(call.TRAIN, 1, plan, cost)
            return slip

        self.run(self.threads, 1, ready)

    def rule(self) -> Array:
        """Return the rule with a bound of the gradient's norm, which makes a plan hold the gradient."""
        rule = super().rule()
        rule[CLIP_NORM] = rule[CLIP_NORM] or math.inf
        return rule

    def _plans(self, n: int, threads: int, sparse: bool) -> tuple[Plan, Plan]:
        own = self.settings
        plan = plan_for(own.network.layer_sizes, n, call.TRAIN, threads, frozen=own.frozen,
                        bounds=(True, own.max_norm is not None), sparse=sparse)
        return plan.held(own.clip_norm is not None)


class RankPass(Pass):
    """A pass through the samples of all ranks, of which this one has some."""

    stepper: RankStepper

    def __init__(self, stepper: RankStepper, data: Data, n_of_piece: Sequence[int]):
        """n_of_piece: numbers of samples of all pieces."""
        self.stepper, self.settings, self.data = stepper, stepper.settings, data
        self.chosen, self.streamed = None, False
        self.ranks, self.n, own = stepper.ranks, sum(n_of_piece), stepper.ranks.own
        self.batch_size = min(self.settings.batch_size, self.n)
        self.steps = -(-self.n // self.batch_size)
        self.at, self.costs = 0, np.zeros(self.steps)
        self.steps_before = self.settings.steps_done
        self.counts = np.array([even(n, self.steps) for n in n_of_piece])  # (pieces, steps)
        self.begins = np.cumsum([0, *n_of_piece[own.start : own.stop]])  # of the samples of this rank's pieces
        most = max(1, int(self.counts[own.start : own.stop].max()))
        stepper.prepare(most, data.x.is_sparse)
        stepper.make_room(most)

    def shuffle(self) -> None:
        """Draw the orders of the pieces, which depend only on the seed and the number of passes before."""
        own, counts, weights = self.ranks.own, self.counts, self.data.weights
        self.parts: list[list[Part]] = [[] for _ in range(self.steps)]
        rows = np.cumsum(counts, 0) - counts
        for i, piece in enumerate(own):
            begin, end = self.begins[i : i + 2]
            number = self.settings.epochs_done * self.ranks.pieces + piece
            order = begin + generator(ORDER, self.settings.seed, number).permutation(end - begin)
            for step, chosen in enumerate(np.split(order, np.cumsum(counts[piece])[:-1])):
                weight = math.fsum(weights[chosen]) if len(weights) else float(len(chosen))
                self.parts[step].append(Part(chosen, int(rows[piece, step]), weight))
        self.weights = counts.sum(0).astype(np.float64)  # of each mini-batch
        if self.ranks.comm.allreduce(len(weights)):
            theirs = self.ranks.of_pieces([[parts[i].weight for parts in self.parts] for i in range(len(own))])
            self.weights = np.array([math.fsum(of_step) for of_step in zip(*theirs, strict=True)])

    def samples_of(self, steps: slice) -> Array:
        return np.concatenate([part.order for parts in self.parts[steps] for part in parts])

    @property
    def order(self) -> Array:  # type: ignore[override]
        """Return the order of this rank's samples in all steps."""
        return self.samples_of(slice(0, self.steps))

    def slices(self, etas: Array, most_of: Callable[[int], int] = lambda left: left) -> Iterator[int]:
        """Make the remaining steps, as many at once on every rank; yield their numbers."""
        guard = self.stepper.guard
        while self.at < self.steps:
            guard.take(self.at)
            steps = min(most_of(self.steps - self.at), STEPS_AT_ONCE)
            made = self._make(etas, self.at, steps, self.stepper.threads)
            if made < steps:
                self._diverged(etas, self.at + made)
            self.at += steps
            self.check_finite(etas)
            yield steps

    def mean(self, steps: int) -> Mean:
        weights = self.weights[:steps]
        weight = float(weights.sum())
        cost = float((self.costs[:steps] * weights).sum() / weight) if weight else math.nan
        return Mean(cost, weight, int(self.counts[:, :steps].sum()))

    def shown(self, steps: int) -> dict[str, str]:
        return {"loss": f"{self.costs[self.at - steps : self.at].mean():.4f}"}

    def _make(self, etas: Array, step: int, steps: int, threads: int) -> int:
        for s in range(step, step + steps):
            self.costs[s] = self.stepper.make_one(self.data, self.parts[s], self.weights[s], etas[s])
            if not math.isfinite(self.costs[s]):
                return s - step
        return steps


# A fit


class RankRecord(Record):
    """The record of a fit on all ranks: rank 0 writes checkpoints, all resume from them."""

    def __init__(self, once: RankPass, fit: Fit, watchers: list[Callback], validation: RankValidation):
        super().__init__(once, fit, watchers, [])
        self._ranks = ranks = once.ranks
        keeps = ranks.comm.bcast(any(isinstance(each, Checkpoint) for each in watchers))
        rows = [once.data.taken(slice(*once.begins[i : i + 2])) for i in range(len(ranks.own))] if keeps else []
        told = ranks.of_pieces([_fingerprint(part) for part in rows])
        told += ranks.of_pieces([_fingerprint(part) for part in validation.parts] if keeps else [])
        self._data = fingerprint(np.frombuffer(" ".join(told).encode(), np.uint8))

    def saved(self) -> State | None:
        own = self._ranks.together(lambda: super(RankRecord, self).saved() if self._ranks.rank == 0 else None)
        found: State | None = self._ranks.comm.bcast(own)
        if found is not None and self._ranks.rank:
            self.take_history(found[1])
        return found

    def _identity(self) -> dict[str, Any]:
        return super()._identity() | {"pieces": self._ranks.pieces}


def _fingerprint(data: Data) -> str:
    return fingerprint(*data.x.arrays, data.t.array, data.weights) if len(data) else ""


class RankArrays(loop.Arrays):
    """The samples of all ranks: rank 0 decides when to stop, and shows the bar."""

    def __init__(self, once: RankPass, fit: Fit, watchers: list[Callback], validation: RankValidation,
                 learn: Callable[[], None]):
        super().__init__(once, fit, watchers, [], learn)
        self.record, self._ranks = RankRecord(once, fit, watchers, validation), once.ranks

    def _begin_calls(self) -> None:
        self._ranks.together(super()._begin_calls)

    def bar(self, progress: bool | None) -> Any:
        return super().bar(progress if self._ranks.rank == 0 else False)

    def _tell(self, steps: int) -> None:
        super()._tell(steps)
        self._follow()

    def call_after_epoch(self) -> None:
        super().call_after_epoch()
        self._follow()

    def _follow(self) -> None:
        fit = self.fit
        fit.history.stopped, fit.eta_factor = self._ranks.comm.bcast((fit.history.stopped, fit.eta_factor))


class RankValidation(Validation):
    """The validation samples of all ranks, evaluated piece by piece."""

    def __init__(self, settings: Trainer, data: Data | None, metrics: Iterable[str | Metric], ranks: Ranks):
        super().__init__(settings, data, metrics)
        self._ranks, begins = ranks, np.cumsum([0, *even(len(data or ()), len(ranks.own))])
        self.parts = [] if data is None else [data.taken(slice(*begins[i : i + 2])) for i in range(len(ranks.own))]

    def measure(self, history: History) -> None:
        if self.data is None:
            return
        found = [outputs_of(self.settings, part) if len(part) and not part.is_idle else None for part in self.parts]
        known = [None if each is None else (float(part.weights.sum()) if len(part.weights) else float(len(part)),
                                            each[1], each[2]) for part, each in zip(self.parts, found, strict=True)]
        weights, costs, accuracies = zip(*(each for each in self._ranks.of_pieces(known) if each), strict=True)
        history.validation_loss.append(_mean(weights, costs))
        if accuracies[0] is not None:
            history.validation_accuracy.append(_mean(weights, accuracies))
        if self.metrics:
            outputs = [each[0] for each in found if each is not None]
            parts = [part for part, each in zip(self.parts, found, strict=True) if each is not None]
            whole, outputs_of_all = self._gathered(parts, outputs)
            for metric in self.metrics:
                history.metrics[metric.name].append(measure(metric, whole, outputs_of_all))

    def _gathered(self, parts: list[Data], outputs: list[Array]) -> tuple[Data, Array]:
        """Return the targets and weights, without the inputs, and the outputs of all ranks."""
        assert self.data is not None
        own = [(part.t.array, part.t.labels, part.weights, rows) for part, rows in zip(parts, outputs, strict=True)]
        arrays, labels, weights, rows = zip(*self._ranks.of_pieces(own), strict=True)
        t = replace(self.data.t, array=np.concatenate(arrays),
                    labels=None if labels[0] is None else np.concatenate(labels))
        return Data(self.data.x, t, np.concatenate(weights)), np.concatenate(rows)


def _mean(weights: Sequence[float], values: Sequence[float]) -> float:
    return math.fsum(w * v for w, v in zip(weights, values, strict=True)) / math.fsum(weights)


def fit(trainer: Trainer, X: npt.ArrayLike, y: npt.ArrayLike, epochs: int = 5,
        validation_data: Sequence[npt.ArrayLike] | None = None, progress: bool | None = None, *, comm: Any = None,
        pieces: int | None = None, reproducible: bool = True, sample_weight: npt.ArrayLike | None = None,
        metrics: Iterable[str | Metric] = (), callbacks: Iterable[Callback] = ()) -> History:
    """Train on the samples of all ranks; every rank ends with the same parameters, to the bit.

    Start the program with `mpiexec -n 4 python program.py`, and give each rank its own samples, as `share` cuts them.
    Each mini-batch of trainer.batch_size takes its share from each of the pieces, in an order that depends on the seed,
    the epoch and the piece. A rank needs the memory of its samples, of the parameters and the optimizer's state, and of
    log2(pieces / ranks) + 2 gradients.

    Parameters
    ----------
    trainer : Trainer
        With the same settings and parameters on all ranks. If its number of threads was not set, each rank takes its
        share of the processors that its launcher gave it.
    X, y, epochs, validation_data, progress, sample_weight, metrics
        See `Trainer.fit`: the samples of this rank, also those for validation.
    comm : mpi4py.MPI.Comm, optional
        None: MPI.COMM_WORLD.
    pieces : int, optional
        At least as many as ranks; None: 4, or the number of ranks if there are more. The result depends on it.
    reproducible : bool
        Whether the gradients of the pieces are added in their order, so that other numbers of ranks, and other MPI
        libraries, give the same bits. False: the library adds them, and only the ranks of this run agree.
    callbacks
        See `Trainer.fit`; on every rank, but files are written by rank 0 alone, and it decides when to stop.

    Returns
    -------
    History
        Of all samples, the same on all ranks but for seconds.

    Raises
    ------
    ValueError
        On all ranks, before anything is changed: the data of a rank do not fit, or the settings, names or initial
        parameters differ; it names the rank.
    DivergenceError
        On all ranks: the cost became NaN or infinite; the networks hold the last finite parameters.
    ImportError
        mpi4py is not installed.

    Notes
    -----
    If a rank fails in another way, or is killed, all of them end: MPI cannot go on without it. Resume from the last
    checkpoint, on as many ranks as you like.

    Examples
    --------
    >>> trainer = fastbp.Trainer(fastbp.Network([784, 512, 10], seed=0), batch_size=1024)  # doctest: +SKIP
    >>> own = fastbp.mpi.share(60_000)  # doctest: +SKIP
    >>> history = fastbp.mpi.fit(trainer, X[own], y[own], epochs=3)  # doctest: +SKIP
    """
    ranks = Ranks(world() if comm is None else comm, pieces)
    names = Names(trainer.network, learning=True)
    words = ranks.together(lambda: _words(y))
    found = np.unique(np.concatenate([each for each in ranks.comm.allgather(words) if each is not None] or [[]]))
    if names.classes is None and len(found) == n_classes(trainer.network.layer_sizes[-1]):
        names.classes = found  # of all ranks

    def checked() -> tuple[Any, ...]:
        watchers = [each for each in trainer.checked_callbacks(callbacks)
                    if ranks.rank == 0 or not isinstance(each, WRITERS)]
        data = as_data(X, y, sample_weight, trainer.network, trainer.loss, names, sparse=True)
        validation = RankValidation(trainer, trainer.validation_of(validation_data, names), metrics, ranks)
        return watchers, data, validation, trainer.new_fit(whole_number("epochs", epochs, 1), validation)

    own_fit: Fit
    watchers, data, validation, own_fit = ranks.together(checked)
    every = sorted({each.every for each in watchers if isinstance(each, Watcher) and each.every})
    ranks.check_same(_known(trainer, ranks, names, data, validation, own_fit, truth("reproducible", reproducible))
                     | {"callbacks after so many steps": every})
    stepper = RankStepper(trainer, ranks, reproducible)
    with _ending_all(ranks), trainer.reserved(), _stepping(trainer, stepper):
        once = RankPass(stepper, data, ranks.of_pieces(even(len(data), len(ranks.own))))
        source = RankArrays(once, own_fit, watchers, validation, lambda: trainer.learn_meaning(data, names))
        loop.run(trainer, source, own_fit, validation, progress)
    return own_fit.history


def _words(y: Any) -> Array | None:
    """Return the different names among the targets, if they are names."""
    array = array_of(y, "y", text=True) if len(labels_of(y) or ()) < 2 else np.empty(0)
    return np.unique(array) if array.dtype.kind == "U" else None


def _known(trainer: Trainer, ranks: Ranks, names: Names, data: Data, validation: RankValidation, own_fit: Fit,
           reproducible: bool) -> dict[str, Any]:
    """Return what must be the same on all ranks."""
    net = trainer.network
    settings = {name: without_address(getattr(trainer, name)) for name in SETTINGS if name != "threads"}
    return settings | {
        "fastbp": fastbp.__version__, "layer_sizes": net.layer_sizes, "activations": net.activations,
        "dtype": net.dtype.name, "input_scale": net.input_scale, "epochs": own_fit.epochs, "pieces": ranks.pieces,
        "reproducible": reproducible, "metrics": list(own_fit.history.metrics), "feature_names": names.feature_names,
        "classes": None if names.classes is None else names.classes.tolist(), "target_names": names.target_names,
        "kind of targets": data.t.kind, "sparse samples": data.x.is_sparse, "sample_weight": len(data.weights) > 0,
        "validation_data": validation.data is not None, "steps done": trainer.steps_done,
        "epochs done": trainer.epochs_done, "initial parameters (fingerprint)": fingerprint(net.theta)}


@contextlib.contextmanager
def _stepping(trainer: Trainer, stepper: RankStepper) -> Iterator[None]:
    """Let a trainer make its steps by this stepper in a block."""
    before, trainer.stepper = trainer.stepper, stepper
    try:
        yield
    finally:
        trainer.stepper = before


@contextlib.contextmanager
def _ending_all(ranks: Ranks) -> Iterator[None]:
    """End all ranks if this one fails alone, since the others would wait for it forever."""
    try:
        yield
    except DivergenceError:
        raise
    except BaseException as error:
        if ranks.size == 1 or ranks.agree_on_error:
            raise
        if isinstance(error, KeyboardInterrupt) and ranks.rank:
            time.sleep(GRACE)  # rank 0 writes a checkpoint
        print(f"rank {ranks.rank} failed, and ends all ranks", file=sys.stderr)
        traceback.print_exc()
        sys.stderr.flush()
        ranks.comm.Abort(1)
