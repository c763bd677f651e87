"""A network inside compiled code of one's own: each function beside the door from Python, to the bit."""

import copy
import gc
import pickle
import shutil
import subprocess
import sys
import textwrap
import tracemalloc
from pathlib import Path

import numba
import numpy as np
import pytest
from numba import njit, prange
from rig import DTYPES

import fastbp
from fastbp import SGD, Adam, Lion, Network, Rprop, Trainer, compiled, cost_and_gradient, input_gradients, losses, vjp
from fastbp.data import Augmentation


@njit
def steps(handle, X, y, n):
    cost = 0.0
    for _ in range(n):
        cost = compiled.step(handle, X, y)
    return cost


@njit
def outputs(handle, X, out):
    return compiled.forward(handle, X, out)


@njit
def labels_of(handle, X, labels):
    return compiled.predict(handle, X, labels)


@njit
def gradient_of(handle, X, y, gradient):
    return compiled.gradients(handle, X, y, gradient)


@njit
def pulled_back(handle, X, cotangent, gradient, to_inputs):
    return compiled.vjp(handle, X, cotangent, gradient, to_inputs)


@njit
def updated(handle, gradient):
    return compiled.update(handle, gradient)


def network(dtype="float32", output="softmax", sizes=(5, 7, 3), **more):
    return Network(list(sizes), hidden="tanh", output=output, dtype=dtype, seed=1, **more)


def data(n, dtype="float32", n_in=5, n_out=3, seed=2):
    draw = np.random.default_rng(seed)
    X, labels, rows = draw.normal(size=(n, n_in)), draw.integers(0, n_out, n), draw.normal(size=(n, n_out))
    return X.astype(dtype), labels, rows.astype(dtype)


def pair(net, **settings):
    """A trainer, whose handle is to be tried, and one like it for the door from Python."""
    return Trainer(net, **settings), Trainer(copy.deepcopy(net), **settings)


def alike(ours, theirs):
    return (np.array_equal(ours.network.theta, theirs.network.theta) and ours.steps_done == theirs.steps_done
            and np.array_equal(ours.state.rows, theirs.state.rows))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 7, 32])
@pytest.mark.parametrize("output", ["softmax", "identity"])
def test_a_step_is_that_of_the_trainer(dtype, n, output):
    ours, theirs = pair(network(dtype, output), optimizer=Adam(0.01), batch_size=32)
    X, labels, rows = data(n, dtype)
    y = labels if output == "softmax" else rows
    handle = compiled.Handle(ours)
    for _ in range(3):
        assert steps(handle, X, y, 1) == theirs.step(X, y)
    assert alike(ours, theirs) and ours.steps_done == 3 and handle.problem is None


@pytest.mark.parametrize("settings", [
    dict(optimizer=SGD(0.1, momentum=0.9)), dict(optimizer=Lion(0.01)), dict(optimizer=Rprop()),
    dict(dropout=0.5), dict(noise=0.3), dict(augmentation=Augmentation(1, 20, elastic=1, shape=(1, 5))),
    dict(clip_norm=0.1), dict(clip_value=0.01), dict(max_norm=0.5),
    dict(clip_norm=0.1, max_norm=0.5, frozen=[0]), dict(loss=losses.CrossEntropy(label_smoothing=0.1)),
], ids=str)
def test_every_setting_counts(settings):
    ours, theirs = pair(network(), batch_size=32, **settings)
    X, y, _ = data(20)
    handle = compiled.Handle(ours)
    for _ in range(3):
        assert steps(handle, X, y, 1) == theirs.step(X, y)
    assert alike(ours, theirs)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_mini_batch_in_pieces(dtype):
    ours, theirs = pair(network(dtype, sizes=(300, 90, 3)), batch_size=1500, optimizer=Adam(0.01))
    X, y, _ = data(1403, dtype, n_in=300)
    handle = compiled.Handle(ours)
    assert handle.numbers[fastbp.core.handles.HANDLE_SLOTS["most"]] < 1403
    for _ in range(2):
        assert steps(handle, X, y, 1) == theirs.step(X, y)
    assert alike(ours, theirs)


