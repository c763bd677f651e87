"""insight.sensitivity, saliency and hebbian_pairs: their numbers against the oracle's, their names against theta."""

import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from rig import DTYPES
from test_depth import by_oracle

from fastbp import Network, cost_and_gradient, data, input_gradients, insight

SHAPES = [(3, 2), (3, 1, 2), (3, 5, 7, 2)]
DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(20, 3))
Y = (X[:, 0] > 0).astype(int)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", SHAPES)
@pytest.mark.parametrize("n", [1, 20])
def test_the_ranking_is_that_of_the_gradient(sizes, dtype, n):
    net = Network(sizes, dtype=dtype, seed=1)
    found = insight.sensitivity(net, X[:n], Y[:n])
    _, gradient = by_oracle(net, X[:n], np.eye(2)[Y[:n]], "cross_entropy")
    close = {"rtol": 1e-4, "atol": 1e-6} if dtype == "float32" else {"rtol": 1e-10}
    np.testing.assert_allclose(found.gradient, gradient, **close)
    assert (np.diff(np.abs(found.gradient[found.ranking])) <= 0).all()
    assert sorted(found.ranking) == list(range(net.n_parameters))
    dW, db = net.views(gradient)
    squares = [np.square(W).sum() + np.square(b).sum() for W, b in zip(dW, db, strict=True)]
    np.testing.assert_allclose(found.layer_share, np.array(squares) / sum(squares), rtol=1e-4)
    numbers = np.array([W.size + b.size for W, b in zip(dW, db, strict=True)])
    np.testing.assert_allclose(found.layer_rms, np.sqrt(squares / numbers), rtol=1e-4)


def test_names_lead_to_the_parameters():
    net = Network([3, 1, 4, 2], seed=0)
    found = insight.sensitivity(net, X, Y)
    dW, db = net.views(found.gradient)
    named = [eval(found.name_of(i), {"net": SimpleNamespace(W=dW, b=db)}) for i in range(net.n_parameters)]
    assert named == found.gradient.tolist()
    assert len({found.name_of(i) for i in range(net.n_parameters)}) == net.n_parameters
    for i in (-1, net.n_parameters):
        with pytest.raises(IndexError, match="theta has no parameter"):
            found.name_of(i)


def test_a_component_of_3_2_matters_32_times_one_of_0_1():
    """Against the cost itself, after an equal small change of each."""
    net = Network([2, 1], output="identity", weights="zeros", dtype="float64")
    found = insight.sensitivity(net, [[32.0, 1.0]], [-0.1])
    assert found.gradient.round(12).tolist() == [3.2, 0.1, 0.1] and found.name_of(found.ranking[0]) == "net.W[0][0, 0]"
    rises = []
    for i in range(2):
        net.theta = np.eye(3)[i] * 1e-7
        rises.append(cost_and_gradient(net, [[32.0, 1.0]], [-0.1])[0] - found.cost)
    assert rises[0] / rises[1] == pytest.approx(32, rel=1e-4)


def test_the_record_is_a_copy():
    net = Network([3, 2], seed=0)
    found, theta = insight.sensitivity(net, X, Y), net.theta.copy()
    net.theta = np.zeros(net.n_parameters)
    assert (found.theta == theta).all() and found.theta.any()


def test_where_nothing_matters():
    """All targets are met: no component, no share, no warning."""
    net = Network([3, 4, 1], output="identity", weights="zeros")
    found = insight.sensitivity(net, X, np.zeros(20))
    assert not found.gradient.any() and not found.layer_share.any()
    assert repr(found) and found.plot()
    pairs = insight.hebbian_pairs(net, X[0], 0.0)
    assert pairs.pairs.shape == (0, 3) and repr(pairs) and pairs.plot()


@pytest.mark.parametrize("what", [{"y": Y}, {"output": 1}])
def test_saliency_is_the_gradient_of_the_inputs(what):
    net = Network([3, 5, 2], seed=0, input_scale=0.5)
    found = insight.saliency(net, X, **what)
    assert (found.gradients == input_gradients(net, X, **what)).all() and (found.inputs == X).all()
    assert found.of == ("output 1" if "output" in what else "the cost")
    size = np.abs(found.gradients).mean(axis=0)
    assert f"column {size.argmax()}" in repr(found).splitlines()[2]


def test_saliency_names_the_columns_of_a_frame():
    net = Network([3, 5, 2], seed=0)
    net.feature_names = ["a", "b", "c"]
    found = insight.saliency(net, pd.DataFrame(X, columns=["c", "b", "a"]), Y)
    assert (found.inputs == X[:, ::-1]).all()
    assert "('a')" in repr(found) and "('c')" in repr(found)


