"""What `diagnose` finds and what `fit` warns of, each in real data that has it; and nothing where all is well."""

import copy
import functools
import pickle
import re
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn import datasets

import fastbp
from fastbp import (
    SGD,
    Adam,
    DivergenceError,
    Network,
    Trainer,
    TrainingWarning,
    data,
    diagnose,
    find_eta,
    fit_many,
    losses,
)
from fastbp.core import reference
from fastbp.figures import constant_loss
from fastbp.inference import NO_WEIGHTS
from fastbp.inputs import as_targets
from fastbp.randomness import ORDER, generator

XOR, XOR_LABELS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], float), np.array([0, 1, 1, 0])


def scaled(X):
    return (X - X.mean(0)) / X.std(0)


def table(name):
    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    return X, y


def regression(n=300, seed=0):
    X = np.random.default_rng(seed).normal(size=(n, 4))
    return X, X[:, 0] - X[:, 1] * X[:, 2]


def notes(trainer, X, y):
    """The notes, having checked that nothing was changed."""
    before = pickle.dumps(trainer)
    found = diagnose(trainer, X, y)
    assert pickle.dumps(trainer) == before
    assert all(np.isfinite(value) or name in ("loss", "loss_after") for name, value in found.figures.items())
    for note in found.notes:
        assert note in str(found) and "\n" not in note
    return found.notes


def one_note(trainer, X, y, pattern):
    found = notes(trainer, X, y)
    assert len(found) == 1 and re.search(pattern, found[0]), found
    return found[0]


# Nothing where all is well


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("hidden", ["relu", "tanh", "sigmoid", "gelu"])
def test_nothing_in_xor(hidden, seed):
    for n_out, optimizer in ((2, SGD(0.5)), (1, Adam(0.03)), (2, SGD(0.1, 0.9))):
        net = Network([2, 16, n_out], hidden, "softmax" if n_out == 2 else "sigmoid", seed=seed)
        trainer = Trainer(net, optimizer=optimizer, batch_size=4)
        assert notes(trainer, XOR, XOR_LABELS) == []
        trainer.fit(XOR, XOR_LABELS, 300)
        assert notes(trainer, XOR, XOR_LABELS) == []


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("hidden", ["relu", "tanh", "sigmoid"])
@pytest.mark.parametrize("name", ["iris", "raw iris", "wine", "breast_cancer", "diabetes"])
def test_nothing_in_tables(name, hidden, seed):
    X, y = table(name.removeprefix("raw "))
    X = X if name == "raw iris" else scaled(X)
    sizes, output = [X.shape[1], 32, len(set(y))], "softmax"
    if name == "diabetes":
        sizes[-1], output, y = 1, "identity", scaled(y)
    for optimizer in (SGD(), Adam()):
        trainer = Trainer(Network(sizes, hidden, output, seed=seed), optimizer=optimizer, batch_size=32, seed=seed)
        assert notes(trainer, X, y) == []
        trainer.fit(X, y, 30)
        assert notes(trainer, X, y) == []


def test_nothing_in_images():
    x, y, x_test, y_test = data.mnist()
    for seed in range(2):
        trainer = Trainer(Network([784, 64, 10], input_scale=1 / 255, seed=seed), seed=seed)
        assert notes(trainer, x, y) == []
        trainer.fit(x[:10000], y[:10000], 2)
        assert notes(trainer, x, y) == notes(trainer, x_test, y_test) == []


