"""Names of features and classes: learned when training begins, kept in files and copies, asked of all later data."""

import copy
import json
import pickle

import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from fastbp import Network, Trainer, cost_and_gradient, find_eta
from fastbp.callbacks import EarlyStopping

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
    begun.fit(pd.DataFrame(X), LABELS)  # whose columns are numbers
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
    for other in (FRAME[["c", "a", "b"]], FRAME[["b", "a", "c"]].astype({"a": "f8"}), X):
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
    ("abc", TypeError, "feature_names must be None or a sequence of texts, got 'abc'"),
    ([1, 2, 3], TypeError, r"feature_names must be None or a sequence of texts, got \[1, 2, 3\]"),
    (["a", "b"], ValueError, "feature_names must be 3 different texts for 3 features, got 2: 'a', 'b'"),
    (["a", "b", "a"], ValueError, "feature_names must be 3 different texts for 3 features, got 3: 'a', 'b', 'a'"),
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
                          r"it Network\(\[\.\.\., 3\]\); or name all, .* by network.classes = \["),
    (2, "softmax", WORDS, r"y has 3 classes .*; the network has 2 outputs, for 2 .* Network\(\[\.\.\., 3\]\)$"),
    (1, "sigmoid", WORDS, r"y has 3 classes .*; the network has 1 output, for 2 .* Network\(\[\.\.\., 3\]\)$"),
    (2, "softmax", ["a"] * N, r"y has 1 class \('a'\); the network has 2 outputs, for 2 classes: name all"),
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
    with pytest.raises(ValueError, match="y holds text, such as '.*', and the network knows no names of classes: "):
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
    ("cat", TypeError, "classes must be None or a sequence of texts, got 'cat'"),
    ([0, 1, 2], TypeError, r"classes must be None or a sequence of texts, got \[0, 1, 2\]"),
    (["a", "b"], ValueError, "classes must be 3 different texts for 3 outputs, got 2: 'a', 'b'"),
    (["a", "b", "b"], ValueError, "classes must be 3 different texts for 3 outputs, got 3"),
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
    del description["feature_names"], description["classes"]
    save_file(tensors, path, {"fastbp": json.dumps(description)})
    net = Network.load(path)
    assert (net.feature_names, net.classes) == (None, None)
    for name, bad in (("feature_names", ["a"]), ("classes", [1, 2, 3]), ("classes", "abc")):
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
    with pytest.raises(ValueError, match="validation y has column 'r' that the targets of the training lack"):
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
