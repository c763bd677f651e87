"""Derivatives beyond the gradient of a cost: along a direction of theta, of outputs, and with respect to inputs.

R is the derivative with respect to r at theta + r v, r = 0, for a direction v laid out like theta, with parts V and Vb.
It obeys the usual rules of differentiation, so each equation has a counterpart (Pearlmutter: Fast Exact Multiplication
by the Hessian, Neural Computation 1994, section 3); R{a[0]} = 0:

    R{z[l]} = a[l-1] V[l] + Vb[l] + R{a[l-1]} W[l]
    R{a[l]} = f'(z[l]) ∘ R{z[l]}
    R{slope[l]} = R{delta[l+1]} W[l+1]ᵀ + delta[l+1] V[l+1]ᵀ, of slope[l] = delta[l+1] W[l+1]ᵀ
    R{delta[l]} = R{slope[l]} ∘ f'(z[l]) + slope[l] ∘ f''(z[l]) ∘ R{z[l]}
    R{dW[l]} = a[l-1]ᵀ R{delta[l]} + R{a[l-1]}ᵀ delta[l], R{db[l]} = sum of R{delta[l]}

R{z}, R{a} and R{delta} lie in call.tangents as z, a and delta do in call.buffers. A call is a slip like those of
`engine.run`; it does what its `purpose` says, piece by piece of its samples.
"""

from __future__ import annotations

import math

from fastbp.core import compiler
from fastbp.core.activations import differentiate_error, multiply_by_prime
from fastbp.core.call import Batch, Net, Part, Summed, layer_of
from fastbp.core.costs import NO_LOSS, Outputs, costs_and_errors, costs_and_tangents
from fastbp.core.engine import input_block, norms_of, room_of
from fastbp.core.equations import (
    CHAIN,
    ROW_GRAIN,
    add_exactly,
    backward_block,
    forward_block,
    outer_product,
    rows_near,
    weight_gradients_block,
)
from fastbp.core.product import LOOK, TILE_HEIGHT, Shape, product, repeated_zero
from fastbp.core.rules import NO_RATES
from fastbp.core.simd.denormals import flush_denormals, restore_denormals
from fastbp.core.simd.matrix import rows_of, transposed
from fastbp.core.simd.memory import ahead, number
from fastbp.core.simd.tile import add_rows
from fastbp.core.threads.board import done, even_share, take, wait

# Purposes of a call, with other numbers than those of the engine. Results in outputs, one row per sample: R{a[L]};
# dE/dX; the gradient with respect to theta; only its norm. In gradient, summed over samples: dW, db; R{dW}, R{db}.
OUTPUT_TANGENTS, INPUT_GRADIENTS, SAMPLE_GRADIENTS, SAMPLE_NORMS, GRADIENT, GRADIENT_TANGENT = range(10, 16)
GRADIENT_AND_INPUTS = 16  # both GRADIENT and INPUT_GRADIENTS
NO_COST = NO_LOSS.code  # for a call whose targets are dE/da[L] themselves


@compiler.apart
def one_thread(call, own):
    """Do the share of thread `own` of a call: for each piece, parts by samples, then parts by rows of W.

    The cost in step_costs becomes NaN if the cost of a sample is not finite.
    """
    control, threads = flush_denormals(), call.threads
    room, sums, phase = room_of(call, own), call.purpose >= GRADIENT, 0
    for first in range(0, call.n_samples, call.piece):
        n = min(call.piece, call.n_samples - first)
        batch = Batch(first, 0, n, n, 0, 1.0, 1.0, 1.0, first == 0, True, False, NO_RATES)
        for by_rows in range(2 if sums else 1):
            phase += 1
            for other in range(threads):
                part = Part((own + other) % threads, threads)
                if take(call.board, part.number, phase):
                    if by_rows:
                        gradient_part(call, batch, part, room)
                    else:
                        samples_part(call, batch, part)
                    done(call.board, call.n_board)
            wait(call.board, call.n_board, phase * threads)
    restore_denormals(control)


