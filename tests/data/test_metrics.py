"""Metrics beside scikit-learn's, and as a fit computes and watches them."""

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as theirs

from fastbp import Network, Trainer, metrics
from fastbp.callbacks import EarlyStopping, JSONLog, StopAt
from fastbp.metrics import METRICS, Metric

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
    assert metrics.top_k(y, outputs, 9) == metrics.top_k(y, outputs, 10**400) == 1


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


WEIGHTS = draw.integers(0, 4, N) * draw.choice([0.5, 1.25], N)


@pytest.mark.parametrize("factor", [1, 1e-300, 1e300])
@pytest.mark.parametrize("multilabel", [None, False])
def test_weights_of_labels(multilabel, factor):
    """As scikit-learn's, for which a factor that all have makes no difference, nor here."""
    def own(name, *more, **details):
        return getattr(metrics, name)(LABELS, OUTPUTS, *more, multilabel=multilabel, sample_weight=WEIGHTS * factor,
                                      **details)

    every = dict(labels=range(CLASSES), sample_weight=WEIGHTS)
    assert own("accuracy") == pytest.approx(theirs.accuracy_score(LABELS, DECIDED, sample_weight=WEIGHTS))
    for name in ("precision", "recall", "f1"):
        expected = getattr(theirs, f"{name}_score")(LABELS, DECIDED, average=None, zero_division=0, **every)
        np.testing.assert_allclose(own(name, None), expected)
        assert own(name) == pytest.approx(getattr(theirs, f"{name}_score")(
            LABELS, DECIDED, average="macro", zero_division=0, sample_weight=WEIGHTS))
    assert own("log_loss") == pytest.approx(theirs.log_loss(LABELS, OUTPUTS, **every))
    assert own("top_k", 3) == pytest.approx(theirs.top_k_accuracy_score(LABELS, OUTPUTS, k=3, **every))
    np.testing.assert_allclose(own("confusion_matrix") / factor, theirs.confusion_matrix(LABELS, DECIDED, **every))


def test_weights_of_several_classes_to_a_sample_and_of_values():
    said = PROBABILITIES >= 0.5
    for name in ("precision", "recall", "f1"):
        expected = getattr(theirs, f"{name}_score")(MANY, said, average="macro", zero_division=0, sample_weight=WEIGHTS)
        assert getattr(metrics, name)(MANY, PROBABILITIES, sample_weight=WEIGHTS) == pytest.approx(expected)
    each = [(theirs.accuracy_score(MANY[:, j], said[:, j], sample_weight=WEIGHTS),
             theirs.log_loss(MANY[:, j], PROBABILITIES[:, j], sample_weight=WEIGHTS)) for j in range(4)]
    assert metrics.accuracy(MANY, PROBABILITIES, sample_weight=WEIGHTS) == pytest.approx(np.mean(each, axis=0)[0])
    assert metrics.log_loss(MANY, PROBABILITIES, sample_weight=WEIGHTS) == pytest.approx(np.mean(each, axis=0)[1])
    for offset in (0, 1e6):
        y, outputs = VALUES + offset, GUESSES + offset
        assert metrics.mae(y, outputs, sample_weight=WEIGHTS) == pytest.approx(
            theirs.mean_absolute_error(y, outputs, sample_weight=WEIGHTS))
        assert metrics.r2(y, outputs, sample_weight=WEIGHTS) == pytest.approx(
            theirs.r2_score(y, outputs, sample_weight=WEIGHTS))
        assert metrics.rmse(y[:, 0], outputs[:, :1], sample_weight=WEIGHTS) == pytest.approx(
            theirs.root_mean_squared_error(y[:, 0], outputs[:, 0], sample_weight=WEIGHTS))


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_a_weight_is_as_many_samples(metric):
    """0: none; also in parts that go through one after another."""
    y, outputs = (VALUES, GUESSES) if metric.kind == "values" else (LABELS, OUTPUTS)
    times = draw.integers(0, 3, N)
    again = np.repeat(np.arange(N), times)
    weighted = metric.function(y, outputs, sample_weight=times)
    assert weighted == pytest.approx(metric.function(y[again], outputs[again]), rel=1e-12)
    try:
        metrics.BLOCK, block = 50, metrics.BLOCK
        assert metric.function(y, outputs, sample_weight=times) == pytest.approx(weighted, rel=1e-12)
    finally:
        metrics.BLOCK = block
    for wrong, message in (([1.0] * (N - 1), "sample_weight must have shape"), ([-1.0] * N, "must be finite and >= 0"),
                           ([0] * N, "all samples have weight 0")):
        with pytest.raises(ValueError, match=message):
            metric.function(y, outputs, sample_weight=wrong)


