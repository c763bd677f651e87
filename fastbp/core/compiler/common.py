"""Shared by both ways of compiling: in pieces that are kept (linking), and plainly (plain)."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

if numba.config.DISABLE_JIT:
    raise ImportError("fastbp needs Numba's compiler, but NUMBA_DISABLE_JIT turns it off: unset it")

# fastmath off: NaN must propagate to be noticed, and no compiler may reorder a sum. Fused multiply-adds are explicit.
FLAGS = dict(nogil=True, fastmath=False, error_model="numpy", boundscheck=False)
PLAIN = os.environ.get("FASTBP_PLAIN", "0") not in ("", "0")  # without Numba's internals, see plain.py
Made = tuple[Any, tuple[Any, ...]]  # a function and the types of its arguments
CORE = Path(__file__).parents[1]


def _digest() -> str:
    """Return a fingerprint of all sources of the core: machine code compiled from other sources is never reused."""
    total = hashlib.sha256()
    for source in sorted(CORE.rglob("*.py")):
        if source.name != "reference.py":
            total.update(source.read_bytes())
    return total.hexdigest()


DIGEST = _digest()


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back until the end of this block.

    Numba's callbacks from LLVM swallow exceptions; machine code that Numba believes to exist would then be missing.
    """
    handler, held = signal.getsignal(signal.SIGINT), []
    try:
        if callable(handler):
            signal.signal(signal.SIGINT, lambda *event: held.append(event))
    except ValueError:  # only the main thread may do this, and only it is interrupted
        handler = None
    try:
        yield
    finally:
        if callable(handler):
            signal.signal(signal.SIGINT, handler)
            if held:
                handler(*held[-1])


def declared(module: Any, function_type: Any, name: str) -> Any:
    """Return the function of that name, declared if needed."""
    return module.globals.get(name) or ir.Function(module, function_type, name)


def emit_call(context: Any, builder: Any, function: Any, kinds: tuple[Any, ...], values: list[Any]) -> Any:
    """Call a compiled function with arguments of these types, from code that is being emitted.

    It is typed here, not with the caller: a function compiled both alone and under `linking` differs in the two, but
    Numba keeps one type for both.
    """
    typing = context.typing_context
    kind = typing.resolve_value_type(function)
    call = context.get_function(kind, typing.resolve_function_type(kind, kinds, {}))
    context.add_linking_libs(getattr(call, "libs", ()))
    return call(builder, values)


@intrinsic
def out_of_line(typing):
    """Prevent the calling function from being inlined into its callers: its code is compiled once in each."""
    def emit(context, builder, signature, arguments):
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), emit
