"""fastbp.core.equations against the equations in plain NumPy; every number of threads gives the same bits."""

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rig import DTYPES, PARALLEL, SERIAL, Net

from fastbp import losses
from fastbp.core import call, compiler, equations, reference, rules
from fastbp.core.activations import SOFTMAX
from fastbp.core.call import ACTIVATION
from fastbp.core.product import NEVER, Matrix, Shape, product, repeated_zero
from fastbp.core.simd.memory import at
from fastbp.core.threads.board import even_share
from fastbp.optimizers import SGD, Adam

CAPACITY = 41
BATCHES = [1, 2, 16, 37, CAPACITY]
# Sizes but for the output's, and the hidden activations. The tiles are 6 or 8 samples high and 4 to 32 neurons wide,
# the panels 256 deep.
NETWORKS = {
    "no hidden layer": ([7], []),
    "width 1": ([1, 1, 1], ["sigmoid", "tanh"]),
    "deep": ([6, 9, 5, 17, 4, 11, 8], ["relu", "tanh", "softmax", "sigmoid", "identity", "relu"]),
    "wide": ([280, 260], ["relu"]),
    "whole tiles": ([16, 32, 64], ["tanh", "relu"]),
    "one above": ([17, 33, 65], ["sigmoid", "softmax"]),
    "one below": ([15, 31, 63], ["relu", "tanh"]),
}
# Loss, output activation, neurons of the output: every loss, and what more its settings and outputs can be.
PAIRS = [(name, kind.outputs[0] if kind.outputs else "identity", 10) for name, kind in losses.LOSSES.items()] + [
    ("quadratic", "identity", 1), ("quadratic", "sigmoid", 3), ("quadratic", "tanh", 16), ("quadratic", "relu", 5),
    ("quadratic", "softmax", 4), ("huber", "tanh", 4), (losses.Huber(0.2), "gelu", 17),
    (losses.CrossEntropy(label_smoothing=0.1), "softmax", 5),
]
OPTIMIZERS = [SGD(0.1), SGD(0.1, momentum=0.9), SGD(0.1, momentum=0.9, nesterov=True), Adam(0.01)]


class Guarded(Net):
    """NaN in all memory that is not its own or not set yet, 16 numbers of it on either side of theta and gradient."""

    def __init__(self, sizes, activations, loss, dtype, n, capacity=CAPACITY):
        super().__init__(sizes, activations, loss, dtype, n, capacity, seed=sum(sizes) + n)
        self.memory = np.full((4, self.theta.size + 32), np.nan, dtype)
        self.memory[0, 16:-16] = self.theta
        self.theta, self.gradient, *_ = self.memory[:, 16:-16]

    def bits(self):
        return b"".join(x.tobytes() for x in (self.buffers, self.costs, self.memory, self.state))


def cases(network):
    """The network with each pair of loss and output, and the numbers of samples."""
    sizes, hidden = NETWORKS[network]
    for loss, output, n_out in PAIRS:
        for n in BATCHES:
            yield [*sizes, n_out], [*hidden, output], loss, n


def in_float64(*arrays):
    """Copies for the reference. Its own error is far below float32's, and for float64 the bounds count it in."""
    return [array.astype(np.float64) for array in arrays]


def assert_within(got, want, bound, what):
    difference = np.abs(got - want)
    assert (difference <= bound).all(), f"{what}: off by up to {(difference / bound).max():.3g} times the bound"


