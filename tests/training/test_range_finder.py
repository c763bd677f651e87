"""The learning-rate range test: that it leaves the trainer alone, ends where it should, and suggests what trains."""

import dataclasses
import math
import re

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from fastbp import SGD, Adam, DivergenceError, Network, Trainer, data, find_eta
from fastbp.randomness import RANGE_TEST, generator
from fastbp.training.range_finder import EtaRange

draw = np.random.default_rng(0)
X = draw.normal(size=(900, 8))
Y = (X[:, 0] * X[:, 1] > 0).astype(int)


@pytest.mark.filterwarnings("ignore::fastbp.TrainingWarning")  # of fifty times as much
@pytest.mark.parametrize("optimizer", [SGD(0.1, 0.9), Adam()], ids=repr)
def test_what_it_finds(optimizer):
    """A rate with which the same steps learn more than with a hundredth of it, or with fifty times as much."""
    trainer = Trainer(Network([8, 32, 2], seed=1), None, optimizer, 30, 0, schedule="linear", dropout=0.1, ema=0.9)
    before = trainer.network.theta.copy()
    found = find_eta(trainer, X, Y)
    assert (trainer.network.theta == before).all() and trainer.steps_done == 0 and trainer.optimizer == optimizer
    np.testing.assert_allclose(found.etas[1:] / found.etas[:-1], (10 / 1e-5) ** (1 / 199))
    assert len(found.losses) == len(found.smoothed) == len(found.etas) <= 200
    assert found.losses[0] == Trainer(Network([8, 32, 2], seed=1), None, optimizer, 30, dropout=0.1).partial_fit(
        *(part[generator(RANGE_TEST, 0, 0).permutation(900)[:30]] for part in (X, Y)))

    def loss(eta):
        kind = type(optimizer)
        settings = {"momentum": 0.9} if kind is SGD else {}
        net = Network([8, 32, 2], seed=1)
        try:
            return Trainer(net, None, kind(eta, **settings), 30).fit(X, Y, 10).loss[-1]
        except DivergenceError:
            return np.inf

    assert loss(found.suggestion) < 0.8 * min(loss(found.suggestion / 100), loss(found.suggestion * 50))
    again = find_eta(trainer, X, Y)
    assert again.suggestion == found.suggestion and (again.losses == found.losses).all()


def test_it_ends_where_the_loss_does():
    """At four times the least, or where it is no longer finite."""
    x, y, _, _ = data.mnist()
    trainer = Trainer(Network([784, 32, 10], input_scale=1 / 255), optimizer=SGD())
    found = find_eta(trainer, x[:5000], y[:5000], high=1e6)
    assert len(found.etas) < 200 and found.smoothed.max() > 1.5 * found.smoothed.min()
    assert 0.003 < found.suggestion < 3


def test_a_loss_below_zero():
    """As Poisson's may be: the test does not end there."""
    rates = np.exp(2 + X[:, 0])
    found = find_eta(Trainer(Network([8, 16, 1], output="softplus"), "poisson", Adam()), X, draw.poisson(rates))
    assert found.smoothed.min() < 0 and len(found.etas) > 50
    assert found.suggestion > 1e-4


def learn(seed, optimizer, epochs):
    trainer = Trainer(Network([8, 32, 2], seed=seed), None, optimizer, 30, seed)
    if epochs:
        trainer.fit(X, Y, epochs)
    return trainer


@pytest.mark.parametrize("optimizer", [SGD(), Adam()], ids=repr)
@pytest.mark.parametrize("seed", range(6))
def test_a_network_that_is_trained(seed, optimizer):
    """The least of a loss that falls no more is where the noise of the first steps has it; the suggestion is not."""
    trainer = learn(seed, optimizer, 60)
    found = find_eta(trainer, X, Y)
    assert found.suggestion > 3e-5 and found.note == ""
    before = trainer.evaluate(X, Y)[0]
    trainer.optimizer = dataclasses.replace(optimizer, eta=found.suggestion)
    trainer.fit(X, Y, 7)  # about as many steps
    assert trainer.evaluate(X, Y)[0] < 0.996 * before


@pytest.mark.parametrize("optimizer", [SGD(), Adam()], ids=repr)
@pytest.mark.parametrize("seed", range(4))
def test_unscaled_inputs(seed, optimizer):
    """The loss falls, from thousands to that of outputs that are the same for all samples: no eta has helped."""
    trainer = learn(seed, optimizer, 0)
    before = trainer.network.theta.copy()
    found = find_eta(trainer, 100 * X + 1e4, Y)
    assert math.isnan(found.suggestion)
    assert re.fullmatch(r"no eta helped: in 200 steps with eta \S+ the loss falls from \d\S* to 0.\S*, which is hardly "
                        r"better than the 0.\S* of a constant prediction; inputs are not scaled: column \d+ has mean "
                        r"1e\+04 and standard deviation \S+; standardise them, .*", found.note)
    assert (trainer.network.theta == before).all() and trainer.steps_done == 0


