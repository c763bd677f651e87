"""Frames: columns of several types are taken as the numbers they are, what is no number is refused by its column's
name."""

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from fastbp import Adam, Network, Trainer, cost_and_gradient, diagnose, find_eta, metrics
from fastbp.inputs import as_inputs

pytestmark = pytest.mark.filterwarnings("ignore::fastbp.TrainingWarning")  # that they want scaling
N = 40
DRAW = np.random.default_rng(0)
NUMBERS = np.column_stack([
    DRAW.normal(size=N).round(2), DRAW.integers(0, 2, N), DRAW.integers(-9, 9, N), DRAW.integers(0, 2, N),
    DRAW.normal(size=N).astype("f4"), DRAW.integers(0, 200, N), DRAW.integers(0, 3, N),
])  # fmt: skip
NAMES = ["height", "smokes", "year", "married", "weight", "age", "cars"]
LABELS = (NUMBERS[:, 0] > 0).astype(int)
WEIGHTS = DRAW.integers(1, 4, N)


def frame(**others):
    """The numbers above, a type each; some columns replaced."""
    a = dict(zip(NAMES, NUMBERS.T, strict=True))
    columns = {
        "height": a["height"],
        "smokes": a["smokes"].astype(bool),
        "year": pd.array(a["year"].astype(int), dtype="Int64"),
        "married": pd.array(a["married"].astype(bool), dtype="boolean"),
        "weight": pd.array(a["weight"].astype("f4"), dtype="Float32"),
        "age": a["age"].astype("u1"),
        "cars": pd.arrays.SparseArray(a["cars"]),
    }
    return pd.DataFrame(columns | others)


def network(n_out=2, output="softmax"):
    return Network([len(NAMES), 5, n_out], "tanh", output)


def trained_by(call, output="softmax"):
    """The parameters after a call of a new trainer, and what the call gave."""
    trainer = Trainer(network(1 if output == "identity" else 2, output), optimizer=Adam(0.01), batch_size=8)
    given = call(trainer)
    return trainer.network.theta.tobytes(), np.asarray(getattr(given, "loss", given), float).tobytes()


class Batches:
    def __init__(self, *arrays):
        self.arrays = arrays

    def __iter__(self):
        for part in (slice(0, 16), slice(16, N)):
            yield tuple(array[part] for array in self.arrays)


CALLS = {
    "fit": lambda trainer, X, y, w: trainer.fit(X, y, 3, sample_weight=w),
    "validation": lambda trainer, X, y, w: trainer.fit(NUMBERS, LABELS, validation_data=(X, y, w)).validation_loss,
    "split": lambda trainer, X, y, w: trainer.fit(X, y, 2, sample_weight=w, validation_fraction=0.25).validation_loss,
    "partial_fit": lambda trainer, X, y, w: trainer.partial_fit(X, y, sample_weight=w),
    "fit_batches": lambda trainer, X, y, w: trainer.fit_batches(Batches(X, y, w), 2),
    "evaluate": lambda trainer, X, y, w: trainer.evaluate(X, y, sample_weight=w),
    "predict": lambda trainer, X, y, w: trainer.network.predict(X),
    "predict_proba": lambda trainer, X, y, w: trainer.network.predict_proba(X),
    "forward": lambda trainer, X, y, w: trainer.network.forward(X),
    "gradient": lambda trainer, X, y, w: cost_and_gradient(trainer.network, X, y, sample_weight=w)[1],
    "find_eta": lambda trainer, X, y, w: find_eta(trainer, X, y, steps=20).losses,
}  # fmt: skip


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_frame_is_the_numbers_in_it(call):
    assert trained_by(lambda trainer: call(trainer, frame(), pd.Series(LABELS), pd.Series(WEIGHTS))) == trained_by(
        lambda trainer: call(trainer, NUMBERS, LABELS, WEIGHTS))


TARGETS = {
    "a column": pd.DataFrame({"sick": LABELS}),
    "a series": pd.Series(LABELS, name="sick"),
    "a nullable series": pd.Series(LABELS, dtype="Int64"),
    "truth values": pd.DataFrame({"sick": LABELS.astype(bool)}),
    "nullable truth values": pd.Series(LABELS.astype(bool), dtype="boolean"),
    "an index": pd.Index(LABELS),
    "an array of pandas": pd.array(LABELS, dtype="UInt8"),
    "categories of numbers": pd.Series(LABELS, dtype="category"),
    "objects": pd.Series(LABELS, dtype=object),
    "one-hot columns": pd.get_dummies(pd.Series(LABELS)),
}


