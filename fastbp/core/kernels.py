"""The five equations over whole networks: arrays in, arrays out, nothing allocated.

A network is a flat parameter vector `theta` and an integer table `layers`, one row a layer; z, a and delta of every
layer lie in one flat vector `buffers`, and the table says where. A block works on a range of samples or of rows of W;
a driver hands ranges to threads and is compiled twice from one source, parallel and serial. No two threads write the
same number and no sum crosses threads, so every thread count gives the same bits.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numba import prange

from fastbp.core import jit
from fastbp.core.activations import activate, multiply_by_prime
from fastbp.core.losses import cost_and_error
from fastbp.core.optimizers import update_block
from fastbp.core.phases import done, take, wait
from fastbp.core.product import TILE_HEIGHT, Matrix, product, repeated_zero, transposed
from fastbp.core.samples import LABELS, NONE, Samples, gather_row, prefetch_row, target_row
from fastbp.core.simd import at, part

# Columns of the table of layers. W, B: offsets into theta; INPUT, Z, A, DELTA: offsets into buffers, where the rows of
# INPUT are LD_INPUT apart and those of the others LD; SKIP_ZEROS: whether the layer's input is mostly zeros.
N_IN, N_OUT, W, B, ACTIVATION, INPUT, LD_INPUT, Z, A, DELTA, LD, SKIP_ZEROS = range(12)
ROW_GRAIN = 16  # rows of W are shared out in whole cache lines, whatever n_out


@jit.inlined
def _rows(vector, offset, stride, lo):
    """The matrix at `offset` of a flat vector, rows `stride` apart, from its row `lo` on."""
    return Matrix(at(vector, offset + lo * stride), stride, np.int64(1))


@jit.inlined
def forward_block(theta, layers, buffers, l, lo, hi):
    """z[l] = a[l-1] W[l] + b[l], a[l] = f(z[l]) for samples lo..hi: both overwritten."""
    n_in, n_out, ld = layers[l, N_IN], layers[l, N_OUT], layers[l, LD]
    z, a = layers[l, Z], layers[l, A]
    sent = _rows(buffers, layers[l, INPUT], layers[l, LD_INPUT], lo)
    weights, biases = _rows(theta, layers[l, W], n_out, 0), _rows(theta, layers[l, B], 0, 0)
    product(_rows(buffers, z, ld, lo), sent, weights, hi - lo, n_out, n_in, biases, theta.dtype.type(1),
            layers[l, SKIP_ZEROS])
    for i in range(lo, hi):
        activate(layers[l, ACTIVATION], part(buffers, z + i * ld, n_out), part(buffers, a + i * ld, n_out))


@jit.inlined
def output_error_block(layers, buffers, targets, costs, loss, lo, hi):
    """delta[L] = dE/dz[L] and the cost of each of the samples lo..hi: both overwritten.

    targets (n, n_out); costs (n,) float64.
    """
    last = len(layers) - 1
    n_out, ld, activation = layers[last, N_OUT], layers[last, LD], layers[last, ACTIVATION]
    for i in range(lo, hi):
        z, a, delta = layers[last, Z] + i * ld, layers[last, A] + i * ld, layers[last, DELTA] + i * ld
        costs[i] = cost_and_error(loss, activation, part(buffers, z, n_out), part(buffers, a, n_out), targets[i],
                                  part(buffers, delta, n_out))


@jit.inlined
def backward_block(theta, layers, buffers, l, lo, hi):
    """delta[l] = (delta[l+1] W[l+1]ᵀ) ∘ f'(z[l]) for samples lo..hi: overwritten."""
    n, ld, n_next = layers[l, N_OUT], layers[l, LD], layers[l + 1, N_OUT]
    delta, a = layers[l, DELTA], layers[l, A]
    received = _rows(buffers, layers[l + 1, DELTA], layers[l + 1, LD], lo)
    weights = _rows(theta, layers[l + 1, W], n_next, 0)
    product(_rows(buffers, delta, ld, lo), received, transposed(weights), hi - lo, n, n_next, repeated_zero(weights),
            theta.dtype.type(1), np.int64(0))
    for i in range(lo, hi):
        multiply_by_prime(layers[l, ACTIVATION], part(buffers, a + i * ld, n), part(buffers, delta + i * ld, n))


@jit.inlined
def weight_gradients_block(gradient, layers, buffers, l, n, scale, fresh, lo, hi):
    """dW[l] = scale a[l-1]ᵀ delta[l] over `n` samples, for rows lo..hi (sending neurons): overwritten, or, unless
    `fresh`, added to."""
    n_out = layers[l, N_OUT]
    dW = _rows(gradient, layers[l, W], n_out, lo)
    sent = _rows(buffers, layers[l, INPUT] + lo, layers[l, LD_INPUT], 0)
    error = _rows(buffers, layers[l, DELTA], layers[l, LD], 0)
    product(dW, transposed(sent), error, hi - lo, n_out, n, repeated_zero(dW) if fresh else dW,
            gradient.dtype.type(scale), layers[l, SKIP_ZEROS])


