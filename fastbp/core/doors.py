"""Doors: one mini-batch from Python in one compiled call with few arguments, from arrays that kernels can read.

Converting its arguments is most of the time of a small call: so all that stays the same is in the slip. Each function
checks the numbers first; if one is invalid, it does nothing, and the caller finds the reason.
"""

from __future__ import annotations

import math

from fastbp.core import compiler
from fastbp.core.call import ADDRESS, CLOCK, SLOTS, START
from fastbp.core.costs import ANY, DISTRIBUTION, NOT_NEGATIVE
from fastbp.core.engine import clear_board
from fastbp.core.samples import FLOAT32, FLOAT64, LABELS, are_finite
from fastbp.core.simd.memory import address_of, at, pointer_from

X, T, N_SAMPLES, N_STEPS, BATCH_SIZE, PIECE, CAPACITY, OUTPUTS, COSTS = (SLOTS[name] for name in (
    "x", "t", "n_samples", "n_steps", "batch_size", "piece", "capacity", "outputs", "step_costs"))


@compiler.inlined
def put_samples(slip, slot, samples):
    """Samples, or targets, described as core.samples has it, into their slots."""
    slip[slot], slip[slot + 1], slip[slot + 2], slip[slot + 3], scale = samples
    pointer_from(address_of(slip) + 8 * (slot + 4), 0.0)[0] = scale


@compiler.inlined
def put_rows(slip, slot, rows, scale):
    """Samples or targets (n, columns), contiguous, into their slots."""
    kind = FLOAT32 if rows.itemsize == 4 else FLOAT64
    put_samples(slip, slot, (address_of(rows), rows.shape[1] * rows.itemsize, 1, kind, scale))


@compiler.inlined
def all_finite(rows):
    return are_finite(pointer_from(address_of(rows), rows[0, 0]), rows.size)


@compiler.inlined
def go(slip):
    """Run the call on one thread; slip: a pointer."""
    slip[START] = pointer_from(slip[CLOCK], slip[0])[0]
    clear_board(slip)
    compiler.call(slip[ADDRESS], (slip, 0))


@compiler.inlined
def go_once(slip, n, piece):
    """Make one step for `n` samples, up to `piece` at a time; return their mean cost."""
    slip[N_SAMPLES] = slip[BATCH_SIZE] = n
    slip[PIECE], slip[N_STEPS] = min(n, piece), 1  # the last call may have had more samples
    go(at(slip, 0))
    return pointer_from(slip[COSTS], 0.0)[0]


@compiler.serial
def forward(slip, samples, outputs, scale):
    """Write outputs (n, n_out) of samples (n, n_in), see `place_rows`, on one thread; return their `cost`."""
    put_rows(slip, X, samples, scale)
    put_steps(slip, len(samples), address_of(outputs))
    go(at(slip, 0))
    return sum_of_costs(slip)


@compiler.serial
def place_rows(slip, samples, outputs, scale):
    """`place` for samples (n, n_in) of float32 or float64, contiguous."""
    put_rows(slip, X, samples, scale)
    put_steps(slip, len(samples), address_of(outputs))


@compiler.serial
def place(slip, address, row, column, kind, scale, n, outputs):
    """Set where `n` samples are (see core.samples) and where outputs go; a step takes as many as the buffers hold."""
    put_samples(slip, X, (address, row, column, kind, scale))
    put_steps(slip, n, outputs)


@compiler.inlined
def put_steps(slip, n, outputs):
    slip[N_SAMPLES], slip[OUTPUTS] = n, outputs
    slip[BATCH_SIZE] = slip[PIECE] = min(n, slip[CAPACITY])
    slip[N_STEPS] = (n + slip[PIECE] - 1) // slip[PIECE]


@compiler.serial
def cost(slip):
    """Return the sum of the mean costs of all steps; for inference 0, or NaN if an input is not finite."""
    return sum_of_costs(slip)


@compiler.inlined
def sum_of_costs(slip):
    costs, total = pointer_from(slip[COSTS], 0.0), 0.0
    for i in range(slip[N_STEPS]):
        total += costs[i]
    return total


@compiler.serial
def infer(slip):
    """Write outputs of samples that have been placed, on one thread; return their `cost`."""
    go(at(slip, 0))
    return sum_of_costs(slip)


@compiler.serial
def with_labels(slip, samples, labels, scale, n_classes):
    """Run the call for samples (n, n_in) and int64 labels (n,); return the mean cost."""
    good = all_finite(samples)
    for i in range(len(labels)):
        good &= 0 <= labels[i] < n_classes
    if not good:
        return math.nan
    put_rows(slip, X, samples, scale)
    put_samples(slip, T, (address_of(labels), 8, 1, LABELS, 1.0))
    return go_once(slip, len(samples), len(samples))


@compiler.serial
def with_rows(slip, samples, targets, scale, must_be):
    """Run the call for samples (n, n_in) and targets (n, n_out); return the mean cost."""
    good = all_finite(samples) and all_finite(targets)
    if must_be != ANY:
        good &= are_in_range(targets, must_be)
    if not good:
        return math.nan
    put_rows(slip, X, samples, scale)
    put_rows(slip, T, targets, 1.0)
    return go_once(slip, len(samples), len(samples))


@compiler.inlined
def are_in_range(rows, must_be):
    good = True
    for i in range(rows.shape[0]):
        good &= is_in_range(at(rows, i * rows.shape[1]), rows.shape[1], 1, must_be)
    return good


@compiler.inlined
def is_in_range(row, n, step, must_be):
    """Whether `n` targets, so far apart, are what those of a sample must be, see core.costs; not for ANY."""
    good, total = True, 0.0
    for j in range(n):
        number = row[j * step]
        total += number
        good &= number >= 0 and (must_be == NOT_NEGATIVE or number <= 1)
    return good and (must_be != DISTRIBUTION or abs(total - 1) <= 1e-3)
