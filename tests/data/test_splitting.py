"""fastbp.data.split and k_fold: each sample once, shares of classes as in scikit-learn, decided by the seed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

from fastbp import Network, Trainer
from fastbp.data import k_fold, split
from fastbp.training import validation

RNG = np.random.default_rng(0)


def check_division(n, train, held):
    assert train.dtype == held.dtype == np.int64
    assert (np.diff(train) > 0).all() and (np.diff(held) > 0).all()
    assert sorted([*train, *held]) == list(range(n))


@given(st.integers(2, 60), st.floats(0.02, 0.98), st.integers(0, 5))
def test_split(n, fraction, seed):
    size = int(np.floor(n * fraction + 0.5))
    if not 0 < size < n:
        with pytest.raises(ValueError, match=f"^fraction {fraction} of {n} samples leaves none for (train|valid)"):
            split(n, fraction, seed=seed)
        return
    train, held = split(n, fraction, seed=seed)
    check_division(n, train, held)
    assert len(held) == size
    again = split(n, fraction, None, seed)
    assert (train == again[0]).all() and (held == again[1]).all()


@pytest.mark.parametrize("fraction", [0.1, 0.25, 1 / 3, 0.7])
@pytest.mark.parametrize("seed", range(3))
def test_a_stratified_split_has_the_shares_of_scikit_learn(fraction, seed):
    y = RNG.choice(["a", "b", "c"], 211, p=[0.7, 0.2, 0.1])
    train, held = split(211, fraction, stratify=y, seed=seed)
    check_division(211, train, held)
    _, theirs = train_test_split(y, test_size=len(held), stratify=y, random_state=0)
    for name in "abc":
        exact = fraction * (y == name).sum()
        assert abs((y[held] == name).sum() - exact) < 1
        assert abs((y[held] == name).sum() - (theirs == name).sum()) <= 1


def test_the_seed_decides_and_purposes_differ():
    assert len({tuple(split(50, 0.5, seed=seed)[1]) for seed in range(20)}) == 20
    assert len({tuple(k_fold(50, 2, seed=seed)[0][1]) for seed in range(20)}) == 20
    assert not any(set(split(50, 0.5, seed=seed)[1]) == set(held) for seed in range(20) for _, held in k_fold(50, 2))


@pytest.mark.parametrize("stratify", [False, True])
def test_a_trainer_holds_out_the_same_samples(stratify, monkeypatch):
    X, y = RNG.normal(size=(97, 2)), RNG.integers(0, 3, 97)
    seen, original = [], validation.outputs_of
    monkeypatch.setattr(validation, "outputs_of", lambda trainer, data: seen.append(data.x.array)
                        or original(trainer, data))
    Trainer(Network([2, 3]), seed=4).fit(X, y, 1, validation_fraction=0.3, stratify=stratify)
    assert (seen[0] == X[split(97, 0.3, y if stratify else None, 4)[1]]).all()


@given(st.integers(2, 60), st.integers(2, 12), st.integers(0, 5))
def test_folds(n, k, seed):
    if k > n:
        with pytest.raises(ValueError, match=f"k must be at most {n}, got {k}"):
            k_fold(n, k)
        return
    folds = k_fold(n, k, seed=seed)
    for train, held in folds:
        check_division(n, train, held)
    assert sorted(np.concatenate([held for _, held in folds])) == list(range(n))
    theirs = [len(held) for _, held in KFold(k).split(np.zeros(n))]
    assert [len(held) for _, held in folds] == theirs
    assert all((held == again).all() for (_, held), (_, again) in zip(folds, k_fold(n, k, None, seed), strict=True))


@pytest.mark.parametrize("k", [2, 3, 7])
@pytest.mark.parametrize("names", [np.array([3, 1, 8]), np.array(["x", "y", "zz"]), np.array([False, True, True])])
def test_stratified_folds_have_the_shares_of_scikit_learn(k, names):
    y = names[RNG.choice(3, 103, p=[0.7, 0.2, 0.1])]
    folds = k_fold(103, k, stratify=y)
    theirs = [held for _, held in StratifiedKFold(k).split(y, y)]
    assert sorted(np.concatenate([held for _, held in folds])) == list(range(103))
    assert np.ptp([len(held) for _, held in folds]) <= 1
    for train, held in folds:
        check_division(103, train, held)
    for name in np.unique(y):
        counts = sorted((y[held] == name).sum() for _, held in folds)
        assert counts == sorted((y[held] == name).sum() for held in theirs)
        assert counts[-1] - counts[0] <= 1


def test_classes_smaller_than_the_number_of_folds():
    y = [0] * 20 + [7] * 3
    assert [sum(y[i] == 7 for i in held) for _, held in k_fold(23, 3, y)] == [1, 1, 1]
    message = "class 7 has 3 samples, fewer than the 4 folds: take fewer, leave out that class, or do not stratify"
    with pytest.raises(ValueError, match=message):
        k_fold(23, 4, y)
    assert len(k_fold(23, 4)) == 4


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: split(0, 0.5), ValueError, "n must be at least 1, got 0"),
    (lambda: split(4.0, 0.5), TypeError, "n must be a whole number, got 4.0"),
    (lambda: split(4, 1.0), ValueError, r"fraction must be in \(0, 1\), got 1.0"),
    (lambda: split(4, 2), ValueError, r"fraction must be in \(0, 1\), got 2"),
    (lambda: split(4, 0.5, seed=-1), ValueError, "seed must be at least 0, got -1"),
    (lambda: split(4, 0.5, [0, 1]), ValueError, r"stratify must have one label for each of 4 samples, shape \(4,\)"),
    (lambda: split(2, 0.5, np.eye(2)), ValueError, r"one label for each of 2 samples, shape \(2,\), got \(2, 2\)"),
    (lambda: split(2, 0.5, True), ValueError, r"one label for each of 2 samples, shape \(2,\), got \(\)"),
    (lambda: k_fold(10, 1), ValueError, "k must be at least 2, got 1"),
    (lambda: k_fold(10, 2.5), TypeError, "k must be a whole number, got 2.5"),
    (lambda: k_fold(1, 2), ValueError, "n must be at least 2, got 1"),
    (lambda: k_fold(3, 2, ["a", None, "b"]), ValueError, "stratify has 1 missing value"),
])  # fmt: skip
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
