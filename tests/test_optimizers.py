"""fastbp.core.optimizers: rules against plain NumPy and numbers worked by hand; settings and their ranges."""

import dataclasses
import math
import re

import numpy as np
import pytest

from fastbp.core import jit, reference
from fastbp.core.optimizers import SGD, Adam, factors_of, update_block, update_serial

DTYPES = ["float32", "float64"]
OPTIMIZERS = [
    SGD(0.05), SGD(0.02, momentum=0.9), SGD(0.02, momentum=0.9, nesterov=True), SGD(0.02, momentum=0.3, nesterov=True),
    Adam(), Adam(0.05, beta1=0.5, beta2=0.9, epsilon=1e-3), Adam(0.05, beta1=0, beta2=0, epsilon=0.1),
]
CURVATURES = np.array([0.1, 0.5, 1.0, 2.0, 5.0])


@jit.serial
def update_range(theta, gradient, state, settings, eta, step, lo, hi):
    update_block(theta, gradient, state, settings, factors_of(settings, eta, step), lo, hi - lo, lo)


def descend(update, optimizer, dtype, steps, kernel_threads=()):
    """`steps` steps down the bowl E = sum of curvature theta^2 / 2, a gradient with a little noise."""
    draw = np.random.default_rng(0)
    theta = draw.normal(size=35).astype(dtype)
    state = np.zeros((optimizer.n_moments, 35), dtype)
    curvature = np.repeat(CURVATURES, 7).astype(dtype)
    for step in range(1, steps + 1):
        gradient = curvature * theta + draw.normal(0, 0.01, 35).astype(dtype)
        update(theta, gradient, state, optimizer.settings(), optimizer.eta, step, *kernel_threads)
    return theta, state


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_100_steps_against_the_reference(optimizer, dtype):
    """Descent forgets rounding errors rather than adding them up, so the bound is that of a few steps."""
    theta, state = descend(update_serial, optimizer, dtype, 100, (1,))
    exact, exact_state = descend(reference.update, optimizer, "float64", 100)
    eps = 100 * np.finfo(dtype).eps
    np.testing.assert_allclose(theta, exact, rtol=eps, atol=eps)
    np.testing.assert_allclose(state, exact_state, rtol=eps, atol=eps)
    assert (np.abs(theta - descend(reference.update, optimizer, "float64", 0)[0]) > 0.01).any()


def two_steps(optimizer):
    """theta after steps 1 and 2 from theta = 1, with gradients 2 and then -1."""
    theta, state = np.array([1.0]), np.zeros((optimizer.n_moments, 1))
    after = []
    for step, g in ((1, 2.0), (2, -1.0)):
        update_serial(theta, np.array([g]), state, optimizer.settings(), optimizer.eta, step, 1)
        after.append(theta[0])
    return after


def test_sgd_by_hand():
    # 1 - 0.1 (2) = 0.8; 0.8 - 0.1 (-1) = 0.9
    assert two_steps(SGD(0.1)) == pytest.approx([0.8, 0.9], rel=1e-15)


def test_momentum_by_hand():
    # v = 2: 1 - 0.1 (2) = 0.8; v = 0.5 (2) - 1 = 0: it stays
    assert two_steps(SGD(0.1, momentum=0.5)) == pytest.approx([0.8, 0.8], rel=1e-15)


def test_nesterov_by_hand():
    # v = 2: 1 - 0.1 (2 + 0.5 (2)) = 0.7; v = 0.5 (2) - 1 = 0: 0.7 - 0.1 (-1 + 0.5 (0)) = 0.8
    assert two_steps(SGD(0.1, momentum=0.5, nesterov=True)) == pytest.approx([0.7, 0.8], rel=1e-15)


def test_adam_by_hand():
    # With beta1 = beta2 = 1/2 and epsilon = 1. Step 1: m = 1, v = 2, corrected by 1 - 1/2: 2 and 4;
    # 1 - 0.3 (2) / (sqrt(4) + 1) = 0.8. Step 2: m = 0.5 (1) - 0.5 = 0: it stays.
    assert two_steps(Adam(0.3, beta1=0.5, beta2=0.5, epsilon=1)) == pytest.approx([0.8, 0.8], rel=1e-15)


@pytest.mark.parametrize("g", [1e-3, 1.0, 1e3])
def test_adams_first_step_is_eta_whatever_the_gradient(g):
    theta, state = np.zeros(1), np.zeros((2, 1))
    update_serial(theta, np.array([g]), state, Adam(0.01).settings(), 0.01, 1, 1)
    assert theta[0] == pytest.approx(-0.01, rel=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_adam_leaves_alone_what_never_has_a_gradient(dtype):
    """0 / (0 + epsilon), and not 0 / 0: the weights of a pixel that is always black."""
    theta, state = np.ones(20, dtype), np.zeros((2, 20), dtype)
    for step in range(1, 4):
        update_serial(theta, np.zeros(20, dtype), state, Adam().settings(), 0.01, step, 1)
    assert (theta == 1).all()
    assert (state == 0).all()


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_a_range_is_all_that_changes(optimizer):
    theta, gradient, state = np.ones(100), np.ones(100), np.ones((optimizer.n_moments, 100))
    update_range(theta, gradient, state, optimizer.settings(), 0.1, 1, 13, 57)
    inside = (np.arange(100) >= 13) & (np.arange(100) < 57)
    np.testing.assert_array_equal(theta != 1, inside)
    assert (state[:, ~inside] == 1).all()
    assert (gradient == 1).all()


WRONG = [
    (SGD, "eta", [0, -0.1, math.nan, math.inf]), (SGD, "momentum", [-0.1, 1, 1.5, math.nan]),
    (Adam, "eta", [0, -0.1, math.nan, math.inf]), (Adam, "beta1", [-0.1, 1, math.nan]),
    (Adam, "beta2", [-1e-9, 1.0, math.inf]), (Adam, "epsilon", [0, -1e-8, math.nan, math.inf]),
]


@pytest.mark.parametrize(("kind", "name", "value"), [(kind, name, value) for kind, name, values in WRONG
                                                     for value in values])
def test_a_setting_out_of_its_range(kind, name, value):
    with pytest.raises(ValueError, match=f"^{name} must .*, got {value!r}$"):
        kind(**{name: value})


def test_nesterov_needs_momentum():
    with pytest.raises(ValueError, match="nesterov=True needs momentum > 0, got momentum=0"):
        SGD(nesterov=True)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_settings_are_frozen(optimizer):
    with pytest.raises(dataclasses.FrozenInstanceError):
        optimizer.eta = 1.0
    assert optimizer == dataclasses.replace(optimizer)
    assert dataclasses.replace(optimizer, eta=0.5).eta == 0.5
    with pytest.raises(ValueError, match="eta"):
        dataclasses.replace(optimizer, eta=-1)


def test_moments():
    assert [optimizer.n_moments for optimizer in OPTIMIZERS] == [0, 1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("setting", [{"eta": "fast"}, {"eta": True}, {"eta": None}, {"momentum": "0.9"},
                                     {"momentum": np.array([0.1])}, {"momentum": 0.9, "nesterov": "no"}], ids=repr)
def test_settings_of_another_type(setting):
    """The message names the setting and what was given."""
    name = list(setting)[-1]
    with pytest.raises(TypeError, match=f"^{name} must be .*{re.escape(repr(setting[name]))}"):
        SGD(**setting)
