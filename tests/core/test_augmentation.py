"""Augmentation: images as the oracle has them, the bits, what it leaves alone, and what it refuses."""

import copy
import pickle

import numpy as np
import pytest
from rig import DTYPES, bits_of_two_fits

from fastbp import SGD, Adam, Network, Trainer, data
from fastbp.core import reference
from fastbp.core.augmentation import augment_rows
from fastbp.data import Augmentation

EACH = {
    "shift": dict(shift=2.5), "rotation": dict(rotation=30), "scale": dict(scale=0.3), "shear": dict(shear=20),
    "elastic": dict(elastic=1.4), "fine": dict(elastic=0.7, smoothness=1.5), "far": dict(shift=1000, elastic=1000),
    "all": dict(shift=1, rotation=10, scale=0.1, shear=5, elastic=1.0, smoothness=3.0),
    "extremes": dict(shift=3, rotation=180, scale=0.99, shear=89, elastic=3, smoothness=1000),
}
SHAPES = [(28, 28), (1, 1), (1, 7), (9, 1), (5, 3), (17, 16), (33, 20), (60, 70)]


def images(shape, n=6, dtype="float64"):
    return np.random.default_rng(0).normal(size=(n, shape[0] * shape[1])).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("case", EACH)
def test_against_the_reference(case, shape, dtype):
    own = Augmentation(shape=shape, **EACH[case])
    X = images(shape, dtype=dtype)
    for key, row in ((0, 1 << 32), ((1 << 62) - 1, (77 << 32) + 5)):
        rows = X.copy()
        augment_rows(own.settings(X.shape[1]), key, row, rows)
        expected = reference.augmented(X.reshape(-1, *shape), own, key, row).reshape(X.shape)
        precise = 1e-9 if dtype == "float64" else 2e-3 if case in ("far", "extremes") else 3e-4
        np.testing.assert_allclose(rows, expected, rtol=0, atol=precise * max(shape))
        if min(shape) > 2:
            assert np.abs(rows - X).max() > 0.1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_without_a_transformation_pixels_keep_their_bits(shape, dtype):
    X = images(shape, dtype=dtype)
    made = Augmentation(shape=shape).apply(X)
    assert made.dtype == dtype and made.tobytes() == X.tobytes()


def test_parts_are_of_the_whole_and_images_differ():
    own, X = Augmentation(**EACH["all"]), np.tile(images((28, 28), 1), (20, 1))
    whole, part = X.copy(), X[7:12].copy()
    augment_rows(own.settings(784), 5, 1 << 32, whole)
    augment_rows(own.settings(784), 5, (1 << 32) + 7, part)
    assert whole[7:12].tobytes() == part.tobytes()
    others = X.copy()
    augment_rows(own.settings(784), 5, 2 << 32, others)
    assert len({row.tobytes() for row in [*whole, *others]}) == 40


def displacements(own, n=400, side=40):
    """Of pixels near the middle, which come from within the image: (2, n, pixels). Of an image whose values are the
    numbers of its rows, or columns, an interpolation is exact."""
    made = [own.apply(np.tile(ramp.ravel().astype(float), (n, 1))).reshape(n, side, side) - ramp
            for ramp in np.indices((side, side))]
    return np.array(made)[:, :, 16:24, 16:24].reshape(2, n, -1)


