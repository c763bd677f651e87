"""fastbp.schedules: each against numbers worked by hand and PyTorch's; ranges of settings; how Trainer uses them."""

import math
import pickle

import numpy as np
import pytest

from fastbp import SGD, Network, Trainer, schedules
from fastbp.schedules import SCHEDULES, Constant, Cosine, Exponential, Linear, OneCycle, Step, WarmUp, factors_of

linear = SCHEDULES["linear"]
EVERY = [*SCHEDULES.values(), Step(0.25, 0.5), Exponential(2), Linear(0.3), Cosine(3, 2, 0.1), OneCycle(0.5, 0, 0.2),
         WarmUp(), WarmUp(0, Cosine()), WarmUp(0.3, lambda step, steps: 0.5)]


def at(schedule, steps):
    return schedule.factors(np.arange(steps), steps)


@pytest.mark.parametrize("schedule", EVERY, ids=repr)
def test_a_step_alone_and_all_at_once(schedule):
    """Are the same to the bit, finite and not negative; for fits of one step too."""
    for steps in (1, 2, 3, 7, 40, 1001):
        factors = at(schedule, steps)
        assert factors.shape == (steps,) and np.isfinite(factors).all() and (factors >= 0).all()
        assert [schedule(step, steps) for step in range(steps)] == factors.tolist()
        assert factors_of(lambda step, n: schedule(step, n), np.arange(steps), steps).tolist() == factors.tolist()  # noqa: B023


def test_linear_is_up_over_15_percent_and_down_to_0():
    factors = at(linear, 1000)
    assert factors[0] == pytest.approx(1 / 150)
    assert factors[149] == factors[150] == 1
    assert factors[999] == pytest.approx(1 / 850)
    np.testing.assert_allclose(np.diff(factors[:150]), 1 / 150)
    np.testing.assert_allclose(np.diff(factors[150:]), -1 / 850)
    for steps in range(1, 40):
        assert ((at(linear, steps) > 0) & (at(linear, steps) <= 1)).all(), steps


def test_by_hand():
    assert at(Constant(), 3).tolist() == [1, 1, 1]
    assert at(Step(0.5, 0.1), 4) == pytest.approx([1, 1, 0.1, 0.1])
    assert at(Step(0.25, 0.5), 8) == pytest.approx([1, 1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125])
    assert at(Exponential(0.0001), 4) == pytest.approx([1, 0.1, 0.01, 0.001])
    assert at(Linear(0.2), 4) == pytest.approx([1, 0.8, 0.6, 0.4])
    assert at(Cosine(), 4) == pytest.approx([1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2])
    # Cycles of 2 and 4 steps, from 1 to 0.2.
    low = [0.6 + 0.4 * math.cos(math.pi * share) for share in (0, 0.5, 0, 0.25, 0.5, 0.75)]
    assert at(Cosine(2, growth=2, end=0.2), 6) == pytest.approx(low)
    assert at(WarmUp(0.4, Linear()), 5) == pytest.approx([0.5, 1, 1, 2 / 3, 1 / 3])
    assert at(WarmUp(0.5, lambda step, steps: 3 + step), 4) == pytest.approx([1.5, 3, 3, 4])


def test_as_pytorch():
    """CosineAnnealingLR, warm restarts and OneCycleLR (whose last step has the last factor, where here it is the one
    after that)."""
    torch = pytest.importorskip("torch")

    def made(kind, steps, **settings):
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        schedule, factors = getattr(torch.optim.lr_scheduler, kind)(optimizer, **settings), []
        for _ in range(steps):
            factors.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        return factors

    assert at(Cosine(end=0.1), 50) == pytest.approx(made("CosineAnnealingLR", 50, T_max=50, eta_min=0.1))
    assert at(Cosine(3, growth=2), 70) == pytest.approx(made("CosineAnnealingWarmRestarts", 70, T_0=10, T_mult=2))
    one_cycle = made("OneCycleLR", 101, max_lr=1.0, total_steps=101, pct_start=31 / 101, cycle_momentum=False)
    assert at(OneCycle(), 100) == pytest.approx(one_cycle[:100])


WRONG = [(Step, "every", [0, 1.5, math.nan]), (Step, "factor", [0, -1]), (Exponential, "end", [0, -0.1]),
         (Linear, "end", [-0.1, math.nan]), (Cosine, "cycles", [0, -1]), (Cosine, "growth", [0]), (Cosine, "end", [-1]),
         (OneCycle, "rise", [0, 1]), (OneCycle, "start", [-1]), (OneCycle, "end", [-1]), (WarmUp, "share", [-0.1, 1])]


@pytest.mark.parametrize(("kind", "name", "value"), [(kind, name, value) for kind, name, values in WRONG
                                                     for value in values])
def test_a_setting_out_of_its_range(kind, name, value):
    limits = r"(in [\[(].*[\])]|a finite number >=? \d|at least 1)"
    with pytest.raises(ValueError, match=rf"^{name} must be {limits}, got {value!r}$"):
        kind(**{name: value})


@pytest.mark.parametrize(("kind", "setting"), [(Step, {"every": "half"}), (Linear, {"end": True}),
                                               (Cosine, {"cycles": 1.5}), (WarmUp, {"then": "cosine"})])
def test_a_setting_of_another_type(kind, setting):
    (name,) = setting
    with pytest.raises(TypeError, match=f"^{name} must be "):
        kind(**setting)


@pytest.mark.parametrize("name", SCHEDULES)
def test_by_name_and_by_itself(name):
    draw = np.random.default_rng(0)
    X, y = draw.normal(size=(90, 5)), draw.integers(0, 3, 90)

    def trained(schedule):
        net = Network([5, 8, 3], seed=0)
        Trainer(net, optimizer=SGD(0.5), batch_size=10, schedule=schedule).fit(X, y, 2)
        return net.theta

    theta = trained(name)
    assert (theta == trained(SCHEDULES[name])).all()
    assert (theta == trained(lambda step, steps: SCHEDULES[name](step, steps))).all()
    assert (theta == trained(pickle.loads(pickle.dumps(SCHEDULES[name])))).all()
    assert (theta == trained(None)).all() == (name == "constant")


def test_every_schedule_is_listed():
    kinds = set(schedules.Schedule.__subclasses__())
    assert {type(schedule) for schedule in SCHEDULES.values()} == kinds - {Linear}  # but for linear, with its warm-up
