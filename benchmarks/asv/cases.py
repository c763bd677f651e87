"""What the benchmarks have in common: the networks, a mini-batch of their size, and a clock for short calls."""

from __future__ import annotations

import time
from collections.abc import Callable

import numba
from rig import MOMENTUM, Net

import fastbp

LAYERS = ["784-128-10", "784-512-512-10", "4-32-16-4", "10-46-46-10"]
DTYPES = ["float32", "float64"]
THREADS = [1, 2]
SECONDS = 0.01  # of a sample: beside it, reading the clock takes nothing


def only_with(threads: int) -> None:
    """Skip the benchmark unless its environment is the one of `threads` threads."""
    if threads != numba.config.NUMBA_NUM_THREADS:
        raise NotImplementedError(f"measured where NUMBA_NUM_THREADS is {threads}")


def network(layers: str, dtype: str = "float32", input_scale: float = 1.0) -> fastbp.Network:
    net = fastbp.Network([int(size) for size in layers.split("-")], dtype=dtype)
    net.input_scale = input_scale  # before there was one, bytes were divided by 255 whatever was said
    return net


def batch(layers: str, n: int, dtype: str) -> Net:
    """A network and the memory of a step on a mini-batch of n random samples, with every number in it finite.

    The learning rate is 0: a repeated step finds the same parameters and has the same work.
    """
    sizes = [int(size) for size in layers.split("-")]
    net = Net(sizes, ["relu"] * (len(sizes) - 2) + ["softmax"], "cross_entropy", dtype, n, optimizer=MOMENTUM, fill=0)
    net.eta = 0.0
    return net


class PerCall:
    """Base of benchmarks of what takes less than a sample must: seconds each, of as many as take SECONDS.

    asv would time one call alone, since it sets up again before each.
    """

    repeat = (5, 20, 1.0)
    make: Callable[[int], object] | None = None  # does it so many times
    times = 1

    def ready(self, make: Callable[[int], object]) -> None:
        """To be called by setup; counts at the first time."""
        if self.make is None:
            self.make = make
            while self._seconds() < SECONDS:
                self.times *= 2

    def _seconds(self) -> float:
        started = time.perf_counter()
        self.make(self.times)
        return time.perf_counter() - started

    def timer(self) -> float:
        """asv's clock: it runs slower by as many times as the timed function does its work."""
        return time.perf_counter() / self.times