def test_what_rows_mean_is_said():
    """One-hot rows on three sigmoid outputs: a guess takes them for labels, until one more row changes it."""
    y, outputs = np.array([[1, 0, 0], [0, 1, 0]]), np.array([[0.9, 0.6, 0.1], [0.2, 0.8, 0.7]])
    assert metrics.accuracy(y, outputs) == metrics.accuracy(y, outputs, multilabel=False) == 1
    assert metrics.accuracy(y, outputs, multilabel=True) == pytest.approx(4 / 6)
    more = np.vstack([y, [1, 1, 0]]), np.vstack([outputs, [0.9, 0.8, 0.1]])
    assert metrics.accuracy(*more) == metrics.accuracy(*more, multilabel=True) == pytest.approx(7 / 9)
    assert metrics.accuracy(*more, multilabel=False) == 1
    assert metrics.log_loss(y, outputs, multilabel=False) == pytest.approx(-np.log([0.9, 0.8]).mean())
    assert metrics.log_loss(y, outputs, multilabel=True) == pytest.approx(np.mean([
        theirs.log_loss(y[:, j], outputs[:, j], labels=[0, 1]) for j in range(3)]))
    assert metrics.f1(y, outputs, None, multilabel=True) == pytest.approx([1, 2 / 3, 0])
    assert metrics.top_k([[0.2, 0.8]], [[0.5, 0.4]], 1, multilabel=False) == 0
    for metric in (metrics.top_k, metrics.confusion_matrix):
        with pytest.raises(ValueError, match="needs one label a sample, y holds rows of values"):
            metric(y, outputs, multilabel=True)
    with pytest.raises(ValueError, match=r"multilabel=True needs rows of targets \(2, 3\), y has shape \(2,\)"):
        metrics.f1([0, 1], outputs, multilabel=True)
    assert metrics.accuracy([0, 1], outputs[:, :1], multilabel=True) == 0
    assert metrics.accuracy(y, outputs, multilabel=np.False_) == metrics.accuracy(more[0], more[1], multilabel=False)
    with pytest.raises(TypeError, match="multilabel must be True or False, got 'yes'"):
        metrics.accuracy(y, outputs, multilabel="yes")


@pytest.mark.parametrize("name", [*METRICS, "confusion_matrix"])
def test_nan_outputs_are_never_good(name):
    function = getattr(metrics, "top_k" if name == "top5" else name)
    for i in (0, 2):
        a, single = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), np.array([[0.1], [0.8], [0.6]])
        a[i, 1] = single[i] = np.nan
        for y, outputs in (([0, 1, 0], a), (np.eye(2)[[0, 1, 0]], a), ([0, 1, 1], single)):
            y = np.asarray(y, float)
            if name == "confusion_matrix":
                with pytest.raises(ValueError, match="a decision for each sample, but an output is NaN"):
                    function(y, outputs)
            elif name not in ("r2", "mae", "rmse") or y.shape == outputs.shape:
                assert np.isnan(function(y, outputs)), (y, outputs)
        if name in ("precision", "recall", "f1"):
            assert np.isnan(function([0, 1, 1], a, average=None)).all()
            assert np.isnan(function([0, 1, 1], [0, np.nan, 1]))
    if name in ("accuracy", "f1"):
        assert np.isnan(function([[1, 1], [0, 1], [1, 0]], a))


