"""insight.layer_errors and insight.vanishing_gradients: the size of delta, against the oracle's."""

import numpy as np
import pytest
from rig import DTYPES, gradient_by_oracle

from fastbp import Network, insight, losses

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(40, 3))
Y = (X[:, 0] > 0).astype(int)


def by_oracle(net, x, t, loss):
    """A workspace after the oracle's pass through samples, and the gradient."""
    workspace = net.workspace(len(x))
    workspace.a[0][:], workspace.targets[:] = x, t
    gradient = gradient_by_oracle(net.theta, workspace.layers, workspace.buffers, workspace.targets, workspace.costs,
                                  losses.LOSSES[loss]().rule(), len(x))
    return workspace, gradient


def chain(length, dtype):
    """Sigmoid neurons at z = 0 with weights of 1 before a linear one, for the sample 0 and the target -0.5."""
    net = Network([1] * (length + 2), hidden="sigmoid", output="identity", dtype=dtype,
                  weights=lambda *_: np.ones((1, 1)))
    for b in net.b[1:-1]:
        b[:] = -0.5
    return net


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_chain_of_sigmoids_leaves_a_quarter_a_layer(dtype):
    rms = insight.layer_errors(chain(6, dtype), [[0.0]], [[-0.5]]).rms
    assert rms.tolist() == [0.25**k for k in range(6, -1, -1)]
    assert (rms[-4], rms[-7]) == (0.015625, 0.000244140625)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [(3, 2), (3, 1, 2), (3, 5, 7, 2), (3, 4, 1, 4, 2)])
@pytest.mark.parametrize("n", [1, 40])
def test_sizes_are_those_of_the_oracle(sizes, dtype, n):
    net = Network(sizes, hidden="tanh", dtype=dtype, seed=1)
    workspace, _ = by_oracle(net, X[:n], np.eye(2)[Y[:n]], "cross_entropy")
    found = insight.layer_errors(net, X[:n], Y[:n])
    expected = [np.sqrt(np.mean(np.square(delta, dtype=float))) for delta in workspace.delta]
    np.testing.assert_allclose(found.rms, expected, rtol=1e-5 if dtype == "float32" else 1e-12)
    assert found.cost == pytest.approx(workspace.costs.mean(), rel=1e-5)


def test_many_samples_are_looked_at_here_and_there():
    many = np.repeat([[1.0, 0, 0], [0, 1, 0]], 5000, axis=0)
    net = Network([3, 4, 2], seed=0)
    few = insight.layer_errors(net, many[::5000], [0, 1]).rms
    np.testing.assert_allclose(insight.layer_errors(net, many, np.repeat([0, 1], 5000)).rms, few, rtol=1e-5)


def test_the_experiment_measures_networks_of_each_kind():
    net = Network([3, 6, 9, 2], input_scale=0.5, dtype="float64")
    before = net.theta.copy()
    found = insight.vanishing_gradients(net, X, Y, hidden=["tanh", "relu"], weights=["he_normal", np_ones],
                                        depths=(1, 4), seed=3)
    assert list(found.errors) == [(name, weights, depth) for name in ("tanh", "relu")
                                  for weights in ("he_normal", "np_ones") for depth in (1, 4)]
    own = Network([3, 6, 6, 6, 6, 2], hidden="relu", weights="he_normal", seed=3, input_scale=0.5, dtype="float64")
    assert found.errors["relu", "he_normal", 4].rms.tolist() == insight.layer_errors(own, X, Y).rms.tolist()
    assert (net.theta == before).all()


def np_ones(draw, n_in, n_out):
    return np.ones((n_in, n_out))


def test_sigmoids_lose_the_error_and_relu_keeps_it():
    net = Network([3, 64, 2])
    found = insight.vanishing_gradients(net, X, Y)
    sizes = {key: errors.rms[0] / errors.rms[-1] for key, errors in found.errors.items()}
    assert sizes["sigmoid", "he_normal", 20] < sizes["sigmoid", "he_normal", 5] < 1e-2
    assert sizes["relu", "he_normal", 20] > 1e2 * sizes["relu", "glorot_uniform", 20] > 0
    assert sizes["relu", "he_normal", 20] > 0.05


def test_names_of_classes_and_columns_are_understood():
    import pandas as pd
    net = Network([3, 4, 2])
    net.classes, net.feature_names = ["no", "yes"], ["a", "b", "c"]
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    named = insight.vanishing_gradients(net, frame[["c", "a", "b"]], np.array(["no", "yes"])[Y], depths=[2])
    plain = insight.vanishing_gradients(Network([3, 4, 2]), X, Y, depths=[2])
    assert all(named.errors[key].rms.tolist() == plain.errors[key].rms.tolist() for key in plain.errors)


def test_what_overflows_is_nan_and_what_is_dead_is_0(tmp_path):
    def huge(draw, n_in, n_out):
        return np.full((n_in, n_out), 1e5)

    def dead(draw, n_in, n_out):
        return np.full((n_in, n_out), -1.0)

    found = insight.vanishing_gradients(Network([3, 4, 2]), np.abs(X), Y, hidden=["relu"], weights=[huge, dead],
                                        depths=[12])
    assert np.isnan(found.errors["relu", "huge", 12].rms).all()
    assert found.errors["relu", "dead", 12].rms[0] == 0
    for record in (found, *found.errors.values()):
        assert "nan" in repr(record) or "0" in repr(record)
        record.plot(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000


def test_pictures():
    found = insight.vanishing_gradients(Network([3, 4, 2]), X, Y, depths=[1, 3])
    figure = found.plot()
    assert len(figure.axes) == 9 and len(figure.axes[0].lines) == 2
    assert found.errors["tanh", "he_normal", 3].plot().axes[0].lines[0].get_ydata().size == 4


@pytest.mark.parametrize("change, match", [
    ({"network": Network([3, 2])}, "no hidden layer"), ({"depths": [0]}, "a depth must be at least 1, got 0"),
    ({"hidden": ["sigmod"]}, "did you mean 'sigmoid'"), ({"weights": ["he_norml"]}, "did you mean 'he_normal'"),
    ({"X": X[:, :2]}, "X has 2 features"), ({"y": Y[:3]}, "there are 40 samples"), ({"loss": "mae"}, "nothing")])
def test_what_is_refused(change, match):
    given = {"network": Network([3, 4, 2]), "X": X, "y": Y} | change
    if match == "nothing":
        assert insight.vanishing_gradients(**given).errors
        return
    with pytest.raises(ValueError, match=match):
        insight.vanishing_gradients(**given)


def test_parameters_must_be_finite():
    net = Network([3, 4, 2])
    net.W[1][2, 0] = np.nan
    for function in (insight.layer_errors, insight.vanishing_gradients, insight.sensitivity, insight.gradient_noise,
                     insight.descent_paths, insight.saliency):
        with pytest.raises(ValueError, match=r"theta\[20\] of the network is nan; every parameter must be finite"):
            function(net, X, Y)
    with pytest.raises(ValueError, match=r"theta\[20\]"):
        insight.hebbian_pairs(net, X[0], 1)
    with pytest.raises(TypeError, match="network must be a Network"):
        insight.layer_errors("net", X, Y)


def test_initial_weights_of_the_same_name_are_refused():
    with pytest.raises(ValueError, match="two of the initial weights have the same name"):
        insight.vanishing_gradients(Network([2, 3, 1], output="identity"), [[1.0, 2.0]], [[1.0]],
                                    weights=[lambda *_: np.ones((2, 3)), lambda *_: np.zeros((2, 3))])