@compiler.inlined
def tangent_of(call):
    """Return the network of V, Vb, R{z}, R{a} and R{delta}."""
    return Net(call.direction, call.layers, call.n_layers, call.tangents)


@compiler.block
def samples_part(call, batch, part):
    """Do the work by samples for one part of the samples of a piece."""
    lo, hi = even_share(batch.n, part.number, part.of, TILE_HEIGHT)
    if lo == hi:
        return
    twice, last = call.purpose == GRADIENT_TANGENT, call.n_layers - 1
    input_block(call, batch, lo, hi)
    for l in range(call.n_layers):
        forward_block(call, l, lo, hi, 0, layer_of(call, l).n_out, 0)
        if twice or call.purpose == OUTPUT_TANGENTS:
            forward_tangent_block(call, tangent_of(call), l, lo, hi)
    if call.purpose == OUTPUT_TANGENTS:
        layer = layer_of(call, last)
        copy_rows(ahead(call.tangents, layer.a + lo * layer.ld), layer.ld,
                  ahead(call.outputs, (batch.first + lo) * layer.n_out), layer.n_out, hi - lo, layer.n_out)
        return
    output_block(call, tangent_of(call), batch.first, lo, hi)
    for l in range(last - 1, -1, -1):
        if twice:
            backward_tangent_block(call, tangent_of(call), l, lo, hi)
        else:
            backward_block(call, l, lo, hi, 0, layer_of(call, l).n_out, 0)
    if call.purpose < GRADIENT or call.purpose == GRADIENT_AND_INPUTS:
        results_block(call, batch.first, lo, hi)


@compiler.inlined
def copy_rows(source, ld_source, to, ld, n_rows, n):
    for i in range(n_rows):
        for j in range(n):
            to[i * ld + j] = source[i * ld_source + j]


@compiler.block
def forward_tangent_block(net, tangent, l, lo, hi):
    """R{z[l]} and R{a[l]} of samples lo..hi: both overwritten."""
    layer, one = layer_of(net, l), number(net.theta, 1)
    n, ld, shape = layer.n_out, layer.ld, Shape(hi - lo, layer.n_out, layer.n_in)
    Rz = rows_of(tangent.buffers, layer.z, ld, lo)
    V = rows_of(tangent.theta, layer.w, n, 0)
    product(Rz, rows_of(net.buffers, layer.input, layer.ld_input, lo), V, shape,
            rows_of(tangent.theta, layer.b, 0, 0), one, LOOK)
    if l > 0:
        W = rows_of(net.theta, layer.w, n, 0)
        product(Rz, rows_of(tangent.buffers, layer.input, layer.ld_input, lo), W, shape, Rz, one, LOOK)
    z, a, Ra = (ahead(net.buffers, layer.z + lo * ld), ahead(net.buffers, layer.a + lo * ld),
                ahead(tangent.buffers, layer.a + lo * ld))
    copy_rows(Rz.data, ld, Ra, ld, hi - lo, n)
    multiply_by_prime(layer.activation, z, a, Ra, hi - lo, n, ld)  # softmax's Jacobian is its own transpose


@compiler.block
def output_block(call, tangent, first, lo, hi):
    """delta[L] of samples lo..hi, times their weights, and their costs; without a loss, targets are dE/da[L].

    R{delta[L]} likewise, if the purpose needs it. first: index of sample 0."""
    layer = layer_of(call, call.n_layers - 1)
    n, ld, n_rows = layer.n_out, layer.ld, hi - lo
    z, a, delta = (ahead(call.buffers, layer.z + lo * ld), ahead(call.buffers, layer.a + lo * ld),
                   ahead(call.buffers, layer.delta + lo * ld))
    t, costs, outputs = ahead(call.targets, lo * n), ahead(call.costs, lo), Outputs(z, a, delta, n_rows, n, ld)
    Rdelta = delta
    if call.loss.code == NO_COST:
        copy_rows(t, n, delta, ld, n_rows, n)
        multiply_by_prime(layer.activation, z, a, delta, n_rows, n, ld)
    elif call.purpose == GRADIENT_TANGENT:
        Rdelta = ahead(tangent.buffers, layer.delta + lo * ld)
        Rz, Ra = ahead(tangent.buffers, layer.z + lo * ld), ahead(tangent.buffers, layer.a + lo * ld)
        costs_and_tangents(call.loss, layer.activation, outputs, (Rz, Ra, Rdelta), t, costs)
    else:
        costs_and_errors(call.loss, layer.activation, outputs, t, costs)
    for i in range(n_rows if call.n_weights else 0):
        weight = number(delta, call.weights[first + lo + i])
        weigh(weight, ahead(delta, i * ld), ahead(Rdelta, i * ld), ahead(costs, i), n)
    for i in range(n_rows if call.loss.code != NO_COST else 0):
        if not math.isfinite(costs[i]):
            call.step_costs[0] = math.nan


