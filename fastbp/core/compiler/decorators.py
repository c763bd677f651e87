"""How functions are compiled: flags, and the decorators of functions that Python or users' compiled code may call.

    serial      one thread; for users' compiled code and for Python
    twins       one source, compiled parallel and serial: the kernels and drivers
    inlined     for compiled callers only, compiled into each: for small functions, or those with one caller

The decorators of machine code that only compiled callers call are in `linking`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numba

from fastbp.core.compiler.cache import Cache, NoCache, once
from fastbp.core.compiler.common import FLAGS, uninterrupted
from fastbp.core.compiler.numba import CPUDispatcher, ParallelOptions, global_compiler_lock

# Only prange is wanted from parallel=True: its other options would parallelize loops that are meant to be serial.
# An object, not a dict: Numba would empty a dict at its first use and read it as "all on" at the next.
ONLY_PRANGE = ParallelOptions(dict(comprehension=False, reduction=False, inplace_binop=False, setitem=False,
                                   numpy=False, stencil=False, fusion=False, prange=True))


class Dispatcher(CPUDispatcher):  # type: ignore[misc]  # Numba has no types
    """Compiles a function, or loads it, without being interrupted and while no other process compiles."""

    @functools.cached_property
    def _cache(self) -> Any:
        """Create the cache at first use: creating it for all functions at import would take 15 ms."""
        try:
            return Cache(self.py_func, "parallel" in self.targetoptions)
        except RuntimeError:  # no folder is writable
            return NoCache()

    def compile(self, sig: Any) -> Any:
        with global_compiler_lock, once([(self, sig)]), uninterrupted():
            return super().compile(sig)


def compiled(function: Callable[..., Any], **flags: Any) -> Any:
    dispatcher = numba.njit(**FLAGS, **flags)(function)
    dispatcher.__class__ = Dispatcher
    del dispatcher._cache  # that of Numba, which keeps nothing
    return dispatcher


def serial(function: Callable[..., Any]) -> Any:
    """Compile for one thread, with `prange` as `range`: for functions that users call in their own compiled code."""
    return compiled(function)


def inlined(function: Callable[..., Any]) -> Any:
    """Compile into each caller, never alone: saves compile time for small functions and those with one caller.

    Numba copies inlined code twice, and with each basic block all variables (`inline_ir` in its inline_closurecall.py):
    large code deep in calls, or with two callers, compiles faster as a `block`.
    """
    return compiled(function, inline="always")


def twins(function: Callable[..., Any]) -> tuple[Any, Any]:
    """Compile one source twice: (parallel, serial)."""
    return compiled(function, parallel=ONLY_PRANGE), compiled(function)
