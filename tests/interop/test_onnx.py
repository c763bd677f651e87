"""Networks as ONNX models, run by ONNX Runtime; models of others read, and compared with what ONNX Runtime makes of
them."""

import doctest
import sys

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastbp import Network, Trainer
from fastbp import sklearn as estimators
from fastbp.cli import main
from fastbp.core import reference
from fastbp.core.activations import CODES
from fastbp.network import HIDDEN_ACTIVATIONS

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from onnx import TensorProto, checker, helper, numpy_helper  # noqa: E402

from fastbp import onnx as ours  # noqa: E402

DTYPES = ["float32", "float64"]
ROUNDINGS = 8  # of each number that is added up


def run(path, X, name="X"):
    """The outputs by name."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return dict(zip([each.name for each in session.get_outputs()], session.run(None, {name: X}), strict=True))


def written(net, path, **settings):
    """The model, checked as far as ONNX can check one."""
    net.to_onnx(path, **settings)
    model = onnx.load(path)
    checker.check_model(model, full_check=True)
    return model


def with_biases(net, seed=3):
    draw = np.random.default_rng(seed)
    for b in net.b:
        b[:] = draw.normal(size=b.shape)
    return net


def near(a, b, dtype, size=1.0):
    """Equal but for roundings of numbers of this size, or of their own."""
    eps = np.finfo(dtype).eps
    assert a.dtype == b.dtype == np.dtype(dtype) and a.shape == b.shape
    np.testing.assert_allclose(a, b, rtol=ROUNDINGS * eps, atol=ROUNDINGS * eps * size)


# Out.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", HIDDEN_ACTIVATIONS)
@pytest.mark.parametrize("sizes", [(5, 7, 3), (1, 1, 1), (9, 33, 1, 17, 2), (4, 6)])
def test_hidden_layers_and_outputs_that_take_values(tmp_path, activation, dtype, sizes):
    """Each as hidden layers, and those that are no probabilities as the output too."""
    output = "identity" if activation == "sigmoid" else activation
    net = with_biases(Network(sizes, activation, output, dtype, input_scale=0.75))
    model = written(net, tmp_path / "a.onnx")
    assert (model.opset_import[0].version, model.ir_version, len(model.opset_import)) == (20, 10, 1)
    shape = model.graph.input[0].type.tensor_type.shape.dim
    assert (shape[0].dim_param, shape[1].dim_value) == ("N", sizes[0])
    for n in (1, 2, 61):
        X = np.random.default_rng(n).normal(size=(n, sizes[0])).astype(dtype) * 3
        outputs = run(tmp_path / "a.onnx", X)
        assert list(outputs) == ["variable"]
        near(outputs["variable"], net.forward(X), dtype, size=20)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", [name for name in CODES if name not in ("identity", "softmax")])
def test_outputs_keep_their_digits(tmp_path, activation, dtype):
    """Where Sigmoid of ONNX Runtime would be 0 or a sixth wrong, Elu of -1e-10 0, and 1 + erf cancel."""
    net = Network([1, 1], output=activation, dtype=dtype, weights="zeros")
    net.W[0][:] = 1
    written(net, tmp_path / "a.onnx")
    z = np.concatenate([np.linspace(-12, 30, 1001), [-50, -30, -1e-10, 1e-10, -1e-5, -15, -18]])
    z = z.astype(dtype)[:, np.newaxis]
    a = list(run(tmp_path / "a.onnx", z).values())[-1][:, -1:]
    true = getattr(reference, activation)(z.astype(float))
    tiny = np.finfo(dtype).tiny  # below, fastbp says 0, too
    # e**u has as many wrong digits as u has before the point, in gelu u = z**2 / 2 or gelu_tanh 0.07 z**3.
    digits = 8 + (np.minimum(np.abs(z), 13.5) ** 3 if activation.startswith("gelu") else 4 * np.abs(z))
    wrong = np.maximum(np.abs(a - true) - 8 * tiny, 0) / np.finfo(dtype).eps
    assert (wrong <= digits * np.abs(true)).all()


def test_onnxruntime_still_has_reasons_for_that(tmp_path):
    """Without these the output could be one node, too."""
    def of(operator, z):
        z = np.array([[z]], "float32")
        node = helper.make_node(operator, ["X"], ["Y"])
        save(tmp_path / "a.onnx", [node], {}, [None, 1], output_shape=[None, 1])
        return run(tmp_path / "a.onnx", z)["Y"].item()

    assert of("Sigmoid", -18) == 0 and abs(of("Sigmoid", -15) / np.exp(-15) - 1) > 0.1
    assert of("Elu", -1e-10) == 0
    assert abs(of("Gelu", -5) / -1.4332576e-6 - 1) > 0.03


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [None, ["red", "green", "bläu"]])
def test_classes(tmp_path, classes, dtype):
    net = with_biases(Network([4, 9, 3], dtype=dtype))
    net.classes = classes
    model = written(net, tmp_path / "a.onnx")
    assert [each.name for each in model.graph.output] == ["label", "probabilities"]
    for n in (1, 50):
        X = np.random.default_rng(n).normal(size=(n, 4)).astype(dtype) * 3
        outputs = run(tmp_path / "a.onnx", X)
        assert outputs["label"].shape == (n,) and outputs["label"].dtype == (np.int64 if classes is None else object)
        assert (outputs["label"] == net.predict(X)).all()
        near(outputs["probabilities"], net.predict_proba(X), dtype, size=20)
        np.testing.assert_allclose(outputs["probabilities"].sum(axis=1), 1, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_out", [1, 2, 5])
@pytest.mark.parametrize("multilabel", [True, False])
@pytest.mark.parametrize("named", [True, False])
def test_sigmoid_outputs(tmp_path, n_out, multilabel, named, dtype):
    """Of a single one the probability of both classes; of several yes or no, or the largest, as predict has it."""
    net = with_biases(Network([4, 9, n_out], output="sigmoid", dtype=dtype))
    net.multilabel = multilabel
    net.classes = [f"c{i}" for i in range(max(2, n_out))] if named else None
    written(net, tmp_path / "a.onnx")
    X = np.random.default_rng(0).normal(size=(40, 4)).astype(dtype) * 3
    outputs, labels = run(tmp_path / "a.onnx", X), net.predict(X)
    assert outputs["label"].shape == labels.shape and (outputs["label"] == labels).all()
    assert outputs["label"].dtype == (object if labels.dtype.kind == "U" else np.int64)
    near(outputs["probabilities"], net.predict_proba(X), dtype, size=4)
    assert len(np.unique(labels)) > 1


def test_a_probability_of_one_half_means_yes(tmp_path):
    net = Network([2, 1], output="sigmoid", weights="zeros")
    written(net, tmp_path / "a.onnx")
    assert run(tmp_path / "a.onnx", np.zeros((3, 2), "float32"))["label"].tolist() == [1, 1, 1]
    assert net.predict(np.zeros((3, 2))).tolist() == [1, 1, 1]


@pytest.mark.parametrize("dtype", DTYPES)
def test_bytes_of_images(tmp_path, dtype):
    """As they are, or as floats of the same size: input_scale is in the graph."""
    images = np.random.default_rng(0).integers(0, 256, (30, 64)).astype(np.uint8)
    net = Network([64, 16, 10], dtype=dtype, input_scale=1 / 255)
    for input_dtype in ("uint8", None, "float32", "float64"):
        written(net, tmp_path / "a.onnx", input_dtype=input_dtype)
        outputs = run(tmp_path / "a.onnx", images.astype(input_dtype or dtype))
        near(outputs["probabilities"], net.forward(images), dtype)
        back = Network.from_onnx(tmp_path / "a.onnx")
        assert back.input_scale == np.dtype(dtype).type(1 / 255) and (back.theta == net.theta).all()
    with pytest.raises(ValueError, match="unknown input_dtype 'int32'; valid: float32, float64, uint8"):
        net.to_onnx(tmp_path / "b.onnx", "int32")
    assert not (tmp_path / "b.onnx").exists()


def test_a_trained_network(tmp_path):
    """Of names, that has learned something, decides the same."""
    draw = np.random.default_rng(0)
    X = draw.normal(size=(300, 3))
    y = np.array(["low", "high"])[(X[:, 0] + X[:, 1] > 0) * 1]
    net = Network([3, 16, 2])
    Trainer(net, optimizer="adam", batch_size=16).fit(X, y, 20)
    written(net, tmp_path / "a.onnx")
    labels = run(tmp_path / "a.onnx", X.astype("float32"))["label"]
    assert (labels == net.predict(X)).all() and (labels == y).mean() > 0.9


def test_the_same_network_gives_the_same_bytes(tmp_path):
    for name in "ab":
        Network([3, 4, 2], "gelu", dtype="float64").to_onnx(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_nodes_for_a_larger_graph(tmp_path):
    """Two networks in one graph, the second of the first one's outputs."""
    first, second = Network([4, 3], output="tanh"), Network([3, 5, 2], "elu", input_scale=0.5)
    graph = ours.Graph("float32", "first_")
    middle = ours.add_network(graph, first, "X")
    graph.prefix = "second_"
    ours.add_decisions(graph, second, ours.add_network(graph, second, middle), "sure", "shares")
    save(tmp_path / "a.onnx", graph.nodes, graph.constants, [None, 4],
         outputs=[helper.make_tensor_value_info("sure", TensorProto.INT64, ["N"]),
                  helper.make_tensor_value_info("shares", TensorProto.FLOAT, ["N", 2])])
    X = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
    outputs = run(tmp_path / "a.onnx", X)
    near(outputs["shares"], second.forward(first.forward(X)), "float32")
    assert (outputs["sure"] == second.predict(first.forward(X))).all()


