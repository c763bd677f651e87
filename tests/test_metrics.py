"""Metrics beside scikit-learn's, and as a fit computes and watches them."""

import numpy as np
import pytest
import sklearn.metrics as theirs

from fastbp import Network, Trainer, metrics
from fastbp.callbacks import EarlyStopping, JSONLog, StopAt

draw = np.random.default_rng(0)
N, CLASSES = 301, 7
LABELS = draw.integers(0, CLASSES - 1, N)  # one is never there
OUTPUTS = draw.dirichlet(np.ones(CLASSES), N)
OUTPUTS[np.arange(N), LABELS] += 0.2
OUTPUTS /= OUTPUTS.sum(axis=1, keepdims=True)
DECIDED = OUTPUTS.argmax(axis=1)
MANY = (draw.random((N, 4)) < 0.3).astype(float)
PROBABILITIES = np.clip(MANY * 0.3 + draw.random((N, 4)) * 0.7, 0.001, 0.999)
BINARY, SINGLE = draw.integers(0, 2, N), draw.random((N, 1))
VALUES, GUESSES = draw.normal(3, 2, (N, 3)), draw.normal(3, 2, (N, 3))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [False, True])
def test_of_labels(rows, dtype):
    y, outputs = np.eye(CLASSES)[LABELS] if rows else LABELS, OUTPUTS.astype(dtype)
    zero, every = dict(zero_division=0), dict(labels=range(CLASSES))
    assert metrics.accuracy(y, outputs) == theirs.accuracy_score(LABELS, DECIDED)
    assert (metrics.confusion_matrix(y, outputs) == theirs.confusion_matrix(LABELS, DECIDED, **every)).all()
    for name in ("precision", "recall", "f1"):
        own, other = getattr(metrics, name), getattr(theirs, f"{name}_score")
        assert own(y, outputs) == pytest.approx(other(LABELS, DECIDED, average="macro", **zero))
        np.testing.assert_allclose(own(y, outputs, average=None),
                                   other(LABELS, DECIDED, average=None, **every, **zero))
    assert metrics.log_loss(y, outputs) == pytest.approx(theirs.log_loss(LABELS, OUTPUTS, **every), rel=1e-6)
    for k in (1, 2, 5):
        assert metrics.top_k(y, outputs, k) == theirs.top_k_accuracy_score(LABELS, OUTPUTS, k=k, **every)
    assert metrics.top_k(y, outputs, 9) == 1


def test_of_a_single_output():
    decided = (SINGLE[:, 0] >= 0.5).astype(int)
    for y in (BINARY, BINARY[:, np.newaxis], BINARY.astype(float)):
        assert metrics.accuracy(y, SINGLE) == theirs.accuracy_score(BINARY, decided)
        assert metrics.f1(y, SINGLE, average=None)[1] == pytest.approx(theirs.f1_score(BINARY, decided))
        assert metrics.log_loss(y, SINGLE) == pytest.approx(theirs.log_loss(BINARY, SINGLE[:, 0]))
        assert (metrics.confusion_matrix(y, SINGLE) == theirs.confusion_matrix(BINARY, decided)).all()


def test_of_several_classes_to_a_sample():
    said = PROBABILITIES >= 0.5
    assert metrics.accuracy(MANY, PROBABILITIES) == pytest.approx(np.mean(said == MANY))
    for name in ("precision", "recall", "f1"):
        expected = getattr(theirs, f"{name}_score")(MANY, said, average="macro", zero_division=0)
        assert getattr(metrics, name)(MANY, PROBABILITIES) == pytest.approx(expected)
    each = [theirs.log_loss(MANY[:, j], PROBABILITIES[:, j]) for j in range(4)]
    assert metrics.log_loss(MANY, PROBABILITIES) == pytest.approx(np.mean(each))
    for metric in (metrics.top_k, metrics.confusion_matrix):
        with pytest.raises(ValueError, match="needs one label a sample, y holds rows of values"):
            metric(MANY, PROBABILITIES)


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_of_values(offset):
    y, outputs = VALUES + offset, GUESSES + offset
    assert metrics.mae(y, outputs) == pytest.approx(theirs.mean_absolute_error(y, outputs))
    assert metrics.rmse(y, outputs) == pytest.approx(np.sqrt(theirs.mean_squared_error(y, outputs)))
    assert metrics.r2(y, outputs) == pytest.approx(theirs.r2_score(y, outputs))
    assert metrics.r2(y[:, 0], outputs[:, :1]) == pytest.approx(theirs.r2_score(y[:, 0], outputs[:, 0]))
    assert metrics.r2(np.ones((5, 1)), np.ones((5, 1))) == 1 and metrics.r2(np.ones((5, 1)), np.zeros((5, 1))) == 0