LAYOUTS = {
    "float64": lambda X: X.astype(np.float64), "bytes": lambda X: (100 + 50 * X).astype(np.uint8),
    "columns": lambda X: np.asfortranarray(X), "reversed": lambda X: X[::-1, ::-1],
    "every other": lambda X: np.repeat(np.repeat(X, 2, axis=0), 3, axis=1)[::2, ::3], "read-only": lambda X: frozen(X),
}


def frozen(X):
    X = X.copy()
    X.flags.writeable = False
    return X


@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays_of_every_layout(layout):
    ours, theirs = pair(network(input_scale=1 / 64), batch_size=32)
    X, y, _ = data(9)
    X, y = LAYOUTS[layout](X), np.repeat(y, 2)[::2]
    handle = compiled.Handle(ours)
    assert steps(handle, X, y, 2) and [theirs.step(X, y) for _ in range(2)] and alike(ours, theirs)
    out = np.empty((9, 3), np.float32)
    assert outputs(handle, X, out) and np.array_equal(out, theirs.network.forward(X))


def test_one_sample():
    X, labels, rows = data(1)
    for output, y in (("softmax", int(labels[0])), ("identity", rows[0]), ("identity", rows[0].astype(np.float64))):
        ours, theirs = pair(network(output=output), batch_size=4)
        handle, out = compiled.Handle(ours), np.empty(3, np.float32)
        assert steps(handle, X[0], y, 1) == theirs.step(X, [y]) and alike(ours, theirs)
        assert outputs(handle, X[0], out) and np.array_equal(out, theirs.network.forward(X[0]))


def test_values_of_a_single_output():
    X, _, rows = data(6)
    ours, theirs = pair(network(output="identity", sizes=(5, 7, 1)), batch_size=8)
    handle = compiled.Handle(ours)
    assert steps(handle, X, rows[:, 0], 1) == theirs.step(X, rows[:, 0])  # every third number
    assert steps(handle, X[0], float(rows[0, 0]), 1) == theirs.step(X[:1], rows[:1, 0])
    assert alike(ours, theirs)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 30, 101])
def test_forward_and_predict_of_any_number_of_samples(dtype, n):
    X, _, _ = data(n, dtype)
    for output, sizes in (("softmax", (5, 7, 3)), ("sigmoid", (5, 7, 1))):
        net = network(dtype, output, sizes)
        handle, out, labels = compiled.Handle(net, 30), np.full((n, sizes[-1]), np.nan, dtype), np.full(2 * n, -1)
        assert outputs(handle, X, out) and np.array_equal(out, net.forward(X))
        assert labels_of(handle, X, labels[::2]) and np.array_equal(labels[::2], net.predict(X))
        assert (labels[1::2] == -1).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 50, 600])
def test_gradients(dtype, n):
    net = network(dtype, sizes=(5, 70, 3))
    X, y, _ = data(n, dtype)
    handle, gradient = compiled.Handle(net, 600), np.empty(net.n_parameters, dtype)
    cost, wanted = cost_and_gradient(net, X, y)
    assert gradient_of(handle, X, y, gradient) == pytest.approx(cost, rel=1e-6)
    if n <= 50:  # more than fit into the buffers of one call from Python are summed in other parts
        assert np.array_equal(gradient, wanted)
    assert np.allclose(gradient, wanted, rtol=1e-4, atol=1e-7 if dtype == "float32" else 1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 40, 600])
def test_vjp(dtype, n):
    net = network(dtype, "softmax", input_scale=0.5)
    X, _, cotangent = data(n, dtype)
    handle, gradient, to_inputs = compiled.Handle(net, 600), np.empty(net.n_parameters, dtype), np.empty_like(X)
    assert pulled_back(handle, X, cotangent, gradient, to_inputs)
    assert np.allclose(gradient, vjp(net, X, cotangent), rtol=1e-4, atol=1e-6)
    each = np.stack([input_gradients(net, X, output=k) for k in range(3)], axis=2)
    assert np.allclose(to_inputs, (each * cotangent[:, None, :]).sum(axis=2), rtol=1e-4, atol=1e-6)
    alone = np.empty_like(gradient)
    assert pulled_back(handle, X, cotangent, alone, None) and np.array_equal(alone, gradient)


