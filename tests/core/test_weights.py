"""sample_weight and class_weight: a whole weight is that sample as many times; the same bits whatever the threads."""

import numpy as np
import pandas as pd
import pytest

from fastbp import SGD, Adam, Network, Trainer, cost_and_gradient, data, metrics
from fastbp.inference import CAPACITY

SIZES = [[6, 16, 3], [6, 700, 600, 3]]  # the second is shared out by neurons: many weights


def samples(n, seed=0):
    draw = np.random.default_rng(seed)
    X = draw.normal(size=(n, 6))
    return X, np.argmax(X[:, :3], axis=1), draw.integers(0, 4, n)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("n", [1, 7, 90, 2 * CAPACITY + 31])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_whole_weights_are_repetitions(sizes, n, threads):
    """In the gradient of all samples; those of weight 0 are as if they were not there."""
    X, y, weights = samples(n)
    weights[0] = 2
    net = Network(sizes, hidden="tanh", dtype="float64", seed=1)
    cost, gradient = cost_and_gradient(net, X, y, sample_weight=weights, threads=threads)
    expected_cost, expected = cost_and_gradient(net, np.repeat(X, weights, axis=0), np.repeat(y, weights))
    assert cost == pytest.approx(expected_cost, rel=1e-13)
    np.testing.assert_allclose(gradient, expected, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("optimizer", [SGD(0.1, momentum=0.9), Adam(0.01)], ids=str)
@pytest.mark.parametrize("batch_size", [64, 1000])  # a mini-batch that goes through at once, and one in pieces
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_steps_with_whole_weights(sizes, batch_size, optimizer):
    X, y, weights = samples(batch_size)
    nets, losses = [Network(sizes, hidden="tanh", dtype="float64", seed=1) for _ in range(2)], []
    for net, w in zip(nets, (weights, None), strict=True):
        repeated = (X, y) if w is not None else (np.repeat(X, weights, axis=0), np.repeat(y, weights))
        trainer = Trainer(net, None, optimizer, len(repeated[0]), threads=1)
        losses.append(trainer.fit(*repeated, 3, sample_weight=w).loss)
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-11)
    np.testing.assert_allclose(nets[0].theta, nets[1].theta, rtol=1e-7, atol=1e-11)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_the_same_bits(sizes, dtype):
    """With one thread and two; with weights of 1 and none; and nothing follows from a factor of 2 in all."""
    X, y, weights = samples(300)

    def trained(threads=1, **settings):
        net = Network(sizes, dtype=dtype, seed=2)
        loss = Trainer(net, None, SGD(0.1, 0.9), 50, threads=threads).fit(X, y, 2, **settings).loss
        return net.theta.tobytes(), loss

    one = trained(sample_weight=weights)
    assert one == trained(2, sample_weight=weights) == trained(sample_weight=2.0 * weights)
    plain = trained()
    assert trained(sample_weight=np.ones(300))[0] == plain[0] != one[0]
    assert trained(sample_weight=np.ones(300))[1] == pytest.approx(plain[1], rel=1e-14)


def test_a_mini_batch_of_weight_0_changes_nothing():
    X, y, _ = samples(20)
    net = Network([6, 5, 3], seed=0)
    trainer = Trainer(net, None, SGD(0.5), 1)
    weights = np.zeros(20)
    weights[3] = 1
    history = trainer.fit(X, y, 1, sample_weight=weights)
    other = Network([6, 5, 3], seed=0)
    cost = Trainer(other, None, SGD(0.5), 1).fit(X[3:4], y[3:4], 1).loss
    assert history.loss == pytest.approx(cost, rel=1e-6)
    assert (net.theta == other.theta).all()


def test_class_weights():
    X, y, _ = samples(100)
    counts = np.bincount(y)

    def trained(**settings):
        net = Network([6, 5, 3], seed=0)
        Trainer(net, None, SGD(0.5), 25).fit(X, y, 2, **settings)
        return net.theta.tobytes()

    balanced = trained(class_weight="balanced")
    assert balanced == trained(sample_weight=(100 / (3 * counts))[y])
    assert balanced == trained(class_weight={label: 100 / (3 * count) for label, count in enumerate(counts)})
    half = np.linspace(0.5, 2, 100)
    assert trained(class_weight={1: 3}, sample_weight=half) == trained(sample_weight=half * np.where(y == 1, 3, 1))
    assert trained(class_weight={}) == trained(sample_weight=np.ones(100))


def test_balanced_finds_a_rare_class():
    """One sample in fifty, where classes overlap: each class counts as much as the other."""
    draw = np.random.default_rng(0)
    y = (np.arange(4000) % 50 == 0).astype(int)
    X = draw.normal(size=(4000, 1)) + 2 * y[:, np.newaxis]
    found = []
    for class_weight in (None, "balanced"):
        net = Network([1, 2], seed=0)
        Trainer(net, optimizer=Adam(0.05), batch_size=100).fit(X, y, 20, class_weight=class_weight)
        found.append(np.mean(net.predict(X[y == 1]) == 1))
    assert found[0] < 0.5 < 0.75 < found[1]


def test_weights_of_chosen_samples():
    """With a fraction kept for validation, each sample has its own weight still."""
    X, y, weights = samples(100)
    thetas = []
    for w in (weights, None):
        net = Network([6, 5, 3], seed=0)
        kept = X.copy()
        if w is None:  # what has weight 0 could be anything
            kept[weights == 0] = 1e3
        Trainer(net, None, SGD(0.1), 10).fit(kept, y, 2, sample_weight=weights, validation_fraction=0.2)
        thetas.append(net.theta.tobytes())
    assert thetas[0] == thetas[1]


