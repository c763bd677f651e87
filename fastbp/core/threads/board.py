"""Phases of work that threads share among themselves, inside one parallel region.

A thread first takes its own parts, the same in every step, whose data are still in its cache; then any part that no
other thread has taken: some cores of a laptop are slow, and the fast ones then do more. A phase is over when its parts
are done, not when all threads have arrived: a thread that the system has put to sleep, or that never started, delays
the others only if it sleeps in the middle of a part. With one parallel region per phase instead, an epoch of MNIST
(784-128-10) took 1.3 to 7 s while another process used one of the two processors; with this, 0.13 to 0.8 s.

Small parts would compensate for slow cores, but each part copies its own panels. So there are few parts, and their size
for each thread depends on its speed in earlier calls: `balance`.
"""

from __future__ import annotations

from itertools import accumulate

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastbp.core import compiler
from fastbp.core.simd.memory import data_of
from fastbp.core.simd.vectors import call_named

# A board: for each part, the last phase in which it was taken; then a counter of all parts done. They are SLOT int64s
# apart, two cache lines, so that no two threads wait for one line. Then the fields, each with a number per thread: how
# far the end of its work is moved from that of equal shares, kept from call to call; its work in the last call, both in
# units of 1 / WHOLE of a phase; its time in ticks of the clock; and its number in the system.
SLOT = 16
MOVED, WORKED, TICKS, NUMBER = range(4)
FIELDS, WHOLE = 4, 1 << 20
PARTS_PER_THREAD = 4
EVENLY = 1 / 16  # of the work


@intrinsic
def _replace(typing, board, i, old, new):
    """Set board[i] to `new` if it is `old`, atomically; return whether it was."""
    def emit(context, builder, signature, arguments):
        data = data_of(context, builder, board, arguments[0])
        pointer = builder.gep(data, [arguments[1]])
        return builder.extract_value(builder.cmpxchg(pointer, arguments[2], arguments[3], "acq_rel", "acquire"), 1)

    return types.boolean(board, types.int64, types.int64, types.int64), emit


@intrinsic
def add(typing, board, i, amount):
    """board[i] += amount, atomically, after all earlier writes of this thread."""
    def emit(context, builder, signature, arguments):
        data = data_of(context, builder, board, arguments[0])
        builder.atomic_rmw("add", builder.gep(data, [arguments[1]]), arguments[2], "acq_rel")
        return context.get_dummy_value()

    return types.void(board, types.int64, types.int64), emit


@intrinsic
def read(typing, board, i):
    """Return board[i], with all that the thread that set it wrote before."""
    def emit(context, builder, signature, arguments):
        data = data_of(context, builder, board, arguments[0])
        return builder.load_atomic(builder.gep(data, [arguments[1]]), "acquire", 8)

    return types.int64(board, types.int64), emit


@intrinsic
def _relax(typing):
    """Yield the core to its other hardware thread for a moment, if the CPU has an instruction for it."""
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


@intrinsic
def ticks(typing):
    """Ticks of the processor's clock, whatever its frequency; 0 on kinds of processor that are not known here."""
    def emit(context, builder, signature, arguments):
        triple, number = builder.module.triple, ir.IntType(64)
        if triple.startswith("x86_64"):
            return call_named(builder, "llvm.readcyclecounter", number)
        if triple.startswith(("aarch64", "arm64")):  # LLVM's cycle counter there is kept by the system
            name = builder.module.add_metadata([ir.MetaDataString(builder.module, "cntvct_el0")])
            return call_named(builder, "llvm.read_volatile_register.i64", number, name)
        return number(0)

    return types.int64(), emit


def board_size(threads: int) -> int:
    """Length of the board (int64) for so many threads, or one: of zeros at first, and then of no other number."""
    return SLOT * (1 + PARTS_PER_THREAD * threads) + FIELDS * threads


@compiler.inlined
def _end(fields, thread, threads):
    """Where the work of a thread ends, in 1 / WHOLE of all."""
    if thread < 0:
        return 0
    return WHOLE * (thread + 1) // threads + fields[MOVED * threads + thread]


@compiler.inner
def _cut(fields, grains, part, parts, threads, turn):
    """Grains before a part; which threads get those left over changes with `turn`."""
    each = parts // threads
    thread = min(part // each, threads - 1)
    before = _end(fields, thread - 1, threads)
    exact = before * each + (_end(fields, thread, threads) - before) * (part - thread * each)
    rounding = (each * WHOLE // 2 + turn * each * WHOLE // threads) % (each * WHOLE)
    return (grains * exact + rounding) // (each * WHOLE)


@compiler.inner
def share(fields, n, part, parts, threads, grain, turn):
    """Bounds lo, hi of a part of range(n), cut at multiples of `grain`; fields: those of the board.

    turn: how many grains of other ranges the same parts have been given before, so that what is left over of each goes
    to other threads.
    """
    if threads == 1:  # whose place on a board for more holds something else
        return even_share(n, part, parts, grain)
    grains = (n + grain - 1) // grain
    return (min(n, _cut(fields, grains, part, parts, threads, turn) * grain),
            min(n, _cut(fields, grains, part + 1, parts, threads, turn) * grain))


@compiler.inner
def even_share(n, c, shares, grain):
    """Bounds lo, hi of the c-th of `shares` parts of range(n), cut at multiples of `grain`."""
    grains = (n + grain - 1) // grain
    return min(n, grains * c // shares * grain), min(n, grains * (c + 1) // shares * grain)


def fields_of(board: np.ndarray, threads: int) -> np.ndarray:
    """The fields of a board, as a view (FIELDS, threads)."""
    return board[-FIELDS * threads :].reshape(FIELDS, threads)


def balance(board: np.ndarray, threads: int) -> None:
    """After a call, move the ends of the threads' work half of the way to where all would take equally long.

    A thread without a measured speed gets the mean speed, and a small part of the work is always split evenly: so no
    thread is left without work.
    """
    fields = fields_of(board, threads)
    moved, worked, ticks, _ = fields.tolist()  # in Python's numbers: by NumPy's functions it takes 0.15 ms
    speeds = [done / time if done > 0 and time > 0 else 0.0 for done, time in zip(worked, ticks, strict=True)]
    known = threads - speeds.count(0.0)
    if known:
        mean = sum(speeds) / known
        ends = list(accumulate(speed or mean for speed in speeds))
        for i in range(threads - 1):
            even = WHOLE * (i + 1) // threads
            wanted = EVENLY * even + (1 - EVENLY) * WHOLE * ends[i] / ends[-1]
            fields[MOVED, i] = (wanted - even + moved[i]) / 2


@compiler.inlined
def take(board, part, phase):
    """Whether this thread is to do `part` of the phase, counted from 1: true for one thread only."""
    last = read(board, part * SLOT)
    return last < phase and _replace(board, part * SLOT, last, phase)


@compiler.inlined
def done(board, n_board):
    """A part that was taken is done; n_board: the length of the board without its fields."""
    add(board, n_board - SLOT, 1)


@compiler.inlined
def wait(board, n_board, parts):
    """Until so many parts, of all stages together, are done."""
    while read(board, n_board - SLOT) < parts:
        _relax()
