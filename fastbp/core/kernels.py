"""The five equations over whole networks: arrays in, arrays out, nothing allocated.

A network is a flat parameter vector `theta` and an integer table `layers`, one row a layer; z, a and delta of every
layer lie in one flat vector `buffers`, and the table says where. A block works on a range of samples or of rows of W;
a driver hands ranges to threads and is compiled twice from one source, parallel and serial. No two threads write the
same number, and what is summed over all of them, the gradient's norm, in an order that is always the same: so every
thread count gives the same bits.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numba import carray, prange, types

from fastbp.core import compiler
from fastbp.core.activations import (
    IDENTITY,
    RELU,
    SIGMOID,
    SOFTMAX,
    TANH,
    activate,
    activate_rarely,
    multiply_by_prime,
    multiply_by_rare_prime,
)
from fastbp.core.compiler import beside
from fastbp.core.losses import Rule, costs_and_errors
from fastbp.core.noise import add_noise, drop
from fastbp.core.optimizers import (
    ADAM_RULE,
    CLIP_NORM,
    DECAY_BIASES,
    MAX_NORM,
    MEAN_DECAY,
    MOMENTUM_RULE,
    NEAR,
    NESTEROV_RULE,
    RULE,
    SGD_RULE,
    factors_of,
    move_mean,
    update_block,
    update_rarely,
)
from fastbp.core.product import (
    LOOK,
    NUMBERS_NEAR,
    ROWS_AT_ONCE,
    TILE_HEIGHT,
    Matrix,
    product,
    repeated_zero,
    transposed,
)
from fastbp.core.samples import FLOAT32, FLOAT64, LABELS, NONE, Samples, gather, gather_labels, prefetch_row
from fastbp.core.simd.cpu import DEPTH
from fastbp.core.simd.denormals import flush_denormals, restore_denormals
from fastbp.core.simd.memory import at, lent, part, pointer_from
from fastbp.core.simd.tile import add_rows
from fastbp.core.simd.vectors import fma
from fastbp.core.threads import team
from fastbp.core.threads.board import (
    FIELDS,
    NUMBER,
    PARTS_PER_THREAD,
    TICKS,
    WHOLE,
    WORKED,
    done,
    even_share,
    parts,
    share,
    take,
    thread_number,
    ticks,
    wait,
)

# Columns of the table of layers. W, B: offsets into theta; INPUT, Z, A, DELTA: offsets into buffers, where the rows of
# INPUT are LD_INPUT apart and those of the others LD. DROPOUT: of the layer's input, 0 for none; NOISE: of the first
# layer's, 0 for none; KEY: of both, see `drop` and `add_noise`. FROZEN: 1 where W and b stay what they are.
N_COLUMNS = 15
N_IN, N_OUT, W, B, ACTIVATION, INPUT, LD_INPUT, Z, A, DELTA, LD, DROPOUT, KEY, NOISE, FROZEN = range(N_COLUMNS)
WANTS_WHOLE = (SIGMOID, TANH, SOFTMAX)  # whose f' is written in a = f(z): in all of it, as it was before dropout
PREFETCHED = 8  # samples whose wait for memory hides behind the exp and log of as many others
NEURON_GRAIN, LEAST_GRAIN = 128, 32  # see neuron_grain
# With at most so many samples for each thread, and more than so many weights, the hidden layers of a mini-batch are
# shared out by neurons, else by samples. On two threads the step of 784-512-512-10 takes so 0.80 of the time with 32
# samples, 0.96 with 128, and would take 1.06 with 512.
FEW_SAMPLES, MANY_WEIGHTS = 128, 1 << 18
NUMBERS_NEAREST = 1 << 11  # as many as stay in a core's nearest cache, with those that they are applied to
# Samples of a large mini-batch, and a panel's depth of them for each thread; of more, gradients are sums of chains.
LEAST_AT_ONCE = 2 * DEPTH
CHAIN = 64  # samples of a large mini-batch whose gradients are summed in one chain, see summed_gradients_block
ROW_GRAIN = 16  # rows of W are shared out in whole cache lines, whatever n_out
WHOLE_PANELS = 64  # rows of W: dense panels of every width go into them


@compiler.inlined
def rows_near(n_out):
    """Rows of W that stay near a core while work goes on on them."""
    return max(1, NUMBERS_NEAR // n_out // WHOLE_PANELS) * WHOLE_PANELS


@compiler.inlined
def neuron_grain(n, threads):
    """Neurons are shared out, of `n` in a layer, in whole panels of the tile that skips zeros; in less where that
    would leave a thread fewer than two."""
    grain = NEURON_GRAIN
    while grain > LEAST_GRAIN and (n + grain - 1) // grain < 2 * threads:
        grain //= 2
    return grain


@compiler.inlined
def samples_at_once(layers, batch_size, threads):
    """Samples of a mini-batch that go through the network before the next ones do, whose share of the gradient is added
    to theirs: of a large mini-batch as many as stay near the cores with their neurons, in pieces of nearly equal size,
    which end where chains do."""
    numbers = layers[0, N_IN]
    for l in range(len(layers)):
        numbers += 3 * layers[l, N_OUT]
    most = max(LEAST_AT_ONCE, DEPTH * threads, NUMBERS_NEAR * threads // numbers)
    pieces = (batch_size + most - 1) // most
    piece = (batch_size + pieces - 1) // pieces
    grain = CHAIN if batch_size > LEAST_AT_ONCE else TILE_HEIGHT
    return min(batch_size, (piece + grain - 1) // grain * grain)


def scratch_size(layer_sizes, threads, batch_size, clips=False):
    """Numbers that threads need to TRAIN, or to ACCUMULATE over `batch_size` samples: a gradient is applied block by
    block and then forgotten, but that of a large mini-batch is kept for as long as it grows, and where its norm is to
    be clipped, until that is known: the gradient, the norms of its parts; what sums of chains have rounded away, laid
    out like it; and for each thread a block."""
    of_layers = [(min(n_in, rows_near.py_func(n_out)) + 1) * n_out
                 for n_in, n_out in zip(layer_sizes, layer_sizes[1:], strict=False)]
    blocks = threads * -(-max(of_layers) // ROW_GRAIN) * ROW_GRAIN  # each begins on a cache line of its own
    whole = sum((n_in + 1) * n_out for n_in, n_out in zip(layer_sizes, layer_sizes[1:], strict=False))
    norms = sum(-(-n_in // ROW_GRAIN) for n_in in layer_sizes[:-1])
    if batch_size > LEAST_AT_ONCE:
        return -(-(2 * whole + norms) // ROW_GRAIN) * ROW_GRAIN + blocks
    return max(blocks, whole + norms if clips else 0)


@compiler.inlined
def _rows(vector, offset, stride, lo):
    """The matrix at `offset` of a flat vector, rows `stride` apart, from its row `lo` on."""
    return Matrix(at(vector, offset + lo * stride), stride, np.int64(1))


@compiler.inlined
def _block(vector, offset, ld, lo, hi):
    """Rows lo..hi, `ld` apart, of those at `offset` of a flat vector, as one vector."""
    return part(vector, offset + lo * ld, (hi - lo) * ld)


@compiler.inlined
def drop_sent(layers, l, rows, row, first, n_rows, n, ld):
    """Dropout of what layer l receives, if it has one: of row `row` and the next, from neuron `first` on."""
    if layers[l, DROPOUT] > 0:
        drop(layers[l, KEY], row, first, layers[l, DROPOUT], rows, n_rows, n, ld)


@compiler.block
def forward_block(theta, layers, buffers, l, lo, hi, first, end, at_row):
    """z[l] = a[l-1] W[l] + b[l], a[l] = f(z[l]) for samples lo..hi, neurons first..end: both overwritten.

    at_row: the row that sample 0 is to `drop`: of a[l], what layer l + 1 drops becomes 0.
    """
    n_in, n_out, ld = layers[l, N_IN], layers[l, N_OUT], layers[l, LD]
    z, a = layers[l, Z] + first, layers[l, A] + first
    sent = _rows(buffers, layers[l, INPUT], layers[l, LD_INPUT], lo)
    weights, biases = _rows(theta, layers[l, W] + first, n_out, 0), _rows(theta, layers[l, B] + first, 0, 0)
    product(_rows(buffers, z, ld, lo), sent, weights, hi - lo, end - first, n_in, biases, theta.dtype.type(1), LOOK)
    z_rows, a_rows = _block(buffers, z, ld, lo, hi), _block(buffers, a, ld, lo, hi)
    activate(layers[l, ACTIVATION], z_rows, a_rows, hi - lo, end - first, ld)
    if l + 1 < len(layers):
        drop_sent(layers, l + 1, a_rows, at_row + lo, first, hi - lo, end - first, ld)


@compiler.inlined
def output_error_block(layers, buffers, targets, costs, loss, lo, hi):
    """delta[L] = dE/dz[L] and the cost of each of the samples lo..hi: both overwritten.

    targets (n, n_out); costs (n,) float64.
    """
    last = len(layers) - 1
    n_out, ld = layers[last, N_OUT], layers[last, LD]
    z, a = _block(buffers, layers[last, Z], ld, lo, hi), _block(buffers, layers[last, A], ld, lo, hi)
    delta = _block(buffers, layers[last, DELTA], ld, lo, hi)
    costs_and_errors(loss, layers[last, ACTIVATION], z, a, part(targets, lo * n_out, (hi - lo) * n_out), delta,
                     part(costs, lo, hi - lo), hi - lo, n_out, ld)


@compiler.block
def backward_block(theta, layers, buffers, l, lo, hi, first, end, at_row):
    """delta[l] = (delta[l+1] W[l+1]ᵀ) ∘ f'(z[l]) for samples lo..hi, neurons first..end: overwritten; and as in
    `forward_block`, what was dropped is 0."""
    ld, n_next = layers[l, LD], layers[l + 1, N_OUT]
    z, a, delta = layers[l, Z] + first, layers[l, A] + first, layers[l, DELTA] + first
    received = _rows(buffers, layers[l + 1, DELTA], layers[l + 1, LD], lo)
    weights = _rows(theta, layers[l + 1, W], n_next, first)
    product(_rows(buffers, delta, ld, lo), received, transposed(weights), hi - lo, end - first, n_next,
            repeated_zero(weights), theta.dtype.type(1), LOOK)
    z_rows, a_rows, code = _block(buffers, z, ld, lo, hi), _block(buffers, a, ld, lo, hi), layers[l, ACTIVATION]
    delta_rows = _block(buffers, delta, ld, lo, hi)
    drop_sent(layers, l + 1, delta_rows, at_row + lo, first, hi - lo, end - first, ld)
    again = layers[l + 1, DROPOUT] > 0 and code in WANTS_WHOLE
    if again:
        activate(code, z_rows, a_rows, hi - lo, end - first, ld)
    multiply_by_prime(code, z_rows, a_rows, delta_rows, hi - lo, end - first, ld)
    if again:
        drop_sent(layers, l + 1, a_rows, at_row + lo, first, hi - lo, end - first, ld)


@compiler.inlined
def _is_outer_product(n, fresh):
    """Whether dW is computed as one: for a single sample, to cut it into tiles would take longer."""
    return n == 1 and fresh


@compiler.inlined
def outer_product(gradient, first, sent, error, factor):
    """gradient[first:] = the rows of sent (factor error)ᵀ, with the bits of a `product` of one step."""
    n, zero = len(error), gradient.dtype.type(0)
    for i in range(len(sent)):
        row = part(gradient, first + i * n, n)
        for j in range(n):
            row[j] = fma(sent[i], factor * error[j], zero) + zero  # as a tile stores it: 0 for -0


@compiler.block
def weight_gradients_block(gradient, at_row, layers, buffers, l, first, n, scale, fresh, lo, hi):
    """Rows lo..hi (sending neurons) of dW[l] = scale a[l-1]ᵀ delta[l] over `n` samples from the `first` on, and below
    the layer's last row db[l] = scale times the sum of delta[l]: overwritten, or, unless `fresh`, added to.

    Row lo begins at gradient[at_row]. Returns how many numbers there are, with those of db.
    """
    n_out, factor = layers[l, N_OUT], gradient.dtype.type(scale)
    dW = _rows(gradient, at_row, n_out, 0)
    sent = _rows(buffers, layers[l, INPUT] + lo, layers[l, LD_INPUT], first)
    error = _rows(buffers, layers[l, DELTA], layers[l, LD], first)
    if _is_outer_product(n, fresh):
        outer_product(gradient, at_row, part(buffers, layers[l, INPUT] + first * layers[l, LD_INPUT] + lo, hi - lo),
                      part(buffers, layers[l, DELTA] + first * layers[l, LD], n_out), factor)
    else:
        product(dW, transposed(sent), error, hi - lo, n_out, n, repeated_zero(dW) if fresh else dW, factor, LOOK)
    length = (hi - lo) * n_out
    if hi < layers[l, N_IN]:
        return length
    if fresh:
        part(gradient, at_row + length, n_out)[:] = 0
    add_rows(at(gradient, at_row + length), error.data, error.row, n, n_out, factor)
    return length + n_out


@compiler.block
def summed_gradients_block(gradient, at_row, layers, buffers, l, n, scale, fresh, lo, hi, block):
    """`weight_gradients_block` of the first `n` samples; with block >= 0 by chains of CHAIN samples, which are computed
    at gradient[block] and added up with what the additions before have rounded away (Kahan 1965).

    One running float32 sum of a mean over 100,000 equal samples is wrong by 1e-3 of it, over a million by 9e-3; this by
    1e-6 at the most over any number, the error of a chain. Chains begin and end at the same samples whatever the
    threads.
    """
    length, each, lost = 0, CHAIN if block >= 0 else n, norms_of(layers, len(layers))
    for first in range(0, n, each):
        length = weight_gradients_block(gradient, block if block >= 0 else at_row, layers, buffers, l, first,
                                        min(each, n - first), scale, fresh or block >= 0, lo, hi)
        if block >= 0:
            add_exactly(part(gradient, at_row, length), part(gradient, lost + at_row, length),
                        part(gradient, block, length), fresh and first == 0)
    return length


@compiler.inlined
def add_exactly(total, lost, term, fresh):
    """total + term, where `lost` is how much too large the total is; both overwritten if `fresh`."""
    if fresh:
        for i in range(total.size):
            total[i], lost[i] = term[i], 0
    else:
        for i in range(total.size):
            more = term[i] - lost[i]
            after = total[i] + more
            lost[i] = (after - total[i]) - more
            total[i] = after


@compiler.inner
def check_rows(layers, buffers, n, threads):
    """Raise ValueError unless each part of `buffers` has room for n samples; the table says where each begins."""
    if threads < 1:
        raise ValueError("threads must be at least 1")
    end, room = buffers.size, 1 <= n <= buffers.size  # or else n LD may overflow
    for l in range(len(layers) - 1, -1, -1):
        z, a, delta, length = layers[l, Z], layers[l, A], layers[l, DELTA], n * layers[l, LD]
        room = room and z + length <= a and a + length <= delta and delta + length <= end
        end = z
        room = room and layers[l, INPUT] >= 0 and layers[l, INPUT] + n * layers[l, LD_INPUT] <= end
    if not room:
        raise ValueError("n must be at least 1 and at most the samples that the buffers have room for")


@compiler.inner
def check_parameters(theta, layers):
    """Raise ValueError unless theta or a gradient is as long as the table of layers says."""
    last = len(layers) - 1
    if theta.size < layers[last, B] + layers[last, N_OUT]:
        raise ValueError("theta and gradient must have as many numbers as the layers have weights and biases")


def _forward(theta, layers, buffers, n, threads):
    """Forward pass: z[l], a[l] of every layer for the first `n` samples, whose inputs a[0] are in place."""
    check_rows(layers, buffers, n, threads)
    check_parameters(theta, layers)
    for c in prange(threads):
        lo, hi = even_share(n, c, threads, TILE_HEIGHT)
        for l in range(len(layers)):
            forward_block(theta, layers, buffers, l, lo, hi, 0, layers[l, N_OUT], 0)


def _output_error(layers, buffers, targets, costs, loss, n, threads):
    """Output error: delta[L] and the costs of the first `n` samples."""
    check_rows(layers, buffers, n, threads)
    if targets.size < n * layers[len(layers) - 1, N_OUT] or costs.size < n:
        raise ValueError("targets and costs must have a row for each of the n samples")
    for c in prange(threads):
        lo, hi = even_share(n, c, threads, TILE_HEIGHT)
        output_error_block(layers, buffers, targets, costs, loss, lo, hi)


def _backward(theta, layers, buffers, n, threads):
    """Backward recurrence: delta[L-1], ..., delta[1] of the first `n` samples, from delta[L]."""
    check_rows(layers, buffers, n, threads)
    check_parameters(theta, layers)
    for c in prange(threads):
        lo, hi = even_share(n, c, threads, TILE_HEIGHT)
        for l in range(len(layers) - 2, -1, -1):
            backward_block(theta, layers, buffers, l, lo, hi, 0, layers[l, N_OUT], 0)


def _weight_gradients(gradient, layers, buffers, n, threads):
    """Weight gradients: dW[l], db[l] of every layer, averaged over the first `n` samples.

    One running sum in the parameters' type: for float32 and many thousand samples, fastbp.cost_and_gradient errs less.
    """
    check_rows(layers, buffers, n, threads)
    check_parameters(gradient, layers)
    for c in prange(threads):
        for l in range(len(layers)):
            lo, hi = even_share(layers[l, N_IN], c, threads, ROW_GRAIN)
            if lo < hi:
                at_row = layers[l, W] + lo * layers[l, N_OUT]
                weight_gradients_block(gradient, at_row, layers, buffers, l, 0, n, 1 / n, True, lo, hi)


# They raise ValueError, before anything is written, if n or threads is below 1 or an array is too short.
forward, forward_serial = compiler.twins(_forward)
output_error, output_error_serial = compiler.twins(_output_error)
backward, backward_serial = compiler.twins(_backward)
weight_gradients, weight_gradients_serial = compiler.twins(_weight_gradients)


# What follows runs whole mini-batches. A step is two phases: each thread does all that its samples need, then all that
# its rows of every W need; of a large mini-batch, each piece has two. Where samples are few and W is large, each layer
# has phases of its own (`one_thread`).

INFER, TRAIN, ACCUMULATE = range(3)  # what for
NO_LOSS = Rule(0, 0.0, 0)


@compiler.inlined
def _layer_of(stage, n_layers):
    """The layer that a stage of a mini-batch works on. Stages: 0 the input; 1 to L the forward pass, with the output
    error after the last; L + 1 to 2 L - 1 the backward recurrence, from the last hidden layer to the first."""
    return max(0, stage - 1) if stage <= n_layers else 2 * n_layers - 1 - stage


@compiler.inlined
def samples_block(theta, layers, buffers, targets, costs, x, t, weights, factor, order, first, ahead, loss, begin, end,
                  lo, hi, at_row, lowest):
    """The stages begin..end for samples lo..hi, for as many at a time as stay near the core with all their neurons.

    They start at order[first] (an empty `order`: the samples as they lie), those of the next piece or mini-batch
    `ahead` samples later. Without targets (t.kind NONE) there is no output error. Below the layer `lowest` nobody needs
    delta.
    """
    n_layers = len(layers)
    numbers = layers[0, LD_INPUT]
    for l in range(n_layers):
        numbers += 3 * layers[l, LD]
    rows = max(ROWS_AT_ONCE, NUMBERS_NEAR // 2 // numbers // TILE_HEIGHT * TILE_HEIGHT)
    for i in range(lo, hi, rows):
        to = min(i + rows, hi)
        for stage in range(begin, end):
            l = _layer_of(stage, n_layers)
            if stage == 0:
                input_block(layers, buffers, targets, x, t, order, first, i, to, at_row)
            elif stage <= n_layers:
                forward_block(theta, layers, buffers, l, i, to, 0, layers[l, N_OUT], at_row)
            elif l >= lowest:
                backward_block(theta, layers, buffers, l, i, to, 0, layers[l, N_OUT], at_row)
            if stage == n_layers and t.kind != NONE:
                errors_block(layers, buffers, targets, costs, x, t, weights, factor, order, first, ahead, loss, i, to)


@compiler.block
def input_block(layers, buffers, targets, x, t, order, first, lo, hi, at_row):
    """a[0] and targets of samples lo..hi of those that start at order[first]."""
    n_in, n_out, ld = layers[0, N_IN], layers[len(layers) - 1, N_OUT], layers[0, LD_INPUT]
    rows = _block(buffers, layers[0, INPUT], ld, lo, hi)
    gather(x, order, first + lo, hi - lo, rows, n_in, ld)
    if layers[0, NOISE] > 0:
        add_noise(layers[0, KEY], at_row + lo, layers[0, NOISE], rows, hi - lo, n_in, ld)
    drop_sent(layers, 0, rows, at_row + lo, 0, hi - lo, n_in, ld)
    if t.kind == LABELS:
        gather_labels(t, order, first + lo, hi - lo, _block(targets, 0, n_out, lo, hi), n_out)
    elif t.kind != NONE:
        gather(t, order, first + lo, hi - lo, _block(targets, 0, n_out, lo, hi), n_out, n_out)


@compiler.block
def errors_block(layers, buffers, targets, costs, x, t, weights, factor, order, first, ahead, loss, lo, hi):
    """Output error of samples lo..hi, times their weights times `factor`, which makes 1 of their mean: they may be far
    from what a float32 holds. Meanwhile the samples `ahead` of them are fetched."""
    last = len(layers) - 1
    n_in, n_out, ld, later = layers[0, N_IN], layers[last, N_OUT], layers[last, LD], first + ahead
    for i in range(lo, hi, PREFETCHED):
        end = min(i + PREFETCHED, hi)
        for sample in range(later + i, min(later + end, len(order))):
            prefetch_row(x, at(order, sample)[0], n_in)
            prefetch_row(t, at(order, sample)[0], 1 if t.kind == LABELS else n_out)
        output_error_block(layers, buffers, targets, costs, loss, i, end)
        for k in range(i, end if len(weights) else i):
            weight = weight_of(weights, order, first + k) * factor
            costs[k] = weight * costs[k] if weight > 0 else 0.0  # what has no weight may be no number
            delta = part(buffers, layers[last, DELTA] + k * ld, n_out)
            for j in range(n_out):
                delta[j] = delta[j] * buffers.dtype.type(weight) if weight > 0 else buffers.dtype.type(0)


@compiler.inlined
def weight_of(weights, order, i):
    """Of the i-th sample in order (an empty `order`: as they lie)."""
    return weights[order[i]] if len(order) else weights[i]


@compiler.inner
def total_weight(weights, order, first, n):
    """Of `n` samples from order[first] on, each 1 if `weights` is empty."""
    if len(weights) == 0:
        return float(n)
    total = 0.0
    for i in range(first, first + n):
        total += weight_of(weights, order, i)
    return total


@compiler.inlined
def weights_block(theta, gradient, state, layers, buffers, l, n, scale, fresh, settings, factors, scratch, block,
                  updates, delta_first, lo, hi, at_row):
    """Rows lo..hi of W[l], and with the last of them b[l]: their gradient, laid out like theta or, with scratch >= 0,
    at gradient[scratch], by as many rows as stay near the core with it; and, if it is whole, their update. block: see
    `summed_gradients_block`.

    With `delta_first`, before that, delta[l-1] of the neurons that send by these rows: W is then read once for both.
    """
    w, n_out = layers[l, W], layers[l, N_OUT]
    rows = rows_near(n_out)
    at_once = max(1, NUMBERS_NEAREST // n_out) if _is_outer_product(n, fresh) else rows
    for i in range(lo, hi, rows):
        end = min(i + rows, hi)
        if delta_first:
            backward_block(theta, layers, buffers, l - 1, 0, n, i, end, at_row)
        for k in range(i, end if layers[l, FROZEN] == 0 else i, at_once):
            at_weight = scratch if scratch >= 0 else w + k * n_out
            length = summed_gradients_block(gradient, at_weight, layers, buffers, l, n, scale, fresh, k,
                                            min(k + at_once, end), block)
            if updates:
                biases = length - (min(k + at_once, end) - k) * n_out
                update_block(theta, gradient, state, settings, factors, w + k * n_out, length, at_weight,
                             length if settings[DECAY_BIASES] else length - biases)


@compiler.block
def weights_part(theta, gradient, state, layers, buffers, begin, end, n, scale, fresh, settings, factors, scratch,
                 block, updates, delta_first, fields, c, n_parts, threads, at_row):
    """A part of the weights of layers begin..end; returns how much of all of them."""
    weights = turn = 0
    for l in range(begin, end):
        grain = neuron_grain(layers[l, N_IN], threads) if delta_first else ROW_GRAIN
        lo, hi = share(fields, layers[l, N_IN], c, n_parts, threads, grain, turn)
        weights_block(theta, gradient, state, layers, buffers, l, n, scale, fresh, settings, factors, scratch, block,
                      updates, delta_first, lo, hi, at_row)
        weights += (hi - lo) * layers[l, N_OUT]
        turn += (layers[l, N_IN] + grain - 1) // grain
    return weights / (layers[end - 1, B] - layers[begin, W])


# Phases after a step's, where the norm of the gradient or of a neuron's weights is bounded.
NORMS, UPDATE, LIMIT = 1, 2, 3


@compiler.rare
def bound_part(phase, theta, gradient, state, layers, settings, factors, scratch, fields, c, n_parts, threads):
    """A part of such a phase. NORMS: of the gradient. UPDATE: all weights and biases, by a gradient that is clipped.
    LIMIT: neurons; where the norm of one's incoming weights is above the bound they become shorter."""
    turn = 0
    if phase == UPDATE:
        factor = clipping_factor(gradient, layers, settings[CLIP_NORM])
        factors = (factors[0], factors[1], factors[2], factors[3], factor)
    for l in range(len(layers)):
        n = layers[l, N_OUT] if phase == LIMIT else layers[l, N_IN]
        lo, hi = share(fields, n, c, n_parts, threads, ROW_GRAIN, turn)
        turn += (n + ROW_GRAIN - 1) // ROW_GRAIN
        if layers[l, FROZEN] or lo == hi:
            continue
        if phase == NORMS:
            norms_block(gradient, layers, l, lo, hi)
        elif phase == UPDATE:
            clipped_block(theta, gradient, state, layers, l, settings, factors, lo, hi)
        else:
            at_factors = scratch if scratch >= 0 else layers[l, W] + lo
            limit_block(theta, part(gradient, at_factors, hi - lo), state, layers, l, settings, lo, hi)


