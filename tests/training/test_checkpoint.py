"""Checkpoints: a fit that was stopped anywhere, or killed, goes on to the same bits; what differs or is damaged."""

import contextlib
import functools
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

import numba
import numpy as np
import pytest
from rig import start
from safetensors.numpy import load_file

from fastbp import SGD, Adam, Network, Rprop, Trainer, checkpoint, losses, schedules
from fastbp.callbacks import SWA, Checkpoint, EarlyStopping, Every, JSONLog, ReduceOnPlateau, TimeBudget
from fastbp.core.threads.pace import Pace
from fastbp.data import Augmentation
from fastbp.training import loop, passes, validation
from fastbp.training.guard import Guard
from fastbp.training.state import State

N, EPOCHS = 430, 6
draw = np.random.default_rng(0)
X, Y = draw.normal(size=(N, 5)), draw.integers(0, 3, N)


class KilledError(Exception):
    pass


SETTINGS = {
    "adam": dict(optimizer=Adam(0.01), schedule="cosine"),
    "rprop": dict(optimizer=Rprop(), batch_size=N),
    "augmentation": dict(augmentation=Augmentation(1, 20, 0.1, 5, 0.5, shape=(1, 5)), noise=0.1),
    "all": dict(optimizer=SGD(0.1, 0.9, True), dropout=0.2, noise=0.1, clip_norm=0.5, max_norm=2.0, ema=0.9,
                schedule=schedules.WarmUp(0.2, schedules.OneCycle())),
}


def trained(folder, settings, kills=(), resume=False, watchers=list, epochs=EPOCHS, data=(X, Y), **more):
    """theta and history after a fit whose process, as it were, ends at each of the steps `kills`."""
    for kill in (*kills, None):
        chosen = dict(batch_size=20, seed=3) | settings

        def maybe_killed(fit, kill=kill):
            if fit.step == kill:
                raise KilledError

        trainer = Trainer(Network([5, 12, 3], seed=1), **chosen)
        every = [*watchers(), Checkpoint(folder, 0, resume=resume or bool(kills)), Every(1, maybe_killed)]
        try:
            history = trainer.fit(*data, epochs, callbacks=every, **more)
        except KilledError:
            continue
    return trainer.network.theta.tobytes(), history, trainer


