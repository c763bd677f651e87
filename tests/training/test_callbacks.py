"""fastbp.callbacks and validation_fraction: when callbacks are called, what they do, and what they refuse; History."""

import contextlib
import csv
import itertools
import json
import logging
import math
import os
import pickle
import re
import struct
import sys
import time

import matplotlib.figure
import numpy as np
import pandas
import pytest

from fastbp import SGD, Adam, DivergenceError, Network, Trainer, callbacks
from fastbp.callbacks import (
    SWA,
    Checkpoint,
    CSVLog,
    EarlyStopping,
    Every,
    History,
    JSONLog,
    ReduceOnPlateau,
    StopAt,
    TimeBudget,
)
from fastbp.metrics import Metric
from fastbp.training import validation


def data(n=95, classes=3, seed=0):
    draw = np.random.default_rng(seed)
    X = draw.normal(size=(n, 6)).astype("f4")
    return X, np.argmax(X[:, :classes], axis=1)


def trainer(seed=0, **settings):
    return Trainer(Network([6, 16, 3], seed=seed), **({"batch_size": 10, "optimizer": SGD(0.1)} | settings))


def noise(n=200):
    """Nothing to be learned: the validation's loss soon rises."""
    draw = np.random.default_rng(0)
    return draw.normal(size=(n, 6)), draw.integers(0, 3, n)


def test_a_function_is_called_after_each_epoch():
    seen = []
    X, y = data()
    note = [lambda fit: seen.append((fit.epoch, fit.step, fit.epoch_ends, fit.loss))]
    history = trainer().fit(X, y, 3, callbacks=note)
    assert [entry[:3] for entry in seen] == [(1, 10, True), (2, 20, True), (3, 30, True)]
    assert [entry[3] for entry in seen] == history.loss
    assert history.stopped == ""


@pytest.mark.parametrize("every", [1, 3, 10, 7, 25, 100])
def test_every_so_many_steps(every):
    """Counted on from epoch to epoch; and to the same bits as without."""
    X, y = data()
    seen, one, other = [], trainer(), trainer()
    one.fit(X, y, 3, callbacks=[Every(every, lambda fit: seen.append(fit.step))])
    other.fit(X, y, 3)
    assert seen == list(range(every, 31, every))
    assert (one.network.theta == other.network.theta).all()


def test_the_loss_within_an_epoch():
    X, y = data()
    seen, one = [], trainer()
    history = one.fit(X, y, 1, callbacks=[Every(1, lambda fit: seen.append(fit.loss))])
    assert len(seen) == 10 and seen[-1] == history.loss[0]
    assert seen[0] == pytest.approx(np.log(3), abs=1)


def test_stop_in_the_middle_of_an_epoch():
    """The parameters are those of as many steps, and the next fit goes on with the next epoch."""
    X, y = data()
    one, other = trainer(), trainer()
    history = one.fit(X, y, 5, callbacks=[Every(13, lambda fit: fit.stop("enough"))])
    assert (history.stopped, len(history.loss), one.steps_done, one.epochs_done) == ("enough", 2, 13, 2)
    assert len(history.seconds) == 2
    thetas = []
    other.fit(X, y, 2, callbacks=[Every(13, lambda fit: thetas.append(fit.network.theta.copy()))])
    assert (one.network.theta == thetas[0]).all()
    assert one.fit(X, y).stopped == ""


def test_early_stopping_keeps_the_best():
    X, y = noise()
    losses, thetas = [], []

    def note(fit):
        losses.append(fit.history.validation_loss[-1])
        thetas.append(fit.network.theta.copy())

    one = trainer(optimizer=Adam(0.02))
    stopping = EarlyStopping(patience=3)
    history = one.fit(X, y, 60, validation_fraction=0.3, callbacks=[note, stopping])
    best = int(np.argmin(losses))
    assert history.stopped == "validation_loss has not improved for 3 epochs"
    assert len(losses) == best + 1 + 3 < 60
    assert (one.network.theta == thetas[best]).all()
    assert one.network.W[0].base is not None  # still views of theta
    first = len(history.loss)
    again = one.fit(X, y, 60, validation_fraction=0.3, callbacks=[stopping])  # remembers nothing of the first
    assert again.stopped and len(again.loss) <= first + 60
    last = trainer(optimizer=Adam(0.02))
    last.fit(X, y, 60, validation_fraction=0.3, callbacks=[EarlyStopping(patience=3, restore_best=False)])
    assert (last.network.theta == thetas[best + 3]).all()


