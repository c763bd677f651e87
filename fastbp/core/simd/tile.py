"""The register tile: the inner loop of the dense products, written as LLVM vector code.

A tile keeps `rows x (vectors * lanes)` numbers of C in vector registers and walks k over the whole depth, one
fused multiply-add per number and step:

    C[r, j] = first[r, j] + A[r, 0] B[0, j] + A[r, 1] B[1, j] + ...

Each number is one chain of fused multiply-adds in the order of k, whichever tile computes it: the bits of a product
do not depend on how it is cut into tiles, panels or threads. Pointers enter and leave as Numba's `CPointer`; vectors
never leave an intrinsic.
"""

from __future__ import annotations

from numba import types
from numba.extending import intrinsic

from fastbp.core.simd.cpu import (
    LINE,
    LOW_ROWS,
    LOW_VECTORS,
    ROW_SQUARES,
    ROW_VECTORS,
    SKIP_ROWS,
    SKIP_VECTORS,
    SUM_VECTORS,
    TILE_ROWS,
    TILE_VECTORS,
    VECTOR_BITS,
    WORD,
)
from fastbp.core.simd.matrix import fields_of
from fastbp.core.simd.vectors import I64, BitsSet, Loop, Vectors, emit_prefetch, merged, opaque, store_rows, turned


