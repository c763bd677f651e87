"""fastbp.Trainer: the same bits whatever the threads, against plain NumPy, schedules, divergence, Ctrl-C, the bar."""

import contextlib
import copy
import dataclasses
import dis
import inspect
import itertools
import math
import os
import pickle
import re
import select
import signal
import struct
import subprocess
import sys
import time
from collections import deque
from types import SimpleNamespace

import numpy as np
import pytest
from rig import in_threads, python, start

from fastbp import SGD, Adam, DivergenceError, History, Network, Trainer, cost_and_gradient, data, fit_many
from fastbp.callbacks import Every
from fastbp.core import call, compiler, engine
from fastbp.core.equations import rows_near
from fastbp.core.plan import MANY_WEIGHTS, plan_for, scratch_size
from fastbp.core.threads import board as boards
from fastbp.core.threads import processors, team
from fastbp.core.threads.pace import Pace
from fastbp.data import Augmentation
from fastbp.inputs import as_data
from fastbp.randomness import ORDER, generator
from fastbp.schedules import SCHEDULES
from fastbp.training import loop, many, passes, stepper
from fastbp.training.settings import SETTINGS
from fastbp.workspace import aligned

try:
    import fcntl
    import pty
    import termios
except ImportError:
    pty = None

NESTEROV = SGD(0.05, 0.9, nesterov=True)


def dense(n=103, n_in=6, seed=0):
    """Samples and labels 0 to 2 that can be learned."""
    X = np.random.default_rng(seed).normal(size=(n, n_in)).astype("f4")
    return X, np.argmax(X[:, :3], axis=1)


@pytest.fixture(scope="module")
def compiled():
    """Machine code for other processes lies in the cache, so that they are quiet about it."""
    for threads in (1, 2):
        Trainer(Network([2, 2]), threads=threads).compile()


@pytest.fixture(scope="module")
def digits():
    """The first 517 images of MNIST."""
    x, y, _, _ = data.mnist()
    return x[:517] / np.float32(255), y[:517]


def trained(X, y, epochs=3, sizes=None, seed=0, network=None, **settings):
    """(theta, history, trainer) of a new network after a fit."""
    net = copy.deepcopy(network) if network else Network(sizes or [X.shape[1], 16, 3], seed=5)
    trainer = Trainer(net, seed=seed, **({"batch_size": 10} | settings))
    history = trainer.fit(X, y, epochs)
    return net.theta, history, trainer


def same(a, b):
    return a.tobytes() == b.tobytes()


# Threads, seeds, repetition


@pytest.mark.parametrize("optimizer", [NESTEROV, Adam(0.003), SGD(0.1), SGD(0.05, 0.5)], ids=repr)
def test_every_thread_count_gives_the_same_bits(digits, optimizer):
    X, y = digits
    results = [trained(X, y, 3, [784, 48, 10], optimizer=optimizer, batch_size=50, threads=t) for t in (1, 2, 3, None)]
    for theta, history, trainer in results[1:]:
        assert same(theta, results[0][0])
        assert history.loss == results[0][1].loss
        assert trainer.steps_done == 33
    assert results[0][1].loss[-1] < results[0][1].loss[0] < 4


@pytest.mark.parametrize("batch_size", [1, 7, 32, 103])
@pytest.mark.parametrize("optimizer", [NESTEROV, Adam(0.003)], ids=repr)
@pytest.mark.filterwarnings("ignore::fastbp.TrainingWarning")
def test_every_thread_count_gives_the_same_bits_on_dense_data(optimizer, batch_size):
    X, y = dense()
    settings = {"sizes": [6, 33, 18, 3], "optimizer": optimizer, "batch_size": batch_size, "schedule": "linear"}
    theta = [trained(X, y, threads=threads, **settings)[0] for threads in (1, 2, 3)]
    assert same(theta[0], theta[1])
    assert same(theta[0], theta[2])


def test_the_type_of_the_samples_changes_no_bit():
    X = np.random.default_rng(0).integers(-5, 6, size=(53, 6))
    y = np.argmax(X[:, :3], axis=1)
    expected = trained(X.astype("f4"), y.astype("i8"))[0]
    for kind in ("f8", "i2", ">f4", "f2"):
        assert same(trained(X.astype(kind), y.astype("u1"))[0], expected)
        assert same(trained(np.asfortranarray(X.astype(kind)), np.eye(3, dtype="f8")[y])[0], expected)
    assert same(trained(np.asarray(X, "f4")[::-1].copy()[::-1], y.tolist())[0], expected)


def test_seed():
    X, y = dense()
    first, again, other = (trained(X, y, seed=seed)[0] for seed in (0, 0, 1))
    assert same(first, again)
    assert not np.allclose(first, other, rtol=1e-3)


@pytest.mark.parametrize("optimizer", [NESTEROV, Adam(0.003)], ids=repr)
def test_further_fits_go_on_where_the_last_one_ended(optimizer):
    X, y = dense()
    whole, history, _ = trained(X, y, 5, optimizer=optimizer)
    _, first, trainer = trained(X, y, 2, optimizer=optimizer)
    assert (trainer.epochs_done, trainer.steps_done) == (2, 22)
    second = trainer.fit(X, y, 3)
    assert (trainer.epochs_done, trainer.steps_done) == (5, 55)
    assert same(trainer.network.theta, whole)
    assert first.loss + second.loss == history.loss


COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda trainer: pickle.loads(pickle.dumps(trainer))}


@pytest.mark.parametrize("way", COPIES)
def test_a_copied_trainer_goes_on_as_the_original(way):
    X, y = dense()
    whole = trained(X, y, 5, optimizer=Adam(0.003))[0]
    theta, _, trainer = trained(X, y, 2, optimizer=Adam(0.003))
    before = theta.copy()
    again = COPIES[way](trainer)
    again.fit(X, y, 3)
    assert same(again.network.theta, whole)
    assert same(theta, before)
    trainer.fit(X, y, 3)
    assert same(theta, whole)


def test_samples_stay_as_they_are():
    X, y = dense()
    X.flags.writeable = y.flags.writeable = False
    kept = X.copy(), y.copy()
    trained(X, y)
    assert same(X, kept[0])
    assert same(y, kept[1])


# Against plain NumPy