def test_nothing_in_settings_of_all_kinds():
    """A mean of the parameters lags behind, dropout and weights disturb the loss; a network may be one layer of 0."""
    X, y = regression()
    labels = (y > 0).astype(int)
    for settings in ({"ema": 0.99}, {"dropout": 0.5}, {"schedule": "one_cycle"}, {"clip_norm": 1.0}, {"frozen": [0]}):
        trainer = Trainer(Network([4, 32, 2]), batch_size=20, **settings)
        assert notes(trainer, X, labels) == []
        trainer.fit(X, labels, 5)
        assert notes(trainer, X, labels) == []
    assert notes(Trainer(Network([4, 2], weights="zeros")), X, labels) == []
    counts = np.random.default_rng(0).poisson(np.exp(X[:, 0] / 2))
    trainer = Trainer(Network([4, 16, 1], output="softplus"), "poisson", batch_size=20)
    assert notes(trainer, X, counts) == []
    trainer.fit(X, counts, 20)
    assert notes(trainer, X, counts) == []
    rows = np.stack([labels, 1 - labels, X[:, 3] > 0], 1)
    assert notes(Trainer(Network([4, 16, 3], output="sigmoid"), batch_size=20), X, rows) == []
    assert notes(Trainer(Network([4, 2])), X[:1], labels[:1]) == []


# Data


def test_bytes_without_a_scale():
    x, y, _, _ = data.mnist()
    net = Network([784, 32, 10])
    for X in (x[:3000], x[:3000].astype(np.float32)):
        assert "input_scale=1/255" in one_note(Trainer(net), X, y[:3000], "inputs .* bytes from 0 to 255, of mean 3")


def test_unscaled_inputs():
    X, y = table("wine")
    found = notes(Trainer(Network([13, 16, 3])), X, y)
    assert "column 12 has mean 747 and standard deviation 314; standardise" in found[0]
    assert any("very different scales: column 12 spans 1.4e+03, column 7 0.53," in note for note in found)
    frame = datasets.load_wine(as_frame=True).data
    assert "column 12 ('proline') has mean 747" in notes(Trainer(Network([13, 16, 3])), frame, y)[0]
    X, y = scaled(X), y.copy()
    assert "inputs, times the network's input_scale 100," in notes(Trainer(Network([13, 3], input_scale=100)), X, y)[0]
    found = notes(Trainer(Network([13, 16, 3])), X * 1e-4, y)
    assert re.match(r"inputs are small: .* column \d+, .*e-\d+ and 0.0001; standardise", found[0])


def test_columns_of_different_scales():
    X, y = regression()
    X[:, 2] /= 1e4
    assert re.search(r"column \d spans \d\.\d+, column 2 0\.000\d+, and", one_note(
        Trainer(Network([4, 16, 1], output="identity"), batch_size=20), X, y, "very different scales"))


def test_constant_columns():
    X, y = regression()
    net = Network([4, 16, 1], output="identity")
    X[:, 1] = 3
    one_note(Trainer(net, batch_size=20), X, y, r"column 1 is 3 in all 300 samples looked at; leave")
    X[:, 3] = 5
    one_note(Trainer(net, batch_size=20), X, y, "2 columns have one value, column 1 for instance 3,")


def test_means_of_many_rows():
    """In float32 a running sum of these would be off by some per cent; and memory-mapped ones are read in part."""
    X = np.full((60_000, 2), 8.1, np.float32)
    X[::2, 1] = 0
    y = np.arange(60_000) % 2
    found = diagnose(Trainer(Network([2, 2])), X, y)
    assert found.figures["samples"] == 10_000
    assert found.figures["input_mean"] == pytest.approx(8.1 * 0.75, rel=0.02)
    found = diagnose(Trainer(Network([2, 2])), X[:9_999], y[:9_999])
    assert found.figures["input_mean"] == pytest.approx(X[:9_999].mean(dtype=np.float64), rel=1e-12)


def test_unscaled_targets():
    X, y = table("diabetes")
    X, net = scaled(X), Network([10, 16, 1], output="identity")
    one_note(Trainer(net), X, y, r"targets are not scaled: they have mean 152 and standard deviation 77; train on \(y")
    one_note(Trainer(net), X, y * 1e-6, "targets are nearly the same for all samples: they have mean 0.000152 and")
    one_note(Trainer(net), X, np.full(len(y), 2.5), "targets are the same for all 442 samples looked at, 2.5")
    two = Network([10, 16, 2], output="identity")
    assert "those of output 1 have mean 152" in notes(Trainer(two), X, np.stack([scaled(y), y], 1))[0]