@jit.inlined
def bias_gradients_block(gradient, layers, buffers, l, n, scale, fresh, lo, hi):
    """db[l] = scale times the sum of delta[l] over `n` samples, for receiving neurons lo..hi, as above."""
    db = part(gradient, layers[l, B] + lo, hi - lo)
    factor = gradient.dtype.type(scale)
    if fresh:
        db[:] = 0
    for i in range(n):
        delta = part(buffers, layers[l, DELTA] + i * layers[l, LD] + lo, hi - lo)
        for j in range(db.size):
            db[j] += factor * delta[j]


def _forward(theta, layers, buffers, n, threads):
    """Forward pass: z[l], a[l] of every layer for the first `n` samples, whose inputs a[0] are in place."""
    for c in prange(threads):
        lo, hi = jit.share(n, c, threads, TILE_HEIGHT)
        for l in range(len(layers)):
            forward_block(theta, layers, buffers, l, lo, hi)


def _output_error(layers, buffers, targets, costs, loss, n, threads):
    """Output error: delta[L] and the costs of the first `n` samples."""
    for c in prange(threads):
        lo, hi = jit.share(n, c, threads, TILE_HEIGHT)
        output_error_block(layers, buffers, targets, costs, loss, lo, hi)


def _backward(theta, layers, buffers, n, threads):
    """Backward recurrence: delta[L-1], ..., delta[1] of the first `n` samples, from delta[L]."""
    for c in prange(threads):
        lo, hi = jit.share(n, c, threads, TILE_HEIGHT)
        for l in range(len(layers) - 2, -1, -1):
            backward_block(theta, layers, buffers, l, lo, hi)


def _weight_gradients(gradient, layers, buffers, n, threads):
    """Weight gradients: dW[l], db[l] of every layer, averaged over the first `n` samples."""
    for c in prange(threads):
        for l in range(len(layers)):
            lo, hi = jit.share(layers[l, N_IN], c, threads, ROW_GRAIN)
            weight_gradients_block(gradient, layers, buffers, l, n, 1 / n, True, lo, hi)
            lo, hi = jit.share(layers[l, N_OUT], c, threads, ROW_GRAIN)
            bias_gradients_block(gradient, layers, buffers, l, n, 1 / n, True, lo, hi)


forward, forward_serial = jit.twins(_forward)
output_error, output_error_serial = jit.twins(_output_error)
backward, backward_serial = jit.twins(_backward)
weight_gradients, weight_gradients_serial = jit.twins(_weight_gradients)


# What follows runs whole mini-batches. A step is two phases: each thread does all that its samples need, then all that
# its rows of every W need.

INFER, TRAIN, ACCUMULATE = range(3)  # what for


@jit.inlined
def samples_block(theta, layers, buffers, targets, costs, x, t, order, first, ahead, loss, purpose, lo, hi):
    """The part of a step that belongs to samples lo..hi: input, forward pass, output error, backward recurrence.

    The mini-batch starts at order[first] (an empty `order`: the samples as they lie). Without targets (t.kind NONE)
    it stops after the forward pass, to INFER after the output error. `ahead`: samples to the next mini-batch.
    """
    last = len(layers) - 1
    for i in range(lo, hi):
        sample = order[first + i] if order.size else first + i
        gather_row(x, sample, part(buffers, layers[0, INPUT] + i * layers[0, LD_INPUT], layers[0, N_IN]))
        if t.kind != NONE:
            target_row(t, sample, targets[i])
    for l in range(last + 1):
        forward_block(theta, layers, buffers, l, lo, hi)
    if t.kind != NONE:
        for i in range(lo, hi):
            if first + i + ahead < order.size:  # one sample's wait for memory behind another's exp and log
                prefetch_row(x, order[first + i + ahead], layers[0, N_IN])
                prefetch_row(t, order[first + i + ahead], 1 if t.kind == LABELS else targets.shape[1])
            output_error_block(layers, buffers, targets, costs, loss, i, i + 1)
    if purpose != INFER:
        for l in range(last - 1, -1, -1):
            backward_block(theta, layers, buffers, l, lo, hi)


@jit.inlined
def weights_block(theta, gradient, state, layers, buffers, n, scale, fresh, settings, eta, step, c, shares):
    """The part of a step that belongs to the c-th share of every layer's rows and biases: gradients and, if step > 0,
    the update (also with eta = 0: the optimiser's state moves along)."""
    for l in range(len(layers)):
        n_out, w, b = layers[l, N_OUT], layers[l, W], layers[l, B]
        lo, hi = jit.share(layers[l, N_IN], c, shares, ROW_GRAIN)
        weight_gradients_block(gradient, layers, buffers, l, n, scale, fresh, lo, hi)
        if step > 0:
            update_block(theta, gradient, state, settings, eta, step, w + lo * n_out, w + hi * n_out)
        lo, hi = jit.share(n_out, c, shares, ROW_GRAIN)
        bias_gradients_block(gradient, layers, buffers, l, n, scale, fresh, lo, hi)
        if step > 0:
            update_block(theta, gradient, state, settings, eta, step, b + lo, b + hi)


