"""fastbp.sklearn: scikit-learn's checks and its own tests of its MLP; the same fits; what goes beyond; bad input."""

import copy
import inspect
import pickle
import signal
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest

sklearn = pytest.importorskip("sklearn", "1.6")
import sklearn.neural_network as theirs  # noqa: E402
from rig import python  # noqa: E402
from sklearn import config_context  # noqa: E402
from sklearn.base import clone  # noqa: E402
from sklearn.calibration import CalibratedClassifierCV  # noqa: E402
from sklearn.datasets import (  # noqa: E402
    load_breast_cancer,
    load_diabetes,
    load_iris,
    make_multilabel_classification,
)
from sklearn.exceptions import ConvergenceWarning  # noqa: E402
from sklearn.experimental import enable_halving_search_cv  # noqa: E402, F401
from sklearn.inspection import permutation_importance  # noqa: E402
from sklearn.model_selection import (  # noqa: E402
    GridSearchCV,
    HalvingGridSearchCV,
    cross_validate,
    learning_curve,
)
from sklearn.neural_network.tests import test_mlp as their_tests  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

from fastbp import SGD, Adam, losses  # noqa: E402
from fastbp import sklearn as ours  # noqa: E402
from fastbp.callbacks import Checkpoint, EarlyStopping  # noqa: E402
from fastbp.sklearn import MLPClassifier, MLPRegressor  # noqa: E402
from fastbp.sklearn.fitting import threads_of  # noqa: E402

NEW = tuple(map(int, sklearn.__version__.split(".")[:2])) >= (1, 9)
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
IRIS, CANCER, DIABETES = (load(return_X_y=True) for load in (load_iris, load_breast_cancer, load_diabetes))
CANCER = StandardScaler().fit_transform(CANCER[0]), CANCER[1]
DIABETES = DIABETES[0], DIABETES[1] / 100


@parametrize_with_checks([MLPClassifier(max_iter=100), MLPRegressor(max_iter=100)])
def test_every_check_of_scikit_learn(estimator, check):
    check(estimator)


# Theirs

# They read scikit-learn's private attributes: gradients, the count of epochs that were no better, the optimizer.
PRIVATE = {"test_gradient", "test_learning_rate_warmstart", "test_adaptive_learning_rate", "test_n_iter_no_change",
           "test_n_iter_no_change_inf"}


def as_ours(function):
    """A test of scikit-learn's with the classes swapped, with its marks."""
    own = copy.copy(vars(their_tests))
    own.update(MLPClassifier=MLPClassifier, MLPRegressor=MLPRegressor)
    swapped = type(function)(function.__code__, own, function.__name__, function.__defaults__, function.__closure__)
    swapped.pytestmark = getattr(function, "pytestmark", [])
    return swapped


@pytest.fixture
def global_random_seed():
    """As scikit-learn's conftest has it."""
    return 42


if NEW:
    for _name, _function in vars(their_tests).items():
        if _name.startswith("test_") and inspect.isfunction(_function) and _name not in PRIVATE:
            globals()[_name.replace("test_", "test_their_own_", 1)] = as_ours(_function)


def test_all_of_their_tests_are_known():
    """When scikit-learn gets more, somebody looks at them."""
    names = {name for name in vars(their_tests) if name.startswith("test_")}
    assert names >= PRIVATE
    assert not NEW or len(names) == 43


# The same fits

