"""What every library does: networks, data, initial parameters, the order of the samples. NumPy alone."""

from __future__ import annotations

import gzip
import importlib.util
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

MOMENTUM, BETA1, BETA2, EPSILON = 0.9, 0.9, 0.999, 1e-8
CHECKED = 10  # steps whose mean loss is compared, before differences of rounding have grown
Layer = tuple[np.ndarray, np.ndarray]


class Piece(NamedTuple):
    """A part of the work of a workload."""

    first: int  # epochs before it
    epochs: int
    rows: int  # the first of the data


@dataclass(frozen=True)
class Workload:
    """One timed piece is `epochs` epochs of training or, without an optimiser, a forward pass of each row alone.

    relu networks end in softmax and cross-entropy where the data have labels; all others in identity outputs and the
    quadratic loss 1/2 sum (a - t)^2, mean over the samples.
    """

    sizes: tuple[int, ...]
    hidden: str
    optimizer: str | None  # "SGD" (Nesterov momentum 0.9), "Adam" or "plain SGD" (no momentum)
    batch: int
    rows: int  # of the data, a multiple of batch
    eta: float = 1e-3
    epochs: int = 1
    labels: bool = False  # MNIST, else random numbers and a smooth function of them
    seed: int = 0
    linear: bool = False  # whether eta rises over the first 15 % of the piece and then falls to 0

    @property
    def steps(self) -> int:
        """Of one timed piece: updates, or calls of forward."""
        return self.epochs * self.rows // self.batch

    @property
    def operations(self) -> int:
        """Multiplications and additions of a step's dense products, zeros counted like other numbers."""
        layers = [n_in * n_out for n_in, n_out in zip(self.sizes, self.sizes[1:], strict=False)]
        return 2 * self.batch * (2 * sum(layers) + sum(layers[1:])) if self.optimizer else 2 * sum(layers)

    @property
    def momentum(self) -> float:
        return MOMENTUM if self.optimizer == "SGD" else 0.0

    @property
    def title(self) -> str:
        network = f"{'-'.join(map(str, self.sizes))} {self.hidden}"
        if self.optimizer is None:
            return f"{network}, forward of one sample"
        return f"{network}, {self.optimizer}, batch {self.batch:,}"

    @cached_property
    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """x: uint8 images or float32 (rows, n_in); y: uint8 labels (rows,) or float32 targets (rows, n_out)."""
        if self.labels:
            return mnist("train", self.rows)
        draw = np.random.default_rng(1)
        x = draw.standard_normal((self.rows, self.sizes[0]), np.float32)
        mix = draw.standard_normal((self.sizes[0], self.sizes[-1]), np.float32) / np.float32(np.sqrt(self.sizes[0]))
        return x, np.sin(x @ mix)

    @property
    def parameters(self) -> list[Layer]:
        """W (n_in, n_out) and b (n_out,) of each layer, distributed as fastbp.Network draws them."""
        layers = []
        for l, (n_in, n_out) in enumerate(zip(self.sizes, self.sizes[1:], strict=False)):
            draw, limit = np.random.default_rng([self.seed, l]), np.sqrt(6 / (n_in + n_out))
            if self.hidden == "relu" and l < len(self.sizes) - 2:
                W = draw.normal(0, np.sqrt(2 / n_in), (n_in, n_out))
            else:
                W = draw.uniform(-limit, limit, (n_in, n_out))
            layers.append((W.astype(np.float32), np.zeros(n_out, np.float32)))
        return layers

    def check(self) -> Piece:
        """From the initial parameters, `CHECKED` steps or calls."""
        rows = min(self.rows, CHECKED * self.batch)
        return Piece(0, CHECKED * self.batch // rows, rows)

    def piece(self, number: int) -> Piece:
        """The timed one of that number, after `check`."""
        return Piece(self.check().epochs + number * self.epochs, self.epochs, self.rows)

    def order(self, piece: Piece) -> np.ndarray:
        """Samples of each step (steps, batch): the shuffle that fastbp's Trainer makes of its seed and its epoch."""
        epochs = range(piece.first, piece.first + piece.epochs)
        purpose = zlib.crc32(b"fastbp order of samples")  # see fastbp.randomness, which peers do without
        streams = [np.random.SeedSequence(self.seed, spawn_key=(purpose, epoch)) for epoch in epochs]
        return np.concatenate([np.random.default_rng(stream).permutation(piece.rows) for stream in streams]
                              ).reshape(-1, self.batch)

    def factor(self, step: int) -> float:
        """Of eta at a step, counted from 0: fastbp's "linear" schedule."""
        rising = max(1, round(0.15 * self.steps))
        return (step + 1) / rising if step < rising else (self.steps - step) / max(1, self.steps - rising)


def mnist(part: str, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """The first rows of "train" or "t10k": images uint8 (rows, 784), labels uint8 (rows,).

    The files of fastbp, which is not imported: nobody else has to wait for that.
    """
    folder = Path(importlib.util.find_spec("fastbp").origin).parent / "data" / "mnist"
    with gzip.open(folder / f"{part}-images-idx3-ubyte.gz") as images, \
            gzip.open(folder / f"{part}-labels-idx1-ubyte.gz") as labels:
        x = np.frombuffer(images.read(16 + rows * 784), np.uint8, offset=16).reshape(rows, 784)
        return x.copy(), np.frombuffer(labels.read(8 + rows), np.uint8, offset=8).copy()  # buffers are read-only


def one_by_one(answer: Callable, samples: list) -> Callable[[Piece], float]:
    """Calls `answer` for each sample of a piece; returns the mean size of the last one's outputs."""
    def calls(piece: Piece) -> float:
        for sample in samples[: piece.rows]:
            output = answer(sample)
        return float(np.abs(output).mean())

    return calls


def _mnist(hidden: tuple[int, ...], optimizer: str, batch: int, eta: float, rows: int) -> Workload:
    return Workload((784, *hidden, 10), "relu", optimizer, batch, rows, eta, labels=True)


ETAS = {"SGD": {32: 0.05, 128: 0.1, 512: 0.2}, "Adam": {32: 0.001, 128: 0.001, 512: 0.002}}
EPOCH = 59_904  # the digits of whole mini-batches, whether of 32, 128 or 512

WORKLOADS = {
    **{f"mnist-128-{optimizer.lower()}-{batch}": _mnist((128,), optimizer, batch, eta, EPOCH)
       for optimizer, etas in ETAS.items() for batch, eta in etas.items()},
    **{f"mnist-512-{optimizer.lower()}-{batch}": _mnist((512, 512), optimizer, batch, eta / 2, max(6400, 30 * batch))
       for optimizer, etas in ETAS.items() for batch, eta in etas.items()},
    "deep": _mnist((2500, 2000, 1500, 1000, 500), "SGD", 128, 0.01, 20 * 128),
    "small-1": Workload((4, 32, 16, 4), "tanh", "Adam", 1, 10_000),
    "small-1-plain": Workload((4, 32, 16, 4), "tanh", "plain SGD", 1, 10_000, 0.01),
    "small-32": Workload((4, 32, 16, 4), "tanh", "Adam", 32, 9600, epochs=20),
    "small-200": Workload((4, 32, 16, 4), "tanh", "Adam", 200, 10_000, epochs=20),
    "small-10000": Workload((4, 32, 16, 4), "tanh", "Adam", 10_000, 10_000, epochs=50),
    "cliff": Workload((10, 46, 46, 10), "tanh", "Adam", 128, 12_800, epochs=5),
    "million": Workload((32, 64, 64, 1), "relu", "SGD", 256, 999_936, 0.01),
    "forward-4": Workload((4, 32, 16, 4), "tanh", None, 1, 5000),
    "forward-40": Workload((40, 100, 100, 10), "relu", None, 1, 5000),
    "forward-64": Workload((64, 64, 64, 8), "relu", None, 1, 5000),
}
