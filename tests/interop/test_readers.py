"""Networks of other libraries, as networks of fastbp: the same outputs."""

import pickle

import numpy as np
import pytest
from sklearn.datasets import make_multilabel_classification
from sklearn.neural_network import MLPClassifier, MLPRegressor

from fastbp import Network
from fastbp import sklearn as ours

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
X, Y = np.random.default_rng(0).normal(size=(60, 4)), np.random.default_rng(1).integers(0, 3, 60)
NAMES = np.array(["rose", "lily", "oak"])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("module", [None, ours])
def test_classifiers(module, activation, dtype):
    kind = (module.MLPClassifier if module else MLPClassifier)
    close = dict(rtol=1e-4, atol=1e-6) if dtype == "float32" else dict(rtol=1e-12, atol=1e-15)
    for y, n_out in ((Y, 3), (Y > 0, 1), (NAMES[Y], 3), (NAMES[(Y > 0) * 1], 1)):
        model = kind((7, 5), activation, max_iter=5, random_state=0).fit(X.astype(dtype), y)
        net = Network.from_sklearn(model)
        assert net.layer_sizes == (4, 7, 5, n_out) and net.dtype == dtype and not net.multilabel
        np.testing.assert_allclose(net.predict_proba(X.astype(dtype)).reshape(60, -1)[:, -1],
                                   model.predict_proba(X.astype(dtype))[:, -1], **close)
        labels = net.predict(X.astype(dtype))
        assert (labels == (model.predict(X.astype(dtype)))).all()


def test_several_decisions_and_values():
    x, rows = make_multilabel_classification(60, n_features=4, random_state=0)
    model = MLPClassifier((5,), max_iter=5, random_state=0).fit(x, rows)
    net = Network.from_sklearn(model)
    assert net.multilabel and (net.predict(x) == model.predict(x)).all()
    for y in (X[:, 0], X[:, :3]):
        model = MLPRegressor(hidden_layer_sizes=(), max_iter=5, random_state=0).fit(X, y)
        net = Network.from_sklearn(pickle.loads(pickle.dumps(model)))
        np.testing.assert_allclose(net.predict(X), model.predict(X), rtol=1e-12)


def test_what_is_set_after_the_fit_does_not_count():
    model = ours.MLPClassifier((5,), "tanh", max_iter=3, random_state=0).fit(X, Y)
    net = Network.from_sklearn(model.set_params(activation="relu"))
    np.testing.assert_allclose(net.predict_proba(X), model.predict_proba(X), rtol=1e-12)
    one_class = MLPClassifier((5,), max_iter=3, random_state=0).fit(X, Y * 0)
    assert not Network.from_sklearn(one_class).multilabel


def test_names_of_features():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcd"))
    net = Network.from_sklearn(MLPClassifier((5,), max_iter=2).fit(frame, Y))
    assert net.feature_names == ("a", "b", "c", "d")
    assert (net.predict(frame[list("dcba")]) == net.predict(frame)).all()


def test_what_is_no_fitted_mlp():
    with pytest.raises(TypeError, match="a fitted MLPClassifier or MLPRegressor, got MLPClassifier.. without"):
        Network.from_sklearn(MLPClassifier())
    with pytest.raises(TypeError, match="a fitted MLP"):
        Network.from_sklearn(3)
    with pytest.raises(ValueError, match="the output is 'exp', which a Network does not have"):
        Network.from_sklearn(MLPRegressor(loss="poisson", max_iter=2).fit(X, Y))
