"""Derivatives beyond the gradient of a cost, by hand: along a direction of theta, of other outputs, of inputs.

R is the derivative by r at theta + r v, r = 0, for a direction v laid out like theta, whose parts are V and Vb. It
obeys the rules of every derivative, so each equation has one of R (Pearlmutter: Fast Exact Multiplication by the
Hessian, Neural Computation 1994, section 3); R{a[0]} = 0:

    R{z[l]} = a[l-1] V[l] + Vb[l] + R{a[l-1]} W[l]
    R{a[l]} = f'(z[l]) ∘ R{z[l]}
    R{slope[l]} = R{delta[l+1]} W[l+1]ᵀ + delta[l+1] V[l+1]ᵀ, of slope[l] = delta[l+1] W[l+1]ᵀ
    R{delta[l]} = R{slope[l]} ∘ f'(z[l]) + slope[l] ∘ f''(z[l]) ∘ R{z[l]}
    R{dW[l]} = a[l-1]ᵀ R{delta[l]} + R{a[l-1]}ᵀ delta[l], R{db[l]} = sum of R{delta[l]}

R{z}, R{a} and R{delta} lie in call.tangents as z, a and delta do in call.buffers. A call is a slip for `engine.run`,
of a single piece of samples, and does what its `purpose` says; sums over samples are not divided by their number.
"""

from __future__ import annotations

from fastbp.core import compiler
from fastbp.core.activations import differentiate_error, multiply_by_prime
from fastbp.core.call import Batch, Net, Summed, layer_of
from fastbp.core.costs import NO_LOSS, Outputs, costs_and_errors, costs_and_tangents
from fastbp.core.engine import input_block
from fastbp.core.equations import ROW_GRAIN, backward_block, forward_block, rows_near, weight_gradients_block
from fastbp.core.product import LOOK, TILE_HEIGHT, Shape, product, repeated_zero
from fastbp.core.rules import Rates
from fastbp.core.simd.denormals import flush_denormals, restore_denormals
from fastbp.core.simd.matrix import rows_of, transposed
from fastbp.core.simd.memory import ahead, number
from fastbp.core.simd.tile import add_rows
from fastbp.core.threads.board import even_share

# What a call is for. Of samples: R{a[L]} into outputs (n, n_out); delta, and also dE/dX into outputs (n, n_in); delta
# and R{delta}. Then by rows of W, after DELTAS: dW; after DELTA_TANGENTS: R{dW}; both into gradient.
OUTPUT_TANGENTS, DELTAS, INPUT_GRADIENTS, DELTA_TANGENTS, GRADIENT, GRADIENT_TANGENT = range(6)
NO_COST = NO_LOSS.code  # of a call whose targets are dE/da[L] themselves


@compiler.apart
def one_thread(call, own):
    """All that one thread does of a call, as thread `own`."""
    control = flush_denormals()
    if call.purpose == GRADIENT or call.purpose == GRADIENT_TANGENT:
        gradient_part(call, own)
    else:
        lo, hi = even_share(call.n_samples, own, call.threads, TILE_HEIGHT)
        if lo < hi:
            samples_part(call, lo, hi)
    restore_denormals(control)


@compiler.inlined
def tangent_of(call):
    """The network of V, Vb, R{z}, R{a} and R{delta}."""
    return Net(call.direction, call.layers, call.n_layers, call.tangents)


