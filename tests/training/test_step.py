"""Trainer.step and a gradient of a few samples: the short way and the long one give the same bits and errors."""

import copy
import pickle
import signal
import threading
import tracemalloc

import numpy as np
import pytest
from rig import DTYPES, python

from fastbp import (
    SGD,
    Adam,
    DivergenceError,
    Lion,
    Network,
    Trainer,
    TrainingWarning,
    cost_and_gradient,
    fit_many,
    losses,
)
from fastbp.data import Augmentation
from fastbp.optimizers import OPTIMIZERS
from fastbp.training import guard

N = 20
DRAW = np.random.default_rng(0)
X, LABELS = DRAW.normal(size=(N, 5)), DRAW.integers(0, 3, N)
SHARES = np.abs(DRAW.normal(size=(N, 3))) + 0.1
SHARES /= SHARES.sum(axis=1, keepdims=True)
# Output, loss and targets: labels, of one output too, rows that must be something, rows that may be anything, values.
KINDS = {
    "labels": ("softmax", None, 3, LABELS), "yes or no": ("sigmoid", None, 1, LABELS % 2),
    "shares": ("softmax", None, 3, SHARES), "several": ("sigmoid", None, 3, (SHARES > 0.3) * 1.0),
    "counts": ("softplus", "poisson", 3, np.floor(4 * SHARES)), "rows": ("identity", "huber", 3, SHARES),
    "values": ("identity", None, 1, SHARES[:, 0]), "of one's own": ("tanh", losses.Cosine(), 3, SHARES),
}
SETTINGS = {"plain": {}, "dropout": {"dropout": 0.3, "noise": 0.1}, "bounds": {"clip_norm": 0.1, "max_norm": 1.0},
            "augmentation": {"augmentation": Augmentation(1, scale=0.2, elastic=0.5, shape=(5, 1))},
            "frozen": {"frozen": [0], "clip_value": 0.01}, "mean": {"ema": 0.9}}


def made(kind, dtype="float32", threads=1, optimizer="adam", **settings):
    """A trainer, and samples and targets just as the short way takes them."""
    output, loss, n_out, y = KINDS[kind]
    network, settings = Network([5, 8, n_out], "tanh", output, dtype, seed=1), {"batch_size": N} | settings
    trainer = Trainer(network, loss, optimizer, threads=threads, **settings)
    return trainer, X.astype(dtype), y if y.dtype == np.int64 else y.astype(dtype)


def state_of(trainer):
    return (trainer.network.theta.tobytes(), trainer.state.rows.tobytes(), trainer.steps_done, trainer.epochs_done,
            trainer.network.multilabel)


def the_long_way(trainer, x, y):
    x = x.copy()
    x.flags.writeable = False  # which the short way does not take
    return trainer.step(x, y)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_both_ways_are_the_same_to_the_bit(kind, dtype, settings):
    (one, x, y), (other, _, _) = made(kind, dtype, 1, **settings), made(kind, dtype, 2, **settings)
    for n in (N, 1, 7, N):
        assert one.step(x[:n], y[:n]) == the_long_way(other, x[:n], y[:n])
        assert state_of(one) == state_of(other)
    assert one.steps_done == 4


@pytest.mark.parametrize("kind", KINDS)
def test_a_mini_batch_of_a_stream_is_a_step(kind):
    one, x, y = made(kind)
    other, _, _ = made(kind)
    for n in (N, 3):
        assert one.partial_fit(x[:n], y[:n]) == other.step(x[:n], y[:n])
        assert one.partial_fit(x[:n].tolist(), y[:n]) == the_long_way(other, x[:n], y[:n])
    assert one.network.theta.tobytes() == other.network.theta.tobytes()
    assert one.epochs_done == one.steps_done == 4 == other.steps_done and other.epochs_done == 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_few_samples_are_evaluated_as_many_are(kind, dtype, monkeypatch):
    trainer, x, y = made(kind, dtype)
    for _ in range(20):
        trainer.step(x, y)
    cost, accuracy = trainer.evaluate(x.tolist(), y)
    assert trainer.evaluate(x, y) == (pytest.approx(cost, rel=1e-12), accuracy)
    assert trainer.evaluate(x[:1], y[:1])[0] == pytest.approx(trainer.evaluate(x[:1].tolist(), y[:1])[0], rel=1e-12)
    assert (accuracy is None) == (kind not in ("labels", "yes or no", "shares", "several"))
    monkeypatch.setattr(trainer, "_check", None)
    assert trainer.evaluate(x, y)[1] == accuracy  # by the short way


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_step_is_one_of_fit(optimizer):
    """Of an epoch that is one mini-batch, whose samples come in the order of the fit."""
    one, x, y = made("labels", optimizer=OPTIMIZERS[optimizer](weight_decay=0.01))
    other, _, _ = made("labels", optimizer=OPTIMIZERS[optimizer](weight_decay=0.01))
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(N)
        other.step(x[order], y[order])
        one.step(x, y)
        np.testing.assert_allclose(other.network.theta, one.network.theta, 1e-4, 1e-5)
    assert other.steps_done == one.steps_done == 3


