"""fastbp.derivatives: against central differences, each other, and what PyTorch computes.

`python tests/core/test_derivatives.py`, where PyTorch is installed, writes anew what torch.func comes to:
pytorch_derivatives.json.
"""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import test_activations
import test_equations
from rig import DTYPES, draw_targets

from fastbp import (
    Network,
    cost_and_gradient,
    hvp,
    input_gradients,
    jvp,
    losses,
    per_sample_gradient_norms,
    per_sample_gradients,
    vjp,
)
from fastbp.core import reference
from fastbp.core.activations import ACTIVATIONS
from fastbp.core.costs import COSTS, CUSTOM
from fastbp.core.equations import LEAST_AT_ONCE
from fastbp.derivatives import pull_back
from fastbp.inference import CAPACITY
from fastbp.network import HIDDEN_ACTIVATIONS, check_loss

PAIRS = [(loss, output) for loss, output, _ in test_equations.PAIRS] + [
    ("mean_absolute", "softplus"), ("cosine", "softmax"), ("cosine", "tanh"), ("huber", "selu")]
KINKED = ("relu", "leaky_relu", "elu", "selu")
SHAPES = [(1, 1), (1, 67, 1), (67, 3, 1), (2, 5, 1, 7, 3), (33, 64, 17, 2)]


def problem(sizes, hidden, output, loss, n, dtype="float64", seed=0, **options):
    """A network with random parameters, samples, targets that the loss takes, and a random direction of theta."""
    draw = np.random.default_rng(seed)
    net = Network(sizes, hidden=hidden, output=output, dtype=dtype, **options)
    for W, b in zip(net.W, net.b, strict=True):
        W[:], b[:] = draw.normal(0, 1 / np.sqrt(len(W)), W.shape), draw.normal(0, 0.3, b.shape)
    own = check_loss(loss, output, sizes[-1])
    return net, draw.normal(size=(n, sizes[0])), draw_targets(draw, own.code, n, sizes[-1]), draw.normal(
        size=net.n_parameters)


def away_from_kinks(sizes, hidden, output, loss, n):
    """As `problem`, with no neuron nearer to a kink than a central difference moves it."""
    for seed in range(1000):
        made = net, a, *_ = problem(sizes, hidden, output, loss, n, seed=seed)
        near = False
        for W, b, name in zip(net.W, net.b, net.activations, strict=True):
            z = a @ W + b
            near |= name in KINKED and np.abs(z).min() < 1e-3
            a = reference.ACTIVATIONS[name][0](z)
        if not near:
            return made
    raise AssertionError("every network drawn has a z too near to 0")


def difference(f, at, along, h=1e-5):
    """The central difference of f(at) along a direction."""
    return (f(at + h * along) - f(at - h * along)) / (2 * h)


def by_theta(net, f):
    """f() as a function of the network's parameters, which stay what they are."""
    def at(theta):
        before = net.theta.copy()
        net.theta = theta
        try:
            return f()
        finally:
            net.theta = before

    return at


def close(got, expected, tolerance=1e-7):
    """Within a share of the largest number."""
    return np.abs(got - expected).max() <= tolerance * max(np.abs(expected).max(), 1e-3)


# Second derivatives of the table.

SECONDS = [row for row in ACTIVATIONS if row.f_second]


def second(row, x):
    """f'' of the table at x, as its kernel computes it: of a = f(x) where it is written in that."""
    given = x.copy()
    if row.written_in != "z":
        test_activations.f(row.code, x, given)
    with_end, out = test_activations.with_room(given, np.full_like(given, np.nan))
    test_activations.compiled(row.f_second)(with_end, out, x.size)
    return out[: x.size]