def test_what_cannot_be_written(tmp_path, monkeypatch):
    net = Network([3, 2])
    (tmp_path / "old").write_text("old")
    with pytest.raises(FileNotFoundError, match="no folder"):
        net.to_onnx(tmp_path / "missing" / "a.onnx")
    with monkeypatch.context() as patch, pytest.raises(ValueError, match="32 bytes of parameters; .* 2 GiB"):
        patch.setattr(ours, "MOST_BYTES", 31)
        net.to_onnx(tmp_path / "old")
    net.theta[2] = np.nan
    with pytest.raises(ValueError, match=r"theta\[2\] of the network is nan"):
        net.to_onnx(tmp_path / "old")
    assert (tmp_path / "old").read_text() == "old"
    for name in ("onnx", "onnx.checker"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r'^to_onnx needs onnx: pip install "fastbp\[onnx\]"$'):
        Network([3, 2]).to_onnx(tmp_path / "old")
    with pytest.raises(ImportError, match=r'^from_onnx needs onnx: pip install "fastbp\[onnx\]"$'):
        Network.from_onnx(tmp_path / "old")


@pytest.mark.parametrize("method", [Network.to_onnx, Network.from_onnx])
def test_the_examples_of_docstrings(method, tmp_path, monkeypatch):
    """Which are left out where onnx is missing."""
    monkeypatch.chdir(tmp_path)
    Network([784, 10]).to_onnx("digits.onnx")
    text = method.__doc__.replace("# doctest: +SKIP", "")
    examples = doctest.DocTestParser().get_doctest(text, {"Network": Network}, method.__name__, None, None)
    assert examples.examples and doctest.DocTestRunner().run(examples).failed == 0