def test_the_saliency_of_a_digit_lies_where_the_digit_may_be():
    digits = data.mnist()
    net = Network([784, 10], input_scale=digits.input_scale, weights="zeros")
    net.W[0][406, 3] = 1.0  # of one pixel in the middle
    found = insight.saliency(net, digits.x_test[:9], output=3)
    assert (np.abs(found.gradients).argmax(axis=1) == 406).all()
    figure = found.plot()
    assert len(figure.axes) == 16 and figure.axes[8].images[0].get_array().shape == (28, 28)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", SHAPES)
def test_pairs_are_active_senders_and_wanted_receivers(sizes, dtype):
    net = Network(sizes, hidden="tanh", dtype=dtype, seed=2)
    found = insight.hebbian_pairs(net, X[3], Y[3])
    workspace, gradient = by_oracle(net, X[3:4], np.eye(2)[Y[3:4]], "cross_entropy")
    close = {"rtol": 1e-4, "atol": 1e-6} if dtype == "float32" else {"rtol": 1e-10}
    for l, dW in enumerate(net.views(gradient)[0]):
        np.testing.assert_allclose(found.growth[l], -dW, **close)
        np.testing.assert_allclose(found.wanted[l], -workspace.delta[l][0], **close)
        np.testing.assert_allclose(found.growth[l], np.outer(found.a[l], found.wanted[l]), **close)
    values = [found.growth[l][i, j] for l, i, j in found.pairs]
    every = np.concatenate([growth.ravel() for growth in found.growth])
    assert values == sorted(every[every > 0], reverse=True)[:100] and len(values) > 0


def test_one_sample_may_be_given_in_several_ways():
    net = Network([3, 4, 2], seed=0)
    net.classes = ["no", "yes"]
    ways = [(X[0], "yes"), (X[:1], ["yes"]), (list(X[0]), [0, 1]), (X[:1], [[0, 1]])]
    first, *others = (insight.hebbian_pairs(net, x, t) for x, t in ways)
    assert all((first.pairs == other.pairs).all() and first.cost == other.cost for other in others)
    value = Network([3, 1], output="identity", seed=0)
    assert insight.hebbian_pairs(value, X[0], 2.0).cost == insight.hebbian_pairs(value, X[0], [2.0]).cost


def test_more_than_one_sample_is_refused():
    net = Network([3, 4, 2])
    with pytest.raises(ValueError, match="x must be one sample, got 2"):
        insight.hebbian_pairs(net, X[:2], [[1, 0], [0, 1]])
    with pytest.raises(ValueError, match="X has 2 features"):
        insight.hebbian_pairs(net, X[0, :2], 1)
    with pytest.raises(ValueError, match="give either y"):
        insight.saliency(net, X)


def test_pictures(tmp_path):
    """A picture for each neuron if the inputs may be an image; one sample, one neuron, constant inputs."""
    images = DRAW.random((3, 64))
    net = Network([64, 12, 3])
    figure = insight.sensitivity(net, images, [0, 1, 2]).plot(tmp_path / "images.png")
    assert (tmp_path / "images.png").stat().st_size > 1000 and len(figure.axes) == 16 + 2
    assert figure.axes[0].images[0].get_array().shape == (8, 8)
    assert insight.sensitivity(Network([3, 4, 2]), X, Y).plot().axes[0].images[0].get_array().shape == (4, 3)
    one = Network([1, 1], output="identity")
    for made in (insight.sensitivity(one, [[0.0]], [1.0]), insight.saliency(one, [[0.0]], [1.0]),
                 insight.hebbian_pairs(one, [0.0], 1.0), insight.hebbian_pairs(net, images[0], 1)):
        assert made.plot(tmp_path / "one.svg") and repr(made)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        insight.saliency(net, images, output=0).plot(tmp_path / "nowhere" / "a.png")


@pytest.mark.parametrize("function", [insight.sensitivity, insight.saliency, insight.gradient_noise,
                                      insight.layer_errors, insight.vanishing_gradients])
def test_a_cost_that_is_not_finite_is_shown_as_such(function):
    """Inputs that overflow: the answer is NaN where it is unknown; printed and drawn without a warning."""
    net = Network([3, 4, 2], weights=lambda draw, n_in, n_out: np.ones((n_in, n_out)))
    found = function(net, np.full((5, 3), 3e38), Y[:5])
    assert "nan" in repr(found) or function is insight.vanishing_gradients
    assert found.plot() and len(insight.hebbian_pairs(net, [3e38] * 3, 1).pairs) == 0


def test_plots_need_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'plot needs matplotlib: pip install "fastbp\[plot\]"'):
        insight.sensitivity(Network([3, 4, 2]), X, Y).plot()


def test_pairs_of_a_frame_go_by_name():
    net = Network([2, 3, 2], seed=0)
    net.feature_names = ["u", "v"]
    x, swapped = pd.DataFrame({"u": [1.0], "v": [3.0]}), pd.DataFrame({"v": [3.0], "u": [1.0]})
    costs = [insight.hebbian_pairs(net, row, [1]).cost for row in (x, swapped, [3.0, 1.0])]
    assert costs[0] == costs[1] != costs[2]
