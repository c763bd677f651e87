"""Weights of Keras: fastbp gives the outputs of Keras itself.

The folder keras_files holds files and outputs of Keras 3.15.1, so that the tests need no Keras. Where that is
installed, the tests make more. The folder was made there by

    python tests/interop/test_keras.py
"""

import importlib.util
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from fastbp import Network

h5py = pytest.importorskip("h5py")

FOLDER = Path(__file__).with_name("keras_files")
INSTALLED = all(map(importlib.util.find_spec, ("keras", "jax")))  # the backend numpy imports JAX
with_keras = pytest.mark.skipif(not INSTALLED, reason="needs Keras: pip install keras jax")
ACTIVATIONS = ["relu", "tanh", "sigmoid", "elu", "selu", "gelu", "silu", "mish", "softplus", "linear"]


def model(sizes, activations, between=(), **settings):
    """A model of Keras whose layers have names in the wrong order; with biases that are not 0.

    Weights are assigned: what the initializers of the backend numpy make is float32, whatever dtype a layer says.
    """
    os.environ.setdefault("KERAS_BACKEND", "numpy")
    import keras

    dtype = settings.get("dtype", "float32")
    layers = [keras.layers.Input((sizes[0],), dtype=dtype)]
    for l, (width, activation) in enumerate(zip(sizes[1:], activations, strict=True)):
        layers += [keras.layers.Dense(width, activation, name=f"part_{99 - l}", **settings),
                   *[make(keras.layers) for make in between]]
    made, draw = keras.Sequential(layers), np.random.default_rng(0)
    for weights in made.weights:
        weights.assign((draw.normal(size=weights.shape) / weights.shape[0] ** 0.5).astype(dtype))
    return made


def samples(n_in, dtype="float32"):
    return np.random.default_rng(0).normal(size=(9, n_in)).astype(dtype)


def outputs(one, dtype="float32"):
    return np.asarray(one(samples(one.input_shape[1], dtype)))


def save(one, path):
    """Keras 3 gives `save_weights` no older form, so the older file of weights is cut out of that of the model."""
    if path.name.endswith(".weights.h5") or path.name.startswith("whole"):
        getattr(one, "save_weights" if "weights" in path.name else "save")(path)
        return
    one.save(path.with_name("whole.h5"))
    with h5py.File(path.with_name("whole.h5")) as whole, h5py.File(path, "w") as file:
        for name in whole["model_weights"]:
            whole.copy(f"model_weights/{name}", file)
        for name, value in whole["model_weights"].attrs.items():
            file.attrs[name] = value


def stored_models():
    """By name, models whose files and outputs are stored: twelve layers, to see their order, and layers to pass by."""
    def relu(layers):
        return layers.ReLU()

    def dropout(layers):
        return layers.Dropout(0.5)

    return {"deep": model([3] * 13, ["tanh"] * 11 + ["softmax"]),
            "between": model([4, 5, 2], [None] * 2, [relu, dropout]),
            "no_bias": model([4, 3], ["sigmoid"], use_bias=False)}


READ_AS = {"deep": ("tanh", "softmax"), "between": ("relu", "relu"), "no_bias": ("relu", "sigmoid")}


@pytest.mark.parametrize("name, file", [(name, f"{name}.weights.h5") for name in READ_AS] + [
    ("between", "between.h5"), ("between", "whole_between.h5")])
def test_outputs_are_those_that_keras_gave(name, file):
    stored = json.loads((FOLDER / "outputs.json").read_text())[name]
    net = Network.from_keras(FOLDER / file, *READ_AS[name])
    np.testing.assert_allclose(net.forward(samples(net.layer_sizes[0])), stored, rtol=1e-5, atol=1e-6)


