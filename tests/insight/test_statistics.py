"""What `insight.Statistics` sees is what the oracle computes; it changes no bit; and each of its warnings has the right
figure where the fault is, and does not come where it is not."""

import copy
import pickle
import re
import warnings

import numpy as np
import pytest
import rig
import scipy.sparse
from sklearn.datasets import load_digits

from fastbp import SGD, Adam, DivergenceError, Network, Trainer, TrainingWarning, callbacks, data, losses
from fastbp.core import reference
from fastbp.insight import Statistics
from fastbp.insight.statistics import FIGURES, IDLES, SATURATES, mean_and_rms
from fastbp.sklearn import MLPClassifier


def samples(n=300, n_in=4, classes=2, seed=0):
    X = np.random.default_rng(seed).normal(size=(n, n_in))
    return X, np.digitize(X[:, 0] * X[:, 1], np.linspace(-1, 1, classes + 1)[1:-1])


def digits():
    X, y = load_digits(return_X_y=True)
    return X / 16, y


def rms(array):
    return np.sqrt(np.mean(np.square(np.asarray(array, np.float64))))


def seen(statistics, name):
    """Values (looks, layers)."""
    n = statistics.records[-1]["layer"] + 1
    return np.array([each[name] for each in statistics.records]).reshape(-1, n)


# It sees what the core computes


@pytest.mark.parametrize("dtype", rig.DTYPES)
@pytest.mark.parametrize("sizes, hidden, output, n", [
    ((3, 1), "relu", "identity", 20), ((4, 7, 5, 3), "relu", "softmax", 33), ((1, 1, 1), "tanh", "identity", 1),
    ((5, 3, 2), "sigmoid", "sigmoid", 17), ((2, 9, 4, 2), "gelu", "identity", 1)])
def test_figures_are_those_of_the_oracle(sizes, hidden, output, n, dtype):
    draw = np.random.default_rng(0)
    net = Network(sizes, hidden, output, dtype=dtype, seed=3)
    X, y = draw.normal(size=(n, sizes[0])), draw.random((n, sizes[-1]))
    y /= y.sum(1, keepdims=True)
    trainer, statistics = Trainer(net, optimizer=SGD(0.1), batch_size=40), Statistics(every=1)
    own, theta = net.workspace(n), net.theta.copy()
    own.a[0][:], own.targets[:] = X, y
    gradient = rig.gradient_by_oracle(theta, own.layers, own.buffers, own.targets, own.costs,
                                      trainer.loss.rule(dtype), n)
    with statistics.watch(trainer):
        cost = trainer.step(X, y)
    assert len(statistics.records) == len(sizes) - 1
    dW, before, close = net.views(gradient)[0], net.views(theta)[0], {"rel": 1e-4 if dtype == "float32" else 1e-10,
                                                                      "abs": 1e-6 if dtype == "float32" else 1e-14}
    for l, each in enumerate(statistics.records):
        known = {"step": 1, "layer": l, "activation": net.activations[l], "neurons": sizes[l + 1], "samples": n}
        assert each | known == each and each["cost"] == pytest.approx(cost)
        for name, array in (("z", own.z[l]), ("a", own.a[l + 1]), ("delta", own.delta[l]), ("dW", dW[l])):
            assert each[f"{name}_mean"] == pytest.approx(np.mean(array, dtype=np.float64), **close)
            assert each[f"{name}_rms"] == pytest.approx(rms(array), **close)
        assert each["update_ratio"] == pytest.approx(rms(net.W[l] - before[l]) / rms(net.W[l]), **close)
        is_hidden = l < len(sizes) - 2
        assert np.isnan(each["dead"]) == (not is_hidden or hidden not in IDLES)
        assert np.isnan(each["saturated"]) == (not is_hidden or hidden not in SATURATES)
        if is_hidden and hidden == "relu":
            assert each["dead"] == np.mean((own.a[l + 1] == 0).all(0))
        if is_hidden and hidden in SATURATES:
            middle = 2 * own.a[l + 1] - 1 if hidden == "sigmoid" else own.a[l + 1]
            assert each["saturated"] == np.mean(np.abs(middle) > 0.99)