def test_the_short_way_is_taken(monkeypatch):
    """Else the comparisons above would say nothing."""
    for kind in KINDS:
        trainer, x, y = made(kind)
        monkeypatch.setattr(trainer, "_check", None)
        assert trainer.step(x, y) > 0
        with pytest.raises(TypeError):
            the_long_way(trainer, x, y)


WRONG = {
    "NaN": lambda x, y: (np.where(x == x[3, 2], np.nan, x), y), "infinite": lambda x, y: (x * np.inf, y),
    "a label too large": lambda x, y: (x, y + 2), "a label below 0": lambda x, y: (x, y - 1),
    "a row of features": lambda x, y: (x[0], y), "too few features": lambda x, y: (x[:, :4].copy(), y),
    "one number": lambda x, y: (x, np.array(1)), "samples of one number": lambda x, y: (np.array(1.0, x.dtype), y),
    "fewer labels": lambda x, y: (x, y[:-1]), "none": lambda x, y: (x[:0], y[:0]),
    "rows that are no shares": lambda x, y: (x, np.full((N, 3), 0.5, x.dtype)),
    "shares below 0": lambda x, y: (x, np.tile(np.array([1.5, -0.5, 0], x.dtype), (N, 1))),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_what_fit_refuses_a_step_refuses(wrong):
    """In the same words; nothing is changed, and the next step goes well."""
    trainer, x, y = made("labels")
    trainer.step(x, y)
    before = state_of(trainer)
    with pytest.raises((ValueError, TypeError)) as of_fit:
        copy.deepcopy(trainer).fit(*wrong(x, y), 1)
    for call in (trainer.step, trainer.partial_fit, trainer.evaluate):
        with pytest.raises(type(of_fit.value)) as of_step:
            call(*wrong(x, y))
        assert str(of_step.value) == str(of_fit.value) and state_of(trainer) == before
    assert trainer.step(x, y) > 0


def test_more_samples_than_a_mini_batch():
    trainer, x, y = made("labels")
    with pytest.raises(ValueError, match="a step takes up to batch_size=20 samples, got 40; use fit or part"):
        trainer.step(np.vstack([x, x]), np.r_[y, y])


@pytest.mark.parametrize("way", [Trainer.step, the_long_way])
def test_a_step_that_would_diverge_is_not_made(way):
    trainer, x, y = made("values", "float64")
    way(trainer, x, y)
    before = state_of(trainer)
    with pytest.raises(DivergenceError, match=r"the cost is no longer finite: step 2, .* was not made; targets reach"):
        way(trainer, x, y * 1e200)
    assert state_of(trainer) == before
    assert way(trainer, x, y) > 0


@pytest.mark.parametrize("way", [Trainer.step, the_long_way])
def test_parameters_that_a_step_has_made_infinite(way):
    """It is seen by the next one's cost; the network goes back to the last copy, which is at most 2 s old."""
    trainer, x, y = made("values", optimizer=SGD(1e10))
    before = state_of(trainer)
    with pytest.raises(DivergenceError, match="was not made, and the network goes back"):
        for _ in range(10):
            way(trainer, x, y * 1e30)
    assert state_of(trainer) == before and way(trainer, x, y) > 0


def large_way(trainer, x, y):
    """A step on more samples than there were buffers for."""
    trainer.batch_size = 1000
    trainer.step(np.tile(x, (50, 1)), np.tile(y, 50))


@pytest.mark.parametrize("way", [Trainer.step, the_long_way, Trainer.partial_fit, large_way])
def test_moments_that_a_step_has_made_infinite(way, monkeypatch):
    """The cost does not show it, as parameters stand still: it is seen when the next copy is due."""
    trainer, x, y = made("values")
    trainer.step(x, y)
    before = state_of(trainer)
    monkeypatch.setattr(guard, "KEEP_SECONDS", 0.0)
    trainer.step(x, y * np.float32(1e22))
    assert np.isfinite(trainer.network.theta).all() and not np.isfinite(trainer.state.rows).all()
    with pytest.raises(DivergenceError, match=r"a (parameter|parameter or a moment) is no longer finite: .*step"):
        way(trainer, x, y)
    assert state_of(trainer) == before and trainer.step(x, y) > 0


@pytest.mark.parametrize("way", [Trainer.step, the_long_way, Trainer.fit, Trainer.partial_fit, "fit_many"])
def test_moments_that_are_infinite_from_the_beginning(way):
    """There is nothing to go back to, and no eta is to blame that the call itself has."""
    trainer, x, y = made("values")
    trainer.step(x, y)
    trainer.step(x, y * np.float32(1e22))
    trainer = copy.deepcopy(trainer)
    theta = trainer.network.theta.copy()
    match = "moments were already infinite before the first step of this call: .* make a new Trainer"
    if way == "fit_many":
        with pytest.warns(TrainingWarning, match=match):
            assert "already infinite" in fit_many([trainer], x, y, 1)[0].stopped
    else:
        with pytest.raises(DivergenceError, match=match):
            way(trainer, x, y)
    assert trainer.network.theta.tobytes() == theta.tobytes()


def test_parameters_that_were_never_finite():
    trainer, x, y = made("values")
    trainer.network.b[0][2] = np.inf
    for way in (Trainer.step, the_long_way):
        with pytest.raises(ValueError, match=r"theta\[42\] of the network is inf; every parameter must be finite"):
            way(trainer, x, y)


def test_a_mini_batch_that_could_be_huge():
    """Buffers are for what goes through at once, and a step of some of its samples is that of the long way."""
    one, x, y = made("labels", batch_size=10**6)
    other, _, _ = made("labels", batch_size=10**6)
    assert one.step(x, y) == the_long_way(other, x, y) and state_of(one) == state_of(other)
    assert one.stepper.workspace.capacity < 10**5
    many = np.tile(x, (30_000, 1)), np.tile(y, 30_000)
    assert one.step(*many) == the_long_way(other, *many) and state_of(one) == state_of(other)


def test_settings_assigned_between_steps_count():
    one, x, y = made("labels", optimizer=Adam(0.01))
    other, _, _ = made("labels", optimizer=Adam(0.01))
    changes = [("optimizer", Adam(0.2)), ("clip_norm", 0.01), ("loss", losses.CrossEntropy(label_smoothing=0.3)),
               ("frozen", [1]), ("dropout", 0.5), ("seed", 9), ("batch_size", 50)]
    for name, value in changes:
        for trainer, step in ((one, one.step), (other, lambda *data: the_long_way(other, *data))):
            setattr(trainer, name, value)
            step(x, y)
        assert state_of(one) == state_of(other), name
    one.network.input_scale = other.network.input_scale = 0.5
    assert one.step(x, y) == the_long_way(other, x, y)


def test_an_optimizer_of_another_kind_before_the_first_step():
    trainer, x, y = made("labels")
    trainer.optimizer = Lion()
    trainer.step(x, y)
    assert trainer.state.rows.shape[0] == 1 and trainer.state.rows.any()


@pytest.mark.parametrize("way", [copy.deepcopy, lambda trainer: pickle.loads(pickle.dumps(trainer))])
def test_a_copy_makes_steps_of_its_own(way):
    trainer, x, y = made("labels")
    trainer.step(x, y)
    other = way(trainer)
    trainer.step(x, y)
    assert state_of(other) != state_of(trainer)
    other.step(x, y)
    assert state_of(other) == state_of(trainer)


def test_steps_between_other_calls():
    """The same as if each had gone the long way."""
    one, x, y = made("labels")
    other, _, _ = made("labels")
    for trainer, step in ((one, one.step), (other, lambda *data: the_long_way(other, *data))):
        step(x, y)
        trainer.fit(x, y, 2)
        step(x, y)
        trainer.partial_fit(x, y)
        step(x, y)
        trainer.evaluate(x, y)
    assert state_of(one) == state_of(other) and one.steps_done == 6


def test_weights():
    """A common factor cancels; where all are 0 nothing is done."""
    one, x, y = made("labels")
    other, _, _ = made("labels")
    assert one.step(x, y, sample_weight=np.full(N, 3.0)) == pytest.approx(other.step(x, y))
    np.testing.assert_allclose(one.network.theta, other.network.theta, 1e-5, 1e-6)
    before = state_of(one)
    assert np.isnan(one.step(x, y, sample_weight=np.zeros(N))) and state_of(one) == before


def test_names_of_classes_are_learned():
    trainer, x, y = made("labels")
    trainer.step(x, np.array(["a", "b", "c"])[y])
    assert trainer.network.classes.tolist() == ["a", "b", "c"]
    with pytest.raises(ValueError, match="names"):
        trainer.step(x, y)


def test_another_thread_that_trains():
    trainer, x, y = made("labels")
    refused = []

    def train():
        for step in (trainer.step, Trainer(trainer.network, batch_size=N).step):
            try:
                step(x, y)
            except RuntimeError as error:
                refused.append(str(error))

    def callback(fit):
        thread = threading.Thread(target=train)
        thread.start()
        thread.join()
        trainer.step(x, y)  # a callback itself may

    trainer.fit(x, y, 1, callbacks=[callback])
    assert ["this trainer is being" in refused[0], "this network is being" in refused[1]] == [True, True]
    assert trainer.steps_done == 2


INTERRUPTED = """
import _thread, sys, threading
import numpy as np
from fastbp import Network, Trainer
X, y = np.zeros((16, 4), "f4"), np.zeros(16, np.int64)
trainer = Trainer(Network([4, 6, 3], seed=0), batch_size=16)
try:
    threading.Timer(float(sys.argv[1]), _thread.interrupt_main).start()
    for _ in range(10**6):
        trainer.step(X, y)
except KeyboardInterrupt:
    pass
print(trainer.step(X, y) > 0)
"""


@pytest.mark.parametrize("after", [0.005, 0.02, 0.04, 0.06])
def test_ctrl_c_while_the_first_step_is_prepared(after):
    """What is half made is not used: the next step is one."""
    made("labels")[0].step(*made("labels")[1:])  # the machine code is on disk
    done = python(INTERRUPTED, after, warnings="default")
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


@pytest.mark.usefixtures("no_foreign_callbacks")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers that interrupt")
@pytest.mark.parametrize("way", [Trainer.step, the_long_way, Trainer.partial_fit], ids=["short", "long", "partial_fit"])
def test_ctrl_c_leaves_nothing_locked(way):
    """However often it comes: another thread can train then, and settings can be changed."""
    trainer, x, y = made("labels")
    before, interrupts = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT)), 0
    try:
        while interrupts < 40:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.002 + 0.0001 * interrupts)
                while True:
                    way(trainer, x, y)
            except KeyboardInterrupt:
                interrupts += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert trainer.alone.owner is trainer.network.alone.owner is None and not trainer._is_training
    trainer.seed = 1


