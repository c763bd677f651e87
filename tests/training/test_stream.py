"""Samples that come in batches: partial_fit, fit_batches and the thread that reads ahead; and layers taken over."""

import threading
import time

import numpy as np
import pytest

from fastbp import SGD, Adam, DivergenceError, Network, Trainer, callbacks, cost_and_gradient
from fastbp.training import guard
from fastbp.training.stream import AHEAD, read_ahead

draw = np.random.default_rng(0)
X = draw.normal(size=(400, 6))
Y = (X[:, 0] + X[:, 1] > 0).astype(int) + (X[:, 2] > 1)


def trainer(**settings):
    return Trainer(Network([6, 12, 3], seed=1), **{"optimizer": Adam(0.01), "batch_size": 30, "seed": 5} | settings)


def test_partial_fit_of_all_is_an_epoch():
    """The same order and steps as of fit; of one mini-batch at a time, a step each."""
    one, other = trainer(dropout=0.2, ema=0.9), trainer(dropout=0.2, ema=0.9)
    costs = [one.partial_fit(X, Y) for _ in range(3)]
    history = other.fit(X, Y, 3)
    assert costs == history.loss
    assert one.network.theta.tobytes() == other.network.theta.tobytes()
    assert one.steps_done == 3 * 14 and one.epochs_done == 3


def test_partial_fit_by_mini_batches():
    """Of any size, against gradient descent done by hand."""
    net = Network([6, 5, 3], dtype="float64", seed=1)
    theta = net.theta.copy()
    stream = Trainer(net, optimizer=SGD(0.5), schedule="linear")
    for n in (7, 30, 2, 64, 1):
        weights = draw.random(n)
        expected, gradient = cost_and_gradient(net, X[:n], Y[:n], sample_weight=weights)
        assert stream.partial_fit(X[:n], Y[:n], sample_weight=weights) == pytest.approx(expected)
        theta -= 0.5 * gradient  # eta itself: there is no schedule
        np.testing.assert_allclose(net.theta, theta, rtol=1e-10, atol=1e-12)
        theta = net.theta.copy()


def test_partial_fit_diverges():
    stream = trainer(optimizer=SGD(1e30))
    with pytest.raises(DivergenceError, match="no longer finite"):
        for _ in range(10):
            stream.partial_fit(X * 1e20, Y)
    assert np.isfinite(stream.network.theta).all()


def test_a_stream_whose_parameters_overflow():
    """Though the cost was finite: the last finite ones come back; with one mini-batch to a partial_fit in the next."""
    for batch_size, calls in ((400, 2), (200, 1), (None, 1)):
        stream = trainer(optimizer=SGD(3e38), batch_size=batch_size or 400)
        with pytest.raises(DivergenceError, match="no longer finite"):
            for _ in range(calls):
                stream.partial_fit(X * 1e3, Y) if batch_size else stream.fit_batches([(X * 1e3, Y)])
        assert np.isfinite(stream.network.theta).all()


def test_where_a_stream_has_diverged(monkeypatch):
    """It is seen after the steps of a call, or before them if an earlier call has left it."""
    values, far = X[:, :1], SGD(3e38)
    words = "at a learning rate of .*; the network goes back by up to 2 s, to finite parameters; "
    for before in (lambda stream: stream.partial_fit(X, values), lambda stream: stream.step(X, values)):
        stream = Trainer(Network([6, 1], output="identity"), optimizer=SGD(0.01), batch_size=400)
        before(stream)
        stream.optimizer = far
        with pytest.raises(DivergenceError, match=rf"epoch {stream.epochs_done + 1}, after step 1 of 1, {words}"):
            stream.fit_batches([(1e3 * X, values)])
        assert np.isfinite(stream.network.theta).all()
    stream = Trainer(Network([6, 1], output="identity"), optimizer="adam", batch_size=100)
    theta = stream.network.theta.copy()
    stream.step(X[:100].astype("f4"), 1e22 * values[:100].astype("f4"))
    monkeypatch.setattr(guard, "KEEP_SECONDS", 0.0)
    with pytest.raises(DivergenceError, match=f"epoch 1, before step 1 of 4, {words}"):
        stream.partial_fit(X, values)
    assert (stream.network.theta == theta).all() and stream.steps_done == 0