@pytest.mark.parametrize("y", TARGETS.values(), ids=TARGETS)
def test_targets(y):
    expected = trained_by(lambda trainer: trainer.fit(NUMBERS, LABELS, 2))
    assert trained_by(lambda trainer: trainer.fit(frame(), y, 2)) == expected


@pytest.mark.parametrize("y", [pd.Series(NUMBERS[:, 0]), pd.DataFrame({"price": pd.array(NUMBERS[:, 0])})])
def test_values(y):
    expected = trained_by(lambda trainer: trainer.fit(NUMBERS, NUMBERS[:, 0], 2), "identity")
    assert trained_by(lambda trainer: trainer.fit(frame(), y, 2), "identity") == expected


def test_weights_in_a_column():
    expected = trained_by(lambda trainer: trainer.fit(NUMBERS, LABELS, sample_weight=WEIGHTS))
    column = pd.DataFrame({"weight": pd.array(WEIGHTS, dtype="Int64")})
    assert trained_by(lambda trainer: trainer.fit(NUMBERS, LABELS, sample_weight=column)) == expected


def test_a_frame_of_one_type_is_read_where_it_lies():
    numbers = np.asfortranarray(NUMBERS, "f4")
    numbers.flags.writeable = False
    whole = pd.DataFrame(numbers, columns=NAMES, copy=False)
    array = as_inputs(whole, network()).array
    assert np.shares_memory(array, numbers)
    assert array.flags.f_contiguous and not array.flags.writeable
    assert np.shares_memory(as_inputs(pd.DataFrame(numbers, copy=False), network()).array, numbers)
    assert network().forward(whole).tobytes() == network().forward(numbers).tobytes()
    assert trained_by(lambda trainer: trainer.fit(whole, LABELS, 2)) == trained_by(
        lambda trainer: trainer.fit(numbers, LABELS, 2))


def test_columns_of_objects_that_are_numbers():
    mixed = frame(height=pd.Series([Decimal(str(one)) for one in NUMBERS[:, 0]], dtype=object),
                  smokes=pd.Series([bool(one) for one in NUMBERS[:, 1]], dtype=object))  # fmt: skip
    assert network().forward(mixed).tobytes() == network().forward(NUMBERS).tobytes()


def test_one_column():
    net = Network([1, 3, 2])
    assert net.forward(frame()[["year"]]).tobytes() == net.forward(NUMBERS[:, 2:3]).tobytes()


class LikePolars:
    """What is used of a polars.DataFrame."""

    def __init__(self, columns):
        self.data, self.columns = columns, list(columns)

    def __len__(self):
        return N

    def get_columns(self):
        return list(self.data.values())

    def to_series(self, index=0):
        return self.get_columns()[index]

    def fill_null(self, value):
        raise NotImplementedError

    def to_dummies(self, columns):
        raise NotImplementedError


class LikeArrow:
    """What is used of a pyarrow.Table, whose `columns` are no names."""

    def __init__(self, columns):
        self.data, self.columns, self.column_names = columns, list(columns.values()), list(columns)

    def __len__(self):
        return N

    def column(self, i):
        return self.columns[i]


@pytest.mark.parametrize("kind", [LikePolars, LikeArrow])
def test_frames_of_other_libraries(kind):
    """Those themselves are no part of the test extra."""
    net = network()
    columns = {name: np.asarray(frame()[name]) for name in NAMES}
    Trainer(net).fit(kind(columns), LABELS)
    assert net.feature_names == tuple(NAMES)
    assert net.forward(kind(dict(reversed(columns.items())))).tobytes() == net.forward(NUMBERS).tobytes()
    with pytest.raises(ValueError, match="X lacks column 'age'"):
        net.forward(kind({name: columns[name] for name in NAMES if name != "age"}))
    text = np.full(N, "red", object)
    advice = r"X\.to_dummies\('year'\)" if kind is LikePolars else r"pandas\.get_dummies\(X, columns=\['year'\]\)"
    with pytest.raises(TypeError, match=f"X: column 'year' holds text, such as 'red': .* {advice}$"):
        net.forward(kind(columns | {"year": text}))
    fill = r"fill them \(X\.fill_null\) or" if kind is LikePolars else "fill them or"
    with pytest.raises(ValueError, match=f"X: column 'year' has 40 missing values: {fill} leave"):
        net.forward(kind(columns | {"year": np.full(N, np.nan)}))
    with pytest.raises(TypeError, match="X: column 'year' must hold a number in each row, got arrays"):
        net.forward(kind(columns | {"year": np.zeros((N, 2))}))