def test_nothing_is_allocated():
    trainer, x, y = made("labels")
    net, out = trainer.network, np.empty_like(trainer.network.theta)
    outputs = np.empty((N, 3), np.float32)

    def call():
        trainer.step(x, y), cost_and_gradient(net, x, y, out=out), net.forward(x, out=outputs)
        trainer.partial_fit(x, y), trainer.evaluate(x, y)

    call()
    tracemalloc.start()
    for _ in range(100):
        call()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 4000  # bytes: a float or two; parameters and buffers would be more


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_of_few_samples(kind, dtype):
    """Bit for bit that of the long way, whether it is written into an array or not."""
    trainer, x, y = made(kind, dtype)
    net, loss = trainer.network, trainer.loss
    for n in (N, 1, 7):
        expected = cost_and_gradient(net, x[:n], y[:n], loss, threads=1)
        out = np.full_like(net.theta, np.nan)
        for found in (cost_and_gradient(net, x[:n], y[:n], loss), cost_and_gradient(net, x[:n], y[:n], loss, out=out)):
            assert found[0] == expected[0] and found[1].tobytes() == expected[1].tobytes()
        assert found[1] is out


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_what_a_gradient_refuses(wrong):
    """In the words of fit."""
    trainer, x, y = made("labels")
    with pytest.raises((ValueError, TypeError)) as of_fit:
        copy.deepcopy(trainer).fit(*wrong(x, y), 1)
    with pytest.raises(type(of_fit.value)) as of_gradient:
        cost_and_gradient(trainer.network, *wrong(x, y))
    assert str(of_gradient.value) == str(of_fit.value)


@pytest.mark.parametrize("out", [np.empty(3, "f4"), np.empty(75, "f8"), np.empty(150, "f4")[::2], [0.0] * 75])
def test_where_a_gradient_cannot_be_written(out):
    trainer, x, y = made("labels")
    with pytest.raises(ValueError, match="out must be a contiguous, writeable array of 75 numbers of float32"):
        cost_and_gradient(trainer.network, x, y, out=out)


def test_a_gradient_that_is_not_finite():
    trainer, x, y = made("values", "float64")
    cost, gradient = cost_and_gradient(trainer.network, x, y * 1e200)
    assert not np.isfinite(cost) and np.isnan(gradient).all()