def test_the_best_is_kept_whatever_ends_the_fit():
    X, y = noise()
    for error in (KeyboardInterrupt, ZeroDivisionError):
        one, thetas = trainer(optimizer=Adam(0.02)), []

        def interrupt(fit, error=error, thetas=thetas):
            thetas.append((fit.history.validation_loss[-1], fit.network.theta.copy()))
            if fit.epoch == 20:
                raise error

        with pytest.raises(error):
            one.fit(X, y, 60, validation_fraction=0.3, callbacks=[EarlyStopping(patience=50), interrupt])
        assert (one.network.theta == min(thetas, key=lambda pair: pair[0])[1]).all()


ENDS = {
    "SWA and the best": ([SWA(), EarlyStopping("loss")], {}, r"SWA \(the mean.*\) and EarlyStopping \(the best"),
    "the best and SWA": ([EarlyStopping("loss"), SWA()], {}, r"EarlyStopping \(.*\) and SWA \(.*\) each set"),
    "two bests": ([EarlyStopping("loss"), EarlyStopping("loss", 9)], {}, "EarlyStopping .* and EarlyStopping .* each"),
    "two means": ([SWA(), SWA(0.5)], {}, "SWA .* and SWA .* each set"),
    "SWA and a moving mean": ([SWA()], dict(ema=0.9), r"SWA .* and Trainer\(ema=0.9\) \(the moving mean\) each set"),
}


@pytest.mark.parametrize("case", ENDS)
def test_one_thing_decides_what_the_network_ends_with(case):
    """Others are refused when the fit begins, of batches too; beside each other are those that do not."""
    X, y = data()
    watchers, settings, message = ENDS[case]
    one = trainer(**settings)
    before = one.network.theta.copy()
    for fit in (lambda: one.fit(X, y, 3, callbacks=watchers), lambda: one.fit_batches([(X, y)], callbacks=watchers)):
        with pytest.raises(ValueError, match=message + ".*use only one of them, or EarlyStopping.restore_best=False"):
            fit()
    assert (one.network.theta == before).all() and one.steps_done == 0
    trainer().fit(X, y, 3, callbacks=[watchers[0], *(EarlyStopping("loss", 9, restore_best=False) for _ in range(2))])


def test_the_best_mean():
    """With Trainer(ema) the mean is what is validated, so the network ends with the best mean, and a further fit goes
    on from it."""
    X, y = noise()
    losses, thetas = [], []

    def note(fit):
        losses.append(fit.history.validation_loss[-1])
        thetas.append(fit.network.theta.copy())

    one = trainer(optimizer=Adam(0.02), ema=0.9)
    history = one.fit(X, y, 60, validation_fraction=0.3, callbacks=[note, EarlyStopping(patience=3)])
    best = int(np.argmin(losses))
    assert history.stopped and 0 < best < len(losses) - 1
    assert (one.network.theta == thetas[best]).all()
    plain, means = trainer(optimizer=Adam(0.02), ema=0.9), []
    plain.fit(X, y, best + 1, validation_fraction=0.3, callbacks=[lambda fit: means.append(fit.network.theta.copy())])
    assert (means[-1] == thetas[best]).all()
    again = one.fit(X, y, 1, validation_fraction=0.3)
    assert again.validation_loss[0] < 1.2 * losses[best]


def test_swa_of_a_fit_that_ends_before_its_mean_begins():
    """Leaves the last parameters; once it has begun, the mean of what there is."""
    X, y = data()
    for stop, first in ((3, None), (7, 5)):
        thetas = []

        def note(fit, stop=stop, thetas=thetas):
            thetas.append(fit.network.theta.astype(float))
            if fit.epoch == stop:
                fit.stop("enough")

        one = trainer()
        one.fit(X, y, 10, callbacks=[SWA(0.5), note])
        expected = thetas[-1] if first is None else np.mean(thetas[first:], axis=0)
        np.testing.assert_allclose(one.network.theta, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("watch", "better"), [("loss", False), ("validation_accuracy", True)])
