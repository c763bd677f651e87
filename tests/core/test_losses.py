"""fastbp.losses: costs and errors worked by hand, at the far ends, settings and pairs that are refused, one's own."""

import dataclasses
import math
import pickle

import numba
import numpy as np
import pytest

from fastbp import SGD, DivergenceError, Network, Trainer, cost_and_gradient, losses
from fastbp.core import equations, reference
from fastbp.core.activations import CODES
from fastbp.core.costs import CODES as CODES_OF_LOSSES
from fastbp.core.costs import COSTS, CUSTOM, NO_LOSS, Cost


def cost_and_delta(loss, output, z, t, dtype="float64"):
    """Of one sample, through a network that hands its inputs on; the gradient of its biases is delta."""
    net = Network([len(z), len(z)], output=output, dtype=dtype)
    net.W[0], net.b[0] = np.eye(len(z)), 0.0
    cost, gradient = cost_and_gradient(net, np.array([z], dtype), np.array([t], dtype), loss)
    return cost, net.views(gradient)[1][0]


BY_HAND = [
    (losses.Quadratic(), "identity", [1, -2], [0, 1], 0.5 * (1 + 9), [1, -3]),
    (losses.MeanAbsolute(), "identity", [1, -2, 5], [0, 1, 5], 1 + 3, [1, -1, 0]),
    (losses.Huber(), "identity", [0.5, -2, 1], [0, 1, 0], 0.125 + (3 - 0.5) + 0.5, [0.5, -1, 1]),
    (losses.Huber(2), "identity", [0.5, -2], [0, 1], 0.125 + 2 * (3 - 1), [0.5, -2]),
    # a = (3, 4), of length 5; t = (0, 2): cos = 4/5, and the slope (cos a / 5 - t / 2) / 5
    (losses.Cosine(), "identity", [3, 4], [0, 2], 1 - 0.8, [0.48 / 5, (0.64 - 1) / 5]),
    (losses.Cosine(), "identity", [0, 0], [0, 2], 1, [0, 0]),
    (losses.Cosine(), "identity", [3, 4], [0, 0], 1, [0, 0]),
    (losses.Cosine(), "identity", [0.3, -0.4], [0.3, -0.4], 0, [0, 0]),
    # An angle of which 1 - cos has no digits in float32; squares that overflow there
    (losses.Cosine(), "identity", [1, 2**-20], [3, 0], 2 * math.sin(math.atan(2**-20) / 2) ** 2, [-(2**-40), 2**-20]),
    (losses.Cosine(), "identity", [3e30, 4e30], [0, 2e30], 1 - 0.8, [0, 0]),
    # tanh' = 1 - tanh^2 at 0 is 1
    (losses.MeanAbsolute(), "tanh", [0.0], [0.5], 0.5, [-1]),
    (losses.BinaryCrossEntropy(), "sigmoid", [math.log(3), 0], [1, 0], math.log(4 / 3) + math.log(2), [0.75 - 1, 0.5]),
    (losses.CrossEntropy(0.2), "softmax", [0, 0], [1, 0], math.log(2), [0.5 - 0.9, 0.5 - 0.1]),
    (losses.CrossEntropy(0.2), "softmax", [math.log(3), 0], [1, 0], math.log(4) - 0.9 * math.log(3),
     [0.75 - 0.9, 0.15]),
    # a = softplus(0) = log 2, f' = 1/2
    (losses.Poisson(), "softplus", [0.0], [3], math.log(2) - 3 * math.log(math.log(2)), [0.5 * (1 - 3 / math.log(2))]),
]


