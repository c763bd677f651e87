"""fastbp.Network: one flat vector and its views, initial weights, forward, predict, files, copies, Python threads."""

import copy
import json
import os
import pickle
import stat
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from rig import DTYPES, in_threads
from safetensors.numpy import load_file, save_file

from fastbp import SGD, Adam, Network, Trainer, Workspace, inference
from fastbp.core.call import SLOTS
from fastbp.inference import CAPACITY

try:
    import resource
except ImportError:
    resource = None

FUNCTIONS = {
    "identity": lambda z: z,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "softmax": lambda z: np.exp(z) / np.exp(z).sum(axis=1, keepdims=True),
}


def numpy_forward(net, x):
    a = np.asarray(x, np.float64)
    for W, b, name in zip(net.W, net.b, net.activations, strict=True):
        a = FUNCTIONS[name](a @ W.astype(np.float64) + b)
    return a


def with_biases(net, seed=0):
    """The network, its biases no longer 0."""
    for b in net.b:
        b[:] = np.random.default_rng(seed).normal(size=b.shape)
    return net


def assert_one_flat_vector(net):
    """theta is flat, contiguous and aligned, and W[0], b[0], W[1], ... are its parts in this order."""
    assert net.theta.shape == (net.n_parameters,)
    assert net.theta.dtype == net.dtype
    assert net.theta.flags.c_contiguous
    assert net.theta.flags.writeable
    assert net.theta.ctypes.data % 64 == 0
    shapes = list(zip(net.layer_sizes, net.layer_sizes[1:], strict=False))
    assert [W.shape for W in net.W] == shapes
    assert [b.shape for b in net.b] == [(n_out,) for _, n_out in shapes]
    parts = [part for pair in zip(net.W, net.b, strict=True) for part in pair]
    assert all(np.shares_memory(part, net.theta) for part in parts)
    assert np.concatenate([part.ravel() for part in parts]).tobytes() == net.theta.tobytes()


# Description


@pytest.mark.parametrize("sizes", [[1, 2], [3, 2], [5, 7, 4, 3], (784, 128, 10), np.array([3, 4])], ids=str)
@pytest.mark.parametrize("dtype", [*DTYPES, np.float32, np.dtype("float64"), float])
def test_description(sizes, dtype):
    net = Network(sizes, dtype=dtype)
    assert net.layer_sizes == tuple(sizes)
    assert all(type(n) is int for n in net.layer_sizes)
    assert net.dtype == np.dtype(dtype)
    assert net.n_parameters == sum((m + 1) * n for m, n in zip(sizes, sizes[1:], strict=False))
    assert net.activations == ("relu",) * (len(sizes) - 2) + ("softmax",)
    assert_one_flat_vector(net)


def test_layer_sizes_may_come_from_a_generator():
    assert Network(n for n in (3, 4, 2)).layer_sizes == (3, 4, 2)


@pytest.mark.parametrize("hidden", ["tanh", ["sigmoid", "identity"], ("relu", "tanh")], ids=str)
@pytest.mark.parametrize("output", FUNCTIONS)
def test_activations(hidden, output):
    net = Network([3, 5, 4, 2], hidden, output)
    assert net.activations == (*([hidden] * 2 if isinstance(hidden, str) else hidden), output)


def test_repr_rebuilds_the_description():
    net = Network([3, 5, 2], "tanh", "sigmoid", "float64")
    again = eval(repr(net))  # noqa: S307 (our own text)
    assert (again.layer_sizes, again.activations, again.dtype) == (net.layer_sizes, net.activations, net.dtype)


def test_repr_names_the_scale_of_inputs():
    net = Network([2, 3], input_scale=0.5)
    assert repr(eval(repr(net))) == repr(net)
    assert eval(repr(net)).input_scale == 0.5


def test_summary():
    net = Network([4, 30, 5, 3], hidden=["tanh", "leaky_relu"])
    assert net.summary().splitlines() == [
        "layer  W        activation  parameters",
        "    0  (4, 30)  tanh               150",
        "    1  (30, 5)  leaky_relu         155",
        "    2  (5, 3)   softmax             18",
        "total                              323",
    ]


def test_notebooks_show_the_summary_as_a_table():
    text = Network([4, 3])._repr_html_()
    assert "<td>0</td><td>(4, 3)</td><td>softmax</td><td>15</td>" in text
    assert text.count("<tr>") == 3


@pytest.mark.filterwarnings("ignore::fastbp.TrainingWarning")
def test_repr_of_a_trainer():
    net = Network([2, 3, 2])
    assert repr(Trainer(net)) == f"Trainer({net!r}), 0 steps done"
    trainer = Trainer(net, "mse", Adam(0.01), 4, seed=3, threads=3, schedule="cosine", dropout=0.5, ema=0.9, frozen=[0])
    trainer.fit(np.zeros((8, 2)), np.zeros(8, int), 2)
    assert repr(trainer) == (
        f"Trainer({net!r}, loss={trainer.loss!r}, optimizer={trainer.optimizer!r}, batch_size=4, seed=3, threads=3, "
        f"schedule={trainer.schedule!r}, dropout=(0.0, 0.5), ema=0.9, frozen=(0,)), 4 steps done")
    assert "at 0x" not in repr(Trainer(net, schedule=lambda step, steps: 1.0))


# theta and its views


@pytest.mark.parametrize("dtype", DTYPES)
def test_views_go_both_ways(dtype):
    net = Network([3, 4, 2], dtype=dtype)
    net.theta[:] = np.arange(net.n_parameters)
    assert net.W[0][0, 0] == 0 and net.W[0][1, 2] == 6 and net.b[0][0] == 12
    assert net.W[1][0, 0] == 16 and net.b[1][-1] == 25
    net.W[1][2, 1] = -1
    net.b[0][3] = -2
    assert net.theta[16 + 2 * 2 + 1] == -1
    assert net.theta[15] == -2
    assert_one_flat_vector(net)


@pytest.mark.parametrize("dtype", DTYPES)
def test_assigning_theta_copies(dtype):
    net = Network([3, 4, 2], dtype=dtype)
    before, address = net.W[0], net.theta.ctypes.data
    values = np.arange(26.0)
    net.theta = values
    values[:] = -1
    assert net.theta.tolist() == list(range(26))
    assert net.theta.ctypes.data == address
    assert before[1, 2] == 6
    net.theta *= 2
    assert net.theta[25] == 50
    assert_one_flat_vector(net)


