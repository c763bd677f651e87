"""fastbp.core.kernels against the equations in plain NumPy; every number of threads gives the same bits."""

import hashlib
import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_phases import moved

from fastbp.core import compiler, kernels, losses, optimizers, reference
from fastbp.core.activations import SOFTMAX
from fastbp.core.optimizers import SGD, Adam
from fastbp.core.product import MOST_NONZERO, NEVER, TILE_HEIGHT, Matrix, product, repeated_zero
from fastbp.core.samples import LABELS, NONE, Samples, describe
from fastbp.core.simd.memory import at
from fastbp.core.threads.board import even_share
from fastbp.network import check_loss
from fastbp.workspace import Workspace, aligned, parameter_offsets

DTYPES = ["float32", "float64"]
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
# Loss, output activation, neurons of the output.
PAIRS = [
    ("quadratic", "identity", 1), ("quadratic", "sigmoid", 3), ("quadratic", "tanh", 16), ("quadratic", "relu", 5),
    ("quadratic", "softmax", 4), ("binary_cross_entropy", "sigmoid", 2), ("cross_entropy", "softmax", 10),
    ("mean_absolute", "identity", 3), ("huber", "tanh", 4), (losses.Huber(0.2), "gelu", 17), ("poisson", "softplus", 2),
    (losses.CrossEntropy(label_smoothing=0.1), "softmax", 5),
]
OPTIMIZERS = [SGD(0.1), SGD(0.1, momentum=0.9), SGD(0.1, momentum=0.9, nesterov=True), Adam(0.01)]
SERIAL = SimpleNamespace(forward=kernels.forward_serial, output_error=kernels.output_error_serial,
                         backward=kernels.backward_serial, weight_gradients=kernels.weight_gradients_serial,
                         update=optimizers.update_serial)
PARALLEL = SimpleNamespace(forward=kernels.forward, output_error=kernels.output_error, backward=kernels.backward,
                           weight_gradients=kernels.weight_gradients, update=optimizers.update)


def draw_targets(draw, loss, n, n_out):
    t = draw.normal(size=(n, n_out))
    if loss == losses.BINARY_CROSS_ENTROPY:
        return (t > 0) * 1.0
    if loss == losses.POISSON:
        return np.floor(np.abs(2 * t))
    return reference.softmax(3 * t) if loss == losses.CROSS_ENTROPY else t