@pytest.mark.parametrize("dtype", ["?", "i1", ">i4", "u8", "f2", ">f4", "f4", "f8", "g", "O"])
def test_every_real_type(dtype):
    y, outputs = np.array([[0], [1], [1], [0]], dtype), np.array([[0], [1], [0], [0]], dtype)
    assert metrics.rmse(y, outputs) == 0.5 and metrics.mae(y[:, 0], outputs) == 0.25
    assert metrics.rmse(np.array([0, 1], dtype), np.array([1, 1], dtype)) == pytest.approx(0.7071, abs=1e-4)
    assert metrics.accuracy(y, outputs) == metrics.accuracy(y[:, 0], outputs) == 0.75
    one_hot = np.eye(3)[[0, 1, 2, 0]].astype(dtype)
    assert metrics.f1(one_hot, one_hot) == metrics.top_k(one_hot, one_hot, 1) == 1
    assert metrics.accuracy(one_hot[:, :2], one_hot[:, :2]) == 1  # with a row of no class
    assert metrics.log_loss(one_hot, one_hot) == 0


def test_every_order_and_read_only():
    for change in (np.asfortranarray, lambda a: a[::-1], lambda a: np.repeat(a, 2, axis=-1)[..., ::2]):
        y, outputs, values, guesses = (change(part) for part in (LABELS, OUTPUTS, VALUES, GUESSES))
        for array in (y, outputs, values, guesses):
            array.flags.writeable = False
        assert metrics.f1(y, outputs) == pytest.approx(metrics.f1(LABELS, OUTPUTS))
        assert metrics.top_k(y, outputs, 2) == metrics.top_k(LABELS, OUTPUTS, 2)
        assert metrics.log_loss(y, outputs) == pytest.approx(metrics.log_loss(LABELS, OUTPUTS))
        assert metrics.rmse(values, guesses) == pytest.approx(metrics.rmse(VALUES, GUESSES))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_log_loss_of_a_sure_and_wrong_output(dtype):
    """As evaluate gives it, to within what the output has lost when it was rounded to 1."""
    net = Network([1, 1], output="sigmoid", dtype=dtype)
    net.theta[:] = 1, 0
    trainer = Trainer(net)
    for z in (17.0, -17.0, 12.0, -60.0, 0.0):
        X, y = np.full((1, 1), z), [0 if z > 0 else 1]
        rel = 0.01 if z == 17 else 0.002
        assert metrics.log_loss(y, net.forward(X)) == pytest.approx(trainer.evaluate(X, y)[0], rel=rel), z
    sure = metrics.log_loss([0], net.forward([[100.0]]))
    assert sure == pytest.approx({"float32": 16.98, "float64": 37.08}[dtype], abs=0.01)
    assert metrics.log_loss([1], np.zeros((1, 1), dtype)) == pytest.approx(-np.log(np.finfo(dtype).tiny))
    with pytest.raises(ValueError, match=r"log_loss needs probabilities, outputs in \[0, 1\], found -0.5 to 1.5"):
        metrics.log_loss([0, 1], np.array([[-0.5, 1.5]] * 2, dtype))


def test_no_yes_at_all():
    """0, without a warning, as scikit-learn with zero_division=0."""
    y, outputs = np.zeros((2, 3)), np.full((2, 3), 0.1)
    for name in ("f1", "precision", "recall"):
        assert getattr(metrics, name)(y, outputs) == 0
        assert getattr(theirs, f"{name}_score")(y, outputs >= 0.5, average="macro", zero_division=0) == 0
    y[0, 0] = outputs[0, 0] = 1
    assert metrics.f1(y, outputs) == theirs.f1_score(y, outputs >= 0.5, average="macro", zero_division=0) == 1 / 3


# What predict and forward give.


