"""Names of features and classes: learned when training begins, kept in files and copies, asked of all later data."""

import copy
import functools
import json
import pickle

import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from fastbp import Network, Trainer, TrainingWarning, cost_and_gradient, diagnose, find_eta
from fastbp.callbacks import Checkpoint, EarlyStopping

N = 60
X = np.random.default_rng(0).normal(size=(N, 3)).astype("f4")
FRAME = pd.DataFrame(X, columns=["a", "b", "c"])
LABELS = np.argmax(X, axis=1)
WORDS = np.array(["fish", "cat", "ant"])[LABELS]  # sorted: ant, cat, fish
SORTED = 2 - LABELS


def trainer(n_out=3, output="softmax"):
    return Trainer(Network([3, 8, n_out], "tanh", output), optimizer="adam", batch_size=10)


# Features


def trained():
    begun = trainer()
    begun.fit(FRAME, LABELS)
    return begun


BEGINNINGS = {
    "fit": lambda trainer: trainer.fit(FRAME, LABELS),
    "partial_fit": lambda trainer: trainer.partial_fit(FRAME, LABELS),
    "fit_batches": lambda trainer: trainer.fit_batches([(FRAME[:30], LABELS[:30]), (FRAME[30:], LABELS[30:])]),
}


@pytest.mark.parametrize("begin", BEGINNINGS.values(), ids=BEGINNINGS)
def test_training_learns_the_names_of_columns(begin):
    begun = trainer()
    assert begun.network.feature_names is None
    begin(begun)
    assert begun.network.feature_names == ("a", "b", "c")


def test_nothing_else_learns_them():
    begun = trainer()
    begun.evaluate(FRAME, LABELS), begun.network.predict(FRAME), cost_and_gradient(begun.network, FRAME, LABELS)
    find_eta(begun, FRAME, LABELS, steps=10)
    with pytest.raises(ValueError, match="labels 0 to 2"):
        begun.fit(FRAME, LABELS + 1)
    with pytest.raises(ValueError, match="validation y"):
        begun.fit(FRAME, LABELS, validation_data=(FRAME, LABELS + 1))
    begun.fit(X, LABELS)
    begun.fit(pd.DataFrame(X), LABELS)  # whose columns are places
    with pytest.raises(ValueError, match="X has 2 columns 'a': give each column a name of its own"):
        begun.fit(pd.DataFrame(X, columns=["a", "a", "b"]), LABELS)
    assert begun.network.feature_names is None