def test_assigning_a_view_copies():
    """Were the array put into the list, forward would go on with the old one and save would write the new."""
    net = Network([3, 4, 2])
    values = np.arange(12.0).reshape(3, 4)
    net.W[0] = values
    net.b[-1] = [5, 6]
    net.b[0] += 1
    values[:] = -1
    assert net.theta[:16].tolist() == [*range(12), 1, 1, 1, 1]
    assert net.theta[-2:].tolist() == [5, 6]
    with pytest.raises(ValueError, match="broadcast"):
        net.W[1] = values
    assert_one_flat_vector(net)


@pytest.mark.parametrize("shape", [(), (0,), (25,), (27,), (26, 1), (2, 13)], ids=str)
def test_theta_of_another_shape_is_refused(shape):
    values = np.zeros(shape)
    net = Network([3, 4, 2])
    before = net.theta.copy()
    with pytest.raises(ValueError, match=r"theta must have shape \(26,\), got \("):
        net.theta = values
    assert net.theta.tobytes() == before.tobytes()


def test_views_of_another_vector():
    net = Network([3, 4, 2], dtype="float64")
    gradient = np.arange(26.0)
    dW, db = net.views(gradient)
    assert [part.shape for part in (*dW, *db)] == [(3, 4), (4, 2), (4,), (2,)]
    dW[1][0, 1] = 100
    db[1][0] = 200
    assert gradient[17] == 100
    assert gradient[24] == 200
    with pytest.raises(ValueError, match=r"vector must have shape \(26,\), as theta has, got \(25,\)"):
        net.views(gradient[1:])


def test_workspace():
    net = Network([3, 4, 2], dtype="float64")
    workspace = net.workspace(7)
    assert isinstance(workspace, Workspace)
    assert [a.shape for a in workspace.a] == [(7, 3), (7, 4), (7, 2)]
    assert workspace.buffers.dtype == "float64"


# Initial weights


@pytest.mark.parametrize("dtype", DTYPES)
def test_he_for_relu(dtype):
    W = Network([400, 300, 2], "relu", dtype=dtype, seed=1).W[0].ravel()
    sigma = np.sqrt(2 / 400)
    # The standard errors of these over 120,000 draws are 0.3 %, 0.2 % and 0.06 %.
    assert abs(W.mean()) < 0.015 * sigma
    assert W.std() == pytest.approx(sigma, rel=0.01)
    assert np.mean(np.abs(W) > 2 * sigma) == pytest.approx(0.0455, abs=0.003)
    assert np.abs(W).max() > 3.5 * sigma


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["identity", "sigmoid", "tanh", "softmax"])
def test_glorot_for_the_others(name, dtype):
    hidden = name if name != "softmax" else "tanh"
    net = Network([400, 300, 200], hidden, name, dtype, seed=1)
    for W, limit in zip(net.W, (np.sqrt(6 / 700), np.sqrt(6 / 500)), strict=True):
        assert np.abs(W).max() <= limit * (1 + 1e-7)
        assert W.max() > 0.999 * limit
        assert W.min() < -0.999 * limit
        assert abs(W.mean()) < 0.02 * limit
        assert W.std() == pytest.approx(limit / np.sqrt(3), rel=0.01)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "variance"), [("lecun", 1 / 400), ("glorot", 2 / 700), ("he", 2 / 400)])
def test_initial_weights_by_name(name, variance, dtype):
    for kind, tail in (("normal", 0.0455), ("uniform", 0.0)):
        net = Network([400, 300, 2], dtype=dtype, seed=1, weights=f"{name}_{kind}")
        W = net.W[0].ravel()
        assert W.var() == pytest.approx(variance, rel=0.02)
        assert np.mean(np.abs(W) > 2 * np.sqrt(variance)) == pytest.approx(tail, abs=0.003)
        assert all((b == 0).all() for b in net.b)


def test_initial_weights_where_nothing_is_said():
    for activation, name in (("relu", "he_normal"), ("selu", "lecun_normal"),
                             ("tanh", "glorot_uniform"), ("softplus", "glorot_uniform")):
        nets = [Network([30, 20, 2], activation, seed=3, weights=weights) for weights in (None, name)]
        assert (nets[0].W[0] == nets[1].W[0]).all()
        assert (nets[0].W[1] == Network([30, 20, 2], seed=3, weights="glorot_uniform").W[1]).all()


@pytest.mark.parametrize("sizes", [[50, 20], [20, 50], [7, 7], [5, 1]])
def test_orthogonal(sizes):
    W = Network(sizes, output="identity", dtype="float64", weights="orthogonal", seed=4).W[0]
    product = W.T @ W if sizes[0] >= sizes[1] else W @ W.T
    np.testing.assert_allclose(product, np.eye(min(sizes)), atol=1e-14)
    draws = [Network(sizes, output="identity", weights="orthogonal", seed=seed).W[0][0, 0] for seed in range(60)]
    assert 5 < np.sum(np.array(draws) > 0) < 55  # as often one sign as the other


def test_initial_weights_of_ones_own():
    net = Network([3, 4, 2], weights=lambda draw, n_in, n_out: np.full((n_in, n_out), n_in / 8))
    assert (net.W[0] == 3 / 8).all() and (net.W[1] == 0.5).all()
    assert not Network([3, 4, 2], weights="zeros").theta.any()
    for weights, message in ((lambda draw, n_in, n_out: np.ones(n_in), r"array of shape \(3, 4\), got \(3,\)"),
                             (lambda draw, n_in, n_out: np.nan * np.ones((n_in, n_out)), "is nan"),
                             ("gauss", "unknown weights 'gauss'; valid: lecun_normal, .*, zeros$"),
                             (3, "unknown weights 3")):
        with pytest.raises(ValueError, match=message):
            Network([3, 4, 2], weights=weights)


def test_each_layer_after_its_own_activation():
    net = Network([500, 400, 400, 2], ["relu", "tanh"])
    assert np.abs(net.W[0]).max() > 3 * np.sqrt(2 / 500)
    assert np.abs(net.W[1]).max() <= np.sqrt(6 / 800) * (1 + 1e-7)


def test_relu_as_output_is_he_too():
    assert Network([400, 300], output="relu").W[0].std() == pytest.approx(np.sqrt(2 / 400), rel=0.01)


def test_biases_start_at_zero():
    assert not any(b.any() for b in Network([30, 20, 10], "sigmoid").b)


