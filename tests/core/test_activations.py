"""fastbp.core.activations and losses: their error in units of the last place, and their behaviour at the far ends."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numba
import numpy as np
import pytest
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from rig import DTYPES

from fastbp.core import activations, compiler, reference
from fastbp.core.activations import (
    ACTIVATIONS,
    CODES,
    SIGMOID,
    SOFTMAX,
    activate,
    exp,
    multiply_by_prime,
    sigmoid,
    tanh,
)
from fastbp.core.costs import BINARY_CROSS_ENTROPY, CROSS_ENTROPY, QUADRATIC, Cost, Outputs, costs_and_errors
from fastbp.core.simd.cpu import LINE
from fastbp.core.simd.elementwise import Numbers, each
from fastbp.core.simd.memory import at
from fastbp.core.simd.vectors import I32, Vectors
from fastbp.initialization import INITIALIZERS

LOWEST = {"float32": -87.0, "float64": -708.0}  # exp is exact to 1.5 ulp from here ...
HIGHEST = {"float32": 88.0, "float64": 709.0}  # ... to here


def compiled(f):
    apply = each(lambda x, out: f(x))

    @numba.njit(**compiler.FLAGS)
    def run(x, out, n):
        apply(at(x, 0), at(out, 0), 1, n, len(x), ())

    return run


@compiler.serial
def activate_row(code, z, a, n):
    activate(code, at(z, 0), at(a, 0), 1, n, len(z))


@compiler.serial
def multiply_row(code, z, a, delta, n):
    multiply_by_prime(code, at(z, 0), at(a, 0), at(delta, 0), 1, n, len(a))


@compiler.serial
def cost_of_row(loss, activation, z, a, t, delta, costs):
    outputs = Outputs(at(z, 0), at(a, 0), at(delta, 0), 1, len(t), len(z))
    costs_and_errors(loss, activation, outputs, at(t, 0), at(costs, 0))


def with_room(*rows):
    """Copies of the rows in the whole cache lines that kernels want; what lies beyond is NaN."""
    copies = []
    for row in rows:
        copies.append(np.full(-(-row.nbytes // LINE) * LINE // row.itemsize, np.nan, row.dtype))
        copies[-1][: row.size] = row
    return copies


def f(code, z, a):
    z_row, a_row = with_room(z, a)
    activate_row(code, z_row, a_row, z.size)
    a[:] = a_row[: z.size]


def times_f_prime(code, z, a, delta):
    z_row, a_row, delta_row = with_room(z, a, delta)
    multiply_row(code, z_row, a_row, delta_row, a.size)
    delta[:] = delta_row[: a.size]


def cost_of(loss, activation, z, a, t, delta):
    rows, costs = with_room(z, a, delta), np.full(1, np.nan)
    cost_of_row(Cost(loss), activation, rows[0], rows[1], t, rows[2], costs)
    delta[:] = rows[2][: z.size]
    return costs[0]


FUNCTIONS = {
    # compiled, the same in NumPy, ulp promised by the docstring
    "exp": (compiled(exp), np.exp, 1.5),
    "sigmoid": (compiled(sigmoid), lambda x: 1 / (1 + np.exp(-x)), 3.0),
    "tanh": (compiled(tanh), np.tanh, 4.0),
}


def evaluate(name, x):
    with_end, out = with_room(x, np.full_like(x, np.nan))
    FUNCTIONS[name][0](with_end, out, x.size)
    return out[: x.size]


def ulps(got, exact):
    """|got - exact| in units of the last place that got's type has at `exact`, among denormals too."""
    info = np.finfo(got.dtype)
    _, exponent = np.frexp(exact)
    unit = np.ldexp(np.ones_like(exact), np.maximum(exponent, info.minexp + 1) - 1 - info.nmant)
    return np.abs(got.astype(exact.dtype) - exact) / unit


def wider(dtype):
    """A type of more digits, and what its own rounding adds to an error in ulp of `dtype`."""
    if dtype == "float32":
        return np.float64, 0.0
    return np.longdouble, 0.0 if np.finfo(np.longdouble).nmant > np.finfo(np.float64).nmant else 1.0


