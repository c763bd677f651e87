"""Many networks at once: each on one thread, all in one compiled call per slice of time."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastbp.callbacks import Fit
from fastbp.checks import counted, known_as, level_of_caller, shown, whole_number
from fastbp.core import compiler
from fastbp.core import many as core
from fastbp.core.samples import address_of_array
from fastbp.core.threads import team
from fastbp.core.threads.board import SLOT
from fastbp.history import History
from fastbp.inference import choose_threads
from fastbp.inputs import Data, as_data
from fastbp.names import Names
from fastbp.network import check_theta
from fastbp.schedules import SCHEDULES
from fastbp.training import loop
from fastbp.training.bar import bar_of
from fastbp.training.guard import DivergenceError
from fastbp.training.notes import (
    ASK,
    TrainingWarning,
    constant_of_few,
    notes_of_learning,
    warn_of_labels,
    warn_of_scales,
)
from fastbp.training.settings import OF_A_SAMPLE, OF_OPTIMIZER, OF_TRAINER
from fastbp.training.trainer import Trainer
from fastbp.training.validation import Validation
from fastbp.workspace import Array

SLICE_SECONDS = 0.1  # time of one compiled call: Ctrl-C and the bar wait no longer
TURNS = 16  # networks per thread that take turns in a slice: enough that little time is lost at its end
OF_A_STEP = 30_000  # fixed cost of a step, in multiply-adds
FIRST_GUESS = 1e-10  # seconds per multiply-add, an overestimate: the first slice is short
KEPT_FACTORS = 1 << 20  # most factors of schedules kept, which trainers share
NAMED = 3  # most trainers named in a warning
CONSTANT = SCHEDULES["constant"]  # the same in every epoch
NOT_HERE = {name: f"fit_many does not support {name}; use fit for one trainer at a time" for name in (
    "callbacks", "class_weight", "validation_fraction", "validation_split", "stratify", "metrics")}


@known_as(OF_TRAINER | OF_OPTIMIZER | NOT_HERE)
def fit_many(trainers: Iterable[Trainer], X: npt.ArrayLike, y: npt.ArrayLike, epochs: int = 5,
             subsets: Sequence[npt.ArrayLike | None] | None = None,
             validation_data: Sequence[npt.ArrayLike] | None = None, progress: bool | None = None, *,
             sample_weight: npt.ArrayLike | None = None, threads: int | None = None) -> list[History]:
    """Train many networks at once on the same data, each on one thread: ensembles, folds, seeds, searches.

    Each network ends with the same bits as after its own `fit(X[subset], y[subset], epochs)`, and its trainer can train
    it further. Data are checked and converted once for networks that take them alike. Networks, losses and settings may
    differ.

    Parameters
    ----------
    trainers : iterable of Trainer
        Each with its own network. Their `threads` are ignored.
    X, y, sample_weight, epochs, progress
        See `Trainer.fit`.
    subsets : sequence of array_like (rows,) or None, optional
        For each trainer the indices of its rows of X, which may repeat, or a boolean mask (n,), or None: all rows.
        None instead of a sequence: all rows for all trainers.
    validation_data : (X, y) or (X, y, sample_weight), optional
        Evaluated after each epoch of each network; other networks wait meanwhile.
    threads : int, optional
        >= 1; None: one per processor.

    Returns
    -------
    list of History
        One per trainer. `seconds` is its share of the threads' time. If the cost or a parameter became NaN or
        infinite, `stopped` says so and why; that network holds its last finite parameters, and the others continue.

    Raises
    ------
    ValueError, TypeError
        A trainer or network is given twice; subsets do not fit; or as for `Trainer.fit`. Nothing has been changed.
    KeyboardInterrupt
        After Ctrl-C: each network holds finite parameters, and each trainer's history its finished epochs.

    Warns
    -----
    TrainingWarning
        Networks that diverged, and why; and the warnings of `Trainer.fit`, in one warning for all trainers.

    Examples
    --------
    >>> from fastbp import Adam, Network, Trainer
    >>> draw = np.random.default_rng(0)
    >>> X = draw.normal(size=(300, 2))
    >>> y = (X[:, 0] * X[:, 1] > 0).astype(int)
    >>> nets = [Network([2, 16, 2], hidden="tanh", seed=i) for i in range(20)]
    >>> bags = [draw.integers(0, 300, 300) for _ in nets]
    >>> histories = fit_many([Trainer(net, optimizer=Adam(0.03), batch_size=20) for net in nets], X, y, 30, bags)
    >>> votes = np.mean([net.predict_proba(X) for net in nets], axis=0)
    >>> len(histories), bool(np.mean(votes.argmax(1) == y) > 0.95)
    (20, True)
    """
    chosen = _checked(trainers)
    epochs = whole_number("epochs", epochs, 1)
    threads = min(choose_threads(threads, np.inf), len(chosen))
    shared = _shared(chosen, X, y, sample_weight, validation_data)
    rows = _rows(subsets, len(chosen), len(shared[0].data))
    for i, (own, its) in enumerate(zip(shared, rows, strict=True)):
        with _naming(i):
            own.data.with_some_weight(chosen=its)
            check_theta(chosen[i].network)
    for own, trainer in {id(own): (own, trainer) for own, trainer in zip(shared, chosen, strict=True)}.values():
        warn_of_scales(trainer, own.data, None, own.names.feature_names)
        warn_of_labels(trainer, own.data, None)
    with _reserved(chosen):
        members = [Member(trainer, own, its, epochs)
                   for trainer, own, its in zip(chosen, shared, rows, strict=True)]
        Many(members, threads).run(progress)
    _warn(members)
    return [member.fit.history for member in members]


# Arguments


def _checked(trainers: Any) -> list[Trainer]:
    """Return the trainers, each with its own network."""
    if isinstance(trainers, Trainer) or not isinstance(trainers, Iterable):
        raise TypeError(f"trainers must be a sequence of Trainers, got {shown(trainers)}")
    chosen, places = list(trainers), dict[int, int]()
    if not chosen:
        raise ValueError("trainers is empty: there is nothing to train")
    for i, trainer in enumerate(chosen):
        if not isinstance(trainer, Trainer):
            raise TypeError(f"trainers[{i}] must be a Trainer, got {shown(trainer)}")
        first = places.setdefault(id(trainer.network), i)
        if first != i:
            what = (f"trainers[{i}] is trainers[{first}]" if trainer is chosen[first]
                    else f"trainers[{i}] trains the network of trainers[{first}]")
            raise ValueError(f"{what}: give each its own network; copy.deepcopy of a trainer copies its network, "
                             "too")
    return chosen


class Shared(NamedTuple):
    """Shared by networks that take data alike: training data, validation data, and their names."""

    data: Data
    held_out: Data | None
    names: Names


def _shared(trainers: list[Trainer], X: Any, y: Any, sample_weight: Any, validation_data: Any) -> list[Shared]:
    """Return for each trainer the data as its network takes them, checked and converted once for equal networks."""
    made, warned_of, found = dict[Any, Shared](), set[str](), []
    for i, trainer in enumerate(trainers):
        net, loss = trainer.network, trainer.loss
        key = (net.layer_sizes[0], net.layer_sizes[-1], net.activations[-1], net.dtype, net.input_scale, loss,
               net.feature_names, None if net.classes is None else tuple(net.classes), net.target_names)
        if key not in made:
            with _naming(i):
                names = Names(net, learning=True)
                data = as_data(X, y, sample_weight, net, loss, names, warned_of=warned_of)
                made[key] = Shared(data, trainer.validation_of(validation_data, names), names)
        found.append(made[key])
    return found


def _rows(subsets: Any, n_trainers: int, n: int) -> list[Array | None]:
    """Return for each trainer the indices of its rows out of n, or None for all."""
    if subsets is None:
        return [None] * n_trainers
    if isinstance(subsets, (str, bytes)) or not isinstance(subsets, Iterable):
        raise TypeError(f"subsets must be None or a sequence of arrays of rows, one per trainer, got {shown(subsets)}")
    given = list(subsets)
    if len(given) != n_trainers:
        raise ValueError(f"subsets has {counted(len(given), 'entry') if len(given) == 1 else f'{len(given):,} entries'}"
                         f" for {counted(n_trainers, 'trainer')}; give each its rows, or None for all of them")
    return [None if one is None else _rows_of(f"subsets[{i}]", one, n) for i, one in enumerate(given)]


def _rows_of(name: str, given: Any, n: int) -> Array:
    """Return the indices of some of n rows."""
    try:
        rows = np.asarray(given)
    except ValueError:  # sequences of different lengths
        raise TypeError(f"{name} must be an array (rows,) of whole numbers, got {type(given).__name__}") from None
    if rows.dtype == bool:
        if rows.shape != (n,):
            raise ValueError(f"{name} is a mask of shape {rows.shape}, but there are {n} rows")
        rows = np.flatnonzero(rows)
    if rows.size == 0:
        raise ValueError(f"{name} is empty: give its trainer at least one row, or None for all")
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise TypeError(f"{name} must be an array (rows,) of whole numbers, got {rows.dtype} of shape {rows.shape}")
    low, high = rows.min(), rows.max()
    if low < 0 or high >= n:
        raise ValueError(f"{name} has row {low if low < 0 else high}; the rows are 0 to {n - 1}")
    return np.ascontiguousarray(rows, np.int64)


@contextlib.contextmanager
def _naming(i: int) -> Iterator[None]:
    """Name in an error the trainer that does not accept the data."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(f"trainers[{i}]: {error}") from error