def test_seed():
    theta = {seed: Network([6, 5, 4], seed=seed).theta for seed in (0, 1, 2, 2**70)}
    again = Network([6, 5, 4], seed=np.int64(1)).theta
    assert theta[1].tobytes() == again.tobytes()
    assert len({values.tobytes() for values in theta.values()}) == 4
    assert Network([6, 5, 4]).theta.tobytes() == theta[0].tobytes()


def test_layers_are_independent():
    net = Network([60, 60, 60, 60], "tanh", "tanh")
    W = [W.ravel() for W in net.W] + [Network([60, 60], output="tanh", seed=1).W[0].ravel()]
    correlations = np.corrcoef(W) - np.eye(4)
    assert np.abs(correlations).max() < 5 / 60  # five standard errors of 3,600 draws
    # What a layer is given depends on the seed, its number and its shape alone.
    assert Network([60, 60, 7], "tanh").W[0].tobytes() == net.W[0].tobytes()


def test_both_dtypes_start_from_the_same_numbers():
    wide = Network([30, 20, 10], dtype="float64").theta
    assert Network([30, 20, 10]).theta.tobytes() == wide.astype("float32").tobytes()


# Forward


@pytest.mark.parametrize("n", [1, 2, 300])
@pytest.mark.parametrize("hidden", ["identity", "sigmoid", "tanh", "relu"])
@pytest.mark.parametrize("output", FUNCTIONS)
def test_forward_against_numpy(hidden, output, n):
    X = np.random.default_rng(0).normal(size=(n, 5))
    for dtype, tolerance in (("float32", 2e-6), ("float64", 2e-15)):
        net = with_biases(Network([5, 17, 9, 3], hidden, output, dtype))
        outputs = net.forward(X)
        assert outputs.shape == (n, 3)
        assert outputs.dtype == dtype
        expected = numpy_forward(net, X)
        np.testing.assert_allclose(outputs, expected, rtol=0, atol=tolerance * max(1, np.abs(expected).max()))


def test_two_neurons_by_hand():
    net = Network([2, 2, 1], "relu", "identity", "float64")
    net.theta = [1, -1, 2, 3, 0.5, -0.5, 10, 100, 7]
    # z = (1 + 2·2 + 0.5, -1 + 2·3 - 0.5) = (5.5, 4.5); 10·5.5 + 100·4.5 + 7 = 512
    assert net.forward([[1, 2]]).tolist() == [[512]]
    assert net.forward([[-1, -2]]).tolist() == [[7]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_sample_gives_the_same_bits_alone_in_any_batch_and_on_any_thread(dtype):
    X = np.random.default_rng(0).normal(size=(515, 30))
    net = with_biases(Network([30, 40, 3], dtype=dtype))
    outputs = net.forward(X, threads=1)
    for threads in [1, 2, 3, None] * 20:  # a thread that runs ahead of another shows once in a few times
        assert net.forward(X, threads=threads).tobytes() == outputs.tobytes()
        assert net.forward(X[100:107], threads=threads).tobytes() == outputs[100:107].tobytes()
    alone = np.concatenate([net.forward(X[i : i + 1]) for i in range(0, 515, 50)])
    assert alone.tobytes() == outputs[::50].tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_skipping_zeros_is_exact(dtype):
    """Mostly zeros they are skipped, in company of enough other samples they are not: the same bits."""
    rng = np.random.default_rng(0)
    X = np.where(rng.random((60, 50)) < 0.9, 0, rng.normal(size=(60, 50)))
    X[:20, 7] = -0.0
    net = with_biases(Network([50, 40, 3], dtype=dtype))
    company = np.concatenate([X, rng.normal(size=(200, 50))])
    assert net.forward(X).tobytes() == net.forward(company)[:60].tobytes()


class ArrayLike:
    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


class Subclass(np.ndarray):
    pass


def unaligned(x):
    memory = np.zeros(x.nbytes + 1, np.uint8)
    array = memory[1:].view(x.dtype).reshape(x.shape)
    array[:] = x
    assert array.flags.aligned == (x.itemsize == 1)
    return array


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def memory_mapped(x, folder):
    np.save(folder / "x.npy", x)
    return np.load(folder / "x.npy", mmap_mode="r")


def field_of_records(x):
    """Rows 13 bytes apart, or so: no whole number of elements."""
    records = np.zeros(len(x), [("x", x.dtype, x.shape[1]), ("tag", np.uint8)])
    records["x"] = x
    return records["x"]


LAYOUTS = {
    "contiguous": lambda x: x,
    "Fortran": np.asfortranarray,
    "transposed": lambda x: x.T.copy().T,
    "rows backwards": lambda x: x[::-1].copy()[::-1],
    "columns backwards": lambda x: x[:, ::-1].copy()[:, ::-1],
    "every third row": lambda x: np.repeat(x, 3, axis=0)[::3],
    "every second column": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "part of a wider array": lambda x: np.pad(x, 3)[3:-3, 3:-3],
    "read-only": read_only,
    "unaligned": unaligned,
    "field of records": field_of_records,
    "subclass": lambda x: x.view(Subclass),
    "masked, nothing hidden": np.ma.masked_array,
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "array-like": ArrayLike,
    "list": lambda x: x.tolist(),
    "tuples": lambda x: tuple(map(tuple, x.tolist())),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_forward_reads_any_layout(layout, dtype):
    """Small whole numbers are the same number in every type, so the outputs are the same to the bit."""
    X = np.random.default_rng(0).integers(-9, 10, size=(300, 7))
    net = with_biases(Network([7, 12, 3], dtype=dtype))
    expected = net.forward(X.astype(dtype)).tobytes()
    for kind in ("f4", "f8", "f2", "i1", "i2", "i4", "i8", "g"):
        array = LAYOUTS[layout](X.astype(kind))
        kept = copy.deepcopy(array)
        assert net.forward(array).tobytes() == expected, kind
        assert np.array_equal(np.asarray(array), np.asarray(kept)), kind


@pytest.mark.parametrize("kind", ["u1", "f4", "f8", ">f4", "i4"])
def test_forward_reads_memory_maps(tmp_path, kind):
    X = np.random.default_rng(0).integers(0, 100, size=(300, 7)).astype(kind)
    net = with_biases(Network([7, 12, 3]))
    assert net.forward(memory_mapped(X, tmp_path)).tobytes() == net.forward(X).tobytes()


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name not in ("list", "tuples", "unaligned")])
@pytest.mark.parametrize("dtype", DTYPES)
def test_bytes_times_the_scale(layout, dtype):
    X = np.random.default_rng(0).integers(0, 256, size=(300, 7), dtype=np.uint8)
    X[0], X[1] = 0, 255
    net = with_biases(Network([7, 12, 3], dtype=dtype, input_scale=1 / 255))
    outputs = net.forward(LAYOUTS[layout](X))
    plain = with_biases(Network([7, 12, 3], dtype=dtype))
    scale = np.dtype(dtype).type(1 / 255)
    assert outputs.tobytes() == plain.forward(X.astype(dtype) * scale).tobytes()
    np.testing.assert_allclose(outputs, plain.forward(X / 255), rtol=1e-5 if dtype == "float32" else 1e-14)