@pytest.mark.parametrize("settings", [dict(optimizer=Adam(0.01)), dict(clip_norm=0.01), dict(max_norm=0.4),
                                      dict(optimizer=Lion(0.01), frozen=[1])], ids=str)
def test_an_update_by_the_gradient_is_a_step(settings):
    ours, theirs = pair(network(), batch_size=32, **settings)
    X, y, _ = data(20)
    handle, gradient = compiled.Handle(ours), np.empty(ours.network.n_parameters, np.float32)
    for _ in range(3):
        gradient_of(handle, X, y, gradient)
        assert updated(handle, gradient) and handle.problem is None
        theirs.step(X, y)
    assert alike(ours, theirs) and ours.steps_done == 3


def test_dropout_takes_no_part_outside_of_steps():
    ours, theirs = pair(network(), batch_size=32, dropout=0.5)
    X, y, _ = data(20)
    handle, out, gradient = compiled.Handle(ours), np.empty((20, 3), np.float32), np.empty(66, np.float32)
    assert outputs(handle, X, out) and np.array_equal(out, theirs.network.forward(X))
    assert gradient_of(handle, X, y, gradient) == pytest.approx(cost_and_gradient(theirs.network, X, y)[0])


@njit
def in_place(handle, X, y, n):
    rows, targets, cost = compiled.inputs(handle), compiled.targets(handle), 0.0
    for _ in range(n):
        for i in range(len(X)):
            rows[i], targets[i] = X[i], y[i]
        cost = compiled.step(handle, rows[: len(X)], targets[: len(X)])
    return cost


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("sizes", "n"), [((5, 7, 3), 20), ((300, 90, 3), 1403)])
def test_samples_in_place(dtype, sizes, n):
    ours, theirs = pair(network(dtype, "identity", sizes), batch_size=n)
    X, _, y = data(n, dtype, n_in=sizes[0])
    handle = compiled.Handle(ours)
    in_place(handle, X, y, 3)
    for _ in range(3):
        theirs.step(X, y)
    assert alike(ours, theirs)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch_size", [512, 513, 700, 1100])
def test_mini_batches_of_every_size(dtype, batch_size):
    """Of a handle that goes through large ones in pieces; each goes in those of its own size."""
    ours, theirs = pair(network(dtype, sizes=(8, 7, 5, 130)), batch_size=batch_size, optimizer=SGD(0.1), threads=1)
    X, y, _ = data(batch_size, dtype, n_in=8, n_out=130)
    handle = compiled.Handle(ours)
    for n in [*range(1, batch_size, 13), *range(319, 323), *range(383, 387), 511, 512, 513, batch_size]:
        if n <= batch_size:
            assert steps(handle, X[:n], y[:n], 1) == theirs.step(X[:n], y[:n]), n
            assert alike(ours, theirs), n


@njit
def views_of_rows(handle, X, t, kind):
    """A step on samples X and targets t, which lie in the handle's rows as `kind` says."""
    n, rows, targets = len(X), compiled.inputs(handle), compiled.targets(handle)
    if kind == 0:
        targets[: 2 * n : 2] = t
        return compiled.step(handle, X, targets[: 2 * n : 2])
    if kind == 1:
        rows[:n] = X[::-1]
        return compiled.step(handle, rows[:n][::-1], t)
    if kind == 2:
        rows[:n] = X[:, ::-1]
        return compiled.step(handle, rows[:n, ::-1], t)
    if kind == 3:
        targets[:n] = t[:, ::-1]
        return compiled.step(handle, X, targets[:n, ::-1])
    if kind == 4:
        targets[1 : n + 1] = t
        return compiled.step(handle, X, targets[1 : n + 1])
    if kind == 5:
        rows[1 : n + 1, : t.shape[1]] = t
        return compiled.step(handle, X, rows[1 : n + 1, : t.shape[1]])
    if kind == 6:
        targets[:n, : X.shape[1]] = X
        return compiled.step(handle, targets[:n, : X.shape[1]], t)
    rows[:n] = X
    rows[n : 2 * n, : t.shape[1]] = t
    return compiled.step(handle, rows[:n], rows[n : 2 * n, : t.shape[1]])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", range(8))
