"""The five equations one by one, compiled and in NumPy, called from Python on a mini-batch."""

import functools

import numpy as np

from fastbp import losses, optimizers
from fastbp.core import activations, compiler, equations, reference, rules
from fastbp.core.simd.memory import at
from fastbp.workspace import aligned

from .cases import DTYPES, THREADS, Batch, PerCall, only_with

EQUATIONS = ["forward", "output_error", "backward", "weight_gradients", "update"]
LAYERS = ["784-128-10", "10-46-46-10"]  # two of the four: a run is to end within a quarter of an hour
BATCHES = [1, 128]
batch = functools.cache(Batch)  # asv sets up before every sample


def arguments(equation, b):
    """Of the kernel, all but threads."""
    w = b.workspace
    return {
        "forward": (b.network.theta, w.layers, w.buffers, b.n),
        "output_error": (w.layers, w.buffers, w.targets, w.costs, losses.CrossEntropy().rule(), b.n),
        "backward": (b.network.theta, w.layers, w.buffers, b.n),
        "weight_gradients": (b.gradient, w.layers, w.buffers, b.n),
        "update": (b.network.theta, b.gradient, b.state, b.settings, b.eta, 1),
    }[equation]


def repeated(function, equation, b, threads):
    """A function that calls one equation's, so many times; what each equation reads is in place and finite."""
    for name in EQUATIONS:
        getattr(reference, name)(*arguments(name, b))
    own = *arguments(equation, b), threads
    function(*own)
    for result in (b.workspace.buffers, b.workspace.costs, b.gradient, b.network.theta):
        assert np.isfinite(result).all() and result.any()

    def make(times):
        for _ in range(times):
            function(*own)

    return make


class Compiled(PerCall):
    """Seconds of one call of a kernel for a mini-batch, on one thread (`_serial`) or on two."""

    params = [EQUATIONS, LAYERS, BATCHES, DTYPES, THREADS]
    param_names = ["equation", "layers", "batch", "dtype", "threads"]

    def setup(self, equation, layers, n, dtype, threads):
        only_with(threads)
        module = rules if equation == "update" else equations
        function = getattr(module, equation if threads > 1 else f"{equation}_serial")
        self.ready(repeated(function, equation, batch(layers, n, dtype), threads))

    def time_equation(self, equation, layers, n, dtype, threads):
        self.make(self.times)


class NumPyReference(PerCall):
    """Seconds of the same in plain NumPy (fastbp.core.reference), on one thread."""

    params = [EQUATIONS, LAYERS, BATCHES, DTYPES]
    param_names = ["equation", "layers", "batch", "dtype"]

    def setup(self, equation, layers, n, dtype):
        only_with(1)
        self.ready(repeated(getattr(reference, equation), equation, batch(layers, n, dtype), 1))

    def time_equation(self, equation, layers, n, dtype):
        self.make(self.times)


@compiler.serial
def activate_often(code, z, a, n, times):
    for _ in range(times):
        activations.activate(code, at(z, 0), at(a, 0), 1, n, n)


@compiler.serial
def slope_often(code, z, a, delta, n, times):
    for _ in range(times):
        delta[:] = 1
        activations.multiply_by_prime(code, at(z, 0), at(a, 0), at(delta, 0), 1, n, n)


class Activation(PerCall):
    """Seconds of f and of f' for 65,536 numbers, one thread; beside them the same in NumPy, and the copy of as many."""

    params = [["copy", *(name for name in activations.CODES if name != "softmax")], ["f", "f'"],
              ["compiled", "NumPy"], ["float32", "float64"]]
    param_names = ["activation", "what", "by", "dtype"]

    def setup(self, name, what, by, dtype):
        only_with(1)
        z, a, delta = (aligned(1 << 16, dtype) for _ in range(3))
        z[:] = np.random.default_rng(0).normal(0, 2, z.size)
        code, numpy = activations.CODES.get(name), reference.F if what == "f" else reference.F_PRIME

        def make(times):
            if name != "copy" and by == "compiled":
                often = activate_often if what == "f" else slope_often
                often(code, *((z, a) if what == "f" else (z, a, delta)), z.size, times)
            for _ in range(times if name == "copy" or by == "NumPy" else 0):
                a[:] = z if name == "copy" else numpy[code](z)

        self.ready(make)

    def time_activation(self, name, what, by, dtype):
        self.make(self.times)


N_PARAMETERS = 669_706  # of 784-512-512-10


@compiler.serial
def stream(theta, gradient, m, v):
    """What an update with two moments reads and writes, and next to no arithmetic: the limit of its time."""
    for i in range(theta.size):
        m[i] += gradient[i]
        v[i] += gradient[i]
        theta[i] += gradient[i]


class Update(PerCall):
    """Seconds of the update of 669,706 float32 parameters by each rule, one thread; beside them, streaming what Adam's
    does."""

    params = [["stream", *optimizers.OPTIMIZERS, "adam, decay and l1"]]
    param_names = ["rule"]

    def setup(self, name):
        only_with(1)
        optimizer = optimizers.Adam(1e-6, weight_decay=1e-3, l1=1e-3) if "," in name else optimizers.OPTIMIZERS.get(
            name, optimizers.Adam)(1e-6)
        theta, gradient = (aligned(N_PARAMETERS, "float32") for _ in range(2))
        state = aligned(optimizer.n_moments * N_PARAMETERS, "float32").reshape(optimizer.n_moments, N_PARAMETERS)
        gradient[:] = np.random.default_rng(0).normal(0, 0.01, N_PARAMETERS)
        settings = optimizer.settings()

        def make(times):
            for step in range(times):
                if name == "stream":
                    stream(theta, gradient, *state)
                else:
                    rules.update_serial(theta, gradient, state, settings, optimizer.eta, step + 1, 1)

        self.ready(make)

    def time_update(self, name):
        self.make(self.times)
