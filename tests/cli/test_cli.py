"""The command `fastbp`: what it prints and writes, and one line with status 2 for whatever the user can mend.

A process of its own costs most of a second, so only what depends on one gets one (`run`); the rest is called (`call`).
"""

import csv
import gzip
import json
import multiprocessing
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest
from safetensors.numpy import load_file

import fastbp
from fastbp import SGD, Adam, AdamW, Network, Trainer, losses
from fastbp.cli import main
from fastbp.data import load, split
from fastbp.network import HIDDEN_ACTIVATIONS
from fastbp.optimizers import OPTIMIZERS
from fastbp.schedules import Cosine, Linear, WarmUp
from fastbp.wording import of_command

try:
    import resource
except ImportError:
    resource = None

KEYS = ["dataset", "n_train", "n_test", "layer_sizes", "n_parameters", "epochs", "batch_size", "seed", "threads",
        "load_seconds", "compile_seconds", "train_seconds", "samples_per_second", "train_loss", "test_loss",
        "test_accuracy", "final_test_loss", "final_test_accuracy", "final_train_loss", "final_train_accuracy",
        "validation_loss", "validation_accuracy", "metrics", "stopped"]
COMMAND = [sys.executable, "-m", "fastbp"]
QUICK = ["--batch-size", "10", "--hidden", "8"]
FULL = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no device that is always full")
POSIX = pytest.mark.skipif(os.name != "posix", reason="streams and signals are those of POSIX")


def environment(**more):
    """Ours, but output is held back as it is by default."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"} | more


def run(*arguments, **settings):
    """A process of its own."""
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | settings
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, text=True, timeout=120, env=environment(), check=False, **settings)


@pytest.fixture
def call(capfd):
    """Like `run`, in this process."""

    def called(*arguments):
        try:
            status = main([*map(str, arguments)])
        except SystemExit as end:
            status = end.code
        return subprocess.CompletedProcess(arguments, status, *capfd.readouterr())

    return called


def ok(done):
    """Standard output of a run that succeeded and had nothing to complain about."""
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# What only users of Python know, and numbers of errors.
CODE = re.compile(r"\b(None|True|False|numpy|pandas|errno|keyword|literal|dict)\b|\b(int|float)\(|Python int"
                  r"|\w\.\w+\(|\w\(\w+=|\[Errno"
                  r"|\b(network|trainer|fastbp)\.[a-z]|=\[|\bfit\(|validation_data")


def refused(done, message):
    """Status 2 and exactly one line, no traceback, no code; returns standard output."""
    assert done.returncode == 2
    assert re.search(f"^fastbp: .*{message}", done.stderr) and done.stderr.count("\n") == 1, done.stderr
    assert not CODE.search(done.stderr), done.stderr
    return done.stdout


def idx_bytes(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data sets and files to run the command on; machine code is in the cache, so that it is quiet about that."""
    for threads in (1, 2):
        Trainer(Network([2, 2]), threads=threads).compile()
    folder = tmp_path_factory.mktemp("cli")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 4))
    y = np.argmax(x[:, :3], axis=1)
    values = x @ [1.0, -2.0, 0.5, 0.0]
    sets = {
        "labels": {"x_train": x[:50], "y_train": y[:50], "x_test": x[50:], "y_test": y[50:]},
        "train-only": {"x_train": x, "y_train": y},
        "values": {"x_train": x[:50], "y_train": values[:50], "x_test": x[50:], "y_test": values[50:]},
        "counts": {"x_train": x, "y_train": rng.poisson(np.exp(x[:, 0]))},
        "whole-floats": {"x_train": x, "y_train": y.astype(float)},
        "rows": {"x_train": x, "y_train": x[:, :2] / 2},
        "features": {"x_train": x[:, :3], "y_train": y},
        "words": {"x_train": x, "y_train": np.array(["a", "b", "c"])[y]},
        "negative": {"x_train": x, "y_train": y - 1},
        "many-classes": {"x_train": x, "y_train": y * 2**40},
        "nan": {"x_train": x * np.nan, "y_train": y},
        "nan-values": {"x_train": x, "y_train": values * np.nan},
        "nan-test": {"x_train": x, "y_train": y, "x_test": x, "y_test": y * np.nan},
        "infinite-test": {"x_train": x, "y_train": y, "x_test": x, "y_test": y + np.inf},
        "bytes": {"x_train": x, "y_train": y.astype("S")},
        "lengths": {"x_train": x, "y_train": y[:5]},
        "far": {"x_train": x * 100 + 1e5, "y_train": y},
        "nothing": {"a": x},
    }
    for name, arrays in sets.items():
        np.savez(folder / f"{name}.npz", **arrays)
    for name, text in (("broken", "epochs = = 3"), ("unknown", "epoch = 3"), ("table", "[eta]\nx = 1"),
                       ("twice", "batch-size = 7\nbatch_size = 9"), ("false", "hidden = false"), ("flag", "quiet = 1"),
                       ("kind", "epochs = 1.5"), ("name", "weights = 'gauss'"), ("deep", "eta = " + "[" * 5000)):
        (folder / f"{name}.toml").write_text(text)
    (folder / "corrupt.npz").write_bytes((folder / "labels.npz").read_bytes()[:1000])
    (folder / "corrupt.safetensors").write_bytes(b"no network")
    images = np.clip(x * 40 + 128, 0, 255).astype(np.uint8).reshape(80, 2, 2)
    (folder / "idx").mkdir()
    for part, rows in (("train", slice(60)), ("t10k", slice(60, None))):
        (folder / "idx" / f"{part}-images-idx3-ubyte").write_bytes(idx_bytes(images[rows]))
        labels = gzip.compress(idx_bytes(y[rows].astype(np.uint8)))
        (folder / "idx" / f"{part}-labels-idx1-ubyte.gz").write_bytes(labels)
    (folder / "damaged-idx").mkdir()
    for file in (folder / "idx").iterdir():
        (folder / "damaged-idx" / file.name).write_bytes(file.read_bytes()[:-3])
    (folder / "empty").mkdir()
    net = Network([4, 8, 3], seed=1)
    Trainer(net, optimizer=Adam(0.02), batch_size=10).fit(x[:50], y[:50], 30)
    net.save(folder / "net.safetensors")
    return folder


@pytest.fixture
def here(folder, tmp_path, monkeypatch):
    """The current folder: an empty one, with links to the data sets."""
    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path, target_is_directory=path.is_dir())
    monkeypatch.chdir(tmp_path)
    return tmp_path


# Training


def test_train_on_labels(here):
    out = ok(run("train", "labels.npz", *QUICK, "--epochs", 3, "--json", "result.json"))
    lines = out.splitlines()
    assert lines[0] == "labels.npz: 50 training and 30 test samples; 4-8-3, 67 parameters, cross_entropy"
    assert [line.split()[:2] for line in lines[1:4]] == [["epoch", "1"], ["epoch", "2"], ["epoch", "3"]]
    epoch = r"epoch  \d   train loss \d\.\d{4}   test loss \d\.\d{4}   test accuracy \d?\d\d\.\d\d%"
    assert all(re.fullmatch(epoch, line) for line in lines[1:4])
    assert re.fullmatch(r"trained in \d+\.\d\d s \([\d,]+ samples/s, 1 thread\); loading took \d+\.\d\d s, "
                        r"compiling \d+\.\d\d s", lines[4])
    assert len(lines) == 5

    result = json.loads((here / "result.json").read_text())
    assert list(result) == KEYS
    expected = {"dataset": "labels.npz", "n_train": 50, "n_test": 30, "layer_sizes": [4, 8, 3], "n_parameters": 67,
                "epochs": 3, "batch_size": 10, "seed": 0, "threads": 1}  # fmt: skip
    assert {name: result[name] for name in expected} == expected
    for name in ("train_loss", "test_loss", "test_accuracy"):
        assert len(result[name]) == 3
        assert all(isinstance(value, float) for value in result[name])
    assert result["final_test_accuracy"] == result["test_accuracy"][-1]
    assert min(result[name] for name in KEYS if name.endswith("seconds")) >= 0
    assert result["samples_per_second"] == pytest.approx(150 / result["train_seconds"])
    assert f"train loss {result['train_loss'][2]:.4f}   test loss {result['test_loss'][2]:.4f}" in lines[3]


def test_early_stopping(here):
    """The test samples are looked at once, at the end; the saved network is the best."""
    result_of = lambda: json.loads((here / "result.json").read_text())  # noqa: E731
    out = ok(run("train", "labels.npz", *QUICK, "--epochs", 400, "--eta", 1, "--schedule", "constant",
                 "--early-stopping", 3, "--log", "log.csv", "--json", "result.json", "--save", "net"))
    result, x, y = result_of(), *load("labels.npz")[2:]
    assert result["stopped"] == "validation_loss has not improved for 3 epochs"
    assert 3 < result["epochs"] == len(result["validation_loss"]) < 400
    assert len(result["test_loss"]) == len(result["test_accuracy"]) == 1
    assert result["final_test_accuracy"] == np.mean(Network.load("net").predict(x) == y)
    lines = out.splitlines()
    assert f"validation loss {result['validation_loss'][0]:.4f}   validation accuracy" in lines[1]
    assert f"stopped: {result['stopped']}" in lines
    loss, accuracy = result["test_loss"][0], result["final_test_accuracy"]
    assert f"at the end: test loss {loss:.4f}   test accuracy {accuracy:.2%}" in lines
    with open("log.csv", newline="") as file:
        assert [float(row["validation_loss"]) for row in csv.DictReader(file)] == result["validation_loss"]


@pytest.mark.parametrize(("data", "options", "output", "loss"), [
    ("labels.npz", "--label-smoothing 0.2", "softmax", losses.CrossEntropy(0.2)),
    ("labels.npz", "--loss binary_cross_entropy", "sigmoid", losses.BinaryCrossEntropy()),
    ("rows.npz", "--loss huber", "identity", losses.Huber()),
    ("rows.npz", "--loss cosine", "identity", losses.Cosine()),
    ("counts.npz", "--loss poisson", "softplus", losses.Poisson()),
    ("labels.npz", "--loss quadratic", "identity", losses.Quadratic()),
    ("labels.npz", "--loss huber --task classes", "softmax", losses.Huber()),
])  # fmt: skip
def test_losses_and_their_outputs(here, call, data, options, output, loss):
    ok(call("train", data, "--save", "net", "--quiet", *QUICK, *options.split(), "--eta", 0.01))
    x, y, _, _ = load(data)
    n_out = y.shape[1] if y.ndim > 1 else 1 if output in ("identity", "softplus") else 3
    net = Network([4, 8, n_out], output=output)
    Trainer(net, loss, SGD(0.01, 0.9, True), 10, schedule="linear").fit(x, y, 5)
    assert Network.load("net").theta.tobytes() == net.theta.tobytes()


