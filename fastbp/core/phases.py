"""Phases of work that threads share out among themselves, inside one parallel region.

A thread takes its own parts first, the same in every step, whose data its cache still holds; then whatever part no
other has taken yet: of a laptop's cores some are slow, and the fast ones then do more. A phase is over when its parts
are done, not when its threads have come: a thread that the system has put to sleep, or that never started, delays
nobody unless it sleeps in the middle of a part. With a region for each phase instead, an epoch of MNIST (784-128-10)
took 1.3 to 7 s while another process used one of the two processors, with this 0.13 to 0.8 s.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastbp.core import jit
from fastbp.core.simd import call_named

# A board: for each part the last phase in which it was taken, then a counter of all parts done, SLOT int64s apart: two
# cache lines, so that no two threads wait for one line.
SLOT = 16
PARTS_PER_THREAD = 4
LEAST_ROWS = 128  # of samples or weights to a part, if it is not a thread's only one: each copies panels of its own


@intrinsic
def _replace(typing, board, i, old, new):
    """board[i] = new if it is `old`, in one go; whether it was."""
    def emit(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        pointer = builder.gep(data, [arguments[1]])
        return builder.extract_value(builder.cmpxchg(pointer, arguments[2], arguments[3], "acq_rel", "acquire"), 1)

    return types.boolean(board, types.int64, types.int64, types.int64), emit


@intrinsic
def add(typing, board, i, amount):
    """board[i] += amount in one go, after all this thread wrote before."""
    def emit(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        builder.atomic_rmw("add", builder.gep(data, [arguments[1]]), arguments[2], "acq_rel")
        return context.get_dummy_value()

    return types.void(board, types.int64, types.int64), emit


@intrinsic
def read(typing, board, i):
    """board[i] as other threads have left it, and with it all that they wrote before."""
    def emit(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.load_atomic(builder.gep(data, [arguments[1]]), "acquire", 8)

    return types.int64(board, types.int64), emit


@intrinsic
def _relax(typing):
    """Leave the core to its other thread for a moment, where the CPU knows how."""
    def emit(context, builder, signature, arguments):
        triple = builder.module.triple
        if triple.startswith("x86_64"):
            name, operands = "llvm.x86.sse2.pause", []
        elif triple.startswith(("aarch64", "arm64")):
            name, operands = "llvm.aarch64.hint", [ir.IntType(32)(1)]
        else:
            return context.get_dummy_value()
        call_named(builder, name, ir.VoidType(), *operands)
        return context.get_dummy_value()

    return types.void(), emit


SYS_GETTID = {"x86_64": 186, "aarch64": 178}  # of Linux


@intrinsic
def thread_number(typing):
    """This thread's number to the system, where `processors` can do something with it; else 0."""
    def emit(context, builder, signature, arguments):
        machine, number = builder.module.triple.split("-")[0], ir.IntType(64)
        if "linux" not in builder.module.triple or machine not in SYS_GETTID:
            return number(0)
        return call_named(builder, "syscall", number, number(SYS_GETTID[machine]))

    return types.int64(), emit


def board_size(threads: int) -> int:
    """Length of the board (int64) for so many threads, with a place for each one's number behind."""
    return SLOT * (1 + PARTS_PER_THREAD * threads) + threads


@jit.inlined
def parts(rows, threads):
    """Parts of a phase whose work is so many rows of something: as many for each thread."""
    return threads * max(1, min(rows // (LEAST_ROWS * threads), PARTS_PER_THREAD)) if threads > 1 else 1


@jit.inlined
def take(board, part, phase):
    """Whether this thread is to do `part` of the phase, counted from 1: true for one thread only."""
    last = read(board, part * SLOT)
    return last < phase and _replace(board, part * SLOT, last, phase)


@jit.inlined
def done(board):
    """A part that was taken is done."""
    add(board, len(board) - SLOT, 1)


@jit.inlined
def wait(board, parts):
    """Until so many parts, of all phases together, are done."""
    while read(board, len(board) - SLOT) < parts:
        _relax()