def grid(dtype, lowest, highest):
    """Arguments from lowest to highest: evenly spread over several ranges, and over all exponents with both signs."""
    draw = np.random.default_rng(0)
    info = np.finfo(dtype)
    smallest = info.minexp - info.nmant  # the exponent of the smallest denormal
    spread = [np.linspace(max(-size, lowest), min(size, highest), 200_001) for size in (0.5, 2, 10, 40, 1000)]
    powers = np.exp2(np.arange(smallest, 11.0))
    dense = np.exp2(draw.uniform(smallest, np.log2(highest), 200_000))
    x = np.concatenate([*spread, powers, dense, -powers, -dense, [0.0, -0.0]]).astype(dtype)
    return x[(x >= lowest) & (x <= highest)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_error_in_ulp(name, dtype):
    """Over all float32 (float64: 20 million samples) the largest errors are exp 1.07 (1.02), sigmoid 2.40 (2.37) and
    tanh 2.50 (2.55) ulp; the grid comes close to them."""
    lowest = -LOWEST[dtype] if name == "tanh" else LOWEST[dtype]
    x = grid(dtype, -abs(lowest), HIGHEST[dtype])
    _, in_numpy, promised = FUNCTIONS[name]
    wide, own = wider(dtype)
    errors = ulps(evaluate(name, x), in_numpy(x.astype(wide)))
    assert errors.max() <= promised + own, x[errors.argmax()]
    assert errors.max() >= promised / 2  # the promise is not an empty one, and errors are measured


def normal_integral(x):
    """Of the normal distribution, to the digits of x's type: erfc at the nearest float64, and its slope from there."""
    y = -x / np.sqrt(x.dtype.type(2))
    near = y.astype(np.float64)
    value = np.vectorize(math.erfc, otypes=[float])(near).astype(x.dtype)
    return (value - (y - near) * 2 / np.sqrt(pi(x)) * np.exp(-y * y)) / 2


def pi(x):
    return x.dtype.type("3.14159265358979323846264338327950288")


def logistic(x):
    return 1 / (1 + np.exp(-x))


def cubic(x):
    """The argument of gelu's tanh form, doubled, and its slope."""
    scale, share = 2 * np.sqrt(2 / pi(x)), x.dtype.type("0.044715")
    return scale * (x + share * x**3), scale * (1 + 3 * share * x * x)


def scaled(x, right, left):
    """selu's constants, with the digits of the paper's appendix."""
    scale = x.dtype.type("1.0507009873554804934193349852946")
    alpha = x.dtype.type("1.6732632423543772848170429916717")
    return scale * np.where(x > 0, right, alpha * left(np.minimum(x, 0)))


class Curve(NamedTuple):
    """What an activation is compared with."""

    f: Callable  # in NumPy, of a type with more digits
    lowest: tuple[float, float]  # argument of float32 and of float64 from which on the promise holds
    promised: float  # ulp, by the docstring
    ends: tuple[float, float]  # values at -1e30 and 1e30, where what they are made of overflows
    slopes_at_ends: tuple[float, float]
    # Of those that pass through 0, where no number of their own digits can be right: promised is 2 ulp of 1.
    f_prime: Callable | None = None


CURVES = {
    "leaky_relu": Curve(lambda x: np.where(x < 0, x / 100, x), (-1e4, -1e4), 1.5, (-1e28, 1e30), (0.01, 1)),
    "elu": Curve(lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), (-1e4, -1e4), 2.0, (-1, 1e30), (0, 1)),
    "selu": Curve(lambda x: scaled(x, x, np.expm1), (-1e4, -1e4), 3.0, (-1.7580993408473766, 1.0507009873554805e30),
                  (0, 1.0507009873554805)),
    "softplus": Curve(lambda x: np.maximum(x, 0) + np.log1p(np.exp(-abs(x))), (-87, -708), 4.5, (0, 1e30), (0, 1)),
    "silu": Curve(lambda x: x * logistic(x), (-87, -708), 4.0, (0, 1e30), (0, 1),
                  lambda x: logistic(x) + x * logistic(x) * logistic(-x)),
    "gelu": Curve(lambda x: x * normal_integral(x), (-13, -37.5), 6.0, (0, 1e30), (0, 1),
                  lambda x: normal_integral(x) + x * np.exp(-x * x / 2) / np.sqrt(2 * pi(x))),
    "gelu_tanh": Curve(lambda x: x * logistic(cubic(x)[0]), (-9.5, -20.5), 4.0, (0, 1e30), (0, 1),
                       lambda x: (logistic(cubic(x)[0])
                                  + x * logistic(cubic(x)[0]) * logistic(-cubic(x)[0]) * cubic(x)[1])),
    "mish": Curve(lambda x: x * np.tanh(np.logaddexp(0, x)), (-87, -708), 5.0, (0, 1e30), (0, 1),
                  lambda x: (np.tanh(np.logaddexp(0, x))
                             + x * logistic(x) * (1 - np.tanh(np.logaddexp(0, x)) ** 2))),
}
PARTS = {
    # what they are made of: in NumPy, the lowest arguments, ulp promised
    "expm1": (np.expm1, (-1e4, -1e4), 2.0),
    "selu_prime": (lambda x: scaled(x, 1, np.exp), (-87, -708), 3.0),
}
SLOPES = {f"{name}_prime": curve.f_prime for name, curve in CURVES.items() if curve.f_prime}


