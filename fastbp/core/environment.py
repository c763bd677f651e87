"""The environment: all that decides which machine code runs, and how."""

from __future__ import annotations

from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numba
import numpy as np

from fastbp.core import compiler
from fastbp.core.threads.processors import available_threads, ranks_here
from fastbp.core.threads.team import team


def environment() -> dict[str, Any]:
    """Return what decides which machine code runs: versions, CPU, threads, threading layer, cache directory."""
    features = llvm.get_host_cpu_features()
    vectors = ("sse2", "sse4.2", "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "neon", "sve")
    with team((None, None), 2):  # the layer is known only after a start
        pass
    return {
        "numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
        "numpy": np.__version__,
        "cpu": numba.config.CPU_NAME or llvm.get_host_cpu_name(),
        "cpu_features": [name for name in vectors if features.get(name)],
        "threads": available_threads(),
        "ranks_here": ranks_here(),
        "threading_layer": numba.threading_layer(),
        "cache_directory": folder(),
    }


def folder() -> str | None:
    """Return the folder of this package's machine code; None if no folder is writable."""
    return compiler.folder(folder)