def test_the_command(tmp_path):
    net = with_biases(Network([3, 4, 2]))
    net.save(tmp_path / "net.safetensors")
    assert main(["export", str(tmp_path / "net.safetensors"), "--format", "onnx", "-o", str(tmp_path / "a.onnx")]) == 0
    net.to_onnx(tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


# Estimators, alone and as steps of pipelines.

TARGETS = ["three", "two", "text", "two texts", "truth", "large", "several", "two of several", "value", "values",
           "counts"]


@pytest.fixture
def skl2onnx():
    package = pytest.importorskip("skl2onnx")
    estimators.register_converters()
    return package


def irises(targets, dtype="float64"):
    """Samples and targets, and whether they are classes."""
    X, y = load_iris(return_X_y=True)
    rows = np.eye(3, dtype=int)[y]
    t = {"three": y, "two": (y > 0) * 1, "text": np.array(["a", "b", "ü"])[y],
         "two texts": np.where(y > 1, "no", "yes"), "truth": y > 0, "large": y * 2**40 - 7, "several": rows,
         "two of several": rows[:, :2], "value": y * 1.5, "values": np.c_[y * 1.5, X[:, 0]], "counts": y}[targets]
    return X.astype(dtype), t, targets not in ("value", "values", "counts")


def fitted(targets, dtype="float64", **settings):
    """Samples, and an MLP that has learned something."""
    X, y, classes = irises(targets, dtype)
    settings = {"hidden_layer_sizes": (9, 5), "activation": "tanh", "max_iter": 40, "learning_rate_init": 0.03,
                "random_state": 0} | settings
    if targets == "counts":
        settings["loss"] = "poisson"
    return X, (estimators.MLPClassifier if classes else estimators.MLPRegressor)(**settings).fit(X, y)


def agrees(outputs, model, X, dtype, size=20):
    """The outputs are what the estimator gives."""
    if hasattr(model, "classes_"):
        label, probabilities = outputs["label"], outputs["probabilities"]
        assert label.shape == model.predict(X).shape and (label == model.predict(X)).all()
        assert len(np.unique(label)) > 1 and label.dtype in (np.int64, object)
        near(probabilities, model.predict_proba(X).astype(dtype), dtype, size)
    else:
        near(outputs["variable"], model.predict(X).reshape(len(X), -1).astype(dtype), dtype, size)


def converted(skl2onnx, path, model, X, **settings):
    """The outputs of a model that skl2onnx writes, checked as far as ONNX can check one."""
    settings = {"options": {"zipmap": False}} | settings if hasattr(model, "classes_") else settings
    made = skl2onnx.to_onnx(model, X[:1], **settings)
    checker.check_model(made, full_check=True)
    path.write_bytes(made.SerializeToString())
    return run(path, X)


few_epochs = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@few_epochs
@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_pipeline(tmp_path, skl2onnx, targets, dtype):
    X, y, _ = irises(targets, dtype)
    model = make_pipeline(StandardScaler(), fitted(targets)[1]).fit(X, y)
    agrees(converted(skl2onnx, tmp_path / "a.onnx", model, X), model, X, dtype)


@few_epochs
@pytest.mark.parametrize("targets", [name for name in TARGETS if name not in ("large", "values")])
@pytest.mark.parametrize("zipmap", [True, False, "columns"])
def test_names_and_types_are_those_of_scikit_learns_mlp(skl2onnx, targets, zipmap):
    """Of labels beyond 32 bits and of several values skl2onnx makes others than scikit-learn predicts."""
    import sklearn.neural_network as theirs

    def outputs(model):
        options = {"zipmap": zipmap} if classes else None
        made = skl2onnx.to_onnx(model.fit(X, y), X[:1], options=options)
        return [(each.name, each.type.WhichOneof("value"), each.type.tensor_type.elem_type) for each in
                made.graph.output]

    X, y, classes = irises(targets, "float32")
    settings = dict(hidden_layer_sizes=(3,), max_iter=2)
    own, other = (getattr(module, "MLPClassifier" if classes else "MLPRegressor") for module in (estimators, theirs))
    assert outputs(own(**settings)) == outputs(other(**settings))


@few_epochs
def test_a_dictionary_for_each_sample(tmp_path, skl2onnx):
    X, model = fitted("text", "float32")
    outputs = converted(skl2onnx, tmp_path / "a.onnx", model, X, options=None)
    assert (outputs["output_label"] == model.predict(X)).all()
    expected = model.predict_proba(X)[9]
    assert outputs["output_probability"][9] == pytest.approx(dict(zip(["a", "b", "ü"], expected, strict=True)))
    numbers = converted(skl2onnx, tmp_path / "a.onnx", model, X, options={"zipmap": False, "nocl": True})["label"]
    assert (model.classes_[numbers] == model.predict(X)).all()


@few_epochs
@pytest.mark.parametrize("activation", HIDDEN_ACTIVATIONS)
@pytest.mark.parametrize("target_opset", [13, 17, 20, None])
def test_activations_in_every_opset(tmp_path, skl2onnx, activation, target_opset):
    """Below 20 those are missing that PyTorch's activations have of their own."""
    X, model = fitted("three", "float32", activation=activation)
    outputs = converted(skl2onnx, tmp_path / "a.onnx", model, X, target_opset=target_opset)
    agrees(outputs, model, X, "float32")
    assert onnx.load(tmp_path / "a.onnx").opset_import[0].version <= (target_opset or 99)


@few_epochs
def test_searches_and_several_estimators_in_one_graph(tmp_path, skl2onnx):
    X, y, _ = irises("text", "float32")
    pipeline = make_pipeline(StandardScaler(), fitted("text")[1])
    search = GridSearchCV(pipeline, {"mlpclassifier__alpha": [0.1, 1]}, cv=2).fit(X, y)
    agrees(converted(skl2onnx, tmp_path / "a.onnx", search.best_estimator_, X), search, X, "float32")
    bare = GridSearchCV(fitted("text")[1], {"alpha": [0.1, 1]}, cv=2).fit(X, y)
    agrees(converted(skl2onnx, tmp_path / "a.onnx", bare, X), bare, X, "float32")
    both = VotingClassifier([(name, fitted("text", random_state=seed)[1]) for seed, name in enumerate("ab")],
                            voting="soft", flatten_transform=False).fit(X, y)
    agrees(converted(skl2onnx, tmp_path / "a.onnx", both, X), both, X, "float32")


@few_epochs
def test_samples_of_other_types(tmp_path, skl2onnx):
    """Fitted in float64: float32 samples ask for a graph of float32, and so do whole numbers and truth values."""
    X, model = fitted("three")
    agrees(converted(skl2onnx, tmp_path / "a.onnx", model, X.astype("float32")), model, X.astype("float32"), "float32")
    for other in (np.round(X).astype(np.int64), X > 2):
        outputs = converted(skl2onnx, tmp_path / "a.onnx", model, other)
        near(outputs["probabilities"], model.predict_proba(other).astype("float32"), "float32", 20)


@few_epochs
def test_a_loss_of_softmax_for_two_classes(tmp_path, skl2onnx):
    X, model = fitted("two texts", loss="cross_entropy")
    assert model.n_outputs_ == 2
    agrees(converted(skl2onnx, tmp_path / "a.onnx", model, X), model, X, "float64")


@few_epochs
@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_estimator_alone(tmp_path, targets, dtype):
    X, model = fitted(targets, dtype)
    written(model, tmp_path / "a.onnx")
    agrees(run(tmp_path / "a.onnx", X), model, X, dtype)
    if targets != "counts":
        back, same = Network.from_onnx(tmp_path / "a.onnx"), Network.from_sklearn(model)
        assert (back.theta == same.theta).all() and back.activations == same.activations
        assert (back.predict(X) == same.predict(X)).all()


@few_epochs
def test_names_of_columns_are_kept(tmp_path):
    table = load_iris(as_frame=True)
    model = estimators.MLPClassifier((4,), max_iter=2).fit(table.data, table.target_names[table.target])
    written(model, tmp_path / "a.onnx")
    back = Network.from_onnx(tmp_path / "a.onnx")
    assert back.feature_names == tuple(table.data.columns) and back.classes.tolist() == list(table.target_names)


@few_epochs
@pytest.mark.parametrize("targets", ["two", "several"])
def test_a_probability_of_one_half_means_no_to_estimators(tmp_path, skl2onnx, targets):
    """As to scikit-learn's; to a Network it means yes."""
    X, model = fitted(targets)
    for part in (*model.coefs_, *model.intercepts_):
        part[...] = 0
    label = converted(skl2onnx, tmp_path / "a.onnx", model, X)["label"]
    assert not label.any() and not model.predict(X).any()


def test_a_single_class(tmp_path):
    model = estimators.MLPClassifier((2,), max_iter=1000, tol=1).fit([[0.0], [1.0]], [7, 7])
    for bias in (-1, 1):
        model.intercepts_[-1][:] = bias
        written(model, tmp_path / "a.onnx")
        assert run(tmp_path / "a.onnx", np.zeros((3, 1)))["label"].tolist() == [7, 7, 7]


@few_epochs
def test_estimators_that_cannot_be_written(tmp_path, skl2onnx, monkeypatch):
    X, model = fitted("two")
    (tmp_path / "old").write_text("old")
    with pytest.raises(ValueError, match="fastbp needs target_opset=13 or more, got 12"):
        skl2onnx.to_onnx(model, X[:1], target_opset=12)
    with pytest.raises(RuntimeError, match="type"):
        skl2onnx.to_onnx(model, X[:1].astype(str))
    with pytest.raises(NotFittedError):
        estimators.MLPRegressor().to_onnx(tmp_path / "old")
    model.coefs_[0][0, 1] = 1e300
    with pytest.raises(ValueError, match=r"theta\[\d\] of the network is inf"):
        skl2onnx.to_onnx(model, X[:1].astype("float32"))
    model.coefs_[0][0, 1] = np.nan
    with pytest.raises(ValueError, match=r"theta\[\d\] of the network is nan"):
        model.to_onnx(tmp_path / "old")
    assert (tmp_path / "old").read_text() == "old"
    monkeypatch.setitem(sys.modules, "skl2onnx", None)
    with pytest.raises(ImportError, match="^register_converters needs skl2onnx: pip install skl2onnx$"):
        estimators.register_converters()


# Back.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", CODES)
@pytest.mark.parametrize("sizes", [(3, 4, 1, 6, 2), (1, 1, 1), (5, 3), (2, 40, 7, 1)])
def test_there_and_back(tmp_path, activation, dtype, sizes):
    """The same network to the bit, whatever its activations are written in."""
    if activation == "softmax" and sizes[-1] == 1:
        pytest.skip("softmax has two outputs or more")
    hidden = "tanh" if activation == "softmax" else activation
    net = with_biases(Network(sizes, hidden, activation, dtype, input_scale=0.5))
    net.to_onnx(tmp_path / "a.onnx")
    back = Network.from_onnx(tmp_path / "a.onnx")
    assert repr(back) == repr(net) and (back.theta == net.theta).all()


def test_names_there_and_back(tmp_path):
    net = Network([2, 3], output="sigmoid")
    net.feature_names, net.classes, net.multilabel = ["a", "b"], ["x", "y", "ü"], False
    net.to_onnx(tmp_path / "a.onnx")
    back = Network.from_onnx(tmp_path / "a.onnx")
    assert back.feature_names == ("a", "b") and back.classes.tolist() == ["x", "y", "ü"] and not back.multilabel
    values = Network([2, 2], output="identity")
    values.target_names = ["u", "v"]
    values.to_onnx(tmp_path / "a.onnx")
    assert Network.from_onnx(tmp_path / "a.onnx").target_names == ("u", "v")


def save(path, nodes, constants, shape, outputs=None, kind=TensorProto.FLOAT, output_shape=(None, None),
         metadata=None):
    """A model of input X and output Y; constants: arrays or tensors by name."""
    tensors = [value if isinstance(value, TensorProto) else numpy_helper.from_array(np.asarray(value), name)
               for name, value in constants.items()]
    outputs = outputs or [helper.make_tensor_value_info("Y", kind, output_shape)]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("X", kind, shape)], outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(model, metadata or {})
    path.write_bytes(model.SerializeToString())
    return path