HOLES = [None, 1.0] * (N // 2)
BAD = {
    "text": ("red", TypeError, r"holds text, such as 'red': .*, e\.g\. pandas\.get_dummies\(X, columns=\['year'\]\)$"),
    "text and holes": (["red", None] * 20, TypeError, "holds text, such as 'red'"),
    "text as objects": (pd.Series(["red"] * N, dtype=object), TypeError, "holds text, such as 'red'"),
    "numbers as text": ("1.5", TypeError, r"holds text, such as '1\.5': .* e\.g\. X\['year'\]\.astype\(float\)$"),
    "long text": ("a" * 1000, TypeError, r"holds text, such as 'a{27}\.\.\.': turn"),
    "categories": (pd.Categorical(["a", "b"] * 20), TypeError, r"holds categories: .*get_dummies\(X, columns=\['year'"),
    "categories of numbers": (pd.Categorical([1, 2] * 20), TypeError, "holds categories: turn it into numbers"),
    "dates": (pd.Timestamp("2020-01-01"), TypeError, r"holds dates or times: .* \(X\['year'\] - X\['year'\]\.min"),
    "dates of a zone": (pd.Timestamp("2020-01-01", tz="UTC"), TypeError, "holds dates or times: turn them into numb"),
    "Python's dates": (datetime.date(2020, 1, 1), TypeError, "holds dates or times: turn them into numbers"),
    "durations": (pd.Timedelta(1, "D"), TypeError, r"holds durations: .* X\['year'\] / numpy\.timedelta64\(1, 'D'\)"),
    "periods": (pd.period_range("2020-01", periods=N, freq="M"), TypeError, "must hold real numbers, got Period"),
    "lists": ([[1, 2]] * N, TypeError, "holds lists: make each of their numbers a column"),
    "complex": (1j, TypeError, "must hold real numbers, got dtype complex128"),
    "NaN": (HOLES, ValueError, r"has 20 missing values: fill them \(X\.fillna\) or leave those rows out$"),
    "one NaN": ([np.nan, *range(N - 1)], ValueError, "has 1 missing value: fill them"),
    "None": (pd.Series(HOLES, dtype=object), ValueError, "has 20 missing values, None in row 0: fill them"),
    "Int64 with NA": (pd.array(HOLES, dtype="Int64"), ValueError, r"has 20 missing values: fill them \(X\.fillna\)"),
    "boolean with NA": (pd.array([True, None] * 20, dtype="boolean"), ValueError, "has 20 missing values: fill them"),
    "infinity": ([*range(N - 1), np.inf], ValueError, "is inf; every number must be finite and at most 3.403e"),
    "beyond float32": (1e39, ValueError, r"is 1e\+39; every number must be finite and at most 3\.403e"),
}


@pytest.mark.parametrize("column, error, message", BAD.values(), ids=BAD)
def test_a_column_that_is_refused(column, error, message):
    net, trainer = network(), Trainer(network())
    row = r"row \d+ of " if "finite" in message else ""
    message = f"X: {row}column 'year' {message}"
    bad = frame(year=column)
    for call in (net.predict, net.forward, lambda X: cost_and_gradient(net, X, LABELS),
                 lambda X: trainer.fit(X, LABELS), lambda X: trainer.evaluate(X, LABELS),
                 lambda X: trainer.partial_fit(X, LABELS), lambda X: find_eta(trainer, X, LABELS)):  # fmt: skip
        with pytest.raises(error, match=f"^{message}"):
            call(bad)
    with pytest.raises(error, match=f"^validation {message}"):
        trainer.fit(frame(), LABELS, validation_data=(bad, LABELS))
    assert trainer.network.feature_names is None


BAD_TARGETS = {
    "holes in values": ("identity", pd.Series(HOLES, name="price"), "y: column 'price' has 20 missing values: fill"),
    "holes in labels": ("softmax", pd.DataFrame({"sick": HOLES}), "y: column 'sick' has 20 missing values: fill them"),
    "holes in names": ("softmax", pd.Series(["a", None] * 20), r"y has 20 missing values, \w+ in row 1: .*y\.fillna"),
    "holes in categories": ("softmax", pd.Series(["a", None] * 20, dtype="category"), "y has 20 missing values, nan"),
    "too many columns": ("softmax", frame(), r"y must hold 40 labels or have shape \(40, 2\), got shape \(40, 7\)"),
}


@pytest.mark.parametrize("output, y, message", BAD_TARGETS.values(), ids=BAD_TARGETS)
def test_targets_that_are_refused(output, y, message):
    trainer = Trainer(network(1 if output == "identity" else 2, output))
    with pytest.raises(ValueError, match=f"^{message}"):
        trainer.fit(frame(), y)


def test_text_in_one_of_several_columns_of_targets():
    with pytest.raises(TypeError, match="^y: column 'kind' holds text, such as 'a': turn it into numbers"):
        Trainer(network()).fit(frame(), pd.DataFrame({"sick": LABELS, "kind": "a"}))


@pytest.mark.parametrize("weights, error, message", [
    (["a"] * N, TypeError, "sample_weight holds text, such as 'a'"),
    (pd.array([1, None] * 20, dtype="Int64"), ValueError, "sample_weight has 20 missing values: fill them"),
])
def test_weights_that_are_refused(weights, error, message):
    with pytest.raises(error, match=message):
        Trainer(network()).fit(frame(), LABELS, sample_weight=pd.Series(weights))


# The same rows in another order

PAIRED = {
    "fit": lambda trainer, X, y, w: trainer.fit(X, y, sample_weight=w),
    "validation": lambda trainer, X, y, w: trainer.fit(NUMBERS, LABELS, validation_data=(X, y, w)),
    "partial_fit": lambda trainer, X, y, w: trainer.partial_fit(X, y, sample_weight=w),
    "fit_batches": lambda trainer, X, y, w: trainer.fit_batches([(X, y, w)]),
    "evaluate": lambda trainer, X, y, w: trainer.evaluate(X, y, sample_weight=w),
    "gradient": lambda trainer, X, y, w: cost_and_gradient(trainer.network, X, y, sample_weight=w),
    "find_eta": lambda trainer, X, y, w: find_eta(trainer, X, y, steps=20),
    "diagnose": lambda trainer, X, y, w: diagnose(trainer, X, y),
    "metrics": lambda trainer, X, y, w: metrics.accuracy(y, pd.Series(trainer.network.predict(X), X.index)),
}  # fmt: skip
INDEXES = {
    "texts": [f"r{i}" for i in range(N)],
    "numbers of the rows": range(N),
    "mixed": [*range(N - 1), "last"],
    "levels": pd.MultiIndex.from_product([["a", "b"], range(N // 2)]),
    "times": pd.date_range("2020-01-01", periods=N),
}


@pytest.mark.parametrize("call", PAIRED.values(), ids=PAIRED)
def test_rows_in_another_order_are_pointed_out(call):
    x, y = frame().set_axis(INDEXES["texts"]), pd.Series(LABELS, INDEXES["texts"])[::-1]
    own, first, other = "validation " * (call is PAIRED["validation"]), "X", "y"
    if call is PAIRED["metrics"]:
        first, other = "y", "outputs"
    with pytest.warns(UserWarning, match="in another order") as caught:
        call(Trainer(network()), x, y, WEIGHTS)
    caught = [one for one in caught if one.category is UserWarning]
    assert [str(one.message) for one in caught] == [
        f"the index of {own}{other} has the labels of the index of {own}{first} in another order, but rows are paired "
        f"by position: {other} = {other}.loc[{first}.index]; or, if the rows are in one order, reset_index(drop=True) "
        "for each"]
    if call is not PAIRED["fit_batches"]:  # which reads ahead in a thread
        assert caught[0].filename == __file__
    call(Trainer(network()), x.reset_index(drop=True), y.reset_index(drop=True), WEIGHTS)


@pytest.mark.parametrize("labels", INDEXES.values(), ids=INDEXES)
def test_any_labels_of_rows(labels):
    x, y, trainer = frame().set_axis(labels), pd.Series(LABELS, labels), Trainer(network())
    expected = trainer.evaluate(x, y)
    with pytest.warns(UserWarning, match="index of y has the labels of the index of X in another order"):
        assert trainer.evaluate(x, y[::-1]) == trainer.evaluate(NUMBERS, LABELS[::-1])
    assert trainer.evaluate(x, y[::-1].loc[x.index]) == expected


def test_weights_in_another_order_are_pointed_out():
    x, y = frame(), pd.Series(LABELS)
    weights, trainer = pd.DataFrame({"w": WEIGHTS})[::-1], Trainer(network())
    with pytest.warns(UserWarning, match=r"index of sample_weight has .* sample_weight\.loc\[X\.index\]"):
        trainer.fit(x, y, sample_weight=weights)
    with pytest.warns(UserWarning, match=r"index of sample_weight has the labels of the index of y in .*\[y\.index\]"):
        trainer.fit(NUMBERS, y, sample_weight=weights)
    with pytest.warns(UserWarning, match="index of y and of sample_weight has the labels of") as caught:
        trainer.evaluate(x, y[::-1], sample_weight=weights)
    assert len(caught) == 1
    with pytest.warns(UserWarning, match="index of validation sample_weight has .* of validation X in another order"):
        trainer.fit(x, y, validation_data=(x, y, weights))
    outputs, message = trainer.network.forward(x), "index of sample_weight has the labels of the index of y in another"
    for metric in (metrics.accuracy, metrics.top_k, metrics.log_loss, metrics.confusion_matrix):
        with pytest.warns(UserWarning, match=message):
            metric(y, outputs, sample_weight=weights)
    with pytest.warns(UserWarning, match=message):
        metrics.rmse(y, outputs[:, :1], sample_weight=weights)


def test_labels_of_rows_that_come_twice():
    twice = [*range(N // 2)] * 2
    with pytest.warns(UserWarning, match="rows are paired by position: bring them into one order; or, if"):
        Trainer(network()).evaluate(frame().set_axis(twice), pd.Series(LABELS, sorted(twice)))


def test_rows_that_have_nothing_in_common_are_as_they_are():
    trainer, y = Trainer(network()), pd.Series(LABELS)
    for index in (range(1, N + 1), INDEXES["texts"], INDEXES["levels"], INDEXES["times"], [0] * N):
        trainer.fit(frame().set_axis(index), y, sample_weight=pd.Series(WEIGHTS, index))
    trainer.fit(frame(), LABELS[::-1].tolist())
    with pytest.raises(ValueError, match=r"y has shape \(39,\), but there are 40 samples"):
        trainer.fit(frame(), y[1:])


def test_a_stream_points_them_out_once():
    x, y = frame().set_axis(INDEXES["texts"]), pd.Series(LABELS, INDEXES["texts"])[::-1]
    trainer = Trainer(network())
    with pytest.warns(UserWarning, match="in another order") as caught:
        trainer.fit_batches([(x, y)] * 3, epochs=2)
        for _ in range(3):
            trainer.partial_fit(x, y)
    assert len([one for one in caught if "in another order" in str(one.message)]) == 1


def test_entries_that_a_dictionary_of_arrow_lacks():
    """NumPy sees another word, or number, in their place."""
    pa = pytest.importorskip("pyarrow")
    words, n = pa.array(["a", None, "b"]).dictionary_encode(), Network([1, 2])
    with pytest.raises(ValueError, match="y: column 'y' has 1 missing value"):
        Trainer(n).fit(np.eye(3, 1), pa.table({"y": words}))
    with pytest.raises(ValueError, match="X: column 'x' has 1 missing value"):
        as_inputs(pa.table({"x": pa.array([3, None, 5]).dictionary_encode()}), n)
    taken = as_inputs(pa.table({"x": pa.array([3, 5, 3]).dictionary_encode()}), n)
    assert taken.array.ravel().tolist() == [3, 5, 3]
