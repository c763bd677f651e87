"""Subnormal numbers, treated as 0 while compiled code runs."""

from __future__ import annotations

import functools

from numba import types
from numba.extending import intrinsic

from fastbp.core.simd.vectors import I32, I64, PLACE, VOID, call_named, room_on_stack


def _control(builder):
    """Return how to read and write the floating-point control register, and the bits that make it flush; or None.

    x86: MXCSR, flush to zero (15) and denormals are zero (6). ARM: FPCR, flush to zero (24).
    """
    call = functools.partial(call_named, builder)
    triple = builder.module.triple
    if triple.startswith("x86_64"):
        memory = room_on_stack(builder, 4, I32.as_pointer())
        pointer = builder.bitcast(memory, PLACE)

        def read():
            call("llvm.x86.sse.stmxcsr", VOID, pointer)
            return builder.zext(builder.load(memory), I64)

        def write(value):
            builder.store(builder.trunc(value, I32), memory)
            call("llvm.x86.sse.ldmxcsr", VOID, pointer)

        return read, write, 1 << 15 | 1 << 6
    if triple.startswith(("aarch64", "arm64")):
        return (lambda: call("llvm.aarch64.get.fpcr", I64)), (lambda v: call("llvm.aarch64.set.fpcr", VOID, v)), 1 << 24
    return None


@intrinsic
def flush_denormals(typing):
    """Treat subnormal numbers as 0 in this thread from now on; return what `restore_denormals` needs.

    Some CPUs take a hundred times as long for a sum with such a number, and the moments of Adam and momentum decay to
    them wherever a gradient stays 0.
    """
    def emit(context, builder, signature, arguments):
        control = _control(builder)
        if control is None:
            return I64(0)
        read, write, flush = control
        before = read()
        write(builder.or_(before, I64(flush)))
        return before

    return types.int64(), emit


@intrinsic
def restore_denormals(typing, before):
    """Restore the state from when `flush_denormals` returned `before`."""
    def emit(context, builder, signature, arguments):
        control = _control(builder)
        if control is not None:
            control[1](arguments[0])
        return context.get_dummy_value()

    return types.void(types.int64), emit