def nodes(text):
    """Nodes of lines such as "Gemm a W b > c transB=1"."""
    made = []
    for line in text.strip().splitlines():
        left, right = line.split(" > ")
        operator, *inputs = left.split()
        output, *settings = right.split()
        attributes = {name: float(value) if "." in value else int(value) if value.lstrip("-").isdigit() else value
                      for name, value in (setting.split("=") for setting in settings)}
        made.append(helper.make_node(operator, inputs, [output], f"n{len(made)}", **attributes))
    return made


def constants(dtype="float32", **more):
    draw = np.random.default_rng(0)
    shapes = {"W": (4, 6), "Wt": (6, 4), "V": (6, 3), "b": (6,), "c": (1, 3), "row": (1, 6), "features": (4,)}
    made = {name: draw.normal(size=shape).astype(dtype) for name, shape in shapes.items()}
    positive = {name: draw.random(6).astype(dtype) + 0.5 for name in ("gain", "variance")}
    numbers = {"half": 0.5, "one": 1, "two": 2, "root2": np.sqrt(2), "twenty": 20, "cubic": 0.044715, "three": 3,
               "root2pi": np.sqrt(2 / np.pi), "inverse": 1 / 255, "zero": 0}
    return made | positive | {name: np.array(value, dtype) for name, value in numbers.items()} | more


