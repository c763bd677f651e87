"""fastbp.optimizers and its rules: against plain NumPy, PyTorch and numbers worked by hand; settings and their ranges.

`python tests/core/test_optimizers.py`, where PyTorch is installed, writes anew what it comes to: pytorch_steps.json.
"""

import copy
import dataclasses
import gc
import json
import math
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

from fastbp import Network, Trainer, cost_and_gradient
from fastbp.core import build, compiler, reference, rules
from fastbp.core.call import INFER, TRAIN
from fastbp.core.rules import RULE, RULES, Change, as_rule, rates_of, update, update_block, update_serial
from fastbp.core.simd.memory import at
from fastbp.optimizers import OPTIMIZERS as KINDS
from fastbp.optimizers import SGD, Adagrad, Adam, AdamW, Lion, NAdam, RMSprop, Rprop

DTYPES = ["float32", "float64"]
OPTIMIZERS = [
    SGD(0.05), SGD(0.02, momentum=0.9), SGD(0.02, momentum=0.9, nesterov=True), SGD(0.02, momentum=0.3, nesterov=True),
    Adam(), Adam(0.05, beta1=0.5, beta2=0.9, epsilon=1e-3), Adam(0.05, beta1=0, beta2=0, epsilon=0.1),
    AdamW(0.02, weight_decay=0.3), NAdam(0.02), NAdam(0.02, beta1=0.5, momentum_decay=0), NAdam(0.02, beta1=0),
    NAdam(0.02, momentum_decay=3), RMSprop(), RMSprop(0.02, decay=0, epsilon=0.1), Adagrad(0.1), Lion(0.005),
    Lion(0.01, beta1=0.5, beta2=0, weight_decay=0.5), Rprop(), Rprop(0.1, 0.3, 1.5, least=1e-3, most=0.2),
    SGD(0.05, l1=0.1), SGD(0.05, momentum=0.5, weight_decay=0.2), Adam(0.02, weight_decay=0.1, l1=0.05),
]


class Penalized(Adam):
    """With what only estimators for scikit-learn use so far."""

    def settings(self):
        settings = super().settings()
        settings[[rules.L2, rules.EPSILON_HAT]] = 0.3, 1
        return settings


CURVATURES = np.array([0.1, 0.5, 1.0, 2.0, 5.0])


@compiler.serial
def update_range(theta, gradient, state, settings, eta, step, lo, hi):
    rule, n = as_rule(at(settings, 0)), hi - lo
    change = Change(at(theta, 0), at(state, 0), len(state), theta.size, rule)
    update_block(change, lo, at(gradient, lo), n, n, rates_of(rule, eta, step, 1.0))


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
@pytest.mark.parametrize("optimizer", [*OPTIMIZERS, Penalized(0.02, epsilon=1e-3), Penalized(0.05, beta2=0.9, l1=0.1)],
                         ids=repr)
def test_100_steps_against_the_reference(optimizer, dtype):
    """Descent forgets rounding errors rather than adding them up, so the bound is that of a few steps."""
    theta, state = descend(update_serial, optimizer, dtype, 100, (1,))
    exact, exact_state = descend(reference.update, optimizer, "float64", 100)
    eps = 100 * np.finfo(dtype).eps
    np.testing.assert_allclose(theta, exact, rtol=eps, atol=eps)
    np.testing.assert_allclose(state, exact_state, rtol=eps, atol=eps)
    assert (np.abs(theta - descend(reference.update, optimizer, "float64", 0)[0]) > 0.01).any()