@pytest.mark.parametrize("rows", [3, 300])  # few go through a door of their own
@pytest.mark.parametrize("scale", [1.0, 1 / 255])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_numbers_give_the_same_outputs_whatever_their_type(dtype, scale, rows):
    X = np.random.default_rng(0).integers(0, 2, size=(rows, 7))
    net = with_biases(Network([7, 12, 3], dtype=dtype, input_scale=scale))
    expected = net.forward(X.astype(dtype)).tobytes()
    for kind in ("?", "i1", "u1", "u2", "u4", "u8", "f2", "f4", "f8"):
        assert net.forward(X.astype(kind)).tobytes() == expected, kind


@pytest.mark.parametrize("scale", [0, -1, np.inf, np.nan, True, "1/255"])
def test_bad_scales(scale):
    with pytest.raises((ValueError, TypeError), match="input_scale must be a"):
        Network([7, 3], input_scale=scale)


def test_a_scale_is_kept_and_can_be_changed(tmp_path):
    X = np.random.default_rng(0).integers(0, 256, (5, 7), np.uint8)
    net = Network([7, 12, 3], input_scale=1 / 255)
    net.save(tmp_path / "net.st")
    for other in (Network.load(tmp_path / "net.st"), copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert other.input_scale == 1 / 255
        assert other.forward(X).tobytes() == net.forward(X).tobytes()
    outputs = net.forward(X / np.float32(255))  # by the door for few samples, too
    net.input_scale = 1
    assert net.forward(X / np.float32(255)).tobytes() != outputs.tobytes()


def test_repeated_rows_and_columns_of_no_stride():
    net = with_biases(Network([7, 12, 3]))
    row = np.random.default_rng(0).normal(size=7).astype("f4")
    for X in (np.broadcast_to(row, (30, 7)), np.broadcast_to(row[:1], (30, 7)), np.broadcast_to(row[:, None], (7, 7))):
        assert net.forward(X).tobytes() == net.forward(X.copy()).tobytes()


def test_forward_follows_every_change_of_theta():
    X = np.random.default_rng(0).normal(size=(10, 4))
    net = Network([4, 6, 2])
    for _ in range(3):
        net.theta = np.random.default_rng(1).normal(size=net.n_parameters)
        net.W[0][:] *= 2
        net.b[1][0] += 1
        np.testing.assert_allclose(net.forward(X), numpy_forward(net, X), atol=1e-6)


def test_labels_of_outputs_that_are_nan():
    """Say nothing: with a warning, and an accuracy that is NaN, too."""
    net = Network([4, 8, 3], seed=0)
    X = np.ones((10, 4))
    net.W[0][:] = net.W[1][:] = 1e30
    with pytest.warns(RuntimeWarning, match="10 of 10 outputs are NaN, and their labels say nothing"):
        net.predict(X)
    several = Network([4, 3], output="sigmoid", seed=0)
    several.theta[:] = np.nan
    with pytest.warns(RuntimeWarning, match="10 of 10 outputs are NaN"):
        several.predict(X)
    cost, accuracy = Trainer(net).evaluate(X, np.zeros(10, int))
    assert np.isnan(cost) and np.isnan(accuracy)


def test_earlier_outputs_stay():
    net = Network([4, 6, 2])
    first = net.forward(np.ones((3, 4)))
    kept = first.copy()
    net.forward(-np.ones((3, 4)))
    assert first.tobytes() == kept.tobytes()


# Predict


def output_of(z, output):
    """A network of no hidden layer whose one weight is 1, so that z is its input."""
    net = Network([np.shape(z)[1]] * 2, output=output, dtype="float64")
    net.W[0][:] = np.eye(len(net.W[0]))
    return net


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_predict_is_the_largest_output(output):
    z = [[0.0, 2.0, 1.0], [3.0, 2.0, 1.0], [-3.0, -2.0, -1.0], [1.0, 1.0, 1.0], [0.0, 5.0, 5.0]]
    net = output_of(z, output)
    net.multilabel = False
    labels = net.predict(z)
    assert labels.tolist() == [1, 0, 2, 0, 1]  # the first of equals
    assert labels.shape == (5,)
    assert labels.dtype == np.int64


def test_predict_of_one_sigmoid_is_from_one_half_on():
    z = [[-1.0], [-1e-9], [0.0], [-0.0], [1e-9], [1.0]]
    labels = output_of(z, "sigmoid").predict(z)
    assert labels.tolist() == [0, 0, 1, 1, 1, 1]
    assert labels.dtype == np.int64


@pytest.mark.parametrize("output", ["identity", "tanh", "relu"])
@pytest.mark.parametrize("n_out", [1, 3])
def test_predict_of_values_is_forward(output, n_out):
    X = np.random.default_rng(0).normal(size=(9, 4))
    net = Network([4, 6, n_out], output=output)
    assert net.predict(X, threads=2).tobytes() == net.forward(X).tobytes()
    assert net.predict(X).shape == ((9,) if n_out == 1 else (9, n_out))  # y - net.predict(X) is never (n, n)


def trained_on(targets, tmp_path):
    """A network of three sigmoid outputs, .88 .88 .12 for the input 1, after training on such targets and a journey
    through a file."""
    net = Network([1, 3], output="sigmoid", weights="zeros")
    Trainer(net, optimizer=SGD(1e-9)).fit(np.ones((len(targets), 1)), targets, 1)
    net.b[0] = [2, 2, -2]
    net.save(tmp_path / "net.st")
    return Network.load(tmp_path / "net.st")


def test_predict_says_yes_or_no_to_each_of_several_classes(tmp_path):
    net = trained_on([[1, 1, 0], [1, 1, 0]], tmp_path)
    assert net.multilabel
    assert net.predict([[1.0]]).tolist() == [[1, 1, 0]]
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert other.predict([[1.0]]).tolist() == [[1, 1, 0]]


def test_predict_names_the_largest_of_outputs_trained_on_labels(tmp_path):
    net = trained_on([0, 2], tmp_path)
    assert not net.multilabel
    assert net.predict([[1.0]]).tolist() == [0]


def test_probabilities():
    X = np.random.default_rng(0).normal(size=(9, 4))
    net = Network([4, 3])
    assert (net.predict_proba(X) == net.forward(X)).all()
    net = Network([4, 1], output="sigmoid")
    probabilities = net.predict_proba(X)
    assert probabilities.shape == (9, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    assert (probabilities[:, 1] == net.forward(X)[:, 0]).all()
    with pytest.raises(ValueError, match="predict_proba needs sigmoid or softmax outputs, the network has identity"):
        Network([4, 1], output="identity").predict_proba(X)


# Files


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "sizes, hidden, output",
    [([1, 1], "relu", "identity"), ([3, 5, 4, 2], ["tanh", "sigmoid"], "softmax"), ([2, 300, 1], "relu", "relu")],
    ids=["least", "mixed", "wide"],
)
def test_save_and_load(tmp_path, sizes, hidden, output, dtype):
    net = with_biases(Network(sizes, hidden, output, dtype, seed=3))
    net.theta[0] = -0.0
    net.theta[-1] = np.finfo(dtype).tiny / 8  # a subnormal number
    for path in (tmp_path / "net.safetensors", str(tmp_path / "no suffix, ä and blanks")):
        net.save(path)
        again = Network.load(path)
        assert again.theta.tobytes() == net.theta.tobytes()
        assert repr(again) == repr(net)
        assert_one_flat_vector(again)
        X = np.random.default_rng(0).normal(size=(9, sizes[0]))
        assert again.forward(X).tobytes() == net.forward(X).tobytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_the_file_is_plain_safetensors(tmp_path):
    net = with_biases(Network([3, 5, 2]))
    net.save(tmp_path / "net")
    tensors = load_file(tmp_path / "net")
    assert sorted(tensors) == ["W1", "W2", "b1", "b2"]
    assert all(tensors[f"W{l + 1}"].tobytes() == net.W[l].tobytes() for l in range(2))
    assert all(tensors[f"b{l + 1}"].tobytes() == net.b[l].tobytes() for l in range(2))


def test_saving_over_an_old_file_keeps_its_permissions(tmp_path):
    file = tmp_path / "net"
    Network([3, 2]).save(file)
    plain = tmp_path / "plain"
    plain.touch()
    assert file.stat().st_mode == plain.stat().st_mode
    file.chmod(0o640)
    Network([2, 2]).save(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert Network.load(file).layer_sizes == (2, 2)


def test_saving_follows_a_link(tmp_path):
    (tmp_path / "folder").mkdir()
    link, file = tmp_path / "link", tmp_path / "folder" / "net"
    link.symlink_to(file)
    for _ in range(2):  # the first time there is no file at the link's end
        Network([3, 2]).save(link)
        assert link.is_symlink()
        assert Network.load(file).layer_sizes == Network.load(link).layer_sizes == (3, 2)
    assert [path.name for path in file.parent.iterdir()] == ["net"]


def test_saving_into_a_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"cannot write .*net: there is no folder .*missing"):
        Network([3, 2]).save(tmp_path / "missing" / "net")
    assert not list(tmp_path.iterdir())


def test_saving_onto_a_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match="cannot write .*folder: it is a folder"):
        Network([3, 2]).save(tmp_path / "folder")
    assert not list((tmp_path / "folder").iterdir())