def test_what_is_better(watch, better):
    """A smaller loss, a larger accuracy; by more than least_gain."""
    fit = callbacks.Fit(Network([2, 2]))
    values = [0.5, 0.55, 0.552, 0.549] if better else [0.5, 0.45, 0.448, 0.451]
    stopping = EarlyStopping(watch, patience=2, least_gain=0.01)
    stopping.begin(fit)
    stopped = []
    for value in values:
        getattr(fit.history, watch).append(value)
        stopping(fit)
        stopped.append(bool(fit.history.stopped))
    assert stopped == [False, False, False, True]


def test_reduce_on_plateau():
    """eta is 0 once the factor's bound is: so the parameters stay."""
    X, y = noise()
    one, thetas, factors = trainer(optimizer=Adam(0.02)), [], []

    def note(fit):
        thetas.append(fit.network.theta.copy())
        factors.append(fit.eta_factor)

    reduce = ReduceOnPlateau(patience=2, factor=0.1, least=0.05)
    one.fit(X, y, 30, validation_fraction=0.3, callbacks=[reduce, note])
    assert sorted(set(factors), reverse=True) == [1.0, 0.1, 0.05]
    changes = [np.abs(new - old).max() for old, new in zip(thetas, thetas[1:], strict=False)]
    first = factors.index(0.1)
    assert changes[first] < 0.4 * changes[first - 1]  # from the next epoch on
    assert one.fit(X, y, 1, callbacks=[note]).stopped == "" and factors[-1] == 1  # the next fit begins at 1


def test_stop_at():
    X, y = data(100)
    history = trainer(optimizer=Adam(0.01)).fit(X, y, 100, (X, y), callbacks=[StopAt("validation_accuracy", 0.9)])
    assert history.validation_accuracy[-1] >= 0.9 > max(history.validation_accuracy[:-1])
    assert history.stopped.startswith("validation_accuracy has reached 0.9")
    history = trainer(optimizer=Adam(0.02)).fit(X, y, 100, callbacks=[StopAt("loss", 0.5)])
    assert history.loss[-1] <= 0.5 < min(history.loss[:-1])


def test_time_budget():
    X, y = data(20_000)
    trainer().fit(X, y)  # compiled by now
    started = time.monotonic()
    history = trainer().fit(X, y, 100_000, callbacks=[TimeBudget(0.3)])
    assert 0.3 < time.monotonic() - started < 3
    assert history.stopped == "the time budget of 0.3 s is used up"


def test_logs(tmp_path):
    X, y = data()
    logs = [JSONLog(tmp_path / "log.jsonl"), CSVLog(tmp_path / "log.csv")]
    for _ in range(2):  # the second fit writes them anew
        history = trainer().fit(X, y, 3, (X, y), callbacks=logs)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3] and [line["step"] for line in lines] == [10, 20, 30]
    for name in ("loss", "validation_loss", "validation_accuracy"):
        assert [line[name] for line in lines] == getattr(history, name)
    assert lines[-1]["seconds"] == pytest.approx(sum(history.seconds))
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [{name: float(value) for name, value in row.items()} for row in rows] == [
        {name: float(value) for name, value in line.items()} for line in lines]
    plain = JSONLog(tmp_path / "plain.jsonl")
    trainer().fit(X, y, 1, callbacks=[plain])
    assert set(json.loads((tmp_path / "plain.jsonl").read_text())) == {"epoch", "step", "seconds", "loss"}


ODD = Metric("odd", lambda y, outputs: [np.nan, np.inf, -np.inf, 0.5][next(TURN) % 4])
TURN = iter(range(10**6))