def numpy_training(net, X, targets, optimizer, batch_size, seed, epochs, loss, schedule):
    """Backpropagation of a network with one hidden layer of tanh, in float64: (theta, mean costs)."""
    parameters = [part.copy() for pair in zip(net.W, net.b, strict=True) for part in pair]
    W_1, b_1, W_2, b_2 = parameters
    first_moments, second_moments = ([np.zeros_like(p) for p in parameters] for _ in range(2))
    steps = epochs * math.ceil(len(X) / batch_size)
    step, losses = 0, []
    for epoch in range(epochs):
        total = 0.0
        order = generator(ORDER, seed, epoch).permutation(len(X))
        for batch in (order[i : i + batch_size] for i in range(0, len(X), batch_size)):
            x, t, n = X[batch], targets[batch], len(batch)
            hidden = np.tanh(x @ W_1 + b_1)
            z = hidden @ W_2 + b_2
            if loss == "quadratic":
                delta = z - t
                total += 0.5 * np.sum(delta**2)
            else:
                a = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
                delta = a - t
                total -= np.sum(t * np.log(a))
            before = delta @ W_2.T * (1 - hidden**2)
            gradients = [x.T @ before / n, before.mean(axis=0), hidden.T @ delta / n, delta.mean(axis=0)]
            eta = optimizer.eta * (schedule(step, steps) if schedule else 1)
            step += 1
            for p, g, m, v in zip(parameters, gradients, first_moments, second_moments, strict=True):
                if isinstance(optimizer, Adam):
                    m[:] = optimizer.beta1 * m + (1 - optimizer.beta1) * g
                    v[:] = optimizer.beta2 * v + (1 - optimizer.beta2) * g**2
                    root = np.sqrt(v / (1 - optimizer.beta2**step))
                    p -= eta * m / (1 - optimizer.beta1**step) / (root + optimizer.epsilon)
                else:
                    v[:] = optimizer.momentum * v + g
                    p -= eta * (g + optimizer.momentum * v if optimizer.nesterov else v)
        losses.append(total / len(X))
    return np.concatenate([p.ravel() for p in parameters]), losses


OPTIMIZERS = [SGD(0.1), SGD(0.1, 0.8), NESTEROV, Adam(0.01, 0.8, 0.95, 1e-6)]


@pytest.mark.parametrize("batch_size, seed", [(8, 0), (5, 7), (1, 1), (100, 2)])
@pytest.mark.parametrize("loss", ["quadratic", "cross_entropy"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=["sgd", "momentum", "nesterov", "adam"])
def test_against_numpy(optimizer, loss, batch_size, seed):
    X, y = dense(21)
    X = X.astype("f8")
    output = "identity" if loss == "quadratic" else "softmax"
    net = Network([6, 5, 3], "tanh", output, "float64", seed=3)
    targets = X[:, 1:4] ** 2 if loss == "quadratic" else np.eye(3)[y]
    for schedule in (None, SCHEDULES["linear"]):
        expected = numpy_training(net, X, targets, optimizer, batch_size, seed, 2, loss, schedule)
        theta, history, _ = trained(X, targets, 2, network=net, optimizer=optimizer, batch_size=batch_size, seed=seed,
                                    schedule=schedule)
        np.testing.assert_allclose(theta, expected[0], rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(history.loss, expected[1], rtol=1e-10)


def test_order_of_samples_comes_from_seed_and_epoch_alone():
    """Sample i is the i-th unit vector, its target 1: W[i] grows by eta times the factor of the step that meets i."""
    n, eta = 30, 1e-9

    def orders(epochs, batch_size, **settings):
        net = Network([n, 1], output="identity", dtype="float64")
        trainer = Trainer(net, "quadratic", SGD(eta), batch_size, seed=4, schedule=lambda step, _: 1 + step, **settings)
        for _ in range(epochs):
            net.theta = np.zeros(n + 1)
            trainer.fit(np.eye(n), np.ones(n), 1)
            met = np.rint(net.theta[:n] / eta * batch_size).astype(int) - 1
            yield np.argsort(met).tolist() if batch_size == 1 else met.tolist()

    expected = [generator(ORDER, 4, epoch).permutation(n) for epoch in range(3)]
    assert list(orders(3, 1)) == [order.tolist() for order in expected]
    assert list(orders(3, 1, threads=2)) == [order.tolist() for order in expected]
    batches = [np.empty(n, int) for _ in range(3)]
    for batch, order in zip(batches, expected, strict=True):
        batch[order] = np.arange(n) // 6
    assert list(orders(3, 6)) == [batch.tolist() for batch in batches]


# Defaults


@pytest.mark.parametrize(("output", "eta"), [("softmax", 0.2), ("sigmoid", 0.2), ("identity", 0.01), ("tanh", 0.01)])
def test_default_optimizer_and_its_schedule(output, eta):
    """What is not given is as written in help(Trainer); an optimiser that is given keeps its rate."""
    X, y = dense()
    y = np.eye(3)[y]

    def trained_with(epochs=(), change=None, **settings):
        net = Network([6, 4, 3], output=output, seed=1)
        trainer = Trainer(net, "quadratic", batch_size=10, **settings)
        if change is not None:
            trainer.optimizer = change
        pickle.loads(pickle.dumps(trainer)).fit(X, y, *epochs)
        trainer.fit(X, y, *epochs)
        return net.theta.tobytes()

    default, other = SGD(eta, 0.9, nesterov=True), SGD(eta / 2, 0.9, nesterov=True)
    assert trained_with() == trained_with([5], optimizer=default, schedule="linear") == trained_with(optimizer="sgd")
    for given in ({"optimizer": default}, {"change": default}, {"schedule": "constant"}):
        assert trained_with(**given) == trained_with([5], optimizer=default, schedule="constant")
    assert trained_with(change=other) == trained_with(optimizer=other) != trained_with(optimizer=default)
    assert trained_with(optimizer="adam") == trained_with(optimizer=Adam(), schedule="constant")


def test_streams_go_without_the_default_schedule():
    X, y = dense()
    thetas = []
    for settings in ({}, {"schedule": "constant"}, {"optimizer": SGD(0.2, 0.9, True)}):
        net = Network([6, 4, 3], seed=1)
        trainer = Trainer(net, batch_size=10, **settings)
        trainer.partial_fit(X, y)
        trainer.fit_batches([(X, y)], 2)
        thetas.append(net.theta.tobytes())
    assert len(set(thetas)) == 1


# Settings that are assigned


WRONG = {
    "loss": ["msee", "mse2", len, "binary_cross_entropy"], "optimizer": ["adma", 0.1, Adam],
    "batch_size": [0, 1.5, True, "8"], "seed": [-1, 0.5, None], "threads": [0, 1.5, 10**9, "2"],
    "schedule": ["cosin", 0.1, type(SCHEDULES["cosine"])], "dropout": [1.0, -0.1, [0.1], "x", None],
    "noise": [-1, math.nan, 1e-12, 1e12, None], "clip_norm": [-1, 0, math.inf, "x"], "clip_value": [-1, 0, "x"],
    "max_norm": [-1, 0, "x"], "ema": [0, 1, 2, "x"], "frozen": [0, [2], [-1], [0, 1], "x"],
    "augmentation": [True, "shift", Augmentation, Augmentation(shift=1), Augmentation(shape=(2, 4))],
}


def refusal(function):
    with pytest.raises((ValueError, TypeError)) as caught:
        function()
    return caught.type, str(caught.value)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in WRONG for value in WRONG[name]])
def test_a_wrong_setting_is_refused_alike_when_it_is_assigned(name, value):
    trainer = Trainer(Network([6, 4, 3], output="softmax"))
    before = getattr(trainer, name)
    assert refusal(lambda: setattr(trainer, name, value)) == refusal(
        lambda: Trainer(Network([6, 4, 3], output="softmax"), **{name: value}))
    assert getattr(trainer, name) is before


