"""What training and inference are made of: a whole step, an epoch, an answer for one sample."""

import functools

import numpy as np

import fastbp
from fastbp import losses
from fastbp.core import build, engine
from fastbp.core.call import TRAIN
from fastbp.core.plan import plan_for, scratch_size
from fastbp.core.samples import LABELS, describe
from fastbp.core.threads.board import board_size
from fastbp.workspace import aligned

from .cases import DTYPES, LAYERS, THREADS, Batch, PerCall, network, only_with

SAMPLES = 1024
MOST = 2**20  # samples, and steps, of one compiled call


class Steps(Batch):
    """Any number of training steps in one compiled call, as Trainer makes them, on SAMPLES samples in random order."""

    def __init__(self, layers, n, dtype, threads):
        super().__init__(layers, n, dtype)
        draw = np.random.default_rng(1)
        sizes = self.network.layer_sizes
        self.x, self.y = draw.random((SAMPLES, sizes[0])).astype(dtype), draw.integers(0, sizes[-1], SAMPLES)
        self.samples = describe(self.x), describe(self.y, LABELS)
        self.order = np.resize(draw.permutation(SAMPLES), MOST)
        self.etas, self.costs = np.zeros(MOST), np.zeros(MOST)
        self.clock, self.board = np.zeros(1, np.int64), np.zeros(board_size(threads), np.int64)
        self.scratch = aligned(scratch_size(sizes, threads, n), dtype)
        self.run, self.threads = engine.run if threads > 1 else engine.run_serial, threads
        self.plan = plan_for(sizes, n, TRAIN, threads)
        self.slip = self.workspace.slip
        self.slip.put_loss(losses.CrossEntropy().rule())

    def __call__(self, steps):
        """Make them; returns how many were made."""
        slip, order = self.slip, self.order[: steps * self.n]
        slip.point(theta=self.network.theta, gradient=self.scratch, state=self.state, clock=self.clock,
                   rule=self.settings, etas=self.etas[:steps])
        slip.put(n_gradient=len(self.scratch), n_state=len(self.state))
        slip.put_data(*self.samples, np.empty(0), order, len(order))
        slip.put_work(TRAIN, self.n, self.plan, self.costs[:steps])
        slip.put_threads(self.board, self.threads)
        slip.put(address=build.address(self.network.dtype.name, self.workspace.layers, self.settings, TRAIN))
        return self.run(slip.vector, self.threads)


steps_of = functools.cache(Steps)  # asv sets up before every sample


class Training(PerCall):
    """Seconds of one step of training with momentum: input, five equations; calls from Python do not count."""

    params = [LAYERS, [1, 32, 128], DTYPES, THREADS]
    param_names = ["layers", "batch", "dtype", "threads"]

    def setup(self, layers, n, dtype, threads):
        only_with(threads)
        steps = steps_of(layers, n, dtype, threads)
        assert steps(3) == 3 and np.isfinite(steps.costs[:3]).all() and (steps.costs[:3] > 0).all()
        assert np.isfinite(steps.state).all() and steps.state.any()
        self.ready(steps)

    def time_step(self, layers, n, dtype, threads):
        self.make(self.times)


class Epoch:
    """Seconds of one epoch of MNIST by Trainer.fit: 784-128-10, batch 128, Nesterov momentum, float32, uint8 images."""

    params = THREADS
    param_names = ["threads"]
    number, repeat = 1, 5

    def setup(self, threads):
        only_with(threads)
        self.data = fastbp.data.mnist()
        optimizer = fastbp.SGD(0.1, momentum=0.9, nesterov=True)
        self.trainer = fastbp.Trainer(network("784-128-10", input_scale=1 / 255), optimizer=optimizer, threads=threads)
        self.trainer.compile()

    def time_epoch(self, threads):
        history = self.trainer.fit(self.data.x_train, self.data.y_train, 1, progress=False)
        assert self.trainer.steps_done % 469 == 0 and history.loss[0] < 0.5


OPTIONS = {
    # settings of a Trainer, and of its fit
    "none": ({}, {}),
    "dropout 0.5": ({"dropout": 0.5}, {}),
    "dropout of input too": ({"dropout": [0.2, 0.5, 0.5]}, {}),
    "weight decay": ({"optimizer": fastbp.SGD(0.01, 0.9, weight_decay=1e-4)}, {}),
    "l1": ({"optimizer": fastbp.SGD(0.01, 0.9, l1=1e-6)}, {}),
    "label smoothing": ({"loss": losses.CrossEntropy(label_smoothing=0.1)}, {}),
    "noise": ({"noise": 0.1}, {}),
    "clip value": ({"clip_value": 1e-3}, {}),
    "clip norm": ({"clip_norm": 0.5}, {}),
    "max norm": ({"max_norm": 3.0}, {}),
    "ema": ({"ema": 0.999}, {}),
    "first layer frozen": ({"frozen": [0]}, {}),
    "first two frozen": ({"frozen": [0, 1]}, {}),
    "cosine": ({"schedule": "cosine"}, {}),
    "balanced": ({}, {"class_weight": "balanced"}),
    "callback": ({}, {"callbacks": [fastbp.callbacks.Every(10, lambda fit: None)]}),
}


class Option:
    """Seconds of 40 steps of 784-512-512-10 by Trainer.fit, batch 128, momentum, with one option; beside them, none."""

    params = [list(OPTIONS), THREADS]
    param_names = ["option", "threads"]
    number, repeat = 1, (5, 20, 2.0)

    def setup(self, option, threads):
        only_with(threads)
        data = fastbp.data.mnist()
        self.x, self.y = data.x_train[:5120], data.y_train[:5120]
        settings, self.of_fit = OPTIONS[option]
        self.trainer = fastbp.Trainer(network("784-512-512-10", input_scale=1 / 255), threads=threads,
                                      **({"optimizer": fastbp.SGD(0.01, momentum=0.9)} | settings))
        self.trainer.fit(self.x, self.y, 1, progress=False)

    def time_fit(self, option, threads):
        history = self.trainer.fit(self.x, self.y, 1, progress=False, **self.of_fit)
        assert 0 < history.loss[0] < 2.5


class Answer(PerCall):
    """Seconds of Network.forward for one sample, called from Python: checks, the compiled call, the result's array."""

    params = [LAYERS]
    param_names = ["layers"]

    def setup(self, layers):
        only_with(1)
        net = network(layers)
        x = np.random.default_rng(0).random((1, net.layer_sizes[0]), np.float32)
        assert np.isclose(net.forward(x).sum(), 1)

        def make(times):
            for _ in range(times):
                net.forward(x)

        self.ready(make)

    def time_forward(self, layers):
        self.make(self.times)