STORED = Path(__file__).with_name("pytorch_steps.json")
AS_PYTORCH = {
    # PyTorch's name and settings; it has neither Lion nor L1
    "SGD": (SGD(0.02), dict(lr=0.02)),
    "SGD, momentum": (SGD(0.02, momentum=0.9), dict(lr=0.02, momentum=0.9)),
    "SGD, Nesterov": (SGD(0.02, momentum=0.9, nesterov=True), dict(lr=0.02, momentum=0.9, nesterov=True)),
    "Adam": (Adam(0.01), dict(lr=0.01)),
    "AdamW": (AdamW(0.01, weight_decay=0.1), dict(lr=0.01, weight_decay=0.1)),
    "NAdam": (NAdam(0.01), dict(lr=0.01)),
    "NAdam, decay": (NAdam(0.01, weight_decay=0.1),
                     dict(lr=0.01, weight_decay=0.1, decoupled_weight_decay=True)),
    "RMSprop": (RMSprop(0.01, decay=0.9), dict(lr=0.01, alpha=0.9)),
    "Adagrad": (Adagrad(0.1), dict(lr=0.1)),
    "Rprop": (Rprop(0.02, 0.4, 1.3), dict(lr=0.02, etas=(0.4, 1.3))),
}


def by_pytorch(name):
    """The 35 parameters of `descend` after 100 steps in float64."""
    torch = pytest.importorskip("torch")
    torch.set_default_dtype(torch.float64)  # in which NAdam keeps its product of momenta
    optimizer, settings = AS_PYTORCH[name]
    theta = torch.zeros(35, dtype=torch.float64, requires_grad=True)
    stepping = getattr(torch.optim, name.split(",")[0])([theta], **settings)

    def update(values, gradient, *_):
        theta.data = torch.from_numpy(values)
        theta.grad = torch.from_numpy(gradient)
        stepping.step()

    return descend(update, optimizer, "float64", 100)[0]


@pytest.mark.parametrize("name", AS_PYTORCH)
def test_100_steps_as_pytorch_made_them(name):
    expected = json.loads(STORED.read_text())["theta"][name]
    for dtype in DTYPES:
        theta, _ = descend(update_serial, AS_PYTORCH[name][0], dtype, 100, (1,))
        eps = 100 * np.finfo(dtype).eps
        np.testing.assert_allclose(theta, expected, rtol=eps, atol=eps)


@pytest.mark.parametrize("name", AS_PYTORCH)
def test_what_pytorch_makes_here(name):
    """Where it is installed: the stored numbers are its own."""
    np.testing.assert_allclose(json.loads(STORED.read_text())["theta"][name], by_pytorch(name), rtol=1e-12, atol=1e-14)


def test_every_rule_is_compared():
    assert {type(optimizer) for optimizer in OPTIMIZERS} == set(KINDS.values())
    assert {optimizer.settings()[RULE] for optimizer in OPTIMIZERS} == {row.code for row in RULES}
    assert {type(optimizer) for optimizer, _ in AS_PYTORCH.values()} == set(KINDS.values()) - {Lion}


def test_optimizers_by_name():
    """With their defaults; of SGD, those of a Trainer that is given none."""
    net = Network([2, 2])
    expected = [kind() if name != "sgd" else Trainer(net).optimizer for name, kind in KINDS.items()]
    assert [Trainer(net, optimizer=name).optimizer for name in KINDS] == expected


@pytest.mark.parametrize("optimizer", [SGD(0.5), Adam(0.01), AdamW(0.01), NAdam(0.01), RMSprop(), Adagrad(0.1),
                                       Lion(0.003), Rprop()], ids=lambda optimizer: type(optimizer).__name__)
def test_every_rule_trains(optimizer):
    """Through compiled steps on one thread and on two, to the same bits."""
    draw = np.random.default_rng(0)
    X = draw.normal(size=(300, 6))
    y, nets = (X[:, 0] * X[:, 1] > 0).astype(int), []
    for threads in (1, 2):
        net = Network([6, 24, 2], hidden="tanh", seed=1)
        batch_size, epochs = (300, 100) if type(optimizer) is Rprop else (50, 60)
        loss = Trainer(net, optimizer=optimizer, batch_size=batch_size, threads=threads).fit(X, y, epochs).loss
        assert loss[-1] < 0.6 * loss[0]
        nets.append(net)
    assert (nets[0].theta == nets[1].theta).all()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batch_size", [1, 8, 700])  # an outer product, at once, in pieces