RIGHT = {
    "loss": "mse", "optimizer": "adam", "batch_size": np.int64(17), "seed": np.int64(5), "threads": 2,
    "schedule": "cosine", "dropout": 0.5, "noise": 1, "clip_norm": 1, "clip_value": 1, "max_norm": 1, "ema": 0.5,
    "frozen": [0, 0], "augmentation": Augmentation(shift=1, shape=(2, 3)),
}


def test_every_setting_is_in_the_table():
    assert set(RIGHT) == set(WRONG) == set(SETTINGS)
    assert list(inspect.signature(Trainer).parameters)[1:] == list(SETTINGS)


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("copied", [lambda trainer: trainer, copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))],
                         ids=["itself", "deepcopy", "pickle"])
def test_an_assigned_setting_is_as_one_of_the_constructor(name, copied):
    """Of the same plain value, with the same bits; also assigned to a copy."""
    X, y = dense()
    given, assigned = (Trainer(Network([6, 8, 3], seed=1), **{"batch_size": 20} | settings)
                       for settings in ({name: RIGHT[name]}, {}))
    assigned = copied(assigned)
    setattr(assigned, name, RIGHT[name])
    assert repr(getattr(given, name)) == repr(getattr(assigned, name)) and repr(given) == repr(assigned)
    one, other = given.stepper, assigned.stepper
    assert list(one.pace.recent) == list(other.pace.recent) and len(one.board) == len(other.board)
    assert len(one.scratch) == len(other.scratch) and given.state.rows.shape == assigned.state.rows.shape
    for trainer in (given, assigned):
        trainer.fit(X, y, 2)
    assert same(given.network.theta, assigned.network.theta) and same(given.state.rows, assigned.state.rows)


def test_threads_are_chosen_anew_for_another_batch_size(monkeypatch):
    """Unless their number was given."""
    monkeypatch.setattr(processors, "available_threads", lambda: 2)
    free, fixed = Trainer(Network([64, 64, 10]), batch_size=1), Trainer(Network([64, 64, 10]), batch_size=1, threads=1)
    for trainer in (free, fixed):
        trainer.batch_size = 1000
    assert (free.threads, fixed.threads) == (2, 1) and list(free.stepper.pace.recent) == [1, 2]
    fixed.threads = None
    assert fixed.threads == 2 and fixed.stepper.pace is free.stepper.pace


@pytest.mark.parametrize("first", ["clip_norm", "clip_value"])
def test_two_ways_to_clip_are_refused_whichever_comes_second(first):
    second = "clip_value" if first == "clip_norm" else "clip_norm"
    trainer = Trainer(Network([6, 3]), **{first: 1.0})
    with pytest.raises(ValueError, match="give clip_norm or clip_value, not both"):
        setattr(trainer, second, 1.0)
    setattr(trainer, first, None)
    setattr(trainer, second, 1.0)
    assert getattr(trainer, first) is None and getattr(trainer, second) == 1.0


def test_another_state_needs_another_trainer_once_there_are_steps():
    X, y = dense()
    trainer = Trainer(Network([6, 3], seed=1), optimizer=Adam(0.1), ema=0.9)
    trainer.ema = None
    trainer.optimizer = "sgd"
    trainer.fit(X, y, 1)
    for name, value in (("optimizer", "adam"), ("ema", 0.9)):
        before = getattr(trainer, name)
        with pytest.raises(ValueError, match=f"{name} cannot be changed to .*; make a new Trainer"):
            setattr(trainer, name, value)
        assert getattr(trainer, name) is before
    trainer.optimizer = SGD(0.1, 0.5, nesterov=True)
    trainer.fit(X, y, 1)


def test_what_may_be_assigned_during_a_fit():
    """What a fit reads once is refused, as is another state; the rest counts from the next step on."""
    X, y = dense()
    trainer, refused = Trainer(Network([6, 8, 3], seed=1), optimizer=SGD(0.1), batch_size=20), []

    def change(fit):
        trainer.clip_value = None
        for name in SETTINGS:
            try:
                setattr(trainer, name, {"optimizer": SGD(0.1), "loss": "quadratic"}.get(name, RIGHT[name]))
                if name == "clip_norm":
                    trainer.clip_norm = None
            except RuntimeError as error:
                assert f"{name} cannot be changed during a fit" in str(error)
                refused.append(name)
            except ValueError as error:
                assert "ema cannot be changed to 0.5" in str(error)
                refused.append(name)
        assert copy.deepcopy(trainer)._is_training is False

    trainer.fit(X, y, 1, callbacks=[Every(3, change)])
    assert set(refused) == {"batch_size", "seed", "threads", "dropout", "noise", "augmentation", "frozen", "ema"}
    assert trainer.clip_value == trainer.max_norm == 1.0
    trainer.batch_size = 10
    trainer.fit(X, y, 1)


@pytest.mark.parametrize("name", ["eta", "lr", "learning_rate"])
def test_a_learning_rate_that_a_trainer_does_not_have(name):
    """Would else be an attribute that nothing reads."""
    with pytest.raises(AttributeError, match=f"a trainer has no {name}: eta belongs to the optimizer"):
        setattr(Trainer(Network([6, 3])), name, 0.1)


# Schedules


def test_schedule_is_asked_for_every_step_of_a_fit():
    X, y = dense(25)
    asked = []

    def schedule(step, steps):
        asked.append((step, steps))
        return 1

    trainer = Trainer(Network([6, 4, 3]), batch_size=10, schedule=schedule)
    trainer.fit(X, y, 3)
    assert asked == [(step, 9) for step in range(9)]
    asked.clear()
    trainer.fit(X, y, 1)  # a further fit has a schedule of its own
    assert asked == [(step, 3) for step in range(3)]


@pytest.mark.parametrize("optimizer", [SGD(0.1), NESTEROV, Adam(0.003)], ids=repr)
def test_a_factor_scales_the_rate(optimizer):
    X, y = dense()
    half = dataclasses.replace(optimizer, eta=optimizer.eta / 2)
    expected = trained(X, y, optimizer=half)[0]
    assert same(trained(X, y, optimizer=optimizer, schedule=lambda step, steps: 0.5)[0], expected)
    assert same(trained(X, y, optimizer=optimizer, schedule=lambda step, steps: np.float32(0.5))[0], expected)


@pytest.mark.parametrize("optimizer", [SGD(0.1), NESTEROV, Adam(0.003)], ids=repr)
def test_a_factor_of_0_changes_no_parameter(optimizer):
    X, y = dense()
    net = Network([6, 16, 3])
    theta, history, trainer = trained(X, y, 2, network=net, optimizer=optimizer, schedule=lambda step, steps: 0)
    assert same(theta, net.theta)
    assert history.loss[0] == pytest.approx(cost_and_gradient(net, X, y)[0])
    assert trainer.steps_done == 22


BAD_FACTORS = {
    "negative": (-1e-9, ValueError, r"schedule must give finite factors >= 0, got -1e-09 to 1\.0"),
    "NaN": (math.nan, ValueError, "schedule must give finite factors >= 0, got nan"),
    "infinite": (math.inf, ValueError, r"schedule must give finite factors >= 0, got 1\.0 to inf"),
    "none": (None, TypeError, "schedule must give a number, by which eta is multiplied, got None"),
    "text": ("fast", TypeError, "schedule must give a number, .* got 'fast'"),
    "complex": (1j, TypeError, "schedule must give a number, .* got 1j"),
    "two numbers": (np.ones(2), TypeError, r"schedule must give a number, .* got array\(\[1., 1.\]\)"),
}


