"""The machine code of the tiles: fused multiply-adds on whole registers, and loops that leave them only for A and B.

Slow code computes right, so only the code itself can tell: with one accumulator too many every step stores and loads.
"""

import itertools
import platform
import re
import shutil
import subprocess
from types import SimpleNamespace
from typing import NamedTuple

import llvmlite.binding as llvm
import numba
import numpy as np
import pytest
from llvmlite import ir
from numba import types
from rig import python

from fastbp.core import compiler
from fastbp.core.activations import activate, multiply_by_prime
from fastbp.core.product import Matrix, Shape, product, repeated_zero
from fastbp.core.simd import cpu, tile, vectors
from fastbp.core.simd.matrix import matrix_of
from fastbp.core.simd.memory import at
from fastbp.core.threads import board

DTYPES = {"float32": types.float32, "float64": types.float64}
X86 = platform.machine().lower() in ("x86_64", "amd64")
ARM = platform.machine().lower() in ("aarch64", "arm64")
FMA = ARM or (X86 and "+fma" in cpu.FEATURES.split(","))


class Dialect(NamedTuple):
    """Patterns of an architecture's assembly."""

    fma: str
    call: str
    stack: str  # a vector at a fixed distance from a register: the stack's or the frame's


def x86(dtype, bits):
    register, suffix = {128: "xmm", 256: "ymm", 512: "zmm"}[bits], {"float32": "ps", "float64": "pd"}[dtype]
    return Dialect(rf"\tvfn?madd\w+{suffix}\t.*%{register}", r"\tcall", r"\tv.*\((%r[sb]p)\)")


def arm(dtype):
    lanes = {"float32": "4s", "float64": "2d"}[dtype]
    return Dialect(rf"\tfmla(\tv\d+)?\.{lanes}\b", r"\tblr?\t", r"\t[ls][dt].*\b[qdsv]\d+.*\[(sp|x29)(?:, #-?\d+)?\]")


def inner_loops(assembly, dialect):
    """The blocks that jump back to their own start and hold fused multiply-adds, each a list of instructions."""
    parts = re.split(r"^(\.?L\w+):.*\n", assembly, flags=re.MULTILINE)
    for label, text in zip(parts[1::2], parts[2::2], strict=True):
        block = [line for line in text.splitlines() if re.match(r"\t[a-z]", line)]
        back = re.compile(rf"\t(j|b\.|cb|tb).*\s{re.escape(label)}$")
        if any(map(back.match, block)) and any(re.match(dialect.fma, line) for line in block):
            yield block


def spills(loop, dialect):
    """Vectors that a loop stores to the stack or loads from there. A register that it moves on is no frame pointer."""
    text = "\n".join(loop)
    found = filter(None, (re.match(dialect.stack, line) for line in loop))
    return [access[0] for access in found if not re.search(rf"\tadd.*{access[1]}\b", text)]


MASKED_STORE = r"\tvmaskmovp[sd]\t%[xy]mm\d+, %[xy]mm\d+, "  # of AVX2: slow