FITS = {
    "defaults": ("MLPClassifier", IRIS, {}),
    "large alpha": ("MLPClassifier", IRIS, dict(alpha=1.0)),
    "logistic, mini-batches": ("MLPClassifier", IRIS, dict(activation="logistic", batch_size=32)),
    "sgd": ("MLPClassifier", IRIS, dict(solver="sgd", learning_rate_init=0.01, batch_size=40)),
    "sgd, invscaling": ("MLPClassifier", IRIS, dict(
        solver="sgd", learning_rate_init=0.05, batch_size=40, learning_rate="invscaling", activation="tanh")),
    "sgd, adaptive": ("MLPClassifier", IRIS, dict(
        solver="sgd", learning_rate_init=0.1, batch_size=40, max_iter=200, learning_rate="adaptive", activation="tanh",
        n_iter_no_change=2, tol=1e-2)),
    "sgd, as they lie": ("MLPClassifier", IRIS, dict(
        solver="sgd", learning_rate_init=0.01, batch_size=40, shuffle=False, nesterovs_momentum=False, alpha=0.1)),
    "early stopping": ("MLPClassifier", IRIS, dict(early_stopping=True, learning_rate_init=0.01)),
    "early stopping of two classes": ("MLPClassifier", CANCER, dict(early_stopping=True, learning_rate_init=0.01)),
    "lbfgs": ("MLPClassifier", IRIS, dict(solver="lbfgs", max_iter=20)),
    "two hidden layers": ("MLPClassifier", CANCER, dict(hidden_layer_sizes=(20, 10))),
    "no hidden layer": ("MLPClassifier", CANCER, dict(hidden_layer_sizes=())),
    "multilabel": ("MLPClassifier", make_multilabel_classification(300, random_state=0), {}),
    "regression": ("MLPRegressor", DIABETES, {}),
    "regression, early stopping": ("MLPRegressor", DIABETES, dict(early_stopping=True)),
    "regression, lbfgs": ("MLPRegressor", DIABETES, dict(solver="lbfgs", max_iter=20)),
    "counts": ("MLPRegressor", DIABETES, dict(loss="poisson")),
    "counts, two outputs": ("MLPRegressor", (DIABETES[0], np.c_[DIABETES[1], DIABETES[1] ** 2]), dict(loss="poisson")),
    "one class, early stopping": ("MLPClassifier", (IRIS[0], IRIS[1] * 0 + 7), dict(
        early_stopping=True, batch_size=7)),
    "three outputs": ("MLPRegressor", (DIABETES[0], np.c_[DIABETES[1], DIABETES[1] ** 2, -DIABETES[1]]), {}),
}
COUNTS = ["n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"]


@pytest.mark.skipif(not NEW, reason="other releases of scikit-learn draw, score or count in other ways")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", FITS)
def test_a_fit_of_scikit_learn_is_repeated(name, weighted, dtype):
    kind, (X, y), settings = FITS[name]
    X, settings = X.astype(dtype), {"max_iter": 30, "random_state": 0} | settings
    weights = np.random.default_rng(0).random(len(X)) * 3 if weighted else None
    model = getattr(ours, kind)(**settings).fit(X, y, weights)
    their = getattr(theirs, kind)(**settings).fit(X, y, weights)
    close = dict(rtol=1e-6, atol=1e-8) if dtype == "float64" else dict(rtol=1e-2, atol=1e-3)
    assert model.coefs_[0].dtype == dtype
    for mine, its in zip(model.coefs_ + model.intercepts_, their.coefs_ + their.intercepts_, strict=True):
        np.testing.assert_allclose(mine, its, **close)
    np.testing.assert_allclose(model.loss_, their.loss_, rtol=1e-3)
    np.testing.assert_allclose(model.predict(X), their.predict(X), rtol=1e-3 if kind == "MLPRegressor" else 0)
    for attribute in COUNTS if dtype == "float64" else COUNTS[2:]:
        assert getattr(model, attribute) == getattr(their, attribute), attribute
    if settings.get("solver") == "lbfgs":
        return
    np.testing.assert_allclose(model.loss_curve_, their.loss_curve_, rtol=2e-3)
    if settings.get("early_stopping"):
        np.testing.assert_allclose(model.validation_scores_, their.validation_scores_, rtol=1e-4)
    else:
        np.testing.assert_allclose(model.best_loss_, their.best_loss_, rtol=1e-3)