@compiler.inlined
def norms_block(gradient, layers, l, lo, hi):
    """The norm of each ROW_GRAIN rows of dW[l], lo to hi, of db[l] with the last of them: whatever the threads, the
    same sums."""
    norms = norms_of(layers, l)
    for i in range(lo, hi, ROW_GRAIN):
        begin, end = layers[l, W] + i * layers[l, N_OUT], rows_end(layers, l, min(i + ROW_GRAIN, hi))
        gradient[norms + i // ROW_GRAIN] = norm(part(gradient, begin, end - begin))


@compiler.inlined
def clipped_block(theta, gradient, state, layers, l, settings, factors, lo, hi):
    """Update of rows lo..hi of W[l], with the last of them b[l]; the gradient is laid out like theta."""
    w, n_out = layers[l, W], layers[l, N_OUT]
    rows = max(1, NEAR // n_out)
    for i in range(lo, hi, rows):
        begin, end = w + i * n_out, rows_end(layers, l, min(i + rows, hi))
        decaying = end if settings[DECAY_BIASES] else min(end, layers[l, B])
        update_block(theta, gradient, state, settings, factors, begin, end - begin, begin, decaying - begin)


@compiler.inlined
def limit_block(theta, factors, state, layers, l, settings, lo, hi):
    """The incoming weights of neurons lo..hi, made at most as long as their bound; then their part of the parameters'
    mean moves, if there is one. factors (hi - lo,): overwritten."""
    w, n_in, n_out, bound = layers[l, W], layers[l, N_IN], layers[l, N_OUT], theta.dtype.type(settings[MAX_NORM])
    factors[:] = 0
    for i in range(n_in):
        row = part(theta, w + i * n_out + lo, hi - lo)
        for j in range(hi - lo):
            factors[j] += row[j] * row[j]
    for j in range(hi - lo):
        length = np.sqrt(factors[j])
        if not np.isfinite(length):
            length = theta.dtype.type(scaled_norm(theta, w + lo + j, n_out, n_in))
        factors[j] = bound / length if length > bound else theta.dtype.type(1)
    for i in range(n_in + 1):
        row = part(theta, w + i * n_out + lo, hi - lo)
        for j in range(hi - lo if i < n_in else 0):
            row[j] *= factors[j]
        if settings[MEAN_DECAY] > 0:
            move_mean(part(state[len(state) - 1], w + i * n_out + lo, hi - lo), row, settings)


@compiler.inlined
def rows_end(layers, l, hi):
    """Where rows of W[l] up to `hi` end in theta, b[l] with the last of them."""
    return layers[l, W] + (hi + (hi == layers[l, N_IN])) * layers[l, N_OUT]


@compiler.inlined
def norm(g):
    """The root of the sum of squares, of four sums side by side in float64; where they would overflow or vanish, by
    numbers made smaller or larger."""
    a = b = c = d = 0.0
    whole = g.size // 4 * 4
    for i in range(0, whole, 4):
        a += np.float64(g[i]) * np.float64(g[i])
        b += np.float64(g[i + 1]) * np.float64(g[i + 1])
        c += np.float64(g[i + 2]) * np.float64(g[i + 2])
        d += np.float64(g[i + 3]) * np.float64(g[i + 3])
    for i in range(whole, g.size):
        a += np.float64(g[i]) * np.float64(g[i])
    squares = (a + b) + (c + d)
    return math.sqrt(squares) if 1e-280 < squares < np.inf else scaled_norm(g, 0, 1, g.size)


@compiler.inner
def scaled_norm(v, first, step, n):
    """The norm of v[first], v[first + step], ..., `n` numbers, whatever their size; NaN or infinity if one is."""
    most = 0.0
    for i in range(n):
        most = max(most, abs(np.float64(v[first + i * step])))
    if most == 0:
        most = 1.0
    squares = 0.0
    for i in range(n):
        squares += (np.float64(v[first + i * step]) / most) ** 2
    return most * math.sqrt(squares)


@compiler.inlined
def norms_of(layers, l):
    """Where the norms of layer l's gradient are, after all of the gradient and the layers before."""
    last = len(layers) - 1
    place = layers[last, B] + layers[last, N_OUT]
    for k in range(l):
        place += (layers[k, N_IN] + ROW_GRAIN - 1) // ROW_GRAIN
    return place


@compiler.inlined
def clipping_factor(gradient, layers, bound):
    """What the gradient is to be multiplied by, so that its norm is at most `bound`; NaN, which then is seen in theta,
    where the norm is more than its type can hold."""
    squares = most = 0.0
    for l in range(len(layers)):
        for i in range(norms_of(layers, l), norms_of(layers, l + 1) if layers[l, FROZEN] == 0 else 0):
            most = max(most, np.float64(gradient[i]))
    for l in range(len(layers)):
        for i in range(norms_of(layers, l), norms_of(layers, l + 1) if layers[l, FROZEN] == 0 and most > 0 else 0):
            squares += (np.float64(gradient[i]) / most) ** 2
    total = most * math.sqrt(squares)
    return bound / total if bound < total < np.inf else 1.0 if total <= bound else np.nan


@compiler.inlined
def outputs_block(outputs, layers, buffers, first, lo, hi):
    """a[L] of samples lo..hi into their rows of `outputs`, where the mini-batch starts at row `first`."""
    last = len(layers) - 1
    n_out, ld = layers[last, N_OUT], layers[last, LD]
    for i in range(lo, hi):
        to, a = part(outputs, (first + i) * n_out, n_out), part(buffers, layers[last, A] + i * ld, n_out)
        for j in range(n_out):
            to[j] = a[j]


@compiler.apart
def one_thread(theta, gradient, state, layers, buffers, targets, costs, x, t, weights, order, n_samples, batch_size,
               purpose, loss, settings, etas, clock, start, outputs, step_costs, board, own, threads):
    """All that one thread does of `run`, as thread `own`.

    Samples a thread has to itself need no waiting from layer to layer. But where they are few and W is large, to read
    and pack all of W for them takes long; then each thread does it for its own neurons, a phase a layer, and on the way
    back at once with the weights by which they send. A large mini-batch goes through in pieces. Only where the norm of
    the gradient or of a neuron's weights is bounded, phases come after that of the weights.
    """
    # To count who uses them took 0.17 of a step of 4-32-16-4 with one sample.
    (theta, gradient, state, layers, buffers, targets, costs, weights, order, settings, etas, clock, outputs,
     step_costs, board) = lent((theta, gradient, state, layers, buffers, targets, costs, weights, order, settings, etas,
                                clock, outputs, step_costs, board))
    control = flush_denormals()
    n_layers = len(layers)
    length = len(board) - FIELDS * threads
    board, fields = part(board, 0, length), part(board, length, FIELDS * threads)
    if threads > 1:
        fields[NUMBER * threads + own] = thread_number()
    by_neurons = (threads > 1 and purpose != INFER and batch_size <= FEW_SAMPLES * threads
                  and layers[n_layers - 1, B] > MANY_WEIGHTS)
    last = n_layers + 1 if purpose == INFER else 2 * n_layers  # the stage of the outputs or of the weights
    at_once = 1 if by_neurons else last
    piece = samples_at_once(layers, batch_size, threads) if purpose == TRAIN and not by_neurons else batch_size
    clips, limits = purpose == TRAIN and settings[CLIP_NORM] > 0, purpose == TRAIN and settings[MAX_NORM] > 0
    lowest = 0
    while lowest < n_layers - 1 and layers[lowest, FROZEN]:
        lowest += 1
    scratch = block = -1  # the gradient is laid out like theta, of one chain
    if purpose != INFER and (batch_size if purpose == TRAIN else n_samples) > LEAST_AT_ONCE:
        blocks = (norms_of(layers, n_layers) + norms_of(layers, 0) + ROW_GRAIN - 1) // ROW_GRAIN * ROW_GRAIN
        block = blocks + (len(gradient) - blocks) // threads // ROW_GRAIN * ROW_GRAIN * own
    elif purpose == TRAIN and not clips:
        scratch = len(gradient) // threads // ROW_GRAIN * ROW_GRAIN * own
    whole = total_weight(weights, order, 0, n_samples) if purpose == ACCUMULATE else 1.0
    phase = all_parts = s = first = busy = 0
    worked = 0.0  # phases
    while s < len(step_costs):
        gone, n_batch = first - s * batch_size, min(batch_size, n_samples - s * batch_size)  # samples of the mini-batch
        n = min(piece, n_batch - gone)
        last_piece = gone + n == n_batch
        total = total_weight(weights, order, s * batch_size, n_batch)
        factor = n_batch / total if total > 0 else 0.0
        fresh, factors, changes = gone == 0, (0.0, 0.0, 0.0, 0.0, 1.0), purpose == TRAIN and last_piece and total > 0
        scale, at_row = 1 / n_batch, ((start + s + 1) << 32) + gone
        if purpose == TRAIN:
            factors = factors_of(settings, etas[s], start + s + 1)
        elif purpose == ACCUMULATE:
            factor, scale, fresh = n_samples / whole, 1 / n_samples, s == 0
        cost, stage, good = 0.0, 0, True
        end = last
        if changes and (clips or limits):
            end = last + LIMIT if limits else last + UPDATE
        while good and stage <= end:
            n_parts = parts(layers[0, N_IN] if stage >= last else min(piece, n_samples), threads)
            if by_neurons:
                n_parts = threads * PARTS_PER_THREAD
            phase += 1
            all_parts += n_parts
            began = ticks() if threads > 1 else 0
            for other in range(n_parts):
                c = (own * n_parts // threads + other) % n_parts
                if not take(board, c, phase):
                    continue
                lo, hi = share(fields, n, c, n_parts, threads, TILE_HEIGHT, 0)
                fraction = (hi - lo) / n
                if purpose == INFER and stage == last:
                    outputs_block(outputs, layers, buffers, first, lo, hi)
                elif by_neurons and 0 < stage < n_layers:
                    n_out = layers[stage - 1, N_OUT]
                    lo, hi = share(fields, n_out, c, n_parts, threads, neuron_grain(n_out, threads), 0)
                    fraction = (hi - lo) / n_out
                    if lo < hi:
                        forward_block(theta, layers, buffers, stage - 1, 0, n, lo, hi, at_row)
                elif stage > last:
                    bound_part(stage - last, theta, gradient, state, layers, settings, factors, scratch, fields, c,
                               n_parts, threads)
                    fraction = 1 / n_parts
                elif stage == last or (by_neurons and stage > n_layers):
                    l = 2 * n_layers - stage
                    fraction = weights_part(theta, gradient, state, layers, buffers, l,
                                            l + 1 if by_neurons else n_layers, n, scale, fresh, settings, factors,
                                            scratch, block, changes and not clips,
                                            stage < last and l > lowest, fields, c, n_parts, threads, at_row)
                else:
                    samples_block(theta, layers, buffers, targets, part(costs, gone, n), x, t, weights, factor, order,
                                  first, n, loss, stage, stage + at_once, lo, hi, at_row, lowest)
                if c == 0 and stage == end and last_piece:
                    step_costs[s] = cost
                    clock[0] = start + s + 1
                done(board)
                if threads > 1:
                    now = ticks()
                    worked, busy, began = worked + fraction, busy + now - began, now
            wait(board, all_parts)
            if stage <= n_layers < stage + at_once and last_piece:
                # By every thread, which takes less than one more phase.
                cost = _sum(costs, n_batch) / (total * factor if total > 0 else 1.0)
                good = purpose == INFER or math.isfinite(cost)
            stage += at_once if stage < last else LIMIT if stage == last and not clips else 1
        if not good:  # a thread that wakes late may find so only by the cost of a later step; the clock stands still
            if own == 0:
                step_costs[clock[0] - start] = cost
            break
        first += n
        s += last_piece
    if threads > 1:
        fields[WORKED * threads + own], fields[TICKS * threads + own] = np.int64(worked * WHOLE), busy
    restore_denormals(control)


@compiler.inlined
def _sum(costs, n):
    total = 0.0
    for i in range(n):
        total += costs[i]
    return total


Pieces = list[compiler.Made]


def _signatures(dtype: str) -> tuple[tuple[Any, ...], Pieces, Pieces]:
    """The types that one_thread is compiled for; the pieces that are called, each with its own, callees first; and the
    rare ones."""
    whole, real, number = types.int64, types.float64, {"float32": types.float32, "float64": types.float64}[dtype]
    numbers, reals, wholes = number[::1], real[::1], whole[::1]
    matrix, samples = number[:, ::1], types.NamedTuple((whole, whole, whole, whole, real), Samples)
    placed = types.NamedTuple((types.CPointer(number), whole, whole), Matrix)
    loss = types.NamedTuple((whole, real, whole), Rule)
    factors = types.UniTuple(real, 5)
    loop = (numbers, numbers, matrix, whole[:, ::1], numbers, matrix, reals, samples, samples, reals, wholes, whole,
            whole, whole, loss, reals, reals, wholes, whole, matrix, reals, wholes, whole, whole)
    return loop, [
        (product, (placed, placed, placed, whole, whole, whole, placed, number, whole)),
        (activate, (whole, numbers, numbers, whole, whole, whole)),
        (multiply_by_prime, (whole, numbers, numbers, numbers, whole, whole, whole)),
        (costs_and_errors, (loss, whole, numbers, numbers, numbers, numbers, reals, whole, whole, whole)),
        (update_block, (numbers, numbers, matrix, reals, factors, whole, whole, whole, whole)),
    ], [
        (activate_rarely, (whole, numbers, numbers, whole, whole, whole)),
        (multiply_by_rare_prime, (whole, numbers, numbers, numbers, whole, whole, whole)),
        (update_rarely, (numbers, numbers, matrix, reals, factors, whole)),
        (drop, (whole, whole, whole, whole, numbers, whole, whole, whole)),
        (add_noise, (whole, whole, whole, numbers, whole, whole, whole)),
        (bound_part, (whole, numbers, numbers, matrix, whole[:, ::1], reals, factors, whole, wholes, whole, whole,
                      whole)),
    ]


def address(dtype: str, layers: Any, settings: Any, purpose: int) -> int:
    """Address of one_thread's machine code for float32 or float64, for steps of these layers, settings and purpose.

    It and the rare pieces that these steps call are loaded or compiled now, if they are not yet: no Python runs inside
    the steps. Ask again if layers or settings change: a call of a piece that was not loaded ends the process.
    """
    needed = _rare_needed(layers, settings, purpose)
    place, filled = _loaded.get(dtype, (0, frozenset()))
    if not (place and filled >= needed):
        with compiler.global_compiler_lock:
            place, filled = _address(dtype), _fill(dtype, needed)
            _loaded[dtype] = place, filled
    return place


_loaded: dict[str, tuple[int, frozenset[Any]]] = {}  # by type: the address, and the rare pieces that are there
COMMON_ACTIVATIONS = frozenset([SIGMOID, TANH, SOFTMAX, RELU, IDENTITY])
COMMON_RULES = frozenset([SGD_RULE, MOMENTUM_RULE, NESTEROV_RULE, ADAM_RULE])


def _rare_needed(layers: Any, settings: Any, purpose: int) -> frozenset[Any]:
    """The rare pieces that steps call, or could: costs want the derivative of an output. Takes 2 us."""
    columns = layers.T.tolist()
    pieces: set[Any] = set()
    if not COMMON_ACTIVATIONS.issuperset(columns[ACTIVATION]):
        pieces.update((activate_rarely, multiply_by_rare_prime))
    if any(columns[DROPOUT]):
        pieces.add(drop)
    if any(columns[NOISE]):
        pieces.add(add_noise)
    if purpose == TRAIN:
        if settings[RULE] not in COMMON_RULES:
            pieces.add(update_rarely)
        if settings[CLIP_NORM] > 0 or settings[MAX_NORM] > 0:
            pieces.add(bound_part)
    return frozenset(pieces)


RARE_NAMES = {activate_rarely: "activations such as gelu", multiply_by_rare_prime: "activations such as gelu",
              update_rarely: "optimizers such as Lion", drop: "dropout", add_noise: "noise",
              bound_part: "clip_norm or max_norm"}


def _fill(dtype: str, pieces: Iterable[Any]) -> frozenset[Any]:
    """Load or compile rare pieces; returns those that are there."""
    _, _, rare = _signatures(dtype)
    wanted = [made for made in rare if made[0] in pieces and not compiler.is_filled(*made)]
    what = ", ".join(dict.fromkeys(RARE_NAMES[piece] for piece, _ in wanted))
    with compiler.once([(piece.alone, signature) for piece, signature in wanted], what, f"1 to {2 * len(wanted)} s"):
        for piece, signature in wanted:
            compiler.fill(piece, signature)
    return frozenset(piece for piece, signature in rare if compiler.is_filled(piece, signature))


def fill_all(dtype: str) -> None:
    """Load or compile every rare piece, after a call of `address`."""
    with compiler.global_compiler_lock:
        _fill(dtype, RARE_NAMES)


@functools.cache
def _address(dtype: str) -> int:
    """To compile: the loop that calls the pieces, in another process; the pieces, here; and `run`, which comes next
    where threads are used. In one process it takes twice as long."""
    loop, pieces, rare = _signatures(dtype)
    for piece, signature in rare:
        compiler.reserve(piece, signature)
    compile_loop = f"from fastbp.core import kernels; kernels.compile_loop({dtype!r})"
    with compiler.once(_always(dtype), f"its kernels ({dtype})", "10 to 20 s"):
        with beside.beside(one_thread, loop, compile_loop) as shared:
            for piece, signature in pieces:
                compiler.link(piece, signature)
            if shared and team.threads_started():
                run.compile((types.int64, *loop[:18], *loop[19:22], types.int64))
        with compiler.linking():
            return compiler.machine_code(one_thread, loop)


def _always(dtype: str) -> Pieces:
    """What `address` needs whatever the steps."""
    loop, pieces, _ = _signatures(dtype)
    return [(one_thread, loop), *((piece.alone, signature) for piece, signature in pieces)]


def compile_loop(dtype: str) -> None:
    """Compile what calls the pieces, without them, for `address` to find on disk; in a process that then ends."""
    loop, pieces, rare = _signatures(dtype)
    for piece, signature in rare:
        compiler.reserve(piece, signature)
    for piece, signature in pieces:
        compiler.link(piece, signature, 1)
    with compiler.linking():
        compiler.machine_code(one_thread, loop)


def cached(dtype: str) -> bool:
    """Whether all of the machine code that `address` always needs is on disk."""
    return all(compiler.is_cached(*made) for made in _always(dtype))


def _run(address, theta, gradient, state, layers, buffers, targets, costs, x, t, weights, order, n_samples, batch_size,
         purpose, loss, settings, etas, clock, outputs, step_costs, board, threads):
    """Go through the samples, a mini-batch a step; stops before an update whose cost is not finite.

    TRAIN: a step of gradient descent each. ACCUMULATE: nothing is updated, and the gradient is that of all together.
    INFER: a[L], into outputs (n_samples, n_out). Costs are those of `targets`, unless t.kind is NONE.

    gradient: laid out like theta; to TRAIN, or to ACCUMULATE more than LEAST_AT_ONCE samples, `scratch_size` numbers to
    work with, which begin with it.
    x, t: Samples; weights (samples,) float64: >= 0, empty for 1 each; order (n_samples,): their numbers, empty for as
    they lie; etas (steps,): learning rates;
    clock (1,): steps so far, counted on; step_costs (steps,) float64: overwritten with the mini-batches' mean costs;
    board: see board_size, int64. Returns the number of steps made.
    """
    part(board, 0, len(board) - FIELDS * threads)[:] = 0
    start = clock[0]
    for own in prange(threads):
        compiler.call(address, (
            theta, gradient, state, layers, buffers, targets, costs, x, t, weights, order, n_samples, batch_size,
            purpose, loss, settings, etas, clock, start, outputs, step_costs, board, own, threads))
    return clock[0] - start


run, run_serial = compiler.twins(_run)


def places(address, *arrays):
    """Where `forward_few` finds all that stays the same from call to call: the address of `one_thread`, then address
    and length of theta, layers, buffers, targets, costs, counts (board_size(1) + 1 int64) and the inputs' scale (1
    float64). They must stay alive.

    To turn an array into what compiled code reads takes 0.1 us; so this is one array instead of seven.
    """
    return np.array([address, *(number for array in arrays for number in (array.ctypes.data, len(array)))], np.int64)


@compiler.inlined
def _vector(places, i, like):
    """The i-th of the vectors at `places`."""
    return carray(pointer_from(places[2 * i + 1], like), (places[2 * i + 2],))


@compiler.serial
def forward_few(places, X, outputs):
    """`run` to INFER a few samples, with no more arguments than that takes: to convert them is most of such a call.

    places: see there; X (n, n_in), outputs (n, n_out): contiguous, of theta's type. Returns whether every number of X
    is finite; if not, nothing is done.
    """
    n, finite, like = len(X), True, X[0, 0]
    for i in range(n):
        for j in range(X.shape[1]):
            finite &= math.isfinite(X[i, j])
    if finite:
        theta, buffers = _vector(places, 0, like), _vector(places, 2, like)
        layers = carray(pointer_from(places[3], np.int64(0)), (places[4], N_COLUMNS))
        targets = carray(pointer_from(places[7], like), (places[8], outputs.shape[1]))
        costs, counts = _vector(places, 4, np.float64(0)), _vector(places, 5, np.int64(0))
        x = Samples(np.int64(X.ctypes.data), X.shape[1] * X.itemsize, 1, FLOAT32 if X.itemsize == 4 else FLOAT64,
                    _vector(places, 6, np.float64(0))[0])
        counts[:] = 0
        none, board, clock = part(counts, 0, 0), part(counts, 0, len(counts) - 1), part(counts, len(counts) - 1, 1)
        compiler.call(places[0], (
            theta, theta, targets, layers, buffers, targets, costs, x, Samples(0, 0, 0, NONE, 1.0), part(costs, 0, 0),
            none, n, n, INFER, NO_LOSS, costs, costs, clock, 0, outputs, part(costs, 0, 1), board, 0, 1))
    return finite
