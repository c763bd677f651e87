"""Networks of FANN: fastbp gives the outputs of FANN itself.

The folder fann_files holds files and outputs of FANN 2.2.0, so that the tests need no FANN. Where its libraries
are installed (Debian: apt-get install libfann2), the tests make more, of other sizes. The folder was made there by

    python tests/interop/test_fann.py
"""

import ctypes
import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from fastbp import Network

FOLDER = Path(__file__).with_name("fann_files")
REAL = {"float": ctypes.c_float, "double": ctypes.c_double}
LINEAR, SIGMOID, STEPWISE, TANH, TANH_STEPWISE, GAUSSIAN, ELLIOT = 0, 3, 4, 5, 6, 7, 10  # FANN's codes
ROUNDINGS = {"float32": 1e-6, "float64": 1e-14}  # relative to 1 and to the largest output


class Fann:
    """A network of FANN; of each layer behind the input the code of its activation and its steepness."""

    def __init__(self, kind, sizes, codes=(), steepness=(), create="standard", seed=0):
        self.library, self.real = ctypes.CDLL(f"lib{kind}fann.so.2"), REAL[kind]
        layers = (ctypes.c_uint * len(sizes))(*sizes)
        first = [ctypes.c_float(0.5)] if create == "sparse" else []
        make = getattr(self.library, f"fann_create_{create}_array")
        make.restype = ctypes.c_void_p
        self.pointer, self.sizes = ctypes.c_void_p(make(*first, len(sizes), layers)), sizes
        draw = np.random.default_rng(seed)
        for layer, code in enumerate(codes, start=1):
            self.library.fann_set_activation_function_layer(self.pointer, code, layer)
        for layer, each in enumerate(steepness, start=1):
            for neuron in range(sizes[layer]):  # each another one
                own = self.real(each * (1 + neuron / 8))
                self.library.fann_set_activation_steepness(self.pointer, own, layer, neuron)
        self.library.fann_get_total_connections.restype = ctypes.c_uint
        weights = draw.normal(size=self.library.fann_get_total_connections(self.pointer))
        self._set(weights)

    def _set(self, weights):
        class Connection(ctypes.Structure):
            _fields_ = [("source", ctypes.c_uint), ("target", ctypes.c_uint), ("weight", self.real)]

        rows = (Connection * len(weights))()
        self.library.fann_get_connection_array(self.pointer, rows)
        for row, weight in zip(rows, weights, strict=True):
            row.weight = weight
        self.library.fann_set_weight_array(self.pointer, rows, len(weights))

    def scale(self):
        self.library.fann_set_scaling_params.argtypes = [ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_float] * 4]
        self.library.fann_create_train.restype = ctypes.c_void_p
        data = ctypes.c_void_p(self.library.fann_create_train(2, self.sizes[0], self.sizes[-1]))
        self.library.fann_set_scaling_params(self.pointer, data, -1, 1, 0, 1)
        return self

    def run(self, X):
        self.library.fann_run.restype = ctypes.POINTER(self.real)
        rows = [self.library.fann_run(self.pointer, (self.real * len(x))(*x))[: self.sizes[-1]] for x in X]
        return np.array(rows, np.dtype(self.real))

    def save(self, path):
        self.library.fann_save(self.pointer, str(path).encode())
        return path


def samples(n_in, n=7):
    """Numbers of float32, small and large."""
    return (np.random.default_rng(1).normal(size=(n, n_in)) * np.geomspace(0.1, 10, n)[:, np.newaxis]).astype("f4")


def made():
    """By name, networks of FANN that fastbp reads."""
    return {"float": Fann("float", [3, 4, 2], [TANH, LINEAR], [0.5, 0.75]),
            "double": Fann("double", [2, 3, 4, 1], [SIGMOID, TANH, SIGMOID], [0.25, 0.6, 1]),
            "one_layer": Fann("double", [2, 3], [TANH], [0.1])}