def test_saving_below_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError, match="there is no folder .*file"):
        Network([3, 2]).save(tmp_path / "file" / "net")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no device that is always full")
def test_a_device_is_written_to_and_not_replaced():
    """Were it replaced like a file, a superuser's save to /dev/null would break the machine."""
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        Network([3, 2]).save("/dev/full")
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


@pytest.mark.skipif(resource is None, reason="this system has no limit on the size of files")
def test_a_failing_write_leaves_the_old_file_whole_and_nothing_else(tmp_path):
    file = tmp_path / "net"
    Network([3, 2]).save(file)
    before = file.read_bytes()
    big = Network([300, 200])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # a full disk, seen from inside
    try:
        for path in (file, tmp_path / "new"):
            with pytest.raises(OSError, match=f"File too large: '{path}'"):
                big.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["net"]
    big.save(file)
    assert Network.load(file).layer_sizes == (300, 200)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_could_not_be_loaded_is_not_saved(tmp_path, value):
    file = tmp_path / "net"
    net = Network([3, 2])
    net.save(file)
    before = file.read_bytes()
    net.b[0][1] = value
    with pytest.raises(ValueError, match=rf"theta\[7\] of the network is {value}; every parameter must be finite"):
        net.save(file)
    assert file.read_bytes() == before


