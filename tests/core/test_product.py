"""fastbp.core.product: C = first + scale A B, to the bit where arithmetic is exact, and nothing beside C touched."""

import itertools
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rig import DTYPES, python

import fastbp.core.product as product_module
from fastbp.core import compiler
from fastbp.core.product import (
    ALWAYS,
    FEW_ROWS,
    LEAST_DEPTH,
    LOOK,
    MANY_ROWS,
    MOST_NONZERO,
    NEVER,
    NUMBERS_FAR,
    NUMBERS_NEAR,
    TILE_HEIGHT,
    Matrix,
    Shape,
    product,
    repeated_zero,
)
from fastbp.core.simd.cpu import (
    DEPTH,
    LOW_FAR,
    LOW_NEAR,
    LOW_VECTORS,
    ROW_DEPTH,
    ROW_VECTORS,
    SKIP_DEPTH,
    SKIP_ROWS,
    SKIP_TILES,
    SKIP_VECTORS,
    TILE_VECTORS,
    VECTOR_BITS,
    WORD,
)
from fastbp.core.simd.memory import at

GAP = 140  # numbers of no man's land around every matrix: more than any panel is wide
BLOCK = SKIP_TILES * SKIP_ROWS  # rows of A whose zeros are looked up at once


def panel(dtype):
    """Columns of one panel."""
    return TILE_VECTORS * VECTOR_BITS // 8 // np.dtype(dtype).itemsize


@compiler.serial
def multiply(memory, c, first, zero, a, b, n_rows, n_columns, depth, scale, zeros):
    """C = first + scale A B in one flat memory, each matrix an (offset, row stride, column stride)."""
    C = Matrix(at(memory, c[0]), c[1], c[2])
    A = Matrix(at(memory, a[0]), a[1], a[2])
    B = Matrix(at(memory, b[0]), b[1], b[2])
    start = repeated_zero(C) if zero else Matrix(at(memory, first[0]), first[1], first[2])
    product(C, A, B, Shape(n_rows, n_columns, depth), start, memory.dtype.type(scale), zeros)


class Case:
    """Matrices in one flat memory that is NaN wherever nothing of theirs lies: what reads or writes there shows."""

    def __init__(self, A, B, first="zero", a_transposed=False, b_transposed=False, scale=1.0, zeros=NEVER,
                 pad=3):
        (self.n_rows, self.depth), self.n_columns = A.shape, B.shape[1]
        self.scale, self.zeros, self.kind = scale, zeros, first
        draw = np.random.default_rng(7)
        self.pieces, self.end = [], GAP
        self.a = self._place(A, a_transposed, pad)
        self.b = self._place(B, b_transposed, pad)
        start = draw.integers(-8, 9, (self.n_rows, self.n_columns)).astype(A.dtype)
        self.bias = self._place(start[:1], False, 0)
        self.c = self._place(start, False, pad)
        self.memory = self._allocate(A.dtype)
        for (offset, row, column), matrix in self.pieces:
            self._view((offset, row, column), matrix.shape)[:] = matrix
        self.start = {"zero": np.zeros_like(start), "bias": start[:1], "C": start}[first]

    def _allocate(self, dtype):
        return np.full(self.end, np.nan, dtype)

    def _place(self, matrix, turned, pad):
        """Where `matrix` lies: (offset, row stride, column stride), rows (or columns, if turned) `pad` apart."""
        n, m = matrix.shape
        row, column = (1, n + pad) if turned else (m + pad, 1)
        where = (self.end, row, column)
        self.end += (m if turned else n) * max(row, column) + GAP
        self.pieces.append((where, matrix))
        return where

    def _view(self, where, shape):
        offset, row, column = where
        size = self.memory.itemsize
        return np.lib.stride_tricks.as_strided(self.memory[offset:], shape, (row * size, column * size))

    def rows(self, memory, lo, hi):
        """Compute rows lo..hi of C in `memory`."""
        (a, a_row, a_column), (c, c_row, c_column) = self.a, self.c
        a, c = (a + lo * a_row, a_row, a_column), (c + lo * c_row, c_row, c_column)
        first = {"zero": (0, 0, 0), "bias": (self.bias[0], 0, 1), "C": c}[self.kind]
        multiply(memory, c, first, self.kind == "zero", a, self.b, hi - lo, self.n_columns, self.depth, self.scale,
                 self.zeros)

    def run(self, *cuts):
        """C after computing its rows in pieces cut at `cuts`, and whether all other memory kept its bits."""
        before = self.memory.copy()
        for lo, hi in zip((0, *cuts), (*cuts, self.n_rows), strict=True):
            self.rows(self.memory, lo, hi)
        C = self._view(self.c, (self.n_rows, self.n_columns)).copy()
        self._view(self.c, C.shape)[:] = self.pieces[-1][1]
        untouched = self.memory.tobytes() == before.tobytes()
        return C, untouched