@pytest.mark.skipif(not NEW, reason="as above")
@pytest.mark.parametrize("settings", [{}, dict(solver="sgd", learning_rate="invscaling", learning_rate_init=0.02)])
def test_partial_fit_and_warm_start_go_on_as_scikit_learn_does(settings):
    X, y = IRIS
    for weights in (None, np.linspace(0, 2, 150)):
        each = [kind(random_state=0, batch_size=40, **settings) for kind in (MLPClassifier, theirs.MLPClassifier)]
        for i in range(4):
            part = slice(25 * i, 25 * i + 60)
            for model in each:
                model.partial_fit(X[part], y[part], None if weights is None else weights[part], classes=[0, 1, 2])
            if i == 2:
                each[0] = pickle.loads(pickle.dumps(each[0]))  # with the moments
        for mine, its in zip(each[0].coefs_, each[1].coefs_, strict=True):
            np.testing.assert_allclose(mine, its, rtol=1e-9, atol=1e-12)
        assert each[0].t_ == each[1].t_
        np.testing.assert_allclose(each[0].loss_curve_, each[1].loss_curve_, rtol=1e-3)
        for model in each:
            model.set_params(warm_start=True, max_iter=5).fit(X, y, weights).fit(X, y, weights)
        for mine, its in zip(each[0].coefs_, each[1].coefs_, strict=True):
            np.testing.assert_allclose(mine, its, rtol=1e-9, atol=1e-12)
        assert (each[0].t_, len(each[0].loss_curve_)) == (each[1].t_, len(each[1].loss_curve_))


@pytest.mark.skipif(not NEW, reason="as above")
@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_what_changes_between_calls(solver):
    """Weights that users set, optimizers that keep their settings, activations; each as in scikit-learn."""
    X, y = IRIS
    each = [kind((5,), solver=solver, learning_rate="invscaling", learning_rate_init=0.05, random_state=0)
            for kind in (MLPClassifier, theirs.MLPClassifier)]

    def partial(n=2):
        for model in each:
            for _ in range(n):
                model.partial_fit(X, y, classes=[0, 1, 2])
        same()

    def same():
        for mine, its in zip(each[0].coefs_, each[1].coefs_, strict=True):
            np.testing.assert_allclose(mine, its, rtol=1e-8, atol=1e-11)
        np.testing.assert_allclose(each[0].predict_proba(X), each[1].predict_proba(X), rtol=1e-8)

    partial()
    for model in each:
        model.coefs_[0][:] *= 0.5
    partial()
    for model in each:
        model.set_params(learning_rate_init=0.3, power_t=0.1, beta_1=0.2, momentum=0.3)
    partial()
    each[0] = pickle.loads(pickle.dumps(each[0]))
    partial()
    for model in each:
        model.set_params(warm_start=True, max_iter=300, tol=0.1, n_iter_no_change=3, learning_rate="constant",
                         learning_rate_init=0.001).fit(X, y).fit(X, y)  # the second ends at once
    same()
    assert each[0].n_iter_ == each[1].n_iter_
    for model in each:
        model.set_params(activation="tanh", n_iter_no_change=1).fit(X, y)
    same()
    for model in each:
        model.set_params(solver="lbfgs", max_iter=3).fit(X, y).set_params(solver=solver)
    same()
    partial()


def test_copies_keep_activations():
    """Those of the fit, also if another is set before the copy is made."""
    X, y = IRIS
    model = MLPClassifier((5,), max_iter=3, random_state=0).fit(X, y)
    model.set_params(activation=["tanh", "relu"], hidden_layer_sizes=(3, 3))
    assert pickle.loads(pickle.dumps(model)).predict_proba(X).tobytes() == model.predict_proba(X).tobytes()


def test_a_copy_leaves_the_original_as_it_is():
    X, y = IRIS
    model, alone = (MLPClassifier((5,), random_state=0).partial_fit(X, y, classes=[0, 1, 2]) for _ in range(2))
    before = set(vars(model))
    for made in (pickle.dumps(model), copy.copy(model), copy.deepcopy(model)):
        assert set(vars(model)) == before and made
    assert model.partial_fit(X, y).coefs_[0].tobytes() == alone.partial_fit(X, y).coefs_[0].tobytes()


