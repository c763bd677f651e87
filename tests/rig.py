"""The rig of tests and benchmarks: networks with all that a step needs, calls of the engine, the oracle, processes.

`import rig` works in every test, since pytest puts the folder of conftest.py on the path; in scripts that `python` and
`start` run; and in benchmarks/asv, which puts it there itself. It imports only NumPy and fastbp.
"""

import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np

import fastbp
from fastbp import SGD, Adam, losses
from fastbp.core import build, equations, reference, rules
from fastbp.core.call import TRAIN
from fastbp.core.plan import plan_for, scratch_size
from fastbp.core.samples import LABELS, NO_SAMPLES, NONE, describe
from fastbp.core.threads.board import MOVED, WHOLE, board_size, fields_of
from fastbp.workspace import Workspace, aligned, parameter_offsets

DTYPES = ["float32", "float64"]

# The kernels by the names of their equations, as fastbp.core.reference has them: on one thread, or on several.
EQUATIONS = ("forward", "output_error", "backward", "weight_gradients", "update")
PARALLEL, SERIAL = (SimpleNamespace(**{name: getattr(rules if name == "update" else equations, name + suffix)
                                       for name in EQUATIONS}) for suffix in ("", "_serial"))
ADAM, MOMENTUM = Adam(0.01), SGD(0.1, momentum=0.9)


# Networks.


def draw_targets(draw, loss, n, n_out):
    """Random targets (n, n_out) that the loss of this code takes: with its least and largest among them, if any."""
    t = draw.normal(size=(n, n_out))
    if loss == losses.BinaryCrossEntropy.code:
        return np.clip(t + 0.5, 0, 1)
    if loss == losses.Poisson.code:
        return np.floor(np.abs(2 * t))
    return reference.softmax(3 * t) if loss == losses.CrossEntropy.code else t


class Net:
    """A network with random parameters, n random samples and targets, and the memory of a step.

    The arguments are Workspace's (the capacity is n if not given) and a loss's name or settings. All memory of the
    workspace that is not the samples' or their targets' holds `fill` at first.
    """

    def __init__(self, sizes, activations, loss, dtype, n, capacity=None, optimizer=ADAM, fill=np.nan, seed=0):
        self.draw = draw = np.random.default_rng(seed)
        self.sizes, self.dtype, self.n = tuple(sizes), np.dtype(dtype).name, n
        self.loss = (losses.LOSSES[loss]() if isinstance(loss, str) else loss).rule()
        self.optimizer, self.settings, self.eta, self.step = optimizer, optimizer.settings(), optimizer.eta, 1
        self.workspace = w = Workspace(sizes, activations, dtype, capacity or n)
        self.layers, self.buffers, self.targets, self.costs = w.layers, w.buffers, w.targets, w.costs
        for memory in (self.buffers, self.targets, self.costs):
            memory[:] = fill
        w.a[0][:n], self.targets[:n] = draw.normal(size=(n, sizes[0])), draw_targets(draw, self.loss.code, n, sizes[-1])
        size = parameter_offsets(sizes)[-1][0]
        self.theta, self.gradient = aligned(size, dtype), aligned(size, dtype)
        self.state = np.zeros((optimizer.n_moments, size), dtype)
        for layer in self.layers:
            W, b = reference.parameters(self.theta, layer)
            W[:], b[:] = draw.normal(0, 1 / np.sqrt(len(W)), W.shape), draw.normal(0, 0.1, b.shape)

    def arguments(self, equation):
        """What the equation's function takes, but for the number of threads."""
        names = {"output_error": ("layers", "buffers", "targets", "costs", "loss", "n"),
                 "weight_gradients": ("gradient", "layers", "buffers", "n"),
                 "update": ("theta", "gradient", "state", "settings", "eta", "step")}
        return {name: getattr(self, name) for name in names.get(equation, ("theta", "layers", "buffers", "n"))}

    def compute(self, by, *names, threads=1):
        """These equations, or all five, by SERIAL, PARALLEL or the oracle."""
        for name in names or EQUATIONS:
            getattr(by, name)(*self.arguments(name).values(), threads)


def gradient_by_oracle(theta, layers, buffers, targets, costs, loss, n, at_row=0):
    """The gradient of n samples' mean cost in plain NumPy, whose z, a, delta and costs stay in the arrays given."""
    gradient = np.empty_like(theta)
    reference.forward(theta, layers, buffers, n, at_row=at_row)
    reference.output_error(layers, buffers, targets, costs, loss, n)
    reference.backward(theta, layers, buffers, n, at_row=at_row)
    reference.weight_gradients(gradient, layers, buffers, n)
    return gradient


# Calls of the engine.