@pytest.mark.parametrize("factor, error, message", BAD_FACTORS.values(), ids=BAD_FACTORS)
def test_bad_factors(factor, error, message):
    X, y = dense()
    trainer = Trainer(Network([6, 4, 3]), batch_size=10, schedule=lambda step, steps: 1 if step != 7 else factor)
    before = trainer.network.theta.copy()
    with pytest.raises(error, match=message):
        trainer.fit(X, y)
    assert same(trainer.network.theta, before)
    assert (trainer.steps_done, trainer.epochs_done) == (0, 0)


def test_an_error_of_the_schedule_itself_comes_through():
    X, y = dense()

    def schedule(step, steps):
        return {}[step]

    with pytest.raises(KeyError):
        Trainer(Network([6, 4, 3]), schedule=schedule).fit(X[:5], y[:5])


# History, evaluation, notes


def test_history_of_labels():
    X, y = dense()
    _, history, trainer = trained(X, y, 4)
    assert isinstance(history, History)
    assert len(history.loss) == len(history.seconds) == 4
    assert all(type(value) is float and math.isfinite(value) for value in history.loss + history.seconds)
    assert min(history.seconds) > 0
    assert history.validation_loss == history.validation_accuracy == []
    other = dense(40, seed=1)
    history = trainer.fit(X, y, 2, validation_data=other)
    cost, accuracy = trainer.evaluate(*other)
    assert history.validation_loss[1] == cost
    assert history.validation_accuracy[1] == accuracy
    assert len(history.validation_loss) == len(history.validation_accuracy) == 2


def test_history_of_values():
    X, _ = dense()
    trainer = Trainer(Network([6, 4, 1], output="identity"), batch_size=10)
    history = trainer.fit(X, X[:, 0], 2, validation_data=[X, X[:, :1]])
    assert len(history.validation_loss) == 2
    assert history.validation_accuracy == []


def test_validation_changes_no_bit():
    X, y = dense()
    trainer = Trainer(Network([6, 16, 3], seed=5), batch_size=10)
    trainer.fit(X, y, 3, validation_data=dense(7, seed=1))
    assert same(trainer.network.theta, trained(X, y)[0])