@jit.inlined
def outputs_block(outputs, layers, buffers, first, lo, hi):
    """a[L] of samples lo..hi into their rows of `outputs`, where the mini-batch starts at row `first`."""
    last = len(layers) - 1
    for i in range(lo, hi):
        a = layers[last, A] + i * layers[last, LD]
        for j in range(layers[last, N_OUT]):
            outputs[first + i, j] = buffers[a + j]


@jit.inner
def one_thread(theta, gradient, state, layers, buffers, targets, costs, x, t, order, n_samples, batch_size, purpose,
               loss, settings, etas, clock, start, outputs, step_costs, board, own, threads):
    """All that one thread does of `run`, as thread `own`."""
    for s in range(len(step_costs)):
        first = s * batch_size
        n = min(batch_size, n_samples - first)
        for other in range(threads):
            c = (own + other) % threads
            if take(board, c, 2 * s):
                lo, hi = jit.share(n, c, threads, TILE_HEIGHT)
                samples_block(theta, layers, buffers, targets, costs, x, t, order, first, batch_size, loss, purpose,
                              lo, hi)
                done(board)
        wait(board, 2 * s, threads)
        cost = _mean(costs, n)  # by every thread: less than one more phase
        if not (purpose == INFER or math.isfinite(cost)):
            if own == 0:
                step_costs[s] = cost
            break
        for other in range(threads):
            c = (own + other) % threads
            if take(board, c, 2 * s + 1):
                if purpose == INFER:
                    lo, hi = jit.share(n, c, threads, TILE_HEIGHT)
                    outputs_block(outputs, layers, buffers, first, lo, hi)
                else:
                    scale, fresh, eta, step = 1 / n, 1, etas[s], start + s + 1
                    if purpose == ACCUMULATE:
                        scale, fresh, eta, step = 1 / n_samples, int(s == 0), 0.0, 0
                    weights_block(theta, gradient, state, layers, buffers, n, scale, fresh, settings, eta, step, c,
                                  threads)
                if c == 0:
                    step_costs[s] = cost
                    clock[0] = start + s + 1
                done(board)
        wait(board, 2 * s + 1, threads)


@jit.inlined
def _mean(costs, n):
    total = 0.0
    for i in range(n):
        total += costs[i]
    return total / n


def _examples(dtype: str) -> tuple[object, ...]:
    """Arguments of the types that one_thread is compiled for."""
    vector, matrix, numbers, counts = np.empty(1, dtype), np.empty((1, 1), dtype), np.empty(1), np.empty(1, np.int64)
    table, samples = np.empty((1, 12), np.int64), Samples(0, 0, 0, 0)
    return (vector, vector, matrix, table, vector, matrix, numbers, samples, samples, counts, 0, 0, 0, 0, numbers,
            numbers, counts, 0, matrix, numbers, counts, 0, 0)


@functools.cache
def address(dtype: str) -> int:
    """Where the machine code of one_thread for float32 or float64 is; compiles at need."""
    return jit.machine_code(one_thread, *_examples(dtype))


def cached(dtype: str) -> bool:
    """Whether the machine code of one_thread is on disk."""
    return jit.is_cached(one_thread, *_examples(dtype))


def _run(address, theta, gradient, state, layers, buffers, targets, costs, x, t, order, n_samples, batch_size, purpose,
         loss, settings, etas, clock, outputs, step_costs, board, threads):
    """Go through the samples, a mini-batch a step; stops before an update whose cost is not finite.

    TRAIN: a step of gradient descent each. ACCUMULATE: nothing is updated, and the gradient is that of all together.
    INFER: a[L], into outputs (n_samples, n_out). Costs are those of `targets`, unless t.kind is NONE.

    x, t: Samples; order (n_samples,): their numbers, empty for as they lie; etas (steps,): learning rates;
    clock (1,): steps so far, counted on; step_costs (steps,) float64: overwritten with the mini-batches' mean costs;
    board: phases.board_size(threads) int64. Returns the number of steps made.
    """
    board[:] = 0
    start = clock[0]
    for own in prange(threads):
        jit.call(address, (theta, gradient, state, layers, buffers, targets, costs, x, t, order, n_samples, batch_size,
                           purpose, loss, settings, etas, clock, start, outputs, step_costs, board, own, threads))
    return clock[0] - start


run, run_serial = jit.twins(_run)
