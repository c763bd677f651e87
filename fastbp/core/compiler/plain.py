"""Compiling without Numba's internals, for FASTBP_PLAIN=1: ordinary njit functions that contain all their callees, and
cfuncs where machine code is called by its address.

Nothing is kept on disk, since Numba's own cache does not see an edit of a callee: each process compiles, for a minute.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastbp.core.compiler.common import FLAGS

NO_ENTRY: dict[str, Any] = {}
global_compiler_lock = threading.RLock()


def serial(function: Callable[..., Any]) -> Any:
    """Compile plainly; see decorators.py and linking.py for the purpose of each decorator."""
    dispatcher = numba.njit(**FLAGS)(function)
    dispatcher.alone = dispatcher
    return dispatcher


inner = block = piece = rare = apart = serial


def inlined(function: Callable[..., Any]) -> Any:
    return numba.njit(**FLAGS, inline="always")(function)


def twins(function: Callable[..., Any]) -> tuple[Any, Any]:
    return numba.njit(**FLAGS, parallel=dict(prange=True, fusion=False, setitem=False, reduction=False, numpy=False))(
        function), numba.njit(**FLAGS)(function)


_entries: dict[Any, Any] = {}


def machine_code(dispatcher: Any, signature: tuple[Any, ...]) -> int:
    """Return the address of a function with the C calling convention, which `call` uses."""
    key = dispatcher, signature
    if key not in _entries:
        _entries[key] = numba.cfunc(types.void(*signature), **FLAGS)(dispatcher.py_func)
    return int(_entries[key].address)


@intrinsic
def call(typing, address, arguments):
    """Call the function at `address`, a `machine_code`, with a tuple of arguments of exactly its types; no result."""
    kinds = tuple(arguments)

    def emit(context, builder, signature, values):
        given = [builder.extract_value(values[1], i) for i in range(len(kinds))]
        function = ir.FunctionType(ir.VoidType(), [value.type for value in given]).as_pointer()
        builder.call(builder.inttoptr(values[0], function), given)
        return context.get_dummy_value()

    return types.void(types.int64, arguments), emit


def reserve(piece: Any, signature: tuple[Any, ...]) -> None:
    """Do nothing: callers contain the piece."""


def link(piece: Any, signature: tuple[Any, ...], address: int | None = None) -> None:
    """Do nothing: callers contain the piece."""


fill = reserve


def is_filled(piece: Any, signature: tuple[Any, ...]) -> bool:
    return True


def is_cached(dispatcher: Any, signature: tuple[Any, ...]) -> bool:
    return False


def folder(function: Callable[..., Any]) -> str | None:
    """Return None: no folder holds machine code."""
    return None


def once(functions: Any, what: str = "", duration: str = "") -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


def linking() -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


@contextlib.contextmanager
def beside(dispatcher: Any, signature: tuple[Any, ...], statement: str) -> Iterator[bool]:
    yield False