def last(values):
    """The largest of each row, (n, 1)."""
    return values.max(axis=1, keepdims=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("network", NETWORKS)
def test_forward(network, dtype):
    """A chain of n_in + 1 roundings errs by (n_in + 1) eps times the sum of its terms' sizes; what the layer below errs
    by is carried on by |W|; no f stretches an error, softmax by the largest of the row."""
    eps = 2 * np.finfo(dtype).eps
    for sizes, activations, loss, n in cases(network):
        net = Guarded(sizes, activations, loss, dtype, n)
        theta, buffers = in_float64(net.theta, net.buffers)
        net.compute(SERIAL, "forward")
        reference.forward(theta, net.layers, buffers, n)
        error = 0.0
        for l, layer in enumerate(net.layers):
            W, b = reference.parameters(theta, layer)
            sent, z, a, _ = reference.neurons(buffers, layer, n)
            _, z_got, a_got, _ = reference.neurons(net.buffers, layer, n)
            error = (len(W) + 1) * eps * (np.abs(sent) @ np.abs(W) + np.abs(b)) + error * np.ones_like(sent) @ np.abs(W)
            assert_within(z_got, z, error, f"z[{l}] {activations[l]} {n}")
            if layer[ACTIVATION] == SOFTMAX:
                error = last(error) + len(b) * eps
            error = error + 4 * eps * np.maximum(np.abs(a), eps)
            assert_within(a_got, a, error, f"a[{l}] {activations[l]} {n}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("network", NETWORKS)
def test_output_error(network, dtype):
    eps = 2 * np.finfo(dtype).eps
    for sizes, activations, loss, n in cases(network):
        net = Guarded(sizes, activations, loss, dtype, n)
        net.compute(SERIAL, "forward", "output_error")
        buffers, targets, costs = in_float64(net.buffers, net.targets, net.costs)
        reference.output_error(net.layers, buffers, targets, costs, net.loss, n)
        _, z, a, delta = reference.neurons(buffers, net.layers[-1], n)
        delta_got = reference.neurons(net.buffers, net.layers[-1], n)[-1]
        size = 1 + np.abs(z) + np.abs(a) + np.abs(targets[:n])
        assert_within(delta_got, delta, 4 * sizes[-1] * eps * last(size), f"delta {loss} {activations[-1]} {n}")
        assert_within(net.costs[:n], costs[:n], 8 * eps * (size**2).sum(axis=1), f"costs {loss} {activations[-1]} {n}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("network", NETWORKS)
def test_backward(network, dtype):
    """As in forward, with |W|ᵀ; |f'| <= 1, and f' written in a errs by some eps where f' written in z does not."""
    eps = 2 * np.finfo(dtype).eps
    for sizes, activations, loss, n in cases(network):
        net = Guarded(sizes, activations, loss, dtype, n)
        net.compute(SERIAL, "forward", "output_error")
        theta, buffers = in_float64(net.theta, net.buffers)
        net.compute(SERIAL, "backward")
        reference.backward(theta, net.layers, buffers, n)
        error = 0.0
        for l in reversed(range(len(sizes) - 2)):
            W, _ = reference.parameters(theta, net.layers[l + 1])
            delta_next = reference.neurons(buffers, net.layers[l + 1], n)[-1]
            terms = np.abs(delta_next) @ np.abs(W.T)
            error = (sizes[l + 2] + 1) * eps * terms + error * np.ones_like(delta_next) @ np.abs(W.T) + 8 * eps * terms
            if activations[l] == "softmax":
                error = 2 * last(error) + sizes[l + 1] * eps * last(terms)
            delta, delta_got = (reference.neurons(x, net.layers[l], n)[-1] for x in (buffers, net.buffers))
            assert_within(delta_got, delta, error, f"delta[{l}] {activations[l]} {n}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("network", NETWORKS)
def test_weight_gradients(network, dtype):
    eps = 2 * np.finfo(dtype).eps
    for sizes, activations, loss, n in cases(network):
        net = Guarded(sizes, activations, loss, dtype, n)
        net.compute(SERIAL)
        gradient, buffers = in_float64(net.gradient, net.buffers)
        reference.weight_gradients(gradient, net.layers, buffers, n)
        for l, layer in enumerate(net.layers):
            sent, _, _, delta = (np.abs(x) for x in reference.neurons(buffers, layer, n))
            (dW, db), (dW_got, db_got) = (reference.parameters(x, layer) for x in (gradient, net.gradient))
            assert_within(dW_got, dW, (n + 3) * eps * (sent.T @ delta / n), f"dW[{l}] {n}")
            assert_within(db_got, db, (n + 3) * eps * delta.mean(axis=0), f"db[{l}] {n}")
            in_turn = np.zeros_like(db_got)  # from sample to sample, product and sum rounded one after the other
            for row in reference.neurons(net.buffers, layer, n)[3]:
                in_turn += np.dtype(dtype).type(1 / n) * row
            assert db_got.tobytes() == in_turn.tobytes(), f"db[{l}] {n}"


@compiler.serial
def product_of_one_step(gradient, at_row, sent, error):
    one, n = np.int64(1), len(error)
    C, A, B = Matrix(at(gradient, at_row), n, one), Matrix(at(sent, 0), one, one), Matrix(at(error, 0), n, one)
    product(C, A, B, Shape(len(sent), n, 1), repeated_zero(C), gradient.dtype.type(1), NEVER)


@pytest.mark.parametrize("dtype", DTYPES)
def test_outer_products_have_the_bits_of_products(dtype):
    """Of one sample. Zeros of both signs, and products too small for any."""
    net = Guarded([9, 40, 5], ["relu", "softmax"], "cross_entropy", dtype, 1)
    net.compute(SERIAL)
    tiny = np.finfo(dtype).smallest_normal
    for layer in net.layers:
        sent, _, _, delta = reference.neurons(net.buffers, layer, 1)
        sent[0, :5], delta[0, :5] = (0.0, -0.0, tiny, -tiny, -1.5), (-0.0, 0.0, -0.01, 0.01, tiny)
    net.compute(SERIAL, "weight_gradients")
    expected = net.gradient.copy()
    for layer in net.layers:
        sent, _, _, delta = reference.neurons(net.buffers, layer, 1)
        expected[layer[call.W] : layer[call.B]] = np.nan
        product_of_one_step(expected, layer[call.W], sent[0], delta[0])
    assert net.gradient.tobytes() == expected.tobytes()
    assert not np.signbit(net.gradient[net.gradient == 0]).any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("network", NETWORKS)
def test_every_number_of_threads_gives_the_same_bits(network, dtype):
    for sizes, activations, loss, n in list(cases(network))[::4]:  # every pair and every n among them
        net = Guarded(sizes, activations, loss, dtype, n)
        net.compute(SERIAL)
        for threads in (1, 2, 3):
            other = Guarded(sizes, activations, loss, dtype, n)
            other.compute(PARALLEL, threads=threads)
            assert other.bits() == net.bits(), (loss, activations[-1], n, threads)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("network", NETWORKS)
def test_only_its_own_memory_is_read_and_written(network, dtype):
    """What is NaN at the start, samples past the n-th, the ends of rows and both sides of theta, is so at the end, and
    nothing else is."""
    for sizes, activations, loss, n in cases(network):
        net = Guarded(sizes, activations, loss, dtype, n)
        net.compute(SERIAL)
        foreign = np.ones(net.buffers.shape, bool)
        for layer in net.layers:
            for rows in reference.neurons(foreign, layer, n):
                rows[:] = False
        np.testing.assert_array_equal(np.isnan(net.buffers), foreign)
        np.testing.assert_array_equal(np.isnan(net.costs), np.arange(CAPACITY) >= n)
        foreign = np.ones(net.memory.shape, bool)
        foreign[:2, 16:-16] = False
        np.testing.assert_array_equal(np.isnan(net.memory), foreign)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 15, 16, 17, 32, 1001])
def test_update(size, dtype, optimizer):
    draw = np.random.default_rng(size)
    theta = draw.normal(size=size).astype(dtype)
    state = np.zeros((optimizer.n_moments, size), dtype)
    serial = theta.copy(), state.copy()
    by_threads = {threads: (theta.copy(), state.copy()) for threads in (1, 2, 3)}
    exact = in_float64(theta, state)
    eps = np.finfo(dtype).eps
    for step in range(1, 8):
        gradient = draw.normal(size=size).astype(dtype)
        arguments = optimizer.settings(), optimizer.eta / step, step
        rules.update_serial(serial[0], gradient, serial[1], *arguments, 1)
        reference.update(exact[0], gradient.astype(float), exact[1], *arguments)
        assert_within(serial[0], exact[0], 8 * step * eps * (1 + np.abs(exact[0])), f"theta, step {step}")
        assert_within(serial[1], exact[1], 8 * step * eps * 10, f"state, step {step}")
        for threads, (theta, state) in by_threads.items():
            rules.update(theta, gradient, state, *arguments, threads)
            assert theta.tobytes() == serial[0].tobytes()
            assert state.tobytes() == serial[1].tobytes()


NO_ROOM, NO_THREADS = "at most the number of samples that the buffers hold", "threads must be at least 1"
REFUSED = [
    ("forward", dict(n=42), NO_ROOM), ("forward", dict(n=200_000), NO_ROOM), ("forward", dict(n=2**62), NO_ROOM),
    ("forward", dict(n=0), NO_ROOM), ("forward", dict(n=-1), NO_ROOM), ("forward", dict(threads=0), NO_THREADS),
    ("output_error", dict(n=42), NO_ROOM), ("output_error", dict(threads=-1), NO_THREADS),
    ("backward", dict(n=42), NO_ROOM), ("backward", dict(threads=0), NO_THREADS),
    ("weight_gradients", dict(n=42), NO_ROOM), ("weight_gradients", dict(n=0), NO_ROOM),
    ("weight_gradients", dict(threads=0), NO_THREADS), ("update", dict(threads=0), NO_THREADS),
    ("forward", dict(buffers=-1), NO_ROOM), ("weight_gradients", dict(buffers=-1), NO_ROOM),
    ("forward", dict(theta=-1), "theta and gradient must have"), ("backward", dict(theta=-1), "theta and gradient"),
    ("weight_gradients", dict(gradient=-1), "theta and gradient must have"),
    ("output_error", dict(targets=-1), "targets and costs must have"),
    ("output_error", dict(costs=-1), "targets and costs must have"),
    ("update", dict(gradient=-1), "each row of state"), ("update", dict(state=-1), "each row of state"),
]


@pytest.mark.parametrize("by", [SERIAL, PARALLEL], ids=["serial", "parallel"])
@pytest.mark.parametrize(("name", "changes", "message"), REFUSED, ids=[f"{case[0]} {case[1]}" for case in REFUSED])
def test_what_would_not_fit_is_refused(name, changes, message, by):
    """Before anything is written: too many samples or threads, or an array without its last element or row."""
    net = Guarded([6, 9, 4], ["gelu", "softmax"], "cross_entropy", "float64", CAPACITY)
    given = net.arguments(name) | dict(threads=2)
    for argument, change in changes.items():
        given[argument] = given[argument][:change] if isinstance(given[argument], np.ndarray) else change
    before = net.bits()
    with pytest.raises(ValueError, match=message):
        getattr(by, name)(*given.values())
    assert net.bits() == before


def test_refused_in_compiled_code_of_a_user():
    @numba.njit
    def forward(theta, layers, buffers, n):
        equations.forward_serial(theta, layers, buffers, n, 1)
        return n

    net = Guarded([6, 9, 4], ["gelu", "softmax"], "cross_entropy", "float64", 2, capacity=2)
    assert forward(net.theta, net.layers, net.buffers, 2) == 2
    with pytest.raises(ValueError, match=NO_ROOM):
        forward(net.theta, net.layers, net.buffers, 3)


@settings(deadline=None)  # the first call compiles
@given(n=st.integers(0, 10_000), shares=st.integers(1, 70), grain=st.integers(1, 40))
def test_shares_cover_the_range_in_whole_grains(n, shares, grain):
    bounds = [even_share.py_func(n, c, shares, grain) for c in range(shares)]
    assert bounds[0][0] == 0
    assert bounds[-1][1] == n
    assert all(hi == lo for (_, hi), (lo, _) in zip(bounds, bounds[1:], strict=False))
    assert all(lo % grain == 0 or lo == n for lo, _ in bounds)
    sizes = [hi - lo for lo, hi in bounds]
    assert min(sizes) >= 0
    assert max(sizes) <= -(-n // (shares * grain)) * grain  # none has more than its share, rounded up
