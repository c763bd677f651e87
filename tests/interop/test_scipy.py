"""fastbp.objective with the optimisers of SciPy."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime, check_grad, minimize

from fastbp import Network, cost_and_gradient, hvp, losses, objective

DRAW = np.random.default_rng(0)
X, LABELS = DRAW.normal(size=(40, 3)), DRAW.integers(0, 3, 40)
# All that take a gradient, or a Hessian-vector product beside it.
GRADIENT = ["CG", "BFGS", "L-BFGS-B", "TNC", "SLSQP"]
PRODUCT = ["Newton-CG", "trust-ncg", "trust-krylov", "trust-constr"]


def made(dtype, **settings):
    net = Network([3, 5, 3], hidden="tanh", dtype=dtype, seed=0)
    return net, objective(net, X, LABELS, l2=0.01, **settings)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("method", GRADIENT + PRODUCT)
def test_every_method_goes_down(method, dtype):
    net, cost = made(dtype)
    before, theta = cost(cost.x0)[0], net.theta.copy()
    more = {"hessp": cost.hessp} if method in PRODUCT else {}
    most = {"maxfun": 500} if method == "TNC" else {"maxiter": 60}
    result = minimize(cost, cost.x0, jac=True, method=method, options=most, **more)
    assert result.fun < 0.82 * before  # to 0.79 at the most, as labels are drawn at random
    assert cost.x0.dtype == result.x.dtype == np.float64
    assert (net.theta == theta).all()  # until the result is put into it
    net.theta = result.x
    assert cost_and_gradient(net, X, LABELS)[0] < result.fun < before


@pytest.mark.parametrize("output, loss, y", [
    ("softmax", None, LABELS), ("softmax", losses.CrossEntropy(0.1), np.eye(3)[LABELS]), ("identity", "huber", X),
    ("sigmoid", None, X > 0)])
@pytest.mark.parametrize("weights", [None, np.linspace(0, 3, 40)])
def test_derivatives(output, loss, y, weights):
    net = Network([3, 4, 3], hidden="tanh", output=output, dtype="float64", seed=1)
    cost = objective(net, X, y, loss, sample_weight=weights, l2=0.3)
    assert check_grad(lambda theta: cost(theta)[0], lambda theta: cost(theta)[1], cost.x0) < 1e-5
    vector = DRAW.normal(size=net.n_parameters)
    product = approx_fprime(np.zeros(1), lambda t: cost(cost.x0 + t[0] * vector)[1], 1e-6)[:, 0]
    np.testing.assert_allclose(cost.hessp(cost.x0, vector), product, rtol=1e-3, atol=1e-4)
    plain, gradient = cost_and_gradient(net, X, y, loss, sample_weight=weights)
    value, with_l2 = cost(cost.x0)
    norm = sum((W**2).sum() for W in net.W)
    np.testing.assert_allclose(value, plain + 0.15 * norm, rtol=1e-12)
    np.testing.assert_allclose(net.views(with_l2 - gradient)[0][0], 0.3 * net.W[0], rtol=1e-9, atol=1e-12)
    assert not np.any(net.views(with_l2 - gradient)[1][0])
    without = objective(net, X, y, loss, sample_weight=weights)
    np.testing.assert_allclose(without.hessp(cost.x0, vector), hvp(net, X, y, vector, loss, sample_weight=weights))


def test_names_as_labels():
    names = np.array(["a", "b", "c"])
    net, cost = made("float64")
    net.classes = names
    named = objective(net, X, names[LABELS], l2=0.01)
    assert named(named.x0)[0] == cost(cost.x0)[0]
    assert (named.hessp(named.x0, cost.x0) == cost.hessp(cost.x0, cost.x0)).all()
    assert net.classes.tolist() == names.tolist()


def test_each_gradient_is_a_new_array():
    """BFGS, CG, Newton-CG and trust-constr of SciPy 1.17 go wrong, without a word, where it is written over."""
    _, cost = made("float64")
    first = cost(cost.x0)[1]
    kept = first.copy()
    cost(cost.x0 + 1)
    assert (first == kept).all()


def test_what_does_not_fit_is_refused():
    net = Network([3, 5, 3])
    with pytest.raises(ValueError, match="2 features, the network takes 3"):
        objective(net, X[:, :2], LABELS)
    with pytest.raises(ValueError, match="l2 must be a finite number >= 0, got -1"):
        objective(net, X, LABELS, l2=-1)
    with pytest.raises(ValueError, match="all"):
        objective(net, X, LABELS, sample_weight=np.zeros(40))
    with pytest.raises(ValueError, match="theta"):
        objective(net, X, LABELS)(np.zeros(3))
    custom = losses.Custom(lambda z, a, t, delta: 0.0)
    with pytest.raises(ValueError, match="second derivative"):
        objective(net, X, LABELS, custom).hessp(net.theta, net.theta)
