"""Whole mini-batches: each thread goes through the stages of the plan, takes parts, and waits at the end of a stage.

A stage is over when its parts are done. A thread that has samples of its own does not wait between layers. But if
samples are few and W is large, reading and packing all of W for them takes long; then each layer is a stage (see
fastbp.core.plan). The work of each stage is a function here; the equations are in fastbp.core.equations.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from fastbp.core import compiler
from fastbp.core.augmentation import augment
from fastbp.core.call import (
    ACCUMULATE,
    ADDRESS,
    BOARD,
    CLOCK,
    INFER,
    N_BOARD,
    START,
    TRAIN,
    Batch,
    Part,
    Room,
    Summed,
    layer_of,
    stage_of,
)
from fastbp.core.equations import (
    CHAIN,
    LEAST_AT_ONCE,
    ROW_GRAIN,
    add_exactly,
    backward_block,
    drop_sent,
    forward_block,
    is_outer_product,
    output_error_block,
    rows_near,
    weight_gradients_block,
)
from fastbp.core.noise import add_noise
from fastbp.core.plan import (
    LIMIT,
    NEURONS,
    NORMS,
    OUTPUTS,
    SAMPLES,
    SPARSE_FORWARD,
    SPARSE_WEIGHTS,
    UPDATE,
    WEIGHTS,
)
from fastbp.core.product import NUMBERS_NEAR, ROWS_AT_ONCE, TILE_HEIGHT
from fastbp.core.rules import NEAR, NO_RATES, Rates, move_mean, rates_of, update_block
from fastbp.core.samples import LABELS, NONE, SPARSE, are_finite, gather, gather_labels, number_of, prefetch_row
from fastbp.core.simd.denormals import flush_denormals, restore_denormals
from fastbp.core.simd.memory import ahead, at, number, pointer_from
from fastbp.core.sparse import sparse_forward, sparse_weights
from fastbp.core.threads.board import NUMBER, TICKS, WHOLE, WORKED, done, share, take, thread_number, ticks, wait

PREFETCHED = 8  # samples fetched ahead: their latency is hidden by the exp and log of as many others
NEURON_GRAIN, LEAST_GRAIN = 128, 32  # see neuron_grain
NUMBERS_NEAREST = 1 << 11  # numbers that stay in a core's nearest cache, together with those that they are applied to


def _run(slip, threads):
    """Go through the samples, one mini-batch per step; stop before an update whose cost is not finite.

    TRAIN: a step of gradient descent for each. ACCUMULATE: no update; the gradient over all mini-batches.
    INFER: a[L], into outputs (n_samples, n_out). Costs are computed if the plan includes output errors.

    slip: see fastbp.core.call; clock is increased by the steps, and step_costs are overwritten with the mean costs of
    the mini-batches. Returns the number of steps made.
    """
    clock = pointer_from(slip[CLOCK], slip[0])
    slip[START] = clock[0]
    clear_board(slip)
    for own in prange(threads):
        compiler.call(slip[ADDRESS], (at(slip, 0), own))
    return clock[0] - slip[START]


@compiler.inlined
def clear_board(slip):
    """Reset the board before a call: no part is taken; its fields stay."""
    board = pointer_from(slip[BOARD], slip[0])
    for i in range(slip[N_BOARD]):
        board[i] = 0


run, run_serial = compiler.twins(_run)


@compiler.apart
def one_thread(call, own):
    """Do the share of thread `own` of `run`."""
    control = flush_denormals()
    room, whole = room_of(call, own), all_weight(call)
    stages = parts = step = first = busy = 0
    worked, good = 0.0, True  # work done, in stages; whether all costs are finite
    if call.threads > 1:
        call.fields[NUMBER * call.threads + own] = thread_number()
    while good and step < call.n_steps:
        batch = batch_at(call, step, first, whole)
        last = call.n_stages if batch.changes else call.n_stages - call.n_last
        cost = 0.0
        for s in range(last):
            stage = stage_of(call, s)
            stages += 1
            parts += stage.parts
            began = ticks() if call.threads > 1 else 0
            for other in range(stage.parts):
                c = (own * stage.parts // call.threads + other) % stage.parts
                if not take(call.board, c, stages):
                    continue
                share_done = do_part(call, stage, batch, Part(c, stage.parts), room)
                if c == 0 and s == last - 1 and batch.last:
                    call.step_costs[step] = cost
                    call.clock[0] = call.start + step + 1
                done(call.board, call.n_board)
                if call.threads > 1:
                    now = ticks()
                    worked, busy, began = worked + share_done, busy + now - began, now
            wait(call.board, call.n_board, parts)
            if (stage.errors or stage.checks) and batch.last:  # by every thread, which takes less than one more stage
                cost = mean_cost(call, batch)
                good = call.purpose == INFER or math.isfinite(cost)
                if not good:
                    break
        first += batch.n
        step += batch.last
    if not good and own == 0:  # a thread that wakes late may find so only by the cost of a later step
        call.step_costs[call.clock[0] - call.start] = cost
    if call.threads > 1:
        call.fields[WORKED * call.threads + own] = np.int64(worked * WHOLE)
        call.fields[TICKS * call.threads + own] = busy
    restore_denormals(control)


@compiler.inlined
def room_of(call, own):
    """Return where thread `own` puts gradients, see Room."""
    if call.purpose != INFER and (call.batch_size if call.purpose == TRAIN else call.n_samples) > LEAST_AT_ONCE:
        blocks = (norms_of(call, call.n_layers) + norms_of(call, 0) + ROW_GRAIN - 1) // ROW_GRAIN * ROW_GRAIN
        block = blocks + (call.n_gradient - blocks) // call.threads // ROW_GRAIN * ROW_GRAIN * own
        return Room(-1, block, norms_of(call, call.n_layers), own)
    if call.purpose == TRAIN and not clips(call):
        return Room(call.n_gradient // call.threads // ROW_GRAIN * ROW_GRAIN * own, -1, 0, own)
    return Room(-1, -1, 0, own)


@compiler.inlined
def clips(call):
    """Whether the norm of the gradient is bounded."""
    return call.rule.clip_norm > 0


@compiler.inlined
def batch_at(call, step, first, whole):
    """Return the piece of mini-batch `step` that begins with sample `first`; whole: the weight of all samples."""
    begin = step * call.batch_size
    gone, n_batch = first - begin, min(call.batch_size, call.n_samples - begin)
    n = min(call.piece, n_batch - gone)
    total, last = total_weight(call, begin, n_batch), gone + n == n_batch
    factor, scale, fresh = n_batch / total if total > 0 else 0.0, 1 / n_batch, gone == 0
    rates = NO_RATES
    if call.purpose == TRAIN:
        rates = rates_of(call.rule, call.etas[step], call.start + step + 1, total if total > 0 else 1.0)
    elif call.purpose == ACCUMULATE:
        factor, scale, fresh = call.n_samples / whole, 1 / call.n_samples, first == 0
    row = ((call.start + step + 1) << 32) + call.row + gone
    changes = call.purpose == TRAIN and last and total > 0
    return Batch(first, gone, n, n_batch, row, factor, total, scale, fresh, last, changes, rates)


@compiler.inlined
def all_weight(call):
    return total_weight(call, 0, call.n_samples) if call.purpose == ACCUMULATE else 1.0


@compiler.inlined
def mean_cost(call, batch):
    """Return the weighted mean cost of a mini-batch."""
    total = 0.0
    for i in range(batch.n_batch):
        total += call.costs[i]
    return total / (batch.total * batch.factor if batch.total > 0 else 1.0)


@compiler.inner
def total_weight(call, first, n):
    """Return the total weight of `n` samples from index `first` in the order; 1 each if there are no weights."""
    if call.n_weights == 0:
        return float(n)
    total = 0.0
    for i in range(first, first + n):
        total += call.weights[number_of(call, i)]
    return total


@compiler.inlined
def bounds(call, n, part, grain, turn):
    """Return where a part of range(n) begins and ends, see `board.share`."""
    return share(call.fields, n, part.number, part.of, call.threads, grain, turn)


@compiler.block
def do_part(call, stage, batch, part, room):
    """Do a part of a stage; return its share of the stage."""
    kind = stage.kind
    if kind == SAMPLES or kind == OUTPUTS or kind == SPARSE_FORWARD:
        lo, hi = bounds(call, batch.n, part, TILE_HEIGHT, 0)
        if kind == SAMPLES:
            samples_part(call, stage, batch, lo, hi)
        elif kind == OUTPUTS:
            outputs_part(call, batch, lo, hi)
        else:
            sparse_forward(call, batch.first, batch.row, lo, hi)
        return (hi - lo) / batch.n
    if kind == NEURONS:
        return neurons_part(call, stage, batch, part)
    if kind == WEIGHTS:
        return weights_part(call, stage, batch, part, room)
    if kind == SPARSE_WEIGHTS:
        samples = Summed(batch.first, batch.n, batch.scale, batch.fresh)
        sparse_weights(call, samples, batch.changes and stage.updates != 0, part, room, batch.rates)
    else:
        bound_part(call, kind, batch.rates, part, room.scratch)
    return 1 / part.of


# Stages by samples.

@compiler.block
def samples_part(call, stage, batch, lo, hi):
    """SAMPLES: samples lo..hi, as many at a time as stay in cache with all their neurons."""
    numbers = layer_of(call, 0).ld_input
    for l in range(call.n_layers):
        numbers += 3 * layer_of(call, l).ld
    rows = max(ROWS_AT_ONCE, NUMBERS_NEAR // 2 // numbers // TILE_HEIGHT * TILE_HEIGHT)
    for i in range(lo, hi, rows):
        to = min(i + rows, hi)
        if stage.takes_input:
            input_block(call, batch, i, to)
        if stage.checks:
            checks_block(call, batch, i, to)
        for l in range(stage.begin, stage.end):
            forward_block(call, l, i, to, 0, layer_of(call, l).n_out, batch.row)
        if stage.errors:
            errors_block(call, batch, i, to)
        for l in range(stage.backward_from, stage.backward_to - 1, -1):
            backward_block(call, l, i, to, 0, layer_of(call, l).n_out, batch.row)


@compiler.block
def input_block(call, batch, lo, hi):
    """a[0] and targets of samples lo..hi of a piece; targets first, as they may be the old a[0]."""
    layer, n_out = layer_of(call, 0), layer_of(call, call.n_layers - 1).n_out
    n_in, ld, first, row = layer.n_in, layer.ld_input, batch.first + lo, batch.row + lo
    rows, targets = ahead(call.buffers, layer.input + lo * ld), ahead(call.targets, lo * n_out)
    if call.t.kind == LABELS:
        gather_labels(call, first, targets, hi - lo, n_out)
    elif call.t.kind != NONE:
        gather(call, call.t, first, targets, hi - lo, n_out, n_out)
    if NONE < call.x.kind < SPARSE:
        gather(call, call.x, first, rows, hi - lo, n_in, ld)
    if layer.augmentation != 0:
        augment(layer.augmentation, layer.key, row, rows, hi - lo, ld)
    if layer.noise > 0:
        add_noise(layer.key, row, layer.noise, rows, hi - lo, n_in, ld)
    drop_sent(call, 0, rows, row, 0, hi - lo, n_in)


@compiler.inlined
def checks_block(call, batch, lo, hi):
    """Set the cost of samples lo..hi to 0, or to NaN if a gathered number is not finite."""
    layer = layer_of(call, 0)
    for i in range(lo, hi):
        row = ahead(call.buffers, layer.input + i * layer.ld_input)
        call.costs[batch.gone + i] = 0.0 if are_finite(row, layer.n_in) else np.nan


@compiler.block
def errors_block(call, batch, lo, hi):
    """Output error of samples lo..hi, times their weights; a factor makes the mean weight 1, as weights may exceed the
    range of a float32. Meanwhile the samples of the next piece are fetched."""
    layer, n_in, t = layer_of(call, call.n_layers - 1), layer_of(call, 0).n_in, call.t
    n_out, later, costs = layer.n_out, batch.first + batch.n, ahead(call.costs, batch.gone)
    for i in range(lo, hi, PREFETCHED):
        end = min(i + PREFETCHED, hi)
        for sample in range(later + i, min(later + end, call.n_order)):
            prefetch_row(call.x, call.order[sample], n_in)
            prefetch_row(t, call.order[sample], 1 if t.kind == LABELS else n_out)
        output_error_block(call, call.targets, costs, call.loss, i, end)
        for k in range(i, end if call.n_weights else i):
            weight = call.weights[number_of(call, batch.first + k)] * batch.factor
            costs[k] = weight * costs[k] if weight > 0 else 0.0  # with weight 0 the cost may be NaN
            delta = ahead(call.buffers, layer.delta + k * layer.ld)
            for j in range(n_out):
                delta[j] = delta[j] * number(delta, weight) if weight > 0 else number(delta, 0)


@compiler.inlined
def outputs_part(call, batch, lo, hi):
    """OUTPUTS: a[L] of samples lo..hi into their rows."""
    layer = layer_of(call, call.n_layers - 1)
    n_out, ld = layer.n_out, layer.ld
    for i in range(lo, hi):
        to, a = ahead(call.outputs, (batch.first + i) * n_out), ahead(call.buffers, layer.a + i * ld)
        for j in range(n_out):
            to[j] = a[j]


# Stages by neurons.

@compiler.inlined
def neurons_part(call, stage, batch, part):
    """NEURONS: a layer forward, by its neurons."""
    n_out = layer_of(call, stage.begin).n_out
    lo, hi = bounds(call, n_out, part, neuron_grain(n_out, call.threads), 0)
    if lo < hi:
        forward_block(call, stage.begin, 0, batch.n, lo, hi, batch.row)
    return (hi - lo) / n_out


@compiler.inner
def neuron_grain(n, threads):
    """Return the grain in which the `n` neurons of a layer are shared out: whole panels of the tile that skips zeros,
    or less if a thread would get fewer than two panels."""
    grain = NEURON_GRAIN
    while grain > LEAST_GRAIN and (n + grain - 1) // grain < 2 * threads:
        grain //= 2
    return grain


# Stages by rows of W.

@compiler.block
def weights_part(call, stage, batch, part, room):
    """WEIGHTS: returns the share of the weights of all layers of the stage."""
    weights = turn = 0
    for l in range(stage.begin, stage.end):
        layer = layer_of(call, l)
        grain = neuron_grain(layer.n_in, call.threads) if stage.backward_from >= stage.backward_to else ROW_GRAIN
        lo, hi = bounds(call, layer.n_in, part, grain, turn)
        weights_block(call, stage, batch, l, lo, hi, room)
        weights += (hi - lo) * layer.n_out
        turn += (layer.n_in + grain - 1) // grain
    return weights / (layer_of(call, stage.end - 1).b - layer_of(call, stage.begin).w)


@compiler.block
def weights_block(call, stage, batch, l, lo, hi, room):
    """Gradient of rows lo..hi of W[l], with the last row also of b[l], by as many rows as stay in cache; and their
    update, if the gradient is complete."""
    layer, updates = layer_of(call, l), stage.updates and batch.changes
    w, n_out, rows = layer.w, layer.n_out, rows_near(layer.n_out)
    at_once = max(1, NUMBERS_NEAREST // n_out) if is_outer_product(batch) else rows
    for i in range(lo, hi, rows):
        end = min(i + rows, hi)
        if stage.backward_from >= stage.backward_to:
            backward_block(call, l - 1, 0, batch.n, i, end, batch.row)
        for k in range(i, end if layer.frozen == 0 else i, at_once):
            to, begin = min(k + at_once, end), w + k * n_out
            place = room.scratch if room.scratch >= 0 else begin
            length = summed_gradients(call, batch, l, k, to, place, room)
            if updates:
                update_block(call, begin, ahead(call.gradient, place), length, (to - k) * n_out, batch.rates)


@compiler.block
def summed_gradients(call, batch, l, lo, hi, place, room):
    """`weight_gradients_block` of a piece, into call.gradient from `place` on. With room.block >= 0, chains of CHAIN
    samples are computed there and added with compensation for rounding errors (Kahan 1965).

    With one running float32 sum, the mean over 100,000 equal samples has a relative error of 1e-3, over a million
    9e-3; this sum at most 1e-6 for any number, the error of a chain. Chains begin and end at the same samples for any
    number of threads.
    """
    chained, length = room.block >= 0, 0
    each = CHAIN if chained else batch.n
    for first in range(0, batch.n, each):
        samples = Summed(first, min(each, batch.n - first), batch.scale, batch.fresh or chained)
        length = weight_gradients_block(call, l, lo, hi, ahead(call.gradient, room.block if chained else place),
                                        samples)
        if chained:
            add_exactly(ahead(call.gradient, place), ahead(call.gradient, room.lost + place),
                        ahead(call.gradient, room.block), length, batch.fresh and first == 0)
    return length


# Stages after the last piece, if the norm of the gradient or of a neuron's weights is bounded.

@compiler.rare
def bound_part(call, kind, rates, part, scratch):
    """NORMS, UPDATE, LIMIT."""
    turn = 0
    if kind == UPDATE:
        rates = Rates(rates.eta, rates.rate, rates.unbias, rates.epsilon, rates.rate_of_gradient, rates.l2,
                      clipping_factor(call))
    for l in range(call.n_layers):
        layer = layer_of(call, l)
        n = layer.n_out if kind == LIMIT else layer.n_in
        lo, hi = bounds(call, n, part, ROW_GRAIN, turn)
        turn += (n + ROW_GRAIN - 1) // ROW_GRAIN
        if layer.frozen or lo == hi:
            continue
        if kind == NORMS:
            norms_block(call, l, lo, hi)
        elif kind == UPDATE:
            clipped_block(call, l, rates, lo, hi)
        else:
            limit_block(call, l, ahead(call.gradient, scratch if scratch >= 0 else layer.w + lo), lo, hi)


@compiler.inlined
def norms_block(call, l, lo, hi):
    """Norms of dW[l], rows lo to hi, for each ROW_GRAIN rows, and of db[l] with the last of them: the same sums for any
    number of threads."""
    norms, layer = norms_of(call, l), layer_of(call, l)
    for i in range(lo, hi, ROW_GRAIN):
        begin, end = layer.w + i * layer.n_out, rows_end(layer, min(i + ROW_GRAIN, hi))
        call.gradient[norms + i // ROW_GRAIN] = norm(ahead(call.gradient, begin), end - begin)


@compiler.inlined
def clipped_block(call, l, rates, lo, hi):
    """Update rows lo..hi of W[l], and b[l] with the last of them; the gradient is laid out like theta."""
    layer = layer_of(call, l)
    rows = max(1, NEAR // layer.n_out)
    for i in range(lo, hi, rows):
        begin, end = layer.w + i * layer.n_out, rows_end(layer, min(i + rows, hi))
        update_block(call, begin, ahead(call.gradient, begin), end - begin, min(end, layer.b) - begin, rates)


@compiler.inlined
def limit_block(call, l, factors, lo, hi):
    """Scale the incoming weights of neurons lo..hi to at most their bound; then update their part of the parameters'
    mean, if there is one. factors (hi - lo,): overwritten."""
    layer, bound, n = layer_of(call, l), number(call.theta, call.rule.max_norm), hi - lo
    n_in, n_out = layer.n_in, layer.n_out
    for j in range(n):
        factors[j] = 0
    for i in range(n_in):
        row = ahead(call.theta, layer.w + i * n_out + lo)
        for j in range(n):
            factors[j] += row[j] * row[j]
    for j in range(n):
        length = np.sqrt(factors[j])
        if not np.isfinite(length):
            length = number(factors, scaled_norm(ahead(call.theta, layer.w + lo + j), n_out, n_in))
        factors[j] = bound / length if length > bound else number(factors, 1)
    for i in range(n_in + 1):
        begin = layer.w + i * n_out + lo
        row = ahead(call.theta, begin)
        for j in range(n if i < n_in else 0):
            row[j] *= factors[j]
        if call.rule.ema_decay > 0:
            move_mean(call, begin, n)


@compiler.inlined
def rows_end(layer, hi):
    """Return where rows of W[l] up to `hi` end in theta, including b[l] after the last row."""
    return layer.w + (hi + (hi == layer.n_in)) * layer.n_out


@compiler.inlined
def norm(g, n):
    """Return the Euclidean norm, from four interleaved sums in float64; if they overflow or underflow, from scaled
    numbers."""
    a = b = c = d = 0.0
    whole = n // 4 * 4
    for i in range(0, whole, 4):
        a += np.float64(g[i]) * np.float64(g[i])
        b += np.float64(g[i + 1]) * np.float64(g[i + 1])
        c += np.float64(g[i + 2]) * np.float64(g[i + 2])
        d += np.float64(g[i + 3]) * np.float64(g[i + 3])
    for i in range(whole, n):
        a += np.float64(g[i]) * np.float64(g[i])
    squares = (a + b) + (c + d)
    return math.sqrt(squares) if 1e-280 < squares < np.inf else scaled_norm(g, 1, n)


@compiler.inner
def scaled_norm(v, step, n):
    """Return the norm of v[0], v[step], ..., `n` numbers of any size; NaN or infinity if one of them is."""
    most = 0.0
    for i in range(n):
        most = max(most, abs(np.float64(v[i * step])))
    if most == 0:
        most = 1.0
    squares = 0.0
    for i in range(n):
        squares += (np.float64(v[i * step]) / most) ** 2
    return most * math.sqrt(squares)


@compiler.inner
def norms_of(call, l):
    """Return where the norms of layer l's gradient are: after the whole gradient and the norms of earlier layers."""
    last = layer_of(call, call.n_layers - 1)
    place = last.b + last.n_out
    for k in range(l):
        place += (layer_of(call, k).n_in + ROW_GRAIN - 1) // ROW_GRAIN
    return place


@compiler.inlined
def clipping_factor(call):
    """Return the factor that limits the norm of the gradient; NaN, which is then noticed in theta, if the norm exceeds
    the range of its type."""
    bound, squares, most = call.rule.clip_norm, 0.0, 0.0
    for l in range(call.n_layers):
        for i in range(norms_of(call, l), norms_of(call, l + 1) if layer_of(call, l).frozen == 0 else 0):
            most = max(most, np.float64(call.gradient[i]))
    for l in range(call.n_layers):
        for i in range(norms_of(call, l), norms_of(call, l + 1) if layer_of(call, l).frozen == 0 and most > 0 else 0):
            squares += (np.float64(call.gradient[i]) / most) ** 2
    total = most * math.sqrt(squares)
    return bound / total if bound < total < np.inf else 1.0 if total <= bound else np.nan
