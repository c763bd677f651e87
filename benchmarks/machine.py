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
STEPS = 1_500_000  # of the multiply-adds that test it: 5 ms


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
    from fastbp.core import simd

    return (f"{name}, {len(os.sched_getaffinity(0))} processors, vectors of {simd.VECTOR_BITS} bits, "
            f"Python {platform.python_version()}, fastbp {fastbp.__version__}, numba {numba.__version__}, "
            f"llvmlite {llvmlite.__version__}, NumPy {numpy.__version__}")


class Processors:
    """Waits until all processors give their full speed at once.

    On a shared machine two of them may be the two halves of one core for a while, or others may work on them: the same
    training step on two threads was seen to take 1.85 ms or 3.6 ms for seconds on end.
    """

    def __init__(self, cpus: list[int]):
        self.cpus, self.best = cpus, math.inf
        self.waits = self.given_up = 0
        with ThreadPoolExecutor(1) as pool:
            pool.submit(self._seconds, cpus[0]).result()  # loads the machine code

    def _seconds(self, cpu: int) -> float:
        """Of some milliseconds of independent multiply-adds."""
        from tile import chains

        os.sched_setaffinity(0, {cpu})  # of this thread
        started = time.perf_counter()
        chains(STEPS, np.float32(0.5))
        return time.perf_counter() - started

    @property
    def peak(self) -> float:
        """Most float32 operations a second, of all together, that were seen."""
        from tile import CHAINS, VECTOR_BITS

        return len(self.cpus) * 2 * (VECTOR_BITS // 32) * CHAINS * STEPS / self.best

    def __str__(self) -> str:
        return (f"{self.waits - self.given_up} of {self.waits} measurements began with all processors at their full "
                "speed")

    def settle(self, most: float = 3.0) -> None:
        """Return when they do, or after so many seconds."""
        self.waits += 1
        started = time.perf_counter()
        with ThreadPoolExecutor(len(self.cpus)) as pool:
            while time.perf_counter() - started < most:
                seconds = list(pool.map(self._seconds, self.cpus))
                self.best = min(self.best, *seconds)
                if max(seconds) < FULL * self.best:
                    return
        self.given_up += 1


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