USES = {
    "predict": lambda trainer, x: trainer.network.predict(x),
    "forward": lambda trainer, x: trainer.network.forward(x),
    "evaluate": lambda trainer, x: trainer.evaluate(x, LABELS),
    "gradient": lambda trainer, x: cost_and_gradient(trainer.network, x, LABELS)[1],
    "fit": lambda trainer, x: trainer.fit(x, LABELS).loss,
    "partial_fit": lambda trainer, x: trainer.partial_fit(x, LABELS),
    "fit_batches": lambda trainer, x: trainer.fit_batches([(x, LABELS)]).loss,
    "find_eta": lambda trainer, x: find_eta(trainer, x, LABELS, steps=10).losses,
    "validation": lambda trainer, x: trainer.fit(FRAME, LABELS, validation_data=(x, LABELS)).validation_loss,
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_another_order_is_put_right(use):
    expected = np.asarray(use(trained(), FRAME))
    for other in (FRAME[["c", "a", "b"]], FRAME[["b", "a", "c"]].astype({"a": "f8"}), X,
                  FRAME[["c", "a", "b"]].rename(columns={"a": " a", "c": "c  "})):  # as "a, b" in a line of names
        assert np.asarray(use(trained(), other)).tobytes() == expected.tobytes()


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_other_columns_are_refused(use):
    begun = trained()
    for other, message in [
        (FRAME.drop(columns="a"), "X lacks column 'a'"),
        (FRAME[["c"]], "X lacks columns 'a', 'b'"),
        (FRAME.assign(city="Rome"), "X has column 'city' that the network was not trained on"),
        (FRAME.rename(columns={"b": "B"}), "X lacks column 'b' and has column 'B' that the network was not trained on"),
    ]:
        with pytest.raises(ValueError, match=message):
            use(begun, other)


def test_names_of_columns_can_be_set_and_forgotten():
    begun = trained()
    other = FRAME.rename(columns={"b": "B"})
    with pytest.raises(ValueError, match="network.feature_names = None lets it train on others"):
        begun.fit(other, LABELS)
    begun.network.feature_names = None
    begun.fit(other, LABELS)
    assert begun.network.feature_names == ("a", "B", "c")
    begun.network.feature_names = ["x", "y", "z"]
    with pytest.raises(ValueError, match="X lacks columns 'x', 'y', 'z'"):
        begun.network.predict(FRAME)


@pytest.mark.parametrize("names, error, message", [
    ("abc", TypeError, "feature_names must be None or a sequence of strings, got 'abc'"),
    ([1, 2, 3], TypeError, r"feature_names must be None or a sequence of strings, got \[1, 2, 3\]"),
    (["a", "b"], ValueError, "feature_names must be 3 different strings for 3 features, got 2: 'a', 'b'"),
    (["a", "b", "a"], ValueError, "feature_names must be 3 different strings for 3 features, got 3: 'a', 'b', 'a'"),
])
def test_bad_names_of_features(names, error, message):
    with pytest.raises(error, match=message):
        trainer().network.feature_names = names


# Classes

SAME = {
    "list": WORDS.tolist(),
    "objects": WORDS.astype(object),
    "column": WORDS[:, None],
    "series": pd.Series(WORDS),
    "frame": pd.DataFrame({"animal": WORDS}),
    "categories": pd.Series(pd.Categorical(WORDS, ["fish", "ant", "cat", "bird"], ordered=True)),
}
if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
    SAME["texts of any length"] = WORDS.astype(np.dtypes.StringDType())


@pytest.mark.parametrize("words", SAME.values(), ids=SAME)
def test_names_are_sorted_labels(words):
    by_number, by_name = trainer(), trainer()
    settings = {"epochs": 3, "validation_fraction": 0.25, "stratify": True, "metrics": ["accuracy", "f1"]}
    expected = by_number.fit(FRAME, SORTED, **settings)
    found = by_name.fit(FRAME, words, **settings)
    assert (found.loss, found.validation_loss, found.metrics) == (
        expected.loss, expected.validation_loss, expected.metrics)
    net = by_name.network
    assert net.theta.tobytes() == by_number.network.theta.tobytes()
    assert net.classes.tolist() == ["ant", "cat", "fish"]
    assert net.classes.dtype.kind == "U"
    assert net.predict(X).tolist() == [["ant", "cat", "fish"][label] for label in by_number.network.predict(X)]
    assert by_name.evaluate(X, words) == by_number.evaluate(X, SORTED)
    assert cost_and_gradient(net, X, words)[0] == cost_and_gradient(by_number.network, X, SORTED)[0]
    assert net.predict_proba(X).tobytes() == by_number.network.predict_proba(X).tobytes()


def test_the_network_learns_what_it_says():
    begun = trainer()
    begun.fit(X, WORDS, 200)
    assert np.mean(begun.network.predict(X) == WORDS) > 0.9


def test_two_names_of_one_output():
    words = np.where(X[:, 0] > 0, "yes", "no")
    begun = trainer(1, "sigmoid")
    begun.fit(X, words, 60)
    assert begun.network.classes.tolist() == ["no", "yes"]
    assert np.mean(begun.network.predict(X) == words) > 0.9
    assert begun.network.predict_proba(X)[:, 1].tobytes() == begun.network.forward(X)[:, 0].tobytes()


def test_names_of_several_sigmoid_outputs_are_one_class_each():
    begun = trainer(3, "sigmoid")
    begun.fit(X, WORDS)
    assert begun.network.multilabel is False
    assert set(begun.network.predict(X)) <= set(WORDS)


BEGINNINGS_BY_NAME = {
    "partial_fit": lambda trainer: trainer.partial_fit(X, WORDS),
    "fit_batches": lambda trainer: trainer.fit_batches([(X[i::6], WORDS[i::6]) for i in range(6)], 2),
    "fit_batches, validated": lambda trainer: trainer.fit_batches(
        [(X[i : i + 1], WORDS[i : i + 1]) for i in range(6)], validation_data=(X, WORDS)),
    "validated": lambda trainer: trainer.fit(X, WORDS, validation_data=(FRAME, WORDS)),
    "callbacks": lambda trainer: trainer.fit(X, WORDS, 3, validation_data=(X, WORDS),
                                             callbacks=[EarlyStopping("validation_accuracy")]),
}


@pytest.mark.parametrize("begin", BEGINNINGS_BY_NAME.values(), ids=BEGINNINGS_BY_NAME)
def test_training_learns_the_names_of_classes(begin):
    begun = trainer()
    begin(begun)
    assert begun.network.classes.tolist() == ["ant", "cat", "fish"]


def test_find_eta_takes_names_and_learns_none():
    begun = trainer()
    expected = find_eta(begun, X, SORTED, steps=20).losses.tobytes()
    assert find_eta(begun, FRAME, WORDS, steps=20).losses.tobytes() == expected
    assert (begun.network.classes, begun.network.feature_names) == (None, None)
    begun.network.classes = ["ant", "cat", "fish"]
    assert find_eta(begun, FRAME, WORDS, steps=20).losses.tobytes() == expected
    assert begun.network.classes is not None


@pytest.mark.parametrize("n_out, output, words, message", [
    (4, "softmax", WORDS, r"y has 3 classes \('ant', 'cat', 'fish'\); the network has 4 outputs, for 4 classes: make "
                          r"it Network\(\[\.\.\., 3\]\); or set network.classes = \[.*\] to all names"),
    (2, "softmax", WORDS, r"y has 3 classes .*; the network has 2 outputs, for 2 .* Network\(\[\.\.\., 3\]\)$"),
    (1, "sigmoid", WORDS, r"y has 3 classes .*; the network has 1 output, for 2 .* Network\(\[\.\.\., 3\]\)$"),
    (2, "softmax", ["a"] * N, r"y has 1 class \('a'\); the network has 2 outputs, for 2 classes: set network.classes"),
    (2, "softmax", [str(i) for i in range(N)], "y has 60 classes .*'0', '1', '10', '11', '12', '13' and 54 more"),
])
def test_another_number_of_names(n_out, output, words, message):
    begun = trainer(n_out, output)
    for call in (begun.fit, begun.partial_fit, lambda X, y: begun.fit_batches([(X, y)])):
        with pytest.raises(ValueError, match=message):
            call(X, words)
    assert begun.network.classes is None


def test_names_that_the_data_lack_can_be_set():
    begun = trainer(4)
    begun.network.classes = ["cat", "dog", "ant", "fish"]  # the order is kept
    begun.fit(X, WORDS, 30)
    number = np.array([["cat", "dog", "ant", "fish"].index(word) for word in WORDS])
    by_number = trainer(4)
    with pytest.warns(TrainingWarning, match="1 label of 4 never occurs in 60 samples, .*: 1; check y"):
        by_number.fit(X, number, 30)
    assert begun.network.theta.tobytes() == by_number.network.theta.tobytes()
    assert begun.network.predict(X).tolist() == begun.network.classes[by_number.network.predict(X)].tolist()


def test_unknown_names_are_refused():
    begun = trainer()
    begun.fit(X, WORDS)
    dogs = np.where(WORDS == "cat", "dog", WORDS)
    message = "y has 'dog', which is none of the network's classes: 'ant', 'cat', 'fish'"
    for call in (begun.fit, begun.evaluate, begun.partial_fit, lambda x, y: cost_and_gradient(begun.network, x, y),
                 lambda x, y: begun.fit(X, WORDS, validation_data=(x, y)), lambda x, y: begun.fit_batches([(x, y)])):
        with pytest.raises(ValueError, match=message):
            call(X, dogs)
    with pytest.raises(ValueError, match=f"validation {message}"):
        trainer().fit(X, WORDS, validation_data=(X, dogs))
    with pytest.raises(ValueError, match="class_weight has 'dog', which is none of the network's classes: 'ant',"):
        begun.fit(X, WORDS, class_weight={"dog": 2})
    with pytest.raises(ValueError, match="class_weight has 1, which is none of the network's classes"):
        begun.fit(X, WORDS, class_weight={1: 2})


def test_numbers_beside_names_are_refused():
    begun = trainer()
    begun.fit(X, WORDS)
    with pytest.raises(ValueError, match=r"y holds numbers, .* names \('ant', 'cat', 'fish'\): .*classes\[y\]"):
        begun.evaluate(X, SORTED)
    assert begun.evaluate(X, begun.network.classes[SORTED]) == begun.evaluate(X, WORDS)
    assert begun.evaluate(X, np.eye(3)[SORTED]) == begun.evaluate(X, WORDS)  # rows are in the order of the classes
    begun.network.classes = None
    begun.evaluate(X, SORTED)


def test_text_and_a_network_without_names():
    with pytest.raises(ValueError, match="y holds text, such as '.*', but the network has no names of classes: "):
        trainer().evaluate(X, WORDS)
    with pytest.raises(ValueError, match="y holds text, such as"):
        cost_and_gradient(trainer().network, X, WORDS)
    with pytest.raises(TypeError, match="y holds text, .* identity outputs take values: .*make the output soft"):
        trainer(1, "identity").fit(X, WORDS)


def test_class_weight_by_name():
    by_name, by_number = trainer(), trainer()
    by_name.fit(X, WORDS, 3, class_weight={"fish": 3.0, "ant": 2})
    by_number.fit(X, SORTED, 3, class_weight={2: 3.0, 0: 2})
    assert by_name.network.theta.tobytes() == by_number.network.theta.tobytes()
    by_name.fit(X, WORDS, class_weight="balanced")
    by_number.fit(X, SORTED, class_weight="balanced")
    assert by_name.network.theta.tobytes() == by_number.network.theta.tobytes()


@pytest.mark.parametrize("names, error, message", [
    ("cat", TypeError, "classes must be None or a sequence of strings, got 'cat'"),
    ([0, 1, 2], TypeError, r"classes must be None or a sequence of strings, got \[0, 1, 2\]"),
    (["a", "b"], ValueError, "classes must be 3 different strings for 3 outputs, got 2: 'a', 'b'"),
    (["a", "b", "b"], ValueError, "classes must be 3 different strings for 3 outputs, got 3"),
])
def test_bad_names_of_classes(names, error, message):
    with pytest.raises(error, match=message):
        trainer().network.classes = names


def test_names_change_as_a_whole():
    net = trainer().network
    net.classes = ["a", "b", "c"]
    with pytest.raises(ValueError, match="read-only"):
        net.classes[0] = "b"


def test_values_have_no_classes():
    with pytest.raises(ValueError, match="classes need a softmax or sigmoid output, the network has identity"):
        trainer(2, "identity").network.classes = ["a", "b"]


# Kept


def through_file(net, path):
    net.save(path)
    return Network.load(path)


@pytest.mark.parametrize("way", [
    through_file, lambda net, path: copy.deepcopy(net), lambda net, path: pickle.loads(pickle.dumps(net))])
def test_names_are_kept(way, tmp_path):
    begun = trainer()
    begun.fit(FRAME.rename(columns={"a": "größe"}), np.where(WORDS == "ant", "Ämeise", WORDS))
    kept = way(begun.network, tmp_path / "net.safetensors")
    assert kept.feature_names == ("größe", "b", "c")
    assert kept.classes.tolist() == ["cat", "fish", "Ämeise"]
    assert kept.predict(X).tolist() == begun.network.predict(X).tolist()
    nameless = way(trainer().network, tmp_path / "net.safetensors")
    assert (nameless.feature_names, nameless.classes) == (None, None)


def test_a_file_without_names_is_read(tmp_path):
    path = tmp_path / "net.safetensors"
    trained().network.save(path)
    with safe_open(path, framework="numpy") as file:
        description = json.loads(file.metadata()["fastbp"])
    tensors = load_file(path)
    del description["feature_names"], description["classes"], description["target_names"]
    save_file(tensors, path, {"fastbp": json.dumps(description)})
    net = Network.load(path)
    assert (net.feature_names, net.classes, net.target_names) == (None, None, None)
    for name, bad in (("feature_names", ["a"]), ("classes", [1, 2, 3]), ("classes", "abc"), ("classes", ["a"])):
        save_file(tensors, path, {"fastbp": json.dumps(description | {name: json.dumps(bad)})})
        with pytest.raises(ValueError, match=f"holds no valid fastbp network: {name} must be "):
            Network.load(path)


# What stands in another order, or belongs to others.


def rows_of(names, classes):
    return pd.DataFrame({one: (np.asarray(names) == one).astype(float) for one in classes})


def test_rows_of_classes_are_known_by_their_names():
    X = np.random.default_rng(0).normal(size=(90, 4))
    names = np.array(["a", "b", "c"])[np.argmax(X[:, :3], axis=1)]
    net = Network([4, 16, 3], seed=1)
    net.classes = ["c", "b", "a"]
    trainer = Trainer(net, batch_size=10)
    trainer.fit(X, names, 10)
    expected = trainer.evaluate(X, names)
    assert expected[1] > 0.9
    for order in ("abc", "cab"):
        assert trainer.evaluate(X, rows_of(names, order)) == pytest.approx(expected)
    with pytest.raises(ValueError, match="y lacks column 'a' and has column 'd' that is none of the network's classes"):
        trainer.evaluate(X, rows_of(names, "bcd"))


def test_columns_of_targets_stand_in_the_order_of_the_training():
    X = np.random.default_rng(0).normal(size=(60, 4))
    rows = pd.DataFrame({"p": X[:, 0], "q": 5 * X[:, 1]})
    trainer = Trainer(Network([4, 2], output="identity", seed=1), optimizer="adam")
    history = trainer.fit(X, rows, 2, validation_data=(X, rows[["q", "p"]]))
    assert history.validation_loss[-1] == pytest.approx(trainer.evaluate(X, rows)[0])
    with pytest.raises(ValueError, match="validation y has column 'r' that the training targets lack"):
        trainer.fit(X, rows, 1, validation_data=(X, rows.assign(r=1.0)))


def test_layers_of_other_features_or_classes_are_not_taken():
    one, other = (Network([3, 4, 2], seed=seed) for seed in (1, 2))
    one.feature_names, other.feature_names = ["a", "b", "c"], ["c", "b", "a"]
    with pytest.raises(ValueError, match="feature_names are 'c', 'b', 'a' here, 'a', 'b', 'c' in the other network"):
        other.take_layers(one)
    other.take_layers(one, [1])
    other.classes, one.classes = ["x", "y"], ["y", "x"]
    with pytest.raises(ValueError, match="classes are 'x', 'y' here, 'y', 'x' in the other network"):
        other.take_layers(one, [1])
    assert (other.W[1] == one.W[1]).all() and (other.W[0] != one.W[0]).any()


def test_labels_of_bytes_are_texts():
    X = np.random.default_rng(0).normal(size=(30, 3))
    names = np.where(X[:, 0] > 0, b"yes", b"no")
    net = Network([3, 2], seed=1)
    Trainer(net).fit(X, names, 1)
    assert net.classes.tolist() == ["no", "yes"]


# Columns of targets

ROWS = {
    "softmax": pd.get_dummies(pd.Series(WORDS), dtype=float)[["cat", "fish", "ant"]],
    "sigmoid": pd.DataFrame(X > 0, columns=["p", "q", "r"]).astype(float),
    "identity": pd.DataFrame(X * [1, 5, 25], columns=["p", "q", "r"]),
}


def trained_on_rows(output="softmax"):
    begun = trainer(output=output)
    begun.fit(X, ROWS[output], 2)
    return begun


USES_OF_TARGETS = {
    "evaluate": lambda trainer, y: trainer.evaluate(X, y),
    "gradient": lambda trainer, y: cost_and_gradient(trainer.network, X, y)[1],
    "fit": lambda trainer, y: trainer.fit(X, y).loss,
    "partial_fit": lambda trainer, y: trainer.partial_fit(X, y),
    "fit_batches": lambda trainer, y: trainer.fit_batches([(X, y)]).loss,
    "find_eta": lambda trainer, y: find_eta(trainer, X, y, steps=10).losses,
    "diagnose": lambda trainer, y: list(diagnose(trainer, X, y).figures.values()),
    "validation": lambda trainer, y: trainer.fit(X, y.iloc[:, ::-1], validation_data=(X, y)).validation_loss,
    "metrics": lambda trainer, y: trainer.fit(X, y.iloc[:, ::-1], validation_data=(X, y), metrics=[
        "r2" if trainer.network.classes is None else "precision"]).metrics.popitem()[1],
}


@pytest.mark.parametrize("output", ROWS)
@pytest.mark.parametrize("use", USES_OF_TARGETS.values(), ids=USES_OF_TARGETS)
def test_another_order_of_targets_is_put_right(use, output):
    rows = ROWS[output]
    expected = np.asarray(use(trained_on_rows(output), rows), float)
    other = rows.iloc[:, [2, 0, 1]]
    assert np.asarray(use(trained_on_rows(output), other), float).tobytes() == expected.tobytes()
    loaded = pickle.loads(pickle.dumps(trained_on_rows(output)))
    assert np.asarray(use(loaded, other), float).tobytes() == expected.tobytes()


@pytest.mark.parametrize("output", ROWS)
@pytest.mark.parametrize("use", USES_OF_TARGETS.values(), ids=USES_OF_TARGETS)
def test_other_columns_of_targets_are_refused(use, output):
    begun, rows = trained_on_rows(output), ROWS[output]
    first = rows.columns[0]
    whose = "the training targets lack" if output == "identity" else "is none of the network's classes"
    with pytest.raises(ValueError, match=f"y lacks column '{first}' and has column 'other' that {whose}"):
        use(begun, rows.rename(columns={first: "other"}))
    advice = "" if output == "identity" else r"; in pandas y\.reindex\(columns=network\.classes, fill_value=0\)"
    with pytest.raises(ValueError, match=f"y lacks column '{first}'{advice}"):
        use(begun, rows.drop(columns=first))


def test_columns_of_rows_name_the_classes():
    begun = trained_on_rows()
    begun.fit(X, ROWS["softmax"], 200)
    net = begun.network
    assert net.classes.tolist() == ["cat", "fish", "ant"]  # as the columns are
    assert net.target_names is None
    assert np.mean(net.predict(X) == WORDS) > 0.9
    assert (net.classes[np.argmax(net.predict_proba(X), axis=1)] == net.predict(X)).all()
    assert begun.evaluate(X, WORDS) == begun.evaluate(X, ROWS["softmax"]) == begun.evaluate(X, ROWS["softmax"].values)
    with pytest.raises(ValueError, match=r"y holds numbers, .* names \('cat', 'fish', 'ant'\): .*classes\[y\]"):
        begun.evaluate(X, SORTED)


def test_columns_of_yes_and_no_name_the_classes():
    net = trained_on_rows("sigmoid").network
    assert (net.multilabel, net.classes.tolist()) == (True, ["p", "q", "r"])
    assert net.predict(X).shape == (N, 3)


def test_one_label_a_column_of_numbers_is_the_number_of_the_column():
    """As pandas.get_dummies makes them of labels; then labels are numbers as ever."""
    expected = trainer()
    expected.fit(X, LABELS, 2)
    for rows in (pd.get_dummies(LABELS), pd.get_dummies(LABELS)[[2, 0, 1]], pd.get_dummies(LABELS.astype(float))):
        begun = trainer()
        begun.fit(X, rows, 2)
        assert begun.network.classes is None
        assert begun.network.theta.tobytes() == expected.network.theta.tobytes()
        assert begun.evaluate(X, LABELS) == begun.evaluate(X, rows)
    assert begun.network.predict(X).dtype.kind == "i"


def test_other_numbers_of_columns_are_names_of_classes():
    begun = trainer()
    begun.fit(X, pd.get_dummies(LABELS * 10), 60)
    assert begun.network.classes.tolist() == ["0", "10", "20"]
    with pytest.raises(ValueError, match=r"give those, e\.g\. numpy\.array\(y\)\.astype\(str\), or set"):
        begun.evaluate(X, LABELS * 10)
    assert begun.evaluate(X, (LABELS * 10).astype(str)) == begun.evaluate(X, pd.get_dummies(LABELS * 10)[[20, 0, 10]])


def test_nothing_but_training_learns_the_names_of_targets():
    for output, rows in ROWS.items():
        begun = trainer(output=output)
        begun.evaluate(X, rows), cost_and_gradient(begun.network, X, rows), find_eta(begun, X, rows, steps=10)
        diagnose(begun, X, rows)
        with pytest.raises(ValueError, match="validation y"):
            begun.fit(X, rows, validation_data=(X, rows * np.inf))
        begun.fit(X, rows.values)
        assert (begun.network.classes, begun.network.target_names) == (None, None)
    begun = trainer(1, "identity")
    begun.fit(X, pd.DataFrame({"price": X[:, 0]}))
    begun.evaluate(X, pd.Series(X[:, 0], name="cost"))  # a single column is what it is
    assert begun.network.target_names is None


def test_names_of_targets_are_kept(tmp_path):
    net = trained_on_rows("identity").network
    assert (net.target_names, net.classes) == (("p", "q", "r"), None)
    for kept in (through_file(net, tmp_path / "net.safetensors"), copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert kept.target_names == ("p", "q", "r")
        assert Trainer(kept).evaluate(X, ROWS["identity"][["r", "p", "q"]]) == Trainer(net).evaluate(
            X, ROWS["identity"])


def test_a_fit_that_goes_on_knows_the_names_of_targets(tmp_path):
    expected = trainer(output="identity")
    expected.fit(X, ROWS["identity"], 4)

    def stop(fit):
        if fit.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer(output="identity").fit(X, ROWS["identity"], 4, callbacks=[Checkpoint(tmp_path, seconds=0), stop])
    begun = trainer(output="identity")
    begun.fit(X, ROWS["identity"], 4, callbacks=[Checkpoint(tmp_path, seconds=0, resume=True)])
    assert begun.network.target_names == ("p", "q", "r")
    assert begun.network.theta.tobytes() == expected.network.theta.tobytes()


def test_names_of_targets_can_be_set_and_forgotten():
    begun = trained_on_rows("identity")
    other = ROWS["identity"].rename(columns={"p": "P"})
    with pytest.raises(ValueError, match="has column 'P' .*; network.target_names = None lets it train on others"):
        begun.fit(X, other)
    begun.network.target_names = None
    begun.fit(X, other)
    assert begun.network.target_names == ("P", "q", "r")
    begun = trained_on_rows()
    with pytest.raises(ValueError, match="has column 'P' .*; network.classes = None lets it train on others"):
        begun.fit(X, ROWS["softmax"].rename(columns={"ant": "P"}))
    with pytest.raises(ValueError, match="target_names must be 3 different strings for 3 outputs, got 2: 'a', 'b'"):
        trainer(output="identity").network.target_names = ["a", "b"]
    with pytest.raises(ValueError, match="softmax outputs have classes: set network.classes, not target_names"):
        trainer().network.target_names = ["a", "b", "c"]


def test_layers_of_other_targets_are_not_taken():
    one, other = (Network([3, 2], output="identity", seed=seed) for seed in (1, 2))
    one.target_names, other.target_names = ["a", "b"], ["b", "a"]
    with pytest.raises(ValueError, match="target_names are 'b', 'a' here, 'a', 'b' in the other network"):
        other.take_layers(one)


def test_a_bad_number_is_named_by_its_own_column():
    begun = trained_on_rows("identity")
    bad = ROWS["identity"][["r", "p", "q"]].copy()
    bad.loc[7, "q"] = np.nan
    with pytest.raises(ValueError, match="y: column 'q' has 1 missing value"):
        begun.evaluate(X, bad)


# Columns that are called something else than different texts

OTHER_LABELS = {
    "numbers": ([3, 5, 8], ("3", "5", "8")),
    "shifted": ([1, 2, 3], ("1", "2", "3")),
    "mixed": (["a", 0, 1.5], ("a", "0", "1.5")),
    "levels": (pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)]), ("a_1", "a_2", "b_1")),
    "times": (pd.date_range("2020-01-01", periods=3), tuple(f"2020-01-0{i} 00:00:00" for i in (1, 2, 3))),
}