def made_otherwise():
    """By name, networks that fastbp refuses, or of which it warns."""
    return {"stepwise": Fann("float", [2, 2, 1]), "scaled": Fann("float", [2, 2, 1], [TANH, SIGMOID]).scale(),
            "shortcut": Fann("float", [2, 2, 1], create="shortcut"),
            "sparse": Fann("float", [4, 5, 2], create="sparse"),
            "gaussian": Fann("float", [2, 2, 1], [TANH, GAUSSIAN])}


def compare(path, X, outputs, dtype):
    net = Network.from_fann(path)
    assert net.dtype == dtype and net.layer_sizes[-1] == outputs.shape[1]
    close = ROUNDINGS[dtype] * (1 + abs(outputs).max())
    np.testing.assert_allclose(net.forward(X.astype(dtype)), outputs, rtol=0, atol=close)
    return net


@pytest.mark.parametrize("name", ["float", "double", "one_layer"])
def test_outputs_are_those_that_fann_gave(name):
    stored = json.loads((FOLDER / "outputs.json").read_text())[name]
    net = compare(FOLDER / f"{name}.net", samples(len(stored["X"][0])), np.array(stored["outputs"]), stored["dtype"])
    assert net.layer_sizes == tuple(stored["sizes"])
    np.testing.assert_array_equal(samples(net.layer_sizes[0]), stored["X"])


def installed():
    try:
        ctypes.CDLL("libfloatfann.so.2")
    except OSError:
        return False
    return True


with_fann = pytest.mark.skipif(not installed(), reason="needs FANN: apt-get install libfann2")


@with_fann
@pytest.mark.parametrize("kind", ["float", "double"])
@pytest.mark.parametrize("output", [LINEAR, SIGMOID, TANH])
@pytest.mark.parametrize("sizes", [[1, 1], [5, 17, 3], [20, 9, 8, 7, 10]])
def test_outputs_are_those_of_fann(sizes, output, kind, tmp_path):
    codes = [SIGMOID, TANH, LINEAR][: len(sizes) - 2]
    fann = Fann(kind, sizes, [*codes, output], np.linspace(0.2, 0.9, len(sizes) - 1), seed=output)
    X = samples(sizes[0], 50)
    compare(fann.save(tmp_path / "a.net"), X, fann.run(X), "float32" if kind == "float" else "float64")


@with_fann
def test_linear_outputs_of_fann_are_cut_off(tmp_path):
    """As from_fann says. A large linear output is the network's, not FANN's."""
    fann = Fann("double", [1, 1], [LINEAR], [0.5])
    net = Network.from_fann(fann.save(tmp_path / "a.net"))
    x = np.array([[1e6]])
    assert abs(fann.run(x)).item() == 300 and abs(net.forward(x)).item() > 1e4


def test_stepwise_functions_and_scaling_are_warned_of():
    stored = json.loads((FOLDER / "outputs.json").read_text())
    for name, words, close in ("stepwise", "in straight lines, up to 0.034", 0.1), ("scaled", "a scaling", 1e-6):
        with pytest.warns(UserWarning, match=words) as seen:
            net = Network.from_fann(FOLDER / f"{name}.net")
        assert len(seen) == 1 and seen[0].filename == __file__
        difference = abs(net.forward(samples(2)) - np.array(stored[name]["outputs"])).max()
        assert difference < close and (name == "scaled" or difference > 1e-3)


@pytest.mark.parametrize("name, words", [
    ("shortcut", "shortcut connections"), ("sparse", "it is sparse"),
    ("gaussian", "layer 2 has the activation gaussian, which a Network does not have")])
def test_networks_of_other_kinds_are_refused(name, words):
    with pytest.raises(ValueError, match=f"{name}.net cannot be read as a network of FANN: .*{words}"):
        Network.from_fann(FOLDER / f"{name}.net")


def test_a_file_cut_off_anywhere_is_refused(tmp_path):
    """But for the blanks at its end."""
    whole, path = (FOLDER / "float.net").read_bytes(), tmp_path / "a.net"
    for n in range(len(whole.rstrip())):
        path.write_bytes(whole[:n])
        with pytest.raises(ValueError, match="cannot be read as a network of FANN"):
            Network.from_fann(path)


