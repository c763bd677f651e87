"""Vector instructions and loops, emitted as LLVM code, from which the intrinsics beside this file are made.

Vectors never leave an intrinsic: pointers enter and leave as Numba's `CPointer`.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastbp.core.compiler import declared
from fastbp.core.simd.cpu import LINE, VECTOR_BITS

I1, I32, I64, VOID = ir.IntType(1), ir.IntType(32), ir.IntType(64), ir.VoidType()
PLACE = ir.IntType(8).as_pointer()


def call_named(builder, name, result, *arguments):
    """Call the function or LLVM intrinsic of that name, which is declared at need.

    The whole name is given by hand: llvmlite's declare_intrinsic knows no vector types.
    """
    function_type = ir.FunctionType(result, [a.type for a in arguments])
    return builder.call(declared(builder.module, function_type, name), arguments)


def emit_prefetch(builder, pointer, to_write=False):
    address = builder.bitcast(pointer, PLACE)
    call_named(builder, "llvm.prefetch.p0", VOID, address, I32(int(to_write)), I32(3), I32(1))  # in all caches, data


def merged(builder, some, end, others, other_end):
    """The values of whichever of two blocks has run, given where each ends."""
    values = []
    for value, other in zip(some, others, strict=True):
        values.append(builder.phi(value.type))
        values[-1].add_incoming(value, end)
        values[-1].add_incoming(other, other_end)
    return values


def by_cases(builder, code, cases, otherwise):
    """The value of the case that has this code, or `otherwise`. cases: for each code what emits its instructions and
    returns its value."""
    asked, end = builder.block, builder.append_basic_block("chosen")
    choice, values = builder.switch(code, end), [(otherwise, asked)]
    for number, emit in cases.items():
        case = builder.append_basic_block("case")
        choice.add_case(I64(number), case)
        builder.position_at_end(case)
        values.append((emit(), builder.block))
        builder.branch(end)
    builder.position_at_end(end)
    chosen = builder.phi(otherwise.type)
    for value, block in values:
        chosen.add_incoming(value, block)
    return chosen


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
        return merged(b, plain, end_plain, masked, end_masked)

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
        self.result = merged(b, self.carried, self.entry, values, last)

    def __exit__(self, *exception):
        return False


class BitsSet(Loop):
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


def opaque(b, value):
    """Return the same value, with its origin hidden from LLVM's optimizer.

    Otherwise it walks k with a pointer for every row, six additions per step for 12 multiply-adds with AVX2, too many
    for a core with four instructions per cycle. With distances that it does not know, it uses one pointer for all rows.
    """
    return b.asm(ir.FunctionType(value.type, [value.type]), "", "=r,0", [value], False)


def room_on_stack(b, n_bytes, kind):
    """A pointer of that kind to so much of the function's stack, as it comes: Numba's own would fill it with zeros at
    each call."""
    with b.goto_entry_block():
        memory = b.alloca(ir.ArrayType(ir.IntType(8), n_bytes))
        memory.align = LINE
    return b.bitcast(memory, kind)


def by_pieces(b, x, n, width, copy):
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


def store_rows(b, x, rows, to, to_row, n):
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
            memory = room_on_stack(b, len(rows) * width * x.bits // 8, to.type)
            store(memory, I64(width))
            by_pieces(b, x, n, width, copy)


def turned(x, rows):
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
