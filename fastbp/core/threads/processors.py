"""Processors: the share of their time for this process, and threads kept on separate ones; Linux only."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numba

_current: Callable[[], int] | None = None  # number of the processor that the caller is on
if sys.platform == "linux":
    with contextlib.suppress(OSError, AttributeError):  # a C library that lacks it, or a Python without one
        _current = ctypes.CDLL(None).sched_getcpu


@contextlib.contextmanager
def apart(helpers: Iterable[int]) -> Iterator[None]:
    """In this block, helper threads run on other processors than the caller.

    In a virtual machine Linux was seen to wake a helper on the caller's own processor while another was idle (it may
    take one that sleeps for one that the host has given away: vcpu_is_preempted). There each spins for the other until
    its time is up: the first 8 steps of MNIST (784-128-10) after a sleep of 50 ms took 7.6 ms, and 1.5 ms with this.
    Threads that somebody has bound to other processors than the caller's are left alone.
    """
    moved = []
    if _current is not None:
        allowed = os.sched_getaffinity(0)
        others = allowed - {_current()}
        with contextlib.suppress(OSError):  # one that has ended
            for helper in helpers if others else []:
                if os.path.exists(f"/proc/self/task/{helper}") and os.sched_getaffinity(helper) == allowed:
                    os.sched_setaffinity(helper, others)
                    moved.append(helper)
    try:
        yield
    finally:
        for helper in moved:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(helper, allowed)


def quota(proc: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float:
    """Processors whose time Linux's control groups grant this process (containers are limited so); else infinity.

    Read from cpu.max (version 2) or cpu.cfs_quota_us (version 1) of its group and those around it; the least counts.
    """
    least = math.inf
    with contextlib.suppress(OSError):
        for line in proc.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            group = root / controllers / path.lstrip("/")
            for folder in (group, *group.parents):
                least = min(least, _quota_of(folder))
                if folder == root:
                    break
    return least


def _quota_of(folder: Path) -> float:
    with contextlib.suppress(OSError, ValueError):
        limit, period = (folder / "cpu.max").read_text().split()
        return int(limit) / int(period)  # "max" is no int
    with contextlib.suppress(OSError, ValueError):
        limit, period = [(folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")]
        return int(limit) / int(period) if int(limit) > 0 else math.inf
    return math.inf


def ranks_here() -> int:
    """Return how many processes the launcher of Open MPI or MPICH has started on this machine with this one; else 1."""
    told = [os.environ[name] for name in ("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS") if name in os.environ]
    return max([1, *(int(n) for n in told if n.isdecimal())])


def available_threads() -> int:
    """Return the most threads to use: NUMBA_NUM_THREADS if it is set, else the processors that this process may run on,
    but no more than its control group grants, nor than its share if MPI has started several processes here."""
    threads = int(numba.config.NUMBA_NUM_THREADS)
    if "NUMBA_NUM_THREADS" in os.environ:
        return threads
    if (ranks := ranks_here()) > 1:
        threads = min(threads, (os.cpu_count() or 1) // ranks)
    return max(1, math.ceil(min(quota(), threads)))