@pytest.mark.parametrize(("settings", "kind", "message"), [
    ({"sample_weight": np.ones(9)}, ValueError, r"sample_weight must have shape \(10,\), got \(9,\)"),
    ({"sample_weight": np.ones((10, 2))}, ValueError, r"sample_weight must have shape \(10,\), got \(10, 2\)"),
    ({"sample_weight": [1] * 9 + [-1]}, ValueError, r"sample_weight must be finite and >= 0, sample_weight\[9\] is -1"),
    ({"sample_weight": [np.nan] + [1] * 9}, ValueError, r"finite and >= 0, sample_weight\[0\] is nan"),
    ({"sample_weight": np.zeros(10)}, ValueError, "all samples have weight 0"),
    ({"sample_weight": ["a"] * 10}, TypeError, "sample_weight holds text, such as 'a': give numbers"),
    ({"class_weight": "even"}, ValueError, "unknown class_weight 'even'; valid: balanced"),
    ({"class_weight": [1, 2]}, TypeError, 'class_weight must be "balanced" or a weight for each label, {0: 1, 1: 5}'),
    ({"class_weight": {0: -1}}, ValueError, "class_weight of 0 must be a finite number >= 0, got -1"),
    ({"class_weight": {0.5: 1}}, TypeError, "a label of class_weight must be a whole number, got 0.5"),
])
def test_what_is_refused(settings, kind, message):
    net = Network([6, 2])
    with pytest.raises(kind, match=message):
        Trainer(net).fit(np.zeros((10, 6)), np.zeros(10, int), 1, **settings)
    with pytest.raises(ValueError, match="class_weight needs labels, y holds values"):
        Trainer(Network([6, 1], output="identity")).fit(np.zeros((10, 6)), np.zeros(10), 1, class_weight="balanced")
    several = Network([6, 3], output="sigmoid")
    with pytest.raises(ValueError, match="class_weight needs labels"):
        Trainer(several).fit(np.zeros((10, 6)), np.ones((10, 3)), 1, class_weight="balanced")
    with pytest.raises(ValueError, match="stratify=True needs labels"):
        Trainer(several).fit(np.zeros((10, 6)), np.ones((10, 3)), 1, validation_fraction=0.5, stratify=True)
    Trainer(several).fit(np.zeros((10, 6)), np.arange(10) % 3, 1, class_weight="balanced")


@pytest.mark.parametrize("threads", [1, 2])
def test_mnist_with_weights(threads):
    """Images of eights count ten times: more of what is drawn is called an eight."""
    x, y, x_test, _ = data.mnist()
    called = []
    for class_weight in (None, {8: 10}):
        net = Network([784, 32, 10], seed=0, input_scale=1 / 255)
        Trainer(net, None, SGD(0.1), 128, threads=threads).fit(x[:6000], y[:6000], 1, class_weight=class_weight)
        called.append(np.sum(net.predict(x_test[:2000]) == 8))
    assert called[1] > 1.2 * called[0]


@pytest.mark.filterwarnings("ignore::fastbp.TrainingWarning")  # a constant is all there is to learn
def test_classes_are_balanced_over_those_that_are_trained_on():
    """The share that is kept for validation has no part in it: a network of biases comes to equal probabilities."""
    y = np.r_[np.zeros(51, int), np.ones(9, int)]
    net = Network([1, 2], weights="zeros", dtype="float64")
    Trainer(net, optimizer=SGD(0.5), batch_size=60, seed=3).fit(
        np.zeros((60, 1)), y, 400, class_weight="balanced", validation_fraction=0.5)
    np.testing.assert_allclose(net.predict_proba([[0.0]]), [[0.5, 0.5]], atol=1e-6)


@pytest.mark.parametrize("kind", [bool, np.bool_, float, np.float32, int, np.uint8])
def test_weights_of_labels_of_any_type(kind):
    X, y, _ = samples(60)
    y = (y > 0).astype(kind)
    thetas = []
    for keys in ((0, 1), (kind(0), kind(1))):
        net = Network([6, 2], seed=1)
        Trainer(net).fit(X, y, 1, class_weight=dict(zip(keys, (1.0, 5.0), strict=True)))
        thetas.append(net.theta.tobytes())
    assert thetas[0] == thetas[1]


@pytest.mark.parametrize("weight", [np.ones((60, 1)), pd.DataFrame({"w": np.ones(60)}), pd.Series(np.ones(60))])
def test_a_column_of_weights_in_every_metric(weight):
    draw = np.random.default_rng(0)
    outputs = draw.dirichlet(np.ones(3), 60)
    labels = draw.integers(0, 3, 60)
    for metric in metrics.METRICS.values():
        y, a = (outputs[::-1], outputs) if metric.kind == "values" else (labels, outputs)
        assert metric.function(y, a, sample_weight=weight) == pytest.approx(metric.function(y, a)), metric.name


def test_a_weight_of_a_label_that_cannot_be():
    X, y, _ = samples(30)
    for label in (7, 7.0, np.int8(7)):
        with pytest.raises(ValueError, match="class_weight has label 7; the network has labels 0 to 2"):
            Trainer(Network([6, 3])).fit(X, y, 1, class_weight={1: 2.0, label: 1.0})