def test_unbalanced_classes():
    X, _ = regression(400)
    y = (np.arange(400) % 40 == 0).astype(int)
    net = Network([4, 16, 2])
    X[y == 1] += 3
    one_note(Trainer(net), X, y, r"97\.5 % of the labels are 0, so that an accuracy of 0\.975 .*class_weight=.balanced")
    assert "all 400 labels looked at are 1" in notes(Trainer(net), X, np.ones(400, int))[-1]


# Network and eta


def test_dead_relu():
    X, y = regression()
    net = Network([4, 16, 8, 1], output="identity")
    net.b[1] = -100
    found = notes(Trainer(net), X, y)
    assert found[0].startswith("hidden layer 1 is dead: 100 % of its 8 relu neurons are 0 for every sample")
    assert len(found) == 2 and "outputs are the same for all samples: their standard deviation is 0, that" in found[1]


def test_dead_relu_after_training():
    """As it comes about: inputs that are not scaled, and an eta that is too large for them."""
    x, y = table("digits")
    trainer = Trainer(Network([64, 32, 10], seed=0), optimizer=SGD(0.5), batch_size=32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrainingWarning)
        trainer.fit(x, y, 10)
    assert "hidden layer 0 is dead" in str(diagnose(trainer, x, y))


@pytest.mark.parametrize("hidden", ["tanh", "sigmoid"])
def test_saturated_units(hidden):
    X, y = regression()
    net = Network([4, 16, 1], hidden, "identity")
    net.W[0] *= 100
    one_note(Trainer(net), X, y, rf"hidden layer 0 is saturated: \d\d % of its {hidden} activations")


def test_constant_outputs():
    X, y = regression()
    net = Network([4, 16, 1], "tanh", "identity")
    net.W[1] = 0
    one_note(Trainer(net), X, y, "outputs are the same for all samples: their standard deviation is 0, that of")
    assert diagnose(Trainer(net), X, y).figures["constant_loss"] == pytest.approx(y.var() / 2)


def test_activations_beyond_the_type():
    X, y = regression()
    net = Network([4, 16, 1], output="identity")
    net.W[0] *= 1e38
    assert "not finite" in notes(Trainer(net), X, y)[-1]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("optimizer, what", [(SGD(30.0), "large"), (SGD(1e9), "large"), (Adam(100.0), "large"),
                                             (SGD(1e-7), "small"), (SGD(1e-12), "small"), (Adam(1e-7), "small")],
                         ids=repr)
def test_eta(optimizer, what, seed):
    X, y = table("iris")
    trainer = Trainer(Network([4, 16, 3], "tanh", seed=seed), optimizer=optimizer, batch_size=32)
    note = one_note(trainer, scaled(X), y, rf"^eta \S+ is too {what}: in 20 mini-batches the loss goes from")
    assert float(note.split()[1]) == optimizer.eta
    better = float(re.search(r"with (\S+) to", note)[1])
    assert better < optimizer.eta if what == "large" else better > optimizer.eta


def test_eta_of_a_regression():
    X, y = regression()
    for optimizer, what in ((SGD(2.0), "large"), (SGD(1e-8), "small")):
        one_note(Trainer(Network([4, 32, 1], output="identity"), optimizer=optimizer, batch_size=20), X, y, what)


def test_what_it_takes():
    with pytest.raises(TypeError, match="trainer must be a Trainer, got Network"):
        diagnose(Network([4, 3]), *table("iris"))
    with pytest.raises(ValueError, match="X has 4 features, the network takes 5"):
        diagnose(Trainer(Network([5, 3])), *table("iris"))
    frame = pd.DataFrame(scaled(table("iris")[0]))
    assert notes(Trainer(Network([4, 3])), frame, table("iris")[1]) == []


