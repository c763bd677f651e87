"""How near dense products come to the processor's peak: python benchmarks/tile.py

One thread, operands in cache. The peak is a loop of independent fused multiply-adds on registers, measured in the
same rounds; each product's figure is its share of the peak of its own round.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
from machine import describe, interleave
from probes import peak

from fastbp.core import compiler
from fastbp.core.product import NEVER, Shape, product, repeated_zero
from fastbp.core.simd.matrix import Matrix, transposed
from fastbp.core.simd.memory import at
from fastbp.workspace import aligned, row_length

# name: (rows, depth, columns, whether A is given as its transpose)
SHAPES = {
    "forward 128x784x128": (128, 784, 128, False),
    "weight gradient 784x128x128": (784, 128, 128, True),
    "forward 128x512x512": (128, 512, 512, False),
}


@compiler.serial
def multiply(c, c_row, a, a_row, b, b_row, n_rows, depth, n_columns, a_transposed, times):
    """C = A B, `times` over."""
    one = np.int64(1)
    target, left, right = Matrix(at(c, 0), c_row, one), Matrix(at(a, 0), a_row, one), Matrix(at(b, 0), b_row, one)
    shape = Shape(n_rows, n_columns, depth)
    if a_transposed:
        left = transposed(left)
    for _ in range(times):
        product(target, left, right, shape, repeated_zero(target), c.dtype.type(1), NEVER)


def rate(dtype: str, rows: int, depth: int, columns: int, turned: bool, seconds: float):
    """A measure of one product in GFLOP/s, with the row lengths that a workspace gives, and W's own for the rest."""
    draw = np.random.default_rng(0)
    a_shape, itemsize = (depth, rows) if turned else (rows, depth), np.dtype(dtype).itemsize
    a_row, padded = row_length(a_shape[1], itemsize), row_length(columns, itemsize)
    c_row, b_row = (columns, padded) if turned else (padded, columns)
    a, b, c = aligned(a_shape[0] * a_row, dtype), aligned(depth * b_row, dtype), aligned(rows * c_row, dtype)
    a[:], b[:] = draw.random(a.size), draw.random(b.size)
    times = 1

    def run(times: int) -> float:
        started = time.perf_counter()
        multiply(c, c_row, a, a_row, b, b_row, rows, depth, columns, turned, times)
        return time.perf_counter() - started

    left = a.reshape(a_shape[0], a_row)[:, : a_shape[1]].astype(float)
    expected = (left.T if turned else left) @ b.reshape(depth, b_row)[:, :columns].astype(float)
    run(1)
    np.testing.assert_allclose(c.reshape(rows, c_row)[:, :columns], expected, rtol=1e-4)
    while run(times) < seconds:
        times *= 2
    return lambda: 2 * rows * depth * columns * times / run(times) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.02, help="of each measurement")
    options = parser.parse_args()
    print(f"{describe()}; one thread, {options.rounds} interleaved rounds\n")
    print("| product | type | GFLOP/s, median | share of the FMA peak, median (range) |\n|---|---|---|---|")
    for dtype in ("float32", "float64"):
        measures = {"peak": peak(dtype, options.seconds)}
        measures |= {name: rate(dtype, *shape, options.seconds) for name, shape in SHAPES.items()}
        figures = interleave(measures, options.rounds)
        for name, values in figures.items():
            shares = [value / top for value, top in zip(values, figures["peak"], strict=True)]
            print(f"| {name} | {dtype} | {statistics.median(values):.1f} | {statistics.median(shares):.1%} "
                  f"({min(shares):.1%}–{max(shares):.1%}) |")


if __name__ == "__main__":
    main()
