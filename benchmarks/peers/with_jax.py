"""JAX: all steps of a piece are one jit, a scan over the mini-batches; optax; parameters and moments donated."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from workloads import BETA1, BETA2, EPSILON, Piece, Workload, mnist


def outputs(workload: Workload, parameters, x):
    """a[L]; for labels z[L], of which the loss takes the softmax."""
    activation = {"relu": jax.nn.relu, "tanh": jnp.tanh}[workload.hidden]
    *hidden, (W, b) = parameters
    for W_hidden, b_hidden in hidden:
        x = activation(x @ W_hidden + b_hidden)
    return x @ W + b


class Training:
    def __init__(self, workload: Workload):
        self.workload = workload
        x, y = workload.data
        self.data = (jnp.asarray(x, jnp.float32) / 255, jnp.asarray(y, jnp.int32)) if workload.labels else (
            jnp.asarray(x), jnp.asarray(y))
        if workload.optimizer == "Adam":
            self.optimizer = optax.adam(workload.eta, BETA1, BETA2, EPSILON)
        else:
            eta = self._eta if workload.linear else workload.eta
            self.optimizer = optax.sgd(eta, workload.momentum or None, nesterov=workload.momentum > 0)
        parameters = jax.tree.map(jnp.asarray, workload.parameters)
        self.carry = parameters, self.optimizer.init(parameters)

    def _eta(self, step):
        factors = jnp.asarray([self.workload.factor(step) for step in range(self.workload.steps)], jnp.float32)
        return self.workload.eta * factors[step]

    def _cost(self, parameters, x, y):
        a = outputs(self.workload, parameters, x)
        if self.workload.labels:
            return optax.softmax_cross_entropy_with_integer_labels(a, y).mean()
        return jnp.square(a - y).sum() / (2 * len(a))

    @partial(jax.jit, static_argnums=0, donate_argnums=1)
    def _steps(self, carry, data, order):
        def step(carry, batch):
            parameters, moments = carry
            loss, gradients = jax.value_and_grad(self._cost)(parameters, data[0][batch], data[1][batch])
            updates, moments = self.optimizer.update(gradients, moments, parameters)
            return (optax.apply_updates(parameters, updates), moments), loss

        carry, losses = jax.lax.scan(step, carry, order)
        return carry, losses.mean()

    def __call__(self, piece: Piece) -> float:
        order = self.workload.order(piece).astype(np.int32)
        self.carry, loss = self._steps(self.carry, self.data, order)
        return float(loss)

    def accuracy(self) -> float:
        x, labels = mnist("t10k", 10_000)
        z = jax.jit(partial(outputs, self.workload))(self.carry[0], jnp.asarray(x, jnp.float32) / 255)
        return float((z.argmax(1) == labels).mean())


def forward(workload: Workload):
    parameters = jax.tree.map(jnp.asarray, workload.parameters)
    call = jax.jit(partial(outputs, workload))
    samples = [jnp.asarray(row[None]) for row in workload.data[0]]

    def calls(piece: Piece) -> float:
        for sample in samples[: piece.rows]:
            output = call(parameters, sample).block_until_ready()
        return float(jnp.abs(output).mean())

    return calls