@pytest.mark.filterwarnings("ignore::fastbp.TrainingWarning")  # that they want scaling
@pytest.mark.parametrize("seed", [2, 5, 6])
def test_what_it_suggests_on_unscaled_data_trains(seed):
    """Cells of breast cancer: the smoothed loss is least with an eta with which all samples get the same outputs."""
    cells, kinds = load_breast_cancer(return_X_y=True)
    chance = -sum(share * math.log(share) for share in np.bincount(kinds) / len(kinds))

    def trainer(eta):
        return Trainer(Network([30, 32, 2], seed=seed), None, SGD(eta), 30, seed)

    found = find_eta(trainer(0.1), cells, kinds)
    trained, too_fast = trainer(found.suggestion), trainer(found.etas[np.argmin(found.smoothed)] / 10)
    for each in (trained, too_fast):
        each.fit(cells, kinds, 11)
    assert trained.evaluate(cells, kinds)[0] < 0.6 * chance
    assert too_fast.evaluate(cells, kinds)[0] > 0.99 * chance


@pytest.mark.parametrize(("optimizer", "tenth"), [(SGD(), 0.06), (Adam(), 0.03)], ids=["SGD", "Adam"])
@pytest.mark.parametrize("seed", range(3))
def test_a_good_case(seed, optimizer, tenth):
    """Within half a decade of a tenth of where the smoothed loss is least."""
    found = find_eta(learn(seed, optimizer, 0), X, Y)
    least = found.etas[np.argmin(found.smoothed)] / 10
    assert 0.3 < found.suggestion / least < 3 and 0.3 < found.suggestion / tenth < 3


def test_targets_that_say_nothing_and_four_samples():
    said = find_eta(learn(0, Adam(), 0), X, np.zeros(900, int))
    assert said.suggestion > 1e-4
    xor = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    found = find_eta(Trainer(Network([2, 16, 2], "tanh", seed=0), optimizer=Adam()), xor, [0, 1, 1, 0])
    assert 1e-3 < found.suggestion <= 1
    perfect = learn(0, Adam(0.01), 0)
    for part in perfect.network.W:
        part[:] = 0
    found = find_eta(perfect, X, np.tile([0, 1], 450))  # W is 0 and the shares are equal: only noise to learn from
    assert math.isnan(found.suggestion) and found.note.startswith("the loss never fell: in 200 steps")
    assert "; hidden layer 0 is dead" in found.note


def test_bytes_are_named_as_the_cause():
    """And what to do, here and in the command."""
    draw = np.random.default_rng(0)
    images, labels = draw.integers(0, 256, size=(600, 64)).astype(np.uint8), draw.integers(0, 2, 600)
    found = find_eta(Trainer(Network([64, 32, 2], seed=0), optimizer=SGD(0.1), batch_size=20), images, labels)
    assert "inputs are not scaled: they are bytes from 0 to 255" in found.note
    assert found.note.endswith("in the command give --input-scale 1/255")


@pytest.mark.parametrize("name", ["range.png", "range.svg"])
def test_plot(name, tmp_path):
    find_eta(Trainer(Network([8, 4, 2])), X, Y, steps=20).plot(tmp_path / name)
    assert (tmp_path / name).read_bytes()[:5] in (b"\x89PNG\r", b"<?xml")
    for losses in ([3.0, 2.0, 4.0], [-1.0, -2.0, 3.0], [0.0, 0.0, 0.0]):  # no suggestion, below 0, all equal
        EtaRange(np.array([1e-3, 1e-2, 1e-1]), np.array(losses), np.array(losses), np.nan, "no").plot(tmp_path / name)


@pytest.mark.parametrize(("settings", "message"), [
    (dict(low=0), "low must be a finite number > 0, got 0"), (dict(low=1, high=0.5), "low must be below high"),
    (dict(steps=3), "steps must be at least 10, got 3"),
    (dict(high=np.inf), "high must be a finite number > 0, got inf"),
])
def test_what_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        find_eta(Trainer(Network([8, 4, 2])), X, Y, **settings)
    for x, y, wrong in ((X[:0], Y[:0], "X is empty"), (X[:100], Y, "y has shape"), (X, Y[:100], "y has shape")):
        with pytest.raises(ValueError, match=wrong):
            find_eta(Trainer(Network([8, 4, 2])), x, y)
    with pytest.raises(FileNotFoundError, match="cannot write missing/a.png: there is no folder missing"):
        find_eta(Trainer(Network([8, 4, 2])), X, Y, steps=10).plot("missing/a.png")