def test_logs_of_what_is_no_number(tmp_path):
    """JSON knows no NaN: null; a table says nan and inf; and TensorBoard gets them as they are."""
    X, y = data()
    watchers = [JSONLog(tmp_path / "log.jsonl"), CSVLog(tmp_path / "log.csv"), callbacks.TensorBoardLog(tmp_path / "b")]
    logging.getLogger("tensorboardX").setLevel(logging.ERROR)
    history = trainer().fit(X, y, 4, (X, y), metrics=[ODD], callbacks=watchers)

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    lines = [json.loads(line, parse_constant=refuse) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    values = history.metrics["odd"]
    assert sum(math.isfinite(value) for value in values) == 1
    assert [line["odd"] for line in lines] == [value if math.isfinite(value) else None for value in values]
    frame = pandas.read_csv(tmp_path / "log.csv")
    assert np.array_equal(frame["odd"], values, equal_nan=True) and frame["loss"].tolist() == history.loss
    ((_, values_shown),) = [item for item in shown_by_tensorboard(tmp_path / "b").items() if item[0] == "odd"]
    assert np.array_equal([value for _, value in values_shown], values, equal_nan=True)


@pytest.mark.parametrize("kind", [JSONLog, CSVLog])
def test_a_log_goes_on(kind, tmp_path):
    """Of a fit that goes on from a checkpoint: a log begun later, with half a line, of later epochs, or none at all."""
    X, y = data()

    def run(name, stop=None, log=True):
        def maybe(fit):
            if fit.epoch == stop and fit.epoch_ends:
                raise KeyboardInterrupt
        watchers = [kind(tmp_path / f"{name}.log")] if log else []
        watchers += [maybe, Checkpoint(tmp_path / name, 1e9 if stop is None else 0, resume=True)]
        with contextlib.suppress(KeyboardInterrupt):
            trainer().fit(X, y, 6, (X, y), metrics=["f1"], callbacks=watchers)
        path = tmp_path / f"{name}.log"
        return path, epochs_in(path) if path.exists() else None

    assert run("whole")[1] == [1, 2, 3, 4, 5, 6]
    path, first = run("one", 4)  # killed after the line, before the checkpoint
    assert first == [1, 2, 3, 4]
    with path.open("a") as file:
        file.write('{"epoch": 5' if kind is JSONLog else "5,50")
    assert run("one")[1] == [1, 2, 3, 4, 5, 6]
    assert run("late", 3, log=False)[1] is None
    path, first = run("late", 5)
    assert first == [3, 4, 5]  # epoch 3 was not in a checkpoint
    assert run("late")[1] == [3, 4, 5, 6]
    run("lost", 4)
    os.unlink(tmp_path / "lost.log")
    assert run("lost")[1] == [4, 5, 6]
    (tmp_path / "whole.log").write_bytes(b"\xff\x00 another file\n")
    assert run("whole")[1] == []


def epochs_in(path):
    lines = path.read_text().splitlines()
    if not lines or lines[0].startswith("{"):
        return [json.loads(line)["epoch"] for line in lines]
    return [int(row["epoch"]) for row in csv.DictReader(lines)]


def test_a_log_into_a_device(capfd):
    """Or a pipe; it has one heading."""
    X, y = data()
    trainer().fit(X, y, 3, callbacks=[CSVLog("/dev/stdout")])
    lines = capfd.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch", "1", "2", "3"]
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        trainer().fit(X, y, 3, callbacks=[CSVLog("/dev/full")])


@pytest.mark.parametrize("stratify", [False, True])
@pytest.mark.parametrize("fraction", [0.1, 1 / 3, 0.9])
def test_validation_fraction(fraction, stratify, monkeypatch):
    """The rest is trained on, and nothing else: as if the samples had been taken apart before."""
    X, y = data(103)
    one = trainer()
    X[:, 5] = np.arange(103)  # no two alike
    seen = []
    original = validation.outputs_of
    monkeypatch.setattr(validation, "outputs_of", lambda trainer, data: seen.append((data.x.array, data.t.array))
                        or original(trainer, data))
    history = one.fit(X, y, 2, validation_fraction=fraction, stratify=stratify)
    assert len(history.validation_loss) == len(history.validation_accuracy) == 2
    kept = seen[0][0][:, 5].astype(int)
    assert len(kept) == len(set(kept)) == round(103 * fraction)
    assert (seen[0][0] == X[kept]).all() and (seen[0][1] == y[kept]).all()
    if stratify:
        counts = np.bincount(y[kept], minlength=3)
        assert (np.abs(counts - fraction * np.bincount(y, minlength=3)) <= 1).all()
    rest = np.setdiff1d(np.arange(103), kept)
    other = trainer()
    other.fit(X[rest], y[rest], 2)
    assert (one.network.theta == other.network.theta).all()


WRONG = [
    ({"validation_fraction": 0.0}, ValueError, r"validation_fraction must be in \(0, 1\), got 0.0"),
    ({"validation_fraction": 1.0}, ValueError, r"validation_fraction must be in \(0, 1\), got 1.0"),
    ({"validation_fraction": "half"}, TypeError, "validation_fraction must be a number, got 'half'"),
    ({"validation_fraction": 0.001}, ValueError, "validation_fraction 0.001 of 95 samples leaves none for validation"),
    ({"validation_fraction": 0.999}, ValueError, "validation_fraction 0.999 of 95 samples leaves none for training"),
    ({"validation_fraction": 0.1, "validation_data": (1, 2)}, ValueError, "not both"),
    ({"callbacks": ["early"]}, TypeError, "callbacks must be functions, got 'early'"),
    ({"callbacks": [EarlyStopping()]}, ValueError, "no validation_loss to watch: this fit has loss and no val"),
]


@pytest.mark.parametrize(("settings", "kind", "message"), WRONG)
def test_what_fit_refuses(settings, kind, message):
    X, y = data()
    one = trainer()
    before = one.network.theta.copy()
    with pytest.raises(kind, match=message):
        one.fit(X, y, 1, **settings)
    assert (one.network.theta == before).all()  # no step was made


@pytest.mark.parametrize("assigned", [{"optimizer": SGD(1e-9)}, {"schedule": lambda step, steps: 0.0},
                                      {"optimizer": SGD(0.1, weight_decay=0.5)}], ids=["eta", "schedule", "decay"])
def test_what_a_callback_assigns_counts_from_the_next_step(assigned):
    """Within an epoch, too, as if the fit had ended there and another begun."""
    X, y = data(100)

    def change(fit):
        seen.append(fit.network.theta.copy())
        if fit.step == 5:
            for name, value in assigned.items():
                setattr(one, name, value)

    seen, one = [], Trainer(Network([6, 8, 3], seed=1), optimizer=SGD(0.1), batch_size=10)
    one.fit(X, y, 1, callbacks=[Every(1, change)])
    moved = [float(np.abs(after - before).max()) for before, after in itertools.pairwise(seen)]
    if "weight_decay=0.5" in repr(assigned):
        assert min(moved) > 1e-4 and np.linalg.norm(seen[-1]) < np.linalg.norm(seen[4])
    else:
        assert min(moved[:4]) > 1e-4 and max(moved[4:]) < 1e-7


@pytest.mark.parametrize("nested", [lambda one, X, y: one.partial_fit(X[:10], y[:10]),
                                    lambda one, X, y: one.step(X[:10], y[:10]),
                                    lambda one, X, y: one.fit(X[:10], y[:10], 1)], ids=["partial_fit", "step", "fit"])
def test_training_in_a_callback_beside_a_mean(nested):
    """The outer fit goes on from the parameters, not from their mean: as without one."""
    X, y = data(100)
    thetas = []
    for ema in (None, 0.5):
        one = Trainer(Network([6, 8, 3], seed=1), optimizer=SGD(0.1), batch_size=10, ema=ema)
        one.fit(X, y, 2, callbacks=[Every(5, lambda fit, one=one: nested(one, X, y))])
        one.hold_mean(False)
        thetas.append(one.network.theta.copy())
    assert (thetas[0] == thetas[1]).all()


@pytest.mark.parametrize("change", [{"optimizer": SGD(1e4)}, {"clip_norm": None, "optimizer": SGD(1e4)}], ids=str)
def test_divergence_after_a_callback_has_changed_settings(change):
    """What came before it was made with others: it is not made again, and its parameters stay."""
    X, y = data(300)

    def assign(fit):
        if fit.step == 50:
            for name, value in change.items():
                setattr(one, name, value)
            before.append(one.evaluate(X, X[:, :1])[0])

    net = Network([6, 8, 1], output="identity", seed=1)
    before, one = [], Trainer(net, optimizer=SGD(0.01), batch_size=3, clip_norm=1.0 if "clip_norm" in change else None)
    with pytest.raises(DivergenceError, match=r"epoch 1, step (5\d|6\d) of 100, at a learning rate of 1e\+04"):
        one.fit(X, X[:, :1], 1, callbacks=[Every(10, assign)])
    assert one.steps_done >= 50


@pytest.mark.parametrize("nested", [lambda one, X, y: one.partial_fit(X, y), lambda one, X, y: one.step(X, y),
                                    lambda one, X, y: one.step(X.tolist(), y.tolist()),
                                    lambda one, X, y: one.fit(X, y, 1)],
                         ids=["partial_fit", "step", "step of lists", "fit"])
def test_divergence_after_training_in_a_callback(nested):
    """The steps before it are not made again without it: the parameters left are those of the step that failed."""
    X, y = data(300)
    X = X.astype("f4")
    y = X[:, :1].copy()

    def train(fit):
        if fit.step == 20:
            nested(one, X[:3], y[:3])
        seen.append((fit.network.theta.copy(), one.steps_done))

    seen, one = [], Trainer(Network([6, 8, 1], output="identity", seed=1), optimizer=SGD(0.01), batch_size=3,
                            schedule=lambda step, steps: 1.0 if step < 60 else 1e30)
    with pytest.raises(DivergenceError, match="step 6[1-9] of 100"):
        one.fit(X, y, 1, callbacks=[Every(1, train)])
    assert any(steps == one.steps_done and (theta == one.network.theta).all() for theta, steps in seen)


def test_a_fit_in_a_callback_is_in_the_history():
    X, y = data(60)
    one = trainer()
    one.fit(X, y, 3, callbacks=[lambda fit: one.fit(X[:30], y[:30], 2) and None])
    assert one.epochs_done == len(one.history.loss) == 9


def test_names_of_keras_to_watch():
    X, y = data()
    for name, own in (("val_loss", "validation_loss"), ("val_accuracy", "validation_accuracy")):
        stops = StopAt(name, -1.0)
        trainer().fit(X, y, 1, validation_fraction=0.2, callbacks=[stops, EarlyStopping(name), ReduceOnPlateau(name)])
        assert stops.watch == own


def test_values_have_no_classes():
    X, _ = data()
    with pytest.raises(ValueError, match="stratify=True needs labels, but y holds values"):
        Trainer(Network([6, 1], output="identity")).fit(X, X[:, 0], 1, validation_fraction=0.2, stratify=True)
    with pytest.raises(ValueError, match="no validation_accuracy to watch: this fit has loss, validation_loss and no"):
        Trainer(Network([6, 1], output="identity")).fit(X, X[:, 0], 1, validation_fraction=0.2,
                                                        callbacks=[StopAt("validation_accuracy", 1)])


@pytest.mark.parametrize(("make", "kind", "message"), [
    (lambda: EarlyStopping(3), TypeError, "watch must be a name: loss, .* or the name of a metric, got 3"),
    (lambda: EarlyStopping(patience=0), ValueError, "patience must be at least 1, got 0"),
    (lambda: EarlyStopping(least_gain=-1), ValueError, "least_gain must be a finite number >= 0, got -1"),
    (lambda: ReduceOnPlateau(factor=1.0), ValueError, r"factor must be in \(0, 1\), got 1.0"),
    (lambda: ReduceOnPlateau(least=1), ValueError, r"least must be in \[0, 1\), got 1"),
    (lambda: TimeBudget(0), ValueError, "seconds must be a finite number > 0, got 0"),
    (lambda: Every(0, print), ValueError, "steps must be at least 1, got 0"),
    (lambda: JSONLog("nowhere/log.jsonl"), FileNotFoundError, "there is no folder nowhere"),
])
def test_what_callbacks_refuse(make, kind, message):
    with pytest.raises(kind, match=message):
        make()


@pytest.mark.filterwarnings("ignore::fastbp.TrainingWarning")
def test_divergence_before_a_stop_is_seen():
    """A fit that is stopped within an epoch does not leave parameters that are not finite."""
    X, y = data()
    one = trainer(optimizer=SGD(1e30))
    with pytest.raises(DivergenceError):
        one.fit(X * 1e10, y, 3, callbacks=[Every(1, lambda fit: fit.stop("at once"))])
    assert np.isfinite(one.network.theta).all()


def test_callbacks_are_pickled():
    for callback in (EarlyStopping(), ReduceOnPlateau(), StopAt("loss", 1), TimeBudget(1)):
        assert vars(pickle.loads(pickle.dumps(callback))).keys() == vars(callback).keys()


def shown_by_tensorboard(folder):
    """By name, pairs of epoch and value in the one file of a folder."""
    from tensorboardX.proto.event_pb2 import Event

    (file,) = folder.iterdir()
    content, seen = file.read_bytes(), {}
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        event = Event.FromString(content[12 : 12 + length])
        for value in event.summary.value:
            seen.setdefault(value.tag, []).append((event.step, value.simple_value))
        content = content[16 + length :]
    return seen


def test_tensorboard(tmp_path, monkeypatch):
    """What it shows is the history, epoch by epoch; of a run that goes on, nothing comes twice."""
    X, y = data(95)
    history = trainer().fit(X, y, 4, (X, y), metrics=["f1"], callbacks=[callbacks.TensorBoardLog(tmp_path / "board")])
    seen = shown_by_tensorboard(tmp_path / "board")
    expected = {"loss": history.loss, "validation_loss": history.validation_loss,
                "validation_accuracy": history.validation_accuracy, "f1": history.metrics["f1"]}
    assert seen == {name: [(i + 1, pytest.approx(value)) for i, value in enumerate(each)]
                    for name, each in expected.items()}
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r'needs tensorboardX: pip install "fastbp\[tensorboard\]"'):
        callbacks.TensorBoardLog(tmp_path)


