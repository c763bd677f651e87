"""fastbp.insight.page: what it writes. Whether a browser shows it, and finds its numbers equal, tests/interop asks."""

import base64
import json
import re

import numpy as np
import pytest
import scipy.sparse
from rig import DTYPES

import fastbp
from fastbp import Network, Trainer
from fastbp.cli import main
from fastbp.insight import page, trace

EVIL = '</script><script>alert("1" & \'2\')</script><!--'


def written(tmp_path, net, X, y, **settings):
    """The page, and the data in it."""
    path = tmp_path / "net.html"
    page(net, X, y, path, **settings)
    text = path.read_text(encoding="utf-8")
    return text, json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.S)[1])


def numbers(text, dtype):
    return np.frombuffer(base64.b64decode(text), dtype)


def drawn(sizes, output="softmax", dtype="float32", n=7, **settings):
    draw = np.random.default_rng(0)
    net = Network(sizes, hidden="tanh", output=output, dtype=dtype, **settings)
    X = draw.normal(size=(n, sizes[0]))
    return net, X, draw.random((n, sizes[-1])) if output == "identity" else draw.integers(max(2, sizes[-1]), size=n)


@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_are_those_of_the_core(tmp_path, dtype):
    net, X, y = drawn([30, 40, 20, 3], dtype=dtype)
    _, data = written(tmp_path, net, X, y, row=2, batch_size=4)
    seen = trace(net, X[2], int(y[2]))
    for name in ("a", "z", "delta", "sums"):
        for ours, cores in zip(data[name], getattr(seen, name), strict=True):
            assert numbers(ours, dtype).tobytes() == cores.tobytes()
    _, mean = fastbp.cost_and_gradient(net, X[:4], y[:4])
    dW_mean, db_mean = net.views(mean)
    for l, (senders, receivers) in enumerate(zip(data["shown"], data["shown"][1:], strict=False)):
        assert (numbers(data["columns"][l], dtype).reshape(len(receivers), -1) == net.W[l][:, receivers].T).all()
        at = np.ix_(senders, receivers)
        for name, wanted in (("dW", seen.dW), ("mean_dW", dW_mean), ("new_W", seen.updated.W)):
            assert (numbers(data[name][l], dtype).reshape(len(senders), -1) == wanted[l][at]).all()
        assert (numbers(data["mean_db"][l], dtype) == db_mean[l][receivers]).all()
        if l > 0:
            assert (numbers(data["rows"][l], dtype).reshape(len(senders), -1) == net.W[l][senders]).all()
    assert [len(shown) for shown in data["shown"]] == [16, 16, 16, 3] and data["batch"] == [0, 4]
    assert np.abs(seen.delta[0])[data["shown"][1]].min() >= np.sort(np.abs(seen.delta[0]))[-16]


def test_names_cannot_become_code(tmp_path):
    net, X, y = drawn([2, 3, 2])
    net.feature_names, net.classes = [EVIL, "a & b"], [f"{EVIL}x", "'\""]
    text, data = written(tmp_path, net, X, net.classes[y], settings=EVIL)
    assert len(re.findall("<script", text)) == len(re.findall("</script", text)) == 2 and "<!--" not in text
    assert data["names"] == {"inputs": [EVIL, "a & b"], "outputs": [f"{EVIL}x", "'\""]} and data["settings"] == EVIL


def test_nothing_is_asked_of_a_network(tmp_path):
    text, _ = written(tmp_path, *drawn([2, 3, 2]))
    assert not re.search(r"https?:|url\(|@import|src=|href=|fetch\(|XMLHttp|import\(", text)
    assert "default-src 'none'" in text


@pytest.mark.parametrize(("sizes", "dtype", "most"), [
    ([784, 512, 512, 10], "float32", 5e5), ([784, 512, 512, 10], "float64", 8e5), ([20_000, 50, 2], "float64", 3e6),
    ([50] * 60, "float32", 1.5e6), ([2, 2000, 2000, 1000], "float64", 2e6)], ids=str)
def test_the_file_is_small(tmp_path, sizes, dtype, most):
    text, data = written(tmp_path, *drawn(sizes, dtype=dtype))
    assert len(text) < most
    assert all(len(shown) >= min(4, size) for shown, size in zip(data["shown"], sizes, strict=True))


