"""Dropout: which elements, that they are always the same ones, and the gradient of what is left."""

import pickle

import numpy as np
import pytest
from rig import DTYPES, bits_of_two_fits, gradient_by_oracle

from fastbp import SGD, Adam, Network, Trainer, data
from fastbp.core import call, compiler, reference
from fastbp.core.noise import drop, threshold
from fastbp.core.simd.memory import at
from fastbp.randomness import ORDER, generator
from fastbp.workspace import aligned

# By samples, by neurons (many weights), and one whose mini-batch goes through in pieces.
CASES = {"samples": ([6, 40, 30, 3], 50), "neurons": ([6, 700, 600, 3], 50), "pieces": ([6, 40, 3], 900)}


@compiler.serial
def drop_rows(key, first_row, first, limit, rows, n_rows, n, ld):
    drop(key, first_row, first, limit, at(rows, 0), n_rows, n, ld)


def dropped(rate, n_rows=64, n=200, key=12345, first_row=0, first=0, dtype="float32", ld=None):
    ld = ld or -(-n // 16) * 16
    rows = aligned(n_rows * ld, dtype)
    rows[:] = 1
    drop_rows(key, first_row, first, threshold(rate), rows, n_rows, n, ld)
    return rows.reshape(n_rows, ld)[:, :n]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 3, 16, 100])
def test_as_the_reference(n, dtype):
    layer = np.zeros(call.N_COLUMNS, np.int64)
    for rate in (0.0, 0.2, 0.9, 1 - 2.0**-32):
        for key, row in ((0, 0), ((1 << 62) - 1, (77 << 32) + 5)):
            layer[call.DROPOUT], layer[call.KEY] = threshold(rate), key
            expected = reference.dropout_factors(layer, row, 10, n)
            np.testing.assert_allclose(dropped(rate, 10, n, key, row, 0, dtype), expected, rtol=1e-6)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_as_many_as_the_rate_says(rate):
    """Within five standard deviations: in all, in each row and in each column; neighbours know nothing of each other,
    nor do two steps, two keys."""
    n_rows, n = 400, 400
    kept = dropped(rate, n_rows, n) > 0
    deviation = np.sqrt(rate * (1 - rate))
    assert abs(kept.mean() - (1 - rate)) < 5 * deviation / np.sqrt(kept.size)
    for axis in (0, 1):
        assert np.abs(kept.mean(axis) - (1 - rate)).max() < 5 * deviation / np.sqrt(n)
    others = [kept[1:, :] == kept[:-1, :], kept[:, 1:] == kept[:, :-1],
              kept == (dropped(rate, n_rows, n, first_row=1 << 32) > 0), kept == (dropped(rate, n_rows, n, 12346) > 0)]
    same = rate**2 + (1 - rate) ** 2
    for alike in others:
        assert abs(alike.mean() - same) < 5 * np.sqrt(same * (1 - same) / alike.size)
    assert dropped(rate, n_rows, n).mean() == pytest.approx(1, abs=5 * deviation / (1 - rate) / n)


def test_parts_are_of_the_whole():
    whole = dropped(0.4, 20, 96)
    assert (dropped(0.4, 5, 96, first_row=7) == whole[7:12]).all()
    assert (dropped(0.4, 20, 32, first=64) == whole[:, 64:]).all()


def test_nan_shows():
    rows = aligned(16, "float32")
    rows[:] = np.nan
    drop_rows(1, 0, 0, threshold(0.5), rows, 1, 16, 16)
    assert np.isnan(rows).all()


class Steps:
    """Compiled steps of a network with dropout, on random samples."""

    def __init__(self, case, hidden, rates, threads=1, dtype="float64"):
        self.sizes, n = CASES[case]
        draw = np.random.default_rng(3)
        self.net = Network(self.sizes, hidden, dtype=dtype, seed=4)
        for b in self.net.b:  # else where all that a neuron receives was dropped, z is at the kink of relu
            b[:] = draw.normal(size=b.shape)
        self.X, self.y = draw.normal(size=(n, 6)), draw.integers(0, 3, n)
        self.rates, self.threads, self.n = rates, threads, n

    def cost(self, theta, eta=0.0):
        """Of the first step from theta, and theta after it."""
        net = pickle.loads(pickle.dumps(self.net))
        net.theta = theta
        trainer = Trainer(net, None, SGD(1.0), self.n, threads=self.threads, dropout=self.rates,
                          schedule=lambda step, steps: eta)
        (cost,) = trainer.fit(self.X, self.y, 1).loss
        return cost, net.theta


