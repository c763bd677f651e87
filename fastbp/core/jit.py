"""The only door to Numba: compiler flags, machine code in pieces, and safe entry into parallel code.

    serial      one thread; for users' compiled code and for Python
    twins       one source, compiled parallel and serial: the kernels and drivers
    inner       for compiled callers only, part of their machine code: share, gather, factors_of, ...
    block       for compiled callers only, as inner, and put in at each place where it is called: blocks of the kernels
    piece       for compiled callers only, as inner; for those made under `linking`, machine code of its own
    rare        a piece that is loaded or compiled only before a call that needs it: kernels.address
    apart       for compiled callers only, machine code of its own, which they call by its address
    inlined     for compiled callers only, compiled into each: what is small or has one caller
    call        of machine code by its address, which `machine_code` gives: holds none of it
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core.cgutils import get_or_insert_function
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.compiler_lock import global_compiler_lock
from numba.core.cpu_options import ParallelOptions
from numba.core.errors import TypingError
from numba.core.registry import CPUDispatcher
from numba.extending import intrinsic

from fastbp.core import processors
from fastbp.core.cache import Cache, NoCache, announce, announced, folder, is_cached, turn

if numba.config.DISABLE_JIT:
    raise ImportError("fastbp is compiled by Numba, which NUMBA_DISABLE_JIT turns off: unset it")

# fastmath off: NaN must survive to be noticed, and no compiler may reorder a sum. Fused multiply-adds are explicit.
FLAGS = dict(nogil=True, fastmath=False, error_model="numpy", boundscheck=False)
# Of what parallel=True can do only prange is wanted: the rest would make loops parallel that are meant to be serial.
# An object, not a dict, which Numba would empty at its first use and read as "all on" at the next.
ONLY_PRANGE = ParallelOptions(dict(comprehension=False, reduction=False, inplace_binop=False, setitem=False,
                                   numpy=False, stencil=False, fusion=False, prange=True))


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back until the end of this block.

    Numba's callbacks from LLVM swallow an error, and then machine code is missing that it takes to be there.
    """
    handler, held = signal.getsignal(signal.SIGINT), []
    try:
        if callable(handler):
            signal.signal(signal.SIGINT, lambda *event: held.append(event))
    except ValueError:  # only the main thread may, and only it is interrupted
        handler = None
    try:
        yield
    finally:
        if callable(handler):
            signal.signal(signal.SIGINT, handler)
            if held:
                handler(*held[-1])


class _Dispatcher(CPUDispatcher):  # type: ignore[misc]  # Numba has no types
    """Compiles a function, or loads it, without being interrupted and while no other process compiles."""

    def compile(self, sig: Any) -> Any:
        with global_compiler_lock, once([(self, sig)]), uninterrupted():
            return super().compile(sig)


_BESIDE = "FASTBP_BESIDE"  # set for a process that helps another, see `beside`
Made = tuple[Any, tuple[Any, ...]]  # a function and the types of its arguments


def once(functions: Iterable[Made], what: str = "", duration: str = "") -> contextlib.AbstractContextManager[None]:
    """A context for loading or compiling functions. If one is not on disk, it announces that `what` is compiled, and no
    other process compiles until the block ends. Without `what` it announces nothing after the first announcement."""
    for function, signature in functions:
        if not (signature in function.overloads or is_cached(function, signature)):
            return _in_turn(function._cache, what, duration)
    return contextlib.nullcontext()


def _in_turn(cache: Any, what: str, duration: str) -> contextlib.AbstractContextManager[None]:
    if not isinstance(cache, (Cache, NoCache)) or _BESIDE in os.environ:  # the process that started this one has it
        return contextlib.nullcontext()
    if what or not announced():
        announce(what or "its functions", duration or "1 to 20 s", cache.cache_path)
    return turn(cache.cache_path) if cache.cache_path else contextlib.nullcontext()


def _compiled(function: Callable[..., Any], **flags: Any) -> Any:
    dispatcher = numba.njit(**FLAGS, **flags)(function)
    dispatcher.__class__ = _Dispatcher
    try:
        dispatcher._cache = Cache(function, "parallel" in flags)
    except RuntimeError:  # no folder can be written
        dispatcher._cache = NoCache()
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


_linking = False  # whether what is compiled now calls pieces by their symbols, instead of holding them


class _Inner(_Dispatcher):
    """What compiled callers call; its `linked`, if it has one, stands in for it while linking."""

    linked: Any = None

    def _now(self) -> _Inner:
        return self.linked if _linking and self.linked is not None else self

    def get_call_template(self, args: Any, kws: Any) -> Any:
        # Numba would compile once more for each argument that is a constant.
        return super(_Inner, self._now()).get_call_template([types.unliteral(kind) for kind in args], kws)

    def get_overload(self, sig: Any) -> Any:
        return super(_Inner, self._now()).get_overload(sig)

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


def _part(function: Callable[..., Any], forceinline: bool = False) -> Any:
    dispatcher = numba.njit(**FLAGS, **NO_ENTRY, forceinline=forceinline, pipeline_class=_PartCompiler)(function)
    dispatcher.__class__ = _Inner
    return dispatcher


