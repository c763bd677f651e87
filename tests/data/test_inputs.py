"""What users hand in wrongly: each mistake raises an error that says what was given and expected; nothing changes."""

import contextlib
import copy
import datetime
import re
import warnings
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastbp import SGD, Adam, DivergenceError, Network, Trainer, Workspace, cost_and_gradient, input_gradients, losses
from fastbp.data import split

X = np.random.default_rng(0).normal(size=(6, 3)).astype("f4")
LABELS = np.array([0, 1, 1, 0, 1, 0])
ROWS = np.eye(2)[LABELS]
OUTPUTS = {"softmax": 2, "sigmoid": 1, "identity": 1}


def matrix(values):
    """As SciPy's `todense` gives it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        return np.asmatrix(values)


class Unreadable:
    """As a tensor of a GPU is."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("it is on another device")


class Readable:
    """As a tensor of torch is."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return self.values


def trainer_for(output="softmax", n_out=None, loss=None, dtype="float32"):
    return Trainer(Network([3, 4, n_out or OUTPUTS[output]], "tanh", output, dtype), loss, batch_size=3)


@contextlib.contextmanager
def refused(trainer, error, message):
    """The error says `message`, and trainer and network are to the bit as before."""
    before = trainer.network.theta.copy()
    with pytest.raises(error, match=message):
        yield
    assert trainer.network.theta.tobytes() == before.tobytes()
    assert (trainer.steps_done, trainer.epochs_done) == (0, 0)


# Samples


def replaced(value, dtype="f4"):
    """The samples, one number of them replaced."""
    array = X.astype(dtype)
    array[4, 1] = value
    return array


BAD_X = {
    "too many features": (np.zeros((6, 4)), ValueError, "X has 4 features, the network takes 3"),
    "too few features": (np.zeros((6, 2)), ValueError, "X has 2 features, the network takes 3"),
    "no feature": (np.zeros((6, 0)), ValueError, "X has 0 features, the network takes 3"),
    "no sample": (X[:0], ValueError, r"X is empty: shape \(0, 3\)"),
    "empty list": ([], ValueError, r"X must have 2 dimensions \(samples, features\), got shape \(0,\)"),
    "0 dimensions": (np.float32(1), ValueError, r"X must have 2 dimensions \(samples, features\), got shape \(\)"),
    "1 dimension": (X[0, :2], ValueError, r"X must have 2 dimensions .*, got shape \(2,\); numpy\.reshape\(X, \(1, -1"),
    "3 dimensions": (X[None], ValueError, r"X must have 2 dimensions \(samples, features\), got shape \(1, 6, 3\)"),
    "ragged": ([[1, 2, 3], [1, 2]], ValueError,
               "X must have rows of one length: row 0 has length 3, row 1 has length 2"),
    "a number among rows": ([[1, 2, 3], 4], ValueError, "X must .*: row 0 has length 3, row 1 is a single number"),
    "ragged deeper": ([[[1, 2, 3]], [[1, 2]]], ValueError, "X cannot be read as an array: .*inhomogeneous"),
    "NaN": (replaced(np.nan), ValueError, r"X\[4, 1\] is nan; every number must be finite"),
    "float64 NaN": (replaced(np.nan, "f8"), ValueError, r"X\[4, 1\] is nan; every number must be finite"),
    "float16 NaN": (replaced(np.nan, "f2"), ValueError, r"X\[4, 1\] is nan; every number must be finite"),
    "big-endian NaN": (replaced(np.nan, ">f4"), ValueError, r"X\[4, 1\] is nan; every number must be finite"),
    "infinity": (replaced(np.inf), ValueError, r"X\[4, 1\] is inf; every number must be finite"),
    "float64 infinity": (replaced(-np.inf, "f8"), ValueError, r"X\[4, 1\] is -inf; every number must be finite"),
    "beyond float32": (replaced(4e38, "f8"), ValueError, r"X\[4, 1\] is 4e\+38; .*3\.403e\+38, the largest float32"),
    "far beyond float32": (replaced(-1e300, "f8"), ValueError, r"X\[4, 1\] is -1e\+300; .* the largest float32"),
    "masked": (np.ma.masked_array(X, X > 0), ValueError, "X has masked values"),
    "None": ([[1, 2, 3], [1, 2, None]], ValueError,
             "X has 1 missing value, None in row 1, column 2: fill them or leave"),
    "objects": ([[1, 2, 3], [1, 2, object()]], TypeError, "X must hold real numbers, got object"),
    "lists": (np.array([[1, 2, 3], [1, 2, {3}]], object), TypeError, "X must hold real numbers, got set"),
    "NaN among objects": (replaced(np.nan).astype(object), ValueError,
                          r"X\[4, 1\] is nan; every number must be finite"),
    "strings": (X.astype(str), TypeError, r"X holds text, such as '0\..*': .* e\.g\. X\.astype\(float\)$"),
    "strings in lists": ([["1", "2", "3"]], TypeError,
                         r"X holds text, such as '1': .* numpy\.array\(X, dtype=float\)$"),
    "a word": ([[1, 2, "red"]], TypeError, "X holds text, such as '1': turn it into numbers"),
    "a word among objects": (np.array([[1, 2, "red"]], object), TypeError,
                             "X holds text, such as 'red': .* a column of"),
    "bytes": (X.astype("S"), TypeError, "X holds text, such as .*: turn it into numbers"),
    "complex": (X.astype(complex), TypeError, "X must hold real numbers, got dtype complex128"),
    "dates": (np.zeros((6, 3), "M8[s]"), TypeError, "X holds dates or times: turn them into numbers"),
    "durations": (np.zeros((6, 3), "m8[s]"), TypeError, "X holds durations: turn them into numbers"),
    "dates as objects": ([[datetime.date(2020, 1, 1)] * 3], TypeError,
                         "X holds dates or times: turn them into numbers"),
    "records": (np.zeros((6, 3), "f4,f4"), TypeError, "X must hold real numbers, got dtype .*f0"),
    "whole numbers beyond float64": ([[10**400] * 3] * 6, ValueError, "X has a number beyond the largest float64"),
    "whole numbers beyond float32": ([[10**50] * 3] * 6, ValueError, r"X\[0, 0\] is 1e\+50; .* the largest float32"),
    "nothing": (None, TypeError, "X must be an array of numbers, got None"),
    "text": ("mnist", TypeError, "X must be an array of numbers, got str"),
    "dictionary": ({"x": X}, TypeError, "X must be an array of numbers, got dict"),
    "generator": ((row for row in X), TypeError, "X must be an array of numbers, got generator"),
    "an array of no use": (Unreadable(), TypeError, "X cannot be read as an array: it is on another device"),
}  # fmt: skip


@pytest.mark.parametrize("x, error, message", BAD_X.values(), ids=BAD_X)
def test_bad_samples(x, error, message):
    trainer = trainer_for()
    net = trainer.network
    calls = [
        lambda: trainer.fit(x, LABELS),
        lambda: trainer.evaluate(x, LABELS),
        lambda: net.forward(x),
        lambda: net.predict(x),
        lambda: cost_and_gradient(net, x, LABELS),
    ]
    for call in calls:
        with refused(trainer, error, f"^{message}"):
            call()
    with refused(trainer, error, f"^validation {message}"):
        trainer.fit(X, LABELS, validation_data=(x, LABELS))


def test_where_sparse_matrices_are_refused():
    """Elsewhere they are samples, see tests/interop/test_sparse.py."""
    scipy_sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    trainer = trainer_for()
    for sparse in (scipy_sparse.csr_matrix(X), scipy_sparse.coo_array(X)):
        kind = type(sparse).__name__
        with refused(trainer, TypeError, rf"^X is sparse \({kind}\), but must be dense here: give X.toarray\(\)$"):
            input_gradients(trainer.network, sparse, LABELS)
    with refused(trainer, TypeError, r"^y is sparse .*: give y.toarray\(\)$"):
        trainer.fit(X, scipy_sparse.csr_matrix(ROWS))


WAYS = {
    "objects": X.astype(object),
    "lists": X.tolist(),
    "Python's numbers": np.array([[Fraction(float(x)) for x in row] for row in X]),
    "decimals": np.array([[Decimal(float(x)) for x in row] for row in X]),
    "mixed": [[*row[:2], np.float32(row[2])] for row in X.tolist()],
    "a list of arrays": list(X),
    "a matrix": matrix(X),
    "a masked array that hides nothing": np.ma.masked_array(X),
    "what says how it is an array": Readable(X),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_ways_to_give_the_same_numbers(way):
    net = trainer_for().network
    assert net.forward(way).tobytes() == net.forward(X).tobytes()


def test_whole_numbers_beyond_64_bits_and_truth_values_among_objects():
    net = trainer_for().network
    assert net.forward([[2**70, True, np.True_]]).tobytes() == net.forward([[2.0**70, 1.0, 1.0]]).tobytes()


def test_the_largest_float64_are_fine_for_float64():
    trainer = trainer_for(dtype="float64")
    x = replaced(1e300, "f8")
    assert np.isfinite(trainer.network.forward(x)).all()
    with refused(trainer, ValueError, r"X\[4, 1\] is inf; every number must be finite and at most 1\.798e\+308"):
        trainer.fit(replaced(np.inf, "f8"), LABELS)


@pytest.mark.parametrize("row", [0, 400_000, 999_999])
def test_one_bad_number_among_many_is_found(row):
    x = np.zeros((1_000_000, 3), "f4")
    x[row, 2] = np.nan
    trainer = trainer_for()
    with refused(trainer, ValueError, rf"X\[{row}, 2\] is nan"):
        trainer.fit(x, np.zeros(len(x), int))


# Targets

ROWS_OF_2 = r"y must hold 6 labels or have shape \(6, 2\), got shape "
IN_RANGE = r"y must lie in \[0, 1\] for "
BAD_Y = {
    # Labels
    "too large": ("softmax", LABELS + 1, ValueError, "y must hold labels 0 to 1 for 2 outputs, found 1 to 2"),
    "negative": ("softmax", LABELS - 1, ValueError, "y must hold labels 0 to 1 for 2 outputs, found -1 to 0"),
    "3 and 5": ("softmax", LABELS * 2 + 3, ValueError,
                r"found 3 to 5; classes, y = numpy.unique\(y, return_inverse=True\)"),
    "far too large": ("softmax", np.full(6, 2**64 - 1, "u8"), ValueError, "found 18446744073709551615 to 18446744"),
    "fractions": ("softmax", LABELS + 0.5, ValueError, r"y must hold whole labels 0 to 1, y\[0\] is 0\.5"),
    "NaN labels": ("softmax", LABELS * np.nan, ValueError, r"y must hold whole labels 0 to 1, y\[0\] is nan"),
    "infinite labels": ("softmax", LABELS + np.inf, ValueError, "y must hold labels 0 to 1 for 2 outputs, found inf"),
    "one sigmoid, too large": ("sigmoid", LABELS * 2, ValueError, "labels 0 to 1 for 1 outputs, found 0 to 2"),
    # Lengths and shapes
    "too short": ("softmax", LABELS[:5], ValueError, r"y has shape \(5,\), but there are 6 samples"),
    "too long": ("softmax", np.zeros(7, int), ValueError, r"y has shape \(7,\), but there are 6 samples"),
    "no label": ("softmax", LABELS[:0], ValueError, r"y has shape \(0,\), but there are 6 samples"),
    "0 dimensions": ("softmax", 1, ValueError, r"y has shape \(\), but there are 6 samples"),
    "a row": ("softmax", LABELS[None], ValueError, r"y has shape \(1, 6\), but there are 6 samples"),
    "too few rows": ("softmax", ROWS[:5], ValueError, r"y has shape \(5, 2\), but there are 6 samples"),
    "too many columns": ("softmax", np.eye(3)[LABELS], ValueError, ROWS_OF_2 + r"\(6, 3\)"),
    "3 dimensions": ("softmax", ROWS[:, None], ValueError, ROWS_OF_2 + r"\(6, 1, 2\)"),
    "two values": ("identity", ROWS, ValueError, r"hold 6 labels or have shape \(6, 1\), got shape \(6, 2\)"),
    # Numbers
    "NaN": ("identity", np.full(6, np.nan), ValueError, r"y\[0, 0\] is nan; every number must be finite"),
    "infinity": ("identity", np.full(6, -np.inf), ValueError, r"y\[0, 0\] is -inf; every number must be finite"),
    "beyond float32": ("identity", np.full(6, 1e39), ValueError, r"y\[0, 0\] is 1e\+39; .* the largest float32"),
    "NaN row": ("softmax", ROWS * np.nan, ValueError, r"y\[0, 0\] is nan; every number must be finite"),
    "below 0": ("softmax", ROWS * 2 - 0.5, ValueError, IN_RANGE + r"cross_entropy, found -0\.5 to 1\.5"),
    "percent": ("softmax", ROWS * 100, ValueError, IN_RANGE + r"cross_entropy, found 0\.0 to 100\.0"),
    "bytes": ("softmax", (ROWS * 255).astype("u1"), ValueError, IN_RANGE + r"cross_entropy, found 0 to 255"),
    "sums": ("softmax", ROWS * 0.5, ValueError, "rows of y must each sum to 1 for cross_entropy, row 0 sums to 0.5"),
    "above 1": ("sigmoid", LABELS * 1.5, ValueError, IN_RANGE + r"binary_cross_entropy, found 0\.0 to 1\.5"),
    "a little below 0": ("sigmoid", LABELS * -0.1, ValueError, IN_RANGE + r"binary_cross_entropy, found -0\.1 to"),
    # Types
    "masked": ("softmax", np.ma.masked_array(LABELS, LABELS > 0), ValueError, "y has masked values"),
    "text of values": ("identity", np.array(list("abbaba")), TypeError,
                       "y holds text, .* identity outputs take values: "),
    "text in rows": ("softmax", np.array([list("ab")] * 6), ValueError, r"y holds text; .* got shape \(6, 2\)"),
    "text and numbers": ("softmax", np.array(["a", 1] * 3, object), TypeError,
                         "y holds text and something else, such as 1"),
    "text and nothing": ("softmax", np.array(["a", None] * 3), ValueError,
                         "y has 3 missing values, None in row 1: fill"),
    "text and NaN": ("softmax", np.array(["a", np.nan] * 3, object), ValueError,
                     "y has 3 missing values, nan in row 1"),
    "complex": ("softmax", LABELS * 1j, TypeError, "y must hold real numbers, got dtype complex128"),
    "dates": ("softmax", LABELS.astype("M8[D]"), TypeError, "y holds dates or times"),
    "nothing": ("softmax", None, TypeError, "y must be an array of numbers, got None"),
    "set": ("softmax", {0, 1}, TypeError, "y must be an array of numbers, got set"),
}  # fmt: skip


@pytest.mark.parametrize("output, y, error, message", BAD_Y.values(), ids=BAD_Y)
def test_bad_targets(output, y, error, message):
    trainer = trainer_for(output)
    for call in (trainer.fit, trainer.evaluate, lambda x, y: cost_and_gradient(trainer.network, x, y)):
        with refused(trainer, error, message):
            call(X, y)
    with refused(trainer, error, "validation y"):
        trainer.fit(X, LABELS, validation_data=(X, y))


def test_several_sigmoids():
    trainer = trainer_for("sigmoid", 2)
    trainer.evaluate(X, np.ones((6, 2)))  # each output is a question of its own: rows need not sum to 1
    with refused(trainer, ValueError, r"y must lie in \[0, 1\] for binary_cross_entropy, found 0\.0 to 1\.5"):
        trainer.fit(X, ROWS * 1.5)


def test_rows_may_sum_to_1_as_nearly_as_float16_does():
    y = np.random.default_rng(0).dirichlet(np.ones(200), size=6).astype("f2")
    trainer_for(n_out=200).evaluate(X, y)


def test_the_quadratic_cost_takes_any_finite_rows():
    trainer_for(loss="quadratic").evaluate(X, ROWS * 100 - 7)


GOOD_Y = {
    "list": LABELS.tolist(),
    "objects": LABELS.astype(object),
    "floats as objects": LABELS.astype("f4").astype(object),
    "a column of a matrix": matrix(LABELS).T,
    "tuple": tuple(LABELS.tolist()),
    "bytes": LABELS.astype("u1"),
    "truth values": LABELS.astype(bool),
    "whole floats": LABELS.astype("f4"),
    "minus zero": np.where(LABELS == 0, -0.0, 1.0),
    "long doubles": LABELS.astype("g"),
    "big-endian": LABELS.astype(">i2"),
    "backwards": LABELS[::-1].copy()[::-1],
    "every second": np.repeat(LABELS, 2)[::2],
    "one-hot": ROWS,
    "one-hot bytes": ROWS.astype("u1"),
    "one-hot truth values": ROWS.astype(bool),
    "one-hot Fortran": np.asfortranarray(ROWS),
    "one-hot big-endian": ROWS.astype(">f4"),
    "masked, nothing hidden": np.ma.masked_array(LABELS),
}


@pytest.mark.parametrize("y", GOOD_Y.values(), ids=GOOD_Y)
def test_ways_to_give_the_same_labels(y):
    expected = trainer_for().evaluate(X, LABELS)
    assert trainer_for().evaluate(X, y) == expected
    trained = [trainer_for(), trainer_for()]
    trained[0].fit(X, LABELS, 2)
    trained[1].fit(X, y, 2)
    assert trained[0].network.theta.tobytes() == trained[1].network.theta.tobytes()


@pytest.mark.parametrize("output", ["sigmoid", "identity"])
def test_one_output_takes_a_vector_or_a_column(output):
    expected = trainer_for(output).evaluate(X, LABELS.astype("f4"))
    for y in (LABELS, LABELS[:, None], LABELS.astype("u1"), LABELS.astype("u1")[:, None], LABELS.astype(bool)):
        assert trainer_for(output).evaluate(X, y) == expected


# Validation data

PAIR = r"validation_data must be \(X, y\) or \(X, y, sample_weight\), got "
BAD_VALIDATION = {
    "one array": (X, TypeError, PAIR + r"ndarray of length 6"),
    "X alone": ((X,), TypeError, PAIR + r"tuple of length 1"),
    "four": ((X, LABELS, X, X), TypeError, PAIR + "tuple of length 4"),
    "a fraction": (0.1, TypeError, PAIR + r"float"),
    "text": ("ab", TypeError, PAIR + r"str of length 2"),
    "dictionary": ({0: X, 1: LABELS}, TypeError, PAIR + r"dict of length 2"),
    "nothing in it": ((None, None), TypeError, "validation X must be an array of numbers, got None"),
    "no targets": ((X, None), TypeError, "validation y must be an array of numbers, got None"),
    "features": ((X[:, :2], LABELS), ValueError, "validation X has 2 features, the network takes 3"),
    "lengths": ((X, LABELS[:3]), ValueError, r"validation y has shape \(3,\), but there are 6 samples"),
    "swapped": ((LABELS, X), ValueError, r"validation X must have 2 dimensions .*, got shape \(6,\)"),
    "empty": ((X[:0], LABELS[:0]), ValueError, r"validation X is empty: shape \(0, 3\)"),
}


@pytest.mark.parametrize("validation, error, message", BAD_VALIDATION.values(), ids=BAD_VALIDATION)
def test_bad_validation_data(validation, error, message):
    trainer = trainer_for()
    with refused(trainer, error, message):
        trainer.fit(X, LABELS, validation_data=validation)


def test_rows_that_are_kept_for_validation_stay_as_they_are():
    """Shares of classes are validated with as shares, not as the label of the largest."""
    x = np.random.default_rng(1).normal(size=(40, 3))
    y = np.random.default_rng(2).dirichlet(np.ones(2), size=40)
    trainer = trainer_for()
    history = trainer.fit(x, y, validation_fraction=0.25)
    _, kept = split(40, 0.25)
    assert history.validation_loss[-1] == trainer.evaluate(x[kept], y[kept])[0]


def test_a_batch_with_masked_values():
    trainer = trainer_for()
    with refused(trainer, ValueError, "X has masked values"):
        trainer.fit_batches([(np.ma.masked_array(X, X > 0), LABELS)])


# Settings

HIDDEN = "unknown hidden activation {!r}; valid: identity, sigmoid, tanh, relu, .*, softplus"
OUTPUT = "unknown output activation {!r}; valid: identity, sigmoid, tanh, relu, .*, softmax$"
DTYPE = "unknown dtype {!r}; valid: float32, float64$"
LOSS = f"unknown loss {{!r}}; valid: {', '.join(losses.LOSSES)}$"


@pytest.mark.parametrize(
    "settings, error, message",
    [
        ({"layer_sizes": []}, ValueError, r"layer_sizes must name at least an input and an output, got \[\]"),
        ({"layer_sizes": [3]}, ValueError, r"layer_sizes must name at least an input and an output, got \[3\]"),
        ({"layer_sizes": (n for n in [3])}, ValueError, r"layer_sizes must name at least .*, got \[3\]"),
        ({"layer_sizes": 3}, TypeError, "layer_sizes must be a sequence of whole numbers, got 3"),
        ({"layer_sizes": None}, TypeError, "layer_sizes must be a sequence of whole numbers, got None"),
        ({"layer_sizes": "32"}, TypeError, "a layer size must be a whole number, got '3'"),
        ({"layer_sizes": [3, 0]}, ValueError, "a layer size must be at least 1, got 0"),
        ({"layer_sizes": [-3, 2]}, ValueError, "a layer size must be at least 1, got -3"),
        ({"layer_sizes": [3, 2.0]}, TypeError, r"a layer size must be a whole number, got 2\.0"),
        ({"layer_sizes": [3, True]}, TypeError, "a layer size must be a whole number, got True"),
        ({"layer_sizes": [3, np.True_]}, TypeError, r"a layer size must be a whole number, got np\.True_"),
        ({"layer_sizes": [3, None]}, TypeError, "a layer size must be a whole number, got None"),
        ({"layer_sizes": [2**40, 2**10]}, (MemoryError, ValueError), "."),
        ({"layer_sizes": [2**70, 2]}, (MemoryError, ValueError), "."),
        ({"hidden": "reul"}, ValueError, "unknown hidden activation 'reul'; did you mean 'relu'. valid: identity, "),
        ({"hidden": "softmax"}, ValueError, HIDDEN.format("softmax")),
        ({"hidden": ["softmax"]}, ValueError, HIDDEN.format("softmax")),
        ({"hidden": None}, ValueError, HIDDEN.format(None)),
        ({"hidden": 5}, ValueError, HIDDEN.format(5)),
        ({"hidden": [["relu"]]}, ValueError, r"unknown hidden activation \['relu'\]; valid: "),
        ({"hidden": ["relu", "relu"]}, ValueError, "hidden names 2 activations for 1 hidden layer"),
        ({"hidden": []}, ValueError, "hidden names 0 activations for 1 hidden layer"),
        ({"hidden": "step", "layer_sizes": [3, 2]}, ValueError, HIDDEN.format("step")),
        ({"output": "cubic"}, ValueError, OUTPUT.format("cubic")),
        ({"output": None}, ValueError, OUTPUT.format(None)),
        ({"output": ["softmax"]}, ValueError, r"unknown output activation \['softmax'\]; valid: "),
        ({"dtype": "float16"}, ValueError, DTYPE.format("float16")),
        ({"dtype": ">f4"}, ValueError, DTYPE.format(">f4")),
        ({"dtype": "x"}, ValueError, DTYPE.format("x")),
        ({"dtype": None}, ValueError, DTYPE.format(None)),
        ({"dtype": 5}, ValueError, DTYPE.format(5)),
        ({"dtype": int}, ValueError, "unknown dtype <class 'int'>; valid: float32, float64"),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
        ({"seed": 1.0}, TypeError, r"seed must be a whole number, got 1\.0"),
        ({"seed": True}, TypeError, "seed must be a whole number, got True"),
        ({"seed": None}, TypeError, "seed must be a whole number, got None"),
        ({"seed": "0"}, TypeError, "seed must be a whole number, got '0'"),
    ],
    ids=lambda one: str(one).split(" at 0x")[0],
)
def test_settings_of_a_network(settings, error, message):
    with pytest.raises(error, match=message):
        Network(**{"layer_sizes": [3, 4, 2]} | settings)


@pytest.mark.parametrize(
    "settings, error, message",
    [
        ({"network": "mnist"}, TypeError, "network must be a Network, got 'mnist'"),
        ({"network": None}, TypeError, "network must be a Network, got None"),
        ({"network": [3, 2]}, TypeError, r"network must be a Network, got \[3, 2\]"),
        ({"network": Network}, TypeError, "network must be a Network, got <class"),
        ({"loss": "cubic"}, ValueError, LOSS.format("cubic")),
        ({"loss": 0}, TypeError, "loss must be a name or one of fastbp.losses, got 0"),
        ({"loss": ["quadratic"]}, TypeError, r"loss must be a name or one of fastbp.losses, got \['quadratic'\]"),
        ({"loss": "binary_cross_entropy"}, ValueError,
         "loss binary_cross_entropy needs sigmoid outputs, the network has softmax; these take any output: quadratic"),
        ({"network": Network([3, 2], output="sigmoid"), "loss": "cross_entropy"}, ValueError,
         "loss cross_entropy needs softmax outputs, the network has sigmoid; these take any output: quadratic"),
        ({"optimizer": "adamax"}, ValueError, "unknown optimizer 'adamax'; .*valid: sgd, adam, .*rprop"),
        ({"optimizer": Adam}, TypeError, "optimizer must be a name or one of SGD, Adam, .*Rprop.*, got <class"),
        ({"optimizer": 0.1}, TypeError, r"optimizer must be a name or one of SGD, Adam, .*Rprop.*, got 0\.1"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ({"batch_size": -5}, ValueError, "batch_size must be at least 1, got -5"),
        ({"batch_size": 32.0}, TypeError, r"batch_size must be a whole number, got 32\.0"),
        ({"batch_size": True}, TypeError, "batch_size must be a whole number, got True"),
        ({"batch_size": None}, TypeError, "batch_size must be a whole number, got None"),
        ({"batch_size": "32"}, TypeError, "batch_size must be a whole number, got '32'"),
        ({"batch_size": float("nan")}, TypeError, "batch_size must be a whole number, got nan"),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
        ({"seed": 0.0}, TypeError, r"seed must be a whole number, got 0\.0"),
        ({"seed": False}, TypeError, "seed must be a whole number, got False"),
        ({"threads": 0}, ValueError, "threads must be at least 1, got 0"),
        ({"threads": -2}, ValueError, "threads must be at least 1, got -2"),
        ({"threads": 2.0}, TypeError, r"threads must be a whole number, got 2\.0"),
        ({"threads": True}, TypeError, "threads must be a whole number, got True"),
        ({"threads": "2"}, TypeError, "threads must be a whole number, got '2'"),
        ({"threads": 2**70}, ValueError, f"threads must be at most 1024, got {2**70}"),
        ({"schedule": "sine"}, ValueError, "unknown schedule 'sine'; .*valid: constant, linear, .*, one_cycle$"),
        ({"schedule": 0.5}, TypeError, r"a name or a function \(step, steps\) -> factor, got 0\.5"),
        ({"schedule": [1, 0.5]}, TypeError, r"a name or a function \(step, steps\) -> factor, got \[1, 0\.5\]"),
    ],
    ids=str,
)  # fmt: skip
def test_settings_of_a_trainer(settings, error, message):
    with pytest.raises(error, match=message):
        Trainer(**{"network": Network([3, 2])} | settings)


@pytest.mark.parametrize(
    "epochs, error, message",
    [
        (0, ValueError, "epochs must be at least 1, got 0"),
        (-1, ValueError, "epochs must be at least 1, got -1"),
        (1.0, TypeError, r"epochs must be a whole number, got 1\.0"),
        (True, TypeError, "epochs must be a whole number, got True"),
        (None, TypeError, "epochs must be a whole number, got None"),
        ("1", TypeError, "epochs must be a whole number, got '1'"),
    ],
)
def test_epochs(epochs, error, message):
    trainer = trainer_for()
    with refused(trainer, error, message):
        trainer.fit(X, LABELS, epochs)


@pytest.mark.parametrize("kind", [SGD, Adam])
@pytest.mark.parametrize("eta", [0, 0.0, -0.1, float("nan"), float("inf"), -float("inf")])
def test_eta(kind, eta):
    with pytest.raises(ValueError, match=f"eta must be a finite number > 0, got {eta}"):
        kind(eta=eta)


@pytest.mark.parametrize("kind", [SGD, Adam])
@pytest.mark.parametrize("eta", ["0.1", None, 1j, [0.1]])
def test_eta_that_is_no_number(kind, eta):
    with pytest.raises(TypeError):
        kind(eta=eta)


@pytest.mark.parametrize("momentum", [1, 1.5, -0.1, float("nan"), float("inf")])
def test_momentum(momentum):
    with pytest.raises(ValueError, match=rf"momentum must be in \[0, 1\), got {momentum}"):
        SGD(momentum=momentum)


def test_nesterov_without_momentum():
    with pytest.raises(ValueError, match="nesterov=True needs momentum > 0, got momentum=0"):
        SGD(nesterov=True)


@pytest.mark.parametrize("name", ["beta1", "beta2"])
@pytest.mark.parametrize("value", [1, -0.1, float("nan"), float("inf")])
def test_betas(name, value):
    with pytest.raises(ValueError, match=rf"{name} must be in \[0, 1\), got {value}"):
        Adam(**{name: value})


@pytest.mark.parametrize("epsilon", [0, -1e-8, float("nan"), float("inf")])
def test_epsilon(epsilon):
    with pytest.raises(ValueError, match=f"epsilon must be a finite number > 0, got {epsilon}"):
        Adam(epsilon=epsilon)


@pytest.mark.parametrize("network", ["mnist", None, [3, 2], np.zeros(3)], ids=repr)
def test_cost_and_gradient_of_no_network(network):
    with pytest.raises(TypeError, match=re.escape(f"network must be a Network, got {network!r}")):
        cost_and_gradient(network, X, LABELS)


def test_cost_and_gradient_of_a_loss_that_does_not_fit():
    with pytest.raises(ValueError, match="loss binary_cross_entropy needs sigmoid outputs, the network has softmax"):
        cost_and_gradient(Network([3, 2]), X, LABELS, "binary_cross_entropy")
    with pytest.raises(ValueError, match=LOSS.format("cubic")):
        cost_and_gradient(Network([3, 2]), X, LABELS, "cubic")


@pytest.mark.parametrize("threads", [0, -1, True, 1.0, "1", 2**70])
def test_threads_outside_of_training(threads):
    net = Network([3, 2])
    message = f"threads must be (a whole number|at least 1|at most 1024), got {threads!r}"
    for call in (net.forward, net.predict, lambda x, threads: cost_and_gradient(net, x, LABELS, threads=threads)):
        with pytest.raises((TypeError, ValueError), match=message):
            call(X, threads=threads)


@pytest.mark.parametrize("capacity, error", [(0, ValueError), (-1, ValueError), (2.0, TypeError), (True, TypeError)])
def test_capacity_of_a_workspace(capacity, error):
    with pytest.raises(error, match=f"capacity must be .*, got {capacity}"):
        Network([3, 2]).workspace(capacity)
    assert isinstance(Network([3, 2]).workspace(1), Workspace)


# Whatever else

SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=7)
KINDS = st.one_of(
    hnp.boolean_dtypes(), hnp.integer_dtypes(endianness="?"), hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?"), hnp.complex_number_dtypes(), hnp.datetime64_dtypes(), hnp.timedelta64_dtypes(),
    hnp.byte_string_dtypes(), hnp.unicode_string_dtypes(), st.just(np.dtype(object)),
)  # fmt: skip
FITTING = st.sampled_from(["?", "u1", "i1", "i8", "u8", "f2", "f4", "f8", ">f8", "g"])
NETWORKS = [
    Trainer(Network([3, 4, n_out], "tanh", output, dtype), loss, Adam(0.01), batch_size=2)
    for output, n_out, loss in (("softmax", 2, None), ("sigmoid", 1, None), ("sigmoid", 2, None), ("identity", 1, None),
                                ("identity", 2, None), ("softmax", 2, "quadratic"))
    for dtype in ("float32", "float64")
]  # fmt: skip


@st.composite
def arrays(draw, fitting_shapes):
    """Any small array; more often than chance would have it, of a shape, a type and numbers that fit."""
    shape = draw(SHAPES if draw(st.integers(0, 3)) == 3 else fitting_shapes)
    kind = np.dtype(draw(KINDS if draw(st.integers(0, 3)) == 3 else FITTING))
    if kind.kind == "O":
        return np.full(shape, None)
    plain = kind.kind in "uif" and draw(st.booleans())
    return draw(hnp.arrays(kind, shape, elements=st.integers(0, 1) if plain else None))


@pytest.mark.filterwarnings("ignore::fastbp.TrainingWarning")
@settings(deadline=None, max_examples=400)
@given(data=st.data())
def test_any_arrays_train_or_raise(data):
    """A result, ValueError, TypeError or the named DivergenceError; the parameters stay finite, or as they were."""
    trainer = copy.deepcopy(data.draw(st.sampled_from(NETWORKS)))
    n, n_out = data.draw(st.integers(1, 5)), trainer.network.layer_sizes[-1]
    x = data.draw(arrays(st.just((n, 3))))
    y = data.draw(arrays(st.sampled_from([(n,), (n, n_out), (n, 1)])))
    before = trainer.network.theta.copy()
    try:
        with np.errstate(over="raise", invalid="raise", divide="raise"):
            history = trainer.fit(x, y, 2, validation_data=(x, y))
    except (ValueError, TypeError):
        assert trainer.network.theta.tobytes() == before.tobytes()
    except DivergenceError:
        assert np.isfinite(trainer.network.theta).all()
    else:
        assert np.isfinite(trainer.network.theta).all()
        assert np.isfinite(history.loss).all()
        assert trainer.network.forward(x).shape == (len(x), n_out)


def test_softmax_of_a_single_output():
    with pytest.raises(ValueError, match="softmax of a single output is always 1; use sigmoid, or 2 outputs"):
        Network([3, 1], output="softmax")