def test_tensorboard_keeps_what_earlier_fits_of_the_same_second_have_written(tmp_path):
    X, y = data(95)
    started = time.time()
    for fits in range(1, 6):
        one = trainer()
        one.fit(X, y, 2, callbacks=[callbacks.TensorBoardLog(tmp_path)])
        assert len(list(tmp_path.iterdir())) == fits
    assert time.time() - started < 5  # some of them began in the same second
    files = sorted(tmp_path.iterdir())
    assert files == sorted(files, key=lambda file: file.stat().st_mtime_ns)


@pytest.mark.parametrize(("start", "first"), [(0.0, 0), (0.5, 4), (0.75, 6), (0.99, 7)])
def test_swa(start, first):
    """The mean of the parameters after the epochs that come after the share; training itself is as without."""
    X, y = data()
    one, other, thetas = trainer(), trainer(), []
    one.fit(X, y, 8, callbacks=[SWA(start), lambda fit: thetas.append(fit.network.theta.astype(float))])
    np.testing.assert_allclose(one.network.theta, np.mean(thetas[first:], axis=0), rtol=1e-5, atol=1e-7)
    other.fit(X, y, 8)
    assert (other.network.theta == thetas[-1]).all()


def test_nan_is_never_better():
    """Of a metric that has no value at first, say."""
    stopping, fit = EarlyStopping("value", patience=9), callbacks.Fit(Network([2, 2]), available={"value": True})
    stopping.begin(fit)
    fit.history.metrics["value"] = []
    for value, waited in ((np.nan, 1), (1.0, 0), (np.nan, 1), (2.0, 0), (1.5, 1)):
        fit.history.metrics["value"].append(value)
        stopping(fit)
        assert stopping.better.waited == waited