def check(assembly, dialect, low=True):
    """Each tile, those of few rows if `low`, is there as one loop of as many multiply-adds as the tile has registers,
    without call or spill."""
    counts = []
    for loop in inner_loops(assembly, dialect):
        counts.append(sum(bool(re.match(dialect.fma, line)) for line in loop))
        calls = [line for line in loop if re.match(dialect.call, line)]
        assert (calls, spills(loop, dialect)) == ([], []), "\n".join(loop)
    height, *rest = cpu.TILE_ROWS
    dense = [height, *2 * [height * cpu.TILE_VECTORS], *[rows * cpu.TILE_VECTORS for rows in rest], cpu.ROW_VECTORS]
    skipping = [cpu.SKIP_ROWS * cpu.SKIP_VECTORS // 2, cpu.SKIP_ROWS * cpu.SKIP_VECTORS]
    few = [rows * cpu.LOW_VECTORS for rows in range(1, cpu.LOW_ROWS + 1)] if low else []
    assert sorted(counts) == sorted(dense + skipping + few)
    assert not re.search(MASKED_STORE, assembly)


def compiled_here(dtype):
    """Assembly of `product` as Numba compiles it in this process."""
    @numba.njit(**compiler.FLAGS)
    def multiply(c, a, b, n_rows, n_columns, depth, scale, zeros):
        one = np.int64(1)
        C, A, B = Matrix(at(c, 0), n_columns, one), Matrix(at(a, 0), depth, one), Matrix(at(b, 0), n_columns, one)
        product(C, A, B, Shape(n_rows, n_columns, depth), repeated_zero(C), scale, zeros)

    vector, size = DTYPES[dtype][::1], types.int64
    multiply.compile((vector, vector, vector, size, size, size, DTYPES[dtype], size))
    return next(iter(multiply.inspect_asm().values()))


def check_here():
    for dtype in DTYPES:
        check(compiled_here(dtype), x86(dtype, cpu.VECTOR_BITS) if X86 else arm(dtype), cpu.LOW_NEAR > 1)


@pytest.mark.skipif(not FMA, reason="compiled for a processor without fused multiply-adds")
def test_tiles_of_this_processor():
    check_here()


@pytest.mark.skipif(not X86, reason="Numba compiles for x86-64 on x86-64 only")
def test_tiles_of_avx2():
    done = python("import test_machine_code; test_machine_code.check_here()", NUMBA_CPU_NAME="haswell",
                  NUMBA_CPU_FEATURES="+avx,+avx2,+fma")
    assert done.returncode == 0, done.stderr


class Target(NamedTuple):
    """A kind of processor, for LLVM."""

    triple: str
    cpu: str
    features: str

    def machine(self):
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
        target = llvm.Target.from_triple(self.triple)
        return target.create_target_machine(self.cpu, self.features, opt=3, reloc="pic", codemodel="default")

    def shape(self):
        return cpu._shape(self.triple, self.features)


AVX2 = Target("x86_64-unknown-linux-gnu", "haswell", "+avx,+avx2,+fma")
CORTEX = Target("aarch64-unknown-linux-gnu", "cortex-a72", "+neon")
APPLE = Target("arm64-apple-macosx", "apple-m1", "+neon")
# Their arguments: p a place of numbers, b one of bits, n a whole number, m a Matrix, s a Shape.
INTRINSICS = {"tiles": "mmmmmsn", "row_tile": "pppnpnn", "row_tile_turned": "ppppnn", "tile_skipping": "mmmmnbn",
              "low_tile": "mmmmnn"}
PARTS = {"m": "pnn", "s": "nnn"}  # of a tuple, which the functions made here take apart: MOST arguments in all
MOST = 19


def emit(module, name, dtype):
    """A function `name_dtype` of the module that is nothing but the intrinsic."""
    numbers = types.CPointer(DTYPES[dtype])
    kinds = {"p": numbers, "b": types.CPointer(types.int64), "n": types.int64, "m": matrix_of(numbers),
             "s": types.NamedTuple(3 * (types.int64,), Shape)}
    values = {"p": (ir.FloatType() if dtype == "float32" else ir.DoubleType()).as_pointer(),
              "b": vectors.I64.as_pointer(), "n": vectors.I64}
    signature, body = getattr(tile, name)._defn(None, *(kinds[letter] for letter in INTRINSICS[name]))
    arguments = [[values[part] for part in PARTS.get(letter, letter)] for letter in INTRINSICS[name]]
    function = ir.Function(module, ir.FunctionType(vectors.VOID, sum(arguments, [])), f"{name}_{dtype}")
    builder, given = ir.IRBuilder(function.append_basic_block()), iter(function.args)
    body(SimpleNamespace(get_dummy_value=lambda: None), builder, signature,
         [next(given) if len(parts) == 1 else tuple_of(builder, [next(given) for _ in parts]) for parts in arguments])
    builder.ret_void()


def tuple_of(builder, parts):
    whole = ir.Constant(ir.LiteralStructType([part.type for part in parts]), ir.Undefined)
    for i, part in enumerate(parts):
        whole = builder.insert_value(whole, part, i)
    return whole


def cross_compiled(monkeypatch, target, shape, dtype):
    """The tiles of that shape as an optimised module for the target, and the target's machine."""
    names = ("VECTOR_BITS", "TILE_ROWS", "TILE_VECTORS", "SKIP_ROWS", "SKIP_VECTORS", "LOW_ROWS")
    for name, value in zip(names, shape, strict=True):
        for module in (cpu, vectors, tile):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)
    module = ir.Module()
    module.triple = target.triple
    for name in INTRINSICS:
        emit(module, name, dtype)
    parsed, machine = llvm.parse_assembly(str(module)), target.machine()
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(parsed, passes)
    return parsed, machine


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", [CORTEX, APPLE], ids=lambda target: target.cpu)
def test_tiles_of_neon(monkeypatch, target, dtype):
    module, machine = cross_compiled(monkeypatch, target, target.shape(), dtype)
    check(machine.emit_assembly(module), arm(dtype))