def test_biases_do_not_decay_unless_asked(batch_size, threads):
    """Outputs that are right: the gradient is 0, and nothing but the decay is left."""
    for decay_biases in (False, True):
        net = Network([40, 30, 2], hidden="identity", output="identity", dtype="float64")
        for W, b in zip(net.W, net.b, strict=True):
            W[:], b[:] = 0.5, [1, -1] * (len(b) // 2)
        X = np.zeros((700, 40))
        y = net.forward(X)
        optimizer = SGD(0.1, weight_decay=0.5, l1=0.1, decay_biases=decay_biases)
        before = [W.copy() for W in net.W], [b.copy() for b in net.b]
        trainer = Trainer(net, "quadratic", optimizer, batch_size, threads=threads)
        trainer.fit(X[:batch_size], y[:batch_size], 1)
        shrunk = [0.95 * W - 0.01 for W in before[0]]
        np.testing.assert_allclose(net.W[0], shrunk[0], rtol=1e-14)
        expected = [np.sign(b) * (0.95 * abs(b) - 0.01) if decay_biases else b for b in before[1]]
        for b, e in zip(net.b, expected, strict=True):
            np.testing.assert_allclose(b, e, rtol=1e-14)


def test_l1_makes_zeros():
    """A weight that nothing holds comes to 0 to the bit and stays; one that the cost holds stays short of it by l1."""
    theta, target = np.array([0.05, 1.0, -1.0]), np.array([0.0, 1.0, -1.0])
    optimizer = SGD(0.1, l1=0.3)
    for step in range(1, 200):
        update_serial(theta, theta - target, np.zeros((0, 3)), optimizer.settings(), optimizer.eta, step, 1)
    np.testing.assert_allclose(theta, [0, 0.7, -0.7], rtol=1e-8)
    assert theta[0] == 0


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
    (AdamW, "weight_decay", [-0.1, math.nan, math.inf]), (SGD, "l1", [-0.1, math.nan]),
    (NAdam, "momentum_decay", [-1, math.inf]), (RMSprop, "decay", [-0.1, 1]), (RMSprop, "epsilon", [0]),
    (Adagrad, "epsilon", [0, -1]), (Lion, "beta1", [1]), (Lion, "beta2", [-0.5]), (Rprop, "decrease", [0, 1, math.nan]),
    (Rprop, "increase", [1, math.inf, math.nan]), (Rprop, "least", [0, 51.0]), (Rprop, "most", [-1, math.nan]),
]


@pytest.mark.parametrize(("kind", "name", "value"), [(kind, name, value) for kind, name, values in WRONG
                                                     for value in values])
def test_a_setting_out_of_its_range(kind, name, value):
    with pytest.raises(ValueError, match=f"^{name} must .*, got {value!r}( and 50.0)?$"):
        kind(**{name: value})


def test_nesterov_needs_momentum():
    with pytest.raises(ValueError, match="nesterov=True needs momentum > 0, got momentum=0"):
        SGD(nesterov=True)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_settings_are_frozen(optimizer):
    """Who assigns one is told how to give the trainer another; and a pickle is the same."""
    with pytest.raises(dataclasses.FrozenInstanceError, match=r"replace\(trainer.optimizer, eta=1.0\)"):
        optimizer.eta = 1.0
    assert pickle.loads(pickle.dumps(optimizer)) == copy.deepcopy(optimizer) == optimizer
    assert optimizer == dataclasses.replace(optimizer)
    assert dataclasses.replace(optimizer, eta=0.5).eta == 0.5
    with pytest.raises(ValueError, match="eta"):
        dataclasses.replace(optimizer, eta=-1)


SLOTS = [name for name, value in vars(rules).items() if name.isupper() and isinstance(value, int) and name not in (
    "N_SETTINGS", "NEAR") and not name.endswith("_RULE")]
