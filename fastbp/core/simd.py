"""The register tile: the inner loop of the dense products, written as LLVM vector code.

A tile keeps `rows x (vectors * lanes)` numbers of C in vector registers and walks k over the whole depth, one
fused multiply-add per number and step:

    C[r, j] = first[r, j] + A[r, 0] B[0, j] + A[r, 1] B[1, j] + ...

Each number is one chain of fused multiply-adds in the order of k, whichever tile computes it: the bits of a product
do not depend on how it is cut into tiles, panels or threads. Pointers enter and leave as Numba's `CPointer`; vectors
never leave an intrinsic.
"""

from __future__ import annotations

import functools

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.core.codegen import get_host_cpu_features
from numba.core.errors import TypingError
from numba.extending import intrinsic

# What the compiler may use: the CPU's own features, or what Numba's settings say instead.
FEATURES = get_host_cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES
LINE = 64  # bytes of a cache line, and of the widest vector register


def _shape(triple: str, features: str) -> tuple[int, tuple[int, ...], int, int, int]:
    """Bits of a vector register, rows and vectors of the tile, those of the tile that skips zeros, for a kind of CPU.

    The accumulators hide the latency of the FMA units and leave registers for a row of B and for numbers of A. Rows
    that a tile's height leaves over are done by the next smaller tiles.

    Where steps of all zeros are left out, a low and wide tile leaves out more: of MNIST's pixels 19 % are not zero, and
    of the steps of 2 rows 26 % are left, of 4 rows 34 %, of 8 rows 43 %. With AVX-512 tiles of 1 row are as fast
    forward and slower backward, and tiles of 8 vectors, whose panel the nearest cache does not hold, take 1.06 times as
    long; on a Zen 1 with AVX2 1 x 8 takes 0.71 of 2 x 4's time forward and 0.83 backward.
    """
    x86 = triple.startswith("x86_64")
    if x86 and "+avx512f" in features:
        return 512, (8, 4, 2, 1), 2, 2, 4  # 32 registers; 16 accumulators are enough, and 8 divides most batches evenly
    if x86:
        return 256 if "+avx" in features else 128, (6, 4, 2, 1), 2, 1, 8  # 16 registers
    # NEON: 32 registers. Up to four units with a latency of four want 16 accumulators at least, and of two loads a
    # cycle 8 x 2 takes ten for its 16.
    return 128, (6, 4, 2, 1), 4, 2, 8


VECTOR_BITS, TILE_ROWS, TILE_VECTORS, SKIP_ROWS, SKIP_VECTORS = _shape(llvm.get_process_triple(), FEATURES)
DEPTH = 256  # rows of a panel: 32 KB with AVX-512. At 128x784x128, 128 rows give 100 GFLOP/s, 256: 109, 512: 107.

# A single row of A reads each number of B once: by wide tiles, from where it lies, and a few rows at a time, so that
# neighbours in memory are read one after the other. The forward pass of 1024-1024-1024 takes so 0.4 of the time.
ROW_VECTORS = 8  # as many chains of multiply-adds hide the latency of each
ROW_DEPTH = 64
ROW_SQUARES = 2  # vectors of columns where these, not rows, are contiguous; with 4 it was as fast on a Zen 3

SUM_VECTORS = 4  # of sums over rows, side by side: each is a chain of additions