@pytest.mark.parametrize(("y", "outputs"), [
    ([0, 1], [[0.5, 0.5]]), ([0, 2], [[0.5, 0.5]] * 2), ([0, -1], [[0.5, 0.5]] * 2), ([0.5, 1], [[0.5, 0.5]] * 2),
    ([], np.zeros((0, 2))), (np.eye(3), np.eye(2)), ([[1, 0, 0]], [[0.5, 0.5]]), ([0], [0.5]),
])
def test_what_does_not_fit_is_refused(y, outputs):
    for metric in metrics.METRICS.values():
        with pytest.raises(ValueError, match="^y |outputs"):
            metric.function(y, outputs)


def test_a_fit_watches_them(tmp_path):
    X = draw.normal(size=(200, 4))
    y = (X[:, 0] > 0).astype(int)
    net = Network([4, 6, 2], seed=0)
    error = metrics.Metric("error", lambda y, outputs: np.mean(outputs.argmax(axis=1) != y), more_is_better=False)
    history = Trainer(net, batch_size=20).fit(
        X, y, 30, (X, y), metrics=["f1", "top5", error], callbacks=[StopAt("error", 0.05), JSONLog(tmp_path / "log")])
    assert history.metrics["f1"][-1] == metrics.f1(y, net.forward(X)) and set(history.metrics["top5"]) == {1.0}
    assert history.metrics["error"][-1] == pytest.approx(1 - history.validation_accuracy[-1])
    assert history.stopped.startswith("error has come to 0.0") and len(history.metrics["f1"]) == len(history.loss) < 30
    assert '"f1": ' in (tmp_path / "log").read_text().splitlines()[0]
    history = Trainer(net, batch_size=20).fit(X, y, 30, (X, y), metrics=["f1"], callbacks=[
        EarlyStopping("f1", patience=1, least_gain=2)])
    assert history.stopped == "f1 has not got better for 1 epochs"
    regression = Trainer(Network([4, 6, 1], output="identity")).fit(X, X[:, 0], 2, validation_fraction=0.2,
                                                                    metrics=["r2", "mae", "rmse"])
    assert list(regression.metrics) == ["r2", "mae", "rmse"]


@pytest.mark.parametrize(("chosen", "kind", "message"), [
    (["f2"], ValueError, "unknown metric 'f2'; valid: accuracy, top5"), ("f1", TypeError, "metrics must be a sequence"),
    ([metrics.Metric("loss", metrics.f1)], ValueError, "a metric must not be called loss: a fit has its own"),
    (["f1", "f1"], ValueError, "a name of its own, got f1, f1"), (["r2"], ValueError, "y has shape"),
    ([metrics.Metric("rows", lambda y, outputs: outputs)], ValueError, "metric rows must give a number"),
])
def test_what_fit_refuses(chosen, kind, message):
    X, y = np.zeros((10, 3)), np.arange(10) % 2
    net = Network([3, 2])
    before = net.theta.copy()
    with pytest.raises(kind, match=message):
        Trainer(net).fit(X, y, validation_data=(X, y), metrics=chosen)
    with pytest.raises((ValueError, TypeError)):
        Trainer(net).fit(X, y, metrics=["f1"])
    assert (net.theta == before).all()