def test_infinitely_bad_is_no_gain():
    """Of a metric that overflows: only the first such epoch is the best so far."""
    X, y = data()
    for value, epochs in ((math.inf, 3), (math.nan, 2)):
        metric = Metric("perplexity", lambda y, outputs, value=value: value, False)
        stopping = EarlyStopping("perplexity", patience=2)
        history = trainer().fit(X, y, 9, validation_data=(X, y), metrics=[metric], callbacks=[stopping])
        assert len(history.loss) == epochs and history.stopped


def history_of(n=12, stopped=""):
    return History([1 / i for i in range(1, n + 1)], [abs(i - 9) + 0.5 for i in range(1, n + 1)],
                   [i / 100 for i in range(1, n + 1)],
                   {"f1": [math.nan, *(0.1 * (i % 5) for i in range(2, n + 1))], "own <b>": [1.0] * n},
                   [0.5] * n, [1000] * n, stopped)


def test_a_history_as_a_frame(monkeypatch):
    """A row an epoch, counted from 1; of an interrupted epoch what is missing is NaN."""
    X, y = data()
    history = trainer().fit(X, y, 3, (X, y), metrics=["f1"])
    frame = history.to_frame()
    assert list(frame) == ["loss", "validation_loss", "validation_accuracy", "f1", "seconds", "samples"]
    assert frame.index.name == "epoch" and frame.index.tolist() == [1, 2, 3]
    for name in ("loss", "validation_loss", "validation_accuracy", "seconds", "samples"):
        assert frame[name].tolist() == getattr(history, name)
    assert frame["f1"].tolist() == history.metrics["f1"] and frame["samples"].dtype.kind == "i"
    assert list(trainer().fit(X, y, 1).to_frame()) == ["loss", "seconds", "samples"]
    history.validation_loss.pop()
    assert math.isnan(history.to_frame()["validation_loss"][3]) and len(history.to_frame()) == 3
    assert len(History().to_frame()) == 0
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="to_frame needs pandas: pip install pandas"):
        history.to_frame()


