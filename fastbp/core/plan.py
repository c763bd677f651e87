"""The plan of a step, as data: a table of stages, which every thread goes through in order.

A stage is cut into parts, by samples, by neurons or by rows of W; threads share the parts and wait for each other at
its end.

    SAMPLES   the work by samples: their inputs and targets, with `checks` whether they are finite,
              layers begin..end forward, the output error, and backward from a layer down to another
    NEURONS   layer `begin` forward, by its neurons
    WEIGHTS   of layers begin..end, by rows of W: gradients, and the update if nothing must come before it; with
              `backward`, before that the error of the neurons that send by these rows: W is then read once for both
    NORMS     of the gradient, by rows of W
    UPDATE    all parameters, by a gradient that is clipped
    LIMIT     neurons whose incoming weights are longer than their bound: they become shorter
    OUTPUTS   of the last layer, by samples, to where the caller wants them
    SPARSE_FORWARD, SPARSE_WEIGHTS
              of the first layer, if samples are stored rows: forward, by samples; gradients and update, by rows of W

To add a kind of stage:
1. here, a number, its name in KINDS, its line above, a row in `plan_for` of the steps that have it, and in `_told` what
   people read of it;
2. in core/engine.py, a function that does one part of it and returns which share of the stage that was, called by
   `do_part`; if few steps need it, a rare piece as `bound_part`, named in core/build.py;
3. in tests/core/test_plan.py, the plans that have it, and in `carried_out` what must come before it.
What it needs that no stage had is a column of Stage, or a field of the slip in core/call.py.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastbp.core.call import INFER, TRAIN
from fastbp.core.equations import LEAST_AT_ONCE, ROW_GRAIN, piece_of, rows_near
from fastbp.core.product import NUMBERS_NEAR
from fastbp.core.simd.cpu import DEPTH
from fastbp.core.threads.board import PARTS_PER_THREAD

SAMPLES, NEURONS, WEIGHTS, NORMS, UPDATE, LIMIT, OUTPUTS, SPARSE_FORWARD, SPARSE_WEIGHTS = range(9)
KINDS = ("SAMPLES", "NEURONS", "WEIGHTS", "NORMS", "UPDATE", "LIMIT", "OUTPUTS", "SPARSE_FORWARD", "SPARSE_WEIGHTS")
# With at most this many samples per thread, and more than this many weights, the hidden layers of a mini-batch are
# shared out by neurons, otherwise by samples. On two threads, by neurons, the step of 784-512-512-10 takes 0.80 of the
# time with 32 samples, 0.96 with 128, and would take 1.06 with 512.
FEW_SAMPLES, MANY_WEIGHTS = 128, 1 << 18
# Like FEW_SAMPLES and PARTS_PER_THREAD, without a backward pass: 1024-1024-10 with 4 samples takes 147 us on one thread
# of a Zen 4, 105 on two with this value, 127 with four parts per thread.
FEW_TO_INFER, PARTS_TO_INFER = 16, 2
ENTRIES = 256  # of a sparse sample: what it may have
LEAST_ROWS = 128  # of samples or weights in a part, unless a thread has only one: each copies its own panels


class Stage(NamedTuple):
    """A row of the table, whose columns these are; see above. takes_input, checks, errors, updates: 0 or 1."""

    kind: int
    parts: int
    begin: int = 0
    end: int = 0
    takes_input: int = 0
    checks: int = 0
    errors: int = 0
    backward_from: int = -1  # none: less than backward_to
    backward_to: int = 0
    updates: int = 0


class Plan:
    """The stages of each piece of a mini-batch.

    table : ndarray (stages, columns), int64
        A row a Stage: first those of every piece, then those that only the last piece of a mini-batch has.
    n_last : int
        Number of the latter.
    piece : int
        Samples that are computed together.
    """

    def __init__(self, stages: list[Stage], last: list[Stage], piece: int, frozen: tuple[int, ...] = ()):
        self.stages, self.n_last, self.piece, self.frozen = tuple(stages + last), len(last), piece, frozen
        self.table: npt.NDArray[Any] = np.array(self.stages, np.int64)
        self.table.flags.writeable = False
        self._halves: dict[bool, tuple[Plan, Plan]] = {}  # see `held`: each step asks for them

    def held(self, clips: bool) -> tuple[Plan, Plan]:
        """Return the plan of a step up to its gradient, and that of the update by a gradient that is laid out like
        theta: between the two the caller adds those of others. It must be the plan of a step that clips; whether the
        norm is needed says `clips`."""
        if clips not in self._halves:
            last = len(self.stages) - self.n_last
            update = [stage for stage in self.stages[last:] if clips or stage.kind != NORMS]
            self._halves[clips] = (Plan(list(self.stages[:last]), [], self.piece, self.frozen),
                                   Plan(update, [], 1, self.frozen))
        return self._halves[clips]

    def __str__(self) -> str:
        pieces = f"pieces of {self.piece} samples; each, stage by stage:"
        last = len(self.stages) - self.n_last
        return "\n".join([pieces, *(f"  {i + 1}. {_told(stage, self.frozen)}" + " (after the last piece)" * (i >= last)
                                    for i, stage in enumerate(self.stages))])


def _told(stage: Stage, frozen: tuple[int, ...]) -> str:
    """Return the description of a stage."""
    layers = f"layers {stage.begin} to {stage.end - 1}" if stage.end > stage.begin + 1 else f"layer {stage.begin}"
    told = [KINDS[stage.kind]]
    if stage.kind == SAMPLES:
        does = ["input" if stage.begin == 0 else "targets"] * stage.takes_input
        does += ["whether it is finite"] * stage.checks
        does += [f"{layers} forward"] * (stage.end > stage.begin)
        does += ["output error"] * stage.errors
        if stage.backward_from >= stage.backward_to:
            does.append(f"layers {stage.backward_from} to {stage.backward_to} backward")
        told.append(", ".join(does))
    elif stage.kind == NEURONS:
        told.append(f"{layers} forward")
    elif stage.kind == SPARSE_FORWARD:
        told.append("layer 0 forward")
    elif stage.kind == SPARSE_WEIGHTS:
        told.append("gradients of layer 0" + ", update" * stage.updates)
    elif stage.kind == WEIGHTS:
        before = f"layer {stage.begin - 1} backward, " if stage.backward_from >= stage.backward_to else ""
        still = [str(l) for l in frozen if stage.begin <= l < stage.end]
        but = f" but {', '.join(still)} (frozen)" if still else ""
        told.append(f"{before}gradients of {layers}{but}" + ", update" * stage.updates)
    return f"{told[0]}{': ' if told[1:] else ''}{''.join(told[1:])}; {stage.parts} part{'s' * (stage.parts > 1)}"


@functools.lru_cache(512)
def plan_for(layer_sizes: tuple[int, ...], batch_size: int, purpose: int, threads: int, errors: bool = True,
             frozen: tuple[int, ...] = (), bounds: tuple[bool, bool] = (False, False), sparse: bool = False) -> Plan:
    """Return the plan of steps of batch_size samples.

    errors: whether there are targets; frozen: layers that are not trained; bounds: whether the norm of the gradient,
    and of neurons' weights, is bounded; sparse: whether samples are stored rows.
    """
    n_layers, first = len(layer_sizes) - 1, int(sparse)  # the first layer whose input is dense
    clips, limits = bounds
    lowest = next(l for l in range(n_layers) if l == n_layers - 1 or l not in frozen)
    of_layers = [(n_in + 1) * n_out for n_in, n_out in zip(layer_sizes[first:], layer_sizes[first + 1 :], strict=False)]
    many_weights = sum(of_layers) - layer_sizes[-1] > MANY_WEIGHTS  # up to the last layer's biases
    infers, checks, errs = purpose == INFER, int(not errors and not sparse), int(errors)
    by_neurons = threads > 1 and batch_size <= (FEW_TO_INFER if infers else FEW_SAMPLES) * threads and many_weights
    whole = purpose != TRAIN or by_neurons
    stored = (ENTRIES, *layer_sizes[1:]) if sparse else layer_sizes  # numbers of a sample
    piece = batch_size if whole else samples_at_once(stored, batch_size, threads)
    fine = threads * (PARTS_TO_INFER if infers else PARTS_PER_THREAD) if by_neurons else 0
    by_samples, by_rows = fine or parts(piece, threads), fine or parts(layer_sizes[first], threads)
    updates = int(purpose == TRAIN and not clips)
    stages = [Stage(SPARSE_FORWARD, by_samples)] if sparse else []
    if by_neurons:
        stages += [] if sparse else [Stage(SAMPLES, fine, takes_input=1, checks=checks)]
        stages += [*(Stage(NEURONS, fine, l, l + 1) for l in range(first, n_layers - 1)),
                   Stage(SAMPLES, fine, n_layers - 1, n_layers, takes_input=first, errors=errs)]
        weights = [Stage(WEIGHTS, fine, l, l + 1, backward_from=l - 1, backward_to=max(l - 1, lowest), updates=updates)
                   for l in range(n_layers - 1, first - 1, -1)]
    else:
        back = (-1, 0) if infers else (n_layers - 2, lowest)
        stages += [Stage(SAMPLES, by_samples, first, n_layers, 1, checks, errs, *back)]
        weights = [Stage(WEIGHTS, by_rows, first, n_layers, updates=updates)] if first < n_layers else []
    if sparse and 0 not in frozen:
        weights += [Stage(SPARSE_WEIGHTS, parts_by_turns(threads), updates=updates)]
    stages += [Stage(OUTPUTS, by_samples)] if infers else weights
    last = [Stage(NORMS, by_rows), Stage(UPDATE, by_rows)] if clips else []
    last += [Stage(LIMIT, by_rows)] if limits else []
    return Plan(stages, last if purpose == TRAIN else [], piece, frozen)


def parts(rows: int, threads: int) -> int:
    """Return the number of parts of a stage with `rows` rows of work: equally many for each thread."""
    return threads * max(1, min(rows // (LEAST_ROWS * threads), PARTS_PER_THREAD)) if threads > 1 else 1


def parts_by_turns(threads: int) -> int:
    """Return the number of parts of SPARSE_WEIGHTS: a power of two; each looks at all entries to find its own."""
    return 1 << (2 * threads - 1).bit_length() if threads > 1 else 1


def samples_at_once(layer_sizes: tuple[int, ...], batch_size: int, threads: int) -> int:
    """Return how many samples of a mini-batch go through the network at once, see `equations.piece_of`; the gradients
    of the pieces are added."""
    return int(piece_of.py_func(batch_size, most_at_once(layer_sizes, threads)))


def most_at_once(layer_sizes: tuple[int, ...], threads: int) -> int:
    """Return how many samples of a large mini-batch stay in the cores' caches with their neurons."""
    numbers = layer_sizes[0] + 3 * sum(layer_sizes[1:])
    return max(DEPTH * threads, NUMBERS_NEAR * threads // numbers)


def scratch_size(layer_sizes: tuple[int, ...], threads: int, batch_size: int, clips: bool = False) -> int:
    """Return how many numbers threads need to TRAIN, or to ACCUMULATE over `batch_size` samples.

    A gradient is applied block by block and then discarded. But the gradient of a large mini-batch is kept while it is
    summed, and a gradient to be clipped until its norm is known. Room: the gradient and the norms of its parts; the
    rounding errors of sums of chains, laid out like it; and a block for each thread."""
    of_layers = [(min(n_in, rows_near.py_func(n_out)) + 1) * n_out
                 for n_in, n_out in zip(layer_sizes, layer_sizes[1:], strict=False)]
    blocks = threads * -(-max(of_layers) // ROW_GRAIN) * ROW_GRAIN  # each begins on its own cache line
    whole = sum((n_in + 1) * n_out for n_in, n_out in zip(layer_sizes, layer_sizes[1:], strict=False))
    norms = sum(-(-n_in // ROW_GRAIN) for n_in in layer_sizes[:-1])
    if batch_size > LEAST_AT_ONCE:
        return int(-(-(2 * whole + norms) // ROW_GRAIN) * ROW_GRAIN + blocks)
    return int(max(blocks, whole + norms if clips else 0))
