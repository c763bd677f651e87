"""fastbp.fit_many: the same bits as each network's own fit, subsets, divergence, Ctrl-C, what is refused."""

import _thread
import contextlib
import copy
import os
import pickle
import signal
import threading
import time
import tracemalloc
import warnings

import numpy as np
import pytest
from rig import in_threads, python, start

from fastbp import SGD, Adam, Lion, Network, RMSprop, Trainer, TrainingWarning, fit_many, losses
from fastbp.core.call import OF_ONE_CALL, SLOTS
from fastbp.data import Augmentation
from fastbp.schedules import Cosine, WarmUp
from fastbp.training import guard, many

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(203, 6))
LABELS = (X @ DRAW.normal(size=(6, 3))).argmax(1)
VALUES = np.tanh(X[:, :3])
WEIGHTS = DRAW.uniform(0, 2, len(X))
OPTIONS = {
    "sgd": {}, "adam": dict(optimizer=Adam(0.01), schedule=Cosine(2)), "lion": dict(optimizer=Lion(1e-3)),
    "rmsprop": dict(optimizer=RMSprop(1e-3), schedule=WarmUp(0.1)),
    "own schedule": dict(schedule=lambda step, steps: 1 - step / steps),
    "dropout": dict(dropout=[0.1, 0.3, 0.2], noise=0.1), "clip_norm": dict(clip_norm=0.05),
    "augmentation": dict(augmentation=Augmentation(1, 20, elastic=0.5, shape=(2, 3)), dropout=0.1),
    "clip_value": dict(clip_value=1e-3), "max_norm": dict(max_norm=0.5, clip_norm=0.1), "ema": dict(ema=0.9),
    "frozen": dict(frozen=[0], optimizer=Adam(0.01)), "all": dict(
        ema=0.8, clip_norm=0.1, max_norm=0.7, dropout=0.2, noise=0.1, frozen=[1], optimizer=Adam(0.01)),
    "two threads": dict(threads=2), "one batch": dict(batch_size=1000),
}


def trainers(names=OPTIONS, output="softmax", **settings):
    return [Trainer(Network([6, 10 + i, 7, 3], "tanh", output, seed=i), seed=i,
                    **({"batch_size": 10 + i} | settings | OPTIONS[name])) for i, name in enumerate(names)]


def said(trainer):
    """All that a fit leaves, but for what it took."""
    history = {name: value for name, value in vars(trainer.history).items() if name != "seconds"}
    return (trainer.network.theta.tobytes(), trainer.state.rows.tobytes(), trainer.steps_done, trainer.epochs_done,
            history, trainer.network.multilabel)


def check(members, x, y, epochs=3, subsets=None, threads=2, sample_weight=None, **options):
    """Fitted together, and then each on, they are as each by itself."""
    alone = copy.deepcopy(members)
    histories = fit_many(members, x, y, epochs, subsets, threads=threads, sample_weight=sample_weight, **options)
    for i, (one, other) in enumerate(zip(members, alone, strict=True)):
        rows = slice(None) if subsets is None or subsets[i] is None else subsets[i]
        own = None if sample_weight is None else sample_weight[rows]
        history = other.fit(x[rows], y[rows], epochs, sample_weight=own, **options)
        assert said(one) == said(other), i
        assert histories[i].loss == history.loss and len(histories[i].seconds) == epochs
        assert histories[i].validation_loss == history.validation_loss
        assert histories[i].validation_accuracy == history.validation_accuracy
        one.fit(x[rows], y[rows], 1), other.fit(x[rows], y[rows], 1)
        assert said(one) == said(other), i


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_same_bits(threads):
    check(trainers(), X, LABELS, threads=threads)


@pytest.mark.parametrize("seconds", [1e-9, 1e-4])
def test_the_same_bits_however_short_slices_are(seconds, monkeypatch):
    """A step of each at a time; and slices that end within an epoch, or some epochs on."""
    monkeypatch.setattr(many, "SLICE_SECONDS", seconds)
    check(trainers(), X, LABELS, sample_weight=WEIGHTS)


