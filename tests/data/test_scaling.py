"""fastbp.data.Standardizer: scikit-learn's numbers, constant columns, frames, targets, what is refused."""

import pickle
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.preprocessing import StandardScaler

from fastbp import Network, Trainer, figures
from fastbp.data import Standardizer, mnist

RNG = np.random.default_rng(0)
TRAIN, TEST = RNG.normal([3, -2e5, 0.01], [2, 1e3, 1e-7], (90, 3)), RNG.normal([3, -2e5, 0.01], [2, 1e3, 1e-7], (7, 3))


@pytest.mark.parametrize("dtype", ["f8", "f4", "i4", "u1", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_the_numbers_of_scikit_learn(dtype, order):
    draw = RNG.integers(0, 2 if dtype == "?" else 200, (101, 4))
    X = np.asarray(draw, dtype, order=order)
    own, theirs = Standardizer().fit(X[:80]), StandardScaler().fit(X[:80].astype(float))
    assert own.mean.dtype == own.std.dtype == np.float64
    assert own.mean == pytest.approx(theirs.mean_, rel=1e-14) and own.std == pytest.approx(theirs.scale_, rel=1e-14)
    made = own.transform(X)
    assert made.dtype == ("f4" if dtype in ("f4", "u1") else "f8") and made.flags.c_contiguous
    assert made == pytest.approx(theirs.transform(X.astype(float)), rel=1e-6, abs=1e-6)
    back = own.inverse_transform(made)
    assert back.dtype == np.float64 and back == pytest.approx(X.astype(float), rel=1e-5, abs=1e-5)


def test_one_pair_of_numbers_for_all_data():
    scale = Standardizer().fit(TRAIN)
    made = scale.transform(TRAIN)
    assert np.abs(made.mean(0)).max() < 1e-8 and made.std(0) == pytest.approx(np.ones(3), rel=1e-9)
    assert (scale.transform(TEST) == (TEST - scale.mean) / scale.std).all()
    assert (scale.transform(np.r_[TEST, TRAIN])[:7] == scale.transform(TEST)).all()


def test_it_is_what_diagnose_advises():
    X = TRAIN.copy()
    advised = eval(re.search(r"X = (.*?), with", figures.STANDARDIZE)[1], {"X": X})
    assert Standardizer().fit(X).transform(X) == pytest.approx(advised, rel=1e-9, abs=1e-12)


def test_blocks(monkeypatch):
    scale = Standardizer().fit(TRAIN)
    whole = scale.transform(TRAIN)
    for block in (1, 7, 3 * 90 - 1):
        monkeypatch.setattr("fastbp.data.scaling.BLOCK", block)
        assert (scale.transform(TRAIN) == whole).all()


def test_a_constant_column_is_0_in_all_samples():
    """0.1 is no binary fraction: the mean of many is another number, and their standard deviation not 0."""
    for dtype in ("f4", "f8"):
        X = np.full((1000, 2), 0.1, dtype)
        X[::2, 1] = 5
        scale = Standardizer().fit(X)
        assert scale.mean[0] == X[0, 0] and scale.std[0] == 0 < scale.std[1]
        assert (scale.transform(X)[:, 0] == 0).all()
        assert (scale.transform([[7.0, 5.0]])[:, 0] == 0).all()
        assert (scale.inverse_transform([[9.0, 0.0]])[:, 0] == X[0, 0]).all()
    alone = Standardizer().fit([[1.0, 2.0]])
    assert (alone.transform([[1.0, 2.0], [3.0, -4.0]]) == 0).all()


def test_mnist():
    """A pixel that is blank in all training images is blank in all test images, though two have ink there."""
    data = mnist()
    scale = Standardizer().fit(data.x_train)
    made = scale.transform(data.x_test)
    blank = scale.std == 0
    assert blank.sum() == 67 and (data.x_test[:, blank] > 0).any() and not made[:, blank].any()
    assert made.dtype == np.float32 and np.isfinite(made).all()
    assert scale.mean == pytest.approx(data.x_train.astype(float).mean(0), rel=1e-12)


def test_columns_of_frames_go_by_name():
    frame = pd.DataFrame(TRAIN, columns=["a", "b", "c"], index=RNG.permutation(90))
    scale = Standardizer().fit(frame)
    assert scale.features == ("a", "b", "c")
    made = scale.transform(frame)
    for other in (frame[["c", "a", "b"]], pa.Table.from_pandas(frame[["b", "c", "a"]], preserve_index=False), TRAIN):
        assert (scale.transform(other) == made).all()
    for other, message in ((frame[["a", "b"]], "X lacks column 'c'"), (frame.assign(d=1), "'d' that fit did not have"),
                           (frame.mask(frame > 5), "X: column 'a' has .* missing values: fill them"),
                           (frame.assign(a="x"), "X: column 'a' holds text")):
        with pytest.raises((TypeError, ValueError), match=message):
            scale.transform(other)
    assert Standardizer().fit(frame[["b"]]).transform(frame[["b"]]).shape == (90, 1)
    numbered = Standardizer().fit(pd.DataFrame(TRAIN)[[2, 0, 1]])  # in the order of the numbers, as networks take them
    assert numbered.features is None and (numbered.transform(TRAIN) == made).all()
    assert (numbered.transform(pd.DataFrame(TRAIN)[[1, 0, 2]]) == made).all()


def test_targets_and_predictions():
    x = RNG.uniform(-1, 1, (300, 1))
    y = 4e4 + 1e4 * np.sin(3 * x[:, 0])
    scale = Standardizer().fit(y)
    net = Network([1, 32, 1], output="identity", seed=0)
    Trainer(net, loss="quadratic", optimizer="adam", batch_size=20).fit(x, scale.transform(y), epochs=60)
    predicted = scale.inverse_transform(net.predict(x))
    assert predicted.dtype == np.float64 and predicted.shape == net.predict(x).shape
    assert np.abs(predicted.ravel() - y).mean() < 2e3
    assert scale.transform(y).shape == (300,) and scale.transform(y[:, np.newaxis]).shape == (300, 1)
    assert (scale.transform(pd.Series(y)) == scale.transform(y)).all()


def test_its_numbers_can_be_stored():
    scale = Standardizer().fit(TRAIN)
    again = pickle.loads(pickle.dumps(scale))
    restored = Standardizer()
    restored.mean, restored.std = scale.mean.copy(), scale.std.copy()
    for one in (again, restored):
        assert (one.transform(TEST) == scale.transform(TEST)).all()


NAN = TRAIN.copy()
NAN[4, 1] = np.nan


@pytest.mark.parametrize(("X", "message"), [
    (NAN, r"X\[4, 1\] is nan"), (np.inf * TRAIN, r"X\[0, 0\] is"), ([1.0, np.nan], r"X\[1, 0\] is nan"),
    (np.zeros((0, 3)), r"X has shape \(0, 3\); expected at least one row and one column"),
    (np.zeros((3, 0)), r"X has shape \(3, 0\); expected at least one"), (np.zeros((2, 2, 2)), r"got \(2, 2, 2\)"),
    (5.0, "X must have shape"), (["a", "b"], "X holds text"), (None, "X must be an array of numbers, got None"),
    ([[1.0], [1.0, 2.0]], "X must have rows of one length"), (TRAIN * 1j, "X must hold real numbers"),
    ([[-1e300, 0], [1e300, 0]], "column 0 spans -1e[+]300 to 1e[+]300, and its standard deviation is too small or"),
    ([[0, 0], [0, 1e-300]], "column 1 spans 0 to 1e-300, and its standard deviation is too small or too large"),
])  # fmt: skip
def test_what_fit_refuses_changes_nothing(X, message):
    scale = Standardizer().fit(TRAIN)
    before = scale.transform(TEST)
    with pytest.raises((TypeError, ValueError), match=message):
        scale.fit(X)
    assert (scale.transform(TEST) == before).all()


def test_what_transform_refuses():
    for call in (Standardizer().transform, Standardizer().inverse_transform):
        with pytest.raises(ValueError, match="has no mean and no std yet: call fit with the training samples first"):
            call(TEST)
    scale = Standardizer().fit(TRAIN)
    for call in (scale.transform, scale.inverse_transform):
        with pytest.raises(ValueError, match=r"X\[4, 1\] is nan"):
            call(NAN)
        for X in (TEST[:, :2], TEST[0], TEST[:0, :1]):
            with pytest.raises(ValueError, match=re.escape(f"X has shape {X.shape}, and fit had 3 columns")):
                call(X)
        assert call(TEST[:0]).shape == (0, 3)
