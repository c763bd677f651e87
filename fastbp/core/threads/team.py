"""Safe entry into parallel code, and the threads that run it."""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import numba

from fastbp.core.threads import processors

_entry = threading.RLock()  # were Ctrl-C to come before the try below, its own thread could still enter again
_owner: int | None = None
_helpers: list[int] = []  # the system's numbers of the threads that worked beside the caller in the last team
_awake = (1, -math.inf)  # how many threads the last team had, 1 where Numba otherwise has another number; its end
PAUSE = 0.002  # seconds without work after which threads sleep


@contextlib.contextmanager
def team(twins: tuple[Any, Any], threads: int, most: int = 1, board: Any = None) -> Iterator[tuple[Any, int]]:
    """Which of `twins` to call in this block, and how many threads it may use: `threads`, or 1 where more are not safe.

    The threads that come leave their numbers on the `board`, if there is one; the next team finds them.

    A second Python thread would abort the process under Numba's workqueue layer
    (https://github.com/numba/numba/issues/8563), and a child forked after a parallel region is killed by GNU OpenMP;
    both run serially, with the same bits. If `most` > 1, the caller also uses more threads and gets the parallel twin
    for one thread, too, so that the serial one need not be compiled.
    """
    global _owner, _helpers, _awake
    parallel, serial = twins
    if max(threads, most) == 1 or _owner not in (None, os.getpid()) or not _entry.acquire(blocking=False):
        yield serial, 1
        return
    _owner = os.getpid()
    before, wanted = numba.get_num_threads(), min(threads, numba.config.NUMBA_NUM_THREADS)
    woken = threads > 1 and not is_awake(threads)
    try:
        if wanted != before:
            numba.set_num_threads(wanted)
        # Those that are still awake have their places, and to move them and let them go takes 0.2 ms.
        with processors.apart(_helpers) if woken else contextlib.nullcontext():
            yield parallel, threads
        if woken and board is not None:
            came, caller = [int(thread) for thread in board[-threads:] if thread], threading.get_native_id()
            # The workqueue layer's caller only waits: its processor is free for them.
            _helpers = [thread for thread in came if thread != caller] if caller in came else []
    finally:
        _awake = threads if wanted == before else 1, time.perf_counter()
        if wanted != before:
            numba.set_num_threads(before)
        _entry.release()


def run_awake(parallel: Any, call: Any, threads: int) -> bool:
    """Run parallel code by a team that is awake, as `team` would have it run, in 1 us instead of 4; False where there
    is none, and nothing was done."""
    global _awake
    if not (is_awake(threads) and _owner == os.getpid() and _entry.acquire(blocking=False)):
        return False
    try:
        parallel(call, threads)
    finally:
        _awake = threads, time.perf_counter()
        _entry.release()
    return True


def is_awake(threads: int) -> bool:
    """Whether the last team had this many threads and ended so recently that they still wait actively for work."""
    return threads == _awake[0] and time.perf_counter() - _awake[1] < PAUSE


def threads_started() -> bool:
    """Whether a team has been in this process, so that machine code for threads may be loaded: that starts them."""
    return _owner == os.getpid()


# Multiply-adds of one call (parameters x samples, three times over with gradients) below which to wake a second thread
# does not pay: 784-128-10 takes as long with one thread as with two for 32 samples, 64-512-10 for 64.
WORTH_THREADS = 3_000_000