def test_settings_mean_what_they_say():
    moved = displacements(Augmentation(shift=3))
    assert np.ptp(moved, axis=2).max() < 1e-9
    assert 2.9 < np.abs(moved).max() <= 3 and abs(moved.mean()) < 0.2  # uniform: 5 deviations are 0.31
    assert moved[:, :, 0].std(axis=1) == pytest.approx([3 / np.sqrt(3)] * 2, rel=0.1)
    assert abs(np.corrcoef(moved[:, :, 0])[0, 1]) < 0.25
    for smoothness in (2, 4):
        moved = displacements(Augmentation(elastic=1.4, smoothness=smoothness))
        assert np.sqrt((moved**2).mean()) == pytest.approx(1.4, rel=0.1)
        assert abs(moved.mean()) < 0.15
    turned = Augmentation(rotation=90).apply(np.eye(1, 25, 2)[[0] * 300]).reshape(-1, 5, 5)  # a dot at the top
    assert turned[:, 2, 0].max() > 0.9 and turned[:, 2, 4].max() > 0.9 and turned[:, 4].max() < 0.1
    line = np.zeros((1, 21, 21))
    line[:, 4:17, 10] = 1
    tall = Augmentation(scale=0.25).apply(np.tile(line.reshape(1, -1), (300, 1))).reshape(-1, 21, 21)[:, :, 10].sum(1)
    assert tall.min() == pytest.approx(13 * 0.75, abs=1) and tall.max() == pytest.approx(13 * 1.25, abs=1)
    slanted = Augmentation(shear=45).apply(np.tile(line.reshape(1, -1), (300, 1))).reshape(-1, 21, 21)
    assert slanted[:, 10, 10].min() > 0.99 and slanted[:, 5, 5].max() > 0.5 and slanted[:, 5, 15].max() > 0.5


# Training.


def trainer_of(case="samples", dtype="float32", **settings):
    sizes, batch_size = {"samples": ([30, 40, 3], 50), "neurons": ([30, 700, 600, 3], 50),
                         "pieces": ([30, 40, 3], 900)}[case]
    given = dict(batch_size=batch_size, augmentation=Augmentation(**EACH["all"], shape=(6, 5))) | settings
    draw = np.random.default_rng(0)
    n = 2 * batch_size + 7
    return Trainer(Network(sizes, dtype=dtype, seed=2), **given), draw.normal(size=(n, 30)), draw.integers(0, 3, n)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", ["samples", "neurons", "pieces"])