@compiler.inlined
def weigh(weight, delta, Rdelta, cost, n):
    """Multiply one sample's errors by its weight; with weight 0 they may be NaN. delta and Rdelta may be the same."""
    if not weight > 0:
        cost[0] = 0.0
    for j in range(n):
        error = delta[j]
        Rdelta[j] = weight * Rdelta[j] if weight > 0 else number(delta, 0)
        delta[j] = weight * error if weight > 0 else number(delta, 0)


@compiler.block
def backward_tangent_block(net, tangent, l, lo, hi):
    """delta[l] and R{delta[l]} of samples lo..hi: both overwritten."""
    layer, after, one = layer_of(net, l), layer_of(net, l + 1), number(net.theta, 1)
    n, ld, shape = layer.n_out, layer.ld, Shape(hi - lo, layer.n_out, after.n_out)
    W, V = rows_of(net.theta, after.w, after.n_out, 0), rows_of(tangent.theta, after.w, after.n_out, 0)
    received = rows_of(net.buffers, after.delta, after.ld, lo)
    delta, Rdelta = rows_of(net.buffers, layer.delta, ld, lo), rows_of(tangent.buffers, layer.delta, ld, lo)
    zero = repeated_zero(W)
    product(delta, received, transposed(W), shape, zero, one, LOOK)
    product(Rdelta, rows_of(tangent.buffers, after.delta, after.ld, lo), transposed(W), shape, zero, one, LOOK)
    product(Rdelta, received, transposed(V), shape, Rdelta, one, LOOK)
    z, a = ahead(net.buffers, layer.z + lo * ld), ahead(net.buffers, layer.a + lo * ld)
    Rz, Ra = ahead(tangent.buffers, layer.z + lo * ld), ahead(tangent.buffers, layer.a + lo * ld)
    differentiate_error(layer.activation, (z, a, Rz, Ra, delta.data, Rdelta.data), hi - lo, n, ld)


@compiler.block
def results_block(call, first, lo, hi):
    """Write the rows of outputs for samples lo..hi from their delta: NaN if the cost is not finite. first: as above."""
    layer, n = layer_of(call, 0), call.n_parameters
    W, place = rows_of(call.theta, layer.w, layer.n_out, 0), first + lo
    if call.purpose == INPUT_GRADIENTS or call.purpose == GRADIENT_AND_INPUTS:
        n = layer.n_in
        product(rows_of(call.outputs, 0, n, place), rows_of(call.buffers, layer.delta, layer.ld, lo), transposed(W),
                Shape(hi - lo, n, layer.n_out), repeated_zero(W), number(call.theta, call.x.scale), LOOK)
    elif call.purpose == SAMPLE_NORMS:
        n = 1
    for i in range(lo, hi):
        row = ahead(call.outputs, (first + i) * n)
        if call.purpose == SAMPLE_GRADIENTS:
            sample_gradient(call, i, row)
        elif call.purpose == SAMPLE_NORMS:
            row[0] = number(row, sample_norm(call, i))
        if call.loss.code != NO_COST and not math.isfinite(call.costs[i]):
            for j in range(n):
                row[j] = number(row, math.nan)