def _emit_tile(b, x, rows, vectors, p, walk):
    """One tile: load `first`, walk the depth, store C. `p` names the intrinsic's arguments."""
    columns = [I64(v * x.lanes) for v in range(vectors)]
    cells = [(r, v) for r in range(rows) for v in range(vectors)]
    a_rows = [opaque(b, b.mul(p["a_row"], I64(r))) for r in range(rows)]

    def step(a, panel, sums):
        """The sums after one step k, at whose numbers of A and B the pointers stand."""
        b_row = [x.load(panel, column) for column in columns]
        sent = [x.splat(b.load(b.gep(a, [offset]))) for offset in a_rows]
        return [x.fma(sent[r], b_row[v], total) for (r, v), total in zip(cells, sums, strict=True)]

    first_rows = [b.mul(p["first_row"], I64(r)) for r in range(rows)]
    accumulators = x.load_mostly_whole(p["first"], first_rows, p["n_columns"], vectors)
    per_line = max(1, LINE * 8 // VECTOR_BITS)
    for r, v in cells:  # what the next tile writes comes to the cache while this one is computed
        if v % per_line == 0:
            emit_prefetch(b, b.gep(p["c"], [b.add(b.mul(p["c_row"], I64(rows + r)), columns[v])]), to_write=True)
    # To add 0 turns -0 into 0: a step left out, or not, is then the same to the bit.
    sums = [b.fadd(total, x.zero) for total in walk(b, p, step, accumulators)]
    by_row = [sums[r * vectors : (r + 1) * vectors] for r in range(rows)]
    store_rows(b, x, by_row, p["c"], p["c_row"], p["n_columns"])


def _every_step(b, p, step, sums):
    """Walk the whole depth, and at each step prefetch a line that is needed soon, if `p` says where."""
    moving = [name for name in ("a", "panel", "soon") if name in p]
    with Loop(b, p["depth"], [*(p[name] for name in moving), *sums]) as loop:
        at, sums = dict(zip(moving, loop.values, strict=False)), loop.values[len(moving) :]
        sums = step(at["a"], at["panel"], sums)
        if "soon" in at:
            emit_prefetch(b, at["soon"])
        loop.next([*(b.gep(at[name], [p[f"{name}_k"]]) for name in moving), *sums])
    return loop.result[len(moving) :]


def _steps_set(b, p, step, sums):
    """Walk the steps whose bits are set, word by word."""
    def moved(pointers, k):
        """Those of A and the panel, on by `k` steps."""
        return [b.gep(pointer, [b.mul(k, p[name])]) for pointer, name in zip(pointers, ("a_k", "panel_k"), strict=True)]

    with Loop(b, p["n_words"], [p["a"], p["panel"], *sums]) as words:
        pointers, sums = words.values[:2], words.values[2:]
        with BitsSet(b, b.load(b.gep(p["steps"], [words.counter])), sums) as bits:
            bits.next(step(*moved(pointers, bits.number()), bits.values))
        words.next([*moved(pointers, I64(WORD)), *bits.result])
    return words.result[2:]


def _places(b, c, first, a, panel):
    """Where matrices lie, by name: pointers and strides, those along the depth with the ending _k."""
    (c, c_row, _), (first, first_row, _), (a, a_row, a_k), (panel, panel_k, _) = (
        fields_of(b, m) for m in (c, first, a, panel))
    return {"c": c, "c_row": c_row, "first": first, "first_row": first_row, "a": a, "a_row": a_row, "a_k": a_k,
            "panel": panel, "panel_k": panel_k}


@intrinsic
def tiles(typing, c, first, a, panel, soon, shape, n_tallest):
    """C[:rows, :columns] = first + A B, all rows of one panel, by `n_tallest` tiles of the tallest kind, for which
    there must be rows enough, and lower ones for the rest.

    c, first, a, panel, soon: each a Matrix; shape: (rows, columns, depth), columns <= one panel. `first` may be C
    itself (the sum goes on) or a single row (row stride 0). Rows of C and of `panel`, which hold whole vectors, have
    their numbers side by side.
    At each step a tile prefetches a line, a row of `soon`. With row stride 0 the tallest tiles do not: on a Zen 3 with
    AVX2, the two additional instructions cost 5 to 7 %.
    """
    moving = ("c", "first", "a")

    def emit_rows(b, x, p, state, n_tiles, rows, vectors):
        """So many tiles of `rows` rows; returns the pointers to what is left."""
        with Loop(b, n_tiles, state) as loop:
            _emit_tile(b, x, rows, vectors, dict(p, **dict(zip(moving, loop.values, strict=True))), _every_step)
            loop.next([b.gep(pointer, [b.mul(p[f"{name}_row"], I64(rows))])
                       for name, pointer in zip(moving, loop.values, strict=True)])
        return loop.result

    def either(b, condition, one, other):
        """The pointers that `one` or `other` gives."""
        with b.if_else(condition) as (then, otherwise):
            with then:
                first, end_first = one(), b.block
            with otherwise:
                second, end_second = other(), b.block
        return merged(b, first, end_first, second, end_second)

    def emit(context, b, signature, arguments):
        x = Vectors(b, c[0])
        *matrices, soon, shape, n_tallest = arguments
        quiet = _places(b, *matrices) | {"n_columns": b.extract_value(shape, 1), "depth": b.extract_value(shape, 2)}
        p = quiet | dict(zip(("soon", "soon_k"), fields_of(b, soon)[:2], strict=True))
        tallest, *lower = TILE_ROWS

        def tall(p, vectors):
            return lambda: emit_rows(b, x, p, [p[name] for name in moving], n_tallest, tallest, vectors)

        narrow = b.icmp_signed("<=", p["n_columns"], I64(x.lanes))
        asking = b.icmp_signed("!=", p["soon_k"], I64(0))
        state = either(b, narrow, tall(p, 1),
                       lambda: either(b, asking, tall(p, TILE_VECTORS), tall(quiet, TILE_VECTORS)))
        left = b.sub(b.extract_value(shape, 0), b.mul(n_tallest, I64(tallest)))
        for rows in lower:  # the few rows left: wide, whatever n_columns
            state = emit_rows(b, x, p, state, b.sdiv(left, I64(rows)), rows, TILE_VECTORS)
            left = b.srem(left, I64(rows))
        return context.get_dummy_value()

    return types.void(c, first, a, panel, soon, shape, types.int64), emit


@intrinsic
def row_tile(typing, c, first, a, a_k, b, b_row, depth):
    """C[0] = first + A B for one row of A and ROW_VECTORS whole vectors of columns, from where B lies."""
    names = ("c", "first", "a", "a_k", "panel", "panel_k", "depth")

    def emit(context, builder, signature, arguments):
        x = Vectors(builder, c)
        p = dict(zip(names, arguments, strict=True)) | dict.fromkeys(("c_row", "first_row", "a_row"), I64(0))
        p["n_columns"] = I64(ROW_VECTORS * x.lanes)
        _emit_tile(builder, x, 1, ROW_VECTORS, p, _every_step)
        return context.get_dummy_value()

    n = types.int64
    return types.void(c, c, c, n, c, n, n), emit


@intrinsic
def low_tile(typing, c, first, a, b, depth, rows):
    """C[:rows] = first + A B for up to LOW_ROWS rows of A and LOW_VECTORS whole vectors of columns, from where B lies.

    c, first, a, b: each a Matrix, as of `tiles`.
    """
    def emit(context, builder, signature, arguments):
        x = Vectors(builder, c[0])
        *matrices, depth, rows = arguments
        p = _places(builder, *matrices) | {"n_columns": I64(LOW_VECTORS * x.lanes), "depth": depth}
        for height in range(1, LOW_ROWS + 1):
            with builder.if_then(builder.icmp_signed("==", rows, I64(height))):
                _emit_tile(builder, x, height, LOW_VECTORS, p, _every_step)
        return context.get_dummy_value()

    n = types.int64
    return types.void(c, first, a, b, n, n), emit


@intrinsic
def tile_skipping(typing, c, first, a, panel, n_columns, steps, n_words):
    """One tile of SKIP_ROWS x SKIP_VECTORS, as of `tiles`, over the steps k whose bits are set in `steps`: those left
    out add 0."""
    def emit(context, b, signature, arguments):
        x = Vectors(b, c[0])
        *matrices, n_columns, steps, n_words = arguments
        p = _places(b, *matrices) | {"n_columns": n_columns, "steps": steps, "n_words": n_words}
        narrow = b.icmp_signed("<=", p["n_columns"], I64(SKIP_VECTORS * x.lanes // 2))
        with b.if_else(narrow) as (then, otherwise):
            with then:
                _emit_tile(b, x, SKIP_ROWS, SKIP_VECTORS // 2, p, _steps_set)
            with otherwise:
                _emit_tile(b, x, SKIP_ROWS, SKIP_VECTORS, p, _steps_set)
        return context.get_dummy_value()

    return types.void(c, first, a, panel, types.int64, steps, types.int64), emit


@intrinsic
def row_tile_turned(typing, c, first, a, b, b_column, depth):
    """C[0] = first + A B for one row of A, whose numbers lie side by side, and ROW_SQUARES whole vectors of columns of
    B, which are contiguous, `b_column` apart: squares of B are turned in registers."""
    def emit(context, builder, signature, arguments):
        x = Vectors(builder, c)
        c_, first_, a_, b_, b_column, depth = arguments
        lanes, across = I64(x.lanes), range(ROW_SQUARES)
        offsets = [opaque(builder, builder.mul(b_column, I64(i))) for i in range(x.lanes)]
        columns = [builder.gep(b_, [builder.mul(b_column, I64(v * x.lanes))]) for v in across]
        sums = [x.load(first_, I64(v * x.lanes)) for v in across]
        with Loop(builder, x.number_for(depth), [a_, *columns, *sums]) as loop:
            (sent, *columns), sums = loop.values[: 1 + ROW_SQUARES], loop.values[1 + ROW_SQUARES :]
            inside = builder.sub(depth, builder.mul(loop.counter, lanes))
            numbers = x.load_mostly_whole(sent, [I64(0)], inside)[0]
            for v, column in enumerate(columns):
                for k, row in enumerate(turned(x, x.load_mostly_whole(column, offsets, inside))):
                    sums[v] = x.fma(x.shuffle(numbers, numbers, [k] * x.lanes), row, sums[v])
            loop.next([*(builder.gep(pointer, [lanes]) for pointer in (sent, *columns)), *sums])
        for v, total in zip(across, loop.result[1 + ROW_SQUARES :], strict=True):
            x.store(builder.fadd(total, x.zero), c_, I64(v * x.lanes))
        return context.get_dummy_value()

    return types.void(c, c, c, c, types.int64, types.int64), emit


@intrinsic
def add_rows(typing, total, rows, rows_ld, n_rows, n, scale):
    """total[:n] += scale rows[0, :n], then scale rows[1, :n], ...: product and sum rounded one after the other.

    Rows are `rows_ld` apart and are read up to whole vectors; of `total` nothing beyond `n` is touched.
    """
    def emit(context, b, signature, arguments):
        x = Vectors(b, total)
        total_, rows_, apart, n_rows, n, scale = arguments
        factor, width = x.splat(scale), I64(SUM_VECTORS * x.lanes)

        def add_to(to, row, n, vectors):
            """The first `n` numbers of so many vectors side by side."""
            with Loop(b, n_rows, [row, *x.load_mostly_whole(to, [I64(0)], n, vectors)]) as loop:
                row, *sums = loop.values
                terms = [b.fmul(factor, x.load(row, I64(v * x.lanes))) for v in range(vectors)]
                loop.next([b.gep(row, [apart]), *map(b.fadd, sums, terms)])
            store_rows(b, x, [loop.result[1:]], to, I64(0), n)

        with Loop(b, b.sdiv(n, width), [total_, rows_]) as loop:
            to, row = loop.values
            add_to(to, row, width, SUM_VECTORS)
            loop.next([b.gep(pointer, [width]) for pointer in loop.values])
        left = b.srem(n, width)
        with Loop(b, x.number_for(left), loop.result) as loop:
            to, row = loop.values
            add_to(to, row, b.sub(left, b.mul(loop.counter, I64(x.lanes))), 1)
            loop.next([b.gep(pointer, [I64(x.lanes)]) for pointer in loop.values])
        return context.get_dummy_value()

    whole = types.int64
    return types.void(total, rows, whole, whole, whole, total.dtype), emit
