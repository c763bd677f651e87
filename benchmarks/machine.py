"""What a figure was measured on, and medians of interleaved rounds."""

from __future__ import annotations

import math
import os
import platform
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

FULL = 1.15  # times the least time that was seen
NEAR = 2.0  # times the least time that a number took from one to the other


def describe() -> str:
    """The processor and the versions, in one line."""
    name = platform.processor() or "unknown CPU"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = models[0].split(":")[1].strip() if models else name
    import llvmlite
    import numba
    import numpy

    import fastbp
    from fastbp.core.simd import cpu

    return (f"{name}, {len(os.sched_getaffinity(0))} processors, vectors of {cpu.VECTOR_BITS} bits, "
            f"Python {platform.python_version()}, fastbp {fastbp.__version__}, numba {numba.__version__}, "
            f"llvmlite {llvmlite.__version__}, NumPy {numpy.__version__}")


def environment(cache: str) -> dict[str, str]:
    """Of a process as users start it, its machine code in that folder.

    PYTHONDONTWRITEBYTECODE, which developers' machines and images may set, would let each process of a checkout compile
    its Python sources anew: 0.08 s on a first Zen.
    """
    ours = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return ours | {"NUMBA_CACHE_DIR": cache}


PATIENCE = 3.0  # seconds, at first


class Processors:
    """Waits until all processors give their full speed at once, and are near each other.

    On a shared machine two of them may for a while be the halves of one core, or lie in two parts of the chip; others
    may work on them. A training step of 784-512-512-10 on two threads was seen to take 1.7 ms or 3.6 ms for seconds on
    end: the latter where a cache line took 200 ns, not 45, from one processor to the other.
    """

    def __init__(self, cpus: list[int]):
        import probes  # not above: it loads Numba, and this file is read by commands that must not

        self.probes, self.cpus, self.best, self.nearest = probes, cpus, math.inf, math.inf
        self.waits, self.given_up, self.patience = 0, 0, PATIENCE
        self._look()  # loads the machine code
        self.best = self.nearest = math.inf
        for _ in range(20):
            time.sleep(0.05)
            self._look()

    def _look(self) -> bool:
        """Whether all is as well as it has ever been."""
        with ThreadPoolExecutor(len(self.cpus)) as pool:
            seconds = list(pool.map(self.probes.multiply_add, self.cpus))
            passes = [max(pool.map(self.probes.pass_to_and_fro, self.cpus[:1] + [cpu], [0, 1], [board] * 2))
                      for cpu in self.cpus[1:] for board in [np.zeros(1, np.int64)]]
        self.best, self.nearest = min(self.best, *seconds), min([self.nearest, *passes])
        return max(seconds) < FULL * self.best and max(passes, default=0) <= NEAR * self.nearest

    @property
    def peak(self) -> float:
        """Most float32 operations a second, of all together, that were seen."""
        return len(self.cpus) * self.probes.OPERATIONS / self.best

    def __str__(self) -> str:
        return (f"{self.waits - self.given_up} of {self.waits} measurements began with all processors at their full "
                "speed and near each other")

    def settle(self) -> None:
        """Return when they are, or after some seconds: half as many after each time in vain, since a machine can stay
        as it is for minutes."""
        self.waits += 1
        started = time.perf_counter()
        while not self._look():
            if time.perf_counter() - started > self.patience:
                self.given_up += 1
                self.patience /= 2
                return
        self.patience = PATIENCE


def interleave(measures: dict[str, Callable[[], float]], rounds: int,
               before: Callable[[], object] | None = None) -> dict[str, list[float]]:
    """Each measure once a round, in turn, so that a drift of the machine's speed meets all alike."""
    figures: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            if before:
                before()
            figures[name].append(measure())
    return figures


def spread(values: list[float], digits: int = 3) -> str:
    """Median and range."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"