def test_assigned_weights_keep_the_moments():
    X, y = IRIS
    each = [MLPClassifier((5,), random_state=0) for _ in range(2)]
    for turn in range(4):
        for model in each:
            model.partial_fit(X, y, classes=[0, 1, 2])
        each[0].coefs_[0][:] *= 0.5
        each[1].coefs_[0] = each[1].coefs_[0] * 0.5
        each[1] = pickle.loads(pickle.dumps(each[1])) if turn == 2 else each[1]
    assert each[0].predict_proba(X).tobytes() == each[1].predict_proba(X).tobytes()


@pytest.mark.parametrize(("name", "own"), [("ReLU", "relu"), (["swish"], "silu")])
def test_other_names_of_activations_keep_the_moments(name, own):
    X, y = IRIS
    each = [MLPClassifier((5,), name, random_state=0), MLPClassifier((5,), own, random_state=0)]
    for model in each:
        for _ in range(3):
            model.partial_fit(X, y, classes=[0, 1, 2])
        assert model._kept[2].steps_done == 3
    assert each[0].coefs_[0].tobytes() == each[1].coefs_[0].tobytes()


def test_sparse_decisions_and_weights_of_0():
    sparse = pytest.importorskip("scipy.sparse")
    X, rows = make_multilabel_classification(60, random_state=0)
    dense, other, two = (MLPClassifier((5,), max_iter=3, random_state=0).fit(X, y)
                         for y in (rows, sparse.csr_matrix(rows), 2 * rows))
    assert dense.coefs_[0].tobytes() == other.coefs_[0].tobytes() == two.coefs_[0].tobytes()
    weights = np.repeat([0.0, 1.0], 30)
    model = MLPClassifier((5,), max_iter=3, batch_size=10, shuffle=False, random_state=0).fit(X, rows, weights)
    assert np.isfinite(model.loss_curve_).all()


def test_alpha_leaves_biases_alone():
    """Also where the weight decay of an optimizer does not; the wanted biases are scikit-learn's."""
    given = dict(hidden_layer_sizes=(5,), activation="tanh", alpha=5.0, max_iter=5, random_state=0, batch_size=50)
    X = np.random.default_rng(0).normal(size=(50, 3))
    their = theirs.MLPRegressor(**given, solver="sgd", learning_rate_init=0.1, momentum=0).fit(X, X[:, 0])
    for decays in (False, True):
        model = MLPRegressor(**given, optimizer=SGD(0.1, decay_biases=decays)).fit(X, X[:, 0])
        np.testing.assert_allclose(model.intercepts_[0], their.intercepts_[0], rtol=1e-9)


def test_a_pickle_goes_on_with_the_same_dropout():
    one = MLPRegressor((10,), dropout=0.3, random_state=0).partial_fit(*DIABETES)
    other = pickle.loads(pickle.dumps(one))
    for _ in range(3):
        assert one.partial_fit(*DIABETES).loss_ == other.partial_fit(*DIABETES).loss_


@pytest.mark.parametrize("given", [dict(dropout=0.5), dict(loss="mean_absolute"), dict(activation="tanh")], ids=str)
def test_what_is_set_between_calls_counts(given):
    """In a copy by pickle, too; the moments stay."""
    X, y = DIABETES
    one, as_before = (MLPRegressor((10,), random_state=0).partial_fit(X, y) for _ in range(2))
    one.set_params(**given)
    other = pickle.loads(pickle.dumps(one))
    for model in (one, other, as_before):
        model.partial_fit(X, y)
    assert one.coefs_[0].tobytes() != as_before.coefs_[0].tobytes()
    assert one._kept[2].steps_done == as_before._kept[2].steps_done
    assert one.coefs_[0].tobytes() == other.coefs_[0].tobytes()
    if "activation" in given:
        their = theirs.MLPRegressor(hidden_layer_sizes=(10,), random_state=0).partial_fit(X, y)
        their.set_params(**given).partial_fit(X, y)
        np.testing.assert_allclose(one.coefs_[0], their.coefs_[0], rtol=1e-9)


