"""How near the peak and how exact: numbers that are no seconds."""

import statistics

import numpy as np
from machine import interleave
from probes import peak
from rig import EQUATIONS
from tile import SHAPES, rate

import fastbp
from fastbp.core import reference

from .cases import DTYPES, LAYERS, batch, network, only_with


class Tile:
    """Time of a dense product as a multiple of what it were at the processor's FMA peak (benchmarks/tile.py): the
    reciprocal of the fraction of the peak, 1 at best. One thread, operands in cache."""

    params = [list(SHAPES), DTYPES]
    param_names = ["product", "dtype"]
    unit = "times the time at peak"

    def setup(self, shape, dtype):
        only_with(1)

    def track_time_over_peak(self, shape, dtype):
        figures = interleave({"peak": peak(dtype, 0.01), "product": rate(dtype, *SHAPES[shape], 0.01)}, 15)
        return statistics.median(top / own for top, own in zip(figures["peak"], figures["product"], strict=True))


class Gradient:
    """Largest error of a gradient's entry, as a fraction of the largest entry: cost_and_gradient beside the plain NumPy
    equations in float64, the same parameters and 128 samples."""

    params = [LAYERS, DTYPES]
    param_names = ["layers", "dtype"]
    unit = "of the largest entry"

    def setup(self, layers, dtype):
        only_with(1)

    def track_error(self, layers, dtype):
        exact, net = batch(layers, 128, "float64"), network(layers, dtype)
        exact.theta[:] = net.theta
        a, t = exact.workspace.a[0], exact.targets
        a[:], t[:] = a.astype(dtype), t.astype(dtype)
        _, gradient = fastbp.cost_and_gradient(net, a.astype(dtype), t.astype(dtype))
        exact.compute(reference, *EQUATIONS[:-1])
        return float(np.abs(gradient - exact.gradient).max() / np.abs(exact.gradient).max())


class Mnist:
    """How many of the 10,000 test digits are told wrongly after one epoch; the same each time."""

    unit = "digits"

    def setup(self):
        only_with(1)

    def track_wrong(self):
        data = fastbp.data.mnist()
        net = network("784-128-10", input_scale=1 / 255)
        trainer = fastbp.Trainer(net, optimizer=fastbp.SGD(0.1, momentum=0.9, nesterov=True))
        trainer.fit(data.x_train, data.y_train, 1, progress=False)
        return int((trainer.network.predict(data.x_test) != data.y_test).sum())
