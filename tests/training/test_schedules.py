"""fastbp.schedules: each against numbers worked by hand and PyTorch's; ranges of settings; how Trainer uses them."""

import math
import pickle
from fractions import Fraction

import numpy as np
import pytest

from fastbp import SGD, Network, Trainer, schedules
from fastbp.schedules import SCHEDULES, Constant, Cosine, Exponential, Linear, OneCycle, Step, WarmUp, factors_of

linear = SCHEDULES["linear"]
EVERY = [*SCHEDULES.values(), Step(0.25, 0.5), Exponential(2), Linear(0.3), Cosine(3, 2, 0.1), OneCycle(0.5, 0, 0.2),
         WarmUp(), WarmUp(0, Cosine()), WarmUp(0.3, lambda step, steps: 0.5)]


def at(schedule, steps):
    return schedule.factors(np.arange(steps), steps)


@pytest.mark.parametrize("schedule", EVERY, ids=lambda schedule: repr(schedule).split(" at 0x")[0])
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


FITS = [*range(1, 60), 96, 97, 100, 128, 200, 255, 300, 360]


def test_every_restart_is_at_its_step():
    """Beside exact rational arithmetic: all whole numbers of cycles up to 100."""
    assert [Cosine(25)(step, 100) for step in (24, 28, 32)] == [1, 1, 1]
    for cycles in range(1, 101):
        for steps in FITS:
            shares = np.array([step * cycles % steps for step in range(steps)]) / steps
            factors = at(Cosine(cycles), steps)
            np.testing.assert_allclose(factors, (1 + np.cos(np.pi * shares)) / 2, atol=1e-15)
            begins = {math.ceil(Fraction(k * steps, cycles)) for k in range(cycles) if k * steps % cycles == 0}
            assert set(np.flatnonzero(factors == 1)) == begins - {steps}, (cycles, steps)


@pytest.mark.parametrize("growth", ["2", "0.5", "1.5", "1.1", "3", "0.1"])
def test_every_restart_of_cycles_that_grow(growth):
    exact = Fraction(growth)
    for cycles in range(2, 12):
        lengths = [exact**c for c in range(cycles)]
        for steps in (sum(lengths).numerator, 70, 100, 381, 1000, 9999):
            if steps > 100_000:
                continue
            ends = [sum(lengths[: c + 1]) / sum(lengths) * steps for c in range(cycles)]
            firsts = np.array([math.ceil(end) for end in [0, *ends[:-1]]])
            factors = Cosine(cycles, float(growth)).factors(firsts, steps)
            for factor, begin, end in zip(factors, [Fraction(0), *ends], ends, strict=False):
                share = (math.ceil(begin) - begin) / (end - begin)
                if share < 1:  # the cycle has a step
                    assert factor == pytest.approx((1 + math.cos(math.pi * share)) / 2, abs=1e-9), (cycles, steps)


def test_cycles_of_any_number_and_growth():
    for schedule in (Cosine(10**15), Cosine(3, 1e300), Cosine(3, 1e-300), Cosine(400, 10), Cosine(400, 0.1)):
        factors = at(schedule, 100)
        assert np.isfinite(factors).all() and factors[0] == 1 and (factors >= 0).all()
        assert schedule(100, 100) == 0


@pytest.mark.parametrize("every", [Fraction(1, 3), Fraction(1, 7), *(Fraction(k, 100) for k in range(1, 101))], ids=str)
def test_every_fall_is_at_its_step(every):
    for steps in FITS:
        falls = [math.floor(step / (every * steps)) for step in range(steps)]
        assert at(Step(float(every), 0.5), steps).tolist() == [0.5**n for n in falls], steps


def test_the_other_turns_are_at_their_steps():
    """The peak of one_cycle, and where a warm-up ends."""
    for steps in FITS:
        for percent in range(1, 100):
            share = Fraction(percent, 100)
            rising = max(1, round(share * steps))
            factors = at(WarmUp(percent / 100, lambda step, n: 1.0 if step == 0 else 0.5), steps)
            assert factors[rising - 1] == 1 and (factors[: rising - 1] < 1).all(), (steps, percent)
            assert (factors[rising:] == [1.0, *[0.5] * steps][: steps - rising]).all()
            peak = share * steps
            if peak.denominator == 1:
                one_cycle = at(OneCycle(percent / 100), steps)
                assert one_cycle[int(peak)] == one_cycle.max() == 1, (steps, percent)
    assert WarmUp(0.575)(56, 100) < 1 == WarmUp(0.575)(57, 100)  # 0.575 · 100 is 57.5, but 57.49999999999999 in floats


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
    kinds = {kind for kind in schedules.Schedule.__subclasses__() if kind.__module__ == schedules.__name__}
    assert {type(schedule) for schedule in SCHEDULES.values()} == kinds - {Linear}  # but for linear, with its warm-up
