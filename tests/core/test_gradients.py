"""The gradient of the whole network: against central differences and numbers worked by hand; its properties."""

import gc

import numpy as np
import pytest
import test_equations
from hypothesis import given, settings
from hypothesis import strategies as st
from rig import EQUATIONS, SERIAL, Net, gradient_by_oracle

from fastbp import Network, cost_and_gradient, losses
from fastbp.core import activations, equations, reference, rules
from fastbp.core.call import ACTIVATION, Slip
from fastbp.inference import CAPACITY
from fastbp.network import check_loss
from fastbp.optimizers import SGD

PAIRS = [(loss, output) for loss, output, _ in test_equations.PAIRS] + [
    ("mean_absolute", "softplus"), (losses.Huber(0.3), "silu")]
MATCHING = [("quadratic", "identity"), ("binary_cross_entropy", "sigmoid"), ("cross_entropy", "softmax")]


class Checked(Net):
    """A network in float64, its cost at any parameters, and its gradient by the compiled equations."""

    def __init__(self, sizes, hidden, output, loss, n, seed=0):
        super().__init__(sizes, [hidden] * (len(sizes) - 2) + [output], loss, "float64", n, seed=seed)
        self.made_of = sizes, hidden, output, loss

    def cost(self, theta):
        equations.forward_serial(theta, self.layers, self.buffers, self.n, 1)
        self.compute(SERIAL, "output_error")
        return self.costs.mean()

    def backpropagated(self):
        self.gradient[:] = np.nan
        self.compute(SERIAL, *EQUATIONS[:-1])
        return self.gradient.copy()


def disagreement(cost, theta, gradient, draw, h=1e-5):
    """How far (E(theta + h u) - E(theta - h u)) / 2h is from gradient · u, in units of |gradient|, for ten random u.

    u is a random vector of length sqrt(theta.size), so that g · u is about |g|, whatever the direction of g: an error
    anywhere in the gradient shows in nearly every u. The difference errs by about h^2 E''' / 6, and by eps E / h for
    its rounding: 1e-10 and 1e-11 here.
    """
    worst = 0.0
    for _ in range(10):
        u = draw.normal(size=theta.size)
        slope = (cost(theta + h * u) - cost(theta - h * u)) / (2 * h)
        worst = max(worst, abs(slope - gradient @ u) / np.linalg.norm(gradient))
    return worst


TOLERANCE = 1e-6
KINKED = [activations.CODES[name] for name in ("relu", "leaky_relu", "selu")]


def away_from_kinks(sizes, hidden, output, loss, n):
    """relu, leaky relu and selu have no derivative at 0: across the kink a central difference is wrong by half a slope
    however small h is.

    So networks are drawn until no z[l] of any sample is nearer to 0 than 1e-3, a hundred times what h = 1e-5 moves it.
    """
    for seed in range(1000):
        net = Checked(sizes, hidden, output, loss, n, seed)
        net.cost(net.theta)
        kinked = [z for z, layer in zip(net.workspace.z, net.layers, strict=True)
                  if layer[ACTIVATION] in KINKED]
        if all(np.abs(z).min() > 1e-3 for z in kinked):
            return net
    raise AssertionError("every network drawn has a z too near to 0")


def test_losses_with_ever_other_settings_do_not_fill_the_memory():
    net, X, y = Network([2, 3, 1], output="identity"), np.ones((4, 2), "f4"), np.ones((4, 1), "f4")
    costs = [cost_and_gradient(net, X, y, losses.Huber(1 + i / 100))[0] for i in range(200)]
    slips = [each for each in gc.get_objects() if type(each) is Slip]
    assert len(slips) < 200
    assert costs == [cost_and_gradient(net, X, y, losses.Huber(1 + i / 100))[0] for i in range(200)]


@pytest.mark.parametrize(("loss", "output"), PAIRS)
@pytest.mark.parametrize("hidden", activations.CODES)
def test_gradient_against_central_differences(hidden, loss, output):
    net = away_from_kinks([4, 6, 5, 3], hidden, output, loss, 7)
    assert disagreement(net.cost, net.theta, net.backpropagated(), net.draw) < TOLERANCE


@pytest.mark.parametrize(("loss", "output"), PAIRS)
def test_gradient_without_hidden_layer(loss, output):
    net = away_from_kinks([4, 3], "identity", output, loss, 5)
    assert disagreement(net.cost, net.theta, net.backpropagated(), net.draw) < TOLERANCE


def test_kinks_are_what_the_check_cannot_cross():
    """One neuron, relu(w x) at w x = 0: the slope is 0 or 1, and the central difference says 1/2."""
    net = Checked([1, 1], "identity", "relu", "quadratic", 1)
    net.theta[:] = 0.0
    net.workspace.a[0][:], net.targets[:] = 1.0, -1.0
    slope = (net.cost(np.array([1e-5, 0])) - net.cost(np.array([-1e-5, 0]))) / 2e-5
    assert slope == pytest.approx(0.5, abs=1e-4)
    assert (net.backpropagated() == 0).all()


# The checker checked: each of these mistakes must be caught.


