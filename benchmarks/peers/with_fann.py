"""FANN, the C library, through Debian's python3-fann2: one sample at a time.

What differs: that package computes in float64, and in training FANN takes a tanh beyond 0.98 as 0.98 where it needs
its slope. It has neither Nesterov's momentum nor Adam, nor mini-batches smaller than the data.
"""

from __future__ import annotations

import sys

import numpy as np
from workloads import Piece, Workload, one_by_one

sys.path.append("/usr/lib/python3/dist-packages")  # where Debian installs it; last, so that nothing else comes from it
from fann2 import libfann  # noqa: E402


def network(workload: Workload) -> libfann.neural_net:
    net = libfann.neural_net()
    net.create_standard_array(workload.sizes)
    net.set_activation_function_hidden(libfann.SIGMOID_SYMMETRIC)
    net.set_activation_function_output(libfann.LINEAR)
    net.set_activation_steepness_hidden(1)
    net.set_activation_steepness_output(1)
    first = 0  # neuron of the layer; after the layer's neurons comes one that is 1, for the biases
    for W, b in workload.parameters:
        n_in, n_out = W.shape
        for i, row in enumerate([*W, b]):
            for j in range(n_out):
                net.set_weight(first + i, first + n_in + 1 + j, float(row[j]))
        first += n_in + 1
    return net


class Training:
    def __init__(self, workload: Workload):
        self.workload, self.net = workload, network(workload)
        self.net.set_training_algorithm(libfann.TRAIN_INCREMENTAL)
        self.net.set_train_error_function(libfann.ERRORFUNC_LINEAR)
        self.net.set_learning_rate(workload.eta)
        self.net.set_learning_momentum(0)
        self.data = libfann.training_data()

    def __call__(self, piece: Piece) -> float:
        """An epoch of samples handed over in our order; its own shuffle would be another."""
        x, y = self.workload.data
        losses = []
        for order in self.workload.order(piece).reshape(piece.epochs, -1):
            self.data.set_train_data(x[order].tolist(), y[order].tolist())
            losses.append(self.net.train_epoch(self.data))
        return float(np.mean(losses)) * self.workload.sizes[-1] / 2  # it reports the mean of (a - t)^2


def forward(workload: Workload):
    net, samples = network(workload), workload.data[0].tolist()
    return one_by_one(net.run, samples)