@pytest.mark.parametrize("n", [1, 7])
def test_views_of_the_handles_rows(dtype, kind, n):
    """Those that would be written over while they are read are refused; of one sample some are plainly in place."""
    ours, theirs = pair(network(dtype, "identity", (4, 6, 4)), batch_size=20)
    X, _, t = data(n, dtype, n_in=4, n_out=4)
    handle = compiled.Handle(ours)
    cost = views_of_rows(handle, X, t, kind)
    if np.isnan(cost):
        assert "own rows" in handle.problem and "pass a copy" in handle.problem
        assert np.array_equal(ours.network.theta, theirs.network.theta)
    else:
        assert n == 1 and kind < 2 and cost == theirs.step(X, t) and alike(ours, theirs)


@njit
def autoencode(handle, X):
    rows = compiled.inputs(handle)
    rows[: len(X)] = X
    return compiled.step(handle, rows[: len(X)], rows[: len(X)])


@njit
def targets_in_the_inputs(handle, X, t):
    rows = compiled.inputs(handle)
    rows[: len(X), : t.shape[1]] = t
    return compiled.step(handle, X, rows[: len(X), : t.shape[1]])


@pytest.mark.parametrize("n", [9, 1300])
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_targets_in_the_rows_of_samples(noise, n):
    """Of an autoencoder that learns to take noise away; and before other samples come there."""
    ours, theirs = pair(network("float32", "identity", (4, 6, 4)), batch_size=n, noise=noise, threads=1)
    X, _, t = data(n, n_in=4, n_out=4)
    handle = compiled.Handle(ours)
    assert autoencode(handle, X) == theirs.step(X, X) and alike(ours, theirs)
    assert targets_in_the_inputs(handle, X, t) == theirs.step(X, t) and alike(ours, theirs)


@njit
def pulled_back_from_rows(handle, X, cotangent, gradient, step):
    rows = compiled.targets(handle)
    rows[: step * len(X) : step] = cotangent
    return compiled.vjp(handle, X, rows[: step * len(X) : step], gradient)


def test_cotangents_in_the_handles_rows():
    net = network("float64", "identity", (4, 6, 4))
    X, _, cotangent = data(7, "float64", n_in=4, n_out=4)
    handle, gradient = compiled.Handle(net, batch_size=20), np.empty(net.n_parameters)
    assert pulled_back_from_rows(handle, X, cotangent, gradient, 1)
    np.testing.assert_array_equal(gradient, vjp(net, X, cotangent))
    assert not pulled_back_from_rows(handle, X, cotangent, gradient, 2) and "own rows" in handle.problem


@njit
def outputs_from_rows(handle, X, out, backwards):
    rows = compiled.inputs(handle)
    if backwards:
        rows[: len(X)] = X[::-1]
        return compiled.forward(handle, rows[: len(X)][::-1], out)
    rows[: len(X)] = X
    return compiled.forward(handle, rows[: len(X)], out)


def test_outputs_of_the_handles_rows():
    net = network(sizes=(4, 6, 4))
    X, out = data(7, n_in=4)[0], np.empty((7, 4), np.float32)
    handle = compiled.Handle(net, batch_size=20)
    assert outputs_from_rows(handle, X, out, False) and np.array_equal(out, net.forward(X))
    assert not outputs_from_rows(handle, X, out, True) and "own rows" in handle.problem


@pytest.mark.parametrize("n", [7, 20, 53])
def test_results_on_the_samples(n):
    """Right where all are read first, else refused."""
    net = network(sizes=(4, 6, 4))
    memory = np.zeros(4 * (n + 3), np.float32)
    handle = compiled.Handle(net, batch_size=20)
    for start in (0, 4, 8):
        X, out = memory[4 : 4 + 4 * n].reshape(n, 4), memory[start : start + 4 * n].reshape(n, 4)
        X[:] = data(n, n_in=4)[0]
        expected = net.forward(X.copy())
        if n <= 20:
            assert outputs(handle, X, out) and np.array_equal(out, expected)
        else:
            assert not outputs(handle, X, out) and "does not overlap X" in handle.problem


