"""The learning-rate range test: that it leaves the trainer alone, ends where it should, and suggests what trains."""

import numpy as np
import pytest

from fastbp import SGD, Adam, DivergenceError, Network, Trainer, data, find_eta
from fastbp.randomness import RANGE_TEST, generator

draw = np.random.default_rng(0)
X = draw.normal(size=(900, 8))
Y = (X[:, 0] * X[:, 1] > 0).astype(int)


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


@pytest.mark.parametrize("name", ["range.png", "range.svg"])
def test_plot(name, tmp_path):
    find_eta(Trainer(Network([8, 4, 2])), X, Y, steps=20).plot(tmp_path / name)
    assert (tmp_path / name).read_bytes()[:5] in (b"\x89PNG\r", b"<?xml")


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
