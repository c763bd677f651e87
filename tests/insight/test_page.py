"""fastbp.insight.page: what it writes. Whether a browser shows it, and finds its numbers equal, tests/interop asks."""

import base64
import json
import re

import numpy as np
import pytest
import scipy.sparse
from rig import DTYPES

import fastbp
from fastbp import History, Network, Trainer
from fastbp.cli import main
from fastbp.core.plan import NEURONS, SAMPLES, WEIGHTS
from fastbp.insight import Statistics, page, trace
from fastbp.insight.page import _multiply_adds

EVIL = '</script><script>alert("1" & \'2\')</script><!--'


def written(tmp_path, net, X, y, **settings):
    """The page, and the data in it."""
    path = tmp_path / "net.html"
    page(net, X, y, path, **settings)
    text = path.read_text(encoding="utf-8")
    return text, json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.S)[1])


def numbers(text, dtype):
    return np.frombuffer(base64.b64decode(text), dtype)


def drawn(sizes, output="softmax", dtype="float32", n=7, hidden="tanh", **settings):
    draw = np.random.default_rng(0)
    net = Network(sizes, hidden=hidden, output=output, dtype=dtype, **settings)
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


def watched(sizes, epochs, every=1, hidden="tanh", **settings):
    """A trained network, its samples, and the Statistics and history of the training."""
    net, X, y = drawn(sizes, n=40, hidden=hidden)
    statistics = Statistics(every)
    history = Trainer(net, batch_size=10, **settings).fit(X, y, epochs, callbacks=[statistics])
    return (net, X, y), {"statistics": statistics, "history": history}


def test_layers_over_the_training_are_those_of_the_records(tmp_path):
    given, known = watched([3, 6, 4, 2], 90)
    records, data = known["statistics"].records, written(tmp_path, *given, **known)[1]["statistics"]
    steps = [each["step"] for each in records[::3]]
    assert (data["looks"], len(data["steps"]), data["every"]) == (360, 200, 1)
    assert (data["steps"][0], data["steps"][-1]) == (1, 360) and len({*data["steps"]}) == 200
    names = ["delta_rms", "dW_rms", "update_ratio", "saturated"]
    assert len(data["panels"]) == len(names)
    for name, lines in zip(names, data["panels"].values(), strict=True):
        for l, line in enumerate(lines):
            wanted = [records[3 * steps.index(step) + l][name] for step in data["steps"]]
            wanted = [None if np.isnan(v) else v for v in wanted]
            assert line == (wanted if None in wanted else pytest.approx(wanted, rel=6e-4))
    assert data["panels"]["share of saturated or dead neurons"][2] == [None] * 200  # of outputs it is not known


def test_dead_neurons_and_layers_without_an_error(tmp_path):
    given, known = watched([3, 6, 4, 2], 2, every=3, hidden="relu", frozen=[0])
    data = written(tmp_path, *given, **known, frozen=[0])[1]["statistics"]
    assert data["steps"] == [3, 6] and data["every"] == 3
    assert data["panels"]["rms of delta"][0] == [None, None] and data["panels"]["rms of delta"][1][0] > 0
    dead = [each["dead"] for each in known["statistics"].records]
    assert data["panels"]["share of saturated or dead neurons"] == [dead[0::3], dead[1::3], [None, None]]


def test_without_a_training_nothing_of_it_is_shown(tmp_path):
    given, known = watched([3, 6, 2], 2, every=100)
    _, data = written(tmp_path, *given)
    assert data["statistics"] is data["speed"] is None
    _, data = written(tmp_path, *given, **known | {"history": History([0.5])})  # neither looks nor times
    assert data["statistics"] is data["speed"] is None
    for seconds in ([0.0], [float("nan")]):
        history = History([0.5], seconds=seconds, samples=[40])
        assert written(tmp_path, *given, history=history)[1]["speed"] is None
    sparse = given[0], scipy.sparse.csr_matrix(given[1].astype(np.float32)), given[2]
    assert written(tmp_path, *sparse, history=known["history"])[1]["speed"] is None


@pytest.mark.parametrize("frozen", [(), (0,), (1,), (2,), (0, 1), (1, 2)], ids=str)
@pytest.mark.parametrize(("sizes", "batch_size", "threads"), [((3, 4, 5, 2), 7, 1), ((500, 600, 20, 3), 64, 2)])
def test_the_multiply_adds_are_those_of_the_plan(sizes, batch_size, threads, frozen):
    weights, total = np.multiply(sizes[:-1], sizes[1:]), 0
    plan = Trainer(Network(sizes), batch_size=batch_size, threads=threads, frozen=frozen).plan()
    for stage in plan.stages:
        layers = range(stage.begin, stage.end)
        total += weights[layers].sum() if stage.kind in (SAMPLES, NEURONS) else 0
        total += sum(weights[l] for l in layers if l not in frozen) if stage.kind == WEIGHTS else 0
        total += weights[stage.backward_to + 1 : stage.backward_from + 2].sum()
    assert _multiply_adds(sizes, frozen) == total


@pytest.mark.parametrize("threads", [1, 2])
def test_speed_is_compared_with_the_loop_of_as_many_threads(tmp_path, threads):
    given, _ = watched([3, 6, 2], 1)
    history = History([0.5, 0.4], seconds=[0.5, 1.5], samples=[4000, 5000])
    speed = written(tmp_path, *given, history=history, threads=threads, frozen=[0])[1]["speed"]
    assert speed["training"] == (18 + 12 + 12) * 9000 / 2 and speed["threads"] == threads
    assert 1e8 < speed["loop"] < 1e14 and 0 < speed["ran"] < 1.1


@pytest.mark.parametrize(("change", "error", "message"), [
    ({"statistics": [1]}, TypeError, r"statistics must be an insight.Statistics, got \[1\]"),
    ({"frozen": [2]}, ValueError, "frozen names layer 2"), ({"threads": 0}, ValueError, "threads must be at least 1"),
    ({"statistics": "another"}, ValueError, "statistics are those of another network"),
    ({"row": 7}, ValueError, "row must be at most 6"), ({"row": 0.5}, TypeError, "row must be a whole number"),
    ({"batch_size": 0}, ValueError, "batch_size must be at least 1"), ({"y": [0]}, ValueError, "y has shape"),
    ({"X": np.ones((7, 5))}, ValueError, "X has 5 features"), ({"loss": "poisson"}, ValueError, "poisson"),
    ({"network": None}, TypeError, "network"), ({"path": "none/net.html"}, FileNotFoundError, "there is no folder")])
def test_what_does_not_fit_is_refused(tmp_path, change, error, message):
    net, X, y = drawn([2, 3, 2])
    if change.get("statistics") == "another":
        change = watched([3, 3, 2, 2], 1)[1]
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