def compiled_at(name, x):
    with_end, out = with_room(x, np.full_like(x, np.nan))
    compiled(getattr(activations, name))(with_end, out, x.size)
    return out[: x.size]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*CURVES, *PARTS])
def test_curves_in_ulp(name, dtype):
    in_numpy, lowest, promised = (CURVES | PARTS)[name][:3]
    highest = HIGHEST[dtype] if name == "expm1" else 1e3
    x = grid(dtype, lowest[dtype == "float64"], highest)
    x = x[(abs(x) > 100 * np.finfo(dtype).tiny) | (x == 0)]  # their results are no denormals
    wide, own = wider(dtype)
    with np.errstate(over="ignore"):
        errors = ulps(compiled_at(name, x), in_numpy(x.astype(wide)))
    # Where the wider type has no more digits, NumPy's own error counts.
    assert errors.max() <= promised + 8 * own, x[errors.argmax()]
    assert errors.max() >= promised / 3


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SLOPES)
def test_slopes_in_ulp_of_one(name, dtype):
    x = grid(dtype, -1e3, 1e3)
    wide, own = wider(dtype)
    with np.errstate(over="ignore"):
        errors = np.abs(compiled_at(name, x) - SLOPES[name](x.astype(wide))) / np.finfo(dtype).eps
    assert errors.max() <= 2 + 4 * own, x[errors.argmax()]
    assert errors.max() >= 0.5


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CURVES)
def test_ends_of_curves(name, dtype):
    """And what is 0 at 0 is so to the bit; NaN in z or delta stays."""
    z = np.array([-1e30, 1e30, 0.0, np.nan, 1.0], dtype)
    a, delta = np.empty_like(z), np.array([1, 1, 1, 1, np.nan], dtype)
    f(CODES[name], z, a)
    np.testing.assert_allclose(a[:2], CURVES[name].ends, rtol=1e-6, atol=1e-30)
    assert a[2] == (pytest.approx(math.log(2)) if name == "softplus" else 0)
    times_f_prime(CODES[name], z, a, delta)
    np.testing.assert_allclose(delta[:2], CURVES[name].slopes_at_ends, rtol=1e-6, atol=1e-30)
    assert np.isfinite(delta[2]) and np.isnan(a[3]) and np.isnan(delta[4])
    assert np.isnan(delta[3]) or name == "leaky_relu"  # whose slope is 0.01 or 1, whatever z is


def test_the_table_of_activations():
    """Every row has a code of its own, initial weights, an entry in the oracle, and one among the errors measured."""
    assert sorted(CODES.values()) == list(range(len(ACTIVATIONS)))
    assert set(reference.ACTIVATIONS) == set(CODES)
    assert {*CURVES, "identity", "relu", "sigmoid", "tanh", "softmax"} == set(CODES)
    assert {row.name for row in ACTIVATIONS if row.f is None} == {"softmax"}
    for row in ACTIVATIONS:
        assert row.weights in INITIALIZERS and row.written_in in (activations.Z, activations.A, activations.SIGN)


