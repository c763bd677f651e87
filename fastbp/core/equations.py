"""The five equations over whole networks: arrays in, arrays out, nothing allocated. The page to read second.

A network is a flat parameter vector `theta` and an integer table `layers`, one row a layer; z, a and delta of every
layer lie in one flat vector `buffers` at the places given by the table. A block works on a range of samples or of rows
of W of a `net`: the slip of a call, or a Net. A driver distributes ranges to threads and is compiled twice from one
source, parallel and serial. No two threads write the same number. The only sum over all threads, the norm of the
gradient, is added in a fixed order: so every thread count gives the same bits.
"""

from __future__ import annotations

from numba import prange

from fastbp.core import compiler
from fastbp.core.activations import WHOLE, activate, multiply_by_prime
from fastbp.core.call import DELTA, INPUT, LD, LD_INPUT, N_IN, N_OUT, A, B, Net, Neurons, Summed, W, Z, layer_of
from fastbp.core.costs import Outputs, costs_and_errors
from fastbp.core.noise import drop
from fastbp.core.product import LOOK, NUMBERS_NEAR, TILE_HEIGHT, Shape, product, repeated_zero
from fastbp.core.simd.cpu import DEPTH
from fastbp.core.simd.matrix import rows_of, transposed
from fastbp.core.simd.memory import ahead, at, number
from fastbp.core.simd.tile import add_rows
from fastbp.core.simd.vectors import fma
from fastbp.core.threads.board import even_share

# Samples of a large mini-batch, and a panel's depth of them for each thread; of more, gradients are sums of chains.
LEAST_AT_ONCE = 2 * DEPTH
CHAIN = 64  # samples of a large mini-batch whose gradients are summed in one chain, see summed_gradients
ROW_GRAIN = 16  # rows of W that are shared out together: whole cache lines for any n_out
WHOLE_PANELS = 64  # rows of W: a multiple of dense panels of every width