SKIP_DEPTH = 112  # rows of the panel of the tile that skips: 28 KB with AVX; with AVX-512 64 to 256 were as fast
SKIP_TILES = 128  # tiles whose steps are looked up at once
WORD = 64  # steps to a word
SKIP_WORDS = -(-SKIP_DEPTH // WORD)
COMPARED = 16  # numbers at a time, where fewer than a word are compared with zero


def tile_shape(dtype: str) -> str:
    """The tile as rows x columns, for people."""
    return f"{TILE_ROWS[0]}x{TILE_VECTORS * VECTOR_BITS // (32 if dtype == 'float32' else 64)}"


I1, I32, I64, VOID = ir.IntType(1), ir.IntType(32), ir.IntType(64), ir.VoidType()


def call_named(builder, name, result, *arguments):
    """Call the function or LLVM intrinsic of that name, which is declared at need.

    The whole name is given by hand: llvmlite's declare_intrinsic knows no vector types.
    """
    function_type = ir.FunctionType(result, [a.type for a in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), arguments)


def _prefetch(builder, pointer, to_write=False):
    address = builder.bitcast(pointer, cgutils.voidptr_t)
    call_named(builder, "llvm.prefetch.p0", VOID, address, I32(int(to_write)), I32(3), I32(1))  # in all caches, data


def _merged(builder, some, end, others, other_end):
    """The values of whichever of two blocks has run, given where each ends."""
    values = []
    for value, other in zip(some, others, strict=True):
        values.append(builder.phi(value.type))
        values[-1].add_incoming(value, end)
        values[-1].add_incoming(other, other_end)
    return values


class Vectors:
    """Vector instructions for one element type, emitted through one builder."""

    def __init__(self, builder, pointer_type, lanes=None):
        self.builder, self.pointer_type = builder, pointer_type
        self.bits = pointer_type.dtype.bitwidth
        self.lanes = lanes or VECTOR_BITS // self.bits
        self.scalar = {32: ir.FloatType(), 64: ir.DoubleType()}[self.bits]
        self.type = ir.VectorType(self.scalar, self.lanes)
        self.zero = ir.Constant(self.type, [0.0] * self.lanes)

    def of_width(self, lanes):
        """The same for vectors of so many numbers."""
        return Vectors(self.builder, self.pointer_type, lanes)

    @property
    def _suffix(self):
        return f"v{self.lanes}f{self.bits}"

    def address(self, pointer, offset):
        return self.builder.bitcast(self.builder.gep(pointer, [offset]), self.type.as_pointer())

    def load(self, pointer, offset, mask=None):
        address, align = self.address(pointer, offset), self.bits // 8
        if mask is not None:
            name = f"llvm.masked.load.{self._suffix}.p0"
            return call_named(self.builder, name, self.type, address, I32(align), mask, self.zero)
        value = self.builder.load(address)
        value.align = align
        return value

    def load_mostly_whole(self, pointer, offsets, n, vectors=1):
        """From each of the offsets on so many vectors, all in one list: the first `n` numbers of those side by side and
        zeros behind them; nearly always they are whole.

        Only AVX-512 keeps masks in registers of their own: with AVX2 the compiler makes them anew at each load, and
        with SSE or NEON it tests and loads lane by lane.
        """
        b = self.builder

        def loads(masks):
            return [self.load(pointer, b.add(offset, I64(v * self.lanes)), mask)
                    for offset in offsets for v, mask in enumerate(masks)]

        with b.if_else(b.icmp_signed(">=", n, I64(vectors * self.lanes))) as (then, otherwise):
            with then:
                plain, end_plain = loads([None] * vectors), b.block
            with otherwise:
                masked, end_masked = loads(self.masks(n, vectors)), b.block
        return _merged(b, plain, end_plain, masked, end_masked)

    def store(self, value, pointer, offset):
        self.builder.store(value, self.address(pointer, offset)).align = self.bits // 8

    def splat(self, value):
        undefined = ir.Constant(ir.VectorType(value.type, self.lanes), ir.Undefined)
        single = self.builder.insert_element(undefined, value, I32(0))
        lane_zero = ir.Constant(ir.VectorType(I32, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(single, undefined, lane_zero)

    def shuffle(self, u, v, lanes):
        return self.builder.shuffle_vector(u, v, ir.Constant(ir.VectorType(I32, self.lanes), lanes))

    def masks(self, n, vectors):
        """For each of `vectors` registers side by side: the lanes whose column is below `n`."""
        numbers = [ir.Constant(ir.VectorType(I64, self.lanes), [v * self.lanes + i for i in range(self.lanes)])
                   for v in range(vectors)]
        return [self.builder.icmp_signed("<", number, self.splat(n)) for number in numbers]

    def number_for(self, n):
        """How many vectors hold `n` numbers."""
        return self.builder.sdiv(self.builder.add(n, I64(self.lanes - 1)), I64(self.lanes))

    def call(self, name, *values):
        """LLVM's intrinsic of that name for these vectors."""
        return call_named(self.builder, f"llvm.{name}.{self._suffix}", self.type, *values)

    def fma(self, x, y, z):
        return self.call("fma", x, y, z)


def _keep_as_written(module):
    """Loop metadata: no unrolling. A tile is unrolled already; more of it took a fifth of `product`'s compile time."""
    rule = module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.disable")])
    loop = module.add_metadata([ir.MetaDataString(module, f"loop {len(module.metadata)}")])
    loop.operands = (loop, rule)
    return loop


class Loop:
    """`for counter in range(n)` with values carried from step to step in registers."""

    def __init__(self, builder, n, carried):
        self.builder, self.n, self.carried = builder, n, carried
        self.start = I64(0)
        self.entry = builder.block
        self.body = builder.append_basic_block("step")
        self.end = builder.append_basic_block("end")

    def goes_on(self, counter):
        return self.builder.icmp_signed("<", counter, self.n)

    def after(self, counter):
        return self.builder.add(counter, I64(1))

    def __enter__(self):
        b = self.builder
        b.cbranch(self.goes_on(self.start), self.body, self.end)
        b.position_at_end(self.body)
        self.counter = b.phi(I64)
        self.values = [b.phi(value.type) for value in self.carried]
        return self

    def next(self, values):
        """Close the body; afterwards `result` holds the carried values as the last step left them."""
        b, last = self.builder, self.builder.block
        counter = self.after(self.counter)
        branch = b.cbranch(self.goes_on(counter), self.body, self.end)
        branch.set_metadata("llvm.loop", _keep_as_written(b.module))
        self.counter.add_incoming(self.start, self.entry)
        self.counter.add_incoming(counter, last)
        for phi, before, after in zip(self.values, self.carried, values, strict=True):
            phi.add_incoming(before, self.entry)
            phi.add_incoming(after, last)
        b.position_at_end(self.end)
        self.result = _merged(b, self.carried, self.entry, values, last)

    def __exit__(self, *exception):
        return False


class _BitsSet(Loop):
    """The same for each bit that is set in a word, the lowest first, whose number is `number()`. It counts in words
    from which one bit after the other is taken."""

    def __init__(self, builder, word, carried):
        super().__init__(builder, None, carried)
        self.start = word

    def goes_on(self, word):
        return self.builder.icmp_signed("!=", word, I64(0))

    def after(self, word):
        return self.builder.and_(word, self.builder.sub(word, I64(1)))

    def number(self):
        return self.builder.cttz(self.counter, I1(1))


def _opaque(b, value):
    """The same value, of whose origin the optimiser knows nothing.

    It would walk k with a pointer for every row, six additions a step for 12 multiply-adds with AVX2, more than a core
    of four instructions a cycle has room for. With distances it cannot see through it walks with one for all rows.
    """
    return b.asm(ir.FunctionType(value.type, [value.type]), "", "=r,0", [value], False)


def _room(b, n_bytes, kind):
    """A pointer of that kind to so much of the function's stack, as it comes: cgutils.alloca_once would fill it with
    zeros at each call."""
    with b.goto_entry_block():
        memory = b.alloca(ir.ArrayType(ir.IntType(8), n_bytes))
        memory.align = LINE
    return b.bitcast(memory, kind)


def _by_pieces(b, x, n, width, copy):
    """Copy `n` numbers, fewer than `width`, a power of two: its half, quarter, ... as the bits of `n` say.

    copy(vectors, offset) does so for as many as the vectors have lanes.
    """
    piece = width // 2
    while piece:
        y, before = x.of_width(min(piece, x.lanes)), b.and_(n, I64(-2 * piece))
        with b.if_then(b.icmp_signed("!=", b.and_(n, I64(piece)), I64(0))):
            for done in range(0, piece, y.lanes):
                copy(y, b.add(before, I64(done)))
        piece //= 2


def _store_rows(b, x, rows, to, to_row, n):
    """Store rows of vectors, `to_row` apart from `to` on: of each the first `n` numbers, or all if it has no more.

    What ends within a vector goes by way of memory: with AVX2 a masked store takes twelve cycles on a Zen 3. With
    AVX-512, where it takes few, this was not measured.
    """
    width = len(rows[0]) * x.lanes

    def store(pointer, apart):
        for r, vectors in enumerate(rows):
            for v, value in enumerate(vectors):
                x.store(value, pointer, b.add(b.mul(apart, I64(r)), I64(v * x.lanes)))

    def copy(y, offset):
        for r in range(len(rows)):
            y.store(y.load(memory, b.add(offset, I64(r * width))), to, b.add(b.mul(to_row, I64(r)), offset))

    with b.if_else(b.icmp_signed(">=", n, I64(width))) as (then, otherwise):
        with then:
            store(to, to_row)
        with otherwise:
            memory = _room(b, len(rows) * width * x.bits // 8, to.type)
            store(memory, I64(width))
            _by_pieces(b, x, n, width, copy)


def _emit_tile(b, x, rows, vectors, p, walk):
    """One tile: load `first`, walk the depth, store C. `p` names the intrinsic's arguments."""
    columns = [I64(v * x.lanes) for v in range(vectors)]
    cells = [(r, v) for r in range(rows) for v in range(vectors)]
    a_rows = [_opaque(b, b.mul(p["a_row"], I64(r))) for r in range(rows)]

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
            _prefetch(b, b.gep(p["c"], [b.add(b.mul(p["c_row"], I64(rows + r)), columns[v])]), to_write=True)
    # To add 0 turns -0 into 0: a step left out, or not, is then the same to the bit.
    sums = [b.fadd(total, x.zero) for total in walk(b, p, step, accumulators)]
    by_row = [sums[r * vectors : (r + 1) * vectors] for r in range(rows)]
    _store_rows(b, x, by_row, p["c"], p["c_row"], p["n_columns"])


def _every_step(b, p, step, sums):
    """Walk all of the depth, and at each step ask for another line of what is needed soon, if `p` says where."""
    moving = [name for name in ("a", "panel", "soon") if name in p]
    with Loop(b, p["depth"], [*(p[name] for name in moving), *sums]) as loop:
        at, sums = dict(zip(moving, loop.values, strict=False)), loop.values[len(moving) :]
        sums = step(at["a"], at["panel"], sums)
        if "soon" in at:
            _prefetch(b, at["soon"])
        loop.next([*(b.gep(at[name], [p[f"{name}_k"]]) for name in moving), *sums])
    return loop.result[len(moving) :]


def _steps_set(b, p, step, sums):
    """Walk the steps whose bits are set, word by word."""
    def moved(pointers, k):
        """Those of A and the panel, on by `k` steps."""
        return [b.gep(pointer, [b.mul(k, p[name])]) for pointer, name in zip(pointers, ("a_k", "panel_k"), strict=True)]

    with Loop(b, p["n_words"], [p["a"], p["panel"], *sums]) as words:
        pointers, sums = words.values[:2], words.values[2:]
        with _BitsSet(b, b.load(b.gep(p["steps"], [words.counter])), sums) as bits:
            bits.next(step(*moved(pointers, bits.number()), bits.values))
        words.next([*moved(pointers, I64(WORD)), *bits.result])
    return words.result[2:]


_ARGUMENTS = ("c", "c_row", "first", "first_row", "a", "a_row", "a_k", "panel", "panel_k", "n_tallest", "n_rows",
              "n_columns", "depth", "soon", "soon_k")


@intrinsic
def tiles(typing, c, c_row, first, first_row, a, a_row, a_k, panel, panel_k, n_tallest, n_rows, n_columns, depth, soon,
          soon_k):
    """C[:n_rows, :n_columns] = first + A B, all rows of one panel, by `n_tallest` tiles of the tallest kind, for which
    there must be rows enough, and lower ones for the rest.

    c, first, a, panel: pointers; *_row, *_k: strides in elements; n_columns <= one panel. `first` may be C itself
    (strides alike: the sum goes on) or a single row (first_row = 0). Rows of `panel` hold whole vectors.
    At each step they ask for a line, from `soon` on and `soon_k` apart; with a distance of 0 the tallest do not: with
    AVX2 those two instructions more cost 5 to 7 %, on a Zen 3.
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
        return _merged(b, first, end_first, second, end_second)

    def emit(context, b, signature, arguments):
        x = Vectors(b, c)
        p = dict(zip(_ARGUMENTS, arguments, strict=True))
        quiet = {name: value for name, value in p.items() if name != "soon"}
        tallest, *lower = TILE_ROWS

        def tall(p, vectors):
            return lambda: emit_rows(b, x, p, [p[name] for name in moving], p["n_tallest"], tallest, vectors)

        narrow = b.icmp_signed("<=", p["n_columns"], I64(x.lanes))
        asking = b.icmp_signed("!=", p["soon_k"], I64(0))
        state = either(b, narrow, tall(p, 1),
                       lambda: either(b, asking, tall(p, TILE_VECTORS), tall(quiet, TILE_VECTORS)))
        left = b.sub(p["n_rows"], b.mul(p["n_tallest"], I64(tallest)))
        for rows in lower:  # the few rows left: wide, whatever n_columns
            state = emit_rows(b, x, p, state, b.sdiv(left, I64(rows)), rows, TILE_VECTORS)
            left = b.srem(left, I64(rows))
        return context.get_dummy_value()

    n = types.int64
    return types.void(c, n, c, n, c, n, n, c, n, n, n, n, n, c, n), emit


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
def tile_skipping(typing, c, c_row, first, first_row, a, a_row, a_k, panel, panel_k, n_columns, steps, n_words):
    """One tile of SKIP_ROWS x SKIP_VECTORS over the steps k whose bits are set in `steps`: those left out add 0."""
    names = _ARGUMENTS[:9] + ("n_columns", "steps", "n_words")

    def emit(context, b, signature, arguments):
        x = Vectors(b, c)
        p = dict(zip(names, arguments, strict=True))
        narrow = b.icmp_signed("<=", p["n_columns"], I64(SKIP_VECTORS * x.lanes // 2))
        with b.if_else(narrow) as (then, otherwise):
            with then:
                _emit_tile(b, x, SKIP_ROWS, SKIP_VECTORS // 2, p, _steps_set)
            with otherwise:
                _emit_tile(b, x, SKIP_ROWS, SKIP_VECTORS, p, _steps_set)
        return context.get_dummy_value()

    return types.void(c, types.int64, c, types.int64, c, types.int64, types.int64, c, types.int64, types.int64, steps,
                      types.int64), emit


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
                        _by_pieces(builder, x, n_columns, width, copy)
                loop.next([builder.gep(to, [I64(width)]), builder.gep(row, [b_k])])
            return context.get_dummy_value()

        return types.void(panel, panel, types.int64, types.int64, types.int64, panel.dtype), emit

    return pack


pack_rows, pack_rows_skipping = _pack_rows(TILE_VECTORS), _pack_rows(SKIP_VECTORS)


def _turned(x, rows):
    """A square of numbers, row by row: its columns. Halves, quarters, ... of pairs of rows are swapped in registers."""
    half = x.lanes // 2
    while half:
        for i in range(x.lanes):
            if not i & half:
                u, v = rows[i], rows[i + half]
                low = [lane if not lane & half else lane - half + x.lanes for lane in range(x.lanes)]
                high = [lane + half if not lane & half else lane + x.lanes for lane in range(x.lanes)]
                rows[i], rows[i + half] = x.shuffle(u, v, low), x.shuffle(u, v, high)
        half //= 2
    return rows


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
                    for i, row in enumerate(_turned(x, square)):
                        offset = builder.add(builder.mul(k, width), I64(i * vectors * x.lanes))
                        x.store(builder.fmul(row, factor), to, offset)
                    down.next([])
                across.next([builder.gep(to, [lanes]), builder.gep(column, [builder.mul(b_column, lanes)])])
            return context.get_dummy_value()

        return types.void(panel, panel, types.int64, types.int64, types.int64, panel.dtype), emit

    return pack


pack_columns, pack_columns_skipping = _pack_columns(TILE_VECTORS), _pack_columns(SKIP_VECTORS)


@intrinsic
def row_tile_turned(typing, c, first, a, b, b_column, depth):
    """C[0] = first + A B for one row of A, whose numbers lie side by side, and ROW_SQUARES whole vectors of columns of
    B, which are contiguous, `b_column` apart: squares of B are turned in registers."""
    def emit(context, builder, signature, arguments):
        x = Vectors(builder, c)
        c_, first_, a_, b_, b_column, depth = arguments
        lanes, across = I64(x.lanes), range(ROW_SQUARES)
        offsets = [_opaque(builder, builder.mul(b_column, I64(i))) for i in range(x.lanes)]
        columns = [builder.gep(b_, [builder.mul(b_column, I64(v * x.lanes))]) for v in across]
        sums = [x.load(first_, I64(v * x.lanes)) for v in across]
        with Loop(builder, x.number_for(depth), [a_, *columns, *sums]) as loop:
            (sent, *columns), sums = loop.values[: 1 + ROW_SQUARES], loop.values[1 + ROW_SQUARES :]
            inside = builder.sub(depth, builder.mul(loop.counter, lanes))
            numbers = x.load_mostly_whole(sent, [I64(0)], inside)[0]
            for v, column in enumerate(columns):
                for k, row in enumerate(_turned(x, x.load_mostly_whole(column, offsets, inside))):
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
            _store_rows(b, x, [loop.result[1:]], to, I64(0), n)

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


@intrinsic
def out_of_line(typing):
    """Keeps the function that calls this from being inlined into its callers: its code is compiled once in each."""
    def emit(context, builder, signature, arguments):
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), emit


@intrinsic
def fma(typing, x, y, z):
    """x y + z, rounded once."""
    def emit(context, builder, signature, arguments):
        return builder.fma(*arguments)

    return x(x, x, x), emit


@intrinsic
def lanes_of(typing, pointer):
    """Numbers of the pointer's type that one vector register holds."""
    def emit(context, builder, signature, arguments):
        return I64(Vectors(builder, pointer).lanes)

    return types.int64(pointer), emit


@intrinsic
def numbers_per_line(typing, pointer):
    """Numbers of the pointer's type that a cache line holds."""
    def emit(context, builder, signature, arguments):
        return I64(LINE * 8 // pointer.dtype.bitwidth)

    return types.int64(pointer), emit


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


@intrinsic
def prefetch(typing, pointer):
    """Ask for the cache line at a pointer; no fault if there is none."""
    def emit(context, builder, signature, arguments):
        _prefetch(builder, arguments[0])
        return context.get_dummy_value()

    return types.void(pointer), emit


def _control(builder):
    """How to read and write the processor's floating-point control, and the bits that make it flush; or None.

    x86: MXCSR, flush to zero (15) and denormals are zero (6). ARM: FPCR, flush to zero (24).
    """
    call = functools.partial(call_named, builder)
    triple = builder.module.triple
    if triple.startswith("x86_64"):
        memory = cgutils.alloca_once(builder, I32)
        pointer = builder.bitcast(memory, cgutils.voidptr_t)

        def read():
            call("llvm.x86.sse.stmxcsr", VOID, pointer)
            return builder.zext(builder.load(memory), I64)

        def write(value):
            builder.store(builder.trunc(value, I32), memory)
            call("llvm.x86.sse.ldmxcsr", VOID, pointer)

        return read, write, 1 << 15 | 1 << 6
    if triple.startswith(("aarch64", "arm64")):
        return (lambda: call("llvm.aarch64.get.fpcr", I64)), (lambda v: call("llvm.aarch64.set.fpcr", VOID, v)), 1 << 24
    return None


@intrinsic
def flush_denormals(typing):
    """From now on this thread takes numbers too small to be normal for 0; returns what `restore_denormals` needs.

    Some CPUs take a hundred times as long for a sum with such a number, and the moments of Adam and momentum come down
    to them wherever a gradient stays 0.
    """
    def emit(context, builder, signature, arguments):
        control = _control(builder)
        if control is None:
            return I64(0)
        read, write, flush = control
        before = read()
        write(builder.or_(before, I64(flush)))
        return before

    return types.int64(), emit


@intrinsic
def restore_denormals(typing, before):
    """As it was when `flush_denormals` returned `before`."""
    def emit(context, builder, signature, arguments):
        control = _control(builder)
        if control is not None:
            control[1](arguments[0])
        return context.get_dummy_value()

    return types.void(types.int64), emit


@intrinsic
def pointer_from(typing, address, like):
    """Pointer to elements of the type of `like` at an address that Python gave as an integer."""
    def emit(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(like)(types.int64, like), emit


def check_contiguous(array):
    if not (isinstance(array, types.Array) and array.layout == "C"):
        raise TypingError(f"expected a contiguous array, got {array}")


@intrinsic
def at(typing, array, offset):
    """Pointer to number `offset` of a contiguous array."""
    check_contiguous(array)

    def emit(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.gep(data, [arguments[1]])

    return types.CPointer(array.dtype)(array, types.int64), emit


@intrinsic
def part(typing, array, offset, n):
    """`array.ravel()[offset : offset + n]`, without the care for bounds out of range, which is a screen of code.

    It borrows the memory of a contiguous array: use it while the array lives.
    """
    check_contiguous(array)
    vector = array.copy(ndim=1)

    def emit(context, builder, signature, arguments):
        from numba.np.arrayobj import populate_array  # slow to import, and only a compiler needs it

        whole = context.make_array(array)(context, builder, arguments[0])
        out = context.make_array(vector)(context, builder)
        populate_array(out, builder.gep(whole.data, [arguments[1]]), [arguments[2]], [whole.itemsize], whole.itemsize,
                       meminfo=None)
        return out._getvalue()

    return vector(array, types.int64, types.int64), emit


@intrinsic
def lent(typing, arrays):
    """The same arrays, a tuple of them, without their owners: use them while those live.

    Compiled code counts the users of an array that has an owner, by atomic additions wherever it takes it in hand.
    """
    def emit(context, builder, signature, arguments):
        values = []
        for i, kind in enumerate(arrays):
            array = context.make_array(kind)(context, builder, builder.extract_value(arguments[0], i))
            array.meminfo = cgutils.get_null_value(array.meminfo.type)
            array.parent = cgutils.get_null_value(array.parent.type)
            values.append(array._getvalue())
        return context.make_tuple(builder, arrays, values)

    return arrays(arrays), emit


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
        memory = cgutils.global_constant(builder.module, "zero_panel_row", row)
        return builder.bitcast(memory, context.get_value_type(like))

    return like(like), emit


def _on_stack(n_bytes, pointer_of):
    """An intrinsic that gives `n_bytes` of the caller's stack: private to the thread, and nothing is allocated."""
    @intrinsic
    def room(typing, like):
        def emit(context, builder, signature, arguments):
            return _room(builder, n_bytes, context.get_value_type(signature.return_type))

        return pointer_of(like)(like), emit

    return room


panel_on_stack = _on_stack(max(DEPTH * TILE_VECTORS, SKIP_DEPTH * SKIP_VECTORS) * VECTOR_BITS // 8, lambda like: like)
steps_on_stack = _on_stack(SKIP_TILES * SKIP_WORDS * 8, lambda like: types.CPointer(types.int64))
