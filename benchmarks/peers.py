"""One epoch of MNIST beside PyTorch and JAX: make bench-peers

784-128-10, relu and softmax, cross-entropy, SGD with Nesterov momentum 0.9, eta 0.1, mini-batches of 128, float32, two
threads. Every library starts from the same parameters, sees the same samples in the same order and must end at the
same training loss. Each runs in a process of its own; one epoch each in turn, the others waiting.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from machine import describe, interleave, spread

import fastbp

SIZES, BATCH, ETA, MOMENTUM = [784, 128, 10], 128, 0.1, 0.9
Epoch = Callable[[np.ndarray], float]


def start() -> tuple[fastbp.Network, np.ndarray, np.ndarray]:
    data = fastbp.data.mnist()
    return fastbp.Network(SIZES, hidden="relu", output="softmax", seed=0), data.x_train, data.y_train


def fastbp_epochs(threads: int) -> Epoch:
    """As a user has it: uint8 images, Trainer.fit. (Its shuffle, of seed and epoch, is the order of all.)"""
    net, x, y = start()
    optimizer = fastbp.SGD(ETA, MOMENTUM, nesterov=True)
    trainer = fastbp.Trainer(net, "cross_entropy", optimizer, BATCH, seed=0, threads=threads)
    trainer.compile()
    return lambda order: trainer.fit(x, y, progress=False).loss[0]


def torch_epochs(threads: int) -> Epoch:
    """Eager; tensors in memory, indexed per mini-batch."""
    import torch

    torch.set_num_threads(threads)
    net, x, y = start()
    images, labels = torch.tensor(x).float() / 255, torch.tensor(y).long()
    model = torch.nn.Sequential(torch.nn.Linear(784, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
    with torch.no_grad():
        for l, layer in enumerate((model[0], model[2])):
            layer.weight.copy_(torch.tensor(net.W[l].T))
            layer.bias.copy_(torch.tensor(net.b[l]))
    optimizer = torch.optim.SGD(model.parameters(), lr=ETA, momentum=MOMENTUM, nesterov=True)
    cost = torch.nn.CrossEntropyLoss()

    def epoch(order: np.ndarray) -> float:
        total, samples = torch.zeros(()), torch.from_numpy(order)
        for first in range(0, len(order), BATCH):
            batch = samples[first : first + BATCH]
            optimizer.zero_grad(set_to_none=True)
            loss = cost(model(images[batch]), labels[batch])
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(batch)
        return float(total) / len(order)

    return epoch


def jax_epochs(threads: int) -> Epoch:
    """The whole epoch in one jit, a scan over the mini-batches; the ragged last one in a jit of its own."""
    import jax
    import jax.numpy as jnp
    import optax

    net, x, y = start()
    images, labels = jnp.asarray(x, jnp.float32) / 255, jnp.asarray(y, jnp.int32)
    optimizer = optax.sgd(ETA, MOMENTUM, nesterov=True)
    parameters = [(jnp.asarray(W), jnp.asarray(b)) for W, b in zip(net.W, net.b, strict=True)]
    state = [parameters, optimizer.init(parameters)]

    def cost(parameters, batch):
        (W1, b1), (W2, b2) = parameters  # noqa: N806
        z = jax.nn.relu(images[batch] @ W1 + b1) @ W2 + b2
        return optax.softmax_cross_entropy_with_integer_labels(z, labels[batch]).mean()

    def step(carry, batch):
        parameters, moments = carry
        loss, gradients = jax.value_and_grad(cost)(parameters, batch)
        updates, moments = optimizer.update(gradients, moments, parameters)
        return (optax.apply_updates(parameters, updates), moments), loss

    many, one = jax.jit(lambda carry, batches: jax.lax.scan(step, carry, batches)), jax.jit(step)

    def epoch(order: np.ndarray) -> float:
        whole = len(order) // BATCH * BATCH
        carry, losses = many(tuple(state), jnp.asarray(order[:whole].reshape(-1, BATCH)))
        total = losses.sum() * BATCH
        if whole < len(order):
            carry, loss = one(carry, jnp.asarray(order[whole:]))
            total += loss * (len(order) - whole)
        state[:] = carry
        return float(total) / len(order)

    return epoch


LIBRARIES = {"fastbp": fastbp_epochs, "PyTorch eager": torch_epochs, "JAX": jax_epochs}


def work(name: str, threads: int) -> None:
    """In a process of its own: an epoch for each line read, its seconds and loss answered."""
    epoch = LIBRARIES[name](threads)
    print("ready", flush=True)
    for number, _ in enumerate(sys.stdin):
        order = np.random.default_rng([0, number]).permutation(60000)
        started = time.perf_counter()
        loss = epoch(order)
        print(json.dumps([time.perf_counter() - started, loss]), flush=True)


class Worker:
    """A library in its process."""

    def __init__(self, name: str, threads: int):
        self.losses: list[float] = []
        cpus = ",".join(map(str, sorted(os.sched_getaffinity(0))[:threads]))
        command = ["taskset", "-c", cpus, sys.executable, __file__, "--worker", name, "--threads", str(threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer()

    def _answer(self) -> str:
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("a worker ended; its message is above")
        return line

    def epoch(self) -> float:
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        seconds, loss = json.loads(self._answer())
        self.losses.append(loss)
        return seconds

    def stop(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def versions() -> str:
    import jax
    import torch

    return f"PyTorch {torch.__version__}, JAX {jax.__version__}"


def plot(figures: dict[str, list[float]], threads: int, path: Path) -> None:
    """Seconds an epoch, each library a bar of its median with its rounds as dots."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "fastbp"  # the same figures give the same file
    from matplotlib import pyplot

    names = list(figures)[::-1]
    medians = [statistics.median(figures[name]) for name in names]
    figure, axes = pyplot.subplots(figsize=(7, 1.9), layout="constrained")
    axes.barh(names, medians, color=["#b8c4d0"] * (len(names) - 1) + ["#d1495b"], height=0.6)
    for y, name in enumerate(names):
        axes.plot(figures[name], [y] * len(figures[name]), ".", color="#00000060", markersize=4)
        axes.text(max(figures[name]) + 0.01 * max(medians), y, f"{medians[y]:.3f} s", va="center")
    axes.set_xlim(0, 1.15 * max(map(max, figures.values())))
    axes.set_xlabel(f"seconds for one epoch of MNIST, 784-128-10, batch 128, {threads} threads (less is better)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11, help="counted epochs of each, after two more")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    parser.add_argument("--plot", type=Path, help="draw the figures to this SVG")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker, options.threads)
        return
    workers = {name: Worker(name, options.threads) for name in LIBRARIES}
    interleave({name: worker.epoch for name, worker in workers.items()}, 2)  # compiles, warms up
    figures = interleave({name: worker.epoch for name, worker in workers.items()}, options.rounds)
    for worker in workers.values():
        worker.stop()

    losses = {name: worker.losses[1] for name, worker in workers.items()}  # later, rounding has grown
    for name, loss in losses.items():
        if abs(loss / losses["fastbp"] - 1) > 0.01:
            sys.exit(f"{name} reached a loss of {loss:.5f} in epoch 2, fastbp {losses['fastbp']:.5f}: not the same job")

    print(f"{describe()}, {versions()}; {options.threads} threads, {options.rounds} interleaved rounds\n")
    print("| library | seconds an epoch, median (range) | times fastbp's, median of the rounds | loss in epoch 2 |\n"
          "|---|---|---|---|")
    for name, seconds in figures.items():
        ratios = [other / own for other, own in zip(seconds, figures["fastbp"], strict=True)]
        print(f"| {name} | {spread(seconds)} | {statistics.median(ratios):.2f} | {losses[name]:.5f} |")
    if options.json:
        options.json.write_text(json.dumps({"machine": describe(), "peers": versions(), "seconds": figures,
                                            "losses": losses}, indent=2) + "\n")
    if options.plot:
        plot(figures, options.threads, options.plot)


if __name__ == "__main__":
    main()
