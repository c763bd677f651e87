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
from fastbp.core.simd import at

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
        activate(layers[l, ACTIVATION], buffers[z + i * ld : z + i * ld + n_out],
                 buffers[a + i * ld : a + i * ld + n_out])


@jit.inlined
def output_error_block(layers, buffers, targets, costs, loss, lo, hi):
    """delta[L] = dE/dz[L] and the cost of each of the samples lo..hi: both overwritten.

    targets (n, n_out); costs (n,) float64.
    """
    last = len(layers) - 1
    n_out, ld, activation = layers[last, N_OUT], layers[last, LD], layers[last, ACTIVATION]
    for i in range(lo, hi):
        z, a, delta = layers[last, Z] + i * ld, layers[last, A] + i * ld, layers[last, DELTA] + i * ld
        costs[i] = cost_and_error(loss, activation, buffers[z : z + n_out], buffers[a : a + n_out], targets[i],
                                  buffers[delta : delta + n_out])


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
        multiply_by_prime(layers[l, ACTIVATION], buffers[a + i * ld : a + i * ld + n],
                          buffers[delta + i * ld : delta + i * ld + n])


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
    db = gradient[layers[l, B] + lo : layers[l, B] + hi]
    factor = gradient.dtype.type(scale)
    if fresh:
        db[:] = 0
    for i in range(n):
        row = layers[l, DELTA] + i * layers[l, LD]
        delta = buffers[row + lo : row + hi]
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


INFER, TRAIN, ACCUMULATE = range(3)  # what the steps below are for

# What follows runs whole mini-batches. A step is two phases: each thread does all that its samples need, then all that
# its rows of every W need. The drivers reach the two blocks by their address (see jit.machine_code).


@jit.serial
def samples_block(theta, layers, buffers, targets, costs, x, t, order, first, ahead, loss, purpose, lo, hi):
    """The part of a step that belongs to samples lo..hi: input, forward pass, output error, backward recurrence.

    The mini-batch starts at order[first] (an empty `order`: the samples as they lie). Without targets (t.kind NONE)
    it stops after the forward pass, to INFER after the output error. `ahead`: samples to the next mini-batch.
    """
    last = len(layers) - 1
    for i in range(lo, hi):
        sample = order[first + i] if order.size else first + i
        row = layers[0, INPUT] + i * layers[0, LD_INPUT]
        gather_row(x, sample, buffers[row : row + layers[0, N_IN]])
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


@jit.serial
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


def _examples(dtype: str) -> tuple[tuple[object, ...], tuple[object, ...]]:
    """Arguments of the types that samples_block and weights_block are compiled for."""
    vector, matrix, costs = np.empty(1, dtype), np.empty((1, 1), dtype), np.empty(1)
    table, order, samples = np.empty((1, 12), np.int64), np.empty(1, np.int64), Samples(0, 0, 0, 0)
    return ((vector, table, vector, matrix, costs, samples, samples, order, 0, 0, 0, 0, 0, 0),
            (vector, vector, matrix, table, vector, 0, 0.0, 0, costs, 0.0, 0, 0, 0))


@functools.cache
def blocks(dtype: str) -> tuple[int, int]:
    """Addresses of the machine code of samples_block and weights_block for float32 or float64; compiles at need."""
    of_samples, of_weights = _examples(dtype)
    return jit.machine_code(samples_block, *of_samples), jit.machine_code(weights_block, *of_weights)


def cached(dtype: str) -> bool:
    """Whether the machine code of `blocks` is on disk."""
    of_samples, of_weights = _examples(dtype)
    return jit.is_cached(samples_block, *of_samples) and jit.is_cached(weights_block, *of_weights)


def _run(blocks, theta, gradient, state, layers, buffers, targets, costs, x, t, order, n_samples, batch_size, purpose,
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
        for s in range(len(step_costs)):
            first = s * batch_size
            n = min(batch_size, n_samples - first)
            for other in range(threads):
                c = (own + other) % threads
                if take(board, c, 2 * s):
                    lo, hi = jit.share(n, c, threads, TILE_HEIGHT)
                    jit.call(blocks[0], (theta, layers, buffers, targets, costs, x, t, order, first, batch_size, loss,
                                         purpose, lo, hi))
                    done(board)
            wait(board, 2 * s, threads)
            cost = _mean(costs, n)  # by every thread: less than one more phase
            if not (purpose == INFER or math.isfinite(cost)):
                break
            for other in range(threads):
                c = (own + other) % threads
                if take(board, c, 2 * s + 1):
                    if purpose == INFER:
                        lo, hi = jit.share(n, c, threads, TILE_HEIGHT)
                        _copy_outputs(outputs, layers, buffers, first, lo, hi)
                    elif purpose == TRAIN:
                        jit.call(blocks[1], (theta, gradient, state, layers, buffers, n, 1 / n, 1, settings, etas[s],
                                             start + s + 1, c, threads))
                    else:
                        jit.call(blocks[1], (theta, gradient, state, layers, buffers, n, 1 / n_samples, int(s == 0),
                                             settings, 0.0, 0, c, threads))
                    if c == 0:
                        step_costs[s] = cost
                        clock[0] = start + s + 1
                    done(board)
            wait(board, 2 * s + 1, threads)
    made = clock[0] - start
    if made < len(step_costs):
        step_costs[made] = _mean(costs, min(batch_size, n_samples - made * batch_size))
    return made


@jit.inlined
def _copy_outputs(outputs, layers, buffers, first, lo, hi):
    last = len(layers) - 1
    for i in range(lo, hi):
        a = layers[last, A] + i * layers[last, LD]
        for j in range(layers[last, N_OUT]):
            outputs[first + i, j] = buffers[a + j]


@jit.inlined
def _mean(costs, n):
    total = 0.0
    for i in range(n):
        total += costs[i]
    return total / n


run, run_serial = jit.twins(_run)
