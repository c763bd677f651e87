"""fastbp.insight.trace: numbers of the engine, parts that multiply to them, texts that hold the right numbers."""

import numpy as np
import pytest
from rig import DTYPES

import fastbp
from fastbp import SGD, Adam, Network, losses
from fastbp.core import reference
from fastbp.insight import hebbian_pairs, trace

# The worked network: every number by hand (f = sigmoid, f' = a (1 - a)), to six digits.
BY_HAND = """\
One sample through 2-2-1; layer l is network.W[l - 1]; E = quadratic = 0.0957854
1. Forward pass, layer 1: z[1] = a[0] W[1] + b[1], a[1] = sigmoid(z[1])
  neuron 0: z = 1*0.5 + 0.5*0.25 + 0 = 0.625, a = 0.651355
  neuron 1: z = 1*-0.5 + 0.5*1 + 0.1 = 0.1, a = 0.524979
2. Forward pass, layer 2: z[2] = a[1] W[2] + b[2], a[2] = sigmoid(z[2])
  neuron 0: z = 0.651355*0.4 + 0.524979*-0.4 + 0.2 = 0.25055, a = 0.562312
3. Output error: delta[2] = dE/dz[2]
  E = 0.0957854
  neuron 0: a = 0.562312, t = 1; dE/da = -0.437688 times f'(z) = 0.246117 = -0.107723
4. Backward, layer 1: delta[1] = (delta[2] W[2]ᵀ) f'(z[1])
  neuron 0: -0.107723*0.4 = -0.043089, times f'(z) = 0.227092 = -0.00978516
  neuron 1: -0.107723*-0.4 = 0.043089, times f'(z) = 0.249376 = 0.0107454
5. Weight gradients: dE/dW[l] = a[l-1] times delta[l], dE/db[l] = delta[l]
  dE/dW[1][0, 1] = 1 * 0.0107454 = 0.0107454
  dE/dW[1][0, 0] = 1 * -0.00978516 = -0.00978516
  dE/dW[1][1, 1] = 0.5 * 0.0107454 = 0.00537269
  dE/dW[1][1, 0] = 0.5 * -0.00978516 = -0.00489258
  dE/dW[2][0, 0] = 0.651355 * -0.107723 = -0.0701656
  dE/dW[2][1, 0] = 0.524979 * -0.107723 = -0.0565521
6. Update by SGD(eta=1.0)
  W[1][0, 1]: -0.5 -> -0.510745
  W[1][0, 0]: 0.5 -> 0.509785
  W[1][1, 1]: 1 -> 0.994627
  W[1][1, 0]: 0.25 -> 0.254893
  W[2][0, 0]: 0.4 -> 0.470166
  W[2][1, 0]: -0.4 -> -0.343448"""


def worked(dtype="float64"):
    net = Network([2, 2, 1], hidden="sigmoid", output="sigmoid", dtype=dtype)
    net.W[0], net.b[0] = [[0.5, -0.5], [0.25, 1.0]], [0.0, 0.1]
    net.W[1], net.b[1] = [[0.4], [-0.4]], [0.2]
    return net


def test_texts_of_the_worked_network():
    assert repr(trace(worked(), [1.0, 0.5], [1.0], loss="quadratic", optimizer=SGD(eta=1.0))) == BY_HAND


HIDDEN = ["sigmoid", "tanh", "relu", "leaky_relu", "gelu", "identity", "mish"]
OUTPUTS = [("quadratic", "identity"), ("quadratic", "tanh"), ("quadratic", "softmax"), ("cross_entropy", "softmax"),
           ("binary_cross_entropy", "sigmoid"), ("poisson", "softplus"), ("huber", "sigmoid"),
           (losses.CrossEntropy(label_smoothing=0.1), "softmax"), ("cosine", "identity")]
SIZES = [[3, 4], [1, 1, 1], [5, 17, 3, 9, 4], [40, 260, 3]]