def fourth_power(z, a, t, delta):
    delta[:] = (a - t) ** 3
    return ((a - t) ** 4).sum() / 4


def test_a_loss_of_ones_own():
    X, y = regression()
    loss = losses.Custom(fourth_power, outputs="identity")
    trainer = Trainer(Network([4, 16, 1], output="identity"), loss, SGD(0.01), batch_size=20)
    assert notes(trainer, X, y) == []
    trainer.optimizer = SGD(1e4)
    one_note(trainer, X, y, "eta 1e[+]04 is too large: .* to inf")
    trainer.optimizer = SGD(1e-9)
    trainer.fit(X, y, 20)


LOSSES = [(losses.Quadratic(), "identity"), (losses.MeanAbsolute(), "identity"), (losses.Huber(0.5), "identity"),
          (losses.BinaryCrossEntropy(), "sigmoid"), (losses.CrossEntropy(0.1), "softmax"),
          (losses.CrossEntropy(), "softmax"), (losses.Poisson(), "softplus")]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss, output", LOSSES, ids=str)
def test_loss_of_a_constant_prediction(loss, output, weighted):
    """That of the oracle at the mean; none that is near it is better, of those whose best is the mean."""
    draw = np.random.default_rng(0)
    rows = draw.dirichlet(np.ones(3), 50)
    weights = draw.random(50) if weighted else NO_WEIGHTS
    w = weights if weighted else np.ones(50)
    t = as_targets(rows, 50, Network([1, 3], output=output, dtype="float64"), loss)
    found = constant_loss(loss, t, 3, weights)

    def at(z):
        z = np.broadcast_to(z, (50, 3))
        a = z if output == "identity" else getattr(reference, output)(z)
        return np.average(reference.cost(loss.rule(), z, a, t.array), weights=w)

    mean = np.average(reference.smoothed(rows, loss.rule()) if output == "softmax" else rows, axis=0, weights=w)
    z = {"identity": mean, "sigmoid": np.log(mean / (1 - mean)), "softmax": np.log(mean),
         "softplus": np.log(np.expm1(mean))}[output]
    if isinstance(loss, (losses.MeanAbsolute, losses.Huber)):
        assert found <= at(z) and (weighted or found == pytest.approx(min(at(z), at(np.median(rows, axis=0)))))
    else:
        assert found == pytest.approx(at(z), rel=1e-9)
        assert all(found <= at(z + draw.normal(size=3) * 0.01) for _ in range(20))
    labels = draw.integers(0, 3, 50)
    if output != "softplus":
        one_hot = as_targets(np.eye(3)[labels], 50, Network([1, 3], output=output), loss)
        of_labels = as_targets(labels, 50, Network([1, 3], output=output), loss)
        assert constant_loss(loss, of_labels, 3, weights) == pytest.approx(constant_loss(loss, one_hot, 3, weights))


# What a fit says


def said(trainer, X, y, epochs=1, **more):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(X, y, epochs, **more)
    assert all(each.category is TrainingWarning and each.filename == __file__ for each in caught)
    return [str(each.message) for each in caught]


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e6])
def test_lengths_of_targets_are_nothing_to_a_cosine(scale):
    draw = np.random.default_rng(0)
    X, directions = draw.normal(size=(400, 5)), draw.normal(size=(5, 8))
    trainer = Trainer(Network([5, 16, 8], output="identity", seed=0), losses.Cosine(), Adam(), batch_size=20)
    assert notes(trainer, X, scale * (X @ directions)) == []
    assert said(trainer, X, scale * (X @ directions), 30) == [] and trainer.history.loss[-1] < 0.1