def test_networks_of_all_kinds():
    """Of other shapes, types, outputs, losses, activations."""
    kinds = [([6, 3], "identity", "quadratic", "float32"), ([6, 20, 3], "identity", "huber", "float64"),
             ([6, 70, 5, 3], "softplus", "poisson", "float32"), ([6, 4, 3], "tanh", losses.Cosine(), "float64"),
             ([6, 12, 3], "identity", "mean_absolute", "float32"), ([6, 200, 130, 3], "sigmoid", None, "float32")]
    members = [Trainer(Network(sizes, "gelu", output, dtype, seed=i, input_scale=1 + i % 2), loss, Adam(0.01), 16 + i,
                       i) for i, (sizes, output, loss, dtype) in enumerate(kinds)]
    check(members, X, np.abs(VALUES), 4)
    single = [Trainer(Network([6, 4, 1], "relu", output, seed=1), batch_size=9) for output in ("sigmoid", "identity")]
    check(single, X.astype("f4"), LABELS.astype(float) / 2)
    large = [Trainer(Network([6, 300, 300, 3], seed=i), batch_size=203) for i in range(3)]
    check(large, X[:, ::-1], LABELS, 2)


def test_a_network_whose_mini_batches_go_through_in_pieces():
    x, y = np.tile(X, (10, 1)), np.tile(LABELS, 10)
    check([Trainer(Network([6, 20, 3], seed=i), batch_size=1500, seed=i) for i in range(3)], x, y)


def test_subsets():
    """Folds, bootstrap samples with repeated rows, masks, lists, single rows, and all."""
    draw = np.random.default_rng(3)
    subsets = [np.arange(0, 203, 2), draw.integers(0, 203, 203), X[:, 0] > 0, [5, 3, 3, 200], range(100), np.array([7]),
               None, draw.permutation(203).astype(np.uint8)]
    members = trainers(["sgd", "adam", "ema", "clip_norm", "dropout", "frozen", "all", "max_norm"])
    check(members, X, LABELS, subsets=subsets, sample_weight=WEIGHTS + 0.1)


def test_validation():
    held_out = X[:50], LABELS[:50], WEIGHTS[:50]
    check(trainers(["sgd", "ema", "dropout"]), X, LABELS, validation_data=held_out)


def test_names_of_classes_are_learned_by_all():
    names = np.array(["ash", "birch", "cedar"])[LABELS]
    members = trainers(["sgd", "adam", "ema"])
    members[1].network.classes = ["cedar", "birch", "ash"]
    check(members, X, names)
    assert [list(one.network.classes) for one in members[:2]] == [["ash", "birch", "cedar"], ["cedar", "birch", "ash"]]


def test_many_small_ones():
    """More than take turns in a slice."""
    members = [Trainer(Network([6, 5, 3], seed=i), batch_size=50, seed=i, optimizer="adam") for i in range(80)]
    alone = copy.deepcopy(members)
    histories = fit_many(members, X, LABELS, 3, threads=2)
    for one, other, history in zip(members, alone, histories, strict=True):
        assert history.loss == other.fit(X, LABELS, 3).loss
        assert said(one) == said(other)


def test_seconds_are_those_of_the_threads(monkeypatch):
    members, started = trainers(["sgd", "adam", "ema"]), time.perf_counter()
    histories = fit_many(members, X, LABELS, 20, threads=2)
    seconds = sum(sum(history.seconds) for history in histories)
    assert 0 < seconds < 2 * (time.perf_counter() - started)


def test_a_single_one():
    check(trainers(["sgd"]), X, LABELS)


def test_in_a_thread_beside_another():
    """Numba's threads are not to be had there, and the bits are the same."""
    groups = [trainers(["sgd", "adam", "ema"]) for _ in range(2)]
    in_threads(lambda i: fit_many(groups[i], X, LABELS, 30, threads=2), 2)
    assert list(map(said, groups[0])) == list(map(said, groups[1]))
    assert all(trainer.epochs_done == 30 for trainer in groups[0])


# Divergence


def diverging():
    """Two that go on, and some that diverge: in the first steps, after some, in the fourth epoch."""
    values = np.random.default_rng(1).normal(size=(203, 1))
    made = [Trainer(Network([6, 8, 1], "relu", "identity", seed=i), None, optimizer, 20, i) for i, optimizer in
            enumerate([SGD(0.01), SGD(3.0), Adam(0.01), SGD(1e30), SGD(0.01, momentum=0.9)])]
    made[4].schedule = lambda step, steps: 1 if step < 37 else 1e20
    return made, values


