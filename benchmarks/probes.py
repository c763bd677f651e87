"""What the processors can do at a moment: compiled loops of multiply-adds on registers, and of passing a number on."""

from __future__ import annotations

import os
import time

import numpy as np

from fastbp.core import compiler
from fastbp.core.simd.peak import chains, of_step
from fastbp.core.threads.board import add, read

STEPS = 1_500_000  # of the multiply-adds that test a processor: 5 ms
PASSES = 2000
OPERATIONS = 2 * of_step("float32") * STEPS  # of float32, of multiply_add


@compiler.serial
def passes(board, turn, times):
    """Add 1 to board[0] whenever it is `turn`, `turn` + 2, ...: two threads in turn, with turns 0 and 1."""
    for i in range(times):
        while read(board, 0) != turn + 2 * i:
            pass
        add(board, 0, 1)


def multiply_add(cpu: int) -> float:
    """Seconds of independent multiply-adds, on that processor."""
    os.sched_setaffinity(0, {cpu})  # of this thread
    started = time.perf_counter()
    chains(STEPS, np.float32(0.5))
    return time.perf_counter() - started


def pass_to_and_fro(cpu: int, turn: int, board: np.ndarray) -> float:
    """Seconds in which two threads pass a number to and fro."""
    os.sched_setaffinity(0, {cpu})
    passes(board, turn, 1)  # until both are there
    started = time.perf_counter()
    passes(board, turn + 2, PASSES)
    return time.perf_counter() - started


def peak(dtype: str, seconds: float):
    """A measure of fused multiply-adds in GFLOP/s."""
    x = np.dtype(dtype).type(0.5)
    steps = 1000

    def run(steps: int) -> float:
        started = time.perf_counter()
        chains(steps, x)
        return time.perf_counter() - started

    run(steps)  # compiles
    while run(steps) < seconds:
        steps *= 2
    return lambda: 2 * of_step(dtype) * steps / run(steps) / 1e9
