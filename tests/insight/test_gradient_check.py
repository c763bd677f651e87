"""The gradient check: right gradients pass, one wrong number is named, kinks are said, bad input is refused by name."""

import numpy as np
import pytest
import scipy.sparse

import fastbp
from fastbp import Network, losses
from fastbp.insight import check_gradients, gradient_check
from fastbp.insight.values import name_of, place_of
from fastbp.network import HIDDEN_ACTIVATIONS

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(40, 4))
LABELS = X[:, :3].argmax(axis=1)
ROWS = DRAW.random((40, 3))
ROWS /= ROWS.sum(axis=1, keepdims=True)


def net(*sizes, hidden="tanh", **settings):
    return Network([4, *(sizes or (8,)), 3], hidden=hidden, **settings)


def damage(monkeypatch, change):
    """Let the gradient that is checked be wrong."""
    real = gradient_check.cost_and_gradient

    def damaged(*arguments, **options):
        cost, gradient = real(*arguments, **options)
        change(gradient)
        return cost, gradient

    monkeypatch.setattr(gradient_check, "cost_and_gradient", damaged)


@pytest.mark.parametrize("hidden", HIDDEN_ACTIVATIONS)
def test_every_activation(hidden):
    found = check_gradients(net(6, 5, hidden=hidden), X, LABELS)
    assert found.verdict == "right" and found.error < 1e-6
    assert found.checked == found.n_parameters == 83 and found.left_out < 20


PAIRS = [("quadratic", "identity"), ("quadratic", "softmax"), ("mean_absolute", "softplus"), ("huber", "sigmoid"),
         (losses.Huber(0.3), "silu"), ("binary_cross_entropy", "sigmoid"), ("cross_entropy", "softmax"),
         (losses.CrossEntropy(0.2), "softmax"), ("poisson", "softplus"), ("cosine", "identity"), ("quadratic", "relu")]


@pytest.mark.parametrize(("loss", "output"), PAIRS)
def test_every_loss(loss, output):
    found = check_gradients(net(output=output), X, ROWS, loss)
    assert found.verdict == "right"


def test_the_losses_are_all_there():
    assert set(losses.LOSSES) <= {loss for loss, _ in PAIRS}


def test_a_loss_of_ones_own_whose_error_is_wrong():
    def right(z, a, t, delta):
        delta[:] = (a - t) ** 3
        return ((a - t) ** 4).sum() / 4

    def wrong(z, a, t, delta):
        delta[:] = (a - t) ** 3 * 1.001
        return ((a - t) ** 4).sum() / 4

    assert check_gradients(net(output="identity"), X, ROWS, losses.Custom(right)).verdict == "right"
    found = check_gradients(net(output="identity"), X, ROWS, losses.Custom(wrong))
    assert found.verdict == "wrong" and found.error == pytest.approx(1e-3, rel=0.01)


@pytest.mark.parametrize(("i", "name", "layer"), [
    (0, "net.W[0][0, 0]", 0), (17, "net.W[0][2, 1]", 0), (37, "net.b[0][5]", 0), (42, "net.W[1][0, 2]", 1),
    (66, "net.b[1][2]", 1)])
def test_one_wrong_number_is_named(monkeypatch, i, name, layer):
    def change(gradient):
        gradient[i] += 1e-3

    damage(monkeypatch, change)
    found = check_gradients(net(), X, LABELS)
    assert (found.verdict, found.worst, found.layer) == ("wrong", name, layer)
    assert found.backprop - found.difference == pytest.approx(1e-3, rel=1e-4)
    assert name in repr(found) and repr(found).startswith("GradientCheck: wrong. All 67 parameters, one by one")


@pytest.mark.parametrize("i", [77, 4 * 60 + 60 + 2222, 4 * 60 + 60 + 3600 + 7])
def test_one_wrong_number_among_thousands_is_found_by_halving(monkeypatch, i):
    def change(gradient):
        gradient[i] += 1e-3

    damage(monkeypatch, change)
    network = net(60, 60)
    found = check_gradients(network, X, LABELS)
    assert found.verdict == "wrong" and found.checked == 30 < found.n_parameters
    assert (found.worst, found.layer) == (name_of(i, network.layer_sizes), place_of(i, network.layer_sizes)[0])
    assert found.backprop - found.difference == pytest.approx(1e-3, rel=1e-3)


def test_a_whole_layer_that_is_wrong_by_a_thousandth(monkeypatch):
    network = net(60, 60)

    def change(gradient):
        network.views(gradient)[0][1][:] *= 1.001

    damage(monkeypatch, change)
    found = check_gradients(network, X, LABELS)
    assert found.verdict == "wrong" and found.worst.startswith("net.W[1][") and found.layer == 1


def test_a_gradient_of_nan_is_wrong(monkeypatch):
    damage(monkeypatch, lambda gradient: gradient.fill(np.nan))
    found = check_gradients(net(), X, LABELS)
    assert found.verdict == "wrong" and found.error == np.inf