def test_slopes_below_the_limits_are_flat():
    z = np.linspace(0, -30, 3001)
    for name, limit in IDLES.items():
        slope = np.abs(getattr(reference, f"{name}_prime")(limit + z))
        assert slope.max() <= 0.01, name
        assert np.abs(getattr(reference, f"{name}_prime")(np.array([limit + 0.2])))[0] > 0.01, name
    for name, limit in SATURATES.items():
        inner, outer = (getattr(reference, name)(np.array([limit * factor]))[0] for factor in (0.999, 1.001))
        assert inner < (0.99 if name == "tanh" else 0.995) < outer


@pytest.mark.parametrize("scale", [1e-30, 1e-15, 1.0, 1e15, 1e30])
def test_figures_of_small_and_large_numbers(scale):
    array = (np.random.default_rng(0).normal(size=(70, 300)) * scale).astype(np.float32)
    mean, size = mean_and_rms(array)
    assert mean == pytest.approx(array.mean(dtype=np.float64), abs=1e-6 * scale)
    assert size == pytest.approx(rms(array), rel=1e-5)
    assert mean_and_rms(array[:, :299])[1] == pytest.approx(rms(array[:, :299]), rel=1e-5)
    assert mean_and_rms(0 * array) == (0.0, 0.0)


SETTINGS = [{}, {"dropout": 0.4, "noise": 0.1}, {"clip_norm": 100.0}, {"frozen": [0]}, {"frozen": [1]}, {"ema": 0.9},
            {"threads": 2}, {"threads": 2, "dropout": 0.3}]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_plain_step_changes_weights_by_eta_times_the_gradient(settings):
    """So dW is the gradient of the very step that was made, with its dropout, noise, weights and threads."""
    X, y = samples()
    trainer = Trainer(Network([4, 64, 8, 2], dtype="float64", seed=1), optimizer=SGD(0.1), batch_size=64, **settings)
    statistics, sizes, weights = Statistics(every=3), [], np.random.default_rng(0).random(300)
    look = callbacks.Every(3, lambda fit: sizes.append([rms(W) for W in fit.network.W]))
    trainer.fit(X, y, 3, sample_weight=weights, callbacks=[statistics, look])
    assert sorted({each["step"] for each in statistics.records}) == [3, 6, 9, 12, 15]
    change = seen(statistics, "update_ratio") * sizes
    trained = [l for l in range(3) if l not in trainer.frozen]
    np.testing.assert_allclose(change[:, trained], 0.1 * seen(statistics, "dW_rms")[:, trained], rtol=1e-9)
    assert (change[:, list(trainer.frozen)] == 0).all()
    unknown = np.isnan(seen(statistics, "delta_rms"))
    assert unknown[:, 0].all() == (trainer.frozen == (0,)) and not unknown[:, 1:].any()
    assert [each["samples"] for each in statistics.records[::3]] == [64, 64, 64, 64, 300 - 4 * 64]


def test_large_mini_batches_show_their_last_piece():
    X, y = samples(5000)
    trainer = Trainer(Network([4, 20, 2], seed=1), optimizer=SGD(1e-9), batch_size=5000)
    statistics = Statistics(1)
    with statistics.watch(trainer):
        trainer.step(X, y)
    n = statistics.records[0]["samples"]
    assert 100 < n < 5000
    own = trainer.network.workspace(n)
    own.a[0][:] = X[-n:]
    reference.forward(trainer.network.theta, own.layers, own.buffers, n)
    np.testing.assert_allclose(seen(statistics, "z_rms")[0], [rms(z) for z in own.z], rtol=1e-5)


def test_sparse_samples():
    X, y = samples()
    X[X < 0.5] = 0
    dense, sparse = (Statistics(2) for _ in range(2))
    for statistics, given in ((dense, X), (sparse, scipy.sparse.csr_array(X))):
        Trainer(Network([4, 8, 2], seed=1), batch_size=50).fit(given, y, 2, callbacks=[statistics])
    for name in FIGURES:
        one, other = seen(dense, name), seen(sparse, name)
        if name.startswith("dW"):
            assert np.isnan(other[:, 0]).all()
            one, other = one[:, 1:], other[:, 1:]
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-8)
    alone = Statistics(2)
    Trainer(Network([4, 2])).fit(scipy.sparse.csr_array(X), y, 2, callbacks=[alone])
    assert np.isnan(seen(alone, "dW_rms")).all() and (seen(alone, "update_ratio") > 0).all()