def test_the_same_bits(case, dtype):
    """Whatever the threads, and after a pickled trainer goes on elsewhere; not with another seed."""
    def trained(threads=1, again=False, **settings):
        trainer, X, y = trainer_of(case, dtype, threads=threads, optimizer=Adam(0.01), **settings)
        before = X.tobytes(), y.tobytes()
        bits = bits_of_two_fits(trainer, X, y, again)
        assert (X.tobytes(), y.tobytes()) == before
        return bits

    one = trained()
    assert one == trained(2) == trained(3) == trained(again=True)
    assert one != trained(seed=1) and one != trained(augmentation=None)
    assert trained(augmentation=None) == trained(augmentation=Augmentation(shape=(6, 5)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_step_is_that_of_the_images_of_apply(threads, dtype):
    trainer, X, y = trainer_of(dtype=dtype, threads=threads, seed=3)
    X = X[:50].astype(dtype)
    plain = Trainer(copy.deepcopy(trainer.network), batch_size=50, threads=threads, seed=3)
    assert trainer.step(X, y[:50]) == plain.step(trainer.augmentation.apply(X, seed=3), y[:50])
    assert trainer.network.theta.tobytes() == plain.network.theta.tobytes()


@pytest.mark.parametrize("kind", ["uint8", "float64", "columns"])
def test_any_layout_of_samples(kind):
    """The same as from an array of the network's type."""
    made = []
    for change in (lambda X: X.astype("float32"), {"uint8": lambda X: X, "float64": lambda X: X.astype("float64"),
                                                   "columns": np.asfortranarray}[kind]):
        trainer, X, y = trainer_of()
        trainer.fit(change((40 * np.abs(X)).astype("uint8")), y, 2)
        made.append(trainer.network.theta.tobytes())
    assert made[0] == made[1]


def test_targets_stay():
    """Those that are the samples, too: a network learns to undo the deformation."""
    net = Network([30, 8, 30], hidden="tanh", output="identity", seed=0)
    X = images((6, 5), 20, "float32")
    ours = Trainer(copy.deepcopy(net), augmentation=Augmentation(shift=2, shape=(6, 5)), batch_size=20)
    plain = Trainer(net, batch_size=20)
    assert ours.step(X, X) == plain.step(ours.augmentation.apply(X), X) != plain.step(X, X)


def test_only_training_augments():
    X, y, _, _ = data.mnist()
    X, y = X[:4000], y[:4000]
    net = Network([784, 64, 10], seed=0, input_scale=1 / 255)
    trainer = Trainer(net, None, SGD(0.1, 0.9, True), 100, augmentation=Augmentation(**EACH["all"]))
    history = trainer.fit(X, y, 5, (X, y))
    assert trainer.evaluate(X, y) == (history.validation_loss[-1], history.validation_accuracy[-1])
    assert history.validation_loss[-1] < 0.9 * history.loss[-1]
    assert np.mean(net.predict(X) == y) == history.validation_accuracy[-1] > 0.9


def test_it_may_change_between_fits_but_not_within():
    trainer, X, y = trainer_of()
    trainer.fit(X, y, 1)
    trainer.augmentation = None
    plain = pickle.loads(pickle.dumps(trainer))
    trainer.fit(X, y, 1)
    plain.fit(X, y, 1)
    assert trainer.network.theta.tobytes() == plain.network.theta.tobytes()
    with pytest.raises(RuntimeError, match="augmentation cannot be changed during a fit"):
        trainer.fit(X, y, 1, callbacks=[lambda fit: setattr(trainer, "augmentation", None)])


# Wrong settings.


@pytest.mark.parametrize(("settings", "kind", "message"), [
    (dict(shift=-1), ValueError, r"shift must be in \[0, 1000.0\], got -1"),
    (dict(shift="2"), TypeError, "shift must be a number, got '2'"),
    (dict(rotation=181), ValueError, r"rotation must be in \[0, 180\], got 181"),
    (dict(scale=1), ValueError, r"scale must be in \[0, 1\), got 1"),
    (dict(shear=90), ValueError, r"shear must be in \[0, 90\), got 90"),
    (dict(elastic=np.nan), ValueError, r"elastic must be in \[0, 1000.0\], got nan"),
    (dict(smoothness=0.5), ValueError, r"smoothness must be in \[1, 1000.0\], got 0.5"),
    (dict(shape=28), TypeError, r"shape must be \(rows, columns\) of an image, got 28"),
    (dict(shape=(28, 28, 1)), TypeError, r"shape must be \(rows, columns\)"),
    (dict(shape=(0, 5)), ValueError, "a number of shape must be at least 1, got 0"),
])
def test_wrong_settings(settings, kind, message):
    with pytest.raises(kind, match=message):
        Augmentation(**settings)


def test_wrong_sizes():
    for own, n_in, message in [
            (Augmentation(), 30, r"samples have 30 numbers, but they are no square; give Augmentation\(shape=\(rows"),
            (Augmentation(shape=(5, 5)), 30, r"samples have 30 numbers, but shape is \(5, 5\); give"),
            (Augmentation(), 200 * 200, "images of 200 x 200 pixels are too large; up to about 100 x 100"),
            (Augmentation(elastic=1, smoothness=1), 99 * 99, "images of 99 x 99 pixels are too large")]:
        with pytest.raises(ValueError, match=message):
            Trainer(Network([n_in, 2]), augmentation=own)
    with pytest.raises(TypeError, match="augmentation must be a fastbp.data.Augmentation, got 'shift'"):
        Trainer(Network([25, 2]), augmentation="shift")
    with pytest.raises(ValueError, match=r"X must be images as rows \(n, n_in\), got shape \(25,\)"):
        Augmentation().apply(np.zeros(25))
    with pytest.raises(ValueError, match="X has numbers that are not finite"):
        Augmentation().apply(np.full((1, 25), np.nan))


def test_plot(tmp_path):
    X = images((5, 6), 3)
    own = Augmentation(shift=1, shape=(5, 6))
    own.plot(X, tmp_path / "a.png")
    own.plot(X[:1], tmp_path / "b.svg")
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG" and b"<svg" in (tmp_path / "b.svg").read_bytes()
    with pytest.raises(ValueError, match=r"X must be 1 to 20 images as rows \(n, n_in\), got shape \(21, 30\)"):
        own.plot(np.zeros((21, 30)), tmp_path / "c.png")
    with pytest.raises(FileNotFoundError):
        own.plot(X, tmp_path / "none" / "c.png")