def test_ctrl_c_keeps_the_history():
    """Also where several epochs are made in one call."""
    model = MLPClassifier((20,), max_iter=10**6, tol=0, n_iter_no_change=10**6)
    clone(model).set_params(max_iter=2).fit(*CANCER)  # all is compiled
    before = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.warns(UserWarning, match="interrupted by user"):
            model.fit(*CANCER)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(model.history_["loss"]) == len(model.loss_curve_) == model.n_iter_ > 0


def test_checkpoints_are_refused(tmp_path):
    """They would resume to other bits: nothing of an estimator is in them."""
    with pytest.raises(ValueError, match="^MLPClassifier does not support callbacks.Checkpoint"):
        MLPClassifier(callbacks=[Checkpoint(tmp_path / "some")]).fit(*IRIS)
    assert not (tmp_path / "some").exists()


@pytest.mark.parametrize("given", [{}, dict(solver="sgd", early_stopping=True), dict(solver="lbfgs")], ids=str)
def test_sparse_samples(given):
    """The same fit as scikit-learn's on the same matrix; it is not made dense."""
    sparse = pytest.importorskip("scipy.sparse")
    X = np.where(np.abs(CANCER[0]) > 1, CANCER[0], 0)
    for kind in (sparse.csr_matrix, sparse.csc_array):
        model, their = (one((8,), max_iter=20, random_state=0, **given).fit(kind(X), CANCER[1])
                        for one in (MLPClassifier, theirs.MLPClassifier))
        np.testing.assert_allclose(model.coefs_[0], their.coefs_[0], atol=1e-5 if "solver" in given else 1e-10)
        np.testing.assert_allclose(model.predict_proba(kind(X)), model.predict_proba(X), atol=1e-12)
    first, second = (MLPClassifier((8,), random_state=0).partial_fit(rows, CANCER[1], classes=[0, 1])
                     for rows in (kind(X), X))
    np.testing.assert_allclose(first.coefs_[0], second.coefs_[0], atol=1e-12)


def test_names_of_classes_keep_their_type():
    names = np.array(["a", "b"])[CANCER[1]]
    model, their = (kind((5,), max_iter=2).fit(CANCER[0], names) for kind in (MLPClassifier, theirs.MLPClassifier))
    assert model.classes_.dtype == their.classes_.dtype == model.predict(CANCER[0]).dtype


def test_parameters_are_scikit_learns_and_more():
    for mine, its in ((MLPClassifier, theirs.MLPClassifier), (MLPRegressor, theirs.MLPRegressor)):
        own, their = inspect.signature(mine).parameters, inspect.signature(its).parameters
        assert {name: own[name].default for name in their} == {name: one.default for name, one in their.items()}
        assert list(own)[:2] == ["hidden_layer_sizes", "activation"]


def test_threads_do_not_change_a_bit():
    X, y = CANCER
    each = [MLPClassifier((64,), max_iter=5, random_state=0, threads=n, dropout=0.2).fit(X, y) for n in (1, 2)]
    assert all(a.tobytes() == b.tobytes() for a, b in zip(each[0].coefs_, each[1].coefs_, strict=True))
    assert each[0].loss_curve_ == each[1].loss_curve_


# Beyond scikit-learn


def test_settings_of_fastbp():
    X, y = IRIS
    model = MLPClassifier((20, 10), ["gelu", "tanh"], loss=losses.CrossEntropy(label_smoothing=0.1), batch_size=50,
                          optimizer=Adam(0.01), schedule="cosine", dropout=[0.0, 0.1, 0.0], max_iter=60, alpha=0.0,
                          metrics=["f1"], callbacks=[EarlyStopping(patience=60)], random_state=0)
    model.fit(X, y, validation_data=(X, y))
    assert model.score(X, y) > 0.9
    assert set(model.history_) == {"loss", "validation_loss", "validation_accuracy", "f1"}
    assert len(model.history_["f1"]) == len(model.loss_curve_) == 60
    np.testing.assert_allclose(model.loss_curve_, model.history_["loss"])
    assert model.coefs_[1].shape == (20, 10)
    two = MLPClassifier((5,), loss="cross_entropy", max_iter=3).fit(*CANCER)
    assert two.n_outputs_ == 2 and two.predict_proba(CANCER[0]).shape == (569, 2)