ALL_SET = [SGD(0.1, 0.9, weight_decay=0.1, l1=0.2, decay_biases=True), Adam(0.3, 0.7, 0.8, 0.1), AdamW(0.2, 0.6),
           NAdam(0.2, momentum_decay=0.3), RMSprop(0.1, 0.7, 0.2), Adagrad(0.1, 0.3), Lion(0.1, 0.7, 0.8),
           Rprop(0.5, 0.25, 1.5, least=0.125, most=2.0)]


@pytest.mark.parametrize("optimizer", ALL_SET, ids=repr)
def test_a_slot_holds_what_it_is_named_for(optimizer):
    """The setting of its name; beside them only weights of a mean, made of `decay`, and bounds in units of eta."""
    settings = optimizer.settings()
    assert sorted(getattr(rules, slot) for slot in SLOTS) == list(range(rules.N_SETTINGS)) == list(range(len(settings)))
    expected = {slot: float(getattr(optimizer, slot.lower(), 0.0)) for slot in SLOTS}
    if isinstance(optimizer, RMSprop):
        expected |= {"OLD_SQUARES": 0.7, "NEW_SQUARES": 1 - 0.7}
    if isinstance(optimizer, Adagrad):
        expected |= {"OLD_SQUARES": 1.0, "NEW_SQUARES": 1.0}
    if isinstance(optimizer, Rprop):
        expected |= {"LEAST": 0.25, "MOST": 4.0}
    del expected["RULE"]
    assert {slot: settings[getattr(rules, slot)] for slot in expected} == expected


def test_compiled_code_reads_each_slot_by_its_name():
    """The view has the slots in their order; only that of the rule is named for what it holds, its code."""
    assert ["RULE", *(name.upper() for name in rules.SLOTS[1:])] == sorted(SLOTS, key=vars(rules).get)
    assert (rules.SLOTS[rules.RULE], rules.RULE_VIEW.size) == ("code", rules.N_SETTINGS)


def test_the_table_of_rules():
    """One row a code, in their order; each rule has settings; each is compared with the oracle."""
    assert [row.code for row in rules.RULES] == list(range(len(rules.RULES)))
    assert {optimizer.settings()[rules.RULE] for optimizer in OPTIMIZERS} == {row.code for row in rules.RULES}
    assert tuple(row.n_moments for row in rules.RULES) == rules.N_MOMENTS


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_compiled_code_wants_the_moments_of_the_table(optimizer):
    for ema in (0.0, 0.9):
        settings, n_moments = optimizer.settings(), optimizer.n_moments + (ema > 0)
        settings[rules.EMA_DECAY] = ema
        update_serial(np.ones(3), np.ones(3), np.zeros((n_moments, 3)), settings, 0.1, 1, 1)
        if n_moments:
            with pytest.raises(ValueError, match="state the rows that the rule needs"):
                update_serial(np.ones(3), np.ones(3), np.zeros((n_moments - 1, 3)), settings, 0.1, 1, 1)


@pytest.mark.parametrize("code", [-1, len(rules.RULES), 0.5, 99, math.nan])
def test_a_code_of_no_rule_is_an_error(code):
    """Where it is asked for, in the compiled update, the oracle, before compiled steps; else theta becomes NaN."""
    settings, layers = SGD(0.1).settings(), Network([2, 2]).workspace(capacity=1).layers
    settings[rules.RULE] = code
    theta, gradient, state = np.ones(3), np.ones(3), np.zeros((3, 3))
    for refused in (lambda: rules.row_of(code), lambda: update_serial(theta, gradient, state, settings, 0.1, 1, 1),
                    lambda: update(theta, gradient, state, settings, 0.1, 1, 2),
                    lambda: reference.update(theta.copy(), gradient, state, settings, 0.1, 1),
                    lambda: build.address("float32", layers, settings, TRAIN)):
        with pytest.raises(ValueError, match="unknown rule|settings must hold the code of a rule"):
            refused()
    assert (theta == 1).all()
    build.address("float32", layers, settings, INFER)  # no rule is asked for
    update_range(theta, gradient, state, settings, 0.1, 1, 0, 3)
    assert np.isnan(theta).all()