class Net:
    """A network with random parameters, inputs and targets; NaN in all memory that is not its own or not set yet."""

    def __init__(self, sizes, activations, loss, dtype, n, capacity=CAPACITY):
        draw = np.random.default_rng(sum(sizes) + n)
        self.n, self.loss, self.dtype = n, check_loss(loss, activations[-1]).rule(), np.dtype(dtype)
        workspace = Workspace(sizes, activations, dtype, capacity)
        self.layers, self.buffers = workspace.layers, workspace.buffers
        self.buffers[:] = np.nan
        workspace.a[0][:n] = draw.normal(size=(n, sizes[0]))
        self.targets, self.costs = np.full((capacity, sizes[-1]), np.nan, dtype), np.full(capacity, np.nan)
        self.targets[:n] = draw_targets(draw, self.loss.code, n, sizes[-1])
        size = parameter_offsets(sizes)[-1][0]
        self.memory = np.full((4, size + 32), np.nan, dtype)  # 16 numbers of no man's land on either side
        self.theta, self.gradient, *_ = self.memory[:, 16:-16]
        self.state = np.zeros((2, size), dtype)
        for layer in self.layers:
            W, b = reference.parameters(self.theta, layer)
            W[:], b[:] = draw.normal(0, 1 / np.sqrt(len(W)), W.shape), draw.normal(0, 0.1, b.shape)

    def equations(self, by, threads):
        """All five, by the kernels `by`."""
        by.forward(self.theta, self.layers, self.buffers, self.n, threads)
        by.output_error(self.layers, self.buffers, self.targets, self.costs, self.loss, self.n, threads)
        by.backward(self.theta, self.layers, self.buffers, self.n, threads)
        by.weight_gradients(self.gradient, self.layers, self.buffers, self.n, threads)
        by.update(self.theta, self.gradient, self.state, Adam(0.01).settings(), 0.01, 1, threads)

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
        net = Net(sizes, activations, loss, dtype, n)
        theta, buffers = in_float64(net.theta, net.buffers)
        kernels.forward_serial(net.theta, net.layers, net.buffers, n, 1)
        reference.forward(theta, net.layers, buffers, n)
        error = 0.0
        for l, layer in enumerate(net.layers):
            W, b = reference.parameters(theta, layer)
            sent, z, a, _ = reference.neurons(buffers, layer, n)
            _, z_got, a_got, _ = reference.neurons(net.buffers, layer, n)
            error = (len(W) + 1) * eps * (np.abs(sent) @ np.abs(W) + np.abs(b)) + error * np.ones_like(sent) @ np.abs(W)
            assert_within(z_got, z, error, f"z[{l}] {activations[l]} {n}")
            if layer[kernels.ACTIVATION] == SOFTMAX:
                error = last(error) + len(b) * eps
            error = error + 4 * eps * np.maximum(np.abs(a), eps)
            assert_within(a_got, a, error, f"a[{l}] {activations[l]} {n}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("network", NETWORKS)
def test_output_error(network, dtype):
    eps = 2 * np.finfo(dtype).eps
    for sizes, activations, loss, n in cases(network):
        net = Net(sizes, activations, loss, dtype, n)
        kernels.forward_serial(net.theta, net.layers, net.buffers, n, 1)
        kernels.output_error_serial(net.layers, net.buffers, net.targets, net.costs, net.loss, n, 1)
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
        net = Net(sizes, activations, loss, dtype, n)
        kernels.forward_serial(net.theta, net.layers, net.buffers, n, 1)
        kernels.output_error_serial(net.layers, net.buffers, net.targets, net.costs, net.loss, n, 1)
        theta, buffers = in_float64(net.theta, net.buffers)
        kernels.backward_serial(net.theta, net.layers, net.buffers, n, 1)
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
        net = Net(sizes, activations, loss, dtype, n)
        net.equations(SERIAL, 1)
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
    product(C, A, B, len(sent), n, 1, repeated_zero(C), gradient.dtype.type(1), NEVER)


@pytest.mark.parametrize("dtype", DTYPES)
def test_outer_products_have_the_bits_of_products(dtype):
    """Of one sample. Zeros of both signs, and products too small for any."""
    net = Net([9, 40, 5], ["relu", "softmax"], "cross_entropy", dtype, 1)
    net.equations(SERIAL, 1)
    tiny = np.finfo(dtype).smallest_normal
    for layer in net.layers:
        sent, _, _, delta = reference.neurons(net.buffers, layer, 1)
        sent[0, :5], delta[0, :5] = (0.0, -0.0, tiny, -tiny, -1.5), (-0.0, 0.0, -0.01, 0.01, tiny)
    kernels.weight_gradients_serial(net.gradient, net.layers, net.buffers, 1, 1)
    expected = net.gradient.copy()
    for layer in net.layers:
        sent, _, _, delta = reference.neurons(net.buffers, layer, 1)
        expected[layer[kernels.W] : layer[kernels.B]] = np.nan
        product_of_one_step(expected, layer[kernels.W], sent[0], delta[0])
    assert net.gradient.tobytes() == expected.tobytes()
    assert not np.signbit(net.gradient[net.gradient == 0]).any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("network", NETWORKS)
def test_every_number_of_threads_gives_the_same_bits(network, dtype):
    for sizes, activations, loss, n in list(cases(network))[::4]:  # every pair and every n among them
        net = Net(sizes, activations, loss, dtype, n)
        net.equations(SERIAL, 1)
        for threads in (1, 2, 3):
            other = Net(sizes, activations, loss, dtype, n)
            other.equations(PARALLEL, threads)
            assert other.bits() == net.bits(), (loss, activations[-1], n, threads)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("network", NETWORKS)
def test_only_its_own_memory_is_read_and_written(network, dtype):
    """What is NaN at the start, samples past the n-th, the ends of rows and both sides of theta, is so at the end, and
    nothing else is."""
    for sizes, activations, loss, n in cases(network):
        net = Net(sizes, activations, loss, dtype, n)
        net.equations(SERIAL, 1)
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
        optimizers.update_serial(serial[0], gradient, serial[1], *arguments, 1)
        reference.update(exact[0], gradient.astype(float), exact[1], *arguments)
        assert_within(serial[0], exact[0], 8 * step * eps * (1 + np.abs(exact[0])), f"theta, step {step}")
        assert_within(serial[1], exact[1], 8 * step * eps * 10, f"state, step {step}")
        for threads, (theta, state) in by_threads.items():
            optimizers.update(theta, gradient, state, *arguments, threads)
            assert theta.tobytes() == serial[0].tobytes()
            assert state.tobytes() == serial[1].tobytes()


NO_ROOM, NO_THREADS = "at most the samples that the buffers have room for", "threads must be at least 1"
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
    net = Net([6, 9, 4], ["gelu", "softmax"], "cross_entropy", "float64", CAPACITY)
    given = vars(net) | dict(threads=2, settings=Adam(0.01).settings(), eta=0.01, step=1)
    for argument, change in changes.items():
        given[argument] = given[argument][:change] if isinstance(given[argument], np.ndarray) else change
    before, arguments = net.bits(), {
        "forward": ("theta", "layers", "buffers", "n"), "backward": ("theta", "layers", "buffers", "n"),
        "output_error": ("layers", "buffers", "targets", "costs", "loss", "n"),
        "weight_gradients": ("gradient", "layers", "buffers", "n"),
        "update": ("theta", "gradient", "state", "settings", "eta", "step")}[name]
    with pytest.raises(ValueError, match=message):
        getattr(by, name)(*(given[argument] for argument in arguments), given["threads"])
    assert net.bits() == before


def test_refused_in_compiled_code_of_a_user():
    @numba.njit
    def forward(theta, layers, buffers, n):
        kernels.forward_serial(theta, layers, buffers, n, 1)
        return n

    net = Net([6, 9, 4], ["gelu", "softmax"], "cross_entropy", "float64", 2, capacity=2)
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


# Whole mini-batches: run.

N_SAMPLES, BATCH, N_STEPS = 75, 8, 10  # the last mini-batch has 3
TRAINED = [14, 40, 9, 5]
LARGE = [14, 512, 520, 5]  # its hidden layers are shared out by neurons


def inputs(kind):
    """Samples as they may lie: an array (75, 14) and the same as the network's floats."""
    draw = np.random.default_rng(5)
    if kind == "uint8":
        x = draw.integers(0, 256, (N_SAMPLES, 14), dtype=np.uint8) * (draw.random((N_SAMPLES, 14)) < 0.2)
        return x.astype(np.uint8), x / 255
    x = draw.normal(size=(2 * N_SAMPLES, 28))
    x = {"float32": x[:N_SAMPLES, :14].astype("float32"), "float64 by columns": np.asfortranarray(x[:N_SAMPLES, :14]),
         "float64 backwards": x[::-2, ::-2], "float32 one for all": np.broadcast_to(x[0, :14].astype("float32"),
                                                                                    (N_SAMPLES, 14))}[kind]
    return x, x.astype(np.float64)


def targets_of(kind):
    """Targets (75,) labels or (75, 5) rows, the loss and output they fit, and the same as rows of floats."""
    draw = np.random.default_rng(6)
    labels = draw.integers(0, 5, N_SAMPLES)
    if kind == "labels":
        return describe(labels, LABELS), labels, "cross_entropy", "softmax", np.eye(5)[labels]
    rows = np.asfortranarray(draw.random((N_SAMPLES, 5)))
    return describe(rows), rows, "quadratic", "tanh", rows


def scratch(sizes, threads, batch, dtype):
    """What threads need to TRAIN, between stretches of NaN; and whether those are still there."""
    memory = np.full(kernels.scratch_size(sizes, threads, batch) + 32, np.nan, dtype)
    return memory[16:-16], lambda: np.isnan(memory[:16]).all() and np.isnan(memory[-16:]).all()


class Run:
    """Ten steps of a network, TRAINED if not said otherwise, compiled and in plain NumPy."""

    def __init__(self, x_kind, t_kind, dtype, optimizer, etas=None, sizes=TRAINED, batch=BATCH,
                 hidden=("relu", "tanh")):
        self.dtype, self.optimizer, self.batch = dtype, optimizer, batch
        self.array, self.floats = inputs(x_kind)
        self.scale = 1 / 255 if x_kind == "uint8" else 1.0
        self.t, self.kept_alive, loss, output, self.rows = targets_of(t_kind)
        self.loss = losses.LOSSES[loss]().rule()
        self.sizes, self.workspace = sizes, Workspace(sizes, [*hidden, output], dtype, batch)
        size = parameter_offsets(sizes)[-1][0]
        self.theta, self.gradient = aligned(size, dtype), aligned(size, dtype)
        self.theta[:] = np.random.default_rng(8).normal(0, 0.3, size)
        self.start = self.theta.astype(np.float64)
        self.state = np.zeros((optimizer.n_moments, size), dtype)
        self.order = np.random.default_rng(9).permutation(N_SAMPLES)
        self.etas = np.full(N_STEPS, optimizer.eta) if etas is None else etas
        self.clock, self.costs = np.zeros(1, np.int64), np.full(len(self.etas), np.nan)
        self.outputs = np.full((N_SAMPLES, sizes[-1]), np.nan, dtype)
        self.weights = np.empty(0)

    def train(self, kernel, threads, n_samples=N_SAMPLES, purpose=kernels.TRAIN):
        w, gradient = self.workspace, self.gradient
        if purpose == kernels.TRAIN:
            gradient, intact = scratch(self.sizes, threads, self.batch, self.dtype)
        settings = self.optimizer.settings()
        address = kernels.address(self.dtype, w.layers, settings, purpose)
        made = kernel(address, self.theta, gradient, self.state, w.layers, w.buffers,
                      w.targets, w.costs, describe(self.array, scale=self.scale), self.t, self.weights, self.order,
                      n_samples, self.batch, purpose, self.loss, settings, self.etas, self.clock, self.outputs,
                      self.costs, moved(threads, np.random.default_rng([threads, self.batch, *self.sizes])), threads)
        assert purpose != kernels.TRAIN or intact()
        return made

    def by_reference(self):
        """theta and the mean cost of each step, in float64."""
        layers = self.workspace.layers
        theta, gradient, buffers = in_float64(self.start, self.gradient, self.workspace.buffers)
        state, costs, means = np.zeros(self.state.shape), np.zeros(self.batch), []
        for step, eta in enumerate(self.etas):
            batch = self.order[step * self.batch : (step + 1) * self.batch]
            n = len(batch)
            reference.neurons(buffers, layers[0], n)[0][:] = self.floats[batch]
            reference.forward(theta, layers, buffers, n)
            reference.output_error(layers, buffers, self.rows[batch], costs, self.loss, n)
            reference.backward(theta, layers, buffers, n)
            reference.weight_gradients(gradient, layers, buffers, n)
            reference.update(theta, gradient, state, self.optimizer.settings(), eta, step + 1)
            means.append(costs[:n].mean())
        return theta, np.array(means)


RUNS = [
    ("uint8", "labels", SGD(0.5)), ("float32", "rows", SGD(0.1, momentum=0.9, nesterov=True)),
    ("float64 by columns", "rows", Adam(0.01, epsilon=1e-3)), ("float64 backwards", "labels", SGD(0.1, momentum=0.9)),
    ("float32 one for all", "labels", SGD(0.2)),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("x", "t", "optimizer"), RUNS, ids=lambda v: str(v))
def test_ten_steps(x, t, optimizer, dtype):
    run = Run(x, t, dtype, optimizer)
    assert run.train(kernels.run_serial, 1) == N_STEPS
    theta, costs = run.by_reference()
    eps = np.finfo(dtype).eps
    assert abs(costs - costs[0]).max() > 1e-3  # it learns, so the steps are compared and not only the first
    np.testing.assert_allclose(run.costs, costs, rtol=100 * eps)
    np.testing.assert_allclose(run.theta, theta, rtol=0, atol=100 * eps * np.abs(theta).max())
    assert run.clock == [N_STEPS]
    for threads in (1, 2, 3):
        other = Run(x, t, dtype, optimizer)
        other.train(kernels.run, threads)
        assert other.theta.tobytes() == run.theta.tobytes(), threads
        assert other.state.tobytes() == run.state.tobytes(), threads
        assert other.costs.tobytes() == run.costs.tobytes(), threads


@pytest.mark.parametrize("optimizer", [SGD(0.1, momentum=0.9), Adam(0.01, epsilon=1e-3)], ids=repr)
def test_a_step_with_learning_rate_zero_moves_the_state(optimizer):
    """As `update` does: a schedule may start at 0, and momentum is gathered from the first step on."""
    etas = optimizer.eta * np.linspace(0, 1, N_STEPS)
    run = Run("float32", "rows", "float64", optimizer, etas=etas)
    run.train(kernels.run_serial, 1)
    theta, costs = run.by_reference()
    np.testing.assert_allclose(run.costs, costs, rtol=1e-12)
    np.testing.assert_allclose(run.theta, theta, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_blocks_of_rows(dtype):
    """Of a network whose layers are shared out by neurons and gone through in blocks, with the scratch between NaN."""
    assert kernels.rows_near(LARGE[2]) < LARGE[1]
    serial = Run("uint8", "labels", dtype, Adam(0.001), sizes=LARGE)
    assert serial.train(kernels.run_serial, 1) == N_STEPS
    theta, costs = serial.by_reference()
    np.testing.assert_allclose(serial.costs, costs, rtol=3e-4 if dtype == "float32" else 1e-9)
    for threads in (1, 2, 3):
        other = Run("uint8", "labels", dtype, Adam(0.001), sizes=LARGE)
        other.train(kernels.run, threads)
        assert other.theta.tobytes() == serial.theta.tobytes(), threads


def check_at_any_number_of_threads(trained, tolerance):
    """`trained(kernel, threads)`, a Run, is as NumPy has it, theta within so many eps, and has the same bits always."""
    serial = trained(kernels.run_serial, 1)
    theta, costs = serial.by_reference()
    eps = np.finfo(serial.dtype).eps
    np.testing.assert_allclose(serial.costs, costs, rtol=1000 * eps)
    np.testing.assert_allclose(serial.theta, theta, rtol=0, atol=tolerance * eps * np.abs(theta).max())
    for threads in (1, 2, 3):
        other = trained(kernels.run, threads)
        assert other.theta.tobytes() == serial.theta.tobytes(), threads
        assert other.state.tobytes() == serial.state.tobytes(), threads


@pytest.mark.parametrize("sizes", [TRAINED, LARGE], ids=["by samples", "by neurons"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_mini_batches_of_one_sample(dtype, sizes):
    """Their weight gradients are outer products."""
    def trained(kernel, threads):
        run = Run("uint8", "labels", dtype, SGD(0.05, momentum=0.9), sizes=sizes, batch=1)
        assert run.train(kernel, threads, N_STEPS) == N_STEPS
        return run

    check_at_any_number_of_threads(trained, 100)


def with_many_zeros(dtype, sizes):
    """A run whose relu neurons mostly stay at 0, of mini-batches of all samples."""
    run = Run("uint8", "labels", dtype, SGD(0.001, momentum=0.9), sizes=sizes, batch=N_SAMPLES,
              hidden=("relu", "relu"))
    a = run.floats
    for layer in run.workspace.layers[:2]:
        at_b = layer[kernels.B]
        z = a @ run.theta[layer[kernels.W] : at_b].reshape(-1, layer[kernels.N_OUT])
        threshold = np.quantile(z, 0.85)
        run.theta[at_b : at_b + layer[kernels.N_OUT]] = -threshold
        a = np.maximum(z - threshold, 0)
    run.start = run.theta.astype(np.float64)
    run.order = np.tile(run.order, N_STEPS)
    return run


@pytest.mark.parametrize("sizes", [(14, 100, 90, 5), (14, 520, 510, 5)], ids=["by samples", "by neurons"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_mini_batches_with_many_zeros(dtype, sizes):
    """Products large enough to be looked at for zeros, of layers of which a few neurons fire."""
    def trained(kernel, threads):
        run = with_many_zeros(dtype, sizes)
        assert run.train(kernel, threads, len(run.order)) == N_STEPS
        return run

    w = trained(kernels.run_serial, 1).workspace
    for sent_on in (w.a[1], w.a[2], w.delta[1]):
        assert 0.05 < np.count_nonzero(sent_on) / sent_on.size < MOST_NONZERO - 0.05
    check_at_any_number_of_threads(trained, 1000)


def check_stop_before_the_fifth_step(good, bad, threads):
    """Of two equal runs whose fifth mini-batch `bad` has a NaN in: theta and state are those of four steps."""
    kernel = kernels.run_serial if threads == 1 else kernels.run
    good.costs = good.costs[:4]
    assert good.train(kernel, threads, 4 * good.batch) == 4
    assert bad.train(kernel, threads, len(bad.order)) == 4
    assert bad.theta.tobytes() == good.theta.tobytes()
    assert bad.state.tobytes() == good.state.tobytes()
    assert bad.clock == [4]
    assert np.isnan(bad.costs[4])


@pytest.mark.parametrize("sizes", [TRAINED, LARGE], ids=["by samples", "by neurons"])
@pytest.mark.parametrize("threads", [1, 2])
def test_training_stops_before_a_cost_that_is_not_finite(threads, sizes):
    good, bad = (Run("float32", "labels", "float32", SGD(0.01, momentum=0.9), sizes=sizes) for _ in range(2))
    bad.array[bad.order[4 * BATCH + 3], 5] = np.nan
    check_stop_before_the_fifth_step(good, bad, threads)


PIECED = 2600  # samples of a mini-batch


def in_pieces(dtype):
    """A run of nine mini-batches that one thread goes through in four pieces, two and three threads in two, and one of
    300; the last of the samples comes once, in the first piece of the fifth."""
    run = Run("float32", "labels", dtype, SGD(0.05, momentum=0.9), batch=PIECED)
    pieces = [kernels.samples_at_once.py_func(run.workspace.layers, PIECED, threads) for threads in (1, 2, 3)]
    assert [-(-PIECED // piece) for piece in pieces] == [4, 2, 2]
    run.order = np.random.default_rng(3).integers(0, N_SAMPLES - 1, (N_STEPS - 1) * PIECED + 300)
    run.order[4 * PIECED + 20] = N_SAMPLES - 1
    return run


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_mini_batches_in_pieces(dtype):
    def trained(kernel, threads):
        run = in_pieces(dtype)
        assert run.train(kernel, threads, len(run.order)) == N_STEPS
        return run

    check_at_any_number_of_threads(trained, 100)


@pytest.mark.parametrize("threads", [1, 2])
def test_training_stops_before_a_piece_whose_cost_is_not_finite(threads):
    good, bad = in_pieces("float32"), in_pieces("float32")
    bad.array[-1, 5] = np.nan
    check_stop_before_the_fifth_step(good, bad, threads)


@pytest.mark.parametrize("threads", [1, 2, 8, 64])
@pytest.mark.parametrize("batch", [1, 511, 512, 513, 600, 4097, 10_000])
@pytest.mark.parametrize("sizes", [TRAINED, LARGE, [784, 2048, 2048, 10]], ids=str)
def test_pieces_are_of_nearly_equal_size(sizes, batch, threads):
    layers = Workspace(sizes, ["relu"] * (len(sizes) - 2) + ["softmax"], "float32", 1).layers
    piece = kernels.samples_at_once.py_func(layers, batch, threads)
    pieces = -(-batch // piece)
    assert piece == batch or (batch > 512 and piece >= 128 * threads)
    grain = TILE_HEIGHT if pieces == 1 else kernels.CHAIN
    assert piece == batch or piece % grain == 0
    assert 0 <= pieces * piece - batch < pieces * grain  # the last is hardly smaller
    assert kernels.scratch_size(sizes, threads, batch) >= (parameter_offsets(sizes)[-1][0] if pieces > 1 else 0)


@pytest.mark.parametrize(("n", "in_order"), [(75, False), (70, True), (73, True)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient_of_all_mini_batches_together(dtype, n, in_order):
    """75, 70 or 73 samples, 8 at a time and the last 3, 6 or 1, against all at once."""
    run = Run("uint8", "labels", dtype, SGD())
    chosen = run.order[:n] if in_order else np.arange(n)
    run.order = run.order[:n] if in_order else run.order[:0]
    run.costs = run.costs[: -(-n // BATCH)]

    def compiled(kernel, threads):
        run.gradient[:] = np.nan
        assert run.train(kernel, threads, n, kernels.ACCUMULATE) == len(run.costs)
        return run.costs.tobytes(), run.gradient.tobytes()

    bits = compiled(kernels.run_serial, 1)
    got = run.gradient.copy()
    sizes = [BATCH] * (len(run.costs) - 1) + [n - BATCH * (len(run.costs) - 1)]
    cost = np.average(run.costs, weights=sizes)
    for threads in (1, 2, 3):
        assert compiled(kernels.run, threads) == bits
    assert run.theta.tobytes() == run.start.astype(dtype).tobytes()
    assert not run.state.any()

    all_at_once = Workspace(TRAINED, ["relu", "tanh", "softmax"], "float64", n)
    all_at_once.a[0][:] = run.floats[chosen]
    gradient = np.zeros(run.start.size)
    arrays = all_at_once.layers, all_at_once.buffers
    reference.forward(run.start, *arrays, n)
    reference.output_error(*arrays, run.rows[chosen], all_at_once.costs, run.loss, n)
    reference.backward(run.start, *arrays, n)
    reference.weight_gradients(gradient, *arrays, n)
    eps = np.finfo(dtype).eps
    assert cost == pytest.approx(all_at_once.costs.mean(), rel=float(20 * eps))
    np.testing.assert_allclose(got, gradient, rtol=0, atol=20 * eps * np.abs(gradient).max())


@pytest.mark.parametrize("dtype", DTYPES)
def test_infer(dtype):
    run = Run("float64 backwards", "labels", dtype, SGD())
    labels, run.order = run.t, run.order[:0]

    def compiled(kernel, t, threads):
        run.t, run.outputs[:], run.costs[:] = t, np.nan, np.nan
        assert run.train(kernel, threads, purpose=kernels.INFER) == N_STEPS
        return run.outputs.copy(), run.costs.copy()

    outputs, costs = compiled(kernels.run_serial, labels, 1)
    for threads in (1, 2, 3):
        for got, want in zip(compiled(kernels.run, labels, threads), (outputs, costs), strict=True):
            assert got.tobytes() == want.tobytes()
    without, _ = compiled(kernels.run_serial, Samples(0, 0, 0, NONE, 1.0), 1)
    assert without.tobytes() == outputs.tobytes()
    assert run.theta.tobytes() == run.start.astype(dtype).tobytes()

    all_at_once = Workspace(TRAINED, ["relu", "tanh", "softmax"], "float64", N_SAMPLES)
    all_at_once.a[0][:] = run.floats
    reference.forward(run.start, all_at_once.layers, all_at_once.buffers, N_SAMPLES)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(outputs, all_at_once.a[-1], rtol=0, atol=20 * eps)
    of_each = -np.log(all_at_once.a[-1][run.rows == 1])
    means = [of_each[first : first + BATCH].mean() for first in range(0, N_SAMPLES, BATCH)]
    np.testing.assert_allclose(costs, means, rtol=0, atol=50 * eps)


def test_infer_goes_on_where_a_cost_is_not_finite():
    run = Run("float32", "labels", "float32", SGD())
    run.array[3, 2], run.order = np.nan, run.order[:0]
    assert run.train(kernels.run_serial, 1, purpose=kernels.INFER) == N_STEPS
    assert np.isnan(run.outputs).any(axis=1).nonzero()[0].tolist() == [3]
    assert np.isnan(run.costs).nonzero()[0].tolist() == [0]


def digest():
    """Fingerprint of what runs of every kind of samples and optimiser come to, and one of many zeros."""
    total = hashlib.sha256()
    for dtype in DTYPES:
        for x, t, optimizer in RUNS:
            run = Run(x, t, dtype, optimizer)
            run.train(kernels.run_serial, 1)
            total.update(run.theta.tobytes() + run.costs.tobytes())
        run = with_many_zeros(dtype, (14, 100, 90, 5))
        run.train(kernels.run_serial, 1, len(run.order))
        total.update(run.theta.tobytes() + run.costs.tobytes())
    return total.hexdigest()


@pytest.mark.slow
@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="names features of x86-64 CPUs")
@pytest.mark.parametrize("features", ["+sse4.2,+avx,+avx2,+fma", "+sse4.2,+avx", "+sse2"])
def test_every_width_of_vectors_gives_the_same_bits(features):
    """A CPU of fewer features has other tiles, and the same chains of multiply-adds."""
    done = subprocess.run([sys.executable, "-c", "import test_kernels; print(test_kernels.digest())"],
                          capture_output=True, text=True, timeout=600, check=False,
                          env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "NUMBA_CPU_NAME": "generic",
                                            "NUMBA_CPU_FEATURES": features})
    assert done.stdout == digest() + "\n", done.stderr