@compiler.inlined
def sample_gradient(call, i, gradient):
    """dW[l] = a[l-1] delta[l]ᵀ and db[l] = delta[l] of sample i."""
    for l in range(call.n_layers):
        layer = layer_of(call, l)
        delta = ahead(call.buffers, layer.delta + i * layer.ld)
        outer_product(ahead(gradient, layer.w), ahead(call.buffers, layer.input + i * layer.ld_input), layer.n_in,
                      delta, layer.n_out, number(gradient, 1))
        copy_rows(delta, 0, ahead(gradient, layer.b), 0, 1, layer.n_out)


@compiler.inlined
def sample_norm(call, i):
    """The root of sum over l of (|a[l-1]|² + 1) |delta[l]|²: an outer product's norm is that of its factors."""
    total = 0.0
    for l in range(call.n_layers):
        layer = layer_of(call, l)
        total += ((squares(ahead(call.buffers, layer.input + i * layer.ld_input), layer.n_in) + 1)
                  * squares(ahead(call.buffers, layer.delta + i * layer.ld), layer.n_out))
    return math.sqrt(total)


@compiler.inner
def squares(v, n):
    """|v|² in float64, from four interleaved sums."""
    a = b = c = d = 0.0
    whole = n // 4 * 4
    for i in range(0, whole, 4):
        a += 1.0 * v[i] * v[i]
        b += 1.0 * v[i + 1] * v[i + 1]
        c += 1.0 * v[i + 2] * v[i + 2]
        d += 1.0 * v[i + 3] * v[i + 3]
    for i in range(whole, n):
        a += 1.0 * v[i] * v[i]
    return (a + b) + (c + d)


@compiler.block
def gradient_part(call, batch, part, room):
    """dW and db, or R{dW} and R{db}, of every layer, for a part of the rows of each W: added to those of the pieces
    before, as in `engine.summed_gradients`."""
    chained, lost = room.block >= 0, norms_of(call, call.n_layers)
    each = CHAIN if chained else batch.n
    for l in range(call.n_layers):
        layer = layer_of(call, l)
        begin, end = even_share(layer.n_in, part.number, part.of, ROW_GRAIN)
        rows = rows_near(layer.n_out)
        for lo in range(begin, end, rows):
            hi, place = min(lo + rows, end), layer.w + lo * layer.n_out
            for first in range(0, batch.n, each):
                samples = Summed(first, min(each, batch.n - first), 1.0, batch.fresh or chained)
                length = rows_block(call, l, lo, hi, ahead(call.gradient, room.block if chained else place), samples)
                if chained:
                    add_exactly(ahead(call.gradient, place), ahead(call.gradient, lost + place),
                                ahead(call.gradient, room.block), length, batch.fresh and first == 0)


@compiler.block
def rows_block(call, l, lo, hi, dW, samples):
    """dW and db by `weight_gradients_block`; or R{dW} and R{db}."""
    if call.purpose != GRADIENT_TANGENT:
        return weight_gradients_block(call, l, lo, hi, dW, samples)
    layer, one, n, first = layer_of(call, l), number(dW, 1), samples.n, samples.first
    n_out, to, tangent = layer.n_out, rows_of(dW, 0, layer.n_out, 0), tangent_of(call)
    shape, length = Shape(hi - lo, n_out, n), (hi - lo) * n_out
    sent, Rdelta = (rows_of(call.buffers, layer.input + lo, layer.ld_input, first),
                    rows_of(tangent.buffers, layer.delta, layer.ld, first))
    product(to, transposed(sent), Rdelta, shape, repeated_zero(to) if samples.fresh else to, one, LOOK)
    if l > 0:
        sent = rows_of(tangent.buffers, layer.input + lo, layer.ld_input, first)
        product(to, transposed(sent), rows_of(call.buffers, layer.delta, layer.ld, first), shape, to, one, LOOK)
    if hi < layer.n_in:
        return length
    db = ahead(dW, length)
    for j in range(n_out if samples.fresh else 0):
        db[j] = 0
    add_rows(db, Rdelta.data, Rdelta.row, n, n_out, one)
    return length + n_out
