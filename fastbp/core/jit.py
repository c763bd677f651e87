"""The only door to Numba: compiler flags, the cache on disk, and safe entry into parallel code.

    serial      one thread; for users' compiled code and for Python
    twins       one source, compiled parallel and serial: the kernels and drivers
    inner       for compiled callers only, part of their machine code: product, activations, ...
    block       for compiled callers only, as inner, and put in at each place where it is called: blocks of the kernels
    apart       for compiled callers only, machine code of its own, which they call by its address
    inlined     for compiled callers only, compiled into each: what is small or has one caller
    call        of machine code by its address, which `machine_code` gives: holds none of it
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numba
import numpy as np
from numba import types
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.cpu_options import ParallelOptions
from numba.core.registry import CPUDispatcher
from numba.core.runtime import rtsys
from numba.extending import intrinsic

from fastbp.core import processors

if numba.config.DISABLE_JIT:
    raise ImportError("fastbp is compiled by Numba, which NUMBA_DISABLE_JIT turns off: unset it")

# fastmath off: NaN must survive to be noticed, and no compiler may reorder a sum. Fused multiply-adds are explicit.
FLAGS = dict(nogil=True, fastmath=False, error_model="numpy", boundscheck=False)
# Of what parallel=True can do only prange is wanted: the rest would make loops parallel that are meant to be serial.
# An object, not a dict, which Numba would empty at its first use and read as "all on" at the next.
ONLY_PRANGE = ParallelOptions(dict(comprehension=False, reduction=False, inplace_binop=False, setitem=False,
                                   numpy=False, stencil=False, fusion=False, prange=True))


def _digest() -> str:
    """Fingerprint of every kernel source: machine code compiled from other sources is never reused."""
    total = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        if source.name != "reference.py":
            total.update(source.read_bytes())
    return total.hexdigest()


DIGEST = _digest()
_announced = False


class _FilesByKey(IndexDataCacheFile):  # type: ignore[misc]  # Numba has no types
    """Machine code in files named by their key.

    Numba numbers them and writes the number before the file: of two processes that compile at the same time, one could
    be given the other's code, of other types or flags.
    """

    def save(self, key: Any, data: Any) -> None:
        overloads = self._load_index()
        overloads[key] = self._data_name(int(hashlib.sha256(repr(key).encode()).hexdigest()[:12], 16))
        self._save_data(overloads[key], data)
        self._save_index(overloads)


class _Cache(FunctionCache):  # type: ignore[misc]  # Numba has no types
    """Numba's cache on disk, with a key that also covers callees and flags.

    Numba stamps an entry with the function's own file, so that editing a callee in another file would reuse stale code
    (https://github.com/numba/numba/issues/1833), and it keys a function's parallel and serial builds alike.
    """

    def __init__(self, function: Callable[..., Any], parallel: bool):
        super().__init__(function)
        self._cache_file.__class__ = _FilesByKey
        self._parallel = parallel

    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        return (*super()._index_key(sig, codegen), DIGEST, self._parallel)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        # Numba would first read all implementations there are, its own and others', which only a compiler asks for.
        rtsys.initialize(target_context)
        with self._guard_against_spurious_io_errors():
            overload = self._load_overload(sig, target_context)
        if overload is None:
            _announce()
        return overload


def _announce() -> None:
    global _announced
    if not _announced:
        print("fastbp: compiling for this machine; the result is kept, so this happens once", file=sys.stderr)
        _announced = True


def _compiled(function: Callable[..., Any], **flags: Any) -> Any:
    dispatcher = numba.njit(**FLAGS, **flags)(function)
    with contextlib.suppress(RuntimeError):  # raised where no folder can be written: then each process compiles
        dispatcher._cache = _Cache(function, "parallel" in flags)
    return dispatcher


def serial(function: Callable[..., Any]) -> Any:
    """Compile for one thread; `prange` is `range`. What users call inside their own compiled code."""
    return _compiled(function)


def inlined(function: Callable[..., Any]) -> Any:
    """Compile into each caller, never on its own: for what is small or has one caller, it saves compile time.

    Numba copies what it inlines twice, and with each basic block all variables (`inline_ir` in its
    inline_closurecall.py): what is large and lies deep, or has two callers, compiles faster as a `block`.
    """
    return _compiled(function, inline="always")


class _Inner(CPUDispatcher):  # type: ignore[misc]  # Numba has no types
    def __call__(self, *arguments: Any) -> Any:  # without an entry point for Python, Numba would crash
        raise TypeError(f"{self.__name__} can be called from compiled code only")


class _Part(JITCodeLibrary):  # type: ignore[misc]  # Numba has no types
    """Code that is only ever linked into other code, and there optimised and turned into machine code.

    Numba would do so here first, and for each function on the way to the outermost once more. Such a function has no
    address and no environment: it cannot be passed as a value, nor print, nor raise with values known only as it runs.
    """

    class codegen:  # noqa: N801  # what Numba asks the library for, only to tell machine code that is not there
        set_env = staticmethod(lambda *_: None)

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        self._ensure_finalized()
        return 0


class _PartCompiler(Compiler):  # type: ignore[misc]  # Numba has no types
    def __init__(self, typing: Any, target: Any, library: Any, *rest: Any):
        super().__init__(typing, target, library or _Part(target.codegen(), "part"), *rest)


NO_ENTRY = dict(no_cpython_wrapper=True, no_cfunc_wrapper=True)


def inner(function: Callable[..., Any], forceinline: bool = False) -> Any:
    """Compile for one thread and only for compiled callers: neither an entry point for Python nor anything on disk."""
    dispatcher = numba.njit(**FLAGS, **NO_ENTRY, forceinline=forceinline, pipeline_class=_PartCompiler)(function)
    dispatcher.__class__ = _Inner
    return dispatcher


def block(function: Callable[..., Any]) -> Any:
    """As `inner`, and LLVM puts its code in at each place where it is called."""
    return inner(function, forceinline=True)  # which callees inherit that say nothing of it


def apart(function: Callable[..., Any]) -> Any:
    """Compile for one thread and for compiled callers that know it by its `machine_code` only."""
    dispatcher = _compiled(function, **NO_ENTRY)
    dispatcher.__class__ = _Inner
    return dispatcher


def twins(function: Callable[..., Any]) -> tuple[Any, Any]:
    """Compile one source twice: (parallel, serial)."""
    return _compiled(function, parallel=ONLY_PRANGE), _compiled(function)


@serial
def share(n, c, shares, grain):
    """Bounds lo, hi of the c-th of `shares` parts of range(n), cut at multiples of `grain`."""
    grains = (n + grain - 1) // grain
    return min(n, grains * c // shares * grain), min(n, grains * (c + 1) // shares * grain)


def machine_code(dispatcher: Any, *examples: Any) -> int:
    """Address of a serial function's machine code for arguments of the examples' types; loaded or compiled now.

    A driver that calls its blocks by address (`call`) holds none of their code, which is then compiled once and not
    again into every parallel loop: 0.3 s a driver instead of 4 to 8.
    """
    signature = tuple(numba.typeof(example) for example in examples)
    dispatcher.compile(signature)
    compiled = dispatcher.overloads[signature]
    return int(compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name))


@intrinsic
def call(typing, address, arguments):
    """Call the function at `address`, a `machine_code`, with a tuple of arguments of just its types; no result."""
    def emit(context, builder, signature, values):
        kinds = tuple(arguments)
        function = context.call_conv.get_function_type(types.none, kinds).as_pointer()
        context.call_conv.call_function(builder, builder.inttoptr(values[0], function), types.none, kinds,
                                        [builder.extract_value(values[1], i) for i in range(len(kinds))])
        return context.get_dummy_value()

    return types.void(types.int64, arguments), emit


_entry = threading.RLock()  # were Ctrl-C to come before the try below, its own thread could still enter again
_owner: int | None = None
_helpers: list[int] = []  # the system's numbers of the last team's threads, without the caller's


@contextlib.contextmanager
def team(twins: tuple[Any, Any], threads: int, most: int = 1, board: Any = None) -> Iterator[tuple[Any, int]]:
    """Which of `twins` to call in this block, and how many threads it may use: `threads`, or 1 where more are not safe.

    On the `board` (see phases), if there is one, the threads that come leave their numbers; the next team finds them.

    A second Python thread would abort the process under Numba's workqueue layer
    (https://github.com/numba/numba/issues/8563), and a child forked after a parallel region is killed by GNU OpenMP;
    both run serially, with the same bits. Who also calls with up to `most` threads gets the parallel twin for one
    thread too, so that the serial one need not be compiled.
    """
    global _owner, _helpers
    parallel, serial = twins
    if max(threads, most) == 1 or _owner not in (None, os.getpid()) or not _entry.acquire(blocking=False):
        yield serial, 1
        return
    _owner = os.getpid()
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
        with processors.apart(_helpers if threads > 1 else []):
            yield parallel, threads
        if threads > 1 and board is not None:
            _helpers = [int(thread) for thread in board[-threads:] if thread not in (0, threading.get_native_id())]
    finally:
        numba.set_num_threads(before)
        _entry.release()


# Multiply-adds of one call (parameters x samples, three times over with gradients) below which to wake a second thread
# does not pay: 784-128-10 takes as long with one thread as with two for 32 samples, 64-512-10 for 64.
WORTH_THREADS = 3_000_000


def is_cached(dispatcher: Any, *examples: Any) -> bool:
    """Whether machine code of a function for arguments of the examples' types is on disk."""
    cache = dispatcher._cache
    if not isinstance(cache, _Cache):
        return False
    signature = tuple(numba.typeof(example) for example in examples)
    return cache._cache_file.load(cache._index_key(signature, dispatcher.targetctx.codegen())) is not None


def environment() -> dict[str, Any]:
    """What decides which machine code runs, and how: versions, CPU, threads, threading layer, cache directory."""
    features = llvm.get_host_cpu_features()
    vectors = ("sse2", "sse4.2", "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "neon", "sve")
    with team((None, None), 2):  # the layer is known once it runs
        pass
    return {
        "numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
        "numpy": np.__version__,
        "cpu": numba.config.CPU_NAME or llvm.get_host_cpu_name(),
        "cpu_features": [name for name in vectors if features.get(name)],
        "threads": available_threads(),
        "threading_layer": numba.threading_layer(),
        "cache_directory": share._cache.cache_path,
    }


def available_threads() -> int:
    """Threads to use at most: NUMBA_NUM_THREADS if it is set, else the processors this process may run on, but no more
    than its control group gives it time of."""
    threads = int(numba.config.NUMBA_NUM_THREADS)
    if "NUMBA_NUM_THREADS" in os.environ:
        return threads
    return max(1, math.ceil(min(processors.quota(), threads)))