@pytest.mark.parametrize(("target", "dialect", "shape"), [
    (AVX2, x86("float32", 256), (256, (8, 4, 2, 1), 2, 1, 8, 3)),
    (AVX2, x86("float32", 256), (256, (6, 4, 2, 1), 2, 2, 8, 3)),
    (AVX2, x86("float32", 256), (256, (6, 4, 2, 1), 2, 1, 8, 4)),
    (CORTEX, arm("float32"), (128, (8, 4, 2, 1), 4, 2, 8, 3)),
    (APPLE, arm("float32"), (128, (6, 4, 2, 1), 4, 2, 16, 3)),
], ids=["AVX2 8x2", "AVX2 skipping 2x8", "AVX2 low 4x4", "NEON 8x4", "NEON skipping 2x16"])
def test_too_large_a_tile_is_found_out(monkeypatch, target, dialect, shape):
    module, machine = cross_compiled(monkeypatch, target, shape, "float32")
    with pytest.raises(AssertionError, match=r"== \(\[\], \[\]\)"):
        check(machine.emit_assembly(module), dialect)


@pytest.mark.parametrize(("target", "instruction"), [
    (AVX2, "\trdtsc"), (CORTEX, "\tmrs\tx0, CNTVCT_EL0"), (APPLE, "\tmrs\tx0, CNTVCT_EL0"),
], ids=["x86", "Linux on ARM", "macOS"])
def test_clock_of_the_processor(target, instruction):
    module = ir.Module()
    module.triple = target.triple
    builder = ir.IRBuilder(ir.Function(module, ir.FunctionType(vectors.I64, []), "clock").append_basic_block())
    builder.ret(board.ticks._defn(None)[1](None, builder, None, ()))
    assert instruction in target.machine().emit_assembly(llvm.parse_assembly(str(module)))


MAIN = """
#include <stdio.h>
void TILE(long, long, long, long, long, long, long, long, long, long, long, long, long, long, long, long, long, long,
          long);
static char memory[1 << 20];

int main(void)  /* standard input: 19 arguments; for each whether it is a place in memory; the memory */
{
    long a[19], in_memory[19];
    if (fread(a, 8, 19, stdin) != 19 || fread(in_memory, 8, 19, stdin) != 19)
        return 1;
    size_t size = fread(memory, 1, sizeof memory, stdin);
    for (int i = 0; i < 19; i++)
        a[i] += in_memory[i] ? (long)memory : 0;
    TILE(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12], a[13], a[14], a[15], a[16],
         a[17], a[18]);
    return fwrite(memory, 1, size, stdout) != size;
}
"""
QEMU, CROSS_GCC = shutil.which("qemu-aarch64"), shutil.which("aarch64-linux-gnu-gcc")


@pytest.mark.skipif(not (QEMU and CROSS_GCC),
                    reason="wants qemu-aarch64 and aarch64-linux-gnu-gcc (Debian: qemu-user, gcc-aarch64-linux-gnu, "
                           "libc6-dev-arm64-cross)")