@pytest.mark.parametrize("validated", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("seconds", "kept"), [(1e-9, 0), (1e-9, 100), (1e-3, 1e-4), (0.1, 2)])
def test_the_divergence_of_one_ends_that_one_only(threads, seconds, kept, validated, monkeypatch):
    """From the first copy, one after each step, or any between."""
    monkeypatch.setattr(many, "SLICE_SECONDS", seconds)
    monkeypatch.setattr(guard, "KEEP_SECONDS", kept)
    members, y = diverging()
    options = {"validation_data": (X[:9], y[:9])} if validated else {}
    alone, errors = copy.deepcopy(members), []
    for trainer in alone:
        try:
            trainer.fit(X, y, 6, **options)
            errors.append("")
        except ArithmeticError as error:
            errors.append(f"diverged: {error}")
    assert [bool(error) for error in errors] == [False, True, False, True, True] and "epoch 4, step 6" in errors[4]
    with pytest.warns(TrainingWarning) as caught:
        histories = fit_many(members, X, y, 6, threads=threads, **options)
    (text,) = [str(one.message) for one in caught if "diverged" in str(one.message)]
    assert text.startswith("3 of 5 networks diverged and stopped before the last epoch, see `stopped` in their "
                           "histories: trainers[1]: the cost or a parameter is no longer finite: epoch ")
    assert all(error.removeprefix("diverged: ") in text for error in errors)
    assert caught[0].filename == __file__
    assert [history.stopped for history in histories] == errors == [one.history.stopped for one in members]
    for one, other in zip(members, alone, strict=True):
        assert np.isfinite(one.network.theta).all() and np.isfinite(one.state.rows).all()
        one.history.stopped = ""
        assert said(one) == said(other)
        assert one.alone.owner is one.network.alone.owner is None


# What is said


def test_what_fit_warns_of_comes_once_for_all():
    members = [Trainer(Network([6, 4, 3], seed=i), batch_size=10, optimizer=SGD(1e-9)) for i in range(5)]
    with pytest.warns(TrainingWarning, match=r"trainers\[0\]: after 30 epochs .*; and 2 more$") as caught:
        fit_many(members, X, LABELS, 30)
    assert len(caught) == 1 and caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit_many(members, X, LABELS, 30)
    with pytest.warns(TrainingWarning, match="inputs are not scaled"):
        fit_many([Trainer(Network([6, 4, 3]))], 1e4 + X, LABELS, 1)


@pytest.mark.parametrize("steps", [0.1, 1e-9])
def test_the_bar_counts_all_steps(steps, capsys, monkeypatch):
    monkeypatch.setattr(many, "SLICE_SECONDS", steps)
    fit_many(trainers(["sgd", "adam"]), X, LABELS, 2, progress=True)
    assert "80/80" in capsys.readouterr().err  # 21 and 19 mini-batches, twice
    fit_many(trainers(["sgd", "adam"]), X, LABELS, 2)
    assert capsys.readouterr().err == ""


def twice():
    one = Trainer(Network([6, 3]))
    return [one, Trainer(Network([6, 3])), one]


def one_network():
    net = Network([6, 3])
    return [Trainer(net), Trainer(net)]