@pytest.mark.parametrize("labels, names", OTHER_LABELS.values(), ids=OTHER_LABELS)
def test_labels_that_are_no_texts_are_names_too(labels, names):
    rows = pd.DataFrame(X, columns=labels)
    begun, expected = trainer(output="identity"), trainer(output="identity")
    begun.fit(rows, rows, 2)
    expected.fit(X, X, 2)
    assert (begun.network.feature_names, begun.network.target_names) == (names, names)
    other = rows.iloc[:, [1, 2, 0]]
    assert begun.evaluate(other, other) == begun.evaluate(X, X) == expected.evaluate(X, X)
    with pytest.raises(ValueError, match="X lacks columns .* and has columns 'x', 'y', 'z' that the network was not"):
        begun.network.predict(pd.DataFrame(X, columns=["x", "y", "z"]))


def test_numbers_from_0_are_places():
    rows = pd.DataFrame(X)
    for begun in (trained(), trained_on_rows("identity"), trainer(output="identity")):
        expected = begun.network.forward(X).tobytes()
        assert begun.network.forward(rows).tobytes() == expected
        assert begun.network.forward(rows[[2, 0, 1]]).tobytes() == expected
    expected = begun.evaluate(X, X)
    begun.fit(rows[[1, 0, 2]], rows[[2, 1, 0]])
    assert (begun.network.feature_names, begun.network.target_names) == (None, None)
    assert begun.evaluate(rows, rows[[1, 2, 0]]) == begun.evaluate(X, X) != expected