class Steps(Net):
    """Calls of the engine that train a network as Trainer has it trained, n samples to a mini-batch.

    What is trained on is described in `x` and `t`, weighed by `weights` and taken in `order`; `etas` and `step_costs`
    have an entry for each step. Set or change any of them between two calls.
    """

    def __init__(self, *network, threads=2, **settings):
        super().__init__(*network, **settings, fill=0)
        self.x, self.t, self.weights, self.order = NO_SAMPLES, NO_SAMPLES, np.empty(0), np.empty(0, np.int64)
        self.etas = self.step_costs = self.outputs = np.empty(0)
        self.clock, self.board = np.zeros(1, np.int64), np.zeros(board_size(threads), np.int64)
        self.scratch = aligned(scratch_size(self.sizes, threads, self.n), self.dtype)

    def slip(self, steps, threads=1, purpose=TRAIN, n_samples=None):
        """The vector of a call of so many steps: of samples as they lie, where there is no order, n_samples."""
        slip, order = self.workspace.slip, self.order[: steps * self.n]
        gradient = self.scratch if purpose == TRAIN else self.gradient
        slip.point(theta=self.theta, gradient=gradient, state=self.state, clock=self.clock, rule=self.settings,
                   etas=self.etas[:steps], outputs=self.outputs)
        slip.put(n_gradient=len(gradient), n_state=len(self.state))
        slip.put_data(self.x, self.t, self.weights, order, len(order) if n_samples is None else n_samples)
        slip.put_loss(self.loss)
        plan = plan_for(self.sizes, self.n, purpose, threads, errors=self.t.kind != NONE)
        slip.put_work(purpose, self.n, plan, self.step_costs[:steps])
        slip.put_threads(self.board, threads)
        slip.put(address=build.address(self.dtype, self.layers, self.settings, purpose))
        return slip.vector

    def __call__(self, kernel, steps, threads=1, **options):
        """Make so many steps by engine.run or engine.run_serial; returns how many were made."""
        return kernel(self.slip(steps, threads, **options), threads)


def classifier(sizes=(6, 9, 4), dtype="float32", n=10, threads=2, n_samples=40, most=400, eta=0.1, x_dtype="float64"):
    """Steps of a network with relu layers and softmax; no call may take more than `most` samples or make more steps."""
    steps = Steps(sizes, ["relu"] * (len(sizes) - 2) + ["softmax"], "cross_entropy", dtype, n, threads=threads,
                  optimizer=MOMENTUM)
    draw = steps.draw
    steps.data = draw.random((n_samples, sizes[0])).astype(x_dtype), draw.integers(0, sizes[-1], n_samples)
    steps.x, steps.t = describe(steps.data[0]), describe(steps.data[1], LABELS)
    steps.order = np.resize(draw.permutation(n_samples), most)
    steps.etas, steps.step_costs = np.full(most, eta), np.zeros(most)
    return steps


def moved(threads, draw):
    """A board whose threads' work ends wherever it likes, in order."""
    board = np.zeros(board_size(threads), np.int64)
    ends = np.sort(draw.integers(0, WHOLE + 1, threads - 1))
    fields_of(board, threads)[MOVED][:-1] = ends - WHOLE * np.arange(1, threads) // threads
    return board


def bits_of_two_fits(trainer, X, y, pickled=False):
    """Of parameters and state, where the trainer may be pickled between the fits and another one goes on."""
    trainer.fit(X, y)
    if pickled:
        trainer = pickle.loads(pickle.dumps(trainer))
    trainer.fit(X, y)
    return trainer.network.theta.tobytes() + trainer.state.rows.tobytes()


# Threads and processes.


def in_threads(work, n):
    """Run work(0) to work(n - 1) at once, each in a Python thread of its own."""
    threads = [threading.Thread(target=work, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)


# Scripts find fastbp in `path`, if nothing else is said where this process has it from, all tests, and this file.
TESTS, ROOT = Path(__file__).parent, Path(fastbp.__file__).parents[1]


def _settings(path, environment):
    folders = [path, TESTS, *sorted({file.parent for file in TESTS.rglob("test_*.py")})]
    return {"text": True, "cwd": path,
            "env": os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders))} | environment}


def python(script, *arguments, path=ROOT, warnings="error", **environment):
    """Run `script` in a Python of its own; the finished process."""
    return subprocess.run([sys.executable, "-W", warnings, "-c", script, *map(str, arguments)], capture_output=True,
                          timeout=600, check=False, **_settings(path, environment))


def output(script, *arguments, **environment):
    """What a script that must succeed printed."""
    done = python(script, *arguments, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def start(script, *arguments, **environment):
    """Run `script` beside this process."""
    return subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **_settings(ROOT, environment))