def test_labels_that_were_predicted():
    texts = np.array(["cat", "dog", "eel", "fox", "gnu", "hen", "ibis"])
    for y, decided in ((LABELS, DECIDED), (texts[LABELS], texts[DECIDED]),
                       (texts[LABELS].astype(object), texts[DECIDED]),
                       (LABELS[:, np.newaxis], DECIDED), (LABELS, DECIDED[:, np.newaxis]),
                       (LABELS - 3, (DECIDED - 3).astype(float)), (LABELS.astype("f4"), DECIDED.astype("i1")),
                       (LABELS * 10**12, DECIDED * 10**12), (list(texts[LABELS]), list(texts[DECIDED]))):
        assert metrics.accuracy(y, decided) == theirs.accuracy_score(LABELS, DECIDED)
        assert (metrics.confusion_matrix(y, decided) == theirs.confusion_matrix(LABELS, DECIDED)).all()
        for name in ("precision", "recall", "f1"):
            expected = getattr(theirs, f"{name}_score")(LABELS, DECIDED, average="macro", zero_division=0)
            assert getattr(metrics, name)(y, decided) == pytest.approx(expected)
    assert metrics.accuracy(np.eye(CLASSES)[LABELS], DECIDED) == theirs.accuracy_score(LABELS, DECIDED)
    assert metrics.f1(BINARY.astype(bool), BINARY) == metrics.f1(BINARY, BINARY.astype(bool)) == 1
    assert metrics.f1(MANY, (PROBABILITIES >= 0.5).astype(int)) == metrics.f1(MANY, PROBABILITIES)
    net = Network([2, 5, 3], seed=0)
    X = draw.normal(size=(50, 2))
    y = draw.integers(0, 3, 50)
    assert metrics.accuracy(y, net.predict(X)) == metrics.accuracy(y, net.forward(X)) == np.mean(net.predict(X) == y)


def test_values_that_were_predicted():
    y, outputs = VALUES[:, 0], GUESSES[:, 0]
    for name in ("r2", "mae", "rmse"):
        own = getattr(metrics, name)
        shapes = [own(a, b) for a in (y, y[:, np.newaxis]) for b in (outputs, outputs[:, np.newaxis])]
        assert len(set(shapes)) == 1
        with pytest.raises(ValueError, match=rf"{name} needs a value for each output: y has shape \(301,\), outputs"):
            own(y, np.tile(outputs, (N, 1)))
        with pytest.raises(TypeError, match=f"{name} needs numbers, got y <U"):
            own(np.array(["a"] * N), outputs)


@pytest.mark.parametrize(("make", "kind", "message"), [
    (lambda: metrics.accuracy([0, 1], [0.2, 0.8]), ValueError,
     r"accuracy takes the outputs \(n, n_out\) of forward, \(n, 1\) for one output, or labels \(n,\); outputs have "),
    (lambda: metrics.log_loss([0, 1], [0, 1]), ValueError, r"log_loss needs the outputs \(n, n_out\) of forward"),
    (lambda: metrics.top_k([0, 1], [0, 1]), ValueError, r"top_k needs the outputs \(n, n_out\) of forward"),
    (lambda: metrics.accuracy(["a", "b"], [0, 1]), TypeError, "labels of one kind: y has dtype <U1, outputs int64"),
    (lambda: metrics.accuracy(["a", "b"], [[0.5, 0.5]] * 2), TypeError, "y holds strings; with outputs .* needs the"),
    (lambda: metrics.f1(MANY, DECIDED), ValueError, r"f1 of rows of targets \(301, 4\) needs outputs of that shape"),
    (lambda: metrics.f1(VALUES, GUESSES), ValueError, r"f1 needs classes, y holds values from -.* to .*: give labels"),
    (lambda: metrics.f1(VALUES[:, :1], GUESSES[:, :1]), ValueError, r"y must hold whole labels, y\[0\] is"),
    (lambda: metrics.f1([np.nan, 1], [0, 1]), ValueError, r"y must hold whole labels, y\[0\] is nan"),
    (lambda: metrics.accuracy([1j], [1]), TypeError, "y must hold real numbers or strings, got dtype complex128"),
    (lambda: metrics.accuracy(["a", None], ["a", "b"]), TypeError, "y must hold real numbers or strings, found NoneTy"),
    (lambda: metrics.accuracy(np.ma.array([0, 1], mask=[0, 1]), [0, 1]), ValueError, "y has masked values"),
])
def test_errors_name_the_cause(make, kind, message):
    with pytest.raises(kind, match=message):
        make()


# In a fit.


CLASSIFICATION = ["accuracy", "precision", "recall", "f1", "log_loss"]


