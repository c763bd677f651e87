"""insight.gradient_noise and descent_paths: mini-batches against single samples, paths against the oracle's steps."""

import numpy as np
import pytest
from rig import DTYPES
from test_depth import by_oracle

from fastbp import SGD, DivergenceError, Network, Trainer, cost_and_gradient, data, insight, per_sample_gradients

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(300, 4))
Y = (X[:, 0] + 0.5 * DRAW.normal(size=300) > 0).astype(int)
ONE_HOT = np.eye(2)[Y]


def network(dtype="float64", seed=0):
    return Network([4, 6, 2], hidden="tanh", dtype=dtype, seed=seed)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 7, 300])
def test_the_gradient_of_a_mini_batch_is_the_mean_of_its_samples_gradients(dtype, n):
    """Each of them, and their mean, as the oracle has them too."""
    net = network(dtype)
    each, whole = per_sample_gradients(net, X[:n], Y[:n]), cost_and_gradient(net, X[:n], Y[:n])[1]
    close = {"rtol": 1e-4, "atol": 1e-6} if dtype == "float32" else {"rtol": 1e-9, "atol": 1e-14}
    np.testing.assert_allclose(each.mean(axis=0, dtype=float), whole, **close)
    np.testing.assert_allclose(whole, by_oracle(net, X[:n], ONE_HOT[:n], "cross_entropy")[1], **close)
    np.testing.assert_allclose(each[-1], by_oracle(net, X[n - 1 : n], ONE_HOT[n - 1 : n], "cross_entropy")[1], **close)


@pytest.mark.parametrize("dtype", DTYPES)
def test_cosines_grow_with_the_batch(dtype):
    net = network(dtype)
    before = net.theta.copy()
    found = insight.gradient_noise(net, X, Y)
    assert found.batch_sizes.tolist() == [1, 10, 100, 300] and found.cosines.shape == (4, 20)
    means = found.cosines.mean(axis=1)
    assert (np.diff(means) > 0).all() and (np.abs(found.cosines) < 1 + 1e-12).all()
    np.testing.assert_allclose(found.cosines[-1], 1, rtol=1e-6)
    np.testing.assert_allclose(means[1:], found.expected[1:], atol=0.1)
    assert (net.theta == before).all()


def test_noise_scale_and_single_samples():
    net = network()
    each = per_sample_gradients(net, X, Y)
    whole = each.mean(axis=0)
    found = insight.gradient_noise(net, X, Y, batch_sizes=[1], draws=50)
    assert found.noise_scale == pytest.approx(each.var(axis=0).sum() / np.square(whole).sum(), rel=1e-9)
    own = each @ whole / np.linalg.norm(each, axis=1) / np.linalg.norm(whole)
    assert all(np.abs(own - cosine).min() < 1e-9 for cosine in found.cosines[0])
    assert len(np.unique(found.cosines[0].round(9))) > 30
    same, other = (insight.gradient_noise(net, X, Y, batch_sizes=[1], draws=50, seed=seed).cosines for seed in (0, 1))
    assert (same == found.cosines).all() and (other != found.cosines).any()


@pytest.mark.filterwarnings("error")
def test_noise_where_there_is_none():
    """One sample; all samples alike; and no gradient at all."""
    alone = insight.gradient_noise(network(), X[:1], Y[:1], draws=1)
    assert alone.batch_sizes.tolist() == [1] and alone.noise_scale == 0 and alone.expected.tolist() == [1]
    alike = insight.gradient_noise(network(), X[[0] * 20], Y[[0] * 20])
    assert alike.noise_scale < 1e-9 and alike.cosines.min() > 1 - 1e-9
    assert insight.gradient_noise(network(), X, Y, batch_sizes=[301, None, 300]).batch_sizes.tolist() == [300]
    flat = Network([4, 1], output="identity", weights="zeros")
    none = insight.gradient_noise(flat, X, np.zeros(300))
    assert none.noise_scale == np.inf and np.isnan(none.cosines).all()
    for found in (alone, alike, none):
        assert repr(found) and found.plot()


@pytest.mark.parametrize("change, match", [
    ({"batch_sizes": []}, "batch_sizes is empty"), ({"batch_sizes": [0]}, "a batch size must be at least 1, got 0"),
    ({"draws": 0}, "draws must be at least 1"), ({"seed": -1}, "seed must be at least 0"),
    ({"y": Y[:5]}, "there are 300 samples")])
