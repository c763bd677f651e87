"""Pointers and views: memory that compiled code knows by an address, and room on its stack."""

from __future__ import annotations

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastbp.core.simd.cpu import (
    DEPTH,
    ROW_SQUARES,
    ROW_VECTORS,
    SKIP_DEPTH,
    SKIP_TILES,
    SKIP_VECTORS,
    SKIP_WORDS,
    TILE_VECTORS,
    VECTOR_BITS,
)
from fastbp.core.simd.vectors import I64, emit_prefetch, room_on_stack

IMAGE_NUMBERS = 1 << 14  # that an augmented image needs at most: 128 KB of float64


@intrinsic
def prefetch(typing, pointer):
    """Ask for the cache line at a pointer; no fault if there is none."""
    def emit(context, builder, signature, arguments):
        emit_prefetch(builder, arguments[0])
        return context.get_dummy_value()

    return types.void(pointer), emit


@intrinsic
def pointer_from(typing, address, like):
    """Pointer to elements of the type of `like` at an address that Python gave as an integer."""
    def emit(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(like)(types.int64, like), emit


def check_contiguous(array):
    if not (isinstance(array, types.CPointer) or isinstance(array, types.Array) and array.layout == "C"):
        raise numba.TypingError(f"expected a contiguous array or a pointer, got {array}")


def data_of(context, builder, kind, value):
    """Pointer to the first number of a contiguous array, or the pointer itself."""
    return value if isinstance(kind, types.CPointer) else context.make_array(kind)(context, builder, value).data


@intrinsic
def at(typing, array, offset):
    """Pointer to number `offset` of a contiguous array."""
    check_contiguous(array)

    def emit(context, builder, signature, arguments):
        return builder.gep(data_of(context, builder, array, arguments[0]), [arguments[1]])

    return types.CPointer(array.dtype)(array, types.int64), emit


@intrinsic
def address_of(typing, array):
    """Address of the first number of a contiguous array, an int64."""
    check_contiguous(array)

    def emit(context, builder, signature, arguments):
        return builder.ptrtoint(data_of(context, builder, array, arguments[0]), I64)

    return types.int64(array), emit


@intrinsic
def number(typing, pointer, value):
    """A number of the type that the pointer is to."""
    def emit(context, builder, signature, arguments):
        return context.cast(builder, arguments[1], signature.args[1], pointer.dtype)

    return pointer.dtype(pointer, types.unliteral(value)), emit


@intrinsic
def ahead(typing, pointer, offset):
    """`pointer` moved on by `offset` elements."""
    def emit(context, builder, signature, arguments):
        return builder.gep(arguments[0], [arguments[1]])

    return pointer(pointer, types.int64), emit


@intrinsic
def zero_panel_row(typing, like):
    """Pointer to one row of zeros, as wide as the widest tile, a constant of the compiled module."""
    def emit(context, builder, signature, arguments):
        width = max(TILE_VECTORS, SKIP_VECTORS, ROW_VECTORS, ROW_SQUARES) * VECTOR_BITS // 8
        row = ir.Constant(ir.ArrayType(ir.IntType(8), width), bytearray(width))
        memory = ir.GlobalVariable(builder.module, row.type, builder.module.get_unique_name("zero_panel_row"))
        memory.linkage, memory.global_constant, memory.initializer = "internal", True, row
        return builder.bitcast(memory, context.get_value_type(like))

    return like(like), emit


def _on_stack(n_bytes, pointer_of):
    """An intrinsic that gives `n_bytes` of the caller's stack: private to the thread, and nothing is allocated."""
    @intrinsic
    def room(typing, like):
        def emit(context, builder, signature, arguments):
            return room_on_stack(builder, n_bytes, context.get_value_type(signature.return_type))

        return pointer_of(like)(like), emit

    return room


panel_on_stack = _on_stack(max(DEPTH * TILE_VECTORS, SKIP_DEPTH * SKIP_VECTORS) * VECTOR_BITS // 8, lambda like: like)


image_on_stack = _on_stack(IMAGE_NUMBERS * 8, lambda like: like)


steps_on_stack = _on_stack(SKIP_TILES * SKIP_WORDS * 8, lambda like: types.CPointer(types.int64))
