"""What a Trainer can do beside plain steps: noise, bounds, a mean, frozen layers; as NumPy, and with the same bits."""


import numpy as np
import pytest
from rig import DTYPES, bits_of_two_fits, gradient_by_oracle

from fastbp import SGD, Adam, AdamW, Network, Trainer
from fastbp.core import call, compiler, noise, reference
from fastbp.core.simd.memory import at
from fastbp.data import Augmentation
from fastbp.randomness import ORDER, generator
from fastbp.workspace import aligned

# By samples; by neurons, with several blocks of rows to a part of each; and mini-batches that go through in pieces.
CASES = {"samples": ([6, 40, 30, 3], 50), "neurons": ([6, 900, 1100, 3], 50), "pieces": ([6, 40, 3], 900)}
OPTIONS = {
    "clip_norm": dict(clip_norm=0.1), "clip_value": dict(clip_value=0.002), "max_norm": dict(max_norm=0.7),
    "noise": dict(noise=0.3), "dropout": dict(dropout=0.3), "ema": dict(ema=0.7),
    "augmentation": dict(augmentation=Augmentation(1, 30, 0.1, 10, 0.5, shape=(2, 3))),
    "first frozen": dict(frozen=[0]), "last frozen": dict(frozen=[-1]),
    "all": dict(clip_norm=0.1, max_norm=0.7, noise=0.3, ema=0.7, frozen=[0], dropout=0.1,
                augmentation=Augmentation(1, 30, shape=(3, 2))),
}


def trainer_and_data(case, option, dtype="float64", threads=1, optimizer=None, n_batches=3, seed=9):
    sizes, batch_size = CASES[case]
    draw = np.random.default_rng(1)
    n = batch_size * n_batches - 7
    X, y = draw.normal(size=(n, 6)), draw.integers(0, 3, n)
    net = Network(sizes, "tanh", dtype=dtype, seed=4)
    chosen = dict(OPTIONS[option])
    if "frozen" in chosen:
        chosen["frozen"] = [l % len(net.W) for l in chosen["frozen"]]
    return Trainer(net, None, optimizer or SGD(0.2, 0.9), batch_size, seed, threads, **chosen), X, y


def seen_as(augmentation, X, key, at_row):
    if augmentation is None:
        return X
    return reference.augmented(X.reshape(-1, *augmentation.shape), augmentation, key, at_row).reshape(X.shape)


def by_reference(trainer, X, y, epochs):
    """theta and its mean after so many epochs, by NumPy."""
    net, settings = trainer.network, trainer.stepper.rule()
    theta, w = net.theta.astype(np.float64), net.workspace(trainer.batch_size)
    trainer.stepper.prepare_layers(w.layers)
    buffers, mean = w.buffers.astype(np.float64), theta.copy()
    state, costs, step = np.zeros((trainer.optimizer.n_moments, theta.size)), np.empty(len(X)), 0
    trained = np.ones(theta.size, bool)
    for l in trainer.frozen:
        trained[w.layers[l, call.W] : w.layers[l, call.B] + w.layers[l, call.N_OUT]] = False
    for epoch in range(epochs):
        order = generator(ORDER, trainer.seed, epoch).permutation(len(X))
        for i in range(0, len(X), trainer.batch_size):
            chosen, step = order[i : i + trainer.batch_size], step + 1
            n, before = len(chosen), theta.copy()
            sent = reference.neurons(buffers, w.layers[0], n)[0]
            sent[:] = seen_as(trainer.augmentation, X[chosen], int(w.layers[0, call.KEY]), step << 32)
            sent += reference.noise(w.layers[0], step << 32, n, X.shape[1])
            gradient = gradient_by_oracle(theta, w.layers, buffers, np.eye(3)[y[chosen]], costs, trainer.loss.rule(), n,
                                          step << 32)
            gradient[~trained] = 0
            reference.clip(gradient, settings)
            reference.update(theta, gradient, state, settings, trainer.optimizer.eta, step)
            if trainer.max_norm:
                reference.limit(theta, w.layers, settings)
            theta[~trained] = before[~trained]
            mean += (1 - (trainer.ema or 0)) * (theta - mean)
    return theta, mean


@pytest.mark.parametrize("optimizer", [SGD(0.2, 0.9), AdamW(0.01, epsilon=1e-3, decay_biases=True)], ids=repr)
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("case", CASES)
def test_against_the_reference(case, option, optimizer):
    trainer, X, y = trainer_and_data(case, option, optimizer=optimizer)
    theta, mean = by_reference(trainer, X, y, 2)
    start = trainer.network.theta.copy()
    trainer.fit(X, y, 2)
    np.testing.assert_allclose(trainer.network.theta, mean if trainer.ema else theta, rtol=1e-5, atol=1e-6)
    if trainer.ema:
        np.testing.assert_allclose(trainer.state.rows[-1], theta, rtol=1e-5, atol=1e-6)
    plain, _, _ = trainer_and_data(case, option, optimizer=optimizer)
    plain = Trainer(plain.network, None, optimizer, plain.batch_size, 9, 1)
    plain.fit(X, y, 2)  # so it is seen whether the option did something
    assert np.abs(plain.network.theta - start).max() > 1e-3
    assert np.abs(plain.network.theta - trainer.network.theta).max() > 1e-4


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("case", CASES)
def test_the_same_bits(case, option, dtype):
    """Whatever the threads, and after a pickled trainer goes on elsewhere."""
    def trained(threads=1, again=False):
        trainer, X, y = trainer_and_data(case, option, dtype, threads, Adam(0.01))
        return bits_of_two_fits(trainer, X, y, again)

    assert trained() == trained(2) == trained(3) == trained(again=True)