@pytest.mark.parametrize("name", INTRINSICS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_tiles_of_neon_compute_right(monkeypatch, tmp_path, dtype, name):
    module, machine = cross_compiled(monkeypatch, CORTEX, CORTEX.shape(), dtype)
    (tmp_path / "tiles.o").write_bytes(machine.emit_object(module))
    (tmp_path / "main.c").write_text(MAIN)
    subprocess.run([CROSS_GCC, "-static", f"-DTILE={name}_{dtype}", "-o", "run", "main.c", "tiles.o"], cwd=tmp_path,
                   check=True)
    draw, size = np.random.default_rng(0), np.dtype(dtype).itemsize
    skipping, one_row, turned = name == "tile_skipping", name.startswith("row_tile"), name == "row_tile_turned"
    low = name == "low_tile"
    n_vectors = {"tiles": cpu.TILE_VECTORS, "row_tile": cpu.ROW_VECTORS, "row_tile_turned": cpu.ROW_SQUARES,
                 "tile_skipping": cpu.SKIP_VECTORS, "low_tile": cpu.LOW_VECTORS}[name]
    width = n_vectors * cpu.VECTOR_BITS // (8 * size)
    depth, row = 2 * cpu.WORD - 5, 2 * cpu.WORD  # of A and of C; between their rows and beyond C's columns is NaN
    kept = draw.random(depth) < 0.3 if skipping else np.ones(depth, bool)
    steps = np.packbits(np.append(kept, np.zeros(5, bool)), bitorder="little")
    # How many of the tallest tiles, how many rows: tiles of 6, 6, 1 rows, of 6, 4, 2, 1, of 4, 4, 1. Lines to ask for,
    # so far apart: 0, and the tallest ask for none.
    heights = ((0, cpu.SKIP_ROWS),) if skipping else ((0, 1),) if one_row else ((2, 13), (1, 13), (0, 9))
    heights = [(0, rows + 1) for rows in range(cpu.LOW_ROWS)] if low else heights
    for (n_tallest, n_rows), asks in itertools.product(heights, (0, row) if name == "tiles" else (0,)):
        for n_columns in (width,) if one_row or low else (1, width // 4, width // 2, width // 2 + 1, width - 1, width):
            A, B = draw.integers(-8, 9, (n_rows, depth)) * kept, draw.integers(-8, 9, (depth, width))
            start = draw.integers(-8, 9, (n_rows, n_columns))
            memory = np.full(3 * n_rows * row + B.size, np.nan, dtype)
            c, first, a = memory[: 3 * n_rows * row].reshape(3, n_rows, row)
            first[:, :n_columns], a[:, :depth], memory[a.size * 3 :] = start, A, (B.T if turned else B).ravel()
            places = [i * a.nbytes for i in range(4)]
            arguments = [number for place in places for number in (place, width if place == places[3] else row, 1)]
            if skipping:
                arguments += [n_columns, memory.nbytes, 2]
            elif low:
                arguments += [depth, n_rows]
            elif not one_row:
                arguments += [places[3], asks, 1, n_rows, n_columns, depth, n_tallest]
            elif turned:
                arguments = [*places, depth, depth]
            else:
                arguments = [*places[:3], 1, places[3], width, depth]
            arguments += [0] * (MOST - len(arguments))
            letters = "".join(PARTS.get(letter, letter) for letter in INTRINSICS[name])
            in_memory = [letter in "pb" for letter in letters.ljust(MOST)]
            given = np.array([arguments, in_memory], "int64").tobytes() + memory.tobytes() + steps.tobytes()
            done = subprocess.run([QEMU, tmp_path / "run"], input=given, capture_output=True, check=True)
            c[:, :n_columns] = start + A @ B[:, :n_columns]
            assert done.stdout[: memory.nbytes] == memory.tobytes(), (n_rows, n_columns)


@pytest.mark.parametrize("dtype", DTYPES)
def test_activations_store_whole_vectors(dtype):
    """Where a result is stored in place of one of the numbers it is selected from, LLVM stores the others only."""
    @numba.njit(**compiler.FLAGS)
    def run(code, z, a, delta, n):
        activate(code, at(z, 0), at(a, 0), 1, n, n)
        multiply_by_prime(code, at(z, 0), at(a, 0), at(delta, 0), 1, n, n)

    vector, size = DTYPES[dtype][::1], types.int64
    run.compile((size, vector, vector, vector, size))
    (assembly,) = run.inspect_asm().values()
    assert len(re.findall(r"\tv?(mul|fmul)", assembly)) > 20
    assert not re.search(MASKED_STORE, assembly)