@pytest.mark.parametrize(("kind", "allowed", "message"), [
    ("labels", [*CLASSIFICATION, "top5"], "values: rows of targets, not labels; the targets of this fit are labels"),
    ("multilabel", [*CLASSIFICATION, "r2", "mae", "rmse"], "labels: one class a sample; .* are rows that say"),
    ("values", ["r2", "mae", "rmse"], "(classes|labels|probabilities).*; the targets of this fit are values"),
])
def test_a_metric_says_what_it_is_for(kind, allowed, message):
    metrics.check(Metric("any", len), kind)
    for name, metric in METRICS.items():
        if name in allowed:
            metrics.check(metric, kind)
        else:
            with pytest.raises(ValueError, match=f"metric {name} needs {message}"):
                metrics.check(metric, kind)
    with pytest.raises(ValueError, match="metric log_loss needs probabilities of classes: sigmoid or softmax outputs"):
        metrics.check(METRICS["log_loss"], "labels", probabilities=False)
    with pytest.raises(ValueError, match="unknown kind of metric 'label'; did you mean 'labels'"):
        Metric("f1", metrics.f1, kind="label")


def test_measure():
    y, outputs = np.array([[1, 0, 0], [0, 1, 0]]), np.array([[0.9, 0.6, 0.1], [0.2, 0.8, 0.7]])
    assert metrics.measure(METRICS["accuracy"], y, outputs, "labels") == 1
    assert metrics.measure(METRICS["accuracy"], y, outputs, "multilabel") == pytest.approx(4 / 6)
    weights = np.array([1.0, 3.0])
    assert metrics.measure(METRICS["mae"], y, outputs, "values", weights) == metrics.mae(
        y, outputs, sample_weight=weights)
    seen = {}

    def own(y, outputs, sample_weight=None):
        seen["weight"] = sample_weight
        return np.float32(2)

    assert metrics.measure(Metric("own", own), y, outputs, "labels", weights) == 2 and seen["weight"] is weights
    for value in (outputs, None, "much", [1.0]):
        with pytest.raises(ValueError, match="metric own must give a number, got "):
            metrics.measure(Metric("own", lambda y, outputs, value=value: value), y, outputs, "labels")


@pytest.mark.parametrize("name", ["accuracy", "f1", "precision", "recall", "log_loss", "top5"])
def test_a_regression_has_no_classes(name):
    """A fit refuses it, before anything is changed."""
    X = draw.normal(size=(40, 3))
    for y in (X[:, 0], X[:, :2]):
        net = Network([3, 1 if y.ndim == 1 else 2], output="identity")
        before = net.theta.copy()
        with pytest.raises(ValueError, match=f"metric {name} needs (classes|labels|probabilities)"):
            Trainer(net).fit(X, y, validation_data=(X, y), metrics=[name])
        assert (net.theta == before).all()


@pytest.mark.parametrize(("y", "outputs"), [
    ([0, 1], [[0.5, 0.5]]), ([0, 2], [[0.5, 0.5]] * 2), ([0, -1], [[0.5, 0.5]] * 2), ([0.5, 1], [[0.5, 0.5]] * 2),
    ([], np.zeros((0, 2))), (np.eye(3), np.eye(2)), ([[1, 0, 0]], [[0.5, 0.5]]),
    (np.arange(3), np.eye(3)[np.newaxis]), (np.arange(3)[:, np.newaxis, np.newaxis], np.eye(3)), (0, [[0.5]]),
])
def test_what_does_not_fit_is_refused(y, outputs):
    for metric in metrics.METRICS.values():
        with pytest.raises(ValueError, match="^y |outputs|shape"):
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
    assert history.stopped.startswith("error has reached 0.0") and len(history.metrics["f1"]) == len(history.loss) < 30
    assert '"f1": ' in (tmp_path / "log").read_text().splitlines()[0]
    history = Trainer(net, batch_size=20).fit(X, y, 30, (X, y), metrics=["f1"], callbacks=[
        EarlyStopping("f1", patience=1, least_gain=2)])
    assert history.stopped == "f1 has not improved for 1 epoch"
    regression = Trainer(Network([4, 6, 1], output="identity")).fit(X, X[:, 0], 2, validation_fraction=0.2,
                                                                    metrics=["r2", "mae", "rmse"])
    assert list(regression.metrics) == ["r2", "mae", "rmse"]


