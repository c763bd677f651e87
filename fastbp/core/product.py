"""Dense products `C = first + scale A B`, cut into panels that stay in cache and tiles that stay in registers."""

from __future__ import annotations

from collections import namedtuple

import numpy as np

from fastbp.core import compiler
from fastbp.core.compiler import out_of_line
from fastbp.core.simd.cpu import (
    COMPARED,
    DEPTH,
    LOW_FAR,
    LOW_NEAR,
    LOW_ROWS,
    LOW_VECTORS,
    ROW_DEPTH,
    ROW_SQUARES,
    ROW_VECTORS,
    ROWS_IN_PLACE,
    SKIP_DEPTH,
    SKIP_ROWS,
    SKIP_TILES,
    SKIP_VECTORS,
    SKIP_WORDS,
    TILE_ROWS,
    TILE_VECTORS,
    WORD,
)
from fastbp.core.simd.matrix import Matrix, element, starting_at
from fastbp.core.simd.memory import ahead, panel_on_stack, prefetch, steps_on_stack, zero_panel_row
from fastbp.core.simd.packing import pack_columns, pack_columns_skipping, pack_rows, pack_rows_skipping
from fastbp.core.simd.tile import low_tile, row_tile, row_tile_turned, tile_skipping, tiles
from fastbp.core.simd.vectors import lanes_of, numbers_per_line
from fastbp.core.simd.zeros import nonzero_bits, nonzero_steps, nonzero_word, number_of_ones
from fastbp.core.threads.board import even_share

Shape = namedtuple("Shape", ["rows", "columns", "depth"])  # of a product: C has rows and columns, A has depth columns
TILE_HEIGHT = TILE_ROWS[0]
ROWS_AT_ONCE = 32 * TILE_HEIGHT  # rows of C that stay in cache while panels of B pass
NUMBERS_NEAR = 1 << 17  # numbers that surely stay in a core's own cache: half a megabyte of float32
NUMBERS_FAR = 1 << 20  # with more numbers, even a product that skips steps gains from prefetching
MANY_ROWS = 5 * TILE_HEIGHT  # rows of A from which the next panel is prefetched between tiles
FEW_ROWS = 2 * TILE_HEIGHT  # with fewer rows of A, looking for zeros costs more than it saves

# Whether a product skips the steps at which a tile's rows of A are all zero: with LOOK, if A holds enough zeros that it
# pays. On a Zen 1 with AVX2 (128x512x512, one row a tile) it takes 0.45 of the time if 30 % are nonzero,
# 0.67 at 50 %, 0.85 at 64 %, 0.93 at 75 %; with 32 columns, computed by half of the skipping tile, 0.7 at 38 %; with 16
# or fewer, finding the steps takes as long as the product.
NEVER, ALWAYS, LOOK = range(3)
MOST_STEPS = 0.75 if SKIP_ROWS == 1 else 0.5  # share of a tile's steps that may be left; 0.5 is not measured
MOST_NONZERO = 1 - (1 - MOST_STEPS) ** (1 / SKIP_ROWS)  # share of A's numbers: then MOST_STEPS are left on average
LOOKED_AT = 8  # lines of A that are examined, in memory order
WORTH_LOOKING, LEAST_DEPTH = 1 << 16, 16  # least multiply-adds of a product, and least depth


@compiler.inlined
def repeated_zero(m):
    """A matrix of zeros of any size, of the type of `m`."""
    return Matrix(zero_panel_row(m.data), np.int64(0), np.int64(0))


def _packing(by_rows, by_columns):
    @compiler.inlined
    def pack(panel, b, k, j, n_columns, depth, scale):
        """Copy B[k:k + depth, j:j + n_columns], scaled, into a panel whose rows lie side by side."""
        if b.column == 1:
            by_rows(panel, element(b, k, j), b.row, n_columns, depth, scale)
        else:
            by_columns(panel, element(b, k, j), b.column, n_columns, depth, scale)

    return pack


