"""How near the peak and how exact: numbers that are no seconds."""

import statistics

import numpy as np
from machine import interleave
from tile import SHAPES, peak, rate

import fastbp
from fastbp import losses
from fastbp.core import reference

from .cases import DTYPES, LAYERS, Batch, network, only_with


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
        exact = Batch(layers, 128, "float64")
        net = network(layers, dtype)
        exact.network.theta = net.theta
        w = exact.workspace
        w.a[0][:] = w.a[0].astype(dtype)
        _, gradient = fastbp.cost_and_gradient(net, w.a[0].astype(dtype), w.targets.astype(dtype))
        reference.forward(exact.network.theta, w.layers, w.buffers, 128)
        reference.output_error(w.layers, w.buffers, w.targets, w.costs, losses.CrossEntropy().rule(), 128)
        reference.backward(exact.network.theta, w.layers, w.buffers, 128)
        reference.weight_gradients(exact.gradient, w.layers, w.buffers, 128)
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
