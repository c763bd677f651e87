"""What training and inference are made of: a whole step, an epoch, an answer for one sample."""

import functools

import numpy as np
from rig import classifier

import fastbp
from fastbp import losses
from fastbp.core import engine

from .cases import DTYPES, LAYERS, THREADS, PerCall, network, only_with

SAMPLES = 1024
MOST = 2**20  # samples, and steps, of one compiled call


@functools.cache  # asv sets up before every sample
def steps_of(layers, n, dtype, threads):
    """Steps as Trainer makes them, any number in one compiled call, on SAMPLES samples in random order."""
    sizes = [int(size) for size in layers.split("-")]
    return classifier(sizes, dtype, n, threads, SAMPLES, MOST, eta=0.0, x_dtype=dtype)


class Training(PerCall):
    """Seconds of one step of training with momentum: input, five equations; calls from Python do not count."""

    params = [LAYERS, [1, 32, 128], DTYPES, THREADS]
    param_names = ["layers", "batch", "dtype", "threads"]

    def setup(self, layers, n, dtype, threads):
        only_with(threads)
        steps, kernel = steps_of(layers, n, dtype, threads), engine.run if threads > 1 else engine.run_serial
        assert steps(kernel, 3, threads) == 3
        assert np.isfinite(steps.step_costs[:3]).all() and (steps.step_costs[:3] > 0).all()
        assert np.isfinite(steps.state).all() and steps.state.any()
        self.ready(lambda times: steps(kernel, times, threads))

    def time_step(self, layers, n, dtype, threads):
        self.make(self.times)


class Door(PerCall):
    """Seconds of Trainer.step, with Adam, and of cost_and_gradient, called from Python."""

    params = [["step", "gradient"], LAYERS, [1, 32]]
    param_names = ["call", "layers", "batch"]

    def setup(self, call, layers, n):
        only_with(1)
        net = network(layers)
        trainer, draw = fastbp.Trainer(net, optimizer="adam", batch_size=n, threads=1), np.random.default_rng(0)
        x, y = draw.random((n, net.layer_sizes[0]), np.float32), draw.integers(0, net.layer_sizes[-1], n)
        out = np.empty_like(net.theta)

        def make(times):
            for _ in range(times):
                trainer.step(x, y) if call == "step" else fastbp.cost_and_gradient(net, x, y, out=out)

        make(3)
        assert trainer.steps_done == (0 if call == "gradient" else 3)
        self.ready(make)

    def time_call(self, call, layers, n):
        self.make(self.times)


class Derivative(PerCall):
    """Seconds of derivatives of the mean cost, or of each sample's, of many samples; beside them, of the gradient."""

    params = [["gradient", "hvp", "input_gradients", "per_sample_gradient_norms"], LAYERS, THREADS]
    param_names = ["call", "layers", "threads"]

    def setup(self, call, layers, threads):
        only_with(threads)
        if call != "gradient" and not hasattr(fastbp, call):
            raise NotImplementedError(f"a version without {call}")
        net, draw = network(layers), np.random.default_rng(0)
        x, y = draw.random((SAMPLES, net.layer_sizes[0]), np.float32), draw.integers(0, net.layer_sizes[-1], SAMPLES)
        compute = getattr(fastbp, "cost_and_gradient" if call == "gradient" else call)
        vector = [draw.normal(size=net.n_parameters).astype(np.float32)] if call == "hvp" else []

        def make(times):
            for _ in range(times):
                compute(net, x, y, *vector, threads=threads)

        make(3)
        self.ready(make)

    def time_call(self, call, layers, threads):
        self.make(self.times)


class Many(PerCall):
    """Seconds of a step of one of many networks that fit_many trains at once: Adam, batch 32, epochs of 25 steps."""

    params = [["4-32-16-4", "10-46-46-10"], THREADS]
    param_names = ["layers", "threads"]
    EPOCHS, NETWORKS = 4, 20

    def setup(self, layers, threads):
        only_with(threads)
        nets = [network(layers) for _ in range(self.NETWORKS)]
        trainers, draw = [fastbp.Trainer(net, None, "adam", 32) for net in nets], np.random.default_rng(0)
        x = draw.random((800, nets[0].layer_sizes[0]), np.float32)
        y = x[:, : nets[0].layer_sizes[-1]].argmax(1)

        def make(times):
            fastbp.fit_many(trainers, x, y, self.EPOCHS, progress=False, threads=threads)

        make(1)
        assert all(trainer.steps_done == 25 * self.EPOCHS for trainer in trainers)
        self.make, self.times = make, 25 * self.EPOCHS * self.NETWORKS

    def time_step(self, layers, threads):
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