@pytest.mark.parametrize(("sizes", "output", "n"), [([3, 4], "softmax", 5), ([1, 1], "identity", 1),
                                                    ([1, 1, 1], "sigmoid", 1), ([2, 3, 3], "sigmoid", 4),
                                                    ([2, 3], "identity", 2)], ids=str)
def test_small_networks_and_one_sample(tmp_path, sizes, output, n):
    net, X, y = drawn(sizes, output, n=n)
    y = np.eye(3)[y] if output == "sigmoid" and sizes[-1] == 3 else y
    _, data = written(tmp_path, net, X, y, row=None)
    assert data["n"] == n and len(data["worst"]) == n and data["row"] == data["worst"][0]["row"]
    assert (data["confusion"] is None) == (y.ndim == 2)


def test_weights_that_are_nan(tmp_path):
    net, X, y = drawn([2, 3, 2])
    net.W[1][0, 1] = np.nan
    _, data = written(tmp_path, net, X, y)
    assert "W[2][0, 1] = nan" in data["heading"] and data["confusion"] is None and data["cost"] is None


def test_pictures_of_bytes(tmp_path):
    net = Network([64, 5, 2], input_scale=1 / 255)
    X = np.random.default_rng(0).integers(256, size=(9, 64), dtype=np.uint8)
    _, data = written(tmp_path, net, X, np.arange(9) % 2, row=3)
    assert data["side"] == 8 and numbers(data["sample"]["pixels"], np.uint8).tolist() == X[3].tolist()
    assert written(tmp_path, *drawn([64, 5, 2]))[1]["side"] == 0


def test_sparse_samples_are_the_same(tmp_path):
    net, X, y = drawn([12, 5, 2])
    X[X < 0.5] = 0
    assert written(tmp_path, net, scipy.sparse.csr_matrix(X.astype(np.float32)), y)[1]["z"] == written(
        tmp_path, net, X.astype(np.float32), y)[1]["z"]


def test_history_confusion_and_the_network_is_not_changed(tmp_path):
    net, X, y = drawn([2, 8, 2], n=40)
    trainer = Trainer(net, batch_size=8)
    history = trainer.fit(X, y, 2, (X, y))
    before = net.theta.copy()
    _, data = written(tmp_path, net, X, y, history=history, optimizer=trainer.optimizer)
    assert data["curves"]["validation_loss"] == history.validation_loss
    assert data["confusion"] == fastbp.metrics.confusion_matrix(y, net.forward(X)).tolist()
    assert (net.theta == before).all()


@pytest.mark.parametrize(("change", "error", "message"), [
    ({"row": 7}, ValueError, "row must be at most 6"), ({"row": 0.5}, TypeError, "row must be a whole number"),
    ({"batch_size": 0}, ValueError, "batch_size must be at least 1"), ({"y": [0]}, ValueError, "y has shape"),
    ({"X": np.ones((7, 5))}, ValueError, "X has 5 features"), ({"loss": "poisson"}, ValueError, "poisson"),
    ({"network": None}, TypeError, "network"), ({"path": "none/net.html"}, FileNotFoundError, "there is no folder")])
def test_what_does_not_fit_is_refused(tmp_path, change, error, message):
    net, X, y = drawn([2, 3, 2])
    given = {"network": net, "X": X, "y": y, "path": "net.html"} | change
    with pytest.raises(error, match=message):
        page(**given | {"path": tmp_path / given["path"]})
    assert not list(tmp_path.iterdir())


def test_the_command_writes_one(tmp_path, capsys):
    table = tmp_path / "a <b>.csv"
    table.write_text("x,y,kind\n" + "".join(f"{i},{i % 5},{'ab'[i % 2]}\n" for i in range(30)), encoding="utf-8")
    path = tmp_path / "run.html"
    assert main(["train", str(table), "--epochs", "2", "--hidden", "4", "--quiet", "--report", str(path)]) == 0
    text = path.read_text(encoding="utf-8")
    assert "epochs = 2" in text and "a \\u003cb>.csv" in text and "a <b>" not in text
    assert main(["train", str(table), "--quiet", "--report", "-"]) == 2
    assert "name one, such as run.html" in capsys.readouterr().err
    assert main(["train", str(table), "--quiet", "--report", str(table)]) == 2