@njit
def last_cost(handle, X, y, etas):
    cost = 0.0
    for eta in etas:
        if not compiled.set_eta(handle, eta):
            return np.nan
        cost = compiled.step(handle, X, y)
    return cost


def test_a_learning_rate_a_step():
    ours, theirs = pair(network(), batch_size=32, optimizer=SGD(0.1))
    X, y, _ = data(20)
    handle, etas = compiled.Handle(ours), np.array([0.1, 0.01, 0.0, 0.5])
    last_cost(handle, X, y, etas)
    for eta in etas[[0, 1, 3]]:
        theirs.optimizer = SGD(eta)
        theirs.step(X, y)
    assert np.array_equal(ours.network.theta, theirs.network.theta)
    assert np.isnan(last_cost(handle, X, y, np.array([np.nan]))) and "eta" in handle.problem


@njit(parallel=True)
def train_all(handles, X, y, n):
    for i in prange(len(handles)):
        for _ in range(n):
            compiled.step(handles[i], X, y)


def test_many_networks_in_a_prange():
    X, y, _ = data(20)
    pairs = [pair(Network([5, 7, 3], seed=i), batch_size=32, optimizer=Adam(0.01)) for i in range(9)]
    several = compiled.Handles(compiled.Handle(ours) for ours, _ in pairs)
    train_all(several, X, y, 5)
    for ours, theirs in pairs:
        for _ in range(5):
            theirs.step(X, y)
        assert alike(ours, theirs)
    assert len(several) == 9 and several[8].problem is None

    @njit
    def beyond(handles, X, y):
        return compiled.step(handles[9], X, y)

    with pytest.raises(IndexError):
        beyond(several, X, y)


def test_a_handle_keeps_its_network():
    X, y, _ = data(20)
    handle = compiled.Handle(Trainer(network(), batch_size=32))
    gc.collect()
    assert steps(handle, X, y, 200) < 1.0 and handle.network.predict(X).shape == (20,)


@pytest.mark.parametrize("batch_size", [1, 32, 128])
def test_what_a_handle_holds(batch_size):
    """Less than the network, the optimiser's moments and the buffers of a step again."""
    trainer = Trainer(Network([784, 128, 10]), optimizer=Adam(), batch_size=batch_size)
    trainer.fit(np.zeros((batch_size, 784)), np.zeros(batch_size, int), 1, progress=False)
    compiled.Handle(trainer)  # what is made once
    workspace = trainer.network.workspace(batch_size)
    tracemalloc.start()
    handle = compiled.Handle(trainer)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert handle.problem is None
    assert held < 2 * (trainer.network.theta.nbytes + workspace.buffers.nbytes)


def test_steps_of_all_kinds_on_one_state():
    ours, theirs = pair(network(), batch_size=32, optimizer=Adam(0.01))
    X, y, _ = data(64)
    handle = compiled.Handle(ours)
    for trainer in (ours, theirs):
        trainer.fit(X, y, epochs=2, progress=False)
        steps(handle, X[:32], y[:32], 3) if trainer is ours else [trainer.step(X[:32], y[:32]) for _ in range(3)]
        trainer.fit(X, y, epochs=2, progress=False)
    assert alike(ours, theirs)


