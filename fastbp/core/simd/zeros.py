"""Which numbers are not zero, as bits."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastbp.core.simd.cpu import COMPARED, SKIP_ROWS, SKIP_WORDS, WORD
from fastbp.core.simd.vectors import I32, I64, Loop, Vectors


def _nonzero(x, values):
    """For each lane whether it is not zero."""
    return x.builder.fcmp_unordered("!=", values, x.zero)


def _bits(x, conditions):
    """An int64 with a bit for each lane's condition."""
    return x.builder.zext(x.builder.bitcast(conditions, ir.IntType(x.lanes)), I64)


@intrinsic
def nonzero_bits(typing, pointer, n):
    """Bit i is set where pointer[i] is not zero, for i below `n` and COMPARED."""
    def emit(context, builder, signature, arguments):
        x = Vectors(builder, pointer, lanes=COMPARED)
        return _bits(x, _nonzero(x, x.load_mostly_whole(arguments[0], [I64(0)], arguments[1])[0]))

    return types.int64(pointer, types.int64), emit


@intrinsic
def nonzero_word(typing, pointer):
    """Bit i is set where pointer[i] is not zero, for i below WORD."""
    def emit(context, builder, signature, arguments):
        x = Vectors(builder, pointer, lanes=WORD)
        return _bits(x, _nonzero(x, x.load(arguments[0], I64(0))))

    return types.int64(pointer), emit


@intrinsic
def number_of_ones(typing, word):
    """Bits of an int64 that are set."""
    def emit(context, builder, signature, arguments):
        return builder.call(builder.module.declare_intrinsic("llvm.ctpop", [I64]), arguments)

    return types.int64(types.int64), emit


@intrinsic
def nonzero_steps(typing, steps, half, a, a_k, n_lanes, depth):
    """For COMPARED / SKIP_ROWS tiles side by side: the steps k < `depth` at which the lanes of A are not all zero.

    Lanes (rows of a tile) lie side by side, the `n_lanes` of them, steps `a_k` apart. Sets 32 bits of each tile's word
    in `steps`, whose tiles are SKIP_WORDS apart: the lower 32 with half = 0, the upper with 1.
    """
    def emit(context, builder, signature, arguments):
        x = Vectors(builder, a, lanes=COMPARED)
        steps, half, a_, a_k, n_lanes, depth = arguments
        numbers = ir.VectorType(I32, x.lanes)
        none = ir.Constant(numbers, [0] * x.lanes)
        with Loop(builder, depth, [a_, none]) as loop:
            row, bits = loop.values
            nonzero = _nonzero(x, x.load_mostly_whole(row, [I64(0)], n_lanes)[0])
            bit = x.splat(builder.shl(I32(1), builder.trunc(loop.counter, I32)))
            loop.next([builder.gep(row, [a_k]), builder.select(nonzero, builder.or_(bits, bit), bits)])
        bits, distance = loop.result[1], 1
        while distance < SKIP_ROWS:  # each tile's lanes together
            other = [lane ^ distance for lane in range(x.lanes)]
            bits = builder.or_(bits, x.shuffle(bits, bits, other))
            distance *= 2
        halves = builder.bitcast(steps, I32.as_pointer())
        for t in range(x.lanes // SKIP_ROWS):
            offset = builder.add(half, I64(t * SKIP_WORDS * 2))
            builder.store(builder.extract_element(bits, I32(t * SKIP_ROWS)), builder.gep(halves, [offset]))
        return context.get_dummy_value()

    return types.void(steps, types.int64, a, types.int64, types.int64, types.int64), emit