def test_codes_stay_what_they_were():
    first = ["identity", "sigmoid", "tanh", "relu", "softmax", "leaky_relu", "elu", "selu", "gelu", "gelu_tanh", "silu",
             "softplus"]
    assert [CODES[name] for name in first] == list(range(len(first)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("code", [-1, len(ACTIVATIONS), 99, 2**40])
def test_a_code_of_no_activation_gives_nan(code, dtype):
    z, a, delta = np.linspace(-2, 2, 37).astype(dtype), np.zeros(37, dtype), np.ones(37, dtype)
    f(code, z, a)
    assert np.isnan(a).all()
    times_f_prime(code, z, np.ones_like(z), delta)
    assert np.isnan(delta).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("row", [row for row in ACTIVATIONS if row.f], ids=lambda row: row.name)
def test_what_a_slope_is_written_in(row, dtype):
    """As the table says: with NaN in what it does not take, or only the sign of a, it is the same."""
    z = np.random.default_rng(0).normal(0, 2, 50).astype(dtype)
    a, nothing, slopes = np.empty_like(z), np.full_like(z, np.nan), np.ones((2, 50), dtype)
    f(row.code, z, a)
    times_f_prime(row.code, z, a, slopes[0])
    given = {activations.Z: (z, nothing), activations.A: (nothing, a), activations.SIGN: (nothing, np.sign(a))}
    times_f_prime(row.code, *given[row.written_in], slopes[1])
    assert (slopes[0] == slopes[1]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [name for name in CODES if name != "softmax"])
def test_every_activation_and_slope_against_the_reference(name, dtype):
    z = np.random.default_rng(0).normal(0, 2, 203).astype(dtype)
    a, delta = np.empty_like(z), np.ones_like(z)
    f(CODES[name], z, a)
    times_f_prime(CODES[name], z, a, delta)
    eps = float(np.finfo(dtype).eps)
    exact = z.astype(np.float64)
    np.testing.assert_allclose(a, reference.F[CODES[name]](exact), rtol=20 * eps, atol=20 * eps)
    np.testing.assert_allclose(delta, reference.F_PRIME[CODES[name]](exact), rtol=20 * eps, atol=20 * eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_measuring_ulp(dtype):
    """One step to the next number is one ulp, at the normal numbers and the denormal ones."""
    tiny = np.finfo(dtype).tiny
    for value in (1.0, 1.5, 3.0, 1e-5, tiny, tiny / 4):
        number = np.array([value], dtype)
        exact = number.astype(wider(dtype)[0])
        assert ulps(np.nextafter(number, np.inf, dtype=dtype), exact) == [1]
        assert ulps(number, exact) == [0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 33])  # alone, and in vectors of which the last is not full
def test_far_ends(dtype, n):
    inf, lowest = np.inf, LOWEST[dtype]
    at_lowest = evaluate("exp", np.array([lowest], dtype))[0]

    def at(name, x):
        out = evaluate(name, np.full(n, x, dtype))
        assert (out == out[0]).all() or np.isnan(out).all()
        return out[0]

    for x in (lowest - 0.5, lowest - 100, -1e30, -inf):
        assert at("exp", x) == at_lowest  # not 0, and no denormal
        assert at("sigmoid", x) == at_lowest
        assert at("sigmoid", -x) == 1
        assert at("tanh", x) == -1
        assert at("tanh", -x) == 1
    assert np.finfo(dtype).tiny < at_lowest < 2 * np.finfo(dtype).tiny
    assert at("exp", 0) == 1
    assert at("sigmoid", 0) == 0.5
    assert at("tanh", 0) == 0
    assert not np.signbit(at("tanh", 0))
    for name in FUNCTIONS:
        assert np.isnan(at(name, np.nan))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*FUNCTIONS, *CURVES, *SLOPES])
