"""The three ways to all derivatives: the same numbers, also as the oracle has them, and times that make sense."""

import numpy as np
import pytest
from rig import gradient_by_oracle
from test_gradient_check import LABELS, ROWS, X, net

from fastbp import Network, losses
from fastbp.insight import compare_costs, three_ways
from fastbp.insight.gradient_check import Probe
from fastbp.network import HIDDEN_ACTIVATIONS


def ways(network, x, y, loss=None):
    """The three ways after a round, with the oracle's gradient of the parameters that were chosen."""
    probe = Probe(network, x, y, loss)
    found = three_ways._Ways(probe, probe.network)
    found._round()
    oracle = probe.network.workspace(len(probe))
    oracle.a[0][:] = probe.x * network.input_scale
    right = gradient_by_oracle(probe.network.theta, oracle.layers, oracle.buffers, probe.workspace.targets,
                               oracle.costs, probe.loss.rule("float64"), len(probe))
    return found, right[found.chosen]


@pytest.mark.parametrize("hidden", HIDDEN_ACTIVATIONS)
def test_the_derivatives_of_all_three(hidden):
    found, right = ways(net(6, 5, hidden=hidden), X, LABELS)
    np.testing.assert_allclose(found.walked, right, rtol=0, atol=1e-14)
    np.testing.assert_allclose(found.gradient, right, rtol=0, atol=1e-14)
    np.testing.assert_allclose(found.perturbed, right, rtol=0, atol=1e-6)
    assert max(found.differences(0.0)) < 1e-5 and found.differences(0.0)[1] < 1e-12


@pytest.mark.parametrize(("loss", "output"), [
    ("quadratic", "softmax"), ("mean_absolute", "sigmoid"), (losses.Huber(0.2), "identity"), ("poisson", "softplus"),
    ("cosine", "identity")])
def test_the_derivatives_of_losses(loss, output):
    found, right = ways(net(output=output), X, ROWS, loss)
    np.testing.assert_allclose(found.walked, right, rtol=0, atol=1e-14)
    np.testing.assert_allclose(found.perturbed, right, rtol=0, atol=1e-6)


@pytest.mark.parametrize("network", [
    Network([4, 3]), Network([4, 1, 3]), Network([4, 3], weights="zeros"), net(1, 1, 1),
    Network([4, 2, 3], input_scale=3)])
@pytest.mark.parametrize("n", [1, 40])
def test_awkward_networks(network, n):
    found = compare_costs(network, X[:n], LABELS[:n])
    assert max(found.differences) < 1e-5 and found.n_samples == n
    assert found.layer_sizes[found.own] == network.layer_sizes
    assert found.n_parameters[found.own] == network.n_parameters == found.measured[found.own]
    assert "the same numbers" in repr(found)


def test_times_grow_as_they_must():
    found = compare_costs(net(64, 64), X, LABELS)
    assert (found.seconds > 0).all() and found.ratio > 0
    perturbing, walking, backward = found.seconds[found.own]
    assert perturbing > 100 * backward and walking > 10 * backward  # 4,675 parameters
    assert (np.diff(found.n_parameters) > 0).all()


def test_large_networks_are_extrapolated_and_say_so(tmp_path):
    x = np.random.default_rng(0).random((150, 200))
    found = compare_costs(Network([200, 300, 3]), x, np.arange(150) % 3)
    assert found.n_samples == 128 and found.measured[found.own] < found.n_parameters[found.own]
    assert "* extrapolated from a sample of" in repr(found)
    found.plot(tmp_path / "ways.svg")
    assert "<svg" in (tmp_path / "ways.svg").read_text()
    small = compare_costs(net(), X, LABELS)
    assert "*" not in repr(small)
    small.plot(tmp_path / "small.png")


def test_wrong_numbers_are_said(monkeypatch):
    monkeypatch.setattr(three_ways, "walk_from_each", lambda slip, address, chosen, slopes: slopes.fill(1.0))
    assert "NOT the same numbers" in repr(compare_costs(net(), X, LABELS))


def test_one_neuron_and_a_gradient_of_zero():
    found = compare_costs(Network([1, 1], output="identity"), [[0.0]], [0.0])
    assert max(found.differences) < 1e-7 and "the same numbers" in repr(found)


def test_what_is_refused():
    broken = net()
    broken.W[0][1, 2] = np.inf
    with pytest.raises(ValueError, match=r"net.W\[0\]\[1, 2\] is inf; derivatives need finite parameters"):
        compare_costs(broken, X, LABELS)
    with pytest.raises(FileNotFoundError):
        compare_costs(net(), X, LABELS).plot("nowhere/at.svg")


def test_a_neuron_at_its_kink_is_said():
    """A sample of zeros and biases of 0: a difference to one side takes the slope of that side."""
    samples = X.copy()
    samples[0] = 0
    text = repr(compare_costs(Network([4, 8, 3], seed=0), samples, LABELS))
    assert "the same numbers, to" in text and "NOT" not in text and "lies at the kink" in text
