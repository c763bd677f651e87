"""Dense products `C = first + scale A B`, cut into panels that stay in cache and tiles that stay in registers."""

from __future__ import annotations

from collections import namedtuple

import numpy as np

from fastbp.core import jit
from fastbp.core.simd import (
    DEPTH,
    LISTED_TILES,
    TILE_ROWS,
    TILE_VECTORS,
    ahead,
    counts_on_stack,
    lanes_of,
    lists_on_stack,
    lowest_bit,
    nonzero_bits,
    out_of_line,
    pack_columns,
    pack_rows,
    panel_on_stack,
    tile_listed,
    tiles,
    zero_panel_row,
)

# A matrix in memory that lies elsewhere: pointer to its first number, strides of a row and a column in elements.
# With a row stride of 0 it is one row for all; with both 0, one stretch of a panel's width for all.
Matrix = namedtuple("Matrix", ["data", "row", "column"])
TILE_HEIGHT = TILE_ROWS[0]
FEW_ROWS = 2 * TILE_HEIGHT  # below so many rows of A, copying a panel of B costs more than it saves


@jit.inlined
def transposed(m):
    return Matrix(m.data, m.column, m.row)


@jit.inlined
def element(m, i, j):
    """Pointer to m[i, j]."""
    return ahead(m.data, i * m.row + j * m.column)


@jit.inlined
def repeated_zero(m):
    """A matrix of zeros of any size, of the type of `m`."""
    return Matrix(zero_panel_row(m.data), np.int64(0), np.int64(0))


@jit.inlined
def _pack(panel, b, k, j, n_columns, depth, scale):
    """Copy B[k:k + depth, j:j + n_columns], scaled, into a panel whose rows lie side by side."""
    if b.column == 1:
        pack_rows(panel, element(b, k, j), b.row, n_columns, depth, scale)
    else:
        pack_columns(panel, element(b, k, j), b.column, n_columns, depth, scale)


@jit.inlined
def _list_steps(lists, counts, n_tiles, a, i, k, depth):
    """For each of the tiles of A from row i on, list the steps k + 0, 1, ... at which its rows are not all zero.

    lists (n_tiles, DEPTH) int32 and counts (n_tiles,) are overwritten.
    """
    for t in range(n_tiles):
        counts[t] = 0
    if a.column == 1:  # a tile's rows are far apart: 16 steps at once, as bits
        for t in range(n_tiles):
            for step in range(0, depth, 16):
                bits = np.int64(0)
                for r in range(i + t * TILE_HEIGHT, i + (t + 1) * TILE_HEIGHT):
                    bits |= nonzero_bits(element(a, r, k + step), depth - step)
                while bits:
                    lists[t * DEPTH + counts[t]] = step + lowest_bit(bits)
                    counts[t] += 1
                    bits &= bits - 1
    else:  # a step's rows lie side by side
        for step in range(depth):
            for t in range(n_tiles):
                bits = nonzero_bits(element(a, i + t * TILE_HEIGHT, k + step), TILE_HEIGHT)
                lists[t * DEPTH + counts[t]] = step
                counts[t] += bits != 0


@jit.inner
def product(c, a, b, n_rows, n_columns, depth, first, scale, skip_zeros):
    """C = first + scale A B, with C (n_rows, n_columns), A (n_rows, depth), B (depth, n_columns).

    Each number of C is one chain of fused multiply-adds that starts at `first` and runs through k in order. With
    `skip_zeros` the steps at which all rows of a tile of A are zero are left out: they would add exactly 0.
    """
    out_of_line()
    panel, lists, counts = panel_on_stack(c.data), lists_on_stack(c.data), counts_on_stack(c.data)
    width = TILE_VECTORS * lanes_of(c.data)
    block = LISTED_TILES * TILE_HEIGHT
    n_depths = (depth + DEPTH - 1) // DEPTH
    for i in range(0, n_rows, block):
        rows = min(block, n_rows - i)
        listed = rows // TILE_HEIGHT if skip_zeros else 0
        for p in range(n_depths):
            k = depth * p // n_depths
            d = depth * (p + 1) // n_depths - k
            start = first if p == 0 else c
            _list_steps(lists, counts, listed, a, i, k, d)
            for j in range(0, n_columns, width):
                w = min(width, n_columns - j)
                b_panel, b_row = panel, width
                if rows < FEW_ROWS and b.column == 1 and w == width and scale == 1:
                    b_panel, b_row = element(b, k, j), b.row
                else:
                    _pack(panel, b, k, j, w, d, scale)
                for t in range(listed):
                    r = i + t * TILE_HEIGHT
                    tile_listed(element(c, r, j), c.row, element(start, r, j), start.row, element(a, r, k), a.row,
                                a.column, b_panel, b_row, w, ahead(lists, t * DEPTH), counts[t])
                r = i + listed * TILE_HEIGHT
                tiles(element(c, r, j), c.row, element(start, r, j), start.row, element(a, r, k), a.row, a.column,
                      b_panel, b_row, rows - listed * TILE_HEIGHT, w, d)