REFUSED = [
    (lambda X, y: (X[:, :4], y), "X has 4 features, the network takes 5"),
    (lambda X, y: (np.repeat(X, 5, axis=0), np.repeat(y, 5)), "takes 1 to batch_size=32 samples, got 100"),
    (lambda X, y: (X[:0], y[:0]), "got 0"),
    (lambda X, y: (X, y[:-1]), "one of its lengths is 19"),
    (lambda X, y: (np.where(np.arange(20)[:, None] == 7, np.float32("nan"), X), y), r"X\[7\] has a number that is not"),
    (lambda X, y: (X.astype(np.float64) * np.where(np.arange(20)[:, None] == 3, 1e300, 1), y), r"X\[3\]"),
    (lambda X, y: (X, np.where(np.arange(20) == 5, 3, y)), r"y\[5\] is not one of the labels 0 to 2"),
    (lambda X, y: (X, np.where(np.arange(20) == 6, -1, y)), r"y\[6\] is not one"),
    (lambda X, y: (X, np.full((20, 3), 0.5)), r"y\[0\] is .*not a valid target for a cross_entropy loss"),
    (lambda X, y: (X, np.ones((20, 2))), "one of its lengths is 2"),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_what_is_not_for_the_network_changes_nothing(number):
    change, words = REFUSED[number]
    trainer = Trainer(network(), batch_size=32)
    X, y, _ = data(20)
    handle, before, gradient = compiled.Handle(trainer), trainer.network.theta.copy(), np.zeros(66, np.float32)
    assert np.isnan(steps(handle, *change(X, y), 1))
    assert np.array_equal(trainer.network.theta, before) and trainer.steps_done == 0
    with pytest.raises(ValueError, match=words):
        raise ValueError(handle.problem)
    assert np.isnan(gradient_of(handle, *change(X, y), gradient)) and not gradient.any()
    assert np.isfinite(steps(handle, X, y, 1)) and handle.problem is None


def test_results_without_room_are_not_written():
    handle = compiled.Handle(Trainer(network(), batch_size=32))
    X, y, rows = data(20)
    memory = np.zeros((40, 3), np.float32)
    assert not outputs(handle, X, memory[:19]) and not outputs(handle, X, memory[:21]) and not memory.any()
    assert "wrong shape" in handle.problem
    assert not labels_of(handle, X, np.zeros(19, np.int64))
    assert np.isnan(gradient_of(handle, X, y, np.zeros(65, np.float32)))
    assert not updated(handle, np.zeros(67, np.float32))
    assert not pulled_back(handle, X, rows, np.zeros(66, np.float32), np.zeros((19, 5), np.float32))
    assert not pulled_back(handle, X, rows[:, :2].copy(), np.zeros(66, np.float32), None)
    X[4, 2] = np.inf
    assert not outputs(handle, X, memory[:20]) and handle.problem.startswith("X[4]")


def test_what_a_handle_is_not_made_for():
    X, y, rows = data(20)
    handle = compiled.Handle(network())
    assert np.isnan(steps(handle, X, y, 1)) and "make the handle from a Trainer" in handle.problem
    assert not updated(handle, np.zeros(66, np.float32)) and "optimizer" in handle.problem
    for net in (network(output="identity"), network(output="sigmoid")):
        handle = compiled.Handle(net)
        assert not labels_of(handle, X, np.zeros(20, np.int64)) and "use forward" in handle.problem
    handle = compiled.Handle(Trainer(network(output="identity", sizes=(5, 7, 1)), batch_size=32))
    assert np.isnan(steps(handle, X, y, 1)) and "floating-point" in handle.problem


def test_a_step_that_diverges_is_not_made():
    trainer = Trainer(network(output="identity"), optimizer=SGD(1e30), batch_size=32)
    X, _, rows = data(20)
    handle = compiled.Handle(trainer)
    assert np.isnan(steps(handle, X, rows, 50)) and "not finite" in handle.problem
    made, before = trainer.steps_done, trainer.network.theta.copy()
    assert 0 < made < 50 and np.isnan(steps(handle, X, rows, 1))
    assert trainer.steps_done == made and np.array_equal(trainer.network.theta, before, equal_nan=True)


def test_an_update_by_no_numbers_is_not_made():
    trainer = Trainer(network(), batch_size=32)
    handle, gradient, before = compiled.Handle(trainer), np.zeros(66, np.float32), trainer.network.theta.copy()
    gradient[65] = np.nan
    assert not updated(handle, gradient) and np.array_equal(trainer.network.theta, before) and not trainer.steps_done
    assert "not finite" in handle.problem


@pytest.mark.parametrize(("function", "given", "words"), [
    (steps, lambda X, y: (X.astype(complex), y, 1), "X must be an array"),
    (steps, lambda X, y: (X.astype(np.float16), y, 1), "X must be an array"),
    (steps, lambda X, y: (X, y.astype(np.int32), 1), "y must be labels"),
    (steps, lambda X, y: (X, None, 1), "y must be labels"),
    (outputs, lambda X, y: (X, np.zeros((20, 3))), "contiguous, writeable arrays of float32"),
    (outputs, lambda X, y: (X, np.zeros((20, 6), np.float32)[:, ::2]), "contiguous, writeable"),
    (outputs, lambda X, y: (X[0], np.zeros((1, 3), np.float32)), "of 1 dimension"),
    (gradient_of, lambda X, y: (X, y, frozen(np.zeros(66, np.float32))), "contiguous, writeable"),
    (labels_of, lambda X, y: (X, np.zeros(20, np.int32)), "labels must be a writeable array"),
])
def test_types_that_cannot_be_are_told_when_it_is_compiled(function, given, words):
    X, y, _ = data(20)
    with pytest.raises(numba.TypingError, match=words):
        function(compiled.Handle(Trainer(network(), batch_size=32)), *given(X, y))


def test_what_no_handle_is_made_of():
    with pytest.raises(TypeError, match="needs a Trainer or a Network, got str"):
        compiled.Handle("net")
    with pytest.raises(ValueError, match="ema"):
        compiled.Handle(Trainer(network(), ema=0.9))
    with pytest.raises(ValueError, match="leave out loss"):
        compiled.Handle(Trainer(network()), loss="quadratic")
    with pytest.raises(ValueError, match="batch_size"):
        compiled.Handle(network(), 0)
    with pytest.raises(ValueError, match="got none"):
        compiled.Handles([])
    with pytest.raises(ValueError, match="float32 and float64"):
        compiled.Handles([compiled.Handle(network()), compiled.Handle(network("float64"))])
    for copied in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="make one in each"):
            copied(compiled.Handle(network()))
        with pytest.raises(TypeError, match="make one in each"):
            copied(compiled.Handles([compiled.Handle(network())]))