@pytest.mark.parametrize("l", [0, 1, 2])
@pytest.mark.parametrize("part", ["W", "b"])
def test_a_layer_off_by_one_in_a_thousand_is_caught(part, l):
    net = Checked([4, 6, 5, 3], "tanh", "softmax", "cross_entropy", 7)
    gradient = net.backpropagated()
    dW, db = reference.parameters(gradient, net.layers[l])
    (dW if part == "W" else db)[...] *= 1.001
    assert disagreement(net.cost, net.theta, gradient, net.draw) > 10 * TOLERANCE


@pytest.mark.parametrize("hidden", ["sigmoid", "tanh", "relu", "softmax"])
def test_a_forgotten_derivative_is_caught(hidden, monkeypatch):
    """The backward recurrence without ∘ f'(z)."""
    net = away_from_kinks([4, 6, 5, 3], hidden, "identity", "quadratic", 7)
    gradient = net.backpropagated()
    reference.backward(net.theta, net.layers, net.buffers, net.n)
    reference.weight_gradients(gradient, net.layers, net.buffers, net.n)
    assert disagreement(net.cost, net.theta, gradient, net.draw) < TOLERANCE

    net.backpropagated()
    monkeypatch.setattr(reference, "through_activation", lambda activation, z, slope: slope)
    reference.backward(net.theta, net.layers, net.buffers, net.n)
    reference.weight_gradients(gradient, net.layers, net.buffers, net.n)
    assert disagreement(net.cost, net.theta, gradient, net.draw) > 1000 * TOLERANCE


def test_one_wrong_number_is_caught():
    net = Checked([4, 6, 5, 3], "sigmoid", "sigmoid", "binary_cross_entropy", 7)
    gradient = net.backpropagated()
    gradient[17] += 1e-4 * np.linalg.norm(gradient)
    assert disagreement(net.cost, net.theta, gradient, net.draw) > 10 * TOLERANCE


def test_a_network_worked_by_hand():
    """2 inputs, 2 sigmoid neurons, 1 output with the identity; quadratic cost; two samples; eta = 0.1.

    Every z[1] is ln 3, 0 or -ln 3 (ln 3 = 1.0986), where sigmoid(z) = 1 / (1 + e^-z) is 3/4, 1/2 or 1/4 and its slope
    a (1 - a) is 3/16 = 0.1875, 0.25 or 0.1875.

                      first sample                         second sample
    a[0]              1, 0                                 1, 1
    z[1]              1 ln3 + 0, 1 (-ln3) + 0              1 ln3 + 1 (0), 1 (-ln3) + 1 (ln3)
                      = ln3, -ln3                          = ln3, 0
    a[1]              0.75, 0.25                           0.75, 0.5
    z[2] = a[2]       0.75 (2) + 0.25 (-4) + 0.5 = 1       0.75 (2) + 0.5 (-4) + 0.5 = 0
    t                 0.5                                  1
    cost              0.5 (1 - 0.5)^2 = 0.125              0.5 (0 - 1)^2 = 0.5
    delta[2] = a - t  0.5                                  -1
    delta[2] W[2]ᵀ    0.5 (2), 0.5 (-4) = 1, -2            -1 (2), -1 (-4) = -2, 4
    f'(z[1])          0.1875, 0.1875                       0.1875, 0.25
    delta[1]          0.1875, -0.375                       -0.375, 1

    E = (0.125 + 0.5) / 2 = 0.3125, and each gradient is the mean of what the two samples say:

    dW[2] = (0.75 (0.5) + 0.75 (-1)) / 2, (0.25 (0.5) + 0.5 (-1)) / 2 = -0.1875, -0.1875
    db[2] = (0.5 - 1) / 2 = -0.25
    dW[1], from input 1 = (1 (0.1875) + 1 (-0.375)) / 2, (1 (-0.375) + 1 (1)) / 2 = -0.09375, 0.3125
           from input 2 = (0 (0.1875) + 1 (-0.375)) / 2, (0 (-0.375) + 1 (1)) / 2 = -0.1875, 0.5
    db[1] = (0.1875 - 0.375) / 2, (-0.375 + 1) / 2 = -0.09375, 0.3125

    One step changes every parameter by -0.1 times its gradient.
    """
    ln3 = np.log(3)
    net = Checked([2, 2, 1], "sigmoid", "identity", "quadratic", 2)
    (W_1, b_1), (W_2, b_2) = (reference.parameters(net.theta, layer) for layer in net.layers)
    W_1[:], b_1[:] = [[ln3, -ln3], [0, ln3]], [0, 0]
    W_2[:], b_2[:] = [[2], [-4]], [0.5]
    net.workspace.a[0][:], net.targets[:] = [[1, 0], [1, 1]], [[0.5], [1]]

    def assert_is(array, expected):
        np.testing.assert_allclose(array, expected, rtol=0, atol=1e-14)

    gradient = net.backpropagated()
    z, a, delta = net.workspace.z, net.workspace.a, net.workspace.delta
    assert_is(z[0], [[ln3, -ln3], [ln3, 0]])
    assert_is(a[1], [[0.75, 0.25], [0.75, 0.5]])
    assert_is(z[1], [[1], [0]])
    assert_is(a[2], [[1], [0]])
    assert_is(net.workspace.costs, [0.125, 0.5])
    assert_is(delta[1], [[0.5], [-1]])
    assert_is(delta[0], [[0.1875, -0.375], [-0.375, 1]])
    (dW_1, db_1), (dW_2, db_2) = (reference.parameters(gradient, layer) for layer in net.layers)
    assert_is(dW_2, [[-0.1875], [-0.1875]])
    assert_is(db_2, [-0.25])
    assert_is(dW_1, [[-0.09375, 0.3125], [-0.1875, 0.5]])
    assert_is(db_1, [-0.09375, 0.3125])
    rules.update_serial(net.theta, gradient, np.zeros((0, 9)), SGD(0.1).settings(), 0.1, 1, 1)
    assert_is(W_2, [[2.01875], [-3.98125]])
    assert_is(b_2, [0.525])
    assert_is(W_1, [[ln3 + 0.009375, -ln3 - 0.03125], [0.01875, ln3 - 0.05]])
    assert_is(b_1, [0.009375, -0.03125])