def test_batches_in_the_same_memory():
    """Are those that they were when they were given."""
    class Refilled:
        def __iter__(self):
            x, y = np.empty((100, 6)), np.empty(100, int)
            for i in range(0, 400, 100):
                x[:], y[:] = X[i : i + 100], Y[i : i + 100]
                yield x, y

    one, other = trainer(), trainer()
    one.fit_batches(Refilled(), 3)
    other.fit_batches([(X[i : i + 100], Y[i : i + 100]) for i in range(0, 400, 100)], 3)
    assert one.network.theta.tobytes() == other.network.theta.tobytes()


class Batches:
    """Slices of 90 samples, of which a mini-batch takes 30."""

    def __init__(self, fail_at=None, seconds=0.0):
        self.fail_at, self.seconds, self.begun = fail_at, seconds, 0

    def __iter__(self):
        self.begun += 1
        for i in range(0, 400, 90):
            time.sleep(self.seconds)
            if i == self.fail_at:
                raise OSError("the disk is gone")
            yield X[i : i + 90], Y[i : i + 90]


def test_fit_batches():
    """As partial_fit of each; with validation, metrics, and callbacks of epochs and of steps."""
    one, other, seen = trainer(), trainer(), []
    batches = Batches()
    history = one.fit_batches(batches, 4, (X, Y), metrics=["f1"], callbacks=[
        callbacks.Every(5, lambda fit: seen.append(fit.step)), lambda fit: seen.append("epoch")])
    costs = [[other.partial_fit(x, y) * len(x) for x, y in Batches()] for _ in range(4)]
    assert one.network.theta.tobytes() == other.network.theta.tobytes()
    assert history.loss == [pytest.approx(sum(each) / 400) for each in costs]
    assert history.samples == [400] * 4 and batches.begun == 4 and len(history.seconds) == 4
    assert history.validation_loss[-1] == one.evaluate(X, Y)[0] and len(history.metrics["f1"]) == 4
    assert seen[:3] == [6, 12, "epoch"]
    patience = callbacks.EarlyStopping(patience=1, least_gain=9)
    stopped = trainer().fit_batches(Batches(), 50, (X, Y), callbacks=[patience])
    assert stopped.stopped and len(stopped.loss) == 2
    early = trainer().fit_batches(Batches(), 50, callbacks=[callbacks.Every(1, lambda fit: fit.stop("enough"))])
    assert early.samples == [90]
    assert not [thread for thread in threading.enumerate() if "fastbp reader" in thread.name]


def test_weights_in_batches():
    weights = draw.integers(0, 3, 400).astype(float)
    one, other = trainer(), trainer()
    one.fit_batches([(X, Y, weights)])
    other.fit(X, Y, 1, sample_weight=weights)
    assert one.network.theta.tobytes() == other.network.theta.tobytes()


@pytest.mark.parametrize(("batches", "kind", "message"), [
    (Batches(fail_at=180), OSError, "the disk is gone"), ([(X, Y), (X[:, :5], Y)], ValueError, "X has 5 features"),
    ([X], TypeError, r"a batch must be \(X, y\) or \(X, y, sample_weight\), got ndarray of length 400"),
    ([], ValueError, "^there are no batches; an iterator can be used only once"),
    (iter([]), ValueError, "^there are no batches; an iterator can be used only once"),
    ([(X, Y, np.zeros(400))], ValueError, "^there are no batches with a weight above 0$"),
    (iter([(X, Y)]), ValueError, "no batches in epoch 2; an iterator can"),
])
def test_what_is_wrong_with_batches(batches, kind, message):
    with pytest.raises(kind, match=message):
        trainer().fit_batches(batches, 2)
    assert not [thread for thread in threading.enumerate() if "fastbp reader" in thread.name]


def test_what_fit_batches_refuses(tmp_path):
    with pytest.raises(ValueError, match=r'takes no schedule, .*, got .*; set trainer\.schedule = "constant"$'):
        trainer(schedule="linear").fit_batches(Batches())
    with pytest.raises(ValueError, match="does not support checkpoints; use fit with memory-mapped arrays"):
        trainer().fit_batches(Batches(), callbacks=[callbacks.Checkpoint(tmp_path)])
    with pytest.raises(ValueError, match="metrics need validation_data"):
        trainer().fit_batches(Batches(), metrics=["f1"])