def test_code_that_was_compiled_for_another_version_takes_no_handle():
    from fastbp.core.handles import HandleType

    @njit(numba.int64(HandleType("float32", "another")))
    def status(handle):
        return handle.status

    with pytest.raises(TypeError, match="version"):
        status(compiled.Handle(network()))


PROGRAM = textwrap.dedent("""
    import sys
    import numpy as np
    from numba import njit
    from fastbp import Network, Trainer, compiled

    @njit(cache=True)
    def run(handle, X, y):
        return compiled.step(handle, X, y)

    handle = compiled.Handle(Trainer(Network([2, 3, 2], seed=0)))
    print(run(handle, np.ones((4, 2), np.float32), np.zeros(4, np.int64)), sum(run.stats.cache_hits.values()))
""")


def test_a_users_cached_function_follows_the_version(tmp_path):
    """It is loaded from disk as long as fastbp is the same, and compiled again when its core has changed."""
    package = Path(fastbp.__file__).parent
    shutil.copytree(package, tmp_path / "fastbp", ignore=shutil.ignore_patterns("__pycache__", "mnist"))
    (tmp_path / "fastbp" / "data" / "mnist").mkdir()
    for file in (package / "data" / "mnist").glob("*.py"):
        shutil.copy(file, tmp_path / "fastbp" / "data" / "mnist")
    (tmp_path / "program.py").write_text(PROGRAM)

    def run():
        done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, text=True, capture_output=True, check=True)
        cost, hits = done.stdout.split()
        return float(cost), int(hits)

    first, again = run(), run()
    assert first[1] == 0 and again == (first[0], 1)
    handles = tmp_path / "fastbp" / "core" / "handles.py"
    source = handles.read_text()
    assert "return cost if good else math.nan" in source
    handles.write_text(source.replace("return cost if good else math.nan", "return cost + 1000 if good else math.nan"))
    assert run() == (first[0] + 1000, 0)