SPELLINGS = {
    "transposed": ("Gemm X Wt b > z transB=1\nRelu z > a\nGemm a V c > Y", "relu"),
    "alpha and beta": ("Gemm X W row > z alpha=0.5 beta=-2.0\nTanh z > a\nGemm a V > Y alpha=3.0", "tanh"),
    "MatMul and Add": ("MatMul X W > p\nAdd b p > z\nSigmoid z > a\nMatMul a V > q\nAdd q c > Y", "sigmoid"),
    "no biases": ("MatMul X W > z\nElu z > a\nMatMul a V > Y", "elu"),
    "two products": ("MatMul X W > z\nMatMul z V > Y", "identity"),
    "constants around": ("Sub X features > s\nDiv s two > t\nMatMul t W > p\nMul p row > q\nSub q b > z\nSelu z > a\n"
                         "Gemm a V c > y\nSub one y > Y", "selu"),
    "scaled": ("Mul inverse X > s\nGemm s W b > z\nSoftplus z > a\nGemm a V c > Y", "softplus"),
    "weights that are computed": ("Transpose Wt > W2\nMul W2 two > W3\nMatMul X W3 > p\nAdd p b > z\nMish z > a\n"
                                  "MatMul a V > Y", "mish"),
    "normalised": ("Gemm X W > p\nBatchNormalization p gain b row1 variance > z epsilon=0.01\nRelu z > a\n"
                   "Gemm a V c > Y", "relu"),
    "silu": ("Gemm X W b > z\nSigmoid z > s\nMul s z > a\nGemm a V c > Y", "silu"),
    "softplus": ("Gemm X W b > z\nSoftplus z > s\nGreater z twenty > far\nWhere far z s > a\nGemm a V c > Y",
                 "softplus"),
    "softplus by Log": ("Gemm X W b > z\nExp z > e\nAdd e one > u\nLog u > a\nGemm a V c > Y", "softplus"),
    "gelu by Erf": ("Gemm X W b > z\nDiv z root2 > d\nErf d > e\nAdd e one > f\nMul z f > g\nMul g half > a\n"
                    "Gemm a V c > Y", "gelu"),
    "gelu by Tanh": ("Gemm X W b > z\nPow z three > p\nMul p cubic > q\nAdd z q > r\nMul r root2pi > s\nTanh s > t\n"
                     "Add t one > u\nMul z half > h\nMul h u > a\nGemm a V c > Y", "gelu_tanh"),
    "mish": ("Gemm X W b > z\nSoftplus z > s\nTanh s > t\nMul z t > a\nGemm a V c > Y", "mish"),
    "relu": ("Gemm X W b > z\nMax z zero > a\nGemm a V c > Y", "relu"),
    "clipped below": ("Gemm X W b > z\nClip z zero > a\nGemm a V c > Y", "relu"),
    "leaky relu": ("Gemm X W b > z\nPRelu z slope > a\nGemm a V c > Y", "leaky_relu"),
    "left alone": ("Identity X > i\nFlatten i > j\nGemm j W b > z\nDropout z > k\nRelu k > a\nCast a > l to=1\n"
                   "Gemm l V c > y\nIdentity y > Y", "relu"),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_other_spellings(tmp_path, name):
    text, hidden = SPELLINGS[name]
    more = {"slope": np.full(6, 0.01, "float32"), "row1": np.linspace(-1, 1, 6).astype("float32")}
    save(tmp_path / "a.onnx", nodes(text), constants(**more), ["N", 4])
    net = Network.from_onnx(tmp_path / "a.onnx")
    assert net.activations == (hidden, "identity") and net.layer_sizes == (4, 6, 3)
    assert net.input_scale == (np.float32(1 / 255) if name == "scaled" else 1)
    X = np.random.default_rng(1).normal(size=(50, 4)).astype("float32") * 2
    near(net.forward(X), run(tmp_path / "a.onnx", X)["Y"], "float32", size=20)


@pytest.mark.parametrize(("shape", "text"), [
    ([None, 3, 4], "MatMul X W > p\nAdd p b > z\nRelu z > a\nMatMul a V > Y"),
    ([None, 1, 2, 2], "Flatten X > f\nGemm f W b > z\nRelu z > a\nGemm a V c > Y"),
    ([None, 2, 2], "Mul X half > s\nReshape s wide > f\nGemm f W b > z\nRelu z > a\nGemm a V c > Y"),
    ([None, 2, 2], "Shape X > s\nGather s first > n\nConcat n last > t axis=0\nReshape X t > f\nGemm f W b > z\n"
                   "Relu z > a\nGemm a V c > Y"),
    ([8, 4], "Gemm X W b > z\nRelu z > a\nGemm a V c > Y")])
def test_inputs_of_other_shapes(tmp_path, shape, text):
    """Rows of more dimensions, images that are flattened, and a fixed number of samples."""
    more = {"wide": np.array([-1, 4]), "first": np.array([0]), "last": np.array([-1])}
    save(tmp_path / "a.onnx", nodes(text), constants(**more), shape,
         output_shape=[None] * (3 if shape == [None, 3, 4] else 2))
    net = Network.from_onnx(tmp_path / "a.onnx")
    X = np.random.default_rng(1).normal(size=(8, *shape[1:])).astype("float32")
    theirs = run(tmp_path / "a.onnx", X)["Y"]
    near(net.forward(X.reshape(-1, 4)), theirs.reshape(-1, 3), "float32", size=8)


def test_float64(tmp_path):
    text = "MatMul X W > p\nAdd p b > z\nSigmoid z > s\nMul z s > a\nGemm a V c > Y"
    save(tmp_path / "a.onnx", nodes(text), constants("float64"), [None, 4], kind=TensorProto.DOUBLE)
    net = Network.from_onnx(tmp_path / "a.onnx")
    X = np.random.default_rng(1).normal(size=(50, 4))
    near(net.forward(X), run(tmp_path / "a.onnx", X)["Y"], "float64", size=8)


LAST = "\nGemm a V c > Y"
NEARLY = {  # functions that are close to an activation, and none
    "LeakyRelu": "LeakyRelu z > a alpha=0.0101", "Elu": "Elu z > a alpha=0.999", "Selu": "Selu z > a alpha=1.67",
    "quick gelu": "Mul z most > s\nSigmoid s > t\nMul z t > a", "Clip": "Clip z zero many > a",
    "HardSigmoid": "HardSigmoid z > a", "Mul": "Tanh z > t\nMul t nearly > a", "Add": "Sigmoid z > t\nAdd t tiny > a",
    "Softsign": "Softsign z > a", "PRelu": "PRelu z slopes > a", "Abs": "Relu z > t\nAbs z > u\nMul t u > a"}


@pytest.mark.parametrize("operator", NEARLY)
def test_what_is_nearly_an_activation_is_none(tmp_path, operator):
    more = {"most": np.float32(1.702), "many": np.float32(1e5), "nearly": np.float32(1.0001),
            "tiny": np.float32(1e-4), "slopes": np.array([0.01] * 5 + [0.0101], "float32")}
    save(tmp_path / "a.onnx", nodes("Gemm X W b > z\n" + NEARLY[operator] + LAST), constants(**more), [None, 4])
    with pytest.raises(ValueError, match="no activation of fastbp gives the same"):
        Network.from_onnx(tmp_path / "a.onnx")


REFUSED = {
    r"node 'n1' \(LayerNormalization\) is no part of one": "Gemm X W b > z\nLayerNormalization z b > a" + LAST,
    r"node 'n0' \(Exp\) is before the first Gemm or MatMul": "Exp X > e\nGemm e W b > a" + LAST,
    r"node 'n2' \(Add\) joins layers that do not follow each other": "Gemm X W b > z\nGemm z S > y\nAdd y z > a" + LAST,
    r"node 'n0' \(Gemm\) is no product of the layer before it": "Gemm X W b > a transA=1" + LAST,
    r"node 'n2' \(MatMul\) is no product": "Gemm X W b > z\nTranspose z > t\nMatMul z t > Y",
    r"node 'n0' \(MatMul\) is no product": "MatMul Wt X > a" + LAST,
    r"node 'n0' \(Gemm\) takes 6 numbers a sample, and gets 4": "Gemm X V c > Y",
    r"node 'n0' \(Gemm\) adds what is not a constant of each output": "Gemm X W column > a" + LAST,
    r"it has neither Gemm nor MatMul": "Identity X > Y",
    r"the weights of node 'n1' \(MatMul\) are float16": "Cast X > h to=10\nMatMul h halves > y\nCast y > Y to=1",
    r"unknown hidden activation 'softmax'": "Gemm X W b > z\nSoftmax z > a" + LAST,
    r"node 'n1' \(Softmax\): no activation": "Gemm X W b > z\nSoftmax z > a axis=0" + LAST,
    r"node 'n1' \(Sigmoid\), node 'n2' \(Mul\): no activation": "Gemm X W b > z\nSigmoid z > s\nMul s s > a" + LAST,
    r"node 'n1' \(Shape\) joins layers that do not follow each other": "Gemm X W b > z\nShape X > s\nRelu z > a\n"
                                                                         "Reshape a s > Y",
    r"node 'n1' \(Transpose\): no activation": "Gemm X W b > z\nTranspose z > Y",
    r"theta\[0\] of the network is inf": "Gemm X infinite > Y",
    r"node 'n1' \(Gemm\) does not take what the layer before": "Gemm X W b > z\nGemm X W > y\nAdd z y > a" + LAST,
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_refused(tmp_path, message):
    """By the name and the operator of the node that does not fit."""
    more = {"S": np.eye(6, dtype="float32"), "column": np.ones((2, 1), "float32"), "halves": np.ones((4, 2), "float16"),
            "infinite": np.full((4, 2), np.inf, "float32")}
    save(tmp_path / "a.onnx", nodes(REFUSED[message]), constants(**more), [None, 4])
    with pytest.raises(ValueError, match=message) as error:
        Network.from_onnx(tmp_path / "a.onnx")
    assert str(tmp_path / "a.onnx") in str(error.value) and "\n" not in str(error.value)


def test_files_that_are_no_models(tmp_path):
    path = tmp_path / "a.onnx"
    with pytest.raises(FileNotFoundError, match=r"there is no file .*a\.onnx"):
        Network.from_onnx(path)
    Network([20, 30, 2]).to_onnx(path)
    whole = path.read_bytes()
    for content in (b"", b"no model", whole[:-100], whole[: len(whole) // 2], whole[10:]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.onnx is no valid ONNX model: "):
            Network.from_onnx(path)


def test_graphs_that_are_no_functions_of_one_input(tmp_path):
    path, chain = tmp_path / "a.onnx", nodes("Gemm X W b > z\nRelu z > Y")
    shown = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 6]) for name in ("z", "Y")]
    save(path, chain, constants(), [None, 4], outputs=shown)
    with pytest.raises(ValueError, match="it has 2 outputs of float32 or float64, which must be one"):
        Network.from_onnx(path)
    save(path, chain, constants(), [None, None])
    with pytest.raises(ValueError, match=r"the input 'X' has no shape \(n, n_in\) in which n_in is known"):
        Network.from_onnx(path)
    model = onnx.load(save(path, chain, {"W": constants()["W"]}, [None, 4]))
    model.graph.input.append(helper.make_tensor_value_info("b", TensorProto.FLOAT, [6]))
    onnx.save(model, path)
    with pytest.raises(ValueError, match="it has 2 inputs, 'X', 'b'"):
        Network.from_onnx(path)


@pytest.mark.parametrize(("text", "message"), [
    ("[1]", "its metadata 'fastbp' hold no names"), ("{", "no chain of dense layers"),
    ('{"classes": ["a"]}', "no network of fastbp: classes "), ('{"multilabel": 3}', "multilabel must be True or False"),
    ('{"feature_names": ["a"]}', "feature_names")])
def test_names_that_do_not_fit(tmp_path, text, message):
    save(tmp_path / "a.onnx", nodes("Gemm X W b > z\nSoftmax z > Y"), constants(), [None, 4], metadata={"fastbp": text})
    with pytest.raises(ValueError, match=message):
        Network.from_onnx(tmp_path / "a.onnx")


# From PyTorch and scikit-learn.


@pytest.mark.filterwarnings("ignore")  # of the exporter
@pytest.mark.parametrize(("module", "activation"), [
    ("ReLU", "relu"), ("Sigmoid", "sigmoid"), ("Tanh", "tanh"), ("LeakyReLU", "leaky_relu"), ("ELU", "elu"),
    ("SELU", "selu"), ("GELU", "gelu"), ("SiLU", "silu"), ("Mish", "mish"), ("Softplus", "softplus")])
@pytest.mark.parametrize("shape", [(5, 6), (5, 3, 6)])
def test_from_pytorch(tmp_path, module, activation, shape):
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 8), getattr(torch.nn, module)(), torch.nn.Dropout(0.5),
                              torch.nn.Linear(8, 3), torch.nn.Softmax(-1)).eval()
    torch.onnx.export(net, (torch.zeros(shape),), tmp_path / "a.onnx", verbose=False,
                      dynamic_shapes=({0: torch.export.Dim("batch")},))
    read = Network.from_onnx(tmp_path / "a.onnx")
    assert read.activations == (activation, "softmax") and read.layer_sizes == (6, 8, 3)
    X = torch.randn(7, *shape[1:])
    near(read.forward(X.reshape(-1, 6).numpy()), net(X).detach().numpy().reshape(-1, 3), "float32", size=2)