def test_a_schedule_lowers_the_rate():
    X, y = IRIS
    still = MLPClassifier(schedule=lambda step, steps: 0.0, max_iter=3, random_state=0).fit(X, y)
    begun = MLPClassifier(max_iter=1, random_state=0, learning_rate_init=1e-12).fit(X, y)
    np.testing.assert_allclose(still.coefs_[0], begun.coefs_[0], atol=1e-10)


@pytest.mark.parametrize("loss", ["huber", losses.MeanAbsolute(), losses.Poisson()])
def test_losses_of_fastbp(loss):
    X, y = DIABETES
    model = MLPRegressor((20,), loss=loss, max_iter=200, learning_rate_init=0.01, random_state=0).fit(X, y)
    assert model.score(X, y) > 0.3
    assert model.out_activation_ == ("softplus" if isinstance(loss, losses.Poisson) else "identity")


@pytest.mark.parametrize("given", ["balanced", {0: 10.0}])
def test_class_weight(given):
    """As many weights; "balanced" counts weights, not samples."""
    X, y = CANCER
    own = np.random.default_rng(0).random(len(y))
    if given == "balanced":
        weights = own * (own.sum() / (2 * np.bincount(y, own)))[y]
    else:
        weights = own * np.where(y == 0, 10.0, 1.0)
    by_class = MLPClassifier(max_iter=5, random_state=0, class_weight=given).fit(X, y, own)
    by_sample = MLPClassifier(max_iter=5, random_state=0).fit(X, y, weights)
    assert by_class.coefs_[0].tobytes() == by_sample.coefs_[0].tobytes()


# With scikit-learn's tools


def test_copies():
    X, y = IRIS
    model = MLPClassifier(max_iter=20, random_state=0).fit(X, y)
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert other.predict_proba(X).tobytes() == model.predict_proba(X).tobytes()
    unfitted = clone(model)
    assert not hasattr(unfitted, "coefs_") and unfitted.get_params() == model.get_params()
    plain = {type(value) for value in model.__getstate__().values()}
    assert plain <= {tuple, list, str, float, int, bool, type(None), np.ndarray, dict}
    model.coefs_[0] = np.zeros_like(model.coefs_[0])  # whoever sets them, they count
    assert np.ptp(model.predict_proba(X), axis=0).max() == 0


def test_columns_are_checked_by_name():
    pandas = pytest.importorskip("pandas")
    X, y = load_iris(return_X_y=True, as_frame=True)
    model = MLPClassifier(max_iter=5, random_state=0).fit(X, y)
    assert list(model.feature_names_in_) == list(X.columns)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(X[X.columns[::-1]])
    model = make_pipeline(StandardScaler(), MLPClassifier(max_iter=5)).set_output(transform="pandas").fit(X, y)
    assert isinstance(model[0].transform(X), pandas.DataFrame)


def test_bytes_are_plain_numbers():
    X, y = IRIS
    whole = (X * 10).astype(np.uint8)
    for small, plain in ((whole, "f4"), (whole > 20, "f4"), (whole.astype("u2"), "f4"), (whole.astype("i4"), "f8")):
        a, b = (MLPClassifier(max_iter=3, random_state=0).fit(each, y) for each in (small, small.astype(plain)))
        assert a.coefs_[0].dtype == plain and a.coefs_[0].tobytes() == b.coefs_[0].tobytes()
        assert a.predict_proba(small).tobytes() == b.predict_proba(small.astype(plain)).tobytes()


@pytest.mark.parametrize("search", [GridSearchCV, HalvingGridSearchCV])
def test_searches(search):
    X, y = CANCER
    found = search(MLPClassifier((10,), max_iter=30, random_state=0), {"alpha": [1e-4, 1e4], "solver": ["adam"]},
                   n_jobs=2, cv=2).fit(X, y)
    assert found.best_params_["alpha"] == 1e-4 and found.score(X, y) > 0.9