def test_fit_warns_of_scales_once():
    X, y = table("diabetes")
    X = X * 1e4
    trainer = Trainer(Network([10, 16, 1], output="identity"), optimizer=Adam(1e-3))
    inputs, targets = said(trainer, X, y * 100)
    assert inputs.startswith("inputs are not scaled: column ")
    assert re.search(r"standard deviation 476; standardise them, .*: see fastbp\.diagnose\(trainer, X, y\)$", inputs)
    assert targets.startswith("targets are not scaled: they have mean 1.52e+04 and standard deviation 7.7e+03;")
    assert said(trainer, X, y * 100) == [] and said(copy.deepcopy(trainer), X, y * 100) == []
    assert len(said(Trainer(Network([10, 16, 1], output="identity"), optimizer=Adam(1e-3)), X, y * 100)) == 2


def test_fit_warns_of_bytes():
    x, y, _, _ = data.mnist()
    (note,) = said(Trainer(Network([784, 16, 10]), optimizer=Adam()), x[:500], y[:500])
    assert "make the network with Network(..., input_scale=1/255), or in the command give --input-scale 1/255" in note
    assert said(Trainer(Network([784, 16, 10], input_scale=1 / 255), optimizer=Adam()), x[:500], y[:500]) == []


def test_as_an_error_it_comes_before_anything_is_changed():
    X, y = regression()
    trainer = Trainer(Network([4, 1], output="identity"))
    before = pickle.dumps(trainer.network)
    with pytest.raises(TrainingWarning, match="inputs are not scaled"):  # the suite's filter
        trainer.fit(X * 1e4, y)
    assert pickle.dumps(trainer.network) == before and trainer.steps_done == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fastbp.TrainingWarning)
        Trainer(Network([4, 1], output="identity"), optimizer=SGD(1e-12)).fit(X * 1e4, y)


def test_samples_that_are_not_trained_on_are_not_judged():
    X, y = regression()
    net = Network([4, 16, 1], output="identity")
    X[::2], weights = 1e6, np.arange(300) % 2
    assert said(Trainer(net), X, y, sample_weight=weights) == []
    assert said(Trainer(net, optimizer=SGD(1e-9)), X, y)[0].startswith("inputs are not scaled: column ")


def test_streams_say_nothing():
    X, y = regression()
    trainer = Trainer(Network([4, 16, 1], output="identity"), optimizer=SGD(1e-14))
    trainer.partial_fit(X * 1e4, y)
    trainer.fit_batches([(X * 1e4, y)], 3)


def test_fit_warns_when_nothing_was_learned():
    X, y = regression()
    labels = (y > 0).astype(int)
    net = Network([4, 16, 2])
    net.b[0] = -100
    trainer = Trainer(net, batch_size=20)
    (note,) = said(trainer, X, labels, 4)
    assert re.match(r"after 4 epochs the loss, 0\.69\d*, is no better than that of a constant prediction, 0\.69", note)
    assert said(trainer, X, labels, 4) == []
    dead = Network([4, 16, 1], output="identity")
    dead.b[0] = -100
    assert len(said(Trainer(dead, batch_size=20), X, y, 10)) == 1
    slow = Trainer(Network([4, 16, 2], seed=1), optimizer=SGD(1e-6), batch_size=1)
    assert len(said(slow, X, labels, 4)) == 1  # 1,200 steps
    assert said(Trainer(Network([4, 16, 2], seed=1), optimizer=SGD(1e-6)), X, labels, 4) == []  # 12 steps


def test_fit_warns_of_a_huge_loss():
    """Even after one epoch: it came from unscaled data, and did not quite overflow."""
    X, y = regression()
    trainer = Trainer(Network([4, 16, 16, 16, 1], output="identity"), optimizer=SGD(3.0))
    (note,) = said(trainer, X, y)
    assert re.match(r"after 1 epoch the loss, \S+, is no better", note) and trainer.evaluate(X, y)[0] > 1e3