def test_moments():
    assert [optimizer.n_moments for optimizer in OPTIMIZERS[:7]] == [0, 1, 1, 1, 2, 2, 2]
    assert [kind().n_moments for kind in KINDS.values()] == [0, 2, 2, 2, 1, 1, 1, 2]


@pytest.mark.parametrize("setting", [{"eta": "fast"}, {"eta": True}, {"eta": None}, {"momentum": "0.9"},
                                     {"momentum": np.array([0.1])}, {"momentum": 0.9, "nesterov": "no"}], ids=repr)
def test_settings_of_another_type(setting):
    """The message names the setting and what was given."""
    name = list(setting)[-1]
    with pytest.raises(TypeError, match=f"^{name} must be .*{re.escape(repr(setting[name]))}"):
        SGD(**setting)


if __name__ == "__main__":
    import torch

    steps = {name: by_pytorch(name).tolist() for name in AS_PYTORCH}
    STORED.write_text(json.dumps({"torch": torch.__version__, "theta": steps}, indent=1) + "\n")


# A gradient of one's own.

STEPPED = [SGD(0.1), SGD(0.1, 0.9), SGD(0.1, 0.9, True, weight_decay=0.01, l1=1e-3), Adam(0.01),
           AdamW(0.01, decay_biases=True), NAdam(), RMSprop(), Adagrad(), Lion(), Rprop(), Adam(0.01, l1=0.01)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", STEPPED, ids=repr)
def test_steps_of_a_gradient_of_ones_own_are_a_trainers(optimizer, dtype):
    draw = np.random.default_rng(0)
    X, y = draw.normal(size=(60, 5)), draw.integers(0, 3, 60)
    net, other = (Network([5, 8, 3], "tanh", dtype=dtype, seed=1) for _ in range(2))
    for _ in range(6):
        optimizer.step(net, cost_and_gradient(net, X, y)[1])
    Trainer(other, None, optimizer, 60, schedule="constant").fit(X, y, 6)
    np.testing.assert_allclose(net.theta, other.theta, rtol=1e-4 if dtype == "float32" else 1e-9, atol=1e-6)


def test_an_optimizer_keeps_a_state_for_each_network_while_it_lives():
    optimizer = Adam(0.1)
    net, other = (Network([2, 3], seed=1) for _ in range(2))
    gradient = np.ones(net.n_parameters)
    gradient.flags.writeable = False
    for _ in range(3):
        optimizer.step(net, gradient)
    optimizer.step(other, gradient.tolist())
    first = other.theta.copy()
    assert (net.theta != first).all() and len(optimizer._states) == 2
    optimizer.step(other, gradient, eta_factor=0)
    assert (other.theta == first).all()
    for way in (copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))):
        again, of_it = way((optimizer, net))
        again.step(of_it, gradient)
        once_more = way(net)
        once_more.theta, state = net.theta, copy.deepcopy(optimizer._states[net])
        optimizer._states[once_more] = state
        optimizer.step(once_more, gradient)
        assert (of_it.theta == once_more.theta).all()
        del again, of_it, once_more
    gc.collect()
    for copied in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer)), dataclasses.replace(optimizer)):
        assert copied == optimizer and len(copied._states) == 0
    del net
    gc.collect()
    assert len(optimizer._states) == 1


@pytest.mark.parametrize("gradient, message", [
    (np.ones(3), r"must have shape \(9,\), as theta has, got \(3,\)"), (np.ones((3, 3)), r"got \(3, 3\)"),
    (np.full(9, np.nan), "must be finite, element 0 is nan"), ([1.0] * 8 + [np.inf], "element 8 is inf")])
def test_bad_gradients(gradient, message):
    net = Network([2, 3])
    before = net.theta.copy()
    with pytest.raises(ValueError, match=f"the gradient .*{message}"):
        SGD(0.1).step(net, gradient)
    assert (net.theta == before).all()