@pytest.mark.filterwarnings("ignore")  # few iterations
@pytest.mark.parametrize("targets", ["three", "two", "text", "several", "values"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_from_scikit_learn(tmp_path, targets, dtype):
    """A pipeline that standardises, as skl2onnx writes it."""
    skl2onnx = pytest.importorskip("skl2onnx")
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    X, y = load_iris(return_X_y=True)
    X = X.astype(dtype)
    y = {"three": y, "two": y > 0, "text": np.array(["a", "b", "c"])[y], "several": np.eye(3, dtype=int)[y],
         "values": y * 1.5}[targets]
    kind = MLPRegressor if targets == "values" else MLPClassifier
    mlp = make_pipeline(StandardScaler(), kind(hidden_layer_sizes=(9, 5), activation="tanh", max_iter=30,
                                               random_state=0)).fit(X, y)
    model = skl2onnx.to_onnx(mlp, X[:1], options={"zipmap": False} if kind is MLPClassifier else None)
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    net = Network.from_onnx(tmp_path / "a.onnx")
    found = net.forward(X).reshape(len(X), -1) if kind is MLPRegressor else net.predict_proba(X)
    if (targets, dtype) != ("several", "float64"):  # ONNX Runtime has no Binarizer of float64
        near(found, list(run(tmp_path / "a.onnx", X).values())[-1], dtype, size=20)
    expected = mlp.predict(X) if kind is MLPRegressor else mlp.predict_proba(X)
    np.testing.assert_allclose(found, expected.reshape(found.shape), atol=1e-5)


def test_a_regressor_of_several_values_by_scikit_learn(tmp_path):
    """skl2onnx 1.20 puts all values below each other, (2 n, 1): that is no network."""
    skl2onnx = pytest.importorskip("skl2onnx")
    from sklearn.neural_network import MLPRegressor

    X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
    mlp = MLPRegressor(hidden_layer_sizes=(4,), max_iter=1000, tol=0.1).fit(X, X[:, :2])
    (tmp_path / "a.onnx").write_bytes(skl2onnx.to_onnx(mlp, X[:1]).SerializeToString())
    assert run(tmp_path / "a.onnx", X)["variable"].shape == (80, 1)
    with pytest.raises(ValueError, match=r"node 'Reshape' \(Reshape\): no activation"):
        Network.from_onnx(tmp_path / "a.onnx")