# Properties. A sum of n terms in another order differs by rounding alone, about n eps of the sum of their sizes.

def network_of(sizes, hidden, pair, n, seed):
    """With as many outputs as drawn, or as its loss needs."""
    loss, output = pair
    n_out = max(sizes[-1], check_loss(loss, output, 20).least_outputs)
    return Checked([*sizes[:-1], n_out], hidden, output, loss, n, seed)


networks = st.builds(
    network_of,
    st.lists(st.integers(1, 20), min_size=2, max_size=5), st.sampled_from(list(activations.CODES)),
    st.sampled_from(PAIRS), st.integers(1, 40), st.integers(0, 2**32 - 1))
thrifty = settings(deadline=None, max_examples=50)


def sizes_of_terms(net):
    """|a[l-1]|ᵀ |delta[l]| / n of every weight and bias: the bound of what rounding can do, in units of eps."""
    buffers, terms = np.abs(net.buffers), np.zeros_like(net.theta)
    reference.weight_gradients(terms, net.layers, buffers, net.n)
    return terms


@thrifty
@given(net=networks, seed=st.integers(0, 100))
def test_the_order_of_samples_does_not_matter(net, seed):
    gradient, bound = net.backpropagated(), 4 * net.n * np.finfo(float).eps * sizes_of_terms(net)
    order = np.random.default_rng(seed).permutation(net.n)
    net.workspace.a[0][:], net.targets[:] = net.workspace.a[0][order], net.targets[order]
    assert (np.abs(net.backpropagated() - gradient) <= bound).all()


@thrifty
@given(net=networks, times=st.integers(2, 4))
def test_repeating_every_sample_does_not_matter(net, times):
    gradient, bound = net.backpropagated(), 4 * times * net.n * np.finfo(float).eps * sizes_of_terms(net)
    more = Checked(*net.made_of, times * net.n)
    more.theta = net.theta
    more.workspace.a[0][:] = np.repeat(net.workspace.a[0], times, axis=0)
    more.targets = np.repeat(net.targets, times, axis=0)
    assert (np.abs(more.backpropagated() - gradient) <= bound).all()
    assert more.cost(more.theta) == pytest.approx(net.cost(net.theta), rel=1e-13)


@thrifty
@given(net=networks, pair=st.sampled_from(MATCHING))
def test_no_error_where_the_output_is_the_target(net, pair):
    """For the matching pairs delta[L] = a[L] - t, and with it every gradient, is 0 to the bit."""
    loss, output = pair
    net.loss, net.layers[-1, ACTIVATION] = losses.LOSSES[loss]().rule(), activations.CODES[output]
    net.cost(net.theta)
    net.targets[:] = net.workspace.a[-1]
    assert (net.backpropagated() == 0).all()
    assert (net.workspace.delta[-1] == 0).all()


@pytest.mark.parametrize("threads", [1, 2])
def test_the_gradient_of_many_samples_that_are_mostly_zeros(threads):
    """It grows from one mini-batch to the next by products that leave out steps, as NumPy's grows by all of them."""
    draw = np.random.default_rng(0)
    n, net = 2 * CAPACITY + 321, Network([96, 70, 10], seed=0, dtype="float64")
    X = draw.random((n, 96)) * (draw.random((n, 96)) < 0.15)
    labels = draw.integers(0, 10, n)
    net.b[0][:] = -0.2  # few neurons send
    cost, gradient = cost_and_gradient(net, X, labels, threads=threads)

    oracle = net.workspace(n)
    oracle.a[0][:] = X
    expected = gradient_by_oracle(net.theta, oracle.layers, oracle.buffers, np.eye(10)[labels], oracle.costs,
                                  losses.CrossEntropy().rule(), n)
    assert (oracle.a[1] == 0).mean() > 0.5
    assert cost == pytest.approx(oracle.costs.mean(), rel=1e-12)
    np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-14)