def test_a_history_as_a_picture(tmp_path, monkeypatch):
    """What is returned shows itself in a notebook; its lines are the history's numbers."""
    history = history_of()
    figure = history.plot(tmp_path / "picture.svg")
    assert isinstance(figure, matplotlib.figure.Figure) and "<svg" in (tmp_path / "picture.svg").read_text()
    assert figure._repr_png_().startswith(b"\x89PNG") and "base64,iVBOR" in figure._repr_html_()
    shown = {line.get_label(): line.get_ydata() for axes in figure.axes for line in axes.lines}
    assert {name: list(each) for name, each in shown.items() if name != "f1"} == {
        name: each for name, each in history.values().items() if name != "f1"}
    assert [len(axes.lines) for axes in figure.axes] == [2, 3]
    assert [len(axes.lines) for axes in History([0.5]).plot().axes] == [1]
    History().plot(str(tmp_path / "none.png"))
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        history.plot(tmp_path / "nowhere" / "picture.png")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'plot needs matplotlib: pip install "fastbp\[plot\]"'):
        history.plot()


def test_a_history_in_a_terminal():
    """The first epochs, the last and the best, aligned; a few lines however long it was."""
    lines = repr(history_of(1000, "enough")).splitlines()
    assert lines[0] == "History of 1,000 epochs: 1,000,000 samples in 500 s of training"
    assert lines[1].split(maxsplit=4) == ["epoch", "loss", "validation_loss", "validation_accuracy", "f1  own <b>"]
    assert [line.split()[0] for line in lines[2:]] == [
        "1", "2", "...", *map(str, range(993, 1001)), "best", "stopped:"]
    assert lines[-2].split() == ["best", "0.001", "0.5", "10", "0.4"]
    assert len({len(line) for line in lines[1:-2]}) == 1 and lines[-1] == "stopped: enough"
    assert repr(History()) == "History of 0 epochs: 0 samples in 0 s of training"
    assert len(repr(history_of(1)).splitlines()) == 3 and repr(history_of(1)).startswith("History of 1 epoch: ")
    assert len(repr(history_of(10)).splitlines()) == 13 and "..." not in repr(history_of(10))


def test_a_history_in_a_notebook():
    shown = history_of(12, "a < b")._repr_html_()
    assert shown.count("<tr>") == 1 + 11 + 1 and "<th>own &lt;b&gt;</th>" in shown and "stopped: a &lt; b" in shown
    assert "<table" not in History()._repr_html_()
    assert re.sub(r"</?(table|thead|tbody|tr|th|td|p)>", "", shown).count("<") == 0


def test_a_history_is_its_numbers():
    """Equal to another of the same ones; and all of it is what vars gives, as JSON can hold it."""
    one, other = history_of(3), history_of(3)
    one.metrics["f1"][0] = other.metrics["f1"][0] = 0.0
    assert one == other != history_of(4) and History(**json.loads(json.dumps(vars(one)))) == one
    assert list(vars(one)) == ["loss", "validation_loss", "validation_accuracy", "metrics", "seconds", "samples",
                               "stopped"]