@pytest.mark.parametrize("hidden", ["relu", "tanh", "sigmoid", "gelu", "leaky_relu"])
@pytest.mark.parametrize(("case", "threads"), [("samples", 1), ("samples", 2), ("neurons", 2), ("pieces", 1)])
def test_gradient_against_central_differences(case, threads, hidden):
    """What a step subtracts is the gradient of the cost of what is left: the same elements are left each time."""
    n_hidden = len(CASES[case][0]) - 2
    steps = Steps(case, hidden, [0.2, 0.5, 0.3][: n_hidden + 1], threads)
    theta = steps.net.theta.copy()
    gradient = theta - steps.cost(theta, 1.0)[1]
    draw, h = np.random.default_rng(0), 1e-8 if "relu" in hidden else 1e-6  # fewer of 65,000 neurons cross their kinks
    for _ in range(4):
        u = draw.normal(size=theta.size)
        slope = (steps.cost(theta + h * u)[0] - steps.cost(theta - h * u)[0]) / (2 * h)
        assert abs(slope - gradient @ u) < 2e-5 * np.linalg.norm(gradient)
    whole = Trainer(pickle.loads(pickle.dumps(steps.net)), None, SGD(1.0), steps.n)
    whole.fit(steps.X, steps.y, 1)
    assert np.abs(theta - whole.network.theta - gradient).max() > 0.1 * np.abs(gradient).max()


@pytest.mark.parametrize("hidden", ["relu", "tanh"])
def test_steps_against_the_reference(hidden):
    sizes, n = [6, 40, 30, 3], 50
    draw = np.random.default_rng(1)
    X, y = draw.normal(size=(n, 6)), draw.integers(0, 3, n)
    net = Network(sizes, hidden, dtype="float64", seed=4)
    theta = net.theta.copy()
    trainer = Trainer(net, None, SGD(0.2), n, seed=9, dropout=[0.1, 0.4, 0.2])
    trainer.fit(X, y, 5)
    w, state = net.workspace(n), np.empty((0, theta.size))
    trainer.stepper.prepare_layers(w.layers)
    for step in range(5):
        order = generator(ORDER, 9, step).permutation(n)
        w.a[0][:] = X[order]
        gradient = gradient_by_oracle(theta, w.layers, w.buffers, np.eye(3)[y[order]], w.costs, trainer.loss.rule(), n,
                                      (step + 1) << 32)
        reference.update(theta, gradient, state, trainer.optimizer.settings(), 0.2, step + 1)
    np.testing.assert_allclose(net.theta, theta, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hidden", ["relu", "tanh"])
@pytest.mark.parametrize("case", CASES)
def test_the_same_bits(case, hidden, dtype):
    """Whatever the threads, and after a pickled trainer goes on elsewhere; not with another seed."""
    sizes, batch_size = CASES[case]
    draw = np.random.default_rng(0)
    X, y = draw.normal(size=(2 * batch_size + 7, 6)), draw.integers(0, 3, 2 * batch_size + 7)

    def trained(threads=1, seed=0, again=False, dropout=0.3):
        trainer = Trainer(Network(sizes, hidden, dtype=dtype, seed=2), None, Adam(), batch_size, seed, threads,
                          dropout=dropout)
        return bits_of_two_fits(trainer, X, y, again)

    one = trained()
    assert one == trained(2) == trained(again=True)
    assert one != trained(seed=1) and one != trained(dropout=0.0) and one != trained(dropout=[0.3] * (len(sizes) - 1))
    assert trained(dropout=0.0) == trained(dropout=[0] * (len(sizes) - 1))


def test_only_training_drops():
    X, y, _, _ = data.mnist()
    X, y = X[:4000], y[:4000]
    net = Network([784, 64, 10], seed=0, input_scale=1 / 255)
    trainer = Trainer(net, None, SGD(0.1, 0.9, True), 100, dropout=[0.1, 0.5])
    history = trainer.fit(X, y, 5, (X, y))
    assert trainer.evaluate(X, y) == (history.validation_loss[-1], history.validation_accuracy[-1])
    assert history.validation_loss[-1] < 0.7 * history.loss[-1]
    assert np.mean(net.predict(X) == y) == history.validation_accuracy[-1] > 0.9


@pytest.mark.parametrize(("dropout", "kind", "message"), [
    (1.0, ValueError, r"dropout must be in \[0, 1\), got 1.0"), (-0.1, ValueError, r"in \[0, 1\), got -0.1"),
    (np.nan, ValueError, r"in \[0, 1\), got nan"), ("0.5", TypeError, "dropout must be a number, got '0.5'"),
    (True, TypeError, "got True"), ([0.1, 0.2], ValueError, "dropout has 2 rates; expected rates for the input and 2"),
    ([0.1, 0.2, 1], ValueError, r"in \[0, 1\), got 1"), ([0.1, None, 0], TypeError, "got None"),
])
def test_what_is_refused(dropout, kind, message):
    with pytest.raises(kind, match=message):
        Trainer(Network([4, 5, 6, 2]), dropout=dropout)
