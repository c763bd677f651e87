"""Dropout: which activations are left out, a pure function of (key, row, column) that is never stored."""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastbp.core import jit
from fastbp.core.simd import I32, I64, Loop, Vectors, check_contiguous, out_of_line, part

WHOLE = 1 << 32  # rates are thresholds of 32 bits
NEIGHBOUR = 0x9E3779B9  # odd, and its multiples are far apart: 2**32 divided by the golden ratio


def threshold(rate: float) -> int:
    """The number that stands for a rate in [0, 1)."""
    return min(round(rate * WHOLE), WHOLE - 1)


@jit.inner
def mixed(x):
    """A number of 64 bits from another, any of whose bits changes about half of all: mix64variant13 of Steele, Lea,
    Flood: Fast Splittable Pseudorandom Number Generators (OOPSLA 2014), figure 19."""
    x = np.uint64(x)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@intrinsic
def _drop_row(typing, row, n, key, first, threshold, scale):
    """row[j] *= scale, or 0 where the hash of (key, first + j) is below the threshold; whole vectors, as `each` does.

    The hash is the end of MurmurHash3 (Appleby 2011), 32 bits to 32; a loop in Python takes 64 for each product, and
    five times as long.
    """
    check_contiguous(row)

    def emit(context, builder, signature, arguments):
        vectors = Vectors(builder, types.CPointer(row.dtype))
        data = context.make_array(row)(context, builder, arguments[0]).data
        whole = ir.VectorType(I32, vectors.lanes)

        def constant(number):
            return ir.Constant(whole, [number] * vectors.lanes)

        def splat(number):
            return vectors.splat(builder.trunc(number, I32))

        def shifted(x, bits):
            return builder.xor(x, builder.lshr(x, constant(bits)))

        start = builder.add(splat(arguments[3]), ir.Constant(whole, list(range(vectors.lanes))))
        own, least, scales = splat(arguments[2]), splat(arguments[4]), vectors.splat(arguments[5])
        with Loop(builder, vectors.number_for(arguments[1]),
                  [data, builder.mul(start, constant(NEIGHBOUR))]) as loop:
            place, number = loop.values
            x = builder.mul(shifted(builder.xor(number, own), 16), constant(0x85EBCA6B))
            x = shifted(builder.mul(shifted(x, 13), constant(0xC2B2AE35)), 16)
            factor = builder.select(builder.icmp_unsigned(">=", x, least), scales, vectors.zero)
            vectors.store(builder.fmul(vectors.load(place, I64(0)), factor), place, I64(0))
            loop.next([builder.gep(place, [I64(vectors.lanes)]),
                       builder.add(number, constant(NEIGHBOUR * vectors.lanes % WHOLE))])
        return context.get_dummy_value()

    return types.void(row, types.int64, types.uint64, types.int64, types.int64, row.dtype), emit


@jit.piece
def drop(key, first_row, first, threshold, rows, n_rows, n, ld):
    """For `n_rows` rows of `n` numbers, `ld` apart: each becomes 0 with probability threshold / 2**32, else
    1 / (1 - that) times as large.

    Row i is row first_row + i of those that the `key` is for, number j is number first + j: in whatever parts, by
    whatever threads and however often, the same are dropped. Rows have the room that `activate` wants.
    """
    out_of_line()
    scale = rows.dtype.type(1 / (1 - threshold / WHOLE))
    for i in range(n_rows):
        own = mixed(np.uint64(key) + mixed(np.uint64(first_row + i)))
        _drop_row(part(rows, i * ld, n), n, own, first, threshold, scale)