def test_what_gradient_noise_refuses(change, match):
    with pytest.raises(ValueError, match=match):
        insight.gradient_noise(**{"network": network(), "X": X, "y": Y} | change)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_path_of_all_samples_is_gradient_descent(dtype):
    """By the oracle, step by step."""
    net = network(dtype)
    before, found = net.theta.copy(), insight.descent_paths(net, X, Y, batch_sizes=[None], steps=30, eta=0.5)
    assert (net.theta == before).all() and found.steps.tolist() == list(range(31))
    points, costs = [], []
    for _ in range(31):
        workspace, gradient = by_oracle(net, X, ONE_HOT, "cross_entropy")
        points.append(net.theta - before.astype(float))
        costs.append(workspace.costs.mean())
        net.theta = net.theta - 0.5 * gradient
    close = 1e-4 if dtype == "float32" else 1e-9
    np.testing.assert_allclose(found.costs[0], costs, rtol=close)
    np.testing.assert_allclose(found.paths[0], np.array(points) @ found.directions.T, atol=close)
    left = np.array(points) - found.paths[0] @ found.directions
    assert found.share == pytest.approx(1 - np.square(left).sum() / np.square(points).sum(), abs=close)
    assert found.share > 0.9


def test_the_plane_goes_through_the_start_along_the_main_directions():
    net = network()
    found = insight.descent_paths(net, X, Y, steps=60)
    assert found.batch_sizes == [1, 100, 300] and all(path[0].tolist() == [0, 0] for path in found.paths)
    np.testing.assert_allclose(found.directions @ found.directions.T, np.eye(2), atol=1e-12)
    assert np.mean([path[-1][0] for path in found.paths]) > 0
    for k, i in ((0, 0), (12, 20)):  # rows of the surface go with v, columns with u
        own = network()
        own.theta = net.theta + found.u[k] * found.directions[0] + found.v[i] * found.directions[1]
        assert found.surface[i, k] == pytest.approx(cost_and_gradient(own, X, Y)[0], rel=1e-9)
    every = np.concatenate(found.paths)
    assert found.u[0] < every[:, 0].min() and every[:, 0].max() < found.u[-1]
    assert found.v[0] < every[:, 1].min() and every[:, 1].max() < found.v[-1]


def test_small_batches_stagger():
    """All walk equally many steps; the smaller the batch, the more often the cost of all rises."""
    found = insight.descent_paths(network(), X, Y, steps=150, eta=0.3)
    rises = [np.mean(np.diff(costs) > 0) for costs in found.costs]
    assert rises[0] > rises[1] > rises[2] == 0
    assert [len(costs) for costs in found.costs] == [101] * 3 and found.steps[-1] == 150
    again = insight.descent_paths(network(), X, Y, steps=150, eta=0.3)
    assert all((one == other).all() for one, other in zip(found.paths, again.paths, strict=True))


def test_the_smallest_paths(tmp_path):
    """Two parameters, one sample, one step; inputs that are all 0; a cost that is met from the start."""
    one = Network([1, 1], output="identity", seed=0)
    for x, t in (([[1.0]], [1.0]), ([[0.0], [0.0]], [1.0, 1.0])):
        found = insight.descent_paths(one, x, t, steps=1)
        assert found.directions.shape == (2, 2) and found.share == pytest.approx(1)
        assert repr(found) and found.plot(tmp_path / "path.png")
    still = insight.descent_paths(Network([1, 1], output="identity", weights="zeros"), [[1.0]], [0.0], steps=2)
    assert not np.concatenate(still.paths).any() and still.share == 1 and still.plot()


def test_names_of_classes_are_understood():
    net = network()
    net.classes = ["no", "yes"]
    named = np.array(["no", "yes"])[Y]
    assert (insight.gradient_noise(net, X, named).cosines == insight.gradient_noise(network(), X, Y).cosines).all()
    assert insight.descent_paths(net, X, named, steps=2).costs[0][0] > 0 and net.classes.tolist() == ["no", "yes"]


@pytest.mark.parametrize("change, match", [
    ({"batch_sizes": []}, "batch_sizes is empty"), ({"batch_sizes": [0]}, "a batch size must be at least 1, got 0"),
    ({"steps": 0}, "steps must be at least 1"), ({"eta": 0}, "eta must be a finite number > 0"),
    ({"y": Y[:5]}, "there are 300 samples")])
def test_what_descent_paths_refuses(change, match):
    with pytest.raises(ValueError, match=match):
        insight.descent_paths(**{"network": network(), "X": X, "y": Y} | change)


def test_a_path_that_diverges():
    linear = Network([4, 1], output="identity", dtype="float32")
    with pytest.raises(DivergenceError):
        insight.descent_paths(linear, 100 * X, X[:, 0], eta=10.0, steps=200)


def test_a_network_trained_on_twos_alone_answers_2_to_everything():
    digits = data.mnist()
    twos = digits.x_train[digits.y_train == 2]
    net = Network([784, 16, 10], input_scale=digits.input_scale)
    Trainer(net, optimizer=SGD(0.1), batch_size=100).fit(twos, np.full(len(twos), 2), epochs=1)
    assert (net.predict(digits.x_test) == 2).all()