def test_fits_that_learn_say_nothing():
    """Also with dropout, by which the loss is larger, and weights; or where there is nothing to learn."""
    draw = np.random.default_rng(0)
    X, y = regression()
    labels = (y > 0).astype(int)
    for settings in ({}, {"dropout": 0.8}, {"ema": 0.99}, {"noise": 2.0}):
        assert said(Trainer(Network([4, 16, 2]), batch_size=20, **settings), X, labels, 20) == []
    rare = (np.arange(300) % 50 == 0).astype(int)
    X[rare == 1] += 2
    assert said(Trainer(Network([4, 16, 2]), batch_size=20), X, rare, 20, class_weight="balanced") == []
    assert said(Trainer(Network([4, 16, 2])), X, np.zeros(300, int), 20) == []
    assert said(Trainer(Network([4, 16, 2])), X, draw.integers(0, 2, 300), 20) == []
    assert said(Trainer(Network([4, 1], output="identity")), X, np.full(300, 2.0), 20) == []


def test_fit_warns_of_a_mean_that_is_still_the_first_parameters():
    X, y = regression()
    [note] = said(Trainer(Network([4, 16, 2]), batch_size=20, ema=0.9999), X, (y > 0).astype(int), 20)
    assert note.startswith("the network holds the mean of its parameters, and 97 % of it is still the first ones: "
                           "ema=0.9999 is too slow for 300 steps")


def test_fit_warns_of_many_epochs_without_learning():
    X, y = regression()
    [note] = said(Trainer(Network([4, 16, 2], seed=1), optimizer=SGD(1e-7), batch_size=20), X, (y > 0).astype(int), 20)
    assert note.startswith("after 20 epochs the loss, ") and "no better than that of a constant prediction" in note



def test_fit_says_why_nothing_was_learned():
    X, y = regression()
    labels = (y > 0).astype(int)
    slow = Trainer(Network([4, 16, 2], seed=1), optimizer=SGD(1e-7), batch_size=20)
    [note] = said(slow, X, labels, 20)
    assert f": eta 1e-07 is too small, as the loss was {slow.history.loss[0]:.4g} after the first epoch: see" in note
    net = Network([4, 16, 2])
    net.b[0] = -100
    [note] = said(Trainer(net, batch_size=20), X, labels, 4)
    assert "; the outputs are the same for all samples: see" in note and "eta" not in note


def test_fit_warns_of_a_loss_that_jumps():
    x, y = table("digits")
    trainer = Trainer(Network([64, 32, 16, 10], "tanh", seed=0), optimizer=SGD(5.0), batch_size=32)
    note = said(trainer, x / 16, y, 12)[0]
    loss = trainer.history.loss
    assert np.sum(np.diff(loss[-6:]) > 0.23) >= 2
    assert note.startswith("eta 5 is too large: the loss jumps up and down, and rose by "
                           f"{np.diff(loss[-6:]).max():.3g} from one epoch to the next; try 0.5, or see find_eta")
    trainer = Trainer(Network([64, 32, 16, 10], "tanh", seed=0), optimizer=SGD(0.1), batch_size=32)
    assert said(trainer, x / 16, y, 12) == []


def test_fit_warns_of_labels_that_never_occur():
    X, y = table("digits")
    X, some = X / 16, (y != 3) & (y != 7)
    expected = "2 labels of 10 never occur in {:,} samples, and will hardly be predicted: 3, 7; check y, whose"
    for given in ({"X": X[some], "y": y[some]}, {"X": X, "y": y, "sample_weight": some.astype(float)}):
        (note,) = said(Trainer(Network([64, 16, 10])), **given)
        assert note.startswith(expected.format(some.sum()))
    with pytest.warns(TrainingWarning, match="1 label of 11 never occurs in 1,797 samples, .*: 10; check"):
        fit_many([Trainer(Network([64, 16, 11]))], X, y)
    named = Network([64, 16, 10])
    Trainer(named).fit(X, np.array(list("abcdefghij"))[y])
    assert said(Trainer(named), X[some], np.array(list("abcdefghij"))[y[some]]) == []
    assert said(Trainer(Network([64, 16, 10])), X, y) == []
    assert said(Trainer(Network([64, 16, 10])), X[y == 2], y[y == 2]) == []  # an intention
    assert said(Trainer(Network([64, 16, 10])), X[:99], y[:99] % 9) == []  # by chance