def drawn(sizes, hidden, output, dtype, seed=0):
    net = Network(sizes, hidden=hidden, output=output, dtype=dtype, seed=seed, input_scale=0.5)
    draw = np.random.default_rng(seed)
    for b in net.b:
        b[:] = draw.normal(size=b.shape)
    t = draw.random(sizes[-1]) if len(net.b[-1]) > 1 else np.ones(1)
    return net, draw.normal(size=sizes[0]), t / t.sum()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_numbers_are_the_engines_and_the_oracles(sizes, dtype):
    for i, (loss, output) in enumerate(OUTPUTS):
        for hidden in HIDDEN[i % 2 :: 2] if loss != "cosine" and output != "softmax" or sizes[-1] > 1 else []:
            net, x, t = drawn(sizes, hidden, output, dtype)
            seen = trace(net, x, t, loss=loss, optimizer=Adam())

            cost, gradient = fastbp.cost_and_gradient(net, x[None], t[None], loss)
            dW, db = net.views(gradient)
            assert seen.cost == cost
            outputs = net.forward(x[None])[0]
            for ours, engines in zip([*seen.dW, *seen.db, seen.a[-1]], [*dW, *db, outputs], strict=True):
                assert ours.tobytes() == np.ascontiguousarray(engines).tobytes()
            own = net.workspace(1)
            own.a[0][0], own.targets[0] = x * 0.5, t
            reference.forward(net.theta, own.layers, own.buffers, 1)
            reference.output_error(own.layers, own.buffers, own.targets, own.costs, fastbp.network.check_loss(
                loss, output, sizes[-1]).rule(dtype), 1)
            reference.backward(net.theta, own.layers, own.buffers, 1)
            close = {"rtol": 1e-3, "atol": 1e-5} if dtype == "float32" else {"rtol": 1e-9, "atol": 1e-12}
            for ours, oracles in zip([*seen.z, *seen.a, *seen.delta], [*own.z, *own.a, *own.delta], strict=True):
                np.testing.assert_allclose(ours, oracles[0], **close)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_parts_multiply_to_the_errors_to_the_bit(hidden, dtype):
    for loss, output in OUTPUTS:
        net, x, t = drawn([5, 17, 3, 9, 4], hidden, output, dtype)
        seen = trace(net, x, t, loss=loss)
        for l in range(3):
            np.testing.assert_allclose(seen.sums[l], net.W[l + 1] @ seen.delta[l + 1], rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(seen.dW[l], np.outer(seen.a[l], seen.delta[l]), rtol=1e-6)
            if seen.slopes[l] is not None:
                assert (seen.sums[l] * seen.slopes[l] == seen.delta[l]).all()
        if seen.sensitivity is not None and seen.slopes[-1] is not None:
            assert (seen.sensitivity * seen.slopes[-1] == seen.delta[-1]).all()
        assert (seen.sensitivity is None) == (output in ("sigmoid", "softplus") and loss != "huber"
                                              or "ross" in str(loss))


def test_step_is_that_of_the_trainer():
    net, x, t = drawn([5, 17, 4], "tanh", "identity", "float64")
    seen = trace(net, x, t, optimizer=Adam(0.01))
    before = net.theta.copy()
    fastbp.Trainer(net, optimizer=Adam(0.01), schedule="constant", batch_size=1).fit(x[None], t[None], epochs=1)
    np.testing.assert_allclose(seen.updated.theta, net.theta, rtol=1e-12)
    assert (seen.network.theta == before).all()


def test_saturated_neurons_are_marked():
    net = worked()
    net.b[0] = [30.0, 0.0]
    seen = trace(net, [1.0, 0.5], [1.0])
    assert [s.tolist() for s in seen.saturated] == [[True, False], [False]]
    lines = [line for line in repr(seen).splitlines() if "saturated" in line]
    assert len(lines) == 2 and all(line.startswith("  neuron 0:") for line in lines)


def test_wide_layers_show_the_largest_and_say_so():
    net, x, t = drawn([40, 260, 3], "tanh", "softmax", "float32")
    text = repr(trace(net, x, t))
    assert "(6 of 260 neurons, those with the largest errors)" in text and " + 36 more (" in text
    largest = np.argmax(np.abs(trace(net, x, t).delta[0]))
    assert f"  neuron {largest}: z = " in text


def test_asks_by_names_and_without_hidden_layer():
    net = Network([2, 2], output="softmax", weights="zeros")
    net.feature_names, net.classes = ["age", "height"], ["no", "yes"]
    seen = trace(net, [1.0, 0.0], "yes")
    assert seen.asks(1).splitlines() == [
        "output 1 is 0.5, its target 1: z should go up; its error is -0.5", "  through its bias: + 0.5 per unit of "
        "learning rate", "  through the weight from age, which sends 1: + 0.5"]
    assert seen.asks(0).splitlines()[0] == "output 0 is 0.5, its target 0: z should go down; its error is 0.5"
    with pytest.raises(ValueError, match="output must be"):
        seen.asks(2)


def test_row_of_a_frame_is_read_by_its_names():
    """A pandas Series in another order than the features is the same sample, as a table of one row is."""
    pd = pytest.importorskip("pandas")
    net = drawn([3, 4, 2], "tanh", "identity", "float64")[0]
    net.feature_names, net.target_names = ["age", "height", "mass"], ["low", "high"]
    row, wanted = pd.Series({"mass": 3.0, "age": 1.0, "height": 2.0}), pd.Series({"high": 5.0, "low": 4.0})
    expected = trace(net, [1.0, 2.0, 3.0], [4.0, 5.0])
    for x, t in [(row, wanted), (row.to_frame().T, wanted.to_frame().T), (row, [4.0, 5.0])]:
        seen = trace(net, x, t)
        assert repr(seen) == repr(expected)
        np.testing.assert_array_equal(seen.x, [1.0, 2.0, 3.0])
        np.testing.assert_array_equal(hebbian_pairs(net, x, t).pairs, hebbian_pairs(net, [1.0, 2.0, 3.0], [4, 5]).pairs)
    with pytest.raises(ValueError, match="weight"):
        trace(net, row.rename({"mass": "weight"}), wanted)


def test_weight_that_is_nan_is_named():
    net = worked()
    net.W[0][1, 0] = np.nan
    assert "The first number that is not finite: W[1][1, 0] = nan" in repr(trace(net, [1.0, 0.5], [1.0]))


@pytest.mark.parametrize(("x", "t", "message"), [
    ([[1.0, 0.5]] * 2, [1.0], "x must be one sample, got 2"),
    ([1.0], [1.0], "features"), ([1.0, 0.5], [1.0, 0.0], "y"), ([1.0, np.nan], [1.0], "finite|NaN|missing"),
])
def test_what_does_not_fit_is_refused(x, t, message):
    with pytest.raises(ValueError, match=message):
        trace(worked(), x, t)


def test_picture_draws_the_neurons_that_matter(tmp_path):
    net, x, t = drawn([40, 260, 3], "tanh", "softmax", "float32")
    seen = trace(net, x, t)
    figure = seen.plot(tmp_path / "trace.svg")
    forward, backward = figure.axes
    texts = [text.get_text() for text in forward.texts]
    assert {"input: 12 of 40", "layer 1: 12 of 260", "layer 2: 3"} <= set(texts)
    assert f"{seen.a[1][np.argmax(np.abs(seen.delta[0]))]:.2g}" in texts
    assert {f"{value:.2g}" for value in seen.delta[-1]} <= {text.get_text() for text in backward.texts}
    widest = max(forward.collections[1].get_linewidths())
    assert widest == pytest.approx(3) and (tmp_path / "trace.svg").stat().st_size > 1000


def test_picture_of_one_neuron_and_of_nan():
    net = Network([1, 1], output="identity", weights="zeros")
    assert [text.get_text() for text in trace(net, [0.0], [0.0]).plot().axes[0].texts] == ["0", "input: 1", "0",
                                                                                           "layer 1: 1"]
    net.W[0][:] = np.nan
    assert "nan" in [text.get_text() for text in trace(net, [1.0], [0.0]).plot().axes[0].texts]


def test_a_sparse_row_is_a_sample():
    from scipy.sparse import csr_array, csr_matrix

    net, x, t = drawn([3, 4], "relu", "identity", "float64")
    dense = trace(net, x, t)
    for row in (csr_array(x[None])[0], csr_array(x[None]), csr_matrix(x[None])[0]):
        assert trace(net, row, t).cost == dense.cost