@compiler.inlined
def rows_near(n_out):
    """Return how many rows of W stay in a core's cache while they are worked on."""
    return max(1, NUMBERS_NEAR // n_out // WHOLE_PANELS) * WHOLE_PANELS


@compiler.inlined
def piece_of(n, most):
    """Return how many samples of a mini-batch of `n` go through the network at once: up to `most`, or LEAST_AT_ONCE, in
    pieces of nearly equal size that end where chains end."""
    most = max(most, LEAST_AT_ONCE)
    pieces = (n + most - 1) // most
    grain = CHAIN if n > LEAST_AT_ONCE else TILE_HEIGHT
    return min(n, ((n + pieces - 1) // pieces + grain - 1) // grain * grain)


@compiler.inlined
def drop_sent(net, l, rows, row, first, n_rows, n):
    """Apply dropout to the input of layer l, if it has one: to row `row` and the next ones, from neuron `first` on."""
    layer = layer_of(net, l)
    if layer.dropout > 0:
        drop(layer.key, row, first, layer.dropout, rows, n_rows, n, layer.ld_input)


@compiler.block
def forward_block(net, l, lo, hi, first, end, row):
    """z[l] = a[l-1] W[l] + b[l], a[l] = f(z[l]) for samples lo..hi, neurons first..end: both overwritten.

    row: the row of sample 0 for `drop`: elements of a[l] that layer l + 1 drops become 0.
    """
    layer, one = layer_of(net, l), number(net.theta, 1)
    n_rows, n, ld = hi - lo, end - first, layer.ld
    sent = rows_of(net.buffers, layer.input, layer.ld_input, lo)
    weights, biases = rows_of(net.theta, layer.w + first, layer.n_out, 0), rows_of(net.theta, layer.b + first, 0, 0)
    z, a = rows_of(net.buffers, layer.z + first, ld, lo), ahead(net.buffers, layer.a + first + lo * ld)
    product(z, sent, weights, Shape(n_rows, n, layer.n_in), biases, one, LOOK)
    activate(layer.activation, z.data, a, n_rows, n, ld)
    if l + 1 < net.n_layers:
        drop_sent(net, l + 1, a, row + lo, first, n_rows, n)


@compiler.inlined
def output_error_block(net, targets, costs, loss, lo, hi):
    """delta[L] = dE/dz[L] and the cost of each of the samples lo..hi: both overwritten.

    targets (n, n_out); costs (n,) float64.
    """
    layer = layer_of(net, net.n_layers - 1)
    ld, n_out = layer.ld, layer.n_out
    outputs = Outputs(ahead(net.buffers, layer.z + lo * ld), ahead(net.buffers, layer.a + lo * ld),
                      ahead(net.buffers, layer.delta + lo * ld), hi - lo, n_out, ld)
    costs_and_errors(loss, layer.activation, outputs, ahead(targets, lo * n_out), ahead(costs, lo))


@compiler.block
def backward_block(net, l, lo, hi, first, end, row):
    """delta[l] = (delta[l+1] W[l+1]ᵀ) ∘ f'(z[l]) for samples lo..hi, neurons first..end: overwritten. As in
    `forward_block`, dropped elements are 0."""
    layer, after, one = layer_of(net, l), layer_of(net, l + 1), number(net.theta, 1)
    n_rows, n, ld = hi - lo, end - first, layer.ld
    received = rows_of(net.buffers, after.delta, after.ld, lo)
    weights = rows_of(net.theta, after.w, after.n_out, first)
    delta = rows_of(net.buffers, layer.delta + first, ld, lo)
    product(delta, received, transposed(weights), Shape(n_rows, n, after.n_out), repeated_zero(weights), one, LOOK)
    z, a = ahead(net.buffers, layer.z + first + lo * ld), ahead(net.buffers, layer.a + first + lo * ld)
    drop_sent(net, l + 1, delta.data, row + lo, first, n_rows, n)
    again = after.dropout > 0 and layer.activation in WHOLE
    if again:
        activate(layer.activation, z, a, n_rows, n, ld)
    multiply_by_prime(layer.activation, z, a, delta.data, n_rows, n, ld)
    if again:
        drop_sent(net, l + 1, a, row + lo, first, n_rows, n)


@compiler.inlined
def is_outer_product(samples):
    """Whether dW is computed as an outer product: for a single sample, cutting it into tiles would take longer."""
    return samples.n == 1 and samples.fresh


@compiler.inlined
def outer_product(dW, sent, n_in, error, n_out, factor):
    """dW = sent (factor error)ᵀ, bit-identical to a `product` with depth 1."""
    zero = number(dW, 0)
    for i in range(n_in):
        row = ahead(dW, i * n_out)
        for j in range(n_out):
            row[j] = fma(sent[i], factor * error[j], zero) + zero  # as a tile stores it: 0 for -0


@compiler.block
def weight_gradients_block(net, l, lo, hi, dW, samples):
    """Rows lo..hi (sending neurons) of dW[l] = scale a[l-1]ᵀ delta[l] over some samples (see Summed); after the layer's
    last row, db[l] = scale times the sum of delta[l]. Overwritten, or added to unless `fresh`.

    dW: where row lo begins. Returns the number of elements, including db.
    """
    layer, factor, first, n = layer_of(net, l), number(dW, samples.scale), samples.first, samples.n
    n_out, to = layer.n_out, rows_of(dW, 0, layer.n_out, 0)
    sent = rows_of(net.buffers, layer.input + lo, layer.ld_input, first)
    error = rows_of(net.buffers, layer.delta, layer.ld, first)
    if is_outer_product(samples):
        outer_product(dW, sent.data, hi - lo, error.data, n_out, factor)
    else:
        product(to, transposed(sent), error, Shape(hi - lo, n_out, n), repeated_zero(to) if samples.fresh else to,
                factor, LOOK)
    length = (hi - lo) * n_out
    if hi < layer.n_in:
        return length
    db = ahead(dW, length)
    if samples.fresh:
        for j in range(n_out):
            db[j] = 0
    add_rows(db, error.data, error.row, n, n_out, factor)
    return length + n_out


@compiler.inlined
def add_exactly(total, lost, term, n, fresh):
    """Add term to total, where `lost` is the excess of total by rounding; both are overwritten if `fresh`."""
    if fresh:
        for i in range(n):
            total[i], lost[i] = term[i], 0
    else:
        for i in range(n):
            more = term[i] - lost[i]
            after = total[i] + more
            lost[i] = (after - total[i]) - more
            total[i] = after


@compiler.inlined
def net_of(theta, layers, buffers):
    return Net(at(theta, 0), at(layers, 0), len(layers), at(buffers, 0))


@compiler.inlined
def neurons_of(layers, buffers):
    return Neurons(at(layers, 0), len(layers), at(buffers, 0))


@compiler.inner
def check_rows(layers, buffers, n, threads):
    """Raise ValueError unless each part of `buffers` has room for n samples; the table says where each begins."""
    if threads < 1:
        raise ValueError("threads must be at least 1")
    end, room = buffers.size, 1 <= n <= buffers.size  # otherwise n LD may overflow
    for l in range(len(layers) - 1, -1, -1):
        z, a, delta, length = layers[l, Z], layers[l, A], layers[l, DELTA], n * layers[l, LD]
        room = room and z + length <= a and a + length <= delta and delta + length <= end
        end = z
        room = room and layers[l, INPUT] >= 0 and layers[l, INPUT] + n * layers[l, LD_INPUT] <= end
    if not room:
        raise ValueError("n must be at least 1 and at most the number of samples that the buffers hold")


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
            forward_block(net_of(theta, layers, buffers), l, lo, hi, 0, layers[l, N_OUT], 0)


def _output_error(layers, buffers, targets, costs, loss, n, threads):
    """Output error: delta[L] and the costs of the first `n` samples."""
    check_rows(layers, buffers, n, threads)
    if targets.size < n * layers[len(layers) - 1, N_OUT] or costs.size < n:
        raise ValueError("targets and costs must have a row for each of the n samples")
    for c in prange(threads):
        lo, hi = even_share(n, c, threads, TILE_HEIGHT)
        output_error_block(neurons_of(layers, buffers), at(targets, 0), at(costs, 0), loss, lo, hi)


def _backward(theta, layers, buffers, n, threads):
    """Backward recurrence: delta[L-1], ..., delta[1] of the first `n` samples, from delta[L]."""
    check_rows(layers, buffers, n, threads)
    check_parameters(theta, layers)
    for c in prange(threads):
        lo, hi = even_share(n, c, threads, TILE_HEIGHT)
        for l in range(len(layers) - 2, -1, -1):
            backward_block(net_of(theta, layers, buffers), l, lo, hi, 0, layers[l, N_OUT], 0)


def _weight_gradients(gradient, layers, buffers, n, threads):
    """Weight gradients: dW[l], db[l] of every layer, averaged over the first `n` samples.

    One running sum in the parameters' type: for thousands of float32 samples, fastbp.cost_and_gradient is more exact.
    """
    check_rows(layers, buffers, n, threads)
    check_parameters(gradient, layers)
    for c in prange(threads):
        for l in range(len(layers)):
            lo, hi = even_share(layers[l, N_IN], c, threads, ROW_GRAIN)
            if lo < hi:
                dW = at(gradient, layers[l, W] + lo * layers[l, N_OUT])
                weight_gradients_block(neurons_of(layers, buffers), l, lo, hi, dW, Summed(0, n, 1 / n, True))


# They raise ValueError before writing anything if n or threads is below 1 or an array is too short.
forward, forward_serial = compiler.twins(_forward)
output_error, output_error_serial = compiler.twins(_output_error)
backward, backward_serial = compiler.twins(_backward)
weight_gradients, weight_gradients_serial = compiler.twins(_weight_gradients)