def test_loss_is_the_mean_over_samples_while_training():
    """With a rate of next to nothing all batches meet the same parameters, also the last, which is smaller."""
    X, y = dense(23)
    net = Network([6, 4, 3], dtype="float64")
    cost = cost_and_gradient(net, X, y)[0]
    _, history, _ = trained(X, y, 1, network=net, optimizer=SGD(1e-30))
    assert history.loss[0] == pytest.approx(cost, rel=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_evaluate(dtype):
    X, y = dense(600)
    net = Network([6, 16, 3], dtype=dtype)
    trainer = Trainer(net)
    for n in (1, 2, 255, 256, 257, 600):
        cost, accuracy = trainer.evaluate(X[:n], y[:n])
        probabilities = net.forward(X[:n])[np.arange(n), y[:n]].astype("f8")
        assert cost == pytest.approx(-np.log(probabilities).mean(), rel=1e-5)
        assert accuracy == np.mean(net.predict(X[:n]) == y[:n])
        assert trainer.evaluate(X[:n], np.eye(3)[y[:n]]) == (cost, accuracy)


def test_accuracy_of_several_classes_to_a_sample():
    """Each output is a decision of its own; of labels and of a softmax's rows, a sample is one."""
    draw = np.random.default_rng(0)
    X, rows = draw.normal(size=(50, 4)), (draw.random((50, 3)) < 0.4).astype(float)
    net = Network([4, 3], output="sigmoid", seed=2)
    expected = np.mean((net.forward(X) >= 0.5) == rows)
    assert Trainer(net).evaluate(X, rows)[1] == pytest.approx(expected)
    labels = rows.argmax(axis=1)
    assert (net.predict(X) == (net.forward(X) >= 0.5)).all()
    assert Trainer(net).evaluate(X, labels)[1] == np.mean(net.forward(X).argmax(axis=1) == labels) != expected
    soft = draw.dirichlet(np.ones(3), 50)
    net = Network([4, 3], seed=2)
    assert Trainer(net).evaluate(X, soft)[1] == np.mean(net.predict(X) == soft.argmax(axis=1))


def test_evaluate_one_sigmoid_and_values():
    X, y = dense(50)
    net = Network([6, 1], output="sigmoid", dtype="float64")
    a = net.forward(X)[:, 0]
    t = y > 0
    cost, accuracy = Trainer(net).evaluate(X, t)
    assert cost == pytest.approx(-np.mean(np.where(t, np.log(a), np.log(1 - a))))
    assert accuracy == np.mean((a >= 0.5) == t)
    assert Trainer(net, "quadratic").evaluate(X, t)[0] == pytest.approx(np.mean((a - t) ** 2) / 2)
    net = Network([6, 2], output="identity", dtype="float64")
    cost, accuracy = Trainer(net).evaluate(X, X[:, :2])
    assert cost == pytest.approx(np.sum((net.forward(X) - X[:, :2]) ** 2) / 100)
    assert accuracy is None


def test_a_batch_larger_than_the_data_is_logged_once(capfd, caplog):
    X, y = dense(20)
    with caplog.at_level("INFO", "fastbp"):
        theta = trained(X, y, 3, batch_size=21)[0]
        assert same(theta, trained(X, y, 3, batch_size=20)[0])
    assert caplog.messages == ["batch_size 21 is more than the 20 samples: each batch holds all of them"]
    assert capfd.readouterr() == ("", "")


def test_a_batch_size_that_is_changed():
    """From one that is gone through at once to one in pieces, which keeps a gradient as long as theta."""
    X, y = dense(1200)
    thetas = []
    for first in (10, 1000):
        net = Network([X.shape[1], 80, 80, 80, 3], seed=1)
        trainer = Trainer(net, optimizer=SGD(0.0001), batch_size=first, threads=1)
        assert (len(trainer.stepper.scratch) >= net.n_parameters) == (first == 1000)
        if first != 1000:
            trainer.fit(X[:20], y[:20])
            net.theta[:] = Network([X.shape[1], 80, 80, 80, 3], seed=1).theta
            trainer.batch_size, trainer.state.epochs_done = 1000, 0
        trainer.fit(X, y)
        thetas.append(net.theta)
    assert same(*thetas)


def test_compile_trains_nothing():
    trainer = Trainer(Network([6, 4, 3]))
    before = trainer.network.theta.copy()
    trainer.compile()
    assert same(trainer.network.theta, before)
    assert trainer.steps_done == 0


# Learning

XOR = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
PAIRS = [
    ("quadratic", "identity", 1), ("quadratic", "sigmoid", 1), ("quadratic", "tanh", 1), ("quadratic", "relu", 1),
    ("quadratic", "identity", 2), ("quadratic", "sigmoid", 2), ("quadratic", "tanh", 2), ("quadratic", "relu", 2),
    ("quadratic", "softmax", 2), ("binary_cross_entropy", "sigmoid", 1), ("binary_cross_entropy", "sigmoid", 2),
    ("cross_entropy", "softmax", 2),
]  # fmt: skip


@pytest.mark.parametrize("hidden", ["tanh", "sigmoid", "relu"])
@pytest.mark.parametrize("loss, output, n_out", PAIRS)
def test_every_loss_and_output_learns_xor(loss, output, n_out, hidden):
    y = np.array([0, 1, 1, 0])
    net = Network([2, 16, n_out], hidden, output, seed=2)
    if output == "relu":  # or some would start dead
        net.W[-1], net.b[-1] = net.W[-1] / 4, 0.5
    trainer = Trainer(net, loss, Adam(0.03), batch_size=4, seed=1)
    targets = y if n_out == 2 else y[:, np.newaxis]
    first = trainer.evaluate(XOR, targets)[0]
    trainer.fit(XOR, targets, 600)
    assert trainer.evaluate(XOR, targets)[0] < 0.05 * first
    outputs = net.forward(XOR)
    found = outputs.argmax(axis=1) if n_out == 2 else outputs[:, 0] > 0.5
    assert found.tolist() == y.tolist()


@pytest.mark.parametrize("optimizer", [SGD(0.5), SGD(0.1, 0.9), SGD(0.1, 0.9, nesterov=True), Adam(0.03)], ids=repr)
def test_every_optimizer_learns_xor(optimizer):
    net = Network([2, 16, 2], "tanh", seed=3)
    Trainer(net, optimizer=optimizer, batch_size=4).fit(XOR, [0, 1, 1, 0], 400)
    assert net.predict(XOR).tolist() == [0, 1, 1, 0]


def test_a_line_is_found_exactly():
    X = np.random.default_rng(0).normal(size=(64, 3))
    y = X @ [1.0, -2.0, 3.0] + 4
    net = Network([3, 1], output="identity", dtype="float64")
    Trainer(net, optimizer=SGD(0.1, 0.9), batch_size=16).fit(X, y, 200)
    np.testing.assert_allclose(net.theta, [1, -2, 3, 4], rtol=1e-9)


def test_the_least_data():
    for n, batch_size in itertools.product((1, 2), (1, 2, 3)):
        net = Network([1, 2], seed=1)
        trainer = Trainer(net, batch_size=batch_size, optimizer=SGD(1.0))
        X, y = np.array([[1.0], [-1.0]])[:n], np.array([1, 0])[:n]
        history = trainer.fit(X, y, 60, validation_data=(X[:1], y[:1]))
        assert history.validation_accuracy[-1] == 1
        assert net.predict(X).tolist() == y.tolist()


# Divergence


def diverge(net, X, y, epochs=50, advice="try a smaller eta", **settings):
    """The trainer after a fit that has diverged, having checked what the error says."""
    trainer = Trainer(net, **({"batch_size": 4} | settings))
    with pytest.raises(DivergenceError) as error:
        trainer.fit(X, y, epochs)
    pattern = (r"the cost or a parameter is no longer finite: epoch (\d+), step (\d+) of (\d+), "
               r"at a learning rate of (\S+); "
               f"the network holds its last finite parameters; {re.escape(advice)}")
    said = re.fullmatch(pattern, str(error.value))
    assert said, error.value
    epoch, step, steps = (int(said[i]) for i in (1, 2, 3))
    assert steps == math.ceil(len(X) / 4)
    assert float(said[4]) == pytest.approx(trainer.optimizer.eta, rel=1e-3)
    assert trainer.epochs_done == epoch - 1
    assert trainer.steps_done == (epoch - 1) * steps + step - 1
    assert np.isfinite(net.theta).all()
    return trainer


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("eta, momentum", [(0.9, 0.0), (4.0, 0.0), (0.5, 0.9), (1e15, 0.0)])
def test_divergence_leaves_the_last_finite_parameters(eta, momentum, threads):
    """So many steps made one by one give the same bits, and one more gives a cost or parameters that are not finite."""
    X, _ = dense(22)
    net = Network([6, 8, 1], "identity", "identity", seed=2)
    one_by_one = copy.deepcopy(net)
    trainer = diverge(net, X, X[:, 0], optimizer=SGD(eta, momentum), threads=threads)
    theta, velocity = one_by_one.theta, np.zeros_like(net.theta)
    orders = (generator(ORDER, 0, epoch).permutation(22) for epoch in itertools.count())
    batches = (order[i : i + 4] for order in orders for i in range(0, 22, 4))
    for batch in itertools.islice(batches, trainer.steps_done):
        _, gradient = cost_and_gradient(one_by_one, X[batch], X[batch, 0])
        velocity[:] = np.float32(momentum) * velocity + gradient
        theta -= np.float32(eta) * velocity
    assert same(theta, net.theta)
    batch = next(batches)
    cost, gradient = cost_and_gradient(one_by_one, X[batch], X[batch, 0])
    with np.errstate(over="ignore", invalid="ignore"):
        theta -= np.float32(eta) * (np.float32(momentum) * velocity + gradient)
    assert not (math.isfinite(cost) and np.isfinite(theta).all())


@pytest.mark.parametrize("optimizer", [SGD(0.5, 0.9, nesterov=True), Adam(1e37)], ids=repr)
def test_divergence_under_other_optimizers(optimizer):
    X, _ = dense(22)
    net = Network([6, 8, 1], "identity", "identity", seed=2)
    start = net.theta.copy()
    trainer = diverge(net, X, X[:, 0], optimizer=optimizer)
    assert trainer.steps_done > 0
    # Nor are the moments left infinite: from a better place training goes on.
    net.theta = start
    trainer.schedule = lambda step, steps: 1e-39
    assert np.isfinite(trainer.fit(X, X[:, 0], 3).loss).all()


@pytest.mark.filterwarnings("ignore::fastbp.TrainingWarning")
def test_divergence_of_parameters_while_the_cost_stays_finite():
    """A saturated sigmoid costs 1/2 at most, whatever its weights: infinite ones must be noticed all the same."""
    X, y = np.full((60, 1), 1e3), np.zeros((60, 1))
    X[::2] *= -1
    net = Network([1, 1], output="sigmoid")
    net.theta = [0.0, 0.0]
    factors = [1e-46] * 5 + [1.0] * 100
    start = copy.deepcopy(net)
    settings = {"loss": "quadratic", "optimizer": SGD(1e38), "batch_size": 1, "seed": 3}
    trainer = Trainer(net, schedule=lambda step, steps: factors[step], **settings)
    with pytest.raises(DivergenceError, match=r"epoch 1, step 6 of 60, at a learning rate of 1e\+38"):
        trainer.fit(X, y)
    assert trainer.steps_done == 5
    assert np.isfinite(net.theta).all()
    assert net.theta.any()
    Trainer(start, schedule=lambda step, steps: factors[step] if step < 5 else 0, **settings).fit(X, y)
    assert same(start.theta, net.theta)


@pytest.mark.filterwarnings("ignore::fastbp.TrainingWarning")
def test_divergence_at_the_last_step_of_all():
    X, y = np.ones((4, 1), "f4"), np.full((4, 1), 1e30)
    net = Network([1, 1], output="identity")
    before = net.theta.copy()
    trainer = diverge(net, X, y, 1, "targets reach 1e+30: scale them", optimizer=SGD(1e20))
    assert trainer.steps_done == 0
    assert same(net.theta, before)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_parameters_that_are_not_finite_are_not_trained(value):
    X, y = dense(22)
    net = Network([6, 8, 3])
    net.b[0][2] = value
    trainer = Trainer(net, batch_size=4)
    with pytest.raises(ValueError, match=rf"theta\[50\] of the network is {value}; every parameter must be finite"):
        trainer.fit(X, y)
    assert trainer.steps_done == 0


# Python threads and processes


def test_many_python_threads_train_at_once():
    X, y = dense(200)
    expected = [trained(X, y, 5, seed=seed)[0] for seed in range(6)]
    theta = [None] * 6

    def work(seed):
        theta[seed] = trained(X, y, 5, seed=seed, threads=1 + seed % 2)[0]

    in_threads(work, 6)
    for seed in range(6):
        assert same(theta[seed], expected[seed])


FORK = """
import os, warnings
import numpy as np
from fastbp import Network, Trainer
X = np.random.default_rng(0).normal(size=(100, 6))
y = (X[:, 0] > 0).astype(int)
def train():
    net = Network([6, 16, 2])
    Trainer(net, batch_size=10, threads=2).fit(X, y, 2)
    return net.theta.tobytes()
expected = train()
warnings.simplefilter("ignore", DeprecationWarning)  # Python's, of forking a process that has threads
child = os.fork()
if child == 0:
    os._exit(0 if train() == expected else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert train() == expected
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_trains_as_its_parent(compiled):
    done = python(FORK)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# Ctrl-C

INTERRUPTED = """
import sys
import numpy as np
from fastbp import SGD, Network, Trainer
threads = int(sys.argv[1])
X = np.random.default_rng(0).random((40000, 100), np.float32)
y = np.random.default_rng(1).integers(0, 10, 40000)
def fit(epochs, schedule):
    net = Network([100, 512, 10])
    trainer = Trainer(net, optimizer=SGD(0.01, 0.9), batch_size=20, threads=threads, schedule=schedule)
    trainer.compile()
    try:
        trainer.fit(X, y, epochs)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    return net.theta, trainer
def announce(step, steps):
    if step == 0:
        print("training", flush=True)
    return 1
theta, trainer = fit(1000, announce)
assert np.isfinite(theta).all()
done = trainer.steps_done
print(done, trainer.epochs_done, flush=True)
again, other = fit(trainer.epochs_done + 1, lambda step, steps: step < done)
print(int(theta.tobytes() == again.tobytes()), flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGINT is sent to one process as POSIX does it")
@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c(compiled, threads):
    """Answered within half a second, with the parameters of exactly the steps that were counted."""
    with start(INTERRUPTED, threads) as child:
        try:
            assert child.stdout.readline() == "training\n"
            time.sleep(0.3)
            started = time.perf_counter()
            child.send_signal(signal.SIGINT)
            assert child.stdout.readline() == "interrupted\n"
            assert time.perf_counter() - started < 0.5
            steps_done, epochs_done = map(int, child.stdout.readline().split())
            rest, err = child.communicate(timeout=60)
        finally:
            child.kill()
    assert err == ""
    assert steps_done > 0
    assert epochs_done in (steps_done // 2000, (steps_done - 1) // 2000)  # the latter just after its last step
    assert rest == "1\n"


@pytest.mark.usefixtures("no_foreign_callbacks")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers that interrupt")
def test_ctrl_c_leaves_every_epoch_that_is_counted_in_the_history():
    """Wherever it comes; with epochs of one short step it often comes between the two."""
    X, y = np.random.default_rng(0).random((8, 4), np.float32), np.arange(8) % 2
    Trainer(Network([4, 3, 2]), batch_size=8).fit(X, y, 1)
    before = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        for i in range(150):
            trainer = Trainer(Network([4, 3, 2]), batch_size=8)
            with pytest.raises(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, 0.003 + 1e-5 * i)
                trainer.fit(X, y, 10**6)
            assert len(trainer.history.loss) == len(trainer.history.seconds) == trainer.epochs_done
            assert not trainer._is_training
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_ctrl_c_while_the_stages_are_written(monkeypatch):
    """Whichever of their numbers it comes before, later fits write them all."""
    X, y = dense()
    put, expected = call.Slip.put, Trainer(Network([6, 8, 3]), batch_size=32).fit(X, y, 2).loss
    point = call.Slip.point
    for method in ("put", "point"):
        trainer = Trainer(Network([6, 8, 3]), batch_size=32)

        def interrupted(slip, method=method, **values):
            if "n_stages" in values or "plan" in values:
                monkeypatch.undo()
                raise KeyboardInterrupt
            (put if method == "put" else point)(slip, **values)

        monkeypatch.setattr(call.Slip, method, interrupted)
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(X, y, 2)
        monkeypatch.undo()
        assert trainer.fit(X, y, 2).loss == expected


@pytest.mark.parametrize("many_at_once", [False, True])
def test_ctrl_c_before_the_end_of_a_fit_is_held_back(many_at_once, monkeypatch):
    """Nothing of the fit is lost."""
    X, y = dense()
    trainer, held = Trainer(Network([6, 8, 3]), batch_size=32), compiler.uninterrupted

    def interrupted():
        if sys._getframe(1).f_code.co_name in ("end", "_end"):
            monkeypatch.undo()
            raise KeyboardInterrupt
        return held()

    monkeypatch.setattr(compiler, "uninterrupted", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit_many([trainer], X, y, 3) if many_at_once else trainer.fit(X, y, 3)
    assert len(trainer.history.loss) == trainer.epochs_done == 3


@pytest.mark.parametrize("way", ["partial_fit", "step"])
def test_ctrl_c_before_the_mean_is_put_back(way, monkeypatch):
    """The network holds it nevertheless."""
    X, y = dense()
    trainer, real, came = Trainer(Network([6, 8, 3]), batch_size=len(X), ema=0.9), compiler.uninterrupted, []
    trainer.partial_fit(X, y)

    def interrupted():
        if not (came or trainer.state.holds_mean):
            came.append(True)
            raise KeyboardInterrupt
        return real()

    monkeypatch.setattr(compiler, "uninterrupted", interrupted)
    with pytest.raises(KeyboardInterrupt):
        getattr(trainer, way)(X, y)
    assert came and trainer.state.holds_mean and trainer.steps_done == 2


@pytest.mark.skipif(sys.version_info < (3, 11), reason="CPython 3.10 has no tables of exceptions")
@pytest.mark.parametrize("function", [loop.run, many.Many.guarded])
def test_no_loop_of_a_fit_is_where_ctrl_c_skips_finally(function):
    """In CPython 3.13 the jump back of a loop that ends a `try` is not part of it."""
    guarded = [range(entry.start, entry.end) for entry in dis.Bytecode(function).exception_entries]
    jumps = [each.offset for each in dis.get_instructions(function) if each.opname == "JUMP_BACKWARD"]
    assert guarded
    assert [jump for jump in jumps if not any(jump in part for part in guarded)] == []


# The bar

BAR = """
import numpy as np
from fastbp import Network, Trainer
X = np.random.default_rng(0).normal(size=(100, 6))
output = {output!r}
y = X[:, 0] > 0 if output == "softmax" else X[:, :2]
Trainer(Network([6, 8, 2], output=output), batch_size=10).fit(X, y, 20, progress={progress})
"""


def on_terminal(code):
    """What `code` writes to a standard error that is a terminal; it may write nothing else."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 120, 0, 0))
    written = b""
    try:
        with subprocess.Popen([sys.executable, "-c", code], stderr=theirs, stdout=subprocess.PIPE) as child:
            os.close(theirs)
            with contextlib.suppress(OSError):  # Linux's way to say that the other end is closed
                while select.select([ours], [], [], 60)[0] and (part := os.read(ours, 4096)):
                    written += part
            assert child.stdout.read() == b""
            assert child.wait(60) == 0
    finally:
        os.close(ours)
    return written.decode()


@pytest.mark.skipif(pty is None, reason="this system has no pseudo-terminals")
@pytest.mark.parametrize("output", ["softmax", "identity"])
def test_bar_on_a_terminal(compiled, output):
    written = on_terminal(BAR.format(output=output, progress=None))
    assert "200/200" in written
    assert re.search(r"loss=\d\.\d{4}", written)
    assert bool(re.search(r"accuracy=[01]\.\d{3}", written)) == (output == "softmax")


@pytest.mark.skipif(pty is None, reason="this system has no pseudo-terminals")
def test_no_bar_on_a_terminal_unless_wanted(compiled):
    assert on_terminal(BAR.format(output="softmax", progress=False)) == ""


def test_no_bar_elsewhere_unless_wanted(compiled, capfd):
    """Nor where there is no standard error at all, as under pythonw or after 2>&- in a shell."""
    none = BAR.format(output="softmax", progress=None)
    unwanted = BAR.format(output="softmax", progress=False)
    done = python("\n".join([none, unwanted, "import sys; sys.stderr = None", none]))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    X, y = dense(100)
    Trainer(Network([6, 8, 3]), batch_size=10).fit(X, y, 20, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "200/200" in err
    assert "loss=" in err


@pytest.mark.filterwarnings("ignore::fastbp.TrainingWarning")  # samples that are all alike
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_denormals(dtype):
    """Moments that decay under zero gradients end at 0 and not among the denormals; elsewhere those stay."""
    net = Network([40, 30, 3], dtype=dtype)
    trainer = Trainer(net, optimizer=Adam(), batch_size=8, seed=0)
    x, y = np.ones((64, 40), dtype), np.arange(64) % 3
    trainer.fit(x, y)
    tiny = np.finfo(dtype).tiny
    trainer.state.rows[0][:] = 1.5 * tiny  # the first moment: times 0.9 it is no normal number
    x[:], net.theta[:] = 0, 0  # with it all gradients but the last biases'
    trainer.fit(x, y)
    moments = trainer.state.rows[:, : 40 * 30]
    assert not ((moments != 0) & (np.abs(moments) < tiny)).any()
    assert (moments[0] == 0).all()
    assert np.array([tiny], dtype)[0] / 2 > 0  # in Python's thread, as before


@pytest.mark.parametrize("batch_size", [512, 1024])
def test_more_parts_than_threads_give_the_same_bits(batch_size):
    """Batches and layers of so many rows that each thread has several parts; of the larger one, in two pieces."""
    draw = np.random.default_rng(0)
    x, y = draw.random((2 * batch_size, 1100), np.float32), draw.integers(0, 4, 2 * batch_size)
    bits = set()
    for threads in (1, 2, 3):
        net = Network([1100, 9, 4], hidden="tanh", seed=1)
        Trainer(net, optimizer=SGD(0.1, 0.9), batch_size=batch_size, threads=threads).fit(x, y, epochs=2)
        bits.add(net.theta.tobytes())
    assert len(bits) == 1


@pytest.mark.parametrize("batch_size", [3, 37, 300])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("second", [131, 1400])
@pytest.mark.filterwarnings("ignore::fastbp.TrainingWarning")
def test_bits_where_neurons_are_shared_out(batch_size, dtype, second):
    """A network with so many weights that, for few samples, its hidden layers are cut by neurons; those of the larger
    one are gone through in blocks."""
    assert (rows_near.py_func(second) < 450) == (second == 1400)
    x = np.random.default_rng(0).integers(0, 256, (600, 601), np.uint8)
    x[:, ::2] *= x[:, ::2] > 200  # mostly zeros
    y, bits = np.arange(600) % 5, set()
    for threads in (1, 2, 3):
        net = Network([601, 450, second, 5], hidden=["relu", "tanh"], seed=1, dtype=dtype)
        assert net.theta.size > MANY_WEIGHTS
        Trainer(net, optimizer=SGD(0.1, 0.9), batch_size=batch_size, threads=threads).fit(x, y)
        gradient = cost_and_gradient(net, x, y, threads=threads)[1]
        bits.add(net.theta.tobytes() + gradient.tobytes())
    assert len(bits) == 1


@pytest.mark.parametrize(("n", "threads", "grain"), [(512, 2, 128), (500, 2, 128), (512, 4, 64), (512, 8, 32),
                                                     (64, 8, 32), (4096, 16, 128)])
def test_every_thread_has_neurons(n, threads, grain):
    """Whole panels of the tile that skips zeros where there are enough, fewer neurons for many threads."""
    assert engine.neuron_grain.py_func(n, threads) == grain


class Clock:
    """Slices as a Pace asks for them, of steps that take so many seconds each by the number of threads."""

    def __init__(self, pause=0.0, most=10**9):
        self.pace, self.now, self.pause, self.most = Pace([1, 2]), 0.0, pause, most

    def slices(self, count, seconds, disturbed=()):
        """(threads, seconds) of each; those whose number is in `disturbed` take ten times as long."""
        made = []
        for number in range(count):
            steps, threads = self.pace.next_slice(self.most)
            took = steps * seconds[threads] * (10 if number in disturbed else 1)
            self.now += self.pause
            self.pace.took(steps, threads, self.now, self.now + took, self.most)
            self.now += took
            made.append((threads, took))
        return made


def share(made, threads):
    """Of the time that was spent with so many threads."""
    return sum(took for n, took in made if n == threads) / sum(took for _, took in made)


@pytest.mark.parametrize("seconds", [{1: 1e-6, 2: 1e-4}, {1: 0.1, 2: 0.06}, {1: 2e-4, 2: 1e-4}])
def test_pace(seconds):
    """Each number of threads is tried; then the fastest works, and the other is tried again for little of the time."""
    best = min(seconds, key=seconds.__getitem__)
    clock = Clock()
    made = clock.slices(2000, seconds)
    assert {n for n, _ in made[30:]} == {1, 2}
    assert share(made, best) > 0.96
    assert max(took for n, took in made) < max(0.031, 1.01 * max(seconds.values()))
    seconds = {3 - n: step for n, step in seconds.items()}  # now the other is faster: found out soon
    clock.slices(1, seconds)
    start = clock.now
    while clock.pace.best == best:
        clock.slices(1, seconds)
    assert clock.now - start < 300 * max(0.004, *seconds.values())
    assert share(clock.slices(500, seconds), 3 - best) > 0.95


@pytest.mark.parametrize("number", range(20))
def test_one_disturbance_does_not_decide(number):
    """Neither at the start nor in a trial: the first slices of two threads were once ten times as slow as the next."""
    seconds = {1: 2e-4, 2: 1e-4}
    clock = Clock()
    clock.slices(20, seconds, {number})
    assert share(clock.slices(100, seconds), 2) > 0.9


@pytest.mark.parametrize("number", range(10))
def test_one_disturbance_of_long_steps(number):
    """Of which the first counts three times: what it decided is put right within some dozens of steps."""
    seconds = {1: 0.2, 2: 0.1}
    clock = Clock()
    clock.slices(45, seconds, {number})
    assert share(clock.slices(100, seconds), 2) > 0.85


@pytest.mark.parametrize("sizes, batch_size, tried", [([4, 32, 16, 4], 32, False), ([1, 1, 1], 64, False),
                                                      ([1, 1, 1], 256, True), ([16, 16, 16], 64, True)])
def test_worth_trying(monkeypatch, sizes, batch_size, tried):
    """All threads, where a step takes some 5 us or more, whether of multiply-adds or of many samples."""
    monkeypatch.setattr(processors, "available_threads", lambda: 2)
    assert Trainer(Network(sizes, output="identity"), batch_size=batch_size).threads == (2 if tried else 1)


@pytest.mark.parametrize("most", [1, 20])
def test_pace_of_short_fits(most):
    """Where each slice comes after a pause or cannot be longer, the fastest is found all the same."""
    for best in (1, 2):
        clock = Clock(pause=0.05, most=most)
        seconds = {best: 2e-4, 3 - best: 3e-4}
        clock.slices(40, seconds)
        assert share(clock.slices(100, seconds), best) > 0.9


def test_short_epochs_are_no_work_for_other_threads(monkeypatch):
    """None is tried, in as many fits as there may be; where epochs are long it is, and what was found out is kept."""
    monkeypatch.setattr(passes, "time", SimpleNamespace(perf_counter=time.process_time))  # whatever else runs here
    X, y = np.random.default_rng(0).normal(size=(500, 64)), np.arange(500) % 10
    for seed in range(5):
        short = Trainer(Network([64, 37, 10], seed=seed), batch_size=32)
        short.stepper.pace.recent.setdefault(2, deque(maxlen=3))  # on a machine of one processor, too
        short.fit(X, y, 20)
    assert len(short.stepper.pace.recent[1]) == 3 and not short.stepper.pace.recent[2]
    assert not short.stepper.pace.worth_trying(1) and short.stepper.pace.worth_trying(10**6)
    assert short.stepper.pace is Trainer(Network([64, 37, 10]), batch_size=32).stepper.pace
    assert short.stepper.pace is not Trainer(Network([64, 37, 10]), batch_size=33).stepper.pace
    assert copy.deepcopy(short).stepper.pace.recent == short.stepper.pace.recent


@pytest.mark.parametrize("awake", [True, False])
def test_shares_of_threads_are_kept_while_they_are_awake(monkeypatch, awake):
    """They are balanced after each call, if a mini-batch is large enough to tell a speed, and equal after a pause."""
    found = []

    def balance(board, threads):
        moved = boards.fields_of(board, threads)[boards.MOVED]
        found.append((threads, int(moved[0])))
        moved[0] = 1000

    monkeypatch.setattr(stepper, "balance", balance)
    monkeypatch.setattr(team, "is_awake", lambda threads: awake)
    X, y = np.random.default_rng(0).random((640, 20), np.float32), np.arange(640) % 3
    for threads, batch_size in ((1, 64), (2, 16), (2, 64)):
        found.clear()
        Trainer(Network([20, 8, 3], seed=0), None, SGD(0.1), batch_size, threads=threads).fit(X, y, 3, progress=False)
        assert bool(found) == (threads * batch_size == 128)
    assert found[0] == (2, 0) and len(found) >= 3
    assert set(found[1:]) == {(2, 1000 if awake else 0)}


def test_an_interrupted_fit_leaves_finite_parameters():
    """Also where Ctrl-C comes before anybody has looked at the last step's."""
    X, y = dense()
    net = Network([6, 4, 3])

    def interrupt(fit):
        fit.network.W[0][0, 0] = np.nan
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            Trainer(net, batch_size=10).fit(X, y, callbacks=[Every(5, interrupt)])
        assert np.isfinite(net.theta).all()


@pytest.mark.parametrize(("name", "advice"), [
    ("batchsize", "did you mean 'batch_size'"), ("clipnorm", "did you mean 'clip_norm'"),
    ("epochs", "it belongs to fit"), ("validation_fraction", "it belongs to fit"),
])
def test_what_is_no_setting_is_refused(name, advice):
    trainer = Trainer(Network([3, 2]))
    with pytest.raises(AttributeError, match=advice):
        setattr(trainer, name, 4)
    trainer.my_note = "kept"
    assert not hasattr(trainer, name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradient_of_a_part_of_a_mini_batch(dtype):
    """Dropout and noise of its samples are those of their rows in the whole, as on other ranks (fastbp.mpi)."""
    draw, net = np.random.default_rng(0), Network([2000, 20, 4], seed=0, dtype=dtype)
    trainer = Trainer(net, dropout=0.3, noise=0.1, threads=1)
    samples = as_data(draw.normal(size=(700, 2000)), draw.integers(0, 4, 700), None, net, trainer.loss)
    own, clock = trainer.stepper, np.zeros(1, np.int64)
    own.prepare(700)

    def gradient(rows, row):
        plan = plan_for(net.layer_sizes, len(rows), call.TRAIN, 1, bounds=(True, False)).held(False)[0]
        assert len(rows) == 90 or plan.piece < len(rows)
        room = aligned(scratch_size(net.layer_sizes, 1, len(rows), clips=True), dtype)
        slip = own.bring(samples, rows, plan, 1, own.rule())
        slip.point(gradient=room, clock=clock.copy())
        slip.put(row=row, n_gradient=len(room))
        slip.put_work(call.ACCUMULATE, len(rows), plan, np.zeros(1))
        assert engine.run_serial(slip.vector, 1) == 1
        slip.put(row=0)
        return room[: net.n_parameters].astype(float)

    whole, parts = np.arange(700), (np.arange(90), np.arange(90, 700))
    sums = sum(len(rows) / 700 * gradient(rows, rows[0]) for rows in parts)
    near = 10 * np.finfo(dtype).eps
    np.testing.assert_allclose(sums, gradient(whole, 0), rtol=0, atol=near)
    assert np.abs(gradient(parts[1], 0) - gradient(parts[1], 90)).max() > 1e-3
