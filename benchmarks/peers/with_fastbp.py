"""fastbp as a user has it: uint8 images where they lie, Trainer.fit, Network.forward."""

from __future__ import annotations

import numpy as np
from workloads import BETA1, BETA2, EPSILON, Piece, Workload, mnist, one_by_one

import fastbp


def network(workload: Workload) -> fastbp.Network:
    output = "softmax" if workload.labels else "identity"
    scale = 1 / 255 if workload.labels else 1  # images of bytes
    net = fastbp.Network(workload.sizes, workload.hidden, output, seed=workload.seed, input_scale=scale)
    for l, (W, b) in enumerate(workload.parameters):
        net.W[l], net.b[l] = W, b
    return net


class Training:
    def __init__(self, workload: Workload, threads: int | None = None):
        self.workload, self.net = workload, network(workload)
        if workload.optimizer == "Adam":
            optimizer = fastbp.Adam(workload.eta, BETA1, BETA2, EPSILON)
        else:
            optimizer = fastbp.SGD(workload.eta, workload.momentum, nesterov=workload.momentum > 0)
        self.trainer = fastbp.Trainer(self.net, None, optimizer, workload.batch, workload.seed, threads,
                                      "linear" if workload.linear else None)

    def __call__(self, piece: Piece) -> float:
        x, y = self.workload.data
        history = self.trainer.fit(x[: piece.rows], y[: piece.rows], piece.epochs, progress=False)
        return float(np.mean(history.loss))

    def accuracy(self) -> float:
        x, labels = mnist("t10k", 10_000)
        return float(np.mean(self.net.predict(x) == labels))


def forward(workload: Workload):
    net, x = network(workload), workload.data[0]
    return one_by_one(net.forward, [x[i : i + 1] for i in range(len(x))])