def test_loading_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file .*missing"):
        Network.load(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        Network.load(tmp_path)


def saved(folder, net=None):
    file = folder / "net"
    (net or with_biases(Network([2, 3, 2]))).save(file)
    return file


def test_every_truncation_is_noticed(tmp_path):
    file = saved(tmp_path)
    content = file.read_bytes()
    for end in range(len(content)):
        file.write_bytes(content[:end])
        with pytest.raises(ValueError, match="net (is not a whole safetensors file|holds no valid fastbp network): "):
            Network.load(file)
    file.write_bytes(content + b"\0")
    with pytest.raises(ValueError, match="net is not a whole safetensors file: "):
        Network.load(file)


def test_damage_is_noticed_or_leaves_a_sound_network(tmp_path):
    """Safetensors has no checksum: an altered parameter is a parameter. No other error than ValueError, no NaN."""
    file = saved(tmp_path)
    content = file.read_bytes()
    noticed = 0
    for at in range(len(content)):
        for value in (0, 255, content[at] ^ 1, ord("9")):
            file.write_bytes(content[:at] + bytes([value]) + content[at + 1 :])
            try:
                net = Network.load(file)
            except ValueError as error:
                noticed += 1
                assert str(file) in str(error)
            else:
                assert np.isfinite(net.theta).all()
                assert net.forward([[1, 2]]).shape == (1, net.layer_sizes[-1])
    header = len(content) - 17 * 4
    assert noticed > 2 * header


GOOD = {"format": "fastbp-network-2", "layer_sizes": "[2, 3]", "activations": '["softmax"]', "dtype": "float32",
        "input_scale": "0.5", "multilabel": "false"}
TENSORS = {"W1": np.ones((2, 3), "f4"), "b1": np.ones(3, "f4")}
# What is replaced in these two (None: left out), and what the error says.
BAD_FILES = {
    "no description": (dict.fromkeys(GOOD), {}, "is not a fastbp network: format None, expected 'fastbp-network-2'"),
    "another's description": ({"format": "pt"}, {}, "is not a fastbp network: format 'pt'"),
    "a later format": ({"format": "fastbp-network-3"}, {}, "is not a fastbp network: format 'fastbp-network-3'"),
    "sizes missing": ({"layer_sizes": None}, {}, "it lacks 'layer_sizes'"),
    "activations missing": ({"activations": None}, {}, "it lacks 'activations'"),
    "dtype missing": ({"dtype": None}, {}, "it lacks 'dtype'"),
    "scale missing": ({"input_scale": None}, {}, "it lacks 'input_scale'"),
    "scale no number": ({"input_scale": '"a"'}, {}, "input_scale must be a number, got 'a'"),
    "no truth value": ({"multilabel": "1"}, {}, "multilabel must be True or False, got 1"),
    "transposed": ({}, {"W1": np.ones((3, 2), "f4")}, r"W1 is float32 \(3, 2\), expected float32 \(2, 3\)"),
    "another type": ({}, {"W1": np.ones((2, 3))}, r"W1 is float64 \(2, 3\), expected float32 \(2, 3\)"),
    "weights too large": ({}, {"W1": np.ones((4, 3), "f4")}, r"15 parameters, but layer sizes \[2, 3\] need 9"),
    "biases missing": ({}, {"b1": None}, r"6 parameters, but layer sizes \[2, 3\] need 9"),
    "another name": ({}, {"b1": None, "bias": TENSORS["b1"]}, "it lacks 'b1'"),
    "a layer too many": ({}, {"b2": TENSORS["b1"]}, r"12 parameters, but layer sizes \[2, 3\] need 9"),
    "NaN": ({}, {"b1": np.full(3, np.nan, "f4")}, r"theta\[6\] of the network is nan"),
    "infinity": ({}, {"W1": np.full((2, 3), np.inf, "f4")}, r"theta\[0\] of the network is inf"),
    "unknown activation": ({"activations": '["step"]'}, {}, "unknown output activation 'step'"),
    "activations too many": ({"activations": '["relu", "relu"]'}, {}, "hidden names 1 activations for 0 hidden layers"),
    "no activation": ({"activations": "[]"}, {}, "holds no valid fastbp network"),
    "activations no list": ({"activations": "7"}, {}, "holds no valid fastbp network"),
    "activation no text": ({"activations": "[{}]"}, {}, "unknown output activation {}"),
    "unknown dtype": ({"dtype": "float16"}, {}, "unknown dtype 'float16'"),
    "empty dtype": ({"dtype": ""}, {}, "unknown dtype ''"),
    "sizes no JSON": ({"layer_sizes": "2, 3"}, {}, "holds no valid fastbp network"),
    "sizes no list": ({"layer_sizes": "5"}, {}, "holds no valid fastbp network"),
    "sizes null": ({"layer_sizes": "null"}, {}, "holds no valid fastbp network"),
    "a size no number": ({"layer_sizes": '["a", "b"]'}, {}, "holds no valid fastbp network"),
    "a size not whole": ({"layer_sizes": "[2, 3.0]"}, {}, "must be a whole number, got 3.0"),
    "a negative size": ({"layer_sizes": "[-4, -3]"}, {}, "must be at least 1, got -4"),
    "sizes for no memory": ({"layer_sizes": f"[{2**40}, 3]"}, {}, "9 parameters, but layer sizes"),
    "sizes too deep": ({"layer_sizes": "[" * 100_000}, {}, "holds no valid fastbp network"),
}


def write_safetensors(file, description, tensors):
    kept = [{k: v for k, v in part.items() if v is not None} for part in (TENSORS | tensors, GOOD | description)]
    save_file(kept[0], file, metadata=kept[1])


@pytest.mark.parametrize("description, tensors, message", BAD_FILES.values(), ids=BAD_FILES)
def test_safetensors_that_hold_no_network(tmp_path, description, tensors, message):
    write_safetensors(tmp_path / "net", description, tensors)
    with pytest.raises(ValueError, match=f"net .*{message}"):
        Network.load(tmp_path / "net")


def test_the_description_that_the_bad_ones_are_made_of_is_good(tmp_path):
    write_safetensors(tmp_path / "net", {}, {})
    assert Network.load(tmp_path / "net").theta.tolist() == [1] * 9


def test_a_file_of_the_first_format_is_read_with_a_warning_about_bytes(tmp_path):
    first = {"format": "fastbp-network-1", "activations": '["sigmoid"]', "input_scale": None, "multilabel": None}
    write_safetensors(tmp_path / "net", first, {})
    with pytest.warns(UserWarning, match="divided uint8 inputs by 255; .* set network.input_scale = 1 / 255"):
        net = Network.load(tmp_path / "net")
    assert (net.theta.tolist(), net.input_scale) == ([1] * 9, 1)
    assert net.predict(np.ones((2, 2))).tolist() == [0, 0]  # the largest, as that version predicted


@pytest.mark.parametrize("description", [{}, GOOD], ids=["foreign", "ours"])
@pytest.mark.parametrize("kind, size", [("BF16", 2), ("F8_E4M3", 1)])
def test_types_that_numpy_lacks(tmp_path, kind, size, description):
    tensors = {"W1": {"dtype": kind, "shape": [2, 3], "data_offsets": [0, 6 * size]}, "__metadata__": description}
    header = json.dumps(tensors).encode()
    (tmp_path / "net").write_bytes(len(header).to_bytes(8, "little") + header + bytes(6 * size))
    with pytest.raises(ValueError, match="net is not a"):
        Network.load(tmp_path / "net")


@pytest.mark.parametrize("content", [b"", b"\0", b"{}", b"PK\3\4" * 9, b"\x93NUMPY" * 9, bytes(8), b"\xff" * 99])
def test_files_of_other_kinds(tmp_path, content):
    (tmp_path / "net").write_bytes(content)
    with pytest.raises(ValueError, match="net is not a"):
        Network.load(tmp_path / "net")


# Copies

COPIES = {
    "pickle": lambda net: pickle.loads(pickle.dumps(net)),
    "oldest pickle": lambda net: pickle.loads(pickle.dumps(net, protocol=2)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_copies_stand_alone(way, dtype):
    X = np.random.default_rng(0).normal(size=(9, 3))
    net = with_biases(Network([3, 5, 2], "tanh", "sigmoid", dtype))
    outputs = net.forward(X)
    again = COPIES[way](net)
    assert repr(again) == repr(net)
    assert again.theta.tobytes() == net.theta.tobytes()
    assert not np.shares_memory(again.theta, net.theta)
    assert_one_flat_vector(again)
    assert again.forward(X).tobytes() == outputs.tobytes()
    again.theta[:] = 0
    assert not again.W[1].any()
    assert net.forward(X).tobytes() == outputs.tobytes()


def test_a_copy_trains_as_the_original_does():
    X = np.random.default_rng(0).normal(size=(20, 3))
    y = (X[:, 0] > 0).astype(int)
    net = Network([3, 5, 2])
    again = copy.deepcopy(net)
    before = net.theta.copy()
    Trainer(again, batch_size=4).fit(X, y, 2)
    assert net.theta.tobytes() == before.tobytes()
    Trainer(net, batch_size=4).fit(X, y, 2)
    assert net.theta.tobytes() == again.theta.tobytes()


# Python threads


def test_forward_from_many_python_threads():
    rng = np.random.default_rng(0)
    net = with_biases(Network([30, 64, 3]))
    X = rng.normal(size=(700, 30)).astype("f4")
    expected = net.forward(X)
    wrong, done = [], []

    def work(number):
        sizes = np.random.default_rng(number).integers(1, 700, size=40)
        for n in sizes:
            if net.forward(X[:n], threads=1 + number % 2).tobytes() != expected[:n].tobytes():
                wrong.append((number, n))
        done.append(number)

    in_threads(work, 6)
    assert sorted(done) == list(range(6))
    assert not wrong


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("output", ["softmax", "identity"])
def test_a_few_samples_take_the_short_way_to_the_same_bits(monkeypatch, output, dtype):
    net = with_biases(Network([5, 33, 7, 3], hidden=["tanh", "relu"], output=output, dtype=dtype))
    x = np.random.default_rng(0).normal(size=(40, 5)).astype(dtype)
    general = net.forward(np.asfortranarray(x))
    taken, any_way = [], Network._forward_any
    monkeypatch.setattr(Network, "_forward_any", lambda self, *given: taken.append(1) or any_way(self, *given))
    for threads in (None, 1, 2):
        for n in (1, 2, 7, 40):
            assert net.forward(x[:n], threads).tobytes() == general[:n].tobytes()
        assert net.forward(x.astype("float64"), threads).tobytes() == general.tobytes()
    assert not taken
    net.input_scale = 0.5  # in workspaces that are kept, too
    assert net.forward(2 * x).tobytes() == general.tobytes() == net.forward(2 * x, threads=1).tobytes()
    net.input_scale = 1
    for unusual in (np.asfortranarray(x), x[::-1], x.tolist(), x.astype("float16"), x[:0]):
        if len(unusual):
            assert net.forward(unusual).shape == (40, 3)
        else:
            with pytest.raises(ValueError, match="empty"):
                net.forward(unusual)
    x[3, 2] = np.nan
    with pytest.raises(ValueError, match=r"X\[3, 2\] is nan"):
        net.forward(x)
    with pytest.raises(ValueError, match="4 features"):
        net.forward(np.zeros((1, 4), dtype))


class Calls:
    """Calls of a network on a clock: each takes so many seconds by the number of threads that a Choice has for it."""

    def __init__(self, monkeypatch, threads=2):
        self.now, self.made = 0.0, []
        monkeypatch.setattr(inference, "time", SimpleNamespace(perf_counter=lambda: self.now))
        monkeypatch.setattr(inference.team, "is_awake", lambda threads: True)
        inference.pace_of.cache_clear()
        self.choice = inference.Choice(Network([4, 3]), threads, 9)

    def make(self, seconds, seconds_of_all):
        """Calls for so many seconds."""
        end, self.made = self.now + seconds, []
        while self.now < end:
            threads, started = self.choice.next(), self.now
            self.now += seconds_of_all[threads]
            self.choice.took(started)
            self.made.append(threads)


@pytest.mark.parametrize("seconds", [{1: 5.5e-5, 2: 4.5e-5}, {1: 4.5e-5, 2: 5.5e-5}, {1: 3e-3, 2: 2e-3}])
def test_the_faster_number_of_threads_is_found_and_a_wrong_one_put_right(monkeypatch, seconds):
    """A call that was disturbed does not decide for long; and the other number costs little of the time."""
    best = min(seconds, key=seconds.__getitem__)
    calls = Calls(monkeypatch)
    calls.make(0.1, {best: 10 * seconds[best], 3 - best: seconds[3 - best]})
    assert calls.made[-1] == 3 - best
    calls.make(1, seconds)
    calls.make(1, seconds)
    assert calls.made.count(best) > 0.98 * len(calls.made) and {1, 2} == set(calls.made)


def test_calls_too_short_for_other_threads(monkeypatch):
    calls = Calls(monkeypatch)
    calls.make(0.05, {1: 2e-5})
    calls.make(0.05, {1: 2e-4, 2: 1e-4})  # of larger batches, say
    assert calls.made[-1] == 2
    calls.make(0.05, {1: 2e-5, 2: 1e-5})
    calls.make(0.5, {1: 2e-5, 2: 1e-4})
    assert calls.made[-1] == 1


@pytest.mark.parametrize("threads", [None, 1, 2])
@pytest.mark.parametrize("kind", ["float32", "float64", "uint8"])
@pytest.mark.parametrize("n", [1, 5, 33, CAPACITY, 3 * CAPACITY + 17])
def test_every_way_to_the_same_outputs(n, kind, threads):
    """Of few and many weights, one thread and more, in arrays that are given, as the oracle has them."""
    for sizes in ([5, 33, 7, 3], [400, 700, 3], [1, 1]):
        net = with_biases(Network(sizes, "tanh", "sigmoid", seed=1, input_scale=0.25))
        x = np.random.default_rng(0).integers(0, 9, (n, sizes[0])).astype(kind)
        expected = numpy_forward(net, x * 0.25)
        outputs = net.forward(x, threads)
        np.testing.assert_allclose(outputs, expected, rtol=2e-5, atol=1e-6)
        out = np.full_like(outputs, np.nan)
        assert net.forward(x, threads, out=out) is out and out.tobytes() == outputs.tobytes()
        assert net.forward(np.asfortranarray(x)[:], threads).tobytes() == outputs.tobytes()
        assert net.forward(x, 3).tobytes() == outputs.tobytes()


def test_few_samples_after_many_are_one_step():
    """Both go by the slip that the network keeps."""
    net, x = Network([5, 4, 3]), np.ones((3 * CAPACITY, 5), np.float32)
    few = net.forward(x[:2])
    for threads in (1, None):
        assert net.forward(x, threads)[:2].tobytes() == few.tobytes()
        assert net.forward(x[:2]).tobytes() == few.tobytes()
        workspace = net.take_workspace(1)
        assert workspace.few[1].vector[SLOTS["n_steps"]] == 1
        net.give_back(workspace)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("n", [1, 40, 2 * CAPACITY + 9])
def test_what_is_not_finite_is_found_wherever_it_is(n, bad):
    """By one thread and two, in each step; and relu makes a number of what is none."""
    net = Network([600, 700, 3], seed=0)
    for i in {0, n // 2, n - 1}:
        x = np.ones((n, 600), np.float32)
        x[i, (7 * i) % 600] = bad
        for threads in (None, 1, 2):
            with pytest.raises(ValueError, match=rf"X\[{i}, {(7 * i) % 600}\] is {bad}"):
                net.forward(x, threads)
    with pytest.raises(ValueError, match="largest float32"):
        net.forward(np.full((n, 600), 1e39))
    assert np.isfinite(net.forward(np.ones((n, 600)))).all()
    net.input_scale = 1e20
    with pytest.raises(ValueError, match=r"X times the network's input_scale=1e\+20 is too large for float32"):
        net.forward(np.full((n, 600), 1e30, np.float32))


def test_where_outputs_go_must_fit():
    net = Network([4, 3])
    x = np.zeros((5, 4), np.float32)
    for out in (np.empty((5, 2), np.float32), np.empty((4, 3), np.float32), np.empty((5, 3)),
                np.empty((3, 5), np.float32).T, np.empty((5, 6), np.float32)[:, ::2], [[0.0] * 3] * 5):
        for given in (x, x.tolist()):
            with pytest.raises(ValueError, match=r"out must be a contiguous, writeable array of shape \(5, 3\)"):
                net.forward(given, out=out)


@pytest.mark.parametrize("threads", [None, 1, 2])
@pytest.mark.parametrize("n", [3, CAPACITY, 3 * CAPACITY + 17])
@pytest.mark.parametrize("kind", ["float32", "float64", "memmap", "frame"])
def test_outputs_that_overlap_the_samples(kind, n, threads, tmp_path):
    """Wherever they begin, they are those of the samples as they were; of X itself too."""
    for sizes in ([3, 3], [5, 33, 3], [3, 5]):
        net = with_biases(Network(sizes, "tanh", "identity", seed=1))
        size = 8 * n * max(sizes) + 64
        memory = (np.memmap(tmp_path / "memory", np.uint8, "w+", shape=size) if kind == "memmap"
                  else np.zeros(size, np.uint8))
        for start in (0, 4, 12, 60):
            x = memory[start // 8 * 8 :].view("f8" if kind == "float64" else "f4")[: n * sizes[0]].reshape(n, -1)
            for at in (0, 4, 8, 60):
                x[...] = np.random.default_rng(0).normal(size=x.shape)
                expected = net.forward(np.array(x))
                out = np.asarray(memory[at:].view("f4")[: n * sizes[-1]].reshape(n, -1))
                assert net.forward(pd.DataFrame(x, copy=False) if kind == "frame" else x, threads, out=out) is out
                assert out.tobytes() == expected.tobytes()


def test_what_is_no_number_is_found_where_outputs_replace_it():
    """Though the outputs of relu, which take its place, are finite."""
    for row in (slice(None), 4):
        x = np.ones((5, 3), np.float32)
        x[4, 1] = np.nan
        with pytest.raises(ValueError, match=r"X\[\d, 1\] is nan"):
            Network([3, 3], output="relu").forward(x[row], out=x[row])


def test_one_sample_as_a_vector():
    """(n_in,) gives what the one row of (1, n_in) gives."""
    net = with_biases(Network([4, 3, 2]))
    x = np.arange(4, dtype=np.float32)
    outputs = net.forward(x[np.newaxis])
    for given in (x, x.astype(float), np.arange(8, dtype=np.float32)[:4]):
        assert net.forward(given).tobytes() == outputs.tobytes() and net.forward(given).shape == (2,)
    out = np.empty(2, np.float32)
    assert net.forward(x, out=out) is out and out.tobytes() == outputs.tobytes()
    assert net.predict(x) == net.predict(x[np.newaxis])[0] and np.ndim(net.predict(x)) == 0
    assert net.predict_proba(x).tobytes() == outputs.tobytes()
    net.classes = ["no", "yes"]
    assert net.predict(x) in ("no", "yes")
    one = Network([4, 1], output="identity")
    assert one.predict(x) == one.predict(x[np.newaxis])[0] and np.ndim(one.predict(x)) == 0
    assert Network([4, 2], output="identity").predict(x).shape == (2,)
    assert Network([4, 2], output="sigmoid").predict(x).shape == (2,)
    for wrong in (x[:3], np.zeros(0), x.tolist()):
        with pytest.raises(ValueError, match="2 dimensions"):
            net.forward(wrong)


@pytest.mark.parametrize("name", ["layer_sizes", "activations", "dtype", "n_parameters", "W", "b"])
def test_what_a_network_is_made_with_stays(name):
    """A list of other weights would come apart from theta, which is what is computed with."""
    net = Network([3, 4, 2])
    before = getattr(net, name)
    with pytest.raises(AttributeError, match=f"^{name} of a network cannot be assigned"):
        setattr(net, name, before)
    assert getattr(net, name) is before
    net.W[0] = np.ones((3, 4))
    assert (net.theta[:12] == 1).all() and pickle.loads(pickle.dumps(net)).W[0][0, 0] == 1


def test_multilabel_is_a_truth_value():
    net = Network([3, 2], output="sigmoid")
    with pytest.raises(TypeError, match="multilabel"):
        net.multilabel = "yes"