def whole_numbers(draw, shape, dtype, density=1.0):
    """Small whole numbers: sums of their products are exact in any order, so every bit can be asked for."""
    return (draw.integers(-8, 9, shape) * (draw.random(shape) < density)).astype(dtype)


def shapes(dtype):
    """(n_rows, n_columns, depth), each awkward in its own way."""
    height, width, half = TILE_HEIGHT, panel(dtype), panel(dtype) // TILE_VECTORS
    wide, row, low = half * SKIP_VECTORS, half * ROW_VECTORS, half * LOW_VECTORS
    return [
        (1, 1, 1), (1, width, 2), (2, 1, 3), (3, half, 1), (4, half - 1, 5), (5, half + 1, 16),
        (height - 1, width - 1, 17), (height, width, 31), (height + 1, width + 1, 15), (2 * height - 1, width, 33),
        (2 * height, width, 8), (2 * height + 7, 3 * width + half, DEPTH - 1), (13, 2 * width + 5, DEPTH),
        (1, width, DEPTH + 1), (3 * height, 7, DEPTH + 1), (19, width + 1, 2 * DEPTH + 3),
        (7, 2 * wide - 1, WORD + 1), (8, wide, WORD - 1), (9, wide + 3, SKIP_DEPTH), (5, wide // 2 + 1, SKIP_DEPTH + 1),
        (18, wide - half, 2 * SKIP_DEPTH + WORD), (BLOCK - 1, 3, 4), (BLOCK, 1, 2),
        (BLOCK + 1, width, 20), (2 * BLOCK + 5, half + 2, 3),
        (1, row, ROW_DEPTH), (1, 2 * row + half + 1, 2 * ROW_DEPTH + 1), (2, row, 3),
        (2, low, ROW_DEPTH), (3, 2 * low + half + 1, 2 * ROW_DEPTH + 1), (4, low + 1, 5), (5, low, ROW_DEPTH + 1),
        (6, low - 1, 9), (LOW_NEAR, 3 * low, ROW_DEPTH - 1),
    ]


@pytest.mark.parametrize("b_transposed", [False, True], ids=["B", "Bt"])
@pytest.mark.parametrize("a_transposed", [False, True], ids=["A", "At"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_whole_numbers_exactly(dtype, a_transposed, b_transposed):
    draw = np.random.default_rng(1)
    for shape in shapes(dtype):
        n_rows, n_columns, depth = shape
        A, B = whole_numbers(draw, (n_rows, depth), dtype, 0.2), whole_numbers(draw, (depth, n_columns), dtype)
        for first in ("zero", "bias", "C"):
            for scale, zeros, pad in itertools.product((1.0, -0.5), (NEVER, ALWAYS), (0, 3)):
                case = Case(A, B, first, a_transposed, b_transposed, scale, zeros, pad)
                C, untouched = case.run()
                where = f"{shape}, first = {first}, scale {scale}, zeros {zeros}, rows {pad} apart"
                np.testing.assert_array_equal(C, case.start + scale * (A.astype(float) @ B), where)
                assert untouched, where


@pytest.mark.parametrize("b_transposed", [False, True], ids=["B", "Bt"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_panels_from_afar(dtype, b_transposed):
    """Where the next panel is asked for while one is in use: step by step, and tile by tile."""
    draw = np.random.default_rng(8)
    for depth, n_columns, kinds in ((1030, 1055, (NEVER, ALWAYS)), (3, NUMBERS_NEAR // 2, (NEVER,))):
        assert depth * n_columns > (NUMBERS_FAR if ALWAYS in kinds else NUMBERS_NEAR)
        heights = 1, 2, LOW_FAR + 1, TILE_HEIGHT - 1, TILE_HEIGHT + 1, TILE_HEIGHT + 2, MANY_ROWS + 3
        for n_rows, zeros in itertools.product(heights, kinds):
            A, B = whole_numbers(draw, (n_rows, depth), dtype, 0.3), whole_numbers(draw, (depth, n_columns), dtype)
            case = Case(A, B, "bias", False, b_transposed, zeros=zeros)
            C, untouched = case.run()
            np.testing.assert_array_equal(C, case.start + A.astype(float) @ B)
            assert untouched


@pytest.mark.parametrize("turned", [False, True], ids=["B", "Bt"])
def test_the_next_panel_is_asked_for(monkeypatch, turned):
    """All of it, but for lines that the panel to the left began; of lines beyond it at most one a stretch of memory.

    In plain Python, pointers being numbers: what is fetched in vain, or not at all, changes no result.
    """
    line, width, depth, n_columns, asked = 16, 32, 100, 96, set()
    plain = {"ahead": lambda pointer, n: pointer + n, "numbers_per_line": lambda pointer: line,
             "out_of_line": lambda: None, "prefetch": lambda pointer: asked.add(pointer // line),
             "element": lambda m, i, j: m.data + i * m.row + j * m.column}
    for name, stand_in in plain.items():
        monkeypatch.setattr(product_module, name, stand_in)
    for start, d, j in itertools.product(range(line), (50, 48), range(0, n_columns, width)):
        for k in range(0, depth - d + 1, d):
            B = Matrix(1000 * line + start, *((1, depth + 3) if turned else (n_columns + 5, 1)))
            m, stretches, lines = product_module._next_panel.py_func(B, k, j, depth, n_columns, d, width)
            asked.clear()
            for turn in range(7):
                product_module._ask_for.py_func(m, stretches * turn // 7, stretches * (turn + 1) // 7, lines)
            row, column = (k, j + width) if j + width < n_columns else (k + d, 0) if k + d < depth else (k, j)
            numbers = np.add.outer(np.arange(row, row + d) * B.row, np.arange(column, column + width) * B.column)
            numbers += B.data
            if not turned:
                numbers = numbers[numbers // line * line >= numbers[:, :1]]
            needed = set((numbers // line).ravel())
            assert needed <= asked
            assert len(asked) <= len(needed) + stretches


def test_tiles_are_cut_so_that_none_waits_for_its_chains(monkeypatch):
    cut = product_module._number_of_tallest.py_func
    for rows, expected in (((6, 4, 2, 1), {5: 0, 6: 1, 7: 1, 8: 0, 9: 0, 10: 1, 12: 2, 14: 1, 16: 2, 32: 4, 128: 20}),
                           ((8, 4, 2, 1), {7: 0, 8: 1, 9: 1, 10: 1, 11: 1, 12: 1, 15: 1, 128: 16})):
        monkeypatch.setattr(product_module, "TILE_ROWS", rows)
        monkeypatch.setattr(product_module, "TILE_HEIGHT", rows[0])
        assert {n: cut(n) for n in expected} == expected


@pytest.mark.parametrize("dtype", DTYPES)
def test_rounding_stays_within_its_bound(dtype):
    """|error| of a chain of d fused multiply-adds <= d eps (|first| + |scale| |A| |B|), and eps for the scaling."""
    draw = np.random.default_rng(2)
    eps = np.finfo(dtype).eps
    for n_rows, n_columns, depth in shapes(dtype):
        A, B = draw.normal(size=(n_rows, depth)).astype(dtype), draw.normal(size=(depth, n_columns)).astype(dtype)
        case = Case(A, B, "bias", scale=0.3)
        C, _ = case.run()
        scale = float(np.dtype(dtype).type(0.3))
        exact = case.start + scale * (A.astype(np.longdouble) @ B)
        bound = (depth + 2) * eps * (np.abs(case.start) + scale * (np.abs(A).astype(float) @ np.abs(B)))
        assert (np.abs(C - exact) <= bound).all(), (n_rows, n_columns, depth)


def sparse(draw, shape, dtype):
    """Three numbers in four are zero, some of them -0, and so are whole rows and columns."""
    A = draw.normal(size=shape) * (draw.random(shape) < 0.25)
    A[draw.random(shape) < 0.1] = -0.0
    A[::5] = 0
    A[:, ::3] = 0
    return A.astype(dtype)


@pytest.mark.parametrize("b_transposed", [False, True], ids=["B", "Bt"])
@pytest.mark.parametrize("a_transposed", [False, True], ids=["A", "At"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_skipping_zeros_changes_no_bit(dtype, a_transposed, b_transposed):
    draw = np.random.default_rng(3)
    for n_rows, n_columns, depth in shapes(dtype):
        A, B = sparse(draw, (n_rows, depth), dtype), draw.normal(size=(depth, n_columns)).astype(dtype)
        if n_rows % 2:  # all products come down to 0 or -0
            A, B = A * np.finfo(dtype).tiny, B * np.finfo(dtype).tiny
        for first in ("zero", "bias", "C"):
            with_zeros, _ = Case(A, B, first, a_transposed, b_transposed).run()
            without, _ = Case(A, B, first, a_transposed, b_transposed, zeros=ALWAYS).run()
            assert with_zeros.tobytes() == without.tobytes(), (n_rows, n_columns, depth, first)


def test_zeros_are_really_skipped():
    """NaN in B shows which steps were taken: without skipping, 0 * NaN is NaN everywhere."""
    A, B = np.zeros((TILE_HEIGHT, 200), "float32"), np.ones((200, 5), "float32")
    A[:, 20] = 2
    B[[7, 40, 63, 64, 127, 190, 199]] = np.nan
    C, _ = Case(A, B).run()
    assert np.isnan(C).all()
    C, _ = Case(A, B, zeros=ALWAYS).run()
    assert (C == 2).all()


@pytest.mark.parametrize("b_transposed", [False, True], ids=["B", "Bt"])
@pytest.mark.parametrize("a_transposed", [False, True], ids=["A", "At"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_zeros_are_skipped_where_there_are_many(dtype, a_transposed, b_transposed):
    """NaN in B at a step at which A is zero tells. Small products are done whole, and so are those of few columns."""
    draw, wide, tile = np.random.default_rng(6), 8 * panel(dtype), panel(dtype) // TILE_VECTORS * SKIP_VECTORS

    def skips(n_rows, depth, n_columns, density):
        A, B = (draw.random((n_rows, depth)) < density).astype(dtype), np.ones((depth, n_columns), dtype)
        A[:, 13] = 0  # none of the lines that are looked at
        B[13] = np.nan
        C, _ = Case(A, B, a_transposed=a_transposed, b_transposed=b_transposed, zeros=LOOK).run()
        assert np.isnan(C).all() or not np.isnan(C).any()
        return not np.isnan(C).any()

    assert skips(64, 200, wide, MOST_NONZERO - 0.1)
    assert not skips(64, 200, wide, MOST_NONZERO + 0.1)
    assert skips(512, 200, tile // 2, MOST_NONZERO / 2 - 0.1)
    assert not skips(512, 200, tile // 2, MOST_NONZERO / 2 + 0.1)
    assert not skips(2000, 200, tile // 4, 0.01)
    assert not skips(FEW_ROWS - 1, 2000, wide, 0.01)
    assert not skips(2000, LEAST_DEPTH - 1, wide, 0.01)
    assert not skips(32, 32, 8, 0.01)


@pytest.mark.parametrize("zeros", [NEVER, ALWAYS], ids=["all", "skip"])
@pytest.mark.parametrize("n_rows", [2 * TILE_HEIGHT + 3, BLOCK + TILE_HEIGHT + 1])
@pytest.mark.parametrize("b_transposed", [False, True], ids=["B", "Bt"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_have_the_same_bits_however_they_are_split(dtype, b_transposed, n_rows, zeros):
    """What makes every thread count give the same bits; also between the packed panel and B read in place."""
    draw = np.random.default_rng(4)
    depth = DEPTH + 40 if n_rows < BLOCK else 40
    n_columns = max(2, ROW_VECTORS // TILE_VECTORS + 1) * panel(dtype) + 3  # wide tiles of one row and what they leave
    A, B = sparse(draw, (n_rows, depth), dtype), draw.normal(size=(depth, n_columns)).astype(dtype)
    case = Case(A, B, "C", False, b_transposed, zeros=zeros)
    whole, _ = case.run()
    for cut in range(n_rows + 1):
        parts, untouched = case.run(cut)
        assert parts.tobytes() == whole.tobytes(), cut
        assert untouched, cut


GUARDED = """
import ctypes
import mmap

import numpy as np
import test_product
from fastbp.core import compiler
from fastbp.core.product import ALWAYS, LOOK, NEVER
from fastbp.core.simd.cpu import SUM_VECTORS, VECTOR_BITS
from fastbp.core.simd.memory import at
from fastbp.core.simd.tile import add_rows

PAGE = mmap.PAGESIZE
protect = ctypes.CDLL(None).mprotect
protect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int


class Guarded(test_product.Case):
    # Each matrix ends, or each starts, where a page begins that may be neither read nor written.
    def __init__(self, *arguments, at_end, **options):
        self.at_end = at_end
        super().__init__(*arguments, pad=0, **options)

    def _place(self, matrix, turned, pad):
        room = PAGE // matrix.itemsize
        self.end = (self.end // room + 2) * room + (-matrix.size % room if self.at_end else 0)
        return super()._place(matrix, turned, pad)

    def _allocate(self, dtype):
        pages = self.end * dtype.itemsize // PAGE + 2
        self.mapped = mmap.mmap(-1, pages * PAGE)
        memory = np.frombuffer(self.mapped, dtype)
        used = [(offset * dtype.itemsize // PAGE, ((offset + matrix.size) * dtype.itemsize - 1) // PAGE)
                for (offset, *_), matrix in self.pieces]
        for page in range(pages):
            if not any(first <= page <= last for first, last in used):
                assert protect(memory.ctypes.data + page * PAGE, PAGE, 0) == 0
        return memory


@compiler.serial
def add(total, rows, scale):
    add_rows(at(total, 0), at(rows, 0), rows.shape[1], len(rows), len(total), scale)


draw = np.random.default_rng(5)
for dtype in test_product.DTYPES:
    for n_rows, n_columns, depth in test_product.shapes(dtype):
        A = test_product.whole_numbers(draw, (n_rows, depth), dtype, 0.2)
        B = test_product.whole_numbers(draw, (depth, n_columns), dtype)
        for turned in range(4):
            for at_end, zeros, first in ((True, NEVER, "bias"), (True, ALWAYS, "C"), (False, NEVER, "bias"),
                                         (True, LOOK, "bias")):
                case = Guarded(A, B, first, turned & 1, turned & 2, zeros=zeros, at_end=at_end)
                case.rows(case.memory, 0, n_rows)
                C = case._view(case.c, (n_rows, n_columns))
                assert (C == case.start + A.astype(float) @ B).all(), (dtype, n_rows, n_columns, depth, turned)

    for n in range(1, 2 * SUM_VECTORS * VECTOR_BITS // (8 * np.dtype(dtype).itemsize) + 2):
        case = Guarded(np.ones((1, 1), dtype), np.ones((1, n), dtype), "C", at_end=True)  # C ends where a page does
        rows = draw.integers(-8, 9, (3, n + VECTOR_BITS // 8)).astype(dtype)
        add(case._view(case.c, (1, n))[0], rows, np.dtype(dtype).type(2))
        assert (case._view(case.c, (1, n)) == case.start + 2 * rows[:, :n].sum(0)).all(), (dtype, n)
print("nothing beyond")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="mprotect is POSIX")
def test_nothing_beyond_the_matrices_is_touched():
    """Not even read: memory may end there."""
    done = python(GUARDED)
    assert (done.returncode, done.stdout) == (0, "nothing beyond\n"), done.stderr


X86 = {"AVX2": "+sse4.2,+avx,+avx2,+fma", "AVX without FMA": "+sse4.2,+avx", "SSE2": "+sse2"}


@pytest.mark.slow
@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="names features of x86-64 CPUs")
@pytest.mark.parametrize("features", X86)
def test_other_widths_of_vectors(features):
    """All of the above, and the activations, with the vectors of CPUs of fewer features."""
    files = [__file__, str(Path(__file__).with_name("test_activations.py"))]
    done = subprocess.run([sys.executable, "-m", "pytest", "-m", "not slow", "-p", "no:cacheprovider", *files],
                          capture_output=True, text=True, timeout=600, check=False,
                          env=os.environ | {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": X86[features]})
    assert done.returncode == 0, done.stdout