_pack, _pack_skipping = _packing(pack_rows, pack_columns), _packing(pack_rows_skipping, pack_columns_skipping)


@compiler.block
def _next_panel(b, k, j, depth, n_columns, d, width):
    """Return the panel of B after the one at k, j (or the same one if it is the last), for prefetching.

    It is a matrix whose rows are contiguous stretches of memory, with their number and the cache lines of each. Rows of
    B are addressed by the last number of a line: if they begin within a line, its first part came with the panel to the
    left. Columns may begin and end within a line.
    """
    start = element(b, k, j)
    if j + width < n_columns:
        start = element(b, k, j + width)
    elif k + d < depth:
        start = element(b, k + d, 0)
    line, one = numbers_per_line(b.data), np.int64(1)
    if b.column == 1:
        return Matrix(ahead(start, line - 1), b.row, one), d, max(one, width // line)
    return Matrix(start, b.column, one), width, (d - 1) // line + 2


@compiler.inner
def _ask_for(m, first, end, lines):
    """Prefetch `lines` cache lines of each of the rows first..end of `m`."""
    out_of_line()
    line = numbers_per_line(m.data)
    for i in range(first, end):
        for j in range(lines):
            prefetch(ahead(m.data, i * m.row + j * line))


@compiler.inlined
def _number_of_tallest(n_rows):
    """Return how many of the tallest tiles cover `n_rows` rows; lower ones do the rest.

    One fewer than fit, if two of the next height can then do the rest, but for a row: still lower tiles have too few
    chains of multiply-adds to hide their latency. 128 rows are 20 times 6 and twice 4, not 21 times 6 and 2.
    """
    whole, left, next_height = n_rows // TILE_HEIGHT, n_rows % TILE_HEIGHT, TILE_ROWS[1]
    if whole > 0 and 0 < 2 * next_height - TILE_HEIGHT <= left < next_height:
        return whole - 1
    return whole


@compiler.block
def _dense(panel, c, a, b, shape, first, scale):
    n_rows, n_columns, depth = shape
    width, line = TILE_VECTORS * lanes_of(c.data), numbers_per_line(c.data)
    n_depths = (depth + DEPTH - 1) // DEPTH
    # A large B comes from memory, in panels that no processor predicts. So each of the tallest tiles of one panel first
    # prefetches some lines of the next, since a core can have some twenty in flight; with few rows of A, all tiles
    # prefetch one line at each step. On a Zen 3 with AVX2 the share of the FMA peak at 128x2500x2000 is 0.86 with this
    # choice and 0.80 with the other, 0.80 without prefetching. At 4x2500x2000 it is 0.61 and 0.42, at 6x2500x2000 0.74
    # and 0.54.
    from_afar, n_tallest = depth * n_columns > NUMBERS_NEAR, _number_of_tallest(n_rows)
    n_groups = max(1, n_tallest) if from_afar else 1
    for p in range(n_depths):
        k = depth * p // n_depths
        d = depth * (p + 1) // n_depths - k
        start = first if p == 0 else c
        for j in range(0, n_columns, width):
            w = min(width, n_columns - j)
            own = Matrix(panel, np.int64(width), np.int64(1))
            if n_rows < ROWS_IN_PLACE and b.column == 1 and w == width and scale == 1:
                own = starting_at(b, k, j)
            else:
                _pack(panel, b, k, j, w, d, scale)
            following, stretches, lines = _next_panel(b, k, j, depth, n_columns, d, width)
            for group in range(n_groups):
                soon = Matrix(panel, np.int64(0), np.int64(0))
                if from_afar and n_rows < MANY_ROWS:
                    soon = starting_at(following, 0, group % lines * line)
                elif from_afar:
                    _ask_for(following, stretches * group // n_groups, stretches * (group + 1) // n_groups, lines)
                r, last = group * TILE_HEIGHT, group == n_groups - 1
                tallest, rows = (n_tallest - group, n_rows - r) if last else (1, TILE_HEIGHT)
                tiles(starting_at(c, r, j), starting_at(start, r, j), starting_at(a, r, k), own, soon,
                      Shape(rows, w, d), tallest)


@compiler.block
def _one_row(c, a, b, shape, first):
    """Compute the product for one row of A, for the columns in whole tiles; return their number."""
    width = (ROW_VECTORS if b.column == 1 else ROW_SQUARES) * lanes_of(c.data)
    whole, depth = shape.columns // width * width, shape.depth
    if b.column == 1:
        for k in range(0, depth, ROW_DEPTH):
            start = first if k == 0 else c
            for j in range(0, whole, width):
                row_tile(element(c, 0, j), element(start, 0, j), element(a, 0, k), a.column, element(b, k, j), b.row,
                         min(ROW_DEPTH, depth - k))
    else:
        for j in range(0, whole, width):
            row_tile_turned(element(c, 0, j), element(first, 0, j), a.data, element(b, 0, j), b.column, depth)
    return whole


@compiler.inlined
def _is_low(shape):
    """Whether rows of A are so few that wide tiles, with B in place, are best."""
    return 1 < shape.rows <= (LOW_NEAR if shape.depth * shape.columns <= NUMBERS_FAR else LOW_FAR)


@compiler.block
def _low(c, a, b, shape, first):
    """Compute the product for a few rows of A, for the columns in whole tiles; return their number."""
    width = LOW_VECTORS * lanes_of(c.data)
    whole, depth = shape.columns // width * width, shape.depth
    for i in range(0, shape.rows, LOW_ROWS):
        for k in range(0, depth, ROW_DEPTH):
            start = first if k == 0 else c
            for j in range(0, whole, width):
                low_tile(starting_at(c, i, j), starting_at(start, i, j), starting_at(a, i, k), starting_at(b, k, j),
                         min(ROW_DEPTH, depth - k), min(LOW_ROWS, shape.rows - i))
    return whole


@compiler.inlined
def _nonzero_in_word(start, n):
    """Return a bit for each of the first `n` numbers, at most WORD: whether it is not zero."""
    bits = np.int64(0)
    if n >= WORD:
        bits = nonzero_word(start)
    else:
        for i in range(0, n, COMPARED):
            bits |= nonzero_bits(ahead(start, i), n - i) << i
    return bits


@compiler.block
def _find_steps(steps, n_tiles, a, i, k, depth):
    """Set, for each tile of A from row i on, bits for the steps k + 0, 1, ... at which its rows are not all zero.

    steps (n_tiles, SKIP_WORDS) int64: overwritten.
    """
    if a.column == 1:  # a tile's rows are far apart, its steps side by side
        for t in range(n_tiles):
            for word in range((depth + WORD - 1) // WORD):
                bits = np.int64(0)
                for r in range(i + t * SKIP_ROWS, i + (t + 1) * SKIP_ROWS):
                    bits |= _nonzero_in_word(element(a, r, k + word * WORD), depth - word * WORD)
                steps[t * SKIP_WORDS + word] = bits
    else:  # a step's rows lie side by side
        for t in range(0, n_tiles, COMPARED // SKIP_ROWS):
            for half in range(2 * ((depth + WORD - 1) // WORD)):
                nonzero_steps(ahead(steps, t * SKIP_WORDS), half, element(a, i + t * SKIP_ROWS, k + half * WORD // 2),
                              a.column, (n_tiles - t) * SKIP_ROWS, min(depth - half * WORD // 2, WORD // 2))


@compiler.block
def _skipping(panel, c, a, b, shape, first, scale):
    """Compute the product for whole tiles of rows, skipping the steps at which the rows of A are zero."""
    n_tiles, n_columns, depth = shape.rows // SKIP_ROWS, shape.columns, shape.depth
    steps = steps_on_stack(c.data)
    width = SKIP_VECTORS * lanes_of(c.data)
    n_depths = (depth + SKIP_DEPTH - 1) // SKIP_DEPTH
    # As in _dense; but only what comes from memory is worth the time of asking, with so little to do in between: with
    # half of A zeros, 64x2000x1500 takes so 0.89 of the time, 64x1000x1000 0.99, 64x512x512 1.04.
    from_afar = depth * n_columns > NUMBERS_FAR
    for i in range(0, n_tiles, SKIP_TILES):
        held = min(SKIP_TILES, n_tiles - i)
        for p in range(n_depths):
            k, end = even_share(depth, p, n_depths, COMPARED)
            d = end - k
            start = first if p == 0 else c
            _find_steps(steps, held, a, i * SKIP_ROWS, k, d)
            for j in range(0, n_columns, width):
                w = min(width, n_columns - j)
                _pack_skipping(panel, b, k, j, w, d, scale)
                following, stretches, lines = _next_panel(b, k, j, depth, n_columns, d, width)
                for t in range(held):
                    if from_afar:
                        _ask_for(following, stretches * t // held, stretches * (t + 1) // held, lines)
                    r = (i + t) * SKIP_ROWS
                    tile_skipping(starting_at(c, r, j), starting_at(start, r, j), starting_at(a, r, k),
                                  Matrix(panel, np.int64(width), np.int64(1)), w, ahead(steps, t * SKIP_WORDS),
                                  (d + WORD - 1) // WORD)


@compiler.block
def _mostly_zeros(a, shape):
    """Whether skipping steps pays, judged by some lines of A."""
    n_rows, n_columns, depth = shape
    width = SKIP_VECTORS * lanes_of(a.data)
    too_few = n_rows < FEW_ROWS or depth < LEAST_DEPTH or 4 * n_columns <= width
    if too_few or n_rows * n_columns * depth < WORTH_LOOKING:
        return False
    lines, length, apart = (n_rows, depth, a.row) if a.column == 1 else (depth, n_rows, a.column)
    found = 0
    for i in range(LOOKED_AT):
        line = ahead(a.data, lines * i // LOOKED_AT * apart)
        for j in range(0, length, WORD):
            found += number_of_ones(_nonzero_in_word(ahead(line, j), length - j))
    return found <= (MOST_NONZERO if 2 * n_columns > width else MOST_NONZERO / 2) * LOOKED_AT * length


@compiler.piece
def product(c, a, b, shape, first, scale, zeros):
    """C = first + scale A B, with C (rows, columns), A (rows, depth), B (depth, columns) of the `shape`.

    Each number of C is one chain of fused multiply-adds that starts at `first` and runs through k in order; -0 is
    stored as 0. Depending on `zeros`, steps at which all rows of a tile of A are zero are skipped: if B is finite, they
    would add 0, and no bit changes.
    """
    out_of_line()
    panel = panel_on_stack(c.data)
    done, j = 0, np.int64(0)
    if zeros == ALWAYS or (zeros == LOOK and _mostly_zeros(a, shape)):
        done = shape.rows // SKIP_ROWS * SKIP_ROWS
        _skipping(panel, c, a, b, Shape(done, shape.columns, shape.depth), first, scale)
    if done < shape.rows == 1 and scale == 1 and (b.column == 1 or a.column == b.row == 1):
        j = _one_row(c, a, b, shape, first)
    elif done == 0 and _is_low(shape) and scale == 1 and b.column == 1:
        j = _low(c, a, b, shape, first)
    for i in range(done, shape.rows, ROWS_AT_ONCE):
        _dense(panel, starting_at(c, i, j), starting_at(a, i, 0), starting_at(b, 0, j),
               Shape(min(ROWS_AT_ONCE, shape.rows - i), shape.columns - j, shape.depth), starting_at(first, i, j),
               scale)
