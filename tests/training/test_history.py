"""Trainer.history: all epochs of all fits so far, also of those that were interrupted."""

import copy
import math
import pickle
import signal

import numpy as np
import pytest

from fastbp import SGD, DivergenceError, Network, Trainer
from fastbp.callbacks import Checkpoint, EarlyStopping

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(60, 3))
Y = (X[:, 0] > 0).astype(int)


def trainer(**settings):
    return Trainer(Network([3, 4, 2]), batch_size=10, **settings)


def interrupt_at(epoch):
    """A callback that does what Ctrl-C does."""
    return lambda fit: signal.raise_signal(signal.SIGINT) if fit.epoch == epoch else None


def test_a_trainer_begins_without_epochs():
    assert trainer().history.loss == []


def test_history_goes_on_from_fit_to_fit():
    trained = trainer()
    parts = [trained.fit(X, Y, 2), trained.fit_batches([(X, Y)], 3), trained.fit(X, Y, 1)]
    whole = trained.history
    assert [len(part.loss) for part in parts] == [2, 3, 1]
    assert whole.loss == [loss for part in parts for loss in part.loss]
    assert whole.seconds == [seconds for part in parts for seconds in part.seconds]
    assert whole.samples == [60] * 6
    assert whole.validation_loss == []
    whole.loss.clear()
    assert len(parts[0].loss) == 2


def test_what_an_epoch_lacks_is_nan():
    trained = trainer()
    trained.fit(X, Y, 1)
    second = trained.fit(X, Y, 2, validation_data=(X, Y), metrics=["f1"])
    trained.fit(X, Y, 1, validation_data=(X, Y), metrics=["precision"])
    trained.fit(X, Y, 1)
    whole = trained.history
    assert len(whole.loss) == 5
    assert whole.validation_loss[1:3] == second.validation_loss
    assert [math.isnan(value) for value in whole.validation_loss] == [True, False, False, False, True]
    assert [math.isnan(value) for value in whole.validation_accuracy] == [True, False, False, False, True]
    assert {name: [math.isnan(value) for value in values] for name, values in whole.metrics.items()} == {
        "f1": [True, False, False, True, True], "precision": [True, True, True, False, True]}
    assert whole.to_frame().shape == (5, 7)


def test_why_the_last_fit_stopped():
    trained = trainer()
    trained.fit(X, Y, 50, validation_data=(X, -Y + 1), callbacks=[EarlyStopping(patience=2)])
    assert trained.history.stopped
    trained.fit(X, Y)
    assert trained.history.stopped == ""


@pytest.mark.parametrize("fit", [
    lambda trainer, **more: trainer.fit(X, Y, 9, validation_data=(X, Y), **more),
    lambda trainer, **more: trainer.fit_batches([(X[:30], Y[:30]), (X[30:], Y[30:])], 9, (X, Y), **more),
])
def test_an_interrupt_leaves_the_epochs_done(fit):
    trained, whole = trainer(), trainer()
    trained.fit(X, Y, 2)
    with pytest.raises(KeyboardInterrupt):
        fit(trained, callbacks=[interrupt_at(3)])
    whole.fit(X, Y, 2)
    fit(whole)
    assert trained.history.loss == whole.history.loss[:5]
    assert trained.history.validation_loss[2:] == whole.history.validation_loss[2:5]
    trained.fit(X, Y, 1)
    assert len(trained.history.loss) == len(trained.history.samples) == len(trained.history.validation_loss) == 6


def test_an_interrupt_within_an_epoch():
    def schedule(step, steps):
        if step == 12:  # of 6 an epoch
            signal.raise_signal(signal.SIGINT)
        return 1.0

    trained = trainer(schedule=schedule)
    with pytest.raises(KeyboardInterrupt):
        trained.fit(X, Y, 5)
    assert trained.history.loss == trainer(schedule="constant").fit(X, Y, 2).loss


@pytest.mark.filterwarnings("ignore::fastbp.TrainingWarning")
def test_divergence_leaves_the_epochs_done():
    trained = trainer(optimizer=SGD(1e-3))
    trained.fit(X, Y, 2)
    trained.optimizer = SGD(1e300)
    with pytest.raises(DivergenceError):
        trained.fit(X * 1e6, Y, 3)
    assert len(trained.history.loss) == 2


@pytest.mark.parametrize("way", [copy.deepcopy, lambda trainer: pickle.loads(pickle.dumps(trainer))])
def test_copies_have_a_history_of_their_own(way):
    trained = trainer()
    trained.fit(X, Y, 2)
    other = way(trained)
    other.fit(X, Y, 1)
    assert (len(trained.history.loss), len(other.history.loss)) == (2, 3)


def test_a_fit_that_is_resumed_is_whole(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        trainer().fit(X, Y, 6, callbacks=[Checkpoint(tmp_path, 0), interrupt_at(3)])
    resumed = trainer()
    history = resumed.fit(X, Y, 6, callbacks=[Checkpoint(tmp_path, 0, resume=True), interrupt_at(99)])
    assert resumed.history.loss == history.loss == trainer().fit(X, Y, 6).loss


def test_earlier_fits_do_not_keep_a_trainer_from_resuming(tmp_path):
    """The history is no part of what a checkpoint and the fit that goes on from it have in common."""
    first, second = trainer(), trainer()
    for one in (first, second):
        one.fit(X, Y, 2, validation_data=(X, Y) if one is first else None)
    with pytest.raises(KeyboardInterrupt):
        first.fit(X, Y, 4, callbacks=[Checkpoint(tmp_path, 0), interrupt_at(2)])
    second.fit(X, Y, 4, callbacks=[Checkpoint(tmp_path, 0, resume=True), interrupt_at(99)])
    assert len(second.history.loss) == 6
