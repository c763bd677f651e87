"""The loop of multiply-adds that a training is compared with: that it does them all, and what is counted."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest
from rig import DTYPES

from fastbp.core.simd.peak import CHAINS, chains, multiply_adds_a_second, of_step


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("steps", [0, 1, 7])
def test_each_chain_makes_every_step(dtype, steps):
    sums = np.arange(CHAINS, dtype=dtype)
    for _ in range(steps):
        sums = 3 * sums + 3
    assert chains(steps, np.dtype(dtype).type(3)) == sums.sum()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_rate_is_that_of_the_steps(dtype):
    """Within a factor that leaves room for a disturbed machine, and none for a forgotten chain, lane or thread."""
    steps, x, seconds = 5_000_000, np.dtype(dtype).type(0.5), []
    chains(1, x)
    for _ in range(5):
        started = time.perf_counter()
        chains(steps, x)
        seconds.append(time.perf_counter() - started)
    rate = steps * of_step(dtype) / min(seconds)
    assert 0.4 < multiply_adds_a_second(dtype, 1)[0] / rate < 2.5


def test_threads_that_had_to_wait_are_seen():
    """More of them than processors, and one that shares its processor with another process."""
    assert 0 < multiply_adds_a_second("float32", 4 * os.cpu_count())[1] < 0.3
    if not hasattr(os, "sched_setaffinity"):
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        busy = [sys.executable, "-c", "print(flush=True)\nwhile True: pass"]
        with subprocess.Popen(busy, stdout=subprocess.PIPE) as other:
            other.stdout.readline()
            ran = multiply_adds_a_second("float32", 1)[1]
            other.kill()
    finally:
        os.sched_setaffinity(0, allowed)
    assert 0 < ran < 0.9