OWN = "give each its own network; copy.deepcopy of a trainer copies its network, too"
PAIR = [Trainer(Network([6, 3]), seed=i) for i in range(2)]
REFUSED = {
    "none": ([], {}, ValueError, "trainers is empty: there is nothing to train"),
    "not a sequence": (PAIR[0], {}, TypeError, "trainers must be a sequence of Trainers, got Trainer(Network("),
    "a network": ([PAIR[0], PAIR[1].network], {}, TypeError, "trainers[1] must be a Trainer, got Network("),
    "twice": (twice(), {}, ValueError, f"trainers[2] is trainers[0]: {OWN}"),
    "one network": (one_network(), {}, ValueError, f"trainers[1] trains the network of trainers[0]: {OWN}"),
    "subsets of another number": (PAIR, dict(subsets=[[0]]), ValueError,
                                  "subsets has 1 entry for 2 trainers; give each its rows, or None for all of them"),
    "a number": (PAIR, dict(subsets=3), TypeError,
                 "subsets must be None or a sequence of arrays of rows, one per trainer, got 3"),
    "empty": (PAIR, dict(subsets=[[0], []]), ValueError,
              "subsets[1] is empty: give its trainer at least one row, or None for all"),
    "an empty mask": (PAIR, dict(subsets=[np.zeros(203, bool), None]), ValueError, "subsets[0] is empty: "),
    "beyond": (PAIR, dict(subsets=[[0, 203], None]), ValueError, "subsets[0] has row 203; the rows are 0 to 202"),
    "negative": (PAIR, dict(subsets=[None, [-1]]), ValueError, "subsets[1] has row -1; the rows are 0 to 202"),
    "floats": (PAIR, dict(subsets=[None, [0.5]]), TypeError,
               "subsets[1] must be an array (rows,) of whole numbers, got float64 of shape (1,)"),
    "two dimensions": (PAIR, dict(subsets=[None, [[1, 2]]]), TypeError,
                       "subsets[1] must be an array (rows,) of whole numbers, got int64 of shape (1, 2)"),
    "pairs": (PAIR, dict(subsets=[None, ([1], [2, 3])]), TypeError,
              "subsets[1] must be an array (rows,) of whole numbers, got tuple"),
    "a short mask": (PAIR, dict(subsets=[None, [True]]), ValueError,
                     "subsets[1] is a mask of shape (1,), but there are 203 rows"),
    "data": ([*PAIR, Trainer(Network([5, 3]))], {}, ValueError, "trainers[2]: X has 6 features, the network takes 5"),
    "no weight": (PAIR, dict(subsets=[[1], [0]], sample_weight=np.arange(203)), ValueError,
                  "trainers[1]: all samples have weight 0"),
    "epochs": (PAIR, dict(epochs=0), ValueError, "epochs must be at least 1, got 0"),
    "threads": (PAIR, dict(threads=0), ValueError, "threads must be at least 1, got 0"),
    "validation": (PAIR, dict(validation_data=X), TypeError,
                   "trainers[0]: validation_data must be (X, y) or (X, y, sample_weight), got ndarray of length 203"),
    "callbacks": (PAIR, dict(callbacks=[]), TypeError, "fit_many() got an unexpected keyword argument 'callbacks': "
                  "fit_many does not support callbacks; use fit for one trainer at a time"),
    "eta": (PAIR, dict(eta=1), TypeError, "fit_many() got an unexpected keyword argument 'eta': eta belongs to the "),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case):
    """By name, before anything is changed."""
    members, options, kind, words = REFUSED[case]
    before = list(map(said, PAIR))
    with pytest.raises(kind) as caught:
        fit_many(members, X, LABELS, **options)
    assert str(caught.value).startswith(words) and (not words.endswith("0") or str(caught.value) == words)
    assert list(map(said, PAIR)) == before


def test_parameters_that_are_not_finite_are_refused():
    members = trainers(["sgd", "adam"])
    members[1].network.theta[3] = np.nan
    with pytest.raises(ValueError, match=r"trainers\[1\]: theta\[3\] of the network is nan"):
        fit_many(members, X, LABELS)
    assert members[0].steps_done == 0


def test_one_that_another_thread_trains_is_refused():
    """None of the others stays locked."""
    members, waiting, refused = trainers(["sgd", "adam", "ema"]), threading.Event(), threading.Event()

    def wait(fit):
        waiting.set()
        refused.wait(60)

    other = threading.Thread(target=lambda: members[1].fit(X, LABELS, 1, callbacks=[wait]))
    other.start()
    waiting.wait(60)
    try:
        with pytest.raises(RuntimeError, match="this trainer is being trained by another thread"):
            fit_many(members, X, LABELS)
    finally:
        refused.set()
        other.join()
    assert all(one.alone.owner is one.network.alone.owner is None for one in members)
    assert members[0].steps_done == 0
    check(members, X, LABELS)


def test_settings_that_a_fit_reads_once_cannot_be_changed_by_a_schedule():
    members = trainers(["sgd", "adam"])

    def schedule(step, steps):
        members[0].seed = 3
        return 1

    members[1].schedule = schedule
    with pytest.raises(RuntimeError, match="seed cannot be changed during a fit"):
        fit_many(members, X, LABELS)
    members[1].schedule = None
    check(members, X, LABELS)


def test_trainers_can_be_pickled_afterwards():
    members = trainers(["adam", "ema"])
    fit_many(members, X, LABELS)
    again = pickle.loads(pickle.dumps(members))
    fit_many(members, X, LABELS), fit_many(again, X, LABELS)
    assert list(map(said, again)) == list(map(said, members))


def test_memory_does_not_grow_with_the_networks_that_wait_or_are_done(monkeypatch):
    """An order of the samples, 8 bytes each, only for those that take turns."""
    monkeypatch.setattr(many, "TURNS", 2)
    monkeypatch.setattr(many, "SLICE_SECONDS", 1e-4)
    n, x = 20_000, np.tile(X[:200], (100, 1))
    members = [Trainer(Network([6, 3], seed=i), batch_size=100) for i in range(60)]
    fit_many(members, x, np.tile(LABELS[:200], 100), 1, threads=1)
    tracemalloc.start()
    fit_many(members, x, np.tile(LABELS[:200], 100), 1, threads=1)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 25 * 8 * n