def test_texts_of_places_are_those_places():
    """A table that went through a CSV file has texts for numbers."""
    begun = trainer()
    begun.network.feature_names = ["2", "0", "1"]
    assert begun.network.forward(pd.DataFrame(X[:, [1, 2, 0]])).tobytes() == begun.network.forward(X).tobytes()


@pytest.mark.parametrize("labels, message", [
    (["a", "b", "a"], "2 columns 'a'"),
    ([1, 1, 1], "3 columns 1"),
    ([0, 1, "1"], "columns 1 and '1', which are the same as strings"),
    (pd.MultiIndex.from_tuples([("a", 1), ("b", 1), ("a", 1)]), r"2 columns \('a', 1\)"),
])
def test_columns_of_one_name_are_refused(labels, message):
    rows = pd.DataFrame(X, columns=labels)
    for begun in (trainer(output="identity"), trained_on_rows("identity"), trained()):
        for call in (begun.network.predict, functools.partial(begun.evaluate, y=X), functools.partial(begun.fit, y=X)):
            with pytest.raises(ValueError, match=f"^X has {message}: give each column a name of its own$"):
                call(rows)
        for call in (begun.evaluate, begun.fit, functools.partial(cost_and_gradient, begun.network)):
            with pytest.raises(ValueError, match=f"^y has {message}"):
                call(X, rows)