def test_a_limit_of_seconds(here):
    result = json.loads(ok(run("train", "train-only.npz", *QUICK, "--epochs", 10**9, "--max-seconds", 0.2,
                               "--log", "log.jsonl", "--json", "-")))
    assert result["stopped"] == "the time budget of 0.2 s is used up"
    assert result["train_seconds"] < 5
    assert len((here / "log.jsonl").read_text().splitlines()) == result["epochs"]


def test_json_on_standard_output_is_alone_there(here):
    result = json.loads(ok(run("train", "train-only.npz", *QUICK, "--json", "-")))
    assert list(result) == KEYS
    assert result["n_test"] == 0
    assert result["test_loss"] == result["test_accuracy"] == []
    assert result["final_test_accuracy"] is None
    assert len(result["train_loss"]) == result["epochs"] == 5


def test_quiet(here):
    """Nothing but errors: no line, no note, no warning."""
    np.savez("one-class.npz", x_train=np.zeros((6, 4)), y_train=np.zeros(6, int))
    assert ok(run("train", "one-class.npz", "--quiet", "--epochs", 1)) == ""
    assert ok(run("train", "labels.npz", *QUICK, "--quiet", "--save", "net", "--json", "result.json")) == ""
    assert (here / "net").is_file()
    assert list(json.loads((here / "result.json").read_text())) == KEYS


def test_without_test_samples(here, call):
    lines = ok(call("train", "train-only.npz", *QUICK, "--epochs", 1)).splitlines()
    assert lines[0] == "train-only.npz: 80 training and no test samples; 4-8-3, 67 parameters, cross_entropy"
    assert re.fullmatch(r"epoch  1   train loss \d\.\d{4}", lines[1])


def test_idx_folder(here, call):
    done = call("train", "idx", "--batch-size", 10, "--epochs", 40, "--hidden", 16, "--json", "-")
    result = json.loads(ok(done))
    assert result["dataset"] == "idx"
    assert (result["n_train"], result["n_test"], result["layer_sizes"]) == (60, 20, [4, 16, 3])
    assert result["final_test_accuracy"] >= 0.8


def test_train_on_values(here, call):
    done = call("train", "values.npz", "--batch-size", 10, "--epochs", 40, "--json", "result.json", "--save", "net")
    out = ok(done)
    result = json.loads((here / "result.json").read_text())
    assert list(result) == KEYS
    assert result["layer_sizes"] == [4, 128, 1]
    assert result["test_accuracy"] == []
    assert result["final_test_accuracy"] is None
    assert result["test_loss"][-1] < 0.05 * result["test_loss"][0]
    assert re.fullmatch(r"epoch 40   train loss \d\.\d{4}   test loss \d\.\d{4}", out.splitlines()[40])
    assert Network.load("net").activations == ("relu", "identity")


# Options; and of the network that they mean the hidden layers and their activation, the optimiser, the schedule, the
# seed, the epochs and the batch size.
CHOICES = {
    "nothing hidden": ("--hidden= --momentum 0.5", [], "relu", SGD(0.2, 0.5, True), "linear", 0, 5, 128),
    "no momentum": ("--hidden 5 --momentum 0 --batch-size 7", [5], "relu", SGD(0.2), "linear", 0, 5, 7),
    "sgd": ("--optimizer sgd --eta 0.05 --activation sigmoid --epochs 2",
            [128], "sigmoid", SGD(0.05, 0.9, True), "linear", 0, 2, 128),
    "adam": ("--hidden 64,32 --activation tanh --optimizer adam --schedule constant --seed 3 --threads 2 "
             "--batch-size 9", [64, 32], "tanh", Adam(0.001), None, 3, 5, 9),
    "one cycle of adamw": ("--optimizer adamw --weight-decay 0.2 --l1 0.01 --schedule one_cycle",
                           [128], "relu", AdamW(0.001, weight_decay=0.2, l1=0.01), "one_cycle", 0, 5, 128),
    "warm-up": ("--hidden 3 --warm-up 0.3 --schedule cosine", [3], "relu", SGD(0.2, 0.9, True), WarmUp(0.3, Cosine()),
                0, 5, 128),
    "another warm-up": ("--hidden 3 --warm-up 0.3", [3], "relu", SGD(0.2, 0.9, True), WarmUp(0.3, Linear()), 0, 5, 128),
    "rate of adam": ("--hidden 3 --optimizer adam --eta 0.03", [3], "relu", Adam(0.03), "constant", 0, 5, 128),
    "mish": ("--hidden 3 --activation mish", [3], "mish", SGD(0.2, 0.9, True), "linear", 0, 5, 128),
}  # fmt: skip


@pytest.mark.parametrize("choice", CHOICES)
def test_options_mean_what_they_mean_in_python(here, call, choice):
    """The saved network is to the bit the one that the same settings give in Python."""
    options, hidden, activation, optimizer, schedule, seed, epochs, batch_size = CHOICES[choice]
    done = call("train", "train-only.npz", "--save", "net", "--quiet", *options.split())
    ok(done)
    x, y, _, _ = load("train-only.npz")
    net = Network([4, *hidden, 3], activation, "softmax", seed=seed)
    Trainer(net, None, optimizer, batch_size, seed, schedule=schedule).fit(x, y, epochs)
    saved = Network.load("net")
    assert repr(saved) == repr(net)
    assert saved.theta.tobytes() == net.theta.tobytes()


def test_initial_weights(here, call):
    ok(call("train", "train-only.npz", "--save", "net", "--quiet", *QUICK, "--weights", "orthogonal"))
    x, y, _, _ = load("train-only.npz")
    net = Network([4, 8, 3], weights="orthogonal")
    Trainer(net, None, SGD(0.2, 0.9, True), 10, schedule="linear").fit(x, y, 5)
    assert Network.load("net").theta.tobytes() == net.theta.tobytes()


def test_class_weight(here, call):
    ok(call("train", "train-only.npz", "--save", "net", "--quiet", *QUICK, "--class-weight", "balanced"))
    x, y, _, _ = load("train-only.npz")
    net = Network([4, 8, 3])
    Trainer(net, None, SGD(0.2, 0.9, True), 10, schedule="linear").fit(x, y, 5, class_weight="balanced")
    assert Network.load("net").theta.tobytes() == net.theta.tobytes()


@pytest.mark.parametrize(("text", "rates"), [("0.3", 0.3), ("0.1,0.4", [0.1, 0.4])])
def test_dropout(here, call, text, rates):
    ok(call("train", "train-only.npz", "--save", "net", "--quiet", *QUICK, "--dropout", text))
    x, y, _, _ = load("train-only.npz")
    net = Network([4, 8, 3])
    Trainer(net, None, SGD(0.2, 0.9, True), 10, schedule="linear", dropout=rates).fit(x, y, 5)
    assert Network.load("net").theta.tobytes() == net.theta.tobytes()


TRAINED = {
    "everything": (
        "--optimizer adamw:beta2=0.99,epsilon=1e-6 --eta 0.01 --schedule cosine:cycles=2 --noise 0.1 --clip-norm 0.5 "
        "--max-norm 2 --ema 0.9 --activation tanh,gelu --hidden 8,6 --loss cross_entropy:label_smoothing=0.1",
        lambda: Network([4, 8, 6, 3], ["tanh", "gelu"]),
        dict(loss=losses.CrossEntropy(0.1), optimizer=AdamW(0.01, beta2=0.99, epsilon=1e-6), schedule=Cosine(cycles=2),
             noise=0.1, clip_norm=0.5, max_norm=2.0, ema=0.9)),
    "values": ("--clip-value 0.01 --freeze 0 --optimizer sgd:momentum=0", lambda: Network([4, 8, 3]),
               dict(optimizer=SGD(0.2), schedule="linear", clip_value=0.01, frozen=[0])),
}


@pytest.mark.parametrize("case", TRAINED)
def test_options_of_the_trainer(here, call, case):
    options, network, settings = TRAINED[case]
    ok(call("train", "train-only.npz", "--save", "net", "--quiet", *QUICK, *options.split()))
    x, y, _, _ = load("train-only.npz")
    net = network()
    Trainer(net, **{"batch_size": 10} | settings).fit(x, y, 5)
    assert Network.load("net").theta.tobytes() == net.theta.tobytes()


def test_what_is_watched(here, call):
    """Metrics are printed and stop the training; SWA, plateaus and TensorBoard do what they do in Python."""
    done = ok(call("train", "labels.npz", *QUICK, "--epochs", "50", "--metrics", "f1,log_loss", "--watch", "f1",
                   "--stop-at", "0.5", "--reduce-on-plateau", "3", "--swa", "0.5", "--tensorboard", "board",
                   "--json", "result.json"))
    assert re.search(r"f1 0\.\d+   log_loss \d", done) and "stopped: f1 has reached 0." in done
    result = json.loads((here / "result.json").read_text())
    assert result["metrics"]["f1"][-1] >= 0.5 > max([0, *result["metrics"]["f1"][:-1]])
    assert len(list((here / "board").iterdir())) == 1


def test_a_saved_network_has_its_options_beside_it(here, call, monkeypatch):
    """With which the training is repeated to the bit, from anywhere; what is said on the command line comes first."""
    ok(call("train", "labels.npz", "--save", "model.safetensors", "--quiet", "--hidden", "8,5", "--batch-size", "9",
            "--epochs", "3", "--dropout", "0.1,0.2,0.3", "--optimizer", "adam:beta2=0.9", "--class-weight", "balanced",
            "--validation-fraction", "0.25", "--metrics", "f1", "--seed", "4", "--log", "log.csv"))
    text = (here / "model.toml").read_text()
    assert 'optimizer = "adam:beta2=0.9"' in text and "hidden = [8, 5]" in text and "log" not in text
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    ok(call("train", "--config", "../model.toml", "--save", "again.safetensors", "--quiet"))
    first, again = Network.load("../model.safetensors"), Network.load("again.safetensors")
    assert first.theta.tobytes() == again.theta.tobytes()
    assert (here / "elsewhere" / "again.toml").read_text() == text
    ok(call("train", "--config", "../model.toml", "--seed", "5", "--save", "other", "--quiet"))
    other = Network.load("other")
    assert repr(other) == repr(first) and other.theta.tobytes() != first.theta.tobytes()
    assert "seed = 5" in (here / "elsewhere" / "other.toml").read_text()