# It changes nothing


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("every", [1, 3, 100])
@pytest.mark.parametrize("settings", [{}, {"dropout": 0.4, "noise": 0.1}, {"clip_norm": 0.1, "ema": 0.9}], ids=str)
def test_bits_are_the_same(settings, every, threads):
    X, y = samples(400)

    def bits(watchers):
        trainer = Trainer(Network([4, 300, 300, 2], seed=2), optimizer=Adam(1e-3), batch_size=50, threads=threads,
                          **settings)
        history = trainer.fit(X, y, 3, callbacks=watchers).loss
        trainer.fit_batches([(X[:130], y[:130])], callbacks=watchers)
        return trainer.network.theta.tobytes() + trainer.state.rows.tobytes() + repr(history).encode()

    assert bits([Statistics(every)]) == bits([])


def test_bits_of_other_calls_are_the_same():
    X, y = samples(320)
    X = X.astype(np.float32)

    def bits(statistics):
        trainer = Trainer(Network([4, 8, 2], seed=2), optimizer=Adam(1e-3), batch_size=32)
        with statistics.watch(trainer) if statistics else warnings.catch_warnings():
            for i in range(0, 320, 64):
                trainer.partial_fit(X[i : i + 64], y[i : i + 64])
                trainer.partial_fit(X[i : i + 20], y[i : i + 20])
                trainer.step(X[i : i + 20], y[i : i + 20])
        assert trainer.stepper.observer is None
        return trainer.network.theta.tobytes()

    statistics = Statistics(3)
    assert bits(statistics) == bits(None)
    assert seen(statistics, "step")[:, 0].tolist() == [3, 6, 9, 12, 15, 18]