@compiler.block
def samples_part(call, lo, hi):
    """What samples lo..hi need alone."""
    n, last, twice = call.n_samples, call.n_layers - 1, call.purpose == DELTA_TANGENTS
    batch = Batch(0, 0, n, n, 0, 1.0, 1.0, 1.0, True, True, False, Rates(0.0, 0.0, 0.0, 0.0, 1.0))
    input_block(call, batch, lo, hi)
    for l in range(call.n_layers):
        forward_block(call, l, lo, hi, 0, layer_of(call, l).n_out, 0)
        if twice or call.purpose == OUTPUT_TANGENTS:
            forward_tangent_block(call, tangent_of(call), l, lo, hi)
    if call.purpose == OUTPUT_TANGENTS:
        layer = layer_of(call, last)
        copy_rows(ahead(call.tangents, layer.a + lo * layer.ld), layer.ld, ahead(call.outputs, lo * layer.n_out),
                  layer.n_out, hi - lo, layer.n_out)
        return
    output_block(call, tangent_of(call), lo, hi)
    for l in range(last - 1, -1, -1):
        if twice:
            backward_tangent_block(call, tangent_of(call), l, lo, hi)
        else:
            backward_block(call, l, lo, hi, 0, layer_of(call, l).n_out, 0)
    if call.purpose == INPUT_GRADIENTS:
        input_gradients_block(call, lo, hi)


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
def output_block(call, tangent, lo, hi):
    """delta[L] of samples lo..hi, times their weights, and their costs or, without a loss, of dE/da[L] = targets; if
    asked for, R{delta[L]} likewise."""
    layer = layer_of(call, call.n_layers - 1)
    n, ld, n_rows = layer.n_out, layer.ld, hi - lo
    z, a, delta = (ahead(call.buffers, layer.z + lo * ld), ahead(call.buffers, layer.a + lo * ld),
                   ahead(call.buffers, layer.delta + lo * ld))
    t, costs, outputs = ahead(call.targets, lo * n), ahead(call.costs, lo), Outputs(z, a, delta, n_rows, n, ld)
    Rdelta = delta
    if call.loss.code == NO_COST:
        copy_rows(t, n, delta, ld, n_rows, n)
        multiply_by_prime(layer.activation, z, a, delta, n_rows, n, ld)
    elif call.purpose == DELTA_TANGENTS:
        Rdelta = ahead(tangent.buffers, layer.delta + lo * ld)
        Rz, Ra = ahead(tangent.buffers, layer.z + lo * ld), ahead(tangent.buffers, layer.a + lo * ld)
        costs_and_tangents(call.loss, layer.activation, outputs, (Rz, Ra, Rdelta), t, costs)
    else:
        costs_and_errors(call.loss, layer.activation, outputs, t, costs)
    for i in range(n_rows if call.n_weights else 0):
        weigh(number(delta, call.weights[lo + i]), ahead(delta, i * ld), ahead(Rdelta, i * ld), ahead(costs, i), n)


@compiler.inlined
def weigh(weight, delta, Rdelta, cost, n):
    """Of one sample, which without weight may be no number. delta and Rdelta may be one."""
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
def input_gradients_block(call, lo, hi):
    """dE/dX = delta[1] W[1]ᵀ times the scale of X, of samples lo..hi, into outputs (n, n_in)."""
    layer = layer_of(call, 0)
    W, n_in = rows_of(call.theta, layer.w, layer.n_out, 0), layer.n_in
    product(rows_of(call.outputs, 0, n_in, lo), rows_of(call.buffers, layer.delta, layer.ld, lo), transposed(W),
            Shape(hi - lo, n_in, layer.n_out), repeated_zero(W), number(call.theta, call.x.scale), LOOK)


@compiler.block
def gradient_part(call, own):
    """dW and db, or R{dW} and R{db}, of every layer: a thread's share of the rows of each W."""
    for l in range(call.n_layers):
        layer = layer_of(call, l)
        begin, end = even_share(layer.n_in, own, call.threads, ROW_GRAIN)
        rows = rows_near(layer.n_out)
        for lo in range(begin, end, rows):
            hi, dW = min(lo + rows, end), ahead(call.gradient, layer.w + lo * layer.n_out)
            if call.purpose == GRADIENT:
                weight_gradients_block(call, l, lo, hi, dW, Summed(0, call.n_samples, 1.0, True))
            else:
                gradient_tangent_block(call, tangent_of(call), l, lo, hi, dW)


@compiler.block
def gradient_tangent_block(call, tangent, l, lo, hi, dW):
    """Rows lo..hi of R{dW[l]} and, with the last of them, R{db[l]}: overwritten. dW: where row lo begins."""
    layer, one = layer_of(call, l), number(dW, 1)
    n, n_out = call.n_samples, layer.n_out
    to, shape = rows_of(dW, 0, n_out, 0), Shape(hi - lo, n_out, n)
    sent = rows_of(call.buffers, layer.input + lo, layer.ld_input, 0)
    Rdelta = rows_of(tangent.buffers, layer.delta, layer.ld, 0)
    product(to, transposed(sent), Rdelta, shape, repeated_zero(to), one, LOOK)
    if l > 0:
        sent = rows_of(tangent.buffers, layer.input + lo, layer.ld_input, 0)
        product(to, transposed(sent), rows_of(call.buffers, layer.delta, layer.ld, 0), shape, to, one, LOOK)
    if hi == layer.n_in:
        db = ahead(dW, (hi - lo) * n_out)
        for j in range(n_out):
            db[j] = 0
        add_rows(db, Rdelta.data, Rdelta.row, n, n_out, one)