@contextlib.contextmanager
def _reserved(trainers: list[Trainer]) -> Iterator[None]:
    """Reserve all trainers, or none, see Trainer.reserved."""
    with contextlib.ExitStack() as all_of_them:
        try:
            with compiler.uninterrupted():  # otherwise a context that was entered might not be left
                for trainer in trainers:
                    all_of_them.enter_context(trainer.reserved())
            yield
        finally:
            with compiler.uninterrupted():
                all_of_them.close()


# The fits


class Part(NamedTuple):
    """Steps of one epoch, from `at` on, in a slice: order of samples, learning rates and costs of the epoch."""

    order: Array
    etas: Array
    costs: Array
    at: int
    steps: int


class Kept(NamedTuple):
    """The state of a member when its guard took a copy."""

    epoch: int
    step: int
    at: int
    costs: Array
    seconds: float


class Member:
    """A trainer's part in a fit of many: its progress in what `loop.run` would do.

    Attributes
    ----------
    trainer, shared, rows
        The trainer, its data and the indices of its rows.
    fit : Fit
    work : float
        Approximate multiply-adds of a step.
    is_over : bool
    """

    def __init__(self, trainer: Trainer, shared: Shared, rows: Array | None, epochs: int):
        self.trainer, self.shared, self.rows = trainer, shared, rows
        self.validation = Validation(trainer, shared.held_out, ())
        self.fit = Fit(trainer.network, epochs=epochs)
        self.source = trainer.source_of(shared.data, rows, shared.names, self.fit, [], self.validation)
        self.once = self.source.once
        self.work = OF_A_STEP + self.once.batch_size * (3 * trainer.network.n_parameters + OF_A_SAMPLE)
        self.parts: list[Part] = []
        self.seconds, self.is_over = 0.0, False
        self.diverged: DivergenceError | None = None

    @property
    def steps_left(self) -> int:
        return self.fit.epochs * self.once.steps - self.fit.step

    @property
    def work_left(self) -> float:
        return self.steps_left * self.work

    def begin(self) -> None:
        self.source.begin()
        self.trainer.hold_mean(False)
        self._keep()

    def _keep(self) -> None:
        once, fit = self.once, self.fit
        self.trainer.stepper.guard.take(once.at)
        self.kept = Kept(fit.epoch, fit.step, once.at, once.costs, self.seconds)

    def undo(self) -> None:
        """Go back to the last copy, as later steps have left numbers that are not finite."""
        once, fit, kept, history = self.once, self.fit, self.kept, self.fit.history
        self.trainer.hold_mean(False)
        self.trainer.stepper.guard.restore()
        self.trainer.state.epochs_done -= fit.epoch - kept.epoch
        fit.epoch, fit.step, once.at, once.costs, self.seconds = kept
        values: list[list[Any]] = [history.loss, history.seconds, history.samples, history.validation_loss,
                                   history.validation_accuracy]
        for each in values:
            del each[kept.epoch :]

    def plan(self, most: int, factors: Factors) -> int:
        """Prepare the next steps, up to `most`; return how many."""
        trainer, once, fit = self.trainer, self.once, self.fit
        trainer.hold_mean(False)
        self.parts, at, done, left = [], once.at, fit.step - once.at, most
        for epoch in range(fit.epoch, fit.epochs if self.validation.data is None else fit.epoch + 1):
            order = once.order if at else once.order_of(trainer.epochs_done + epoch - fit.epoch)
            costs = once.costs if at else np.empty(once.steps)
            steps = min(left, once.steps - at)
            self.parts.append(Part(order, trainer.optimizer.eta * factors.of(self.source, done), costs, at, steps))
            at, done, left = 0, done + once.steps, left - steps
            if left == 0:
                break
        return most - left

    def calls(self) -> list[tuple[Any, ...]]:
        """Return the rows of these steps for fastbp.core.many, and prepare the slip for them."""
        rows, batch = list[tuple[Any, ...]](), self.once.batch_size
        for order, etas, costs, at, steps in self.parts:
            samples, part = order[at * batch : (at + steps) * batch], slice(at, at + steps)
            if not rows:
                self.slip = self.trainer.stepper.ready(self.shared.data, samples, batch, etas[part], costs[part], 1)
            rows.append((address_of_array(samples), address_of_array(etas[part]), address_of_array(costs[part]),
                         len(samples), steps, 0))
        return rows

    def took(self, made: int, seconds: float) -> bool:
        """Record that `made` of the planned steps were made, and the seconds of each.

        Returns whether all were made and, if it is time to check, all numbers are finite; otherwise they are undone."""
        once, fit, parts, self.parts = self.once, self.fit, self.parts, []
        self.trainer.stepper.workspace.slip.let_go()
        all_made = made == sum(part.steps for part in parts)
        for part in parts if all_made else []:
            once.order, once.costs, once.at = part.order, part.costs, part.at + part.steps
            fit.step, self.seconds = fit.step + part.steps, self.seconds + part.steps * seconds
            if once.at == once.steps:
                cost, _, samples = once.end()
                loop.note(fit, cost, self.seconds, samples)
                fit.epoch, self.seconds = fit.epoch + 1, 0.0
        guard = self.trainer.stepper.guard
        if all_made and not (self.steps_left == 0 or self.is_validated or guard.is_old(time.perf_counter())):
            return True
        if not (all_made and self.trainer.state.is_finite()):
            self.undo()
            return False
        self._keep()
        return True

    @property
    def is_validated(self) -> bool:
        """Whether validation is due: an epoch is over."""
        return self.validation.data is not None and self.once.at == 0

    def validate(self) -> None:
        """Validate after a slice that ends an epoch, if there are validation samples."""
        if self.is_validated:
            self.trainer.hold_mean(True)
            self.validation.measure(self.fit.history)

    def go_alone(self) -> None:
        """Repeat the steps that were undone, as `fit` makes them: it finds the first one after which numbers are not
        finite, and ends with the state before it."""
        self.is_over = True
        self.source.record.started = time.perf_counter() - self.seconds
        try:
            loop.run(self.trainer, self.source, self.fit, self.validation)
        except DivergenceError as error:
            self.diverged = error
            self.fit.history.stopped = self.trainer.history.stopped = f"diverged: {error}"
        self._let_go()

    def end(self) -> None:
        """End, after the last step or Ctrl-C; it can be called again if Ctrl-C comes too early."""
        if self.steps_left and not self.trainer.state.is_finite():
            self.undo()
        loop.end(self.trainer, self.source, self.fit)
        self._let_go()
        self.is_over = True

    def _let_go(self) -> None:
        """Release memory that grows with the samples: a thousand other networks may follow."""
        self.once.order = self.once.costs = np.empty(0)