@pytest.mark.parametrize(("chosen", "kind", "message"), [
    (["f2"], ValueError, "unknown metric 'f2'; valid: accuracy, top5"), ("f1", TypeError, "metrics must be a sequence"),
    ([metrics.Metric("loss", metrics.f1)], ValueError, "a metric must not be called loss: a fit has its own"),
    (["f1", "f1"], ValueError, "a name of its own, got f1, f1"),
    (["r2"], ValueError, "metric r2 needs values: .*; the targets of this fit are labels"),
    (["mae"], ValueError, "metric mae needs values"),
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


def test_accuracy_in_a_fit_is_that_of_the_validation_whatever_the_rows():
    """One-hot rows, or one row that is not, beside three sigmoid outputs; softmax rows; labels; all with weights."""
    X = draw.normal(size=(60, 4))
    labels = draw.integers(0, 3, 60)
    several = np.eye(3)[labels]
    several[0] = [1, 1, 0]
    for output, y in (("sigmoid", np.eye(3)[labels]), ("sigmoid", several), ("sigmoid", labels), ("softmax", labels),
                      ("softmax", np.eye(3)[labels]), ("softmax", np.eye(3)[labels] * 0.8 + 0.2 / 3)):
        for weights in ([], [draw.random(60)]):
            net = Network([4, 3], output=output, seed=1)
            history = Trainer(net).fit(X, y, 2, validation_data=(X, y, *weights), metrics=["accuracy"])
            assert history.metrics["accuracy"] == pytest.approx(history.validation_accuracy)


def test_texts_of_any_length():
    """NumPy's StringDType, which its astype(str) refuses."""
    words = [np.array(texts, np.dtypes.StringDType()) for texts in (["cat", "dog", "dog"], ["cat", "cat", "dog"])]
    assert metrics.accuracy(*words) == pytest.approx(2 / 3)
    assert metrics.f1(words[0].tolist(), words[1]) == pytest.approx(metrics.f1(*words))


def test_shares_of_classes_are_values_to_metrics_of_values():
    X = draw.normal(size=(60, 4))
    for net, y in ((Network([4, 1], output="sigmoid", seed=1), 1 / (1 + np.exp(-X[:, :1]))),
                   (Network([4, 3], seed=1), draw.dirichlet(np.ones(3), 60))):
        history = Trainer(net, "quadratic").fit(X, y, 1, validation_data=(X, y), metrics=["r2", "mae", "accuracy"])
        assert history.metrics["mae"][0] == pytest.approx(np.abs(net.forward(X) - y).mean())
        assert 0 <= history.metrics["accuracy"][0] <= 1


def test_columns_of_two_frames_are_matched_by_name():
    draw = np.random.default_rng(0)
    y, outputs = (pd.DataFrame(draw.random((50, 3)), columns=["a", "b", "c"]) for _ in range(2))
    other = y[["c", "a", "b"]]
    assert metrics.rmse(other, outputs) == metrics.rmse(y, outputs) == metrics.rmse(y.values, outputs.values)
    rows = pd.get_dummies(y.idxmax(axis=1))
    expected = metrics.accuracy(rows.values, outputs.values)
    assert metrics.accuracy(rows[["b", "c", "a"]], outputs) == metrics.accuracy(rows, outputs.values) == expected
    assert metrics.accuracy(rows, outputs.set_axis(range(3), axis=1)) == expected
    assert metrics.log_loss(other > 0.5, outputs) == metrics.log_loss(y > 0.5, outputs.values)
    numbered = rows.set_axis(range(3), axis=1)
    assert metrics.accuracy(numbered[[2, 0, 1]], outputs) == expected
    assert metrics.accuracy(numbered[[2, 0, 1]], outputs.set_axis(range(3), axis=1)) == expected
    with pytest.raises(ValueError, match="y lacks column 'a' and has column 'd' that outputs lacks"):
        metrics.accuracy(rows.rename(columns={"a": "d"}), outputs)
    with pytest.raises(ValueError, match="y has 2 columns 'a': give"):
        metrics.accuracy(rows.rename(columns={"b": "a"}), outputs)