def test_names_of_all_parameters():
    network = net(2)
    names = [name_of(i, network.layer_sizes) for i in range(network.n_parameters)]
    network.theta = np.arange(network.n_parameters)
    assert [float(eval(name, {"net": network})) for name in names] == network.theta.tolist()


@pytest.mark.parametrize("scale", [1e-4, 1e5])
def test_inputs_of_any_scale(scale):
    assert check_gradients(net(), X * scale, LABELS).verdict == "right"


def test_large_networks_of_relu():
    found = check_gradients(net(100, 100, hidden="relu"), X, LABELS)
    assert found.verdict == "right" and found.checked == 30
    assert found.worst in {f"net.{what}[{l}]" for what in "Wb" for l in range(3)}


def test_a_kink_is_said():
    network = Network([1, 1, 1], output="identity", dtype="float64")
    network.theta = [1.0, 0, 1, 0]
    found = check_gradients(network, [[0.0], [1.0]], [1.0, 2.0])
    assert found.verdict == "right" and found.left_out == 1
    assert "neuron 0 (relu of layer 0) of sample 0" in repr(found)
    found = check_gradients(network, [[0.0]], [1.0])
    assert found.verdict == "not checked" and np.isnan(found.error) and "kink" in repr(found)


@pytest.mark.parametrize("loss", ["mean_absolute", losses.Huber(1.0)])
def test_kinks_of_losses(loss):
    network = Network([1, 1], output="identity", weights="zeros")
    t = 0.0 if loss == "mean_absolute" else 1.0
    found = check_gradients(network, [[1.0], [1.0]], [t, 5.0], loss)
    assert found.verdict == "right" and found.left_out == 1 and "of sample 0" in found.kink


def test_weights_leave_samples_out():
    spoilt = X.copy()
    spoilt[3] = 1e300
    weights = np.arange(40) % 3 * (np.arange(40) != 3)
    found = check_gradients(net(dtype="float64"), spoilt, LABELS, sample_weight=weights)
    assert found.verdict == "right" and found.n_samples == 26


def test_sparse_samples_and_bytes():
    x = (DRAW.random((40, 4)) < 0.3) * 200
    network = net(input_scale=1 / 255)
    dense, sparse = (check_gradients(network, each, LABELS) for each in (
        x.astype(np.uint8), scipy.sparse.csr_array(x.astype(np.uint8))))
    assert dense == sparse and dense.verdict == "right"


def test_names_of_classes():
    network = net()
    network.classes = ["a", "b", "c"]
    assert check_gradients(network, X, np.array(["a", "b", "c"])[LABELS]).verdict == "right"


@pytest.mark.parametrize("network", [
    Network([4, 3]), Network([4, 1, 3]), Network([4, 1], output="sigmoid"), Network([4, 3], weights="zeros"),
    Network([4, 8, 3], hidden="tanh", weights="zeros", dtype="float64")])
def test_awkward_networks(network):
    y = LABELS if network.layer_sizes[-1] > 1 else LABELS > 0
    for n in (1, 40):
        assert check_gradients(network, X[:n], y[:n]).verdict == "right"


def test_constant_inputs():
    assert check_gradients(net(), np.ones((5, 4)), LABELS[:5]).verdict == "right"
    assert check_gradients(net(), np.zeros((5, 4)), LABELS[:5]).verdict == "right"


def test_nothing_is_changed():
    network = net()
    before = network.theta.copy()
    check_gradients(network, X, LABELS)
    assert (network.theta == before).all()


def test_what_is_refused():
    broken = net()
    broken.b[1][2] = np.nan
    with pytest.raises(ValueError, match=r"net.b\[1\]\[2\] is nan; derivatives need finite parameters"):
        check_gradients(broken, X, LABELS)
    with pytest.raises(ValueError, match="the cost of sample 0 is inf"):
        check_gradients(Network([4, 1], output="identity", dtype="float64"), X * 1e200, LABELS)
    with pytest.raises(TypeError, match="network must be a Network"):
        check_gradients("net", X, LABELS)
    with pytest.raises(ValueError, match="unknown loss"):
        check_gradients(net(), X, LABELS, "log")
    with pytest.raises(ValueError, match="all samples have weight 0"):
        check_gradients(net(), X, LABELS, sample_weight=np.zeros(40))


@pytest.mark.parametrize("n_out", [1, 2])
def test_a_network_that_has_learned_all_is_right(n_out):
    """Costs near 0 are rounded as their parts are: log(a) with a near 1, by the last bit of 1."""
    X = np.random.default_rng(0).normal(size=(20, 5))
    y = (X[:, 0] > 0).astype(int)
    network = Network([5, 16, n_out], hidden="tanh", output="sigmoid" if n_out == 1 else "softmax")
    fastbp.Trainer(network, optimizer=fastbp.Adam(0.05), batch_size=20).fit(X, y, epochs=1000)
    assert check_gradients(network, X, y).verdict == "right"
    assert "NOT the same" not in repr(fastbp.insight.compare_costs(network, X, y))
