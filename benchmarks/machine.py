"""What a figure was measured on, and medians of interleaved rounds."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable
from pathlib import Path


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


def interleave(measures: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Each measure once a round, in turn, so that a drift of the machine's speed meets all alike."""
    figures: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            figures[name].append(measure())
    return figures


def spread(values: list[float], digits: int = 3) -> str:
    """Median and range."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"