def without_seconds(history):
    return {name: value for name, value in vars(history).items() if name != "seconds"}


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_same_bits(settings, tmp_path):
    """In the first step, at the end of an epoch, in the middle of one, twice in one, in the last step."""
    steps = EPOCHS * (1 if settings == "rprop" else -(-N // 20))
    kills = [1, steps // 6, steps // 6 + 1, steps // 2, steps // 2 + 2, steps]
    whole, history, one = trained(tmp_path / "whole", SETTINGS[settings])
    again, other, two = trained(tmp_path / "killed", SETTINGS[settings], kills)
    assert whole == again
    assert without_seconds(history) == without_seconds(other)
    assert len(other.seconds) == EPOCHS and min(other.seconds) > 0
    assert one.state.rows.tobytes() == two.state.rows.tobytes() and one.steps_done == two.steps_done == steps


def test_settings_are_text_that_names_no_module(tmp_path):
    """So that checkpoints written before a module was renamed or a class moved go on."""
    trained(tmp_path, dict(optimizer=Adam(0.001), loss=losses.CrossEntropy(0.1)), epochs=1)
    settings = checkpoint.read_newest(tmp_path)[1][1]["settings"]
    assert settings["optimizer"] == ("Adam(eta=0.001, weight_decay=0.0, decay_biases=False, l1=0.0, beta1=0.9, "
                                     "beta2=0.999, epsilon=1e-08)")
    assert settings["loss"] == "CrossEntropy(label_smoothing=0.1)"
    assert "fastbp." not in json.dumps(settings)


@pytest.mark.parametrize("mean", [True, False])
def test_callbacks_go_on(mean, tmp_path):
    """With what they knew: patience, the best, the mean, the learning rate; a log has each epoch once."""
    y = np.random.default_rng(7).integers(0, 3, N)  # nothing to be learned, so that patience ends

    def run(name, kills):
        def watchers():
            ends = [SWA(0.3), EarlyStopping(patience=9, restore_best=False)] if mean else [EarlyStopping(patience=9)]
            return [ReduceOnPlateau(patience=2, factor=0.5), JSONLog(tmp_path / f"{name}.jsonl"), *ends]

        theta, history, _ = trained(tmp_path / name, dict(optimizer=Adam(0.003)), kills, watchers=watchers, epochs=40,
                                    data=(X, y), validation_fraction=0.3)
        lines = (tmp_path / f"{name}.jsonl").read_text().splitlines()
        return theta, without_seconds(history), [json.loads(line)["loss"] for line in lines]

    whole = run("whole", ())
    assert whole == run("killed", [7, 40, 41, 110, 150])
    assert whole[1]["stopped"] and 10 < len(whole[2]) == len(whole[1]["loss"]) < 40


def test_a_time_budget_goes_on(tmp_path):
    whole, _, _ = trained(tmp_path / "whole", {}, epochs=40)
    stopped, history = 0, None
    while history is None or history.stopped:
        theta, history, _ = trained(tmp_path / "stopped", {}, resume=True, watchers=lambda: [TimeBudget(0.1)],
                                    epochs=40)
        stopped += history.stopped != ""
    assert theta == whole and stopped > 0 and len(history.loss) == 40


def test_a_finished_fit_stays(tmp_path):
    theta, history, _ = trained(tmp_path, {}, watchers=lambda: [EarlyStopping("loss", 2, least_gain=9.0)])
    again, other, trainer = trained(tmp_path, {}, resume=True,
                                    watchers=lambda: [EarlyStopping("loss", 2, least_gain=9.0)])
    assert again == theta and history == other and history.stopped
    assert trainer.epochs_done == 3


def test_resume_where_there_is_nothing_yet(tmp_path):
    assert trained(tmp_path / "a" / "b", {}, resume=True)[0] == trained(tmp_path / "other", {})[0]


def test_files(tmp_path):
    """As many as are to be kept, their step in the name; what a killed process left half-written goes."""
    (tmp_path / ".fastbp.half").touch()
    trained(tmp_path, {})
    steps = EPOCHS * -(-N // 20)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names[0] == ".lock" and names[-1] == f"step-{steps:012d}.safetensors" and len(names) == 3
    assert load_file(checkpoint.files(tmp_path)[-1])["theta"].shape == (Network([5, 12, 3]).n_parameters,)
    rare = tmp_path / "rare"
    trainer = Trainer(Network([5, 12, 3], seed=1))
    trainer.fit(X, Y, 3, callbacks=[Checkpoint(rare, seconds=1000, keep=5)])
    assert len(checkpoint.files(rare)) == 1  # the end


@pytest.mark.parametrize("damage", ["cut", "byte", "empty", "text"])
def test_a_damaged_checkpoint(damage, tmp_path, caplog):
    """The one before it counts, and one note says so."""
    whole, _, _ = trained(tmp_path / "whole", {})
    with pytest.raises(KilledError):
        Trainer(Network([5, 12, 3], seed=1), batch_size=20, seed=3).fit(
            X, Y, EPOCHS, callbacks=[Checkpoint(tmp_path / "run", 0), Every(1, stop_at(50))])
    before, newest = checkpoint.files(tmp_path / "run")
    content = bytearray(newest.read_bytes())
    if damage == "byte":
        content[-200] ^= 4
    newest.write_bytes({"cut": content[:-5], "byte": content, "empty": b"", "text": b"hello" * 9}[damage])
    again, _, _ = trained_with(tmp_path / "run")
    assert again == whole
    [note] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert note.startswith(f"{newest} is ") and note.endswith(f"it is set aside as {newest.name}.damaged")
    assert newest.with_name(newest.name + ".damaged").is_file()
    newest.with_name(newest.name + ".damaged").unlink()
    assert before.name < newest.name


def stop_at(step):
    def stop(fit):
        if fit.step == step:
            raise KilledError
    return stop


def never(fit):
    pass


def trained_with(folder, sizes=(5, 12, 3), data=(X, Y), epochs=EPOCHS, **changes):
    trainer = Trainer(Network(sizes, changes.pop("hidden", "relu"), dtype=changes.pop("dtype", "float32"), seed=1),
                      **dict(batch_size=20, seed=3) | changes)
    history = trainer.fit(*data, epochs, callbacks=[Checkpoint(folder, 0, resume=True), Every(1, never)])
    return trainer.network.theta.tobytes(), history, trainer


@pytest.mark.parametrize(("changes", "message"), [
    (dict(sizes=(5, 13, 3)), r"layer_sizes is \[5, 12, 3\] there, \[5, 13, 3\] here"),
    (dict(hidden="tanh"), "activations is "), (dict(dtype="float64"), "dtype is 'float32' there, 'float64' here"),
    (dict(batch_size=30), "batch_size is '20' there, '30' here"), (dict(seed=4), "seed is '3' there, '4' here"),
    (dict(optimizer=SGD(0.2)), r"optimizer is 'SGD\(eta=0.2, .*here"), (dict(epochs=7), "epochs is 6 there, 7 here"),
    (dict(schedule="cosine"), "schedule is 'WarmUp.* there, 'Cosine"), (dict(dropout=0.1), "dropout is "),
    (dict(loss=losses.CrossEntropy(0.1)), "loss is "), (dict(clip_norm=1.0, noise=0.1), "noise is .*; clip_norm is "),
    (dict(data=(X + 1e-9, Y)), "data is '[0-9a-f]{8}' there, '[0-9a-f]{8}' here"),
    (dict(data=(X, np.roll(Y, 1))), "data is "), (dict(data=(X[1:], Y[1:])), "samples is 430 there, 429 here"),
])
def test_another_fit_is_refused(changes, message, tmp_path):
    trained_with(tmp_path)
    files = checkpoint.files(tmp_path)
    with pytest.raises(ValueError, match=f"is of another fit: .*{message}"):
        trained_with(tmp_path, **changes)
    assert checkpoint.files(tmp_path) == files


def run_of(network, folder, stop=None, **settings):
    """A fit by a new trainer; returns what the network ends with."""
    trainer = Trainer(network, optimizer=Adam(0.01), batch_size=20, seed=3, **settings)
    trainer.fit(X, Y, EPOCHS, callbacks=[Checkpoint(folder, 0, resume=True), Every(1, stop_at(stop))])
    return network.theta.tobytes()


@pytest.mark.parametrize("stop", [30, None])
def test_a_network_that_begins_elsewhere_is_refused(stop, tmp_path):
    """It would get the parameters of the other one unasked; and it stays what it is, as the checkpoints do."""
    with contextlib.suppress(KilledError):
        run_of(Network([5, 12, 3], seed=1), tmp_path, stop)
    files, other = checkpoint.files(tmp_path), Network([5, 12, 3], seed=2)
    start = other.theta.copy()
    with pytest.raises(ValueError, match="of another fit: the fingerprint .* same seed; .* another folder"):
        run_of(other, tmp_path)
    assert (other.theta == start).all() and checkpoint.files(tmp_path) == files
    assert run_of(Network([5, 12, 3], seed=1), tmp_path) == run_of(Network([5, 12, 3], seed=1), tmp_path / "whole")


@pytest.mark.parametrize("settings", [{}, {"ema": 0.9}], ids=str)
def test_a_network_goes_on_from_where_it_is(settings, tmp_path):
    """As it does in a further call after a budget is over, in the same process; a later one begins with the seed."""
    network = Network([5, 12, 3], seed=1)
    for stop in (30, 60):
        trainer = Trainer(network, optimizer=Adam(0.01), batch_size=20, seed=3, **settings)
        trainer.fit(X, Y, EPOCHS, callbacks=[
            Checkpoint(tmp_path / "run", 0, resume=True),
            Every(1, lambda fit, stop=stop: fit.stop("enough") if fit.step == stop else None)])
        assert trainer.steps_done == stop
    for stop in (70, None):
        with contextlib.suppress(KilledError):
            theta = run_of(Network([5, 12, 3], seed=1), tmp_path / "run", stop, **settings)
    assert theta == run_of(Network([5, 12, 3], seed=1), tmp_path / "whole", **settings)
    assert run_of(network, tmp_path / "another") != theta
    with pytest.raises(ValueError, match="the fingerprint of the initial parameters"):
        run_of(Network([5, 12, 3], seed=2), tmp_path / "run", **settings)


def test_folders_whose_networks_began_apart_are_refused(tmp_path):
    for seed in (1, 2):
        with pytest.raises(KilledError):
            run_of(Network([5, 12, 3], seed=seed), tmp_path / str(seed), 30 * seed)
    for seed in (1, 2):
        with pytest.raises(ValueError, match="the fingerprint of the initial parameters"):
            Trainer(Network([5, 12, 3], seed=seed), optimizer=Adam(0.01), batch_size=20, seed=3).fit(
                X, Y, EPOCHS, callbacks=[Checkpoint(tmp_path / "1", 0, resume=True),
                                         Checkpoint(tmp_path / "2", 0, resume=True), Every(1, never)])


def test_a_checkpoint_that_does_not_say_where_its_network_began(tmp_path):
    """As older ones do not: it is gone on from."""
    with pytest.raises(KilledError):
        run_of(Network([5, 12, 3], seed=1), tmp_path / "run", 30)
    path, (tensors, known) = checkpoint.read_newest(tmp_path / "run")
    del known["start"]
    checkpoint.write(tmp_path / "run", known["step"], (tensors, known), 1)
    assert run_of(Network([5, 12, 3], seed=1), tmp_path / "run") == run_of(Network([5, 12, 3], seed=1),
                                                                          tmp_path / "whole")


def test_that_a_fit_is_resumed_is_logged(tmp_path, caplog):
    with caplog.at_level("INFO", "fastbp"):
        with pytest.raises(KilledError):
            run_of(Network([5, 12, 3], seed=1), tmp_path, 30)
        assert caplog.messages == []
        [*_, path] = checkpoint.files(tmp_path)
        run_of(Network([5, 12, 3], seed=1), tmp_path)
    assert caplog.messages == [f"resumed from {path}: 1 of 6 epochs were done"]


@pytest.mark.parametrize(("watchers", "fit", "message"), [
    ([EarlyStopping("validation_accuracy", 3)], {}, r"callbacks is \[\['EarlyStopping', 'loss', 3, 0.0, True\]\]"),
    ([EarlyStopping("loss", 4)], {}, "callbacks is "), ([], {}, "callbacks is "),
    ([SWA(), EarlyStopping("loss", 3, restore_best=False)], {}, "callbacks is "),
    ([EarlyStopping("loss", 3)], dict(metrics=["f1"]), r"metrics is \[\] there, \['f1'\] here"),
    ([EarlyStopping("loss", 3)], dict(validation_data=None), "data is "),
    ([EarlyStopping("loss", 3)], dict(validation_data=(X[1:], Y[1:])), "data is "),
])
def test_another_way_to_watch_is_refused(watchers, fit, message, tmp_path):
    """But a log or a budget of seconds may come and go; and the trainer is what it was."""
    def run(watchers, stop=None, **fit):
        trainer = Trainer(Network([5, 12, 3], seed=1), batch_size=20)
        before = trainer.network.theta.copy()
        try:
            trainer.fit(X, Y, **{"epochs": 3, "validation_data": (X, Y)} | fit, callbacks=[
                *watchers, Checkpoint(tmp_path, 0, resume=True), Every(1, stop_at(stop))])
        except (ValueError, KilledError):
            assert stop is not None or ((trainer.network.theta == before).all() and trainer.steps_done == 0)
            raise

    with pytest.raises(KilledError):
        run([EarlyStopping("loss", 3), TimeBudget(100)], 30)
    with pytest.raises(ValueError, match=message):
        run(watchers, **fit)
    with pytest.raises(ValueError, match="there is no nope to watch|callbacks is "):
        run([EarlyStopping("nope", 3)])
    run([EarlyStopping("loss", 3), JSONLog(tmp_path / "log")])


def test_other_versions_are_refused(tmp_path, monkeypatch):
    trained_with(tmp_path)
    monkeypatch.setattr("fastbp.__version__", "9.9")
    with pytest.raises(ValueError, match="fastbp is '0.1.0' there, '9.9' here"):
        trained_with(tmp_path)
    monkeypatch.setattr(checkpoint, "FORMAT", "fastbp-checkpoint-3")
    with pytest.raises(ValueError, match="has the format 'fastbp-checkpoint-2', expected 'fastbp-checkpoint-3'"):
        trained_with(tmp_path)


def test_functions_have_no_address(tmp_path):
    """Nor a name that counts: what they do is compared."""
    for schedule in (own_schedule(), own_schedule(), lambda step, steps: (1 + step) ** -1.0):
        trained_with(tmp_path, schedule=schedule)
    assert " at 0x" not in str(checkpoint.read_newest(tmp_path)[1][1])


def own_schedule():
    return lambda step, steps: 1 / (1 + step)


def own_factor(factor, step, steps):
    return factor


class OwnSchedule(schedules.Schedule):
    """Its text is always the same."""

    def __init__(self, factor):
        object.__setattr__(self, "factor", factor)

    def factors(self, step, steps):
        return np.full(len(step), self.factor)


def scaled(share):
    """A loss whose functions all have one name."""
    def loss(z, a, t, delta):
        delta[:] = share * (a - t)
        return share * ((a - t) ** 2).sum() / 2
    return loss


@pytest.mark.parametrize(("name", "one", "other"), [
    ("schedule", lambda step, steps: 1.0, lambda step, steps: 0.0),
    ("schedule", functools.partial(own_factor, 0.5), functools.partial(own_factor, 0.25)),
    ("schedule", schedules.WarmUp(0.1, lambda step, steps: 1.0), schedules.WarmUp(0.1, lambda step, steps: 0.5)),
    ("schedule", OwnSchedule(0.5), OwnSchedule(0.25)),
    ("schedule", lambda step, steps: 1.0 if step < 80 else 0.1, lambda step, steps: 1.0),
    ("loss", losses.Custom(scaled(1.0)), losses.Custom(scaled(0.5))),
    ("loss", losses.Custom(numba.njit(scaled(1.0))), losses.Custom(numba.njit(scaled(0.5)))),
])
def test_functions_are_told_by_what_they_do(name, one, other, tmp_path):
    """Those of one name too, in a schedule or a loss of one's own; and the same function goes on."""
    def run(chosen, stop=None):
        trainer = Trainer(Network([5, 6, 3], output="softmax", seed=1), batch_size=20, **{name: chosen})
        trainer.fit(X, Y, 4, callbacks=[Checkpoint(tmp_path, 0, resume=True), Every(1, stop_at(stop))])

    with pytest.raises(KilledError):
        run(one, 30)
    with pytest.raises(ValueError, match=f"is of another fit: {name} is '.*' there, '.*' here; if a callback has ass"):
        run(other)
    run(one)


def test_a_function_that_cannot_be_called_is_told_by_its_name():
    def broken(step, steps):
        raise ZeroDivisionError

    assert checkpoint.name_of_schedule(broken, 10).endswith("broken>")
    assert "lambda" in checkpoint.name_of_loss(losses.Custom(lambda z: 1), 3, np.dtype("f4"))
    assert checkpoint.name_of_schedule(schedules.Cosine(cycles=2), 10) == "Cosine(cycles=2, growth=1.0, end=0.0)"


def test_a_folder_in_use(tmp_path):
    """Is refused before anything is changed: the log of the run before stays."""
    log = JSONLog(tmp_path / "log")
    trained(tmp_path / "one", {}, watchers=lambda: [log])
    written = (tmp_path / "log").read_text()
    with pytest.raises(FileExistsError):
        trained(tmp_path / "one", {}, watchers=lambda: [log])
    assert (tmp_path / "log").read_text() == written != ""
    trained(tmp_path, {})
    with pytest.raises(FileExistsError, match="holds checkpoints of a fit; go on from them .* or name another folder"):
        trained(tmp_path, {})
    with pytest.raises(NotADirectoryError, match="log is a file; checkpoints need a folder of their own"):
        trained(tmp_path / "log", {})
    trainer = trained_with(tmp_path / "twice")[2]
    with pytest.raises(ValueError, match="first epoch is 0 there, 6 here"):
        trainer.fit(X, Y, EPOCHS, callbacks=[Checkpoint(tmp_path / "twice", 0, resume=True), Every(1, never)])


def test_a_folder_in_which_another_fit_writes(tmp_path):
    """Is refused, in another thread of the process too, and the first goes on; free again once it has ended."""
    whole, _, _ = trained(tmp_path / "whole", {})
    seen = []

    def second(fit):
        if fit.step == 50:
            for resume in (False, True):
                def begin(resume=resume):
                    with pytest.raises(BlockingIOError, match=f"another fit is writing checkpoints in {tmp_path}"):
                        trained(tmp_path / "run", {}, resume=resume)
                    seen.append(resume)
                thread = threading.Thread(target=begin)
                thread.start()
                thread.join()

    theta, _, _ = trained(tmp_path / "run", {}, watchers=lambda: [Every(1, second)])
    assert theta == whole and seen == [False, True]
    with pytest.raises(ValueError, match="of another fit"):  # which lets go, too
        trained_with(tmp_path / "run", seed=9)
    with pytest.raises(BlockingIOError):  # as two callbacks of one fit would
        Trainer(Network([5, 3]), batch_size=20).fit(X, Y, callbacks=[Checkpoint(tmp_path / "two"),
                                                                       Checkpoint(tmp_path / "two")])
    assert trained(tmp_path / "run", {}, resume=True)[0] == whole


HOLDING = """
import os, sys, time
import numpy as np
from fastbp import Network, Trainer
from fastbp.callbacks import Checkpoint, Every

def stand(fit):
    if fit.step == 30:
        child = os.fork()  # it lives on when its parent is killed, and must not hold the folder
        if child:
            print(child, flush=True)
        time.sleep(100)

draw = np.random.default_rng(0)
X, Y = draw.normal(size=(430, 5)), draw.integers(0, 3, 430)
trainer = Trainer(Network([5, 12, 3], seed=1), batch_size=20, seed=3, threads=1)
trainer.fit(X, Y, 6, callbacks=[Checkpoint(sys.argv[1], 0), Every(1, stand)])
"""


def test_a_killed_fit_lets_go(tmp_path):
    """At once, though a process that it has forked lives on: the folder is held from process to process until then."""
    whole, _, _ = trained(tmp_path / "whole", {})
    process = subprocess.Popen([sys.executable, "-c", HOLDING, tmp_path / "run"], stdout=subprocess.PIPE, text=True)
    child = int(process.stdout.readline())  # which has the other end of that pipe, too
    try:
        with pytest.raises(BlockingIOError, match="another fit is writing"):
            trained_with(tmp_path / "run")
        process.kill()
        process.wait()
        process.stdout.close()
        os.kill(child, 0)  # alive
        assert trained_with(tmp_path / "run")[0] == whole
    finally:
        process.kill()
        os.kill(child, signal.SIGKILL)


def test_two_folders(tmp_path):
    """A fit goes on from the checkpoint of most steps, and writes to both."""
    whole, _, _ = trained(tmp_path / "whole", {})

    def run(stop, *seconds):
        trainer = Trainer(Network([5, 12, 3], seed=1), batch_size=20, seed=3)
        trainer.fit(X, Y, EPOCHS, callbacks=[*(Checkpoint(tmp_path / str(i), each, resume=True)
                                               for i, each in enumerate(seconds)), Every(1, stop_at(stop))])
        return trainer.network.theta.tobytes()

    with pytest.raises(KilledError):
        run(30, 0, 0)
    with pytest.raises(KilledError):
        run(60, 1000, 0)
    assert checkpoint.files(tmp_path / "0")[-1].name < checkpoint.files(tmp_path / "1")[-1].name
    assert run(None, 0, 0) == whole
    assert [path.name for path in checkpoint.files(tmp_path / "0")] == [
        path.name for path in checkpoint.files(tmp_path / "1")]


def test_any_damaged_bit_of_a_header(tmp_path, capsys):
    """Sets the file aside, or says what it is: names, shapes and texts are looked at, not the numbers alone."""
    tensors = {"theta": np.arange(3, dtype="f4"), "state": np.zeros((2, 3), "f4")}
    path = checkpoint.write(tmp_path, 1, (tensors, {"step": 1}), 2)
    content = path.read_bytes()
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            found = checkpoint.read_newest(tmp_path)
        except ValueError as error:
            assert "has the format 'fastbp-checkpoint-" in str(error)
            continue
        assert found is None or all((found[1][0][name] == each).all() for name, each in tensors.items()), bit
    capsys.readouterr()


@pytest.mark.parametrize(("settings", "kind", "message"), [
    (dict(seconds=-1), ValueError, "seconds must be a finite number >= 0, got -1"),
    (dict(seconds="1"), TypeError, "got '1'"), (dict(keep=0), ValueError, "keep must be at least 1, got 0"),
    (dict(resume="no"), TypeError, "resume must be True or False, got 'no'"),
])
def test_what_is_refused(settings, kind, message, tmp_path):
    with pytest.raises(kind, match=message):
        Checkpoint(tmp_path, **settings)


def test_a_large_array_is_told_by_some_of_its_samples(monkeypatch):
    monkeypatch.setattr(checkpoint, "HASHED", 800)
    x = np.zeros((1000, 10))
    first = checkpoint.fingerprint(x)
    x[0] = 1
    assert checkpoint.fingerprint(x) != first != checkpoint.fingerprint(x[:999])


SCRIPT = """
import sys
import numpy as np
from fastbp import Adam, Network, Trainer
from fastbp.callbacks import Checkpoint

draw = np.random.default_rng(0)
X, y = draw.normal(size=(20000, 30)), draw.integers(0, 3, 20000)
network = Network([30, 64, 64, 3], seed=1)
trainer = Trainer(network, optimizer=Adam(0.003), batch_size=32, schedule="cosine", dropout=0.2, ema=0.99)
trainer.fit(X, y, 200, validation_data=(X, y), callbacks=[Checkpoint(sys.argv[1], 0, resume=True)])
print(network.theta.tobytes().hex())
"""


@pytest.mark.slow
def test_killed_at_any_moment(tmp_path):
    """By the system, again and again, as it writes or computes: the bits of a fit that was left alone."""
    whole, errors = start(SCRIPT, tmp_path / "whole").communicate(timeout=300)
    assert len(whole) > 1000, errors
    draw, killed = random.Random(0), 0
    while True:
        before, process = checkpoint.files(tmp_path / "killed"), start(SCRIPT, tmp_path / "killed")
        while killed < 8 and process.poll() is None and checkpoint.files(tmp_path / "killed") == before:
            time.sleep(0.001)
        try:
            again, errors = process.communicate(timeout=draw.uniform(0, 0.4) if killed < 8 else 300)
            break
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            killed += 1
    assert again == whole, errors
    assert killed >= 3


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # where it comes while memory is freed
@pytest.mark.parametrize("settings", [{}, {"ema": 0.9, "dropout": 0.2}], ids=str)
def test_ctrl_c_keeps_a_checkpoint(settings, tmp_path):
    """Wherever it comes, the fit goes on to the same bits: from where it was, if that was within an epoch."""
    def fitted(folder=None, after=None):
        trainer = Trainer(Network([5, 12, 3], seed=1), None, Adam(0.01), 20, 3, schedule="linear", **settings)
        checkpoints = [] if folder is None else [Checkpoint(folder, seconds=1000, resume=True)]
        timer = threading.Timer(after or 0, signal.raise_signal, [signal.SIGINT])
        with contextlib.suppress(KeyboardInterrupt):
            if after is not None:
                timer.start()
            trainer.fit(X, Y, 60, callbacks=checkpoints)
            if after is not None:
                timer.join()
                time.sleep(1)  # the signal, if it is late
        return trainer.network.theta.tobytes(), trainer.steps_done

    whole, kept = fitted(), 0
    for number in range(10):
        folder = tmp_path / str(number)
        fitted(folder, after=0.001 * (number + 1))
        kept += len(checkpoint.files(folder))
        assert fitted(folder) == whole
    assert kept >= 3  # most of the time goes by within epochs


@pytest.mark.parametrize("settings", [{}, {"ema": 0.9, "dropout": 0.2}], ids=str)
@pytest.mark.parametrize("epoch", [1, 3])
def test_ctrl_c_while_an_epoch_is_validated_keeps_a_checkpoint(settings, epoch, tmp_path, monkeypatch):
    """It is validated by the fit that goes on, to the same bits."""
    def fitted(*checkpoints):
        trainer = Trainer(Network([5, 12, 3], seed=1), None, Adam(0.01), 20, 3, schedule="linear", **settings)
        history = trainer.fit(X, Y, 4, (X[:50], Y[:50]), metrics=["f1"], callbacks=checkpoints)
        return trainer.network.theta.tobytes(), trainer.epochs_done, without_seconds(history)

    whole, calls, measure = fitted(), [], validation.outputs_of

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == epoch:
            raise KeyboardInterrupt
        return measure(*arguments)

    monkeypatch.setattr(validation, "outputs_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fitted(Checkpoint(tmp_path, seconds=1000, resume=True))
    assert len(checkpoint.files(tmp_path)) == 1
    assert fitted(Checkpoint(tmp_path, seconds=1000, resume=True)) == whole


# What a fit does from the last step of an epoch to the first of the next, callbacks apart, and in which module.
BETWEEN_EPOCHS = {
    "order": (passes, "generator"), "schedule": (loop, "factors_of"), "copy": (Guard, "take"),
    "mean": (State, "hold_mean"), "cost": (passes.Pass, "mean"), "measure": (validation, "measure"),
    "slice": (Pace, "next_slice"),
}


@pytest.mark.parametrize("settings", [{}, {"ema": 0.5}], ids=str)
@pytest.mark.parametrize("what", BETWEEN_EPOCHS)
def test_ctrl_c_between_two_epochs_keeps_a_checkpoint(settings, what, tmp_path, monkeypatch):
    """Before what is named and after it, at several calls; the fit that resumes ends with the same bits."""
    def fitted(*checkpoints):
        trainer = Trainer(Network([5, 12, 3], seed=1), None, Adam(0.01), N, 3, threads=1, schedule="linear", **settings)
        history = trainer.fit(X, Y, 5, (X[:50], Y[:50]), metrics=["f1"], callbacks=checkpoints)
        return trainer.network.theta.tobytes(), trainer.epochs_done, without_seconds(history)

    whole, (module, name) = fitted(), BETWEEN_EPOCHS[what]
    function = getattr(module, name)
    for number, (call, after) in enumerate(itertools.product((4, 6, 8), (False, True))):
        count, folder = itertools.count(1), tmp_path / str(number)

        def interrupted(*arguments, count=count, call=call, after=after):
            came = next(count) == call
            if came and not after:
                raise KeyboardInterrupt
            result = function(*arguments)
            if came:
                raise KeyboardInterrupt
            return result

        def checkpoint_of(folder=folder):
            return Checkpoint(folder, seconds=1000, resume=True)

        with monkeypatch.context() as patched:
            patched.setattr(module, name, interrupted)
            with contextlib.suppress(KeyboardInterrupt):
                fitted(checkpoint_of())
        if next(count) > call:
            assert len(checkpoint.files(folder)) == 1, (call, after)
            assert fitted(checkpoint_of()) == whole, (call, after)


@pytest.mark.parametrize("own", [lambda: [EarlyStopping(patience=50)], lambda: [SWA(0.1)]], ids=["stopping", "mean"])
@pytest.mark.parametrize("interrupted", [False, True])
def test_a_network_that_a_callback_ended_goes_on(own, interrupted, tmp_path):
    """The best parameters, or a mean, are what the checkpoint's fit ended with, too."""
    def fitted(network, *others):
        history = Trainer(network, None, Adam(0.05), 20, 3).fit(
            X, Y, 12, (X[:50], Y[:50]), callbacks=[*own(), *others, Checkpoint(tmp_path, 1000, resume=True)])
        return network.theta.tobytes(), without_seconds(history)

    def interrupt(fit):
        if fit.epoch == 7:
            raise KeyboardInterrupt

    network = Network([5, 12, 3], seed=1)
    whole = Trainer(Network([5, 12, 3], seed=1), None, Adam(0.05), 20, 3)
    history = whole.fit(X, Y, 12, (X[:50], Y[:50]), callbacks=own())
    with pytest.raises(KeyboardInterrupt) if interrupted else contextlib.nullcontext():
        fitted(network, *[interrupt] * interrupted)
    assert fitted(network) == (whole.network.theta.tobytes(), without_seconds(history))
    network.W[0][0] += 1
    with pytest.raises(ValueError, match="of another fit: the fingerprint of the initial parameters"):
        fitted(network)


def test_a_second_ctrl_c_while_a_fit_ends(tmp_path, monkeypatch):
    """It comes when all is done: the best parameters are there, the history, and the folder is free."""
    leave, stopping = Guard.leave_finite, EarlyStopping(patience=100)

    def interrupted(self):
        signal.raise_signal(signal.SIGINT)
        leave(self)

    trainer = Trainer(Network([5, 12, 3], seed=1), None, Adam(0.05), 20, 3)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Guard, "leave_finite", interrupted)
        trainer.fit(X, Y, 20, (X[:50], Y[:50]), callbacks=[stopping, Checkpoint(tmp_path, 1000)])
    assert stopping.theta is None and len(trainer.history.loss) == trainer.epochs_done == 20
    assert trainer.evaluate(X[:50], Y[:50])[0] == pytest.approx(min(trainer.history.validation_loss))
    checkpoint.lock(tmp_path).close()


def test_settings_that_a_callback_assigned_are_told_apart(tmp_path):
    """The message says how to go on; with them the fit does."""
    def fitted(eta, interrupt_in=0):
        def lower(fit):
            trainer.optimizer = Adam(0.1 / (1 + fit.epoch))
            if fit.epoch == interrupt_in:
                raise KeyboardInterrupt

        trainer = Trainer(Network([5, 12, 3], seed=1), None, Adam(eta), 20, 3)
        trainer.fit(X, Y, 6, callbacks=[lower, Checkpoint(tmp_path, 0, resume=True)])
        return trainer.network.theta.tobytes()

    with pytest.raises(KeyboardInterrupt):
        fitted(0.1, interrupt_in=4)
    with pytest.raises(ValueError, match="optimizer is .* there, .* here; if a callback has assigned it, make the Tr"):
        fitted(0.1)
    resumed = fitted(0.1 / 5)
    for file in checkpoint.files(tmp_path):
        file.unlink()
    assert resumed == fitted(0.1)


def test_other_data_are_refused_whichever_samples_differ(tmp_path):
    """Every one is looked at, of up to a gigabyte."""
    big = np.random.default_rng(1).normal(size=(300_000, 32))
    y = (big[:, 0] > 0).astype(int)
    for changed in range(2):
        big[12_345] *= 1 - changed
        with pytest.raises(ValueError, match="data is") if changed else contextlib.nullcontext():
            Trainer(Network([32, 2], seed=0), batch_size=10_000).fit(
                big, y, 1, callbacks=[Checkpoint(tmp_path, resume=True)])


class _ThenInterrupts(Checkpoint):
    """Ctrl-C at the end of an epoch, when its checkpoint has been written."""

    epoch = 0

    def __call__(self, fit):
        super().__call__(fit)
        if fit.epoch_ends and fit.epoch == self.epoch:
            raise KeyboardInterrupt


@pytest.mark.parametrize("place", [0, 1, 2, "written"])
@pytest.mark.parametrize("own", [lambda: [EarlyStopping(patience=2), ReduceOnPlateau(patience=1)],
                                 lambda: [ReduceOnPlateau(patience=1), SWA(0.3)]], ids=["stopping", "averaging"])
def test_ctrl_c_in_the_callbacks_after_an_epoch_keeps_a_checkpoint(own, place, tmp_path):
    """Wherever among them, before or after those that know something: each is called once more, from what it knew."""
    def fitted(*others, at=0):
        trainer, callbacks = Trainer(Network([5, 12, 3], seed=1), None, Adam(0.05), 20, 3), own()
        callbacks[at:at] = others
        history = trainer.fit(X, Y, 12, (X[:50], Y[:50]), callbacks=callbacks)
        return trainer.network.theta.tobytes(), trainer.epochs_done, without_seconds(history)

    whole = fitted()
    for epoch in (1, 2, whole[1]):
        def interrupt(fit, epoch=epoch):
            if fit.epoch_ends and fit.epoch == epoch:
                raise KeyboardInterrupt

        keeps = _ThenInterrupts(tmp_path / str(epoch), 0 if place == "written" else 1000)
        keeps.epoch = epoch
        with pytest.raises(KeyboardInterrupt):
            fitted(keeps, *([] if place == "written" else [interrupt]), at=0 if place == "written" else place)
        assert checkpoint.files(keeps.folder)
        assert fitted(Checkpoint(keeps.folder, 1000, resume=True)) == whole, epoch


def test_ctrl_c_while_an_epoch_is_validated_without_checkpoints(monkeypatch):
    """Its steps are in the parameters, so it counts; what was not measured is NaN."""
    trainer, calls, measure = Trainer(Network([5, 12, 3], seed=1), batch_size=20), [], validation.outputs_of

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return measure(*arguments)

    monkeypatch.setattr(validation, "outputs_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(X, Y, 4, (X[:50], Y[:50]))
    assert trainer.epochs_done == len(trainer.history.loss) == 2 and np.isfinite(trainer.history.loss).all()
    assert np.isnan(trainer.history.validation_loss).tolist() == [False, True]
