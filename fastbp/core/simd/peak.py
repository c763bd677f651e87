"""What the processors can do at the most: a compiled loop of fused multiply-adds on registers, and of nothing else."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastbp.core import compiler
from fastbp.core.simd.cpu import VECTOR_BITS
from fastbp.core.simd.vectors import I64, Loop, Vectors

CHAINS = 12  # enough to hide the latency of two units; few enough for the 16 registers of AVX2
SECONDS, ROUNDS = 0.02, 5  # of the loop at the least, and how often: the fastest counts


@intrinsic
def fma_chains(typing, steps, x):
    """CHAINS sums s = x s + x, each its own register, `steps` times; returns one number of them."""
    def emit(context, builder, signature, arguments):
        vectors = Vectors(builder, types.CPointer(x))
        factor = vectors.splat(arguments[1])
        starts = [ir.Constant(vectors.type, [float(i)] * vectors.lanes) for i in range(CHAINS)]  # all different
        with Loop(builder, arguments[0], starts) as loop:
            loop.next([vectors.fma(factor, s, factor) for s in loop.values])
        total = loop.result[0]
        for s in loop.result[1:]:
            total = builder.fadd(total, s)
        return builder.extract_element(total, I64(0))

    return x(types.int64, x), emit


@compiler.serial
def chains(steps, x):
    """Make `of_step` multiply-adds `steps` times, of the type of x."""
    return fma_chains(steps, x)


def of_step(dtype: str) -> int:
    """Return how many multiply-adds a step of `chains` makes."""
    return CHAINS * VECTOR_BITS // (8 * np.dtype(dtype).itemsize)


def multiply_adds_a_second(dtype: str, threads: int) -> tuple[float, float]:
    """Return how many multiply-adds a second so many threads make at the same time, and the share of that time in which
    they ran: less than 1 if others use the processors, or if there are fewer of them. This takes some 0.2 s."""
    x, steps = np.dtype(dtype).type(0.5), 1000
    chains(1, x)  # compiles
    with ThreadPoolExecutor(threads) as pool:
        def seconds(steps: int) -> tuple[float, float]:
            """Return the seconds that have passed, and those of the processors."""
            started, ran = time.perf_counter(), time.process_time()
            list(pool.map(chains, [steps] * threads, [x] * threads))
            return time.perf_counter() - started, time.process_time() - ran

        while seconds(steps)[0] < SECONDS:
            steps *= 2
        passed, ran = min(seconds(steps) for _ in range(ROUNDS))
    return threads * of_step(dtype) * steps / passed, ran / (threads * passed)