@compiler.serial
def add_noise(key, first_row, deviation, rows, n_rows, n, ld):
    noise.add_noise(key, first_row, deviation, at(rows, 0), n_rows, n, ld)


def noise_rows(key, first_row, n_rows, n, dtype="float32", deviation=noise.WHOLE):
    ld = -(-n // 16) * 16
    rows = aligned(n_rows * ld, dtype)
    add_noise(key, first_row, deviation, rows, n_rows, n, ld)
    return rows.reshape(n_rows, ld)[:, :n]


@pytest.mark.parametrize("dtype", DTYPES)
def test_noise_is_the_inverse_of_the_normal_distribution(dtype):
    layer = np.zeros(call.N_COLUMNS, np.int64)
    for key, row in ((0, 0), ((1 << 62) - 1, (77 << 32) + 5)):
        layer[call.KEY], layer[call.NOISE] = key, 3 * noise.WHOLE
        expected = reference.noise(layer, row, 40, 301)
        np.testing.assert_allclose(noise_rows(key, row, 40, 301, dtype, 3 * noise.WHOLE), expected, rtol=3e-6)


def test_noise_is_normal():
    """Its first four moments within five standard deviations; neighbours, steps and keys know nothing of each other."""
    x = noise_rows(12345, 1 << 32, 1000, 1000, "float64")
    n = x.size
    assert 4.5 < np.abs(x).max() < 6
    for power, expected, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((x**power).mean() - expected) < 5 * np.sqrt(variance / n)
    others = [(x[1:], x[:-1]), (x[:, 1:], x[:, :-1]), (x, noise_rows(12345, 2 << 32, 1000, 1000, "float64")),
              (x, noise_rows(12346, 1 << 32, 1000, 1000, "float64"))]
    for a, b in others:
        assert abs((a * b).mean()) < 5 / np.sqrt(a.size)


@pytest.mark.filterwarnings("ignore::fastbp.TrainingWarning")
def test_the_norm_of_a_large_gradient():
    """Of squares that float32 could not sum: what moves is as long as clip_norm says."""
    net = Network([3, 4, 2], output="identity")
    start = net.theta.copy()
    Trainer(net, "quadratic", SGD(1.0), clip_norm=0.5).fit(np.full((8, 3), 1e12), np.zeros((8, 2)), 1)
    assert np.linalg.norm(net.theta - start) == pytest.approx(0.5, rel=1e-4)


def by_fit(trainer, X, y):
    trainer.fit(X, y, 60)


def by_batches(trainer, X, y):
    trainer.fit_batches([(X, y)], 60)


def by_parts(trainer, X, y):
    for _ in range(60):
        trainer.partial_fit(X, y)


def by_steps(trainer, X, y):
    for _ in range(120):
        trainer.step(X[:60], y[:60])


@pytest.mark.parametrize("way", [by_fit, by_batches, by_parts, by_steps])
@pytest.mark.parametrize("frozen", [[0], [1]])
def test_a_layer_frozen_later_stays_what_the_network_holds(way, frozen):
    """With a mean of the parameters too: steps go on with it, and what they come to is what is held."""
    draw = np.random.default_rng(0)
    X = draw.normal(size=(240, 6)).astype("float32")
    y = (X[:, 0] * X[:, 1] > 0).astype(int)
    trainer = Trainer(Network([6, 16, 2], seed=0), optimizer=Adam(0.02), batch_size=60, ema=0.97)
    way(trainer, X, y)
    net, l = trainer.network, frozen[0]
    held = net.W[l].copy(), net.b[l].copy()
    trainer.frozen = frozen
    way(trainer, X, y)
    assert net.W[l].tobytes() == held[0].tobytes() and net.b[l].tobytes() == held[1].tobytes()
    W, b = net.views(trainer.state.rows[-1])  # the parameters that steps are made with
    assert W[l].tobytes() == held[0].tobytes() and b[l].tobytes() == held[1].tobytes()
    assert W[1 - l].tobytes() != net.W[1 - l].tobytes()


def test_a_mean_is_validated_and_kept():
    """And training goes on from where it was, not from the mean."""
    draw = np.random.default_rng(0)
    X = draw.normal(size=(300, 4))
    y = (X[:, 0] > 0).astype(int)
    one, other = (Trainer(Network([4, 8, 2], seed=1), optimizer=SGD(0.3), batch_size=30, ema=0.9) for _ in range(2))
    history = one.fit(X, y, 4, validation_data=(X, y))
    assert history.validation_loss[-1] == one.evaluate(X, y)[0]
    for _ in range(4):
        other.fit(X, y, 1)
    assert one.network.theta.tobytes() == other.network.theta.tobytes()
    plain = Trainer(Network([4, 8, 2], seed=1), optimizer=SGD(0.3), batch_size=30)
    plain.fit(X, y, 4)
    assert plain.network.theta.tobytes() == one.state.rows[-1].tobytes() != one.network.theta.tobytes()


def test_parameters_put_in_the_place_of_the_mean():
    """Between two fits, or by a callback: training goes on from them."""
    X, y = np.random.default_rng(0).normal(size=(300, 4)), np.arange(300) % 2
    net, other = Network([4, 8, 2], seed=1), Network([4, 8, 2], seed=5)
    trainer = Trainer(net, optimizer=SGD(0.3), batch_size=30, ema=0.9)
    trainer.fit(X, y, 2)
    net.take_layers(other)
    fresh = Trainer(other, optimizer=SGD(0.3), batch_size=30, ema=0.9)
    fresh.state.epochs_done = 2  # the same order
    trainer.fit(X, y)
    fresh.fit(X, y)
    assert net.theta.tobytes() == other.theta.tobytes()
    assert trainer.state.rows.tobytes() == fresh.state.rows.tobytes()


def test_no_work_for_frozen_layers():
    """What lies below the first that is trained gets no delta either."""
    net = Network([5, 7, 6, 3], seed=0)
    trainer = Trainer(net, batch_size=20, frozen=[1, 0, 0])
    W, b = [W.copy() for W in net.W], [b.copy() for b in net.b]
    net.b[0] = net.b[1] = 1
    trainer.fit(np.random.default_rng(0).normal(size=(20, 5)), np.arange(20) % 3, 3)
    assert trainer.frozen == (0, 1)
    assert (net.W[0] == W[0]).all() and (net.W[1] == W[1]).all() and (net.b[0] == 1).all() and (net.b[1] == 1).all()
    assert (net.W[2] != W[2]).any() and (net.b[2] != b[2]).any()
    delta = trainer.stepper.workspace.delta
    assert (delta[0] == 0).all() and (delta[1] == 0).all() and (delta[2] != 0).any()


def test_settings_changed_between_fits():
    """Are seen by the next one, or refused where the state is not theirs."""
    X, y = np.random.default_rng(0).normal(size=(40, 5)), np.arange(40) % 3

    def trained(**changes):
        trainer = Trainer(Network([5, 70, 3], seed=0), batch_size=20)
        trainer.fit(X, y)
        for name, value in changes.items():
            setattr(trainer, name, value)
        trainer.fit(X, y)
        return trainer.network.theta

    assert (trained() == trained(clip_norm=1e9)).all()
    for change in ({"clip_norm": 0.01}, {"dropout": (0.0, 0.5)}, {"noise": 0.1}, {"frozen": (0,)}, {"max_norm": 0.1}):
        assert (trained() != trained(**change)).any()
    for change in ({"ema": 0.9}, {"optimizer": Adam()}, {"optimizer": SGD(0.1, momentum=0.9)}):
        with pytest.raises(ValueError, match="make a new Trainer"):
            trained(**change)


@pytest.mark.parametrize(("settings", "kind", "message"), [
    (dict(clip_norm=0), ValueError, "clip_norm must be a finite number > 0, got 0"),
    (dict(clip_norm=1, clip_value=1), ValueError, "clip_norm or clip_value, not both"),
    (dict(clip_value="1"), TypeError, "clip_value must be a number, got '1'"),
    (dict(clip_value=np.inf), ValueError, "clip_value must be a finite number > 0, got inf"),
    (dict(max_norm=-1.0), ValueError, "max_norm must be a finite number > 0, got -1.0"),
    (dict(noise=-0.1), ValueError, r"noise must be in \[0, 1000000000.0\], got -0.1"),
    (dict(noise=None), TypeError, "noise must be a number, got None"),
    (dict(noise=1e-12), ValueError, "noise must be 0 or at least 1e-09, got 1e-12"),
    (dict(noise=np.nan), ValueError, "noise must be .* got nan"), (dict(noise=1e10), ValueError, "noise must be in"),
    (dict(ema=1.0), ValueError, r"ema must be in \(0, 1\), got 1.0"),
    (dict(ema=True), TypeError, "ema must be a number, got True"),
    (dict(frozen=[2]), ValueError, "frozen names layer 2; the network has layers 0 to 1"),
    (dict(frozen=[0, 1]), ValueError, "all layers are frozen"),
    (dict(frozen=0), TypeError, "frozen must be a sequence of layer indices, got 0"),
    (dict(frozen=[-1]), ValueError, "a frozen layer must be at least 0"),
])
def test_what_is_refused(settings, kind, message):
    with pytest.raises(kind, match=message):
        Trainer(Network([4, 5, 2]), **settings)