def test_calibration_importance_and_curves():
    X, y = CANCER
    model = MLPClassifier((10,), max_iter=30, random_state=0)
    calibrated = CalibratedClassifierCV(model, cv=2).fit(X, y)
    assert calibrated.score(X, y) > 0.9
    importance = permutation_importance(model.fit(X, y), X, y, n_repeats=2, random_state=0)
    assert importance.importances_mean.max() > 0
    sizes, train, test = learning_curve(model, X, y, cv=2, train_sizes=[0.2, 1.0])
    assert len(sizes) == 2 and test[-1].mean() > 0.8 and train.min() > 0.8


def test_weights_are_routed():
    X, y = CANCER
    with config_context(enable_metadata_routing=True):
        model = MLPClassifier((5,), max_iter=3, random_state=0).set_fit_request(sample_weight=True)
        model.set_score_request(sample_weight=True)
        found = cross_validate(model, X, y, cv=2, params={"sample_weight": np.ones(len(y))}, return_estimator=True)
    assert len(found["estimator"]) == 2


WORKERS = """
import multiprocessing
import joblib
import numpy as np
from fastbp.sklearn import MLPClassifier
from fastbp.sklearn.fitting import threads_of as _threads
def threads(_):
    return _threads(MLPClassifier()) or MLPClassifier(max_iter=1).fit(X, y)._kept[2].threads
X, y = np.random.default_rng(0).random((2000, 500)), np.arange(2000) % 2
# A server of processes (Python 3.14) cannot import what was given by -c.
forked = ["multiprocessing"] * (multiprocessing.get_start_method() == "fork")
for backend in ["loky", "threading", *forked]:
    with joblib.parallel_config(backend, n_jobs=2):
        print(backend, joblib.Parallel()(joblib.delayed(threads)(i) for i in range(2)))
print(_threads(MLPClassifier()), _threads(MLPClassifier(threads=2)))
"""


def test_one_thread_in_each_worker():
    printed = python(WORKERS).stdout.splitlines()
    *workers, alone = printed
    assert workers[:2] == ["loky [1, 1]", "threading [1, 1]"] and set(workers[2:]) <= {"multiprocessing [1, 1]"}
    assert alone == "None 2"


def test_one_thread_in_other_threads_of_python():
    seen = []
    thread = threading.Thread(target=lambda: seen.append(threads_of(MLPClassifier())))
    thread.start()
    thread.join()
    assert seen == [1]


if NEW:
    class Told:
        """A callback of scikit-learn."""

        def __init__(self, stop_after=None):
            self.stop_after, self.seen = stop_after, []

        def setup(self, estimator, context):
            self.seen.append("setup")

        def teardown(self, estimator, context):
            self.seen.append("teardown")

        def on_fit_task_begin(self, estimator, context):
            self.seen.append(f"begin {context.task_name}")

        def on_fit_task_end(self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None):
            self.seen.append(f"end {context.task_name}")
            if context.task_name != "fit":
                assert X is not None and y is not None and "sample_weight" in metadata
                assert fitted_estimator.predict(X).shape == y.shape
                self.seen[-1] += f" {fitted_estimator.coefs_[0].sum() != estimator.coefs_[0].sum()}"
            return self.seen.count("end epoch False") == self.stop_after


@pytest.mark.skipif(not NEW, reason="scikit-learn has callbacks since 1.9")
@pytest.mark.parametrize(("settings", "task"), [({}, "epoch"), ({"solver": "lbfgs"}, "lbfgs-iter")])
def test_callbacks_of_scikit_learn(settings, task):
    X, y = CANCER
    told = Told()
    model = MLPClassifier((5,), max_iter=3, random_state=0, **settings).set_callbacks(told)
    model.fit(X, y, np.ones(len(y)))
    epochs = [word for word in told.seen if task in word]
    assert told.seen[:2] == ["setup", "begin fit"] and told.seen[-2:] == ["end fit", "teardown"]
    assert epochs[:4] == [f"begin {task}", f"end {task} False"] * 2 and len(epochs) >= 6
    stopped = MLPClassifier((5,), max_iter=50, random_state=0).set_callbacks(Told(2)).fit(X, y, np.ones(len(y)))
    assert stopped.n_iter_ == 2
    search = GridSearchCV(MLPClassifier((5,), max_iter=2), {"alpha": [0.1, 1.0]}, cv=2)
    assert search.fit(X, y).best_score_ > 0.1