def test_estimators():
    X, y = samples(400)

    def fitted(watchers):
        return MLPClassifier((8,), max_iter=5, tol=0, n_iter_no_change=100, random_state=0, callbacks=watchers)

    statistics = Statistics(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one, other = fitted([statistics]).fit(X, y), fitted(None).fit(X, y)
    assert all(np.array_equal(W, V) for W, V in zip(one.coefs_, other.coefs_, strict=True))
    assert seen(statistics, "step")[:, 0].tolist() == [2, 4, 6, 8, 10]
    one.partial_fit(X, y)
    assert seen(statistics, "step")[:, 0].tolist() == [2, 4, 6, 8, 10, 12]
    assert repr(pickle.loads(pickle.dumps(one)).callbacks[0].records) == repr(statistics.records)  # NaN is not NaN


def test_when_it_is_off_steps_take_the_fast_path():
    X, y = samples(20)
    X, trainer = X.astype(np.float32), Trainer(Network([4, 8, 2]))
    with Statistics(1).watch(trainer):
        trainer.step(X, y)
        assert trainer.stepper.few is None or trainer.stepper.most_few == 0
    trainer.step(X, y)
    assert trainer.stepper.most_few >= 20


# Its records


def test_records_go_on_with_the_trainer_and_start_anew_with_another():
    X, y = samples()
    statistics, trainer = Statistics(4), Trainer(Network([4, 8, 2]), batch_size=30)
    trainer.fit(X, y, 1, callbacks=[statistics])
    trainer.fit(X, y, 1, callbacks=[statistics])
    assert seen(statistics, "step")[:, 0].tolist() == [4, 8, 12, 16, 20]
    Trainer(Network([4, 2]), batch_size=100).fit(X, y, 1, callbacks=[statistics])
    assert statistics.records == []
    assert str(statistics) == "Statistics of 0 looks, every 4 steps"


def test_steps_made_again_are_recorded_once():
    """After divergence the guard makes the steps before it again, to find the last finite parameters."""
    X, y = samples()
    X[-1] = 1e30
    trainer = Trainer(Network([4, 8, 1], output="identity"), optimizer=SGD(1.0), batch_size=10)
    statistics = Statistics(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrainingWarning)
        with pytest.raises(DivergenceError):
            trainer.fit(X, y.astype(float), 50, callbacks=[statistics])
    steps = seen(statistics, "step")[:, 0]
    assert (np.diff(steps) == 1).all() and steps[-1] <= trainer.steps_done + 1
    assert trainer.stepper.observer is None


def test_copies():
    X, y = samples()
    statistics, kept = Statistics(4), []
    watchers = [statistics, lambda fit: kept.append((copy.deepcopy(statistics), copy.deepcopy(fit.trainer)))]
    Trainer(Network([4, 8, 2]), batch_size=30).fit(X, y, 1, callbacks=watchers)
    (other, trainer), = kept
    assert other.records == statistics.records and trainer.stepper.observer is None
    trainer.fit(X, y, 1, callbacks=[other])
    assert len(other.records) == 5 * 2 and len(statistics.records) == 2 * 2


def test_frame_plot_and_text(tmp_path):
    X, y = samples()
    statistics = Statistics(4)
    Trainer(Network([4, 8, 6, 2], ["relu", "tanh"]), batch_size=30).fit(X, y, 2, callbacks=[statistics])
    frame = statistics.to_frame()
    assert frame.index[-1] == (20, 2) and frame.loc[(8, 1), "z_rms"] == seen(statistics, "z_rms")[1, 1]
    figure = statistics.plot(tmp_path / "statistics.png")
    assert (tmp_path / "statistics.png").stat().st_size > 10_000
    assert [len(axes.lines) for axes in figure.axes] == [3, 3, 3, 6]
    np.testing.assert_array_equal(figure.axes[0].lines[1].get_ydata(), seen(statistics, "delta_rms")[:, 1])
    lines = str(statistics).splitlines()
    assert lines[0].startswith("Statistics of 5 looks, every 4 steps; step 20: 30 samples, cost 0.")
    assert re.fullmatch(r" +0 +relu( +-?[\d.e-]+){8} +- +\d+ % +[\d.e-]+", lines[2])
    assert len({len(line) for line in lines[1:]}) == 1
    with pytest.raises(FileNotFoundError):
        statistics.plot(tmp_path / "nowhere" / "x.png")
    assert len(Statistics().plot().axes) == 4 and len(Statistics().to_frame()) == 0


def test_bad_arguments():
    X, y = samples()
    for wrong, error in ((0, ValueError), (-1, ValueError), (1.5, TypeError), ("10", TypeError), (True, TypeError)):
        with pytest.raises(error, match="every must be"):
            Statistics(wrong)
    trainer, other = (Trainer(Network([4, 8, 2], seed=0)) for _ in range(2))
    before = trainer.network.theta.tobytes()
    one = Statistics()
    with pytest.raises(TypeError, match="trainer must be a Trainer, got Network"), one.watch(trainer.network):
        pass
    with pytest.raises(ValueError, match="one insight.Statistics at a time"):
        trainer.fit(X, y, callbacks=[one, Statistics()])
    assert trainer.network.theta.tobytes() == before and trainer.stepper.observer is None
    with one.watch(trainer), pytest.raises(ValueError, match="one insight.Statistics at a time"):
        other.fit(X, y, callbacks=[one])
    with pytest.raises(ZeroDivisionError), one.watch(trainer):
        raise ZeroDivisionError
    assert trainer.stepper.observer is None
    broken = Network([4, 8, 2])
    broken.W[0][0, 0] = np.nan
    with pytest.raises(ValueError, match="nan|finite|NaN"):
        Trainer(broken).fit(X, y, callbacks=[one])


# Its warnings, each where the fault is and not where it is not


def said(trainer, X, y, statistics, epochs=3, **more):
    """The warnings of a fit that come from Statistics; each once, on one line, from the caller's line."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(X, y, epochs, callbacks=[statistics], **more)
        assert all(each.category is TrainingWarning and each.filename == __file__ for each in caught)
        notes = [str(each.message) for each in caught if str(each.message).startswith("at step")]
        del caught[:]
        trainer.fit(X, y, 1, callbacks=[statistics], **more)
        assert not [each for each in caught if str(each.message).startswith("at step")]
    assert not any("\n" in note for note in notes)
    return notes


def classifier(hidden="relu", sizes=(64, 32, 16, 10), weights=None, optimizer=None, factor=1.0, **settings):
    net = Network(sizes, hidden, seed=0, **({} if weights is None else {"weights": weights}))
    for W in net.W[:-1]:
        W *= factor
    return Trainer(net, optimizer=optimizer or SGD(0.1), batch_size=32, **settings)


def test_dead():
    X, y = digits()
    trainer, statistics = classifier(), Statistics(5)
    trainer.network.b[1] = -100
    notes = [note for note in said(trainer, X, y, statistics) if "dead" in note]
    assert len(notes) == 1 and seen(statistics, "dead")[0, 1] == 1
    assert notes[0].startswith("at step 5 hidden layer 1 is dead: 100 % of its 16 relu neurons have no slope for any "
                               "of 32 samples")
    assert said(classifier(), X, y, Statistics(5)) == []
    some = classifier()
    some.network.b[1][:12] = -100  # 75 %
    assert said(some, X, y, Statistics(5)) == []


@pytest.mark.parametrize("hidden", ["tanh", "sigmoid"])
def test_saturated(hidden):
    X, y = digits()
    statistics, trainer = Statistics(5), classifier(hidden, factor=100.0, optimizer=SGD(1e-3))
    notes = [note for note in said(trainer, X, y, statistics) if "saturated" in note]
    assert len(notes) == 2
    for l, note in enumerate(notes):
        share = seen(statistics, "saturated")[0, l]
        assert share > 0.5
        assert f"at step 5 hidden layer {l} is saturated: {100 * share:.0f} % of its {hidden} activations" in note
    assert said(classifier(hidden), X, y, Statistics(5)) == []


def test_vanishing():
    X, y = digits()
    statistics, sizes = Statistics(5), (64, *[16] * 8, 10)
    (note,) = [note for note in said(classifier("sigmoid", sizes), X, y, statistics) if "vanish" in note]
    delta = seen(statistics, "delta_rms")[0]
    assert delta[0] < 1e-3 * delta[-1] and delta.argmin() == 0
    assert (f"at step 5 the error vanishes on its way back: rms of delta is {delta[0]:.2g} in hidden layer 0 and "
            f"{delta[-1]:.2g} in the output layer; try") in note
    healthy = said(classifier("relu", sizes, optimizer=SGD(0.02)), X, y, Statistics(5), 10)
    assert not [note for note in healthy if "vanish" in note]


def test_exploding():
    X, y = digits()
    statistics, sizes = Statistics(5), (64, *[32] * 6, 10)
    notes = said(classifier("relu", sizes, factor=8.0, optimizer=SGD(1e-14)), X, y, statistics)
    (note,) = [note for note in notes if "explode" in note]
    delta = seen(statistics, "delta_rms")[0]
    assert f"rms of delta is {delta.max():.2g} in hidden layer {delta.argmax()} and {delta[-1]:.2g} in the" in note
    healthy = said(classifier("relu", sizes, optimizer=SGD(0.02)), X, y, Statistics(5))
    assert not [note for note in healthy if "explode" in note]


def test_large_updates():
    X, y = digits()
    statistics = Statistics(2)
    (note,) = [note for note in said(classifier("tanh", optimizer=SGD(5.0)), X, y, statistics) if "updates" in note]
    step = int(re.match("at step ([0-9,]+) ", note)[1])
    ratios, last = seen(statistics, "update_ratio"), step // 2
    l = int(re.search("changes W of layer ([0-9])", note)[1])
    assert (ratios[last - 3 : last, l] > 0.1).all() and f"by {100 * ratios[last - 1, l]:.0f} % of its size" in note
    assert "eta 5 may be too large, try 0.5, or see find_eta" in note
    assert said(classifier(optimizer=Adam(1e-3)), X, y, Statistics(2)) == []
    once, statistics = classifier("tanh", schedule=lambda step, steps: 20.0 if step == 40 else 1.0), Statistics(1)
    assert said(once, X, y, statistics) == [] and seen(statistics, "update_ratio")[40].max() > 0.1


def test_tiny_updates():
    X, y = digits()
    statistics = Statistics(5)
    (note,) = said(classifier(optimizer=SGD(1e-7)), X, y, statistics)
    assert note.startswith("at step 15 the updates are tiny: a step changes W of no layer by more than "
                           f"{seen(statistics, 'update_ratio')[:3].max():.1g} of its size")
    assert "eta 1e-07 may be too small, see find_eta" in note
    assert said(classifier(optimizer=SGD(1e-2)), X, y, Statistics(5)) == []
    # A warm-up begins as slowly, and so does a trainer that is at its minimum.
    assert said(classifier(schedule=lambda step, steps: 1e-6 if step < 40 else 1.0), X, y, Statistics(5)) == []
    flat = classifier(optimizer=SGD(1e-2))
    flat.fit(X, y, 2)
    flat.optimizer = SGD(1e-8)
    assert said(flat, X, y, Statistics(5)) == []


def test_constant_outputs():
    X, y = digits()
    trainer, statistics = classifier(optimizer=SGD(1e-3)), Statistics(5)
    trainer.network.b[0] = -100
    (note,) = [note for note in said(trainer, X, y, statistics) if "outputs" in note]
    assert note.startswith("at step 5 the outputs are the same for all 32 samples: their standard deviation is 0, that "
                           "of the targets 0.")
    zeros = classifier(sizes=(64, 10), weights="zeros")
    assert said(zeros, X, y, Statistics(1)) == []


def test_inputs_of_a_stream():
    X, y = samples(640)
    X[:, 2] = X[:, 2] * 1e5 + 3e5

    def notes(X):
        trainer = Trainer(Network([4, 16, 2], "tanh", seed=0), optimizer=SGD(1e-4))
        with warnings.catch_warnings(record=True) as caught, Statistics(2).watch(trainer):
            warnings.simplefilter("always")
            for i in range(0, 640, 64):
                trainer.partial_fit(X[i : i + 64], y[i : i + 64])
        return [str(each.message) for each in caught if "scaled" in str(each.message)]

    (note,) = notes(X)
    part = X[64:128, 2]
    assert note.startswith(f"at step 2 inputs are not scaled: column 2 has mean {part.mean():.3g} and standard "
                           f"deviation {part.std():.3g}; standardise them")
    assert notes((X - X.mean(0)) / X.std(0)) == []


def test_few_samples_are_not_judged():
    X, y = samples()
    trainer = Trainer(Network([4, 16, 2]), batch_size=15)
    trainer.network.b[0] = -100
    trainer.fit(X, y, 2, callbacks=[Statistics(1)])


def test_as_an_error_it_leaves_the_trainer_in_order():
    X, y = digits()
    trainer = classifier()
    trainer.network.b[1] = -100
    with pytest.raises(TrainingWarning, match="hidden layer 1 is dead"):
        trainer.fit(X, y, callbacks=[Statistics(5)])
    assert trainer.steps_done == 5 and trainer.stepper.observer is None
    trainer.partial_fit(X, y)


# None on healthy runs


HEALTHY = [("relu", SGD(0.02, 0.9, nesterov=True)), ("relu", Adam()), ("tanh", Adam(0.01)), ("sigmoid", Adam(0.01)),
           ("gelu", SGD(0.1)), ("leaky_relu", SGD(0.1)), ("silu", Adam())]


@pytest.mark.parametrize("every", [1, 10])
@pytest.mark.parametrize("hidden, optimizer", HEALTHY, ids=str)
def test_healthy_digits(hidden, optimizer, every):
    X, y = digits()
    for sizes in ((64, 32, 10), (64, 64, 32, 16, 10)):
        trainer = Trainer(Network(sizes, hidden, seed=0), optimizer=optimizer, batch_size=32)
        trainer.fit(X, y, 10, callbacks=[Statistics(every)])
        assert trainer.history.loss[-1] < 0.5


def test_healthy_examples():
    """The settings of examples/, on fewer samples, with looks at each step; pages run as they are."""
    mnist = data.mnist()
    x, y, scale = mnist.x_train[:6000], mnist.y_train[:6000], mnist.input_scale
    Trainer(Network([784, 128, 10], seed=0, input_scale=scale), optimizer=SGD(0.2, 0.9, nesterov=True),
            schedule="linear").fit(x, y, 3, callbacks=[Statistics(1)])
    net = Network([784, 128, 64, 10], seed=1, input_scale=scale)
    Trainer(net, optimizer="adam", schedule="cosine", dropout=[0.0, 0.1, 0.1], clip_norm=1.0, ema=0.9,
            frozen=[0]).fit(x, y, 3, callbacks=[Statistics(1)])
    draw = np.random.default_rng(0)
    X = draw.uniform(-1, 1, (4000, 1))
    net = Network([1, 64, 64, 1], hidden="gelu", output="identity", seed=0)
    Trainer(net, losses.Huber(), Adam(0.003), batch_size=256, schedule="cosine").fit(
        X, np.sin(3 * X), 10, callbacks=[Statistics(1)])
    Trainer(Network([1, 24, 1], "tanh", "identity", seed=0), optimizer=Adam(0.02), batch_size=32).fit(
        X, np.sin(3 * X), 3, callbacks=[Statistics(1)])
    codes = Trainer(Network([784, 64, 16, 64, 784], output="sigmoid", input_scale=scale, seed=0), optimizer=Adam())
    codes.fit(x, x / 255, 2, callbacks=[Statistics(1)])
