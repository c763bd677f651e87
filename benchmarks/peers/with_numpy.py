"""Plain NumPy: products by BLAS, buffers made once, all parameters in one vector, so an update is a few long loops."""

from __future__ import annotations

import numpy as np
from workloads import BETA1, BETA2, EPSILON, Piece, Workload, one_by_one


class Network:
    def __init__(self, workload: Workload):
        self.relu = workload.hidden == "relu"
        layers = workload.parameters
        self.theta = np.concatenate([part.ravel() for layer in layers for part in layer])
        self.W, self.b = self.views(self.theta, workload.sizes)
        self.a = [np.empty((workload.batch, n), np.float32) for n in workload.sizes]

    @staticmethod
    def views(vector: np.ndarray, sizes: tuple[int, ...]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Each layer's part of a vector that is W[0], b[0], W[1], ..."""
        weights, biases, start = [], [], 0
        for n_in, n_out in zip(sizes, sizes[1:], strict=False):
            weights.append(vector[start : start + n_in * n_out].reshape(n_in, n_out))
            biases.append(vector[start + n_in * n_out : start + (n_in + 1) * n_out])
            start += (n_in + 1) * n_out
        return weights, biases

    def forward(self, x: np.ndarray) -> np.ndarray:
        """z[L], in a buffer that the next call overwrites."""
        last = len(self.W) - 1
        for l, (W, b, a) in enumerate(zip(self.W, self.b, self.a[1:], strict=True)):
            np.matmul(x, W, out=a)
            a += b
            if l < last and self.relu:
                np.maximum(a, 0, out=a)
            elif l < last:
                np.tanh(a, out=a)
            x = a
        return x

    def slope(self, l: int) -> np.ndarray:
        """f'(z) of hidden layer l, from its a = f(z)."""
        return self.a[l] > 0 if self.relu else 1 - np.square(self.a[l])


class Training:
    def __init__(self, workload: Workload):
        self.workload, self.net = workload, Network(workload)
        x, self.y = workload.data
        self.x = x.astype(np.float32) / 255 if workload.labels else x
        self.delta = [np.empty_like(a) for a in self.net.a]
        self.gradient = np.empty_like(self.net.theta)
        self.dW, self.db = Network.views(self.gradient, workload.sizes)
        self.m, self.v, self.scratch = (np.zeros_like(self.gradient) for _ in range(3))
        self.done = 0

    def __call__(self, piece: Piece) -> float:
        order = self.workload.order(piece)
        update = self._adam if self.workload.optimizer == "Adam" else self._sgd
        total = 0.0
        for batch in order:
            total += self._gradients(batch)
            self.done += 1
            update()
        return total / len(order)

    def _gradients(self, batch: np.ndarray) -> float:
        """Fills self.gradient; returns the mean cost."""
        net, delta = self.net, self.delta
        np.take(self.x, batch, axis=0, out=net.a[0], mode="clip")  # "raise" would take a second copy
        loss = self._output_error(net.forward(net.a[0]), self.y[batch])
        for l in reversed(range(len(net.W))):
            np.matmul(net.a[l].T, delta[l + 1], out=self.dW[l])
            np.sum(delta[l + 1], axis=0, out=self.db[l])
            if l:
                np.matmul(delta[l + 1], net.W[l].T, out=delta[l])
                delta[l] *= net.slope(l)
        return loss

    def _output_error(self, z: np.ndarray, y: np.ndarray) -> float:
        """Fills delta[L], the error over the number of samples; returns the mean cost."""
        delta, n = self.delta[-1], len(z)
        if not self.workload.labels:
            np.subtract(z, y, out=delta)
            loss = float(np.vdot(delta, delta)) / (2 * n)
        else:
            rows = np.arange(n)
            np.subtract(z, z.max(axis=1, keepdims=True), out=delta)
            of_label = delta[rows, y]
            np.exp(delta, out=delta)
            total = delta.sum(axis=1, keepdims=True)
            loss = float(np.mean(np.log(total[:, 0]) - of_label))
            delta /= total
            delta[rows, y] -= 1
        delta /= n
        return loss

    def _sgd(self) -> None:
        g, v, eta, momentum = self.gradient, self.v, self.workload.eta, self.workload.momentum
        if momentum:
            v *= momentum
            v += g
            np.multiply(v, momentum, out=self.scratch)
            g += self.scratch
        g *= eta
        self.net.theta -= g

    def _adam(self) -> None:
        g, scratch = self.gradient, self.scratch
        self.m *= BETA1
        self.m += np.multiply(g, 1 - BETA1, out=scratch)
        self.v *= BETA2
        np.square(g, out=g)
        g *= 1 - BETA2
        self.v += g
        np.multiply(self.v, 1 / (1 - BETA2**self.done), out=scratch)
        np.sqrt(scratch, out=scratch)
        scratch += EPSILON
        np.divide(self.m, scratch, out=scratch)
        scratch *= self.workload.eta / (1 - BETA1**self.done)
        self.net.theta -= scratch


def forward(workload: Workload):
    net, x = Network(workload), workload.data[0]
    return one_by_one(net.forward, [x[i : i + 1] for i in range(len(x))])
