"""Trainers handed to other processes and threads."""

import copy
import pickle
import threading

import joblib
import numpy as np
import pytest

from fastbp import Adam, Network, Trainer, Workspace, callbacks, find_eta, schedules
from fastbp.core.call import SLOTS, Slip

X = np.random.default_rng(0).random((200, 784), np.float32)
Y = np.arange(200) % 10


def large():
    """With Adam's state, large enough that joblib hands it over as a read-only memory map."""
    return Trainer(Network([784, 512, 10], seed=1), optimizer=Adam(), batch_size=50)


def test_a_trainer_given_to_joblib_trains_in_each_worker():
    trainer = large()
    trainer.fit(X, Y)

    def train(trainer, x, y):
        assert not x.flags.writeable
        trainer.fit(x, y, epochs=2)
        return trainer.network.theta

    x, y = np.tile(X, (10, 1)), np.tile(Y, 10)  # over joblib's limit, too
    thetas = joblib.Parallel(n_jobs=2)(joblib.delayed(train)(trainer, x, y) for _ in range(2))
    trainer.fit(x, y, epochs=2)
    assert all(theta.tobytes() == trainer.network.theta.tobytes() for theta in thetas)


@pytest.mark.parametrize("ema", [None, 0.9])
def test_nothing_that_training_writes_to_is_the_pickles(ema):
    """Buffers out of band, as joblib and others keep them, are read-only, and stay what they were."""
    trainer = Trainer(Network([784, 16, 10], seed=1), optimizer=Adam(), ema=ema)
    trainer.fit(X, Y)
    buffers = []
    data = pickle.dumps(trainer, protocol=5, buffer_callback=buffers.append)
    held = [bytes(buffer) for buffer in buffers]
    other = pickle.loads(data, buffers=held)
    before = [bytes(buffer) for buffer in held]
    other.fit(X, Y)
    trainer.fit(X, Y)
    assert other.network.theta.tobytes() == trainer.network.theta.tobytes()
    assert held == before


def test_a_copied_workspace_has_buffers_of_its_own():
    workspace = Workspace([2, 3, 1], ["tanh", "identity"], "float64", 4)
    workspace.few["gradient"] = Slip()  # of addresses, which are of no use to a copy
    for other in (copy.deepcopy(workspace), pickle.loads(pickle.dumps(workspace))):
        assert other.few == {} and other.capacity == 4
        for name in ("layers", "buffers", "targets", "costs"):
            assert other.slip.vector[SLOTS[name]] == getattr(other, name).ctypes.data, name
        other.a[1][:] = 7
        assert (other.buffers == 7).sum() == 12 and not workspace.buffers.any()
        assert (other.layers == workspace.layers).all()


@pytest.mark.parametrize("threads", [1, 2])
def test_a_trainer_is_of_one_thread_at_a_time(threads):
    """The others are told so; the first one's bits are what they are without them."""
    trainer, alone = (Trainer(Network([784, 64, 10], seed=1), optimizer=Adam(), threads=threads) for _ in range(2))
    begun, refused = threading.Event(), []

    def others(fit):
        begun.set()
        for other in waiting:
            other.join()

    def train(call):
        begun.wait()
        with pytest.raises(RuntimeError, match="this trainer is being trained by another thread; give each thread its"):
            call()
        refused.append(call)

    rival = Trainer(trainer.network)

    def train_the_network():
        begun.wait()
        with pytest.raises(RuntimeError, match="this network is being trained by another thread"):
            rival.fit(X, Y)
        refused.append(rival)

    waiting = [threading.Thread(target=train, args=(call,)) for call in (
        lambda: trainer.fit(X, Y), lambda: trainer.partial_fit(X, Y), lambda: trainer.fit_batches([(X, Y)]))]
    waiting.append(threading.Thread(target=train_the_network))
    for thread in waiting:
        thread.start()
    trainer.fit(X, Y, 3, callbacks=[others])
    alone.fit(X, Y, 3)
    assert len(refused) == 4
    assert trainer.network.theta.tobytes() == alone.network.theta.tobytes()
    assert trainer.evaluate(X, Y) == alone.evaluate(X, Y)
    trainer.fit(X, Y)  # it is free again


def test_a_trainer_keeps_its_network():
    """Its state and buffers are made for it: another one's steps would write beyond them."""
    trainer = Trainer(Network([784, 8, 10]))
    with pytest.raises(AttributeError, match="a trainer keeps its network, .* make a new Trainer"):
        trainer.network = Network([784, 40, 10])
    assert trainer.network.layer_sizes == (784, 8, 10)


@pytest.mark.parametrize("settings, call, message", [
    ({"schedule": schedules.Cosine}, {}, r"schedule must be .*; make one: Cosine\(\.\.\.\)"),
    ({}, {"callbacks": [callbacks.SWA]}, r"callbacks must be functions, .*; make one: SWA\(\.\.\.\)"),
    ({}, {"callbacks": callbacks.StopAt("loss", 1)}, "callbacks must be a sequence of functions"),
    ({"loss": lambda z, a, t, delta: 0.0}, {}, "losses.Custom"),
    ({}, {"metrics": [len], "validation_data": (X, Y)}, "metrics.Metric"),
])
def test_what_is_nearly_right_is_told_how_to_be(settings, call, message):
    with pytest.raises(TypeError, match=message):
        Trainer(Network([784, 10]), **settings).fit(X, Y, 1, **call)
    with pytest.raises(TypeError, match="trainer must be a Trainer"):
        find_eta(Network([784, 10]), X, Y)
    with pytest.raises(TypeError, match="layers must be a sequence of whole numbers, got 0"):
        Network([784, 10]).take_layers(Network([784, 10]), 0)


def test_none_is_no_callbacks_and_no_metrics():
    trainer = Trainer(Network([784, 10], seed=0))
    assert trainer.fit(X, Y, 1, callbacks=None, metrics=None).metrics == {}


def test_more_threads_than_a_trainer_was_made_for():
    """Their board grows with them; the bits are the same."""
    trainer, other = (Trainer(Network([784, 64, 10], seed=1), None, Adam(), 50, threads=1) for _ in range(2))
    trainer.threads = 4
    trainer.compile()
    for each in (trainer, other):
        each.fit(X, Y, 2)
    assert trainer.network.theta.tobytes() == other.network.theta.tobytes()


def test_the_end_of_every_callback_comes_though_one_raises(tmp_path):
    class Failing(callbacks.StopAt):
        def end(self, fit):
            raise OSError("at the end")

    trainer = Trainer(Network([784, 10]))
    ends = [Failing("loss", -1.0), callbacks.Checkpoint(tmp_path, resume=True)]
    for _ in range(2):  # the folder is free again
        with pytest.raises(OSError, match="at the end"):
            Trainer(Network([784, 10])).fit(X, Y, 1, callbacks=ends)
    trainer.fit(X, Y, 1, callbacks=[callbacks.EarlyStopping("loss", patience=np.int64(2)),
                                    callbacks.Checkpoint(tmp_path / "other")])