@pytest.mark.parametrize(("loss", "output", "z", "t", "cost", "delta"), BY_HAND)
def test_by_hand(loss, output, z, t, cost, delta):
    for dtype in ("float64", "float32"):
        found, error = cost_and_delta(loss, output, z, t, dtype)
        eps = 8 * float(np.finfo(dtype).eps)
        assert found == pytest.approx(cost, rel=eps)
        np.testing.assert_allclose(error, delta, rtol=eps, atol=eps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_poisson_far_from_the_counts(dtype):
    """A rate next to 0 beside a large count: t / a would overflow."""
    z = -87.0 if dtype == "float32" else -700.0
    cost, delta = cost_and_delta(losses.Poisson(), "softplus", [z, -z], [1000.0, 0.0], dtype)
    assert cost == pytest.approx(-1001 * z, rel=1e-6)
    np.testing.assert_allclose(delta, [-1000, 1], rtol=1e-6)


@pytest.mark.parametrize("output", [name for name in CODES if name != "softmax"])
def test_pairs(output):
    """Of those that any output may have, and the wrong ones refused."""
    net = Network([2, 2], output=output)
    for name, kind in losses.LOSSES.items():
        if kind.outputs and output not in kind.outputs:
            with pytest.raises(ValueError, match=f"loss {name} needs {kind.outputs[0]} outputs, .* has {output};"):
                Trainer(net, name)
        else:
            assert Trainer(net, name).loss == Trainer(net, kind()).loss == kind()
    expected = {"sigmoid": "binary_cross_entropy", "softplus": "poisson"}.get(output, "quadratic")
    assert str(Trainer(net).loss) == expected


@pytest.mark.parametrize(("make", "kind", "message"), [
    (lambda: losses.Huber(0), ValueError, "threshold must be a finite number > 0, got 0"),
    (lambda: losses.Huber(math.nan), ValueError, "threshold must be a finite number > 0, got nan"),
    (lambda: losses.CrossEntropy(1.0), ValueError, r"label_smoothing must be in \[0, 1\), got 1.0"),
    (lambda: losses.CrossEntropy("0.1"), TypeError, "label_smoothing must be a number, got '0.1'"),
    (lambda: losses.Custom("mse"), TypeError, r"function must be a function \(z, a, t, delta\) -> cost, got 'mse'"),
    (lambda: Trainer(Network([2, 2]), "hinge"), ValueError,
     f"unknown loss 'hinge'; valid: {', '.join(losses.LOSSES)}$"),
    (lambda: Trainer(Network([2, 2]), 3), TypeError, "loss must be a name or one of fastbp.losses, got 3"),
    (lambda: Trainer(Network([2, 2]), losses.Huber), TypeError, "loss must be a name or one of .*, got <class"),
    (lambda: Trainer(Network([2, 1], output="softplus"), "poisson").fit(np.zeros((3, 2)), [1.0, -2.0, 0.0]), ValueError,
     "y must be at least 0 for poisson, found -2"),
    (lambda: Trainer(Network([2, 1], output="identity"), "cosine"), ValueError,
     "loss cosine needs at least 2 outputs, the network has 1; "),
    (lambda: cost_and_gradient(Network([2, 1], output="tanh"), np.zeros((1, 2)), [[1.0]], losses.Cosine()), ValueError,
     "loss cosine needs at least 2 outputs, the network has 1; "),
])
def test_what_is_refused(make, kind, message):
    with pytest.raises(kind, match=message):
        make()


def test_huber_between_the_two():
    """With a threshold that nothing exceeds it is quadratic to the bit; outliers move it less."""
    draw = np.random.default_rng(0)
    X = draw.normal(size=(200, 3))
    y = X[:, 0] + 0.1 * draw.normal(size=200)

    def slope_of(loss, y):
        net = Network([3, 1], output="identity", seed=0)
        Trainer(net, loss, SGD(0.05), batch_size=20).fit(X, y, 60)
        return net.W[0][:, 0]

    assert (slope_of(losses.Huber(1e6), y) == slope_of("quadratic", y)).all()
    y[:10] += 100
    assert np.abs(slope_of("huber", y) - [1, 0, 0]).max() < 0.3 * np.abs(slope_of("quadratic", y) - [1, 0, 0]).max()


@pytest.mark.parametrize("code", [NO_LOSS.code, len(COSTS), 99])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_code_of_no_loss_is_no_other_loss(code, dtype):
    """In compiled code the cost is NaN, which stops a fit as divergence does; the oracle says the loss is unknown."""
    workspace = Network([1, 2], output="softplus", dtype=dtype).workspace(capacity=3)
    workspace.z[0][:], workspace.a[1][:], workspace.targets[:], workspace.costs[:] = 0.0, math.log(2), 1.0, 0.0
    given = workspace.layers, workspace.buffers, workspace.targets, workspace.costs
    equations.output_error_serial(*given, Cost(code), 3, 1)
    assert np.isnan(workspace.costs).all()
    with pytest.raises(ValueError, match=f"unknown loss .*{code}"):
        reference.output_error(*given, Cost(code), 3)
    with pytest.raises(ValueError, match=f"unknown loss .*{code}"):
        reference.slope(Cost(code), workspace.a[1], workspace.targets)


def test_a_loss_with_an_unknown_code_is_refused():
    @dataclasses.dataclass(frozen=True)
    class Hinge(losses.Loss):
        name = "hinge"
        code = 99

    with pytest.raises(ValueError, match=f"unknown loss code 99; valid: {', '.join(map(str, range(len(COSTS))))}$"):
        Trainer(Network([2, 2]), Hinge())


def test_the_table_of_losses():
    """One row a code; every row has its settings, its oracle and a case by hand; what a loss has of its own is named in
    its Cost."""
    kinds = {kind.code: kind for kind in losses.LOSSES.values()} | {CUSTOM: losses.Custom}
    assert sorted(row.code for row in COSTS) == list(range(len(COSTS))) == sorted(kinds)
    assert {row.name for row in COSTS} - {"custom"} == set(losses.LOSSES) == set(reference.LOSSES)
    assert {type(loss) for loss, *_ in BY_HAND} == set(losses.LOSSES.values())
    assert [CODES_OF_LOSSES[name] for name in ("quadratic", "binary_cross_entropy", "cross_entropy", "mean_absolute",
                                               "huber", "poisson", "custom")] == list(range(7))
    assert losses.Huber(0.3).rule() == Cost(losses.Huber.code, threshold=0.3)
    assert losses.CrossEntropy(0.1).rule() == Cost(losses.CrossEntropy.code, label_smoothing=0.1)
    for code in set(kinds) - {CUSTOM, losses.Huber.code}:
        assert kinds[code]().rule() == Cost(code)


# One's own.


def half_square(z, a, t, delta):
    cost = 0.0
    for j in range(len(a)):
        delta[j] = a[j] - t[j]
        cost += 0.5 * delta[j] * delta[j]
    return cost


@pytest.mark.parametrize("function", [half_square, numba.njit(half_square)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ones_own_has_the_bits_of_the_same_built_in(function, dtype):
    draw = np.random.default_rng(0)
    X, y = draw.normal(size=(150, 5)), draw.normal(size=(150, 2))
    thetas = []
    for loss in ("quadratic", losses.Custom(function)):
        for threads in (1, 2):
            net = Network([5, 40, 2], output="identity", dtype=dtype, seed=0)
            history = Trainer(net, loss, SGD(0.05), batch_size=60, threads=threads).fit(X, y, 3, (X, y))
            thetas.append((net.theta.copy(), history.validation_loss))
    assert all((theta == thetas[0][0]).all() and values == thetas[0][1] for theta, values in thetas)


def test_ones_own_is_checked_and_kept():
    X = np.zeros((4, 2))

    def wrong(z, a, t, delta):
        return a + "text"

    def half(z, a, t, delta):
        delta[:] = a - t
        return (a - t) ** 2 / 2

    def alone(z, a, t, delta):
        if t[0] == 7:
            raise ValueError("a target of 7")
        delta[:] = a - t
        return 1.0

    net = Network([2, 1], output="identity")
    with pytest.raises(TypeError, match=r"Numba cannot compile the loss wrong\(z, a, t, delta\): "):
        Trainer(net, losses.Custom(wrong))
    with pytest.raises(TypeError, match=r"the loss half\(z, a, t, delta\) returns an array; .*\.sum\(\)"):
        Trainer(net, losses.Custom(numba.njit(half)))
    with pytest.raises(ValueError, match="loss custom needs sigmoid outputs, the network has identity"):
        Trainer(net, losses.Custom(alone, outputs=("sigmoid",)))
    trainer = Trainer(net, losses.Custom(alone))
    assert trainer.fit(X, np.ones(4), 1).loss == [1.0]
    with pytest.raises(DivergenceError):
        trainer.fit(X, np.full(4, 7.0))
    again = pickle.loads(pickle.dumps(losses.Custom(half_square)))
    assert again == losses.Custom(half_square)
    assert Trainer(net, again).fit(X, np.zeros(4)).loss[0] >= 0