@with_keras
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("form", ["a.weights.h5", "a.h5", "whole.h5"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_outputs_are_those_of_keras(activation, form, dtype, tmp_path):
    one = model([7, 20, 11, 3], [activation, activation, "softmax"], dtype=dtype)
    save(one, tmp_path / form)
    net = Network.from_keras(tmp_path / form, activation, "softmax")
    assert net.dtype == dtype
    for l in range(len(net.W)):
        np.testing.assert_array_equal(net.W[l], np.asarray(one.weights[2 * l]))
        np.testing.assert_array_equal(net.b[l], np.asarray(one.weights[2 * l + 1]))
    # The backend numpy gives float32 outputs, whatever the layers say.
    np.testing.assert_allclose(net.forward(samples(7, dtype)), outputs(one, dtype), rtol=1e-5, atol=1e-6)


def written(path, groups):
    """A file as Keras 3 writes it, of layers by name and their arrays."""
    with h5py.File(path, "w") as file:
        for name, arrays in groups.items():
            to = file.create_group(f"{name}/vars")
            for i, array in enumerate(arrays):
                to[str(i)] = array
    return path


def dense(n_in, n_out, dtype="f4"):
    return [np.ones((n_in, n_out), dtype), np.ones(n_out, dtype)]


@pytest.mark.parametrize("groups, words", [
    ({"layers/dense": dense(2, 3), "layers/batch_normalization": dense(3, 3)}, "'batch_normalization' is no Dense"),
    ({"layers/dense": dense(2, 3), "layers/rescaling": []}, "'rescaling' is no Dense"),
    ({"layers/dense": dense(2, 3), "layers/leaky_re_lu": []}, "'leaky_re_lu' is no Dense"),
    ({"layers/dense": dense(2, 3), "layers/add": []}, "'add' is no Dense"),
    ({"layers/sequential/layers/dense": dense(2, 3), "layers/sequential": []}, "'sequential' is no Dense"),
    ({"layers/dense": [*dense(2, 3), np.ones(3)]}, "'dense' has 3 arrays, not a kernel and a bias"),
    ({"layers/dense": []}, "'dense' has 0 arrays"), ({"layers/dropout": []}, "it has no Dense layer"),
    ({"layers/dense": dense(2, 3), "layers/dense_2": dense(3, 1)}, "numbered 0, 2; one is missing"),
    ({"layers/dense": dense(2, 3), "layers/dense_1": dense(2, 3)},
     "'dense_1' takes 2 numbers a sample, and 'dense' before it gives 3: they are no chain"),
    ({"fc1": dense(2, 3), "layers/dense": []}, "it has 'fc1' beside its layers, so their order is not clear"),
    ({"fc1": dense(2, 3)}, "it has neither layers nor layer_names"),
    ({"layers/dense": dense(2, 3), "layers/dense_1": dense(3, 2, "f8")}, "its weights are float32 and float64"),
    ({"layers/dense": dense(2, 3, "f2")}, "'dense' has weights of type float16"),
    ({"layers/dense": dense(2, 3, "V2")}, r"'dense' has weights of type \|V2"),
    ({"layers/dense": [np.ones((2, 3)), np.ones(2)]}, r"a kernel \(2, 3\) and a bias \(2,\)"),
    ({"layers/dense": [np.ones((1, 2, 3)), np.ones(3)]}, r"a kernel \(1, 2, 3\)"),
    ({"layers/dense": [np.float32(1), np.ones(3)]}, r"a kernel \(\)")])
def test_what_is_no_chain_of_dense_layers_is_refused_by_name(groups, words, tmp_path):
    path = written(tmp_path / "a.weights.h5", groups)
    with pytest.raises(ValueError, match=f"a.weights.h5 cannot be read as Dense weights of Keras: .*{words}"):
        Network.from_keras(path, "relu", "softmax")


def older(path, layers, **attributes):
    """A file as Keras 2 writes it, of names of arrays by layer, in order."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in layers]
        file.attrs.update(attributes)
        for name, weights in layers.items():
            file.create_group(name).attrs["weight_names"] = [f"{name}/{each}".encode() for each in weights]
            for each, array in zip(weights, [*dense(3, 3), np.ones(3)], strict=False):
                file[f"{name}/{name}/{each}"] = array
    return path


def test_files_of_keras_2(tmp_path):
    layers = {"input_1": [], "first": ["kernel:0", "bias:0"], "dropout_3": [], "a_last": ["kernel:0"]}
    assert Network.from_keras(older(tmp_path / "a.h5", layers), "relu", "softmax").layer_sizes == (3, 3, 3)
    for rest in ["gamma:0", "beta:0"], ["kernel:0", "recurrent_kernel:0", "bias:0"], ["embeddings:0"], []:
        with pytest.raises(ValueError, match="'odd' is no Dense"):
            Network.from_keras(older(tmp_path / "a.h5", layers | {"odd": rest}), "relu", "softmax")


def test_classes_in_a_model_of_keras_2_count_more_than_names(tmp_path):
    layers = {"dropout": ["kernel:0", "bias:0"], "odd": []}
    described = [{"class_name": kind, "config": {"name": name}}
                 for name, kind in (("dropout", "Dense"), ("odd", "Dropout"))]
    for config in described, {"layers": described}:
        path = older(tmp_path / "a.h5", layers, model_config=json.dumps({"config": config}))
        assert Network.from_keras(path, "relu", "softmax").layer_sizes == (3, 3)
    described[1]["class_name"] = "Rescaling"
    path = older(tmp_path / "a.h5", layers, model_config=json.dumps({"config": described}))
    with pytest.raises(ValueError, match="'odd' is no Dense"):
        Network.from_keras(path, "relu", "softmax")


def test_files_that_are_cut_off_damaged_or_other(tmp_path):
    whole, path = (FOLDER / "no_bias.weights.h5").read_bytes(), tmp_path / "a.weights.h5"
    for content in (*[whole[:n] for n in range(0, len(whole), 101)], b"PK\x03\x04", b"text", *[
            whole[:n] + bytes(64) + whole[n + 64:] for n in range(0, 2000, 64)]):
        path.write_bytes(content)
        try:
            Network.from_keras(path, "relu", "sigmoid")
        except ValueError as error:
            assert "cannot be read as Dense weights of Keras: " in str(error), error
        else:
            assert len(content) == len(whole)  # zeros fell where nothing is
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match=r"a whole model \(.keras\): load it in Keras"):
        Network.from_keras(path, "relu", "softmax")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        Network.from_keras(tmp_path / "b.h5", "relu", "softmax")


def test_activations_and_numbers_that_do_not_fit(tmp_path):
    path = written(tmp_path / "a.weights.h5", {"layers/dense": dense(2, 3), "layers/dense_1": dense(3, 2)})
    with pytest.raises(ValueError, match="hidden names 2 activations for 1 hidden layer"):
        Network.from_keras(path, ["relu", "tanh"], "softmax")
    with pytest.raises(ValueError, match="unknown output activation 'softmx'"):
        Network.from_keras(path, "relu", "softmx")
    with pytest.raises(TypeError, match="missing 2 required positional arguments: 'hidden' and 'output'"):
        Network.from_keras(path)
    written(path, {"layers/dense": [np.full((2, 3), np.nan), np.ones(3)]})
    with pytest.raises(ValueError, match=r"theta\[0\] of the network is nan"):
        Network.from_keras(path, "relu", "softmax")


def test_without_h5py_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r'needs h5py: pip install "fastbp\[frames\]"'):
        Network.from_keras(FOLDER / "deep.weights.h5", "tanh", "softmax")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    models = stored_models()
    for title, one in models.items():
        save(one, FOLDER / f"{title}.weights.h5")
    save(models["between"], FOLDER / "whole_between.h5")
    save(models["between"], FOLDER / "between.h5")
    (FOLDER / "whole.h5").unlink()
    (FOLDER / "outputs.json").write_text(json.dumps({title: outputs(one).tolist() for title, one in models.items()}))
