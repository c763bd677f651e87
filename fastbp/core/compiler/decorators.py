"""How functions are compiled: flags, and the decorators of what Python or users' compiled code may call.

    serial      one thread; for users' compiled code and for Python
    twins       one source, compiled parallel and serial: the kernels and drivers
    inlined     for compiled callers only, compiled into each: what is small or has one caller

Those of what only compiled callers call as machine code are in `linking`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numba

from fastbp.core.compiler.cache import Cache, NoCache, once
from fastbp.core.compiler.common import FLAGS, uninterrupted
from fastbp.core.compiler.numba import CPUDispatcher, ParallelOptions, global_compiler_lock

# Of what parallel=True can do only prange is wanted: the rest would make loops parallel that are meant to be serial.
# An object, not a dict, which Numba would empty at its first use and read as "all on" at the next.
ONLY_PRANGE = ParallelOptions(dict(comprehension=False, reduction=False, inplace_binop=False, setitem=False,
                                   numpy=False, stencil=False, fusion=False, prange=True))


class Dispatcher(CPUDispatcher):  # type: ignore[misc]  # Numba has no types
    """Compiles a function, or loads it, without being interrupted and while no other process compiles."""

    @functools.cached_property
    def _cache(self) -> Any:
        """Made when it is first asked for: for all functions, when they are defined, that takes 15 ms."""
        try:
            return Cache(self.py_func, "parallel" in self.targetoptions)
        except RuntimeError:  # no folder can be written
            return NoCache()

    def compile(self, sig: Any) -> Any:
        with global_compiler_lock, once([(self, sig)]), uninterrupted():
            return super().compile(sig)


def compiled(function: Callable[..., Any], **flags: Any) -> Any:
    dispatcher = numba.njit(**FLAGS, **flags)(function)
    dispatcher.__class__ = Dispatcher
    del dispatcher._cache  # Numba's, which keeps nothing
    return dispatcher


def serial(function: Callable[..., Any]) -> Any:
    """Compile for one thread; `prange` is `range`. What users call inside their own compiled code."""
    return compiled(function)


def inlined(function: Callable[..., Any]) -> Any:
    """Compile into each caller, never on its own: for what is small or has one caller, it saves compile time.

    Numba copies what it inlines twice, and with each basic block all variables (`inline_ir` in its
    inline_closurecall.py): what is large and lies deep, or has two callers, compiles faster as a `block`.
    """
    return compiled(function, inline="always")


def twins(function: Callable[..., Any]) -> tuple[Any, Any]:
    """Compile one source twice: (parallel, serial)."""
    return compiled(function, parallel=ONLY_PRANGE), compiled(function)