def test_nan_survives_the_optimizer(name, dtype):
    """Where the compiler sees that the argument is NaN, it must not make a number of it either."""
    @intrinsic
    def of_nan(typing, like):
        def emit(context, builder, signature, arguments):
            x = Vectors(builder, types.CPointer(like))
            value = getattr(activations, name)(Numbers(x, ir.Constant(x.type, [math.nan] * x.lanes))).value
            return builder.extract_element(value, I32(0))

        return like(like), emit

    @numba.njit(**compiler.FLAGS)
    def run(like):
        return of_nan(like)

    assert np.isnan(run(np.dtype(dtype).type(0)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CODES)
def test_nan_passes_through_every_activation(name, dtype):
    z = np.array([0.5, np.nan, -1.0, 2.0], dtype)
    a = np.zeros_like(z)
    f(CODES[name], z, a)
    assert np.isnan(a[1])
    if name == "softmax":
        assert np.isnan(a).all()
    else:
        assert np.isfinite(np.delete(a, 1)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_tanh_is_odd_sigmoid_symmetric_and_both_grow(dtype):
    x = np.linspace(-30, 30, 10_001).astype(dtype)
    assert (evaluate("tanh", -x) == -evaluate("tanh", x)).all()
    eps = float(np.finfo(dtype).eps)
    np.testing.assert_allclose(evaluate("sigmoid", -x), 1 - evaluate("sigmoid", x).astype(float), rtol=0, atol=2 * eps)
    for name in ("sigmoid", "tanh"):
        assert (np.diff(evaluate(name, x[::10])) >= 0).all()


@pytest.mark.parametrize("offset", [0.0, 1e4, -1e4])
@pytest.mark.parametrize("n", [1, 2, 10, 100])
@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_rows(dtype, n, offset):
    z = (np.random.default_rng(n).normal(0, 3, n) + offset).astype(dtype)
    a = np.empty_like(z)
    f(SOFTMAX, z, a)
    wide, _ = wider(dtype)
    powers = np.exp(z.astype(wide) - z.max())
    eps = float(np.finfo(dtype).eps)
    assert abs(a.astype(wide).sum() - 1) <= n * eps
    np.testing.assert_allclose(a, powers / powers.sum(), rtol=(n + 4) * eps, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_far_apart(dtype):
    z = np.array([1e4, -1e4, 1e4, 0.0], dtype)
    a = np.empty_like(z)
    f(SOFTMAX, z, a)
    np.testing.assert_allclose(a, [0.5, 0, 0.5, 0], rtol=0, atol=1e-37)


def cost_and_error(loss, activation, z, t, dtype):
    z, t = np.array(z, dtype), np.array(t, dtype)
    a, delta = np.empty_like(z), np.empty_like(z)
    f(activation, z, a)
    return cost_of(loss, activation, z, a, t, delta), delta


LOG_2 = 0.6931471805599453
CROSS_ENTROPIES = [
    # z, t, -sum t log softmax(z)
    ([0, 0], [1, 0], LOG_2),
    ([1e4, 1e4], [1, 0], LOG_2),
    ([-1e4, -1e4, -1e4, -1e4], [0, 0, 1, 0], 2 * LOG_2),
    ([1e4, 9999], [1, 0], 0.31326168751822286),  # log(1 + e^-1)
    ([1e4, 9999], [0, 1], 1.3132616875182228),  # 1 + log(1 + e^-1)
    ([1e4, -1e4], [0, 1], 2e4),
    ([1e4, -1e4], [1, 0], 0),
    ([1e4, -1e4], [0.5, 0.5], 1e4),
    ([-1e4], [1], 0),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("z", "t", "cost"), CROSS_ENTROPIES)
def test_cross_entropy_at_the_far_ends(z, t, cost, dtype):
    got, delta = cost_and_error(CROSS_ENTROPY, SOFTMAX, z, t, dtype)
    eps = float(np.finfo(dtype).eps)
    assert got == pytest.approx(cost, rel=4 * eps, abs=4 * eps)
    assert np.isfinite(delta).all()
    assert abs(delta.sum()) <= 2 * eps


BINARY_CROSS_ENTROPIES = [
    # z, t, -t log sigmoid(z) - (1 - t) log(1 - sigmoid(z)), delta
    (0, 1, LOG_2, -0.5),
    (0, 0, LOG_2, 0.5),
    (1e4, 1, 0, 0),
    (1e4, 0, 1e4, 1),
    (-1e4, 1, 1e4, -1),
    (-1e4, 0, 0, 0),
    (1e4, 0.25, 7500, 0.75),
    (-1e4, 0.25, 2500, -0.25),
    (20, 1, 2.061153620314381e-09, None),  # log(1 + e^-20): lost in a = sigmoid(20), which float32 rounds to 1
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("z", "t", "cost", "error"), BINARY_CROSS_ENTROPIES)
def test_binary_cross_entropy_at_the_far_ends(z, t, cost, error, dtype):
    got, delta = cost_and_error(BINARY_CROSS_ENTROPY, SIGMOID, [z], [t], dtype)
    assert got == pytest.approx(cost, rel=4 * float(np.finfo(dtype).eps), abs=0)
    if error is not None:
        assert delta[0] == pytest.approx(error, rel=0, abs=1e-37)


@pytest.mark.parametrize("loss", [QUADRATIC, BINARY_CROSS_ENTROPY, CROSS_ENTROPY])
def test_costs_of_outputs_that_are_not_numbers(loss):
    """Divergence must show in the cost."""
    activation = {QUADRATIC: CODES["identity"], BINARY_CROSS_ENTROPY: SIGMOID, CROSS_ENTROPY: SOFTMAX}[loss]
    for j in range(3):
        z = [0.5, -0.5, 1.0]
        z[j] = np.nan
        cost, _ = cost_and_error(loss, activation, z, [0, 1, 0], "float32")
        assert not np.isfinite(cost)


@pytest.mark.parametrize("dtype", DTYPES)
def test_multiply_by_prime_where_f_is_flat(dtype):
    """f' from a = f(z): exactly 0 once a has reached its limit, and relu's is 0 at 0."""
    for name, a in (("sigmoid", [1.0, 0.0]), ("tanh", [1.0, -1.0]), ("relu", [0.0, -0.0])):
        delta = np.array([2.0, -3.0], dtype)
        times_f_prime(CODES[name], np.full(2, np.nan, dtype), np.array(a, dtype), delta)
        assert (delta == 0).all(), name