def test_a_stream_goes_without_a_schedule():
    """At the optimiser's eta; of the default optimiser too, whose schedule in `fit` is another."""
    def three(trainer):
        trainer.fit_batches([(X, Y)], 3)
        return trainer.network.theta.tobytes()

    by_default, constant = Trainer(Network([6, 3], seed=1)), Trainer(Network([6, 3], seed=1), schedule="constant")
    assert three(by_default) == three(constant)
    for call in (Trainer.partial_fit, Trainer.step):
        linear, plain = (trainer(schedule=schedule, batch_size=400) for schedule in ("linear", None))
        assert call(linear, X, Y) == call(plain, X, Y)
        assert linear.network.theta.tobytes() == plain.network.theta.tobytes()
    linear.schedule = "constant"
    assert len(linear.fit_batches(Batches()).loss) == 1


def test_reading_ahead():
    """While one item is worked on the next are read, and no more; what was read first comes first."""
    read = []

    def items():
        for i in range(10):
            read.append(i)
            yield i

    reader = read_ahead(items(), lambda i: i * i)
    assert next(reader) == 0
    deadline = time.monotonic() + 10
    while len(read) < AHEAD + 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert len(read) == AHEAD + 2  # one given, so many waiting, one in hand
    assert list(reader) == [i * i for i in range(1, 10)]


def test_a_reader_that_is_held_up():
    """Is waited for a second, and StopIteration from within a check is no end."""
    def items():
        yield 1
        time.sleep(3)
        yield 2

    reader = read_ahead(items(), lambda i: i)
    assert next(reader) == 1
    started = time.monotonic()
    reader.close()
    assert time.monotonic() - started < 2.5

    def check(i):
        raise StopIteration

    with pytest.raises(RuntimeError, match="a batch raised StopIteration"):
        list(read_ahead([1, 2], check))


def test_a_stream_after_a_fit_goes_back_to_itself():
    """Where it diverges: to no parameters of the fit before."""
    stream = trainer(optimizer=SGD(0.1))
    stream.fit(X, Y, 2)
    stream.network.theta = np.full(stream.network.n_parameters, 0.25)
    stream.optimizer = SGD(3e38)
    with pytest.raises(DivergenceError):
        stream.partial_fit(X * 1e3, Y)
    assert (stream.network.theta == 0.25).all() and stream.steps_done == 28


def test_reading_overlaps_computing():
    """Five pauses of a reader beside five of who computes take the time of six, not of ten."""
    def items():
        for i in range(5):
            time.sleep(0.1)
            yield i

    started = time.monotonic()
    for _ in read_ahead(items(), lambda i: i):
        time.sleep(0.1)
    assert time.monotonic() - started < 0.9


def test_memory_mapped(tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    one, other = trainer(), trainer()
    one.fit(mapped, Y, 2)
    other.fit(X, Y, 2)
    assert one.network.theta.tobytes() == other.network.theta.tobytes()


def test_take_layers():
    source, net = Network([6, 12, 8, 3], seed=1), Network([6, 12, 8, 5], seed=2)
    last = net.W[2].copy()
    net.take_layers(source, [0, 1])
    assert (net.W[0] == source.W[0]).all() and (net.b[1] == source.b[1]).all() and (net.W[2] == last).all()
    before = net.theta.copy()
    for layers, message in ((None, r"layer 2 is \(8, 5\) here, \(8, 3\) in the other network"),
                            ([3], "layer 3 is not there here, not there in the other"),
                            ([-1], "a layer must be at least 0")):
        with pytest.raises(ValueError, match=message):
            net.take_layers(source, layers)
    with pytest.raises(TypeError, match="network must be a Network"):
        net.take_layers(source.theta)
    assert (net.theta == before).all()
    whole = Network([6, 12, 8, 3], dtype="float64", seed=9)
    whole.take_layers(source)
    assert (whole.theta == source.theta).all()