def inner(function: Callable[..., Any], forceinline: bool = False) -> Any:
    """Compile for one thread and only for compiled callers: neither an entry point for Python nor anything on disk."""
    dispatcher = _part(function, forceinline)
    dispatcher.linked = _part(function, forceinline)
    return dispatcher


def block(function: Callable[..., Any]) -> Any:
    """As `inner`, and LLVM puts its code in at each place where it is called."""
    return inner(function, forceinline=True)  # which callees inherit that say nothing of it


def apart(function: Callable[..., Any]) -> Any:
    """Compile for one thread and for compiled callers that know it by its `machine_code` only."""
    dispatcher = _compiled(function, **NO_ENTRY)
    dispatcher.__class__ = _Inner
    return dispatcher


def piece(function: Callable[..., Any], rare: bool = False) -> Any:
    """As `inner`; but what is made under `linking` calls machine code of its own, given by `link`, by a symbol.

    So the compilation falls into parts, of which two processes can make some each. To its callers a piece returns
    nothing, and raises nothing.
    """
    name = function.__name__

    @intrinsic
    def by_symbol(typing, arguments):
        kinds = tuple(arguments)
        symbol = _symbol(name, kinds)
        if symbol not in _linked:  # LLVM would end the process
            raise TypingError(f"{name}{kinds} is called but was not linked")

        def emit(context, builder, signature, values):
            kind = context.call_conv.get_function_type(types.none, kinds)
            if rare:
                code = builder.inttoptr(_held(builder, symbol), kind.as_pointer())
            else:
                code = get_or_insert_function(builder.module, kind, symbol)
            return _call(context, builder, code, kinds, values[0])

        return types.void(arguments), emit

    def stub(*arguments):
        by_symbol(arguments)

    stub.__qualname__ = f"{name}_by_symbol"  # else two stubs of the same types would differ by a number only
    dispatcher = _part(function)
    dispatcher.linked, dispatcher.alone = _part(stub, forceinline=True), apart(function)
    return dispatcher


def rare(function: Callable[..., Any]) -> Any:
    """A piece that few need. Its callers find its address in a cell, which `fill` must fill before they run."""
    return piece(function, rare=True)


def _held(builder: Any, symbol: str) -> Any:
    """Emits the address of a rare piece's machine code: what its cell holds."""
    module = builder.module
    cell = module.globals.get(symbol) or ir.GlobalVariable(module, ir.IntType(64), symbol)
    return builder.load(cell)


_cells: dict[str, np.ndarray] = {}  # by symbol


def reserve(piece: Any, signature: tuple[Any, ...]) -> None:
    """As `link`, of a rare piece, for callers that run only after `fill`."""
    symbol = _symbol(piece.__name__, signature)
    if symbol not in _cells:  # callers know the one that was there first
        _cells[symbol] = np.zeros(1, np.int64)
        llvm.add_symbol(symbol, _cells[symbol].ctypes.data)
        _linked.add(symbol)


def is_filled(piece: Any, signature: tuple[Any, ...]) -> bool:
    """Whether the callers of a rare piece can run."""
    return bool(_cells[_symbol(piece.__name__, signature)][0])


def fill(piece: Any, signature: tuple[Any, ...]) -> None:
    """Load or compile a rare piece that is reserved."""
    cell = _cells[_symbol(piece.__name__, signature)]
    with linking():
        cell[0] = cell[0] or machine_code(piece.alone, signature)


_linked: set[str] = set()  # symbols of pieces whose addresses LLVM knows


def _symbol(name: str, kinds: tuple[Any, ...]) -> str:
    return f"fastbp {name}{kinds}"


def link(piece: Any, signature: tuple[Any, ...], address: int | None = None) -> None:
    """Load or compile a piece for arguments of these types, for the callers made under `linking`; itself calls those
    linked before.

    With another address the callers can be compiled and kept, but not run.
    """
    symbol = _symbol(piece.__name__, signature)
    if address is None:
        with linking():
            address = machine_code(piece.alone, signature)
    llvm.add_symbol(symbol, address)
    _linked.add(symbol)


@contextlib.contextmanager
def linking() -> Iterator[None]:
    """What is compiled in this block calls pieces by their symbols. No other thread compiles meanwhile."""
    global _linking
    with global_compiler_lock:
        before, _linking = _linking, True
        try:
            yield
        finally:
            _linking = before


def twins(function: Callable[..., Any]) -> tuple[Any, Any]:
    """Compile one source twice: (parallel, serial)."""
    return _compiled(function, parallel=ONLY_PRANGE), _compiled(function)


@inner
def share(n, c, shares, grain):
    """Bounds lo, hi of the c-th of `shares` parts of range(n), cut at multiples of `grain`."""
    grains = (n + grain - 1) // grain
    return min(n, grains * c // shares * grain), min(n, grains * (c + 1) // shares * grain)


def machine_code(dispatcher: Any, signature: tuple[Any, ...]) -> int:
    """Address of a serial function's machine code for arguments of these types; loaded or compiled now.

    A driver that calls its blocks by address (`call`) holds none of their code, which is then compiled once and not
    again into every parallel loop: 0.3 s a driver instead of 4 to 8.
    """
    with uninterrupted():
        dispatcher.compile(signature)
        compiled = dispatcher.overloads[signature]
        return int(compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name))