def test_a_report_looks_at_the_training_and_changes_no_bit(here, call):
    options = [*QUICK, "--epochs", 30, "--freeze", 0, "--threads", 2, "--quiet"]
    ok(call("train", "rows.npz", *options, "--save", "plain"))
    ok(call("train", "rows.npz", *options, "--save", "watched", "--report", "run.html", "--json", "run.json"))
    assert Path("plain").read_bytes() == Path("watched").read_bytes()
    seen = json.loads(re.search(r'application/json">(.*?)</script>', Path("run.html").read_text(), re.S)[1])
    steps = 30 * -(-len(load("rows.npz")[0]) // 10)
    assert 100 <= seen["statistics"]["looks"] <= 200 and steps // 100 == seen["statistics"]["every"]
    assert seen["statistics"]["panels"]["rms of delta"][0] == [None] * len(seen["statistics"]["steps"])  # frozen
    result = json.loads(Path("run.json").read_text())
    n_in, hidden, n_out = result["layer_sizes"]  # of the first layer only the forward pass, of the second no backward
    assert seen["speed"]["training"] == pytest.approx(
        (n_in * hidden + 2 * hidden * n_out) * result["samples_per_second"])
    assert seen["speed"]["threads"] == 2 and seen["speed"]["loop"] > 0


def test_init_from(here, call):
    """The layers whose shapes agree; those that are frozen stay what they were."""
    ok(call("train", "labels.npz", "--save", "first", "--quiet", *QUICK))
    ok(call("train", "rows.npz", "--save", "second", "--quiet", *QUICK, "--init-from", "first", "--freeze", "0"))
    first, second = Network.load("first"), Network.load("second")
    assert (first.W[0] == second.W[0]).all() and (first.b[0] == second.b[0]).all() and second.layer_sizes == (4, 8, 2)


def test_find_eta(here, call):
    out = ok(call("find-eta", "labels.npz", *QUICK, "--optimizer", "adam", "--plot", "range.svg"))
    assert re.fullmatch(r"eta \S+: the loss falls with it; .*, in \d+ steps with etas from 1e-05 to .+\n", out)
    assert (here / "range.svg").read_text().startswith("<?xml")
    refused(call("find-eta", "labels.npz", "--plot", "missing/a.svg"), "cannot write missing/a.svg")
    refused(call("find-eta", "far.npz", *QUICK, "--plot", "far.svg"),
            "no eta helped: in 200 steps with eta .*than the .* of a constant prediction")
    assert (here / "far.svg").read_text().startswith("<?xml")
    refused(call("find-eta"), "name the DATA to train on")
    ok(call("train", "labels.npz", "--quiet", "--save", "net", *QUICK, "--early-stopping", "3"))
    assert ok(call("find-eta", "--config", "net.toml")).startswith("eta ")


def test_resume(here, call):
    """What a limit of seconds has cut in two ends as what was left alone."""
    command = ["train", "labels.npz", *QUICK, "--epochs", "300", "--quiet", "--early-stopping", "250"]
    ok(call(*command, "--save", "whole"))
    part = [*command, "--save", "part", "--checkpoint", "run", "--checkpoint-seconds", "0", "--resume"]
    ok(call(*part, "--max-seconds", "0.05", "--json", "first.json"))
    assert "time budget" in json.loads((here / "first.json").read_text())["stopped"]
    done = json.loads((here / "first.json").read_text())["epochs"]
    lines = ok(call(*[word for word in part if word != "--quiet"], "--max-seconds", "100")).splitlines()
    assert re.fullmatch(rf"resumed after epoch ({done - 1}|{done}) of 300, step [\d,]+, from run/step-\d+.safetensors",
                        lines[1]) and lines[2].startswith("epoch ")
    assert Network.load("part").theta.tobytes() == Network.load("whole").theta.tobytes()
    assert refused(call(*command, "--checkpoint", "run"), "run holds checkpoints of a fit; go on from them") is not None
    refused(call(*part, "--seed", "1"), "run/step-.* is of another fit: seed is '0' there, '1' here")


def test_nothing_to_resume(here, call):
    """In a folder without checkpoints a training begins anew, and says so; without --resume there is nothing to say."""
    options = ["train", "labels.npz", *QUICK, "--epochs", 2, "--checkpoint"]
    lines = ok(call(*options, "run", "--resume")).splitlines()
    assert lines[1] == "nothing to resume in run: the training begins with epoch 1"
    again = ok(call(*options, "run", "--resume")).splitlines()
    assert re.fullmatch(r"resumed after epoch 2 of 2, step 10, from run/step-0+10.safetensors", again[1])
    assert "resume" not in ok(call(*options, "other"))


@pytest.mark.parametrize("optimizer", [None, "sgd", "adam"])
@pytest.mark.parametrize(("data", "n_out", "output"), [
    ("train-only.npz", 3, "softmax"), ("rows.npz", 2, "identity"), ("values.npz", 1, "identity"),
])  # fmt: skip
@pytest.mark.filterwarnings("ignore::fastbp.TrainingWarning")  # adam at its own rate learns little in five epochs
def test_defaults_are_those_of_python(here, call, data, n_out, output, optimizer):
    ok(call("train", data, "--save", "net", "--quiet", *(["--optimizer", optimizer] if optimizer else [])))
    x, y, _, _ = load(data)
    net = Network([4, 128, n_out], output=output)
    Trainer(net, optimizer=optimizer).fit(x, y)
    assert Network.load("net").theta.tobytes() == net.theta.tobytes()


def test_default_rate_of_values(here, call):
    ok(call("train", "rows.npz", "--save", "net", "--quiet", *QUICK, "--epochs", 2))
    x, y, _, _ = load("rows.npz")
    net = Network([4, 8, 2], output="identity")
    Trainer(net, "quadratic", SGD(0.01, 0.9, True), 10, schedule="linear").fit(x, y, 2)
    assert Network.load("net").theta.tobytes() == net.theta.tobytes()

ENDS = ["", "--swa .2", "--swa .2 --validation-fraction .25", "--ema .9", "--early-stopping 1 --eta 1"]


@pytest.mark.parametrize("options", ENDS)
def test_what_is_tested_is_what_is_saved(here, call, options):
    """Whatever the network ends with: its mean, its best parameters or the last ones."""
    out = ok(call("train", "labels.npz", *QUICK, "--epochs", 30, "--save", "net", "--json", "result.json",
                  *options.split()))
    result = json.loads((here / "result.json").read_text())
    x, y = load("labels.npz")[2:]
    loss, accuracy = Trainer(Network.load("net")).evaluate(x, y)
    assert (result["final_test_loss"], result["final_test_accuracy"]) == (loss, accuracy)
    assert json.loads(ok(call("predict", "net", "labels.npz", "--json", "-")))["accuracy"] == accuracy
    last_epoch = result["test_loss"][-1] == loss and not result["validation_loss"]
    assert (f"at the end: test loss {loss:.4f}   test accuracy {accuracy:.2%}\n" in out) == (not last_epoch)
    assert last_epoch == (options in ("", "--ema .9"))


def test_training_accuracy_without_test_samples(here, call):
    out = ok(call("train", "train-only.npz", *QUICK, "--save", "net", "--json", "result.json"))
    x, y, _, _ = load("train-only.npz")
    loss, accuracy = Trainer(Network.load("net")).evaluate(x, y)
    assert f"at the end: train loss {loss:.4f}   train accuracy {accuracy:.2%}\n" in out
    result = json.loads((here / "result.json").read_text())
    assert (result["final_train_loss"], result["final_train_accuracy"]) == (loss, accuracy)
    assert result["final_test_loss"] is None and result["final_test_accuracy"] is None


@pytest.mark.filterwarnings("ignore::fastbp.TrainingWarning")
def test_absurd_and_tiny_losses_are_readable(here, call):
    x, y, _, _ = load("rows.npz")
    np.savez("far.npz", x_train=x, y_train=y * 1e6)
    np.savez("near.npz", x_train=x * 1e-5, y_train=y * 1e-5)
    for name in ("far", "near"):
        out = ok(call("train", f"{name}.npz", *QUICK, "--json", "result.json", "--epochs", 1, "--eta", "1e-9"))
        loss = json.loads((here / "result.json").read_text())["train_loss"][0]
        assert f"epoch  1   train loss {loss:.6g}\n" in out and len(f"{loss:.6g}") < 12


@pytest.mark.parametrize("scale", [0.5, None])
def test_input_scale(here, call, scale):
    """Of images of bytes it is 1/255, of other files 1, unless it is given; --config keeps what was given."""
    given = [] if scale is None else ["--input-scale", scale]
    for data, own in (("idx", 1 / 255), ("labels.npz", 1.0)):
        ok(call("train", data, *QUICK, *given, "--save", "net", "--quiet"))
        ok(call("train", "--config", "net.toml", "--save", "again", "--quiet"))
        for name in ("net", "again"):
            assert Network.load(name).input_scale == (own if scale is None else scale)
        assert Network.load("net").theta.tobytes() == Network.load("again").theta.tobytes()


def test_the_same_targets_in_other_forms(here, call):
    """A column is a vector; what is stored as floats is asked for, and then the same classes."""
    x, y, _, _ = load("train-only.npz")
    thetas = []
    for i, (form, given) in enumerate([(y, []), (y[:, np.newaxis], []), (y.astype(np.float32), ["--task", "classes"]),
                                       (y.astype(np.uint8), ["--loss", "cross_entropy"]),
                                       (y.astype(float)[:, np.newaxis], ["--loss", "cross_entropy"])]):
        np.savez(f"{i}.npz", x_train=x, y_train=form)
        ok(call("train", f"{i}.npz", *QUICK, *given, "--save", "net", "--quiet"))
        thetas.append(Network.load("net").theta.tobytes())
    assert len(set(thetas)) == 1
    ok(call("train", "0.npz", *QUICK, "--task", "values", "--save", "net", "--quiet"))
    assert Network.load("net").activations[-1] == "identity" and Network.load("net").layer_sizes[-1] == 1


# Files


OVERWRITING = {
    "train copy.npz --save copy.npz": "--save copy.npz is the same file as DATA copy.npz; name another",
    "train copy.npz --json ./copy.npz": "--json copy.npz is the same file as DATA",
    "train copy.npz --log link.npz": "--log link.npz is the same file as DATA",
    "train copy.npz --save hard.npz": "--save hard.npz is the same file as DATA",
    "train copies --save copies/t10k-images-idx3-ubyte": "--save .* is the same file as DATA copies/t10k-images",
    "train copy.npz --save net --json net": "--json net is the same file as --save net",
    "train copy.npz --json new --log ./new": "--log new is the same file as --json new",
    "train copy.npz --save net --json net.toml": "the options beside --save, net.toml is the same file as --json",
    "train copy.npz --config net.toml --save net": "the options beside --save, net.toml is the same file as --config",
    "train copy.npz --init-from m.st --save m.st": "--save m.st is the same file as --init-from m.st",
    "train copy.npz --save run --checkpoint run": "--save run is kept for checkpoints by --checkpoint run",
    "train copy.npz --save run/step-1.safetensors --checkpoint run": "--save .* is kept for checkpoints",
    "train copy.npz --log run/.lock --checkpoint run": "--log .* is kept for checkpoints",
    "train copy.npz --log board --tensorboard board": "--log board is the same file as --tensorboard board",
    "find-eta copy.npz --plot copy.npz": "--plot copy.npz is the same file as DATA",
    "predict m.st copy.npz --out m.st": "--out m.st is the same file as MODEL m.st",
    "predict m.st copy.npz --json copy.npz": "--json copy.npz is the same file as DATA",
    "predict m.st copy.npz --json new --out new": "--out new is the same file as --json new",
    "predict m.st copy.npz --json - --out -": "--json and --out cannot both be standard output",
    "predict m.st copy.npz --json - --proba": "--json and --out cannot both be standard output",
}


@pytest.mark.parametrize("command", OVERWRITING)
def test_nothing_is_written_over_what_is_read_or_written(here, call, command):
    shutil.copy("labels.npz", "copy.npz")
    shutil.copy("net.safetensors", "m.st")
    shutil.copytree("idx", "copies")
    if "run/" in command:
        (here / "run").mkdir()
    (here / "net.toml").write_text("epochs = 1\n")
    (here / "link.npz").symlink_to("copy.npz")
    os.link("copy.npz", "hard.npz")
    contents = lambda: {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}  # noqa: E731
    before = contents()
    assert refused(call(*command.split()), OVERWRITING[command]) == ""
    assert contents() == before


@FULL
def test_devices_take_several_outputs(here, call):
    ok(call("train", "labels.npz", *QUICK, "--json", "/dev/null", "--log", "/dev/null"))


def test_mnist(here):
    result = json.loads(ok(run("train", "mnist", "--epochs", 1, "--json", "-")))
    assert (result["n_train"], result["n_test"], result["batch_size"]) == (60000, 10000, 128)
    assert (result["layer_sizes"], result["n_parameters"]) == ([784, 128, 10], 101770)
    assert result["final_test_accuracy"] > 0.95


# Prediction


def test_predict_labels(here):
    out = ok(run("predict", "net.safetensors", "labels.npz", "--out", "labels.csv", "--json", "result.json"))
    _, _, x, y = load("labels.npz")
    labels = Network.load("net.safetensors").predict(x)
    with open("labels.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["sample", "label"]
    assert rows[1:] == [[str(i), str(label)] for i, label in enumerate(labels)]
    result = json.loads((here / "result.json").read_text())
    accuracy = np.mean(labels == y)
    assert accuracy > 0.8
    assert result == {"model": "net.safetensors", "dataset": "labels.npz", "n_samples": 30, "layer_sizes": [4, 8, 3],
                      "accuracy": accuracy}  # fmt: skip
    assert out == f"30 samples, accuracy {accuracy:.4g}\n"


def test_predict_values(here, call):
    x, y, _, _ = load("rows.npz")
    net = Network([4, 3, 2], output="identity", seed=2)
    net.save("net")
    result = json.loads(ok(call("predict", "net", "rows.npz", "--out", "values.csv", "--json", "-")))
    with open("values.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["sample", "output0", "output1"]
    assert [row[0] for row in rows[1:]] == [str(i) for i in range(80)]
    assert np.array([row[1:] for row in rows[1:]], "f4").tobytes() == net.predict(x).tobytes()
    assert result["mean_squared_error"] == pytest.approx(np.mean((net.predict(x) - y) ** 2))
    assert "accuracy" not in result


def test_predict_by_the_name_of_a_file(here, call):
    """A .tsv has tabs; what is no table is not written under another kind's name, and nothing is done."""
    for name, between in (("p.csv", ","), ("p", ","), ("p.txt", ","), ("p.TSV", "\t")):
        assert ok(call("predict", "net.safetensors", "labels.npz", "--proba", "--out", name))
        lines = (here / name).read_text().splitlines()
        assert lines[0] == between.join(["sample", "p_0", "p_1", "p_2"]) and len(lines) == 31
    before = sorted(here.iterdir())
    for suffix in (".npz", ".npy", ".parquet", ".csv.gz", ".json"):
        done = call("predict", "net.safetensors", "labels.npz", "--out", "p" + suffix)
        refused(done, rf"--out p{re.escape(suffix)}: predictions are written as a table, not as .*; name a \.csv file")
    assert sorted(here.iterdir()) == before


def test_train_then_predict(here, call):
    trained = json.loads(ok(call("train", "labels.npz", *QUICK, "--json", "-", "--save", "net")))
    predicted = json.loads(ok(call("predict", "net", "labels.npz", "--json", "-")))
    assert predicted["accuracy"] == trained["final_test_accuracy"]


@pytest.mark.parametrize("names", ["x_test", "x_train", "x", "X"])
def test_predict_without_targets(here, call, names):
    x, y = load("labels.npz")[2:]
    np.savez("new.npz", **{names: x})
    np.savez("known.npz", **{names: x, names.replace("x", "y").replace("X", "y"): y})
    assert ok(call("predict", "net.safetensors", "new.npz", "--out", "labels.csv")) == "30 samples\n"
    labels = Network.load("net.safetensors").predict(x)
    assert np.loadtxt("labels.csv", int, delimiter=",", skiprows=1)[:, 1].tolist() == labels.tolist()
    assert ok(call("predict", "net.safetensors", "known.npz")) == f"30 samples, accuracy {np.mean(labels == y):.4g}\n"


@pytest.mark.parametrize("output", ["softmax", "sigmoid", "one"])
def test_probabilities(here, call, output):
    """One column a class, into a file or to standard output."""
    x, _ = load("labels.npz")[2:]
    net = Network([4, 5, 1 if output == "one" else 3], output="sigmoid" if output == "one" else output, seed=3)
    net.save("net")
    printed = ok(call("predict", "net", "labels.npz", "--proba")) if output != "one" else None
    np.savez("x.npz", x=x)
    assert ok(call("predict", "net", "x.npz", "--proba", "--out", "p.csv")) == "30 samples\n"
    text = (here / "p.csv").read_text()
    assert text == ok(call("predict", "net", "x.npz", "--proba", "--out", "-")) and printed in (text, None)
    heading, *rows = csv.reader(text.splitlines())
    assert heading == ["sample", *[f"p_{k}" for k in range(2 if output == "one" else 3)]]
    assert np.array(rows, "f4")[:, 1:].tobytes() == net.predict_proba(x).tobytes()


def test_probabilities_of_values(here, call):
    Network([4, 2], output="identity").save("net")
    refused(call("predict", "net", "rows.npz", "--proba"), "--proba needs sigmoid or softmax outputs")


def test_predictions_on_standard_output(here, call):
    out = ok(call("predict", "net.safetensors", "labels.npz", "--out", "-"))
    ok(call("predict", "net.safetensors", "labels.npz", "--out", "labels.csv"))
    assert out == (here / "labels.csv").read_text()


def test_accuracy_is_that_of_evaluate(here, call):
    """Also where each of several outputs is a class of its own: the share of right decisions."""
    x, _, _, _ = load("labels.npz")
    y = (x[:, :3] > 0).astype(float)
    np.savez("several.npz", x_train=x, y_train=y)
    net = Network([4, 8, 3], output="sigmoid")
    trainer = Trainer(net, optimizer=Adam(0.01), batch_size=10)
    trainer.fit(x, y, 5)
    net.save("net")
    result = json.loads(ok(call("predict", "net", "several.npz", "--json", "-")))
    assert result["accuracy"] == trainer.evaluate(x, y)[1] not in (0, 1)


def test_values_of_any_range_are_predicted(here, call):
    """Whatever loss the network was trained with."""
    Network([4, 2], output="softplus", seed=1).save("net")
    assert "mean_squared_error" in json.loads(ok(call("predict", "net", "rows.npz", "--json", "-")))


# Tables


@pytest.fixture
def table(here):
    """Four features, then label 0 to 2; and the same with names."""
    x, y, _, _ = load("train-only.npz")
    for name, targets in (("table", y), ("named", np.array(["low", "mid", "up"])[y]), ("values", x[:, 0] / 2)):
        rows = "".join(";".join(map(repr, row)) + f";{target}\n" for row, target in zip(x.tolist(), targets.tolist(),
                                                                                         strict=True))
        (here / f"{name}.csv").write_text("a;b;c;d;kind\n" + rows)
    return here


def test_train_and_predict_a_table(table, call):
    """As from an archive, to the bit."""
    out = ok(call("train", "table.csv", *QUICK, "--save", "net"))
    assert out.startswith("table.csv: 80 training and no test samples; 4-8-3, ")
    ok(call("train", "train-only.npz", *QUICK, "--save", "same", "--quiet"))
    assert Network.load("net").theta.tobytes() == Network.load("same").theta.tobytes()
    scored = ok(call("predict", "net", "table.csv", "--out", "labels.csv"))
    assert re.fullmatch(r"80 samples, accuracy (0\.\d+|1)\n", scored)
    lines = [line.rpartition(";")[0] for line in (table / "table.csv").read_text().splitlines()]
    (table / "new.csv").write_text("\n".join(lines))
    assert ok(call("predict", "net", "new.csv", "--out", "again.csv")) == "80 samples\n"
    assert (table / "again.csv").read_text() == (table / "labels.csv").read_text()


def test_target_of_a_table(table, call):
    """It is kept beside the network; numbers with fractions are values."""
    ok(call("train", "table.csv", "--target", "b", *QUICK, "--save", "net", "--quiet"))
    assert Network.load("net").layer_sizes == (4, 8, 1) and 'target = "b"' in (table / "net.toml").read_text()
    ok(call("train", "--config", "net.toml", "--save", "again", "--quiet"))
    assert Network.load("net").theta.tobytes() == Network.load("again").theta.tobytes()
    ok(call("train", "train-only.npz", "--config", "net.toml", "--quiet"))  # which has no columns to choose from
    error = json.loads(ok(call("predict", "net", "table.csv", "--target", "b", "--json", "-")))["mean_squared_error"]
    assert 0 < error < 2
    ok(call("train", "values.csv", *QUICK, "--quiet"))
    refused(call("train", "table.csv", "--target", "kin"), "has no column 'kin' for the target; did you mean 'kind'")
    refused(call("train", "named.csv", "--target", "a"), "line 2, column 'kind': '.*' is not a number")


@pytest.mark.parametrize("labels", ["1 2 3", "0 1 3", "-1 0 1", "3 20 100"])
def test_integers_that_do_not_count_from_0_are_names_of_classes(table, call, labels):
    """No output is for a label that does not occur, and predictions are the labels of the table."""
    rows = (table / "table.csv").read_text().splitlines()
    other = [f"{row.rpartition(';')[0]};{labels.split()[int(row[-1])]}" for row in rows[1:]]
    (table / "other.csv").write_text("\n".join([rows[0], *other]))
    options = [*QUICK, "--epochs", 40, "--task", "classes", "--save", "net", "--json", "result.json"]
    shown = ", ".join(map(repr, labels.split()))
    assert f"; 4-8-3, 67 parameters, cross_entropy, classes {shown}\n" in ok(call("train", "other.csv", *options))
    score = json.loads((table / "result.json").read_text())["final_train_accuracy"]
    assert score > 0.8
    assert ok(call("predict", "net", "other.csv", "--out", "out.csv")) == f"80 samples, accuracy {score:.4g}\n"
    with open("out.csv", newline="") as file:
        predicted = [row["label"] for row in csv.DictReader(file)]
    assert np.mean([a == b.rpartition(";")[2] for a, b in zip(predicted, other, strict=True)]) == pytest.approx(score)
    assert ok(call("predict", "net", "other.csv", "--proba")).splitlines()[0] == "sample," + ",".join(
        f"p_{label}" for label in labels.split())
    ok(call("find-eta", "other.csv", *QUICK, "--task", "classes"))
    ok(call("train", "table.csv", *QUICK, "--save", "net", "--quiet"))
    assert Network.load("net").classes is None


def test_a_table_without_a_header(table, call):
    """No row is lost, and what the columns are called is said."""
    rows = (table / "named.csv").read_text().splitlines()[1:]
    (table / "named.csv").write_text("\n".join(rows))
    (table / "new.csv").write_text("\n".join(row.rpartition(";")[0] for row in rows))
    lines = ok(call("train", "named.csv", *QUICK, "--save", "net")).splitlines()
    assert lines[0] == ("named.csv: the first line holds numbers, so it is a sample; the columns are called column1 to "
                        "column5, the target is column5")
    assert lines[1].startswith("named.csv: 80 training and no test samples; 4-8-3, ")
    assert ok(call("predict", "net", "named.csv")).startswith("80 samples, accuracy ")
    assert ok(call("predict", "net", "new.csv", "--out", "out.csv")) == "80 samples\n"
    (table / "one.csv").write_text("1.5;2;3;4\n")
    assert ok(call("predict", "net", "one.csv", "--out", "out.csv")) == "1 sample\n"
    assert not any("column1 to" in line for line in ok(call("train", "table.csv", *QUICK)).splitlines())


def test_names_of_classes(table, call):
    """Of a table and of an archive: predictions are these names."""
    x, y, _, _ = load("train-only.npz")
    names = np.array(["low", "mid", "up"])[y]
    np.savez("named.npz", x_train=x, y_train=names)
    for data in ("named.csv", "named.npz"):
        ok(call("train", data, *QUICK, "--save", "net", "--quiet"))
        ok(call("train", "train-only.npz", *QUICK, "--save", "same", "--quiet"))
        net = Network.load("net")
        assert net.theta.tobytes() == Network.load("same").theta.tobytes()
        predicted = ok(call("predict", "net", data, "--out", "-")).splitlines()
        assert predicted == ["sample,label", *(f"{i},{name}" for i, name in enumerate(net.predict(x)))]
        assert {line.split(",")[1] for line in predicted[1:]} <= {"low", "mid", "up"}
        assert ok(call("predict", "net", data)) == f"80 samples, accuracy {np.mean(net.predict(x) == names):.4g}\n"
        assert ok(call("predict", "net", data, "--proba")).startswith("sample,p_low,p_mid,p_up\n")
    np.savez("unknown.npz", x_train=x, y_train=names, x_test=x[:2], y_test=np.array(["low", "high"]))
    refused(call("train", "unknown.npz"), "the test samples have the class high, which no training sample has")
    refused(call("train", "named.npz", "--loss", "poisson"), "--loss poisson is for values; the targets are classes")
    refused(call("train", "named.npz", "--task", "values"), "--task values needs .*; the targets are text")


def test_columns_are_found_by_name(table, call):
    """In another order, with others between; also the target, whose name is kept beside the network."""
    ok(call("train", "table.csv", *QUICK, "--save", "net", "--quiet"))
    rows = list(csv.reader((table / "table.csv").read_text().splitlines(), delimiter=";"))
    with open("other.csv", "w", newline="") as file:
        csv.writer(file).writerows([[row[3], row[1], f"note {i}", row[0], row[4], row[2], ""]
                                    for i, row in enumerate(rows)])
    (table / "other.csv").write_text((table / "other.csv").read_text().replace("\n", "more\n", 1))
    for output in (["--out", "-"], ["--json", "result.json"]):
        assert ok(call("predict", "net", "other.csv", *output)) == ok(call("predict", "net", "table.csv", *output))
    assert "accuracy" in json.loads((table / "result.json").read_text())
    refused(call("predict", "net", "other.csv", "--target", "kin"), "other.csv has no targets in column 'kin'")
    (table / "other.csv").write_text("b,a,d\n1,2,3\n")
    refused(call("predict", "net", "other.csv"), "has no column 'c', which the network was trained with; found 'b', ")


# The rest


def test_info(here, call):
    lines = ok(run("info", "--json", "info.json")).splitlines()
    info = json.loads((here / "info.json").read_text())
    assert info["fastbp"] == fastbp.__version__
    assert info["python"] == ".".join(map(str, sys.version_info[:3]))
    assert info["numpy"] == np.__version__
    assert info["threads"] >= 1
    assert info["threading_layer"] in ("omp", "tbb", "workqueue")
    assert info["vector_bits"] in (128, 256, 512)
    assert info["cached"]["float32"] is True
    assert len(lines) == len(info)
    assert lines[0].split() == ["fastbp", fastbp.__version__]
    assert json.loads(ok(call("info", "--json", "-"))) == info


def test_version_and_help(call):
    assert ok(call("--version")) == f"fastbp {fastbp.__version__}\n"
    out = ok(call("train", "--help"))
    assert all(f"--{name}" in out for name in ("hidden", "activation", "epochs", "batch-size", "optimizer", "eta"))
    words = re.split(r"[\s,()]+", out)
    assert {*HIDDEN_ACTIVATIONS, *losses.LOSSES, *OPTIMIZERS} <= {*words}


@pytest.mark.slow
def test_warmup(tmp_path):
    """In an empty cache; afterwards nothing is left to compile."""
    settings = {"env": environment(NUMBA_CACHE_DIR=str(tmp_path)), "capture_output": True, "text": True, "timeout": 600}
    done = subprocess.run([*COMMAND, "warmup"], check=True, **settings)
    assert re.fullmatch(rf"ready after \d+\.\d s; machine code in {re.escape(str(tmp_path))}\S*\n", done.stdout)
    assert re.findall(r"fastbp compiles its kernels \((\w+)\)", done.stderr) == ["float32", "float64"]
    assert len(done.stderr.splitlines()) == 3  # and the pieces that few need
    again = subprocess.run([*COMMAND, "warmup"], check=True, **settings)
    assert again.stderr == ""
    info = subprocess.run([*COMMAND, "info", "--json", "-"], check=True, **settings)
    assert json.loads(info.stdout)["cached"] == {"float32": True, "float64": True}


# A look inside


def test_trace_prints_each_step(here, call):
    text = ok(call("trace", "net.safetensors", "labels.npz", "--row", "3", "--draw", "trace.svg"))
    assert text.startswith("One sample through ") and "\n1. Forward pass, layer 1" in text
    assert "Output error: delta[" in text and "What the sample asks for\noutput " in text
    assert Path("trace.svg").stat().st_size > 1000
    refused(call("trace", "net.safetensors", "labels.npz", "--row", "-1"), "--row must be 0 to 29, got -1")


# Export


def test_export_for_numpy(here, call):
    """The network runs without fastbp, and equal networks give equal bytes."""
    assert ok(call("export", "net.safetensors", "--format", "numpy", "-o", "net.npz")) == ""
    ok(call("export", "net.safetensors", "--format", "numpy", "--out", "again"))
    assert Path("net.npz").read_bytes() == Path("again").read_bytes()
    with np.load("net.npz") as file:
        assert set(file) == {"activations", "input_scale", "W1", "b1", "W2", "b2"}
        assert file["activations"].tolist() == ["relu", "softmax"] and file["input_scale"] == 1
        x = np.load("labels.npz")["x_train"].astype(np.float32)
        z = np.maximum(x @ file["W1"] + file["b1"], 0) @ file["W2"] + file["b2"]
    a = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(a, Network.load("net.safetensors").forward(x), rtol=1e-5, atol=1e-7)


def test_export_keeps_names(here, call):
    net = Network([2, 2], dtype="float64", input_scale=1 / 3)
    net.feature_names, net.classes = ["u", "v"], ["no", "yes"]
    net.save("named.safetensors")
    ok(call("export", "named.safetensors", "--format", "numpy", "-o", "named.npz"))
    with np.load("named.npz") as file:
        assert file["feature_names"].tolist() == ["u", "v"] and file["classes"].tolist() == ["no", "yes"]
        assert file["input_scale"] == 1 / 3 and (file["W1"] == net.W[0]).all()


def test_export_for_pytorch(here, call):
    """Without PyTorch: names and shapes of the state dict of a Sequential."""
    assert ok(call("export", "net.safetensors", "--format", "torch", "-o", "model.safetensors")) == ""
    net, tensors = Network.load("net.safetensors"), load_file("model.safetensors")
    assert set(tensors) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert (tensors["0.weight"] == net.W[0].T).all() and (tensors["2.bias"] == net.b[1]).all()


def test_export_without_onnx(here, call, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    refused(call("export", "net.safetensors", "--format", "onnx", "-o", "net.onnx"),
            r'to_onnx needs onnx: pip install "fastbp\[onnx\]"$')
    assert not Path("net.onnx").exists()


# Gradients


def test_check(here, call, monkeypatch):
    out = ok(call("check", "net.safetensors", "labels.npz"))
    assert re.match(r"GradientCheck: right\. All \d+ parameters, one by one, with 30 samples in float64:\n- ", out)
    ok(call("check", "net.safetensors", "labels.npz", "--loss", "quadratic"))
    refused(call("check", "net.safetensors", "labels.npz", "--loss", "log"), "argument --loss: unknown name 'log'")
    ok(call("check", "net.safetensors", "labels.npz", "--loss", "cross_entropy:label_smoothing=0.1"))
    np.savez("bare.npz", x=np.zeros((3, 4)))
    refused(call("check", "net.safetensors", "bare.npz"), "bare.npz has no targets, which the cost needs; --target")
    real = fastbp.insight.gradient_check.cost_and_gradient
    monkeypatch.setattr(fastbp.insight.gradient_check, "cost_and_gradient", lambda *args, **options: (
        0.0, 2 * real(*args, **options)[1]))
    out = refused(call("check", "net.safetensors", "labels.npz"), r"the gradient is wrong: net\.")
    assert "GradientCheck: wrong" in out


# Mistakes

BAD_COMMANDS = {
    # Options
    "no epoch": ("epochs must be at least 1, got 0", "train labels.npz --epochs 0"),
    "no sample a batch": ("batch_size must be at least 1, got 0", "train labels.npz --batch-size 0"),
    "negative seed": ("seed must be at least 0, got -1", "train labels.npz --seed -1"),
    "no thread": ("threads must be at least 1, got 0", "train labels.npz --threads 0"),
    "threads without end": ("threads must be at most 1024, got 9+", "train labels.npz --threads 99999999999999999999"),
    "no rate": (r"eta must be a finite number > 0, got 0\.0", "train labels.npz --eta 0"),
    "rate that is no number": ("eta must be a finite number > 0, got nan", "train labels.npz --eta nan"),
    "momentum": (r"momentum must be in \[0, 1\), got 1\.0", "train labels.npz --momentum 1"),
    "no task": ("argument --task: invalid choice: 'x'.*; see fastbp train -h", "train labels.npz --task x"),
    "classes or values": (r"the targets are whole numbers stored as floats, 3 different ones \(0, 1, 2\): give "
                          "--task classes or --task values; see fastbp train -h", "train whole-floats.npz"),
    "labels with gaps": (r"the targets are integers up to 2,.*, but only 3 different ones \(0, .*, .*\): give "
                         "--task classes", "train many-classes.npz"),
    "fractions for classes": ("classes need whole numbers or text as targets, but one is -?\\d",
                              "train values.npz --task classes"),
    "classes for poisson": ("--loss poisson is for values; the targets are classes, as --task says",
                            "train counts.npz --loss poisson --task classes"),
    "one value for cosine": ("loss cosine needs at least 2 outputs, the network has 1; for a single value take",
                             "train values.npz --loss cosine"),
    "values for cross-entropy": ("--task values needs .* a loss for values; --loss cross_entropy is for classes",
                                 "train labels.npz --loss cross_entropy --task values"),
    "target of an archive": ("labels.npz: has no array 'a' for the target; found", "train labels.npz --target a"),
    "input scale": (r"input_scale must be a finite number > 0, got 0\.0", "train labels.npz --input-scale 0"),
    "smoothing of values": ("--label-smoothing belongs to --loss cross_entropy, not to quadratic",
                            "train rows.npz --label-smoothing 0.1"),
    "smoothing": (r"label_smoothing must be in \[0, 1\), got 1\.0", "train labels.npz --label-smoothing 1"),
    "momentum for adam": ("--momentum belongs to --optimizer sgd", "train labels.npz --optimizer adam --momentum 0.5"),
    "empty layer": ("a layer size must be at least 1, got 0", "train labels.npz --hidden 8,0"),
    "layer for no memory": (".", "train labels.npz --hidden 99999999999999"),
    "unknown setting": ("--optimizer adam:gamma=1: there is no setting 'gamma'; valid: eta,",
                        "train labels.npz --optimizer adam:gamma=1"),
    "setting": (r"beta2 must be in \[0, 1\), got 2", "train labels.npz --optimizer adam:beta2=2"),
    "setting of a schedule": ("cycles must be at least 1, got 0",
                              "train labels.npz --schedule cosine:cycles=0"),
    "both clips": ("give clip_norm or clip_value, not both", "train labels.npz --clip-norm 1 --clip-value 1"),
    "frozen": ("frozen names layer 7; the network has layers 0 to 1", "train labels.npz --freeze 7"),
    "resume nothing": ("--resume and --checkpoint-seconds belong to --checkpoint DIR", "train labels.npz --resume"),
    "watch nobody": ("--watch belongs to --early-stopping", "train labels.npz --watch loss"),
    "watch nothing": ("there is no f1 to watch: this fit has loss", "train labels.npz --watch f1 --stop-at 1"),
    "other network": ("no layer of net.safetensors has the shape", "train labels.npz --init-from net.safetensors"),
    # Files of options
    "no config": ("there is no file missing.toml for --config$", "train labels.npz --config missing.toml"),
    "folder as config": ("--config empty cannot be read: Is a directory$", "train labels.npz --config empty"),
    "config that is none": ("broken.toml is no TOML", "train labels.npz --config broken.toml"),
    "unknown key": ("unknown.toml: unknown key 'epoch'; the nearest valid one is 'epochs'",
                    "train labels.npz --config unknown.toml"),
    "table": ("table.toml: eta must be a string, a number or a list of them", "train labels.npz --config table.toml"),
    "twice": ("twice.toml: batch_size is given twice", "train labels.npz --config twice.toml"),
    "false": ("false.toml: hidden must be a string, a number or a list of them, got false",
              "train labels.npz --config false.toml"),
    "flag": ("flag.toml: quiet must be true or false, got 1", "train labels.npz --config flag.toml"),
    "kind": ("kind.toml: epochs: expected a whole number, got '1.5'", "train labels.npz --config kind.toml"),
    "name": ("name.toml: weights: unknown name 'gauss'; valid: lecun_normal",
             "train labels.npz --config name.toml"),
    "deep": ("deep.toml is no TOML", "train labels.npz --config deep.toml"),
    "number for no machine": (".", "train labels.npz --batch-size 9 --epochs 9999999999999999999999999"),
    "stop nowhere": ("--stop-at must be finite, got nan", "train labels.npz --stop-at nan"),
    "warm-up": (r"--warm-up must be in \[0, 1\), got 2\.0", "train labels.npz --warm-up 2"),
    "no second": ("--max-seconds must be a finite number > 0, got 0", "train labels.npz --max-seconds 0"),
    "no patience": ("--early-stopping must be at least 1, got 0", "train labels.npz --early-stopping 0"),
    "mean of nothing": (r"--swa must be in \[0, 1\), got 2", "train labels.npz --swa 2"),
    "two ends": (r"--early-stopping \(.*\) and --swa \(.*\) each set .*; use only one of them$",
                 "train labels.npz --early-stopping 3 --swa 0.2"),
    "two means": (r"--swa \(.*\) and --ema 0.9 \(the moving mean\) each", "train labels.npz --ema .9 --swa .2"),
    "metrics of nothing": ("--metrics needs test samples or --validation-fraction$",
                           "train train-only.npz --metrics f1"),
    "classes of values": ("--class-weight needs classes, the targets are values$",
                          "train values.npz --class-weight balanced"),
    "layers": ("--activation names 2 activations for 1 hidden layer;", "train labels.npz --activation relu,elu"),
    "rates": ("dropout has 3 rates; expected rates for the input and 1 hidden", "train labels.npz --dropout 0,0,0"),
    "truth": ("beta1 must be a number, got true;", "train labels.npz --optimizer adam:beta1=true"),
    "file for checkpoints": ("--checkpoint far.npz: far.npz is a file; name a folder$",
                             "train labels.npz --checkpoint far.npz"),
    "file above checkpoints": ("--checkpoint far.npz/a/b: .*far.npz is a file; name a folder$",
                               "train labels.npz --checkpoint far.npz/a/b"),
    "file for TensorBoard": ("--tensorboard far.npz: far.npz is a file; name a folder$",
                             "train labels.npz --tensorboard far.npz"),
    "nameless folder": ("--checkpoint needs the name of a folder", "train labels.npz --checkpoint="),
    # Data
    "no data named": ("name the DATA to train on", "train"),
    "unknown data": ("cifar: not a data source that fastbp can load", "train cifar"),
    "missing npz": (r"missing\.npz: no such file", "train missing.npz"),
    "corrupt npz": (r"corrupt\.npz: cannot be read as an NPZ archive", "train corrupt.npz"),
    "npz of nothing": (r"nothing\.npz: no x_train and no y_train", "train nothing.npz"),
    "lengths": ("x_train has 80 samples, y_train 5", "train lengths.npz"),
    "bytes": (r"y_train has dtype \|S21; expected real numbers", "train bytes.npz"),
    "empty folder": ("empty: .*found 0 of the four IDX files", "train empty"),
    "damaged idx": (r"damaged-idx/.*: ", "train damaged-idx"),
    "NaN": (r"X\[0, 0\] is nan; every number must be finite", "train nan.npz"),
    "NaN to learn": (r"y\[0, 0\] is nan; every number must be finite", "train nan-values.npz"),
    "NaN to test": (r"validation y\[0\] is nan", "train nan-test.npz"),
    "infinity to test": ("validation y must hold labels 0 to 2 for 3 outputs, found inf", "train infinite-test.npz"),
    # Places
    "no folder to save in": ("cannot write missing/net: there is no folder missing", "train mnist --save missing/net"),
    "saving onto a folder": ("cannot write empty: it is a folder", "train mnist --save empty"),
    "no folder for JSON": ("cannot write missing/r: there is no folder missing", "train mnist --json missing/r"),
    "no folder for CSV": ("cannot write missing/o: there is no", "predict net.safetensors mnist --out missing/o"),
    "no folder for info": ("cannot write missing/i: there is no folder missing", "info --json missing/i"),
    # Models
    "missing model": ("there is no file missing", "predict missing labels.npz"),
    "corrupt model": ("corrupt.safetensors is not a whole safetensors file", "predict corrupt.safetensors labels.npz"),
    "other features": ("X has 3 features, the network takes 4", "predict net.safetensors features.npz"),
    "other classes": (r"labels 0 to 2 for 3 outputs, found -1 to 1$", "predict net.safetensors negative.npz"),
    "names for labels": ("the target holds text, such as '.', but the network has no names of classes: it was "
                         "trained on labels$", "predict net.safetensors words.npz"),
    "other targets": (r"the target must hold 80 labels or have shape \(80, 3\)", "predict net.safetensors rows.npz"),
    "no data": (r"missing\.npz: no such file", "predict net.safetensors missing.npz"),
    "no model to export": ("there is no file missing", "export missing --format numpy -o x.npz"),
    "no folder to export to": ("there is no folder", "export net.safetensors --format numpy -o none/x.npz"),
    "export onto itself": ("--out net.safetensors is the same file as MODEL net.safetensors",
                           "export net.safetensors --format numpy -o net.safetensors"),
    "export to the screen": ("--out - is for texts; name a file; see fastbp export -h",
                             "export net.safetensors --format numpy -o -"),
    "nowhere to export to": ("the following arguments are required: -o/--out; see fastbp export -h",
                             "export net.safetensors --format onnx"),
}  # fmt: skip


@pytest.mark.parametrize("message, command", BAD_COMMANDS.values(), ids=BAD_COMMANDS)
def test_mistakes(here, call, message, command):
    before = sorted(path.name for path in here.iterdir())
    out = refused(call(*command.split()), message)
    assert "epoch" not in out
    assert sorted(path.name for path in here.iterdir()) == before


@pytest.mark.parametrize("mistake", ["no epoch", "corrupt npz", "no folder to save in", "other features"])
def test_mistakes_of_a_process(here, mistake):
    message, command = BAD_COMMANDS[mistake]
    refused(run(*command.split()), message)


@pytest.mark.parametrize(("command", "message", "see"), [
    ("", "the following arguments are required: COMMAND", ""), ("fly", "invalid choice: 'fly'", ""),
    ("train labels.npz --bogus", "unrecognized arguments: --bogus", " train"),
    ("train labels.npz --epochs x", "argument --epochs: expected a whole number, got 'x'", " train"),
    ("train labels.npz --hidden 8,x", "argument --hidden: expected whole numbers", " train"),
    ("train labels.npz --epoch 3", "unrecognized arguments: --epoch 3; did you mean --epochs?", " train"),
    ("train labels.npz --optimizer adamax", "argument --optimizer: unknown name 'adamax'", " train"),
    ("train labels.npz --schedule sine", "argument --schedule: unknown name 'sine'", " train"),
    ("train labels.npz --activation softmax", "argument --activation: unknown name 'softmax'", " train"),
    ("train labels.npz --optimizer adam:eta=1,eta=2", "argument --optimizer: a setting is given twice", " train"),
    ("train labels.npz --momentum 0.9 --optimizer adam", "--momentum belongs to --optimizer sgd", " train"),
    ("find-eta labels.npz --early-stopping 3", "unrecognized arguments: --early-stopping 3", " find-eta"),
    ("predict net.safetensors", "the following arguments are required: DATA", " predict"),
])  # fmt: skip
def test_what_no_option_allows(here, call, command, message, see):
    """One line, that of argparse too, and where to read on."""
    done = call(*command.split())
    assert refused(done, re.escape(message)) == ""
    assert done.stderr.endswith(f"; see fastbp{see} -h\n")


def test_divergence(here, call):
    done = call("train", "labels.npz", *QUICK, "--eta", "1e30", "--save", "net")
    out = refused(done, r"the cost or a parameter is no longer finite: epoch \d, step \d of 5, .*; try a smaller "
                        "--eta; what was trained before that is in net")
    assert out.count("\n") == 1
    assert np.isfinite(Network.load("net").theta).all()


@FULL
@pytest.mark.parametrize("option", ["--save", "--json"])
def test_full_disk(here, call, option):
    refused(call("train", "labels.npz", *QUICK, option, "/dev/full"), "No space left on device: '/dev/full'")


@FULL
def test_full_disk_for_predictions(here, call):
    done = call("predict", "net.safetensors", "labels.npz", "--out", "/dev/full")
    refused(done, "No space left on device: '/dev/full'")


@FULL
@pytest.mark.parametrize("command", ["info", "train labels.npz --batch-size 10 --json -"])
def test_full_disk_behind_standard_output(here, command):
    with open("/dev/full", "w") as full:
        refused(run(*command.split(), stdout=full), "No space left on device")


@pytest.mark.skipif(resource is None, reason="this system has no limit on the size of files")
def test_a_disk_that_fills_up_leaves_the_old_network_whole(here, call):
    ok(call("train", "labels.npz", *QUICK, "--save", "net", "--quiet"))
    before = (here / "net").read_bytes()
    names = sorted(path.name for path in here.iterdir())
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    done = run("train", "labels.npz", "--batch-size", 10, "--save", "net",
               preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard)))  # fmt: skip
    refused(done, "File too large: 'net'")
    assert (here / "net").read_bytes() == before
    assert sorted(path.name for path in here.iterdir()) == names


@POSIX
@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_closed_streams(here, closed):
    command = f'"$0" -m fastbp.cli train labels.npz --batch-size 10 --hidden 8 --json result.json {closed}'
    done = subprocess.run(["sh", "-c", command, sys.executable], env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (done.stdout == "") == (" >&-" in f" {closed}")
    assert list(json.loads((here / "result.json").read_text())) == KEYS


def start(*arguments):
    """A process of its own, whose output can be read as it comes."""
    return subprocess.Popen([*COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=environment())  # fmt: skip


@POSIX
def test_ctrl_c(here):
    """Each epoch's line comes as it ends; what is there by then is saved, tested and reported."""
    command = ["train", "labels.npz", *QUICK, "--epochs", 10**8, "--save", "net", "--json", "result.json"]
    with start(*command) as child:
        try:
            assert child.stdout.readline().startswith("labels.npz: 50 training")
            assert child.stdout.readline().startswith("epoch  1   train loss")
            child.send_signal(signal.SIGINT)
            out, err = child.communicate(timeout=60)
        finally:
            child.kill()
    result = json.loads((here / "result.json").read_text())
    n = len(result["train_loss"])
    assert (child.returncode, err) == (130, f"fastbp: interrupted in epoch {n + 1} of 100000000; the network is in net;"
                                            " the results are in result.json\n")
    assert "stopped: interrupted\n" in out and result["stopped"] == "interrupted"
    x, y = load("labels.npz")[2:]
    evaluated = Trainer(Network.load("net")).evaluate(x, y)
    assert (result["final_test_loss"], result["final_test_accuracy"]) == evaluated
    assert (here / "net.toml").read_text().startswith(
        f"# fastbp {fastbp.__version__}: fastbp train --config FILE repeats this training, which was interrupted.\n")


@POSIX
def test_ctrl_c_leaves_the_best_network(here):
    with start("train", "labels.npz", *QUICK, "--epochs", 10**6, "--save", "net", "--schedule", "constant",
               "--early-stopping", 10**6, "--log", "log.csv") as child:
        try:
            for line in child.stdout:
                if line.startswith("epoch 20 "):
                    break
            child.send_signal(signal.SIGINT)
            _, err = child.communicate(timeout=60)
        finally:
            child.kill()
    assert child.returncode == 130 and err.endswith("; the network is in net\n")
    with open("log.csv", newline="") as file:
        losses = [float(row["validation_loss"]) for row in csv.DictReader(file)]
    x, y, _, _ = load("labels.npz")
    _, kept = split(len(x), 0.1, y)
    assert Trainer(Network.load("net")).evaluate(x[kept], y[kept])[0] == min(losses)


@POSIX
def test_a_reader_that_ends_before_the_training(here):
    """What is trained is saved all the same."""
    with start("train", "labels.npz", *QUICK, "--epochs", 3000, "--save", "net", "--json", "result.json") as child:
        try:
            child.stdout.readline()
            child.stdout.close()
            err = child.stderr.read()
            child.wait(timeout=60)
        finally:
            child.kill()
    assert (child.returncode, err) == (2, "fastbp: Broken pipe\n")
    assert json.loads((here / "result.json").read_text())["epochs"] == 3000
    assert Network.load("net").layer_sizes == (4, 8, 3)


@POSIX
def test_ctrl_c_at_once(here):
    """Where nothing has been trained, an old network stays."""
    (here / "net").write_text("old")
    with start("train", "labels.npz", *QUICK, "--epochs", 10**8, "--save", "net") as child:
        try:
            child.stdout.readline()
            child.send_signal(signal.SIGINT)
            _, err = child.communicate(timeout=60)
        finally:
            child.kill()
    saved = "the network is in net" in err
    assert child.returncode == 130 and (saved or err == "fastbp: interrupted\n")
    assert ((here / "net").read_bytes() == b"old") == (not saved)


# Sends itself a Ctrl-C as a module is looked for.
AT_IMPORT = """
import os, signal, sys
class Finder:
    def find_spec(name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder)
"""
# What pip makes of an entry point.
SCRIPT = "import sys\nfrom fastbp.cli import command\nif __name__ == '__main__':\n    sys.exit(command())\n"


@POSIX
@pytest.mark.parametrize("way", ["-m", "script"])
@pytest.mark.parametrize("module", ["numpy", "numba", "fastbp.training.trainer", "fastbp.cli", "fastbp.options"])
def test_ctrl_c_while_modules_load(tmp_path, module, way):
    (tmp_path / "sitecustomize.py").write_text(AT_IMPORT.format(module=module))
    (tmp_path / "fastbp").write_text(SCRIPT)
    root = str(Path(fastbp.__file__).parents[1])
    start = ["-m", "fastbp"] if way == "-m" else [str(tmp_path / "fastbp")]
    done = subprocess.run([sys.executable, *start, "info"], capture_output=True, text=True, timeout=120,
                          env=environment(PYTHONPATH=os.pathsep.join([str(tmp_path), root])))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@POSIX
def test_programs_that_import_fastbp_keep_their_ctrl_c(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(AT_IMPORT.format(module="fastbp.training.trainer"))
    root = str(Path(fastbp.__file__).parents[1])
    program = "try:\n    import fastbp\nexcept KeyboardInterrupt:\n    print('theirs')"
    done = subprocess.run([sys.executable, "-c", program, "-m", "fastbp"], capture_output=True, text=True, timeout=120,
                          env=environment(PYTHONPATH=os.pathsep.join([str(tmp_path), root])))
    assert ok(done) == "theirs\n"


@POSIX
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_nothing_is_left_behind(here, method):
    """Exit functions run, so that Numba's lock, a named semaphore if processes are not forked, is removed quietly."""
    started = f"import atexit, multiprocessing; multiprocessing.set_start_method({method!r}); "
    program = "from fastbp.cli import command; atexit.register(print, 'at exit'); command()"
    done = subprocess.run([sys.executable, "-c", started + program, "train", "labels.npz", *QUICK, "--threads", "2"],
                          env=environment(), capture_output=True, text=True, timeout=120)
    assert ok(done).endswith("\nat exit\n")


def test_why_it_does_not_learn_is_said_in_lines_once_each(here):
    """A loss beyond all reason, which once came with exit 0 and no word."""
    X = np.random.default_rng(0).normal(5000, 2000, size=(300, 4))
    np.savez("big.npz", x_train=X, y_train=X[:, 0] * 3000.0)
    done = run("train", "big.npz", "--eta", "1e-9")
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    assert all(line.startswith("fastbp: ") for line in lines) and len(set(lines)) == len(lines)
    assert "fastbp: inputs are not scaled: column " in done.stderr and "standardise them" in done.stderr
    assert "fastbp: targets are not scaled: they have mean 1." in done.stderr
    assert not CODE.search(done.stderr)
    assert run("train", "big.npz", "--eta", "1e-9", "--quiet").stderr == ""


IRIS = "a,b,c,kind\n" + "\n".join(f"{i % 7},{i % 5},{i % 3},{'xyz'[i % 3]}" for i in range(60)) + "\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full on this system")
@pytest.mark.parametrize("output", ["--log", "stderr"])
def test_what_was_trained_is_saved_though_something_beside_it_fails(here, output):
    Path("t.csv").write_text(IRIS)
    options = ["train", "t.csv", "--save", "kept.safetensors", "--batch-size", "10"]
    with open("/dev/full", "w") as full:
        if output == "--log":
            Path("log.csv").symlink_to("/dev/full")
            done = run(*options, "--log", "log.csv")
        else:
            done = run(*options, "--eta", "1e-9", "--epochs", "40", stderr=full)  # about which there is a note
    assert done.returncode == (0 if output == "stderr" else 2)
    assert Network.load("kept.safetensors").classes.tolist() == ["x", "y", "z"]
    if output == "--log":
        assert "No space left on device" in done.stderr and done.stderr.endswith(
            "; what was trained before that is in kept.safetensors\n")
        assert done.stderr.count("\n") == 1


def test_what_was_trained_is_saved_though_it_diverges(here):
    Path("t.csv").write_text(IRIS)
    done = run("train", "t.csv", "--save", "kept.safetensors", "--batch-size", "10", "--eta", "1e30")
    assert done.returncode == 2 and "no longer finite" in done.stderr
    assert done.stderr.endswith("; what was trained before that is in kept.safetensors\n")
    assert np.isfinite(Network.load("kept.safetensors").theta).all()


def test_predict_finds_the_target_without_the_options_beside_the_network(here, call):
    Path("t.csv").write_text(IRIS)
    ok(call("train", "t.csv", "--save", "m.safetensors", "--quiet", "--batch-size", "10"))
    said = ok(call("predict", "m.safetensors", "t.csv"))
    os.remove("m.toml")
    assert ok(call("predict", "m.safetensors", "t.csv")) == said and "accuracy" in said
    Path("new.csv").write_text("".join(line.rpartition(",")[0] + "\n" for line in IRIS.splitlines()))
    printed = ok(call("predict", "m.safetensors", "new.csv")).splitlines()
    assert printed[0] == "sample,label" and len(printed) == 61 and printed[1][-1] in "xyz"


def test_a_column_that_is_not_named_is_no_target(here, call):
    """Of a network that was saved by Python, with the names of its features: a number of each row, say."""
    frame = pandas.DataFrame(np.random.default_rng(0).normal(size=(30, 2)), columns=["a", "b"])
    frame["id"] = np.arange(1000, 1030)
    frame.to_csv("new.csv", index=False)
    for y, output in ((frame.a, "identity"), (frame.a > 0, "softmax"), (np.where(frame.a > 0, "x", "y"), "softmax")):
        net = Network([2, 1 if output == "identity" else 2], output=output)
        Trainer(net).fit(frame[["a", "b"]], y)
        net.save("net")
        assert len(ok(call("predict", "net", "new.csv")).splitlines()) == 31
    frame["id"] = net.predict(frame[["a", "b"]])
    frame.to_csv("new.csv", index=False)
    assert ok(call("predict", "net", "new.csv")) == "30 samples, accuracy 1\n"


@pytest.mark.parametrize("option", [["--task", "classes"], ["--loss", "cross_entropy"]], ids=" ".join)
def test_a_few_texts_among_classes(here, call, option):
    """Most are numbers; the option says that they are names."""
    rows = [f"{i % 5},{i % 7},{'ICU' if i % 9 == 0 else i % 3 + 1}\n" for i in range(60)]
    Path("t.csv").write_text("a,b,ward\n" + "".join(rows))
    refused(call("train", "t.csv"), "line 2, column 'ward': 'ICU' is not a number, but most of the targets are; .*"
                                    r"say so \(in the command: --task classes\)")
    ok(call("train", "t.csv", *QUICK, *option, "--save", "net", "--quiet"))
    assert Network.load("net").classes.tolist() == ["1", "2", "3", "ICU"]
    assert "accuracy" in ok(call("predict", "net", "t.csv"))


def test_a_file_of_somebody_else_is_not_written_over(here, call):
    """The options are written beside the network, into a .toml of its name."""
    Path("pyproject.toml").write_text("[project]\n")
    refused(call("train", "labels.npz", *QUICK, "--save", "pyproject.safetensors"),
            "the options would overwrite pyproject.toml, which fastbp did not write; rename that file")
    assert Path("pyproject.toml").read_text() == "[project]\n" and not Path("pyproject.safetensors").exists()
    for _ in range(2):  # its own may be
        ok(call("train", "labels.npz", *QUICK, "--save", "own.safetensors"))


def test_layers_of_other_columns_are_not_taken_over(here, call):
    Path("t.csv").write_text(IRIS)
    rows = [line.split(",") for line in IRIS.splitlines()]
    Path("r.csv").write_text("".join(",".join([c, b, a, kind]) + "\n" for a, b, c, kind in rows))
    ok(call("train", "t.csv", "--save", "m.safetensors", "--quiet", "--batch-size", "10"))
    refused(call("train", "r.csv", "--init-from", "m.safetensors"), "feature_names are 'c', 'b', 'a' here, 'a', 'b', ")


def test_a_file_where_nothing_can_be_written_is_refused_before_the_training(here, call):
    refused(call("train", "train-only.npz", "--save", "net.toml"), "--save net.toml: a .toml file keeps the options")


@pytest.mark.skipif(not os.path.exists("/dev/stdout"), reason="there is no /dev/stdout on this system")
def test_standard_output_by_its_name(here):
    done = run("train", "train-only.npz", "--quiet", "--json", "/dev/stdout")
    assert json.loads(ok(done))["n_train"] == 80


@pytest.mark.parametrize(("options", "name"), [
    (["--optimizer", "adam:eta=0.5", "--eta", "0.1"], "eta"), (["--optimizer", "sgd:lr=0.5", "--lr", "0.1"], "eta"),
    (["--optimizer", "adam:weight_decay=0.5", "--weight-decay", "0.1"], "weight_decay"),
    (["--loss", "cross_entropy:label_smoothing=0.5", "--label-smoothing", "0.1"], "label_smoothing")])
def test_a_setting_is_given_once(here, call, options, name):
    refused(call("train", "labels.npz", *options), f"{name} is given twice, by --.* and by --{name.replace('_', '-')}")


def test_quotients_and_other_names_in_a_configuration(here, call):
    """And a table of one class."""
    ok(call("train", "labels.npz", *QUICK, "--quiet", "--save", "one", "--input-scale", "1/4", "--lr", "0.01"))
    Path("c.toml").write_text('lr = 0.01\ninput-scale = "1/4"\n')
    ok(call("train", "labels.npz", *QUICK, "--quiet", "--save", "two", "--config", "c.toml"))
    assert Network.load("one").input_scale == Network.load("two").input_scale == 0.25
    assert Network.load("one").theta.tobytes() == Network.load("two").theta.tobytes()
    refused(call("train", "labels.npz", "--input-scale", "1/0"), "expected a number or a quotient such as 1/255, got")
    Path("t.csv").write_text(IRIS.replace("y\n", "x\n").replace("z\n", "x\n"))
    refused(call("train", "t.csv"), "the targets have only one class, x; classification needs at least two")


@pytest.mark.parametrize("text", [
    "No space left on device: 'network.safetensors'", "--save a is the same file as DATA a; name fastbp.csv",
    "numpy.csv: has no column 'fit', found 'a', 'network.x'"])
def test_names_of_files_are_no_code(text):
    assert of_command(text) == text


def test_notes_are_in_the_words_of_the_command(here, call):
    """Each note of a training, and why no rate helps: options, and no code."""
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(300, 4)), np.arange(300) % 2
    bytes_ = np.tile(np.arange(64, dtype=np.uint8) + 192, (300, 1)) * (draw.random((300, 64)) > 0.5).astype(np.uint8)
    for name, arrays in {"far": (x * 5e3 + 1e4, y), "rare": (x, np.arange(300) < 2), "bytes": (bytes_, y),
                         "money": (x, x[:, 0] * 1e6)}.items():
        np.savez(f"{name}.npz" if name != "far" else "farther.npz", x_train=arrays[0], y_train=arrays[1])
    for command, said in {
        "train farther.npz --eta 1e-9": "subtract from each column its mean, and divide it by its standard deviation",
        "train rare.npz --eta 1e-9": "look at --metrics f1, and try --class-weight balanced",
        "train bytes.npz --eta 1e-9": "are bytes from 0 to 255, of mean [0-9]+; give --input-scale 1/255\n",
        "train money.npz --eta 1e-12": "subtract their mean, divide them by their standard deviation",
        "train rare.npz --ema 0.9999 --eta 1e-9": "--ema 0.9999 is too slow for",
        "find-eta bytes.npz --optimizer sgd:momentum=0.99 --hidden=": "give --input-scale 1/255$",
    }.items():
        error = run(*command.split()).stderr
        assert re.search(said, error) and not CODE.search(error), (command, error)


LOADING = """
import gc, sys
sys.argv, sys.orig_argv = ["fastbp", "train", {data!r}], ["fastbp", "train", {data!r}]
import fastbp
from fastbp import ahead, startup
before = gc.isenabled()
startup.over()
print(before, gc.isenabled(), gc.get_freeze_count() > 0, ahead._thread is not None)
"""


@pytest.mark.parametrize("data", ["mnist", "table.csv"])
def test_while_the_command_loads(data):
    """MNIST is read, and no garbage collected until it has; afterwards it is."""
    printed = subprocess.check_output([sys.executable, "-c", LOADING.format(data=data)], text=True)
    assert printed.split() == ["False", "True", "True", str(data == "mnist")]
    printed = subprocess.check_output([sys.executable, "-c", LOADING.format(data=data).replace('["fastbp"', '["x.py"')],
                                      text=True)
    assert printed.split() == ["True", "True", "False", "False"]