@pytest.mark.parametrize("row", SECONDS, ids=lambda row: row.name)
def test_second_derivatives_of_activations(row):
    """Against central differences of f', and those of float32 against those of float64."""
    def slope(x):
        a, delta = np.empty_like(x), np.ones_like(x)
        test_activations.f(row.code, x, a)
        test_activations.times_f_prime(row.code, x, a, delta)
        return delta

    x = np.concatenate([np.linspace(-30, 30, 4001), np.linspace(-3, 3, 4001)])
    x = x[np.abs(x) > 1e-4]
    np.testing.assert_allclose(second(row, x), difference(slope, x, 1.0), rtol=1e-8, atol=1e-9)
    single = x.astype("float32")
    np.testing.assert_allclose(second(row, single), second(row, single.astype("float64")), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("row", SECONDS, ids=lambda row: row.name)
def test_ends_of_second_derivatives(row, dtype):
    """0 far out; NaN stays; and at 0, where elu's slope has a kink and selu has one itself, they are 0 as well."""
    at = second(row, np.array([-1e30, 1e30, np.nan, 0.0], dtype))
    np.testing.assert_allclose(at[:2], 0, atol=1e-30)
    assert np.isnan(at[2]) and np.isfinite(at[3])
    if row.name in ("elu", "selu", "sigmoid", "tanh"):
        assert at[3] == 0


def test_every_activation_and_loss_has_a_second_derivative():
    """Or none anywhere: those whose slope is constant on either side of 0."""
    without = {row.name for row in ACTIVATIONS if row.f and row.f_second is None}
    assert without == {"identity", "relu", "leaky_relu"}
    assert [row.code for row in COSTS if row.tangent is None] == [CUSTOM]


# Against central differences.


@pytest.mark.parametrize(("loss", "output"), PAIRS)
@pytest.mark.parametrize("hidden", HIDDEN_ACTIVATIONS)
def test_hvp_against_central_differences(hidden, loss, output):
    net, X, y, v = away_from_kinks([4, 6, 5, 3], hidden, output, loss, 7)
    expected = difference(by_theta(net, lambda: cost_and_gradient(net, X, y, loss)[1]), net.theta.copy(), v)
    product = hvp(net, X, y, v, loss)
    assert close(product, expected)
    if product.any():  # the check is not an empty one
        assert not close(1.001 * product, expected, 1e-5)


@pytest.mark.parametrize("sizes", SHAPES)
@pytest.mark.parametrize("n", [1, 2, 29])
def test_all_of_them_at_awkward_shapes(sizes, n):
    net, X, y, v = problem(sizes, "tanh", "sigmoid", "quadratic", n)
    c, theta, draw = np.random.default_rng(1).normal(size=y.shape), net.theta.copy(), np.random.default_rng(2)
    gradient = by_theta(net, lambda: cost_and_gradient(net, X, y, "quadratic")[1])
    assert close(hvp(net, X, y, v, "quadratic"), difference(gradient, theta, v))
    tangents = jvp(net, X, v)
    assert tangents.shape == y.shape
    assert close(tangents, difference(by_theta(net, lambda: net.forward(X)), theta, v))
    assert (vjp(net, X, c) @ v) == pytest.approx((c * tangents).sum(), rel=1e-11)
    u = draw.normal(size=X.shape)
    costs = difference(lambda x: ((net.forward(x) - y) ** 2).sum(axis=1) / 2, X, u)
    assert close((input_gradients(net, X, y, "quadratic") * u).sum(axis=1), costs)
    for k in {0, sizes[-1] - 1}:
        outputs = difference(lambda x, k=k: net.forward(x)[:, k], X, u)
        assert close((input_gradients(net, X, output=k) * u).sum(axis=1), outputs)


@pytest.mark.parametrize(("loss", "output"), PAIRS)
def test_gradients_of_each_sample(loss, output):
    net, X, y, _ = problem([4, 6, 5, 3], "gelu", output, loss, 11)
    expected = np.array([cost_and_gradient(net, X[i : i + 1], y[i : i + 1], loss)[1] for i in range(11)])
    gradients = per_sample_gradients(net, X, y, loss)
    np.testing.assert_allclose(gradients, expected, rtol=1e-12, atol=1e-15)
    norms = per_sample_gradient_norms(net, X, y, loss)
    np.testing.assert_allclose(norms, np.linalg.norm(expected, axis=1), rtol=1e-12)
    for i in range(3):
        of_one = difference(lambda x, i=i: np.array([cost_and_gradient(net, x, y[i : i + 1], loss)[0]]),
                            X[i : i + 1], np.eye(4)[i])
        assert close(input_gradients(net, X, y, loss)[i, i], of_one)


# Of second order.


@pytest.mark.parametrize(("loss", "output"), PAIRS)
def test_the_hessian_is_symmetric_and_linear(loss, output):
    net, X, y, v = problem([4, 6, 5, 3], "silu", output, loss, 40)
    u = np.random.default_rng(3).normal(size=v.shape)
    of_u, of_v = hvp(net, X, y, u, loss), hvp(net, X, y, v, loss)
    assert u @ of_v == pytest.approx(v @ of_u, rel=1e-10, abs=1e-12)
    np.testing.assert_allclose(hvp(net, X, y, 2 * u - v, loss), 2 * of_u - of_v, rtol=1e-9, atol=1e-12)


def test_kinks_count_as_flat():
    """relu and the losses at their kinks: w x = 0 exactly; a = t; |a - t| the threshold."""
    net = Network([1, 1], output="relu", dtype="float64", weights="zeros")
    assert (hvp(net, [[1.0]], [[-1.0]], np.ones(2), "quadratic") == 0).all()
    net = Network([1, 1], output="identity", dtype="float64", weights="zeros")
    for loss, t in (("mean_absolute", 0.0), (losses.Huber(0.5), 0.5), (losses.Huber(0.5), -0.5)):
        assert (hvp(net, [[1.0]], [[t]], np.ones(2), loss) == 0).all()
    assert (hvp(net, [[1.0]], [[0.49]], np.ones(2), losses.Huber(0.5)) == 2).all()
    zeros = Network([2, 2], output="identity", dtype="float64", weights="zeros")
    assert (hvp(zeros, [[1.0, 1.0]], [[1.0, 0.0]], np.ones(6), "cosine") == 0).all()


def test_weights_of_samples_in_hvp():
    net, X, y, v = problem([4, 6, 3], "tanh", "softmax", "cross_entropy", 30)
    weights = np.arange(30) % 4
    expected = hvp(net, np.repeat(X, weights, axis=0), np.repeat(y, weights, axis=0), v)
    np.testing.assert_allclose(hvp(net, X, y, v, sample_weight=weights), expected, rtol=1e-11, atol=1e-15)
    np.testing.assert_allclose(hvp(net, X, y, v, sample_weight=1e-250 * weights), expected, rtol=1e-11, atol=1e-15)


# Many samples, threads, types.


@pytest.mark.parametrize("n", [CAPACITY, CAPACITY + 1, LEAST_AT_ONCE + 1, 3 * CAPACITY + 77])
@pytest.mark.parametrize("dtype", DTYPES)
def test_pieces_threads_and_types(n, dtype):
    """Bit by bit the same for every number of threads, and near float64's whatever the number of pieces."""
    net, X, y, v = problem([19, 70, 33, 5], ["relu", "gelu"], "softmax", "cross_entropy", n, dtype)
    exact = Network([19, 70, 33, 5], hidden=["relu", "gelu"], dtype="float64")
    exact.theta = net.theta
    labels, c = y.argmax(axis=1), np.random.default_rng(1).normal(size=y.shape)
    X, v, c = X.astype(dtype), v.astype(dtype), c.astype(dtype)

    def all_of(net, threads):
        return [hvp(net, X, labels, v, threads=threads), jvp(net, X, v, threads=threads),
                vjp(net, X, c, threads=threads), input_gradients(net, X, labels, threads=threads),
                input_gradients(net, X, output=2, threads=threads),
                per_sample_gradients(net, X, labels, threads=threads),
                per_sample_gradient_norms(net, X, labels, threads=threads)]

    one, eps = all_of(net, 1), np.finfo(dtype).eps
    expected = all_of(exact, 1)
    for first, second_, wanted in zip(one, all_of(net, 3), expected, strict=True):
        assert first.dtype == net.dtype and (first == second_).all()
        assert np.abs(first - wanted).max() <= 200 * eps * np.abs(wanted).max()
    np.testing.assert_allclose(expected[5].mean(axis=0), cost_and_gradient(exact, X, labels)[1], rtol=0, atol=1e-14)
    halves = [hvp(exact, X[part], labels[part], v) for part in (slice(0, n // 2), slice(n // 2, n))]
    together = (halves[0] * (n // 2) + halves[1] * (n - n // 2)) / n
    np.testing.assert_allclose(expected[0], together, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("loss", "output"), PAIRS)
def test_hvp_of_few_samples_is_that_of_many(loss, output, dtype):
    """In one call where arrays are just as the kernels read them; a cost that is not finite spoils only its own."""
    net, X, t, v = problem((5, 9, 3), "tanh", output, loss, 12, dtype)
    X, t = X.astype(dtype), t.astype(dtype)
    for n in (12, 1, 7):
        few, many = hvp(net, X[:n], t[:n], v, loss), hvp(net, X[:n], t[:n], v, loss, threads=2)
        assert few.tobytes() == many.tobytes()
    with np.errstate(over="ignore"):
        large = np.where(np.arange(12)[:, None] == 5, np.asarray(np.finfo(dtype).max, dtype), X)
    hvp(net, large, t, v, loss)
    assert hvp(net, X[:7], t[:7], v, loss).tobytes() == few.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 12, 500])
def test_both_gradients_of_outputs_at_once(n, dtype):
    """To inputs and to theta, or only one: those of vjp, few samples or many, and of arrays of every kind."""
    net, X, c, _ = problem((5, 9, 3), "tanh", "softmax", "quadratic", n, dtype, input_scale=0.5)
    X, c = X.astype(dtype), c.astype(dtype)
    to_x = sum(c[:, [k]] * input_gradients(net, X, output=k) for k in range(3))
    for x, slopes in ((X, c), (np.asfortranarray(X), c), (X, np.asfortranarray(c)), (X.tolist(), c.tolist())):
        both = pull_back(net, x, slopes, True, True)
        np.testing.assert_allclose(both[0], to_x, rtol=0, atol=20 * np.finfo(dtype).eps * np.abs(to_x).max())
        assert both[1].tobytes() == vjp(net, X, c).tobytes()
        only_x, only_theta = pull_back(net, x, slopes, True, False), pull_back(net, x, slopes, False, True)
        assert only_x[1] is None and only_theta[0] is None
        assert only_x[0].tobytes() == both[0].tobytes() and only_theta[1].tobytes() == both[1].tobytes()
    kept = both[1].copy()
    pull_back(net, X, 2 * c, True, True)
    assert (both[1] == kept).all()  # results are new arrays
    with pytest.raises(ValueError, match=r"the gradient of the outputs\[0, 1\] is nan"):
        pull_back(net, X, np.where(np.arange(3) == 1, np.nan, c), True, True)


def test_memory_does_not_grow_with_the_samples():
    net = Network([10, 50, 3], dtype="float64")
    v, peaks = np.ones(net.n_parameters), []
    for n in (1000, 50_000):
        X, y = np.ones((n, 10)), np.arange(n) % 3
        hvp(net, X, y, v, threads=1)
        tracemalloc.start()
        hvp(net, X, y, v, threads=1)
        per_sample_gradient_norms(net, X, y, threads=1)
        peaks.append(tracemalloc.get_traced_memory()[1] - 8 * n)  # the norms themselves
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 3 * 49_000 * 8  # what checks of X and labels take


# What is given.


def test_inputs_of_every_kind():
    """Their scale belongs to the derivative; strides, types and the order of columns do not matter."""
    draw = np.random.default_rng(0)
    pixels, y = draw.integers(0, 256, (9, 4)).astype(np.uint8), draw.integers(0, 3, 9)
    net = Network([4, 8, 3], hidden="tanh", dtype="float64", input_scale=1 / 255)
    plain = Network([4, 8, 3], hidden="tanh", dtype="float64")
    expected = input_gradients(plain, pixels / 255, y) / 255
    for X in (pixels, pixels.astype("float32"), np.asfortranarray(pixels), np.repeat(pixels, 2, 0)[::2],
              pixels.tolist()):
        np.testing.assert_allclose(input_gradients(net, X, y), expected, rtol=1e-6)
    net.feature_names = ["a", "b", "c", "d"]
    frame = pd.DataFrame(pixels, columns=["a", "b", "c", "d"])[["d", "b", "a", "c"]]
    np.testing.assert_allclose(input_gradients(net, frame, y), expected, rtol=1e-12)
    net.classes = ["no", "perhaps", "yes"]
    np.testing.assert_allclose(input_gradients(net, pixels, net.classes[y]), expected, rtol=1e-12)
    v = np.ones(net.n_parameters)
    by_rows = hvp(net, pixels, np.eye(3)[y], v)
    np.testing.assert_array_equal(hvp(net, pixels, net.classes[y], v.astype(int).tolist()), by_rows)


def test_out_of_per_sample_gradients():
    net, X, y, _ = problem([3, 4, 2], "tanh", "softmax", None, 5)
    out = np.full((5, net.n_parameters), np.nan)
    assert per_sample_gradients(net, X, y, out=out) is out and np.isfinite(out).all()
    for wrong in (out[:4], out.astype("float32"), out.T.copy().T, out.tolist()):
        with pytest.raises(ValueError, match=r"out must be a contiguous, writeable array of shape \(5, 26\) of float"):
            per_sample_gradients(net, X, y, out=wrong)


def half_square(z, a, t, delta):
    delta[:] = a - t
    return 0.5 * (delta * delta).sum()


def test_a_loss_of_ones_own():
    net, X, y, v = problem([3, 4, 2], "tanh", "identity", "quadratic", 5)
    own = losses.Custom(half_square, "identity")
    for of in (input_gradients, per_sample_gradients, per_sample_gradient_norms):
        np.testing.assert_allclose(of(net, X, y, own), of(net, X, y, "quadratic"), rtol=1e-13, atol=1e-15)
    with pytest.raises(ValueError, match="hvp needs the second derivative of the cost, and a custom loss gives only"):
        hvp(net, X, y, v, own)


def test_costs_that_are_not_finite():
    """NaN, where the cost of a sample is not finite: its row, or all of a sum."""
    net, X, y, v = problem([3, 4, 2], "tanh", "identity", "quadratic", 300)
    X[7] = 0
    net.W[-1][:] = 1e200
    net.b[0][:] = net.b[-1][:] = 0
    y[:] = 0
    good = np.arange(300) == 7
    assert not np.isfinite(cost_and_gradient(net, X, y, "quadratic")[0])
    for of in (input_gradients, per_sample_gradients, per_sample_gradient_norms):
        rows = of(net, X, y, "quadratic").reshape(300, -1)
        assert np.isfinite(rows[7]).all() and np.isnan(rows[~good]).all()
    assert np.isnan(hvp(net, X, y, v, "quadratic")).all()
    v[:16] = 0  # or else what changes is beyond float64
    assert np.isfinite(hvp(net, X, y, v, "quadratic", sample_weight=good)).all()


NET = Network([3, 4, 2], dtype="float64")
X, Y, V = np.ones((5, 3)), np.zeros(5, int), np.ones(NET.n_parameters)
OF_DATA = {
    "input_gradients": lambda net, x, y, loss=None: input_gradients(net, x, y, loss),
    "per_sample_gradients": per_sample_gradients,
    "per_sample_gradient_norms": per_sample_gradient_norms,
    "hvp": lambda net, x, y, loss=None: hvp(net, x, y, V, loss),
}
REFUSED = [(None, X, Y), (NET, X[:, :2], Y), (NET, X[0], Y), (NET, X[:0], Y[:0]), (NET, X * np.nan, Y), (NET, X, Y[:4]),
           (NET, X, Y + 2), (NET, X, Y, "hinge"), (NET, X, Y, "poisson"), (NET, X, np.ones((5, 2)))]


@pytest.mark.parametrize("name", OF_DATA)
@pytest.mark.parametrize("given", REFUSED, ids=range(len(REFUSED)))
def test_bad_data_is_refused_in_the_words_of_cost_and_gradient(given, name):
    with pytest.raises((TypeError, ValueError)) as expected:
        cost_and_gradient(*given)
    with pytest.raises(expected.type) as raised:
        OF_DATA[name](*given)
    assert str(raised.value) == str(expected.value)


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: input_gradients(NET, X), ValueError, "give either y, .* or output=k, "),
    (lambda: input_gradients(NET, X, Y, output=1), ValueError, "give either y"),
    (lambda: input_gradients(NET, X, loss="quadratic", output=1), ValueError, "leave out loss"),
    (lambda: input_gradients(NET, X, output=2), ValueError, "output must be at most 1, got 2"),
    (lambda: input_gradients(NET, X, output=True), TypeError, "output must be a whole number"),
    (lambda: jvp(NET, X, V[:-1]), ValueError, r"tangent must have shape \(26,\), got \(25,\)"),
    (lambda: jvp(NET, X, V * np.inf), ValueError, r"tangent\[0\] is inf; every number must be finite"),
    (lambda: jvp(NET, X, ["a"] * 26), TypeError, "tangent must hold numbers"),
    (lambda: jvp(NET, X[:, :2], V), ValueError, "X has 2 features, the network takes 3"),
    (lambda: vjp(NET, X, np.ones((5, 3))), ValueError, r"cotangent must have shape \(5, 2\), got \(5, 3\)"),
    (lambda: hvp(NET, X, Y, V[:, np.newaxis]), ValueError, r"vector must have shape \(26,\), got \(26, 1\)"),
    (lambda: hvp(NET, X, Y, V, sample_weight=np.zeros(5)), ValueError, "all samples have weight 0"),
    (lambda: hvp(NET, X, Y, V, threads=0), ValueError, "threads must be at least 1"),
    (lambda: hvp(Network([3, 2]), X, Y, np.full(8, 1e300)), ValueError, r"vector\[0\] is 1e\+300; .* float32"),
])
def test_what_else_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


# As PyTorch.

STORED = Path(__file__).with_name("pytorch_derivatives.json")
AS_PYTORCH = {f"{hidden}, {output}, {loss}": (hidden, output, loss) for hidden, output, loss in [
    ("identity", "identity", "quadratic"), ("sigmoid", "sigmoid", "binary_cross_entropy"),
    ("tanh", "softmax", "cross_entropy"), ("relu", "identity", "mean_absolute"), ("leaky_relu", "identity", "huber"),
    ("elu", "softplus", "poisson"), ("selu", "identity", "cosine"), ("gelu", "softmax", "quadratic"),
    ("gelu_tanh", "sigmoid", "quadratic"), ("silu", "softmax", "cosine"), ("softplus", "gelu", "huber"),
    ("mish", "tanh", "cosine")]}
WHAT = {"hvp": lambda net, X, y, v, c, loss: hvp(net, X, y, v, loss),
        "jvp": lambda net, X, y, v, c, loss: jvp(net, X, v),
        "vjp": lambda net, X, y, v, c, loss: vjp(net, X, c),
        "input_gradients": lambda net, X, y, v, c, loss: input_gradients(net, X, y, loss),
        "of an output": lambda net, X, y, v, c, loss: input_gradients(net, X, output=1),
        "norms": lambda net, X, y, v, c, loss: per_sample_gradient_norms(net, X, y, loss),
        "mean of samples": lambda net, X, y, v, c, loss: per_sample_gradients(net, X, y, loss).mean(axis=0)}


def compared(name):
    hidden, output, loss = AS_PYTORCH[name]
    net, X, y, v = problem([3, 4, 2], hidden, output, loss, 4)
    return net, X, y, v, np.random.default_rng(1).normal(size=y.shape), loss


def by_pytorch(name):
    """All of WHAT by torch.func, in float64."""
    torch = pytest.importorskip("torch")
    F, func = torch.nn.functional, torch.func  # noqa: N806
    net, *arrays, loss = compared(name)
    X, y, v, c = map(torch.from_numpy, arrays)
    activations = {"identity": lambda z: z, "tanh": torch.tanh, "gelu_tanh": lambda z: F.gelu(z, approximate="tanh"),
                   "softmax": lambda z: F.softmax(z, dim=-1)}
    costs = {"quadratic": lambda a, t: ((a - t) ** 2).sum() / 2, "mean_absolute": lambda a, t: (a - t).abs().sum(),
             "huber": lambda a, t: F.huber_loss(a, t, reduction="sum"),
             "binary_cross_entropy": lambda a, t: F.binary_cross_entropy(a, t, reduction="sum"),
             "cross_entropy": lambda a, t: -(t * a.log()).sum(),
             "poisson": lambda a, t: F.poisson_nll_loss(a, t, log_input=False, eps=0, reduction="sum"),
             "cosine": lambda a, t: 1 - F.cosine_similarity(a, t, dim=0)}

    def outputs(theta, a):
        at = 0
        for W, name in zip(net.W, net.activations, strict=True):
            n_in, n_out = W.shape
            z = a @ theta[at : at + n_in * n_out].reshape(n_in, n_out) + theta[at + n_in * n_out :][:n_out]
            a, at = (activations.get(name) or getattr(F, name))(z), at + (n_in + 1) * n_out
        return a

    def cost(theta, x, t):
        return costs[loss](outputs(theta, x), t)

    def mean_cost(theta):
        return func.vmap(cost, (None, 0, 0))(theta, X, y).mean()

    theta = torch.from_numpy(net.theta.copy())
    of_samples = func.vmap(func.grad(cost), (None, 0, 0))(theta, X, y)
    return {"hvp": func.grad(lambda theta: func.grad(mean_cost)(theta) @ v)(theta),  # huber_loss has no forward mode
            "jvp": func.jvp(lambda theta: outputs(theta, X), (theta,), (v,))[1],
            "vjp": func.vjp(lambda theta: outputs(theta, X), theta)[1](c)[0],
            "input_gradients": func.vmap(func.grad(cost, 1), (None, 0, 0))(theta, X, y),
            "of an output": func.vmap(func.grad(lambda x: outputs(theta, x)[1]))(X),
            "norms": of_samples.norm(dim=1), "mean of samples": of_samples.mean(dim=0)}


@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("name", AS_PYTORCH)
def test_as_pytorch_computed_them(name, what):
    expected = json.loads(STORED.read_text())["derivatives"][name][what]
    np.testing.assert_allclose(WHAT[what](*compared(name)), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # torch.func.jvp calls it
@pytest.mark.parametrize("name", AS_PYTORCH)
def test_what_pytorch_computes_here(name):
    """Where it is installed: the stored numbers are its own."""
    stored = json.loads(STORED.read_text())["derivatives"][name]
    for what, values in by_pytorch(name).items():
        np.testing.assert_allclose(stored[what], values.numpy(), rtol=1e-10, atol=1e-12)


def test_every_activation_and_loss_is_compared_with_pytorch():
    hidden, _, of = zip(*AS_PYTORCH.values(), strict=True)
    assert set(hidden) == set(HIDDEN_ACTIVATIONS) and set(of) == set(losses.LOSSES)


def test_a_single_output_as_a_vector():
    """The cotangent (n,) is that of the one column (n, 1), as it is of targets."""
    net, c = Network([3, 4, 1], output="identity", seed=1), np.arange(5.0)
    assert vjp(net, X, c).tobytes() == vjp(net, X, c[:, np.newaxis]).tobytes() == vjp(net, X, c.tolist()).tobytes()
    for wrong in (c[:4], c[np.newaxis]):
        with pytest.raises(ValueError, match=r"cotangent must have shape \(5,( 1)?\), got"):
            vjp(net, X, wrong)
    with pytest.raises(ValueError, match=r"cotangent must have shape \(5, 2\), got \(5,\)"):
        vjp(NET, X, c)


def test_weights_that_are_subnormal():
    """Only their proportions count, of whatever size they are."""
    weights = np.arange(5.0)
    expected = hvp(NET, X, Y, V, sample_weight=weights)
    for least in (5e-324, 2.0**-860, 2.0**-790):
        np.testing.assert_allclose(hvp(NET, X, Y, V, sample_weight=weights * least), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("of", ["X", "y"])
def test_gradients_that_overlap_what_they_are_made_of(of):
    """They are written when all of it has been read."""
    net, n = Network([3, 4, 2], output="identity", seed=3), 600
    draw = np.random.default_rng(0)
    given = {"X": draw.normal(size=(n, 3)).astype("f4"), "y": draw.normal(size=(n, 2)).astype("f4")}
    expected = per_sample_gradients(net, given["X"], given["y"])
    memory = np.zeros(expected.size + 64, np.float32)
    place = memory[16 : 16 + given[of].size].reshape(given[of].shape)
    place[...] = given[of]
    given[of] = place
    out = memory[: expected.size].reshape(expected.shape)
    assert per_sample_gradients(net, given["X"], given["y"], out=out) is out and out.tobytes() == expected.tobytes()


if __name__ == "__main__":
    import torch

    derivatives = {name: {what: values.tolist() for what, values in by_pytorch(name).items()} for name in AS_PYTORCH}
    STORED.write_text(json.dumps({"torch": torch.__version__, "derivatives": derivatives}, indent=1) + "\n")