# Ctrl-C

STEADY = dict(batch_size=20, schedule="constant")


def check_interrupted(members):
    """Whole, and at the very parameters of the steps that are counted."""
    for i, one in enumerate(members):
        assert one.alone.owner is one.network.alone.owner is None and not one._is_training
        assert np.isfinite(one.network.theta).all()
        assert len(one.history.loss) == one.epochs_done == one.steps_done // 11
        (other,) = trainers(["sgd"] * (i + 1), **STEADY)[i:]
        done = one.steps_done
        other.schedule = lambda step, steps, done=done: step < done
        other.fit(X, LABELS, one.epochs_done + 1)
        assert one.network.theta.tobytes() == other.network.theta.tobytes()
        assert one.history.loss == other.history.loss[: one.epochs_done]


@pytest.mark.usefixtures("no_foreign_callbacks")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers that interrupt")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("seconds", [1e-5, 1e-3])
def test_ctrl_c_leaves_every_one_whole(threads, seconds, monkeypatch):
    """Wherever it comes."""
    monkeypatch.setattr(many, "SLICE_SECONDS", seconds)
    fit_many(trainers(["sgd"] * 3, **STEADY), X, LABELS, threads=threads)
    before, some = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT)), 0
    try:
        for i in range(15):
            members = trainers(["sgd"] * 3, **STEADY)
            with pytest.raises(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, 0.003 + 0.002 * i)
                fit_many(members, X, LABELS, 10**6, threads=threads)
            some += any(one.steps_done for one in members)
            check_interrupted(members)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert some >= 5


INTERRUPTED = """
import sys
import numpy as np
from fastbp import Network, Trainer, fit_many
X = np.random.default_rng(0).random((4000, 100), np.float32)
y = np.random.default_rng(1).integers(0, 10, 4000)
members = [Trainer(Network([100, 64, 10], seed=i), batch_size=20) for i in range(10)]
fit_many(members, X, y, 1, threads=2)
done = [one.steps_done for one in members]
print("training", flush=True)
try:
    fit_many(members, X, y, 10000, threads=2)
except KeyboardInterrupt:
    print("interrupted", flush=True)
print(all(np.isfinite(one.network.theta).all() and len(one.history.loss) == one.epochs_done for one in members),
      min(one.steps_done for one in members) > max(done), flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGINT is sent to one process as POSIX does it")
def test_ctrl_c_is_answered_soon():
    with start(INTERRUPTED) as child:
        try:
            assert child.stdout.readline() == "training\n"
            time.sleep(0.7)
            started = time.perf_counter()
            child.send_signal(signal.SIGINT)
            assert child.stdout.readline() == "interrupted\n"
            assert time.perf_counter() - started < 2  # mostly 0.1, where no other work waits for the processors
            assert child.stdout.readline() == "True True\n"
        finally:
            child.kill()


def test_ctrl_c_while_one_that_diverged_is_made_again():
    """It goes back to finite parameters, and the others stay where they are."""
    members, y = diverging()
    alone, went = many.Member.go_alone, []

    def interrupted(member):
        went.append(member)
        _thread.interrupt_main()
        alone(member)

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(many.Member, "go_alone", interrupted)
        fit_many(members, X, y, 6)
    assert went
    assert all(np.isfinite(one.network.theta).all() and np.isfinite(one.state.rows).all() for one in members)
    assert all(one.alone.owner is None and not one._is_training for one in members)


FORK = """
import os
import numpy as np
from fastbp import Network, Trainer, fit_many
X = np.random.default_rng(0).normal(size=(200, 5))
y = X[:, :3].argmax(1)
def made():
    members = [Trainer(Network([5, 9, 3], seed=i), batch_size=10) for i in range(3)]
    fit_many(members, X, y, 3, threads=2)
    return [one.network.theta.tobytes() for one in members]
first = made()
child = os.fork()
if child == 0:
    os._exit(made() != first)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_in_a_forked_child():
    done = python(FORK)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_slips_point_at_nothing_of_a_fit_that_is_over():
    members = trainers(["sgd", "adam"])
    fit_many(members, X.copy(), LABELS.copy(), 2)
    for one in members:
        assert not any(one.stepper.workspace.slip.vector[SLOTS[name]] for name in OF_ONE_CALL)