# Divergence


@pytest.mark.parametrize("inputs, targets, advice", [
    (1, 1, "try a smaller eta"),
    (1e6, 1, r"inputs reach \de\+06|inputs reach \d\.\d+e\+06 \(column 2\): standardise them"),
    (1, 1e7, r"targets reach \S+e\+07: scale them"),
    (1e6, 1e7, r"inputs reach \S+e\+06 \(column 2\): standardise them, and targets reach \S+e\+07: scale them")])
def test_the_cause_of_divergence(inputs, targets, advice):
    X, y = regression()
    X[:, 2] *= 1.5 * inputs
    y = y * targets
    trainer = Trainer(Network([4, 16, 1], output="identity"), optimizer=SGD(100.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrainingWarning)
        with pytest.raises(DivergenceError, match=rf"holds its last finite parameters; ({advice})$"):
            trainer.fit(X, y, 50)
    with pytest.raises(DivergenceError, match=rf"({advice})$"):
        for _ in range(50):
            trainer.partial_fit(X, y)


def no_number(z, a, t, delta):
    delta[:] = a - t
    return np.nan if t[0] > 5 else 1.0


def raising(z, a, t, delta):
    if t[0] > 5:
        raise ValueError("too large")
    delta[:] = a - t
    return 1.0


custom = functools.cache(losses.Custom)  # compiled once


def with_loss(function, **settings):
    return Trainer(Network([4, 8, 1], output="identity"), custom(function), "adam", **settings)


def with_large_parameters(output="identity"):
    net = Network([4, 8, 2 if output == "softmax" else 1], output=output)
    net.theta = np.full(net.n_parameters, 1e25)
    return Trainer(net, optimizer="adam")


def of_many(trainer, X, y):
    with pytest.warns(TrainingWarning):
        raise DivergenceError(fit_many([trainer], X, y)[0].stopped.removeprefix("diverged: "))


FUNCTION = (r"the function {} of losses\.Custom returned no finite number, or raised, for sample 11 at outputs up .*: "
            "it must return one for all outputs and targets")
PARAMETERS = r"the network's parameters reach 1e\+25, too large for its outputs to be finite: make a new Network"
NOT_OF_ETA = {
    "NaN": (lambda: with_loss(no_number), FUNCTION.format("no_number")),
    "an exception": (lambda: with_loss(raising), FUNCTION.format("raising")),
    "parameters": (with_large_parameters, PARAMETERS),
    "parameters before softmax": (lambda: with_large_parameters("softmax"), PARAMETERS)}
CALLS = {"fit": Trainer.fit, "step": Trainer.step, "partial_fit": Trainer.partial_fit,
         "fit_batches": lambda trainer, X, y: trainer.fit_batches([(X, y)]), "fit_many": of_many, "find_eta": find_eta}


@pytest.mark.parametrize("make, cause", NOT_OF_ETA.values(), ids=NOT_OF_ETA)
def test_a_cost_that_is_not_finite_before_any_update(make, cause):
    """No eta is to blame, whoever is asked; the sample is named by its number in X."""
    X, y = np.random.default_rng(0).normal(size=(100, 4)), np.zeros(100)
    y[11] = 7.0
    if make().network.layer_sizes[-1] > 1:
        y = (y > 0).astype(int)
    for name, call in CALLS.items():
        trainer = make()
        before = trainer.network.theta.tobytes()
        with pytest.raises(DivergenceError, match=f"^the cost is not finite before the first update; {cause}$"):
            call(trainer, X, y)
        assert trainer.network.theta.tobytes() == before and trainer.steps_done == 0, name
    assert re.search(f"^the loss is not finite: {cause}$", diagnose(make(), X, y).notes[0])


def test_parameters_that_somebody_has_put_there():
    """After updates by the trainer, in calls of their own: both may be the cause."""
    X, y = regression()
    for call in CALLS.values():
        trainer = Trainer(Network([4, 8, 1], output="identity"), optimizer="adam", batch_size=len(X))
        trainer.step(X, y)
        trainer.network.theta = np.full(trainer.network.n_parameters, 1e25)
        with pytest.raises(DivergenceError, match=PARAMETERS + ", or if training has made them large, try a small"):
            call(trainer, X, y)


def test_a_function_that_fails_later():
    """After updates it is to blame where outputs are as usual, and eta where they have become large."""
    X, y = np.random.default_rng(0).normal(size=(400, 4)), np.zeros(400)
    trainer = with_loss(no_number, batch_size=10)
    y[generator(ORDER, trainer.seed, 0).permutation(400)[205]] = 7.0
    with pytest.raises(DivergenceError, match=r"step 21 of 40, .*; the function no_number of losses\.Custom returned"):
        trainer.fit(X, y)

    def fourth_power(z, a, t, delta):
        delta[:] = 4 * (a - t) ** 3
        return ((a - t) ** 4).sum()

    with pytest.raises(DivergenceError, match="; try a smaller eta$"):
        Trainer(Network([4, 8, 1], output="identity"), custom(fourth_power), SGD(1.0)).fit(X, X[:, 0])
    for call in (Trainer.step, Trainer.partial_fit):  # parameters become infinite, and are undone before this is said
        trainer = Trainer(Network([4, 8, 1], output="identity"), custom(fourth_power), SGD(1e38), len(X))
        with pytest.raises(DivergenceError, match="; try a smaller eta$"):
            for _ in range(3):
                call(trainer, X, X[:, 0])
        assert trainer.steps_done == 0


def test_the_cause_of_a_cost_that_only_dropout_makes_infinite():
    def barrier(z, a, t, delta):
        delta[:] = -1 / a
        return -np.log(a[0]) if a[0] > 0 else np.inf

    net = Network([1, 1], output="identity")
    net.theta = [0.0, 1.0]
    net.W[0] = -0.9
    trainer = Trainer(net, losses.Custom(barrier), dropout=[0.5])
    X, y = np.ones((20, 1)), np.zeros(20)
    with pytest.raises(DivergenceError, match="update; the function barrier of .* or raised, at outputs up to 0.1: it"):
        trainer.fit(X, y)


def test_the_cause_is_a_single_sample():
    """The mini-batch at which it happened is looked at, whatever else is."""
    X, y = np.zeros((300_000, 4), np.float32), np.zeros(300_000, np.float32)
    X[123_456, 1] = 1e30
    with pytest.raises(DivergenceError, match=r"inputs reach 1e\+30 \(column 1\): standardise them$"):
        Trainer(Network([4, 16, 1], output="identity")).fit(X, y, 1)


def test_divergence_of_bytes():
    x, y, _, _ = data.mnist()
    trainer = Trainer(Network([784, 64, 10], "relu", "identity"), "quadratic", SGD(10.0))
    with pytest.raises(DivergenceError, match="inputs reach 255 .*: set the network's input_scale=1/255"):
        for _ in range(20):
            trainer.partial_fit(x[:1000], y[:1000])


def test_columns_of_a_frame_in_another_order_and_classes_with_names():
    """What is named is the column, wherever it stands; a network that knows no classes yet may be asked."""
    X = np.random.default_rng(0).normal(size=(200, 3)) * [1, 1, 500]
    frame, y = pd.DataFrame(X, columns=["a", "b", "c"]), np.where(X[:, 0] > 0, "yes", "no")
    trainer = Trainer(Network([3, 8, 2], seed=0))
    assert "column 2 ('c') has" in diagnose(trainer, frame, y).notes[0]
    assert trainer.network.classes is None and trainer.network.feature_names is None
    trainer.network.feature_names = ["c", "b", "a"]
    assert "column 0 ('c') has" in diagnose(trainer, frame, y).notes[0]