PATIENCE = 300  # seconds to wait for a process that may hang, before its work is done here


@contextlib.contextmanager
def beside(dispatcher: Any, signature: tuple[Any, ...], statement: str) -> Iterator[bool]:
    """While this block runs, have another process compile a function, with a Python statement that does it; then wait.

    Gives the block whether there is one. Numba compiles one thing at a time in a process. Of one that fails nothing is
    told: the machine code is not on disk then, and is compiled where it is needed.
    """
    process = None
    try:
        if isinstance(dispatcher._cache, Cache) and not is_cached(dispatcher, signature) and available_threads() > 1:
            with uninterrupted():  # else it could start and not be known
                process = _python(statement)
        yield process is not None
        if process is not None:
            process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        pass
    finally:
        if process is not None:
            process.kill()
            process.wait()


def _python(statement: str) -> subprocess.Popen[bytes] | None:
    """A process that runs a statement as this one would, and says nothing; None where Python cannot be started."""
    program, nothing = Path(sys.executable or "").name, subprocess.DEVNULL
    if "python" not in program.lower() or hasattr(sys, "frozen") or _BESIDE in os.environ:  # part of another program
        return None
    path = [*(folder for folder in sys.path if isinstance(folder, str)), str(Path(__file__).parents[2])]
    config = {f"NUMBA_{name}": getattr(numba.config, name) for name in ("CACHE_DIR", "CPU_NAME", "CPU_FEATURES")}
    # Without the collector it is 5 % faster and takes 15 % more memory, which it soon gives back.
    command = [sys.executable, "-c", f"import gc, sys; gc.disable(); sys.path[:] = {path!a}; {statement}"]
    try:
        return subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing,
                                env=os.environ | {name: value for name, value in config.items() if value is not None}
                                | {_BESIDE: "1"})
    except Exception:  # an audit hook's, a system's: this only saves time
        return None


@intrinsic
def call(typing, address, arguments):
    """Call the function at `address`, a `machine_code`, with a tuple of arguments of just its types; no result."""
    kinds = tuple(arguments)

    def emit(context, builder, signature, values):
        function = context.call_conv.get_function_type(types.none, kinds).as_pointer()
        return _call(context, builder, builder.inttoptr(values[0], function), kinds, values[1])

    return types.void(types.int64, arguments), emit


def _call(context: Any, builder: Any, function: Any, kinds: tuple[Any, ...], arguments: Any) -> Any:
    context.call_conv.call_function(builder, function, types.none, kinds,
                                    [builder.extract_value(arguments, i) for i in range(len(kinds))])
    return context.get_dummy_value()


_entry = threading.RLock()  # were Ctrl-C to come before the try below, its own thread could still enter again
_owner: int | None = None
_helpers: list[int] = []  # the system's numbers of the last team's threads, without the caller's
_awake = (1, -math.inf)  # how many threads the last team had, and when it ended
PAUSE = 0.002  # seconds without work after which threads sleep


@contextlib.contextmanager
def team(twins: tuple[Any, Any], threads: int, most: int = 1, board: Any = None) -> Iterator[tuple[Any, int]]:
    """Which of `twins` to call in this block, and how many threads it may use: `threads`, or 1 where more are not safe.

    On the `board` (see phases), if there is one, the threads that come leave their numbers; the next team finds them.

    A second Python thread would abort the process under Numba's workqueue layer
    (https://github.com/numba/numba/issues/8563), and a child forked after a parallel region is killed by GNU OpenMP;
    both run serially, with the same bits. Who also calls with up to `most` threads gets the parallel twin for one
    thread too, so that the serial one need not be compiled.
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
            _helpers = [int(thread) for thread in board[-threads:] if thread not in (0, threading.get_native_id())]
    finally:
        _awake = threads, time.perf_counter()
        if wanted != before:
            numba.set_num_threads(before)
        _entry.release()


def is_awake(threads: int) -> bool:
    """Whether the last team was of so many threads and has only just ended, so that they still look out for work."""
    return threads == _awake[0] and time.perf_counter() - _awake[1] < PAUSE


def threads_started() -> bool:
    """Whether a team has been in this process, so that machine code for threads may be loaded: that starts them."""
    return _owner == os.getpid()


# Multiply-adds of one call (parameters x samples, three times over with gradients) below which to wake a second thread
# does not pay: 784-128-10 takes as long with one thread as with two for 32 samples, 64-512-10 for 64.
WORTH_THREADS = 3_000_000


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
        "cache_directory": folder(),
    }


def available_threads() -> int:
    """Threads to use at most: NUMBA_NUM_THREADS if it is set, else the processors this process may run on, but no more
    than its control group gives it time of."""
    threads = int(numba.config.NUMBA_NUM_THREADS)
    if "NUMBA_NUM_THREADS" in os.environ:
        return threads
    return max(1, math.ceil(min(processors.quota(), threads)))