@pytest.mark.skipif(not NEW, reason="scikit-learn has callbacks since 1.9")
def test_a_scoring_monitor():
    from sklearn.callback import ScoringMonitor

    X, y = CANCER
    monitor = ScoringMonitor(scoring="accuracy")
    MLPClassifier((5,), max_iter=4, random_state=0).set_callbacks(monitor).fit(X, y)
    assert len(monitor.get_logs().data) >= 4


# Bad input

X2, Y2 = np.random.default_rng(0).random((20, 3)), np.arange(20) % 2
WRONG = {
    "activation": (dict(activation="rellu"), "did you mean 'relu'"),
    "solver": (dict(solver="adm"), "did you mean 'adam'"),
    "alpha": (dict(alpha=-1), "alpha must be a finite number >= 0, got -1"),
    "batch": (dict(batch_size=0), "batch_size must be at least 1, got 0"),
    "sizes": (dict(hidden_layer_sizes=(5, 0)), r"hidden_layer_sizes must be > 0, got \[5, 0\]"),
    "activations": (dict(activation=["relu", "tanh"]), "activation names 2 layers, hidden_layer_sizes 1"),
    "rate": (dict(learning_rate="adaptiv"), "did you mean 'adaptive'"),
    "classes": (dict(class_weight={7: 1.0}), r"class_weight names 7, the classes are \[0, 1\]"),
    "loss": (dict(loss="hubber"), "did you mean 'huber'"),
    "metrics": (dict(metrics=["f1"]), "metrics need validation_data"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_parameters(name):
    settings, match = WRONG[name]
    with pytest.raises((ValueError, TypeError), match=match):
        MLPClassifier(**settings).fit(X2, Y2)


def test_data_that_do_not_fit_change_nothing():
    model = MLPClassifier((4,), max_iter=3, random_state=0).partial_fit(X2, Y2, classes=[0, 1])
    before = [W.copy() for W in model.coefs_]
    for X, y, match in ((X2, Y2 + 1, "classes not in"), (X2[:, :2], Y2, "features"), (X2 * np.nan, Y2, "NaN"),
                        (X2, X2[:, 0], "Unknown label type")):
        with pytest.raises(ValueError, match=match):
            model.partial_fit(X, y)
    with pytest.raises(ValueError, match="NaN"):
        model.predict(X2 * np.nan)
    with pytest.raises(ValueError, match="zero"):
        model.partial_fit(X2, Y2, np.zeros(20))
    assert all((a == b).all() for a, b in zip(before, model.coefs_, strict=True))
    with pytest.raises(ValueError, match="needs y >= 0, found -1"):
        MLPRegressor(loss="poisson").fit(X2, -Y2)
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        MLPRegressor(solver="sgd", learning_rate_init=1e30, batch_size=2).fit(X2 * 1e30, Y2)
    with pytest.raises(AttributeError, match="partial_fit"):
        MLPRegressor(solver="lbfgs").partial_fit(X2, Y2)


def test_without_scikit_learn():
    code = ("import sys; sys.modules['sklearn'] = None; sys.modules['sklearn.base'] = None\n"
            "try:\n    import fastbp.sklearn\nexcept ImportError as error:\n    print(error)\n"
            )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert made.stdout == 'fastbp.sklearn needs scikit-learn 1.6 or newer: pip install "fastbp[sklearn]"\n'


def test_the_end_without_convergence_is_said():
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(2\) reached"):
        MLPClassifier((3,), max_iter=2).fit(X2, Y2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MLPClassifier((3,), max_iter=1000, tol=1.0, n_iter_no_change=1).fit(X2, Y2)
