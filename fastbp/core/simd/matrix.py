"""A matrix in memory that is owned elsewhere, and views of it. They are intrinsics, which Numba types at once: as
inlined functions, their 44 call sites took a twentieth of the first compile."""

from __future__ import annotations

from collections import namedtuple

from numba import types
from numba.extending import intrinsic

from fastbp.core.simd.vectors import I64

# Pointer to the first number, strides of rows and columns in elements. With row stride 0, all rows are the same memory;
# with both strides 0, all are one stretch of a tile's width.
Matrix = namedtuple("Matrix", ["data", "row", "column"])


def matrix_of(pointer):
    """Return the type of a Matrix with the element type of `pointer`."""
    return types.NamedTuple((pointer, types.int64, types.int64), Matrix)


def fields_of(builder, m):
    """A Matrix's pointer and strides, as LLVM values."""
    return [builder.extract_value(m, i) for i in range(3)]


def _element(builder, m, i, j):
    data, row, column = fields_of(builder, m)
    return builder.gep(data, [builder.add(builder.mul(i, row), builder.mul(j, column))])


@intrinsic
def element(typing, m, i, j):
    """Pointer to m[i, j]."""
    def emit(context, builder, signature, arguments):
        return _element(builder, *arguments)

    return m[0](m, types.int64, types.int64), emit


@intrinsic
def starting_at(typing, m, i, j):
    """The part of `m` from row i and column j on."""
    def emit(context, builder, signature, arguments):
        _, row, column = fields_of(builder, arguments[0])
        return context.make_tuple(builder, m, [_element(builder, *arguments), row, column])

    return m(m, types.int64, types.int64), emit


@intrinsic
def transposed(typing, m):
    """`m` with its rows as columns."""
    def emit(context, builder, signature, arguments):
        data, row, column = fields_of(builder, arguments[0])
        return context.make_tuple(builder, m, [data, column, row])

    return m(m), emit


@intrinsic
def rows_of(typing, vector, offset, stride, lo):
    """The matrix at `offset` of a flat vector (a pointer), rows `stride` apart, from its row `lo` on."""
    kind = matrix_of(vector)

    def emit(context, builder, signature, arguments):
        data, offset, stride, lo = arguments
        place = builder.gep(data, [builder.add(offset, builder.mul(lo, stride))])
        return context.make_tuple(builder, kind, [place, stride, I64(1)])

    return kind(vector, types.int64, types.int64, types.int64), emit