class Factors:
    """Factors of learning rates at the steps of an epoch, shared by trainers with the same schedule."""

    def __init__(self) -> None:
        self._kept: dict[Any, Array] = {}
        self._size = 0

    def of(self, source: loop.Arrays, done: int) -> Array:
        """Return the factors of the epoch that begins after `done` steps."""
        schedule = source.once.settings.schedule_of_fit
        key = id(schedule), 0 if schedule is CONSTANT else done, source.once.steps, source.fit.epochs
        if key not in self._kept:
            if self._size > KEPT_FACTORS:
                self._kept, self._size = {}, 0
            self._kept[key] = source.factors(done)
            self._size += source.once.steps
        return self._kept[key]


class Many:
    """The fits of all networks, one slice of time after the other."""

    def __init__(self, members: list[Member], threads: int):
        self.members, self.threads, self.rate, self.factors = members, threads, FIRST_GUESS, Factors()
        # The longest ones first, so that at the end no thread has a long one left while others are idle.
        self.going = sorted(members, key=lambda member: -member.work_left)

    def run(self, progress: bool | None) -> None:
        self.guarded(lambda: self._run(progress))

    def guarded(self, go: Callable[[], None]) -> None:
        """Begin all fits, call `go`, which makes their steps, and end them, whatever ended that."""
        try:
            for member in self.members:
                member.begin()
            go()
        finally:
            try:
                self._end()
            except KeyboardInterrupt:  # it may have come before it was held back
                self._end()
                raise

    def _run(self, progress: bool | None) -> None:
        self._enter([], [])  # load machine code outside of the slices
        with bar_of(sum(member.steps_left for member in self.members), 0, progress) as bar:
            self._slices(bar)

    def _slices(self, bar: Any) -> None:  # see loop._epochs for why it is a separate function
        while self.going:
            before = sum(member.steps_left for member in self.going)
            self._slice()
            if bar is not None:
                bar.set_postfix(networks=f"{len(self.members) - len(self.going)} of {len(self.members)}", refresh=False)
                bar.update(before - sum(member.steps_left for member in self.going))

    def _end(self) -> None:
        with compiler.uninterrupted():
            for member in self.members:
                if not member.is_over:
                    member.end()

    def _slice(self) -> None:
        chosen = self._choose()
        rows = [member.calls() for member in chosen]
        with compiler.uninterrupted():  # so that steps that were made are counted
            failed = self.make(chosen, rows)
        for member in failed:
            member.go_alone()
        for member in chosen:
            if not member.is_over:
                member.validate()
                if member.steps_left == 0:
                    member.end()
        self.going = [member for member in self.going if not member.is_over]

    def _choose(self) -> list[Member]:
        """Choose the members of the next slice and plan their steps: among the first ones those with most work, if
        possible a multiple of the threads; and further ones if their steps do not fill the slice."""
        turns = TURNS * self.threads
        first = sorted(self.going[:turns], key=lambda member: -member.work_left)
        first = first[: max(len(first) // self.threads * self.threads, 1)] if len(first) > self.threads else first
        room, chosen = SLICE_SECONDS * self.threads / self.rate, list[Member]()
        each = room / len(first)
        for member in [*first, *self.going[turns:]]:
            room -= member.work * member.plan(max(1, int(each / member.work)), self.factors)
            chosen.append(member)
            if room <= 0 and len(chosen) % self.threads == 0:
                break
        return chosen

    def make(self, chosen: list[Member], rows: list[list[tuple[Any, ...]]]) -> list[Member]:
        """Make the planned steps and record them; return the members whose steps were undone."""
        ends = np.cumsum([len(own) for own in rows])
        networks = [(address_of_array(member.slip.vector), end - len(own), end)
                    for member, own, end in zip(chosen, rows, ends.tolist(), strict=True)]
        work = sum(member.work * part.steps for member in chosen for part in member.parts)
        started = time.perf_counter()
        made, threads = self._enter(networks, [row for own in rows for row in own])
        self.rate = max(1e-9, time.perf_counter() - started) * threads / work
        made = np.add.reduceat(made, [first for _, first, _ in networks])
        return [member for member, steps in zip(chosen, made.tolist(), strict=True)
                if not member.took(steps, self.rate * member.work)]

    def _enter(self, networks: list[tuple[Any, ...]], rows: list[tuple[Any, ...]]) -> tuple[Array, int]:
        """Run the compiled call; return the steps made for each row, and the number of threads."""
        table = np.array(rows, np.int64).reshape(-1, core.CALL_FIELDS)
        own = np.array(networks, np.int64).reshape(-1, core.NETWORK_FIELDS)
        with team.team((core.run, core.run_serial), self.threads) as (run, threads):
            run(own, table, np.zeros(SLOT * len(own), np.int64), threads)
        return table[:, -1], threads


# Warnings


def _warn(members: list[Member]) -> None:
    """Warn of networks that diverged, and of those that probably do not learn as intended: one warning per kind."""
    said: dict[str, list[tuple[int, str]]] = {}
    constants: dict[int, float | None] = {}
    for i, member in enumerate(members):
        if member.diverged is not None:
            said.setdefault("diverged", []).append((i, str(member.diverged)))
            continue
        for kind, text in _notes(member, constants).items():
            if kind not in member.trainer.warned_of:
                member.trainer.warned_of.add(kind)
                said.setdefault(kind, []).append((i, text + ASK))
    for kind, each in said.items():
        rest = f"; and {len(each) - NAMED:,} more" if len(each) > NAMED else ""
        told = "; ".join(f"trainers[{i}]: {text}" for i, text in each[:NAMED]) + rest
        ended = (f"{len(each):,} of {counted(len(members), 'network')} diverged and stopped before the last epoch, see "
                 "`stopped` in their histories: " if kind == "diverged" else "")
        warnings.warn(ended + told, TrainingWarning, stacklevel=level_of_caller())


def _notes(member: Member, constants: dict[int, float | None]) -> dict[str, str]:
    """Return the `notes_of_learning`; constants: known constant losses for all rows of shared data."""
    data, rows, key = member.shared.data, member.rows, id(member.shared)
    if rows is not None or key not in constants:
        constant = constant_of_few(member.trainer, data, rows)
        if rows is None:
            constants[key] = constant
    else:
        constant = constants[key]
    return notes_of_learning(member.trainer, member.fit.history.loss, member.fit.step, data, rows, constant)
