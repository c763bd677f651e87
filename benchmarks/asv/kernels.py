"""The five equations one by one, compiled and in NumPy, called from Python on a mini-batch."""

import functools

import numpy as np
from rig import EQUATIONS, PARALLEL, SERIAL

from fastbp import optimizers
from fastbp.core import activations, compiler, reference, rules
from fastbp.core.simd.memory import at
from fastbp.workspace import aligned

from .cases import DTYPES, THREADS, PerCall, batch, only_with

LAYERS = ["784-128-10", "10-46-46-10"]  # two of the four: a run is to end within a quarter of an hour
BATCHES = [1, 128]
net_of = functools.cache(batch)  # asv sets up before every sample


def repeated(by, equation, net, threads):
    """A function that computes one equation so many times; what it reads is in place and finite."""
    net.compute(reference)
    net.compute(by, equation, threads=threads)
    for result in (net.buffers, net.costs, net.gradient, net.theta):
        assert np.isfinite(result).all() and result.any()
    function, own = getattr(by, equation), [*net.arguments(equation).values(), threads]

    def make(times):
        for _ in range(times):
            function(*own)

    return make


class Compiled(PerCall):
    """Seconds of one call of a kernel for a mini-batch, on one thread (`_serial`) or on two."""

    params = [list(EQUATIONS), LAYERS, BATCHES, DTYPES, THREADS]
    param_names = ["equation", "layers", "batch", "dtype", "threads"]

    def setup(self, equation, layers, n, dtype, threads):
        only_with(threads)
        self.ready(repeated(PARALLEL if threads > 1 else SERIAL, equation, net_of(layers, n, dtype), threads))

    def time_equation(self, equation, layers, n, dtype, threads):
        self.make(self.times)


class NumPyReference(PerCall):
    """Seconds of the same in plain NumPy (fastbp.core.reference), on one thread."""

    params = [list(EQUATIONS), LAYERS, BATCHES, DTYPES]
    param_names = ["equation", "layers", "batch", "dtype"]

    def setup(self, equation, layers, n, dtype):
        only_with(1)
        self.ready(repeated(reference, equation, net_of(layers, n, dtype), 1))

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
