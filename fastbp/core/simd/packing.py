"""Panels of B, copied to where their rows lie side by side."""

from __future__ import annotations

from numba import types
from numba.extending import intrinsic

from fastbp.core.simd.cpu import SKIP_VECTORS, TILE_VECTORS
from fastbp.core.simd.vectors import I64, Loop, Vectors, by_pieces, turned


def _pack_rows(vectors):
    @intrinsic
    def pack(typing, panel, b, b_k, n_columns, depth, scale):
        """panel[k, :] = scale * B[k, :n_columns], padded with zeros; B's columns lie side by side."""
        def emit(context, builder, signature, arguments):
            x = Vectors(builder, panel)
            target, source, b_k, n_columns, depth, scale = arguments
            width = vectors * x.lanes
            whole = builder.icmp_signed(">=", n_columns, I64(width))
            with Loop(builder, depth, [target, source]) as loop:
                to, row = loop.values

                def copy(y, offset):
                    y.store(builder.fmul(y.load(row, offset), y.splat(scale)), to, offset)

                with builder.if_else(whole) as (then, otherwise):
                    with then:
                        for v in range(vectors):
                            copy(x, I64(v * x.lanes))
                    with otherwise:
                        for v in range(vectors):
                            x.store(x.zero, to, I64(v * x.lanes))
                        # Masks, which AVX2 makes anew at each load, took six times as long for rows of four numbers.
                        by_pieces(builder, x, n_columns, width, copy)
                loop.next([builder.gep(to, [I64(width)]), builder.gep(row, [b_k])])
            return context.get_dummy_value()

        return types.void(panel, panel, types.int64, types.int64, types.int64, panel.dtype), emit

    return pack


pack_rows, pack_rows_skipping = _pack_rows(TILE_VECTORS), _pack_rows(SKIP_VECTORS)


def _pack_columns(vectors):
    @intrinsic
    def pack(typing, panel, b, b_column, n_columns, depth, scale):
        """panel[k, :] = scale * B[k, :n_columns]; B's columns are contiguous, `b_column` apart.

        Up to whole vectors the last column is repeated; what a wide tile reads beyond is not set. Neither ends in a
        number of C.
        """
        def emit(context, builder, signature, arguments):
            x = Vectors(builder, panel)
            target, source, b_column, n_columns, depth, scale = arguments
            factor, lanes, width = x.splat(scale), I64(x.lanes), I64(vectors * x.lanes)

            def least(u, v):
                return builder.select(builder.icmp_signed("<", u, v), u, v)

            # The last square reaches back into the one before, if there is one: masks took as long as all the rest.
            last = builder.sub(depth, least(depth, lanes))
            with Loop(builder, x.number_for(n_columns), [target, source]) as across:
                to, column = across.values
                end = builder.sub(builder.sub(n_columns, I64(1)), builder.mul(across.counter, lanes))
                offsets = [builder.mul(b_column, least(I64(i), end)) for i in range(x.lanes)]
                with Loop(builder, x.number_for(depth), []) as down:
                    k = least(builder.mul(down.counter, lanes), last)
                    square = x.load_mostly_whole(builder.gep(column, [k]), offsets, depth)
                    for i, row in enumerate(turned(x, square)):
                        offset = builder.add(builder.mul(k, width), I64(i * vectors * x.lanes))
                        x.store(builder.fmul(row, factor), to, offset)
                    down.next([])
                across.next([builder.gep(to, [lanes]), builder.gep(column, [builder.mul(b_column, lanes)])])
            return context.get_dummy_value()

        return types.void(panel, panel, types.int64, types.int64, types.int64, panel.dtype), emit

    return pack


pack_columns, pack_columns_skipping = _pack_columns(TILE_VECTORS), _pack_columns(SKIP_VECTORS)
