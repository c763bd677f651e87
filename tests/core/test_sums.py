"""Sums and factors that float32 alone would lose: long gradients, extreme weights, norms beyond what a square holds."""

import numpy as np
import pytest

from fastbp import SGD, Adam, DivergenceError, Network, Trainer, cost_and_gradient
from fastbp.callbacks import Every
from fastbp.core.plan import scratch_size
from fastbp.data import split
from fastbp.inputs import as_weights
from fastbp.randomness import ORDER, generator

pytestmark = pytest.mark.filterwarnings("ignore::fastbp.TrainingWarning")  # many numbers here are absurd
DRAW = np.random.default_rng(0)
X, Y = DRAW.normal(size=(300, 6)), DRAW.integers(0, 3, 300)


@pytest.mark.parametrize("n", [513, 1000, 100_000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_gradient_of_equal_samples_is_that_of_one(dtype, n):
    row, net = DRAW.normal(size=(1, 8)).astype(dtype), Network([8, 16, 3], "tanh", dtype=dtype, seed=3)
    _, one = cost_and_gradient(net, row, [1])
    _, mean = cost_and_gradient(net, np.broadcast_to(row, (n, 8)), np.full(n, 1))
    unit = np.finfo(dtype).eps
    assert np.linalg.norm(mean - one) < 5 * unit * np.linalg.norm(one)
    assert np.abs(mean / one - 1).max() < 10 * unit


@pytest.mark.parametrize("clip_norm", [None, 1e9])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_step_of_many_equal_samples_is_that_of_one(threads, clip_norm):
    row, thetas = DRAW.normal(size=(1, 8)).astype("f4"), []
    for n in (1, 50_001):
        net = Network([8, 16, 3], "tanh", seed=3)
        start = net.theta.copy()
        trainer = Trainer(net, None, SGD(1.0), n, threads=threads, clip_norm=clip_norm)
        trainer.fit(np.broadcast_to(row, (n, 8)), np.full(n, 1), 1)
        thetas.append(net.theta - start)
    assert np.linalg.norm(thetas[1] - thetas[0]) < 1e-6 * np.linalg.norm(thetas[0])


@pytest.mark.parametrize("batch_size", [513, 1100, 2000])
@pytest.mark.parametrize("sizes", [[6, 40, 3], [6, 700, 600, 3]], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_mini_batches_have_the_same_bits_whatever_the_threads(dtype, sizes, batch_size):
    x, y = np.tile(X, (7, 1))[:2000], np.tile(Y, 7)[:2000]
    weights = np.tile(DRAW.random(300), 7)[:2000]

    def trained(threads):
        net = Network(sizes, dtype=dtype, seed=2)
        trainer = Trainer(net, None, Adam(0.01), batch_size, threads=threads, clip_norm=0.5, max_norm=2.0)
        trainer.fit(x, y, 2, sample_weight=weights)
        return net.theta.tobytes(), cost_and_gradient(net, x, y, threads=threads)[1].tobytes()

    assert trained(1) == trained(2) == trained(3) == trained(6)  # six share out a large layer by neurons, up to 768


def test_sums_of_chains_need_no_more_than_they_are_given():
    for sizes in ([8, 16, 3], [14, 512, 520, 5]):
        whole = sum((n_in + 1) * n_out for n_in, n_out in zip(sizes, sizes[1:], strict=False))
        for threads in (1, 2, 8):
            assert scratch_size(sizes, threads, 513) >= 2 * whole + threads * 16
            assert scratch_size(sizes, threads, 512) < 2 * whole + threads * whole


FACTORS = [2.0**-1072, 1e-300, 1e-42, 1e-38, 1e38, 1e300, 1.7e308]


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_common_factor_of_all_weights_cancels(dtype, factor):
    nets = []
    for weight in (1.0, factor):
        net = Network([6, 16, 3], dtype=dtype, seed=1)
        history = Trainer(net, None, Adam(0.01), 32).fit(X, Y, 3, sample_weight=np.full(300, weight),
                                                         validation_fraction=0.2)
        assert history.loss[-1] < history.loss[0]
        nets.append((net.theta, history.loss, history.validation_loss))
    for one, other in zip(*nets, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5 if dtype == "float32" else 1e-10, atol=1e-7)
    cost, gradient = cost_and_gradient(net, X, Y, sample_weight=np.full(300, factor))
    np.testing.assert_allclose(gradient, cost_and_gradient(net, X, Y)[1], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("factor", FACTORS)
def test_a_common_factor_of_class_weights_cancels(factor):
    thetas = []
    for one in (1.0, factor):
        net = Network([6, 16, 3], seed=1)
        Trainer(net, None, SGD(0.1), 32).fit(X, Y, 2, class_weight={0: one, 1: one / 2, 2: one / 4})
        thetas.append(net.theta)
    np.testing.assert_allclose(*thetas, rtol=1e-4, atol=1e-6)


def test_balanced_classes_go_by_weight_not_by_number():
    """As if samples were repeated: a class of weights 1, 1 and one of 20 have equal shares."""
    x, y, weights = np.zeros((3, 1)), [0, 0, 1], [1.0, 1.0, 20.0]
    net = Network([1, 2], weights="zeros", dtype="float64")
    Trainer(net, None, SGD(0.5), 3).fit(x, y, 500, sample_weight=weights, class_weight="balanced")
    np.testing.assert_allclose(net.predict_proba([[0.0]]), [[0.5, 0.5]], atol=1e-6)
    assert as_weights(weights, "balanced", np.array(y), 3).tolist() == [5.5, 5.5, 11.0]
    assert as_weights(None, "balanced", np.array(y), 3).tolist() == [0.75, 0.75, 1.5]


def test_validation_and_evaluation_go_by_weight():
    x, y = DRAW.normal(size=(400, 3)), DRAW.normal(size=400)
    weights = np.ones(400)
    absurd = DRAW.permutation(400)[:100]
    weights[absurd], y[absurd] = 0, 1e5
    net = Network([3, 1], output="identity", dtype="float64")
    trainer = Trainer(net, optimizer=SGD(0.01))
    history = trainer.fit(x, y, 3, sample_weight=weights, validation_fraction=0.25, metrics=["mae"])
    assert max(history.validation_loss) < 10 and max(history.metrics["mae"]) < 10
    good = weights > 0
    assert trainer.evaluate(x, y, sample_weight=weights)[0] == pytest.approx(trainer.evaluate(x[good], y[good])[0])
    history = trainer.fit(x, y, 1, sample_weight=weights, validation_data=(x, y, weights))
    assert history.validation_loss == [pytest.approx(trainer.evaluate(x[good], y[good])[0])]
    with pytest.raises(ValueError, match="all validation samples have weight 0"):
        trainer.fit(x, y, validation_data=(x, y, np.zeros(400)))
    with pytest.raises(ValueError, match="all samples have weight 0"):
        trainer.evaluate(x, y, sample_weight=np.zeros(400))


@pytest.mark.parametrize("output, targets", [("softmax", Y), ("sigmoid", np.eye(3)[Y])])
def test_accuracy_goes_by_weight(output, targets):
    net, whole = Network([6, 3], output=output, seed=1), DRAW.integers(0, 4, 300)
    trainer = Trainer(net)
    got = trainer.evaluate(X, targets, sample_weight=whole)
    expected = trainer.evaluate(np.repeat(X, whole, axis=0), np.repeat(targets, whole, axis=0))
    assert got == (pytest.approx(expected[0], rel=1e-6), pytest.approx(expected[1]))


def test_the_loss_of_streamed_batches_is_their_mean_by_weight():
    """Costs of 0.5 and 4.5 with weights 1 and 9: (0.5 + 9 * 4.5) / 10."""
    net, seen = Network([1, 1], output="identity", weights="zeros", dtype="float64"), []
    batches = [(np.zeros((1, 1)), [1.0], [1.0]), (np.zeros((1, 1)), [3.0], [9.0])]
    history = Trainer(net, optimizer=SGD(1e-12)).fit_batches(
        batches, callbacks=[lambda fit: seen.append(fit.history.loss[-1])])
    assert history.loss == seen == [pytest.approx(4.1)]


def test_streamed_batches_without_weight_change_nothing():
    optimizer, some = Adam(0.01), np.r_[1.0, np.zeros(9)]
    nets = []
    for batches in ([(X[:10], Y[:10], np.ones(10)), (X[10:20], Y[10:20], some)],
                    [(X[:10], Y[:10], np.ones(10)), (X[20:30], Y[20:30], np.zeros(10)), (X[10:20], Y[10:20], some)]):
        net = Network([6, 8, 3], seed=1)
        trainer = Trainer(net, None, optimizer, 10)
        trainer.state.epochs_done = 0
        history = trainer.fit_batches(batches, 1)
        nets.append((history.samples, trainer.steps_done, net.theta.size))
        assert np.isnan(trainer.partial_fit(X, Y, sample_weight=np.zeros(300)))
        assert trainer.steps_done == 2
    assert nets[0] == nets[1]
    with pytest.raises(ValueError, match="no batches with a weight above 0"):
        trainer.fit_batches([(X, Y, np.zeros(300))])


@pytest.mark.parametrize("settings", [{}, {"clip_norm": 1.0}, {"max_norm": 0.1}, {"ema": 0.5}], ids=str)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_mini_batch_without_weight_moves_nothing(threads, settings):
    """Neither parameters nor moments nor their mean, though momentum would carry them on."""
    trainer = Trainer(Network([6, 8, 3], seed=1), None, Adam(0.1), 300, threads=threads, **settings)
    trainer.fit(X, Y, 2)
    order = generator(ORDER, 0, trainer.epochs_done).permutation(600)
    weights, seen = np.zeros(600), []
    weights[order[:300]] = 1  # of the first step of two
    look = Every(1, lambda fit: seen.append((fit.network.theta.tobytes(), trainer.state.rows.tobytes())))
    trainer.fit(np.vstack([X, X]), np.r_[Y, Y], 1, sample_weight=weights, callbacks=[look])
    assert len(seen) == 2 and seen[0] == seen[1]


@pytest.mark.parametrize("loss, x, t, gradient", [
    ("mean_absolute", [3e155, 4e155], 1.0, [3e155, 4e155, 1.0]),
    ("quadratic", [3.0, 4.0], 1e-170, [3e-170, 4e-170, 1e-170]),
    ("quadratic", [3.0, 4.0], 1.0, [3.0, 4.0, 1.0])], ids=["large", "small", "ordinary"])
@pytest.mark.parametrize("threads", [1, 2])
def test_gradients_are_clipped_whatever_their_size(threads, loss, x, t, gradient):
    """A step along a gradient whose squares a float64 does not hold; of length 1."""
    net = Network([2, 1], output="identity", weights="zeros", dtype="float64")
    bound = 1e-3 * max(gradient)
    Trainer(net, loss, SGD(1 / bound), 1, threads=threads, clip_norm=bound).fit([x], [[t]], 1)
    scaled = np.array(gradient) / max(gradient)
    np.testing.assert_allclose(net.theta, scaled / np.linalg.norm(scaled), rtol=1e-12, atol=1e-150)


def test_a_norm_that_float32_does_not_hold_is_told():
    net = Network([40, 1], output="identity", weights="zeros")
    with pytest.raises(DivergenceError):
        Trainer(net, "mean_absolute", SGD(1.0), 1, clip_norm=1.0).fit(np.full((1, 40), 3e38), [[1.0]], 1)


@pytest.mark.parametrize("dtype, size", [("float32", 1e25), ("float64", 1e200)])
def test_weights_are_limited_whatever_their_size(dtype, size):
    net = Network([2, 1], output="identity", dtype=dtype)
    net.W[0] = np.array([[3.0], [4.0]]) * size
    Trainer(net, optimizer=SGD(1e-30), batch_size=1, max_norm=1.0).fit(np.zeros((1, 2)), [[0.0]], 1)
    np.testing.assert_allclose(net.W[0], [[0.6], [0.8]], rtol=1e-6)


def test_a_stratified_share_leaves_each_class_a_sample_to_train_on():
    y = np.r_[np.zeros(50, int), np.ones(3, int), [2]]
    for seed in range(20):
        net = Network([1, 3], seed=0)
        fit = Trainer(net, seed=seed).fit
        seen = []
        fit(y[:, None].astype(float), y, 1, validation_fraction=0.9, stratify=True,
            callbacks=[lambda fit, seen=seen: seen.append(fit.history.samples[-1])])
        trained, held = split(len(y), 0.9, y, seed)
        assert set(y[trained]) == {0, 1, 2}
        assert len(trained) + len(held) == len(y) and seen == [len(trained)]


@pytest.mark.parametrize("own, of_class", [(1e308, 1e308), (1e-320, 1e-320), (1e-320, 1e308)])
def test_products_of_weights_stay_within_a_float64(own, of_class):
    thetas = []
    for one, other in ((1.0, 1.0), (own, of_class)):
        net = Network([6, 3], seed=1)
        classes = dict.fromkeys(range(3), other)
        Trainer(net, None, SGD(0.1), 32).fit(X, Y, 1, sample_weight=np.full(300, one), class_weight=classes)
        thetas.append(net.theta)
    np.testing.assert_allclose(*thetas, rtol=1e-5, atol=1e-7)


def test_a_mini_batch_whose_weights_are_next_to_nothing_is_none():
    weights = np.ones(300)
    weights[::2] = 1e-308
    net = Network([6, 8, 3], seed=1)
    Trainer(net, None, SGD(0.1), 1).fit(X, Y, 1, sample_weight=weights)
    other = Network([6, 8, 3], seed=1)
    weights[::2] = 0
    Trainer(other, None, SGD(0.1), 1).fit(X, Y, 1, sample_weight=weights)
    assert net.theta.tobytes() == other.theta.tobytes()


def test_a_target_without_weight_does_not_count():
    """Though its cost is more than a float64 holds."""
    x, y, weights = DRAW.normal(size=(40, 2)), DRAW.normal(size=40), np.ones(40)
    y[::4], weights[::4] = 1e200, 0
    net = Network([2, 1], output="identity", dtype="float64")
    history = Trainer(net, optimizer=SGD(0.01), batch_size=8).fit(x, y, 2, sample_weight=weights)
    assert np.isfinite(history.loss).all() and np.isfinite(net.theta).all()