@pytest.mark.parametrize("old, new, words", [
    ("FANN_FLO_2.1", "FANN_FIX_2.1", "in fixed point: FANN_FIX_2.1; expected FANN_FLO_2.0 or FANN_FLO_2.1"),
    ("FANN_FLO_2.1", "\x89PNG", "it is not of FANN"),
    ("num_layers=3", "num_layers=4", "4 whole numbers as layer_sizes"),
    ("num_layers=3", "num_layers=-3", "1 whole number as num_layers, got -3"),
    ("layer_sizes=4 5 3", "layer_sizes=4 999999999 3", "neurons: 12 of 1,000,000,006 are there"),
    ("layer_sizes=4 5 3", "layer_sizes=4 7 1", "expected two layers or more"),
    ("layer_sizes=4 5 3", "layer_sizes=3 6 3", "it is sparse"),
    ("layer_sizes=4 5 3", "layer_sizes=4 5 x", "3 whole numbers as layer_sizes, got 4 5 x"),
    (") (1, ", ") (2, ", "connections of layer 1 are not from all neurons of the layer before it"),
    ("(0, ", "(0, 1, ", r"is not 2 numbers"), ("(0, ", "(0, abc", "connections .*could not convert"),
    ("(4, 5, 5", "(4, 0, 5", "neurons of layer 1 have different activations: 'linear', 'sigmoid_symmetric'"),
    ("(4, 5, 5", "(4, 5, -5", "layer 1 has a steepness of -0.5; it must be > 0"),
    ("(4, 5, 5", "(4, 99, 5", "layer 1 has the activation 99"), ("(4, 5, 5", "(nan, 5, 5", "it is sparse"),
    ("(4, 5, 5", "(4, nan, 5", "layer 1 has the activation nan"), ("(0, ", "(0, nan + ", "could not convert"),
    ("network_type", "network", "1 whole number as network_type, got nothing")])
def test_wrong_numbers_are_named(old, new, words, tmp_path):
    text = (FOLDER / "float.net").read_text()
    head, _, tail = text.partition("neurons (num" if old.startswith("(4") else "connections (c" if "(" in old else old)
    text = head + text[len(head):].replace(old, new, 1)
    assert len(head) < len(text) and tail
    (tmp_path / "a.net").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=f"a.net cannot be read as a network of FANN: .*{words}"):
        Network.from_fann(tmp_path / "a.net")


def test_weights_that_are_not_finite_and_missing_files(tmp_path):
    text = (FOLDER / "float.net").read_text()
    head, name, tail = text.partition("weight)=(0, ")
    (tmp_path / "a.net").write_text(head + name + "nan" + tail[tail.index(")"):])
    with pytest.raises(ValueError, match=r"theta\[0\] of the network is nan"):
        Network.from_fann(tmp_path / "a.net")
    for path in tmp_path / "b.net", tmp_path:
        with pytest.raises(FileNotFoundError, match="there is no file"):
            Network.from_fann(path)


def test_the_first_format_of_fann_2_is_read(tmp_path):
    """It has no line about scaling."""
    text = (FOLDER / "float.net").read_text().replace("FANN_FLO_2.1", "FANN_FLO_2.0").replace("scale_included=0\n", "")
    (tmp_path / "a.net").write_text(text)
    with warnings.catch_warnings(action="error"):
        assert (Network.from_fann(tmp_path / "a.net").theta == Network.from_fann(FOLDER / "float.net").theta).all()


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    outputs = {}
    for title, one in (made() | made_otherwise()).items():
        one.save(FOLDER / f"{title}.net")
        given = samples(one.sizes[0])
        outputs[title] = {"sizes": one.sizes, "dtype": np.dtype(one.real).name, "X": given.tolist(),
                          "outputs": one.run(given).tolist()}
    (FOLDER / "outputs.json").write_text(json.dumps(outputs))
